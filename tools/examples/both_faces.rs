//! A declared query inside a stream of closures: `cargo run --example both_faces`.
//!
//! Shows: records as Arrow columns, a query over each batch, its rows as records again.

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use std::sync::Arc;
use windrow::query::{count, sum};
use windrow::stream::{ManualClock, StreamingContext, Time};

fn columns(rows: Vec<(&'static str, i64)>) -> windrow::Result<RecordBatch> {
    let paths = StringArray::from_iter_values(rows.iter().map(|row| row.0));
    let bytes = Int64Array::from_iter_values(rows.iter().map(|row| row.1));
    let columns: [(&str, ArrayRef); 2] = [("path", Arc::new(paths)), ("bytes", Arc::new(bytes))];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Prints requests and bytes of each path, of the large answers only.
pub fn run(print: impl Fn(String) + Send + Sync + 'static) -> windrow::Result<()> {
    let clock = ManualClock::new();
    let ctx = StreamingContext::builder().manual_clock(&clock).partitions(2).build()?;
    let answers =
        ctx.queue_stream(vec![vec![("/a", 900), ("/b", 20), ("/a", 300)], vec![("/b", 70), ("/c", 800), ("/c", 5)]]);
    let fields = [Field::new("path", DataType::Utf8, false), Field::new("bytes", DataType::Int64, false)];
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let rows = answers.to_record_batches(columns).query(schema, |query| {
        query.key("path").filter("bytes >= 50").aggregate(count()).aggregate(sum("bytes")).sort_by_key()
    });
    let totals = rows.flat_map(|batch| {
        let (paths, counts) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        let bytes = batch.column(2).as_primitive::<Int64Type>();
        let row = |i: usize| (paths.value(i).to_owned(), counts.value(i), bytes.value(i));
        (0..batch.num_rows()).map(row).collect::<Vec<_>>()
    });
    totals.for_each_batch(move |batch, time| {
        let rows = batch.collect()?;
        rows.iter().for_each(|(path, n, bytes)| print(format!("{time}: {path} {n} {bytes}")));
        Ok(())
    });
    ctx.start()?;
    ctx.run_until(Time::from_millis(2000))
}

#[allow(dead_code)]
fn main() -> windrow::Result<()> {
    run(|line| println!("{line}"))
}
