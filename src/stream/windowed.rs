//! Keyed reductions over sliding windows of micro-batches, with and without an inverse.
//!
//! Batch `k` (from 1) has time `k`; the window emitted at time `t` covers the batches in `(t − length, t]`, at every
//! multiple of the slide up to the last batch. With an inverse a key stays, with what the inverse leaves of it, after
//! its records have left; without one it is gone. Cost: with an inverse two reductions per key and batch it occurs in,
//! without about three (see [`crate::core::suffix`]), whatever the window's length.
//!
//! Source: Spark's `ReducedWindowedDStream`.

use crate::core::counts::Counts;
use crate::core::groups::{Groups, TypedKeys};
use crate::core::slide::{Engine, Slider, WindowTable};
use crate::core::suffix::turn_typed;
use crate::core::window::WindowSpec;
use crate::core::{Log, PaneStore, Run, SealedPanes, States};
use crate::{Error, Result};
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;

/// The windows of a reduction, in order: the time of each (in batches, from 1) and its keys with their values, in no
/// particular order.
pub struct WindowedBatches<K, V, F, G> {
    groups: Groups<TypedKeys<K>>,
    panes: SealedPanes<Cells<V, F>>,
    slider: Slider<Table<V, F, G>>,
    slide: u64,
    batches: u64,
    time: u64,
    live: Vec<u32>,
}

/// Stands where an inverse would.
pub type NoInverse<V> = fn(&V, &V) -> V;

/// Reduces each key's values over windows of `window` batches, every `slide` batches, without an inverse.
///
/// `reduce` must be associative; values are reduced in the order of the batches and of the records in them.
///
/// ```
/// use windrow::stream::reduce_by_key_and_window;
/// let batches = vec![vec![("a", 1), ("b", 5)], vec![("a", 3)], vec![]];
/// let windows: Vec<_> = reduce_by_key_and_window(batches, |a, b| *a.max(b), 2, 1)?
///     .map(|(time, mut rows)| { rows.sort(); (time, rows) })
///     .collect();
/// assert_eq!(windows, [(1, vec![("a", 1), ("b", 5)]), (2, vec![("a", 3), ("b", 5)]), (3, vec![("a", 3)])]);
/// # Ok::<(), windrow::Error>(())
/// ```
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if `window` or `slide` is zero.
pub fn reduce_by_key_and_window<K, V, F>(
    batches: impl IntoIterator<Item = Vec<(K, V)>>,
    reduce: F,
    window: u64,
    slide: u64,
) -> Result<WindowedBatches<K, V, F, NoInverse<V>>>
where
    K: Hash + Eq + Clone,
    V: Clone,
    F: Fn(&V, &V) -> V,
{
    windowed(batches, reduce, None, window, slide)
}

/// As [`reduce_by_key_and_window`], with an inverse: `inverse(reduce(a, b), a)` must be `b`. A key stays, with what
/// the inverse leaves, after its records have left the window; filter the rows to drop it.
///
/// ```
/// use windrow::stream::reduce_by_key_and_window_inverse;
/// let batches = vec![vec![("a", 1), ("b", 5)], vec![("a", 3)], vec![]];
/// let windows: Vec<_> = reduce_by_key_and_window_inverse(batches, |a, b| a + b, |a, b| a - b, 2, 1)?
///     .map(|(time, mut rows)| { rows.sort(); (time, rows) })
///     .collect();
/// assert_eq!(windows[2], (3, vec![("a", 3), ("b", 0)]));
/// # Ok::<(), windrow::Error>(())
/// ```
///
/// # Errors
/// [`crate::ErrorKind::Usage`] if `window` or `slide` is zero.
pub fn reduce_by_key_and_window_inverse<K, V, F, G>(
    batches: impl IntoIterator<Item = Vec<(K, V)>>,
    reduce: F,
    inverse: G,
    window: u64,
    slide: u64,
) -> Result<WindowedBatches<K, V, F, G>>
where
    K: Hash + Eq + Clone,
    V: Clone,
    F: Fn(&V, &V) -> V,
    G: Fn(&V, &V) -> V,
{
    windowed(batches, reduce, Some(inverse), window, slide)
}

