//! Does mail keep to what a warming IP may send, and go where it can meanwhile? (R4.1 to R4.6)
#![allow(clippy::unwrap_used)] // a failing unwrap is a failing test

mod world;

use engine::attempt::{ConnectFailure, ConnectFailureKind, Stage};
use engine::envelope::{RecipientState, TlsWish};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, PoolId};
use engine::judged::{Judged, Ordered};
use engine::snapshot::{Hop, Ip, Leaving, Plan, Relay, RelaySecurity, Snapshot, WarmUpBy, relay_address};
use engine::time::Timestamp;
use engine::why::Why;
use engine::{Input, Limits};
use mail::address::Domain;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use world::{Answer, Arrange, World, ip, reply, snapshot};

const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
const OWN: &str = "192.0.2.1";
const SECOND: &str = "192.0.2.2";
const OTHERS: &str = "192.0.2.8";
const SHARED: &str = "192.0.2.9";

/// ann's own pool has the first two IPs, her pool “others” the third; the fourth is the shared one. The first one warms up.
struct House {
    world: World,
    accepted: u128,
}

impl House {
    fn new(by: WarmUpBy, arrange: impl FnOnce(&mut Snapshot)) -> House {
        let mut snapshot = snapshot(&[OWN, SECOND, OTHERS, SHARED]);
        // A day begins at its midnight.
        snapshot.account("ann", Plan::Standard, None);
        snapshot.pool("own", Some("ann"), &[ip(OWN)]);
        snapshot.pool("others", Some("ann"), &[ip(OTHERS)]);
        snapshot.pool("shared", None, &[ip(SHARED)]);
        snapshot.account("ann", Plan::Standard, Some("own"));
        snapshot.warm_up(ip(OWN), by, Ordered::Restart, Timestamp(1));
        arrange(&mut snapshot);
        assert_eq!(snapshot.check(), []);
        let mut world = World::new(snapshot, Limits::default(), 7);
        world.quiet = true;
        // To the next midnight.
        let since = Duration::from_micros(world.now.0 as u64 % 86_400_000_000);
        world.run(DAY - since);
        House { world, accepted: 0 }
    }

    fn steady(arrange: impl FnOnce(&mut Snapshot)) -> House {
        House::new(WarmUpBy::Schedule("steady".into()), arrange)
    }

    fn accept(&mut self, count: u32, domain: &str) {
        for _ in 0..count {
            self.accepted += 1;
            let to = format!("u{}@{domain}", self.accepted);
            let envelope = self.world.routed(self.accepted, "ann", &[&to], None, Duration::ZERO);
            self.world.accept(envelope, None);
        }
    }

    /// Deliveries by IP.
    fn delivered(&self) -> BTreeMap<IpAddr, usize> {
        let mut by_ip = BTreeMap::new();
        for event in self.world.log.iter().filter(|event| event.kind == EventKind::Delivered) {
            *by_ip.entry(event.ip.unwrap()).or_default() += 1;
        }
        by_ip
    }

    fn steps(&self) -> Vec<(Judged, u64)> {
        let step = |event: &Event| match event.why {
            Some(Why::WarmUp(step)) => Some((step.judged, step.to)),
            _ => None,
        };
        self.world.log.iter().filter_map(step).collect()
    }

    fn restart(&mut self, learned: bool) {
        let mut fresh = World::starting(self.world.snapshot.clone(), Limits::default(), 7);
        std::mem::swap(&mut fresh, &mut self.world);
        let old = fresh;
        (self.world.now, self.world.quiet) = (old.now, true);
        if learned {
            self.world.tell(Input::Learned(old.engine.learned()));
        } else {
            old.log.iter().for_each(|event| self.world.tell(Input::Past(Box::new(event.clone()))));
        }
        for envelope in old.envelopes.values() {
            let state = old.states.get(&envelope.message).cloned();
            let over = state.as_ref().is_some_and(|state| state.recipients.iter().all(RecipientState::finished));
            if !over {
                self.world.accept((**envelope).clone(), state);
            }
        }
        self.world.log = old.log;
        self.world.tell(Input::Recovered);
    }
}

fn pool(snapshot: &mut Snapshot, id: &str, change: impl FnOnce(&mut engine::snapshot::Pool)) {
    change(Arc::make_mut(Arc::make_mut(&mut snapshot.pools).get_mut(&PoolId::new(id)).unwrap()));
}

