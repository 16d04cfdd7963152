//! Who knocks too often, and what is remembered of those who failed?
//!
//! The decision is `engine::guard`'s; here it becomes words. Failures are kept in memory and written to the audit log by and by, so that
//! a sign-in takes no longer for who is known than for who is not.

use crate::password::Hashing;
use crate::refusal::{Kind, Refusal};
use engine::guard::{Guard, Knock, Limits, Wait};
use engine::tally::{Lines, Tally};
use engine::time::Timestamp;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) struct Door {
    pub hashing: Hashing,
    guard: Mutex<Guard>,
    failed: Mutex<Tally>,
}

impl Default for Door {
    fn default() -> Door {
        Door { hashing: Hashing::default(), guard: Mutex::new(Guard::new(Limits::default())), failed: Mutex::default() }
    }
}

impl Door {
    pub fn knock(&self, from: Option<IpAddr>, name: &str, now: Timestamp) -> Result<Knock, Refusal> {
        self.guard().knock(from, Some(name), now).map_err(|wait| too_many_failures(wait, now))
    }

    pub fn let_in(&self, knock: Knock, now: Timestamp) {
        self.guard().let_in(knock, now);
    }

    pub fn withdraw(&self, knock: Knock) {
        self.guard().withdraw(knock);
    }

    /// The guard's own count stands already.
    pub fn note_failure(&self, person: Option<&str>, from: Option<IpAddr>, now: Timestamp) {
        lock(&self.failed).note(person, from, now);
    }

    /// What is to be written down now, and is remembered no longer.
    pub fn failed_so_far(&self, now: Timestamp) -> Lines {
        lock(&self.failed).due(now)
    }

    /// The same, however young, because the house closes.
    pub fn failed_at_last(&self) -> Lines {
        lock(&self.failed).all()
    }

    /// They could not be written down: they are told again.
    pub fn put_back(&self, lines: Lines) {
        lock(&self.failed).put_back(lines);
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        lock(&self.guard)
    }
}

/// Counts stay usable whatever happened to who held them.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_many_failures(wait: Wait, now: Timestamp) -> Refusal {
    Refusal::new(Kind::TooOften, "too_many_failures", wait.sentence(), wait.mend(now))
}
