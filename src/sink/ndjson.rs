//! NDJSON: one object a line, in the order of the columns.
//!
//! Nulls are written as `null`, and so are NaN and the infinities, which JSON does not have. Instants are RFC 3339
//! strings. Text is escaped as little as JSON allows; bytes that are not UTF-8 become replacement characters.

use super::cells::{Cells, LONGEST, LastTime, Row, Values};
use super::lines::Lines;
use arrow_schema::SchemaRef;
use std::ops::Range;

/// The lines of NDJSON.
pub(super) struct Ndjson {
    /// What stands before each value: `{"name":`, then `,"name":`.
    names: Vec<Vec<u8>>,
}

impl Lines for Ndjson {
    fn new(schema: &SchemaRef, _head: &mut Row) -> Self {
        let name = |(i, field): (usize, &arrow_schema::FieldRef)| {
            let mut row = Row::default();
            row.room(6 * field.name().len() + 4);
            row.byte(if i == 0 { b'{' } else { b',' });
            text(field.name().as_bytes(), &mut row);
            row.byte(b':');
            row.into_bytes()
        };
        Ndjson { names: schema.fields().iter().enumerate().map(name).collect() }
    }

    fn print(&self, columns: &[Cells], range: Range<usize>, row: &mut Row) {
        // What a row needs beside its text.
        let fixed = self.names.iter().map(|name| name.len() + LONGEST + 2).sum::<usize>() + 2;
        let mut columns: Vec<(&Cells, LastTime)> = columns.iter().map(|column| (column, LastTime::new())).collect();
        for i in range {
            row.room(fixed);
            for ((column, last), name) in columns.iter_mut().zip(&self.names) {
                row.bytes(name);
                if column.is_null(i) {
                    row.bytes(b"null");
                    continue;
                }
                match &column.values {
                    Values::Time(values) => {
                        row.byte(b'"');
                        last.print(values[i], row);
                        row.byte(b'"');
                    }
                    Values::Int(values) => row.int(values[i]),
                    Values::Unsigned(values) => row.unsigned(values[i]),
                    Values::Float(values) if values[i].is_finite() => row.float(values[i]),
                    Values::Single(values) if values[i].is_finite() => row.single(values[i]),
                    Values::Boolean(values) => row.boolean(values.value(i)),
                    Values::Float(_) | Values::Single(_) | Values::Nothing => row.bytes(b"null"),
                    _ => {
                        let bytes = column.text(i);
                        row.room(6 * bytes.len() + 2 + fixed);
                        text(bytes, row);
                    }
                }
            }
            row.bytes(if self.names.is_empty() { b"{}\n" } else { b"}\n" });
        }
    }

    fn overhead(&self, _columns: usize) -> usize {
        self.names.iter().map(Vec::len).sum::<usize>() + 2
    }
}

/// A JSON string.
pub(super) fn quoted(string: &str) -> String {
    let mut row = Row::default();
    row.room(string.len() + 2);
    text(string.as_bytes(), &mut row);
    String::from_utf8_lossy(row.as_bytes()).into_owned()
}

/// Prints a JSON string.
#[inline]
fn text(bytes: &[u8], row: &mut Row) {
    row.byte(b'"');
    // Most text is plain: nothing of it has to be looked at twice.
    let special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\' || *byte >= 0x7f;
    if bytes.iter().fold(false, |found, byte| found | special(byte)) {
        escaped(&String::from_utf8_lossy(bytes), row);
    } else {
        row.bytes(bytes);
    }
    row.byte(b'"');
}

#[cold]
fn escaped(text: &str, row: &mut Row) {
    // A byte that is no UTF-8 becomes three, a control character six.
    row.room(6 * text.len() + 2);
    for c in text.chars() {
        match c {
            '"' => row.bytes(b"\\\""),
            '\\' => row.bytes(b"\\\\"),
            '\n' => row.bytes(b"\\n"),
            '\r' => row.bytes(b"\\r"),
            '\t' => row.bytes(b"\\t"),
            c if c < ' ' => row.bytes(format!("\\u{:04x}", c as u32).as_bytes()),
            c => row.bytes(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}
