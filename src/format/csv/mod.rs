//! CSV and TSV: delimited records with a header, quoted fields that may hold newlines, and of them only the wanted columns.
//!
//! The rules, where RFC 4180 and the programs that write CSV differ:
//! - a quote opens a quoted field at the very start of a field; anywhere else it is a character like any other. Inside,
//!   two quotes are one; behind a closing quote text goes on unquoted. TSV is the same with tabs, as in DuckDB and Spark;
//! - a record ends at a newline outside quotes; a carriage return before it is no part of the last field;
//! - blank lines are no records;
//! - a record must have as many fields as the header. Further ones are tolerated if they are empty; otherwise it is bad, as
//!   in DuckDB and Flink, since a field more or less shifts what follows it;
//! - an empty field is null; a quoted empty one is an empty text;
//! - a record over the limit is bad and ends at the first newline from the limit on, even inside quotes;
//! - a quoted field that does not end with its file makes its record bad.
//!
//! A header names the fields; one without a name is called `c` and its number, a second one of a name gets `_1`, `_2`, ...
//! Files of one input have each their own header, and columns are found by name.
//!
//! Zeek's logs (`#separator`, `#fields`) are read as TSV without quotes: lines that begin with `#` are none, `-` is null.
//!
//! Whether a record is good does not depend on which columns are wanted, the time excepted.
//!
//! Cost: a wanted column more or less costs its values; to find the fields, 64 bytes at a time are compared with delimiter
//! and newline (`specials`), and a quoted field is one search for its quote. The twin in the tests is `csv-core`.
//!
//! # Known limitation
//! A block holds less than 2 GiB. There is no escape character other than the doubled quote.

mod specials;
#[cfg(test)]
mod tests;
mod walk;

pub(crate) use walk::{Parity, Walker};

use super::columns::{Place, unquote};
use super::infer::{SAMPLE_RECORDS, narrowest};
use super::records::{Records, Slots};
use super::{BadRecord, Decoded, Decoder, Field, FieldType, TextBlock, Wanted};
use crate::{Error, Result};
use memchr::memchr;
use specials::Specials;
use std::sync::Arc;

/// What may stand before the first record of an input.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const TOO_LONG: &str = "longer than the longest record (--max-record)";
const NO_TIME: &str = "no valid time";
const UNCLOSED: &str = "a quoted field does not end";
const TOO_FEW: &str = "fewer fields than the header";
const TOO_MANY: &str = "more fields than the header";

/// What stands between fields and around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// Between two fields; not a newline.
    pub delimiter: u8,
    /// Around a field; `None` if quotes mean nothing.
    pub quote: Option<u8>,
}

impl Dialect {
    /// Commas and double quotes.
    pub const CSV: Dialect = Dialect { delimiter: b',', quote: Some(b'"') };
    /// Tabs and double quotes.
    pub const TSV: Dialect = Dialect { delimiter: b'\t', quote: Some(b'"') };
}

/// The columns of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// How fields are told apart.
    pub dialect: Dialect,
    /// The names of the columns; none if the file was empty.
    pub names: Vec<String>,
    /// Whether the first record is the header, or the lines with a `#` are.
    pub header: Header,
}

/// Where the names of the columns come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The first record.
    First,
    /// There is none.
    None,
    /// Zeek's `#fields`; lines with a `#` are no records, and `-` is null.
    Zeek,
}

