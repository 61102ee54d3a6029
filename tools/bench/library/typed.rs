//! Workload H1 through the typed face: a batch for each second, count and sum by key over 60 of them with an inverse.

use crate::Failure;
use crate::expect::Checksum;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rayon::prelude::*;
use std::fs::File;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use windrow::stream::{BatchQueue, ManualClock, StreamingContext, Time};

const WINDOW: u64 = 60;
const MICROS: i64 = 1_000_000;

/// Time, key and value of a record.
type Event = (i64, u64, f64);

fn group(path: &str, number: usize) -> Result<Vec<Event>, Failure> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let reader = reader.with_row_groups(vec![number]).with_batch_size(1 << 16).build()?;
    let mut events = Vec::new();
    for batch in reader {
        let batch = batch?;
        let times = batch.column(0).as_primitive::<TimestampMicrosecondType>().values();
        let keys = batch.column(1).as_primitive::<Int64Type>().values();
        let values = batch.column(2).as_primitive::<Float64Type>().values();
        events.extend(times.iter().zip(keys).zip(values).map(|((time, key), value)| (*time, *key as u64, *value)));
    }
    Ok(events)
}

/// Reads the file, runs the stream and adds up its rows.
pub fn run(path: &str, threads: usize) -> Result<String, Failure> {
    let started = Instant::now();
    let groups = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.metadata().num_row_groups();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let read = || (0..groups).into_par_iter().map(|number| group(path, number)).collect::<Result<Vec<_>, _>>();
    let events = pool.install(read)?;
    let first = events.first().and_then(|events| events.first()).ok_or("an empty file")?.0.div_euclid(MICROS);

    let clock = ManualClock::new();
    let ctx = StreamingContext::builder().manual_clock(&clock).threads(threads.max(1)).build()?;
    let queue = BatchQueue::new();
    let (mut batch, mut second, mut batches) = (Vec::new(), first, WINDOW);
    for (time, key, value) in events.into_iter().flatten() {
        while time.div_euclid(MICROS) > second {
            queue.push(std::mem::take(&mut batch));
            (second, batches) = (second + 1, batches + 1);
        }
        batch.push((key, (1u64, value)));
    }
    queue.push(batch);
    let result = Arc::new(Mutex::new(Checksum::default()));
    let windows = ctx.queue_stream(&queue).reduce_by_key_and_window_filtered(
        |a: &(u64, f64), b| (a.0 + b.0, a.1 + b.1),
        |a, b| (a.0 - b.0, a.1 - b.1),
        Duration::from_secs(WINDOW),
        Duration::from_secs(1),
        |(_, total)| total.0 > 0,
    );
    let sink = result.clone();
    windows.for_each_batch(move |rows, time| {
        // Batch k has the time k seconds and ends the window that ends k seconds after the first.
        let end = first + time.millis() as i64 / 1000;
        let rows = rows.collect()?;
        if let Ok(mut result) = sink.lock() {
            rows.iter().for_each(|(key, total)| result.row(Checksum::name(end, *key), total.0));
        }
        Ok(())
    });
    ctx.start()?;
    ctx.run_until(Time::from_millis(batches * 1000))?;
    let seconds = started.elapsed().as_secs_f64();
    let result = result.lock().map_err(|_| "an output failed")?;
    Ok(format!("{{\"query_s\":{seconds:.4},\"rows\":{},\"check\":{}}}", result.rows, result.json()))
}
