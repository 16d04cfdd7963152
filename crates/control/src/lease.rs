//! Who has an IP from when until when? The only link between an account and an IP, and what billing reads.
//!
//! Leases begin by a grant of the operator's or by a purchase (R3.3, R3.4) and end only by a release that was asked for and then
//! confirmed (R3.5).

use crate::account::{self, Account};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::inventory::{self, Ip, Next, State};
use crate::office::Office;
use crate::page::{Page, Window};
use crate::pool::{self, NewPool, Pool};
use crate::price;
use crate::refusal::{Kind, Refusal};
use crate::region;
use crate::setting::{self, Setting};
use crate::store::{Change, Columns, number, q, row, rows, run, run_unless};
use crate::warm_up::{self, WarmUpOrder};
use engine::charge::{CENTS_MAX, Item};
use engine::snapshot::{Leaving, Plan, PoolKind};
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::net::IpAddr;
use std::time::Duration;

/// IPs leased by one call.
const QUANTITY_MAX: u32 = 256;
/// R2.6: a new pool of a purchase is named the SparkPost way.
const PURCHASE_POOL_LETTERS_MAX: usize = 20;
/// How long a release waits for its confirmation.
const CONFIRM_WITHIN: Duration = Duration::from_secs(7 * 86_400);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub id: String,
    pub ip: IpAddr,
    pub account: String,
    pub origin: Origin,
    pub price_cents: i64,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In one step, by the account.
    Purchase,
    /// By the operator.
    Grant,
}

impl Origin {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Origin::Purchase => "purchase",
            Origin::Grant => "grant",
        }
    }
}

/// Where leased IPs go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Into {
    #[default]
    Default,
    /// By id or name.
    Pool(String),
    New(String),
}

#[derive(Clone, Debug)]
pub struct Order {
    pub region: Option<String>,
    pub quantity: u32,
    pub into: Into,
}

#[derive(Clone, Debug)]
pub struct Grant {
    pub order: Order,
    /// These and no others; none: whichever are fit, the longest available first.
    pub ips: Vec<IpAddr>,
    /// What each costs a month, whatever becomes of the prices; none: by the list.
    pub agreed_cents: Option<i64>,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leased {
    pub leases: Vec<Lease>,
    pub pool: Pool,
}

/// A release that waits for its confirmation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleaseRequest {
    pub id: String,
    pub ips: Vec<IpAddr>,
    pub expires_at: Timestamp,
    /// To be shown back; only who asked has it.
    pub token: String,
    pub words: String,
}

macro_rules! columns {
    () => {
        "id, ip, account, origin, price_cents, started_at, ended_at"
    };
}

fn read(row: &AnyRow) -> Result<Lease, Refusal> {
    Ok(Lease {
        id: row.text(0)?,
        ip: row.text(1)?.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])),
        account: row.text(2)?,
        origin: if row.text(3)? == "grant" { Origin::Grant } else { Origin::Purchase },
        price_cents: row.whole(4)?,
        started_at: Timestamp(row.whole(5)?),
        ended_at: row.whole_or_none(6)?.map(Timestamp),
    })
}

