//! What does the operator's file mean, in the rooms' own words?
//!
//! Every value is looked at, and every problem is told with its line, so that one round of mending is enough.

use crate::config::{self, DeliveryTls, ListenerTls, NotifyDefault, Problem, Source, Written};
use api::{payments, trace};
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::active::Active;
use engine::classify::Rules;
use engine::envelope::TlsWish;
use engine::id::{AccountId, CredentialId, PoolId, RegionId};
use engine::judged::Ordered;
use engine::pace;
use engine::provider::{LaneChange, Providers};
use engine::quota::Quota;
use engine::retry::RetrySchedule;
use engine::schedule::{DEFAULT, Schedules};
use engine::snapshot::{
    self, Account, Credential, Digest, DkimKey, DomainPattern, Holder, Ip, IpState, Leaving, Login, Pool, Scope,
    SendingDomain, Snapshot, WarmUp, WarmUpBy,
};
use engine::suppression::Suppressed;
use engine::time::Timestamp;
use mail::address::Domain;
use mail::address::Mailbox;
use mail::compose::NamedMailbox;
use mail::dkim::Signer;
use mta::deliver::Patience;
use mta::links;
use mta::listener::{self, Door, DoorTls};
use mta::return_path::Purpose;
use mta::{badge, returns, unmatched};
use net::dns::blocklist::{self, BlockList};
use net::dns::{FixedAnswers, FixedRule, Network};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;

/// RFC 5321 4.5.4.1 advises four to five days; who sends what is of use today only gives up earlier.
const LIFETIME_USUAL: RangeInclusive<Duration> = Duration::from_secs(4 * 3_600)..=Duration::from_secs(14 * 24 * 3_600);

/// The file, judged and found good.
pub struct House {
    pub host: Domain,
    pub snapshot: Arc<Snapshot>,
    pub allow_private: Vec<Network>,
    pub fixed: FixedAnswers,
    pub doors: Vec<(SocketAddr, Door)>,
    /// Where the HTTP surface is.
    pub http: Option<SocketAddr>,
    pub tls_files: Option<(PathBuf, PathBuf)>,
    pub tracking: Option<TrackingDoor>,
    pub returns: Option<ReturnsDoor>,
    /// None: nobody collects traces.
    pub traces: Option<trace::Settings>,
    pub extra_roots: Option<Vec<u8>>,
    pub spool: spool::Options,
    pub patience: Patience,
    /// None: accounts, IPs and pools stand in the file.
    pub control: Option<Control>,
    pub written: Written,
    /// What is allowed, and most likely not meant.
    pub warnings: Vec<Problem>,
}

/// For who follows links.
pub struct TrackingDoor {
    pub address: SocketAddr,
    /// None: something before it speaks TLS.
    pub certificates: Option<PathBuf>,
    pub origin: String,
}

/// For what comes back.
pub struct ReturnsDoor {
    pub address: SocketAddr,
    pub settings: returns::Settings,
    pub limits: listener::Limits,
}

/// Where the control plane is kept, and what it checks with.
pub struct Control {
    /// None: a file in the data folder.
    pub database: Option<String>,
    pub block_lists: Vec<BlockList>,
    /// Where webhooks may be although nobody else can reach it.
    pub webhooks_allow_private: Vec<Network>,
    /// By which IPs warm up for which nobody chose a schedule.
    pub schedule: Arc<str>,
    pub letters: Option<Letters>,
    pub payments: Option<payments::Settings>,
}

/// What people hear by mail.
#[derive(Clone)]
pub struct Letters {
    pub from: NamedMailbox,
    /// The account that sends them, by name or id.
    pub account: String,
}

impl House {
    #[must_use]
    pub fn listener_limits(&self) -> listener::Limits {
        let limits = &self.written.limits;
        listener::Limits {
            message_bytes_max: *limits.message_bytes_max.get_ref(),
            recipients_max: *limits.recipients_max.get_ref(),
            connections_max: *limits.connections_max.get_ref(),
            connections_per_peer_max: *limits.connections_per_peer_max.get_ref(),
            idle: Duration::from_secs(*limits.idle_s.get_ref()),
            data: Duration::from_secs(*limits.data_s.get_ref()),
            session: Duration::from_secs(*limits.session_s.get_ref()),
        }
    }
}

/// Reads a file and judges it. Paths in it are meant from where the file is.
pub fn load(path: &Path) -> Result<House, Vec<Problem>> {
    let (written, source) = config::read(path)?;
    let mut judge = Judge { source: &source, folder: path.parent().unwrap_or(Path::new(".")), problems: Vec::new() };
    let house = judge.house(written);
    match house {
        Some(mut house) if judge.problems.is_empty() => {
            house.warnings = warnings(&house, &source);
            Ok(house)
        }
        _ => {
            // In the order of the file, which is how it is mended.
            judge.problems.sort_by_key(|problem| problem.line);
            Err(judge.problems)
        }
    }
}

