//! Which IP has a place for this message today, and what do answers do to a warm-up? (R4.1 to R4.5)
//!
//! A warm-up changes by events alone, so that the log tells all of it: after a restart it is rebuilt from what was remembered and the
//! events since. What is under way is counted beside it.

use super::{Action, Engine, Path};
use crate::event::{Event, EventKind};
use crate::judged::{Counts, Ordered, Step};
use crate::overflow;
use crate::queue::Home;
use crate::route;
use crate::schedule::Per;
use crate::shape::Verdict;
use crate::snapshot::{Leaving, Plan, PoolKind, WarmUp, WarmUpBy};
use crate::tier::Tier;
use crate::time::Timestamp;
use crate::warmup::{Course, Free, State, Warmth, became};
use crate::why::Why;
use serde::Serialize;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What waits for a place is asked so often whether it leaves for another IP.
pub(super) const ASKED_EVERY: Duration = Duration::from_secs(15);
/// So small a part of a day's places is kept for recipients who were active lately: half of what an hour may carry.
const KEPT_PART: u64 = 16;
/// By which order messages go over the IPs of another pool.
const OVERFLOW_ROUND: u64 = 3;

/// An IP's warm-up, or that of one of its lanes.
#[derive(Debug)]
pub(super) struct Heat {
    pub ip: u32,
    /// None: all that the IP sends.
    pub provider: Option<Arc<str>>,
    pub course: Course,
    pub warmth: Warmth,
    /// Its lane, where it is of one and there is one.
    lane: Option<u32>,
    /// Recipients that are being tried.
    reserved: u64,
}

/// A warm-up to look at (R4.5).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WarmUpView {
    pub ip: IpAddr,
    pub provider: Option<Arc<str>>,
    pub state: State,
    /// The schedule's name; none: it learns.
    pub schedule: Option<Arc<str>>,
    pub stage: u32,
    pub stages: Option<u32>,
    pub percent: u8,
    /// Messages of this day; none: without limit.
    pub allowed: Option<u64>,
    pub today: Counts,
    /// Until then nothing more goes, and why.
    pub until: Option<Timestamp>,
    pub why: Option<Why>,
    /// What was decided last.
    pub last: Option<Step>,
}

/// A walk over all that waits on a path, to ask each message whether it leaves. What one is told holds for the next as long as nothing
/// but the walk happens, so that thousands that wait for one pool are not asked one by one.
#[derive(Debug)]
pub(super) struct Walk {
    pub path: u32,
    no_place: Option<NoPlace>,
}

/// The IPs of their pool have no place for messages of this origin.
#[derive(Clone, Copy, Debug)]
struct NoPlace {
    origin: u32,
    here: u32,
    provider: u32,
    /// How much of what is asked for fits there, in hundredths.
    fits: u64,
    /// Nor have the pools that they may leave by.
    nor_elsewhere: bool,
}

impl Walk {
    pub(super) fn begun(path: u32) -> Walk {
        Walk { path, no_place: None }
    }
}

/// Which warming IP had no place for it, and of how many recipients.
fn turned_away(event: &Event) -> Option<(IpAddr, u32)> {
    match (&event.kind, &event.why) {
        (EventKind::Moved, Some(Why::AllowanceUsed { ip, recipients } | Why::KeptForActive { ip, recipients })) => {
            Some((*ip, *recipients))
        }
        _ => None,
    }
}

impl Engine {
    /// The warm-ups of these IPs.
    #[must_use]
    pub fn warm_ups(&self, of: &[IpAddr]) -> Vec<WarmUpView> {
        let heats = self.heats.iter().filter(|(_, heat)| of.contains(&self.ips[heat.ip as usize].address));
        let mut views: Vec<_> = heats.map(|(_, heat)| self.warm_up_view(heat)).collect();
        views.sort_by(|one, other| (one.ip, &one.provider).cmp(&(other.ip, &other.provider)));
        views
    }

