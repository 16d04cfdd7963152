//! What should be done next? Told and asked: `handle` what happened, `poll` until there is nothing more, wait for `deadline`.
//!
//! How a message goes: `Accepted` makes tickets; a ticket waits until it is due, then for its domain's site, then in the fair queue of
//! a path (lane, site, TLS class), until a session of that path takes it. `AttemptEnded` settles each recipient by itself. Files:
//! `face` (what comes in and goes out), `place` (where a ticket goes), `sessions` (connections and whose turn it is), `settle` (what
//! an answer does), `orders` (what an operator commands), `view` (what can be asked, and what must always hold).

mod face;
mod orders;
mod place;
mod sessions;
mod settle;
mod view;

pub use face::{Action, Alarm, Filter, Input, Limits, NotifyKind, Order, Resolution, Room};
pub use view::{Figures, LaneView, Shown, ShownRecipient};

use crate::classify::Meaning;
use crate::envelope::TlsWish;
use crate::event::{Event, EventKind};
use crate::id::{AttemptId, SessionId};
use crate::queue::{Flows, List, Queue, Turns};
use crate::retry::draw;
use crate::shape::{Bench, Shape};
use crate::slab::{Interner, Slab};
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::why::Why;
use mail::reply::Reply;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

<<<<<<< HEAD
=======
/// What happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message is durable. `state` is given after a restart.
    Accepted {
        envelope: Arc<Envelope>,
        state: Option<MessageState>,
    },
    /// The answer to `Action::Resolve`.
    Resolved {
        domain: Domain,
        answer: Resolution,
    },
    /// The connection is ready for mail.
    SessionOpened {
        session: SessionId,
        host: String,
    },
    /// The connection never became ready, and is gone.
    SessionFailed {
        session: SessionId,
        failure: ConnectFailure,
    },
    /// The connection is gone, by our wish or the remote's (then with its last words). The attempt on it, if any, was reported before.
    SessionClosed {
        session: SessionId,
        reply: Option<Reply>,
    },
    AttemptEnded {
        attempt: AttemptId,
        report: Report,
    },
    /// The address cannot be bound any more.
    IpGone {
        ip: IpAddr,
        said: String,
    },
    IpBack {
        ip: IpAddr,
    },
    SnapshotChanged(Arc<Snapshot>),
    Order(Order),
    /// A deadline has come.
    Tick,
    /// No new connection and no new attempt from now on; sessions without one are closed.
    Stopping,
}

/// What DNS says about a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// `site` names the set of hosts that connections are shared for. Two domains whose connections must not be shared (because their
    /// TLS policies differ) get two names. `hosts` are all MX hosts, to find the provider.
    Site {
        site: String,
        hosts: Vec<String>,
        valid_for: Duration,
    },
    NoSuchDomain,
    NullMx,
    /// All hosts are private, loopback or ourselves: not connected to.
    Refused {
        said: String,
    },
    Later {
        said: String,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Look the domain up; exactly one `Resolved` is to follow.
    Resolve {
        domain: Domain,
    },
    /// Connect from `source` (a key of `Snapshot::ips`) to the hosts of `domain`; `SessionOpened` or `SessionFailed` is to follow.
    Open {
        session: SessionId,
        source: IpAddr,
        domain: Domain,
        tls: TlsWish,
    },
    /// Hand the message over; exactly one `AttemptEnded` is to follow.
    Attempt {
        session: SessionId,
        attempt: AttemptId,
        message: MessageId,
        recipients: Vec<u16>,
    },
    /// Say good-bye; `SessionClosed` is to follow. A session that is still being opened is given up.
    Close {
        session: SessionId,
    },
    /// Write down how the message stands; when `finished`, it may leave the spool.
    Settle {
        message: MessageId,
        state: MessageState,
        finished: bool,
        events: Vec<Event>,
    },
    /// Tell the sender (DSN). Which recipients asked for it was looked at already.
    Notify {
        message: MessageId,
        recipients: Vec<u16>,
        kind: NotifyKind,
    },
    /// An event of no message.
    Record(Event),
    Alarm(Alarm),
    /// Try whether the address can be bound again; `IpBack` or `IpGone` is to follow.
    CheckIp {
        ip: IpAddr,
    },
}

/// What a notice to the sender says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotifyKind {
    Failed,
    Delayed,
    /// Handed to a remote, asked for by NOTIFY=SUCCESS: RFC 3461 "relayed".
    Relayed,
}

/// Something the operator must look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    pub at: Timestamp,
    pub ip: Option<IpAddr>,
    pub provider: Option<Arc<str>>,
    pub account: Option<AccountId>,
    /// A stable name: "ip-missing", or the rule that raised it.
    pub code: String,
    pub words: String,
}

/// What an operator commands. It concerns what is queued now, not what comes later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    Hold(Filter),
    Release(Filter),
    /// Try now, whatever the schedule says; waits for connections that failed are over too.
    Retry(Filter),
    Delete(Filter),
    SuspendLane {
        ip: IpAddr,
        provider: String,
        until: Option<Timestamp>,
    },
    ResumeLane {
        ip: IpAddr,
        provider: String,
    },
}

