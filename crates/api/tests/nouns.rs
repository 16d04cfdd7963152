//! Each noun of the control plane: made, seen, changed, refused, over HTTP.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use axum::http::Method;
use serde_json::json;
use support::{House, text};

// R9.2, R3.4, R2.6, R3.5: from nothing to a message that leaves from a leased IP, and back.
#[tokio::test]
async fn an_account_gets_ips_sends_from_them_and_gives_them_back() {
    let house = House::open().await;
    let op = house.operator.clone();
    let made = house.post(&op, "/accounts", json!({ "name": "Acme", "standing": "production" })).await;
    let account = text(&made.as_(201)["id"]);
    assert_eq!(made.header("location"), format!("/api/v1/accounts/{account}"));
    house.post(&op, "/accounts", json!({ "name": "Acme" })).await.refused(409, "name_taken");
    let key = house
        .post(&op, "/accounts/Acme/credentials", json!({ "name": "k", "scopes": ["send", "read", "manage"] }))
        .await;
    let key = text(&key.as_(201)["key"]);
    house.publish().await;
    assert_eq!(house.get(&key, "/accounts/self").await.as_(200)["name"], "Acme");
    assert_eq!(house.get(&key, "/me").await.as_(200)["account"], json!(account));
    house.get(&op, "/accounts/self").await.refused(404, "not_found");

    house.post(&op, "/ips", json!({ "addresses": ["203.0.113.0/30"] })).await.as_(201);
    let unchecked = house.post(&key, "/accounts/self/leases", json!({ "quantity": 1 })).await;
    assert_eq!(unchecked.refused(409, "too_few_ips")["rule"], "R3.7");
    house.put(&op, "/settings/checks_required", json!({ "value": 0 })).await.as_(200);
    let leased = house.post(&key, "/accounts/self/leases", json!({ "quantity": 2, "new_pool": "news" })).await;
    let (pool, ip) = (text(&leased.as_(201)["pool"]["id"]), text(&leased.body["leases"][0]["ip"]));
    let most = house.post(&key, "/accounts/self/leases", json!({ "quantity": 3 })).await;
    assert_eq!(most.refused(409, "dedicated_ips_max")["field"], "quantity");

    house.post(&key, "/accounts/self/domains", json!({ "name": "acme.test" })).await.as_(201);
    let records = house.get(&key, "/accounts/self/domains/acme.test/records").await;
    assert!(records.as_(200)["items"].as_array().unwrap().len() >= 3);
    house.post(&key, "/accounts/self/domains/acme.test/verification", json!({})).await.refused(403, "operator_only");
    house.post(&op, &format!("/accounts/{account}/domains/acme.test/verification"), json!({})).await.as_(200);
    house.publish().await;
    let message =
        json!({ "from": "ann@acme.test", "to": "bob@else.test", "subject": "Hi", "text": "x", "pool": "news" });
    let sent = text(&house.post(&key, "/messages", message).await.as_(200)["id"]);
    let story = house.get(&key, &format!("/messages/{sent}")).await;
    assert_eq!(story.as_(200)["route"]["pool_id"], json!(pool));

    let moved = house.post(&key, "/accounts/self/pools/default/ips", json!({ "ip": ip })).await;
    assert_eq!(moved.as_(200)["ips"], json!([ip]));
    let held = house.delete(&key, &format!("/accounts/self/pools/{pool}")).await;
    assert_eq!(held.refused(409, "pool_has_ips")["field"], "move_ips_to");
    house.delete(&key, &format!("/accounts/self/pools/{pool}?move_ips_to=default")).await.as_(204);

    let asked = house.post(&key, "/accounts/self/releases", json!({ "ips": [ip] })).await;
    let (release, token) = (text(&asked.as_(202)["id"]), text(&asked.body["token"]));
    let place = format!("/accounts/self/releases/{release}/confirmation");
    house.post(&key, &place, json!({ "token": "no" })).await.refused(400, "invalid_field");
    let ended = house.post(&key, &place, json!({ "token": token })).await;
    assert!(ended.as_(200)["items"][0]["ended_at"].is_string());
    assert_eq!(
        house.get(&key, "/accounts/self/leases?running=true").await.as_(200)["items"].as_array().unwrap().len(),
        1
    );
    assert_eq!(house.get(&op, &format!("/ips/{ip}")).await.as_(200)["state"], "draining");
    let story = house.get(&op, &format!("/ips/{ip}/story")).await;
    assert_eq!(story.as_(200)["steps"].as_array().unwrap().last().unwrap()["state"], "draining");
    // R7.6
    let log = house.get(&key, "/audit?limit=1").await;
    assert_eq!(log.as_(200)["items"][0]["account"], json!(account));
}

