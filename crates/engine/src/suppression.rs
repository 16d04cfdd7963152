//! To whom is nothing sent any more? (R5.5)
//!
//! An index of digests, not of addresses: sixteen octets each, looked up in well under a microsecond, and shared between snapshots. It
//! lies in shards; a change copies one of them. The digest is keyed with a secret of the installation, so that nobody can make up an
//! address that meets another one; by chance, one look-up among ten million entries meets a wrong one once in 10^21.

use crate::time::Timestamp;
use mail::address::Mailbox;
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher as _;
use std::sync::Arc;
use std::time::Duration;

/// So that a shard of a list of ten million is some 40 KiB to copy.
const SHARDS: usize = 4_096;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();
/// Expiry is kept to the minute, from here on: 2020-01-01.
const EPOCH_S: i64 = 1_577_836_800;
const REASON_BITS: u32 = 3;

/// Why somebody is written to no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Bounce,
    Complaint,
    Unsubscribe,
    Manual,
}

pub const REASONS: [Reason; 4] = [Reason::Bounce, Reason::Complaint, Reason::Unsubscribe, Reason::Manual];

impl Reason {
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Reason::Bounce => "bounce",
            Reason::Complaint => "complaint",
            Reason::Unsubscribe => "unsubscribe",
            Reason::Manual => "manual",
        }
    }

    #[must_use]
    pub fn of(code: &str) -> Option<Reason> {
        REASONS.into_iter().find(|reason| reason.code() == code)
    }

    /// After “because”.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Reason::Bounce => "mail to it came back",
            Reason::Complaint => "it complained",
            Reason::Unsubscribe => "it unsubscribed",
            Reason::Manual => "somebody put it there",
        }
    }
}

/// The form in which an address is compared: how its letters are written makes no other mailbox at any provider.
#[must_use]
pub fn canonical(address: &Mailbox) -> String {
    format!("{}@{}", address.local().to_lowercase(), address.domain())
}

/// What is known of a listed address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    pub reason: Reason,
    /// To the minute.
    pub until: Option<Timestamp>,
}

impl Listed {
    /// Whether an entry that says this is replaced by what mail has shown since: a complaint weighs more than a bounce, and what was
    /// to end by itself does not end when it was right. What somebody has put there stays as it was put.
    #[must_use]
    pub fn yields_to(&self, reason: Reason) -> bool {
        self.reason != Reason::Manual
            && (self.until.is_some() || self.reason == Reason::Bounce && reason == Reason::Complaint)
    }
}

/// An entry, as it is known by its digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    digest: u64,
    more: u32,
    /// Minutes and reason.
    said: u32,
}

type Shard = Arc<[Slot]>;

/// The list.
#[derive(Clone)]
pub struct Suppressed {
    key: [u8; 16],
    shards: Arc<Vec<Shard>>,
    count: usize,
}

impl std::fmt::Debug for Suppressed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Suppressed").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Whose entry, of which address, and where it is for a stream alone, of which.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub account: &'a str,
    /// In canonical form.
    pub address: &'a str,
    pub stream: Option<&'a str>,
}