fn windowed<K, V, F, G>(
    batches: impl IntoIterator<Item = Vec<(K, V)>>,
    reduce: F,
    inverse: Option<G>,
    window: u64,
    slide: u64,
) -> Result<WindowedBatches<K, V, F, G>>
where
    K: Hash + Eq + Clone,
    V: Clone,
    F: Fn(&V, &V) -> V,
    G: Fn(&V, &V) -> V,
{
    // Batch k stands at instant k - 1, so that the window emitted at time t is [t - window, t).
    let spec = i64::try_from(window).ok().zip(i64::try_from(slide).ok());
    let spec = spec.and_then(|(window, slide)| WindowSpec::new(window, slide, -(window % slide.max(1))));
    let spec = spec.ok_or_else(|| Error::usage("the window and the slide must each be at least one batch"))?;
    // Fixed seeds: the order of rows is the same in every run (and promised to nobody).
    let hasher = ahash::RandomState::with_seeds(1, 2, 3, 4);
    let reduce = Arc::new(reduce);
    let mut groups = Groups::new(TypedKeys::default());
    let mut store = PaneStore::new(Cells { values: Vec::new(), reduce: reduce.clone() });
    let (mut keys, mut hashes, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let mut count = 0;
    for batch in batches {
        let mut block = Cells { values: Vec::with_capacity(batch.len()), reduce: reduce.clone() };
        keys.clear();
        for (key, value) in batch {
            keys.push(key);
            block.values.push(Some(value));
        }
        hashes.clear();
        hashes.extend(keys.iter().map(|key| hasher.hash_one(key)));
        ids.clear();
        groups.intern(&keys, &hashes, 0..keys.len(), &mut ids);
        let mut rows = Counts::default();
        rows.grow(keys.len());
        rows.add_one_each();
        store.admit(&rows, &block);
        if !keys.is_empty() {
            let (pane, ..) = spec.pane_of(count);
            store.add(pane, &ids, &rows, &block, 0..keys.len());
        }
        store.tidy();
        count += 1;
    }
    let rank: Vec<u32> = (0..groups.capacity() as u32).collect();
    let panes = store.seal(&rank);
    let table = Table { reduce, inverse, suffix: Vec::new(), front: Vec::new() };
    let slider = Slider::new(spec, Engine::Incremental, table, groups.capacity(), &panes);
    Ok(WindowedBatches { groups, panes, slider, slide, batches: count as u64, time: 0, live: Vec::new() })
}

impl<K, V, F, G> Iterator for WindowedBatches<K, V, F, G>
where
    K: Clone + Eq,
    V: Clone,
    F: Fn(&V, &V) -> V,
    G: Fn(&V, &V) -> V,
{
    type Item = (u64, Vec<(K, V)>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.time + self.slide > self.batches {
            return None;
        }
        self.time += self.slide;
        let window = self.slider.window_ending_at(self.time as i64);
        self.slider.advance(window, &mut self.panes);
        self.live.clear();
        let table = self.slider.table();
        if table.inverse.is_some() {
            self.live.extend((0..self.groups.capacity() as u32).filter(|id| table.front[*id as usize].is_some()));
        } else {
            self.slider.live().collect_into(&mut self.live);
        }
        let row = |id: &u32| table.value(*id as usize).map(|value| (self.groups.keys().get(*id).clone(), value));
        Some((self.time, self.live.iter().filter_map(row).collect()))
    }
}

/// Values of cells. `None` only where a turn left "nothing later".
struct Cells<V, F> {
    values: Vec<Option<V>>,
    reduce: Arc<F>,
}

impl<V: Clone, F: Fn(&V, &V) -> V> States for Cells<V, F> {
    fn empty(&self) -> Self {
        Cells { values: Vec::new(), reduce: self.reduce.clone() }
    }

    fn admit(&mut self, _: &Self) {}

    fn fold(&mut self, at: &[u32], source: &Self, range: Range<usize>) {
        for (at, value) in at.iter().zip(&source.values[range]) {
            match self.values.get_mut(*at as usize) {
                None => self.values.push(value.clone()),
                Some(state) => join(state, value, &*self.reduce),
            }
        }
    }

    fn settle(&mut self) {
        self.values.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.values.capacity() * size_of::<Option<V>>()
    }
}

/// `state` becomes `state ⊕ later`.
fn join<V: Clone>(state: &mut Option<V>, later: &Option<V>, reduce: &impl Fn(&V, &V) -> V) {
    match (&*state, later) {
        (Some(a), Some(b)) => *state = Some(reduce(a, b)),
        (None, Some(b)) => *state = Some(b.clone()),
        (_, None) => {}
    }
}

/// The table of a window: with an inverse everything is in `front`.
struct Table<V, F, G> {
    reduce: Arc<F>,
    inverse: Option<G>,
    suffix: Vec<Option<V>>,
    front: Vec<Option<V>>,
}

impl<V: Clone, F: Fn(&V, &V) -> V, G> Table<V, F, G> {
    fn value(&self, id: usize) -> Option<V> {
        let mut value = self.suffix[id].clone();
        join(&mut value, &self.front[id], &*self.reduce);
        value
    }
}

impl<V, F, G> WindowTable<Cells<V, F>> for Table<V, F, G>
where
    V: Clone,
    F: Fn(&V, &V) -> V,
    G: Fn(&V, &V) -> V,
{
    fn prepare(&mut self, groups: usize, _: &[Log<Cells<V, F>>]) {
        self.suffix.resize(groups, None);
        self.front.resize(groups, None);
    }

    fn absorb(&mut self, ids: &[u32], cells: &Cells<V, F>, range: Range<usize>) {
        for (id, value) in ids.iter().zip(&cells.values[range]) {
            join(&mut self.front[*id as usize], value, &*self.reduce);
        }
    }

    fn expel(&mut self, ids: &[u32], cells: &Cells<V, F>, range: Range<usize>, turned: bool) {
        for (id, value) in ids.iter().zip(&cells.values[range]) {
            match &self.inverse {
                Some(inverse) => {
                    let state = &mut self.front[*id as usize];
                    if let (Some(total), Some(left)) = (&*state, value) {
                        *state = Some(inverse(total, left));
                    }
                }
                None if turned => self.suffix[*id as usize] = value.clone(),
                None => {}
            }
        }
    }

    fn keeps_groups(&self) -> bool {
        self.inverse.is_some()
    }

    fn reset(&mut self, ids: &[u32]) {
        for id in ids {
            self.suffix[*id as usize] = None;
            self.front[*id as usize] = None;
        }
    }

    fn late(&mut self, _: &[Log<Cells<V, F>>], _: &[Run], _: &[Run], _: &[Run]) {
        // Micro-batches come in order.
    }

    fn turn(&mut self, logs: &mut [Log<Cells<V, F>>], entered: &[Run], stay: usize) {
        if self.inverse.is_some() {
            return;
        }
        for run in entered {
            logs[run.log as usize].ids[run.range()].iter().for_each(|id| self.front[*id as usize] = None);
        }
        for run in entered[stay..].iter().rev() {
            let log = &mut logs[run.log as usize];
            let cells = &mut log.states.values[run.range()];
            turn_typed(&log.ids[run.range()], cells, &mut self.suffix, |a, b| (self.reduce)(&a, &b));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        /// The twin folds every window from its batches. Strings show the order of reductions.
        #[test]
        fn equals_recomputation(
            batches in prop::collection::vec(prop::collection::vec((0u8..5, 0i64..100), 0..6), 0..30),
            window in 1u64..9, slide in 1u64..5,
        ) {
            let text = |b: &Vec<(u8, i64)>| b.iter().map(|(k, v)| (*k, format!("{v},"))).collect::<Vec<_>>();
            let without: Vec<_> =
                reduce_by_key_and_window(batches.iter().map(text), |a, b| format!("{a}{b}"), window, slide).unwrap().collect();
            let with: Vec<_> =
                reduce_by_key_and_window_inverse(batches.clone(), |a, b| a + b, |a, b| a - b, window, slide).unwrap().collect();
            let mut known = BTreeSet::new();
            let mut times = Vec::new();
            for t in 1..=batches.len() as u64 {
                known.extend(batches[t as usize - 1].iter().map(|r| r.0));
                if t % slide != 0 {
                    continue;
                }
                let inside = &batches[t.saturating_sub(window) as usize..t as usize];
                let mut texts: BTreeMap<u8, String> = BTreeMap::new();
                // A key stays only if the inverse has seen it: in a batch that some emitted window covered.
                let mut sums: BTreeMap<u8, i64> = BTreeMap::new();
                for (k, v) in inside.iter().flatten() {
                    *texts.entry(*k).or_default() += &format!("{v},");
                    *sums.entry(*k).or_default() += v;
                }
                let i = times.len();
                times.push(t);
                let rows: BTreeMap<_, _> = without[i].1.iter().cloned().collect();
                prop_assert_eq!(&rows, &texts);
                prop_assert_eq!(rows.len(), without[i].1.len());
                let rows: BTreeMap<_, _> = with[i].1.iter().cloned().collect();
                for (k, v) in &rows {
                    prop_assert_eq!(*v, sums.get(k).copied().unwrap_or(0));
                    prop_assert!(known.contains(k));
                }
                for k in sums.keys() {
                    prop_assert!(rows.contains_key(k));
                }
            }
            prop_assert_eq!(without.iter().map(|w| w.0).collect::<Vec<_>>(), times.clone());
            prop_assert_eq!(with.iter().map(|w| w.0).collect::<Vec<_>>(), times);
        }
    }

    #[test]
    fn zero_lengths_are_refused() {
        let none: Vec<Vec<(u8, u8)>> = Vec::new();
        assert!(reduce_by_key_and_window(none.clone(), |a, _| *a, 0, 1).is_err());
        assert!(reduce_by_key_and_window(none, |a, _| *a, 1, 0).is_err());
    }
}
