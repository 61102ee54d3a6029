//! `approx_distinct(x)`: how many of a fixed set of coupons the values have drawn.
//!
//! The hash of a value draws a coupon: one of 2,048 columns evenly, and in it level `l` with probability 2⁻ˡ. Equal
//! values draw the same one, so the *number* of coupons drawn grows with the number of distinct values, and its
//! expectation, turned around, estimates them: standard error 0.7 / √2048 = 1.5 %, and nearly exact for small counts,
//! which hardly ever draw one coupon twice. Unlike the maxima of HyperLogLog a set of coupons can be taken back: it
//! slides as `distinct` does, in [`super::distinct::SetTable`].
//!
//! Memory: 4 bytes a coupon, at most one for each value, about 2,048 × (1 + log₂(n / 2048)) for many.
//!
//! Source: Flajolet and Martin's bit maps ("Probabilistic counting", 1985) with the estimator of Lang, "Back to the
//! future: an even more nearly optimal cardinality estimation algorithm" (2017), section 4.

use super::bags::{Bags, Set};
use super::distinct::SetTable;
use super::{Column, Sliding, column_basics, same};
use crate::Result;
use crate::core::words::Bytes;
use crate::hash::NULL_HASH;
use crate::query::keys::{ByteRows, KeyBatch, WordRows};
use crate::query::text::is_text;
use arrow_array::ArrayRef;
use std::ops::Range;
use std::sync::OnceLock;

const COLUMN_BITS: u32 = 11;
const COLUMNS: f64 = (1u32 << COLUMN_BITS) as f64;
/// Rarer levels are one.
const LEVELS: u32 = 64 - COLUMN_BITS;

/// The coupons of cells.
#[derive(Default)]
pub(crate) struct Coupons(Bags<Set>);

impl Coupons {
    /// The coupons of each cell.
    pub(crate) fn sets(&self) -> &Bags<Set> {
        &self.0
    }
}

/// The coupon that a value of this hash draws.
#[inline]
pub(crate) fn coupon(hash: u64) -> u32 {
    let level = (hash | 1 << (LEVELS - 1)).trailing_zeros();
    ((hash >> LEVELS) as u32) << 6 | level
}

impl Column for Coupons {
    column_basics!(|_: &Coupons| Coupons::default());

    fn table(&self) -> Box<dyn Column> {
        Box::<SetTable>::default()
    }

    fn sliding(&self) -> Sliding {
        Sliding::Inverse
    }

    fn grow(&mut self, len: usize) {
        self.0.grow(len);
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        let mut hashes = Vec::with_capacity(at.len());
        if is_text(inputs[0].data_type()) {
            ByteRows::default().extend(&inputs[..1], at.len(), &mut hashes)?;
        } else {
            WordRows::default().extend(&inputs[..1], at.len(), &mut hashes)?;
        }
        for (at, hash) in at.iter().zip(hashes) {
            if hash != NULL_HASH {
                self.0.push(*at, coupon(hash));
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

/// Coupons that `values` distinct values draw on average.
fn expected(values: f64) -> f64 {
    let drawn = |level: u32| -f64::exp_m1(-values * f64::from(level.min(LEVELS - 1)).exp2().recip() / COLUMNS);
    (1..=LEVELS).map(|level| COLUMNS * drawn(level)).sum()
}

/// Steps of the curve by which one doubling is cut.
const STEPS: f64 = 64.0;

/// [`expected`] of 1, 2^(1/64), 2^(2/64), ...
fn curve() -> &'static [f64] {
    static CURVE: OnceLock<Vec<f64>> = OnceLock::new();
    CURVE.get_or_init(|| (0..48 * STEPS as u32).map(|step| expected((f64::from(step) / STEPS).exp2())).collect())
}

/// How many distinct values have probably drawn `coupons`.
pub(crate) fn estimate(coupons: u32) -> i64 {
    let (curve, coupons) = (curve(), f64::from(coupons));
    let above = curve.partition_point(|e| *e < coupons);
    if above == 0 {
        return coupons as i64;
    }
    let (low, high) = (curve[above - 1], curve.get(above).copied().unwrap_or(f64::INFINITY));
    let step = (above - 1) as f64 + (coupons - low) / (high - low);
    (step / STEPS).exp2().round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hash_word;
    use std::collections::HashSet;

    /// Over many sets of each size: no bias, and the error that is stated.
    #[test]
    fn the_error_is_the_stated_one() {
        let mut next = 0u64;
        for values in [1, 2, 10, 100, 1000, 3000, 10_000, 100_000] {
            let rounds = (400_000 / values).clamp(20, 200);
            let (mut bias, mut square, mut worst) = (0.0, 0.0, 0.0f64);
            for _ in 0..rounds {
                let drawn: HashSet<u32> = (0..values).map(|i| coupon(hash_word(next + i))).collect();
                next += values;
                let error = estimate(drawn.len() as u32) as f64 / values as f64 - 1.0;
                bias += error / rounds as f64;
                square += error * error / rounds as f64;
                worst = worst.max(error.abs());
            }
            let error = square.sqrt();
            assert!(error < 0.02, "{values}: {error}");
            assert!(bias.abs() < 0.008, "{values}: {bias}");
            assert!(values > 10 || worst == 0.0, "{values}: {worst}");
        }
        assert_eq!((estimate(0), estimate(1), estimate(2)), (0, 1, 2));
    }
}
