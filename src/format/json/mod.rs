//! NDJSON: one JSON object per line, and of it only the wanted members.
//!
//! A hand-written scanner walks each line once and checks all of it, so that a record is good only if its whole line
//! is JSON (RFC 8259); what is not wanted is passed over by the word and never built. The records of a log repeat
//! their layout, so the scanner remembers what stood between the values of the last record (comma, name, colon and
//! spaces) and takes the next member's name by comparing 16 bytes; a layout that differs costs time, never the answer.
//! Wanted values are noted as tokens while the line is scanned and become column values only when it has been found
//! good: columns never have to be rolled back, and of duplicate members the last one wins by itself.
//!
//! Text is bytes: invalid UTF-8 stays as it is and loses nothing. A text value that is not a JSON string carries a
//! mark ([`display_token`] removes it), since a number and a string of the same characters are different keys.
//!
//! Cost: access logs of 263 bytes a line, five members wanted, 148 ns a record (1.78 GB/s) on one Zen 4 core, where a
//! derived struct of five members alone, without times and columns, takes 241-256 ns with `sonic-rs` and 282 ns with
//! `serde_json`. Nothing is allocated per record. The naive twin, over `serde_json`, lives in `tests`.
//!
//! # Known limitation
//! Values nested deeper than 1,024 levels make their record bad. A block holds less than 2 GiB.

mod columns;
mod infer;
mod lanes;
pub(super) mod number;
mod paths;
mod scan;
#[cfg(test)]
mod tests;

pub use columns::display_token;
pub use infer::{Inferred, InferredField, infer};

use super::{BadRecord, Decoded, Decoder, FieldType, TextBlock, Wanted};
use crate::time::TimeFormat;
use crate::{Error, Result};
use columns::{Clock, Column};
use paths::{Paths, Target};
use scan::{Fault, Kind, Scan, Token, unescape};

/// The reason of a record without a time that the query needs.
const NO_TIME: &str = "no valid time";
/// The reason of a record over [`TextBlock::max_record`].
const TOO_LONG: &str = "longer than the longest record (--max-record)";
/// What may stand before the first line of an input.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// The name of a field that every record has: the record itself, as it stands, without the space around it.
pub const WHOLE_RECORD: &str = "\0record";
/// Layouts are remembered up to this many members of one object.
const MAX_HINTS: usize = 256;

/// Decodes NDJSON.
///
/// ```
/// use arrow_array::{Array, cast::AsArray, types::Int64Type};
/// use windrow::format::{Decoder, Field, FieldType, TextBlock, Wanted, json::JsonDecoder};
///
/// let field = |name: &str, ty| Field { name: name.to_owned(), ty };
/// let wanted = Wanted { fields: vec![field("http.path", FieldType::Text), field("bytes", FieldType::Int64)], ..Wanted::default() };
/// let text = b"{\"http\":{\"path\":\"/a\"},\"bytes\":7}\n{\"bytes\":\n";
/// let block = TextBlock { data: text.into(), start: 0, end: text.len(), offset: 0, max_record: 1 << 24 };
///
/// let decoded = JsonDecoder::new(&wanted)?.decode(&block)?;
/// assert_eq!(decoded.rows, 1);
/// assert_eq!(decoded.columns[0].as_binary_view().value(0), b"/a");
/// assert_eq!(decoded.columns[1].as_primitive::<Int64Type>().value(0), 7);
/// assert_eq!(decoded.bad[0].reason, "the JSON object does not end");
/// # Ok::<(), windrow::Error>(())
/// ```
#[derive(Debug)]
pub struct JsonDecoder {
    paths: Paths,
    /// The event time: its index among the names of `paths`, and its format.
    time: Option<(usize, TimeFormat)>,
    fields: Vec<Wish>,
    places: bool,
}

/// A wanted column.
#[derive(Debug)]
struct Wish {
    /// Its index among the names of the paths.
    path: usize,
    name: String,
    ty: FieldType,
    /// Whether it is the record itself.
    whole: bool,
    /// How it is written, if it is a time: the event time's format for the event time's field.
    format: TimeFormat,
}