impl Suppressed {
    #[must_use]
    pub fn empty(key: [u8; 16]) -> Suppressed {
        Suppressed { key, shards: Arc::new(vec![Shard::default(); SHARDS]), count: 0 }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether the account has it on its list now, for all its mail or for this stream, for a reason that is heeded.
    #[must_use]
    pub fn find(
        &self,
        account: &str,
        address: &str,
        stream: &str,
        now: Timestamp,
        heeds: impl Fn(Reason) -> bool,
    ) -> Option<Listed> {
        let at = |stream| {
            let (shard, slot) = self.slot(&Place { account, address, stream });
            let shard = &self.shards[shard];
            let listed = shard[search(shard, &slot).ok()?].listed();
            (heeds(listed.reason) && listed.until.is_none_or(|until| until > now)).then_some(listed)
        };
        if self.count == 0 {
            return None;
        }
        at(None).or_else(|| if stream.is_empty() { None } else { at(Some(stream)) })
    }

    /// Puts entries on the list, or takes them off (`None`); one shard is copied for each that is touched.
    pub fn change<'a>(&mut self, changes: impl IntoIterator<Item = (Place<'a>, Option<Listed>)>) {
        let mut sorted: Vec<(usize, Slot, bool)> = changes
            .into_iter()
            .map(|(place, listed)| {
                let (shard, slot) = self.slot(&place);
                (shard, slot.saying(listed), listed.is_some())
            })
            .collect();
        // Stable: of two changes of one entry the later one counts.
        sorted.sort_by_key(|(shard, ..)| *shard);
        let shards = Arc::make_mut(&mut self.shards);
        for changes in sorted.chunk_by(|one, other| one.0 == other.0) {
            let shard = &mut shards[changes[0].0];
            let (merged, gain) = merged(shard, changes);
            *shard = merged.into();
            self.count = self.count.saturating_add_signed(gain);
        }
    }

    /// The whole, for the disk: the key is part of it.
    #[must_use]
    pub fn to_octets(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(16 + self.count * 16);
        octets.extend_from_slice(&self.key);
        for slot in self.shards.iter().flat_map(|shard| shard.iter()) {
            octets.extend_from_slice(&slot.digest.to_le_bytes());
            octets.extend_from_slice(&slot.more.to_le_bytes());
            octets.extend_from_slice(&slot.said.to_le_bytes());
        }
        octets
    }

    /// None: it was not written by `to_octets`.
    #[must_use]
    pub fn of_octets(octets: &[u8]) -> Option<Suppressed> {
        let (key, rest) = octets.split_first_chunk::<16>()?;
        let (slots, rest) = rest.as_chunks::<16>();
        let mut shards: Vec<Vec<Slot>> =
            std::iter::repeat_with(|| Vec::with_capacity(slots.len() / SHARDS + 16)).take(SHARDS).collect();
        for slot in slots {
            let slot = Slot {
                digest: u64::from_le_bytes(*slot.first_chunk()?),
                more: u32::from_le_bytes(*slot[8..].first_chunk()?),
                said: u32::from_le_bytes(*slot[12..].first_chunk()?),
            };
            shards[shard_of(slot.digest)].push(slot);
        }
        let is_sorted = |shard: &Vec<Slot>| shard.is_sorted_by(|one, other| one.place() < other.place());
        if !rest.is_empty() || !shards.iter().all(is_sorted) {
            return None;
        }
        let shards = shards.into_iter().map(Arc::from).collect();
        Some(Suppressed { key: *key, shards: Arc::new(shards), count: slots.len() })
    }

    fn slot(&self, place: &Place<'_>) -> (usize, Slot) {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        hasher.write(place.account.as_bytes());
        hasher.write_u8(0xff);
        hasher.write(place.address.as_bytes());
        if let Some(stream) = place.stream {
            hasher.write_u8(0xff);
            hasher.write(stream.as_bytes());
        }
        let digest = hasher.finish128();
        (shard_of(digest.h1), Slot { digest: digest.h1, more: digest.h2 as u32, said: 0 })
    }
}

fn shard_of(digest: u64) -> usize {
    (digest >> (u64::BITS - SHARD_BITS)) as usize
}

impl Slot {
    fn place(&self) -> (u64, u32) {
        (self.digest, self.more)
    }

    fn saying(self, listed: Option<Listed>) -> Slot {
        let Some(Listed { reason, until }) = listed else { return self };
        // Nought is never; rounded up, so that nothing ends early.
        let minutes = until.map_or(0, |until| {
            let seconds = until.0.div_euclid(1_000_000) - EPOCH_S;
            u32::try_from(seconds.div_euclid(60) + 1).unwrap_or(1).clamp(1, u32::MAX >> REASON_BITS)
        });
        Slot { said: minutes << REASON_BITS | reason as u32, ..self }
    }

    fn listed(&self) -> Listed {
        let reason = REASONS[(self.said & ((1 << REASON_BITS) - 1)) as usize % REASONS.len()];
        let minutes = self.said >> REASON_BITS;
        let at = |minutes: u32| Timestamp::from_unix_seconds(EPOCH_S) + Duration::from_secs(u64::from(minutes) * 60);
        Listed { reason, until: (minutes > 0).then(|| at(minutes)) }
    }
}

/// Digests lie evenly: where one must be is known to within a few places.
fn search(shard: &[Slot], slot: &Slot) -> Result<usize, usize> {
    let within = slot.digest << SHARD_BITS;
    let guess = ((u128::from(within) * shard.len() as u128) >> u64::BITS) as usize;
    let reach = shard.len().isqrt() + 1;
    let (from, to) = (guess.saturating_sub(reach), (guess + reach).min(shard.len()));
    let is_within = |at: usize, beyond: bool| shard.get(at).is_some_and(|at| (at.place() > slot.place()) == beyond);
    let (from, to) = (
        if from == 0 || is_within(from - 1, false) { from } else { 0 },
        if to == shard.len() || is_within(to, true) { to } else { shard.len() },
    );
    let found = shard[from..to].binary_search_by_key(&slot.place(), Slot::place);
    found.map(|at| at + from).map_err(|at| at + from)
}

