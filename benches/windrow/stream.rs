//! The typed face: what a record costs on its way through a graph of closures, on two threads.
//!
//! - `dstream windows`: count and sum by key with an inverse over 60 batches, every window's rows handed to the output;
//!   20 M records of 1,000 skewed keys in batches of 5,555 (a workload of the peers) and of 500,000. Beside it a plain loop
//!   over a hash map, one thread.
//! - `dstream reduce_by_key`: 20 M `(u64, u64)` of 1 M uniform keys.
//! - `dstream words`: word count, with owned words and with borrowed ones, beside a loop with a map of borrowed words for
//!   each thread.
//! - `dstream latency`: a batch of 1,000 lines from source to sink.
//! - `dstream state`: `map_with_state`, 100,000 touched keys a batch of 1 M and of 10 M; prints the bytes per key.

use crate::random::{Random, Weighted, mix};
use criterion::{BatchSize, Criterion, Throughput};
use hashbrown::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use windrow::stream::{Batch, BatchQueue, DStream, Emit, ManualClock, State, StateSpec, StreamingContext, Time};

const RECORDS: usize = 20_000_000;
const THREADS: usize = 2;

fn context() -> (StreamingContext, ManualClock) {
    let clock = ManualClock::new();
    let ctx = StreamingContext::builder().manual_clock(&clock).threads(THREADS).build().expect("a context");
    (ctx, clock)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn skewed() -> Vec<(u64, f64)> {
    let (mut random, keys) = (Random::new(7, 7), Weighted::zipf(1000, 1.1, 7));
    (0..RECORDS).map(|_| (keys.draw(&mut random) as u64, random.unit())).collect()
}

/// Rows and their counts together.
fn windows(batches: Vec<Batch<(u64, f64)>>) -> (u64, u64) {
    let (ctx, _) = context();
    let n = batches.len() as u64;
    let queue = BatchQueue::new();
    batches.into_iter().for_each(|batch| queue.push_batch(batch));
    let seen = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let (add, less) = (
        |a: &(u64, f64), b: &(u64, f64)| (a.0 + b.0, a.1 + b.1),
        |a: &(u64, f64), b: &(u64, f64)| (a.0 - b.0, a.1 - b.1),
    );
    let sink = seen.clone();
    let ones = ctx.queue_stream(&queue).map(|(key, value)| (key, (1, value)));
    ones.reduce_by_key_and_window(add, less, secs(60), secs(1)).for_each_batch(move |batch, _| {
        let rows = batch.collect()?;
        sink.0.fetch_add(rows.len() as u64, Ordering::Relaxed);
        sink.1.fetch_add(rows.iter().map(|row| row.1.0).sum(), Ordering::Relaxed);
        Ok(())
    });
    ctx.start().expect("started");
    ctx.run_until(Time::from_millis(n * 1000)).expect("run");
    (seen.0.load(Ordering::Relaxed), seen.1.load(Ordering::Relaxed))
}

/// The same in a loop.
fn plain(records: &[(u64, f64)], per_batch: usize) -> (u64, u64) {
    let mut totals: HashMap<u64, (u64, f64), ahash::RandomState> = HashMap::default();
    let mut panes = std::collections::VecDeque::new();
    let mut seen = (0, 0);
    for batch in records.chunks(per_batch) {
        let mut pane: HashMap<u64, (u64, f64), ahash::RandomState> = HashMap::default();
        for (key, value) in batch {
            let cell = pane.entry(*key).or_default();
            *cell = (cell.0 + 1, cell.1 + value);
        }
        for (key, cell) in &pane {
            let total = totals.entry(*key).or_default();
            *total = (total.0 + cell.0, total.1 + cell.1);
        }
        panes.push_back(pane);
        if panes.len() > 60 {
            for (key, cell) in panes.pop_front().expect("a pane") {
                let total = totals.entry(key).or_default();
                *total = (total.0 - cell.0, total.1 - cell.1);
            }
        }
        let rows: Vec<_> = totals.iter().collect();
        seen = (seen.0 + rows.len() as u64, seen.1 + rows.iter().map(|row| row.1.0).sum::<u64>());
    }
    seen
}

fn sliding(c: &mut Criterion) {
    let records = skewed();
    let (ctx, _) = context();
    let mut group = c.benchmark_group("dstream windows");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for per_batch in [5_555, 500_000] {
        let batches: Vec<_> = records.chunks(per_batch).map(|some| ctx.batch_from(some.to_vec())).collect();
        assert_eq!(windows(batches.clone()), plain(&records, per_batch));
        let clones = || batches.clone();
        group.bench_function(format!("batches of {per_batch}"), |b| {
            b.iter_batched(clones, windows, BatchSize::PerIteration);
        });
        group.bench_function(format!("batches of {per_batch}, the plain loop"), |b| {
            b.iter(|| plain(&records, per_batch));
        });
    }
    group.finish();
}

fn keyed(c: &mut Criterion) {
    const KEYS: usize = 1_000_000;
    let mut random = Random::new(7, 8);
    let records: Vec<_> = (0..RECORDS).map(|_| (mix(random.below(KEYS) as u64), 1u64)).collect();
    let (ctx, _) = context();
    let batch = ctx.batch_from(records);
    let counted = || {
        batch.clone().reduce_by_key(|a, b| a + b).aggregate(
            (0, 0),
            |all, row| *all = (all.0 + 1, all.1 + row.1),
            |all, more| *all = (all.0 + more.0, all.1 + more.1),
        )
    };
    assert_eq!(counted().expect("counted"), (KEYS, RECORDS as u64));
    let mut group = c.benchmark_group("dstream reduce_by_key");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("1M keys", |b| b.iter(counted));
    group.finish();
}

/// A gigabyte of lines of twelve words out of 50,000.
fn text() -> Vec<String> {
    let (mut random, words) = (Random::new(7, 9), Weighted::zipf(50_000, 1.0, 9));
    let word = |random: &mut Random| {
        let rank = words.draw(random) as u64;
        format!("{rank:x}{}", &"ingstatione"[..rank as usize % 8])
    };
    (0..10_500_000).map(|_| (0..12).map(|_| word(&mut random)).collect::<Vec<_>>().join(" ")).collect()
}

fn words(c: &mut Criterion) {
    let lines = text();
    let bytes: usize = lines.iter().map(|line| line.len() + 1).sum();
    let (ctx, _) = context();
    let loop_over = || {
        let half = |lines: &[String]| {
            let mut counts: HashMap<Vec<u8>, u64, ahash::RandomState> = HashMap::default();
            let mut borrowed: HashMap<&str, u64, ahash::RandomState> = HashMap::default();
            lines.iter().flat_map(|line| line.split(' ')).for_each(|word| *borrowed.entry(word).or_default() += 1);
            borrowed.iter().for_each(|(word, n)| *counts.entry(word.as_bytes().to_vec()).or_default() += n);
            counts
        };
        let (a, b) = lines.split_at(lines.len() / 2);
        let (mut a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(|| half(b));
            (half(a), other.join().expect("counted"))
        });
        b.into_iter().for_each(|(word, n)| *a.entry(word).or_default() += n);
        (a.len(), a.values().sum::<u64>())
    };
    let batch = ctx.batch_from(lines.clone());
    let sum = |counts: Batch<(String, u64)>| {
        let rows = counts.collect().expect("counted");
        (rows.len(), rows.iter().map(|row| row.1).sum::<u64>())
    };
    let owned = || {
        let split = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        sum(batch.clone().flat_map(split).map(|word| (word, 1)).reduce_by_key(|a, b| a + b))
    };
    let borrowed = || {
        let split = |line: &String, emit: Emit<'_, str, u64>| line.split(' ').for_each(|word| emit(word, 1));
        sum(batch.clone().reduce_by_borrowed_key(split, |a, b| a + b))
    };
    assert_eq!(loop_over(), owned());
    assert_eq!(loop_over(), borrowed());
    let mut group = c.benchmark_group("dstream words");
    group.sample_size(10);
    group.throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("owned", |b| b.iter(owned));
    group.bench_function("borrowed", |b| b.iter(borrowed));
    group.bench_function("the plain loop", |b| b.iter(loop_over));
    group.finish();
}

