//! Columns of exact integers that start narrow and widen before they could overflow.
//!
//! A column keeps a bound on the magnitude that any of its cells can have reached: the sum of the greatest magnitude
//! of each batch times its rows. Only when that bound leaves the narrow type are all cells widened, so the loops that
//! add have no overflow check and the common cell costs 4 bytes (counts) or 8 (sums) instead of 16.

use super::words::{Bytes, Packed, Word, put, put_one, put_packed};
use std::ops::Range;

/// Rows that are looked at together for whether they share a cell.
const RUN: usize = if cfg!(test) { 2 } else { 16 };

/// A narrow integer and the wide one that holds what no longer fits.
pub trait Narrow: Packed + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// The wide type.
    type Wide: Word + Default + std::fmt::Debug + Send + Sync + std::ops::AddAssign + std::ops::SubAssign + 'static;
    /// The greatest magnitude the narrow type holds.
    const LIMIT: u128;
    /// Widens.
    fn wide(self) -> Self::Wide;
    /// Adds; the bound guarantees that it fits.
    fn add(&mut self, other: Self);
    /// Subtracts; the bound guarantees that it fits.
    fn sub(&mut self, other: Self);
    /// The narrow integer of that value, if there is one.
    fn narrow(wide: Self::Wide) -> Option<Self>;
    /// The magnitude.
    fn magnitude(wide: Self::Wide) -> u128;
}

impl Narrow for u32 {
    type Wide = u64;
    const LIMIT: u128 = u32::MAX as u128;
    #[inline]
    fn wide(self) -> u64 {
        self as u64
    }
    #[inline]
    fn add(&mut self, other: u32) {
        *self = self.wrapping_add(other);
    }
    #[inline]
    fn sub(&mut self, other: u32) {
        *self = self.wrapping_sub(other);
    }
    fn narrow(wide: u64) -> Option<u32> {
        u32::try_from(wide).ok()
    }
    fn magnitude(wide: u64) -> u128 {
        u128::from(wide)
    }
}

impl Narrow for i64 {
    type Wide = i128;
    const LIMIT: u128 = i64::MAX as u128;
    #[inline]
    fn wide(self) -> i128 {
        self as i128
    }
    #[inline]
    fn add(&mut self, other: i64) {
        *self = self.wrapping_add(other);
    }
    #[inline]
    fn sub(&mut self, other: i64) {
        *self = self.wrapping_sub(other);
    }
    fn narrow(wide: i128) -> Option<i64> {
        i64::try_from(wide).ok()
    }
    fn magnitude(wide: i128) -> u128 {
        wide.unsigned_abs()
    }
}

/// A column of integers addressed by position.
#[derive(Debug, Clone)]
pub struct Integers<N: Narrow> {
    cells: Cells<N>,
    /// No cell's magnitude can exceed this.
    bound: u128,
}

#[derive(Debug, Clone)]
enum Cells<N: Narrow> {
    Narrow(Vec<N>),
    Wide(Vec<N::Wide>),
}

/// What no value exceeds in magnitude: at most twice the greatest, and had with less than a comparison for each.
pub fn magnitude_bound(values: impl Iterator<Item = i64>) -> u128 {
    // A negative number's magnitude is one more than its complement.
    u128::from(values.fold(0, |all, value| all | (value ^ (value >> 63)) as u64)) + 1
}

/// Counts: 4 bytes a cell until a column has seen 2³² records.
pub type Counts = Integers<u32>;
/// Sums of integers: 8 bytes a cell until the magnitudes seen could reach 2⁶³.
pub type Sums = Integers<i64>;

impl<N: Narrow> Default for Integers<N> {
    fn default() -> Self {
        Integers { cells: Cells::Narrow(Vec::new()), bound: 0 }
    }
}

