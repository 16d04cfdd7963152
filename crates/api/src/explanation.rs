//! What became of a message? The story of the event log and the engine's view of what comes next, as JSON. (R2.7)

use crate::caller::{Caller, Desk};
use crate::problem::Problem;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use engine::Shown;
use engine::envelope::{Envelope, PoolRule, Route};
use engine::event::{Event, EventKind};
use engine::id::MessageId;
use engine::why::Why;
use mta::record::Entry;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Explanation {
    pub id: String,
    pub account: String,
    pub accepted_at: String,
    pub expires_at: String,
    pub from: Option<String>,
    pub message_id: String,
    pub size: u32,
    pub tags: std::collections::BTreeMap<String, String>,
    pub route: RouteView,
    pub recipients: Vec<RecipientView>,
}

#[derive(Debug, Serialize)]
pub struct RouteView {
    pub pool: String,
    /// Which rule chose the pool, as a code and in words.
    pub rule: String,
    pub rule_words: &'static str,
    pub ip: String,
    pub candidates: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct RecipientView {
    pub address: String,
    /// `queued`, `held`, `delivered`, `bounced`, `expired`, `deleted`.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<WhyView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
    pub events: Vec<EventView>,
}

#[derive(Debug, Serialize)]
pub struct WhyView {
    pub code: &'static str,
    pub words: String,
}

impl From<&Why> for WhyView {
    fn from(why: &Why) -> WhyView {
        WhyView { code: why.code(), words: why.words() }
    }
}

#[derive(Debug, Serialize)]
pub struct EventView {
    pub at: String,
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<WhyView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    pub attempt: u16,
}

pub async fn explain(
    State(desk): State<Desk>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Explanation>, Problem> {
    let unknown = || Problem::not_found("This message");
    let message = parse_id(&id).ok_or_else(unknown)?;
    let story = desk.stories.story(message).await.map_err(|fault| {
        tracing::error!(id = %message, %fault, "the event log cannot be read");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "log_unreadable",
            "The event log cannot be read.",
            "See the log of the service.",
        )
    })?;
    let accepted = story.iter().find_map(|entry| entry.accepted.clone()).ok_or_else(unknown)?;
    // Another account's message is as unknown as one that never was.
    if !caller.may_see(&accepted.account) {
        return Err(unknown());
    }
    let shown = desk.driver.ask(move |engine, _| engine.show(message)).await.map_err(|_| Problem::stopping())?;
    Ok(Json(tell(&accepted, &story, shown.as_ref())))
}

#[must_use]
pub fn parse_id(text: &str) -> Option<MessageId> {
    let plain = text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(text, 16).ok().map(MessageId)).flatten()
}

/// The story of each recipient: its own events and those of the message as a whole.
fn tell(accepted: &Envelope, story: &[Entry], shown: Option<&Shown>) -> Explanation {
    let recipients = (0u16..).zip(&accepted.recipients).map(|(at, recipient)| {
        let events: Vec<&Event> =
            story.iter().map(|entry| &entry.event).filter(|event| event.recipient.is_none_or(|of| of == at)).collect();
        let waiting = shown.and_then(|shown| shown.recipients.iter().find(|shown| shown.recipient == at));
        RecipientView {
            address: recipient.address.clone(),
            state: waiting.map_or_else(|| fate(&events), |waiting| state(&waiting.why)).to_owned(),
            why: waiting
                .map(|waiting| WhyView::from(&waiting.why))
                .or_else(|| events.last()?.why.as_ref().map(WhyView::from)),
            next_at: waiting.and_then(|waiting| waiting.until).map(|at| at.to_string()),
            events: events.into_iter().map(event_view).collect(),
        }
    });
    Explanation {
        id: accepted.message.to_string(),
        account: accepted.account.to_string(),
        accepted_at: accepted.accepted_at.to_string(),
        expires_at: accepted.expires_at.to_string(),
        from: accepted.sender.clone(),
        message_id: accepted.message_id_header.clone(),
        size: accepted.size,
        tags: accepted.tags.iter().cloned().collect(),
        route: route_view(&accepted.route),
        recipients: recipients.collect(),
    }
}

/// What the log says of a recipient that the engine no longer knows.
fn fate(events: &[&Event]) -> &'static str {
    let last = events.iter().rev().map(|event| event.kind);
    let mut fates = last.filter(|kind| {
        matches!(kind, EventKind::Delivered | EventKind::Bounced | EventKind::Expired | EventKind::Deleted)
    });
    fates.next().map_or("queued", EventKind::code)
}

fn state(why: &Why) -> &'static str {
    if *why == Why::HeldByOrder { "held" } else { "queued" }
}

fn route_view(route: &Route) -> RouteView {
    let (rule, rule_words) = match route.rule {
        PoolRule::NamedOnMessage => ("named-on-message", "the pool was named on the message"),
        PoolRule::AccountDefault => ("account-default", "no pool was named, so the account's default pool carries it"),
        PoolRule::Shared => {
            ("shared", "no pool was named and the account has no default pool with an IP, so a shared pool carries it")
        }
    };
    RouteView {
        pool: route.pool.to_string(),
        rule: rule.to_owned(),
        rule_words,
        ip: route.chosen.to_string(),
        candidates: route.candidates.iter().map(ToString::to_string).collect(),
    }
}

fn event_view(event: &Event) -> EventView {
    EventView {
        at: event.at.to_string(),
        kind: event.kind.code(),
        ip: event.ip.map(|ip| ip.to_string()),
        provider: event.provider.as_deref().map(str::to_owned),
        host: event.host.as_deref().map(str::to_owned),
        reply: event.reply.as_ref().map(ToString::to_string),
        meaning: event
            .meaning
            .as_ref()
            .map(|meaning| format!("{:?}/{:?}", meaning.class, meaning.subtype).to_lowercase()),
        why: event.why.as_ref().map(WhyView::from),
        next_at: event.next_at.map(|at| at.to_string()),
        tls: event.tls.as_ref().map(|tls| format!("{}, {}", tls.version, tls.cipher)),
        attempt: event.attempt,
    }
}
