//! May this IP speak to this provider now? If not, when, and why not?
//!
//! A lane begins with the provider's rules and learns from answers: a throttle answer halves it, a success streak gives a tenth back,
//! a block answer suspends it. Suspensions extend and never shorten; repeated within a day they double (deliverability, 3.4).

use crate::classify::{Reaction, ReactionKind};
use crate::provider::LaneRules;
use crate::retry::jitter;
use crate::time::Timestamp;
use crate::why::Why;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Yes; or not now, with the first moment worth asking again and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<T> {
    Go(T),
    Wait { until: Timestamp, why: Why },
}

/// The whole pace, in thousandths.
const PACE_FULL: u32 = 1_000;
/// However often a lane is halved, it goes on: a lane that never speaks never learns that it may.
const PACE_MIN: u32 = 16;
/// Accepted in a row, to get a tenth of the pace back.
const STREAK: u32 = 20;
/// A burst may use up this much time of the rate at once.
const BURST_MICROS: i64 = 100_000;
/// What a lane without a limit is halved from.
const RATE_ASSUMED_PER_SECOND: u32 = 100;
/// A suspension doubles when it is repeated within this time,
const REPEAT_WITHIN: Duration = Duration::from_secs(24 * 3_600);
/// and up to this.
const SUSPENSION_MAX: Duration = Duration::from_secs(8 * 3_600);
const SUSPENSION_JITTER_PERCENT: u8 = 10;
/// Silence after which a lane that is held back by its ramp alone may open one connection more: a remote that does not answer the
/// dot must not slow the rest (B5).
pub const RAMP_PATIENCE: Duration = Duration::from_secs(5);

/// One IP towards one provider.
#[derive(Debug)]
pub struct Shape {
    pub rules: LaneRules,
    pace: u32,
    streak: u32,
    /// When the next message would be on time (GCRA: the rate as one number).
    due: Timestamp,
    ramp: u32,
    ramp_accepted: u32,
    heard_at: Timestamp,
    per_minute: Option<Limit>,
    connections: Option<Limit>,
    per_connection: Option<Limit>,
    bench: Bench,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Limit {
    max: u32,
    until: Timestamp,
    said: Arc<str>,
}

/// What a lane has learned from answers, to go on with after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lesson {
    pace: u32,
    heard_at: Timestamp,
    per_minute: Option<Limit>,
    connections: Option<Limit>,
    per_connection: Option<Limit>,
    pub bench: Bench,
}

impl Lesson {
    /// Not worth keeping: a lane without it would do the same, or it is a pace that nobody has asked for in a day.
    #[must_use]
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        let limits = [&self.per_minute, &self.connections, &self.per_connection];
        let over = limits.into_iter().flatten().all(|limit| limit.until <= now);
        let full = self.pace == PACE_FULL || now.since(self.heard_at) >= REPEAT_WITHIN;
        full && over && self.bench.is_forgotten(now)
    }
}

/// What a reaction changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Slowed { until: Timestamp },
    Suspended { until: Timestamp },
}

impl Shape {
    #[must_use]
    pub fn new(rules: LaneRules, now: Timestamp) -> Shape {
        Shape {
            rules,
            pace: PACE_FULL,
            streak: 0,
            due: now,
            ramp: 1,
            ramp_accepted: 0,
            heard_at: now,
            per_minute: None,
            connections: None,
            per_connection: None,
            bench: Bench::default(),
        }
    }

    /// May a message start now?
    #[must_use]
    pub fn may_start(&self, now: Timestamp) -> Verdict<()> {
        if let Some((until, why)) = self.bench.open(now) {
            return Verdict::Wait { until, why };
        }
        let ready = Timestamp(self.due.0 - BURST_MICROS.min(self.burst(now)));
        if ready <= now {
            return Verdict::Go(());
        }
        let why = match self.limit(self.per_minute.as_ref(), now) {
            Some(limit) => Why::LaneSlowed { said: limit.said.to_string() },
            None => Why::RateUsed,
        };
        Verdict::Wait { until: ready, why }
    }

