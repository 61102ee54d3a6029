//! Receivers: threads that push records when they come.
//!
//! A [`Receiver`] runs on a thread of its own and stores records in a bounded buffer; each batch takes what is there. A
//! receiver that finds the buffer full waits, one that returns an error or panics is started again after a delay.
//!
//! Invariant: a record that was stored is in exactly one batch; `store` says so by returning without error. Where the context
//! is saved that holds across restarts: `store` returns when the record is in the log, and what is on its way may be in
//! the log or not. Cost: a thread that stores record by record waits for a sync each time; [`Store::store_many`] waits once.

use super::resume::{Resume, Takes, from_bytes, to_bytes};
use super::throttle::{Allowance, Throttle};
use crate::stream::codec::{Codec, Coder, Postcard};
use crate::stream::context::Switch;
use crate::stream::exec::guarded;
use crate::stream::journal::Journal;
use crate::stream::listener::BatchInfo;
use crate::stream::scheduler::{Input, lock};
use crate::stream::{Batch, DStream, Data, StreamingContext};
use crate::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Something that receives records from outside.
///
/// ```
/// use std::time::Duration;
/// use windrow::stream::{ManualClock, Receiver, Store, StreamingContext};
///
/// struct Numbers;
///
/// impl Receiver<u64> for Numbers {
///     fn run(&self, store: &Store<u64>) -> windrow::Result<()> {
///         (0..100).try_for_each(|n| store.store(n))
///     }
/// }
///
/// let clock = ManualClock::new();
/// let ctx = StreamingContext::builder().manual_clock(&clock).build()?;
/// ctx.receiver_stream(Numbers).count().print(1);
/// ctx.start()?;
/// clock.advance(Duration::from_secs(1));
/// ctx.stop(true)?;
/// # Ok::<(), windrow::Error>(())
/// ```
pub trait Receiver<T>: Send + Sync + 'static {
    /// Receives until there is nothing more or `store` says that it is over. Called on a thread of its own; called
    /// again, after a delay, when it has failed or panicked.
    ///
    /// # Errors
    /// Whatever went wrong; it ends up in the error of [`ReceiverOptions::most_restarts`], or nowhere.
    fn run(&self, store: &Store<T>) -> Result<()>;

    /// The context stops: wakes up [`run`](Self::run) if it waits for something that may never come.
    fn stop(&self) {}
}

/// How a receiver is supervised.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverOptions {
    restart_delay: Duration,
    most_restarts: Option<u64>,
}

impl Default for ReceiverOptions {
    /// Started again after 2 s, as often as it takes.
    fn default() -> Self {
        ReceiverOptions { restart_delay: Duration::from_secs(2), most_restarts: None }
    }
}

impl ReceiverOptions {
    /// How long after a failure it is started again.
    #[must_use]
    pub fn restart_delay(mut self, delay: Duration) -> Self {
        self.restart_delay = delay;
        self
    }

    /// After so many restarts a further failure makes the next batch fail.
    #[must_use]
    pub fn most_restarts(mut self, restarts: u64) -> Self {
        self.most_restarts = Some(restarts);
        self
    }
}

struct Buffer<T> {
    held: Mutex<Held<T>>,
    room: Condvar,
    capacity: usize,
    switch: Switch,
    received: Arc<AtomicU64>,
    throttle: Arc<Throttle>,
    /// How records are logged, if they can be.
    codec: Option<Coder<T>>,
    /// The log, and the number that the input has in it.
    log: OnceLock<(Arc<Journal>, u32)>,
}

struct Held<T> {
    records: Vec<T>,
    /// What another life of the program has logged, and no checkpoint holds.
    logged: VecDeque<(u64, Vec<T>)>,
    /// The number after that of the last entry in the log; those before `taken` have been in a batch.
    next: u64,
    taken: u64,
    takes: Takes,
    allowance: Allowance,
    /// Why the receiver was given up.
    failed: Option<String>,
}

/// Where a receiver puts its records. Clones, for receivers with several threads, are the same store.
pub struct Store<T>(Arc<Buffer<T>>);

impl<T> Clone for Store<T> {
    fn clone(&self) -> Self {
        Store(self.0.clone())
    }
}

impl<T> std::fmt::Debug for Store<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("capacity", &self.0.capacity).finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Store<T> {
    /// Stores a record; waits while the buffer is full, or more has come than the [limit](crate::stream::Builder::max_rate)
    /// allows.
    ///
    /// # Errors
    /// The receiver was stopped, and the record is not stored; where the context is saved, the log cannot be written.
    pub fn store(&self, record: T) -> Result<()> {
        let mut held = self.wait_for_room(1)?;
        let entry = self.log(&mut held, std::slice::from_ref(&record))?;
        held.records.push(record);
        drop(held);
        self.acknowledge(entry)
    }