impl Office {
    /// R3.4: in one step, under the plan's conditions.
    pub async fn purchase(&self, by: &Actor, account: &str, order: &Order) -> Result<Leased, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_own).await?;
        may_purchase(change.conn(), &account, order.quantity).await?;
        if let Into::New(name) = &order.into {
            sparkpost_name(name)?;
        }
        let leased = self.lease(&mut change, by, &account, order, &[], (Origin::Purchase, None)).await?;
        change.commit().await?;
        Ok(leased)
    }

    /// R3.3: what the operator grants.
    pub async fn grant(&self, by: &Actor, account: &str, grant: &Grant) -> Result<Leased, Refusal> {
        let mut change = self.store().change().await?;
        let leased = self.grant_in(&mut change, by, account, grant).await?;
        change.commit().await?;
        Ok(leased)
    }

    pub(crate) async fn grant_in(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &str,
        grant: &Grant,
    ) -> Result<Leased, Refusal> {
        by.may_operate()?;
        let account = account::find(change.conn(), account).await?;
        if grant.agreed_cents.is_some_and(|cents| !(0..=CENTS_MAX).contains(&cents)) {
            let sentence = "A price is from 0 to 1,000,000.00.";
            return Err(Refusal::invalid("agreed_price", sentence, "Write it such as 24.95."));
        }
        self.lease(change, by, &account, &grant.order, &grant.ips, (Origin::Grant, grant.agreed_cents)).await
    }

    /// The plan: which pool, which IPs; a lease for each, and each into the pool. All of it or nothing.
    async fn lease(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &Account,
        order: &Order,
        wanted: &[IpAddr],
        (origin, agreed): (Origin, Option<i64>),
    ) -> Result<Leased, Refusal> {
        let now = self.now();
        let region = order.region.clone().unwrap_or_else(|| self.home_region().to_string());
        region::must_exist(change.conn(), &region).await?;
        let quantity = if wanted.is_empty() { order.quantity } else { u32::try_from(wanted.len()).unwrap_or(u32::MAX) };
        if !(1..=QUANTITY_MAX).contains(&quantity) {
            let sentence = format!("From 1 to {QUANTITY_MAX} IPs are leased by one call.");
            return Err(Refusal::invalid("quantity", sentence, "Give a number in that range."));
        }
        let mut pool = self.target(change, by, account, &region, &order.into, origin).await?;
        let ips = fit(change.conn(), &region, quantity, wanted, now).await?;
        let item = match (pool.kind, origin) {
            (PoolKind::Managed, _) => Item::ManagedIp,
            (_, Origin::Purchase) => Item::Purchase,
            (_, Origin::Grant) => Item::Standard,
        };
        let price_cents = match agreed {
            Some(cents) => cents,
            None => price::of_month(change.conn(), item, account.plan, &region, now.day()).await?,
        };
        // Its name stands on invoices also when it is gone.
        let managed = (item == Item::ManagedIp).then(|| (pool.id.clone(), pool.name.clone()));
        let mut leases = Vec::with_capacity(ips.len());
        for ip in ips {
            let lease = Lease {
                id: id::fresh("lease"),
                ip: ip.address,
                account: account.id.clone(),
                origin,
                price_cents,
                started_at: now,
                ended_at: None,
            };
            let insert = q!(
                "INSERT INTO lease (id, ip, account, origin, price_cents, started_at, item, pool, pool_name, agreed_cents) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                lease.id.clone(),
                lease.ip.to_string(),
                lease.account.clone(),
                origin.code(),
                price_cents,
                now.0,
                item.code(),
                managed.as_ref().map(|(id, _)| id.clone()),
                managed.as_ref().map(|(_, name)| name.clone()),
                agreed,
            );
            // R3.6: whatever runs at once, the database says no to a second one.
            run_unless(change.conn(), insert, || {
                Refusal::conflict("ip_taken", format!("The IP {} is leased already.", lease.ip), "Choose another.")
                    .by_rule("R3.6")
            })
            .await?;
            let reason = format!("leased to {}", account.name);
            let next = Next::into_pool(State::Leased, &pool.id, &reason);
            inventory::put_state(change, by, now, lease.ip, next).await?;
            // R4.1: a new IP is one that nobody knows. In a managed pool it learns what each provider bears (R4.3).
            let order =
                WarmUpOrder::Start { schedule: (pool.kind == PoolKind::Managed).then(|| warm_up::LEARNING.to_owned()) };
            let warm_up = account
                .warms_up
                .then(|| warm_up::follow(None, &order, (self.schedules(), self.schedule()), now))
                .transpose()?;
            warm_up::put(change, lease.ip, warm_up.as_ref()).await?;
            let detail = json!({
                "ip": lease.ip, "region": region, "pool": pool.id, "origin": origin.code(), "price_cents": price_cents,
            });
            let line =
                Line { subject: Subject::Lease, id: &lease.id, account: Some(&account.id), action: "started", detail };
            audit::write(change, by, now, line).await?;
            let ip = inventory::find(change.conn(), lease.ip).await?;
            self.write_ip(change, by, &ip, "leased", json!({ "pool": pool.id })).await?;
            leases.push(lease);
        }
        pool.ips = pool::ips_of(change.conn(), &pool.id).await?;
        Ok(Leased { leases, pool })
    }

    async fn target(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &Account,
        region: &str,
        into: &Into,
        origin: Origin,
    ) -> Result<Pool, Refusal> {
        let pool = match into {
            Into::Default => {
                let id = account::default_pool(change, &account.id, region, self.now()).await?;
                pool::own(change.conn(), &account.id, region, &id).await?
            }
            Into::Pool(called) => {
                pool::own(change.conn(), &account.id, region, called).await.map_err(|refusal| refusal.at("pool"))?
            }
            Into::New(name) => {
                let new = NewPool {
                    region: Some(region.to_owned()),
                    name: name.clone(),
                    kind: PoolKind::Standard,
                    overflow: None,
                    leaving: Leaving::Shared,
                    relay: None,
                    active_within: None,
                };
                self.create_pool_in(change, by, &account.id, new).await.map_err(|refusal| refusal.at("new_pool"))?
            }
        };
        if pool.region != region {
            let sentence = format!("The pool {} is in {}, the IPs are to be in {region}.", pool.name, pool.region);
            return Err(Refusal::conflict("other_region", sentence, "Name a pool of that region.").at("pool"));
        }
        if pool.kind == PoolKind::Managed && origin == Origin::Purchase {
            let sentence = format!("The pool {} is arranged by the service.", pool.name);
            return Err(Refusal::conflict("managed_pool", sentence, "Name a standard pool.").at("pool"));
        }
        Ok(pool)
    }

    /// R3.5, first step: nothing happens yet but that a confirmation is asked for.
    pub async fn ask_release(
        &self,
        by: &Actor,
        account: &str,
        ips: &[IpAddr],
        although_empty: bool,
    ) -> Result<ReleaseRequest, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_own).await?;
        let request = self.ask_release_in(&mut change, by, &account, ips, although_empty).await?;
        change.commit().await?;
        Ok(request)
    }

    pub(crate) async fn ask_release_in(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &Account,
        ips: &[IpAddr],
        although_empty: bool,
    ) -> Result<ReleaseRequest, Refusal> {
        let now = self.now();
        let leases = self.releasable(change, by, account, ips, although_empty).await?;
        let token = id::secret("release").map_err(|fault| no_randomness(&fault))?;
        let request = ReleaseRequest {
            id: id::fresh("release"),
            ips: leases.iter().map(|lease| lease.ip).collect(),
            expires_at: now + CONFIRM_WITHIN,
            words: release_words(&leases),
            token,
        };
        let ids: Vec<&str> = leases.iter().map(|lease| lease.id.as_str()).collect();
        let insert = q!(
            "INSERT INTO release_request (id, account, leases, although_empty, digest, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
            request.id.clone(),
            account.id.clone(),
            ids.join(" "),
            i64::from(although_empty),
            id::digest_of(&request.token).to_vec(),
            now.0,
            request.expires_at.0,
        );
        run(change.conn(), insert).await?;
        for lease in &leases {
            let detail = json!({ "ip": lease.ip, "request": request.id });
            let line = Line {
                subject: Subject::Lease,
                id: &lease.id,
                account: Some(&account.id),
                action: "release-asked",
                detail,
            };
            audit::write(change, by, now, line).await?;
        }
        Ok(request)
    }

    /// The IPs that an account knows the least from, which it gives back first when it says how many: those leased last.
    pub(crate) async fn newest_leased(
        &self,
        conn: &mut AnyConnection,
        account: &str,
        region: &str,
        quantity: u32,
    ) -> Result<Vec<IpAddr>, Refusal> {
        let query = q!(
            "SELECT l.ip FROM lease l JOIN ip i ON i.address = l.ip JOIN pool p ON p.id = i.pool \
             WHERE l.account = $1 AND l.ended_at IS NULL AND i.region = $2 AND p.kind = 'standard' \
             ORDER BY l.started_at DESC, l.id DESC LIMIT $3",
            account.to_owned(),
            region.to_owned(),
            i64::from(quantity),
        );
        let found = rows(conn, query).await?;
        found.iter().map(|row| Ok(row.text(0)?.parse().unwrap_or(IpAddr::from([0, 0, 0, 0])))).collect()
    }

    /// How many IPs could be handed out in this region now.
    pub(crate) async fn fit_ips(
        &self,
        conn: &mut AnyConnection,
        region: &str,
        quantity: u32,
    ) -> Result<Vec<IpAddr>, Refusal> {
        let found = available(conn, region, quantity, self.now()).await?;
        Ok(found.ips.into_iter().map(|ip| ip.address).collect())
    }

    /// R3.5, second step: it can't be undone. The IPs take no new mail, and drain (R2.4).
    pub async fn confirm_release(
        &self,
        by: &Actor,
        account: &str,
        request: &str,
        token: &str,
    ) -> Result<Vec<Lease>, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_own).await?;
        let query = q!(
            "SELECT digest FROM release_request WHERE id = $1 AND account = $2",
            request.to_owned(),
            account.id.clone(),
        );
        let unknown = || Refusal::not_found("release that waits for confirmation", request);
        let found = row(change.conn(), query).await?.ok_or_else(unknown)?;
        if found.octets(0)? != id::digest_of(token) {
            let sentence = "This is not the token of that release.";
            return Err(Refusal::invalid("token", sentence, "Show the token that the request was answered with."));
        }
        let ended = self.confirm_release_in(&mut change, by, &account.id, request).await?;
        change.commit().await?;
        Ok(ended)
    }

    /// By whoever has shown to be who asked for it.
    pub(crate) async fn confirm_release_in(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &str,
        request: &str,
    ) -> Result<Vec<Lease>, Refusal> {
        let now = self.now();
        let query = q!(
            "SELECT leases, account, expires_at, confirmed_at, although_empty FROM release_request WHERE id = $1 AND account = $2",
            request.to_owned(),
            account.to_owned(),
        );
        let unknown = || Refusal::not_found("release that waits for confirmation", request);
        let found = row(change.conn(), query).await?.ok_or_else(unknown)?;
        if found.whole_or_none(3)?.is_some() {
            return Err(Refusal::conflict(
                "confirmed_already",
                "This release is confirmed already.",
                "There is nothing to do.",
            ));
        }
        if Timestamp(found.whole(2)?) <= now {
            let sentence = "This release was not confirmed in time.";
            return Err(Refusal::conflict("too_late", sentence, "Ask for it again."));
        }
        let mut leases = Vec::new();
        for lease in found.text(0)?.split(' ') {
            let query =
                q!(concat!("SELECT ", columns!(), " FROM lease WHERE id = $1 AND ended_at IS NULL"), lease.to_owned(),);
            // One that was given back meanwhile by another request is not there any more.
            leases.extend(row(change.conn(), query).await?.as_ref().map(read).transpose()?);
        }
        // The pools may have changed since: what would empty one now was not agreed to.
        self.pools_may_lose(change, by, &leases, found.yes(4)?).await?;
        let mut ended = Vec::with_capacity(leases.len());
        for lease in leases {
            ended.push(self.end_lease(change, by, lease).await?);
        }
        let update = q!("UPDATE release_request SET confirmed_at = $2 WHERE id = $1", request.to_owned(), now.0);
        run(change.conn(), update).await?;
        Ok(ended)
    }

    /// R6.5: of a managed pool, which Weir arranges: the one that came last knows the fewest.
    pub(crate) async fn give_back_newest(&self, change: &mut Change, by: &Actor, pool: &str) -> Result<(), Refusal> {
        let query = q!(
            "SELECT l.id, l.ip, l.account, l.origin, l.price_cents, l.started_at, l.ended_at FROM lease l \
             JOIN ip i ON i.address = l.ip WHERE i.pool = $1 AND l.ended_at IS NULL ORDER BY l.started_at DESC, l.ip DESC LIMIT 1",
            pool.to_owned(),
        );
        if let Some(row) = row(change.conn(), query).await? {
            self.end_lease(change, by, read(&row)?).await?;
        }
        Ok(())
    }

    async fn end_lease(&self, change: &mut Change, by: &Actor, lease: Lease) -> Result<Lease, Refusal> {
        // A lease that ends in the microsecond of its start has still been one.
        let now = self.now().max(lease.started_at);
        let ip = inventory::find(change.conn(), lease.ip).await?;
        let reason = "given back; what is queued on it still leaves from it";
        inventory::put_state(change, by, now, lease.ip, Next::state(State::Draining, reason)).await?;
        run(change.conn(), q!("UPDATE lease SET ended_at = $2 WHERE id = $1", lease.id.clone(), now.0)).await?;
        let detail = json!({ "ip": lease.ip, "pool_was": ip.pool });
        let line =
            Line { subject: Subject::Lease, id: &lease.id, account: Some(&lease.account), action: "ended", detail };
        audit::write(change, by, now, line).await?;
        self.write_ip(change, by, &ip, "given-back", json!({ "pool_was": ip.pool })).await?;
        Ok(Lease { ended_at: Some(now), ..lease })
    }

    /// Running ones first come first; ended ones too, for what they cost.
    pub async fn leases(
        &self,
        by: &Actor,
        account: Option<&str>,
        running_only: bool,
        window: &Window,
    ) -> Result<Page<Lease>, Refusal> {
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
        // R2.8: the addresses of managed pools are the operator's; leases that would name one are left out.
        macro_rules! statement {
            ($whose:literal) => {
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM lease WHERE id > $1 AND ($2 = 0 OR ended_at IS NULL) AND ($3 = 1 OR NOT EXISTS (\
                     SELECT 1 FROM ip i JOIN pool p ON p.id = i.pool WHERE i.address = lease.ip AND p.kind = 'managed'))",
                    $whose,
                    " ORDER BY id LIMIT $4"
                )
            };
        }
        let (after, limit) = (window.after_text(), window.fetch());
        let (running, all_kinds) = (i64::from(running_only), i64::from(by.is_operator()));
        let query = match account {
            Some(account) => q!(statement!(" AND account = $5"), after, running, all_kinds, limit, account),
            None => q!(statement!(""), after, running, all_kinds, limit),
        };
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |lease| lease.id.clone()))
    }

    /// The running leases of these IPs, which the account may give back, pools' last ones only when it says so.
    async fn releasable(
        &self,
        change: &mut Change,
        by: &Actor,
        account: &Account,
        ips: &[IpAddr],
        although_empty: bool,
    ) -> Result<Vec<Lease>, Refusal> {
        if ips.is_empty() || ips.len() > QUANTITY_MAX as usize {
            let sentence = format!("From 1 to {QUANTITY_MAX} IPs are given back by one call.");
            return Err(Refusal::invalid("ips", sentence, "Name the IPs."));
        }
        let mut leases: Vec<Lease> = Vec::with_capacity(ips.len());
        for ip in ips {
            let query = q!(
                concat!("SELECT ", columns!(), " FROM lease WHERE ip = $1 AND account = $2 AND ended_at IS NULL"),
                ip.to_string(),
                account.id.clone(),
            );
            let lease = read(&row(change.conn(), query).await?.ok_or_else(|| not_held(*ip))?)?;
            if leases.iter().any(|known| known.id == lease.id) {
                return Err(Refusal::invalid("ips", format!("{ip} stands there twice."), "Name it once."));
            }
            leases.push(lease);
        }
        self.pools_may_lose(change, by, &leases, although_empty).await?;
        Ok(leases)
    }

    async fn pools_may_lose(
        &self,
        change: &mut Change,
        by: &Actor,
        leases: &[Lease],
        although_empty: bool,
    ) -> Result<(), Refusal> {
        let mut leaving: Vec<(Pool, usize)> = Vec::new();
        for lease in leases {
            let Some(id) = inventory::find(change.conn(), lease.ip).await?.pool else { continue };
            let Some(pool) = pool::by_id(change.conn(), &id).await? else { continue };
            if pool.kind == PoolKind::Managed && !by.is_operator() {
                return Err(not_held(lease.ip));
            }
            match leaving.iter_mut().find(|(known, _)| known.id == pool.id) {
                Some((_, count)) => *count += 1,
                None => leaving.push((pool, 1)),
            }
        }
        for (pool, count) in &leaving {
            pool::may_lose(change.conn(), pool, *count, although_empty).await?;
        }
        Ok(())
    }
}

