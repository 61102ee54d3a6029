//! Lists of aggregates: parse, and run what parses over three rows, in order and naively.

#![no_main]

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use windrow::ErrorKind;
use windrow::query::{Agg, Query, Window};

fn batch() -> RecordBatch {
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("ts", Arc::new(TimestampMicrosecondArray::from(vec![-1, 0, 1_500_000])), true),
        ("x", Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(-3)])), true),
        ("y", Arc::new(Float64Array::from(vec![Some(1e300), Some(f64::NAN), None])), true),
        ("s", Arc::new(StringArray::from(vec![Some("a"), None, Some("")])), true),
        ("b", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)])), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("columns of equal length")
}

fn run(aggs: &[Agg], naive: bool) -> Result<Vec<RecordBatch>, windrow::Error> {
    let batch = batch();
    let window = Window::sliding(2_000_000, 1_000_000, 0)?;
    let query = Query::batches(batch.schema(), [Ok(batch)]).key("s").window(window).threads(1).naive(naive);
    let query = aggs.iter().fold(query.partition_bits(1), |query, agg| query.aggregate(agg.clone()));
    query.run()?.collect()
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let aggs = match Agg::parse_list(text) {
        Ok(aggs) => aggs,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
            return;
        }
    };
    assert!(!aggs.is_empty());
    assert!(aggs.iter().all(|agg| !agg.name().is_empty()), "a column has a name");
    let again = Agg::parse_list(text).expect("what parsed parses again");
    assert!(again.iter().map(Agg::name).eq(aggs.iter().map(Agg::name)));
    if aggs.len() > 20 {
        return;
    }
    match (run(&aggs, false), run(&aggs, true)) {
        (Ok(rows), Ok(naive)) => {
            assert_eq!(rows[0].num_columns(), 3 + aggs.len());
            // A debug form, since NaN is not equal to itself.
            assert_eq!(format!("{rows:?}"), format!("{naive:?}"));
        }
        (Err(error), Err(other)) => {
            assert!(matches!(error.kind(), ErrorKind::Usage | ErrorKind::Data), "{error}");
            assert_eq!(error.kind(), other.kind());
        }
        (one, other) => panic!("one fails: {one:?} {other:?}"),
    }
});
