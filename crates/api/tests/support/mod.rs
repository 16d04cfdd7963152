//! A house in one process: data plane, office on SQLite, and the router that stands before both. Every answer is held against the
//! description of the interface.
#![allow(dead_code, clippy::unwrap_used)] // Each test uses its part; and may stop at the first surprise.

pub mod schema;

use api::caller::{Desk, DeskInner, Followers, Peer};
use api::rate::{Buckets, Limits};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode};
use control::account::NewAccount;
use control::archive::Archive;
use control::credential::{CredentialKind, NewCredential};
use control::inventory::{Check, NewIps, Outcome};
use control::office::Setting;
use control::publish::Publisher;
use control::seal::Sealer;
use control::store::{Location, Store};
use control::{Actor, Office, account};
use engine::id::RegionId;
use engine::snapshot::{Plan, Scope, Snapshot};
use engine::time::Timestamp;
use mail::address::Domain;
use mta::Plant;
use mta::deliver::{Means, Patience};
use net::clock::Clock;
use net::dns::{Dns, FixedAnswers, FixedDns, Network};
use net::tls::{Connector, Roots};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tower::ServiceExt;

pub struct House {
    pub office: Office,
    pub plant: Plant,
    pub router: Router,
    pub document: Value,
    /// The operator's key.
    pub operator: String,
    folder: PathBuf,
    /// By so many microseconds the control plane is ahead.
    passed: Arc<AtomicI64>,
}

/// What was answered.
#[derive(Debug)]
pub struct Told {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Told {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body, when the status is this one.
    #[track_caller]
    pub fn as_(&self, status: u16) -> &Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        &self.body
    }

    /// A problem with this code.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> &Value {
        let body = self.as_(status);
        assert_eq!(body["code"], code, "{}", self.text);
        body
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

impl House {
    pub async fn open() -> House {
        House::open_with(Limits { burst: 1_000_000, per_second: 1_000_000 }, true).await
    }

