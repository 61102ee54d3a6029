//! How fast an input may bring records in: a fixed limit, and one that is learned from how long batches take.
//!
//! Each input has a [`Throttle`]. It notes how many records went into each batch; when a batch is done, its
//! [estimator](RateEstimator) says how many a second the next ones may hold. A receiver keeps to the limit record by
//! record, with an [`Allowance`]; a source is asked for as many records as the limit has for one interval.

use crate::Result;
use crate::engine::rate::{Pid, RateEstimator};
use crate::stream::listener::BatchInfo;
use crate::stream::scheduler::lock;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The limits of a context, records per second and input.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    pub(crate) pid: Option<Pid>,
    pub(crate) max: Option<u64>,
    pub(crate) initial: Option<u64>,
}

/// See the module.
pub(crate) struct Throttle {
    rates: Rates,
    interval: Duration,
    learned: Mutex<Learned>,
}

struct Learned {
    estimator: Option<RateEstimator>,
    estimate: Option<u64>,
    /// Records of the batches that are not done.
    open: VecDeque<(u64, u64)>,
}

impl Throttle {
    pub(crate) fn new(rates: Rates, interval: Duration) -> Result<Throttle> {
        let estimator = rates.pid.map(|pid| pid.estimator(interval)).transpose()?;
        let learned = Learned { estimator, estimate: None, open: VecDeque::new() };
        Ok(Throttle { rates, interval, learned: Mutex::new(learned) })
    }

    pub(crate) fn unlimited(interval: Duration) -> Throttle {
        let learned = Learned { estimator: None, estimate: None, open: VecDeque::new() };
        Throttle { rates: Rates::default(), interval, learned: Mutex::new(learned) }
    }

    /// Records per second; none: as many as come.
    pub(crate) fn limit(&self) -> Option<u64> {
        let learned = lock(&self.learned).estimate.or(self.rates.initial);
        learned.into_iter().chain(self.rates.max).min()
    }

    /// What was learned in another life.
    pub(crate) fn restore(&self, limit: Option<u64>) {
        let mut learned = lock(&self.learned);
        if learned.estimator.is_some() {
            learned.estimate = limit;
        }
    }

    /// Records in one interval.
    pub(crate) fn per_batch(&self) -> Option<usize> {
        self.limit().map(|rate| (rate as f64 * self.interval.as_secs_f64()).max(1.0) as usize)
    }

    /// Batch `k` holds so many records.
    pub(crate) fn note(&self, k: u64, records: u64) {
        let mut learned = lock(&self.learned);
        if learned.estimator.is_some() {
            learned.open.push_back((k, records));
        }
    }

    /// Batch `k` was done at `end`, on any clock.
    pub(crate) fn learn(&self, k: u64, batch: &BatchInfo, end: Duration) {
        let mut learned = lock(&self.learned);
        let Some(at) = learned.open.iter().position(|(open, _)| *open == k) else { return };
        let records = learned.open.remove(at).map_or(0, |(_, records)| records);
        if batch.error.is_none() {
            let rate = learned
                .estimator
                .as_mut()
                .and_then(|estimator| estimator.update(end, records, batch.processing_time, batch.scheduling_delay));
            learned.estimate = rate.map(|rate| rate as u64).or(learned.estimate);
        }
    }
}

/// What a receiver may still store. It may go below zero once: the next record waits until it is paid.
#[derive(Debug)]
pub(crate) struct Allowance {
    records: f64,
    at: Instant,
}

/// How long an allowance is saved up while nothing comes.
const SAVED: f64 = 0.05;

impl Allowance {
    pub(crate) fn new() -> Self {
        Allowance { records: 0.0, at: Instant::now() }
    }

    /// Takes `records` at so many per second; or says how long to wait before asking again.
    pub(crate) fn take(&mut self, records: usize, rate: u64, now: Instant) -> std::result::Result<(), Duration> {
        let rate = rate.max(1) as f64;
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.records = (self.records + since * rate).min(rate * SAVED);
        if self.records < 0.0 {
            return Err(Duration::from_secs_f64((-self.records / rate).clamp(0.0005, 60.0)));
        }
        self.records -= records as f64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_neither_saved_for_long_nor_exceeded() {
        let mut allowance = Allowance::new();
        let (start, mut now) = (allowance.at, allowance.at);
        let mut stored = 0;
        while now < start + Duration::from_secs(10) {
            match allowance.take(7, 1000, now) {
                Ok(()) => stored += 7,
                Err(wait) => now += wait,
            }
        }
        assert!((9_990..=10_010).contains(&stored), "{stored}");
        // After a silence only a little more.
        now += Duration::from_secs(100);
        let mut at_once = 0;
        while allowance.take(1, 1000, now).is_ok() {
            at_once += 1;
        }
        assert_eq!(at_once, 51);
    }
}
