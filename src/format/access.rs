//! Access logs: NCSA common and combined lines, as Apache, nginx and many others write them.
//!
//! ```text
//! host identity user [time] "method target protocol" status bytes "referer" "user agent"
//! └────────── common ───────────────────────────────────────────┘
//! └────────── combined ────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Invariants: whether a record is good does not depend on which fields are wanted, the time excepted (a wanted time
//! must be valid); no line touches its neighbours; the same bytes give the same columns however they are cut into
//! blocks.
//!
//! How a line is cut, in the order of the line:
//! - host ends at the first space, identity at the second, the user (which may hold spaces) before the ` [` of the time;
//! - the time ends at the first `]` and may be `-`, with or without brackets;
//! - the request ends at the first quote that no backslash escapes and that a space and a digit or `-` follow (so a
//!   stray quote within it does no harm), or, if there is none, at the first quote not escaped; a bare `-` is a missing one;
//! - status and bytes are what stands up to the next space;
//! - referer and user agent end at the first quote not escaped that a space or the end of the line follows, or with the
//!   line; neither makes a record bad, and what follows the last field asked for is not looked at.
//!
//! Escapes stand in the columns as they stand in the log. A field that is `-` is null. A request that is not
//! `METHOD TARGET PROTOCOL` leaves these three null.
//!
//! Cost: a usual line takes one search for `[`, one over the target and one from the last wanted field to the newline:
//! 3.7 GB of 234-byte lines per second of one Zen 4 core for time, path, status and bytes, 1.6 GB with every field as
//! text, 1.3 GB where every line is unusual and takes the careful road. Lines are cut in batches of `BATCH`, then each
//! column is filled in a loop of its own, so that nothing is decided per record and column.

mod line;

use self::line::{Cut, Fields, end_of_line};
use super::columns::Column;
use super::{BadRecord, Decoded, Decoder, TextBlock, Wanted};
use crate::time::{AccessTimes, TimeFormat};
use crate::{Error, Result};

/// Lines cut before the columns are filled: their places fit the L1 cache.
const BATCH: usize = 128;

/// The fields of a line, in the order of [`FieldId`].
const NAMES: [&str; 12] = [
    "host",
    "identity",
    "user",
    "time",
    "request",
    "method",
    "path",
    "protocol",
    "status",
    "bytes",
    "referer",
    "user_agent",
];

/// An index into [`NAMES`] and [`Fields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct FieldId(usize);

impl FieldId {
    const HOST: FieldId = FieldId(0);
    const IDENTITY: FieldId = FieldId(1);
    const USER: FieldId = FieldId(2);
    const TIME: FieldId = FieldId(3);
    const REQUEST: FieldId = FieldId(4);
    const METHOD: FieldId = FieldId(5);
    const PATH: FieldId = FieldId(6);
    const PROTOCOL: FieldId = FieldId(7);
    const STATUS: FieldId = FieldId(8);
    const BYTES: FieldId = FieldId(9);
    const REFERER: FieldId = FieldId(10);
    const USER_AGENT: FieldId = FieldId(11);

    /// The field called `name` in a common or combined log.
    fn find(name: &str, combined: bool) -> Result<FieldId> {
        let known = if combined { &NAMES[..] } else { &NAMES[..10] };
        known.iter().position(|n| *n == name).map(FieldId).ok_or_else(|| {
            let format = if combined { "combined" } else { "common" };
            let known = known.join(", ");
            Error::usage(format!("the {format} format has no field `{name}`; its fields are {known}"))
        })
    }
}

/// Decodes common and combined access logs.
///
/// ```
/// use windrow::format::access::AccessDecoder;
/// use windrow::format::{Decoder, Field, FieldType, TextBlock, TimeField, Wanted};
///
/// let log = b"127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET /a?b HTTP/1.0\" 200 2326\n";
/// let wanted = Wanted {
///     time: Some(TimeField { name: "time".into(), format: Default::default() }),
///     fields: vec![Field { name: "bytes".into(), ty: FieldType::Int64 }],
///     ..Wanted::default()
/// };
/// let block = TextBlock { data: log.to_vec().into(), start: 0, end: log.len(), offset: 0, max_record: 1 << 24 };
/// let decoded = AccessDecoder::new(&wanted, false)?.decode(&block)?;
/// assert_eq!(decoded.times, [971_211_336_000_000]);
/// assert_eq!(decoded.columns[0].len(), 1);
/// # Ok::<(), windrow::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct AccessDecoder {
    /// How the wanted time is written.
    time: Option<TimeFormat>,
    /// The wanted columns, and how their times are written.
    columns: Vec<(FieldId, super::Field, TimeFormat)>,
    /// What to cut out of a line.
    cut: Cut,
    places: bool,
}

impl AccessDecoder {
    /// A decoder for what `wanted` names, of lines in the combined or the common format.
    ///
    /// # Errors
    /// A usage error for a field that the format does not have, or a time that is not the format's `time`.
    pub fn new(wanted: &Wanted, combined: bool) -> Result<AccessDecoder> {
        if let Some(time) = &wanted.time {
            let field = FieldId::find(&time.name, combined)?;
            if field != FieldId::TIME {
                return Err(Error::usage(format!(
                    "`{}` cannot be the time of an access log; its time is the field `time`",
                    time.name
                )));
            }
        }
        let columns = wanted
            .fields
            .iter()
            .map(|field| Ok((FieldId::find(&field.name, combined)?, field.clone(), wanted.format_of(&field.name))))
            .collect::<Result<Vec<_>>>()?;
        let any = |from: FieldId, to: FieldId| columns.iter().any(|(f, ..)| (from..=to).contains(f));
        Ok(AccessDecoder {
            time: wanted.time.as_ref().map(|t| t.format.clone()),
            cut: Cut {
                head: any(FieldId::HOST, FieldId::USER),
                quoted: if any(FieldId::USER_AGENT, FieldId::USER_AGENT) {
                    2
                } else {
                    usize::from(any(FieldId::REFERER, FieldId::REFERER))
                },
            },
            columns,
            places: wanted.places,
        })
    }
}

