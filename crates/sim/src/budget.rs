//! Who says how much an IP may send today? What Weir does, and what others do, side by side.

use engine::judged::{Became, Step};
use engine::provider::Slope;
use engine::time::Timestamp;
use engine::warmup::{Course, Free, Warmth};

const DAY_MICROS: i64 = 86_400_000_000;
const DAY_S: i64 = 86_400;

/// What decides.
#[derive(Clone, Debug)]
pub enum Budget {
    /// Weir's own.
    Own { course: Course, warmth: Warmth },
    /// A vendor's table, which hears nothing but what was delivered of what was tried.
    Table { course: Course, warmth: Warmth },
    /// Others' laws, which judge a day when it is over.
    Daily(Daily),
}

/// So much a day, spread over it, and what was answered.
#[derive(Clone, Debug)]
pub struct Daily {
    law: Law,
    volume: u64,
    day: i64,
    taken: u64,
    answers: u64,
    throttled: u64,
    blocked: u64,
}

#[derive(Clone, Debug)]
enum Law {
    /// Additive increase and multiplicative decrease: steeply up to half of where it failed, a tenth of that beyond, half after a day on
    /// which it was asked to go slower, a quarter after a block.
    Aimd { growth_percent: u64, failed_at: Option<u64> },
    /// A controller that holds the share of answers that were no yes at its aim: by how far it is from it today, how far it was in all
    /// days together, and how fast that changes.
    Pid { sum: f64, before: f64 },
}

/// The aim: of a thousand answers five. Errors are counted in aims: one where nothing was refused, and no worse than this.
const AIM: f64 = 0.005;
const ERROR_MIN: f64 = -4.0;
/// What is summed up stays within these, or a calm month would drown out a bad day.
const SUM_MAX: f64 = 3.0;
/// The weights of error, sum and change in the logarithm of the next day's volume; and by how much a day may differ from the one before.
const WEIGHTS: [f64; 3] = [0.35, 0.05, 0.1];
const FACTOR_MIN: f64 = 0.25;
const FACTOR_MAX: f64 = 2.0;

impl Daily {
    #[must_use]
    pub fn aimd(slope: Slope, now: Timestamp) -> Daily {
        Daily::begun(Law::Aimd { growth_percent: u64::from(slope.growth_percent), failed_at: None }, slope, now)
    }

    #[must_use]
    pub fn pid(slope: Slope, now: Timestamp) -> Daily {
        Daily::begun(Law::Pid { sum: 0.0, before: 0.0 }, slope, now)
    }

    fn begun(law: Law, slope: Slope, now: Timestamp) -> Daily {
        let day = now.0.div_euclid(DAY_MICROS);
        Daily { law, volume: slope.first, day, taken: 0, answers: 0, throttled: 0, blocked: 0 }
    }

    fn turn(&mut self, now: Timestamp) {
        let day = now.0.div_euclid(DAY_MICROS);
        if day <= self.day {
            return;
        }
        let was = self.volume;
        let is_used = self.taken * 100 >= was * 80;
        match &mut self.law {
            Law::Aimd { growth_percent, failed_at } => {
                if self.blocked > 0 {
                    (self.volume, *failed_at) = ((was / 4).max(1), Some(was));
                } else if self.throttled > 0 {
                    (self.volume, *failed_at) = ((was / 2).max(1), Some(was));
                } else if is_used {
                    self.volume = match *failed_at {
                        Some(failed) if was >= failed / 2 => was + (failed / 10).max(1),
                        _ => was * *growth_percent / 100,
                    };
                }
            }
            Law::Pid { sum, before } => {
                let noes = (self.throttled + self.blocked) as f64 / self.answers.max(1) as f64;
                let error = ((AIM - noes) / AIM).max(ERROR_MIN);
                // What was not asked for says nothing about more.
                if is_used || error < 0.0 {
                    *sum = (*sum + error).clamp(-SUM_MAX, SUM_MAX);
                    let [by_error, by_sum, by_change] = WEIGHTS;
                    let next = by_error * error + by_sum * *sum + by_change * (error - *before);
                    *before = error;
                    self.volume = ((was as f64 * next.exp().clamp(FACTOR_MIN, FACTOR_MAX)).ceil() as u64).max(1);
                }
            }
        }
        (self.day, self.taken, self.answers, self.throttled, self.blocked) = (day, 0, 0, 0, 0);
    }

