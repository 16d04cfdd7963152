//! Is a message on its way, signed and from the right IP, a few calls after nothing was there?

use crate::support::oracle::{dkim_verdicts, python};
use crate::support::tenants::Login;
use crate::support::{Manner, Message, Plan, Smtp, Town, among_others};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::process::Command;

// R1.1, R1.4, R2.1, R9.2: an account, a key of each kind, a domain, an IP; by HTTP and by SMTP.
#[test]
fn an_account_sends_with_every_kind_of_key() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    let ip = town.source(0);
    house.share(&[ip]);

    let account =
        house.operate("POST", "/accounts", &json!({ "name": "shop", "standing": "production" }))["id"].clone();
    let account = account.as_str().unwrap();
    let api = house.key(account, json!({ "name": "api", "scopes": ["send", "read", "manage"] }));
    let api = api["key"].as_str().unwrap();
    let smtp = Login::of(&house.key(account, json!({ "name": "smtp", "kind": "smtp", "scopes": ["send"] })));
    let aws = house.key(account, json!({ "name": "aws", "kind": "aws", "scopes": ["send", "read"] }));
    let region = house.operate("GET", "/regions", &Value::Null)["items"][0]["id"].clone();
    let aws = Login {
        id: aws["credential"]["id"].as_str().unwrap().to_owned(),
        user: aws["access_key_id"].as_str().unwrap().to_owned(),
        password: aws["smtp_passwords"][region.as_str().unwrap()].as_str().unwrap().to_owned(),
    };

    // R1.4: until the domain is the account's, its mail is refused, and the refusal names it.
    let body = json!({ "from": "ann@shop.test", "to": "bob@mail.test", "text": "x" });
    let refused = house.call("POST", "/api/v1/messages", api, &body);
    assert_eq!(refused.status, 403, "{}", refused.json());
    assert!(refused.json()["detail"].as_str().unwrap().contains("shop.test"), "{}", refused.json());
    house.ask("POST", "/accounts/self/domains", api, &json!({ "name": "shop.test" }));
    assert_eq!(house.refused("POST", "/accounts/self/domains/shop.test/verification", api, &Value::Null).0, 403);
    let verified = house.operate("POST", &format!("/accounts/{account}/domains/shop.test/verification"), &Value::Null);
    assert_eq!((&verified["state"], &verified["verified_by"]), (&json!("verified"), &json!("operator")));

    let by_http = house.send(api, "http@mail.test", json!({}));
    let by_smtp = house.smtp_as(&smtp).take("ann@shop.test", &["smtp@mail.test"], &Message::plain("by password"));
    let by_aws = house.smtp_as(&aws).take("ann@shop.test", &["aws@mail.test"], &Message::plain("by access key"));
    for id in [&by_http, &by_smtp, &by_aws] {
        let story = house.ask("GET", &format!("/messages/{id}"), api, &Value::Null);
        assert_eq!((&story["route"]["rule"], &story["route"]["ip"]), (&json!("shared"), &json!(ip.to_string())));
        assert!(story["route"]["rule_words"].as_str().unwrap().len() > 10, "{story}");
        house.wait_state(id, "delivered");
    }
    let received = provider.wait_for(3);
    assert!(received.iter().all(|message| message.peer.ip() == ip), "{received:?}");

    // What a receiver sees, where the records are published as they are listed.
    let python = python();
    let records = house.ask("GET", "/accounts/self/domains/shop.test/records", api, &Value::Null);
    let text = |value: &Value| value.as_str().unwrap().trim_end_matches('.').to_owned();
    let records: Vec<(String, String)> = records["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|record| record["purpose"] == "dkim")
        .map(|record| (text(&record["name"]), text(&record["value"])))
        .collect();
    assert!(!records.is_empty());
    for (message, verdict) in received.iter().zip(dkim_verdicts(&python, &records, &received)) {
        assert_eq!(verdict["signatures"], records.len(), "{verdict}\n{}", message.text());
        assert!(verdict["valid"].as_array().unwrap().iter().all(|valid| *valid == true), "{verdict}");
    }
}

// The file that `weir init` writes is one that works, and a second `weir init` changes nothing.
#[test]
fn what_init_writes_can_be_served() {
    let _others = among_others();
    let town = Town::new();
    let mut house = Plan::new(&town).control(None).prepare();
    let data = house.data.with_file_name("written");
    let init = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command.args(["init", "--json", "--host", "mx.weir.test", "--data"]).arg(&data).output().unwrap()
    };
    let begun = init();
    assert!(begun.status.success(), "{}", String::from_utf8_lossy(&begun.stderr));
    let told: Value = serde_json::from_slice(&begun.stdout).unwrap();
    let again = init();
    assert!(!again.status.success());
    let words = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(words.contains("is an installation already"), "{words}");

    // Its ports may be taken on this machine; everything else stays as it was written.
    let written = std::fs::read_to_string(data.join("weir.toml")).unwrap();
    let mut free = String::new();
    for line in written.lines() {
        let line = if line.starts_with("address = ") { "address = \"127.0.0.1:0\"" } else { line };
        free.push_str(line);
        free.push('\n');
    }
    std::fs::write(&house.config, free).unwrap();
    house.data = data;
    house.operator = told["key"].as_str().unwrap().to_owned();
    house.start();
    assert_eq!(house.doors().len(), 2);
    assert_eq!(house.operate("GET", "/accounts", &Value::Null)["items"], json!([]));
    let mut smtp = Smtp::open(house.smtp_at());
    assert!(smtp.expect("EHLO app.test", 250).text.contains("STARTTLS"));
    let plain = STANDARD.encode("\0user\0password");
    assert!(smtp.say(&format!("AUTH PLAIN {plain}")).unwrap().code >= 500, "in clear");
}
