//! Bringing the records of a key together: every keyed operation stands on [`Keyed::combine`].
//!
//! Each task folds its records into one small table per output partition. A batch too large for that also has
//! sub-partitions by hash (some 256, so that the table of one fits the L2 cache): whenever its tables are full, a task
//! flushes them into buffers by sub-partition, and while folding does not pay (few records meet their key there) it writes
//! records straight to the buffers, trying again from time to time. Many full buffers of a sub-partition are folded into
//! a table of its own, unless nearly every key is new. Then each output partition brings the tasks' sub-partitions
//! together, one after the other, in a table that stays in the cache.
//!
//! Buffers are small: an allocator hands those of the last batch out again, where one large buffer for each sub-partition
//! cost as much in page faults as all the rest (20 M pairs of 1 M keys on two cores: 391 ms, against 174 ms).
//!
//! Invariants: a key is in one partition, the one its [`Partitioner`] names; values are folded in the order of the
//! partitions and of the records in them. The hash is ahash with fixed seeds, never stored: which rows come first is the
//! same in every run and promised to nobody.
//!
//! Cost: one probe per record where keys repeat, two and a copy where they do not.

use super::batch::Batch;
use super::exec::{Label, Pace};
use super::part::{BoxPart, each, weight};
use super::{Data, Key};
use crate::Result;
use crate::hash::probe;
use hashbrown::HashTable;
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

/// Bytes of a buffer of a sub-partition.
const BUFFER: usize = if cfg!(test) { 64 } else { 16 << 10 };

