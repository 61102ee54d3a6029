//! The context: where streams begin, and from where they are started and stopped.
//!
//! A context is initialised, then active, then stopped, and never goes back. Its graph is built while it is initialised.
//! What is wrong with the graph (a window that is no multiple of the interval, parents of different contexts) is said by
//! [`start`](StreamingContext::start); what is added too late, by [`check`](StreamingContext::check) and by everything
//! that awaits or stops the context.

use super::clock::{Clock, ManualClock, Time, micros};
use super::dstream;
use super::exec::Exec;
use super::graph::Node;
use super::input::{KnownInput, Rates, Throttle};
use super::listener::{Listener, Statistics};
use super::recovery::Request;
use super::scheduler::{ContextState, Core, Input, OnFailure, Settings, lock};
use super::storage::Storage;
use super::{Batch, DStream, Data, Pid};
use crate::checkpoint::LogOptions;
use crate::store::disk::{Disk, OsDisk};
use crate::{Error, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// See the module. Clones are the same context; it stops when the last one is dropped.
#[derive(Clone)]
pub struct StreamingContext {
    pub(crate) core: Arc<Core>,
    _alive: Arc<Alive>,
}

impl std::fmt::Debug for StreamingContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamingContext").field("state", &self.state()).finish_non_exhaustive()
    }
}

/// Stops the context when dropped.
struct Alive(Arc<Core>);

impl Drop for Alive {
    fn drop(&mut self) {
        // One that ended by itself still has threads, and a folder that the next one may want.
        if self.0.state() != ContextState::Initialised {
            // There is nobody left to tell.
            let _ = self.0.stop(false);
        }
    }
}

/// The options of a context. Defaults are given with each.
#[derive(Debug, Clone)]
pub struct Builder {
    interval: Duration,
    threads: usize,
    partitions: usize,
    concurrent_jobs: usize,
    most_queued: usize,
    buffer: usize,
    memory: Option<usize>,
    spill_dir: Option<PathBuf>,
    on_failure: OnFailure,
    clock: Clock,
    rates: Rates,
    log: LogOptions,
}

impl Builder {
    /// The time between two batches, at least a microsecond. Default: 1 s.
    #[must_use]
    pub fn batch_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Worker threads. Default (0): one per core.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Partitions of inputs and of keyed operations. Default (0): one per worker thread.
    #[must_use]
    pub fn partitions(mut self, partitions: usize) -> Self {
        self.partitions = partitions;
        self
    }

    /// Batches that may run at once, at least one. Default: 1.
    #[must_use]
    pub fn concurrent_jobs(mut self, batches: usize) -> Self {
        self.concurrent_jobs = batches.max(1);
        self
    }

    /// Batches that may wait; when so many do, no further one is made. At least one. Default: 16.
    #[must_use]
    pub fn queued_batches(mut self, batches: usize) -> Self {
        self.most_queued = batches.max(1);
        self
    }

    /// Records that each receiver may hold between two batches; when it holds so many, it blocks. At least one.
    /// Default: 1,000,000.
    #[must_use]
    pub fn receiver_buffer(mut self, records: usize) -> Self {
        self.buffer = records.max(1);
        self
    }

    /// Learns from each batch how many records a second receivers and sources may bring in, so that batches take no longer
    /// than the interval: what is over the limit waits outside. Default: off.
    ///
    /// ```
    /// use windrow::stream::{Pid, StreamingContext};
    /// let ctx = StreamingContext::builder().backpressure(Pid::new().min_rate(1000.0)).initial_rate(50_000).build()?;
    /// # Ok::<(), windrow::Error>(())
    /// ```
    #[must_use]
    pub fn backpressure(mut self, pid: Pid) -> Self {
        self.rates.pid = Some(pid);
        self
    }

    /// The most records per second that each receiver and source may bring in, at least one, whatever
    /// [`backpressure`](Self::backpressure) says. Default: no limit.
    #[must_use]
    pub fn max_rate(mut self, records: u64) -> Self {
        self.rates.max = Some(records.max(1));
        self
    }

