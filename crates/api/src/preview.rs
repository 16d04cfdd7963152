//! Where would a message go now, by which rule, and why? Nothing is sent. (R2.7)

use crate::asked::Body;
use crate::caller::{Caller, Desk};
use crate::explanation::{RouteView, WhyView};
use crate::messages::time;
use crate::problem::Problem;
use axum::Json;
use axum::extract::State;
use engine::id::{AccountId, RegionId, SubaccountId};
use engine::snapshot::Scope;
use mail::address::Mailbox;
use mta::intake::{Asked, Preview, check_schedule};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a submission would say of itself. A field is checked as at a submission, if it is given.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteQuestion)]
pub struct Question {
    /// For the operator: whose mail.
    account: Option<String>,
    from: Option<String>,
    #[serde(default)]
    to: Vec<String>,
    pool: Option<String>,
    configuration_set: Option<String>,
    subaccount: Option<String>,
    region: Option<String>,
    send_at: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RoutePreview)]
pub struct Answer {
    region: String,
    route: RouteView,
    /// Where it is scheduled: what will count is the moment it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<String>,
    /// Recipients that nothing would be sent to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    suppressed: Vec<SuppressedRecipient>,
}

#[derive(Debug, Serialize, ToSchema)]
struct SuppressedRecipient {
    address: String,
    why: WhyView,
}

/// Where a message would go now, by which rule. Nothing is sent. (R2.7)
#[utoipa::path(post, path = "/routes:preview", operation_id = "preview_route", request_body = Question, responses((status = 200, body = Answer)))]
pub async fn preview(
    State(desk): State<Desk>,
    caller: Caller,
    Body(question): Body<Question>,
) -> Result<Json<Answer>, Problem> {
    caller.may(Scope::Read)?;
    let account = match (caller.account(), question.account) {
        (None, Some(named)) => Some(AccountId::new(&named)),
        (None, None) => {
            return Err(Problem::invalid("account", "It is not said whose mail.", "Name an account."));
        }
        (Some(_), _) => None,
    };
    if let Some(named) = &account
        && !desk.intake.snapshot().accounts.contains_key(named)
    {
        return Err(Problem::not_found("This account").at("account"));
    }
    let mailbox = |field: &str, text: &str| {
        Mailbox::parse(text)
            .map_err(|error| Problem::invalid(field, format!("{error}."), "Write it as ann@example.com."))
    };
    let from = question.from.as_deref().map(|text| mailbox("from", text)).transpose()?;
    let to: Vec<Mailbox> = (question.to.iter().enumerate())
        .map(|(place, text)| mailbox(&format!("to[{place}]"), text))
        .collect::<Result<_, _>>()?;
    let due = question.send_at.as_deref().map(time).transpose()?;
    let due = check_schedule(due, desk.intake.now())?;
    let asked = Asked {
        region: question.region.map(|region| RegionId::new(&region)),
        pool: question.pool.map(Into::into),
        set: question.configuration_set.map(Into::into),
        subaccount: question.subaccount.map(|part| SubaccountId::new(&part)),
    };
    let Preview { wish, route, suppressed } =
        desk.intake.preview(&caller.visitor, account.as_ref(), from.as_ref(), &to, asked)?;
    let hidden = caller.hidden(&desk, Some(&route), []);
    Ok(Json(Answer {
        region: wish.region.to_string(),
        route: RouteView::of(&route, None, &hidden),
        decided_at: due.map(|due| due.to_string()),
        suppressed: (suppressed.into_iter())
            .map(|(address, why)| SuppressedRecipient { address, why: WhyView::of(&why, &hidden) })
            .collect(),
    }))
}
