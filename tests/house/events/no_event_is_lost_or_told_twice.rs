//! Killed at any moment, does each message keep one whole story, count once, and reach the webhook under one name?

use crate::support::submitter::call;
use crate::support::target::{Answering, Target};
use crate::support::{Manner, Plan, Town, among_others, until};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Mutex;

const KILLS: usize = 6;
const MORE: usize = 60;
const SUBMITTERS: usize = 3;

/// Hands in messages until the house is gone; what had no answer counts as not acknowledged.
fn submit(to: SocketAddr, key: &str, acknowledged: &Mutex<BTreeSet<String>>) {
    loop {
        let number = acknowledged.lock().unwrap().len();
        let message = json!({ "from": "ann@shop.test", "to": format!("u{number}@mail.test"), "subject": "Hello", "text": "Hello." });
        match call(to, "POST", "/api/v1/messages", Some(key), message.to_string().as_bytes()) {
            Ok(answer) if answer.status == 200 => {
                acknowledged.lock().unwrap().insert(answer.json()["id"].as_str().unwrap().to_owned());
            }
            _ => return,
        }
    }
}

// F7
#[test]
fn killed_again_and_again_each_event_is_kept_once() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let target = Target::start(Answering::Status(200));
    house.ask("POST", &shop.at("webhooks"), &shop.key, &json!({ "name": "all", "target": target.url() }));
    let acknowledged = Mutex::new(BTreeSet::new());
    let count = || acknowledged.lock().unwrap().len();
    for _ in 0..KILLS {
        let (to, then) = (house.http_at(), count());
        std::thread::scope(|scope| {
            for _ in 0..SUBMITTERS {
                scope.spawn(|| submit(to, &shop.key, &acknowledged));
            }
            until("more is acknowledged", || (count() >= then + MORE).then_some(()));
            house.kill();
        });
        house.start();
    }
    house.wait_queue_empty();
    let acknowledged = acknowledged.into_inner().unwrap();

    let all = until("each message has its whole story", || {
        let mut stories: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut after = String::new();
        loop {
            let page = house.ask("GET", &format!("/events?limit=500{after}"), &shop.key, &Value::Null);
            for event in page["items"].as_array().unwrap() {
                stories.entry(event["message"].as_str().unwrap().to_owned()).or_default().push(event.clone());
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        let whole = |story: &Vec<Value>| story.iter().any(|event| event["kind"] == "delivered");
        let has_all = acknowledged.iter().all(|id| stories.contains_key(id));
        (has_all && stories.values().all(whole)).then_some(stories)
    });
    let mut ids = BTreeSet::new();
    for (message, story) in &all {
        let kinds: Vec<&str> = story.iter().map(|event| event["kind"].as_str().unwrap()).collect();
        let count = |kind: &str| kinds.iter().filter(|own| **own == kind).count();
        assert_eq!((count("accepted"), count("delivered")), (1, 1), "{message}: {kinds:?}");
        assert_eq!((kinds[0], *kinds.last().unwrap()), ("delivered", "accepted"), "{message}");
        for event in story {
            assert!(ids.insert(event["id"].as_str().unwrap().to_owned()), "{event} has another's name");
        }
    }
    let messages = i64::try_from(all.len()).unwrap();
    until("each is counted once", || {
        let counts = house.ask("GET", "/statistics", &shop.key, &Value::Null);
        let item = &counts["items"][0];
        assert!(item["delivered"].as_i64() <= Some(messages), "{counts}");
        (item["accepted"] == messages && item["delivered"] == messages).then_some(())
    });
    until("each is posted", || {
        let told: BTreeSet<String> =
            target.events().iter().map(|event| event["id"].as_str().unwrap().to_owned()).collect();
        assert!(told.is_subset(&ids), "what was posted is what was kept");
        (told == ids).then_some(())
    });
    // At least once, and for each message in order, where what is told again is left out.
    let mut seen = BTreeSet::new();
    let mut accepted = BTreeSet::new();
    for event in target.events() {
        if !seen.insert(event["id"].as_str().unwrap().to_owned()) {
            continue;
        }
        let message = event["message"].as_str().unwrap().to_owned();
        match event["kind"].as_str().unwrap() {
            "accepted" => assert!(accepted.insert(message)),
            _ => assert!(accepted.contains(&message), "{event} comes before its acceptance"),
        }
    }
}
