//! `min` and `max` of everything of fixed width, as the least or greatest of 64-bit words.
//!
//! Floats are mapped to integers that order as SEMANTICS §3 orders them: −0 before 0, NaN (all of them one) after
//! every number. So one loop over `i64` serves integers, floats, booleans, dates and times. A state without a value
//! holds the identity; the caller knows from the null count that there is none.

use super::{Column, Sliding, column_basics, same, same_mut};
use crate::Result;
use crate::core::suffix;
use crate::core::words::{Bytes, put_packed};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, Int64Array};
use std::ops::Range;
use std::sync::Arc;

/// The word of a float that orders among its like.
#[inline]
pub(crate) fn to_ordered_float(value: f64) -> i64 {
    let bits = if value.is_nan() { f64::NAN.to_bits() & !(1 << 63) } else { value.to_bits() } as i64;
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// The float of a word made by [`to_ordered_float`].
#[inline]
pub(crate) fn from_ordered_float(word: i64) -> f64 {
    f64::from_bits((word ^ (((word >> 63) as u64) >> 1) as i64) as u64)
}

/// A `Float64` column as words that order among their like.
pub(crate) fn ordered_floats(column: &ArrayRef) -> ArrayRef {
    let words: Int64Array = column.as_primitive::<Float64Type>().unary(to_ordered_float);
    Arc::new(words)
}

/// The least (`MIN`) or greatest word per state. Inputs are `Int64`, floats by [`ordered_floats`].
#[derive(Debug, Default)]
pub(crate) struct Extreme<const MIN: bool>(Vec<i64>);

impl<const MIN: bool> Extreme<MIN> {
    const IDENTITY: i64 = if MIN { i64::MAX } else { i64::MIN };

    #[inline]
    fn pick(a: i64, b: i64) -> i64 {
        if MIN { a.min(b) } else { a.max(b) }
    }

    /// The extreme of two states.
    #[inline]
    pub(crate) fn of(a: &Self, b: Option<&Self>, at: usize) -> i64 {
        b.map_or(a.0[at], |b| Self::pick(a.0[at], b.0[at]))
    }

    #[inline]
    fn take(&mut self, at: &[u32], words: impl Iterator<Item = i64>) {
        for (at, word) in at.iter().zip(words) {
            let state = &mut self.0[*at as usize];
            *state = Self::pick(*state, word);
        }
    }
}

impl<const MIN: bool> Column for Extreme<MIN> {
    column_basics!(|_: &Self| Self::default());

    fn sliding(&self) -> Sliding {
        Sliding::Suffix
    }

    fn grow(&mut self, len: usize) {
        if len > self.0.len() {
            self.0.resize(len, Self::IDENTITY);
        }
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        let column = inputs[0].as_primitive::<Int64Type>();
        match column.nulls().filter(|n| n.null_count() > 0) {
            None => self.take(at, column.values().iter().copied()),
            Some(nulls) => {
                let word = |(i, v): (usize, &i64)| if nulls.is_valid(i) { *v } else { Self::IDENTITY };
                self.take(at, column.values().iter().enumerate().map(word));
            }
        }
        Ok(())
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        self.take(at, same::<Self>(other).0[range].iter().copied());
    }

    fn reset(&mut self, at: &[u32]) {
        at.iter().for_each(|at| self.0[*at as usize] = Self::IDENTITY);
    }

    fn turn(&mut self, ids: &[u32], range: Range<usize>, suffix: &mut dyn Column) {
        suffix::turn(ids, &mut self.0[range], &mut same_mut::<Self>(suffix).0, Self::pick);
    }

    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        for (at, word) in at.iter().zip(&same::<Self>(other).0[range]) {
            self.0[*at as usize] = *word;
        }
    }

    fn settle(&mut self) {
        self.0.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * 8
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        let parts: Vec<&[i64]> = cells.iter().map(|range| &self.0[range.clone()]).collect();
        put_packed(&parts, out);
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        from.packed(cells, &mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_order_as_the_semantics_say() {
        let ascending = [f64::NEG_INFINITY, -1e300, -1.0, -0.0, 0.0, f64::MIN_POSITIVE, 1.0, f64::INFINITY, f64::NAN];
        let words: Vec<i64> = ascending.iter().map(|v| to_ordered_float(*v)).collect();
        assert!(words.is_sorted_by(|a, b| a < b));
        for (v, w) in ascending.iter().zip(&words) {
            assert!(from_ordered_float(*w).to_bits() == v.to_bits() || v.is_nan());
        }
        assert_eq!(to_ordered_float(-f64::NAN), to_ordered_float(f64::NAN));
    }
}
