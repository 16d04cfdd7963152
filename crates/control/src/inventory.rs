//! Which IPs are there, and what may be done with each?
//!
//! An IP is added once and belongs to its region for ever. Its state says what it is for now; every change of state is kept, with
//! its reason. Leased IPs change state only with their lease (`lease`).

use crate::account;
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::pool;
use crate::refusal::Refusal;
use crate::region;
use crate::setting::{self, Setting};
use crate::store::{Change, Columns, q, row, rows, run, run_unless};
use crate::warm_up::{self, WarmUpOrder};
use engine::snapshot::{Hop, PoolKind, WarmUp};
use engine::time::Timestamp;
use mail::address::Domain;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// IPs added by one call: a /22.
const ADDED_MAX: u32 = 1_024;
const REASON_LETTERS_MAX: usize = 500;
const DAY: Duration = Duration::from_secs(86_400);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    pub address: IpAddr,
    pub region: String,
    pub bind: IpAddr,
    pub ehlo: String,
    pub hop: Option<Hop>,
    pub state: State,
    pub state_since: Timestamp,
    pub state_until: Option<Timestamp>,
    pub pool: Option<String>,
    /// Who leases it now.
    pub account: Option<String>,
    /// Why it takes no new mail although it could.
    pub rotation_reason: Option<String>,
    /// None: it has no limit.
    pub warm_up: Option<WarmUp>,
    pub revision: i64,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Can be leased, once its checks are good.
    Available,
    Leased,
    /// In a shared pool of the operator's.
    Shared,
    /// Given back: what is queued on it still leaves from it (R2.4).
    Draining,
    /// Cooling before it is leased again (R3.5).
    Resting,
    OutOfService,
}

const STATES: [State; 6] =
    [State::Available, State::Leased, State::Shared, State::Draining, State::Resting, State::OutOfService];

impl State {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            State::Available => "available",
            State::Leased => "leased",
            State::Shared => "shared",
            State::Draining => "draining",
            State::Resting => "resting",
            State::OutOfService => "out-of-service",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<State> {
        STATES.into_iter().find(|state| state.code() == code)
    }
}

/// One step of an IP's life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: Timestamp,
    pub state: String,
    pub reason: String,
    pub actor: String,
}

/// What was found when an IP was looked at (R3.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub name: String,
    pub at: Timestamp,
    pub outcome: Outcome,
    pub words: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Good,
    Bad,
    /// It could not be found out this time.
    Unknown,
    /// What was answered does not count: the list that was asked is broken, or does not answer us.
    Void,
}

impl Outcome {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Outcome::Good => "good",
            Outcome::Bad => "bad",
            Outcome::Unknown => "unknown",
            Outcome::Void => "void",
        }
    }

    fn of(code: &str) -> Outcome {
        let known = [Outcome::Good, Outcome::Bad, Outcome::Void];
        known.into_iter().find(|known| known.code() == code).unwrap_or(Outcome::Unknown)
    }
}

#[derive(Clone, Debug, Default)]
pub struct NewIps {
    /// Addresses, or networks written as 192.0.2.0/28.
    pub addresses: Vec<String>,
    pub region: Option<String>,
    /// `{ip}` stands for the address with dashes. None: the installation's own name.
    pub ehlo: Option<String>,
    /// Behind one-to-one NAT; only with a single address.
    pub bind: Option<IpAddr>,
    pub hop: Option<Hop>,
    /// A shared pool they go into at once.
    pub shared_pool: Option<String>,
}

#[derive(Clone, Debug, Default)]
pub struct IpChange {
    pub ehlo: Option<String>,
    pub bind: Option<IpAddr>,
    pub hop: Option<Option<Hop>>,
    pub revision: Option<i64>,
}

/// What the operator does with an IP that nobody leases, or for a while with one that somebody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IpOrder {
    /// Into a shared pool, by name or id.
    Share {
        pool: String,
    },
    /// Out of its shared pool: it drains, rests and is available again.
    Unshare,
    OutOfService {
        reason: String,
    },
    /// From out of service, or from resting before the time.
    Available {
        reason: String,
    },
    /// Takes no new mail, wherever it is; what is queued still leaves.
    OutOfRotation {
        reason: String,
    },
    IntoRotation,
}

