//! Partitions read back, as many at a time as fit.
//!
//! A wave is a range of hashes: whole partitions, or a part of one that alone does not fit. How much fits is guessed from
//! what came out of the pieces so far, and tried: what turns out too large is dropped and tried again by half.

use super::blame::Blame;
use super::cells::{Joined, load, pick};
use super::merge::{Merge, RowFiles};
use super::{Shares, Spill};
use crate::core::slide::Engine;
use crate::engine::overlap;
use crate::memory::{Budget, Lease};
use crate::query::keys::KeyRows;
use crate::query::map::Mapped;
use crate::query::plan::Plan;
use crate::query::reduce::Partition;
use crate::query::session::Emission;
use crate::shuffle::Reader;
use crate::store::spill_dir::SpillDir;
use crate::{Error, ErrorKind, Result};
use arrow_array::RecordBatch;
use rayon::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A partition is cut by at most so many further bits of its hashes.
const MOST_BITS: u32 = 16;

/// What is next: part `part` of 2 to the power of `bits` of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    partition: usize,
    bits: u32,
    part: u64,
}

impl Place {
    /// A whole partition. Every other one comes in two parts under test, so that tests have some of them.
    fn of(partition: usize) -> Place {
        Place { partition, bits: if cfg!(test) { partition as u32 % 2 } else { 0 }, part: 0 }
    }
}

/// Everything that is left to do after the last record.
pub(crate) struct Waves<K: KeyRows> {
    plan: Arc<Plan>,
    engine: Engine,
    pieces: Reader,
    dir: SpillDir,
    shares: Shares,
    /// The number of partitions, and of the leading bits of the hash that they agree in.
    partitions: usize,
    bits: u32,
    at: Place,
    /// Partitions that were never evicted, until they are the first wave.
    resident: Option<Vec<Partition<K>>>,
    /// How many whole partitions the next wave tries.
    width: usize,
    /// The rows of the waves before the last, and those of the last.
    state: State,
    live_keys: u64,
    windows: u64,
    handed_out: u64,
    row_bytes: u64,
    /// The most keys of a partition so far.
    keys: AtomicUsize,
}

enum State {
    /// Partitions hand out their rows one after the other: there is one window only. First those that were never evicted.
    Direct(Option<Emission>),
    /// Waves are still to be written.
    Writing,
    Merging(Merge),
}

/// All rows of one partition.
struct Finished {
    batches: Vec<RecordBatch>,
    keys: u64,
    windows: u64,
    _lease: Lease,
}

