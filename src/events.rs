//! How do events get from the data plane's log into the archive? In their order, each once, and a moment after they happened.
//!
//! The log waits where the archive is away: what is kept says how far it is, so nothing is remembered here.

use crate::rounds::{AGAIN_AFTER, closing, pause};
use control::Office;
use control::active::Readership;
use control::archive::{Archive, Told, ToldEvent};
use control::seal::Sealer;
use engine::active::Active;
use engine::id::MessageId;
use engine::time::Timestamp;
use mta::metrics::Metrics;
use mta::record;
use net::clock::Clock;
use spool::{Cursor, EventLog};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Events that come together are kept together; a webhook hears of one within this and what sending takes.
const GATHER: Duration = Duration::from_millis(100);
/// Counts follow the events by so much: those of many minutes are added at once.
const COUNT_AFTER: Duration = Duration::from_millis(400);
/// Who has read is told of this often; mail of the next minutes does as well with what was known before.
const READERS_EVERY: Duration = Duration::from_secs(5);
/// And kept this often; what is not is read anew.
const KEEP_READERS_EVERY: Duration = Duration::from_secs(300);
/// How the name begins.
const KIND: &str = "queue";
/// The file with the name.
const NAMED: &str = "queue.id";
/// Looks, `AGAIN_AFTER` apart, after which an archive that is ahead of the log is believed to be.
const AHEAD_LOOKS: u32 = 6;
/// Records read at once: one transaction.
const RECORDS_MAX: usize = 4_096;

/// What the archive calls this queue's events: another queue on the same database counts its own.
pub struct Source {
    pub name: String,
    data: PathBuf,
    /// How often the archive was found ahead of the log.
    ahead: u32,
}

impl Source {
    /// Made at the first start.
    pub fn of(data: &Path) -> io::Result<Source> {
        let name = match std::fs::read_to_string(data.join(NAMED)) {
            Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
            Ok(_) => write_name(data, control::id::fresh(KIND))?,
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => write_name(data, control::id::fresh(KIND))?,
            Err(fault) => return Err(fault),
        };
        Ok(Source { name, data: data.to_owned(), ahead: 0 })
    }
}

/// On the disk before it is used.
fn write_name(data: &Path, name: String) -> io::Result<String> {
    let path = data.join(NAMED);
    let fresh = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    io::Write::write_all(&mut file, name.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, &path)?;
    std::fs::File::open(data)?.sync_all()?;
    Ok(name)
}

/// Until the house closes.
pub async fn keep(
    archive: Archive,
    log: EventLog,
    mut source: Source,
    clock: Clock,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let mut more = log.more();
    let mut reader = Some(log);
    let mut at: Option<Cursor> = None;
    // At the start, of what happened before.
    let mut is_behind = true;
    loop {
        if !is_behind {
            // A row and a transaction for few events each would cost more than the events.
            sleep(GATHER).await;
        }
        if at.is_none() {
            let newest = *more.borrow_and_update();
            match begin(&archive, &mut source, newest).await {
                Some(position) => at = Some(position),
                None if pause(AGAIN_AFTER, &mut stop).await => return,
                None => continue,
            }
        }
        let (Some(from), Some(mut own)) = (at, reader.take()) else { return };
        let read = tokio::task::spawn_blocking(move || {
            let read = own.next(from, RECORDS_MAX).map(|records| {
                let last = records.last().map(|(last, _)| *last);
                let told = records.iter().filter_map(|(cursor, octets)| told(*cursor, octets)).collect::<Vec<_>>();
                (last, told, records.len() == RECORDS_MAX)
            });
            (read, own)
        });
        let Ok((read, own)) = read.await else { return tracing::error!("reading the event log ended early") };
        reader = Some(own);
        let (last, told) = match read {
            Ok((Some(last), told, is_full)) => {
                is_behind = is_full;
                (last, told)
            }
            Ok((None, ..)) => {
                is_behind = false;
                tokio::select! {
                    changed = more.changed() => if changed.is_err() { return },
                    () = closing(&mut stop) => return,
                }
                continue;
            }
            Err(fault) => {
                tracing::error!(%fault, "the event log cannot be read");
                if pause(AGAIN_AFTER, &mut stop).await {
                    return;
                }
                continue;
            }
        };
        let (count, first_at) =
            (told.len(), told.first().and_then(|told| told.events.first()).map(|told| told.event.at));
        match archive.take_in(&source.name, last.0, told).await {
            Ok(()) => {
                metrics.events_kept.inc_by(u64::try_from(count).unwrap_or(0));
                if let Some(first_at) = first_at {
                    let waited = Timestamp(clock.now()).since(first_at);
                    metrics.events_kept_seconds.observe(waited.as_secs_f64());
                }
                at = Some(last);
            }
            // Whether it was kept is asked again: an answer may have been lost on its way.
            Err(_) => {
                at = None;
                if pause(AGAIN_AFTER, &mut stop).await {
                    return;
                }
            }
        }
    }
}

