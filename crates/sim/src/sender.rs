//! How much does a sender send when, and what is its mail like?

use crate::provider::Quality;

const MINUTES_A_DAY: u64 = 24 * 60;

/// How its mail is spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rhythm {
    Even,
    /// Most of it about noon, and less on two days of seven.
    Working,
    /// All of a day's mail within two hours of the morning.
    Campaign,
}

impl Rhythm {
    /// How much of a day's mail has come by this part of the day: what `Sender::rate` adds up to, without its weeks.
    fn passed(self, of_day: f64) -> f64 {
        use std::f64::consts::TAU;
        let wave = |of_day: f64| (TAU * (of_day - 1.0 / 24.0)).sin();
        match self {
            Rhythm::Even => of_day,
            Rhythm::Working => of_day - 0.7 / TAU * (wave(of_day) - wave(0.0)),
            Rhythm::Campaign => ((of_day - 9.0 / 24.0) * 12.0).clamp(0.0, 1.0),
        }
    }

    /// What of a day's mail, whose sum is known, comes in this minute of it.
    #[must_use]
    pub fn in_minute(self, of_day: u64, minute: u64) -> u64 {
        let until = |minute: u64| (of_day as f64 * self.passed(minute as f64 / MINUTES_A_DAY as f64)).round() as u64;
        until(minute + 1).saturating_sub(until(minute))
    }
}

/// What is otherwise from a day on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    pub day: u32,
    pub per_day: f64,
    pub quality: Quality,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sender {
    pub per_day: f64,
    pub quality: Quality,
    pub rhythm: Rhythm,
    /// What providers think of its domain at the beginning.
    pub domain_reputation: f64,
    pub lifetime_hours: u64,
    /// By their days.
    pub changes: Vec<Change>,
}

impl Sender {
    /// As a company sends that asks before it writes.
    #[must_use]
    pub fn good(per_day: f64) -> Sender {
        Sender {
            per_day,
            quality: Quality { unknown: 0.005, complaints: 0.000_3, traps: 0.0, engaged: 0.2 },
            rhythm: Rhythm::Working,
            domain_reputation: 0.8,
            lifetime_hours: 14,
            changes: Vec::new(),
        }
    }

    /// How much of an average day it sends in this minute, counted from the first.
    #[must_use]
    pub fn rate(&self, minute: u64) -> f64 {
        let per_minute = self.on(minute / MINUTES_A_DAY).0 / MINUTES_A_DAY as f64;
        let of_day = (minute % MINUTES_A_DAY) as f64 / MINUTES_A_DAY as f64;
        per_minute
            * match self.rhythm {
                Rhythm::Even => 1.0,
                Rhythm::Working => {
                    let weekday = (minute / MINUTES_A_DAY) % 7;
                    // Five days of 1.12 and two of 0.7 are seven.
                    let of_week = if weekday < 5 { 1.12 } else { 0.7 };
                    of_week * (1.0 - 0.7 * (std::f64::consts::TAU * (of_day - 1.0 / 24.0)).cos())
                }
                Rhythm::Campaign if (9.0 / 24.0..11.0 / 24.0).contains(&of_day) => 12.0,
                Rhythm::Campaign => 0.0,
            }
    }

    /// Messages a day and what they are like, on this day.
    #[must_use]
    pub fn on(&self, day: u64) -> (f64, Quality) {
        let last = self.changes.iter().rev().find(|change| u64::from(change.day) <= day);
        last.map_or((self.per_day, self.quality), |change| (change.per_day, change.quality))
    }
}

#[cfg(test)]
mod tests {
    use super::{MINUTES_A_DAY, Rhythm, Sender};

    #[test]
    fn every_rhythm_sends_a_weeks_mail_in_a_week() {
        for rhythm in [Rhythm::Even, Rhythm::Working, Rhythm::Campaign] {
            let sender = Sender { rhythm, ..Sender::good(1_000.0) };
            let sum: f64 = (0..7 * MINUTES_A_DAY).map(|minute| sender.rate(minute)).sum();
            assert!((6_900.0..7_100.0).contains(&sum), "{rhythm:?}: {sum}");
        }
    }

    #[test]
    fn a_known_days_mail_comes_in_its_day_and_rhythm() {
        for rhythm in [Rhythm::Even, Rhythm::Working, Rhythm::Campaign] {
            for of_day in [0, 1, 7, 1_440, 123_457] {
                let minutes = (0..MINUTES_A_DAY).map(|minute| rhythm.in_minute(of_day, minute));
                assert_eq!(minutes.sum::<u64>(), of_day, "{rhythm:?}");
            }
            let sender = Sender { rhythm, ..Sender::good(1e6) };
            let of_hour = |hour: u64| hour * 60..(hour + 1) * 60;
            for hour in 0..24 {
                let known: u64 = of_hour(hour).map(|minute| rhythm.in_minute(1_000_000, minute)).sum();
                let of_week = if rhythm == Rhythm::Working { 1.12 } else { 1.0 };
                let usual: f64 = of_hour(hour).map(|minute| sender.rate(minute) / of_week).sum();
                assert!((known as f64 - usual).abs() < 1_000.0, "{rhythm:?} at {hour}: {known} {usual}");
            }
        }
    }
}
