//! What has happened, for as long as it is kept, and how is something found in it?
//!
//! Events are numbered as they come and written in blocks of `BLOCK_EVENTS`, one row each; what does not fill a block yet stands in
//! small rows behind them (*fresh*). Of each block a sorted run of keys is kept, and runs are merged as they become many (`keys`). So
//! writing is always at the end, and looking for something reads a page of each run and the few blocks that hold it.
//!
//! How far a source was read is kept in the transaction that keeps its events: each is kept once, whatever breaks off when. Who reads
//! on (statistics, webhooks) has a number and no queue.

use crate::block::{About, Block, BlockFault, Kept, Origin, Wanted, folded, write};
use crate::keys::{self, Key, LEVEL_MAX, blocks_of, blocks_with, pages};
use crate::refusal::{Kind, Refusal};
use crate::store::{Change, Columns, Location, Store, StoreFault, number, q, row, rows, run};
use crate::tail::{ReadOn, Tail};
use engine::envelope::{Envelope, Route};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, MessageId};
use engine::simulator::{self, simulated};
use engine::time::Timestamp;
use sqlx::AnyConnection;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Mutex, MutexGuard, watch};

/// Events of a block. More makes blocks costlier to look into, fewer makes more keys.
const BLOCK_EVENTS: i64 = 1_024;
/// Messages whose acceptance is remembered for the events that follow; for others it is looked up.
const RECENT_MAX: usize = 100_000;
/// Accounts whose newest event is remembered, so that their webhooks need not look.
const ACCOUNTS_REMEMBERED_MAX: usize = 200_000;
/// Runs asked at once, in a search and when reading on.
const RUNS_ASKED: i64 = 64;
/// Blocks looked into for one page of a search: what is not found by then is told with a place to go on.
const BLOCKS_LOOKED_MAX: usize = 256;
/// Events of one message's story. A message has fewer, unless it is tried for a month.
const STORY_MAX: usize = 20_000;
/// Blocks deleted in one transaction, so that none is long.
const DELETED_AT_ONCE: i64 = 128;

/// One record of a source: its place there, and what it tells.
#[derive(Clone, Debug)]
pub struct Told {
    pub cursor: u64,
    pub events: Vec<ToldEvent>,
}

#[derive(Clone, Debug)]
pub struct ToldEvent {
    pub event: Event,
    /// The recipient's, where it was at hand.
    pub address: Option<String>,
    /// With `Accepted`.
    pub accepted: Option<Envelope>,
    /// With `Routed`.
    pub route: Option<Route>,
    /// With `Accepted` and `Routed`: the record to be kept for whoever tells the whole story.
    pub record: Option<Vec<u8>>,
}

/// A part of what was found, and where to go on.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Newest first.
    pub events: Vec<Kept>,
    /// What comes before this number was not looked at; none: there is no more.
    pub next: Option<i64>,
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Archive(Arc<Inner>);

struct Inner {
    store: Store,
    /// The number that the next event will have.
    end: watch::Sender<i64>,
    recent: Mutex<Recent>,
    tail: RwLock<Tail>,
    /// The newest event of each account that had one lately.
    newest: std::sync::Mutex<HashMap<AccountId, i64>>,
    /// Numbers of series that were counted lately.
    series: std::sync::Mutex<HashMap<String, i64>>,
}

/// What is known of messages whose acceptance was seen not long ago.
#[derive(Default)]
struct Recent {
    known: HashMap<MessageId, Known>,
    /// In the order in which they came.
    order: VecDeque<MessageId>,
    last_about: Arc<About>,
}

#[derive(Clone)]
struct Known {
    account: Option<AccountId>,
    about: Arc<About>,
    began: Option<Timestamp>,
    addresses: Arc<[Arc<str>]>,
}

impl Known {
    fn nothing() -> Known {
        Known { account: None, about: Arc::default(), began: None, addresses: Arc::new([]) }
    }

    fn of(envelope: &Envelope, about: Arc<About>) -> Known {
        Known {
            account: Some(envelope.account.clone()),
            about,
            began: Some(envelope.accepted_at.max(envelope.due_at)),
            addresses: envelope.recipients.iter().map(|recipient| Arc::from(&*recipient.address)).collect(),
        }
    }
}

