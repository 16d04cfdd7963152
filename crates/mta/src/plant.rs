//! How does all of it begin and end?
//!
//! Beginning: the spool is opened, the engine's task starts, what was queued is told to it while mail is already taken and sent.
//! Ending: no new mail, what is in flight is finished, the rest stays in the spool.

use crate::badge::Badge;
use crate::checkpoint::CHECKPOINT_EVERY;
use crate::deliver::Means;
use crate::driver::{self, Driver};
use crate::explain::Stories;
use crate::heard::{HEARD_MAX, Heard};
use crate::intake::{self, Intake, Limits};
use crate::links::Links;
use crate::metrics::Metrics;
use crate::notice;
use crate::once::{KEYS_MAX, Onces};
use crate::quotas::Quotas;
use crate::record;
use crate::return_path::{NoRandomness, Sealer};
use crate::returns::{self, Returns};
use crate::tracking::Tracking;
use crate::unmatched::{self, Shelf};
use engine::Learned;
use engine::event::Event;
use engine::id::MessageId;
use engine::snapshot::Snapshot;
use engine::time::Timestamp;
use mail::address::Domain;
use net::clock::Clock;
use net::dns::Network;
use spool::{Cursor, Disk, EventLog, LiveMessage, Options, Recovered, Spool};
use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Recovered messages told to the engine before it is waited for: what is under way takes bounded memory.
const RECOVERY_BATCH: usize = 2_000;