    /// Records per second of each receiver and source until [`backpressure`](Self::backpressure) knows better, at least
    /// one. Default: no limit.
    #[must_use]
    pub fn initial_rate(mut self, records: u64) -> Self {
        self.rates.initial = Some(records.max(1));
        self
    }

    /// Bytes that batches at rest and shuffles may take together: beyond it what is [persisted](super::StorageLevel)
    /// gives way and what is [spillable](DStream::spillable) goes to disk. Default: no limit.
    #[must_use]
    pub fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory = Some(bytes);
        self
    }

    /// The folder in which a folder for spilled records is made. Default: that of the system for temporary files.
    #[must_use]
    pub fn spill_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.spill_dir = Some(dir.into());
        self
    }

    /// What happens after a batch has failed. Default: the context stops.
    #[must_use]
    pub fn on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// Whether a [write-ahead log](StreamingContext::checkpoint) that is damaged, other than by a crash, is read as far as
    /// it can be, and what is lost [counted](Statistics::lost), instead of being an error. Default: it is an error.
    #[must_use]
    pub fn skip_damaged(mut self, skip: bool) -> Self {
        self.log = self.log.skip_damaged(skip);
        self
    }

    /// The clock that says when batches are due. Default: the machine's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// As [`clock`](Self::clock), with one that the program moves.
    #[must_use]
    pub fn manual_clock(self, clock: &ManualClock) -> Self {
        self.clock(Clock::Manual(clock.clone()))
    }

    /// The context.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for an interval of zero, weights of [`backpressure`](Self::backpressure) that are
    /// negative, or more threads than can be started.
    pub fn build(self) -> Result<StreamingContext> {
        let interval = micros(self.interval);
        if interval == 0 {
            return Err(Error::usage("the batch interval must be at least a microsecond"));
        }
        let rates = Rates { initial: self.rates.initial.filter(|_| self.rates.pid.is_some()), ..self.rates };
        Throttle::new(rates, self.interval)?;
        let storage = Storage::new(self.memory, self.spill_dir);
        let settings = Settings {
            interval,
            concurrent_jobs: self.concurrent_jobs,
            most_queued: self.most_queued,
            on_failure: self.on_failure,
            clock: self.clock,
            buffer: self.buffer,
            rates,
            log: self.log,
        };
        let core = Arc::new(Core::new(settings, Exec::new(self.threads, self.partitions, storage)?));
        Ok(StreamingContext { core: core.clone(), _alive: Arc::new(Alive(core)) })
    }
}

impl StreamingContext {
    /// A context with default options, to be changed.
    pub fn builder() -> Builder {
        Builder {
            interval: Duration::from_secs(1),
            threads: 0,
            partitions: 0,
            concurrent_jobs: 1,
            most_queued: 16,
            buffer: 1_000_000,
            memory: None,
            spill_dir: None,
            on_failure: OnFailure::default(),
            clock: Clock::default(),
            rates: Rates::default(),
            log: LogOptions::default(),
        }
    }

    /// The context that `build` makes, [saved](Self::checkpoint) in the folder `dir`; if a checkpoint is there, it goes on
    /// from that when it is started.
    ///
    /// Closures cannot be saved, so `build` runs each time and has to build the same graph: states and inputs are found again
    /// by their [names](DStream::named), or else by their operators' places. Batches that were due meanwhile are caught up.
    ///
    /// # Errors
    /// What `build` returns; [`ErrorKind::Output`](crate::ErrorKind::Output) if the folder cannot be used, or another
    /// context uses it; [`ErrorKind::Input`](crate::ErrorKind::Input) and [`ErrorKind::Io`](crate::ErrorKind::Io) if what is
    /// there cannot be read. That the graph does not fit is said by [`start`](Self::start).
    pub fn get_or_create(
        dir: impl Into<PathBuf>,
        build: impl FnOnce() -> Result<StreamingContext>,
    ) -> Result<StreamingContext> {
        Self::get_or_create_on(Arc::new(OsDisk), dir.into(), build)
    }

    pub(crate) fn get_or_create_on(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        build: impl FnOnce() -> Result<StreamingContext>,
    ) -> Result<StreamingContext> {
        let ctx = build()?;
        ctx.save_in(disk, dir, true)?;
        Ok(ctx)
    }

