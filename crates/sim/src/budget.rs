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
    /// Additive increase and multiplicative decrease, day by day, and nothing else.
    Aimd(Aimd),
}

/// From one day to the next: steeply up to half of where it failed, a tenth of that beyond, half after a day on which it was asked to
/// go slower, a quarter after a block.
#[derive(Clone, Debug)]
pub struct Aimd {
    volume: u64,
    growth_percent: u64,
    failed_at: Option<u64>,
    day: i64,
    taken: u64,
    throttled: bool,
    blocked: bool,
}

impl Aimd {
    #[must_use]
    pub fn begun(slope: Slope, now: Timestamp) -> Aimd {
        Aimd {
            volume: slope.first,
            growth_percent: u64::from(slope.growth_percent),
            failed_at: None,
            day: now.0.div_euclid(DAY_MICROS),
            taken: 0,
            throttled: false,
            blocked: false,
        }
    }

    fn turn(&mut self, now: Timestamp) {
        let day = now.0.div_euclid(DAY_MICROS);
        if day <= self.day {
            return;
        }
        let was = self.volume;
        if self.blocked {
            (self.volume, self.failed_at) = ((was / 4).max(1), Some(was));
        } else if self.throttled {
            (self.volume, self.failed_at) = ((was / 2).max(1), Some(was));
        } else if self.taken * 100 >= was * 80 {
            self.volume = match self.failed_at {
                Some(failed) if was >= failed / 2 => was + (failed / 10).max(1),
                _ => was * self.growth_percent / 100,
            };
        }
        (self.day, self.taken, self.throttled, self.blocked) = (day, 0, false, false);
    }

    fn free(&self, now: Timestamp) -> u64 {
        let elapsed = now.0.rem_euclid(DAY_MICROS) / 1_000_000;
        let earned = self.volume * u64::try_from(elapsed).unwrap_or(0) / DAY_S.unsigned_abs();
        (earned + (self.volume / 10).max(20)).min(self.volume).saturating_sub(self.taken)
    }
}

impl Budget {
    pub fn turn(&mut self, now: Timestamp) -> Vec<Step> {
        match self {
            Budget::Own { course, warmth } | Budget::Table { course, warmth } => warmth.turn(course, now),
            Budget::Aimd(aimd) => {
                aimd.turn(now);
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
            Budget::Aimd(aimd) => aimd.free(now),
        }
    }

    /// Messages of this day; none: without limit.
    #[must_use]
    pub fn allowed(&self) -> Option<u64> {
        match self {
            Budget::Own { course, warmth } | Budget::Table { course, warmth } => warmth.allowed(course),
            Budget::Aimd(aimd) => Some(aimd.volume),
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
            Budget::Aimd(aimd) => aimd.taken,
        }
    }

    /// What is asked of it in a day, by Weir's own; the others do not ask.
    #[must_use]
    pub fn wanted(&self, waiting: u64, now: Timestamp) -> Option<u64> {
        match self {
            Budget::Own { warmth, .. } => Some(warmth.wanted(waiting, now)),
            Budget::Table { .. } | Budget::Aimd(_) => None,
        }
    }

    /// What this hour may carry and what is asked of it.
    #[must_use]
    pub fn hour(&self, waiting: u64) -> Option<(u64, u64)> {
        match self {
            Budget::Own { course, warmth } => warmth.hour(course, waiting),
            Budget::Table { .. } | Budget::Aimd(_) => None,
        }
    }

    pub fn take(&mut self, messages: u64) {
        match self {
            Budget::Own { warmth, .. } | Budget::Table { warmth, .. } => warmth.take(messages),
            Budget::Aimd(aimd) => aimd.taken += messages,
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
            Budget::Aimd(aimd) => {
                match became {
                    Became::Throttled => aimd.throttled |= messages > 0,
                    Became::Blocked => aimd.blocked |= messages > 0,
                    Became::Delivered | Became::Deferred | Became::Bounced => {}
                }
                None
            }
        }
    }

    pub fn complained(&mut self, messages: u64, now: Timestamp) -> Option<Step> {
        match self {
            Budget::Own { course, warmth } => warmth.complained(course, messages, now),
            Budget::Table { .. } | Budget::Aimd(_) => None,
        }
    }
}
