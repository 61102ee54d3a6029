//! An aligned table for a terminal: two spaces between columns, numbers to the right, null as nothing.
//!
//! The first [`DECIDING_ROWS`] rows decide how wide the columns are and are held back for it (until then, or
//! [`Sink::flush`], or the end); later rows are printed as they come, and a longer cell pushes the rest of its row
//! to the right. Control characters in text are printed as escapes: a log must not drive the terminal it is shown on.
//!
//! On a terminal, lines fit its width: text is cut with an ellipsis, the widest columns first, and if that is not enough
//! columns in the middle are left out, with an ellipsis in their place. Characters count for as many places as they take.
//!
//! Cost: one thread, about 100 ns a cell; nobody reads faster.

use super::cells::{Cells, LONGEST, LastTime, Row, Values, supported};
use super::writer::{BUFFER, Writer};
use super::{Sink, SinkSummary};
use crate::Result;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{DataType, SchemaRef};
use std::io::IsTerminal;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Rows that decide the widths.
const DECIDING_ROWS: usize = if cfg!(test) { 3 } else { 1000 };

/// Cells are not padded to more than this, characters: one long text must not push all others off the screen.
const WIDEST: usize = 80;

/// Text is not cut to fewer places than this.
const NARROWEST: usize = 8;

/// Between two columns.
const GAP: usize = 2;

/// Prints a table to standard output or a file.
#[derive(Debug)]
pub(super) struct TableSink {
    writer: Writer,
    names: Vec<String>,
    right: Vec<bool>,
    /// Which columns may be cut: text, for half a number or half a time is a wrong one.
    text: Vec<bool>,
    /// Places of a line, if lines have to fit.
    fit: Option<usize>,
    /// Decided once, with the header printed.
    shape: Option<Shape>,
    /// The rows held back, their cells one after the other.
    held: Vec<String>,
    rows: u64,
}

/// Which columns are shown, and how wide.
#[derive(Debug, Clone)]
struct Shape {
    widths: Vec<usize>,
    /// `None` stands for columns that are left out.
    shown: Vec<Option<usize>>,
}

impl Shape {
    /// Columns of these widths, `text` telling which may be cut, in lines of `fit` places.
    fn new(mut widths: Vec<usize>, text: impl Fn(usize) -> bool, fit: Option<usize>) -> Shape {
        let all: Vec<Option<usize>> = (0..widths.len()).map(Some).collect();
        let Some(fit) = fit else { return Shape { widths, shown: all } };
        let needed = |widths: &[usize], shown: &[Option<usize>]| {
            shown.iter().map(|c| c.map_or(1, |c| widths[c]) + GAP).sum::<usize>().saturating_sub(GAP)
        };
        while needed(&widths, &all) > fit {
            let widest = (0..widths.len()).filter(|c| text(*c) && widths[*c] > NARROWEST).max_by_key(|c| widths[*c]);
            let Some(widest) = widest else { break };
            widths[widest] -= 1;
        }
        let mut shown = all.clone();
        let mut left_out = 0;
        while needed(&widths, &shown) > fit && left_out + 2 <= all.len() {
            // The first columns say what a row is, the last ones are asked for last.
            left_out += 1;
            let from = (all.len() - left_out).div_ceil(2);
            shown = all[..from].iter().copied().chain([None]).chain(all[from + left_out..].iter().copied()).collect();
        }
        Shape { widths, shown }
    }
}

impl TableSink {
    pub(super) fn new(writer: Writer, schema: &SchemaRef) -> Self {
        let names = schema.fields().iter().map(|field| printable(field.name().as_bytes())).collect();
        let right = schema.fields().iter().map(|field| is_number(field.data_type())).collect();
        let is_text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let text = schema.fields().iter().map(|field| is_text(field.data_type())).collect();
        let fit = (writer.is_stdout() && std::io::stdout().is_terminal()).then(terminal_size::terminal_size).flatten();
        let fit = fit.map(|(width, _)| usize::from(width.0));
        TableSink { writer, names, right, text, fit, shape: None, held: Vec::new(), rows: 0 }
    }