    /// How many may start in so much time, as it is now.
    #[must_use]
    pub fn most_in(&self, span: Duration, now: Timestamp) -> u64 {
        if self.bench.open(now).is_some() {
            return 0;
        }
        let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        micros.checked_div(self.spacing(now).unsigned_abs()).unwrap_or(u64::MAX)
    }

    /// Takes one place of the rate. What nothing was sent for is given back.
    pub fn reserve(&mut self, now: Timestamp) {
        self.due = Timestamp(self.due.0.max(now.0) + self.spacing(now));
    }

    pub fn give_back(&mut self, now: Timestamp) {
        self.due = Timestamp(self.due.0 - self.spacing(now));
    }

    /// How many connections the lane may have now.
    #[must_use]
    pub fn connections_allowed(&self, now: Timestamp) -> u32 {
        let max = self.connections_limit(now);
        if self.rules.ramp { max.min(self.ramp) } else { max }
    }

    /// The same without the ramp.
    #[must_use]
    pub fn connections_limit(&self, now: Timestamp) -> u32 {
        let max = (self.rules.connections_max * self.pace).div_ceil(PACE_FULL).max(1);
        self.limit(self.connections.as_ref(), now).map_or(max, |limit| limit.max.min(max))
    }

    #[must_use]
    pub fn messages_per_connection(&self, now: Timestamp) -> u32 {
        let max = self.rules.messages_per_connection;
        self.limit(self.per_connection.as_ref(), now).map_or(max, |limit| limit.max.min(max))
    }

    /// A message was accepted.
    pub fn accepted(&mut self, now: Timestamp) {
        self.heard_at = now;
        if self.rules.ramp && self.ramp < self.rules.connections_max {
            self.ramp_accepted += 1;
            if self.ramp_accepted >= self.rules.ramp_messages {
                self.ramp_accepted = 0;
                self.ramp = (self.ramp * 2).min(self.rules.connections_max);
            }
        }
        if self.pace < PACE_FULL {
            self.streak += 1;
            if self.streak >= STREAK {
                self.streak = 0;
                self.pace = (self.pace + PACE_FULL / 10).min(PACE_FULL);
            }
        }
    }

    /// The remote answered, whatever it said.
    pub fn heard(&mut self, now: Timestamp) {
        self.heard_at = now;
    }

    /// When the ramp alone holds the lane back and nothing is heard: the moment to open one more.
    #[must_use]
    pub fn patience_ends(&self) -> Timestamp {
        self.heard_at + RAMP_PATIENCE
    }

    pub fn lose_patience(&mut self, now: Timestamp) {
        if now >= self.patience_ends() {
            self.ramp = (self.ramp + 1).min(self.rules.connections_max);
            self.heard_at = now;
        }
    }

    /// Answers to what a provider said. `None`: counted, but it was not yet the n-th time.
    pub fn react(
        &mut self,
        reaction: &Reaction,
        rule: &Arc<str>,
        said: &str,
        now: Timestamp,
        dice: u64,
    ) -> Option<Change> {
        self.streak = 0;
        if !self.bench.counts(reaction, rule, now) {
            return None;
        }
        let limit = |max, lasts: Duration| Limit { max, until: now + lasts, said: Arc::from(said) };
        match reaction.kind {
            ReactionKind::Slow { per_minute, lasts } => {
                // One answer for one cut: what was in flight when the first came says nothing new.
                if self.bench.first_in(rule, "slow", now, Duration::from_secs(60)) {
                    self.pace = (self.pace / 2).max(PACE_MIN);
                    self.ramp = (self.ramp / 2).max(1);
                }
                if let Some(max) = per_minute {
                    self.per_minute = Some(stricter(self.per_minute.take(), limit(max, lasts), now));
                }
                Some(Change::Slowed { until: now + lasts })
            }
            ReactionKind::Connections { max, lasts } => {
                self.connections = Some(stricter(self.connections.take(), limit(max, lasts), now));
                Some(Change::Slowed { until: now + lasts })
            }
            ReactionKind::PerConnection { max, lasts } => {
                self.per_connection = Some(stricter(self.per_connection.take(), limit(max, lasts), now));
                Some(Change::Slowed { until: now + lasts })
            }
            ReactionKind::Suspend { lasts } => {
                self.ramp = 1;
                self.ramp_accepted = 0;
                self.bench.suspend(lasts, rule, said, now, dice).map(|until| Change::Suspended { until })
            }
        }
    }

