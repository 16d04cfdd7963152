//! Does each tenant get what is its own, and nothing of the others'? The whole surface on a data plane with a snapshot as a control
//! plane makes it.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

use api::caller::{Desk, DeskInner, Peer};
use api::server::router;
use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use engine::envelope::TlsWish;
use engine::id::{AccountId, CredentialId, PoolId, SubaccountId};
use engine::quota::Quota;
use engine::snapshot::{
    Account, ConfigurationSet, Credential, Digest, Holder, Ip, IpState, Leaving, Plan, Pool, PoolKind, Scope, Senders,
    Sending, SendingDomain, Snapshot, Standing, Subaccount,
};
use http_body_util::BodyExt;
use mail::address::Domain;
use mta::deliver::{Means, Patience};
use mta::intake::{Limits, Right};
use mta::{Plant, Settings};
use net::clock::Clock;
use net::dns::{FixedAnswers, FixedDns, FixedRule, Network};
use net::tls::{Connector, Roots};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("weir-tenants-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn key(snapshot: &mut Snapshot, shown: &str, holder: Holder, scopes: &[Scope]) {
    let digest: Digest = match Right::key(shown) {
        Right::Key(digest) => digest,
        _ => unreachable!(),
    };
    let scopes = scopes.iter().copied().collect();
    let id = CredentialId::new(shown);
    let credential = Credential { id, holder, scopes, networks: Vec::new(), expires_at: None };
    Arc::make_mut(&mut snapshot.keys).insert(digest, Arc::new(credential));
}

fn of(account: &str, subaccount: Option<&str>) -> Holder {
    Holder::Account { account: AccountId::new(account), subaccount: subaccount.map(SubaccountId::new) }
}

fn account<'a>(snapshot: &'a mut Snapshot, id: &str) -> &'a mut Account {
    Arc::make_mut(Arc::make_mut(&mut snapshot.accounts).get_mut(&AccountId::new(id)).unwrap())
}

