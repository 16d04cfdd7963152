//! Can each numbered step of Amazon SES's two procedures, of its request for quotas, of SparkPost's purchase and of Resend's request be done
//! by calls? The same steps by commands: tests/house/command_line/the_procedures_of_others.rs.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use serde_json::{Value, json};
use support::{House, text};

/// What was said in a case, in a row.
async fn said(house: &House, key: &str, case: &str) -> String {
    let file = house.get(key, &format!("/accounts/self/cases/{case}")).await;
    let entries = file.as_(200)["entries"].as_array().unwrap().clone();
    entries.iter().map(|entry| text(&entry["text"])).collect::<Vec<_>>().join("\n")
}

/// The form of both of SES's requests, without what is requested.
fn form(kind: &str, requests: &Value) -> Value {
    json!({
        "kind": kind, "requests": requests, "language": "ja",
        "mail_type": "transactional", "website": "https://acme.example",
        "opted_in": "at checkout, confirmed by a second mail", "bounces": "they leave the list at once",
        "opting_out": "by a link in each message", "number_chosen": "twice our busiest day",
        "use_case": "receipts; we want a reputation of our own", "terms": true, "only_opted_in": true, "bounce_process": true,
    })
}

async fn running(house: &House, key: &str) -> Vec<String> {
    let leases = house.get(key, "/accounts/self/leases?running=true").await;
    leases.as_(200)["items"].as_array().unwrap().iter().map(|lease| text(&lease["ip"])).collect()
}

// R3.1, R3.3: “To request dedicated IPs (standard)”, nine steps.
#[tokio::test]
async fn ses_dedicated_ips_are_requested_step_by_step() {
    let house = House::open().await;
    let op = house.operator.clone();
    house.post(&op, "/regions", json!({ "region": "tokyo" })).await.as_(201);
    house.ips("203.0.113.0/30").await;
    let (account, key) = house.account("Acme").await;
    // 1: sign in. 2 and 3: what there is of dedicated IPs, and the standard pools.
    assert_eq!(house.get(&key, "/me").await.as_(200)["account"], json!(account));
    assert!(running(&house, &key).await.is_empty());
    let pools = house.get(&key, "/accounts/self/pools").await;
    let is_standard = |pool: &Value| pool["kind"] == "standard";
    assert!(pools.as_(200)["items"].as_array().unwrap().iter().any(is_standard));
    // 4: request or relinquish; here: by which criteria it would be answered at once.
    house.get(&key, "/accounts/self/criteria?kind=dedicated-ips&quantity=2").await.as_(200);
    // 5: the kind. 6: the details. 7: two regions, with number and without. 8: the use case, and a rate where no number is given.
    // 9: the language; submit.
    let requests = json!([{ "region": "local", "quantity": 2 }, { "region": "tokyo", "rate": 15 }]);
    let opened = house.post(&key, "/accounts/self/cases", form("dedicated-ips", &requests)).await;
    let case = text(&opened.as_(201)["id"]);
    assert_eq!(opened.body["request"]["requests"][1]["quantity"], 2, "R3.2: 15 a second are two IPs");
    assert!(said(&house, &key, &case).await.contains("15"), "R3.2: the working is shown");
    // “If we grant your request, we'll reply to your case”: what there is at once, the rest as it comes.
    let place = format!("/accounts/{account}/cases/{case}");
    let answered = house.post(&op, &format!("{place}/answer"), json!({ "answer": "grant" })).await;
    assert_eq!(answered.as_(200)["state"], "granted");
    let words = said(&house, &key, &case).await;
    let ips = running(&house, &key).await;
    assert_eq!(ips.len(), 2);
    assert!(ips.iter().all(|ip| words.contains(ip.as_str())), "{words}");
    let waiting = house.get(&op, "/waiting-ips").await;
    assert_eq!(waiting.as_(200)["items"][0]["region"], "tokyo");
}

