//! Which connections are open, what does each carry next, and when does it close?
//!
//! A path that has mail is *runnable* and is served: its idle sessions take tickets, fair turn by fair turn; when none is idle, one more
//! is opened as far as ramp, limits and depth allow. A path that the lane holds back (rate, suspension, connections) stands in the
//! lane's row of stalled paths; when the lane may speak again, one is served, and passes the word on if it leaves something over.

use super::warm::ASKED_EVERY;
use super::{Action, Alarm, DomainStatus, Engine, Flight, SWEEP_EVERY, SessionState, Timer};
use crate::attempt::{ConnectFailure, ConnectFailureKind};
use crate::classify::{Reaction, ReactionKind, Scope};
use crate::envelope::TlsWish;
use crate::event::EventKind;
use crate::id::{AttemptId, SessionId};
use crate::queue::{End, Place, Recipients, Wait};
use crate::shape::{Change, Verdict};
use crate::time::Timestamp;
use crate::why::Why;
use mail::reply::Reply;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// While another site of the lane waits for a connection, one is handed over after so many messages.
const HAND_OVER_AFTER: u32 = 20;
/// Our own lack of file descriptors or memory is over soon.
const LOCAL_FAULT_PAUSE: Duration = Duration::from_secs(5);
/// Session and attempt ids hold the place in the slab in their low bits, so that finding one costs nothing.
const PLACE_BITS: u32 = 24;

/// What stopped the serving of a path.
enum Stop {
    /// Nothing more to do here; another path of the lane may go on.
    Done,
    /// The lane itself holds back until then.
    LaneWaits(Timestamp),
    /// All connections of the lane are in use.
    LaneFull,
    /// All connections of the machine are in use.
    MachineFull,
}

impl Engine {
    /// The path has something to do.
    pub(super) fn run(&mut self, path: u32) {
        let entry = &mut self.paths[path];
        if !entry.runnable {
            entry.runnable = true;
            self.runnable.push_back(path);
        }
    }

    pub(super) fn serve(&mut self, path: u32) {
        let Some(entry) = self.paths.get_mut(path) else {
            return;
        };
        entry.runnable = false;
        let lane = entry.lane;
        if self.stopping {
            return;
        }
        let stop = self.serve_until(path, lane);
        self.rest(path);
        match stop {
            Stop::Done => self.kick(lane),
            Stop::LaneWaits(until) => {
                self.stall(path, lane);
                self.wake_lane(lane, until);
            }
            Stop::LaneFull => {
                self.stall(path, lane);
                if let Some(idle) = self.lanes[lane].idle.first().copied() {
                    self.close(idle);
                }
            }
            Stop::MachineFull => {
                if !std::mem::replace(&mut self.paths[path].machine_stalled, true) {
                    self.stalled.push_back(path);
                }
                self.kick(lane);
            }
        }
    }

    /// Connections that found nothing to carry are closed after a while.
    fn rest(&mut self, path: u32) {
        let until = self.now + self.lanes[self.paths[path].lane].shape.rules.idle;
        for session in &self.paths[path].idle {
            let entry = &mut self.sessions[*session];
            if entry.idle_until == Timestamp::MAX {
                entry.idle_until = until;
                self.timers.insert((until, Timer::Idle(*session)));
            }
        }
    }

    fn serve_until(&mut self, path: u32, lane: u32) -> Stop {
        while self.paths[path].turns.ready > 0 {
            if let Verdict::Wait { until, .. } = self.lanes[lane].shape.may_start(self.now) {
                if self.lanes[lane].heat.is_some() && until.since(self.now) >= ASKED_EVERY {
                    self.overflow(lane);
                    return Stop::LaneWaits(self.asked_again(until));
                }
                return Stop::LaneWaits(until);
            }
            let places = match self.allowance(lane) {
                Verdict::Go(places) => places,
                Verdict::Wait { until, .. } => {
                    self.overflow(lane);
                    return Stop::LaneWaits(self.asked_again(until));
                }
            };
            match self.paths[path].idle.last().copied() {
                Some(session) => {
                    if let Some(ticket) = self.next_ticket(path) {
                        self.dispatch(session, ticket, places);
                    }
                }
                None => return self.open_more(path, lane, places),
            }
        }
        Stop::Done
    }