impl Recent {
    fn remember(&mut self, message: MessageId, known: Known) {
        if self.known.insert(message, known).is_none() {
            self.order.push_back(message);
        }
        while self.order.len() > RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Many messages in a row say the same of themselves.
    fn shared(&mut self, about: About) -> Arc<About> {
        if *self.last_about != about {
            self.last_about = Arc::new(about);
        }
        self.last_about.clone()
    }
}

/// A block that cannot be read is ours, and no reason to hide the others.
fn unreadable(first: i64, fault: &BlockFault) {
    tracing::error!(first, %fault, "a block of events cannot be read, and is passed over");
}

fn events_of(first: i64, octets: &[u8], wanted: &Wanted, from: i64, before: i64) -> Vec<Kept> {
    let found = Block::read(first, octets).and_then(|block| block.wanted(wanted, from, before));
    found.unwrap_or_else(|fault| {
        unreadable(first, &fault);
        Vec::new()
    })
}

fn key_of(wanted: &Wanted) -> Option<Key> {
    let account = wanted.account.as_deref();
    // The one that fewest blocks have comes first.
    if let Some(message) = wanted.message {
        return Some(Key::of("message", &[&message.0.to_be_bytes()]));
    }
    if let Some(recipient) = &wanted.recipient {
        return Some(Key::of("recipient", &[recipient.as_bytes()]));
    }
    if let (Some(account), Some((name, value))) = (account, &wanted.tag) {
        return Some(tag_key(account, name, value.as_deref()));
    }
    if let Some(ip) = wanted.ip {
        return Some(Key::of("ip", &[ip.to_string().as_bytes()]));
    }
    account.map(account_key)
}

fn account_key(account: &str) -> Key {
    Key::of("account", &[account.as_bytes()])
}

fn tag_key(account: &str, name: &str, value: Option<&str>) -> Key {
    match value {
        Some(value) => Key::of("tag-value", &[account.as_bytes(), name.as_bytes(), value.as_bytes()]),
        None => Key::of("tag", &[account.as_bytes(), name.as_bytes()]),
    }
}

/// What the events of a block can be found by.
fn keys_in(events: &[Arc<Kept>]) -> Vec<Key> {
    let mut keys = HashSet::new();
    let (mut accounts, mut ips, mut tagged) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut last_message = None;
    for kept in events {
        if let Some(message) = kept.event.message
            && last_message != Some(message)
        {
            last_message = Some(message);
            keys.insert(Key::of("message", &[&message.0.to_be_bytes()]));
        }
        keys.extend(kept.address.as_deref().map(|address| Key::of("recipient", &[folded(address).as_bytes()])));
        ips.extend(kept.event.ip);
        if let Some(account) = &kept.event.account {
            accounts.insert(account);
            if !kept.about.tags.is_empty() {
                tagged.insert((account, &kept.about.tags));
            }
        }
    }
    keys.extend(accounts.into_iter().map(|account| account_key(account.as_str())));
    keys.extend(ips.into_iter().map(|ip| Key::of("ip", &[ip.to_string().as_bytes()])));
    for (account, tags) in tagged {
        for (name, value) in tags {
            keys.insert(tag_key(account.as_str(), name, None));
            keys.insert(tag_key(account.as_str(), name, Some(value)));
        }
    }
    keys.into_iter().collect()
}

fn times(events: &[Arc<Kept>]) -> (i64, i64) {
    let times = events.iter().map(|kept| kept.event.at.0);
    (times.clone().min().unwrap_or(0), times.max().unwrap_or(0))
}

fn length(of: usize) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

impl Archive {
    /// Beside the database of this location, whether it answers or not.
    pub fn beside(location: &Location) -> Result<Archive, StoreFault> {
        let store = Store::of_archive(&location.of_archive())?;
        Ok(Archive(Arc::new(Inner {
            store,
            end: watch::Sender::new(0),
            recent: Mutex::default(),
            tail: RwLock::default(),
            newest: Default::default(),
            series: Default::default(),
        })))
    }

