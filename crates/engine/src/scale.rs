//! How many IPs does a managed pool need? (R3.8, R6.5)
//!
//! Asked once a day. IPs come ahead of need, because a new one takes weeks to help, and go after long quiet, because an IP that is idle
//! cools. Every answer has its figures.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is looked at.
pub const DAYS_LOOKED_AT: usize = 28;
/// The first IP comes when so much was sent on so many of the last days.
const FIRST_PER_DAY: u64 = 300;
const FIRST_DAYS: usize = 3;
const FIRST_OF_DAYS: usize = 4;
/// The last one goes when less was sent on each of so many.
const LAST_PER_DAY: u64 = 100;
const LAST_DAYS: usize = 14;
/// More than what was needed, so that a peak is no surprise; in hundredths.
const HEADROOM: u64 = 130;
/// More IPs when they were too few on so many days, one after the other; at once when they are nearly used up.
const OUT_DAYS: usize = 3;
const OUT_AT_ONCE_PERCENT: u64 = 95;
/// And so many days go by before there are more again.
const OUT_AGAIN_DAYS: u32 = 7;
/// Fewer when so much of them would have been enough, in hundredths, on so many days.
const IN_PERCENT: u64 = 60;
const IN_DAYS: usize = 14;
/// A step is a quarter of what there is: a sender that multiplies its addresses looks like one that hides.
const STEP_PERCENT: u32 = 25;
/// An IP keeps its reputation at a provider by so much a day.
const UPKEEP_PER_DAY: u64 = 1_000;
/// A provider with less than this of the pool's mail, in hundredths, does not say how many IPs are too many.
const MAJOR_PERCENT: u64 = 10;

/// What was asked of a pool on one day, by provider.
pub type Day = BTreeMap<Arc<str>, u64>;

/// What its owner and the operator allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    pub ips_min: u32,
    pub ips_max: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    Keep,
    /// So many more.
    Add(u32),
    /// One less: it drains, rests and returns.
    Remove,
}

/// A decision, and the figures it was taken by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub decision: Decision,
    /// How many there are, and how many there should be.
    pub ips: u32,
    pub needed: u32,
    /// The provider that needs the most.
    pub provider: Option<Arc<str>>,
    /// What is asked of it on a busy day, and what an IP carries there.
    pub busy_day: u64,
    pub per_ip: u64,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Too little for an IP of its own.
    TooLittle,
    First,
    Enough,
    /// More would be needed, and there were more a short time ago: those warm up first.
    JustGrown,
    /// More would be needed; not for long enough yet.
    MaybeMore,
    More,
    /// Fewer would be enough; not for long enough yet.
    MaybeFewer,
    Fewer,
    Last,
    /// It is what the bounds allow.
    Bound,
}

impl Decided {
    /// A sentence without its full stop.
    #[must_use]
    pub fn words(&self) -> String {
        let Decided { ips, needed, busy_day, per_ip, .. } = self;
        let provider = self.provider.as_deref().unwrap_or("all providers");
        let figures = format!("{ips} there, {needed} needed for {busy_day} a day to {provider} at {per_ip} an IP");
        let what = match self.reason {
            Reason::TooLittle => "too little is sent for an IP of its own: 300 a day on three of four days bring one",
            Reason::First => "enough is sent for the first IP of its own",
            Reason::Enough => "the IPs are enough",
            Reason::JustGrown => "more IPs would be needed; those that came lately warm up first",
            Reason::MaybeMore => "more IPs would be needed; they come when it stays so",
            Reason::More => "more IPs are needed",
            Reason::MaybeFewer => "fewer IPs would be enough; one goes when it stays so",
            Reason::Fewer => "fewer IPs are enough",
            Reason::Last => {
                "less than 100 a day for two weeks: the last IP goes, and its mail leaves by the shared pool"
            }
            Reason::Bound => "more IPs would be needed; there are as many as are allowed",
        };
        format!("{what} ({figures})")
    }
}

/// What one IP carries to a provider when it is warm.
pub type Carries<'a> = &'a dyn Fn(&str) -> u64;