/// So many full buffers of a sub-partition are folded, if that pays.
const BUFFERS: usize = if cfg!(test) { 2 } else { 64 };

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
        let place = probe(hash);
        // Most keys are there: look before making room for one more.
        if let Some(row) = self.0.find_mut(place, |row| row.0 == key) {
            fold(&mut row.1, value);
            return false;
        }
        self.0.insert_unique(place, (key, create(value)), |row| probe(hash_of(&row.0)));
        true
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
        let place = probe(hash);
        match self.0.find_mut(place, |row| row.0.borrow() == key) {
            Some(row) => fold(&mut row.1, value),
            None => {
                self.0.insert_unique(place, (key.to_owned(), create(value)), |row| probe(hash_of(&row.0)));
            }
        }
    }

    /// Merges states into those that are there.
    fn absorb(&mut self, rows: impl Iterator<Item = (K, C)>, merge: impl Fn(&mut C, C)) {
        for (key, state) in rows {
            self.upsert(hash_of(&key), key, state, |state| state, &merge);
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

/// What one task holds of one sub-partition: first what is in the table, then the buffers, in order.
pub(crate) struct Sub<K, C> {
    table: Table<K, C>,
    /// States that were folded into it.
    folded: usize,
    /// Buffers that were put aside.
    full: Vec<Vec<(K, C)>>,
    buffer: Vec<(K, C)>,
}

impl<K: Key, C> Sub<K, C> {
    fn new() -> Self {
        Sub { table: Table::with_capacity(0), folded: 0, full: Vec::new(), buffer: Vec::new() }
    }

    #[inline(always)]
    fn push(&mut self, key: K, state: C, room: usize, merge: impl Fn(&mut C, C)) {
        if self.buffer.len() == self.buffer.capacity() {
            self.make_room(room, merge);
        }
        self.buffer.push((key, state));
    }

    #[cold]
    #[inline(never)]
    fn make_room(&mut self, room: usize, merge: impl Fn(&mut C, C)) {
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(room));
        if full.is_empty() {
            return;
        }
        self.full.push(full);
        if self.full.len() >= BUFFERS && self.table.0.len() * 5 <= self.folded * 4 {
            for full in self.full.drain(..) {
                self.folded += full.len();
                self.table.absorb(full.into_iter(), &merge);
            }
        }
    }
}

/// What one task made of its records.
pub(crate) struct Mapped<K, C> {
    pub(crate) tables: Vec<Table<K, C>>,
    pub(crate) subs: Vec<Sub<K, C>>,
}

impl<K: Key, C> Mapped<K, C> {
    #[cold]
    #[inline(never)]
    fn flush(&mut self, room: usize, merge: impl Fn(&mut C, C)) {
        let fine = self.subs.len();
        for (key, state) in self.tables.iter_mut().flat_map(|table| table.0.drain()) {
            self.subs[part_of(hash_of(&key), fine)].push(key, state, room, &merge);
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
            let tables = (0..n).map(|_| Table::with_capacity(expected)).collect();
            let mut mapped = Mapped { tables, subs: Vec::new() };
            if fine > n {
                mapped.subs = (0..fine).map(|_| Sub::new()).collect();
                let room = (BUFFER / size_of::<(K, C)>().max(1)).clamp(1, records / fine + 1);
                parts.into_iter().try_for_each(|part| self.map_large(part, room, &mut mapped, how))?;
                mapped.flush(room, &how.merge);
                return Ok(mapped);
            }
            for part in parts {
                each(part, |(key, value)| {
                    let hash = hash_of(&key);
                    mapped.tables[self.by.of(&key, hash)].upsert(hash, key, value, &how.create, &how.fold);
                    true
                })?;
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
        part: BoxPart<(K, V)>,
        room: usize,
        mapped: &mut Mapped<K, C>,
        how: &Fold<A, B, M>,
    ) -> Result<()>
    where
        V: Data,
        A: Fn(V) -> C,
        B: Fn(&mut C, V),
        M: Fn(&mut C, C),
    {
        let (n, fine) = (self.by.partitions, mapped.subs.len());
        // Records to scatter before folding is tried again; records folded and keys met since then.
        let (mut pause, mut folded, mut keys) = (0usize, 0usize, 0usize);
        each(part, |(key, value)| {
            let hash = hash_of(&key);
            if pause > 0 {
                pause -= 1;
                mapped.subs[part_of(hash, fine)].push(key, (how.create)(value), room, &how.merge);
                return true;
            }
            folded += 1;
            if mapped.tables[part_of(hash, n)].upsert(hash, key, value, &how.create, &how.fold) {
                keys += 1;
                if keys == FULL {
                    pause = if folded < 2 * FULL { PAUSE } else { 0 };
                    (folded, keys) = (0, 0);
                    mapped.flush(room, &how.merge);
                }
            }
            true
        })?;
        Ok(())
    }

    /// Brings what the tasks have together, partition by partition.
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
        // By partition, by sub-partition, then by task.
        let per = fine / n;
        let mut tasks: Vec<Vec<Vec<_>>> = (0..n).map(|_| (0..per).map(|_| Vec::new()).collect()).collect();
        for task in mapped {
            for (at, sub) in task.subs.into_iter().enumerate() {
                tasks[at / per][at % per].push(sub);
            }
        }
        exec.run(tasks, false, |_, subs| {
            let (mut small, mut rows) = (Table::with_capacity(0), Vec::new());
            for tasks in subs {
                let mut all: Option<Table<K, C>> = None;
                for Sub { table, full, buffer, .. } in tasks {
                    // One table for all that have none of their own: it stays in the cache.
                    let table = match &all {
                        None if small.0.is_empty() && !table.0.is_empty() => {
                            all = Some(table);
                            None
                        }
                        _ => Some(table),
                    };
                    let all = all.as_mut().unwrap_or(&mut small);
                    all.absorb(table.into_iter().flat_map(|table| table.0), &how.merge);
                    all.absorb(full.into_iter().flatten(), &how.merge);
                    all.absorb(buffer.into_iter(), &how.merge);
                }
                let all = all.as_mut().unwrap_or(&mut small);
                if rows.capacity() - rows.len() < all.0.len() {
                    rows.reserve(all.0.len() * per);
                }
                rows.extend(all.drain());
            }
            Ok(rows)
        })
    }
}
