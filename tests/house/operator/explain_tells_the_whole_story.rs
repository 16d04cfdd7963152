//! Can everybody who may know learn what became of a message, and nobody else?

use crate::support::house::{OPERATOR, SHOP};
use crate::support::submitter::call;
use crate::support::{Manner, Message, Plan, Town, among_others};
use serde_json::Value;

// R2.7: which rule chose the pool, which IP, what was tried, what was answered, what comes next and when.
#[test]
fn explain_tells_rule_address_tries_answers_and_what_comes_next() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let to = ["ok@mail.test", "grey@mail.test", "rcpt550@mail.test"];
    let id = house.smtp().take("ann@shop.test", &to, &Message::plain("story"));
    house.wait_why_of(&id, 1, "greylisted");
    crate::support::until_true("the others have their fate", || {
        let story = house.explain(&id);
        story["recipients"][0]["state"] == "delivered" && story["recipients"][2]["state"] == "bounced"
    });
    let output = house.weir(&["explain", &id]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = String::from_utf8(output.stdout).unwrap();
    let source = town.source(0).to_string();
    let expected = [
        "from       ann@shop.test",
        "account    shop",
        "pool       shared: ",
        source.as_str(),
        "ok@mail.test: delivered",
        "Taken",
        "grey@mail.test: queued",
        "450 4.7.1 Greylisted, come back later",
        "next: ",
        "rcpt550@mail.test: bounced",
        "550 5.1.1 No such user here",
        "mx.sink.test",
    ];
    for words in expected {
        assert!(page.contains(words), "“{words}” is missing in:\n{page}");
    }
    let output = house.weir(&["explain", &id, "--json"]);
    let story: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(story["route"]["rule"], "shared");
    assert_eq!(story["recipients"][2]["events"].as_array().unwrap().last().unwrap()["meaning"], "hard/unknownuser");
}

// R2.7: also right after it was accepted, and across a restart.
#[test]
fn the_story_is_there_at_once_and_after_a_restart() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner { silent: true, ..Manner::default() });
    let mut house = Plan::new(&town).open();
    for number in 0..20 {
        let id = house.submit_to(&format!("u{number}@mail.test"));
        let answer = house.call("GET", &format!("/api/v1/messages/{id}"), SHOP, &Value::Null);
        assert_eq!(answer.status, 200, "number {number}");
    }
    provider.change(Manner::default());
    house.kill();
    house.start();
    let id = house.submit_to("bob@mail.test");
    house.wait_state(&id, "delivered");
    let before = house.explain(&id);
    house.kill();
    house.start();
    assert_eq!(house.explain(&id), before);
}

// R2.8: somebody else's message is as unknown as one that never was.
#[test]
fn another_accounts_message_is_unknown() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let other =
        "[[account]]\nid = \"other\"\nsenders = \"any\"\n[[credential]]\naccount = \"other\"\nkey = \"other-key\"";
    let house = Plan::new(&town).more(other).open();
    let id = house.submit_to("bob@mail.test");
    house.wait_state(&id, "delivered");
    let get =
        |key: &str, id: &str| call(house.http_at(), "GET", &format!("/api/v1/messages/{id}"), Some(key), b"").unwrap();
    let (foreign, never) = (get("other-key", &id), get("other-key", &"0".repeat(32)));
    assert_eq!(foreign.status, 404);
    assert_eq!(foreign.body, never.body);
    assert_eq!(get(OPERATOR, &id).status, 200);
    let grey = house.submit_to("grey@mail.test");
    house.wait_why(&grey, "greylisted");
    let page = call(house.http_at(), "GET", "/api/v1/queue", Some("other-key"), b"").unwrap();
    assert_eq!(page.json()["messages"].as_array().unwrap().len(), 0, "{}", page.json());
    let deleted = call(house.http_at(), "POST", "/api/v1/queue/delete", Some("other-key"), b"{\"all\":true}").unwrap();
    assert_ne!(deleted.json()["messages"], 1, "{}", deleted.json());
    assert_eq!(house.recipient(&grey)["state"], "queued");
}
