//! How many IPs has a managed pool, how many does it need, and who decides? (R3.8, R6.5)
//!
//! Once a day `engine::scale` is asked about each, by what was sent from it. What it says is carried out, or proposed to the operator
//! where the pool is set so, and written down with its figures. A tenant sees all of it but the addresses.

use crate::account::{self, Account, Standing};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::domain;
use crate::incident::PROVIDERS;
use crate::lease::{Grant, Into, Order};
use crate::office::Office;
use crate::pool::{self, Pool};
use crate::refusal::Refusal;
use crate::statistics::{Dimension, Question};
use crate::store::{Change, Columns, number, q, row, rows, run};
use engine::counts::Grain;
use engine::fit::{self, Known, Point, Wish};
use engine::scale::{self, Bounds, Decided, Decision};
use engine::snapshot::{Plan, PoolKind};
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);
/// More than any pool needs is a slip.
const IPS_MOST: u32 = 256;
const SHOWN: i64 = 60;
const NOT_TO_BE_HAD: &str = "It could not be done at this time; the operator knows why.";
/// Of how many days the share on its own IPs is told.
const SHARE_DAYS: u32 = 7;

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to do.
    Kept,
    Done,
    /// It waits for the operator.
    Proposed,
    Refused,
    /// It could not be done, and is tried anew on the next day.
    Failed,
    /// A later day decided anew.
    Outdated,
}

const OUTCOMES: [Outcome; 6] =
    [Outcome::Kept, Outcome::Done, Outcome::Proposed, Outcome::Refused, Outcome::Failed, Outcome::Outdated];

impl Outcome {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Outcome::Kept => "kept",
            Outcome::Done => "done",
            Outcome::Proposed => "proposed",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
            Outcome::Outdated => "outdated",
        }
    }
}

/// One day's decision, with its figures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaling {
    pub id: i64,
    pub pool: String,
    pub at: Timestamp,
    /// So many more, or fewer.
    pub change: i64,
    pub ips: i64,
    pub needed: i64,
    pub provider: Option<String>,
    pub busy_day: i64,
    pub per_ip: i64,
    pub words: String,
    pub outcome: Outcome,
    /// Why it failed.
    pub said: Option<String>,
    /// Who approved or refused it.
    pub by: Option<String>,
}

/// What was sent to a provider on a usual day lately, and what the pool carries to it when all of its IPs are warm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderUse {
    pub provider: Arc<str>,
    pub sent_per_day: u64,
    pub carries_per_day: u64,
}

/// A managed pool as its tenant sees it, and its addresses for who may ask the data plane about them.
#[derive(Clone, Debug, PartialEq)]
pub struct Managed {
    pub pool: Pool,
    pub bounds: Bounds,
    /// Whether the operator is asked first.
    pub asks: bool,
    pub ips: Vec<IpAddr>,
    /// Of the last days' mail, how much left from its own IPs.
    pub sent: u64,
    pub sent_on_own: u64,
    pub providers: Vec<ProviderUse>,
    /// Newest first.
    pub decisions: Vec<Scaling>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct BoundsChange {
    pub ips_min: Option<u32>,
    pub ips_max: Option<u32>,
    pub asks: Option<bool>,
}

/// Whether a managed pool is right for an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fit {
    pub requirements: Vec<Point>,
    pub advice: Vec<Point>,
}

/// What an account asks for.
#[derive(Clone, Debug)]
pub struct FitQuestion {
    pub per_day: u64,
    pub per_month: u64,
    pub is_steady: bool,
    pub domains: Vec<String>,
    pub regions: Vec<String>,
    pub needs_addresses: bool,
}

macro_rules! columns {
    () => {
        "id, pool, at, change, ips, needed, provider, busy_day, per_ip, words, outcome, said, decided_by"
    };
}

