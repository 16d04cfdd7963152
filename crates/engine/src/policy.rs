//! By which criteria is a request granted without asking a person, and how close is this one? (R7.4)
//!
//! A criterion that is not set does not count. All that are set must be met; each says its figure, so that nobody has to guess.

use crate::case::CaseKind;
use crate::fit::Point;
use serde::{Deserialize, Serialize};

/// What an operator sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Criteria {
    /// Days in good standing.
    pub standing_days_min: Option<u32>,
    /// Messages of the last four weeks.
    pub sent_min: Option<u64>,
    /// Of 10,000 messages; at that share it is not met.
    pub bounces_below: Option<u32>,
    pub complaints_below: Option<u32>,
    /// The wanted daily quota, as a multiple of the busiest of the last fourteen days.
    pub times_peak_max: Option<u32>,
    pub per_day_max: Option<i64>,
    pub per_second_max: Option<i64>,
    /// IPs that the account would hold then.
    pub ips_max: Option<u32>,
    /// All three statements are made.
    pub statements: bool,
    /// Of a managed pool: all that is required is met.
    pub requirements: bool,
    /// One of these, as their codes; empty: any.
    pub plans: Vec<String>,
}

/// What is known when somebody asks; kept with the case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Facts {
    pub plan: String,
    /// Days since it may send and was not stopped.
    pub standing_days: u32,
    /// Of the last four weeks, and of its busiest day of the last fourteen.
    pub sent: u64,
    pub peak_day: u64,
    pub bounces_per_10000: f64,
    pub complaints_per_10000: f64,
    pub ips_held: u32,
    /// What is asked for.
    pub wanted_ips: u32,
    pub wanted_per_day: i64,
    pub wanted_per_second: i64,
    /// Whether all three statements are made.
    pub statements: bool,
    /// How much of what is required is not met.
    pub unmet: u32,
}

/// Each criterion that is set, and whether it is met.
#[must_use]
pub fn judge(criteria: &Criteria, facts: &Facts) -> Vec<Point> {
    let mut points = Vec::new();
    let mut add = |code, met, words: String| points.push(Point { code, met, words });
    if let Some(min) = criteria.standing_days_min {
        let days = facts.standing_days;
        add("standing", days >= min, format!("In good standing for {days} days; at least {min} are needed."));
    }
    if let Some(min) = criteria.sent_min {
        add(
            "sent",
            facts.sent >= min,
            format!("{} messages sent in four weeks; at least {min} are needed.", facts.sent),
        );
    }
    // Who has sent nothing has shown nothing, and no bounce of nothing is a good figure.
    let shown = facts.sent > 0;
    for (code, what, below, is) in [
        ("bounces", "bounced", criteria.bounces_below, facts.bounces_per_10000),
        ("complaints", "was complained of", criteria.complaints_below, facts.complaints_per_10000),
    ] {
        if let Some(below) = below {
            let met = shown && is < f64::from(below);
            let below = percent(f64::from(below));
            let words = match shown {
                true => format!("{} of its mail {what}; it must be under {below}.", percent(is)),
                false => format!("It has sent nothing yet: nobody knows whether less than {below} of its mail {what}."),
            };
            add(code, met, words);
        }
    }
    if let Some(times) = criteria.times_peak_max {
        let may = i64::try_from(facts.peak_day).unwrap_or(i64::MAX).saturating_mul(i64::from(times));
        let words = format!(
            "{} a day are wanted; the busiest of the last 14 days had {}, and {times} times that, {may}, is the most.",
            facts.wanted_per_day, facts.peak_day
        );
        add("times-peak", facts.wanted_per_day <= may, words);
    }
    if let Some(max) = criteria.per_day_max {
        let is = facts.wanted_per_day;
        add("per-day", is <= max, format!("{is} a day are wanted; {max} is the most."));
    }
    if let Some(max) = criteria.per_second_max {
        let is = facts.wanted_per_second;
        add("per-second", is <= max, format!("{is} a second are wanted; {max} is the most."));
    }
    if let Some(max) = criteria.ips_max {
        let would = facts.ips_held.saturating_add(facts.wanted_ips);
        let words = format!("It has {} IPs and wants {}; {max} is the most.", facts.ips_held, facts.wanted_ips);
        add("ips", would <= max, words);
    }
    if criteria.statements {
        let made = if facts.statements { "are made" } else { "are not all made" };
        add("statements", facts.statements, format!("The three statements {made}."));
    }
    if criteria.requirements {
        add(
            "requirements",
            facts.unmet == 0,
            format!("{} points of what a managed pool requires are not met.", facts.unmet),
        );
    }
    if !criteria.plans.is_empty() {
        let words = format!("Its plan is {}; it must be {}.", facts.plan, criteria.plans.join(" or "));
        add("plan", criteria.plans.contains(&facts.plan), words);
    }
    points
}

