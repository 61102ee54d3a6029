//! What tests do to live input while a run reads it: what comes is given by the test, and it has an end.

use super::pipes::Pipe;
use crate::Result;
use std::collections::VecDeque;
use std::fmt;
use std::io::Read;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

/// What is done when a run has nothing to read: `false` if that is the end.
type Dry = dyn Fn() -> bool + Send + Sync;

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Script {
    /// In place of standard input.
    pub(crate) stdin: Arc<Mutex<VecDeque<Box<dyn Read + Send>>>>,
    /// In place of connections.
    pub(crate) connections: Arc<Mutex<VecDeque<Box<dyn Read + Send>>>>,
    pub(crate) dry: Option<Arc<Dry>>,
    /// What is done when a run has read all that came, and is not stopped.
    pub(crate) ended: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").finish_non_exhaustive()
    }
}

impl Script {
    /// What is read as input number `input` in place of standard input, if the script says so.
    pub(super) fn stdin(&self, input: usize) -> Option<Result<Pipe>> {
        let from = self.stdin.lock().unwrap().pop_front()?;
        Some(Pipe::start(input, from, None, Arc::new(AtomicUsize::new(1))))
    }

    /// The next connection.
    pub(super) fn connect(&self, input: impl FnOnce() -> usize) -> Option<Result<Pipe>> {
        let from = self.connections.lock().unwrap().pop_front()?;
        Some(Pipe::start(input(), from, None, Arc::new(AtomicUsize::new(1))))
    }

    /// Whether more connections come.
    pub(crate) fn connects(&self) -> bool {
        !self.connections.lock().unwrap().is_empty()
    }
}
