//! Who are the tenants? Plan, standing, quotas; and the parts of an account that are accounts in small.

use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::{Kind, Refusal};
use crate::region;
use crate::setting::{self, Setting};
use crate::store::{Change, Columns, Whose, q, row, rows, run, run_unless};
use engine::snapshot::{Plan, Senders};
use engine::tier::Tier;
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::collections::BTreeMap;

/// What the default pool of an account is called; the name is taken for nothing else.
pub const DEFAULT_POOL: &str = "default";

const REASON_LETTERS_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub id: String,
    pub name: String,
    pub plan: Plan,
    pub standing: Standing,
    pub standing_reason: Option<String>,
    pub senders: Senders,
    pub has_payment_method: bool,
    /// Whether IPs that it leases from now on warm up by themselves (R4.5).
    pub warms_up: bool,
    /// Figures from before do not pause it.
    pub judged_from: Timestamp,
    /// Among which others it shares IPs (R6.4).
    pub tier: Tier,
    /// Grows with every change; what a caller shows back to change only what it saw.
    pub revision: i64,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Sandbox,
    Production,
    Paused,
}

impl Standing {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Standing::Sandbox => "sandbox",
            Standing::Production => "production",
            Standing::Paused => "paused",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Standing> {
        [Standing::Sandbox, Standing::Production, Standing::Paused].into_iter().find(|known| known.code() == code)
    }
}

#[must_use]
pub fn plan_code(plan: Plan) -> &'static str {
    match plan {
        Plan::Free => "free",
        Plan::Standard => "standard",
        Plan::Enterprise => "enterprise",
    }
}

#[must_use]
pub fn plan_of(code: &str) -> Option<Plan> {
    [Plan::Free, Plan::Standard, Plan::Enterprise].into_iter().find(|plan| plan_code(*plan) == code)
}

/// Recipients per rolling day and per second (R7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    pub per_day: i64,
    pub per_second: i64,
}

#[derive(Clone, Debug)]
pub struct NewAccount {
    pub name: String,
    pub plan: Plan,
    pub standing: Standing,
    pub has_payment_method: bool,
}

/// What is to be changed; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct AccountChange {
    pub name: Option<String>,
    pub plan: Option<Plan>,
    /// With the reason, which the account reads when it is paused.
    pub standing: Option<(Standing, Option<String>)>,
    pub senders: Option<Senders>,
    pub has_payment_method: Option<bool>,
    /// The revision the caller saw; another one there means that somebody was faster.
    pub revision: Option<i64>,
}

macro_rules! columns {
    () => {
        "id, name, plan, standing, standing_reason, senders, has_payment_method, revision, created_at, warms_up, judged_from, tier"
    };
}

fn read(row: &AnyRow) -> Result<Account, Refusal> {
    Ok(Account {
        id: row.text(0)?,
        name: row.text(1)?,
        plan: plan_of(&row.text(2)?).unwrap_or_default(),
        // What cannot be read is not let loose.
        standing: Standing::of(&row.text(3)?).unwrap_or(Standing::Paused),
        standing_reason: row.text_or_none(4)?,
        senders: if row.text(5)? == "any" { Senders::Any } else { Senders::Verified },
        has_payment_method: row.yes(6)?,
        revision: row.whole(7)?,
        created_at: Timestamp(row.whole(8)?),
        warms_up: row.yes(9)?,
        judged_from: Timestamp(row.whole(10)?),
        tier: Tier::of(&row.text(11)?).unwrap_or_default(),
    })
}

/// By id, or by name.
pub(crate) async fn find(conn: &mut AnyConnection, called: &str) -> Result<Account, Refusal> {
    let query = q!(concat!("SELECT ", columns!(), " FROM account WHERE id = $1 OR name = $1"), called.to_owned());
    match row(conn, query).await? {
        Some(row) => read(&row),
        None => Err(Refusal::not_found("account", called)),
    }
}

pub(crate) async fn all(conn: &mut AnyConnection, whose: Whose<'_>) -> Result<Vec<Account>, Refusal> {
    let query = whose.query(
        concat!("SELECT ", columns!(), " FROM account"),
        concat!("SELECT ", columns!(), " FROM account WHERE id = $1"),
    );
    rows(conn, query).await?.iter().map(read).collect()
}

/// Somebody else was faster.
pub(crate) fn must_be_seen(what: &str, seen: Option<i64>, is: i64) -> Result<(), Refusal> {
    match seen {
        Some(seen) if seen != is => Err(Refusal::new(
            Kind::Changed,
            "changed_meanwhile",
            format!("The {what} was changed since you looked: you saw revision {seen}, it is at {is}."),
            "Look at it again and decide anew.",
        )),
        _ => Ok(()),
    }
}

