//! When do we try again, and when do we stop?

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The waits between tries. Data of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrySchedule {
    /// After the first refusal, the second, and so on; the last one repeats. Never empty (see `Snapshot::check`).
    pub steps: Vec<Duration>,
    /// Between two probes of a site that cannot be connected to; the last one repeats. Never empty.
    pub connect_steps: Vec<Duration>,
    pub greylist_first: Duration,
    pub greylist_then: Duration,
    /// RFC 5321 4.5.3.2.6: the remote may take ten minutes to answer the dot, so it must not be asked again before.
    pub outcome_unknown_min: Duration,
    /// The waits vary by this share in both directions, so that a provider's bad minute is not answered by a wave.
    pub jitter_percent: u8,
}

impl Default for RetrySchedule {
    fn default() -> RetrySchedule {
        let minutes = |list: &[u64]| list.iter().map(|minutes| Duration::from_secs(minutes * 60)).collect();
        RetrySchedule {
            steps: minutes(&[5, 15, 30, 60, 120, 240]),
            connect_steps: minutes(&[1, 5, 15, 30, 60]),
            greylist_first: Duration::from_secs(300),
            greylist_then: Duration::from_secs(900),
            outcome_unknown_min: Duration::from_secs(600),
            jitter_percent: 20,
        }
    }
}

impl RetrySchedule {
    /// The wait after the `attempts`-th attempt (counted from 1).
    #[must_use]
    pub fn after(&self, attempts: u16) -> Duration {
        step(&self.steps, attempts)
    }

    #[must_use]
    pub fn after_connect_failures(&self, failures: u16) -> Duration {
        step(&self.connect_steps, failures)
    }

    #[must_use]
    pub fn after_greylisting(&self, attempts: u16) -> Duration {
        match attempts {
            0 | 1 => self.greylist_first,
            2 => self.greylist_then,
            // A remote that still says so is not greylisting.
            _ => self.after(attempts),
        }
    }

    /// `now + wait`, moved by the dice within the jitter.
    #[must_use]
    pub fn jittered(&self, now: Timestamp, wait: Duration, dice: u64) -> Timestamp {
        now + jitter(wait, self.jitter_percent, dice)
    }
}

fn step(steps: &[Duration], count: u16) -> Duration {
    let place = usize::from(count.saturating_sub(1)).min(steps.len().saturating_sub(1));
    steps.get(place).copied().unwrap_or(Duration::from_secs(300))
}

/// `wait` ± `percent`, evenly.
#[must_use]
pub fn jitter(wait: Duration, percent: u8, dice: u64) -> Duration {
    let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX / 512);
    let half = micros / 100 * u64::from(percent.min(100));
    if half == 0 {
        return wait;
    }
    Duration::from_micros(micros - half + dice % (2 * half + 1))
}

/// One draw: the same seed and what it is about always give the same number (Steele, Lea, Flood: SplitMix, 2014).
#[must_use]
pub fn draw(seed: u64, about: u64) -> u64 {
    let mut z = seed.wrapping_add(about.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_the_last_repeats() {
        let schedule = RetrySchedule::default();
        let minutes: Vec<u64> = (1..=8).map(|n| schedule.after(n).as_secs() / 60).collect();
        assert_eq!(minutes, [5, 15, 30, 60, 120, 240, 240, 240]); // R5.3
        assert_eq!(schedule.after(0), schedule.after(1));
        assert_eq!(schedule.after_connect_failures(1).as_secs(), 60);
        assert_eq!(schedule.after_greylisting(1).as_secs(), 300);
        assert_eq!(schedule.after_greylisting(2).as_secs(), 900);
        assert_eq!(schedule.after_greylisting(3).as_secs(), 1800);
    }

    #[test]
    fn jitter_stays_within_its_share_and_repeats_for_a_seed() {
        let wait = Duration::from_secs(1000);
        let (mut low, mut high) = (u64::MAX, 0);
        for about in 0..2000 {
            let varied = jitter(wait, 20, draw(7, about)).as_secs();
            low = low.min(varied);
            high = high.max(varied);
        }
        assert!((800..820).contains(&low) && (1180..=1200).contains(&high), "{low} {high}");
        assert_eq!(draw(7, 3), draw(7, 3));
        assert_ne!(draw(7, 3), draw(8, 3));
        assert_eq!(jitter(wait, 0, 99), wait);
    }
}
