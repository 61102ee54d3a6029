//! Timestamps out of bytes: ISO 8601, access-log time and epoch numbers.
//!
//! Invariant: what is returned is a real date and hour within the years 1 to 9999, and every byte of the input was used.
//! Cost: one pass over the bytes; no allocation.

use super::civil::{days_from_civil, days_in_month};
use super::{MICROS_PER_DAY, MICROS_PER_SECOND, Reading, Timestamp};

/// What one step of an epoch number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Seconds,
    Millis,
    Micros,
    Nanos,
}

impl Unit {
    /// The unit of a number of this size, see [`super::TimeFormat::Auto`].
    pub(super) fn of_magnitude(whole: u64) -> Unit {
        match whole {
            0..100_000_000_000 => Unit::Seconds,
            100_000_000_000..100_000_000_000_000 => Unit::Millis,
            100_000_000_000_000..100_000_000_000_000_000 => Unit::Micros,
            _ => Unit::Nanos,
        }
    }
}

/// Any form; the third or fifth byte tells the dated ones from a number.
pub(super) fn auto(bytes: &[u8]) -> Option<Reading> {
    match (bytes.get(2), bytes.get(4)) {
        (Some(b'/'), _) => access_log(bytes),
        (_, Some(b'-' | b'/')) => iso(bytes),
        _ => epoch(bytes, None),
    }
}

/// `2024-01-31T12:00:00.5+01:00` and its relatives.
pub(super) fn iso(bytes: &[u8]) -> Option<Reading> {
    let mut at = Cursor(bytes);
    let year = at.number(4)?;
    let dash = at.one_of(b"-/")?;
    let month = at.number(2)?;
    at.one_of(&[dash])?;
    let day = at.number(2)?;
    let days = date(year, month, day)?;
    if at.0.is_empty() {
        return local(days * MICROS_PER_DAY);
    }
    at.one_of(b"Tt ")?;
    clock(at, days)
}

/// `10/Oct/2000:13:55:36 -0700`.
pub(super) fn access_log(bytes: &[u8]) -> Option<Reading> {
    let mut at = Cursor(bytes);
    let day = at.number(2)?;
    at.one_of(b"/")?;
    let month = month(at.0.first_chunk()?)?;
    at.0 = &at.0[3..];
    at.one_of(b"/")?;
    let year = at.number(4)?;
    at.one_of(b":")?;
    clock(at, date(year, month, day)?)
}

/// The number of a month from its English abbreviation, in any case.
fn month(name: &[u8; 3]) -> Option<u32> {
    Some(match &name.map(|b| b | 0x20) {
        b"jan" => 1,
        b"feb" => 2,
        b"mar" => 3,
        b"apr" => 4,
        b"may" => 5,
        b"jun" => 6,
        b"jul" => 7,
        b"aug" => 8,
        b"sep" => 9,
        b"oct" => 10,
        b"nov" => 11,
        b"dec" => 12,
        _ => return None,
    })
}

/// Days since the epoch of a date that exists.
fn date(year: u32, month: u32, day: u32) -> Option<i64> {
    let year = year as i32;
    let exists = year >= 1 && day >= 1 && day <= days_in_month(year, month);
    exists.then(|| days_from_civil(year, month, day))
}

/// `HH:MM[:SS[.fraction]]` and a zone or none, up to the end.
fn clock(mut at: Cursor<'_>, days: i64) -> Option<Reading> {
    let hour = at.number(2)?;
    at.one_of(b":")?;
    let minute = at.number(2)?;
    let mut second = 0;
    let mut fraction = 0;
    if at.one_of(b":").is_some() {
        second = at.number(2)?;
        if at.one_of(b".,").is_some() {
            fraction = at.fraction(6)?;
        }
    }
    // Second 60 is a leap second, counted as the first second of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = i64::from(hour * 3_600 + minute * 60 + second);
    let micros = days * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + fraction;
    if at.0.is_empty() {
        return local(micros);
    }
    let offset = zone(at)?;
    Timestamp::from_micros(micros - offset * MICROS_PER_SECOND).map(|t| Reading::Instant(t.micros()))
}

fn local(micros: i64) -> Option<Reading> {
    Timestamp::from_micros(micros).map(|t| Reading::Local(t.micros()))
}

