//! How many of a cell's records have a null in a column; `count(x)` and "no value at all" follow from it.
//!
//! Nulls are counted rather than values because most columns have none: such a column costs no memory at all.

use super::{Column, Sliding, column_basics, same};
use crate::Result;
use crate::core::counts::Counts;
use crate::core::words::{Bytes, put_one};
use arrow_array::{Array, ArrayRef};
use std::ops::Range;

/// Nulls per state; `counts` stays empty until the first null.
#[derive(Debug, Default)]
pub(crate) struct Nulls {
    counts: Counts,
    len: usize,
}

impl Nulls {
    /// Nulls counted in state `at`.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> u64 {
        if self.counts.is_empty() { 0 } else { self.counts.get(at) }
    }

    /// Whether no state has a null.
    pub(crate) fn none(&self) -> bool {
        self.counts.is_empty()
    }
}

impl Column for Nulls {
    column_basics!(|_: &Nulls| Nulls::default());

    fn sliding(&self) -> Sliding {
        Sliding::Inverse
    }

    fn grow(&mut self, len: usize) {
        self.len = self.len.max(len);
        if !self.counts.is_empty() {
            self.counts.grow(self.len);
        }
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        if let Some(nulls) = inputs[0].logical_nulls().filter(|n| n.null_count() > 0) {
            self.counts.grow(self.len);
            self.counts.add(at, 1, |i| nulls.is_null(i) as u32);
        }
        Ok(())
    }

    fn admit(&mut self, other: &dyn Column) {
        self.counts.admit(&same::<Self>(other).counts);
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let other = same::<Self>(other);
        if !other.none() {
            self.counts.grow(self.len);
            self.counts.fold(at, &other.counts, range);
        }
    }

    fn retract(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let other = same::<Self>(other);
        if !other.none() {
            self.counts.retract(at, &other.counts, range);
        }
    }

    fn reset(&mut self, at: &[u32]) {
        if !self.none() {
            self.counts.reset(at);
        }
    }

    fn settle(&mut self) {
        self.counts.settle();
    }

    fn bytes(&self) -> usize {
        self.counts.bytes()
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        put_one(!self.none() as u8, out);
        if !self.none() {
            self.counts.save(cells, out);
        }
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        let before = self.len;
        self.len += cells;
        if from.word::<u8>()? != 0 {
            self.counts.grow(before);
            return self.counts.load(cells, from);
        }
        if !self.none() {
            self.counts.grow(self.len);
        }
        Some(())
    }
}
