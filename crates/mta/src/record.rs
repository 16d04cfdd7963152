//! In which octets do envelopes, states and events stand in the spool?
//!
//! One place for all three, so that what one version wrote the next can read: each begins with an octet that names its form.

use engine::envelope::{Envelope, MessageState};
use engine::event::{Event, EventKind};
use engine::id::MessageId;
use engine::{Learned, NotifyKind};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// Postcard, first form.
const FORM: u8 = 1;
/// Among the events: what the engine has learned, in postcard's first form.
const FORM_LEARNED: u8 = 2;
const ID_OCTETS: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    #[error("a record of form {0}, which this version does not know")]
    UnknownForm(u8),
    #[error("an empty record")]
    Empty,
    #[error("a record that cannot be read: {0}")]
    Unreadable(#[from] postcard::Error),
}

/// An event as it stands in the log: with what a reader needs that has no queue beside it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub event: Event,
    /// The recipient's address; none where the event is about the whole message, or where the envelope was not at hand (the
    /// message's own `Accepted` event holds all its recipients in order).
    pub address: Option<String>,
    /// With `Accepted`: all that was accepted.
    pub accepted: Option<Envelope>,
}

/// A notice that the sender asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    pub kind: NotifyKind,
    pub recipients: Vec<u16>,
    /// What happened to these recipients.
    pub events: Vec<Event>,
}

/// How a message stands. It leaves the spool when no recipient is left and no notice is owed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    pub state: MessageState,
    /// Notices about it that are not durable themselves yet: a crash loses none.
    pub owed: VecDeque<Arc<Notice>>,
}

impl Entry {
    /// The first of every message.
    #[must_use]
    pub fn of_acceptance(envelope: &Envelope) -> Entry {
        let event = Event {
            message: Some(envelope.message),
            account: Some(envelope.account.clone()),
            pool: Some(envelope.route.pool.clone()),
            ip: Some(envelope.route.chosen),
            ..Event::new(envelope.accepted_at, EventKind::Accepted)
        };
        Entry { event, address: None, accepted: Some(envelope.clone()) }
    }
}

#[must_use]
pub fn write_envelope(envelope: &Envelope) -> Vec<u8> {
    write(envelope)
}

pub fn read_envelope(octets: &[u8]) -> Result<Envelope, RecordFault> {
    read(octets)
}

#[must_use]
pub fn write_standing(standing: &Standing) -> Vec<u8> {
    write(standing)
}

/// None for the empty state of a message that was never tried.
pub fn read_standing(octets: &[u8]) -> Result<Option<Standing>, RecordFault> {
    if octets.is_empty() { Ok(None) } else { read(octets).map(Some) }
}

/// The message's id stands in front, so that looking for one message decodes no other. Several events of one step make one
/// record.
#[must_use]
pub fn write_entries(message: MessageId, entries: &[Entry]) -> Vec<u8> {
    let mut octets = message.0.to_be_bytes().to_vec();
    octets.push(FORM);
    postcard::to_extend(entries, octets).expect("plain values can always be written")
}

/// Stands among the events, where no message has one.
#[must_use]
pub fn write_learned(learned: &Learned) -> Vec<u8> {
    let mut octets = MessageId(0).0.to_be_bytes().to_vec();
    octets.push(FORM_LEARNED);
    postcard::to_extend(learned, octets).expect("plain values can always be written")
}

/// None: something else.
#[must_use]
pub fn read_learned(octets: &[u8]) -> Option<Result<Learned, RecordFault>> {
    match octets.get(ID_OCTETS..)?.split_first() {
        Some((&FORM_LEARNED, rest)) if entries_of(octets) == Some(MessageId(0)) => {
            Some(postcard::from_bytes(rest).map_err(RecordFault::from))
        }
        _ => None,
    }
}

#[must_use]
pub fn entries_of(octets: &[u8]) -> Option<MessageId> {
    octets.first_chunk::<ID_OCTETS>().map(|id| MessageId(u128::from_be_bytes(*id)))
}

pub fn read_entries(octets: &[u8]) -> Result<Vec<Entry>, RecordFault> {
    read(octets.get(ID_OCTETS..).unwrap_or_default())
}

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![FORM]).expect("plain values can always be written")
}

fn read<'a, T: Deserialize<'a>>(octets: &'a [u8]) -> Result<T, RecordFault> {
    match octets.split_first() {
        Some((&FORM, rest)) => Ok(postcard::from_bytes(rest)?),
        Some((form, _)) => Err(RecordFault::UnknownForm(*form)),
        None => Err(RecordFault::Empty),
    }
}
