//! The time of batches, and the clock that says when the next one is due.
//!
//! Times are multiples of the batch interval. A real clock counts from the Unix epoch, a manual one from zero; whoever
//! holds a [`ManualClock`] moves it, and everything that is due by then happens as fast as it can.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The instant of a batch: microseconds since the clock's zero (of a real clock: the Unix epoch).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// So many microseconds after zero.
    pub fn from_micros(micros: u64) -> Self {
        Time(micros)
    }

    /// So many milliseconds after zero.
    pub fn from_millis(millis: u64) -> Self {
        Time(millis.saturating_mul(1000))
    }

    /// Microseconds since zero.
    pub fn micros(self) -> u64 {
        self.0
    }

    /// Whole milliseconds since zero.
    pub fn millis(self) -> u64 {
        self.0 / 1000
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0 as f64 / 1000.0)
    }
}

/// Which clock a context follows.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// That of the machine.
    #[default]
    Real,
    /// One that a program moves: tests, replays, benchmarks.
    Manual(ManualClock),
}

/// A clock that stands still until it is moved. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
/// use windrow::stream::{ManualClock, Time};
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_millis(1500));
/// assert_eq!(clock.now(), Time::from_millis(1500));
/// ```
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<(Mutex<u64>, Condvar)>);

impl ManualClock {
    /// A clock at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// What it shows.
    pub fn now(&self) -> Time {
        Time(*self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        self.set(Time(self.now().0.saturating_add(micros(by))));
    }

    /// Moves it on to `time`; it never goes back.
    pub fn set(&self, time: Time) {
        let mut now = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = time.0.max(*now);
        self.0.1.notify_all();
    }
}

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        match self {
            Clock::Real => micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Clock::Manual(clock) => clock.now().0,
        }
    }

    /// Whoever waits looks whether it is to stop.
    pub(crate) fn wake(&self) {
        if let Clock::Manual(clock) = self {
            clock.0.1.notify_all();
        }
    }

    /// Waits until `time`; false if `stop` was set and nothing more is due: time that has passed on a manual clock was
    /// meant to be worked on, that of the machine passes anyway.
    pub(crate) fn wait_until(&self, time: u64, stop: &AtomicBool) -> bool {
        // Waking up from time to time is how a stop is noticed.
        let nap = Duration::from_millis(20);
        match self {
            Clock::Real => loop {
                let now = self.now();
                if stop.load(Ordering::Acquire) || now >= time {
                    return !stop.load(Ordering::Acquire);
                }
                std::thread::sleep(Duration::from_micros(time - now).min(nap));
            },
            Clock::Manual(clock) => {
                let mut now = clock.0.0.lock().unwrap_or_else(PoisonError::into_inner);
                while *now < time && !stop.load(Ordering::Acquire) {
                    now = clock.0.1.wait_timeout(now, nap).unwrap_or_else(PoisonError::into_inner).0;
                }
                *now >= time
            }
        }
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