    pub async fn bring_up_to_date(&self) -> Result<(), StoreFault> {
        self.store().bring_archive_up_to_date().await?;
        let end = async {
            let mut conn = self.store().read().await?;
            end(&mut conn).await
        };
        let end = end.await.map_err(|refusal| StoreFault::Unusable(refusal.sentence))?;
        self.0.end.send_replace(end);
        Ok(())
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn series_known(&self) -> std::sync::MutexGuard<'_, HashMap<String, i64>> {
        // Each entry stands alone: a table that a panic left is as good as before.
        self.0.series.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds the number that the next event will have; tells of every event that is kept here.
    #[must_use]
    pub fn end(&self) -> watch::Receiver<i64> {
        self.0.end.subscribe()
    }

    /// The number that the next event will have; another process on the same database may have kept some.
    pub async fn look_for_end(&self) -> Result<i64, Refusal> {
        let mut conn = self.store().read().await?;
        let end = end(&mut conn).await?;
        drop(conn);
        self.tell(end);
        Ok(end)
    }

    /// The number of an account's newest event that was kept by this process; none: nothing lately.
    #[must_use]
    pub fn newest_of(&self, account: &str) -> Option<i64> {
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner).get(account).copied()
    }

    fn note_newest(&self, newest: HashMap<AccountId, i64>) {
        let mut all = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() + newest.len() > ACCOUNTS_REMEMBERED_MAX {
            all.clear();
        }
        all.extend(newest);
    }

    fn tell(&self, end: i64) {
        self.0.end.send_if_modified(|known| {
            let is_more = end > *known;
            *known = end.max(*known);
            is_more
        });
    }

    pub async fn close(&self) {
        self.store().close().await;
    }

    /// How far this source is kept; none: nothing of it yet.
    pub async fn taken_in(&self, source: &str) -> Result<Option<u64>, Refusal> {
        let mut conn = self.store().read().await?;
        let query = q!("SELECT position FROM event_source WHERE name = $1", source.to_owned());
        let position = row(&mut conn, query).await?.map(|row| row.whole(0)).transpose()?;
        Ok(position.map(|position| u64::try_from(position).unwrap_or(0)))
    }

    /// A source whose events are kept from after this position on.
    pub async fn begin_at(&self, source: &str, position: u64) -> Result<(), Refusal> {
        let mut change = self.store().change().await?;
        let (id, _) = source_of(change.conn(), source).await?;
        let position = i64::try_from(position).unwrap_or(i64::MAX);
        run(change.conn(), q!("UPDATE event_source SET position = $2 WHERE id = $1", id, position)).await?;
        change.commit().await
    }

    /// Keeps what this source tells, up to this position. What was kept before is not kept again.
    pub async fn take_in(&self, source: &str, position: u64, told: Vec<Told>) -> Result<(), Refusal> {
        // One after another: what is remembered is in the order of what is told.
        let mut recent = self.0.recent.lock().await;
        let mut kept = Vec::with_capacity(told.len() * 2);
        for record in told {
            self.complete(&mut recent, record, &mut kept).await?;
        }
        let mut change = self.store().change().await?;
        let (id, known) = source_of(change.conn(), source).await?;
        kept.retain(|kept| i64::try_from(kept.origin.cursor).is_ok_and(|cursor| cursor > known));
        let mut end = end(change.conn()).await?;
        let mut newest = HashMap::new();
        for kept in &mut kept {
            kept.origin.source = id;
            kept.number = end;
            if let Some(account) = &kept.event.account {
                newest.insert(account.clone(), end);
            }
            end += 1;
        }
        let kept: Vec<Arc<Kept>> = kept.into_iter().map(Arc::new).collect();
        append(&mut change, kept.clone(), end).await?;
        let position = i64::try_from(position).unwrap_or(i64::MAX).max(known);
        run(change.conn(), q!("UPDATE event_source SET position = $2 WHERE id = $1", id, position)).await?;
        change.commit().await?;
        self.0.tail.write().unwrap_or_else(PoisonError::into_inner).append(kept);
        drop(recent);
        self.note_newest(newest);
        self.tell(end);
        Ok(())
    }

