//! The decoder against its naive twin, which lets `serde_json` read every token, and against cases by hand.

use super::*;
use crate::ErrorKind;
use crate::format::{Field, TimeField};
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny};

use FieldType::{Boolean, Float64, Int64, Text, Timestamp};

/// A value as the tests compare it; floats by their bits.
#[derive(Debug, Clone, PartialEq)]
enum Cell {
    Null,
    Text(Vec<u8>),
    Int(i64),
    Float(u64),
    Bool(bool),
}

fn wanted(time: Option<&str>, fields: &[(&str, FieldType)]) -> Wanted {
    let field = |&(name, ty): &(&str, FieldType)| Field { name: name.to_owned(), ty };
    let time = time.map(|name| TimeField { name: name.to_owned(), format: TimeFormat::Auto });
    Wanted { time, fields: fields.iter().map(field).collect(), ..Wanted::default() }
}

fn block(text: &[u8]) -> TextBlock {
    TextBlock { data: text.to_vec().into(), start: 0, end: text.len(), offset: 0, max_record: 1 << 20 }
}

fn decode(text: &[u8], wanted: &Wanted) -> Decoded {
    JsonDecoder::new(wanted).unwrap().decode(&block(text)).unwrap()
}

fn cell(column: &dyn Array, row: usize) -> Cell {
    use arrow_schema::DataType;
    if column.is_null(row) {
        return Cell::Null;
    }
    match column.data_type() {
        DataType::BinaryView => Cell::Text(column.as_binary_view().value(row).to_vec()),
        DataType::Int64 => Cell::Int(column.as_primitive::<Int64Type>().value(row)),
        DataType::Float64 => Cell::Float(column.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Boolean => Cell::Bool(column.as_boolean().value(row)),
        _ => Cell::Int(column.as_primitive::<TimestampMicrosecondType>().value(row)),
    }
}

/// The rows of `decoded`, column by column inside each.
fn rows(decoded: &Decoded) -> Vec<Vec<Cell>> {
    assert!(decoded.columns.iter().all(|c| c.len() == decoded.rows), "columns of different lengths");
    let row = |row| decoded.columns.iter().map(|c| cell(c, row)).collect();
    (0..decoded.rows).map(row).collect()
}

/// The text column's values, marks and all.
fn texts(text: &[u8], name: &str) -> Vec<Cell> {
    let decoded = decode(text, &wanted(None, &[(name, Text)]));
    assert_eq!(decoded.bad, [], "{}", String::from_utf8_lossy(text));
    rows(&decoded).into_iter().flatten().collect()
}

fn text(bytes: &[u8]) -> Cell {
    Cell::Text(bytes.to_vec())
}

// ---- the twin ----

/// `serde_json` wants UTF-8: bytes above 0x7f become private characters, and come back in [`to_bytes`].
fn to_chars(line: &[u8]) -> String {
    let private = |&b: &u8| if b < 0x80 { char::from(b) } else { char::from_u32(0xe000 + u32::from(b)).unwrap() };
    line.iter().map(private).collect()
}

fn to_bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for c in text.chars() {
        match c as u32 {
            p @ 0xe080..=0xe0ff => out.push((p - 0xe000) as u8),
            _ => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}

/// The value at the beginning of `text`, and what follows it.
fn take<T: DeserializeOwned>(text: &str) -> (T, &str) {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    let value = values.next().unwrap().unwrap();
    let end = values.byte_offset();
    (value, &text[end..])
}

/// The members of an object that is known to be valid: names, and values as they stand.
fn members(object: &str) -> Vec<(String, &str)> {
    let mut found = Vec::new();
    let mut rest = object[1..].trim_start();
    while !rest.starts_with('}') {
        let (name, tail) = take::<String>(rest);
        let value = tail.trim_start()[1..].trim_start();
        let (_, tail) = take::<IgnoredAny>(value);
        found.push((name, &value[..value.len() - tail.len()]));
        rest = tail.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    }
    found
}

/// The value of `name` in `object`, as it stands: the last literal member, else a member of a member.
fn lookup<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let members = members(object);
    let last = |key: &str| members.iter().rev().find(|(k, _)| k == key).map(|&(_, value)| value);
    let inner = |(dot, _)| {
        let object = last(&name[..dot]).filter(|value| value.starts_with('{'))?;
        lookup(object, &name[dot + 1..])
    };
    last(name).or_else(|| name.rmatch_indices('.').find_map(inner))
}

/// What the twin makes of a value: the cell, or `None` if it does not fit, or an error if an integer meets a fraction.
fn convert(raw: &str, ty: FieldType) -> Result<Option<Cell>, &'static str> {
    let string: Option<Vec<u8>> = serde_json::from_str::<String>(raw).ok().map(|s| to_bytes(&s));
    let number = raw.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    Ok(match (ty, string) {
        (Text, Some(s)) if s.first() == Some(&0) => Some(Cell::Text([&[0, 1], &s[..]].concat())),
        (Text, Some(s)) => Some(Cell::Text(s)),
        (Text, None) => Some(Cell::Text([&[0], &to_bytes(raw)[..]].concat())),
        (Timestamp, Some(s)) => TimeFormat::Auto.parse_bytes(&s).map(Cell::Int),
        (Timestamp, None) if number => TimeFormat::Auto.parse_bytes(raw.as_bytes()).map(Cell::Int),
        (Boolean, None) => raw.parse().ok().map(Cell::Bool),
        (Float64, None) if number => Some(Cell::Float(raw.parse::<f64>().unwrap().to_bits())),
        (Int64, None) if number && !raw.contains(['.', 'e', 'E']) => raw.parse().ok().map(Cell::Int),
        (Int64, None) if number => {
            let value: f64 = raw.parse().unwrap();
            if value.abs() >= 9e15 || (value == 0.0 && raw.contains(|c: char| ('1'..='9').contains(&c))) {
                return Err("the twin's doubles are not exact there");
            }
            if value.fract() != 0.0 {
                return Err("fraction");
            }
            Some(Cell::Int(value as i64))
        }
        _ => None,
    })
}

