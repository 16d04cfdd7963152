//! What should be done next? Told and asked: `handle` what happened, `poll` until there is nothing more, wait for `deadline`.
//!
//! How a message goes: `Accepted` makes tickets; a ticket waits until it is due, then for its domain's site, then in the fair queue of
//! a path (lane, site, TLS class), until a session of that path takes it. `AttemptEnded` settles each recipient by itself. Files:
//! `face` (what comes in and goes out), `place` (where a ticket goes), `sessions` (connections and whose turn it is), `settle` (what
//! an answer does), `warm` (who has a place today), `orders` (what an operator commands), `learned` (what outlives a restart), `view` (what can be asked, and what
//! must always hold).

mod face;
mod learned;
mod orders;
mod place;
mod sessions;
mod settle;
mod view;
mod warm;

pub use face::{Action, Alarm, Cancellable, Filter, Input, Limits, NotifyKind, Order, Resolution, Room};
pub use learned::Learned;
pub use view::{Figures, LaneView, Shown, ShownHome, ShownRecipient};
pub use warm::WarmUpView;

use crate::classify::Meaning;
use crate::envelope::TlsWish;
use crate::event::{Event, EventKind};
use crate::id::{AccountId, AttemptId, SessionId};
use crate::queue::{End, Flows, Queue, Turns};
use crate::retry::draw;
use crate::shape::{Bench, Lesson, Shape};
use crate::slab::{Interner, Slab};
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::warmup::Warmth;
use crate::why::Why;
use mail::reply::Reply;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// The decision room.
#[derive(Debug)]
pub struct Engine {
    now: Timestamp,
    seed: u64,
    drawn: u64,
    limits: Limits,
    snapshot: Arc<Snapshot>,
    stopping: bool,
    /// Whether all that was queued at the start is known.
    recovered: bool,
    actions: VecDeque<Action>,
    queue: Queue,
    flows: Flows,
    domains: Slab<DomainEntry>,
    domain_of: BTreeMap<mail::address::Domain, u32>,
    sites: Interner<Arc<str>>,
    providers: Interner<ProviderKey>,
    ips: Vec<IpEntry>,
    ip_of: BTreeMap<IpAddr, u32>,
    lanes: Slab<Lane>,
    lane_of: BTreeMap<(u32, u32), u32>,
    heats: Slab<warm::Heat>,
    heat_of: BTreeMap<(u32, Option<Arc<str>>), u32>,
    /// Warm-ups from before the start that no mail has wanted since.
    heats_before: BTreeMap<(IpAddr, Option<Arc<str>>), Warmth>,
    paths: Slab<Path>,
    path_of: BTreeMap<(u32, u32, TlsWish), u32>,
    sessions: Slab<Session>,
    serial: u64,
    attempts: u32,
    /// Suspensions of a sending domain or a stream at a provider.
    benches: BTreeMap<(BenchKey, Arc<str>), Bench>,
    /// What was learned before the start of lanes that no mail has wanted since.
    lessons: BTreeMap<(IpAddr, Arc<str>), Lesson>,
    timers: BTreeSet<(Timestamp, Timer)>,
    // Work to be done in small steps by `poll`.
    runnable: VecDeque<u32>,
    answered: VecDeque<u32>,
    rehoming: VecDeque<(u32, u32)>,
    walk: Option<warm::Walk>,
    sweeps: VecDeque<orders::Sweep>,
    to_resolve: VecDeque<u32>,
    resolving: u32,
    /// Paths that wait for the machine to have a connection free.
    stalled: VecDeque<u32>,
}

/// A recipient domain.
#[derive(Debug)]
struct DomainEntry {
    name: mail::address::Domain,
    tickets: u32,
    asking: bool,
    /// The next question is to pass over remembered answers.
    anew: bool,
    asked_at: Timestamp,
    /// In `Engine::answered`.
    answered: bool,
    status: DomainStatus,
    valid_until: Timestamp,
    failures: u16,
    unknown_since: Option<Timestamp>,
    waiting: Turns,
}

#[derive(Debug)]
enum DomainStatus {
    /// Not asked yet, or asked and not answered.
    Fresh,
    Site {
        site: u32,
        provider: u32,
    },
    /// Asked again when its timer rings.
    Later {
        why: Why,
    },
    /// No mail can go there.
    Dead {
        why: Why,
        reply: Reply,
        meaning: Meaning,
    },
}

