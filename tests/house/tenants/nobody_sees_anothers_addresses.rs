//! Can a tenant read of an address that is not its own, wherever it looks?

use crate::support::{House, Manner, Plan, Town, among_others};
use serde_json::{Value, json};
use std::net::IpAddr;

/// Whether the answer to this call names the address, in any field.
fn tells(house: &House, key: &str, method: &str, path: &str, body: &Value, ip: IpAddr) -> bool {
    let answer = house.call(method, &format!("/api/v1{path}"), key, body);
    let (text, ip) = (String::from_utf8_lossy(&answer.body).into_owned(), ip.to_string());
    // As a whole: 127.0.0.20 is not 127.0.0.201.
    let is_part = |octet: Option<&u8>| octet.is_some_and(u8::is_ascii_digit);
    text.match_indices(&ip).any(|(at, _)| !is_part(text.as_bytes().get(at + ip.len())))
}

// R2.8: neither in stories nor queues, previews, lists, single things or the audit log; and by id not even whether it is there.
#[test]
fn what_is_anothers_or_managed_is_not_told() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let (ann, bob) = (house.tenant("ann", "standard"), house.tenant("bob", "standard"));
    house.grant(&ann, &[town.source(1)], None);
    let own = town.source(1);
    // Managed by the service: bob's mail uses it, and only the operator knows it.
    let managed =
        house.operate("POST", &bob.at("pools"), &json!({ "name": "managed", "kind": "managed" }))["id"].clone();
    let hidden = town.source(2);
    house.grant(&bob, &[hidden], Some(managed.as_str().unwrap()));
    let of_ann = house.send(&ann.key, "grey1@mail.test", json!({}));
    let of_bob = house.send(&bob.key, "grey2@mail.test", json!({ "pool": "managed" }));
    for id in [&of_ann, &of_bob] {
        house.wait_why(id, "greylisted");
    }
    assert_eq!(house.explain(&of_bob)["route"]["ip"], hidden.to_string(), "the operator sees it");

    let question = json!({ "pool": "managed" });
    let calls: Vec<(&str, String, Value)> = vec![
        ("GET", format!("/messages/{of_bob}"), Value::Null),
        ("GET", format!("/messages/{of_ann}"), Value::Null),
        ("GET", "/queue?limit=1000".into(), Value::Null),
        ("POST", "/routes:preview".into(), question),
        ("POST", "/routes:preview".into(), json!({})),
        ("GET", "/ips".into(), Value::Null),
        ("GET", "/accounts/self/ips".into(), Value::Null),
        ("GET", "/accounts/self/pools".into(), Value::Null),
        ("GET", "/accounts/self/pools/managed".into(), Value::Null),
        ("GET", "/leases".into(), Value::Null),
        ("GET", "/accounts/self/leases".into(), Value::Null),
        ("GET", "/audit?limit=1000".into(), Value::Null),
        ("GET", "/lanes".into(), Value::Null),
        ("GET", "/shared-pools".into(), Value::Null),
        ("GET", ann.at("pools"), Value::Null),
        ("GET", ann.at("ips"), Value::Null),
        ("GET", ann.at("leases"), Value::Null),
    ];
    for (method, path, body) in &calls {
        for ip in [own, hidden] {
            assert!(!tells(&house, &bob.key, method, path, body, ip), "{method} {path} tells bob of {ip}");
        }
    }
    // The look is one that finds: ann sees her own in the same places.
    let seen = calls.iter().filter(|(method, path, body)| tells(&house, &ann.key, method, path, body, own)).count();
    assert!(seen >= 6, "only {seen} of {} calls show ann her own IP", calls.len());
    assert!(tells(&house, &house.operator, "GET", "/ips", &Value::Null, hidden));

    // Leaving does not tell it either.
    house.retry_all();
    house.wait_state(&of_bob, "delivered");
    let path = format!("/messages/{of_bob}");
    assert!(!tells(&house, &bob.key, "GET", &path, &Value::Null, hidden));

    // G3: what is there and another's is answered as what is not there.
    for (there, not) in [
        (format!("/messages/{of_ann}"), format!("/messages/{}", "0".repeat(32))),
        (format!("/ips/{own}"), "/ips/192.0.2.99".to_owned()),
        (format!("/accounts/{}", ann.id), "/accounts/nobody".to_owned()),
    ] {
        let refused = |path: &str| house.refused("GET", path, &bob.key, &Value::Null);
        assert_eq!(refused(&there), refused(&not), "{there}");
        assert_eq!(refused(&there).0, 404, "{there}");
    }
}
