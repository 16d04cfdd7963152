//! In which octets do envelopes, states and events stand in the spool?
//!
//! One place for all three, so that what one version wrote the next can read: each begins with an octet that names its form.

use engine::envelope::{Envelope, MessageState, Route};
use engine::event::{Event, EventKind};
use engine::id::MessageId;
use engine::time::Timestamp;
use engine::{Learned, NotifyKind};
use mail::smtp::command::Ret;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// Postcard, with events that tell of readers and complaints. (3 is taken, below.)
const FORM: u8 = 4;
/// Among the events: what the engine has learned, in postcard.
const FORM_LEARNED: u8 = 3;
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
    /// With `Routed`: the route.
    pub route: Option<Route>,
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
            pool: envelope.route.as_ref().map(|route| route.pool.clone()),
            ip: envelope.route.as_ref().map(|route| route.chosen),
            ..Event::new(envelope.accepted_at, EventKind::Accepted)
        };
        Entry { event, address: None, accepted: Some(envelope.clone()), route: None }
    }

    /// Of no message's recipient.
    #[must_use]
    pub fn plain(event: Event) -> Entry {
        Entry { event, address: None, accepted: None, route: None }
    }
}

#[must_use]
pub fn write_envelope(envelope: &Envelope) -> Vec<u8> {
    write(envelope)
}

pub fn read_envelope(octets: &[u8]) -> Result<Envelope, RecordFault> {
    read::<_, Envelope, first::Envelope>(octets)
}

#[must_use]
pub fn write_standing(standing: &Standing) -> Vec<u8> {
    write(standing)
}

/// None for the empty state of a message that was never tried.
pub fn read_standing(octets: &[u8]) -> Result<Option<Standing>, RecordFault> {
    if octets.is_empty() { Ok(None) } else { read::<_, second::Standing, first::Standing>(octets).map(Some) }
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

/// None in a record that tells of something else.
pub fn read_entries(octets: &[u8]) -> Result<Vec<Entry>, RecordFault> {
    if read_learned(octets).is_some() {
        return Ok(Vec::new());
    }
    read::<_, Vec<second::Entry>, Vec<first::Entry>>(octets.get(ID_OCTETS..).unwrap_or_default())
}

/// Of a record with one event, its kind, without reading the rest: in all forms an event begins with its time and kind.
#[must_use]
pub fn only_kind(octets: &[u8]) -> Option<EventKind> {
    let (form, rest) = octets.get(ID_OCTETS..)?.split_first()?;
    if ![FORM, second::FORM, first::FORM].contains(form) {
        return None;
    }
    let ((count, _, kind), _) = postcard::take_from_bytes::<(usize, Timestamp, EventKind)>(rest).ok()?;
    (count == 1).then_some(kind)
}

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![FORM]).expect("plain values can always be written")
}

/// `Second` and `First` are what the same thing was in those forms.
fn read<'a, T, Second, First>(octets: &'a [u8]) -> Result<T, RecordFault>
where
    T: Deserialize<'a>,
    Second: Deserialize<'a> + IsNow<T>,
    First: Deserialize<'a> + IsNow<T>,
{
    match octets.split_first() {
        Some((&FORM, rest)) => Ok(postcard::from_bytes(rest)?),
        Some((&second::FORM, rest)) => Ok(postcard::from_bytes::<Second>(rest)?.now()),
        Some((&first::FORM, rest)) => Ok(postcard::from_bytes::<First>(rest)?.now()),
        Some((form, _)) => Err(RecordFault::UnknownForm(*form)),
        None => Err(RecordFault::Empty),
    }
}

/// What an older form's value is by now.
trait IsNow<T> {
    fn now(self) -> T;
}

impl<T, Old: IsNow<T>> IsNow<Vec<T>> for Vec<Old> {
    fn now(self) -> Vec<T> {
        self.into_iter().map(IsNow::now).collect()
    }
}

