//! Bringing two keyed batches together: cogroup, and the joins that follow from it.
//!
//! Both sides are tagged, united and combined by key in one pass, so that a join costs what a grouping of all records
//! costs. A key's rows are all pairs of its values, in the order of the left side, then of the right one.

use super::batch::Batch;
use super::codec::Sided;
use super::keyed::{Fold, Keyed, Partitioner};
use super::{Data, Key};
use std::sync::Arc;

/// A value of either side.
#[derive(Clone)]
pub(crate) enum Side<V, W> {
    Left(V),
    Right(W),
}

/// The values of a key on either side.
pub type Sides<V, W> = (Vec<V>, Vec<W>);

/// A value of each side, where there is one.
pub type Either<V, W> = (Option<V>, Option<W>);

impl<K: Key, V: Data> Batch<(K, V)> {
    pub(crate) fn cogrouped<W: Data>(self, other: Batch<(K, W)>, keyed: Arc<Keyed<K>>) -> Batch<(K, Sides<V, W>)> {
        let coder = match (self.coder.clone(), other.coder.clone()) {
            (Some(left), Some(right)) => Some(Arc::new(Sided(left, right)) as _),
            _ => None,
        };
        let left = self.map(|(key, value)| (key, Side::Left(value)));
        let right = other.map(|(key, value)| (key, Side::Right(value)));
        let put = |sides: &mut Sides<V, W>, value| match value {
            Side::Left(value) => sides.0.push(value),
            Side::Right(value) => sides.1.push(value),
        };
        let how = Fold {
            create: move |value| {
                let mut sides = (Vec::new(), Vec::new());
                put(&mut sides, value);
                sides
            },
            fold: put,
            merge: |sides: &mut Sides<V, W>, more: Sides<V, W>| {
                sides.0.extend(more.0);
                sides.1.extend(more.1);
            },
        };
        left.union(right).coded(coder).combined(keyed, Arc::new(how))
    }

    fn joining(&self, name: &str) -> Arc<Keyed<K>> {
        Keyed::new(&name.into(), Partitioner::hash(self.exec.partitions))
    }

    /// Each key of either side once, with its values on both.
    pub fn cogroup<W: Data>(self, other: Batch<(K, W)>) -> Batch<(K, Sides<V, W>)> {
        let keyed = self.joining("cogroup");
        self.cogrouped(other, keyed)
    }

    /// For each key on both sides every pair of its values.
    pub fn join<W: Data>(self, other: Batch<(K, W)>) -> Batch<(K, (V, W))> {
        self.cogroup(other).flat_map(|(key, sides)| inner(key, sides))
    }

    /// As [`join`](Self::join), and the values of keys that only the left side has, with `None`.
    pub fn left_outer_join<W: Data>(self, other: Batch<(K, W)>) -> Batch<(K, (V, Option<W>))> {
        self.cogroup(other).flat_map(|(key, sides)| left(key, sides))
    }

    /// As [`join`](Self::join), and the values of keys that only the right side has, with `None`.
    pub fn right_outer_join<W: Data>(self, other: Batch<(K, W)>) -> Batch<(K, (Option<V>, W))> {
        self.cogroup(other).flat_map(|(key, sides)| right(key, sides))
    }

    /// As [`join`](Self::join), and the values of keys that only one side has, with `None` for the other.
    pub fn full_outer_join<W: Data>(self, other: Batch<(K, W)>) -> Batch<(K, Either<V, W>)> {
        self.cogroup(other).flat_map(|(key, sides)| full(key, sides))
    }
}

fn pairs<K: Clone, V: Clone, W: Clone>(key: K, left: Vec<V>, right: Vec<W>) -> Vec<(K, (V, W))> {
    let mut rows = Vec::with_capacity(left.len() * right.len());
    for v in &left {
        rows.extend(right.iter().map(|w| (key.clone(), (v.clone(), w.clone()))));
    }
    rows
}

/// The values, or one `None` where there are none.
fn optional<V>(values: Vec<V>) -> Vec<Option<V>> {
    if values.is_empty() { vec![None] } else { values.into_iter().map(Some).collect() }
}

pub(crate) fn inner<K: Clone, V: Clone, W: Clone>(key: K, (left, right): Sides<V, W>) -> Vec<(K, (V, W))> {
    pairs(key, left, right)
}

pub(crate) fn left<K: Clone, V: Clone, W: Clone>(key: K, (left, right): Sides<V, W>) -> Vec<(K, (V, Option<W>))> {
    pairs(key, left, optional(right))
}

pub(crate) fn right<K: Clone, V: Clone, W: Clone>(key: K, (left, right): Sides<V, W>) -> Vec<(K, (Option<V>, W))> {
    pairs(key, optional(left), right)
}

pub(crate) fn full<K: Clone, V: Clone, W: Clone>(key: K, (left, right): Sides<V, W>) -> Vec<(K, Either<V, W>)> {
    pairs(key, optional(left), optional(right))
}
