//! What comes through pipes and sockets and cannot be read again: a thread for each waits for bytes, the run takes them as
//! whole lines.
//!
//! Invariant: what waits between the two is bounded. A sender that is faster than the run finds its socket or pipe full
//! and waits; nothing is dropped. What comes last, without a newline, is a line when the other side has closed.

use super::content::Reading;
use crate::format::{Decoder, TextBlock};
use crate::source::BLOCK_BYTES;
use crate::source::cut::block;
use crate::source::files::open_stdin;
use crate::{Error, Result};
use std::io::{ErrorKind, Read};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that may wait for the run in all connections together, and in one. Few under test, so that there are many blocks.
const WAITING: usize = 16 << 20;
const MOST_WAITING: usize = if cfg!(test) { 512 } else { 4 << 20 };
const LEAST_WAITING: usize = if cfg!(test) { 512 } else { 64 << 10 };
/// Bytes that a thread reads at once.
const READ: usize = 64 << 10;
/// Connections that are read at once; others wait to be accepted.
pub(super) const CONNECTIONS: usize = 256;

/// Bytes on their way from a thread to the run.
#[derive(Default)]
struct Mailbox {
    state: Mutex<State>,
    room: Condvar,
    /// How many share [`WAITING`].
    sharers: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// Nothing more comes.
    ended: bool,
    error: Option<std::io::Error>,
    /// Nothing more is taken over than what was received by now.
    abandoned: bool,
    /// Something was received for which there is no room.
    waits: bool,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the end of `reader`, or until nobody takes anything any more.
    fn fill(&self, mut reader: impl Read) {
        let mut buffer = vec![0; READ];
        loop {
            let got = match reader.read(&mut buffer) {
                Err(e) if e.kind() == ErrorKind::Interrupted => continue,
                got => got,
            };
            let mut state = self.lock();
            match got {
                Ok(0) => state.ended = true,
                Ok(n) => {
                    let limit = || {
                        let share = WAITING / self.sharers.load(Ordering::Relaxed).max(1);
                        share.clamp(LEAST_WAITING, MOST_WAITING)
                    };
                    state.waits = true;
                    while state.bytes.len() >= limit() && !state.abandoned {
                        state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
                    }
                    state.bytes.extend_from_slice(&buffer[..n]);
                    state.waits = false;
                    if state.abandoned {
                        self.room.notify_all();
                    }
                }
                Err(e) => (state.ended, state.error) = (true, Some(e)),
            }
            if state.ended || state.abandoned {
                return;
            }
        }
    }
}

/// A pipe or a connection that is read by a thread of its own.
pub(super) struct Pipe {
    pub(super) input: usize,
    mailbox: Arc<Mailbox>,
    /// The connection, to be closed.
    socket: Option<TcpStream>,
    /// Bytes that were taken and are not handed out yet.
    rest: Vec<u8>,
    /// Where they stand in all that came.
    offset: u64,
    /// They belong to a record that is too long.
    inside: bool,
    pub(super) ended: bool,
    pub(super) decoder: Option<Arc<dyn Decoder>>,
    /// What its fields are by its own first lines, if a journal is kept and they are not those of the run.
    pub(super) header: Vec<u8>,
}

impl Pipe {
    /// Standard input. Its thread may wait for it as long as the process lives.
    pub(super) fn stdin(input: usize) -> Result<Pipe> {
        let file = open_stdin().map_err(|e| Error::input("standard input cannot be opened").because(e))?;
        Pipe::start(input, file, None, Arc::new(AtomicUsize::new(1)))
    }

    /// A connection, one of `sharers`.
    pub(super) fn socket(input: usize, socket: TcpStream, sharers: Arc<AtomicUsize>) -> Result<Pipe> {
        let failed = |e| Error::input("a connection cannot be read").because(e);
        socket.set_nonblocking(false).map_err(failed)?;
        let ours = socket.try_clone().map_err(failed)?;
        sharers.fetch_add(1, Ordering::Relaxed);
        Pipe::start(input, socket, Some(ours), sharers)
    }

