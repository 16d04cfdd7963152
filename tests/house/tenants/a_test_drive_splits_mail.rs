//! Does a part of a set's mail take another pool, always that of the same recipients, and is it said why?

use crate::support::{Manner, Plan, Town, among_others};
use serde_json::json;

// R8.3, R2.1, R2.7, R1.6: by HTTP and SMTP, now and later, across a kill; then the rest moves in one step, or nothing does.
#[test]
fn a_share_of_the_recipients_takes_the_new_pool() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let mut house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    house.new_pool(&shop, "fresh");
    house.grant(&shop, &[town.source(1)], Some("fresh"));
    house.ask("POST", &shop.at("configuration-sets"), &shop.key, &json!({ "name": "letters" }));
    let drive = json!({ "set": "letters", "pool": "fresh", "percent": 50 });
    house.ask("POST", &shop.at("test-drives"), &shop.key, &drive);

    let names: Vec<String> = (0..24).map(|n| format!("reader{n}@mail.test")).collect();
    let rule = |house: &crate::support::House, to: &str| {
        let id = house.send(&shop.key, to, json!({ "configuration_set": "letters" }));
        house.explain(&id)["route"].clone()
    };
    let sides = |house: &crate::support::House| -> Vec<bool> {
        let is_new = |name: &String| {
            let route = rule(house, name);
            let is_new = route["rule"] == "test-drive";
            assert_eq!(route["ip"] == town.source(1).to_string(), is_new, "{route}");
            is_new
        };
        names.iter().map(is_new).collect()
    };
    let first = sides(&house);
    let taken = first.iter().filter(|is_new| **is_new).count();
    assert!((4..=20).contains(&taken), "{taken} of 24");
    assert_eq!(sides(&house), first, "each stays on its side");
    house.kill();
    house.start();
    assert_eq!(sides(&house), first, "and after a stop");

    // One that waits is told what would happen, and leaves so.
    let new = &names[first.iter().position(|is_new| *is_new).unwrap()];
    let soon = (engine::time::Timestamp(now_us()) + std::time::Duration::from_secs(2)).to_string();
    let id = house.send(&shop.key, new, json!({ "configuration_set": "letters", "send_at": soon }));
    house.wait_state(&id, "delivered");
    let story = house.explain(&id);
    assert_eq!(
        (&story["route"]["rule"], &story["route"]["ip"]),
        (&json!("test-drive"), &json!(town.source(1))),
        "{story}"
    );

    let report = house.ask("GET", &shop.at("test-drives/letters"), &shop.key, &json!(null));
    assert_eq!(report["verdict"], "too-little", "{report}");
    let done = house.ask("POST", &shop.at("test-drives/letters/orders"), &shop.key, &json!({ "order": "finish" }));
    assert_eq!(done["state"], "finished");
    assert!(names.iter().all(|name| rule(&house, name)["rule"] == "configuration-set"), "all of it moved");
}

/// Microseconds since 1970.
fn now_us() -> i64 {
    let passed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(passed.as_micros()).unwrap()
}
