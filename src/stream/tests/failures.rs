//! What must not bring a context down, or at least not silently.

use super::{collected, context, ms};
use crate::ErrorKind;
use crate::stream::{ContextState, ManualClock, OnFailure, Receiver, ReceiverOptions, State, StateSpec, Store};
use crate::stream::{StreamingContext, Time};
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn message(result: Result<()>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_panic_names_operator_and_batch_and_stops_the_context() {
    for threads in [1, 3] {
        let ctx = context(threads);
        let out =
            collected(&ctx.queue_stream(vec![vec![1, 2], vec![3]]).map(|n| if n == 3 { panic!("three") } else { n }));
        ctx.start().unwrap();
        let error = message(ctx.run_until(Time::from_millis(5)));
        assert_eq!(error, "batch 2 ms: map (operator 2) panicked: three");
        assert_eq!(ctx.state(), ContextState::Stopped);
        assert_eq!(message(ctx.await_termination()), error);
        assert_eq!(message(ctx.stop(true)), error);
        assert_eq!(*out.lock().unwrap(), [(1, vec![1, 2])]);
    }
}

/// A failed batch leaves states and windows as if it had not been there.
#[test]
fn a_context_can_go_on_after_a_failure() {
    let clock = ManualClock::new();
    let builder = StreamingContext::builder().batch_interval(ms(1)).threads(3).manual_clock(&clock);
    let ctx = builder.on_failure(OnFailure::Continue).build().unwrap();
    let batches: Vec<Vec<(u8, i64)>> = vec![
        vec![(1, 1), (2, 2), (1, 3)],
        vec![(1, 10), (2, 13), (2, 1), (3, 5)],
        vec![(2, 4), (3, 1)],
        vec![],
        vec![(1, 1)],
    ];
    let rows = ctx.queue_stream(batches);
    let add = |a: &i64, b: &i64| {
        assert!(*a != 13 && *b != 13, "bad luck");
        a + b
    };
    let window = collected(&rows.reduce_by_key_and_window(add, |a, b| a - b, ms(2), ms(1)));
    let recent = collected(&rows.reduce_by_key_and_window_without_inverse(add, ms(2), ms(1)));
    let update = |values: Vec<i64>, state: Option<i64>| {
        assert!(!values.contains(&13), "bad luck");
        Some(state.unwrap_or(0) + values.iter().sum::<i64>())
    };
    let states = collected(&rows.update_state_by_key(update));
    let map = |_, key: &u8, value: Option<i64>, state: &mut State<'_, i64>| {
        state.update(state.get().unwrap_or(&0) + value.unwrap_or(0));
        assert!(value != Some(13), "bad luck");
        Some((*key, *state.get().unwrap_or(&0)))
    };
    let mapped = collected(&rows.map_with_state(map, StateSpec::new().timeout(ms(100))));
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(5)).unwrap();
    let statistics = ctx.statistics();
    assert_eq!((statistics.batches, statistics.failed), (5, 1));
    assert!(statistics.last_error.unwrap().starts_with("batch 2 ms: "));
    ctx.stop(true).unwrap();
    let at = |all: &super::Collected<(u8, i64)>, k: u64| {
        let mut rows = all.lock().unwrap().iter().find(|batch| batch.0 == k).map(|batch| batch.1.clone());
        rows.iter_mut().for_each(|rows| rows.sort());
        rows
    };
    for all in [&window, &recent, &states, &mapped] {
        assert_eq!(at(all, 2), None);
    }
    assert_eq!(at(&recent, 3), Some(vec![(2, 4), (3, 1)]));
    assert_eq!(at(&recent, 5), Some(vec![(1, 1)]));
    let sums = at(&window, 3).unwrap();
    assert!(sums.contains(&(2, 4)) && sums.contains(&(3, 1)), "{sums:?}");
    assert!(sums.iter().all(|row| row.0 != 1 || row.1 == 0), "{sums:?}");
    assert_eq!(at(&states, 3), Some(vec![(1, 4), (2, 6), (3, 1)]));
    assert_eq!(at(&mapped, 3), Some(vec![(2, 6), (3, 1)]));
    assert_eq!(at(&mapped, 5), Some(vec![(1, 5)]));
}