/// Asked at the end of a day. `days` are the last ones, oldest first; `since_grown` those since there were more IPs.
#[must_use]
pub fn decide(days: &[Day], ips: u32, since_grown: u32, bounds: Bounds, carries: Carries<'_>) -> Decided {
    let days = &days[days.len().saturating_sub(DAYS_LOOKED_AT)..];
    let totals: Vec<u64> = days.iter().map(|day| day.values().sum()).collect();
    let mut decided = needed(days, carries);
    decided.ips = ips;
    let clamp = |needed: u32| needed.clamp(bounds.ips_min, bounds.ips_max.max(bounds.ips_min));
    let wanted = clamp(decided.needed);
    let last = |count: usize| &totals[totals.len().saturating_sub(count)..];
    let (decision, reason) = if ips == 0 {
        let busy = last(FIRST_OF_DAYS).iter().filter(|total| **total >= FIRST_PER_DAY).count();
        match (busy >= FIRST_DAYS && bounds.ips_max > 0, bounds.ips_min) {
            (true, _) => (Decision::Add(1), Reason::First),
            (false, 0) => (Decision::Keep, Reason::TooLittle),
            (false, least) => (Decision::Add(least), Reason::First),
        }
    } else if ips <= bounds.ips_min.max(1) && bounds.ips_min == 0 && is_quiet(last(LAST_DAYS)) {
        (Decision::Remove, Reason::Last)
    } else if wanted > ips {
        let before = |back: usize| clamp(needed(&days[..days.len().saturating_sub(back)], carries).needed) > ips;
        let is_lasting = days.len() > OUT_DAYS && (1..OUT_DAYS).all(before);
        let is_full = decided.busy_day * 100 >= decided.per_ip * u64::from(ips) * OUT_AT_ONCE_PERCENT;
        let step = (ips * STEP_PERCENT / 100).max(1).min(wanted - ips);
        match (is_lasting, since_grown >= OUT_AGAIN_DAYS || is_full && since_grown >= OUT_DAYS as u32) {
            (true, true) => (Decision::Add(step), Reason::More),
            (true, false) => (Decision::Keep, Reason::JustGrown),
            (false, _) => (Decision::Keep, Reason::MaybeMore),
        }
    } else if decided.needed > ips {
        (Decision::Keep, Reason::Bound)
    } else if u64::from(wanted) * 100 < u64::from(ips) * IN_PERCENT {
        let before = |back: usize| {
            let then = clamp(needed(&days[..days.len().saturating_sub(back)], carries).needed);
            u64::from(then) * 100 < u64::from(ips) * IN_PERCENT
        };
        match days.len() > IN_DAYS && (1..IN_DAYS).all(before) {
            true => (Decision::Remove, Reason::Fewer),
            false => (Decision::Keep, Reason::MaybeFewer),
        }
    } else {
        (Decision::Keep, Reason::Enough)
    };
    (decided.decision, decided.reason) = (decision, reason);
    decided
}

fn is_quiet(totals: &[u64]) -> bool {
    totals.len() >= LAST_DAYS && totals.iter().all(|total| *total < LAST_PER_DAY)
}

/// How many IPs these days need: as many as the provider that needs the most, but no more than what keeps them known.
fn needed(days: &[Day], carries: Carries<'_>) -> Decided {
    let mut found = Decided {
        decision: Decision::Keep,
        ips: 0,
        needed: 0,
        provider: None,
        busy_day: 0,
        per_ip: 0,
        reason: Reason::Enough,
    };
    let total: u64 = days.iter().flat_map(BTreeMap::values).sum();
    let providers: std::collections::BTreeSet<&Arc<str>> = days.iter().flat_map(BTreeMap::keys).collect();
    let mut most = u64::MAX;
    for provider in providers {
        let mut volumes: Vec<u64> = days.iter().map(|day| day.get(provider).copied().unwrap_or(0)).collect();
        volumes.sort_unstable();
        // A busy day is one of twenty, a usual one in the middle.
        let busy_day = volumes[(volumes.len() - 1) * 95 / 100];
        let (usual, of_it) = (volumes[volumes.len() / 2], volumes.iter().sum::<u64>());
        let per_ip = carries(provider).max(1);
        let ips = u32::try_from((busy_day * HEADROOM / 100).div_ceil(per_ip)).unwrap_or(u32::MAX);
        if ips > found.needed || found.provider.is_none() {
            (found.needed, found.provider) = (ips, Some(Arc::clone(provider)));
            (found.busy_day, found.per_ip) = (busy_day, per_ip);
        }
        if of_it * 100 >= total * MAJOR_PERCENT {
            most = most.min((usual / UPKEEP_PER_DAY).max(1));
        }
    }
    found.needed = found.needed.min(u32::try_from(most).unwrap_or(u32::MAX));
    found
}

