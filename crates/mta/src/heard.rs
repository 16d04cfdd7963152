//! What came back before?
//!
//! The same bounce twice is one event. What was heard is known from the events themselves; what is here is memory of them, made anew at
//! each start from the event log, with a checkpoint so that this is quick.

use crate::checkpoint::{self, Magic, Marks, Reading, UnderWay, write_sealed};
use crate::record;
use engine::aftermath::KINDS;
use engine::event::EventKind;
use engine::id::MessageId;
use engine::time::Timestamp;
use spool::{Cursor, EventLog};
use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// So long after a message was accepted something may come back; later, its token has expired. Lifetimes end before, and complaints
/// come within weeks.
pub const TOKEN_LIFE: Duration = Duration::from_secs(45 * 86_400);
/// Things heard that are remembered, under a hundred octets each. When there are more, the oldest are forgotten early, and the metric
/// `returns_forgotten` says so.
pub const HEARD_MAX: usize = 500_000;
const MAGIC: &Magic = b"weir returns  1\n";
const ONE_OCTETS: usize = 16 + 2 + 1 + 8;
/// In the place of a recipient that is not known.
const NOBODY: u16 = u16::MAX;

/// A recipient of a message, and what came back of it.
pub type What = (MessageId, Option<u16>, EventKind);
type Key = (u128, u16, u8);

/// All that was heard. Cheap to clone.
#[derive(Clone)]
pub struct Heard(Arc<Inner>);

struct Inner {
    table: Mutex<Table>,
    /// Whether what came before the start is known.
    ready: watch::Sender<bool>,
}

struct Table {
    done: HashMap<Key, Timestamp>,
    /// Oldest first, as nearly as they came.
    order: VecDeque<(Timestamp, Key)>,
    /// Being written down.
    under_way: HashSet<Key>,
    marks: Marks,
    forgotten: u64,
    heard_max: usize,
}

/// Being written down. Dropped without `done`, nothing was heard.
pub struct Hearing {
    heard: Heard,
    keys: Vec<Key>,
    under_way: UnderWay,
}

impl Hearing {
    /// It is durable.
    pub fn done(self, at: Timestamp) {
        let mut table = self.heard.table();
        for key in &self.keys {
            table.learn(*key, at);
        }
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        let mut table = self.heard.table();
        for key in &self.keys {
            table.under_way.remove(key);
        }
        table.marks.end(self.under_way);
    }
}

fn key_of((message, recipient, kind): What) -> Option<Key> {
    let kind = KINDS.iter().position(|own| *own == kind)?;
    Some((message.0, recipient.unwrap_or(NOBODY), u8::try_from(kind).ok()?))
}

