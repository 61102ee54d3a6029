//! Times against the forms that logs use and against naive twins.

use super::*;
use proptest::prelude::*;

fn auto(text: &str) -> Option<i64> {
    TimeFormat::Auto.parse_bytes(text.as_bytes())
}

/// The instant of an RFC 3339 text in UTC, by the plainest road.
fn at(text: &str) -> i64 {
    let t: Timestamp = text.parse().unwrap();
    t.micros()
}

/// Days from 0001-01-01 by counting.
fn naive_days(year: i32, month: u32, day: u32) -> i64 {
    let leap = |y: i32| y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let years: i64 = (1..year).map(|y| if leap(y) { 366 } else { 365 }).sum();
    let months: i64 = (1..month).map(|m| i64::from(days_in_month(year, m))).sum();
    years + months + i64::from(day) - 1
}

#[test]
fn every_day_of_the_valid_years() {
    let mut days = Timestamp::MIN.micros() / MICROS_PER_DAY;
    for year in 1..=9999 {
        for month in 1..=12 {
            for day in 1..=days_in_month(year, month) {
                assert_eq!(days_from_civil(year, month, day), days);
                assert_eq!(civil_from_days(days), (year, month, day));
                days += 1;
            }
        }
    }
    assert_eq!(days * MICROS_PER_DAY - 1, Timestamp::MAX.micros());
    assert_eq!(civil_from_days(days_from_civil(-24_000, 2, 29)), (-24_000, 2, 29));
    civil_from_days(i64::MIN);
    civil_from_days(i64::MAX);
}

#[test]
fn forms_of_real_logs() {
    for (text, want) in [
        ("10/Oct/2000:13:55:36 -0700", "2000-10-10T20:55:36Z"),
        ("2000-10-10T20:55:36Z", "2000-10-10T20:55:36Z"),
        ("2021-06-04 15:40:27.138633", "2021-06-04T15:40:27.138633Z"),
        ("11/Jan/2020:23:05:27 +0100", "2020-01-11T22:05:27Z"),
        ("2019/04/04 16:23:00.123456", "2019-04-04T16:23:00.123456Z"),
        ("2016-12-19 16:31:47,123", "2016-12-19T16:31:47.123Z"),
        ("2012-02-22T16:46:28.9670320+00:00", "2012-02-22T16:46:28.967032Z"),
        ("2021-06-06T15:57:37.581182+0200", "2021-06-06T13:57:37.581182Z"),
        ("2023-11-16 18:17:03.9799600", "2023-11-16T18:17:03.97996Z"),
        ("2021-01-01 00:00:00 +0000", "2021-01-01T00:00:00Z"),
        ("2021-01-01 00:00:00 UTC", "2021-01-01T00:00:00Z"),
        ("2021-01-01T00:30+02", "2020-12-31T22:30:00Z"),
        ("2021-01-01t00:00:00z", "2021-01-01T00:00:00Z"),
        ("2024-02-29", "2024-02-29T00:00:00Z"),
        ("01/JAN/2024:00:00:00.25 Z", "2024-01-01T00:00:00.25Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00.5Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.999999Z"),
    ] {
        assert_eq!(auto(text).map(|t| Timestamp(t).to_string()).as_deref(), Some(want), "{text}");
    }
    for text in [
        "",
        "-",
        "2023-02-29",
        "1900-02-29",
        "2023-13-01",
        "2023-00-01",
        "2023-01-00",
        "2023-04-31",
        "2023-01-01T24:00:00",
        "2023-01-01T00:60:00",
        "2023-01-01T00:00:61",
        "2023-01-01T",
        "2023-01-01T00",
        "2023-01-01T00:00:00.",
        "2023-01-01T00:00:00.Z",
        "2023-01-01T00:00:00+",
        "2023-01-01T00:00:00+1",
        "2023-01-01T00:00:00+24:00",
        "2023-01-01T00:00:00+01:60",
        "2023-01-01T00:00:00Zx",
        "2023-01/01",
        "2023-01-01 ",
        "2023-1-01",
        "0000-01-01",
        "0001-01-01T00:00:00+00:01",
        "9999-12-31T23:59:60Z",
        "9999-12-31T23:59:59-00:01",
        "10/Oct/2000",
        "10/Okt/2000:13:55:36 -0700",
        "31/Apr/2000:13:55:36 -0700",
        "30:09:36:04",
        "1_000",
        "1.",
        ".5",
        "1.2.3",
        "1e9",
        "+",
        "0x10",
        "12:30",
        "99999999999999999999",
    ] {
        assert_eq!(auto(text), None, "{text}");
    }
}