// R4.1, R4.2: what it may send goes by the new IP, a little at a time; the rest leaves by the shared pool at once.
#[test]
fn early_the_rest_leaves_by_the_shared_pool() {
    let mut house = House::steady(|_| {});
    house.accept(100, "a.test");
    house.world.run(Duration::from_secs(120));
    assert_eq!(house.delivered(), BTreeMap::from([(ip(OWN), 5), (ip(SHARED), 95)]));
    let why: Vec<Why> =
        house.world.states.values().filter_map(|state| state.moved.clone()).map(|moved| moved.why).collect();
    assert_eq!(why.len(), 95);
    assert!(why.iter().all(|why| matches!(why, Why::AllowanceUsed { ip: from, recipients: 1 } if *from == ip(OWN))));
    // Each provider has its own.
    house.accept(5, "b.test");
    house.world.run(Duration::from_secs(10));
    assert_eq!(house.delivered()[&ip(OWN)], 10);
    house.world.check_rebuilt();
    assert_eq!(house.world.engine.in_flight().messages, 0);
}

// R4.2: other IPs of the pool that are warm come first, then the overflow pool of its owner's choice.
#[test]
fn the_ladder_goes_rung_by_rung() {
    let mut house = House::steady(|snapshot| {
        snapshot.pool("own", Some("ann"), &[ip(OWN), ip(SECOND)]);
        pool(snapshot, "own", |own| own.overflow = Some(PoolId::new("others")));
    });
    house.accept(200, "a.test");
    house.world.run(Duration::from_secs(120));
    let delivered = house.delivered();
    assert_eq!((delivered[&ip(OWN)], delivered[&ip(OWN)] + delivered[&ip(SECOND)]), (5, 200), "{delivered:?}");
    let mut house = House::steady(|snapshot| pool(snapshot, "own", |own| own.overflow = Some(PoolId::new("others"))));
    house.accept(200, "a.test");
    house.world.run(Duration::from_secs(120));
    assert_eq!(house.delivered(), BTreeMap::from([(ip(OWN), 5), (ip(OTHERS), 195)]));
    // No chains: what the overflow pool has no place for goes to the shared one, and not to its own overflow pool.
    let mut house = House::steady(|snapshot| {
        pool(snapshot, "own", |own| own.overflow = Some(PoolId::new("others")));
        snapshot.pool("third", Some("ann"), &[ip(SECOND)]);
        pool(snapshot, "others", |others| others.overflow = Some(PoolId::new("third")));
        snapshot.warm_up(ip(OTHERS), WarmUpBy::Schedule("steady".into()), Ordered::Restart, Timestamp(1));
    });
    house.accept(200, "a.test");
    house.world.run(Duration::from_secs(120));
    assert_eq!(house.delivered(), BTreeMap::from([(ip(OWN), 5), (ip(OTHERS), 5), (ip(SHARED), 190)]));
}

// R4.2: whoever wants to stay on its own IPs waits, and nothing is lost; enterprise mail never leaves either.
#[test]
fn never_leave_my_ips() {
    let stay: [fn(&mut Snapshot); 2] = [
        |snapshot| pool(snapshot, "own", |own| own.leaving = Leaving::Never),
        |snapshot| {
            let ann = AccountId::new("ann");
            Arc::make_mut(Arc::make_mut(&mut snapshot.accounts).get_mut(&ann).unwrap()).plan = Plan::Enterprise;
        },
    ];
    for arrange in stay {
        let mut house = House::steady(arrange);
        house.accept(300, "a.test");
        house.world.run(Duration::from_secs(600));
        assert_eq!(house.delivered(), BTreeMap::from([(ip(OWN), 5)]));
        let waits = house.world.engine.list(&engine::Filter::default(), 1_000, None);
        assert_eq!(waits.len(), 295);
        let first = &waits[0].recipients[0];
        assert_eq!(first.why.code(), "warm-up-allowance-used", "{first:?}");
        assert!(first.until.is_some_and(|until| until > house.world.now && until < house.world.now + HOUR));
        house.world.run(HOUR * 8);
        // A hundred a day, and five at once.
        let by_now = house.delivered()[&ip(OWN)];
        assert!((38..=40).contains(&by_now), "{by_now}");
        house.world.run(HOUR * 15);
        assert_eq!(house.delivered(), BTreeMap::from([(ip(OWN), 100)]));
        house.world.run(HOUR * 48);
        assert_eq!(house.delivered(), BTreeMap::from([(ip(OWN), 300)]));
    }
}

