//! Instants and durations: every format, every neighbouring way of reading the same bytes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use windrow::time::{AccessTimes, Reading, TimeFormat, Timestamp, parse_duration, parse_signed_duration};

const FORMATS: [TimeFormat; 5] = [
    TimeFormat::Auto,
    TimeFormat::EpochSeconds,
    TimeFormat::EpochMillis,
    TimeFormat::EpochMicros,
    TimeFormat::EpochNanos,
];

fuzz_target!(|data: &[u8]| {
    // Two texts, so that what is remembered from the first meets the second.
    let (first, second) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let second = second.get(1..).unwrap_or_default();
    let mut times = AccessTimes::default();
    for text in [first, second, first] {
        instants(text);
        if let Ok(text) = <&[u8; 26]>::try_from(text) {
            // The cache answers as the full parser does, for what is written like an access-log time.
            let answer = times.parse(text);
            if text[2] == b'/' {
                let full = TimeFormat::Auto.read_bytes(text);
                let full = if let Some(Reading::Instant(micros)) = full { Some(micros) } else { None };
                assert_eq!(answer, full);
            } else {
                assert_eq!(answer, None);
            }
        }
    }
    if let Ok(text) = std::str::from_utf8(data) {
        durations(text);
    }
});

fn instants(text: &[u8]) {
    for format in &FORMATS {
        let Some(micros) = format.parse_bytes(text) else {
            assert_eq!(format.read_bytes(text), None);
            continue;
        };
        let time = Timestamp::from_micros(micros).expect("within the years 1 to 9999");
        let written = time.to_string();
        assert_eq!(written.parse::<Timestamp>().expect("what is written can be read"), time, "{written}");
        assert!(matches!(format.read_bytes(text), Some(Reading::Instant(m) | Reading::Local(m)) if m == micros));
        let digits = text.strip_prefix(b"+").unwrap_or(text);
        let number = std::str::from_utf8(digits).ok().and_then(|text| text.parse::<i64>().ok());
        if let Some(number) = number {
            assert_eq!(format.parse_number(number), Some(micros), "{number}");
            let unit = TimeFormat::of_number(text).expect("a number has a unit");
            assert_eq!(unit.parse_bytes(text), TimeFormat::Auto.parse_bytes(text));
        }
    }
}

fn durations(text: &str) {
    let signed = parse_signed_duration(text);
    match parse_duration(text) {
        Ok(micros) => {
            assert!(micros >= 0);
            assert_eq!(signed.ok(), Some(micros));
            assert_eq!(parse_signed_duration(&format!("-{}", text.trim_start())).ok(), Some(-micros));
            assert_eq!(parse_duration(&format!("{micros}us")).ok(), Some(micros));
        }
        Err(error) => {
            assert!(error.to_string().contains("duration"), "{error}");
            assert!(signed.is_err() || text.trim_start().starts_with('-'));
        }
    }
}