impl Layout {
    /// Reads the names of the columns from the beginning of an input; without a `header` the columns are counted.
    pub fn read(dialect: Dialect, header: bool, sample: &TextBlock) -> Layout {
        let text = sample.bytes();
        if header && text.starts_with(b"#separator ") {
            let fields = text.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"#fields"));
            let names = fields.unwrap_or_default().trim_ascii().split(|b| *b == b'\t');
            let names = names.map(|n| String::from_utf8_lossy(n).into_owned()).collect();
            return Layout { dialect: Dialect { delimiter: b'\t', quote: None }, names, header: Header::Zeek };
        }
        let mut layout = Layout { dialect, names: Vec::new(), header: Header::None };
        // The first record, whatever it holds.
        let mut cutter = Cutter::new(sample, &layout, &[], 0);
        let mut pos = start(sample);
        while pos < sample.end {
            let mut places = Vec::new();
            let record = cutter.record(pos, |place| places.push(place));
            if !record.blank(cutter.text, pos) {
                let name = |place: &Place| {
                    let mut name = Vec::new();
                    let text = place.text(cutter.text).unwrap_or_default();
                    match dialect.quote {
                        Some(quote) if place.is_raw() => unquote(text, quote, &mut name),
                        _ => name.extend_from_slice(text),
                    }
                    String::from_utf8_lossy(name.trim_ascii()).into_owned()
                };
                let mut given: Vec<String> = places.iter().map(name).collect();
                if !header {
                    given.iter_mut().for_each(String::clear);
                }
                layout.header = if header { Header::First } else { Header::None };
                layout.names = unique(given);
                break;
            }
            pos = record.end + 1;
        }
        layout
    }

    /// The type of every column, from the first 1,000 good records of `sample`.
    ///
    /// # Errors
    /// As [`Decoder::decode`].
    pub fn infer(&self, sample: &TextBlock) -> Result<Vec<FieldType>> {
        // Lines are at most as many as records need, unless these hold newlines.
        let mut sample = sample.clone();
        let lines = memchr::memchr_iter(b'\n', sample.bytes()).nth(4 * SAMPLE_RECORDS);
        sample.end = lines.map_or(sample.end, |n| sample.start + n + 1);
        let fields = self.names.iter().map(|n| Field { name: n.clone(), ty: FieldType::Text }).collect();
        let decoded = CsvDecoder::new(&Wanted { fields, ..Wanted::default() }, self)?.decode(&sample)?;
        Ok(decoded.columns.iter().map(narrowest).collect())
    }
}

/// Gives every column a name of its own.
fn unique(given: Vec<String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(given.len());
    let mut seen = std::collections::HashSet::new();
    for (i, name) in given.into_iter().enumerate() {
        let name = if name.is_empty() { format!("c{}", i + 1) } else { name };
        let free =
            std::iter::once(name.clone()).chain((1..).map(|n| format!("{name}_{n}"))).find(|n| seen.insert(n.clone()));
        names.push(free.unwrap_or(name));
    }
    names
}

/// Where the first record of a block begins: behind a byte-order mark.
fn start(block: &TextBlock) -> usize {
    let mark = block.offset + block.start as u64 == 0 && block.bytes().starts_with(BYTE_ORDER_MARK);
    block.start + if mark { BYTE_ORDER_MARK.len() } else { 0 }
}

/// Decodes CSV and TSV.
///
/// ```
/// use arrow_array::{cast::AsArray, types::Int64Type};
/// use windrow::format::csv::{CsvDecoder, Dialect, Layout};
/// use windrow::format::{Decoder, Field, FieldType, TextBlock, Wanted};
///
/// let text = b"path,note,bytes\n/a,\"two\nlines\",7\n/b,short\n";
/// let block = TextBlock { data: text.into(), start: 0, end: text.len(), offset: 0, max_record: 1 << 24 };
/// let layout = Layout::read(Dialect::CSV, true, &block);
/// assert_eq!(layout.infer(&block)?, [FieldType::Text, FieldType::Text, FieldType::Int64]);
///
/// let field = |name: &str, ty| Field { name: name.to_owned(), ty };
/// let wanted = Wanted { fields: vec![field("note", FieldType::Text), field("bytes", FieldType::Int64)], ..Wanted::default() };
/// let decoded = CsvDecoder::new(&wanted, &layout)?.decode(&block)?;
/// assert_eq!(decoded.columns[0].as_binary_view().value(0), b"two\nlines");
/// assert_eq!(decoded.columns[1].as_primitive::<Int64Type>().value(0), 7);
/// assert_eq!((decoded.bad[0].line, decoded.bad[0].reason), (3, "fewer fields than the header"));
/// # Ok::<(), windrow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct CsvDecoder {
    layout: Layout,
    slots: Slots,
}

