//! What the archive holds is told to who may see it, and no more of it than that.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::archive::{Told, ToldEvent};
use engine::envelope::{Addresses, Envelope, PoolRule, Recipient, Route, TlsWish, Wish};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, MessageId, PoolId, RegionId, StreamId};
use engine::why::Why;
use mail::address::Domain;
use mail::reply::Reply;
use mta::record::{Entry, write_entries};
use serde_json::json;
use std::net::IpAddr;
use support::{House, text};

const MESSAGE: MessageId = MessageId(0x019a_8f6e_5d7c_7b3e_9f1a_2b3c_4d5e_6f70);

/// A message that went out through a managed pool long ago; the remote repeats our address.
async fn keep_a_story(house: &House, account: &str) {
    let now = house.office.now();
    let ip: IpAddr = "203.0.113.7".parse().unwrap();
    let route = Route {
        pool: PoolId::new("pool_m"),
        name: "arranged".into(),
        addresses: Addresses::Hidden,
        rule: PoolRule::AccountDefault,
        candidates: vec![ip, "203.0.113.8".parse().unwrap()],
        chosen: ip,
    };
    let envelope = Envelope {
        message: MESSAGE,
        account: AccountId::new(account),
        stream: StreamId::new(""),
        wish: Wish { region: RegionId::new("local"), pool: None, set: None, subaccount: None },
        route: Some(route),
        sender: Some("ann@acme.test".into()),
        sender_domain: None,
        return_path: String::new(),
        recipients: vec![Recipient {
            address: "bob@else.test".into(),
            domain: Domain::parse("else.test").unwrap(),
            notify: None,
            orcpt: None,
        }],
        accepted_at: now,
        due_at: now,
        expires_at: now,
        tls: TlsWish::IfOffered,
        size: 7,
        message_id_header: "<7@acme.test>".into(),
        tags: vec![("campaign".into(), "spring".into())],
        envid: None,
        ret: None,
        smtputf8: false,
        once: None,
    };
    let accepted = Entry::of_acceptance(&envelope);
    let deferred = Event {
        message: Some(MESSAGE),
        account: Some(envelope.account.clone()),
        pool: Some(PoolId::new("pool_m")),
        recipient: Some(0),
        ip: Some(ip),
        reply: Some(Reply::new(421, (4, 7, 0), "203.0.113.7 is too fast; so is 203.0.113.8")),
        why: Some(Why::IpBenched { ip, said: "421 203.0.113.7".into() }),
        ..Event::new(now, EventKind::Deferred)
    };
    let record = Some(write_entries(MESSAGE, std::slice::from_ref(&accepted)));
    let first = ToldEvent { event: accepted.event, address: None, accepted: accepted.accepted, route: None, record };
    let second = ToldEvent { event: deferred, address: None, accepted: None, route: None, record: None };
    let told = vec![Told { cursor: 1, events: vec![first] }, Told { cursor: 2, events: vec![second] }];
    house.office.archive().take_in("queue", 2, told).await.unwrap();
}

// R2.7: its story outlives the log. R2.8: to its account without an address, in no field and in nobody's words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_story_that_only_the_archive_has_is_told_without_what_is_the_operators() {
    let house = House::open().await;
    let (acme, key) = house.account("Acme").await;
    let (_, stranger) = house.account("Bolt").await;
    house.publish().await;
    keep_a_story(&house, &acme).await;
    let path = format!("/messages/{MESSAGE}");
    let told = house.get(&key, &path).await;
    let story = told.as_(200);
    assert_eq!(
        (&story["account"], &story["message_id"], &story["size"]),
        (&json!(acme), &json!("<7@acme.test>"), &json!(7))
    );
    let events = story["recipients"][0]["events"].as_array().unwrap();
    assert_eq!(events.iter().map(|event| text(&event["kind"])).collect::<Vec<_>>(), ["accepted", "deferred"]);
    assert!(!told.text.contains("203.0.113."), "{}", told.text);
    house.get(&stranger, &path).await.as_(404);

    let found = house.get(&key, "/events?tag=campaign%3Dspring").await;
    let items = found.as_(200)["items"].as_array().unwrap().clone();
    assert_eq!(items.len(), 2);
    assert_eq!((&items[0]["pool"], &items[1]["message_id"]), (&json!("arranged"), &json!("<7@acme.test>")));
    assert!(!found.text.contains("203.0.113.") && found.text.contains("(hidden)"), "{}", found.text);
    assert_eq!(house.get(&key, "/events?ip=203.0.113.7").await.as_(200)["items"], json!([]));
    let by_operator = house.get(&house.operator, "/events?ip=203.0.113.7").await;
    assert_eq!(by_operator.as_(200)["items"].as_array().unwrap().len(), 2);
    assert!(house.get(&house.operator, &path).await.text.contains("203.0.113.8"));
    assert_eq!(house.get(&stranger, "/events").await.as_(200)["items"], json!([]));
}

// R6.1, R6.2: what is asked wrongly is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_asked_is_named() {
    let house = House::open().await;
    let (_, key) = house.account("Acme").await;
    house.publish().await;
    for (path, field) in [
        ("/events?kind=accepted,nonsense", "kind"),
        ("/events?message=7", "message"),
        ("/events?after=x", "after"),
        ("/statistics?by=weather", "by"),
    ] {
        assert_eq!(house.get(&key, path).await.as_(400)["field"], field, "{path}");
    }
    for path in ["/events?nonsense=1", "/events?ip=x", "/statistics?resolution=year", "/events?from=yesterday"] {
        assert_eq!(house.get(&key, path).await.as_(400)["code"], "invalid_query", "{path}");
    }
    for body in [
        json!({ "name": "w", "target": "ftp://a.test/" }),
        json!({ "name": "w", "target": "https://ann@a.test/" }),
        json!({ "name": "w", "target": "https://a.test/", "kinds": ["nonsense"] }),
        json!({ "name": "w", "target": "https://a.test/", "events_max": 0 }),
        json!({ "name": "w", "target": "https://a.test/", "wait_ms": 60_001 }),
    ] {
        house.post(&key, "/accounts/self/webhooks", body).await.as_(400);
    }
    let made = house.post(&key, "/accounts/self/webhooks", json!({ "name": "w", "target": "https://a.test/" })).await;
    let made = made.as_(201).clone();
    assert!(text(&made["secret"]).starts_with("whsec_"));
    house.post(&key, "/accounts/self/webhooks", json!({ "name": "w", "target": "https://b.test/" })).await.as_(409);
    let shown = house.get(&key, "/accounts/self/webhooks/w").await;
    assert!(shown.as_(200)["secret"].is_null() && !shown.text.contains("whsec_"), "{}", shown.text);
    let future = json!({ "from": "2099-01-01T00:00:00Z" });
    house.post(&key, "/accounts/self/webhooks/w/replay", future).await.as_(400);
}
