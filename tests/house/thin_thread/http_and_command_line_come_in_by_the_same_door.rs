//! Do HTTP and the command line end in the same admission as SMTP?

use crate::support::house::SHOP;
use crate::support::{Manner, Plan, Town, among_others, until_true};
use serde_json::json;

// R1.1: same checks, same route, same events.
#[test]
fn json_comes_out_as_mail() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).pool("news", &[(town.source(7), "news.weir.test")]).open();
    let id = house.submit(&json!({
        "from": "Ann Ångström <ann@shop.test>",
        "to": ["Bob <bob@mail.test>"],
        "bcc": "hidden@mail.test",
        "subject": "Grüße",
        "text": "Hello.\n.\nGood-bye.\n",
        "html": "<p>Hello.</p>",
        "headers": { "X-Order": "17" },
        "tags": { "kind": "news" },
        "pool": "news",
    }));
    let message = provider.wait_for_one_to("bob@mail.test");
    assert_eq!(message.to, ["bob@mail.test", "hidden@mail.test"]);
    assert_eq!(message.peer.ip(), town.source(7));
    assert_eq!(message.ehlo, "news.weir.test");
    assert_eq!(message.header("X-Order").as_deref(), Some("17"));
    assert_eq!(message.header("Message-ID"), Some(format!("<{id}@weir.test>")));
    assert!(message.header("Date").is_some());
    assert!(message.header("Subject").unwrap().starts_with("=?utf-8?"));
    assert!(!message.text().contains("hidden"), "{}", message.text());
    assert!(message.octets.is_ascii());
    let both = || house.explain(&id)["recipients"].as_array().unwrap().iter().all(|to| to["state"] == "delivered");
    until_true("both are told to have it", both);
    let story = house.explain(&id);
    assert_eq!(story["tags"]["kind"], "news");
    assert_eq!(story["recipients"].as_array().unwrap().len(), 2);
}

// R1.4: a sender that is not proven is refused by every way in, and the refusal names it.
#[test]
fn an_unproven_sender_is_refused_everywhere() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town)
        .account("senders = \"verified\"")
        .more("[[domain]]\nname = \"shop.test\"\naccount = \"shop\"")
        .open();
    let answer = house.smtp().say("MAIL FROM:<eve@bank.test>").unwrap();
    assert_eq!(answer.code, 550, "{answer:?}");
    assert!(answer.text.contains("eve@bank.test"), "{answer:?}");
    // In the header only.
    let forged = b"From: eve@bank.test\r\nSubject: x\r\n\r\nx\r\n";
    let answer = house.smtp().send("ann@shop.test", &["bob@mail.test"], forged).unwrap();
    assert_eq!(answer.code, 550, "{answer:?}");
    assert!(answer.text.contains("eve@bank.test"), "{answer:?}");
    let answer = house.post(&json!({ "from": "eve@bank.test", "to": "bob@mail.test", "text": "x" }));
    assert_eq!(answer.status, 403);
    assert!(answer.json()["detail"].as_str().unwrap().contains("eve@bank.test"));
    let output = house.weir_as(SHOP, &["send", "--from", "eve@bank.test", "--to", "bob@mail.test", "--text", "x"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("eve@bank.test"));
    // What is proven goes.
    house.smtp().take("ann@shop.test", &["bob@mail.test"], b"From: ann@shop.test\r\n\r\nx\r\n");
    provider.wait_for(1);
    assert_eq!(provider.count(), 1);
}

// R1.1
#[test]
fn weir_send_hands_in_parts_and_finished_messages() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let output = house.weir_as(
        SHOP,
        &[
            "send",
            "--from",
            "Ann <ann@shop.test>",
            "--to",
            "bob@mail.test",
            "--subject",
            "Hi",
            "--text",
            "Hello",
            "--json",
        ],
    );
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let message = provider.wait_for_one_to("bob@mail.test");
    assert_eq!(message.header("Message-ID"), Some(format!("<{}@weir.test>", answer["id"].as_str().unwrap())));
    assert_eq!(message.header("Subject").as_deref(), Some("Hi"));

    let file = house.data.join("finished.eml");
    std::fs::write(&file, "From: ann@shop.test\nSubject: finished\n\nA line.\n.\nThe last line.\n").unwrap();
    let path = file.display().to_string();
    let output = house.weir_as(SHOP, &["send", "--to", "cy@mail.test", "--raw", &path]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("accepted as "));
    let message = provider.wait_for_one_to("cy@mail.test");
    assert_eq!(message.body(), b"A line.\r\n.\r\nThe last line.\r\n");
}

#[test]
fn nobody_hands_in_without_a_key_or_with_a_wrong_one() {
    let _others = among_others();
    let town = Town::new();
    let house = Plan::new(&town).open();
    let body = json!({ "from": "ann@shop.test", "to": "bob@mail.test", "text": "x" });
    assert_eq!(house.call("POST", "/api/v1/messages", "wrong", &body).status, 401);
    assert_eq!(house.call("POST", "/api/v1/messages", crate::support::house::OPERATOR, &body).status, 403);
    assert_eq!(house.call("GET", "/api/v1/queue", "wrong", &serde_json::Value::Null).status, 401);
    assert_eq!(house.queued(), 0);
}
