//! What does a message cost the engine where IPs warm up at many providers: until it is tried, and until all is said about it?
//!
//! `cargo run --release -p engine --example lanes [IPS] [MESSAGES]`; a lane for each IP at each of ten providers.
#![allow(clippy::disallowed_methods)] // it measures, so it needs a clock

use engine::attempt::{Outcome, Report, Stage};
use engine::envelope::{Addresses, Envelope, PoolRule, Recipient, Route, TlsWish, Wish};
use engine::id::{AccountId, MessageId, PoolId, StreamId};
use engine::judged::Ordered;
use engine::route::place;
use engine::snapshot::{Account, Ip, IpState, Leaving, Pool, PoolKind, Snapshot, WarmUp, WarmUpBy};
use engine::time::Timestamp;
use engine::{Action, Engine, Input, Limits, Resolution};
use mail::address::Domain;
use mail::reply::Reply;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const DAY: Duration = Duration::from_secs(86_400);
const START: Timestamp = Timestamp(20_000 * 86_400_000_000);
const PROVIDERS: u32 = 10;
/// As many as the standard plan allows.
const IPS_OF_ACCOUNT: u32 = 4;
/// Warm ones, which take what the others have no place for.
const SHARED_IPS: u32 = 16;
/// Times that everything that waits is asked whether it leaves.
const ASKED: u32 = 20;

/// What is measured.
#[derive(Clone, Copy, PartialEq)]
enum Trial {
    /// No IP warms up: what all the rest costs.
    Warm,
    /// Each lane has a place for what comes.
    Fits,
    /// More comes than there is place for; what has none leaves by the shared pool.
    Leaves,
    /// The same, and it may not leave: it waits for days, and is asked all the time.
    Waits,
}

impl Trial {
    /// The messages come within so long: what a lane may send is earned hour by hour.
    fn time(self) -> Duration {
        match self {
            Trial::Warm | Trial::Fits => DAY,
            Trial::Leaves => DAY / 8,
            Trial::Waits => DAY / 24,
        }
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let mut number = |otherwise: u32| words.next().and_then(|count| count.parse().ok()).unwrap_or(otherwise);
    let (ips, messages) = (number(1_000), number(500_000));
    for (name, trial) in
        [("warm", Trial::Warm), ("fits", Trial::Fits), ("leaves", Trial::Leaves), ("waits", Trial::Waits)]
    {
        let mut bench = Bench::new(trial, ips);
        bench.fill(ips);
        let filled = std::mem::take(&mut bench.took);
        let begun = bench.now;
        let (tried, moved) = (bench.tried, bench.moved);
        for message in 0..messages {
            bench.until(
                begun + Duration::from_secs_f64(trial.time().as_secs_f64() * f64::from(message) / f64::from(messages)),
            );
            bench.accept(message % ips, message / ips % PROVIDERS);
        }
        let took = std::mem::take(&mut bench.took);
        let waiting = bench.engine.in_flight().messages;
        bench.until(bench.now + Duration::from_secs(15) * ASKED);
        let asked = bench.took.ticks;
        println!(
            "{{\"trial\":\"{name}\",\"lanes\":{},\"messages\":{messages},\"tried\":{},\"left_by_others\":{},\"waiting\":{waiting},\
             \"until_tried_us\":{:.2},\"until_tried_p99_us\":{:.2},\"longest_us\":{:.0},\"answers_us\":{:.2},\"all_told_us\":{:.2},\
             \"first_message_of_a_lane_us\":{:.2},\"a_second_of_what_waits_us\":{:.0}}}",
            ips * PROVIDERS,
            bench.tried - tried,
            bench.moved - moved,
            took.each(took.accepted + took.ticks, messages),
            took.quantile(0.99),
            took.quantile(1.0),
            took.each(took.answers, messages),
            took.each(took.accepted + took.ticks + took.answers, messages),
            filled.each(filled.accepted + filled.ticks + filled.answers, ips * PROVIDERS),
            asked.as_micros() as f64 / f64::from(15 * ASKED),
        );
    }
}

#[derive(Default)]
struct Took {
    accepted: Duration,
    ticks: Duration,
    answers: Duration,
    each: Vec<u32>,
}

impl Took {
    fn each(&self, time: Duration, count: u32) -> f64 {
        time.as_secs_f64() * 1e6 / f64::from(count.max(1))
    }