/// R2.8: another account's, a managed pool's and one that is nobody's are all as unknown as one that is not there.
fn not_held(ip: IpAddr) -> Refusal {
    Refusal::not_found("IP of this account", &ip.to_string()).at("ips").by_rule("R2.8")
}

/// R3.4: a free account needs a payment method; a standard one holds so many; enterprise has no limit.
async fn may_purchase(conn: &mut AnyConnection, account: &Account, quantity: u32) -> Result<(), Refusal> {
    if account.plan == Plan::Free && !account.has_payment_method {
        return Err(Refusal::forbidden(
            "payment_method_needed",
            "An account of the free plan without a payment method cannot have dedicated IPs.",
            "Add a payment method, or change the plan.",
        )
        .by_rule("R3.4"));
    }
    if account.plan == Plan::Enterprise {
        return Ok(());
    }
    let max = setting::value(conn, Setting::DedicatedIpsMax).await?;
    let count = q!("SELECT COUNT(*) FROM lease WHERE account = $1 AND ended_at IS NULL", account.id.clone());
    let held = number(conn, count).await?;
    if held + i64::from(quantity) <= max {
        return Ok(());
    }
    Err(Refusal::conflict(
        "dedicated_ips_max",
        format!("The account holds {held} dedicated IPs and wants {quantity} more; its plan allows {max} at a time."),
        "Take fewer, give some back, or ask for the enterprise plan.",
    )
    .at("quantity")
    .by_rule("R3.4"))
}

