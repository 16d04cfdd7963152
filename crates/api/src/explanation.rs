//! What became of a message? The story of the event log and the engine's view of what comes next, as JSON. (R2.7)

use crate::caller::{Caller, Desk};
use crate::problem::Problem;
use axum::Json;
use axum::extract::{Path, State};
use control::block::Kept;
use engine::Shown;
use engine::envelope::{Envelope, Route};
use engine::event::{Event, EventKind, Reader};
use engine::id::MessageId;
use engine::route;
use engine::snapshot::Scope;
use engine::split::reader_of;
use engine::why::Why;
use mta::hidden::Hidden;
use mta::record::{self, Entry};
use serde::Serialize;
use std::net::IpAddr;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    pub id: String,
    pub account: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subaccount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration_set: Option<String>,
    pub region: String,
    pub accepted_at: String,
    /// Where it was scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_at: Option<String>,
    pub expires_at: String,
    pub from: Option<String>,
    pub message_id: String,
    pub size: u32,
    pub tags: std::collections::BTreeMap<String, String>,
    /// None: it is scheduled, and its route is decided at that time.
    pub route: Option<RouteView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undecided: Option<Undecided>,
    pub recipients: Vec<RecipientView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Route)]
pub struct RouteView {
    /// What its owner calls it.
    pub pool: String,
    pub pool_id: String,
    /// Which rule chose the pool, as a code and in words.
    pub rule: &'static str,
    pub rule_words: String,
    /// None: a managed pool's addresses are for the operator alone (R2.8).
    pub ip: Option<String>,
    pub candidates: Vec<String>,
}

/// What would become of a scheduled message now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Undecided {
    pub words: String,
    pub now: Option<RouteView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<WhyView>,
}

impl RouteView {
    #[must_use]
    pub fn of(route: &Route, why: Option<&Why>, hidden: &Hidden) -> RouteView {
        let shown = |ip: &IpAddr| (!hidden.hides(*ip)).then(|| ip.to_string());
        RouteView {
            pool: route.name.to_string(),
            pool_id: route.pool.to_string(),
            rule: route.rule.code(),
            rule_words: why.map_or_else(|| route.rule.words().to_owned(), Why::words),
            ip: shown(&route.chosen),
            candidates: route.candidates.iter().filter_map(shown).collect(),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecipientStory)]
pub struct RecipientView {
    pub address: String,
    /// `queued`, `held`, `delivered`, `bounced`, `expired`, `deleted`, `rejected`, `suppressed`, `returned`.
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<WhyView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
    pub events: Vec<EventView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Why)]
pub struct WhyView {
    pub code: &'static str,
    pub words: String,
}

impl WhyView {
    #[must_use]
    pub fn of(why: &Why, hidden: &Hidden) -> WhyView {
        WhyView { code: why.code(), words: hidden.words(&why.words()) }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Event)]
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
    /// What a complaint complains of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// What a reader followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// As the reader's program calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// `person`, `proxy` or `machine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader: Option<&'static str>,
    pub attempt: u16,
}

