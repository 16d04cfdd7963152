//! Which IPs send together, and for whom? Pools are made, named, deleted; IPs move between an account's own (R2.6).
//!
//! Here is what a pool is and what stands on it; which IPs there are is `inventory`'s, and who has them is `lease`'s.

use crate::account::{self, DEFAULT_POOL, must_be_seen};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::region;
use crate::relay;
use crate::store::{Change, Columns, Whose, number, q, row, rows, run, run_unless};
use engine::snapshot::{Leaving, PoolKind, relay_address};
use engine::tier::Tier;
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::net::IpAddr;

const POOLS_MAX: i64 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    pub id: String,
    /// None: the operator's.
    pub account: Option<String>,
    pub region: String,
    pub name: String,
    pub kind: PoolKind,
    pub is_default: bool,
    pub overflow: Option<String>,
    pub leaving: Leaving,
    /// The id of another service that takes what finds no place.
    pub relay: Option<String>,
    /// The relay's address among the IPs.
    pub relay_address: Option<IpAddr>,
    /// Mail to whoever read within so many days goes to its warming IPs first.
    pub active_within: Option<u16>,
    /// Of a shared one: for the senders of this tier (R6.4).
    pub tier: Option<Tier>,
    /// Its addresses, where the reader may know them.
    pub ips: Vec<IpAddr>,
    pub revision: i64,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewPool {
    pub region: Option<String>,
    pub name: String,
    pub kind: PoolKind,
    pub overflow: Option<String>,
    pub leaving: Leaving,
    /// By id or name.
    pub relay: Option<String>,
    pub active_within: Option<u16>,
}

#[derive(Clone, Debug, Default)]
pub struct PoolChange {
    pub name: Option<String>,
    /// `Some(None)` takes it away.
    pub overflow: Option<Option<String>>,
    pub leaving: Option<Leaving>,
    /// `Some(None)` takes it away.
    pub relay: Option<Option<String>>,
    /// `Some(None)`: all mail is alike.
    pub active_within: Option<Option<u16>>,
    pub revision: Option<i64>,
}

/// What happens to what stands on a pool that goes.
#[derive(Clone, Debug, Default)]
pub struct PoolEnd {
    /// Where its IPs go; without it a pool that has IPs stays.
    pub move_ips_to: Option<String>,
    /// Sets, subaccounts and pools that use it use none from then on; without it a pool in use stays.
    pub although_used: bool,
}

#[must_use]
pub fn kind_code(kind: PoolKind) -> &'static str {
    match kind {
        PoolKind::Shared => "shared",
        PoolKind::Standard => "standard",
        PoolKind::Managed => "managed",
    }
}

#[must_use]
pub fn kind_of(code: &str) -> Option<PoolKind> {
    [PoolKind::Shared, PoolKind::Standard, PoolKind::Managed].into_iter().find(|kind| kind_code(*kind) == code)
}

fn leaving_code(leaving: Leaving) -> &'static str {
    match leaving {
        Leaving::Shared => "shared",
        Leaving::Never => "never",
        Leaving::Relay => "relay",
    }
}

fn leaving_of(code: &str) -> Leaving {
    match code {
        "shared" => Leaving::Shared,
        "relay" => Leaving::Relay,
        // What cannot be read stays at home.
        _ => Leaving::Never,
    }
}

macro_rules! columns {
    () => {
        "id, account, region, name, kind, is_default, overflow, revision, created_at, leaving, tier, \
         relay, (SELECT number FROM relay WHERE relay.id = pool.relay), active_within"
    };
}

fn read(row: &AnyRow) -> Result<Pool, Refusal> {
    Ok(Pool {
        id: row.text(0)?,
        account: row.text_or_none(1)?,
        region: row.text(2)?,
        name: row.text(3)?,
        // What cannot be read shows nobody its addresses.
        kind: kind_of(&row.text(4)?).unwrap_or(PoolKind::Managed),
        is_default: row.yes(5)?,
        overflow: row.text_or_none(6)?,
        ips: Vec::new(),
        revision: row.whole(7)?,
        created_at: Timestamp(row.whole(8)?),
        leaving: leaving_of(&row.text(9)?),
        tier: row.text_or_none(10)?.as_deref().and_then(Tier::of),
        relay: row.text_or_none(11)?,
        relay_address: row.whole_or_none(12)?.and_then(|number| u32::try_from(number).ok()).map(relay_address),
        active_within: row.whole_or_none(13)?.and_then(|days| u16::try_from(days).ok()),
    })
}