#[test]
fn misuse_is_said() {
    let ctx = context(1);
    assert!(message(ctx.start()).contains("no output was registered"));
    let numbers = ctx.queue_stream(vec![vec![1]]);
    assert!(message(numbers.slice(Time::default(), Time::from_millis(1)).map(drop)).contains("no batches yet"));
    numbers.print(0);
    ctx.start().unwrap();
    assert!(message(ctx.start()).contains("started already"));
    ctx.run_until(Time::from_millis(2)).unwrap();
    drop(numbers.map(|n| n + 1));
    assert!(message(ctx.check()).contains("map (operator 3) cannot be added"));
    assert!(message(ctx.stop(true)).contains("before the context is started"));
    assert!(message(ctx.start()).contains("cannot be added"));

    for (window, slide) in [(3, 2), (0, 1), (2, 0), (1, 1)] {
        let ctx = context(1);
        let each = ctx.queue_stream(vec![vec![(1, 1)]]).window(ms(2), ms(2));
        each.reduce_by_key_and_window(|a, b| a + b, |a, b| a - b, ms(window), ms(slide)).print(0);
        assert!(message(ctx.start()).contains("is not a multiple of 2 ms"), "{window} {slide}");
    }
    assert!(StreamingContext::builder().batch_interval(Duration::ZERO).build().is_err());
    assert!(StreamingContext::builder().threads(1 << 20).build().is_err());
}

struct Flaky(AtomicU64);

impl Receiver<u64> for Flaky {
    fn run(&self, store: &Store<u64>) -> Result<()> {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        store.store(n)?;
        match n {
            0 => Err(Error::input("lost")),
            1 => panic!("lost"),
            _ => Ok(()),
        }
    }
}

fn soon(what: impl Fn() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(std::time::Instant::now() < end, "not in 20 s");
        std::thread::sleep(ms(1));
    }
}

#[test]
fn a_receiver_that_dies_is_started_again() {
    let ctx = context(1);
    let options = ReceiverOptions::default().restart_delay(ms(1));
    let out = collected(&ctx.receiver_stream_with(Flaky(AtomicU64::new(0)), options));
    ctx.start().unwrap();
    let k = AtomicU64::new(0);
    soon(|| {
        ctx.run_until(Time::from_millis(k.fetch_add(1, Ordering::Relaxed))).unwrap();
        out.lock().unwrap().iter().flat_map(|batch| &batch.1).eq(&[0, 1, 2])
    });
    ctx.stop(true).unwrap();

    let ctx = context(1);
    let options = options.most_restarts(1);
    ctx.receiver_stream_with(Flaky(AtomicU64::new(0)), options).print(0);
    ctx.start().unwrap();
    let k = AtomicU64::new(0);
    soon(|| ctx.run_until(Time::from_millis(k.fetch_add(1, Ordering::Relaxed))).is_err());
    assert!(message(ctx.check()).contains("a closure panicked: lost"));
}

/// Stores as fast as it can, for ever.
struct Flood;

impl Receiver<u64> for Flood {
    fn run(&self, store: &Store<u64>) -> Result<()> {
        (0..).try_for_each(|n| store.store(n))
    }
}

/// Waits for ever.
struct Silent;

impl Receiver<u64> for Silent {
    fn run(&self, _: &Store<u64>) -> Result<()> {
        loop {
            std::thread::park();
        }
    }
}

#[test]
fn a_flood_waits_and_nothing_of_it_is_lost() {
    let clock = ManualClock::new();
    let builder = StreamingContext::builder().batch_interval(ms(1)).manual_clock(&clock).receiver_buffer(100);
    let ctx = builder.build().unwrap();
    let flood = ctx.receiver_stream(Flood);
    let out = collected(&ctx.union([flood.clone(), ctx.receiver_stream(Silent)]));
    ctx.start().unwrap();
    for k in 1..200 {
        ctx.run_until(Time::from_millis(k)).unwrap();
    }
    ctx.stop(true).unwrap();
    let all: Vec<u64> = out.lock().unwrap().iter().flat_map(|batch| batch.1.clone()).collect();
    assert!(all.iter().copied().eq(0..all.len() as u64));
    assert!(out.lock().unwrap().iter().all(|batch| batch.1.len() <= 100));
}

