//! Running a bound query: input is mapped and reduced, then windows are handed out; all of it as rows are asked for.
//!
//! Without a lateness bound everything is read before the first window is handed out, and the answer is exact however
//! disordered the input. With one, blocks are judged in the order of the input before they are mapped, and windows leave
//! in steps as the watermark passes, so that memory holds what is open.

use super::judge::Judge;
use super::keys::{ByteRows, KeyRows, WordRows};
use super::map::{Mapped, Marks, Partitioning, Piece, Scratch, map_block};
use super::plan::Plan;
use super::reduce::Partition;
use super::session::Emission;
use super::tally::Tally;
use crate::core::slide::Engine;
use crate::core::watermark::disorder;
use crate::engine::Pipeline;
use crate::memory::{Budget, Lease};
use crate::metrics::Statistics;
use crate::source::merge::Merged;
use crate::source::{BadPlace, Cut, Reader, Report, Task};
use crate::{Error, Result};
use arrow_array::RecordBatch;
use rayon::prelude::*;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

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

/// A receiver of the bytes of records that were late or ahead.
pub(crate) type LateSink = Box<dyn FnMut(&[u8]) -> Result<()> + Send>;

/// What a run needs beside the plan and the input.
pub(crate) struct Context {
    pub(crate) threads: usize,
    pub(crate) engine: Engine,
    pub(crate) budget: Budget,
    /// The logarithm of the number of partitions; `None`: by the first block.
    pub(crate) bits: Option<u32>,
    pub(crate) lateness: Option<Lateness>,
    pub(crate) max_bad: MaxBad,
    pub(crate) bad_sink: Option<BadSink>,
    pub(crate) late_sink: Option<LateSink>,
    pub(crate) inputs: Vec<Option<PathBuf>>,
}

/// How late and how far ahead records may be, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lateness {
    pub(crate) bound: i64,
    pub(crate) max_ahead: Option<i64>,
}

/// A run: it reads as much as the next rows need.
pub(crate) trait Run: Send {
    /// The rows of the next windows, in order; `None` after the last. Call it on a rayon pool.
    fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>>;
    /// Statistics so far.
    fn statistics(&self) -> Statistics;
    /// The first few bad records so far.
    fn bad(&self) -> &[BadPlace];
    /// Windows that are known to hold a record, and how many have been handed out.
    fn windows(&self) -> (u64, u64);
}

/// Begins a run. Nothing is read before the first block is asked for.
///
/// # Errors
/// Inputs that have to be looked at first and cannot be read.
pub(crate) fn begin(plan: Arc<Plan>, reader: Box<dyn Reader>, context: Context) -> Result<Box<dyn Run>> {
    if plan.word_key {
        Ok(Box::new(Fold::<WordRows>::new(plan, reader, context)?))
    } else {
        Ok(Box::new(Fold::<ByteRows>::new(plan, reader, context)?))
    }
}

/// What one task came to: its own blocks, and parts of blocks that it shares with its neighbours.
struct Unit<K> {
    blocks: Vec<Slot<K>>,
    report: Report,
    /// Memory of the blocks.
    lease: Lease,
}

enum Slot<K> {
    /// A block that was mapped, on the condition, if there is a clock, that all of its records are on time.
    Mapped(Box<Mapped<K>>, Option<Origin>),
    Part(Cut, Vec<Piece>),
}

/// Where a block can be had from once more.
struct Origin {
    task: Arc<dyn Task>,
    number: usize,
}

/// Cells that may be out before windows that have closed are handed out. Tiny under test, so that there are many steps.
const STEP_CELLS: usize = if cfg!(test) { 8 } else { 64 << 10 };

/// The run over keys of shape `K`.
struct Fold<K: KeyRows> {
    plan: Arc<Plan>,
    context: Context,
    reader: Box<dyn Reader>,
    pipeline: Pipeline<Box<dyn Task>, Unit<K>>,
    mapper: Mapper<K>,
    /// One for each input.
    joints: Vec<Joint>,
    judge: Option<Judge>,
    partitions: Vec<Partition<K>>,
    tally: Tally,
    emitter: Option<Emission>,
    /// The whole input has been read.
    finished: bool,
}

impl<K: KeyRows> Fold<K> {
    fn new(plan: Arc<Plan>, mut reader: Box<dyn Reader>, context: Context) -> Result<Self> {
        let round = reader.round(context.threads);
        // Blocks wait for their judgement as they were decoded, which takes more memory than what they are mapped to.
        let round = if context.lateness.is_some() { round.min(2 * context.threads) } else { round };
        let inputs = context.inputs.len().max(1);
        let mut firsts = vec![None; inputs];
        if context.lateness.is_some() {
            let split = reader.split();
            if !split.is_empty() {
                let merged = Merged::new(split, round)?;
                firsts = merged.first_times();
                reader = Box::new(merged);
            }
        }
        Ok(Fold {
            pipeline: Pipeline::new(round),
            mapper: Mapper {
                plan: plan.clone(),
                partitioning: Partitioning::new(context.bits, context.threads),
                scratches: Mutex::default(),
            },
            joints: std::iter::repeat_with(Joint::default).take(inputs).collect(),
            judge: context.lateness.map(|lateness| Judge::new(lateness, firsts)),
            partitions: Vec::new(),
            tally: Tally::new(inputs),
            emitter: None,
            finished: false,
            plan,
            context,
            reader,
        })
    }

