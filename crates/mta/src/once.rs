//! Was this submitted before? (R1.5)
//!
//! An idempotency key is known by a digest of account and key. It rides in the message's own envelope, so that key and message become
//! durable in one write; what is here is memory, made anew at each start from the event log, with a checkpoint so that this is quick.

use crate::checkpoint::{self, Magic, Marks, Reading, UnderWay, write_sealed};
use crate::record;
use aws_lc_rs::digest::{Context, SHA256, digest};
use engine::envelope::Once;
use engine::id::{AccountId, MessageId};
use engine::time::Timestamp;
use spool::{Cursor, EventLog};
use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a key is remembered.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3_600);
/// Keys remembered at one time, some eighty octets each. When there are more, the oldest are forgotten early, and the metric
/// `idempotency_keys_forgotten` says so.
pub const KEYS_MAX: usize = 1_000_000;
pub const KEY_OCTETS_MAX: usize = 256;

const MAGIC: &Magic = b"weir keys     1\n";
const KEY_OCTETS: usize = 16 + 16 + 16 + 8;

/// All keys of the last day. Cheap to clone.
#[derive(Clone)]
pub struct Onces(Arc<Inner>);

struct Inner {
    table: Mutex<Table>,
    /// Whether what came before the start is known.
    ready: watch::Sender<bool>,
}

struct Table {
    done: HashMap<u128, Done>,
    /// Oldest first, as nearly as they came.
    order: VecDeque<(Timestamp, u128)>,
    /// With the digest of what is submitted.
    under_way: HashMap<u128, (UnderWay, u128)>,
    marks: Marks,
    /// Forgotten before their time.
    forgotten: u64,
    keys_max: usize,
}

#[derive(Clone, Copy)]
struct Done {
    body: u128,
    message: MessageId,
    at: Timestamp,
}

/// What is to be done with a submission that has a key.
pub enum Begun {
    /// It is the first of its key; until `Started` is gone, another one waits.
    First(Started),
    /// This message was accepted for it.
    Again(MessageId),
    /// The key was used for something else.
    Reused,
    /// The first one is not answered yet.
    UnderWay,
}

/// A submission under way. Dropped without `done`, its key is free again: what was refused may be sent again.
pub struct Started {
    onces: Onces,
    once: Once,
}

impl std::fmt::Debug for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Started").field(&self.once).finish()
    }
}

impl Started {
    #[must_use]
    pub fn once(&self) -> Once {
        self.once
    }

    /// The message is durable, and its key with it.
    pub fn done(self, message: MessageId, at: Timestamp) {
        self.onces.learn(self.once, message, at);
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let mut table = self.onces.table();
        if let Some((under_way, _)) = table.under_way.remove(&self.once.key) {
            table.marks.end(under_way);
        }
    }
}

/// The digests of a key and of what is submitted with it.
#[must_use]
pub fn once_of(account: &AccountId, key: &str, body: &[u8]) -> Once {
    let mut context = Context::new(&SHA256);
    context.update(account.as_str().as_bytes());
    // No account's name holds it.
    context.update(&[0]);
    context.update(key.as_bytes());
    Once { key: first_half(context.finish().as_ref()), body: first_half(digest(&SHA256, body).as_ref()) }
}

fn first_half(digest: &[u8]) -> u128 {
    digest.first_chunk().map(|octets| u128::from_be_bytes(*octets)).expect("SHA-256 has 32 octets")
}

