//! Whatever happens, in whatever order: is no message lost, none in two places, no limit passed?
#![allow(clippy::unwrap_used)] // a failing unwrap is a failing test

mod world;

use engine::attempt::{ConnectFailure, ConnectFailureKind, Stage};
use engine::event::EventKind;
use engine::id::AccountId;
use engine::route;
use engine::snapshot::{Ip, IpState, Plan};
use engine::{Filter, Input, Limits, Order, Resolution};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use world::{Answer, Arrange, World, ip, reply, snapshot};

#[derive(Clone, Debug)]
enum Step {
    Accept { account: u8, domains: Vec<u8>, pool: u8, due: u16, size: u8 },
    Cancel { message: u8 },
    MoveIp { ip: u8, pool: u8 },
    IpState { ip: u8, draining: bool },
    KnowIp { ip: u8, known: bool },
    DeletePool { pool: u8 },
    Answers { domain: u8, answer: u8 },
    Dns { domain: u8, answer: u8 },
    Connect { domain: u8, works: bool },
    Missing { ip: u8, missing: bool },
    Order { what: u8, account: u8 },
    Run { seconds: u16 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u8..3, prop::collection::vec(0u8..5, 1..6), 0u8..5, 0u16..6_000, any::<u8>()).prop_map(
            |(account, domains, pool, due, size)| Step::Accept { account, domains, pool, due, size },
        ),
        1 => any::<u8>().prop_map(|message| Step::Cancel { message }),
        2 => (0u8..4, 0u8..4).prop_map(|(ip, pool)| Step::MoveIp { ip, pool }),
        2 => (0u8..4, any::<bool>()).prop_map(|(ip, draining)| Step::IpState { ip, draining }),
        1 => (0u8..4, any::<bool>()).prop_map(|(ip, known)| Step::KnowIp { ip, known }),
        1 => (0u8..4).prop_map(|pool| Step::DeletePool { pool }),
        3 => (0u8..4, 0u8..9).prop_map(|(domain, answer)| Step::Answers { domain, answer }),
        1 => (0u8..4, 0u8..4).prop_map(|(domain, answer)| Step::Dns { domain, answer }),
        1 => (0u8..4, any::<bool>()).prop_map(|(domain, works)| Step::Connect { domain, works }),
        1 => (0u8..4, any::<bool>()).prop_map(|(ip, missing)| Step::Missing { ip, missing }),
        1 => (0u8..4, 0u8..3).prop_map(|(what, account)| Step::Order { what, account }),
        4 => (0u16..2_000).prop_map(|seconds| Step::Run { seconds }),
    ]
}

fn site(domain: u8) -> Resolution {
    // Two domains share a site; one is at a provider with rules of its own.
    let (site, host) = match domain {
        0 | 1 => ("shared", "mx.shared.test".to_owned()),
        2 => ("google", "gmail-smtp-in.l.google.com".to_owned()),
        _ => ("own", format!("mx.d{domain}.test")),
    };
    Resolution::Site { site: site.into(), hosts: vec![host], valid_for: Duration::from_secs(600) }
}

fn answer(which: u8) -> Option<Answer> {
    Some(match which {
        0 => Answer::Reply(Stage::Recipient, reply("450 4.2.0 Greylisted")),
        1 => Answer::Reply(Stage::Recipient, reply("550 5.1.1 No such user")),
        2 => Answer::Reply(Stage::End, reply("421 4.7.28 unusual rate of mail from your IP address")),
        3 => Answer::Lost(Stage::End),
        4 => Answer::Lost(Stage::Mail),
        5 => Answer::Closing(Stage::Mail, reply("421 4.3.2 Closing")),
        6 => Answer::NotTried,
        7 => Answer::Reply(Stage::End, reply("550 5.7.1 unusual rate of unsolicited mail")),
        _ => return None,
    })
}

/// Whose the pools p0 to p3 are; the last is the shared one.
const OWNERS: [Option<&str>; 4] = [Some("a0"), Some("a1"), Some("a2"), None];

