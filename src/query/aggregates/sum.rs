//! Sums: exact ones of integers, which have an inverse, and those of floats, which have none that forgets.
//!
//! Integer sums are kept in 64 bits and widen to 128 before they could overflow. Float sums slide by suffix folds:
//! after 1e300, a NaN or an infinity has left the window nothing of it remains.

use super::{Column, Sliding, column_basics, same, same_mut};
use crate::Result;
use crate::core::counts::{Sums, magnitude_bound};
use crate::core::decimals::put_decimals;
use crate::core::suffix;
use crate::core::words::Bytes;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef};
use std::ops::Range;

/// So many rows for each cell mean that there are few, as in queries without keys.
const FEW_CELLS: usize = if cfg!(test) { 4 } else { 64 };

/// `sum` of an `Int64` column.
#[derive(Debug, Default)]
pub(crate) struct IntSum(Sums);

impl IntSum {
    /// The sum in state `at`.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> i128 {
        self.0.get(at)
    }
}

impl Column for IntSum {
    column_basics!(|_: &IntSum| IntSum::default());

    fn sliding(&self) -> Sliding {
        Sliding::Inverse
    }

    fn grow(&mut self, len: usize) {
        self.0.grow(len);
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        let column = inputs[0].as_primitive::<Int64Type>();
        let values = column.values();
        // Values under a null are arbitrary: they neither count for the bound nor are they added.
        match column.nulls().filter(|n| n.null_count() > 0) {
            None => {
                let greatest = magnitude_bound(values.iter().copied());
                if self.0.len() * FEW_CELLS <= at.len() {
                    self.0.add_runs(at, greatest, values);
                } else {
                    self.0.add(at, greatest, |i| values[i]);
                }
            }
            Some(nulls) => {
                let value = |i: usize| if nulls.is_valid(i) { values[i] } else { 0 };
                let greatest = magnitude_bound((0..values.len()).map(value));
                self.0.add(at, greatest, value);
            }
        }
        Ok(())
    }

    fn admit(&mut self, other: &dyn Column) {
        self.0.admit(&same::<Self>(other).0);
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        self.0.fold(at, &same::<Self>(other).0, range);
    }

    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        self.0.store(at, &same::<Self>(other).0, range);
    }

    fn retract(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        self.0.retract(at, &same::<Self>(other).0, range);
    }

    fn reset(&mut self, at: &[u32]) {
        self.0.reset(at);
    }

    fn settle(&mut self) {
        self.0.settle();
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        self.0.save(cells, out);
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        self.0.load(cells, from)
    }
}

/// `sum` of a `Float64` column.
#[derive(Debug, Default)]
pub(crate) struct FloatSum(Vec<f64>);

impl FloatSum {
    /// The sum in state `at`.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> f64 {
        self.0[at]
    }
}

impl Column for FloatSum {
    column_basics!(|_: &FloatSum| FloatSum::default());

    fn sliding(&self) -> Sliding {
        Sliding::Suffix
    }

    fn grow(&mut self, len: usize) {
        if len > self.0.len() {
            self.0.resize(len, 0.0);
        }
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        let column = inputs[0].as_primitive::<Float64Type>();
        match column.nulls().filter(|n| n.null_count() > 0) {
            None if !at.is_empty() && self.0.len() * FEW_CELLS <= at.len() => {
                // Neighbours mostly share a cell: a sum in a register does not wait for the one before to be stored.
                let mut last = at[0] as usize;
                let mut sum = self.0[last];
                for (at, v) in at.iter().zip(column.values()) {
                    if *at as usize != last {
                        self.0[last] = sum;
                        last = *at as usize;
                        sum = self.0[last];
                    }
                    sum += v;
                }
                self.0[last] = sum;
            }
            None => {
                for (at, v) in at.iter().zip(column.values()) {
                    self.0[*at as usize] += v;
                }
            }
            Some(nulls) => {
                for (i, (at, v)) in at.iter().zip(column.values()).enumerate() {
                    if nulls.is_valid(i) {
                        self.0[*at as usize] += v;
                    }
                }
            }
        }
        Ok(())
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        for (at, v) in at.iter().zip(&same::<Self>(other).0[range]) {
            self.0[*at as usize] += v;
        }
    }

    fn reset(&mut self, at: &[u32]) {
        at.iter().for_each(|at| self.0[*at as usize] = 0.0);
    }

    fn turn(&mut self, ids: &[u32], range: Range<usize>, suffix: &mut dyn Column) {
        suffix::turn(ids, &mut self.0[range], &mut same_mut::<Self>(suffix).0, |a, b| a + b);
    }

    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        for (at, v) in at.iter().zip(&same::<Self>(other).0[range]) {
            self.0[*at as usize] = *v;
        }
    }

    fn settle(&mut self) {
        self.0.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * 8
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        let parts: Vec<&[f64]> = cells.iter().map(|range| &self.0[range.clone()]).collect();
        put_decimals(&parts, out);
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        from.decimals(cells, &mut self.0)
    }
}
