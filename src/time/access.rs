//! Access-log times at the rate of the log: the minute is parsed when it changes, the second every time.
//!
//! Invariant: [`AccessTimes::parse`] answers as the full parser does for every 26 bytes; the cache is only an answer to
//! "same day, hour, minute and zone as the last one". Cost of a hit: three loads, three compares, two digits.

use super::{MICROS_PER_SECOND, Reading, Timestamp, parse};

/// `10/Oct/2000:13:55:36 -0700` with the minute of the last one remembered.
///
/// ```
/// let mut times = windrow::time::AccessTimes::default();
/// assert_eq!(times.parse(b"10/Oct/2000:13:55:36 -0700"), Some(971_211_336_000_000));
/// assert_eq!(times.parse(b"10/Oct/2000:13:55:37 -0700"), Some(971_211_337_000_000));
/// assert_eq!(times.parse(b"10/Oct/2000:13:55:61 -0700"), None);
/// ```
#[derive(Debug, Clone)]
pub struct AccessTimes {
    /// `10/Oct/2000:13:5`.
    day: u128,
    /// `5:.. -07` with the digits of the second blanked.
    minute: u64,
    /// `00`.
    zone: u16,
    /// Second 0 of that minute.
    micros: i64,
}

/// The bytes of `5:36 -07` that are not the second.
const NOT_SECOND: u64 = !0x0000_0000_ffff_0000;

impl Default for AccessTimes {
    /// Remembers the first minute of 1970: a true answer, as any bytes could match a made-up one.
    fn default() -> Self {
        let (day, minute, zone) = parts(b"01/Jan/1970:00:00:00 +0000");
        AccessTimes { day, minute: minute & NOT_SECOND, zone, micros: 0 }
    }
}

impl AccessTimes {
    /// Microseconds since the epoch, or `None` when the bytes are no such time.
    #[inline]
    pub fn parse(&mut self, text: &[u8; 26]) -> Option<i64> {
        let (day, minute, zone) = parts(text);
        let tens = text[18].wrapping_sub(b'0');
        let ones = text[19].wrapping_sub(b'0');
        // 60 and what is no second is left to the full parser.
        if day == self.day && minute & NOT_SECOND == self.minute && zone == self.zone && tens < 6 && ones < 10 {
            return Some(self.micros + i64::from(tens * 10 + ones) * MICROS_PER_SECOND);
        }
        self.miss(text)
    }

    #[cold]
    fn miss(&mut self, text: &[u8; 26]) -> Option<i64> {
        let Some(Reading::Instant(micros)) = parse::access_log(text) else {
            return None;
        };
        // Only the one layout is remembered, and no minute that touches the end of time.
        let layout = text[17] == b':' && text[20] == b' ' && matches!(text[21], b'+' | b'-');
        let second = i64::from(text[18] & 15) * 10 + i64::from(text[19] & 15);
        let first = micros - second * MICROS_PER_SECOND;
        let whole =
            Timestamp::from_micros(first).is_some() && Timestamp::from_micros(first + 59 * MICROS_PER_SECOND).is_some();
        if layout && whole {
            let (day, minute, zone) = parts(text);
            *self = AccessTimes { day, minute: minute & NOT_SECOND, zone, micros: first };
        }
        Some(micros)
    }
}

/// Bytes 0 to 15, 16 to 23, 24 and 25.
#[inline]
fn parts(text: &[u8; 26]) -> (u128, u64, u16) {
    let (day, rest) = text.split_at(16);
    let (minute, zone) = rest.split_at(8);
    (
        u128::from_le_bytes(day.try_into().unwrap_or_default()),
        u64::from_le_bytes(minute.try_into().unwrap_or_default()),
        u16::from_le_bytes(zone.try_into().unwrap_or_default()),
    )
}
