//! Where does the control plane keep what it knows? One schema, on SQLite or PostgreSQL.
//!
//! Every statement runs on both as it stands: `$1` for values, TEXT, BIGINT and octets for types, times in microseconds. Changes are
//! made one after another, on either engine: SQLite has one writer by nature, PostgreSQL is told to (an advisory lock for the length
//! of the change). So no change is made on what another is just about to change, and the constraints of the schema are the second
//! line of defence, not the first.

use crate::refusal::{Kind, Refusal};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, AnyRow};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, Connection as _, Executor as _, Row as _, Transaction};
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Readers of SQLite; more would wait for processors anyway.
const SQLITE_READERS: u32 = 4;
/// Of all processes of an installation together, a default PostgreSQL takes a hundred.
const POSTGRES_CONNECTIONS: u32 = 8;
/// How long a call waits for the database before it is told that there is none.
const WAIT: Duration = Duration::from_secs(5);
/// After this, a change's answer does not wait for the data plane any longer. Milliseconds are usual.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);
/// Of the archive's own: one writes, few read.
const POSTGRES_CONNECTIONS_ARCHIVE: u32 = 4;
/// Held by whoever changes something, on PostgreSQL.
const CHANGE_LOCK: i64 = 0x7765_6972;
/// Held by whoever writes to the archive: events come in there whatever else is changed.
const ARCHIVE_LOCK: i64 = 0x7765_6973;

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// One file, beside the queue.
    Sqlite(PathBuf),
    /// `postgres://user:password@host:port/name`
    Postgres(String),
}

impl Location {
    /// Events lie beside what they are about: with SQLite in a file of their own, which may grow large and is not needed to restore
    /// an installation.
    #[must_use]
    pub fn of_archive(&self) -> Location {
        match self {
            Location::Sqlite(path) => Location::Sqlite(path.with_file_name("events.db")),
            Location::Postgres(url) => Location::Postgres(url.clone()),
        }
    }
}

/// What is kept there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// What cannot be had again: each change is on the disk before it is answered.
    Tenants,
    /// What the data plane's log tells again: after a power cut a little of it is taken in anew.
    Events,
}

impl Holds {
    fn lock(self) -> i64 {
        match self {
            Holds::Tenants => CHANGE_LOCK,
            Holds::Events => ARCHIVE_LOCK,
        }
    }

    fn pragmas(self) -> &'static str {
        match self {
            Holds::Tenants => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
                 PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY;"
            }
            // Rows are blocks of many events: large pages hold them in fewer pieces.
            Holds::Events => {
                "PRAGMA page_size = 16384; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; \
                 PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;"
            }
        }
    }

    fn connections(self) -> u32 {
        match self {
            Holds::Tenants => POSTGRES_CONNECTIONS,
            Holds::Events => POSTGRES_CONNECTIONS_ARCHIVE,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreFault {
    #[error("the database cannot be used: {0}")]
    Unusable(String),
    #[error(
        "the database is of a newer version ({found}) than this program knows ({known}): install the newer program again, or restore a backup made before the upgrade"
    )]
    Newer { found: i64, known: i64 },
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    engine: Engine,
    holds: Holds,
    readers: AnyPool,
    writer: AnyPool,
    options: AnyConnectOptions,
    /// The last line of the audit log that was written here.
    changed: watch::Sender<i64>,
    /// The last line that the data plane was told of; none while nobody tells it anything.
    published: watch::Sender<Option<i64>>,
}

impl Store {
    /// The connection that changes are made on.
    pub(crate) async fn writer(&self) -> Result<PoolConnection<Any>, StoreFault> {
        match self.0.writer.acquire().await {
            Ok(conn) => Ok(conn),
            Err(fault) => Err(StoreFault::Unusable(self.why(fault).await.to_string())),
        }
    }

    /// A pool that waited in vain does not say for what: one connection beside it does.
    async fn why(&self, fault: sqlx::Error) -> sqlx::Error {
        let try_one = async {
            let mut conn = AnyConnection::connect_with(&self.0.options).await?;
            match self.0.engine {
                Engine::Sqlite => conn.execute("SELECT COUNT(*) FROM sqlite_master").await.map(|_| ()),
                Engine::Postgres => conn.ping().await,
            }
        };
        match tokio::time::timeout(WAIT, try_one).await {
            Ok(Err(cause)) => cause,
            Ok(Ok(())) | Err(_) => fault,
        }
    }

    /// Without looking whether it is there: until its schema is up to date, every call is refused as without a database.
    pub fn at(location: &Location) -> Result<Store, StoreFault> {
        Store::holding(Holds::Tenants, location)
    }

    /// The archive's own, under the same conditions.
    pub(crate) fn of_archive(location: &Location) -> Result<Store, StoreFault> {
        Store::holding(Holds::Events, location)
    }

