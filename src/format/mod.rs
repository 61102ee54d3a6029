//! Log formats: bytes of whole records in, the wanted columns out.
//!
//! A source cuts its input into [`TextBlock`]s of whole lines; a [`Decoder`] turns one block into one
//! [`Decoded`]: the event times and the columns that the query names, in the order in which it names them, and
//! nothing else. Decoders keep no state between blocks, so blocks are decoded in any order on any thread and the
//! result is the same. Text columns are views into the block's own bytes: no copy, no allocation per record.

pub mod access;
mod columns;
pub mod csv;
pub(crate) mod infer;
pub mod json;
pub mod pattern;
mod records;

use crate::Result;
use crate::time::{TimeFormat, Zone};
use arrow_array::ArrayRef;
use arrow_buffer::Buffer;
use std::sync::Arc;

/// The type a field of a text format is decoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldType {
    /// Bytes as they stand in the input: `BinaryView` into the block (not checked for UTF-8).
    Text,
    /// `Int64`.
    Int64,
    /// `Float64`.
    Float64,
    /// `Boolean`.
    Boolean,
    /// `Timestamp(Microsecond, "UTC")`.
    Timestamp,
}

impl std::str::FromStr for FieldType {
    type Err = crate::Error;

    /// A type as `--type` names it: `text`, `integer`, `float`, `boolean`, `timestamp`, and `string`, `int`, `double`, `bool`.
    fn from_str(name: &str) -> Result<FieldType> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "text" | "string" => FieldType::Text,
            "integer" | "int" => FieldType::Int64,
            "float" | "double" => FieldType::Float64,
            "boolean" | "bool" => FieldType::Boolean,
            "timestamp" => FieldType::Timestamp,
            _ => {
                return Err(crate::Error::usage(format!(
                    "there is no type {name:?}; the types are text, integer, float, boolean and timestamp"
                )));
            }
        })
    }
}

/// One column that the query wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    /// The field's name, as the format names it.
    pub name: String,
    /// What to decode it to. The same field may be wanted twice, as a key (text) and as a number.
    pub ty: FieldType,
}

/// What a decoder is asked for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// The event time: its field, or `None` when the query uses no time. A record without a valid time is then bad.
    pub time: Option<TimeField>,
    /// The columns, in the order of [`Decoded::columns`].
    pub fields: Vec<Field>,
    /// The zone of times that carry none, those of `fields`; the event time's format knows its own.
    pub zone: Option<Zone>,
    /// How the values of one of the fields are written, if it is a time that records may lack.
    pub written: Option<TimeField>,
    /// Whether to tell where each good record stands ([`Decoded::places`]).
    pub places: bool,
}

impl Wanted {
    /// How the times of the field `name` are written: as the event time if it is that, otherwise in any known way.
    fn format_of(&self, name: &str) -> TimeFormat {
        match (self.time.as_ref().or(self.written.as_ref()), &self.zone) {
            (Some(time), _) if time.name == name => time.format.clone(),
            (_, Some(zone)) => TimeFormat::Auto.in_zone(zone.clone()),
            _ => TimeFormat::Auto,
        }
    }
}

/// Which field is the event time and how it is written.
#[derive(Debug, Clone)]
pub struct TimeField {
    /// The field's name.
    pub name: String,
    /// How it is written.
    pub format: TimeFormat,
}

/// A stretch of input that holds whole lines.
#[derive(Debug, Clone)]
pub struct TextBlock {
    /// The bytes; only `start..end` are this block's.
    pub data: Buffer,
    /// The first byte of the first line.
    pub start: usize,
    /// One past the last byte of the last line; its newline is included unless the input ends without one.
    pub end: usize,
    /// Where `data[0]` lies in the decompressed input, bytes from 0.
    pub offset: u64,
    /// A longer record is bad (`--max-record`), bytes without the newline.
    pub max_record: usize,
}

impl TextBlock {
    /// This block's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.data[self.start..self.end]
    }
}

/// One record that does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    /// Line within the block, from 0; blank lines count.
    pub line: u64,
    /// Where the line starts, as an index into the block's `data`.
    pub start: usize,
    /// Its length in bytes, without the newline.
    pub len: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// What one block holds: equal lengths for `times` (if wanted) and every column.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Good records, the length of every column.
    pub rows: usize,
    /// Event times in microseconds since the epoch; empty when no time was wanted.
    pub times: Vec<i64>,
    /// The wanted columns, in the order of [`Wanted::fields`].
    pub columns: Vec<ArrayRef>,
    /// Physical lines in the block, blank ones included, to number the lines of later blocks.
    pub lines: u64,
    /// Records that did not parse, in the order of the input. Blank lines are no records.
    pub bad: Vec<BadRecord>,
    /// Values that did not fit their column's type and became null.
    pub cast_failed: u64,
    /// Where each good record stands in the block's `data`, if that was wanted: its first byte, and one past its last.
    pub places: Vec<(usize, usize)>,
}

/// Turns blocks of one format into columns.
pub trait Decoder: Send + Sync {
    /// Decodes every record of `block`.
    ///
    /// # Errors
    /// Only what must stop the run (an integer field that meets a fraction, [`crate::ErrorKind::Data`]); a record
    /// that does not parse is listed in [`Decoded::bad`].
    fn decode(&self, block: &TextBlock) -> Result<Decoded>;

    /// How quotes keep newlines inside a record, if they can; `None`: every newline ends a record.
    fn quoting(&self) -> Option<csv::Dialect> {
        None
    }

    /// The decoder of another input of the same run, which begins with `sample`, if it takes one of its own.
    ///
    /// # Errors
    /// A header that lacks a wanted column.
    fn for_input(&self, _sample: &TextBlock) -> Result<Option<Arc<dyn Decoder>>> {
        Ok(None)
    }
}
