//! Does a target that hangs, lies, points inside or is dead cost anything but its own news, and do those come when it is well again?

use crate::support::target::{Answering, Target};
use crate::support::tenants::Tenant;
use crate::support::{House, Manner, Plan, Town, among_others, until};
use serde_json::{Value, json};
use std::net::Ipv4Addr;

fn webhook(house: &House, shop: &Tenant, name: &str, url: &str) -> Value {
    let new = json!({ "name": name, "target": url, "kinds": ["accepted"] });
    house.ask("POST", &shop.at("webhooks"), &shop.key, &new)
}

/// What was tried, newest first.
fn deliveries(house: &House, shop: &Tenant, name: &str) -> Vec<Value> {
    let found = house.ask("GET", &shop.at(&format!("webhooks/{name}/deliveries")), &shop.key, &Value::Null);
    found["items"].as_array().unwrap().clone()
}

fn wait_failed(house: &House, shop: &Tenant, name: &str, words: &str) -> Value {
    until(&format!("{name} fails with {words}"), || {
        let failed = |one: &Value| one["taken"] == false && one["words"].as_str().unwrap().contains(words);
        deliveries(house, shop, name).into_iter().find(failed)
    })
}

// E4, F5, F6
#[test]
fn a_good_target_hears_at_once_whatever_others_do() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let inside = Target::start_at(Ipv4Addr::new(127, 0, 0, 1), Answering::Status(200));
    let house = Plan::new(&town).answer("inside.test", &[], &["127.0.0.1".parse().unwrap()]).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let mute = Target::start(Answering::Nothing);
    let slow = Target::start(Answering::ByOctets);
    let endless = Target::start(Answering::Endless);
    let half = Target::start(Answering::Half);
    let elsewhere = Target::start(Answering::Elsewhere(inside.url()));
    let good = Target::start(Answering::Status(200));
    let bad = [("mute", &mute), ("slow", &slow), ("endless", &endless), ("half", &half), ("elsewhere", &elsewhere)];
    for (name, target) in bad {
        webhook(&house, &shop, name, &target.url());
    }
    webhook(&house, &shop, "named", &format!("http://inside.test:{}/", inside.port()));
    webhook(&house, &shop, "literal", &inside.url());
    webhook(&house, &shop, "mapped", &format!("http://[::ffff:127.0.0.1]:{}/", inside.port()));
    webhook(&house, &shop, "good", &good.url());
    for number in 0..20 {
        let id = house.send(&shop.key, &format!("to{number}@mail.test"), json!({}));
        good.wait_for("the good one is told", |event| event["message"] == id.as_str());
    }
    assert_eq!(good.events().len(), 20);
    // F5: refused before any octet was sent, by name or address; and no redirect leads there.
    for name in ["named", "literal", "mapped"] {
        let failed = wait_failed(&house, &shop, name, "such targets are refused");
        assert!(failed["words"].as_str().unwrap().contains("127.0.0.1"), "{failed}");
        assert_eq!(failed["status"], Value::Null);
    }
    wait_failed(&house, &shop, "elsewhere", "which is not followed");
    assert!(inside.all().is_empty());
    // F6
    wait_failed(&house, &shop, "half", "broke off");
    wait_failed(&house, &shop, "mute", "no answer within");
    wait_failed(&house, &shop, "slow", "no answer within");
    let taken = until("the endless one has taken it", || {
        deliveries(&house, &shop, "endless").into_iter().find(|one| one["taken"] == true)
    });
    assert!(taken["answer"].as_str().unwrap().len() <= 4_096);
    assert!(house.resident_bytes() < 600 << 20);
    let standing = house.ask("GET", &shop.at("webhooks/mute"), &shop.key, &Value::Null);
    assert!(standing["failures"].as_i64() > Some(0) && standing["waiting_since"].is_string(), "{standing}");
}

// E4: the same batch comes again under the same name, in order, and nothing is left out; then from any time, on request.
#[test]
fn what_was_not_taken_comes_again_and_what_is_asked_for_too() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let target = Target::start(Answering::Status(500));
    let made = webhook(&house, &shop, "hook", &target.url());
    let first = house.send(&shop.key, "first@mail.test", json!({}));
    wait_failed(&house, &shop, "hook", "500");
    let ids: Vec<String> = (0..10).map(|n| house.send(&shop.key, &format!("to{n}@mail.test"), json!({}))).collect();
    // A restart forgets nothing of it.
    house.kill();
    house.start();
    target.answer(Answering::Status(200));
    target.wait_for("the last is told", |event| event["message"] == ids[9].as_str());
    let batches: Vec<String> = target.all().iter().map(|told| told.header("webhook-id")).collect();
    let tries = target.all().iter().take_while(|told| told.header("webhook-id") == batches[0]).count();
    assert!(tries >= 2, "the first batch is told again under its name: {batches:?}");
    let taken: Vec<Value> = target.all()[tries - 1..].iter().flat_map(crate::support::target::Told::events).collect();
    let messages: Vec<&str> = taken.iter().map(|event| event["message"].as_str().unwrap()).collect();
    let expected: Vec<&str> = std::iter::once(&first).chain(&ids).map(String::as_str).collect();
    assert_eq!(messages, expected);

    // 410 pauses it, with the reason; it is resumed and goes on with what it has not taken.
    target.answer(Answering::Status(410));
    let waiting = house.send(&shop.key, "waiting@mail.test", json!({}));
    let paused = until("it is paused", || {
        let hook = house.ask("GET", &shop.at("webhooks/hook"), &shop.key, &Value::Null);
        (hook["paused"]["code"] == "target-gone").then_some(hook)
    });
    assert!(paused["paused"]["words"].as_str().unwrap().contains("resume"), "{paused}");
    let lines = house.operate("GET", &format!("/audit?subject={}", made["id"].as_str().unwrap()), &Value::Null);
    assert!(lines["items"].as_array().unwrap().iter().any(|line| line["action"] == "paused"), "{lines}");
    target.answer(Answering::Status(200));
    let told = target.events().len();
    house.ask("PATCH", &shop.at("webhooks/hook"), &shop.key, &json!({ "paused": false }));
    until("the waiting one is told", || {
        target.events()[told..].iter().any(|event| event["message"] == waiting.as_str()).then_some(())
    });

    // From the beginning; with a second secret beside the first.
    let rotated = house.ask("POST", &shop.at("webhooks/hook/rotate"), &shop.key, &json!({}));
    let before = target.all().len();
    let from = made["created_at"].clone();
    house.ask("POST", &shop.at("webhooks/hook/replay"), &shop.key, &json!({ "from": from }));
    until("all is told again", || {
        let again: Vec<Value> = target.all()[before..].iter().flat_map(crate::support::target::Told::events).collect();
        let has = |id: &str| again.iter().any(|event| event["message"] == id);
        (has(&first) && has(&waiting) && ids.iter().all(|id| has(id))).then_some(())
    });
    let told = &target.all()[before];
    for shown in [&made, &rotated] {
        assert!(told.is_signed_with(shown["secret"].as_str().unwrap()));
    }
    house.ask("POST", &shop.at("webhooks/hook/rotate"), &shop.key, &json!({ "overlap_s": 0 }));
    let before = target.all().len();
    let last = house.send(&shop.key, "last@mail.test", json!({}));
    target.wait_for("the last one is told", |event| event["message"] == last.as_str());
    assert!(!target.all()[before..].iter().any(|told| told.is_signed_with(made["secret"].as_str().unwrap())));
}