#[derive(Clone, Debug, Default)]
pub struct IpFilter {
    pub region: Option<String>,
    pub state: Option<State>,
    pub account: Option<String>,
    pub pool: Option<String>,
}

macro_rules! select {
    ($($rest:literal),+) => {
        concat!(
            "SELECT i.address, i.region, i.bind, i.ehlo, i.hop, i.state, i.state_since, i.state_until, i.pool, l.account, \
             i.rotation_reason, i.revision, i.created_at, i.warm_up, i.warm_up_ordered, i.warm_up_ordered_at \
             FROM ip i LEFT JOIN lease l ON l.ip = i.address AND l.ended_at IS NULL LEFT JOIN pool p ON p.id = i.pool ",
            $($rest),+
        )
    };
}

fn read(row: &AnyRow) -> Result<Ip, Refusal> {
    let address = |text: String| text.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    Ok(Ip {
        address: address(row.text(0)?),
        region: row.text(1)?,
        bind: address(row.text(2)?),
        ehlo: row.text(3)?,
        hop: row.text_or_none(4)?.as_deref().and_then(hop_of),
        state: State::of(&row.text(5)?).unwrap_or(State::OutOfService),
        state_since: Timestamp(row.whole(6)?),
        state_until: row.whole_or_none(7)?.map(Timestamp),
        pool: row.text_or_none(8)?,
        account: row.text_or_none(9)?,
        rotation_reason: row.text_or_none(10)?,
        revision: row.whole(11)?,
        created_at: Timestamp(row.whole(12)?),
        warm_up: {
            let (by, ordered) = (row.text_or_none(13)?, row.text_or_none(14)?);
            warm_up::read(by.as_deref(), ordered.as_deref(), row.whole_or_none(15)?)
        },
    })
}

/// `socks5 192.0.2.1:1080`
#[must_use]
pub fn hop_text(hop: &Hop) -> String {
    match hop {
        Hop::Socks5 { proxy } => format!("socks5 {proxy}"),
        Hop::Proxy { proxy } => format!("proxy {proxy}"),
        // In no table of IPs: only the snapshot has it among them.
        Hop::Relay(relay) => format!("relay {}:{}", relay.host, relay.port),
    }
}

#[must_use]
pub fn hop_of(text: &str) -> Option<Hop> {
    let (kind, proxy) = text.split_once(' ')?;
    let proxy: SocketAddr = proxy.parse().ok()?;
    match kind {
        "socks5" => Some(Hop::Socks5 { proxy }),
        "proxy" => Some(Hop::Proxy { proxy }),
        _ => None,
    }
}

pub(crate) async fn find(conn: &mut AnyConnection, address: IpAddr) -> Result<Ip, Refusal> {
    let query = q!(select!("WHERE i.address = $1"), address.to_string());
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("IP", &address.to_string())),
    }
}

/// Every IP the data plane must know: all that are bound for something, resting ones included, because mail that was accepted in the
/// last moment before an IP was given back still leaves from it (R2.4).
pub(crate) async fn bound(conn: &mut AnyConnection, address: Option<IpAddr>) -> Result<Vec<Ip>, Refusal> {
    macro_rules! statement {
        ($which:literal) => {
            select!("WHERE i.state IN ('leased', 'shared', 'draining', 'resting')", $which)
        };
    }
    let query = match address {
        None => q!(statement!("")),
        Some(address) => q!(statement!(" AND i.address = $1"), address.to_string()),
    };
    rows(conn, query).await?.iter().map(read).collect()
}

/// Where an IP goes next, and why, for its history.
pub(crate) struct Next<'a> {
    pub state: State,
    pub until: Option<Timestamp>,
    pub pool: Option<&'a str>,
    pub reason: &'a str,
}

impl<'a> Next<'a> {
    pub(crate) fn state(state: State, reason: &'a str) -> Next<'a> {
        Next { state, until: None, pool: None, reason }
    }

    pub(crate) fn into_pool(state: State, pool: &'a str, reason: &'a str) -> Next<'a> {
        Next { state, until: None, pool: Some(pool), reason }
    }
}