    fn free(&self, now: Timestamp) -> u64 {
        let elapsed = now.0.rem_euclid(DAY_MICROS) / 1_000_000;
        let earned = self.volume * u64::try_from(elapsed).unwrap_or(0) / DAY_S.unsigned_abs();
        (earned + (self.volume / 10).max(20)).min(self.volume).saturating_sub(self.taken)
    }

    fn note(&mut self, became: Became, messages: u64) {
        self.answers += messages;
        match became {
            Became::Throttled => self.throttled += messages,
            Became::Blocked => self.blocked += messages,
            Became::Delivered | Became::Deferred | Became::Bounced => {}
        }
    }
}

impl Budget {
    pub fn turn(&mut self, now: Timestamp) -> Vec<Step> {
        match self {
            Budget::Own { course, warmth } | Budget::Table { course, warmth } => warmth.turn(course, now),
            Budget::Daily(daily) => {
                daily.turn(now);
                Vec::new()
            }
        }
    }

    /// How many may go now, while so many wait.
    #[must_use]
    pub fn free(&self, waiting: u64, now: Timestamp) -> u64 {
        match self {
            Budget::Own { course, warmth } | Budget::Table { course, warmth } => {
                match warmth.free(course, waiting, now) {
                    Free::All => u64::MAX,
                    Free::Some(places) => places,
                    Free::From(_) => 0,
                }
            }
            Budget::Daily(daily) => daily.free(now),
        }
    }

    /// Messages of this day; none: without limit.
    #[must_use]
    pub fn allowed(&self) -> Option<u64> {
        match self {
            Budget::Own { course, warmth } | Budget::Table { course, warmth } => warmth.allowed(course),
            Budget::Daily(daily) => Some(daily.volume),
        }
    }

    /// Whether nothing goes for a while, because of what was heard.
    #[must_use]
    pub fn is_closed(&self, now: Timestamp) -> bool {
        matches!(self, Budget::Own { warmth, .. } if warmth.closed(now).is_some())
    }

    /// What was taken of it today.
    #[must_use]
    pub fn taken(&self) -> u64 {
        match self {
            Budget::Own { warmth, .. } | Budget::Table { warmth, .. } => warmth.today().taken,
            Budget::Daily(daily) => daily.taken,
        }
    }

    /// What is asked of it in a day, by Weir's own; the others do not ask.
    #[must_use]
    pub fn wanted(&self, waiting: u64, now: Timestamp) -> Option<u64> {
        match self {
            Budget::Own { warmth, .. } => Some(warmth.wanted(waiting, now)),
            Budget::Table { .. } | Budget::Daily(_) => None,
        }
    }

    /// What this hour may carry and what is asked of it.
    #[must_use]
    pub fn hour(&self, waiting: u64) -> Option<(u64, u64)> {
        match self {
            Budget::Own { course, warmth } => warmth.hour(course, waiting),
            Budget::Table { .. } | Budget::Daily(_) => None,
        }
    }

    pub fn take(&mut self, messages: u64) {
        match self {
            Budget::Own { warmth, .. } | Budget::Table { warmth, .. } => warmth.take(messages),
            Budget::Daily(daily) => daily.taken += messages,
        }
    }

    pub fn turned_away(&mut self, messages: u64) {
        if let Budget::Own { warmth, .. } = self {
            warmth.turned_away(messages);
        }
    }

    pub fn note(&mut self, became: Became, messages: u64, now: Timestamp) -> Option<Step> {
        match self {
            Budget::Own { course, warmth } => warmth.note(course, became, messages, now),
            // A table goes by what was delivered of it, or by nothing.
            Budget::Table { course, warmth } => {
                if became == Became::Delivered {
                    warmth.note(course, became, messages, now)
                } else {
                    None
                }
            }
            Budget::Daily(daily) => {
                daily.note(became, messages);
                None
            }
        }
    }

    pub fn complained(&mut self, messages: u64, now: Timestamp) -> Option<Step> {
        match self {
            Budget::Own { course, warmth } => warmth.complained(course, messages, now),
            Budget::Table { .. } | Budget::Daily(_) => None,
        }
    }
}