/// ann: the pool p1 “main” (192.0.2.1, .2) is her default, p2 “letters” (.3) her set's and her subaccount shop's, p3 “empty” has none.
/// bob: a managed pool p4 “arranged” (.4, .5) is his default. cy is enterprise and has nothing. dee is in the sandbox. shared: p9 (.9).
/// No host is ever reached.
fn house() -> Snapshot {
    let all = [Scope::Send, Scope::Read, Scope::Manage];
    let mut snapshot = Snapshot::empty();
    let region = snapshot.region.clone();
    for (id, plan) in [("ann", Plan::Standard), ("bob", Plan::Standard), ("cy", Plan::Enterprise), ("dee", Plan::Free)]
    {
        let senders = if id == "dee" { Senders::Verified } else { Senders::Any };
        let account = Account { plan, senders, ..Account::default() };
        Arc::make_mut(&mut snapshot.accounts).insert(AccountId::new(id), Arc::new(account));
        key(&mut snapshot, id, of(id, None), &all);
    }
    let pools = [
        ("p1", "main", PoolKind::Standard, Some("ann"), vec![1, 2]),
        ("p2", "letters", PoolKind::Standard, Some("ann"), vec![3]),
        ("p3", "empty", PoolKind::Standard, Some("ann"), vec![]),
        ("p4", "arranged", PoolKind::Managed, Some("bob"), vec![4, 5]),
        ("p9", "shared", PoolKind::Shared, None, vec![9]),
    ];
    for (id, name, kind, owner, ips) in pools {
        for last in &ips {
            let (bind, ehlo) = (ip(*last), format!("out{last}.weir.test"));
            let known = Ip { bind, ehlo, state: IpState::Active, hop: None, warm_up: None };
            Arc::make_mut(&mut snapshot.ips).insert(ip(*last), known);
        }
        if let Some(owner) = owner {
            let own = account(&mut snapshot, owner);
            own.pools.entry(region.clone()).or_default().insert(name.into(), PoolId::new(id));
        }
        let ips = ips.into_iter().map(ip).collect();
        let account = owner.map(AccountId::new);
        let pool = Pool {
            kind,
            name: name.into(),
            region: region.clone(),
            account,
            ips,
            overflow: None,
            leaving: Leaving::Shared,
            relay: None,
            active_within: None,
        };
        Arc::make_mut(&mut snapshot.pools).insert(PoolId::new(id), Arc::new(pool));
    }
    Arc::make_mut(&mut snapshot.shared).insert(region.clone(), PoolId::new("p9"));
    let ann = account(&mut snapshot, "ann");
    ann.default_pools.insert(region.clone(), PoolId::new("p1"));
    let (pool, lifetime) = (Some(PoolId::new("p2")), Some(Duration::from_secs(14 * 3_600)));
    let set = ConfigurationSet {
        sending: Sending::On,
        pool: pool.clone(),
        tls: Some(TlsWish::Required),
        lifetime,
        tracking: None,
        unsubscribe: false,
        suppression: None,
        split: None,
    };
    ann.sets.insert("weekly".into(), set);
    ann.sets.insert("silent".into(), ConfigurationSet { sending: Sending::Off, ..ConfigurationSet::default() });
    ann.subaccounts.insert(SubaccountId::new("shop"), Subaccount { pool, sending: Sending::On });
    ann.subaccounts.insert(SubaccountId::new("blog"), Subaccount { pool: None, sending: Sending::Off });
    account(&mut snapshot, "bob").default_pools.insert(region, PoolId::new("p4"));
    let dee = account(&mut snapshot, "dee");
    dee.standing = Standing::Sandbox;
    let name = Domain::parse("dee.test").unwrap();
    dee.domains.insert(name.clone(), Arc::new(SendingDomain { name, return_path: None, dkim: Vec::new() }));
    dee.addresses.insert("dee@elsewhere.test".into());
    key(&mut snapshot, "ann-shop", of("ann", Some("shop")), &all);
    key(&mut snapshot, "ann-blog", of("ann", Some("blog")), &all);
    key(&mut snapshot, "ann-sends", of("ann", None), &[Scope::Send]);
    key(&mut snapshot, "operator", Holder::Operator, &[Scope::Read, Scope::Manage]);
    assert_eq!(snapshot.check(), []);
    snapshot
}

struct House {
    plant: Plant,
    router: Router,
}

impl House {
    fn open(data: &Path, snapshot: Snapshot) -> House {
        let clock = Clock::system();
        let rule = FixedRule {
            pattern: "*.test".into(),
            mx: Vec::new(),
            addresses: vec![[127, 0, 0, 1].into()],
            txt: Vec::new(),
            no_such: false,
        };
        let dns = Arc::new(FixedDns::new(FixedAnswers { rules: vec![rule] }, None));
        let settings = Settings {
            link_origin: mta::links::ORIGIN.to_owned(),
            returns: None,
            host: Domain::parse("weir.test").unwrap(),
            data: data.to_owned(),
            disk: Arc::new(spool::RealDisk),
            spool: spool::Options { free_min_bytes: 1 << 20, ..spool::Options::default() },
            limits: Limits {
                recipients_max: 100,
                message_bytes_max: 1 << 20,
                queue_messages_max: 100,
                receiving_bytes_max: 1 << 20,
            },
            engine: engine::Limits::default(),
            snapshot: Arc::new(snapshot),
            // Nothing is reached: loopback is refused.
            allow_private: Vec::<Network>::new(),
            seed: 1,
        };
        let means = move |spool| Means {
            clock,
            spool,
            dns,
            connector: Connector::new(Roots::system()).unwrap(),
            sts: None,
            dane: false,
            port: 25,
            chunking: false,
            patience: Patience::default(),
        };
        let plant = Plant::start(settings, means).unwrap();
        let desk = Desk(Arc::new(DeskInner {
            unmatched: plant.returns.shelf().clone(),
            intake: plant.intake.clone(),
            driver: plant.driver.clone(),
            stories: plant.stories(),
            message_bytes_max: 1 << 20,
            office: None,
            guarded: Arc::default(),
            calls: std::sync::Mutex::new(api::rate::Buckets::new(api::rate::Limits::default())),
            followers: api::caller::Followers::default(),
            tracer: None,
        }));
        House { router: router(desk), plant }
    }

