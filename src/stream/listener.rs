//! What a context did: one event per batch, and totals. Whoever subscribes to `tracing` is also told: a span per batch,
//! one per job in it, and an event when the batch is done or has failed.

use super::clock::Time;
use std::time::Duration;

/// A batch that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchInfo {
    /// Its time.
    pub time: Time,
    /// Records that came in for it.
    pub records: u64,
    /// Jobs that ran to their end.
    pub jobs: usize,
    /// From when it was due until its first job began.
    pub scheduling_delay: Duration,
    /// From then until its last job had ended.
    pub processing_time: Duration,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl BatchInfo {
    /// From when it was due until it was done.
    pub fn total_delay(&self) -> Duration {
        self.scheduling_delay + self.processing_time
    }
}

/// Is told about every batch, on the thread that ran it.
pub trait Listener: Send + Sync {
    /// A batch is done, well or not.
    fn batch_completed(&self, batch: &BatchInfo);
}

impl<F: Fn(&BatchInfo) + Send + Sync> Listener for F {
    fn batch_completed(&self, batch: &BatchInfo) {
        self(batch);
    }
}

/// Totals since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Batches that are done.
    pub batches: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Records that came in for them.
    pub records: u64,
    /// Batches that were made and are not done.
    pub waiting: usize,
    /// Time spent on batches.
    pub processing_time: Duration,
    /// The longest a batch took from when it was due until it was done.
    pub longest_delay: Duration,
    /// Bytes that went to disk because of the memory limit, or of a level of persistence.
    pub spilled_bytes: u64,
    /// The most memory that kept batches and shuffles had leased at once, bytes.
    pub memory_peak: usize,
    /// Records per second that each input may bring in, the least of all; none: as many as come.
    pub rate_limit: Option<u64>,
    /// Entries of the write-ahead log that damage has taken.
    pub lost: u64,
    /// The last batch that was done.
    pub last: Option<BatchInfo>,
    /// Why the last batch that failed did.
    pub last_error: Option<String>,
}

impl Statistics {
    pub(crate) fn add(&mut self, batch: &BatchInfo) {
        self.batches += 1;
        self.records += batch.records;
        self.processing_time += batch.processing_time;
        self.longest_delay = self.longest_delay.max(batch.total_delay());
        if let Some(error) = &batch.error {
            self.failed += 1;
            self.last_error = Some(error.clone());
        }
        self.last = Some(batch.clone());
    }
}
