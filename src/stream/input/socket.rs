//! Lines of text from a TCP connection.
//!
//! A lost or refused connection is made again after the receiver's delay. A line is a record when its newline has come,
//! or when the other side has closed the connection after it. What has come is logged where the context is saved; what the
//! other side sends while nobody listens is its own affair.

use super::directory::text_of;
use super::receiver::{Receiver, ReceiverOptions, Store};
use crate::stream::{DStream, StreamingContext};
use crate::{Error, Result};
use std::io::{ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// A line longer than this breaks the connection.
const LONGEST: usize = 16 << 20;

struct Lines {
    address: String,
}

impl Receiver<String> for Lines {
    fn run(&self, store: &Store<String>) -> Result<()> {
        let failed = |e| Error::input(format!("the connection to {} is lost", self.address)).because(e);
        let mut stream = TcpStream::connect(&self.address).map_err(failed)?;
        // Waking up from time to time is how a stop is noticed.
        stream.set_read_timeout(Some(Duration::from_millis(100))).map_err(failed)?;
        let (mut buffer, mut rest) = (vec![0; 1 << 18], Vec::new());
        while !store.is_stopped() {
            let read = match stream.read(&mut buffer) {
                Ok(0) => {
                    if !rest.is_empty() {
                        store.store(text_of(&rest))?;
                    }
                    return Err(Error::input(format!("{} has closed the connection", self.address)));
                }
                Ok(read) => &buffer[..read],
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                    continue;
                }
                Err(e) => return Err(failed(e)),
            };
            let Some(last) = memchr::memrchr(b'\n', read) else {
                rest.extend_from_slice(read);
                if rest.len() > LONGEST {
                    return Err(Error::input(format!("{} sent a line of over 16 MiB", self.address)));
                }
                continue;
            };
            let mut lines = Vec::new();
            for line in read[..=last].split_inclusive(|byte| *byte == b'\n') {
                if rest.is_empty() {
                    lines.push(text_of(line));
                } else {
                    rest.extend_from_slice(line);
                    lines.push(text_of(&rest));
                    rest.clear();
                }
            }
            rest.extend_from_slice(&read[last + 1..]);
            let mut lines = lines.into_iter().peekable();
            while lines.peek().is_some() {
                store.store_many(lines.by_ref().take(store.piece()).collect())?;
            }
        }
        Ok(())
    }
}

impl StreamingContext {
    /// The lines that come from `address` (host and port), connecting again, 2 s later, when the connection is lost.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] if that is no address.
    pub fn socket_text_stream(&self, address: impl Into<String>) -> Result<DStream<String>> {
        self.socket_text_stream_with(address, ReceiverOptions::default())
    }

    /// As [`socket_text_stream`](Self::socket_text_stream), supervised as `options` say.
    ///
    /// # Errors
    /// As [`socket_text_stream`](Self::socket_text_stream).
    pub fn socket_text_stream_with(
        &self,
        address: impl Into<String>,
        options: ReceiverOptions,
    ) -> Result<DStream<String>> {
        let address = address.into();
        if let Err(e) = address.to_socket_addrs()
            && e.kind() == ErrorKind::InvalidInput
        {
            return Err(Error::usage(format!("{address} is not an address: give HOST:PORT")).because(e));
        }
        Ok(self.receiver_stream_logged(Lines { address }, options))
    }
}
