//! Does every way of saying it lead to the pool that the rules name, and never quietly to another?

use crate::support::tenants::with_pool;
use crate::support::{House, Manner, Message, Plan, Town, among_others};
use serde_json::{Value, json};
use std::net::IpAddr;

fn rule(house: &House, id: &str) -> (String, String) {
    let route = house.explain(id)["route"].clone();
    let text = |name: &str| route[name].as_str().unwrap_or_else(|| panic!("{route}")).to_owned();
    (text("rule"), text("ip"))
}

fn expect(house: &House, id: &str, expected: &str, ip: IpAddr) {
    assert_eq!(rule(house, id), (expected.to_owned(), ip.to_string()), "{}", house.explain(id));
    house.wait_state(id, "delivered");
}

// R1.3, R2.1, R2.2, R2.5: message before set before subaccount before default before shared, by HTTP and SMTP.
#[test]
fn the_first_rule_that_applies_picks_the_pool() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    let login = house.login(&shop);

    let id = house.send(&shop.key, "shared@mail.test", json!({}));
    expect(&house, &id, "shared", town.source(0));

    house.grant(&shop, &[town.source(1)], None);
    let id = house.send(&shop.key, "default@mail.test", json!({}));
    expect(&house, &id, "account-default", town.source(1));

    let news = house.new_pool(&shop, "news");
    house.grant(&shop, &[town.source(2)], Some("news"));
    for named in ["news", news.as_str()] {
        let id = house.send(&shop.key, "named@mail.test", json!({ "pool": named }));
        expect(&house, &id, "named-on-message", town.source(2));
        let id = house.smtp_as(&login).take("ann@shop.test", &["header@mail.test"], &with_pool(named));
        expect(&house, &id, "named-on-message", town.source(2));
    }
    let received = provider.to("header@mail.test");
    assert!(received.iter().all(|message| !message.text().contains("X-MSYS")), "{}", received[0].text());

    house.ask("POST", &shop.at("configuration-sets"), &shop.key, &json!({ "name": "letters", "pool": "news" }));
    let id = house.send(&shop.key, "set@mail.test", json!({ "configuration_set": "letters" }));
    expect(&house, &id, "configuration-set", town.source(2));
    let octets = Message::new("set").field("X-SES-CONFIGURATION-SET: letters").body("Hello.");
    let id = house.smtp_as(&login).take("ann@shop.test", &["set@mail.test"], &octets);
    expect(&house, &id, "configuration-set", town.source(2));

    // R2.5: a part with a pool of its own uses it without naming it.
    house.new_pool(&shop, "part");
    house.grant(&shop, &[town.source(3)], Some("part"));
    house.ask("POST", &shop.at("subaccounts"), &shop.key, &json!({ "name": "blog", "pool": "part" }));
    let key = house.key(&shop.id, json!({ "name": "blog", "scopes": ["send"], "subaccount": "blog" }));
    let key = key["key"].as_str().unwrap();
    let id = house.send(key, "part@mail.test", json!({}));
    expect(&house, &id, "subaccount", town.source(3));
    let id = house.send(key, "part@mail.test", json!({ "pool": "news" }));
    expect(&house, &id, "named-on-message", town.source(2));

    // R2.2: an error, never another pool.
    house.new_pool(&shop, "empty");
    let other = house.tenant("other", "standard");
    let theirs = house.new_pool(&other, "theirs");
    house.grant(&other, &[town.source(4)], Some("theirs"));
    let taken = provider.count();
    for (pool, code) in [
        ("nothing", "pool_unknown"),
        ("empty", "pool_empty"),
        ("theirs", "pool_unknown"),
        (theirs.as_str(), "pool_unknown"),
    ] {
        let (status, told) = house.send_refused(&shop.key, "no@mail.test", json!({ "pool": pool }));
        assert!((400..500).contains(&status), "{pool}: {status}");
        assert_eq!(told, code, "{pool}");
        let answer = house.smtp_as(&login).send("ann@shop.test", &["no@mail.test"], &with_pool(pool)).unwrap();
        assert!(answer.code >= 550, "{pool}: {answer:?}");
    }
    house.ask("POST", &shop.at("configuration-sets"), &shop.key, &json!({ "name": "hollow", "pool": "empty" }));
    assert_eq!(house.send_refused(&shop.key, "no@mail.test", json!({ "configuration_set": "hollow" })).1, "pool_empty");
    assert_eq!(provider.count(), taken);
    house.wait_queue_empty();
}

// R2.1: no shared fallback.
#[test]
fn an_enterprise_account_without_ips_is_refused_at_submission() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let large = house.tenant("large", "enterprise");
    let login = house.login(&large);
    assert_eq!(house.send_refused(&large.key, "b@mail.test", json!({})), (403, "no_dedicated_ip".to_owned()));
    let refused = house.smtp_as(&login).send("a@large.test", &["b@mail.test"], &Message::plain("no")).unwrap();
    assert!(refused.code >= 550, "{refused:?}");
    assert_eq!(house.queued(), 0);

    house.grant(&large, &[town.source(1)], None);
    let id = house.send(&large.key, "b@mail.test", json!({}));
    expect(&house, &id, "account-default", town.source(1));
    assert_eq!(provider.count(), 1);
    let seen = house.ask("GET", &format!("/messages/{id}"), &large.key, &Value::Null);
    assert_eq!(seen["route"]["candidates"], json!([town.source(1).to_string()]));
}