/// Seconds east of UTC.
fn zone(mut at: Cursor<'_>) -> Option<i64> {
    at.one_of(b" ");
    if matches!(at.0, b"Z" | b"z" | b"UTC" | b"GMT") {
        return Some(0);
    }
    let sign = at.one_of(b"+-")?;
    let hours = at.number(2)?;
    let minutes = if at.0.is_empty() {
        0
    } else {
        at.one_of(b":");
        at.number(2)?
    };
    if hours > 23 || minutes > 59 || !at.0.is_empty() {
        return None;
    }
    let seconds = i64::from(hours * 3_600 + minutes * 60);
    Some(if sign == b'-' { -seconds } else { seconds })
}

/// An epoch number in `unit`, or in the unit of its magnitude.
pub(super) fn epoch(bytes: &[u8], unit: Option<Unit>) -> Option<Reading> {
    let number = Number::read(bytes)?;
    let unit = unit.unwrap_or_else(|| Unit::of_magnitude(number.whole));
    let (scale, digits, cut) = match unit {
        Unit::Seconds => (MICROS_PER_SECOND, 6, 1),
        Unit::Millis => (1_000, 3, 1),
        Unit::Micros => (1, 0, 1),
        Unit::Nanos => (1, 0, 1_000),
    };
    let whole = i64::try_from(number.whole / cut).ok()?;
    let fraction = if number.fraction.is_empty() { 0 } else { Cursor(number.fraction).fraction(digits)? };
    let micros = whole.checked_mul(scale)?.checked_add(fraction)?;
    let micros = if number.negative { -micros } else { micros };
    Timestamp::from_micros(micros).map(|t| Reading::Instant(t.micros()))
}

/// A whole epoch number.
pub(super) fn whole(number: i64, unit: Unit) -> Option<i64> {
    let micros = match unit {
        Unit::Seconds => number.checked_mul(MICROS_PER_SECOND)?,
        Unit::Millis => number.checked_mul(1_000)?,
        Unit::Micros => number,
        Unit::Nanos => number / 1_000,
    };
    Timestamp::from_micros(micros).map(Timestamp::micros)
}

/// The unit that [`auto`] takes a number for.
pub(super) fn unit_of(bytes: &[u8]) -> Option<Unit> {
    Number::read(bytes).map(|number| Unit::of_magnitude(number.whole))
}

/// `-12.5` taken apart: sign, whole part, digits after the point.
struct Number<'a> {
    negative: bool,
    whole: u64,
    fraction: &'a [u8],
}

impl<'a> Number<'a> {
    fn read(bytes: &'a [u8]) -> Option<Number<'a>> {
        let mut at = Cursor(bytes);
        let negative = at.one_of(b"+-") == Some(b'-');
        let digits = at.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (text, rest) = at.0.split_at(digits);
        if text.is_empty() {
            return None;
        }
        let mut whole = 0u64;
        for digit in text {
            whole = whole.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        }
        let fraction = match rest {
            [] => rest,
            [b'.', fraction @ ..] if !fraction.is_empty() => fraction,
            _ => return None,
        };
        fraction.iter().all(u8::is_ascii_digit).then_some(Number { negative, whole, fraction })
    }
}

/// The bytes not yet read.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Exactly `digits` digits.
    #[inline]
    fn number(&mut self, digits: usize) -> Option<u32> {
        let (text, rest) = self.0.split_at_checked(digits)?;
        let mut number = 0;
        for byte in text {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number * 10 + u32::from(digit);
        }
        self.0 = rest;
        Some(number)
    }

    /// The next byte, if it is one of these.
    #[inline]
    fn one_of(&mut self, any: &[u8]) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        if !any.contains(&byte) {
            return None;
        }
        self.0 = rest;
        Some(byte)
    }

    /// One digit or more after the point, read as a number of `digits` digits: finer ones are cut, missing ones zero.
    fn fraction(&mut self, digits: usize) -> Option<i64> {
        let count = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let (text, rest) = self.0.split_at(count);
        if text.is_empty() {
            return None;
        }
        self.0 = rest;
        let digit = |n: usize| text.get(n).map_or(0, |b| i64::from(b - b'0'));
        Some((0..digits).fold(0, |number, n| number * 10 + digit(n)))
    }
}
