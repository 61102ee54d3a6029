//! Operators over windows of batches.
//!
//! A window and its slide are multiples of the interval of the stream they are over. The window at time `t` covers the
//! batches in `(t − window, t]`; at the start there are fewer, and when nothing comes in any more windows go on.

use super::batch::Batch;
use super::exec::Label;
use super::graph::{AnyNode, Job, Node};
use super::keyed::{Fold, Keyed, Partitioner};
use super::ordered::{Apply, Ordered};
use super::part::Dataset;
use super::reduced::{KeepAll, Reduced};
use super::saved::{Coded, KeptBatches, KeptState, Unkeyed};
use super::scheduler::lock;
use super::{DStream, Data, Key};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

/// An inverse where there is none.
type NoInverse<V> = fn(&V, &V) -> V;

impl<T: Data> DStream<T> {
    /// Checks window and slide; gives both in intervals.
    fn window_of(&self, window: Duration, slide: Duration) -> (u64, u64) {
        (self.intervals(window, "a window"), self.intervals(slide, "a slide"))
    }

    /// The records of the last `window`, every `slide`. Batches are kept in memory as long as some window needs them.
    pub fn window(&self, window: Duration, slide: Duration) -> DStream<T> {
        let (window, slide) = self.window_of(window, slide);
        if window > slide {
            self.node.persist();
        }
        // A batch is there until the last window that holds it has been.
        self.node.read();
        let (parent, exec, every) = (self.node.clone(), self.core.exec.clone(), self.node.slide);
        let ticked = parent.clone();
        let kept = self.node.clone();
        let node = Node::new(self.core.label("window"), slide, vec![parent.clone()], move |k| {
            let first = (k + 1).saturating_sub(window);
            let mut batches = Vec::new();
            for j in (first..=k).rev().step_by(every as usize) {
                batches.extend(parent.get(j)?);
            }
            batches.reverse();
            Ok(Some(Batch::union_all(&exec, batches)))
        });
        // Those of intervals between two windows have to be taken when they are due.
        let node = node.reach(window).on_tick(move |k| ticked.get(k).map(|_| ()));
        self.node.remember(window);
        let kept = Arc::new(KeptBatches {
            identity: node.identity.clone(),
            shape: format!("a window of {window} batches"),
            parent: kept,
            window,
            exec: self.core.exec.clone(),
            codec: OnceLock::new(),
        });
        node.codes(kept.clone());
        self.adopt(node.saved(kept))
    }

    /// How many records the last `window` held, every `slide`: one record, 0 if there were none.
    pub fn count_by_window(&self, window: Duration, slide: Duration) -> DStream<u64> {
        self.count().reduce_by_window(|a, b| a + b, |a, b| a - b, window, slide)
    }

    /// Each different record of the last `window` with the number of times it occurs, every `slide`.
    pub fn count_by_value_and_window(&self, window: Duration, slide: Duration) -> DStream<(T, u64)>
    where
        T: Key,
    {
        let ones = self.map(|record| (record, 1));
        ones.reduce_by_key_and_window_filtered(|a, b| a + b, |a, b| a - b, window, slide, |(_, n)| *n != 0)
    }

    /// The reduction of the records of the last `window`, every `slide`, where `inverse(reduce(a, b), a)` is `b`.
    /// Nothing before the first record; what the inverse leaves when all have left.
    pub fn reduce_by_window(
        &self,
        reduce: impl Fn(&T, &T) -> T + Send + Sync + 'static,
        inverse: impl Fn(&T, &T) -> T + Send + Sync + 'static,
        window: Duration,
        slide: Duration,
    ) -> DStream<T> {
        let whole = self.map(|record| ((), record));
        let by = Partitioner::hash(1);
        let name = "reduce_by_window";
        unkeyed(&whole.reduced(name, by, reduce, Some(inverse), None::<KeepAll<(), T>>, window, slide))
    }

    /// As [`reduce_by_window`](Self::reduce_by_window), for what has no inverse. Nothing where the window is empty.
    pub fn reduce_by_window_without_inverse(
        &self,
        reduce: impl Fn(&T, &T) -> T + Send + Sync + 'static,
        window: Duration,
        slide: Duration,
    ) -> DStream<T> {
        let whole = self.map(|record| ((), record));
        let (by, name) = (Partitioner::hash(1), "reduce_by_window_without_inverse");
        let (inverse, keep) = (None::<NoInverse<T>>, None::<KeepAll<(), T>>);
        unkeyed(&whole.reduced(name, by, reduce, inverse, keep, window, slide))
    }