/// The second form: events that knew nothing of readers and complaints. What is not here was as it is now.
mod second {
    use super::{IsNow, NotifyKind};
    use engine::attempt::TlsUsed;
    use engine::classify::Meaning;
    use engine::envelope::{Envelope, MessageState, Route};
    use engine::event::{self, EventKind};
    use engine::id::{AccountId, MessageId, PoolId};
    use engine::time::Timestamp;
    use engine::why::Why;
    use mail::reply::Reply;
    use serde::Deserialize;
    use std::collections::VecDeque;
    use std::net::IpAddr;
    use std::sync::Arc;
    use std::time::Duration;

    pub const FORM: u8 = 2;

    #[derive(Deserialize)]
    pub struct Event {
        at: Timestamp,
        kind: EventKind,
        message: Option<MessageId>,
        recipient: Option<u16>,
        account: Option<AccountId>,
        pool: Option<PoolId>,
        ip: Option<IpAddr>,
        provider: Option<Arc<str>>,
        host: Option<Arc<str>>,
        reply: Option<Reply>,
        meaning: Option<Meaning>,
        why: Option<Why>,
        next_at: Option<Timestamp>,
        attempt: u16,
        tls: Option<TlsUsed>,
        took: Option<Duration>,
    }

    #[derive(Deserialize)]
    pub struct Entry {
        event: Event,
        address: Option<String>,
        accepted: Option<Envelope>,
        route: Option<Route>,
    }

    #[derive(Deserialize)]
    pub struct Notice {
        kind: NotifyKind,
        recipients: Vec<u16>,
        events: Vec<Event>,
    }

    #[derive(Deserialize)]
    pub struct Standing {
        state: MessageState,
        owed: VecDeque<Notice>,
    }

    impl IsNow<Envelope> for Envelope {
        fn now(self) -> Envelope {
            self
        }
    }

    impl IsNow<event::Event> for Event {
        fn now(self) -> event::Event {
            event::Event {
                message: self.message,
                recipient: self.recipient,
                account: self.account,
                pool: self.pool,
                ip: self.ip,
                provider: self.provider,
                host: self.host,
                reply: self.reply,
                meaning: self.meaning,
                why: self.why,
                next_at: self.next_at,
                attempt: self.attempt,
                tls: self.tls,
                took: self.took,
                ..event::Event::new(self.at, self.kind)
            }
        }
    }

    impl IsNow<super::Entry> for Entry {
        fn now(self) -> super::Entry {
            let Entry { event, address, accepted, route } = self;
            super::Entry { event: event.now(), address, accepted, route }
        }
    }

    impl IsNow<Arc<super::Notice>> for Notice {
        fn now(self) -> Arc<super::Notice> {
            Arc::new(super::Notice { kind: self.kind, recipients: self.recipients, events: self.events.now() })
        }
    }

    impl IsNow<super::Standing> for Standing {
        fn now(self) -> super::Standing {
            super::Standing { state: self.state, owed: self.owed.into_iter().map(IsNow::now).collect() }
        }
    }
}

/// The first form: no wish, and a route from the beginning. What is not here was as it is in the second.
mod first {
    use super::second::{Event, Notice};
    use super::{IsNow, Ret};
    use engine::envelope::{self, Addresses, Moved, PoolRule, Recipient, RecipientState, TlsWish, Wish};
    use engine::id::{AccountId, MessageId, PoolId, RegionId, StreamId};
    use engine::time::Timestamp;
    use mail::address::Domain;
    use serde::Deserialize;
    use std::collections::VecDeque;
    use std::net::IpAddr;

    pub const FORM: u8 = 1;
    /// There was one place only.
    const REGION: &str = "local";

    #[derive(Deserialize)]
    pub struct Envelope {
        message: MessageId,
        account: AccountId,
        stream: StreamId,
        route: Route,
        sender: Option<String>,
        sender_domain: Option<Domain>,
        return_path: String,
        recipients: Vec<Recipient>,
        accepted_at: Timestamp,
        due_at: Timestamp,
        expires_at: Timestamp,
        tls: TlsWish,
        size: u32,
        message_id_header: String,
        tags: Vec<(String, String)>,
        envid: Option<String>,
        ret: Option<Ret>,
        smtputf8: bool,
    }

    #[derive(Deserialize)]
    struct Route {
        pool: PoolId,
        rule: PoolRule,
        candidates: Vec<IpAddr>,
        chosen: IpAddr,
    }