fn read(row: &AnyRow) -> Result<Scaling, Refusal> {
    let outcome = row.text(10)?;
    Ok(Scaling {
        id: row.whole(0)?,
        pool: row.text(1)?,
        at: Timestamp(row.whole(2)?),
        change: row.whole(3)?,
        ips: row.whole(4)?,
        needed: row.whole(5)?,
        provider: row.text_or_none(6)?,
        busy_day: row.whole(7)?,
        per_ip: row.whole(8)?,
        words: row.text(9)?,
        outcome: OUTCOMES.into_iter().find(|known| known.code() == outcome).unwrap_or(Outcome::Outdated),
        said: row.text_or_none(11)?,
        by: row.text_or_none(12)?,
    })
}

/// What stands beside a pool.
struct Kept {
    bounds: Bounds,
    asks: bool,
    /// Days from 1970 on which there were more IPs for the last time.
    grown_on: i64,
}

async fn kept(conn: &mut AnyConnection, pool: &str) -> Result<Kept, Refusal> {
    let query = q!("SELECT ips_min, ips_max, asks, grown_on FROM pool WHERE id = $1", pool.to_owned());
    let row = row(conn, query).await?.ok_or_else(|| Refusal::not_found("pool", pool))?;
    let count = |at| Ok::<u32, Refusal>(u32::try_from(row.whole(at)?).unwrap_or(0));
    Ok(Kept { bounds: Bounds { ips_min: count(0)?, ips_max: count(1)? }, asks: row.yes(2)?, grown_on: row.whole(3)? })
}

fn carries(provider: &str) -> u64 {
    PROVIDERS.rules_of(provider).warm_up.slow_from
}

/// What the others have is for their account to arrange.
fn not_managed(pool: &Pool) -> Refusal {
    Refusal::not_found("managed pool", &pool.name).by_rule("R3.8")
}

impl Office {
    /// Decides about every managed pool about which nothing was decided today; how many it was.
    pub async fn scale_pools(&self) -> Result<usize, Refusal> {
        let mut conn = self.store().read().await?;
        let query = q!("SELECT id FROM pool WHERE kind = 'managed' AND scaled_on < $1 ORDER BY id", self.now().day());
        let due = rows(&mut conn, query).await?;
        drop(conn);
        for row in &due {
            self.scale_pool(&row.text(0)?).await?;
        }
        Ok(due.len())
    }

    /// What was sent from the pool on each whole day that it was there, oldest first.
    async fn days_of_pool(&self, pool: &Pool) -> Result<Vec<scale::Day>, Refusal> {
        let asked = Question { pool: Some(pool.id.clone()), ..Question::default() };
        let mut days = self.days(asked, Grain::Day, None).await?;
        days.pop();
        let age = usize::try_from(self.now().day() - pool.created_at.day()).unwrap_or(0);
        let begin = days.len().saturating_sub(age);
        let sent = |day: &engine::reputation::Day| {
            day.iter().map(|(provider, outcomes)| (Arc::clone(provider), outcomes.sent())).collect()
        };
        Ok(days[begin..].iter().map(sent).collect())
    }

    async fn scale_pool(&self, id: &str) -> Result<(), Refusal> {
        let mut conn = self.store().read().await?;
        let Some(pool) = pool::by_id(&mut conn, id).await? else { return Ok(()) };
        let (kept, ips) = (kept(&mut conn, id).await?, pool::ips_of(&mut conn, id).await?);
        drop(conn);
        let days = self.days_of_pool(&pool).await?;
        let today = self.now().day();
        let since_grown = u32::try_from(today - kept.grown_on).unwrap_or(u32::MAX);
        let count = u32::try_from(ips.len()).unwrap_or(u32::MAX);
        let decided = scale::decide(&days, count, since_grown, kept.bounds, &carries);
        let mut change = self.store().change().await?;
        let update = q!("UPDATE pool SET scaled_on = $2 WHERE id = $1 AND scaled_on < $2", pool.id.clone(), today,);
        if run(change.conn(), update).await? == 0 {
            // Another process was faster.
            return Ok(());
        }
        let outdate =
            q!("UPDATE scaling SET outcome = 'outdated' WHERE pool = $1 AND outcome = 'proposed'", pool.id.clone());
        run(change.conn(), outdate).await?;
        let outcome = match decided.decision {
            Decision::Keep => Outcome::Kept,
            _ if kept.asks => Outcome::Proposed,
            // Until it is done.
            _ => Outcome::Failed,
        };
        let scaling = self.note_scaling(&mut change, &pool, &decided, outcome).await?;
        change.commit().await?;
        if outcome == Outcome::Failed { self.carry_out(&Actor::service(), &pool, &scaling).await } else { Ok(()) }
    }

