//! Is it heard what comes back: bounces that come late, complaints, ends of streams; and nothing that is not true?

use crate::support::house::House;
use crate::support::submitter::request;
use crate::support::tenants::Tenant;
use crate::support::{FakeProvider, Manner, Plan, Smtp, Town, among_others, until};
use serde_json::{Value, json};

const RETURNS: &str = "[returns]\naddress = \"127.0.0.1:0\"\ndomain = \"back.weir.test\"\n\
    unsubscribe_origin = \"https://mail.weir.test\"\n[tracking]\naddress = \"127.0.0.1:0\"\n";

pub fn open(town: &Town) -> (House, FakeProvider, Tenant) {
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(town).control(None).more(RETURNS).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    house.ask("POST", &shop.at("domains"), &shop.key, &json!({ "name": "shop.test" }));
    house.operate("POST", &shop.at("domains/shop.test/verification"), &Value::Null);
    (house, provider, shop)
}

/// What a reporter is answered.
pub fn back(house: &House, from: &str, to: &str, octets: &[u8]) -> u16 {
    let mut smtp = Smtp::open(house.door("taking back what comes back"));
    smtp.send(from, &[to], octets).unwrap().code
}

pub fn dsn(recipient: &str, status: &str, said: &str) -> Vec<u8> {
    format!(
        "From: MAILER-DAEMON@mail.test\r\nSubject: Undelivered\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\n\r\nIt did not work.\r\n\
         --b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.mail.test\r\n\r\n\
         Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\nStatus: {status}\r\nDiagnostic-Code: smtp; {said}\r\n\r\n--b--\r\n"
    )
    .into_bytes()
}

pub fn complaint(original: &[u8]) -> Vec<u8> {
    let head = "From: feedback@mail.test\r\nSubject: complaint\r\nMIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n--b\r\n\r\nSomebody complains.\r\n\
         --b\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nUser-Agent: x\r\nVersion: 1\r\n\r\n\
         --b\r\nContent-Type: message/rfc822\r\n\r\n";
    [head.as_bytes(), original, b"\r\n--b--\r\n"].concat()
}