/// What a lane is a lane to: the provider, or for the rest the site. `rules` names the entry of the provider file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ProviderKey {
    key: Arc<str>,
    rules: Arc<str>,
}

#[derive(Debug)]
struct IpEntry {
    address: IpAddr,
    in_snapshot: bool,
    missing: Option<String>,
    /// The account whose pool holds it now; none for the operator's own, and for one in no pool.
    owner: Option<AccountId>,
    /// Messages that leave from it.
    pinned: u32,
    drain: Drain,
    /// The one site and provider of a relay, whatever the mail's are.
    relay: Option<(u32, u32)>,
}

/// Whether an IP is on its way out (R2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    /// It takes new messages.
    No,
    /// It takes no new ones; some may be queued on it.
    Draining,
    /// And it was told that nothing is.
    Told,
}

impl IpEntry {
    fn usable(&self) -> bool {
        self.in_snapshot && self.missing.is_none()
    }

    /// R2.8: by now it is somebody else's, and nothing of this account's may leave from it.
    fn is_foreign(&self, account: &AccountId) -> bool {
        self.owner.as_ref().is_some_and(|owner| owner != account)
    }
}

#[derive(Debug)]
struct Lane {
    ip: u32,
    provider: u32,
    shape: Shape,
    /// All that are not over, the ones being opened or closed included.
    sessions: u32,
    paths: Vec<u32>,
    idle: Vec<u32>,
    stalled: VecDeque<u32>,
    wake: Timestamp,
    suspended: bool,
    /// Its warm-up, or its IP's.
    heat: Option<u32>,
    /// When what waits for a place was last asked whether it goes elsewhere.
    asked_at: Timestamp,
}

