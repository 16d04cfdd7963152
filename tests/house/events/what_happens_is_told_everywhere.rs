//! Does what became of a message reach its timeline, the search, the counts, the stream and the webhook, and soon?

use crate::support::target::{Answering, Target};
use crate::support::{House, Manner, Plan, Town, among_others, until};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

fn items(house: &House, key: &str, query: &str) -> Vec<Value> {
    house.ask("GET", &format!("/events?{query}"), key, &Value::Null)["items"].as_array().unwrap().clone()
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["kind"].as_str().unwrap()).collect()
}

/// A stream of events that was asked for.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn begin(house: &House, key: &str, query: &str, last: Option<&str>) -> Stream {
        let mut stream = TcpStream::connect(house.http_at()).unwrap();
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        write!(
            stream,
            "GET /api/v1/events:follow?{query} HTTP/1.1\r\nHost: weir.test\r\nAuthorization: Bearer {key}\r\n{last}\r\n"
        )
        .unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200"), "{line}");
        Stream(lines)
    }

    /// The next event, and its place.
    fn next(&mut self) -> (String, Value) {
        let mut id = String::new();
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream has ended");
            if let Some(place) = line.strip_prefix("id: ") {
                id = place.trim().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return (id, serde_json::from_str(data).unwrap());
            }
        }
    }
}

// R6.1, R6.2, R2.7, R2.8
#[test]
fn each_fate_is_found_counted_streamed_and_posted() {
    let _others = among_others();
    let town = Town::new();
    let _provider = town.provider(1, Manner::default());
    let house = Plan::new(&town).control(None).open();
    house.share(&[town.source(0)]);
    let (shop, other) = (house.tenant("shop", "standard"), house.tenant("other", "standard"));
    let target = Target::start(Answering::Status(204));
    let new = json!({ "name": "all", "target": target.url() });
    let webhook = house.ask("POST", &shop.at("webhooks"), &shop.key, &new);
    let secret = webhook["secret"].as_str().unwrap().to_owned();
    let bounces = Target::start(Answering::Status(200));
    let new = json!({ "name": "bounces", "target": bounces.url(), "kinds": ["bounced"] });
    house.ask("POST", &shop.at("webhooks"), &shop.key, &new);
    let mut stream = Stream::begin(&house, &shop.key, "kind=delivered", None);

    let tags = json!({ "tags": { "campaign": "spring" } });
    let delivered = house.send(&shop.key, "ann@mail.test", tags.clone());
    let bounced = house.send(&shop.key, "rcpt550@mail.test", tags);
    house.send(&other.key, "ben@mail.test", json!({}));

    let event = target.wait_for("the delivery is posted", |event| event["kind"] == "delivered");
    assert_eq!((&event["message"], &event["recipient"]), (&json!(delivered), &json!("ann@mail.test")));
    assert_eq!((&event["tags"]["campaign"], &event["account"]), (&json!("spring"), &json!(shop.id)));
    let event = target.wait_for("the bounce is posted", |event| event["kind"] == "bounced");
    assert_eq!((&event["class"], &event["message"]), (&json!("hard"), &json!(bounced)));
    bounces.wait_for("the bounce is posted there", |event| event["message"] == bounced.as_str());
    assert_eq!(kinds(&bounces.events()), ["bounced"]);
    // Each once, and of this account alone; signed.
    let mut told: Vec<_> = target.events().iter().map(|event| event["id"].clone().to_string()).collect();
    told.sort();
    told.dedup();
    assert_eq!(told.len(), 4);
    assert!(target.all().iter().all(|told| told.is_signed_with(&secret)));
    assert!(!target.all()[0].is_signed_with("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));

    let (place, event) = stream.next();
    assert_eq!(event["message"], delivered.as_str());
    // From where one was, it goes on.
    drop(stream);
    let again = house.send(&shop.key, "ann@mail.test", json!({}));
    let (_, event) = Stream::begin(&house, &shop.key, "kind=delivered", Some(&place)).next();
    assert_eq!(event["message"], again.as_str());

    // Newest first.
    assert_eq!(kinds(&items(&house, &shop.key, &format!("message={delivered}"))), ["delivered", "accepted"]);
    assert_eq!(kinds(&items(&house, &shop.key, "tag=campaign%3Dspring&class=hard")), ["bounced"]);
    assert_eq!(items(&house, &shop.key, "recipient=ANN%40mail.test").len(), 4);
    assert!(items(&house, &shop.key, "recipient=ben%40mail.test").is_empty());
    assert!(items(&house, &other.key, &format!("message={delivered}")).is_empty());
    assert_eq!(items(&house, &house.operator, "kind=delivered&limit=2").len(), 2);
    let refused = house.refused("GET", &format!("/events?account={}", shop.id), &other.key, &Value::Null);
    assert_eq!(refused.0, 404);
    assert_eq!(house.refused("GET", "/events?kind=nonsense", &shop.key, &Value::Null).0, 400);

    let counts = until("all is counted", || {
        let counts = house.ask("GET", "/statistics?by=account", &house.operator, &Value::Null);
        let of = |id: &str| {
            let items = counts["items"].as_array().unwrap().iter();
            items.filter(|item| item["of"]["account"] == id).find(|item| item["delivered"].as_i64() > Some(0)).cloned()
        };
        of(&shop.id).filter(|shop| shop["delivered"] == 2).zip(of(&other.id))
    });
    assert_eq!((&counts.0["accepted"], &counts.0["hard"]), (&json!(3), &json!(1)));
    assert_eq!((&counts.1["accepted"], &counts.1["delivered"]), (&json!(1), &json!(1)));
    assert!(counts.1["delivered_p95_s"].as_f64().unwrap() < 60.0);
    let own = house.ask("GET", "/statistics?resolution=hour", &other.key, &Value::Null);
    assert_eq!(own["items"].as_array().unwrap().iter().filter_map(|item| item["accepted"].as_i64()).sum::<i64>(), 1);

    let said = |words: &[&str]| String::from_utf8(house.weir_as(&shop.key, words).stdout).unwrap();
    let found = said(&["events", "find", "--to", "ann@mail.test", "--kind", "delivered"]);
    assert_eq!(found.lines().filter(|line| line.contains("delivered")).count(), 2, "{found}");
    let stats = said(&["stats", "--by", "provider"]);
    assert!(stats.contains("accepted") && stats.contains("hard"), "{stats}");
    let shown = said(&["webhook", "list"]);
    assert!(shown.contains("bounces") && shown.contains(&target.url()), "{shown}");
    let deliveries = said(&["webhook", "deliveries", "all"]);
    assert!(deliveries.contains("yes") && deliveries.contains("204"), "{deliveries}");
}
