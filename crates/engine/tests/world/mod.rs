//! A small outside world for the engine: DNS, hosts and answers as a test says, on a clock that the test moves.
#![allow(dead_code, clippy::unwrap_used)] // each test file uses a part of it; a failing unwrap is a failing test

use engine::attempt::{ConnectFailure, ConnectFailureKind, Outcome, Report, Stage};
use engine::envelope::{Addresses, Envelope, MessageState, Notify, PoolRule, Recipient, Route, TlsWish, Wish};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, AttemptId, MessageId, PoolId, SessionId, StreamId};
use engine::judged::Ordered;
use engine::route;
use engine::snapshot::{Account, Ip, IpState, Leaving, Plan, Pool, PoolKind, Snapshot, WarmUp, WarmUpBy};
use engine::split::reader_of;
use engine::time::Timestamp;
use engine::why::Why;
use engine::{Action, Engine, Filter, Input, Limits, Resolution};
use mail::address::Domain;
use mail::reply::{Enhanced, Reply};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub const START: Timestamp = Timestamp(1_800_000_000_000_000);
const LATENCY: Duration = Duration::from_millis(100);

/// How a recipient (or with `*` everybody of a domain) is answered, one after the other; the last one stays.
#[derive(Clone, Debug)]
pub enum Answer {
    Reply(Stage, Reply),
    Lost(Stage),
    NotTried,
    /// The spool does not have it.
    Unreadable(String),
    /// The reply, and the connection ends.
    Closing(Stage, Reply),
}

pub struct World {
    pub engine: Engine,
    pub snapshot: Snapshot,
    pub now: Timestamp,
    pub trace: Vec<String>,
    pub dns: BTreeMap<String, Resolution>,
    pub connect: BTreeMap<String, ConnectFailure>,
    pub answers: BTreeMap<String, VecDeque<Answer>>,
    pub envelopes: BTreeMap<MessageId, Arc<Envelope>>,
    pub names: BTreeMap<MessageId, String>,
    pub fates: BTreeMap<(MessageId, u16), Vec<EventKind>>,
    pub states: BTreeMap<MessageId, MessageState>,
    pub attempts: Vec<(Timestamp, SessionId, MessageId)>,
    pub opens: usize,
    pub resolves: usize,
    pub notices: Vec<String>,
    /// Remote limits: recipients per transaction.
    pub recipients_max: usize,
    pub latency: Duration,
    pub session_site: BTreeMap<SessionId, (IpAddr, String)>,
    pub open_sessions: BTreeSet<SessionId>,
    pub missing: BTreeSet<IpAddr>,
    pending: BTreeMap<(Timestamp, u64), Input>,
    serial: u64,
    pub quiet: bool,
    /// All that was told, in its order.
    pub log: Vec<Event>,
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
    let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
    match first.parse::<Enhanced>() {
        Ok(enhanced) => Reply { code: code.parse().unwrap(), enhanced: Some(enhanced), text: after.to_owned() },
        Err(_) => Reply { code: code.parse().unwrap(), enhanced: None, text: rest.to_owned() },
    }
}

pub fn snapshot(ips: &[&str]) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    for address in ips {
        let entry =
            Ip { bind: ip(address), ehlo: "mail.weir.test".into(), state: IpState::Active, hop: None, warm_up: None };
        Arc::make_mut(&mut snapshot.ips).insert(ip(address), entry);
    }
    snapshot
}

/// What the control plane may change about pools and IPs, as a test needs it.
pub trait Arrange {
    fn account(&mut self, id: &str, plan: Plan, default_pool: Option<&str>);
    /// The operator's, of the region, without an owner. A pool that is there gets a new list of IPs.
    fn pool(&mut self, id: &str, owner: Option<&str>, ips: &[IpAddr]);
    fn delete_pool(&mut self, id: &str);
    /// Out of whatever pool it is in.
    fn take_from_pools(&mut self, ip: IpAddr);
    fn set_state(&mut self, ip: IpAddr, state: IpState);
    fn warm_up(&mut self, ip: IpAddr, by: WarmUpBy, ordered: Ordered, ordered_at: Timestamp);
    fn owner_of(&self, ip: IpAddr) -> Option<AccountId>;
}

