//! Do the simulator's addresses answer without anything being sent, also in the sandbox, and count for nobody's figures?

use crate::support::target::{Answering, Target};
use crate::support::tenants::{Login, Tenant};
use crate::support::{House, Manner, Plan, Town, among_others, until};
use serde_json::{Value, json};

fn sandboxed(house: &House) -> Tenant {
    let account = house.operate("POST", "/accounts", &json!({ "name": "shop", "standing": "sandbox" }));
    let id = account["id"].as_str().unwrap().to_owned();
    house.operate("PATCH", &format!("/accounts/{id}"), &json!({ "senders": "any" }));
    let key = house.key(&id, json!({ "name": "all", "scopes": ["send", "read", "manage"] }));
    Tenant { id, key: key["key"].as_str().unwrap().to_owned() }
}

// R7.1: each address by HTTP and SMTP; what comes of it is told as of any mail, and counts for the rate alone, across a kill.
#[test]
fn what_is_tried_out_is_told_and_not_counted() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = sandboxed(&house);
    let quota = json!({ "per_day": 1, "per_second": 1_000 });
    house.operate("PUT", &shop.at("quotas/local"), &quota);
    let target = Target::start(Answering::Status(200));
    house.ask("POST", &shop.at("webhooks"), &shop.key, &json!({ "name": "all", "target": target.url() }));

    let (code, mend) = {
        let message = json!({ "from": "ann@shop.test", "to": "ben@mail.test", "subject": "Hello", "text": "Hello." });
        let refused = house.call("POST", "/api/v1/messages", &shop.key, &message).json();
        (refused["code"].clone(), refused["mend"].as_str().unwrap().to_owned())
    };
    assert_eq!(code, "sandbox_recipient");
    assert!(mend.contains("success@simulator.invalid"), "{mend}");

    let told = |id: &str, state: &str, kinds: &[&str]| {
        let recipient = house.wait_state(id, state);
        for kind in kinds {
            let posted =
                target.wait_for(&format!("{kind} is posted"), |event| event["kind"] == *kind && event["message"] == id);
            assert_eq!(posted["provider"], "simulator", "{posted}");
            let events = recipient["events"].as_array().unwrap();
            assert!(events.iter().any(|event| event["kind"] == *kind), "{kind}: {recipient}");
        }
    };
    for (name, state, kinds) in [
        ("success@simulator.amazonses.com", "delivered", vec!["delivered"]),
        ("bounce+one@simulator.amazonses.com", "bounced", vec!["bounced"]),
        ("ooto@simulator.amazonses.com", "delivered", vec!["delivered", "answered"]),
        ("complaint@simulator.amazonses.com", "delivered", vec!["delivered", "complained"]),
        ("bounced@resend.dev", "bounced", vec!["bounced"]),
    ] {
        told(&house.send(&shop.key, name, json!({})), state, &kinds);
    }
    let message =
        json!({ "from": "ann@shop.test", "to": "suppressionlist@simulator.invalid", "subject": "x", "text": "x" });
    let listed = house.ask("POST", "/messages", &shop.key, &message);
    assert_eq!(listed["suppressed"], json!(["suppressionlist@simulator.invalid"]));
    let posted = target.wait_for("what is suppressed is posted", |event| event["kind"] == "suppressed");
    assert_eq!((&posted["provider"], &posted["message"]), (&json!("simulator"), &listed["id"]));
    let login = Login::of(&house.key(&shop.id, json!({ "name": "mailer", "kind": "smtp", "scopes": ["send"] })));
    let octets = b"From: ann@shop.test\r\nSubject: x\r\n\r\nx\r\n";
    let id = house.smtp_as(&login).take("ann@shop.test", &["success@simulator.invalid"], octets);
    told(&id, "delivered", &["delivered"]);
    assert_eq!(provider.count(), 0);

    // The day's only place is still there, and the simulator needs none.
    house.operate("PATCH", &format!("/accounts/{}", shop.id), &json!({ "standing": "production" }));
    let id = house.send(&shop.key, "ben@mail.test", json!({}));
    house.wait_state(&id, "delivered");
    assert_eq!(house.send_refused(&shop.key, "ben@mail.test", json!({})), (429, "daily_quota_exceeded".to_owned()));
    let at = house.send(&shop.key, "complained@resend.dev", json!({}));
    told(&at, "delivered", &["complained"]);
    until("what was sent is counted", || {
        let counts = house.ask("GET", "/statistics", &shop.key, &Value::Null)["items"][0].clone();
        (counts["delivered"] == 1).then_some(counts)
    });
    let counts = house.ask("GET", "/statistics", &shop.key, &Value::Null)["items"][0].clone();
    for (what, count) in [("accepted", 1), ("delivered", 1), ("hard", 0), ("complained", 0), ("suppressed", 0)] {
        assert_eq!(counts[what], count, "{what}: {counts}");
    }
    let list = house.ask("GET", &shop.at("suppressions"), &shop.key, &Value::Null);
    assert_eq!(list["items"], json!([]));

    house.kill();
    house.start();
    let used = &house.ask("GET", &shop.at("quotas"), &shop.key, &Value::Null)["items"][0]["used"];
    assert_eq!(*used, json!(1), "and a start counts them for nothing, either");
    assert_eq!(provider.count(), 1);
}