    /// What `reader` gives, by a thread of its own.
    pub(super) fn start(
        input: usize,
        reader: impl Read + Send + 'static,
        socket: Option<TcpStream>,
        sharers: Arc<AtomicUsize>,
    ) -> Result<Pipe> {
        let mailbox = Arc::new(Mailbox { sharers, ..Mailbox::default() });
        let theirs = mailbox.clone();
        std::thread::Builder::new()
            .name("windrow-receive".into())
            .spawn(move || theirs.fill(reader))
            .map_err(|e| Error::input("a thread that receives cannot be started").because(e))?;
        let (rest, header, offset) = (Vec::new(), Vec::new(), 0);
        Ok(Pipe { input, mailbox, socket, rest, offset, inside: false, ended: false, decoder: None, header })
    }

    pub(super) fn is_socket(&self) -> bool {
        self.socket.is_some()
    }

    /// Nothing more is received. What was stays to be [read](Self::read), but for a line whose end has not come.
    pub(super) fn close(&self) {
        let mut state = self.mailbox.lock();
        state.abandoned = true;
        self.mailbox.room.notify_all();
        while state.waits {
            state = self.mailbox.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many bytes wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.mailbox.lock().bytes.len()
    }

    /// Takes over what has come. Returns true if nothing more will.
    fn take(&mut self) -> Result<bool> {
        let mut state = self.mailbox.lock();
        if self.rest.is_empty() {
            std::mem::swap(&mut self.rest, &mut state.bytes);
        } else {
            self.rest.append(&mut state.bytes);
        }
        let (ended, error) = (state.ended, state.error.take());
        drop(state);
        self.mailbox.room.notify_all();
        match error {
            // A connection that breaks is one that has ended: the next one is another.
            Some(e) if !self.is_socket() => Err(Error::input("standard input cannot be read").because(e)),
            _ => Ok(ended),
        }
    }

    /// The first whole lines, which stay where they are, and whether there will be no others.
    pub(super) fn sample(&mut self, reading: &Reading) -> Result<(&[u8], bool)> {
        let full = self.rest.len() >= BLOCK_BYTES as usize;
        let ended = if full { false } else { self.take()? };
        self.ended = ended && self.rest.is_empty();
        let end = match self.lines(reading) {
            _ if ended => self.rest.len(),
            // A line that is longer than all that is looked at.
            0 if full => self.rest.len(),
            whole => whole,
        };
        Ok((&self.rest[..end.min(BLOCK_BYTES as usize)], ended || full))
    }

    /// How many of the bytes at hand are whole records; inside one that is too long, what is left of it.
    fn lines(&self, reading: &Reading) -> usize {
        let newline = |at: Option<usize>| at.map_or(0, |at| at + 1);
        match &reading.walker {
            _ if self.inside => newline(memchr::memchr(b'\n', &self.rest)),
            Some(walker) => {
                let mut walker = walker.at(self.offset);
                walker.skip(&self.rest, self.offset);
                (walker.record - self.offset) as usize
            }
            None => newline(memchr::memrchr(b'\n', &self.rest)),
        }
    }

    /// The next whole lines, if there are any.
    pub(super) fn read(&mut self, reading: &Reading) -> Result<Option<TextBlock>> {
        loop {
            let all = self.take()?;
            let whole = self.lines(reading);
            let over = self.rest.len() > reading.options.max_record + 2;
            let end = if all || (whole == 0 && (self.inside || over)) { self.rest.len() } else { whole };
            if end == 0 {
                self.ended = all;
                return Ok(None);
            }
            let mut buffer = reading.pool.take(end.next_multiple_of(LEAST_WAITING));
            buffer[..end].copy_from_slice(&self.rest[..end]);
            self.rest.drain(..end);
            let offset = self.offset;
            self.offset += end as u64;
            let part = whole == 0 && !all;
            if !std::mem::replace(&mut self.inside, part) {
                return Ok(Some(block(buffer, &reading.pool, (0, end), offset, reading.options.max_record)));
            }
            reading.pool.give(buffer);
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.mailbox.lock().abandoned = true;
        self.mailbox.room.notify_all();
        if let Some(socket) = &self.socket {
            let _ = socket.shutdown(Shutdown::Both);
            self.mailbox.sharers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A connection that waits to be accepted, if there is one.
pub(super) fn accept(listener: &TcpListener) -> Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((socket, _)) => Ok(Some(socket)),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Ok(None),
        // One that has gone before it was accepted, or for which there is no room now.
        Err(e) if !matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::NotConnected) => Ok(None),
        Err(e) => Err(Error::input("connections cannot be accepted").because(e)),
    }
}