    /// Saves the context in the folder `dir`, which is created if its parent exists: the states of operators and the
    /// positions of inputs, as often as [streams](DStream::checkpoint) say (10 s if none does), after a graceful stop,
    /// and a log of what came in since.
    ///
    /// A checkpoint is written while the next batches run. If it cannot be written, the context ends with that error and
    /// the checkpoint before is whole.
    ///
    /// # Errors
    /// As [`get_or_create`](Self::get_or_create); [`ErrorKind::Output`](crate::ErrorKind::Output) too if a checkpoint is
    /// there.
    pub fn checkpoint(&self, dir: impl Into<PathBuf>) -> Result<()> {
        self.save_in(Arc::new(OsDisk), dir.into(), false)
    }

    pub(crate) fn save_in(&self, disk: Arc<dyn Disk>, dir: PathBuf, recover: bool) -> Result<()> {
        if !self.core.still_open("checkpoint") {
            return self.check();
        }
        let mut request = lock(&self.core.request);
        if let Some(request) = &*request {
            let what = format!("the context is saved in {} already: name one folder", request.path.display());
            return Err(Error::usage(what));
        }
        *request = Some(Request::open(disk, dir, recover)?);
        Ok(())
    }

    /// The time of the batch after which a context that was [got](Self::get_or_create) goes on; none if it begins anew, or
    /// was started.
    pub fn recovers_from(&self) -> Option<Time> {
        lock(&self.core.request).as_ref().and_then(Request::head).map(|head| self.core.time(head.batch))
    }

    /// What a person should be told about a context that was [got](Self::get_or_create) and is not started: the newest
    /// checkpoint is damaged, and the one before was taken.
    pub fn recovery_warning(&self) -> Option<String> {
        lock(&self.core.request).as_ref().and_then(Request::warning).map(str::to_owned)
    }

    /// Where it is in its life.
    pub fn state(&self) -> ContextState {
        self.core.state()
    }

    /// Starts the inputs and the batches.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if the graph is wrong, there is no output, or it was started before; what an input
    /// met when it started.
    pub fn start(&self) -> Result<()> {
        self.core.start()
    }

    /// Stops. A graceful stop lets inputs end, takes in what they still hold and runs every batch; otherwise only the
    /// batches that are running end. Stopping a stopped context does nothing.
    ///
    /// # Errors
    /// What [`check`](Self::check) says.
    pub fn stop(&self, graceful: bool) -> Result<()> {
        self.core.stop(graceful)
    }

    /// Waits until the context has stopped.
    ///
    /// # Errors
    /// The batch that failed and stopped it, or that an operator was added too late.
    pub fn await_termination(&self) -> Result<()> {
        self.core.await_batch(u64::MAX, None).map(|_| ())
    }

    /// As [`await_termination`](Self::await_termination), but not longer than `within`; says whether it has stopped.
    ///
    /// # Errors
    /// As [`await_termination`](Self::await_termination).
    pub fn await_termination_or_timeout(&self, within: Duration) -> Result<bool> {
        self.core.await_batch(u64::MAX, Some(within))
    }

    /// Waits until all batches up to `time` are done (or the context has stopped).
    ///
    /// # Errors
    /// As [`await_termination`](Self::await_termination).
    pub fn await_batch(&self, time: Time) -> Result<()> {
        self.core.await_batch(time.micros() / self.core.settings.interval, None).map(|_| ())
    }

    /// Moves the manual clock to `time` and waits until all batches up to then are done, and checkpoints written.
    ///
    /// # Errors
    /// As [`await_termination`](Self::await_termination); [`crate::ErrorKind::Usage`] if the clock is not a manual one.
    pub fn run_until(&self, time: Time) -> Result<()> {
        let Clock::Manual(clock) = &self.core.settings.clock else {
            return Err(Error::usage("only a manual clock can be moved: give the builder one"));
        };
        clock.set(time);
        self.await_batch(time)?;
        self.core.await_checkpoints()
    }

