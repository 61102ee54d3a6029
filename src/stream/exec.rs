//! Where the partitions of a batch run: on the calling thread while they are small, on a pool when that pays.
//!
//! Invariants: partitions give their results in order; a closure that panics becomes an error that names its operator,
//! and nothing that another partition holds is poisoned by it. Only threads that are not workers wait for the pool, so
//! that nothing can deadlock there.
//!
//! Cost: handing partitions to the pool and waiting for them costs some 20 µs, so each place that runs partitions keeps
//! its [`Pace`] and stays on its own thread for work shorter than that.

use super::storage::{Shared, Storage};
use crate::{Error, Result};
use rayon::prelude::*;
use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The name of an operator, as errors give it.
pub(crate) type Label = Arc<str>;

/// Work expected to take longer than this goes to the pool, nanoseconds.
const ALONE: u64 = if cfg!(test) { 2_000 } else { 300_000 };

/// What a record is thought to cost before any was seen, picoseconds.
const FIRST_GUESS: u64 = 20_000;

/// How long one record takes at one place of the graph, picoseconds.
#[derive(Debug)]
pub(crate) struct Pace(AtomicU64);

impl Default for Pace {
    fn default() -> Self {
        Pace(AtomicU64::new(FIRST_GUESS))
    }
}

impl Pace {
    fn nanos(&self, records: usize) -> u64 {
        (self.0.load(Ordering::Relaxed) as u128 * records as u128 / 1000).min(u128::from(u64::MAX)) as u64
    }

    fn learn(&self, records: usize, nanos: u64) {
        if records > 0 {
            let seen = (u128::from(nanos) * 1000 / records as u128).min(1 << 50) as u64;
            let old = self.0.load(Ordering::Relaxed);
            self.0.store((old * 3 + seen) / 4, Ordering::Relaxed);
        }
    }
}

/// The workers of a context.
#[derive(Debug)]
pub(crate) struct Exec {
    pool: Option<rayon::ThreadPool>,
    /// Partitions of a dataset unless it is said otherwise.
    pub(crate) partitions: usize,
    pub(crate) storage: Shared,
}

impl Exec {
    /// `threads` workers (0: one per core), `partitions` partitions (0: one per worker).
    pub(crate) fn new(threads: usize, partitions: usize, storage: Storage) -> Result<Arc<Exec>> {
        let threads = match threads {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let pool = if threads > 1 { Some(crate::engine::pool(threads)?) } else { None };
        Ok(Arc::new(Exec {
            pool,
            partitions: if partitions == 0 { threads } else { partitions },
            storage: Arc::new(storage),
        }))
    }

    /// How many partitions run at once.
    pub(crate) fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Whether `records` at this pace are better worked on one thread.
    pub(crate) fn is_alone(&self, pace: &Pace, records: usize) -> bool {
        self.pool.is_none() || pace.nanos(records) <= ALONE
    }

    /// Runs every task, here and one after the other if `alone`. The first error (by order) is the one returned.
    pub(crate) fn run<P: Send, R: Send>(
        &self,
        tasks: Vec<P>,
        alone: bool,
        f: impl Fn(usize, P) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        match &self.pool {
            Some(pool) if !alone && tasks.len() > 1 => {
                let all: Vec<Result<R>> = pool.install(|| {
                    let task = |(i, task)| guarded(|| f(i, task));
                    tasks.into_par_iter().enumerate().with_max_len(1).map(task).collect()
                });
                all.into_iter().collect()
            }
            _ => tasks.into_iter().enumerate().map(|(i, task)| guarded(|| f(i, task))).collect(),
        }
    }

    /// As [`run`](Self::run); `records` and the pace decide where, and the pace learns.
    pub(crate) fn paced<P: Send, R: Send>(
        &self,
        tasks: Vec<P>,
        records: usize,
        pace: &Pace,
        f: impl Fn(usize, P) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        let alone = self.is_alone(pace, records);
        let start = Instant::now();
        let done = self.run(tasks, alone, f);
        // On the pool the processor's time is what counts; the number of busy workers is not known and taken as two.
        pace.learn(records, start.elapsed().as_nanos() as u64 * if alone { 1 } else { 2 });
        done
    }
}

thread_local! {
    /// The operator whose closure is the first that a panic unwound through.
    static BLAMED: RefCell<Option<Label>> = const { RefCell::new(None) };
}

struct Blame<'a>(&'a Label);

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        BLAMED.with(|blamed| {
            if let Ok(mut blamed) = blamed.try_borrow_mut() {
                blamed.get_or_insert_with(|| self.0.clone());
            }
        });
    }
}

/// Calls a user's closure. Should it panic, the error will name `label`; otherwise this costs nothing.
#[inline(always)]
pub(crate) fn blame<R>(label: &Label, f: impl FnOnce() -> R) -> R {
    let guard = Blame(label);
    let result = f();
    std::mem::forget(guard);
    result
}

/// Runs `f`; a panic inside becomes an error.
pub(crate) fn guarded<R>(f: impl FnOnce() -> Result<R>) -> Result<R> {
    BLAMED.with(|blamed| blamed.replace(None));
    // What `f` had borrowed mutably is either dropped with it or, for state, restored by its owner.
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let operator = BLAMED.with(|blamed| blamed.replace(None));
        let operator = operator.as_deref().unwrap_or("a closure");
        Err(Error::data(format!("{operator} panicked: {}", said(&*panic))))
    })
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_panics_are_errors() {
        for threads in [1, 3] {
            let exec = Exec::new(threads, 0, Storage::default()).unwrap();
            let twice = exec.run((0..100).collect(), false, |i, n: usize| Ok(i + n)).unwrap();
            assert_eq!(twice, (0..100).map(|n| 2 * n).collect::<Vec<_>>());
            let label: Label = "map (operator 3)".into();
            let failed = exec.run((0..100).collect(), false, |_, n: usize| {
                blame(&label, || assert!(n != 40, "forty"));
                if n == 60 { Err(Error::data("sixty")) } else { Ok(()) }
            });
            assert_eq!(failed.unwrap_err().to_string(), "map (operator 3) panicked: forty");
        }
    }
}