    fn holding(holds: Holds, location: &Location) -> Result<Store, StoreFault> {
        sqlx::any::install_default_drivers();
        let unusable = |fault: sqlx::Error| StoreFault::Unusable(fault.to_string());
        let pool = |connections: u32| {
            // A connection that went bad is found by using it; asking first would double the cost of every read.
            let options = AnyPoolOptions::new().max_connections(connections).acquire_timeout(WAIT);
            // SQLite ends a transaction by itself where the disk is full; the library's own end of it fails then, and it believes
            // itself in one for ever.
            options
                .test_before_acquire(false)
                .before_acquire(|conn, _| Box::pin(async move { Ok(!conn.is_in_transaction()) }))
        };
        let (engine, options, readers, writer) = match location {
            Location::Sqlite(path) => {
                private(path).map_err(|fault| StoreFault::Unusable(format!("{}: {fault}", path.display())))?;
                let options = AnyConnectOptions::from_str(&sqlite_url(path)).map_err(unusable)?;
                let pool = |connections| {
                    pool(connections).after_connect(move |conn, _| {
                        Box::pin(async move { conn.execute(holds.pragmas()).await.map(|_| ()) })
                    })
                };
                let readers = pool(SQLITE_READERS).connect_lazy_with(options.clone());
                let writer = pool(1).connect_lazy_with(options.clone());
                (Engine::Sqlite, options, readers, writer)
            }
            Location::Postgres(url) => {
                let options = AnyConnectOptions::from_str(url).map_err(unusable)?;
                let both = pool(holds.connections()).connect_lazy_with(options.clone());
                (Engine::Postgres, options, both.clone(), both)
            }
        };
        let (changed, published) = (watch::Sender::new(0), watch::Sender::new(None));
        Ok(Store(Arc::new(Inner { engine, holds, readers, writer, options, changed, published })))
    }

    #[must_use]
    pub fn engine(&self) -> Engine {
        self.0.engine
    }

    /// Tells of every change that was made here.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<i64> {
        self.0.changed.subscribe()
    }

    /// The data plane was told of everything up to this line of the audit log.
    pub(crate) fn is_published(&self, line: i64) {
        self.0.published.send_if_modified(|last| {
            let is_newer = last.is_none_or(|last| line > last);
            *last = (*last).max(Some(line));
            is_newer
        });
    }

    /// From now on somebody tells the data plane of changes, if not at this moment: the database may be away.
    pub fn is_to_be_published(&self) {
        self.is_published(0);
    }

    /// Until the data plane knows what was changed here, or it takes too long: who has just made a key can use it.
    pub async fn published(&self) {
        let wanted = *self.0.changed.borrow();
        let mut published = self.0.published.subscribe();
        let told = published.wait_for(|line| line.is_some_and(|line| line >= wanted));
        // Where nothing publishes (a command on the data folder), nothing is waited for.
        if self.0.published.borrow().is_some() {
            let _ = tokio::time::timeout(PUBLISHED_WITHIN, told).await;
        }
    }

    pub async fn read(&self) -> Result<PoolConnection<Any>, Refusal> {
        self.0.readers.acquire().await.map_err(|fault| refuse(&fault))
    }

    /// Several questions to one state of the database, whatever is written meanwhile.
    pub(crate) async fn read_still(&self) -> Result<Transaction<'static, Any>, Refusal> {
        let begun = match self.0.engine {
            Engine::Sqlite => self.0.readers.begin().await,
            Engine::Postgres => self.0.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await,
        };
        begun.map_err(|fault| refuse(&fault))
    }

    /// A transaction that no other change runs beside. Dropped without `commit`, nothing of it was.
    pub async fn change(&self) -> Result<Change, Refusal> {
        let begun = match self.0.engine {
            Engine::Sqlite => self.0.writer.begin_with("BEGIN IMMEDIATE").await,
            Engine::Postgres => self.0.writer.begin().await,
        };
        let mut tx = begun.map_err(|fault| refuse(&fault))?;
        if self.0.engine == Engine::Postgres {
            let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(self.0.holds.lock());
            lock.execute(&mut *tx).await.map_err(|fault| refuse(&fault))?;
        }
        Ok(Change { tx, store: self.clone(), line: 0 })
    }

    /// Writes all that is in memory to its place and lets go of the files.
    pub async fn close(&self) {
        self.0.readers.close().await;
        self.0.writer.close().await;
    }
}

/// The file is its owner's alone, and so are those that SQLite puts beside it: they take its rights over.
fn private(path: &Path) -> std::io::Result<()> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path).map(|_| ())
}

fn sqlite_url(path: &Path) -> String {
    // What would be read as the end of the path.
    let path = path.display().to_string().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    format!("sqlite://{path}?mode=rwc")
}

/// One change under way.
pub struct Change {
    tx: Transaction<'static, Any>,
    store: Store,
    /// Its last line in the audit log.
    line: i64,
}

impl Change {
    pub fn conn(&mut self) -> &mut AnyConnection {
        &mut self.tx
    }

    pub(crate) fn wrote(&mut self, line: i64) {
        self.line = line;
    }

    /// Now it is durable, or the answer is a refusal and nothing of it is.
    pub async fn commit(self) -> Result<(), Refusal> {
        self.tx.commit().await.map_err(|fault| refuse(&fault))?;
        self.store.0.changed.send_modify(|last| *last = (*last).max(self.line));
        Ok(())
    }
}