#[test]
fn epoch_numbers() {
    let read = |format: TimeFormat, text: &str| format.parse_bytes(text.as_bytes());
    use TimeFormat::{EpochMicros, EpochMillis, EpochNanos, EpochSeconds};
    assert_eq!(read(EpochSeconds, "1700000000"), Some(1_700_000_000_000_000));
    assert_eq!(read(EpochSeconds, "1521911720.1234567"), Some(1_521_911_720_123_456));
    assert_eq!(read(EpochSeconds, "-1.5"), Some(-1_500_000));
    assert_eq!(read(EpochSeconds, "-0.0000019"), Some(-1));
    assert_eq!(read(EpochMillis, "1700000000123.4567"), Some(1_700_000_000_123_456));
    assert_eq!(read(EpochMicros, "-7.9"), Some(-7));
    assert_eq!(read(EpochNanos, "1999"), Some(1));
    assert_eq!(read(EpochNanos, "-1999.5"), Some(-1));
    assert_eq!(read(EpochSeconds, "253402300799.9999999"), Some(Timestamp::MAX.micros()));
    assert_eq!(read(EpochSeconds, "253402300800"), None);
    assert_eq!(read(EpochSeconds, "2024-01-01"), None);
    assert_eq!(read(EpochMillis, "99999999999999999999999"), None);
    assert_eq!(auto("99999999999"), Some(99_999_999_999_000_000));
    assert_eq!(auto("100000000000"), Some(100_000_000_000_000));
    assert_eq!(auto("100000000000000"), Some(100_000_000_000_000));
    assert_eq!(auto("100000000000000000"), Some(100_000_000_000_000));
    assert_eq!(auto("-100000000000"), Some(-100_000_000_000_000));
    assert_eq!(TimeFormat::of_number(b"1700000000123"), Some(EpochMillis));
    assert_eq!(TimeFormat::of_number(b"today"), None);
    assert_eq!(TimeFormat::Auto.read_bytes(b"2024-01-01"), Some(Reading::Local(1_704_067_200_000_000)));
    assert_eq!(TimeFormat::Auto.read_bytes(b"2024-01-01T00:00Z"), Some(Reading::Instant(1_704_067_200_000_000)));
}

proptest! {
    #[test]
    fn durations_read_back(micros in prop_oneof![0..i64::MAX, 0i64..10_000_000]) {
        prop_assert_eq!(parse_duration(&format_duration(micros)).unwrap(), micros);
    }
}