    #[derive(Deserialize)]
    struct MessageState {
        recipients: Vec<RecipientState>,
        moved: Option<Moved>,
        delay_notified: bool,
    }

    #[derive(Deserialize)]
    pub struct Standing {
        state: MessageState,
        owed: VecDeque<Notice>,
    }

    #[derive(Deserialize)]
    pub struct Entry {
        event: Event,
        address: Option<String>,
        accepted: Option<Envelope>,
    }

    impl IsNow<envelope::Envelope> for Envelope {
        fn now(self) -> envelope::Envelope {
            let Route { pool, rule, candidates, chosen } = self.route;
            let named = (rule == PoolRule::NamedOnMessage).then(|| pool.0.clone());
            envelope::Envelope {
                message: self.message,
                account: self.account,
                stream: self.stream,
                wish: Wish { region: RegionId::new(REGION), pool: named, set: None, subaccount: None },
                route: Some(envelope::Route {
                    name: pool.0.clone(),
                    addresses: Addresses::Shown,
                    pool,
                    rule,
                    candidates,
                    chosen,
                }),
                sender: self.sender,
                sender_domain: self.sender_domain,
                return_path: self.return_path,
                recipients: self.recipients,
                accepted_at: self.accepted_at,
                due_at: self.due_at,
                expires_at: self.expires_at,
                tls: self.tls,
                size: self.size,
                message_id_header: self.message_id_header,
                tags: self.tags,
                envid: self.envid,
                ret: self.ret,
                smtputf8: self.smtputf8,
                once: None,
            }
        }
    }

    impl IsNow<super::Standing> for Standing {
        fn now(self) -> super::Standing {
            let MessageState { recipients, moved, delay_notified } = self.state;
            let state = envelope::MessageState { recipients, route: None, moved, delay_notified };
            super::Standing { state, owed: self.owed.into_iter().map(IsNow::now).collect() }
        }
    }

    impl IsNow<super::Entry> for Entry {
        fn now(self) -> super::Entry {
            let accepted = self.accepted.map(IsNow::now);
            super::Entry { event: self.event.now(), address: self.address, accepted, route: None }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{
        Entry, only_kind, read_entries, read_envelope, read_standing, write_entries, write_envelope, write_standing,
    };
    use engine::envelope::{Addresses, PoolRule, RecipientState};
    use engine::event::{Event, EventKind};
    use engine::id::MessageId;
    use engine::time::Timestamp;
    use engine::why::Why;

    // As the first version wrote them.
    const ENVELOPE: &str = "010703616e6e046e657773036f776e010200c000020100c000020200c0000201010a616e6e40612e746573740106612e7465\
        73740a622d7840722e74657374010a626f6240622e7465737406622e7465737400008080c489e5c5b2068080c489e5c5b206\
        8080f5a1f0d4b20601c1020d3c3740776569722e746573743e01016b0176000000";
    const STANDING: &str =
        "01020001808cd1a7e7c5b206018089be8ae5c5b20600c000020101096d782e622e746573740000040500010101010000";
    const ENTRIES: &str = "0000000000000000000000000000000701028080c489e5c5b206000107000103616e6e01036f776e0100c000020100000000\
        000000000000010703616e6e046e657773036f776e010200c000020100c000020200c0000201010a616e6e40612e74657374\
        0106612e746573740a622d7840722e74657374010a626f6240622e7465737406622e7465737400008080c489e5c5b2068080\
        c489e5c5b2068080f5a1f0d4b20601c1020d3c3740776569722e746573743e01016b01760000008092b88be5c5b206110000\
        00000000000000012b00000000010a626f6240622e7465737400";

    /// As the second version did: one entry, of an IP that is back.
    const ENTRY_SECOND: &str = "0000000000000000000000000000000702018092b88be5c5b20611000000000000000000012b00000000010a626f624062\
        2e746573740000";

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
    }

