//! What a round of tasks came to, and what becomes of it: parts of blocks are put together, blocks are judged, and every
//! partition takes its part of them, or has it written where memory has run out.

use super::exec::LateSink;
use super::held::Held;
use super::judge::Judge;
use super::keys::KeyRows;
use super::map::{Mapped, Marks, Piece, Scratch, map_block};
use super::partitioning::Partitioning;
use super::plan::Plan;
use super::reduce::Partition;
use super::spill::{Spill, task_of};
use super::tally::Tally;
use crate::memory::{Budget, Lease};
use crate::source::live::{Arrival, Event};
use crate::source::{Cut, Report, Task};
use crate::{Error, Result};
use rayon::prelude::*;
use std::sync::{Arc, Mutex};

/// What one task came to: its own blocks, and parts of blocks that it shares with its neighbours.
pub(super) struct Unit<K> {
    /// The number of the task.
    pub(super) task: u64,
    pub(super) blocks: Vec<Slot<K>>,
    pub(super) report: Report,
    /// Memory of the blocks.
    pub(super) lease: Lease,
}

pub(super) enum Slot<K> {
    /// A block that was mapped, on the condition, if there is a clock, that all of its records are on time.
    Mapped(Box<Mapped<K>>, Option<Origin>),
    /// A part with its place among all blocks.
    Part(Cut, Vec<Piece>, u64),
}

/// What comes next in the order of the input.
pub(super) enum Turn<K> {
    /// A block of an input.
    Block(usize, Slot<K>),
    /// What a live input did, or how its next block came.
    Arrival(usize, Box<Arrival>),
}

impl<K> Slot<K> {
    /// Its place among all blocks.
    pub(super) fn place(&self) -> u64 {
        match self {
            Slot::Mapped(block, _) => block.sequence,
            Slot::Part(_, _, place) => *place,
        }
    }
}

/// Where a block can be had from once more.
pub(super) struct Origin {
    pub(super) task: Arc<dyn Task>,
    pub(super) number: usize,
}

/// Has the partitions of a block written that are not folded any more.
pub(super) fn write<K: KeyRows>(
    spill: Option<&Spill>,
    plan: &Plan,
    mut block: Mapped<K>,
    sequence: u64,
) -> Result<Mapped<K>> {
    block.sequence = sequence;
    if let Some(spill) = spill {
        let resident = spill.resident();
        if resident < block.partitions() {
            spill.write(plan, &block, resident, block.resident, sequence)?;
            block.resident = resident;
            if resident == 0 {
                block.strip();
            }
        }
    }
    Ok(block)
}

/// Maps blocks, with scratch memory that is used again.
pub(super) struct Mapper<K> {
    plan: Arc<Plan>,
    pub(super) partitioning: Partitioning,
    scratches: Mutex<Vec<Scratch<K>>>,
}

impl<K: KeyRows> Mapper<K> {
    pub(super) fn new(plan: Arc<Plan>, partitioning: Partitioning) -> Self {
        Mapper { plan, partitioning, scratches: Mutex::default() }
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn map(&self, pieces: Vec<Piece>, marks: Marks) -> Result<Mapped<K>> {
        let mut scratch = self.scratches.lock().ok().and_then(|mut s| s.pop()).unwrap_or_default();
        let mapped = map_block(&self.plan, &self.partitioning, pieces, marks, &mut scratch);
        if let Ok(mut scratches) = self.scratches.lock() {
            scratches.push(scratch);
        }
        mapped
    }
}

/// Cells that may be out before windows that have closed are handed out. Tiny under test, so that there are many steps.
const STEP_CELLS: usize = if cfg!(test) { 8 } else { 64 << 10 };

/// A pane is as much as so many cells.
const PANE: usize = if cfg!(test) { 1 } else { 16 };

/// A task that was run once more, and its blocks.
pub(super) type Redone = (Arc<dyn Task>, Vec<Vec<Piece>>);

/// What takes blocks in the order of the input.
pub(super) struct Reducer<'a, K: KeyRows> {
    pub(super) plan: &'a Plan,
    pub(super) budget: &'a Budget,
    /// Where partitions go that do not fit.
    pub(super) spill: Option<&'a Spill>,
    pub(super) mapper: &'a Mapper<K>,
    pub(super) judge: &'a mut Option<Judge>,
    pub(super) partitions: &'a mut Vec<Partition<K>>,
    /// Partitions from this one on take nothing before they are saved; what came meanwhile is held for them.
    pub(super) upto: usize,
    pub(super) held: &'a mut Held<K>,
    pub(super) tally: &'a mut Tally,
    /// The last task that was run once more; blocks that were asked for are gone.
    pub(super) again: Option<Redone>,
}