    pub fn suspend_by_order(&mut self, until: Option<Timestamp>) {
        self.bench.until = until.unwrap_or(Timestamp::MAX);
        self.bench.why = Some(Why::LaneSuspendedByOrder);
    }

    /// The operator knows better: whatever held the lane back is forgotten.
    pub fn resume(&mut self) {
        self.bench = Bench::default();
        self.per_minute = None;
        self.connections = None;
        self.per_connection = None;
        self.pace = PACE_FULL;
    }

    #[must_use]
    pub fn lesson(&self) -> Lesson {
        Lesson {
            pace: self.pace,
            heard_at: self.heard_at,
            per_minute: self.per_minute.clone(),
            connections: self.connections.clone(),
            per_connection: self.per_connection.clone(),
            bench: self.bench.clone(),
        }
    }

    pub fn recall(&mut self, lesson: Lesson) {
        self.pace = lesson.pace.clamp(PACE_MIN, PACE_FULL);
        self.per_minute = lesson.per_minute;
        self.connections = lesson.connections;
        self.per_connection = lesson.per_connection;
        self.bench = lesson.bench;
    }

    /// Suspended now: until when, and why.
    #[must_use]
    pub fn suspended(&self, now: Timestamp) -> Option<(Timestamp, Why)> {
        self.bench.open(now)
    }

    /// The alarm of a rule is raised once an hour.
    pub fn alarm_due(&mut self, rule: &Arc<str>, now: Timestamp) -> bool {
        self.bench.first_in(rule, "alarm", now, Duration::from_secs(3_600))
    }

    /// Nothing is remembered that a new lane would not have.
    #[must_use]
    pub fn is_as_new(&self, now: Timestamp) -> bool {
        self.pace == PACE_FULL && self.bench.is_forgotten(now) && now.since(self.heard_at) > Duration::from_secs(3_600)
    }

    /// Thousandths of the full pace.
    #[must_use]
    pub fn pace(&self) -> u32 {
        self.pace
    }

    #[must_use]
    pub fn slowed(&self, now: Timestamp) -> Option<(Timestamp, Why)> {
        let limits = [&self.per_minute, &self.connections, &self.per_connection];
        let open = limits.into_iter().flatten().filter(|limit| limit.until > now);
        open.max_by_key(|limit| limit.until)
            .map(|limit| (limit.until, Why::LaneSlowed { said: limit.said.to_string() }))
    }

    fn limit<'a>(&self, limit: Option<&'a Limit>, now: Timestamp) -> Option<&'a Limit> {
        limit.filter(|limit| limit.until > now)
    }

    /// Microseconds between two messages; both rates hold, so the slower one counts.
    fn spacing(&self, now: Timestamp) -> i64 {
        let mut spacing = 0;
        let rules = &self.rules;
        let unlimited = rules.messages_per_second == 0 && rules.messages_per_minute == 0;
        let per_second = match rules.messages_per_second {
            0 if unlimited && self.pace < PACE_FULL => RATE_ASSUMED_PER_SECOND,
            given => given,
        };
        if per_second > 0 {
            spacing = 1_000_000 * i64::from(PACE_FULL) / (i64::from(per_second) * i64::from(self.pace));
        }
        if rules.messages_per_minute > 0 {
            let slower =
                60_000_000 * i64::from(PACE_FULL) / (i64::from(rules.messages_per_minute) * i64::from(self.pace));
            spacing = spacing.max(slower);
        }
        if let Some(limit) = self.limit(self.per_minute.as_ref(), now) {
            spacing = spacing.max(60_000_000 / i64::from(limit.max.max(1)));
        }
        spacing
    }

    /// A slow lane has no burst: one a minute means that.
    fn burst(&self, now: Timestamp) -> i64 {
        if self.spacing(now) > BURST_MICROS { 0 } else { BURST_MICROS }
    }
}

/// The lower of two limits, for the longer of their times; a limit that is over does not count.
fn stricter(old: Option<Limit>, new: Limit, now: Timestamp) -> Limit {
    match old.filter(|old| old.until > now) {
        Some(old) => Limit { max: old.max.min(new.max), until: old.until.max(new.until), said: new.said },
        None => new,
    }
}