pub(crate) async fn put_state(
    change: &mut Change,
    by: &Actor,
    now: Timestamp,
    address: IpAddr,
    next: Next<'_>,
) -> Result<(), Refusal> {
    let update = q!(
        "UPDATE ip SET state = $2, state_since = $3, state_until = $4, pool = $5, revision = revision + 1, \
         rotation_reason = CASE WHEN CAST($5 AS TEXT) IS NULL THEN NULL ELSE rotation_reason END WHERE address = $1",
        address.to_string(),
        next.state.code(),
        now.0,
        next.until.map(|until| until.0),
        next.pool.map(str::to_owned),
    );
    let guarded = || {
        let sentence = format!("The IP {address} cannot be {} there.", next.state.code());
        Refusal::conflict("ip_taken", sentence, "Look at who leases it, and in which region it is.")
    };
    run_unless(change.conn(), update, guarded).await?;
    note(change, by, now, address, next.state, next.reason).await
}

async fn note(
    change: &mut Change,
    by: &Actor,
    now: Timestamp,
    address: IpAddr,
    state: State,
    reason: &str,
) -> Result<(), Refusal> {
    let insert = q!(
        "INSERT INTO ip_history (ip, at, state, reason, actor) VALUES ($1, $2, $3, $4, $5)",
        address.to_string(),
        now.0,
        state.code(),
        reason.to_owned(),
        by.name.clone(),
    );
    run(change.conn(), insert).await?;
    Ok(())
}

