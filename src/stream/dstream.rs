//! A stream of batches, and the operators that need no keys.
//!
//! A [`DStream`] is a handle to a node of the graph; operators add nodes and return at once. Nothing runs before the
//! context is started. What an operator does to each batch is what the method of the same name does to a [`Batch`].

use super::batch::{absent, filter_pipe, flat_map_pipe, map_partitions_pipe, map_pipe};
use super::clock::{Time, micros};
use super::codec::{Codec, Postcard};
use super::exec::{Exec, Label, Pace, blame};
use super::graph::{AnyNode, Job, Node, Output};
use super::keyed::{Keyed, Partitioner};
use super::part::{BoxPart, Sink};
use super::persist::StorageLevel;
use super::scheduler::{Core, lock};
use super::{Batch, Data, Key};
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// See the module. Clones are the same stream.
pub struct DStream<T> {
    pub(crate) node: Arc<Node<T>>,
    pub(crate) core: Arc<Core>,
}

impl<T> Clone for DStream<T> {
    fn clone(&self) -> Self {
        DStream { node: self.node.clone(), core: self.core.clone() }
    }
}

impl<T> std::fmt::Debug for DStream<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DStream").field("operator", &self.node.label).finish_non_exhaustive()
    }
}

impl<T: Data> DStream<T> {
    /// A node that makes each batch from one of this stream.
    pub(crate) fn each<U: Data>(
        &self,
        name: &str,
        f: impl FnOnce(&Label, &Arc<Exec>) -> Box<dyn Fn(Batch<T>) -> Batch<U> + Send + Sync>,
    ) -> DStream<U> {
        let label = self.core.label(name);
        let f = f(&label, &self.core.exec);
        let parent = self.node.clone();
        self.derive(label, self.node.slide, move |k| Ok(parent.get(k)?.map(&f)))
    }

    /// A node whose only parent is this stream.
    pub(crate) fn derive<U: Data>(
        &self,
        label: Label,
        slide: u64,
        compute: impl Fn(u64) -> Result<Option<Batch<U>>> + Send + Sync + 'static,
    ) -> DStream<U> {
        self.adopt(Node::new(label, slide, vec![self.node.clone()], compute))
    }

    /// A stream of `node`, which reads this one.
    pub(crate) fn adopt<U: Data>(&self, node: Node<U>) -> DStream<U> {
        self.core.still_open(&node.label);
        self.node.read();
        DStream { node: Arc::new(node), core: self.core.clone() }
    }

    pub(crate) fn pipe<U: Data, R>(&self, name: &str, pipe: impl FnOnce(Label) -> Arc<R>) -> DStream<U>
    where
        R: Fn(usize, BoxPart<T>, Sink<'_, U>) -> Result<bool> + Send + Sync + 'static,
    {
        self.each(name, |label, _| {
            let pipe = pipe(label.clone());
            Box::new(move |batch| batch.piped(&pipe))
        })
    }

    /// Intervals in `duration`, which must be a multiple of this stream's slide.
    pub(crate) fn intervals(&self, duration: Duration, what: &str) -> u64 {
        let each = self.node.slide * self.core.settings.interval;
        let all = micros(duration);
        if all == 0 || !all.is_multiple_of(each) {
            self.core.misuse(format!(
                "{what} of {} ms is not a multiple of {} ms, the interval of the stream it is over ({})",
                all as f64 / 1000.0,
                each as f64 / 1000.0,
                self.node.label,
            ));
            return self.node.slide;
        }
        all / self.core.settings.interval
    }

    /// The time between two batches of this stream.
    pub fn slide_duration(&self) -> Duration {
        Duration::from_micros(self.node.slide * self.core.settings.interval)
    }

    /// `f` of each record.
    pub fn map<U: Data>(&self, f: impl Fn(T) -> U + Send + Sync + 'static) -> DStream<U> {
        self.pipe("map", |label| map_pipe(label, f))
    }

    /// Each of what `f` gives for each record.
    pub fn flat_map<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(T) -> I + Send + Sync + 'static,
    ) -> DStream<U> {
        self.pipe("flat_map", |label| flat_map_pipe(label, f))
    }

