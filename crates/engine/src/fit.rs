//! Is a managed pool right for this sender? (R3.8)
//!
//! What must be so is required, each point by itself; what only speaks against it is advice, because dedicated IPs that are sent from
//! too little, or badly, are worse than shared ones.

use crate::reputation::{Reputation, Share, percent};

/// More than so many a day.
pub const PER_DAY_MIN: u64 = 500;
/// Below so many a month, shared IPs do better.
pub const PER_MONTH_ADVISED: u64 = 30_000;
/// Who sends for less than this is new.
pub const NEW_DAYS: u32 = 30;
/// Half of what a review begins with.
pub const BOUNCES_POOR: f64 = 0.025;
pub const COMPLAINTS_POOR: f64 = 0.000_5;

/// What is wished for.
#[derive(Clone, Debug)]
pub struct Wish<'a> {
    pub per_day: u64,
    pub per_month: u64,
    /// Rather than in bursts.
    pub is_steady: bool,
    /// Each domain it would send from, and whether it is verified.
    pub domains: &'a [(String, bool)],
    /// Where it sends from.
    pub regions: &'a [String],
    /// Whether somebody must put its addresses on a list.
    pub needs_addresses: bool,
}

/// What is known of who wishes it.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// On a plan that may have dedicated IPs, and neither paused nor in the sandbox.
    pub is_active: bool,
    /// How many days ago it sent for the first time.
    pub days: u32,
    pub reputation: &'a Reputation,
}

/// One point, and how it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Never changes once published.
    pub code: &'static str,
    pub met: bool,
    pub words: String,
}

fn point(code: &'static str, met: bool, words: String) -> Point {
    Point { code, met, words }
}

/// What must be so, met or not.
#[must_use]
pub fn requirements(wish: &Wish<'_>, known: Known<'_>) -> Vec<Point> {
    let unverified: Vec<&str> =
        wish.domains.iter().filter(|(_, verified)| !verified).map(|(name, _)| name.as_str()).collect();
    let domains = match (wish.domains.len(), unverified.as_slice()) {
        (0, _) => "Name the domains it would send from.".to_owned(),
        (_, []) => "All of its domains are verified.".to_owned(),
        (_, names) => format!("Verify {} first.", names.join(", ")),
    };
    let active = match known.is_active {
        true => "The account is active.",
        false => "The account needs a plan that may have dedicated IPs, and must neither be paused nor in the sandbox.",
    };
    let region = match wish.regions {
        [] | [_] => "It sends from one region.".to_owned(),
        several => {
            format!("A pool belongs to one region, and this would be {}: ask for one in each.", several.join(", "))
        }
    };
    vec![
        point(
            "volume",
            wish.per_day > PER_DAY_MIN,
            format!("{} messages a day; more than {PER_DAY_MIN} are needed.", wish.per_day),
        ),
        point("active", known.is_active, active.to_owned()),
        point("domains", !wish.domains.is_empty() && unverified.is_empty(), domains),
        point("one-region", wish.regions.len() <= 1, region),
    ]
}

/// What speaks against dedicated sending, as far as it does: those that are not met.
#[must_use]
pub fn advice(wish: &Wish<'_>, known: Known<'_>) -> Vec<Point> {
    let Reputation { bounces, complaints, .. } = known.reputation;
    let enough = known.reputation.is_enough();
    let good = |share: &Share, poor: f64| !enough || share.rate() < poor;
    let all = [
        point(
            "volume-advised",
            wish.per_month >= PER_MONTH_ADVISED,
            format!(
                "{} messages a month are few for IPs of one's own: providers forget who sends under {PER_MONTH_ADVISED}. Shared IPs do \
                 better.",
                wish.per_month
            ),
        ),
        point(
            "steady",
            wish.is_steady,
            "Bursts look like somebody broke in: between them the IPs cool, and the next one is throttled. Spread the mail over days, \
             or stay on shared IPs."
                .into(),
        ),
        point(
            "bounces",
            good(bounces, BOUNCES_POOR),
            format!("{} of its mail bounced, and alone on an IP nobody makes up for that. Clean the lists first.", percent(bounces.rate())),
        ),
        point(
            "complaints",
            good(complaints, COMPLAINTS_POOR),
            format!(
                "{} of its mail was complained of, and alone on an IP nobody makes up for that. Find out first why.",
                percent(complaints.rate())
            ),
        ),
        point(
            "known-sender",
            known.days >= NEW_DAYS,
            format!("It sends for {} days: make a name on shared IPs for {NEW_DAYS} days first.", known.days),
        ),
        point(
            "addresses",
            !wish.needs_addresses,
            "The addresses of a managed pool are never told, and change. Who must be on an allow list needs standard dedicated IPs."
                .into(),
        ),
    ];
    all.into_iter().filter(|point| !point.met).collect()
}

#[cfg(test)]
mod tests {
    use super::{Known, Wish, advice, requirements};
    use crate::reputation::{Beside, Day, Outcomes, Reputation, Share, Thresholds, measure};
    use std::sync::Arc;

    // R3.8: each failing requirement is named; advice is given when dedicated sending would hurt.
    #[test]
    fn spec_r3_8_what_is_missing_is_named_and_what_would_hurt_is_told() {
        let domains = [("a.example".to_owned(), true), ("b.example".to_owned(), false)];
        let regions = ["local".to_owned(), "far".to_owned()];
        let poor = Wish {
            per_day: 500,
            per_month: 9_000,
            is_steady: false,
            domains: &domains,
            regions: &regions,
            needs_addresses: true,
        };
        let outcomes = Outcomes { delivered: 1_900, hard: 100, complained: 3, ..Outcomes::default() };
        let beside = Beside { tells: &|_| true, is_listed: false, traps: Share::default() };
        let bad = measure(&[Day::from([(Arc::from("yahoo"), outcomes)])], beside, Thresholds::default());
        let known = Known { is_active: false, days: 3, reputation: &bad };
        let missing: Vec<&str> =
            requirements(&poor, known).iter().filter(|point| !point.met).map(|point| point.code).collect();
        assert_eq!(missing, ["volume", "active", "domains", "one-region"]);
        assert!(requirements(&poor, known)[2].words.contains("Verify b.example first"));
        let codes: Vec<&str> = advice(&poor, known).iter().map(|point| point.code).collect();
        assert_eq!(codes, ["volume-advised", "steady", "bounces", "complaints", "known-sender", "addresses"]);

        let good = Wish {
            per_day: 501,
            per_month: 30_000,
            is_steady: true,
            domains: &domains[..1],
            regions: &regions[..1],
            needs_addresses: false,
        };
        let known = Known { is_active: true, days: 30, reputation: &Reputation::default() };
        assert!(requirements(&good, known).iter().all(|point| point.met));
        assert_eq!(advice(&good, known), []);
    }
}
