//! Quantiles: how many values of a cell lie in which bucket, and the histograms of a window's groups.
//!
//! One state serves every quantile of a column. A cell's words are buckets with counts, four bytes each; a
//! bucket with more values than a count holds has several words. Counts of buckets are exact, so they slide by subtraction.

use super::bags::{Bags, Join};
use super::buckets::{self, Histogram, word_of};
use super::{Column, Sliding, column_basics, same};
use crate::Result;
use crate::core::words::Bytes;
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef};
use std::ops::Range;

/// Words of buckets and counts.
pub(crate) struct Counted;

impl Join for Counted {
    #[inline]
    fn join(a: u32, b: u32) -> Option<u32> {
        buckets::join(a, b)
    }
}

/// The bucket counts of cells.
#[derive(Default)]
pub(crate) struct Quantiles(Bags<Counted>);

impl Column for Quantiles {
    column_basics!(|_: &Quantiles| Quantiles::default());

    fn table(&self) -> Box<dyn Column> {
        Box::<QuantileTable>::default()
    }

    fn sliding(&self) -> Sliding {
        Sliding::Inverse
    }

    fn grow(&mut self, len: usize) {
        self.0.grow(len);
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        let column = inputs[0].as_primitive::<Float64Type>();
        let nulls = column.nulls().filter(|n| n.null_count() > 0);
        for (i, (at, value)) in at.iter().zip(column.values()).enumerate() {
            if nulls.is_none_or(|n| n.is_valid(i)) {
                self.0.push(*at, word_of(*value));
            }
        }
        Ok(())
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        self.0.fold(at, &same::<Self>(other).0, range);
    }

    fn join_unread(&mut self, at: u32, from: u32) -> bool {
        self.0.join(at, from);
        true
    }

    fn reset(&mut self, _at: &[u32]) {
        unreachable!("cells are not reset")
    }

    fn seal(&mut self) {
        self.0.seal();
    }

    fn settle(&mut self) {
        self.0.seal();
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        self.0.save(cells, out, |word| word);
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        self.0.load(cells, from, Some)
    }
}

/// The histograms of a window's groups.
#[derive(Default)]
pub(crate) struct QuantileTable {
    groups: Vec<Histogram>,
    heap: usize,
}

impl QuantileTable {
    /// The histogram of group `at`.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> &Histogram {
        &self.groups[at]
    }

    fn change(&mut self, group: u32, change: impl FnOnce(&mut Histogram)) {
        let histogram = &mut self.groups[group as usize];
        let before = histogram.heap();
        change(histogram);
        self.heap = self.heap + histogram.heap() - before;
    }
}

impl Column for QuantileTable {
    column_basics!(|_: &QuantileTable| QuantileTable::default());

    fn sliding(&self) -> Sliding {
        Sliding::Inverse
    }

    fn grow(&mut self, len: usize) {
        self.groups.resize_with(len.max(self.groups.len()), Histogram::default);
    }

    fn update(&mut self, _at: &[u32], _inputs: &[ArrayRef]) -> Result<()> {
        unreachable!("records are folded into cells")
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let cells = &same::<Quantiles>(other).0;
        for (group, cell) in at.iter().zip(range) {
            self.change(*group, |histogram| histogram.add(cells.get(cell)));
        }
    }

    fn retract(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let cells = &same::<Quantiles>(other).0;
        for (group, cell) in at.iter().zip(range) {
            self.change(*group, |histogram| histogram.remove(cells.get(cell)));
        }
    }

    fn reset(&mut self, at: &[u32]) {
        at.iter().for_each(|group| self.change(*group, Histogram::clear));
    }

    fn settle(&mut self) {}

    fn bytes(&self) -> usize {
        self.groups.capacity() * size_of::<Histogram>() + self.heap
    }
}
