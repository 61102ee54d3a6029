//! One wanted column of a block of text, filled a batch of records at a time: what access logs, CSV and patterns share.
//!
//! Invariant: a column has one value for each place it was given; its validity buffer exists only if some value is null.
//! Cost: one loop over the batch per column, without a decision on its type inside; text is a 16-byte view, never a copy
//! (12 bytes and fewer stand in the view itself), unless quotes had to be taken out of it.

use super::FieldType;
use super::json::number;
use crate::Result;
use crate::time::TimeFormat;
use arrow_array::builder::BinaryViewBuilder;
use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, BooleanArray, PrimitiveArray};
use arrow_buffer::{Buffer, NullBufferBuilder};
use std::sync::Arc;

/// A stretch of the block's text; `start > end` says that the field is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    start: u32,
    /// One past the last byte, and [`Place::RAW`].
    end: u32,
}

impl Place {
    pub(super) const MISSING: Place = Place { start: 1, end: 0 };
    /// The text stands as written behind an opening quote: doubled quotes and all.
    const RAW: u32 = 1 << 31;

    /// `start..end`, which lie below 2^31.
    #[inline]
    pub(super) fn new(start: usize, end: usize) -> Place {
        Place { start: start as u32, end: end as u32 }
    }

    /// A quoted field, from behind its opening quote, that has more than one quote left in it.
    pub(super) fn raw(start: usize, end: usize) -> Place {
        Place { start: start as u32, end: end as u32 | Place::RAW }
    }

    /// The same, but missing if nothing is there.
    #[inline]
    pub(super) fn unless_empty(start: usize, end: usize) -> Place {
        if start < end { Place::new(start, end) } else { Place::MISSING }
    }

    /// The bytes at this place, as they stand; `None` if the field is missing.
    #[inline]
    pub(super) fn text(self, text: &[u8]) -> Option<&[u8]> {
        text.get(self.start as usize..(self.end & !Place::RAW) as usize)
    }

    /// Where the field starts.
    pub(super) fn start(self) -> usize {
        self.start as usize
    }

    #[inline]
    pub(super) fn is_raw(self) -> bool {
        self.end & Place::RAW != 0
    }
}

/// Appends what a quoted field says: `raw` begins behind its opening quote. Two quotes are one, a single one ends the
/// quoting, and what follows stands as it is.
pub(super) fn unquote(raw: &[u8], quote: u8, out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(at) = memchr::memchr(quote, rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match rest.split_first() {
            Some((next, tail)) if *next == quote => {
                out.push(quote);
                rest = tail;
            }
            _ => break,
        }
    }
    out.extend_from_slice(rest);
}

/// Reads times written in one format, and remembers the last one: the records of a log repeat theirs.
#[derive(Debug)]
pub(super) struct Clock {
    format: TimeFormat,
    last: Place,
    time: Option<i64>,
}

impl Clock {
    pub(super) fn new(format: TimeFormat) -> Clock {
        Clock { format, last: Place::MISSING, time: None }
    }

    /// The time, in microseconds, that stands at `place` of `text`.
    #[inline]
    pub(super) fn read(&mut self, text: &[u8], place: Place) -> Option<i64> {
        let value = place.text(text)?;
        if self.last.text(text) != Some(value) {
            self.time = self.format.parse_bytes(value.trim_ascii());
            self.last = place;
        }
        self.time
    }
}

/// A column that grows.
#[derive(Debug)]
pub(super) struct Column {
    quote: u8,
    values: Values,
    nulls: NullBufferBuilder,
    cast_failed: u64,
}

#[derive(Debug)]
enum Values {
    Text(BinaryViewBuilder),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Boolean(Vec<bool>),
    Timestamp(Vec<i64>, Clock),
}

/// A value that is no value of its column.
enum Unfit {
    /// Null and counted.
    Cast,
    /// A fraction among integers, which stops the run.
    Fraction,
}

impl Column {
    /// An empty column of places in `block`, with room for `rows`; `quote` stands around raw places.
    pub(super) fn new(ty: FieldType, time: TimeFormat, quote: u8, block: &Buffer, rows: usize) -> Column {
        Column {
            quote,
            values: match ty {
                FieldType::Text => {
                    let mut views = BinaryViewBuilder::with_capacity(rows);
                    views.append_block(block.clone());
                    Values::Text(views)
                }
                FieldType::Int64 => Values::Int64(Vec::with_capacity(rows)),
                FieldType::Float64 => Values::Float64(Vec::with_capacity(rows)),
                FieldType::Boolean => Values::Boolean(Vec::with_capacity(rows)),
                FieldType::Timestamp => Values::Timestamp(Vec::with_capacity(rows), Clock::new(time)),
            },
            nulls: NullBufferBuilder::new(rows),
            cast_failed: 0,
        }
    }

    /// Appends the values at `places` of `text`. Numbers, booleans and times may have white space around them, and are
    /// null where nothing else stands.
    ///
    /// # Errors
    /// The place of a fraction in an integer column.
    pub(super) fn extend(&mut self, text: &[u8], places: impl Iterator<Item = Place>) -> Result<(), Place> {
        let Column { quote, values, nulls, cast_failed } = self;
        match values {
            Values::Text(views) => {
                for place in places {
                    let seen = if place.is_raw() {
                        let mut value = Vec::new();
                        unquote(place.text(text).unwrap_or_default(), *quote, &mut value);
                        views.try_append_value(value).is_ok()
                    } else {
                        // A place that is not missing lies in the block, so its view is never refused.
                        place.start <= place.end
                            && views.try_append_view(0, place.start, place.end - place.start).is_ok()
                    };
                    if !seen {
                        views.append_null();
                    }
                }
                Ok(())
            }
            Values::Int64(values) => {
                fill(values, nulls, cast_failed, text, places, |place, value| integer(text, place, value))
            }
            Values::Float64(values) => {
                fill(values, nulls, cast_failed, text, places, |place, value| float(text, place, value))
            }
            Values::Boolean(values) => {
                fill(values, nulls, cast_failed, text, places, |_, value| boolean(value).ok_or(Unfit::Cast))
            }
            Values::Timestamp(values, clock) => {
                fill(values, nulls, cast_failed, text, places, |place, _| clock.read(text, place).ok_or(Unfit::Cast))
            }
        }
    }

