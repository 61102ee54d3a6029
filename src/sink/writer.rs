//! The thread that writes an output, behind a short queue of buffers, so that formatting and writing overlap.
//!
//! Invariants: buffers reach the file in the order in which they were sent; a written buffer comes back through
//! [`Writer::buffer`] and is used again, so a run allocates about [`QUEUE`] + 2 of them whatever it writes; after
//! a failure or a closed pipe the thread keeps taking buffers and drops them, so that no sender waits for ever.
//!
//! Cost: one channel message per buffer ([`BUFFER`] bytes): some hundred nanoseconds against the 100 us that the
//! kernel needs to copy them.

use super::destination::Destination;
use crate::{Error, Result};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Bytes that one buffer should have when it is sent: small enough to stay in the second-level cache.
pub(super) const BUFFER: usize = 256 << 10;

/// A buffer that grew beyond this (long texts) is not kept.
const KEEP: usize = 4 * BUFFER;

/// Buffers that wait for the thread at most.
const QUEUE: usize = 8;

/// What a writer has done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) closed_pipe: bool,
}

/// A handle to the thread; shared by the threads that format.
#[derive(Debug)]
pub(super) struct Writer {
    sender: Option<Sender<Message>>,
    returned: Receiver<Vec<u8>>,
    state: Arc<State>,
    thread: Option<JoinHandle<Destination>>,
    name: PathBuf,
    is_stdout: bool,
    /// The file, of an output that can be gone on with.
    file: Option<File>,
}

enum Message {
    Bytes(Vec<u8>),
    /// Answered when everything sent before is written.
    Flush(Sender<()>),
}

#[derive(Debug, Default)]
struct State {
    /// Set with `error`, or alone once the error was taken.
    failed: AtomicBool,
    error: Mutex<Option<Error>>,
    closed: AtomicBool,
    bytes: AtomicU64,
}

impl Writer {
    /// Opens `path` (or standard output) and starts its thread.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        Self::start(Destination::open(path)?, 0, None)
    }

    /// Opens `path` (or standard output) for an output that is read while it grows.
    pub(super) fn open_live(path: Option<&Path>) -> Result<Self> {
        Self::start(Destination::open_live(path)?, 0, None)
    }

    /// Opens `path` to go on behind its first `len` bytes, which a process before this one may have written.
    pub(super) fn open_at(path: &Path, len: u64) -> Result<Self> {
        let destination = Destination::open_at(path, len)?;
        let file = destination.file()?;
        Self::start(destination, len, file)
    }

    /// The same for an output that is read while it grows.
    pub(super) fn open_live_at(path: &Path, len: u64) -> Result<Self> {
        let destination = Destination::open_live_at(path, len)?;
        let file = destination.file()?;
        Self::start(destination, len, file)
    }

    fn start(mut destination: Destination, len: u64, file: Option<File>) -> Result<Self> {
        let is_stdout = destination.is_stdout();
        let name = destination.name().to_path_buf();
        let state = Arc::new(State { bytes: AtomicU64::new(len), ..State::default() });
        let (sender, receiver) = bounded(QUEUE);
        let (give_back, returned) = unbounded();
        let shared = Arc::clone(&state);
        let thread = std::thread::Builder::new()
            .name("windrow-writer".into())
            .spawn(move || {
                for message in receiver {
                    match message {
                        Message::Bytes(buffer) => {
                            shared.write(&mut destination, &buffer);
                            if buffer.capacity() <= KEEP {
                                let _ = give_back.send(buffer);
                            }
                        }
                        Message::Flush(done) => {
                            let _ = done.send(());
                        }
                    }
                }
                destination
            })
            .map_err(|e| Error::output("cannot start the thread that writes the output").because(e))?;
        Ok(Writer { sender: Some(sender), returned, state, thread: Some(thread), name, is_stdout, file })
    }

    /// A buffer to fill and send: one that was written before, with what it held, or a new one.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.returned.try_recv().unwrap_or_default()
    }

    /// Queues `buffer`; waits while the queue is full. An empty one costs nothing.
    pub(super) fn send(&self, buffer: Vec<u8>) {
        if let Some(sender) = &self.sender
            && !buffer.is_empty()
        {
            // It cannot fail: the thread takes messages until the sender is gone.
            let _ = sender.send(Message::Bytes(buffer));
        }
    }

    /// Waits until everything sent is written.
    pub(super) fn flush(&self) -> Result<()> {
        let (done, wait) = bounded(1);
        if let Some(sender) = &self.sender {
            let _ = sender.send(Message::Flush(done));
            let _ = wait.recv();
        }
        self.check()
    }

    /// The file, of an output that can be gone on with.
    pub(super) fn file(&self) -> Result<Option<File>> {
        let file = self.file.as_ref().map(File::try_clone).transpose();
        file.map_err(|e| Error::output(format!("cannot open the output {} again", self.name.display())).because(e))
    }

    /// The error of an earlier write, if there was one.
    pub(super) fn check(&self) -> Result<()> {
        if !self.state.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let error = self.state.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        Err(error
            .unwrap_or_else(|| Error::output(format!("an earlier write to the output {} failed", self.name.display()))))
    }

    /// Whether nobody reads the output any more.
    pub(super) fn closed(&self) -> bool {
        self.state.closed.load(Ordering::Acquire)
    }

    pub(super) fn is_stdout(&self) -> bool {
        self.is_stdout
    }

    /// Bytes written so far.
    pub(super) fn bytes(&self) -> u64 {
        self.state.bytes.load(Ordering::Acquire)
    }

    /// The output's name, for messages.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    /// Waits for the thread and gives the output its final name. Nothing can be sent after.
    pub(super) fn finish(&mut self) -> Result<Written> {
        let destination = self.join();
        self.check()?;
        match destination {
            Some(destination) => destination.commit()?,
            None => return Err(Error::output("the thread that writes the output ended early")),
        }
        let bytes = self.bytes();
        Ok(Written { bytes, closed_pipe: self.closed() })
    }

    fn join(&mut self) -> Option<Destination> {
        self.sender = None;
        self.thread.take()?.join().ok()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Unfinished: the destination comes back, is dropped and takes its temporary file with it.
        drop(self.join());
    }
}

