//! Policies: which requests are granted by rule, and would have been. (R7.4)

use super::case::{CaseKind, CaseState};
use super::words::Time;
use super::{Answer, At, Call, created, found, gone, listed, whole};
use crate::asked::{Asked, Body, Everything, IfMatch, Listed, Listing};
use crate::caller::Desk;
use control::case as theirs;
use engine::fit;
use engine::policy as rules;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(policies, create_policy))
        .routes(routes!(policy, change_policy, delete_policy))
        .routes(routes!(rehearsal))
        .routes(routes!(criteria))
}

/// What must be so. What is left out does not count; all that is set must be met.
#[derive(Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
struct PolicyCriteria {
    /// Days in good standing.
    standing_days_min: Option<u32>,
    /// Messages of the last four weeks.
    sent_min: Option<u64>,
    /// Hard bounces of 10,000 messages.
    bounces_below: Option<u32>,
    /// Complaints of 10,000 messages.
    complaints_below: Option<u32>,
    /// The wanted daily quota, as a multiple of the busiest of the last fourteen days.
    times_peak_max: Option<u32>,
    per_day_max: Option<i64>,
    per_second_max: Option<i64>,
    /// IPs that the account would hold then.
    ips_max: Option<u32>,
    /// All three statements are made.
    statements: bool,
    /// Of a managed pool: all that is required is met.
    requirements: bool,
    /// One of these plans; empty: any.
    plans: Vec<String>,
}

impl From<PolicyCriteria> for rules::Criteria {
    fn from(ours: PolicyCriteria) -> rules::Criteria {
        rules::Criteria {
            standing_days_min: ours.standing_days_min,
            sent_min: ours.sent_min,
            bounces_below: ours.bounces_below,
            complaints_below: ours.complaints_below,
            times_peak_max: ours.times_peak_max,
            per_day_max: ours.per_day_max,
            per_second_max: ours.per_second_max,
            ips_max: ours.ips_max,
            statements: ours.statements,
            requirements: ours.requirements,
            plans: ours.plans,
        }
    }
}

impl From<rules::Criteria> for PolicyCriteria {
    fn from(theirs: rules::Criteria) -> PolicyCriteria {
        PolicyCriteria {
            standing_days_min: theirs.standing_days_min,
            sent_min: theirs.sent_min,
            bounces_below: theirs.bounces_below,
            complaints_below: theirs.complaints_below,
            times_peak_max: theirs.times_peak_max,
            per_day_max: theirs.per_day_max,
            per_second_max: theirs.per_second_max,
            ips_max: theirs.ips_max,
            statements: theirs.statements,
            requirements: theirs.requirements,
            plans: theirs.plans,
        }
    }
}

#[derive(Serialize, ToSchema)]
struct Policy {
    id: String,
    name: String,
    kind: CaseKind,
    is_on: bool,
    criteria: PolicyCriteria,
    revision: i64,
    created_at: Time,
}

