//! Does mail go where DNS says, and nowhere else?

use crate::support::{House, Manner, NameServer, Plan, Town, among_others};
use serde_json::Value;

fn bounced_with(house: &House, to: &str, status: &str) -> Value {
    let id = house.submit_to(to);
    let recipient = house.wait_state(&id, "bounced");
    let last = recipient["events"].as_array().unwrap().last().unwrap().clone();
    assert!(last["reply"].as_str().unwrap_or_default().contains(status), "{to}: {recipient}");
    recipient
}

// C1: without MX records the domain's own address is the host.
#[test]
fn a_domain_with_an_address_only_is_its_own_host() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let names = NameServer::of(&format!("plain.test A {}", town.host(1)));
    let house = Plan::new(&town).ask(names.address()).open();
    let id = house.submit_to("bob@plain.test");
    house.wait_state(&id, "delivered");
    assert_eq!(provider.count(), 1);
}

// C1: a domain that does not exist is asked for once more before anybody is told so; it never becomes a connection.
#[test]
fn a_domain_that_does_not_exist_waits_for_a_second_look() {
    let _others = among_others();
    let town = Town::new();
    let names = NameServer::of("known.test A 127.0.0.1");
    let house = Plan::new(&town).ask(names.address()).open();
    let id = house.submit_to("bob@nowhere.test");
    house.wait_why(&id, "domain-unknown-so-far");
    assert_eq!(house.queued(), 1);
}

// C1: a mail host without an address: later, by whose words.
#[test]
fn a_mail_host_that_does_not_resolve_is_waited_for() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let names = NameServer::of("mail.test MX 10 mx.mail.test\nother.test A 127.0.0.1");
    let house = Plan::new(&town).ask(names.address()).open();
    let id = house.submit_to("bob@mail.test");
    house.wait_why(&id, "dns-unavailable");
    assert_eq!(provider.connections(), 0);
    assert_eq!(house.queued(), 1);
}

// C3: RFC 7505.
#[test]
fn a_null_mx_is_a_failure_at_once_without_a_connection() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let names = NameServer::of(&format!("none.test MX 0 .\nnone.test A {}", town.host(1)));
    let house = Plan::new(&town).ask(names.address()).open();
    bounced_with(&house, "bob@none.test", "5.1.10");
    assert_eq!(provider.connections(), 0);
}

// C4: our own machine, private networks, and names that lead in a circle.
#[test]
fn mail_hosts_that_nobody_may_connect_to_are_refused() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let zone = format!(
        "loop.test MX 10 mx.loop.test\nmx.loop.test A {host}\n\
         own.test MX 10 mx.own.test\nmx.own.test A {own}\n\
         inside.test MX 10 mx.inside.test\nmx.inside.test A 10.1.2.3\n\
         link.test MX 10 mx.link.test\nmx.link.test A 169.254.169.254\n\
         round.test MX 10 a.round.test\na.round.test CNAME b.round.test\nb.round.test CNAME a.round.test\n\
         number.test MX 10 127.0.0.1.",
        host = town.host(1),
        own = town.source(0),
    );
    let names = NameServer::of(&zone);
    // The default policy: no private network is allowed.
    let house = Plan::new(&town).ask(names.address()).delivery("allow_private", "[]").open();
    for domain in ["loop", "own", "inside", "link", "round", "number"] {
        let recipient = bounced_with(&house, &format!("bob@{domain}.test"), "5.");
        assert_eq!(recipient["why"]["code"], "private-address", "{domain}: {recipient}");
    }
    assert_eq!(provider.connections(), 0);
    house.wait_queue_empty();
}