/// A service of this account's elsewhere, as the one with number 1.
fn relay(snapshot: &mut Snapshot, account: &str) {
    let address = relay_address(1);
    let relay = Relay {
        account: AccountId::new(account),
        name: "before".into(),
        host: Domain::parse("smtp.elsewhere.test").unwrap(),
        port: 587,
        security: RelaySecurity::StartTls,
        sign_in: Some(("ann".into(), "secret".into())),
    };
    let known = snapshot.ips[&ip(OWN)].clone();
    let known = Ip { bind: address, hop: Some(Hop::Relay(Arc::new(relay))), warm_up: None, ..known };
    Arc::make_mut(&mut snapshot.ips).insert(address, known);
    pool(snapshot, "own", |own| {
        own.leaving = Leaving::Relay;
        own.relay = Some(address);
    });
}

fn unreachable() -> ConnectFailure {
    let (kind, text) = (ConnectFailureKind::Refused, "refused".to_owned());
    ConnectFailure { kind, host: Some("smtp.elsewhere.test".into()), reply: None, text }
}

// R4.2: what finds no place is handed over to another service, whatever its domain; all of that is one lane.
#[test]
fn the_last_rung_is_a_relay() {
    let mut house = House::steady(|snapshot| relay(snapshot, "ann"));
    house.accept(100, "a.test");
    house.accept(100, "b.test");
    house.world.run(Duration::from_secs(120));
    assert_eq!(house.delivered(), BTreeMap::from([(relay_address(1), 190), (ip(OWN), 10)]));
    let of_relay = house.world.log.iter().filter(|event| event.ip == Some(relay_address(1)));
    let providers: BTreeSet<_> =
        of_relay.filter(|event| event.kind == EventKind::Delivered).map(|event| &event.provider).collect();
    assert_eq!(providers, BTreeSet::from([&Some("relay:smtp.elsewhere.test".into())]));
    house.world.check_rebuilt();
    // The shared pool comes before it where the pool may use both, and it alone where there is no other.
    let mut both = House::steady(|snapshot| {
        relay(snapshot, "ann");
        pool(snapshot, "own", |own| own.leaving = Leaving::Shared);
    });
    both.accept(100, "a.test");
    both.world.run(Duration::from_secs(120));
    assert_eq!(both.delivered(), BTreeMap::from([(ip(OWN), 5), (ip(SHARED), 95)]));
    let mut never = House::steady(|snapshot| {
        relay(snapshot, "ann");
        pool(snapshot, "own", |own| own.leaving = Leaving::Never);
    });
    never.accept(100, "a.test");
    never.world.run(Duration::from_secs(120));
    assert_eq!(never.delivered(), BTreeMap::from([(ip(OWN), 5)]));
}

// R5.1: nobody knows what a relay does on the way beyond it; mail that must be protected waits for its place.
#[test]
fn mail_that_requires_tls_is_not_given_to_a_relay() {
    let mut house = House::steady(|snapshot| relay(snapshot, "ann"));
    for number in 0..20 {
        let mut envelope = house.world.routed(number + 1, "ann", &["u@a.test"], None, Duration::ZERO);
        envelope.tls = TlsWish::Required;
        house.world.accept(envelope, None);
    }
    house.world.run(Duration::from_secs(600));
    assert_eq!(house.delivered(), BTreeMap::from([(ip(OWN), 5)]));
}

// R4.2: a relay that is down keeps nothing: its mail goes back, waits for its place, and one message tries the relay now and then.
#[test]
fn a_relay_that_is_down_keeps_nothing() {
    let mut house = House::steady(|snapshot| relay(snapshot, "ann"));
    house.world.connect.insert(relay_address(1).to_string(), unreachable());
    house.accept(100, "a.test");
    house.world.run(HOUR * 3);
    let waits = house.world.engine.list(&engine::Filter::default(), 1_000, None);
    assert!(waits.len() > 75, "{}", waits.len());
    let moved: Vec<_> = waits.iter().filter_map(|shown| shown.moved.clone()).collect();
    let back = moved.iter().filter(|moved| moved.to == ip(OWN)).count();
    assert!(back + 1 >= moved.len(), "all but the one that tries it: {back} of {}", moved.len());
    let why = moved.iter().find(|moved| moved.to == ip(OWN)).map(|moved| moved.why.words()).unwrap();
    assert!(why.starts_with("the relay before cannot be reached"), "{why}");
    let moves = house.world.log.iter().filter(|event| event.kind == EventKind::Moved).count();
    assert!(moves < 300, "{moves} moves of 100 messages");
    house.world.check_rebuilt();
    house.world.connect.clear();
    house.world.run(HOUR * 3);
    assert_eq!(house.world.engine.in_flight().messages, 0);
    let delivered = house.delivered();
    assert_eq!(delivered.values().sum::<usize>(), 100);
    assert!(delivered[&relay_address(1)] > 50, "{delivered:?}");
}