    /// Fills in what the log does not repeat: the message's account, addresses, tags. An acceptance becomes an event for each
    /// recipient.
    async fn complete(
        &self,
        recent: &mut MutexGuard<'_, Recent>,
        record: Told,
        kept: &mut Vec<Kept>,
    ) -> Result<(), Refusal> {
        let mut origin = Origin { source: 0, cursor: record.cursor, index: 0 };
        for told in record.events {
            let known = match (told.event.message, &told.accepted) {
                (Some(message), Some(envelope)) => {
                    let about = recent.shared(About::of(envelope, None));
                    let known = Known::of(envelope, about);
                    recent.remember(message, known.clone());
                    known
                }
                (Some(message), None) if message != MessageId(0) => self.known(recent, message).await?,
                _ => Known::nothing(),
            };
            let known = match (told.event.message, &told.route) {
                (Some(message), Some(route)) => {
                    let mut about = (*known.about).clone();
                    about.take(Some(route));
                    let known = Known { about: recent.shared(about), ..known };
                    recent.remember(message, known.clone());
                    known
                }
                _ => known,
            };
            let mut event = told.event;
            event.account = event.account.or_else(|| known.account.clone());
            event.message = event.message.filter(|message| *message != MessageId(0));
            let mut record = told.record.map(Arc::from);
            let mut keep = |mut event: Event, address: Option<Arc<str>>| {
                if event.provider.is_none() && address.as_deref().and_then(simulated).is_some() {
                    event.provider = Some(Arc::from(simulator::PROVIDER));
                }
                kept.push(Kept {
                    number: 0,
                    origin,
                    event,
                    address,
                    about: known.about.clone(),
                    began: known.began,
                    record: record.take(),
                });
                origin.index += 1;
            };
            if told.accepted.is_some() {
                for (at, address) in (0u16..).zip(known.addresses.iter()) {
                    keep(Event { recipient: Some(at), ..event.clone() }, Some(address.clone()));
                }
            } else {
                let own = event.recipient.and_then(|at| known.addresses.get(usize::from(at)).cloned());
                keep(event, own.or_else(|| told.address.map(Arc::from)));
            }
        }
        Ok(())
    }

    async fn known(&self, recent: &mut MutexGuard<'_, Recent>, message: MessageId) -> Result<Known, Refusal> {
        if let Some(known) = recent.known.get(&message) {
            return Ok(known.clone());
        }
        let story = self.story(message).await?;
        let is_accepted = |kept: &&Kept| kept.event.kind == EventKind::Accepted;
        let known = match (story.iter().find(is_accepted), story.last()) {
            (Some(first), Some(last)) => Known {
                account: first.event.account.clone(),
                // What was decided later is known since then.
                about: recent.shared((*last.about).clone()),
                began: first.began,
                addresses: story.iter().filter(is_accepted).filter_map(|kept| kept.address.clone()).collect(),
            },
            // It was accepted before the archive began, or longer ago than is kept.
            _ => Known::nothing(),
        };
        recent.remember(message, known.clone());
        Ok(known)
    }

    /// All that is kept of a message, oldest first.
    pub async fn story(&self, message: MessageId) -> Result<Vec<Kept>, Refusal> {
        let wanted = Wanted { message: Some(message), ..Wanted::default() };
        let mut found = self.search(&wanted, None, STORY_MAX).await?;
        found.events.reverse();
        Ok(found.events)
    }

    /// Those that are wanted, newest first, from before this number.
    pub async fn search(&self, wanted: &Wanted, before: Option<i64>, limit: usize) -> Result<Found, Refusal> {
        let mut tx = self.store().read_still().await?;
        let end = end(&mut tx).await?;
        let before = before.unwrap_or(end).min(end);
        let sealed = end - end % BLOCK_EVENTS;
        let mut events = Vec::new();
        if before > sealed {
            let query = q!(
                "SELECT first, octets FROM event_block WHERE first >= $1 AND first < $2 ORDER BY first DESC",
                sealed,
                before
            );
            for row in rows(&mut tx, query).await? {
                let found = events_of(row.whole(0)?, &row.octets(1)?, wanted, sealed, before);
                events.extend(found.into_iter().rev());
                if events.len() > limit {
                    return Ok(cut(events, limit));
                }
            }
        }
        let mut looked = 0;
        let before = before.min(sealed);
        let mut place = before.div_euclid(BLOCK_EVENTS) + i64::from(before % BLOCK_EVENTS > 0);
        let key = key_of(wanted);
        loop {
            let runs = runs_before(&mut tx, place, key, wanted).await?;
            let Some(last) = runs.last() else { return Ok(Found { events, next: None }) };
            let lowest = last.first;
            for asked in &runs {
                for block in asked.blocks().into_iter().rev().filter(|block| *block < place) {
                    if looked == BLOCKS_LOOKED_MAX {
                        return Ok(Found { events, next: Some((block + 1) * BLOCK_EVENTS) });
                    }
                    let Some(octets) = block_at(&mut tx, block, wanted).await? else { continue };
                    looked += 1;
                    let found = events_of(block * BLOCK_EVENTS, &octets, wanted, i64::MIN, before);
                    events.extend(found.into_iter().rev());
                    if events.len() > limit {
                        return Ok(cut(events, limit));
                    }
                }
            }
            place = lowest;
        }
    }

