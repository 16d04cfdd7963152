//! How much may an IP send today, while it warms up? (R4.1, R4.3, R4.4, R4.5)
//!
//! A value for an IP, or for a lane of it, as its course has it: a schedule, or a slope that learns from what it hears. It is told what
//! goes out and what becomes of it, and says how much may go now; many messages at once cost the same as one. Days are those of UTC. A
//! place is taken before a message goes and given back if nothing was sent, so that two attempts never share the last one; a clock that
//! goes back opens no day again.
//!
//! What is good or bad of a day is in `judge`; what cannot wait for its end is in `weigh`.

use crate::classify::{Class, Meaning, Subtype};
use crate::event::{Event, EventKind};
use crate::judged::{Became, Counts, Grade, Judged, Ordered, Step};
use crate::provider::Slope;
use crate::schedule::Schedule;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

const HOUR_MICROS: i64 = 3_600_000_000;
const DAY_MICROS: i64 = 24 * HOUR_MICROS;
/// Besides what the day has earned so far, such a part of it may go at once; and never less than so many.
const BURST_PART: u64 = 20;
const BURST_MIN: u64 = 5;
/// Of a day's volume, no hour carries more than such a part: providers that count by the hour bear an eighth.
const HOUR_PART: u64 = 8;
/// Fewer answers say nothing about how much of a day is delivered.
const SAYING_MIN: u64 = 20;
/// From so much of what is asked for on, a day earns its volume twice as fast: what waits then waits for its turn in the day, and not for
/// the next one.
const FITS_MOSTLY_PERCENT: u64 = 50;
/// A day that has gone well: so much of what was tried was delivered. And one that went badly.
const DELIVERED_PERCENT: u64 = 90;
const DELIVERED_BAD_PERCENT: u64 = 80;
/// Of what it may, so much must have been asked of a day to go on from it; half of which must have been delivered.
const ASKED_PERCENT: u64 = 80;
/// From so many of an hour's messages on that were asked to go slower, in hundredths, the hour is over; and the second such hour ends the
/// day, if most of it was borne, and else the third.
const THROTTLED_PERCENT: u64 = 1;
/// And so many are enough, however much the hour carries: it may have been stopped by them.
const THROTTLED_ENOUGH: u64 = 3;
const THROTTLED_HOURS_MAX: u8 = 3;
/// And in between it goes on with so much, in hundredths.
const LESS_PERCENT: u64 = 75;
/// From so many in ten thousand on, what is refused because of us is no single message's matter.
const BLOCKED_PARTS: u64 = 10;
/// From this attempt on, what looks like a greeting of strangers is none.
const GREYLISTED_MAX: u16 = 3;
/// Who is complained of too much, or bounces too much, stops for so long.
const STOPPED_MICROS: i64 = DAY_MICROS;
/// After what made it go back, this day and one that goes well go by before it grows again.
const HOLD_DAYS: u8 = 2;
/// Blocked twice within so many days, it begins anew.
const BLOCKED_AGAIN_DAYS: i64 = 7;
/// So many days without meaningful volume are borne; then the volume fades, halved in each so many more, and at last it is as for a new
/// IP.
const IDLE_BORNE: u16 = 3;
const IDLE_HALVES: u16 = 10;
const IDLE_COLD: u16 = 30;
/// Meaningful is a tenth of what was allowed, or as many as this.
const MEANINGFUL: u64 = 100;
/// How much steeper a learned slope gets by a day that went well, and how much flatter by one on which it was asked to go slower; in
/// hundredths, like the slope itself.
const STEEPER: u64 = 150;
const FLATTER: u64 = 85;
const GROWTH_MIN: u32 = 110;

/// By what an IP warms up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// Stages, one after the other.
    Fixed(Schedule),
    /// From a first volume on, as fast as the provider bears it (R4.3).
    Learned(Slope),
}

