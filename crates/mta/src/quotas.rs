//! How much has each account handed in lately, and may it go on? (R7.1, R7.2)
//!
//! One table for all doors of the process. What is in it was handed in, or is being written down just now; at a start it is made anew from
//! the acceptances in the event log, so that an end of the process, however sudden, neither forgets nor doubles. A checkpoint spares
//! reading a whole day of them, and knows what the log holds no more. Accounts without a quota cost nothing.

use crate::checkpoint::{self, Magic, Reading, write_sealed};
use crate::record;
use crate::refusal::{Kind, Refusal};
use engine::id::{AccountId, RegionId};
use engine::quota::{self, Over, Quota, Window, second_of};
use engine::simulator::simulated;
use engine::snapshot::Snapshot;
use engine::time::Timestamp;
use spool::{Cursor, EventLog};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// A submission is stamped, and taken out of its quota within this time.
const TAKEN_WITHIN_S: u32 = 60;
/// What counts for a day.
const WINDOW: Duration = Duration::from_secs(86_400);

const MAGIC: &Magic = b"weir quotas   1\n";

type Key = (AccountId, RegionId);

/// Cheap to clone.
#[derive(Clone)]
pub struct Quotas(Arc<Inner>);

struct Inner {
    table: Mutex<Table>,
    /// Whether what came before the start is known.
    ready: watch::Sender<bool>,
}

#[derive(Default)]
struct Table {
    windows: HashMap<Key, Window>,
    /// How many of each second are being written down.
    under_way: BTreeMap<u32, u32>,
    /// Of what stands in the log up to the cursor, nothing was handed in after this second.
    mark: Option<(Cursor, u32)>,
}

/// Recipients that were taken out of a quota. Dropped without `kept`, they are given back: nothing was queued.
pub struct Taken {
    quotas: Quotas,
    key: Key,
    recipients: u32,
    at: Timestamp,
}

impl Taken {
    /// So many are not written to after all.
    pub fn give_back(&mut self, recipients: usize) {
        let recipients = u32::try_from(recipients).unwrap_or(u32::MAX).min(self.recipients);
        if recipients > 0 {
            self.recipients -= recipients;
            self.quotas.table().give_back(&self.key, recipients, self.at);
        }
    }

    /// The message is durable.
    pub fn kept(mut self) {
        self.recipients = 0;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut table = self.quotas.table();
        if self.recipients > 0 {
            table.give_back(&self.key, self.recipients, self.at);
        }
        if let Entry::Occupied(mut under_way) = table.under_way.entry(second_of(self.at)) {
            *under_way.get_mut() -= 1;
            if *under_way.get() == 0 {
                under_way.remove();
            }
        }
    }
}

impl Table {
    /// The last one in which something was handed in.
    fn last_second(&self) -> u32 {
        self.windows
            .values()
            .filter_map(|window| window.seconds().next_back())
            .map(|(second, _)| second)
            .max()
            .unwrap_or(0)
    }

    fn give_back(&mut self, key: &Key, recipients: u32, at: Timestamp) {
        if let Some(window) = self.windows.get_mut(key) {
            window.give_back(recipients, at);
        }
    }
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas(Arc::new(Inner { table: Mutex::default(), ready: watch::Sender::new(false) }))
    }
}

impl Quotas {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes so many recipients out of the quota, and as many of the simulator's, or says why not and when. Right after a start it waits
    /// until what came before is known.
    pub async fn take(
        &self,
        account: &AccountId,
        region: &RegionId,
        quota: Quota,
        (recipients, simulated): (usize, usize),
        now: Timestamp,
    ) -> Result<Taken, Refusal> {
        checkpoint::known(&self.0.ready).await;
        let [recipients, simulated] = [recipients, simulated].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let key = (account.clone(), region.clone());
        let mut table = self.table();
        let taken = table.windows.entry(key.clone()).or_default().take_beside(recipients, simulated, quota, now);
        match taken {
            Ok(mark) => {
                *table.under_way.entry(second_of(now)).or_default() += 1;
                drop(table);
                if let Some(percent) = mark {
                    tracing::warn!(%account, %region, per_day = quota.per_day, percent, "a daily quota is nearly used");
                }
                Ok(Taken { quotas: self.clone(), key, recipients, at: now })
            }
            Err(over) => Err(refused(over, region, quota, recipients, now)),
        }
    }

