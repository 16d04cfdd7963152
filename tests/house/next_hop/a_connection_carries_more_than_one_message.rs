//! Is a connection used again, also after a refusal, and left when it is lost?

use crate::support::{Manner, Plan, Town, among_others};

// R5.1: reuse. A refused recipient costs no connection.
#[test]
fn a_refusal_costs_no_connection() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let shaping = "connections_max = 1\nmessages_per_connection = 1000\nmessages_per_second = 0\nramp = false";
    let house = Plan::new(&town).shaping(shaping).open();
    for (to, state) in [
        ("ok1", "delivered"),
        ("rcpt550", "bounced"),
        ("data550", "bounced"),
        ("dot550", "bounced"),
        ("ok2", "delivered"),
    ] {
        let id = house.submit_to(&format!("{to}@mail.test"));
        house.wait_state(&id, state);
    }
    assert_eq!(provider.connections(), 1, "{:?}", provider.commands());
}

// B4: after a loss nothing more is tried on what is lost: the next message's first attempt counts and goes.
#[test]
fn a_lost_connection_carries_nothing_more() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let shaping = "connections_max = 1\nmessages_per_connection = 1000\nmessages_per_second = 0\nramp = false";
    let house = Plan::new(&town).shaping(shaping).open();
    let lost = house.submit_to("dotdrop@mail.test");
    house.wait_why(&lost, "outcome-unknown");
    for number in 0..3 {
        let id = house.submit_to(&format!("u{number}@mail.test"));
        let recipient = house.wait_state(&id, "delivered");
        let events = recipient["events"].as_array().unwrap();
        assert_eq!(events.last().unwrap()["attempt"], 1, "{recipient}");
    }
    assert_eq!(provider.connections(), 2);
}
