//! Input is mapped in rounds of a few tasks per worker; while one round is mapped the one before is reduced.
//!
//! A round bounds the memory that mapped blocks take, and its buffers serve the next one: fresh buffers for the whole
//! input cost more in page faults than the partitioning. Results of a round are in the order of its tasks.

use crate::Result;
use rayon::prelude::*;

/// Runs `next` until it gives nothing more; `map` runs in parallel, `reduce` gets the results of whole rounds in order.
/// Call it on a rayon pool.
pub(crate) fn rounds<T: Send, M: Send>(
    per_round: usize,
    mut next: impl FnMut(usize) -> Result<Vec<T>>,
    map: impl Fn(T) -> Result<M> + Sync,
    mut reduce: impl FnMut(Vec<M>) -> Result<()> + Send,
) -> Result<()> {
    let mut ready: Option<Vec<M>> = None;
    loop {
        let tasks = next(per_round)?;
        if tasks.is_empty() && ready.is_none() {
            return Ok(());
        }
        let done = ready.take();
        let (mapped, reduced) = rayon::join(
            || tasks.into_par_iter().with_max_len(1).map(&map).collect::<Result<Vec<M>>>(),
            || done.map_or(Ok(()), &mut reduce),
        );
        reduced?;
        let mapped = mapped?;
        ready = (!mapped.is_empty()).then_some(mapped);
    }
}
