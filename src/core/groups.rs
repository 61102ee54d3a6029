//! Interning: keys become small dense integers, once per record, and from there on everything is index arithmetic.
//!
//! The table holds ids only, so that it is small: what a lookup misses in the cache is what it costs. Keys live in the
//! face's [`KeyStore`], hashes beside them here. Every id has one key and every live key one id. Ids of keys that left
//! are recycled, so tables indexed by id stay as small as the greatest number of keys that were live at once.
//!
//! Cost: one probe (about 5 ns while the partition's table fits the L2 cache) and one key comparison a row.

use super::partition::counting_sort;
use crate::hash::probe;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A key's number inside its partition: dense, recycled when the key leaves.
pub type GroupId = u32;

/// No id.
const NONE: GroupId = GroupId::MAX;

/// Rows that are looked up before the first of them is compared.
const AHEAD: usize = if cfg!(test) { 3 } else { 32 };

/// Where the keys of one partition live.
pub trait KeyStore {
    /// A batch of candidate keys, addressed by row.
    type Rows: ?Sized;

    /// Whether the key of `id` is the key of `row`, or looks like it and has another hash.
    fn is(&self, id: GroupId, rows: &Self::Rows, row: usize) -> bool;

    /// Whether there is a key that looks like the one of `row` and has another hash.
    fn has_double(&self, _rows: &Self::Rows, _row: usize) -> bool {
        false
    }

    /// Stores the key of `row` under `id`, which is `len()` or was freed before.
    fn put(&mut self, id: GroupId, rows: &Self::Rows, row: usize);

    /// Lets go of the key of `id`.
    fn free(&mut self, _id: GroupId) {}

    /// Bytes of memory held.
    fn bytes(&self) -> usize;
}

/// The keys of one partition and their ids.
#[derive(Debug, Default)]
pub struct Groups<K> {
    table: HashTable<GroupId>,
    /// The published hash of each id's key.
    hashes: Vec<u64>,
    free: Vec<GroupId>,
    keys: K,
}

impl<K: KeyStore> Groups<K> {
    /// No keys yet, to be stored in `keys`, which must be empty.
    pub fn new(keys: K) -> Self {
        Groups { table: HashTable::new(), hashes: Vec::new(), free: Vec::new(), keys }
    }

    /// One past the greatest id in use: the length that a table indexed by id needs.
    pub fn capacity(&self) -> usize {
        self.hashes.len()
    }

    /// Makes room for so many more keys.
    pub fn reserve(&mut self, keys: usize) {
        let Groups { table, hashes, .. } = self;
        table.reserve(keys, |id| probe(hashes[*id as usize]));
        hashes.reserve(keys);
    }

    /// How many keys have an id.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no key has an id.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The keys, by id.
    pub fn keys(&self) -> &K {
        &self.keys
    }