impl Office {
    /// Each address once, all or none.
    pub async fn add_ips(&self, by: &Actor, new: NewIps) -> Result<Vec<Ip>, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let ips = self.add_ips_in(&mut change, by, new).await?;
        change.commit().await?;
        Ok(ips)
    }

    pub(crate) async fn add_ips_in(&self, change: &mut Change, by: &Actor, new: NewIps) -> Result<Vec<Ip>, Refusal> {
        let now = self.now();
        let region = new.region.unwrap_or_else(|| self.home_region().to_string());
        region::must_exist(change.conn(), &region).await?;
        let addresses = addresses(&new.addresses)?;
        if new.bind.is_some() && addresses.len() != 1 {
            let sentence = "One address is bound for one public address.";
            return Err(Refusal::invalid("bind", sentence, "Add addresses behind NAT one by one."));
        }
        let shared = match &new.shared_pool {
            Some(called) => Some(shared_pool(change.conn(), &region, called).await?),
            None => None,
        };
        let mut added = Vec::with_capacity(addresses.len());
        for address in addresses {
            let bind = new.bind.unwrap_or(address);
            let ehlo = ehlo(new.ehlo.as_deref().unwrap_or(self.host()), address)?;
            same_family(address, bind)?;
            let insert = q!(
                "INSERT INTO ip (address, region, bind, ehlo, hop, state, state_since, revision, created_at) \
                 VALUES ($1, $2, $3, $4, $5, 'available', $6, 1, $6)",
                address.to_string(),
                region.clone(),
                bind.to_string(),
                ehlo.clone(),
                new.hop.as_ref().map(hop_text),
                now.0,
            );
            let taken = || {
                Refusal::conflict("ip_taken", format!("The IP {address} is here already."), "Leave it out.")
                    .at("addresses")
            };
            run_unless(change.conn(), insert, taken).await?;
            note(change, by, now, address, State::Available, "added").await?;
            if let Some(pool) = &shared {
                let next = Next::into_pool(State::Shared, pool, "added to a shared pool");
                put_state(change, by, now, address, next).await?;
            }
            let detail = json!({ "region": region, "bind": bind, "ehlo": ehlo, "pool": shared });
            let id = address.to_string();
            let line = Line { subject: Subject::Ip, id: &id, account: None, action: "added", detail };
            audit::write(change, by, now, line).await?;
            added.push(find(change.conn(), address).await?);
        }
        Ok(added)
    }

    /// An account sees those it leases, and of managed pools none (R2.8).
    pub async fn ips(&self, by: &Actor, filter: &IpFilter, window: &Window) -> Result<Page<Ip>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = match (&filter.account, by.account()) {
            (Some(called), _) => {
                let account = account::find(&mut conn, called).await?;
                by.may_read(&account.id).map_err(|refusal| account::unknown_as_asked(refusal, called))?;
                Some(account.id)
            }
            (None, Some(own)) => {
                by.may_read(own.as_str())?;
                Some(own.to_string())
            }
            (None, None) => {
                by.may_watch()?;
                None
            }
        };
        let query = q!(
            select!(
                "WHERE i.address > $1 AND (CAST($2 AS TEXT) IS NULL OR i.region = $2) \
                 AND (CAST($3 AS TEXT) IS NULL OR i.state = $3) AND (CAST($4 AS TEXT) IS NULL OR l.account = $4) \
                 AND (CAST($5 AS TEXT) IS NULL OR p.id = $5 OR p.name = $5) AND ($6 = 1 OR p.kind <> 'managed') \
                 ORDER BY i.address LIMIT $7"
            ),
            window.after_text(),
            filter.region.clone(),
            filter.state.map(State::code),
            account,
            filter.pool.clone(),
            i64::from(by.is_operator()),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |ip| ip.address.to_string()))
    }

    pub async fn ip(&self, by: &Actor, address: IpAddr) -> Result<Ip, Refusal> {
        let mut conn = self.store().read().await?;
        self.visible(&mut conn, by, address).await
    }

    /// Its life and what its checks found. An account sees neither: what an IP was before is other tenants' business.
    pub async fn ip_story(&self, by: &Actor, address: IpAddr) -> Result<(Vec<Step>, Vec<Check>), Refusal> {
        by.may_watch()?;
        let mut conn = self.store().read().await?;
        find(&mut conn, address).await?;
        let query =
            q!("SELECT at, state, reason, actor FROM ip_history WHERE ip = $1 ORDER BY id", address.to_string());
        let steps = rows(&mut conn, query).await?;
        let steps = steps.iter().map(|row| {
            Ok(Step { at: Timestamp(row.whole(0)?), state: row.text(1)?, reason: row.text(2)?, actor: row.text(3)? })
        });
        let steps = steps.collect::<Result<_, Refusal>>()?;
        Ok((steps, checks(&mut conn, address).await?))
    }

    pub async fn change_ip(&self, by: &Actor, address: IpAddr, to: IpChange) -> Result<Ip, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let was = find(change.conn(), address).await?;
        account::must_be_seen("IP", to.revision, was.revision)?;
        let mut is = was.clone();
        if let Some(wanted) = &to.ehlo {
            is.ehlo = ehlo(wanted, address)?;
        }
        if let Some(bind) = to.bind {
            same_family(address, bind)?;
            is.bind = bind;
        }
        if let Some(hop) = to.hop {
            is.hop = hop;
        }
        if is == was {
            return Ok(was);
        }
        is.revision += 1;
        let update = q!(
            "UPDATE ip SET ehlo = $2, bind = $3, hop = $4, revision = $5 WHERE address = $1",
            address.to_string(),
            is.ehlo.clone(),
            is.bind.to_string(),
            is.hop.as_ref().map(hop_text),
            is.revision,
        );
        run(change.conn(), update).await?;
        let told = |ip: &Ip| json!({ "ehlo": ip.ehlo, "bind": ip.bind, "hop": ip.hop.as_ref().map(hop_text) });
        let detail = json!({ "was": told(&was), "is": told(&is) });
        self.write_ip(&mut change, by, &is, "changed", detail).await?;
        change.commit().await?;
        Ok(is)
    }

    pub async fn order_ip(&self, by: &Actor, address: IpAddr, order: &IpOrder) -> Result<Ip, Refusal> {
        let mut change = self.store().change().await?;
        let ip = self.order_ip_in(&mut change, by, address, order).await?;
        change.commit().await?;
        Ok(ip)
    }

    pub(crate) async fn order_ip_in(
        &self,
        change: &mut Change,
        by: &Actor,
        address: IpAddr,
        order: &IpOrder,
    ) -> Result<Ip, Refusal> {
        by.may_operate()?;
        let now = self.now();
        let ip = find(change.conn(), address).await?;
        let (action, detail) = match order {
            IpOrder::Share { pool } => {
                must_be(&ip, &[State::Available])?;
                let pool = shared_pool(change.conn(), &ip.region, pool).await?;
                let next = Next::into_pool(State::Shared, &pool, "into a shared pool");
                put_state(change, by, now, address, next).await?;
                ("shared", json!({ "pool": pool }))
            }
            IpOrder::Unshare => {
                must_be(&ip, &[State::Shared])?;
                put_state(change, by, now, address, Next::state(State::Draining, "out of its shared pool")).await?;
                ("unshared", json!({ "pool": ip.pool }))
            }
            IpOrder::OutOfService { reason } => {
                must_be(&ip, &[State::Available, State::Resting, State::Draining])?;
                let reason = said(reason)?;
                put_state(change, by, now, address, Next::state(State::OutOfService, &reason)).await?;
                ("taken-out-of-service", json!({ "reason": reason }))
            }
            IpOrder::Available { reason } => {
                must_be(&ip, &[State::OutOfService, State::Resting])?;
                let reason = said(reason)?;
                put_state(change, by, now, address, Next::state(State::Available, &reason)).await?;
                ("made-available", json!({ "reason": reason }))
            }
            IpOrder::OutOfRotation { reason } => {
                must_be(&ip, &[State::Leased, State::Shared])?;
                let reason = said(reason)?;
                put_rotation(change, address, Some(&reason)).await?;
                note(change, by, now, address, ip.state, &format!("out of rotation: {reason}")).await?;
                ("taken-out-of-rotation", json!({ "reason": reason }))
            }
            IpOrder::IntoRotation => {
                must_be(&ip, &[State::Leased, State::Shared])?;
                put_rotation(change, address, None).await?;
                note(change, by, now, address, ip.state, "into rotation again").await?;
                ("put-into-rotation", json!({ "reason_was": ip.rotation_reason }))
            }
        };
        let ip = find(change.conn(), address).await?;
        self.write_ip(change, by, &ip, action, detail).await?;
        Ok(ip)
    }

    /// R4.5: the operator's, or of who leases it; of a managed pool's IPs the operator's alone.
    pub async fn order_warm_up(&self, by: &Actor, address: IpAddr, order: &WarmUpOrder) -> Result<Ip, Refusal> {
        let mut change = self.store().change().await?;
        let ip = self.order_warm_up_in(&mut change, by, address, order).await?;
        change.commit().await?;
        Ok(ip)
    }

    pub(crate) async fn order_warm_up_in(
        &self,
        change: &mut Change,
        by: &Actor,
        address: IpAddr,
        order: &WarmUpOrder,
    ) -> Result<Ip, Refusal> {
        let ip = self.visible(change.conn(), by, address).await?;
        match &ip.account {
            Some(account) => by.may_manage(account)?,
            None => by.may_operate()?,
        }
        must_be(&ip, &[State::Leased, State::Shared])?;
        let warm_up = warm_up::follow(ip.warm_up.as_ref(), order, (self.schedules(), self.schedule()), self.now())?;
        warm_up::put(change, address, Some(&warm_up)).await?;
        let update = q!("UPDATE ip SET revision = revision + 1 WHERE address = $1", address.to_string());
        run(change.conn(), update).await?;
        let ip = find(change.conn(), address).await?;
        let detail = json!({
            "by": warm_up::by_text(&warm_up.by), "ordered": warm_up::ordered_text(warm_up.ordered),
        });
        self.write_ip(change, by, &ip, "warm-up-ordered", detail).await?;
        Ok(ip)
    }

    /// Nothing is queued on it any more: it rests (R3.5). Told twice, or of an IP that went another way meanwhile, it changes nothing.
    pub(crate) async fn rest(&self, change: &mut Change, by: &Actor, address: IpAddr) -> Result<(), Refusal> {
        let now = self.now();
        let ip = match find(change.conn(), address).await {
            Ok(ip) if ip.state == State::Draining => ip,
            Ok(_) => return Ok(()),
            Err(refusal) if refusal.kind == crate::refusal::Kind::NotFound => return Ok(()),
            Err(refusal) => return Err(refusal),
        };
        let days = setting::value(change.conn(), Setting::RestDays).await?;
        let until = now + DAY * u32::try_from(days).unwrap_or(0);
        let reason = format!("nothing is queued on it any more; it rests for {days} days");
        let next = Next { state: State::Resting, until: Some(until), pool: None, reason: &reason };
        put_state(change, by, now, address, next).await?;
        self.write_ip(change, by, &ip, "drained", json!({ "rests_until": until.to_string() })).await
    }

    /// Those that have rested long enough return to the inventory.
    pub async fn end_rests(&self) -> Result<usize, Refusal> {
        let (by, now) = (Actor::service(), self.now());
        let mut change = self.store().change().await?;
        let query = q!("SELECT address FROM ip WHERE state = 'resting' AND state_until <= $1 ORDER BY address", now.0);
        let rested = rows(change.conn(), query).await?;
        for row in &rested {
            let Ok(address) = row.text(0)?.parse::<IpAddr>() else { continue };
            put_state(&mut change, &by, now, address, Next::state(State::Available, "rested long enough")).await?;
            warm_up::put(&mut change, address, None).await?;
            let ip = find(change.conn(), address).await?;
            self.write_ip(&mut change, &by, &ip, "rested", json!({})).await?;
        }
        if !rested.is_empty() {
            change.commit().await?;
        }
        Ok(rested.len())
    }

    /// Keeps what a look at an IP found, in place of what the look before it found.
    pub async fn note_checks(&self, address: IpAddr, found: &[Check]) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        find(change.conn(), address).await?;
        run(change.conn(), q!("DELETE FROM ip_check WHERE ip = $1", address.to_string())).await?;
        for check in found {
            let put = q!(
                "INSERT INTO ip_check (ip, name, at, outcome, words) VALUES ($1, $2, $3, $4, $5)",
                address.to_string(),
                check.name.clone(),
                check.at.0,
                check.outcome.code(),
                check.words.clone(),
            );
            run(change.conn(), put).await?;
        }
        change.commit().await
    }

    async fn visible(&self, conn: &mut AnyConnection, by: &Actor, address: IpAddr) -> Result<Ip, Refusal> {
        let unknown = || Refusal::not_found("IP", &address.to_string());
        let ip = find(conn, address).await?;
        if by.is_operator() {
            by.may_watch()?;
            return Ok(ip);
        }
        // R2.8
        let account = ip.account.as_deref().ok_or_else(unknown)?;
        by.may_read(account)
            .map_err(|refusal| if refusal.kind == crate::refusal::Kind::NotFound { unknown() } else { refusal })?;
        match &ip.pool {
            Some(id) if pool::by_id(conn, id).await?.is_some_and(|pool| pool.kind == PoolKind::Managed) => {
                Err(unknown())
            }
            _ => Ok(ip),
        }
    }

    pub(crate) async fn write_ip(
        &self,
        change: &mut Change,
        by: &Actor,
        ip: &Ip,
        action: &'static str,
        detail: serde_json::Value,
    ) -> Result<(), Refusal> {
        let id = ip.address.to_string();
        let line = Line { subject: Subject::Ip, id: &id, account: ip.account.as_deref(), action, detail };
        audit::write(change, by, self.now(), line).await
    }
}