impl<K: KeyRows> Waves<K> {
    /// After the last record: `resident` are the partitions that were not evicted.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn new(plan: Arc<Plan>, engine: Engine, spill: Spill, resident: Vec<Partition<K>>) -> Result<Self> {
        let shares = spill.shares();
        let (pieces, dir, partitions) = spill.finish()?;
        let partitions = partitions.max(resident.len()).max(1);
        let state = if plan.has_bounds() { State::Writing } else { State::Direct(None) };
        Ok(Waves {
            plan,
            engine,
            pieces,
            dir,
            shares,
            partitions,
            bits: partitions.ilog2(),
            at: Place::of(resident.len()),
            resident: Some(resident).filter(|r| !r.is_empty()),
            width: if cfg!(test) { 1 } else { partitions },
            state,
            live_keys: 0,
            windows: 0,
            handed_out: 0,
            row_bytes: 0,
            keys: AtomicUsize::new(0),
        })
    }

    /// Keys with a record, of the waves so far.
    pub(crate) fn live_keys(&self) -> u64 {
        self.live_keys
    }

    /// Windows that are known of, and how many have been handed out.
    pub(crate) fn windows(&self) -> (u64, u64) {
        (self.windows.max(self.handed_out), self.handed_out)
    }

    /// Bytes in the files.
    pub(crate) fn spilled_bytes(&self) -> u64 {
        self.pieces.spilled_bytes() + self.row_bytes
    }

    /// The rows of the next windows, in order; `None` after the last. Runs on the current rayon pool.
    pub(crate) fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        loop {
            match &mut self.state {
                State::Direct(emission) => {
                    if let Some(of) = emission {
                        if let Some(batches) = of.next_block()? {
                            return Ok(Some(batches));
                        }
                        (self.windows, self.handed_out) = of.windows();
                    }
                    *emission = None;
                    if let Some(resident) = self.resident.take() {
                        self.state = State::Direct(Some(self.emission(resident)?));
                        continue;
                    }
                    let Some(finished) = self.next_wave(|of, width| of.try_rows(width))? else { return Ok(None) };
                    let mut batches = Vec::new();
                    for one in finished {
                        self.live_keys += one.keys;
                        self.windows = self.windows.max(one.windows);
                        batches.extend(one.batches);
                    }
                    self.handed_out = self.windows;
                    return Ok(Some(batches));
                }
                State::Writing => self.write()?,
                State::Merging(merge) => {
                    let block = merge.next_block()?;
                    self.handed_out = merge.windows();
                    return Ok(block);
                }
            }
        }
    }

    /// Writes the rows of all waves but two: the last one read back, and the partitions that were never evicted.
    fn write(&mut self) -> Result<()> {
        let resident = self.resident.take();
        let mut files = RowFiles::create(&self.dir, self.plan.schema.clone())?;
        let mut last = None;
        while let Some(mut wave) = self.next_wave(|of, width| of.try_wave(width))? {
            self.live_keys += wave.live_keys();
            self.windows = self.windows.max(wave.windows().0);
            if self.at.partition == self.partitions {
                last = Some(wave);
                break;
            }
            // How many waves there will be is guessed from how far this one came.
            let done = self.at.partition as u64 + 1;
            let waves = (files.waves() as u64 + 1) * self.partitions as u64 / done + 1;
            let block = self.shares.merge / waves as usize / 4;
            files.begin();
            overlap(|| wave.next_block(), |batches| files.write(&batches, block).map(|()| true))?;
        }
        self.row_bytes = files.bytes();
        let first = resident.map(|partitions| self.emission(partitions)).transpose()?;
        self.windows = first.iter().map(|first| first.windows().0).max().unwrap_or(0).max(self.windows);
        self.state = State::Merging(Merge::new(&self.plan, first, files.seal()?, last));
        Ok(())
    }

    fn emission(&mut self, partitions: Vec<Partition<K>>) -> Result<Emission> {
        let wave = Emission::new(self.plan.clone(), self.engine, partitions)?;
        self.live_keys += wave.live_keys();
        Ok(wave)
    }

    /// What `make` comes to for as many of the next partitions as fit, with the bytes that it took.
    fn next_wave<T>(&mut self, make: impl Fn(&Self, usize) -> Result<(T, usize)>) -> Result<Option<T>> {
        while self.at.partition < self.partitions {
            let mut width = if self.at.bits > 0 { 1 } else { self.width.min(self.partitions - self.at.partition) };
            if !self.plan.has_bounds() {
                // Few enough that their rows leave while they are in the cache.
                width = width.min(4 * rayon::current_num_threads());
            }
            match make(self, width) {
                Ok((wave, bytes)) => {
                    self.advance(width);
                    if self.at.bits == 0 && bytes > 0 {
                        let fit = width as f64 * self.shares.wave as f64 / bytes as f64;
                        self.width = ((fit * 0.9) as usize).clamp(1, if cfg!(test) { 1 } else { self.partitions });
                    }
                    return Ok(Some(wave));
                }
                Err(error) if error.kind() != ErrorKind::Memory => return Err(error),
                Err(_) if self.at.bits == 0 && width > 1 => self.width = width / 2,
                Err(error) if self.at.bits == MOST_BITS => return Err(self.blame(error)),
                Err(_) => {
                    self.at.bits += 1;
                    self.at.part *= 2;
                }
            }
        }
        Ok(None)
    }

    fn advance(&mut self, width: usize) {
        if self.at.bits > 0 {
            self.at.part += 1;
            // The next part may be larger again than half of what did fit.
            while self.at.bits > 0 && self.at.part == 1 << self.at.bits {
                self.at = Place::of(self.at.partition + 1);
            }
        } else {
            self.at = Place::of(self.at.partition + width);
        }
    }

    /// Reads back what is next; an error of memory says that it is too much. Returns its bytes, too.
    fn try_wave(&self, width: usize) -> Result<(Emission, usize)> {
        let budget = Budget::new(self.shares.wave);
        let partitions: Vec<Partition<K>> = (self.at.partition..self.at.partition + width)
            .into_par_iter()
            .with_max_len(1)
            .map(|p| self.restore(p, &budget))
            .collect::<Result<_>>()?;
        // What hands out the rows takes some more.
        let bytes = self.fits(budget.peak() / 3 * 4)?;
        let wave = Emission::new(self.plan.clone(), self.engine, partitions)?;
        Ok((wave, bytes))
    }

    /// Reads back what is next, partition by partition, and lets each hand out all of its rows. Returns its bytes, too.
    fn try_rows(&self, width: usize) -> Result<(Vec<Finished>, usize)> {
        let budget = Budget::new(self.shares.wave);
        let finished: Vec<Finished> = (self.at.partition..self.at.partition + width)
            .into_par_iter()
            .with_max_len(1)
            .map(|p| {
                let partition = self.restore(p, &budget)?;
                let mut emission = Emission::new(self.plan.clone(), self.engine, vec![partition])?;
                let mut batches = Vec::new();
                let (mut bytes, mut lease) = (0, budget.lease("the rows of a partition"));
                while let Some(block) = emission.next_block()? {
                    // Those of the wave before may still be written; the half that is missing comes with the reserve below.
                    bytes += block.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
                    lease.resize(bytes / 2 * 3)?;
                    batches.extend(block);
                }
                Ok(Finished { keys: emission.live_keys(), windows: emission.windows().0, batches, _lease: lease })
            })
            .collect::<Result<_>>()?;
        let bytes = self.fits(budget.peak() / 3 * 4)?;
        Ok((finished, bytes))
    }

    fn fits(&self, bytes: usize) -> Result<usize> {
        if bytes <= self.shares.wave {
            return Ok(bytes);
        }
        Err(Error::new(
            ErrorKind::Memory,
            "the memory limit is too small for the state of one key and its windows; raise --memory",
        ))
    }

    /// What does not fit although it is nearly a single key: `error` with its name.
    fn blame(&self, error: Error) -> Error {
        let mut blame = Blame::<K>::new(&self.plan);
        let mut counted = self.pieces.partition(self.at.partition as u32).map(|chunk| {
            let chunk = chunk?;
            load::<K>(&self.plan, &chunk.columns())?.try_for_each(|block| blame.add(&block?, |hash| self.is_next(hash)))
        });
        if counted.all(|counted: Result<()>| counted.is_ok()) { blame.on(error) } else { error }
    }

    /// Whether the key of this hash belongs to the part of a partition that is next.
    fn is_next(&self, hash: u64) -> bool {
        let Place { bits, part, .. } = self.at;
        hash << self.bits >> (64 - bits) == part
    }

    fn restore(&self, p: usize, budget: &Budget) -> Result<Partition<K>> {
        let bits = self.at.bits;
        let mut partition = Partition::new(&self.plan, budget.lease("the keys and panes of a partition"));
        if bits == 0 {
            // Partitions are alike: hashes are spread evenly.
            partition.groups.reserve(self.keys.load(Ordering::Relaxed));
        }
        let mut take = |mut block: Mapped<K>| {
            if bits > 0 {
                block = pick(&self.plan, &block, |hash| self.is_next(hash))?;
            }
            partition.take(&self.plan, 0, 0, &block)?;
            partition.lease()
        };
        let mut pieces = Joined::new(&self.plan);
        for chunk in self.pieces.partition(p as u32) {
            pieces.add(&chunk?.columns(), &mut take)?;
        }
        pieces.rest().map_or(Ok(()), &mut take)?;
        self.keys.fetch_max(partition.groups.len(), Ordering::Relaxed);
        Ok(partition)
    }
}