    /// Values so far that were not of the column's type.
    pub(super) fn cast_failed(&self) -> u64 {
        self.cast_failed
    }

    /// The column as an array.
    ///
    /// # Errors
    /// None that input can cause: the array is checked by its own constructor.
    pub(super) fn finish(mut self) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        Ok(match self.values {
            Values::Text(mut views) => Arc::new(views.finish()),
            Values::Int64(values) => Arc::new(primitive::<Int64Type>(values, nulls)?),
            Values::Float64(values) => Arc::new(primitive::<Float64Type>(values, nulls)?),
            Values::Boolean(values) => Arc::new(BooleanArray::new(values.into(), nulls)),
            Values::Timestamp(values, _) => {
                let times = primitive::<TimestampMicrosecondType>(values, nulls)?;
                Arc::new(times.with_timezone("UTC"))
            }
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<arrow_buffer::NullBuffer>,
) -> Result<PrimitiveArray<T>> {
    Ok(PrimitiveArray::try_new(values.into(), nulls)?)
}

/// Appends the value of each place, null where it is missing or unfit.
#[inline]
fn fill<T: Default>(
    values: &mut Vec<T>,
    nulls: &mut NullBufferBuilder,
    cast_failed: &mut u64,
    text: &[u8],
    places: impl Iterator<Item = Place>,
    mut read: impl FnMut(Place, &[u8]) -> Result<T, Unfit>,
) -> Result<(), Place> {
    for place in places {
        let value = place.text(text).filter(|value| !value.is_empty());
        let value = match value.map(|value| read(place, value)) {
            Some(Err(Unfit::Cast)) if value.is_some_and(|v| v.trim_ascii().is_empty()) => None,
            Some(Ok(value)) => Some(value),
            Some(Err(Unfit::Fraction)) => return Err(place),
            Some(Err(Unfit::Cast)) => {
                *cast_failed += 1;
                None
            }
            None => None,
        };
        nulls.append(value.is_some());
        values.push(value.unwrap_or_default());
    }
    Ok(())
}

/// `true` or `false`, in small letters, capitals or with a capital.
pub(super) fn boolean(value: &[u8]) -> Option<bool> {
    match value.trim_ascii() {
        b"true" | b"True" | b"TRUE" => Some(true),
        b"false" | b"False" | b"FALSE" => Some(false),
        _ => None,
    }
}

/// A decimal number; NaN and infinities have their names.
#[inline]
fn float(text: &[u8], place: Place, value: &[u8]) -> Result<f64, Unfit> {
    match number::float(text, place.start(), place.start() + value.len()) {
        Some(number) => Ok(number),
        None => any_float(value).ok_or(Unfit::Cast),
    }
}

/// A decimal number with white space around it, or one beyond the largest double, which is infinite.
#[cold]
pub(super) fn any_float(value: &[u8]) -> Option<f64> {
    fast_float2::parse(value.trim_ascii()).ok()
}

/// A decimal integer, with or without a sign.
#[inline]
fn integer(text: &[u8], place: Place, value: &[u8]) -> Result<i64, Unfit> {
    if value.len() <= 8
        && let Some(rest) = text.get(place.start()..)
        && let Some(word) = rest.first_chunk()
        && let Some(number) = eight_digits(u64::from_le_bytes(*word), value.len())
    {
        return Ok(number);
    }
    any_integer(value)
}

/// The number that the first `length` (at most 8) bytes of a little-endian word spell, if all are digits and there is one.
#[inline]
fn eight_digits(word: u64, length: usize) -> Option<i64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    if length == 0 {
        return None;
    }
    let missing = 8 * (8 - length as u32);
    let word = word << missing | (ZEROS & !(u64::MAX << missing));
    // Every byte is 0x30 to 0x3f, and still is when six is added.
    let high = 0xf0f0_f0f0_f0f0_f0f0;
    if word & high != ZEROS || word.wrapping_add(0x0606_0606_0606_0606) & high != ZEROS {
        return None;
    }
    // Pairs, then fours, then all eight.
    let pairs = (word & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(2_561) >> 8;
    let fours = (pairs & 0x00ff_00ff_00ff_00ff).wrapping_mul(6_553_601) >> 16;
    let eight = (fours & 0x0000_ffff_0000_ffff).wrapping_mul(42_949_672_960_001) >> 32;
    Some(eight as i64)
}

#[cold]
fn any_integer(value: &[u8]) -> Result<i64, Unfit> {
    let value = value.trim_ascii();
    let Ok(text) = std::str::from_utf8(value) else {
        return Err(Unfit::Cast);
    };
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    let fraction = text.bytes().any(|b| matches!(b, b'.' | b'e' | b'E'));
    match fast_float2::parse::<f64, _>(value) {
        Ok(number) if fraction && number.is_finite() => Err(Unfit::Fraction),
        _ => Err(Unfit::Cast),
    }
}
