//! Who carries the engine's decisions to sockets and disk, and what happened back to it?
//!
//! One task owns the engine. Everybody else speaks to it by message; nobody waits for it but those who ask it something.

use crate::deliver::{self, Command, Job, Means, Sharing, Told, Way};
use crate::metrics::{ByCode, ByProvider, Metrics, What};
use crate::record::{self, Entry, Notice, Standing};
use engine::attempt::ConnectFailureKind;
use engine::envelope::{Envelope, MessageState, RecipientState, TlsWish};
use engine::event::{Event, EventKind};
use engine::id::{MessageId, SessionId};
use engine::snapshot::{Hop, Snapshot};
use engine::time::Timestamp;
use engine::{Action, Alarm, Engine, Input, Learned, NotifyKind, Order, Resolution};
use mail::address::Domain;
use net::dial::Via;
use net::dns::{Families, Network, Reach, Route, Site, route_of};
use spool::Cursor;
use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// Inputs taken at once before actions are carried out.
const BATCH_MAX: usize = 256;
/// Actions carried out before inputs are looked at again: an order over a million messages delays nobody.
const ACTIONS_MAX: usize = 1_024;
/// What was learned is written again after so many records of the spool, so that a start need not look far back for it.
pub(crate) const REMEMBER_EVERY: u64 = 20_000;
/// Resolutions kept before any is looked at for being of no use.
const SITES_MIN: usize = 1_024;

type Question = Box<dyn FnOnce(&mut Engine, Timestamp) + Send>;

enum Word {
    Accepted(Arc<Envelope>, Option<Standing>),
    NoticeDurable(MessageId),
    Told(Told),
    Resolved(Domain, Route, Sharing),
    /// Whether an address is on this machine.
    Checked(Input),
    Ask(Question),
    Snapshot(Arc<Snapshot>),
    Recovered,
    Stop,
}

/// The way to the engine's task. Cheap to clone.
#[derive(Clone)]
pub struct Driver {
    words: UnboundedSender<Word>,
}

/// The engine's task has ended: the process is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the service is stopping")]
pub struct Stopped;

impl Driver {
    pub(crate) fn accepted(&self, envelope: Arc<Envelope>, standing: Option<Standing>) {
        // The message is durable; if the engine's task has ended, the next start takes it up.
        let _ = self.words.send(Word::Accepted(envelope, standing));
    }

    /// The oldest notice that is owed about the message is in the spool itself.
    pub(crate) fn notice_is_durable(&self, message: MessageId) {
        let _ = self.words.send(Word::NoticeDurable(message));
    }

    /// All that was queued at the start was told.
    pub(crate) fn recovered(&self) {
        let _ = self.words.send(Word::Recovered);
    }

    /// Something came back of a message that is queued no more.
    pub(crate) fn heard(&self, event: Event) {
        let heard =
            Box::new(move |engine: &mut Engine, now: Timestamp| engine.handle(Input::Heard(Box::new(event)), now));
        // Where the task has ended, the next start reads it in the log.
        let _ = self.words.send(Word::Ask(heard));
    }

    pub fn change_snapshot(&self, snapshot: Arc<Snapshot>) {
        let _ = self.words.send(Word::Snapshot(snapshot));
    }

    /// Lets the engine answer a question, or take an order.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine, Timestamp) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        let asking = Box::new(move |engine: &mut Engine, now: Timestamp| {
            // Who asked may have gone.
            let _ = answer.send(question(engine, now));
        });
        self.words.send(Word::Ask(asking)).map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    pub async fn order(&self, order: Order) -> Result<(), Stopped> {
        self.ask(move |engine, now| engine.handle(Input::Order(order), now)).await
    }

    pub fn stop(&self) {
        let _ = self.words.send(Word::Stop);
    }
}

/// What the driver needs besides what its sessions need.
pub struct Setting {
    pub means: Arc<Means>,
    pub snapshot: Arc<Snapshot>,
    /// What the engine had learned before the start.
    pub learned: Learned,
    /// And what happened since it was written down, in its order.
    pub since: Vec<Event>,
    pub limits: engine::Limits,
    pub seed: u64,
    pub metrics: Arc<Metrics>,
    pub allow_private: Vec<Network>,
    /// To whoever writes them, in order.
    pub notices: UnboundedSender<(MessageId, Arc<Notice>)>,
}

