//! Who sends in the demo, and how did they come by their IPs? All of it is arranged through the office, as an operator would.

use crate::commands::Failure;
use crate::commands::demo::house::HOST;
use crate::world::{Record, World};
use control::account::{NewAccount, Standing};
use control::configuration_set::SetChange;
use control::credential::{CredentialKind, NewCredential};
use control::domain::{NewDomain, State};
use control::inventory::NewIps;
use control::lease::{Grant, Into, Order};
use control::setting::Setting;
use control::webhook::NewWebhook;
use control::{Actor, Office};
use engine::snapshot::{Plan, Scope};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The configuration set that newsletters are sent with, and the pool of its own that it chooses.
pub const NEWSLETTERS: &str = "newsletters";
pub const NEWS_POOL: &str = "news";
pub const WEBHOOK: &str = "all";
const SHARED_POOL: &str = "shared";

/// Where an IP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Default,
    News,
    Shared,
}

/// An IP of a tenant's or of the shared pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    last: u8,
    home: Home,
    /// No provider knows it yet.
    is_new: bool,
}

impl Place {
    pub fn ip(self) -> IpAddr {
        IpAddr::from([127, 0, 1, self.last])
    }

    fn host(self) -> String {
        format!("m{}.weir.test", self.last)
    }

    /// What there is to know beside its address, in a few letters.
    pub fn note(self) -> &'static str {
        match (self.home, self.is_new) {
            (Home::News, true) => "news, new",
            (Home::News, false) => NEWS_POOL,
            (Home::Default | Home::Shared, true) => "new IP",
            (Home::Default | Home::Shared, false) => "",
        }
    }
}

const fn known(last: u8, home: Home) -> Place {
    Place { last, home, is_new: false }
}

const fn fresh(last: u8, home: Home) -> Place {
    Place { last, home, is_new: true }
}

/// Who is there, before anything is arranged.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    pub account: &'static str,
    plan: Plan,
    pub domain: &'static str,
    /// How it sends, after its name.
    pub words: &'static str,
    /// What it leases; none: it sends from the shared pool.
    own: &'static [Place],
}

pub const PLANNED: [Planned; 3] = [
    Planned {
        account: "acme",
        plan: Plan::Standard,
        domain: "acme.test",
        words: "standard, IPs of its own",
        own: &[known(1, Home::Default), known(2, Home::Default), fresh(3, Home::News)],
    },
    Planned {
        account: "globex",
        plan: Plan::Enterprise,
        domain: "globex.test",
        words: "enterprise, its own IPs alone",
        own: &[known(4, Home::Default), fresh(5, Home::Default)],
    },
    Planned {
        account: "example-shop",
        plan: Plan::Free,
        domain: "example-shop.test",
        words: "free, the shared pool",
        own: &[],
    },
];
const SHARED: &[Place] = &[known(6, Home::Shared)];

impl Planned {
    /// What it sends from, while nothing is changed.
    pub fn places(self) -> &'static [Place] {
        if self.own.is_empty() { SHARED } else { self.own }
    }

    /// Those of its own that no provider knows yet.
    pub fn fresh(self) -> impl Iterator<Item = IpAddr> {
        self.own.iter().filter(|place| place.is_new).map(|place| place.ip())
    }

    pub fn has_news(self) -> bool {
        self.own.iter().any(|place| place.home == Home::News)
    }
}

fn places() -> impl Iterator<Item = Place> {
    PLANNED.iter().flat_map(|planned| planned.own).chain(SHARED).copied()
}

/// Those that the providers have known for long.
pub fn known_ips() -> Vec<IpAddr> {
    places().filter(|place| !place.is_new).map(Place::ip).collect()
}

/// A tenant with its secrets, made anew for each demo.
#[derive(Clone, Debug)]
pub struct Tenant {
    pub planned: Planned,
    /// Its id in the events.
    pub id: String,
    pub user: String,
    pub password: String,
    pub key: String,
}

/// All who can do something here.
pub struct Tenants {
    pub tenants: Vec<Tenant>,
    pub operator_key: String,
}