// R4.2: the first places are for whoever read lately; the others leave at once where they can, and use what is left over.
#[test]
fn active_recipients_go_first() {
    let mut house = House::steady(|snapshot| {
        pool(snapshot, "own", |own| own.active_within = Some(30));
        let own = snapshot.pools[&PoolId::new("own")].name.clone();
        let ann = Arc::make_mut(&mut snapshot.accounts).get_mut(&AccountId::new("ann")).unwrap();
        let region = snapshot.region.clone();
        Arc::make_mut(ann).pools.entry(region).or_default().insert(own, PoolId::new("own"));
    });
    let today = house.world.now.day();
    house.world.change(|snapshot| {
        let named: Vec<String> = (1..=100).map(|number| format!("u{number}@a.test")).collect();
        // Every fifth one read a week ago, another two months ago.
        let seen = (1_i64..=100).zip(&named).filter_map(|(number, address)| match number % 5 {
            0 => Some(("ann", address.as_str(), today - 7)),
            1 => Some(("ann", address.as_str(), today - 60)),
            _ => None,
        });
        snapshot.active.note(seen);
    });
    house.accept(100, "a.test");
    house.world.run(Duration::from_secs(120));
    let own = |house: &House| {
        let delivered = house.world.log.iter().filter(|event| event.kind == EventKind::Delivered);
        let own = delivered.filter(|event| event.ip == Some(ip(OWN)));
        own.map(|event| event.message.unwrap().0).collect::<Vec<_>>()
    };
    let first = own(&house);
    assert!(first.len() == 5 && first.iter().all(|number| number % 5 == 0), "{first:?}");
    let why = house.world.states.values().filter_map(|state| state.moved.as_ref()).map(|moved| moved.why.code());
    let why: BTreeSet<_> = why.collect();
    assert_eq!(why, BTreeSet::from(["kept-for-active-recipients", "warm-up-allowance-used"]));
    // Nobody of the first comes for hours: the others have the places, all but those that are kept.
    house.world.run(HOUR * 6);
    house.accept(100, "b.test");
    house.world.run(Duration::from_secs(120));
    assert_eq!(house.world.engine.in_flight().messages, 0);
    house.accept(100, "a.test");
    house.world.run(Duration::from_secs(120));
    let later = own(&house).into_iter().filter(|number| *number > 200).count();
    assert!((5..=8).contains(&later), "{later}");
    house.world.check_rebuilt();
}

// R4.2: who never leaves its own IPs gets everything delivered, the second after the first.
#[test]
fn without_another_way_nobody_is_left_behind() {
    let mut house = House::steady(|snapshot| {
        pool(snapshot, "own", |own| {
            own.active_within = Some(30);
            own.leaving = Leaving::Never;
        });
    });
    house.accept(60, "a.test");
    house.world.run(DAY);
    assert_eq!(house.delivered(), BTreeMap::from([(ip(OWN), 60)]));
}

// R2.8: a relay is its account's alone.
#[test]
fn a_relay_of_somebody_else_is_no_rung() {
    let mut snapshot = snapshot(&[OWN]);
    snapshot.account("ann", Plan::Standard, None);
    snapshot.account("bob", Plan::Standard, None);
    snapshot.pool("own", Some("ann"), &[ip(OWN)]);
    relay(&mut snapshot, "bob");
    let faults: Vec<String> = snapshot.check().iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["pool own: its relay 100::1 is none of its account's"]);
}

// R4.2: when half of what is asked for fits, the rest waits for a while before it leaves; when nearly all fits, it stays.
#[test]
fn late_the_rest_waits() {
    let mut house = House::steady(|snapshot| {
        snapshot.warm_up(ip(OWN), WarmUpBy::Schedule("steady".into()), Ordered::Stage(5), Timestamp(1));
    });
    // 500 on this day, 50 in an hour.
    house.accept(800, "a.test");
    house.world.run(DAY);
    let first_day = house.delivered();
    assert_eq!(first_day.values().sum::<usize>(), 800);
    // More than half of these have a place within the hour: the rest waits for one, and for no longer than four hours.
    house.accept(100, "a.test");
    house.world.run(Duration::from_secs(300));
    let waiting = house.world.engine.in_flight().messages;
    assert!(waiting > 20, "{waiting}");
    house.world.run(HOUR * 4);
    assert_eq!(house.world.engine.in_flight().messages, 0);
    house.world.check_rebuilt();
}