    /// Recipients of the last 24 hours.
    #[must_use]
    pub fn used(&self, account: &AccountId, region: &RegionId, now: Timestamp) -> u64 {
        let mut table = self.table();
        table.windows.get_mut(&(account.clone(), region.clone())).map_or(0, |window| window.used(now))
    }

    /// Of which quotas at least so many hundredths are used: the account, the region, the quota and how many are.
    #[must_use]
    pub fn used_from(
        &self,
        percent: u64,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> Vec<(AccountId, RegionId, Quota, u64)> {
        let mut table = self.table();
        let used = table.windows.iter_mut().filter_map(|((account, region), window)| {
            let quota = snapshot.accounts.get(account)?.quota_in(region)?;
            let used = window.used(now);
            let is_far = used > 0 && quota::percent(used, quota.per_day) >= percent;
            is_far.then(|| (account.clone(), region.clone(), quota, used))
        });
        used.collect()
    }

    /// Learns what was handed in before this start, up to the event that was the newest then: from the checkpoint and the acceptances
    /// since, or without one from all acceptances of the last day. Blocks for the disk. Whatever happens, submissions are taken afterwards.
    pub fn read(
        &self,
        checkpoint: &Path,
        log: EventLog,
        newest: Cursor,
        snapshot: &Snapshot,
        now: Timestamp,
    ) -> io::Result<()> {
        let _reading = Reading(&self.0.ready);
        let mut known = Known { found: BTreeMap::new(), snapshot, newest, after: second_of(now - WINDOW) };
        let mut is_from_later = false;
        let outcome = match read_checkpoint(checkpoint) {
            Ok(Some(kept)) if kept.cursor <= newest => {
                known.take(kept.seconds);
                known.after = known.after.max(kept.through);
                is_from_later = kept.through >= second_of(now);
                checkpoint::read_on(log, kept.cursor, &mut |cursor, octets| {
                    known.learn(cursor, octets);
                })
            }
            // There is none, or it is of another log.
            Ok(_) => known.read_back(&log),
            Err(fault) => {
                tracing::warn!(file = %checkpoint.display(), %fault, "what counts for quotas is read from the event log instead");
                known.read_back(&log)
            }
        };
        {
            let mut table = self.table();
            for (key, seconds) in known.found {
                let window = table.windows.entry(key).or_default();
                for (second, recipients) in seconds {
                    window.note(recipients, Timestamp::from_unix_seconds(i64::from(second)));
                }
            }
        }
        if is_from_later {
            // The clock was set back. What comes now is stamped like what is in the checkpoint, and only its place in the log tells them
            // apart: from here on, all of it counts.
            if let Err(fault) = self.write_known(checkpoint, newest, None, now) {
                let _ = fs::remove_file(checkpoint);
                return Err(fault);
            }
        }
        outcome
    }

    /// Writes a checkpoint, if one is due; `newest` is the cursor of the newest event at this moment, or of an earlier one. It is true up
    /// to an older cursor: what was stamped by then is not under way any more. Blocks for the disk.
    pub fn write(&self, checkpoint: &Path, newest: Cursor, now: Timestamp) -> io::Result<()> {
        if !*self.0.ready.borrow() {
            return Ok(());
        }
        let present = second_of(now);
        let due = {
            let mut table = self.table();
            let open = table.under_way.keys().next().copied().unwrap_or(u32::MAX);
            let is_over = |through: u32| through < open && through.saturating_add(TAKEN_WITHIN_S) <= present;
            let due = table.mark.filter(|(_, through)| is_over(*through));
            if table.mark.is_none() || due.is_some() {
                table.mark = Some((newest, table.last_second().max(present)));
            }
            due
        };
        match due {
            Some((cursor, through)) => self.write_known(checkpoint, cursor, Some(through), now),
            None => Ok(()),
        }
    }

    /// As `write`, when nothing is under way any more.
    pub fn write_last(&self, checkpoint: &Path, newest: Cursor, now: Timestamp) -> io::Result<()> {
        if !*self.0.ready.borrow() || !self.table().under_way.is_empty() {
            return Ok(());
        }
        let through = self.table().last_second().max(second_of(now));
        self.write_known(checkpoint, newest, Some(through), now)
    }

    /// What was handed in up to this second; none: all of it, and of what stands behind the cursor nothing.
    fn write_known(&self, checkpoint: &Path, cursor: Cursor, through: Option<u32>, now: Timestamp) -> io::Result<()> {
        let mut octets = checkpoint::begun(MAGIC, cursor, 0);
        octets.extend_from_slice(&through.unwrap_or(0).to_be_bytes());
        let keys: Vec<Key> = self.table().windows.keys().cloned().collect();
        for key in keys {
            // One after the other: whoever sends does not wait for all of them.
            let seconds: Vec<(u32, u32)> = {
                let mut table = self.table();
                let Some(window) = table.windows.get_mut(&key) else { continue };
                if window.used(now) == 0 {
                    continue;
                }
                window.seconds().take_while(|(second, _)| through.is_none_or(|through| *second <= through)).collect()
            };
            let count = u32::try_from(seconds.len()).expect("a day has few seconds");
            for name in [key.0.as_str(), key.1.as_str()] {
                octets.extend_from_slice(&u32::try_from(name.len()).expect("names are short").to_be_bytes());
                octets.extend_from_slice(name.as_bytes());
            }
            octets.extend_from_slice(&count.to_be_bytes());
            for number in seconds.into_iter().flat_map(|(second, recipients)| [second, recipients]) {
                octets.extend_from_slice(&number.to_be_bytes());
            }
        }
        write_sealed(checkpoint, octets)
    }
}

/// What is learned at a start, of accounts that have a quota.
struct Known<'a> {
    found: BTreeMap<Key, BTreeMap<u32, u32>>,
    snapshot: &'a Snapshot,
    newest: Cursor,
    /// Acceptances up to this second are known, or do not count any more.
    after: u32,
}

