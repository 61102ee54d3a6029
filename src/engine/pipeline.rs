//! Input is mapped ahead while what was mapped before is reduced, in the order of the input.
//!
//! Tasks are handed out in order and mapped on any worker; a *round* of neighbouring results, once all before it were
//! reduced, is reduced while mapping goes on. No worker waits for a round to be complete: whoever has finished a task
//! takes the next one, or the next round, or leaves its thread to the parallel parts of the round being reduced. Two
//! rounds at most wait behind the one that is being reduced, which bounds the memory that results take, and their
//! buffers serve the next ones: fresh buffers for the whole input cost more in page faults than the partitioning.
//!
//! Invariants: results are reduced in the order of their tasks, each once; the first error in that order is the one
//! that is returned; three rounds, and a task for each worker, are all that is mapped and not reduced. Nothing waits for
//! a lock while it runs parallel code, so that work stolen there cannot deadlock.

use crate::{Error, Result};
use rayon::Scope;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The work of a run, so far as it was begun: it can be left between two rounds and taken up again.
#[derive(Debug)]
pub(crate) struct Pipeline<T, M> {
    round: usize,
    /// Tasks that came from the source and were not begun.
    tasks: VecDeque<T>,
    /// Results that were not reduced.
    results: VecDeque<Option<Result<M>>>,
    exhausted: bool,
}

impl<T: Send, M: Send> Pipeline<T, M> {
    /// No work yet; rounds are to have `round` results, fewer at the end.
    pub(crate) fn new(round: usize) -> Self {
        Pipeline { round, tasks: VecDeque::new(), results: VecDeque::new(), exhausted: false }
    }

    /// The source has more after all: what [`run`](Self::run) took for the end was none.
    pub(crate) fn reopen(&mut self) {
        self.exhausted = false;
    }

    /// Runs `next(n)` (up to `n` tasks, none at the end) until it gives nothing more; `map` runs in parallel, `reduce`
    /// gets rounds of results in order. Returns true at the end, false where `reduce` breaks: then what was begun is
    /// mapped to its end and kept for the next call. Call it on a rayon pool.
    pub(crate) fn run(
        &mut self,
        next: impl FnMut(usize) -> Result<Vec<T>> + Send,
        map: impl Fn(T) -> Result<M> + Sync,
        reduce: impl FnMut(Vec<M>) -> Result<ControlFlow<()>> + Send,
    ) -> Result<bool> {
        let running = Running {
            round: self.round,
            workers: rayon::current_num_threads(),
            source: Mutex::new((next, std::mem::take(&mut self.tasks))),
            map,
            reduce: Mutex::new(reduce),
            state: Mutex::new(State {
                results: std::mem::take(&mut self.results),
                first: 0,
                jobs: 0,
                exhausted: self.exhausted,
                reducing: false,
                paused: false,
                error: None,
            }),
        };
        rayon::scope(|scope| running.proceed(scope));
        let state = running.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.tasks = running.source.into_inner().unwrap_or_else(PoisonError::into_inner).1;
        self.results = state.results;
        self.exhausted = state.exhausted;
        match state.error {
            Some(error) => Err(error),
            None => Ok(self.exhausted && self.results.is_empty()),
        }
    }
}

struct Running<T, M, N, F, R> {
    round: usize,
    workers: usize,
    /// Where tasks come from, and those that came and are not yet being mapped.
    source: Mutex<(N, VecDeque<T>)>,
    map: F,
    reduce: Mutex<R>,
    state: Mutex<State<M>>,
}

struct State<M> {
    /// Results of the tasks that were handed out and not reduced; `None`: being mapped.
    results: VecDeque<Option<Result<M>>>,
    /// The number of the task whose result is the first one.
    first: usize,
    /// Jobs that were started and have not ended.
    jobs: usize,
    /// There are no more tasks.
    exhausted: bool,
    reducing: bool,
    /// Nothing new is begun.
    paused: bool,
    error: Option<Error>,
}