/// A suspension with its bookkeeping: for a lane, a sending domain or a stream. What only counts towards one does not outlive the
/// process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bench {
    until: Timestamp,
    why: Option<Why>,
    /// When a rule's answers came, as far back as its reactions look.
    #[serde(skip)]
    hits: BTreeMap<(Arc<str>, u32), VecDeque<Timestamp>>,
    /// How often a rule suspended within a day, and when last.
    repeats: BTreeMap<Arc<str>, (u32, Timestamp)>,
    #[serde(skip)]
    lately: BTreeMap<(Arc<str>, &'static str), Timestamp>,
}

impl Bench {
    #[must_use]
    pub fn open(&self, now: Timestamp) -> Option<(Timestamp, Why)> {
        if self.until <= now {
            return None;
        }
        self.why.clone().map(|why| (self.until, why))
    }

    /// Counts one answer: is it the n-th within the reaction's time?
    pub fn counts(&mut self, reaction: &Reaction, rule: &Arc<str>, now: Timestamp) -> bool {
        if reaction.after <= 1 {
            return true;
        }
        let hits = self.hits.entry((Arc::clone(rule), reaction.after)).or_default();
        hits.push_back(now);
        while hits.len() > reaction.after as usize
            || hits.front().is_some_and(|first| now.since(*first) > reaction.within)
        {
            hits.pop_front();
        }
        hits.len() >= reaction.after as usize
    }

    /// `lasts`: `None` is until released. Gives back until when, or nothing if it is suspended as long already.
    pub fn suspend(
        &mut self,
        lasts: Option<Duration>,
        rule: &Arc<str>,
        said: &str,
        now: Timestamp,
        dice: u64,
    ) -> Option<Timestamp> {
        let until = match lasts {
            None => Timestamp::MAX,
            // Answers to what was in flight when it was suspended are no repetition.
            Some(lasts) if self.until > now => now + lasts,
            Some(lasts) => {
                let (count, _) = self
                    .repeats
                    .get(rule)
                    .filter(|(_, last)| now.since(*last) < REPEAT_WITHIN)
                    .copied()
                    .unwrap_or_default();
                self.repeats.insert(Arc::clone(rule), (count + 1, now));
                let longest = SUSPENSION_MAX.max(lasts);
                let doubled = lasts.saturating_mul(1 << count.min(16)).min(longest);
                // Only longer, never shorter than the rule says.
                now + doubled.max(jitter(doubled, SUSPENSION_JITTER_PERCENT, dice))
            }
        };
        if until <= self.until {
            return None;
        }
        self.until = until;
        self.why = Some(Why::LaneSuspended { said: said.to_owned() });
        Some(until)
    }

    fn first_in(&mut self, rule: &Arc<str>, what: &'static str, now: Timestamp, time: Duration) -> bool {
        let key = (Arc::clone(rule), what);
        let first = self.lately.get(&key).is_none_or(|last| now.since(*last) >= time);
        if first {
            self.lately.insert(key, now);
        }
        first
    }

