//! What has happened, in order, and from where does a reader go on?
//!
//! The event log is derived from the queue log, which is its write-ahead log: an event is copied here when its record
//! is durable there, and a queue segment is deleted only when the copies are durable too. After a crash, or when this
//! log could not be written for a while, what is missing is copied again. A cursor is the sequence of the queue
//! record, so it stays true whatever files come and go.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::disk::Disk;
use crate::fault::{Dropped, OpenFault};
use crate::record::{Found, Header, Kind, Parts, Scanner};
use crate::segment::{LogKind, Opening, START, SegmentHeader, Tail, log_path, number_of};
use crate::{Key, Options};

/// A place in the event log that stays true over restarts: "everything up to here". Zero is the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cursor(pub u64);

/// One answer of `EventLog::next` is not larger than this, or holds one event.
const ANSWER_BYTES_MAX: usize = 4 << 20;
const WINDOW_BYTES: usize = 128 << 10;

/// A reader of the event log; each clone goes its own way.
#[derive(Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
    /// Where the last answer ended, so that the next one need not search.
    resume: Option<(Cursor, u32, u64)>,
}

/// Is given an event, its place, and where the next record starts.
type Visitor<'a> = &'a mut dyn FnMut(Cursor, &[u8], u64) -> ControlFlow<()>;

struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segments: Mutex<Vec<EventSegment>>,
    newest: watch::Sender<Cursor>,
}

#[derive(Clone, Copy)]
struct EventSegment {
    header: SegmentHeader,
    end: u64,
}

impl EventLog {
    /// Up to `max` events after the cursor, oldest first; empty when there is none yet. Blocks for the disk, never for
    /// more events. A cursor older than the oldest event kept goes on at that one.
    pub fn next(&mut self, after: Cursor, max: usize) -> io::Result<Vec<(Cursor, Vec<u8>)>> {
        loop {
            match self.collect(after, max) {
                // Retention deleted the file under us; the list is newer now.
                Err(cause) if cause.kind() == io::ErrorKind::NotFound && self.shared.drop_missing() => {}
                outcome => return outcome,
            }
        }
    }

    /// Changes when there is more; holds the cursor of the newest event.
    pub fn more(&self) -> watch::Receiver<Cursor> {
        self.shared.newest.subscribe()
    }

    /// Everything that is kept, newest to oldest, until the visitor breaks. Holds one segment in memory at a time.
    pub fn scan_back(&self, visitor: &mut dyn FnMut(Cursor, &[u8]) -> ControlFlow<()>) -> io::Result<()> {
        self.scan_back_from(&mut |_| false, visitor)
    }