/// The plan: IPs, with names that lead back to them; then for each tenant its account, leases, domain and
/// secrets. What is to be published is published in the world, and found there.
/// `told`: where acme's own program listens.
pub async fn arrange(office: &Office, world: &World, told: SocketAddr) -> Result<Tenants, Failure> {
    let by = Actor::command_line();
    let mut published = names();
    world.publish(&published)?;
    // R3.7 is not for loopback: a resolver knows all of it by one name, localhost (RFC 6761), whatever a name server says.
    office.set_setting(&by, Setting::ChecksRequired, 0).await?;
    // More bounces and complaints than anybody should have, so that there is something to see: it is warned of, and goes on.
    office.set_setting(&by, Setting::FiguresPause, 0).await?;
    for place in places() {
        let new = NewIps {
            addresses: vec![place.ip().to_string()],
            ehlo: Some(place.host()),
            shared_pool: (place.home == Home::Shared).then(|| SHARED_POOL.to_owned()),
            ..NewIps::default()
        };
        office.add_ips(&by, new).await?;
        // Looked at, so that it can be seen what was found.
        office.check_ip(&by, place.ip()).await?;
    }
    let mut tenants = Vec::new();
    for planned in PLANNED {
        let new = NewAccount {
            name: planned.account.to_owned(),
            plan: planned.plan,
            standing: Standing::Production,
            has_payment_method: planned.plan != Plan::Free,
        };
        let id = office.create_account(&by, new).await?.id;
        lease(office, &by, planned).await?;
        let new = NewDomain {
            name: planned.domain.to_owned(),
            mail_from: Some(format!("bounces.{}", planned.domain)),
            tracking_host: None,
        };
        office.create_domain(&by, &id, new).await?;
        let records = office.domain_records(&by, &id, planned.domain).await?.into_iter();
        published.extend(records.map(|record| Record { name: record.name, kind: record.kind, value: record.value }));
        let user = credential(office, &by, CredentialKind::Smtp, Some(&id)).await?;
        let (key, _) = credential(office, &by, CredentialKind::Api, Some(&id)).await?;
        tenants.push(Tenant { planned, id, user: user.1, password: user.0, key });
    }
    world.publish(&published)?;
    for tenant in &tenants {
        let domain = office.check_domain(&by, &tenant.id, tenant.planned.domain).await?;
        if domain.state() != State::Verified {
            return Err(Failure(format!("{}: {}", domain.name, domain.words())));
        }
        if tenant.planned.has_news() {
            hear_of_readers(office, &by, tenant, told).await?;
        }
    }
    let (operator_key, _) = credential(office, &by, CredentialKind::Api, None).await?;
    office.store().published().await;
    Ok(Tenants { tenants, operator_key })
}

/// Its IPs into its pools, and what chooses the second one.
async fn lease(office: &Office, by: &Actor, planned: Planned) -> Result<(), Failure> {
    for (home, into) in [(Home::Default, Into::Default), (Home::News, Into::New(NEWS_POOL.to_owned()))] {
        let ips: Vec<IpAddr> = planned.own.iter().filter(|place| place.home == home).map(|place| place.ip()).collect();
        if ips.is_empty() {
            continue;
        }
        let order = Order { region: None, quantity: 0, into };
        office.grant(by, planned.account, &Grant { order, ips, agreed_cents: None }).await?;
    }
    Ok(())
}

/// Its newsletters have a pool of their own, hear of who reads them and can be ended; and of all that happens its own program is told.
async fn hear_of_readers(office: &Office, by: &Actor, tenant: &Tenant, told: SocketAddr) -> Result<(), Failure> {
    let with = SetChange {
        pool: Some(Some(NEWS_POOL.to_owned())),
        tracking_host: Some(Some(format!("links.{}", tenant.planned.domain))),
        tracks_opens: Some(true),
        tracks_clicks: Some(true),
        unsubscribe: Some(true),
        ..SetChange::default()
    };
    office.create_set(by, &tenant.id, NEWSLETTERS, with).await?;
    let new = NewWebhook {
        name: WEBHOOK.to_owned(),
        url: format!("http://{told}/events"),
        subaccount: None,
        kinds: Vec::new(),
        events_max: None,
        wait_ms: None,
    };
    office.create_webhook(by, &tenant.id, new).await?;
    Ok(())
}

/// The secret, and the user name that it goes with, if any.
async fn credential(
    office: &Office,
    by: &Actor,
    kind: CredentialKind,
    account: Option<&str>,
) -> Result<(String, String), Failure> {
    let new = NewCredential {
        kind,
        account: account.map(str::to_owned),
        subaccount: None,
        name: "the demo's".to_owned(),
        scopes: match kind {
            CredentialKind::Api => BTreeSet::from([Scope::Send, Scope::Read, Scope::Manage]),
            CredentialKind::Smtp | CredentialKind::Aws => BTreeSet::from([Scope::Send]),
        },
        networks: Vec::new(),
        expires_at: None,
    };
    let shown = office.create_credential(by, new).await?;
    Ok((shown.secret.show().to_owned(), shown.credential.login.unwrap_or_default()))
}

/// The installation's own names: each IP and its EHLO name lead to each other, and the host tells which IPs send in its name.
fn names() -> Vec<Record> {
    let record = |name: String, kind: &str, value: String| Record { name, kind: kind.to_owned(), value };
    let mut records = vec![
        record(HOST.to_owned(), "A", Ipv4Addr::LOCALHOST.to_string()),
        record(HOST.to_owned(), "TXT", "v=spf1 ip4:127.0.1.0/24 -all".to_owned()),
    ];
    for place in places() {
        records.push(record(place.host(), "A", place.ip().to_string()));
        records.push(record(format!("{}.1.0.127.in-addr.arpa", place.last), "PTR", format!("{}.", place.host())));
    }
    records
}
