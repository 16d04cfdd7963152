//! What if a host does not want, does not answer, or is not there?

use crate::support::{House, Manner, Plan, Town, among_others, until_true};
use socket2::{Domain, Socket, Type};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const TWO: [&str; 2] = ["mx1.mail.test", "mx2.mail.test"];

/// Two mail hosts at two addresses: the first is the town's second host, the second its first.
fn two_hosts(town: &Town) -> Plan {
    Plan::new(town)
        .answer("mail.test", &TWO, &[])
        .answer(TWO[0], &[], &[town.host(2)])
        .answer(TWO[1], &[], &[town.host(1)])
        .patience("connect_s", 1)
        .patience("banner_s", 1)
}

fn delivered_by_the_second(house: &House, longest: Duration) {
    let began = Instant::now();
    let id = house.submit_to("bob@mail.test");
    let recipient = house.wait_state(&id, "delivered");
    assert!(began.elapsed() < longest, "it took {:?}", began.elapsed());
    let events = recipient["events"].as_array().unwrap();
    assert_eq!(events.last().unwrap()["host"], TWO[1], "{recipient}");
    assert!(events.iter().all(|event| event["kind"] != "bounced"), "{recipient}");
}

// B10
#[test]
fn a_first_host_that_refuses_connections_is_passed_over() {
    let _others = among_others();
    let town = Town::new();
    let second = town.provider(1, Manner::default());
    let house = two_hosts(&town).open();
    delivered_by_the_second(&house, Duration::from_secs(20));
    assert_eq!(second.count(), 1);
}

// B10
#[test]
fn a_first_host_that_says_nothing_is_passed_over() {
    let _others = among_others();
    let town = Town::new();
    let silent = town.provider(2, Manner { silent: true, ..Manner::default() });
    let second = town.provider(1, Manner::default());
    let house = two_hosts(&town).open();
    delivered_by_the_second(&house, Duration::from_secs(20));
    assert_eq!(second.count(), 1);
    assert!(silent.connections() >= 1);
}

// B10: packets to the first host vanish. A listener whose queue is full answers no SYN.
#[test]
fn a_first_host_behind_a_black_hole_is_passed_over() {
    let _others = among_others();
    let town = Town::new();
    let second = town.provider(1, Manner::default());
    let hole = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let at: SocketAddr = town.at(2);
    hole.bind(&at.into()).unwrap();
    hole.listen(0).unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&at, Duration::from_millis(300)) {
        filling.push(stream);
        assert!(filling.len() < 100, "the queue never fills");
    }
    let house = two_hosts(&town).open();
    delivered_by_the_second(&house, Duration::from_secs(20));
    assert_eq!(second.count(), 1);
}

// B8: a host that is busy at its door: the other one, or later; never a bounce.
#[test]
fn a_421_at_the_banner_sends_us_to_the_other_host_or_later() {
    let _others = among_others();
    let town = Town::new();
    let busy = town.provider(2, Manner { banner: Some("421 4.3.2 Too busy"), ..Manner::default() });
    let _second = town.provider(1, Manner::default());
    let house = two_hosts(&town).open();
    delivered_by_the_second(&house, Duration::from_secs(20));
    assert!(busy.connections() >= 1);
}

// B8: both busy: it waits, and says with whose words.
#[test]
fn a_421_at_every_banner_is_a_later() {
    let _others = among_others();
    let town = Town::new();
    let busy = || Manner { banner: Some("421 4.3.2 Too busy"), ..Manner::default() };
    let (_first, second) = (town.provider(2, busy()), town.provider(1, busy()));
    let house = two_hosts(&town).open();
    let id = house.submit_to("cy@mail.test");
    until_true("it waits because of what was said", || {
        house.recipient(&id)["why"]["words"].to_string().contains("421")
    });
    assert_eq!(house.recipient(&id)["state"], "queued");
    second.change(Manner::default());
    house.retry_all();
    house.wait_state(&id, "delivered");
}

// B8
#[test]
fn a_421_at_rcpt_is_a_later_and_not_a_bounce() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let id = house.submit_to("rcpt421@mail.test");
    until_true("it was tried", || provider.heard("RCPT") == 1);
    until_true("it waits", || house.recipient(&id)["state"] == "queued" && house.recipient(&id)["next_at"].is_string());
    house.retry_all();
    house.wait_state(&id, "delivered");
    assert_eq!(provider.to("rcpt421@mail.test").len(), 1);
}

// B8: a host that ends each connection after three messages: all the rest goes on, as if never tried.
#[test]
fn a_421_in_mid_session_costs_the_rest_no_attempt() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner { messages_max: Some(3), ..Manner::default() });
    let shaping = "connections_max = 1\nmessages_per_connection = 1000\nmessages_per_second = 0\nramp = false";
    let house = Plan::new(&town).shaping(shaping).open();
    let ids: Vec<String> = (0..12).map(|number| house.submit_to(&format!("u{number}@mail.test"))).collect();
    let delivered = |id: &String| house.recipient(id)["state"] == "delivered";
    until_true("all are delivered or wait", || {
        house.retry_all();
        ids.iter().all(delivered)
    });
    assert_eq!(provider.count(), 12);
    for id in &ids {
        let events = house.recipient(id)["events"].clone();
        assert!(events.as_array().unwrap().iter().all(|event| event["kind"] != "bounced"), "{events}");
        let last = events.as_array().unwrap().last().unwrap().clone();
        assert!(last["attempt"].as_u64().unwrap() <= 2, "{events}");
    }
}
