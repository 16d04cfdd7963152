//! Does the new side of a test drive do better than the old one? (R8.3)
//!
//! Each side is what became of its mail in the same time. Shares are compared by Newcombe's interval for a difference (his tenth method,
//! from Wilson's limits of both sides), 95 %; a drive is stopped by 99.9 %, because it is looked at again and again. A difference that is
//! sure and small is none that anybody should move for.

use crate::counts::{STEPS, step_of, within_s};
use crate::judged::limits;
use crate::reputation::{Outcomes, Reputation};
use serde::{Deserialize, Serialize};
use std::time::Duration;

const CERTAIN: f64 = 1.96;
const VERY_CERTAIN: f64 = 3.29;
/// Less than this on a side says nothing either way.
const SENT_MIN: u64 = 500;
/// Of fewer, no harm is judged.
const HARMED_MIN: u64 = 10;
/// A difference in delivery that a drive should be able to see.
const SEEN: f64 = 0.01;
/// What takes longer is late: a first greylisting is usually over by then.
const LATE: Duration = Duration::from_secs(300);

/// What became of a side's mail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Side {
    pub outcomes: Outcomes,
    /// How much was delivered within each of `counts::STEPS_S`.
    pub steps: [i64; STEPS],
}

/// Within how many seconds some part was delivered, and between which it is with 95 % certainty. None: not within a day.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Delay {
    pub s: Option<f64>,
    pub least_s: Option<f64>,
    pub most_s: Option<f64>,
}

impl Side {
    pub fn add(&mut self, other: &Side) {
        self.outcomes.add(&other.outcomes);
        for (own, more) in self.steps.iter_mut().zip(other.steps) {
            *own += more;
        }
    }

    fn timed(&self) -> u64 {
        u64::try_from(self.steps.iter().sum::<i64>()).unwrap_or(0)
    }

    fn late(&self) -> u64 {
        u64::try_from(self.steps[step_of(LATE) + 1..].iter().sum::<i64>()).unwrap_or(0)
    }

    /// The limits are those of the order of so many deliveries: whatever their times are, so many of them are below it.
    #[must_use]
    pub fn within(&self, part: f64) -> Delay {
        if self.timed() == 0 {
            return Delay::default();
        }
        let spread = CERTAIN * (part * (1.0 - part) / self.timed() as f64).sqrt();
        let at = |part: f64| within_s(&self.steps, part.clamp(0.0, 1.0));
        Delay { s: at(part), least_s: at(part - spread), most_s: at(part + spread) }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Figure {
    Delivered,
    Bounced,
    Blocked,
    Complained,
    /// Delivered, and it took more than five minutes.
    Late,
}

pub const FIGURES: [Figure; 5] =
    [Figure::Delivered, Figure::Bounced, Figure::Blocked, Figure::Complained, Figure::Late];

impl Figure {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Figure::Delivered => "delivered",
            Figure::Bounced => "bounced",
            Figure::Blocked => "blocked",
            Figure::Complained => "complained",
            Figure::Late => "late",
        }
    }

    fn of(self, side: &Side) -> (u64, u64) {
        let outcomes = &side.outcomes;
        match self {
            Figure::Delivered => (outcomes.delivered, outcomes.sent()),
            Figure::Bounced => (outcomes.hard, outcomes.sent()),
            Figure::Blocked => (outcomes.blocked, outcomes.sent()),
            Figure::Complained => (outcomes.complained, outcomes.delivered),
            Figure::Late => (side.late(), side.timed()),
        }
    }

    /// A difference that somebody would move for.
    fn matters_from(self) -> f64 {
        match self {
            Figure::Delivered | Figure::Bounced | Figure::Blocked => 0.005,
            Figure::Complained => 0.000_5,
            Figure::Late => 0.05,
        }
    }
}

/// A share of both sides, and what the new one's is more by: between these, with 95 % certainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Compared {
    pub figure: Figure,
    pub new: f64,
    pub new_between: (f64, f64),
    pub old: f64,
    pub old_between: (f64, f64),
    pub more: f64,
    pub more_between: (f64, f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Better,
    Worse,
    /// Nothing that matters can be seen, and it would be.
    Alike,
    /// So many more messages on each side are needed.
    TooLittle {
        more: u64,
    },
}

