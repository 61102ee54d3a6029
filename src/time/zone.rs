//! Time zones and strftime patterns, by `jiff`: what times mean that carry no zone, or are written in a way of their own.
//!
//! A time in a fold, which the clock shows twice, is the earlier one; one in a gap, which it never shows, moves forward by
//! the gap. Cost: a zone's changes up to [`LAST_YEAR`] are a table made once, so that a time costs one binary search in it;
//! a pattern costs what `jiff` takes for it, a few hundred nanoseconds.

use super::{MICROS_PER_DAY, MICROS_PER_SECOND, Reading, Timestamp, civil_from_days, days_from_civil};
use crate::{Error, Result};
use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use std::str::FromStr;
use std::sync::Arc;

/// Changes after this year are looked up in the zone's rules every time.
const LAST_YEAR: i32 = 2100;

/// A time zone.
///
/// ```
/// use windrow::time::{TimeFormat, Zone};
/// let berlin = TimeFormat::Auto.in_zone("Europe/Berlin".parse()?);
/// let utc = |text: &str| TimeFormat::Auto.parse_bytes(text.as_bytes());
/// assert_eq!(berlin.parse_bytes(b"2024-10-27 02:30:00"), utc("2024-10-27T00:30:00Z")); // the earlier of two
/// assert_eq!(berlin.parse_bytes(b"2024-03-31 02:30:00"), utc("2024-03-31T01:30:00Z")); // skipped: half past three
/// assert_eq!(berlin.parse_bytes(b"2024-03-31T02:30:00Z"), utc("2024-03-31T02:30:00Z"));
/// # Ok::<(), windrow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Zone {
    zone: TimeZone,
    /// From which local time on, in microseconds, the zone is how far east of UTC. The first goes back for ever.
    changes: Arc<[(i64, i64)]>,
    /// The local time up to which `changes` holds.
    known: i64,
}

impl PartialEq for Zone {
    fn eq(&self, other: &Zone) -> bool {
        self.zone == other.zone
    }
}

impl Eq for Zone {}

impl FromStr for Zone {
    type Err = Error;

    /// A zone by its name in the IANA database (`Europe/Berlin`), `UTC`, or a fixed distance (`+02:00`).
    fn from_str(name: &str) -> Result<Zone> {
        let unknown =
            || Error::usage(format!("there is no time zone {name:?}: name one such as Europe/Berlin, UTC or +02:00"));
        let zone = match name.as_bytes().first() {
            Some(b'+' | b'-') => {
                let time = super::TimeFormat::Auto.parse_bytes(format!("2000-01-01T00:00:00{name}").as_bytes());
                let east = (946_684_800 * MICROS_PER_SECOND - time.ok_or_else(unknown)?) / MICROS_PER_SECOND;
                TimeZone::fixed(jiff::tz::Offset::from_seconds(east as i32).map_err(|_| unknown())?)
            }
            _ => TimeZone::get(name).map_err(|_| unknown())?,
        };
        let micros = |offset: jiff::tz::Offset| i64::from(offset.seconds()) * MICROS_PER_SECOND;
        let mut changes = vec![(i64::MIN, micros(zone.to_offset(jiff::Timestamp::MIN)))];
        let known = days_from_civil(LAST_YEAR + 1, 1, 1) * MICROS_PER_DAY;
        for change in zone.following(jiff::Timestamp::MIN) {
            let (before, after) = (changes[changes.len() - 1].1, micros(change.offset()));
            let at = change.timestamp().as_microsecond();
            if at > known {
                break;
            }
            // A fold belongs to what was before, a gap too: then it ends later by the clock that comes.
            changes.push((at + before.max(after), after));
        }
        Ok(Zone { zone, changes: changes.into(), known })
    }
}

impl Zone {
    /// The instant at which the zone's clock shows `local`, both in microseconds since 1970.
    pub(super) fn instant(&self, local: i64) -> Option<i64> {
        if local >= self.known {
            return self.by_rule(local);
        }
        let change = self.changes.partition_point(|(from, _)| *from <= local);
        Timestamp::from_micros(local - self.changes[change.saturating_sub(1)].1).map(Timestamp::micros)
    }

    /// The same by the zone's rules.
    fn by_rule(&self, local: i64) -> Option<i64> {
        let (year, month, day) = civil_from_days(local.div_euclid(MICROS_PER_DAY));
        let of_day = local.rem_euclid(MICROS_PER_DAY);
        let seconds = of_day / MICROS_PER_SECOND;
        let nanos = of_day % MICROS_PER_SECOND * 1_000;
        let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
        let [month, day, hour, minute, second] = [month.into(), day.into(), hour, minute, second].map(|n| n as i8);
        let civil = DateTime::new(year as i16, month, day, hour, minute, second, nanos as i32).ok()?;
        let instant = self.zone.to_ambiguous_timestamp(civil).compatible().ok()?;
        Timestamp::from_micros(instant.as_microsecond()).map(Timestamp::micros)
    }
}

/// A way to write times in `strftime`'s letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimePattern(String);

impl FromStr for TimePattern {
    type Err = Error;

    fn from_str(text: &str) -> Result<TimePattern> {
        let pattern = TimePattern(text.to_owned());
        // What it writes of some time must be a time again.
        let wrong = |why: String| Error::usage(format!("the time format {text:?} {why}"));
        let some = jiff::Timestamp::from_second(981_173_106).map_err(|e| wrong(e.to_string()))?;
        let written = strtime::format(text, &some.to_zoned(TimeZone::UTC));
        let written = written.map_err(|e| wrong(format!("is no strftime pattern: {e}")))?;
        if pattern.read(written.as_bytes()).is_none() {
            return Err(wrong("does not say enough: a date has a year, a month and a day".into()));
        }
        Ok(pattern)
    }
}