    /// The next ticket whose turn it is and that may really go from here.
    fn next_ticket(&mut self, path: u32) -> Option<u32> {
        let messages = &self.queue.messages;
        let turns = &mut self.paths[path].turns;
        let ticket = self.flows.pop(&mut self.queue.tickets, turns, |ticket| messages[ticket.message].cost)?;
        let entry = &self.queue.tickets[ticket];
        let (message, domain) = (entry.message, entry.domain);
        let here = &self.paths[path];
        let lane = &self.lanes[here.lane];
        let provider = lane.provider;
        let same = matches!(self.domains[domain].status, DomainStatus::Site { site, provider } if self.way(lane.ip, site, provider) == (here.site, lane.provider));
        let ip = &self.ips[lane.ip as usize];
        let foreign = ip.is_foreign(&self.queue.origins[self.queue.messages[message].origin].account);
        if !same || foreign || !ip.usable() || self.queue.messages[message].ip != lane.ip || self.is_paused(message) {
            self.place(ticket, End::Back);
            return None;
        }
        if self.domains[domain].valid_until <= self.now {
            // The old answer serves until the new one is here.
            self.ask(domain);
        }
        if let Some((until, wait)) = self.benched(message, provider) {
            self.queue.put_due(ticket, until, wait);
            return None;
        }
        // Those before it may have used what was left over for it.
        let (ip, provider) = (self.lanes[self.paths[path].lane].ip, provider);
        if self.is_second(message)
            && let Some((other, why)) = self.overflow_for(message, ip, provider)
        {
            self.move_message(message, other, provider, why);
            self.place(ticket, End::Back);
            return None;
        }
        Some(ticket)
    }

    /// A session takes a ticket: the hot path.
    fn dispatch(&mut self, session: u32, ticket: u32, places: u64) {
        let path = self.sessions[session].path;
        let lane = self.paths[path].lane;
        self.unidle(session);
        let most = self.paths[path].recipients_max.min(self.lanes[lane].shape.rules.recipients_per_transaction).max(1);
        let most = usize::from(most).min(usize::try_from(places).unwrap_or(usize::MAX));
        self.split_beyond(ticket, most, path);
        let serial = self.next_serial();
        let entry = &mut self.sessions[session];
        let attempt = AttemptId(serial << PLACE_BITS | u64::from(session));
        entry.state = SessionState::Busy;
        self.attempts += 1;
        entry.messages += 1;
        entry.flight = Some(Flight { attempt, ticket });
        let id = entry.id;
        self.lanes[lane].shape.reserve(self.now);
        let entry = &mut self.queue.tickets[ticket];
        entry.place = Place::Session(session);
        let message = self.queue.messages[entry.message].id();
        let recipients = entry.recipients.all().to_vec();
        self.reserve_places(lane, recipients.len());
        self.actions.push_back(Action::Attempt { session: id, attempt, message, recipients });
    }

    /// A transaction takes no more recipients than this; the rest stays in front of the row.
    fn split_beyond(&mut self, ticket: u32, most: usize, path: u32) {
        let entry = &mut self.queue.tickets[ticket];
        if entry.recipients.all().len() <= most {
            return;
        }
        let all = entry.recipients.all().to_vec();
        let (now, later) = all.split_at(most);
        entry.recipients = Recipients::new(now);
        let (message, domain, due, wait) = (entry.message, entry.domain, entry.due, entry.wait);
        let rest = self.queue.add_ticket(message, domain, Recipients::new(later), due, wait);
        self.domains[domain].tickets += 1;
        let origin = &self.queue.origins[self.queue.messages[message].origin];
        self.flows.put(&mut self.queue.tickets, &mut self.paths[path].turns, path, origin, rest, End::Front);
    }

