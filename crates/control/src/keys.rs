//! In which blocks is something? Sorted runs of keys, that are merged as they become many.
//!
//! A run says for some blocks in a row which keys occur in them; runs divide the blocks among themselves, so that one page of each run
//! answers for all blocks. What is found is looked at: a key that means two things costs a look and tells nothing wrong.

use aws_lc_rs::digest;

/// A run takes the place of so many of the level below. More makes runs fewer and their merging rarer, and larger.
const RUNS_MERGED: i64 = 8;
/// Above this, runs are left as they are: a merge holds all pairs of one in memory.
pub const LEVEL_MAX: u32 = 3;
/// One look reads about so much of each run. The pairs of one key are never divided.
const PAGE_PAIRS: usize = 512;
const KEY_OCTETS: usize = 5;
const PAIR_OCTETS: usize = KEY_OCTETS + 2;

/// Something that events can be found by. Forty bits: among the million keys of a run one in a million is taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(u64);

impl Key {
    #[must_use]
    pub fn of(kind: &str, parts: &[&[u8]]) -> Key {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(kind.as_bytes());
        for part in parts {
            hash.update(&[0]);
            hash.update(part);
        }
        let mut octets = [0; 8];
        octets[8 - KEY_OCTETS..].copy_from_slice(&hash.finish().as_ref()[..KEY_OCTETS]);
        Key(u64::from_be_bytes(octets))
    }

    /// As the database orders it.
    #[must_use]
    pub fn number(self) -> i64 {
        i64::try_from(self.0).expect("forty bits fit")
    }
}

/// How many blocks a run of this level is about.
#[must_use]
pub fn blocks_of(level: u32) -> i64 {
    RUNS_MERGED.pow(level)
}

/// A key, and the place of a block in its run.
pub type Pair = (Key, u16);

/// The pairs of a run as pages, each with its first key.
#[must_use]
pub fn pages(mut pairs: Vec<Pair>) -> Vec<(Key, Vec<u8>)> {
    pairs.sort_unstable();
    pairs.dedup();
    let mut pages: Vec<(Key, Vec<u8>)> = Vec::new();
    let mut last = None;
    for (key, block) in pairs {
        let is_full = pages.last().is_some_and(|(_, octets)| octets.len() >= PAGE_PAIRS * PAIR_OCTETS);
        if pages.is_empty() || is_full && last != Some(key) {
            pages.push((key, Vec::with_capacity((PAGE_PAIRS + 1) * PAIR_OCTETS)));
        }
        last = Some(key);
        if let Some((_, octets)) = pages.last_mut() {
            octets.extend_from_slice(&key.0.to_be_bytes()[8 - KEY_OCTETS..]);
            octets.extend_from_slice(&block.to_be_bytes());
        }
    }
    pages
}

/// All pairs of a page.
pub fn pairs(page: &[u8]) -> impl Iterator<Item = Pair> + '_ {
    page.chunks_exact(PAIR_OCTETS).map(|pair| {
        let mut octets = [0; 8];
        octets[8 - KEY_OCTETS..].copy_from_slice(&pair[..KEY_OCTETS]);
        (Key(u64::from_be_bytes(octets)), u16::from_be_bytes([pair[KEY_OCTETS], pair[KEY_OCTETS + 1]]))
    })
}

/// The blocks of a run in which the key occurs, by the page that would hold it; oldest first.
#[must_use]
pub fn blocks_with(page: &[u8], key: Key) -> Vec<u16> {
    pairs(page).skip_while(|(found, _)| *found < key).take_while(|(found, _)| *found == key).map(|(_, at)| at).collect()
}

#[cfg(test)]
mod tests {
    use super::{Key, Pair, blocks_with, pages};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_was_put_in_is_found_by_one_page(put in prop::collection::vec((0u16..300, 0u16..512), 0..3_000)) {
            let key = |n: u16| Key::of("n", &[&n.to_be_bytes()]);
            let pairs: Vec<Pair> = put.iter().map(|(n, block)| (key(*n), *block)).collect();
            let pages = pages(pairs);
            for n in 0..300 {
                let mut expected: Vec<u16> = put.iter().filter(|(put, _)| *put == n).map(|(_, block)| *block).collect();
                expected.sort_unstable();
                expected.dedup();
                let page = pages.iter().rev().find(|(first, _)| *first <= key(n));
                let found = page.map(|(_, octets)| blocks_with(octets, key(n))).unwrap_or_default();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