pub struct Settings {
    pub host: Domain,
    /// The data folder; everything this installation must not lose is below it.
    pub data: PathBuf,
    /// What the spool is written to.
    pub disk: Arc<dyn Disk>,
    pub spool: Options,
    pub limits: Limits,
    /// Where the tracking hosts of senders are reached; see `links::ORIGIN`.
    pub link_origin: String,
    /// None: nothing is taken back.
    pub returns: Option<returns::Settings>,
    pub engine: engine::Limits,
    pub snapshot: Arc<Snapshot>,
    pub allow_private: Vec<Network>,
    pub seed: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum StartFault {
    #[error(transparent)]
    Spool(#[from] spool::OpenFault),
    #[error("the key for return paths {}: {cause}", .path.display())]
    Key { path: PathBuf, cause: io::Error },
    #[error("the unmatched messages in {}: {cause}", .path.display())]
    Unmatched { path: PathBuf, cause: io::Error },
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

/// The running data plane.
pub struct Plant {
    pub intake: Intake,
    pub driver: Driver,
    pub spool: Spool,
    pub metrics: Arc<Metrics>,
    pub tracking: Tracking,
    pub returns: Returns,
    engine_task: JoinHandle<()>,
    recovery: JoinHandle<()>,
    memories: Memories,
    checkpoints: JoinHandle<()>,
}

impl Plant {
    /// `means` is made of the opened spool, because deliveries read from it.
    pub fn start(settings: Settings, means: impl FnOnce(Spool) -> Means) -> Result<Plant, StartFault> {
        let secret = return_path_secret(&settings.data.join("return-path.key"))?;
        let (sealer, links) = (Arc::new(Sealer::new(&secret)), Arc::new(Links::new(&secret, &settings.link_origin)));
        let (spool, recovered) = spool::open_on(settings.disk, &settings.data, settings.spool)?;
        for dropped in &recovered.dropped {
            tracing::warn!("found on start: {dropped}");
        }
        let means = Arc::new(means(spool.clone()));
        let metrics = Arc::new(Metrics::default());
        let (notices, to_write) = mpsc::unbounded_channel();
        let (learned, since) = learned(&spool);
        let (driver, engine_task) = driver::start(driver::Setting {
            means: means.clone(),
            snapshot: settings.snapshot.clone(),
            learned,
            since,
            limits: settings.engine,
            seed: settings.seed,
            metrics: metrics.clone(),
            allow_private: settings.allow_private,
            notices,
        });
        let engine_task = tokio::spawn(engine_task);
        let memories = Memories::new(&settings.data);
        let onces = memories.onces.clone();
        let intake = Intake::new(
            &settings.host,
            intake::Setting {
                clock: means.clock.clone(),
                spool: spool.clone(),
                driver: driver.clone(),
                sealer: sealer.clone(),
                links: links.clone(),
                badge: settings.returns.as_ref().map(|returns| Badge::new(sealer.clone(), returns.badge.clone())),
                limits: settings.limits,
                metrics: metrics.clone(),
                snapshot: settings.snapshot,
                onces: onces.clone(),
                quotas: memories.quotas.clone(),
            },
        );
        tokio::spawn(notice::run(intake.clone(), spool.clone(), driver.clone(), to_write));
        let tracking = Tracking::new(links, intake.clone(), spool.clone());
        let shelf = {
            let path = settings.data.join("unmatched");
            let limits = settings.returns.as_ref().map_or_else(unmatched::Limits::default, |returns| returns.unmatched);
            Shelf::open(&path, limits).map_err(|cause| StartFault::Unmatched { path, cause })?
        };
        let heard = memories.heard.clone();
        let returns = Returns::new(intake.clone(), sealer, spool.clone(), heard, shelf, settings.returns);
        // Before a door is open: what comes from now on is counted as it comes.
        let before = (*spool.events().more().borrow(), intake.snapshot());
        let checkpoints = tokio::spawn(remember(memories.clone(), spool.events(), before, means.clock.clone()));
        let recovery = tokio::spawn(recover(recovered, spool.clone(), driver.clone(), onces));
        Ok(Plant { intake, driver, spool, metrics, tracking, returns, engine_task, recovery, memories, checkpoints })
    }

    #[must_use]
    pub fn stories(&self) -> Stories {
        Stories::of(&self.spool)
    }

    /// Whether everything that was queued at the start is known to the engine.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.recovery.is_finished()
    }

    /// Finishes what is in flight, for at most so long; the rest stays in the spool for the next start.
    pub async fn stop(self, within: Duration) {
        self.recovery.abort();
        self.checkpoints.abort();
        self.driver.stop();
        if tokio::time::timeout(within, self.engine_task).await.is_err() {
            tracing::warn!(
                waited_s = within.as_secs(),
                "some deliveries did not end in time; they are tried again after the next start"
            );
        }
        let (spool, memories, now) = (self.spool, self.memories, self.intake.now());
        let close = move || {
            // Before the spool is closed: what comes into the log after this cursor is read at the next start.
            memories.write_last(*spool.events().more().borrow(), now);
            spool.close();
        };
        // Closing writes and syncs: it may wait for the disk.
        if let Err(fault) = tokio::task::spawn_blocking(close).await {
            tracing::error!(%fault, "the spool was not closed");
        }
    }
}

/// What the engine had learned when the process ended, the newest word of it in the event log, and what happened since. The driver
/// writes it again and again, so that it is not far back; where it is not, there was nothing.
fn learned(spool: &Spool) -> (Learned, Vec<Event>) {
    let mut found = Learned::default();
    let mut since = Vec::new();
    let mut oldest = None;
    let scanned = spool.events().scan_back(&mut |cursor, octets| {
        let oldest = *oldest.get_or_insert(cursor.0.saturating_sub(2 * driver::REMEMBER_EVERY));
        match record::read_learned(octets) {
            _ if cursor.0 < oldest => return ControlFlow::Break(()),
            None => {
                // What cannot be read is somebody else's trouble, and told there.
                let entries = record::read_entries(octets).unwrap_or_default();
                since.extend(entries.into_iter().rev().map(|entry| entry.event));
                return ControlFlow::Continue(());
            }
            Some(Ok(learned)) => found = learned,
            Some(Err(fault)) => tracing::warn!(%fault, "what lanes had learned cannot be read; they begin anew"),
        }
        ControlFlow::Break(())
    });
    if let Err(fault) = scanned {
        tracing::warn!(%fault, "what lanes had learned cannot be read; they begin anew");
    }
    since.reverse();
    (found, since)
}

/// Tells the engine of every message that was queued, in the order they were accepted.
async fn recover(recovered: Recovered, spool: Spool, driver: Driver, onces: Onces) {
    let mut live = recovered.live;
    let mut count = 0u64;
    loop {
        let batch = tokio::task::spawn_blocking(move || {
            let batch: Vec<_> = live.by_ref().take(RECOVERY_BATCH).collect();
            (live, batch)
        })
        .await;
        let Ok((rest, batch)) = batch else { return tracing::error!("reading the queue ended early") };
        live = rest;
        if batch.is_empty() {
            break;
        }
        for message in batch {
            match message {
                Ok(message) => {
                    count += 1;
                    take_up(&message, &spool, &driver, &onces);
                }
                Err(fault) => tracing::error!(%fault, "a queued message cannot be read"),
            }
        }
        if driver.ask(|_, _| ()).await.is_err() {
            return;
        }
    }
    driver.recovered();
    tracing::info!(messages = count, "the queue is recovered");
}

fn take_up(live: &LiveMessage, spool: &Spool, driver: &Driver, onces: &Onces) {
    let message = MessageId(live.key);
    let envelope = match record::read_envelope(&live.head) {
        Ok(envelope) => envelope,
        Err(fault) => return tracing::error!(id = %message, %fault, "a queued message cannot be read"),
    };
    let standing = match record::read_standing(&live.state) {
        Ok(standing) => standing,
        // Delivering twice is better than losing: without its state, the message begins anew.
        Err(fault) => {
            tracing::error!(id = %message, %fault, "the state of a queued message cannot be read; it is delivered anew");
            None
        }
    };
    if let Some(once) = envelope.once {
        onces.learn(once, message, envelope.accepted_at);
    }
    if envelope.recipients.is_empty() {
        // All were suppressed, and the process ended before it was taken out.
        return spool.remove(live.key, Vec::new());
    }
    driver.accepted(Arc::new(envelope), standing);
}

/// What is made of the event log at a start, each with its checkpoint.
#[derive(Clone)]
struct Memories {
    onces: Onces,
    quotas: Quotas,
    handed_in: PathBuf,
    keys: PathBuf,
    heard: Heard,
    returned: PathBuf,
    /// One writes at a time: a checkpoint that is being written when the process stops is finished first.
    writing: Arc<Mutex<()>>,
}

impl Memories {
    fn new(data: &Path) -> Memories {
        let (onces, heard) = (Onces::new(KEYS_MAX), Heard::new(HEARD_MAX));
        let quotas = Quotas::default();
        let [handed_in, keys, returned] = ["handed-in", "keys", "returned"].map(|name| data.join(name));
        Memories { onces, quotas, handed_in, keys, heard, returned, writing: Arc::default() }
    }

    fn read(&self, log: EventLog, newest: Cursor, snapshot: &Snapshot, now: Timestamp) {
        if let Err(fault) = self.quotas.read(&self.handed_in, log.clone(), newest, snapshot, now) {
            tracing::error!(%fault, "not all that counts for quotas of the last day is known");
        }
        if let Err(fault) = self.onces.read(&self.keys, log.clone(), now) {
            tracing::error!(%fault, "not all idempotency keys of the last day are known");
        }
        if let Err(fault) = self.heard.read(&self.returned, log, now) {
            tracing::error!(%fault, "not all that came back before is known; some of it may count twice");
        }
    }

    fn write(&self, newest: Cursor, now: Timestamp) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(fault) = self.quotas.write(&self.handed_in, newest, now) {
            tracing::warn!(%fault, "what counts for quotas is not written for now");
        }
        if let Err(fault) = self.onces.write(&self.keys, newest, now) {
            tracing::warn!(%fault, "the idempotency keys are not written for now");
        }
        if let Err(fault) = self.heard.write(&self.returned, newest, now) {
            tracing::warn!(%fault, "what came back is not written for now");
        }
    }

    fn write_last(&self, newest: Cursor, now: Timestamp) {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(fault) = self.quotas.write_last(&self.handed_in, newest, now) {
            tracing::warn!(%fault, "what counts for quotas is not written; the next start reads it from the event log");
        }
        if let Err(fault) = self.onces.write_last(&self.keys, newest) {
            tracing::warn!(%fault, "the keys are not written; the next start reads them from the event log");
        }
        if let Err(fault) = self.heard.write_last(&self.returned, newest) {
            tracing::warn!(%fault, "what came back is not written; the next start reads it from the event log");
        }
    }
}

/// Reads what is remembered, while mail is already taken; then writes checkpoints of it now and then.
async fn remember(memories: Memories, log: EventLog, before: (Cursor, Arc<Snapshot>), clock: Clock) {
    let newest = log.more();
    let reading = {
        let (memories, now) = (memories.clone(), Timestamp(clock.now()));
        tokio::task::spawn_blocking(move || memories.read(log, before.0, &before.1, now))
    };
    if let Err(fault) = reading.await {
        tracing::error!(%fault, "what was submitted and what came back before is not known");
    }
    let mut due = tokio::time::interval(CHECKPOINT_EVERY);
    loop {
        due.tick().await;
        let (memories, newest, now) = (memories.clone(), *newest.borrow(), Timestamp(clock.now()));
        if let Err(fault) = tokio::task::spawn_blocking(move || memories.write(newest, now)).await {
            tracing::warn!(%fault, "what is remembered is not written for now");
        }
    }
}

/// The secret of this installation's return paths and links; made at the first start, and never lost: what was sealed with it comes back
/// for weeks.
fn return_path_secret(path: &Path) -> Result<Vec<u8>, StartFault> {
    let fault = |cause| StartFault::Key { path: path.to_owned(), cause };
    match fs::read(path) {
        Ok(secret) if secret.len() == Sealer::SECRET_OCTETS => return Ok(secret),
        Ok(secret) => {
            let what =
                format!("holds {} octets instead of {}; restore it from a backup", secret.len(), Sealer::SECRET_OCTETS);
            return Err(fault(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {}
        Err(cause) => return Err(fault(cause)),
    }
    let secret = Sealer::fresh_secret()?;
    let write = || -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // Under another name first: a crash in between leaves no half a key.
        let fresh = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&secret)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        match path.parent() {
            Some(folder) => fs::File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(fault)?;
    Ok(secret.to_vec())
}
