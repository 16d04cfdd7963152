//! Who failed to sign in, how often and from where, summed up for lines of the audit log?
//!
//! One line for each name and minute: a flood of guesses is no flood of writes.

use crate::time::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// How much time one line sums up.
const LINE_EVERY: Duration = Duration::from_secs(60);
/// Who fails beyond that is counted with those who are not known.
const NAMES_MAX: usize = 1_000;
/// So many addresses a line names.
const ADDRESSES_MAX: usize = 5;

/// Failed sign-ins of one name, or of all whom nobody knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub times: u32,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub from: BTreeSet<IpAddr>,
}

impl Failed {
    /// Both as one.
    pub fn join(&mut self, other: Failed) {
        self.times = self.times.saturating_add(other.times);
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        let free = ADDRESSES_MAX.saturating_sub(self.from.len());
        self.from.extend(other.from.into_iter().take(free));
    }
}

/// What becomes lines of the audit log, by name.
pub type Lines = Vec<(Option<String>, Failed)>;

/// By name; `None` is whoever nobody knows.
#[derive(Debug, Default)]
pub struct Tally(BTreeMap<Option<String>, Failed>);

impl Tally {
    pub fn note(&mut self, name: Option<&str>, from: Option<IpAddr>, now: Timestamp) {
        let failed = Failed { times: 1, first_at: now, last_at: now, from: from.into_iter().collect() };
        self.add(name.map(str::to_owned), failed);
    }

    /// What is to be written down now, and is remembered no longer.
    pub fn due(&mut self, now: Timestamp) -> Lines {
        self.0.extract_if(.., |_, failed| now.since(failed.first_at) >= LINE_EVERY).collect()
    }

    /// All of it, because the house closes.
    pub fn all(&mut self) -> Lines {
        std::mem::take(&mut self.0).into_iter().collect()
    }

    /// It could not be written down: it is due again.
    pub fn put_back(&mut self, lines: Lines) {
        lines.into_iter().for_each(|(name, failed)| self.add(name, failed));
    }

    fn add(&mut self, name: Option<String>, failed: Failed) {
        let all = &mut self.0;
        let key = name.filter(|name| all.len() < NAMES_MAX || all.contains_key(&Some(name.clone())));
        match all.get_mut(&key) {
            Some(before) => before.join(failed),
            None => drop(all.insert(key, failed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESSES_MAX, NAMES_MAX, Tally};
    use crate::time::Timestamp;
    use std::time::Duration;

    // G5: a flood makes one line a name and minute, and a bounded one.
    #[test]
    fn failures_are_summed_up_and_bounded() {
        let (mut tally, start) = (Tally::default(), Timestamp(1_000_000));
        for at in 0..100u8 {
            tally.note(Some("ann"), Some([192, 0, 2, at].into()), start + Duration::from_millis(at.into()));
        }
        assert_eq!(tally.due(start + Duration::from_secs(59)), []);
        let due = tally.due(start + Duration::from_secs(60));
        assert_eq!((due.len(), due[0].1.times, due[0].1.from.len()), (1, 100, ADDRESSES_MAX));
        assert_eq!(tally.due(start + Duration::from_secs(600)), []);
        for at in 0..2 * NAMES_MAX {
            tally.note(Some(&format!("p{at}")), None, start);
        }
        let due = tally.due(start + Duration::from_secs(60));
        assert_eq!(due.len(), NAMES_MAX + 1);
        assert_eq!(due.iter().map(|(_, failed)| failed.times).sum::<u32>(), 2 * NAMES_MAX as u32);
        assert_eq!(due[0].0, None, "whoever was too many is counted with the unknown");
    }

    #[test]
    fn what_could_not_be_written_is_due_again_with_what_came_since() {
        let (mut tally, start) = (Tally::default(), Timestamp(1_000_000));
        tally.note(Some("ann"), None, start);
        let due = tally.due(start + Duration::from_secs(60));
        tally.note(Some("ann"), None, start + Duration::from_secs(70));
        tally.put_back(due);
        let due = tally.due(start + Duration::from_secs(75));
        assert_eq!(due.iter().map(|(_, failed)| (failed.times, failed.first_at)).collect::<Vec<_>>(), [(2, start)]);
        tally.note(None, None, start + Duration::from_secs(80));
        assert_eq!(tally.all().len(), 1, "all of it at the end, however young");
        assert_eq!(tally.all(), []);
    }
}
