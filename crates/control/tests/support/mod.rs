//! An office on each engine, fresh for every test; time is moved by hand.
//!
//! PostgreSQL comes from `WEIR_TEST_POSTGRES` (a server where databases may be made: `cargo xtask test` starts one), or else from the
//! programs found on this machine, run privately for the test. Where there is neither, the test says so and fails: both engines are
//! promised.
#![allow(dead_code, clippy::unwrap_used)] // Each test uses its part; and may stop at the first surprise.

pub mod live_dns;
pub mod postgres;
pub mod sent;

use control::account::{NewAccount, Standing};
use control::archive::Archive;
use control::inventory::{Check, NewIps, Outcome};
use control::lease::{Grant, Into, Leased, Order};
use control::office::Setting;
use control::pool::{NewPool, Pool};
use control::seal::Sealer;
use control::store::{Location, Store};
use control::{Actor, ActorKind, Office};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, RegionId};
use engine::snapshot::{Holder, Plan, PoolKind, Scope};
use engine::time::Timestamp;
use net::dns::blocklist::BlockList;
use net::dns::{Dns, FixedAnswers, FixedDns};
use postgres::Postgres;
use sqlx::{Connection as _, Executor as _};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// 2026-11-01T00:00:00Z
pub const START: i64 = 1_793_491_200_000_000;

const MASTER: [u8; 32] = [7; 32];

pub struct Bench {
    pub office: Office,
    pub by: Actor,
    pub location: Location,
    now: Arc<AtomicI64>,
    folder: PathBuf,
    server: Option<Postgres>,
}

impl Bench {
    pub fn pass(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub fn days(&self, days: u64) {
        self.pass(Duration::from_secs(days * 86_400));
    }

    pub fn sealer(&self) -> Sealer {
        Sealer::of_key(&MASTER).unwrap()
    }

    /// Of the test's own folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The same database, opened anew: as after a restart.
    pub async fn again(&self) -> Office {
        office(&self.location, self.now.clone(), no_dns(), Vec::new()).await
    }

    /// The same database, where these block lists are asked.
    pub async fn with_lists(&self, dns: Arc<dyn Dns>, lists: Vec<BlockList>) -> Office {
        office(&self.location, self.now.clone(), dns, lists).await
    }
}

impl Bench {
    /// The region `local`.
    pub async fn region(&self) {
        self.office.create_region(&self.by, "local").await.unwrap();
    }

    pub async fn account(&self, name: &str, plan: Plan) -> String {
        let new = NewAccount { name: name.into(), plan, standing: Standing::Production, has_payment_method: false };
        self.office.create_account(&self.by, new).await.unwrap().id
    }

    /// 192.0.2.1 and so many more, each looked at and found good.
    pub async fn ips(&self, count: u8) -> Vec<IpAddr> {
        let addresses: Vec<IpAddr> = (1..=count).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        let new = NewIps { addresses: addresses.iter().map(ToString::to_string).collect(), ..NewIps::default() };
        self.office.add_ips(&self.by, new).await.unwrap();
        for address in &addresses {
            self.good(*address).await;
        }
        addresses
    }

    pub async fn good(&self, address: IpAddr) {
        good(&self.office, address).await;
    }

    /// The data plane tells that nothing is queued on it any more.
    pub async fn drained(&self, address: IpAddr) {
        self.office.take_in("queue", 1, &[drained(address)], &[]).await.unwrap();
    }

    pub async fn grant(&self, account: &str, ips: &[IpAddr], into: Into) -> Leased {
        let order = Order { region: None, quantity: 0, into };
        self.office.grant(&self.by, account, &Grant { order, ips: ips.to_vec(), agreed_cents: None }).await.unwrap()
    }

    pub async fn pool(&self, account: &str, name: &str) -> Pool {
        let new = NewPool {
            region: None,
            name: name.into(),
            kind: PoolKind::Standard,
            overflow: None,
            leaving: engine::snapshot::Leaving::Shared,
            relay: None,
            active_within: None,
        };
        self.office.create_pool(&self.by, account, new).await.unwrap()
    }

