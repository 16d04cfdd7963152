//! What do we know of an accepted message, besides its octets?
//!
//! The `Envelope` is written once, at acceptance; the `MessageState` each time something changed. Both live in the spool and come
//! back after a restart. The engine keeps neither: it takes from them what its decisions need (see `queue`).

use crate::classify::Meaning;
use crate::id::{AccountId, MessageId, PoolId, RegionId, StreamId, SubaccountId};
use crate::time::Timestamp;
pub use crate::why::PoolRule;
use crate::why::Why;
use mail::address::Domain;
use mail::reply::Reply;
pub use mail::smtp::command::{Notify, Ret};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub message: MessageId,
    pub account: AccountId,
    pub stream: StreamId,
    /// What was asked about its route: a scheduled message gets its route by this when its time comes.
    pub wish: Wish,
    /// `None`: it is scheduled, and its route is not decided before its time (R1.6).
    pub route: Option<Route>,
    /// The address the sender gave in MAIL FROM, for the domain's reputation and for notices; `None` for `<>`.
    pub sender: Option<String>,
    /// The domain that sends: the one DKIM signs for.
    pub sender_domain: Option<Domain>,
    /// What is written on the wire as MAIL FROM, carrying our token; empty for `<>`.
    pub return_path: String,
    /// At most 65,535.
    pub recipients: Vec<Recipient>,
    pub accepted_at: Timestamp,
    /// The first attempt is not before this.
    pub due_at: Timestamp,
    pub expires_at: Timestamp,
    pub tls: TlsWish,
    pub size: u32,
    pub message_id_header: String,
    pub tags: Vec<(String, String)>,
    pub envid: Option<String>,
    pub ret: Option<Ret>,
    pub smtputf8: bool,
    /// A repetition of the same submission is answered with this message (R1.5).
    pub once: Option<Once>,
}

/// What a message says about where it wants to leave from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Wish {
    pub region: RegionId,
    /// The pool named on the message, by its name or its id.
    pub pool: Option<Arc<str>>,
    pub set: Option<Arc<str>>,
    pub subaccount: Option<SubaccountId>,
}

/// An idempotency key and what was submitted with it, both as digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// Of the account and the key.
    pub key: u128,
    /// Of the body.
    pub body: u128,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    pub address: String,
    pub domain: Domain,
    pub notify: Option<Notify>,
    pub orcpt: Option<String>,
}

/// What the sender asked for; what the site's own policy (DANE, MTA-STS) demands comes on top where the connection is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsWish {
    Never,
    #[default]
    IfOffered,
    Required,
}

/// The pool, its IPs at the moment of the decision, and the IP chosen (R2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    pub pool: PoolId,
    /// What the pool was called then: it may be renamed or deleted before somebody asks.
    pub name: Arc<str>,
    pub addresses: Addresses,
    pub rule: PoolRule,
    pub candidates: Vec<IpAddr>,
    pub chosen: IpAddr,
}

/// Whether the account may know which IPs carry its mail (R2.8). Kept with the route: the pool may be gone when somebody asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Addresses {
    #[default]
    Shown,
    /// Of a managed pool: for the operator alone.
    Hidden,
}

/// Where each recipient stands, in the order of the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageState {
    pub recipients: Vec<RecipientState>,
    /// The route of a scheduled message, since its time has come.
    pub route: Option<Route>,
    /// The last change of the route, if another IP took over.
    pub moved: Option<Moved>,
    pub delay_notified: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecipientState {
    Waiting {
        attempts: u16,
        due_at: Timestamp,
        last: Option<Arc<LastAnswer>>,
    },
    /// An operator holds it until released.
    Held {
        attempts: u16,
    },
    Delivered,
    Bounced,
    Expired,
    Deleted,
    /// Its time came, and there was nothing it may leave from (R2.3).
    Rejected,
}

impl RecipientState {
    /// Has this recipient met its fate?
    #[must_use]
    pub fn finished(&self) -> bool {
        !matches!(self, RecipientState::Waiting { .. } | RecipientState::Held { .. })
    }
}

/// The last thing a remote said about a recipient, or what kept us from asking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAnswer {
    pub at: Timestamp,
    pub ip: IpAddr,
    pub host: Option<String>,
    pub reply: Option<Reply>,
    pub meaning: Option<Meaning>,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub at: Timestamp,
    pub from: IpAddr,
    pub to: IpAddr,
    pub why: Why,
}