    async fn close(self) {
        self.plant.stop(Duration::from_secs(10)).await;
    }

    fn change(&self, how: impl FnOnce(&mut Snapshot)) {
        let mut snapshot = (*self.plant.intake.snapshot()).clone();
        how(&mut snapshot);
        let snapshot = Arc::new(snapshot);
        self.plant.driver.change_snapshot(snapshot.clone());
        self.plant.intake.change_snapshot(snapshot);
    }

    async fn call(&self, key: &str, method: Method, path: &str, body: &Value) -> (StatusCode, Value) {
        let (status, _, body) = self.call_with(key, method, path, None, body).await;
        (status, body)
    }

    async fn call_with(
        &self,
        key: &str,
        method: Method,
        path: &str,
        once: Option<&str>,
        body: &Value,
    ) -> (StatusCode, bool, Value) {
        let mut request = Request::builder().method(method).uri(path).header("authorization", format!("Bearer {key}"));
        if let Some(once) = once {
            request = request.header("Idempotency-Key", once);
        }
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(Peer(PEER));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, replayed) = (response.status(), response.headers().contains_key("idempotent-replayed"));
        let octets = response.into_body().collect().await.unwrap().to_bytes();
        (status, replayed, serde_json::from_slice(&octets).unwrap_or(Value::Null))
    }

    async fn post(&self, key: &str, more: &Value) -> (StatusCode, Value) {
        self.call(key, Method::POST, "/api/v1/messages", &message(more)).await
    }

    /// The id of a message that was taken.
    async fn taken(&self, key: &str, more: &Value) -> String {
        let (status, answer) = self.post(key, more).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        answer["id"].as_str().unwrap().to_owned()
    }

    async fn refused(&self, key: &str, more: &Value) -> (u16, String) {
        let (status, answer) = self.post(key, more).await;
        (status.as_u16(), answer["code"].as_str().unwrap_or("none").to_owned())
    }

    async fn explain(&self, key: &str, id: &str) -> (StatusCode, Value) {
        self.call(key, Method::GET, &format!("/api/v1/messages/{id}"), &Value::Null).await
    }

    async fn cancel(&self, key: &str, id: &str) -> (StatusCode, Value) {
        self.call(key, Method::DELETE, &format!("/api/v1/messages/{id}"), &Value::Null).await
    }

    async fn preview(&self, key: &str, question: &Value) -> (StatusCode, Value) {
        self.call(key, Method::POST, "/api/v1/routes:preview", question).await
    }
}

