//! State beyond memory: partitions that do not fit leave as pieces through the shuffle and are worked later, some at a time.
//!
//! While the input is read, partitions share a third of the memory or more; when they have outgrown it, those of the
//! greatest hashes are evicted: what they had folded is written down ([`cells`]), and from then on their part of every
//! block is written instead of folded, as early as possible: where the block is mapped. After the last record they are
//! read back, as many at a time as fit, in the order of their hashes, one that alone does not fit by further bits of them
//! ([`waves`]). Each of these *waves* hands out rows in the order of the windows; with more than one window all waves but
//! the last go through a file each, and are merged with it and with the partitions that stayed ([`merge`]).
//!
//! All are evicted where keys are too many for the caches and hardly repeat: to look each of them up in a table that is
//! not in the cache takes longer than to bring all of one partition together first. Then pieces stay in memory as long
//! as it is plenty.
//!
//! Invariant: pieces carry numbers that ascend with the input, so every cell is the same fold as in memory, and the rows
//! that leave are the same to the bit, whatever the limit.
//!
//! Cost: a spilled record is packed, written, read and unpacked once, its rows likewise if there are many windows.

mod blame;
pub(super) mod cells;
#[cfg(test)]
mod damage;
mod merge;
pub(super) mod rows;
mod waves;

pub(crate) use waves::Waves;

use super::keys::KeyRows;
use super::map::Mapped;
use super::partitioning::MOST_PARTITION_BITS;
use super::plan::Plan;
use super::reduce::Partition;
use crate::memory::Budget;
use crate::shuffle::{Options, Reader, Writer, Writers, Written};
use crate::store::block::Content;
use crate::store::disk::{Disk, OsDisk};
use crate::store::segment::Segment;
use crate::store::spill_dir::SpillDir;
use crate::{Error, ErrorKind, Result};
use cells::Pieces;
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How the memory of a run is shared out, bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    /// Partitions while the input is read.
    pub(crate) state: usize,
    /// Pieces that wait to be written, all workers together.
    pub(crate) pieces: usize,
    /// Tasks, from decoding to the blocks that wait for their turn.
    pub(crate) blocks: usize,
    /// Partitions of a wave, with what hands out their rows.
    pub(crate) wave: usize,
    /// Blocks of rows of all waves but one, while they are merged.
    pub(crate) merge: usize,
}

impl Shares {
    /// Of a limit.
    pub(crate) fn of(limit: usize) -> Shares {
        let percent = |n: usize| limit / 100 * n;
        if cfg!(test) {
            // So that tests go through all of it: partitions are evicted early, from the start if the limit is low.
            let (state, merge) = (percent(1) / 8, percent(1));
            return Shares { state, pieces: percent(1), blocks: 64 * limit, wave: 64 * limit, merge };
        }
        // What tasks take does not grow with the limit.
        let (state, wave) = if limit < SHORT { (percent(32), percent(36)) } else { (percent(50), percent(30)) };
        // At first blocks wait while the partitions have all they may have, and the least of the rest is a large part.
        let blocks = match limit {
            ..TIGHT => percent(16),
            TIGHT..ROOMY => percent(28),
            ROOMY.. => percent(40).min(1 << 30),
        };
        let (pieces, merge) = (percent(8).min(256 << 20), percent(8).min(256 << 20));
        Shares { state, pieces, blocks, wave, merge }
    }
}

/// See the module.
pub(crate) struct Spill {
    base: PathBuf,
    disk: Arc<dyn Disk>,
    budget: Budget,
    shares: Shares,
    /// The share of blocks that wait.
    blocks: Budget,
    threads: usize,
    /// There is one window: rows leave partition by partition, in no other order.
    whole: bool,
    /// Made when it is needed.
    files: OnceLock<Files>,
    /// Partitions from this one on are written.
    resident: AtomicUsize,
    partitions: AtomicUsize,
    /// The number of the last block that was folded.
    folded: AtomicU64,
    /// Files of pieces that outlive the run, and up to which number theirs count.
    kept: Mutex<Vec<(Segment, u64)>>,
    /// Up to which block each partition had taken everything when the run was taken up again.
    taken: Vec<u64>,
}