/// IPs that can be handed out, the longest available first: they have cooled the most.
async fn fit(
    conn: &mut AnyConnection,
    region: &str,
    quantity: u32,
    wanted: &[IpAddr],
    now: Timestamp,
) -> Result<Vec<Ip>, Refusal> {
    let checked = setting::value(conn, Setting::ChecksRequired).await? != 0;
    let hours = setting::value(conn, Setting::CheckMaxAgeHours).await?;
    let max_age = Duration::from_secs(u64::try_from(hours).unwrap_or(0) * 3_600);
    if !wanted.is_empty() {
        let mut ips = Vec::with_capacity(wanted.len());
        for address in wanted {
            let ip = inventory::find(conn, *address).await.map_err(|refusal| refusal.at("ips"))?;
            if ip.region != region || ip.state != State::Available {
                let sentence = format!("The IP {address} is {} in {}.", ip.state.code(), ip.region);
                return Err(Refusal::conflict("ip_taken", sentence, "Choose one that is available in that region.")
                    .at("ips")
                    .by_rule("R3.6"));
            }
            if checked && let Some(why) = inventory::unfit(&inventory::checks(conn, *address).await?, max_age, now) {
                return Err(not_fit(*address, &why));
            }
            ips.push(ip);
        }
        return Ok(ips);
    }
    let Available { ips, all, passed_over } = available(conn, region, quantity, now).await?;
    if ips.len() == quantity as usize {
        return Ok(ips);
    }
    let found = ips.len();
    let because = match passed_over {
        Some((address, why)) => format!(" {} more are available and not fit, such as {address}: {why}.", all - found),
        None => String::new(),
    };
    Err(Refusal::conflict(
        "too_few_ips",
        format!("{quantity} IPs are wanted in {region}, {found} can be handed out.{because}"),
        "Take fewer, or ask the operator to add some.",
    )
    .at("quantity")
    .by_rule("R3.7"))
}