    fn open_more(&mut self, path: u32, lane: u32, places: u64) -> Stop {
        loop {
            let entry = &self.paths[path];
            if !self.ips[self.lanes[lane].ip as usize].usable() {
                self.rehome_lane(lane);
                return Stop::Done;
            }
            if entry.opening >= entry.turns.ready || u64::from(entry.opening) >= places {
                return Stop::Done;
            }
            if entry.failures > 0 || entry.backoff_until > self.now {
                if entry.backoff_until > self.now {
                    let until = entry.backoff_until;
                    self.wake_path(path, until);
                    return Stop::Done;
                }
                // One probe at a time.
                if entry.sessions > 0 {
                    return Stop::Done;
                }
            }
            let shape = &self.lanes[lane].shape;
            if self.lanes[lane].sessions >= shape.connections_allowed(self.now) {
                if self.lanes[lane].sessions < shape.connections_limit(self.now) {
                    let until = shape.patience_ends();
                    self.wake_lane(lane, until.max(self.now + Duration::from_millis(1)));
                }
                return Stop::LaneFull;
            }
            if self.sessions.len() >= self.limits.sessions_max as usize {
                return Stop::MachineFull;
            }
            self.open(path, lane);
        }
    }

    fn open(&mut self, path: u32, lane: u32) {
        let Some(ticket) = self.flows.any(&self.paths[path].turns) else {
            return;
        };
        let domain = self.domains[self.queue.tickets[ticket].domain].name.clone();
        let serial = self.next_serial();
        let at = self.sessions.insert(super::Session {
            id: SessionId(0),
            path,
            state: SessionState::Opening,
            host: None,
            messages: 0,
            idle_until: Timestamp::MAX,
            flight: None,
        });
        if self.lanes[lane].sessions == 0 {
            // The silence before does not count.
            self.lanes[lane].shape.heard(self.now);
        }
        let id = SessionId(serial << PLACE_BITS | u64::from(at));
        self.sessions[at].id = id;
        self.paths[path].sessions += 1;
        self.paths[path].opening += 1;
        self.lanes[lane].sessions += 1;
        let source = self.ips[self.lanes[lane].ip as usize].address;
        let tls = match self.paths[path].tls {
            TlsWish::IfOffered if self.lanes[lane].shape.rules.tls_required => TlsWish::Required,
            wish => wish,
        };
        self.actions.push_back(Action::Open { session: id, source, domain, tls });
    }

    pub(super) fn session(&self, id: SessionId) -> Option<u32> {
        let at = u32::try_from(id.0 & ((1 << PLACE_BITS) - 1)).ok()?;
        self.sessions.get(at).filter(|session| session.id == id).map(|_| at)
    }

    pub(super) fn session_of(&self, attempt: AttemptId) -> Option<u32> {
        let at = u32::try_from(attempt.0 & ((1 << PLACE_BITS) - 1)).ok()?;
        let flight = self.sessions.get(at)?.flight?;
        (flight.attempt == attempt).then_some(at)
    }

    pub(super) fn session_opened(&mut self, id: SessionId, host: &str) {
        let Some(session) = self.session(id) else {
            return;
        };
        let path = self.sessions[session].path;
        if self.sessions[session].state != SessionState::Opening {
            return;
        }
        let entry = &mut self.paths[path];
        entry.opening -= 1;
        let was_down = std::mem::take(&mut entry.failures) > 0;
        entry.backoff_until = self.now;
        entry.backoff_why = None;
        self.sessions[session].host = Some(Arc::from(host));
        if was_down {
            let mut event = self.lane_event(self.paths[path].lane, EventKind::SiteReachable);
            event.host = Some(Arc::from(host));
            self.actions.push_back(Action::Record(event));
        }
        let lane = self.paths[path].lane;
        self.lanes[lane].shape.heard(self.now);
        self.idle_or_close(session);
    }

    /// The session is free: more mail, or rest, or good-bye.
    pub(super) fn idle_or_close(&mut self, session: u32) {
        let path = self.sessions[session].path;
        let lane = self.paths[path].lane;
        let now = self.now;
        let entry = &self.sessions[session];
        let shape = &self.lanes[lane].shape;
        let used_up = entry.messages >= shape.messages_per_connection(now);
        let full = self.lanes[lane].sessions >= shape.connections_allowed(now);
        let waits = |other: &u32| *other != path;
        let others = full && self.lanes[lane].stalled.iter().any(waits) || self.stalled.iter().any(waits);
        let hand_over = others && (entry.messages >= HAND_OVER_AFTER || self.paths[path].turns.ready == 0);
        let too_many = self.lanes[lane].sessions > shape.connections_limit(now);
        let gone = !self.ips[self.lanes[lane].ip as usize].usable();
        self.sessions[session].state = SessionState::Idle;
        if self.stopping || used_up || hand_over || too_many || gone {
            self.close(session);
            return;
        }
        self.paths[path].idle.push(session);
        self.lanes[lane].idle.push(session);
        if self.paths[path].turns.ready == 0 {
            self.rest(path);
        } else {
            self.run(path);
        }
    }