    /// What is wanted, oldest first, from this number on.
    pub async fn read_on(&self, wanted: &Wanted, from: i64, limit: usize) -> Result<ReadOn, Refusal> {
        // A tail that a panic left in the middle of a change is in a row still: what is missing is asked for below.
        let at_hand = self.0.tail.read().unwrap_or_else(PoisonError::into_inner).read_on(wanted, from, limit);
        match at_hand {
            Some(read) => Ok(read),
            None => self.read_on_from_rows(wanted, from, limit).await,
        }
    }

    async fn read_on_from_rows(&self, wanted: &Wanted, from: i64, limit: usize) -> Result<ReadOn, Refusal> {
        let mut tx = self.store().read_still().await?;
        let end = end(&mut tx).await?;
        let sealed = end - end % BLOCK_EVENTS;
        let key = key_of(wanted);
        let mut events = Vec::new();
        let mut place = from.max(0).div_euclid(BLOCK_EVENTS);
        let mut looked = 0;
        while place * BLOCK_EVENTS < sealed {
            let runs = runs_from(&mut tx, place, key).await?;
            let Some(last) = runs.last() else { break };
            let highest = last.first + last.blocks;
            for asked in &runs {
                for block in asked.blocks().into_iter().filter(|block| *block >= place) {
                    if looked == BLOCKS_LOOKED_MAX {
                        return Ok(ReadOn { events, next: (block * BLOCK_EVENTS).max(from) });
                    }
                    let Some(octets) = block_at(&mut tx, block, &Wanted::default()).await? else { continue };
                    looked += 1;
                    let found = events_of(block * BLOCK_EVENTS, &octets, wanted, from, i64::MAX);
                    events.extend(found.into_iter().map(Arc::new));
                    if events.len() >= limit {
                        return Ok(cut_on(events, limit, (block + 1) * BLOCK_EVENTS));
                    }
                }
            }
            place = highest;
        }
        let query = q!(
            "SELECT first, octets FROM event_block WHERE first >= $1 AND \
             first >= (SELECT COALESCE(MAX(b.first), 0) FROM event_block b WHERE b.first <= $2) ORDER BY first",
            sealed,
            from.max(sealed),
        );
        for row in rows(&mut tx, query).await? {
            let first = row.whole(0)?;
            events.extend(events_of(first, &row.octets(1)?, wanted, from, i64::MAX).into_iter().map(Arc::new));
            if events.len() > limit {
                return Ok(cut_on(events, limit, end));
            }
        }
        Ok(ReadOn { events, next: end.max(from) })
    }

    /// The number of the oldest event that is kept at or after this moment.
    pub async fn number_at(&self, at: Timestamp) -> Result<i64, Refusal> {
        let mut tx = self.store().read_still().await?;
        let query = q!("SELECT MIN(first) FROM event_run WHERE last_at >= $1", at.0);
        let run = row(&mut tx, query).await?.map(|row| row.whole_or_none(0)).transpose()?.flatten();
        let first = match run {
            Some(run) => run * BLOCK_EVENTS,
            None => {
                let end = end(&mut tx).await?;
                end - end % BLOCK_EVENTS
            }
        };
        let query = q!("SELECT MIN(first) FROM event_block WHERE first >= $1 AND last_at >= $2", first, at.0);
        let block = row(&mut tx, query).await?.map(|row| row.whole_or_none(0)).transpose()?.flatten();
        let Some(block) = block else { return end(&mut tx).await };
        let query = q!("SELECT octets FROM event_block WHERE first = $1", block);
        let octets = row(&mut tx, query).await?.map(|row| row.octets(0)).transpose()?.unwrap_or_default();
        let wanted = Wanted { from: Some(at), ..Wanted::default() };
        let found = events_of(block, &octets, &wanted, i64::MIN, i64::MAX);
        Ok(found.first().map_or(block, |kept| kept.number))
    }

