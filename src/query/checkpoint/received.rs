//! The log of what came by standard input and connections, in the folder of the checkpoints: `DIR/received`.
//!
//! A checkpoint says how many entries it counts. What the one before it counts is removed when it is complete: a damaged
//! checkpoint falls back to that one.

use crate::Result;
use crate::checkpoint::{Handle, Log, LogOptions};
use crate::source::live::Journal;
use crate::store::disk::Disk;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of a segment: it is read whole when a run goes on.
const SEGMENT: u64 = 16 << 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Received {
    state: Mutex<State>,
    inputs: usize,
}

#[derive(Debug)]
struct State {
    log: Log,
    /// Entries that the last checkpoint does not count.
    again: VecDeque<Handle>,
    /// Entries were taken that may not outlive a crash.
    is_open: bool,
    /// How many entries the last checkpoint counts.
    counted: u64,
}

impl Received {
    /// Opens the log in the folder `dir` of checkpoints, of which the last counts `counted` entries of `inputs` inputs.
    ///
    /// # Errors
    /// Those of the disk; damage, unless it may be skipped.
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, skip: bool, counted: u64, inputs: usize) -> Result<Received> {
        let options = LogOptions::default().bytes(SEGMENT).skip_damaged(skip);
        let mut again = VecDeque::new();
        let log = Log::open(disk, dir.join("received"), options, counted, |handle, _| {
            again.push_back(handle.clone());
            Ok(())
        })?;
        Ok(Received { state: Mutex::new(State { log, again, is_open: false, counted }), inputs })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries that damage has taken.
    pub(super) fn lost(&self) -> u64 {
        self.lock().log.lost()
    }

    /// A checkpoint that counts entries up to `counted` is complete.
    pub(super) fn counted(&self, counted: u64) {
        let mut state = self.lock();
        let before = std::mem::replace(&mut state.counted, counted);
        state.log.clean(u64::MAX, before);
    }

    /// The run has ended, and all checkpoints say so.
    pub(super) fn ended(&self) {
        self.lock().log.clear();
    }
}

impl Journal for Received {
    fn again(&self) -> Result<Option<(u64, Vec<u8>)>> {
        let mut state = self.lock();
        let Some(handle) = state.again.pop_front() else { return Ok(None) };
        Ok(Some((handle.number + 1, state.log.read(&handle)?)))
    }

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn append(&self, entry: &[u8]) -> Result<u64> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        let mut state = self.lock();
        state.is_open = true;
        Ok(state.log.append(u64::try_from(since).unwrap_or(u64::MAX), entry)?.number + 1)
    }

    fn commit(&self) -> Result<()> {
        let mut state = self.lock();
        if std::mem::take(&mut state.is_open) {
            state.log.commit()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory_disk::MemoryDisk;

    fn open(disk: &MemoryDisk, counted: u64) -> Received {
        Received::open(Arc::new(disk.clone()), Path::new("/d"), false, counted, 0).unwrap()
    }

    fn all(received: &Received) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| received.again().unwrap()).collect()
    }

    /// What a checkpoint counts is had again if that checkpoint turns out to be damaged.
    #[test]
    fn entries_stay_until_two_checkpoints_count_them() {
        let disk = MemoryDisk::new("/d");
        let entry = |n: u64| vec![n as u8; 6 << 20];
        let received = open(&disk, 0);
        assert_eq!(all(&received), []);
        for n in 0..12 {
            assert_eq!(received.append(&entry(n)).unwrap(), n + 1);
            received.commit().unwrap();
        }
        received.counted(6);
        assert_eq!(all(&open(&disk, 0)).len(), 12);
        received.counted(9);
        let segments = disk.files().len();
        assert_eq!(all(&open(&disk, 6)), (6..12).map(|n| (n + 1, entry(n))).collect::<Vec<_>>());
        received.counted(12);
        assert!(disk.files().len() < segments);
        // A run that goes on numbers its entries behind those before it.
        drop(received);
        let received = open(&disk, 12);
        assert_eq!(all(&received), []);
        assert_eq!(received.append(&entry(12)).unwrap(), 13);
        received.commit().unwrap();
        received.ended();
        assert_eq!(disk.files(), Vec::<std::path::PathBuf>::new());
    }

    #[test]
    fn what_was_not_committed_is_not_had_again() {
        let disk = MemoryDisk::new("/d");
        let received = open(&disk, 0);
        received.append(b"one").unwrap();
        received.commit().unwrap();
        received.append(b"two").unwrap();
        assert_eq!(all(&open(&disk, 0)), [(1, b"one".to_vec())]);
    }
}
