//! Checkpoints of a query: the state of its partitions, how far the input was read, and what was counted.
//!
//! A checkpoint begins between two rounds of the input's blocks. What was counted by then, and the position of the input,
//! is noted at once; the partitions are saved one after the other between the rounds that follow, some milliseconds of
//! them at a time, each with the number of the last block that it has taken. So nothing stops while a large state is
//! saved, and nothing is copied: a run that is taken up again reads from the noted position on, and each partition leaves
//! out the blocks that it had taken already. Partitions that were spilled are not saved: their pieces are in files
//! already, which move into the folder and are read up to the noted position. Packing, writing and syncing is done by a
//! thread of its own.
//!
//! Everything is numbered by the input: tasks and blocks come in the same order in every run, cut alike, whatever the
//! number of threads. A cell is the left fold of its blocks' parts, so one that was saved and loaded between two of them
//! comes to the same bits.
//!
//! With a lateness bound everything is of one moment instead: what was judged, what was handed out, how long the outputs
//! are. Partitions are saved some at a time all the same: what comes meanwhile waits for those that are not saved yet
//! ([`held`](super::held)), and windows that close meanwhile are handed out when all are saved. That delays them by as long as
//! saving takes, with the rounds in between some two to three times as long as saving everything in one go; if more waits than
//! there is room for, what is left is saved in one go.
//! Cells of panes that have closed but are in windows to come are kept as they were before sliding folded them together.
//!
//! Followed files are taken up behind the positions that belong to that moment; what has closed stays closed, and the clocks of the
//! inputs, found again by their names, go on. A run that is stopped is saved at once and whole.
//!
//! What comes by standard input or a connection cannot be read again: it is in a log before it is counted, and what the last
//! checkpoint does not count is had from there, as it came then. What a process has received and not logged when it is killed (up
//! to 4 MiB of standard input, 16 MiB of all connections) is lost with it: neither tells its sender how much that is. A run that
//! is stopped logs and counts it first.
//!
//! Which test shows which of the collected scenarios of recovery, and why some do not apply: [`crate::checkpoint`].
//!
//! Cost: the state is saved whole every time, about 1 GB/s a core. A checkpoint that took long makes the next one wait
//! longer than was asked for, so that all of them together take a twentieth of the run at most.
//!
//! # Known limitation
//! A partition is saved in one go: with very many cells, more than some 2 million in one partition, that holds a round up
//! for longer than 50 ms. One run does not both follow files and take standard input or connections: the order in which files
//! and what is logged came is not written down.

mod identity;
#[cfg(test)]
mod live_tests;
mod received;
mod saved;
mod saver;
#[cfg(test)]
mod tests;
mod writing;

pub(super) use saved::{Counted, Saved};
pub(super) use saver::{Now, Saver};

use crate::Result;
use crate::store::disk::{Disk, OsDisk};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How often checkpoints are made if nothing is said.
const EVERY: Duration = Duration::from_secs(10);

/// Where and how often the state of a run is saved, for [`Query::checkpoint`](super::Query::checkpoint).
#[derive(Debug, Clone)]
pub struct Checkpoint {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) every: Duration,
    pub(super) facts: Vec<(String, String)>,
    pub(super) sides: Vec<Arc<dyn Side>>,
    pub(super) skip_damaged: bool,
    /// How many blocks have waited for partitions to be saved, and how often there was no room for more.
    #[cfg(test)]
    pub(super) waited: Arc<[std::sync::atomic::AtomicU64; 2]>,
}

impl Checkpoint {
    /// In the folder `dir`, which is created if its parent exists, every 10 seconds.
    pub fn new(dir: impl Into<PathBuf>) -> Checkpoint {
        Checkpoint {
            disk: Arc::new(OsDisk),
            dir: dir.into(),
            every: EVERY,
            facts: Vec::new(),
            sides: Vec::new(),
            skip_damaged: false,
            #[cfg(test)]
            waited: Arc::default(),
        }
    }

    /// The time from one checkpoint to the beginning of the next, at least; longer if that would take more than a twentieth of
    /// the run, unless it is zero.
    #[must_use]
    pub fn every(mut self, every: Duration) -> Checkpoint {
        self.every = every;
        self
    }

    /// What else must be the same when the run is taken up again, such as where the rows go.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, text: impl Into<String>) -> Checkpoint {
        self.facts.push((name.into(), text.into()));
        self
    }

    /// An output that is written while the input is read: beside the rows, or with [a bound of lateness](super::Query::lateness)
    /// the rows themselves. They are told apart by their order.
    #[must_use]
    pub fn side(mut self, side: Arc<dyn Side>) -> Checkpoint {
        self.sides.push(side);
        self
    }

    /// Whether a run goes on where the log of what came by standard input and connections is damaged: what is lost is said
    /// ([`Rows::notes`](super::Rows::notes)). Default: that is an error.
    #[must_use]
    pub fn skip_damaged(mut self, skip: bool) -> Checkpoint {
        self.skip_damaged = skip;
        self
    }

    /// On another disk than the system's.
    #[must_use]
    pub fn on(mut self, disk: Arc<dyn Disk>) -> Checkpoint {
        self.disk = disk;
        self
    }
}

/// An output that is written while the input is read, and cut back when the run is taken up again.
pub trait Side: Debug + Send + Sync {
    /// Hands everything to the system and says where the output ends now, as bytes for [`rewind`](Self::rewind).
    ///
    /// # Errors
    /// Those of the output.
    fn position(&self) -> Result<Vec<u8>>;

    /// Waits until what was handed over outlives a crash. Called from another thread.
    ///
    /// # Errors
    /// Those of the output.
    fn sync(&self) -> Result<()>;

    /// A checkpoint that holds this position is complete: what lies before it is not written again. Called from another thread.
    ///
    /// # Errors
    /// Those of the output.
    fn committed(&self, position: &[u8]) -> Result<()> {
        let _ = position;
        Ok(())
    }

    /// Cuts the output back to `position`; to nothing (`None`) when a run begins.
    ///
    /// # Errors
    /// Those of the output, and if it is shorter than that.
    fn rewind(&self, position: Option<&[u8]>) -> Result<()>;
}
