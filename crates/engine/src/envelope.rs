//! What do we know of an accepted message, besides its octets?
//!
//! The `Envelope` is written once, at acceptance; the `MessageState` each time something changed. Both live in the spool and come
//! back after a restart. The engine keeps neither: it takes from them what its decisions need (see `queue`).

use crate::classify::Meaning;
use crate::id::{AccountId, MessageId, PoolId, StreamId};
use crate::time::Timestamp;
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
    pub route: Route,
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

/// The pool, its IPs at acceptance, and the IP chosen (R2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    pub pool: PoolId,
    pub rule: PoolRule,
    pub candidates: Vec<IpAddr>,
    pub chosen: IpAddr,
}

/// Which rule of R2.1 chose the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolRule {
    NamedOnMessage,
    ConfigurationSet,
    Subaccount,
    AccountDefault,
    Shared,
}

impl PoolRule {
    /// Never changes once published.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            PoolRule::NamedOnMessage => "named-on-message",
            PoolRule::ConfigurationSet => "configuration-set",
            PoolRule::Subaccount => "subaccount",
            PoolRule::AccountDefault => "account-default",
            PoolRule::Shared => "shared",
        }
    }

    /// A sentence without its full stop.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            PoolRule::NamedOnMessage => "the pool was named on the message",
            PoolRule::ConfigurationSet => "no pool was named, so the configuration set's pool carries it",
            PoolRule::Subaccount => "no pool was named, so the subaccount's pool carries it",
            PoolRule::AccountDefault => "no pool was named, so the account's default pool carries it",
            PoolRule::Shared => {
                "no pool was named and the account has no default pool with an IP, so the shared pool carries it"
            }
        }
    }
}

/// Where each recipient stands, in the order of the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageState {
    pub recipients: Vec<RecipientState>,
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
