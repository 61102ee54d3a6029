//! Where records come from: files, pipes, Parquet, record batches in memory.
//!
//! Every source is cut into *blocks* by amounts of input counted from its start (4 MiB of decompressed text, 65,536
//! rows): the cut decides how partial sums of floats associate, so it must not depend on threads, on how a pipe
//! delivers, or on compression. Only live inputs are cut by time. A `Reader` hands out
//! `Task`s in the order of the input; tasks run on any thread and hand over whole blocks, or, where a unit of decoding ends
//! inside a block, the block's parts.

pub(crate) mod batches;
mod cut;
mod files;
pub(crate) mod live;
pub(crate) mod merge;
pub(crate) mod parquet;
mod quoted;
pub(crate) mod text;
pub(crate) mod times;

pub use files::expand;
pub(crate) use files::{InputFile, Magic};
#[doc(hidden)]
pub use live::rewritten;
pub use live::{Fingerprint, Live, Position};

use crate::query::map::Piece;
use crate::{Result, format::BadRecord};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Text per block, bytes of decompressed input.
pub(crate) const BLOCK_BYTES: u64 = 4 << 20;
/// Rows per block of columnar input.
pub(crate) const BLOCK_ROWS: usize = if cfg!(test) { 16 } else { 65_536 };

/// Where a part of a block lies in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A whole block.
    Whole,
    /// Goes on where the task before ended. If a task has a head and no tail of the same block, the head ends it.
    Head,
    /// The next task goes on with this block.
    Tail,
    /// Goes on where the task before ended, and the next task goes on with it: the whole task is inside one block.
    Middle,
}

/// What a task has to say beside its rows.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Number of the input the task read.
    pub(crate) input: usize,
    /// Lines (or rows) that it covers, to number those of later tasks.
    pub(crate) lines: u64,
    /// Bytes of input taken, decompressed.
    pub(crate) bytes: u64,
    /// Records that do not parse. `start` is an offset in the decompressed input.
    pub(crate) bad: Vec<BadRecord>,
    /// The bad records' bytes, if they are to be kept.
    pub(crate) bad_bytes: Vec<Vec<u8>>,
    /// Values that became null.
    pub(crate) cast_failed: u64,
    /// The input has no further task.
    pub(crate) ended: bool,
    /// How it came, if the input is live. Inputs may then come up that there were not before.
    pub(crate) arrival: Option<Box<live::Arrival>>,
}

/// A unit of map work.
pub(crate) trait Task: Send + Sync {
    /// Decodes and hands over the blocks, in order.
    fn run(&self, each: &mut dyn FnMut(Cut, Vec<Piece>) -> Result<()>) -> Result<Report>;

    /// The same blocks once more, if that is better than to keep them decoded; it counts no progress.
    fn again(&self) -> Option<Arc<dyn Task>> {
        None
    }

    /// The time of one of the first records, if there is one.
    fn first_time(&self) -> Result<Option<i64>> {
        Ok(None)
    }
}

/// An opened source.
pub(crate) trait Reader: Send {
    /// The next tasks, at most `most`; none at the end of the input, or of what there is now.
    fn tasks(&mut self, most: usize) -> Result<Vec<Box<dyn Task>>>;

    /// Waits a moment where there were no tasks. Returns false if there will be none.
    fn wait(&mut self) -> Result<bool> {
        Ok(false)
    }

    /// The times of the first records of each input that there is, as far as they are known, if inputs are live.
    fn first_times(&mut self) -> Result<Vec<Option<i64>>> {
        Ok(Vec::new())
    }

    /// How many tasks make a round of work for `threads` workers: enough to be worth a look at every partition.
    fn round(&self, threads: usize) -> usize {
        16 * threads
    }

    /// A reader for each input, instead of this one; none if there is one input only.
    fn split(&mut self) -> Vec<Box<dyn Reader>> {
        Vec::new()
    }

    /// The time of one of the first records of an input that was not begun, if there is one.
    fn first_time(&mut self) -> Result<Option<i64>> {
        Ok(None)
    }

