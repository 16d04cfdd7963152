//! May an account hand in mail to so many more recipients now? If not, when? (R7.1, R7.2)
//!
//! Two limits, as Amazon SES has them. In any 24 hours there are at most so many recipients, exact to the second: what was sent leaves the
//! window a day later, second by second. And there are at most so many a second on the whole: what was not used of the last two seconds
//! may be used at once, so that a short burst is no fault.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::time::Duration;

const DAY_S: i64 = 86_400;
/// Seconds' worth that may come at once.
const BURST_S: i64 = 2;
const MICROS: i64 = 1_000_000;
/// R7.1: what an account in the sandbox may.
pub const OF_SANDBOX: Quota = Quota { per_day: 200, per_second: 1 };
/// Where it is told that a quota is nearly used, in hundredths.
pub const WARN_AT: [u8; 2] = [80, 95];
/// It is nearly used until it is below this again.
pub const CALM_BELOW: u64 = 75;

/// Recipients in 24 hours, and a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    pub per_day: u64,
    pub per_second: u32,
}

/// Why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// So many are used of the day's; all of these fit at that moment, if they ever do.
    Day { used: u64, fits_at: Option<Timestamp> },
    /// Too many at once.
    Rate { fits_at: Timestamp },
    /// The rate is nought: nothing may be sent.
    Nothing,
}

/// What was handed in during the last 24 hours, of one account in one region.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Seconds in which something was, in their order: at most 86,400 of eight octets.
    seconds: VecDeque<(u32, u32)>,
    total: u64,
    /// In millionths of a recipient: what may come at once; below nought after a message with more recipients than that.
    tokens: i64,
    tokens_at: i64,
    /// The rate that they were reckoned by.
    rate: i64,
    /// The mark that was told last.
    warned: u8,
}

/// As a window counts it.
#[must_use]
pub fn second_of(at: Timestamp) -> u32 {
    u32::try_from(at.0.div_euclid(MICROS)).unwrap_or(0)
}

/// How much of a day's quota is used, in whole hundredths.
#[must_use]
pub fn percent(used: u64, per_day: u64) -> u64 {
    used.saturating_mul(100) / per_day.max(1)
}

impl Window {
    /// Takes so many, all or none. A mark of `WARN_AT` where one is passed by it.
    pub fn take(&mut self, recipients: u32, quota: Quota, now: Timestamp) -> Result<Option<u8>, Over> {
        self.take_beside(recipients, 0, quota, now)
    }

    /// The same beside so many of the simulator's, who count for the rate alone.
    pub fn take_beside(
        &mut self,
        recipients: u32,
        simulated: u32,
        quota: Quota,
        now: Timestamp,
    ) -> Result<Option<u8>, Over> {
        self.forget(now);
        let rate = i64::from(quota.per_second);
        if rate == 0 {
            return Err(Over::Nothing);
        }
        if recipients > 0 && self.total + u64::from(recipients) > quota.per_day {
            return Err(Over::Day { used: self.total, fits_at: self.fits_at(recipients, quota) });
        }
        let most = rate.saturating_mul(BURST_S * MICROS);
        let passed = (now.0 - self.tokens_at).clamp(0, BURST_S * MICROS);
        // A rate that was raised is raised at once; and who has not sent for a while, or never, has the whole.
        let raised = (rate - self.rate).max(0).saturating_mul(BURST_S * MICROS);
        let tokens = (self.tokens.saturating_add(raised) + passed * rate).min(most);
        self.rate = rate;
        // More recipients than that go when the whole is there, and what comes next waits for them.
        let all = (i64::from(recipients) + i64::from(simulated)) * MICROS;
        let needed = all.min(most);
        if tokens < needed {
            let wait = (needed - tokens + rate - 1) / rate;
            return Err(Over::Rate { fits_at: Timestamp(now.0 + wait) });
        }
        self.tokens = tokens - all;
        self.tokens_at = self.tokens_at.max(now.0);
        self.note(recipients, now);
        Ok(self.warns(quota))
    }

    /// What was taken was not handed in after all.
    pub fn give_back(&mut self, recipients: u32, at: Timestamp) {
        let found = self.seconds.binary_search_by_key(&second_of(at), |(second, _)| *second);
        if let Some((_, there)) = found.ok().and_then(|place| self.seconds.get_mut(place)) {
            let back = recipients.min(*there);
            *there -= back;
            self.total -= u64::from(back);
            self.tokens += i64::from(back) * MICROS;
        }
    }

