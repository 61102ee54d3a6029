//! Keyed reductions over sliding windows, batch by batch, with and without an inverse.
//!
//! One [`Shard`] per partition. A batch, reduced by key, becomes a pane: ids and values in two vectors. With an inverse
//! the window is a table of totals from which the pane that leaves is taken and into which the one that enters is
//! folded; a key stays, with what the inverse leaves of it, until a filter drops it. Without one the table has two
//! columns, the suffix folds of [`crate::core::suffix`] and the fold of what entered since, and a key is gone with its
//! last pane. Ids of keys that are gone are used again.
//!
//! Cost: two reductions per key and batch it occurs in (three without inverse), whatever the window's length; memory is a
//! cell per key and batch of the window.
//!
//! Source: Spark's `ReducedWindowedDStream`; for what has no inverse see [`crate::core::suffix`].

use super::batch::{Batch, reducing};
use super::exec::{Exec, Label, Pace, blame};
use super::keyed::{Fold, Keyed, hash_of};
use super::ordered::Apply;
use super::saved::Section;
use super::{Data, Key};
use crate::Result;
use crate::core::groups::{Groups, TypedKeys};
use crate::core::suffix::turn_typed;
use std::collections::VecDeque;
use std::sync::Arc;

mod saved;

/// The keys and values of one batch.
struct Pane<V> {
    k: i64,
    /// Shared with a checkpoint that is being written.
    ids: Arc<Vec<u32>>,
    values: Arc<Vec<Option<V>>>,
}

/// The window of one partition.
struct Shard<K, V> {
    groups: Groups<TypedKeys<K>>,
    /// The panes of the window, oldest first; behind them those that came since.
    panes: VecDeque<Pane<V>>,
    /// How many of the panes are in the table. Without an inverse: of those how many have been turned.
    absorbed: usize,
    turned: usize,
    /// Panes in which each id occurs.
    cells: Vec<u32>,
    /// By id. With an inverse the total; without, the fold of what entered since the last turn.
    front: Vec<Option<V>>,
    suffix: Vec<Option<V>>,
    /// Cells of earlier batches are not part of an id's total: a filter dropped it since.
    since: Vec<i64>,
    stretch: Option<i64>,
    /// A closure panicked while the table was changed: it has to be made again.
    damaged: bool,
    scratch: (Vec<K>, Vec<u64>),
}

impl<K: Key, V: Data> Shard<K, V> {
    fn new() -> Self {
        Shard {
            groups: Groups::new(TypedKeys::default()),
            panes: VecDeque::new(),
            absorbed: 0,
            turned: 0,
            cells: Vec::new(),
            front: Vec::new(),
            suffix: Vec::new(),
            since: Vec::new(),
            stretch: None,
            damaged: false,
            scratch: (Vec::new(), Vec::new()),
        }
    }

    fn push(&mut self, k: i64, rows: Vec<(K, V)>) {
        if rows.is_empty() {
            return;
        }
        let (mut ids, mut values) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let (keys, hashes) = &mut self.scratch;
        keys.clear();
        for (key, value) in rows {
            keys.push(key);
            values.push(Some(value));
        }
        hashes.clear();
        hashes.extend(keys.iter().map(hash_of));
        self.groups.intern(keys, hashes, 0..keys.len(), &mut ids);
        keys.clear();
        self.grow();
        ids.iter().for_each(|id| self.cells[*id as usize] += 1);
        self.panes.push_back(Pane { k, ids: Arc::new(ids), values: Arc::new(values) });
    }

    /// Makes room for every id in the tables.
    fn grow(&mut self) {
        let ids = self.groups.capacity();
        self.cells.resize(ids, 0);
        self.front.resize(ids, None);
        self.suffix.resize(ids, None);
        self.since.resize(ids, i64::MIN);
    }

    /// The place of `key` in the tables.
    fn id_of(&mut self, key: K) -> usize {
        let (hash, mut ids) = (hash_of(&key), Vec::new());
        self.groups.intern(&[key], &[hash], 0..1, &mut ids);
        self.grow();
        ids[0] as usize
    }

    /// Takes back what [`push`](Self::push) did for batch `k`.
    fn discard(&mut self, k: i64) {
        self.damaged = true;
        if self.panes.back().is_some_and(|pane| pane.k == k)
            && let Some(pane) = self.panes.pop_back()
        {
            self.absorbed = self.absorbed.min(self.panes.len());
            self.turned = self.turned.min(self.panes.len());
            self.leave(&pane.ids);
        }
    }

    /// Folds the panes that came since into the table.
    fn absorb(&mut self, reduce: impl Fn(&V, &V) -> V) {
        for pane in self.panes.range(self.absorbed..) {
            for (id, value) in pane.ids.iter().zip(&*pane.values) {
                fold(&mut self.front[*id as usize], value, &reduce);
            }
        }
        self.absorbed = self.panes.len();
    }

