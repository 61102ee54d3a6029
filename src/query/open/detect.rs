//! `auto`: which format a text input has, from its name and its first records.
//!
//! A name that ends in a format's own way decides, then the first records: an object is NDJSON, a line of an access log an
//! access log, and the same number of fields in each of the first records, under a line that looks like a header, CSV or
//! TSV. Compression does not hide the name.

use super::{Format, Layouts};
use crate::format::access::AccessDecoder;
use crate::format::csv::{CsvDecoder, Dialect, Header, Layout};
use crate::format::{Decoder, Field, FieldType, TextBlock, Wanted};
use crate::{Error, Result};
use arrow_array::Array;
use std::path::Path;

/// Lines that must agree on the number of fields.
const AGREEING: usize = 100;
/// What separates fields, the likeliest first.
const DELIMITERS: [u8; 4] = [b',', b'\t', b';', b'|'];

/// The format of a text input that begins with `sample`, and, for CSV and TSV, what separates its fields.
pub(super) fn detect(
    path: Option<&Path>,
    sample: Option<&TextBlock>,
    layouts: &Layouts,
    notes: &mut Vec<String>,
) -> Result<(Format, Dialect)> {
    let name = path.map_or(String::new(), |p| p.to_string_lossy().to_ascii_lowercase());
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    let named = |endings: &[&str]| endings.iter().any(|e| name.ends_with(e));
    let first = sample.and_then(|b| b.bytes().iter().find(|b| !b.is_ascii_whitespace()));
    let chosen = |format: Format| (format, layouts.dialect(format));
    let (format, dialect) = if layouts.pattern.is_some() {
        chosen(Format::Regex)
    } else if named(&[".json", ".ndjson", ".jsonl"]) {
        chosen(Format::Json)
    } else if named(&[".tsv", ".tab"]) {
        chosen(Format::Tsv)
    } else if named(&[".csv"]) {
        let found = sample.and_then(|s| delimited(s, layouts, false));
        (Format::Csv, found.unwrap_or(layouts.dialect(Format::Csv)))
    } else if first == Some(&b'{') {
        chosen(Format::Json)
    } else if let Some(sample) = sample {
        match access(sample)? {
            Some(format) => chosen(format),
            None => match delimited(sample, layouts, true) {
                Some(dialect) if dialect.delimiter == b'\t' => (Format::Tsv, dialect),
                Some(dialect) => (Format::Csv, dialect),
                None => return Err(unknown(path)),
            },
        }
    } else {
        // An empty input has no records in any format.
        chosen(Format::Combined)
    };
    let mut note = format!("format: {}", format.name());
    if matches!(format, Format::Csv) && dialect.delimiter != b',' {
        note += &format!(", fields separated by {:?}", char::from(dialect.delimiter));
    }
    notes.push(note);
    Ok((format, dialect))
}

fn unknown(path: Option<&Path>) -> Error {
    let message = "is of no format that is recognised; name it with --format (combined, common, json, csv, tsv, parquet, \
                   or regex with --pattern)";
    match path {
        Some(path) => Error::input(message).in_file(path),
        None => Error::input(format!("standard input {message}")),
    }
}

/// Common or combined, if any line is one of an access log, or all are blank.
fn access(sample: &TextBlock) -> Result<Option<Format>> {
    let fields = vec![Field { name: "user_agent".into(), ty: FieldType::Text }];
    let decoded = AccessDecoder::new(&Wanted { fields, ..Wanted::default() }, true)?.decode(sample)?;
    if decoded.rows == 0 {
        return Ok(decoded.bad.is_empty().then_some(Format::Combined));
    }
    let agents = decoded.columns.first().map_or(0, |c| c.len() - c.null_count());
    Ok(Some(if agents == 0 { Format::Common } else { Format::Combined }))
}

/// The delimiter that gives the first records one number of fields, two or more; `strict`: and a header.
fn delimited(sample: &TextBlock, layouts: &Layouts, strict: bool) -> Option<Dialect> {
    let mut head = sample.clone();
    let lines = memchr::memchr_iter(b'\n', sample.bytes()).nth(AGREEING);
    head.end = lines.map_or(sample.end, |n| sample.start + n + 1);
    let all: Vec<u8> = layouts.delimiter.map_or(DELIMITERS.to_vec(), |d| vec![d]);
    all.into_iter().map(|delimiter| Dialect { delimiter, ..layouts.dialect(Format::Csv) }).find(|dialect| {
        let layout = Layout::read(*dialect, layouts.header, &head);
        if layout.names.len() < 2 {
            return false;
        }
        let good = |layout: &Layout| {
            let decoded = CsvDecoder::new(&Wanted::default(), layout).and_then(|d| d.decode(&head));
            // Half a record may end the sample.
            decoded.is_ok_and(|d| d.rows > 0 && d.bad.len() <= usize::from(lines.is_some()))
        };
        let titled = layout.header != Header::First || {
            // A header is words, not values.
            let bare = Layout { header: Header::None, ..layout.clone() };
            let mut line = head.clone();
            line.end = memchr::memchr(b'\n', head.bytes()).map_or(head.end, |n| head.start + n + 1);
            bare.infer(&line).is_ok_and(|types| types.iter().all(|t| *t == FieldType::Text))
        };
        good(&layout) && (titled || !strict)
    })
}
