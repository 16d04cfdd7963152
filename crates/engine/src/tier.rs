//! Among which others does a sender share IPs? (R6.4)
//!
//! Senders of shared IPs stand in four tiers, each with IPs of its own where the operator has given it some. Who goes bad goes down at
//! once, before it costs the others; who does well goes up after some time, and slowly enough that nobody swings between two of them.

use crate::reputation::{Level, Outcomes, Reputation, percent};
use serde::{Deserialize, Serialize};

/// A sender is new until it has sent so much, for so long.
pub const NEW_SENT: u64 = 5_000;
pub const NEW_DAYS: u32 = 14;
/// Surely under this score a sender goes down; so much better it must do to come back up.
const PENALTY_UNDER: u8 = 50;
const RETURN_FROM: u8 = 70;
/// From this on a sender is trusted, and as long as it stays over the lower one.
const TRUSTED_FROM: u8 = 90;
const TRUSTED_UNDER: u8 = 80;
/// For so many days in a row it must do well.
const RETURN_DAYS: u32 = 7;
const TRUSTED_DAYS: u32 = 14;

/// The worst first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    Penalty,
    /// New senders, of whom nothing is known.
    Probation,
    #[default]
    Standard,
    Trusted,
}

pub const TIERS: [Tier; 4] = [Tier::Penalty, Tier::Probation, Tier::Standard, Tier::Trusted];

impl Tier {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Tier::Penalty => "penalty",
            Tier::Probation => "probation",
            Tier::Standard => "standard",
            Tier::Trusted => "trusted",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Tier> {
        TIERS.into_iter().find(|tier| tier.code() == code)
    }
}

/// What is known of a sender.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    pub tier: Tier,
    /// All it ever sent, and how many days ago it began.
    pub sent: u64,
    pub days: u32,
    pub reputation: &'a Reputation,
    /// For how many days in a row it has done well enough for the next tier.
    pub well_days: u32,
}

/// Where a sender belongs, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub tier: Tier,
    /// Whether today counts as a day of doing well.
    pub does_well: bool,
    /// A sentence without its full stop, and what the sender can do.
    pub words: String,
}

/// Asked again and again. Down it goes at once, up only after days.
#[must_use]
pub fn decide(sender: Sender<'_>) -> Decided {
    let Sender { tier, sent, days, reputation, well_days } = sender;
    let score = reputation.score.as_ref().map(|score| score.value);
    // By what is sure: two complaints befall each of fifty good senders some day.
    let is_bad = reputation.concerns.iter().any(|concern| concern.level == Level::Pause || concern.is_sure())
        || reputation.score.as_ref().is_some_and(|score| score.surely_at_most() < PENALTY_UNDER);
    let said = said(reputation);
    if is_bad {
        let words = format!(
            "its mail goes badly ({said}), so it shares IPs with others whose mail does; after {RETURN_DAYS} good days in a row it \
             comes back"
        );
        return Decided { tier: Tier::Penalty, does_well: false, words };
    }
    let at_least = |least: u8| score.is_some_and(|score| score >= least);
    match tier {
        Tier::Penalty => {
            let does_well = at_least(RETURN_FROM);
            let is_new = sent < NEW_SENT || days < NEW_DAYS;
            let back = if is_new { Tier::Probation } else { Tier::Standard };
            if does_well && well_days >= RETURN_DAYS {
                let words = format!("its mail went well for {well_days} days in a row ({said})");
                return Decided { tier: back, does_well: true, words };
            }
            let words = format!("{well_days} of {RETURN_DAYS} good days in a row ({said}; {RETURN_FROM} is good)");
            Decided { tier, does_well, words }
        }
        Tier::Probation if sent >= NEW_SENT && days >= NEW_DAYS && at_least(RETURN_FROM) => Decided {
            tier: Tier::Standard,
            does_well: true,
            words: format!("it is known by now: {sent} messages in {days} days ({said})"),
        },
        Tier::Probation => Decided {
            tier,
            does_well: at_least(RETURN_FROM),
            words: format!(
                "it is new: {sent} of {NEW_SENT} messages in {days} of {NEW_DAYS} days, with a score of at least {RETURN_FROM} ({said})"
            ),
        },
        Tier::Standard if at_least(TRUSTED_FROM) && well_days >= TRUSTED_DAYS => Decided {
            tier: Tier::Trusted,
            does_well: true,
            words: format!("its mail went very well for {well_days} days in a row ({said})"),
        },
        Tier::Standard => Decided {
            tier,
            does_well: at_least(TRUSTED_FROM),
            words: format!(
                "its mail goes well enough ({said}; {TRUSTED_FROM} for {TRUSTED_DAYS} days in a row is more)"
            ),
        },
        // Silence is no fault.
        Tier::Trusted if score.is_some_and(|score| score < TRUSTED_UNDER) => Decided {
            tier: Tier::Standard,
            does_well: false,
            words: format!("its mail goes less well than it did ({said}; {TRUSTED_UNDER} is needed)"),
        },
        Tier::Trusted => Decided { tier, does_well: true, words: format!("its mail goes very well ({said})") },
    }
}

/// Fewer bad outcomes than this blame nobody.
const BLAME_MIN: u64 = 10;

