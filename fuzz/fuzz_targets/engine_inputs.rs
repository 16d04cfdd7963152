//! Can any course of events make the engine lose a message, have it twice, or pass a limit?
#![no_main]

#[path = "../../crates/engine/tests/world/mod.rs"]
mod world;

use engine::attempt::{ConnectFailure, ConnectFailureKind, Stage};
use engine::id::{AccountId, MessageId};
use engine::{Filter, Input, Limits, Order, Resolution};
use engine::snapshot::{IpState, Snapshot};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;
use std::time::Duration;
use world::{Answer, Arrange, World, ip, reply, snapshot};

const IPS: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

fuzz_target!(|data: &[u8]| {
    // The shipped rules are compiled once: they cost more than a whole course of events.
    static SNAPSHOT: OnceLock<Snapshot> = OnceLock::new();
    let snapshot = SNAPSHOT.get_or_init(|| snapshot(&IPS)).clone();
    let limits = Limits { sessions_max: 6, answers_max: 8, ..Limits::default() };
    let mut world = World::new(snapshot, limits, 1);
    world.quiet = true;
    for domain in 0..4 {
        world.dns.insert(format!("d{domain}.test"), site(domain));
    }
    let mut accepted = 0u128;
    for step in data.chunks_exact(3).take(200) {
        let (what, which, how) = (step[0] % 14, step[1], step[2]);
        let domain = which % 4;
        match what {
            0..=3 => {
                accepted += 1;
                let to: Vec<String> = (0..=how % 5).map(|n| format!("u{n}@d{}.test", (which >> n) % 4)).collect();
                let to: Vec<&str> = to.iter().map(String::as_str).collect();
                let mut envelope = world.envelope(accepted, &format!("a{}", how % 3), &to);
                if let Some(route) = &mut envelope.route {
                    route.chosen = ip(IPS[usize::from(which >> 7)]);
                }
                if how >> 6 == 3 {
                    envelope.due_at = envelope.due_at + Duration::from_secs(u64::from(which) * 60);
                    envelope.route = None;
                }
                world.accept(envelope, None);
            }
            4 => {
                let key = format!("*@d{domain}.test");
                match answer(how % 10) {
                    Some(answer) => drop(world.answers.insert(key, [answer].into())),
                    None => drop(world.answers.remove(&key)),
                }
            }
            5 => {
                let resolution = match how % 5 {
                    0 => Resolution::Later { said: "SERVFAIL".into() },
                    1 => Resolution::NoSuchDomain,
                    2 => Resolution::NullMx,
                    3 => Resolution::Refused { said: "loopback".into() },
                    _ => site(domain),
                };
                world.dns.insert(format!("d{domain}.test"), resolution);
            }
            6 => {
                let key = format!("d{domain}.test");
                let kind = [ConnectFailureKind::TimedOut, ConnectFailureKind::Tls, ConnectFailureKind::Local][usize::from(how) % 3];
                let failure = ConnectFailure { kind, host: None, reply: None, text: "time-out".into() };
                if how > 127 { drop(world.connect.remove(&key)) } else { drop(world.connect.insert(key, failure)) }
            }
            7 => {
                let address = ip(IPS[usize::from(which & 1)]);
                if how > 127 { world.missing.remove(&address) } else { world.missing.insert(address) };
            }
            8 => {
                let filter = Filter { account: Some(AccountId::new(&format!("a{}", which % 3))), ..Filter::default() };
                let order = match how % 4 {
                    0 => Order::Hold(filter),
                    1 => Order::Release(filter),
                    2 => Order::Retry(filter),
                    _ => Order::Delete(filter),
                };
                world.tell(Input::Order(order));
            }
            9 => world.tell(Input::Order(Order::Cancel(MessageId(u128::from(which % 64))))),
            10 => {
                let state = if how > 127 { IpState::Active } else { IpState::Draining };
                world.change(|snapshot| snapshot.set_state(ip(IPS[usize::from(which & 1)]), state));
            }
            _ => world.run(Duration::from_secs(u64::from(which) * u64::from(how % 16))),
        }
        world.engine.check_invariants();
        assert!(world.engine.in_flight().sessions <= 6, "no more sessions than the machine may have");
    }
});

fn site(domain: u8) -> Resolution {
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
        8 => Answer::Reply(Stage::Data, reply("452 4.5.3 Too many recipients")),
        _ => return None,
    })
}
