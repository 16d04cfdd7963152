//! Does one tenant's mass keep another's few waiting? Does a queue of a million stay small?
#![allow(clippy::unwrap_used)] // a failing unwrap is a failing test

mod world;

use engine::id::{MessageId, StreamId};
use engine::snapshot::Snapshot;
use engine::{Action, Engine, Input, Limits, Resolution, Room};
use std::sync::Arc;
use std::time::Duration;
use world::{START, World, snapshot};

fn small(ips: &[&str]) -> Snapshot {
    snapshot(ips)
}

/// Attempts until each message of `few` had its first, with `mass` messages of another account before it.
fn attempts_until_served(mass: u128, few: u128) -> usize {
    let mut world = World::new(small(&["192.0.2.1"]), Limits::default(), 3);
    world.quiet = true;
    for number in 0..mass {
        let envelope = world.envelope(number, "mass", &["a@site.test"]);
        world.engine.handle(Input::Accepted { envelope: Arc::new(envelope), state: None }, START);
    }
    for number in mass..mass + few {
        let envelope = world.envelope(number, "few", &["b@site.test"]);
        world.engine.handle(Input::Accepted { envelope: Arc::new(envelope), state: None }, START);
    }
    // One session, driven by hand: the order of attempts is what is looked at.
    let (mut served, mut count) = (0, 0);
    let (mut now, engine) = (START, &mut world.engine);
    loop {
        let Some(action) = engine.poll() else {
            now = engine.deadline().unwrap().max(now);
            engine.handle(Input::Tick, now);
            continue;
        };
        match action {
            Action::Resolve { domain, .. } => {
                let site = "mx.site.test".to_owned();
                let answer =
                    Resolution::Site { hosts: vec![site.clone()], site, valid_for: Duration::from_secs(86_400) };
                engine.handle(Input::Resolved { domain, answer }, now);
            }
            Action::Open { session, .. } => {
                engine.handle(Input::SessionOpened { session, host: "mx.site.test".into() }, now);
            }
            Action::Attempt { attempt, message, recipients, .. } => {
                count += 1;
                served += usize::from(message >= MessageId(mass));
                if served as u128 == few {
                    return count;
                }
                engine.handle(Input::AttemptEnded { attempt, report: delivered(&recipients) }, now);
            }
            Action::Close { session } => engine.handle(Input::SessionClosed { session, reply: None }, now),
            _ => {}
        }
    }
}

fn delivered(recipients: &[u16]) -> engine::attempt::Report {
    let outcome = |recipient: &u16| {
        let reply = world::reply("250 2.0.0 OK");
        (*recipient, engine::attempt::Outcome::Answered { stage: engine::attempt::Stage::End, reply })
    };
    engine::attempt::Report {
        results: recipients.iter().map(outcome).collect(),
        host: None,
        tls: None,
        took: Duration::ZERO,
        session_usable: true,
    }
}

// R5.2, E5: a million of one account before ten of another: the ten are served turn by turn, at once.
#[test]
fn a_million_of_one_account_never_delay_ten_of_another() {
    let mass = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    assert!(attempts_until_served(mass, 10) <= 21);
}

#[test]
fn streams_of_one_account_share_its_turns() {
    let mut world = World::new(small(&["192.0.2.1"]), Limits::default(), 3);
    world.quiet = true;
    for number in 0..2_000u128 {
        let mut envelope = world.envelope(number, "acme", &["a@site.test"]);
        envelope.stream = StreamId::new(if number < 1_990 { "news" } else { "reset" });
        world.accept(envelope, None);
    }
    world.run(Duration::from_secs(3));
    let last = world.attempts.iter().position(|(_, _, message)| message.0 == 1_999).unwrap();
    assert!(last <= 40, "the tenth of the small stream was number {last}");
}

// Large messages cost more turns: bytes are shared too.
#[test]
fn large_messages_cost_more_turns() {
    let mut world = World::new(small(&["192.0.2.1"]), Limits::default(), 3);
    world.quiet = true;
    for number in 0..400u128 {
        let mut envelope = world.envelope(number, if number % 2 == 0 { "large" } else { "small" }, &["a@site.test"]);
        envelope.size = if number % 2 == 0 { 640 << 10 } else { 1_000 };
        world.accept(envelope, None);
    }
    world.run(Duration::from_millis(2_500));
    let large = world.attempts.iter().filter(|(_, _, message)| message.0 % 2 == 0).count();
    let small = world.attempts.len() - large;
    assert!(small > 20 && large * 5 < small, "{large} large, {small} small");
}

// C2, E5: a hundred thousand messages to many domains while the resolver is down: few look-ups, few wakes.
#[test]
fn a_resolver_that_is_down_is_not_asked_in_a_loop() {
    let mut world = World::new(small(&["192.0.2.1"]), Limits::default(), 3);
    world.quiet = true;
    for domain in 0..200u32 {
        world.dns.insert(format!("d{domain}.test"), Resolution::Later { said: "time-out".into() });
    }
    for number in 0..20_000u128 {
        let address = format!("a@d{}.test", number % 200);
        let envelope = world.envelope(number, "acme", &[&address]);
        world.accept(envelope, None);
    }
    world.run(Duration::from_secs(600));
    // 10, 20, 40, 80, 160, 320 seconds: some six look-ups each.
    assert!(world.resolves <= 200 * 8, "{} look-ups", world.resolves);
    assert_eq!(world.attempts.len(), 0);
    world.dns.clear();
    world.run(Duration::from_secs(1_800));
    assert_eq!(world.ended(engine::event::EventKind::Delivered), 20_000);
    assert_eq!(world.ended(engine::event::EventKind::Bounced), 0);
    world.engine.check_invariants();
}

#[test]
fn a_full_queue_says_so() {
    let limits = Limits { queue_messages_max: 2, ..Limits::default() };
    let mut world = World::new(small(&["192.0.2.1"]), limits, 3);
    assert_eq!(world.engine.room(), Room::For(2));
    for number in 0..2u128 {
        let envelope = world.envelope(number, "acme", &["a@site.test"]);
        world.engine.handle(Input::Accepted { envelope: Arc::new(envelope), state: None }, START);
    }
    assert_eq!(world.engine.room(), Room::Full(engine::why::Why::QueueFull));
}

// E3: a clock that goes back changes nothing.
#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut engine = Engine::new(Arc::new(small(&["192.0.2.1"])), Limits::default(), 1, START);
    engine.handle(Input::Tick, START + Duration::from_secs(10));
    engine.handle(Input::Tick, START - Duration::from_secs(86_400));
    assert!(engine.deadline().unwrap() >= START + Duration::from_secs(10));
}
