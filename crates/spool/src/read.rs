//! How is a message read back while the writer goes on?

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::Key;
use crate::book::Book;
use crate::disk::{Disk, DiskFile};
use crate::fault::{Health, ReadFault};
use crate::index::Place;
use crate::record::{HEADER_BYTES, Header};
use crate::segment::{Sidecar, log_path};

/// A message as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub head: Vec<u8>,
    /// The latest `update`; empty when there was none.
    pub state: Vec<u8>,
    pub body: Bytes,
}

/// A message that was live when the spool was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveMessage {
    pub key: Key,
    pub head: Vec<u8>,
    pub state: Vec<u8>,
}

/// What the writer and its readers have in common.
pub(crate) struct Shelf {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    book: Mutex<Book>,
    files: Mutex<VecDeque<(u32, Arc<dyn DiskFile>)>>,
    files_open_max: usize,
    health: Mutex<Health>,
    pub counts: Counts,
}

#[derive(Default)]
pub(crate) struct Counts {
    pub syncs: AtomicU64,
    pub puts: AtomicU64,
    pub bytes_written: AtomicU64,
    pub bytes_carried: AtomicU64,
    pub records_held: AtomicU64,
    pub events_lost: AtomicU64,
    pub states_lost: AtomicU64,
    pub records_unreadable: AtomicU64,
}

impl Counts {
    pub fn add(count: &AtomicU64, more: u64) {
        count.fetch_add(more, Ordering::Relaxed);
    }

    pub fn set(count: &AtomicU64, value: u64) {
        count.store(value, Ordering::Relaxed);
    }

    pub fn read(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    MayBlock,
    OnlyCached,
}

impl Shelf {
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, book: Book, files_open_max: usize) -> Shelf {
        let (files, health, counts) = (Mutex::default(), Mutex::new(Health::Accepting), Counts::default());
        Shelf { disk, dir, book: Mutex::new(book), files, files_open_max, health, counts }
    }

    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_health(&self, health: Health) {
        *self.health.lock().unwrap_or_else(PoisonError::into_inner) = health;
    }

    pub fn read(&self, key: Key, patience: Patience) -> Result<Stored, ReadFault> {
        loop {
            let (message, state, held) = self.places(key)?;
            let outcome = self.read_message(key, message, patience).and_then(|mut stored| {
                if let Some(held) = held {
                    stored.state = held;
                } else if state.segment != 0 {
                    stored.state = self.read_state(key, state, patience)?;
                }
                Ok(stored)
            });
            match outcome {
                // Carried forward or removed between the look into the index and the look onto the disk.
                Err(ReadFault::Disk { cause, .. })
                    if cause.kind() == io::ErrorKind::NotFound
                        && self.places(key).is_ok_and(|now| (now.0, now.1) == (message, state)) =>
                {
                    return Err(ReadFault::Disk { key, cause });
                }
                Err(ReadFault::Disk { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {}
                outcome => return outcome,
            }
        }
    }

    /// The newest state, wherever it is.
    pub fn read_newest_state(&self, key: Key, with_message: Vec<u8>) -> Result<Vec<u8>, ReadFault> {
        let (_, state, held) = self.places(key)?;
        match held {
            Some(held) => Ok(held),
            None if state.segment == 0 => Ok(with_message),
            None => self.read_state(key, state, Patience::MayBlock),
        }
    }

    pub fn keep_open(&self, number: u32, file: Arc<dyn DiskFile>) {
        let mut files = self.files();
        while files.len() >= self.files_open_max.max(1) {
            files.pop_front();
        }
        files.push_back((number, file));
    }

    pub fn close_file(&self, number: u32) {
        self.files().retain(|(open, _)| *open != number);
    }

    /// A whole record with its checksums verified, and where its parts are.
    pub fn read_record(&self, key: Key, place: Place, patience: Patience) -> Result<(Header, Vec<u8>), ReadFault> {
        let disk_fault = |cause| ReadFault::Disk { key, cause };
        let salt = self.book().segments.get(&place.segment).map(|segment| segment.header.salt);
        let salt = salt.ok_or_else(|| disk_fault(io::ErrorKind::NotFound.into()))?;
        let file = self.file(place.segment, patience).map_err(disk_fault)?;
        let mut octets = vec![0; place.len as usize];
        let offset = u64::from(place.offset);
        let read = match patience {
            Patience::MayBlock => file.read_at(&mut octets, offset),
            Patience::OnlyCached => file.read_at_if_cached(&mut octets, offset),
        };
        match read {
            // The file ends before the record does: as bad as a wrong checksum, and no passing trouble.
            Err(cause) if cause.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged(key, place));
            }
            read => read.map_err(disk_fault)?,
        }
        let header = Header::parse(&octets, salt, offset);
        header
            .filter(|header| header.key == key && header.parts(&octets[HEADER_BYTES..]).is_some())
            .map(|header| (header, octets))
            .ok_or_else(|| self.damaged(key, place))
    }