/// What became of a message: its route, and the story of each recipient. (R2.7)
#[utoipa::path(get, path = "/messages/{id}", operation_id = "explain_message", responses((status = 200, body = Explanation), (status = 500, body = Problem, content_type = "application/problem+json", description = "The event log cannot be read")))]
pub async fn explain(
    State(desk): State<Desk>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Explanation>, Problem> {
    caller.may(Scope::Read)?;
    let unknown = || Problem::not_found("This message");
    let message = parse_id(&id).ok_or_else(unknown)?;
    let story = desk.stories.story(message).await.map_err(|fault| Problem::log_unreadable(message, &fault))?;
    let story = whole(&desk, message, story).await?;
    let accepted = story.iter().find_map(|entry| entry.accepted.clone()).ok_or_else(unknown)?;
    // Another account's message is as unknown as one that never was.
    if !caller.may_see(&accepted.account, accepted.wish.subaccount.as_ref()) {
        return Err(unknown());
    }
    let shown = desk.driver.ask(move |engine, _| engine.show(message)).await.map_err(|_| Problem::stopping())?;
    let route = accepted.route.as_ref().or_else(|| story.iter().rev().find_map(|entry| entry.route.as_ref()));
    let reader = accepted.recipients.first().map(|to| reader_of(&to.address)).unwrap_or_default();
    let would = (route.is_none() && shown.is_some()).then(|| {
        route::choose_when_due(&desk.intake.snapshot(), &accepted.account, &accepted.wish, reader, accepted.message)
    });
    let been = story.iter().filter_map(|entry| entry.event.ip);
    let now = shown.iter().filter_map(|shown| shown.home.as_ref()).map(|home| home.ip);
    let planned = would.as_ref().and_then(|would| would.as_ref().ok()).map(|(route, _)| route);
    let hidden = caller.hidden(&desk, route.or(planned), been.chain(now));
    Ok(Json(tell(&accepted, route, would, &story, shown.as_ref(), &hidden)))
}

/// The log keeps what is young; the archive keeps the beginning of what is older.
async fn whole(desk: &Desk, message: MessageId, story: Vec<Entry>) -> Result<Vec<Entry>, Problem> {
    let Some(office) = desk.office.as_ref().filter(|_| !story.iter().any(|entry| entry.accepted.is_some())) else {
        return Ok(story);
    };
    let kept = office.archive().story(message).await?;
    Ok(if kept.is_empty() { story } else { kept.into_iter().map(entry).collect() })
}

fn entry(kept: Kept) -> Entry {
    let written = kept.record.as_deref().and_then(|octets| match record::read_entries(octets) {
        Ok(entries) => entries.into_iter().next(),
        Err(fault) => {
            tracing::warn!(event = kept.id(), %fault, "what was accepted cannot be read");
            None
        }
    });
    let (accepted, route) = written.map_or((None, None), |entry| (entry.accepted, entry.route));
    Entry { address: kept.address.as_deref().map(str::to_owned), event: kept.event, accepted, route }
}

#[must_use]
pub fn parse_id(text: &str) -> Option<MessageId> {
    let plain = text.len() == 32 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(text, 16).ok().map(MessageId)).flatten()
}

/// The story of each recipient: its own events and those of the message as a whole.
fn tell(
    accepted: &Envelope,
    route: Option<&Route>,
    would: Option<Result<(Route, Why), Why>>,
    story: &[Entry],
    shown: Option<&Shown>,
    hidden: &Hidden,
) -> Explanation {
    let is_suppressed = |entry: &&Entry| entry.event.kind == EventKind::Suppressed;
    let suppressed = story.iter().filter(is_suppressed).filter_map(|entry| {
        Some(RecipientView {
            address: entry.address.clone()?,
            state: EventKind::Suppressed.code().to_owned(),
            why: entry.event.why.as_ref().map(|why| WhyView::of(why, hidden)),
            next_at: None,
            events: vec![event_view(&entry.event, hidden)],
        })
    });
    let recipients = (0u16..).zip(&accepted.recipients).map(|(at, recipient)| {
        let events = story.iter().filter(|entry| !is_suppressed(entry)).map(|entry| &entry.event);
        let events: Vec<&Event> = events.filter(|event| event.recipient.is_none_or(|of| of == at)).collect();
        let waiting = shown.and_then(|shown| shown.recipients.iter().find(|shown| shown.recipient == at));
        RecipientView {
            address: recipient.address.clone(),
            state: waiting.map_or_else(|| fate(&events), |waiting| state(&waiting.why)).to_owned(),
            why: waiting
                .map(|waiting| &waiting.why)
                .or_else(|| events.last()?.why.as_ref())
                .map(|why| WhyView::of(why, hidden)),
            next_at: waiting.and_then(|waiting| waiting.until).map(|at| at.to_string()),
            events: events.into_iter().map(|event| event_view(event, hidden)).collect(),
        }
    });
    let scheduled = accepted.due_at > accepted.accepted_at;
    let why = story.iter().map(|entry| &entry.event).find(|event| event.kind == EventKind::Routed);
    let why = why.and_then(|event| event.why.as_ref());
    let undecided = would.map(|would| {
        let words = format!("its route is decided when its time comes, at {}", accepted.due_at);
        match would {
            Ok((route, why)) => Undecided { words, now: Some(RouteView::of(&route, Some(&why), hidden)), why: None },
            Err(why) => Undecided { words, now: None, why: Some(WhyView::of(&why, hidden)) },
        }
    });
    Explanation {
        id: accepted.message.to_string(),
        account: accepted.account.to_string(),
        subaccount: accepted.wish.subaccount.as_ref().map(ToString::to_string),
        configuration_set: accepted.wish.set.as_deref().map(str::to_owned),
        region: accepted.wish.region.to_string(),
        accepted_at: accepted.accepted_at.to_string(),
        send_at: scheduled.then(|| accepted.due_at.to_string()),
        expires_at: accepted.expires_at.to_string(),
        from: accepted.sender.clone(),
        message_id: accepted.message_id_header.clone(),
        size: accepted.size,
        tags: accepted.tags.iter().cloned().collect(),
        route: route.map(|route| RouteView::of(route, why, hidden)),
        undecided,
        recipients: recipients.chain(suppressed).collect(),
    }
}