/// A message in an hour, so that it stays where it is; with what else is given.
fn message(more: &Value) -> Value {
    let mut body = json!({ "from": "me@a.test", "to": "bob@b.test", "text": "Hi", "send_at": in_an_hour() });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn in_an_hour() -> String {
    (engine::time::Timestamp(Clock::system().now()) + Duration::from_secs(3_600)).to_string()
}

// R2.1, R2.2, R2.5: each way of naming a pool, and each refusal with its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_is_the_first_rule_that_applies_or_a_refusal_that_names_the_pool() {
    let folder = Folder::new("routes");
    let house = House::open(&folder.0, house());
    let cases = [
        ("ann", json!({}), "p1", "account-default"),
        ("ann", json!({ "pool": "letters" }), "p2", "named-on-message"),
        ("ann", json!({ "pool": "p2" }), "p2", "named-on-message"),
        ("ann", json!({ "configuration_set": "weekly" }), "p2", "configuration-set"),
        ("ann", json!({ "subaccount": "shop" }), "p2", "subaccount"),
        ("ann-shop", json!({}), "p2", "subaccount"),
        ("ann-shop", json!({ "pool": "main" }), "p1", "named-on-message"),
        ("dee", json!({ "from": "x@dee.test", "to": ["y@dee.test"] }), "p9", "shared"),
    ];
    for (key, question, pool, rule) in cases {
        let (status, answer) = house.preview(key, &question).await;
        assert_eq!(status, StatusCode::OK, "{key} {question}: {answer}");
        assert_eq!((&answer["route"]["pool_id"], &answer["route"]["rule"]), (&json!(pool), &json!(rule)), "{question}");
        // What a preview says is what becomes of it.
        let mut more = question.clone();
        more["send_at"] = Value::Null;
        if let Some(to) = question.pointer("/to/0") {
            more["to"] = to.clone();
        }
        let id = house.taken(key, &more).await;
        let (status, story) = house.explain(key, &id).await;
        assert_eq!(status, StatusCode::OK, "{key} {question}: {story}");
        assert_eq!((&story["route"]["pool_id"], &story["route"]["rule"]), (&json!(pool), &json!(rule)), "{question}");
    }
    let refusals = [
        ("ann", json!({ "pool": "nowhere" }), 404, "pool_unknown"),
        // R2.8
        ("ann", json!({ "pool": "arranged" }), 404, "pool_unknown"),
        ("ann", json!({ "pool": "p4" }), 404, "pool_unknown"),
        ("ann", json!({ "pool": "empty" }), 403, "pool_empty"),
        ("cy", json!({}), 403, "no_dedicated_ip"),
        ("ann", json!({ "configuration_set": "none" }), 404, "configuration_set_unknown"),
        ("ann", json!({ "configuration_set": "silent" }), 403, "sending_off"),
        ("ann", json!({ "subaccount": "blog" }), 403, "sending_off"),
        ("ann", json!({ "subaccount": "none" }), 404, "subaccount_unknown"),
        ("ann-blog", json!({}), 403, "sending_off"),
        ("ann-shop", json!({ "subaccount": "blog" }), 403, "subaccount_not_yours"),
        ("ann", json!({ "region": "mars" }), 404, "region_unknown"),
        ("ann", json!({ "send_at": "2199-01-01T00:00:00Z" }), 400, "send_at_too_far"),
    ];
    for (key, more, status, code) in refusals {
        // The same at a submission, scheduled or not, and at a preview.
        assert_eq!(house.refused(key, &more).await, (status, code.to_owned()), "{key} {more}");
        let (found, answer) = house.preview(key, &more).await;
        assert_eq!((found.as_u16(), &answer["code"]), (status, &json!(code)), "{key} {more}");
        if let Some(pool) = more["pool"].as_str() {
            assert!(answer["detail"].as_str().unwrap().contains(pool), "{answer}");
        }
        assert!(!answer["mend"].as_str().unwrap().is_empty(), "{answer}");
    }
    let (status, _) = house.preview("operator", &json!({ "account": "ann" })).await;
    assert_eq!(status, StatusCode::OK);
    let (status, answer) = house.preview("operator", &json!({})).await;
    assert_eq!((status, &answer["field"]), (StatusCode::BAD_REQUEST, &json!("account")));
    // R1.3: by header too; a set gives lifetime and TLS.
    let raw = "RnJvbTogbWVAYS50ZXN0ClgtU0VTLUNPTkZJR1VSQVRJT04tU0VUOiB3ZWVrbHkKU3ViamVjdDogeAoKSGkK";
    let id = house.taken("ann", &json!({ "raw": raw, "text": Value::Null, "from": Value::Null })).await;
    let (_, story) = house.explain("ann", &id).await;
    assert_eq!(
        (&story["configuration_set"], &story["undecided"]["now"]["pool"]),
        (&json!("weekly"), &json!("letters"))
    );
    let time = |name: &str| story[name].as_str().unwrap().parse::<engine::time::Timestamp>().unwrap();
    // R1.6: the lifetime counts from the due time.
    assert_eq!(time("expires_at").since(time("send_at")), Duration::from_secs(14 * 3_600));
    house.close().await;
}