/// Nobody panics while holding one of these locks but to bring the whole run down.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T, M, N, F, R> Running<T, M, N, F, R>
where
    T: Send,
    M: Send,
    N: FnMut(usize) -> Result<Vec<T>> + Send,
    F: Fn(T) -> Result<M> + Sync,
    R: FnMut(Vec<M>) -> Result<ControlFlow<()>> + Send,
{
    /// Reduces what is ready and starts as many jobs as there is work for.
    fn proceed<'s>(&'s self, scope: &Scope<'s>) {
        let mut state = self.reduce(scope);
        self.start(scope, &mut state);
    }

    /// Reduces what is ready.
    fn reduce<'s>(&'s self, scope: &Scope<'s>) -> MutexGuard<'s, State<M>> {
        let mut state = lock(&self.state);
        while let Some(round) = self.ready(&mut state) {
            state.reducing = true;
            self.start(scope, &mut state);
            drop(state);
            let reduced = round.into_iter().collect::<Result<Vec<M>>>().and_then(|round| (lock(&self.reduce))(round));
            state = lock(&self.state);
            state.reducing = false;
            match reduced {
                Ok(flow) => state.paused |= flow.is_break(),
                Err(error) => {
                    state.error.get_or_insert(error);
                }
            }
        }
        state
    }

    /// The next round, if it is complete and no other is being reduced.
    fn ready(&self, state: &mut State<M>) -> Option<Vec<Result<M>>> {
        if state.reducing || state.paused || state.error.is_some() {
            return None;
        }
        let done = state.results.iter().take(self.round).take_while(|result| result.is_some()).count();
        let last = state.exhausted && done == state.results.len();
        if done == 0 || !last && done < self.round {
            return None;
        }
        state.first += done;
        Some(state.results.drain(..done).flatten().collect())
    }

    fn start<'s>(&'s self, scope: &Scope<'s>, state: &mut State<M>) {
        let room = (2 * self.round).saturating_sub(state.results.len());
        if state.exhausted || state.paused || state.error.is_some() {
            return;
        }
        for _ in state.jobs..self.workers.min(state.jobs + room) {
            state.jobs += 1;
            scope.spawn(|scope| self.job(scope));
        }
    }

    /// Maps one task.
    fn job<'s>(&'s self, scope: &Scope<'s>) {
        if let Some((number, task)) = self.take(scope) {
            let result = (self.map)(task);
            let mut state = lock(&self.state);
            let at = number - state.first;
            state.results[at] = Some(result);
            state.jobs -= 1;
            drop(state);
            self.proceed(scope);
        } else {
            // To start another job here would be to wait for the source by spinning.
            lock(&self.state).jobs -= 1;
            drop(self.reduce(scope));
        }
    }

    /// The next task and its number, unless there is none, no room for its result, or somebody else is at the source.
    fn take<'s>(&'s self, scope: &Scope<'s>) -> Option<(usize, T)> {
        // Whoever is at the source starts the others again when done.
        let mut source = self.source.try_lock().ok()?;
        let (next, queue) = &mut *source;
        let more = if queue.is_empty() { next(self.workers) } else { Ok(Vec::new()) };
        let mut state = lock(&self.state);
        match more {
            Ok(tasks) => queue.extend(tasks),
            Err(error) => state.results.push_back(Some(Err(error))),
        }
        let Some(task) = queue.pop_front() else {
            state.exhausted = true;
            return None;
        };
        let number = state.first + state.results.len();
        state.results.push_back(None);
        drop(source);
        self.start(scope, &mut state);
        Some((number, task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// The twin is a loop. Sources give tasks in parts; some run parallel code themselves, as reductions do.
        #[test]
        fn results_come_in_order_and_the_first_error_wins(
            tasks in 0usize..200, round in 1usize..9, threads in 1usize..5, failing in prop::option::of(0usize..250),
            at_source in any::<bool>(), breaks in 1usize..5,
        ) {
            let pool = crate::engine::pool(threads).unwrap();
            let failure = |n: usize| Error::data(format!("task {n}"));
            let in_flight = AtomicUsize::new(0);
            let (mut from, mut got) = (0, Vec::new());
            let mut pipeline = Pipeline::new(round);
            let mut next = |most| {
                rayon::join(|| (), std::thread::yield_now);
                let part: Vec<usize> = (from..tasks.min(from + most)).collect();
                from += part.len();
                match failing {
                    Some(n) if at_source && part.contains(&n) => Err(failure(n)),
                    _ => Ok(part),
                }
            };
            let map = |n| {
                in_flight.fetch_add(1, Ordering::SeqCst);
                if n % 7 == 0 {
                    std::thread::yield_now();
                }
                if failing.is_some_and(|f| n >= f) { Err(failure(n)) } else { Ok(n) }
            };
            let mut rounds = 0;
            let mut reduce = |part: Vec<usize>| {
                let twice: usize = rayon::join(|| part.len(), || part.len()).1;
                assert!(in_flight.fetch_sub(twice, Ordering::SeqCst) <= 3 * round + threads);
                got.extend(part);
                rounds += 1;
                Ok(if rounds % breaks == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            };
            let outcome = loop {
                match pool.install(|| pipeline.run(&mut next, map, &mut reduce)) {
                    Ok(false) => {}
                    other => break other,
                }
            };
            let good = failing.map_or(tasks, |f| f.min(tasks));
            match failing.filter(|f| *f < tasks) {
                Some(f) => {
                    prop_assert_eq!(outcome.unwrap_err().to_string(), failure(f).to_string());
                    prop_assert!(got.len() <= good);
                    prop_assert!(got.iter().copied().eq(0..got.len()));
                }
                None => {
                    prop_assert!(outcome.is_ok());
                    prop_assert!(got.into_iter().eq(0..tasks));
                }
            }
        }
    }
}
