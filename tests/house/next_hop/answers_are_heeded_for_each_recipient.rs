//! Does each recipient meet its own fate, once?

use crate::support::{Manner, Message, Plan, Town, among_others, until_true};
use serde_json::Value;

fn kinds(recipient: &Value) -> Vec<String> {
    let events = recipient["events"].as_array().unwrap();
    events.iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

// B1, R5.3: greylisted, it waits and is delivered once.
#[test]
fn a_greylisted_recipient_is_tried_again_and_delivered_once() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let id = house.submit_to("grey@mail.test");
    let recipient = house.wait_why(&id, "greylisted");
    assert!(recipient["next_at"].is_string(), "{recipient}");
    assert_eq!(provider.count(), 0);
    house.retry(&id);
    let recipient = house.wait_state(&id, "delivered");
    assert_eq!(provider.to("grey@mail.test").len(), 1);
    // R2.4: from the same IP, which is what greylisting wants to see.
    assert_eq!(provider.all()[0].peer.ip(), town.source(0));
    assert!(!kinds(&recipient).contains(&"bounced".to_owned()), "{recipient}");
}

// B2, R5.3: one refusal for good is one event with the remote's words, and no second try.
#[test]
fn a_refusal_for_good_is_told_once_with_the_remotes_words() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    for (to, words) in [
        ("rcpt550@mail.test", "No such user here"),
        ("data550@mail.test", "Not at DATA"),
        ("dot550@mail.test", "Not after the dot"),
    ] {
        let id = house.submit_to(to);
        let recipient = house.wait_state(&id, "bounced");
        let bounced: Vec<&Value> =
            recipient["events"].as_array().unwrap().iter().filter(|event| event["kind"] == "bounced").collect();
        assert_eq!(bounced.len(), 1, "{recipient}");
        assert!(bounced[0]["reply"].as_str().unwrap().contains(words), "{recipient}");
    }
    // An order to retry finds nothing, and nobody was asked twice.
    house.wait_queue_empty();
    house.retry_all();
    let id = house.submit_to("ok@mail.test");
    house.wait_state(&id, "delivered");
    assert_eq!(provider.heard("MAIL"), 4, "{:?}", provider.commands());
}

// B3, R5.3: one delivered, one retried, one failed; the delivered one never gets a second copy.
#[test]
fn three_recipients_meet_three_fates() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let to = ["ok@mail.test", "grey@mail.test", "rcpt550@mail.test"];
    let id = house.smtp().take("ann@shop.test", &to, &Message::plain("three"));
    let state = |place: usize| house.explain(&id)["recipients"][place]["state"].as_str().unwrap_or_default().to_owned();
    until_true("the first and the last have their fate", || state(0) == "delivered" && state(2) == "bounced");
    assert_eq!(state(1), "queued");
    house.retry(&id);
    until_true("the second is delivered", || state(1) == "delivered");
    house.wait_queue_empty();
    assert_eq!(provider.to("ok@mail.test").len(), 1);
    assert_eq!(provider.to("grey@mail.test").len(), 1);
    assert_eq!(provider.count(), 2);
}

// B14: what is over the remote's limit goes in transactions of its own; nobody fails.
#[test]
fn more_recipients_than_the_remote_takes_go_in_turns() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner { recipients_max: Some(100), ..Manner::default() });
    let house = Plan::new(&town).open();
    let to: Vec<String> = (0..500).map(|number| format!("u{number}@mail.test")).collect();
    let to: Vec<&str> = to.iter().map(String::as_str).collect();
    let id = house.smtp().take("ann@shop.test", &to, &Message::plain("many"));
    until_true("everybody has it", || {
        provider.look(|all| all.iter().map(|message| message.to.len()).sum::<usize>()) >= 500
    });
    house.wait_queue_empty();
    until_true("everybody is told to have it", || {
        house.explain(&id)["recipients"].as_array().unwrap().iter().all(|recipient| recipient["state"] == "delivered")
    });
    let mut got: Vec<String> = provider.all().into_iter().flat_map(|message| message.to).collect();
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 500);
    assert_eq!(provider.look(|all| all.iter().map(|message| message.to.len()).sum::<usize>()), 500);
}
