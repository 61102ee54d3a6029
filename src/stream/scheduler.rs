//! When batches are made and run: one thread makes the jobs of each batch when it is due, others run them.
//!
//! Batches queue in the order of time and the jobs of one batch run in order, one after the other; `concurrent_jobs`
//! batches may run at once. The queue is bounded: a batch is not made before there is room for it, so that a sink slower
//! than the interval delays batches instead of piling them up.
//!
//! Invariants: a failed batch is reported once, with its time; then the context stops or goes on, as configured. Batches
//! up to `k` are forgotten when no batch up to `k` waits or runs. No thread here holds the context alive: dropping the
//! last handle stops it.

use super::clock::{Clock, Time};
use super::exec::{Exec, guarded};
use super::graph::{Graph, Job};
use super::input::{KnownInput, Rates, Resume};
use super::listener::{BatchInfo, Listener, Statistics};
use super::recovery::{Request, Saving};
use crate::checkpoint::LogOptions;
use crate::{Error, ErrorKind, Result};
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What happens after a batch has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The context stops; whoever awaits its end gets the error.
    #[default]
    Stop,
    /// The context goes on with the next batch; the error is in the statistics and goes to listeners.
    Continue,
}

/// Where a context is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextState {
    /// Streams and outputs can be added.
    Initialised,
    /// Batches are made and run.
    Active,
    /// It is over.
    Stopped,
}

/// What the scheduler asks of an input.
pub(crate) trait Input: Send + Sync {
    fn start(&self) -> Result<()>;
    /// Asks it to end; does not wait.
    fn stop(&self);
    /// Waits, not for long, until it has ended.
    fn join(&self) {}
    /// Whether something has arrived that no batch has taken.
    fn has_more(&self) -> bool {
        false
    }
    /// Batches up to `k` are done.
    fn completed(&self, _k: u64) -> Result<()> {
        Ok(())
    }
    /// Batch `k` was done, well or not, so long after the start.
    fn observe(&self, _k: u64, _batch: &BatchInfo, _end: Duration) {}
    /// Records per second that it may bring in.
    fn limit(&self) -> Option<u64> {
        None
    }
    /// How it goes on in another life of the program, or why it cannot.
    fn resume(&self) -> std::result::Result<&dyn Resume, &'static str>;
}

/// Options that the parts of a context share.
pub(crate) struct Settings {
    pub(crate) interval: u64,
    pub(crate) concurrent_jobs: usize,
    pub(crate) most_queued: usize,
    pub(crate) on_failure: OnFailure,
    pub(crate) clock: Clock,
    /// Records that a receiver may hold.
    pub(crate) buffer: usize,
    pub(crate) rates: Rates,
    pub(crate) log: LogOptions,
}

struct JobSet {
    k: u64,
    jobs: Result<Vec<Job>>,
    records: u64,
    submitted: Instant,
}

struct Status {
    state: ContextState,
    /// The first misuse of the context, or the failed batch that stopped it.
    error: Option<(ErrorKind, String)>,
    queue: VecDeque<JobSet>,
    running: BTreeSet<u64>,
    /// The last batch that was made.
    generated: u64,
    /// All batches up to this one are done.
    completed: u64,
    /// No more batches will be queued.
    closed: bool,
    remember: u64,
    statistics: Statistics,
    listeners: Vec<Arc<dyn Listener>>,
    threads: Vec<JoinHandle<()>>,
    /// A batch failed, and that ends the context.
    failed: bool,
}

impl Status {
    /// The context has failed. Whoever sees the error sees that it has stopped.
    fn end(&mut self, error: (ErrorKind, String)) {
        self.error.get_or_insert(error);
        self.state = ContextState::Stopped;
    }
}