    /// Stores records that belong together: they are in the same batch. Waits while the buffer has no room for all of
    /// them, or, if it never has, until it is empty; a limit is kept on the whole: the next ones wait for longer.
    ///
    /// # Errors
    /// As [`store`](Self::store): none is stored.
    pub fn store_many(&self, records: Vec<T>) -> Result<()> {
        let mut held = self.wait_for_room(records.len())?;
        let entry = self.log(&mut held, &records)?;
        held.records.extend(records);
        drop(held);
        self.acknowledge(entry)
    }

    /// Whether the receiver is to end.
    pub fn is_stopped(&self) -> bool {
        self.0.switch.is_set()
    }

    /// Records that can be stored at once without going far beyond the limit.
    pub(crate) fn piece(&self) -> usize {
        self.0.throttle.limit().map_or(usize::MAX, |rate| (rate / 50).max(1) as usize)
    }

    fn wait_for_room(&self, records: usize) -> Result<MutexGuard<'_, Held<T>>> {
        let mut held = lock(&self.0.held);
        loop {
            if self.is_stopped() {
                return Err(Error::new(ErrorKind::Input, "the receiver was stopped"));
            }
            if !held.records.is_empty() && held.records.len() + records > self.0.capacity {
                held = self.0.room.wait(held).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let limit = self.0.throttle.limit();
            let Some(Err(wait)) = limit.map(|rate| held.allowance.take(records, rate, Instant::now())) else { break };
            held = self.0.room.wait_timeout(held, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(held)
    }

    /// Logs records before they can be in a batch, if there is a log.
    fn log(&self, held: &mut Held<T>, records: &[T]) -> Result<Option<u64>> {
        let (Some((journal, input)), Some(codec)) = (self.0.log.get(), &self.0.codec) else { return Ok(None) };
        let entry = journal.records(*input, |out| records.iter().try_for_each(|record| codec.encode(record, out)))?;
        held.next = entry + 1;
        Ok(Some(entry))
    }

    /// Waits until what was logged outlives a crash.
    fn acknowledge(&self, entry: Option<u64>) -> Result<()> {
        entry.zip(self.0.log.get()).map_or(Ok(()), |(entry, (journal, _))| journal.commit(entry))
    }
}

impl<T: Data> Buffer<T> {
    /// The records of the batch that is being made.
    fn take(&self) -> Result<Vec<T>> {
        let mut held = lock(&self.held);
        match held.takes.again() {
            Some(None) => Ok(Vec::new()),
            Some(Some(taken)) => {
                held.taken = from_bytes(&taken)?;
                let n = held.logged.partition_point(|(entry, _)| *entry < held.taken);
                Ok(held.logged.drain(..n).flat_map(|(_, records)| records).collect())
            }
            None => {
                if let Some(why) = held.failed.take() {
                    return Err(Error::input(why));
                }
                self.room.notify_all();
                let mut records: Vec<T> = held.logged.drain(..).flat_map(|(_, records)| records).collect();
                if records.is_empty() {
                    records = std::mem::take(&mut held.records);
                } else {
                    records.append(&mut held.records);
                }
                if self.log.get().is_some() {
                    held.taken = held.next;
                    let taken = held.taken;
                    held.takes.note(&taken)?;
                }
                Ok(records)
            }
        }
    }
}

impl<T: Data> Resume for Buffer<T> {
    fn taken(&self) -> Option<Vec<u8>> {
        lock(&self.held).takes.taken()
    }

    fn retake(&self, taken: Option<Vec<u8>>) {
        lock(&self.held).takes.retake(taken);
    }

    fn position(&self) -> Result<Vec<u8>> {
        to_bytes(&lock(&self.held).taken)
    }

    fn restore(&self, position: &[u8], limit: Option<u64>) -> Result<()> {
        let mut held = lock(&self.held);
        held.taken = from_bytes(position)?;
        held.next = held.taken;
        self.throttle.restore(limit);
        Ok(())
    }

    fn log_to(&self, journal: &Arc<Journal>, input: u32) {
        let _ = self.log.set((journal.clone(), input));
    }

    fn receive(&self, number: u64, mut bytes: &[u8]) -> Result<()> {
        let mut held = lock(&self.held);
        if let (Some(codec), true) = (&self.codec, number >= held.taken) {
            let mut records = Vec::new();
            while !bytes.is_empty() {
                records.push(codec.decode(&mut bytes)?);
            }
            held.logged.push_back((number, records));
            held.next = number + 1;
        }
        Ok(())
    }
}

struct Supervised<T, R> {
    buffer: Arc<Buffer<T>>,
    receiver: Arc<R>,
    options: ReceiverOptions,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<T: Data, R: Receiver<T>> Supervised<T, R> {
    fn supervise(receiver: &R, buffer: &Arc<Buffer<T>>, options: ReceiverOptions) {
        let store = Store(buffer.clone());
        let mut restarts = 0;
        while !buffer.switch.is_set() {
            let Err(error) = guarded(|| receiver.run(&store)) else { return };
            if options.most_restarts.is_some_and(|most| restarts >= most) {
                lock(&buffer.held).failed = Some(format!("a receiver failed and is not started again: {error}"));
                return;
            }
            restarts += 1;
            tracing::warn!(%error, restarts, "a receiver failed and is started again");
            let until = Instant::now() + options.restart_delay;
            let mut held = lock(&buffer.held);
            while !buffer.switch.is_set() {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                held = buffer.room.wait_timeout(held, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl<T: Data, R: Receiver<T>> Input for Supervised<T, R> {
    fn start(&self) -> Result<()> {
        let (receiver, buffer, options) = (self.receiver.clone(), self.buffer.clone(), self.options);
        let run = move || Self::supervise(&receiver, &buffer, options);
        let thread = std::thread::Builder::new().name("windrow-receiver".into()).spawn(run);
        let thread = thread.map_err(|e| Error::usage("the thread of a receiver cannot be started").because(e))?;
        *lock(&self.thread) = Some(thread);
        Ok(())
    }

    fn stop(&self) {
        {
            let _held = lock(&self.buffer.held);
            self.buffer.switch.set();
            self.buffer.room.notify_all();
        }
        // A receiver that panics here has stopped, too.
        let _ = guarded(|| {
            self.receiver.stop();
            Ok(())
        });
    }

    fn join(&self) {
        // One that does not listen is left behind: it cannot store anything any more.
        let end = Instant::now() + Duration::from_secs(2);
        let mut thread = lock(&self.thread);
        while thread.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(thread) = thread.take().filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
    }

    fn has_more(&self) -> bool {
        let held = lock(&self.buffer.held);
        !held.records.is_empty() || !held.logged.is_empty()
    }

    fn resume(&self) -> std::result::Result<&dyn Resume, &'static str> {
        let why =
            "what it receives cannot be received again; make it with receiver_stream_logged, which logs the records";
        if self.buffer.codec.is_some() { Ok(&*self.buffer) } else { Err(why) }
    }

    fn observe(&self, k: u64, batch: &BatchInfo, end: Duration) {
        self.buffer.throttle.learn(k, batch, end);
        // Who waits does so by the limit of before.
        let _held = lock(&self.buffer.held);
        self.buffer.room.notify_all();
    }

    fn limit(&self) -> Option<u64> {
        self.buffer.throttle.limit()
    }
}

impl StreamingContext {
    /// The records that `receiver` stores.
    pub fn receiver_stream<T: Data>(&self, receiver: impl Receiver<T>) -> DStream<T> {
        self.receiver_stream_with(receiver, ReceiverOptions::default())
    }

    /// As [`receiver_stream`](Self::receiver_stream), supervised as `options` say.
    pub fn receiver_stream_with<T: Data>(&self, receiver: impl Receiver<T>, options: ReceiverOptions) -> DStream<T> {
        self.received(receiver, options, None)
    }

    /// As [`receiver_stream_with`](Self::receiver_stream_with); where the context is [saved](Self::checkpoint), what the
    /// receiver stores is logged first, and comes from there after a restart.
    pub fn receiver_stream_logged<T>(&self, receiver: impl Receiver<T>, options: ReceiverOptions) -> DStream<T>
    where
        T: Data + Serialize + DeserializeOwned,
    {
        self.received(receiver, options, Some(Arc::new(Postcard)))
    }

    /// As [`receiver_stream_logged`](Self::receiver_stream_logged), for records with a codec of their own.
    pub fn receiver_stream_logged_with<T: Data>(
        &self,
        receiver: impl Receiver<T>,
        options: ReceiverOptions,
        codec: Arc<dyn Codec<T>>,
    ) -> DStream<T> {
        self.received(receiver, options, Some(codec))
    }

    fn received<T: Data>(
        &self,
        receiver: impl Receiver<T>,
        options: ReceiverOptions,
        codec: Option<Coder<T>>,
    ) -> DStream<T> {
        let held = Held {
            records: Vec::new(),
            logged: VecDeque::new(),
            next: 0,
            taken: 0,
            takes: Takes::default(),
            allowance: Allowance::new(),
            failed: None,
        };
        let buffer = Arc::new(Buffer {
            held: Mutex::new(held),
            room: Condvar::new(),
            capacity: self.core.settings.buffer,
            switch: Switch::default(),
            received: self.core.received.clone(),
            throttle: self.throttle(),
            codec,
            log: OnceLock::new(),
        });
        let input =
            Supervised { buffer: buffer.clone(), receiver: Arc::new(receiver), options, thread: Mutex::default() };
        let exec = self.core.exec.clone();
        self.input("receiver_stream", Some(Arc::new(input)), move |k| {
            let records = buffer.take()?;
            buffer.received.fetch_add(records.len() as u64, Ordering::Relaxed);
            buffer.throttle.note(k, records.len() as u64);
            Ok(Some(Batch::of(&exec, records, exec.partitions)))
        })
    }
}