impl Verdict {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Verdict::Better => "better",
            Verdict::Worse => "worse",
            Verdict::Alike => "alike",
            Verdict::TooLittle { .. } => "too-little",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub new: Side,
    pub old: Side,
    pub figures: Vec<Compared>,
    pub verdict: Verdict,
    /// A sentence or two.
    pub words: String,
}

fn share((count, of): (u64, u64)) -> f64 {
    if of == 0 { 0.0 } else { (count as f64 / of as f64).min(1.0) }
}

/// By how much the first share is more than the second.
fn difference(one: (u64, u64), other: (u64, u64), z: f64) -> (f64, f64) {
    let ((p1, p2), (l1, u1), (l2, u2)) = ((share(one), share(other)), limits(one, z), limits(other, z));
    let d = p1 - p2;
    (d - (p1 - l1).hypot(u2 - p2), d + (u1 - p1).hypot(p2 - l2))
}

fn compared(figure: Figure, new: &Side, old: &Side) -> Compared {
    let (one, other) = (figure.of(new), figure.of(old));
    Compared {
        figure,
        new: share(one),
        new_between: limits(one, CERTAIN),
        old: share(other),
        old_between: limits(other, CERTAIN),
        more: share(one) - share(other),
        more_between: difference(one, other, CERTAIN),
    }
}

impl Compared {
    /// How far the new side is better, at least and at most.
    fn gain(&self) -> (f64, f64) {
        let (low, high) = self.more_between;
        if self.figure == Figure::Delivered { (low, high) } else { (-high, -low) }
    }

    fn is_better(&self) -> bool {
        self.gain().0 > 0.0 && self.more.abs() >= self.figure.matters_from()
    }

    fn is_worse(&self) -> bool {
        self.gain().1 < 0.0 && self.more.abs() >= self.figure.matters_from()
    }

    /// Whether the sides surely differ, by so much that somebody would move for it.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.is_better() || self.is_worse()
    }

    fn words(&self) -> String {
        let decimals = if self.figure == Figure::Complained { 3 } else { 2 };
        format!(
            "{} {:.decimals$} % on the new side and {:.decimals$} % on the old one",
            self.figure.code(),
            self.new * 100.0,
            self.old * 100.0
        )
    }
}

/// How much each side must have sent, for a difference in delivery of a point to be seen four times of five.
fn needed(old: &Side) -> u64 {
    let lost = (1.0 - share(Figure::Delivered.of(old))).clamp(0.01, 0.5);
    ((16.0 * lost * (1.0 - lost) / (SEEN * SEEN)).ceil() as u64).max(SENT_MIN)
}

#[must_use]
pub fn compare(new: Side, old: Side) -> Comparison {
    let figures: Vec<Compared> = FIGURES.into_iter().map(|figure| compared(figure, &new, &old)).collect();
    let least = new.outcomes.sent().min(old.outcomes.sent());
    let needed = needed(&old);
    let said = |of: &dyn Fn(&Compared) -> bool| {
        figures.iter().filter(|compared| of(compared)).map(Compared::words).collect::<Vec<_>>().join("; ")
    };
    let (worse, better) = (said(&Compared::is_worse), said(&Compared::is_better));
    let (verdict, words) = if least < SENT_MIN {
        let more = needed - least;
        (
            Verdict::TooLittle { more },
            format!("Too little was sent to say anything: about {more} more messages on each side are needed."),
        )
    } else if !worse.is_empty() {
        (Verdict::Worse, format!("The new side does worse: {worse}. Go back."))
    } else if !better.is_empty() {
        (Verdict::Better, format!("The new side does better: {better}. Move the rest."))
    } else if least < needed {
        let more = needed - least;
        (
            Verdict::TooLittle { more },
            format!(
                "No difference can be seen yet; about {more} more messages on each side are needed to see one of a point."
            ),
        )
    } else {
        (Verdict::Alike, "The sides do alike: nothing that matters can be seen. Decide by cost and control.".to_owned())
    };
    Comparison { new, old, figures, verdict, words }
}