fn play(steps: &[Step], seed: u64) {
    let ips = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"];
    let mut snapshot = snapshot(&ips);
    for (account, plan) in [("a0", Plan::Standard), ("a1", Plan::Enterprise), ("a2", Plan::Standard)] {
        snapshot.account(account, plan, Some(&account.replace('a', "p")));
    }
    for (place, owner) in OWNERS.into_iter().enumerate() {
        snapshot.pool(&format!("p{place}"), owner, &[ip(ips[place])]);
    }
    assert_eq!(snapshot.check(), []);
    let mut world = World::new(snapshot, Limits { sessions_max: 6, answers_max: 8, ..Limits::default() }, seed);
    world.quiet = true;
    for domain in 0..4 {
        world.dns.insert(format!("d{domain}.test"), site(domain));
    }
    let mut accepted: BTreeMap<u128, usize> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Accept { account, domains, pool, due, size } => {
                let number = accepted.len() as u128 + 1;
                let address = |(n, domain): (usize, &u8)| match domain {
                    4 if n % 2 == 0 => format!("success+{n}@simulator.invalid"),
                    4 => format!("bounce+{n}@simulator.invalid"),
                    _ => format!("u{n}@d{domain}.test"),
                };
                let to: Vec<String> = domains.iter().enumerate().map(address).collect();
                let to: Vec<&str> = to.iter().map(String::as_str).collect();
                let account = format!("a{account}");
                let named = Some(format!("p{pool}")).filter(|_| *pool < 4);
                let mut wish = world.envelope(number, &account, &to).wish;
                wish.pool = named.as_deref().map(Arc::from);
                // A submission that has no route is refused at the door.
                let account_id = AccountId::new(&account);
                if route::choose(
                    &world.snapshot,
                    &account_id,
                    &wish,
                    engine::split::Reader::default(),
                    engine::id::MessageId(number),
                )
                .is_err()
                {
                    continue;
                }
                let due = Duration::from_secs(u64::from(due.saturating_sub(3_000)));
                let mut envelope = world.routed(number, &account, &to, named.as_deref(), due);
                envelope.size = u32::from(*size) * 4_096;
                accepted.insert(number, to.len());
                world.accept(envelope, None);
            }
            Step::Cancel { message } => {
                world.tell(Input::Order(Order::Cancel(engine::id::MessageId(u128::from(*message % 32)))));
            }
            Step::MoveIp { ip: which, pool } => world.change(|snapshot| {
                let address = ip(ips[usize::from(*which)]);
                snapshot.take_from_pools(address);
                let id = format!("p{pool}");
                let mut own = snapshot.pools.get(id.as_str()).map(|pool| pool.ips.clone()).unwrap_or_default();
                own.extend(snapshot.ips.contains_key(&address).then_some(address));
                snapshot.pool(&id, OWNERS[usize::from(*pool)], &own);
            }),
            Step::IpState { ip: which, draining } => world.change(|snapshot| {
                let state = if *draining { IpState::Draining } else { IpState::Active };
                snapshot.set_state(ip(ips[usize::from(*which)]), state);
            }),
            Step::KnowIp { ip: which, known } => world.change(|snapshot| {
                let address = ip(ips[usize::from(*which)]);
                if *known {
                    let own = Ip {
                        bind: address,
                        ehlo: "mail.weir.test".into(),
                        state: IpState::Active,
                        hop: None,
                        warm_up: None,
                    };
                    Arc::make_mut(&mut snapshot.ips).entry(address).or_insert(own);
                } else {
                    snapshot.take_from_pools(address);
                    Arc::make_mut(&mut snapshot.ips).remove(&address);
                }
            }),
            Step::DeletePool { pool } => world.change(|snapshot| snapshot.delete_pool(&format!("p{pool}"))),
            Step::Answers { domain, answer: which } => {
                let key = format!("*@d{domain}.test");
                match answer(*which) {
                    Some(answer) => drop(world.answers.insert(key, [answer].into())),
                    None => drop(world.answers.remove(&key)),
                }
            }
            Step::Dns { domain, answer } => {
                let resolution = match answer {
                    0 => Resolution::Later { said: "SERVFAIL".into() },
                    1 => Resolution::NoSuchDomain,
                    2 => Resolution::NullMx,
                    _ => site(*domain),
                };
                world.dns.insert(format!("d{domain}.test"), resolution);
            }
            Step::Connect { domain, works } => {
                let key = format!("d{domain}.test");
                let failure = ConnectFailure {
                    kind: ConnectFailureKind::TimedOut,
                    host: None,
                    reply: None,
                    text: "time-out".into(),
                };
                if *works { drop(world.connect.remove(&key)) } else { drop(world.connect.insert(key, failure)) }
            }
            Step::Missing { ip: which, missing } => {
                let address = ip(ips[usize::from(*which)]);
                if *missing {
                    world.missing.insert(address)
                } else {
                    world.missing.remove(&address)
                };
            }
            Step::Order { what, account } => {
                let filter = Filter { account: Some(AccountId::new(&format!("a{account}"))), ..Filter::default() };
                let order = match what {
                    0 => Order::Hold(filter),
                    1 => Order::Release(filter),
                    2 => Order::Retry(filter),
                    _ => Order::Delete(filter),
                };
                world.tell(Input::Order(order));
            }
            Step::Run { seconds } => world.run(Duration::from_secs(u64::from(*seconds))),
        }
        world.engine.check_invariants();
        assert!(world.engine.in_flight().sessions <= 6, "no more sessions than the machine may have");
        for lane in world.engine.lanes() {
            assert!(lane.sessions <= lane.connections_max, "no more sessions than the lane may have");
        }
    }
    // In the end everything works again, and everybody meets a fate.
    world.answers.clear();
    world.connect.clear();
    world.missing.clear();
    for domain in 0..4 {
        world.dns.insert(format!("d{domain}.test"), site(domain));
    }
    world.tell(Input::Order(Order::Release(Filter::default())));
    world.run(Duration::from_secs(80 * 3_600));
    world.tell(Input::Order(Order::Release(Filter::default())));
    world.run(Duration::from_secs(80 * 3_600));
    world.engine.check_invariants();
    assert_eq!(world.engine.in_flight().messages, 0, "nothing is left behind");
    let over = [EventKind::Delivered, EventKind::Bounced, EventKind::Expired, EventKind::Deleted, EventKind::Rejected];
    for (number, recipients) in accepted {
        for recipient in 0..recipients {
            let fates = &world.fates[&(engine::id::MessageId(number), u16::try_from(recipient).unwrap())];
            let ends = fates.iter().filter(|kind| over.contains(kind)).count();
            assert_eq!(ends, 1, "message {number}, recipient {recipient}: {fates:?}");
            assert!(over.contains(fates.last().unwrap()), "the fate is the last word");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    // R1.2, R1.6, R2.4, R2.8, R5.2, G4 in small: no message lost or in two places, every recipient ends exactly once, limits hold.
    #[test]
    fn nothing_is_lost_whatever_happens(steps in prop::collection::vec(step(), 1..60), seed in any::<u64>()) {
        play(&steps, seed);
    }
}

// R5.2: the rate of a lane is never exceeded, over any second.
#[test]
fn the_rate_is_never_exceeded() {
    let mut snapshot = snapshot(&["192.0.2.1"]);
    let change =
        engine::provider::LaneChange { messages_per_second: Some(20), ramp: Some(false), ..Default::default() };
    let mut providers = (*snapshot.providers).clone();
    providers.change("default", &change).unwrap();
    snapshot.providers = std::sync::Arc::new(providers);
    let mut world = World::new(snapshot, Limits::default(), 5);
    world.quiet = true;
    world.latency = Duration::from_millis(20);
    for number in 0..600u128 {
        let envelope = world.envelope(number, "acme", &["a@site.test"]);
        world.accept(envelope, None);
    }
    world.run(Duration::from_secs(60));
    assert_eq!(world.ended(EventKind::Delivered), 600);
    let times: Vec<_> = world.attempts.iter().map(|(at, _, _)| *at).collect();
    for (first, later) in times.iter().zip(times.iter().skip(24)) {
        assert!(later.since(*first) >= Duration::from_secs(1), "25 attempts within a second");
    }
    assert!(times.last().unwrap().since(times[0]) < Duration::from_secs(31), "and it is used");
}

// A site that keeps all of its lane's connections busy keeps them: nobody else waits.
#[test]
fn a_connection_is_not_handed_over_to_oneself() {
    let mut world = World::new(snapshot(&["192.0.2.1"]), Limits::default(), 5);
    world.quiet = true;
    for number in 0..400u128 {
        let envelope = world.envelope(number, "acme", &["a@site.test"]);
        world.accept(envelope, None);
    }
    world.run(Duration::from_secs(60));
    assert_eq!(world.ended(EventKind::Delivered), 400);
    assert!(world.opens <= 10, "{} connections for 400 messages", world.opens);
}