/// Up to so many IPs that can be handed out, how many are available, and the first that is not fit and why.
struct Available {
    ips: Vec<Ip>,
    all: usize,
    passed_over: Option<(IpAddr, String)>,
}

async fn available(
    conn: &mut AnyConnection,
    region: &str,
    quantity: u32,
    now: Timestamp,
) -> Result<Available, Refusal> {
    let checked = setting::value(conn, Setting::ChecksRequired).await? != 0;
    let hours = setting::value(conn, Setting::CheckMaxAgeHours).await?;
    let max_age = Duration::from_secs(u64::try_from(hours).unwrap_or(0) * 3_600);
    let query = q!(
        "SELECT address FROM ip WHERE region = $1 AND state = 'available' ORDER BY state_since, address",
        region.to_owned(),
    );
    let all = rows(conn, query).await?;
    let (mut ips, mut passed_over) = (Vec::new(), None);
    for row in &all {
        if ips.len() == quantity as usize {
            break;
        }
        let Ok(address) = row.text(0)?.parse::<IpAddr>() else { continue };
        if checked && let Some(why) = inventory::unfit(&inventory::checks(conn, address).await?, max_age, now) {
            passed_over.get_or_insert((address, why));
            continue;
        }
        ips.push(inventory::find(conn, address).await?);
    }
    Ok(Available { ips, all: all.len(), passed_over })
}

