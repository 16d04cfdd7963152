//! Is a bad tenant stopped before it costs those it shares IPs with, on twenty seeds? (R6.4; deliverability, 10.4)

use sim::provider::Quality;
use sim::shared::{Culprit, Outcome, Pools, Setting, play};

const SEEDS: u64 = 20;
/// Of 49 good tenants in five weeks; a warning by chance moves and stops nobody.
const WARNED_BY_CHANCE_MAX: usize = 3;

const ALL_BAD: Quality = Quality { unknown: 0.20, complaints: 0.01, traps: 0.0, engaged: 0.05 };
const COMPLAINED_OF: Quality = Quality { unknown: 0.005, ..ALL_BAD };
const A_LITTLE_BAD: Quality = Quality { unknown: 0.06, complaints: 0.000_3, ..ALL_BAD };

const USUAL: Culprit = Culprit::GoesBad { share: 0.02 };
const LARGE: Culprit = Culprit::GoesBad { share: 0.10 };

/// Judged every hour, which is twelve times slower than production. Good tenants are left alone, whatever happens.
fn on_all_seeds(pools: Pools, culprit: Culprit, quality: Quality, holds: impl Fn(&Outcome) -> bool) {
    for seed in 0..SEEDS {
        let outcome = play(Setting { seed, pools, culprit, quality, judged_minutes: 60 });
        println!("{pools:?} {culprit:?} seed {seed}: {outcome:?}");
        assert_eq!((outcome.good_paused, outcome.good_in_penalty), (0, 0), "{pools:?} seed {seed}: {outcome:?}");
        assert!(outcome.good_reviewed <= WARNED_BY_CHANCE_MAX, "{pools:?} seed {seed}: {outcome:?}");
        assert!(holds(&outcome), "{pools:?} {culprit:?} seed {seed}: {outcome:?}");
    }
}

/// In penalty, then paused; both may come of one judgement.
fn is_stopped_within(outcome: &Outcome, hours: u64) -> bool {
    let (Some(penalty), Some(paused)) = (outcome.penalty_after, outcome.paused_after) else { return false };
    penalty <= paused && paused <= hours
}

// R6.4: before it costs the others.
#[test]
fn spec_r6_4_one_bad_of_fifty_is_paused_before_the_pool_falls_by_ten_points() {
    on_all_seeds(Pools::One, USUAL, ALL_BAD, |outcome| is_stopped_within(outcome, 12) && outcome.fall() < 10);
}

#[test]
fn a_pool_for_each_tier_falls_no_further() {
    on_all_seeds(Pools::ByTier, USUAL, ALL_BAD, |outcome| is_stopped_within(outcome, 12) && outcome.fall() < 10);
}

// A tenth of the mail, so that ten times as much harm is done in an hour; by its numbers it is known so much sooner.
#[test]
fn a_large_bad_tenant_is_stopped_so_much_sooner() {
    on_all_seeds(Pools::One, LARGE, ALL_BAD, |outcome| is_stopped_within(outcome, 6) && outcome.fall() < 10);
}

// R6.3: a warning, and no more; among its like it does no harm.
#[test]
fn a_tenant_that_is_a_little_bad_is_reviewed_and_not_paused() {
    on_all_seeds(Pools::One, USUAL, A_LITTLE_BAD, |outcome| {
        let is_told = outcome.reviewed_after.is_some_and(|hours| hours <= 48);
        is_told && outcome.penalty_after.is_some() && outcome.paused_after.is_none() && outcome.fall() < 10
    });
}

// Complaints come hours after the mail, and from half of it: it takes days to be sure of a small tenant.
#[test]
fn a_tenant_that_is_only_complained_of_is_stopped_within_days() {
    on_all_seeds(Pools::One, USUAL, COMPLAINED_OF, |outcome| is_stopped_within(outcome, 96) && outcome.fall() < 10);
}

// What does not hold: with a tenth of the mail and nothing to see but complaints, most of the harm is under way before the first of
// them comes. In one pool that is up to twelve points; a pool for penalty keeps it under ten. There its mail goes to junk, of which
// nobody complains, so that it may stay below the limit for a pause: nobody else is there to be harmed.
#[test]
fn a_large_tenant_that_is_only_complained_of_needs_a_pool_for_penalty() {
    on_all_seeds(Pools::ByTier, LARGE, COMPLAINED_OF, |outcome| {
        outcome.penalty_after.is_some_and(|hours| hours <= 24) && outcome.fall() < 10
    });
    on_all_seeds(Pools::One, LARGE, COMPLAINED_OF, |outcome| is_stopped_within(outcome, 48) && outcome.fall() <= 12);
}

// Known tenants lose nothing by a new one. The few who share the pool for new ones do, until it has sent the thousand messages that it
// takes to judge: by up to so much, from a pool that carries little.
#[test]
fn a_new_bad_tenant_harms_new_ones_alone() {
    on_all_seeds(Pools::ByTier, Culprit::IsNew { per_day: 4_000.0 }, ALL_BAD, |outcome| {
        is_stopped_within(outcome, 12)
            && outcome.sent_bad < 1_500
            && outcome.fall() < 5
            && outcome.worst_of_new.is_some_and(|worst| worst >= 60)
    });
}
