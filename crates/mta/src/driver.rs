//! Who carries the engine's decisions to sockets and disk, and what happened back to it?
//!
//! One task owns the engine. Everybody else speaks to it by message; nobody waits for it but those who ask it something.

use crate::deliver::{self, Command, Job, Means, Told};
use crate::metrics::{ByCode, ByProvider, Metrics, What};
use crate::record::{self, Entry};
use engine::envelope::{Envelope, MessageState, TlsWish};
use engine::event::{Event, EventKind};
use engine::id::{MessageId, SessionId};
use engine::snapshot::Snapshot;
use engine::time::Timestamp;
use engine::{Action, Alarm, Engine, Input, NotifyKind, Order, Resolution};
use mail::address::Domain;
use net::dns::{Families, Network, Reach, Route, Site, route_of};
use spool::Spool;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Inputs taken at once before actions are carried out.
const BATCH_MAX: usize = 256;
/// Actions carried out before inputs are looked at again: an order over a million messages delays nobody.
const ACTIONS_MAX: usize = 1_024;

/// A notice that the sender asked for.
#[derive(Debug)]
pub struct Notice {
    pub message: MessageId,
    pub recipients: Vec<u16>,
    pub kind: NotifyKind,
    /// What happened to these recipients just now.
    pub events: Vec<Event>,
    /// The message has no recipient left; it leaves the spool when the notice is in it.
    pub finished: bool,
}

type Question = Box<dyn FnOnce(&mut Engine, Timestamp) + Send>;

