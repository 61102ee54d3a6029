//! An aligned table for a terminal: two spaces between columns, numbers to the right, null as nothing.
//!
//! The first [`DECIDING_ROWS`] rows decide how wide the columns are and are held back for it (until then, or
//! [`Sink::flush`], or the end); later rows are printed as they come, and a longer cell pushes the rest of its row
//! to the right. Control characters in text are printed as escapes: a log must not drive the terminal it is shown on.
//!
//! Cost: one thread, about 100 ns a cell; nobody reads faster.
//!
//! # Known limitation
//! A character counts as one column, also where a terminal takes two (East Asian text) or none (combining marks).

use super::cells::{Cells, LONGEST, LastTime, Row, Values, supported};
use super::writer::{BUFFER, Writer};
use super::{Sink, SinkSummary};
use crate::Result;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use std::path::Path;

/// Rows that decide the widths.
const DECIDING_ROWS: usize = if cfg!(test) { 3 } else { 1000 };

/// Cells are not padded to more than this, characters: one long text must not push all others off the screen.
const WIDEST: usize = 80;

/// Prints a table to standard output or a file.
#[derive(Debug)]
pub(super) struct TableSink {
    writer: Writer,
    names: Vec<String>,
    right: Vec<bool>,
    /// Decided once, with the header printed.
    widths: Option<Vec<usize>>,
    /// The rows held back, their cells one after the other.
    held: Vec<String>,
    rows: u64,
}

impl TableSink {
    pub(super) fn open(path: Option<&Path>, schema: &SchemaRef) -> Result<Self> {
        let names = schema.fields().iter().map(|field| printable(field.name().as_bytes())).collect();
        let right = schema.fields().iter().map(|field| is_number(field.data_type())).collect();
        let writer = Writer::open(path)?;
        Ok(TableSink { writer, names, right, widths: None, held: Vec::new(), rows: 0 })
    }

    /// Decides the widths from what is held, prints the header and the rows held.
    fn decide(&mut self) {
        let columns = self.names.len();
        let mut widths: Vec<usize> = self.names.iter().map(|name| name.chars().count()).collect();
        for row in self.held.chunks(columns.max(1)) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count().min(WIDEST));
            }
        }
        let mut lines = String::new();
        self.line(&self.names, &widths, &mut lines);
        for row in self.held.chunks(columns.max(1)) {
            self.line(row, &widths, &mut lines);
            self.send(&mut lines, BUFFER);
        }
        self.send(&mut lines, 1);
        self.held = Vec::new();
        self.widths = Some(widths);
    }

    fn line(&self, cells: &[String], widths: &[usize], out: &mut String) {
        for (number, cell) in cells.iter().enumerate() {
            let padding = widths[number].saturating_sub(cell.chars().count());
            let last = number + 1 == cells.len();
            if self.right[number] {
                out.extend(std::iter::repeat_n(' ', padding));
            }
            out.push_str(cell);
            if !self.right[number] && !last {
                out.extend(std::iter::repeat_n(' ', padding));
            }
            if !last {
                out.push_str("  ");
            }
        }
        out.truncate(out.trim_end_matches(' ').len());
        out.push('\n');
    }

    /// Sends the lines if they are at least so many bytes.
    fn send(&self, lines: &mut String, at_least: usize) {
        if lines.len() >= at_least {
            self.writer.send(std::mem::take(lines).into_bytes());
        }
    }
}

impl Sink for TableSink {
    fn write(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        self.writer.check()?;
        let mut lines = String::new();
        for batch in &batches {
            if self.writer.closed() {
                return Ok(());
            }
            let columns: Vec<ArrayRef> = batch.columns().iter().map(supported).collect::<Result<_>>()?;
            let cells: Vec<Cells> = columns.iter().map(Cells::of).collect::<Result<_>>()?;
            let mut texts = Texts::new(cells.len());
            for row in 0..batch.num_rows() {
                let line = cells.iter().enumerate().map(|(c, cells)| texts.of(c, cells, row));
                match &self.widths {
                    None => self.held.extend(line),
                    Some(widths) => {
                        let line: Vec<String> = line.collect();
                        self.line(&line, widths, &mut lines);
                        self.send(&mut lines, BUFFER);
                    }
                }
                self.rows += 1;
                if self.widths.is_none() && self.rows >= DECIDING_ROWS as u64 {
                    self.decide();
                }
            }
        }
        self.send(&mut lines, 1);
        self.writer.check()
    }

    fn flush(&mut self) -> Result<()> {
        if self.widths.is_none() && self.rows > 0 {
            self.decide();
        }
        self.writer.flush()
    }

    fn closed(&self) -> bool {
        self.writer.closed()
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary> {
        if self.widths.is_none() {
            self.decide();
        }
        let rows = self.rows;
        let written = self.writer.finish()?;
        Ok(SinkSummary { rows, bytes: written.bytes, checksum: None, closed_pipe: written.closed_pipe })
    }
}

/// Cells as text.
struct Texts {
    row: Row,
    last: Vec<LastTime>,
}

impl Texts {
    fn new(columns: usize) -> Self {
        Texts { row: Row::default(), last: vec![LastTime::new(); columns] }
    }

    fn of(&mut self, column: usize, cells: &Cells, row: usize) -> String {
        if cells.is_null(row) {
            return String::new();
        }
        self.row.clear();
        self.row.room(LONGEST);
        match &cells.values {
            Values::Time(values) => self.last[column].print(values[row], &mut self.row),
            Values::Int(values) => self.row.int(values[row]),
            Values::Unsigned(values) => self.row.unsigned(values[row]),
            Values::Float(values) => self.row.float(values[row]),
            Values::Single(values) => self.row.single(values[row]),
            Values::Boolean(values) => self.row.boolean(values.value(row)),
            _ => return printable(cells.text(row)),
        }
        String::from_utf8_lossy(self.row.as_bytes()).into_owned()
    }
}

/// Text without control characters and invalid UTF-8.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}