impl Known<'_> {
    fn read_back(&mut self, log: &EventLog) -> io::Result<()> {
        if !self.snapshot.accounts.values().any(|account| account.has_quota()) {
            return Ok(());
        }
        log.scan_back(&mut |cursor, octets| match self.learn(cursor, octets) {
            Some(at) if second_of(at) < self.after => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
    }

    fn take(&mut self, kept: Vec<(Key, Vec<(u32, u32)>)>) {
        for (key, seconds) in kept {
            let seconds = seconds.into_iter().filter(|(second, _)| *second > self.after);
            if self.has_quota(&key) {
                self.found.entry(key).or_default().extend(seconds);
            }
        }
    }

    /// Learns what a record of the event log tells, and says how old that is.
    fn learn(&mut self, cursor: Cursor, octets: &[u8]) -> Option<Timestamp> {
        let entries = record::read_entries(octets).ok()?;
        for envelope in entries.iter().filter_map(|entry| entry.accepted.as_ref()).filter(|_| cursor <= self.newest) {
            let key = (envelope.account.clone(), envelope.wish.region.clone());
            let second = second_of(envelope.accepted_at);
            // A notice of ours has no sender, and is no mail of the account's.
            if envelope.sender.is_some() && second > self.after && self.has_quota(&key) {
                let counting = envelope.recipients.iter().filter(|to| simulated(&to.address).is_none());
                let recipients = u32::try_from(counting.count()).unwrap_or(u32::MAX);
                *self.found.entry(key).or_default().entry(second).or_default() += recipients;
            }
        }
        entries.first().map(|entry| entry.event.at)
    }

    fn has_quota(&self, (account, region): &Key) -> bool {
        self.snapshot.accounts.get(account).is_some_and(|account| account.quota_in(region).is_some())
    }
}

struct Kept {
    cursor: Cursor,
    /// What was accepted up to this second is in it.
    through: u32,
    seconds: Vec<(Key, Vec<(u32, u32)>)>,
}

fn read_checkpoint(path: &Path) -> io::Result<Option<Kept>> {
    let Some((cursor, content)) = checkpoint::read(path, MAGIC)? else { return Ok(None) };
    let mut rest = content.as_slice();
    let number = |rest: &mut &[u8]| -> io::Result<u32> {
        let (number, after) = rest.split_first_chunk().ok_or_else(checkpoint::damaged)?;
        *rest = after;
        Ok(u32::from_be_bytes(*number))
    };
    let name = |rest: &mut &[u8]| -> io::Result<String> {
        let octets = number(rest)? as usize;
        let (name, after) = rest.split_at_checked(octets).ok_or_else(checkpoint::damaged)?;
        *rest = after;
        String::from_utf8(name.to_vec()).map_err(|_| checkpoint::damaged())
    };
    let through = number(&mut rest)?;
    let mut all = Vec::new();
    while !rest.is_empty() {
        let key = (AccountId::new(&name(&mut rest)?), RegionId::new(&name(&mut rest)?));
        let count = number(&mut rest)?;
        let seconds = (0..count).map(|_| Ok((number(&mut rest)?, number(&mut rest)?)));
        let seconds = seconds.collect::<io::Result<Vec<_>>>()?;
        all.push((key, seconds));
    }
    Ok(Some(Kept { cursor, through, seconds: all }))
}

/// R7.2: what the limit is, what is used, and when it fits.
fn refused(over: Over, region: &RegionId, quota: Quota, recipients: u32, now: Timestamp) -> Refusal {
    let more = "Ask the operator for a higher quota (weir case open quota).";
    let refusal = |code, sentence: String, mend: String| Refusal::new(Kind::Busy, code, (4, 7, 0), sentence, mend);
    match over {
        Over::Day { used, fits_at: Some(fits_at) } => {
            let sentence = format!(
                "Throttling failure: daily message quota exceeded. {used} of {} recipients in 24 hours are used in {region}, and this message \
                 has {recipients}.",
                quota.per_day
            );
            let mend = format!("It fits at {fits_at}. {more}");
            Refusal { wait: Some(fits_at.since(now)), ..refusal("daily_quota_exceeded", sentence, mend) }
        }
        Over::Day { fits_at: None, .. } => {
            let sentence = format!(
                "This message has {recipients} recipients, and the account may send to {} in 24 hours in {region}.",
                quota.per_day
            );
            let kind = Kind::Forbidden;
            Refusal { kind, enhanced: (5, 7, 1), ..refusal("daily_quota_too_small", sentence, more.to_owned()) }
        }
        Over::Rate { fits_at } => {
            let sentence = format!(
                "Throttling failure: maximum sending rate exceeded. The account may send to {} recipients a second in {region}.",
                quota.per_second
            );
            let mend = format!("Send more slowly, or try again in a moment. {more}");
            Refusal { wait: Some(fits_at.since(now)), ..refusal("sending_rate_exceeded", sentence, mend) }
        }
        Over::Nothing => {
            let sentence = format!("The account may send nothing in {region}: its quota is nought.");
            let kind = Kind::Forbidden;
            Refusal { kind, enhanced: (5, 7, 1), ..refusal("daily_quota_too_small", sentence, more.to_owned()) }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Quotas, Taken, WINDOW};
    use crate::record::{self, Entry};
    use engine::envelope::{Envelope, Recipient, TlsWish, Wish};
    use engine::id::{AccountId, MessageId, RegionId, StreamId};
    use engine::quota::Quota;
    use engine::snapshot::{Account, Snapshot};
    use engine::time::Timestamp;
    use mail::address::Domain;
    use proptest::prelude::*;
    use spool::sim::SimDisk;
    use spool::{Cursor, Options, Spool};
    use std::path::{Path, PathBuf};
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::runtime::Runtime;

    const BEGIN: Timestamp = Timestamp(1_800_000_000_000_000);
    const QUOTA: Quota = Quota { per_day: 1_000_000, per_second: 1_000_000 };

    fn ann() -> (AccountId, RegionId) {
        (AccountId::new("ann"), RegionId::new("local"))
    }

    /// A process that takes mail in, its log, and what is to be known of it.
    struct World {
        runtime: Runtime,
        folder: PathBuf,
        spool: Spool,
        snapshot: Snapshot,
        quotas: Quotas,
        begun: Timestamp,
        now: Timestamp,
        under_way: Vec<(Taken, usize, Timestamp)>,
        handed_in: u64,
    }

    impl World {
        fn new(name: &str) -> World {
            let folder = std::env::temp_dir().join(format!("weir-quotas-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(&folder).unwrap();
            let (spool, _) = spool::open_on(Arc::new(SimDisk::new()), Path::new("/data"), Options::default()).unwrap();
            let mut snapshot = Snapshot::empty();
            let mut account = Account::default();
            account.quotas.insert(ann().1, QUOTA);
            Arc::make_mut(&mut snapshot.accounts).insert(ann().0, Arc::new(account));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let quotas = Quotas::default();
            let mut world = World {
                runtime,
                folder,
                spool,
                snapshot,
                quotas,
                begun: BEGIN,
                now: BEGIN,
                under_way: Vec::new(),
                handed_in: 0,
            };
            world.start();
            world
        }

        fn path(&self) -> PathBuf {
            self.folder.join("handed-in")
        }

        fn start(&mut self) {
            self.quotas = Quotas::default();
            self.begun = self.now;
            self.quotas.read(&self.path(), self.spool.events(), self.newest(0), &self.snapshot, self.now).unwrap();
        }

        /// Stamped so many seconds ago, but in this run of the process.
        fn begin(&mut self, recipients: usize, ago: u64) {
            let (account, region) = ann();
            let at = (self.now - Duration::from_secs(ago)).max(self.begun);
            let taking = self.quotas.take(&account, &region, QUOTA, (recipients, 0), at);
            let Ok(taken) = self.runtime.block_on(taking) else { panic!("it is far from its quota") };
            self.under_way.push((taken, recipients, at));
        }

        /// The log's newest event, or some before it: it is told of a moment later.
        fn newest(&self, behind: u64) -> Cursor {
            Cursor(self.spool.events().more().borrow().0.saturating_sub(behind))
        }

        /// The oldest that is under way is written down.
        fn accept(&mut self) {
            if self.under_way.is_empty() {
                return;
            }
            let (taken, recipients, at) = self.under_way.remove(0);
            let message = MessageId(1);
            let to = |number: usize| Recipient {
                address: format!("u{number}@b.test"),
                domain: Domain::parse("b.test").unwrap(),
                notify: None,
                orcpt: None,
            };
            let (account, region) = ann();
            let envelope = Envelope {
                message,
                account,
                stream: StreamId::new(""),
                wish: Wish { region, pool: None, set: None, subaccount: None },
                route: None,
                sender: Some("ann@a.test".to_owned()),
                sender_domain: None,
                return_path: String::new(),
                recipients: (0..recipients).map(to).collect(),
                accepted_at: at,
                due_at: at,
                expires_at: at,
                tls: TlsWish::IfOffered,
                size: 1,
                message_id_header: String::new(),
                tags: Vec::new(),
                envid: None,
                ret: None,
                smtputf8: false,
                once: None,
            };
            self.tell(record::write_entries(message, &[Entry::of_acceptance(&envelope)]));
            taken.kept();
            self.handed_in += recipients as u64;
        }

        /// Until it can be read.
        fn tell(&self, octets: Vec<u8>) {
            let mut more = self.spool.events().more();
            let before = *more.borrow();
            self.runtime.block_on(self.spool.tell(octets)).unwrap();
            self.runtime.block_on(more.wait_for(|newest| *newest > before)).unwrap();
        }

        fn write(&self, behind: u64) {
            self.quotas.write(&self.path(), self.newest(behind), self.now).unwrap();
        }

        /// What is under way is lost, and the clock may go back meanwhile.
        fn kill(&mut self, back: u64) {
            self.under_way.clear();
            self.now = self.now - Duration::from_secs(back);
            self.start();
        }

        fn stop(&mut self, behind: u64) {
            while !self.under_way.is_empty() {
                self.accept();
            }
            self.quotas.write_last(&self.path(), self.newest(behind), self.now).unwrap();
            self.start();
        }

        fn used(&self) -> u64 {
            let (account, region) = ann();
            self.quotas.used(&account, &region, self.now)
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Begin(usize, u64),
        Accept,
        Refuse,
        Wait(u64),
        Write(u64),
        Kill(u64),
        Stop(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (1usize..4, 0u64..4).prop_map(|(recipients, ago)| Step::Begin(recipients, ago)),
            6 => Just(Step::Accept),
            1 => Just(Step::Refuse),
            5 => prop_oneof![0u64..5, 0u64..90].prop_map(Step::Wait),
            4 => (0u64..3).prop_map(Step::Write),
            2 => prop_oneof![3 => Just(0u64), 1 => 1u64..200].prop_map(Step::Kill),
            1 => (0u64..3).prop_map(Step::Stop),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

        // R7.2: whenever it ends, however a checkpoint falls between what is stamped, handed in, and told of in the log, and wherever the
        // clock is: what was accepted counts once.
        #[test]
        fn no_end_forgets_or_doubles(steps in prop::collection::vec(step(), 1..60)) {
            let mut world = World::new("any");
            for step in steps {
                match step {
                    Step::Begin(recipients, ago) => world.begin(recipients, ago),
                    Step::Accept => world.accept(),
                    Step::Refuse => drop(world.under_way.pop()),
                    Step::Wait(seconds) => world.now = world.now + Duration::from_secs(seconds),
                    Step::Write(behind) => world.write(behind),
                    Step::Kill(back) => world.kill(back),
                    Step::Stop(behind) => world.stop(behind),
                }
                let under_way: usize = world.under_way.iter().map(|(_, recipients, _)| recipients).sum();
                prop_assert_eq!(world.used(), world.handed_in + under_way as u64);
            }
        }
    }

    // R7.2: a day's mail may be more than the event log holds.
    #[test]
    fn what_the_log_holds_no_more_is_known_by_the_checkpoint() {
        let mut world = World::new("short");
        world.begin(5, 0);
        world.accept();
        world.write(0);
        world.now = world.now + Duration::from_secs(300);
        world.begin(2, 0);
        world.accept();
        world.write(0);
        // Of a log whose records are gone but for one that says nothing.
        let (spool, _) = spool::open_on(Arc::new(SimDisk::new()), Path::new("/data"), Options::default()).unwrap();
        world.spool = spool;
        world.tell(record::write_entries(MessageId(0), &[]));
        // Also where the clock is set back, and so again.
        for back in [0, 600, 0] {
            world.kill(back);
            assert_eq!(world.used(), 5);
        }
        world.now = BEGIN + WINDOW;
        assert_eq!(world.used(), 0, "and leaves the window at its own second");
    }
}
