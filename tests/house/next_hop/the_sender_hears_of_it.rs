//! Does who sent it learn what could not be delivered, and does a bounce find its way back to its message?

use crate::support::{Manner, Message, Plan, Town, among_others, until_true};

// R5.3: a failure is told to the sender, in the form that programs read (RFC 3464), and a notice about a notice never is.
#[test]
fn a_failure_is_told_to_the_sender_once() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).delivery("notify", "\"failure\"").open();
    let to = ["ok@mail.test", "rcpt550@mail.test"];
    house.smtp().take("ann@shop.test", &to, &Message::plain("partly"));
    let notice = provider.wait_for_one_to("ann@shop.test");
    assert_eq!(notice.from, "", "a notice has no sender of its own");
    let text = notice.text();
    for words in [
        "multipart/report",
        "message/delivery-status",
        "rfc822;rcpt550@mail.test",
        "Action: failed",
        "5.1.1",
        "No such user here",
    ] {
        assert!(text.contains(words) || text.contains(&words.replace(';', "; ")), "“{words}” is missing in:\n{text}");
    }
    assert!(!text.contains("ok@mail.test"), "{text}");
    // The sender's own address fails too: that is the end of it.
    house.smtp().take("rcpt550@shop.test", &["rcpt550@mail.test"], &Message::plain("round"));
    house.wait_queue_empty();
    until_true("the second notice was tried", || provider.heard("RCPT TO:<rcpt550@shop.test>") == 1);
    house.wait_queue_empty();
    assert_eq!(provider.to("ann@shop.test").len(), 1);
}

// RFC 3461: one attempt may owe two notices, of a success and of a failure.
#[test]
fn success_and_failure_in_one_attempt_are_both_told() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let mut smtp = house.smtp();
    smtp.expect("MAIL FROM:<ann@shop.test>", 250);
    smtp.expect("RCPT TO:<ok@mail.test> NOTIFY=SUCCESS,FAILURE", 250);
    smtp.expect("RCPT TO:<rcpt550@mail.test> NOTIFY=SUCCESS,FAILURE", 250);
    smtp.expect("DATA", 354);
    smtp.raw(&Message::plain("both")).unwrap();
    smtp.raw(b".\r\n").unwrap();
    assert_eq!(smtp.answer().unwrap().code, 250);
    until_true("both notices are there", || provider.to("ann@shop.test").len() == 2);
    let mut actions: Vec<&str> = Vec::new();
    for notice in provider.to("ann@shop.test") {
        let text = notice.text();
        actions.extend(["Action: failed", "Action: relayed"].into_iter().filter(|action| text.contains(action)));
    }
    actions.sort_unstable();
    assert_eq!(actions, ["Action: failed", "Action: relayed"]);
    house.wait_queue_empty();
}

// RFC 3461: who asks for silence gets it.
#[test]
fn nobody_is_told_who_asked_not_to_be() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).delivery("notify", "\"failure\"").open();
    let mut smtp = house.smtp();
    smtp.expect("MAIL FROM:<ann@shop.test>", 250);
    smtp.expect("RCPT TO:<rcpt550@mail.test> NOTIFY=NEVER", 250);
    smtp.expect("DATA", 354);
    smtp.raw(&Message::plain("quiet")).unwrap();
    smtp.raw(b".\r\n").unwrap();
    let id = smtp.answer().unwrap().id().unwrap().to_owned();
    house.wait_state(&id, "bounced");
    house.wait_queue_empty();
    assert_eq!(provider.count(), 0);
}

// R5.4: the return path names the message under a seal, and no two messages have the same.
#[test]
fn the_return_path_bears_a_seal_of_its_own_for_each_message() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).delivery("return_path", "\"bounces.shop.test\"").open();
    for _ in 0..3 {
        house.submit_to("bob@mail.test");
    }
    let mut paths: Vec<String> = provider.wait_for(3).into_iter().map(|message| message.from).collect();
    assert!(paths.iter().all(|path| path.starts_with("b-") && path.ends_with("@bounces.shop.test")), "{paths:?}");
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 3);
}