    /// The records of which `f` is true.
    pub fn filter(&self, f: impl Fn(&T) -> bool + Send + Sync + 'static) -> DStream<T> {
        self.pipe("filter", |label| filter_pipe(label, f))
    }

    /// What `f` makes of the records of each partition.
    pub fn map_partitions<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(std::vec::IntoIter<T>) -> I + Send + Sync + 'static,
    ) -> DStream<U> {
        self.pipe("map_partitions", |label| map_partitions_pipe(label, f))
    }

    /// The records of each partition as one vector.
    pub fn glom(&self) -> DStream<Vec<T>> {
        self.pipe("glom", |label| map_partitions_pipe(label, |records| [records.collect()]))
    }

    /// The same records dealt out evenly to `partitions` partitions.
    pub fn repartition(&self, partitions: usize) -> DStream<T> {
        self.each("repartition", |_, _| Box::new(move |batch| batch.repartition(partitions)))
    }

    /// The records of both streams, whose intervals must be the same.
    pub fn union(&self, other: &DStream<T>) -> DStream<T> {
        union([self.clone(), other.clone()])
    }

    /// One record per batch: how many there were; 0 if there were none.
    pub fn count(&self) -> DStream<u64> {
        let label = self.core.label("count");
        let (parent, exec, pace) = (self.node.clone(), self.core.exec.clone(), Arc::<Pace>::default());
        self.derive(label, self.node.slide, move |k| {
            if !parent.is_due(k) {
                return Ok(None);
            }
            let batch = parent.get(k)?.unwrap_or_else(|| Batch::empty(&exec));
            Ok(Some(batch.counted(pace.clone())))
        })
    }

    /// One record per batch: the reduction of all by an associative `f`, in order. None if there were none.
    pub fn reduce(&self, f: impl Fn(&T, &T) -> T + Send + Sync + 'static) -> DStream<T> {
        self.each("reduce", |label, _| {
            let (label, pace, f) = (label.clone(), Arc::<Pace>::default(), Arc::new(f));
            Box::new(move |batch| batch.reduced(label.clone(), pace.clone(), f.clone()))
        })
    }

    /// Each different record of a batch with the number of times it occurs.
    pub fn count_by_value(&self) -> DStream<(T, u64)>
    where
        T: Key,
    {
        self.map(|record| (record, 1)).reduce_by_key(|a, b| a + b)
    }

    /// What `f` makes of each batch. `f` runs while the batch is planned: what it does there holds up the next one.
    ///
    /// A batch for which the source gave no dataset at all fails.
    pub fn transform<U: Data>(&self, f: impl Fn(Batch<T>, Time) -> Batch<U> + Send + Sync + 'static) -> DStream<U> {
        let label = self.core.label("transform");
        let (parent, interval, name) = (self.node.clone(), self.core.settings.interval, label.clone());
        self.derive(label, self.node.slide, move |k| {
            if !parent.is_due(k) {
                return Ok(None);
            }
            let batch = parent.get(k)?.ok_or_else(|| absent(&name))?;
            Ok(Some(blame(&name, || f(batch, Time::from_micros(k * interval)))))
        })
    }

    /// What `f` makes of a batch of this stream and one of another; see [`transform`](Self::transform).
    pub fn transform_with<U: Data, V: Data>(
        &self,
        other: &DStream<U>,
        f: impl Fn(Batch<T>, Batch<U>, Time) -> Batch<V> + Send + Sync + 'static,
    ) -> DStream<V> {
        self.with("transform_with", other, f)
    }

    pub(crate) fn with<U: Data, V: Data>(
        &self,
        name: &str,
        other: &DStream<U>,
        f: impl Fn(Batch<T>, Batch<U>, Time) -> Batch<V> + Send + Sync + 'static,
    ) -> DStream<V> {
        let label = self.core.label(name);
        if !Arc::ptr_eq(&self.core, &other.core) {
            self.core.misuse(format!("{label} has parents of different contexts"));
        }
        if self.node.slide != other.node.slide {
            self.core.misuse(format!("{label} has parents with different intervals: give both the same slide"));
        }
        other.node.read();
        let (left, right) = (self.node.clone(), other.node.clone());
        let (interval, name) = (self.core.settings.interval, label.clone());
        let parents: Vec<Arc<dyn AnyNode>> = vec![left.clone(), right.clone()];
        self.adopt(Node::new(label, self.node.slide, parents, move |k| {
            if !left.is_due(k) {
                return Ok(None);
            }
            let (left, right) = (left.get(k)?, right.get(k)?);
            let (left, right) = (left.ok_or_else(|| absent(&name))?, right.ok_or_else(|| absent(&name))?);
            Ok(Some(blame(&name, || f(left, right, Time::from_micros(k * interval)))))
        }))
    }

    /// The batches with times from `from` to `to`, both included, as far as they can still be had.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] before the context is started.
    pub fn slice(&self, from: Time, to: Time) -> Result<Vec<Batch<T>>> {
        if !self.node.has_begun() {
            return Err(Error::usage(format!(
                "{} has no batches yet: a stream can be sliced once its context is started",
                self.node.label
            )));
        }
        // Who comes again must find them.
        let _generation = lock(&self.core.graph);
        let interval = self.core.settings.interval;
        let mut batches = Vec::new();
        for k in from.micros().div_ceil(interval)..=to.micros() / interval {
            batches.extend(self.node.get(k)?);
        }
        Ok(batches)
    }

    /// Keeps each batch from its first evaluation on, for all that read it, as `level` says.
    pub fn persist(&self, level: StorageLevel) -> DStream<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.persist_with(level, Arc::new(Postcard))
    }

    /// As [`persist`](Self::persist), for records with a codec of their own.
    pub fn persist_with(&self, level: StorageLevel, codec: Arc<dyn Codec<T>>) -> DStream<T> {
        if self.core.still_open("persist") {
            self.node.persist_as(move |batch| batch.persisted(level, Some(codec.clone())));
        }
        self.clone()
    }

    /// Keeps each batch in memory from its first evaluation on, for all that read it.
    pub fn cache(&self) -> DStream<T> {
        if self.core.still_open("cache") {
            self.node.persist();
        }
        self.clone()
    }

    /// Takes [`persist`](Self::persist) or [`cache`](Self::cache) back.
    pub fn unpersist(&self) -> DStream<T> {
        if self.core.still_open("unpersist") {
            self.node.unpersist();
        }
        self.clone()
    }

    /// The same records; those that keyed operations and [`repartition`](Self::repartition) directly on this stream bring
    /// together may go to disk when the [memory limit](super::Builder::memory_limit) is reached.
    pub fn spillable(&self) -> DStream<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spillable_with(Arc::new(Postcard))
    }

    /// As [`spillable`](Self::spillable), for records with a codec of their own.
    pub fn spillable_with(&self, codec: Arc<dyn Codec<T>>) -> DStream<T> {
        self.each("spillable", |_, _| Box::new(move |batch| batch.spillable_with(codec.clone())))
    }

    /// Keeps batches for at least `duration`, to be [sliced](Self::slice).
    pub fn remember(&self, duration: Duration) {
        let batches = micros(duration).div_ceil(self.core.settings.interval);
        if self.core.still_open("remember") {
            self.node.remember(batches);
        }
    }

    /// How often the state behind this stream, a [keyed one](Self::update_state_by_key) or that of a window, is
    /// written to the [folder of checkpoints](super::StreamingContext::checkpoint): a multiple of the stream's interval.
    /// All states are written together, so that they are those of one batch; the shortest interval counts.
    ///
    /// A stream that keeps nothing has nothing written and only says how often. Batches are kept for twice as long.
    pub fn checkpoint(&self, interval: Duration)
    where
        T: Serialize + DeserializeOwned,
    {
        self.checkpoint_with(interval, Arc::new(Postcard));
    }

    /// As [`checkpoint`](Self::checkpoint), for records with a codec of their own.
    pub fn checkpoint_with(&self, interval: Duration, codec: Arc<dyn Codec<T>>) {
        if let Some(state) = self.node.coded() {
            state.code(codec);
        }
        self.checkpoint_every(interval);
    }

    pub(crate) fn checkpoint_every(&self, interval: Duration) {
        if self.core.still_open("checkpoint") {
            let batches = self.intervals(interval, "a checkpoint interval");
            self.core.checkpoint_every.fetch_min(batches, Ordering::Relaxed);
            self.node.remember(batches * 2);
        }
    }

    /// The same stream under a name, by which its state or its position in an input is found again after the program
    /// has changed: without one it is found by its operator's place in the graph.
    pub fn named(&self, name: impl Into<String>) -> DStream<T> {
        if self.core.still_open("named") {
            let identity = self.node.coded().map_or(&self.node.identity, |state| state.identity());
            identity.name(name.into());
        }
        self.clone()
    }

    /// How long batches are kept after they were made.
    pub fn remember_duration(&self) -> Duration {
        Duration::from_micros(self.node.remembers() * self.core.settings.interval)
    }

    /// Whether the batch of `time` is still kept.
    pub fn is_remembered(&self, time: Time) -> bool {
        self.node.holds(time.micros() / self.core.settings.interval)
    }

    /// Registers an output: `job` is made for each batch and runs it.
    pub(crate) fn output(
        &self,
        name: &str,
        job: impl Fn(Batch<T>, Time, &Label) -> Result<()> + Send + Sync + 'static,
    ) {
        let label = self.core.label(name);
        if !self.core.still_open(&label) {
            return;
        }
        self.node.read();
        let (node, interval, job) = (self.node.clone(), self.core.settings.interval, Arc::new(job));
        let make = move |k: u64| -> Result<Option<Job>> {
            let Some(batch) = node.get(k)? else { return Ok(None) };
            let (job, label, time) = (job.clone(), label.clone(), Time::from_micros(k * interval));
            Ok(Some(Box::new(move || job(batch, time, &label))))
        };
        lock(&self.core.graph).outputs.push(Output { node: self.node.clone(), job: Box::new(make) });
    }

    pub(crate) fn by_hash<K: Key>(&self, label: &Label) -> Arc<Keyed<K>> {
        Keyed::new(label, Partitioner::hash(self.core.exec.partitions))
    }
}

