//! What does an event count as, and what do counts say? (R6.2)
//!
//! A count is added where it belongs by time and place of what is counted: what comes back days later corrects the hour in which the
//! message was delivered, and a reader of that hour sees what really became of it.

use crate::classify::Class;
use crate::event::{Event, EventKind, Reader};
use crate::simulator;
use crate::time::Timestamp;
use std::time::Duration;

/// The number of `Count`s.
pub const COUNTS: usize = 15;
/// The number of steps of the time to deliver: those of `STEPS_S` and what is longer.
pub const STEPS: usize = STEPS_S.len() + 1;
/// Upper bounds in seconds, from "at once" to "after a day".
pub const STEPS_S: [u64; 15] = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400];

/// Each recipient of a message counts once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Count {
    Accepted,
    Delivered,
    /// Tries that are repeated, not recipients.
    Deferred,
    /// The address does not exist.
    Hard,
    /// It does, and takes no mail.
    Soft,
    /// A refusal because of us.
    Blocked,
    /// A refusal that does not say, or is of our own making.
    Other,
    Expired,
    Deleted,
    /// At its time there was nothing it could leave from.
    Rejected,
    Suppressed,
    Complained,
    Unsubscribed,
    /// By somebody, or on somebody's behalf: machines that look at everything count for nothing.
    Opened,
    Clicked,
}

/// In the order of their numbers.
pub const ALL: [Count; COUNTS] = [
    Count::Accepted,
    Count::Delivered,
    Count::Deferred,
    Count::Hard,
    Count::Soft,
    Count::Blocked,
    Count::Other,
    Count::Expired,
    Count::Deleted,
    Count::Rejected,
    Count::Suppressed,
    Count::Complained,
    Count::Unsubscribed,
    Count::Opened,
    Count::Clicked,
];

impl Count {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Count::Accepted => "accepted",
            Count::Delivered => "delivered",
            Count::Deferred => "deferred",
            Count::Hard => "hard",
            Count::Soft => "soft",
            Count::Blocked => "blocked",
            Count::Other => "other",
            Count::Expired => "expired",
            Count::Deleted => "deleted",
            Count::Rejected => "rejected",
            Count::Suppressed => "suppressed",
            Count::Complained => "complained",
            Count::Unsubscribed => "unsubscribed",
            Count::Opened => "opened",
            Count::Clicked => "clicked",
        }
    }
}

/// What is to be done with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// It says where and when itself.
    Here(Count),
    /// It is about a delivery: counted with that one's IP, pool and provider, at its own time.
    WithDelivery(Count),
    /// The delivery was none: in its hour, it counts as this instead.
    InsteadOfDelivery(Count),
    Not,
}

#[must_use]
pub fn counted(event: &Event) -> Counted {
    // R7.1: who tries things out has sent nothing.
    if event.provider.as_deref() == Some(simulator::PROVIDER) {
        return Counted::Not;
    }
    match event.kind {
        EventKind::Accepted => Counted::Here(Count::Accepted),
        EventKind::Delivered => Counted::Here(Count::Delivered),
        EventKind::Deferred => Counted::Here(Count::Deferred),
        EventKind::Bounced => Counted::Here(bounce(event)),
        EventKind::Expired => Counted::Here(Count::Expired),
        EventKind::Deleted => Counted::Here(Count::Deleted),
        EventKind::Rejected => Counted::Here(Count::Rejected),
        EventKind::Suppressed => Counted::Here(Count::Suppressed),
        EventKind::Returned => Counted::InsteadOfDelivery(bounce(event)),
        EventKind::Complained => Counted::WithDelivery(Count::Complained),
        EventKind::Unsubscribed => Counted::WithDelivery(Count::Unsubscribed),
        EventKind::Opened if event.reader != Some(Reader::Machine) => Counted::WithDelivery(Count::Opened),
        EventKind::Clicked if event.reader != Some(Reader::Machine) => Counted::WithDelivery(Count::Clicked),
        EventKind::Opened
        | EventKind::Clicked
        | EventKind::Answered
        | EventKind::Held
        | EventKind::Released
        | EventKind::Delayed
        | EventKind::Moved
        | EventKind::LaneSlowed
        | EventKind::LaneSuspended
        | EventKind::LaneResumed
        | EventKind::SiteUnreachable
        | EventKind::SiteReachable
        | EventKind::IpGone
        | EventKind::IpBack
        | EventKind::Routed
        | EventKind::IpDrained
        | EventKind::WarmUp => Counted::Not,
    }
}

