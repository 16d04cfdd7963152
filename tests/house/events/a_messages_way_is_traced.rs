//! Does a collector of traces see a message's way, in the trace of the program that sent it?

use crate::support::submitter::request;
use crate::support::target::{Answering, Target};
use crate::support::{Manner, Plan, Town, among_others, until, until_true};
use serde_json::{Value, json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

/// All spans that came, whatever request they came in.
fn spans(collector: &Target) -> Vec<Value> {
    let mut spans = Vec::new();
    for told in collector.all() {
        assert!(told.head.starts_with("POST /v1/traces "), "{}", told.head);
        assert_eq!(told.header("authorization"), "Bearer sesame");
        let body: Value = serde_json::from_slice(&told.body).unwrap();
        spans.extend(body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone());
    }
    spans
}

// R6.7
#[test]
fn from_the_submission_to_the_remote_answer() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let collector = Target::start(Answering::Status(200));
    let section = format!(
        "[traces]\nurl = \"http://127.9.0.1:{}/v1/traces\"\nshare = 0\nheaders = {{ authorization = \"Bearer sesame\" }}\n",
        collector.port()
    );
    let house = Plan::new(&town).control(None).more(&section).open();
    house.share(&[town.source(0)]);
    let shop = house.tenant("shop", "standard");
    // Nobody asked for this one to be traced.
    house.send(&shop.key, "ben@mail.test", json!({}));
    let fields = format!(
        "Host: weir.test\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\ntraceparent: 00-{TRACE}-{SPAN}-01\r\n",
        shop.key
    );
    let body = json!({ "from": "ann@shop.test", "to": "ann@mail.test", "subject": "Hello", "text": "Hello." });
    let answer = request(house.http_at(), "POST", "/api/v1/messages", &fields, body.to_string().as_bytes()).unwrap();
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let id = answer.json()["id"].as_str().unwrap().to_owned();

    let spans = until("the whole way is told", || Some(spans(&collector)).filter(|spans| spans.len() >= 3));
    let named = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("{spans:?}"));
    let (submit, sent, tried) = (named("submit"), named("send mail.test"), named("try mail.test"));
    assert_eq!(spans.len(), 3, "the other message is not traced: {spans:?}");
    assert!(spans.iter().all(|span| span["traceId"] == TRACE));
    assert_eq!([&submit["parentSpanId"], &sent["parentSpanId"]], [&json!(SPAN), &json!(SPAN)]);
    assert_eq!(tried["parentSpanId"], sent["spanId"]);
    let said = |key: &str| {
        let all = tried["attributes"].as_array().unwrap();
        all.iter().find(|own| own["key"] == key).map(|own| own["value"].clone()).unwrap_or_default()
    };
    assert_eq!(said("messaging.message.id")["stringValue"], id.as_str());
    assert_eq!(said("weir.account")["stringValue"], shop.id.as_str());
    assert_eq!(said("weir.reply.code")["intValue"], "250");
    assert!(!spans.iter().any(|span| span.to_string().contains("ann@")), "{spans:?}");
    // Counted when the collector has answered, which is after it has them.
    until_true("the spans are counted", || house.figure("weir_spans_total{what=\"sent\"}") >= 3.0);
}
