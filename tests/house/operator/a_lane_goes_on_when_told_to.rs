//! What if a provider blocks one of our IPs: who may let it go on, and what is known of it after a restart?

use crate::support::house::{OPERATOR, SHOP};
use crate::support::{House, Manner, Plan, Town, among_others, until, until_true};
use serde_json::{Value, json};

/// As a provider says that it takes no mail of an IP; the shipped rules suspend the lane for the second such answer.
const BLOCK: &str = "554 5.7.1 Service unavailable; client host blocked using zen.spamhaus.org";

fn lane(house: &House) -> Value {
    let answer = house.call("GET", "/api/v1/lanes", OPERATOR, &Value::Null);
    answer.json()["lanes"].as_array().unwrap().first().cloned().unwrap_or_default()
}

fn suspended(house: &House) -> Value {
    until("the lane is suspended", || {
        house.retry_all();
        Some(lane(house)).filter(|lane| lane["why"]["code"] == "lane-suspended")
    })
}

#[test]
fn a_suspended_lane_goes_on_when_the_operator_says_so() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner { banner: Some(BLOCK), ..Manner::default() });
    let house = Plan::new(&town).open();
    let id = house.submit_to("bob@mail.test");
    let blocked = suspended(&house);
    provider.change(Manner::default());
    let (ip, name) = (blocked["ip"].as_str().unwrap(), blocked["provider"].as_str().unwrap());

    // Not for accounts; not without saying which; not for what is not there.
    let resume = |key: &str, body: Value| house.call("POST", "/api/v1/lanes/resume", key, &body);
    let which = json!({ "ip": ip, "provider": name });
    assert_eq!(resume(SHOP, which.clone()).status, 403);
    assert_eq!(resume(OPERATOR, json!({ "ip": ip })).status, 400);
    assert_eq!(resume(OPERATOR, json!({ "ip": "nowhere", "provider": name })).json()["field"], "ip");
    assert_eq!(resume(OPERATOR, json!({ "ip": ip, "provider": "nobody" })).status, 404);
    assert_eq!(lane(&house)["why"]["code"], "lane-suspended");

    let output = house.weir(&["queue", "resume", "--ip", ip, "--provider", name]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    until_true("the lane is free", || lane(&house)["why"].is_null());
    house.retry(&id);
    house.wait_state(&id, "delivered");
    assert!(house.log().contains("an order for a lane"), "{}", house.log());
}

// A restart is no way around a block: what a lane has learned outlives the process, however that ends.
#[test]
fn a_suspension_outlives_the_process() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner { banner: Some(BLOCK), ..Manner::default() });
    let mut house = Plan::new(&town).open();
    house.submit_to("bob@mail.test");
    let blocked = suspended(&house);
    // Durable with this one, at the latest.
    let id = house.submit_to("ann@mail.test");
    provider.change(Manner::default());
    let tried = provider.connections();
    for _ in 0..2 {
        house.kill();
        house.start();
        let after = house.wait_why(&id, "lane-suspended");
        assert_eq!(after["next_at"], blocked["until"], "{after}");
        house.retry_all();
    }
    assert_eq!(provider.connections(), tried, "a provider that had just said no was tried again");

    let (ip, name) = (blocked["ip"].as_str().unwrap(), blocked["provider"].as_str().unwrap());
    assert!(house.weir(&["queue", "resume", "--ip", ip, "--provider", name]).status.success());
    house.wait_state(&id, "delivered");
    house.wait_queue_empty();
    let (status, _) = house.terminate();
    assert!(status.success());
    house.start();
    let id = house.submit_to("cy@mail.test");
    house.wait_state(&id, "delivered");
}