/// What the twin expects of a whole text.
#[derive(Debug, Default, PartialEq)]
struct Expected {
    times: Vec<i64>,
    rows: Vec<Vec<Cell>>,
    bad: Vec<u64>,
    lines: u64,
    cast_failed: u64,
}

/// `Err` where the two may differ for known reasons, or where the run stops at a fraction.
fn twin(text: &[u8], wanted: &Wanted) -> Result<Expected, &'static str> {
    let mut out = Expected::default();
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    for line in body.split(|&b| b == b'\n').take(if text.is_empty() { 0 } else { usize::MAX }) {
        out.lines += 1;
        let line = to_chars(line);
        let line = line.trim_matches([' ', '\t', '\r']);
        if line.is_empty() {
            continue;
        }
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) if value.is_object() => {}
            Err(e) if e.to_string().contains("out of range") => return Err("serde_json refuses 1e999"),
            Err(e) if e.to_string().contains("surrogate") || e.to_string().contains("hex escape") => {
                return Err("serde_json refuses lone surrogates");
            }
            _ => {
                out.bad.push(out.lines - 1);
                continue;
            }
        }
        let value = |name: &str, ty| match lookup(line, name) {
            None | Some("null") => Ok(Some(Cell::Null)),
            Some(raw) => convert(raw, ty),
        };
        if let Some(time) = &wanted.time {
            match value(&time.name, Timestamp)? {
                Some(Cell::Int(micros)) => out.times.push(micros),
                _ => {
                    out.bad.push(out.lines - 1);
                    continue;
                }
            }
        }
        let mut row = Vec::new();
        for field in &wanted.fields {
            let cell = value(&field.name, field.ty)?;
            out.cast_failed += u64::from(cell.is_none());
            row.push(cell.unwrap_or(Cell::Null));
        }
        out.rows.push(row);
    }
    Ok(out)
}

fn agree(text: &[u8], wanted: &Wanted) {
    // The block lies in the middle of its buffer, as a source would have it.
    let before = b"{\"path\":1}\n";
    let data = [before, text, b"{\"ts\":1"].concat();
    let block = TextBlock {
        data: data.into(),
        start: before.len(),
        end: before.len() + text.len(),
        offset: 0,
        max_record: 1 << 20,
    };
    let got = JsonDecoder::new(wanted).unwrap().decode(&block);
    match twin(text, wanted) {
        Err("fraction") => assert_eq!(got.unwrap_err().kind(), ErrorKind::Data),
        Err(_) => {}
        Ok(expected) => {
            let got = got.unwrap();
            let bad = got.bad.iter().map(|b| b.line).collect();
            let rows = rows(&got);
            let got = Expected { times: got.times, rows, bad, lines: got.lines, cast_failed: got.cast_failed };
            assert_eq!(got, expected, "{}", String::from_utf8_lossy(text));
        }
    }
}

