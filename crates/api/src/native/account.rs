//! Accounts and their quotas.

use super::words::{Time, words};
use super::{Answer, At, Call, created, found, listed, told, whole};
use crate::asked::{Body, IfMatch, Listed, Listing};
use crate::caller::Desk;
use crate::problem::Problem;
use axum::extract::State;
use control::account as theirs;
use engine::id::{AccountId, RegionId};
use engine::quota::{OF_SANDBOX, percent};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(accounts, create_account))
        .routes(routes!(account, change_account))
        .routes(routes!(quotas))
        .routes(routes!(set_quota))
}

words!(Plan is engine::snapshot::Plan { Free, Standard, Enterprise });
words!(
    /// `sandbox`: sends only to recipients it has shown to be its own. `paused`: sends nothing until the reason is mended.
    Standing is theirs::Standing { Sandbox, Production, Paused }
);
words!(
    /// What may stand in From: `verified` domains and addresses only, or `any`.
    Senders is engine::snapshot::Senders { Verified, Any }
);

#[derive(Serialize, ToSchema)]
pub struct Account {
    id: String,
    name: String,
    plan: Plan,
    standing: Standing,
    /// Why it is paused.
    #[schema(required)]
    standing_reason: Option<String>,
    senders: Senders,
    has_payment_method: bool,
    /// Grows with every change; the same number as in the ETag.
    revision: i64,
    created_at: Time,
}

impl From<theirs::Account> for Account {
    fn from(account: theirs::Account) -> Account {
        Account {
            id: account.id,
            name: account.name,
            plan: account.plan.into(),
            standing: account.standing.into(),
            standing_reason: account.standing_reason,
            senders: account.senders.into(),
            has_payment_method: account.has_payment_method,
            revision: account.revision,
            created_at: Time(account.created_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewAccount {
    name: String,
    /// Without it, `standard`.
    plan: Option<Plan>,
    /// Without it, `production`: who makes an account vouches for it, unless they say otherwise.
    standing: Option<Standing>,
    /// Without it, false.
    has_payment_method: Option<bool>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AccountChange {
    name: Option<String>,
    plan: Option<Plan>,
    standing: Option<Standing>,
    /// Needed for `paused`: the account reads it in every refusal. Only together with `standing`.
    standing_reason: Option<String>,
    senders: Option<Senders>,
    has_payment_method: Option<bool>,
}

/// What may be sent to: recipients in any 24 hours, and a second.
#[derive(Serialize, ToSchema)]
struct Quota {
    region: String,
    per_day: i64,
    per_second: i64,
    /// Recipients of the last 24 hours.
    used: u64,
    /// Of what it may in a day.
    used_percent: u64,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewQuota {
    #[schema(minimum = 0)]
    per_day: i64,
    #[schema(minimum = 0)]
    per_second: i64,
}

/// All accounts, oldest first. For the operator.
#[utoipa::path(get, path = "/accounts", responses((status = 200, body = Listed<Account>)))]
async fn accounts(call: Call, list: Listing) -> Answer {
    listed(call.office.accounts(&call.by, &list.window).await?, Account::from)
}

/// Make an account, with its default pool. For the operator.
#[utoipa::path(post, path = "/accounts", request_body = NewAccount, responses((status = 201, body = Account)))]
async fn create_account(call: Call, Body(new): Body<NewAccount>) -> Answer {
    let new = theirs::NewAccount {
        name: new.name,
        plan: new.plan.map(Into::into).unwrap_or_default(),
        standing: new.standing.map_or(theirs::Standing::Production, Into::into),
        has_payment_method: new.has_payment_method.unwrap_or_default(),
    };
    let account = call.office.create_account(&call.by, new).await?;
    created(&["accounts", &account.id.clone()], Some(account.revision), Account::from(account))
}

/// One account.
#[utoipa::path(get, path = "/accounts/{account}", responses((status = 200, body = Account)))]
async fn account(call: Call, At([account]): At<1>) -> Answer {
    let account = call.office.account(&call.by, &account).await?;
    found(account.revision, Account::from(account))
}

/// Change plan, standing, name. For the operator.
#[utoipa::path(patch, path = "/accounts/{account}", request_body = AccountChange, responses((status = 200, body = Account)))]
async fn change_account(
    call: Call,
    At([account]): At<1>,
    IfMatch(revision): IfMatch,
    Body(to): Body<AccountChange>,
) -> Answer {
    if to.standing.is_none() && to.standing_reason.is_some() {
        let detail = "A reason is given, and no standing.";
        return Err(Problem::invalid("standing_reason", detail, "Say the standing that it is the reason for."));
    }
    let to = theirs::AccountChange {
        name: to.name,
        plan: to.plan.map(Into::into),
        standing: to.standing.map(|standing| (standing.into(), to.standing_reason)),
        senders: to.senders.map(Into::into),
        has_payment_method: to.has_payment_method,
        revision,
    };
    let account = call.office.change_account(&call.by, &account, to).await?;
    found(account.revision, Account::from(account))
}

/// What the account may send, by region, and how much of it is used. Where none is set there is no limit, but in the sandbox.
#[utoipa::path(get, path = "/accounts/{account}/quotas", responses((status = 200, body = Listed<Quota>)))]
async fn quotas(State(desk): State<Desk>, call: Call, At([account]): At<1>) -> Answer {
    let mut quotas = call.office.quotas(&call.by, &account).await?;
    let account = call.office.account(&call.by, &account).await?;
    if account.standing == theirs::Standing::Sandbox {
        let (home, of_sandbox) = (call.office.home_region().to_string(), OF_SANDBOX);
        let per_day = i64::try_from(of_sandbox.per_day).unwrap_or(i64::MAX);
        let per_second = i64::from(of_sandbox.per_second);
        quotas.entry(home).or_insert(theirs::Quota { per_day, per_second });
    }
    whole(quotas.into_iter().collect(), |(region, quota)| view(&desk, &account.id, region, quota))
}

/// Set what the account may send in a region. For the operator.
#[utoipa::path(put, path = "/accounts/{account}/quotas/{region}", request_body = NewQuota, responses((status = 200, body = Quota)))]
async fn set_quota(
    State(desk): State<Desk>,
    call: Call,
    At([account, region]): At<2>,
    Body(to): Body<NewQuota>,
) -> Answer {
    let quota = theirs::Quota { per_day: to.per_day, per_second: to.per_second };
    call.office.set_quota(&call.by, &account, &region, quota).await?;
    let account = call.office.account(&call.by, &account).await?;
    told(view(&desk, &account.id, region, quota))
}

fn view(desk: &Desk, account: &str, region: String, quota: theirs::Quota) -> Quota {
    let (of, now) = (AccountId::new(account), desk.0.intake.now());
    let used = desk.0.intake.quotas().used(&of, &RegionId::new(&region), now);
    let used_percent = percent(used, quota.per_day.unsigned_abs());
    Quota { region, per_day: quota.per_day, per_second: quota.per_second, used, used_percent }
}