impl Decoder for AccessDecoder {
    fn decode(&self, block: &TextBlock) -> Result<Decoded> {
        let text = block.bytes();
        let first = block.offset + block.start as u64;
        if text.len() > i32::MAX as usize {
            return Err(
                Error::input("a block of text of 2 GiB or more: choose a smaller --max-record").at_offset(first)
            );
        }
        let mut run = Run {
            decoder: self,
            block,
            text,
            times: AccessTimes::default(),
            batch: Vec::with_capacity(BATCH),
            columns: Vec::new(),
            done: Decoded::default(),
        };
        let mark = first == 0 && text.starts_with(b"\xef\xbb\xbf");
        run.lines(if mark { 3 } else { 0 })?;
        let mut done = run.done;
        done.columns = run
            .columns
            .into_iter()
            .map(|column| {
                done.cast_failed += column.cast_failed();
                column.finish()
            })
            .collect::<Result<_>>()?;
        Ok(done)
    }
}

/// The decoding of one block.
struct Run<'a> {
    decoder: &'a AccessDecoder,
    block: &'a TextBlock,
    /// The block's bytes; places of fields count from their start.
    text: &'a [u8],
    times: AccessTimes,
    /// Fields of the good lines that are not yet in the columns.
    batch: Vec<Fields>,
    /// Opened with the first batch, whose lines tell how many there will be.
    columns: Vec<Column>,
    done: Decoded,
}

impl Run<'_> {
    /// Cuts every line from `pos` on and fills the columns.
    fn lines(&mut self, mut pos: usize) -> Result<()> {
        let text = self.text;
        // The quick cut knows one way to write the time.
        let usual_time = self.decoder.time.as_ref().is_none_or(TimeFormat::is_auto);
        let cut = self.decoder.cut;
        while pos < text.len() {
            let mut fields = Fields::default();
            let quick = if usual_time { line::quick(text, pos, cut, &mut self.times, &mut fields) } else { None };
            let (end, time) = match quick {
                Some((seen, time)) => (end_of_line(text, seen), Ok(Some(time))),
                None => {
                    let end = end_of_line(text, pos);
                    (end, self.careful(pos, end, &mut fields))
                }
            };
            self.take(pos, end, &fields, time)?;
            pos = end + 1;
        }
        self.fill(text.len())
    }

    /// Takes the line `pos..end` into the batch or among the bad ones.
    #[inline]
    fn take(&mut self, pos: usize, end: usize, fields: &Fields, time: Result<Option<i64>, &'static str>) -> Result<()> {
        self.done.lines += 1;
        let too_long = end - pos > self.block.max_record;
        let reason = match time {
            _ if too_long => "longer than the limit for a record",
            Ok(Some(time)) => {
                if self.decoder.time.is_some() {
                    self.done.times.push(time);
                }
                self.done.rows += 1;
                if self.decoder.places {
                    self.done.places.push((self.block.start + pos, self.block.start + end));
                }
                self.batch.push(*fields);
                if self.batch.len() == BATCH {
                    self.fill(end)?;
                }
                return Ok(());
            }
            Ok(None) => return Ok(()),
            Err(reason) => reason,
        };
        self.done.bad.push(BadRecord {
            line: self.done.lines - 1,
            start: self.block.start + pos,
            len: end - pos,
            reason,
        });
        Ok(())
    }

    /// Any line, well-formed or not: its time (0 if none is wanted), `None` if it is blank, or what is wrong with it.
    #[cold]
    fn careful(&mut self, pos: usize, end: usize, fields: &mut Fields) -> Result<Option<i64>, &'static str> {
        let line = &self.text[pos..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(None);
        }
        *fields = Fields::default();
        line::careful(line, pos, fields)?;
        let Some(format) = &self.decoder.time else {
            return Ok(Some(0));
        };
        fields
            .value(FieldId::TIME, self.text)
            .text(self.text)
            .and_then(|time| format.parse_bytes(time))
            .map(Some)
            .ok_or("no valid time")
    }

    /// Moves the batch into the columns; `seen` bytes of the text are cut.
    fn fill(&mut self, seen: usize) -> Result<()> {
        let wanted = &self.decoder.columns;
        if self.columns.is_empty() {
            // The lines so far are an estimate of those to come.
            let rows = self.batch.len() * (self.text.len() / seen.max(1) + 1);
            if self.decoder.time.is_some() {
                self.done.times.reserve(rows);
            }
            let block = (self.block.data).slice_with_length(self.block.start, self.text.len());
            self.columns.extend(
                wanted.iter().map(|(_, field, format)| Column::new(field.ty, format.clone(), b'"', &block, rows)),
            );
        }
        for (column, (field, wanted, _)) in self.columns.iter_mut().zip(wanted) {
            let places = self.batch.iter().map(|fields| fields.value(*field, self.text));
            column.extend(self.text, places).map_err(|fraction| {
                let at = self.block.start + fraction.start();
                Error::data(format!(
                    "the integer field `{0}` meets a fraction; read it with --type {0}:float",
                    wanted.name
                ))
                .at_offset(self.block.offset + at as u64)
            })?;
        }
        self.batch.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;
