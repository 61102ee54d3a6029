//! CSV as RFC 4180 has it: a header, quotes only where a field needs them, LF at the end of a line.
//!
//! Null is an empty cell, the empty string is `""`; a field is quoted if it holds a comma, a quote, CR or LF.
//!
//! Cost, one Zen 4 core: a row of two instants, a path of 30 bytes and three counts (88 bytes) about 50 ns.

use super::cells::{Cells, LONGEST, LastTime, Row, Values};
use super::lines::Lines;
use arrow_schema::SchemaRef;
use std::ops::Range;

/// The lines of CSV.
pub(super) struct Csv;

impl Lines for Csv {
    fn new(schema: &SchemaRef, head: &mut Row) -> Self {
        for (i, field) in schema.fields().iter().enumerate() {
            let name = field.name().as_bytes();
            head.room(2 * name.len() + 4);
            if i > 0 {
                head.byte(b',');
            }
            text(name, 0, name.len(), head);
        }
        head.room(1);
        head.byte(b'\n');
        Csv
    }

    fn print(&self, columns: &[Cells], range: Range<usize>, row: &mut Row) {
        print(columns, range, row);
    }

    fn overhead(&self, columns: usize) -> usize {
        columns
    }
}

/// Prints the rows of `range`.
pub(super) fn print(columns: &[Cells], range: Range<usize>, row: &mut Row) {
    // What a row needs beside its text; a comma or the newline is counted with each field.
    let fixed = columns.len() * (LONGEST + 1) + 1;
    let mut columns: Vec<(&Cells, LastTime)> = columns.iter().map(|column| (column, LastTime::new())).collect();
    for i in range {
        row.room(fixed);
        for (column, last) in &mut columns {
            if let Some(nulls) = column.nulls
                && nulls.is_null(i)
            {
                row.byte(b',');
                continue;
            }
            match &column.values {
                Values::Time(values) => last.print(values[i], row),
                Values::Int(values) => row.int(values[i]),
                Values::Text(offsets, bytes) => {
                    let (start, end) = (offsets[i] as usize, offsets[i + 1] as usize);
                    row.room(2 * (end - start) + 2 + fixed);
                    text(bytes, start, end, row);
                }
                Values::Entries(keys, offsets, bytes) => {
                    let entry = keys[i] as usize;
                    let (start, end) = (offsets[entry] as usize, offsets[entry + 1] as usize);
                    row.room(2 * (end - start) + 2 + fixed);
                    text(bytes, start, end, row);
                }
                Values::Float(values) => row.float(values[i]),
                Values::Unsigned(values) => row.unsigned(values[i]),
                Values::Single(values) => row.single(values[i]),
                Values::Boolean(values) => row.boolean(values.value(i)),
                Values::Nothing => {}
                Values::LargeText(..) | Values::TextView(_) | Values::BytesView(_) => {
                    let bytes = column.text(i);
                    row.room(2 * bytes.len() + 2 + fixed);
                    text(bytes, 0, bytes.len(), row);
                }
            }
            row.byte(b',');
        }
        row.end_line();
    }
}

/// Prints a text field, quoted where it has to be.
#[inline]
fn text(bytes: &[u8], start: usize, end: usize, row: &mut Row) {
    let field = &bytes[start..end];
    if field.is_empty() || needs_quotes(field) {
        quoted(field, row);
    } else {
        row.slice(bytes, start, end);
    }
}

#[cold]
fn quoted(field: &[u8], row: &mut Row) {
    row.byte(b'"');
    for &byte in field {
        if byte == b'"' {
            row.byte(b'"');
        }
        row.byte(byte);
    }
    row.byte(b'"');
}

/// Whether a comma, a quote, CR or LF is in `field`: 16 bytes at a time, the last 16 overlapping.
#[inline]
fn needs_quotes(field: &[u8]) -> bool {
    let (blocks, rest) = field.as_chunks::<16>();
    if let Some(last) = field.last_chunk::<16>() {
        blocks.iter().any(special_in) || (!rest.is_empty() && special_in(last))
    } else if let (Some(first), Some(last)) = (field.first_chunk::<8>(), field.last_chunk::<8>()) {
        let mut block = [0; 16];
        block[..8].copy_from_slice(first);
        block[8..].copy_from_slice(last);
        special_in(&block)
    } else {
        field.iter().any(special)
    }
}

#[inline]
fn special(byte: &u8) -> bool {
    matches!(byte, b',' | b'"' | b'\r' | b'\n')
}

/// One needle after the other, so that it becomes a comparison of the block for each; the four in one expression
/// become a table of bits that is asked byte by byte.
#[inline]
fn special_in(block: &[u8; 16]) -> bool {
    let has = |needle: u8| block.iter().fold(0, |found, byte| found | u8::from(*byte == needle));
    (has(b',') | has(b'"') | has(b'\r') | has(b'\n')) != 0
}