    /// Whether windows are handed out as the watermark passes.
    fn streams(&self) -> bool {
        self.judge.is_some() && !self.plan.naive && self.context.engine == Engine::Incremental
    }

    /// Reads on: to the end, or until it is worth while to hand out windows that have closed.
    fn read(&mut self) -> Result<()> {
        let streams = self.streams();
        let Fold { plan, context, reader, pipeline, mapper, joints, judge, partitions, tally, .. } = self;
        let budget = context.budget.clone();
        let bound = context.lateness.map(|lateness| lateness.bound);
        let mapper = &*mapper;
        let mut reducer = Reducer { plan, budget: &budget, mapper, judge, partitions, tally, again: None };
        let ended = pipeline.run(
            |most| reader.tasks(most),
            |task| {
                let mut blocks = Vec::new();
                let mut lease = budget.lease("the blocks of a round");
                let mut bytes = 0;
                let again = bound.and_then(|_| task.again());
                let report = task.run(&mut |cut, pieces| {
                    let origin = again.as_ref().map(|task| Origin { task: task.clone(), number: blocks.len() });
                    // With a bound, a block can be mapped before it is judged if it can be had again, and that is unlikely.
                    let on_time = match (bound, &origin) {
                        (None, _) => true,
                        (Some(_), None) => false,
                        (Some(bound), Some(_)) => pieces.iter().all(|piece| disorder(&piece.times) <= bound),
                    };
                    blocks.push(if cut == Cut::Whole && on_time {
                        let mapped = mapper.map(pieces, Marks::new())?;
                        bytes += mapped.bytes();
                        Slot::Mapped(Box::new(mapped), origin)
                    } else {
                        bytes += pieces.iter().map(Piece::bytes).sum::<usize>();
                        Slot::Part(cut, pieces)
                    });
                    lease.resize(bytes)
                })?;
                Ok(Unit { blocks, report, lease })
            },
            |units: Vec<Unit<K>>| {
                let mut blocks: Vec<(usize, Slot<K>)> = Vec::new();
                let mut leases = Vec::new();
                let mut ended = Vec::new();
                for unit in units {
                    let input = unit.report.input;
                    ended.extend(unit.report.ended.then_some(input));
                    reducer.tally.report(unit.report, context)?;
                    leases.push(unit.lease);
                    for slot in unit.blocks {
                        joints[input].push(slot, |slot| blocks.push((input, slot)));
                    }
                }
                reducer.reduce(blocks, &mut context.late_sink)?;
                if let Some(judge) = reducer.judge {
                    ended.into_iter().for_each(|input| judge.end(input));
                }
                Ok(if streams && reducer.is_step() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            },
        )?;
        if ended {
            let mut rest = Vec::new();
            for (input, joint) in joints.iter_mut().enumerate() {
                joint.flush(|slot| rest.push((input, slot)));
            }
            reducer.reduce(rest, &mut context.late_sink)?;
            self.finish()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.partitions.is_empty() {
            let lease = self.context.budget.lease("the keys and panes of a partition");
            self.partitions.push(Partition::new(&self.plan, lease));
        }
        self.reader.finish()?;
        self.tally.check_share(&self.context)?;
        self.finished = true;
        Ok(())
    }

    /// Hands the windows that have closed, or all at the end, over to the emitter.
    fn close(&mut self) -> Result<()> {
        if self.streams() {
            let watermark = self.judge.as_ref().map_or(i64::MIN, Judge::watermark);
            let watermark = (!self.finished).then_some(watermark);
            let emitter = self.emitter.get_or_insert_with(|| Emission::streaming(self.plan.clone()));
            return emitter.close(watermark, &mut self.partitions);
        }
        if self.finished {
            let partitions = std::mem::take(&mut self.partitions);
            self.emitter = Some(Emission::new(self.plan.clone(), self.context.engine, partitions)?);
        }
        Ok(())
    }
}

impl<K: KeyRows> Run for Fold<K> {
    fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        loop {
            if let Some(emitter) = &mut self.emitter {
                if let Some(batches) = emitter.next_block()? {
                    return Ok(Some(batches));
                }
                emitter.release(&mut self.partitions)?;
            }
            if self.finished {
                return Ok(None);
            }
            self.read()?;
            self.close()?;
        }
    }

    fn statistics(&self) -> Statistics {
        let mut statistics = self.tally.statistics.clone();
        if let Some(judge) = &self.judge {
            statistics.max_disorder_us = judge.disorder() as u64;
        }
        if let Some(emitter) = &self.emitter {
            statistics.keys = emitter.live_keys();
            statistics.windows = emitter.windows().0;
        }
        statistics
    }

    fn bad(&self) -> &[BadPlace] {
        &self.tally.bad
    }

    fn windows(&self) -> (u64, u64) {
        self.emitter.as_ref().map_or((0, 0), Emission::windows)
    }
}

/// Maps blocks, with scratch memory that is used again.
struct Mapper<K> {
    plan: Arc<Plan>,
    partitioning: Partitioning,
    scratches: Mutex<Vec<Scratch<K>>>,
}

impl<K: KeyRows> Mapper<K> {
    fn map(&self, pieces: Vec<Piece>, marks: Marks) -> Result<Mapped<K>> {
        let mut scratch = self.scratches.lock().ok().and_then(|mut s| s.pop()).unwrap_or_default();
        let mapped = map_block(&self.plan, &self.partitioning, pieces, marks, &mut scratch);
        if let Ok(mut scratches) = self.scratches.lock() {
            scratches.push(scratch);
        }
        mapped
    }
}

/// A task that was run once more, and its blocks.
type Redone = (Arc<dyn Task>, Vec<Vec<Piece>>);

/// What takes blocks in the order of the input.
struct Reducer<'a, K: KeyRows> {
    plan: &'a Plan,
    budget: &'a Budget,
    mapper: &'a Mapper<K>,
    judge: &'a mut Option<Judge>,
    partitions: &'a mut Vec<Partition<K>>,
    tally: &'a mut Tally,
    /// The last task that was run once more; blocks that were asked for are gone.
    again: Option<Redone>,
}

