//! Typed access to the columns of a batch, and the text of their values.
//!
//! The type of a column is looked at once per batch ([`Cells::of`]); after that a cell costs one well predicted
//! `match`. Types that windrow's own rows do not have (dates, decimals, odd dictionaries in keys that came
//! from Parquet) are turned into text or a wider type by [`supported`], once per batch.
//!
//! [`Row`] is a buffer to print into: room for a whole row is made once, and fields are copied in blocks of constant
//! size that run over their end and are overwritten by the next field: a copy of known size is two instructions,
//! one of unknown size is a call.

use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types as ty;
use arrow_array::{Array, ArrayRef, BinaryViewArray, BooleanArray, StringViewArray};
use arrow_buffer::NullBuffer;
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};

/// A column whose type is resolved, borrowed from its batch.
pub(super) struct Cells<'a> {
    pub(super) values: Values<'a>,
    /// `None` also where there is a bitmap without a null in it.
    pub(super) nulls: Option<&'a NullBuffer>,
}

/// The values of a column.
pub(super) enum Values<'a> {
    /// Microseconds since the epoch, UTC.
    Time(&'a [i64]),
    Int(&'a [i64]),
    Unsigned(&'a [u64]),
    Float(&'a [f64]),
    Single(&'a [f32]),
    Boolean(&'a BooleanArray),
    /// Offsets and the bytes between them.
    Text(&'a [i32], &'a [u8]),
    LargeText(&'a [i64], &'a [u8]),
    /// The entry of each row, then as `Text` over the entries.
    Entries(&'a [i32], &'a [i32], &'a [u8]),
    TextView(&'a StringViewArray),
    BytesView(&'a BinaryViewArray),
    /// Every cell is null.
    Nothing,
}

/// The column in a type that [`Cells::of`] takes: mostly itself.
pub(super) fn supported(column: &ArrayRef) -> Result<ArrayRef> {
    use DataType as T;
    let to = match column.data_type() {
        T::Timestamp(TimeUnit::Microsecond, _) | T::Int64 | T::UInt64 => None,
        T::Float64 | T::Float32 | T::Boolean | T::Null => None,
        T::Utf8 | T::LargeUtf8 | T::Utf8View => None,
        T::Binary | T::LargeBinary | T::BinaryView => None,
        T::Int8 | T::Int16 | T::Int32 => Some(T::Int64),
        T::UInt8 | T::UInt16 | T::UInt32 => Some(T::UInt64),
        T::Float16 => Some(T::Float32),
        T::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, zone) => {
            Some(T::Timestamp(TimeUnit::Microsecond, zone.clone()))
        }
        T::Timestamp(TimeUnit::Nanosecond, _) => {
            let utc = T::Timestamp(TimeUnit::Nanosecond, Some("+00:00".into()));
            return Ok(cast(&cast(column, &utc)?, &T::Utf8)?);
        }
        T::Dictionary(..) if has_text_entries(column) => None,
        T::Dictionary(_, values) => return supported(&cast(column, values)?),
        T::RunEndEncoded(_, values) => return supported(&cast(column, values.data_type())?),
        T::FixedSizeBinary(_) => Some(T::Binary),
        _ => Some(T::Utf8),
    };
    match to {
        None => Ok(column.clone()),
        Some(to) => cast(column, &to)
            .map_err(|_| Error::usage(format!("values of type {} cannot be written", column.data_type()))),
    }
}

/// Whether the column is text behind 32-bit keys, and a null, if any, is one of the keys.
fn has_text_entries(column: &ArrayRef) -> bool {
    let Some(dictionary) = column.as_dictionary_opt::<ty::Int32Type>() else { return false };
    let entries = dictionary.values();
    entries.data_type() == &DataType::Utf8
        && (entries.null_count() == 0
            || dictionary.keys().iter().flatten().all(|entry| entries.is_valid(entry as usize)))
}

impl<'a> Cells<'a> {
    /// Resolves a column that went through [`supported`].
    pub(super) fn of(column: &'a ArrayRef) -> Result<Self> {
        use DataType as T;
        let values = match column.data_type() {
            T::Timestamp(TimeUnit::Microsecond, _) => {
                Values::Time(column.as_primitive::<ty::TimestampMicrosecondType>().values())
            }
            T::Int64 => Values::Int(column.as_primitive::<ty::Int64Type>().values()),
            T::UInt64 => Values::Unsigned(column.as_primitive::<ty::UInt64Type>().values()),
            T::Float64 => Values::Float(column.as_primitive::<ty::Float64Type>().values()),
            T::Float32 => Values::Single(column.as_primitive::<ty::Float32Type>().values()),
            T::Boolean => Values::Boolean(column.as_boolean()),
            T::Utf8 => {
                let text = column.as_string::<i32>();
                Values::Text(text.value_offsets(), text.value_data())
            }
            T::Binary => {
                let bytes = column.as_binary::<i32>();
                Values::Text(bytes.value_offsets(), bytes.value_data())
            }
            T::LargeUtf8 => {
                let text = column.as_string::<i64>();
                Values::LargeText(text.value_offsets(), text.value_data())
            }
            T::LargeBinary => {
                let bytes = column.as_binary::<i64>();
                Values::LargeText(bytes.value_offsets(), bytes.value_data())
            }
            T::Dictionary(..) => {
                let dictionary = column.as_dictionary::<ty::Int32Type>();
                let entries = dictionary.values().as_string::<i32>();
                Values::Entries(dictionary.keys().values(), entries.value_offsets(), entries.value_data())
            }
            T::Utf8View => Values::TextView(column.as_string_view()),
            T::BinaryView => Values::BytesView(column.as_binary_view()),
            T::Null => Values::Nothing,
            other => {
                return Err(Error::usage(format!("values of type {other} cannot be written")));
            }
        };
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0);
        Ok(Cells { values, nulls })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row)) || matches!(self.values, Values::Nothing)
    }

    /// Bytes of text in the column, and whether it is text at all.
    pub(super) fn text_bytes(&self) -> Option<usize> {
        match &self.values {
            Values::Text(offsets, _) => Some((offsets[offsets.len() - 1] - offsets[0]) as usize),
            Values::LargeText(offsets, _) => Some((offsets[offsets.len() - 1] - offsets[0]) as usize),
            Values::Entries(keys, offsets, _) => {
                let bytes =
                    |entry: &i32| offsets.get(*entry as usize + 1).map_or(0, |end| end - offsets[*entry as usize]);
                Some(keys.iter().map(|entry| bytes(entry) as usize).sum())
            }
            Values::TextView(views) => Some(views.views().iter().map(|v| *v as u32 as usize).sum()),
            Values::BytesView(views) => Some(views.views().iter().map(|v| *v as u32 as usize).sum()),
            _ => None,
        }
    }

    /// Bytes that whoever looks at each of `rows` values reads, bitmaps and offsets not counted.
    pub(super) fn read_bytes(&self, rows: usize) -> usize {
        match &self.values {
            Values::Boolean(_) | Values::Nothing => 0,
            Values::Single(_) => 4 * rows,
            _ => self.text_bytes().unwrap_or(8 * rows),
        }
    }

    /// The bytes of a text cell; of the other types, nothing.
    pub(super) fn text(&self, row: usize) -> &'a [u8] {
        match &self.values {
            Values::Text(offsets, bytes) => &bytes[offsets[row] as usize..offsets[row + 1] as usize],
            Values::LargeText(offsets, bytes) => &bytes[offsets[row] as usize..offsets[row + 1] as usize],
            Values::Entries(keys, offsets, bytes) => {
                let entry = keys[row] as usize;
                &bytes[offsets[entry] as usize..offsets[entry + 1] as usize]
            }
            Values::TextView(views) => views.value(row).as_bytes(),
            Values::BytesView(views) => views.value(row),
            _ => &[],
        }
    }
}

/// Room that [`Row`] keeps behind its end for a copy that runs over: one block.
pub(super) const BLOCK: usize = 32;

/// The longest text of a value that is not text: an instant with fractions in the year -290308.
pub(super) const LONGEST: usize = 40;

/// A buffer to print rows into.
///
/// `bytes` is initialised to its full length and filled up to `len`; the methods other than [`Row::room`] need
/// that room was made (a debug assertion or a bounds check says so, never undefined behaviour).
#[derive(Debug, Default)]
pub(super) struct Row {
    bytes: Vec<u8>,
    len: usize,
}

impl Row {
    /// Prints into `buffer`, over what it held.
    pub(super) fn over(buffer: Vec<u8>) -> Self {
        Row { bytes: buffer, len: 0 }
    }

    /// Makes room for `more` bytes, and the block behind them.
    #[inline]
    pub(super) fn room(&mut self, more: usize) {
        if self.bytes.len() - self.len < more + 2 * BLOCK {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        let wanted = (self.len + more + 2 * BLOCK).max(self.bytes.len() * 3 / 2).max(1 << 10);
        self.bytes.resize(wanted, 0);
    }

    /// What was printed.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.truncate(self.len);
        self.bytes
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
    }

    #[inline]
    pub(super) fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    /// Turns the byte printed last, a comma, into the end of the line.
    #[inline]
    pub(super) fn end_line(&mut self) {
        if let Some(last) = self.len.checked_sub(1) {
            self.bytes[last] = b'\n';
        }
    }

    /// Appends bytes of any length.
    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends the first `len` bytes of `block`, `len` at most [`BLOCK`].
    #[inline]
    pub(super) fn block(&mut self, block: &[u8; BLOCK], len: usize) {
        self.bytes[self.len..self.len + BLOCK].copy_from_slice(block);
        self.len += len;
    }

    /// Appends `text[start..end]`, in blocks where `text` goes on far enough.
    #[inline]
    pub(super) fn slice(&mut self, text: &[u8], start: usize, end: usize) {
        let len = end - start;
        if len <= 2 * BLOCK
            && let Some(wide) = text.get(start..start + 2 * BLOCK)
        {
            self.bytes[self.len..self.len + BLOCK].copy_from_slice(&wide[..BLOCK]);
            if len > BLOCK {
                self.bytes[self.len + BLOCK..self.len + 2 * BLOCK].copy_from_slice(&wide[BLOCK..]);
            }
            self.len += len;
        } else {
            self.bytes(&text[start..end]);
        }
    }

    #[inline]
    pub(super) fn int(&mut self, value: i64) {
        if (0..10_000).contains(&value) {
            self.small(value as u32);
        } else {
            self.bytes(itoa::Buffer::new().format(value).as_bytes());
        }
    }

    #[inline]
    pub(super) fn unsigned(&mut self, value: u64) {
        if value < 10_000 {
            self.small(value as u32);
        } else {
            self.bytes(itoa::Buffer::new().format(value).as_bytes());
        }
    }

    /// Up to four digits, without a call: most counts are small.
    #[inline]
    fn small(&mut self, value: u32) {
        debug_assert!(value < 10_000);
        let digits = [value / 1000, value / 100 % 10, value / 10 % 10, value % 10];
        let text = u32::from_le_bytes(digits.map(|d| b'0' + d as u8));
        let len = 1 + usize::from(value > 9) + usize::from(value > 99) + usize::from(value > 999);
        let text = text >> (8 * (4 - len));
        self.bytes[self.len..self.len + 4].copy_from_slice(&text.to_le_bytes());
        self.len += len;
    }

    /// The shortest text that reads back to the same value.
    #[inline]
    pub(super) fn float(&mut self, value: f64) {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format(value).as_bytes();
        // zmij writes 1e+300 where windrow writes 1e300; exponents with a plus start at 1e16.
        match text.iter().position(|b| *b == b'+') {
            Some(plus) if value.abs() >= 1e15 => {
                self.bytes(&text[..plus]);
                self.bytes(&text[plus + 1..]);
            }
            _ => self.bytes(text),
        }
    }

    /// As [`Row::float`], of a single-precision value.
    pub(super) fn single(&mut self, value: f32) {
        let mut buffer = zmij::Buffer::new();
        for byte in buffer.format(value).bytes().filter(|b| *b != b'+') {
            self.byte(byte);
        }
    }

    #[inline]
    pub(super) fn boolean(&mut self, value: bool) {
        self.bytes(if value { b"true" } else { b"false" });
    }
}

/// The text of the instant that was printed last: the rows of a window share their bounds.
#[derive(Debug, Clone)]
pub(super) struct LastTime {
    micros: i64,
    text: [u8; BLOCK],
    len: usize,
}

impl LastTime {
    pub(super) fn new() -> Self {
        // A length of zero: nothing was printed yet.
        LastTime { micros: 0, text: [0; BLOCK], len: 0 }
    }

    /// Appends the text of `micros`.
    #[inline]
    pub(super) fn print(&mut self, micros: i64, row: &mut Row) {
        if micros != self.micros || self.len == 0 {
            self.render(micros, row);
        } else {
            row.block(&self.text, self.len);
        }
    }

    #[cold]
    fn render(&mut self, micros: i64, row: &mut Row) {
        let mut text = Vec::with_capacity(LONGEST);
        write_rfc3339(micros, &mut text);
        row.bytes(&text);
        self.micros = micros;
        // Years before -9999 and after 9999 with fractions do not fit a block; they are rendered each time.
        self.len = if text.len() <= BLOCK { text.len() } else { 0 };
        self.text[..self.len].copy_from_slice(&text[..self.len]);
    }
}

/// RFC 3339 in UTC, with `Z`; a fraction of 3 or 6 digits only when it is not zero.
// To be replaced by `crate::time::write_rfc3339` when that exists.
fn write_rfc3339(micros: i64, out: &mut Vec<u8>) {
    let seconds = micros.div_euclid(1_000_000);
    let fraction = micros.rem_euclid(1_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days since 0000-03-01, in eras of 400 years (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let text = if (0..=9999).contains(&year) {
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    } else {
        format!("{year:+05}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
    };
    out.extend_from_slice(text.as_bytes());
    if fraction % 1000 != 0 {
        out.extend_from_slice(format!(".{fraction:06}").as_bytes());
    } else if fraction != 0 {
        out.extend_from_slice(format!(".{:03}", fraction / 1000).as_bytes());
    }
    out.push(b'Z');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(print: impl FnOnce(&mut Row)) -> String {
        let mut row = Row::default();
        row.room(LONGEST);
        print(&mut row);
        String::from_utf8(row.into_bytes()).expect("text")
    }

    #[test]
    fn floats_are_the_shortest_text_that_reads_back() {
        for (value, text) in [
            (2.0, "2.0"),
            (0.1, "0.1"),
            (1e300, "1e300"),
            (-1.5e17, "-1.5e17"),
            (5e-324, "5e-324"),
            (-0.0, "-0.0"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(printed(|row| row.float(value)), text);
        }
        for exponent in -300..300 {
            let value = 1.2345678901234567 * 10f64.powi(exponent);
            let text = printed(|row| row.float(value));
            assert_eq!(text.parse::<f64>().expect("a number"), value);
            assert!(!text.contains('+'), "{text}");
        }
        assert_eq!(printed(|row| row.single(0.1)), "0.1");
    }

    #[test]
    fn integers() {
        for value in (0..20_000).chain([i64::MIN, -1, -10_000, i64::MAX]) {
            assert_eq!(printed(|row| row.int(value)), value.to_string());
        }
        assert_eq!(printed(|row| row.unsigned(u64::MAX)), u64::MAX.to_string());
        assert_eq!(printed(|row| row.unsigned(9_999)), "9999");
    }

    #[test]
    fn instants() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (1_704_067_200_500_000, "2024-01-01T00:00:00.500Z"),
            (1_709_251_199_000_001, "2024-02-29T23:59:59.000001Z"),
            (i64::MAX, "+294247-01-10T04:00:54.775807Z"),
            (i64::MIN, "-290308-12-21T19:59:05.224192Z"),
        ] {
            let mut last = LastTime::new();
            assert_eq!(printed(|row| last.print(micros, row)), text);
            assert_eq!(printed(|row| last.print(micros, row)), text);
        }
    }
}
