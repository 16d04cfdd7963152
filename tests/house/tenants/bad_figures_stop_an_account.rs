//! Is an account whose mail bounces far too much stopped by itself, and does it read everywhere why and what to do?

use crate::support::{Manner, Plan, Town, among_others, until, until_true};
use serde_json::{Value, json};

const MESSAGES: usize = 26;
const RECIPIENTS: usize = 50;

// R6.3: from the replies of the remote to the refusal at the door.
#[test]
fn what_bounces_too_much_sends_no_more() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let (shop, other) = (house.tenant("shop", "standard"), house.tenant("other", "standard"));
    for message in 0..MESSAGES {
        // A fifth of them does not exist.
        let to = |n: usize| format!("{}{message}x{n}@mail.test", if n.is_multiple_of(5) { "rcpt550" } else { "u" });
        let to: Vec<String> = (0..RECIPIENTS).map(to).collect();
        let body = json!({ "from": "ann@shop.test", "to": to, "subject": "Hello", "text": "Hello." });
        house.ask("POST", "/messages", &shop.key, &body);
    }
    house.wait_queue_empty();
    let rated = |key: &str| {
        let answer = house.ask("GET", "/reputations?by=account&account=self", key, &Value::Null);
        answer["items"].as_array().and_then(|items| items.first().cloned())
    };
    let all = (MESSAGES * RECIPIENTS) as u64;
    let own = until("all of it is counted", || rated(&shop.key).filter(|own| own["sent"] == all));
    assert_eq!((&own["level"], &own["score"]["band"]), (&json!("pause"), &json!("poor")), "{own}");
    assert!(own["concerns"][0]["words"].as_str().unwrap().contains("20 %"), "{own}");
    assert_eq!(rated(&other.key), None, "it sent nothing");

    // It is looked at when the house opens, and every few minutes.
    house.kill();
    house.start();
    let account = || house.ask("GET", "/accounts/self", &shop.key, &Value::Null);
    until_true("it is paused", || account()["standing"] == "paused");
    let reason = account()["standing_reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("the limit is 10 %") && reason.contains("Then ask the operator"), "{reason}");
    let refused = until("the door knows", || {
        let body = json!({ "from": "ann@shop.test", "to": "u@mail.test", "subject": "Hello", "text": "Hello." });
        let answer = house.call("POST", "/api/v1/messages", &shop.key, &body);
        (answer.status == 403).then(|| answer.json().to_string())
    });
    assert!(refused.contains(&reason), "{refused}");
    let incidents = house.ask("GET", "/incidents?open=true", &shop.key, &Value::Null);
    assert_eq!(incidents["items"][0]["kind"], "bounces", "{incidents}");
    until_true("who watches the figures is told", || house.figure("weir_incidents_open{what=\"bounces\"") == 1.0);
    let seen = house.weir_as(&shop.key, &["incident", "list", "--open"]);
    assert!(String::from_utf8_lossy(&seen.stdout).contains("The account is paused"), "{seen:?}");
    let tier = house.ask("GET", "/accounts/self/tier", &shop.key, &Value::Null);
    assert_eq!(tier["tier"], "penalty", "{tier}");

    // The operator lets it go on, and what was is forgotten.
    house.operate("PATCH", &format!("/accounts/{}", shop.id), &json!({ "standing": "production" }));
    let id = house.send(&shop.key, "later@mail.test", json!({}));
    house.wait_state(&id, "delivered");
}