    fn quantile(&self, share: f64) -> f64 {
        let mut each = self.each.clone();
        each.sort_unstable();
        each.get(((each.len().saturating_sub(1)) as f64 * share) as usize).map_or(0.0, |ns| f64::from(*ns) / 1e3)
    }
}

struct Bench {
    engine: Engine,
    now: Timestamp,
    made: u128,
    tried: u64,
    moved: u64,
    took: Took,
    ok: Reply,
    domains: Vec<Domain>,
}

fn address(number: u32) -> IpAddr {
    IpAddr::from((0x0a00_0000 + number).to_be_bytes())
}

fn account(ip: u32) -> AccountId {
    AccountId::new(&format!("acc_{:06}", ip / IPS_OF_ACCOUNT))
}

fn own_pool(ip: u32) -> PoolId {
    PoolId::new(&format!("pool_{:06}", ip / IPS_OF_ACCOUNT))
}

fn ips_beside(ip: u32) -> Vec<IpAddr> {
    let first = ip / IPS_OF_ACCOUNT * IPS_OF_ACCOUNT;
    (first..first + IPS_OF_ACCOUNT).map(address).collect()
}

fn town(trial: Trial, ips: u32) -> Snapshot {
    let mut snapshot = Snapshot::empty();
    let region = snapshot.region.clone();
    let warm_up = |ip: u32| {
        (trial != Trial::Warm && ip < ips).then(|| WarmUp {
            by: WarmUpBy::Schedule("steady".into()),
            // A hundred a day for each lane.
            ordered: Ordered::Restart,
            ordered_at: Timestamp(1),
        })
    };
    let known = (0..ips + SHARED_IPS).map(|ip| {
        let ehlo = format!("m{ip}.weir.test");
        (address(ip), Ip { bind: address(ip), ehlo, state: IpState::Active, hop: None, warm_up: warm_up(ip) })
    });
    snapshot.ips = Arc::new(known.collect());
    let leaving = if trial == Trial::Waits { Leaving::Never } else { Leaving::Shared };
    let pool = |kind, name: &str, account, ips| {
        Arc::new(Pool {
            kind,
            name: name.into(),
            region: region.clone(),
            account,
            ips,
            overflow: None,
            leaving,
            relay: None,
            active_within: None,
        })
    };
    let (pools, accounts) = (Arc::make_mut(&mut snapshot.pools), Arc::make_mut(&mut snapshot.accounts));
    for ip in (0..ips).step_by(IPS_OF_ACCOUNT as usize) {
        pools.insert(own_pool(ip), pool(PoolKind::Standard, "own", Some(account(ip)), ips_beside(ip)));
        accounts.insert(account(ip), Arc::new(Account::default()));
    }
    let shared = PoolId::new("shared");
    pools
        .insert(shared.clone(), pool(PoolKind::Shared, "shared", None, (ips..ips + SHARED_IPS).map(address).collect()));
    Arc::make_mut(&mut snapshot.shared).insert(region, shared);
    snapshot
}

impl Bench {
    fn new(trial: Trial, ips: u32) -> Bench {
        let mut engine = Engine::new(Arc::new(town(trial, ips)), Limits::default(), 1, START);
        engine.handle(Input::Recovered, START);
        let name = |provider: u32| Domain::parse(&format!("p{provider}.test")).expect("a domain");
        Bench {
            engine,
            now: START,
            made: 0,
            tried: 0,
            moved: 0,
            took: Took::default(),
            ok: Reply::new(250, (2, 0, 0), "OK"),
            domains: (0..PROVIDERS).map(name).collect(),
        }
    }

    /// A message for each lane, so that all of them are there.
    fn fill(&mut self, ips: u32) {
        let lanes = ips * PROVIDERS;
        let begun = self.now;
        for lane in 0..lanes {
            self.until(begun + Duration::from_secs(600) * lane / lanes);
            self.accept(lane % ips, lane / ips);
        }
    }

