//! How does an event look to who may see it? The same in lists, live and to webhooks. (R6.1)

use crate::caller::Desk;
use crate::explanation::WhyView;
use control::block::{Kept, class_code};
use engine::event::EventKind;
use engine::snapshot::Snapshot;
use mta::hidden::Hidden;
use mta::record;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Something that happened to a message, a recipient or a lane.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = KeptEvent)]
pub struct KeptView {
    /// Never two for one event, however often it is told.
    pub id: String,
    pub at: String,
    /// `accepted`, `delivered`, `deferred`, `bounced` …
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subaccount: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub configuration_set: Option<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// What its owner called the pool then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_id: Option<String>,
    /// Not of managed pools, whose addresses are the operator's (R2.8).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The remote host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the remote answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// `hard`, `soft`, `block`, `throttle`, `admin`, `undetermined`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtype: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<WhyView>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<String>,
    /// Attempts so far.
    #[serde(skip_serializing_if = "is_nought")]
    pub attempt: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<String>,
    /// What a complaint complains of, such as `abuse`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub feedback: Option<String>,
    /// What a reader followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// As the reader's program calls itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// `person`, `proxy`, `machine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader: Option<&'static str>,
    /// With `accepted`: the Message-ID in its header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// With `accepted`: the sender.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // As serde asks it.
fn is_nought(number: &u16) -> bool {
    *number == 0
}

/// To whom it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Operator,
    Account,
}

impl KeptView {
    #[must_use]
    pub fn of(kept: &Kept, reader: Reader, snapshot: &Snapshot) -> KeptView {
        let (event, about) = (&kept.event, &kept.about);
        let hidden = match reader {
            Reader::Account if !about.concealed.is_empty() => {
                Hidden::these(about.concealed.iter().copied().chain(event.ip), snapshot)
            }
            Reader::Account | Reader::Operator => Hidden::default(),
        };
        let subtype = event.meaning.as_ref().and_then(|meaning| serde_json::to_value(meaning.subtype).ok());
        let is_accepted = kept.event.kind == EventKind::Accepted;
        let record = kept.record.as_deref().filter(|_| is_accepted);
        let accepted = record.and_then(|octets| record::read_entries(octets).ok()?.into_iter().next()?.accepted);
        KeptView {
            id: kept.id(),
            at: event.at.to_string(),
            kind: event.kind.code(),
            message: event.message.map(|message| message.to_string()),
            recipient: kept.address.as_deref().map(str::to_owned),
            account: event.account.as_ref().map(ToString::to_string),
            subaccount: about.subaccount.as_deref().map(str::to_owned),
            configuration_set: about.set.as_deref().map(str::to_owned),
            stream: about.stream.to_string(),
            tags: about.tags.iter().cloned().collect(),
            pool: about.pool_name.as_deref().map(str::to_owned),
            pool_id: event.pool.as_ref().map(ToString::to_string),
            ip: event.ip.filter(|ip| !hidden.hides(*ip)).map(|ip| ip.to_string()),
            provider: event.provider.as_deref().map(str::to_owned),
            host: event.host.as_deref().map(str::to_owned),
            reply: event.reply.as_ref().map(|reply| hidden.words(&reply.to_string())),
            class: event.meaning.as_ref().map(class_code),
            subtype: subtype.and_then(|subtype| subtype.as_str().map(str::to_owned)),
            why: event.why.as_ref().map(|why| WhyView::of(why, &hidden)),
            next_at: event.next_at.map(|at| at.to_string()),
            attempt: event.attempt,
            tls: event.tls.as_ref().map(|tls| format!("{}, {}", tls.version, tls.cipher)),
            feedback: event.feedback.as_deref().map(str::to_owned),
            link: event.link.as_deref().map(str::to_owned),
            agent: event.agent.as_deref().map(str::to_owned),
            reader: event.reader.map(engine::event::Reader::code),
            message_id: accepted.as_ref().map(|accepted| accepted.message_id_header.clone()),
            from: accepted.and_then(|accepted| accepted.sender.clone()),
        }
    }

    /// As this caller may see it.
    #[must_use]
    pub fn shown(kept: &Kept, is_operator: bool, desk: &Desk) -> KeptView {
        let reader = if is_operator { Reader::Operator } else { Reader::Account };
        KeptView::of(kept, reader, &desk.intake.snapshot())
    }
}
