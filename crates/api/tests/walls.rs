//! What is another account's is as unknown as what is not there. (R2.8)
//!
//! The calls come from the description, so that a new one is tested too: with the key of one account each is asked about a thing of
//! another's, then about the same kind of thing that does not exist, and both answers must be the same.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use axum::http::Method;
use control::person::{NewPerson, Role};
use control::session::SignIn;
use control::{Actor, id::Secret};
use engine::event::{Event, EventKind};
use engine::why::Why;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use support::{House, Told, schema, text};

/// A thing of the other account's, and one like it that does not exist.
struct Thing {
    theirs: String,
    nobodys: String,
}

type Things = BTreeMap<&'static str, Thing>;

const NOBODY: &str = "00000000000000000000000000";

async fn things(house: &House) -> Things {
    let (other, key) = house.account("Bolt").await;
    house.ips("203.0.113.0/29").await;
    let made = |told: Told| text(&told.as_(201)["id"]);
    let pool = made(house.post(&key, "/accounts/self/pools", json!({ "name": "theirs" })).await);
    let order = json!({ "quantity": 2, "pool": pool });
    let leased = house.post(&key, "/accounts/self/leases", order).await;
    let ip = text(&leased.as_(201)["leases"][0]["ip"]);
    let release = house.post(&key, "/accounts/self/releases", json!({ "ips": [ip] })).await;
    let release = text(&release.as_(202)["id"]);
    let subaccount = made(house.post(&key, "/accounts/self/subaccounts", json!({ "name": "part" })).await);
    let relay = json!({ "name": "before", "host": "smtp.bolt.test" });
    let relay = made(house.post(&key, "/accounts/self/relays", relay).await);
    let wanted = json!({
        "kind": "quota", "mail_type": "transactional", "website": "https://bolt.test", "opted_in": "x", "bounces": "x",
        "opting_out": "x", "number_chosen": "x", "use_case": "x", "terms": true, "only_opted_in": true,
        "bounce_process": true, "requests": [{ "per_day": 1_000 }],
    });
    let case = made(house.post(&key, "/accounts/self/cases", wanted).await);
    let saying = json!({ "text": "x", "attachments": [{ "name": "x.txt", "content": "eA==" }] });
    house.post(&key, &format!("/accounts/self/cases/{case}/messages"), saying).await.as_(200);
    let file = house.get(&key, &format!("/accounts/self/cases/{case}")).await;
    let attachments = file.as_(200)["entries"].as_array().unwrap().iter().map(|entry| &entry["attachments"][0]["id"]);
    let attachment = text(attachments.clone().find(|id| id.is_string()).unwrap());
    let policy = json!({ "name": "by-rule", "kind": "quota", "criteria": { "sent_min": 1 } });
    let policy = made(house.post(&house.operator, "/policies", policy).await);
    let invoice = invoice(house, &other).await;
    let set = json!({ "name": "their-set", "pool": pool });
    made(house.post(&key, "/accounts/self/configuration-sets", set).await);
    let plain = json!({ "name": "driven" });
    made(house.post(&key, "/accounts/self/configuration-sets", plain).await);
    let drive = json!({ "set": "driven", "pool": pool, "percent": 10 });
    let drive = made(house.post(&key, "/accounts/self/test-drives", drive).await);
    let credential = json!({ "name": "theirs", "scopes": ["read"] });
    let credential = house.post(&key, "/accounts/self/credentials", credential).await;
    let credential = text(&credential.as_(201)["credential"]["id"]);
    house.post(&key, "/accounts/self/domains", json!({ "name": "bolt.test" })).await.as_(201);
    let operator = Actor::command_line();
    house.office.verify_domain_without_dns(&operator, &other, "bolt.test").await.unwrap();
    house.office.verify_address_without_mail(&operator, &other, "ann@else.test").await.unwrap();
    let keys = house.get(&key, "/accounts/self/domains/bolt.test/dkim-keys").await;
    let selector = text(&keys.as_(200)["items"][0]["selector"]);
    let person = NewPerson { email: "ann@bolt.test".into(), role: Role::Owner, account: Some(other.clone()) };
    let invited = house.office.invite(&operator, person).await.unwrap();
    let password = "correct horse battery staple";
    house.office.set_password(invited.link.show(), password, None).await.unwrap();
    let sign_in = SignIn {
        email: "ann@bolt.test".into(),
        password: Secret::new(password.into()),
        code: None,
        from: None,
        replaces: None,
    };
    let session = house.office.sign_in(sign_in).await.unwrap().session.id;
    let webhook = json!({ "name": "theirs", "target": "https://bolt.test/events" });
    let webhook = made(house.post(&key, "/accounts/self/webhooks", webhook).await);
    let suspended = Event {
        ip: ip.parse().ok(),
        provider: Some("google".into()),
        why: Some(Why::LaneSuspended { said: "421 4.7.28 too fast".into() }),
        ..Event::new(house.office.now(), EventKind::LaneSuspended)
    };
    house.office.take_in("queue", 1, &[suspended], &[]).await.unwrap();
    let incident = text(&house.get(&key, "/incidents").await.as_(200)["items"][0]["id"]);
    house.publish().await;
    let message =
        json!({ "from": "ann@bolt.test", "to": "bob@else.test", "subject": "secret", "text": "x", "pool": "theirs" });
    let message = text(&house.post(&key, "/messages", message).await.as_(200)["id"]);
    let thing = |theirs: String, nobodys: String| Thing { theirs, nobodys };
    let like = |theirs: &str| {
        let kind = theirs.split('_').next().unwrap();
        thing(theirs.to_owned(), format!("{kind}_{NOBODY}"))
    };
    let pool = like(&pool);
    Things::from([
        ("account", like(&other)),
        ("overflow", Thing { theirs: pool.theirs.clone(), nobodys: pool.nobodys.clone() }),
        ("move_ips_to", Thing { theirs: pool.theirs.clone(), nobodys: pool.nobodys.clone() }),
        ("pool", pool),
        ("subaccount", like(&subaccount)),
        ("relay", like(&relay)),
        ("case", like(&case)),
        ("policy", like(&policy)),
        ("test_drive", like(&drive)),
        ("invoice", thing(invoice, "2026-999999".into())),
        ("attachment", like(&attachment)),
        ("set", thing("their-set".into(), "no-set".into())),
        ("configuration_set", thing("their-set".into(), "no-set".into())),
        ("ips", thing(ip.clone(), "198.51.100.250".into())),
        ("ip", thing(ip, "198.51.100.250".into())),
        ("release", like(&release)),
        ("credential", like(&credential)),
        ("domain", thing("bolt.test".into(), "none.test".into())),
        ("selector", thing(selector.clone(), "no-such-selector".into())),
        ("address", thing("ann@else.test".into(), "nobody@else.test".into())),
        ("person", thing("ann@bolt.test".into(), "none@bolt.test".into())),
        ("session", like(&session)),
        ("webhook", like(&webhook)),
        ("incident", like(&incident)),
        ("scaling", thing("1".into(), "9".into())),
        ("id", thing(message.clone(), format!("{:032x}", 7))),
        ("message", thing(message, format!("{:032x}", 7))),
    ])
}