    /// Until when it is, or was last, suspended.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.until
    }

    #[must_use]
    pub fn is_forgotten(&self, now: Timestamp) -> bool {
        self.until <= now && self.repeats.values().all(|(_, last)| now.since(*last) >= REPEAT_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::Scope;
    use crate::provider::Providers;

    fn shape(per_second: u32) -> Shape {
        let mut rules = Providers::shipped().rules_of("default").clone();
        rules.messages_per_second = per_second;
        Shape::new(rules, Timestamp(0))
    }

    fn reaction(kind: ReactionKind, after: u32, within_s: u64) -> Reaction {
        Reaction { kind, scope: Scope::Lane, after, within: Duration::from_secs(within_s) }
    }

    fn second(s: i64) -> Timestamp {
        Timestamp::from_unix_seconds(s)
    }

    fn sent_in(shape: &mut Shape, from: Timestamp, time: Duration) -> u32 {
        let (mut now, mut count) = (from, 0);
        while now < from + time {
            match shape.may_start(now) {
                Verdict::Go(()) => {
                    shape.reserve(now);
                    count += 1;
                }
                Verdict::Wait { until, .. } => now = until,
            }
        }
        count
    }

    // R5.2
    #[test]
    fn the_rate_holds_and_a_slowed_lane_recovers() {
        let mut shape = shape(100);
        assert!((1_000..=1_011).contains(&sent_in(&mut shape, second(1), Duration::from_secs(10))));
        let rule: Arc<str> = Arc::from("r");
        let slow = reaction(ReactionKind::Slow { per_minute: None, lasts: Duration::from_secs(60) }, 1, 3600);
        shape.react(&slow, &rule, "slow down", second(20), 0);
        assert_eq!(shape.pace(), 500);
        assert_eq!(shape.connections_limit(second(20)), 5);
        // A second answer in the same minute is the same event.
        shape.react(&slow, &rule, "slow down", second(21), 0);
        assert_eq!(shape.pace(), 500);
        assert!((500..=506).contains(&sent_in(&mut shape, second(30), Duration::from_secs(10))));
        for _ in 0..100 {
            shape.accepted(second(50));
        }
        assert_eq!(shape.pace(), 1_000);
    }

    #[test]
    fn one_a_minute_means_that() {
        let mut shape = shape(0);
        let slow = reaction(ReactionKind::Slow { per_minute: Some(1), lasts: Duration::from_secs(5_400) }, 1, 3600);
        shape.react(&slow, &Arc::from("r"), "busy", second(0), 0);
        assert_eq!(sent_in(&mut shape, second(0), Duration::from_secs(600)), 10);
        let Verdict::Wait { why, .. } = shape.may_start(second(595)) else { panic!("it waits") };
        assert_eq!(why, Why::LaneSlowed { said: "busy".into() });
    }

    // R5.2
    #[test]
    fn a_suspension_extends_never_shortens_and_doubles_when_repeated() {
        let mut shape = shape(0);
        let hour = Duration::from_secs(3_600);
        let suspend = |lasts| reaction(ReactionKind::Suspend { lasts: Some(lasts) }, 1, 3_600);
        let rule: Arc<str> = Arc::from("r");
        let Some(Change::Suspended { until }) = shape.react(&suspend(hour), &rule, "no", second(0), 1) else {
            panic!()
        };
        assert!(until >= second(3_600) && until <= second(3_960));
        // Still suspended: a shorter one changes nothing.
        assert_eq!(shape.react(&suspend(Duration::from_secs(60)), &rule, "no", second(10), 1), None);
        let mut at = until;
        let mut lengths = Vec::new();
        for _ in 0..5 {
            let Some(Change::Suspended { until }) = shape.react(&suspend(hour), &rule, "no", at, 1) else { panic!() };
            lengths.push(until.since(at).as_secs() / 3_600);
            at = until;
        }
        assert_eq!(lengths, [2, 4, 8, 8, 8]);
        // A day of peace, and it begins anew.
        let later = at + Duration::from_secs(25 * 3_600);
        let Some(Change::Suspended { until }) = shape.react(&suspend(hour), &rule, "no", later, 1) else { panic!() };
        assert!(until.since(later) < 2 * hour);
    }

    #[test]
    fn some_reactions_wait_for_the_nth_answer_within_a_time() {
        let mut shape = shape(0);
        let third = reaction(ReactionKind::Suspend { lasts: Some(Duration::from_secs(60)) }, 3, 100);
        let rule: Arc<str> = Arc::from("r");
        let mut at = |s| shape.react(&third, &rule, "no", second(s), 0).is_some();
        assert_eq!([at(0), at(90), at(150), at(160)], [false, false, false, true]);
    }

    #[test]
    fn connections_grow_with_what_is_accepted_and_when_nothing_is_heard() {
        let mut shape = shape(0);
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(shape.connections_allowed(second(0)));
            (0..20).for_each(|_| shape.accepted(second(0)));
        }
        assert_eq!(seen, [1, 2, 4, 8, 10]);
        let mut quiet = super::tests::shape(0);
        quiet.lose_patience(second(4));
        assert_eq!(quiet.connections_allowed(second(4)), 1);
        quiet.lose_patience(second(5));
        assert_eq!(quiet.connections_allowed(second(5)), 2); // B5
    }
}