    fn warm_up_view(&self, heat: &Heat) -> WarmUpView {
        let (schedule, stages) = match &heat.course {
            Course::Fixed(schedule) => (Some(Arc::clone(&schedule.name)), Some(schedule.stages())),
            Course::Learned(_) => (None, None),
        };
        let held = self.held_by_heat(heat);
        let waiting = self.waiting_at(heat);
        WarmUpView {
            ip: self.ips[heat.ip as usize].address,
            provider: heat.provider.clone(),
            state: heat.warmth.state(),
            schedule,
            stage: heat.warmth.stage(),
            stages,
            percent: heat.warmth.percent(&heat.course, waiting, self.now),
            allowed: heat.warmth.allowed(&heat.course),
            today: *heat.warmth.today(),
            until: held.as_ref().map(|(until, _)| *until),
            why: held.map(|(_, why)| why),
            last: heat.warmth.last().copied(),
        }
    }

    fn held_by_heat(&self, heat: &Heat) -> Option<(Timestamp, Why)> {
        let Free::From(until) = heat.warmth.free(&heat.course, self.waiting_at(heat), self.now) else { return None };
        let closed = heat.warmth.closed(self.now).and(heat.warmth.last());
        let why = closed.map_or_else(
            || Why::AllowanceUsed { ip: self.ips[heat.ip as usize].address, recipients: 0 },
            |step| Why::WarmUp(*step),
        );
        (until > self.now).then_some((until, why))
    }

    /// What of a lane's warm-up holds it back.
    pub(super) fn held_by_warm_up(&self, lane: u32) -> Option<(Timestamp, Why)> {
        self.held_by_heat(&self.heats[self.lanes[lane].heat?])
    }

    /// By what an IP warms up at a provider; and whether that counts for the provider alone.
    fn course(&self, ip: u32, provider: &Arc<str>, rules: &str) -> Option<(Option<Arc<str>>, Course, &WarmUp)> {
        let warm_up = self.snapshot.ips.get(&self.ips[ip as usize].address)?.warm_up.as_ref()?;
        Some(match &warm_up.by {
            WarmUpBy::Schedule(name) => {
                let schedule = self.snapshot.schedules.named(name)?.clone();
                let of = (schedule.per == Per::Provider).then(|| Arc::clone(provider));
                (of, Course::Fixed(schedule), warm_up)
            }
            WarmUpBy::Learning => {
                let slope = self.snapshot.providers.rules_of(rules).warm_up;
                (Some(Arc::clone(provider)), Course::Learned(slope), warm_up)
            }
        })
    }

    /// The warm-up that a message of this IP to this provider is one of; it begins if there is none yet.
    pub(super) fn heat(&mut self, ip: u32, provider: u32) -> Option<u32> {
        let known = self.providers[provider].clone();
        self.heat_since(ip, &known.key, &known.rules, self.now)
    }

    fn heat_since(&mut self, ip: u32, provider: &Arc<str>, rules: &str, since: Timestamp) -> Option<u32> {
        let (of, course, warm_up) = self.course(ip, provider, rules)?;
        let (ordered, ordered_at) = (warm_up.ordered, warm_up.ordered_at);
        if let Some(at) = self.heat_of.get(&(ip, of.clone())).copied() {
            self.heats[at].course = course;
            return Some(at);
        }
        let before = self.heats_before.remove(&(self.ips[ip as usize].address, of.clone()));
        let mut warmth = before.unwrap_or_else(|| Warmth::begun(&course, since));
        warmth.order(&course, ordered, ordered_at);
        Some(self.add_heat(ip, of, course, warmth))
    }

    /// A lane finds its warm-up.
    pub(super) fn warm_lane(&mut self, lane: u32) {
        let heat = self.heat(self.lanes[lane].ip, self.lanes[lane].provider);
        self.lanes[lane].heat = heat;
        if let Some(entry) = heat.map(|heat| &mut self.heats[heat]).filter(|entry| entry.provider.is_some()) {
            entry.lane = Some(lane);
        }
    }