#[cfg(test)]
mod tests {
    use super::{Bounds, Day, Decided, Decision, Reason, decide};
    use std::sync::Arc;

    const FREE: Bounds = Bounds { ips_min: 0, ips_max: 20 };

    fn day(google: u64, microsoft: u64) -> Day {
        [("google", google), ("microsoft-consumer", microsoft)].map(|(name, count)| (Arc::from(name), count)).into()
    }

    fn decided(days: &[Day], ips: u32, since_grown: u32, bounds: Bounds) -> Decided {
        decide(days, ips, since_grown, bounds, &|provider| if provider == "google" { 500_000 } else { 200_000 })
    }

    // R3.8, R6.5: the first one when it is worth it, the last one goes after two quiet weeks.
    #[test]
    fn the_first_comes_with_the_volume_and_the_last_goes_after_it() {
        let mut days = vec![day(250, 40); 10];
        assert_eq!(decided(&days, 0, 100, FREE).reason, Reason::TooLittle);
        days.extend(vec![day(300, 40); 3]);
        assert_eq!(decided(&days, 0, 100, FREE).decision, Decision::Add(1));
        days.extend(vec![day(50, 0); 13]);
        assert_eq!(decided(&days, 1, 13, FREE).decision, Decision::Keep);
        days.push(day(50, 0));
        let last = decided(&days, 1, 14, FREE);
        assert_eq!((last.decision, last.reason), (Decision::Remove, Reason::Last));
        assert_eq!(decided(&days, 1, 14, Bounds { ips_min: 1, ..FREE }).decision, Decision::Keep);
    }

    // R6.5: ahead of need, by the provider that needs the most; not for one busy day, and not again at once.
    #[test]
    fn more_come_when_it_lasts() {
        let mut days = vec![day(100_000, 60_000); 20];
        assert_eq!(decided(&days, 1, 20, FREE).reason, Reason::Enough);
        days.extend(vec![day(500_000, 350_000); 2]);
        assert_eq!(decided(&days, 1, 22, FREE).decision, Decision::Keep);
        days.extend(vec![day(500_000, 350_000); 3]);
        let more = decided(&days, 1, 25, FREE);
        assert_eq!(
            (more.decision, more.needed, more.provider.as_deref()),
            (Decision::Add(1), 3, Some("microsoft-consumer"))
        );
        assert!(
            more.words().contains("1 there, 3 needed for 350000 a day to microsoft-consumer at 200000 an IP"),
            "{}",
            more.words()
        );
        assert_eq!(decided(&days, 1, 1, FREE).reason, Reason::JustGrown);
        assert_eq!(decided(&days, 1, 25, Bounds { ips_max: 1, ..FREE }).reason, Reason::Bound);
        // A quarter at a time.
        let large = vec![day(8_000_000, 0); 10];
        assert_eq!(decided(&large, 8, 20, FREE).decision, Decision::Add(2));
    }

    #[test]
    fn fewer_are_enough_after_two_quiet_weeks() {
        let mut days = vec![day(100_000, 400_000); 14];
        days.extend(vec![day(10_000, 40_000); 10]);
        assert_eq!(decided(&days, 3, 24, FREE).decision, Decision::Keep);
        days.extend(vec![day(10_000, 40_000); 36]);
        assert_eq!(decided(&days, 3, 60, FREE).decision, Decision::Remove);
    }

    // More IPs than the volume keeps known are a harm.
    #[test]
    fn no_more_than_what_keeps_them_known() {
        let days = vec![Day::from([(Arc::from("a.example"), 3_000)]); 20];
        let found = decide(&days, 3, 20, FREE, &|_| 100);
        assert_eq!(found.needed, 3);
    }

    #[test]
    fn nothing_is_known_of_a_pool_without_days() {
        assert_eq!(decided(&[], 0, 0, FREE).reason, Reason::TooLittle);
        assert_eq!(decided(&[], 2, 0, FREE).decision, Decision::Keep);
    }
}