/// Starts the engine's task; the second value ends when the engine has stopped and nothing is in flight.
pub fn start(mut setting: Setting) -> (Driver, impl Future<Output = ()> + Send + 'static) {
    let (words, heard) = mpsc::unbounded_channel();
    let driver = Driver { words: words.clone() };
    let now = Timestamp(setting.means.clock.now());
    let mut engine = Engine::new(setting.snapshot.clone(), setting.limits.clone(), setting.seed, now);
    let learned = std::mem::take(&mut setting.learned);
    let memory = Memory { changed: false, empty: learned.is_empty(), written_at: Cursor::default() };
    engine.handle(Input::Learned(learned), now);
    for event in std::mem::take(&mut setting.since) {
        engine.handle(Input::Past(Box::new(event)), now);
    }
    let desk = Desk {
        engine,
        newest: setting.means.spool.events().more(),
        memory,
        sites: HashMap::new(),
        sessions: HashMap::new(),
        told: words,
        resolved: 0,
        reach: reach(&setting.snapshot, &setting.allow_private),
        setting,
        in_hand: HashMap::new(),
        asked: HashMap::new(),
        owing: HashMap::new(),
        sites_max: SITES_MIN,
    };
    (driver, desk.run(heard))
}

/// How what was learned stands in the spool.
struct Memory {
    changed: bool,
    /// What was written last says that nothing is learned.
    empty: bool,
    written_at: Cursor,
}

struct Desk {
    engine: Engine,
    /// The newest record of the event log.
    newest: watch::Receiver<Cursor>,
    memory: Memory,
    setting: Setting,
    /// What the last resolution of a domain said; sessions dial by it.
    sites: HashMap<Domain, Arc<Site>>,
    /// With so many, those that the engine has forgotten are dropped.
    sites_max: usize,
    sessions: HashMap<SessionId, UnboundedSender<Command>>,
    told: UnboundedSender<Word>,
    resolved: u64,
    /// What our IPs can reach; there may be very many of them.
    reach: Reach,
    /// Envelopes that the inputs of this round were about, to name addresses in events.
    in_hand: HashMap<MessageId, Arc<Envelope>>,
    /// Notices that the engine asked for and whose message is settled next.
    asked: HashMap<MessageId, Vec<(NotifyKind, Vec<u16>)>>,
    /// How messages stand about which a notice is being written. They stay in the spool until it is durable.
    owing: HashMap<MessageId, Standing>,
}

