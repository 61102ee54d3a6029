//! `map_with_state`: only the keys that have records.
//!
//! The states of a partition are one table of `(key, state, last touch)`, changed in place. What a batch changes is
//! logged first, so that a closure that panics leaves the states as they were. With a timeout there is a list of the
//! keys touched in each batch; a key has timed out when the list of its last touch is old enough.
//!
//! Cost: one lookup per record, nothing for keys without; 25 bytes a `(u64, u64)` key over the load of the table (at
//! most 58), with a timeout the key once more for every batch in which it was touched.

use super::batch::Batch;
use super::clock::{Time, micros};
use super::codec::{Codec, Postcard};
use super::exec::{Exec, Label, Pace, blame};
use super::keyed::{Keyed, Partitioner, hash_of};
use super::ordered::{Apply, Ordered};
use super::saved::{Coded, Section};
use super::scheduler::lock;
use super::{DStream, Data, Key};
use crate::hash::probe;
use crate::{Error, Result};
use hashbrown::HashTable;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The state of one key, in the hands of a [`map_with_state`](DStream::map_with_state) function.
#[derive(Debug)]
pub struct State<'a, S> {
    slot: Slot<'a, S>,
    updated: bool,
    removed: bool,
    timing_out: bool,
}

#[derive(Debug)]
enum Slot<'a, S> {
    Stored(&'a mut S),
    New(Option<S>),
}

impl<'a, S> State<'a, S> {
    fn new(slot: Slot<'a, S>, timing_out: bool) -> Self {
        State { slot, updated: false, removed: false, timing_out }
    }

    /// The state, if there is one.
    pub fn get(&self) -> Option<&S> {
        match &self.slot {
            _ if self.removed => None,
            Slot::Stored(state) => Some(state),
            Slot::New(state) => state.as_ref(),
        }
    }

    /// Whether there is one.
    pub fn exists(&self) -> bool {
        self.get().is_some()
    }

    /// Whether this is the last call for a key that has timed out; its state goes afterwards.
    pub fn is_timing_out(&self) -> bool {
        self.timing_out
    }

    /// Sets the state.
    ///
    /// # Panics
    /// If it was removed in this call or is timing out; the batch then fails.
    pub fn update(&mut self, state: S) {
        assert!(!self.removed, "the state cannot be updated after it has been removed");
        assert!(!self.timing_out, "the state cannot be updated while it is timing out");
        match &mut self.slot {
            Slot::Stored(stored) => **stored = state,
            Slot::New(new) => *new = Some(state),
        }
        self.updated = true;
    }

    /// Forgets the state.
    ///
    /// # Panics
    /// If it was removed in this call already or is timing out; the batch then fails.
    pub fn remove(&mut self) {
        assert!(!self.timing_out, "the state cannot be removed while it is timing out: it goes by itself");
        assert!(!self.removed, "the state has been removed already");
        self.removed = true;
    }
}

/// How states begin and end. Values with setters; the defaults are: no states, no timeout, by hash.
#[derive(Debug)]
pub struct StateSpec<K, S> {
    initial: Vec<(K, S)>,
    timeout: Option<Duration>,
    by: Option<Partitioner<K>>,
}

impl<K, S> Default for StateSpec<K, S> {
    fn default() -> Self {
        StateSpec { initial: Vec::new(), timeout: None, by: None }
    }
}

impl<K, S> StateSpec<K, S> {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The states before the first batch, in which they count as touched; of several for a key the last one.
    #[must_use]
    pub fn initial_state(mut self, states: impl IntoIterator<Item = (K, S)>) -> Self {
        self.initial = states.into_iter().collect();
        self
    }

    /// A key whose last record is older than this times out, in the first batch that finds it so.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// In which partition each key goes.
    #[must_use]
    pub fn partitioner(mut self, by: Partitioner<K>) -> Self {
        self.by = Some(by);
        self
    }
}

/// A key, its state, and the number of the batch that touched it last.
type Entry<K, S> = (K, S, u64);

struct Shard<K, S> {
    table: HashTable<Entry<K, S>>,
    /// With a timeout: the keys touched in each batch.
    touched: VecDeque<(u64, Vec<K>)>,
    /// What the entries that the batch has changed were before, oldest first.
    undo: Vec<(K, Option<(S, u64)>)>,
    /// Lists at the front of `touched` that the batch has dealt with.
    expired: usize,
}

fn hash<K: Key, S>(entry: &Entry<K, S>) -> u64 {
    probe(hash_of(&entry.0))
}

impl<K: Key, S: Data> Shard<K, S> {
    fn put(&mut self, key: K, state: S, k: u64) {
        self.table.insert_unique(probe(hash_of(&key)), (key, state, k), hash);
    }

