//! Bringing the records of a key together: every keyed operation stands on [`Keyed::combine`].
//!
//! Each task folds its records into one small table per output partition. A batch too large for that also has
//! sub-partitions by hash (some 256, so that the table of one fits the L2 cache): whenever its tables are full, a task
//! flushes them into buffers by sub-partition, and while folding does not pay (nearly every key is new) it writes
//! records straight to the buffers, trying again from time to time. Then each output partition folds its sub-partitions,
//! one after the other, in one table that stays in the cache.
//!
//! Invariants: a key is in one partition, the one its [`Partitioner`] names; values are folded in the order of the
//! partitions and of the records in them. The hash is ahash with fixed seeds, never stored: which rows come first is the
//! same in every run and promised to nobody.
//!
//! Cost: one probe per record where keys repeat, two and a copy where they do not.

use super::batch::Batch;
use super::exec::{Label, Pace};
use super::part::weight;
use super::{Data, Key};
use crate::Result;
use crate::hash::probe;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::borrow::Borrow;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A task's tables hold at most this many keys where there are sub-partitions.
const FULL: usize = if cfg!(test) { 16 } else { 1 << 14 };

/// Batches of more records than this have sub-partitions.
const LARGE: usize = if cfg!(test) { 50 } else { 1 << 19 };

/// Partitions and sub-partitions together.
const FINE: usize = if cfg!(test) { 8 } else { 256 };

/// Records written straight to the buffers before folding is tried again.
const PAUSE: usize = if cfg!(test) { 40 } else { 1 << 19 };

/// The hash of the typed face.
#[inline(always)]
pub(crate) fn hash_of<K: Hash + ?Sized>(key: &K) -> u64 {
    ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(key)
}

type PartitionOf<K> = Arc<dyn Fn(&K) -> usize + Send + Sync>;

/// Which partition a key belongs to.
pub struct Partitioner<K> {
    partitions: usize,
    by: Option<PartitionOf<K>>,
}

impl<K> Clone for Partitioner<K> {
    fn clone(&self) -> Self {
        Partitioner { partitions: self.partitions, by: self.by.clone() }
    }
}

impl<K> std::fmt::Debug for Partitioner<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Partitioner").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl<K> Partitioner<K> {
    /// By hash, into `partitions` (at least one).
    pub fn hash(partitions: usize) -> Self {
        Partitioner { partitions: partitions.max(1), by: None }
    }

    /// Into `partitions` (at least one) by `by`, whose results are taken modulo their number.
    pub fn new(partitions: usize, by: impl Fn(&K) -> usize + Send + Sync + 'static) -> Self {
        Partitioner { partitions: partitions.max(1), by: Some(Arc::new(by)) }
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    /// The partition of a key with this hash.
    #[inline]
    pub(crate) fn of(&self, key: &K, hash: u64) -> usize {
        match &self.by {
            None => part_of(hash, self.partitions),
            Some(by) => by(key) % self.partitions,
        }
    }
}

/// One of `n` neighbouring stretches of all hashes.
#[inline(always)]
pub(crate) fn part_of(hash: u64, n: usize) -> usize {
    ((u128::from(hash) * n as u128) >> 64) as usize
}

/// Keys with what was folded for each.
pub(crate) struct Table<K, C>(HashTable<(K, C)>);

impl<K: Key, C> Table<K, C> {
    pub(crate) fn with_capacity(keys: usize) -> Self {
        Table(HashTable::with_capacity(keys))
    }

    /// Whether the key is new.
    #[inline(always)]
    pub(crate) fn upsert<V>(
        &mut self,
        hash: u64,
        key: K,
        value: V,
        create: impl Fn(V) -> C,
        fold: impl Fn(&mut C, V),
    ) -> bool {
        match self.0.entry(probe(hash), |row| row.0 == key, |row| probe(hash_of(&row.0))) {
            Entry::Occupied(mut row) => {
                fold(&mut row.get_mut().1, value);
                false
            }
            Entry::Vacant(row) => {
                row.insert((key, create(value)));
                true
            }
        }
    }

    /// As [`upsert`](Self::upsert), with a key that becomes one of its own only if it is new.
    #[inline(always)]
    pub(crate) fn upsert_borrowed<V, Q>(
        &mut self,
        hash: u64,
        key: &Q,
        value: V,
        create: impl Fn(V) -> C,
        fold: impl Fn(&mut C, V),
    ) where
        Q: ToOwned<Owned = K> + Eq + ?Sized,
        K: Borrow<Q>,
    {
        match self.0.entry(probe(hash), |row| row.0.borrow() == key, |row| probe(hash_of(&row.0))) {
            Entry::Occupied(mut row) => fold(&mut row.get_mut().1, value),
            Entry::Vacant(row) => {
                row.insert((key.to_owned(), create(value)));
            }
        }
    }