impl Heard {
    /// Knows nothing yet; `read` tells it what came before.
    #[must_use]
    pub fn new(heard_max: usize) -> Heard {
        let table = Table {
            done: HashMap::new(),
            order: VecDeque::new(),
            under_way: HashSet::new(),
            marks: Marks::default(),
            forgotten: 0,
            heard_max,
        };
        Heard(Arc::new(Inner { table: Mutex::new(table), ready: watch::Sender::new(false) }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Right after a start, until what came before is known.
    pub async fn ready(&self) {
        checkpoint::known(&self.0.ready).await;
    }

    /// What came back of a recipient so far.
    #[must_use]
    pub fn of(&self, message: MessageId, recipient: Option<u16>) -> Vec<EventKind> {
        let table = self.table();
        let was_heard =
            |kind: &EventKind| key_of((message, recipient, *kind)).is_some_and(|key| table.done.contains_key(&key));
        KINDS.into_iter().filter(was_heard).collect()
    }

    /// Takes up what is to be written down; none: somebody else is writing one of these at this moment.
    #[must_use]
    pub fn begin(&self, all: &[What]) -> Option<Hearing> {
        let keys: Vec<Key> = all.iter().filter_map(|what| key_of(*what)).collect();
        let mut table = self.table();
        if keys.iter().any(|key| table.under_way.contains(key) || table.done.contains_key(key)) {
            return None;
        }
        table.under_way.extend(&keys);
        let under_way = table.marks.begin();
        drop(table);
        Some(Hearing { heard: self.clone(), keys, under_way })
    }

    /// Things remembered now, and how many were forgotten before their time.
    #[must_use]
    pub fn figures(&self) -> (usize, u64) {
        let table = self.table();
        (table.done.len(), table.forgotten)
    }

    /// Learns all that came before: from the checkpoint and the events since, or without one from all events that still matter. Blocks
    /// for the disk.
    pub fn read(&self, checkpoint: &Path, log: EventLog, now: Timestamp) -> io::Result<()> {
        let _reading = Reading(&self.0.ready);
        match read_checkpoint(checkpoint) {
            Ok(Some((cursor, all))) => {
                let mut table = self.table();
                for (key, at) in all {
                    table.learn(key, at);
                }
                drop(table);
                checkpoint::read_on(log, cursor, &mut |_, octets| {
                    self.learn_record(octets);
                })
            }
            Ok(None) => self.read_back(&log, now),
            Err(fault) => {
                tracing::warn!(file = %checkpoint.display(), %fault, "what came back is read from the event log instead");
                self.read_back(&log, now)
            }
        }
    }

    fn read_back(&self, log: &EventLog, now: Timestamp) -> io::Result<()> {
        let oldest = now - TOKEN_LIFE;
        log.scan_back(&mut |_, octets| match self.learn_record(octets) {
            Some(at) if at < oldest => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })?;
        // It came newest first.
        self.table().order.make_contiguous().sort_unstable();
        Ok(())
    }

    /// Learns what a record of the event log tells, and says how old that is.
    fn learn_record(&self, octets: &[u8]) -> Option<Timestamp> {
        let entries = record::read_entries(octets).ok()?;
        for event in entries.iter().map(|entry| &entry.event) {
            let what = event.message.and_then(|message| key_of((message, event.recipient, event.kind)));
            if let Some(key) = what {
                self.table().learn(key, event.at);
            }
        }
        entries.first().map(|entry| entry.event.at)
    }

    /// Writes a checkpoint, if one is due; `newest` is the cursor of the newest event at this moment. Blocks for the disk.
    pub fn write(&self, checkpoint: &Path, newest: Cursor, now: Timestamp) -> io::Result<()> {
        if !*self.0.ready.borrow() {
            return Ok(());
        }
        let mut table = self.table();
        table.forget(now);
        let Some((cursor, _)) = table.marks.pass(newest, now) else { return Ok(()) };
        let octets = table.to_octets(cursor);
        drop(table);
        write_sealed(checkpoint, octets)
    }

    /// As `write`, when nothing is being written down any more: all of the log is in it.
    pub fn write_last(&self, checkpoint: &Path, newest: Cursor) -> io::Result<()> {
        let table = self.table();
        if !*self.0.ready.borrow() || !table.marks.is_idle() {
            return Ok(());
        }
        let octets = table.to_octets(newest);
        drop(table);
        write_sealed(checkpoint, octets)
    }
}

impl Table {
    fn learn(&mut self, key: Key, at: Timestamp) {
        if self.done.insert(key, at).is_some() {
            return;
        }
        self.order.push_back((at, key));
        while self.done.len() > self.heard_max {
            self.forgotten += 1;
            self.forget_first();
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while self.order.front().is_some_and(|(at, _)| *at + TOKEN_LIFE <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.done.remove(&key);
        }
    }

    fn to_octets(&self, cursor: Cursor) -> Vec<u8> {
        let mut octets = checkpoint::begun(MAGIC, cursor, self.order.len() * ONE_OCTETS);
        for (at, (message, recipient, kind)) in &self.order {
            octets.extend_from_slice(&message.to_be_bytes());
            octets.extend_from_slice(&recipient.to_be_bytes());
            octets.push(*kind);
            octets.extend_from_slice(&at.0.to_be_bytes());
        }
        octets
    }
}

/// What was heard up to a place of the event log.
type Checkpoint = (Cursor, Vec<(Key, Timestamp)>);

fn read_checkpoint(path: &Path) -> io::Result<Option<Checkpoint>> {
    let Some((cursor, content)) = checkpoint::read(path, MAGIC)? else { return Ok(None) };
    let one = |octets: &[u8; ONE_OCTETS]| {
        let message = u128::from_be_bytes(*octets.first_chunk()?);
        let recipient = u16::from_be_bytes(*octets[16..].first_chunk()?);
        Some(((message, recipient, octets[18]), Timestamp(i64::from_be_bytes(*octets[19..].first_chunk()?))))
    };
    Ok(Some((cursor, content.as_chunks().0.iter().filter_map(one).collect())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{HEARD_MAX, Heard, TOKEN_LIFE, read_checkpoint};
    use crate::record::{self, Entry};
    use engine::event::{Event, EventKind};
    use engine::id::MessageId;
    use engine::time::Timestamp;
    use spool::sim::SimDisk;
    use spool::{Cursor, Options};
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn what(message: u128) -> super::What {
        (MessageId(message), Some(0), EventKind::Returned)
    }

    fn ready(heard_max: usize) -> Heard {
        let heard = Heard::new(heard_max);
        heard.0.ready.send_replace(true);
        heard
    }

    // F4: the same bounce twice, also at one moment.
    #[test]
    fn what_was_heard_is_not_heard_again() {
        let heard = ready(10);
        let first = heard.begin(&[what(1)]).unwrap();
        assert!(heard.begin(&[what(2), what(1)]).is_none(), "it is being written down");
        assert!(heard.of(MessageId(1), Some(0)).is_empty());
        drop(first);
        heard.begin(&[what(1)]).unwrap().done(NOW);
        assert!(heard.begin(&[what(1)]).is_none());
        assert_eq!(heard.of(MessageId(1), Some(0)), [EventKind::Returned]);
        assert!(heard.of(MessageId(1), Some(1)).is_empty() && heard.of(MessageId(1), None).is_empty());
        heard.begin(&[(MessageId(1), Some(0), EventKind::Complained)]).unwrap().done(NOW);
        assert_eq!(heard.of(MessageId(1), Some(0)).len(), 2);
    }

    #[test]
    fn of_too_many_and_of_old_ones_the_oldest_are_forgotten() {
        let heard = ready(2);
        for message in 1..=3u8 {
            heard.begin(&[what(message.into())]).unwrap().done(NOW + Duration::from_secs(message.into()));
        }
        assert_eq!(heard.figures(), (2, 1));
        assert!(heard.of(MessageId(1), Some(0)).is_empty() && !heard.of(MessageId(3), Some(0)).is_empty());
        heard.table().forget(NOW + TOKEN_LIFE + Duration::from_secs(3));
        assert_eq!(heard.figures(), (0, 1));
    }

    // F7: what is durable is known after a start, from the log alone and from a checkpoint and what came behind it.
    #[test]
    fn what_is_in_the_log_is_known_after_a_start() {
        let folder = std::env::temp_dir().join(format!("weir-heard-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("returned");
        let (spool, _) = spool::open_on(Arc::new(SimDisk::new()), Path::new("/data"), Options::default()).unwrap();
        let note = |message: u128| {
            let (message, recipient, kind) = what(message);
            let event = Event { message: Some(message), recipient, ..Event::new(NOW, kind) };
            spool.note(record::write_entries(message, &[Entry::plain(event)]));
        };
        note(1);
        let log = spool.events();
        let heard = Heard::new(HEARD_MAX);
        let (one, two) = (ready(10), ready(10));
        // One is known and one is under way when the checkpoint is due: it waits.
        one.table().learn(super::key_of(what(1)).unwrap(), NOW);
        let under_way = one.begin(&[what(2)]).unwrap();
        one.write(&path, Cursor(1), NOW).unwrap();
        one.write(&path, Cursor(1), NOW).unwrap();
        assert!(read_checkpoint(&path).unwrap().is_none(), "something is under way");
        drop(under_way);
        one.write(&path, Cursor(1), NOW).unwrap();
        let (cursor, all) = read_checkpoint(&path).unwrap().unwrap();
        assert_eq!((cursor, all.len()), (Cursor(1), 1));
        note(3);
        spool.close();
        two.read(&path, log.clone(), NOW).unwrap();
        assert!(!two.of(MessageId(1), Some(0)).is_empty() && !two.of(MessageId(3), Some(0)).is_empty());
        heard.read(&folder.join("none"), log, NOW).unwrap();
        assert_eq!(heard.figures().0, 2);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
