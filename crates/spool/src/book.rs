//! Which records still matter, and which segment may go?
//!
//! Two rules keep a deleted message from coming back when files vanish in another order than they were written:
//! a segment with the *end* of a message (Remove, Mark) outlives the segment with the message, unless the end is
//! carried forward first; and a segment that *follows* another (holds a newer copy of one of its messages, or says that
//! its tail is void) outlives it without exception.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::Key;
use crate::index::{Index, Place};
use crate::record::HEADER_BYTES;
use crate::segment::SegmentHeader;

pub struct Segment {
    pub header: SegmentHeader,
    /// End of the last record.
    pub end: u64,
    pub last_sequence: u64,
    pub live_records: u32,
    pub live_bytes: u64,
    /// Ends of messages in this segment, counted by the segment that holds the message.
    ends: BTreeMap<u32, u32>,
    follows: BTreeSet<u32>,
    pub closed: bool,
    /// A sync of it failed: what is in it counts up to `end` only, and it is emptied first.
    pub distrusted: bool,
    /// Deleted, but the deletion is not known to be durable.
    pub doomed: bool,
    /// Holds something that could not be read back: never deleted, so that a person can look.
    pub kept: bool,
    /// All that mattered in it has been carried forward.
    pub emptied: bool,
}

#[derive(Default)]
pub struct Book {
    pub index: Index,
    pub segments: BTreeMap<u32, Segment>,
    /// States that wait in memory because the disk takes nothing.
    pub held_states: HashMap<Key, Vec<u8>>,
    /// A segment may have become deletable, or worth emptying.
    pub changed: bool,
}

impl Book {
    pub fn open_segment(&mut self, header: SegmentHeader) {
        let segment = Segment {
            header,
            end: crate::segment::START,
            last_sequence: header.first_sequence.saturating_sub(1),
            live_records: 0,
            live_bytes: 0,
            ends: BTreeMap::new(),
            follows: BTreeSet::new(),
            closed: false,
            distrusted: false,
            doomed: false,
            kept: false,
            emptied: false,
        };
        self.segments.insert(header.number, segment);
    }

    /// A record of this segment was written or found.
    pub fn extend(&mut self, number: u32, end: u64, sequence: u64) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.end = segment.end.max(end);
            segment.last_sequence = segment.last_sequence.max(sequence);
        }
    }

    /// A message, new or carried forward; the state of a message carried forward is in the record.
    pub fn put(&mut self, key: Key, place: Place) {
        match self.index.get_mut(key) {
            None => self.index.insert(key, place),
            Some(entry) => {
                let old = std::mem::replace(&mut entry.message, place);
                let old_state = std::mem::take(&mut entry.state);
                self.less(old);
                self.less(old_state);
                self.follow(place.segment, old.segment);
            }
        }
        self.more(place);
    }

    /// False = there is no such message, and nothing to remember.
    pub fn update(&mut self, key: Key, place: Place) -> bool {
        let Some(entry) = self.index.get_mut(key) else {
            return false;
        };
        let old = std::mem::replace(&mut entry.state, place);
        self.less(old);
        self.more(place);
        true
    }

    /// The segment that held the message, for the record of its end.
    pub fn remove(&mut self, key: Key) -> Option<u32> {
        let entry = self.index.remove(key)?;
        self.less(entry.message);
        self.less(entry.state);
        self.held_states.remove(&key);
        Some(entry.message.segment)
    }

    /// The end of a message of `origin` is recorded in `segment`.
    pub fn ended(&mut self, segment: u32, origin: u32) {
        if segment != origin
            && self.segments.contains_key(&origin)
            && let Some(segment) = self.segments.get_mut(&segment)
        {
            *segment.ends.entry(origin).or_default() += 1;
        }
    }

    pub fn follow(&mut self, newer: u32, older: u32) {
        if newer != older
            && let Some(segment) = self.segments.get_mut(&newer)
        {
            segment.follows.insert(older);
        }
    }

    /// What lies behind the end of this segment is void because the newer one says so: the newer one stays until this
    /// one is gone, and this one is emptied first.
    pub fn distrust(&mut self, number: u32, newer: u32) {
        self.follow(newer, number);
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.distrusted = true;
        }
    }

    /// The ends in this segment are durable in a younger one too, and so is whatever lived in it.
    pub fn emptied(&mut self, number: u32) {
        if let Some(segment) = self.segments.get_mut(&number).filter(|segment| !segment.kept) {
            segment.emptied = true;
            segment.ends.clear();
        }
        self.changed = true;
    }

    /// The file is gone, durably.
    pub fn forget(&mut self, number: u32) {
        self.changed = true;
        self.segments.remove(&number);
        for segment in self.segments.values_mut() {
            segment.ends.remove(&number);
            segment.follows.remove(&number);
        }
    }

    pub fn deletable(&self) -> Vec<u32> {
        let free = |segment: &Segment| {
            segment.closed
                && !segment.doomed
                && !segment.kept
                && segment.live_records == 0
                && segment.ends.is_empty()
                && segment.follows.is_empty()
        };
        self.segments.iter().filter(|(_, segment)| free(segment)).map(|(&number, _)| number).collect()
    }

    /// The closed segment that costs least to empty, if emptying one is worth it: the files hold more than twice what
    /// is live, and `slack_bytes` on top.
    pub fn to_empty(&self, slack_bytes: u64) -> Option<u32> {
        let closed = || self.segments.values().filter(|segment| segment.closed && !segment.doomed && !segment.kept);
        let (held, live) =
            closed().fold((0, 0), |(held, live), segment| (held + segment.end, live + segment.live_bytes));
        let candidates = || closed().filter(|segment| segment.follows.is_empty() && !segment.emptied);
        if let Some(distrusted) = candidates().find(|segment| segment.distrusted) {
            return Some(distrusted.header.number);
        }
        if held <= 2 * live + slack_bytes {
            return None;
        }
        candidates()
            .min_by_key(|segment| segment.cost_to_empty() * 1000 / segment.end.max(1))
            .filter(|segment| segment.cost_to_empty() * 2 <= segment.end)
            .map(|segment| segment.header.number)
    }

    pub fn disk_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.end).sum()
    }

    pub fn live_bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.live_bytes).sum()
    }

    fn more(&mut self, place: Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_records += 1;
            segment.live_bytes += u64::from(place.len);
        }
    }

    fn less(&mut self, place: Place) {
        if let Some(segment) = self.segments.get_mut(&place.segment) {
            segment.live_records -= 1;
            segment.live_bytes -= u64::from(place.len);
            self.changed |= segment.live_records == 0;
        }
    }
}

impl Segment {
    fn cost_to_empty(&self) -> u64 {
        self.live_bytes + self.ends.values().map(|&count| u64::from(count)).sum::<u64>() * HEADER_BYTES as u64
    }
}