    /// Takes all rows out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (K, C)> + '_ {
        self.0.drain()
    }
}

/// How values become states: the first one, each further one, two states.
pub(crate) struct Fold<A, B, M> {
    pub(crate) create: A,
    pub(crate) fold: B,
    pub(crate) merge: M,
}

/// What one task made of its records.
pub(crate) struct Mapped<K, C> {
    pub(crate) tables: Vec<Table<K, C>>,
    pub(crate) buffers: Vec<Vec<(K, C)>>,
}

impl<K: Key, C> Mapped<K, C> {
    fn flush(&mut self) {
        let fine = self.buffers.len();
        for (key, state) in self.tables.iter_mut().flat_map(|table| table.0.drain()) {
            let at = part_of(hash_of(&key), fine);
            self.buffers[at].push((key, state));
        }
    }
}

/// A keyed operator: where keys go, its name for errors, and what it learned from the batches before.
pub(crate) struct Keyed<K> {
    pub(crate) by: Partitioner<K>,
    pub(crate) label: Label,
    pub(crate) pace: Pace,
    merging: Pace,
    /// Keys of the last batch in one partition.
    keys: AtomicUsize,
}

impl<K: Key> Keyed<K> {
    pub(crate) fn new(label: &Label, by: Partitioner<K>) -> Arc<Self> {
        let (pace, merging) = (Pace::default(), Pace::default());
        Arc::new(Keyed { by, label: label.clone(), pace, merging, keys: AtomicUsize::new(0) })
    }

    /// Each key once, with the fold of its values, in the partition it belongs to.
    pub(crate) fn combine<V, C, A, B, M>(&self, batch: Batch<(K, V)>, how: &Fold<A, B, M>) -> Result<Vec<Vec<(K, C)>>>
    where
        V: Data,
        C: Send + 'static,
        A: Fn(V) -> C + Sync,
        B: Fn(&mut C, V) + Sync,
        M: Fn(&mut C, C) + Sync,
    {
        let coder = batch.coder.clone();
        let (exec, parts) = batch.stage()?;
        let n = self.by.partitions;
        let records = weight(&parts);
        if let Some(coder) = coder.filter(|_| self.must_spill::<V>(&exec, records)) {
            return self.combine_spilling(&exec, parts, &coder, how);
        }
        let alone = exec.is_alone(&self.pace, records);
        let fine = if records > LARGE && self.by.by.is_none() { FINE.div_ceil(n) * n } else { n };
        let tasks: Vec<Vec<_>> = if alone { vec![parts] } else { parts.into_iter().map(|part| vec![part]).collect() };
        let expected = self.keys.load(Ordering::Relaxed).min(FULL);
        let mapped = exec.paced(tasks, records, &self.pace, |_, parts| {
            let mut mapped =
                Mapped { tables: (0..n).map(|_| Table::with_capacity(expected)).collect(), buffers: Vec::new() };
            if fine == n {
                for part in parts {
                    part.run(&mut |(key, value)| {
                        let hash = hash_of(&key);
                        mapped.tables[self.by.of(&key, hash)].upsert(hash, key, value, &how.create, &how.fold);
                        true
                    })?;
                }
            } else {
                parts.into_iter().try_for_each(|part| self.map_large(part, fine, &mut mapped, how))?;
                mapped.flush();
            }
            Ok(mapped)
        })?;
        let rows = self.merge(&exec, mapped, fine, how)?;
        self.keys.store(rows.iter().map(Vec::len).max().unwrap_or(0), Ordering::Relaxed);
        Ok(rows)
    }