    pub async fn open_with(limits: Limits, has_office: bool) -> House {
        let folder = std::env::temp_dir().join(format!("weir-api-{}", uuid::Uuid::now_v7().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let clock = Clock::system();
        let dns: Arc<dyn Dns> = Arc::new(FixedDns::new(FixedAnswers { rules: Vec::new() }, None));
        let (now, passed) = (clock.clone(), Arc::new(AtomicI64::new(0)));
        let later = passed.clone();
        let location = Location::Sqlite(folder.join("control.db"));
        let archive = Archive::beside(&location).unwrap();
        archive.bring_up_to_date().await.unwrap();
        let office = Office::new(Setting {
            store: Store::open(&location).await.unwrap(),
            archive: archive.clone(),
            sealer: Sealer::of_key(&[7; 32]).unwrap(),
            now: Arc::new(move || Timestamp(now.now() + later.load(Ordering::Relaxed))),
            dns: dns.clone(),
            block_lists: Vec::new(),
            host: "weir.test".to_owned(),
            return_path: None,
            region: RegionId::new("local"),
            schedules: Arc::default(),
            schedule: engine::schedule::DEFAULT.into(),
        });
        office.create_region(&Actor::command_line(), "local").await.unwrap();
        let plant = plant(&folder, clock, dns);
        // A stream ends as soon as it begins, so that every answer has an end.
        let followers = Followers::default();
        followers.close();
        let desk = Desk(Arc::new(DeskInner {
            unmatched: plant.returns.shelf().clone(),
            intake: plant.intake.clone(),
            driver: plant.driver.clone(),
            stories: plant.stories(),
            message_bytes_max: 1 << 20,
            office: has_office.then(|| office.clone()),
            guarded: Arc::default(),
            calls: Mutex::new(Buckets::new(limits)),
            followers,
            tracer: None,
        }));
        let router = api::server::router(desk);
        let document = serde_json::from_str(api::doors::document()).unwrap();
        let mut house = House { office, plant, router, document, operator: String::new(), folder, passed };
        house.operator = house.key(None, &[Scope::Send, Scope::Read, Scope::Manage]).await;
        house
    }

    /// For the control plane, so much time goes by.
    pub fn pass(&self, time: Duration) {
        self.passed.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::Relaxed);
    }

    /// What has changed reaches the data plane, as it does in a running house.
    pub async fn publish(&self) {
        let publisher = Publisher::load(self.office.clone(), &Snapshot::empty()).await.unwrap();
        let snapshot = Arc::new(publisher.snapshot());
        self.plant.driver.change_snapshot(snapshot.clone());
        self.plant.intake.change_snapshot(snapshot);
    }

    pub async fn key(&self, account: Option<&str>, scopes: &[Scope]) -> String {
        let new = NewCredential {
            kind: CredentialKind::Api,
            account: account.map(str::to_owned),
            subaccount: None,
            name: "of the test".into(),
            scopes: scopes.iter().copied().collect::<BTreeSet<_>>(),
            networks: Vec::new(),
            expires_at: None,
        };
        let shown = self.office.create_credential(&Actor::command_line(), new).await.unwrap();
        self.publish().await;
        shown.secret.show().to_owned()
    }

    /// An account that may do everything, and its key.
    pub async fn account(&self, name: &str) -> (String, String) {
        let new = NewAccount {
            name: name.into(),
            plan: Plan::Standard,
            standing: account::Standing::Production,
            has_payment_method: true,
        };
        let account = self.office.create_account(&Actor::command_line(), new).await.unwrap();
        let key = self.key(Some(&account.id), &[Scope::Send, Scope::Read, Scope::Manage]).await;
        (account.id, key)
    }

    /// IPs that can be leased.
    pub async fn ips(&self, addresses: &str) {
        let new = NewIps { addresses: vec![addresses.into()], ..NewIps::default() };
        for ip in self.office.add_ips(&Actor::command_line(), new).await.unwrap() {
            let words = "as it should be".to_owned();
            let check = Check { name: "reverse-dns".into(), at: self.office.now(), outcome: Outcome::Good, words };
            self.office.note_checks(ip.address, &[check]).await.unwrap();
        }
    }

    pub async fn get(&self, key: &str, path: &str) -> Told {
        self.call(Some(key), Method::GET, path, None, &[]).await
    }

    pub async fn post(&self, key: &str, path: &str, body: Value) -> Told {
        self.call(Some(key), Method::POST, path, Some(body), &[]).await
    }

    pub async fn patch(&self, key: &str, path: &str, body: Value) -> Told {
        self.call(Some(key), Method::PATCH, path, Some(body), &[]).await
    }

    pub async fn put(&self, key: &str, path: &str, body: Value) -> Told {
        self.call(Some(key), Method::PUT, path, Some(body), &[]).await
    }

    pub async fn delete(&self, key: &str, path: &str) -> Told {
        self.call(Some(key), Method::DELETE, path, None, &[]).await
    }

    /// The path is below `/api/v1`, or begins with another slash.
    pub async fn call(
        &self,
        key: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Told {
        let path =
            path.strip_prefix('/').filter(|rest| rest.starts_with('/')).map_or(format!("/api/v1{path}"), Into::into);
        let mut request = Request::builder().method(&method).uri(&path);
        if let Some(key) = key {
            request = request.header("authorization", format!("Bearer {key}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(Peer(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let octets = to_bytes(body, 16 << 20).await.unwrap();
        let text = String::from_utf8(octets.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let told = Told { status: parts.status, headers: parts.headers, text, body };
        schema::check(&self.document, &method, &path, &told);
        told
    }
}

impl Drop for House {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn plant(folder: &Path, clock: Clock, dns: Arc<dyn Dns>) -> Plant {
    let limits = mta::intake::Limits {
        recipients_max: 100,
        message_bytes_max: 1 << 20,
        queue_messages_max: 1_000,
        receiving_bytes_max: 16 << 20,
    };
    let settings = mta::Settings {
        link_origin: mta::links::ORIGIN.to_owned(),
        returns: None,
        host: Domain::parse("weir.test").unwrap(),
        data: folder.join("data"),
        disk: Arc::new(spool::RealDisk),
        spool: spool::Options { free_min_bytes: 1 << 20, ..spool::Options::default() },
        limits,
        engine: engine::Limits::default(),
        snapshot: Arc::new(Snapshot::empty()),
        allow_private: Network::ALL.into(),
        seed: 1,
    };
    std::fs::create_dir_all(&settings.data).unwrap();
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
    Plant::start(settings, means).unwrap()
}