/// The records of all `streams`, whose intervals must be the same.
///
/// # Panics
/// If there are none.
pub(crate) fn union<T: Data>(streams: impl IntoIterator<Item = DStream<T>>) -> DStream<T> {
    let streams: Vec<_> = streams.into_iter().collect();
    let first = &streams[0];
    let label = first.core.label("union");
    if streams.iter().any(|stream| !Arc::ptr_eq(&stream.core, &first.core)) {
        first.core.misuse(format!("{label} has parents of different contexts"));
    }
    if streams.iter().any(|stream| stream.node.slide != first.node.slide) {
        first.core.misuse(format!("{label} has parents with different intervals: give all the same slide"));
    }
    // The first one is read by `adopt`.
    streams[1..].iter().for_each(|stream| stream.node.read());
    let nodes: Vec<_> = streams.iter().map(|stream| stream.node.clone()).collect();
    let parents = nodes.iter().map(|node| node.clone() as Arc<dyn AnyNode>).collect();
    let (name, exec) = (label.clone(), first.core.exec.clone());
    first.adopt(Node::new(label, first.node.slide, parents, move |k| {
        if !nodes[0].is_due(k) {
            return Ok(None);
        }
        let batches: Result<Vec<_>> = nodes.iter().map(|node| node.get(k)?.ok_or_else(|| absent(&name))).collect();
        Ok(Some(Batch::union_all(&exec, batches?)))
    }))
}
