//! Which requests are granted by rule, and would have been? (R7.4)
//!
//! A policy is the operator's, for cases of one kind: criteria as data. It is tried on past cases before it is switched on; each answer it
//! gives names it and its figures; and whoever may ask reads the criteria, and how close it is, before asking.

use super::{Answer, Case, CaseKind, Request, columns, read};
use crate::account::{self, Account, Standing, must_be_seen};
use crate::actor::Actor;
use crate::audit::{self, Line, Subject};
use crate::id;
use crate::name;
use crate::office::Office;
use crate::page::{Page, Window};
use crate::refusal::Refusal;
use crate::statistics::Question;
use crate::store::{Change, Columns, number, q, row, rows, run, run_unless};
use engine::case::CaseState;
use engine::counts::Grain;
use engine::fit::Point;
use engine::policy::{self, Criteria, Facts, judge};
use engine::reputation::Outcomes;
use engine::time::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

const POLICIES_MAX: i64 = 50;
/// Days among which the busiest is looked for.
const PEAK_DAYS: usize = 14;
/// Past cases that a policy is tried on.
const REHEARSED_MAX: i64 = 500;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub id: String,
    pub name: String,
    pub kind: CaseKind,
    pub is_on: bool,
    pub criteria: Criteria,
    pub revision: i64,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub struct PolicyChange {
    pub is_on: Option<bool>,
    /// All of them anew.
    pub criteria: Option<Criteria>,
    pub revision: Option<i64>,
}

/// A past case, and what the policy would have said.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsed {
    pub case: String,
    pub account: String,
    pub state: CaseState,
    pub would_grant: bool,
    pub points: Vec<Point>,
}

/// A policy's criteria, and how somebody stands to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standings {
    pub policy: String,
    pub would_grant: bool,
    pub points: Vec<Point>,
}

macro_rules! policy_columns {
    () => {
        "id, name, kind, is_on, criteria, revision, created_at"
    };
}

fn read_policy(row: &AnyRow) -> Result<Policy, Refusal> {
    let criteria = serde_json::from_str(&row.text(4)?);
    Ok(Policy {
        id: row.text(0)?,
        name: row.text(1)?,
        kind: CaseKind::of(&row.text(2)?).unwrap_or(CaseKind::LeaveSandbox),
        // What cannot be read grants nothing.
        is_on: row.yes(3)? && criteria.is_ok(),
        criteria: criteria.unwrap_or_default(),
        revision: row.whole(5)?,
        created_at: Timestamp(row.whole(6)?),
    })
}

async fn policy_called(conn: &mut AnyConnection, called: &str) -> Result<Policy, Refusal> {
    let query = q!(concat!("SELECT ", policy_columns!(), " FROM policy WHERE id = $1 OR name = $1"), called.to_owned());
    match row(conn, query).await? {
        Some(row) => read_policy(&row),
        None => Err(Refusal::not_found("policy", called)),
    }
}

/// Those that are switched on, in the order of their names.
async fn on(conn: &mut AnyConnection, kind: CaseKind) -> Result<Vec<Policy>, Refusal> {
    let query = q!(
        concat!("SELECT ", policy_columns!(), " FROM policy WHERE kind = $1 AND is_on = 1 ORDER BY name"),
        kind.code()
    );
    rows(conn, query).await?.iter().map(read_policy).collect()
}

fn taken(name: &str) -> Refusal {
    Refusal::conflict("name_taken", format!("There is a policy {name} already."), "Choose another name.").at("name")
}

fn checked(kind: CaseKind, criteria: Criteria, is_on: bool) -> Result<Criteria, Refusal> {
    if kind == CaseKind::Relinquish {
        let sentence = "What is given back is confirmed by the customer, and by nobody else.";
        return Err(Refusal::invalid("kind", sentence, "There is nothing to grant."));
    }
    if let Err(field) = policy::fits(kind, &criteria) {
        let sentence = format!("This says nothing about a request of the kind {}.", kind.code());
        return Err(Refusal::invalid(field, sentence, "Leave it out."));
    }
    let known = ["free", "standard", "enterprise"];
    if let Some(unknown) = criteria.plans.iter().find(|plan| !known.contains(&plan.as_str())) {
        let sentence = format!("There is no plan {unknown}; there are {}.", known.join(", "));
        return Err(Refusal::invalid("plans", sentence, "Name one of those."));
    }
    if is_on && criteria == Criteria::default() {
        let sentence = "A policy without any criterion would grant everything to everybody.";
        return Err(Refusal::invalid("criteria", sentence, "Set what must be so."));
    }
    Ok(criteria)
}

