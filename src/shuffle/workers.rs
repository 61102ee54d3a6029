//! The writers of all workers of a pool.

use super::{Options, Reader, Writer, Written};
use crate::Result;
use rayon::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One [`Writer`] for each worker; see [`crate::shuffle`].
#[derive(Debug)]
pub struct Writers(Vec<Mutex<Writer>>);

impl Writers {
    /// For so many workers.
    pub fn new(options: &Options, workers: usize) -> Writers {
        Writers((0..workers).map(|_| Mutex::new(Writer::new(options))).collect())
    }

    /// That of the worker who asks; nobody else waits for it but who is no worker of the pool.
    pub fn own(&self) -> MutexGuard<'_, Writer> {
        let worker = rayon::current_thread_index().unwrap_or(0) % self.0.len();
        self.0[worker].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on each holds up to `buffer` bytes before it spills.
    pub fn widen(&self, buffer: usize) {
        self.0.iter().for_each(|writer| writer.lock().unwrap_or_else(PoisonError::into_inner).widen(buffer));
    }

    /// Bytes in the files so far.
    pub fn spilled(&self) -> u64 {
        self.0.iter().map(|writer| writer.lock().unwrap_or_else(PoisonError::into_inner).spilled()).sum()
    }

    /// The writers with all that was pushed so far, those of them that were pushed to; empty ones go on in their place.
    pub fn roll(&self) -> Vec<Writer> {
        self.0.iter().filter_map(|writer| writer.lock().unwrap_or_else(PoisonError::into_inner).roll()).collect()
    }

    /// Ends the writing. What is still held is written before, or stays in memory; what was `kept` before is read, too. Call
    /// it on the pool.
    ///
    /// # Errors
    /// The disk's, with file and offset.
    pub fn finish(self, stays: bool, kept: Vec<Written>) -> Result<Reader> {
        let mut written: Vec<Written> = self
            .0
            .into_par_iter()
            .map(|writer| {
                let mut writer = writer.into_inner().unwrap_or_else(PoisonError::into_inner);
                if !stays && writer.held() > 0 {
                    writer.spill()?;
                }
                writer.finish()
            })
            .collect::<Result<_>>()?;
        written.extend(kept);
        Ok(Reader::new(written))
    }
}