pub(crate) async fn checks(conn: &mut AnyConnection, address: IpAddr) -> Result<Vec<Check>, Refusal> {
    let query = q!("SELECT name, at, outcome, words FROM ip_check WHERE ip = $1 ORDER BY name", address.to_string());
    let found = rows(conn, query).await?;
    let found = found.iter().map(|row| {
        Ok(Check {
            name: row.text(0)?,
            at: Timestamp(row.whole(1)?),
            outcome: Outcome::of(&row.text(2)?),
            words: row.text(3)?,
        })
    });
    found.collect()
}

/// Why it cannot be leased now; none when all of its checks are good and fresh (R3.7).
#[must_use]
pub fn unfit(checks: &[Check], max_age: Duration, now: Timestamp) -> Option<String> {
    if checks.is_empty() {
        return Some("it was not checked yet".to_owned());
    }
    let stale = |check: &&Check| now.since(check.at) > max_age;
    if let Some(bad) = checks.iter().find(|check| check.outcome == Outcome::Bad) {
        return Some(format!("{}: {}", bad.name, bad.words));
    }
    if let Some(old) = checks.iter().find(stale) {
        return Some(format!("{}: the last look at it is too old", old.name));
    }
    let unknown = checks.iter().find(|check| check.outcome == Outcome::Unknown);
    unknown.map(|check| format!("{}: {}", check.name, check.words))
}

