//! Instants and durations: `i64` microseconds since the Unix epoch, UTC, and the ways logs write them.
//!
//! Invariant: an instant that a parser returns lies between [`Timestamp::MIN`] and [`Timestamp::MAX`] (the years 1 to
//! 9999); anything else is no timestamp. Digits are read exactly, never through a float, and digits finer than a
//! microsecond are cut, never rounded. No input panics or overflows.
//!
//! Cost: an access-log time that shares its minute with the one before is two compares and two digits
//! ([`AccessTimes`]); a full parse of any form is a few dozen instructions and allocates nothing.

mod access;
mod civil;
mod duration;
mod parse;
mod zone;

pub use access::AccessTimes;
pub use civil::{civil_from_days, days_from_civil, days_in_month, write_rfc3339};
pub use duration::{format_duration, parse_duration, parse_signed_duration};
pub use zone::{TimePattern, Zone};

use crate::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// Microseconds in a second.
pub const MICROS_PER_SECOND: i64 = 1_000_000;
/// Microseconds in a day.
pub const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// An instant: microseconds since 1970-01-01T00:00:00Z, within the years 1 to 9999.
///
/// ```
/// use windrow::time::Timestamp;
/// let t: Timestamp = "2024-01-01 02:00:30.5+02:00".parse().unwrap();
/// assert_eq!(t.to_string(), "2024-01-01T00:00:30.5Z");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 0001-01-01T00:00:00Z.
    pub const MIN: Timestamp = Timestamp(-62_135_596_800 * MICROS_PER_SECOND);
    /// 9999-12-31T23:59:59.999999Z.
    pub const MAX: Timestamp = Timestamp(253_402_300_800 * MICROS_PER_SECOND - 1);

    /// The instant `micros` after the epoch, if it lies in the years 1 to 9999.
    pub const fn from_micros(micros: i64) -> Option<Timestamp> {
        if micros >= Self::MIN.0 && micros <= Self::MAX.0 { Some(Timestamp(micros)) } else { None }
    }

    /// The instant `micros` after the epoch, or the nearer end of the valid years.
    pub fn saturating_from_micros(micros: i64) -> Timestamp {
        Timestamp(micros.clamp(Self::MIN.0, Self::MAX.0))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = Vec::with_capacity(27);
        write_rfc3339(self.0, &mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

impl std::str::FromStr for Timestamp {
    type Err = Error;

    /// Any form that [`TimeFormat::Auto`] reads, as an option of the command line or a query.
    fn from_str(text: &str) -> Result<Timestamp> {
        TimeFormat::Auto.parse_bytes(text.as_bytes()).map(Timestamp).ok_or_else(|| {
            Error::usage(format!(
                "`{text}` is not a time: write it like 2024-01-31T12:00:00Z or as seconds since the epoch"
            ))
        })
    }
}

/// How a time field is written (`--time-format`).
///
/// ```
/// use windrow::time::TimeFormat;
/// let auto = |text: &str| TimeFormat::Auto.parse_bytes(text.as_bytes());
/// assert_eq!(auto("10/Oct/2000:13:55:36 -0700"), auto("2000-10-10T20:55:36Z"));
/// assert_eq!(auto("1700000000.25"), auto("1700000000250"));
/// assert_eq!(auto("2023-02-30"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TimeFormat {
    /// RFC 3339 / ISO 8601 with or without zone and `T`, access-log time, or an epoch number whose unit follows from its
    /// magnitude: below 1e11 seconds, below 1e14 milliseconds, below 1e17 microseconds, else nanoseconds. Seconds so
    /// read reach to the year 5138; milliseconds before March 1973 need [`TimeFormat::EpochMillis`].
    ///
    /// Also read: `/` between the parts of the date, a comma before the fraction, a space before the zone, zones `Z`,
    /// `UTC`, `+02:00`, `+0200`, `+02`, a time without seconds, a date alone (its midnight). Second 60 is the first
    /// second of the next minute.
    #[default]
    Auto,
    /// Seconds since the epoch, with or without a fraction.
    EpochSeconds,
    /// Milliseconds since the epoch.
    EpochMillis,
    /// Microseconds since the epoch.
    EpochMicros,
    /// Nanoseconds since the epoch; finer digits are cut, never rounded.
    EpochNanos,
    /// As a strftime pattern says.
    Pattern(Arc<TimePattern>),
    /// In one of the other ways, in a zone if the time carries none: [`TimeFormat::in_zone`].
    Zoned(Arc<(TimeFormat, Zone)>),
}

impl std::str::FromStr for TimeFormat {
    type Err = Error;

    /// `auto`, `epoch_s`, `epoch_ms`, `epoch_us`, `epoch_ns`, or a strftime pattern, which has a `%`.
    fn from_str(text: &str) -> Result<TimeFormat> {
        Ok(match text {
            "auto" => TimeFormat::Auto,
            "epoch_s" => TimeFormat::EpochSeconds,
            "epoch_ms" => TimeFormat::EpochMillis,
            "epoch_us" => TimeFormat::EpochMicros,
            "epoch_ns" => TimeFormat::EpochNanos,
            pattern if pattern.contains('%') => TimeFormat::Pattern(Arc::new(pattern.parse()?)),
            _ => {
                return Err(Error::usage(format!(
                    "there is no time format {text:?}: known are auto, epoch_s, epoch_ms, epoch_us, epoch_ns and \
                     strftime patterns such as \"%d.%m.%Y %H:%M:%S\""
                )));
            }
        })
    }
}

/// What a time field says: an instant, or a time of day somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// An instant, microseconds since the epoch, UTC.
    Instant(i64),
    /// A civil time without zone: microseconds since 1970-01-01T00:00:00 of whatever zone it belongs to.
    Local(i64),
}