/// How it stands, in one line: what an answer by rule says.
fn told(points: &[Point]) -> String {
    points.iter().map(|point| point.words.as_str()).collect::<Vec<_>>().join(" ")
}

impl Office {
    /// It is off until somebody has looked at what it would have done.
    pub async fn create_policy(
        &self,
        by: &Actor,
        called: &str,
        kind: CaseKind,
        criteria: Criteria,
    ) -> Result<Policy, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        if number(change.conn(), q!("SELECT COUNT(*) FROM policy")).await? >= POLICIES_MAX {
            let sentence = format!("There are {POLICIES_MAX} policies, which is as many as there may be.");
            return Err(Refusal::conflict("policies_max", sentence, "Delete one that is not used."));
        }
        let policy = Policy {
            id: id::fresh("rule"),
            name: name::pool(called)?,
            kind,
            is_on: false,
            criteria: checked(kind, criteria, false)?,
            revision: 1,
            created_at: self.now(),
        };
        let insert = q!(
            "INSERT INTO policy (id, name, kind, is_on, criteria, revision, created_at) VALUES ($1, $2, $3, 0, $4, 1, $5)",
            policy.id.clone(),
            policy.name.clone(),
            kind.code(),
            json!(policy.criteria).to_string(),
            policy.created_at.0,
        );
        run_unless(change.conn(), insert, || taken(&policy.name)).await?;
        self.write_policy(&mut change, by, &policy, "created").await?;
        change.commit().await?;
        Ok(policy)
    }

    pub async fn policies(&self, by: &Actor, window: &Window) -> Result<Page<Policy>, Refusal> {
        by.may_watch()?;
        let query = q!(
            concat!("SELECT ", policy_columns!(), " FROM policy WHERE id > $1 ORDER BY id LIMIT $2"),
            window.after_text(),
            window.fetch(),
        );
        let found = rows(&mut *self.store().read().await?, query).await?;
        let found = found.iter().map(read_policy).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::of(found, window, |policy| policy.id.clone()))
    }

    pub async fn policy(&self, by: &Actor, called: &str) -> Result<Policy, Refusal> {
        by.may_watch()?;
        policy_called(&mut *self.store().read().await?, called).await
    }

    pub async fn change_policy(&self, by: &Actor, called: &str, to: PolicyChange) -> Result<Policy, Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let was = policy_called(change.conn(), called).await?;
        must_be_seen("policy", to.revision, was.revision)?;
        let is_on = to.is_on.unwrap_or(was.is_on);
        let criteria = checked(was.kind, to.criteria.unwrap_or_else(|| was.criteria.clone()), is_on)?;
        let is = Policy { is_on, criteria, ..was.clone() };
        if is == was {
            return Ok(was);
        }
        let is = Policy { revision: was.revision + 1, ..is };
        let update = q!(
            "UPDATE policy SET is_on = $2, criteria = $3, revision = $4 WHERE id = $1",
            is.id.clone(),
            i64::from(is.is_on),
            json!(is.criteria).to_string(),
            is.revision,
        );
        run(change.conn(), update).await?;
        self.write_policy(&mut change, by, &is, "changed").await?;
        change.commit().await?;
        Ok(is)
    }

    pub async fn delete_policy(&self, by: &Actor, called: &str) -> Result<(), Refusal> {
        by.may_operate()?;
        let mut change = self.store().change().await?;
        let policy = policy_called(change.conn(), called).await?;
        run(change.conn(), q!("DELETE FROM policy WHERE id = $1", policy.id.clone())).await?;
        self.write_policy(&mut change, by, &policy, "deleted").await?;
        change.commit().await
    }

    /// What it would have said to past cases of its kind, the newest first, by what was known of each when it was opened.
    pub async fn rehearse_policy(&self, by: &Actor, called: &str) -> Result<Vec<Rehearsed>, Refusal> {
        by.may_watch()?;
        let mut conn = self.store().read().await?;
        let policy = policy_called(&mut conn, called).await?;
        let query = q!(
            concat!("SELECT ", columns!(), " FROM cases WHERE kind = $1 ORDER BY id DESC LIMIT $2"),
            policy.kind.code(),
            REHEARSED_MAX,
        );
        let rehearsed = |row: &AnyRow| {
            let case = read(row)?;
            let points = judge(&policy.criteria, &case.facts);
            let would_grant = points.iter().all(|point| point.met);
            Ok(Rehearsed { case: case.id, account: case.account, state: case.state, would_grant, points })
        };
        rows(&mut conn, query).await?.iter().map(rehearsed).collect()
    }

    /// Before somebody asks: the criteria that are on, and how close it is.
    pub async fn criteria(
        &self,
        by: &Actor,
        called: &str,
        kind: CaseKind,
        request: &Request,
    ) -> Result<Vec<Standings>, Refusal> {
        let (account, policies) = {
            let mut conn = self.store().read().await?;
            let account = account::seen(&mut conn, by, called, Actor::may_read).await?;
            (account, on(&mut conn, kind).await?)
        };
        let facts = self.facts(&account, request, 0).await?;
        let standings = policies.into_iter().map(|policy| {
            let points = judge(&policy.criteria, &facts);
            Standings { policy: policy.name, would_grant: points.iter().all(|point| point.met), points }
        });
        Ok(standings.collect())
    }

    /// The first policy that grants this case does so, by name and with its figures. Where what it grants cannot be done, the case stays
    /// the operator's.
    pub(super) async fn answer_by_policy(&self, case: Case) -> Case {
        match self.try_policies(&case).await {
            Ok(Some(answered)) => answered,
            Ok(None) => case,
            Err(refusal) => {
                tracing::warn!(case = case.id, %refusal, "a policy could not answer a case; it waits for the operator");
                case
            }
        }
    }

    async fn try_policies(&self, case: &Case) -> Result<Option<Case>, Refusal> {
        let mut change = self.store().change().await?;
        for policy in on(change.conn(), case.kind).await? {
            let points = judge(&policy.criteria, &case.facts);
            if points.iter().all(|point| point.met) {
                let mut case = self.case_in(&mut change, None, &case.id).await?;
                let answer = Answer::Grant { parts: Vec::new(), reason: Some(told(&points)) };
                self.answer_in(&mut change, &Actor::service(), &mut case, answer, Some(&policy.name)).await?;
                change.commit().await?;
                return Ok(Some(case));
            }
        }
        Ok(None)
    }

    /// What is known of the account, and what it wants.
    pub(super) async fn facts(&self, account: &Account, request: &Request, unmet: usize) -> Result<Facts, Refusal> {
        let reputation = self.reputation_of(&account.id).await?;
        let asked = Question { account: Some(account.id.clone()), ..Question::default() };
        let days = self.days(asked, Grain::Day, None).await?;
        let sent_on = |day: &engine::reputation::Day| day.values().map(Outcomes::sent).sum::<u64>();
        let held = q!("SELECT COUNT(*) FROM lease WHERE account = $1 AND ended_at IS NULL", account.id.clone());
        let held = number(&mut *self.store().read().await?, held).await?;
        let since = account.created_at.max(account.judged_from);
        let standing_days = match account.standing {
            Standing::Paused => 0,
            Standing::Sandbox | Standing::Production => self.now().day() - since.day(),
        };
        let most = |value: fn(&super::Part) -> Option<i64>| request.parts.iter().filter_map(value).max().unwrap_or(0);
        Ok(Facts {
            plan: account::plan_code(account.plan).to_owned(),
            standing_days: u32::try_from(standing_days).unwrap_or(0),
            sent: days.iter().map(sent_on).sum(),
            peak_day: days.iter().rev().take(PEAK_DAYS).map(sent_on).max().unwrap_or(0),
            bounces_per_10000: reputation.bounces.rate() * 10_000.0,
            complaints_per_10000: reputation.complaints.rate() * 10_000.0,
            ips_held: u32::try_from(held).unwrap_or(u32::MAX),
            wanted_ips: request.parts.iter().filter_map(|part| part.quantity).sum(),
            wanted_per_day: most(|part| part.per_day),
            wanted_per_second: most(|part| part.per_second),
            statements: [request.terms, request.only_opted_in, request.bounce_process] == [Some(true); 3],
            unmet: u32::try_from(unmet).unwrap_or(u32::MAX),
        })
    }

    async fn write_policy(
        &self,
        change: &mut Change,
        by: &Actor,
        policy: &Policy,
        action: &'static str,
    ) -> Result<(), Refusal> {
        let detail = json!({
            "name": policy.name, "kind": policy.kind.code(), "is_on": policy.is_on, "criteria": policy.criteria,
        });
        let line = Line { subject: Subject::Policy, id: &policy.id, account: None, action, detail };
        audit::write(change, by, self.now(), line).await
    }
}
