//! Can a field of a JSON submission become a header line of its own?

use crate::support::{Manner, Plan, Town, among_others};
use serde_json::{Value, json};

/// A good submission with one thing changed.
fn with(change: impl FnOnce(&mut Value)) -> Value {
    let mut body =
        json!({ "from": "Ann <ann@shop.test>", "to": ["bob@mail.test"], "subject": "Hello", "text": "Hello." });
    change(&mut body);
    body
}

// D4: refused by the field's name, or encoded so that it is one field; never a new line.
#[test]
fn line_breaks_and_nulls_in_fields_never_become_lines() {
    let _others = among_others();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).open();
    let mut taken = 0;
    for evil in [
        "\r\nBcc: eve@evil.test",
        "\nX-Evil: 1",
        "\rX-Evil: 1",
        "\0X-Evil: 1",
        "\r\n\r\nevil body",
        "\u{85}X-Evil: 1",
        "\u{2028}X-Evil: 1",
    ] {
        let attachment = |name: &str, kind: &str, id: &str| json!([{ "name": name, "content_type": kind, "content": "eA==", "content_id": id }]);
        let cases: Vec<(&str, Value)> = vec![
            ("subject", with(|body| body["subject"] = json!(format!("Hello{evil}")))),
            ("from", with(|body| body["from"] = json!(format!("Ann{evil} <ann@shop.test>")))),
            ("from", with(|body| body["from"] = json!(format!("ann{evil}@shop.test")))),
            ("to", with(|body| body["to"] = json!([format!("Bob{evil} <bob@mail.test>")]))),
            ("to", with(|body| body["to"] = json!([format!("bob@mail.test{evil}")]))),
            ("cc", with(|body| body["cc"] = json!(format!("Cy{evil} <cy@mail.test>")))),
            ("reply_to", with(|body| body["reply_to"] = json!(format!("Ann{evil} <ann@shop.test>")))),
            ("headers", with(|body| body["headers"] = json!({ "X-Mine": format!("1{evil}") }))),
            ("headers", with(|body| body["headers"] = json!({ format!("X-Mine{evil}"): "1" }))),
            ("attachments", with(|body| body["attachments"] = attachment(&format!("a{evil}.txt"), "text/plain", "id"))),
            ("attachments", with(|body| body["attachments"] = attachment("a.txt", &format!("text/plain{evil}"), "id"))),
            ("attachments", with(|body| body["attachments"] = attachment("a.txt", "text/plain", &format!("id{evil}")))),
            ("tags", with(|body| body["tags"] = json!({ "kind": format!("news{evil}") }))),
            ("tags", with(|body| body["tags"] = json!({ format!("kind{evil}"): "news" }))),
        ];
        for (field, body) in cases {
            let answer = house.post(&body);
            match answer.status {
                200 => taken += 1,
                400 => {
                    let named = answer.json()["field"].as_str().unwrap_or_default().to_owned();
                    assert!(named.starts_with(field), "{field}, not {named}: {body}");
                }
                other => panic!("{other}: {body}"),
            }
        }
    }
    provider.wait_for(taken);
    house.wait_queue_empty();
    assert_eq!(provider.count(), taken);
    for message in provider.all() {
        assert!(message.to.iter().all(|to| !to.contains("evil")), "{:?}", message.to);
        for (name, _) in message.headers() {
            assert!(!["bcc", "x-evil"].contains(&name.to_ascii_lowercase().as_str()), "{}", message.text());
        }
        assert!(!message.text().contains("\r\nevil body"), "{}", message.text());
        assert!(message.octets.is_ascii() && !message.octets.contains(&0), "{}", message.text());
    }
}

// D4: what is not JSON, or not what the call takes, is told by name and never a fault of ours.
#[test]
fn nonsense_gets_a_400_that_names_the_place() {
    let _others = among_others();
    let town = Town::new();
    let house = Plan::new(&town).open();
    let cases = [
        (json!([]), ""),
        (json!({}), "to"),
        (with(|body| body["to"] = json!(7)), "to"),
        (with(|body| body["subjekt"] = json!("x")), "subjekt"),
        (
            with(|body| body["attachments"] = json!([{ "name": "a", "content_type": "text/plain", "content": "%" }])),
            "attachments[0].content",
        ),
        (with(|body| body["tls"] = json!("maybe")), "tls"),
    ];
    for (body, field) in cases {
        let answer = house.post(&body);
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(answer.json()["field"].as_str().unwrap_or_default(), field, "{body}: {}", answer.json());
        assert!(answer.head.contains("application/problem+json"));
    }
    assert_eq!(house.queued(), 0);
}