    /// Octets of events that are kept, their keys not counted.
    pub async fn bytes(&self) -> Result<i64, Refusal> {
        let mut conn = self.store().read().await?;
        number(&mut conn, q!("SELECT bytes FROM event_end WHERE id = 1")).await
    }

    /// Lets go of what is older than this, and of the oldest while there is more than so much. How many events it was.
    pub async fn forget(&self, before: Timestamp, bytes_max: i64) -> Result<i64, Refusal> {
        let mut forgotten = 0;
        loop {
            let mut change = self.store().change().await?;
            let conn = change.conn();
            let end = end(conn).await?;
            let sealed = end - end % BLOCK_EVENTS;
            let mut bytes = number(conn, q!("SELECT bytes FROM event_end WHERE id = 1")).await?;
            let query = q!(
                "SELECT first, events, last_at, LENGTH(octets) FROM event_block WHERE first < $1 ORDER BY first LIMIT $2",
                sealed,
                DELETED_AT_ONCE,
            );
            let (mut first, mut events, mut blocks) = (None, 0, 0);
            for row in rows(conn, query).await? {
                if row.whole(2)? >= before.0 && bytes <= bytes_max {
                    break;
                }
                bytes -= row.whole(3)?;
                events += row.whole(1)?;
                blocks += 1;
                first = Some(row.whole(0)? + BLOCK_EVENTS);
            }
            let Some(first) = first else { return Ok(forgotten) };
            run(conn, q!("DELETE FROM event_block WHERE first < $1", first)).await?;
            run(conn, q!("UPDATE event_end SET bytes = $1 WHERE id = 1", bytes)).await?;
            let block = first.div_euclid(BLOCK_EVENTS);
            let gone = q!(
                "DELETE FROM event_key WHERE run IN (SELECT first FROM event_run WHERE first + blocks <= $1)",
                block
            );
            run(conn, gone).await?;
            run(conn, q!("DELETE FROM event_run WHERE first + blocks <= $1", block)).await?;
            change.commit().await?;
            forgotten += events;
            if blocks < DELETED_AT_ONCE {
                return Ok(forgotten);
            }
        }
    }

    /// Where a reader is; it begins at the oldest event.
    pub(crate) async fn place(conn: &mut AnyConnection, reader: &str) -> Result<i64, Refusal> {
        let query = q!("SELECT position FROM event_reader WHERE name = $1", reader.to_owned());
        Ok(row(conn, query).await?.map(|row| row.whole(0)).transpose()?.unwrap_or(0))
    }