// R3.5: “To relinquish dedicated IPs (standard)”, nine steps and the confirmation.
#[tokio::test]
async fn ses_dedicated_ips_are_relinquished_step_by_step() {
    let house = House::open().await;
    let op = house.operator.clone();
    house.ips("203.0.113.0/29").await;
    let (account, key) = house.account("Acme").await;
    house.post(&op, &format!("/accounts/{account}/grants"), json!({ "quantity": 3 })).await.as_(201);
    // 1 to 4: sign in, and see what is leased, in which pools.
    house.get(&key, "/me").await.as_(200);
    assert_eq!(running(&house, &key).await.len(), 3);
    house.get(&key, "/accounts/self/pools").await.as_(200);
    // 5: the kind; the rest of the form is left blank. 6: the region. 7: how many. 8: the language. 9: submit.
    let asked = json!({ "kind": "relinquish", "requests": [{ "region": "local", "quantity": 2 }], "language": "ja" });
    let opened = house.post(&key, "/accounts/self/cases", asked).await;
    let case = text(&opened.as_(201)["id"]);
    assert_eq!((&opened.body["state"], running(&house, &key).await.len()), (&json!("waiting"), 3));
    // “We send you a message that asks you to confirm”; “after you confirm, we remove them from your account”.
    let words = said(&house, &key, &case).await;
    assert!(words.contains("取り消す") || words.contains("確認"), "{words}");
    let confirm = format!("/accounts/self/cases/{case}/confirmation");
    house.post(&key, &confirm, json!({})).await.as_(200);
    assert_eq!(running(&house, &key).await.len(), 1);
    house.post(&key, &confirm, json!({})).await.refused(409, "case_state");
}

// R7.3: “To request higher sending quotas”, nine steps.
#[tokio::test]
async fn ses_quotas_are_requested_step_by_step() {
    let house = House::open().await;
    let op = house.operator.clone();
    house.post(&op, "/regions", json!({ "region": "tokyo" })).await.as_(201);
    let (account, key) = house.account("Acme").await;
    // 1: sign in. 2 and 3: the cases there are. 4: the kind.
    house.get(&key, "/me").await.as_(200);
    assert!(house.get(&key, "/accounts/self/cases").await.as_(200)["items"].as_array().unwrap().is_empty());
    // 5: classification with the three statements. 6: two regions, quota and rate. 7: the four answers. 8: the language. 9: submit.
    let requests =
        json!([{ "region": "local", "per_day": 50_000, "per_second": 14 }, { "region": "tokyo", "per_second": 5 }]);
    for missing in ["opted_in", "bounces", "opting_out", "number_chosen", "only_opted_in", "bounce_process", "terms"] {
        let mut form = form("quota", &requests);
        form.as_object_mut().unwrap().remove(missing);
        let refused = house.post(&key, "/accounts/self/cases", form).await;
        assert_eq!(refused.refused(400, "invalid_field")["field"], missing);
    }
    let opened = house.post(&key, "/accounts/self/cases", form("quota", &requests)).await;
    let case = text(&opened.as_(201)["id"]);
    // “An initial response within 24 hours”; more may be asked before; less may be granted.
    assert!(opened.body["due_at"].is_string());
    let place = format!("/accounts/{account}/cases/{case}");
    let asking = json!({ "text": "Which web shop is it?", "asks": true });
    assert_eq!(house.post(&op, &format!("{place}/messages"), asking).await.as_(200)["state"], "waiting");
    let answering = json!({ "text": "The one at acme.example." });
    let own = format!("/accounts/self/cases/{case}/messages");
    assert_eq!(house.post(&key, &own, answering).await.as_(200)["state"], "open");
    let grants =
        json!([{ "region": "local", "per_day": 20_000, "per_second": 10 }, { "region": "tokyo", "per_second": 5 }]);
    let answer = json!({ "answer": "grant", "grants": grants, "reason": "a start; ask again in a month" });
    assert_eq!(house.post(&op, &format!("{place}/answer"), answer).await.as_(200)["state"], "partly-granted");
    let quotas = house.get(&key, "/accounts/self/quotas").await;
    let per_day: Vec<&Value> =
        quotas.as_(200)["items"].as_array().unwrap().iter().map(|quota| &quota["per_day"]).collect();
    assert_eq!(per_day, [&json!(20_000), &json!(18_000)]);
}