impl Onces {
    /// Knows nothing yet; `read` tells it what came before.
    #[must_use]
    pub fn new(keys_max: usize) -> Onces {
        let table = Table {
            done: HashMap::new(),
            order: VecDeque::new(),
            under_way: HashMap::new(),
            marks: Marks::default(),
            forgotten: 0,
            keys_max,
        };
        Onces(Arc::new(Inner { table: Mutex::new(table), ready: watch::Sender::new(false) }))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a submission up. Right after a start, it waits until what came before is known.
    pub async fn begin(&self, once: Once, now: Timestamp) -> Begun {
        checkpoint::known(&self.0.ready).await;
        let mut table = self.table();
        table.forget(now);
        if let Some(done) = table.done.get(&once.key) {
            return if done.body == once.body { Begun::Again(done.message) } else { Begun::Reused };
        }
        if let Some((_, body)) = table.under_way.get(&once.key) {
            return if *body == once.body { Begun::UnderWay } else { Begun::Reused };
        }
        let under_way = table.marks.begin();
        table.under_way.insert(once.key, (under_way, once.body));
        drop(table);
        Begun::First(Started { onces: self.clone(), once })
    }

    pub fn learn(&self, once: Once, message: MessageId, at: Timestamp) {
        let mut table = self.table();
        table.learn(once, message, at);
    }

    /// Keys remembered now, and how many were forgotten before their time.
    #[must_use]
    pub fn figures(&self) -> (usize, u64) {
        let table = self.table();
        (table.done.len(), table.forgotten)
    }

    /// Learns all that came before: from the checkpoint and the events since, or without one from all events of the last day. Blocks
    /// for the disk. Whatever happens, submissions are taken afterwards.
    pub fn read(&self, checkpoint: &Path, log: EventLog, now: Timestamp) -> io::Result<()> {
        let _reading = Reading(&self.0.ready);
        match read_checkpoint(checkpoint) {
            Ok(Some((cursor, keys))) => {
                for (once, message, at) in keys {
                    self.learn(once, message, at);
                }
                checkpoint::read_on(log, cursor, &mut |_, octets| {
                    self.learn_record(octets);
                })
            }
            Ok(None) => self.read_back(&log, now),
            Err(fault) => {
                tracing::warn!(file = %checkpoint.display(), %fault, "the keys are read from the event log instead");
                self.read_back(&log, now)
            }
        }
    }

    fn is_full(&self) -> bool {
        let table = self.table();
        table.done.len() >= table.keys_max
    }

    fn read_back(&self, log: &EventLog, now: Timestamp) -> io::Result<()> {
        let oldest = now - REMEMBERED;
        log.scan_back(&mut |_, octets| match self.learn_record(octets) {
            Some(at) if at < oldest => ControlFlow::Break(()),
            _ if self.is_full() => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })?;
        // It came newest first.
        let mut table = self.table();
        table.order.make_contiguous().sort_unstable();
        table.forget(now);
        Ok(())
    }

    /// Learns what a record of the event log tells, and says how old that is.
    fn learn_record(&self, octets: &[u8]) -> Option<Timestamp> {
        let entries = record::read_entries(octets).ok()?;
        for envelope in entries.iter().filter_map(|entry| entry.accepted.as_ref()) {
            if let Some(once) = envelope.once {
                self.learn(once, envelope.message, envelope.accepted_at);
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
        let Some((cursor, _)) = table.marks.pass(newest, now) else { return Ok(()) };
        let octets = table.to_octets(cursor);
        drop(table);
        write_sealed(checkpoint, octets)
    }

    /// As `write`, when no submission is under way any more: all of the log is in it.
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
    fn learn(&mut self, once: Once, message: MessageId, at: Timestamp) {
        let done = Done { body: once.body, message, at };
        // The newer one counts: a key is free again after its day.
        if self.done.get(&once.key).is_some_and(|known| known.at >= at) {
            return;
        }
        self.done.insert(once.key, done);
        self.order.push_back((at, once.key));
        while self.done.len() > self.keys_max {
            self.forgotten += 1;
            self.forget_first();
        }
    }

    fn forget(&mut self, now: Timestamp) {
        while self.order.front().is_some_and(|(at, _)| *at + REMEMBERED <= now) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((at, key)) = self.order.pop_front() else { return };
        if self.done.get(&key).is_some_and(|done| done.at == at) {
            self.done.remove(&key);
        }
    }

    fn to_octets(&self, cursor: Cursor) -> Vec<u8> {
        let mut octets = checkpoint::begun(MAGIC, cursor, self.order.len() * KEY_OCTETS);
        for (at, key) in &self.order {
            let Some(done) = self.done.get(key).filter(|done| done.at == *at) else { continue };
            octets.extend_from_slice(&key.to_be_bytes());
            octets.extend_from_slice(&done.body.to_be_bytes());
            octets.extend_from_slice(&done.message.0.to_be_bytes());
            octets.extend_from_slice(&at.0.to_be_bytes());
        }
        octets
    }
}

type Keys = Vec<(Once, MessageId, Timestamp)>;

fn read_checkpoint(path: &Path) -> io::Result<Option<(Cursor, Keys)>> {
    let Some((cursor, content)) = checkpoint::read(path, MAGIC)? else { return Ok(None) };
    let mut rest = content.as_slice();
    let mut keys = Vec::with_capacity(rest.len() / KEY_OCTETS);
    while let Some((one, after)) = rest.split_first_chunk::<KEY_OCTETS>() {
        rest = after;
        let number = |at: usize| first_half(&one[at..]);
        let at = one.last_chunk().map(|octets| i64::from_be_bytes(*octets)).ok_or_else(checkpoint::damaged)?;
        keys.push((Once { key: number(0), body: number(16) }, MessageId(number(32)), Timestamp(at)));
    }
    Ok(Some((cursor, keys)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Begun, Onces, REMEMBERED, once_of, read_checkpoint};
    use engine::id::{AccountId, MessageId};
    use engine::time::Timestamp;
    use spool::Cursor;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn ready(keys_max: usize) -> Onces {
        let onces = Onces::new(keys_max);
        onces.0.ready.send_replace(true);
        onces
    }

    fn ann() -> AccountId {
        AccountId::new("ann")
    }

    // R1.5
    #[tokio::test]
    async fn a_key_gives_the_first_answer_for_a_day() {
        let onces = ready(10);
        let once = once_of(&ann(), "k", b"hello");
        let Begun::First(first) = onces.begin(once, NOW).await else { panic!("it is the first") };
        assert!(matches!(onces.begin(once, NOW).await, Begun::UnderWay));
        let other = once_of(&ann(), "k", b"other");
        assert!(matches!(onces.begin(other, NOW).await, Begun::Reused));
        first.done(MessageId(7), NOW);
        assert!(matches!(onces.begin(once, NOW).await, Begun::Again(MessageId(7))));
        assert!(matches!(onces.begin(other, NOW).await, Begun::Reused));
        // Another account's key is another key.
        let bobs = once_of(&AccountId::new("bob"), "k", b"hello");
        assert!(matches!(onces.begin(bobs, NOW).await, Begun::First(_)));
        let later = NOW + REMEMBERED;
        assert!(matches!(onces.begin(once, Timestamp(later.0 - 1)).await, Begun::Again(_)));
        assert!(matches!(onces.begin(other, later).await, Begun::First(_)));
    }

    #[tokio::test]
    async fn what_was_refused_may_be_sent_again() {
        let onces = ready(10);
        let once = once_of(&ann(), "k", b"hello");
        drop(onces.begin(once, NOW).await);
        assert!(matches!(onces.begin(once, NOW).await, Begun::First(_)));
    }

    #[tokio::test]
    async fn of_too_many_the_oldest_are_forgotten() {
        let onces = ready(2);
        let all: Vec<_> = (0..3u8).map(|n| once_of(&ann(), &n.to_string(), b"")).collect();
        for (number, once) in (1..).zip(&all) {
            onces.learn(*once, MessageId(number), NOW + Duration::from_secs(number as u64));
        }
        assert_eq!(onces.figures(), (2, 1));
        let now = NOW + Duration::from_secs(9);
        assert!(matches!(onces.begin(all[0], now).await, Begun::First(_)));
        assert!(matches!(onces.begin(all[2], now).await, Begun::Again(MessageId(3))));
    }

    // What is in a checkpoint is all that the log holds up to its cursor: one under way puts it off.
    #[tokio::test]
    async fn a_checkpoint_waits_for_what_is_under_way() {
        let folder = std::env::temp_dir().join(format!("weir-once-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("keys");
        let onces = ready(10);
        let (one, two) = (once_of(&ann(), "1", b""), once_of(&ann(), "2", b""));
        let Begun::First(first) = onces.begin(one, NOW).await else { panic!("it is the first") };
        onces.write(&path, Cursor(5), NOW).unwrap();
        assert!(read_checkpoint(&path).unwrap().is_none(), "nothing is known of that moment yet");
        onces.write(&path, Cursor(6), NOW).unwrap();
        assert!(read_checkpoint(&path).unwrap().is_none(), "the first one may be in the log and is not known");
        first.done(MessageId(1), NOW);
        onces.learn(two, MessageId(2), NOW);
        onces.write(&path, Cursor(9), NOW).unwrap();
        let (cursor, keys) = read_checkpoint(&path).unwrap().unwrap();
        assert_eq!((cursor, keys.len()), (Cursor(5), 2));
        assert_eq!(keys[0], (one, MessageId(1), NOW));
        onces.write_last(&path, Cursor(9)).unwrap();
        assert_eq!(read_checkpoint(&path).unwrap().unwrap().0, Cursor(9));
        let mut octets = std::fs::read(&path).unwrap();
        octets[40] ^= 1;
        std::fs::write(&path, octets).unwrap();
        assert!(read_checkpoint(&path).is_err(), "a damaged one is not believed");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
