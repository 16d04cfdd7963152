//! What is known of so many addresses that only their digests can be kept?
//!
//! Sixteen octets an entry, looked up in well under a microsecond, and shared between snapshots. They lie in shards; a change copies one of
//! them. A digest is keyed with a secret of the installation, so that nobody can make up an address that meets another one; by chance,
//! one look-up among ten million entries meets a wrong one once in 10^21.

use siphasher::sip128::{Hasher128, SipHasher13};
use std::hash::Hasher as _;
use std::sync::Arc;

/// So that a shard of a list of ten million is some 40 KiB to copy.
const SHARDS: usize = 4_096;
const SHARD_BITS: u32 = SHARDS.trailing_zeros();

/// An entry: its digest, and what is said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    digest: u64,
    more: u32,
    said: u32,
}

type Shard = Arc<[Slot]>;

/// Which entry: the digest of all that names it.
#[derive(Clone, Copy, Debug)]
pub struct Digest(Slot);

#[derive(Clone)]
pub struct Digests {
    key: [u8; 16],
    shards: Arc<Vec<Shard>>,
    count: usize,
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digests").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Digests {
    #[must_use]
    pub fn empty(key: [u8; 16]) -> Digests {
        Digests { key, shards: Arc::new(vec![Shard::default(); SHARDS]), count: 0 }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Of these words, in their order.
    #[must_use]
    pub fn digest(&self, words: &[&str]) -> Digest {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        for (at, word) in words.iter().enumerate() {
            if at > 0 {
                // No word holds such an octet.
                hasher.write_u8(0xff);
            }
            hasher.write(word.as_bytes());
        }
        let digest = hasher.finish128();
        Digest(Slot { digest: digest.h1, more: digest.h2 as u32, said: 0 })
    }

    /// What is said of it.
    #[must_use]
    pub fn find(&self, words: &[&str]) -> Option<u32> {
        if self.count == 0 {
            return None;
        }
        let Digest(slot) = self.digest(words);
        let shard = &self.shards[shard_of(slot.digest)];
        Some(shard[search(shard, &slot).ok()?].said)
    }

    /// Puts entries in, or takes them out (`None`); one shard is copied for each that is touched.
    pub fn change(&mut self, changes: impl IntoIterator<Item = (Digest, Option<u32>)>) {
        let mut sorted: Vec<(usize, Slot, bool)> = changes
            .into_iter()
            .map(|(Digest(slot), said)| {
                (shard_of(slot.digest), Slot { said: said.unwrap_or_default(), ..slot }, said.is_some())
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
    pub fn of_octets(octets: &[u8]) -> Option<Digests> {
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
        Some(Digests { key: *key, shards: Arc::new(shards), count: slots.len() })
    }
}

fn shard_of(digest: u64) -> usize {
    (digest >> (u64::BITS - SHARD_BITS)) as usize
}

impl Slot {
    fn place(&self) -> (u64, u32) {
        (self.digest, self.more)
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
