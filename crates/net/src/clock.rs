//! What time is it?
//!
//! The only file that reads the clock. A run sees one time line: the wall clock at the start, carried on by the
//! monotonic clock, and slewed towards the wall by at most half a second per minute. So a wall clock that is set a day
//! forward or back expires no message, starts no storm of retries and fills no allowance; it is reported, once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// At most half a second per minute: one part in 120.
const SLEW_DIVISOR: i64 = 120;

/// The wall moved against the monotonic clock by more than this between two readings: somebody set it.
const JUMP_MIN_US: i64 = 1_000_000;

/// Clones share one time line. On a paced one so much time passes in each second of ours, and nobody sets it.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Shared>);

/// The wall clock was set while we ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// How far, in microseconds; negative is backwards.
    pub by_us: i64,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    pace: u32,
    line: Mutex<Line>,
}

impl Clock {
    /// Starts a time line at the present wall clock.
    pub fn system() -> Clock {
        Clock::paced(1)
    }

    /// As many seconds pass as `pace` says in each of ours: for a demonstration, in which a day is not waited for.
    pub fn paced(pace: u32) -> Clock {
        Clock(Arc::new(Shared { started: Instant::now(), pace: pace.max(1), line: Mutex::new(Line::start(wall_us())) }))
    }

    /// Microseconds since 1970. Never goes back and never leaps.
    pub fn now(&self) -> i64 {
        let mut line = self.line();
        // Both are read under the lock, so that no older reading can come after a newer one.
        let elapsed_ns: i64 = self.0.started.elapsed().as_nanos().try_into().unwrap_or(i64::MAX);
        match self.0.pace {
            1 => line.read(elapsed_ns, wall_us()),
            pace => line.start_us.saturating_add((elapsed_ns / 1_000).saturating_mul(i64::from(pace))),
        }
    }

    /// How long to wait until `at`; nothing when it is past. For timers of the host.
    pub fn until(&self, at: i64) -> Duration {
        Duration::from_micros(u64::try_from(at.saturating_sub(self.now())).unwrap_or(0)) / self.0.pace
    }

    /// The jump seen since the last call, if any: each is reported once.
    pub fn take_jump(&self) -> Option<Jump> {
        self.line().jump.take()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // A poisoned line is as good as any: every write to it is a single number.
        self.0.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wall_us() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_micros().try_into().unwrap_or(i64::MAX),
        Err(before) => -before.duration().as_micros().try_into().unwrap_or(i64::MAX),
    }
}

/// The time line as a value: fed with readings of both clocks, it answers what time it is.
#[derive(Debug)]
struct Line {
    start_us: i64,
    /// What slewing has added so far.
    slewed_ns: i64,
    /// The monotonic reading up to which slewing is done.
    slewed_until_ns: i64,
    /// Wall minus unslewed line at the last reading; a sudden change is a jump.
    drift_us: i64,
    jump: Option<Jump>,
}

impl Line {
    fn start(wall_us: i64) -> Line {
        Line { start_us: wall_us, slewed_ns: 0, slewed_until_ns: 0, drift_us: 0, jump: None }
    }

