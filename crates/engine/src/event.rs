//! What happened to a message, a recipient or a lane? Durable, and the only thing that goes up.

use crate::attempt::TlsUsed;
use crate::classify::Meaning;
use crate::id::{AccountId, MessageId, PoolId};
use crate::time::Timestamp;
use crate::why::Why;
use mail::reply::Reply;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Timestamp,
    pub kind: EventKind,
    pub message: Option<MessageId>,
    /// Index into the envelope; the address is filled in by whoever shows the event. `None`: the message as a whole.
    pub recipient: Option<u16>,
    pub account: Option<AccountId>,
    pub pool: Option<PoolId>,
    pub ip: Option<IpAddr>,
    pub provider: Option<Arc<str>>,
    /// The remote host.
    pub host: Option<Arc<str>>,
    pub reply: Option<Reply>,
    pub meaning: Option<Meaning>,
    pub why: Option<Why>,
    /// When it is tried again, or when the lane speaks again.
    pub next_at: Option<Timestamp>,
    /// The number of attempts so far, this one included.
    pub attempt: u16,
    pub tls: Option<TlsUsed>,
    pub took: Option<Duration>,
    /// What a complaint complains of, in the word of the report: `abuse`, `fraud`.
    pub feedback: Option<Arc<str>>,
    /// What a reader followed.
    pub link: Option<Arc<str>>,
    /// As the reader's program calls itself.
    pub agent: Option<Arc<str>>,
    pub reader: Option<Reader>,
}

/// Who opened a message or followed a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reader {
    Person,
    /// A provider's or browser's, on behalf of a person or ahead of one.
    Proxy,
    /// A filter, a preview, a program: something that looks at everything.
    Machine,
}

impl Reader {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Reader::Person => "person",
            Reader::Proxy => "proxy",
            Reader::Machine => "machine",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// Taken into the queue. Recorded by intake, at the acknowledgement.
    Accepted,
    /// Its time came, and there was nothing it may leave from (R2.3).
    Rejected,
    Delivered,
    Deferred,
    Bounced,
    Expired,
    Held,
    Released,
    Deleted,
    /// It has waited for as long as a delay notice is due; it is still tried.
    Delayed,
    /// Another IP of the same route took over (R2.4).
    Moved,
    /// A lane was slowed, by a provider's answer.
    LaneSlowed,
    /// A lane was suspended, by a provider's answer or an order.
    LaneSuspended,
    LaneResumed,
    /// No connection could be made; the site's mail waits on that lane.
    SiteUnreachable,
    SiteReachable,
    IpGone,
    IpBack,
    // New ones stand at the end: the spool knows them by their number.
    /// A scheduled message's time has come, and its route is decided (R1.6).
    Routed,
    /// Nothing is queued any more on an IP that takes no new messages (R2.4): it may rest.
    IpDrained,
    /// The remote took it, and sent it back later (R5.4).
    Returned,
    /// The recipient, or a provider for it, complains of the message.
    Complained,
    /// A program of the recipient's answered: nobody read it yet.
    Answered,
    /// The recipient wants no more of this stream.
    Unsubscribed,
    /// The recipient is on the suppression list: nothing was sent (R5.5).
    Suppressed,
    /// The message's picture was fetched.
    Opened,
    /// A link of the message was followed.
    Clicked,
    /// A step of an IP's warm-up, by what it heard or by order.
    WarmUp,
}

/// In the order of the spool's numbers.
pub const EVENT_KINDS: &[EventKind] = &[
    EventKind::Accepted,
    EventKind::Rejected,
    EventKind::Delivered,
    EventKind::Deferred,
    EventKind::Bounced,
    EventKind::Expired,
    EventKind::Held,
    EventKind::Released,
    EventKind::Deleted,
    EventKind::Delayed,
    EventKind::Moved,
    EventKind::LaneSlowed,
    EventKind::LaneSuspended,
    EventKind::LaneResumed,
    EventKind::SiteUnreachable,
    EventKind::SiteReachable,
    EventKind::IpGone,
    EventKind::IpBack,
    EventKind::Routed,
    EventKind::IpDrained,
    EventKind::Returned,
    EventKind::Complained,
    EventKind::Answered,
    EventKind::Unsubscribed,
    EventKind::Suppressed,
    EventKind::Opened,
    EventKind::Clicked,
    EventKind::WarmUp,
];

impl EventKind {
    #[must_use]
    pub fn of(code: &str) -> Option<EventKind> {
        EVENT_KINDS.iter().copied().find(|kind| kind.code() == code)
    }

    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            EventKind::Accepted => "accepted",
            EventKind::Rejected => "rejected",
            EventKind::Delivered => "delivered",
            EventKind::Deferred => "deferred",
            EventKind::Bounced => "bounced",
            EventKind::Expired => "expired",
            EventKind::Held => "held",
            EventKind::Released => "released",
            EventKind::Deleted => "deleted",
            EventKind::Delayed => "delayed",
            EventKind::Moved => "moved",
            EventKind::LaneSlowed => "lane-slowed",
            EventKind::LaneSuspended => "lane-suspended",
            EventKind::LaneResumed => "lane-resumed",
            EventKind::SiteUnreachable => "site-unreachable",
            EventKind::SiteReachable => "site-reachable",
            EventKind::IpGone => "ip-gone",
            EventKind::IpBack => "ip-back",
            EventKind::Routed => "routed",
            EventKind::IpDrained => "ip-drained",
            EventKind::Returned => "returned",
            EventKind::Complained => "complained",
            EventKind::Answered => "answered",
            EventKind::Unsubscribed => "unsubscribed",
            EventKind::Suppressed => "suppressed",
            EventKind::Opened => "opened",
            EventKind::Clicked => "clicked",
            EventKind::WarmUp => "warm-up",
        }
    }
}

impl Event {
    /// An event with nothing but its time and kind; the rest is filled in where it is known.
    #[must_use]
    pub fn new(at: Timestamp, kind: EventKind) -> Event {
        Event {
            at,
            kind,
            message: None,
            recipient: None,
            account: None,
            pool: None,
            ip: None,
            provider: None,
            host: None,
            reply: None,
            meaning: None,
            why: None,
            next_at: None,
            attempt: 0,
            tls: None,
            took: None,
            feedback: None,
            link: None,
            agent: None,
            reader: None,
        }
    }
}
