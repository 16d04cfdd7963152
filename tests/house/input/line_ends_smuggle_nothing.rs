//! Can a message hide a second one behind an end of data that is none?

use crate::support::{Manner, Message, Plan, Town, among_others};

/// Every published way to write an end of data wrongly, around the dot.
const ENDS: [(&str, &[u8]); 8] = [
    ("LF . LF", b"\n.\n"),
    ("LF . CRLF", b"\n.\r\n"),
    ("CRLF . LF", b"\r\n.\n"),
    ("CR . CR", b"\r.\r"),
    ("CRLF . CR", b"\r\n.\r"),
    ("CR . CRLF", b"\r.\r\n"),
    ("CRLF NUL . CRLF", b"\r\n\0.\r\n"),
    ("CRCRLF . CRCRLF", b"\r\r\n.\r\r\n"),
];

// D1: none of them ends the message; no second message comes into being.
#[test]
fn no_false_end_of_data_brings_a_second_message() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let smuggled = b"MAIL FROM:<admin@shop.test>\r\nRCPT TO:<victim@mail.test>\r\nDATA\r\nFrom: admin@shop.test\r\nSubject: smuggled\r\n\r\nboo\r\n";
    for (name, end) in ENDS {
        let mut smtp = house.smtp();
        smtp.expect("MAIL FROM:<ann@shop.test>", 250);
        smtp.expect("RCPT TO:<bob@mail.test>", 250);
        smtp.expect("DATA", 354);
        let mut octets = Message::new("carrier").body("Before.");
        octets.truncate(octets.len() - 2);
        octets.extend_from_slice(end);
        octets.extend_from_slice(smuggled);
        octets.extend_from_slice(b".\r\n");
        smtp.raw(&octets).unwrap();
        let answer = smtp.answer().unwrap();
        assert!((500..600).contains(&answer.code), "{name}: {answer:?}");
        // One answer to one message: the next command has the next one.
        smtp.expect("NOOP", 250);
        let id = smtp.take("ann@shop.test", &["after@mail.test"], &Message::plain(name));
        house.wait_state(&id, "delivered");
    }
    house.wait_queue_empty();
    assert_eq!(provider.count(), ENDS.len());
    assert!(provider.to("victim@mail.test").is_empty());
    assert!(provider.look(|all| all.iter().all(|message| !message.text().contains("smuggled"))));
}

// D2: a bare CR or LF, with a true end of data, is never passed on as it is.
#[test]
fn bare_line_ends_are_never_passed_on() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    for body in ["one\rtwo", "one\ntwo", "one\r\rtwo", "\r", "end\r"] {
        // A conversation of its own: CR CR LF before the dot also ends it, because what follows may be somebody else's speech.
        let answer = house.smtp().send("ann@shop.test", &["bob@mail.test"], &Message::new("bare").body(body));
        let answer = answer.unwrap_or_else(|fault| panic!("{body:?}: {fault}"));
        assert!((500..600).contains(&answer.code), "{body:?}: {answer:?}");
    }
    let header = Message::new("bare\rX-Injected: 1").body("x");
    let answer = house.smtp().send("ann@shop.test", &["bob@mail.test"], &header).unwrap();
    assert!((500..600).contains(&answer.code), "{answer:?}");
    let id = house.smtp().take("ann@shop.test", &["bob@mail.test"], &Message::plain("clean"));
    house.wait_state(&id, "delivered");
    assert_eq!(provider.count(), 1);
}