/// Why the drive must end: the new side is surely worse in what harms a sender, as sure as one can be who looks all the time; or it is so
/// bad that an account would be reviewed for it, however bad the old side is.
#[must_use]
pub fn harm(new: &Side, old: &Side, reputation_of_new: &Reputation) -> Option<String> {
    let worse = [Figure::Bounced, Figure::Blocked, Figure::Complained].into_iter().find_map(|figure| {
        let (one, other) = (figure.of(new), figure.of(old));
        let (low, _) = difference(one, other, VERY_CERTAIN);
        let is_harm = one.0 >= HARMED_MIN && low > 0.0 && share(one) - share(other) >= figure.matters_from();
        is_harm.then(|| format!("the new side does surely worse: {}", compared(figure, new, old).words()))
    });
    let over = || reputation_of_new.concerns.iter().max_by_key(|concern| concern.level);
    worse.or_else(|| over().map(|concern| format!("the new side is over a limit: {}", concern.words())))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Delay, Side, Verdict, compare, difference, harm, limits};
    use crate::counts::STEPS;
    use crate::reputation::{Beside, Day, Outcomes, Reputation, Share, Thresholds, measure};
    use proptest::prelude::*;

    fn side(delivered: u64, hard: u64, blocked: u64, complained: u64) -> Side {
        let outcomes = Outcomes { delivered, hard, blocked, complained, ..Outcomes::default() };
        Side { outcomes, ..Side::default() }
    }

    // The examples of Newcombe's paper (1998): 56/70 against 48/80, and 9/10 against 3/10, 10/10 against 0/10.
    #[test]
    fn differences_are_those_of_the_literature() {
        let close = |found: (f64, f64), known: (f64, f64)| {
            assert!((found.0 - known.0).abs() < 0.000_1 && (found.1 - known.1).abs() < 0.000_1, "{found:?} {known:?}");
        };
        close(difference((56, 70), (48, 80), 1.959_964), (0.0524, 0.3339));
        close(difference((9, 10), (3, 10), 1.959_964), (0.1705, 0.8090));
        close(difference((10, 10), (0, 10), 1.959_964), (0.6075, 1.0000));
        // Wilson, 81 of 263.
        close(limits((81, 263), 1.959_964), (0.2553, 0.3662));
    }

    #[test]
    fn spec_r8_3_the_verdict_is_plain() {
        let verdict = |new: Side, old: Side| compare(new, old).verdict;
        assert!(
            matches!(verdict(side(100, 0, 0, 0), side(9_000, 50, 50, 1)), Verdict::TooLittle { more } if more > 1_000)
        );
        // Sure, and a point: the rest may move.
        assert_eq!(verdict(side(9_900, 50, 50, 1), side(9_700, 50, 250, 1)), Verdict::Better);
        assert_eq!(verdict(side(9_500, 50, 450, 1), side(9_700, 50, 250, 1)), Verdict::Worse);
        // Better delivered, and more complained of: not better.
        assert_eq!(verdict(side(9_900, 50, 50, 40), side(9_700, 50, 250, 2)), Verdict::Worse);
        assert_eq!(verdict(side(9_700, 50, 250, 2), side(9_703, 50, 247, 2)), Verdict::Alike);
        // Sure, and too small to move for.
        assert_eq!(verdict(side(990_000, 5_000, 5_000, 9), side(988_500, 5_000, 6_500, 9)), Verdict::Alike);
        assert!(matches!(verdict(side(700, 5, 5, 0), side(700, 5, 5, 0)), Verdict::TooLittle { .. }));
        assert!(compare(side(9_500, 50, 450, 1), side(9_700, 50, 250, 1)).words.contains("blocked 4.50 %"));
    }

    #[test]
    fn spec_r8_3_harm_ends_a_drive_and_chance_does_not() {
        let (old, fine) = (side(9_800, 100, 100, 2), Reputation::default());
        let harmed = |new: Side, old: &Side| harm(&new, old, &fine);
        assert!(harmed(side(400, 60, 5, 0), &old).is_some_and(|why| why.contains("bounced 12.90 %")));
        assert!(harmed(side(900, 10, 60, 0), &old).is_some_and(|why| why.contains("blocked")));
        assert!(harmed(side(5_000, 50, 50, 20), &old).is_some_and(|why| why.contains("complained")));
        // Nine of a hundred may be chance, and so may twice as many of little.
        assert_eq!(harmed(side(90, 9, 1, 0), &old), None);
        assert_eq!(harmed(side(980, 20, 12, 0), &old), None);
        assert_eq!(harmed(old, &side(0, 0, 0, 0)), None, "nothing to compare with");
    }

    // R8.3, R6.3: what an account would be reviewed for ends a drive also where the old side is as bad; of too little, nothing is said.
    #[test]
    fn spec_r8_3_a_limit_ends_a_drive_however_bad_the_old_side_is() {
        let of = |new: Side| {
            let day = Day::from([("google".into(), new.outcomes)]);
            let beside = Beside { tells: &|_| true, is_listed: false, traps: Share::default() };
            let reputation = measure(&[day], beside, Thresholds::default());
            harm(&new, &side(9_200, 800, 0, 2), &reputation)
        };
        let why = of(side(1_840, 160, 0, 0)).unwrap();
        assert!(why.starts_with("the new side is over a limit: 160 of 2000 messages"), "{why}");
        assert_eq!(of(side(1_960, 40, 0, 0)), None);
        assert_eq!(of(side(920, 79, 0, 0)), None, "too little to say");
        assert!(of(side(920, 80, 0, 0)).is_some());
    }

    // R8.3: how long it took, between which limits; and mail that comes late is worse mail.
    #[test]
    fn spec_r8_3_delay_is_compared() {
        let timed = |at_once: i64, late: i64| {
            let mut steps = [0; STEPS];
            (steps[0], steps[8]) = (at_once, late);
            Side { steps, ..side(u64::try_from(at_once + late).unwrap(), 0, 0, 0) }
        };
        // Half of a hundred: between the 40th and the 60th, spread over a second.
        let Delay { s, least_s, most_s } = timed(100, 0).within(0.5);
        assert!((s.unwrap() - 0.5).abs() < 1e-9);
        assert!((least_s.unwrap() - 0.402).abs() < 1e-9 && (most_s.unwrap() - 0.598).abs() < 1e-9);
        assert_eq!(Side::default().within(0.5), Delay::default());
        let mut longest = Side::default();
        longest.steps[STEPS - 1] = 10;
        assert_eq!(longest.within(0.5), Delay::default(), "longer than the last bound");
        let mut both = timed(60, 40);
        both.add(&timed(40, 60));
        assert_eq!((both.steps[0], both.steps[8], both.outcomes.delivered), (100, 100, 200));

        let verdict = |new: Side, old: Side| compare(new, old).verdict;
        assert_eq!(verdict(timed(9_000, 1_000), timed(9_900, 100)), Verdict::Worse);
        assert_eq!(verdict(timed(9_900, 100), timed(9_000, 1_000)), Verdict::Better);
        assert_eq!(verdict(timed(9_600, 400), timed(9_900, 100)), Verdict::Alike, "three points are few");
        let words = compare(timed(9_000, 1_000), timed(9_900, 100)).words;
        assert!(words.contains("late 10.00 % on the new side and 1.00 % on the old one"), "{words}");
    }

    proptest! {
        // Whatever the figures: limits in their order, shares between them, and sides that change places change the sign.
        #[test]
        fn limits_hold_what_they_are_of(a in 0u64..5_000, b in 1u64..5_000, c in 0u64..5_000, d in 1u64..5_000) {
            let (one, other) = ((a.min(b), b), (c.min(d), d));
            let (low, high) = difference(one, other, 1.96);
            let more = one.0 as f64 / one.1 as f64 - other.0 as f64 / other.1 as f64;
            prop_assert!(low <= more + 1e-9 && more <= high + 1e-9 && low >= -1.0 - 1e-9 && high <= 1.0 + 1e-9);
            let (back, forth) = difference(other, one, 1.96);
            prop_assert!((low + forth).abs() < 1e-9 && (high + back).abs() < 1e-9);
        }
    }
}