async fn put_rotation(change: &mut Change, address: IpAddr, reason: Option<&str>) -> Result<(), Refusal> {
    let update = q!(
        "UPDATE ip SET rotation_reason = $2, revision = revision + 1 WHERE address = $1",
        address.to_string(),
        reason.map(str::to_owned),
    );
    run(change.conn(), update).await?;
    Ok(())
}

async fn shared_pool(conn: &mut AnyConnection, region: &str, called: &str) -> Result<String, Refusal> {
    let query = q!(
        "SELECT id FROM pool WHERE account IS NULL AND region = $1 AND (id = $2 OR name = $2)",
        region.to_owned(),
        called.to_owned(),
    );
    match row(conn, query).await? {
        Some(row) => row.text(0),
        None => Err(Refusal::not_found(&format!("shared pool in {region} called"), called).at("pool")),
    }
}

fn must_be(ip: &Ip, states: &[State]) -> Result<(), Refusal> {
    if states.contains(&ip.state) {
        return Ok(());
    }
    let needed: Vec<&str> = states.iter().map(|state| state.code()).collect();
    Err(Refusal::conflict(
        "ip_state",
        format!("The IP {} is {}; for this it must be {}.", ip.address, ip.state.code(), needed.join(" or ")),
        "A leased IP is given back first; one that drains or rests is waited for.",
    ))
}

