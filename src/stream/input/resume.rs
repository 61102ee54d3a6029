//! How an input goes on where another life of the program stopped.
//!
//! Two things are known of it: its *position* after the batch of the last checkpoint, and for each batch after that one,
//! in the log, what the batch *took*. Those batches take the same again, so that they put out what they have put out
//! before; then it goes on live.

use crate::stream::journal::Journal;
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// See the module. All but [`receive`](Self::receive) and [`log_to`](Self::log_to) are called under the generation lock.
pub(crate) trait Resume {
    /// What the batch that was just made took; none: nothing, it failed. Can be had once.
    fn taken(&self) -> Option<Vec<u8>>;

    /// The next batch takes this.
    fn retake(&self, taken: Option<Vec<u8>>);

    /// Where it stands.
    fn position(&self) -> Result<Vec<u8>>;

    /// It stood here, with this limit of records per second; it was not started.
    fn restore(&self, position: &[u8], limit: Option<u64>) -> Result<()>;

    /// A checkpoint holds batch `k`: what came up to then will not be asked for again. On any thread.
    fn saved(&self, _k: u64) -> Result<()> {
        Ok(())
    }

    /// A checkpoint is kept: whatever can only be had once goes to this log, under this number.
    fn log_to(&self, _journal: &Arc<Journal>, _input: u32) {}

    /// What it has logged, in order.
    fn receive(&self, _number: u64, _bytes: &[u8]) -> Result<()> {
        Err(Error::data("the log holds records of an input that logs none"))
    }
}

/// What an input wants to know again, as bytes.
pub(crate) fn to_bytes(what: &impl Serialize) -> Result<Vec<u8>> {
    postcard::to_stdvec(what).map_err(|e| Error::data(format!("the position of an input cannot be written: {e}")))
}

/// The same, read back.
pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|e| Error::data(format!("the position of an input cannot be read: {e}")))
}

/// Batches that take again what they took, and what the last one took.
#[derive(Debug, Default)]
pub(crate) struct Takes {
    /// Inside: none if the batch had failed.
    again: Option<Option<Vec<u8>>>,
    taken: Option<Vec<u8>>,
}

impl Takes {
    /// What the batch that is being made has to take; none if it is live.
    pub(crate) fn again(&mut self) -> Option<Option<Vec<u8>>> {
        self.again.take()
    }

    pub(crate) fn retake(&mut self, taken: Option<Vec<u8>>) {
        self.again = Some(taken);
    }

    pub(crate) fn note(&mut self, taken: &impl Serialize) -> Result<()> {
        self.taken = Some(to_bytes(taken)?);
        Ok(())
    }

    pub(crate) fn taken(&mut self) -> Option<Vec<u8>> {
        self.taken.take()
    }
}
