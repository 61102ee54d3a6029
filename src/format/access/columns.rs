//! One wanted column of a block, filled a batch of lines at a time.
//!
//! Invariant: a column has one value for each line it was given; its validity buffer exists only if some value is null.
//! Cost: one loop over the batch per column, without a decision on its type inside; text is a 16-byte view, never a copy
//! (12 bytes and fewer stand in the view itself).

use super::line::Place;
use crate::Result;
use crate::format::FieldType;
use crate::time::TimeFormat;
use arrow_array::builder::BinaryViewBuilder;
use arrow_array::types::{ArrowPrimitiveType, Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{ArrayRef, BooleanArray, PrimitiveArray};
use arrow_buffer::{Buffer, NullBufferBuilder};
use std::sync::Arc;

/// A column that grows.
#[derive(Debug)]
pub(super) struct Column {
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
    Timestamp(Vec<i64>, TimeFormat),
}

/// A value that is no value of its column.
enum Unfit {
    /// Null and counted.
    Cast,
    /// A fraction among integers, which stops the run.
    Fraction,
}

impl Column {
    /// An empty column of places in `block`, with room for `rows`.
    pub(super) fn new(ty: FieldType, time: TimeFormat, block: &Buffer, rows: usize) -> Column {
        Column {
            values: match ty {
                FieldType::Text => {
                    let mut views = BinaryViewBuilder::with_capacity(rows);
                    views.append_block(block.clone());
                    Values::Text(views)
                }
                FieldType::Int64 => Values::Int64(Vec::with_capacity(rows)),
                FieldType::Float64 => Values::Float64(Vec::with_capacity(rows)),
                FieldType::Boolean => Values::Boolean(Vec::with_capacity(rows)),
                FieldType::Timestamp => Values::Timestamp(Vec::with_capacity(rows), time),
            },
            nulls: NullBufferBuilder::new(rows),
            cast_failed: 0,
        }
    }

    /// Appends the values at `places` of `text`.
    ///
    /// # Errors
    /// The place of a fraction in an integer column.
    pub(super) fn extend(&mut self, text: &[u8], places: impl Iterator<Item = Place>) -> Result<(), Place> {
        let Column { values, nulls, cast_failed } = self;
        match values {
            Values::Text(views) => {
                for place in places {
                    // A place that has a value lies in the block, so its view is never refused.
                    let seen = place.value(text).is_some()
                        && views.try_append_view(0, place.start, place.end - place.start).is_ok();
                    if !seen {
                        views.append_null();
                    }
                }
                Ok(())
            }
            Values::Int64(values) => {
                fill(values, nulls, cast_failed, text, places, |place, value| integer(text, place, value))
            }
            Values::Float64(values) => fill(values, nulls, cast_failed, text, places, |_, value| {
                fast_float2::parse(value).map_err(|_| Unfit::Cast)
            }),
            Values::Boolean(values) => fill(values, nulls, cast_failed, text, places, |_, value| match value {
                b"true" => Ok(true),
                b"false" => Ok(false),
                _ => Err(Unfit::Cast),
            }),
            Values::Timestamp(values, format) => {
                fill(values, nulls, cast_failed, text, places, |_, value| format.parse_bytes(value).ok_or(Unfit::Cast))
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
    read: impl Fn(Place, &[u8]) -> Result<T, Unfit>,
) -> Result<(), Place> {
    for place in places {
        let value = match place.value(text).map(|value| read(place, value)) {
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

/// A decimal integer, with or without a sign.
#[inline]
fn integer(text: &[u8], place: Place, value: &[u8]) -> Result<i64, Unfit> {
    if value.len() <= 8
        && let Some(rest) = text.get(place.start as usize..)
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