fn said(reason: &str) -> Result<String, Refusal> {
    let reason = reason.trim();
    if (1..=REASON_LETTERS_MAX).contains(&reason.chars().count()) && !reason.chars().any(char::is_control) {
        return Ok(reason.to_owned());
    }
    let sentence = format!("A reason has 1 to {REASON_LETTERS_MAX} characters, in one line.");
    Err(Refusal::invalid("reason", sentence, "Say in a few words why."))
}

fn same_family(address: IpAddr, bind: IpAddr) -> Result<(), Refusal> {
    if address.is_ipv4() == bind.is_ipv4() {
        return Ok(());
    }
    let sentence = format!("{address} cannot be bound as {bind}, which is of the other family.");
    Err(Refusal::invalid("bind", sentence, "Give an address of the same family."))
}

fn ehlo(pattern: &str, address: IpAddr) -> Result<String, Refusal> {
    let dashed: String =
        address.to_string().chars().map(|letter| if letter == '.' || letter == ':' { '-' } else { letter }).collect();
    // `::1` would make a label that begins with a hyphen.
    let dashed = dashed.trim_matches('-');
    let name = pattern.replace("{ip}", dashed);
    Domain::parse(&name).map(|name| name.to_string()).map_err(|error| {
        Refusal::invalid("ehlo", format!("{error}."), "Give a host name, such as mta-{ip}.example.com.")
    })
}

/// Each address, and of a network each host.
fn addresses(written: &[String]) -> Result<Vec<IpAddr>, Refusal> {
    let mut all = Vec::new();
    for text in written {
        let wrong = |what: &str| {
            let text: String = text.chars().filter(|letter| !letter.is_control()).take(60).collect();
            Refusal::invalid("addresses", format!("“{text}” {what}."), "Write 192.0.2.1, 2001:db8::1 or 192.0.2.0/28.")
        };
        let (address, prefix) = match text.trim().split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text.trim(), None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong("is neither an IP address nor a network"))?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(wrong("is no address that mail can leave from"));
        }
        let bits: u32 = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(text) => {
                text.parse().ok().filter(|prefix| *prefix <= bits).ok_or_else(|| wrong("has no such prefix"))?
            }
            None => bits,
        };
        let hosts = bits - prefix;
        if hosts > ADDED_MAX.ilog2() || all.len() + (1usize << hosts) > ADDED_MAX as usize {
            return Err(wrong(&format!("makes more than {ADDED_MAX} addresses in one call")));
        }
        all.extend(network(address, hosts));
    }
    if all.is_empty() {
        return Err(Refusal::invalid("addresses", "No address is given.", "Name at least one."));
    }
    all.sort_unstable();
    match all.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Refusal::invalid("addresses", format!("{} stands there twice.", pair[0]), "Name it once.")),
        None => Ok(all),
    }
}