    fn unidle(&mut self, session: u32) {
        let path = self.sessions[session].path;
        let lane = self.paths[path].lane;
        self.paths[path].idle.retain(|other| *other != session);
        self.lanes[lane].idle.retain(|other| *other != session);
        let until = std::mem::replace(&mut self.sessions[session].idle_until, Timestamp::MAX);
        if until != Timestamp::MAX {
            self.timers.remove(&(until, Timer::Idle(session)));
        }
    }

    pub(super) fn idle_rings(&mut self, session: u32) {
        if self.sessions.get(session).is_some_and(|entry| entry.state == SessionState::Idle) {
            self.close(session);
        }
    }

    pub(super) fn close(&mut self, session: u32) {
        self.unidle(session);
        let entry = &mut self.sessions[session];
        if entry.state == SessionState::Opening {
            self.paths[entry.path].opening -= 1;
        }
        entry.state = SessionState::Closing;
        self.actions.push_back(Action::Close { session: entry.id });
    }

    /// The connection is no more: its place in the lane is free.
    pub(super) fn forget(&mut self, session: u32) {
        self.unidle(session);
        let Some(entry) = self.sessions.remove(session) else {
            return;
        };
        if entry.state == SessionState::Opening {
            self.paths[entry.path].opening -= 1;
        }
        self.paths[entry.path].sessions -= 1;
        let lane = self.paths[entry.path].lane;
        self.lanes[lane].sessions -= 1;
        if self.paths[entry.path].turns.ready > 0 && !self.paths[entry.path].stalled {
            // Behind those that waited: it had its turn.
            self.stall(entry.path, lane);
        }
        self.kick(lane);
        if let Some(path) = self.stalled.pop_front() {
            self.paths[path].machine_stalled = false;
            self.run(path);
        }
    }

    pub(super) fn session_closed(&mut self, id: SessionId, reply: Option<&Reply>) {
        let Some(session) = self.session(id) else {
            return;
        };
        let path = self.sessions[session].path;
        let lane = self.paths[path].lane;
        if let Some(reply) = reply.filter(|reply| !reply.is_positive()) {
            self.react_to(lane, reply, None);
        }
        if let Some(flight) = self.sessions[session].flight {
            // The host was to report the attempt first. Nobody knows how far it came.
            self.attempt_vanished(flight.attempt, flight.ticket);
            return;
        }
        self.forget(session);
    }

    /// No connection: the site's mail waits on this lane, one probe at a time, and no message's attempts are counted.
    pub(super) fn session_failed(&mut self, id: SessionId, failure: &ConnectFailure) {
        let Some(session) = self.session(id) else {
            return;
        };
        let path = self.sessions[session].path;
        let lane = self.paths[path].lane;
        let wanted = self.sessions[session].state == SessionState::Opening;
        if wanted {
            match failure.kind {
                ConnectFailureKind::AddressMissing => {
                    let ip = self.ips[self.lanes[lane].ip as usize].address;
                    self.ip_gone(ip, &failure.text);
                }
                ConnectFailureKind::Local => self.paths[path].backoff_until = self.now + LOCAL_FAULT_PAUSE,
                _ => self.site_failed(path, lane, failure),
            }
        }
        self.forget(session);
    }