fn bounce(event: &Event) -> Count {
    match event.meaning.as_ref().map(|meaning| meaning.class) {
        Some(Class::Hard) => Count::Hard,
        Some(Class::Soft | Class::Throttle) => Count::Soft,
        Some(Class::Block) => Count::Blocked,
        Some(Class::Admin | Class::Undetermined) | None => Count::Other,
    }
}

/// The step of a time to deliver.
#[must_use]
pub fn step_of(waited: Duration) -> usize {
    STEPS_S.iter().position(|bound| waited <= Duration::from_secs(*bound)).unwrap_or(STEPS - 1)
}

/// Within how many seconds this part (0 to 1) of what was delivered was delivered; between two bounds, as if evenly spread. None:
/// nothing was, or it took longer than the last bound.
#[must_use]
pub fn within_s(steps: &[i64; STEPS], part: f64) -> Option<f64> {
    let all: i64 = steps.iter().sum();
    if all <= 0 {
        return None;
    }
    let wanted = part * all as f64;
    let mut before = 0.0;
    let mut lower = 0.0;
    for (count, bound) in steps.iter().zip(STEPS_S) {
        let (count, bound) = (*count as f64, bound as f64);
        if count > 0.0 && before + count >= wanted {
            return Some(lower + (bound - lower) * ((wanted - before) / count).clamp(0.0, 1.0));
        }
        before += count;
        lower = bound;
    }
    None
}

/// How finely time is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grain {
    Minute,
    Hour,
    Day,
}

pub const GRAINS: [Grain; 3] = [Grain::Minute, Grain::Hour, Grain::Day];

impl Grain {
    #[must_use]
    pub fn seconds(self) -> i64 {
        match self {
            Grain::Minute => 60,
            Grain::Hour => 3_600,
            Grain::Day => 86_400,
        }
    }

    /// The beginning of what holds this moment, in seconds since 1970 (UTC).
    #[must_use]
    pub fn begin(self, at: Timestamp) -> i64 {
        at.unix_seconds().div_euclid(self.seconds()) * self.seconds()
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Count, Counted, Grain, STEPS, counted, step_of, within_s};
    use crate::classify::{Class, Meaning, Subtype};
    use crate::event::{Event, EventKind};
    use crate::time::Timestamp;
    use std::time::Duration;

    // R6.2
    #[test]
    fn a_refusal_counts_by_what_it_means() {
        assert!(ALL.iter().enumerate().all(|(at, count)| *count as usize == at));
        let cases = [
            (Some(Class::Hard), Count::Hard),
            (Some(Class::Soft), Count::Soft),
            (Some(Class::Throttle), Count::Soft),
            (Some(Class::Block), Count::Blocked),
            (Some(Class::Admin), Count::Other),
            (None, Count::Other),
        ];
        for (class, expected) in cases {
            let meaning = class.map(|class| Meaning::own(class, Subtype::General));
            let event = Event { meaning, ..Event::new(Timestamp(0), EventKind::Bounced) };
            assert_eq!(counted(&event), Counted::Here(expected));
        }
        assert_eq!(counted(&Event::new(Timestamp(0), EventKind::LaneSlowed)), Counted::Not);
    }

    #[test]
    fn times_to_deliver_are_told_from_steps() {
        let mut steps = [0; STEPS];
        assert_eq!(within_s(&steps, 0.5), None);
        for seconds in [1, 1, 2, 4, 200_000] {
            steps[step_of(Duration::from_secs(seconds))] += 1;
        }
        assert_eq!(step_of(Duration::ZERO), 0);
        assert_eq!(within_s(&steps, 0.4), Some(1.0));
        assert_eq!(within_s(&steps, 0.6), Some(2.0));
        assert_eq!(within_s(&steps, 0.7), Some(3.5));
        assert_eq!(within_s(&steps, 0.95), None);
    }

    #[test]
    fn a_moment_is_in_one_minute_hour_and_day() {
        let at = Timestamp::from_unix_seconds(1_793_491_200 + 3_725);
        assert_eq!(Grain::Minute.begin(at), 1_793_491_200 + 3_720);
        assert_eq!(Grain::Hour.begin(at), 1_793_491_200 + 3_600);
        assert_eq!(Grain::Day.begin(at), 1_793_491_200);
        assert_eq!(Grain::Day.begin(Timestamp(-1)), -86_400);
    }
}
