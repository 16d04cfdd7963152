//! What came last? Who reads on (statistics, webhooks, followers) is nearly always right behind the newest events, so those are at hand
//! as they were kept, and each reader need not read and unpack the same rows again.

use crate::block::{Kept, Wanted};
use std::collections::VecDeque;
use std::sync::Arc;

/// Events that are at hand: some seconds of a busy machine.
const EVENTS_MAX: usize = 16_384;
/// And octets, about: what was accepted stands with its event, and may be large.
const OCTETS_MAX: usize = 32 << 20;
/// An event without that.
const EVENT_OCTETS: usize = 768;

/// What was read on from a number, and the number to go on from.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadOn {
    /// Oldest first.
    pub events: Vec<Arc<Kept>>,
    pub next: i64,
}

/// Events in a row, none missing between them.
#[derive(Default)]
pub struct Tail {
    events: VecDeque<Arc<Kept>>,
    octets: usize,
}

fn octets_of(kept: &Kept) -> usize {
    EVENT_OCTETS + kept.record.as_ref().map_or(0, |record| record.len())
}

impl Tail {
    /// Takes in what was kept just now, in its order. Where it does not follow what is here, another process has kept what lies between.
    pub fn append(&mut self, kept: impl IntoIterator<Item = Arc<Kept>>) {
        for kept in kept {
            if self.events.back().is_some_and(|last| last.number + 1 != kept.number) {
                self.events.clear();
                self.octets = 0;
            }
            self.octets += octets_of(&kept);
            self.events.push_back(kept);
            while self.events.len() > EVENTS_MAX || self.octets > OCTETS_MAX {
                let Some(oldest) = self.events.pop_front() else { break };
                self.octets -= octets_of(&oldest);
            }
        }
    }

    /// As `Archive::read_on`; none: from that number on, not all of it is here.
    pub fn read_on(&self, wanted: &Wanted, from: i64, limit: usize) -> Option<ReadOn> {
        let (first, last) = (self.events.front()?.number, self.events.back()?.number);
        if from < first || from > last {
            return None;
        }
        let mut events = Vec::new();
        for kept in self.events.range(usize::try_from(from - first).ok()?..) {
            if events.len() == limit {
                return Some(ReadOn { events, next: kept.number });
            }
            if wanted.fits(kept) {
                events.push(Arc::clone(kept));
            }
        }
        Some(ReadOn { events, next: last + 1 })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failed unwrap is a failed test.
    use super::{EVENTS_MAX, OCTETS_MAX, Tail};
    use crate::block::{Kept, Origin, Wanted};
    use engine::event::{Event, EventKind};
    use engine::time::Timestamp;
    use std::sync::Arc;

    fn kept(number: i64) -> Arc<Kept> {
        let kind = if number % 2 == 0 { EventKind::Accepted } else { EventKind::Delivered };
        Arc::new(Kept {
            number,
            origin: Origin::default(),
            event: Event::new(Timestamp(number), kind),
            address: None,
            about: Arc::default(),
            began: None,
            record: None,
        })
    }

    fn read(tail: &Tail, wanted: &Wanted, from: i64, limit: usize) -> Option<(Vec<i64>, i64)> {
        let read = tail.read_on(wanted, from, limit)?;
        Some((read.events.iter().map(|kept| kept.number).collect(), read.next))
    }

    #[test]
    fn what_is_here_is_read_on_from_any_of_it() {
        let mut tail = Tail::default();
        assert_eq!(read(&tail, &Wanted::default(), 0, 10), None);
        tail.append((10..16).map(kept));
        let all = Wanted::default();
        assert_eq!(read(&tail, &all, 9, 10), None);
        assert_eq!(read(&tail, &all, 10, 2), Some((vec![10, 11], 12)));
        assert_eq!(read(&tail, &all, 12, 10), Some((vec![12, 13, 14, 15], 16)));
        // What comes next may have been kept by another process: the database knows.
        assert_eq!(read(&tail, &all, 16, 10), None);
        let delivered = Wanted { kinds: vec![EventKind::Delivered], ..Wanted::default() };
        assert_eq!(read(&tail, &delivered, 10, 2), Some((vec![11, 13], 14)));
        assert_eq!(read(&tail, &delivered, 14, 2), Some((vec![15], 16)));
    }

    #[test]
    fn a_gap_begins_it_anew_and_the_oldest_go() {
        let mut tail = Tail::default();
        tail.append((0..4).map(kept));
        tail.append((6..8).map(kept));
        assert_eq!(read(&tail, &Wanted::default(), 3, 10), None);
        assert_eq!(read(&tail, &Wanted::default(), 6, 10), Some((vec![6, 7], 8)));
        let more = i64::try_from(EVENTS_MAX).unwrap();
        tail.append((8..8 + more).map(kept));
        assert_eq!(read(&tail, &Wanted::default(), 7, 1), None);
        assert_eq!(read(&tail, &Wanted::default(), 8, 1), Some((vec![8], 9)));
        // However large they are.
        let large = |number| Arc::new(Kept { record: Some(vec![0; OCTETS_MAX / 4].into()), ..(*kept(number)).clone() });
        tail.append((8 + more..14 + more).map(large));
        assert_eq!(read(&tail, &Wanted::default(), 10 + more, 1), None);
        assert_eq!(read(&tail, &Wanted::default(), 11 + more, 1), Some((vec![11 + more], 12 + more)));
    }
}
