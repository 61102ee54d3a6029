//! The proleptic Gregorian calendar: days to dates and back, and instants as RFC 3339 text.
//!
//! Invariant: [`civil_from_days`] and [`days_from_civil`] are inverse on every real date. Cost: no loops, no branches on
//! the date; one division by a constant that the compiler turns into a multiplication for each part. The days-to-date
//! direction is Neri and Schneider, "Euclidean affine functions and their application to calendar algorithms" (2022).

use super::{MICROS_PER_DAY, MICROS_PER_SECOND, Timestamp};

/// Moves day 0 to 1 March of the year -40000, so that every date handled here has a positive day number.
const ERAS: i64 = 100;
const SHIFT: i64 = 719_468 + 146_097 * ERAS;

/// Days from 1970-01-01 to the date; `month` 1 to 12, `day` 1 to 31, `year` within ±30,000.
///
/// ```
/// assert_eq!(windrow::time::days_from_civil(2000, 3, 1), 11_017);
/// ```
pub fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let month = i64::from(month) + if month > 2 { -3 } else { 9 };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month (1 to 12) and day (1 to 31) of the day `days` after 1970-01-01; days more than
/// 30,000 years from 1970 are taken for the nearest that are not.
///
/// ```
/// assert_eq!(windrow::time::civil_from_days(-1), (1969, 12, 31));
/// ```
pub fn civil_from_days(days: i64) -> (i32, u32, u32) {
    let shifted = (days.clamp(-10_957_275, 10_957_275) + SHIFT) as u32;
    let n1 = 4 * shifted + 3;
    let century = n1 / 146_097;
    let n2 = 4 * (n1 % 146_097 / 4) + 3;
    let p2 = 2_939_745 * u64::from(n2);
    let of_century = (p2 >> 32) as u32;
    let of_year = p2 as u32 / 2_939_745 / 4;
    let n3 = 2_141 * of_year + 197_913;
    let next_year = of_year >= 306;
    let year = (100 * century + of_century + u32::from(next_year)) as i32 - 400 * ERAS as i32;
    let month = (n3 >> 16) - if next_year { 12 } else { 0 };
    (year, month, (n3 & 0xffff) / 2_141 + 1)
}

/// How many days the month has; 0 for a month that does not exist.
pub fn days_in_month(year: i32, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

/// The two digits of every number below 100.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[0; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Appends an instant as RFC 3339 in UTC: `2024-01-01T00:00:30Z`, with a fraction only when it is not zero and without
/// its trailing zeros. An instant outside the years 1 to 9999 is written as the nearer end of them.
///
/// ```
/// let mut text = Vec::new();
/// windrow::time::write_rfc3339(1_704_067_230_250_000, &mut text);
/// assert_eq!(text, b"2024-01-01T00:00:30.25Z");
/// ```
pub fn write_rfc3339(micros: i64, out: &mut Vec<u8>) {
    let micros = Timestamp::saturating_from_micros(micros).micros();
    let (year, month, day) = civil_from_days(micros.div_euclid(MICROS_PER_DAY));
    let of_day = micros.rem_euclid(MICROS_PER_DAY) as u64;
    let seconds = (of_day / MICROS_PER_SECOND as u64) as u32;
    let mut fraction = (of_day % MICROS_PER_SECOND as u64) as u32;

    let mut text = *b"0000-00-00T00:00:00.000000Z";
    let mut pair = |at: usize, n: u32| text[at..at + 2].copy_from_slice(&PAIRS[n as usize % 100]);
    pair(0, year as u32 / 100);
    pair(2, year as u32);
    pair(5, month);
    pair(8, day);
    pair(11, seconds / 3_600);
    pair(14, seconds / 60 % 60);
    pair(17, seconds % 60);
    if fraction == 0 {
        text[19] = b'Z';
        out.extend_from_slice(&text[..20]);
        return;
    }
    pair(20, fraction / 10_000);
    pair(22, fraction / 100);
    pair(24, fraction);
    let mut end = 26;
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        end -= 1;
    }
    text[end] = b'Z';
    out.extend_from_slice(&text[..=end]);
}