/// Account, region and what it may send there.
pub(crate) async fn all_quotas(
    conn: &mut AnyConnection,
    whose: Whose<'_>,
) -> Result<Vec<(String, String, Quota)>, Refusal> {
    let query = whose.query(
        "SELECT account, region, per_day, per_second FROM quota",
        "SELECT account, region, per_day, per_second FROM quota WHERE account = $1",
    );
    let read = |row: &AnyRow| {
        let quota = Quota { per_day: row.whole(2)?, per_second: row.whole(3)? };
        Ok((row.text(0)?, row.text(1)?, quota))
    };
    rows(conn, query).await?.iter().map(read).collect()
}

fn taken(name: &str) -> Refusal {
    Refusal::conflict("name_taken", format!("There is an account {name} already."), "Choose another name.").at("name")
}

impl Office {
    /// With its default pool in the home region.
    pub async fn create_account(&self, by: &Actor, new: NewAccount) -> Result<Account, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let account = self.create_account_in(&mut change, by, new).await?;
        change.commit().await?;
        Ok(account)
    }

    pub(crate) async fn create_account_in(
        &self,
        change: &mut Change,
        by: &Actor,
        new: NewAccount,
    ) -> Result<Account, Refusal> {
        let (name, now) = (name::account(&new.name)?, self.now());
        let account = Account {
            id: id::fresh("acc"),
            name: name.clone(),
            plan: new.plan,
            standing: new.standing,
            standing_reason: None,
            senders: Senders::Verified,
            has_payment_method: new.has_payment_method,
            warms_up: true,
            judged_from: Timestamp(0),
            tier: Tier::Probation,
            revision: 1,
            created_at: now,
        };
        let insert = q!(
            "INSERT INTO account (id, name, plan, standing, senders, has_payment_method, revision, created_at, tier, \
             tier_since) VALUES ($1, $2, $3, $4, 'verified', $5, 1, $6, $7, $6)",
            account.id.clone(),
            name.clone(),
            plan_code(account.plan),
            account.standing.code(),
            i64::from(account.has_payment_method),
            now.0,
            account.tier.code(),
        );
        run_unless(change.conn(), insert, || taken(&name)).await?;
        plan_since(change, &account.id, account.plan, 0).await?;
        default_pool(change, &account.id, self.home_region().as_str(), now).await?;
        let detail = json!({
            "name": name, "plan": plan_code(account.plan), "standing": account.standing.code(),
            "has_payment_method": account.has_payment_method,
        });
        let line =
            Line { subject: Subject::Account, id: &account.id, account: Some(&account.id), action: "created", detail };
        audit::write(change, by, now, line).await?;
        if account.standing == Standing::Production {
            self.begin_quotas(change, by, &account.id).await?;
        }
        Ok(account)
    }

    pub async fn account(&self, by: &Actor, called: &str) -> Result<Account, Refusal> {
        let mut conn = self.store().read().await?;
        let account = find(&mut conn, called).await?;
        // By name or by id: another's is not there.
        by.may_read(&account.id).map_err(|refusal| unknown_as_asked(refusal, called))?;
        Ok(account)
    }

    pub async fn accounts(&self, by: &Actor, window: &Window) -> Result<Page<Account>, Refusal> {
        by.may_watch()?;
        let mut conn = self.store().read().await?;
        let query = q!(
            concat!("SELECT ", columns!(), " FROM account WHERE id > $1 ORDER BY id LIMIT $2"),
            window.after_text(),
            window.fetch(),
        );
        let found = rows(&mut conn, query).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |account| account.id.clone()))
    }

    pub async fn change_account(&self, by: &Actor, called: &str, to: AccountChange) -> Result<Account, Refusal> {
        let mut change = self.store().change().await?;
        let is = self.change_account_in(&mut change, by, called, to).await?;
        change.commit().await?;
        Ok(is)
    }

    pub(crate) async fn change_account_in(
        &self,
        change: &mut Change,
        by: &Actor,
        called: &str,
        to: AccountChange,
    ) -> Result<Account, Refusal> {
        by.may_operate()?;
        let was = find(change.conn(), called).await?;
        must_be_seen("account", to.revision, was.revision)?;
        let mut is = was.clone();
        if let Some(name) = &to.name {
            is.name = name::account(name)?;
        }
        is.plan = to.plan.unwrap_or(was.plan);
        is.senders = to.senders.unwrap_or(was.senders);
        is.has_payment_method = to.has_payment_method.unwrap_or(was.has_payment_method);
        if let Some((standing, reason)) = to.standing {
            is.standing = standing;
            is.standing_reason = self::reason(standing, reason)?;
        }
        if is == was {
            return Ok(was);
        }
        if was.standing == Standing::Paused && is.standing != Standing::Paused {
            is.judged_from = self.now();
        }
        is.revision += 1;
        let update = q!(
            "UPDATE account SET name = $2, plan = $3, standing = $4, standing_reason = $5, senders = $6, \
             has_payment_method = $7, revision = $8, judged_from = $9 WHERE id = $1",
            is.id.clone(),
            is.name.clone(),
            plan_code(is.plan),
            is.standing.code(),
            is.standing_reason.clone(),
            if is.senders == Senders::Any { "any" } else { "verified" },
            i64::from(is.has_payment_method),
            is.revision,
            is.judged_from.0,
        );
        run_unless(change.conn(), update, || taken(&is.name)).await?;
        if is.plan != was.plan {
            plan_since(change, &is.id, is.plan, self.now().day()).await?;
        }
        let told = |account: &Account| {
            json!({
                "name": account.name, "plan": plan_code(account.plan), "standing": account.standing.code(),
                "standing_reason": account.standing_reason, "has_payment_method": account.has_payment_method,
                "senders": if account.senders == Senders::Any { "any" } else { "verified" },
            })
        };
        let detail = json!({ "was": told(&was), "is": told(&is) });
        let line = Line { subject: Subject::Account, id: &is.id, account: Some(&is.id), action: "changed", detail };
        audit::write(change, by, self.now(), line).await?;
        if was.standing == Standing::Sandbox && is.standing == Standing::Production {
            self.begin_quotas(change, by, &is.id).await?;
        }
        Ok(is)
    }

    /// R7.1: what the operator's settings give to who comes into production, in each region where nothing was set for it.
    async fn begin_quotas(&self, change: &mut Change, by: &Actor, account: &str) -> Result<(), Refusal> {
        let per_day = setting::value(change.conn(), Setting::QuotaPerDay).await?;
        if per_day == 0 {
            return Ok(());
        }
        let per_second = setting::value(change.conn(), Setting::QuotaPerSecond).await?;
        let query = q!(
            "SELECT id FROM region r WHERE NOT EXISTS (SELECT 1 FROM quota q WHERE q.account = $1 AND q.region = r.id) \
             ORDER BY id",
            account.to_owned()
        );
        for row in rows(change.conn(), query).await? {
            self.set_quota_in(change, by, account, &row.text(0)?, Quota { per_day, per_second }).await?;
        }
        Ok(())
    }

    /// R4.5: of the IPs it leases from now on; those that warm up go on.
    pub async fn set_warms_up(&self, by: &Actor, called: &str, warms_up: bool) -> Result<Account, Refusal> {
        let mut change = self.store().change().await?;
        let was = seen(change.conn(), by, called, Actor::may_manage).await?;
        if was.warms_up == warms_up {
            return Ok(was);
        }
        let is = Account { warms_up, revision: was.revision + 1, ..was };
        let update = q!(
            "UPDATE account SET warms_up = $2, revision = $3 WHERE id = $1",
            is.id.clone(),
            i64::from(warms_up),
            is.revision,
        );
        run(change.conn(), update).await?;
        let action = if warms_up { "warm-up-turned-on" } else { "warm-up-turned-off" };
        let line = Line { subject: Subject::Account, id: &is.id, account: Some(&is.id), action, detail: json!({}) };
        audit::write(&mut change, by, self.now(), line).await?;
        change.commit().await?;
        Ok(is)
    }

    pub async fn quotas(&self, by: &Actor, called: &str) -> Result<BTreeMap<String, Quota>, Refusal> {
        let mut conn = self.store().read().await?;
        let account = find(&mut conn, called).await?;
        by.may_read(&account.id).map_err(|refusal| unknown_as_asked(refusal, called))?;
        let query = q!("SELECT region, per_day, per_second FROM quota WHERE account = $1", account.id);
        let found = rows(&mut conn, query).await?;
        found
            .iter()
            .map(|row| Ok((row.text(0)?, Quota { per_day: row.whole(1)?, per_second: row.whole(2)? })))
            .collect()
    }

    pub async fn set_quota(&self, by: &Actor, called: &str, region: &str, to: Quota) -> Result<(), Refusal> {
        by.may_operate()?;
        for (field, value) in [("per_day", to.per_day), ("per_second", to.per_second)] {
            if value < 0 {
                return Err(Refusal::invalid(field, "A quota is 0 or more.", "Give a whole number."));
            }
        }
        let mut change = self.store().change().await?;
        self.set_quota_in(&mut change, by, called, region, to).await?;
        change.commit().await
    }

    pub(crate) async fn set_quota_in(
        &self,
        change: &mut Change,
        by: &Actor,
        called: &str,
        region: &str,
        to: Quota,
    ) -> Result<(), Refusal> {
        let account = find(change.conn(), called).await?;
        region::must_exist(change.conn(), region).await?;
        let put = q!(
            "INSERT INTO quota (account, region, per_day, per_second) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (account, region) DO UPDATE SET per_day = excluded.per_day, per_second = excluded.per_second",
            account.id.clone(),
            region.to_owned(),
            to.per_day,
            to.per_second,
        );
        run(change.conn(), put).await?;
        let detail = json!({ "region": region, "per_day": to.per_day, "per_second": to.per_second });
        let line = Line {
            subject: Subject::Account,
            id: &account.id,
            account: Some(&account.id),
            action: "quota-set",
            detail,
        };
        audit::write(change, by, self.now(), line).await
    }
}