impl TimeFormat {
    /// The instant that `bytes` names, in microseconds since the epoch; a time without zone is UTC. `None` when the
    /// bytes are not a time of this format, name a day or hour that does not exist, or lie outside the years 1 to 9999.
    pub fn parse_bytes(&self, bytes: &[u8]) -> Option<i64> {
        match self.read_bytes(bytes)? {
            Reading::Instant(micros) | Reading::Local(micros) => Some(micros),
        }
    }

    /// The same, but times that carry no zone are those of `zone`: the earlier one if its clock shows them twice, later by
    /// the gap if it skips them.
    #[must_use]
    pub fn in_zone(self, zone: Zone) -> TimeFormat {
        TimeFormat::Zoned(Arc::new((self, zone)))
    }

    /// Whether times that carry no zone are those of one that was named.
    pub fn has_zone(&self) -> bool {
        matches!(self, TimeFormat::Zoned(_))
    }

    /// The instant at which the clock shows `local`, microseconds since 1970 on it; UTC unless there is a zone.
    pub fn of_local(&self, local: i64) -> Option<i64> {
        match self {
            TimeFormat::Zoned(zoned) => zoned.1.instant(Timestamp::from_micros(local)?.micros()),
            _ => Timestamp::from_micros(local).map(Timestamp::micros),
        }
    }

    /// Whether this is [`TimeFormat::Auto`], in any zone.
    pub fn is_auto(&self) -> bool {
        match self {
            TimeFormat::Auto => true,
            TimeFormat::Zoned(zoned) => zoned.0.is_auto(),
            _ => false,
        }
    }

    /// What `bytes` say, with times that carry no zone told apart, for a caller that knows their zone.
    pub fn read_bytes(&self, bytes: &[u8]) -> Option<Reading> {
        match self {
            TimeFormat::Auto => parse::auto(bytes),
            TimeFormat::EpochSeconds => parse::epoch(bytes, Some(parse::Unit::Seconds)),
            TimeFormat::EpochMillis => parse::epoch(bytes, Some(parse::Unit::Millis)),
            TimeFormat::EpochMicros => parse::epoch(bytes, Some(parse::Unit::Micros)),
            TimeFormat::EpochNanos => parse::epoch(bytes, Some(parse::Unit::Nanos)),
            TimeFormat::Pattern(pattern) => pattern.read(bytes),
            TimeFormat::Zoned(zoned) => match zoned.0.read_bytes(bytes)? {
                Reading::Local(local) => zoned.1.instant(local).map(Reading::Instant),
                instant => Some(instant),
            },
        }
    }

    /// The instant that a whole number names: as [`parse_bytes`](Self::parse_bytes) of its digits.
    pub fn parse_number(&self, number: i64) -> Option<i64> {
        let unit = match self {
            TimeFormat::Auto => parse::Unit::of_magnitude(number.unsigned_abs()),
            TimeFormat::EpochSeconds => parse::Unit::Seconds,
            TimeFormat::EpochMillis => parse::Unit::Millis,
            TimeFormat::EpochMicros => parse::Unit::Micros,
            TimeFormat::EpochNanos => parse::Unit::Nanos,
            TimeFormat::Pattern(_) | TimeFormat::Zoned(_) => {
                return self.parse_bytes(itoa::Buffer::new().format(number).as_bytes());
            }
        };
        parse::whole(number, unit)
    }

    /// The epoch format that [`TimeFormat::Auto`] takes `bytes` for, or `None` when they are no number: what to tell
    /// the user about a guess.
    pub fn of_number(bytes: &[u8]) -> Option<TimeFormat> {
        Some(match parse::unit_of(bytes)? {
            parse::Unit::Seconds => TimeFormat::EpochSeconds,
            parse::Unit::Millis => TimeFormat::EpochMillis,
            parse::Unit::Micros => TimeFormat::EpochMicros,
            parse::Unit::Nanos => TimeFormat::EpochNanos,
        })
    }
}

#[cfg(test)]
mod tests;
