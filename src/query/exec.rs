//! Running a bound query: map and reduce over the input, then the emission.

use super::emit::Emitter;
use super::keys::{ByteRows, KeyRows, WordRows};
use super::map::{Mapped, Partitioning, Piece, Scratch, map_block};
use super::plan::Plan;
use super::reduce::Partition;
use crate::Result;
use crate::core::slide::Engine;
use crate::engine;
use crate::memory::{Budget, Lease};
use crate::metrics::{Ledger, Statistics};
use crate::source::{BadPlace, Cut, Reader, Report};
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Bad records whose places are remembered.
const BAD_PLACES: usize = 10;

/// What happens to bad records.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum MaxBad {
    /// Any number is tolerated.
    #[default]
    Unlimited,
    /// More than this many stop the run.
    Records(u64),
    /// More than this share (0 to 1) of the records read, judged at the end, fails the run.
    Share(f64),
}

/// A receiver of bad records' bytes.
pub(crate) type BadSink = Box<dyn FnMut(&BadPlace, &[u8]) -> Result<()> + Send>;

/// What a run needs beside the plan and the input.
pub(crate) struct Context {
    pub(crate) threads: usize,
    pub(crate) engine: Engine,
    pub(crate) budget: Budget,
    /// The logarithm of the number of partitions; `None`: by the first block.
    pub(crate) bits: Option<u32>,
    pub(crate) max_bad: MaxBad,
    pub(crate) bad_sink: Option<BadSink>,
    pub(crate) inputs: Vec<Option<PathBuf>>,
}

/// What the input came to.
pub(crate) struct Folded {
    pub(crate) emitter: Emitter,
    pub(crate) statistics: Statistics,
    pub(crate) bad: Vec<BadPlace>,
}

/// Reads the whole input and seals it. Runs on the current rayon pool.
pub(crate) fn fold(plan: &Arc<Plan>, reader: &mut dyn Reader, context: &mut Context) -> Result<Folded> {
    if plan.word_key {
        fold_keyed::<WordRows>(plan, reader, context)
    } else {
        fold_keyed::<ByteRows>(plan, reader, context)
    }
}

/// What one task came to: its own blocks, and parts of blocks that it shares with its neighbours.
struct Unit<K> {
    blocks: Vec<Slot<K>>,
    report: Report,
    /// Memory of the blocks; gone with the unit.
    _lease: Lease,
}

enum Slot<K> {
    Mapped(Box<Mapped<K>>),
    Part(Cut, Vec<Piece>),
}

fn fold_keyed<K: KeyRows>(plan: &Arc<Plan>, reader: &mut dyn Reader, context: &mut Context) -> Result<Folded> {
    let partitioning = Partitioning::new(context.bits, context.threads);
    let budget = context.budget.clone();
    let mut partitions: Vec<Partition<K>> = Vec::new();
    let scratches: Mutex<Vec<Scratch<K>>> = Mutex::default();
    let map = |pieces: Vec<Piece>| {
        let mut scratch = scratches.lock().ok().and_then(|mut s| s.pop()).unwrap_or_default();
        let mapped = map_block(plan, &partitioning, pieces, &mut scratch);
        if let Ok(mut scratches) = scratches.lock() {
            scratches.push(scratch);
        }
        mapped
    };
    let mut tally = Tally::new(context.inputs.len());
    let mut joint = Joint::default();
    engine::pipeline(
        reader.round(context.threads),
        |most| reader.tasks(most),
        |task| {
            let mut blocks = Vec::new();
            let mut lease = budget.lease("the blocks of a round");
            let mut bytes = 0;
            let report = task.run(&mut |cut, pieces| {
                blocks.push(match cut {
                    Cut::Whole => {
                        let mapped = map(pieces)?;
                        bytes += mapped.bytes();
                        lease.resize(bytes)?;
                        Slot::Mapped(Box::new(mapped))
                    }
                    part => Slot::Part(part, pieces),
                });
                Ok(())
            })?;
            Ok(Unit { blocks, report, _lease: lease })
        },
        |units: Vec<Unit<K>>| {
            let mut blocks: Vec<Slot<K>> = Vec::new();
            let mut leases = Vec::new();
            for unit in units {
                tally.report(unit.report, context)?;
                leases.push(unit._lease);
                for slot in unit.blocks {
                    joint.push(slot, &mut blocks);
                }
            }
            reduce(plan, &budget, &mut partitions, blocks, &map, &mut tally)
        },
    )?;
    let mut rest = Vec::new();
    joint.flush(&mut rest);
    reduce(plan, &budget, &mut partitions, rest, &map, &mut tally)?;
    if partitions.is_empty() {
        partitions.push(Partition::new(plan, budget.lease("the keys and panes of a partition")));
    }
    reader.finish()?;
    tally.check_share(context)?;
    let emitter = Emitter::new(plan.clone(), context.engine, partitions)?;
    let mut statistics = tally.statistics;
    statistics.keys = emitter.live_keys;
    statistics.windows = emitter.windows().0;
    Ok(Folded { emitter, statistics, bad: tally.bad })
}

