//! Does a quota hold at every door and across a sudden end, and is it told what is used and when it fits?

use crate::support::{Manner, Plan, Town, among_others};
use serde_json::{Value, json};

// R7.1: where accounts stand in the file, their quotas do too; half of one is told with its line.
#[test]
fn a_quota_in_the_file_holds() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).account("senders = \"any\"\nper_day = 2\nper_second = 100").open();
    let mut smtp = house.smtp();
    let octets = b"From: ann@shop.test\r\nSubject: x\r\n\r\nx\r\n";
    let codes = ["one", "two", "three"]
        .map(|name| smtp.send("ann@shop.test", &[&format!("{name}@mail.test")], octets).unwrap().code);
    assert_eq!(codes, [250, 250, 454]);
    provider.wait_for(2);
}

// R7.1, R7.2: counted by recipient; nothing queued of what is refused; SMTP 454, HTTP 429; neither forgotten nor doubled by a kill; more by
// a case.
#[test]
fn what_is_over_the_quota_is_told_and_not_queued() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let login = house.login(&shop);
    let quota = |per_day: u32| {
        let path = shop.at("quotas/local");
        house.operate("PUT", &path, &json!({ "per_day": per_day, "per_second": 1_000 }))
    };
    quota(4);
    let two = json!(["ann@mail.test", "ben@mail.test"]);
    house.send(&shop.key, "one@mail.test", json!({ "to": two }));
    house.send(&shop.key, "three@mail.test", json!({}));
    provider.wait_for(2);
    let message = |to: Value| json!({ "from": "ann@shop.test", "to": to, "subject": "Hello", "text": "Hello." });
    let refused = house.call("POST", "/api/v1/messages", &shop.key, &message(two.clone()));
    let said = refused.json().to_string();
    assert_eq!(refused.status, 429, "{said}");
    for words in
        ["daily_quota_exceeded", "3 of 4 recipients", "this message has 2", "It fits at", "weir case open quota"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let seconds =
        refused.head.lines().find_map(|line| line.to_lowercase().strip_prefix("retry-after: ")?.parse::<u64>().ok());
    assert!(seconds.is_some_and(|seconds| (86_000..=86_400).contains(&seconds)), "{}", refused.head);
    // What was refused took nothing: one more fits, by another door.
    let mut smtp = house.smtp_as(&login);
    let octets = b"From: ann@shop.test\r\nSubject: x\r\n\r\nx\r\n";
    let codes =
        ["four", "five"].map(|name| smtp.send("ann@shop.test", &[&format!("{name}@mail.test")], octets).unwrap().code);
    assert_eq!(codes, [250, 454]);
    provider.wait_for_one_to("four@mail.test");
    let used = |house: &crate::support::House| {
        house.ask("GET", &shop.at("quotas"), &shop.key, &Value::Null)["items"][0]["used"].clone()
    };
    assert_eq!(used(&house), json!(4));

    house.kill();
    house.start();
    let again = house.send_refused(&shop.key, "five@mail.test", json!({}));
    assert_eq!(again, (429, "daily_quota_exceeded".to_owned()));
    assert_eq!(used(&house), json!(4), "neither forgotten nor doubled");
    let never = house.send_refused(
        &shop.key,
        "x@mail.test",
        json!({ "to": ["a@mail.test", "b@mail.test", "c@mail.test", "d@mail.test", "e@mail.test"] }),
    );
    assert_eq!(never, (403, "daily_quota_too_small".to_owned()));

    let wanted = json!({
        "kind": "quota", "mail_type": "transactional", "website": "https://shop.test", "opted_in": "x", "bounces": "x",
        "opting_out": "x", "number_chosen": "x", "use_case": "x", "terms": true, "only_opted_in": true,
        "bounce_process": true, "requests": [{ "per_day": 6 }],
    });
    let case = house.ask("POST", &shop.at("cases"), &shop.key, &wanted)["id"].as_str().unwrap().to_owned();
    house.operate("POST", &shop.at(&format!("cases/{case}/answer")), &json!({ "answer": "grant" }));
    house.send(&shop.key, "five@mail.test", json!({}));
    assert_eq!(used(&house), json!(5));
    assert_eq!(provider.wait_for(4).len(), 4);
}