#[test]
fn a_slow_sink_delays_batches_and_bounds_the_queue() {
    let builder = StreamingContext::builder().batch_interval(ms(1)).queued_batches(2);
    let ctx = builder.build().unwrap();
    ctx.iterator_stream(0u64.., 10).for_each_batch(|_, _| {
        std::thread::sleep(ms(10));
        Ok(())
    });
    ctx.start().unwrap();
    soon(|| {
        assert!(ctx.statistics().waiting <= 3);
        ctx.statistics().batches >= 5
    });
    ctx.stop(true).unwrap();
    let statistics = ctx.statistics();
    assert_eq!((statistics.waiting, statistics.records), (0, statistics.batches * 10));
}

#[test]
fn dropping_the_context_stops_it() {
    let runs = Arc::new(AtomicU64::new(0));
    let seen = runs.clone();
    let ctx = StreamingContext::builder().batch_interval(ms(1)).build().unwrap();
    let stream = ctx.iterator_stream(0u64.., 10);
    stream.for_each_batch(move |_, _| {
        seen.fetch_add(1, Ordering::Relaxed);
        Ok(())
    });
    ctx.start().unwrap();
    soon(|| runs.load(Ordering::Relaxed) > 2);
    drop(ctx);
    // Nobody holds the closure any more.
    assert_eq!(Arc::strong_count(&runs), 1);
    assert_eq!(stream.core.state(), ContextState::Stopped);
}

#[test]
fn a_job_may_stop_its_context() {
    let ctx = context(2);
    let handle = ctx.clone();
    ctx.queue_stream(vec![vec![1]]).for_each_batch(move |_, _| handle.stop(false));
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(3)).unwrap();
    ctx.await_termination().unwrap();
    assert_eq!(ctx.state(), ContextState::Stopped);
}

#[test]
fn a_job_that_stops_its_context_with_grace_is_told_that_it_cannot() {
    let ctx = context(2);
    let handle = ctx.clone();
    ctx.queue_stream(vec![vec![1]]).for_each_batch(move |_, _| handle.stop(true));
    ctx.start().unwrap();
    let error = ctx.run_until(Time::from_millis(1)).unwrap_err();
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("from another thread"), "{error}");
}

#[test]
fn many_empty_batches_and_several_jobs_at_once() {
    let clock = ManualClock::new();
    let builder = StreamingContext::builder().batch_interval(ms(1)).manual_clock(&clock).threads(1);
    let ctx = builder.concurrent_jobs(3).build().unwrap();
    let batches = 20_000;
    let rows =
        ctx.computed_stream(move |t| Some(if t.millis() % 1000 == 0 { vec![(t.millis(), 1u64)] } else { vec![] }));
    let sums = rows.reduce_by_key_and_window_filtered(|a, b| a + b, |a, b| a - b, ms(10), ms(5), |r| r.1 > 0);
    let total = Arc::new(AtomicU64::new(0));
    let into = total.clone();
    sums.for_each_batch(move |batch, _| {
        into.fetch_add(batch.collect()?.iter().map(|row| row.1).sum(), Ordering::Relaxed);
        Ok(())
    });
    let counts = rows.update_state_by_key(|ones, n: Option<u64>| (n.is_none()).then_some(ones.len() as u64));
    counts.for_each_batch(|batch, _| batch.count().map(drop));
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(batches)).unwrap();
    // Each record is in two windows, the last one in the first of its two.
    assert_eq!(total.load(Ordering::Relaxed), 2 * batches / 1000 - 1);
    assert!(!rows.is_remembered(Time::from_millis(batches - 10)));
    ctx.stop(true).unwrap();
}
