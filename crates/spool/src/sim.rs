//! What if the power is cut right here, or this very write fails?
//!
//! A disk in memory, for tests (of this crate and of the rooms above). It keeps apart what was written and what was
//! synced, for octets and for names; any operation can be made to fail, and the power can be cut at any operation.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, Lock};

/// What a power cut leaves of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    Lost,
    Kept,
    /// Each sector of 512 octets and each name for itself, by chance.
    Torn {
        seed: u64,
    },
}

/// Which operation goes wrong. Reads count too, so that a plan names one moment of a script.
#[derive(Clone, Copy, Debug)]
pub enum Plan {
    /// The n-th changing operation from now fails once with this error number.
    FailOnce { nth: u64, errno: i32 },
    /// All changing operations from the n-th on fail, until the plan is changed.
    FailFrom { nth: u64, errno: i32 },
    /// The power goes at the n-th changing operation: from then on nothing works.
    PowerCut { nth: u64 },
}

#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: Vec<Contents>,
    names: BTreeMap<PathBuf, usize>,
    names_synced: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    locks: BTreeSet<PathBuf>,
    plan: Option<Plan>,
    changes: u64,
    plan_since: u64,
    off: bool,
    /// Handles from before a power cut are dead.
    epoch: u64,
    capacity: Option<u64>,
}

#[derive(Default)]
struct Contents {
    now: Vec<u8>,
    synced: Vec<u8>,
    changes: Vec<Change>,
    allocated: u64,
}

enum Change {
    Write { offset: u64, octets: Vec<u8> },
    SetLen(u64),
}

enum NameChange {
    Add(PathBuf, usize),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
}

impl SimDisk {
    pub fn new() -> SimDisk {
        SimDisk::default()
    }

    pub fn plan(&self, plan: Option<Plan>) {
        let mut state = self.state();
        state.plan_since = state.changes;
        state.plan = plan;
    }