    /// The lane is no more.
    pub(super) fn cool_lane(&mut self, heat: u32, lane: u32) {
        if let Some(entry) = self.heats.get_mut(heat).filter(|entry| entry.lane == Some(lane)) {
            entry.lane = None;
        }
    }

    fn add_heat(&mut self, ip: u32, provider: Option<Arc<str>>, course: Course, warmth: Warmth) -> u32 {
        if self.heats.len() == 0 {
            // From the first one on the host keeps what is learned, and finds it after a restart.
            self.remember();
        }
        let at = self.heats.insert(Heat { ip, provider: provider.clone(), course, warmth, lane: None, reserved: 0 });
        self.heat_of.insert((ip, provider), at);
        at
    }

    /// What waits at its lane. Where one warm-up is of many lanes, it counts what was asked of it before.
    fn waiting_at(&self, heat: &Heat) -> u64 {
        let lane = heat.lane.and_then(|lane| self.lanes.get(lane));
        lane.map_or(0, |lane| lane.paths.iter().map(|path| u64::from(self.paths[*path].turns.ready)).sum())
    }

    /// Recipients that may be tried now by this warm-up.
    fn places(&mut self, heat: u32) -> Verdict<u64> {
        self.turn_heat(heat, self.now, true);
        let entry = &self.heats[heat];
        let wait = |until| Verdict::Wait {
            until,
            why: Why::AllowanceUsed { ip: self.ips[entry.ip as usize].address, recipients: 0 },
        };
        match entry.warmth.free(&entry.course, self.waiting_at(entry), self.now) {
            Free::All => Verdict::Go(u64::MAX),
            Free::Some(places) if places > entry.reserved => Verdict::Go(places - entry.reserved),
            // What is under way has the last ones; its answers come first.
            Free::Some(_) => wait(self.now + ASKED_EVERY),
            Free::From(until) => wait(until),
        }
    }

    /// The same of a lane.
    pub(super) fn allowance(&mut self, lane: u32) -> Verdict<u64> {
        match self.lanes[lane].heat {
            None => Verdict::Go(u64::MAX),
            Some(heat) => self.places(heat),
        }
    }

    /// So many recipients are being tried, or are no more.
    pub(super) fn reserve_places(&mut self, lane: u32, recipients: usize) {
        if let Some(heat) = self.lanes[lane].heat {
            self.heats[heat].reserved += recipients as u64;
        }
    }

    pub(super) fn return_places(&mut self, lane: u32, recipients: usize) {
        if let Some(heat) = self.lanes[lane].heat {
            let entry = &mut self.heats[heat];
            entry.reserved = entry.reserved.saturating_sub(recipients as u64);
        }
    }

    fn turn_heat(&mut self, heat: u32, now: Timestamp, tell: bool) {
        let entry = &mut self.heats[heat];
        let steps = entry.warmth.turn(&entry.course, now);
        for step in steps {
            // A day on which nothing was asked and nothing changed is not worth a word.
            if tell && (step.from != step.to || step.counts != Counts::default()) {
                self.tell_step(heat, step);
            }
        }
    }

    fn tell_step(&mut self, heat: u32, step: Step) {
        let mut event = self.event(EventKind::WarmUp);
        event.ip = Some(self.ips[self.heats[heat].ip as usize].address);
        event.provider.clone_from(&self.heats[heat].provider);
        event.next_at = step.until;
        event.why = Some(Why::WarmUp(step));
        self.actions.push_back(Action::Record(event));
    }

