//! `var` and `stddev` (of the sample, n − 1): number, mean and sum of squared deviations, joined pairwise.
//!
//! They slide by suffix folds: after 1e300, a NaN or an infinity has left the window nothing of it remains, and values
//! that are large against their spread lose nothing to cancellation.
//!
//! Source: Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).

use super::{Column, Sliding, column_basics, same, same_mut};
use crate::Result;
use crate::core::suffix;
use crate::core::words::{Bytes, put};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{Array, ArrayRef};
use std::ops::Range;

/// The values of one state.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(crate) struct Moment {
    n: f64,
    mean: f64,
    /// Squared deviations from the mean, summed.
    squares: f64,
}

impl Moment {
    #[inline]
    fn push(&mut self, value: f64) {
        self.n += 1.0;
        let off = value - self.mean;
        self.mean += off / self.n;
        self.squares += off * (value - self.mean);
    }

    #[inline]
    fn join(a: Moment, b: Moment) -> Moment {
        if a.n == 0.0 || b.n == 0.0 {
            return if a.n == 0.0 { b } else { a };
        }
        let (n, off) = (a.n + b.n, b.mean - a.mean);
        let mean = a.mean + off * (b.n / n);
        Moment { n, mean, squares: a.squares + b.squares + off * off * (a.n * b.n / n) }
    }

    /// The variance of the sample; of fewer than two values there is none.
    pub(crate) fn variance(&self) -> Option<f64> {
        (self.n >= 2.0).then(|| self.squares / (self.n - 1.0))
    }
}

/// The moments of a `Float64` column per state.
#[derive(Debug, Default)]
pub(crate) struct Moments(Vec<Moment>);

impl Moments {
    /// The moment of state `at` of `a`, followed by that of `b`.
    #[inline]
    pub(crate) fn of(a: &Self, b: Option<&Self>, at: usize) -> Moment {
        b.map_or(a.0[at], |b| Moment::join(a.0[at], b.0[at]))
    }
}

impl Column for Moments {
    column_basics!(|_: &Moments| Moments::default());

    fn sliding(&self) -> Sliding {
        Sliding::Suffix
    }

    fn grow(&mut self, len: usize) {
        self.0.resize(len.max(self.0.len()), Moment::default());
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        let column = inputs[0].as_primitive::<Float64Type>();
        let nulls = column.nulls().filter(|n| n.null_count() > 0);
        for (i, (at, value)) in at.iter().zip(column.values()).enumerate() {
            if nulls.is_none_or(|n| n.is_valid(i)) {
                self.0[*at as usize].push(*value);
            }
        }
        Ok(())
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        for (at, later) in at.iter().zip(&same::<Self>(other).0[range]) {
            let state = &mut self.0[*at as usize];
            *state = Moment::join(*state, *later);
        }
    }

    fn reset(&mut self, at: &[u32]) {
        at.iter().for_each(|at| self.0[*at as usize] = Moment::default());
    }

    fn turn(&mut self, ids: &[u32], range: Range<usize>, suffix: &mut dyn Column) {
        suffix::turn(ids, &mut self.0[range], &mut same_mut::<Self>(suffix).0, Moment::join);
    }

    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        for (at, state) in at.iter().zip(&same::<Self>(other).0[range]) {
            self.0[*at as usize] = *state;
        }
    }

    fn settle(&mut self) {
        self.0.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Moment>()
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        for range in cells {
            let words: Vec<f64> = self.0[range.clone()].iter().flat_map(|m| [m.n, m.mean, m.squares]).collect();
            put(&words, out);
        }
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        let words: Vec<f64> = from.words(cells.checked_mul(3)?)?;
        self.0.extend(words.chunks_exact(3).map(|m| Moment { n: m[0], mean: m[1], squares: m[2] }));
        Some(())
    }
}