impl Desk {
    async fn run(mut self, mut heard: UnboundedReceiver<Word>) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        let alarm_clock = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm_clock);
        let mut wake_at: Option<Timestamp> = None;
        let mut stopping = false;
        loop {
            let more = self.act();
            if stopping && !more && self.engine.in_flight().attempts_in_flight == 0 && self.sessions.is_empty() {
                break;
            }
            let deadline = self.engine.deadline();
            if deadline != wake_at {
                wake_at = deadline;
                if let Some(deadline) = deadline {
                    alarm_clock.as_mut().reset(Instant::now() + self.setting.means.clock.until(deadline.0));
                }
            }
            if more {
                // Actions are left: take what has come meanwhile, and go on.
                while batch.len() < BATCH_MAX
                    && let Ok(word) = heard.try_recv()
                {
                    batch.push(word);
                }
                tokio::task::yield_now().await;
            } else {
                tokio::select! {
                    biased;
                    _ = heard.recv_many(&mut batch, BATCH_MAX) => {}
                    () = &mut alarm_clock, if wake_at.is_some() => wake_at = None,
                }
            }
            let now = self.now();
            if let Some(jump) = self.setting.means.clock.take_jump() {
                tracing::warn!(
                    by_s = jump.by_us / 1_000_000,
                    "the wall clock was set; no wait, lifetime or rate changes by it until the next start"
                );
            }
            if batch.is_empty() && wake_at.is_none() {
                self.engine.handle(Input::Tick, now);
            }
            for word in batch.drain(..) {
                stopping |= matches!(word, Word::Stop);
                self.hear(word, now);
            }
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.setting.means.clock.now())
    }

    fn hear(&mut self, word: Word, now: Timestamp) {
        let input = match word {
            Word::Accepted(envelope, standing) => self.take_up(envelope, standing),
            Word::NoticeDurable(message) => return self.told(message),
            Word::Told(Told { input, envelope, over }) => {
                if let Some(envelope) = envelope {
                    self.in_hand.insert(envelope.message, envelope);
                }
                if let Some(session) = over {
                    self.forget(session);
                }
                input
            }
            Word::Checked(input) => input,
            Word::Resolved(domain, route, sharing) => {
                Input::Resolved { answer: self.resolution(&domain, route, sharing), domain }
            }
            Word::Ask(question) => return question(&mut self.engine, now),
            Word::Snapshot(snapshot) => {
                if !Arc::ptr_eq(&self.setting.snapshot.ips, &snapshot.ips) {
                    self.reach = reach(&snapshot, &self.setting.allow_private);
                }
                self.setting.snapshot = snapshot.clone();
                Input::SnapshotChanged(snapshot)
            }
            Word::Recovered => Input::Recovered,
            Word::Stop => Input::Stopping,
        };
        self.engine.handle(input, now);
    }

    fn forget(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_some() {
            self.setting.metrics.sessions.get_or_create(&What { what: "out" }).dec();
        }
    }

    /// Carries out what the engine says; true when it may have more to say.
    fn act(&mut self) -> bool {
        let mut carried = 0;
        while carried < ACTIONS_MAX {
            let Some(action) = self.engine.poll() else { break };
            carried += 1;
            match action {
                Action::Resolve { domain, anew } => self.resolve(domain, anew),
                Action::Open { session, source, domain, tls } => self.open(session, source, domain, tls),
                Action::Attempt { session, attempt, message, recipients } => {
                    let snapshot = Arc::clone(self.engine.snapshot());
                    let command = Command::Attempt { attempt, message, recipients, snapshot };
                    let commands = self.sessions.get(&session);
                    if commands.is_none_or(|commands| commands.send(command).is_err()) {
                        // The session has just ended: nothing was tried, and the message goes on at once.
                        let input = Input::AttemptEnded { attempt, report: deliver::not_tried() };
                        self.engine.handle(input, self.now());
                    }
                }
                Action::Close { session } => {
                    if let Some(commands) = self.sessions.get(&session) {
                        let _ = commands.send(Command::Close);
                    }
                }
                Action::Settle { message, state, finished, events } => self.settle(message, state, finished, events),
                Action::Notify { message, recipients, kind } => {
                    self.asked.entry(message).or_default().push((kind, recipients));
                }
                Action::Record(event) => self.note(event),
                Action::Alarm(alarm) => self.alarm(&alarm),
                Action::Remember => self.memory.changed = true,
                Action::CheckIp { ip } => self.check_ip(ip),
            }
        }
        self.remember();
        let more = carried == ACTIONS_MAX;
        if !more {
            self.in_hand.clear();
        }
        more
    }

    fn resolve(&mut self, domain: Domain, anew: bool) {
        let means = self.setting.means.clone();
        let reach = self.reach.clone();
        if anew {
            means.dns.outdate(&domain);
        }
        self.resolved += 1;
        let seed = self.setting.seed ^ self.resolved;
        let told = self.told.clone();
        let (asking, name) = (domain.clone(), domain);
        let looking = tokio::spawn(async move {
            tokio::join!(route_of(means.dns.as_ref(), &asking, &reach, seed), deliver::sharing(&means, &asking))
        });
        tokio::spawn(async move {
            // A look-up that panicked is one that failed: the engine waits for an answer to each.
            let failed = |fault: tokio::task::JoinError| (Route::Later(fault.to_string()), Sharing::Allowed);
            let (route, sharing) = looking.await.unwrap_or_else(failed);
            let _ = told.send(Word::Resolved(name, route, sharing));
        });
    }

    fn resolution(&mut self, domain: &Domain, route: Route, sharing: Sharing) -> Resolution {
        match route {
            Route::Site(site) => {
                let hosts = site.hosts.iter().map(|host| host.name.clone()).collect();
                let valid_for = site.valid_for;
                let name = site_name(&site, domain, sharing, self.setting.means.dane);
                if self.sites.len() >= self.sites_max {
                    self.sites.retain(|known, _| self.engine.knows(known));
                    self.sites_max = SITES_MIN.max(self.sites.len() * 2);
                }
                self.sites.insert(domain.clone(), Arc::new(site));
                Resolution::Site { site: name, hosts, valid_for }
            }
            Route::NoSuchDomain(_) => Resolution::NoSuchDomain,
            Route::NullMx => Resolution::NullMx,
            Route::Refused(refusal) => Resolution::Refused { said: refusal.to_string() },
            Route::Later(said) => Resolution::Later { said },
        }
    }

    fn open(&mut self, session: SessionId, source: IpAddr, domain: Domain, tls: TlsWish) {
        let (commands, listening) = mpsc::unbounded_channel();
        self.sessions.insert(session, commands);
        self.setting.metrics.sessions.get_or_create(&What { what: "out" }).inc();
        let ip = self.setting.snapshot.ips.get(&source);
        let site = self.sites.get(&domain).cloned();
        let relay = ip.and_then(|ip| ip.relay()).map(|relay| Way::Relay(Arc::clone(relay), self.reach.clone()));
        let (Some(ip), Some(way)) = (ip, relay.or(site.map(Way::Site))) else {
            // The world changed between decision and deed; the engine hears of it as of any connection that failed.
            let failure = match ip {
                None => {
                    let what = format!("{source} is not an IP of this installation any more");
                    deliver::failed(ConnectFailureKind::AddressMissing, None, what)
                }
                Some(_) => deliver::failed(ConnectFailureKind::Dns, None, format!("{domain} is not looked up yet")),
            };
            let input = Input::SessionFailed { session, failure };
            let _ = self.told.send(Word::Told(Told { input, envelope: None, over: Some(session) }));
            return;
        };
        // Behind a hop the remote sees the public address, whatever is bound here.
        let (via, from) = match &ip.hop {
            None | Some(Hop::Relay(_)) => (Via::Direct, ip.bind),
            Some(Hop::Socks5 { proxy }) => (Via::Socks5 { proxy: *proxy, sign_in: None }, source),
            Some(Hop::Proxy { proxy }) => (Via::Proxy { proxy: *proxy }, source),
        };
        let job = Job { session, via, from, ehlo: ip.ehlo.clone(), domain, way, tls };
        let told = self.told.clone();
        tokio::spawn(deliver::run(self.setting.means.clone(), job, listening, move |words| {
            let _ = told.send(Word::Told(words));
        }));
    }

    /// A message for the engine. One that comes back at the start may bring notices that were not written before.
    fn take_up(&mut self, envelope: Arc<Envelope>, standing: Option<Standing>) -> Input {
        let message = envelope.message;
        let state = standing.as_ref().map(|standing| standing.state.clone());
        if let Some(standing) = standing.filter(|standing| !standing.owed.is_empty()) {
            for notice in &standing.owed {
                let _ = self.setting.notices.send((message, notice.clone()));
            }
            self.owing.insert(message, standing);
        }
        Input::Accepted { envelope, state }
    }

    /// The sender was told: one notice less is owed, and with the last the message may go.
    fn told(&mut self, message: MessageId) {
        let Some(standing) = self.owing.get_mut(&message) else { return };
        standing.owed.pop_front();
        let spool = &self.setting.means.spool;
        if standing.owed.is_empty() && standing.state.recipients.iter().all(RecipientState::finished) {
            spool.remove(message.0, Vec::new());
        } else {
            spool.update(message.0, record::write_standing(standing), Vec::new());
        }
        if standing.owed.is_empty() {
            self.owing.remove(&message);
        }
    }

    fn settle(&mut self, message: MessageId, state: MessageState, finished: bool, events: Vec<Event>) {
        for event in &events {
            self.count(event);
        }
        let envelope = self.in_hand.get(&message);
        for event in events.iter().filter(|event| event.kind == EventKind::Delivered) {
            if let Some(envelope) = envelope {
                let waited_us = event.at.since(envelope.accepted_at.max(envelope.due_at)).as_micros();
                self.setting.metrics.delivery_seconds.observe(waited_us as f64 / 1e6);
            }
        }
        let owed = notices(self.asked.remove(&message).unwrap_or_default(), &events);
        let entries: Vec<Entry> = events
            .into_iter()
            .map(|event| Entry {
                address: envelope.zip(event.recipient).and_then(|(envelope, at)| address(envelope, at)),
                route: state.route.clone().filter(|_| event.kind == EventKind::Routed),
                event,
                accepted: None,
            })
            .collect();
        let events = record::write_entries(message, &entries);
        for notice in &owed {
            let _ = self.setting.notices.send((message, notice.clone()));
        }
        let spool = &self.setting.means.spool;
        match self.owing.entry(message) {
            Slot::Occupied(mut entry) => {
                let standing = entry.get_mut();
                standing.state = state;
                standing.owed.extend(owed);
                spool.update(message.0, record::write_standing(standing), events);
            }
            Slot::Vacant(_) if owed.is_empty() && finished => spool.remove(message.0, events),
            Slot::Vacant(entry) => {
                let standing = Standing { state, owed };
                spool.update(message.0, record::write_standing(&standing), events);
                if !standing.owed.is_empty() {
                    entry.insert(standing);
                }
            }
        }
    }

    fn note(&self, event: Event) {
        tracing::info!(
            what = event.kind.code(),
            ip = event.ip.map(tracing::field::display),
            provider = event.provider.as_deref(),
            why = event.why.as_ref().map(tracing::field::display),
            "lane"
        );
        let message = event.message.unwrap_or(MessageId(0));
        self.setting.means.spool.note(record::write_entries(message, &[Entry::plain(event)]));
    }

    /// A block must not be forgotten by a crash, and a start looks back no farther than twice `REMEMBER_EVERY`.
    fn remember(&mut self) {
        let newest = *self.newest.borrow();
        let far = newest.0.saturating_sub(self.memory.written_at.0) >= REMEMBER_EVERY;
        if !self.memory.changed && (!far || self.memory.empty) {
            return;
        }
        let learned = self.engine.learned();
        self.setting.means.spool.note(record::write_learned(&learned));
        self.memory = Memory { changed: false, empty: learned.is_empty(), written_at: newest };
    }

    fn count(&self, event: &Event) {
        let metrics = &self.setting.metrics;
        let provider = event.provider.as_deref().filter(|name| !name.contains('.')).unwrap_or("other").to_owned();
        metrics.outcomes.get_or_create(&ByProvider { what: event.kind.code(), provider }).inc();
    }

    fn alarm(&self, alarm: &Alarm) {
        tracing::warn!(
            code = %alarm.code,
            ip = alarm.ip.map(tracing::field::display),
            provider = alarm.provider.as_deref(),
            account = alarm.account.as_ref().map(tracing::field::display),
            "{}",
            alarm.words
        );
        self.setting.metrics.alarms.get_or_create(&ByCode { code: alarm.code.clone() }).inc();
    }

    fn check_ip(&self, ip: IpAddr) {
        // What lives behind a hop is not for this machine to look for.
        let known = self.setting.snapshot.ips.get(&ip).filter(|ip| ip.hop.is_none());
        let Some(bind) = known.map(|ip| ip.bind) else { return };
        let input = match net::dial::is_here(bind) {
            Ok(()) => Input::IpBack { ip },
            Err(fault) => Input::IpGone { ip, said: fault.to_string() },
        };
        let _ = self.told.send(Word::Checked(input));
    }
}