    /// What an event says about a warm-up takes effect. `tell`: what follows from it is news.
    pub(super) fn warmed_by(&mut self, event: &Event, tell: bool) {
        let moved_from = turned_away(event);
        let counts = matches!(
            event.kind,
            EventKind::Delivered
                | EventKind::Deferred
                | EventKind::Bounced
                | EventKind::Returned
                | EventKind::Complained
        );
        if !counts && moved_from.is_none() {
            return;
        }
        let Some(address) = moved_from.map(|(ip, _)| ip).or(event.ip) else { return };
        let (Some(ip), Some(provider)) = (self.ip_of.get(&address).copied(), event.provider.as_ref()) else { return };
        let of_lane = self.heat_of.get(&(ip, Some(Arc::clone(provider))));
        let Some(heat) = of_lane.or_else(|| self.heat_of.get(&(ip, None))).copied() else { return };
        self.turn_heat(heat, event.at, tell);
        let entry = &mut self.heats[heat];
        if let Some((_, recipients)) = moved_from {
            entry.warmth.turned_away(u64::from(recipients));
            return;
        }
        let step = if event.kind == EventKind::Complained {
            entry.warmth.complained(&entry.course, 1, event.at)
        } else {
            // What was sent back later had its place when it was delivered.
            if event.kind != EventKind::Returned {
                entry.warmth.take(1);
            }
            became(event).and_then(|became| entry.warmth.note(&entry.course, became, 1, event.at))
        };
        if let Some(step) = step.filter(|_| tell) {
            self.tell_step(heat, step);
        }
    }

    /// After a restart: what happened since the host wrote down what was learned.
    pub(super) fn past(&mut self, event: &Event) {
        let turned_away = turned_away(event).map(|(ip, _)| ip);
        let tried = event.ip.filter(|_| became(event).is_some());
        if let (Some(address), Some(provider)) = (turned_away.or(tried), &event.provider) {
            self.heat_of_name(address, provider, event.at);
        }
        self.warmed_by(event, false);
    }

    /// The warm-up of a lane that there may be no mail for now.
    fn heat_of_name(&mut self, address: IpAddr, provider: &Arc<str>, since: Timestamp) {
        if self.snapshot.ips.get(&address).is_some_and(|ip| ip.warm_up.is_some()) {
            let ip = self.ip(address);
            let is_known = self.snapshot.providers.names().any(|known| *known == **provider);
            let rules = if is_known { Arc::clone(provider) } else { Arc::from("default") };
            self.heat_since(ip, provider, &rules, since);
        }
    }

    /// Its place is used up: what waits there is asked now and then whether it goes elsewhere.
    pub(super) fn overflow(&mut self, lane: u32) {
        if self.now.since(self.lanes[lane].asked_at) >= ASKED_EVERY {
            self.lanes[lane].asked_at = self.now;
            self.rehome_lane(lane);
        }
    }

    /// When a lane without a place is looked at again.
    pub(super) fn asked_again(&self, until: Timestamp) -> Timestamp {
        until.min(self.now + ASKED_EVERY)
    }