    fn site_failed(&mut self, path: u32, lane: u32, failure: &ConnectFailure) {
        let dice = self.dice();
        let said = match (&failure.reply, &failure.host) {
            (Some(reply), Some(host)) => format!("{host} said: {reply}"),
            (Some(reply), None) => reply.to_string(),
            (None, Some(host)) => format!("{host}: {}", failure.text),
            (None, None) => failure.text.clone(),
        };
        let why = match failure.kind {
            ConnectFailureKind::Tls => Why::TlsUnavailable { said },
            _ => Why::SiteUnreachable { said },
        };
        let retry = &self.snapshot.delivery.retry;
        let entry = &mut self.paths[path];
        entry.failures = entry.failures.saturating_add(1);
        entry.backoff_until = retry.jittered(self.now, retry.after_connect_failures(entry.failures), dice);
        entry.backoff_why = Some(why.clone());
        let until = entry.backoff_until;
        if failure.kind == ConnectFailureKind::Dns
            && let Some(ticket) = self.flows.any(&self.paths[path].turns)
        {
            let domain = self.queue.tickets[ticket].domain;
            self.domains[domain].valid_until = self.now;
        }
        let mut event = self.lane_event(lane, EventKind::SiteUnreachable);
        event.host = failure.host.as_deref().map(Arc::from);
        event.reply = failure.reply.clone();
        event.why = Some(why);
        event.next_at = Some(until);
        event.attempt = self.paths[path].failures;
        if let Some(reply) = &failure.reply {
            event.meaning = self.react_to(lane, reply, None);
        }
        self.actions.push_back(Action::Record(event));
        if self.ips[self.lanes[lane].ip as usize].relay.is_some() {
            self.rehome_lane(lane);
        }
    }

    /// What a reply says about the lane, the sender's domain or the stream takes effect. Gives back its meaning.
    pub(super) fn react_to(
        &mut self,
        lane: u32,
        reply: &Reply,
        message: Option<u32>,
    ) -> Option<crate::classify::Meaning> {
        let snapshot = Arc::clone(&self.snapshot);
        let rules_name = Arc::clone(&self.providers[self.lanes[lane].provider].rules);
        let reading = snapshot.rules.classify(&rules_name, reply);
        self.react(lane, &reading.meaning.rule, reading.reactions, reading.alert, reply, message);
        Some(reading.meaning)
    }

    pub(super) fn react(
        &mut self,
        lane: u32,
        rule: &Arc<str>,
        reactions: &[Reaction],
        alert: bool,
        reply: &Reply,
        message: Option<u32>,
    ) {
        let now = self.now;
        let said = reply.to_string();
        if alert && self.lanes[lane].shape.alarm_due(rule, now) {
            let account =
                message.map(|message| self.queue.origins[self.queue.messages[message].origin].account.clone());
            let provider = Some(self.provider_name(lane));
            let ip = Some(self.ips[self.lanes[lane].ip as usize].address);
            self.actions.push_back(Action::Alarm(Alarm {
                at: now,
                ip,
                provider,
                account,
                code: rule.to_string(),
                words: said.clone(),
            }));
        }
        for reaction in reactions {
            match reaction.scope {
                Scope::Lane => self.react_lane(lane, reaction, rule, &said),
                // Relays have no addresses, and no neighbours.
                Scope::Netblock if self.ips[self.lanes[lane].ip as usize].relay.is_some() => {
                    self.react_lane(lane, reaction, rule, &said);
                }
                Scope::Netblock => {
                    let (ip, provider) = (self.ips[self.lanes[lane].ip as usize].address, self.lanes[lane].provider);
                    let near = |other: &super::Lane| {
                        other.provider == provider && neighbours(self.ips[other.ip as usize].address, ip)
                    };
                    let lanes: Vec<u32> =
                        self.lanes.iter().filter(|(_, other)| near(other)).map(|(at, _)| at).collect();
                    lanes.into_iter().for_each(|lane| self.react_lane(lane, reaction, rule, &said));
                }
                Scope::SenderDomain | Scope::Stream => {
                    if let Some(message) = message {
                        self.react_sender(lane, message, reaction, rule, &said);
                    }
                }
            }
        }
    }

