//! The two faces on the same records: what the declared query says, the typed function over closures says too.
//!
//! A micro-batch is one microsecond of event time, so batch `k` (from 1) holds the records at instant `k - 1` and the
//! window that the typed face emits at time `t` is the declared window that ends at instant `t`.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use windrow::query::{Query, Window, avg, count_of, max, min, sum};
use windrow::stream::{
    ManualClock, StreamingContext, Time, reduce_by_key_and_window, reduce_by_key_and_window_inverse,
};

/// A key, and what is known of its values: how many, their sum, the least and the greatest.
type Row = (Option<i64>, (i64, i64, i64, i64));
/// The rows of each window, by its end.
type Windows = BTreeMap<i64, Vec<Row>>;

/// Records as `(instant, key, value)`.
fn declared(records: &[(i64, Option<i64>, i64)], length: i64, slide: i64, cut: usize, naive: bool) -> Windows {
    let batches: Vec<_> = records
        .chunks(cut)
        .map(|records| {
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("ts", Arc::new(records.iter().map(|r| Some(r.0)).collect::<TimestampMicrosecondArray>())),
                ("key", Arc::new(records.iter().map(|r| r.1).collect::<Int64Array>())),
                ("value", Arc::new(records.iter().map(|r| Some(r.2)).collect::<Int64Array>())),
            ];
            let nullable = columns.into_iter().map(|(name, column)| (name, column, true));
            RecordBatch::try_from_iter_with_nullable(nullable).map_err(Into::into)
        })
        .collect();
    let schema = match batches.first() {
        Some(Ok(batch)) => batch.schema(),
        _ => return Windows::new(),
    };
    let rows = Query::batches(schema, batches)
        .key("key")
        .window(Window::sliding(length, slide, -(length % slide)).expect("a window"))
        .aggregate(count_of("value"))
        .aggregate(sum("value"))
        .aggregate(min("value"))
        .aggregate(max("value"))
        .aggregate(avg("value"))
        .threads(3)
        .naive(naive)
        .run()
        .expect("a run");
    let mut windows = Windows::new();
    for batch in rows {
        let batch = batch.expect("rows");
        let int = |column: usize, row: usize| {
            let column = batch.column(column).as_primitive::<Int64Type>();
            column.is_valid(row).then(|| column.value(row))
        };
        for row in 0..batch.num_rows() {
            let end = batch.column(1).as_primitive::<TimestampMicrosecondType>().value(row);
            let value = |column| int(column, row).expect("a value");
            let all = (value(3), value(4), value(5), value(6));
            let mean = batch.column(7).as_primitive::<arrow_array::types::Float64Type>().value(row);
            assert_eq!(mean, all.1 as f64 / all.0 as f64, "the mean is the sum over the count");
            windows.entry(end).or_default().push((int(2, row), all));
        }
    }
    windows.values_mut().for_each(|rows| rows.sort());
    windows
}

/// The same windows by streams of closures: counts and sums with an inverse, the extremes without.
fn streamed(batches: &[Vec<(Option<i64>, i64)>], length: u64, slide: u64, threads: usize) -> Windows {
    let clock = ManualClock::new();
    let ctx = StreamingContext::builder().batch_interval(Duration::from_millis(1)).threads(threads);
    let ctx = ctx.manual_clock(&clock).build().expect("a context");
    let (length, slide) = (Duration::from_millis(length), Duration::from_millis(slide));
    let rows = ctx.queue_stream(batches.to_vec());
    let sums = rows.map(|(key, value)| (key, (1, value))).reduce_by_key_and_window_filtered(
        |a: &(i64, i64), b| (a.0 + b.0, a.1 + b.1),
        |a, b| (a.0 - b.0, a.1 - b.1),
        length,
        slide,
        |row| row.1.0 > 0,
    );
    let extremes = rows.map(|(key, value)| (key, (value, value))).reduce_by_key_and_window_without_inverse(
        |a: &(i64, i64), b| (a.0.min(b.0), a.1.max(b.1)),
        length,
        slide,
    );
    let windows = Arc::new(Mutex::new(Windows::new()));
    let into = windows.clone();
    sums.full_outer_join(&extremes).for_each_batch(move |batch, time| {
        let both = |row| match row {
            (key, (Some((n, sum)), Some((least, greatest)))) => (key, (n, sum, least, greatest)),
            (key, _) => panic!("{key:?} is in one of the two windows only"),
        };
        let mut rows: Vec<Row> = batch.collect()?.into_iter().map(both).collect();
        rows.sort();
        if !rows.is_empty() {
            into.lock().expect("no panic").insert(time.millis() as i64, rows);
        }
        Ok(())
    });
    ctx.start().expect("started");
    ctx.run_until(Time::from_millis(batches.len() as u64)).expect("run");
    ctx.stop(true).expect("stopped");
    std::mem::take(&mut *windows.lock().expect("no panic"))
}

proptest! {
    #[test]
    fn both_faces_agree(
        records in prop::collection::vec((0i64..40, prop::option::weighted(0.9, 0i64..5), -100i64..100), 1..150),
        length in 1u64..20, slide in 1u64..10, cut in 1usize..50, naive in any::<bool>(),
    ) {
        const BATCHES: i64 = 60;
        let one = |value: i64| (1, value, value, value);
        let batches: Vec<Vec<_>> = (0..BATCHES)
            .map(|at| records.iter().filter(|r| r.0 == at).map(|r| (r.1, one(r.2))).collect())
            .collect();
        let all = reduce_by_key_and_window(
            batches.clone(),
            |a, b| (a.0 + b.0, a.1 + b.1, a.2.min(b.2), a.3.max(b.3)),
            length,
            slide,
        );
        let mut typed = Windows::new();
        for (time, mut rows) in all.expect("windows") {
            rows.sort();
            if !rows.is_empty() {
                typed.insert(time as i64, rows);
            }
        }
        let mut want = declared(&records, length as i64, slide as i64, cut, naive);
        // The typed face emits while there are batches; the declared one until the last record has left.
        want.retain(|end, _| *end > 0 && *end <= BATCHES);
        prop_assert_eq!(&typed, &want);
        let values: Vec<Vec<_>> = (0..BATCHES)
            .map(|at| records.iter().filter(|r| r.0 == at).map(|r| (r.1, r.2)).collect())
            .collect();
        for threads in [1, 3] {
            prop_assert_eq!(&streamed(&values, length, slide, threads), &want);
        }
        // With an inverse, sums and counts are those of the declared face, and keys that left stay at zero.
        let sums = reduce_by_key_and_window_inverse(
            batches.into_iter().map(|batch| batch.into_iter().map(|(key, all)| (key, (all.0, all.1))).collect()),
            |a: &(i64, i64), b| (a.0 + b.0, a.1 + b.1),
            |a, b| (a.0 - b.0, a.1 - b.1),
            length,
            slide,
        );
        for (time, rows) in sums.expect("windows") {
            let mut live: Vec<_> = rows.into_iter().filter(|row| row.1.0 > 0).collect();
            live.sort();
            let rows = want.get(&(time as i64)).map_or(&[][..], Vec::as_slice);
            prop_assert_eq!(live, rows.iter().map(|(key, all)| (*key, (all.0, all.1))).collect::<Vec<_>>());
        }
    }
}