    /// R4.2: where a message goes that this IP has no place for: to another of its pool, to the overflow pool, to the shared one, to
    /// the relay. None: it has a place here, or waits for one.
    pub(super) fn overflow_for(&mut self, message: u32, here: u32, provider: u32) -> Option<(u32, Why)> {
        let entry = &self.queue.messages[message];
        let (id, since, lifetime) = (entry.id(), entry.accepted_at, entry.expires_at.since(entry.accepted_at));
        let (of, now) = (entry.origin, self.now);
        let is_second = self.is_second(message);
        // It is no use to wait where others come first.
        let stays = |fits| !is_second && since + overflow::leaves_after(fits, lifetime) > now;
        let known = self.walk.as_ref().and_then(|walk| walk.no_place);
        let known = known.filter(|known| (known.origin, known.here, known.provider) == (of, here, provider));
        if known.is_some_and(|known| known.nor_elsewhere || stays(known.fits)) {
            return None;
        }
        let heat = self.heat(here, provider)?;
        if matches!(self.places_for(is_second, heat), Verdict::Go(_)) && !self.is_crowded(here, provider) {
            return None;
        }
        let recipients = u32::try_from(self.waiting(message).count()).unwrap_or(u32::MAX);
        let ip = self.ips[here as usize].address;
        let why = match self.places(heat) {
            Verdict::Go(_) if is_second => Why::KeptForActive { ip, recipients },
            _ => Why::AllowanceUsed { ip, recipients },
        };
        let origin = self.queue.origins[self.queue.messages[message].origin].clone();
        let Home::Decided { pool, candidates, .. } = origin.home else { return None };
        let from = route::place(id, 1, candidates.len()).unwrap_or(0);
        let own: Vec<IpAddr> = (0..candidates.len()).map(|step| candidates[(from + step) % candidates.len()]).collect();
        if let Some(ip) = self.with_place(&own, here, message, provider) {
            return Some((ip, why));
        }
        let fits = self.fits(&own, provider);
        let no_place = NoPlace { origin: of, here, provider, fits, nor_elsewhere: false };
        // What one of the second finds does not hold for one of the first.
        if !is_second {
            self.note_on_walk(no_place);
        }
        if stays(fits) {
            return None;
        }
        let snapshot = Arc::clone(&self.snapshot);
        let pool = snapshot.pools.get(&pool).filter(|pool| pool.kind != PoolKind::Shared)?;
        let relay: Vec<IpAddr> = pool.relay.into_iter().filter(|_| pool.leaving != Leaving::Never).collect();
        let may_share = pool.leaving == Leaving::Shared
            && snapshot.accounts.get(&origin.account).is_some_and(|account| account.plan != Plan::Enterprise);
        let tier = snapshot.accounts.get(&origin.account).map_or(Tier::Standard, |account| account.tier);
        let shared = snapshot.shared_for(&pool.region, tier).map(|(_, pool)| pool).filter(|_| may_share);
        for other in pool.overflow.iter().filter_map(|id| snapshot.pools.get(id)).chain(shared) {
            let from = route::place(id, OVERFLOW_ROUND, other.ips.len()).unwrap_or(0);
            let ips: Vec<IpAddr> =
                (0..other.ips.len()).map(|step| other.ips[(from + step) % other.ips.len()]).collect();
            if let Some(ip) = self.with_place(&ips, here, message, provider) {
                return Some((ip, why));
            }
        }
        if let Some(ip) = self.with_place(&relay, here, message, provider) {
            return Some((ip, why));
        }
        if !is_second {
            self.note_on_walk(NoPlace { nor_elsewhere: true, ..no_place });
        }
        None
    }

    /// Whether the places of its pool's warming IPs are for others first.
    pub(super) fn is_second(&self, message: u32) -> bool {
        let entry = &self.queue.messages[message];
        let Home::Decided { pool, .. } = &self.queue.origins[entry.origin].home else { return false };
        let within = self.snapshot.pools.get(pool).and_then(|pool| pool.active_within);
        within.is_some_and(|within| entry.idle_days > within)
    }

    /// As `places`; for one of the second only what those of the first leave over: they find some at any time, and a day whose places
    /// they do not ask for is used all the same.
    fn places_for(&mut self, is_second: bool, heat: u32) -> Verdict<u64> {
        let entry = &self.heats[heat];
        let kept = match entry.warmth.allowed(&entry.course) {
            Some(allowed) if is_second => (allowed / KEPT_PART).max(1),
            _ => 0,
        };
        match self.places(heat) {
            Verdict::Go(places) if places <= kept => Verdict::Wait {
                until: self.now + ASKED_EVERY,
                why: Why::KeptForActive { ip: self.ips[self.heats[heat].ip as usize].address, recipients: 0 },
            },
            places => places,
        }
    }

    fn note_on_walk(&mut self, no_place: NoPlace) {
        if let Some(walk) = &mut self.walk {
            walk.no_place = Some(no_place);
        }
    }

