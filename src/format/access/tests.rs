//! The decoder against a naive twin that cuts lines with the simplest loops, and against lines of real logs.

use super::twin::{Texts, twin};
use super::*;
use crate::format::{Field, FieldType, TimeField};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use proptest::prelude::*;

fn wanted(time: bool, fields: &[(&str, FieldType)]) -> Wanted {
    Wanted {
        time: time.then(|| TimeField { name: "time".into(), format: TimeFormat::Auto }),
        fields: fields.iter().map(|(name, ty)| Field { name: (*name).into(), ty: *ty }).collect(),
        ..Wanted::default()
    }
}

fn block(text: &[u8]) -> TextBlock {
    TextBlock { data: text.to_vec().into(), start: 0, end: text.len(), offset: 0, max_record: 1 << 24 }
}

fn decode(wanted: &Wanted, text: &[u8]) -> Decoded {
    AccessDecoder::new(wanted, true).unwrap().decode(&block(text)).unwrap()
}

fn texts(column: &ArrayRef) -> Vec<Option<Vec<u8>>> {
    column.as_binary_view().iter().map(|v| v.map(<[u8]>::to_vec)).collect()
}

fn all_texts() -> Vec<(&'static str, FieldType)> {
    NAMES.iter().map(|name| (*name, FieldType::Text)).collect()
}

/// The fields of one line that must be good.
fn fields(line: &str) -> Vec<Option<String>> {
    let decoded = decode(&wanted(false, &all_texts()), line.as_bytes());
    assert_eq!(decoded.rows, 1, "{line}: {:?}", decoded.bad);
    let text = |c| texts(c)[0].clone().map(|v| String::from_utf8(v).unwrap());
    decoded.columns.iter().map(text).collect()
}

/// The reason why a line is bad when its time is wanted.
fn reason(line: &str) -> &'static str {
    let decoded = decode(&wanted(true, &[]), line.as_bytes());
    assert_eq!((decoded.rows, decoded.bad.len(), decoded.lines), (0, 1, 1), "{line}");
    decoded.bad[0].reason
}

const ELASTIC: &str = r#"83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /presentations/logstash-monitorama-2013/images/kibana-search.png HTTP/1.1" 200 203023 "http://semicomplete.com/presentations/logstash-monitorama-2013/" "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_9_1) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0.1700.77 Safari/537.36""#;