    fn react_lane(&mut self, lane: u32, reaction: &Reaction, rule: &Arc<str>, said: &str) {
        let dice = self.dice();
        let now = self.now;
        let was = self.lanes[lane].shape.slowed(now).map(|(until, _)| until);
        let Some(change) = self.lanes[lane].shape.react(reaction, rule, said, now, dice) else {
            return;
        };
        self.remember();
        let (kind, until) = match change {
            // One event per slowing, not per answer.
            Change::Slowed { until } if was.is_some_and(|was| until.since(was) < Duration::from_secs(60)) => {
                return;
            }
            Change::Slowed { until } => (EventKind::LaneSlowed, until),
            Change::Suspended { until } => (EventKind::LaneSuspended, until),
        };
        let mut event = self.lane_event(lane, kind);
        event.next_at = (until < Timestamp::MAX).then_some(until);
        event.why = Some(match kind {
            EventKind::LaneSuspended => Why::LaneSuspended { said: said.to_owned() },
            _ => Why::LaneSlowed { said: said.to_owned() },
        });
        self.actions.push_back(Action::Record(event));
        if kind == EventKind::LaneSuspended {
            self.lane_suspended(lane, until);
        }
    }

    /// What cannot wait that long looks for another IP; the rest wakes with the lane.
    pub(super) fn lane_suspended(&mut self, lane: u32, until: Timestamp) {
        self.lanes[lane].suspended = true;
        self.wake_lane(lane, until);
        self.rehome_lane(lane);
        for session in self.lanes[lane].idle.clone() {
            self.close(session);
        }
    }

    fn react_sender(&mut self, lane: u32, message: u32, reaction: &Reaction, rule: &Arc<str>, said: &str) {
        let origin = &self.queue.origins[self.queue.messages[message].origin];
        let key = match (&reaction.scope, &origin.sender_domain) {
            (Scope::SenderDomain, Some(domain)) => super::BenchKey::SenderDomain(Arc::clone(domain)),
            (Scope::SenderDomain, None) => return,
            _ => super::BenchKey::Stream(origin.account.clone(), origin.stream.clone()),
        };
        let dice = self.dice();
        let provider = Arc::clone(&self.providers[self.lanes[lane].provider].key);
        let bench = self.benches.entry((key, provider)).or_default();
        if !bench.counts(reaction, rule, self.now) {
            return;
        }
        // Only a suspension makes sense beyond a lane: a rate of a domain over many IPs is what its suspension leaves it.
        let lasts = match reaction.kind {
            ReactionKind::Suspend { lasts } => lasts,
            ReactionKind::Slow { lasts, .. }
            | ReactionKind::Connections { lasts, .. }
            | ReactionKind::PerConnection { lasts, .. } => Some(lasts),
        };
        if bench.suspend(lasts, rule, said, self.now, dice).is_some() {
            self.remember();
        }
    }

    /// Is the message's sending domain or stream suspended at the provider?
    pub(super) fn benched(&self, message: u32, provider: u32) -> Option<(Timestamp, Wait)> {
        if self.benches.is_empty() {
            return None;
        }
        let origin = &self.queue.origins[self.queue.messages[message].origin];
        let provider = &self.providers[provider].key;
        let open = |key: super::BenchKey| {
            self.benches.get(&(key, Arc::clone(provider))).and_then(|bench| bench.open(self.now))
        };
        let domain =
            origin.sender_domain.as_ref().and_then(|domain| open(super::BenchKey::SenderDomain(Arc::clone(domain))));
        if let Some((until, _)) = domain {
            return Some((until, Wait::SenderDomain));
        }
        let (until, _) = open(super::BenchKey::Stream(origin.account.clone(), origin.stream.clone()))?;
        Some((until, Wait::Stream))
    }

    fn stall(&mut self, path: u32, lane: u32) {
        if !self.paths[path].stalled {
            self.paths[path].stalled = true;
            self.lanes[lane].stalled.push_back(path);
        }
    }

    /// One of the lane's stalled paths may try.
    pub(super) fn kick(&mut self, lane: u32) {
        while let Some(path) = self.lanes[lane].stalled.pop_front() {
            let Some(entry) = self.paths.get_mut(path) else {
                continue;
            };
            entry.stalled = false;
            self.run(path);
            return;
        }
    }

    pub(super) fn wake_lane(&mut self, lane: u32, at: Timestamp) {
        let entry = &mut self.lanes[lane];
        if at < entry.wake {
            self.timers.remove(&(entry.wake, Timer::Lane(lane)));
            entry.wake = at;
            self.timers.insert((at, Timer::Lane(lane)));
        }
    }