// R4.3: a provider that asks a managed lane to go slower is left alone for the hour, and not hammered.
#[test]
fn a_managed_lane_rests_when_it_is_asked_to() {
    let mut house = House::new(WarmUpBy::Learning, |_| {});
    let slow = Answer::Reply(Stage::Mail, reply("421 4.7.28 unusual rate of mail from your IP address"));
    house.world.dns.insert("gmail.test".into(), google());
    house.world.answers.insert("*@gmail.test".into(), [slow].into());
    house.accept(30, "gmail.test");
    house.world.run(HOUR / 2);
    let attempts = house.world.attempts.len();
    assert!(attempts <= 40, "{attempts}");
    let steps = house.steps();
    assert_eq!(steps.first().map(|(judged, _)| *judged), Some(Judged::Throttled), "{steps:?}");
    house.world.check_rebuilt();
}

// Restarted in the middle of a day, from what was remembered or from the log alone: no place is given twice.
#[test]
fn a_restart_gives_no_place_twice() {
    for learned in [true, false] {
        let mut house = House::steady(|snapshot| pool(snapshot, "own", |own| own.leaving = Leaving::Never));
        house.accept(300, "a.test");
        for _ in 0..6 {
            house.world.run(HOUR * 2);
            house.restart(learned);
        }
        house.world.run(HOUR * 12 - Duration::from_secs(1));
        let today = house.delivered()[&ip(OWN)];
        assert!((99..=100).contains(&today), "learned {learned}: {today}");
    }
}

// R4.5: by order, of an IP.
#[test]
fn orders_take_effect_at_once() {
    let order = |house: &mut House, ordered| {
        let at = house.world.now;
        house.world.change(|snapshot| {
            snapshot.warm_up(ip(OWN), WarmUpBy::Schedule("steady".into()), ordered, at);
        });
    };
    let mut house = House::steady(|snapshot| pool(snapshot, "own", |own| own.leaving = Leaving::Never));
    house.accept(500, "a.test");
    house.world.run(Duration::from_secs(60));
    assert_eq!(house.delivered()[&ip(OWN)], 5);
    order(&mut house, Ordered::Stage(5));
    house.world.run(Duration::from_secs(60));
    assert!((25..=26).contains(&house.delivered()[&ip(OWN)]));
    order(&mut house, Ordered::Done);
    house.world.run(Duration::from_secs(60));
    assert_eq!(house.delivered()[&ip(OWN)], 500);
    let ordered = house.world.log.iter().filter(|event| matches!(event.why, Some(Why::WarmUpOrdered(_)))).count();
    assert_eq!(ordered, 2);
}

// A complaint that comes back counts for the IP that the message left from.
#[test]
fn complaints_take_back() {
    let mut house = House::steady(|snapshot| {
        snapshot.warm_up(ip(OWN), WarmUpBy::Schedule("steady".into()), Ordered::Stage(10), Timestamp(1));
    });
    house.accept(450, "a.test");
    house.world.run(Duration::from_secs(300));
    let before = house.world.engine.warm_ups(&[ip(OWN)])[0].allowed;
    let delivered = house.world.log.iter().find(|event| event.kind == EventKind::Delivered).unwrap().clone();
    for _ in 0..12 {
        let complaint = Event { kind: EventKind::Complained, at: house.world.now, ..delivered.clone() };
        house.world.log.push(complaint.clone());
        house.world.tell(Input::Heard(Box::new(complaint)));
    }
    let after = &house.world.engine.warm_ups(&[ip(OWN)])[0];
    assert!(after.allowed < before, "{after:?}");
    assert!(matches!(house.steps()[..], [(Judged::Bad | Judged::Stopped, _), ..]), "{:?}", house.steps());
}

fn google() -> engine::Resolution {
    engine::Resolution::Site {
        site: "google".into(),
        hosts: vec!["gmail-smtp-in.l.google.com".into()],
        valid_for: Duration::from_secs(360_000),
    }
}
