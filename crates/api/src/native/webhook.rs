//! Webhooks: who is told of events as they happen. (R6.1)

use super::event::kinds;
use super::words::Time;
use super::{Answer, At, Call, created, found, gone, listed, told};
use crate::asked::{Body, IfMatch, Listed, Listing};
use crate::caller::Desk;
use control::webhook as theirs;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub fn routes() -> OpenApiRouter<Desk> {
    OpenApiRouter::new()
        .routes(routes!(webhooks, create_webhook))
        .routes(routes!(webhook, change_webhook, delete_webhook))
        .routes(routes!(rotate_webhook))
        .routes(routes!(replay_webhook))
        .routes(routes!(webhook_deliveries))
}

#[derive(Serialize, ToSchema)]
struct Webhook {
    id: String,
    account: String,
    #[schema(required)]
    subaccount: Option<String>,
    name: String,
    target: String,
    /// The kinds of events it hears of; empty: all.
    kinds: Vec<&'static str>,
    /// Events of one request at most.
    events_max: i64,
    /// Milliseconds that a request waits to become full.
    wait_ms: i64,
    /// Why nothing is sent to it, and how to go on; null: it is sent to.
    #[schema(required)]
    paused: Option<Paused>,
    revision: i64,
    created_at: Time,
}

#[derive(Serialize, ToSchema)]
struct Paused {
    /// `tried-for-a-day`, `target-gone`, `by-its-owner`.
    code: &'static str,
    words: &'static str,
}

impl From<theirs::Webhook> for Webhook {
    fn from(webhook: theirs::Webhook) -> Webhook {
        Webhook {
            id: webhook.id,
            account: webhook.account,
            subaccount: webhook.subaccount,
            name: webhook.name,
            target: webhook.url,
            kinds: webhook.kinds.into_iter().map(engine::event::EventKind::code).collect(),
            events_max: webhook.events_max,
            wait_ms: webhook.wait_ms,
            paused: webhook.paused.map(|why| Paused { code: why.code(), words: why.words() }),
            revision: webhook.revision,
            created_at: Time(webhook.created_at),
        }
    }
}

/// A webhook, and how it stands with its target.
#[derive(Serialize, ToSchema)]
struct WebhookStanding {
    #[serde(flatten)]
    webhook: Webhook,
    /// When the first event happened that was not taken yet; null: everything was.
    #[schema(required)]
    waiting_since: Option<Time>,
    #[schema(required)]
    failing_since: Option<Time>,
    failures: u32,
    #[schema(required)]
    next_at: Option<Time>,
}