type Keys = BTreeMap<Digest, Arc<Credential>>;
type Logins = BTreeMap<Arc<str>, Arc<Login>>;

struct Judge<'a> {
    source: &'a Source,
    folder: &'a Path,
    problems: Vec<Problem>,
}

impl Judge<'_> {
    fn wrong<T>(&mut self, at: &Spanned<T>, what: impl Into<String>) {
        self.problems.push(self.source.problem(at, what));
    }

    fn take<T, U, E: std::fmt::Display>(
        &mut self,
        at: &Spanned<T>,
        read: impl FnOnce(&T) -> Result<U, E>,
    ) -> Option<U> {
        read(at.get_ref()).map_err(|error| self.wrong(at, error.to_string())).ok()
    }

    fn domain(&mut self, at: &Spanned<String>) -> Option<Domain> {
        self.take(at, |text| Domain::parse(text))
    }

    fn networks(&mut self, list: &[Spanned<String>]) -> Vec<Network> {
        list.iter().filter_map(|at| self.take(at, |text| text.parse::<Network>())).collect()
    }

    fn file(&mut self, at: &Spanned<PathBuf>) -> Option<Vec<u8>> {
        let path = self.folder.join(at.get_ref());
        self.take(at, |_| std::fs::read(&path).map_err(|fault| format!("{} cannot be read: {fault}", path.display())))
    }

    fn positive<T: PartialEq + Default>(&mut self, at: &Spanned<T>, name: &str) {
        if *at.get_ref() == T::default() {
            self.wrong(at, format!("{name} must be more than 0"));
        }
    }

    /// The plan: limits, then each section into the snapshot, then the whole against itself.
    fn house(&mut self, written: Written) -> Option<House> {
        let host = self.domain(&written.host);
        self.limits(&written);
        let region = written.region.as_ref().map_or("local", |region| region.get_ref());
        let region = RegionId::new(region);
        let mut accounts = self.accounts(&written, &region);
        let ips = self.ips(&written, host.as_ref());
        let pools = self.pools(&written, &region, &ips, &mut accounts);
        self.default_pools(&written, &pools);
        self.domains(&written, &mut accounts);
        let (keys, logins) = self.credentials(&written, &accounts);
        // Where the file has several, the first one is what accounts fall back to.
        let mut shared = written.pools.iter().filter(|pool| pool.kind == config::PoolKind::Shared);
        let shared = shared.next().map(|pool| (region.clone(), PoolId::new(pool.id.get_ref())));
        let (schedules, schedule) = self.schedules(&written);
        let snapshot = Snapshot {
            version: 1,
            region,
            accounts: Arc::new(accounts.into_iter().map(|(id, account)| (id, Arc::new(account))).collect()),
            keys: Arc::new(keys),
            logins: Arc::new(logins),
            pools: Arc::new(pools.into_iter().map(|(id, pool)| (id, Arc::new(pool))).collect()),
            shared: Arc::new(shared.into_iter().collect()),
            tiers: Arc::default(),
            ips: Arc::new(ips),
            rules: Arc::new(self.rules(&written)),
            providers: Arc::new(self.providers(&written)),
            schedules,
            delivery: self.delivery(&written),
            suppressed: Suppressed::empty([0; 16]),
            active: Active::empty([0; 16]),
        };
        // What the sections could not see alone; where a line is not known, the words name the place.
        if self.problems.is_empty() {
            for fault in snapshot.check() {
                self.wrong(&written.host, fault.to_string());
            }
        }
        let doors = self.doors(&written, &snapshot);
        if doors.is_empty() && written.http.is_none() {
            self.wrong(&written.host, "nothing listens: add a [[listener]] or [http]");
        }
        let extra_roots = written.delivery.extra_roots.as_ref().and_then(|at| self.file(at));
        let tls_files = written.tls.as_ref().map(|tls| {
            for at in [&tls.certificate, &tls.key] {
                self.file(at);
            }
            (self.folder.join(tls.certificate.get_ref()), self.folder.join(tls.key.get_ref()))
        });
        Some(House {
            host: host?,
            snapshot: Arc::new(snapshot),
            allow_private: self.networks(&written.delivery.allow_private),
            fixed: self.answers(&written),
            doors,
            http: written.http.as_ref().map(|http| *http.address.get_ref()),
            tls_files,
            tracking: self.tracking(&written),
            returns: self.returns(&written),
            traces: self.traces(&written),
            extra_roots,
            spool: spool::Options {
                segment_bytes: *written.spool.segment_bytes.get_ref(),
                free_min_bytes: *written.spool.free_bytes_min.get_ref(),
                events_bytes_max: *written.spool.events_bytes_max.get_ref(),
                ..spool::Options::default()
            },
            patience: patience(&written.delivery),
            control: self.control(&written, &schedule),
            warnings: Vec::new(),
            written,
        })
    }

    fn tracking(&mut self, written: &Written) -> Option<TrackingDoor> {
        let section = written.tracking.as_ref()?;
        let origin = section.origin.as_ref().map_or(links::ORIGIN, |origin| origin.get_ref().as_str());
        if let Some(at) = &section.origin
            && !((origin.starts_with("https://") || origin.starts_with("http://"))
                && origin.matches(links::HOST).count() == 1
                && origin.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\''))
        {
            self.wrong(
                at,
                "write it as https://{host} or https://{host}:8443, with {host} in the place of the tracking host",
            );
        }
        Some(TrackingDoor {
            address: *section.address.get_ref(),
            certificates: section.certificates.as_ref().map(|folder| self.folder.join(folder.get_ref())),
            origin: origin.to_owned(),
        })
    }

    fn traces(&mut self, written: &Written) -> Option<trace::Settings> {
        let section = written.traces.as_ref()?;
        let url = section.url.get_ref();
        if !trace::is_url(url) {
            self.wrong(
                &section.url,
                "url is where a collector takes OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces",
            );
        }
        let share = *section.share.get_ref();
        if !(0.0..=1.0).contains(&share) {
            self.wrong(&section.share, "share is from 0 (only what its submission asks for) to 1 (every message)");
        }
        let mut headers = Vec::new();
        for (name, at) in &section.headers {
            match trace::header(name, at.get_ref()) {
                Some(header) => headers.push(header),
                None => self.wrong(at, format!("{name} and its value cannot stand in the head of a request")),
            }
        }
        Some(trace::Settings { url: url.clone(), headers, share, host: written.host.get_ref().clone() })
    }

    fn returns(&mut self, written: &Written) -> Option<ReturnsDoor> {
        let section = written.returns.as_ref()?;
        let domain = self.domain(&section.domain);
        let feedback = section.feedback.get_ref();
        let is_local = |local: &String| Mailbox::parse(&format!("{local}@example.com")).is_ok();
        if feedback.is_empty()
            || !feedback.iter().all(is_local)
            || feedback.iter().any(|own| Purpose::of(own).is_some())
        {
            self.wrong(&section.feedback, "feedback holds what stands before the @, such as [\"feedback\", \"abuse\"]");
        }
        let limits = &section.limits;
        for (at, name) in [
            (&limits.message_bytes_max, "message_bytes_max"),
            (&limits.receiving_bytes_max, "receiving_bytes_max"),
            (&limits.unmatched_bytes_max, "unmatched_bytes_max"),
        ] {
            self.positive(at, name);
        }
        for (at, name) in [
            (&limits.connections_max, "connections_max"),
            (&limits.connections_per_peer_max, "connections_per_peer_max"),
            (&limits.reports_per_second, "reports_per_second"),
            (&limits.unmatched_max, "unmatched_max"),
        ] {
            self.positive(at, name);
        }
        if let Some(at) = &section.sender_id
            && !((5..=15).contains(&at.get_ref().len()) && at.get_ref().bytes().all(|b| b.is_ascii_alphanumeric()))
        {
            self.wrong(at, "sender_id has 5 to 15 letters and digits, and is the same for all mail");
        }
        if let Some(at) = &section.unsubscribe_origin
            && !(at.get_ref().strip_prefix("https://").is_some_and(|rest| !rest.is_empty())
                && at.get_ref().chars().all(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | ',' | '"')))
        {
            self.wrong(at, "write it as https://mail.example.com: receivers follow no other links (RFC 8058)");
        }
        if let (Some(at), None) = (&section.unsubscribe_origin, &written.tracking) {
            self.wrong(
                at,
                "links are followed at the door of [tracking]: add that section, or leave unsubscribe_origin out",
            );
        }
        let domain = domain?;
        let dkim: Vec<DkimKey> = section.dkim.iter().filter_map(|key| self.dkim(&domain, key)).collect();
        let signing =
            (!dkim.is_empty()).then(|| Arc::new(SendingDomain { name: domain.clone(), return_path: None, dkim }));
        let own = &written.limits;
        Some(ReturnsDoor {
            address: *section.address.get_ref(),
            settings: returns::Settings {
                badge: badge::Settings {
                    domain,
                    feedback: feedback.first().cloned().unwrap_or_default(),
                    signing,
                    sender_id: section.sender_id.as_ref().map(|id| id.get_ref().clone()),
                    origin: section
                        .unsubscribe_origin
                        .as_ref()
                        .map(|origin| origin.get_ref().trim_end_matches('/').to_owned()),
                },
                feedback: feedback.clone(),
                receiving_bytes_max: *limits.receiving_bytes_max.get_ref(),
                pace: pace::Limits { per_second: *limits.reports_per_second.get_ref(), ..pace::Limits::default() },
                unmatched: unmatched::Limits {
                    items_max: *limits.unmatched_max.get_ref() as usize,
                    bytes_max: *limits.unmatched_bytes_max.get_ref(),
                },
            },
            limits: listener::Limits {
                message_bytes_max: *limits.message_bytes_max.get_ref(),
                recipients_max: returns::RECIPIENTS_MAX,
                connections_max: *limits.connections_max.get_ref(),
                connections_per_peer_max: *limits.connections_per_peer_max.get_ref(),
                idle: Duration::from_secs(*own.idle_s.get_ref()),
                data: Duration::from_secs(*own.data_s.get_ref()),
                session: Duration::from_secs(*own.session_s.get_ref()),
            },
        })
    }

    fn control(&mut self, written: &Written, schedule: &Arc<str>) -> Option<Control> {
        let section = written.control.as_ref()?;
        let places = [
            written.accounts.first().map(|account| &account.id),
            written.credentials.first().map(|credential| &credential.account),
            written.domains.first().map(|domain| &domain.name),
            written.pools.first().map(|pool| &pool.id),
        ];
        for at in places.into_iter().flatten() {
            self.wrong(at, "with [control], accounts, credentials, domains, IPs and pools are kept in its database: make them with calls, or leave [control] out");
        }
        if let Some(ip) = written.ips.first() {
            self.wrong(&ip.address, "with [control], IPs are kept in its database: add them with `weir ip add`");
        }
        if let Some(at) = &section.database
            && !["postgres://", "postgresql://"].iter().any(|scheme| at.get_ref().starts_with(scheme))
        {
            self.wrong(at, "database is postgres://user@host/name; without it, a file in the data folder is used");
        }
        let text = match &section.block_lists {
            Some(at) => String::from_utf8_lossy(&self.file(at)?).into_owned(),
            None => blocklist::SHIPPED.to_owned(),
        };
        let block_lists = match (&section.block_lists, blocklist::parse(&text)) {
            (_, Ok(lists)) => lists,
            (Some(at), Err(error)) => {
                self.wrong(at, error.to_string());
                return None;
            }
            // The shipped ones are read by a test.
            (None, Err(_)) => Vec::new(),
        };
        let webhooks_allow_private = self.networks(&section.webhooks_allow_private);
        let letters = match (&section.letters_from, &section.letters_account) {
            (Some(from), Some(account)) => {
                let from = self.take(from, |text| NamedMailbox::parse(text));
                from.map(|from| Letters { from, account: account.get_ref().clone() })
            }
            (Some(alone), None) | (None, Some(alone)) => {
                self.wrong(alone, "letters_from and letters_account stand together: who the letters come from, and which account sends them");
                None
            }
            (None, None) => None,
        };
        let payments = match (&section.payments_url, &section.payments_secret) {
            (Some(url), Some(secret)) => self.payments(url, secret),
            (Some(alone), None) | (None, Some(alone)) => {
                self.wrong(alone, "payments_url and payments_secret stand together: who hears of invoices, and what requests are signed with");
                None
            }
            (None, None) => None,
        };
        Some(Control {
            letters,
            payments,
            database: section.database.as_ref().map(|at| at.get_ref().clone()),
            block_lists,
            webhooks_allow_private,
            schedule: Arc::clone(schedule),
        })
    }

    fn payments(&mut self, url: &Spanned<String>, secret: &Spanned<String>) -> Option<payments::Settings> {
        // Name and password would stand in logs.
        let is_url = trace::is_url(url.get_ref()) && !url.get_ref().contains('@');
        if !is_url {
            self.wrong(
                url,
                "payments_url is an address such as https://billing.example.com/weir, without a name and password",
            );
        }
        let octets = secret.get_ref().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        let Some(octets) = octets.filter(|octets| (24..=64).contains(&octets.len())) else {
            self.wrong(
                secret,
                "payments_secret is whsec_ and 24 to 64 octets in base64: echo whsec_$(openssl rand -base64 32)",
            );
            return None;
        };
        is_url.then(|| payments::Settings { url: url.get_ref().clone(), secret: octets })
    }

    fn limits(&mut self, written: &Written) {
        if let Some(at) = written.http.as_ref().and_then(|http| http.calls_per_second.as_ref()) {
            self.positive(at, "calls_per_second");
        }
        let limits = &written.limits;
        self.positive(&limits.message_bytes_max, "message_bytes_max");
        self.positive(&limits.queue_messages_max, "queue_messages_max");
        self.positive(&limits.connections_max, "connections_max");
        self.positive(&limits.connections_per_peer_max, "connections_per_peer_max");
        if let Some(at) = &limits.receiving_bytes_max {
            self.positive(at, "receiving_bytes_max");
        }
        self.positive(&limits.idle_s, "idle_s");
        self.positive(&limits.data_s, "data_s");
        self.positive(&limits.session_s, "session_s");
        // RFC 5321 4.5.3.1.8: at least 100; the envelope counts them in 16 bits.
        if !(100..=65_535).contains(limits.recipients_max.get_ref()) {
            self.wrong(&limits.recipients_max, "recipients_max must be from 100 (RFC 5321) to 65535");
        }
        if *written.spool.segment_bytes.get_ref() < 1 << 20 {
            self.wrong(&written.spool.segment_bytes, "segment_bytes must be at least 1048576");
        }
    }

    fn accounts(&mut self, written: &Written, region: &RegionId) -> BTreeMap<AccountId, Account> {
        let mut accounts = BTreeMap::new();
        for account in &written.accounts {
            let recipients = account.recipients.iter().filter_map(|at| self.pattern(at)).collect();
            let known = Account {
                plan: match account.plan {
                    config::Plan::Free => snapshot::Plan::Free,
                    config::Plan::Standard => snapshot::Plan::Standard,
                    config::Plan::Enterprise => snapshot::Plan::Enterprise,
                },
                default_pools: (account.default_pool.iter())
                    .map(|pool| (region.clone(), PoolId::new(pool.get_ref())))
                    .collect(),
                senders: match account.senders {
                    config::Senders::Verified => snapshot::Senders::Verified,
                    config::Senders::Any => snapshot::Senders::Any,
                },
                recipients,
                quotas: self.quota(account).map(|quota| (region.clone(), quota)).into_iter().collect(),
                ..Account::default()
            };
            if accounts.insert(AccountId::new(account.id.get_ref()), known).is_some() {
                self.wrong(&account.id, format!("the account {} stands here twice", account.id.get_ref()));
            }
        }
        accounts
    }

    /// R7.1
    fn quota(&mut self, account: &config::Account) -> Option<Quota> {
        match (&account.per_day, &account.per_second) {
            (Some(per_day), Some(per_second)) => {
                Some(Quota { per_day: *per_day.get_ref(), per_second: *per_second.get_ref() })
            }
            (None, None) => None,
            _ => {
                self.wrong(&account.id, "per_day and per_second stand together: how much in 24 hours, and how fast");
                None
            }
        }
    }

    fn pattern(&mut self, at: &Spanned<String>) -> Option<DomainPattern> {
        self.take(at, |text| match text.strip_prefix("*.") {
            Some(below) => Domain::parse(below).map(DomainPattern::Below),
            None => Domain::parse(text).map(DomainPattern::Exactly),
        })
    }

    fn known_account<T>(&mut self, at: &Spanned<String>, accounts: &BTreeMap<AccountId, T>) -> Option<AccountId> {
        let id = AccountId::new(at.get_ref());
        if accounts.contains_key(&id) {
            return Some(id);
        }
        self.wrong(at, format!("there is no account {}", at.get_ref()));
        None
    }

    fn ips(&mut self, written: &Written, host: Option<&Domain>) -> BTreeMap<IpAddr, Ip> {
        let mut ips = BTreeMap::new();
        for ip in &written.ips {
            let address = *ip.address.get_ref();
            let ehlo = match &ip.ehlo {
                Some(at) => self.domain(at).map(|name| name.to_string()),
                None => host.map(ToString::to_string),
            };
            let bind = ip.bind.as_ref().map_or(address, |bind| *bind.get_ref());
            let warm_up = ip.warm_up.as_ref().map(|at| WarmUp {
                by: match at.get_ref().as_str() {
                    "learning" => WarmUpBy::Learning,
                    name => WarmUpBy::Schedule(name.into()),
                },
                // What stands in a file was ordered once.
                ordered: Ordered::Restart,
                ordered_at: Timestamp(1),
            });
            let known = Ip { bind, ehlo: ehlo.unwrap_or_default(), state: IpState::Active, hop: None, warm_up };
            if ips.insert(address, known).is_some() {
                self.wrong(&ip.address, format!("the IP {address} stands here twice"));
            }
        }
        ips
    }

    fn pools(
        &mut self,
        written: &Written,
        region: &RegionId,
        ips: &BTreeMap<IpAddr, Ip>,
        accounts: &mut BTreeMap<AccountId, Account>,
    ) -> BTreeMap<PoolId, Pool> {
        let mut pools = BTreeMap::new();
        let mut home: BTreeMap<IpAddr, String> = BTreeMap::new();
        for pool in &written.pools {
            for at in &pool.ips {
                if !ips.contains_key(at.get_ref()) {
                    self.wrong(at, format!("there is no IP {}; add it as [[ip]]", at.get_ref()));
                }
                if let Some(other) = home.insert(*at.get_ref(), pool.id.get_ref().clone()) {
                    self.wrong(
                        at,
                        format!("the IP {} is in the pool {other} already; an IP is in one pool", at.get_ref()),
                    );
                }
            }
            let account = pool.account.as_ref().and_then(|at| self.known_account(at, accounts));
            let (id, name) = (PoolId::new(pool.id.get_ref()), Arc::from(pool.id.get_ref().as_str()));
            if let Some(owner) = account.as_ref().and_then(|account| accounts.get_mut(account)) {
                owner.pools.entry(region.clone()).or_default().insert(Arc::clone(&name), id.clone());
            }
            match (pool.kind, &pool.account) {
                (config::PoolKind::Standard, None) => {
                    self.wrong(&pool.id, "a standard pool belongs to an account: add account");
                }
                (config::PoolKind::Shared, Some(at)) => self.wrong(at, "a shared pool belongs to no account"),
                _ => {}
            }
            let known = Pool {
                kind: match pool.kind {
                    config::PoolKind::Shared => snapshot::PoolKind::Shared,
                    config::PoolKind::Standard => snapshot::PoolKind::Standard,
                },
                name,
                region: region.clone(),
                account,
                overflow: None,
                leaving: Leaving::Shared,
                relay: None,
                active_within: None,
                ips: pool.ips.iter().map(|at| *at.get_ref()).collect(),
            };
            if pools.insert(id, known).is_some() {
                self.wrong(&pool.id, format!("the pool {} stands here twice", pool.id.get_ref()));
            }
        }
        pools
    }

    fn default_pools(&mut self, written: &Written, pools: &BTreeMap<PoolId, Pool>) {
        for account in &written.accounts {
            let Some(at) = &account.default_pool else { continue };
            match pools.get(&PoolId::new(at.get_ref())) {
                None => self.wrong(at, format!("there is no pool {}", at.get_ref())),
                Some(pool) if pool.account.as_ref().is_some_and(|owner| owner.as_str() != account.id.get_ref()) => {
                    self.wrong(at, format!("the pool {} belongs to another account", at.get_ref()));
                }
                Some(_) => {}
            }
        }
    }

    fn domains(&mut self, written: &Written, accounts: &mut BTreeMap<AccountId, Account>) {
        let mut known = BTreeSet::new();
        for section in &written.domains {
            let (name, account) = (self.domain(&section.name), self.known_account(&section.account, accounts));
            let return_path = section.return_path.as_ref().and_then(|at| self.domain(at));
            let (Some(name), Some(account)) = (name, account) else { continue };
            if !known.insert(name.clone()) {
                self.wrong(&section.name, format!("the domain {name} stands here twice"));
            }
            let dkim = section.dkim.iter().filter_map(|key| self.dkim(&name, key)).collect();
            if let Some(owner) = accounts.get_mut(&account) {
                let domain = SendingDomain { name: name.clone(), return_path, dkim };
                owner.domains.insert(name, Arc::new(domain));
            }
        }
    }

    fn dkim(&mut self, domain: &Domain, key: &config::Dkim) -> Option<DkimKey> {
        let pem = self.file(&key.key)?;
        let selector = key.selector.get_ref().clone();
        // A key that cannot sign must be told now, not at the first message.
        self.take(&key.key, |_| Signer::from_pem(domain, &selector, &String::from_utf8_lossy(&pem)))?;
        Some(DkimKey { selector, pem: pem.into() })
    }

    /// What is shown as a whole, and what signs in with a name. Those of the file are good for everything their holder may do.
    fn credentials(&mut self, written: &Written, accounts: &BTreeMap<AccountId, Account>) -> (Keys, Logins) {
        let (mut keys, mut logins) = (BTreeMap::new(), BTreeMap::new());
        let credential = |id: &str, holder: Holder| {
            let scopes = [Scope::Send, Scope::Read, Scope::Manage].into();
            let id = CredentialId::new(id);
            Arc::new(Credential { id, holder, scopes, networks: Vec::new(), expires_at: None })
        };
        if let Some(key) = written.http.as_ref().and_then(|http| http.operator_key.as_ref()) {
            keys.insert(digest_of(key.get_ref()), credential("operator", Holder::Operator));
        }
        for section in &written.credentials {
            let Some(account) = self.known_account(&section.account, accounts) else { continue };
            let holder = Holder::Account { account, subaccount: None };
            match (&section.user, &section.password, &section.key) {
                (Some(user), Some(password), None) => {
                    let (name, passwords) = (user.get_ref().as_str(), vec![digest_of(password.get_ref())]);
                    let login = Login { credential: credential(name, holder), passwords };
                    if logins.insert(Arc::from(name), Arc::new(login)).is_some() {
                        self.wrong(user, format!("the user {name} stands here twice"));
                    }
                }
                (None, None, Some(key)) => {
                    let digest = digest_of(key.get_ref());
                    // The key has no public name in the file; a part of its digest tells it from the others.
                    let name = format!("key-{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2]);
                    if keys.insert(digest, credential(&name, holder)).is_some() {
                        self.wrong(key, "this key stands here twice");
                    }
                }
                _ => {
                    self.wrong(
                        &section.account,
                        "a credential is either user and password, for SMTP, or key, for HTTP",
                    );
                }
            }
        }
        (keys, logins)
    }

    fn rules(&mut self, written: &Written) -> Rules {
        let Some(at) = &written.delivery.reply_rules else { return Rules::shipped() };
        let text = self.file(at).map(|octets| String::from_utf8_lossy(&octets).into_owned());
        text.and_then(|text| self.take(at, |_| Rules::parse(&text))).unwrap_or_else(Rules::shipped)
    }

    /// All that can be chosen, and what is used where nobody did.
    fn schedules(&mut self, written: &Written) -> (Arc<Schedules>, Arc<str>) {
        let mut schedules = Schedules::shipped();
        if let Some(at) = &written.warm_up.schedules {
            let text = self.file(at).map(|octets| String::from_utf8_lossy(&octets).into_owned());
            if let Some(own) = text.and_then(|text| self.take(at, |_| Schedules::parse(&text))) {
                schedules = schedules.with(own);
            }
        }
        let Some(at) = &written.warm_up.schedule else { return (Arc::new(schedules), DEFAULT.into()) };
        if schedules.named(at.get_ref()).is_none() {
            let names: Vec<&str> = schedules.all().map(|schedule| &*schedule.name).collect();
            self.wrong(at, format!("no schedule is named {}; there are {}", at.get_ref(), names.join(", ")));
        }
        (Arc::new(schedules), at.get_ref().as_str().into())
    }

    fn providers(&mut self, written: &Written) -> Providers {
        let mut providers = match &written.delivery.provider_rules {
            None => Providers::shipped(),
            Some(at) => {
                let text = self.file(at).map(|octets| String::from_utf8_lossy(&octets).into_owned());
                text.and_then(|text| self.take(at, |_| Providers::parse(&text))).unwrap_or_else(Providers::shipped)
            }
        };
        for shaping in &written.shaping {
            let number = |at: &Option<Spanned<u32>>| at.as_ref().map(|at| *at.get_ref());
            for at in [&shaping.connections_max, &shaping.messages_per_connection].into_iter().flatten() {
                self.positive(at, "this limit");
            }
            let change = LaneChange {
                connections_max: number(&shaping.connections_max),
                messages_per_connection: number(&shaping.messages_per_connection),
                messages_per_second: number(&shaping.messages_per_second),
                ramp: shaping.ramp,
            };
            if providers.change(shaping.provider.get_ref(), &change).is_err() {
                self.wrong(
                    &shaping.provider,
                    format!("no provider is named {}; “default” means all others", shaping.provider.get_ref()),
                );
            }
        }
        providers
    }

    fn delivery(&mut self, written: &Written) -> snapshot::Delivery {
        let section = &written.delivery;
        self.positive(&section.port, "port");
        self.positive(&section.lifetime_hours, "lifetime_hours");
        let minutes = section.retry_minutes.get_ref();
        if minutes.is_empty() || minutes.contains(&0) {
            self.wrong(&section.retry_minutes, "retry_minutes needs at least one wait, each of a minute or more");
        }
        let steps = minutes.iter().map(|minutes| Duration::from_secs(u64::from(*minutes) * 60)).collect();
        snapshot::Delivery {
            lifetime: hours(&section.lifetime_hours),
            retry: RetrySchedule { steps, ..RetrySchedule::default() },
            delay_notice: hours(&section.delay_notice_hours),
            notify: match section.notify {
                NotifyDefault::Asked => snapshot::NotifyDefault::Asked,
                NotifyDefault::Failure => snapshot::NotifyDefault::Failure,
            },
            tls: match section.tls {
                DeliveryTls::Never => TlsWish::Never,
                DeliveryTls::Opportunistic => TlsWish::IfOffered,
                DeliveryTls::Required => TlsWish::Required,
            },
            return_path: match (&section.return_path, &written.returns) {
                (Some(at), _) => self.domain(at),
                (None, Some(returns)) => Domain::parse(returns.domain.get_ref()).ok(),
                (None, None) => None,
            },
        }
    }

    fn doors(&mut self, written: &Written, snapshot: &Snapshot) -> Vec<(SocketAddr, Door)> {
        let mut doors = Vec::new();
        for section in &written.listeners {
            let account = match (&section.account, &written.control) {
                (None, _) => None,
                // What accounts there are, the database says; one that is not there is refused when mail comes.
                (Some(at), Some(_)) => Some(AccountId::new(at.get_ref())),
                (Some(at), None) => self.known_account(at, &snapshot.accounts),
            };
            let trusted = self.networks(&section.trusted);
            if !trusted.is_empty() && section.account.is_none() {
                self.wrong(&section.address, "trusted networks submit for an account: add account");
            }
            let tls = match section.tls.get_ref() {
                ListenerTls::None => DoorTls::None,
                ListenerTls::Starttls => DoorTls::StartTls,
                ListenerTls::Implicit => DoorTls::Implicit,
            };
            if tls == DoorTls::None && section.trusted.is_empty() {
                self.wrong(
                    &section.tls,
                    "without TLS nobody can sign in, and no network is trusted: nobody could submit here",
                );
            }
            doors.push((*section.address.get_ref(), Door { tls, trusted, account }));
        }
        doors
    }

    fn answers(&mut self, written: &Written) -> FixedAnswers {
        let mut rules = Vec::new();
        for answer in &written.dns.answers {
            self.pattern(&answer.domain);
            let addresses: Vec<IpAddr> = answer.addresses.iter().map(|at| *at.get_ref()).collect();
            let mx: Vec<(u16, String)> =
                (1..).zip(&answer.mx).map(|(place, at)| (place * 10, at.get_ref().clone())).collect();
            // The hosts that the answer names have its addresses; without any, the DNS is asked for theirs.
            for (_, host) in mx.iter().filter(|_| !addresses.is_empty()) {
                let rule = FixedRule {
                    pattern: host.clone(),
                    mx: Vec::new(),
                    addresses: addresses.clone(),
                    txt: Vec::new(),
                    no_such: false,
                };
                rules.insert(0, rule);
            }
            let own = if mx.is_empty() { addresses } else { Vec::new() };
            rules.push(FixedRule {
                pattern: answer.domain.get_ref().clone(),
                mx,
                addresses: own,
                txt: Vec::new(),
                no_such: false,
            });
        }
        FixedAnswers { rules }
    }
}