impl<K: KeyRows> Reducer<'_, K> {
    /// Judges blocks and maps those that were not mapped yet, then lets every partition take its part of all.
    pub(super) fn reduce(&mut self, blocks: Vec<Turn<K>>, late_sink: &mut Option<LateSink>) -> Result<()> {
        let mut judged: Vec<(Slot<K>, Marks)> = Vec::with_capacity(blocks.len());
        for turn in blocks {
            match turn {
                Turn::Block(input, slot) => judged.push(self.judge(input, slot)?),
                Turn::Arrival(input, arrival) => self.arrive(input, &arrival),
            }
        }
        self.again = None;
        let blocks: Vec<Box<Mapped<K>>> = judged
            .into_par_iter()
            .map(|(slot, marks)| match slot {
                Slot::Mapped(block, _) => Ok(block),
                Slot::Part(_, pieces, sequence) => {
                    let block = self.mapper.map(pieces, marks)?;
                    write(self.spill, self.plan, block, sequence).map(Box::new)
                }
            })
            .collect::<Result<_>>()?;
        let partitions = &mut *self.partitions;
        if let Some(spill) = self.spill {
            // All may have been evicted while these blocks were mapped.
            spill.relieve(self.plan, partitions, self.tally.statistics.ledger.used)?;
        }
        // From here on it may fall, but these blocks are taken by what is there now.
        let resident = self.spill.map_or(usize::MAX, Spill::resident).max(partitions.len());
        for block in &blocks {
            self.tally.block(block);
            // The first block has decided how many partitions there are.
            while partitions.len() < block.partitions().min(resident) {
                partitions.push(Partition::new(self.plan, self.budget.lease("the keys and panes of a partition")));
            }
        }
        let (plan, upto) = (self.plan, self.upto.min(partitions.len()));
        let first = self.held.push(blocks);
        let held = &*self.held;
        let now = partitions[..upto].par_iter_mut().enumerate();
        now.try_for_each(|(p, partition)| held.take(plan, p, partition, first))?;
        if let Some(spill) = self.spill {
            // Partitions that were evicted after these blocks had been mapped.
            let blocks = held.since(first);
            blocks
                .par_iter()
                .try_for_each(|block| spill.write(plan, block, resident, block.resident, block.sequence))?;
            blocks.iter().for_each(|block| spill.folded(block.sequence));
            spill.relieve(plan, partitions, self.tally.statistics.ledger.used)?;
        }
        partitions.iter_mut().try_for_each(Partition::lease)?;
        if upto < partitions.len() {
            self.held.keep();
            return Ok(());
        }
        self.settle(late_sink)
    }

    /// Partitions below `upto` are saved and have taken what was held for them.
    pub(super) fn go_on(&mut self, upto: usize, late_sink: &mut Option<LateSink>) -> Result<()> {
        let before = std::mem::replace(&mut self.upto, upto);
        if before < upto && upto == usize::MAX {
            self.partitions.iter_mut().try_for_each(Partition::lease)?;
            self.settle(late_sink)?;
        }
        Ok(())
    }

    /// The partitions that are not saved yet will not be.
    pub(super) fn catch_up(&mut self, late_sink: &mut Option<LateSink>) -> Result<()> {
        let (plan, held, upto) = (self.plan, &*self.held, self.upto.min(self.partitions.len()));
        let late = self.partitions.par_iter_mut().enumerate().skip(upto);
        late.try_for_each(|(p, partition)| held.take(plan, p, partition, 0))?;
        self.go_on(usize::MAX, late_sink)
    }

    /// All partitions have taken all blocks: it is known what was late.
    fn settle(&mut self, late_sink: &mut Option<LateSink>) -> Result<()> {
        let blocks = self.held.clear();
        let late: Vec<(usize, usize)> = self.partitions.iter_mut().flat_map(Partition::take_late).collect();
        self.tally.late(late.len() as u64);
        if let Some(sink) = late_sink {
            let of_sessions =
                late.iter().filter_map(|(block, cell)| Some((*block, blocks[*block].doubtful.get(cell)?)));
            let of_windows =
                blocks.iter().enumerate().flat_map(|(n, block)| block.set_aside.iter().map(move |r| (n, r)));
            let mut records: Vec<_> = of_sessions.chain(of_windows).collect();
            records.sort_by_key(|(block, (number, _))| (*block, *number));
            records.into_iter().try_for_each(|(_, (_, record))| sink(record))?;
        }
        Ok(())
    }

    /// Takes note of what a live input did.
    fn arrive(&mut self, input: usize, arrival: &Arrival) {
        let Some(judge) = &mut *self.judge else { return };
        match arrival.event {
            Event::Begins => judge.begin(input),
            Event::Silent => judge.silence(input),
            Event::None if arrival.records => judge.arrived(input, arrival.at),
            Event::None => {}
        }
    }

    /// The watermarks that the records of a block came under.
    fn judge(&mut self, input: usize, slot: Slot<K>) -> Result<(Slot<K>, Marks)> {
        let Some(judge) = &mut *self.judge else { return Ok((slot, Marks::new())) };
        let (sequence, pieces, again) = match slot {
            Slot::Part(_, pieces, place) => (place, pieces, None),
            Slot::Mapped(block, origin) => {
                let on_time = judge.pass(input, block.times);
                match origin {
                    Some(origin) if !on_time => (block.sequence, Vec::new(), Some(origin)),
                    _ => return Ok((Slot::Mapped(block, None), Marks::new())),
                }
            }
        };
        let pieces = again.map_or(Ok(pieces), |origin| self.again(&origin))?;
        let marks = self.judge.as_mut().map_or_else(Marks::new, |judge| judge.judge(input, &pieces));
        Ok((Slot::Part(Cut::Whole, pieces, sequence), marks))
    }

    /// Decodes a block once more.
    fn again(&mut self, origin: &Origin) -> Result<Vec<Piece>> {
        if self.again.as_ref().is_none_or(|(task, _)| !Arc::ptr_eq(task, &origin.task)) {
            let mut blocks = Vec::new();
            origin.task.run(&mut |_, pieces| {
                blocks.push(pieces);
                Ok(())
            })?;
            self.again = Some((origin.task.clone(), blocks));
        }
        let blocks = self.again.as_mut().and_then(|(_, blocks)| blocks.get_mut(origin.number));
        blocks.map(std::mem::take).ok_or_else(|| Error::input("changed while it was read"))
    }

    /// Whether any window has closed that may hold records; sessions are not looked at one by one.
    pub(super) fn has_closed(&self) -> bool {
        let Some(judge) = &self.judge else { return false };
        let watermark = judge.watermark();
        if self.partitions.is_empty() || watermark == i64::MIN {
            return false;
        }
        let Some(spec) = self.plan.window else { return self.plan.session.is_some() };
        let upto = spec.first_open(watermark) - 1;
        self.partitions.iter().any(|partition| partition.panes.has_closed(spec.panes_of(upto).1, upto))
    }

    /// Whether the cells of windows that have closed are many, also against the others, which stay and are moved.
    pub(super) fn is_step(&self) -> bool {
        if self.plan.session.is_some() {
            return self.partitions.iter().map(Partition::new_sessions).sum::<usize>() >= STEP_CELLS;
        }
        let (Some(judge), Some(spec)) = (&self.judge, self.plan.window) else { return false };
        let watermark = judge.watermark();
        // Before anything is known, and at the end, when everything is closed anyway.
        if self.partitions.is_empty() || watermark == i64::MIN || watermark == i64::MAX {
            return false;
        }
        let upto = spec.first_open(watermark) - 1;
        let (mut step, mut closed, mut all) = (0, 0, 0);
        for partition in self.partitions.iter() {
            let (panes, cells) = partition.panes.closed(spec.panes_of(upto).1, upto);
            (step, closed) = (step + cells + PANE * panes, closed + cells);
            all += partition.panes.cells();
        }
        step >= STEP_CELLS && 2 * closed >= all
    }
}