// R3.4: “Purchasing Dedicated IPs”, SparkPost's four steps.
#[tokio::test]
async fn sparkpost_ips_are_purchased_step_by_step() {
    let house = House::open().await;
    house.ips("203.0.113.0/29").await;
    let (_, key) = house.account("Acme").await;
    // 1 and 2: how many, into an existing pool or a new one with a name of letters and digits. 3: confirm.
    let wrong = house.post(&key, "/accounts/self/leases", json!({ "quantity": 1, "new_pool": "my pool!" })).await;
    wrong.refused(400, "invalid_field");
    let bought = house.post(&key, "/accounts/self/leases", json!({ "quantity": 2, "new_pool": "news" })).await;
    let pool = text(&bought.as_(201)["pool"]["id"]);
    let more = house.post(&key, "/accounts/self/leases", json!({ "quantity": 1, "pool": pool })).await;
    assert_eq!(more.as_(201)["pool"]["ips"].as_array().unwrap().len(), 3);
    // “A maximum of 4 dedicated IPs at any one time.”
    let most = house.post(&key, "/accounts/self/leases", json!({ "quantity": 2 })).await;
    most.refused(409, "dedicated_ips_max");
    // 4: the charge is shown, and what the month comes to.
    let leases = house.get(&key, "/accounts/self/leases?running=true").await;
    let prices: Vec<&Value> =
        leases.as_(200)["items"].as_array().unwrap().iter().map(|lease| &lease["price_cents"]).collect();
    assert_eq!(prices, [&json!(2_000); 3]);
    let forecast = house.get(&key, "/accounts/self/forecast").await;
    assert_eq!(forecast.as_(200)["expected_entries"].as_array().unwrap().len(), 3);
}

// R3.8: “How to request a Dedicated IP”, Resend's four questions and its four requirements.
#[tokio::test]
async fn resend_a_managed_pool_is_requested_question_by_question() {
    let house = House::open().await;
    let op = house.operator.clone();
    let (account, key) = house.account("Acme").await;
    house.post(&key, "/accounts/self/domains", json!({ "name": "acme.test" })).await.as_(201);
    // What types of emails; how many per day and month; consistent or bursts; which domains.
    let asked = |per_day: u64| {
        json!({ "kind": "managed-pool", "requests": [{ "region": "local" }], "pool": "bulk", "traffic": {
            "kinds": "receipts", "per_day": per_day, "per_month": per_day * 30, "is_steady": true, "domains": ["acme.test"],
        } })
    };
    let opened = house.post(&key, "/accounts/self/cases", asked(400)).await;
    let case = text(&opened.as_(201)["id"]);
    // What is required and not met is named: the volume, and the domain.
    assert_eq!(opened.body["facts"]["unmet"], 2);
    let words = said(&house, &key, &case).await;
    assert!(words.contains("500") && words.contains("acme.test"), "{words}");
    house.post(&key, &format!("/accounts/self/cases/{case}/closing"), json!({})).await.as_(200);

    house.post(&op, &format!("/accounts/{account}/domains/acme.test/verification"), json!({})).await.as_(200);
    let opened = house.post(&key, "/accounts/self/cases", asked(2_000)).await;
    let case = text(&opened.as_(201)["id"]);
    assert_eq!(opened.body["facts"]["unmet"], 0);
    let place = format!("/accounts/{account}/cases/{case}/answer");
    assert_eq!(house.post(&op, &place, json!({ "answer": "grant" })).await.as_(200)["state"], "granted");
    let pool = house.get(&key, "/accounts/self/pools/bulk/scaling").await;
    assert!(!pool.as_(200)["name"].is_null() && !pool.text.contains("203.0.113."), "R2.8: no addresses");
}
