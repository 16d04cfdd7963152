//! Does a leased IP begin small, its mail go on all the same, and a restart give it no place twice?

use crate::support::{House, Manner, Plan, Town, among_others};
use serde_json::{Value, json};

/// More than an IP of the first stage may send in two hours.
const COUNT: usize = 40;

fn used(house: &House, path: &str) -> u64 {
    let warm_up = house.operate("GET", path, &Value::Null);
    warm_up["courses"].as_array().unwrap().iter().map(|course| course["today"]["used"].as_u64().unwrap()).sum()
}

// R4.1, R4.2, R4.5: a few go by the new IP, the rest by the shared one; with figures and reasons, across a kill; and as ordered.
#[test]
fn what_has_no_place_leaves_by_the_shared_pool() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let ip = town.source(1);
    house.new_pool(&shop, "news");
    house.grant_new(&shop, &[ip], Some("news"));
    let send =
        |house: &House, name: &str| house.send(&shop.key, &format!("{name}@mail.test"), json!({ "pool": "news" }));
    let ids: Vec<String> = (0..COUNT).map(|number| send(&house, &format!("u{number}"))).collect();
    let stories: Vec<Value> = ids.iter().map(|id| house.wait_state(id, "delivered")).collect();
    let by_it = (0..COUNT).filter(|number| provider.wait_for_one_to(&format!("u{number}@mail.test")).peer.ip() == ip);
    let by_it = by_it.count();
    // A hundred on the first day: five at midnight, what was earned since, and no more than an eighth in an hour. The hour may turn.
    assert!((5..=24).contains(&by_it), "{by_it} of {COUNT} went by {ip}");
    let told = stories.iter().filter(|story| story.to_string().contains("warm-up-allowance-used")).count();
    assert_eq!(told, COUNT - by_it, "each that left says why");

    let path = format!("/ips/{ip}/warm-up");
    let warm_up = house.operate("GET", &path, &Value::Null);
    let course = &warm_up["courses"][0];
    assert_eq!(
        (&warm_up["schedule"], &course["state"], &course["stage"]),
        (&json!("steady"), &json!("warming"), &json!(1))
    );
    assert_eq!((&course["allowed"], &course["today"]["delivered"]), (&json!(100), &json!(by_it)));
    assert_eq!(course["today"]["turned_away"], json!(COUNT - by_it));
    assert_eq!(house.refused("GET", &path, &house.tenant("other", "standard").key, &Value::Null).0, 404, "R2.8");

    house.kill();
    house.start();
    assert_eq!(used(&house, &path), by_it as u64, "what was used is used");

    // R4.2: who never leaves its IPs waits, and reads until when.
    house.ask("PATCH", &shop.at("pools/news"), &shop.key, &json!({ "leaving": "never" }));
    let waiting: Vec<String> = (0..COUNT).map(|number| send(&house, &format!("w{number}"))).collect();
    let waits = waiting.last().unwrap();
    let story = house.wait_why(waits, "warm-up-allowance-used");
    assert!(story.to_string().contains("warms up"), "{story}");
    // R4.5
    let orders = format!("/ips/{ip}/warm-up/orders");
    house.ask("POST", &orders, &shop.key, &json!({ "order": "done" }));
    house.wait_state(waits, "delivered");
    assert_eq!(provider.wait_for_one_to(&format!("w{}@mail.test", COUNT - 1)).peer.ip(), ip);
    assert_eq!(house.operate("GET", &path, &Value::Null)["ordered"], "done");
    let refused = house.refused("POST", &orders, &shop.key, &json!({ "order": "set" }));
    assert_eq!(refused.0, 400, "{refused:?}");
}