    /// A provider that said no, or not so fast, is not to be asked by all that wait; nor a relay that was not reached before one of them
    /// has been taken there.
    fn is_crowded(&self, ip: u32, provider: u32) -> bool {
        let provider = self.ips[ip as usize].relay.map_or(provider, |(_, relay)| relay);
        let Some(lane) = self.lane_of.get(&(ip, provider)).map(|lane| &self.lanes[*lane]) else { return false };
        if lane.shape.suspended(self.now).is_some() {
            return true;
        }
        let untried = |path: &Path| path.failures > 0 && path.turns.ready > 0;
        if self.ips[ip as usize].relay.is_some() && lane.paths.iter().any(|path| untried(&self.paths[*path])) {
            return true;
        }
        let waiting = || lane.paths.iter().map(|path| u64::from(self.paths[*path].turns.ready)).sum::<u64>();
        lane.shape.slowed(self.now).is_some() && waiting() >= lane.shape.most_in(ASKED_EVERY, self.now)
    }

    /// The first of these IPs that may send the message now; a warm one before one that warms up itself.
    fn with_place(&mut self, ips: &[IpAddr], here: u32, message: u32, provider: u32) -> Option<u32> {
        let mut warming = None;
        for address in ips {
            if !self.snapshot.is_usable(*address) {
                continue;
            }
            let ip = self.ip(*address);
            if ip == here || self.unfit(ip, message, provider).is_some() || self.is_crowded(ip, provider) {
                continue;
            }
            match self.heat(ip, provider) {
                None => return Some(ip),
                Some(heat) => match self.places_for(self.is_second(message), heat) {
                    Verdict::Go(u64::MAX) => return Some(ip),
                    Verdict::Go(_) => warming = warming.or(Some(ip)),
                    Verdict::Wait { .. } => {}
                },
            }
        }
        warming
    }

    /// How much of what is asked of these IPs at the provider they may send, in hundredths.
    fn fits(&mut self, ips: &[IpAddr], provider: u32) -> u64 {
        let (mut of_day, mut of_hour) = ((0u64, 0u64), (0u64, 0u64));
        for address in ips {
            let ip = self.ip(*address);
            let Some(heat) = self.heat(ip, provider) else { continue };
            let entry = &self.heats[heat];
            let waiting = self.waiting_at(entry);
            let hour = entry.warmth.hour(&entry.course, waiting + entry.reserved);
            let (Some(allowed), Some((in_hour, asked))) = (entry.warmth.allowed(&entry.course), hour) else { continue };
            // What is shut for now sends no more than it has.
            let is_shut = entry.warmth.closed(self.now).is_some() || self.is_crowded(ip, provider);
            of_day.0 += if is_shut { entry.warmth.today().taken } else { allowed };
            of_day.1 += entry.warmth.wanted(waiting, self.now);
            of_hour = (of_hour.0 + in_hour, of_hour.1 + asked);
        }
        let percent = |(may, wanted): (u64, u64)| (may * 100).checked_div(wanted).unwrap_or(100).min(100);
        percent(of_day).min(percent(of_hour))
    }

    /// The snapshot may have changed by what these IPs warm up, or what was ordered about it.
    pub(super) fn take_warm_ups(&mut self, ips: &[u32]) {
        for ip in ips.iter().copied() {
            let address = self.ips[ip as usize].address;
            let warm_up = self.snapshot.ips.get(&address).and_then(|known| known.warm_up.clone());
            let heats: Vec<u32> = self.heats.iter().filter(|(_, heat)| heat.ip == ip).map(|(at, _)| at).collect();
            let mut is_followed = false;
            for heat in heats {
                let course = warm_up.as_ref().and_then(|warm_up| self.course_now(heat, &warm_up.by));
                let (Some(course), Some(warm_up)) = (course, &warm_up) else {
                    self.forget_heat(heat);
                    continue;
                };
                self.turn_heat(heat, self.now, true);
                let entry = &mut self.heats[heat];
                entry.course = course;
                if entry.warmth.ordered_at() < warm_up.ordered_at {
                    entry.warmth.order(&entry.course, warm_up.ordered, warm_up.ordered_at);
                    is_followed = true;
                }
            }
            if let Some(warm_up) = warm_up.filter(|_| is_followed) {
                let mut event = self.event(EventKind::WarmUp);
                event.ip = Some(address);
                event.why = Some(Why::WarmUpOrdered(warm_up.ordered));
                self.actions.push_back(Action::Record(event));
                self.remember();
            }
            let lanes: Vec<u32> = self.lanes.iter().filter(|(_, lane)| lane.ip == ip).map(|(at, _)| at).collect();
            for lane in lanes {
                self.warm_lane(lane);
                self.kick(lane);
            }
        }
    }

