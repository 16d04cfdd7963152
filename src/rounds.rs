//! What goes on between the rooms while the house is open? Snapshots go down, events come up, and what is due is done.
//!
//! The two planes know nothing of each other; here are the only lines where one hears of the other.

use crate::events;
use crate::judge::{Control, House, Letters};
use crate::letters;
use control::active::Readership;
use control::archive::Archive;
use control::judge::QuotaUsed;
use control::office::Setting;
use control::publish::{self, Publisher};
use control::seal::{KeepFault, SealFault, Sealer};
use control::store::{Location, Store, StoreFault};
use control::suppression::{Feed, Word};
use control::{Office, Refusal};
use engine::active::Active;
use engine::doubt::Evidence;
use engine::event::{Event, EventKind};
use engine::id::{AccountId, RegionId};
use engine::quota::{self, Quota};
use engine::snapshot::Snapshot;
use engine::tally::Lines;
use engine::time::Timestamp;
use mta::driver::Driver;
use mta::guarded::Guarded;
use mta::intake::Intake;
use mta::metrics::{Metrics, What};
use mta::{Plant, record};
use net::clock::Clock;
use net::dns::Dns;
use spool::{Cursor, EventLog};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Changes that come together are published together; a change is known to the data plane within this and what reading it takes.
const GATHER: Duration = Duration::from_millis(10);
/// The event log is looked into this often: a look costs about the same for one event and for hundreds.
const HEAR_EVERY: Duration = Duration::from_millis(50);
/// Changes made by another process on the same database are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The snapshot is kept for a start without the database at most this often, and for a small part of the time: it is written as a whole.
const KEEP_EVERY: Duration = Duration::from_secs(5);
const KEEP_PART: u32 = 20;
/// What is due is looked for this often.
const DUE_EVERY: Duration = Duration::from_secs(60);
/// After a call to the database failed.
pub const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Events read at once; and how many may pass before how far we are is written down although none mattered.
const EVENTS_MAX: usize = 1_000;
const EVENTS_UNNOTED_MAX: usize = 50_000;
/// Addresses in doubt that are known by name.
const DOUBTED_MAX: usize = 100_000;
/// IPs and domains looked at in one round: each costs other people's servers some questions.
const IPS_A_ROUND: u32 = 20;
/// How long figures that have gone bad go unseen (R6.3).
const JUDGE_EVERY: Duration = Duration::from_secs(300);
const DOMAINS_A_ROUND: u32 = 100;
/// The event log's name in the control plane.
const QUEUE: &str = "queue";