pub(crate) async fn by_id(conn: &mut AnyConnection, id: &str) -> Result<Option<Pool>, Refusal> {
    let query = q!(concat!("SELECT ", columns!(), " FROM pool WHERE id = $1"), id.to_owned());
    row(conn, query).await?.as_ref().map(read).transpose()
}

/// A pool of the account, by id or by name in the region; another's is not there.
pub(crate) async fn own(conn: &mut AnyConnection, account: &str, region: &str, called: &str) -> Result<Pool, Refusal> {
    let query = q!(
        concat!(
            "SELECT ",
            columns!(),
            " FROM pool WHERE account = $1 AND (id = $2 OR (name = $2 AND region = $3)) ORDER BY id LIMIT 1"
        ),
        account.to_owned(),
        called.to_owned(),
        region.to_owned(),
    );
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("pool", called).by_rule("R2.2")),
    }
}

/// Without their IPs.
pub(crate) async fn all(conn: &mut AnyConnection, whose: Whose<'_>) -> Result<Vec<Pool>, Refusal> {
    let query = whose.query(
        concat!("SELECT ", columns!(), " FROM pool"),
        concat!("SELECT ", columns!(), " FROM pool WHERE account = $1"),
    );
    rows(conn, query).await?.iter().map(read).collect()
}

/// The operator's, without their IPs.
pub(crate) async fn shared(conn: &mut AnyConnection) -> Result<Vec<Pool>, Refusal> {
    let query = q!(concat!("SELECT ", columns!(), " FROM pool WHERE account IS NULL"));
    rows(conn, query).await?.iter().map(read).collect()
}

/// R2.8: the addresses of a managed pool are the operator's alone.
fn shows_ips(pool: &Pool, by: &Actor) -> bool {
    pool.kind != PoolKind::Managed || by.is_operator()
}

pub(crate) async fn ips_of(conn: &mut AnyConnection, pool: &str) -> Result<Vec<IpAddr>, Refusal> {
    let found = rows(conn, q!("SELECT address FROM ip WHERE pool = $1 ORDER BY address", pool.to_owned())).await?;
    found.iter().map(|row| Ok(row.text(0)?.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])))).collect()
}

/// What would send from nowhere, or from elsewhere, without this pool.
pub(crate) async fn uses(conn: &mut AnyConnection, pool: &Pool) -> Result<Vec<String>, Refusal> {
    let found = rows(
        conn,
        q!(
            "SELECT 'the configuration set ' || name FROM configuration_set WHERE pool = $1 \
             UNION ALL SELECT 'the subaccount ' || name FROM subaccount WHERE pool = $1 \
             UNION ALL SELECT 'the test drive of ' || set_name FROM test_drive WHERE pool = $1 AND ended_at IS NULL \
             UNION ALL SELECT 'the overflow of the pool ' || name FROM pool WHERE overflow = $1",
            pool.id.clone(),
        ),
    )
    .await?;
    let mut uses: Vec<String> = found.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?;
    uses.sort();
    if pool.is_default {
        uses.insert(0, "the account itself, as its default pool".to_owned());
    }
    Ok(uses)
}

/// The pool loses an IP, and that is its last: not without saying so.
pub(crate) async fn may_lose(
    conn: &mut AnyConnection,
    pool: &Pool,
    leaving: usize,
    although_empty: bool,
) -> Result<(), Refusal> {
    let left = ips_of(conn, &pool.id).await?.len().saturating_sub(leaving);
    if although_empty || left > 0 {
        return Ok(());
    }
    let uses = uses(conn, pool).await?;
    let (used, then) = if uses.is_empty() {
        (String::new(), "Mail that names it would be refused")
    } else if pool.is_default {
        (
            format!(" It is used by {}.", uses.join(", ")),
            "Its mail would go to the shared pool, or be refused on the enterprise plan",
        )
    } else {
        (format!(" It is used by {}.", uses.join(", ")), "Their mail would be refused")
    };
    Err(Refusal::conflict(
        "pool_would_be_empty",
        format!("The pool {} would have no IP left.{used} {then}.", pool.name),
        "Move another IP in first, or say that it may become empty.",
    )
    .at("although_empty")
    .by_rule("R2.6"))
}

fn taken(name: &str) -> Refusal {
    Refusal::conflict("name_taken", format!("There is a pool {name} in this region already."), "Choose another name.")
        .at("name")
}