fn digest_of(secret: &str) -> Digest {
    digest::digest(&digest::SHA256, secret.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 octets")
}

/// What a good file says that its writer will hardly have meant, in the order of the file.
fn warnings(house: &House, source: &Source) -> Vec<Problem> {
    let written = &house.written;
    let mut warnings = Vec::new();
    for listener in &written.listeners {
        if *listener.tls.get_ref() != ListenerTls::None && written.tls.is_none() {
            let what =
                "TLS without a [tls] section: a certificate is made up at each start, which submitters cannot check";
            warnings.push(source.problem(&listener.tls, what));
        }
    }
    for ip in &written.ips {
        let address = ip.address.get_ref();
        if !written.pools.iter().any(|pool| pool.ips.iter().any(|member| member.get_ref() == address)) {
            warnings
                .push(source.problem(&ip.address, format!("the IP {address} is in no pool: nothing leaves from it")));
        }
    }
    for domain in written.domains.iter().filter(|domain| domain.dkim.is_empty()) {
        let what = format!("mail of {} is not signed: add [[domain.dkim]]", domain.name.get_ref());
        warnings.push(source.problem(&domain.name, what));
    }
    if let Some(at) = &written.delivery.reply_rules {
        let known: Vec<&str> = house.snapshot.providers.names().collect();
        for (rule, provider) in house.snapshot.rules.named().filter(|(_, provider)| !known.contains(provider)) {
            let what = format!("the rule {rule} never fits: no provider is named {provider}");
            warnings.push(source.problem(at, what));
        }
    }
    warnings.extend(lifetimes(&written.delivery, source));
    warnings.sort_by_key(|warning| warning.line);
    warnings
}

fn lifetimes(delivery: &config::Delivery, source: &Source) -> Vec<Problem> {
    let mut warnings = Vec::new();
    let (lifetime, notice) = (hours(&delivery.lifetime_hours), hours(&delivery.delay_notice_hours));
    let first = delivery.retry_minutes.get_ref().first().map_or(0, |minutes| u64::from(*minutes) * 60);
    if !LIFETIME_USUAL.contains(&lifetime) {
        let (least, most) = (LIFETIME_USUAL.start().as_secs() / 3_600, LIFETIME_USUAL.end().as_secs() / 3_600);
        let what = format!(
            "a lifetime of {} hours: less than {least} gives up on hosts that are being restarted, more than {most} tells senders of a failure when it is of no use",
            delivery.lifetime_hours.get_ref()
        );
        warnings.push(source.problem(&delivery.lifetime_hours, what));
    }
    if Duration::from_secs(first) >= lifetime {
        let what = "the first retry is not before the lifetime is over: nothing is ever tried again";
        warnings.push(source.problem(&delivery.retry_minutes, what));
    }
    if notice >= lifetime {
        let what = "a delay notice that is due when the lifetime is over is never sent";
        warnings.push(source.problem(&delivery.delay_notice_hours, what));
    }
    warnings
}

fn hours(at: &Spanned<u32>) -> Duration {
    Duration::from_secs(u64::from(*at.get_ref()) * 3_600)
}

fn patience(section: &config::Delivery) -> Patience {
    let usual = Patience::default();
    let seconds =
        |at: &Option<Spanned<u64>>, usual: Duration| at.as_ref().map_or(usual, |at| Duration::from_secs(*at.get_ref()));
    Patience {
        connect: seconds(&section.patience.connect_s, usual.connect),
        banner: seconds(&section.patience.banner_s, usual.banner),
        command: seconds(&section.patience.command_s, usual.command),
        data_end: seconds(&section.patience.data_end_s, usual.data_end),
        ..usual
    }
}
