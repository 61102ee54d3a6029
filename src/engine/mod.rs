//! How work is scheduled: pools of workers, the pipeline in which input is mapped and reduced, and how fast input may come.

mod pipeline;
pub(crate) mod rate;

pub(crate) use pipeline::Pipeline;

use crate::{Error, Result};

/// More workers than this are refused: starting them would take longer than most runs, and the system down.
const MOST_THREADS: usize = 1024;

/// A pool of `threads` workers (0: one per core).
pub(crate) fn pool(threads: usize) -> Result<rayon::ThreadPool> {
    if threads > MOST_THREADS {
        return Err(Error::usage(format!("{threads} worker threads are too many: {MOST_THREADS} is the most")));
    }
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("windrow-{i}"))
        .build()
        .map_err(|e| Error::usage(format!("{threads} worker threads cannot be started: {e}")))
}

/// Hands what `next` makes to `take`, which returns whether it wants more, while the next one is made: workers who are done
/// with one help with the other. Returns whether all was taken. Call it on a rayon pool.
pub(crate) fn overlap<T: Send>(
    mut next: impl FnMut() -> Result<Option<T>> + Send,
    mut take: impl FnMut(T) -> Result<bool> + Send,
) -> Result<bool> {
    let mut ready = next()?;
    while let Some(block) = ready {
        let (taken, following) = rayon::join(|| take(block), &mut next);
        if !taken? {
            return Ok(false);
        }
        ready = following?;
    }
    Ok(true)
}
