//! The write-ahead log of a context: what each batch took from its inputs, and records that can only be had once.
//!
//! ```text
//! entry of a batch       u8 = 0, u64 its number, postcard: for each input what it took
//! records of a receiver  u8 = 1, u32 the input's number, the records by their codec, one behind the other
//! ```
//!
//! One log for both, so that an entry of a batch that has outlived a crash stands behind the records that the batch took.
//! Threads that wait for their records to be safe are helped by whoever syncs first (group commit). What goes wrong is
//! said once, in full, to everybody who comes after.

use super::clock::Clock;
use super::scheduler::lock;
use crate::checkpoint::{Log, LogOptions};
use crate::store::disk::Disk;
use crate::{Error, ErrorKind, Result};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

const BATCH: u8 = 0;
const RECORDS: u8 = 1;

/// What the inputs took for a batch, in their order.
pub(crate) type Taken = Vec<Option<Vec<u8>>>;

/// An entry of the log.
pub(crate) enum Entry<'a> {
    Batch(u64, Taken),
    Records(u32, &'a [u8]),
}

/// See the module.
pub(crate) struct Journal {
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    log: Log,
    /// Entries with smaller numbers outlive a crash.
    safe: u64,
    failed: Option<(ErrorKind, String)>,
}

impl State {
    fn run<R>(&mut self, f: impl FnOnce(&mut Log) -> Result<R>) -> Result<R> {
        if let Some((kind, what)) = &self.failed {
            return Err(Error::new(*kind, what.clone()));
        }
        f(&mut self.log).inspect_err(|error| self.failed = Some((error.kind(), error.to_string())))
    }
}

fn decode(bytes: &[u8]) -> Option<Entry<'_>> {
    let (kind, rest) = bytes.split_first()?;
    match *kind {
        BATCH => {
            let (k, rest) = rest.split_first_chunk()?;
            Some(Entry::Batch(u64::from_le_bytes(*k), postcard::from_bytes(rest).ok()?))
        }
        RECORDS => {
            let (input, records) = rest.split_first_chunk()?;
            Some(Entry::Records(u32::from_le_bytes(*input), records))
        }
        _ => None,
    }
}

impl Journal {
    /// Opens the log in `dir` and hands over its entries from number `from` on.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: LogOptions,
        clock: Clock,
        from: u64,
        mut each: impl FnMut(u64, Entry<'_>) -> Result<()>,
    ) -> Result<Journal> {
        let unknown =
            |dir: &PathBuf| Error::new(ErrorKind::Io, "the log holds what this version does not know").in_file(dir);
        let log = Log::open(disk, dir.clone(), options, from, |handle, bytes| {
            each(handle.number, decode(bytes).ok_or_else(|| unknown(&dir))?)
        })?;
        let safe = log.next();
        Ok(Journal { clock, state: Mutex::new(State { log, safe, failed: None }) })
    }

    /// The number that the next entry will have.
    pub(crate) fn next(&self) -> u64 {
        lock(&self.state).log.next()
    }

    /// Entries that damage has taken.
    pub(crate) fn lost(&self) -> u64 {
        lock(&self.state).log.lost()
    }

    fn append(&self, bytes: &[u8]) -> Result<u64> {
        let now = self.clock.now() / 1000;
        lock(&self.state).run(|log| log.append(now, bytes)).map(|handle| handle.number)
    }

    /// Takes what a batch took; gives the entry's number.
    pub(crate) fn batch(&self, k: u64, taken: &Taken) -> Result<u64> {
        let mut bytes = vec![BATCH];
        bytes.extend_from_slice(&k.to_le_bytes());
        bytes.extend_from_slice(&super::input::to_bytes(taken)?);
        self.append(&bytes)
    }

    /// Takes records, which `encode` appends to what it is given; gives the entry's number.
    pub(crate) fn records(&self, input: u32, encode: impl FnOnce(&mut Vec<u8>) -> Result<()>) -> Result<u64> {
        let mut bytes = vec![RECORDS];
        bytes.extend_from_slice(&input.to_le_bytes());
        encode(&mut bytes)?;
        self.append(&bytes)
    }

    /// Waits until the entry `number` outlives a crash.
    pub(crate) fn commit(&self, number: u64) -> Result<()> {
        let mut state = lock(&self.state);
        if number < state.safe {
            return Ok(());
        }
        state.run(Log::commit)?;
        state.safe = state.log.next();
        Ok(())
    }

    /// Entries before `needed` will not be asked for again.
    pub(crate) fn clean(&self, needed: u64) {
        lock(&self.state).log.clean(u64::MAX, needed);
    }
}
