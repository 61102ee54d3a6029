//! `update_state_by_key`: every known key in every batch.
//!
//! The state of a partition is a vector of rows and an index over it. A batch makes a new vector out of the old one, and a
//! new index only if keys came or went; the old state stays what it was until the whole batch has succeeded.
//!
//! Cost: every known key is looked up in the batch and cloned, in every batch. Where most keys are quiet use
//! [`map_with_state`](super::DStream::map_with_state).

use super::batch::{Batch, grouping};
use super::clock::Time;
use super::exec::{Exec, Label, Pace, blame};
use super::keyed::{Keyed, Partitioner, hash_of};
use super::ordered::{Apply, Ordered};
use super::saved::Section;
use super::{DStream, Data, Key};
use crate::Result;
use crate::hash::probe;
use hashbrown::HashTable;
use std::collections::HashMap;
use std::sync::Arc;

/// The states of one partition.
struct Shard<K, S> {
    rows: Arc<Vec<(K, S)>>,
    index: Arc<HashTable<u32>>,
}

struct Updated<K, S, F> {
    exec: Arc<Exec>,
    keyed: Arc<Keyed<K>>,
    update: F,
    interval: u64,
    shards: Vec<Shard<K, S>>,
    pace: Pace,
    label: Label,
}

fn index_of<K: Key, S>(rows: &[(K, S)]) -> HashTable<u32> {
    let mut index = HashTable::with_capacity(rows.len());
    for (at, (key, _)) in rows.iter().enumerate() {
        index.insert_unique(probe(hash_of(key)), at as u32, |at| probe(hash_of(&rows[*at as usize].0)));
    }
    index
}

/// The states after a batch.
fn next<K: Key, V, S: Clone>(
    old: &Shard<K, S>,
    groups: Vec<(K, Vec<V>)>,
    update: impl Fn(&K, Vec<V>, Option<S>) -> Option<S>,
) -> Shard<K, S> {
    let mut values: Vec<Option<Vec<V>>> = old.rows.iter().map(|_| None).collect();
    let mut new = Vec::new();
    for (key, group) in groups {
        match old.index.find(probe(hash_of(&key)), |at| old.rows[*at as usize].0 == key) {
            Some(at) => values[*at as usize] = Some(group),
            None => new.push((key, group)),
        }
    }
    let mut rows = Vec::with_capacity(old.rows.len() + new.len());
    for ((key, state), values) in old.rows.iter().zip(values) {
        let state = update(key, values.unwrap_or_default(), Some(state.clone()));
        rows.extend(state.map(|state| (key.clone(), state)));
    }
    let same = rows.len() == old.rows.len();
    let before = rows.len();
    for (key, values) in new {
        let state = update(&key, values, None);
        rows.extend(state.map(|state| (key, state)));
    }
    let index = if same && rows.len() == before { old.index.clone() } else { Arc::new(index_of(&rows)) };
    Shard { rows: Arc::new(rows), index }
}

/// A shard of `rows`, in which no key comes twice.
fn shard_of<K: Key, S>(rows: Vec<(K, S)>) -> Shard<K, S> {
    Shard { index: Arc::new(index_of(&rows)), rows: Arc::new(rows) }
}