    /// Changing operations so far.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    pub fn set_capacity(&self, octets: Option<u64>) {
        self.state().capacity = octets;
    }

    pub fn used_bytes(&self) -> u64 {
        self.state().used()
    }

    /// The power goes now (if a plan has not cut it already) and comes back.
    pub fn power_cycle(&self, unsynced: Unsynced) {
        let mut state = self.state();
        let mut dice = match unsynced {
            Unsynced::Torn { seed } => seed | 1,
            _ => 1,
        };
        let mut keeps = |_: &()| match unsynced {
            Unsynced::Lost => false,
            Unsynced::Kept => true,
            Unsynced::Torn { .. } => next_dice(&mut dice) & 1 == 1,
        };
        for file in &mut state.files {
            for change in std::mem::take(&mut file.changes) {
                match change {
                    Change::Write { offset, octets } => {
                        for (i, sector) in octets.chunks(512).enumerate() {
                            if keeps(&()) {
                                write_into(&mut file.synced, offset + 512 * i as u64, sector);
                            }
                        }
                    }
                    Change::SetLen(len) => {
                        if keeps(&()) {
                            file.synced.resize(len as usize, 0);
                        }
                    }
                }
            }
            file.now = file.synced.clone();
            file.allocated = file.now.len() as u64;
        }
        let changes = std::mem::take(&mut state.name_changes);
        for change in changes {
            if keeps(&()) {
                apply_name(&mut state.names_synced, &change);
            }
        }
        state.names = state.names_synced.clone();
        for number in 0..state.files.len() {
            if !state.names.values().any(|named| *named == number) {
                state.files[number] = Contents::default();
            }
        }
        state.restart();
        state.epoch += 1;
    }

    /// The process is killed: what was written is still there, locks are not.
    pub fn kill(&self) {
        let mut state = self.state();
        state.restart();
        state.epoch += 1;
    }

    /// Changes a file behind the spool's back, as a failing disk or a careless hand would.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let Some(number) = state.names.get(path).copied() else {
            return;
        };
        let file = &mut state.files[number];
        change(&mut file.now);
        file.synced = file.now.clone();
        file.changes.clear();
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        self.state().names.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn restart(&mut self) {
        self.locks.clear();
        self.plan = None;
        self.off = false;
    }

    fn used(&self) -> u64 {
        let mut numbers: Vec<usize> = self.names.values().copied().collect();
        numbers.dedup();
        numbers.iter().map(|&n| self.files[n].allocated).sum()
    }

    /// Counts a changing operation and lets the plan have its say.
    fn change(&mut self) -> io::Result<()> {
        self.alive()?;
        self.changes += 1;
        let nth_now = self.changes - self.plan_since;
        match self.plan {
            Some(Plan::FailOnce { nth, errno }) if nth_now == nth => Err(io::Error::from_raw_os_error(errno)),
            Some(Plan::FailFrom { nth, errno }) if nth_now >= nth => Err(io::Error::from_raw_os_error(errno)),
            Some(Plan::PowerCut { nth }) if nth_now >= nth => {
                self.off = true;
                self.alive()
            }
            _ => Ok(()),
        }
    }

    fn alive(&self) -> io::Result<()> {
        if self.off { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn grow(&mut self, number: usize, len: u64) -> io::Result<()> {
        let more = len.saturating_sub(self.files[number].allocated);
        if self.capacity.is_some_and(|capacity| more > 0 && self.used() + more > capacity) {
            return Err(io::Error::from_raw_os_error(28));
        }
        self.files[number].allocated += more;
        Ok(())
    }
}

impl Disk for SimDisk {
    fn make_dir(&self, _: &Path) -> io::Result<()> {
        self.state().alive()
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.change()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.push(Contents::default());
        let number = state.files.len() - 1;
        state.names.insert(path.to_owned(), number);
        state.name_changes.push(NameChange::Add(path.to_owned(), number));
        Ok(Arc::new(SimFile { disk: self.clone(), number, epoch: state.epoch }))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let state = self.state();
        state.alive()?;
        let number = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), number, epoch: state.epoch }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        apply_name(&mut state.names, &change);
        state.name_changes.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.name_changes.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.alive()?;
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        // Names that could not be synced stay to be synced: a file system that loses a change of its own structures
        // stops altogether, unlike one that loses octets of a file.
        state.change()?;
        let (here, elsewhere): (Vec<NameChange>, _) =
            std::mem::take(&mut state.name_changes).into_iter().partition(|change| {
                let (NameChange::Add(path, _) | NameChange::Remove(path) | NameChange::Rename(path, _)) = change;
                path.parent() == Some(dir)
            });
        state.name_changes = elsewhere;
        for change in &here {
            apply_name(&mut state.names_synced, change);
        }
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let state = self.state();
        state.alive()?;
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Lock>> {
        let mut state = self.state();
        state.alive()?;
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), epoch: state.epoch })))
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    epoch: u64,
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.epoch == self.epoch {
            state.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    number: usize,
    epoch: u64,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        state.alive()?;
        if state.epoch == self.epoch { Ok(state) } else { Err(io::Error::from_raw_os_error(5)) }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.files[self.number].now.len() as u64)
    }

    fn read_at(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.state()?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let octets = state.files[self.number].now.get(start..).and_then(|rest| rest.get(..into.len()));
        into.copy_from_slice(octets.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn read_at_if_cached(&self, into: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_at(into, offset)
    }

    fn write_at(&self, octets: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let mut outcome = state.change();
        let mut octets = octets;
        if outcome.is_ok() {
            outcome = state.grow(self.number, offset + octets.len() as u64);
        }
        if outcome.is_err() {
            // A failed write may leave a part behind, and so does a power cut.
            octets = &octets[..octets.len() / 2];
            octets = if state.grow(self.number, offset + octets.len() as u64).is_ok() { octets } else { &[] };
        }
        let file = &mut state.files[self.number];
        write_into(&mut file.now, offset, octets);
        file.changes.push(Change::Write { offset, octets: octets.to_vec() });
        outcome
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let outcome = state.change();
        state.alive()?;
        let file = &mut state.files[self.number];
        // As Linux does: after a failed sync the pages count as clean. They can be read, a second sync says yes, and
        // they never reach the disk.
        let changes = std::mem::take(&mut file.changes);
        outcome?;
        for change in changes {
            match change {
                Change::Write { offset, octets } => write_into(&mut file.synced, offset, &octets),
                Change::SetLen(len) => file.synced.resize(len as usize, 0),
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        let file = &mut state.files[self.number];
        file.now.resize(len as usize, 0);
        file.allocated = len;
        file.changes.push(Change::SetLen(len));
        Ok(())
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let mut state = self.state()?;
        state.change()?;
        state.grow(self.number, len)?;
        let file = &mut state.files[self.number];
        if (file.now.len() as u64) < len {
            file.now.resize(len as usize, 0);
            file.changes.push(Change::SetLen(len));
        }
        Ok(())
    }
}

fn apply_name(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    match change {
        NameChange::Add(path, number) => {
            names.insert(path.clone(), *number);
        }
        NameChange::Remove(path) => {
            names.remove(path);
        }
        NameChange::Rename(from, to) => {
            if let Some(number) = names.remove(from) {
                names.insert(to.clone(), number);
            }
        }
    }
}

fn write_into(file: &mut Vec<u8>, offset: u64, octets: &[u8]) {
    let start = offset as usize;
    if octets.is_empty() {
        return;
    }
    if file.len() < start + octets.len() {
        file.resize(start + octets.len(), 0);
    }
    file[start..start + octets.len()].copy_from_slice(octets);
}

fn next_dice(state: &mut u64) -> u64 {
    // xorshift64: enough chance for a torn write, and the same on every machine.
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 11
}
