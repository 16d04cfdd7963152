//! Does a scheduled message leave at its time, with the route of that time, and not at all when it was cancelled?

use crate::support::house::SHOP;
use crate::support::{Manner, Plan, Town, among_others};
use engine::time::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn now() -> Timestamp {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(passed.as_micros()).unwrap())
}

// R1.6: also across a crash; the route is decided by the file of that time, and the header field does not leave.
#[test]
fn it_leaves_when_it_is_due_from_where_it_then_should() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).pool("news", &[(town.source(7), "news.weir.test")]).open();
    let due = now() + Duration::from_secs(4);
    let octets =
        format!("From: ann@shop.test\r\nX-Weir-Send-At: {due}\r\nX-Weir-Pool: news\r\nSubject: later\r\n\r\nHi\r\n");
    let id = house.smtp().take("ann@shop.test", &["bob@mail.test"], octets.as_bytes());
    let story = house.explain(&id);
    assert_eq!(story["route"], Value::Null);
    assert_eq!(story["undecided"]["now"]["pool"], "news");
    assert_eq!(story["recipients"][0]["why"]["code"], "not-yet-due");
    let later = json!({
        "from": "ann@shop.test", "to": "cy@mail.test", "text": "x", "send_at": (due + Duration::from_secs(3_600)).to_string(),
    });
    let kept = house.submit(&later);

    house.kill();
    // R2.3: the pool is gone by then.
    let text = std::fs::read_to_string(&house.config).unwrap();
    let (before, after) = text.split_once("[[pool]]\nid = \"news\"").unwrap();
    let after = after.split_once("[delivery]").unwrap().1;
    std::fs::write(&house.config, format!("{before}[delivery]{after}")).unwrap();
    house.start();
    let message = provider.wait_for_one_to("bob@mail.test");
    assert!(now() >= due, "it is early");
    assert_eq!(message.peer.ip(), town.source(0));
    assert!(!message.text().contains("X-Weir"), "{}", message.text());
    house.wait_state(&id, "delivered");
    let story = house.explain(&id);
    assert_eq!((&story["route"]["pool"], &story["route"]["rule"]), (&json!("shared"), &json!("shared")));
    assert!(story["route"]["rule_words"].as_str().unwrap().contains("the pool news was gone"), "{story}");

    let path = format!("/api/v1/messages/{kept}");
    assert_eq!(house.call("DELETE", &path, SHOP, &Value::Null).status, 200);
    let told = house.wait_state(&kept, "deleted");
    assert_eq!(told["why"]["code"], "cancelled-by-sender");
    assert_eq!(house.call("DELETE", &path, SHOP, &Value::Null).status, 409);
    assert_eq!(house.call("DELETE", &format!("/api/v1/messages/{id}"), SHOP, &Value::Null).status, 409);
    house.wait_queue_empty();
    assert_eq!(provider.count(), 1);
}