fn not_fit(address: IpAddr, why: &str) -> Refusal {
    Refusal::conflict(
        "ip_not_fit",
        format!("The IP {address} cannot be handed out: {why}."),
        "Mend what its check names and check it again.",
    )
    .at("ips")
    .by_rule("R3.7")
}

fn sparkpost_name(name: &str) -> Result<(), Refusal> {
    if (1..=PURCHASE_POOL_LETTERS_MAX).contains(&name.len()) && name.bytes().all(|octet| octet.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    let sentence = format!("A new pool's name has 1 to {PURCHASE_POOL_LETTERS_MAX} letters and digits.");
    Err(Refusal::invalid("new_pool", sentence, "Choose a shorter, plain name.").by_rule("R2.6"))
}

fn release_words(leases: &[Lease]) -> String {
    let ips: Vec<String> = leases.iter().map(|lease| lease.ip.to_string()).collect();
    format!(
        "You are about to give back {}. This cannot be undone: the reputation built on {} is lost to you, and you may not get the \
         same {} again. What is queued still leaves from there. The charge ends with today, by the day. Confirm it to go on.",
        ips.join(", "),
        if ips.len() == 1 { "it" } else { "them" },
        if ips.len() == 1 { "address" } else { "addresses" },
    )
}

fn no_randomness(fault: &crate::seal::SealFault) -> Refusal {
    tracing::error!(%fault, "a secret could not be made");
    Refusal::new(Kind::Unavailable, "no_randomness", "No secret can be made at this moment.", "Try again in a moment.")
}