// R6.3: a day of a thousand IPs is more than other bodies hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operator_takes_in_what_providers_say() {
    let house = House::open().await;
    let op = house.operator.clone();
    house.ips("192.0.2.0/29").await;
    let line = |n: u32, verdict: &str| {
        let ip = format!("192.0.{}.{}", 2 + n / 250, 1 + n % 250);
        format!(
            "{ip},1/14/2026 1:00 AM,1/14/2026 11:00 PM,9000,9000,8000,{verdict},< 0.1%,,,0,mx.example.com,news@example.com,\r\n"
        )
    };
    let feed: String = (0..1_000).map(|n| line(n, "GREEN")).collect();
    assert!(feed.len() > 64 << 10);
    let taken = house.post(&op, "/signals", json!({ "kind": "snds", "text": feed })).await;
    assert_eq!(taken.as_(200)["put"], 1_000);
    let found = house.get(&op, "/signals?of=192.0.2.1").await;
    let first = &found.as_(200)["items"][0];
    assert_eq!(
        (&first["verdict"], &first["complaints"]["below"], &first["date"]),
        (&json!("green"), &json!(true), &json!("2026-01-14"))
    );
    let broken = json!({ "kind": "snds", "text": line(0, "GREEN") + &line(1, "BLUE") });
    house.post(&op, "/signals", broken).await.refused(400, "signal_unreadable");
    let (_, key) = house.account("Acme").await;
    house.get(&key, "/signals").await.refused(403, "operator_only");
}

