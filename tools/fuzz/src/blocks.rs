//! What holds for every decoder: columns of equal length, views that lie in the block, a ledger that balances, and the
//! same answer however the bytes are cut into blocks.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use std::fmt::Write;
use windrow::ErrorKind;
use windrow::format::{Decoded, Decoder, Field, FieldType, TextBlock, TimeField, Wanted};
use windrow::time::{TimeFormat, Timestamp};

/// Every type a field can be decoded to.
pub const TYPES: [FieldType; 5] =
    [FieldType::Text, FieldType::Int64, FieldType::Float64, FieldType::Boolean, FieldType::Timestamp];

/// Every way a time can be written.
pub const FORMATS: [TimeFormat; 5] = [
    TimeFormat::Auto,
    TimeFormat::EpochSeconds,
    TimeFormat::EpochMillis,
    TimeFormat::EpochMicros,
    TimeFormat::EpochNanos,
];

/// The longest record of small blocks: reached by the fuzzer, seldom by the seeds.
pub const MAX_RECORD: usize = 2000;

/// The fields `names`, each as every type that `pick` has a bit for.
pub fn fields(names: &[&str], pick: u8) -> Vec<Field> {
    let types = || TYPES.iter().enumerate().filter(|(i, _)| pick & (1 << i) != 0).map(|(_, ty)| *ty);
    names.iter().flat_map(|name| types().map(|ty| Field { name: (*name).to_owned(), ty })).collect()
}

/// A wish for `fields` and, if `time` names one, the event time.
pub fn wanted(time: Option<(&str, TimeFormat)>, fields: Vec<Field>) -> Wanted {
    Wanted { time: time.map(|(name, format)| TimeField { name: name.to_owned(), format }), fields, ..Wanted::default() }
}

/// `text` as a block that begins at byte `offset` of the input. `skip` bytes of rubbish stand before it.
pub fn block(text: &[u8], offset: u64, skip: usize) -> TextBlock {
    let mut data = vec![b'"'; skip];
    data.extend_from_slice(text);
    data.extend_from_slice(b"\"{[ \\");
    let end = skip + text.len();
    TextBlock { data: data.into(), start: skip, end, offset, max_record: MAX_RECORD }
}

/// Decodes `text` whole and in two blocks, checks what must hold, and returns what it came to; `None` if it met a
/// fraction in an integer, the one thing that stops a run.
pub fn check(
    decoder: &dyn Decoder,
    wanted: &Wanted,
    text: &[u8],
    blank: fn(&[u8]) -> bool,
    cut: u8,
) -> Option<Decoded> {
    let whole = block(text, 0, 0);
    let moved = block(text, 0, 3);
    let decoded = decode(decoder, wanted, &whole, blank);
    // A byte order mark is one at the start of the input only, so the block that lies elsewhere must not have it.
    if !text.starts_with(b"\xef\xbb\xbf") {
        let other = decode(decoder, wanted, &moved, blank);
        assert_eq!(decoded.is_some(), other.is_some(), "the place of the block decides");
        if let (Some(decoded), Some(other)) = (&decoded, &other) {
            assert_eq!(summary(std::slice::from_ref(decoded)), summary(std::slice::from_ref(other)));
        }
    }
    // Cut behind some newline.
    let newlines = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    let places: Vec<usize> = newlines.filter(|at| *at < text.len()).collect();
    if let Some(at) = places.get(usize::from(cut) % places.len().max(1)) {
        let first = decode(decoder, wanted, &block(&text[..*at], 0, 0), blank);
        let second = decode(decoder, wanted, &block(&text[*at..], *at as u64, 0), blank);
        assert_eq!(decoded.is_some(), first.is_some() && second.is_some(), "the cut decides");
        if let (Some(decoded), Some(first), Some(second)) = (&decoded, first, second) {
            assert_eq!(decoded.lines, first.lines + second.lines);
            assert_eq!(summary(std::slice::from_ref(decoded)), summary(&[first, second]));
        }
    }
    decoded
}

