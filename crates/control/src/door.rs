//! Who knocks too often, and what is remembered of those who failed?
//!
//! The decision is `engine::guard`'s; here it becomes words. Failures are kept in memory and written to the audit log by and by, one
//! line for each person and minute: a flood of guesses is no flood of writes, and takes no longer for who is known than for who is not.

use crate::password::Hashing;
use crate::refusal::{Kind, Refusal};
use engine::guard::{Guard, Knock, Limits, Wait};
use engine::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much time one line of the audit log sums up.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// Who fails beyond that is counted with those who are not known.
const PEOPLE_MAX: usize = 1_000;
/// So many addresses a line names.
const ADDRESSES_MAX: usize = 5;

pub(crate) struct Door {
    pub hashing: Hashing,
    guard: Mutex<Guard>,
    failed: Mutex<BTreeMap<Option<String>, Failed>>,
}

impl Default for Door {
    fn default() -> Door {
        Door { hashing: Hashing::default(), guard: Mutex::new(Guard::new(Limits::default())), failed: Mutex::default() }
    }
}

/// Failed sign-ins of one person, or of all whom nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failed {
    pub times: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub from: BTreeSet<IpAddr>,
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
        let mut all = lock(&self.failed);
        let key = person.map(str::to_owned).filter(|id| all.len() < PEOPLE_MAX || all.contains_key(&Some(id.clone())));
        let fresh = Failed { times: 0, first_at: now, last_at: now, from: BTreeSet::new() };
        let failed = all.entry(key).or_insert(fresh);
        failed.times = failed.times.saturating_add(1);
        failed.last_at = now;
        if failed.from.len() < ADDRESSES_MAX {
            failed.from.extend(from);
        }
    }

    /// What is to be written down now, and is remembered no longer.
    pub fn failed_so_far(&self, now: Timestamp) -> Vec<(Option<String>, Failed)> {
        lock(&self.failed).extract_if(.., |_, failed| now.since(failed.first_at) >= LINE_EVERY).collect()
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

#[cfg(test)]
mod tests {
    use super::{ADDRESSES_MAX, Door, PEOPLE_MAX};
    use engine::time::Timestamp;
    use std::time::Duration;

    // G5: a flood makes one line a person and minute, and a bounded one.
    #[test]
    fn failures_are_summed_up_and_bounded() {
        let (door, start) = (Door::default(), Timestamp(1_000_000));
        for at in 0..100u8 {
            door.note_failure(Some("ann"), Some([192, 0, 2, at].into()), start + Duration::from_millis(at.into()));
        }
        assert_eq!(door.failed_so_far(start + Duration::from_secs(59)), []);
        let due = door.failed_so_far(start + Duration::from_secs(60));
        assert_eq!((due.len(), due[0].1.times, due[0].1.from.len()), (1, 100, ADDRESSES_MAX));
        assert_eq!(door.failed_so_far(start + Duration::from_secs(600)), []);
        for at in 0..2 * PEOPLE_MAX {
            door.note_failure(Some(&format!("p{at}")), None, start);
        }
        let due = door.failed_so_far(start + Duration::from_secs(60));
        assert_eq!(due.len(), PEOPLE_MAX + 1);
        assert_eq!(due.iter().map(|(_, failed)| failed.times).sum::<u32>(), 2 * PEOPLE_MAX as u32);
        assert_eq!(due[0].0, None, "whoever was too many is counted with the unknown");
    }
}
