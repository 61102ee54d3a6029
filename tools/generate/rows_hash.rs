//! What shuffled rows add up to, in any order: the generator says it of the rows that it makes, the harness of those it finds.

use crate::expect::text_key;
use crate::random::mix;
use arrow_array::{Float64Array, Int64Array, RecordBatch, StringArray};

/// The wrapping sum of a hash of each row, in any order; `None` if the columns are of other types.
pub fn rows_hash(batch: &RecordBatch) -> Option<u64> {
    let keys = batch.column_by_name("key")?.as_any().downcast_ref::<Int64Array>()?;
    let values = batch.column_by_name("value")?.as_any().downcast_ref::<Float64Array>()?;
    let payloads = batch.column_by_name("payload")?.as_any().downcast_ref::<StringArray>()?;
    let rows = keys.values().iter().zip(values.values()).zip(payloads);
    Some(rows.fold(0u64, |sum, ((key, value), payload)| {
        let row = mix(mix(*key as u64) ^ value.to_bits()) ^ text_key(payload.unwrap_or_default().as_bytes());
        sum.wrapping_add(mix(row))
    }))
}