impl Arrange for Snapshot {
    fn account(&mut self, id: &str, plan: Plan, default_pool: Option<&str>) {
        let mut account = Account { plan, ..Account::default() };
        if let Some(pool) = default_pool {
            account.default_pools.insert(self.region.clone(), PoolId::new(pool));
        }
        Arc::make_mut(&mut self.accounts).insert(AccountId::new(id), Arc::new(account));
    }

    fn pool(&mut self, id: &str, owner: Option<&str>, ips: &[IpAddr]) {
        let pool = Pool {
            kind: if owner.is_some() { PoolKind::Standard } else { PoolKind::Shared },
            name: id.into(),
            region: self.region.clone(),
            account: owner.map(AccountId::new),
            ips: ips.to_vec(),
            overflow: None,
            leaving: Leaving::Shared,
            relay: None,
            active_within: None,
        };
        Arc::make_mut(&mut self.pools).insert(PoolId::new(id), Arc::new(pool));
        if owner.is_none() {
            Arc::make_mut(&mut self.shared).insert(self.region.clone(), PoolId::new(id));
        }
    }

    fn delete_pool(&mut self, id: &str) {
        Arc::make_mut(&mut self.pools).remove(id);
    }

    fn take_from_pools(&mut self, ip: IpAddr) {
        for pool in Arc::make_mut(&mut self.pools).values_mut().filter(|pool| pool.ips.contains(&ip)) {
            Arc::make_mut(pool).ips.retain(|own| *own != ip);
        }
    }

    fn set_state(&mut self, ip: IpAddr, state: IpState) {
        if let Some(known) = Arc::make_mut(&mut self.ips).get_mut(&ip) {
            known.state = state;
        }
    }

    fn warm_up(&mut self, ip: IpAddr, by: WarmUpBy, ordered: Ordered, ordered_at: Timestamp) {
        Arc::make_mut(&mut self.ips).get_mut(&ip).unwrap().warm_up = Some(WarmUp { by, ordered, ordered_at });
    }

    fn owner_of(&self, ip: IpAddr) -> Option<AccountId> {
        self.pools.values().find(|pool| pool.ips.contains(&ip))?.account.clone()
    }
}

impl World {
    pub fn new(snapshot: Snapshot, limits: Limits, seed: u64) -> World {
        let mut world = World::starting(snapshot, limits, seed);
        world.engine.handle(Input::Recovered, START);
        world
    }

    /// Not all that was queued is told yet.
    pub fn starting(snapshot: Snapshot, limits: Limits, seed: u64) -> World {
        World {
            engine: Engine::new(Arc::new(snapshot.clone()), limits, seed, START),
            snapshot,
            now: START,
            trace: Vec::new(),
            dns: BTreeMap::new(),
            connect: BTreeMap::new(),
            answers: BTreeMap::new(),
            envelopes: BTreeMap::new(),
            names: BTreeMap::new(),
            fates: BTreeMap::new(),
            states: BTreeMap::new(),
            attempts: Vec::new(),
            opens: 0,
            resolves: 0,
            notices: Vec::new(),
            recipients_max: usize::MAX,
            latency: LATENCY,
            session_site: BTreeMap::new(),
            open_sessions: BTreeSet::new(),
            missing: BTreeSet::new(),
            pending: BTreeMap::new(),
            serial: 0,
            quiet: false,
            log: Vec::new(),
        }
    }

    pub fn say(&mut self, what: impl std::fmt::Display) {
        if !self.quiet {
            let passed = self.now.since(START).as_millis();
            let (hours, rest) = (passed / 3_600_000, passed % 3_600_000);
            let time = format!("{hours:02}:{:02}:{:02}.{:03}", rest / 60_000, rest / 1000 % 60, rest % 1000);
            self.trace.push(format!("{time}  {what}"));
        }
    }

