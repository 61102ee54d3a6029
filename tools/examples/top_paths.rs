//! The busiest paths of a web log that is being written, live: `cargo run --example top_paths -- access.log`.
//!
//! Shows: a tailed file as a source, sliding counts with an inverse, a key forgotten when its count is zero.

use std::time::Duration;
use windrow::stream::{Clock, SourceOptions, StreamingContext, TailSource};

/// The path of a request in a combined or common log line.
pub fn path_of(line: &str) -> Option<&str> {
    line.split('"').nth(1)?.split(' ').nth(1)
}

/// A context that prints the `k` busiest paths of the last ten intervals, every interval.
pub fn top(
    log: &str,
    k: usize,
    interval: Duration,
    clock: Clock,
    print: impl Fn(String) + Send + Sync + 'static,
) -> windrow::Result<StreamingContext> {
    let ctx = StreamingContext::builder().batch_interval(interval).clock(clock).build()?;
    let lines = ctx.source_stream(TailSource::new([log]), SourceOptions::default());
    let hits = lines.reduce_by_borrowed_key(
        |line: &String, emit| path_of(line).into_iter().for_each(|path| emit(path, 1u64)),
        |a, b| a + b,
    );
    let counts = hits.reduce_by_key_and_window_filtered(
        |a, b| a + b,
        |a, b| a - b,
        interval * 10,
        interval,
        |(_, n): &(String, u64)| *n > 0,
    );
    counts.for_each_batch(move |batch, time| {
        let mut rows = batch.collect()?;
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let first: Vec<_> = rows.iter().take(k).map(|(path, n)| format!("{n} {path}")).collect();
        print(format!("{time}: {}", first.join(", ")));
        Ok(())
    });
    Ok(ctx)
}

#[allow(dead_code)]
fn main() -> windrow::Result<()> {
    let Some(log) = std::env::args().nth(1) else {
        return Err(windrow::Error::usage("give the log to follow"));
    };
    let ctx = top(&log, 10, Duration::from_secs(1), Clock::Real, |line| println!("{line}"))?;
    ctx.start()?;
    ctx.await_termination()
}
