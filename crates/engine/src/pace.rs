//! How much may come back at one time?
//!
//! Anybody can send to a return path, so reading is paced: for all together, that the mail that leaves has the machine for itself; and
//! for each address, that a flood at one of them does not use up what is for all.

use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all together, going on.
    pub per_second: u32,
    /// Of one address at once: a message has many recipients, and each of them may come back on its own.
    pub of_one_at_once: u32,
    /// Of one address, going on.
    pub of_one_per_hour: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { per_second: 200, of_one_at_once: 1_000, of_one_per_hour: 1_000 }
    }
}

/// Of all together, so many seconds' worth may come at once.
const BURST_S: u32 = 10;
/// Addresses counted at one time; beyond them, those that have been quiet longest are forgotten.
const ADDRESSES_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TooMuch {
    Altogether,
    ForOne,
}

impl TooMuch {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            TooMuch::Altogether => "reports_per_second",
            TooMuch::ForOne => "reports_of_one",
        }
    }
}

#[derive(Debug)]
pub struct Pace {
    limits: Limits,
    all: Bucket,
    each: BTreeMap<u128, Bucket>,
}

impl Pace {
    #[must_use]
    pub fn new(limits: Limits, now: Timestamp) -> Pace {
        Pace { limits, all: Bucket::full(limits.per_second.saturating_mul(BURST_S), now), each: BTreeMap::new() }
    }

    /// Whether one more for this address may be read now.
    pub fn take(&mut self, address: u128, now: Timestamp) -> Result<(), TooMuch> {
        let Limits { per_second, of_one_at_once, of_one_per_hour } = self.limits;
        if self.each.len() >= ADDRESSES_MAX && !self.each.contains_key(&address) {
            self.forget(now);
        }
        let one = self.each.entry(address).or_insert_with(|| Bucket::full(of_one_at_once, now));
        one.fill(of_one_at_once, f64::from(of_one_per_hour) / 3_600.0, now);
        if one.left < 1.0 {
            return Err(TooMuch::ForOne);
        }
        self.all.fill(per_second.saturating_mul(BURST_S), f64::from(per_second), now);
        if self.all.left < 1.0 {
            return Err(TooMuch::Altogether);
        }
        one.left -= 1.0;
        self.all.left -= 1.0;
        Ok(())
    }

    /// Those that are full again are as good as new; where none is, the quietest half goes.
    fn forget(&mut self, now: Timestamp) {
        let per_second = f64::from(self.limits.of_one_per_hour) / 3_600.0;
        let full = f64::from(self.limits.of_one_at_once);
        self.each.retain(|_, one| one.left + now.since(one.at).as_secs_f64() * per_second < full);
        if self.each.len() >= ADDRESSES_MAX {
            let mut times: Vec<Timestamp> = self.each.values().map(|one| one.at).collect();
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            let median = *median;
            self.each.retain(|_, one| one.at > median);
        }
    }
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Timestamp,
}

impl Bucket {
    fn full(size: u32, now: Timestamp) -> Bucket {
        Bucket { left: f64::from(size), at: now }
    }

    fn fill(&mut self, size: u32, per_second: f64, now: Timestamp) {
        let since: Duration = now.since(self.at);
        self.left = (self.left + since.as_secs_f64() * per_second).min(f64::from(size));
        self.at = now.max(self.at);
    }
}

#[cfg(test)]
mod tests {
    use super::{ADDRESSES_MAX, Limits, Pace, TooMuch};
    use crate::time::Timestamp;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    // F3: a flood at one address is its own affair.
    #[test]
    fn one_address_does_not_use_up_what_is_for_all() {
        let mut pace = Pace::new(Limits { per_second: 100, of_one_at_once: 10, of_one_per_hour: 60 }, NOW);
        let taken = (0..100_000).filter(|_| pace.take(1, NOW).is_ok()).count();
        assert_eq!(taken, 10);
        assert_eq!(pace.take(1, NOW), Err(TooMuch::ForOne));
        assert!(pace.take(2, NOW).is_ok());
        assert!(pace.take(1, NOW + Duration::from_secs(60)).is_ok(), "it goes on slowly");
        assert!(pace.take(1, NOW + Duration::from_secs(61)).is_err());
    }

    #[test]
    fn all_together_are_paced_and_counted_in_bounded_memory() {
        let mut pace = Pace::new(Limits { per_second: 100, ..Limits::default() }, NOW);
        let taken = (0..5_000).filter(|address| pace.take(*address, NOW).is_ok()).count();
        assert_eq!(taken, 1_000);
        assert_eq!(pace.take(9_999, NOW), Err(TooMuch::Altogether));
        let taken = (0..5_000).filter(|address| pace.take(*address, NOW + Duration::from_secs(1)).is_ok()).count();
        assert_eq!(taken, 100);
        for address in 0..3 * ADDRESSES_MAX as u128 {
            let _ = pace.take(address, NOW + Duration::from_secs(2));
        }
        assert!(pace.each.len() <= ADDRESSES_MAX);
    }
}