fn decode(decoder: &dyn Decoder, wanted: &Wanted, block: &TextBlock, blank: fn(&[u8]) -> bool) -> Option<Decoded> {
    let decoded = match decoder.decode(block) {
        Ok(decoded) => decoded,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Data, "{error}");
            assert!(wanted.fields.iter().any(|f| f.ty == FieldType::Int64), "{error}");
            return None;
        }
    };
    let text = block.bytes();
    let marked = block.offset + block.start as u64 == 0 && text.starts_with(b"\xef\xbb\xbf");
    let rest = if marked { &text[3..] } else { text };
    let lines: Vec<&[u8]> = rest.split_inclusive(|byte| *byte == b'\n').collect();
    let records = lines.iter().filter(|line| !blank(line.strip_suffix(b"\n").unwrap_or(line))).count();
    assert_eq!(decoded.rows + decoded.bad.len(), records, "every record is good or bad");
    // A mark with nothing behind it may count as a line or not.
    assert!(decoded.lines as usize == lines.len() || rest.is_empty(), "{} lines", decoded.lines);
    assert_eq!(decoded.times.len(), if wanted.time.is_some() { decoded.rows } else { 0 });
    let valid = Timestamp::MIN.micros()..=Timestamp::MAX.micros();
    assert!(decoded.times.iter().all(|time| valid.contains(time)), "a time out of range");
    assert_eq!(decoded.columns.len(), wanted.fields.len());
    for column in &decoded.columns {
        assert_eq!(column.len(), decoded.rows);
        column.to_data().validate_full().expect("views that lie in the block");
    }
    let mut before = None;
    for bad in &decoded.bad {
        assert!(before.is_none_or(|line| line < bad.line) && bad.line < decoded.lines, "bad records in order");
        before = Some(bad.line);
        assert!(bad.start >= block.start && bad.start + bad.len <= block.end, "a bad record outside the block");
        let bytes = &block.data[bad.start..bad.start + bad.len];
        assert!(!bytes.contains(&b'\n'), "a bad record is one line");
        let end = bad.start + bad.len;
        assert!(end == block.end || block.data[end] == b'\n', "a bad record is a whole line");
    }
    Some(decoded)
}

/// All that blocks say, without the places.
fn summary(blocks: &[Decoded]) -> String {
    let mut text = String::new();
    let columns = blocks.first().map_or(0, |b| b.columns.len());
    let failed: u64 = blocks.iter().map(|b| b.cast_failed).sum();
    let rows: usize = blocks.iter().map(|b| b.rows).sum();
    let reasons: Vec<_> = blocks.iter().flat_map(|b| b.bad.iter().map(|bad| (bad.len, bad.reason))).collect();
    let times: Vec<i64> = blocks.iter().flat_map(|b| b.times.iter().copied()).collect();
    write!(text, "{rows} rows, {failed} casts failed, bad {reasons:?}, times {times:?}").expect("a string");
    for column in 0..columns {
        for block in blocks {
            values(&block.columns[column], &mut text);
        }
        text.push('\n');
    }
    text
}

/// Every value of a column as text; a float as its bits, so that NaN is NaN.
fn values(column: &ArrayRef, text: &mut String) {
    for row in 0..column.len() {
        text.push(' ');
        if column.is_null(row) {
            text.push_str("null");
            continue;
        }
        match column.data_type() {
            DataType::BinaryView => write!(text, "\"{}\"", column.as_binary_view().value(row).escape_ascii()),
            DataType::Int64 => write!(text, "{}", column.as_primitive::<Int64Type>().value(row)),
            DataType::Float64 => write!(text, "{:x}", column.as_primitive::<Float64Type>().value(row).to_bits()),
            DataType::Boolean => write!(text, "{}", column.as_boolean().value(row)),
            _ => write!(text, "{}", column.as_primitive::<TimestampMicrosecondType>().value(row)),
        }
        .expect("a string");
    }
}