impl Course {
    fn first(&self) -> u64 {
        match self {
            Course::Fixed(schedule) => schedule.volume(1),
            Course::Learned(slope) => slope.first,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Warming,
    /// By order: it goes on sending what it may, and nothing brings more.
    Paused,
    /// It has sent what was asked of it, and there is no limit.
    Done,
    /// By order: there is no limit, and nothing brings one back.
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warmth {
    state: State,
    /// Of a fixed course.
    stage: u32,
    /// Messages of a day, of a learned course; and how steep it is by now.
    volume: u64,
    growth: u32,
    /// Days that must go well before it grows again.
    hold_days: u8,
    /// Days since 1970 that `today` is of.
    day: i64,
    today: Counts,
    yesterday: Counts,
    /// What bounces and complaints are judged by: today by itself, and with the day before; but nothing that was answered to already.
    unanswered: Counts,
    before: Counts,
    /// The hour of the day that these are of.
    hour: u8,
    hour_taken: u64,
    hour_turned_away: u64,
    hour_throttled: u64,
    throttled_hours: u8,
    /// Nothing goes before.
    closed_until: Timestamp,
    closed_by: Option<Judged>,
    idle_days: u16,
    /// The last day on which it was blocked.
    blocked_on: i64,
    /// When the last order was given that it follows.
    ordered_at: Timestamp,
    last: Option<Step>,
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

/// What an answer to one recipient says about the IP it came from; none: nothing.
#[must_use]
pub fn became(event: &Event) -> Option<Became> {
    let is_over = match event.kind {
        EventKind::Delivered => return Some(Became::Delivered),
        EventKind::Bounced | EventKind::Returned => true,
        EventKind::Deferred => false,
        _ => return None,
    };
    // Without a remote's answer nothing was said.
    let (meaning, reply) = event.meaning.as_ref().zip(event.reply.as_ref())?;
    answered(meaning, reply.is_permanent(), is_over, event.attempt)
}

/// The same of what a reply means, which said so for good or not, and whether it ended the message; told at the n-th attempt.
#[must_use]
pub fn answered(meaning: &Meaning, is_permanent: bool, is_over: bool, attempt: u16) -> Option<Became> {
    match (meaning.class, meaning.subtype) {
        (_, Subtype::Own | Subtype::TooManyRecipients | Subtype::SessionLength) => None,
        (_, Subtype::Greylisted) if attempt < GREYLISTED_MAX => None,
        // Who greets strangers with a delay knows us by then.
        (_, Subtype::Greylisted) => Some(Became::Throttled),
        (
            Class::Block,
            Subtype::IpRate
            | Subtype::IpReputation
            | Subtype::NetblockRate
            | Subtype::BlockList
            | Subtype::Policy
            | Subtype::General,
        ) if is_permanent => Some(Became::Blocked),
        (
            Class::Throttle | Class::Block,
            Subtype::IpRate
            | Subtype::IpReputation
            | Subtype::NetblockRate
            | Subtype::BlockList
            | Subtype::Connections
            | Subtype::Overload
            | Subtype::General,
        ) if !is_permanent => Some(Became::Throttled),
        (Class::Hard, _) if is_over => Some(Became::Bounced),
        _ => Some(Became::Deferred),
    }
}

impl Warmth {
    /// As of an IP that nobody knows.
    #[must_use]
    pub fn begun(course: &Course, now: Timestamp) -> Warmth {
        let mut warmth = Warmth {
            state: State::Warming,
            stage: 1,
            volume: 0,
            growth: 0,
            hold_days: 0,
            day: now.day(),
            today: Counts::default(),
            yesterday: Counts::default(),
            unanswered: Counts::default(),
            before: Counts::default(),
            hour: 0,
            hour_taken: 0,
            hour_turned_away: 0,
            hour_throttled: 0,
            throttled_hours: 0,
            closed_until: Timestamp(0),
            closed_by: None,
            idle_days: 0,
            blocked_on: i64::MIN / 2,
            ordered_at: Timestamp(0),
            last: None,
        };
        warmth.begin_anew(course);
        warmth
    }

    fn begin_anew(&mut self, course: &Course) {
        self.stage = 1;
        if let Course::Learned(slope) = course {
            (self.volume, self.growth) = (slope.first.max(1), slope.growth_percent);
        }
    }

    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    #[must_use]
    pub fn stage(&self) -> u32 {
        self.stage
    }

    #[must_use]
    pub fn today(&self) -> &Counts {
        &self.today
    }

    /// When the last order was given that it follows.
    #[must_use]
    pub fn ordered_at(&self) -> Timestamp {
        self.ordered_at
    }

    /// What was decided last, and by which figures.
    #[must_use]
    pub fn last(&self) -> Option<&Step> {
        self.last.as_ref()
    }

    /// Nothing goes before, and why.
    #[must_use]
    pub fn closed(&self, now: Timestamp) -> Option<(Timestamp, Judged)> {
        self.closed_by.filter(|_| self.closed_until > now).map(|judged| (self.closed_until, judged))
    }

    /// Messages of this day; none: without limit.
    #[must_use]
    pub fn allowed(&self, course: &Course) -> Option<u64> {
        matches!(self.state, State::Warming | State::Paused).then(|| self.base(course))
    }

    fn base(&self, course: &Course) -> u64 {
        match course {
            Course::Fixed(schedule) => schedule.volume(self.stage),
            Course::Learned(_) => self.volume,
        }
    }

    /// Goes back, or on, to a volume.
    fn set_base(&mut self, course: &Course, volume: u64) {
        match course {
            Course::Fixed(schedule) => self.stage = schedule.stage_of(volume),
            Course::Learned(slope) => self.volume = volume.max(slope.first),
        }
    }

    /// How much of what is asked for it may send, in hundredths. `waiting` wait for a place.
    #[must_use]
    pub fn fits(&self, course: &Course, waiting: u64, now: Timestamp) -> u64 {
        let Some(allowed) = self.allowed(course) else { return 100 };
        (allowed * 100).checked_div(self.wanted(waiting, now)).unwrap_or(100).min(100)
    }

    /// What is asked of it in a day: as on the day before, or more by now. Where there was none before, the day goes on as it began.
    #[must_use]
    pub fn wanted(&self, waiting: u64, now: Timestamp) -> u64 {
        let by_now = self.today.wanted() + waiting;
        if self.yesterday.wanted() > 0 {
            return self.yesterday.wanted().max(by_now);
        }
        let elapsed = now.0.saturating_sub(self.day.saturating_mul(DAY_MICROS)).clamp(HOUR_MICROS, DAY_MICROS);
        let whole = u128::from(by_now) * DAY_MICROS as u128 / u128::try_from(elapsed).unwrap_or(1);
        u64::try_from(whole).unwrap_or(u64::MAX)
    }

    /// What this hour may carry, and what is asked of it, by which a lump is known: a day that has place for all of it may have none for
    /// hours.
    #[must_use]
    pub fn hour(&self, course: &Course, waiting: u64) -> Option<(u64, u64)> {
        let may = in_hour(self.allowed(course)?);
        Some((may, self.hour_taken + self.hour_turned_away + waiting))
    }

    /// How far it is, as SES shows it (R4.5).
    #[must_use]
    pub fn percent(&self, course: &Course, waiting: u64, now: Timestamp) -> u8 {
        match (self.state, course) {
            (State::Done | State::Off, _) => 100,
            (_, Course::Fixed(schedule)) => schedule.percent(self.stage),
            (_, Course::Learned(_)) => u8::try_from(self.fits(course, waiting, now)).unwrap_or(100),
        }
    }

    /// Follows an order, unless it did already.
    pub fn order(&mut self, course: &Course, ordered: Ordered, at: Timestamp) {
        if at <= self.ordered_at {
            return;
        }
        (self.ordered_at, self.idle_days, self.hold_days) = (at, 0, 0);
        (self.closed_until, self.closed_by) = (Timestamp(0), None);
        match ordered {
            Ordered::Pause => self.state = State::Paused,
            Ordered::Resume => self.state = State::Warming,
            Ordered::Done => self.state = State::Done,
            Ordered::Off => self.state = State::Off,
            Ordered::Restart => {
                self.state = State::Warming;
                self.begin_anew(course);
            }
            Ordered::Stage(stage) => {
                self.state = State::Warming;
                self.stage = stage.max(1);
                if let Course::Learned(slope) = course {
                    let volume = (1..stage.min(400))
                        .fold(slope.first, |volume, _| volume.saturating_mul(u64::from(slope.growth_percent)) / 100);
                    self.set_base(course, volume);
                }
            }
            Ordered::Percent(percent) => {
                self.state = State::Warming;
                match course {
                    Course::Fixed(schedule) => self.stage = schedule.stage_at(percent),
                    Course::Learned(slope) => {
                        let wanted = self.wanted(0, at).max(slope.first);
                        self.set_base(course, wanted.saturating_mul(u64::from(percent.min(100))) / 100);
                    }
                }
            }
        }
    }

    /// Ends the days that are over by now, oldest first. None that was missed is as if it had been used.
    pub fn turn(&mut self, course: &Course, now: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        let today = now.day();
        while self.day < today {
            // Beyond that nothing changes any more.
            if self.idle_days >= IDLE_COLD && self.today == Counts::default() {
                self.day = today;
                break;
            }
            let step = self.end_day(course);
            self.last = step.or(self.last);
            steps.extend(step);
            self.day += 1;
            self.yesterday = std::mem::take(&mut self.today);
            self.before = std::mem::take(&mut self.unanswered);
            (self.hour, self.throttled_hours) = (0, 0);
            (self.hour_taken, self.hour_turned_away, self.hour_throttled) = (0, 0, 0);
        }
        let hour = u8::try_from((now.0.rem_euclid(DAY_MICROS)) / HOUR_MICROS).unwrap_or(0);
        if self.day == today && hour > self.hour {
            (self.hour, self.hour_taken, self.hour_turned_away, self.hour_throttled) = (hour, 0, 0, 0);
        }
        if self.closed_by.is_some() && self.closed_until <= now {
            self.closed_by = None;
        }
        steps
    }

    fn end_day(&mut self, course: &Course) -> Option<Step> {
        let from = self.base(course);
        let tried = self.today.tried();
        let is_idle = tried < MEANINGFUL && (self.state == State::Done || tried * 10 < from);
        self.idle_days = if is_idle { self.idle_days.saturating_add(1) } else { 0 };
        let judged = match self.state {
            State::Off => return None,
            State::Paused => Judged::Paused,
            State::Done if self.idle_days < IDLE_COLD => return None,
            State::Warming | State::Done => self.judge(course, from, tried),
        };
        match judged {
            Judged::Advanced => self.grow(course),
            Judged::Cooled => self.set_base(course, cooled(course, from)),
            Judged::Cold => {
                self.state = State::Warming;
                self.begin_anew(course);
            }
            Judged::Finished => self.state = State::Done,
            Judged::Recovering => self.hold_days -= 1,
            // What these do was done when it showed.
            Judged::Bad | Judged::Blocked | Judged::BlockedAgain | Judged::Stopped | Judged::Throttled => {}
            Judged::Unused | Judged::Mixed | Judged::Paused => {}
        }
        Some(Step { day: self.day, judged, from, to: self.base(course), counts: self.today, until: None })
    }

    fn grow(&mut self, course: &Course) {
        match course {
            Course::Fixed(_) => self.stage = self.stage.saturating_add(1),
            Course::Learned(slope) => {
                let growth = self.growth.min(slope.steepest(self.volume));
                // Where it was asked to go slower, it goes on from what was borne.
                let borne = match self.today.throttled {
                    0 => self.volume,
                    _ => self.today.delivered.clamp(self.volume / 2, self.volume),
                };
                self.volume = borne.saturating_mul(u64::from(growth)).div_ceil(100);
                self.growth = u32::try_from(u64::from(self.growth) * STEEPER / 100).unwrap_or(200).min(200);
            }
        }
    }

    fn judge(&self, course: &Course, allowed: u64, tried: u64) -> Judged {
        let delivered = self.today.delivered;
        if self.idle_days >= IDLE_COLD {
            return Judged::Cold;
        }
        let is_cooling = match course {
            Course::Fixed(_) => {
                self.idle_days > IDLE_BORNE && (self.idle_days - IDLE_BORNE).is_multiple_of(IDLE_HALVES)
            }
            Course::Learned(slope) => self.idle_days > IDLE_BORNE && self.volume > slope.first,
        };
        if is_cooling {
            return Judged::Cooled;
        }
        if self.blocked_on == self.day {
            return Judged::Blocked;
        }
        let by_calendar = matches!(course, Course::Fixed(schedule) if schedule.used_percent == 0);
        let went_badly =
            self.grade() >= Grade::Hold || delivered * 100 < tried * DELIVERED_PERCENT && tried >= SAYING_MIN;
        if went_badly {
            return Judged::Mixed;
        }
        match course {
            Course::Fixed(schedule) => {
                let is_used = delivered * 100 >= allowed * u64::from(schedule.used_percent);
                match is_used {
                    true if self.hold_days > 0 => Judged::Recovering,
                    // A schedule by the calendar is over at its end.
                    true if self.stage >= schedule.stages() && by_calendar => Judged::Finished,
                    true => Judged::Advanced,
                    false if self.stage > schedule.stages() => Judged::Finished,
                    false => Judged::Unused,
                }
            }
            Course::Learned(_) => {
                let is_used =
                    self.today.wanted() * 100 >= allowed * ASKED_PERCENT && delivered * 200 >= allowed * ASKED_PERCENT;
                match is_used {
                    false => Judged::Unused,
                    true if self.hold_days > 0 => Judged::Recovering,
                    true => Judged::Advanced,
                }
            }
        }
    }

    /// By bounces and complaints. Bounces of today are not made good by the day before; complaints come hours later, and belong to what
    /// was delivered then.
    fn grade(&self) -> Grade {
        let both = self.unanswered.and(&self.before);
        self.unanswered.bounces().max(both.bounces()).max(both.complaints())
    }

    /// Decides at once what cannot wait for the end of the day.
    fn weigh(&mut self, course: &Course, became: Option<Became>, now: Timestamp) -> Option<Step> {
        if self.state == State::Off {
            return None;
        }
        let from = self.base(course);
        let judged = match became {
            Some(Became::Blocked)
                if self.blocked_on != self.day && self.today.blocked * 10_000 >= self.today.tried() * BLOCKED_PARTS =>
            {
                self.block(course, from)
            }
            Some(Became::Throttled) => self.throttle(course, now)?,
            Some(Became::Blocked) => return None,
            Some(Became::Delivered | Became::Deferred | Became::Bounced) | None => {
                let grade = self.grade();
                let lost = self.today.tried() >= MEANINGFUL
                    && self.today.delivered * 100 < self.today.tried() * DELIVERED_BAD_PERCENT;
                match grade {
                    Grade::Stop => {
                        self.closed_until = Timestamp(now.0.saturating_add(STOPPED_MICROS));
                        self.set_base(course, from / 4);
                        Judged::Stopped
                    }
                    Grade::Halve => {
                        self.set_base(course, from / 2);
                        Judged::Bad
                    }
                    _ if lost && self.hold_days == 0 => {
                        self.set_base(course, from / 2);
                        Judged::Bad
                    }
                    Grade::Good | Grade::Hold => return None,
                }
            }
        };
        if matches!(judged, Judged::Stopped | Judged::Bad) {
            (self.unanswered, self.before, self.hold_days) = (Counts::default(), Counts::default(), HOLD_DAYS);
        }
        let is_closed = self.closed_until > now;
        if is_closed {
            self.closed_by = Some(judged);
        }
        // What is warm and goes bad warms again.
        if self.state == State::Done && judged != Judged::Throttled {
            self.state = State::Warming;
        }
        let until = is_closed.then_some(self.closed_until);
        self.last = Some(Step { day: self.day, judged, from, to: self.base(course), counts: self.today, until });
        self.last
    }

    fn block(&mut self, course: &Course, from: u64) -> Judged {
        let again = self.day - self.blocked_on <= BLOCKED_AGAIN_DAYS;
        (self.blocked_on, self.hold_days) = (self.day, HOLD_DAYS);
        if again {
            self.begin_anew(course);
            return Judged::BlockedAgain;
        }
        self.set_base(course, from / 4);
        Judged::Blocked
    }

    /// The hour is over, or the day, and then it goes on from what was borne. What is warm rests, and stays warm.
    fn throttle(&mut self, course: &Course, now: Timestamp) -> Option<Judged> {
        let enough = (self.hour_taken * THROTTLED_PERCENT / 100).clamp(1, THROTTLED_ENOUGH);
        if self.hour_throttled < enough || self.closed_until > now {
            return None;
        }
        let begun = self.day.saturating_mul(DAY_MICROS);
        self.throttled_hours += 1;
        let (base, delivered) = (self.base(course), self.today.delivered);
        let is_warm = self.state == State::Done;
        // Early in a day it was too much of it at once; late, it was all that is borne.
        let is_reached = delivered * 100 >= base * ASKED_PERCENT || self.throttled_hours >= THROTTLED_HOURS_MAX;
        let is_over = self.throttled_hours > 1 && is_reached && !is_warm;
        self.closed_until = match is_over {
            true => Timestamp(begun + DAY_MICROS),
            false => Timestamp((begun + (i64::from(self.hour) + 1) * HOUR_MICROS).max(now.0)),
        };
        if self.throttled_hours > 1 && !is_warm {
            let growth = u64::from(self.growth) * FLATTER / 100;
            self.growth = u32::try_from(growth).unwrap_or(GROWTH_MIN).max(GROWTH_MIN);
            let borne = if is_over { delivered.clamp(base / 2, base) } else { base * LESS_PERCENT / 100 };
            self.set_base(course, borne);
        }
        Some(Judged::Throttled)
    }

    /// How much may go now. What the day has earned by now may go, and a little more: never a lump at midnight, and no hour that
    /// carries it all. `waiting` wait for a place. `turn` comes first.
    #[must_use]
    pub fn free(&self, course: &Course, waiting: u64, now: Timestamp) -> Free {
        if let Some((until, _)) = self.closed(now) {
            return Free::From(until);
        }
        let Some(allowed) = self.allowed(course) else { return Free::All };
        let begun = self.day.saturating_mul(DAY_MICROS);
        let midnight = begun + DAY_MICROS;
        if self.today.taken >= allowed {
            return Free::From(Timestamp(midnight));
        }
        let in_hour = in_hour(allowed);
        if self.hour_taken >= in_hour {
            return Free::From(Timestamp(begun + (i64::from(self.hour) + 1) * HOUR_MICROS));
        }
        let burst = (allowed / BURST_PART).max(BURST_MIN);
        let pace = if self.fits(course, waiting, now) >= FITS_MOSTLY_PERCENT { 2 } else { 1 };
        let elapsed = u128::try_from(now.0.saturating_sub(begun).clamp(0, DAY_MICROS)).unwrap_or(0);
        let earned = u128::from(allowed) * pace * elapsed / DAY_MICROS as u128;
        let open = u64::try_from(earned).unwrap_or(u64::MAX).saturating_add(burst).min(allowed);
        if open > self.today.taken {
            return Free::Some((open - self.today.taken).min(in_hour - self.hour_taken));
        }
        // The first moment at which one more is earned.
        let lacking = u128::from(self.today.taken + 1 - burst);
        let wait = (lacking * DAY_MICROS as u128).div_ceil(u128::from(allowed) * pace);
        Free::From(Timestamp(begun.saturating_add(i64::try_from(wait).unwrap_or(DAY_MICROS)).min(midnight)))
    }

    /// Takes so many places of this day. `turn` comes first.
    pub fn take(&mut self, messages: u64) {
        self.today.taken = self.today.taken.saturating_add(messages);
        self.hour_taken = self.hour_taken.saturating_add(messages);
    }

    /// Nothing was sent.
    pub fn give_back(&mut self, messages: u64) {
        self.today.taken = self.today.taken.saturating_sub(messages);
        self.hour_taken = self.hour_taken.saturating_sub(messages);
    }

    /// So many found no place, and left.
    pub fn turned_away(&mut self, messages: u64) {
        self.today.turned_away = self.today.turned_away.saturating_add(messages);
        self.hour_turned_away = self.hour_turned_away.saturating_add(messages);
    }

    /// What became of so many that had a place; and what follows from it at once. `turn` comes first.
    pub fn note(&mut self, course: &Course, became: Became, messages: u64, now: Timestamp) -> Option<Step> {
        if messages == 0 {
            return None;
        }
        self.today.count(became, messages);
        self.unanswered.count(became, messages);
        if became == Became::Throttled {
            self.hour_throttled += messages;
        }
        if became == Became::Delivered {
            return None;
        }
        self.weigh(course, Some(became), now)
    }

    /// So many were complained of; and what follows from it at once.
    pub fn complained(&mut self, course: &Course, messages: u64, now: Timestamp) -> Option<Step> {
        self.today.complained = self.today.complained.saturating_add(messages);
        self.unanswered.complained = self.unanswered.complained.saturating_add(messages);
        self.weigh(course, None, now)
    }

    /// Nothing is remembered that one that was just begun would not have.
    #[must_use]
    pub fn is_as_new(&self, course: &Course) -> bool {
        self.state == State::Warming
            && self.base(course) <= course.first()
            && self.today == Counts::default()
            && self.yesterday == Counts::default()
            && self.blocked_on < self.day - BLOCKED_AGAIN_DAYS
            && self.closed_by.is_none()
    }
}

/// What an hour of such a day may carry.
fn in_hour(allowed: u64) -> u64 {
    (allowed / HOUR_PART).max(BURST_MIN)
}

/// What is left after a day on which it faded.
fn cooled(course: &Course, volume: u64) -> u64 {
    match course {
        Course::Fixed(_) => volume / 2,
        // The tenth root of a half.
        Course::Learned(_) => volume * 933 / 1_000,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A failing unwrap is a failing test.
    use super::{Course, DAY_MICROS, Free, State, Warmth};
    use crate::judged::{Became, Judged, Ordered, Step};
    use crate::provider::Slope;
    use crate::retry::draw;
    use crate::schedule::Schedules;
    use crate::time::Timestamp;
    use std::time::Duration;

    /// A midnight.
    const START: Timestamp = Timestamp(20_000 * DAY_MICROS);
    const HOUR: Duration = Duration::from_secs(3_600);
    const DAY: Duration = Duration::from_secs(86_400);

    fn steady() -> Course {
        Course::Fixed(Schedules::shipped().named("steady").unwrap().clone())
    }

    fn learned() -> Course {
        Course::Learned(Slope { first: 200, growth_percent: 125, slow_from: 200_000 })
    }

    struct Rehearsal {
        course: Course,
        warmth: Warmth,
        number: u32,
        steps: Vec<Step>,
    }

    impl Rehearsal {
        fn of(course: Course) -> Rehearsal {
            let warmth = Warmth::begun(&course, START);
            Rehearsal { course, warmth, number: 0, steps: Vec::new() }
        }

        fn allowed(&self) -> u64 {
            self.warmth.allowed(&self.course).unwrap()
        }

        fn now(&self) -> Timestamp {
            START + DAY * self.number
        }

        /// In the middle of the day.
        fn note(&mut self, became: Became, messages: u64) {
            let noon = self.now() + HOUR * 12;
            self.warmth.turn(&self.course, noon);
            self.warmth.take(messages);
            self.steps.extend(self.warmth.note(&self.course, became, messages, noon));
        }

        fn complain(&mut self, messages: u64) {
            let noon = self.now() + HOUR * 12;
            self.steps.extend(self.warmth.complained(&self.course, messages, noon));
        }

        /// A day on which so many were tried, and delivered but for what else is said; then midnight. How it was judged, and what
        /// was decided while it went on.
        fn day(&mut self, tried: u64, other: &[(Became, u64)]) -> (Vec<Judged>, Option<Judged>) {
            let others: u64 = other.iter().map(|(_, count)| count).sum();
            self.note(Became::Delivered, tried - others);
            other.iter().for_each(|(became, count)| self.note(*became, *count));
            self.number += 1;
            let ended = self.warmth.turn(&self.course, self.now());
            assert!(ended.len() <= 1, "{ended:?}");
            let within = self.steps.drain(..).map(|step| step.judged).collect();
            (within, ended.first().map(|ended| ended.judged))
        }

        fn stage(&mut self, stage: u32) {
            let at = self.now() + Duration::from_micros(1);
            self.warmth.order(&self.course, Ordered::Stage(stage), at);
        }
    }

    // R4.1: two weeks of days that are used, then on until what is asked of it is less than what it may.
    #[test]
    fn days_that_are_used_and_go_well_bring_the_next_stage() {
        let mut ip = Rehearsal::of(steady());
        while ip.warmth.state() == State::Warming {
            // 40,000 a day are asked of it.
            let judged = ip.day(ip.allowed().min(40_000), &[]).1.unwrap();
            assert!(matches!(judged, Judged::Advanced | Judged::Finished), "{judged:?}");
        }
        assert_eq!((ip.number, ip.warmth.allowed(&ip.course)), (17, None));
        assert_eq!(ip.warmth.free(&ip.course, 0, ip.now()), Free::All);
    }

    #[test]
    fn a_day_counts_by_what_was_delivered_of_it() {
        let mut ip = Rehearsal::of(steady());
        assert_eq!(ip.day(79, &[]), (vec![], Some(Judged::Unused)));
        assert_eq!(ip.day(100, &[(Became::Deferred, 11)]).1, Some(Judged::Mixed));
        assert_eq!(ip.day(100, &[(Became::Deferred, 10)]).1, Some(Judged::Advanced));
        assert_eq!(ip.warmth.stage(), 2);
        ip.warmth.order(&ip.course, Ordered::Pause, ip.now());
        assert_eq!(ip.day(150, &[]).1, Some(Judged::Paused));
        assert_eq!(ip.allowed(), 150);
    }

    // R4.3: what is bad is answered to within the day, and a day that goes well goes by before it grows again.
    #[test]
    fn bounces_complaints_and_blocks_take_back_at_once() {
        let mut ip = Rehearsal::of(steady());
        ip.stage(6);
        // 750: nine bounces are too few to say anything, half of it for 5 %, a quarter for a block.
        assert_eq!(ip.day(180, &[(Became::Bounced, 9)]), (vec![], Some(Judged::Unused)));
        ip.stage(6);
        assert_eq!(ip.day(740, &[(Became::Bounced, 30)]), (vec![], Some(Judged::Mixed)));
        let mut ip = Rehearsal::of(steady());
        ip.stage(6);
        assert_eq!(ip.day(740, &[(Became::Bounced, 45)]).0, [Judged::Bad]);
        assert_eq!(ip.warmth.stage(), 4);
        assert_eq!(ip.day(350, &[]).1, Some(Judged::Recovering));
        assert_eq!(ip.day(350, &[]).1, Some(Judged::Advanced));
        assert_eq!((ip.day(500, &[(Became::Blocked, 1)]).0, ip.warmth.stage()), (vec![Judged::Blocked], 1));
        ip.stage(7);
        assert_eq!((ip.day(1_000, &[(Became::Blocked, 1)]).0, ip.warmth.stage()), (vec![Judged::BlockedAgain], 1));
        let mut ip = Rehearsal::of(learned());
        ip.stage(20);
        let before = ip.allowed();
        ip.note(Became::Delivered, 10_000);
        ip.complain(12);
        assert_eq!(ip.steps, []);
        ip.complain(10);
        assert_eq!(ip.steps.iter().map(|step| step.judged).collect::<Vec<_>>(), [Judged::Bad]);
        assert_eq!(ip.allowed(), before / 2);
        // The same ones count once; far too many stop it for a day.
        ip.complain(1);
        assert_eq!(ip.steps.len(), 1);
        ip.note(Became::Delivered, 1_000);
        ip.complain(60);
        assert_eq!((ip.steps[1].judged, ip.allowed()), (Judged::Stopped, before / 8));
        let noon = ip.now() + HOUR * 12;
        assert_eq!(ip.warmth.free(&ip.course, 0, noon), Free::From(noon + DAY));
    }

    // R4.3: it grows as fast as the provider bears it.
    #[test]
    fn a_learned_course_grows_with_what_is_borne() {
        let mut ip = Rehearsal::of(learned());
        let mut volumes = vec![];
        while ip.allowed() < 100_000 {
            volumes.push(ip.allowed());
            assert_eq!(ip.day(ip.allowed(), &[]).1, Some(Judged::Advanced));
        }
        assert_eq!(volumes, [200, 250, 468, 936, 1_872, 3_744, 7_488, 14_976, 29_952, 59_904, 89_856]);
        // What is not asked for brings no more.
        assert_eq!(ip.day(30_000, &[]).1, Some(Judged::Unused));
        // Two hours in which it is asked to go slower end the day when most of it was borne; the next begins there, and
        // goes on flatter.
        let before = ip.allowed();
        ip.note(Became::Delivered, before / 10 * 6);
        ip.note(Became::Throttled, before / 100);
        let closed = ip.steps[0];
        assert_eq!((closed.judged, closed.until), (Judged::Throttled, Some(ip.now() + HOUR * 13)));
        let later = ip.now() + HOUR * 15;
        ip.warmth.turn(&ip.course, later);
        ip.warmth.take(before / 10 * 3);
        ip.steps.extend(ip.warmth.note(&ip.course, Became::Delivered, before / 10 * 3, later));
        ip.steps.extend(ip.warmth.note(&ip.course, Became::Throttled, before / 100, later));
        assert_eq!((ip.steps[1].judged, ip.steps[1].until), (Judged::Throttled, Some(ip.now() + DAY)));
        assert_eq!(ip.allowed(), before / 10 * 9);
        assert_eq!(ip.warmth.free(&ip.course, 0, later), Free::From(ip.now() + DAY));
    }

    // R4.4: idle for long, it cools; for thirty days, it begins anew, also where it was warm.
    #[test]
    fn who_sends_nothing_cools() {
        let course = steady();
        let mut warmth = Warmth::begun(&course, START);
        warmth.order(&course, Ordered::Stage(10), START);
        let ended = warmth.turn(&course, START + DAY * 40);
        let changes: Vec<_> = ended.iter().filter(|ended| ended.from != ended.to).collect();
        let told: Vec<_> = changes.iter().map(|ended| (ended.day - 20_000, ended.judged, ended.to)).collect();
        assert_eq!(told, [(12, Judged::Cooled, 1_700), (22, Judged::Cooled, 750), (29, Judged::Cold, 100)]);
        let mut warm = Warmth::begun(&course, START);
        warm.order(&course, Ordered::Done, START);
        assert_eq!(warm.turn(&course, START + DAY * 29), []);
        assert_eq!((warm.turn(&course, START + DAY * 30)[0].judged, warm.stage()), (Judged::Cold, 1));
        let mut off = Warmth::begun(&course, START);
        off.order(&course, Ordered::Off, START);
        assert_eq!((off.turn(&course, START + DAY * 90), off.allowed(&course)), (Vec::new(), None));
        // A learned one fades to an eighth or so, and at thirty days it is as new.
        let course = learned();
        let mut warmth = Warmth::begun(&course, START);
        warmth.order(&course, Ordered::Stage(25), START);
        let before = warmth.allowed(&course).unwrap();
        warmth.turn(&course, START + DAY * 29);
        let faded = warmth.allowed(&course).unwrap();
        assert!(faded * 5 < before && before < faded * 8, "{before} {faded}");
        warmth.turn(&course, START + DAY * 31);
        assert_eq!(warmth.allowed(&course), Some(200));
    }

    // R4.5: an order is followed once, however often it is told.
    #[test]
    fn orders_are_followed_once() {
        let course = steady();
        let mut warmth = Warmth::begun(&course, START);
        warmth.order(&course, Ordered::Percent(50), START);
        assert_eq!((warmth.stage(), warmth.percent(&course, 0, START)), (7, 50));
        warmth.order(&course, Ordered::Done, START + HOUR);
        warmth.order(&course, Ordered::Percent(50), START);
        assert_eq!((warmth.state(), warmth.percent(&course, 0, START)), (State::Done, 100));
        warmth.order(&course, Ordered::Restart, START + HOUR * 2);
        assert_eq!((warmth.state(), warmth.stage()), (State::Warming, 1));
        warmth.order(&course, Ordered::Off, START + HOUR * 3);
        assert_eq!(warmth.free(&course, 0, START + HOUR * 3), Free::All);
        warmth.order(&course, Ordered::Resume, START + HOUR * 4);
        assert_eq!(warmth.allowed(&course), Some(100));
    }

    #[test]
    fn the_days_share_is_spread_over_the_day() {
        let (mut warmth, course) = (Warmth::begun(&steady(), START), steady());
        warmth.order(&course, Ordered::Stage(8), START);
        // 1,700 on that day; asked for is ten times that.
        warmth.turned_away(17_000);
        assert_eq!(warmth.free(&course, 0, START), Free::Some(85));
        warmth.take(85);
        let Free::From(next) = warmth.free(&course, 0, START) else { panic!("a lump at midnight") };
        assert_eq!(warmth.free(&course, 0, next), Free::Some(1));
        assert!(next > START && warmth.free(&course, 0, Timestamp(next.0 - 1)) == Free::From(next));
        // No hour has more than an eighth, however much the day has earned.
        warmth.turn(&course, START + HOUR * 12);
        assert_eq!(warmth.free(&course, 0, START + HOUR * 12), Free::Some(212));
        warmth.take(212);
        assert_eq!(warmth.free(&course, 0, START + HOUR * 12), Free::From(START + HOUR * 13));
        warmth.turn(&course, START + HOUR * 22);
        warmth.take(1_403);
        warmth.turn(&course, START + HOUR * 23);
        assert_eq!(warmth.free(&course, 0, START + HOUR * 23), Free::From(START + DAY));
        warmth.give_back(1_200);
        assert_eq!(warmth.free(&course, 0, START + HOUR * 23), Free::Some(212));
        // A clock that goes back opens no day again.
        assert_eq!(warmth.turn(&course, START - DAY), []);
        assert!(matches!(warmth.free(&course, 0, START - DAY), Free::From(_)));
    }

    // When nearly all that is asked for fits, what waits goes earlier in the day.
    #[test]
    fn who_is_nearly_warm_waits_less() {
        let (mut warmth, course) = (Warmth::begun(&steady(), START), steady());
        warmth.order(&course, Ordered::Stage(8), START);
        warmth.take(600);
        warmth.turn(&course, START + HOUR * 6);
        assert_eq!(warmth.fits(&course, 0, START + HOUR * 6), 70);
        assert_eq!(warmth.fits(&course, 1_000, START + HOUR * 6), 26);
        // So many that the day has no more than half of them waits as long as before.
        assert!(matches!(warmth.free(&course, 1_000, START + HOUR * 6), Free::From(_)));
        assert_eq!(warmth.free(&course, 0, START + HOUR * 6), Free::Some(212));
        warmth.turned_away(5_000);
        assert!(matches!(warmth.free(&course, 0, START + HOUR * 6), Free::From(_)));
    }

    // Whatever happens when: no day has more than its share, no moment more than it has earned, and a restart in between changes nothing.
    #[test]
    fn random_days_keep_to_their_share() {
        for seed in 0..200 {
            let course = if seed % 2 == 0 { steady() } else { learned() };
            let mut drawn = 0;
            let mut dice = |below: u64| {
                drawn += 1;
                draw(seed, drawn) % below
            };
            let (mut warmth, mut now) = (Warmth::begun(&course, START), START);
            let mut most = 0;
            for _ in 0..300 {
                let step = Duration::from_secs(dice(20_000));
                now = if dice(20) == 0 { now - step } else { now + step };
                if !warmth.turn(&course, now).is_empty() {
                    most = 0;
                }
                if let Free::Some(free) = warmth.free(&course, 0, now) {
                    most = most.max(warmth.allowed(&course).unwrap());
                    let take = dice(free + 1);
                    warmth.take(take);
                    assert!(warmth.today().taken <= most, "seed {seed}: {warmth:?}");
                    let unsent = if take > 0 { dice(take) / 4 } else { 0 };
                    warmth.give_back(unsent);
                    let became = [
                        Became::Delivered,
                        Became::Delivered,
                        Became::Deferred,
                        Became::Throttled,
                        Became::Bounced,
                        Became::Delivered,
                        Became::Blocked,
                    ];
                    warmth.note(&course, became[dice(7) as usize], take - unsent, now);
                }
                let kept = postcard::to_allocvec(&warmth).unwrap();
                assert_eq!(postcard::from_bytes::<Warmth>(&kept).unwrap(), warmth);
            }
        }
    }
}