    /// Whether the context was used as it should be.
    ///
    /// # Errors
    /// The first thing that was wrong with its graph or was added too late, or the batch that stopped it.
    pub fn check(&self) -> Result<()> {
        self.core.check()
    }

    /// Every batch is kept for at least `duration` after it was made, to be sliced.
    pub fn remember(&self, duration: Duration) {
        if self.core.still_open("remember") {
            self.core.remember(micros(duration).div_ceil(self.core.settings.interval));
        }
    }

    /// Totals so far.
    pub fn statistics(&self) -> Statistics {
        self.core.statistics()
    }

    /// `listener` is told about every batch from now on.
    pub fn add_listener(&self, listener: impl Listener + 'static) {
        self.core.listen(Arc::new(listener));
    }

    /// The records of all `streams`, whose intervals must be the same.
    ///
    /// # Panics
    /// If `streams` is empty.
    pub fn union<T: Data>(&self, streams: impl IntoIterator<Item = DStream<T>>) -> DStream<T> {
        dstream::union(streams)
    }

    /// A batch outside of any stream, of records in memory: to be joined with streams, cached, used again.
    pub fn batch_from<T: Data>(&self, records: impl IntoIterator<Item = T>) -> Batch<T> {
        self.batch_from_partitions(records, self.core.exec.partitions)
    }

    /// As [`batch_from`](Self::batch_from), in `partitions` partitions.
    pub fn batch_from_partitions<T: Data>(&self, records: impl IntoIterator<Item = T>, partitions: usize) -> Batch<T> {
        Batch::of(&self.core.exec, records.into_iter().collect(), partitions)
    }

    /// A batch outside of any stream: the lines of a text file, read whenever the batch is evaluated.
    pub fn text_file(&self, path: impl AsRef<Path>) -> Batch<String> {
        super::input::lines_of(&self.core.exec, vec![path.as_ref().to_path_buf()])
    }

    /// A stream whose batches `compute` makes when they are due.
    pub(crate) fn input<T: Data>(
        &self,
        name: &str,
        control: Option<Arc<dyn Input>>,
        compute: impl Fn(u64) -> Result<Option<Batch<T>>> + Send + Sync + 'static,
    ) -> DStream<T> {
        self.source(name, control, |label, slide| Node::new(label, slide, Vec::new(), compute).input())
    }

    /// A stream whose records `f` makes from the time of the batch, whenever they are asked for. `None` is a batch
    /// without a dataset, which is not the same as one without records: what joins or transforms it fails.
    pub fn computed_stream<T: Data>(&self, f: impl Fn(Time) -> Option<Vec<T>> + Send + Sync + 'static) -> DStream<T> {
        let (interval, exec) = (self.core.settings.interval, self.core.exec.clone());
        let compute = move |k: u64| {
            let records = f(Time::from_micros(k * interval));
            Ok(records.map(|records| Batch::of(&exec, records, exec.partitions)))
        };
        self.source("computed_stream", None, |label, slide| Node::new(label, slide, Vec::new(), compute))
    }

    /// What holds an input to the limits of the context.
    pub(crate) fn throttle(&self) -> Arc<Throttle> {
        let Settings { rates, interval, .. } = &self.core.settings;
        let interval = Duration::from_micros(*interval);
        // The weights were checked when the context was built.
        let throttle = Throttle::new(*rates, interval);
        Arc::new(throttle.unwrap_or_else(|_| Throttle::unlimited(interval)))
    }

    fn source<T: Data>(
        &self,
        name: &str,
        control: Option<Arc<dyn Input>>,
        node: impl FnOnce(super::exec::Label, u64) -> Node<T>,
    ) -> DStream<T> {
        let label = self.core.label(name);
        let open = self.core.still_open(&label);
        let node = Arc::new(node(label, 1));
        if open {
            lock(&self.core.graph).inputs.push(node.clone());
            let known = control.map(|control| KnownInput::new(node.identity.clone(), control));
            lock(&self.core.inputs).extend(known);
        }
        DStream { node, core: self.core.clone() }
    }
}

/// Says when an input was stopped.
#[derive(Debug, Default)]
pub(crate) struct Switch(AtomicBool);

impl Switch {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