    fn read(&mut self, elapsed_ns: i64, wall_us: i64) -> i64 {
        let drift_us = wall_us.saturating_sub(self.start_us.saturating_add(elapsed_ns / 1_000));
        let by_us = drift_us.saturating_sub(self.drift_us);
        if by_us.saturating_abs() > JUMP_MIN_US {
            // Two jumps between two calls of `take_jump` are told as their sum.
            let before = self.jump.map_or(0, |jump| jump.by_us);
            self.jump = Some(Jump { by_us: before.saturating_add(by_us) });
        }
        self.drift_us = drift_us;

        // The step is smaller than the time that passed, so the line never runs backwards.
        let step_max_ns = (elapsed_ns - self.slewed_until_ns) / SLEW_DIVISOR;
        if step_max_ns > 0 {
            let wanted_ns = drift_us.saturating_mul(1_000).saturating_sub(self.slewed_ns);
            self.slewed_ns += wanted_ns.clamp(-step_max_ns, step_max_ns);
            self.slewed_until_ns = elapsed_ns;
        }
        self.start_us.saturating_add((elapsed_ns + self.slewed_ns) / 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: i64 = 1_000_000_000;
    const SECOND_US: i64 = 1_000_000;
    const DAY_US: i64 = 86_400 * SECOND_US;
    const START_US: i64 = 1_800_000_000 * SECOND_US;

    #[test]
    fn on_a_paced_clock_a_day_is_soon_over() {
        let clock = Clock::paced(86_400);
        let began = clock.now();
        let until = clock.until(began + DAY_US);
        assert!(until <= Duration::from_secs(1), "{until:?}");
        while clock.now() < began + 600 * SECOND_US {
            std::thread::yield_now();
        }
        assert!(clock.take_jump().is_none());
    }

    #[test]
    fn runs_with_the_wall_while_the_wall_is_sane() {
        let mut line = Line::start(START_US);
        for second in 1..100 {
            let wall = START_US + second * SECOND_US;
            assert_eq!(line.read(second * SECOND_NS, wall), wall);
        }
        assert_eq!(line.jump, None);
    }

    // E3
    #[test]
    fn a_day_forward_and_two_back_move_the_line_by_half_a_second_a_minute() {
        let mut line = Line::start(START_US);
        let mut before = START_US;
        for (minute, offset_us) in [(1, DAY_US), (2, DAY_US), (3, -DAY_US), (4, -DAY_US)] {
            let elapsed_us = minute * 60 * SECOND_US;
            let now = line.read(elapsed_us * 1_000, START_US + elapsed_us + offset_us);
            let passed = now - before;
            let expected = 60 * SECOND_US + offset_us.signum() * SECOND_US / 2;
            assert_eq!(passed, expected, "minute {minute}");
            before = now;
        }
    }

    // E3
    #[test]
    fn a_jump_is_reported_once_and_jumps_in_between_are_summed() {
        let mut line = Line::start(START_US);
        line.read(SECOND_NS, START_US + SECOND_US + DAY_US);
        assert_eq!(line.jump.take(), Some(Jump { by_us: DAY_US }));
        for second in 2..1_000 {
            line.read(second * SECOND_NS, START_US + second * SECOND_US + DAY_US);
        }
        assert_eq!(line.jump, None);

        line.read(1_000 * SECOND_NS, START_US + 1_000 * SECOND_US - DAY_US);
        line.read(1_001 * SECOND_NS, START_US + 1_001 * SECOND_US);
        assert_eq!(line.jump, Some(Jump { by_us: -DAY_US }));
    }

    #[test]
    fn never_runs_backwards_however_often_it_is_read() {
        let mut line = Line::start(START_US);
        let (mut elapsed_ns, mut before) = (0, START_US);
        for step in 0..100_000_i64 {
            elapsed_ns += step * 7 % 5_000;
            let now = line.read(elapsed_ns, START_US + elapsed_ns / 1_000 - DAY_US);
            assert!(now >= before, "{now} after {before}");
            before = now;
        }
    }

    #[test]
    fn a_small_drift_is_made_up_and_then_followed() {
        let mut line = Line::start(START_US);
        // The monotonic clock runs slow: after two minutes the wall is half a second ahead.
        let wall = |second: i64| START_US + second * SECOND_US + SECOND_US / 2;
        for second in 1..=119 {
            assert!(line.read(second * SECOND_NS, wall(second)) <= wall(second));
        }
        assert_eq!(line.read(120 * SECOND_NS, wall(120)), wall(120));
        assert_eq!(line.jump, None);
    }

    #[test]
    fn the_system_clock_moves_on_and_waits_for_nothing_past() {
        let clock = Clock::system();
        let first = clock.now();
        assert!(clock.now() >= first);
        assert_eq!(clock.until(first - SECOND_US), Duration::ZERO);
        let wait = clock.until(first + 3_600 * SECOND_US);
        assert!(wait > Duration::from_secs(3_000) && wait <= Duration::from_secs(3_600));
    }
}