/// What it is on by the end of a day counts for the day (R7.5).
async fn plan_since(change: &mut Change, account: &str, plan: Plan, from_day: i64) -> Result<(), Refusal> {
    let put = q!(
        "INSERT INTO plan_since (account, from_day, plan) VALUES ($1, $2, $3) \
         ON CONFLICT (account, from_day) DO UPDATE SET plan = excluded.plan",
        account.to_owned(),
        from_day,
        plan_code(plan),
    );
    run(change.conn(), put).await.map(|_| ())
}

/// The account's default pool in this region, made if it is not there; it may stay empty (R2.1).
pub(crate) async fn default_pool(
    change: &mut Change,
    account: &str,
    region: &str,
    now: Timestamp,
) -> Result<String, Refusal> {
    let query = q!(
        "SELECT id FROM pool WHERE account = $1 AND region = $2 AND is_default = 1",
        account.to_owned(),
        region.to_owned()
    );
    if let Some(found) = row(change.conn(), query).await? {
        return found.text(0);
    }
    let id = id::fresh("pool");
    let insert = q!(
        "INSERT INTO pool (id, account, region, name, kind, is_default, overflow, revision, created_at) \
         VALUES ($1, $2, $3, $4, 'standard', 1, NULL, 1, $5)",
        id.clone(),
        account.to_owned(),
        region.to_owned(),
        DEFAULT_POOL,
        now.0,
    );
    run(change.conn(), insert).await?;
    Ok(id)
}

