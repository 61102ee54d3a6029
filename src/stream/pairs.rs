//! Operators on streams of pairs: reductions, groups, joins.

use super::batch::{combining, flat_map_values_pipe, grouping, map_pipe, reducing};
use super::join::{Either, Sides, full, inner, left, right};
use super::keyed::{Keyed, Partitioner};
use super::{DStream, Data, Key};
use std::sync::Arc;

impl<K: Key, V: Data> DStream<(K, V)> {
    /// Each key of a batch once, its values reduced by an associative `f`, in order.
    pub fn reduce_by_key(&self, f: impl Fn(&V, &V) -> V + Send + Sync + 'static) -> DStream<(K, V)> {
        self.each("reduce_by_key", |label, exec| {
            let keyed = Keyed::new(label, Partitioner::hash(exec.partitions));
            let how = reducing(label.clone(), Arc::new(f));
            Box::new(move |batch| batch.combined(keyed.clone(), how.clone()))
        })
    }

    /// Each key of a batch once, with all its values, in order.
    pub fn group_by_key(&self) -> DStream<(K, Vec<V>)> {
        self.each("group_by_key", |label, exec| {
            let keyed = Keyed::new(label, Partitioner::hash(exec.partitions));
            let how = grouping();
            Box::new(move |batch| batch.combined(keyed.clone(), how.clone()))
        })
    }

    /// Each key of a batch once: its first value made a `C`, the others folded in, partial results merged in order;
    /// `by` says in which partition a key goes.
    pub fn combine_by_key<C: Data>(
        &self,
        create: impl Fn(V) -> C + Send + Sync + 'static,
        fold: impl Fn(&mut C, V) + Send + Sync + 'static,
        merge: impl Fn(&mut C, C) + Send + Sync + 'static,
        by: Partitioner<K>,
    ) -> DStream<(K, C)> {
        self.each("combine_by_key", |label, _| {
            let keyed = Keyed::new(label, by);
            let how = combining(label.clone(), create, fold, merge);
            Box::new(move |batch| batch.combined(keyed.clone(), how.clone()))
        })
    }

    /// `f` of each value, under the same key.
    pub fn map_values<W: Data>(&self, f: impl Fn(V) -> W + Send + Sync + 'static) -> DStream<(K, W)> {
        self.each("map_values", |label, _| {
            let pipe = map_pipe(label.clone(), move |(key, value)| (key, f(value)));
            Box::new(move |batch| batch.piped(&pipe))
        })
    }

    /// Each of what `f` gives for each value, under the same key.
    pub fn flat_map_values<W: Data, I: IntoIterator<Item = W>>(
        &self,
        f: impl Fn(V) -> I + Send + Sync + 'static,
    ) -> DStream<(K, W)> {
        self.each("flat_map_values", |label, _| {
            let pipe = flat_map_values_pipe(label.clone(), f);
            Box::new(move |batch| batch.piped(&pipe))
        })
    }

    fn grouped_with<W: Data>(&self, name: &str, other: &DStream<(K, W)>) -> DStream<(K, Sides<V, W>)> {
        let keyed = self.by_hash(&self.core.label(name));
        self.with(name, other, move |left, right, _| left.cogrouped(right, keyed.clone()))
    }

    /// Each key of either stream's batch once, with its values in both.
    pub fn cogroup<W: Data>(&self, other: &DStream<(K, W)>) -> DStream<(K, Sides<V, W>)> {
        self.grouped_with("cogroup", other)
    }

    /// For each key in both batches every pair of its values.
    pub fn join<W: Data>(&self, other: &DStream<(K, W)>) -> DStream<(K, (V, W))> {
        self.grouped_with("join", other).flat_map(|(key, sides)| inner(key, sides))
    }

    /// As [`join`](Self::join), and the values of keys that only this stream has, with `None`.
    pub fn left_outer_join<W: Data>(&self, other: &DStream<(K, W)>) -> DStream<(K, (V, Option<W>))> {
        self.grouped_with("left_outer_join", other).flat_map(|(key, sides)| left(key, sides))
    }

    /// As [`join`](Self::join), and the values of keys that only the other stream has, with `None`.
    pub fn right_outer_join<W: Data>(&self, other: &DStream<(K, W)>) -> DStream<(K, (Option<V>, W))> {
        self.grouped_with("right_outer_join", other).flat_map(|(key, sides)| right(key, sides))
    }

    /// As [`join`](Self::join), and the values of keys that only one stream has, with `None` for the other.
    pub fn full_outer_join<W: Data>(&self, other: &DStream<(K, W)>) -> DStream<(K, Either<V, W>)> {
        self.grouped_with("full_outer_join", other).flat_map(|(key, sides)| full(key, sides))
    }
}
