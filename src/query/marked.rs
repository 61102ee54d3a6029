//! Rows on their way through the map side when some of them may be late or ahead: their watermarks, and what becomes of
//! those that are dropped for it.

use super::map::{Piece, Record, Text};
use super::plan::Plan;
use crate::Result;
use crate::core::session::Span;
use crate::time::write_rfc3339;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, BooleanArray, TimestampMicrosecondArray};
use arrow_cast::cast;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, TimeUnit};
use std::sync::Arc;

/// The rows of a piece of which some may be late or ahead.
pub(super) struct Marked {
    /// The watermark before each row, or [`AHEAD`](crate::core::watermark::AHEAD).
    pub(super) marks: Vec<i64>,
    /// Their numbers in the whole piece.
    rows: Vec<usize>,
    /// Rows that were late or ahead and, of columnar input, what they hold.
    set_aside: Vec<(usize, Vec<u8>)>,
}

impl Marked {
    /// All rows of a piece, with their marks.
    pub(super) fn new(marks: Vec<i64>) -> Marked {
        Marked { rows: (0..marks.len()).collect(), marks, set_aside: Vec::new() }
    }

    /// Keeps the rows for which `mask` is true.
    pub(super) fn retain(&mut self, mask: &BooleanArray) {
        let (mut kept, mut also) = (mask.iter(), mask.iter());
        self.marks.retain(|_| kept.next().flatten() == Some(true));
        self.rows.retain(|_| also.next().flatten() == Some(true));
    }

    /// Takes note of the rows that `mask` drops.
    pub(super) fn set_aside(&mut self, plan: &Plan, piece: &Piece, mask: &BooleanArray) -> Result<()> {
        let Some(time_name) = &plan.late_time else { return Ok(()) };
        for row in (0..piece.rows).filter(|row| !mask.value(*row)) {
            let record = match piece.text {
                Some(_) => Vec::new(),
                None => json_record(plan, time_name, piece, row)?,
            };
            self.set_aside.push((self.rows[row], record));
        }
        Ok(())
    }

    /// Of a query with sessions, if they are wanted: the rows of `piece`, which is what was kept, that are late unless a
    /// session is open for them.
    pub(super) fn doubtful(&self, plan: &Plan, piece: &Piece) -> Result<Vec<(usize, Record)>> {
        let (Some(session), Some(time_name)) = (plan.session, &plan.late_time) else { return Ok(Vec::new()) };
        let closed = |row: &usize| Span::at(piece.times[*row]).is_closed(self.marks[*row], session.gap);
        (0..piece.rows)
            .filter(closed)
            .map(|row| match &piece.text {
                Some(text) => Ok((row, (self.rows[row] as u64, text.record(self.rows[row]).to_vec()))),
                None => Ok((row, (self.rows[row] as u64, json_record(plan, time_name, piece, row)?))),
            })
            .collect()
    }

    /// The records that were set aside, in the order of the input.
    pub(super) fn records(mut self, text: Option<&Text>) -> impl Iterator<Item = Record> {
        self.set_aside.sort_by_key(|(row, _)| *row);
        self.set_aside.into_iter().map(move |(row, record)| match text {
            Some(text) => (row as u64, text.record(row).to_vec()),
            None => (row as u64, record),
        })
    }
}

/// A record of columnar input as a JSON object: its time and the fields that the query reads.
fn json_record(plan: &Plan, time_name: &str, piece: &Piece, row: usize) -> Result<Vec<u8>> {
    let options = FormatOptions::new();
    let time: ArrayRef = Arc::new(TimestampMicrosecondArray::new(piece.times.slice(row, 1), None));
    let mut fields = vec![(time_name, time)];
    for (wanted, column) in plan.columns.iter().zip(&piece.columns) {
        if fields.iter().all(|field| field.0 != wanted.name) {
            fields.push((&wanted.name, column.slice(row, 1)));
        }
    }
    let mut record = Vec::new();
    for (name, column) in fields {
        record.push(if record.is_empty() { b'{' } else { b',' });
        quote(name, &mut record);
        record.push(b':');
        if column.is_null(0) {
            record.extend(b"null");
            continue;
        }
        if let DataType::Timestamp(..) = column.data_type() {
            let micros = cast(&column, &DataType::Timestamp(TimeUnit::Microsecond, None))?;
            let mut text = Vec::new();
            write_rfc3339(micros.as_primitive::<TimestampMicrosecondType>().value(0), &mut text);
            quote(&String::from_utf8_lossy(&text), &mut record);
            continue;
        }
        let value = ArrayFormatter::try_new(&column, &options)?.value(0).to_string();
        let bare = column.data_type().is_integer() || *column.data_type() == DataType::Boolean;
        if bare || column.data_type().is_floating() && value.parse().is_ok_and(f64::is_finite) {
            record.extend(value.as_bytes());
        } else {
            quote(&value, &mut record);
        }
    }
    record.push(b'}');
    Ok(record)
}

/// Appends `text` as a JSON string.
fn quote(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend([b'\\', c as u8]),
            c if c < ' ' => out.extend(format!("\\u{:04x}", c as u32).bytes()),
            c => out.extend(c.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    out.push(b'"');
}