    /// A stream of what `state` says every `slide`, having taken in every batch. `settled` is called when a batch and
    /// all before it will not be asked for any more, `shape` says what has to stay the same for a saved state to fit.
    pub(crate) fn stateful<S>(
        &self,
        label: Label,
        slide: u64,
        partitions: usize,
        state: Arc<Ordered<T, S>>,
        shape: String,
        settled: impl Fn(u64) + Send + Sync + 'static,
    ) -> (DStream<S::Row>, Arc<dyn Coded<S::Kept>>)
    where
        S: Apply<T> + 'static,
        S::Row: Data,
    {
        let settled = Arc::new(settled);
        let (parent, noting, settling, kept) = (self.node.clone(), state.clone(), state.clone(), state.clone());
        let (exec, due) = (self.core.exec.clone(), self.node.clone());
        // Results can be had until their batch is settled: those that somebody wants later are evaluated then.
        let made: Arc<Mutex<VecDeque<Made<S::Row>>>> = Arc::default();
        let wanted = made.clone();
        let node = Node::new(label, slide, vec![parent.clone()], move |k| {
            let state = state.clone();
            let batch = Batch::staged(&exec, partitions, move || state.result(k));
            lock(&made).push_back((k, Arc::downgrade(&batch.set)));
            Ok(Some(batch))
        });
        let node = node.on_tick(move |k| {
            if parent.is_due(k) {
                // Slides count from the same zero.
                let emit = parent.ends_slide(k, slide);
                noting.note(k, parent.get(k)?, emit);
            }
            Ok(())
        });
        let node = node.on_settle(move |k| -> Option<Job> {
            let (settling, settled, wanted) = (settling.clone(), settled.clone(), wanted.clone());
            let settle = move || {
                let next = || {
                    let mut made = lock(&wanted);
                    if made.front().is_some_and(|(made, _)| *made <= k) { made.pop_front() } else { None }
                };
                let mut outcome = Ok(());
                while let Some((_, set)) = next() {
                    let staged = set.upgrade().map_or(Ok(()), |set| set.stage().map(drop));
                    outcome = outcome.and(staged);
                }
                let outcome = outcome.and(settling.settle(k));
                settled(k);
                outcome
            };
            due.is_due(k).then(|| Box::new(settle) as Job)
        });
        let identity = node.identity.clone();
        let kept = Arc::new(KeptState { identity, shape, state: kept, codec: OnceLock::new() });
        (self.adopt(node.saved(kept.clone())), kept)
    }
}

/// A batch that somebody may still hold.
type Made<T> = (u64, Weak<dyn Dataset<T>>);

/// The values of rows under no key, which are written as they are.
fn unkeyed<T: Data>(rows: &DStream<((), T)>) -> DStream<T> {
    let values = rows.map(|row| row.1);
    if let Some(state) = rows.node.coded() {
        values.node.codes(Arc::new(Unkeyed(state.clone())));
    }
    values
}

impl<K: Key, V: Data> DStream<(K, V)> {
    #[allow(clippy::too_many_arguments)]
    fn reduced(
        &self,
        name: &str,
        by: Partitioner<K>,
        reduce: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        inverse: Option<impl Fn(&V, &V) -> V + Send + Sync + 'static>,
        keep: Option<impl Fn(&(K, V)) -> bool + Send + Sync + 'static>,
        window: Duration,
        slide: Duration,
    ) -> DStream<(K, V)> {
        let (window, slide) = self.window_of(window, slide);
        let label = self.core.label(name);
        let keyed = Keyed::new(&label, by);
        let partitions = keyed.by.partitions();
        let shape = format!("windows of {window} batches every {slide}");
        let state = Reduced::new(&self.core.exec, keyed, reduce, inverse, keep, window);
        let (rows, kept) = self.stateful(label, slide, partitions, Arc::new(Ordered::new(state)), shape, |_| ());
        rows.node.codes(kept);
        rows
    }

    fn default_partitioner(&self) -> Partitioner<K> {
        Partitioner::hash(self.core.exec.partitions)
    }

    /// Each key's values of the last `window` reduced, every `slide`, where `inverse(reduce(a, b), a)` is `b`.
    ///
    /// A key stays, with what the inverse leaves of it, after its records have left the window: filter the rows, or use
    /// [`reduce_by_key_and_window_filtered`](Self::reduce_by_key_and_window_filtered), which also forgets the key.
    pub fn reduce_by_key_and_window(
        &self,
        reduce: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        inverse: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        window: Duration,
        slide: Duration,
    ) -> DStream<(K, V)> {
        let (by, keep) = (self.default_partitioner(), None::<KeepAll<K, V>>);
        self.reduced("reduce_by_key_and_window", by, reduce, Some(inverse), keep, window, slide)
    }

    /// As [`reduce_by_key_and_window`](Self::reduce_by_key_and_window); keys of whose row `keep` is false are forgotten.
    pub fn reduce_by_key_and_window_filtered(
        &self,
        reduce: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        inverse: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        window: Duration,
        slide: Duration,
        keep: impl Fn(&(K, V)) -> bool + Send + Sync + 'static,
    ) -> DStream<(K, V)> {
        let by = self.default_partitioner();
        self.reduced("reduce_by_key_and_window_filtered", by, reduce, Some(inverse), Some(keep), window, slide)
    }

    /// Each key's values of the last `window` reduced by an associative function, in order, every `slide`.
    pub fn reduce_by_key_and_window_without_inverse(
        &self,
        reduce: impl Fn(&V, &V) -> V + Send + Sync + 'static,
        window: Duration,
        slide: Duration,
    ) -> DStream<(K, V)> {
        let (by, name) = (self.default_partitioner(), "reduce_by_key_and_window_without_inverse");
        self.reduced(name, by, reduce, None::<NoInverse<V>>, None::<KeepAll<K, V>>, window, slide)
    }

    /// Each key of the last `window` with all its values, in order, every `slide`.
    pub fn group_by_key_and_window(&self, window: Duration, slide: Duration) -> DStream<(K, Vec<V>)> {
        // Each batch is grouped once; a window appends the groups.
        let grouped = self.group_by_key().window(window, slide);
        let groups = grouped.each("group_by_key_and_window", |label, exec| {
            let keyed = Keyed::new(label, Partitioner::hash(exec.partitions));
            let append = |all: &mut Vec<V>, more: Vec<V>| all.extend(more);
            let how = Arc::new(Fold { create: |values| values, fold: append, merge: append });
            Box::new(move |batch| batch.combined(keyed.clone(), how.clone()))
        });
        if let Some(batches) = grouped.node.coded() {
            groups.node.codes(batches.clone());
        }
        groups
    }
}
