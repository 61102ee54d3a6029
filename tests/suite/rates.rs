//! How fast inputs may come: the published cases of the estimator, and limits that reach receivers and sources.

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use windrow::stream::{
    Chunk, ManualClock, Offset, Pid, RateEstimator, Receiver, Source, SourceOptions, Store, StreamingContext, Time,
};
use windrow::{ErrorKind, Result};

fn cases() -> Option<Value> {
    let Some(dir) = std::env::var_os("WINDROW_SHARED") else {
        println!("skipped: WINDROW_SHARED is not set");
        return None;
    };
    let path = std::path::PathBuf::from(dir).join("cases/pid_rate.json");
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

fn estimator(params: &Value) -> Result<RateEstimator> {
    let get = |name: &str| params[name].as_f64().unwrap();
    let pid = Pid::new().proportional(get("proportional")).integral(get("integral")).derivative(get("derivative"));
    pid.min_rate(get("min_rate")).estimator(Duration::from_millis(params["batch_interval_ms"].as_u64().unwrap()))
}

fn update(estimator: &mut RateEstimator, update: &Value) -> Option<f64> {
    let ms = |name: &str| Duration::from_millis(update[name].as_u64().unwrap());
    // There is no batch of less than no records.
    let records = update["elements"].as_i64().unwrap().max(0) as u64;
    estimator.update(ms("time_ms"), records, ms("processing_delay_ms"), ms("scheduling_delay_ms"))
}

#[test]
fn every_published_case_of_the_estimator() {
    let Some(cases) = cases() else { return };
    let (mut ran, mut numbers) = (0, 0);
    for case in cases["cases"].as_array().unwrap() {
        let (name, mut rates) = (case["name"].as_str().unwrap(), estimator(&case["params"]).unwrap());
        if let Some(generator) = case["generator"].as_object() {
            below_the_speed(&mut rates, generator["updates"].as_u64().unwrap());
            ran += 1;
            continue;
        }
        let expected = case["expected"].as_array().unwrap();
        for (step, (input, want)) in case["updates"].as_array().unwrap().iter().zip(expected).enumerate() {
            match (update(&mut rates, input), want.as_f64()) {
                (Some(rate), Some(want)) => {
                    assert!((rate - want).abs() <= 1e-9 * want, "{name}, {step}: {rate}, {want}")
                }
                (rate, want) => assert_eq!(rate, want, "{name}, {step}"),
            }
            numbers += 1;
        }
        ran += 1;
    }
    assert_eq!((ran, numbers), (6, 3 + 3 + 50 + 5 + 3));
}

/// Random load with a delay stays below the speed at which batches are worked.
fn below_the_speed(rates: &mut RateEstimator, updates: u64) {
    let ms = Duration::from_millis;
    let mut state = 7u64;
    let mut random = |below: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % below
    };
    for k in 0..updates {
        let (records, delay) = (1 + random(999), random(19));
        let rate = rates.update(ms(20 * k), records, ms(20), ms(delay));
        assert_eq!(rate.is_none(), k == 0);
        if let Some(rate) = rate.filter(|rate| *rate > 10.0 && delay > 0) {
            assert!(rate < records as f64 / 0.020, "{rate} for {records} records, delay {delay}");
        }
    }
}

#[test]
fn weights_that_make_no_sense_are_refused() {
    if let Some(cases) = cases() {
        let invalid = cases["invalid_parameters"].as_array().unwrap();
        assert_eq!(invalid.len(), 6);
        for params in invalid {
            assert_eq!(estimator(params).unwrap_err().kind(), ErrorKind::Usage, "{params}");
        }
    }
    let error = StreamingContext::builder().backpressure(Pid::new().integral(-0.5)).build().unwrap_err();
    assert_eq!(error.to_string(), "the integral weight of a rate is -0.5: it cannot be negative");
    assert_eq!(Pid::default(), Pid::new().proportional(1.0).integral(0.2).derivative(0.0).min_rate(100.0));
}

/// Numbers as fast as they are taken.
struct Flood(Arc<AtomicU64>);