    pub(crate) async fn set_place(conn: &mut AnyConnection, reader: &str, place: i64) -> Result<(), Refusal> {
        let put = q!(
            "INSERT INTO event_reader (name, position) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET position = excluded.position",
            reader.to_owned(),
            place,
        );
        run(conn, put).await.map(|_| ())
    }
}

/// One more than fits was found.
fn cut(mut events: Vec<Kept>, limit: usize) -> Found {
    events.truncate(limit);
    let next = events.last().map(|kept| kept.number);
    Found { events, next }
}

fn cut_on(mut events: Vec<Arc<Kept>>, limit: usize, whole: i64) -> ReadOn {
    if events.len() <= limit {
        return ReadOn { events, next: whole };
    }
    events.truncate(limit);
    let next = events.last().map_or(whole, |kept| kept.number + 1);
    ReadOn { events, next }
}

async fn end(conn: &mut AnyConnection) -> Result<i64, Refusal> {
    number(conn, q!("SELECT next FROM event_end WHERE id = 1")).await
}

/// The source's number and how far it is kept.
async fn source_of(conn: &mut AnyConnection, source: &str) -> Result<(i64, i64), Refusal> {
    let find = || q!("SELECT id, position FROM event_source WHERE name = $1", source.to_owned());
    if let Some(row) = row(conn, find()).await? {
        return Ok((row.whole(0)?, row.whole(1)?));
    }
    let insert = q!(
        "INSERT INTO event_source (id, name, position) SELECT COALESCE(MAX(id), 0) + 1, $1, 0 FROM event_source",
        source.to_owned(),
    );
    run(conn, insert).await?;
    let row = row(conn, find()).await?.ok_or_else(|| lost("a source"))?;
    Ok((row.whole(0)?, row.whole(1)?))
}

fn lost(what: &str) -> Refusal {
    tracing::error!(what, "the archive does not hold what was just written");
    Refusal::new(Kind::Unavailable, "archive_unusable", "The archive cannot be used.", "Look at the service's log.")
}

/// A run that was asked for a key.
struct Asked {
    first: i64,
    blocks: i64,
    /// None: no key was asked for, and any block may do.
    with: Option<Vec<u16>>,
}

impl Asked {
    /// Oldest first.
    fn blocks(&self) -> Vec<i64> {
        match &self.with {
            Some(with) => with.iter().map(|at| self.first + i64::from(*at)).collect(),
            None => (self.first..self.first + self.blocks).collect(),
        }
    }
}

macro_rules! asked {
    ($rest:literal) => {
        concat!(
            "SELECT r.first, r.blocks, (SELECT k.octets FROM event_key k WHERE k.run = r.first AND k.first_key <= $1 ",
            "ORDER BY k.first_key DESC LIMIT 1) FROM event_run r WHERE ",
            $rest
        )
    };
}

fn asked(row: &sqlx::any::AnyRow, key: Option<Key>) -> Result<Asked, Refusal> {
    let page = row.octets_or_none(2)?;
    let with = key.map(|key| page.map(|page| blocks_with(&page, key)).unwrap_or_default());
    Ok(Asked { first: row.whole(0)?, blocks: row.whole(1)?, with })
}

/// The youngest runs about blocks before this one, that can hold what is wanted.
async fn runs_before(
    conn: &mut AnyConnection,
    block: i64,
    key: Option<Key>,
    wanted: &Wanted,
) -> Result<Vec<Asked>, Refusal> {
    let query = q!(
        asked!("r.first < $2 AND r.last_at >= $3 AND r.first_at < $4 ORDER BY r.first DESC LIMIT $5"),
        // No key is below nought.
        key.map_or(-1, Key::number),
        block,
        wanted.from.map_or(i64::MIN, |from| from.0),
        wanted.until.map_or(i64::MAX, |until| until.0),
        RUNS_ASKED,
    );
    rows(conn, query).await?.iter().map(|row| asked(row, key)).collect()
}

/// The oldest runs about this block and later ones.
async fn runs_from(conn: &mut AnyConnection, block: i64, key: Option<Key>) -> Result<Vec<Asked>, Refusal> {
    let query = q!(
        asked!(
            "r.first >= (SELECT COALESCE(MAX(o.first), 0) FROM event_run o WHERE o.first <= $2) ORDER BY r.first LIMIT $3"
        ),
        key.map_or(-1, Key::number),
        block,
        RUNS_ASKED,
    );
    rows(conn, query).await?.iter().map(|row| asked(row, key)).collect()
}

/// None: it is not kept any more, or is not of the time that is wanted.
async fn block_at(conn: &mut AnyConnection, block: i64, wanted: &Wanted) -> Result<Option<Vec<u8>>, Refusal> {
    let query = q!(
        "SELECT octets FROM event_block WHERE first = $1 AND last_at >= $2 AND first_at < $3",
        block * BLOCK_EVENTS,
        wanted.from.map_or(i64::MIN, |from| from.0),
        wanted.until.map_or(i64::MAX, |until| until.0),
    );
    row(conn, query).await?.map(|row| row.octets(0)).transpose()
}

/// Writes the events behind the others. Full blocks are sealed: they get a run of keys.
async fn append(change: &mut Change, mut kept: Vec<Arc<Kept>>, end: i64) -> Result<(), Refusal> {
    let Some(first) = kept.first().map(|kept| kept.number) else { return Ok(()) };
    let conn = change.conn();
    let mut bytes = 0;
    let sealed = first - first % BLOCK_EVENTS;
    if end >= sealed + BLOCK_EVENTS && first > sealed {
        let query = q!("SELECT first, octets FROM event_block WHERE first >= $1 ORDER BY first", sealed);
        let mut whole = Vec::with_capacity(kept.len() + usize::try_from(BLOCK_EVENTS).unwrap_or(0));
        for row in rows(conn, query).await? {
            let (first, octets) = (row.whole(0)?, row.octets(1)?);
            bytes -= length(octets.len());
            let events = Block::read(first, &octets).and_then(|block| block.events());
            let events = events.map_err(|fault| {
                unreadable(first, &fault);
                lost("fresh events")
            })?;
            whole.extend(events.into_iter().map(Arc::new));
        }
        run(conn, q!("DELETE FROM event_block WHERE first >= $1", sealed)).await?;
        whole.append(&mut kept);
        kept = whole;
    }
    let mut rest = &kept[..];
    while let Some(first) = rest.first() {
        let block = first.number.div_euclid(BLOCK_EVENTS);
        let room = usize::try_from((block + 1) * BLOCK_EVENTS - first.number).unwrap_or(1);
        let (events, later) = rest.split_at(room.min(rest.len()));
        let octets = write(events);
        bytes += length(octets.len());
        let (first_at, last_at) = times(events);
        let insert = q!(
            "INSERT INTO event_block (first, events, first_at, last_at, octets) VALUES ($1, $2, $3, $4, $5)",
            first.number,
            length(events.len()),
            first_at,
            last_at,
            octets,
        );
        run(conn, insert).await?;
        if length(events.len()) == BLOCK_EVENTS {
            let pairs = keys_in(events).into_iter().map(|key| (key, 0)).collect();
            put_run(conn, block, 1, (first_at, last_at), pairs).await?;
            merge(conn, block + 1).await?;
        }
        rest = later;
    }
    let update = q!("UPDATE event_end SET next = $1, bytes = bytes + $2 WHERE id = 1", end, bytes);
    run(conn, update).await.map(|_| ())
}

async fn put_run(
    conn: &mut AnyConnection,
    first: i64,
    blocks: i64,
    (first_at, last_at): (i64, i64),
    pairs: Vec<keys::Pair>,
) -> Result<(), Refusal> {
    let insert = q!(
        "INSERT INTO event_run (first, blocks, first_at, last_at) VALUES ($1, $2, $3, $4)",
        first,
        blocks,
        first_at,
        last_at,
    );
    run(conn, insert).await?;
    for (key, octets) in pages(pairs) {
        let insert =
            q!("INSERT INTO event_key (run, first_key, octets) VALUES ($1, $2, $3)", first, key.number(), octets);
        run(conn, insert).await?;
    }
    Ok(())
}

/// When so many blocks are there, the runs that are enough for one of the next level become it.
async fn merge(conn: &mut AnyConnection, blocks: i64) -> Result<(), Refusal> {
    let level = (1..=LEVEL_MAX).rev().find(|level| blocks % blocks_of(*level) == 0);
    let Some(level) = level else { return Ok(()) };
    // All levels below are full too: what is merged is merged once.
    let wide = blocks_of(level);
    let first = blocks - wide;
    let query = q!("SELECT first, first_at, last_at FROM event_run WHERE first >= $1 ORDER BY first", first);
    let mut times: Option<(i64, i64)> = None;
    for row in rows(conn, query).await? {
        let (from, until) = (row.whole(1)?, row.whole(2)?);
        times = Some(times.map_or((from, until), |(first, last)| (first.min(from), last.max(until))));
    }
    let Some(times) = times else { return Ok(()) };
    let mut pairs = Vec::new();
    for row in rows(conn, q!("SELECT run, octets FROM event_key WHERE run >= $1", first)).await? {
        let before = u16::try_from(row.whole(0)? - first).unwrap_or(u16::MAX);
        pairs.extend(keys::pairs(&row.octets(1)?).map(|(key, at)| (key, at.saturating_add(before))));
    }
    run(conn, q!("DELETE FROM event_key WHERE run >= $1", first)).await?;
    run(conn, q!("DELETE FROM event_run WHERE first >= $1", first)).await?;
    put_run(conn, first, wide, times, pairs).await
}
