//! What became of a message, and why? (R2.7)
//!
//! The story comes from the event log, newest first until the acceptance is found; what happens next comes from the engine.

use crate::record::{self, Entry};
use engine::envelope::Envelope;
use engine::event::{Event, EventKind};
use engine::id::MessageId;
use engine::time::Timestamp;
use spool::{EventLog, Spool};
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

/// So long after its acceptance something may still happen to a message that is not queued any more: longer than any lifetime.
const LIFE_MAX: Duration = Duration::from_secs(45 * 24 * 3_600);
/// Ids are made by the wall clock, events by the time line that it started.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(2 * 24 * 3_600);
const CLOCKS_APART_USUAL: Duration = Duration::from_secs(60);
/// Events read at once, looking for one message.
const EVENTS_AT_ONCE: usize = 4_096;
/// One record in so many is read for its time alone.
const TIME_READ_EVERY: u64 = 64;

/// Where stories are kept. Cheap to clone.
#[derive(Clone)]
pub struct Stories(Spool);

impl Stories {
    #[must_use]
    pub fn of(spool: &Spool) -> Stories {
        Stories(spool.clone())
    }

    /// Everything the event log holds of a message, oldest first. Empty when nothing is known of it.
    pub async fn story(&self, message: MessageId) -> io::Result<Vec<Entry>> {
        let spool = self.0.clone();
        tokio::task::spawn_blocking(move || {
            let read = |queued| read_back(&spool.events(), message, queued).map(|(story, _)| story);
            from_acceptance(read, spool.holds(message.0), || queued(&spool, message))
        })
        .await
        .map_err(io::Error::other)?
    }
}

/// What is known of a message that something comes back of.
#[derive(Clone, Debug)]
pub struct Past {
    pub envelope: Envelope,
    /// In the order of the envelope.
    pub fates: Vec<Fate>,
}

/// What became of one recipient.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It is still tried.
    Waiting,
    /// With the event that told it.
    Met(Box<Event>),
    /// It has one, and the event log does not tell it yet.
    NotTold,
}

impl Past {
    /// Whether nothing of it can change any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.fates.iter().all(|fate| matches!(fate, Fate::Met(_)))
    }
}

impl Stories {
    /// What became of a message; none: nothing is known of it, or no longer. Reads from its acceptance on, and no farther than its
    /// fates. Blocks for the disk.
    pub fn past(&self, message: MessageId) -> io::Result<Option<Past>> {
        let queued = self.0.read(message.0).ok();
        let state = queued.as_ref().and_then(|stored| record::read_standing(&stored.state).ok().flatten());
        let mut past = match queued.as_ref().and_then(|stored| record::read_envelope(&stored.head).ok()) {
            Some(envelope) => {
                // Without a state it was never tried.
                let fate = |place: usize| match state.as_ref().and_then(|state| state.state.recipients.get(place)) {
                    Some(state) if state.finished() => Fate::NotTold,
                    _ => Fate::Waiting,
                };
                let fates = (0..envelope.recipients.len()).map(fate).collect();
                Some(Past { envelope, fates })
            }
            None => None,
        };
        let made = made_at(message);
        // Nearly always, the clocks agree; where they do not, more is read.
        for apart in [CLOCKS_APART_USUAL, CLOCKS_APART_MAX] {
            read_past(self.0.events(), message, made, apart, &mut past)?;
            if past.is_some() {
                break;
            }
        }
        Ok(past)
    }
}

fn read_past(
    mut log: EventLog,
    message: MessageId,
    made: Timestamp,
    apart: Duration,
    past: &mut Option<Past>,
) -> io::Result<()> {
    let mut cursor = log.before(&mut |octets| time_of(octets).is_some_and(|at| at > made - apart))?;
    let mut looked_at = 0u64;
    loop {
        if past.as_ref().is_some_and(|past| !past.fates.iter().any(|fate| matches!(fate, Fate::NotTold))) {
            return Ok(());
        }
        let records = log.next(cursor, EVENTS_AT_ONCE)?;
        let Some((last, _)) = records.last() else { return Ok(()) };
        cursor = *last;
        for (_, octets) in &records {
            looked_at += 1;
            if record::entries_of(octets) == Some(message) {
                take_in(octets, past);
            } else if past.is_none()
                && looked_at.is_multiple_of(TIME_READ_EVERY)
                && time_of(octets).is_some_and(|at| at > made + apart)
            {
                // Its acceptance would have been here.
                return Ok(());
            }
        }
    }
}

