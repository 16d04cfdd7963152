//! Where does each live message lie? In 44 octets per message.
//!
//! A table of 4-octet slots over a slab of entries, both grown without copying the entries, because the standard map
//! takes up to twice the room and a million queued messages are ordinary.

use crate::Key;

/// A record: its segment, its offset there, its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// Segments count from one; zero is no place.
    pub segment: u32,
    pub offset: u32,
    pub len: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    key: [u64; 2],
    pub message: Place,
    /// Of the newest Update; segment zero = none, the state is with the message.
    pub state: Place,
}

impl Entry {
    #[cfg(test)]
    fn key(&self) -> Key {
        Key::from(self.key[0]) << 64 | Key::from(self.key[1])
    }
}

const CHUNK: usize = 4096;

#[derive(Default)]
pub struct Index {
    /// Entry number plus one; zero = empty. A power of two long, at most three quarters full.
    slots: Vec<u32>,
    entries: Vec<Vec<Entry>>,
    free: Vec<u32>,
    len: usize,
}

impl Index {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, key: Key) -> Option<&Entry> {
        let slot = self.find(halves(key))?;
        Some(self.entry(self.slots[slot] - 1))
    }

    pub fn get_mut(&mut self, key: Key) -> Option<&mut Entry> {
        let slot = self.find(halves(key))?;
        let number = (self.slots[slot] - 1) as usize;
        Some(&mut self.entries[number / CHUNK][number % CHUNK])
    }

    /// The key must not be in the index.
    pub fn insert(&mut self, key: Key, message: Place) {
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            self.grow();
        }
        let entry = Entry { key: halves(key), message, state: Place::default() };
        let number = self.store(entry);
        let slot = self.empty_slot(entry.key);
        self.slots[slot] = number + 1;
        self.len += 1;
    }

    pub fn remove(&mut self, key: Key) -> Option<Entry> {
        let mut hole = self.find(halves(key))?;
        let number = self.slots[hole] - 1;
        let entry = *self.entry(number);
        // Linear probing without tombstones: move back whatever would no longer be found past the hole.
        let mask = self.slots.len() - 1;
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            if self.slots[at] == 0 {
                break;
            }
            let home = self.home(self.entry(self.slots[at] - 1).key);
            if at.wrapping_sub(home) & mask >= at.wrapping_sub(hole) & mask {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
        }
        self.slots[hole] = 0;
        self.free.push(number);
        self.len -= 1;
        if self.len == 0 {
            // An empty queue gives all its memory back.
            *self = Index::default();
        }
        Some(entry)
    }

    fn find(&self, key: [u64; 2]) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        let mut slot = self.home(key);
        while self.slots[slot] != 0 {
            if self.entry(self.slots[slot] - 1).key == key {
                return Some(slot);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    fn empty_slot(&self, key: [u64; 2]) -> usize {
        let mask = self.slots.len() - 1;
        let mut slot = self.home(key);
        while self.slots[slot] != 0 {
            slot = (slot + 1) & mask;
        }
        slot
    }

    /// Keys are UUIDs and bring their own chance; a multiplication spreads what is regular in them.
    fn home(&self, key: [u64; 2]) -> usize {
        let mixed = (key[0].rotate_left(32) ^ key[1]).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 32) as usize & (self.slots.len() - 1)
    }

    fn entry(&self, number: u32) -> &Entry {
        &self.entries[number as usize / CHUNK][number as usize % CHUNK]
    }

    fn store(&mut self, entry: Entry) -> u32 {
        if let Some(number) = self.free.pop() {
            self.entries[number as usize / CHUNK][number as usize % CHUNK] = entry;
            return number;
        }
        if self.entries.last().is_none_or(|chunk| chunk.len() == CHUNK) {
            self.entries.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.entries.len() - 1) * CHUNK;
        let chunk = self.entries.last_mut().expect("a chunk with room was just made sure of");
        chunk.push(entry);
        (before + chunk.len() - 1) as u32
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![0; (old.len() * 2).max(64)];
        for number in old.into_iter().filter(|&number| number != 0) {
            let slot = self.empty_slot(self.entry(number - 1).key);
            self.slots[slot] = number;
        }
    }
}

fn halves(key: Key) -> [u64; 2] {
    [(key >> 64) as u64, key as u64]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn holds_what_a_map_holds() {
        let (mut index, mut model) = (Index::default(), BTreeMap::new());
        let mut dice = 7u64;
        for step in 0..200_000u32 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // Few distinct keys with equal low bits, so that probes collide and holes are moved.
            let key = Key::from(dice >> 40 & 0xfff) << 52;
            let place = Place { segment: 1, offset: step, len: 3 };
            match model.entry(key) {
                std::collections::btree_map::Entry::Vacant(room) => {
                    index.insert(key, place);
                    room.insert(place);
                }
                std::collections::btree_map::Entry::Occupied(there) => {
                    assert_eq!(index.remove(key).unwrap().message, there.remove());
                }
            }
            assert_eq!(index.len(), model.len());
        }
        for (key, place) in &model {
            assert_eq!(index.get(*key).map(|entry| (entry.key(), entry.message)), Some((*key, *place)));
        }
        for key in model.keys() {
            index.remove(*key).unwrap();
        }
        assert!(index.slots.is_empty() && index.get(0).is_none());
    }
}