    /// Leaves the next `tasks` tasks out, which a run before this one has done.
    fn skip(&mut self, mut tasks: u64) -> Result<()> {
        while tasks > 0 {
            let skipped = self.tasks(tasks.min(64) as usize)?.len() as u64;
            if skipped == 0 {
                return Err(crate::Error::input("the input has fewer records than when the checkpoint was made"));
            }
            tasks -= skipped;
        }
        Ok(())
    }

    /// What the records have had so far.
    fn seen(&self) -> Arc<Seen> {
        Arc::default()
    }

    /// About how many bytes of memory a task takes once it is decoded.
    fn task_bytes(&self) -> usize {
        2 * BLOCK_BYTES as usize
    }

    /// Called once after the last task: what only the whole input can tell.
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What the records have had so far, for fields that perhaps none has.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Whether there was a good record.
    pub(crate) any: AtomicBool,
    /// For each column whether it had a value, or need not have one.
    pub(crate) columns: Vec<AtomicBool>,
    /// The columns that must have a value, by their names.
    must: Vec<Option<String>>,
}

impl Seen {
    /// Nothing yet; `must` names, at their columns, the fields that must occur in some record.
    pub(crate) fn new(must: Vec<Option<String>>) -> Seen {
        let columns = must.iter().map(|name| AtomicBool::new(name.is_none())).collect();
        Seen { any: AtomicBool::new(false), columns, must }
    }

    /// Judges the whole input.
    ///
    /// # Errors
    /// A field that no record had.
    pub(crate) fn check(&self) -> Result<()> {
        for (name, seen) in self.must.iter().zip(&self.columns) {
            if let Some(name) = name
                && self.any.load(Ordering::Relaxed)
                && !seen.load(Ordering::Relaxed)
            {
                return Err(crate::Error::usage(format!("no record of the input has a field {name:?}")));
            }
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &AtomicBool> {
        std::iter::once(&self.any).chain(&self.columns)
    }

    /// As plain values.
    pub(crate) fn save(&self) -> Vec<bool> {
        self.all().map(|seen| seen.load(Ordering::Relaxed)).collect()
    }

    /// Adds what was [saved](Self::save).
    pub(crate) fn add(&self, saved: &[bool]) {
        self.all().zip(saved).filter(|(_, had)| **had).for_each(|(seen, _)| seen.store(true, Ordering::Relaxed));
    }
}

/// How far a run is; read by whoever shows progress.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes of the input files, compressed as they stand, or 0 if unknown (pipes).
    pub bytes_total: AtomicU64,
    /// Bytes of them that were read.
    pub bytes_done: AtomicU64,
    /// Records decoded.
    pub records: AtomicU64,
    /// Windows that hold a record, once known.
    pub windows_total: AtomicU64,
    /// Windows handed out.
    pub windows_done: AtomicU64,
    /// Set by whoever wants the run to end early, for example at a signal: it then ends with an error and cleans up.
    pub stop: Arc<AtomicBool>,
}

impl Progress {
    /// Whether somebody wants the run to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether the run is to go on.
    pub(crate) fn go_on(&self) -> Result<()> {
        if self.is_stopped() {
            return Err(crate::Error::new(crate::ErrorKind::Io, "stopped before the end of the input"));
        }
        Ok(())
    }
}

/// A place that a bad record is reported with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPlace {
    /// The file, `None` for standard input and data from memory.
    pub file: Option<PathBuf>,
    /// Line (row) number, from 1.
    pub line: u64,
    /// Byte offset of the line in the decompressed input.
    pub offset: u64,
    /// What is wrong.
    pub reason: &'static str,
}

/// Options of reading that are the same for all formats.
#[derive(Clone)]
pub(crate) struct ReadOptions {
    pub(crate) max_record: usize,
    pub(crate) keep_bad: bool,
    pub(crate) keep_late: bool,
    /// Tasks that would take more memory than this are cut, where that is possible.
    pub(crate) task_bytes: usize,
    pub(crate) progress: Arc<Progress>,
    /// How far files are read that may have grown since the run began.
    pub(crate) lengths: Arc<Vec<(PathBuf, u64)>>,
}