impl CsvDecoder {
    /// A decoder for what `wanted` names, of an input with this layout.
    ///
    /// # Errors
    /// An input error for a field that the header does not name.
    pub fn new(wanted: &Wanted, layout: &Layout) -> Result<CsvDecoder> {
        let mut names = layout.names.clone();
        if names.is_empty() {
            // An input without records has no header either, and anything may be asked of it.
            names = wanted.fields.iter().map(|f| &f.name).chain(wanted.time.iter().map(|t| &t.name)).cloned().collect();
        }
        let missing = |name: &str| Error::input(format!("the header has no column {name:?}"));
        Ok(CsvDecoder { layout: layout.clone(), slots: Slots::new(wanted, &names, missing)? })
    }
}

impl Decoder for CsvDecoder {
    fn decode(&self, block: &TextBlock) -> Result<Decoded> {
        let layout = &self.layout;
        let mut records = Records::new(&self.slots, block, layout.dialect.quote)?;
        let mut cutter = Cutter::new(block, layout, &self.slots.of_column, self.slots.width);
        let mut header = layout.header == Header::First && block.offset + block.start as u64 == 0;
        let zeek = layout.header == Header::Zeek;
        let expected = layout.names.len();
        let mut pos = start(block);
        while pos < block.end {
            let first = records.places.len();
            let mut record = cutter.wanted(pos, &mut records.places);
            let over = record.end - pos > block.max_record;
            if over {
                record = cutter.over(pos, block.max_record);
            }
            let reason = if over {
                Some(TOO_LONG)
            } else if record.blank(cutter.text, pos) || zeek && cutter.text[pos] == b'#' {
                None
            } else if header {
                header = false;
                None
            } else if !record.closed {
                Some(UNCLOSED)
            } else if record.fields < expected {
                Some(TOO_FEW)
            } else if record.filled > expected {
                Some(TOO_MANY)
            } else {
                if zeek {
                    for place in &mut records.places[first..] {
                        if place.text(cutter.text) == Some(b"-") {
                            *place = Place::MISSING;
                        }
                    }
                }
                if records.take(record.end)? {
                    if self.slots.wanted.places {
                        records.done.places.push((pos, record.end));
                    }
                    pos = record.end + 1;
                    continue;
                }
                Some(NO_TIME)
            };
            records.places.truncate(first);
            if let Some(reason) = reason {
                records.done.bad.push(BadRecord { line: 0, start: pos, len: record.end - pos, reason });
            }
            pos = record.end + 1;
        }
        let mut done = records.finish()?;
        done.lines = number_lines(block, &mut done.bad);
        Ok(done)
    }

    fn quoting(&self) -> Option<Dialect> {
        self.layout.dialect.quote.map(|_| self.layout.dialect)
    }

    fn for_input(&self, sample: &TextBlock) -> Result<Option<Arc<dyn Decoder>>> {
        if self.layout.header == Header::None && !self.layout.names.is_empty() {
            return Ok(None);
        }
        let layout = Layout::read(self.layout.dialect, true, sample);
        if layout.names == self.layout.names {
            return Ok(None);
        }
        Ok(Some(Arc::new(CsvDecoder::new(&self.slots.wanted, &layout)?)))
    }
}

/// Gives bad records their lines, and counts those of the block. Records may hold newlines, so this is a search of its own,
/// at the speed of `memchr`.
fn number_lines(block: &TextBlock, bad: &mut [BadRecord]) -> u64 {
    let count = |text: &[u8]| memchr::memchr_iter(b'\n', text).count() as u64;
    let (mut lines, mut at) = (0, block.start);
    for bad in bad {
        lines += count(&block.data[at..bad.start]);
        bad.line = lines;
        at = bad.start;
    }
    let rest = &block.data[at..block.end];
    lines + count(rest) + u64::from(rest.last().is_some_and(|b| *b != b'\n'))
}

/// How a record came out.
#[derive(Debug, Clone, Copy)]
struct Record {
    /// Its newline, or the end of the text.
    end: usize,
    /// How many fields it has.
    fields: usize,
    /// The number of its last field that is not empty.
    filled: usize,
    /// Whether its last quoted field ends.
    closed: bool,
}

impl Record {
    /// Whether there is nothing in it.
    fn blank(&self, text: &[u8], pos: usize) -> bool {
        self.fields == 1 && (self.end == pos || text[pos..self.end] == *b"\r")
    }
}

/// Cuts records into fields.
struct Cutter<'a> {
    text: &'a [u8],
    specials: Specials<'a>,
    delimiter: u8,
    quote: Option<u8>,
    slots: &'a [u32],
    width: usize,
}