impl JsonDecoder {
    /// A decoder of the wanted members.
    ///
    /// # Errors
    /// A name with more than 10 dots, each of which may be part of a literal name or lead into an object.
    pub fn new(wanted: &Wanted) -> Result<JsonDecoder> {
        let mut paths = Paths::new();
        let mut time = None;
        if let Some(field) = &wanted.time {
            time = Some((paths.add(&field.name)?, field.format.clone()));
        }
        let mut fields = Vec::with_capacity(wanted.fields.len());
        for field in &wanted.fields {
            fields.push(Wish {
                path: paths.add(&field.name)?,
                name: field.name.clone(),
                ty: field.ty,
                whole: field.name == WHOLE_RECORD,
                format: wanted.format_of(&field.name),
            });
        }
        paths.finish();
        Ok(JsonDecoder { paths, time, fields, places: wanted.places })
    }
}

impl Decoder for JsonDecoder {
    fn decode(&self, block: &TextBlock) -> Result<Decoded> {
        if block.data.len() > i32::MAX as usize {
            return Err(Error::input("a block of text of 2 GiB or more: choose a smaller --max-record"));
        }
        let data = &block.data[..block.end];
        let rows = (block.end - block.start) / 256 + 16;
        let columns = self.fields.iter().map(|w| Column::new(&w.name, w.ty, &w.format, &block.data, rows));
        let mut columns: Vec<Column> = columns.collect();
        let mut clock = self.time.as_ref().map(|(path, format)| (*path, Clock::new(format)));
        let mut out = Decoded::default();
        let mut scratch = Vec::new();
        let mut reader = Reader::new(&self.paths, data, block.start);
        if block.offset + block.start as u64 == 0 && data.starts_with(BYTE_ORDER_MARK) {
            reader.scan.pos += BYTE_ORDER_MARK.len();
        }
        let mut start = block.start;
        while start < block.end {
            let outcome = reader.record();
            let end = match outcome {
                Ok(_) => reader.scan.pos,
                Err(_) => memchr::memchr(b'\n', &data[start..]).map_or(block.end, |n| start + n),
            };
            let reason = match outcome {
                Ok(false) => None,
                _ if end - start > block.max_record => Some(TOO_LONG),
                Err(fault) => Some(fault.reason()),
                Ok(true) => {
                    let time = clock
                        .as_mut()
                        .map(|(path, clock)| clock.read(self.paths.resolve(*path, &reader.tokens), data, &mut scratch));
                    if let Some(Some(time)) = time {
                        out.times.push(time);
                    }
                    if time == Some(None) {
                        Some(NO_TIME)
                    } else {
                        for (wish, column) in self.fields.iter().zip(&mut columns) {
                            let token = match wish.whole {
                                false => self.paths.resolve(wish.path, &reader.tokens),
                                true => whole_record(data, start, end),
                            };
                            let fits = column
                                .push(token, data, &mut scratch)
                                .map_err(|e| e.at_offset(block.offset + start as u64))?;
                            out.cast_failed += u64::from(!fits);
                        }
                        out.rows += 1;
                        if self.places {
                            out.places.push((start, end));
                        }
                        None
                    }
                }
            };
            if let Some(reason) = reason {
                out.bad.push(BadRecord { line: out.lines, start, len: end - start, reason });
            }
            out.lines += 1;
            start = end + 1;
            reader.scan.pos = start;
        }
        out.columns = columns.into_iter().map(Column::finish).collect::<Result<_>>()?;
        Ok(out)
    }
}

/// The record in `data[start..end]`, which is good.
fn whole_record(data: &[u8], start: usize, end: usize) -> Token {
    let first = memchr::memchr(b'{', &data[start..end]).map_or(start, |at| start + at);
    let last = memchr::memrchr(b'}', &data[first..end]).map_or(end, |at| first + at + 1);
    Token { start: first as u32, end: last as u32, kind: Kind::Plain }
}

/// What stood between two values of an object: a guess at what stands there in the next one.
#[derive(Debug, Clone, Copy)]
struct Hint {
    /// Its first 16 bytes, and which of their bits count.
    head: u128,
    mask: u128,
    /// Where the whole stands in the block, to compare what is longer than the head.
    start: usize,
    len: usize,
    /// Whose value comes next.
    target: Target,
}