/// What the log says of a recipient that the engine no longer knows.
fn fate(events: &[&Event]) -> &'static str {
    let last = events.iter().rev().map(|event| event.kind);
    let mut fates = last.filter(|kind| {
        matches!(
            kind,
            EventKind::Delivered
                | EventKind::Bounced
                | EventKind::Expired
                | EventKind::Deleted
                | EventKind::Rejected
                | EventKind::Returned
        )
    });
    fates.next().map_or("queued", EventKind::code)
}

fn state(why: &Why) -> &'static str {
    if *why == Why::HeldByOrder { "held" } else { "queued" }
}

fn event_view(event: &Event, hidden: &Hidden) -> EventView {
    EventView {
        at: event.at.to_string(),
        kind: event.kind.code(),
        ip: event.ip.filter(|ip| !hidden.hides(*ip)).map(|ip| ip.to_string()),
        provider: event.provider.as_deref().map(str::to_owned),
        host: event.host.as_deref().map(str::to_owned),
        reply: event.reply.as_ref().map(|reply| hidden.words(&reply.to_string())),
        meaning: event
            .meaning
            .as_ref()
            .map(|meaning| format!("{:?}/{:?}", meaning.class, meaning.subtype).to_lowercase()),
        why: event.why.as_ref().map(|why| WhyView::of(why, hidden)),
        next_at: event.next_at.map(|at| at.to_string()),
        tls: event.tls.as_ref().map(|tls| format!("{}, {}", tls.version, tls.cipher)),
        feedback: event.feedback.as_deref().map(str::to_owned),
        link: event.link.as_deref().map(str::to_owned),
        agent: event.agent.as_deref().map(str::to_owned),
        reader: event.reader.map(Reader::code),
        attempt: event.attempt,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::tell;
    use engine::envelope::{Addresses, Envelope, PoolRule, Recipient, Route, TlsWish, Wish};
    use engine::event::{Event, EventKind};
    use engine::id::{AccountId, MessageId, PoolId, RegionId, StreamId};
    use engine::snapshot::{Ip, IpState, Snapshot};
    use engine::time::Timestamp;
    use engine::why::Why;
    use mail::address::Domain;
    use mail::reply::Reply;
    use mta::hidden::Hidden;
    use mta::record::Entry;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Scheduled, then decided for a managed pool, then moved, then delivered; its hosts repeat our addresses.
    fn story() -> (Envelope, Vec<Entry>) {
        let envelope = Envelope {
            message: MessageId(7),
            account: AccountId::new("bob"),
            stream: StreamId::new(""),
            wish: Wish { region: RegionId::new("local"), pool: None, set: Some("weekly".into()), subaccount: None },
            route: None,
            sender: Some("bob@b.test".into()),
            sender_domain: None,
            return_path: String::new(),
            recipients: vec![Recipient {
                address: "cy@c.test".into(),
                domain: Domain::parse("c.test").unwrap(),
                notify: None,
                orcpt: None,
            }],
            accepted_at: NOW,
            due_at: NOW + Duration::from_secs(60),
            expires_at: NOW + Duration::from_secs(3_600),
            tls: TlsWish::IfOffered,
            size: 1,
            message_id_header: "<7@weir.test>".into(),
            tags: Vec::new(),
            envid: None,
            ret: None,
            smtputf8: false,
            once: None,
        };
        let route = Route {
            pool: PoolId::new("p4"),
            name: "arranged".into(),
            addresses: Addresses::Hidden,
            rule: PoolRule::AccountDefault,
            candidates: vec![ip(4), ip(5)],
            chosen: ip(4),
        };
        let event = |kind: EventKind, last: u8, why: Option<Why>, said: &str| Event {
            ip: Some(ip(last)),
            why,
            recipient: (kind == EventKind::Delivered || kind == EventKind::Deferred).then_some(0),
            reply: (!said.is_empty()).then(|| Reply::new(450, (4, 7, 0), said)),
            ..Event::new(NOW, kind)
        };
        let chosen = Some(Why::PoolChosen { rule: PoolRule::AccountDefault, instead_of: Some("news".into()) });
        let benched = Some(Why::IpBenched { ip: ip(4), said: "450 192.0.2.4 is blocked".into() });
        let story = vec![
            Entry::of_acceptance(&envelope),
            Entry { route: Some(route), ..Entry::plain(event(EventKind::Routed, 4, chosen, "")) },
            Entry::plain(event(EventKind::Deferred, 4, Some(Why::Deferred), "out4.weir.test [192.0.2.4] too fast")),
            Entry::plain(event(EventKind::Moved, 5, benched, "")),
            Entry::plain(event(EventKind::Delivered, 5, None, "OK for [192.0.2.5]")),
        ];
        (envelope, story)
    }

    // R2.7: the rule and its words; R2.8: for the account, without an address, in no field and in nobody's words.
    #[test]
    fn a_story_tells_the_rule_and_hides_what_is_the_operators() {
        let (envelope, story) = story();
        let route = story[1].route.as_ref();
        let mut snapshot = Snapshot::empty();
        for last in [4, 5] {
            let known = Ip {
                bind: ip(last),
                ehlo: format!("out{last}.weir.test"),
                state: IpState::Active,
                hop: None,
                warm_up: None,
            };
            Arc::make_mut(&mut snapshot.ips).insert(ip(last), known);
        }
        let told = |hidden: &Hidden| serde_json::to_value(tell(&envelope, route, None, &story, None, hidden)).unwrap();
        let been = story.iter().filter_map(|entry| entry.event.ip);
        let shown = told(&Hidden::of(route, been, &snapshot));
        assert_eq!((&shown["route"]["pool"], &shown["route"]["rule"]), (&"arranged".into(), &"account-default".into()));
        assert!(shown["route"]["rule_words"].as_str().unwrap().contains("the pool news was gone"), "{shown}");
        assert_eq!(shown["configuration_set"], "weekly");
        assert_eq!(shown["send_at"], "2027-01-15T08:01:00.000Z");
        assert_eq!(shown["recipients"][0]["state"], "delivered");
        assert_eq!(shown["recipients"][0]["events"].as_array().unwrap().len(), 5);
        let shown = shown.to_string();
        for secret in ["192.0.2.4", "192.0.2.5", "out4", "out5"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
        assert!(shown.contains("(hidden)] too fast"), "{shown}");
        let all = told(&Hidden::default());
        assert_eq!(all["route"]["ip"], "192.0.2.4");
        assert_eq!(all["recipients"][0]["events"][4]["reply"], "450 4.7.0 OK for [192.0.2.5]");
    }
}
