//! Does the program that takes the money hear of each paper, signed, until it has taken it? (R7.5)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use api::payments::{Payments, Settings};
use aws_lc_rs::hmac;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::Actor;
use engine::month::Month;
use net::dns::{FixedAnswers, FixedDns, FixedRule};
use net::tls::{Connector, Roots};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::House;

const SECRET: &[u8] = &[9; 32];

/// What it answers, one after the other, and what it was asked.
#[derive(Clone, Default)]
struct Program {
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
}

async fn answer(State(program): State<Program>, head: HeaderMap, body: Bytes) -> Response {
    let field = |name: &str| head[name].to_str().unwrap().to_owned();
    let (id, at) = (field("webhook-id"), field("webhook-timestamp"));
    let signed = [format!("{id}.{at}.").as_bytes(), &body].concat();
    let signature = STANDARD.decode(field("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), &signed, &signature).unwrap();
    program.asked.lock().unwrap().push((id, serde_json::from_slice(&body).unwrap()));
    let (status, said) = program.answers.lock().unwrap().pop_front().unwrap();
    (StatusCode::from_u16(status).unwrap(), said.to_string()).into_response()
}

impl Program {
    fn answers(&self, status: u16, said: Value) {
        self.answers.lock().unwrap().push_back((status, said));
    }

    /// What it was asked since.
    fn asked(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

/// The program at its address, and a house that tells it of invoices.
async fn open() -> (House, Program, Payments) {
    let house = House::open().await;
    let program = Program::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://billing.test:{}/weir?from=here", listener.local_addr().unwrap().port());
    let router = Router::new().route("/weir", axum::routing::post(answer)).with_state(program.clone());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let here = FixedRule {
        pattern: "billing.test".to_owned(),
        // Nobody listens at the first one.
        addresses: vec!["127.0.0.9".parse().unwrap(), "127.0.0.1".parse().unwrap()],
        ..FixedRule::default()
    };
    let payments = Payments {
        office: house.office.clone(),
        dns: Arc::new(FixedDns::new(FixedAnswers { rules: vec![here] }, None)),
        connector: Connector::new(Roots::system()).unwrap(),
        metrics: house.plant.metrics.clone(),
        settings: Settings { url, secret: SECRET.to_vec() },
    };
    // The first month that is charged is the one in which it is first looked for.
    house.office.close_months().await.unwrap();
    let price = json!({ "item": "standard", "month": "30" });
    house.post(&house.operator, "/prices", price).await.as_(200);
    house.ips("192.0.2.0/30").await;
    (house, program, payments)
}

/// Accounts with an IP each, when their month is over.
async fn invoiced(house: &House) -> [String; 2] {
    let mut accounts = Vec::new();
    for (name, ip) in [("acme", "192.0.2.1"), ("shop", "192.0.2.2")] {
        let (account, _) = house.account(name).await;
        let grant = json!({ "ips": [ip] });
        house.post(&house.operator, &format!("/accounts/{account}/grants"), grant).await.as_(201);
        accounts.push(account);
    }
    let now = house.office.now();
    house.pass(Month::of(now).ends_at().since(now) + Duration::from_secs(7 * 3_600));
    house.office.close_months().await.unwrap();
    accounts.try_into().unwrap()
}

fn path(account: &str, id: &Value) -> String {
    format!("/accounts/{account}/invoices/{}", id.as_str().unwrap())
}

#[tokio::test]
async fn each_paper_is_handed_over_until_it_is_taken() {
    let (house, program, payments) = open().await;
    let mut line = None;
    payments.tell(&mut line).await.unwrap();
    assert_eq!(program.asked(), [], "there is none yet");
    let accounts = invoiced(&house).await;

    // Not there, not willing, and then it takes the money of one at once.
    program.answers(503, json!("busy"));
    let why = payments.tell(&mut line).await.unwrap_err();
    assert!(why.contains("503"), "{why}");
    program.answers(200, json!({ "paid": true }));
    let why = payments.tell(&mut line).await.unwrap_err();
    assert!(why.contains("reference"), "{why}");
    program.answers(200, json!({ "paid": "ch_1" }));
    program.answers(204, json!(null));
    payments.tell(&mut line).await.unwrap();
    let asked = program.asked();
    let ids: Vec<&str> = asked.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids.len(), 4);
    assert!(
        ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3],
        "the one that was not taken came again, and first: {ids:?}"
    );
    let told = &asked[2].1;
    assert_eq!(told["type"], "invoice.made");
    let (first, second) = (&told["data"], &asked[3].1["data"]);
    let seen = house.get(&house.operator, &path(&accounts[0], &first["id"])).await.as_(200).clone();
    assert_eq!((&seen["state"], &seen["paid_by"], &seen["total"]), (&json!("paid"), &json!("ch_1"), &first["total"]));
    let seen = house.get(&house.operator, &path(&accounts[1], &second["id"])).await.as_(200).clone();
    assert_eq!((&seen["state"], &seen), (&json!("open"), second), "what is told is what is seen");

    // A credit note is told, too; what was taken is not told again, whoever asks.
    let credit = json!({ "amount": "0.50", "reason": "it was down" });
    house.post(&house.operator, &format!("{}/credits", path(&accounts[1], &second["id"])), credit).await.as_(201);
    program.answers(200, json!({}));
    payments.tell(&mut None).await.unwrap();
    let asked = program.asked();
    assert_eq!((asked.len(), &asked[0].1["type"]), (1, &json!("credit-note.made")));
    payments.tell(&mut None).await.unwrap();
    assert_eq!(program.asked(), []);
}

#[tokio::test]
async fn what_was_settled_before_is_not_told_and_what_comes_then_is() {
    let (house, program, payments) = open().await;
    let accounts = invoiced(&house).await;
    let mut papers = Vec::new();
    for account in &accounts {
        let found = house.get(&house.operator, &format!("/accounts/{account}/invoices")).await.as_(200).clone();
        papers.push(path(account, &found["items"][0]["id"]));
        let paid = json!({ "reference": "by hand" });
        house.post(&house.operator, &format!("{}/payment", papers.last().unwrap()), paid).await.as_(200);
    }
    payments.tell(&mut None).await.unwrap();
    assert_eq!(program.asked(), [], "all of it is paid");
    let credit = json!({ "amount": "0.50", "reason": "it was down" });
    house.post(&house.operator, &format!("{}/credits", papers[0]), credit).await.as_(201);
    program.answers(200, json!({}));
    payments.tell(&mut None).await.unwrap();
    let asked = program.asked();
    assert_eq!((asked.len(), &asked[0].1["type"]), (1, &json!("credit-note.made")));

    // Money for what was paid by hand meanwhile: the first payment stands, and the paper is known.
    let invoice = house.office.paper_to_hand_over().await.unwrap();
    assert!(invoice.is_none());
    let seen = house.get(&house.operator, &papers[1]).await.as_(200).clone();
    let id = seen["id"].as_str().unwrap();
    let paper = house.office.invoice(&Actor::command_line(), &accounts[1], id).await.unwrap();
    house.office.paper_is_taken(&paper, Some("ch_2")).await.unwrap();
    assert_eq!(house.get(&house.operator, &papers[1]).await.as_(200)["paid_by"], "by hand");
    assert!(house.office.paper_to_hand_over().await.unwrap().is_none(), "it never goes back");
}