fn take_in(octets: &[u8], past: &mut Option<Past>) {
    let Ok(entries) = record::read_entries(octets) else { return };
    for entry in entries {
        if let (None, Some(envelope)) = (&past, entry.accepted) {
            let fates = vec![Fate::NotTold; envelope.recipients.len()];
            *past = Some(Past { envelope, fates });
        }
        let (Some(past), Some(place)) = (&mut *past, entry.event.recipient) else { continue };
        if let Some(fate) = past.fates.get_mut(usize::from(place))
            && is_fate(entry.event.kind)
        {
            *fate = Fate::Met(Box::new(entry.event));
        }
    }
}

fn is_fate(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Delivered | EventKind::Bounced | EventKind::Expired | EventKind::Deleted | EventKind::Rejected
    )
}

/// The log follows the queue at a little distance: who asks right after the acceptance is told of it all the same. And what left the
/// queue while the log was read is in the log by now.
fn from_acceptance(
    mut read: impl FnMut(bool) -> io::Result<Vec<Entry>>,
    held: bool,
    queued: impl FnOnce() -> Option<Envelope>,
) -> io::Result<Vec<Entry>> {
    let mut story = read(held)?;
    if held && !story.iter().any(|entry| entry.accepted.is_some()) {
        match queued() {
            Some(envelope) => story.insert(0, Entry::of_acceptance(&envelope)),
            None => story = read(false)?,
        }
    }
    Ok(story)
}

fn queued(spool: &Spool, message: MessageId) -> Option<Envelope> {
    record::read_envelope(&spool.read(message.0).ok()?.head).ok()
}

