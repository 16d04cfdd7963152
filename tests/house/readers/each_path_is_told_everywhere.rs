//! Whatever comes of a message, at once or later: does it reach its story, the list of those who are written to no more, the counts and
//! the webhook?

use super::links_lead_where_they_led::{FIREFOX, paths, tracking_tenant, visit};
use super::what_comes_back_is_heard::{back, complaint, dsn, open, wait_listed};
use crate::support::house::House;
use crate::support::submitter::request;
use crate::support::target::{Answering, Target};
use crate::support::tenants::Tenant;
use crate::support::{Town, among_others, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const HTML: &str = "<html><body><p>Read <a href=\"https://store.test/sale\">on</a>.</p></body></html>";

/// In the message's story, at the webhook, and counted; how long all of it took is said for who looks.
fn told_everywhere(house: &House, shop: &Tenant, target: &Target, id: &str, kind: &str, times: i64, counted: &str) {
    let began = Instant::now();
    let posted = target.wait_for(&format!("{kind} is posted"), |event| event["kind"] == kind && event["message"] == id);
    let posted_after = began.elapsed();
    until(&format!("{kind} is in the story"), || {
        let recipient = house.recipient(id);
        recipient["events"].as_array().unwrap().iter().any(|event| event["kind"] == kind).then_some(())
    });
    let found = house.ask("GET", &format!("/events?message={id}&kind={kind}"), &shop.key, &Value::Null);
    assert_eq!(found["items"][0]["id"], posted["id"], "{found}");
    until(&format!("{counted} is counted"), || {
        let counts = house.ask("GET", "/statistics", &shop.key, &Value::Null);
        (counts["items"][0][counted].as_i64() == Some(times)).then_some(())
    });
    eprintln!("{kind}: posted after {posted_after:?}, counted after {:?}", began.elapsed());
}

// R5.4, R5.5, R6.1, R6.2
#[test]
fn what_comes_at_once_and_what_comes_later() {
    let _others = among_others();
    let town = Town::new();
    let (house, provider, _) = open(&town);
    let shop = tracking_tenant(&house, "store");
    let target = Target::start(Answering::Status(200));
    house.ask("POST", &shop.at("webhooks"), &shop.key, &json!({ "name": "all", "target": target.url() }));
    let send = |to: &str, more: Value| {
        let mut body = json!({ "from": "ann@store.test" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        house.send(&shop.key, to, body)
    };

    let sent_at = Instant::now();
    let read = send("dora@mail.test", json!({ "configuration_set": "news", "html": HTML }));
    house.wait_state(&read, "delivered");

    // A remote says no while it is asked.
    let id = send("rcpt550@mail.test", json!({}));
    told_everywhere(&house, &shop, &target, &id, "bounced", 1, "hard");
    assert_eq!(wait_listed(&house, &shop, "rcpt550@mail.test")["reason"], "bounce");

    // It takes the message, and sends it back.
    let id = send("late@mail.test", json!({}));
    let path = provider.wait_for_one_to("late@mail.test").from;
    house.wait_state(&id, "delivered");
    until("the delivery is counted", || {
        let counts = house.ask("GET", "/statistics", &shop.key, &Value::Null);
        (counts["items"][0]["delivered"] == 2).then_some(())
    });
    assert_eq!(back(&house, "", &path, &dsn("late@mail.test", "5.1.1", "550 5.1.1 No such user")), 250);
    told_everywhere(&house, &shop, &target, &id, "returned", 2, "hard");
    let counts = house.ask("GET", "/statistics", &shop.key, &Value::Null);
    assert_eq!(counts["items"][0]["delivered"], 1, "it took the delivery's place: {counts}");
    assert_eq!(wait_listed(&house, &shop, "late@mail.test")["reason"], "bounce");

    // Somebody complains.
    let id = send("carol@mail.test", json!({}));
    let received = provider.wait_for_one_to("carol@mail.test");
    house.wait_state(&id, "delivered");
    assert_eq!(back(&house, "fbl@mail.test", "feedback@back.weir.test", &complaint(&received.octets)), 250);
    told_everywhere(&house, &shop, &target, &id, "complained", 1, "complained");
    assert_eq!(wait_listed(&house, &shop, "carol@mail.test")["reason"], "complaint");

    // Somebody reads, and follows a link.
    let id = read;
    let received = provider.wait_for_one_to("dora@mail.test");
    house.wait_state(&id, "delivered");
    let (click, picture) = paths(&received.text(), "links.store.test");
    let door = house.door("leading readers on");
    let proxy = "Mozilla/5.0 (via ggpht.com GoogleImageProxy)";
    assert_eq!(visit(door, "GET", "links.store.test", &picture, proxy).status, 200);
    told_everywhere(&house, &shop, &target, &id, "opened", 1, "opened");
    // Who follows within two seconds of the acceptance is a machine, and not counted.
    until("a person could have read it", || (sent_at.elapsed() > Duration::from_secs(2)).then_some(()));
    assert_eq!(visit(door, "GET", "links.store.test", &click, FIREFOX).status, 302);
    told_everywhere(&house, &shop, &target, &id, "clicked", 1, "clicked");

    // Somebody ends a stream.
    let id = send("emil@mail.test", json!({ "unsubscribe": true, "stream": "letters" }));
    let received = provider.wait_for_one_to("emil@mail.test");
    house.wait_state(&id, "delivered");
    let offered = received.header("List-Unsubscribe").unwrap();
    let path = offered.split("https://mail.weir.test").nth(1).unwrap().split('>').next().unwrap().to_owned();
    let fields = "Host: mail.weir.test\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    assert_eq!(request(door, "POST", &path, fields, b"List-Unsubscribe=One-Click").unwrap().status, 200);
    told_everywhere(&house, &shop, &target, &id, "unsubscribed", 1, "unsubscribed");
    assert_eq!(wait_listed(&house, &shop, "emil@mail.test?stream=letters")["reason"], "unsubscribe");
}
