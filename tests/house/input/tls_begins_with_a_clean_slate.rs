//! Does anything said in clear count once TLS has begun?

use crate::support::{Manner, Message, Plan, Smtp, Town, among_others};

// D3: commands pipelined behind STARTTLS in clear (CVE-2011-0411) are never obeyed.
#[test]
fn commands_behind_starttls_in_clear_are_not_obeyed() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let door =
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"starttls\"\ntrusted = [\"127.0.0.0/8\"]\naccount = \"shop\"";
    let house = Plan::new(&town).more(door).open();
    let mut smtp = Smtp::open(house.doors()[1]);
    let message = String::from_utf8(Message::plain("injected")).unwrap();
    let injected =
        format!("STARTTLS\r\nMAIL FROM:<ann@shop.test>\r\nRCPT TO:<bob@mail.test>\r\nDATA\r\n{message}.\r\n");
    smtp.raw(injected.as_bytes()).unwrap();
    // It may agree and then want a handshake, or refuse; it must not take the rest for commands of the protected session.
    let first = smtp.answer().unwrap();
    if first.code == 220 {
        assert!(smtp.is_closed(), "what came in clear was taken for a handshake");
    } else {
        assert!(first.code >= 400, "{first:?}");
        assert!(smtp.is_closed());
    }
    // The same door still serves, and with TLS offered.
    let mut smtp = Smtp::open(house.doors()[1]);
    let id = smtp.take("ann@shop.test", &["cy@mail.test"], &Message::plain("clean"));
    house.wait_state(&id, "delivered");
    assert_eq!(provider.count(), 1);
}