/// Which messages are meant: those that every given field fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub message: Option<MessageId>,
    pub account: Option<AccountId>,
    pub pool: Option<PoolId>,
    /// The recipient's.
    pub domain: Option<Domain>,
    pub ip: Option<IpAddr>,
    pub provider: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages that may be queued at one time.
    pub queue_messages_max: u64,
    /// Outgoing connections of all lanes together.
    pub sessions_max: u32,
    /// Last answers kept word for word; beyond it, messages whose answers differ only in their numbers share one.
    pub answers_max: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { queue_messages_max: 5_000_000, sessions_max: 10_000, answers_max: 100_000 }
    }
}

/// May another message come in?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Room {
    For(u64),
    Full(Why),
}

/// Numbers for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    pub messages: u64,
    pub recipients_waiting: u64,
    pub sessions: u32,
    pub attempts_in_flight: u32,
    pub lanes: u32,
}

>>>>>>> main
/// The decision room.
#[derive(Debug)]
pub struct Engine {
    now: Timestamp,
    seed: u64,
    drawn: u64,
    limits: Limits,
    snapshot: Arc<Snapshot>,
    stopping: bool,
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
    paths: Slab<Path>,
    path_of: BTreeMap<(u32, u32, TlsWish), u32>,
    sessions: Slab<Session>,
    serial: u64,
    /// Suspensions of a sending domain or a stream at a provider.
    benches: BTreeMap<(BenchKey, Arc<str>), Bench>,
    timers: BTreeSet<(Timestamp, Timer)>,
    // Work to be done in small steps by `poll`.
    runnable: VecDeque<u32>,
    answered: VecDeque<u32>,
    rehoming: VecDeque<(u32, u32)>,
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
    /// In `Engine::answered`.
    answered: bool,
    status: DomainStatus,
    valid_until: Timestamp,
    failures: u16,
    unknown_since: Option<Timestamp>,
    waiting: List,
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
}

impl IpEntry {
    fn usable(&self) -> bool {
        self.in_snapshot && self.missing.is_none()
    }
}

#[derive(Debug)]
struct Lane {
    ip: u32,
    provider: u32,
    shape: Shape,
    /// All that are not over, the ones being opened or closed included.
    sessions: u32,
    paths: u32,
    idle: Vec<u32>,
    stalled: VecDeque<u32>,
    wake: Timestamp,
    suspended: bool,
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

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum BenchKey {
    SenderDomain(Arc<str>),
    Stream(crate::id::AccountId, crate::id::StreamId),
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
/// `poll` comes back after so many steps that ask for nothing; the deadline is then now.
const SILENT_STEPS_MAX: u32 = 4_096;

/// Debug builds check everything after each input while the queue is no larger than this.
const CHECKED_MESSAGES_MAX: usize = 50;

impl Engine {
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, limits: Limits, seed: u64, now: Timestamp) -> Engine {
<<<<<<< HEAD
        let mut engine = Engine {
            now,
            seed,
            drawn: 0,
            limits,
            snapshot: Arc::clone(&snapshot),
            stopping: false,
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
            paths: Slab::default(),
            path_of: BTreeMap::new(),
            sessions: Slab::default(),
            serial: 0,
            benches: BTreeMap::new(),
            timers: BTreeSet::new(),
            runnable: VecDeque::new(),
            answered: VecDeque::new(),
            rehoming: VecDeque::new(),
            sweeps: VecDeque::new(),
            to_resolve: VecDeque::new(),
            resolving: 0,
            stalled: VecDeque::new(),
        };
        engine.take_snapshot(snapshot);
        engine.timers.insert((now + SWEEP_EVERY, Timer::Sweep));
        engine
=======
        let _ = (limits, seed, now);
        Engine { snapshot, actions: VecDeque::new() }
>>>>>>> main
    }

    /// Tell it what happened. A clock that goes back is taken as standing still.
    pub fn handle(&mut self, input: Input, now: Timestamp) {
        self.now = self.now.max(now);
        match input {
            Input::Accepted { envelope, state } => self.accepted(&envelope, state),
            Input::Resolved { domain, answer } => self.resolved(&domain, answer),
            Input::SessionOpened { session, host } => self.session_opened(session, &host),
            Input::SessionFailed { session, failure } => self.session_failed(session, &failure),
            Input::SessionClosed { session, reply } => self.session_closed(session, reply.as_ref()),
            Input::AttemptEnded { attempt, report } => self.attempt_ended(attempt, report),
            Input::IpGone { ip, said } => self.ip_gone(ip, said),
            Input::IpBack { ip } => self.ip_back(ip),
            Input::SnapshotChanged(snapshot) => self.take_snapshot(snapshot),
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
        let bulk =
            self.step_time() || self.step_answered() || self.step_rehoming() || self.step_order();
        if let Some(path) = self.runnable.pop_front() {
            self.serve(path);
            return true;
        }
        bulk
    }

    fn has_work(&self) -> bool {
        !(self.runnable.is_empty()
            && self.answered.is_empty()
            && self.rehoming.is_empty()
            && self.sweeps.is_empty())
    }

    fn step_time(&mut self) -> bool {
        if let Some(message) = self.queue.life_reached(self.now) {
            self.life_rings(message);
            return true;
        }
        if let Some(ticket) = self.queue.pop_due(self.now) {
            self.place(ticket, false);
            return true;
        }
        let Some((at, timer)) = self
            .timers
            .first()
            .copied()
            .filter(|(at, _)| *at <= self.now)
        else {
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