/// A pause says why: whoever is stopped reads it in every refusal.
fn reason(standing: Standing, reason: Option<String>) -> Result<Option<String>, Refusal> {
    let reason = reason.map(|reason| reason.trim().to_owned()).filter(|reason| !reason.is_empty());
    if reason
        .as_ref()
        .is_some_and(|reason| reason.chars().count() > REASON_LETTERS_MAX || reason.chars().any(char::is_control))
    {
        let sentence = format!("A reason has at most {REASON_LETTERS_MAX} characters, in one line.");
        return Err(Refusal::invalid("standing_reason", sentence, "Say it shorter."));
    }
    match (standing, reason) {
        (Standing::Paused, None) => Err(Refusal::invalid(
            "standing_reason",
            "A pause needs a reason: the account reads it in every refusal.",
            "Say what is wrong and what ends the pause.",
        )),
        (_, reason) => Ok(reason),
    }
}

/// The id of the account that is meant, where the caller may do this: `Actor::may_read`, `Actor::may_manage`.
pub(crate) async fn reach(
    conn: &mut AnyConnection,
    by: &Actor,
    called: &str,
    may: fn(&Actor, &str) -> Result<(), Refusal>,
) -> Result<String, Refusal> {
    seen(conn, by, called, may).await.map(|account| account.id)
}

/// As `reach`, the account itself.
pub(crate) async fn seen(
    conn: &mut AnyConnection,
    by: &Actor,
    called: &str,
    may: fn(&Actor, &str) -> Result<(), Refusal>,
) -> Result<Account, Refusal> {
    let account = find(conn, called).await?;
    may(by, &account.id).map_err(|refusal| unknown_as_asked(refusal, called))?;
    Ok(account)
}

/// What may not be known is not there, under the name it was asked by.
pub(crate) fn unknown_as_asked(refusal: Refusal, called: &str) -> Refusal {
    if refusal.kind == Kind::NotFound { Refusal::not_found("account", called) } else { refusal }
}