/// Criteria that say nothing about a request of this kind are a mistake: the first of their fields.
pub fn fits(kind: CaseKind, criteria: &Criteria) -> Result<(), &'static str> {
    let is_quota = matches!(kind, CaseKind::Quota | CaseKind::LeaveSandbox);
    let is_ips = kind == CaseKind::DedicatedIps;
    let wrong = [
        ("times_peak_max", criteria.times_peak_max.is_some() && !is_quota),
        ("per_day_max", criteria.per_day_max.is_some() && !is_quota),
        ("per_second_max", criteria.per_second_max.is_some() && !is_quota),
        ("ips_max", criteria.ips_max.is_some() && !is_ips),
        ("statements", criteria.statements && !is_quota),
        ("requirements", criteria.requirements && kind != CaseKind::ManagedPool),
    ];
    match wrong.into_iter().find(|(_, is_wrong)| *is_wrong) {
        Some((field, _)) => Err(field),
        None => Ok(()),
    }
}

fn percent(per_10000: f64) -> String {
    format!("{:.2} %", per_10000 / 100.0)
}

#[cfg(test)]
mod tests {
    use super::{Criteria, Facts, fits, judge};
    use crate::case::CaseKind;

    fn good() -> Facts {
        Facts {
            plan: "standard".into(),
            standing_days: 40,
            sent: 20_000,
            peak_day: 2_000,
            bounces_per_10000: 80.0,
            complaints_per_10000: 1.0,
            wanted_per_day: 6_000,
            statements: true,
            ..Facts::default()
        }
    }

    // R7.4: the example of the issue: good for 30 days, bounces under 2 %, complaints under 0.05 %, at most three times the peak.
    #[test]
    fn all_that_is_set_must_be_met_and_says_its_figure() {
        let criteria = Criteria {
            standing_days_min: Some(30),
            bounces_below: Some(200),
            complaints_below: Some(5),
            times_peak_max: Some(3),
            statements: true,
            ..Criteria::default()
        };
        let unmet = |facts: &Facts| -> Vec<&str> {
            judge(&criteria, facts).into_iter().filter(|point| !point.met).map(|point| point.code).collect()
        };
        assert_eq!(unmet(&good()), Vec::<&str>::new());
        assert_eq!(unmet(&Facts { standing_days: 29, ..good() }), ["standing"]);
        assert_eq!(unmet(&Facts { bounces_per_10000: 200.0, ..good() }), ["bounces"]);
        assert_eq!(unmet(&Facts { complaints_per_10000: 5.1, ..good() }), ["complaints"]);
        assert_eq!(unmet(&Facts { wanted_per_day: 6_001, ..good() }), ["times-peak"]);
        assert_eq!(unmet(&Facts { statements: false, ..good() }), ["statements"]);
        // Who has sent nothing has no good figures.
        assert_eq!(unmet(&Facts { sent: 0, peak_day: 0, ..good() }), ["bounces", "complaints", "times-peak"]);
        let words: Vec<String> = judge(&criteria, &good()).into_iter().map(|point| point.words).collect();
        assert_eq!(words[1], "0.80 % of its mail bounced; it must be under 2.00 %.");
        assert!(words[3].contains("2000, and 3 times that, 6000, is the most"), "{}", words[3]);
    }

    #[test]
    fn what_is_not_set_does_not_count() {
        assert!(judge(&Criteria::default(), &Facts::default()).is_empty());
        let plans = Criteria { plans: vec!["enterprise".into()], ..Criteria::default() };
        assert!(!judge(&plans, &good())[0].met);
        assert_eq!(fits(CaseKind::Quota, &Criteria { ips_max: Some(2), ..Criteria::default() }), Err("ips_max"));
        assert_eq!(fits(CaseKind::DedicatedIps, &Criteria { ips_max: Some(2), ..Criteria::default() }), Ok(()));
    }
}