impl State {
    fn write(&self, destination: &mut Destination, bytes: &[u8]) {
        if self.failed.load(Ordering::Relaxed) || self.closed.load(Ordering::Relaxed) {
            return;
        }
        match destination.write(bytes) {
            Ok(true) => {
                self.bytes.fetch_add(bytes.len() as u64, Ordering::Release);
            }
            Ok(false) => self.closed.store(true, Ordering::Release),
            Err(error) => {
                *self.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                self.failed.store(true, Ordering::Release);
            }
        }
    }
}

/// Puts buffers that several threads finish in any order into the order of their numbers.
///
/// A buffer waits here only while an earlier one is still being filled; with threads that take the numbers in
/// ascending order that is at most one per thread.
#[derive(Debug)]
pub(super) struct InOrder<'w> {
    writer: &'w Writer,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: usize,
    ready: std::collections::BTreeMap<usize, Vec<u8>>,
}

impl<'w> InOrder<'w> {
    /// Numbers start at 0.
    pub(super) fn new(writer: &'w Writer) -> Self {
        InOrder { writer, waiting: Mutex::default() }
    }

    /// Sends buffer number `number` as soon as all before it were sent.
    pub(super) fn send(&self, number: usize, buffer: Vec<u8>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.ready.insert(number, buffer);
        loop {
            let next = waiting.next;
            let Some(buffer) = waiting.ready.remove(&next) else { break };
            waiting.next += 1;
            self.writer.send(buffer);
        }
    }
}

/// Collects small writes into buffers for the thread: the face that the Parquet writer wants.
#[derive(Debug)]
pub(super) struct Buffered {
    writer: Writer,
    buffer: Vec<u8>,
}

impl Buffered {
    pub(super) fn new(writer: Writer) -> Self {
        Buffered { writer, buffer: Vec::new() }
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Writes what is left and completes the output.
    pub(super) fn finish(&mut self) -> Result<Written> {
        self.send();
        self.writer.finish()
    }

    fn send(&mut self) {
        let mut next = self.writer.buffer();
        next.clear();
        self.writer.send(std::mem::replace(&mut self.buffer, next));
    }
}

impl io::Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.send();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