    async fn note_scaling(
        &self,
        change: &mut Change,
        pool: &Pool,
        decided: &Decided,
        outcome: Outcome,
    ) -> Result<Scaling, Refusal> {
        let by = match decided.decision {
            Decision::Keep => 0,
            Decision::Add(more) => i64::from(more),
            Decision::Remove => -1,
        };
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let insert = q!(
            "INSERT INTO scaling (pool, at, change, ips, needed, provider, busy_day, per_ip, words, outcome) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) RETURNING id",
            pool.id.clone(),
            self.now().0,
            by,
            i64::from(decided.ips),
            i64::from(decided.needed),
            decided.provider.as_deref().map(str::to_owned),
            whole(decided.busy_day),
            whole(decided.per_ip),
            decided.words(),
            outcome.code(),
        );
        let id = number(change.conn(), insert).await?;
        scaling(change.conn(), id).await
    }

    /// Leases or gives back, and writes down that it did, in one change; or why it could not.
    async fn carry_out(&self, by: &Actor, pool: &Pool, scaling: &Scaling) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        match self.lease_or_give_back(&mut change, by, pool, scaling).await {
            Ok(()) => {
                if scaling.change > 0 {
                    let update = q!("UPDATE pool SET grown_on = $2 WHERE id = $1", pool.id.clone(), self.now().day());
                    run(change.conn(), update).await?;
                }
                tracing::info!(pool = pool.id, change = scaling.change, "{}", scaling.words);
                self.note_outcome(change, by, pool, scaling, (Outcome::Done, None)).await
            }
            Err(refusal) => {
                drop(change);
                tracing::warn!(pool = pool.id, "{}, and it could not be done: {}", scaling.words, refusal.sentence);
                let change = self.store().change().await?;
                self.note_outcome(change, by, pool, scaling, (Outcome::Failed, Some(refusal.sentence))).await
            }
        }
    }

    async fn lease_or_give_back(
        &self,
        change: &mut Change,
        by: &Actor,
        pool: &Pool,
        scaling: &Scaling,
    ) -> Result<(), Refusal> {
        let Ok(quantity) = u32::try_from(scaling.change) else {
            return self.give_back_newest(change, by, &pool.id).await;
        };
        let order = Order { region: Some(pool.region.clone()), quantity, into: Into::Pool(pool.id.clone()) };
        let grant = Grant { order, ips: Vec::new(), agreed_cents: None };
        self.grant_in(change, by, pool.account.as_deref().unwrap_or_default(), &grant).await.map(|_| ())
    }

    async fn note_outcome(
        &self,
        mut change: Change,
        by: &Actor,
        pool: &Pool,
        scaling: &Scaling,
        (outcome, said): (Outcome, Option<String>),
    ) -> Result<(), Refusal> {
        let update = q!(
            "UPDATE scaling SET outcome = $2, said = $3, decided_by = $4 WHERE id = $1",
            scaling.id,
            outcome.code(),
            said,
            by.name.clone(),
        );
        run(change.conn(), update).await?;
        // Without what was said: the account reads it, and it may name an address (R2.8).
        let detail = json!({ "change": scaling.change, "words": scaling.words, "outcome": outcome.code() });
        let line =
            Line { subject: Subject::Pool, id: &pool.id, account: pool.account.as_deref(), action: "scaled", detail };
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await
    }

    /// The operator's answer to a proposal.
    pub async fn answer_scaling(&self, by: &Actor, id: i64, approved: bool) -> Result<Scaling, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let proposed = scaling(change.conn(), id).await?;
        if proposed.outcome != Outcome::Proposed {
            let sentence = format!("This decision is {}.", proposed.outcome.code());
            return Err(Refusal::conflict("not_proposed", sentence, "Answer one that is proposed.").by_rule("R6.5"));
        }
        let pool = pool::by_id(change.conn(), &proposed.pool).await?;
        let pool = pool.ok_or_else(|| Refusal::not_found("pool", &proposed.pool))?;
        // Taken from the list first: answered twice, it is carried out once.
        let outcome = if approved { Outcome::Failed } else { Outcome::Refused };
        let update = q!(
            "UPDATE scaling SET outcome = $2, decided_by = $3 WHERE id = $1 AND outcome = 'proposed'",
            id,
            outcome.code(),
            by.name.clone(),
        );
        run(change.conn(), update).await?;
        let detail = json!({ "change": proposed.change, "words": proposed.words, "approved": approved });
        let line = Line {
            subject: Subject::Pool,
            id: &pool.id,
            account: pool.account.as_deref(),
            action: "scaling-answered",
            detail,
        };
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await?;
        if approved {
            self.carry_out(by, &pool, &proposed).await?;
        }
        scaling(&mut *self.store().read().await?, id).await
    }

    /// What waits for the operator's answer.
    pub async fn proposed_scalings(&self, by: &Actor) -> Result<Vec<Scaling>, Refusal> {
        by.may_watch()?;
        let mut conn = self.store().read().await?;
        let query = q!(concat!("SELECT ", columns!(), " FROM scaling WHERE outcome = 'proposed' ORDER BY id"));
        rows(&mut conn, query).await?.iter().map(read).collect()
    }

    /// How many IPs it may have: the account's to say, since it pays for them; whether the operator is asked first is the operator's.
    pub async fn set_bounds(
        &self,
        by: &Actor,
        account: &str,
        called: &str,
        to: BoundsChange,
    ) -> Result<Managed, Refusal> {
        let mut change = self.store().change().await?;
        let account = account::seen(change.conn(), by, account, Actor::may_own).await?;
        let pool = pool::own(change.conn(), &account.id, self.home_region().as_str(), called).await?;
        if pool.kind != PoolKind::Managed {
            return Err(not_managed(&pool));
        }
        let was = kept(change.conn(), &pool.id).await?;
        if to.asks.is_some_and(|asks| asks != was.asks) {
            by.may_operate()?;
        }
        let (ips_min, ips_max) = (to.ips_min.unwrap_or(was.bounds.ips_min), to.ips_max.unwrap_or(was.bounds.ips_max));
        if ips_min > ips_max || ips_max > IPS_MOST {
            let sentence = format!("A pool has from 0 to {IPS_MOST} IPs, at least ips_min and at most ips_max.");
            return Err(Refusal::invalid(
                "ips_max",
                sentence,
                "Give two numbers of which the first is not the larger.",
            ));
        }
        // Decided anew by what holds now.
        let update = q!(
            "UPDATE pool SET ips_min = $2, ips_max = $3, asks = $4, scaled_on = 0, revision = revision + 1 WHERE id = $1",
            pool.id.clone(),
            i64::from(ips_min),
            i64::from(ips_max),
            i64::from(to.asks.unwrap_or(was.asks)),
        );
        run(change.conn(), update).await?;
        let detail = json!({ "ips_min": ips_min, "ips_max": ips_max, "asks": to.asks.unwrap_or(was.asks) });
        let line =
            Line { subject: Subject::Pool, id: &pool.id, account: Some(&account.id), action: "bounds-set", detail };
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await?;
        self.managed_pool(by, &account.id, &pool.id).await
    }

    /// R3.8: share on dedicated IPs, use and capacity, every decision; never the addresses (R2.8): those are for asking the data plane.
    pub async fn managed_pool(&self, by: &Actor, account: &str, called: &str) -> Result<Managed, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let pool = pool::own(&mut conn, &account.id, self.home_region().as_str(), called).await?;
        if pool.kind != PoolKind::Managed {
            return Err(not_managed(&pool));
        }
        let (kept, ips) = (kept(&mut conn, &pool.id).await?, pool::ips_of(&mut conn, &pool.id).await?);
        let query = q!(
            concat!("SELECT ", columns!(), " FROM scaling WHERE pool = $1 ORDER BY id DESC LIMIT $2"),
            pool.id.clone(),
            SHOWN,
        );
        let mut decisions = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        // R2.8: why an IP was not to be had names it.
        if !by.is_operator() {
            let failed = decisions.iter_mut().filter_map(|decision| decision.said.as_mut());
            failed.for_each(|said| *said = NOT_TO_BE_HAD.to_owned());
        }
        // Own ones, those given back meanwhile included.
        let query = q!("SELECT DISTINCT ip FROM lease WHERE account = $1", account.id.clone());
        let own: BTreeSet<String> =
            rows(&mut conn, query).await?.iter().map(|row| row.text(0)).collect::<Result<_, _>>()?;
        drop(conn);
        let lately = Question {
            pool: Some(pool.id.clone()),
            by: vec![Dimension::Ip, Dimension::Provider],
            from: Some(self.now() - DAY * SHARE_DAYS),
            ..Question::default()
        };
        let (mut sent, mut sent_on_own) = (0, 0);
        let mut by_provider: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for figures in self.counts(&lately, true).await?.figures {
            let count = crate::reputation::outcomes(&figures).sent();
            let named = |wanted| figures.of.iter().find(|(dimension, _)| *dimension == wanted);
            sent += count;
            if named(Dimension::Ip).is_some_and(|(_, ip)| own.contains(ip)) {
                sent_on_own += count;
            }
            if let Some((_, provider)) = named(Dimension::Provider).filter(|(_, provider)| !provider.is_empty()) {
                *by_provider.entry(Arc::from(provider.as_str())).or_default() += count;
            }
        }
        let count = ips.len() as u64;
        let providers = by_provider.into_iter().map(|(provider, sent)| ProviderUse {
            sent_per_day: sent / u64::from(SHARE_DAYS),
            carries_per_day: carries(&provider) * count,
            provider,
        });
        Ok(Managed {
            pool,
            bounds: kept.bounds,
            asks: kept.asks,
            ips,
            sent,
            sent_on_own,
            providers: providers.collect(),
            decisions,
        })
    }

    /// R3.8: requirements, each met or not, and what would hurt.
    pub async fn fits_managed(&self, by: &Actor, account: &str, asked: &FitQuestion) -> Result<Fit, Refusal> {
        let mut conn = self.store().read().await?;
        let account = account::seen(&mut conn, by, account, Actor::may_read).await?;
        let mut domains = Vec::with_capacity(asked.domains.len());
        for name in &asked.domains {
            domains.push((name.clone(), domain::is_verified(&mut conn, &account.id, name).await?));
        }
        drop(conn);
        let reputation = self.reputation_of(&account.id).await?;
        let wish = Wish {
            per_day: asked.per_day,
            per_month: asked.per_month,
            is_steady: asked.is_steady,
            domains: &domains,
            regions: &asked.regions,
            needs_addresses: asked.needs_addresses,
        };
        let known = Known {
            is_active: is_active(&account),
            days: self.sent_ever(&account.id).await?.1,
            reputation: &reputation,
        };
        Ok(Fit { requirements: fit::requirements(&wish, known), advice: fit::advice(&wish, known) })
    }
}

/// R3.4: a free account without a payment method gets none.
fn is_active(account: &Account) -> bool {
    account.standing == Standing::Production && (account.plan != Plan::Free || account.has_payment_method)
}

async fn scaling(conn: &mut AnyConnection, id: i64) -> Result<Scaling, Refusal> {
    let query = q!(concat!("SELECT ", columns!(), " FROM scaling WHERE id = $1"), id);
    let found = row(conn, query).await?;
    read(&found.ok_or_else(|| Refusal::not_found("decision", &id.to_string()))?)
}
