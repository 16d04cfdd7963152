//! What became of a message, and why? (R2.7)
//!
//! The story comes from the event log, newest first until the acceptance is found; what happens next comes from the engine.

use crate::record::{self, Entry};
use engine::envelope::Envelope;
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

impl Span {
    fn of(message: MessageId, queued: bool) -> Span {
        // UUIDv7: the first 48 bits are milliseconds.
        let made_ms = i64::try_from(message.0 >> 80).unwrap_or(i64::MAX);
        let made = Timestamp(made_ms.saturating_mul(1_000));
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
    use engine::event::{Event, EventKind};
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