/// From the segment that may hold the message's last event back to its acceptance. An id tells when it was made, so that one that
/// was never seen costs no more than one that was.
///
/// With the number of records that were looked at.
fn read_back(log: &EventLog, message: MessageId, queued: bool) -> io::Result<(Vec<Entry>, u64)> {
    let span = Span::of(message, queued);
    let mut story = Vec::new();
    let mut looked_at = 0;
    log.scan_back_from(&mut |octets| time_of(octets).is_some_and(|at| at > span.until), &mut |_, octets| {
        looked_at += 1;
        if record::entries_of(octets) != Some(message) {
            let too_old = looked_at % TIME_READ_EVERY == 0 && time_of(octets).is_some_and(|at| at < span.from);
            return if too_old { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
        match record::read_entries(octets) {
            Ok(entries) => {
                let began = entries.iter().any(|entry| entry.accepted.is_some());
                story.extend(entries.into_iter().rev());
                if began { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            Err(fault) => {
                tracing::warn!(id = %message, %fault, "an event cannot be read");
                ControlFlow::Continue(())
            }
        }
    })?;
    story.reverse();
    Ok((story, looked_at))
}

/// When the events of a message can have happened.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    from: Timestamp,
    until: Timestamp,
}

/// UUIDv7: the first 48 bits are milliseconds.
#[must_use]
pub fn made_at(message: MessageId) -> Timestamp {
    let made_ms = i64::try_from(message.0 >> 80).unwrap_or(i64::MAX);
    Timestamp(made_ms.saturating_mul(1_000))
}

impl Span {
    fn of(message: MessageId, queued: bool) -> Span {
        let made = made_at(message);
        Span { from: made - CLOCKS_APART_MAX, until: if queued { Timestamp::MAX } else { made + LIFE_MAX } }
    }
}

fn time_of(octets: &[u8]) -> Option<Timestamp> {
    record::read_entries(octets).ok()?.first().map(|entry| entry.event.at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::*;
    use spool::Options;
    use spool::sim::SimDisk;
    use std::path::Path;
    use std::sync::Arc;

    const HOUR_MS: u128 = 3_600_000;
    const MESSAGES: u128 = 4_000;

    fn id(ms: u128) -> MessageId {
        MessageId(ms << 80 | 7 << 76 | 1)
    }

    fn event_of(ms: u128) -> Vec<u8> {
        let at = Timestamp(i64::try_from(ms * 1_000).unwrap());
        let event = Event { message: Some(id(ms)), ..Event::new(at, EventKind::Delivered) };
        record::write_entries(id(ms), &[Entry::plain(event)])
    }

    /// A message an hour, in many segments.
    fn log_of_hours() -> EventLog {
        let options = Options { event_segment_bytes: 8 << 10, ..Options::default() };
        let (spool, _) = spool::open_on(Arc::new(SimDisk::new()), Path::new("/data"), options).unwrap();
        for number in 1..=MESSAGES {
            spool.note(event_of(number * HOUR_MS));
        }
        let log = spool.events();
        spool.close();
        log
    }

    // R2.7
    #[test]
    fn what_is_in_the_log_is_found_wherever_it_is() {
        let log = log_of_hours();
        for number in [1, 2, MESSAGES / 2, MESSAGES - 1, MESSAGES] {
            let (story, _) = read_back(&log, id(number * HOUR_MS), false).unwrap();
            assert_eq!(story.len(), 1, "number {number}");
        }
    }

    // R2.7
    #[test]
    fn a_message_that_ends_while_the_log_is_read_is_told_of() {
        let story = || vec![Entry::plain(Event::new(Timestamp(0), EventKind::Delivered))];
        let mut looks = [Vec::new(), story()].into_iter();
        let told = from_acceptance(|_| Ok(looks.next().unwrap()), true, || None).unwrap();
        assert_eq!(told.len(), 1);
        // What was not queued at the first look is not looked for twice.
        let mut looks = [Vec::new()].into_iter();
        let told = from_acceptance(|_| Ok(looks.next().unwrap()), false, || unreachable!()).unwrap();
        assert!(told.is_empty());
    }

    // F4: what became of each, without reading what came later.
    #[test]
    fn the_past_of_a_message_is_found_by_the_time_of_its_id() {
        let options = Options { event_segment_bytes: 8 << 10, ..Options::default() };
        let (spool, _) = spool::open_on(Arc::new(SimDisk::new()), Path::new("/data"), options).unwrap();
        let stories = Stories::of(&spool);
        let told = |ms: u128, kinds: &[(u16, EventKind)]| {
            let at = Timestamp(i64::try_from(ms * 1_000).unwrap());
            let recipient = |name: &str| engine::envelope::Recipient {
                address: format!("{name}@b.test"),
                domain: mail::address::Domain::parse("b.test").unwrap(),
                notify: None,
                orcpt: None,
            };
            let envelope = Envelope {
                message: id(ms),
                account: engine::id::AccountId::new("ann"),
                stream: engine::id::StreamId::new(""),
                wish: engine::envelope::Wish {
                    region: engine::id::RegionId::new("local"),
                    pool: None,
                    set: None,
                    subaccount: None,
                },
                route: None,
                sender: None,
                sender_domain: None,
                return_path: String::new(),
                recipients: vec![recipient("bob"), recipient("cy")],
                accepted_at: at,
                due_at: at,
                expires_at: at,
                tls: engine::envelope::TlsWish::IfOffered,
                size: 1,
                message_id_header: String::new(),
                tags: Vec::new(),
                envid: None,
                ret: None,
                smtputf8: false,
                once: None,
            };
            spool.note(record::write_entries(id(ms), &[Entry::of_acceptance(&envelope)]));
            for (recipient, kind) in kinds {
                let event = Event { message: Some(id(ms)), recipient: Some(*recipient), ..Event::new(at, *kind) };
                spool.note(record::write_entries(id(ms), &[Entry::plain(event)]));
            }
        };
        for number in 1..=200 {
            told(number * HOUR_MS, &[(1, EventKind::Deferred), (0, EventKind::Delivered), (1, EventKind::Bounced)]);
        }
        told(201 * HOUR_MS, &[(1, EventKind::Delivered)]);
        spool.close();
        for number in [1, 2, 100, 199, 200] {
            let past = stories.past(id(number * HOUR_MS)).unwrap().unwrap();
            let fates: Vec<EventKind> = past
                .fates
                .iter()
                .map(|fate| match fate {
                    Fate::Met(event) => event.kind,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(fates, [EventKind::Delivered, EventKind::Bounced], "number {number}");
            assert!(past.is_settled());
        }
        let past = stories.past(id(201 * HOUR_MS)).unwrap().unwrap();
        assert!(matches!(past.fates[..], [Fate::NotTold, Fate::Met(_)]) && !past.is_settled());
        assert!(stories.past(id(100 * HOUR_MS + 1)).unwrap().is_none());
        assert!(stories.past(id(900 * HOUR_MS)).unwrap().is_none());
    }

    #[test]
    fn an_id_that_was_never_seen_costs_what_its_time_says() {
        let log = log_of_hours();
        // Beyond the span itself, no more than a segment and the records between two looks at the time.
        let hours = |time: Duration| time.as_secs() / 3_600;
        let (life, apart, more) = (hours(LIFE_MAX), hours(CLOCKS_APART_MAX), 200 + TIME_READ_EVERY);
        let cases = [
            (0, false, life + more),
            (HOUR_MS * MESSAGES * 9, false, more),
            (HOUR_MS * MESSAGES / 2 + 1, false, life + apart + more),
            (HOUR_MS * MESSAGES / 2 + 1, true, MESSAGES as u64 / 2 + apart + more),
        ];
        for (ms, queued, most) in cases {
            let (story, looked_at) = read_back(&log, id(ms), queued).unwrap();
            assert!(story.is_empty());
            assert!(looked_at <= most, "{looked_at} of {MESSAGES} records looked at for {ms}, {most} would do");
        }
    }
}
