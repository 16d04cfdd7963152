//! What if nobody knows whether the message arrived?

use crate::support::provider::Taken;
use crate::support::{Manner, Message, Plan, Town, among_others};
use std::time::Duration;

// B4: closed after the dot. One more copy, with the same Message-ID, and not before the remote may have finished with the first.
#[test]
fn a_connection_that_closes_after_the_dot_brings_exactly_one_more_copy() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let id = house.submit_to("dotdrop@mail.test");
    house.wait_why(&id, "outcome-unknown");
    house.retry(&id);
    house.wait_state(&id, "delivered");
    house.wait_queue_empty();
    let copies = provider.to("dotdrop@mail.test");
    assert_eq!(copies.len(), 2);
    assert_eq!(copies[0].taken, Taken::Unanswered);
    assert_eq!(copies[0].header("Message-ID"), copies[1].header("Message-ID"));
    assert_eq!(copies[0].octets, copies[1].octets);
}

// B5: no answer to the dot. The message waits, at least ten minutes, and nothing else waits for it.
#[test]
fn a_remote_that_never_answers_the_dot_delays_nothing_else() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let shaping = "connections_max = 4\nmessages_per_connection = 1000\nmessages_per_second = 0\nramp = false";
    let house = Plan::new(&town).patience("data_end_s", 5).shaping(shaping).open();
    let hanging = house.submit_to("dothang@mail.test");
    provider.wait_for(1);
    // The line hangs; all this goes past it.
    for number in 0..50 {
        house.submit_to(&format!("u{number}@mail.test"));
    }
    let all = provider.wait_for(51);
    let hung = all.iter().find(|message| message.taken == Taken::Unanswered).unwrap();
    let slowest = all.iter().map(|message| message.at).max().unwrap();
    assert!(slowest - hung.at < Duration::from_secs(5), "other mail waited for the silent line");
    let recipient = house.wait_why(&hanging, "outcome-unknown");
    // RFC 5321 4.5.3.2.6: not before ten minutes, or what jitter leaves of them.
    let next = seconds_of_day(recipient["next_at"].as_str().unwrap());
    let last = recipient["events"].as_array().unwrap().last().unwrap()["at"].as_str().unwrap().to_owned();
    let wait = (next - seconds_of_day(&last)).rem_euclid(86_400.0);
    assert!(wait >= 600.0, "tried again after {wait} s: {recipient}");
    assert_eq!(provider.to("dothang@mail.test").len(), 1);
    house.retry(&hanging);
    house.wait_state(&hanging, "delivered");
    let copies = provider.to("dothang@mail.test");
    assert_eq!(copies.len(), 2);
    assert_eq!(copies[0].header("Message-ID"), copies[1].header("Message-ID"));
}

/// Of a moment such as 2026-01-02T03:04:05.678Z.
fn seconds_of_day(text: &str) -> f64 {
    let time = text.split('T').nth(1).expect("a date and a time").trim_end_matches('Z');
    time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap())
}

// B7: reset in the middle of the data: nothing arrived, so one more try is one delivery.
#[test]
fn a_reset_in_the_data_is_tried_again_once() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    // So large that it cannot be on its way as a whole: the dot was never sent.
    let large = "A line of a message that is larger than all buffers on the way.\r\n".repeat(400_000);
    let id = house.smtp().take("ann@shop.test", &["rst@mail.test"], &Message::new("large").body(&large));
    let recipient = house.wait_why(&id, "connection-lost");
    assert!(recipient["next_at"].is_string(), "{recipient}");
    assert_eq!(provider.count(), 0);
    house.retry(&id);
    house.wait_state(&id, "delivered");
    house.wait_queue_empty();
    assert_eq!(provider.to("rst@mail.test").len(), 1);
}