struct Files {
    dir: SpillDir,
    options: Options,
    writers: Writers,
}

/// Limits below this one leave less than half to what is held.
const TIGHT: usize = 128 << 20;

/// Limits from this one on leave room beside what is counted.
const ROOMY: usize = 512 << 20;

/// Limits from this one on are no shortage.
const SHORT: usize = 2 << 30;

/// Bytes that a written block of one partition should have at least.
const PIECES_BYTES: usize = 8 << 10;

/// Bytes of pieces that are gathered by partition at once where they stay in memory: no more than caches hold.
const LOOSE: usize = if cfg!(test) { 1 << 10 } else { 16 << 20 };

/// More than this makes blocks of pieces no better.
const HELD_ALONE: usize = 64 << 20;

/// Keys whose tables have outgrown the caches, whatever becomes of their rows.
const MANY_KEYS: usize = if cfg!(test) { 100 } else { 2 << 20 };

/// Keys of several windows that are not worth their tables while memory is short.
const TOO_MANY_KEYS: usize = 4 * MANY_KEYS;

/// Numbers of blocks within a task.
const TASK_BITS: u32 = 20;

/// The number of the pieces of a block; those of its task's first blocks come first.
pub(crate) fn sequence(task: u64, block: u64) -> u64 {
    (task << TASK_BITS) + 1 + block
}

/// The task of the block of this number.
pub(crate) fn task_of(sequence: u64) -> u64 {
    sequence.saturating_sub(1) >> TASK_BITS
}

impl Spill {
    /// Below `base`, for a run of `plan` within this budget. Nothing is created before it is needed.
    pub(crate) fn new(base: PathBuf, plan: &Plan, budget: Budget, threads: usize) -> Spill {
        let shares = Shares::of(budget.limit());
        let (resident, partitions) = (AtomicUsize::new(usize::MAX), AtomicUsize::new(0));
        let folded = AtomicU64::new(0);
        let blocks = budget.share(shares.blocks);
        let whole = !plan.has_bounds();
        Spill {
            base,
            disk: Arc::new(OsDisk),
            budget,
            shares,
            blocks,
            threads,
            whole,
            files: OnceLock::new(),
            resident,
            partitions,
            folded,
            kept: Mutex::default(),
            taken: Vec::new(),
        }
    }

    /// The same below `base` on another disk.
    pub(crate) fn on(self, (base, disk): (PathBuf, Arc<dyn Disk>)) -> Spill {
        Spill { base, disk, ..self }
    }

