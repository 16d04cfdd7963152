//! Does mail handed in by SMTP leave from its pool's IP, under that IP's name?

use crate::support::{Manner, Message, Plan, Town, among_others};

// R5.1, R2.1: nothing named, so the shared pool carries it.
#[test]
fn unnamed_mail_leaves_from_the_shared_pool() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let id = house.smtp().take("ann@shop.test", &["bob@mail.test"], &Message::plain("Hello"));
    let message = provider.wait_for_one_to("bob@mail.test");
    assert_eq!(message.peer.ip(), town.source(0));
    assert_eq!(message.ehlo, "out0.weir.test");
    assert_eq!(message.from, "ann@shop.test");
    assert_eq!(message.body(), b"Hello.\r\n");
    let recipient = house.wait_state(&id, "delivered");
    assert_eq!(recipient["address"], "bob@mail.test");
    house.wait_queue_empty();
}

// R1.3, R2.1: the pool named on the message comes first; the header that named it stays here.
#[test]
fn a_named_pool_carries_it_and_the_naming_header_is_removed() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).pool("news", &[(town.source(7), "news.weir.test")]).open();
    let message = Message::new("News").field("X-MSYS-API: {\"options\":{\"ip_pool\":\"news\"}}").field("X-Kept: 1");
    let id = house.smtp().take("ann@shop.test", &["bob@mail.test"], &message.body("News."));
    let message = provider.wait_for_one_to("bob@mail.test");
    assert_eq!(message.peer.ip(), town.source(7));
    assert_eq!(message.ehlo, "news.weir.test");
    assert_eq!(message.header("X-MSYS-API"), None);
    assert_eq!(message.header("X-Kept").as_deref(), Some("1"));
    let story = house.explain(&id);
    assert_eq!(story["route"]["pool"], "news");
    assert_eq!(story["route"]["rule"], "named-on-message");
}

// R2.2: a named pool that does not exist is an error at submission; so is somebody else's.
#[test]
fn a_pool_that_cannot_be_used_is_refused_at_once() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let foreign = format!(
        "[[account]]\nid = \"other\"\n[[ip]]\naddress = \"{0}\"\n[[pool]]\nid = \"theirs\"\nkind = \"standard\"\naccount = \"other\"\nips = [\"{0}\"]\n",
        town.source(9)
    );
    let house = Plan::new(&town).more(&foreign).open();
    let mut smtp = house.smtp();
    let mut replies = Vec::new();
    for pool in ["nowhere", "theirs"] {
        let message = Message::new("News").field(&format!("X-MSYS-API: {{\"options\":{{\"ip_pool\":\"{pool}\"}}}}"));
        let answer = smtp.send("ann@shop.test", &["bob@mail.test"], &message.body("News.")).unwrap();
        assert_eq!(answer.code, 550, "{answer:?}");
        replies.push(answer.text.replace(pool, "POOL"));
    }
    // R2.8: what is another tenant's looks like what does not exist.
    assert_eq!(replies[0], replies[1]);
    assert_eq!(provider.connections(), 0);
    assert_eq!(house.queued(), 0);
}

// R1.1: what a message needs and has not is added; what is not for the recipients is taken out.
#[test]
fn date_and_message_id_are_added_and_bcc_is_removed() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let mut smtp = house.smtp();
    let bare = b"From: ann@shop.test\r\nBcc: hidden@mail.test\r\nSubject: bare\r\n\r\nHello.\r\n";
    let id = smtp.take("ann@shop.test", &["bob@mail.test", "hidden@mail.test"], bare);
    let message = provider.wait_for_one_to("bob@mail.test");
    assert!(message.header("Date").is_some());
    assert_eq!(message.header("Message-ID"), Some(format!("<{id}@weir.test>")));
    assert!(!message.text().contains("hidden"), "{}", message.text());

    let own = Message::new("own").field("Date: Mon, 02 Jan 2006 15:04:05 +0000").field("Message-ID: <own@shop.test>");
    smtp.take("ann@shop.test", &["cy@mail.test"], &own.body("Hello."));
    let message = provider.wait_for_one_to("cy@mail.test");
    assert_eq!(message.header("Date").as_deref(), Some("Mon, 02 Jan 2006 15:04:05 +0000"));
    assert_eq!(message.header("Message-ID").as_deref(), Some("<own@shop.test>"));
}
