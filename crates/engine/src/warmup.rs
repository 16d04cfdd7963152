//! How much may an IP send today, while it warms up? (R4.1, R4.4, R4.5)
//!
//! A value for an IP, or for a lane of it, as its schedule has it. It is told what goes out and what becomes of it, and says how much
//! may go now; many messages at once cost the same as one. Days are those of UTC. A place is taken before a message goes and given
//! back if nothing was sent, so that two attempts never share the last one; a clock that goes back opens no day again.

use crate::schedule::Schedule;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

const DAY_MICROS: i64 = 86_400_000_000;
/// Besides what the day has earned so far, a tenth of it may go at once; and never less than this.
const BURST_MIN: u64 = 20;
/// A day that has gone well: so much of what was tried was delivered.
const DELIVERED_PERCENT: u64 = 90;
/// Hard bounces and complaints, in ten thousandths, from which on it has not, or has gone badly; each from so many of them on.
const BOUNCED: Bad = Bad { hold: 300, back: 500, least: 10 };
const COMPLAINED: Bad = Bad { hold: 10, back: 20, least: 3 };
/// So many days without meaningful volume are borne; then the volume halves with each so many more, and at last it is as for a new IP.
const IDLE_BORNE: u16 = 3;
const IDLE_HALVES: u16 = 10;
const IDLE_COLD: u16 = 30;
/// Meaningful is a tenth of what was allowed, or as many as this.
const MEANINGFUL: u64 = 100;

struct Bad {
    hold: u64,
    back: u64,
    least: u64,
}

impl Bad {
    fn is(&self, count: u64, of: u64, from: u64) -> bool {
        count >= self.least && count * 10_000 >= from * of.max(1)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Warming,
    /// By order: the stage stays where it is.
    Paused,
    /// It has sent what was asked of it, and there is no limit.
    Done,
    /// By order: there is no limit, and nothing brings one back.
    Off,
}

/// What was tried on the day, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Today {
    taken: u64,
    delivered: u64,
    deferred: u64,
    bounced: u64,
    blocked: u64,
    complained: u64,
}

/// What became of a message that had a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    Delivered,
    Deferred,
    /// For good, and because of the recipient.
    Bounced,
    /// Because of us.
    Blocked,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warmth {
    state: State,
    stage: u32,
    /// Days since 1970 that `today` is of.
    day: i64,
    today: Today,
    idle_days: u16,
}

/// How much may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Free {
    /// There is no limit.
    All,
    Some(u64),
    /// One may go then.
    From(Timestamp),
}

/// Why a day ended as it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// It was used and went well: the next stage.
    Advanced,
    /// Too little of it was used.
    Unused,
    /// Too much was deferred, bounced or complained of to go on, and not so much to go back.
    Mixed,
    /// Bounces or complaints: half of it.
    Bad,
    /// It was blocked: a quarter of it.
    Blocked,
    /// By order.
    Paused,
    /// For some days nearly nothing was sent: half of it.
    Cooled,
    /// For so long that it begins anew.
    Cold,
    /// What is asked of it is less than what it may by now.
    Finished,
}

impl Judged {
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Judged::Advanced => "the day was used and went well: the next stage",
            Judged::Unused => "too little of the day was used to go on",
            Judged::Mixed => "too much was deferred, bounced or complained of to go on",
            Judged::Bad => "bounces or complaints were too many: back to half of it",
            Judged::Blocked => "it was blocked: back to a quarter of it",
            Judged::Paused => "it is paused by order",
            Judged::Cooled => "nearly nothing was sent for many days: back to half of it",
            Judged::Cold => "nearly nothing was sent for thirty days: it begins anew",
            Judged::Finished => "what is asked of it is less than what it may: it is warm",
        }
    }
}

/// A day that is over, with its figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayEnded {
    pub day: i64,
    pub judged: Judged,
    pub allowed: u64,
    pub delivered: u64,
    /// From which stage to which.
    pub stages: (u32, u32),
}

fn day_of(now: Timestamp) -> i64 {
    now.0.div_euclid(DAY_MICROS)
}