#[test]
fn shapes_of_real_lines() {
    let none = None::<&str>;
    for (line, want) in [
        (
            r#"10.1.2.3 id1 carol [10/Oct/2000:13:55:36 -0700] "GET /logo.gif HTTP/1.0" 200 2326"#,
            [
                Some("10.1.2.3"),
                Some("id1"),
                Some("carol"),
                Some("10/Oct/2000:13:55:36 -0700"),
                Some("GET /logo.gif HTTP/1.0"),
                Some("GET"),
                Some("/logo.gif"),
                Some("HTTP/1.0"),
                Some("200"),
                Some("2326"),
                none,
                none,
            ],
        ),
        ("- - - - - - -", [none; 12]),
        (
            r#"- - - [2000-10-10T20:55:36Z] "-" - -"#,
            [none, none, none, Some("2000-10-10T20:55:36Z"), none, none, none, none, none, none, none, none],
        ),
        (
            r#"::1 - - [04/Oct/2022:03:07:28 +0000] "\x16\x03[]{}\xFF;&\x01" 400 150 "" "-""#,
            [
                Some("::1"),
                none,
                none,
                Some("04/Oct/2022:03:07:28 +0000"),
                Some(r"\x16\x03[]{}\xFF;&\x01"),
                none,
                none,
                none,
                Some("400"),
                Some("150"),
                Some(""),
                none,
            ],
        ),
        (
            r#"10.9.8.7 - d.user [12/Jan/2020:23:05:28 +0100] "OPTIONS /dav/ HTTP/1.1" - 7908 "-" "probe (v1.0)""#,
            [
                Some("10.9.8.7"),
                none,
                Some("d.user"),
                Some("12/Jan/2020:23:05:28 +0100"),
                Some("OPTIONS /dav/ HTTP/1.1"),
                Some("OPTIONS"),
                Some("/dav/"),
                Some("HTTP/1.1"),
                none,
                Some("7908"),
                none,
                Some("probe (v1.0)"),
            ],
        ),
        (
            r#"10.0.0.2 - erin [04/Jan/2025:16:42:59 +0000] "GET / HTTP/1.1" 200 615 "http://example.org/from" "curl/8.0" "10.4.3.2, 10.4.3.1""#,
            [
                Some("10.0.0.2"),
                none,
                Some("erin"),
                Some("04/Jan/2025:16:42:59 +0000"),
                Some("GET / HTTP/1.1"),
                Some("GET"),
                Some("/"),
                Some("HTTP/1.1"),
                Some("200"),
                Some("615"),
                Some("http://example.org/from"),
                Some("curl/8.0"),
            ],
        ),
        (
            r#"h - a user [x] [b] [10/Oct/2000:13:55:36 -0700] "GET /a \"b\" HTTP/1.0" 200 - "r\"s" "cut "off"#,
            [
                Some("h"),
                none,
                Some("a user [x] [b]"),
                Some("10/Oct/2000:13:55:36 -0700"),
                Some(r#"GET /a \"b\" HTTP/1.0"#),
                none,
                none,
                none,
                Some("200"),
                none,
                Some(r#"r\"s"#),
                Some("cut \"off"),
            ],
        ),
        (
            r#"h - - [-] "GET /"x" y HTTP/1.0" 200 5 0.25 more"#,
            [
                Some("h"),
                none,
                none,
                none,
                Some(r#"GET /"x" y HTTP/1.0"#),
                none,
                none,
                none,
                Some("200"),
                Some("5"),
                none,
                none,
            ],
        ),
    ] {
        let want: Vec<Option<String>> = want.iter().map(|v| v.map(str::to_string)).collect();
        assert_eq!(fields(line), want, "{line}");
        assert_eq!(fields(&format!("{line}\r\n")), want, "{line} with CRLF");
    }
    let elastic = fields(ELASTIC);
    assert_eq!(elastic[10].as_deref(), Some("http://semicomplete.com/presentations/logstash-monitorama-2013/"));
    assert!(elastic[11].as_deref().is_some_and(|a| a.ends_with("Safari/537.36")));
}

#[test]
fn bad_lines_say_why() {
    for (line, why) in [
        ("not a common log line", "no [time] in brackets"),
        (r#"2025/01/03 16:41:27 [error] 7#7: *3 open() "/x" failed"#, "no host, identity and user before the time"),
        (r#"host.example.org [30:09:36:04] "GET /x HTTP/1.0" 404"#, "no host, identity and user before the time"),
        ("rubbish of 3 words", "no [time] in brackets"),
        ("h - - [10/Oct/2000:13:55:36 -0700] GET", "no request in quotes after the time"),
        (r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / 200 5"#, "no closing quote after the request"),
        (r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0""#, "no status after the request"),
        (r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 404"#, "no bytes after the status"),
        (r#"h - - [31/Feb/2000:13:55:36 -0700] "GET / HTTP/1.0" 404 5"#, "no valid time"),
        ("- - - - - - -", "no valid time"),
    ] {
        assert_eq!(reason(line), why, "{line}");
    }
}

#[test]
fn types_nulls_and_places() {
    let log = b"\xef\xbb\xbfh - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 -\n\n  \r\nrubbish\n\
        h - - [10/Oct/2000:13:55:37 -0700] \"GET / HTTP/1.0\" abc 12\r\n\
        h - - [10/Oct/2000:13:55:38 -0700] \"GET /\xff\0 HTTP/1.0\" 404 9223372036854775808";
    use FieldType::{Boolean, Float64, Int64, Text, Timestamp};
    let decoded = decode(
        &wanted(
            true,
            &[
                ("status", Int64),
                ("bytes", Float64),
                ("host", Text),
                ("bytes", Text),
                ("time", Timestamp),
                ("bytes", Int64),
                ("host", Boolean),
            ],
        ),
        log,
    );
    assert_eq!((decoded.rows, decoded.lines), (3, 6));
    assert_eq!(decoded.times, [971_211_336_000_000, 971_211_337_000_000, 971_211_338_000_000]);
    let bad = &decoded.bad[0];
    assert_eq!((bad.line, bad.len, &log[bad.start..bad.start + bad.len]), (3, 7, &b"rubbish"[..]));
    let status = decoded.columns[0].as_primitive::<Int64Type>();
    assert_eq!(status.iter().collect::<Vec<_>>(), [Some(200), None, Some(404)]);
    let bytes = decoded.columns[1].as_primitive::<Float64Type>();
    assert_eq!(bytes.iter().collect::<Vec<_>>(), [None, Some(12.0), Some(9_223_372_036_854_775_808.0)]);
    assert!(decoded.columns[2].nulls().is_none(), "no validity without nulls");
    assert_eq!(texts(&decoded.columns[2])[0].as_deref(), Some(&b"h"[..]));
    let times = decoded.columns[4].as_primitive::<TimestampMicrosecondType>();
    assert_eq!((times.values(), times.timezone()), (&decoded.times[..].to_vec().into(), Some("UTC")));
    assert_eq!(decoded.columns[5].null_count(), 2);
    // `abc`, the integer beyond i64, three hosts that are no booleans.
    assert_eq!(decoded.cast_failed, 5);
}

#[test]
fn a_fraction_among_integers_stops() {
    let line = b"h - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1.5\n";
    let decoder = AccessDecoder::new(&wanted(false, &[("bytes", FieldType::Int64)]), false).unwrap();
    let error = decoder.decode(&block(line)).unwrap_err();
    assert!(error.to_string().contains("--type bytes:float"), "{error}");
    assert_eq!(error.place().offset, Some(56));
}

#[test]
fn unknown_fields_name_the_known() {
    let refuse = |w: &Wanted, combined| AccessDecoder::new(w, combined).unwrap_err().to_string();
    let agent = wanted(false, &[("user_agent", FieldType::Text)]);
    assert!(AccessDecoder::new(&agent, true).is_ok());
    assert!(refuse(&agent, false).contains("host, identity, user, time, request"));
    let mut time = wanted(true, &[]);
    time.time.as_mut().unwrap().name = "bytes".into();
    assert!(refuse(&time, true).contains("`time`"));
}

#[test]
fn long_lines_are_bad_and_lose_no_neighbour() {
    let good = r#"h - - [10/Oct/2000:13:55:36 -0700] "GET / HTTP/1.0" 200 5 "-" "-""#;
    let log = format!("{good}\n{good} and more\n{good}\n{}", " [ ] \"\\".repeat(200_000));
    let mut block = block(log.as_bytes());
    block.max_record = good.len();
    let decoded = AccessDecoder::new(&wanted(true, &[]), true).unwrap().decode(&block).unwrap();
    assert_eq!((decoded.rows, decoded.bad.len(), decoded.lines), (2, 2, 4));
    assert!(decoded.bad.iter().all(|bad| bad.reason == "longer than the limit for a record"));
    block.max_record = usize::MAX;
    let decoded = AccessDecoder::new(&wanted(true, &[]), true).unwrap().decode(&block).unwrap();
    assert_eq!((decoded.rows, decoded.bad.len()), (3, 1), "and fast, whatever the line holds");
}

/// A line of a log, usual or not.
fn line() -> impl Strategy<Value = Vec<u8>> {
    let pick = |of: &'static [&'static str]| proptest::sample::select(of);
    (
        pick(&["1.2.3.4", "host.example.org", "-", "::1", "a b"]),
        pick(&["-", "ident", ""]),
        pick(&["-", "carol", "", "two words", "[x]", "a [b"]),
        pick(&[
            "[10/Oct/2000:13:55:36 -0700]",
            "[10/Oct/2000:13:55:37 -0700]",
            "[31/Dec/1999:23:59:60 +0000]",
            "[2000-10-10T20:55:36Z]",
            "[-]",
            "-",
            "[]",
            "[32/Oct/2000:13:55:36 -0700]",
            "[1700000000.5]",
        ]),
        pick(&[
            "\"GET / HTTP/1.1\"",
            "\"POST /a/long/path?with=a&query=string HTTP/2.0\"",
            "\"-\"",
            "-",
            "\"\"",
            "\"GET /old\"",
            "\"HEAD /a b HTTP/1.0\"",
            "\"GET /\\\"q\\\" HTTP/1.0\"",
            "\"GET  HTTP/1.0\"",
            "\"PROPFIND /dav/ HTTP/1.1\"",
            "\"get / HTTP/1.1\"",
            "\"GET /\"x\" HTTP/1.1\"",
            "\"GET /x HTTP/3\"",
            "\"\\x16\\x03\"",
            "\"GET /a\\\\\"",
            "\"GET / HTTP/1.1",
        ]),
        pick(&["200", "-", "404", "abc", "99", "2000", ":00", ""]),
        pick(&["5", "-", "12345", "12345678", "123456789012", "007", "+5", "x", "99999999999999999999", "5\t", ""]),
        pick(&[
            "",
            " \"-\" \"-\"",
            " \"http://r/\" \"Mozilla/5.0 (X11)\"",
            " \"\" \"cut off",
            " \"r\\\"q\" \"a\\\\\"",
            " \"r\"",
            " - \"agent\"",
            " - -",
            " \"r\" \"a\" \"x\" 5",
            " 0.001",
            " \"a\"b\" \"c\"d\" 7",
            " ",
        ]),
    )
        .prop_map(|(h, i, u, t, r, s, b, q)| format!("{h} {i} {u} {t} {r} {s} {b}{q}").into_bytes())
}

/// Bytes that mean something to the parser.
const SALT: &[u8] = b" \"[]\\-\r\n0:/\xff\0aG";

fn log() -> impl Strategy<Value = Vec<u8>> {
    let usual = Just(ELASTIC.as_bytes().to_vec());
    let line = prop_oneof![2 => line(), 1 => usual];
    let salted = (line, proptest::collection::vec((any::<u16>(), 0..SALT.len(), 0..3u8), 0..3), 0..8u8);
    proptest::collection::vec(salted, 1..12).prop_map(|lines| {
        let mut log = Vec::new();
        for (mut line, salt, end) in lines {
            for (at, with, how) in salt.into_iter().filter(|_| end % 2 == 0) {
                let at = at as usize % (line.len() + 1);
                match how {
                    0 => line.insert(at, SALT[with]),
                    1 if at < line.len() => line[at] = SALT[with],
                    _ => line.truncate(line.len().max(1) - usize::from(at < line.len())),
                }
            }
            log.extend_from_slice(&line);
            log.extend_from_slice(if end == 7 { b"\r\n" } else { b"\n" });
        }
        if log.len() % 3 == 0 {
            log.pop();
        }
        log
    })
}

/// A number as the columns read it, from its text.
fn twin_integer(text: &[u8]) -> Option<i64> {
    let text = text.trim_ascii();
    std::str::from_utf8(text).ok()?.parse().ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn agrees_with_the_twin(log in log(), time: bool, mask in 0u16..4096, before in 0usize..3, limit in 0usize..600) {
        let names: Vec<_> = all_texts().into_iter().enumerate()
            .filter(|(n, _)| mask & 1 << n != 0).map(|(_, f)| f).collect();
        let mut asked = names.clone();
        asked.extend([("bytes", FieldType::Int64), ("status", FieldType::Int64)]);
        let limit = if limit < 400 { limit + 60 } else { usize::MAX };

        // The twin.
        let (mut times, mut rows, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = before;
        let lines: Vec<&[u8]> = log.strip_suffix(b"\n").unwrap_or(&log).split(|b| *b == b'\n').collect();
        for (n, line) in lines.iter().enumerate() {
            let record = if line.len() > limit { None } else { twin(line) };
            let stamp = |texts: &Texts| texts[3].as_deref().and_then(|t| TimeFormat::Auto.parse_bytes(t));
            match record {
                Some(None) => {}
                Some(Some(texts)) if !time || stamp(&texts).is_some() => {
                    times.extend(stamp(&texts).filter(|_| time));
                    rows.push(texts);
                }
                _ => bad.push((n as u64, start, line.len())),
            }
            start += line.len() + 1;
        }

        let mut data = vec![b'"'; before];
        data.extend_from_slice(&log);
        let end = data.len();
        data.extend_from_slice(&b"\" 200 5\n"[..before]);
        let block = TextBlock { data: data.into(), start: before, end, offset: 10, max_record: limit };
        let decoded = AccessDecoder::new(&wanted(time, &asked), true).unwrap().decode(&block);
        let decoded = match decoded {
            Ok(decoded) => decoded,
            Err(error) => {
                prop_assert!(error.to_string().contains("fraction"));
                return Ok(());
            }
        };
        prop_assert_eq!(decoded.rows, rows.len());
        prop_assert_eq!(decoded.lines, lines.len() as u64);
        prop_assert_eq!(decoded.times, times);
        let places: Vec<_> = decoded.bad.iter().map(|b| (b.line, b.start, b.len)).collect();
        prop_assert_eq!(places, bad);
        for (column, (name, _)) in decoded.columns.iter().zip(&names) {
            let n = NAMES.iter().position(|known| known == name).unwrap();
            let want: Vec<_> = rows.iter().map(|texts| texts[n].clone()).collect();
            prop_assert_eq!(texts(column), want, "{}", name);
            prop_assert_eq!(column.nulls().is_some(), column.null_count() > 0);
        }
        let mut failed = 0;
        for (column, n) in decoded.columns[names.len()..].iter().zip([9, 8]) {
            let want: Vec<_> = rows.iter().map(|t| t[n].as_deref().and_then(twin_integer)).collect();
            let unfit = |t: &[u8]| !t.trim_ascii().is_empty() && twin_integer(t).is_none();
            failed += rows.iter().filter(|t| t[n].as_deref().is_some_and(unfit)).count();
            prop_assert_eq!(column.as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), want);
        }
        prop_assert_eq!(decoded.cast_failed, failed as u64);
    }

    #[test]
    fn no_bytes_panic(log in proptest::collection::vec(proptest::sample::select(SALT), 0..200)) {
        decode(&wanted(true, &all_texts()), &log);
        decode(&wanted(false, &[]), &log);
    }
}