/// Puts blocks together whose parts came from different tasks.
#[derive(Default)]
pub(super) struct Joint {
    pieces: Vec<Piece>,
    /// The places of the first and the last of them.
    first: u64,
    sequence: u64,
}

impl Joint {
    /// The task of the first part of a block that waits for more.
    pub(super) fn pending(&self) -> Option<u64> {
        (!self.pieces.is_empty()).then(|| task_of(self.first))
    }

    pub(super) fn push<K>(&mut self, slot: Slot<K>, mut out: impl FnMut(Slot<K>)) {
        match slot {
            Slot::Mapped(..) => {
                self.flush(&mut out);
                out(slot);
            }
            Slot::Part(cut, pieces, sequence) => {
                if matches!(cut, Cut::Tail | Cut::Whole) {
                    self.flush(&mut out);
                }
                if self.pieces.is_empty() {
                    self.first = sequence;
                }
                self.pieces.extend(pieces);
                self.sequence = sequence;
                if matches!(cut, Cut::Head | Cut::Whole) {
                    self.flush(&mut out);
                }
            }
        }
    }

    pub(super) fn flush<K>(&mut self, mut out: impl FnMut(Slot<K>)) {
        if !self.pieces.is_empty() {
            out(Slot::Part(Cut::Whole, std::mem::take(&mut self.pieces), self.sequence));
        }
    }
}
