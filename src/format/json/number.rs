//! Number tokens to `i64` and `f64`, exactly: integers by the word, floats by one division where that is exactly
//! rounded, and by `fast-float2` otherwise.
//!
//! The scanner has checked the grammar, so these functions only ever see JSON numbers. A few nanoseconds each.

use super::lanes;

/// What a number is as an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whole {
    /// It is this one.
    Fits(i64),
    /// It is an integer outside `i64`.
    TooLarge,
    /// It has a fraction.
    Fraction,
}

/// Powers of ten that a double holds exactly and that the fast path needs.
const POWERS: [f64; 8] = [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7];

/// The value of one to eight digits at `at`; `None` if there are none, or more, or the data ends too soon to tell.
#[inline(always)]
fn short(data: &[u8], at: usize, n: usize) -> Option<u64> {
    match data.get(at..).and_then(|d| d.first_chunk::<8>()) {
        Some(chunk) if (1..=8).contains(&n) => Some(lanes::digits_value(*chunk, n)),
        _ => None,
    }
}

/// The integer token `start..end` of `data`; `None` outside `i64`.
#[inline(always)]
pub(super) fn integer(data: &[u8], start: usize, end: usize) -> Option<i64> {
    let negative = data[start] == b'-';
    let first = start + usize::from(negative);
    match short(data, first, end - first) {
        Some(value) => Some(if negative { -(value as i64) } else { value as i64 }),
        None => long_integer(&data[first..end], negative),
    }
}

/// Any run of digits, with its sign.
fn long_integer(digits: &[u8], negative: bool) -> Option<i64> {
    digits.iter().try_fold(0i64, |value, &digit| {
        let digit = i64::from(digit - b'0');
        value.checked_mul(10)?.checked_add(if negative { -digit } else { digit })
    })
}

/// The number token `text`, which has a fraction or an exponent, as an integer.
pub(super) fn whole(text: &[u8]) -> Whole {
    let negative = text.first() == Some(&b'-');
    let text = &text[usize::from(negative)..];
    let (mantissa, exponent) = match text.iter().position(|b| matches!(b, b'e' | b'E')) {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &b"0"[..]),
    };
    let fraction = mantissa.iter().position(|&b| b == b'.').map_or(0, |dot| mantissa.len() - dot - 1);
    let digits = || mantissa.iter().copied().filter(|&b| b != b'.');
    let Some(leading) = digits().position(|b| b != b'0') else { return Whole::Fits(0) };
    let zeros = digits().rev().take_while(|&b| b == b'0').count() as i64;
    // The value is (its digits) * 10^scale. An exponent beyond i64 decides alone, by its sign.
    let down = exponent.first() == Some(&b'-');
    let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
    let Some(exponent) = long_integer(exponent, down) else {
        return if down { Whole::Fraction } else { Whole::TooLarge };
    };
    let scale = exponent.saturating_sub(fraction as i64);
    if scale.saturating_add(zeros) < 0 {
        return Whole::Fraction;
    }
    let significant = (digits().count() - leading) as i64;
    if significant.saturating_add(scale) > 19 {
        return Whole::TooLarge;
    }
    let cut = digits().count() - (-scale).max(0) as usize;
    let value = digits().skip(leading).take(cut - leading.min(cut)).try_fold(0i64, |value, digit| {
        let digit = i64::from(digit - b'0');
        value.checked_mul(10)?.checked_add(if negative { -digit } else { digit })
    });
    let value = value.and_then(|v| (0..scale.max(0)).try_fold(v, |v, _| v.checked_mul(10)));
    value.map_or(Whole::TooLarge, Whole::Fits)
}

/// The number token `start..end` of `data`, exactly rounded; `None` beyond the largest double.
#[inline(always)]
pub(in crate::format) fn float(data: &[u8], start: usize, end: usize) -> Option<f64> {
    let negative = data[start] == b'-';
    let first = start + usize::from(negative);
    let sign = if negative { -1.0 } else { 1.0 };
    let whole = lanes::digits(data, first);
    if let Some(value) = short(data, first, whole) {
        if first + whole == end {
            return Some(sign * value as f64);
        }
        let point = first + whole + 1;
        // At most 8 + 7 digits: the mantissa and the power are exact, so that one division rounds correctly.
        let fraction = end.wrapping_sub(point);
        if data.get(point - 1) == Some(&b'.')
            && (1..=7).contains(&fraction)
            && lanes::digits(data, point) == fraction
            && let Some(low) = short(data, point, fraction)
        {
            let power = POWERS[fraction];
            return Some(sign * ((value as f64 * power + low as f64) / power));
        }
    }
    fast_float2::parse::<f64, _>(&data[start..end]).ok().filter(|v| v.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integral_floats() {
        use Whole::{Fits, Fraction, TooLarge};
        for (text, expected) in [
            ("3.0", Fits(3)),
            ("-3.000", Fits(-3)),
            ("1e3", Fits(1000)),
            ("1.5e1", Fits(15)),
            ("1500e-2", Fits(15)),
            ("3.5", Fraction),
            ("1e-3", Fraction),
            ("15e-2", Fraction),
            ("0.0", Fits(0)),
            ("-0e-999999999999999999999", Fits(0)),
            ("1e999999999999999999999", TooLarge),
            ("1e-999999999999999999999", Fraction),
            ("9223372036854775807.0", Fits(i64::MAX)),
            ("-9223372036854775808.0", Fits(i64::MIN)),
            ("9223372036854775808.0", TooLarge),
            ("0.00000000000000000000000000012e29", Fits(12)),
            ("120000000000000000000000000000e-28", Fits(12)),
            ("1e18", Fits(1_000_000_000_000_000_000)),
            ("1e19", TooLarge),
        ] {
            assert_eq!(whole(text.as_bytes()), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_agree_with_std(value: i64, digits in "-?(0|[1-9][0-9]{0,20})", tail in "[,}0]?.{0,9}") {
            for token in [value.to_string(), (value % 1_000_000).to_string(), digits] {
                // The bytes after a token must not matter.
                let text = format!("{token},{tail}");
                prop_assert_eq!(integer(text.as_bytes(), 0, token.len()), token.parse().ok());
            }
        }

        #[test]
        fn floats_agree_with_std(digits in "-?(0|[1-9][0-9]{0,9})([.][0-9]{1,9})?([eE][+-]?[0-9]{1,3})?", tail in "[0-9]{0,9}") {
            let text = format!("{digits},{tail}");
            let expected: f64 = digits.parse().unwrap();
            let got = float(text.as_bytes(), 0, digits.len());
            prop_assert_eq!(got.map(f64::to_bits), Some(expected).filter(|v| v.is_finite()).map(f64::to_bits));
        }

        #[test]
        fn whole_agrees_with_wide_integers(digits in 0i64..100_000, point in 0usize..5, exponent in -6i32..6) {
            let text = format!("{digits:05}");
            let (a, b) = text.split_at(point + 1);
            let a = a.trim_start_matches('0');
            let (a, b) = (if a.is_empty() { "0" } else { a }, if b.is_empty() { "0" } else { b });
            let scale = exponent - b.len() as i32 + 6 + 5;
            let scaled = format!("{a}{b}").parse::<i128>().unwrap() * 10i128.pow(scale as u32);
            let unit = 10i128.pow(11);
            let expected = if scaled % unit == 0 { Whole::Fits((scaled / unit) as i64) } else { Whole::Fraction };
            prop_assert_eq!(whole(format!("{a}.{b}e{exponent}").as_bytes()), expected);
        }
    }
}