    fn touch(&mut self, key: &K, k: u64) {
        match self.touched.back_mut() {
            Some((last, keys)) if *last == k => keys.push(key.clone()),
            _ => self.touched.push_back((k, vec![key.clone()])),
        }
    }

    /// Calls `f` for the key and does what it says to the state.
    fn call<M>(
        &mut self,
        key: &K,
        k: u64,
        timing_out: bool,
        has_timeout: bool,
        f: impl FnOnce(&mut State<'_, S>) -> M,
    ) -> M {
        let place = probe(hash_of(key));
        let Some(entry) = self.table.find_mut(place, |entry| entry.0 == *key) else {
            let mut state = State::new(Slot::New(None), timing_out);
            let mapped = f(&mut state);
            if let (Slot::New(Some(new)), false) = (state.slot, state.removed) {
                self.undo.push((key.clone(), None));
                self.put(key.clone(), new, k);
                if has_timeout {
                    self.touch(key, k);
                }
            }
            return mapped;
        };
        self.undo.push((key.clone(), Some((entry.1.clone(), entry.2))));
        let mut state = State::new(Slot::Stored(&mut entry.1), timing_out);
        let mapped = f(&mut state);
        let (removed, updated) = (state.removed || timing_out, state.updated);
        if removed {
            if let Ok(entry) = self.table.find_entry(place, |entry| entry.0 == *key) {
                entry.remove();
            }
        } else if updated || has_timeout {
            let before = std::mem::replace(&mut entry.2, k);
            if has_timeout && before != k {
                self.touch(key, k);
            }
        }
        mapped
    }

    fn commit(&mut self) {
        self.undo.clear();
        self.touched.drain(..self.expired);
        self.expired = 0;
    }

    /// Takes back what batch `k` did.
    fn roll_back(&mut self, k: u64) {
        while let Some((key, before)) = self.undo.pop() {
            let place = probe(hash_of(&key));
            match (before, self.table.find_entry(place, |entry| entry.0 == key)) {
                (Some((state, touched)), Ok(mut entry)) => *entry.get_mut() = (key, state, touched),
                (Some((state, touched)), Err(_)) => self.put(key, state, touched),
                (None, Ok(entry)) => {
                    entry.remove();
                }
                (None, Err(_)) => {}
            }
        }
        if self.touched.back().is_some_and(|(last, _)| *last == k) {
            self.touched.pop_back();
        }
        self.expired = 0;
    }
}

/// Says, in a checkpoint, that the initial states are in it.
const BEGUN: u32 = 1;

/// The states of a batch, by partition.
type Snapshot<K, S> = Vec<Vec<Entry<K, S>>>;

/// Copies of all states, for those who asked for them.
struct Snapshots<K, S> {
    wanted: AtomicBool,
    taken: Mutex<BTreeMap<u64, Snapshot<K, S>>>,
}

struct WithState<K, S, F> {
    exec: Arc<Exec>,
    keyed: Arc<Keyed<K>>,
    f: F,
    interval: u64,
    timeout: Option<u64>,
    initial: Vec<(K, S)>,
    shards: Vec<Shard<K, S>>,
    snapshots: Arc<Snapshots<K, S>>,
    pace: Pace,
    label: Label,
}

impl<K: Key, S: Data, F> WithState<K, S, F> {
    fn begin(&mut self, k: u64) {
        let mut last = HashMap::with_hasher(ahash::RandomState::with_seeds(1, 2, 3, 4));
        last.extend(std::mem::take(&mut self.initial));
        for (key, state) in last {
            let shard = &mut self.shards[self.keyed.by.of(&key, hash_of(&key))];
            if self.timeout.is_some() {
                shard.touch(&key, k);
            }
            shard.put(key, state, k);
        }
    }
}

impl<K, V, S, M, F> Apply<(K, V)> for WithState<K, S, F>
where
    K: Key,
    V: Data,
    S: Data,
    M: Data,
    F: Fn(Time, &K, Option<V>, &mut State<'_, S>) -> Option<M> + Send + Sync + 'static,
{
    type Row = M;
    type Kept = (K, S);

    /// The states by the batch of their last touch.
    fn sections(&self) -> Option<Vec<Section<(K, S)>>> {
        let mut sections = Vec::new();
        if self.initial.is_empty() {
            sections.push(Section::new(BEGUN, 0, Vec::new()));
        }
        let copied = self.exec.run(self.shards.iter().collect(), false, |_, shard| {
            let mut by_touch: HashMap<u64, Vec<(K, S)>> = HashMap::new();
            for (key, state, touched) in &shard.table {
                by_touch.entry(*touched).or_default().push((key.clone(), state.clone()));
            }
            Ok(by_touch)
        });
        let copied = copied.ok()?.into_iter().flatten();
        sections.extend(copied.map(|(touched, rows)| Section::new(0, touched, rows)));
        Some(sections)
    }

    fn restore(&mut self, mut sections: Vec<Section<(K, S)>>) -> Result<()> {
        // Keys time out in the order of their touches.
        sections.sort_by_key(|section| section.tag);
        for section in sections {
            if section.kind == BEGUN {
                self.initial.clear();
            }
            let touched = section.tag;
            for (key, state) in section.rows() {
                let shard = &mut self.shards[self.keyed.by.of(&key, hash_of(&key))];
                if self.timeout.is_some() {
                    shard.touch(&key, touched);
                }
                shard.put(key, state, touched);
            }
        }
        Ok(())
    }

    fn apply(&mut self, k: u64, batch: Option<Batch<(K, V)>>, _: bool) -> Result<Vec<Vec<M>>> {
        if !self.initial.is_empty() {
            self.begin(k);
        }
        let WithState { exec, keyed, f, interval, timeout, shards, snapshots, pace, label, .. } = self;
        let time = Time::from_micros(k * *interval);
        let rows = match batch {
            Some(batch) => keyed.scatter(batch)?,
            None => shards.iter().map(|_| Vec::new()).collect(),
        };
        // Batches before this one are older than the timeout.
        let old = timeout.map(|timeout| (k * *interval).saturating_sub(timeout).div_ceil(*interval));
        let overdue = |shard: &Shard<K, S>| {
            shard.touched.iter().take_while(|(touched, _)| old.is_some_and(|old| *touched < old)).count()
        };
        let work = rows.iter().map(Vec::len).sum::<usize>()
            + shards.iter().flat_map(|s| s.touched.iter().take(overdue(s))).map(|(_, keys)| keys.len()).sum::<usize>();
        let tasks: Vec<_> = shards.iter_mut().zip(rows).collect();
        let has_timeout = old.is_some();
        let done = exec.paced(tasks, work, pace, |_, (shard, rows)| {
            let mut mapped = Vec::new();
            let expired = overdue(shard);
            for (key, value) in rows {
                let call = |state: &mut State<'_, S>| blame(label, || f(time, &key, Some(value), state));
                mapped.extend(shard.call(&key, k, false, has_timeout, call));
            }
            for at in 0..expired {
                // A copy: a panic must find the list as it was.
                let (touched, keys) = shard.touched[at].clone();
                for key in &keys {
                    let place = probe(hash_of(key));
                    if shard.table.find(place, |e| e.0 == *key).is_some_and(|entry| entry.2 == touched) {
                        let call = |state: &mut State<'_, S>| blame(label, || f(time, key, None, state));
                        mapped.extend(shard.call(key, k, true, has_timeout, call));
                    }
                }
            }
            shard.expired = expired;
            Ok(mapped)
        });
        match done {
            Ok(mapped) => {
                shards.iter_mut().for_each(Shard::commit);
                if snapshots.wanted.load(Ordering::Relaxed) {
                    let all = shards.iter().map(|shard| shard.table.iter().cloned().collect()).collect();
                    lock(&snapshots.taken).insert(k, all);
                }
                Ok(mapped)
            }
            Err(error) => {
                shards.iter_mut().for_each(|shard| shard.roll_back(k));
                Err(error)
            }
        }
    }
}

/// What a stateful function returned, as a stream, and the states behind it.
pub struct MapWithState<K, S, M> {
    stream: DStream<M>,
    snapshots: Arc<Snapshots<K, S>>,
    partitions: usize,
    apply_until: Arc<dyn Fn(u64) + Send + Sync>,
    kept: Arc<dyn Coded<(K, S)>>,
}

impl<K, S, M> std::fmt::Debug for MapWithState<K, S, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MapWithState").field("stream", &self.stream.node.label).finish_non_exhaustive()
    }
}

