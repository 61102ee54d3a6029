//! Floats that are short decimals, as the whole numbers that they stand for.
//!
//! Prices, seconds and shares mostly have few digits behind the point. As floats they differ in all their bytes and no
//! compression finds anything in them; as whole numbers of the last digit they are small, and travel
//! [packed](super::words::put_packed).
//!
//! ```text
//! digits behind the point, 0 to 6 (u8); the whole numbers, signs in the lowest bit, packed
//! 255 (u8), where one of them is not the same to the bit again; the floats as they lie in memory
//! ```
//!
//! Cost: about 2 ns a float in, 1 ns out.

use super::words::{Bytes, put, put_one, put_packed};

/// What a whole number of each number of digits is divided by.
const SCALES: [f64; 7] = [1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6];

/// In place of the digits, before floats as they are.
const AS_THEY_ARE: u8 = 255;

/// Whole numbers are less than this.
const LIMIT: f64 = (1u64 << 50) as f64;

/// Added to a float of less than [`LIMIT`], the lowest bits of the sum are those of its nearest whole number.
const SHIFT: f64 = (3u64 << 51) as f64;

/// Floats that are looked at to learn the digits.
const LOOK: usize = if cfg!(test) { 2 } else { 8 };

/// Appends the floats of all `parts`.
pub fn put_decimals(parts: &[&[f64]], out: &mut Vec<u8>) {
    match whole_numbers(parts) {
        Some((digits, numbers)) => {
            put_one(digits as u8, out);
            put_packed(&[&numbers], out);
        }
        None => {
            put_one(AS_THEY_ARE, out);
            parts.iter().for_each(|part| put(part, out));
        }
    }
}

/// The floats as whole numbers, with the digits behind the point, if they are such.
fn whole_numbers(parts: &[&[f64]]) -> Option<(usize, Vec<u64>)> {
    let look = parts.iter().copied().flatten().take(LOOK);
    let digits = (0..SCALES.len()).find(|digits| look.clone().all(|value| whole(*value, SCALES[*digits]).1))?;
    let mut numbers = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for some in parts.iter().flat_map(|part| part.chunks(64)) {
        let mut all = true;
        numbers.extend(some.iter().map(|value| {
            let (number, same) = whole(*value, SCALES[digits]);
            all &= same;
            (number << 1 ^ number >> 63) as u64
        }));
        if !all {
            return None;
        }
    }
    Some((digits, numbers))
}

/// The nearest whole number to a float times `scale`, and whether that divided by `scale` is the float to the bit.
#[inline]
fn whole(value: f64, scale: f64) -> (i64, bool) {
    let shifted = value * scale + SHIFT;
    let number = (shifted.to_bits() as i64).wrapping_sub(SHIFT.to_bits() as i64);
    let again = (shifted - SHIFT) / scale;
    (number, (again.to_bits() == value.to_bits()) & ((value * scale).abs() < LIMIT))
}

impl Bytes<'_> {
    /// Appends the next `count` floats, put by [`put_decimals`], to `out`.
    #[inline]
    pub fn decimals(&mut self, count: usize, out: &mut Vec<f64>) -> Option<()> {
        let digits = self.word::<u8>()?;
        if digits == AS_THEY_ARE {
            let floats = self.take(count.checked_mul(8)?)?.chunks_exact(8);
            out.extend(floats.map(bytemuck::pod_read_unaligned::<f64>));
            return Some(());
        }
        let scale = *SCALES.get(usize::from(digits))?;
        self.packed_as(count, out, |n: u64| ((n >> 1) as i64 ^ -((n & 1) as i64)) as f64 / scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn travel(values: &[f64], cut: usize) -> usize {
        let mut out = Vec::new();
        put_decimals(&[&values[..cut], &[], &values[cut..]], &mut out);
        let len = out.len();
        assert!(len <= 10 + 8 * values.len());
        out.push(7);
        let (mut bytes, mut again) = (Bytes(&out), Vec::new());
        bytes.decimals(values.len(), &mut again).unwrap();
        assert!(again.iter().zip(values).all(|(a, b)| a.to_bits() == b.to_bits()), "{again:?} {values:?}");
        assert_eq!((again.len(), bytes.0), (values.len(), &[7u8][..]));
        assert!(Bytes(&out[..len - 1]).decimals(values.len(), &mut Vec::new()).is_none_or(|()| values.is_empty()));
        len
    }

    proptest! {
        #[test]
        fn floats_are_the_same_again(
            numbers in prop::collection::vec(prop_oneof![-1000i64..1000, any::<i64>()], 0..40),
            odd in prop::collection::vec((any::<prop::sample::Index>(), any::<u64>()), 0..2),
            (digits, cut) in (0i32..9, 0usize..40),
        ) {
            let mut values: Vec<f64> = numbers.iter().map(|n| *n as f64 / 10f64.powi(digits)).collect();
            for (at, bits) in odd {
                if !values.is_empty() {
                    let at = at.index(values.len());
                    values[at] = f64::from_bits(bits);
                }
            }
            travel(&values, cut.min(values.len()));
        }

        #[test]
        fn any_bytes_are_floats_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40), count in 0usize..20) {
            for count in [count, usize::MAX] {
                let mut found = Vec::new();
                assert!(Bytes(&bytes).decimals(count, &mut found).is_none_or(|()| found.len() == count));
            }
        }
    }

    #[test]
    fn what_is_no_short_decimal_travels_as_it_is() {
        for odd in
            [-0.0, f64::NAN, -f64::NAN, f64::INFINITY, 1e300, 1e-9, 0.1 + 0.2, LIMIT, -2.0 * LIMIT, f64::MIN_POSITIVE]
        {
            for at in 0..3 {
                let mut values = [0.25, -3.0, 7.5];
                values[at] = odd;
                assert_eq!(travel(&values, 0), 1 + 3 * 8, "{odd}");
            }
        }
    }

    #[test]
    fn short_decimals_take_few_bytes() {
        assert_eq!(travel(&[12.34, -99.99, 0.0], 0), 1 + 9 + 3 * 2);
        assert_eq!(travel(&[LIMIT - 1.0, 1.0 - LIMIT, 5.0], 0), 1 + 9 + 3 * 7);
    }
}
