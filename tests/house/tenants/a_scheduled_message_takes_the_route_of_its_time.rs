//! What if the pool that a scheduled message names is gone when its time comes?

use crate::support::tenants::Tenant;
use crate::support::{House, Manner, Plan, Town, among_others};
use engine::time::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Long enough for the calls that come before it, on a machine that is busy.
const AHEAD: Duration = Duration::from_secs(8);

fn at(ahead: Duration) -> String {
    let passed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + ahead;
    Timestamp(i64::try_from(passed.as_micros()).unwrap()).to_string()
}

fn delete_pool(house: &House, tenant: &Tenant, name: &str) {
    let pools = house.ask("GET", &tenant.at("pools"), &tenant.key, &Value::Null);
    let default = pools["items"].as_array().unwrap().iter().find(|pool| pool["is_default"] == true).unwrap();
    let default = default["id"].as_str().unwrap();
    house.ask("DELETE", &tenant.at(&format!("pools/{name}?move_ips_to={default}")), &tenant.key, &Value::Null);
}

// R1.6, R2.3: to the default pool where it has IPs, else to the shared one; for `enterprise` it ends, and the story says why.
#[test]
fn it_falls_back_as_the_rules_say() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let with = house.tenant("with", "standard");
    let without = house.tenant("without", "standard");
    let large = house.tenant("large", "enterprise");
    for (tenant, number) in [(&with, 1), (&without, 2), (&large, 3)] {
        house.new_pool(tenant, "news");
        house.grant(tenant, &[town.source(number)], Some("news"));
    }
    let due = at(AHEAD);
    let send = |tenant: &Tenant, to: &str| {
        let id = house.send(&tenant.key, to, json!({ "pool": "news", "send_at": due }));
        let story = house.explain(&id);
        assert_eq!((&story["route"], &story["undecided"]["now"]["pool"]), (&Value::Null, &json!("news")), "{story}");
        id
    };
    let (one, two, three) =
        (send(&with, "one@mail.test"), send(&without, "two@mail.test"), send(&large, "three@mail.test"));
    let cancelled = send(&with, "cancelled@mail.test");
    house.ask("DELETE", &format!("/messages/{cancelled}"), &with.key, &Value::Null);
    delete_pool(&house, &with, "news");
    for (tenant, number) in [(&without, 2), (&large, 3)] {
        let ips = json!({ "ips": [town.source(number)], "although_empty": true });
        let asked = house.ask("POST", &tenant.at("releases"), &tenant.key, &ips);
        let path = tenant.at(&format!("releases/{}/confirmation", asked["id"].as_str().unwrap()));
        house.ask("POST", &path, &tenant.key, &json!({ "token": asked["token"] }));
    }
    house.ask("DELETE", &without.at("pools/news"), &without.key, &Value::Null);
    assert_eq!(provider.count(), 0, "the machine is too slow for this test: the time has come already");

    house.wait_state(&one, "delivered");
    house.wait_state(&two, "delivered");
    let told = house.wait_state(&three, "rejected");
    assert!(told["why"]["words"].as_str().unwrap().len() > 10, "{told}");
    for (id, rule, to, ip) in
        [(&one, "account-default", "one@mail.test", town.source(1)), (&two, "shared", "two@mail.test", town.source(0))]
    {
        let route = house.explain(id)["route"].clone();
        assert_eq!(route["rule"], rule, "{route}");
        assert!(route["rule_words"].as_str().unwrap().contains("news"), "{route}");
        assert_eq!(provider.wait_for_one_to(to).peer.ip(), ip);
    }
    // R1.6: what was taken back is never sent.
    house.wait_queue_empty();
    assert_eq!(provider.to("cancelled@mail.test").len(), 0);
    assert_eq!(provider.to("three@mail.test").len(), 0);
}