    /// What was handed in, at its own second: what is stamped first need not come first, and a clock may have been set back.
    pub fn note(&mut self, recipients: u32, at: Timestamp) {
        if recipients == 0 {
            return;
        }
        let second = second_of(at);
        self.total += u64::from(recipients);
        // Nearly always the last one, or behind it.
        let later = self.seconds.iter().rev().take_while(|(known, _)| *known > second).count();
        let place = self.seconds.len() - later;
        match place.checked_sub(1).and_then(|before| self.seconds.get_mut(before)) {
            Some((known, count)) if *known == second => *count = count.saturating_add(recipients),
            _ => self.seconds.insert(place, (second, recipients)),
        }
    }

    /// The seconds in which something was handed in, with so many recipients, oldest first.
    pub fn seconds(&self) -> impl DoubleEndedIterator<Item = (u32, u32)> + '_ {
        self.seconds.iter().copied()
    }

    /// How much of the window is used.
    pub fn used(&mut self, now: Timestamp) -> u64 {
        self.forget(now);
        self.total
    }

    fn forget(&mut self, now: Timestamp) {
        let begin = i64::from(second_of(now)) - DAY_S;
        while let Some((second, count)) = self.seconds.front().copied()
            && i64::from(second) <= begin
        {
            self.total -= u64::from(count);
            self.seconds.pop_front();
        }
    }

    /// When enough has left the window; none: more than the whole quota.
    fn fits_at(&self, recipients: u32, quota: Quota) -> Option<Timestamp> {
        let room = quota.per_day.checked_sub(u64::from(recipients))?;
        let mut left = self.total;
        let last = self.seconds.iter().find(|(_, count)| {
            left -= u64::from(*count);
            left <= room
        });
        last.map(|(second, _)| {
            Timestamp::from_unix_seconds(i64::from(*second)) + Duration::from_secs(DAY_S.unsigned_abs())
        })
    }

    fn warns(&mut self, quota: Quota) -> Option<u8> {
        let percent = percent(self.total, quota.per_day);
        let mark = WARN_AT.into_iter().rfind(|mark| percent >= u64::from(*mark)).unwrap_or(0);
        let is_news = mark > self.warned;
        // Told again only after it was well below.
        if is_news || percent + 5 < u64::from(self.warned) {
            self.warned = mark;
        }
        is_news.then_some(mark)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{OF_SANDBOX, Over, Quota, Window};
    use crate::time::Timestamp;
    use proptest::prelude::*;
    use std::time::Duration;

    const START: Timestamp = Timestamp(1_800_000_000_000_000);

    fn at(seconds: u64) -> Timestamp {
        START + Duration::from_secs(seconds)
    }

    // R7.1: the sandbox: 200 a day, one a second, and what was sent comes back a day later as it went.
    #[test]
    fn a_days_quota_comes_back_as_it_was_used() {
        let mut window = Window::default();
        for second in 0..200 {
            window.take(1, OF_SANDBOX, at(second * 2)).unwrap();
        }
        let over = window.take(1, OF_SANDBOX, at(500)).unwrap_err();
        assert_eq!(over, Over::Day { used: 200, fits_at: Some(at(86_400)) });
        let more = window.take(3, OF_SANDBOX, at(500)).unwrap_err();
        assert_eq!(more, Over::Day { used: 200, fits_at: Some(at(86_404)) });
        assert_eq!(window.take(201, OF_SANDBOX, at(500)), Err(Over::Day { used: 200, fits_at: None }));
        assert!(window.take(1, OF_SANDBOX, at(86_399)).is_err());
        assert!(window.take(1, OF_SANDBOX, at(86_400)).is_ok());
        assert!(window.take(1, OF_SANDBOX, at(86_401)).is_err());
        assert_eq!(window.used(at(90_000)), 1);
    }

    // R7.1: short bursts are no fault, long ones are.
    #[test]
    fn a_rate_allows_short_bursts() {
        let quota = Quota { per_day: 1_000_000, per_second: 14 };
        let mut window = Window::default();
        for _ in 0..28 {
            window.take(1, quota, START).unwrap();
        }
        let Err(Over::Rate { fits_at }) = window.take(1, quota, START) else { panic!("a burst has an end") };
        assert!(window.take(1, quota, fits_at).is_ok());
        let sustained =
            (0..1_000).filter(|tenth| window.take(2, quota, at(10) + Duration::from_millis(100 * tenth)).is_ok());
        assert!((1_400..=1_430).contains(&(sustained.count() * 2)));
        let raised = Quota { per_second: 100, ..quota };
        assert!(window.take(60, raised, at(110)).is_ok() && window.take(1, quota, at(120)).is_ok());
        // Fifty recipients of one message are more than a burst: they go, and the next one waits for them.
        assert!(window.take(50, quota, at(200)).is_ok());
        let Err(Over::Rate { fits_at }) = window.take(1, quota, at(200)) else { panic!("it waits") };
        assert_eq!(fits_at.since(at(200)).as_millis(), 23_000 / 14);
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let quota = Quota { per_day: 10, per_second: 100 };
        let mut window = Window::default();
        window.take(10, quota, START).unwrap();
        assert!(window.take(1, quota, at(1)).is_err());
        window.give_back(4, START);
        assert!(window.take(4, quota, at(1)).is_ok() && window.take(1, quota, at(1)).is_err());
        assert_eq!(window.take(1, Quota { per_day: 10, per_second: 0 }, at(1)), Err(Over::Nothing));
        // A quota that is lowered below what is used takes nothing until that has left.
        assert_eq!(
            window.take(1, Quota { per_day: 5, ..quota }, at(2)),
            Err(Over::Day { used: 10, fits_at: Some(at(86_400)) })
        );
    }

    // Told once at each mark.
    #[test]
    fn it_is_told_when_it_is_nearly_used() {
        let quota = Quota { per_day: 100, per_second: 1_000 };
        let mut window = Window::default();
        let told: Vec<u8> = (0..100).filter_map(|second| window.take(1, quota, at(second)).unwrap()).collect();
        assert_eq!(told, [80, 95]);
        let told: Vec<u8> =
            (86_400..86_500).filter_map(|second| window.take(1, quota, at(second)).ok().flatten()).collect();
        assert_eq!(told, Vec::<u8>::new(), "as full as before is no news");
        assert!((200_000..200_100).filter_map(|second| window.take(1, quota, at(second)).unwrap()).eq([80, 95]));
    }

    /// The edge of the window among them.
    fn passes() -> impl Strategy<Value = u64> {
        prop_oneof![8 => 0u64..20_000, 1 => Just(86_399), 1 => Just(86_400), 1 => Just(86_401)]
    }

    // R7.1: what is stamped first may come last. It leaves the window, and is given back, at its own second.
    #[test]
    fn each_counts_at_its_own_second() {
        let quota = Quota { per_day: 100, per_second: 100 };
        let mut window = Window::default();
        for (second, recipients) in [(10, 1), (12, 2), (11, 3), (10, 4)] {
            window.take(recipients, quota, at(second)).unwrap();
        }
        assert!(window.seconds().map(|(_, recipients)| recipients).eq([5, 3, 2]));
        window.give_back(2, at(11));
        window.give_back(9, at(13));
        assert_eq!((window.used(at(20)), window.used(at(86_410)), window.used(at(86_411))), (8, 3, 2));
    }

    // R7.1: the simulator's recipients count for the rate alone, also where the day is used up.
    #[test]
    fn the_simulators_recipients_count_for_the_rate() {
        let quota = Quota { per_day: 10, per_second: 5 };
        let mut window = Window::default();
        window.take(10, quota, START).unwrap();
        let lowered = Quota { per_day: 5, ..quota };
        assert!(window.take_beside(0, 5, lowered, at(5)).is_ok() && window.take_beside(0, 5, lowered, at(5)).is_ok());
        assert!(matches!(window.take_beside(0, 1, lowered, at(5)), Err(Over::Rate { .. })));
        assert_eq!(window.used(at(5)), 10);
    }

    proptest! {
        // R7.1: in no window of 24 hours there are more, and what is refused for the day would have been too many.
        #[test]
        fn no_window_of_a_day_holds_more(steps in proptest::collection::vec((passes(), 1u32..30, any::<bool>()), 1..200)) {
            let quota = Quota { per_day: 100, per_second: 1_000 };
            let (mut window, mut sent, mut second) = (Window::default(), Vec::<(u64, u64)>::new(), 0);
            for (passes, recipients, gives_back) in steps {
                second += passes;
                let in_window = |sent: &[(u64, u64)]| -> u64 {
                    sent.iter().filter(|(sent_at, _)| sent_at + 86_400 > second).map(|(_, count)| count).sum()
                };
                match window.take(recipients, quota, at(second)) {
                    Ok(_) if gives_back => window.give_back(recipients, at(second)),
                    Ok(_) => {
                        sent.push((second, u64::from(recipients)));
                        prop_assert!(in_window(&sent) <= 100);
                    }
                    Err(Over::Day { used, fits_at }) => {
                        prop_assert_eq!(used, in_window(&sent));
                        prop_assert!(used + u64::from(recipients) > 100);
                        let fits_at = fits_at.unwrap();
                        let mut then = window.clone();
                        prop_assert!(then.take(recipients, quota, fits_at).is_ok());
                        let mut before = window.clone();
                        prop_assert!(before.take(recipients, quota, fits_at - Duration::from_secs(1)).is_err());
                    }
                    Err(other) => prop_assert!(false, "{:?}", other),
                }
            }
        }
    }
}
