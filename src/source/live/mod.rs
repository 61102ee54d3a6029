//! Inputs without an end: files that grow and are rotated, standard input, sockets; and the pace of a replay.
//!
//! A live input is one more kind of [`Reader`](super::Reader). Its blocks are cut by time instead of amounts: what has come is
//! handed out ten times a second, or when it makes a full block. When it has nothing to hand out, the run reduces what it
//! has, hands out the windows that have closed, and only then waits.
//!
//! What depends on the clock on the wall is decided here and travels with the blocks ([`Arrival`]): when they came, and
//! which input has fallen silent. So a run over the same arrivals gives the same answer.

mod content;
mod copies;
#[cfg(test)]
mod copy_tests;
mod files;
mod hint;
mod pace;
mod pipes;
mod position;
mod reader;
mod received;
#[cfg(test)]
mod script;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wait_tests;

pub(crate) use pace::Paced;
pub use position::{Fingerprint, Position};
pub(crate) use reader::LiveReader;
pub(crate) use received::Journal;
#[doc(hidden)]
pub use received::rewritten;
#[cfg(test)]
pub(crate) use received::text_bytes;
#[cfg(test)]
pub(crate) use script::Script;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How a query reads input that has no end, or an end that is replayed at a pace.
///
/// ```no_run
/// use windrow::query::{Query, Window};
/// use windrow::source::Live;
///
/// # fn main() -> windrow::Result<()> {
/// let live = Live::new().follow(true);
/// let stop = live.stop_flag(); // set it to end the run
/// let rows = Query::files(["/var/log/nginx/access.log*"])
///     .key("status")
///     .window(Window::parse("1m", None, None)?)
///     .live(live)
///     .run()?;
/// for batch in rows {
///     println!("{:?}", batch?); // as soon as a window closes
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Live {
    pub(crate) follow: bool,
    pub(crate) listen: Option<Arc<TcpListener>>,
    pub(crate) speed: Option<f64>,
    pub(crate) idle: Duration,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) keep_open: bool,
    pub(crate) positions: Vec<Position>,
    /// What the fields were found out from before, and are again.
    pub(crate) sample: Option<Sample>,
    /// Where what cannot be read again is written down.
    pub(crate) journal: Option<Arc<dyn Journal>>,
    #[cfg(test)]
    pub(crate) script: Script,
}

/// The first lines of an input, and its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) lines: Vec<u8>,
    /// As text, whatever bytes it has.
    pub(crate) path: Option<String>,
}

impl Default for Live {
    fn default() -> Live {
        Live::new()
    }
}

impl Live {
    /// How late records may be if the query does not say: 10 s, in microseconds.
    pub const LATENESS: i64 = 10_000_000;

    /// Inputs that are read to their end.
    pub fn new() -> Live {
        Live {
            follow: false,
            listen: None,
            speed: None,
            idle: Duration::from_secs(10),
            stop: Arc::default(),
            keep_open: false,
            positions: Vec::new(),
            sample: None,
            journal: None,
            #[cfg(test)]
            script: Script::default(),
        }
    }

    /// Whether files are followed beyond their end and patterns beyond the files that match now; standard input is read
    /// as it comes.
    #[must_use]
    pub fn follow(mut self, follow: bool) -> Live {
        self.follow = follow;
        self
    }

    /// Takes connections at `address` (host and port; port 0: any that is free) and reads lines from them. Each connection
    /// is an input of its own. It is listening when this returns.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for what is no address, [`crate::ErrorKind::Input`] for one that cannot be had.
    pub fn listen(mut self, address: &str) -> Result<Live> {
        let listener = TcpListener::bind(address).and_then(|l| l.set_nonblocking(true).map(|()| l));
        let listener = listener.map_err(|e| {
            let kind = e.kind();
            let message = format!("cannot listen at {address:?}; give HOST:PORT, such as 127.0.0.1:5140");
            let wrong = kind == std::io::ErrorKind::InvalidInput;
            if wrong { Error::usage(message).because(e) } else { Error::input(message).because(e) }
        })?;
        self.listen = Some(Arc::new(listener));
        Ok(self)
    }

    /// Where it listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listen.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Hands records out at `speed` times the pace of their own times: 1 as they came, 60 a minute in a second. Default: as
    /// fast as they can be read.
    ///
    /// # Errors
    /// A speed that is not positive.
    pub fn speed(mut self, speed: f64) -> Result<Live> {
        if !(speed.is_finite() && speed > 0.0) {
            return Err(Error::usage("the speed must be a number greater than zero"));
        }
        self.speed = Some(speed);
        Ok(self)
    }

    /// An input that has had nothing new for so long holds no window open (default 10 s).
    #[must_use]
    pub fn idle(mut self, idle: Duration) -> Live {
        self.idle = idle;
        self
    }

    /// Ends the run when it is set: what was read is counted, and the windows that are open are handed out
    /// ([`Rows::partial`](crate::query::Rows::partial) tells how many).
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Whether a stopped run leaves the windows that are open where they are, because their state is saved.
    #[must_use]
    pub fn keep_open(mut self, keep: bool) -> Live {
        self.keep_open = keep;
        self
    }

    /// Goes on behind these positions of an earlier run ([`Rows::positions`](crate::query::Rows::positions)).
    #[must_use]
    pub fn from_positions(mut self, positions: Vec<Position>) -> Live {
        self.positions = positions;
        self
    }

    /// Whether there are inputs without an end.
    pub(crate) fn is_endless(&self) -> bool {
        self.follow || self.listen.is_some()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// How a block came, beside its records.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// The clock on the wall when it came, microseconds since the epoch.
    pub(crate) at: i64,
    /// The name of its file.
    pub(crate) path: Option<Arc<Path>>,
    /// How far its text has been read with it.
    pub(crate) position: Option<Position>,
    /// How many entries of the journal have been read with it.
    pub(crate) logged: Option<u64>,
    /// There are records.
    pub(crate) records: bool,
    pub(crate) event: Event,
}

impl Arrival {
    /// Nothing but that it came at `at`.
    fn at(at: i64) -> Arrival {
        Arrival { at, path: None, position: None, logged: None, records: false, event: Event::None }
    }
}

/// What an input does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Event {
    /// It goes on.
    None,
    /// A new one begins under this number.
    Begins,
    /// It has fallen silent, or ended.
    Silent,
}