/// Of those who shared an IP in the last day, at a provider that takes nothing from it any more: whose mail it was, if it was mostly one
/// sender's. That one had at least half of what went badly, and twice its share of the mail.
#[must_use]
pub fn to_blame(senders: &[Outcomes]) -> Option<usize> {
    let bad = |of: &Outcomes| of.hard + of.blocked + of.complained;
    let (all_bad, all_sent) =
        senders.iter().fold((0, 0), |(all_bad, all_sent), of| (all_bad + bad(of), all_sent + of.sent()));
    let (at, worst) = senders.iter().enumerate().max_by_key(|(_, of)| bad(of))?;
    let is_most = all_bad >= BLAME_MIN && bad(worst) * 2 >= all_bad;
    let is_more_than_its_share = bad(worst) * all_sent >= 2 * worst.sent() * all_bad;
    (is_most && is_more_than_its_share).then_some(at)
}

fn said(reputation: &Reputation) -> String {
    let score = match &reputation.score {
        Some(score) => format!("score {}", score.value),
        None => "too little was sent lately for a score".into(),
    };
    let (bounces, complaints) = (reputation.bounces.rate(), reputation.complaints.rate());
    format!("{score}, {} bounced, {} complained of", percent(bounces), percent(complaints))
}

#[cfg(test)]
mod tests {
    use super::{Decided, Sender, Tier, decide, to_blame};
    use crate::reputation::{Beside, Day, Level, Outcomes, Reputation, Share, Thresholds, measure};
    use std::sync::Arc;

    fn doing(hard: u64, complained: u64) -> Reputation {
        let outcomes = Outcomes { delivered: 1_000 - hard, hard, complained, ..Outcomes::default() };
        let days = vec![Day::from([(Arc::from("yahoo"), outcomes)]); 14];
        let beside = Beside { tells: &|_| true, is_listed: false, traps: Share::default() };
        measure(&days, beside, Thresholds::default())
    }

    fn decided(tier: Tier, reputation: &Reputation, well_days: u32) -> Decided {
        decide(Sender { tier, sent: 100_000, days: 100, reputation, well_days })
    }

    // R6.4: down at once, up after days, and nobody swings.
    #[test]
    fn spec_r6_4_down_at_once_and_up_slowly() {
        let (good, fair, bad) = (doing(1, 0), doing(12, 0), doing(80, 0));
        for tier in [Tier::Trusted, Tier::Standard, Tier::Probation] {
            let down = decided(tier, &bad, 100);
            assert_eq!((down.tier, down.does_well), (Tier::Penalty, false));
            assert!(down.words.contains("8 % bounced"), "{}", down.words);
        }
        assert_eq!(
            [0, 6, 7].map(|days| decided(Tier::Penalty, &good, days).tier),
            [Tier::Penalty, Tier::Penalty, Tier::Standard]
        );
        assert_eq!([13, 14].map(|days| decided(Tier::Standard, &good, days).tier), [Tier::Standard, Tier::Trusted]);
        // Between the two scores each stays where it is.
        let score = fair.score.as_ref().map(|score| score.value);
        assert!(score.is_some_and(|score| (50..90).contains(&score)), "{score:?}");
        assert_eq!(decided(Tier::Standard, &fair, 100).tier, Tier::Standard);
        assert!(!decided(Tier::Standard, &fair, 100).does_well);
    }

    // R6.4: who brought a shared IP into trouble leaves it.
    #[test]
    fn blame_needs_most_of_the_harm_and_more_than_ones_share() {
        let sender = |delivered, hard| Outcomes { delivered, hard, ..Outcomes::default() };
        assert_eq!(to_blame(&[sender(1_000, 2), sender(500, 80), sender(2_000, 5)]), Some(1));
        assert_eq!(to_blame(&[sender(1_000, 20), sender(900, 25), sender(1_000, 22)]), None, "all alike");
        assert_eq!(to_blame(&[sender(10_000, 60), sender(500, 20)]), None, "much of the mail, and as much of the harm");
        assert_eq!(to_blame(&[sender(100, 0), sender(10, 4)]), None, "too few to say");
        assert_eq!(to_blame(&[]), None);
    }

    // R6.4: a warning by chance is no reason to be put among the bad ones.
    #[test]
    fn only_what_is_sure_puts_a_sender_down() {
        let outcomes = Outcomes { delivered: 1_000, complained: 3, ..Outcomes::default() };
        let unlucky = [Day::from([(Arc::from("yahoo"), outcomes)])];
        let beside = Beside { tells: &|_| true, is_listed: false, traps: Share::default() };
        let unlucky = measure(&unlucky, beside, Thresholds::default());
        assert_eq!((unlucky.level(), unlucky.score.as_ref().map(|score| score.value)), (Level::Review, Some(0)));
        let kept = decided(Tier::Trusted, &unlucky, 100);
        assert_eq!((kept.tier, kept.does_well), (Tier::Standard, false));
    }

    #[test]
    fn new_senders_are_among_new_senders() {
        let good = doing(1, 0);
        let new =
            |sent, days| decide(Sender { tier: Tier::Probation, sent, days, reputation: &good, well_days: 0 }).tier;
        assert_eq!(new(4_999, 100), Tier::Probation);
        assert_eq!(new(100_000, 13), Tier::Probation);
        assert_eq!(new(5_000, 14), Tier::Standard);
        // Silence moves nobody.
        let silent = Reputation::default();
        for tier in [Tier::Penalty, Tier::Probation, Tier::Standard, Tier::Trusted] {
            assert_eq!(decided(tier, &silent, 100).tier, tier);
        }
    }
}