impl<K: KeyRows> Reducer<'_, K> {
    /// Judges blocks and maps those that were not mapped yet, then lets every partition take its part of all.
    fn reduce(&mut self, blocks: Vec<(usize, Slot<K>)>, late_sink: &mut Option<LateSink>) -> Result<()> {
        let judged = blocks.into_iter().map(|(input, slot)| self.judge(input, slot));
        let judged: Vec<(Slot<K>, Marks)> = judged.collect::<Result<_>>()?;
        self.again = None;
        let blocks: Vec<Box<Mapped<K>>> = judged
            .into_par_iter()
            .map(|(slot, marks)| match slot {
                Slot::Mapped(block, _) => Ok(block),
                Slot::Part(_, pieces) => self.mapper.map(pieces, marks).map(Box::new),
            })
            .collect::<Result<_>>()?;
        let partitions = &mut *self.partitions;
        for block in &blocks {
            self.tally.block(block);
            // The first block has decided how many partitions there are.
            while partitions.len() < block.partitions() {
                partitions.push(Partition::new(self.plan, self.budget.lease("the keys and panes of a partition")));
            }
        }
        let plan = self.plan;
        partitions.par_iter_mut().enumerate().try_for_each(|(p, partition)| {
            blocks.iter().enumerate().try_for_each(|(number, block)| partition.take(plan, p, number, block))
        })?;
        let late: Vec<(usize, usize)> = partitions.iter_mut().flat_map(Partition::take_late).collect();
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

    /// The watermarks that the records of a block came under.
    fn judge(&mut self, input: usize, slot: Slot<K>) -> Result<(Slot<K>, Marks)> {
        let Some(judge) = &mut *self.judge else { return Ok((slot, Marks::new())) };
        let (pieces, again) = match slot {
            Slot::Part(_, pieces) => (pieces, None),
            Slot::Mapped(block, origin) => {
                let on_time = judge.pass(input, block.times);
                match origin {
                    Some(origin) if !on_time => (Vec::new(), Some(origin)),
                    _ => return Ok((Slot::Mapped(block, None), Marks::new())),
                }
            }
        };
        let pieces = again.map_or(Ok(pieces), |origin| self.again(&origin))?;
        let marks = self.judge.as_mut().map_or_else(Marks::new, |judge| judge.judge(input, &pieces));
        Ok((Slot::Part(Cut::Whole, pieces), marks))
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

    /// Whether the cells of windows that have closed are many, also against the others, which stay and are moved.
    fn is_step(&self) -> bool {
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
        let (mut closed, mut all) = (0, 0);
        for partition in self.partitions.iter() {
            closed += partition.panes.closed_cells(spec.panes_of(upto).1, upto);
            all += partition.panes.cells();
        }
        closed >= STEP_CELLS && 2 * closed >= all
    }
}

/// Puts blocks together whose parts came from different tasks.
#[derive(Default)]
struct Joint {
    pieces: Vec<Piece>,
}

impl Joint {
    fn push<K>(&mut self, slot: Slot<K>, mut out: impl FnMut(Slot<K>)) {
        match slot {
            Slot::Mapped(..) => {
                self.flush(&mut out);
                out(slot);
            }
            Slot::Part(cut, pieces) => {
                if matches!(cut, Cut::Tail | Cut::Whole) {
                    self.flush(&mut out);
                }
                self.pieces.extend(pieces);
                if matches!(cut, Cut::Head | Cut::Whole) {
                    self.flush(&mut out);
                }
            }
        }
    }

    fn flush<K>(&mut self, mut out: impl FnMut(Slot<K>)) {
        if !self.pieces.is_empty() {
            out(Slot::Part(Cut::Whole, std::mem::take(&mut self.pieces)));
        }
    }
}