/// A context without its handle.
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) exec: Arc<Exec>,
    /// The generation lock.
    pub(crate) graph: Mutex<Graph>,
    pub(crate) inputs: Mutex<Vec<KnownInput>>,
    /// Records that came in since the last batch.
    pub(crate) received: Arc<AtomicU64>,
    status: Mutex<Status>,
    changed: Condvar,
    /// No further batch is made on time.
    stopping: AtomicBool,
    made: Instant,
    next_operator: AtomicU64,
    /// Where it is to save itself once it is started, and how that is going.
    pub(crate) request: Mutex<Option<Request>>,
    saving: Mutex<Option<Arc<Saving>>>,
    /// Intervals between two checkpoints.
    pub(crate) checkpoint_every: AtomicU64,
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(settings: Settings, exec: Arc<Exec>) -> Core {
        Core {
            settings,
            exec,
            graph: Mutex::default(),
            inputs: Mutex::default(),
            received: Arc::default(),
            status: Mutex::new(Status {
                state: ContextState::Initialised,
                error: None,
                queue: VecDeque::new(),
                running: BTreeSet::new(),
                generated: 0,
                completed: 0,
                closed: false,
                remember: 0,
                statistics: Statistics::default(),
                listeners: Vec::new(),
                threads: Vec::new(),
                failed: false,
            }),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            made: Instant::now(),
            next_operator: AtomicU64::new(1),
            request: Mutex::default(),
            saving: Mutex::default(),
            checkpoint_every: AtomicU64::new(u64::MAX),
        }
    }

    pub(crate) fn label(&self, name: &str) -> super::exec::Label {
        let number = self.next_operator.fetch_add(1, Ordering::Relaxed);
        format!("{name} (operator {number})").into()
    }

    pub(crate) fn time(&self, k: u64) -> Time {
        Time::from_micros(k.saturating_mul(self.settings.interval))
    }

    pub(crate) fn state(&self) -> ContextState {
        lock(&self.status).state
    }

    /// Notes that the context was misused; the first time counts.
    pub(crate) fn misuse(&self, what: impl Into<String>) {
        let mut status = lock(&self.status);
        status.error.get_or_insert((ErrorKind::Usage, what.into()));
        self.changed.notify_all();
    }

    /// Notes a misuse if the context has started: its graph is what it is.
    pub(crate) fn still_open(&self, what: &str) -> bool {
        let open = self.state() == ContextState::Initialised;
        if !open {
            self.misuse(format!(
                "{what} cannot be added: inputs, operators and outputs are added before the context is started"
            ));
        }
        open
    }

    pub(crate) fn check(&self) -> Result<()> {
        match &lock(&self.status).error {
            Some((kind, what)) => Err(Error::new(*kind, what.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn remember(&self, batches: u64) {
        let mut status = lock(&self.status);
        status.remember = status.remember.max(batches);
    }

    pub(crate) fn listen(&self, listener: Arc<dyn Listener>) {
        lock(&self.status).listeners.push(listener);
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let rate_limit = lock(&self.inputs).iter().filter_map(|input| input.limit()).min();
        let lost = lock(&self.saving).as_ref().map_or(0, |saving| saving.journal.lost());
        let status = lock(&self.status);
        Statistics {
            rate_limit,
            lost,
            waiting: status.queue.len() + status.running.len(),
            spilled_bytes: self.exec.storage.spilled(),
            memory_peak: self.exec.storage.budget().peak(),
            ..status.statistics.clone()
        }
    }

    pub(crate) fn start(self: &Arc<Self>) -> Result<()> {
        self.check()?;
        let mut graph = lock(&self.graph);
        let now = self.settings.clock.now() / self.settings.interval;
        match self.state() {
            ContextState::Initialised => {}
            ContextState::Active => return Err(Error::usage("the context has been started already")),
            ContextState::Stopped => return Err(Error::usage("the context has stopped and cannot be started again")),
        }
        if graph.outputs.is_empty() {
            return Err(Error::usage(
                "no output was registered, so there is nothing to run: add print, for_each_batch or another one",
            ));
        }
        let request = lock(&self.request).take();
        let (zero, last) = match &request {
            Some(request) => request.begins(now, self.settings.interval)?,
            None => (now, now),
        };
        graph.begin(zero, lock(&self.status).remember);
        let inputs = lock(&self.inputs).clone();
        if let Some(request) = request {
            let saving = self.restore(request, &graph, inputs.clone(), zero).inspect_err(|_| self.halt())?;
            *lock(&self.saving) = Some(Arc::new(saving));
            self.exec.storage.make_durable();
        }
        {
            let mut status = lock(&self.status);
            status.state = ContextState::Active;
            status.generated = last;
            status.completed = last;
        }
        drop(graph);
        for input in inputs {
            if let Err(error) = input.start() {
                self.halt();
                return Err(error);
            }
        }
        let mut threads = Vec::new();
        let mut spawn = |name: String, core: Arc<Core>, run: fn(&Core)| -> Result<()> {
            let thread = std::thread::Builder::new().name(name).spawn(move || run(&core));
            threads.push(thread.map_err(|e| Error::usage("a thread of the context cannot be started").because(e))?);
            Ok(())
        };
        let mut started = spawn("windrow-batches".into(), self.clone(), Core::make_batches);
        for i in 0..self.settings.concurrent_jobs {
            started = started.and_then(|()| spawn(format!("windrow-jobs-{i}"), self.clone(), Core::run_jobs));
        }
        if lock(&self.saving).is_some() {
            started = started.and_then(|()| spawn("windrow-checkpoints".into(), self.clone(), Core::write_checkpoints));
        }
        lock(&self.status).threads = threads;
        started.inspect_err(|_| self.halt())
    }

    /// Goes on from the checkpoint, if there is one.
    fn restore(&self, request: Request, graph: &Graph, inputs: Vec<KnownInput>, zero: u64) -> Result<Saving> {
        // Without a state there is little to write: as often as others write theirs.
        let default = 10_000_000u64.div_ceil(self.settings.interval);
        let every = Some(self.checkpoint_every.load(Ordering::Relaxed)).filter(|every| *every != u64::MAX);
        if let Some(head) = request.head() {
            let [batches, failed, records] = head.counts;
            let mut status = lock(&self.status);
            status.statistics = Statistics { batches, failed, records, ..Statistics::default() };
        }
        let how = (zero, every.unwrap_or(default), self.settings.interval);
        request.restore(graph, inputs, &self.settings.clock, how, self.settings.log)
    }

    /// Ends the context because of `error`.
    fn fail(&self, error: &Error) {
        lock(&self.status).end((error.kind(), error.to_string()));
        self.halt();
    }

    fn write_checkpoints(&self) {
        let saving = lock(&self.saving).clone();
        if let Some(Err(error)) = saving.map(|saving| saving.run()) {
            self.fail(&error);
        }
    }

    /// Waits until no checkpoint is being written.
    pub(crate) fn await_checkpoints(&self) -> Result<()> {
        let saving = lock(&self.saving).clone();
        saving.iter().for_each(|saving| saving.wait());
        self.check()
    }

    /// Makes each batch when it is due.
    fn make_batches(&self) {
        let mut k = lock(&self.status).generated;
        loop {
            k += 1;
            if !self.settings.clock.wait_until(k.saturating_mul(self.settings.interval), &self.stopping) {
                break;
            }
            if !self.make_batch(k) {
                break;
            }
        }
    }

    /// Makes batch `k` and queues it once there is room; false if the context stopped.
    fn make_batch(&self, k: u64) -> bool {
        // A batch for which there was no room waited too.
        let submitted = Instant::now();
        {
            let mut status = lock(&self.status);
            while status.queue.len() >= self.settings.most_queued && !status.closed {
                status = self.changed.wait(status).unwrap_or_else(PoisonError::into_inner);
            }
            if status.closed {
                return false;
            }
        }
        let saving = lock(&self.saving).clone();
        let (jobs, logged) = {
            let graph = lock(&self.graph);
            let making = saving.as_ref().map(|saving| saving.before(k));
            let jobs = guarded(|| graph.generate(k));
            // A batch that cannot be made, and ends the context, is made anew in the next life.
            let lasting = jobs.is_ok() || self.settings.on_failure == OnFailure::Continue;
            let made = saving.as_ref().zip(making).filter(|_| lasting);
            let logged = made.map_or(Ok(None), |(saving, making)| guarded(|| saving.after(k, making)));
            (jobs, logged)
        };
        // Before it runs, it is known what it is made of.
        let logged = logged.and_then(|entry| match (&saving, entry) {
            (Some(saving), Some(entry)) => saving.journal.commit(entry),
            _ => Ok(()),
        });
        if let Err(error) = logged {
            self.fail(&error);
            return false;
        }
        let records = self.received.swap(0, Ordering::Relaxed);
        let mut status = lock(&self.status);
        status.generated = k;
        status.queue.push_back(JobSet { k, jobs, records, submitted });
        self.changed.notify_all();
        true
    }

    /// Runs batches until there are no more.
    fn run_jobs(&self) {
        let mut status = lock(&self.status);
        loop {
            let Some(set) = status.queue.pop_front() else {
                if status.closed {
                    return;
                }
                status = self.changed.wait(status).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            status.running.insert(set.k);
            // Only the maker of batches may wait for room.
            if status.queue.len() + 1 == self.settings.most_queued {
                self.changed.notify_all();
            }
            drop(status);
            self.run_set(set);
            status = lock(&self.status);
        }
    }

    fn run_set(&self, set: JobSet) {
        let started = Instant::now();
        let span = tracing::info_span!("batch", time = %self.time(set.k), records = set.records);
        let _entered = span.enter();
        let (mut done, mut failed) = (0, None);
        let outcome = set.jobs.and_then(|jobs| {
            // The jobs after a failed one run too, as far as they can: outputs do not depend on each other.
            for (number, job) in jobs.into_iter().enumerate() {
                let span = tracing::debug_span!("job", number);
                match span.in_scope(|| guarded(job)) {
                    Ok(()) => done += 1,
                    Err(error) => failed = failed.or(Some(error)),
                }
            }
            failed.take().map_or(Ok(()), Err)
        });
        let time = self.time(set.k);
        let error = outcome.err().map(|error| (error.kind(), format!("batch {time}: {error}")));
        let info = BatchInfo {
            time,
            records: set.records,
            jobs: done,
            scheduling_delay: started - set.submitted,
            processing_time: started.elapsed(),
            error: error.as_ref().map(|error| error.1.clone()),
        };
        match &info.error {
            None => tracing::debug!(took = ?info.processing_time, waited = ?info.scheduling_delay, "done"),
            Some(error) => tracing::error!(error, "failed"),
        }
        let (low, listeners, counts) = {
            let mut status = lock(&self.status);
            status.statistics.add(&info);
            status.failed |= error.is_some() && self.settings.on_failure == OnFailure::Stop;
            status.running.remove(&set.k);
            let waiting = status.queue.front().map(|set| set.k).into_iter();
            let first = waiting.chain(status.running.first().copied()).min();
            let low = first.map_or(status.generated.max(set.k), |k| k - 1);
            let Statistics { batches, failed, records, .. } = status.statistics;
            (low, status.listeners.clone(), Some([batches, failed, records]).filter(|_| !status.failed))
        };
        listeners.iter().for_each(|listener| {
            // A listener that panics is its own problem.
            let _ = guarded(|| {
                listener.batch_completed(&info);
                Ok(())
            });
        });
        let inputs = lock(&self.inputs).clone();
        let end = started.duration_since(self.made) + info.processing_time;
        inputs.iter().for_each(|input| input.observe(set.k, &info, end));
        let committed = if error.is_none() && counts.is_some() {
            inputs.iter().try_for_each(|input| input.completed(low))
        } else {
            Ok(())
        };
        if let (Some(saving), Some(counts)) = (&*lock(&self.saving), counts) {
            saving.done(low, counts);
        }
        lock(&self.graph).forget(low);
        let error = error.or(committed.err().map(|e| (e.kind(), format!("batch {time}: {e}"))));
        let mut status = lock(&self.status);
        status.completed = status.completed.max(low);
        if let Some(error) = error
            && self.settings.on_failure == OnFailure::Stop
        {
            status.end(error);
            drop(status);
            self.halt();
            return;
        }
        drop(status);
        self.changed.notify_all();
    }

    /// Ends without waiting for anything: batches in the queue are dropped.
    pub(crate) fn halt(&self) {
        self.stopping.store(true, Ordering::Release);
        self.settings.clock.wake();
        lock(&self.inputs).iter().for_each(|input| input.stop());
        let mut status = lock(&self.status);
        status.closed = true;
        status.state = ContextState::Stopped;
        let dropped = std::mem::take(&mut status.queue);
        drop(status);
        self.changed.notify_all();
        lock(&self.saving).iter().for_each(|saving| saving.close());
        drop(dropped);
    }

    /// Ends; a graceful stop takes in and runs everything that has arrived first.
    pub(crate) fn stop(&self, graceful: bool) -> Result<()> {
        if graceful && self.state() == ContextState::Active {
            let this = std::thread::current().id();
            if lock(&self.status).threads.iter().any(|thread| thread.thread().id() == this) {
                return Err(Error::usage(
                    "a graceful stop from inside a batch would wait for that batch: stop without grace, or from another thread",
                ));
            }
            let inputs = lock(&self.inputs).clone();
            inputs.iter().for_each(|input| input.stop());
            inputs.iter().for_each(|input| input.join());
            self.stopping.store(true, Ordering::Release);
            // The maker of batches notices, then this thread makes the last ones.
            let maker = {
                let mut status = lock(&self.status);
                if status.threads.is_empty() { None } else { Some(status.threads.remove(0)) }
            };
            self.join([maker]);
            while self.state() == ContextState::Active && inputs.iter().any(|input| input.has_more()) {
                let k = lock(&self.status).generated + 1;
                if !self.make_batch(k) {
                    break;
                }
            }
            let mut status = lock(&self.status);
            while status.state == ContextState::Active && !(status.queue.is_empty() && status.running.is_empty()) {
                status = self.changed.wait(status).unwrap_or_else(PoisonError::into_inner);
            }
            drop(status);
            self.save_last();
        }
        self.halt();
        let threads = std::mem::take(&mut lock(&self.status).threads);
        self.join(threads.into_iter().map(Some));
        let inputs = std::mem::take(&mut *lock(&self.inputs));
        inputs.iter().for_each(|input| input.join());
        *lock(&self.request) = None;
        *lock(&self.saving) = None;
        lock(&self.graph).clear();
        self.check()
    }

    /// A last checkpoint, after everything has been run.
    fn save_last(&self) {
        let saving = lock(&self.saving).clone();
        let (k, counts, active) = {
            let status = lock(&self.status);
            let Statistics { batches, failed, records, .. } = status.statistics;
            (status.generated, [batches, failed, records], status.state == ContextState::Active && !status.failed)
        };
        if let Some(saving) = saving.filter(|_| active) {
            let outcome = {
                let _generation = lock(&self.graph);
                saving.finish(k, counts)
            };
            match outcome {
                Ok(()) => saving.wait(),
                Err(error) => self.fail(&error),
            }
        }
    }

    fn join(&self, threads: impl IntoIterator<Item = Option<JoinHandle<()>>>) {
        for thread in threads.into_iter().flatten() {
            // A job may stop its own context.
            if thread.thread().id() != std::thread::current().id() {
                let _ = thread.join();
            }
        }
    }

    /// Waits until batch `k` and all before it are done, or the context has stopped; false if time ran out.
    pub(crate) fn await_batch(&self, k: u64, within: Option<Duration>) -> Result<bool> {
        let end = within.map(|within| Instant::now() + within);
        let mut status = lock(&self.status);
        loop {
            if let Some((kind, what)) = &status.error {
                return Err(Error::new(*kind, what.clone()));
            }
            if status.completed >= k || status.state == ContextState::Stopped {
                return Ok(true);
            }
            status = match end {
                None => self.changed.wait(status).unwrap_or_else(PoisonError::into_inner),
                Some(end) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    self.changed.wait_timeout(status, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}