/// Tells of who has read lately, until the house closes.
pub async fn follow_readers(
    archive: Archive,
    mut readership: Readership,
    (sealer, kept): (Sealer, PathBuf),
    told: watch::Sender<Active>,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let mut keep_at = Instant::now() + KEEP_READERS_EVERY;
    metrics.active_recipients.set(i64::try_from(readership.list().len()).unwrap_or(i64::MAX));
    loop {
        let before = readership.list().len();
        match readership.read_on(&archive).await {
            Ok(true) => continue,
            // Where there are no more of them, the days of those that are known may have changed.
            Ok(false) if readership.is_unkept() || readership.list().len() != before => {
                told.send_replace(readership.list().clone());
                metrics.active_recipients.set(i64::try_from(readership.list().len()).unwrap_or(i64::MAX));
            }
            Ok(false) | Err(_) => {}
        }
        if pause(READERS_EVERY, &mut stop).await {
            break;
        }
        if readership.is_unkept() && Instant::now() >= keep_at {
            keep_readers(&mut readership, &sealer, &kept).await;
            keep_at = Instant::now() + KEEP_READERS_EVERY;
        }
    }
    if readership.is_unkept() {
        keep_readers(&mut readership, &sealer, &kept).await;
    }
}

async fn keep_readers(readership: &mut Readership, sealer: &Sealer, path: &Path) {
    let (to_keep, sealer, path) = (readership.to_keep(), sealer.clone(), path.to_owned());
    match tokio::task::spawn_blocking(move || to_keep.write(&sealer, &path)).await {
        Ok(Ok(())) => readership.is_kept(),
        Ok(Err(fault)) => tracing::warn!(%fault, "what is known of active recipients is not kept"),
        Err(fault) => tracing::warn!(%fault, "what is known of active recipients is not kept"),
    }
}

/// Adds up what is kept, until the house closes.
pub async fn count(office: Office, mut stop: watch::Receiver<bool>) {
    let mut more = office.archive().end();
    loop {
        more.borrow_and_update();
        let counted = async {
            let since = office.counts_kept_since().await?;
            office.archive().count(since).await
        };
        match counted.await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(_) if pause(AGAIN_AFTER, &mut stop).await => return,
            Err(_) => continue,
        }
        tokio::select! {
            changed = more.changed() => if changed.is_err() { return },
            () = closing(&mut stop) => return,
        }
        sleep(COUNT_AFTER).await;
    }
}

async fn begin(archive: &Archive, source: &mut Source, newest: Cursor) -> Option<Cursor> {
    archive.bring_up_to_date().await.ok()?;
    let position = Cursor(archive.taken_in(&source.name).await.ok()?.unwrap_or(0));
    if position <= newest {
        source.ahead = 0;
        return Some(position);
    }
    // The log may only be broken for a moment.
    source.ahead += 1;
    if source.ahead < AHEAD_LOOKS {
        return None;
    }
    // A data folder older than the archive it was restored beside will use the same places for other events: under another name.
    tracing::warn!("the archive is ahead of the data folder; what happens from now on is kept under a new name");
    let name = control::id::fresh(KIND);
    archive.begin_at(&name, newest.0).await.ok()?;
    source.name = write_name(&source.data, name).ok()?;
    Some(newest)
}

/// None: it tells of nothing that happened.
fn told(cursor: Cursor, octets: &[u8]) -> Option<Told> {
    match record::read_entries(octets) {
        Ok(entries) if entries.is_empty() => None,
        Ok(entries) => {
            let is_alone = entries.len() == 1;
            let event = |entry: record::Entry| ToldEvent {
                record: (entry.accepted.is_some() || entry.route.is_some()).then(|| match is_alone {
                    true => octets.to_vec(),
                    false => {
                        record::write_entries(entry.event.message.unwrap_or(MessageId(0)), std::slice::from_ref(&entry))
                    }
                }),
                event: entry.event,
                address: entry.address,
                accepted: entry.accepted,
                route: entry.route,
            };
            Some(Told { cursor: cursor.0, events: entries.into_iter().map(event).collect() })
        }
        Err(fault) => {
            tracing::error!(at = cursor.0, %fault, "an event cannot be read, and is passed over");
            None
        }
    }
}