/// The network's own address and the one for all of it are nobody's, where there are more than two.
fn network(address: IpAddr, hosts: u32) -> Vec<IpAddr> {
    let count = 1u32 << hosts;
    match address {
        IpAddr::V4(address) => {
            let first = u32::from(address) & !(count - 1);
            let all = first..=first + (count - 1);
            all.filter(|at| hosts < 2 || (*at != first && *at != first + (count - 1)))
                .map(|at| Ipv4Addr::from(at).into())
                .collect()
        }
        IpAddr::V6(address) => {
            let first = u128::from(address) & !u128::from(count - 1);
            (0..u128::from(count)).map(|at| Ipv6Addr::from(first + at).into()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Check, Outcome, addresses, ehlo, hop_of, hop_text, unfit};
    use engine::time::Timestamp;
    use std::net::IpAddr;
    use std::time::Duration;

    fn all(written: &[&str]) -> Result<Vec<String>, String> {
        let written: Vec<String> = written.iter().map(ToString::to_string).collect();
        addresses(&written).map(|all| all.iter().map(ToString::to_string).collect()).map_err(|refusal| refusal.sentence)
    }

    #[test]
    fn a_network_is_its_hosts() {
        assert_eq!(all(&["192.0.2.9"]).unwrap(), ["192.0.2.9"]);
        assert_eq!(all(&["192.0.2.5/30"]).unwrap(), ["192.0.2.5", "192.0.2.6"]);
        assert_eq!(all(&["192.0.2.4/31", "192.0.2.1"]).unwrap(), ["192.0.2.1", "192.0.2.4", "192.0.2.5"]);
        assert_eq!(all(&["2001:db8::4/127"]).unwrap(), ["2001:db8::4", "2001:db8::5"]);
        assert_eq!(all(&["10.0.0.0/22"]).unwrap().len(), 1_022);
        for wrong in
            ["", "192.0.2", "192.0.2.0/33", "192.0.2.0/", "0.0.0.0", "224.0.0.1", "10.0.0.0/21", "2001:db8::/64"]
        {
            assert!(all(&[wrong]).is_err(), "{wrong}");
        }
        assert!(all(&["192.0.2.1", "192.0.2.0/30"]).unwrap_err().contains("twice"));
        assert!(all(&[]).is_err());
    }

    #[test]
    fn a_pattern_makes_an_ehlo_name_for_each_address() {
        let name = |address: &str| ehlo("mta-{ip}.example.com", address.parse::<IpAddr>().unwrap()).unwrap();
        assert_eq!(name("192.0.2.1"), "mta-192-0-2-1.example.com");
        assert_eq!(name("2001:db8::1"), "mta-2001-db8--1.example.com");
        assert!(ehlo("not a name", "192.0.2.1".parse().unwrap()).is_err());
        let hop = hop_of("socks5 192.0.2.1:1080").unwrap();
        assert_eq!(hop_text(&hop), "socks5 192.0.2.1:1080");
        assert_eq!(hop_of("carrier pigeon"), None);
    }

    // R3.7
    #[test]
    fn an_ip_is_fit_when_all_checks_are_good_and_fresh() {
        let now = Timestamp::from_unix_seconds(1_000_000);
        let max_age = Duration::from_secs(3_600);
        let check = |outcome, age_s: u64| Check {
            name: "reverse-dns".into(),
            at: now - Duration::from_secs(age_s),
            outcome,
            words: "it says so".into(),
        };
        assert_eq!(unfit(&[check(Outcome::Good, 60)], max_age, now), None);
        assert!(unfit(&[], max_age, now).unwrap().contains("not checked"));
        assert_eq!(unfit(&[check(Outcome::Bad, 0)], max_age, now).unwrap(), "reverse-dns: it says so");
        assert!(unfit(&[check(Outcome::Good, 7_200)], max_age, now).unwrap().contains("too old"));
        assert!(unfit(&[check(Outcome::Good, 0), check(Outcome::Unknown, 0)], max_age, now).is_some());
    }
}
