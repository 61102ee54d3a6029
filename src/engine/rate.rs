//! How many records a second an input may bring in, learned from how long batches take.
//!
//! A controller with three terms: the error is how far the last rate was from what the last batch was worked at; what
//! waits in the queue, as records, is the accumulated error; how fast the error changes is the third. Invariant: a rate is
//! never below the least one, so that something always comes in and the next batch can say how fast it went.
//!
//! Source: Spark's `PIDRateEstimator`, whose published cases the tests run.

use crate::{Error, Result};
use std::time::Duration;

/// The weights of a [`RateEstimator`] and its least rate.
///
/// A rate follows the speed of the last batch (proportional) less what waits (integral) and what gets worse (derivative).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pid {
    proportional: f64,
    integral: f64,
    derivative: f64,
    min_rate: f64,
}

impl Default for Pid {
    /// Proportional 1, integral 0.2, derivative 0, at least 100 records a second.
    fn default() -> Self {
        Pid { proportional: 1.0, integral: 0.2, derivative: 0.0, min_rate: 100.0 }
    }
}

impl Pid {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// How much of the difference between the last rate and the last speed is taken back at once; not negative.
    #[must_use]
    pub fn proportional(mut self, weight: f64) -> Self {
        self.proportional = weight;
        self
    }

    /// How much of what waits is taken back in each batch; not negative.
    #[must_use]
    pub fn integral(mut self, weight: f64) -> Self {
        self.integral = weight;
        self
    }

    /// How much a change of the difference counts, seconds; not negative.
    #[must_use]
    pub fn derivative(mut self, weight: f64) -> Self {
        self.derivative = weight;
        self
    }

    /// The least rate, records per second; positive.
    #[must_use]
    pub fn min_rate(mut self, rate: f64) -> Self {
        self.min_rate = rate;
        self
    }

    /// An estimator for batches of this interval.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for an interval of zero, a negative weight, or a least rate that is not positive.
    pub fn estimator(self, interval: Duration) -> Result<RateEstimator> {
        if interval.is_zero() {
            return Err(Error::usage("rates are estimated for batches of some length: the batch interval is zero"));
        }
        let weights =
            [("proportional", self.proportional), ("integral", self.integral), ("derivative", self.derivative)];
        if let Some((name, weight)) = weights.into_iter().find(|(_, weight)| !(weight.is_finite() && *weight >= 0.0)) {
            return Err(Error::usage(format!("the {name} weight of a rate is {weight}: it cannot be negative")));
        }
        if !(self.min_rate.is_finite() && self.min_rate > 0.0) {
            return Err(Error::usage(format!("the least rate is {}: it must be greater than 0", self.min_rate)));
        }
        Ok(RateEstimator { pid: self, interval: interval.as_secs_f64(), last: None })
    }
}

/// What was stored about the last batch that counted.
#[derive(Debug, Clone, Copy)]
struct Last {
    end: Duration,
    rate: f64,
    error: f64,
}

/// Says after each batch how many records a second the next ones may hold; made by [`Pid::estimator`].
#[derive(Debug, Clone)]
pub struct RateEstimator {
    pid: Pid,
    /// Seconds.
    interval: f64,
    last: Option<Last>,
}

impl RateEstimator {
    /// The rate for the batches to come, records per second, after one that was done at `end` (on any clock), had
    /// `records` records, took `processing` and had waited for `scheduling`.
    ///
    /// None for the first batch, and for one that says nothing: without records, done in no time, or not later than the
    /// one before.
    pub fn update(&mut self, end: Duration, records: u64, processing: Duration, scheduling: Duration) -> Option<f64> {
        if records == 0 || processing.is_zero() || self.last.is_some_and(|last| end <= last.end) {
            return None;
        }
        let speed = records as f64 / processing.as_secs_f64();
        let Some(last) = self.last else {
            self.last = Some(Last { end, rate: speed, error: 0.0 });
            return None;
        };
        let error = last.rate - speed;
        let waiting = scheduling.as_secs_f64() * speed / self.interval;
        let change = (error - last.error) / (end - last.end).as_secs_f64();
        let Pid { proportional, integral, derivative, min_rate } = self.pid;
        let rate = (last.rate - proportional * error - integral * waiting - derivative * change).max(min_rate);
        self.last = Some(Last { end, rate, error });
        Some(rate)
    }
}