impl Receiver<u64> for Flood {
    fn run(&self, store: &Store<u64>) -> Result<()> {
        loop {
            store.store(self.0.load(Ordering::Relaxed))?;
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_receiver_keeps_to_the_fixed_rate() {
    let stored = Arc::new(AtomicU64::new(0));
    let ctx = StreamingContext::builder().batch_interval(Duration::from_millis(50)).max_rate(2_000).build().unwrap();
    ctx.receiver_stream(Flood(stored.clone())).for_each_batch(|batch, _| batch.count().map(|_| ()));
    let start = Instant::now();
    ctx.start().unwrap();
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(ctx.statistics().rate_limit, Some(2_000));
    let stored = stored.load(Ordering::Relaxed) as f64;
    let most = start.elapsed().as_secs_f64() * 2_000.0 + 102.0;
    assert!(stored > 100.0 && stored <= most, "{stored} records, {most} allowed");
    ctx.stop(false).unwrap();
}

/// A sink that takes 100 µs a record, a receiver that never rests: the limit comes down to what the sink can do.
#[test]
fn a_flood_is_slowed_down_to_the_speed_of_the_sink() {
    let builder = StreamingContext::builder().batch_interval(Duration::from_millis(50)).initial_rate(40_000);
    let ctx = builder.backpressure(Pid::new().min_rate(50.0)).build().unwrap();
    let next = Arc::new(AtomicU64::new(0));
    let expected = next.clone();
    ctx.receiver_stream(Flood(Arc::default())).for_each_batch(move |batch, _| {
        let records = batch.collect()?;
        // Not one is lost, not one comes twice.
        for record in &records {
            assert_eq!(*record, expected.fetch_add(1, Ordering::Relaxed));
        }
        std::thread::sleep(Duration::from_micros(100) * records.len() as u32);
        Ok(())
    });
    ctx.start().unwrap();
    assert_eq!(ctx.statistics().rate_limit, Some(40_000));
    let start = Instant::now();
    while ctx.statistics().rate_limit.is_some_and(|rate| rate > 10_000) {
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", ctx.statistics());
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(500));
    let statistics = ctx.statistics();
    assert!(statistics.rate_limit.is_some_and(|rate| (50..=10_000).contains(&rate)), "{statistics:?}");
    ctx.stop(false).unwrap();
    assert!(next.load(Ordering::Relaxed) > 0);
}

/// Partitions of so many records each.
struct Counted(Vec<u64>);

impl Source for Counted {
    type Record = u32;

    fn partitions(&mut self) -> Result<Vec<(u32, Offset)>> {
        Ok((0..self.0.len() as u32).map(|partition| (partition, Offset(vec![0; 8]))).collect())
    }

    fn read(&mut self, partition: u32, from: &Offset, limit: usize) -> Result<Chunk<u32>> {
        let at = u64::from_le_bytes(from.0.as_slice().try_into().unwrap());
        let n = (self.0[partition as usize] - at).min(limit as u64);
        Ok(Chunk { records: vec![partition; n as usize], next: Offset((at + n).to_le_bytes().to_vec()) })
    }

    fn commit(&mut self, _: &BTreeMap<u32, Offset>) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_source_is_asked_for_what_the_limit_has_for_one_interval() {
    let clock = ManualClock::new();
    let builder = StreamingContext::builder().batch_interval(Duration::from_millis(100)).max_rate(100);
    let ctx = builder.manual_clock(&clock).build().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let into = seen.clone();
    ctx.source_stream(Counted(vec![2, 30, 5]), SourceOptions::default()).for_each_batch(move |batch, _| {
        let mut counts = [0; 3];
        batch.collect()?.iter().for_each(|partition| counts[*partition as usize] += 1);
        into.lock().unwrap().push(counts);
        Ok(())
    });
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(500)).unwrap();
    ctx.stop(false).unwrap();
    // What one partition leaves is for those after it.
    assert_eq!(*seen.lock().unwrap(), [[2, 4, 4], [0, 5, 1], [0, 5, 0], [0, 5, 0], [0, 5, 0]]);
}
