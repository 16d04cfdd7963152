//! Is a secret worth nothing from the moment it is taken back, and something from the moment it is given?

use crate::support::tenants::Login;
use crate::support::{House, Manner, Message, Plan, Smtp, Town, among_others, until};
use engine::time::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn house(town: &Town) -> House {
    let house = Plan::new(town).control(None).open();
    house.share(&[town.source(0)]);
    house
}

fn body() -> Value {
    json!({ "from": "ann@shop.test", "to": "bob@mail.test", "text": "x" })
}

/// The first refusal over HTTP.
fn wait_http_refuses(house: &House, key: &str) -> (u16, String) {
    until("the key is refused", || {
        let answer = house.call("POST", "/api/v1/messages", key, &body());
        let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
        (answer.status != 200).then_some((answer.status, code))
    })
}

/// The first refusal in a session that is open.
fn wait_session_refuses(smtp: &mut Smtp) -> u16 {
    until("the session is refused", || {
        let code = smtp.say("MAIL FROM:<ann@shop.test>").unwrap().code;
        if code == 250 {
            smtp.expect("RSET", 250);
        }
        (code != 250).then_some(code)
    })
}

// A new one works at once: its call is answered when the data plane knows it.
#[test]
fn a_new_key_is_good_when_its_call_is_answered() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = house(&town);
    let shop = house.tenant("shop", "standard");
    for number in 0..20 {
        let key = house.key(&shop.id, json!({ "name": format!("k{number}"), "scopes": ["send"] }));
        house.send(key["key"].as_str().unwrap(), "bob@mail.test", json!({}));
        let login = house.login(&shop);
        house.smtp_as(&login).take("ann@shop.test", &["bob@mail.test"], &Message::plain("at once"));
    }
}

#[test]
fn a_revoked_key_stops_also_in_an_open_session() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = house(&town);
    let shop = house.tenant("shop", "standard");
    let key = house.key(&shop.id, json!({ "name": "k", "scopes": ["send"] }));
    let (id, key) = (key["credential"]["id"].as_str().unwrap(), key["key"].as_str().unwrap());
    let login = house.login(&shop);
    let mut open = house.smtp_as(&login);
    open.take("ann@shop.test", &["bob@mail.test"], &Message::plain("before"));
    house.send(key, "bob@mail.test", json!({}));
    for id in [id, &login.id] {
        house.ask("DELETE", &shop.at(&format!("credentials/{id}")), &shop.key, &Value::Null);
    }
    assert_eq!(wait_http_refuses(&house, key), (401, "key_unknown".to_owned()));
    assert_eq!(wait_session_refuses(&mut open), 535);
    house.smtp().expect(&login.sign_in(), 535);
    house.send(&shop.key, "bob@mail.test", json!({}));
}

#[test]
fn a_key_stops_at_its_end() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = house(&town);
    let shop = house.tenant("shop", "standard");
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(4);
    let end = Timestamp(i64::try_from(end.as_micros()).unwrap()).to_string();
    let key = house.key(&shop.id, json!({ "name": "k", "scopes": ["send"], "expires_at": end }));
    let login =
        Login::of(&house.key(&shop.id, json!({ "name": "m", "kind": "smtp", "scopes": ["send"], "expires_at": end })));
    let mut open = house.smtp_as(&login);
    open.expect("MAIL FROM:<ann@shop.test>", 250);
    open.expect("RSET", 250);
    assert_eq!(wait_http_refuses(&house, key["key"].as_str().unwrap()), (401, "credential_expired".to_owned()));
    assert_eq!(wait_session_refuses(&mut open), 535);
}

// And what it had handed in before goes on; taken up again, it sends again.
#[test]
fn a_paused_account_sends_nothing_and_reads_why() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = house(&town);
    let shop = house.tenant("shop", "standard");
    let mut open = house.smtp_as(&house.login(&shop));
    open.take("ann@shop.test", &["bob@mail.test"], &Message::plain("before"));
    let path = format!("/accounts/{}", shop.id);
    let reason = "complaints over 0.5 %";
    house.operate("PATCH", &path, &json!({ "standing": "paused", "standing_reason": reason }));
    assert_eq!(wait_http_refuses(&house, &shop.key), (403, "account_paused".to_owned()));
    assert_eq!(wait_session_refuses(&mut open), 550);
    let words = open.say("MAIL FROM:<ann@shop.test>").unwrap();
    assert!(words.text.contains(reason), "{words:?}");
    house.operate("PATCH", &path, &json!({ "standing": "production" }));
    until("it sends again", || (open.say("MAIL FROM:<ann@shop.test>").unwrap().code == 250).then_some(()));
}

// The new password is good at once; the old one is until its overlap is over.
#[test]
fn an_old_password_stops_when_its_overlap_is_over() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = house(&town);
    let shop = house.tenant("shop", "standard");
    let old = house.login(&shop);
    let mut open = house.smtp_as(&old);
    let path = shop.at(&format!("credentials/{}/rotation", old.id));
    let new = Login::of(&house.ask("POST", &path, &shop.key, &json!({ "overlap_s": 0 })));
    assert_eq!(wait_session_refuses(&mut open), 535);
    house.smtp().expect(&old.sign_in(), 535);
    house.smtp_as(&new).take("ann@shop.test", &["bob@mail.test"], &Message::plain("new"));

    let newer = Login::of(&house.ask("POST", &path, &shop.key, &json!({ "overlap_s": 3_600 })));
    for login in [&new, &newer] {
        house.smtp_as(login).take("ann@shop.test", &["bob@mail.test"], &Message::plain("both"));
    }
}