// ---- generated records ----

fn names() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "\"ts\"",
        "\"path\"",
        "\"status\"",
        "\"a\"",
        "\"a.b\"",
        "\"b\"",
        "\"c\"",
        "\"b.c\"",
        "\"a.b.c\"",
        "\"x\"",
        "\"\"",
        "\"p\\u0061th\"",
        "\"latency_of_the_request\"",
        "\"st\u{e4}tus\"",
    ])
}

fn scalars() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "\"[a-z0-9/ ]{0,40}\"".prop_map(String::into_bytes),
        2 => "\"([a-z]|\\\\[\"\\\\/bfnrt]|\\\\u00[0-9a-fA-F]{2}|\\\\ud83d\\\\ude00|é){0,12}\"".prop_map(String::into_bytes),
        1 => prop::collection::vec(0x80u8.., 0..5).prop_map(|v| [b"\"", &v[..], b"\""].concat()),
        1 => Just(b"\"2024-02-29T12:00:00.25Z\"".to_vec()),
        3 => "-?(0|[1-9][0-9]{0,6})".prop_map(String::into_bytes),
        1 => "-?(0|[1-9][0-9]{0,20})".prop_map(String::into_bytes),
        2 => "-?(0|[1-9][0-9]{0,3})[.][0-9]{1,9}".prop_map(String::into_bytes),
        1 => "(0|[1-9][0-9]{0,2})([.][0-9]{1,2})?[eE][+-]?[0-9]".prop_map(String::into_bytes),
        2 => prop::sample::select(vec!["true", "false", "null"]).prop_map(|s| s.as_bytes().to_vec()),
    ]
}

fn spaces() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => Just(" "), 1 => Just(" \t"), 1 => Just("\r")]
}

fn object(value: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let member = (names(), value, spaces(), spaces()).prop_map(|(name, value, a, b)| {
        [a.as_bytes(), name.as_bytes(), b.as_bytes(), b":", a.as_bytes(), &value, b.as_bytes()].concat()
    });
    prop::collection::vec(member, 0..7).prop_map(|members| [b"{", &members.join(&b","[..])[..], b"}"].concat())
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    let value = scalars().boxed().prop_recursive(3, 16, 4, |inner| {
        let array = prop::collection::vec(inner.clone(), 0..3);
        prop_oneof![
            object(inner.boxed()),
            array.prop_map(|values| [b"[", &values.join(&b", "[..])[..], b" ]"].concat()),
        ]
    });
    let timed = "\\{\"ts\": ?\"2024-01-0[1-9]T00:00:00Z\",".prop_map(String::into_bytes);
    (timed, object(value.boxed()), any::<bool>()).prop_map(|(timed, object, with_time)| {
        if with_time && object.len() > 2 { [&timed[..], &object[1..]].concat() } else { object }
    })
}

/// Small damage: a byte replaced, inserted or removed, or the rest cut off.
fn damage() -> impl Strategy<Value = (u8, usize, u8)> {
    let byte = prop_oneof![prop::sample::select(b"{}[]\",:\\ 01.-eEu\n\r\t\x00\x7f\xffntf".to_vec()), any::<u8>(),];
    (0u8..12, any::<usize>(), byte)
}

fn apply(mut line: Vec<u8>, damages: &[(u8, usize, u8)]) -> Vec<u8> {
    for &(what, at, byte) in damages {
        let at = at % (line.len() + 1);
        match what {
            0..=2 => line.insert(at, byte),
            3..=5 if at < line.len() => line[at] = byte,
            6..=8 if at < line.len() => drop(line.remove(at)),
            9 => line.truncate(at),
            _ => {}
        }
    }
    line
}

