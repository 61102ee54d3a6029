//! Key columns of fixed width as 64-bit words, and words back as arrays of the field's type.

use super::plan::is_word_like;
use crate::{Error, Result};
use arrow_array::builder::BooleanBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array};
use arrow_cast::cast;
use arrow_schema::DataType;
use std::sync::Arc;

/// A key column as 64-bit words; nulls as they are.
pub(super) fn words(column: &ArrayRef) -> Result<(Vec<u64>, Option<arrow_buffer::NullBuffer>)> {
    let nulls = column.logical_nulls().filter(|n| n.null_count() > 0);
    let words = match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().values().iter().map(|v| *v as u64).collect(),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let floats = cast(column, &DataType::Float64)?;
            floats.as_primitive::<Float64Type>().values().iter().map(|v| float_word(*v)).collect()
        }
        DataType::UInt64 => column.as_primitive::<UInt64Type>().values().to_vec(),
        DataType::Dictionary(_, values) => {
            let (plain, _) = words(&cast(column, values)?)?;
            plain
        }
        // Only what is a whole number of something: a decimal, say, would lose its fraction.
        other if is_word_like(other) => {
            let narrow = match other {
                DataType::Date32 | DataType::Time32(_) => cast(column, &DataType::Int32)?,
                _ => column.clone(),
            };
            let integers = cast(&narrow, &DataType::Int64)?;
            integers.as_primitive::<Int64Type>().values().iter().map(|v| *v as u64).collect()
        }
        other => return Err(Error::usage(format!("a column of type {other} cannot be a key"))),
    };
    Ok((words, nulls))
}

/// The word of a float key: all NaN are one and −0 is 0.
fn float_word(value: f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

/// Words back as an array of the field's own type.
pub(super) fn word_array(words: impl Iterator<Item = Option<u64>>, data_type: &DataType) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            let array: Float64Array = words.map(|w| w.map(f64::from_bits)).collect();
            cast(&array, data_type)?
        }
        DataType::UInt64 => Arc::new(words.collect::<arrow_array::UInt64Array>()),
        DataType::Dictionary(_, values) => cast(&word_array(words, values)?, data_type)?,
        DataType::Boolean => {
            let mut builder = BooleanBuilder::new();
            words.for_each(|w| builder.append_option(w.map(|w| w != 0)));
            Arc::new(builder.finish())
        }
        _ => {
            let array: Int64Array = words.map(|w| w.map(|w| w as i64)).collect();
            match data_type {
                DataType::Int64 => Arc::new(array),
                // Days and the shorter times are 32 bits wide and are cast by way of their own width.
                DataType::Date32 | DataType::Time32(_) => cast(&cast(&array, &DataType::Int32)?, data_type)?,
                _ => cast(&array, data_type)?,
            }
        }
    })
}
