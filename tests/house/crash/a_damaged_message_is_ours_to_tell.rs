//! What if the octets of a queued message are not what was written?

use crate::support::{Manner, Message, Plan, Town, among_others, until, until_true};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

// It is not sent, it is not told as an answer of the remote, the operator is alarmed; and with its octets back it goes.
#[test]
fn a_damaged_message_is_an_alarm_and_no_answer_of_the_remote() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let token = format!("token-{}", std::process::id());
    let id = house.smtp().take("ann@shop.test", &["grey@mail.test"], &Message::new("x").body(&token));
    house.wait_why(&id, "greylisted");

    let (path, at) = fs::read_dir(house.data.join("queue"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find_map(|path| {
            let octets = fs::read(&path).ok()?;
            let at = octets.windows(token.len()).position(|part| part == token.as_bytes())?;
            Some((path, at as u64))
        })
        .expect("the body stands in the queue");
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(b"DAMAGE", at).unwrap();
    house.retry(&id);
    house.wait_why(&id, "message-unreadable");
    let last = until("its story tells it", || {
        let last = house.recipient(&id)["events"].as_array()?.last()?.clone();
        (last["why"]["code"] == "message-unreadable").then_some(last)
    });
    assert!(last["reply"].is_null() && last["host"].is_null(), "no remote has said anything: {last}");
    assert!(house.figure("weir_alarms_total{code=\"message-unreadable\"") >= 1.0);
    assert!(house.wait_log("message-unreadable").contains(&id));
    assert_eq!(provider.count(), 0);

    file.write_all_at(&token.as_bytes()[..6], at).unwrap();
    until_true("it goes when its octets are back", || {
        house.retry(&id);
        house.recipient(&id)["state"] == "delivered"
    });
    assert_eq!(provider.count(), 1);
}