/// One of theirs, as a month that is over leaves it.
async fn invoice(house: &House, account: &str) -> String {
    let mut change = house.office.store().change().await.unwrap();
    let insert = "INSERT INTO invoice (number, id, account, month, total_cents, paper, made_at) \
                  VALUES (1, '2026-000001', $1, 24320, 2495, '{}', 1)";
    sqlx::query(insert).bind(account.to_owned()).execute(change.conn()).await.unwrap();
    change.commit().await.unwrap();
    "2026-000001".to_owned()
}

/// What stands in an address and is nobody's secret.
const PLAIN: &[(&str, &str)] =
    &[("region", "local"), ("name", "rest_days"), ("order", "hold"), ("provider", "sink.test"), ("limit", "10")];

/// What is said there refers to nothing: whoever reads the mail of an address gets it, whichever other account claims it too; and each
/// account has a suppression list of its own.
const CLAIMED: [(&str, &str, &str); 2] = [
    ("post", "/api/v1/accounts/{account}/addresses", "address"),
    ("put", "/api/v1/accounts/{account}/suppressions/{address}", "address"),
];

/// A name that was not given yet begins so, and has as many letters.
const FRESH: &str = "fresh-";
const FRESH_LETTERS: usize = 20;

fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{FRESH}{:0width$}", NEXT.fetch_add(1, Ordering::Relaxed), width = FRESH_LETTERS - FRESH.len())
}

/// The answer without what was asked, so that two can be compared.
fn told(told: &Told, asked: &[&str]) -> (u16, String) {
    let mut text = told.text.clone();
    for name in asked {
        text = text.replace(name, "…");
    }
    while let Some(at) = text.find(FRESH) {
        text.replace_range(at..at + FRESH_LETTERS, "…");
    }
    (told.status.as_u16(), text)
}