impl Warmth {
    /// As of an IP that nobody knows.
    #[must_use]
    pub fn begun(now: Timestamp) -> Warmth {
        Warmth { state: State::Warming, stage: 1, day: day_of(now), today: Today::default(), idle_days: 0 }
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    #[must_use]
    pub fn stage(&self) -> u32 {
        self.stage
    }

    /// Messages of this day; none: without limit.
    #[must_use]
    pub fn allowed(&self, schedule: &Schedule) -> Option<u64> {
        matches!(self.state, State::Warming | State::Paused).then(|| schedule.volume(self.stage))
    }

    /// Messages that have a place on this day.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.today.taken
    }

    pub fn set(&mut self, state: State, stage: u32) {
        (self.state, self.stage, self.idle_days) = (state, stage.max(1), 0);
    }

    /// Ends the days that are over by now, oldest first. None that was missed is as if it had been used.
    pub fn turn(&mut self, schedule: &Schedule, now: Timestamp) -> Vec<DayEnded> {
        let mut ended = Vec::new();
        let today = day_of(now);
        while self.day < today {
            // Beyond that nothing changes any more.
            if self.idle_days >= IDLE_COLD && self.today == Today::default() {
                self.day = today;
                break;
            }
            ended.extend(self.end_day(schedule));
            self.day += 1;
            self.today = Today::default();
        }
        ended
    }

    fn end_day(&mut self, schedule: &Schedule) -> Option<DayEnded> {
        let allowed = schedule.volume(self.stage);
        let tried = self.today.delivered + self.today.deferred + self.today.bounced + self.today.blocked;
        let is_idle = tried < MEANINGFUL && (self.state == State::Done || tried * 10 < allowed);
        self.idle_days = if is_idle { self.idle_days.saturating_add(1) } else { 0 };
        let judged = match self.state {
            State::Off => return None,
            State::Paused => Judged::Paused,
            State::Done if self.idle_days < IDLE_COLD => return None,
            State::Warming | State::Done => self.judge(schedule, allowed, tried),
        };
        let before = self.stage;
        match judged {
            Judged::Advanced => self.stage = before.saturating_add(1),
            Judged::Bad | Judged::Cooled => self.stage = schedule.stage_of(allowed / 2).min(before),
            Judged::Blocked => self.stage = schedule.stage_of(allowed / 4).min(before),
            Judged::Cold => (self.state, self.stage) = (State::Warming, 1),
            Judged::Finished => self.state = State::Done,
            Judged::Unused | Judged::Mixed | Judged::Paused => {}
        }
        let delivered = self.today.delivered;
        Some(DayEnded { day: self.day, judged, allowed, delivered, stages: (before, self.stage) })
    }

    fn judge(&self, schedule: &Schedule, allowed: u64, tried: u64) -> Judged {
        let Today { delivered, bounced, blocked, complained, .. } = self.today;
        if self.idle_days >= IDLE_COLD {
            return Judged::Cold;
        }
        if blocked > 0 {
            return Judged::Blocked;
        }
        let is = |from: fn(&Bad) -> u64| {
            BOUNCED.is(bounced, tried, from(&BOUNCED)) || COMPLAINED.is(complained, delivered, from(&COMPLAINED))
        };
        if is(|bad| bad.back) {
            return Judged::Bad;
        }
        if self.idle_days > IDLE_BORNE && (self.idle_days - IDLE_BORNE).is_multiple_of(IDLE_HALVES) {
            return Judged::Cooled;
        }
        if is(|bad| bad.hold) || delivered * 100 < tried * DELIVERED_PERCENT {
            return Judged::Mixed;
        }
        let is_used = delivered * 100 >= allowed * u64::from(schedule.used_percent);
        match is_used {
            // A schedule by the calendar is over at its end.
            true if self.stage >= schedule.stages() && schedule.used_percent == 0 => Judged::Finished,
            true => Judged::Advanced,
            false if self.stage > schedule.stages() => Judged::Finished,
            false => Judged::Unused,
        }
    }

    /// How much may go now. What the day has earned by now may go, and a little more: never a lump at midnight. `turn` comes first.
    #[must_use]
    pub fn free(&self, schedule: &Schedule, now: Timestamp) -> Free {
        let Some(allowed) = self.allowed(schedule) else { return Free::All };
        let midnight = (self.day + 1).saturating_mul(DAY_MICROS);
        if self.today.taken >= allowed {
            return Free::From(Timestamp(midnight));
        }
        let burst = (allowed / 10).max(BURST_MIN);
        let begun = self.day.saturating_mul(DAY_MICROS);
        let elapsed = u128::try_from(now.0.saturating_sub(begun).clamp(0, DAY_MICROS)).unwrap_or(0);
        let earned = u64::try_from(u128::from(allowed) * elapsed / DAY_MICROS as u128).unwrap_or(u64::MAX);
        let open = earned.saturating_add(burst).min(allowed);
        if open > self.today.taken {
            return Free::Some(open - self.today.taken);
        }
        // The first moment at which one more is earned.
        let lacking = u128::from(self.today.taken + 1 - burst);
        let wait = (lacking * DAY_MICROS as u128).div_ceil(u128::from(allowed));
        Free::From(Timestamp(begun.saturating_add(i64::try_from(wait).unwrap_or(DAY_MICROS)).min(midnight)))
    }

