//! How work is scheduled: pools of workers, and the rounds in which input is mapped and reduced.

mod rounds;

pub(crate) use rounds::rounds;

use crate::{Error, Result};

/// A pool of `threads` workers (0: one per core).
pub(crate) fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("windrow-{i}"))
        .build()
        .map_err(|e| Error::usage(format!("{threads} worker threads cannot be started: {e}")))
}