impl<K, S, M> Deref for MapWithState<K, S, M> {
    type Target = DStream<M>;

    fn deref(&self) -> &DStream<M> {
        &self.stream
    }
}

impl<K: Key, S: Data, M: Data> MapWithState<K, S, M> {
    /// As [`DStream::checkpoint`]: how often the states are written.
    pub fn checkpoint(&self, interval: Duration)
    where
        K: Serialize + DeserializeOwned,
        S: Serialize + DeserializeOwned,
    {
        self.checkpoint_with(interval, Arc::new(Postcard));
    }

    /// As [`checkpoint`](Self::checkpoint), for keys and states with a codec of their own.
    pub fn checkpoint_with(&self, interval: Duration, codec: Arc<dyn Codec<(K, S)>>) {
        self.kept.code(codec);
        self.stream.checkpoint_every(interval);
    }

    /// All states after each batch. This costs a copy of all of them per batch.
    pub fn state_snapshots(&self) -> DStream<(K, S)> {
        self.state_snapshots_with_time().map(|(key, state, _)| (key, state))
    }

    /// As [`state_snapshots`](Self::state_snapshots), with the time of the batch that touched each key last.
    pub fn state_snapshots_with_time(&self) -> DStream<(K, S, Time)> {
        self.snapshots.wanted.store(true, Ordering::Relaxed);
        let core = &self.stream.core;
        let (snapshots, apply_until) = (self.snapshots.clone(), self.apply_until.clone());
        let (exec, partitions, parent) = (core.exec.clone(), self.partitions, self.stream.node.clone());
        let states = self.stream.derive(core.label("state_snapshots"), self.stream.node.slide, move |k| {
            if !parent.is_due(k) {
                return Ok(None);
            }
            let (snapshots, apply_until) = (snapshots.clone(), apply_until.clone());
            Ok(Some(Batch::staged(&exec, partitions, move || {
                apply_until(k);
                let gone = || Error::data("the states of the batch are not known: it failed, or was forgotten");
                lock(&snapshots.taken).remove(&k).ok_or_else(gone)
            })))
        });
        let interval = core.settings.interval;
        states.map(move |(key, state, k)| (key, state, Time::from_micros(k * interval)))
    }
}

