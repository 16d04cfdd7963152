//! What must a restart not forget?
//!
//! What answers taught: the pace of a lane, who is suspended where, and why, and how far a warm-up is. Without it a restart would try a provider that has
//! just said no, again and again, once for each restart. The host keeps it with the events and gives it back at the start.

use super::{Action, BenchKey, Engine};
use crate::shape::{Bench, Lesson};
use crate::warmup::Warmth;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;

/// More lanes, or senders, than this are not remembered; those that are suspended longest come first.
const REMEMBERED_MAX: usize = 10_000;

/// A value to be kept and given back; nobody else looks inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    lanes: Vec<(IpAddr, Arc<str>, Lesson)>,
    senders: Vec<(BenchKey, Arc<str>, Bench)>,
    warm_ups: Vec<(IpAddr, Option<Arc<str>>, Warmth)>,
}

impl Learned {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty() && self.senders.is_empty() && self.warm_ups.is_empty()
    }
}

impl Engine {
    /// What `Input::Learned` is to give back after a restart.
    #[must_use]
    pub fn learned(&self) -> Learned {
        let now = self.now;
        let of_lane = |(at, lane): (u32, &super::Lane)| {
            (self.ips[lane.ip as usize].address, self.provider_name(at), lane.shape.lesson())
        };
        let not_met_yet = self.lessons.iter().map(|((ip, provider), lesson)| (*ip, provider.clone(), lesson.clone()));
        let mut lanes: Vec<_> = self.lanes.iter().map(of_lane).chain(not_met_yet).collect();
        lanes.retain(|(.., lesson)| !lesson.is_forgotten(now));
        lanes.sort_by_key(|(.., lesson)| std::cmp::Reverse(lesson.bench.until()));
        lanes.truncate(REMEMBERED_MAX);
        let benches = self.benches.iter().filter(|(_, bench)| !bench.is_forgotten(now));
        let mut senders: Vec<_> =
            benches.map(|((key, provider), bench)| (key.clone(), provider.clone(), bench.clone())).collect();
        senders.sort_by_key(|(.., bench)| std::cmp::Reverse(bench.until()));
        senders.truncate(REMEMBERED_MAX);
        // All of them: a warm-up that is forgotten begins anew.
        let warm_ups = self.warm_ups_learned();
        Learned { lanes, senders, warm_ups }
    }

    /// Lanes are made when mail first wants them: until then their lessons lie ready.
    pub(super) fn recall(&mut self, learned: Learned) {
        for (ip, provider, lesson) in learned.lanes {
            self.lessons.insert((ip, provider), lesson);
        }
        for (key, provider, bench) in learned.senders {
            self.benches.insert((key, provider), bench);
        }
        self.recall_warm_ups(learned.warm_ups);
    }

    /// A lane that was just made goes on where the one before the restart was.
    pub(super) fn recall_lane(&mut self, lane: u32) {
        if self.lessons.is_empty() {
            return;
        }
        let key = (self.ips[self.lanes[lane].ip as usize].address, self.provider_name(lane));
        let Some(lesson) = self.lessons.remove(&key) else { return };
        let entry = &mut self.lanes[lane];
        entry.shape.recall(lesson);
        if let Some((until, _)) = entry.shape.suspended(self.now) {
            entry.suspended = true;
            self.wake_lane(lane, until);
        }
    }

    /// Asks the host to make durable what was learned.
    pub(super) fn remember(&mut self) {
        // Once is enough for all that is learned in one step.
        if !matches!(self.actions.back(), Some(Action::Remember)) {
            self.actions.push_back(Action::Remember);
        }
    }
}