#[tokio::test]
async fn the_operator_arranges_regions_settings_ips_and_accounts() {
    let house = House::open().await;
    let op = house.operator.clone();
    house.post(&op, "/regions", json!({ "region": "eu" })).await.as_(201);
    house.post(&op, "/regions", json!({ "region": "eu" })).await.refused(409, "name_taken");
    house.post(&op, "/regions", json!({ "region": "No Such" })).await.refused(400, "invalid_field");
    house.get(&op, "/regions/eu").await.as_(200);
    house.get(&op, "/regions/us").await.refused(404, "not_found");
    assert_eq!(house.get(&op, "/settings").await.as_(200)["items"][0]["name"], "dedicated_ips_max");
    house.put(&op, "/settings/rest_days", json!({ "value": 3 })).await.as_(200);
    assert_eq!(house.get(&op, "/settings/rest_days").await.as_(200)["value"], 3);
    house.put(&op, "/settings/rest_days", json!({ "value": -1 })).await.refused(400, "invalid_field");
    house.put(&op, "/settings/none", json!({ "value": 1 })).await.refused(404, "not_found");

    house.post(&op, "/shared-pools", json!({ "name": "second", "region": "eu" })).await.as_(201);
    assert_eq!(house.get(&op, "/shared-pools").await.as_(200)["items"].as_array().unwrap().len(), 3);
    let new = json!({ "addresses": ["203.0.113.9"], "region": "eu", "ehlo": "mta-{ip}.weir.test", "hop": "socks5 192.0.2.1:1080" });
    let added = house.post(&op, "/ips", new).await;
    assert_eq!(added.as_(201)["items"][0]["wiring"]["hop"], "socks5 192.0.2.1:1080");
    house
        .post(&op, "/ips", json!({ "addresses": ["203.0.113.10"], "hop": "pigeon" }))
        .await
        .refused(400, "invalid_field");
    house.post(&op, "/ips", json!({ "addresses": ["203.0.113.9"] })).await.refused(409, "ip_taken");
    let shared = house.post(&op, "/ips/203.0.113.9/orders", json!({ "order": "share", "pool": "second" })).await;
    assert_eq!(shared.as_(200)["state"], "shared");
    let order = json!({ "order": "out-of-rotation" });
    assert_eq!(
        house.post(&op, "/ips/203.0.113.9/orders", order).await.refused(400, "invalid_field")["field"],
        "reason"
    );
    let changed = house.patch(&op, "/ips/203.0.113.9", json!({ "hop": null })).await;
    assert_eq!(changed.as_(200)["wiring"]["hop"], json!(null));
    house.get(&op, "/ips/nonsense").await.refused(404, "not_found");
    // Every machine has loopback; what is in the inventory is not offered once more.
    let is_offered =
        |told: &support::Told| told.as_(200)["items"].as_array().unwrap().iter().any(|ip| ip["address"] == "127.0.0.1");
    assert!(is_offered(&house.get(&op, "/ips/discovered").await));
    house.post(&op, "/ips", json!({ "addresses": ["127.0.0.1"] })).await.as_(201);
    assert!(!is_offered(&house.get(&op, "/ips/discovered").await));
    assert_eq!(house.get(&op, "/ips?state=shared").await.as_(200)["items"].as_array().unwrap().len(), 1);
    assert!(
        !house.post(&op, "/ips/203.0.113.9/checks", json!({})).await.as_(200)["items"].as_array().unwrap().is_empty()
    );

    let (account, key) = house.account("Acme").await;
    let pause = json!({ "standing": "paused" });
    let place = format!("/accounts/{account}");
    assert_eq!(house.patch(&op, &place, pause).await.refused(400, "invalid_field")["field"], "standing_reason");
    let pause = json!({ "standing": "paused", "standing_reason": "the list was bought" });
    assert_eq!(house.patch(&op, &place, pause).await.as_(200)["standing"], "paused");
    house.patch(&key, "/accounts/self", json!({ "plan": "free" })).await.refused(403, "operator_only");
    let quota = json!({ "per_day": 1000, "per_second": 10 });
    house.put(&op, &format!("{place}/quotas/eu"), quota).await.as_(200);
    assert_eq!(house.get(&key, "/accounts/self/quotas").await.as_(200)["items"][0]["per_day"], 1000);
    house.get(&key, "/accounts").await.refused(403, "operator_only");
    let granted = house.post(&op, &format!("{place}/grants"), json!({})).await;
    assert_eq!(granted.refused(400, "invalid_field")["field"], "quantity");
    house.ips("203.0.113.32/31").await;
    let granted = house.post(&op, &format!("{place}/grants"), json!({ "ips": ["203.0.113.33"] })).await;
    assert_eq!(granted.as_(201)["leases"][0]["origin"], "grant");
    assert_eq!(house.get(&key, "/accounts/self/ips").await.as_(200)["items"][0]["wiring"], json!(null));
    assert_eq!(house.get(&op, "/leases?running=true").await.as_(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_account_arranges_its_parts_sets_credentials_and_addresses() {
    let house = House::open().await;
    let (account, key) = house.account("Acme").await;
    let part = text(&house.post(&key, "/accounts/self/subaccounts", json!({ "name": "shop" })).await.as_(201)["id"]);
    let place = format!("/accounts/self/subaccounts/{part}");
    assert_eq!(house.patch(&key, &place, json!({ "sends": false })).await.as_(200)["sends"], false);
    assert_eq!(house.patch(&key, &place, json!({ "pool": "none" })).await.refused(404, "not_found")["field"], "pool");
    let set = json!({ "name": "letters", "tls": "required", "lifetime_s": 50400, "suppression": ["bounce"] });
    house.post(&key, "/accounts/self/configuration-sets", set).await.as_(201);
    let place = "/accounts/self/configuration-sets/letters";
    assert_eq!(house.patch(&key, place, json!({ "lifetime_s": null })).await.as_(200)["lifetime_s"], json!(null));
    house.patch(&key, place, json!({ "lifetime_s": 1 })).await.refused(400, "invalid_field");
    house.delete(&key, place).await.as_(204);
    house.delete(&key, place).await.refused(404, "not_found");

    // A subaccount's credential stands for its part alone.
    let new = json!({ "name": "s", "scopes": ["read"], "subaccount": part, "networks": ["127.0.0.0/8"] });
    let made = house.post(&key, "/accounts/self/credentials", new).await;
    let (id, secret) = (text(&made.as_(201)["credential"]["id"]), text(&made.body["key"]));
    house.publish().await;
    assert_eq!(house.get(&secret, "/me").await.as_(200)["subaccount"], json!(part));
    assert_eq!(house.get(&secret, "/credentials").await.as_(200)["items"].as_array().unwrap().len(), 1);
    house.post(&secret, "/accounts/self/pools", json!({ "name": "x" })).await.refused(403, "scope_missing");
    let place = format!("/accounts/self/credentials/{id}");
    house.patch(&key, &place, json!({ "expires_at": "yesterday" })).await.refused(400, "invalid_json");
    let changed = house.patch(&key, &place, json!({ "expires_at": "2040-01-01T00:00:00Z" })).await;
    assert_eq!(changed.as_(200)["expires_at"], "2040-01-01T00:00:00.000Z");
    let rotated = house.post(&key, &format!("{place}/rotation"), json!({ "overlap_s": 0 })).await;
    let fresh = text(&rotated.as_(200)["key"]);
    house.publish().await;
    house.get(&secret, "/me").await.refused(401, "key_unknown");
    house.get(&fresh, "/me").await.as_(200);
    house.delete(&key, &place).await.as_(204);
    house.publish().await;
    house.get(&fresh, "/me").await.refused(401, "key_unknown");
    house.delete(&key, "/accounts/self/subaccounts/shop").await.as_(204);

    // The token goes by mail to who reads it, and is in no answer.
    house.ips("127.0.0.9").await;
    house.post(&house.operator, "/ips/127.0.0.9/orders", json!({ "order": "share", "pool": "shared" })).await.as_(200);
    house.publish().await;
    let asked = house.post(&key, "/accounts/self/addresses", json!({ "address": "ann@else.test" })).await;
    assert_eq!((asked.as_(201)["state"].as_str(), asked.text.contains("weir_address_")), (Some("pending"), false));
    assert_eq!(house.get(&key, "/queue").await.as_(200)["messages"][0]["domain"], "else.test");
    house
        .post(&key, "/accounts/self/addresses", json!({ "address": "ann@else.test" }))
        .await
        .refused(429, "confirmation_just_asked");
    let token = json!({ "token": "weir_address_none" });
    house
        .call(None, Method::POST, "/address-confirmations", Some(token), &[])
        .await
        .refused(404, "confirmation_unknown");
    let place = format!("/accounts/{account}/addresses/ann@else.test");
    let verified = house.post(&house.operator, &format!("{place}/verification"), json!({})).await;
    assert_eq!(verified.as_(200)["state"], "verified");
    house.delete(&key, &place).await.as_(204);

    let keys =
        house.post(&key, "/accounts/self/domains", json!({ "name": "acme.test", "mail_from": "b.acme.test" })).await;
    keys.as_(201);
    let place = "/accounts/self/domains/acme.test";
    assert_eq!(house.patch(&key, place, json!({ "mail_from": null })).await.as_(200)["mail_from"], json!(null));
    assert_eq!(house.post(&key, &format!("{place}/check"), json!({})).await.as_(200)["state"], "pending");
    assert!(!house.get(&key, &format!("{place}/dkim-keys")).await.as_(200)["items"].as_array().unwrap().is_empty());
    house.delete(&key, place).await.as_(204);
}

#[tokio::test]
async fn people_are_let_in_by_people() {
    let house = House::open().await;
    let (account, key) = house.account("Acme").await;
    let op = house.operator.clone();
    let owner = json!({ "email": "Ann@acme.test", "role": "owner" });
    // A key that leaked must not make itself an owner.
    house.post(&key, "/accounts/self/people", owner.clone()).await.refused(403, "person_only");
    let invited = house.post(&op, &format!("/accounts/{account}/people"), owner).await;
    let (id, link) = (text(&invited.as_(201)["person"]["id"]), text(&invited.body["link"]));
    let open = |path: &'static str, body| house.call(None, Method::POST, path, Some(body), &[]);
    assert_eq!(open("/links", json!({ "link": link })).await.as_(200)["email"], "ann@acme.test");
    let password = "correct horse battery staple";
    open("/links/password", json!({ "link": link, "password": "short" })).await.refused(400, "invalid_field");
    open("/links/password", json!({ "link": link, "password": password })).await.as_(200);
    open("/sessions", json!({ "email": "ann@acme.test", "password": "wrong" })).await.refused(401, "sign_in_refused");
    let signed_in = open("/sessions", json!({ "email": "ann@acme.test", "password": password })).await;
    let token = text(&signed_in.as_(201)["token"]);
    assert_eq!(house.get(&token, "/me").await.as_(200)["person"]["role"], "owner");
    assert_eq!(house.get(&token, "/accounts/self").await.as_(200)["id"], json!(account));
    house.get(&token, "/queue").await.as_(200);
    let viewer = house.post(&token, "/people", json!({ "email": "bob@acme.test", "role": "viewer" })).await;
    let viewer = text(&viewer.as_(201)["person"]["id"]);
    assert_eq!(house.get(&token, "/people").await.as_(200)["items"].as_array().unwrap().len(), 2);
    let place = format!("/people/{viewer}");
    assert_eq!(house.patch(&token, &place, json!({ "role": "developer" })).await.as_(200)["role"], "developer");
    assert!(
        house.post(&token, &format!("{place}/orders"), json!({ "order": "disable" })).await.as_(200)["disabled_at"]
            .is_string()
    );
    house.delete(&token, &place).await.as_(204);
    house.post(&token, "/me/totp/confirmation", json!({ "code": "123456" })).await.refused(409, "totp_not_enrolled");
    assert!(text(&house.post(&token, "/me/totp", json!({})).await.as_(200)["url"]).starts_with("otpauth://"));
    house.post(&token, "/me/totp/confirmation", json!({ "code": "abc" })).await.refused(401, "code_wrong");
    house.post(&key, "/me/totp", json!({})).await.refused(403, "person_only");
    assert_eq!(
        house.get(&token, &format!("/people/{id}/sessions")).await.as_(200)["items"].as_array().unwrap().len(),
        1
    );
    house.delete(&key, "/me/session").await.refused(403, "person_only");
    house.delete(&token, "/me/session").await.as_(204);
    assert_eq!(house.get(&token, "/me").await.as_(401)["status"], 401);
    house.post(&op, &format!("/people/{id}/link"), json!({})).await.as_(200);
}

// R2.8: what is seen of a managed pool by whom.
#[tokio::test]
async fn the_addresses_of_a_managed_pool_are_the_operators() {
    let house = House::open().await;
    let (account, key) = house.account("Acme").await;
    house.ips("203.0.113.2").await;
    let place = format!("/accounts/{account}/pools");
    house.post(&key, &place, json!({ "name": "auto", "kind": "managed" })).await.refused(403, "operator_only");
    let op = house.operator.clone();
    house.post(&op, &place, json!({ "name": "auto", "kind": "managed" })).await.as_(201);
    let grant = json!({ "ips": ["203.0.113.2"], "pool": "auto" });
    house.post(&op, &format!("/accounts/{account}/grants"), grant).await.as_(201);
    for path in
        ["/accounts/self/pools", "/accounts/self/pools/auto", "/accounts/self/ips", "/accounts/self/leases", "/audit"]
    {
        let told = house.get(&key, path).await;
        told.as_(200);
        assert!(!told.text.contains("203.0.113."), "{path}: {}", told.text);
    }
    house.get(&key, "/ips/203.0.113.2").await.refused(404, "not_found");
    assert_eq!(house.get(&op, &format!("{place}/auto")).await.as_(200)["ips"], json!(["203.0.113.2"]));
}

// R7.5: what things cost, and what is owed: said by the operator, seen by who owes it, as page, table and print.
#[tokio::test]
async fn the_operator_says_prices_and_an_account_sees_what_it_owes() {
    let house = House::open().await;
    let op = house.operator.clone();
    house.ips("203.0.113.0/30").await;
    let (account, key) = house.account("Acme").await;
    let price = json!({ "item": "standard", "month": "29.95" });
    house.post(&key, "/prices", price.clone()).await.refused(403, "operator_only");
    assert_eq!(house.post(&op, "/prices", price).await.as_(200)["month"], "29.95");
    for (wrong, field) in [
        (json!({ "item": "standard", "month": "29.955" }), "month"),
        (json!({ "item": "standard", "month": "-1" }), "month"),
        (json!({ "item": "standard" }), "month"),
        (json!({ "item": "standard", "month": "1.00", "from": "2020-01-01" }), "from"),
        (json!({ "item": "standard", "month": "1.00", "from": "soon" }), "from"),
        (json!({ "item": "managed-thousand", "month": "1.00" }), "thousand"),
        (json!({ "item": "standard", "thousand": [{ "up_to": null, "price": "1" }] }), "month"),
        (json!({ "item": "managed-thousand", "thousand": [{ "up_to": 10, "price": "1" }] }), "thousand"),
    ] {
        assert_eq!(house.post(&op, "/prices", wrong).await.refused(400, "invalid_field")["field"], field);
    }
    let steps = json!({ "item": "managed-thousand", "thousand": [{ "up_to": 1000, "price": 1 }, { "up_to": null, "price": "0.0004" }] });
    assert_eq!(house.post(&op, "/prices", steps).await.as_(200)["thousand"][1]["price"], "0.0004");
    let known = house.get(&key, "/prices").await;
    assert!(known.as_(200)["items"].as_array().unwrap().iter().any(|price| price["month"] == "20.00"));

    let grant = json!({ "quantity": 1, "agreed_price": "10.00" });
    house.post(&op, &format!("/accounts/{account}/grants"), grant).await.as_(201);
    house.post(&key, "/accounts/self/leases", json!({ "quantity": 1 })).await.as_(201);
    let forecast = house.get(&key, "/accounts/self/forecast").await;
    let words = forecast.as_(200)["expected_entries"].to_string();
    assert!(words.contains("10.00 (agreed)") && words.contains("Purchased IP"), "{words}");
    let billed = json!({ "name": "Acme Ltd", "address_lines": ["1 Main Street"], "tax_id": null });
    house.put(&key, "/accounts/self/billing", billed).await.as_(200);
    house.get(&key, "/billing").await.refused(403, "operator_only");
    let biller = |currency: &str| json!({ "name": "Weir Ltd", "currency": currency, "tax_id": null, "note": null });
    assert_eq!(house.put(&op, "/billing", biller("Euro")).await.refused(400, "invalid_field")["field"], "currency");
    assert_eq!(house.put(&op, "/billing", biller("EUR")).await.as_(200)["currency"], "EUR");

    // A month that is over, as it is kept.
    let paper = json!({ "biller": { "name": "Weir Ltd", "currency": "EUR" }, "billed": { "name": "<b>Acme</b>" }, "entries": [{
        "item": "standard", "region": "local", "lease": "lease_1", "ip": "203.0.113.1", "first_day": 20_454, "last_day": 20_483,
        "month_days": 30, "micro_cents": 2_495_000_000_i64, "amount_cents": 2_495, "words": "IP in region local",
    }] });
    let mut change = house.office.store().change().await.unwrap();
    let insert = "INSERT INTO invoice (number, id, account, month, total_cents, paper, made_at) \
                  VALUES (1, '2026-000001', $1, 24321, 2495, $2, 1)";
    sqlx::query(insert).bind(account.clone()).bind(paper.to_string()).execute(change.conn()).await.unwrap();
    change.commit().await.unwrap();
    let seen = house.get(&key, "/accounts/self/invoices/2026-000001").await;
    assert_eq!((&seen.as_(200)["total"], &seen.body["entries"][0]["price"]), (&json!("24.95"), &json!("24.95")));
    let page = house.get(&key, "/accounts/self/invoices/2026-000001/page").await;
    assert!(
        page.header("content-type").starts_with("text/html") && page.text.contains("&lt;b&gt;Acme"),
        "{}",
        page.text
    );
    assert!(page.header("content-security-policy").contains("default-src 'none'"));
    let table = house.get(&key, "/accounts/self/invoices/2026-000001/table").await;
    assert!(
        table.header("content-type").starts_with("text/csv") && table.text.contains(",24.95,EUR,"),
        "{}",
        table.text
    );
    let print = house.get(&key, "/accounts/self/invoices/2026-000001/print").await;
    assert!(print.header("content-type") == "application/pdf" && print.text.starts_with("%PDF-1.4"));

    let place = format!("/accounts/{account}/invoices/2026-000001");
    let note = house.post(&op, &format!("{place}/credits"), json!({ "amount": "4.95", "reason": "down" })).await;
    assert_eq!((&note.as_(201)["total"], &note.body["corrects"]), (&json!("-4.95"), &json!("2026-000001")));
    assert_eq!(house.get(&op, "/invoices?open=true").await.as_(200)["items"][0]["due"], "20.00");
    house
        .post(&key, "/accounts/self/invoices/2026-000001/payment", json!({ "reference": "x" }))
        .await
        .refused(403, "operator_only");
    let paid = house.post(&op, &format!("{place}/payment"), json!({ "reference": "ch_1" })).await;
    assert_eq!((&paid.as_(200)["state"], &paid.body["due"]), (&json!("paid"), &json!("0.00")));
    assert_eq!(house.get(&key, "/invoices?month=2026-10").await.as_(200)["items"].as_array().unwrap().len(), 2);
    house.get(&key, "/invoices?month=October").await.refused(400, "invalid_field");
}

// R8.1, R8.3: what an account is advised; and how it tries it.
#[tokio::test]
async fn an_account_is_advised_and_tries_it() {
    let house = House::open().await;
    house.ips("203.0.113.0/30").await;
    let (_, key) = house.account("Acme").await;
    let advised = house.get(&key, "/accounts/self/advice?per_month=150000&steady=true&sensitive=true").await;
    assert_eq!((&advised.as_(200)["way"], &advised.body["costs"][1]["a_month"]), (&json!("one-ip"), &json!("24.95")));
    assert_eq!(advised.body["costs"][1]["a_thousand"], "0.16633333");
    assert!(!advised.body["would_change"].as_array().unwrap().is_empty());
    // Whether what is to come will come evenly, nobody has said.
    let unsaid = house.get(&key, "/accounts/self/advice?per_month=150000").await;
    assert_eq!((&unsaid.as_(200)["way"], &unsaid.body["is_steady"]), (&json!("one-ip"), &json!(null)));
    house.get(&key, "/accounts/self/advice?per_month=many").await.refused(400, "invalid_query");

    house.post(&key, "/accounts/self/leases", json!({ "quantity": 1, "new_pool": "fresh" })).await.as_(201);
    house.post(&key, "/accounts/self/configuration-sets", json!({ "name": "letters" })).await.as_(201);
    let drive = |percent: f64| json!({ "set": "letters", "pool": "fresh", "percent": percent });
    for percent in [0.0, -1.0, 100.5] {
        let refused = house.post(&key, "/accounts/self/test-drives", drive(percent)).await;
        assert_eq!(refused.refused(400, "invalid_field")["field"], "percent");
    }
    let started = house.post(&key, "/accounts/self/test-drives", drive(12.5)).await;
    assert_eq!((&started.as_(201)["percent"], &started.body["state"]), (&json!(12.5), &json!("running")));
    let id = text(&started.body["id"]);
    let report = house.get(&key, "/accounts/self/test-drives/letters").await;
    assert_eq!(
        (&report.as_(200)["verdict"], &report.body["figures"][0]["more_most"]),
        (&json!("too-little"), &json!(100.0))
    );
    assert_eq!(
        (&report.body["figures"][4]["figure"], &report.body["new"]["p50_most_s"]),
        (&json!("late"), &json!(null))
    );
    let place = format!("/accounts/self/test-drives/{id}");
    let changed = house.patch(&key, &place, json!({ "percent_a_day": 10 })).await;
    assert_eq!(changed.as_(200)["percent_a_day"], 10.0);
    let over = house.post(&key, &format!("{place}/orders"), json!({ "order": "end" })).await;
    assert_eq!((&over.as_(200)["state"], over.body["reason"].is_string()), (&json!("ended"), true));
    house.post(&key, &format!("{place}/orders"), json!({ "order": "finish" })).await.refused(409, "drive_over");
}
