//! An office on each engine, fresh for every test; time is moved by hand.
//!
//! PostgreSQL comes from `WEIR_TEST_POSTGRES` (a server where databases may be made: `cargo xtask test` starts one), or else from the
//! programs found on this machine, run privately for the test. Where there is neither, the test says so and fails: both engines are
//! promised.
#![allow(dead_code, clippy::unwrap_used)] // Each test uses its part; and may stop at the first surprise.

pub mod live_dns;

use control::office::Setting;
use control::seal::Sealer;
use control::store::{Location, Store};
use control::{Actor, Office};
use engine::id::RegionId;
use engine::time::Timestamp;
use net::dns::{Dns, FixedAnswers, FixedDns};
use sqlx::{Connection as _, Executor as _};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// 2026-11-01T00:00:00Z
pub const START: i64 = 1_793_491_200_000_000;

pub struct Bench {
    pub office: Office,
    pub by: Actor,
    pub location: Location,
    now: Arc<AtomicI64>,
    folder: PathBuf,
    server: Option<Server>,
}

impl Bench {
    pub fn pass(&self, time: Duration) {
        self.now.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    pub fn days(&self, days: u64) {
        self.pass(Duration::from_secs(days * 86_400));
    }

    /// The same database, opened anew: as after a restart.
    pub async fn again(&self) -> Office {
        office(&self.location, self.now.clone(), no_dns()).await
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.server.take();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Runs the test on SQLite, then on PostgreSQL.
pub fn on_both<F: AsyncFn(&Bench)>(test: F) {
    on_both_with(no_dns(), test);
}

pub fn on_both_with<F: AsyncFn(&Bench)>(dns: Arc<dyn Dns>, test: F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let sqlite = bench(Engine::Sqlite, dns.clone()).await;
        test(&sqlite).await;
        sqlite.office.store().close().await;
        drop(sqlite);
        let postgres = bench(Engine::Postgres, dns).await;
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
                    let server = Server::start(&folder.join("postgres"));
                    (server.url.clone(), Some(server))
                }
            };
            (Location::Postgres(fresh_database(&url).await), server)
        }
    };
    let now = Arc::new(AtomicI64::new(START));
    let office = office(&location, now.clone(), dns).await;
    Bench { office, by: Actor::command_line(), location, now, folder, server }
}

async fn office(location: &Location, now: Arc<AtomicI64>, dns: Arc<dyn Dns>) -> Office {
    Office::new(Setting {
        store: Store::open(location).await.unwrap(),
        sealer: Sealer::of_key(&[7; 32]).unwrap(),
        now: Arc::new(move || Timestamp(now.load(Ordering::SeqCst))),
        dns,
        host: "weir.test".to_owned(),
        return_path: None,
        region: RegionId::new("local"),
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

/// A PostgreSQL of this test alone.
struct Server {
    process: Child,
    folder: PathBuf,
    url: String,
}

impl Server {
    fn start(folder: &Path) -> Server {
        let programs = std::fs::read_dir("/usr/lib/postgresql")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("bin"))
            .find(|programs| programs.join("postgres").exists())
            .expect("no PostgreSQL here: `cargo xtask test` installs it, or name a server in WEIR_TEST_POSTGRES");
        std::fs::create_dir_all(folder).unwrap();
        // PostgreSQL does not run as root.
        let user = postgres_user();
        if let Some((user, group)) = user {
            std::os::unix::fs::chown(folder, Some(user), Some(group)).unwrap();
        }
        let data = folder.join("data");
        let mut make = as_user(&programs.join("initdb"), user);
        make.args(["--auth=trust", "--username=weir", "--no-sync", "--encoding=UTF8", "--locale=C", "--pgdata"]);
        assert!(make.arg(&data).stdout(Stdio::null()).status().unwrap().success(), "initdb failed");
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut run = as_user(&programs.join("postgres"), user);
        run.arg("-D").arg(&data).args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""]);
        // A test's data need not outlive the machine.
        run.args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]);
        let process = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let server = Server { process, folder: folder.to_owned(), url: format!("postgres://weir@127.0.0.1:{port}") };
        let ready = || {
            Command::new(programs.join("pg_isready")).args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()]).status()
        };
        for _ in 0..600 {
            if ready().is_ok_and(|status| status.success()) {
                return server;
            }
            // What is waited for is another program's start; it tells nobody when it is done.
            std::thread::park_timeout(Duration::from_millis(50));
        }
        panic!("PostgreSQL did not start on port {port}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The user that Debian's package makes, where this process may become another.
fn postgres_user() -> Option<(u32, u32)> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    let passwd = std::fs::read_to_string("/etc/passwd").ok().filter(|_| is_root)?;
    let line = passwd.lines().find(|line| line.starts_with("postgres:"))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}