    /// The published hash of each id's key.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.table.allocation_size() + self.hashes.capacity() * 8 + self.free.capacity() * 4 + self.keys.bytes()
    }

    /// Appends to `out` the id of each of the rows `wanted`; unknown keys get new ids. `hashes[i]` is the published hash
    /// of row `i`, equal for equal keys.
    pub fn intern(
        &mut self,
        rows: &K::Rows,
        hashes: &[u64],
        wanted: impl ExactSizeIterator<Item = usize>,
        out: &mut Vec<GroupId>,
    ) {
        out.reserve(wanted.len());
        let Groups { table, hashes: stored, free, keys } = self;
        let mut wanted = wanted;
        let mut next = [(0, 0); AHEAD];
        loop {
            // Looked up first, compared later: what is not in the cache is then waited for together.
            let mut count = 0;
            for (place, row) in next.iter_mut().zip(wanted.by_ref()) {
                *place = (row, table.find(probe(hashes[row]), |_| true).map_or(NONE, |id| *id));
                count += 1;
            }
            for (row, like) in &next[..count] {
                let (row, hash) = (*row, hashes[*row]);
                let is = |id: GroupId| {
                    keys.is(id, rows, row) && (!keys.has_double(rows, row) || stored[id as usize] == hash)
                };
                if *like != NONE && is(*like) {
                    out.push(*like);
                    continue;
                }
                out.push(match table.entry(probe(hash), |id| is(*id), |id| probe(stored[*id as usize])) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(vacant) => {
                        let id = match free.pop() {
                            Some(id) => {
                                stored[id as usize] = hash;
                                id
                            }
                            None => {
                                stored.push(hash);
                                (stored.len() - 1) as GroupId
                            }
                        };
                        keys.put(id, rows, row);
                        vacant.insert(id);
                        id
                    }
                });
            }
            if count < AHEAD {
                break;
            }
        }
    }

    /// Frees `id`, whose key has left; the id will be given to another key.
    pub fn free(&mut self, id: GroupId) {
        let hash = self.hashes[id as usize];
        if let Ok(known) = self.table.find_entry(probe(hash), |known| *known == id) {
            known.remove();
            self.keys.free(id);
            self.free.push(id);
        }
    }

    /// Ids in the order of their hashes (ties by `tie`), which inside a partition is the order of the output.
    pub fn by_hash(&self, tie: impl Fn(&K, GroupId, GroupId) -> std::cmp::Ordering) -> Vec<GroupId> {
        let hashes = || self.table.iter().map(|id| self.hashes[*id as usize]);
        let Some(first) = hashes().next() else { return Vec::new() };
        // The leading bits in which all agree say nothing; by as many more as leave a few keys each they are dealt out.
        let agree = hashes().fold(0, |differ, hash| differ | (hash ^ first)).leading_zeros();
        let bits = self.len().ilog2().saturating_sub(1).max(1);
        let bucket = |hash: u64| (hash.checked_shl(agree).unwrap_or(0) >> (64 - bits)) as u32;
        let buckets: Vec<u32> = hashes().map(bucket).collect();
        let (mut offsets, mut places) = (Vec::new(), Vec::new());
        counting_sort(&buckets, 1 << bits, &mut offsets, &mut places);
        let mut ids: Vec<(u64, GroupId)> = vec![(0, 0); buckets.len()];
        for (id, at) in self.table.iter().zip(&places) {
            ids[*at as usize] = (self.hashes[*id as usize], *id);
        }
        for ends in offsets.windows(2) {
            let bucket = &mut ids[ends[0] as usize..ends[1] as usize];
            bucket.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| tie(&self.keys, a.1, b.1)));
        }
        ids.into_iter().map(|(_, id)| id).collect()
    }
}

/// The typed face's keys: a vector of any `K` with equality.
#[derive(Debug)]
pub struct TypedKeys<K>(Vec<K>);

impl<K> Default for TypedKeys<K> {
    fn default() -> Self {
        TypedKeys(Vec::new())
    }
}

impl<K> TypedKeys<K> {
    /// The key of `id`.
    pub fn get(&self, id: GroupId) -> &K {
        &self.0[id as usize]
    }
}

impl<K: Eq + Clone> KeyStore for TypedKeys<K> {
    type Rows = [K];

    fn is(&self, id: GroupId, rows: &[K], row: usize) -> bool {
        self.0[id as usize] == rows[row]
    }

    fn put(&mut self, id: GroupId, rows: &[K], row: usize) {
        match self.0.get_mut(id as usize) {
            Some(old) => *old = rows[row].clone(),
            None => self.0.push(rows[row].clone()),
        }
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<K>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// The twin is a map from key to id and back; some keys collide in all 64 bits of the hash.
        #[test]
        fn agrees_with_a_map(ops in prop::collection::vec((0u64..40, any::<bool>()), 0..300)) {
            let mut groups = Groups::new(TypedKeys::default());
            let mut twin: HashMap<u64, GroupId> = HashMap::new();
            let hash = |key: u64| crate::hash::hash_word(key / 2);
            for (key, add) in ops {
                if add {
                    let mut id = Vec::new();
                    groups.intern(&[key], &[hash(key)], 0..1, &mut id);
                    if let Some(known) = twin.get(&key) {
                        prop_assert_eq!(*known, id[0]);
                    } else {
                        prop_assert!(twin.values().all(|other| *other != id[0]), "ids are not shared");
                        twin.insert(key, id[0]);
                    }
                    prop_assert_eq!(groups.keys().get(id[0]), &key);
                } else if let Some(id) = twin.remove(&key) {
                    groups.free(id);
                }
                prop_assert_eq!(groups.len(), twin.len());
            }
            prop_assert!(groups.capacity() <= 40, "ids are recycled");
            let order = groups.by_hash(|keys, a, b| keys.get(a).cmp(keys.get(b)));
            let mut want: Vec<u64> = twin.keys().copied().collect();
            want.sort_by_key(|key| (hash(*key), *key));
            prop_assert_eq!(order.iter().map(|id| *groups.keys().get(*id)).collect::<Vec<_>>(), want);
        }
    }
}
