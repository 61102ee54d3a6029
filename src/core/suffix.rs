//! Sliding without an inverse: the fold of what comes *later*, kept where each cell stood.
//!
//! Time is cut into stretches of one window length at absolute pane indexes. When the window's start enters a stretch,
//! one backward walk over the stretch's cells leaves in each cell the fold of its group's later cells of that stretch
//! (nothing, for the last one) and in `suffix` the fold of all of them. When a pane leaves, its cells are *stored* into
//! `suffix`; panes beyond the stretch are folded into `front`. The answer is `suffix ⊕ front`: no subtraction, no drift,
//! no trace of what has left, and the same association of floats whatever came before.
//!
//! Source: the "two stacks" of Tangwongsan, Hirzel, Schneider, "Low-latency sliding-window aggregation in worst-case
//! constant time" (DEBS 2017), with the flip at absolute times as in Cutty.

/// The backward walk over one run of cells: `suffix[id]` becomes `cell ⊕ suffix[id]`, and the cell what `suffix[id]` was.
#[inline]
pub fn turn<V: Copy>(ids: &[u32], cells: &mut [V], suffix: &mut [V], combine: impl Fn(V, V) -> V) {
    for (id, cell) in ids.iter().zip(cells).rev() {
        let later = &mut suffix[*id as usize];
        let all = combine(*cell, *later);
        *cell = std::mem::replace(later, all);
    }
}

/// The same walk for values without an identity, where `None` is "nothing".
pub fn turn_typed<V: Clone>(
    ids: &[u32],
    cells: &mut [Option<V>],
    suffix: &mut [Option<V>],
    combine: impl Fn(V, V) -> V,
) {
    for (id, cell) in ids.iter().zip(cells).rev() {
        let later = suffix[*id as usize].take();
        suffix[*id as usize] = match (cell.take(), &later) {
            (Some(cell), Some(later)) => Some(combine(cell, later.clone())),
            (Some(cell), None) => Some(cell),
            (None, _) => later.clone(),
        };
        *cell = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// After the walk a cell holds the fold of its group's later cells, and `suffix` that of all of them.
        #[test]
        fn a_cell_holds_what_comes_later(cells in prop::collection::vec((0u32..4, 0i64..100), 0..40)) {
            let ids: Vec<u32> = cells.iter().map(|c| c.0).collect();
            let mut words: Vec<i64> = cells.iter().map(|c| c.1).collect();
            let mut typed: Vec<Option<String>> = cells.iter().map(|c| Some(format!("{},", c.1))).collect();
            let (mut sums, mut texts) = (vec![0; 4], vec![None; 4]);
            turn(&ids, &mut words, &mut sums, |a, b| a + b);
            turn_typed(&ids, &mut typed, &mut texts, |a, b| a + &b);
            let later = |from: usize, id: u32| cells[from..].iter().filter(move |c| c.0 == id).map(|c| c.1);
            for (i, id) in ids.iter().enumerate() {
                prop_assert_eq!(words[i], later(i + 1, *id).sum::<i64>());
                let text: String = later(i + 1, *id).map(|v| format!("{v},")).collect();
                prop_assert_eq!(typed[i].clone().unwrap_or_default(), text);
            }
            for id in 0..4 {
                prop_assert_eq!(sums[id as usize], later(0, id).sum::<i64>());
            }
        }
    }
}