/// One lane to one site, under one wish for TLS.
#[derive(Debug)]
struct Path {
    lane: u32,
    site: u32,
    tls: TlsWish,
    turns: Turns,
    sessions: u32,
    opening: u32,
    idle: Vec<u32>,
    failures: u16,
    backoff_until: Timestamp,
    backoff_why: Option<Why>,
    recipients_max: u16,
    runnable: bool,
    stalled: bool,
    /// In `Engine::stalled`.
    machine_stalled: bool,
    wake: Timestamp,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    path: u32,
    state: SessionState,
    host: Option<Arc<str>>,
    messages: u32,
    idle_until: Timestamp,
    flight: Option<Flight>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionState {
    Opening,
    Idle,
    Busy,
    Closing,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    attempt: AttemptId,
    ticket: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum BenchKey {
    SenderDomain(Arc<str>),
    Stream(AccountId, crate::id::StreamId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Lane(u32),
    Path(u32),
    Domain(u32),
    Idle(u32),
    CheckIp(u32),
    Sweep,
}

/// Things nobody needs any more are looked for once in this time.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// A missing address is tried again after this.
const CHECK_IP_EVERY: Duration = Duration::from_secs(60);
/// Small pieces of bulk work that are done before a path has its turn: sorting in is quicker than sending.
const BULK_PER_TURN: u32 = 32;
/// `poll` comes back after so many steps that ask for nothing; the deadline is then now.
const SILENT_STEPS_MAX: u32 = 512;

/// Debug builds check everything after each input while the queue is no larger than this.
const CHECKED_MESSAGES_MAX: usize = 50;

impl Engine {
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, limits: Limits, seed: u64, now: Timestamp) -> Engine {
        let mut engine = Engine {
            now,
            seed,
            drawn: 0,
            limits,
            snapshot,
            stopping: false,
            recovered: false,
            actions: VecDeque::new(),
            queue: Queue::default(),
            flows: Flows::default(),
            domains: Slab::default(),
            domain_of: BTreeMap::new(),
            sites: Interner::default(),
            providers: Interner::default(),
            ips: Vec::new(),
            ip_of: BTreeMap::new(),
            lanes: Slab::default(),
            lane_of: BTreeMap::new(),
            heats: Slab::default(),
            heat_of: BTreeMap::new(),
            heats_before: BTreeMap::new(),
            paths: Slab::default(),
            path_of: BTreeMap::new(),
            sessions: Slab::default(),
            serial: 0,
            attempts: 0,
            benches: BTreeMap::new(),
            lessons: BTreeMap::new(),
            timers: BTreeSet::new(),
            runnable: VecDeque::new(),
            answered: VecDeque::new(),
            rehoming: VecDeque::new(),
            walk: None,
            sweeps: VecDeque::new(),
            to_resolve: VecDeque::new(),
            resolving: 0,
            stalled: VecDeque::new(),
        };
        let snapshot = Arc::clone(&engine.snapshot);
        engine.take_snapshot(&snapshot);
        engine.timers.insert((now + SWEEP_EVERY, Timer::Sweep));
        engine
    }

    /// Tell it what happened. A clock that goes back is taken as standing still.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.now = self.now.max(now);
        self.walk = None;
        match input {
            Input::Accepted { envelope, state } => self.accepted(&envelope, state.as_ref()),
            Input::Resolved { domain, answer } => self.resolved(&domain, answer),
            Input::SessionOpened { session, host } => self.session_opened(session, &host),
            Input::SessionFailed { session, failure } => self.session_failed(session, &failure),
            Input::SessionClosed { session, reply } => self.session_closed(session, reply.as_ref()),
            Input::AttemptEnded { attempt, report } => self.attempt_ended(attempt, report),
            Input::IpGone { ip, said } => self.ip_gone(ip, &said),
            Input::IpBack { ip } => self.ip_back(ip),
            Input::SnapshotChanged(snapshot) => self.take_snapshot(&snapshot),
            Input::Recovered => self.recovered(),
            Input::Learned(learned) => self.recall(learned),
            Input::Past(event) => self.past(&event),
            Input::Heard(event) => self.warmed_by(&event, true),
            Input::Order(order) => self.order(order),
            Input::Tick => {}
            Input::Stopping => self.stop(),
        }
        if cfg!(debug_assertions) && self.queue.len() < CHECKED_MESSAGES_MAX {
            self.check_invariants();
        }
    }

    /// Ask what to do; `None` when there is nothing more until the next input or the deadline. Long work (a domain found dead, an
    /// order over a million messages) is done in small steps here, and inputs may come between any two polls.
    pub fn poll(&mut self) -> Option<Action> {
        for _ in 0..SILENT_STEPS_MAX {
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            if !self.step() {
                return None;
            }
        }
        self.actions.pop_front()
    }

    /// When a `Tick` would change something, if nothing else happens first. In the past: there is more to `poll` at once.
    #[must_use]
    pub fn deadline(&self) -> Option<Timestamp> {
        if !self.actions.is_empty() || self.has_work() {
            return Some(self.now);
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        timer.into_iter().chain(self.queue.next_second()).min()
    }

    /// One small piece of work. Bulk work and turns alternate, so that a mass of one keeps no other waiting.
    fn step(&mut self) -> bool {
        let mut bulk = false;
        for _ in 0..BULK_PER_TURN {
            let more = self.step_aside() || self.step_rehoming() || self.step_order();
            bulk |= more;
            // What comes of it goes out before there is more of it.
            if !more || !self.actions.is_empty() {
                break;
            }
        }
        if let Some(path) = self.runnable.pop_front() {
            self.walk = None;
            self.serve(path);
            return true;
        }
        bulk
    }

    /// What comes before a walk goes on.
    fn step_aside(&mut self) -> bool {
        let is_something = self.step_time() || self.step_answered();
        if is_something {
            self.walk = None;
        }
        is_something
    }

    fn has_work(&self) -> bool {
        !(self.runnable.is_empty() && self.answered.is_empty() && self.rehoming.is_empty() && self.sweeps.is_empty())
    }

    fn step_time(&mut self) -> bool {
        if let Some(message) = self.queue.life_reached(self.now) {
            self.life_rings(message);
            return true;
        }
        if let Some(ticket) = self.queue.pop_due(self.now) {
            self.place(ticket, End::Back);
            return true;
        }
        let Some((at, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= self.now) else {
            return false;
        };
        self.timers.remove(&(at, timer));
        match timer {
            Timer::Lane(lane) => self.lane_rings(lane),
            Timer::Path(path) => self.path_rings(path),
            Timer::Domain(domain) => self.domain_rings(domain),
            Timer::Idle(session) => self.idle_rings(session),
            Timer::CheckIp(ip) => self.check_ip(ip),
            Timer::Sweep => self.sweep(),
        }
        true
    }

    /// What it decides by now.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    fn dice(&mut self) -> u64 {
        self.drawn += 1;
        draw(self.seed, self.drawn)
    }

    fn next_serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    fn event(&self, kind: EventKind) -> Event {
        Event::new(self.now, kind)
    }
}
