//! How do so many messages of a day, with what became of them, look? What is decided about a warm-up, in words.

use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Hard bounces and complaints, in ten thousandths.
const BOUNCED: Bad = Bad { hold: 300, halve: 500, stop: 1_000, least: 10 };
const COMPLAINED: Bad = Bad { hold: 10, halve: 20, stop: 50, least: 3 };

struct Bad {
    hold: u64,
    halve: u64,
    stop: u64,
    least: u64,
}

impl Bad {
    /// How bad so many of so many are. What has consequences within the day must be sure to be beyond the step before: one complaint
    /// of three hundred messages says nothing.
    fn grade(&self, count: u64, of: u64) -> Grade {
        if count < self.least {
            return Grade::Good;
        }
        let (rate, sure) = (count * 10_000 / of.max(1), lower_bound(count, of));
        match rate {
            _ if rate >= self.stop && sure >= self.halve => Grade::Stop,
            _ if rate >= self.halve && sure >= self.hold => Grade::Halve,
            _ if rate >= self.hold => Grade::Hold,
            _ => Grade::Good,
        }
    }
}

/// How bad: nothing to say, not good enough to go on from, back to a half, or no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    Good,
    Hold,
    Halve,
    Stop,
}

/// What a share can be that showed itself as so many of so many: Wilson's limits, so many standard deviations wide.
#[must_use]
pub fn limits((count, of): (u64, u64), z: f64) -> (f64, f64) {
    if of == 0 {
        return (0.0, 1.0);
    }
    let (n, z2) = (of as f64, z * z);
    let p = (count as f64 / n).min(1.0);
    let middle = p + z2 / (2.0 * n);
    let spread = (z2 * (p * (1.0 - p) / n + z2 / (4.0 * n * n))).sqrt();
    let limit = |at: f64| (at / (1.0 + z2 / n)).clamp(0.0, 1.0);
    (limit(middle - spread), limit(middle + spread))
}

/// The lower one of them, with 95 % certainty, in ten thousandths.
#[must_use]
pub fn lower_bound(count: u64, of: u64) -> u64 {
    (limits((count, of), 1.96).0 * 10_000.0) as u64
}

/// Messages of a day, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// That had a place.
    pub taken: u64,
    /// That found none, and left for another IP.
    pub turned_away: u64,
    pub delivered: u64,
    /// Asked to come again later, for whatever reason.
    pub deferred: u64,
    /// Of these, because it was too much or too fast.
    pub throttled: u64,
    pub bounced: u64,
    pub blocked: u64,
    pub complained: u64,
}

impl Counts {
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.delivered + self.deferred + self.bounced + self.blocked
    }

    /// What was asked for.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.taken + self.turned_away
    }

    /// Both together.
    #[must_use]
    pub fn and(&self, other: &Counts) -> Counts {
        Counts {
            taken: self.taken + other.taken,
            turned_away: self.turned_away + other.turned_away,
            delivered: self.delivered + other.delivered,
            deferred: self.deferred + other.deferred,
            throttled: self.throttled + other.throttled,
            bounced: self.bounced + other.bounced,
            blocked: self.blocked + other.blocked,
            complained: self.complained + other.complained,
        }
    }

    /// By its bounces.
    #[must_use]
    pub fn bounces(&self) -> Grade {
        BOUNCED.grade(self.bounced, self.tried())
    }

    /// By its complaints.
    #[must_use]
    pub fn complaints(&self) -> Grade {
        COMPLAINED.grade(self.complained, self.delivered)
    }

    pub fn count(&mut self, became: Became, messages: u64) {
        let count = match became {
            Became::Delivered => &mut self.delivered,
            Became::Deferred => &mut self.deferred,
            Became::Throttled => {
                self.throttled = self.throttled.saturating_add(messages);
                &mut self.deferred
            }
            Became::Bounced => &mut self.bounced,
            Became::Blocked => &mut self.blocked,
        };
        *count = count.saturating_add(messages);
    }
}

/// What became of a message that had a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    Delivered,
    /// For a reason of the recipient's or the provider's own.
    Deferred,
    /// Because it was too much or too fast.
    Throttled,
    /// For good, and because of the recipient.
    Bounced,
    /// Because of us.
    Blocked,
}

/// What is decided about it, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Judged {
    /// The day was used and went well: more.
    Advanced,
    /// Too little was asked of it, or delivered.
    Unused,
    /// Too much was deferred, bounced or complained of to go on, and not so much to go back.
    Mixed,
    /// Bounces, complaints or deferrals: half of it.
    Bad,
    /// It was blocked: a quarter of it.
    Blocked,
    /// By order.
    Paused,
    /// For some days nearly nothing was sent: less.
    Cooled,
    /// For so long that it begins anew.
    Cold,
    /// What is asked of it is less than what it may by now.
    Finished,
    /// The provider asked to go slower: nothing for a while, and no more than what was taken.
    Throttled,
    /// Bounces or complaints are far too many: nothing for a day, and a quarter of it then.
    Stopped,
    /// It was blocked again within a week: it begins anew.
    BlockedAgain,
    /// A day that went well after one that did not: as much as before.
    Recovering,
    // New ones stand at the end: the spool knows them by their number.
}