#[test]
fn durations() {
    let ok = |text| parse_duration(text).unwrap();
    assert_eq!(ok("30s"), 30_000_000);
    assert_eq!(ok("1h30m"), 5_400_000_000);
    assert_eq!(ok("1h 30m"), 5_400_000_000);
    assert_eq!(ok("10us"), 10);
    assert_eq!(ok("1005ms"), 1_005_000);
    assert_eq!(ok("3.333s"), 3_333_000);
    assert_eq!(ok("0s"), 0);
    assert_eq!(ok("0"), 0);
    assert_eq!(ok("1d1s"), 86_401_000_000);
    assert_eq!(ok("1s1m"), 61_000_000);
    assert_eq!(ok("0.0000000125d"), 1_080);
    assert_eq!(ok("0.50000000000000000000s"), 500_000);
    assert_eq!(parse_signed_duration("-5s").unwrap(), -5_000_000);
    assert_eq!(parse_signed_duration("-1h30m").unwrap(), -5_400_000_000);
    assert_eq!(parse_signed_duration("5s").unwrap(), 5_000_000);
    for (text, why) in [
        ("", "empty"),
        ("-", "negative"),
        ("-5s", "negative"),
        ("5", "no unit"),
        ("s", "a number is missing"),
        ("5x", "`x` is no unit"),
        ("1d foo", "a number is missing"),
        ("1.5.5s", "no number"),
        ("1.s", "no number"),
        (".5s", "no number"),
        ("1.5us", "finer"),
        ("0.00000000000000001d", "finer"),
        ("1234567890123456789012345d", "too long"),
        ("106751992d", "too long"),
        ("106751991d24h", "too long"),
        ("5м", "no unit"),
    ] {
        let error = parse_duration(text).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    assert!(parse_signed_duration("--5s").is_err());
}

#[test]
fn writes_the_ends_of_time() {
    let text = |micros| {
        let mut out = Vec::new();
        write_rfc3339(micros, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(text(i64::MIN), "0001-01-01T00:00:00Z");
    assert_eq!(text(i64::MAX), "9999-12-31T23:59:59.999999Z");
    assert_eq!(text(-1), "1969-12-31T23:59:59.999999Z");
    assert_eq!(text(100), "1970-01-01T00:00:00.0001Z");
    assert_eq!(at("2024-01-01T00:00:30Z"), 1_704_067_230_000_000);
    assert!("soon".parse::<Timestamp>().is_err());
    assert_eq!(Timestamp::from_micros(i64::MAX), None);
}

/// A civil time that exists.
fn civil() -> impl Strategy<Value = (i32, u32, u32, u32, u32, u32)> {
    (2..9999i32, 1..=12u32, 1..=31u32, 0..24u32, 0..60u32, 0..60u32)
        .prop_map(|(y, mo, d, h, m, s)| (y, mo, d.min(days_in_month(y, mo)), h, m, s))
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

proptest! {
    #[test]
    fn reads_and_writes_as_the_twin(
        (y, mo, d, h, m, s) in civil(),
        fraction in "[0-9]{0,12}",
        zone in proptest::option::of((-1439..=1439i64, 0..3usize)),
        seps in (0..2usize, 0..3usize, 0..2usize),
    ) {
        let dash = ["-", "/"][seps.0];
        let t = ["T", " ", "t"][seps.1];
        let point = if fraction.is_empty() { "" } else { [".", ","][seps.2] };
        let (offset, zone) = match zone {
            None => (0, String::new()),
            Some((minutes, form)) => {
                let sign = if minutes < 0 { '-' } else { '+' };
                let (hh, mm) = (minutes.abs() / 60, minutes.abs() % 60);
                match form {
                    0 => (minutes, format!("{sign}{hh:02}:{mm:02}")),
                    1 => (minutes, format!("{sign}{hh:02}{mm:02}")),
                    _ => (if minutes < 0 { -hh * 60 } else { hh * 60 }, format!("{sign}{hh:02}")),
                }
            }
        };
        let micros: i64 = format!("{fraction:0<6}")[..6].parse().unwrap();
        let days = naive_days(y, mo, d) - naive_days(1970, 1, 1);
        let seconds = days * 86_400 + i64::from(h * 3_600 + m * 60 + s) - offset * 60;
        let want = seconds * 1_000_000 + micros;

        let text = format!("{y:04}{dash}{mo:02}{dash}{d:02}{t}{h:02}:{m:02}:{s:02}{point}{fraction}{zone}");
        prop_assert_eq!(auto(&text), Some(want), "{}", text);
        let text = format!("{d:02}/{}/{y:04}:{h:02}:{m:02}:{s:02}{point}{fraction} {zone}",
            MONTHS[mo as usize - 1]);
        prop_assert_eq!(auto(text.trim_end()), Some(want), "{}", text);

        let written = Timestamp(want).to_string();
        prop_assert_eq!(auto(&written), Some(want), "{}", written);
        let (cut, _) = written.split_at(19);
        let twin = match micros {
            0 => format!("{cut}Z"),
            _ => format!("{cut}.{}Z", format!("{micros:06}").trim_end_matches('0')),
        };
        prop_assert_eq!(written, twin);
    }

    #[test]
    fn epoch_numbers_as_the_twin(negative: bool, whole: u64, shift in 0..64u32, fraction in "[0-9]{0,12}") {
        let whole = whole >> shift;
        let sign = if negative { "-" } else { "" };
        let point = if fraction.is_empty() { "" } else { "." };
        let text = format!("{sign}{whole}{point}{fraction}");
        for (format, scale) in [
            (TimeFormat::EpochSeconds, 1_000_000_000i128),
            (TimeFormat::EpochMillis, 1_000_000),
            (TimeFormat::EpochMicros, 1_000),
            (TimeFormat::EpochNanos, 1),
        ] {
            let digits: i128 = format!("{fraction:0<12}").parse().unwrap();
            let nanos = i128::from(whole) * scale + digits * scale / 1_000_000_000_000;
            let micros = nanos / 1_000 * if negative { -1 } else { 1 };
            let want = i64::try_from(micros).ok().and_then(Timestamp::from_micros).map(Timestamp::micros);
            prop_assert_eq!(format.parse_bytes(text.as_bytes()), want, "{:?} {}", format, text);
            if let Ok(number) = text.parse::<i64>() {
                prop_assert_eq!(format.parse_number(number), want);
                prop_assert_eq!(TimeFormat::Auto.parse_number(number), auto(&text));
            }
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), text in "[-+0-9./:,TZ ]{0,32}") {
        for bytes in [&bytes[..], text.as_bytes()] {
            for format in [TimeFormat::Auto, TimeFormat::EpochSeconds, TimeFormat::EpochNanos] {
                if let Some(t) = format.parse_bytes(bytes) {
                    prop_assert!(Timestamp::from_micros(t).is_some());
                }
            }
            let _ = parse_duration(&String::from_utf8_lossy(bytes));
        }
        let _ = parse_signed_duration(&text);
    }

    #[test]
    fn the_cache_answers_as_the_full_parser(
        times in proptest::collection::vec((0..3u32, 0..3u32, 0..63u32, 0..2usize, 0..30usize, any::<u8>()), 1..40)
    ) {
        let mut cache = AccessTimes::default();
        for (hour, minute, second, zone, at, byte) in times {
            let zone = ["+0000", "-0730"][zone];
            let mut text = format!("31/Dec/9999:{:02}:{:02}:{second:02} {zone}", 21 + hour, 57 + minute).into_bytes();
            if let Some(b) = text.get_mut(at) {
                if at > 19 && at < 22 {
                    *b = byte;
                } else {
                    *b = *b"0123456789: +-Za\0"[..].get(byte as usize % 17).unwrap_or(&b'0');
                }
            }
            let text: &[u8; 26] = text.first_chunk().unwrap();
            let full = match parse::access_log(text) {
                Some(Reading::Instant(t)) => Some(t),
                _ => None,
            };
            prop_assert_eq!(cache.parse(text), full);
            prop_assert_eq!(cache.parse(text), full);
        }
        let mut empty = AccessTimes::default();
        prop_assert_eq!(empty.parse(b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x0000\0\0\0\0\0\0"), None);
    }
}