    /// Takes so many places of this day.
    pub fn take(&mut self, messages: u64) {
        self.today.taken = self.today.taken.saturating_add(messages);
    }

    /// Nothing was sent.
    pub fn give_back(&mut self, messages: u64) {
        self.today.taken = self.today.taken.saturating_sub(messages);
    }

    /// What became of so many that had a place.
    pub fn note(&mut self, became: Became, messages: u64) {
        let count = match became {
            Became::Delivered => &mut self.today.delivered,
            Became::Deferred => &mut self.today.deferred,
            Became::Bounced => &mut self.today.bounced,
            Became::Blocked => &mut self.today.blocked,
        };
        *count = count.saturating_add(messages);
    }

    /// So many were complained of.
    pub fn complained(&mut self, messages: u64) {
        self.today.complained = self.today.complained.saturating_add(messages);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failing unwrap is a failing test.
    use super::{Became, DAY_MICROS, Free, Judged, State, Warmth};
    use crate::retry::draw;
    use crate::schedule::{Schedule, Schedules};
    use crate::time::Timestamp;
    use std::time::Duration;

    /// A midnight.
    const START: Timestamp = Timestamp(20_000 * DAY_MICROS);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn steady() -> Schedule {
        Schedules::shipped().named("steady").unwrap().clone()
    }

    /// A day on which so many were tried, and delivered but for what else is said; then midnight.
    fn day(warmth: &mut Warmth, number: u32, tried: u64, other: &[(Became, u64)]) -> Option<Judged> {
        let schedule = steady();
        warmth.take(tried);
        let others: u64 = other.iter().map(|(_, count)| count).sum();
        warmth.note(Became::Delivered, tried - others);
        other.iter().for_each(|(became, count)| warmth.note(*became, *count));
        let ended = warmth.turn(&schedule, START + DAY * (number + 1));
        assert!(ended.len() <= 1, "{ended:?}");
        ended.first().map(|ended| ended.judged)
    }

    // R4.1: two weeks of days that are used, then on until what is asked of it is less than what it may.
    #[test]
    fn days_that_are_used_and_go_well_bring_the_next_stage() {
        let (mut warmth, schedule) = (Warmth::begun(START), steady());
        let mut number = 0;
        while warmth.state() == State::Warming {
            // 40,000 a day are asked of it.
            let may = warmth.allowed(&schedule).unwrap().min(40_000);
            let judged = day(&mut warmth, number, may, &[]).unwrap();
            assert!(matches!(judged, Judged::Advanced | Judged::Finished), "{judged:?}");
            number += 1;
        }
        assert_eq!((number, warmth.allowed(&schedule)), (17, None));
        assert_eq!(warmth.free(&schedule, START + DAY * number), Free::All);
    }

    #[test]
    fn a_day_counts_by_what_was_delivered_of_it() {
        let mut warmth = Warmth::begun(START);
        assert_eq!(day(&mut warmth, 0, 79, &[]), Some(Judged::Unused));
        assert_eq!(day(&mut warmth, 1, 100, &[(Became::Deferred, 11)]), Some(Judged::Mixed));
        assert_eq!(day(&mut warmth, 2, 100, &[(Became::Deferred, 10)]), Some(Judged::Advanced));
        assert_eq!(warmth.stage(), 2);
        warmth.set(State::Paused, 2);
        assert_eq!(day(&mut warmth, 3, 150, &[]), Some(Judged::Paused));
        warmth.set(State::Warming, 6);
        // 750: nine bounces are too few to say anything, half of it for 5 %, a quarter for a block.
        assert_eq!(day(&mut warmth, 4, 180, &[(Became::Bounced, 9)]), Some(Judged::Unused));
        assert_eq!(day(&mut warmth, 5, 740, &[(Became::Bounced, 30)]), Some(Judged::Mixed));
        assert_eq!((day(&mut warmth, 6, 740, &[(Became::Bounced, 37)]), warmth.stage()), (Some(Judged::Bad), 4));
        assert_eq!((day(&mut warmth, 7, 300, &[(Became::Blocked, 1)]), warmth.stage()), (Some(Judged::Blocked), 1));
        warmth.set(State::Warming, 7);
        warmth.complained(3);
        assert_eq!((day(&mut warmth, 8, 1_100, &[]), warmth.stage()), (Some(Judged::Bad), 5));
    }

    // R4.4: idle for long, it cools; for thirty days, it begins anew, also where it was warm.
    #[test]
    fn who_sends_nothing_cools() {
        let (mut warmth, schedule) = (Warmth::begun(START), steady());
        warmth.set(State::Warming, 10);
        let ended = warmth.turn(&schedule, START + DAY * 40);
        let changes: Vec<_> = ended.iter().filter(|ended| ended.stages.0 != ended.stages.1).collect();
        let told: Vec<_> = changes.iter().map(|ended| (ended.day - 20_000, ended.judged, ended.stages.1)).collect();
        assert_eq!(told, [(12, Judged::Cooled, 8), (22, Judged::Cooled, 6), (29, Judged::Cold, 1)]);
        let mut warm = Warmth::begun(START);
        warm.set(State::Done, 20);
        assert_eq!(warm.turn(&schedule, START + DAY * 29), []);
        assert_eq!((warm.turn(&schedule, START + DAY * 30)[0].judged, warm.stage()), (Judged::Cold, 1));
        let mut off = Warmth::begun(START);
        off.set(State::Off, 3);
        assert_eq!((off.turn(&schedule, START + DAY * 90), off.allowed(&schedule)), (Vec::new(), None));
    }

    #[test]
    fn the_days_share_is_spread_over_the_day() {
        let (mut warmth, schedule) = (Warmth::begun(START), steady());
        warmth.set(State::Warming, 8);
        // 1,700 on that day.
        assert_eq!(warmth.free(&schedule, START), Free::Some(170));
        warmth.take(170);
        let Free::From(next) = warmth.free(&schedule, START) else { panic!("a lump at midnight") };
        assert_eq!(warmth.free(&schedule, next), Free::Some(1));
        assert!(next > START && warmth.free(&schedule, Timestamp(next.0 - 1)) == Free::From(next));
        assert_eq!(warmth.free(&schedule, START + HOUR * 12), Free::Some(850));
        warmth.take(1_530);
        assert_eq!(warmth.free(&schedule, START + HOUR * 23), Free::From(START + DAY));
        warmth.give_back(1);
        assert_eq!(warmth.free(&schedule, START + HOUR * 23), Free::Some(1));
        // A clock that goes back opens no day again.
        assert_eq!(warmth.turn(&schedule, START - DAY), []);
        assert!(matches!(warmth.free(&schedule, START - DAY), Free::From(_)));
    }

    // Whatever happens when: no day has more than its share, no moment more than it has earned, and a restart in between changes nothing.
    #[test]
    fn random_days_keep_to_their_share() {
        let schedule = steady();
        for seed in 0..200 {
            let mut drawn = 0;
            let mut dice = |below: u64| {
                drawn += 1;
                draw(seed, drawn) % below
            };
            let (mut warmth, mut now) = (Warmth::begun(START), START);
            for _ in 0..300 {
                let step = Duration::from_secs(dice(20_000));
                now = if dice(20) == 0 { now - step } else { now + step };
                warmth.turn(&schedule, now);
                let allowed = warmth.allowed(&schedule).unwrap_or(u64::MAX);
                if let Free::Some(free) = warmth.free(&schedule, now) {
                    let take = dice(free + 1);
                    warmth.take(take);
                    let unsent = if take > 0 { dice(take) / 4 } else { 0 };
                    warmth.give_back(unsent);
                    let became = [Became::Delivered, Became::Delivered, Became::Deferred, Became::Bounced];
                    warmth.note(became[dice(4) as usize], take - unsent);
                }
                assert!(warmth.taken() <= allowed, "seed {seed}: {warmth:?}");
                let kept = toml::Value::try_from(&warmth).unwrap();
                assert_eq!(kept.try_into::<Warmth>().unwrap(), warmth);
            }
        }
    }
}