    fn envelope(&mut self, ip: u32, provider: u32) -> Envelope {
        self.made += 1;
        let message = MessageId(self.made << 64 | u128::from(engine::retry::draw(1, self.made as u64)));
        let candidates = ips_beside(ip);
        let chosen = candidates[place(message, 1, candidates.len()).unwrap_or(0)];
        Envelope {
            message,
            account: account(ip),
            stream: StreamId::new("default"),
            wish: Wish { region: engine::id::RegionId::new("local"), pool: None, set: None, subaccount: None },
            route: Some(Route {
                pool: own_pool(ip),
                name: "own".into(),
                addresses: Addresses::Shown,
                rule: PoolRule::Shared,
                candidates,
                chosen,
            }),
            sender: Some("news@sender.test".into()),
            sender_domain: None,
            return_path: String::new(),
            recipients: vec![Recipient {
                address: "a@site.test".into(),
                domain: self.domains[provider as usize].clone(),
                notify: None,
                orcpt: None,
            }],
            accepted_at: self.now,
            due_at: self.now,
            expires_at: self.now + DAY * 3,
            tls: TlsWish::IfOffered,
            size: 10_000,
            message_id_header: String::new(),
            tags: Vec::new(),
            envid: None,
            ret: None,
            smtputf8: false,
            once: None,
        }
    }

    fn accept(&mut self, ip: u32, provider: u32) {
        let envelope = Arc::new(self.envelope(ip, provider));
        let before = self.took.accepted;
        let begun = Instant::now();
        self.engine.handle(Input::Accepted { envelope, state: None }, self.now);
        self.took.accepted += begun.elapsed();
        self.poll(true);
        let each = (self.took.accepted - before).as_nanos();
        self.took.each.push(u32::try_from(each).unwrap_or(u32::MAX));
    }

    /// What rings before this moment, and then it is this moment.
    fn until(&mut self, now: Timestamp) {
        while let Some(at) = self.engine.deadline().filter(|at| *at <= now) {
            self.now = self.now.max(at);
            self.tell(Input::Tick, false);
            self.poll(false);
        }
        self.now = now;
    }

    fn tell(&mut self, input: Input, is_answer: bool) {
        let begun = Instant::now();
        self.engine.handle(input, self.now);
        let took = begun.elapsed();
        if is_answer { self.took.answers += took } else { self.took.ticks += took }
    }

    /// Everything that is to be done now, and the outside's answers to it.
    fn poll(&mut self, is_new: bool) {
        let mut is_new = is_new;
        loop {
            let begun = Instant::now();
            let action = self.engine.poll();
            let took = begun.elapsed();
            match (is_new, &action) {
                (true, _) => self.took.accepted += took,
                (false, Some(Action::Settle { .. } | Action::Record(_))) => self.took.answers += took,
                (false, _) => self.took.ticks += took,
            }
            let Some(action) = action else {
                if self.engine.deadline().is_none_or(|at| at > self.now) {
                    return;
                }
                continue;
            };
            match action {
                Action::Resolve { domain, .. } => {
                    let site = format!("mx.{}", domain.as_str());
                    let answer = Resolution::Site { hosts: vec![site.clone()], site, valid_for: DAY * 10 };
                    self.tell(Input::Resolved { domain, answer }, true);
                }
                Action::Open { session, .. } => {
                    self.tell(Input::SessionOpened { session, host: "mx.site.test".into() }, true);
                }
                Action::Attempt { attempt, recipients, .. } => {
                    is_new = false;
                    self.tried += 1;
                    let outcome =
                        |recipient: &u16| (*recipient, Outcome::Answered { stage: Stage::End, reply: self.ok.clone() });
                    let results = recipients.iter().map(outcome).collect();
                    let report = Report { results, host: None, tls: None, took: Duration::ZERO, session_usable: true };
                    self.tell(Input::AttemptEnded { attempt, report }, true);
                }
                Action::Close { session } => self.tell(Input::SessionClosed { session, reply: None }, true),
                Action::Settle { events, .. } => {
                    let moved = events.iter().filter(|event| event.kind == engine::event::EventKind::Moved);
                    self.moved += moved.count() as u64;
                }
                _ => {}
            }
        }
    }
}