#[derive(Debug, thiserror::Error)]
pub enum ControlFault {
    #[error(transparent)]
    Store(#[from] StoreFault),
    #[error(transparent)]
    Seal(#[from] SealFault),
    #[error(transparent)]
    Kept(#[from] KeepFault),
    #[error("{0}, and no snapshot was kept from an earlier run to go on with")]
    NothingKnown(String),
    #[error(transparent)]
    InUse(#[from] spool::OpenFault),
    #[error("the queue's name in the archive: {0}")]
    Source(std::io::Error),
    #[error("the database: {0}")]
    Refused(#[from] Refusal),
}

/// The control plane, opened, and what the data plane begins with.
pub struct Opened {
    pub office: Office,
    pub snapshot: Arc<Snapshot>,
    /// None: the snapshot is the one kept last.
    publisher: Option<Publisher>,
    feed: Feed,
    readership: Readership,
    /// Whether the database was away when the house was opened.
    away: bool,
    sealer: Sealer,
    kept: Kept,
    /// What the archive calls this queue's events.
    pub source: events::Source,
}

/// What is kept for a start without the database.
#[derive(Clone)]
struct Kept {
    snapshot: PathBuf,
    suppressions: PathBuf,
    active: PathBuf,
}

/// The office on this data folder, whether its database answers or not.
pub fn office(
    house: &House,
    control: &Control,
    data: &Path,
    clock: &Clock,
    dns: Arc<dyn Dns>,
) -> Result<(Office, Sealer), ControlFault> {
    // A newer program must not change the database under an older one that runs.
    spool::free(data)?;
    let location = match &control.database {
        Some(url) => Location::Postgres(url.clone()),
        None => Location::Sqlite(data.join("control.db")),
    };
    let sealer = Sealer::of_file(&data.join("master.key"))?;
    let clock = clock.clone();
    let office = Office::new(Setting {
        store: Store::at(&location)?,
        archive: Archive::beside(&location)?,
        sealer: sealer.clone(),
        now: Arc::new(move || Timestamp(clock.now())),
        dns,
        block_lists: control.block_lists.clone(),
        host: house.host.to_string(),
        return_path: house.snapshot.delivery.return_path.clone(),
        region: house.snapshot.region.clone(),
        schedules: house.snapshot.schedules.clone(),
        schedule: control.schedule.clone(),
    });
    Ok((office, sealer))
}

/// The present from the database; without it, the last snapshot that was kept (mail goes on).
pub async fn open(office: Office, sealer: Sealer, base: &Snapshot, data: &Path) -> Result<Opened, ControlFault> {
    let kept = Kept {
        snapshot: data.join("snapshot.sealed"),
        suppressions: data.join("suppressions.sealed"),
        active: data.join("active.sealed"),
    };
    let mut feed = Feed::kept(&sealer, &kept.suppressions)?;
    let readership = Readership::kept(&sealer, &kept.active)?;
    let source = events::Source::of(data).map_err(ControlFault::Source)?;
    match office.archive().bring_up_to_date().await {
        Ok(()) => {}
        Err(newer @ StoreFault::Newer { .. }) => return Err(newer.into()),
        Err(fault) => tracing::error!(%fault, "events wait in the data plane's log until the archive can be used"),
    }
    let loaded = match office.store().bring_up_to_date().await {
        Ok(()) => match publish::present(&office, base, &sealer, &kept.snapshot).await {
            Some(mut snapshot) if heard(&office, &mut feed).await => {
                snapshot.suppressed = feed.list().clone();
                snapshot.active = readership.list().clone();
                return Ok(Opened {
                    office,
                    snapshot: Arc::new(snapshot),
                    publisher: None,
                    feed,
                    readership,
                    away: false,
                    sealer,
                    kept,
                    source,
                });
            }
            _ => load(&office, base).await,
        },
        Err(newer @ StoreFault::Newer { .. }) => return Err(newer.into()),
        Err(fault) => Err(fault.to_string()),
    };
    match loaded {
        Ok(publisher) => {
            heard(&office, &mut feed).await;
            let snapshot = told(&publisher, &feed, readership.list());
            let publisher = Some(publisher);
            Ok(Opened { office, snapshot, publisher, feed, readership, away: false, sealer, kept, source })
        }
        Err(away) => match publish::kept(base, &sealer, &kept.snapshot) {
            Ok(Some(mut snapshot)) => {
                tracing::error!(
                    version = snapshot.version,
                    "{away}; mail goes on with the snapshot that was kept last, and nothing can be changed"
                );
                snapshot.suppressed = feed.list().clone();
                snapshot.active = readership.list().clone();
                let snapshot = Arc::new(snapshot);
                Ok(Opened { office, snapshot, publisher: None, feed, readership, away: true, sealer, kept, source })
            }
            Ok(None) => Err(ControlFault::NothingKnown(away)),
            Err(fault) => Err(ControlFault::NothingKnown(format!("{away}; {}: {fault}", kept.snapshot.display()))),
        },
    }
}

/// Whether the list could be brought to where the database is; a refusal was logged where it arose.
async fn heard(office: &Office, feed: &mut Feed) -> bool {
    office.hear(feed).await.is_ok()
}

fn told(publisher: &Publisher, feed: &Feed, active: &Active) -> Arc<Snapshot> {
    let mut snapshot = publisher.snapshot();
    snapshot.suppressed = feed.list().clone();
    snapshot.active = active.clone();
    Arc::new(snapshot)
}

async fn load(office: &Office, base: &Snapshot) -> Result<Publisher, String> {
    office.make_home().await.map_err(|refusal| refusal.to_string())?;
    Publisher::load(office.clone(), base).await.map_err(|refusal| refusal.to_string())
}

/// The rounds of a running house.
pub struct Rounds {
    tasks: JoinSet<()>,
    base: watch::Sender<Arc<Snapshot>>,
}

impl Rounds {
    pub fn begin(
        opened: Opened,
        base: Arc<Snapshot>,
        plant: &Plant,
        doors: Vec<Arc<Guarded>>,
        clock: Clock,
        letters: Option<Letters>,
        stop: watch::Receiver<bool>,
    ) -> Rounds {
        let (base, based) = watch::channel(base);
        let (is_active, active) = watch::channel(opened.readership.list().clone());
        let mut tasks = JoinSet::new();
        let down = Down {
            office: opened.office.clone(),
            publisher: opened.publisher,
            feed: opened.feed,
            active,
            away: opened.away,
            base: based,
            driver: plant.driver.clone(),
            intake: plant.intake.clone(),
            sealer: opened.sealer.clone(),
            kept: opened.kept.clone(),
            unkept: true,
        };
        tasks.spawn(events::follow_readers(
            opened.office.archive().clone(),
            opened.readership,
            (opened.sealer, opened.kept.active),
            is_active,
            plant.metrics.clone(),
            stop.clone(),
        ));
        tasks.spawn(down.run(stop.clone()));
        tasks.spawn(up(opened.office.clone(), plant.spool.events(), stop.clone()));
        tasks.spawn(events::keep(
            opened.office.archive().clone(),
            plant.spool.events(),
            opened.source,
            clock,
            plant.metrics.clone(),
            stop.clone(),
        ));
        tasks.spawn(events::count(opened.office.clone(), stop.clone()));
        if let Some(letters) = letters {
            tasks.spawn(letters::run(opened.office.clone(), plant.intake.clone(), letters, stop.clone()));
        }
        tasks.spawn(due(opened.office, doors, plant.intake.clone(), plant.metrics.clone(), stop));
        Rounds { tasks, base }
    }

    /// The file was read anew: rules, delivery and the operator's key come from there.
    pub fn rebase(&self, base: Arc<Snapshot>) {
        self.base.send_replace(base);
    }

    /// What is under way is finished.
    pub async fn end(mut self) {
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Snapshots go down.
struct Down {
    office: Office,
    publisher: Option<Publisher>,
    feed: Feed,
    active: watch::Receiver<Active>,
    /// Whether the database has been away since there was a publisher last.
    away: bool,
    base: watch::Receiver<Arc<Snapshot>>,
    driver: Driver,
    intake: Intake,
    sealer: Sealer,
    kept: Kept,
    /// Whether there is a snapshot that was not kept yet.
    unkept: bool,
}

impl Down {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changes = self.office.store().changes();
        let mut keep_at = Instant::now();
        match &self.publisher {
            Some(publisher) => publisher.is_told(),
            None => {
                self.office.store().is_to_be_published();
                self.look(false).await;
            }
        }
        loop {
            if (self.unkept || self.feed.is_unkept()) && Instant::now() >= keep_at {
                let began = Instant::now();
                self.keep().await;
                self.keep_list().await;
                keep_at = Instant::now() + KEEP_EVERY.max(began.elapsed() * KEEP_PART);
            }
            let based = tokio::select! {
                changed = changes.changed() => {
                    // The office lives as long as we do, and its store with it.
                    if changed.is_err() {
                        return;
                    }
                    sleep(GATHER).await;
                    false
                }
                Ok(()) = self.active.changed() => true,
                () = sleep(LOOK_EVERY) => false,
                based = self.base.changed() => based.is_ok(),
                () = closing(&mut stop) => break,
            };
            self.look(based).await;
        }
        self.keep().await;
        self.keep_list().await;
    }

    async fn look(&mut self, based: bool) {
        let base = self.base.borrow_and_update().clone();
        let changed = match &mut self.publisher {
            Some(publisher) => {
                if based {
                    publisher.rebase(&base);
                }
                // A refusal was logged where it arose; the next round tries again.
                publisher.refresh().await.unwrap_or(false)
            }
            None => match self.office.store().bring_up_to_date().await {
                Ok(()) => match load(&self.office, &base).await {
                    Ok(publisher) => {
                        if std::mem::take(&mut self.away) {
                            tracing::info!("the database is back; what was changed there is taken over");
                        }
                        self.publisher = Some(publisher);
                        true
                    }
                    Err(_) => false,
                },
                Err(_) => {
                    self.away = true;
                    false
                }
            },
        };
        // After the audit log: what one of its lines tells of is in the list by then.
        let listed = self.publisher.is_some() && self.office.hear(&mut self.feed).await.unwrap_or(false);
        if !changed && !based && !listed {
            return;
        }
        if let Some(publisher) = &self.publisher {
            let snapshot = told(publisher, &self.feed, &self.active.borrow_and_update());
            // The driver first: what intake routes by it, the engine must know.
            self.driver.change_snapshot(snapshot.clone());
            self.intake.change_snapshot(snapshot);
            publisher.is_told();
            self.unkept |= changed || based;
        }
    }

    /// A snapshot that cannot be kept is a start without the database that cannot be had; mail does not mind.
    async fn keep(&mut self) {
        let Some(publisher) = self.publisher.as_ref().filter(|_| self.unkept) else { return };
        let (to_keep, sealer, path) = (publisher.to_keep(), self.sealer.clone(), self.kept.snapshot.clone());
        match tokio::task::spawn_blocking(move || to_keep.write(&sealer, &path)).await {
            Ok(Ok(())) => self.unkept = false,
            Ok(Err(fault)) => tracing::warn!(%fault, "the snapshot is not kept"),
            Err(fault) => tracing::warn!(%fault, "the snapshot is not kept"),
        }
    }

    /// The list is long, and its own file: a tenant's new key is no reason to write it.
    async fn keep_list(&mut self) {
        if !self.feed.is_unkept() {
            return;
        }
        let (to_keep, sealer, path) = (self.feed.to_keep(), self.sealer.clone(), self.kept.suppressions.clone());
        match tokio::task::spawn_blocking(move || to_keep.write(&sealer, &path)).await {
            Ok(Ok(())) => self.feed.is_kept(),
            Ok(Err(fault)) => tracing::warn!(%fault, "the suppression list is not kept"),
            Err(fault) => tracing::warn!(%fault, "the suppression list is not kept"),
        }
    }
}

/// Events come up.
async fn up(office: Office, log: EventLog, mut stop: watch::Receiver<bool>) {
    let mut more = log.more();
    let mut reader = Some(log);
    let mut at: Option<Cursor> = None;
    let mut unnoted = 0;
    let mut doubted = Doubted::default();
    // At the start, of what happened before.
    let mut is_behind = true;
    loop {
        if !is_behind {
            sleep(HEAR_EVERY).await;
        }
        if doubted.look_at.is_none_or(|look_at| Instant::now() >= look_at) {
            // A refusal was logged where it arose; until then all deliveries matter.
            doubted.all = office.in_doubt(DOUBTED_MAX).await.ok().flatten().map(|all| all.into_iter().collect());
            doubted.look_at = Some(Instant::now() + DUE_EVERY);
        }
        if at.is_none() {
            match office.taken_in(QUEUE).await {
                // A database newer than the data folder it was restored beside has seen events that are not in it; what
                // happens next comes after those that are.
                Ok(position) => at = Some(Cursor(position.unwrap_or(0)).min(*more.borrow_and_update())),
                Err(_) if pause(AGAIN_AFTER, &mut stop).await => return,
                Err(_) => continue,
            }
        }
        let (Some(from), Some(mut own)) = (at, reader.take()) else { return };
        let read = tokio::task::spawn_blocking(move || (own.next(from, EVENTS_MAX), own)).await;
        let Ok((read, own)) = read else { return tracing::error!("reading the event log ended early") };
        reader = Some(own);
        let records = match read {
            Ok(records) => records,
            Err(fault) => {
                tracing::error!(%fault, "the event log cannot be read");
                if pause(AGAIN_AFTER, &mut stop).await {
                    return;
                }
                continue;
            }
        };
        is_behind = records.len() == EVENTS_MAX;
        let Some((last, _)) = records.last() else {
            tokio::select! {
                changed = more.changed() => if changed.is_err() { return },
                () = closing(&mut stop) => return,
            }
            continue;
        };
        let last = *last;
        let (events, words) = matter(&records, &mut doubted);
        unnoted += records.len();
        if events.is_empty() && words.is_empty() && unnoted < EVENTS_UNNOTED_MAX {
            at = Some(last);
            continue;
        }
        match office.take_in(QUEUE, last.0, &events, &words).await {
            Ok(()) => (at, unnoted) = (Some(last), 0),
            Err(_) if pause(AGAIN_AFTER, &mut stop).await => return,
            Err(_) => {}
        }
    }
}

/// The addresses in doubt: only of those it matters that something was delivered.
#[derive(Default)]
struct Doubted {
    /// None: there are too many to know them all.
    all: Option<BTreeSet<(String, String)>>,
    /// When they are asked for again: other queues have doubts too.
    look_at: Option<Instant>,
}

impl Doubted {
    /// What is only known by its kind cannot matter.
    fn may_skip(&self, kind: EventKind) -> bool {
        match kind {
            EventKind::Accepted => true,
            EventKind::Delivered => self.all.as_ref().is_some_and(BTreeSet::is_empty),
            _ => false,
        }
    }

    fn matters(&mut self, word: &Word) -> bool {
        let Some(all) = &mut self.all else { return true };
        let who = (word.account.clone(), word.address.clone());
        match word.evidence {
            Evidence::Delivered => all.contains(&who),
            Evidence::Doubt(_) => {
                all.insert(who);
                true
            }
            Evidence::Enough(_) => true,
        }
    }
}

/// What the control plane acts on: events of IPs, and what is said of addresses.
fn matter(records: &[(Cursor, Vec<u8>)], doubted: &mut Doubted) -> (Vec<Event>, Vec<Word>) {
    let (mut events, mut words) = (Vec::new(), Vec::new());
    for (cursor, octets) in records {
        if record::only_kind(octets).is_some_and(|kind| doubted.may_skip(kind)) {
            continue;
        }
        match record::read_entries(octets) {
            Ok(entries) => {
                for entry in entries {
                    let word = Word::of(&entry.event, entry.address.as_deref());
                    words.extend(word.filter(|word| doubted.matters(word)));
                    events.extend(Some(entry.event).filter(|event| concerns_an_ip(event.kind)));
                }
            }
            Err(fault) => tracing::error!(at = cursor.0, %fault, "an event cannot be read, and is passed over"),
        }
    }
    (events, words)
}

fn concerns_an_ip(kind: EventKind) -> bool {
    matches!(kind, EventKind::IpDrained | EventKind::LaneSuspended | EventKind::LaneResumed)
}

/// What is due is done, once a minute; what fails is logged where it arises and due again the next time.
async fn due(
    office: Office,
    doors: Vec<Arc<Guarded>>,
    intake: Intake,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let mut judged_at: Option<Instant> = None;
    let mut advised_on: Option<i64> = None;
    loop {
        for door in &doors {
            note_failed(&office, door, door.failed_so_far(intake.now())).await;
        }
        let _ = office.end_rests().await;
        let _ = office.tidy_archive().await;
        let _ = office.tidy_webhooks().await;
        let _ = office.tidy_suppressions().await;
        let _ = office.tidy_credentials().await;
        let _ = office.tidy_people().await;
        let _ = office.check_due_domains(DOMAINS_A_ROUND).await;
        let _ = office.check_due_ips(IPS_A_ROUND).await;
        let _ = office.watch_lists(IPS_A_ROUND).await;
        let _ = office.end_incidents().await;
        let _ = office.scale_pools().await;
        let _ = office.serve_waiting().await;
        let _ = office.close_months().await;
        if let Ok(open) = office.invoices_open().await {
            metrics.invoices_open.set(open);
        }
        let _ = office.tell_quotas(&used_quotas(&intake)).await;
        if let Ok((open, overdue)) = office.cases_open().await {
            for (what, count) in [("open", open), ("overdue", overdue)] {
                metrics.cases_open.get_or_create(&What { what }).set(count);
            }
        }
        if judged_at.is_none_or(|at| at.elapsed() >= JUDGE_EVERY) {
            let _ = office.judge_accounts().await;
            let _ = office.look_at_drives().await;
            judged_at = Some(Instant::now());
        }
        let today = intake.now().day();
        if advised_on != Some(today) && office.advise_all().await.is_ok() {
            advised_on = Some(today);
        }
        for (kind, count) in office.incidents_open().await.unwrap_or_default() {
            metrics.incidents_open.get_or_create(&What { what: kind.code() }).set(count);
        }
        if pause(DUE_EVERY, &mut stop).await {
            break;
        }
    }
    for door in &doors {
        note_failed(&office, door, door.failed_at_last()).await;
    }
    let _ = office.note_people_at_last().await;
}

fn used_quotas(intake: &Intake) -> Vec<QuotaUsed> {
    let used = intake.quotas().used_from(quota::CALM_BELOW, &intake.snapshot(), intake.now());
    let told = |(account, region, quota, used): (AccountId, RegionId, Quota, u64)| QuotaUsed {
        account: account.to_string(),
        region: region.to_string(),
        used,
        per_day: quota.per_day,
    };
    used.into_iter().map(told).collect()
}

/// Who failed at a door is remembered until it is written down.
async fn note_failed(office: &Office, door: &Guarded, failed: Lines) {
    if office.note_failed(&failed).await.is_err() {
        door.put_back(failed);
    }
}

/// Whether the house is closing.
pub async fn pause(time: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    tokio::select! {
        () = sleep(time) => false,
        () = closing(stop) => true,
    }
}

/// Until the house closes. Who tells of it is gone only when it is over.
pub async fn closing(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