// R7.1, R1.4
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sandbox_takes_only_what_is_the_accounts_own() {
    let folder = Folder::new("sandbox");
    let house = House::open(&folder.0, house());
    let from = |from: &str, to: &str| json!({ "from": from, "to": to });
    house.taken("dee", &from("a@dee.test", "b@dee.test")).await;
    house.taken("dee", &from("a@dee.test", "b@sub.dee.test")).await;
    // R7.1: one a second, and no longer burst than two.
    let too_fast = house.refused("dee", &from("a@dee.test", "b@dee.test")).await;
    assert_eq!(too_fast, (429, "sending_rate_exceeded".to_owned()));
    house.change(|snapshot| {
        let region = snapshot.region.clone();
        account(snapshot, "dee").quotas.insert(region, Quota { per_day: 200, per_second: 100 });
    });
    // A single address that was verified is a sender and a recipient; its neighbour is neither.
    house.taken("dee", &from("dee@elsewhere.test", "dee@elsewhere.test")).await;
    let neighbour = house.refused("dee", &from("eve@elsewhere.test", "b@dee.test")).await;
    assert_eq!(neighbour, (403, "sender_not_verified".to_owned()));
    let (status, answer) = house.post("dee", &from("a@dee.test", "eve@elsewhere.test")).await;
    assert_eq!((status.as_u16(), &answer["code"]), (403, &json!("sandbox_recipient")));
    assert!(answer["detail"].as_str().unwrap().contains("eve@elsewhere.test"), "{answer}");
    assert!(answer["mend"].as_str().unwrap().contains("sandbox"), "{answer}");
    house.change(|snapshot| account(snapshot, "dee").standing = Standing::Production);
    house.taken("dee", &from("a@dee.test", "eve@elsewhere.test")).await;
    house.change(|snapshot| account(snapshot, "dee").standing = Standing::Paused { reason: "complaints".into() });
    let (status, answer) = house.post("dee", &from("a@dee.test", "b@dee.test")).await;
    assert_eq!((status.as_u16(), &answer["code"]), (403, &json!("account_paused")));
    assert!(answer["detail"].as_str().unwrap().contains("complaints"), "{answer}");
    house.close().await;
}

// R2.8: who may see and do what.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_sees_what_is_its_holders_and_does_what_its_scopes_say() {
    let folder = Folder::new("scopes");
    let house = House::open(&folder.0, house());
    let id = house.taken("ann", &json!({})).await;
    let shops = house.taken("ann-shop", &json!({})).await;
    for (key, id, status) in [
        ("ann", &id, 200),
        ("operator", &id, 200),
        ("bob", &id, 404),
        ("ann-shop", &id, 404),
        ("ann-shop", &shops, 200),
        ("ann", &shops, 200),
        ("ann-sends", &id, 403),
        ("nobody", &id, 401),
    ] {
        assert_eq!(house.explain(key, id).await.0.as_u16(), status, "{key}");
    }
    let queued = async |key: &str, query: &str| {
        let (_, page) = house.call(key, Method::GET, &format!("/api/v1/queue{query}"), &Value::Null).await;
        page["messages"].as_array().map_or(99, Vec::len)
    };
    assert_eq!(queued("ann", "").await, 2);
    assert_eq!(queued("ann", "?subaccount=shop").await, 1);
    assert_eq!(queued("ann-shop", "").await, 1);
    assert_eq!(queued("bob", "").await, 0);
    assert_eq!(queued("operator", "").await, 2);
    let order = async |key: &str| {
        let (status, answer) = house.call(key, Method::POST, "/api/v1/queue/hold", &json!({ "all": true })).await;
        (status.as_u16(), answer["messages"].clone())
    };
    assert_eq!(order("ann-shop").await, (200, json!(1)));
    assert_eq!(order("ann-sends").await.0, 403);
    let lanes = async |key: &str| house.call(key, Method::GET, "/api/v1/lanes", &Value::Null).await.0.as_u16();
    assert_eq!((lanes("ann").await, lanes("operator").await), (403, 200));
    assert_eq!(house.refused("operator", &json!({})).await, (403, "scope_missing".to_owned()));
    // Another's message is not cancelled, and not known either.
    assert_eq!(house.cancel("bob", &id).await.0, StatusCode::NOT_FOUND);
    assert_eq!(house.cancel("ann-shop", &id).await.0, StatusCode::NOT_FOUND);
    // A credential that is taken back is worth nothing from then on.
    house.change(|snapshot| Arc::make_mut(&mut snapshot.keys).clear());
    assert_eq!(house.explain("ann", &id).await.0, StatusCode::UNAUTHORIZED);
    house.close().await;
}