    fn places(&self, key: Key) -> Result<(Place, Place, Option<Vec<u8>>), ReadFault> {
        let book = self.book();
        let entry = book.index.get(key).ok_or(ReadFault::Unknown(key))?;
        let held = if book.held_states.is_empty() { None } else { book.held_states.get(&key).cloned() };
        Ok((entry.message, entry.state, held))
    }

    fn read_message(&self, key: Key, place: Place, patience: Patience) -> Result<Stored, ReadFault> {
        let (header, octets) = self.read_record(key, place, patience)?;
        let head_end = HEADER_BYTES + header.head_len as usize;
        let state_end = head_end + header.state_len as usize;
        let body_end = state_end + header.body_len as usize;
        let (head, state) = (octets[HEADER_BYTES..head_end].to_vec(), octets[head_end..state_end].to_vec());
        Ok(Stored { head, state, body: Bytes::from(octets).slice(state_end..body_end) })
    }

    fn read_state(&self, key: Key, place: Place, patience: Patience) -> Result<Vec<u8>, ReadFault> {
        let (header, octets) = self.read_record(key, place, patience)?;
        Ok(octets[HEADER_BYTES..HEADER_BYTES + header.state_len as usize].to_vec())
    }

    fn damaged(&self, key: Key, place: Place) -> ReadFault {
        let file = log_path(&self.dir, place.segment).display().to_string();
        ReadFault::Damaged { key, file, offset: u64::from(place.offset) }
    }

    fn file(&self, number: u32, patience: Patience) -> io::Result<Arc<dyn DiskFile>> {
        if let Some((_, file)) = self.files().iter().rev().find(|(open, _)| *open == number) {
            return Ok(file.clone());
        }
        if patience == Patience::OnlyCached {
            // Looking a name up may wait for the disk.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let file = self.disk.open(&log_path(&self.dir, number))?;
        self.keep_open(number, file.clone());
        Ok(file)
    }

    fn files(&self) -> MutexGuard<'_, VecDeque<(u32, Arc<dyn DiskFile>)>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages that were live when the spool was opened, in the order in which they were first put. Holds a key per
/// message and one summary at a time; what was removed since is passed over.
pub struct Live {
    shelf: Arc<Shelf>,
    rest: std::vec::IntoIter<(u64, Key)>,
    summary: Option<Summary>,
}

/// Of the segment read last, and where in it the record at an offset of the segment is.
struct Summary {
    segment: u32,
    sidecar: Sidecar,
    places: Vec<(u32, u32)>,
}

impl Summary {
    /// Empty where there is none: its messages are then read from the segment itself.
    fn read(shelf: &Shelf, segment: u32) -> Summary {
        let sidecar =
            Sidecar::read(&*shelf.disk, &shelf.dir, segment).map_or_else(Sidecar::new, |(_, _, sidecar)| sidecar);
        let mut places = Vec::new();
        let mut entries = sidecar.entries();
        loop {
            let at = entries.at();
            let Some(entry) = entries.next() else { break };
            places.push((entry.offset, at));
        }
        Summary { segment, sidecar, places }
    }

    fn find(&self, key: Key, place: Place) -> Option<(Vec<u8>, Vec<u8>)> {
        let found = self.places.binary_search_by_key(&place.offset, |(offset, _)| *offset).ok()?;
        let entry = self.sidecar.entry_at(self.places[found].1).filter(|entry| entry.header.key == key)?;
        Some((entry.head.to_vec(), entry.state.to_vec()))
    }
}

impl Live {
    pub(crate) fn new(shelf: Arc<Shelf>, order: Vec<(u64, Key)>) -> Live {
        Live { shelf, rest: order.into_iter(), summary: None }
    }

    fn head_and_state(&mut self, key: Key, place: Place) -> Result<(Vec<u8>, Vec<u8>), ReadFault> {
        // Messages lie in the order they were put, but for those carried forward: only a step to a younger segment is
        // worth the reading of its summary.
        if self.summary.as_ref().is_none_or(|summary| summary.segment < place.segment) {
            self.summary = Some(Summary::read(&self.shelf, place.segment));
        }
        let here = self.summary.as_ref().filter(|summary| summary.segment == place.segment);
        if let Some(found) = here.and_then(|summary| summary.find(key, place)) {
            return Ok(found);
        }
        let stored = self.shelf.read_message(key, place, Patience::MayBlock)?;
        Ok((stored.head, stored.state))
    }
}

impl Iterator for Live {
    type Item = Result<LiveMessage, ReadFault>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (_, key) = self.rest.next()?;
            let Ok((place, ..)) = self.shelf.places(key) else {
                continue;
            };
            let read = self.head_and_state(key, place).and_then(|(head, state)| {
                let state = self.shelf.read_newest_state(key, state)?;
                Ok(LiveMessage { key, head, state })
            });
            return Some(match read {
                // Carried forward in this moment: once more, where it is now.
                Err(ReadFault::Disk { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                    match self.shelf.read(key, Patience::MayBlock) {
                        Err(ReadFault::Unknown(_)) => continue,
                        read => read.map(|stored| LiveMessage { key, head: stored.head, state: stored.state }),
                    }
                }
                Err(ReadFault::Unknown(_)) => continue,
                read => read,
            });
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.rest.len()))
    }
}
