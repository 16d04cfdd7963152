//! How much has each account handed in lately, and may it go on? (R7.1, R7.2)
//!
//! One table for all doors of the process. What is in it was handed in, or is being written down just now; at a start it is made anew from
//! the acceptances in the event log, so that an end of the process, however sudden, neither forgets nor doubles. Accounts without a quota
//! cost nothing.

use crate::record;
use crate::refusal::{Kind, Refusal};
use engine::id::{AccountId, RegionId};
use engine::quota::{self, Over, Quota, Window};
use engine::simulator::simulated;
use engine::snapshot::Snapshot;
use engine::time::Timestamp;
use spool::{Cursor, EventLog};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// What counts for a day.
const WINDOW: Duration = Duration::from_secs(86_400);

type Key = (AccountId, RegionId);

/// Cheap to clone.
#[derive(Clone)]
pub struct Quotas(Arc<Inner>);

struct Inner {
    table: Mutex<HashMap<Key, Window>>,
    /// Whether what came before the start is known.
    ready: watch::Sender<bool>,
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
            if let Some(window) = self.quotas.table().get_mut(&self.key) {
                window.give_back(recipients, self.at);
            }
        }
    }

    /// The message is durable.
    pub fn kept(mut self) {
        self.recipients = 0;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.give_back(usize::MAX);
    }
}

impl Default for Quotas {
    fn default() -> Quotas {
        Quotas(Arc::new(Inner { table: Mutex::default(), ready: watch::Sender::new(false) }))
    }
}

impl Quotas {
    fn table(&self) -> MutexGuard<'_, HashMap<Key, Window>> {
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
        // The sender is held here, so that there is always an answer.
        let _ = self.0.ready.subscribe().wait_for(|ready| *ready).await;
        let [recipients, simulated] = [recipients, simulated].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let key = (account.clone(), region.clone());
        let taken = self.table().entry(key.clone()).or_default().take_beside(recipients, simulated, quota, now);
        match taken {
            Ok(mark) => {
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
        table.get_mut(&(account.clone(), region.clone())).map_or(0, |window| window.used(now))
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
        let used = table.iter_mut().filter_map(|((account, region), window)| {
            let quota = snapshot.accounts.get(account)?.quota_in(region)?;
            let used = window.used(now);
            let is_far = used > 0 && quota::percent(used, quota.per_day) >= percent;
            is_far.then(|| (account.clone(), region.clone(), quota, used))
        });
        used.collect()
    }

    /// Learns what was handed in before this start: all acceptances of the last day, up to the event that was the newest then. Blocks for
    /// the disk. Whatever happens, submissions are taken afterwards.
    pub fn read(&self, log: &EventLog, newest: Cursor, snapshot: &Snapshot, now: Timestamp) -> io::Result<()> {
        let has_quota = |(account, region): &Key| {
            snapshot.accounts.get(account).is_some_and(|account| account.quota_in(region).is_some())
        };
        let mut found: BTreeMap<Key, BTreeMap<i64, u32>> = BTreeMap::new();
        let oldest = now - WINDOW;
        let any = snapshot.accounts.values().any(|account| account.has_quota());
        let read = if any {
            log.scan_back(&mut |cursor, octets| {
                let Ok(entries) = record::read_entries(octets) else { return ControlFlow::Continue(()) };
                for envelope in entries.iter().filter_map(|entry| entry.accepted.as_ref()).filter(|_| cursor <= newest)
                {
                    let key = (envelope.account.clone(), envelope.wish.region.clone());
                    // A notice of ours has no sender, and is no mail of the account's.
                    if envelope.sender.is_some() && envelope.accepted_at > oldest && has_quota(&key) {
                        let counting = envelope.recipients.iter().filter(|to| simulated(&to.address).is_none());
                        let recipients = u32::try_from(counting.count()).unwrap_or(u32::MAX);
                        *found.entry(key).or_default().entry(envelope.accepted_at.0 / 1_000_000).or_default() +=
                            recipients;
                    }
                }
                match entries.first() {
                    Some(entry) if entry.event.at < oldest => ControlFlow::Break(()),
                    _ => ControlFlow::Continue(()),
                }
            })
        } else {
            Ok(())
        };
        let mut table = self.table();
        for (key, seconds) in found {
            let window = table.entry(key).or_default();
            for (second, recipients) in seconds {
                window.note(recipients, Timestamp::from_unix_seconds(second));
            }
        }
        drop(table);
        self.0.ready.send_replace(true);
        read
    }
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