// R1.6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduled_message_is_cancelled_until_its_time() {
    let folder = Folder::new("cancel");
    let house = House::open(&folder.0, house());
    let id = house.taken("ann", &json!({ "pool": "letters" })).await;
    let (_, story) = house.explain("ann", &id).await;
    assert_eq!(story["route"], Value::Null);
    assert_eq!(story["undecided"]["now"]["pool"], "letters");
    assert_eq!(story["recipients"][0]["state"], "queued");
    assert_eq!(story["recipients"][0]["why"]["code"], "not-yet-due");
    // R2.3: what it would be now changes with the pools.
    house.change(|snapshot| Arc::make_mut(Arc::make_mut(&mut snapshot.pools).get_mut("p2").unwrap()).ips.clear());
    let (_, story) = house.explain("ann", &id).await;
    assert_eq!(story["undecided"]["now"]["pool"], "main");
    assert!(story["undecided"]["now"]["rule_words"].as_str().unwrap().contains("letters"), "{story}");
    let (status, answer) = house.cancel("ann", &id).await;
    assert_eq!((status, &answer["state"]), (StatusCode::OK, &json!("deleted")));
    let (status, answer) = house.cancel("ann", &id).await;
    assert_eq!((status, &answer["code"]), (StatusCode::CONFLICT, &json!("already_gone")));
    let gone = async {
        loop {
            let (_, story) = house.explain("ann", &id).await;
            if story["recipients"][0]["state"] == "deleted" {
                return story;
            }
            tokio::task::yield_now().await;
        }
    };
    let story = tokio::time::timeout(Duration::from_secs(60), gone).await.unwrap();
    assert_eq!(story["recipients"][0]["why"]["code"], "cancelled-by-sender");
    assert_eq!(story["undecided"], Value::Null, "it has no route to come");
    // Nor what never was.
    let unknown = "0".repeat(32);
    assert_eq!(house.cancel("ann", &unknown).await.0, StatusCode::NOT_FOUND);
    house.close().await;
}

