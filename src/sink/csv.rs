//! CSV as RFC 4180 has it: a header, quotes only where a field needs them, LF at the end of a line.
//!
//! Null is an empty cell, the empty string is `""`; a field is quoted if it holds a comma, a quote, CR or LF.
//!
//! A call's rows are cut into pieces of about [`BUFFER`] bytes; the threads of the current rayon pool take the
//! pieces in order, print each into a reused buffer and pass it to the writer's thread as soon as all before it
//! were passed. In flight: one buffer per thread and the writer's queue, some MiB, whatever the size of a call.
//!
//! Cost, one Zen 4 core: a row of two instants, a path of 30 bytes and three counts (88 bytes) about 50 ns.

use super::cells::{Cells, LONGEST, LastTime, Row, Values, supported};
use super::writer::{BUFFER, InOrder, Writer};
use super::{Sink, SinkSummary};
use crate::Result;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows of a piece at most: short rows are printed in about the time that a task costs to start.
const PIECE_ROWS: usize = if cfg!(test) { 16 } else { 16 << 10 };

/// Writes CSV to a file, a device or standard output.
#[derive(Debug)]
pub(super) struct CsvSink {
    writer: Writer,
    rows: u64,
}

impl CsvSink {
    /// Opens `path` (or standard output) and writes the header.
    pub(super) fn open(path: Option<&Path>, schema: &SchemaRef) -> Result<Self> {
        let writer = Writer::open(path)?;
        writer.send(header(schema));
        Ok(CsvSink { writer, rows: 0 })
    }
}

impl Sink for CsvSink {
    fn write(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        self.writer.check()?;
        if self.writer.closed() {
            return Ok(());
        }
        let columns: Vec<Vec<ArrayRef>> =
            batches.iter().map(|batch| batch.columns().iter().map(supported).collect()).collect::<Result<_>>()?;
        let cells: Vec<Vec<Cells>> =
            columns.iter().map(|columns| columns.iter().map(Cells::of).collect()).collect::<Result<_>>()?;
        let mut pieces: Vec<(&[Cells], Range<usize>)> = Vec::new();
        for (batch, cells) in batches.iter().zip(&cells) {
            let rows = batch.num_rows();
            let step = piece_rows(cells, rows);
            pieces.extend((0..rows).step_by(step).map(|at| {
                let end = rows.min(at + step);
                (cells.as_slice(), at..end)
            }));
            self.rows += rows as u64;
        }
        let next = AtomicUsize::new(0);
        let in_order = InOrder::new(&self.writer);
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((cells, range)) = pieces.get(number) else { break };
                let mut row = Row::over(self.writer.buffer());
                print(cells, range.clone(), &mut row);
                in_order.send(number, row.into_bytes());
            }
        };
        let threads = rayon::current_num_threads().min(pieces.len());
        if threads <= 1 {
            work();
        } else {
            rayon::scope(|scope| (0..threads).for_each(|_| scope.spawn(|_| work())));
        }
        self.writer.check()
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush()
    }

    fn closed(&self) -> bool {
        self.writer.closed()
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary> {
        let written = self.writer.finish()?;
        Ok(SinkSummary { rows: self.rows, bytes: written.bytes, checksum: None, closed_pipe: written.closed_pipe })
    }
}

/// The first line.
pub(super) fn header(schema: &SchemaRef) -> Vec<u8> {
    let mut row = Row::default();
    for (i, field) in schema.fields().iter().enumerate() {
        let name = field.name().as_bytes();
        row.room(2 * name.len() + 4);
        if i > 0 {
            row.byte(b',');
        }
        text(name, 0, name.len(), &mut row);
    }
    row.room(1);
    row.byte(b'\n');
    row.into_bytes()
}

/// How many rows of these columns make about one buffer.
fn piece_rows(cells: &[Cells], rows: usize) -> usize {
    let bytes: usize = cells
        .iter()
        .map(|cells| match cells.values {
            Values::Time(_) => rows * 21,
            _ => cells.text_bytes().unwrap_or(rows * 10) + rows,
        })
        .sum();
    (BUFFER * rows / bytes.max(1)).clamp(1, PIECE_ROWS)
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