impl Judged {
    /// Never changes once published.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Judged::Advanced => "warm-up-advanced",
            Judged::Unused => "warm-up-unused",
            Judged::Mixed => "warm-up-mixed",
            Judged::Bad => "warm-up-bad",
            Judged::Blocked => "warm-up-blocked",
            Judged::Paused => "warm-up-paused",
            Judged::Cooled => "warm-up-cooled",
            Judged::Cold => "warm-up-cold",
            Judged::Finished => "warm-up-finished",
            Judged::Throttled => "warm-up-throttled",
            Judged::Stopped => "warm-up-stopped",
            Judged::BlockedAgain => "warm-up-blocked-again",
            Judged::Recovering => "warm-up-recovering",
        }
    }

    /// A sentence without its full stop.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Judged::Advanced => "the day was used and went well: it may send more",
            Judged::Unused => "too little of the day was used to go on",
            Judged::Mixed => "too much was deferred, bounced or complained of to go on",
            Judged::Bad => "bounces, complaints or deferrals were too many: back to half of it",
            Judged::Blocked => "it was blocked: back to a quarter of it",
            Judged::Paused => "its warm-up is paused by order",
            Judged::Cooled => "nearly nothing was sent for some days: it may send less",
            Judged::Cold => "nearly nothing was sent for thirty days: it begins anew",
            Judged::Finished => "what is asked of it is less than what it may: it is warm",
            Judged::Throttled => "the provider asked it to go slower: it rests, and keeps to what was taken",
            Judged::Stopped => {
                "bounces or complaints were far too many: it stops for a day, and goes on with a quarter"
            }
            Judged::BlockedAgain => "it was blocked again within a week: it begins anew",
            Judged::Recovering => "the day went well after one that did not: one more like it before it grows",
        }
    }
}

/// A step of its way, with the figures it was decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Days since 1970.
    pub day: i64,
    pub judged: Judged,
    /// Messages a day, before and after.
    pub from: u64,
    pub to: u64,
    pub counts: Counts,
    /// Nothing goes before.
    pub until: Option<Timestamp>,
}

impl Step {
    /// What was decided, and by which figures; a sentence without its full stop.
    #[must_use]
    pub fn words(&self) -> String {
        let Counts { delivered, deferred, bounced, blocked, complained, .. } = self.counts;
        let mut figures = format!("{delivered} of {} delivered", self.counts.tried());
        let others =
            [(deferred, "deferred"), (bounced, "bounced"), (blocked, "blocked"), (complained, "complained of")];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            figures.push_str(&format!(", {count} {what}"));
        }
        let volume = match self.judged {
            Judged::Finished => "no limit any more".to_owned(),
            _ if self.from == self.to => format!("still {} a day", self.to),
            _ => format!("{} a day instead of {}", self.to, self.from),
        };
        format!("{} ({figures}; {volume})", self.judged.words())
    }
}

/// What an operator commands of it (R4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ordered {
    Pause,
    Resume,
    /// Begin at the first stage.
    Restart,
    /// Go on from this stage; of a learned course, from a volume as high as that percentage of what is asked for.
    Stage(u32),
    Percent(u8),
    /// It is warm.
    Done,
    /// No limit, whatever comes.
    Off,
}

impl Ordered {
    /// Never changes once published.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Ordered::Pause => "warm-up-paused-by-order",
            Ordered::Resume => "warm-up-resumed-by-order",
            Ordered::Restart => "warm-up-restarted-by-order",
            Ordered::Stage(_) | Ordered::Percent(_) => "warm-up-set-by-order",
            Ordered::Done => "warm-up-done-by-order",
            Ordered::Off => "warm-up-off-by-order",
        }
    }

    /// A sentence without its full stop.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Ordered::Pause => "its warm-up was paused: it goes on sending what it may, and nothing brings more".into(),
            Ordered::Resume => "its warm-up was resumed".into(),
            Ordered::Restart => "its warm-up was begun anew".into(),
            Ordered::Stage(stage) => format!("its warm-up was set to stage {stage}"),
            Ordered::Percent(percent) => format!("its warm-up was set to {percent} %"),
            Ordered::Done => "it was declared warm".into(),
            Ordered::Off => "its warm-up was turned off".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::lower_bound;

    #[test]
    fn a_few_say_little() {
        assert_eq!([(1, 300), (3, 300), (30, 3_000), (300, 30_000)].map(|(n, of)| lower_bound(n, of)), [5, 34, 70, 89]);
        assert_eq!((lower_bound(0, 0), lower_bound(0, 100), lower_bound(100, 100)), (0, 0, 9_630));
    }
}