    /// The same, without the newest segments whose first event is `too_young`: of those, no more than that is read.
    pub fn scan_back_from(
        &self,
        too_young: &mut dyn FnMut(&[u8]) -> bool,
        visitor: &mut dyn FnMut(Cursor, &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let segments = self.shared.segments().clone();
        let mut skipping = true;
        for (i, segment) in segments.iter().enumerate().rev() {
            skipping = skipping && self.begins(segment, too_young)?;
            if skipping {
                continue;
            }
            let mut events = Vec::new();
            let read = self.shared.read(segment, START, void_from(&segments[i + 1..]), &mut |cursor, event, _| {
                events.push((cursor, event.to_vec()));
                ControlFlow::Continue(())
            });
            match read {
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => continue,
                outcome => outcome?,
            }
            for (cursor, event) in events.iter().rev() {
                if visitor(*cursor, event).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Where to begin reading so that nothing is missed since some moment: before the newest segment whose first event is not
    /// `too_young`. Of some segments that first event is read, and no more.
    pub fn before(&self, too_young: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<Cursor> {
        let segments = self.shared.segments().clone();
        // Older ones are never younger: the place is found by halving.
        let (mut from, mut to) = (0, segments.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            if self.begins(&segments[middle], too_young)? { to = middle } else { from = middle + 1 }
        }
        Ok(from.checked_sub(1).map_or(Cursor(0), |at| Cursor(segments[at].header.first_sequence.saturating_sub(1))))
    }

    /// Whether the first event of a segment is so; one that is gone, or has none, is passed over by either answer.
    fn begins(&self, segment: &EventSegment, so: &mut dyn FnMut(&[u8]) -> bool) -> io::Result<bool> {
        let mut begins = true;
        let read = self.shared.read(segment, START, u64::MAX, &mut |_, event, _| {
            begins = so(event);
            ControlFlow::Break(())
        });
        match read {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(true),
            outcome => outcome.map(|()| begins),
        }
    }

    /// An event log nobody writes here, and what is damaged in it. Changes nothing.
    pub(crate) fn look(disk: Arc<dyn Disk>, dir: &Path) -> Result<(EventLog, Vec<Dropped>), OpenFault> {
        let fault = |cause| OpenFault::Disk { doing: "read the event log in", path: dir.to_owned(), cause };
        let shared = Shared { disk, dir: dir.to_owned(), segments: Mutex::default(), newest: watch::Sender::default() };
        let mut dropped = Vec::new();
        shared.find_segments(&mut dropped)?;
        for segment in shared.segments().iter() {
            let path = log_path(dir, segment.header.number);
            let file = shared.disk.open(&path).map_err(fault)?;
            let mut scanner = Scanner::new(&*file, segment.header.salt, START, segment.end, 1 << 20);
            while let Some(found) = scanner.next().map_err(fault)? {
                if let Found::Damage { offset, octets, why } = found {
                    dropped.push(Dropped { file: path.display().to_string(), offset, octets, why });
                }
            }
        }
        Ok((EventLog { shared: Arc::new(shared), resume: None }, dropped))
    }

    fn collect(&mut self, after: Cursor, max: usize) -> io::Result<Vec<(Cursor, Vec<u8>)>> {
        let segments = self.shared.segments().clone();
        let first = segments.iter().rposition(|segment| segment.header.first_sequence <= after.0 + 1).unwrap_or(0);
        let (mut events, mut octets, mut full) = (Vec::new(), 0, false);
        for (i, segment) in segments.iter().enumerate().skip(first) {
            let from = match self.resume {
                Some((cursor, number, at)) if cursor == after && number == segment.header.number => at,
                _ => START,
            };
            let void = void_from(&segments[i + 1..]);
            let mut place = None;
            self.shared.read(segment, from, void, &mut |cursor, event, at| {
                if cursor <= after {
                    return ControlFlow::Continue(());
                }
                full = events.len() >= max || (octets + event.len() > ANSWER_BYTES_MAX && !events.is_empty());
                if full {
                    return ControlFlow::Break(());
                }
                octets += event.len();
                events.push((cursor, event.to_vec()));
                place = Some((cursor, segment.header.number, at));
                ControlFlow::Continue(())
            })?;
            self.resume = place.or(self.resume);
            if full {
                break;
            }
        }
        Ok(events)
    }
}

/// Records of a segment from this sequence on were written again in a younger one.
fn void_from(younger: &[EventSegment]) -> u64 {
    younger.iter().map(|segment| segment.header.first_sequence).min().unwrap_or(u64::MAX)
}

impl Shared {
    fn segments(&self) -> MutexGuard<'_, Vec<EventSegment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the visitor with each event before `void` and with where the next record starts.
    fn read(&self, segment: &EventSegment, from: u64, void: u64, visitor: Visitor<'_>) -> io::Result<()> {
        if from >= segment.end {
            return Ok(());
        }
        let file = self.disk.open(&log_path(&self.dir, segment.header.number))?;
        let end = segment.end.min(file.len()?);
        let mut scanner = Scanner::new(&*file, segment.header.salt, from, end, WINDOW_BYTES);
        while let Some(found) = scanner.next()? {
            let Found::Record { offset, header, parts } = found else {
                continue;
            };
            if header.sequence >= void {
                break;
            }
            let next = offset + header.record_len();
            if header.kind == Kind::Event && visitor(Cursor(header.sequence), parts.event, next).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn drop_missing(&self) -> bool {
        let mut segments = self.segments();
        let before = segments.len();
        segments.retain(|segment| self.disk.open(&log_path(&self.dir, segment.header.number)).is_ok());
        segments.len() < before
    }
}

/// The writing end; belongs to the one writer of the spool.
pub(crate) struct EventWriter {
    shared: Arc<Shared>,
    tail: Option<Tail>,
    tail_synced: u64,
    next_number: u32,
    waiting: Vec<(u64, Key, Vec<u8>)>,
    buffer: Vec<u8>,
    dirty: bool,
    /// All events up to this sequence are durable here.
    synced_sequence: u64,
    broken: Option<String>,
    segment_bytes: u64,
    bytes_max: u64,
}

impl EventWriter {
    /// `queue_first` is the oldest sequence the queue log still has: from there on everything can be copied again.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &Options,
        queue_first: u64,
    ) -> Result<(EventWriter, Vec<Dropped>), OpenFault> {
        let fault = |cause| OpenFault::Disk { doing: "read the event log in", path: dir.to_owned(), cause };
        disk.make_dir(dir).map_err(fault)?;
        let shared = Shared { disk, dir: dir.to_owned(), segments: Mutex::default(), newest: watch::Sender::default() };
        let mut dropped = Vec::new();
        let (next_number, blank) = shared.find_segments(&mut dropped)?;
        for path in blank {
            // Left where it is, it is found again at the next start.
            let _ = shared.disk.remove(&path);
        }
        let synced_sequence = shared.last_sequence(queue_first, &mut dropped).map_err(fault)?;
        shared.newest.send_replace(Cursor(synced_sequence));
        let writer = EventWriter {
            shared: Arc::new(shared),
            tail: None,
            tail_synced: START,
            next_number,
            waiting: Vec::new(),
            buffer: Vec::new(),
            dirty: false,
            synced_sequence,
            broken: None,
            segment_bytes: options.event_segment_bytes,
            bytes_max: options.events_bytes_max,
        };
        Ok((writer, dropped))
    }

    pub fn reader(&self) -> EventLog {
        EventLog { shared: self.shared.clone(), resume: None }
    }

    pub fn synced_sequence(&self) -> u64 {
        self.synced_sequence
    }

    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// Forgets the failure; the caller then copies again what comes after `synced_sequence`.
    pub fn mend(&mut self) {
        self.broken = None;
    }

    /// What should be copied here cannot be read.
    pub fn fail(&mut self, cause: &io::Error) {
        self.break_off(cause);
    }

    /// The record it comes from must be durable.
    pub fn append(&mut self, sequence: u64, key: Key, event: Vec<u8>) {
        if !event.is_empty() && self.broken.is_none() {
            self.waiting.push((sequence, key, event));
        }
    }

    /// Writes what was appended, so that readers see it.
    pub fn flush(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let waiting = std::mem::take(&mut self.waiting);
        if let Err(cause) = self.write(&waiting) {
            self.break_off(&cause);
        } else if let Some((sequence, ..)) = waiting.last() {
            self.shared.newest.send_replace(Cursor(*sequence));
        }
        // Keeps the room for the next round.
        self.waiting = waiting;
        self.waiting.clear();
    }

    /// Afterwards all events up to `sequence` are durable here, or the log is broken.
    pub fn sync(&mut self, sequence: u64) {
        self.flush();
        if self.broken.is_some() {
            return;
        }
        if let Some(tail) = self.tail.as_ref().filter(|_| self.dirty) {
            if let Err(cause) = tail.file.sync_data() {
                return self.break_off(&cause);
            }
            self.tail_synced = tail.len;
            self.dirty = false;
        }
        self.synced_sequence = self.synced_sequence.max(sequence);
    }

    /// Deletes the oldest segments while there is more than the limit.
    pub fn retain(&mut self) {
        let mut segments = self.shared.segments();
        while segments.len() > 1 && segments.iter().map(|segment| segment.end).sum::<u64>() > self.bytes_max {
            let oldest = segments.remove(0);
            // Should the name come back after a power cut, it is deleted then.
            let _ = self.shared.disk.remove(&log_path(&self.shared.dir, oldest.header.number));
        }
    }

    fn write(&mut self, events: &[(u64, Key, Vec<u8>)]) -> io::Result<()> {
        let mut rest = events.iter();
        while let Some((first, ..)) = rest.as_slice().first() {
            if self.tail.as_ref().is_some_and(|tail| tail.len >= self.segment_bytes) {
                self.close_tail()?;
            }
            if self.tail.is_none() {
                self.open_tail(*first)?;
            }
            let Some(tail) = &mut self.tail else {
                return Ok(());
            };
            self.buffer.clear();
            for (sequence, key, event) in rest.by_ref() {
                let parts = Parts { event, ..Parts::default() };
                let header = Header::new(Kind::Event, *key, *sequence, 0, &parts, parts.crc());
                let offset = tail.len + self.buffer.len() as u64;
                header.write(&mut self.buffer, tail.header.salt, offset);
                self.buffer.extend_from_slice(event);
                if tail.len + self.buffer.len() as u64 >= self.segment_bytes {
                    break;
                }
            }
            self.dirty = true;
            tail.append(&self.buffer)?;
            let (number, end) = (tail.header.number, tail.len);
            self.set_end(number, end);
        }
        Ok(())
    }

    fn open_tail(&mut self, first_sequence: u64) -> io::Result<()> {
        let number = self.next_number;
        self.next_number += 1;
        let tail = Tail::create(&*self.shared.disk, &self.shared.dir, LogKind::Events, number, first_sequence)?;
        self.shared.segments().push(EventSegment { header: tail.header, end: START });
        self.tail_synced = START;
        self.tail = Some(tail);
        Ok(())
    }

    fn close_tail(&mut self) -> io::Result<()> {
        if let Some(tail) = self.tail.as_ref() {
            tail.file.sync_data()?;
            self.tail_synced = tail.len;
            self.dirty = false;
            self.tail = None;
        }
        Ok(())
    }

    /// A file whose write or sync failed is not written again (see the reasons in `log.rs`). What was durable in it
    /// stays; the rest is copied again into another file, which says by its first sequence that the rest is void.
    fn break_off(&mut self, cause: &io::Error) {
        self.broken = Some(format!("the event log cannot be written: {cause}"));
        self.dirty = false;
        if let Some(mut tail) = self.tail.take() {
            tail.len = self.tail_synced;
            let _ = tail.cut();
            self.set_end(tail.header.number, tail.len);
        }
    }

    fn set_end(&self, number: u32, end: u64) {
        if let Some(segment) = self.shared.segments().iter_mut().rfind(|segment| segment.header.number == number) {
            segment.end = end;
        }
    }
}

impl Shared {
    /// The number for the next file, and the files that hold nothing.
    fn find_segments(&self, dropped: &mut Vec<Dropped>) -> Result<(u32, Vec<PathBuf>), OpenFault> {
        let fault = |cause| OpenFault::Disk { doing: "read the event log in", path: self.dir.clone(), cause };
        let names = self.disk.list(&self.dir).map_err(fault)?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| number_of(name, ".log")).collect();
        numbers.sort_unstable();
        let mut blank = Vec::new();
        for &number in &numbers {
            let path = log_path(&self.dir, number);
            let file = self.disk.open(&path).map_err(fault)?;
            let end = file.len().map_err(fault)?;
            match SegmentHeader::read(&*file, LogKind::Events).map_err(fault)? {
                Opening::Good(header) if header.number == number => self.segments().push(EventSegment { header, end }),
                Opening::Newer(found) => {
                    return Err(OpenFault::Newer { path, found, known: crate::segment::FORMAT });
                }
                Opening::Blank => blank.push(path),
                Opening::Good(_) | Opening::Damaged => dropped.push(Dropped {
                    file: path.display().to_string(),
                    offset: 0,
                    octets: end,
                    why: "the beginning of the file is damaged; its events are not read",
                }),
            }
        }
        Ok((numbers.last().map_or(1, |number| number + 1), blank))
    }

    /// Up to where this log is complete. A hole in what was not synced must not hide behind a later record, so
    /// everything behind damage is taken as missing if the queue log can give it again.
    fn last_sequence(&self, queue_first: u64, dropped: &mut Vec<Dropped>) -> io::Result<u64> {
        let segments = self.segments().clone();
        let mut void = u64::MAX;
        for segment in segments.iter().rev() {
            let path = log_path(&self.dir, segment.header.number);
            let file = self.disk.open(&path)?;
            file.sync_data()?;
            let mut last = None;
            let mut scanner = Scanner::new(&*file, segment.header.salt, START, segment.end, 1 << 20);
            while let Some(found) = scanner.next()? {
                match found {
                    Found::Record { header, .. } if header.sequence < void => last = Some(header.sequence),
                    Found::Record { .. } => break,
                    Found::Damage { offset, octets, why } => {
                        dropped.push(Dropped { file: path.display().to_string(), offset, octets, why });
                        if queue_first <= last.map_or(segment.header.first_sequence, |last| last + 1) {
                            break;
                        }
                    }
                }
            }
            if let Some(last) = last {
                return Ok(last);
            }
            void = void.min(segment.header.first_sequence);
        }
        // Whatever came before the oldest file kept was complete once.
        Ok(if void == u64::MAX { 0 } else { void.saturating_sub(1) })
    }
}
