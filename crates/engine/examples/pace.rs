//! How many nanoseconds does a message cost the engine, and how many octets while it is queued?
//!
//! `cargo run --release -p engine --example pace [MESSAGES]`
#![allow(clippy::disallowed_methods, unsafe_code)] // it measures, so it needs a clock, and an allocator that counts

use engine::attempt::{Outcome, Report, Stage};
use engine::envelope::{Addresses, Envelope, PoolRule, Recipient, Route, TlsWish, Wish};
use engine::id::{AccountId, MessageId, PoolId, StreamId};
use engine::snapshot::{Ip, IpState, Snapshot};
use engine::time::Timestamp;
use engine::{Action, Engine, Input, Limits, Resolution};
use mail::address::Domain;
use mail::reply::Reply;
use std::alloc::{GlobalAlloc, Layout, System};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator; only sizes are added up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() {
    let messages: u128 = std::env::args().nth(1).and_then(|count| count.parse().ok()).unwrap_or(1_000_000);
    let ip: IpAddr = IpAddr::from([192, 0, 2, 1]);
    let mut snapshot = Snapshot::empty();
    let known = Ip { bind: ip, ehlo: "mail.weir.test".into(), state: IpState::Active, hop: None, warm_up: None };
    Arc::make_mut(&mut snapshot.ips).insert(ip, known);
    let wish = Wish { region: snapshot.region.clone(), pool: None, set: None, subaccount: None };
    let change = engine::provider::LaneChange {
        connections_max: Some(20),
        messages_per_connection: Some(1_000_000),
        messages_per_second: Some(0),
        ramp: Some(false),
    };
    let mut providers = (*snapshot.providers).clone();
    if providers.change("default", &change).is_err() {
        return;
    }
    snapshot.providers = Arc::new(providers);
    let start = Timestamp(1_800_000_000_000_000);
    let mut engine = Engine::new(Arc::new(snapshot), Limits::default(), 1, start);
    let Ok(domain) = Domain::parse("site.test") else { return };
    let envelope = |number: u128| Envelope {
        // Ids as they come from a clock: rising, with some random octets behind.
        message: MessageId(number << 64 | u128::from(engine::retry::draw(1, number as u64))),
        account: AccountId::new(["acme", "mass", "news", "shop"][(number % 4) as usize]),
        stream: StreamId::new("default"),
        wish: wish.clone(),
        route: Some(Route {
            pool: PoolId::new("shared"),
            name: "shared".into(),
            addresses: Addresses::Shown,
            rule: PoolRule::Shared,
            candidates: vec![ip],
            chosen: ip,
        }),
        sender: Some("news@sender.test".into()),
        sender_domain: None,
        return_path: String::new(),
        recipients: vec![Recipient {
            address: "a@site.test".into(),
            domain: domain.clone(),
            notify: None,
            orcpt: None,
        }],
        accepted_at: start,
        due_at: start,
        expires_at: start + Duration::from_secs(72 * 3_600),
        tls: TlsWish::IfOffered,
        size: 10_000,
        message_id_header: String::new(),
        tags: Vec::new(),
        envid: None,
        ret: None,
        smtputf8: false,
        once: None,
    };
    let before = LIVE.load(Ordering::Relaxed);
    let begun = Instant::now();
    let mut made = Duration::ZERO;
    for number in 0..messages {
        let making = Instant::now();
        let envelope = Arc::new(envelope(number));
        made += making.elapsed();
        engine.handle(Input::Accepted { envelope, state: None }, start);
    }
    let accepting = begun.elapsed().saturating_sub(made);
    let octets = LIVE.load(Ordering::Relaxed) - before;
    println!(
        "accepted {messages}: {} ns each, {} octets each",
        per(accepting, messages),
        octets as u128 / messages.max(1)
    );
    let ok = Reply::new(250, (2, 0, 0), "OK");
    let begun = Instant::now();
    let mut delivered = 0;
    let mut placed = Duration::ZERO;
    while delivered < messages {
        let Some(action) = engine.poll() else {
            let Some(at) = engine.deadline() else { break };
            engine.handle(Input::Tick, at);
            continue;
        };
        match action {
            Action::Resolve { domain, .. } => {
                let site = "mx.site.test".to_owned();
                let answer =
                    Resolution::Site { hosts: vec![site.clone()], site, valid_for: Duration::from_secs(86_400) };
                engine.handle(Input::Resolved { domain, answer }, start);
            }
            Action::Open { session, .. } => {
                engine.handle(Input::SessionOpened { session, host: "mx.site.test".into() }, start);
            }
            Action::Attempt { attempt, recipients, .. } => {
                if delivered == 0 {
                    placed = begun.elapsed();
                }
                delivered += 1;
                let outcome =
                    |recipient: &u16| (*recipient, Outcome::Answered { stage: Stage::End, reply: ok.clone() });
                let results = recipients.iter().map(outcome).collect();
                let report = Report { results, host: None, tls: None, took: Duration::ZERO, session_usable: true };
                engine.handle(Input::AttemptEnded { attempt, report }, start);
            }
            Action::Close { session } => engine.handle(Input::SessionClosed { session, reply: None }, start),
            _ => {}
        }
    }
    let took = begun.elapsed();
    println!("until the first attempt: {} ms", placed.as_millis());
    println!("delivered {delivered}: {} ns each, all told", per(took, messages));
    println!("left: {} octets", LIVE.load(Ordering::Relaxed).saturating_sub(before));
}

fn per(time: Duration, count: u128) -> u128 {
    time.as_nanos() / count.max(1)
}