    /// Every record in the partition that its key belongs to, in order.
    pub(crate) fn scatter<V: Data>(&self, batch: Batch<(K, V)>) -> Result<Vec<Vec<(K, V)>>> {
        let (exec, parts) = batch.stage()?;
        let n = self.by.partitions;
        let records = weight(&parts);
        let alone = exec.is_alone(&self.pace, records);
        let tasks: Vec<Vec<_>> = if alone { vec![parts] } else { parts.into_iter().map(|part| vec![part]).collect() };
        let scattered = exec.paced(tasks, records, &self.pace, |_, parts| {
            let mut buffers: Vec<Vec<(K, V)>> = (0..n).map(|_| Vec::new()).collect();
            for part in parts {
                part.run(&mut |(key, value)| {
                    let at = self.by.of(&key, hash_of(&key));
                    buffers[at].push((key, value));
                    true
                })?;
            }
            Ok(buffers)
        })?;
        let mut tasks = scattered.into_iter();
        let mut all = tasks.next().unwrap_or_else(|| (0..n).map(|_| Vec::new()).collect());
        for buffers in tasks {
            all.iter_mut().zip(buffers).for_each(|(all, more)| all.extend(more));
        }
        Ok(all)
    }

    /// Folds or scatters one partition of a large batch.
    fn map_large<V, C, A, B, M>(
        &self,
        part: super::part::BoxPart<(K, V)>,
        fine: usize,
        mapped: &mut Mapped<K, C>,
        how: &Fold<A, B, M>,
    ) -> Result<()>
    where
        A: Fn(V) -> C,
        B: Fn(&mut C, V),
    {
        let n = self.by.partitions;
        let room = part.weight() / fine + part.weight() / fine / 8;
        // Records to scatter before folding is tried again; records folded and keys met since then.
        let (mut pause, mut folded, mut keys) = (0usize, 0usize, 0usize);
        if mapped.buffers.is_empty() {
            mapped.buffers = (0..fine).map(|_| Vec::new()).collect();
        }
        part.run(&mut |(key, value)| {
            let hash = hash_of(&key);
            if pause > 0 {
                pause -= 1;
                let buffer = &mut mapped.buffers[part_of(hash, fine)];
                if buffer.capacity() == 0 {
                    buffer.reserve(room);
                }
                buffer.push((key, (how.create)(value)));
                return true;
            }
            folded += 1;
            if mapped.tables[part_of(hash, n)].upsert(hash, key, value, &how.create, &how.fold) {
                keys += 1;
                if keys == FULL {
                    pause = if folded < 2 * FULL { PAUSE } else { 0 };
                    (folded, keys) = (0, 0);
                    mapped.flush();
                }
            }
            true
        })?;
        Ok(())
    }

    /// Brings the tasks' tables or buffers together, partition by partition.
    pub(crate) fn merge<C, A, B, M>(
        &self,
        exec: &super::exec::Exec,
        mut mapped: Vec<Mapped<K, C>>,
        fine: usize,
        how: &Fold<A, B, M>,
    ) -> Result<Vec<Vec<(K, C)>>>
    where
        C: Send,
        M: Fn(&mut C, C) + Sync,
        A: Sync,
        B: Sync,
    {
        let n = self.by.partitions;
        if fine == n {
            if mapped.len() == 1 {
                let tables = mapped.pop().map(|only| only.tables).unwrap_or_default();
                return Ok(tables.into_iter().map(|table| table.0.into_iter().collect()).collect());
            }
            let mut tasks: Vec<Vec<Table<K, C>>> = (0..n).map(|_| Vec::with_capacity(mapped.len())).collect();
            for task in mapped {
                task.tables.into_iter().zip(&mut tasks).for_each(|(table, into)| into.push(table));
            }
            let keys = tasks.iter().flatten().map(|table| table.0.len()).sum();
            return exec.paced(tasks, keys, &self.merging, |_, tables| {
                let mut tables = tables.into_iter();
                let Some(mut all) = tables.next() else { return Ok(Vec::new()) };
                for (key, state) in tables.flat_map(|table| table.0) {
                    all.upsert(hash_of(&key), key, state, |state| state, &how.merge);
                }
                Ok(all.0.into_iter().collect())
            });
        }
        // Buffers of a partition, by sub-partition, then by task.
        let per = fine / n;
        let mut tasks: Vec<Vec<Vec<_>>> = (0..n).map(|_| (0..per).map(|_| Vec::new()).collect()).collect();
        for task in mapped {
            for (at, buffer) in task.buffers.into_iter().enumerate() {
                tasks[at / per][at % per].push(buffer);
            }
        }
        exec.run(tasks, false, |_, subs| {
            let mut table = Table::with_capacity(FULL);
            let mut rows = Vec::new();
            for buffers in subs {
                for (key, state) in buffers.into_iter().flatten() {
                    table.upsert(hash_of(&key), key, state, |state| state, &how.merge);
                }
                rows.extend(table.0.drain());
            }
            Ok(rows)
        })
    }
}
