//! How do records get onto the disk, in which order, and what if the disk says no?
//!
//! One value, driven by one thread (`spool.rs`), without a clock: `commit` takes a group of orders, `tend` does what is
//! due besides, `deadline` says when that will be. A group is written at once, and synced once if there is a message in
//! it. Small records (updates, removals, notes) wait for the next sync, `sync_delay_ms` at the longest: they are in the
//! page cache, so a killed process loses none of them.
//!
//! **After a failed sync the file is never trusted again.** Linux marks the pages it could not write as clean: they can
//! be read, a second sync says yes, and they are not on the disk (PostgreSQL learnt it in 2018 as "fsyncgate"). So the
//! messages of that group are refused, the small records since the last good sync are written again into a new file,
//! and that file's header says from which sequence on older files are void. The old file is emptied and deleted first.
//!
//! **A failed write** leaves the octets before it alone. The file is cut back to its last whole record and used on.
//!
//! **A full disk** refuses messages, never small records: they go into the last `free_min_bytes`, then into a reserve
//! file whose blocks were set aside, then into memory up to `held_bytes_max`.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::disk::{Disk, Lock, is_full};
use crate::events::EventWriter;
use crate::fault::{Dropped, Health, OpenFault, PutFault, ReadFault};
use crate::index::Place;
use crate::read::{Counts, Live, Patience, Shelf};
use crate::record::{Found, Header, Kind, Parts, RECORD_BYTES_MAX, Scanner};
use crate::recover::{Depth, Loaded, load};
use crate::segment::{LogKind, SEGMENT_BYTES_MAX, START, Sidecar, Tail, log_path, number_of, sidecar_path};
use crate::{Cursor, Key, Options};

/// One write is not larger than this, or holds one record.
const WRITE_BYTES_MAX: usize = 4 << 20;
/// Held by the process that owns the directory.
pub const LOCK: &str = "lock";
/// Blocks are set aside in steps of this, so that a sync seldom has to write where they are.
const ALLOCATE_BYTES: u64 = 16 << 20;
/// What is carried forward between two groups: little, so that no group waits long.
const CARRY_BYTES_MAX: usize = 256 << 10;
/// A disk in trouble is tried again after this time.
const RETRY_MS: u64 = 250;
/// Segments that may be dead weight beyond twice what is live.
const SLACK_SEGMENTS: u64 = 4;

pub(crate) enum Order {
    Put(PutOrder),
    Small(Small),
}

pub(crate) struct PutOrder {
    pub key: Key,
    pub head: Vec<u8>,
    pub body: Bytes,
    pub event: Vec<u8>,
    /// Worked out by the submitter, who has a core of his own.
    pub payload_crc: u32,
    pub answer: oneshot::Sender<Result<(), PutFault>>,
}

pub(crate) struct Small {
    pub what: What,
    pub key: Key,
    pub event: Vec<u8>,
    /// Who waits until it is durable. Such a one is never held in memory: better a no than a promise.
    pub answer: Option<oneshot::Sender<Result<(), PutFault>>>,
}

pub(crate) enum What {
    Update(Vec<u8>),
    /// With the segment of the message, once that is known.
    Remove(Option<u32>),
    Note,
}

impl Small {
    fn bytes(&self) -> u64 {
        let state = if let What::Update(state) = &self.what { state.len() } else { 0 };
        (size_of::<Small>() + state + self.event.len()) as u64
    }
}

/// A record in the buffer, or one that is written and not synced.
struct Pending {
    header: Header,
    place: Place,
    record: Record,
}

enum Record {
    Put {
        event: Vec<u8>,
        answer: oneshot::Sender<Result<(), PutFault>>,
    },
    Small(Small),
    /// Carried forward from there.
    Copy {
        from: Place,
    },
}

impl Record {
    /// Whether somebody waits until it is durable.
    fn is_awaited(&self) -> bool {
        match self {
            Record::Put { .. } => true,
            Record::Small(small) => small.answer.is_some(),
            Record::Copy { .. } => false,
        }
    }
}

struct Emptying {
    number: u32,
    /// As `Log::troubles` when it began: a copy may be lost in any trouble, so then it begins again.
    troubles: u64,
    rest: std::vec::IntoIter<(Header, Place)>,
}

pub(crate) struct Log {
    options: Options,
    shelf: Arc<Shelf>,
    events: EventWriter,
    tail: Option<Tail>,
    tail_bytes_max: u64,
    sidecar: Sidecar,
    next_number: u32,
    next_sequence: u64,
    durable_sequence: u64,
    /// How much of the tail is durable.
    durable_len: u64,
    buffer: Vec<u8>,
    /// In the buffer.
    staged: Vec<Pending>,
    /// Written, not synced.
    written: Vec<Pending>,
    keys_pending: HashSet<Key>,
    unsynced_since_ms: Option<u64>,
    held: VecDeque<Small>,
    held_bytes: u64,
    /// Files whose sync failed and whom no younger file has declared void yet.
    abandoned: Vec<u32>,
    emptying: Option<Emptying>,
    has_reserve: bool,
    /// What was free at the last look, less what was written since.
    free_bytes: u64,
    next_look_ms: u64,
    in_trouble: bool,
    /// How often the disk has said no.
    troubles: u64,
    retry_at_ms: u64,
    now_ms: u64,
    _lock: Lock,
}