    /// A key of this account that may do everything in it.
    pub fn key_of(&self, account: &str) -> Actor {
        Actor {
            kind: ActorKind::Key,
            id: "key".into(),
            name: "key".into(),
            holder: Holder::Account { account: AccountId::new(account), subaccount: None },
            scopes: BTreeSet::from([Scope::Send, Scope::Read, Scope::Manage]),
            from: None,
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.server.take();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The IP was looked at just now, and nothing is wrong with it.
pub async fn good(office: &Office, address: IpAddr) {
    let words = "as it should be".to_owned();
    let check = Check { name: "reverse-dns".into(), at: office.now(), outcome: Outcome::Good, words };
    office.note_checks(address, &[check]).await.unwrap();
}

pub fn drained(ip: IpAddr) -> Event {
    Event { ip: Some(ip), ..Event::new(Timestamp(START), EventKind::IpDrained) }
}

/// Runs the test on SQLite, then on PostgreSQL.
pub fn on_both<F: AsyncFn(&Bench)>(test: F) {
    on_both_with(no_dns(), test);
}

#[allow(clippy::needless_pass_by_value)] // Both are written in the call.
pub fn on_both_with<F: AsyncFn(&Bench)>(dns: Arc<dyn Dns>, test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let sqlite = bench(Engine::Sqlite, dns.clone()).await;
        test(&sqlite).await;
        sqlite.office.store().close().await;
        drop(sqlite);
        let postgres = bench(Engine::Postgres, dns.clone()).await;
        test(&postgres).await;
        postgres.office.store().close().await;
    });
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

pub async fn bench(engine: Engine, dns: Arc<dyn Dns>) -> Bench {
    let folder = std::env::temp_dir().join(format!("weir-control-{}", uuid::Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).unwrap();
    let (location, server) = match engine {
        Engine::Sqlite => (Location::Sqlite(folder.join("control.db")), None),
        Engine::Postgres => {
            let (url, server) = match std::env::var("WEIR_TEST_POSTGRES") {
                Ok(url) => (url, None),
                Err(_) => {
                    let server = Postgres::start(&folder.join("postgres")).unwrap();
                    (server.url(), Some(server))
                }
            };
            (Location::Postgres(fresh_database(&url).await), server)
        }
    };
    let now = Arc::new(AtomicI64::new(START));
    let office = office(&location, now.clone(), dns, Vec::new()).await;
    Bench { office, by: Actor::command_line(), location, now, folder, server }
}

async fn archive(location: &Location) -> Archive {
    let archive = Archive::beside(location).unwrap();
    archive.bring_up_to_date().await.unwrap();
    archive
}

async fn office(location: &Location, now: Arc<AtomicI64>, dns: Arc<dyn Dns>, block_lists: Vec<BlockList>) -> Office {
    Office::new(Setting {
        store: Store::open(location).await.unwrap(),
        archive: archive(location).await,
        sealer: Sealer::of_key(&MASTER).unwrap(),
        now: Arc::new(move || Timestamp(now.load(Ordering::SeqCst))),
        dns,
        block_lists,
        host: "weir.test".to_owned(),
        return_path: None,
        region: RegionId::new("local"),
        schedules: Arc::default(),
        schedule: engine::schedule::DEFAULT.into(),
    })
}

/// Names without an answer do not exist.
pub fn no_dns() -> Arc<dyn Dns> {
    Arc::new(FixedDns::new(FixedAnswers { rules: Vec::new() }, None))
}

async fn fresh_database(server: &str) -> String {
    let name = format!("weir_{}", uuid::Uuid::now_v7().simple());
    sqlx::any::install_default_drivers();
    let mut conn = sqlx::AnyConnection::connect(&format!("{server}/postgres")).await.unwrap();
    conn.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))).await.unwrap();
    conn.close().await.unwrap();
    format!("{server}/{name}")
}