/// Maps the blocks that were put together from parts, then lets every partition take its part of all.
fn reduce<K: KeyRows>(
    plan: &Plan,
    budget: &Budget,
    partitions: &mut Vec<Partition<K>>,
    blocks: Vec<Slot<K>>,
    map: &(impl Fn(Vec<Piece>) -> Result<Mapped<K>> + Sync),
    tally: &mut Tally,
) -> Result<()> {
    let blocks: Vec<Box<Mapped<K>>> = blocks
        .into_par_iter()
        .map(|slot| match slot {
            Slot::Mapped(block) => Ok(block),
            Slot::Part(_, pieces) => map(pieces).map(Box::new),
        })
        .collect::<Result<_>>()?;
    for block in &blocks {
        tally.block(block);
        // The first block has decided how many partitions there are.
        while partitions.len() < block.partitions() {
            partitions.push(Partition::new(plan, budget.lease("the keys and panes of a partition")));
        }
    }
    partitions
        .par_iter_mut()
        .enumerate()
        .try_for_each(|(p, partition)| blocks.iter().try_for_each(|block| partition.take(plan, p, block)))
}

/// Puts blocks together whose parts came from different tasks.
#[derive(Default)]
struct Joint {
    pieces: Vec<Piece>,
}

impl Joint {
    fn push<K>(&mut self, slot: Slot<K>, out: &mut Vec<Slot<K>>) {
        match slot {
            Slot::Mapped(_) => {
                self.flush(out);
                out.push(slot);
            }
            Slot::Part(cut, pieces) => {
                if matches!(cut, Cut::Tail) {
                    self.flush(out);
                }
                self.pieces.extend(pieces);
                if matches!(cut, Cut::Head) {
                    self.flush(out);
                }
            }
        }
    }

    fn flush<K>(&mut self, out: &mut Vec<Slot<K>>) {
        if !self.pieces.is_empty() {
            out.push(Slot::Part(Cut::Whole, std::mem::take(&mut self.pieces)));
        }
    }
}

/// Sums over the run, kept in the order of the input.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) statistics: Statistics,
    pub(super) bad: Vec<BadPlace>,
    /// Lines of each input so far.
    next_line: Vec<u64>,
    greatest: Option<i64>,
}

impl Tally {
    /// Nothing yet of so many inputs.
    pub(super) fn new(inputs: usize) -> Tally {
        Tally { next_line: vec![0; inputs.max(1)], ..Tally::default() }
    }

    pub(super) fn report(&mut self, report: Report, context: &mut Context) -> Result<()> {
        let bad = report.bad.len() as u64;
        let ledger = &mut self.statistics.ledger;
        ledger.add(&Ledger { read: bad, bad, ..Ledger::default() });
        self.statistics.bytes_in += report.bytes;
        self.statistics.cast_failed += report.cast_failed;
        let line = &mut self.next_line[report.input];
        let file = context.inputs.get(report.input).cloned().flatten();
        for (i, bad) in report.bad.iter().enumerate() {
            if self.bad.len() >= BAD_PLACES && context.bad_sink.is_none() {
                break;
            }
            let place = BadPlace {
                file: file.clone(),
                line: *line + bad.line + 1,
                offset: bad.start as u64,
                reason: bad.reason,
            };
            if let Some(sink) = &mut context.bad_sink {
                sink(&place, report.bad_bytes.get(i).map_or(&[], Vec::as_slice))?;
            }
            if self.bad.len() < BAD_PLACES {
                self.bad.push(place);
            }
        }
        *line += report.lines;
        match context.max_bad {
            MaxBad::Records(most) if self.statistics.ledger.bad > most => Err(self.too_many(&format!("{most}"))),
            _ => Ok(()),
        }
    }

    pub(super) fn check_share(&self, context: &Context) -> Result<()> {
        let ledger = &self.statistics.ledger;
        match context.max_bad {
            MaxBad::Share(share) if ledger.bad as f64 > share * ledger.read as f64 => {
                Err(self.too_many(&format!("{}% of {}", share * 100.0, ledger.read)))
            }
            _ => Ok(()),
        }
    }

    fn too_many(&self, most: &str) -> crate::Error {
        let mut message =
            format!("{} bad records, more than the {most} that --max-bad allows", self.statistics.ledger.bad);
        if let Some(first) = self.bad.first() {
            let file = first.file.as_ref().map_or("line".into(), |f| format!("{}, line", f.display()));
            message += &format!("; the first is {file} {} (byte {}): {}", first.line, first.offset, first.reason);
        }
        crate::Error::data(message)
    }

    fn block<K>(&mut self, block: &Mapped<K>) {
        self.statistics.ledger.add(&block.ledger);
        if let Some((least, greatest, disorder)) = block.times {
            let before = self.greatest.map_or(0, |g| g.saturating_sub(least).max(0) as u64);
            self.statistics.max_disorder_us = self.statistics.max_disorder_us.max(disorder).max(before);
            self.greatest = Some(self.greatest.map_or(greatest, |g| g.max(greatest)));
        }
    }
}