// G3
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_tells_of_another_accounts_things() {
    let house = House::open().await;
    let (own, key) = house.account("Acme").await;
    // What is in the addresses is the caller's own where it is not what is tested.
    let own_pool = house.post(&key, "/accounts/self/pools", json!({ "name": "mine" })).await;
    let own_pool = text(&own_pool.as_(201)["id"]);
    house.ips("198.51.100.9").await;
    let order = json!({ "quantity": 1, "pool": own_pool });
    house.post(&key, "/accounts/self/leases", order).await.as_(201);
    let things = things(&house).await;
    let mine = json!({ "name": "mine" });
    house.post(&key, "/accounts/self/configuration-sets", mine.clone()).await.as_(201);
    house.post(&key, "/accounts/self/subaccounts", mine).await.as_(201);
    house.post(&key, "/accounts/self/domains", json!({ "name": "acme.test" })).await.as_(201);
    let ours = BTreeMap::from([
        ("account", own.as_str()),
        ("pool", own_pool.as_str()),
        ("set", "mine"),
        ("subaccount", "mine"),
        ("domain", "acme.test"),
    ]);
    let (mut tested, mut wrong) = (0, Vec::new());
    for (path, item) in house.document["paths"].as_object().unwrap() {
        for (method, call) in item.as_object().unwrap() {
            if call["security"].as_array().is_some_and(Vec::is_empty) {
                continue;
            }
            let names = named(&house.document, call, path);
            for name in names.iter().filter(|name| !CLAIMED.contains(&(method.as_str(), path.as_str(), name.as_str())))
            {
                let Some(thing) = things.get(name.as_str()) else {
                    let known = PLAIN.iter().any(|(plain, _)| plain == name) || !is_in_path(path, name);
                    assert!(known, "{method} {path}: say in this test what {name} is");
                    continue;
                };
                let theirs = ask(&house, &key, method, path, call, name, &thing.theirs, &ours, &things).await;
                let nobodys = ask(&house, &key, method, path, call, name, &thing.nobodys, &ours, &things).await;
                let asked = [thing.theirs.as_str(), &thing.nobodys];
                let place = format!("{method} {path}, {name}");
                let (of_theirs, of_nobodys) = (told(&theirs, &asked), told(&nobodys, &asked));
                if of_theirs != of_nobodys {
                    wrong.push(format!("{place}: {of_theirs:?}, and of nothing {of_nobodys:?}"));
                }
                let is_list = method == "get" && !is_in_path(path, name);
                if !is_list && theirs.status.is_success() && !is_harmless(path) {
                    wrong.push(format!("{place}: {}", theirs.text));
                }
                let text = theirs.text.replace(&thing.theirs, "…");
                for secret in
                    ["Bolt", "203.0.113.", "their", "secret"].into_iter().filter(|secret| text.contains(secret))
                {
                    wrong.push(format!("{place} tells {secret}: {text}"));
                }
                tested += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tested > 80, "only {tested} things were asked for");
    // Nothing of theirs was changed by all that.
    let known = house.office.pool(&Actor::command_line(), &things["account"].theirs, "theirs").await.unwrap();
    assert_eq!(known.ips.len(), 2);
}

/// An order for the queue is for what the caller sees of it: of another's, nothing. The account in its body says nothing then.
fn is_harmless(path: &str) -> bool {
    path == "/api/v1/queue/{order}" || path == "/api/v1/routes:preview"
}

fn is_in_path(path: &str, name: &str) -> bool {
    path.contains(&format!("{{{name}}}"))
}

/// All that can be named in a call: in its address, its query, its body.
fn named(document: &Value, call: &Value, path: &str) -> Vec<String> {
    let parameters = call["parameters"].as_array().into_iter().flatten();
    let mut names: Vec<String> = parameters.map(|parameter| text(&parameter["name"])).collect();
    let body = &call["requestBody"]["content"]["application/json"]["schema"];
    if body.is_object() {
        let fields = schema::resolved(document, body)["properties"].as_object().cloned().unwrap_or_default();
        names.extend(fields.keys().filter(|name| !is_in_path(path, name)).cloned());
    }
    names.sort();
    names.dedup();
    names
}

#[allow(clippy::too_many_arguments)] // One thing is put into one place of one call; all of it is said here.
async fn ask(
    house: &House,
    key: &str,
    method: &str,
    path: &str,
    call: &Value,
    name: &str,
    value: &str,
    ours: &BTreeMap<&str, &str>,
    things: &Things,
) -> Told {
    let mut address = path.strip_prefix("/api/v1").map_or(format!("/{path}"), str::to_owned);
    // Below another's account everything is theirs.
    let whole = name == "account" && is_in_path(path, "account");
    for part in path.split('{').skip(1).filter_map(|rest| rest.split('}').next()) {
        let theirs = things.get(part).map(|thing| thing.theirs.as_str());
        let plain = PLAIN.iter().find(|(plain, _)| *plain == part).map(|(_, value)| *value);
        let own = if whole { theirs } else { ours.get(part).copied().or(theirs) };
        let own = if part == name { Some(value) } else { own.or(plain) };
        address = address.replace(&format!("{{{part}}}"), own.unwrap());
    }
    let in_query = |parameter: &Value| parameter["in"] == "query" && parameter["name"] == name;
    if call["parameters"].as_array().into_iter().flatten().any(in_query) {
        address = format!("{address}?{name}={value}");
    }
    let body = &call["requestBody"]["content"]["application/json"]["schema"];
    let body = body.is_object().then(|| body_of(&house.document, body, name, value));
    let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    house.call(Some(key), method, &address, body, &[]).await
}

/// What must be there, and the thing in its place.
fn body_of(document: &Value, body: &Value, name: &str, value: &str) -> Value {
    let schema = schema::resolved(document, body);
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let own = |field: &str| match field {
        _ if field == name => Some(json!(value)),
        "email" => Some(json!("new@acme.test")),
        "address" => Some(json!("new@acme.test")),
        // Names are taken once.
        "name" | "new_pool" => Some(json!(fresh())),
        _ => None,
    };
    let mut whole = schema::example(document, body, &own);
    whole.as_object_mut().unwrap().retain(|field, _| required.contains(&field.as_str()) || field == name);
    whole
}