pub(crate) type Query = sqlx::query::Query<'static, Any, sqlx::any::AnyArguments>;

/// `q!("SELECT … WHERE a = $1", a)`
macro_rules! q {
    ($sql:expr $(, $value:expr)* $(,)?) => { sqlx::query($sql)$(.bind($value))* };
}
pub(crate) use q;

/// Whose things are read: everybody's at the start, one account's after a change.
#[derive(Clone, Copy)]
pub(crate) enum Whose<'a> {
    All,
    Of(&'a str),
}

impl Whose<'_> {
    /// For `q!`: the statement for all, or the one for an account with its id.
    pub(crate) fn query(self, all: &'static str, of: &'static str) -> Query {
        match self {
            Whose::All => q!(all),
            Whose::Of(account) => q!(of, account.to_owned()),
        }
    }
}

pub(crate) async fn rows(conn: &mut AnyConnection, query: Query) -> Result<Vec<AnyRow>, Refusal> {
    query.fetch_all(conn).await.map_err(|fault| refuse(&fault))
}

pub(crate) async fn row(conn: &mut AnyConnection, query: Query) -> Result<Option<AnyRow>, Refusal> {
    query.fetch_optional(conn).await.map_err(|fault| refuse(&fault))
}

/// The first column of the only row, a whole number.
pub(crate) async fn number(conn: &mut AnyConnection, query: Query) -> Result<i64, Refusal> {
    let row = query.fetch_one(conn).await.map_err(|fault| refuse(&fault))?;
    row.try_get(0).map_err(|fault| refuse(&fault))
}

/// How many rows it changed.
pub(crate) async fn run(conn: &mut AnyConnection, query: Query) -> Result<u64, Refusal> {
    query.execute(conn).await.map(|done| done.rows_affected()).map_err(|fault| refuse(&fault))
}

/// As `run`, where the schema may say no: something is there already, or must not be.
pub(crate) async fn run_unless(
    conn: &mut AnyConnection,
    query: Query,
    said_no: impl FnOnce() -> Refusal,
) -> Result<u64, Refusal> {
    match query.execute(conn).await {
        Ok(done) => Ok(done.rows_affected()),
        Err(fault) if is_guarded(&fault) => Err(said_no()),
        Err(fault) => Err(refuse(&fault)),
    }
}

/// Columns by place; the statement names them, so a wrong type is a fault of ours.
pub(crate) trait Columns {
    fn text(&self, at: usize) -> Result<String, Refusal>;
    fn text_or_none(&self, at: usize) -> Result<Option<String>, Refusal>;
    fn whole(&self, at: usize) -> Result<i64, Refusal>;
    fn whole_or_none(&self, at: usize) -> Result<Option<i64>, Refusal>;
    fn octets(&self, at: usize) -> Result<Vec<u8>, Refusal>;
    fn octets_or_none(&self, at: usize) -> Result<Option<Vec<u8>>, Refusal>;
    fn yes(&self, at: usize) -> Result<bool, Refusal> {
        Ok(self.whole(at)? != 0)
    }
}

impl Columns for AnyRow {
    fn text(&self, at: usize) -> Result<String, Refusal> {
        self.try_get(at).map_err(|fault| refuse(&fault))
    }
    fn text_or_none(&self, at: usize) -> Result<Option<String>, Refusal> {
        self.try_get(at).map_err(|fault| refuse(&fault))
    }
    fn whole(&self, at: usize) -> Result<i64, Refusal> {
        self.try_get(at).map_err(|fault| refuse(&fault))
    }
    fn whole_or_none(&self, at: usize) -> Result<Option<i64>, Refusal> {
        self.try_get(at).map_err(|fault| refuse(&fault))
    }
    fn octets(&self, at: usize) -> Result<Vec<u8>, Refusal> {
        self.try_get(at).map_err(|fault| refuse(&fault))
    }
    fn octets_or_none(&self, at: usize) -> Result<Option<Vec<u8>>, Refusal> {
        self.try_get(at).map_err(|fault| refuse(&fault))
    }
}

/// Whether a constraint or a trigger of the schema said no.
fn is_guarded(fault: &sqlx::Error) -> bool {
    /// SQLITE_CONSTRAINT_TRIGGER; and PostgreSQL's exclusion_violation, which our triggers raise too.
    const GUARDS: [&str; 2] = ["1811", "23P01"];
    let Some(fault) = fault.as_database_error() else { return false };
    fault.is_unique_violation() || fault.code().is_some_and(|code| GUARDS.contains(&&*code))
}

/// What the database cannot do, in words a caller may read; the cause goes to the log, once, here.
pub(crate) fn refuse(fault: &sqlx::Error) -> Refusal {
    match fault {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            tracing::warn!(%fault, "the database cannot be reached");
        }
        _ => tracing::error!(%fault, "the database refused a statement"),
    }
    Refusal::new(
        Kind::Unavailable,
        "database_unavailable",
        "The database cannot be used at this moment; mail goes on with what was known last.",
        "Try again in a moment; the service's log names the cause.",
    )
}