fn latency(c: &mut Criterion) {
    let mut group = c.benchmark_group("dstream latency");
    group.throughput(Throughput::Elements(1000));
    let lines: Vec<_> = text().into_iter().take(1000).collect();
    group.bench_function("1,000 lines", |b| {
        let (ctx, clock) = context();
        let queue = BatchQueue::new();
        let split = |line: String| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let words: DStream<(String, u64)> = ctx.queue_stream(&queue).flat_map(split).map(|word| (word, 1));
        let windows = words.reduce_by_key_and_window(|a, b| a + b, |a, b| a - b, secs(30), secs(1));
        windows.filter(|(_, n)| *n > 0).for_each_batch(|batch, _| batch.take(10).map(|_| ()));
        ctx.start().expect("started");
        b.iter_batched(
            || lines.clone(),
            |lines| {
                queue.push(lines);
                let next = clock.now().millis() + 1000;
                ctx.run_until(Time::from_millis(next)).expect("run");
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Bytes of memory that this process has in use.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn state(c: &mut Criterion) {
    const TOUCHED: u64 = 100_000;
    let mut group = c.benchmark_group("dstream state");
    group.throughput(Throughput::Elements(TOUCHED));
    for keys in [1_000_000, 10_000_000] {
        let before = resident();
        let (ctx, clock) = context();
        let queue = BatchQueue::new();
        let add = |_, _: &u64, value: Option<u64>, state: &mut State<'_, u64>| -> Option<u64> {
            let total = state.get().unwrap_or(&0) + value.unwrap_or(0);
            state.update(total);
            None
        };
        let totals = ctx.queue_stream(&queue).map_with_state(add, StateSpec::new());
        totals.count().for_each_batch(|batch, _| batch.collect().map(|_| ()));
        ctx.start().expect("started");
        let mut run = |records: Vec<(u64, u64)>| {
            queue.push(records);
            ctx.run_until(Time::from_millis(clock.now().millis() + 1000)).expect("run");
        };
        for from in (0..keys).step_by(TOUCHED as usize) {
            run((from..from + TOUCHED).map(|key| (mix(key), 1)).collect());
        }
        let each = (resident() - before) as f64 / keys as f64;
        println!("{keys} keys: {each:.1} bytes per key");
        // With fewer keys what the batches left behind counts for more than they do.
        assert!(keys < 10_000_000 || each <= 64.0, "{each:.1} bytes per key");
        let mut random = Random::new(7, keys);
        group.bench_function(format!("{keys} keys"), |b| {
            let touched = || (0..TOUCHED).map(|_| (mix(random.below(keys as usize) as u64), 1)).collect();
            b.iter_batched(touched, &mut run, BatchSize::PerIteration);
        });
    }
    group.finish();
}

/// The word that chooses a part, and its benches.
type Module = (&'static str, fn(&mut Criterion));

pub fn benches(c: &mut Criterion) {
    // Each prepares much: run only what is asked for.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let modules: [Module; 5] =
        [("windows", sliding), ("reduce_by_key", keyed), ("words", words), ("latency", latency), ("state", state)];
    let any = modules.iter().any(|(word, _)| arguments.iter().any(|a| a.contains(word)));
    for (word, benches) in modules {
        if !any || arguments.iter().any(|a| a.contains(word)) {
            benches(c);
        }
    }
}
