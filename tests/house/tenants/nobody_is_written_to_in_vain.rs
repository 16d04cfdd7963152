//! Is an address that takes no mail spared from then on, and only such a one?

use crate::support::house::House;
use crate::support::tenants::Tenant;
use crate::support::{FakeProvider, Manner, Plan, Town, among_others, until};
use serde_json::{Value, json};
use std::fmt::Write as _;

fn open(town: &Town) -> (House, FakeProvider, Tenant) {
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(town).control(None).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    (house, provider, shop)
}

fn entry(shop: &Tenant, address: &str) -> String {
    shop.at(&format!("suppressions/{address}"))
}

/// Until mail would be taken for it no more.
fn wait_spared(house: &House, shop: &Tenant, address: &str) {
    until(&format!("nothing is sent to {address}"), || {
        let preview = house.ask("POST", "/routes:preview", &shop.key, &json!({ "to": [address] }));
        preview["suppressed"].is_array().then_some(())
    });
}

fn wait_listed(house: &House, shop: &Tenant, address: &str) -> Value {
    until(&format!("{address} is listed"), || {
        let answer = house.call("GET", &format!("/api/v1{}", entry(shop, address)), &shop.key, &Value::Null);
        (answer.status == 200).then(|| answer.json())
    })
}

/// What a submission is answered.
fn sent(house: &House, shop: &Tenant, to: &Value, more: &Value) -> Value {
    let mut body = json!({ "from": "ann@shop.test", "to": to, "subject": "Hello", "text": "Hello.\n" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    house.ask("POST", "/messages", &shop.key, &body)
}

// R5.5: a hard bounce suppresses, and is told; a block does not; taken off the list, mail goes again.
#[test]
fn who_takes_no_mail_gets_none_and_who_blocks_us_is_tried_again() {
    let _others = among_others();
    let town = Town::new();
    let (house, provider, shop) = open(&town);
    let gone = house.send(&shop.key, "rcpt550@mail.test", json!({}));
    house.wait_state(&gone, "bounced");
    let listed = wait_listed(&house, &shop, "rcpt550@mail.test");
    assert_eq!((&listed["reason"], &listed["message"]), (&json!("bounce"), &json!(gone)));
    assert!(listed["detail"].as_str().unwrap().contains("No such user here"), "{listed}");
    wait_spared(&house, &shop, "rcpt550@mail.test");
    let answer = sent(&house, &shop, &json!(["bob@mail.test", "RCPT550@Mail.TEST"]), &json!({}));
    assert_eq!(answer["suppressed"], json!(["RCPT550@mail.test"]));
    let id = answer["id"].as_str().unwrap();
    provider.wait_for_one_to("bob@mail.test");
    let story = house.explain(id);
    let states: Vec<_> = story["recipients"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(states.last(), Some(&json!("suppressed")), "{story}");
    let why = &story["recipients"][1]["why"];
    assert!(why["code"] == "recipient-suppressed" && why["words"].as_str().unwrap().contains("take it off"), "{why}");
    // Nobody is left: it is accepted, told, and waits for nothing.
    let key = json!({});
    let answer = sent(&house, &shop, &json!("rcpt550@mail.test"), &key);
    let id = answer["id"].as_str().unwrap().to_owned();
    assert_eq!(house.explain(&id)["recipients"][0]["state"], "suppressed");
    house.wait_queue_empty();
    let told = house.weir_as(&shop.key, &["explain", &id]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("suppression list"), "{told:?}");
    let preview = json!({ "to": ["rcpt550@mail.test", "bob@mail.test"] });
    let preview = house.ask("POST", "/routes:preview", &shop.key, &preview);
    assert_eq!(preview["suppressed"][0]["address"], "rcpt550@mail.test");
    let asked = provider.commands().iter().filter(|(_, line)| line.contains("rcpt550")).count();

    // Whose set heeds complaints alone, and another account, write to it all the same.
    let set = json!({ "name": "urgent", "suppression": ["complaint"] });
    house.ask("POST", &shop.at("configuration-sets"), &shop.key, &set);
    assert_eq!(asked, 1, "only when it was not known yet");
    let answer = sent(&house, &shop, &json!("rcpt550@mail.test"), &json!({ "configuration_set": "urgent" }));
    assert_eq!(answer.get("suppressed"), None);
    house.wait_state(answer["id"].as_str().unwrap(), "bounced");
    let other = house.tenant("other", "standard");
    assert_eq!(sent(&house, &other, &json!("rcpt550@mail.test"), &json!({})).get("suppressed"), None);

    house.ask("DELETE", &entry(&shop, "rcpt550@mail.test"), &shop.key, &Value::Null);
    let again = house.send(&shop.key, "rcpt550@mail.test", json!({}));
    house.wait_state(&again, "bounced");
    wait_listed(&house, &shop, "rcpt550@mail.test");

    let blocked = house.send(&shop.key, "data550-us@mail.test", json!({}));
    let blocked = house.wait_state(&blocked, "bounced");
    let provider = blocked["events"].as_array().unwrap().iter().find_map(|event| event["provider"].as_str()).unwrap();
    house.operate("POST", "/lanes/resume", &json!({ "ip": town.source(0), "provider": provider }));
    let later = house.send(&shop.key, "rcpt550-later@mail.test", json!({}));
    house.wait_state(&later, "bounced");
    wait_listed(&house, &shop, "rcpt550-later@mail.test");
    // Events are taken to heart in their order: what came before would be there by now.
    let unknown = house.refused("GET", &entry(&shop, "data550-us@mail.test"), &shop.key, &Value::Null);
    assert_eq!(unknown.0, 404);
}

// F7, R5.5: killed whenever, a bounce is on the list once and stays; and without the database the list is known.
#[test]
fn a_list_survives_being_killed_and_a_start_without_its_database() {
    let _others = among_others();
    let town = Town::new();
    let (mut house, _provider, shop) = open(&town);
    for round in 0..5 {
        let to = format!("rcpt550-{round}@mail.test");
        let id = house.send(&shop.key, &to, json!({}));
        house.wait_state(&id, "bounced");
        house.kill();
        house.start();
        wait_listed(&house, &shop, &to);
    }
    let list = house.ask("GET", &shop.at("suppressions"), &shop.key, &Value::Null);
    assert_eq!(list["items"].as_array().unwrap().len(), 5, "{list}");
    assert!(house.terminate().0.success());

    // Its place is taken by something that is no database.
    let database = house.data.join("control.db");
    for beside in ["control.db-wal", "control.db-shm"] {
        let _ = std::fs::remove_file(house.data.join(beside));
    }
    std::fs::write(&database, "no database ".repeat(400)).unwrap();
    house.start();
    let answer = sent(&house, &shop, &json!("rcpt550-3@mail.test"), &json!({}));
    assert_eq!(answer["suppressed"], json!(["rcpt550-3@mail.test"]));
}

// R5.5, R9.2: a long table goes in and comes out, in little memory.
#[test]
fn a_long_list_is_imported_and_exported() {
    const COUNT: usize = 20_000;
    let _others = among_others();
    let town = Town::new();
    let (house, _provider, shop) = open(&town);
    let mut table = String::from("email,reason,note\n");
    for at in 0..COUNT {
        writeln!(table, "p{at}@mail.test,{},\"a, b\"", if at % 2 == 0 { "bounce" } else { "complaint" }).unwrap();
    }
    table.push_str("nobody,bounce,\nlast@mail.test,whatever,\n");
    let file = house.data.with_extension("list.csv");
    std::fs::write(&file, &table).unwrap();
    let told = house.weir_as(&shop.key, &["suppression", "import", file.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.starts_with(&format!("{COUNT} on the list, 2 lines could not be used.")), "{told}");
    assert!(
        told.contains(&format!("line {}: ", COUNT + 2)) && told.contains(&format!("line {}: ", COUNT + 3)),
        "{told}"
    );
    let exported = house.weir_as(&shop.key, &["suppression", "export", "--reason", "complaint"]);
    let exported = String::from_utf8_lossy(&exported.stdout).into_owned();
    assert_eq!(exported.lines().filter(|line| line.contains("@mail.test")).count(), COUNT / 2);
    assert!(exported.starts_with("address,stream,reason,detail,created_at,expires_at\n"), "{}", &exported[..200]);
    assert_eq!(sent(&house, &shop, &json!("p777@mail.test"), &json!({}))["suppressed"], json!(["p777@mail.test"]));
}

// R5.5: an address that came onto the list while a message waited is spared too, and the message's other recipients are not.
#[test]
fn what_waits_is_looked_at_again_before_it_leaves() {
    let _others = among_others();
    let town = Town::new();
    let (house, provider, shop) = open(&town);
    let answer = sent(&house, &shop, &json!(["grey1@mail.test", "grey2@mail.test"]), &json!({}));
    let id = answer["id"].as_str().unwrap();
    house.wait_why(id, "greylisted");
    house.wait_why_of(id, 1, "greylisted");
    house.ask("PUT", &entry(&shop, "grey1@mail.test"), &shop.key, &json!({}));
    wait_spared(&house, &shop, "grey1@mail.test");
    house.retry(id);
    house.wait_state(id, "rejected");
    let story = until("the other one has its message", || {
        Some(house.explain(id)).filter(|story| story["recipients"][1]["state"] == "delivered")
    });
    assert_eq!(story["recipients"][0]["why"]["code"], "recipient-suppressed");
    assert_eq!((provider.to("grey1@mail.test").len(), provider.to("grey2@mail.test").len()), (0, 1));
    let rejected = until("the event is kept", || {
        let found = house.ask("GET", &format!("/events?message={id}&kind=rejected"), &shop.key, &Value::Null);
        found["items"].get(0).cloned()
    });
    assert_eq!(rejected["recipient"], "grey1@mail.test");
}
