//! Time columns of columnar input as microseconds since the epoch.

use crate::query::text::{TextColumn, is_text};
use crate::time::{TimeFormat, Timestamp};
use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_buffer::ScalarBuffer;
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};

/// The times of a column, and which rows have a valid one (`None`: all).
pub(crate) fn times(column: &ArrayRef, format: &TimeFormat) -> Result<(ScalarBuffer<i64>, Option<BooleanArray>)> {
    let valid_range = Timestamp::MIN.micros()..=Timestamp::MAX.micros();
    let micros: ArrayRef = match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => column.clone(),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            // Cut towards the past, as everywhere: not towards zero, as a cast would.
            let nanos = column.as_primitive::<arrow_array::types::TimestampNanosecondType>();
            std::sync::Arc::new(nanos.unary::<_, TimestampMicrosecondType>(|n| n.div_euclid(1000)))
        }
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => {
            cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?
        }
        t if t.is_integer() => {
            let numbers = cast(column, &DataType::Int64)?;
            let numbers = numbers.as_primitive::<Int64Type>();
            let mut text = itoa::Buffer::new();
            return Ok(collect(numbers.iter().map(|n| n.and_then(|n| format.parse_bytes(text.format(n).as_bytes())))));
        }
        t if is_text(t) => {
            let text = TextColumn::new(column)?;
            return Ok(collect((0..column.len()).map(|row| text.get(row).and_then(|t| format.parse_bytes(t)))));
        }
        other => return Err(Error::usage(format!("the time field is of type {other}, which is no time"))),
    };
    let micros = micros.as_primitive::<TimestampMicrosecondType>();
    if format.has_zone() && !matches!(column.data_type(), DataType::Timestamp(_, Some(_))) {
        return Ok(collect(micros.iter().map(|local| local.and_then(|local| format.of_local(local)))));
    }
    let values = micros.values().clone();
    let in_range = values.iter().all(|v| valid_range.contains(v));
    if in_range && micros.null_count() == 0 {
        return Ok((values, None));
    }
    let valid = micros.iter().map(|v| Some(v.is_some_and(|v| valid_range.contains(&v)))).collect();
    Ok((values, Some(valid)))
}

fn collect(times: impl Iterator<Item = Option<i64>>) -> (ScalarBuffer<i64>, Option<BooleanArray>) {
    let times: Vec<Option<i64>> = times.collect();
    let values: ScalarBuffer<i64> = times.iter().map(|t| t.unwrap_or(0)).collect::<Vec<_>>().into();
    let all = times.iter().all(Option::is_some);
    (values, (!all).then(|| times.iter().map(|t| Some(t.is_some())).collect()))
}
