//! Stand-in for `TimeFormat::parse_bytes` until it lands: `2024-01-01T00:00:00Z` with an optional fraction.

use crate::time::TimeFormat;

fn two(text: &[u8], at: usize) -> Option<i64> {
    let tens = char::from(*text.get(at)?).to_digit(10)?;
    let ones = char::from(*text.get(at + 1)?).to_digit(10)?;
    Some(i64::from(tens * 10 + ones))
}

/// Microseconds since the epoch.
pub(super) fn parse(_format: &TimeFormat, text: &[u8]) -> Option<i64> {
    if text.len() < 20 || !text.ends_with(b"Z") {
        return None;
    }
    let year = two(text, 0)? * 100 + two(text, 2)?;
    let (month, day) = (two(text, 5)?, two(text, 8)?);
    let (hour, minute, second) = (two(text, 11)?, two(text, 14)?, two(text, 17)?);
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let mut micros = 0;
    let mut unit = 100_000;
    for &b in text[19..text.len() - 1].iter().skip(1) {
        micros += i64::from(char::from(b).to_digit(10)?) * unit;
        unit /= 10;
    }
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + micros)
}