    /// Decides the widths from what is held, prints the header and the rows held.
    fn decide(&mut self) {
        let columns = self.names.len();
        let mut widths: Vec<usize> = self.names.iter().map(|name| name.width()).collect();
        for row in self.held.chunks(columns.max(1)) {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.width().min(WIDEST));
            }
        }
        let shape = Shape::new(widths, |column| self.text[column], self.fit);
        let mut lines = String::new();
        self.line(&self.names, &shape, &mut lines);
        for row in self.held.chunks(columns.max(1)) {
            self.line(row, &shape, &mut lines);
            self.send(&mut lines, BUFFER);
        }
        self.send(&mut lines, 1);
        self.held = Vec::new();
        self.shape = Some(shape);
    }

    fn line(&self, cells: &[String], shape: &Shape, out: &mut String) {
        for (at, column) in shape.shown.iter().enumerate() {
            let last = at + 1 == shape.shown.len();
            match column {
                None => out.push('…'),
                Some(column) => {
                    let (cell, width) = (&cells[*column], shape.widths[*column]);
                    let padding = std::iter::repeat_n(' ', width.saturating_sub(cell.width()));
                    if self.right[*column] {
                        out.extend(padding.clone());
                    }
                    match self.fit {
                        Some(_) if cell.width() > width && self.text[*column] => cut(cell, width, out),
                        _ => out.push_str(cell),
                    }
                    if !self.right[*column] && !last {
                        out.extend(padding);
                    }
                }
            }
            if !last {
                out.extend(std::iter::repeat_n(' ', GAP));
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
                match &self.shape {
                    None => self.held.extend(line),
                    Some(shape) => {
                        let line: Vec<String> = line.collect();
                        self.line(&line, shape, &mut lines);
                        self.send(&mut lines, BUFFER);
                    }
                }
                self.rows += 1;
                if self.shape.is_none() && self.rows >= DECIDING_ROWS as u64 {
                    self.decide();
                }
            }
        }
        self.send(&mut lines, 1);
        self.writer.check()
    }

    fn flush(&mut self) -> Result<()> {
        if self.shape.is_none() && self.rows > 0 {
            self.decide();
        }
        self.writer.flush()
    }

    fn closed(&self) -> bool {
        self.writer.closed()
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary> {
        if self.shape.is_none() {
            self.decide();
        }
        let rows = self.rows;
        let written = self.writer.finish()?;
        Ok(SinkSummary { rows, bytes: written.bytes, checksum: None, closed_pipe: written.closed_pipe })
    }
}

/// Appends as much of `text` as fits in `width` places, and an ellipsis.
fn cut(text: &str, width: usize, out: &mut String) {
    let mut left = width.saturating_sub(1);
    for c in text.chars() {
        let places = c.width().unwrap_or(0);
        if places > left {
            break;
        }
        left -= places;
        out.push(c);
    }
    out.push('…');
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the columns are, a line fits if it can, and the columns at both ends stay.
        #[test]
        fn lines_fit(widths in prop::collection::vec((1usize..60, any::<bool>()), 1..12), fit in 10usize..200) {
            let shape = Shape::new(widths.iter().map(|w| w.0).collect(), |c| widths[c].1, Some(fit));
            let line: usize = shape.shown.iter().map(|c| c.map_or(1, |c| shape.widths[c]) + GAP).sum::<usize>() - GAP;
            let shown: Vec<usize> = shape.shown.iter().copied().flatten().collect();
            prop_assert!(line <= fit || shown.len() <= 1 || shown.len() == widths.len() && widths.len() == 1, "{line} of {fit}");
            prop_assert!(shown.is_sorted() && shown.first() == Some(&0));
            prop_assert_eq!(shape.shown.len() > shown.len(), shown.len() < widths.len());
            for (c, (width, text)) in widths.iter().enumerate() {
                prop_assert!(shape.widths[c] == *width || *text && shape.widths[c] >= NARROWEST.min(*width));
            }
        }

        #[test]
        fn cut_text_takes_no_more_places(text in "[a-zé漢字́]{0,30}", width in 1usize..20) {
            let mut out = String::new();
            cut(&text, width, &mut out);
            prop_assert!(out.width() <= width);
            prop_assert!(text.starts_with(out.trim_end_matches('…')));
        }
    }
}
