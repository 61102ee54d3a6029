//! Rows as JSON objects, one to a line: null for null, NaN and the infinities; instants as RFC 3339 in UTC.

use crate::sink::cells::{Cells, LONGEST, LastTime, Row, Values};
use arrow_schema::SchemaRef;
use std::ops::Range;

/// The names of the columns with what stands before and behind them: `{"a":`, `,"b":`.
pub(super) fn names(schema: &SchemaRef) -> Vec<String> {
    let names = schema.fields().iter().enumerate();
    names.map(|(i, f)| format!("{}{}:", if i == 0 { '{' } else { ',' }, quoted(f.name()))).collect()
}

/// A JSON string.
pub(super) fn quoted(text: &str) -> String {
    let mut row = Row::default();
    string(text.as_bytes(), &mut row);
    String::from_utf8_lossy(row.as_bytes()).into_owned()
}

/// Prints the rows of `range`.
pub(super) fn print(columns: &[Cells], names: &[String], range: Range<usize>, row: &mut Row) {
    let fixed: usize = names.iter().map(|n| n.len() + LONGEST + 2).sum::<usize>() + 2;
    let mut last: Vec<LastTime> = columns.iter().map(|_| LastTime::new()).collect();
    for i in range {
        row.room(fixed);
        for ((cells, name), last) in columns.iter().zip(names).zip(&mut last) {
            row.room(fixed);
            row.bytes(name.as_bytes());
            if cells.is_null(i) {
                row.bytes(b"null");
                continue;
            }
            match &cells.values {
                Values::Time(values) => {
                    row.byte(b'"');
                    last.print(values[i], row);
                    row.byte(b'"');
                }
                Values::Int(values) => row.int(values[i]),
                Values::Unsigned(values) => row.unsigned(values[i]),
                Values::Float(values) if values[i].is_finite() => row.float(values[i]),
                Values::Single(values) if values[i].is_finite() => row.single(values[i]),
                Values::Float(_) | Values::Single(_) | Values::Nothing => row.bytes(b"null"),
                Values::Boolean(values) => row.boolean(values.value(i)),
                Values::Text(..)
                | Values::LargeText(..)
                | Values::Entries(..)
                | Values::TextView(_)
                | Values::BytesView(_) => match std::str::from_utf8(cells.text(i)) {
                    Ok(text) => string(text.as_bytes(), row),
                    Err(_) => string(String::from_utf8_lossy(cells.text(i)).as_bytes(), row),
                },
            }
        }
        row.room(fixed);
        row.bytes(if columns.is_empty() { b"{}\n" } else { b"}\n" });
    }
}

/// Prints a JSON string.
fn string(text: &[u8], row: &mut Row) {
    row.room(6 * text.len() + 2);
    row.byte(b'"');
    let mut from = 0;
    for (at, byte) in text.iter().enumerate() {
        if *byte >= 0x20 && !matches!(byte, b'"' | b'\\') {
            continue;
        }
        row.bytes(&text[from..at]);
        from = at + 1;
        match byte {
            b'"' => row.bytes(b"\\\""),
            b'\\' => row.bytes(b"\\\\"),
            b'\n' => row.bytes(b"\\n"),
            b'\r' => row.bytes(b"\\r"),
            b'\t' => row.bytes(b"\\t"),
            other => row.bytes(format!("\\u{other:04x}").as_bytes()),
        }
    }
    row.bytes(&text[from..]);
    row.byte(b'"');
}