    /// A pane with these ids is gone.
    fn leave(&mut self, ids: &[u32]) {
        for id in ids {
            let at = *id as usize;
            self.cells[at] -= 1;
            if self.cells[at] == 0 && self.front[at].is_none() {
                self.suffix[at] = None;
                self.since[at] = i64::MIN;
                self.groups.free(*id);
            }
        }
    }
}

/// A window over batches reduced by key.
pub(crate) struct Reduced<K, V, F, G, H> {
    exec: Arc<Exec>,
    keyed: Arc<Keyed<K>>,
    reduce: Arc<F>,
    inverse: Option<G>,
    /// Which rows stay; only with an inverse.
    keep: Option<H>,
    /// In intervals.
    length: i64,
    shards: Vec<Shard<K, V>>,
    pace: Pace,
    label: Label,
}

/// Stands where there is no filter.
pub(crate) type KeepAll<K, V> = fn(&(K, V)) -> bool;

impl<K, V, F, G, H> Reduced<K, V, F, G, H>
where
    K: Key,
    V: Data,
    F: Fn(&V, &V) -> V + Send + Sync + 'static,
    G: Fn(&V, &V) -> V + Send + Sync + 'static,
    H: Fn(&(K, V)) -> bool + Send + Sync + 'static,
{
    pub(crate) fn new(
        exec: &Arc<Exec>,
        keyed: Arc<Keyed<K>>,
        reduce: F,
        inverse: Option<G>,
        keep: Option<H>,
        length: u64,
    ) -> Self {
        let shards = (0..keyed.by.partitions()).map(|_| Shard::new()).collect();
        let label = keyed.label.clone();
        Reduced {
            exec: exec.clone(),
            keyed,
            reduce: Arc::new(reduce),
            inverse,
            keep,
            length: length as i64,
            shards,
            pace: Pace::default(),
            label,
        }
    }
}

impl<K, V, F, G, H> Apply<(K, V)> for Reduced<K, V, F, G, H>
where
    K: Key,
    V: Data,
    F: Fn(&V, &V) -> V + Send + Sync + 'static,
    G: Fn(&V, &V) -> V + Send + Sync + 'static,
    H: Fn(&(K, V)) -> bool + Send + Sync + 'static,
{
    type Row = (K, V);
    type Kept = (K, V);

    fn sections(&self) -> Option<Vec<Section<(K, V)>>> {
        saved::sections(&self.exec, &self.shards)
    }

    fn restore(&mut self, sections: Vec<Section<(K, V)>>) -> Result<()> {
        saved::restore(&mut self.shards, &self.keyed.by, sections)
    }

    fn apply(&mut self, k: u64, batch: Option<Batch<(K, V)>>, emit: bool) -> Result<Vec<Vec<(K, V)>>> {
        let Reduced { exec, keyed, reduce, inverse, keep, length, shards, pace, label } = self;
        let (k, first) = (k as i64, k as i64 - *length + 1);
        let how: Arc<Fold<_, _, _>> = reducing(label.clone(), reduce.clone());
        let rows = match batch {
            Some(batch) => keyed.combine(batch, &how)?,
            None => shards.iter().map(|_| Vec::new()).collect(),
        };
        let work = rows.iter().map(Vec::len).sum::<usize>()
            + if emit { shards.iter().map(|s| s.front.len()).sum() } else { 0 };
        let tasks: Vec<_> = shards.iter_mut().zip(rows).collect();
        let (reduce, inverse, keep) = (&**reduce, inverse.as_ref(), keep.as_ref());
        let done = exec.paced(tasks, work, pace, |_, (shard, rows)| {
            shard.push(k, rows);
            if !emit {
                return Ok(Vec::new());
            }
            blame(label, || {
                Ok(match inverse {
                    Some(inverse) => shard.slide_inverse(first, k, reduce, inverse, keep),
                    None => shard.slide_suffix(first, *length, reduce),
                })
            })
        });
        if done.is_err() {
            shards.iter_mut().for_each(|shard| shard.discard(k));
        }
        done
    }
}

