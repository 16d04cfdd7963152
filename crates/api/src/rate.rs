//! How often may one credential call? A bucket of tokens for each, as values: time is an argument.
//!
//! Submissions are not counted here: they have quotas of their own.

use engine::time::Timestamp;
use std::collections::HashMap;
use std::time::Duration;

/// Calls a second that a credential may go on with: one that runs wild leaves most of a small machine to the others.
const CALLS_PER_SECOND: u32 = 1_000;
/// Calls it may make at once after a quiet time, in seconds of that.
const BURST_S: u32 = 10;
/// Credentials remembered at one time; one whose bucket is full again is forgotten without harm.
const BUCKETS_MAX: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub burst: u32,
    pub per_second: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::per_second(CALLS_PER_SECOND)
    }
}

impl Limits {
    #[must_use]
    pub fn per_second(calls: u32) -> Limits {
        Limits { burst: calls.saturating_mul(BURST_S), per_second: calls }
    }
}

/// What is left, for the headers of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub calls: u32,
    /// Until the bucket is full again.
    pub full_in: Duration,
}

/// Not before then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait(pub Duration);

pub struct Buckets {
    limits: Limits,
    buckets: HashMap<String, Bucket>,
}

/// A bucket is kept as the time at which it is full: it needs no clock of its own to fill.
struct Bucket {
    full_at: Timestamp,
}

impl Buckets {
    #[must_use]
    pub fn new(limits: Limits) -> Buckets {
        let limits = Limits { burst: limits.burst.max(1), per_second: limits.per_second.max(1) };
        Buckets { limits, buckets: HashMap::new() }
    }

    #[must_use]
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// How long it takes until an empty bucket is full.
    #[must_use]
    pub fn window(&self) -> Duration {
        self.one() * self.limits.burst
    }

    pub fn take(&mut self, who: &str, now: Timestamp) -> Result<Left, Wait> {
        let (one, window) = (self.one(), self.window());
        if self.buckets.len() >= BUCKETS_MAX && !self.buckets.contains_key(who) {
            self.forget(now);
        }
        let bucket = self.buckets.entry(who.to_owned()).or_insert(Bucket { full_at: now });
        let full_at = bucket.full_at.max(now) + one;
        let missing = full_at.since(now);
        if missing > window {
            return Err(Wait(missing - window));
        }
        bucket.full_at = full_at;
        let calls = (window - missing).as_micros() / one.as_micros();
        Ok(Left { calls: u32::try_from(calls).unwrap_or(u32::MAX), full_in: missing })
    }

    fn one(&self) -> Duration {
        Duration::from_secs(1) / self.limits.per_second
    }

    /// Full ones first; where all are in use, the whole is begun anew rather than that it grows without end.
    fn forget(&mut self, now: Timestamp) {
        self.buckets.retain(|_, bucket| bucket.full_at > now);
        if self.buckets.len() >= BUCKETS_MAX {
            self.buckets.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{BUCKETS_MAX, Buckets, Limits};
    use engine::time::Timestamp;
    use std::time::Duration;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_000) + Duration::from_millis(ms)
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let mut buckets = Buckets::new(Limits { burst: 3, per_second: 2 });
        let left: Vec<u32> = (0..3).map(|_| buckets.take("a", at(0)).unwrap().calls).collect();
        assert_eq!(left, [2, 1, 0]);
        assert_eq!(buckets.take("a", at(0)).unwrap_err().0, Duration::from_millis(500));
        // What was refused costs nothing.
        assert_eq!(buckets.take("a", at(499)).unwrap_err().0, Duration::from_millis(1));
        assert_eq!(buckets.take("a", at(500)).unwrap().calls, 0);
        assert_eq!(buckets.take("b", at(500)).unwrap().calls, 2);
        let rested = buckets.take("a", at(60_000)).unwrap();
        assert_eq!((rested.calls, rested.full_in), (2, Duration::from_millis(500)));
    }

    #[test]
    fn many_credentials_do_not_fill_the_memory() {
        let mut buckets = Buckets::new(Limits { burst: 3, per_second: 2 });
        for who in 0..=BUCKETS_MAX {
            buckets.take(&who.to_string(), at(0)).unwrap();
        }
        assert!(buckets.buckets.len() <= BUCKETS_MAX);
        buckets.take("late", at(60_000)).unwrap();
        assert!(buckets.buckets.len() <= BUCKETS_MAX);
    }
}