impl<N: Narrow> Integers<N> {
    /// Number of cells.
    pub fn len(&self) -> usize {
        match &self.cells {
            Cells::Narrow(v) => v.len(),
            Cells::Wide(v) => v.len(),
        }
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Grows to `len` cells; new ones are zero.
    pub fn grow(&mut self, len: usize) {
        match &mut self.cells {
            Cells::Narrow(v) => v.resize(len.max(v.len()), N::default()),
            Cells::Wide(v) => v.resize(len.max(v.len()), N::Wide::default()),
        }
    }

    /// Forgets all cells, keeps their memory.
    pub fn clear(&mut self) {
        match &mut self.cells {
            Cells::Narrow(v) => v.clear(),
            Cells::Wide(_) => self.cells = Cells::Narrow(Vec::new()),
        }
        self.bound = 0;
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        match &self.cells {
            Cells::Narrow(v) => v.capacity() * size_of::<N>(),
            Cells::Wide(v) => v.capacity() * size_of::<N::Wide>(),
        }
    }

    /// The value of cell `at`, widened.
    #[inline]
    pub fn get(&self, at: usize) -> N::Wide {
        match &self.cells {
            Cells::Narrow(v) => v[at].wide(),
            Cells::Wide(v) => v[at],
        }
    }

    /// Gives back what was reserved for growth, and bounds any sum of distinct cells by what the cells are.
    pub fn settle(&mut self) {
        match &mut self.cells {
            Cells::Narrow(v) => {
                v.shrink_to_fit();
                self.bound = v.iter().map(|n| N::magnitude(n.wide())).sum();
            }
            Cells::Wide(v) => {
                self.bound = v.iter().fold(0, |sum, n| sum.saturating_add(N::magnitude(*n)));
                if self.bound <= N::LIMIT
                    && let Some(narrow) = v.iter().map(|n| N::narrow(*n)).collect()
                {
                    self.cells = Cells::Narrow(narrow);
                } else {
                    v.shrink_to_fit();
                }
            }
        }
    }

    fn allow(&mut self, more: u128) {
        self.bound = self.bound.saturating_add(more);
        if self.bound > N::LIMIT
            && let Cells::Narrow(v) = &self.cells
        {
            self.cells = Cells::Wide(v.iter().map(|n| n.wide()).collect());
        }
    }

    /// Adds `value(i)` to cell `at[i]` for `rows` rows, none of them greater in magnitude than `greatest`.
    #[inline]
    pub fn add(&mut self, at: &[u32], greatest: u128, value: impl Fn(usize) -> N) {
        self.allow(greatest.saturating_mul(at.len() as u128));
        match &mut self.cells {
            Cells::Narrow(v) => {
                for (i, at) in at.iter().enumerate() {
                    v[*at as usize].add(value(i));
                }
            }
            Cells::Wide(v) => {
                for (i, at) in at.iter().enumerate() {
                    v[*at as usize] += value(i).wide();
                }
            }
        }
    }

    /// The same of `values`, where neighbours mostly share a cell: a sum in a register does not wait for the one before to be
    /// stored.
    pub fn add_runs(&mut self, at: &[u32], greatest: u128, values: &[N]) {
        self.allow(greatest.saturating_mul(at.len() as u128));
        let Cells::Narrow(cells) = &mut self.cells else {
            return self.add(at, 0, |i| values[i]);
        };
        for (ats, values) in at.chunks(RUN).zip(values.chunks(RUN)) {
            match ats {
                [first, rest @ ..] if rest.iter().fold(0, |other, at| other | (at ^ first)) == 0 => {
                    let mut sum = N::default();
                    values.iter().for_each(|value| sum.add(*value));
                    cells[*first as usize].add(sum);
                }
                _ => ats.iter().zip(values).for_each(|(at, value)| cells[*at as usize].add(*value)),
            }
        }
    }

    /// Sets every cell of a new column to one: each is a record of its own.
    pub fn add_one_each(&mut self)
    where
        N: From<u8>,
    {
        self.allow(1);
        if let Cells::Narrow(v) = &mut self.cells {
            v.fill(N::from(1));
        }
    }

    /// Prepares for folding each cell of `other` once: the bounds add up.
    pub fn admit(&mut self, other: &Self) {
        self.allow(other.bound);
    }

    /// Adds the cells `range` of `other`, which was [admitted](Self::admit), to cells `at`, all below `len()`.
    pub fn fold(&mut self, at: &[u32], other: &Self, range: Range<usize>) {
        match (&mut self.cells, &other.cells) {
            (Cells::Narrow(to), Cells::Narrow(from)) => {
                for (at, n) in at.iter().zip(&from[range]) {
                    to[*at as usize].add(*n);
                }
            }
            (Cells::Wide(to), Cells::Narrow(from)) => {
                for (at, n) in at.iter().zip(&from[range]) {
                    to[*at as usize] += n.wide();
                }
            }
            (Cells::Wide(to), Cells::Wide(from)) => {
                for (at, n) in at.iter().zip(&from[range]) {
                    to[*at as usize] += *n;
                }
            }
            (Cells::Narrow(_), Cells::Wide(_)) => unreachable!("a wide column's bound widens whoever admits it"),
        }
    }

    /// Takes the cells `range` of `other`, which was [admitted](Self::admit), from cells `at`: the inverse of `fold`.
    pub fn retract(&mut self, at: &[u32], other: &Self, range: Range<usize>) {
        match (&mut self.cells, &other.cells) {
            (Cells::Narrow(to), Cells::Narrow(from)) => {
                for (at, n) in at.iter().zip(&from[range]) {
                    to[*at as usize].sub(*n);
                }
            }
            (Cells::Wide(to), Cells::Narrow(from)) => {
                for (at, n) in at.iter().zip(&from[range]) {
                    to[*at as usize] -= n.wide();
                }
            }
            (Cells::Wide(to), Cells::Wide(from)) => {
                for (at, n) in at.iter().zip(&from[range]) {
                    to[*at as usize] -= *n;
                }
            }
            (Cells::Narrow(_), Cells::Wide(_)) => unreachable!("a wide column's bound widens whoever admits it"),
        }
    }

    /// Copies the cells `range` of `other`, which was [admitted](Self::admit), over cells `at`.
    pub fn store(&mut self, at: &[u32], other: &Self, range: Range<usize>) {
        match (&mut self.cells, &other.cells) {
            (Cells::Narrow(to), Cells::Narrow(from)) => {
                for (at, n) in at.iter().zip(&from[range]) {
                    to[*at as usize] = *n;
                }
            }
            _ => {
                self.reset(at);
                self.fold(at, other, range);
            }
        }
    }

    /// Sets the cells `at` to zero.
    pub fn reset(&mut self, at: &[u32]) {
        match &mut self.cells {
            Cells::Narrow(v) => at.iter().for_each(|at| v[*at as usize] = N::default()),
            Cells::Wide(v) => at.iter().for_each(|at| v[*at as usize] = N::Wide::default()),
        }
    }

    /// Appends the cells `range` of `other`, which was [admitted](Self::admit).
    pub fn append(&mut self, other: &Self, range: Range<usize>) {
        match (&mut self.cells, &other.cells) {
            (Cells::Narrow(to), Cells::Narrow(from)) => to.extend_from_slice(&from[range]),
            (Cells::Wide(to), Cells::Narrow(from)) => to.extend(from[range].iter().map(|n| n.wide())),
            (Cells::Wide(to), Cells::Wide(from)) => to.extend_from_slice(&from[range]),
            (Cells::Narrow(_), Cells::Wide(_)) => unreachable!("a wide column's bound widens whoever admits it"),
        }
    }

    /// Appends the cells `cells` to `out`.
    pub fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        let first = cells.first().and_then(|range| range.clone().next());
        if let (Some(first), Cells::Narrow(v)) = (first, &self.cells)
            && cells.iter().all(|range| v[range.clone()].iter().all(|n| *n == v[first]))
        {
            put_one(2u8, out);
            put_one(cells.iter().map(|range| range.len() as u64).sum::<u64>(), out);
            put_one(v[first], out);
            return;
        }
        put_one(matches!(self.cells, Cells::Wide(_)) as u8, out);
        match &self.cells {
            Cells::Narrow(v) => {
                let parts: Vec<&[N]> = cells.iter().map(|range| &v[range.clone()]).collect();
                put_packed(&parts, out);
            }
            Cells::Wide(v) => cells.iter().for_each(|range| put(&v[range.clone()], out)),
        }
    }