/// The shard with its changes, and how many more entries it has.
fn merged(shard: &[Slot], changes: &[(usize, Slot, bool)]) -> (Vec<Slot>, isize) {
    let mut last: Vec<&(usize, Slot, bool)> = changes.iter().collect();
    last.sort_by_key(|(_, slot, _)| slot.place());
    // The later of two stands behind the earlier.
    let mut kept: Vec<&(usize, Slot, bool)> = Vec::with_capacity(last.len());
    for change in last {
        match kept.last_mut() {
            Some(before) if before.1.place() == change.1.place() => *before = change,
            _ => kept.push(change),
        }
    }
    let mut out = Vec::with_capacity(shard.len() + kept.len());
    let mut rest = shard;
    for (_, slot, is_listed) in kept {
        let at = rest.partition_point(|old| old.place() < slot.place());
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at..];
        if rest.first().is_some_and(|old| old.place() == slot.place()) {
            rest = &rest[1..];
        }
        if *is_listed {
            out.push(*slot);
        }
    }
    out.extend_from_slice(rest);
    let gain = out.len() as isize - shard.len() as isize;
    (out, gain)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test may stop at the first surprise.
    use super::{Listed, Place, Reason, Suppressed, canonical};
    use crate::time::Timestamp;
    use mail::address::Mailbox;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);
    const BOUNCE: Option<Listed> = Some(Listed { reason: Reason::Bounce, until: None });

    fn place<'a>(account: &'a str, address: &'a str) -> Place<'a> {
        Place { account, address, stream: None }
    }

    // R5.5, R2.8: of one account, for all streams or for one, until it ends.
    #[test]
    fn what_is_listed_is_found_by_its_account_alone() {
        let mut list = Suppressed::empty([7; 16]);
        assert!(list.find("shop", "bob@b.test", "", NOW, |_| true).is_none() && list.is_empty());
        let until = NOW + Duration::from_secs(90);
        let ending = Some(Listed { reason: Reason::Complaint, until: Some(until) });
        let news = Place { stream: Some("news"), ..place("shop", "cy@c.test") };
        list.change([(place("shop", "bob@b.test"), BOUNCE), (news, ending)]);
        assert_eq!(list.len(), 2);
        assert_eq!(list.find("shop", "bob@b.test", "any", NOW, |_| true), BOUNCE);
        assert_eq!(list.find("other", "bob@b.test", "", NOW, |_| true), None);
        assert_eq!(list.find("sho", "pbob@b.test", "", NOW, |_| true), None);
        assert_eq!(list.find("shop", "cy@c.test", "news", NOW, |_| true).unwrap().reason, Reason::Complaint);
        assert_eq!(list.find("shop", "cy@c.test", "letters", NOW, |_| true), None);
        assert_eq!(list.find("shop", "cy@c.test", "", NOW, |_| true), None);
        // Not earlier than it was said, and not more than a minute later.
        assert!(list.find("shop", "cy@c.test", "news", until - Duration::from_secs(1), |_| true).is_some());
        assert!(list.find("shop", "cy@c.test", "news", until + Duration::from_secs(60), |_| true).is_none());
        let before = list.clone();
        list.change([(place("shop", "bob@b.test"), None), (place("shop", "nobody@b.test"), None)]);
        assert_eq!((list.len(), list.find("shop", "bob@b.test", "", NOW, |_| true)), (1, None));
        assert_eq!(before.find("shop", "bob@b.test", "", NOW, |_| true), BOUNCE, "who holds the list before keeps it");
    }

    #[test]
    fn letters_make_no_other_mailbox() {
        let canonical = |text: &str| canonical(&Mailbox::parse(text).unwrap());
        assert_eq!(canonical("Bob.SMITH@Example.TEST"), "bob.smith@example.test");
        assert_eq!(canonical("GRÜSSE@example.test"), "grüsse@example.test");
    }

    #[test]
    fn what_was_not_written_by_us_is_not_read() {
        let mut list = Suppressed::empty([7; 16]);
        list.change([(place("shop", "bob@b.test"), BOUNCE), (place("shop", "cy@c.test"), BOUNCE)]);
        let octets = list.to_octets();
        assert!(Suppressed::of_octets(&octets).is_some());
        assert!(Suppressed::of_octets(&octets[..octets.len() - 1]).is_none());
        assert!(Suppressed::of_octets(&octets[..15]).is_none());
        let twice = [&octets[..], &octets[16..]].concat();
        assert!(Suppressed::of_octets(&twice).is_none());
    }

    proptest! {
        // As a plain map would answer, after any changes and after a way over the disk.
        #[test]
        fn it_answers_as_a_map_does(steps in proptest::collection::vec(
            proptest::collection::vec((0u16..400, proptest::option::of(0usize..4)), 0..40), 0..20)) {
            let mut list = Suppressed::empty([3; 16]);
            let mut map = BTreeMap::new();
            for step in steps {
                let named: Vec<(String, Option<usize>)> =
                    step.into_iter().map(|(who, reason)| (format!("p{who}@x.test"), reason)).collect();
                list.change(named.iter().map(|(address, reason)| {
                    (place("a", address), reason.map(|at| Listed { reason: super::REASONS[at], until: None }))
                }));
                for (address, reason) in named {
                    match reason {
                        Some(at) => drop(map.insert(address, super::REASONS[at])),
                        None => drop(map.remove(&address)),
                    }
                }
            }
            let read = Suppressed::of_octets(&list.to_octets()).unwrap();
            for list in [&list, &read] {
                prop_assert_eq!(list.len(), map.len());
                for who in 0..400 {
                    let address = format!("p{who}@x.test");
                    let found = list.find("a", &address, "", NOW, |_| true).map(|listed| listed.reason);
                    prop_assert_eq!(found, map.get(&address).copied());
                }
            }
        }
    }
}