enum Word {
    Accepted(Arc<Envelope>, Option<MessageState>),
    Told(Told),
    Resolved(Domain, Route),
    /// Whether an address is on this machine.
    Checked(Input),
    Ask(Question),
    Snapshot(Arc<Snapshot>),
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
    pub(crate) fn accepted(&self, envelope: Arc<Envelope>, state: Option<MessageState>) {
        // The message is durable; if the engine's task has ended, the next start takes it up.
        let _ = self.words.send(Word::Accepted(envelope, state));
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
    pub limits: engine::Limits,
    pub seed: u64,
    pub metrics: Arc<Metrics>,
    pub allow_private: Vec<Network>,
    pub notices: UnboundedSender<Notice>,
}

/// Starts the engine's task; the second value ends when the engine has stopped and nothing is in flight.
pub fn start(setting: Setting) -> (Driver, impl Future<Output = ()> + Send + 'static) {
    let (words, heard) = mpsc::unbounded_channel();
    let driver = Driver { words: words.clone() };
    let now = Timestamp(setting.means.clock.now());
    let desk = Desk {
        engine: Engine::new(setting.snapshot.clone(), setting.limits.clone(), setting.seed, now),
        sites: HashMap::new(),
        sessions: HashMap::new(),
        told: words,
        resolved: 0,
        setting,
        in_hand: HashMap::new(),
        owed: HashMap::new(),
    };
    (driver, desk.run(heard))
}

struct Desk {
    engine: Engine,
    setting: Setting,
    /// What the last resolution of a domain said; sessions dial by it.
    sites: HashMap<Domain, Arc<Site>>,
    sessions: HashMap<SessionId, UnboundedSender<Command>>,
    told: UnboundedSender<Word>,
    resolved: u64,
    /// Envelopes that the inputs of this round were about, to name addresses in events.
    in_hand: HashMap<MessageId, Arc<Envelope>>,
    /// Notices that the engine asked for and whose message is settled next.
    owed: HashMap<MessageId, Vec<(Vec<u16>, NotifyKind)>>,
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
            Word::Accepted(envelope, state) => Input::Accepted { envelope, state },
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
            Word::Resolved(domain, route) => Input::Resolved { answer: self.resolution(&domain, route), domain },
            Word::Ask(question) => return question(&mut self.engine, now),
            Word::Snapshot(snapshot) => {
                self.setting.snapshot = snapshot.clone();
                Input::SnapshotChanged(snapshot)
            }
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
                Action::Resolve { domain } => self.resolve(domain),
                Action::Open { session, source, domain, tls } => self.open(session, source, domain, tls),
                Action::Attempt { session, attempt, message, recipients } => {
                    let command = Command::Attempt { attempt, message, recipients };
                    if let Some(commands) = self.sessions.get(&session) {
                        // A session that ends just now answers for what it was told.
                        let _ = commands.send(command);
                    }
                }
                Action::Close { session } => {
                    if let Some(commands) = self.sessions.get(&session) {
                        let _ = commands.send(Command::Close);
                    }
                }
                Action::Settle { message, state, finished, events } => self.settle(message, &state, finished, events),
                Action::Notify { message, recipients, kind } => {
                    self.owed.entry(message).or_default().push((recipients, kind));
                }
                Action::Record(event) => self.note(event),
                Action::Alarm(alarm) => self.alarm(&alarm),
                Action::CheckIp { ip } => self.check_ip(ip),
            }
        }
        self.in_hand.clear();
        carried == ACTIONS_MAX
    }

    fn resolve(&mut self, domain: Domain) {
        let means = self.setting.means.clone();
        let ips = &self.setting.snapshot.ips;
        let reach = Reach {
            families: Families::of(ips.keys().copied()),
            own: ips.values().map(|ip| ip.bind).collect(),
            allow_private: self.setting.allow_private.clone(),
        };
        self.resolved += 1;
        let seed = self.setting.seed ^ self.resolved;
        let told = self.told.clone();
        tokio::spawn(async move {
            let route = route_of(means.dns.as_ref(), &domain, &reach, seed).await;
            let _ = told.send(Word::Resolved(domain, route));
        });
    }

    fn resolution(&mut self, domain: &Domain, route: Route) -> Resolution {
        match route {
            Route::Site(site) => {
                let hosts = site.hosts.iter().map(|host| host.name.clone()).collect();
                let (name, valid_for) = (site.name.clone(), site.valid_for);
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
        let (Some(ip), Some(site)) = (ip, site) else {
            // The snapshot changed between decision and deed; the engine hears of it as of any connection that failed.
            let failure = deliver::failed(
                engine::attempt::ConnectFailureKind::AddressMissing,
                None,
                format!("{source} is not an IP of this installation any more"),
            );
            let input = Input::SessionFailed { session, failure };
            let _ = self.told.send(Word::Told(Told { input, envelope: None, over: Some(session) }));
            return;
        };
        let job = Job { session, bind: ip.bind, ehlo: ip.ehlo.clone(), domain, site, tls };
        let told = self.told.clone();
        tokio::spawn(deliver::run(self.setting.means.clone(), job, listening, move |words| {
            let _ = told.send(Word::Told(words));
        }));
    }

    fn settle(&mut self, message: MessageId, state: &MessageState, finished: bool, events: Vec<Event>) {
        for event in &events {
            self.count(event);
        }
        let envelope = self.in_hand.get(&message);
        for event in events.iter().filter(|event| event.kind == EventKind::Delivered) {
            if let Some(envelope) = envelope {
                let waited_us = event.at.0.saturating_sub(envelope.accepted_at.0);
                self.setting.metrics.delivery_seconds.observe(waited_us as f64 / 1e6);
            }
        }
        let owed = self.owed.remove(&message).unwrap_or_default();
        let last = owed.len();
        let notices: Vec<Notice> = (1..)
            .zip(owed)
            .map(|(count, (recipients, kind))| {
                let told = events.iter().filter(|event| event.recipient.is_some_and(|at| recipients.contains(&at)));
                // The last one lets the message go.
                Notice {
                    message,
                    kind,
                    finished: finished && count == last,
                    events: told.cloned().collect(),
                    recipients,
                }
            })
            .collect();
        let entries: Vec<Entry> = events
            .into_iter()
            .map(|event| Entry {
                address: envelope.zip(event.recipient).and_then(|(envelope, at)| address(envelope, at)),
                event,
                accepted: None,
            })
            .collect();
        let events = record::write_entries(message, &entries);
        let spool: &Spool = &self.setting.means.spool;
        if finished && notices.is_empty() {
            return spool.remove(message.0, events);
        }
        // With a notice owed, the message stays until that is durable itself: a crash between the two loses no notice.
        spool.update(message.0, record::write_state(state), events);
        for notice in notices {
            let _ = self.setting.notices.send(notice);
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
        self.setting
            .means
            .spool
            .note(record::write_entries(message, &[Entry { event, address: None, accepted: None }]));
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
        let Some(bind) = self.setting.snapshot.ips.get(&ip).map(|ip| ip.bind) else { return };
        let input = match net::dial::is_here(bind) {
            Ok(()) => Input::IpBack { ip },
            Err(fault) => Input::IpGone { ip, said: fault.to_string() },
        };
        let _ = self.told.send(Word::Checked(input));
    }
}

fn address(envelope: &Envelope, at: u16) -> Option<String> {
    envelope.recipients.get(usize::from(at)).map(|recipient| recipient.address.clone())
}