fn days(within: Option<u16>) -> Result<Option<u16>, Refusal> {
    match within {
        Some(0) | Some(366..) => {
            let sentence = "Recipients were active within 1 to 365 days.";
            Err(Refusal::invalid("active_within", sentence, "Say 30 for about a month."))
        }
        within => Ok(within),
    }
}

/// Nobody is told that mail leaves by a relay that there is none of, or that it never leaves while it does.
fn may_leave(leaving: Leaving, has_relay: bool) -> Result<(), Refusal> {
    let (sentence, mend) = match (leaving, has_relay) {
        (Leaving::Relay, false) => {
            ("Mail cannot leave by a relay where there is none.", "Name a relay of the account.")
        }
        (Leaving::Never, true) => (
            "Mail that never leaves the pool's own IPs needs no relay.",
            "Say shared or relay for where it leaves, or take the relay away.",
        ),
        _ => return Ok(()),
    };
    Err(Refusal::invalid("leaving", sentence, mend))
}

fn overflow_refused(name: &str) -> Refusal {
    Refusal::conflict(
        "overflow_chain",
        format!("The pool {name} has an overflow pool itself, or is one: overflow goes one step, never further."),
        "Choose a pool without an overflow pool.",
    )
    .at("overflow")
    .by_rule("R4.2")
}