fn everything() -> Wanted {
    wanted(
        Some("ts"),
        &[
            ("path", Text),
            ("status", Text),
            ("status", Float64),
            ("a.b", Text),
            ("a.b.c", Text),
            ("a.b.c", Int64),
            ("b.c", Timestamp),
            ("x", Boolean),
            ("a", Text),
            ("", Float64),
            ("ts", Timestamp),
            ("latency_of_the_request", Float64),
        ],
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_twin(
        base in record(),
        damages in prop::collection::vec(prop::collection::vec(damage(), 0..3), 1..5),
        other in record(),
        newline: bool,
    ) {
        // The same layout again and again, each time damaged elsewhere, so that remembered layouts are tried.
        let mut lines: Vec<Vec<u8>> = damages.iter().map(|d| apply(base.clone(), d)).collect();
        lines.insert(lines.len() / 2, other);
        let mut text = lines.join(&b'\n');
        if newline {
            text.push(b'\n');
        }
        agree(&text, &everything());
        agree(&text, &wanted(None, &[("path", Text), ("b", Float64), ("c", Text)]));
    }

    #[test]
    fn inference_survives_anything(base in record(), damages in prop::collection::vec(damage(), 0..3)) {
        let line = apply(base, &damages);
        let inferred = infer(&block(&line), 10);
        prop_assert!(inferred.records <= 4);
    }
}

// ---- by hand ----

#[test]
fn marks_tell_numbers_from_strings() {
    let got = texts(
        br#"{"k":"200"}
{"k":200}
{"k":1.0}
{"k":true}
{"k":null}
{}
{"k":"\u0000x"}
{"k":[1, {"a":2}]}
{"k":"tab\tand \ud83d\ude00 and \ud800"}
{"k":"a plain string of more than twelve bytes"}
"#,
        "k",
    );
    let expected = [
        text(b"200"),
        text(b"\x00200"),
        text(b"\x001.0"),
        text(b"\x00true"),
        Cell::Null,
        Cell::Null,
        text(b"\x00\x01\x00x"),
        text(b"\x00[1, {\"a\":2}]"),
        text(b"tab\tand \xf0\x9f\x98\x80 and \xed\xa0\x80"),
        text(b"a plain string of more than twelve bytes"),
    ];
    assert_eq!(got, expected);
    assert_eq!(display_token(b"\x00\x01\x00x"), b"\x00x");
    assert_eq!(display_token(b"\x001.0"), b"1.0");
    assert_eq!(display_token(b""), b"");
}

#[test]
fn plain_text_points_into_the_block() {
    let block =
        block(b"{\"k\":\"a plain string of more than twelve bytes\"}\n{\"k\":\"with \\n an escape, copied\"}\n");
    let decoded = JsonDecoder::new(&wanted(None, &[("k", Text)])).unwrap().decode(&block).unwrap();
    let buffers = decoded.columns[0].as_binary_view().data_buffers();
    assert_eq!(buffers.len(), 2);
    assert_eq!(buffers[0].as_ptr(), block.data.as_ptr());
}

#[test]
fn names_literal_nested_and_duplicate() {
    let nested = |line: &str, name: &str| texts(line.as_bytes(), name).remove(0);
    assert_eq!(nested(r#"{"a":{"b":"in"},"a.b":"lit"}"#, "a.b"), text(b"lit"));
    assert_eq!(nested(r#"{"a.b":null,"a":{"b":"in"}}"#, "a.b"), Cell::Null);
    assert_eq!(nested(r#"{"a":{"b":"in"}}"#, "a.b"), text(b"in"));
    assert_eq!(nested(r#"{"a.b":{"c":"1"},"a":{"b.c":"2","b":{"c":"3"}}}"#, "a.b.c"), text(b"1"));
    assert_eq!(nested(r#"{"a":{"b":{"c":"3"},"b.c":"2"}}"#, "a.b.c"), text(b"2"));
    assert_eq!(nested(r#"{"a":{"b":"1"},"a":{"c":"2"}}"#, "a.b"), Cell::Null);
    assert_eq!(nested(r#"{"a":{"b":"1"},"a":7}"#, "a.b"), Cell::Null);
    assert_eq!(nested(r#"{"k":"1","k":"2"}"#, "k"), text(b"2"));
    assert_eq!(nested(r#"{"k":"1","\u006b":"2"}"#, "k"), text(b"2"));
    assert_eq!(nested(r#"{"a":{"b":1}}"#, "a"), text(b"\x00{\"b\":1}"));
    assert!(JsonDecoder::new(&wanted(None, &[("a.a.a.a.a.a.a.a.a.a.a.a", Text)])).is_err());
}

#[test]
fn a_remembered_layout_is_only_a_guess() {
    let lines = b"{\"a\":1,\"k\":\"x\"}\n{\"a\": 1,\"k\":\"y\"}\n{\"a\":1 ,\"k\":  \"z\"}\n{\"k\":\"u\",\"a\":1}\n{\"k\":\"v\"}\n{}\n{\"kk\":1,\"k\":\"w\"}\n";
    let expected = [text(b"x"), text(b"y"), text(b"z"), text(b"u"), text(b"v"), Cell::Null, text(b"w")];
    assert_eq!(texts(lines, "k"), expected);
    agree(lines, &wanted(None, &[("k", Text), ("a", Int64)]));
}

#[test]
fn types_and_what_does_not_fit() {
    let fields = wanted(None, &[("v", Int64), ("v", Float64), ("v", Boolean), ("v", Timestamp)]);
    let lines = br#"{"v":3.0}
{"v":1e3}
{"v":"200"}
{"v":true}
{"v":9223372036854775808}
{"v":1e999}
{"v":"2024-01-01T00:00:00Z"}
"#;
    let decoded = decode(lines, &fields);
    let float = |v: f64| Cell::Float(v.to_bits());
    let got = rows(&decoded);
    assert_eq!(got[0][..3], [Cell::Int(3), float(3.0), Cell::Null]);
    assert_eq!(got[1][..3], [Cell::Int(1000), float(1000.0), Cell::Null]);
    assert_eq!(got[2][..3], [Cell::Null, Cell::Null, Cell::Null]);
    assert_eq!(got[3], [Cell::Null, Cell::Null, Cell::Bool(true), Cell::Null]);
    assert_eq!(got[4][..3], [Cell::Null, float(9_223_372_036_854_775_808.0), Cell::Null]);
    assert_eq!(got[5][..3], [Cell::Null, Cell::Null, Cell::Null]);
    assert_eq!(got[6], [Cell::Null, Cell::Null, Cell::Null, Cell::Int(1_704_067_200_000_000)]);
    assert_eq!(decoded.rows, 7);
    let nulls = decode(b"{\"v\":null}\n{}\n", &fields);
    assert_eq!((nulls.rows, nulls.cast_failed), (2, 0));
}

#[test]
fn an_integer_that_meets_a_fraction_stops_the_run() {
    let fields = wanted(Some("ts"), &[("bytes", Int64)]);
    let decoder = JsonDecoder::new(&fields).unwrap();
    // A record that is bad anyway does not.
    let text = b"{\"bytes\":1.5}\n{\"ts\":\"2024-01-01T00:00:00Z\",\"bytes\":2.5}\n";
    let error = decoder.decode(&block(text)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert_eq!(error.place().offset, Some(14));
    let sentence = error.to_string();
    assert!(
        sentence.contains("`bytes`") && sentence.contains("2.5") && sentence.contains("--type bytes:float"),
        "{sentence}"
    );
}

#[test]
fn bad_records_leave_their_neighbours_alone() {
    let good = r#"{"ts":"2024-01-01T00:00:00Z","k":"v"}"#;
    let fields = wanted(Some("ts"), &[("k", Text)]);
    for (bad, reason) in [
        ("[1]", "not a JSON object"),
        ("7", "not a JSON object"),
        ("garbage", "not a JSON object"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k":"v"} x"#, "text after the JSON object"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k":"v"}{}"#, "text after the JSON object"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k":"v"#, "the JSON object does not end"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k""#, "the JSON object does not end"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k":}"#, "invalid JSON: a value was expected"),
        (r#"{"ts":"2024-01-01T00:00:00Z",}"#, "invalid JSON: a member name in double quotes was expected"),
        (r#"{"ts":"2024-01-01T00:00:00Z" "k":1}"#, "invalid JSON: a comma or closing bracket was expected"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k" 1}"#, "invalid JSON: a colon was expected"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k":01}"#, "invalid JSON: malformed number"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k":1.}"#, "invalid JSON: malformed number"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k":-}"#, "invalid JSON: malformed number"),
        ("{\"ts\":\"2024-01-01T00:00:00Z\",\"k\":\"a\x00b\"}", "invalid JSON: control character in a string"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k":"\x"}"#, "invalid JSON: unknown escape in a string"),
        (r#"{"ts":"2024-01-01T00:00:00Z","k":"\u12g4"}"#, "invalid JSON: unknown escape in a string"),
        (r#"{"k":"v"}"#, "no valid time"),
        (r#"{"ts":null,"k":"v"}"#, "no valid time"),
        (r#"{"ts":"yesterday","k":"v"}"#, "no valid time"),
        (r#"{"ts":{"at":1},"k":"v"}"#, "no valid time"),
    ] {
        let text = format!("{good}\n  \n{bad}\r\n{good}");
        let decoded = decode(text.as_bytes(), &fields);
        assert_eq!((decoded.rows, decoded.times.len(), decoded.lines), (2, 2, 4), "{bad}");
        assert_eq!(rows(&decoded), vec![vec![self::text(b"v")]; 2]);
        let expected = BadRecord { line: 2, start: good.len() + 4, len: bad.len() + 1, reason };
        assert_eq!(decoded.bad, [expected], "{bad}");
    }
}

#[test]
fn dirty_input() {
    let fields = wanted(None, &[("k", Text)]);
    let lines = b"\xef\xbb\xbf{\"k\":\"a\"}\r\n\r\n \t\n{\"k\":\"\xff\xfe raw\", \"\xc3\":1}\r\n{\"k\":\"last\"}";
    let decoded = decode(lines, &fields);
    assert_eq!(rows(&decoded), [[text(b"a")], [text(b"\xff\xfe raw")], [text(b"last")]]);
    assert_eq!((decoded.lines, decoded.bad.len()), (5, 0));
    // A byte-order mark anywhere else is no JSON.
    let mut later = block(b"\xef\xbb\xbf{\"k\":\"a\"}\n");
    later.offset = 100;
    assert_eq!(JsonDecoder::new(&fields).unwrap().decode(&later).unwrap().bad.len(), 1);
    let empty = decode(b"", &fields);
    assert_eq!((empty.rows, empty.lines, empty.columns[0].len()), (0, 0, 0));
}

#[test]
fn depth_and_length() {
    let fields = wanted(None, &[("k", Text)]);
    for (open, close) in [("[", "]"), ("{\"k\":", "}")] {
        for (levels, bad) in [(1000, 0), (100_000, 1)] {
            let value = format!("{}1{}", open.repeat(levels), close.repeat(levels));
            let text = format!("{{\"k\":\"a\"}}\n{{\"v\":{value}}}\n{{\"k\":\"b\"}}\n");
            let decoded = decode(text.as_bytes(), &fields);
            assert_eq!((decoded.rows, decoded.bad.len()), (3 - bad, bad));
            // Broken off in the depth.
            let text = format!("{{\"v\":{}\n{{\"k\":\"b\"}}\n", open.repeat(levels));
            assert_eq!(decode(text.as_bytes(), &fields).rows, 1);
        }
    }
    let mut long = block(b"{\"k\":\"0123456789\"}\n{\"k\":\"1\"}\n{\"k\":\"0123456789\n");
    long.max_record = 9;
    let decoded = JsonDecoder::new(&fields).unwrap().decode(&long).unwrap();
    assert_eq!(rows(&decoded), [[text(b"1")]]);
    assert!(decoded.bad.iter().all(|b| b.reason == TOO_LONG) && decoded.bad.len() == 2);
}

#[test]
fn inference() {
    let lines =
        br#"{"time":"2024-01-01T00:00:00Z","n":1,"f":1,"u":18446744073709551615,"o":{"p":"x","q":null},"b":true}
not json, "ghost": 1
{"n":2,"f":2.5,"m":1,"o":{"p":"y"},"b":false,"ts":"2024-01-01T00:00:00Z","num":"123"}
{"n":-3,"m":"one","ts":"soon","arr":[1],"n.x":null}
"#;
    let inferred = infer(&block(lines), 1000);
    let fields: Vec<_> = inferred.fields.iter().map(|f| (f.name.as_str(), f.ty, f.values, f.objects)).collect();
    let expected = [
        ("time", Timestamp, 1, 0),
        ("n", Int64, 3, 0),
        ("f", Float64, 2, 0),
        ("u", Float64, 1, 0),
        ("o", Text, 2, 2),
        ("o.p", Text, 2, 0),
        ("o.q", Text, 0, 0),
        ("b", Boolean, 2, 0),
        ("m", Text, 2, 0),
        ("ts", Text, 2, 0),
        ("num", Text, 1, 0),
        ("arr", Text, 1, 0),
        ("n.x", Text, 0, 0),
    ];
    assert_eq!(fields, expected);
    assert_eq!((inferred.records, inferred.time), (3, Some("ts")));
    assert_eq!(infer(&block(lines), 1).records, 1);
    assert_eq!(infer(&block(b"\n"), 9), Inferred::default());
}