impl<K: Key, V: Data> DStream<(K, V)> {
    /// What `f` returns for each record, given the time of the batch, the record's key and value and the key's state,
    /// which it can update or remove. Keys without records are not touched; with a [timeout](StateSpec::timeout), `f` is
    /// called once more, without a value, for each key that has timed out, after the records of the batch.
    ///
    /// ```
    /// use std::time::Duration;
    /// use windrow::stream::{ManualClock, State, StateSpec, StreamingContext, Time};
    /// let clock = ManualClock::new();
    /// let ctx = StreamingContext::builder().manual_clock(&clock).build()?;
    /// let visits = ctx.queue_stream(vec![vec![("ann", 3), ("bob", 1)], vec![("ann", 4)]]);
    /// let totals = visits.map_with_state(
    ///     |_, who, pages, state: &mut State<'_, u32>| {
    ///         let total = state.get().unwrap_or(&0) + pages.unwrap_or(0);
    ///         state.update(total);
    ///         Some((*who, total))
    ///     },
    ///     StateSpec::new(),
    /// );
    /// totals.print(10); // 1000 ms: ("ann", 3), ("bob", 1); 2000 ms: ("ann", 7)
    /// ctx.start()?;
    /// ctx.run_until(Time::from_millis(2000))?;
    /// # Ok::<(), windrow::Error>(())
    /// ```
    pub fn map_with_state<S: Data, M: Data>(
        &self,
        f: impl Fn(Time, &K, Option<V>, &mut State<'_, S>) -> Option<M> + Send + Sync + 'static,
        spec: StateSpec<K, S>,
    ) -> MapWithState<K, S, M> {
        let core = &self.core;
        let label = core.label("map_with_state");
        let by = spec.by.unwrap_or_else(|| Partitioner::hash(core.exec.partitions));
        let partitions = by.partitions();
        let empty = |_| Shard { table: HashTable::new(), touched: VecDeque::new(), undo: Vec::new(), expired: 0 };
        let snapshots = Arc::new(Snapshots { wanted: AtomicBool::new(false), taken: Mutex::default() });
        let state = WithState {
            exec: core.exec.clone(),
            keyed: Keyed::new(&label, by),
            f,
            interval: core.settings.interval,
            timeout: spec.timeout.map(micros),
            initial: spec.initial,
            shards: (0..partitions).map(empty).collect(),
            snapshots: snapshots.clone(),
            pace: Pace::default(),
            label: label.clone(),
        };
        let ordered = Arc::new(Ordered::new(state));
        let (shape, settled) = (String::new(), snapshots.clone());
        let (stream, kept) = self.stateful(label, self.node.slide, partitions, ordered.clone(), shape, move |k| {
            // Those of earlier batches may still be wanted where several run at once.
            lock(&settled.taken).remove(&k);
        });
        let apply_until = Arc::new(move |k| ordered.apply_until(k));
        MapWithState { stream, snapshots, partitions, apply_until, kept }
    }
}