fn reach(snapshot: &Snapshot, allow_private: &[Network]) -> Reach {
    let own = || snapshot.ips.iter().filter(|(_, ip)| ip.relay().is_none());
    Reach {
        families: Families::of(own().map(|(address, _)| *address)),
        own: Arc::new(own().map(|(_, ip)| ip.bind).collect()),
        allow_private: allow_private.to_vec(),
    }
}

/// What was asked for, with what happened to whom it is about.
fn notices(asked: Vec<(NotifyKind, Vec<u16>)>, events: &[Event]) -> VecDeque<Arc<Notice>> {
    let notice = |(kind, recipients): (NotifyKind, Vec<u16>)| {
        let about = |event: &&Event| event.recipient.is_some_and(|at| recipients.contains(&at));
        let events = events.iter().filter(about).cloned().collect();
        Arc::new(Notice { kind, recipients, events })
    };
    asked.into_iter().map(notice).collect()
}

/// Domains share connections when their sites have one name. Where a domain's own policy says what the remote must prove, what was
/// proven for another domain is not enough, so it shares with none.
fn site_name(site: &Site, domain: &Domain, sharing: Sharing, dane: bool) -> String {
    if sharing == Sharing::Forbidden || dane && site.secure && site.hosts.iter().any(|host| host.secure) {
        format!("{} for {domain}", site.name)
    } else {
        site.name.clone()
    }
}

fn address(envelope: &Envelope, at: u16) -> Option<String> {
    envelope.recipients.get(usize::from(at)).map(|recipient| recipient.address.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Sharing, Site, site_name};
    use mail::address::Domain;
    use net::dns::MxHost;
    use std::time::Duration;

    // R5.1: what TLS proved for one domain says nothing for another whose policy asks for more.
    #[test]
    fn a_domain_with_a_policy_of_its_own_shares_no_connection() {
        let domain = Domain::parse("a.test").unwrap();
        let site = |secure: bool| {
            let name = "mx.test".to_owned();
            let (canonical, addresses) = (name.clone(), Vec::new());
            let host = MxHost { name: name.clone(), preference: 10, canonical, addresses, secure };
            Site { name, hosts: vec![host], secure, valid_for: Duration::from_secs(60) }
        };
        let cases = [
            (false, Sharing::Allowed, true, "mx.test"),
            (true, Sharing::Allowed, false, "mx.test"),
            (true, Sharing::Allowed, true, "mx.test for a.test"),
            (false, Sharing::Forbidden, false, "mx.test for a.test"),
        ];
        for (secure, sharing, dane, expected) in cases {
            assert_eq!(site_name(&site(secure), &domain, sharing, dane), expected);
        }
    }
}