    pub fn envelope(&self, number: u128, account: &str, to: &[&str]) -> Envelope {
        let candidates: Vec<IpAddr> = self.snapshot.ips.keys().copied().collect();
        let recipients = to.iter().map(|address| Recipient {
            address: (*address).to_owned(),
            domain: Domain::parse(address.split_once('@').unwrap().1).unwrap(),
            notify: None,
            orcpt: None,
        });
        Envelope {
            message: MessageId(number),
            account: AccountId::new(account),
            stream: StreamId::new("default"),
            wish: Wish { region: self.snapshot.region.clone(), pool: None, set: None, subaccount: None },
            route: Some(Route {
                pool: PoolId::new("pool"),
                name: "pool".into(),
                addresses: Addresses::Shown,
                rule: PoolRule::Shared,
                chosen: candidates[0],
                candidates,
            }),
            sender: Some("news@sender.test".into()),
            sender_domain: Domain::parse("sender.test").ok(),
            return_path: "token@bounce.sender.test".into(),
            recipients: recipients.collect(),
            accepted_at: self.now,
            due_at: self.now,
            expires_at: self.now + Duration::from_secs(72 * 3600),
            tls: TlsWish::IfOffered,
            size: 1_000,
            message_id_header: "<x@sender.test>".into(),
            tags: Vec::new(),
            envid: None,
            ret: None,
            smtputf8: false,
            once: None,
        }
    }

    /// As `envelope`, with the route that the snapshot gives it; a message of a later time has none yet.
    pub fn routed(&self, number: u128, account: &str, to: &[&str], pool: Option<&str>, due: Duration) -> Envelope {
        let mut envelope = self.envelope(number, account, to);
        envelope.wish.pool = pool.map(Arc::from);
        envelope.due_at = self.now + due;
        envelope.expires_at = envelope.due_at + Duration::from_secs(72 * 3600);
        let reader = envelope.recipients.first().map(|to| reader_of(&to.address)).unwrap_or_default();
        let now = route::choose(&self.snapshot, &envelope.account, &envelope.wish, reader, envelope.message);
        envelope.route = Some(now.unwrap()).filter(|_| due.is_zero());
        envelope
    }

    pub fn change(&mut self, how: impl FnOnce(&mut Snapshot)) {
        how(&mut self.snapshot);
        self.snapshot.version += 1;
        self.tell(Input::SnapshotChanged(Arc::new(self.snapshot.clone())));
    }

    pub fn notified(mut envelope: Envelope) -> Envelope {
        for recipient in &mut envelope.recipients {
            recipient.notify = Some(Notify { success: false, failure: true, delay: true });
        }
        envelope
    }

    pub fn accept(&mut self, envelope: Envelope, state: Option<MessageState>) {
        let envelope = Arc::new(envelope);
        self.envelopes.insert(envelope.message, Arc::clone(&envelope));
        self.tell(Input::Accepted { envelope, state });
    }

    pub fn tell(&mut self, input: Input) {
        self.engine.handle(input, self.now);
        self.drain();
    }

    fn later(&mut self, after: Duration, input: Input) {
        self.serial += 1;
        self.pending.insert((self.now + after, self.serial), input);
    }

    /// Carries out what the engine asks for, at this moment.
    pub fn drain(&mut self) {
        loop {
            while let Some(action) = self.engine.poll() {
                self.act(action);
            }
            if self.engine.deadline().is_none_or(|at| at > self.now) {
                return;
            }
            self.engine.handle(Input::Tick, self.now);
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let input = self.pending.first_key_value().map(|((at, _), _)| *at);
            let next = input.into_iter().chain(self.engine.deadline()).min();
            let Some(at) = next.filter(|at| *at <= end) else { break };
            assert!(at >= self.now, "a deadline in the past, and nothing came of it");
            self.now = self.now.max(at);
            let due = self.pending.first_entry().filter(|entry| entry.key().0 <= self.now);
            let input = due.map_or(Input::Tick, std::collections::btree_map::OccupiedEntry::remove);
            if let Input::SessionClosed { session, .. } | Input::SessionFailed { session, .. } = &input {
                self.open_sessions.remove(session);
            }
            self.engine.handle(input, self.now);
            self.drain();
        }
        self.now = end;
        self.engine.handle(Input::Tick, self.now);
        self.drain();
    }