fn kinds(recipient: &Value) -> Vec<String> {
    recipient["events"].as_array().unwrap().iter().map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

pub fn wait_listed(house: &House, shop: &Tenant, entry: &str) -> Value {
    until(&format!("{entry} is listed"), || {
        let path = format!("/api/v1{}", shop.at(&format!("suppressions/{entry}")));
        let answer = house.call("GET", &path, &shop.key, &Value::Null);
        (answer.status == 200).then(|| answer.json())
    })
}

// F4, R5.4, R5.5: a bounce after a 250 is one, however often it comes, also over a kill; and who bounces is written to no more.
#[test]
fn a_bounce_that_comes_late_is_heard_once() {
    let _others = among_others();
    let town = Town::new();
    let (mut house, provider, shop) = open(&town);
    let id = house.send(&shop.key, "bob@mail.test", json!({}));
    house.wait_state(&id, "delivered");
    let path = provider.wait_for_one_to("bob@mail.test").from;
    assert!(path.ends_with("@back.weir.test"), "{path}");
    let report = dsn("bob@mail.test", "5.1.1", "550 5.1.1 No such user");
    assert_eq!(back(&house, "", &path, &report), 250);
    // Acknowledged is durable, and the same said again changes nothing.
    house.kill();
    house.start();
    assert_eq!(back(&house, "", &path, &report), 250);
    assert_eq!(back(&house, "", &path, &dsn("bob@mail.test", "4.2.2", "452 4.2.2 full")), 250);
    let recipient = house.recipient(&id);
    assert_eq!(recipient["state"], "returned", "{recipient}");
    assert_eq!(kinds(&recipient).iter().filter(|kind| *kind == "returned").count(), 1, "{recipient}");
    let told = house.weir_as(&shop.key, &["explain", &id]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("No such user"), "{told:?}");
    let entry = wait_listed(&house, &shop, "bob@mail.test");
    assert_eq!((&entry["reason"], &entry["message"]), (&json!("bounce"), &json!(id)));
}

// R5.4: a complaint is matched by the token in the message it brings back, whatever was blacked out; and what a program answers counts.
#[test]
fn a_complaint_finds_its_message() {
    let _others = among_others();
    let town = Town::new();
    let (house, provider, shop) = open(&town);
    let id = house.send(&shop.key, "bob@mail.test", json!({}));
    house.wait_state(&id, "delivered");
    let received = provider.wait_for_one_to("bob@mail.test");
    let answer = b"From: bob@mail.test\r\nAuto-Submitted: auto-replied\r\nSubject: Away\r\n\r\nI am away.\r\n";
    assert_eq!(back(&house, "bob@mail.test", &received.from, answer), 250);
    let redacted = received.text().replace("bob@", "xxx@");
    assert_eq!(back(&house, "fbl@mail.test", "feedback@back.weir.test", &complaint(redacted.as_bytes())), 250);
    let recipient = house.recipient(&id);
    let told = kinds(&recipient);
    assert!(told.contains(&"complained".to_owned()) && told.contains(&"answered".to_owned()), "{recipient}");
    assert_eq!(recipient["state"], "delivered", "who complains has got it");
    assert_eq!(wait_listed(&house, &shop, "bob@mail.test")["reason"], "complaint");
}

// F1, F2: forged, of another message, at an address that is none: nothing changes, and the operator can look at it.
#[test]
fn what_is_not_true_changes_nothing_and_is_kept() {
    let _others = among_others();
    let town = Town::new();
    let (house, provider, shop) = open(&town);
    let other = house.tenant("other", "standard");
    let (id, theirs) =
        (house.send(&shop.key, "bob@mail.test", json!({})), house.send(&other.key, "cy@mail.test", json!({})));
    for id in [&id, &theirs] {
        house.wait_state(id, "delivered");
    }
    let path = provider.wait_for_one_to("bob@mail.test").from;
    let of_theirs = provider.wait_for_one_to("cy@mail.test");
    let report = dsn("bob@mail.test", "5.1.1", "550 5.1.1 No such user");
    let altered = format!("{}0{}", &path[..10], &path[11..]);
    let altered = if altered == path { format!("{}1{}", &path[..10], &path[11..]) } else { altered };
    assert_eq!(back(&house, "", &altered, &report), 250);
    // A report that brings back another's message.
    assert_eq!(back(&house, "", &path, &complaint(&of_theirs.octets)), 250);
    // Nothing a program can read, with parts in parts in parts.
    let deep: String =
        (0..200).map(|at| format!("Content-Type: multipart/mixed; boundary=b{at}\r\n\r\n--b{at}\r\n")).collect();
    assert_eq!(back(&house, "", &path, deep.as_bytes()), 250);
    assert_eq!(back(&house, "x@y.test", "feedback@back.weir.test", b"Subject: hello\r\n\r\nWho are you?\r\n"), 250);
    let mut smtp = Smtp::open(house.door("taking back what comes back"));
    assert_eq!(smtp.say("MAIL FROM:<>").unwrap().code, 250);
    assert_eq!(smtp.say("RCPT TO:<ann@back.weir.test>").unwrap().code, 550);
    assert_eq!(smtp.say("RCPT TO:<ann@shop.test>").unwrap().code, 550);
    for (id, count) in [(&id, 2), (&theirs, 2)] {
        assert_eq!(kinds(&house.recipient(id)).len(), count, "{}", house.recipient(id));
    }
    let kept = house.operate("GET", "/unmatched", &Value::Null);
    let causes: Vec<&str> = kept["items"].as_array().unwrap().iter().filter_map(|one| one["cause"].as_str()).collect();
    assert_eq!(causes, ["unreadable", "unreadable", "foreign", "forged"], "{kept}");
    let first = kept["items"][0]["id"].as_str().unwrap();
    let told = house.weir_as(&house.operator, &["unmatched", "show", first]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("Who are you?"), "{told:?}");
    assert_eq!(house.refused("GET", "/unmatched", &shop.key, &Value::Null).0, 403);
    house.operate("DELETE", &format!("/unmatched/{first}"), &Value::Null);
    assert_eq!(house.operate("GET", "/unmatched", &Value::Null)["items"].as_array().unwrap().len(), 3);
}

// RFC 8058: by one click, and only by a click; of that stream alone.
#[test]
fn a_reader_ends_a_stream_by_one_click() {
    let _others = among_others();
    let town = Town::new();
    let (house, provider, shop) = open(&town);
    let of = |stream: &str| json!({ "from": "ann@shop.test", "unsubscribe": true, "stream": stream });
    let refused =
        house.send_refused(&shop.key, "bob@mail.test", json!({ "from": "ann@shop.test", "unsubscribe": true }));
    assert_eq!(refused.1, "unsubscribe_stream");
    let id = house.send(&shop.key, "bob@mail.test", of("news"));
    let received = provider.wait_for_one_to("bob@mail.test");
    house.wait_state(&id, "delivered");
    let offered = received.header("List-Unsubscribe").unwrap();
    assert_eq!(received.header("List-Unsubscribe-Post").as_deref(), Some("List-Unsubscribe=One-Click"));
    let signature = received.header("DKIM-Signature").unwrap().to_lowercase();
    assert!(
        signature.contains("list-unsubscribe:list-unsubscribe-post") || signature.contains("list-unsubscribe-post"),
        "{signature}"
    );
    let path = offered.split("https://mail.weir.test").nth(1).unwrap().split('>').next().unwrap().to_owned();
    let door = house.door("leading readers on");
    let ask = |method: &str, path: &str| {
        let fields = "Host: mail.weir.test\r\nContent-Type: application/x-www-form-urlencoded\r\n";
        request(door, method, path, fields, b"List-Unsubscribe=One-Click").unwrap()
    };
    let looked_at = ask("GET", &path);
    assert!(
        looked_at.status == 200 && String::from_utf8_lossy(&looked_at.body).contains("<button>"),
        "{}",
        looked_at.head
    );
    let altered = path.chars().enumerate().map(|(at, c)| {
        if at == 25 && c != '0' {
            '0'
        } else if at == 25 {
            '1'
        } else {
            c
        }
    });
    assert_eq!(ask("POST", &altered.collect::<String>()).status, 404);
    assert!(!kinds(&house.recipient(&id)).contains(&"unsubscribed".to_owned()));
    assert_eq!([ask("POST", &path).status, ask("POST", &path).status], [200, 200]);
    assert_eq!(kinds(&house.recipient(&id)).iter().filter(|kind| *kind == "unsubscribed").count(), 1);
    wait_listed(&house, &shop, "bob@mail.test?stream=news");
    let sent = |stream: &str| {
        let mut body = json!({ "from": "ann@shop.test", "to": "bob@mail.test", "text": "x", "stream": stream });
        body["subject"] = json!("Hello");
        house.ask("POST", "/messages", &shop.key, &body).get("suppressed").is_some()
    };
    until("the stream has ended", || sent("news").then_some(()));
    assert!(!sent("letters"), "another stream goes on");
}