impl<K, V, S, F> Apply<(K, V)> for Updated<K, S, F>
where
    K: Key,
    V: Data,
    S: Data,
    F: Fn(Time, &K, Vec<V>, Option<S>) -> Option<S> + Send + Sync + 'static,
{
    type Row = (K, S);
    type Kept = (K, S);

    fn apply(&mut self, k: u64, batch: Option<Batch<(K, V)>>, emit: bool) -> Result<Vec<Vec<(K, S)>>> {
        let Updated { exec, keyed, update, interval, shards, pace, label } = self;
        let groups = match batch {
            Some(batch) => keyed.combine(batch, &grouping())?,
            None => shards.iter().map(|_| Vec::new()).collect(),
        };
        let time = Time::from_micros(k * *interval);
        let work =
            shards.iter().map(|shard| shard.rows.len()).sum::<usize>() + groups.iter().map(Vec::len).sum::<usize>();
        let tasks: Vec<_> = shards.iter().zip(groups).collect();
        let after = exec.paced(tasks, work, pace, |_, (shard, groups)| {
            Ok(next(shard, groups, |key, values, state| blame(label, || update(time, key, values, state))))
        })?;
        *shards = after;
        Ok(if emit { shards.iter().map(|shard| shard.rows.to_vec()).collect() } else { Vec::new() })
    }

    fn sections(&self) -> Option<Vec<Section<(K, S)>>> {
        Some(self.shards.iter().map(|shard| Section::shared(0, 0, shard.rows.clone())).collect())
    }

    fn restore(&mut self, sections: Vec<Section<(K, S)>>) -> Result<()> {
        let mut shards: Vec<_> = self.shards.iter().map(|_| Vec::new()).collect();
        for (key, state) in sections.into_iter().flat_map(Section::rows) {
            shards[self.keyed.by.of(&key, hash_of(&key))].push((key, state));
        }
        self.shards = shards.into_iter().map(shard_of).collect();
        Ok(())
    }
}

impl<K: Key, V: Data> DStream<(K, V)> {
    /// The state of every key: what `update` makes of the key's values in the batch (none, for most) and its state so
    /// far. `None` forgets the key.
    ///
    /// ```
    /// use std::time::Duration;
    /// use windrow::stream::{ManualClock, StreamingContext, Time};
    /// let clock = ManualClock::new();
    /// let ctx = StreamingContext::builder().manual_clock(&clock).build()?;
    /// let words = ctx.queue_stream(vec![vec![("a", 1)], vec![("b", 1), ("a", 1)]]);
    /// let counts = words.update_state_by_key(|ones, n: Option<i32>| Some(n.unwrap_or(0) + ones.iter().sum::<i32>()));
    /// counts.for_each_batch(|batch, time| {
    ///     let mut rows = batch.collect()?;
    ///     rows.sort();
    ///     println!("{time}: {rows:?}"); // 1000 ms: [("a", 1)], 2000 ms: [("a", 2), ("b", 1)]
    ///     Ok(())
    /// });
    /// ctx.start()?;
    /// ctx.run_until(Time::from_millis(2000))?;
    /// # Ok::<(), windrow::Error>(())
    /// ```
    pub fn update_state_by_key<S: Data>(
        &self,
        update: impl Fn(Vec<V>, Option<S>) -> Option<S> + Send + Sync + 'static,
    ) -> DStream<(K, S)> {
        let by = Partitioner::hash(self.core.exec.partitions);
        self.update_state_by_key_with(move |_, _, values, state| update(values, state), by, [])
    }

    /// As [`update_state_by_key`](Self::update_state_by_key), and `update` is told the batch's time and the key, `by`
    /// says in which partition a key goes, and `initial` holds the states before the first batch.
    pub fn update_state_by_key_with<S: Data>(
        &self,
        update: impl Fn(Time, &K, Vec<V>, Option<S>) -> Option<S> + Send + Sync + 'static,
        by: Partitioner<K>,
        initial: impl IntoIterator<Item = (K, S)>,
    ) -> DStream<(K, S)> {
        let label = self.core.label("update_state_by_key");
        let partitions = by.partitions();
        let mut shards: Vec<_> = (0..partitions).map(|_| Vec::new()).collect();
        // The last state of a key counts.
        let mut last = HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
        last.extend(initial);
        for (key, state) in last {
            shards[by.of(&key, hash_of(&key))].push((key, state));
        }
        let state = Updated {
            exec: self.core.exec.clone(),
            keyed: Keyed::new(&label, by),
            update,
            interval: self.core.settings.interval,
            shards: shards.into_iter().map(shard_of).collect(),
            pace: Pace::default(),
            label: label.clone(),
        };
        let (state, slide) = (Arc::new(Ordered::new(state)), self.node.slide);
        let (states, kept) = self.stateful(label, slide, partitions, state, String::new(), |_| ());
        states.node.codes(kept);
        states
    }
}
