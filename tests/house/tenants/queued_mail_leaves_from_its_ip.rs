//! Does what is queued leave from the IP it was given, whatever becomes of that IP meanwhile?

use crate::support::tenants::Tenant;
use crate::support::{FakeProvider, House, Manner, Plan, Town, among_others};
use serde_json::{Value, json};
use std::net::IpAddr;

/// One account with an IP in a pool named `news`, and a message for a host that says later at first.
struct Scene {
    town: Town,
    provider: FakeProvider,
    house: House,
    shop: Tenant,
    ip: IpAddr,
    id: String,
}

impl Scene {
    fn set() -> Scene {
        let town = Town::new();
        let provider = town.provider(1, Manner::default());
        let house = Plan::new(&town).control(None).open();
        house.share(&[town.source(0)]);
        let shop = house.tenant("shop", "standard");
        let ip = town.source(1);
        house.new_pool(&shop, "news");
        house.grant(&shop, &[ip], Some("news"));
        let id = house.send(&shop.key, "grey@mail.test", json!({ "pool": "news" }));
        house.wait_why(&id, "greylisted");
        Scene { town, provider, house, shop, ip, id }
    }

    fn leaves_from_its_ip(&self) {
        self.house.retry(&self.id);
        let message = self.provider.wait_for_one_to("grey@mail.test");
        assert_eq!(message.peer.ip(), self.ip);
        self.house.wait_state(&self.id, "delivered");
        let story = self.house.explain(&self.id);
        assert_eq!((&story["route"]["pool"], &story["route"]["ip"]), (&json!("news"), &json!(self.ip.to_string())));
    }

    fn release(&self) {
        let Scene { house, shop, ip, .. } = self;
        let asked = house.ask("POST", &shop.at("releases"), &shop.key, &json!({ "ips": [ip], "although_empty": true }));
        // R3.5: nothing happens before it is confirmed.
        assert_eq!(house.operate("GET", &format!("/ips/{ip}"), &Value::Null)["state"], "leased");
        let path = shop.at(&format!("releases/{}/confirmation", asked["id"].as_str().unwrap()));
        house.ask("POST", &path, &shop.key, &json!({ "token": asked["token"] }));
    }
}

// R2.4
#[test]
fn after_it_moved_to_another_pool() {
    let _others = among_others();
    let scene = Scene::set();
    let Scene { house, shop, ip, .. } = &scene;
    house.new_pool(shop, "letters");
    house.ask("POST", &shop.at("pools/letters/ips"), &shop.key, &json!({ "ip": ip, "although_empty": true }));
    scene.leaves_from_its_ip();
}

// R2.4
#[test]
fn after_its_pool_was_deleted() {
    let _others = among_others();
    let scene = Scene::set();
    let Scene { house, shop, town, .. } = &scene;
    house.grant(shop, &[town.source(2)], None);
    let pools = house.ask("GET", &shop.at("pools"), &shop.key, &Value::Null);
    let default = pools["items"].as_array().unwrap().iter().find(|pool| pool["is_default"] == true).unwrap();
    let path = shop.at(&format!("pools/news?move_ips_to={}", default["id"].as_str().unwrap()));
    house.ask("DELETE", &path, &shop.key, &Value::Null);
    assert_eq!(house.send_refused(&shop.key, "x@mail.test", json!({ "pool": "news" })).1, "pool_unknown");
    scene.leaves_from_its_ip();
}

// R2.4, R3.5: it stays bound until what was queued on it is gone, takes nothing new, then drains and rests; a restart in between
// changes nothing of it.
#[test]
fn after_it_was_given_back() {
    let _others = among_others();
    let mut scene = Scene::set();
    scene.release();
    let Scene { house, shop, town, ip, provider, .. } = &scene;
    assert_eq!(house.operate("GET", &format!("/ips/{ip}"), &Value::Null)["state"], "draining");
    // R2.8: it is nobody's who leased it once.
    assert_eq!(house.refused("GET", &format!("/ips/{ip}"), &shop.key, &Value::Null).0, 404);
    assert_eq!(house.send_refused(&shop.key, "x@mail.test", json!({ "pool": "news" })).1, "pool_empty");
    let other = house.send(&shop.key, "new@mail.test", json!({}));
    house.wait_state(&other, "delivered");
    assert_eq!(provider.wait_for_one_to("new@mail.test").peer.ip(), town.source(0), "new mail goes elsewhere");
    scene.house.kill();
    scene.house.start();
    assert_eq!(scene.house.operate("GET", &format!("/ips/{}", scene.ip), &Value::Null)["state"], "draining");
    scene.leaves_from_its_ip();
    scene.house.wait_ip(scene.ip, "resting");
    let story = scene.house.operate("GET", &format!("/ips/{}/story", scene.ip), &Value::Null);
    let states: Vec<&str> =
        story["steps"].as_array().unwrap().iter().map(|step| step["state"].as_str().unwrap()).collect();
    assert!(states.ends_with(&["leased", "draining", "resting"]), "{story}");
}

// R3.5: nothing queued, nothing to wait for.
#[test]
fn an_ip_without_mail_rests_at_once() {
    let _others = among_others();
    let scene = Scene::set();
    scene.leaves_from_its_ip();
    scene.release();
    scene.house.wait_ip(scene.ip, "resting");
}
