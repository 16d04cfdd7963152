//! What does a reply mean, asked by a program? By the rules in use, whoever asks. (R5.3)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::publish::Publisher;
use engine::classify::Rules;
use engine::snapshot::{Scope, Snapshot};
use serde_json::{Value, json};
use std::sync::Arc;
use support::House;

const AT: &str = "/replies:classify";

fn asked(reply: &str, provider: &str) -> Value {
    json!({ "reply": reply, "provider": provider })
}

// R5.3
#[tokio::test]
async fn a_reply_is_told_with_its_rule_what_follows_and_what_others_call_it() {
    let house = House::open().await;
    let (account, _) = house.account("Acme").await;
    let key = house.key(Some(&account), &[Scope::Read]).await;
    let unknown =
        "550-5.1.1 The email account that you tried to reach does not exist.\n550 5.1.1 Please try double-checking it";
    let told = house.post(&key, AT, asked(unknown, "google")).await;
    let expected = json!({
        "class": "hard",
        "subtype": "unknown-user",
        "rule": "google-unknown-user",
        "reaction": ["The message bounces.", "The address is put on the suppression list."],
        "vocabularies": {
            "sparkpost": { "code": 10, "name": "Invalid Recipient", "category": "Hard" },
            "ses": { "bounce_type": "Permanent", "bounce_subtype": "NoEmail", "delay_type": "General" },
            "resend": { "type": "Permanent", "subtype": "NoEmail" },
        },
    });
    assert_eq!(*told.as_(200), expected);

    // The operator, of a reply to try again; and of one whose words only one provider means so.
    let rate =
        "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address.";
    let told = house.post(&house.operator, AT, asked(rate, "google")).await;
    let told = told.as_(200);
    assert_eq!((&told["class"], &told["rule"]), (&json!("throttle"), &json!("google-ip-rate")));
    assert_eq!(told["reaction"][0], "The message is tried again by its schedule.");
    assert_eq!(told["vocabularies"]["ses"]["delay_type"], "IPFailure");
    let denied = "550 5.4.1 Recipient address rejected: Access denied";
    let hard = house.post(&key, AT, asked(denied, "microsoft-365")).await;
    let soft = house.post(&key, AT, json!({ "reply": denied })).await;
    assert_eq!((&hard.as_(200)["class"], &soft.as_(200)["class"]), (&json!("hard"), &json!("soft")));
    assert_eq!(soft.as_(200)["reaction"][1], "It says nothing against the address.");
    let nothing = house.post(&key, AT, json!({ "reply": "554 no" })).await;
    assert!(nothing.as_(200)["reaction"][1].as_str().unwrap().starts_with("It speaks against the address"));
}

#[tokio::test]
async fn what_is_no_refusal_or_nobodys_is_told_by_its_field() {
    let house = House::open().await;
    let (account, key) = house.account("Acme").await;
    for reply in ["", "no such user", "250 2.0.0 Ok", "354 go on", "550 one\n550 two"] {
        let told = house.post(&key, AT, json!({ "reply": reply })).await;
        assert_eq!(told.refused(400, "invalid_field")["field"], "reply", "{reply:?}");
    }
    let told = house.post(&key, AT, asked("550 no", "gogle")).await;
    let told = told.refused(400, "invalid_field");
    assert!(told["field"] == "provider" && told["mend"].as_str().unwrap().contains("google"), "{told}");
    house.post(&key, AT, json!({ "provider": "google" })).await.refused(400, "invalid_json");
    let sends = house.key(Some(&account), &[Scope::Send]).await;
    house.post(&sends, AT, asked("550 no", "google")).await.refused(403, "scope_missing");
}

// R5.3: rules are changed without a restart, and the tester asks those that are in use.
#[tokio::test]
async fn new_rules_are_asked_from_the_moment_they_are_in_use() {
    let house = House::open().await;
    let question = asked("550 the stars are wrong", "google");
    let before = house.post(&house.operator, AT, question.clone()).await;
    assert_eq!(before.as_(200)["rule"], "basic 5xx");
    let rule = "[[rule]]\nname = \"stars\"\ntext = 'the stars'\nclass = \"block\"\nsubtype = \"policy\"\n";
    let publisher = Publisher::load(house.office.clone(), &Snapshot::empty()).await.unwrap();
    let snapshot = Snapshot { rules: Arc::new(Rules::parse(rule).unwrap()), ..publisher.snapshot() };
    house.plant.intake.change_snapshot(Arc::new(snapshot));
    let after = house.post(&house.operator, AT, question).await;
    assert_eq!((&after.as_(200)["rule"], &after.as_(200)["class"]), (&json!("stars"), &json!("block")));
}
