//! A webhook's target did not take a batch: when is it tried again, and when is that given up?
//!
//! What was not taken is not thrown away: the webhook is paused where it stands, and goes on from there when it is told to.

use crate::time::Timestamp;
use std::time::Duration;

/// Soon at first, because most trouble is a restart; then rarely, because it is a person's work by then.
const WAITS_S: [u64; 8] = [1, 5, 15, 30, 60, 120, 300, 600];
/// Waits are longer by up to a quarter, so that the targets of one machine that is back are not all tried at one moment.
const SPREAD_PART: f64 = 0.25;
/// R6.1: after trying for so long, a webhook is paused.
pub const TRIED_FOR: Duration = Duration::from_secs(86_400);

/// What became of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Taken,
    /// 410: the target says that it is gone for good.
    Gone,
    Failed,
}

/// How a webhook stands with its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// The first of the tries that failed in a row.
    pub since: Option<Timestamp>,
    pub failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    GoOn,
    TryAgain { at: Timestamp, trouble: Trouble },
    Pause(Paused),
}

/// Why a webhook is paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    TriedForADay,
    TargetGone,
    ByItsOwner,
}

impl Paused {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Paused::TriedForADay => "tried-for-a-day",
            Paused::TargetGone => "target-gone",
            Paused::ByItsOwner => "by-its-owner",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Paused> {
        [Paused::TriedForADay, Paused::TargetGone, Paused::ByItsOwner].into_iter().find(|why| why.code() == code)
    }

    /// With how to go on.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Paused::TriedForADay => {
                "the target took nothing for 24 hours; mend it and resume the webhook: it goes on with the first event that was not taken, for as long as events are kept"
            }
            Paused::TargetGone => {
                "the target answered 410 Gone; change the address or resume the webhook: it goes on with the first event that was not taken"
            }
            Paused::ByItsOwner => "it was paused; resume it, and it goes on with the first event that was not taken",
        }
    }
}

/// `chance` is from 0 to 1.
#[must_use]
pub fn next(answer: Answer, before: Trouble, now: Timestamp, chance: f64) -> Next {
    let since = before.since.unwrap_or(now);
    match answer {
        Answer::Taken => Next::GoOn,
        Answer::Gone => Next::Pause(Paused::TargetGone),
        Answer::Failed if now >= since + TRIED_FOR => Next::Pause(Paused::TriedForADay),
        Answer::Failed => {
            let wait = WAITS_S[(before.failures as usize).min(WAITS_S.len() - 1)] as f64;
            let wait = Duration::from_secs_f64(wait * (1.0 + SPREAD_PART * chance.clamp(0.0, 1.0)));
            // The last try is when the day is over, and not long after it.
            let at = (now + wait).min(since + TRIED_FOR);
            Next::TryAgain { at, trouble: Trouble { since: Some(since), failures: before.failures + 1 } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Answer, Next, Paused, TRIED_FOR, Trouble, next};
    use crate::time::Timestamp;

    // R6.1
    #[test]
    fn a_dead_target_is_tried_for_a_day_and_then_waited_for() {
        let start = Timestamp::from_unix_seconds(1_793_491_200);
        let (mut now, mut trouble, mut tries) = (start, Trouble::default(), 0);
        let paused = loop {
            tries += 1;
            match next(Answer::Failed, trouble, now, 0.5) {
                Next::TryAgain { at, trouble: is } => {
                    assert!(at > now && is.since == Some(start));
                    (now, trouble) = (at, is);
                }
                Next::Pause(why) => break why,
                Next::GoOn => panic!("what failed goes on"),
            }
        };
        assert_eq!((paused, now), (Paused::TriedForADay, start + TRIED_FOR));
        assert!((100..200).contains(&tries), "{tries}");
        assert_eq!(next(Answer::Taken, trouble, now, 0.0), Next::GoOn);
        assert_eq!(next(Answer::Gone, Trouble::default(), now, 0.0), Next::Pause(Paused::TargetGone));
    }
}