/// With the secret that its requests are signed with; it is shown this once.
#[derive(Serialize, ToSchema)]
struct WebhookShown {
    #[serde(flatten)]
    webhook: Webhook,
    /// For a library of Standard Webhooks, as it stands.
    secret: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewWebhook {
    name: String,
    /// `https://…` or `http://…`; private and loopback addresses only where the operator allows them.
    target: String,
    /// Of one subaccount's mail alone, by name or id.
    subaccount: Option<String>,
    /// Left out or empty: all.
    kinds: Option<Vec<String>>,
    /// 1 to 1000; 250 where it is left out.
    events_max: Option<i64>,
    /// Up to 60000; 0 where it is left out.
    wait_ms: Option<i64>,
}

/// What is left out stays.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct WebhookChange {
    name: Option<String>,
    target: Option<String>,
    /// Empty: all.
    kinds: Option<Vec<String>>,
    events_max: Option<i64>,
    wait_ms: Option<i64>,
    /// Whether nothing is sent to it; false resumes it with the first event that was not taken.
    paused: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct SecretRotation {
    /// How long requests are signed with the old secret too: 0 to 2592000 seconds; a day where it is left out.
    overlap_s: Option<u64>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Replay {
    /// What has happened since then is sent again, as far as it is kept.
    from: Time,
}

/// One request to the target.
#[derive(Serialize, ToSchema)]
struct Delivery {
    at: Time,
    /// `webhook-id`: the same whenever these events are sent again.
    batch: String,
    events: i64,
    taken: bool,
    #[schema(required)]
    status: Option<i64>,
    words: String,
    took_ms: i64,
    /// The beginning of what was sent.
    request: String,
    /// The beginning of what was answered.
    answer: String,
}

impl From<theirs::Delivery> for Delivery {
    fn from(delivery: theirs::Delivery) -> Delivery {
        Delivery {
            at: Time(delivery.at),
            batch: delivery.batch,
            events: delivery.events,
            taken: delivery.is_taken,
            status: delivery.status,
            words: delivery.words,
            took_ms: delivery.took_ms,
            request: delivery.request,
            answer: delivery.answer,
        }
    }
}

fn words(kinds: &[String]) -> Vec<&str> {
    kinds.iter().map(String::as_str).collect()
}

/// The account's webhooks, oldest first.
#[utoipa::path(get, path = "/accounts/{account}/webhooks", responses((status = 200, body = Listed<Webhook>)))]
async fn webhooks(call: Call, At([account]): At<1>, list: Listing) -> Answer {
    listed(call.office.webhooks(&call.by, &account, &list.window).await?, Webhook::from)
}

/// Have events sent somewhere as they happen. The secret is shown this once.
#[utoipa::path(post, path = "/accounts/{account}/webhooks", request_body = NewWebhook, responses((status = 201, body = WebhookShown)))]
async fn create_webhook(call: Call, At([account]): At<1>, Body(new): Body<NewWebhook>) -> Answer {
    let new = theirs::NewWebhook {
        name: new.name,
        url: new.target,
        subaccount: new.subaccount,
        kinds: kinds(&words(&new.kinds.unwrap_or_default()))?,
        events_max: new.events_max,
        wait_ms: new.wait_ms,
    };
    let (made, secret) = call.office.create_webhook(&call.by, &account, new).await?;
    created(
        &["accounts", &made.account.clone(), "webhooks", &made.id.clone()],
        Some(made.revision),
        WebhookShown { webhook: made.into(), secret: secret.show().to_owned() },
    )
}

/// One webhook, and how it stands with its target.
#[utoipa::path(get, path = "/accounts/{account}/webhooks/{webhook}", responses((status = 200, body = WebhookStanding)))]
async fn webhook(call: Call, At([account, webhook]): At<2>) -> Answer {
    let (webhook, progress) = call.office.webhook(&call.by, &account, &webhook).await?;
    found(
        webhook.revision,
        WebhookStanding {
            webhook: webhook.into(),
            waiting_since: progress.waiting_since.map(Time),
            failing_since: progress.failing_since.map(Time),
            failures: progress.failures,
            next_at: progress.next_at.map(Time),
        },
    )
}

/// Change, pause or resume a webhook.
#[utoipa::path(patch, path = "/accounts/{account}/webhooks/{webhook}", request_body = WebhookChange, responses((status = 200, body = Webhook)))]
async fn change_webhook(
    call: Call,
    At([account, webhook]): At<2>,
    IfMatch(revision): IfMatch,
    Body(to): Body<WebhookChange>,
) -> Answer {
    let to = theirs::WebhookChange {
        name: to.name,
        url: to.target,
        kinds: to.kinds.map(|kinds_| kinds(&words(&kinds_))).transpose()?,
        events_max: to.events_max,
        wait_ms: to.wait_ms,
        is_paused: to.paused,
        revision,
    };
    let is = call.office.change_webhook(&call.by, &account, &webhook, to).await?;
    found(is.revision, Webhook::from(is))
}

/// Delete a webhook; what it has not been sent yet is not sent.
#[utoipa::path(delete, path = "/accounts/{account}/webhooks/{webhook}", responses((status = 204)))]
async fn delete_webhook(call: Call, At([account, webhook]): At<2>) -> Answer {
    call.office.delete_webhook(&call.by, &account, &webhook).await?;
    gone()
}

/// A new secret, shown this once; the old one signs beside it for the overlap.
#[utoipa::path(post, path = "/accounts/{account}/webhooks/{webhook}/rotate", request_body = SecretRotation, responses((status = 200, body = WebhookShown)))]
async fn rotate_webhook(call: Call, At([account, webhook]): At<2>, Body(rotation): Body<SecretRotation>) -> Answer {
    let overlap = rotation.overlap_s.map(Duration::from_secs);
    let (webhook, secret) = call.office.rotate_webhook(&call.by, &account, &webhook, overlap).await?;
    told(WebhookShown { webhook: webhook.into(), secret: secret.show().to_owned() })
}

/// Send again what has happened since a moment, and go on from there; a paused webhook is resumed by it.
#[utoipa::path(post, path = "/accounts/{account}/webhooks/{webhook}/replay", request_body = Replay, responses((status = 200, body = Webhook)))]
async fn replay_webhook(call: Call, At([account, webhook]): At<2>, Body(replay): Body<Replay>) -> Answer {
    told(Webhook::from(call.office.replay_webhook(&call.by, &account, &webhook, replay.from.0).await?))
}

/// What was sent and answered lately, newest first: the last 500 requests, for a week.
#[utoipa::path(get, path = "/accounts/{account}/webhooks/{webhook}/deliveries", responses((status = 200, body = Listed<Delivery>)))]
async fn webhook_deliveries(call: Call, At([account, webhook]): At<2>, list: Listing) -> Answer {
    listed(call.office.webhook_deliveries(&call.by, &account, &webhook, &list.window).await?, Delivery::from)
}