    fn name(&self, message: MessageId) -> String {
        self.names.get(&message).cloned().unwrap_or_else(|| format!("m{}", message.0))
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Resolve { domain, anew } => {
                self.resolves += 1;
                self.say(format_args!("resolve {domain}{}", if anew { " anew" } else { "" }));
                let own = Resolution::Site {
                    site: format!("mx.{domain}"),
                    hosts: vec![format!("mx.{domain}")],
                    valid_for: Duration::from_secs(3600),
                };
                let answer = self.dns.get(domain.as_str()).cloned().unwrap_or(own);
                self.later(Duration::from_millis(10), Input::Resolved { domain, answer });
            }
            Action::Open { session, source, domain, tls } => {
                self.opens += 1;
                self.say(format_args!("open for {domain} from {source} tls {tls:?}"));
                self.open_sessions.insert(session);
                self.session_site.insert(session, (source, domain.to_string()));
                let input = if self.missing.contains(&source) {
                    let kind = ConnectFailureKind::AddressMissing;
                    let failure = ConnectFailure { kind, host: None, reply: None, text: "cannot bind".into() };
                    Input::SessionFailed { session, failure }
                } else if let Some(failure) =
                    self.connect.get(domain.as_str()).or_else(|| self.connect.get(&source.to_string()))
                {
                    Input::SessionFailed { session, failure: failure.clone() }
                } else {
                    Input::SessionOpened { session, host: format!("mx.{domain}") }
                };
                self.later(self.latency, input);
            }
            Action::Attempt { session, attempt, message, recipients } => {
                self.attempt(session, attempt, message, &recipients);
            }
            Action::Close { session } => {
                self.say("close");
                let cancelled: Vec<_> = self
                    .pending
                    .iter()
                    .filter(|(_, input)| matches!(input, Input::SessionOpened { session: own, .. } if *own == session))
                    .map(|(key, _)| *key)
                    .collect();
                cancelled.into_iter().for_each(|key| drop(self.pending.remove(&key)));
                self.later(Duration::from_millis(1), Input::SessionClosed { session, reply: None });
            }
            Action::Settle { message, state, finished, events } => {
                self.log.extend(events.iter().cloned());
                for event in &events {
                    if let Some(recipient) = event.recipient {
                        self.fates.entry((message, recipient)).or_default().push(event.kind);
                    }
                    let name = self.name(message);
                    let whom = event.recipient.map_or(String::new(), |recipient| format!("/{recipient}"));
                    let mut line = format!("{} {name}{whom}", event.kind.code());
                    if event.attempt > 0 {
                        line += &format!(" attempt {}", event.attempt);
                    }
                    if let Some(ip) = event.ip {
                        line += &format!(" from {ip}");
                    }
                    if let Some(reply) = &event.reply {
                        line += &format!(" | {reply}");
                    }
                    if let Some(meaning) = &event.meaning {
                        line += &format!(" | {:?} by {}", meaning.class, meaning.rule);
                    }
                    if let Some(why) = &event.why {
                        line += &format!(" | {}", why.code());
                    }
                    if let Some(next) = event.next_at {
                        line += &format!(" | again in {} s", next.since(self.now).as_secs());
                    }
                    self.say(line);
                }
                if finished {
                    let name = self.name(message);
                    self.say(format_args!("finished {name}"));
                }
                self.states.insert(message, state);
            }
            Action::Notify { message, recipients, kind } => {
                // A message that is finished leaves the spool: a notice asked for afterwards could not be written.
                let over = self
                    .states
                    .get(&message)
                    .is_some_and(|state| state.recipients.iter().all(engine::envelope::RecipientState::finished));
                assert!(!over, "a notice about {message} after its last settle");
                let line = format!("notify {} {recipients:?} {kind:?}", self.name(message));
                self.say(&line);
                self.notices.push(line);
            }
            Action::Record(event) => {
                self.log.push(event.clone());
                if let (EventKind::IpDrained, ip @ Some(_)) = (event.kind, event.ip) {
                    // R2.4
                    let on_it = Filter { ip, sees_hidden: true, ..Filter::default() };
                    assert_eq!(self.engine.count(&on_it), 0, "an IP is drained when nothing is queued on it");
                }
                let mut line = event.kind.code().to_owned();
                if let Some(ip) = event.ip {
                    line += &format!(" {ip}");
                }
                if let Some(provider) = &event.provider {
                    line += &format!(" to {provider}");
                }
                if let Some(why) = &event.why {
                    line += &format!(" | {}", why.words());
                }
                if let Some(next) = event.next_at {
                    line += &format!(" | again in {} s", next.since(self.now).as_secs());
                }
                self.say(line);
            }
            Action::Alarm(alarm) => self.say(format_args!("alarm {} | {}", alarm.code, alarm.words)),
            // What was learned is taken over at a restart.
            Action::Remember => {}
            Action::CheckIp { ip } => {
                self.say(format_args!("check {ip}"));
                let input = if self.missing.contains(&ip) {
                    Input::IpGone { ip, said: "cannot bind".into() }
                } else {
                    Input::IpBack { ip }
                };
                self.later(Duration::from_millis(1), input);
            }
        }
    }

    fn attempt(&mut self, session: SessionId, attempt: AttemptId, message: MessageId, recipients: &[u16]) {
        self.attempts.push((self.now, session, message));
        let envelope = Arc::clone(&self.envelopes[&message]);
        let name = self.name(message);
        let shown =
            if recipients.len() > 4 { format!("{} recipients", recipients.len()) } else { format!("{recipients:?}") };
        let (source, _) = self.session_site[&session].clone();
        // R2.4: from an IP of the route that it got when it was accepted, or when its time had come.
        let late = self.states.get(&message).and_then(|state| state.route.as_ref());
        let route = envelope.route.as_ref().or(late).expect("nothing is tried before its route is decided");
        let moved = self.states.get(&message).and_then(|state| state.moved.as_ref());
        let overflows = moved.is_some_and(|moved| {
            moved.to == source && matches!(moved.why, Why::AllowanceUsed { .. } | Why::KeptForActive { .. })
        });
        assert!(
            overflows || route.candidates.contains(&source),
            "{name} leaves from {source}, which its route does not hold"
        );
        // R2.8
        let owner = self.snapshot.owner_of(source);
        assert!(owner.is_none_or(|owner| owner == envelope.account), "{name} leaves from another account's {source}");
        self.say(format_args!("attempt {name} {shown} from {source}"));
        let mut usable = true;
        let mut results = Vec::new();
        for (place, recipient) in recipients.iter().enumerate() {
            let address = &envelope.recipients[usize::from(*recipient)].address;
            let everybody = format!("*@{}", envelope.recipients[usize::from(*recipient)].domain);
            let key = if self.answers.contains_key(address) { address.clone() } else { everybody };
            let answer = self
                .answers
                .get_mut(&key)
                .and_then(|list| if list.len() > 1 { list.pop_front() } else { list.front().cloned() });
            let answer = answer.unwrap_or(Answer::Reply(Stage::End, reply("250 2.0.0 OK")));
            let outcome = match answer {
                _ if place >= self.recipients_max => {
                    Outcome::Answered { stage: Stage::Recipient, reply: reply("452 4.5.3 Too many recipients") }
                }
                Answer::Reply(stage, reply) => Outcome::Answered { stage, reply },
                Answer::Lost(stage) => {
                    usable = false;
                    Outcome::Lost { stage }
                }
                Answer::NotTried => Outcome::NotTried,
                Answer::Unreadable(said) => Outcome::Unreadable { said },
                Answer::Closing(stage, reply) => {
                    usable = false;
                    Outcome::Answered { stage, reply }
                }
            };
            results.push((*recipient, outcome));
        }
        if !usable {
            self.open_sessions.remove(&session);
        }
        let report = Report { results, host: None, tls: None, took: self.latency, session_usable: usable };
        self.later(self.latency, Input::AttemptEnded { attempt, report });
    }

    /// What is known of warm-ups is what the log tells, and nothing else: a new engine that hears it knows the same. Where nothing is
    /// under way.
    pub fn check_rebuilt(&self) {
        let mut fresh = Engine::new(Arc::new(self.snapshot.clone()), Limits::default(), 7, self.now);
        for event in &self.log {
            fresh.handle(Input::Past(Box::new(event.clone())), self.now);
        }
        let ips: Vec<IpAddr> = self.snapshot.ips.keys().copied().collect();
        let known = |engine: &Engine| -> BTreeMap<_, _> {
            let views = engine.warm_ups(&ips).into_iter().filter(|view| view.today.wanted() + view.today.tried() > 0);
            views.map(|view| ((view.ip, view.provider.clone()), (view.allowed, view.today, view.state))).collect()
        };
        assert_eq!(known(&fresh), known(&self.engine), "what is rebuilt is what was live");
    }

    /// How often each message of a recipient ended, by kind.
    pub fn ended(&self, kind: EventKind) -> usize {
        self.fates.values().flatten().filter(|own| **own == kind).count()
    }
}
