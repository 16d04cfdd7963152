//! What if one of a pool's addresses is not on this machine?

use crate::support::{Manner, Plan, Town, among_others, until_true};
use std::collections::BTreeSet;
use std::net::IpAddr;

// E9, R2.4: that IP leaves the pool with an alarm, the others carry on, nobody's mail bounces.
#[test]
fn a_missing_address_leaves_the_pool_and_the_others_carry_on() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    // TEST-NET-1: on no machine.
    let missing: IpAddr = [192, 0, 2, 1].into();
    let sources = [(missing, "gone.weir.test"), (town.source(1), "one.weir.test"), (town.source(2), "two.weir.test")];
    let house = Plan::new(&town).sources(&sources).open();
    let ids: Vec<String> = (0..60).map(|number| house.submit_to(&format!("u{number}@mail.test"))).collect();
    provider.wait_for(60);
    house.wait_queue_empty();
    let from: BTreeSet<IpAddr> = provider.all().iter().map(|message| message.peer.ip()).collect();
    assert_eq!(from, BTreeSet::from([town.source(1), town.source(2)]));
    let alarm = house.wait_log("ip-missing");
    assert!(alarm.contains("192.0.2.1"), "{alarm}");
    for id in &ids {
        house.wait_state(id, "delivered");
    }
    // What was meant for it says so, in the story of a message that it had been chosen for.
    let moved = ids.iter().map(|id| house.explain(id)).find(|story| story["route"]["ip"] == "192.0.2.1");
    let moved = moved.expect("of sixty messages one was meant for it");
    until_true("the log tells of the move", || {
        house.explain(moved["id"].as_str().unwrap()).to_string().contains("moved")
    });
}