    #[test]
    fn the_kind_of_a_lone_event_is_known_without_the_rest() {
        assert_eq!(only_kind(&octets(ENTRY_SECOND)), Some(EventKind::IpBack));
        assert_eq!(only_kind(&octets(ENTRIES)), None, "there are two");
        let event = Event::new(Timestamp(1_800_000_000_000_000), EventKind::Delivered);
        let now = write_entries(MessageId(7), &[Entry::plain(event.clone())]);
        assert_eq!(only_kind(&now), Some(EventKind::Delivered));
        assert_eq!(only_kind(&now[..18]), None);
        assert_eq!(only_kind(&write_entries(MessageId(7), &[Entry::plain(event.clone()), Entry::plain(event)])), None);
    }

    #[test]
    fn what_the_first_version_wrote_is_read() {
        let envelope = read_envelope(&octets(ENVELOPE)).unwrap();
        let route = envelope.route.clone().unwrap();
        assert_eq!((route.pool.as_str(), &*route.name, route.rule), ("own", "own", PoolRule::AccountDefault));
        assert_eq!((route.addresses, route.candidates.len()), (Addresses::Shown, 2));
        assert_eq!((envelope.message, envelope.account.as_str(), envelope.size), (MessageId(7), "ann", 321));
        assert_eq!(envelope.recipients[0].address, "bob@b.test");
        assert_eq!(envelope.tags, [("k".to_owned(), "v".to_owned())]);
        assert_eq!(envelope.expires_at, Timestamp(1_800_259_200_000_000));

        let standing = read_standing(&octets(STANDING)).unwrap().unwrap();
        assert!(matches!(standing.state.recipients[0], RecipientState::Waiting { attempts: 1, .. }));
        assert_eq!(standing.state.recipients[1], RecipientState::Deleted);
        assert!(standing.state.delay_notified && standing.state.route.is_none() && standing.owed.len() == 1);

        let entries = read_entries(&octets(ENTRIES)).unwrap();
        assert_eq!(entries[0].accepted.as_ref(), Some(&envelope));
        assert_eq!(
            (entries[1].event.kind, entries[1].event.why.clone()),
            (EventKind::IpBack, Some(Why::DelayNoticeDue))
        );
        assert_eq!(entries[1].address.as_deref(), Some("bob@b.test"));
    }

    #[test]
    fn what_the_second_version_wrote_is_read() {
        let entries = read_entries(&octets(ENTRY_SECOND)).unwrap();
        let event =
            Event { why: Some(Why::DelayNoticeDue), ..Event::new(Timestamp(1_800_000_002_000_000), EventKind::IpBack) };
        let address = Some("bob@b.test".to_owned());
        assert_eq!(entries, [Entry { address, ..Entry::plain(event) }]);
        // Envelopes were as they are now, and so was a message's standing without notices.
        let envelope = read_envelope(&octets(ENVELOPE)).unwrap();
        let mut standing = read_standing(&octets(STANDING)).unwrap().unwrap();
        standing.owed.clear();
        let (mut head, mut state) = (write_envelope(&envelope), write_standing(&standing));
        (head[0], state[0]) = (2, 2);
        assert_eq!(read_envelope(&head).unwrap(), envelope);
        assert_eq!(read_standing(&state).unwrap(), Some(standing));
    }

    #[test]
    fn what_is_written_is_read() {
        let envelope = read_envelope(&octets(ENVELOPE)).unwrap();
        assert_eq!(read_envelope(&write_envelope(&envelope)).unwrap(), envelope);
        let mut standing = read_standing(&octets(STANDING)).unwrap().unwrap();
        standing.state.route.clone_from(&envelope.route);
        assert_eq!(read_standing(&write_standing(&standing)).unwrap(), Some(standing));
        let why = Why::PoolChosen { rule: PoolRule::Shared, instead_of: Some("news".into()) };
        let event = Event { why: Some(why), ..Event::new(Timestamp(1), EventKind::Routed) };
        let routed = Entry { route: envelope.route.clone(), ..Entry::plain(event) };
        let entries = [Entry::of_acceptance(&envelope), routed];
        assert_eq!(read_entries(&write_entries(MessageId(7), &entries)).unwrap(), entries);
        assert!(read_envelope(&[5, 0]).is_err() && read_envelope(&[]).is_err() && read_envelope(&[4, 0]).is_err());
    }
}
