//! Properties of the typed face: whatever the batches, it says what a recomputation from scratch says.
//!
//! Thresholds are tiny under test, so these runs go through sub-partitions, pools and rebuilt tables.

mod failures;
mod graphs;
mod kept;
mod recovery;
mod recovery_faults;
mod spilling;
mod states;
mod windows;

use super::{DStream, Data, ManualClock, StreamingContext, Time};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A context with a manual clock and a batch every millisecond; with several threads it has next to no memory.
pub(crate) fn context(threads: usize) -> StreamingContext {
    let clock = ManualClock::new();
    let builder = StreamingContext::builder().batch_interval(Duration::from_millis(1)).threads(threads);
    let builder = if threads > 1 { builder.memory_limit(200) } else { builder };
    builder.manual_clock(&clock).build().unwrap()
}

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(crate) type Collected<T> = Arc<Mutex<Vec<(u64, Vec<T>)>>>;

/// Collects every batch with its number.
pub(crate) fn collected<T: Data>(stream: &DStream<T>) -> Collected<T> {
    let all = Collected::default();
    let into = all.clone();
    stream.for_each_batch(move |batch, time| {
        into.lock().unwrap().push((time.millis(), batch.collect()?));
        Ok(())
    });
    all
}

/// What comes out of the stream that `build` makes over `batches`, by number.
pub(crate) fn run<T: Data, U: Data>(
    threads: usize,
    batches: &[Vec<T>],
    build: impl FnOnce(&DStream<T>) -> DStream<U>,
) -> Vec<(u64, Vec<U>)> {
    let ctx = context(threads);
    let out = collected(&build(&ctx.queue_stream(batches.to_vec())));
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(batches.len() as u64)).unwrap();
    ctx.stop(false).unwrap();
    std::mem::take(&mut *out.lock().unwrap())
}

/// Rows of each batch in order.
pub(crate) fn sorted<T: Ord>(mut batches: Vec<(u64, Vec<T>)>) -> Vec<(u64, Vec<T>)> {
    batches.iter_mut().for_each(|batch| batch.1.sort());
    batches
}
