//! The type of a field from the texts that the first records have: the narrowest that holds them all.

use super::FieldType;
use super::columns::{any_float, boolean};
use crate::time::TimeFormat;
use arrow_array::ArrayRef;
use arrow_array::cast::AsArray;

/// Records from which types are decided.
pub const SAMPLE_RECORDS: usize = 1000;

/// The type of a text column's values, its first [`SAMPLE_RECORDS`]; text if it has none.
pub(super) fn narrowest(column: &ArrayRef) -> FieldType {
    let mut all = None;
    for value in column.as_binary_view().iter().take(SAMPLE_RECORDS).flatten() {
        let value = value.trim_ascii();
        if !value.is_empty() {
            all = Some(join(all, of_text(value)));
        }
    }
    all.unwrap_or(FieldType::Text)
}

/// The narrowest type that holds what both hold.
pub(super) fn join(a: Option<FieldType>, b: FieldType) -> FieldType {
    match (a, b) {
        (None, b) => b,
        (Some(FieldType::Int64), FieldType::Float64) | (Some(FieldType::Float64), FieldType::Int64) => {
            FieldType::Float64
        }
        (Some(a), b) if a == b => a,
        _ => FieldType::Text,
    }
}

fn of_text(value: &[u8]) -> FieldType {
    let text = std::str::from_utf8(value).ok();
    if text.is_some_and(|t| t.parse::<i64>().is_ok()) {
        FieldType::Int64
    } else if any_float(value).is_some() {
        FieldType::Float64
    } else if boolean(value).is_some() {
        FieldType::Boolean
    } else if is_time(value) {
        FieldType::Timestamp
    } else {
        FieldType::Text
    }
}

/// Whether `text` is a date or a time with a date, however it is written: `TimeFormat::Auto` takes numbers for times too.
pub(super) fn is_time(text: &[u8]) -> bool {
    let dated = matches!((text.get(2), text.get(4)), (Some(b'/'), _) | (_, Some(b'-' | b'/')));
    dated && TimeFormat::Auto.parse_bytes(text).is_some()
}
