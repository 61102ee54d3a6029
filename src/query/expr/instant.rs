//! Times written as text in an expression: ISO 8601 dates and RFC 3339 times, in nanoseconds since the epoch.
//!
//! A time without a zone is UTC. Digits finer than a nanosecond are cut, never rounded. Cost: once per literal.

/// Nanoseconds since the Unix epoch of `2024-01-31`, `2024-01-31 12:00`, `2024-01-31T12:00:00.25+01:00` and the like.
pub(super) fn parse_instant(text: &str) -> Option<i128> {
    let mut rest = Rest(text.trim().as_bytes());
    let year = rest.digits(4)?;
    rest.expect(b'-')?;
    let month = rest.digits(2)?;
    rest.expect(b'-')?;
    let day = rest.digits(2)?;
    if year == 0 || !(1..=12).contains(&month) || !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    let mut seconds = days_from_civil(year, month, day) * 86_400;
    let mut nanos = 0;
    if !rest.0.is_empty() {
        rest.any_of(b"Tt ")?;
        let (hour, minute) = (rest.digits(2)?, rest.expect(b':').and_then(|()| rest.digits(2))?);
        let second = if rest.expect(b':').is_some() {
            let second = rest.digits(2)?;
            if rest.any_of(b".,").is_some() {
                nanos = rest.fraction()?;
            }
            second
        } else {
            0
        };
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        seconds += hour * 3600 + minute * 60 + second - rest.zone()?;
    }
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanos))
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn expect(&mut self, byte: u8) -> Option<()> {
        self.any_of(&[byte]).map(|_| ())
    }

    fn any_of(&mut self, bytes: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        bytes.contains(first).then(|| {
            self.0 = rest;
            *first
        })
    }

    fn digits(&mut self, n: usize) -> Option<i64> {
        let (digits, rest) = self.0.split_at_checked(n)?;
        let value = digits.iter().try_fold(0, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i64::from(b - b'0')))?;
        self.0 = rest;
        Some(value)
    }

    fn fraction(&mut self) -> Option<i64> {
        let n = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        let nanos = (0..9).fold(0, |sum, i| sum * 10 + if i < n { i64::from(self.0[i] - b'0') } else { 0 });
        self.0 = &self.0[n..];
        (n > 0).then_some(nanos)
    }

    /// Seconds east of UTC; nothing may follow.
    fn zone(&mut self) -> Option<i64> {
        if self.0.first() == Some(&b' ') {
            self.0 = &self.0[1..];
        }
        if self.0.is_empty() {
            return Some(0);
        }
        let sign = match self.any_of(b"Zz+-")? {
            b'+' => 1,
            b'-' => -1,
            _ => return self.0.is_empty().then_some(0),
        };
        let hours = self.digits(2)?;
        let minutes = match self.0 {
            [] => 0,
            _ => {
                let _ = self.expect(b':');
                self.digits(2)?
            }
        };
        (self.0.is_empty() && hours <= 18 && minutes <= 59).then_some(sign * (hours * 3600 + minutes * 60))
    }
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01, by Hinnant's `days_from_civil` (years that begin in March, eras of 400 years).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::parse_instant;

    #[test]
    fn times_are_read() {
        const S: i128 = 1_000_000_000;
        for (text, wanted) in [
            ("1970-01-01", 0),
            ("1970-01-02T00:00:00Z", 86_400 * S),
            ("1970-01-01 00:01", 60 * S),
            ("1970-01-01T00:00:00.000000001999Z", 1),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01 01:00:00 +0100", 0),
            ("1969-12-31T23:00:00-01", 0),
            ("2024-02-29T12:34:56.5Z", 1_709_210_096 * S + S / 2),
            ("0001-01-01", -62_135_596_800 * S),
            ("9999-12-31T23:59:59Z", 253_402_300_799 * S),
        ] {
            assert_eq!(parse_instant(text), Some(wanted), "{text}");
        }
        for text in [
            "",
            "x",
            "2023-02-29",
            "2024-13-01",
            "0000-01-01",
            "2024-01-01T",
            "2024-01-01T24:00",
            "2024-01-01Tx",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00Zx",
            "2024-01-01T00:00:00+1",
            "2024-01-01T00:00:00+99:00",
            "２０２４-01-01",
            "10:00:00",
        ] {
            assert_eq!(parse_instant(text), None, "{text}");
        }
    }
}