/// Scans the records of one block, and leaves each one's wanted values in `tokens`.
struct Reader<'a> {
    scan: Scan<'a>,
    paths: &'a Paths,
    /// The value found for each slot.
    tokens: Vec<Token>,
    /// The last layout of the objects at each node.
    hints: Vec<Vec<Hint>>,
    scratch: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(paths: &'a Paths, data: &'a [u8], pos: usize) -> Reader<'a> {
        Reader {
            scan: Scan { data, pos },
            paths,
            tokens: vec![Token::ABSENT; paths.slots()],
            hints: vec![Vec::new(); paths.nodes()],
            scratch: Vec::new(),
        }
    }

    /// Scans one line up to its newline; `false` for a blank one.
    #[inline(always)]
    fn record(&mut self) -> Result<bool, Fault> {
        if self.scan.peek() != b'{' {
            match self.scan.space() {
                b'\n' => return Ok(false),
                b'{' => {}
                _ => return Err(Fault::NotAnObject),
            }
        }
        self.tokens.fill(Token::ABSENT);
        self.object(0)?;
        self.scan.line_end()?;
        Ok(true)
    }

    /// Scans an object from its brace, for the wanted members of `node`.
    fn object(&mut self, node: u32) -> Result<(), Fault> {
        let mut cursor = 0;
        loop {
            let target = match self.hinted(node, cursor) {
                Some(target) => target,
                None => match self.member(node, cursor)? {
                    Some(target) => target,
                    None => return Ok(()),
                },
            };
            cursor += 1;
            if self.scan.peek() <= b' ' {
                // The hint may have ended before the space did.
                self.scan.space();
            }
            let token = if target.child == 0 { self.scan.value()? } else { self.nested(target.child)? };
            self.tokens[target.slot as usize] = token;
        }
    }

    /// A value some of whose own members are wanted.
    fn nested(&mut self, node: u32) -> Result<Token, Fault> {
        // An earlier member of the same name no longer counts.
        self.tokens[self.paths.below(node)].fill(Token::ABSENT);
        if self.scan.peek() != b'{' {
            return self.scan.value();
        }
        let start = self.scan.pos as u32;
        self.object(node)?;
        Ok(Token { start, end: self.scan.pos as u32, kind: Kind::Object })
    }

    /// The target of the next member, if it is written as the hint at `cursor` says; passes it up to its value.
    #[inline(always)]
    fn hinted(&mut self, node: u32, cursor: usize) -> Option<Target> {
        let hint = self.hints[node as usize].get(cursor)?;
        let (data, pos) = (self.scan.data, self.scan.pos);
        let head = u128::from_le_bytes(*data.get(pos..)?.first_chunk()?);
        if (head ^ hint.head) & hint.mask != 0 {
            return None;
        }
        if hint.len > 16 && data.get(pos + 16..pos + hint.len) != Some(&data[hint.start + 16..hint.start + hint.len]) {
            return None;
        }
        self.scan.pos = pos + hint.len;
        Some(hint.target)
    }

    /// The target of the next member, read in full and remembered; `None` passes the closing brace.
    fn member(&mut self, node: u32, cursor: usize) -> Result<Option<Target>, Fault> {
        let start = self.scan.pos;
        let Some(name) = self.scan.member(cursor == 0)? else { return Ok(None) };
        let data = self.scan.data;
        let target = if name.kind == Kind::Plain {
            self.paths.find(node, name.of(data))
        } else {
            self.scratch.clear();
            unescape(name.of(data), &mut self.scratch);
            self.paths.find(node, &self.scratch)
        };
        let len = self.scan.pos - start;
        if let Some(head) = data[start..].first_chunk() {
            let mask = if len < 16 { (1 << (8 * len)) - 1 } else { u128::MAX };
            let hint = Hint { head: u128::from_le_bytes(*head) & mask, mask, start, len, target };
            let hints = &mut self.hints[node as usize];
            if let Some(old) = hints.get_mut(cursor) {
                *old = hint;
            } else if cursor == hints.len() && cursor < MAX_HINTS {
                hints.push(hint);
            }
        }
        Ok(Some(target))
    }
}