impl<'a> Cutter<'a> {
    fn new(block: &'a TextBlock, layout: &Layout, slots: &'a [u32], width: usize) -> Cutter<'a> {
        let text = &block.data[..block.end];
        let Dialect { delimiter, quote } = layout.dialect;
        Cutter { text, specials: Specials::new(text, delimiter, start(block)), delimiter, quote, slots, width }
    }

    /// Cuts the record at `pos` and appends its wanted places, one for each slot.
    #[inline]
    fn wanted(&mut self, pos: usize, places: &mut Vec<Place>) -> Record {
        let first = places.len();
        places.resize(first + self.width, Place::MISSING);
        let (slots, mut column) = (self.slots, 0);
        let places = &mut places[first..];
        self.record(pos, |place| {
            let slot = slots.get(column).copied().unwrap_or(0) as usize;
            column += 1;
            if let Some(to) = places.get_mut(slot.wrapping_sub(1)) {
                *to = place;
            }
        })
    }

    /// Cuts the record at `pos`, from which on nothing was looked at, and hands over the place of each field.
    #[inline(always)]
    fn record(&mut self, pos: usize, mut field: impl FnMut(Place)) -> Record {
        let mut record = Record { end: pos, fields: 0, filled: 0, closed: true };
        let mut at = pos;
        loop {
            let quoted = self.quote.is_some() && self.text.get(at).copied() == self.quote;
            let (place, end) = if quoted {
                let (place, end) = self.quoted(at + 1, &mut record.closed);
                self.specials.seek((end + 1).min(self.text.len()));
                (place, end)
            } else {
                let end = self.specials.next();
                (Place::unless_empty(at, self.without_return(at, end)), end)
            };
            record.fields += 1;
            if place != Place::MISSING {
                record.filled = record.fields;
            }
            field(place);
            if self.text.get(end) != Some(&self.delimiter) {
                record.end = end;
                return record;
            }
            at = end + 1;
        }
    }

    /// `end`, or the place of a carriage return right before it if a line ends there.
    #[inline(always)]
    fn without_return(&self, start: usize, end: usize) -> usize {
        let line_ends = self.text.get(end).is_none_or(|b| *b == b'\n');
        if line_ends && end > start && self.text[end - 1] == b'\r' { end - 1 } else { end }
    }

    /// The quoted field whose text begins at `start`, and where it ends: at a delimiter, a newline or the end of the text.
    #[inline]
    fn quoted(&mut self, start: usize, closed: &mut bool) -> (Place, usize) {
        let quote = self.quote.unwrap_or_default();
        let mut from = start;
        let mut doubled = false;
        loop {
            let Some(n) = memchr(quote, self.text.get(from..).unwrap_or_default()) else {
                *closed = false;
                return (Place::new(start.min(self.text.len()), self.text.len()), self.text.len());
            };
            let close = from + n;
            match self.text.get(close + 1) {
                Some(next) if *next == quote => {
                    doubled = true;
                    from = close + 2;
                }
                next if !doubled && next.is_none_or(|b| *b == self.delimiter || *b == b'\n') => {
                    return (Place::new(start, close), close + 1);
                }
                _ => return self.behind_quote(start, close, doubled),
            }
        }
    }

    /// What follows a closing quote that is not the end of the field, or ends one with doubled quotes.
    #[cold]
    fn behind_quote(&mut self, start: usize, close: usize, doubled: bool) -> (Place, usize) {
        self.specials.seek(close + 1);
        let end = self.specials.next();
        let value = self.without_return(close + 1, end);
        let place = if !doubled && value == close + 1 { Place::new(start, close) } else { Place::raw(start, value) };
        (place, end)
    }

    /// The record at `pos`, which is over the limit: it ends at the first newline from the limit on.
    #[cold]
    fn over(&mut self, pos: usize, max_record: usize) -> Record {
        let limit = pos + max_record;
        let end = memchr(b'\n', &self.text[limit..]).map_or(self.text.len(), |n| limit + n);
        self.specials = Specials::new(self.text, self.delimiter, (end + 1).min(self.text.len()));
        Record { end, fields: 0, filled: 0, closed: true }
    }
}
