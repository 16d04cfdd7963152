//! Where do many small things live, without an allocation for each and without moving when there are more?

use std::collections::BTreeMap;

/// No thing. Links are numbers; this one leads nowhere.
pub const NONE: u32 = u32::MAX;

const CHUNK: usize = 4_096;

/// Things under numbers that are used again. It grows by chunks: a million entries are never copied to make room for one more.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    end: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { chunks: Vec::new(), free: Vec::new(), end: 0 }
    }
}

impl<T> Slab<T> {
    pub fn insert(&mut self, thing: T) -> u32 {
        if let Some(at) = self.free.pop() {
            self.chunks[at as usize / CHUNK][at as usize % CHUNK] = Some(thing);
            return at;
        }
        let at = self.end;
        assert!(at < NONE, "four thousand million of one kind");
        if at as usize / CHUNK == self.chunks.len() {
            // The first chunk grows as it must; few engines hold thousands of each kind.
            self.chunks.push(if at == 0 { Vec::new() } else { Vec::with_capacity(CHUNK) });
        }
        self.chunks[at as usize / CHUNK].push(Some(thing));
        self.end += 1;
        at
    }

    pub fn remove(&mut self, at: u32) -> Option<T> {
        let taken = self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)?.take();
        if taken.is_some() {
            self.free.push(at);
            // After a mass is through, its memory goes back.
            if self.free.len() == self.end as usize && self.end as usize > CHUNK {
                *self = Slab::default();
            }
        }
        taken
    }

    pub fn get(&self, at: u32) -> Option<&T> {
        self.chunks.get(at as usize / CHUNK)?.get(at as usize % CHUNK)?.as_ref()
    }

    pub fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.chunks.get_mut(at as usize / CHUNK)?.get_mut(at as usize % CHUNK)?.as_mut()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.end as usize - self.free.len()
    }

    /// One more than the highest number in use.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.end
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..self.end).filter_map(|at| self.get(at).map(|thing| (at, thing)))
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;
    fn index(&self, at: u32) -> &T {
        self.get(at).expect("a link leads to a live thing: check_invariants holds that")
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        self.get_mut(at).expect("a link leads to a live thing: check_invariants holds that")
    }
}

/// Equal values under one number, for as long as somebody holds it.
#[derive(Debug)]
pub struct Interner<K> {
    by_key: BTreeMap<K, u32>,
    entries: Slab<(K, u32)>,
}

impl<K> Default for Interner<K> {
    fn default() -> Interner<K> {
        Interner { by_key: BTreeMap::new(), entries: Slab::default() }
    }
}

impl<K: Ord + Clone> Interner<K> {
    /// The number of this value, held once more.
    pub fn hold(&mut self, key: K) -> u32 {
        if let Some(at) = self.by_key.get(&key) {
            self.entries[*at].1 += 1;
            return *at;
        }
        let at = self.entries.insert((key.clone(), 1));
        self.by_key.insert(key, at);
        at
    }

    /// Holds it once less; the last one gets the value back.
    pub fn release(&mut self, at: u32) -> Option<K> {
        let entry = self.entries.get_mut(at)?;
        entry.1 -= 1;
        if entry.1 > 0 {
            return None;
        }
        let (key, _) = self.entries.remove(at)?;
        self.by_key.remove(&key);
        Some(key)
    }
}

impl<K> std::ops::Index<u32> for Interner<K> {
    type Output = K;
    fn index(&self, at: u32) -> &K {
        &self.entries[at].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_used_again_and_things_stay_where_they_are() {
        let mut slab = Slab::default();
        let all: Vec<u32> = (0..10_000).map(|n| slab.insert(n)).collect();
        assert_eq!(slab[all[9_999]], 9_999);
        assert_eq!(slab.remove(all[5_000]), Some(5_000));
        assert_eq!(slab.remove(all[5_000]), None);
        assert_eq!((slab.len(), slab.get(all[5_000])), (9_999, None));
        assert_eq!(slab.insert(7), all[5_000]);
        assert_eq!(slab.iter().count(), 10_000);
    }

    #[test]
    fn equal_values_share_a_number_until_the_last_lets_go() {
        let mut names = Interner::default();
        let a = names.hold("a".to_owned());
        assert_eq!(names.hold("a".to_owned()), a);
        assert_ne!(names.hold("b".to_owned()), a);
        assert_eq!(names.release(a), None);
        assert_eq!(names.release(a), Some("a".to_owned()));
        assert_eq!(names.release(a), None);
    }
}