pub(crate) struct Opened {
    pub log: Log,
    pub live: Live,
    pub dropped: Vec<Dropped>,
    pub events_until: Cursor,
}

impl Log {
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, mut options: Options, now_ms: u64) -> Result<Opened, OpenFault> {
        let fault = |doing| move |cause| OpenFault::Disk { doing, path: dir.to_owned(), cause };
        options.segment_bytes = options.segment_bytes.clamp(4096, SEGMENT_BYTES_MAX - RECORD_BYTES_MAX);
        let queue = dir.join("queue");
        disk.make_dir(&queue).map_err(fault("make the spool"))?;
        let lock = disk.lock(&dir.join(LOCK)).map_err(fault("lock the spool"))?;
        let lock = lock.ok_or_else(|| OpenFault::Locked(dir.to_owned()))?;
        let mut loaded = load(&*disk, &queue, Depth::Summaries)?;
        // What was read may be in the page cache only, left by a process that was killed.
        for (number, _) in &loaded.unsummed {
            let path = log_path(&queue, *number);
            disk.open(&path).and_then(|file| file.sync_data()).map_err(fault("sync what was found in"))?;
        }
        let (events, more_dropped) =
            EventWriter::open(disk.clone(), &dir.join("events"), &options, loaded.first_sequence())?;
        disk.sync_dir(dir).map_err(fault("sync the names in"))?;
        loaded.dropped.extend(more_dropped);

        let sequence = loaded.last_sequence.max(events.synced_sequence());
        let order = std::mem::take(&mut loaded.order);
        let book = std::mem::take(&mut loaded.book);
        let shelf = Arc::new(Shelf::new(disk, queue, book, options.files_open_max));
        let mut log = Log {
            tail_bytes_max: options.segment_bytes,
            options,
            shelf: shelf.clone(),
            events,
            tail: None,
            sidecar: Sidecar::new(),
            next_number: loaded.next_number,
            next_sequence: sequence + 1,
            durable_sequence: sequence,
            durable_len: START,
            buffer: Vec::new(),
            staged: Vec::new(),
            written: Vec::new(),
            keys_pending: HashSet::new(),
            unsynced_since_ms: None,
            held: VecDeque::new(),
            held_bytes: 0,
            abandoned: Vec::new(),
            emptying: None,
            has_reserve: false,
            free_bytes: 0,
            next_look_ms: now_ms,
            in_trouble: false,
            troubles: 0,
            retry_at_ms: now_ms,
            now_ms,
            _lock: lock,
        };
        log.tidy(&mut loaded);
        log.open_tail();
        log.make_reserve();
        log.copy_missing_events();
        log.look_at_space();
        log.shelf.book().changed = true;
        let events_until = *log.events.reader().more().borrow();
        Ok(Opened { log, live: Live::new(shelf, order), dropped: loaded.dropped, events_until })
    }

    pub fn shelf(&self) -> Arc<Shelf> {
        self.shelf.clone()
    }

    pub fn events(&self) -> &EventWriter {
        &self.events
    }

    #[cfg(test)]
    pub fn figures_held(&self) -> usize {
        self.held.len()
    }

    /// Takes a group of orders. Messages are answered when this returns; small records are at least written, or held in
    /// memory if the disk takes nothing.
    pub fn commit(&mut self, orders: &mut Vec<Order>, now_ms: u64) {
        self.now_ms = now_ms;
        for order in orders.drain(..) {
            match order {
                Order::Put(put) => self.take_put(put),
                Order::Small(small) => self.take_small(small),
            }
            if self.buffer.len() >= WRITE_BYTES_MAX {
                self.write_staged();
            }
        }
        self.write_staged();
        if self.written.iter().any(|pending| pending.record.is_awaited()) {
            self.sync();
        }
    }

    /// What is due besides: late syncs, the event log, deleting, carrying forward, looking whether trouble is over.
    pub fn tend(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        if self.unsynced_since_ms.is_some_and(|since| now_ms >= since + self.options.sync_delay_ms) {
            self.sync();
        }
        self.events.flush();
        if now_ms >= self.next_look_ms {
            self.look_at_space();
            self.events.retain();
            self.next_look_ms = now_ms + RETRY_MS;
            self.shelf.book().changed = true;
        }
        if now_ms >= self.retry_at_ms {
            if self.events.broken().is_some() {
                self.retry_at_ms = now_ms + RETRY_MS;
                self.events.mend();
                self.copy_missing_events();
            }
            if self.in_trouble {
                self.retry_at_ms = now_ms + RETRY_MS;
                self.try_again();
            }
        }
        if std::mem::take(&mut self.shelf.book().changed) {
            self.delete_dead();
            self.choose_to_empty();
        }
        self.carry_forward();
    }

    /// When `tend` would do something if no order comes first.
    pub fn deadline(&self) -> Option<u64> {
        let sync_at = self.unsynced_since_ms.map(|since| since + self.options.sync_delay_ms);
        let retry_at = (self.in_trouble || self.events.broken().is_some()).then_some(self.retry_at_ms);
        let empty_at = (self.emptying.is_some() || self.shelf.book().changed).then_some(self.now_ms);
        [sync_at, retry_at, empty_at].into_iter().flatten().min()
    }

    /// Everything durable, and a summary for the next start.
    pub fn close(mut self) {
        self.write_held();
        self.sync();
        self.close_tail();
        self.events.sync(self.durable_sequence);
    }

    // Orders

    fn take_put(&mut self, put: PutOrder) {
        let parts = Parts { head: &put.head, state: &[], body: &put.body, event: &put.event };
        let len = parts.record_len();
        let refusal = self.refusal(put.key, len).or_else(|| {
            self.make_room(len);
            // Making room may have shown that there is none.
            self.refusal(put.key, len)
        });
        if let Some(refusal) = refusal {
            // A submitter that is gone wants no answer.
            let _ = put.answer.send(Err(refusal));
            return;
        }
        self.keys_pending.insert(put.key);
        self.free_bytes = self.free_bytes.saturating_sub(len);
        let header = Header::new(Kind::Put, put.key, self.next_sequence, self.next_sequence, &parts, put.payload_crc);
        let place = self.stage(&header, &parts);
        self.staged.push(Pending { header, place, record: Record::Put { event: put.event, answer: put.answer } });
    }

    fn refusal(&mut self, key: Key, len: u64) -> Option<PutFault> {
        if len > RECORD_BYTES_MAX {
            return Some(PutFault::TooLarge { octets: len, octets_max: RECORD_BYTES_MAX });
        }
        if self.keys_pending.contains(&key) || self.shelf.book().index.get(key).is_some() {
            return Some(PutFault::Taken);
        }
        if !self.in_trouble && self.free_bytes < self.options.free_min_bytes.saturating_add(len) {
            self.look_at_space();
        }
        if !self.in_trouble && self.tail.is_some() {
            return None;
        }
        Some(refused(&self.shelf.health()))
    }

    fn take_small(&mut self, mut small: Small) {
        let message = self.shelf.book().index.get(small.key).map(|entry| entry.message.segment);
        match (&mut small.what, message) {
            (What::Remove(origin), Some(segment)) => *origin = Some(segment),
            (What::Note, _) | (What::Update(_), Some(_)) => {}
            // An order for a message that is not there leaves its event, and nothing else.
            (what, None) if !small.event.is_empty() => *what = What::Note,
            (_, None) => return,
        }
        if small.bytes() > RECORD_BYTES_MAX {
            Counts::add(&self.shelf.counts.events_lost, 1);
            if let Some(answer) = small.answer {
                let _ = answer
                    .send(Err(PutFault::TooLarge { octets: small.event.len() as u64, octets_max: RECORD_BYTES_MAX }));
            }
        } else if self.tail.is_none() || !self.held.is_empty() {
            self.hold(small);
            self.held_to_figures();
        } else {
            self.stage_small(small);
        }
    }

    /// Into the buffer, or into memory if there is no file to write to.
    fn stage_small(&mut self, small: Small) {
        let (kind, state, origin) = small.layout();
        let parts = Parts { state, event: &small.event, ..Parts::default() };
        self.make_room(parts.record_len());
        if self.tail.is_none() || !self.held.is_empty() {
            return self.hold(small);
        }
        let header = Header::new(kind, small.key, self.next_sequence, origin, &parts, parts.crc());
        let place = self.stage(&header, &parts);
        self.staged.push(Pending { header, place, record: Record::Small(small) });
    }

    fn stage(&mut self, header: &Header, parts: &Parts<'_>) -> Place {
        let tail = self.tail.as_ref().expect("records are staged only when there is a file for them");
        let offset = tail.len + self.buffer.len() as u64;
        header.write(&mut self.buffer, tail.header.salt, offset);
        for part in [parts.head, parts.state, parts.body, parts.event] {
            self.buffer.extend_from_slice(part);
        }
        self.next_sequence = header.sequence + 1;
        Place { segment: tail.header.number, offset: offset as u32, len: header.record_len() as u32 }
    }

    // Writing

    /// One write of all that is staged. If it fails, the messages are refused and the small records held.
    fn write_staged(&mut self) {
        let Some(tail) = self.tail.as_mut().filter(|_| !self.staged.is_empty()) else {
            return;
        };
        let start = tail.len;
        let ahead = (start + self.buffer.len() as u64).next_multiple_of(ALLOCATE_BYTES).min(self.tail_bytes_max);
        if !self.in_trouble && ahead > tail.allocated {
            self.free_bytes = self.free_bytes.saturating_sub(ahead - tail.allocated);
            tail.allocate(ahead);
        }
        match tail.append(&self.buffer) {
            Ok(()) => self.staged_is_written(start),
            Err(cause) => {
                self.buffer.clear();
                self.staged_is_refused(&cause);
            }
        }
        self.buffer.clear();
        // One large message must not keep its room for ever.
        self.buffer.shrink_to(2 * WRITE_BYTES_MAX);
    }

    fn staged_is_written(&mut self, start: u64) {
        Counts::add(&self.shelf.counts.bytes_written, self.buffer.len() as u64);
        self.unsynced_since_ms.get_or_insert(self.now_ms);
        let mut book = self.shelf.book();
        for pending in self.staged.drain(..) {
            let (header, place) = (&pending.header, pending.place);
            let head_at = (u64::from(place.offset) - start) as usize + crate::record::HEADER_BYTES;
            let state_at = head_at + header.head_len as usize;
            let (head, state) =
                (&self.buffer[head_at..state_at], &self.buffer[state_at..state_at + header.state_len as usize]);
            self.sidecar.add(place.offset, header, head, state);
            book.extend(place.segment, u64::from(place.offset) + u64::from(place.len), header.sequence);
            if let Record::Small(small) = &pending.record {
                match &small.what {
                    What::Update(_) => {
                        book.update(small.key, place);
                        book.held_states.remove(&small.key);
                    }
                    What::Remove(origin) => {
                        book.remove(small.key);
                        book.ended(place.segment, origin.unwrap_or(0));
                    }
                    What::Note => {}
                }
            }
            self.written.push(pending);
        }
    }

    fn staged_is_refused(&mut self, cause: &io::Error) {
        self.trouble(cause);
        if let Some(first) = self.staged.first() {
            self.next_sequence = first.header.sequence;
        }
        let staged = std::mem::take(&mut self.staged);
        self.take_back(staged);
        // Cut back, the file is as it was before the write.
        if self.tail.as_mut().is_some_and(|tail| tail.cut().is_err()) {
            self.abandon_tail();
        }
        self.write_held();
    }

    /// One sync for all that was written since the last. False = it failed, and the file with it.
    fn sync(&mut self) -> bool {
        let Some(tail) = self.tail.as_ref().filter(|_| !self.written.is_empty()) else {
            return true;
        };
        Counts::add(&self.shelf.counts.syncs, 1);
        if let Err(cause) = tail.file.sync_data() {
            self.trouble(&cause);
            self.abandon_tail();
            self.write_held();
            return false;
        }
        self.durable_len = tail.len;
        self.unsynced_since_ms = None;
        self.keys_pending.clear();
        let written = std::mem::take(&mut self.written);
        self.durable_sequence = written.last().map_or(self.durable_sequence, |last| last.header.sequence);
        self.enter(&written);
        let mut puts = 0;
        for Pending { header, record, .. } in written {
            match record {
                Record::Put { event, answer } => {
                    puts += 1;
                    let _ = answer.send(Ok(()));
                    self.events.append(header.sequence, header.key, event);
                }
                Record::Small(small) => {
                    if let Some(answer) = small.answer {
                        let _ = answer.send(Ok(()));
                    }
                    self.events.append(header.sequence, header.key, small.event);
                }
                Record::Copy { .. } => {}
            }
        }
        Counts::add(&self.shelf.counts.puts, puts);
        true
    }

    /// What counts only once it is durable: messages, and copies in the place of their originals.
    fn enter(&mut self, written: &[Pending]) {
        let mut book = self.shelf.book();
        for Pending { header, place, record } in written {
            match (record, header.kind) {
                (Record::Put { .. }, _) => book.put(header.key, *place),
                (Record::Copy { from }, Kind::Carried)
                    if book.index.get(header.key).is_some_and(|entry| entry.message == *from) =>
                {
                    book.put(header.key, *place);
                }
                (Record::Copy { from }, Kind::Update)
                    if book.index.get(header.key).is_some_and(|entry| entry.state == *from) =>
                {
                    book.update(header.key, *place);
                }
                (Record::Copy { .. }, Kind::Mark) => book.ended(place.segment, header.origin as u32),
                _ => {}
            }
        }
    }

    /// Refuses the messages and holds the small records, before all that is held already.
    fn take_back(&mut self, pending: Vec<Pending>) {
        let refusal = refused(&self.shelf.health());
        let younger = std::mem::take(&mut self.held);
        for Pending { header, record, .. } in pending {
            match record {
                Record::Put { answer, .. } => {
                    self.keys_pending.remove(&header.key);
                    let _ = answer.send(Err(refusal.clone()));
                }
                Record::Small(small) => self.hold(small),
                Record::Copy { .. } => self.emptying = None,
            }
        }
        self.held.extend(younger);
        self.held_to_figures();
    }

    // Files

    /// Makes sure that a record of this length fits into the tail, if there can be one.
    fn make_room(&mut self, len: u64) {
        if let Some(tail) = &self.tail {
            let used = tail.len + self.buffer.len() as u64;
            if used + len <= self.tail_bytes_max || used == START {
                return;
            }
            self.write_staged();
            self.close_tail();
        }
        if self.tail.is_none() {
            self.open_tail();
        }
    }

    fn open_tail(&mut self) {
        let number = self.next_number;
        self.next_number += 1;
        let shelf = self.shelf.clone();
        match Tail::create(&*shelf.disk, &shelf.dir, LogKind::Queue, number, self.durable_sequence + 1) {
            Ok(tail) => self.begin_tail(tail, self.options.segment_bytes),
            Err(cause) => {
                self.trouble(&cause);
                if is_full(&cause) {
                    self.open_reserve();
                }
            }
        }
    }

    /// The reserve becomes the tail: its blocks are there however full the disk is. Used once; then a new one is made.
    fn open_reserve(&mut self) -> bool {
        if !std::mem::take(&mut self.has_reserve) {
            return false;
        }
        let number = self.next_number;
        self.next_number += 1;
        let shelf = self.shelf.clone();
        let spare = shelf.dir.join(RESERVE);
        match Tail::create_from(&*shelf.disk, &shelf.dir, LogKind::Queue, &spare, number, self.durable_sequence + 1) {
            Ok(tail) => {
                self.begin_tail(tail, self.options.reserve_bytes);
                true
            }
            Err(cause) => {
                self.trouble(&cause);
                false
            }
        }
    }

    fn begin_tail(&mut self, tail: Tail, bytes_max: u64) {
        let number = tail.header.number;
        let mut book = self.shelf.book();
        book.open_segment(tail.header);
        for older in self.abandoned.drain(..) {
            book.distrust(older, number);
        }
        drop(book);
        self.shelf.keep_open(number, tail.file.clone());
        self.next_sequence = tail.header.first_sequence;
        self.durable_len = START;
        self.sidecar = Sidecar::new();
        self.tail_bytes_max = bytes_max.min(self.options.segment_bytes);
        self.tail = Some(tail);
    }

    fn close_tail(&mut self) {
        if !self.sync() {
            return;
        }
        let Some(mut tail) = self.tail.take() else {
            return;
        };
        if tail.allocated > tail.len {
            // Room given back early; what stays behind the end reads as zeros and is no harm.
            let _ = tail.cut();
        }
        self.events.sync(self.durable_sequence);
        self.write_summary(&tail.header, tail.len);
        let mut book = self.shelf.book();
        book.changed = true;
        if let Some(segment) = book.segments.get_mut(&tail.header.number) {
            segment.closed = true;
        }
    }

    /// A summary that is missing costs the next start some time and nothing else.
    fn write_summary(&mut self, segment: &crate::segment::SegmentHeader, end: u64) {
        let mut sidecar = std::mem::replace(&mut self.sidecar, Sidecar::new());
        if sidecar.write(&*self.shelf.disk, &self.shelf.dir, segment, end).is_err() {
            let _ = self.shelf.disk.remove(&sidecar_path(&self.shelf.dir, segment.number));
        }
    }

    /// The file cannot be trusted behind what was durable: everything since is refused or held, to be written again.
    fn abandon_tail(&mut self) {
        let Some(mut tail) = self.tail.take() else {
            return;
        };
        let number = tail.header.number;
        let written = std::mem::take(&mut self.written);
        self.take_back(written);
        self.unsynced_since_ms = None;
        self.next_sequence = self.durable_sequence + 1;
        self.abandoned.push(number);
        tail.len = self.durable_len;
        // Void in any case; cut so that a crash before the next file begins does not bring refused messages back.
        let _ = tail.cut();
        let mut book = self.shelf.book();
        book.changed = true;
        if let Some(segment) = book.segments.get_mut(&number) {
            segment.closed = true;
            segment.end = self.durable_len;
            segment.last_sequence = self.durable_sequence;
        }
    }

    // Small records while the disk takes nothing

    /// Takes effect for readers at once. Beyond the limit, events and states are given up (and counted), ends never:
    /// there is at most one for each message, and without it a message would be sent twice.
    fn hold(&mut self, mut small: Small) {
        if let Some(answer) = small.answer.take() {
            let _ = answer.send(Err(refused(&self.shelf.health())));
            return;
        }
        let mut book = self.shelf.book();
        if self.held_bytes + small.bytes() > self.options.held_bytes_max {
            Counts::add(&self.shelf.counts.events_lost, u64::from(!small.event.is_empty()));
            small.event = Vec::new();
            if !matches!(small.what, What::Remove(_)) {
                Counts::add(&self.shelf.counts.states_lost, u64::from(matches!(small.what, What::Update(_))));
                return;
            }
        }
        match &mut small.what {
            What::Update(state) => {
                if book.index.get(small.key).is_some() {
                    book.held_states.insert(small.key, state.clone());
                }
            }
            What::Remove(origin) => *origin = book.remove(small.key).or(*origin),
            What::Note => {}
        }
        self.held_bytes += small.bytes();
        self.held.push_back(small);
    }

    /// Writes what is held, oldest first, as far as the disk takes it.
    fn write_held(&mut self) {
        while !self.held.is_empty() {
            if self.tail.is_none() {
                self.open_tail();
            }
            if self.tail.is_none() {
                break;
            }
            self.stage_held();
            let Some(tail) = self.tail.as_mut().filter(|_| !self.staged.is_empty()) else {
                break;
            };
            let start = tail.len;
            let outcome = tail.append(&self.buffer);
            if outcome.is_ok() {
                self.staged_is_written(start);
            }
            self.buffer.clear();
            let Err(cause) = outcome else { continue };
            self.trouble(&cause);
            self.next_sequence = self.staged[0].header.sequence;
            let staged = std::mem::take(&mut self.staged);
            self.take_back(staged);
            if self.tail.as_mut().is_some_and(|tail| tail.cut().is_err()) {
                self.abandon_tail();
            }
            // Close first: what is in the old file must be durable before a younger one says where it ends.
            if !(is_full(&cause) && self.has_reserve && self.close_for_reserve() && self.open_reserve()) {
                break;
            }
        }
        self.held_to_figures();
    }

    fn stage_held(&mut self) {
        while let Some(small) = self.held.front() {
            let room = self.tail.as_ref().map_or(0, |tail| self.tail_bytes_max.saturating_sub(tail.len));
            let fresh = self.tail.as_ref().is_some_and(|tail| tail.len == START);
            let full = self.buffer.len() as u64 + small.bytes() + crate::record::HEADER_BYTES as u64 > room;
            if !self.staged.is_empty() && (full || self.buffer.len() >= WRITE_BYTES_MAX / 4) {
                return;
            }
            if full && !fresh {
                self.close_tail();
                if self.tail.is_none() {
                    self.open_tail();
                }
                if self.tail.is_none() {
                    return;
                }
                continue;
            }
            let Some(small) = self.held.pop_front() else {
                return;
            };
            self.held_bytes = self.held_bytes.saturating_sub(small.bytes());
            let (kind, state, origin) = small.layout();
            let parts = Parts { state, event: &small.event, ..Parts::default() };
            let header = Header::new(kind, small.key, self.next_sequence, origin, &parts, parts.crc());
            let place = self.stage(&header, &parts);
            self.staged.push(Pending { header, place, record: Record::Small(small) });
        }
    }

    fn close_for_reserve(&mut self) -> bool {
        self.close_tail();
        self.tail.is_none()
    }

    fn held_to_figures(&self) {
        Counts::set(&self.shelf.counts.records_held, self.held.len() as u64);
    }

    // Trouble

    fn trouble(&mut self, cause: &io::Error) {
        let needed = self.options.free_min_bytes;
        let health = if is_full(cause) {
            Health::Full { free: self.shelf.disk.free_bytes(&self.shelf.dir).unwrap_or(0), needed }
        } else {
            Health::Failing { what: cause.to_string() }
        };
        self.in_trouble = true;
        self.troubles += 1;
        self.retry_at_ms = self.now_ms + RETRY_MS;
        self.shelf.set_health(health);
    }

    fn look_at_space(&mut self) {
        match self.shelf.disk.free_bytes(&self.shelf.dir) {
            Ok(free) => {
                self.free_bytes = free;
                if free < self.options.free_min_bytes && !matches!(self.shelf.health(), Health::Failing { .. }) {
                    self.in_trouble = true;
                    self.retry_at_ms = self.retry_at_ms.max(self.now_ms + 1);
                    self.shelf.set_health(Health::Full { free, needed: self.options.free_min_bytes });
                }
            }
            Err(cause) => self.trouble(&cause),
        }
    }

    /// Is the trouble over? Only a written and synced probe says so.
    fn try_again(&mut self) {
        self.write_held();
        self.make_reserve();
        if self.tail.is_none() {
            self.open_tail();
        }
        let free = self.shelf.disk.free_bytes(&self.shelf.dir).unwrap_or(0);
        self.free_bytes = free;
        if free < self.options.free_min_bytes {
            if matches!(self.shelf.health(), Health::Full { .. }) {
                self.shelf.set_health(Health::Full { free, needed: self.options.free_min_bytes });
            }
            return;
        }
        if self.tail.is_none() || !self.held.is_empty() || !self.has_reserve {
            return;
        }
        match self.probe() {
            Ok(()) => {
                self.in_trouble = false;
                self.shelf.set_health(Health::Accepting);
            }
            Err(cause) => self.trouble(&cause),
        }
    }

    fn probe(&self) -> io::Result<()> {
        let path = self.shelf.dir.join(PROBE);
        let _ = self.shelf.disk.remove(&path);
        let file = self.shelf.disk.create(&path)?;
        file.write_at(&[0x5a; 4096], 0)?;
        file.sync_data()?;
        self.shelf.disk.remove(&path)
    }

    fn make_reserve(&mut self) {
        if self.has_reserve || self.options.reserve_bytes == 0 {
            self.has_reserve = true;
            return;
        }
        let path = self.shelf.dir.join(RESERVE);
        let made = self.shelf.disk.create(&path).and_then(|file| {
            file.allocate(self.options.reserve_bytes)?;
            file.sync_data()
        });
        match made.and_then(|()| self.shelf.disk.sync_dir(&self.shelf.dir)) {
            Ok(()) => self.has_reserve = true,
            Err(cause) => {
                let _ = self.shelf.disk.remove(&path);
                self.trouble(&cause);
            }
        }
    }

    // Events

    /// Copies from the queue log what the event log lacks.
    fn copy_missing_events(&mut self) {
        if let Err(cause) = self.copy_events() {
            self.events.fail(&cause);
        }
    }

    fn copy_events(&mut self) -> io::Result<()> {
        let mut last = self.events.synced_sequence();
        let (from, until) = (last, self.durable_sequence);
        let book = self.shelf.book();
        let wanted = book.segments.values().filter(|segment| segment.last_sequence > from && !segment.doomed);
        let segments: Vec<_> = wanted.map(|segment| (segment.header, segment.end, segment.last_sequence)).collect();
        drop(book);
        for (header, end, last_sequence) in segments {
            let file = self.shelf.disk.open(&log_path(&self.shelf.dir, header.number))?;
            let mut scanner = Scanner::new(&*file, header.salt, START, end, 1 << 20);
            while let Some(found) = scanner.next()? {
                let Found::Record { header, parts, .. } = found else {
                    continue;
                };
                if header.sequence > last && header.sequence <= until.min(last_sequence) {
                    last = header.sequence;
                    self.events.append(header.sequence, header.key, parts.event.to_vec());
                }
            }
            self.events.flush();
        }
        Ok(())
    }

    // Space

    fn delete_dead(&mut self) {
        let dead = |log: &Log| -> Vec<u32> {
            let book = log.shelf.book();
            let copied = |number: &u32| book.segments[number].last_sequence <= log.events.synced_sequence();
            book.deletable().into_iter().filter(|number| log.events.broken().is_none() && copied(number)).collect()
        };
        if self.shelf.book().deletable().is_empty() {
            return;
        }
        // What ended or replaced the records in there must be durable first, or an older state would come back.
        if !self.held.is_empty() || !self.sync() {
            return;
        }
        self.events.sync(self.durable_sequence);
        let (dead, shelf) = (dead(self), self.shelf.clone());
        let mut deleted = Vec::new();
        for number in dead {
            match shelf.disk.remove(&log_path(&shelf.dir, number)) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {}
                _ => {
                    let _ = shelf.disk.remove(&sidecar_path(&shelf.dir, number));
                    shelf.close_file(number);
                    deleted.push(number);
                }
            }
        }
        if deleted.is_empty() {
            return;
        }
        let durable = shelf.disk.sync_dir(&shelf.dir).is_ok();
        let mut book = shelf.book();
        for number in deleted {
            if durable {
                book.forget(number);
            } else if let Some(segment) = book.segments.get_mut(&number) {
                // The name may come back, so what keeps its messages ended stays too, until the next start looks.
                segment.doomed = true;
            }
        }
    }

    fn choose_to_empty(&mut self) {
        let full = matches!(self.shelf.health(), Health::Full { .. });
        if self.emptying.is_some() || self.tail.is_none() || (self.in_trouble && !full) {
            return;
        }
        let slack = if full { 0 } else { SLACK_SEGMENTS * self.options.segment_bytes };
        let Some(number) = self.shelf.book().to_empty(slack) else {
            return;
        };
        match self.records_of(number) {
            Ok(records) => {
                self.emptying = Some(Emptying { number, troubles: self.troubles, rest: records.into_iter() });
            }
            Err(_) => self.keep(number),
        }
    }

    fn records_of(&self, number: u32) -> io::Result<Vec<(Header, Place)>> {
        let shelf = &self.shelf;
        let place = |offset: u32, header: &Header| Place { segment: number, offset, len: header.record_len() as u32 };
        if let Some((_, _, sidecar)) = Sidecar::read(&*shelf.disk, &shelf.dir, number) {
            return Ok(sidecar.entries().map(|entry| (entry.header, place(entry.offset, &entry.header))).collect());
        }
        let found = shelf.book().segments.get(&number).map(|segment| (segment.header, segment.end));
        let (segment, end) = found.ok_or(io::ErrorKind::NotFound)?;
        let file = shelf.disk.open(&log_path(&shelf.dir, number))?;
        let mut scanner = Scanner::new(&*file, segment.salt, START, end, 1 << 20);
        let mut records = Vec::new();
        while let Some(found) = scanner.next()? {
            if let Found::Record { offset, header, .. } = found {
                records.push((header, place(offset as u32, &header)));
            }
        }
        Ok(records)
    }

    /// A slice of the segment that is being emptied: its live records are copied to the tail and synced. When nothing
    /// in it lives any more it is deleted like any other.
    fn carry_forward(&mut self) {
        let Some(mut emptying) = self.emptying.take() else {
            return;
        };
        if self.tail.is_none() || matches!(self.shelf.health(), Health::Failing { .. }) {
            return;
        }
        while self.buffer.len() < CARRY_BYTES_MAX {
            let Some((header, place)) = emptying.rest.next() else {
                if self.flush_copies(emptying.troubles) {
                    self.shelf.book().emptied(emptying.number);
                }
                return;
            };
            if self.copy(&header, place).is_err() {
                Counts::add(&self.shelf.counts.records_unreadable, 1);
                self.keep(emptying.number);
            }
            if self.tail.is_none() {
                return;
            }
        }
        if self.flush_copies(emptying.troubles) {
            self.emptying = Some(emptying);
        }
    }

    /// True = every copy so far is durable.
    fn flush_copies(&mut self, troubles: u64) -> bool {
        Counts::add(&self.shelf.counts.bytes_carried, self.buffer.len() as u64);
        self.write_staged();
        self.sync() && self.troubles == troubles
    }

    /// Stages a copy of the record if it still matters.
    fn copy(&mut self, header: &Header, place: Place) -> Result<(), ReadFault> {
        let entry = self.shelf.book().index.get(header.key).copied();
        let origin_exists =
            || u32::try_from(header.origin).is_ok_and(|origin| self.shelf.book().segments.contains_key(&origin));
        match header.kind {
            Kind::Put | Kind::Carried if entry.is_some_and(|entry| entry.message == place) => {
                let stored = self.shelf.read(header.key, Patience::MayBlock)?;
                let parts = Parts { head: &stored.head, state: &stored.state, body: &stored.body, event: &[] };
                self.stage_copy(Kind::Carried, header, place, &parts);
            }
            Kind::Update if entry.is_some_and(|entry| entry.state == place) => {
                let (read, octets) = self.shelf.read_record(header.key, place, Patience::MayBlock)?;
                let state_at = crate::record::HEADER_BYTES + read.head_len as usize;
                let parts = Parts { state: &octets[state_at..state_at + read.state_len as usize], ..Parts::default() };
                self.stage_copy(Kind::Update, header, place, &parts);
            }
            Kind::Remove | Kind::Mark if header.origin != u64::from(place.segment) && origin_exists() => {
                self.stage_copy(Kind::Mark, header, place, &Parts::default());
            }
            _ => {}
        }
        Ok(())
    }

    fn stage_copy(&mut self, kind: Kind, original: &Header, from: Place, parts: &Parts<'_>) {
        self.make_room(parts.record_len());
        if self.tail.is_none() {
            return;
        }
        let header = Header::new(kind, original.key, self.next_sequence, original.origin, parts, parts.crc());
        let place = self.stage(&header, parts);
        self.staged.push(Pending { header, place, record: Record::Copy { from } });
    }

    fn keep(&mut self, number: u32) {
        if let Some(segment) = self.shelf.book().segments.get_mut(&number) {
            segment.kept = true;
        }
    }

    // At start-up

    /// Summaries for what was read through, and nothing left lying about.
    fn tidy(&mut self, loaded: &mut Loaded) {
        let shelf = self.shelf.clone();
        for path in loaded.blank.drain(..) {
            let _ = shelf.disk.remove(&path);
        }
        for name in shelf.disk.list(&shelf.dir).unwrap_or_default() {
            let orphan = number_of(&name, ".idx").is_some_and(|number| !shelf.book().segments.contains_key(&number));
            let reserve_len = || shelf.disk.open(&shelf.dir.join(&name)).and_then(|file| file.len()).ok();
            // A reserve that a crash cut short is made anew; a whole one is kept, for the disk may be full now.
            self.has_reserve |= name == RESERVE && reserve_len() == Some(self.options.reserve_bytes);
            if orphan || name == PROBE || (name == RESERVE && !self.has_reserve) {
                let _ = shelf.disk.remove(&shelf.dir.join(name));
            }
        }
        for (number, sidecar) in loaded.unsummed.drain(..) {
            let found = shelf.book().segments.get(&number).map(|segment| (segment.header, segment.end));
            let Some((segment, end)) = found else {
                continue;
            };
            let path = log_path(&shelf.dir, number);
            let whole = loaded.dropped.iter().all(|dropped| dropped.file != path.display().to_string());
            if whole && let Ok(file) = shelf.disk.open(&path) {
                // Blocks set aside and never used.
                let _ = file.set_len(end);
            }
            self.sidecar = sidecar;
            self.write_summary(&segment, end);
        }
    }
}

const RESERVE: &str = "reserve";
const PROBE: &str = "probe";

impl Small {
    /// Kind, state and origin of its record.
    fn layout(&self) -> (Kind, &[u8], u64) {
        match &self.what {
            What::Update(state) => (Kind::Update, state, 0),
            What::Remove(origin) => (Kind::Remove, &[], u64::from(origin.unwrap_or(0))),
            What::Note => (Kind::Note, &[], 0),
        }
    }
}

fn refused(health: &Health) -> PutFault {
    match health {
        Health::Full { free, needed } => PutFault::Full { free: *free, needed: *needed },
        Health::Failing { what } => PutFault::Failing { what: what.clone() },
        Health::Accepting => PutFault::Failing { what: "no file could be opened".into() },
    }
}