impl TimePattern {
    /// What `bytes` say.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Reading> {
        let parts = strtime::parse(&self.0, bytes).ok()?;
        let valid = |micros: i64| Timestamp::from_micros(micros).map(Timestamp::micros);
        if let Ok(instant) = parts.to_timestamp() {
            let micros = instant.as_nanosecond().div_euclid(1_000);
            return valid(i64::try_from(micros).ok()?).map(Reading::Instant);
        }
        let date = parts.to_date().ok()?;
        let days = days_from_civil(date.year().into(), date.month() as u32, date.day() as u32);
        let time = parts.to_time().unwrap_or(jiff::civil::Time::midnight());
        let seconds = i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60 + i64::from(time.second());
        let micros = i64::from(time.subsec_nanosecond()) / 1_000;
        valid(days * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + micros).map(Reading::Local)
    }
}

#[cfg(test)]
mod tests {
    use super::super::TimeFormat;
    use super::*;
    use proptest::prelude::*;

    fn zone(name: &str) -> Zone {
        name.parse().unwrap()
    }

    fn shown(format: &TimeFormat, text: &str) -> String {
        format.parse_bytes(text.as_bytes()).map_or("none".into(), |t| Timestamp(t).to_string())
    }

    #[test]
    fn folds_are_earlier_and_gaps_move_forward() {
        let new_york = TimeFormat::Auto.in_zone(zone("America/New_York"));
        for (local, utc) in [
            ("2024-03-10 01:59:59", "2024-03-10T06:59:59Z"),
            ("2024-03-10 02:00:00", "2024-03-10T07:00:00Z"),
            ("2024-03-10 02:59:59.5", "2024-03-10T07:59:59.5Z"),
            ("2024-03-10 03:00:00", "2024-03-10T07:00:00Z"),
            ("2024-11-03 00:59:59", "2024-11-03T04:59:59Z"),
            ("2024-11-03 01:30:00", "2024-11-03T05:30:00Z"),
            ("2024-11-03 02:00:00", "2024-11-03T07:00:00Z"),
            ("2024-11-03 01:30:00-05:00", "2024-11-03T06:30:00Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("2300-07-01", "2300-07-01T04:00:00Z"),
            ("9999-12-31T23:59:59", "none"),
        ] {
            assert_eq!(shown(&new_york, local), utc, "{local}");
        }
        assert_eq!(shown(&TimeFormat::Auto.in_zone(zone("+05:30")), "2024-01-01 05:30"), "2024-01-01T00:00:00Z");
        assert_eq!(shown(&TimeFormat::Auto.in_zone(zone("UTC")), "2024-01-01 05:30"), "2024-01-01T05:30:00Z");
        let said = Zone::from_str("Europe/Berlino").unwrap_err().to_string();
        assert!(said.starts_with("there is no time zone \"Europe/Berlino\""), "{said}");
        assert!(Zone::from_str("+25").is_err() && Zone::from_str("").is_err());
    }

    #[test]
    fn patterns_of_real_logs() {
        let read = |pattern: &str, text: &str| shown(&TimeFormat::Pattern(Arc::new(pattern.parse().unwrap())), text);
        assert_eq!(read("%a %b %d %H:%M:%S.%f %Y", "Thu Apr 27 10:39:46.719636 2017"), "2017-04-27T10:39:46.719636Z");
        assert_eq!(read("%y%m%d %H%M%S", "081109 203615"), "2008-11-09T20:36:15Z");
        assert_eq!(read("%d/%b/%Y:%H:%M:%S %z", "10/Oct/2000:13:55:36 -0700"), "2000-10-10T20:55:36Z");
        assert_eq!(read("%Y-%m-%d", "2024-02-29"), "2024-02-29T00:00:00Z");
        assert_eq!(read("%s", "1700000000"), "2023-11-14T22:13:20Z");
        assert_eq!(read("%Y-%m-%d", "2024-02-30"), "none");
        assert_eq!(read("%Y-%m-%d", "2024-02-29 "), "none");
        let said = |text: &str| TimePattern::from_str(text).unwrap_err().to_string();
        assert_eq!(
            said("%b %d %H:%M"),
            "the time format \"%b %d %H:%M\" does not say enough: a date has a year, a month and a day"
        );
        assert!(said("%Y-%!").contains("is no strftime pattern"));
        let zoned = TimeFormat::Pattern(Arc::new("%Y-%m-%d %H:%M".parse().unwrap())).in_zone(zone("Europe/Berlin"));
        assert_eq!(shown(&zoned, "2024-07-01 12:00"), "2024-07-01T10:00:00Z");
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_the_rules(local in -62_000_000_000_000_000i64..8_000_000_000_000_000, which in 0usize..6, near in -7_200_000_000i64..7_200_000_000) {
            let name = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia", "Asia/Kolkata"][which];
            let zone = zone(name);
            prop_assert_eq!(zone.instant(local), zone.by_rule(local));
            // Close to a change.
            let change = zone.changes[local.unsigned_abs() as usize % zone.changes.len()].0;
            if change != i64::MIN {
                prop_assert_eq!(zone.instant(change + near), zone.by_rule(change + near));
            }
        }
    }
}