    /// Appends the `count` cells that [`save`](Self::save) wrote. They may take more memory than bytes.
    pub fn load(&mut self, count: usize, from: &mut Bytes<'_>) -> Option<()> {
        let before = self.len();
        let mut narrow = Vec::new();
        let cells = match &mut self.cells {
            Cells::Narrow(cells) => cells,
            Cells::Wide(_) => &mut narrow,
        };
        let from_here = cells.len();
        match from.word::<u8>()? {
            0 => from.packed(count, cells)?,
            1 => {
                let mut wide = Integers::<N> { cells: Cells::Wide(from.words(count)?), bound: 0 };
                wide.settle();
                self.admit(&wide);
                self.append(&wide, 0..count);
                return Some(());
            }
            // All alike.
            2 if from.word::<u64>()? == count as u64 => cells.resize(from_here + count, from.word()?),
            _ => return None,
        }
        let more = cells[from_here..].iter().map(|n| N::magnitude(n.wide())).sum();
        if let Cells::Wide(cells) = &mut self.cells {
            cells.extend(narrow.into_iter().map(N::wide));
        }
        debug_assert_eq!(self.len(), before + count);
        self.allow(more);
        Some(())
    }

    /// Calls `each(i, value)` for the cells of `range`, `i` from 0.
    #[inline]
    pub fn for_each(&self, range: Range<usize>, mut each: impl FnMut(usize, N::Wide)) {
        match &self.cells {
            Cells::Narrow(v) => v[range].iter().enumerate().for_each(|(i, n)| each(i, n.wide())),
            Cells::Wide(v) => v[range].iter().enumerate().for_each(|(i, n)| each(i, *n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The twin is a vector of i128; values reach into the last bits of i64 so that columns widen midway.
        #[test]
        fn sums_are_exact(
            batches in prop::collection::vec(
                prop::collection::vec((0u32..5, prop_oneof![-5i64..5, Just(i64::MAX), Just(i64::MIN + 1)]), 1..8), 0..8),
        ) {
            let mut twin = [0i128; 5];
            let (mut direct, mut folded, mut log) = (Sums::default(), Sums::default(), Sums::default());
            direct.grow(5);
            folded.grow(5);
            let mut log_at = Vec::new();
            for batch in &batches {
                let at: Vec<u32> = batch.iter().map(|b| b.0).collect();
                let greatest = magnitude_bound(batch.iter().map(|b| b.1));
                prop_assert!(batch.iter().all(|b| u128::from(b.1.unsigned_abs()) <= greatest));
                let mut block = Sums::default();
                block.grow(5);
                let values: Vec<i64> = batch.iter().map(|b| b.1).collect();
                if batch.len() % 2 == 0 {
                    block.add(&at, greatest, |i| values[i]);
                } else {
                    block.add_runs(&at, greatest, &values);
                }
                folded.admit(&block);
                log.admit(&block);
                direct.add(&at, greatest, |i| batch[i].1);
                folded.fold(&[0, 1, 2, 3, 4], &block, 0..5);
                log.append(&block, 0..5);
                log_at.extend(0..5);
                for (k, v) in batch {
                    twin[*k as usize] += *v as i128;
                }
            }
            let mut replayed = Sums::default();
            replayed.grow(5);
            log.settle();
            replayed.admit(&log);
            replayed.fold(&log_at, &log, 0..log.len());
            for (k, want) in twin.into_iter().enumerate() {
                prop_assert_eq!(direct.get(k), want);
                prop_assert_eq!(folded.get(k), want);
                prop_assert_eq!(replayed.get(k), want);
            }
            let mut bytes = Vec::new();
            log.save(&[0..log.len() / 2, log.len() / 2..log.len()], &mut bytes);
            // Behind what was there before, narrow or wide.
            let (mut loaded, mut count) = (direct.clone(), log.len());
            loaded.load(count, &mut Bytes(&bytes)).unwrap();
            prop_assert!((0..5).all(|i| loaded.get(i) == direct.get(i)));
            prop_assert!((0..count).all(|i| loaded.get(5 + i) == log.get(i)));
            let mut again = Sums::default();
            again.grow(5);
            again.admit(&loaded);
            again.fold(&log_at, &loaded, 5..5 + count);
            prop_assert!((0..5).all(|k| again.get(k) == twin[k]));
            count += 1;
            prop_assert!(loaded.load(count, &mut Bytes(&bytes)).is_none());
            let mut stored = replayed.clone();
            stored.admit(&folded);
            stored.store(&[4, 0], &folded, 1..3);
            prop_assert_eq!((stored.get(4), stored.get(0)), (folded.get(1), folded.get(2)));
            replayed.retract(&log_at, &log, 0..log.len());
            prop_assert!((0..5).all(|k| replayed.get(k) == 0));
        }
    }
}
