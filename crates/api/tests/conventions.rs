//! What holds for all calls: pages, conditions, idempotency keys, limits, and what is said when there is no database.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use api::rate::Limits;
use axum::http::Method;
use engine::snapshot::Scope;
use serde_json::json;
use support::{House, text};

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let house = House::open().await;
    let (_, key) = house.account("Acme").await;
    for name in ["a", "b", "c", "d", "e"] {
        house.post(&key, "/accounts/self/configuration-sets", json!({ "name": name })).await.as_(201);
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = house.get(&key, &format!("/accounts/self/configuration-sets?limit=2{after}")).await;
        let page = page.as_(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|set| text(&set["name"])));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    house.get(&key, "/accounts/self/configuration-sets?nonsense=1").await.refused(400, "invalid_query");
}

#[tokio::test]
async fn a_change_can_depend_on_what_was_seen() {
    let house = House::open().await;
    let (_, key) = house.account("Acme").await;
    let made = house.post(&key, "/accounts/self/pools", json!({ "name": "news" })).await;
    let (pool, seen) = (text(&made.as_(201)["id"]), made.header("etag").to_owned());
    let place = format!("/accounts/self/pools/{pool}");
    assert!(made.header("location").ends_with(&format!("/pools/{pool}")), "{made:?}");
    assert_eq!(house.get(&key, &place).await.header("etag"), seen);
    let change = |name: &'static str, seen: String| {
        let (house, key, place) = (&house, &key, &place);
        async move {
            let body = Some(json!({ "name": name }));
            house.call(Some(key), Method::PATCH, place, body, &[("if-match", &seen)]).await
        }
    };
    let changed = change("letters", seen.clone()).await;
    assert_ne!((changed.as_(200)["name"].as_str(), changed.header("etag")), (Some("letters"), seen.as_str()));
    // G: two change the same thing; the slower one is told.
    change("mails", seen).await.refused(412, "changed_meanwhile");
    change("mails", "*".to_owned()).await.as_(200);
    // Without a condition, the last one wins.
    house.patch(&key, &place, json!({ "name": "last" })).await.as_(200);
    change("x", "three".to_owned()).await.refused(400, "invalid_header");
    // A misspelt field is named.
    let refused = house.patch(&key, &place, json!({ "nam": "x" })).await;
    assert_eq!(refused.refused(400, "invalid_json")["field"], "nam");
}

// R1.5
#[tokio::test]
async fn a_repeated_call_is_answered_once_more_and_carried_out_once() {
    let house = House::open().await;
    let (account, key) = house.account("Acme").await;
    let call = |key: String, id: &'static str, name: &'static str| {
        let house = &house;
        async move {
            let body = Some(json!({ "name": name, "scopes": ["read"] }));
            let headers = [("idempotency-key", id)];
            house.call(Some(&key), Method::POST, "/accounts/self/credentials", body, &headers).await
        }
    };
    let first = call(key.clone(), "k1", "one").await;
    let secret = text(&first.as_(201)["key"]);
    let again = call(key.clone(), "k1", "one").await;
    // The secret too: whoever lost the answer has lost nothing.
    assert_eq!((text(&again.as_(201)["key"]), again.header("idempotent-replayed")), (secret, "true"));
    assert_eq!((again.header("location"), again.header("etag")), (first.header("location"), first.header("etag")));
    assert_eq!(first.header("idempotent-replayed"), "");
    call(key.clone(), "k1", "two").await.refused(409, "idempotency_key_reused");
    let listed = house.get(&key, "/accounts/self/credentials").await;
    assert_eq!(listed.as_(200)["items"].as_array().unwrap().len(), 2);
    // Another's key of the same name is another key.
    let other = house.key(Some(&account), &[Scope::Read, Scope::Manage]).await;
    assert_eq!(call(other, "k1", "one").await.as_(201)["credential"]["name"], "one");
    // A refusal changed nothing: mended, the call may use the same key.
    let body = |scopes: &str| Some(json!({ "name": "x", "scopes": [scopes] }));
    let headers = [("idempotency-key", "k2")];
    let place = "/accounts/self/credentials";
    house.call(Some(&key), Method::POST, place, body("fly"), &headers).await.refused(400, "invalid_json");
    house.call(Some(&key), Method::POST, place, body("send"), &headers).await.as_(201);
    let invalid = house.call(Some(&key), Method::POST, place, body("send"), &[("idempotency-key", "")]).await;
    invalid.refused(400, "idempotency_key_invalid");
}

#[tokio::test]
async fn who_calls_too_often_waits_and_nobody_else() {
    let house = House::open_with(Limits { burst: 3, per_second: 1 }, true).await;
    let (_, key) = house.account("Acme").await;
    let (_, other) = house.account("Bolt").await;
    for left in ["2", "1", "0"] {
        let told = house.get(&key, "/regions").await;
        told.as_(200);
        assert!(told.header("ratelimit").starts_with(&format!("\"calls\";r={left};")), "{told:?}");
        assert_eq!(told.header("ratelimit-policy"), "\"calls\";q=3;w=3");
    }
    let told = house.get(&key, "/regions").await;
    told.refused(429, "too_many_requests");
    assert_eq!(told.header("retry-after"), "1");
    house.get(&other, "/regions").await.as_(200);
    // Submissions have quotas of their own.
    let message = json!({ "from": "a@acme.test", "to": "b@else.test", "text": "x" });
    house.post(&key, "/messages", message).await.refused(403, "sender_not_verified");
}

#[tokio::test]
async fn a_house_without_an_office_says_so() {
    let house = House::open_with(Limits::default(), false).await;
    let told = house.get(&house.operator, "/accounts").await;
    assert!(told.refused(404, "no_control_plane")["mend"].as_str().is_some_and(|mend| !mend.is_empty()));
    let sign_in = json!({ "email": "a@b.test", "password": "x" });
    house.call(None, Method::POST, "/sessions", Some(sign_in), &[]).await.refused(404, "no_control_plane");
}

#[tokio::test]
async fn without_its_database_the_office_says_when_to_try_again() {
    let house = House::open().await;
    house.office.store().close().await;
    let told = house.get(&house.operator, "/accounts").await;
    told.refused(503, "database_unavailable");
    assert_eq!(told.header("retry-after"), "30");
    // Keys are known all the same.
    house.get("weir_key_none", "/accounts").await.refused(401, "key_unknown");
    house.get(&house.operator, "/queue").await.as_(200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let house = House::open().await;
    let body = json!({ "name": "x".repeat(70_000) });
    house.post(&house.operator, "/accounts", body.clone()).await.refused(413, "body_unreadable");
    let headers = [("idempotency-key", "k")];
    let told = house.call(Some(&house.operator), Method::POST, "/accounts", Some(body), &headers).await;
    told.refused(413, "body_unreadable");
}
