//! Which Arrow types an aggregate can take, what they are called in messages, and their columns as 64-bit words.

use crate::query::text::is_text;
use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{ArrayRef, Int64Array};
use arrow_cast::cast;
use arrow_schema::DataType;
use std::sync::Arc;

/// `array` as `Int64` or `Float64`.
pub(super) fn number(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let narrow = match array.data_type() {
        DataType::Date32 | DataType::Time32(_) => cast(array, &DataType::Int32)?,
        _ => array.clone(),
    };
    let options = arrow_cast::CastOptions { safe: false, ..Default::default() };
    arrow_cast::cast_with_options(&narrow, to, &options)
        .map_err(|e| Error::data(format!("a value does not fit 64 bits, which is what windrow computes with: {e}")))
}

/// Floats as their bits.
pub(super) fn bits(column: &ArrayRef) -> ArrayRef {
    let words: Int64Array = column.as_primitive::<Float64Type>().unary(|v| v.to_bits() as i64);
    Arc::new(words)
}

/// Whether values of this type can be told apart as keys are.
pub(super) fn is_countable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_countable(values),
        other => is_text(other) || other.is_floating() || is_word_like(other),
    }
}

pub(super) fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer()
}

/// Whether values of this type are at most 64 bits that order as integers do.
pub(crate) fn is_word_like(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(..)
                | DataType::Duration(_)
        )
}

/// A type in words.
pub(super) fn describe(data_type: &DataType) -> String {
    match data_type {
        t if is_text(t) => "text".into(),
        DataType::Boolean => "a boolean".into(),
        DataType::Timestamp(..) => "a timestamp".into(),
        DataType::Date32 | DataType::Date64 => "a date".into(),
        other => format!("of type {other}"),
    }
}