    pub(super) fn lane_rings(&mut self, lane: u32) {
        let Some(entry) = self.lanes.get_mut(lane) else {
            return;
        };
        entry.wake = Timestamp::MAX;
        if entry.sessions >= entry.shape.connections_allowed(self.now) {
            entry.shape.lose_patience(self.now);
        }
        match entry.shape.suspended(self.now) {
            Some((until, _)) => self.wake_lane(lane, until),
            None if std::mem::take(&mut entry.suspended) => {
                let mut event = self.lane_event(lane, EventKind::LaneResumed);
                event.why = Some(Why::SuspensionOver);
                self.actions.push_back(Action::Record(event));
            }
            None => {}
        }
        self.kick(lane);
    }

    fn wake_path(&mut self, path: u32, at: Timestamp) {
        let entry = &mut self.paths[path];
        if at < entry.wake {
            self.timers.remove(&(entry.wake, Timer::Path(path)));
            entry.wake = at;
            self.timers.insert((at, Timer::Path(path)));
        }
    }

    pub(super) fn path_rings(&mut self, path: u32) {
        if let Some(entry) = self.paths.get_mut(path) {
            entry.wake = Timestamp::MAX;
            self.run(path);
        }
    }

    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.to_resolve.clear();
        let open: Vec<u32> = self.sessions.iter().map(|(at, _)| at).collect();
        for session in open {
            if matches!(self.sessions[session].state, SessionState::Idle | SessionState::Opening) {
                self.close(session);
            }
        }
    }

    /// What nobody needs any more goes: domains, paths, lanes, suspensions.
    pub(super) fn sweep(&mut self) {
        let now = self.now;
        self.timers.insert((now + SWEEP_EVERY, Timer::Sweep));
        let idle = |path: &super::Path| {
            path.turns.ready == 0
                && path.sessions == 0
                && path.backoff_until <= now
                && path.wake == Timestamp::MAX
                && !path.machine_stalled
        };
        let paths: Vec<u32> = self
            .paths
            .iter()
            .filter(|(_, path)| idle(path) && !path.runnable && !path.stalled)
            .map(|(at, _)| at)
            .collect();
        for at in paths {
            let Some(mut path) = self.paths.remove(at) else {
                continue;
            };
            self.flows.clear(&mut path.turns);
            self.path_of.remove(&(path.lane, path.site, path.tls));
            self.lanes[path.lane].paths.retain(|own| *own != at);
            self.sites.release(path.site);
        }
        let done =
            |lane: &super::Lane| lane.paths.is_empty() && lane.wake == Timestamp::MAX && lane.shape.is_as_new(now);
        let lanes: Vec<u32> = self.lanes.iter().filter(|(_, lane)| done(lane)).map(|(at, _)| at).collect();
        for at in lanes {
            let Some(lane) = self.lanes.remove(at) else {
                continue;
            };
            self.lane_of.remove(&(lane.ip, lane.provider));
            if let Some(heat) = lane.heat {
                self.cool_lane(heat, at);
            }
            self.providers.release(lane.provider);
        }
        let unused = |domain: &super::DomainEntry| {
            let settled = !matches!(domain.status, DomainStatus::Later { .. });
            domain.tickets == 0 && !domain.asking && !domain.answered && settled && domain.valid_until <= now
        };
        let domains: Vec<u32> = self.domains.iter().filter(|(_, domain)| unused(domain)).map(|(at, _)| at).collect();
        for at in domains {
            self.set_status(at, DomainStatus::Fresh);
            if let Some(mut domain) = self.domains.remove(at) {
                self.flows.clear(&mut domain.waiting);
                self.domain_of.remove(&domain.name);
            }
        }
        let gone: Vec<_> =
            self.benches.iter().filter(|(_, bench)| bench.is_forgotten(now)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.benches.remove(&key);
        }
        self.lessons.retain(|_, lesson| !lesson.is_forgotten(now));
        self.sweep_heats();
    }
}

/// Of one /24, or one /64.
fn neighbours(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => one.octets()[..3] == other.octets()[..3],
        (IpAddr::V6(one), IpAddr::V6(other)) => one.octets()[..8] == other.octets()[..8],
        _ => false,
    }
}