impl Office {
    pub async fn create_pool(&self, by: &Actor, account: &str, new: NewPool) -> Result<Pool, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let pool = self.create_pool_in(&mut change, by, &account.id, new).await?;
        change.commit().await?;
        Ok(pool)
    }

    pub(crate) async fn create_pool_in(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &str,
        new: NewPool,
    ) -> Result<Pool, Refusal> {
        let now = self.now();
        match new.kind {
            PoolKind::Shared => {
                return Err(Refusal::invalid("kind", "A shared pool is the operator's.", "Say standard."));
            }
            // R3.8: asked for by a case; what grants it is the operator.
            PoolKind::Managed => by.may_operate()?,
            PoolKind::Standard => {}
        }
        let region = new.region.unwrap_or_else(|| self.home_region().to_string());
        region::must_exist(change.conn(), &region).await?;
        let name = name::pool(&new.name)?;
        if name == DEFAULT_POOL {
            return Err(taken(&name));
        }
        let count = q!("SELECT COUNT(*) FROM pool WHERE account = $1", account.to_owned());
        if number(change.conn(), count).await? >= POOLS_MAX {
            let sentence = format!("The account has {POOLS_MAX} pools, which is as many as it may have.");
            return Err(Refusal::conflict("pools_max", sentence, "Delete one that is not used."));
        }
        let overflow = match new.overflow {
            Some(called) => Some(self.overflow(change, account, &region, &called).await?),
            None => None,
        };
        let relay = match &new.relay {
            Some(called) => Some(relay::own(change.conn(), account, called).await.map_err(|it| it.at("relay"))?),
            None => None,
        };
        may_leave(new.leaving, relay.is_some())?;
        let pool = Pool {
            id: id::fresh("pool"),
            account: Some(account.to_owned()),
            region,
            name,
            kind: new.kind,
            is_default: false,
            overflow,
            leaving: new.leaving,
            relay_address: relay.as_ref().map(|relay| relay.address),
            relay: relay.map(|relay| relay.id),
            active_within: days(new.active_within)?,
            tier: None,
            ips: Vec::new(),
            revision: 1,
            created_at: now,
        };
        let insert = q!(
            "INSERT INTO pool (id, account, region, name, kind, is_default, overflow, revision, created_at, leaving, \
             relay, active_within) VALUES ($1, $2, $3, $4, $5, 0, $6, 1, $7, $8, $9, $10)",
            pool.id.clone(),
            pool.account.clone(),
            pool.region.clone(),
            pool.name.clone(),
            kind_code(pool.kind),
            pool.overflow.clone(),
            now.0,
            leaving_code(pool.leaving),
            pool.relay.clone(),
            pool.active_within.map(i64::from),
        );
        run_unless(change.conn(), insert, || taken(&pool.name)).await?;
        let detail = json!({
            "name": pool.name, "region": pool.region, "kind": kind_code(pool.kind), "overflow": pool.overflow,
            "leaving": leaving_code(pool.leaving), "relay": pool.relay, "active_within": pool.active_within,
        });
        self.write_pool(change, by, &pool, "created", detail).await?;
        Ok(pool)
    }

    /// The operator's further shared pools.
    pub async fn create_shared_pool(
        &self,
        by: &Actor,
        region: &str,
        name: &str,
        tier: Option<Tier>,
    ) -> Result<Pool, Refusal> {
        by.may_operate()?;
        let (name, now) = (name::pool(name)?, self.now());
        let mut change = self.store().change().await?;
        region::must_exist(change.conn(), region).await?;
        let pool = Pool {
            id: id::fresh("pool"),
            account: None,
            region: region.to_owned(),
            name,
            kind: PoolKind::Shared,
            is_default: false,
            overflow: None,
            leaving: Leaving::Shared,
            relay: None,
            relay_address: None,
            active_within: None,
            tier,
            ips: Vec::new(),
            revision: 1,
            created_at: now,
        };
        let insert = q!(
            "INSERT INTO pool (id, account, region, name, kind, is_default, overflow, revision, created_at, tier) \
             VALUES ($1, NULL, $2, $3, 'shared', 0, NULL, 1, $4, $5)",
            pool.id.clone(),
            pool.region.clone(),
            pool.name.clone(),
            now.0,
            tier.map(Tier::code),
        );
        let of_tier =
            q!("SELECT COUNT(*) FROM pool WHERE region = $1 AND tier = $2", region.to_owned(), tier.map(Tier::code));
        if number(change.conn(), of_tier).await? > 0 {
            let sentence = "Another shared pool of this region is for that tier.";
            return Err(Refusal::conflict("tier_taken", sentence, "Put more IPs into that one.")
                .at("tier")
                .by_rule("R6.4"));
        }
        run_unless(change.conn(), insert, || taken(&pool.name)).await?;
        self.write_pool(
            &mut change,
            by,
            &pool,
            "created",
            json!({ "name": pool.name, "region": region, "kind": "shared", "tier": tier.map(Tier::code) }),
        )
        .await?;
        change.commit().await?;
        Ok(pool)
    }

    /// The account's pools, the default one first where it was made first; for the operator without an account, the shared ones.
    pub async fn pools(&self, by: &Actor, account: Option<&str>, window: &Window) -> Result<Page<Pool>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = match account {
            Some(called) => {
                let account = account::find(&mut conn, called).await?;
                by.may_read(&account.id).map_err(|refusal| account::unknown_as_asked(refusal, called))?;
                Some(account.id)
            }
            None => {
                by.may_watch()?;
                None
            }
        };
        macro_rules! statement {
            ($whose:literal) => {
                concat!("SELECT ", columns!(), " FROM pool WHERE ", $whose, " AND id > $1 ORDER BY id LIMIT $2")
            };
        }
        macro_rules! ips {
            ($whose:literal) => {
                concat!(
                    "SELECT i.pool, i.address FROM ip i JOIN pool p ON p.id = i.pool WHERE ",
                    $whose,
                    " ORDER BY i.address"
                )
            };
        }
        let (after, limit) = (window.after_text(), window.fetch());
        let (query, ips) = match account {
            Some(account) => {
                (q!(statement!("account = $3"), after, limit, account.clone()), q!(ips!("p.account = $1"), account))
            }
            None => (q!(statement!("account IS NULL"), after, limit), q!(ips!("p.account IS NULL"))),
        };
        let mut found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        for row in rows(&mut conn, ips).await? {
            let (of, address) = (row.text(0)?, row.text(1)?);
            let pool = found.iter_mut().find(|pool| pool.id == of && shows_ips(pool, by));
            if let (Some(pool), Ok(address)) = (pool, address.parse()) {
                pool.ips.push(address);
            }
        }
        Ok(Page::of(found, window, |pool| pool.id.clone()))
    }

    pub async fn pool(&self, by: &Actor, account: &str, called: &str) -> Result<Pool, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let mut pool = own(&mut conn, &account.id, self.home_region().as_str(), called).await?;
        self.fill(&mut conn, by, &mut pool).await?;
        Ok(pool)
    }

    pub async fn change_pool(&self, by: &Actor, account: &str, called: &str, to: PoolChange) -> Result<Pool, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let was = own(change.conn(), &account.id, self.home_region().as_str(), called).await?;
        must_be_seen("pool", to.revision, was.revision)?;
        let mut is = was.clone();
        if let Some(name) = &to.name
            && *name != was.name
        {
            if was.is_default {
                return Err(Refusal::conflict(
                    "default_pool",
                    "The default pool keeps its name.",
                    "Make another pool with the name you want.",
                )
                .at("name"));
            }
            is.name = name::pool(name)?;
            if is.name == DEFAULT_POOL {
                return Err(taken(&is.name));
            }
        }
        if let Some(overflow) = to.overflow {
            is.overflow = match overflow {
                Some(called) => {
                    let of_others = q!("SELECT COUNT(*) FROM pool WHERE overflow = $1", was.id.clone());
                    if number(change.conn(), of_others).await? > 0 {
                        return Err(overflow_refused(&was.name));
                    }
                    Some(self.overflow(&mut change, &account.id, &was.region, &called).await?)
                }
                None => None,
            };
        }
        is.leaving = to.leaving.unwrap_or(was.leaving);
        if let Some(called) = to.relay {
            let relay = match called {
                Some(called) => {
                    Some(relay::own(change.conn(), &account.id, &called).await.map_err(|it| it.at("relay"))?)
                }
                None => None,
            };
            is.relay_address = relay.as_ref().map(|relay| relay.address);
            is.relay = relay.map(|relay| relay.id);
        }
        may_leave(is.leaving, is.relay.is_some())?;
        if let Some(within) = to.active_within {
            is.active_within = days(within)?;
        }
        if is != was {
            is.revision += 1;
            let update = q!(
                "UPDATE pool SET name = $2, overflow = $3, revision = $4, leaving = $5, relay = $6, active_within = $7 \
                 WHERE id = $1",
                is.id.clone(),
                is.name.clone(),
                is.overflow.clone(),
                is.revision,
                leaving_code(is.leaving),
                is.relay.clone(),
                is.active_within.map(i64::from),
            );
            run_unless(change.conn(), update, || taken(&is.name)).await?;
            let detail = json!({
                "was": { "name": was.name, "overflow": was.overflow, "leaving": leaving_code(was.leaving),
                    "relay": was.relay, "active_within": was.active_within },
                "is": { "name": is.name, "overflow": is.overflow, "leaving": leaving_code(is.leaving),
                    "relay": is.relay, "active_within": is.active_within },
            });
            self.write_pool(&mut change, by, &is, "changed", detail).await?;
        }
        self.fill(change.conn(), by, &mut is).await?;
        change.commit().await?;
        Ok(is)
    }

    /// What is queued from it leaves all the same (R2.4).
    pub async fn delete_pool(&self, by: &Actor, account: &str, called: &str, end: &PoolEnd) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let pool = own(change.conn(), &account.id, self.home_region().as_str(), called).await?;
        if pool.is_default {
            return Err(Refusal::conflict("default_pool", "The default pool cannot be deleted.", "It may be empty.")
                .by_rule("R2.6"));
        }
        let used_by = uses(change.conn(), &pool).await?;
        if !used_by.is_empty() && !end.although_used {
            return Err(Refusal::conflict(
                "pool_in_use",
                format!("The pool {} is used by {}.", pool.name, used_by.join(", ")),
                "Give them another pool first, or say that they may be left without one.",
            )
            .at("although_used")
            .by_rule("R2.6"));
        }
        let ips = ips_of(change.conn(), &pool.id).await?;
        match (&end.move_ips_to, ips.is_empty()) {
            (_, true) => {}
            (None, false) => {
                return Err(Refusal::conflict(
                    "pool_has_ips",
                    format!("The pool {} has {} IPs.", pool.name, ips.len()),
                    "Say where they go, or move them first.",
                )
                .at("move_ips_to")
                .by_rule("R2.6"));
            }
            (Some(called), false) => {
                let target = own(change.conn(), &account.id, &pool.region, called).await?;
                if target.id == pool.id || target.kind != pool.kind {
                    let sentence = format!("The IPs of {} cannot go to {}.", pool.name, target.name);
                    return Err(Refusal::invalid("move_ips_to", sentence, "Name another pool of the same kind."));
                }
                let moved = q!(
                    "UPDATE ip SET pool = $2, revision = revision + 1 WHERE pool = $1",
                    pool.id.clone(),
                    target.id.clone(),
                );
                run(change.conn(), moved).await?;
                for ip in &ips {
                    let detail = json!({ "was": pool.id, "is": target.id });
                    let address = ip.to_string();
                    let line = Line {
                        subject: Subject::Ip,
                        id: &address,
                        account: Some(&account.id),
                        action: "moved",
                        detail,
                    };
                    audit::write(&mut change, by, self.now(), line).await?;
                }
            }
        }
        self.end_drives_of(&mut change, by, &pool.id, "its pool was deleted").await?;
        for left_without in [
            q!("UPDATE configuration_set SET pool = NULL, revision = revision + 1 WHERE pool = $1", pool.id.clone()),
            q!("UPDATE subaccount SET pool = NULL, revision = revision + 1 WHERE pool = $1", pool.id.clone()),
            q!("UPDATE pool SET overflow = NULL, revision = revision + 1 WHERE overflow = $1", pool.id.clone()),
            q!("DELETE FROM pool WHERE id = $1", pool.id.clone()),
        ] {
            run(change.conn(), left_without).await?;
        }
        let detail = json!({ "name": pool.name, "left_without_a_pool": used_by });
        self.write_pool(&mut change, by, &pool, "deleted", detail).await?;
        change.commit().await
    }

    /// R2.6: between an account's own standard pools of one region.
    pub async fn move_ip(
        &self,
        by: &Actor,
        account: &str,
        ip: IpAddr,
        to: &str,
        although_empty: bool,
    ) -> Result<Pool, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_manage).await?;
        let address = ip.to_string();
        let home = q!(
            "SELECT i.pool, i.region FROM ip i JOIN pool p ON p.id = i.pool WHERE i.address = $1 AND p.account = $2",
            address.clone(),
            account.id.clone(),
        );
        // R2.8: another account's IP, and one that is nobody's, are as unknown as one that is not there.
        let unknown = || Refusal::not_found("IP of this account", &address).at("ip").by_rule("R2.8");
        let home = row(change.conn(), home).await?.ok_or_else(unknown)?;
        let (from, region) = (home.text(0)?, home.text(1)?);
        let from = by_id(change.conn(), &from).await?.ok_or_else(unknown)?;
        if from.kind == PoolKind::Managed && !by.is_operator() {
            return Err(unknown());
        }
        let mut target = own(change.conn(), &account.id, &region, to).await.map_err(|refusal| refusal.at("pool"))?;
        if target.region != region {
            let sentence = format!("The IP {ip} is in {region}, the pool {} in {}.", target.name, target.region);
            return Err(Refusal::conflict("other_region", sentence, "An IP stays in its region.").at("pool"));
        }
        if target.kind != from.kind && !by.is_operator() {
            let sentence = format!("The pool {} is arranged by the service.", target.name);
            return Err(Refusal::conflict("managed_pool", sentence, "Name a standard pool.").at("pool"));
        }
        if target.id != from.id {
            may_lose(change.conn(), &from, 1, although_empty).await?;
            let update = q!(
                "UPDATE ip SET pool = $2, revision = revision + 1 WHERE address = $1",
                address.clone(),
                target.id.clone(),
            );
            run(change.conn(), update).await?;
            let detail = json!({ "was": from.id, "is": target.id });
            let line = Line { subject: Subject::Ip, id: &address, account: Some(&account.id), action: "moved", detail };
            audit::write(&mut change, by, self.now(), line).await?;
        }
        self.fill(change.conn(), by, &mut target).await?;
        change.commit().await?;
        Ok(target)
    }

    /// A pool that may take what is too much for another: of the same account and region, or the region's shared one.
    async fn overflow(
        &self,
        change: &mut Change,
        account: &str,
        region: &str,
        called: &str,
    ) -> Result<String, Refusal> {
        let shared = q!(
            "SELECT id FROM pool WHERE account IS NULL AND region = $1 AND (id = $2 OR name = $2) ORDER BY id LIMIT 1",
            region.to_owned(),
            called.to_owned(),
        );
        let pool = match own(change.conn(), account, region, called).await {
            Ok(pool) if pool.region == region => return self.without_overflow(pool),
            Ok(_) => None,
            Err(_) => row(change.conn(), shared).await?,
        };
        match pool {
            Some(row) => row.text(0),
            None => Err(Refusal::not_found("pool", called).at("overflow")),
        }
    }

    fn without_overflow(&self, pool: Pool) -> Result<String, Refusal> {
        if pool.overflow.is_some() { Err(overflow_refused(&pool.name)) } else { Ok(pool.id) }
    }

    /// R2.8: a managed pool's addresses are the operator's alone.
    async fn fill(&self, conn: &mut AnyConnection, by: &Actor, pool: &mut Pool) -> Result<(), Refusal> {
        if shows_ips(pool, by) {
            pool.ips = ips_of(conn, &pool.id).await?;
        }
        Ok(())
    }

    async fn write_pool(
        &self,
        change: &mut Change,
        by: &Actor,
        pool: &Pool,
        action: &'static str,
        detail: serde_json::Value,
    ) -> Result<(), Refusal> {
        let line = Line { subject: Subject::Pool, id: &pool.id, account: pool.account.as_deref(), action, detail };
        audit::write(change, by, self.now(), line).await
    }
}
