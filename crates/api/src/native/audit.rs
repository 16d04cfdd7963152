//! Who did what, when, from where. (R7.6)

use super::words::Time;
use super::{Answer, Call, called, listed};
use crate::asked::{Listed, Listing};
use crate::caller::Desk;
use control::audit as theirs;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new().routes(routes!(audit))
}

#[derive(Serialize, ToSchema)]
struct Entry {
    id: String,
    at: Time,
    /// `service`, `command-line`, `key`, `person`.
    actor_kind: String,
    /// The id of the key or person; empty for the service itself.
    actor: String,
    actor_name: String,
    #[schema(required)]
    actor_from: Option<String>,
    #[schema(required)]
    account: Option<String>,
    /// What kind of thing it was done to: `pool`, `lease`, …
    subject_kind: String,
    subject: String,
    /// A word in the past: `created`, `moved`.
    action: String,
    /// What was and what is.
    #[schema(value_type = Object)]
    detail: serde_json::Value,
}

impl From<theirs::Entry> for Entry {
    fn from(entry: theirs::Entry) -> Entry {
        Entry {
            id: entry.id.to_string(),
            at: Time(entry.at),
            actor_kind: entry.actor_kind,
            actor: entry.actor,
            actor_name: entry.actor_name,
            actor_from: entry.actor_from,
            account: entry.account,
            subject_kind: entry.subject_kind,
            subject: entry.subject,
            action: entry.action,
            detail: entry.detail,
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Of {
    /// Of one account, by id or name; `self` is the caller's own.
    account: Option<String>,
    /// About one thing, by its id.
    subject: Option<String>,
}

/// Every change that was made, newest first. An account sees the lines about itself.
#[utoipa::path(get, path = "/audit", params(Of), responses((status = 200, body = Listed<Entry>)))]
async fn audit(call: Call, list: Listing<Of>) -> Answer {
    let account = match called(&call.by, list.of.account)? {
        Some(called) => Some(call.office.account(&call.by, &called).await?.id),
        None => None,
    };
    let page = call.office.audit(&call.by, account.as_deref(), list.of.subject.as_deref(), &list.window).await?;
    listed(page, Entry::from)
}