// R1.5: also across restarts, and for each account by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_submission_gets_the_first_answer() {
    let folder = Folder::new("once");
    let first_house = House::open(&folder.0, house());
    let body = message(&json!({ "text": "once" }));
    let post = async |house: &House, key: &str, once: &str, body: &Value| {
        house.call_with(key, Method::POST, "/api/v1/messages", Some(once), body).await
    };
    let (status, replayed, answer) = post(&first_house, "ann", "k1", &body).await;
    assert_eq!((status, replayed), (StatusCode::OK, false), "{answer}");
    let id = answer["id"].clone();
    let (status, replayed, answer) = post(&first_house, "ann", "k1", &body).await;
    assert_eq!((status, replayed, &answer["id"]), (StatusCode::OK, true, &id));
    assert_eq!(first_house.plant.intake.queued(), 1, "it is one message");
    let other = message(&json!({ "text": "other" }));
    let (status, _, answer) = post(&first_house, "ann", "k1", &other).await;
    assert_eq!((status.as_u16(), &answer["code"]), (409, &json!("idempotency_key_reused")));
    let (_, replayed, answer) = post(&first_house, "bob", "k1", &body).await;
    assert!(!replayed && answer["id"] != id, "{answer}");
    // What was refused may be repeated, and is looked at anew.
    let wrong = message(&json!({ "pool": "nowhere" }));
    assert_eq!(post(&first_house, "ann", "k2", &wrong).await.0, StatusCode::NOT_FOUND);
    assert_eq!(post(&first_house, "ann", "k2", &other).await.0, StatusCode::OK);
    for bad in ["", "tab\there", &"x".repeat(257)] {
        let (status, _, answer) = post(&first_house, "ann", bad, &body).await;
        assert_eq!((status.as_u16(), &answer["code"]), (400, &json!("idempotency_key_invalid")), "{bad:?}");
    }
    first_house.close().await;

    // From the checkpoint that the stop wrote; then from the event log alone.
    for checkpoint in [true, false] {
        if !checkpoint {
            std::fs::remove_file(folder.0.join("keys")).unwrap();
        }
        let house = House::open(&folder.0, house());
        let (status, replayed, answer) = post(&house, "ann", "k1", &body).await;
        assert_eq!((status, replayed, &answer["id"]), (StatusCode::OK, true, &id), "checkpoint: {checkpoint}");
        let (status, _, _) = post(&house, "ann", "k1", &other).await;
        assert_eq!(status, StatusCode::CONFLICT);
        house.close().await;
    }
}

// R1.5: two at one time are one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_at_one_time_one_wins() {
    let folder = Folder::new("race");
    let house = Arc::new(House::open(&folder.0, house()));
    let body = message(&json!({}));
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (house, body) = (house.clone(), body.clone());
        racing.spawn(async move {
            let (status, _, answer) = house.call_with("ann", Method::POST, "/api/v1/messages", Some("k"), &body).await;
            (status.as_u16(), answer)
        });
    }
    let answers = racing.join_all().await;
    let ids: std::collections::BTreeSet<String> =
        answers.iter().filter(|(status, _)| *status == 200).map(|(_, answer)| answer["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{answers:?}");
    let rest = answers.iter().filter(|(status, _)| *status != 200);
    rest.for_each(|(status, answer)| assert_eq!((*status, &answer["code"]), (409, &json!("idempotency_in_progress"))));
    assert_eq!(house.plant.intake.queued(), 1);
    Arc::try_unwrap(house).ok().unwrap().close().await;
}

// R2.8: neither the address nor the host's name, in no field and in nobody's words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_managed_pool_shows_its_name_and_no_address() {
    let folder = Folder::new("managed");
    let house = House::open(&folder.0, house());
    let scheduled = house.taken("bob", &json!({})).await;
    let (_, told) = house.explain("bob", &scheduled).await;
    let (_, planned) = house.preview("bob", &json!({})).await;
    let (_, page) = house.call("bob", Method::GET, "/api/v1/queue", &Value::Null).await;
    assert_eq!(told["undecided"]["now"]["pool"], "arranged");
    assert_eq!((&planned["route"]["pool"], &planned["route"]["ip"]), (&json!("arranged"), &Value::Null));
    for shown in [&told, &planned, &page] {
        for secret in ["192.0.2.4", "192.0.2.5", "out4.weir.test", "out5.weir.test"] {
            assert!(!shown.to_string().contains(secret), "{secret} in {shown}");
        }
    }
    let (_, all) = house.preview("operator", &json!({ "account": "bob" })).await;
    assert_eq!(all["route"]["candidates"], json!(["192.0.2.4", "192.0.2.5"]));
    // A shared pool's addresses, and one's own, are no secret.
    let (_, own) = house.preview("ann", &json!({})).await;
    assert_eq!(own["route"]["candidates"], json!(["192.0.2.1", "192.0.2.2"]));
    let (_, shared) = house.preview("ann", &json!({ "pool": "p9" })).await;
    assert_eq!(shared["route"]["ip"], "192.0.2.9");
    house.close().await;
}