    /// Goes on where a checkpoint was made after block `done`: `kept` are the pieces of the partitions from `resident` on, of
    /// `partitions`; the others had taken the blocks up to `taken`.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn resume(
        &mut self,
        kept: Vec<(Segment, u64)>,
        (resident, partitions): (usize, usize),
        done: u64,
    ) -> Result<()> {
        self.files()?;
        self.resident = AtomicUsize::new(resident);
        self.partitions = AtomicUsize::new(partitions);
        self.folded = AtomicU64::new(done);
        self.kept = Mutex::new(kept);
        Ok(())
    }

    /// Each partition has taken the blocks up to these.
    pub(crate) fn skip(&mut self, taken: Vec<u64>) {
        self.taken = taken;
    }

    /// The writers with what was spilled since the last time; others go on in their place.
    pub(crate) fn roll(&self) -> Vec<Writer> {
        self.files.get().map(|files| files.writers.roll()).unwrap_or_default()
    }

    /// Takes back what [rolled](Self::roll) writers have written.
    pub(crate) fn keep(&self, segments: Vec<Segment>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.extend(segments.into_iter().map(|segment| (segment, u64::MAX)));
    }

    /// The names of the files that are kept, and up to which number theirs count in a checkpoint after block `done`.
    pub(crate) fn kept(&self, done: u64) -> Vec<(String, u64)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let name =
            |segment: &Segment| segment.path().file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        kept.iter().map(|(segment, upto)| (name(segment), done.min(*upto))).collect()
    }

    /// Whether memory is so short that it is likely to be needed.
    pub(crate) fn is_short(&self) -> bool {
        self.budget.limit() < SHORT
    }

    /// What blocks that wait for their turn lease from.
    pub(crate) fn blocks(&self) -> &Budget {
        &self.blocks
    }

    /// How the memory is shared out.
    pub(crate) fn shares(&self) -> Shares {
        self.shares
    }

    /// The files, made if there are none. Only one thread at a time asks for them before there are.
    fn files(&self) -> Result<&Files> {
        if self.files.get().is_none() {
            let dir = SpillDir::create_on(self.disk.clone(), &self.base)?;
            // How many partitions there are is known with the first block.
            let options = Options::new(1 << MOST_PARTITION_BITS);
            let options = options.spill(self.budget.clone(), self.held() / self.threads, dir.clone());
            let options = if self.stays() { options.gather(LOOSE) } else { options };
            let writers = Writers::new(&options, self.threads);
            let _ = self.files.set(Files { dir, options, writers });
        }
        self.files.get().ok_or_else(|| Error::new(ErrorKind::Io, "there are no spill files"))
    }

    /// The logarithm of how many partitions there should be where keys hardly repeat, if these are sorted out later: as
    /// many as leave blocks of some length.
    pub(crate) fn fine(&self) -> Option<u32> {
        let blocks = self.held_alone() / self.threads / PIECES_BYTES;
        self.whole.then(|| blocks.max(1).ilog2().clamp(MOST_PARTITION_BITS - 3, MOST_PARTITION_BITS))
    }

    /// Bytes of pieces that stay in memory: if that is plenty, in place of the partitions they are pieces of.
    fn held(&self) -> usize {
        if self.stays() { self.shares.state } else { self.shares.pieces }
    }

    /// The same once there are no partitions beside them: then they have some of their share, for longer blocks.
    fn held_alone(&self) -> usize {
        self.held().max((self.shares.state / 2 + self.shares.pieces).min(HELD_ALONE))
    }

    /// Whether pieces that never had to leave memory stay in it to the end.
    fn stays(&self) -> bool {
        self.whole && !self.is_short()
    }

    /// Whether anything was or will be written.
    pub(crate) fn is_used(&self) -> bool {
        self.files.get().is_some()
    }

    /// Partitions from this one on are written.
    pub(crate) fn resident(&self) -> usize {
        self.resident.load(Ordering::Acquire)
    }

    /// From now on every partition is written: there is no memory to hold any while blocks wait for their turn.
    ///
    /// # Errors
    /// If the files cannot be created.
    pub(crate) fn evict_all(&self) -> Result<()> {
        self.files()?.writers.widen(self.held_alone() / self.threads);
        self.resident.store(0, Ordering::Release);
        Ok(())
    }

    /// Writes the partitions `from..` of a block that came under the number `sequence`.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn write<K: KeyRows>(
        &self,
        plan: &Plan,
        block: &Mapped<K>,
        from: usize,
        to: usize,
        sequence: u64,
    ) -> Result<()> {
        if from >= to.min(block.partitions()) {
            return Ok(());
        }
        let mut pieces = Pieces::of(block);
        let files = self.files()?;
        self.partitions.fetch_max(block.partitions(), Ordering::Relaxed);
        let mut offsets = vec![0u32; files.options.partitions as usize + 1];
        for p in 0..block.partitions() {
            if (from..to).contains(&p) && self.taken.get(p).is_none_or(|taken| sequence > *taken) {
                cells::save_block(plan, block, p, &mut pieces);
            }
            offsets[p + 1] = pieces.len() as u32;
        }
        offsets[block.partitions() + 1..].fill(pieces.len() as u32);
        if pieces.len() == 0 {
            return Ok(());
        }
        let pushed = files.writers.own().push_grouped(Content::Partials, sequence, offsets, pieces.into_columns()?);
        pushed.map_err(|error| blame::of_block(plan, block, error))
    }

    /// Takes note of the number of a block that was folded.
    pub(crate) fn folded(&self, sequence: u64) {
        self.folded.fetch_max(sequence, Ordering::AcqRel);
    }

    /// Evicts as many of `partitions` as it takes for the others to fit, and those that are to be written anyway.
    /// `records` were folded into them so far.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn relieve<K: KeyRows>(
        &self,
        plan: &Plan,
        partitions: &mut Vec<Partition<K>>,
        records: u64,
    ) -> Result<()> {
        let mut used: usize = partitions.iter().map(Partition::bytes).sum();
        // Keys that miss the cache one by one and hardly repeat are better sorted out later, and together.
        let keys: usize = partitions.iter().map(|partition| partition.groups.len()).sum();
        let hardly_repeat = self.whole && records < 3 * keys as u64;
        let many =
            hardly_repeat && (keys > MANY_KEYS || used > self.shares.state) || self.is_short() && keys > TOO_MANY_KEYS;
        if used <= self.shares.state && !many && self.resident() >= partitions.len() {
            return Ok(());
        }
        if used <= self.shares.state && self.resident() >= partitions.len() && self.files().is_err() {
            // It would only be faster, and there is nowhere to go.
            return Ok(());
        }
        // Some more than it takes: evicting them one by one would be as much work with smaller blocks.
        let mut stay = if many { 0 } else { partitions.len().min(self.resident()) };
        partitions[stay..].iter().for_each(|partition| used -= partition.bytes());
        while stay > 0 && used > self.shares.state / 4 * 3 {
            stay -= 1;
            used -= partitions[stay].bytes();
        }
        let files = self.files()?;
        self.partitions.fetch_max(partitions.len(), Ordering::Relaxed);
        let sequence = self.folded.load(Ordering::Acquire);
        // It never rises: another thread may have evicted all of them meanwhile.
        self.resident.fetch_min(stay, Ordering::AcqRel);
        let evicted: Vec<(usize, Partition<K>)> = (stay..partitions.len()).zip(partitions.split_off(stay)).collect();
        evicted.into_par_iter().with_max_len(1).try_for_each(|(p, mut partition)| {
            let saved = cells::save_partition(&mut partition, |piece| files.push(p, sequence, piece));
            saved.map_err(|error| blame::of_partition(plan, &mut partition, error))
        })?;
        if stay == 0 {
            files.writers.widen(self.held_alone() / self.threads);
        }
        Ok(())
    }

    /// The last record is in: the pieces, the folder, and the number of partitions.
    fn finish(self) -> Result<(Reader, SpillDir, usize)> {
        self.files()?;
        let stays = self.stays();
        let none = || Error::new(ErrorKind::Io, "there are no spill files");
        let Files { dir, writers, options } = self.files.into_inner().ok_or_else(none)?;
        let kept = self.kept.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter();
        let kept = kept.map(|(segment, upto)| Written::kept(segment, options.partitions, upto)).collect();
        Ok((writers.finish(stays, kept)?, dir, self.partitions.into_inner()))
    }

    /// Bytes in the files so far.
    pub(crate) fn spilled_bytes(&self) -> u64 {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: u64 = kept.iter().map(|(segment, _)| segment.bytes()).sum();
        kept + self.files.get().map_or(0, |files| files.writers.spilled())
    }
}

impl Files {
    fn push(&self, p: usize, sequence: u64, piece: Pieces) -> Result<()> {
        let mut offsets = vec![0u32; self.options.partitions as usize + 1];
        offsets[p + 1..].fill(1);
        self.writers.own().push_grouped(Content::Partials, sequence, offsets, piece.into_columns()?)
    }
}