impl From<theirs::Policy> for Policy {
    fn from(policy: theirs::Policy) -> Policy {
        Policy {
            id: policy.id,
            name: policy.name,
            kind: policy.kind.into(),
            is_on: policy.is_on,
            criteria: policy.criteria.into(),
            revision: policy.revision,
            created_at: Time(policy.created_at),
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewPolicy {
    name: String,
    kind: CaseKind,
    criteria: PolicyCriteria,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PolicyChange {
    is_on: Option<bool>,
    /// All of them anew.
    criteria: Option<PolicyCriteria>,
}

/// A criterion, and whether it is met.
#[derive(Serialize, ToSchema)]
struct PolicyCriterion {
    code: String,
    met: bool,
    words: String,
}

fn criterion(point: fit::Point) -> PolicyCriterion {
    PolicyCriterion { code: point.code.to_owned(), met: point.met, words: point.words }
}

/// A past case, and what the policy would have said by what was known then.
#[derive(Serialize, ToSchema)]
struct PolicyRehearsed {
    case: String,
    account: String,
    /// What became of it.
    state: CaseState,
    would_grant: bool,
    criteria: Vec<PolicyCriterion>,
}

/// A policy that is on, and how the account stands to it.
#[derive(Serialize, ToSchema)]
struct PolicyStanding {
    policy: String,
    would_grant: bool,
    criteria: Vec<PolicyCriterion>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PolicyWish {
    /// What would be asked for.
    kind: CaseKind,
    /// So many IPs.
    quantity: Option<u32>,
    /// So many recipients in 24 hours.
    per_day: Option<i64>,
    /// So many a second.
    per_second: Option<i64>,
}

/// The operator's policies, oldest first.
#[utoipa::path(get, path = "/policies", responses((status = 200, body = Listed<Policy>)))]
async fn policies(call: Call, list: Listing) -> Answer {
    listed(call.office.policies(&call.by, &list.window).await?, Policy::from)
}

/// Make a policy. It is off until it is switched on. For the operator.
#[utoipa::path(post, path = "/policies", request_body = NewPolicy, responses((status = 201, body = Policy)))]
async fn create_policy(call: Call, Body(new): Body<NewPolicy>) -> Answer {
    let made = call.office.create_policy(&call.by, &new.name, new.kind.into(), new.criteria.into()).await?;
    created(&["policies", &made.id.clone()], Some(made.revision), Policy::from(made))
}

/// One policy.
#[utoipa::path(get, path = "/policies/{policy}", responses((status = 200, body = Policy)))]
async fn policy(call: Call, At([policy]): At<1>) -> Answer {
    let policy = call.office.policy(&call.by, &policy).await?;
    found(policy.revision, Policy::from(policy))
}

/// Switch a policy on or off, or give it other criteria. Cases that are open already are not answered by it.
#[utoipa::path(patch, path = "/policies/{policy}", request_body = PolicyChange, responses((status = 200, body = Policy)))]
async fn change_policy(
    call: Call,
    At([policy]): At<1>,
    IfMatch(revision): IfMatch,
    Body(to): Body<PolicyChange>,
) -> Answer {
    let to = theirs::PolicyChange { is_on: to.is_on, criteria: to.criteria.map(Into::into), revision };
    let policy = call.office.change_policy(&call.by, &policy, to).await?;
    found(policy.revision, Policy::from(policy))
}

/// Delete a policy. What it has granted stays granted.
#[utoipa::path(delete, path = "/policies/{policy}", responses((status = 204, description = "It is gone")))]
async fn delete_policy(call: Call, At([policy]): At<1>) -> Answer {
    call.office.delete_policy(&call.by, &policy).await?;
    gone()
}

/// What a policy would have said to past cases of its kind, newest first. For the operator.
#[utoipa::path(get, path = "/policies/{policy}/rehearsal", responses((status = 200, body = Listed<PolicyRehearsed>)))]
async fn rehearsal(call: Call, At([policy]): At<1>, _: Listing<Everything>) -> Answer {
    whole(call.office.rehearse_policy(&call.by, &policy).await?, |past| PolicyRehearsed {
        case: past.case,
        account: past.account,
        state: past.state.into(),
        would_grant: past.would_grant,
        criteria: past.points.into_iter().map(criterion).collect(),
    })
}

/// The criteria by which a request is granted at once, and how close the account is to each, before it asks.
#[utoipa::path(get, path = "/accounts/{account}/criteria", params(PolicyWish), responses((status = 200, body = Listed<PolicyStanding>)))]
async fn criteria(call: Call, At([account]): At<1>, Asked(wish): Asked<PolicyWish>) -> Answer {
    let part = theirs::Part {
        quantity: wish.quantity,
        per_day: wish.per_day,
        per_second: wish.per_second,
        ..theirs::Part::default()
    };
    let made = Some(true);
    // Whoever asks will have to make the statements; how close one is depends on the rest.
    let request = theirs::Request {
        parts: vec![part],
        terms: made,
        only_opted_in: made,
        bounce_process: made,
        ..theirs::Request::default()
    };
    whole(call.office.criteria(&call.by, &account, wish.kind.into(), &request).await?, |standing| PolicyStanding {
        policy: standing.policy,
        would_grant: standing.would_grant,
        criteria: standing.points.into_iter().map(criterion).collect(),
    })
}