    /// The course a warm-up has by now; none: it counts for something else, and is none any more.
    fn course_now(&self, heat: u32, by: &WarmUpBy) -> Option<Course> {
        let entry = &self.heats[heat];
        match by {
            WarmUpBy::Schedule(name) => {
                let schedule = self.snapshot.schedules.named(name)?;
                let fits = (schedule.per == Per::Provider) == entry.provider.is_some();
                fits.then(|| Course::Fixed(schedule.clone()))
            }
            WarmUpBy::Learning => {
                let slope = self.snapshot.providers.rules_of(entry.provider.as_ref()?).warm_up;
                Some(Course::Learned(slope))
            }
        }
    }

    fn forget_heat(&mut self, at: u32) {
        self.drop_heat(at);
        for lane in 0..self.lanes.end() {
            if let Some(lane) = self.lanes.get_mut(lane).filter(|lane| lane.heat == Some(at)) {
                lane.heat = None;
            }
        }
    }

    fn drop_heat(&mut self, at: u32) {
        if let Some(heat) = self.heats.remove(at) {
            self.heat_of.remove(&(heat.ip, heat.provider));
        }
    }

    /// Those of no lane that nothing was asked of, and that would begin again as they are.
    pub(super) fn sweep_heats(&mut self) {
        let mut in_use = vec![false; self.heats.end() as usize];
        self.lanes.iter().filter_map(|(_, lane)| lane.heat).for_each(|heat| in_use[heat as usize] = true);
        let gone: Vec<u32> = self
            .heats
            .iter()
            .filter(|(at, heat)| !in_use[*at as usize] && self.would_begin_so(heat))
            .map(|(at, _)| at)
            .collect();
        gone.into_iter().for_each(|heat| self.drop_heat(heat));
    }

    fn would_begin_so(&self, heat: &Heat) -> bool {
        let known = self.snapshot.ips.get(&self.ips[heat.ip as usize].address);
        let ordered = known.and_then(|ip| ip.warm_up.as_ref()).map(|warm_up| warm_up.ordered);
        ordered.is_none_or(|ordered| ordered == Ordered::Restart) && heat.warmth.is_as_new(&heat.course)
    }

    /// What was remembered goes on; of an IP that is not known yet, when it is.
    pub(super) fn recall_warm_ups(&mut self, warm_ups: Vec<(IpAddr, Option<Arc<str>>, Warmth)>) {
        let keys: Vec<_> = warm_ups.iter().map(|(ip, provider, _)| (*ip, provider.clone())).collect();
        self.heats_before.extend(warm_ups.into_iter().map(|(ip, provider, warmth)| ((ip, provider), warmth)));
        for (ip, provider) in keys {
            self.heat_of_name(ip, &provider.unwrap_or_default(), self.now);
        }
    }

    /// All that is known of warm-ups, in the order of their IPs.
    pub(super) fn warm_ups_learned(&self) -> Vec<(IpAddr, Option<Arc<str>>, Warmth)> {
        let live = self
            .heats
            .iter()
            .map(|(_, heat)| (self.ips[heat.ip as usize].address, heat.provider.clone(), heat.warmth.clone()));
        let before = self.heats_before.iter();
        let before = before.map(|((ip, provider), warmth)| (*ip, provider.clone(), warmth.clone()));
        let mut all: Vec<_> = live.chain(before).collect();
        all.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        all
    }
}
