//! Durations as people write them: `30s`, `1h30m`, `3.333s`.
//!
//! Invariant: the result is exact; a duration finer than a microsecond or beyond `i64` is refused, never rounded. Used
//! for options, so what matters is the sentence of an error, not speed.

use crate::{Error, Result};

/// The units, shortest first, in microseconds.
const UNITS: [(&str, i64); 6] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

/// A duration in microseconds, zero or longer: numbers with the units `us ms s m h d`, one after the other.
///
/// ```
/// use windrow::time::parse_duration;
/// assert_eq!(parse_duration("1h30m").unwrap(), 5_400_000_000);
/// assert_eq!(parse_duration("3.333s").unwrap(), 3_333_000);
/// assert!(parse_duration("5").unwrap_err().to_string().contains("unit"));
/// ```
///
/// # Errors
/// A usage error that says what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<i64> {
    if text.trim_start().starts_with('-') {
        return Err(wrong(text, "it must not be negative"));
    }
    total(text, text)
}

/// A duration in microseconds that may be negative: [`parse_duration`] after an optional `-`, which holds for all of it.
///
/// # Errors
/// A usage error that says what is wrong with the text.
pub fn parse_signed_duration(text: &str) -> Result<i64> {
    match text.trim_start().strip_prefix('-') {
        Some(rest) => total(text, rest).map(|micros| -micros),
        None => total(text, text),
    }
}

/// `micros` (zero or more) as [`parse_duration`] reads it: `1h30m`, `3s333ms`.
///
/// ```
/// assert_eq!(windrow::time::format_duration(90_000_000), "1m30s");
/// ```
pub fn format_duration(micros: i64) -> String {
    let (mut rest, mut text) = (micros, String::new());
    for (unit, scale) in UNITS.iter().rev() {
        if rest >= *scale {
            text += &format!("{}{unit}", rest / scale);
            rest %= scale;
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// The sum of the parts of `rest`, the unsigned part of `text`.
fn total(text: &str, rest: &str) -> Result<i64> {
    let mut rest = rest.trim();
    if rest.is_empty() {
        return Err(wrong(text, "it is empty"));
    }
    if rest == "0" {
        return Ok(0);
    }
    let mut sum = 0i64;
    while !rest.is_empty() {
        let number = leading(rest, |c| c.is_ascii_digit() || c == '.');
        rest = &rest[number.len()..];
        let unit = leading(rest, |c| !c.is_ascii_digit() && c != '.' && !c.is_whitespace());
        rest = rest[unit.len()..].trim_start();
        let micros = part(text, number, unit)?;
        sum = sum.checked_add(micros).ok_or_else(|| wrong(text, "it is too long"))?;
    }
    Ok(sum)
}

/// The longest start of `text` whose characters all satisfy `keep`.
fn leading(text: &str, keep: impl Fn(char) -> bool) -> &str {
    &text[..text.find(|c| !keep(c)).unwrap_or(text.len())]
}

/// One number with its unit.
fn part(text: &str, number: &str, unit: &str) -> Result<i64> {
    if number.is_empty() {
        return Err(wrong(text, "a number is missing"));
    }
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(if unit.is_empty() {
            wrong(text, &format!("`{number}` has no unit"))
        } else {
            wrong(text, &format!("`{unit}` is no unit"))
        });
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(wrong(text, &format!("`{number}` is no number")));
    }
    let too_long = || wrong(text, "it is too long");
    let mut micros = whole.parse::<i64>().ok().and_then(|n| n.checked_mul(*scale)).ok_or_else(too_long)?;
    // The fraction of a day has at most 16 digits that reach a microsecond (one millionth of 86,400).
    let fraction = fraction.trim_end_matches('0');
    let finer = || wrong(text, "it is finer than a microsecond");
    if fraction.len() > 16 {
        return Err(finer());
    }
    let below = 10i128.pow(fraction.len() as u32);
    let scaled = fraction.bytes().fold(0, |n, b| n * 10 + i128::from(b - b'0')) * i128::from(*scale);
    if scaled % below != 0 {
        return Err(finer());
    }
    micros = i64::try_from(scaled / below).ok().and_then(|f| micros.checked_add(f)).ok_or_else(too_long)?;
    Ok(micros)
}

fn wrong(text: &str, why: &str) -> Error {
    Error::usage(format!(
        "`{text}` is not a duration: {why}; write it like 30s, 5m or 1h30m, with the units us ms s m h d"
    ))
}