/// With an inverse.
impl<K: Key, V: Data> Shard<K, V> {
    /// Moves to the window of the batches from `first` to `k` and gives its rows.
    fn slide_inverse(
        &mut self,
        first: i64,
        k: i64,
        reduce: impl Fn(&V, &V) -> V,
        inverse: impl Fn(&V, &V) -> V,
        keep: Option<impl Fn(&(K, V)) -> bool>,
    ) -> Vec<(K, V)> {
        if self.damaged {
            // Keys that had nothing left but what the inverse left of them are lost.
            self.front.fill(None);
            self.absorbed = 0;
            self.damaged = false;
            self.forget_unused();
        }
        while self.panes.front().is_some_and(|pane| pane.k < first) {
            if self.absorbed > 0 {
                let pane = &self.panes[0];
                for (id, value) in pane.ids.iter().zip(&*pane.values) {
                    let at = *id as usize;
                    if let (Some(total), Some(left)) = (&self.front[at], value)
                        && self.since[at] <= pane.k
                    {
                        let less = inverse(total, left);
                        self.front[at] = Some(less);
                    }
                }
                self.absorbed -= 1;
            }
            if let Some(pane) = self.panes.pop_front() {
                self.leave(&pane.ids);
            }
        }
        self.absorb(&reduce);
        let mut rows = Vec::with_capacity(self.groups.len());
        for at in 0..self.front.len() {
            let Some(total) = &self.front[at] else { continue };
            let row = (self.groups.keys().get(at as u32).clone(), total.clone());
            if keep.as_ref().is_none_or(|keep| keep(&row)) {
                rows.push(row);
            } else {
                self.front[at] = None;
                self.since[at] = k + 1;
                if self.cells[at] == 0 {
                    self.since[at] = i64::MIN;
                    self.groups.free(at as u32);
                }
            }
        }
        rows
    }

    /// Frees ids that have neither a cell nor a total.
    fn forget_unused(&mut self) {
        let mut used = vec![false; self.cells.len()];
        self.panes.iter().flat_map(|pane| &*pane.ids).for_each(|id| used[*id as usize] = true);
        for (at, used) in used.into_iter().enumerate() {
            if !used && self.front[at].is_none() {
                self.since[at] = i64::MIN;
                // Freeing what is free already changes nothing.
                self.groups.free(at as u32);
            }
        }
    }
}

/// Without one.
impl<K: Key, V: Data> Shard<K, V> {
    /// Moves to the window of `length` batches that begins with batch `first` and gives its rows.
    fn slide_suffix(&mut self, first: i64, length: i64, reduce: impl Fn(&V, &V) -> V) -> Vec<(K, V)> {
        if self.damaged {
            self.front.fill(None);
            self.absorbed = self.turned;
            self.damaged = false;
            self.forget_unused();
        }
        while self.panes.front().is_some_and(|pane| pane.k < first) {
            if let Some(pane) = self.panes.pop_front() {
                if self.turned > 0 {
                    // Turned: each cell holds what comes later in the stretch.
                    for (id, later) in pane.ids.iter().zip(Arc::unwrap_or_clone(pane.values)) {
                        self.suffix[*id as usize] = later;
                    }
                    self.turned -= 1;
                }
                self.absorbed = self.absorbed.saturating_sub(1);
                for id in &*pane.ids {
                    // The table does not keep a key alive.
                    if self.cells[*id as usize] == 1 {
                        self.front[*id as usize] = None;
                    }
                }
                self.leave(&pane.ids);
            }
        }
        let stretch = first.div_euclid(length);
        if self.stretch != Some(stretch) {
            self.turn((stretch + 1) * length, &reduce);
            self.stretch = Some(stretch);
        }
        self.absorb(&reduce);
        let mut rows = Vec::with_capacity(self.groups.len());
        for at in 0..self.cells.len() {
            if self.cells[at] > 0 {
                let mut value = self.suffix[at].clone();
                fold(&mut value, &self.front[at], &reduce);
                rows.extend(value.map(|value| (self.groups.keys().get(at as u32).clone(), value)));
            }
        }
        rows
    }

    /// A new stretch, which ends before batch `end`, begins. Nothing changes should `reduce` panic.
    fn turn(&mut self, end: i64, reduce: impl Fn(&V, &V) -> V) {
        let n = self.panes.partition_point(|pane| pane.k < end);
        let mut suffix = vec![None; self.suffix.len()];
        let mut turned: Vec<Vec<Option<V>>> = Vec::with_capacity(n);
        for pane in self.panes.range(..n).rev() {
            let mut values = pane.values.to_vec();
            turn_typed(&pane.ids, &mut values, &mut suffix, |a, b| reduce(&a, &b));
            turned.push(values);
        }
        for (pane, values) in self.panes.range_mut(..n).rev().zip(turned) {
            pane.values = Arc::new(values);
        }
        self.suffix = suffix;
        self.front.fill(None);
        (self.turned, self.absorbed) = (n, n);
    }
}

/// `state` becomes `state ⊕ later`.
#[inline]
fn fold<V: Clone>(state: &mut Option<V>, later: &Option<V>, reduce: impl Fn(&V, &V) -> V) {
    match (&*state, later) {
        (Some(a), Some(b)) => *state = Some(reduce(a, b)),
        (None, Some(b)) => *state = Some(b.clone()),
        (_, None) => {}
    }
}
