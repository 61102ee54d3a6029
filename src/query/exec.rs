//! Running a bound query: input is mapped and reduced, then windows are handed out; all of it as rows are asked for.
//!
//! Without a lateness bound everything is read before the first window is handed out, and the answer is exact however
//! disordered the input. With one, blocks are judged in the order of the input before they are mapped, and windows leave
//! in steps as the watermark passes, so that memory holds what is open.

use super::checkpoint::{Counted, Now, Saved, Saver};
use super::flow::Flow;
use super::held::Held;
use super::judge::Judge;
use super::keys::{ByteRows, KeyRows, WordRows};
use super::map::{Marks, Piece};
use super::partitioning::Partitioning;
use super::plan::Plan;
use super::reduce::Partition;
use super::rounds::{Joint, Mapper, Origin, Reducer, Slot, Turn, Unit, write};
use super::session::Emission;
use super::spill::{Spill, Waves, sequence};
use super::tally::Tally;
use crate::Result;
use crate::core::slide::Engine;
use crate::core::watermark::disorder;
use crate::engine::Pipeline;
use crate::memory::Budget;
use crate::metrics::Statistics;
use crate::source::live::{Live, Paced, Position};
use crate::source::merge::Merged;
use crate::source::{BadPlace, Cut, Progress, Reader, Task};
use arrow_array::RecordBatch;
use serde::{Deserialize, Serialize};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a run without input waits while its state is saved: for what is written meanwhile.
const SAVING_NAP: Duration = Duration::from_millis(1);

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
    /// Where to spill what does not fit in the budget.
    pub(crate) spill_dir: Option<PathBuf>,
    pub(crate) inputs: Vec<Option<PathBuf>>,
    /// Tells when the run is to stop.
    pub(crate) progress: Arc<Progress>,
    /// How windows are handed out that close while the input goes on, and how the run is ended.
    pub(crate) live: Option<Live>,
}

/// How late and how far ahead records may be, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
    /// How many windows were handed out that had not closed, because the run was stopped.
    fn partial(&self) -> u64;
    /// How far followed files have been read whose records count in what was handed out or is still open.
    fn positions(&self) -> Vec<Position>;
    /// Whether the run was stopped and its state saved.
    fn is_saved(&self) -> bool;
    /// The rows are written, and nothing is left to do but to give them their name.
    fn seal(&mut self) -> Result<()>;
    /// The rows are where they should be.
    fn complete(&mut self) -> Result<()>;
}

/// Begins a run, or goes on where its last checkpoint was made. Nothing is read before the first block is asked for. Call it
/// on a rayon pool.
///
/// # Errors
/// Inputs that have to be looked at first and cannot be read.
pub(crate) fn begin(
    plan: Arc<Plan>,
    reader: Box<dyn Reader>,
    context: Context,
    saver: Option<Saver>,
) -> Result<Box<dyn Run>> {
    if plan.word_key {
        Ok(Box::new(Fold::<WordRows>::new(plan, reader, context, saver)?))
    } else {
        Ok(Box::new(Fold::<ByteRows>::new(plan, reader, context, saver)?))
    }
}

/// The run over keys of shape `K`.
struct Fold<K: KeyRows> {
    plan: Arc<Plan>,
    context: Context,
    reader: Box<dyn Reader>,
    pipeline: Pipeline<(u64, Box<dyn Task>), Unit<K>>,
    /// How many tasks there were.
    tasks: u64,
    mapper: Mapper<K>,
    /// One for each input.
    joints: Vec<Joint>,
    judge: Option<Judge>,
    partitions: Vec<Partition<K>>,
    held: Held<K>,
    tally: Tally,
    spill: Option<Spill>,
    emitter: Option<Emission>,
    /// In place of the emitter, if anything was spilled.
    waves: Option<Waves<K>>,
    /// The whole input has been read.
    finished: bool,
    flow: Flow,
    saver: Option<Saver>,
    /// No more is read, because the run is to end and its state to be saved; and it is.
    stopped: bool,
    saved: bool,
    /// Live input has come to its end because the run was stopped, not by itself.
    is_over: bool,
    /// The last block that was taken.
    done: u64,
    /// Tasks below this one, and blocks up to this one, were counted by a run before this one.
    before: (u64, u64),
}

impl<K: KeyRows> Fold<K> {
    fn new(plan: Arc<Plan>, mut reader: Box<dyn Reader>, context: Context, mut saver: Option<Saver>) -> Result<Self> {
        let saved = saver.as_mut().and_then(Saver::take_last).filter(|saved| !saved.finished);
        let round = reader.round(context.threads);
        // Blocks wait for their judgement as they were decoded, which takes more memory than what they are mapped to.
        let round = if context.lateness.is_some() { round.min(2 * context.threads) } else { round };
        // Checkpoints are made between rounds.
        // With a bound what comes between two parts of a checkpoint waits.
        let most = if context.lateness.is_some() { 1 } else { 4 };
        let most = if cfg!(test) { 1 } else { most * context.threads };
        let round = if saver.is_some() { round.min(most) } else { round };
        // With a lateness bound memory holds what is open, and the reference is not for much.
        let spills = context.lateness.is_none() && !plan.naive && context.budget.limit() < usize::MAX;
        let resident = saved.as_ref().and_then(|saved| saved.resident);
        let base = context.spill_dir.clone().filter(|_| spills).or(resident.map(|_| PathBuf::new()));
        let mut spill = base.map(|base| Spill::new(base, &plan, context.budget.clone(), context.threads));
        if let Some(saver) = &saver {
            spill = spill.map(|spill| spill.on(saver.place()));
        }
        let bits = saved.as_ref().and_then(|saved| saved.bits).or(context.bits);
        let used = saved.as_ref().map_or(0, |saved| saved.counted.used());
        let mut partitions = Vec::new();
        if let (Some(saver), Some(saved)) = (&mut saver, &saved) {
            let lease = || context.budget.lease("the keys and panes of a partition");
            partitions = saver.partitions(&plan, saved, lease)?;
            if let Some(spill) = &mut spill {
                if let Some(resident) = resident {
                    let all = bits.map_or(0, |bits| 1 << bits);
                    spill.resume(saver.pieces(saved)?, (resident, all), saved.done)?;
                }
                spill.skip(partitions.iter().map(|partition| partition.taken).collect());
                spill.folded(saved.done);
                spill.relieve(&plan, &mut partitions, used)?;
            }
            partitions.iter_mut().try_for_each(Partition::lease)?;
        }
        let round = match &spill {
            Some(spill) => {
                let (blocks, task) = (spill.shares().blocks, reader.task_bytes().max(1));
                if task * context.threads > blocks {
                    spill.evict_all()?;
                }
                // Three rounds are in memory at a time.
                round.min(blocks / 3 / task).max(1)
            }
            None => round,
        };
        let short = spill.as_ref().is_some_and(Spill::is_short);
        let fine = spill.as_ref().and_then(Spill::fine);
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
        let mut tally = Tally::new(inputs);
        let (mut tasks, mut before, mut emitter) = (0, (0, 0), None);
        let mut judge = context.lateness.map(|lateness| Judge::new(lateness, firsts));
        if let Some(saved) = &saved {
            judge = saved.judge.clone().or(judge);
            emitter = saved.emitted.map(|emitted| Emission::resumed(plan.clone(), emitted));
            tally = saved.counted.tally(inputs);
            (tasks, before) = (saved.tasks, (saved.told, saved.done));
            reader.seen().add(&saved.seen);
        }
        let mut flow = Flow::default();
        if let Some(live) = &context.live {
            flow = Flow::new(&context.inputs, &live.positions);
            flow.logged = saved.as_ref().map_or(0, |saved| saved.logged);
            if let Some(lateness) = context.lateness.filter(|_| live.is_endless()) {
                let now = Judge::new(lateness, reader.first_times()?).live();
                // Before the first block there was none.
                let before = saved.as_ref().filter(|saved| saved.judge.is_some());
                judge = Some(match (before, judge) {
                    // What is had again from a log has the numbers that it had.
                    (Some(_), Some(judge)) if live.journal.is_some() => judge,
                    (Some(saved), Some(judge)) => {
                        let same = flow.same(&saved.names);
                        tally.renumber(&same);
                        now.after(&judge, &same)
                    }
                    _ => now,
                });
            }
            if let Some(speed) = live.speed {
                reader = Box::new(Paced::new(reader, live.clone(), speed));
            }
        } else {
            reader.skip(tasks)?;
        }
        Ok(Fold {
            pipeline: Pipeline::new(round),
            mapper: Mapper::new(plan.clone(), Partitioning::new(bits, context.threads, short, fine)),
            held: Held::new(&context.budget),
            joints: std::iter::repeat_with(Joint::default).take(inputs).collect(),
            judge,
            partitions,
            tally,
            spill,
            emitter,
            waves: None,
            tasks,
            finished: saved.as_ref().is_some_and(|saved| saved.sealed),
            saver,
            stopped: false,
            is_over: false,
            saved: false,
            done: before.1,
            before,
            flow,
            plan,
            context,
            reader,
        })
    }

    /// Whether some partitions are saved and others are not, and all must be as they were at one moment.
    fn is_halfway(&self) -> bool {
        self.saver.as_ref().is_some_and(|saver| saver.reached() < usize::MAX)
    }

    /// Whether windows are handed out as the watermark passes.
    fn streams(&self) -> bool {
        self.judge.is_some() && !self.plan.naive && self.context.engine == Engine::Incremental
    }

    /// Reads on: to the end, or until it is worth while to hand out windows that have closed.
    fn read(&mut self) -> Result<()> {
        self.saver.as_mut().map_or(Ok(()), Saver::declare)?;
        if self.flow.dry {
            // What is being saved does not wait for input, but others may use the processor.
            let waits = self.is_halfway();
            if waits {
                std::thread::sleep(SAVING_NAP);
            }
            if waits || self.reader.wait()? {
                self.flow.dry = false;
                self.pipeline.reopen();
            } else if !self.flow.over {
                self.flow.over = true;
                return Ok(());
            }
        }
        let streams = self.streams();
        let Fold { plan, context, reader, pipeline, mapper, joints, judge, partitions, tally, spill, .. } = self;
        let Fold { tasks, saver, done, before, emitter, flow, stopped, held, .. } = self;
        let (seen, before) = (reader.seen(), *before);
        // A run that is saved ends between two rounds.
        let ends = saver.is_some();
        let spill = spill.as_ref();
        let (budget, progress) = (context.budget.clone(), context.progress.clone());
        let bound = context.lateness.map(|lateness| lateness.bound);
        let live = context.live.is_some();
        let mapper = &*mapper;
        let upto = saver.as_ref().map_or(usize::MAX, Saver::reached);
        let mut reducer =
            Reducer { plan, budget: &budget, spill, mapper, judge, partitions, upto, held, tally, again: None };
        let ended = pipeline.run(
            |most| {
                if ends && progress.is_stopped() {
                    *stopped = true;
                    return Ok(Vec::new());
                }
                progress.go_on()?;
                let first = *tasks;
                let next = reader.tasks(most)?;
                *tasks += next.len() as u64;
                Ok((first..).zip(next).collect())
            },
            |(number, task)| {
                let (mut blocks, mut made) = (Vec::new(), 0);
                let mut lease = spill.map_or(&budget, Spill::blocks).lease("the blocks of a round");
                let mut bytes = 0;
                let again = bound.and_then(|_| task.again());
                let report = task.run(&mut |cut, pieces| {
                    let origin = again.as_ref().map(|task| Origin { task: task.clone(), number: made as usize });
                    // With a bound, a block can be mapped before it is judged if it can be had again, and that is unlikely.
                    let on_time = match (bound, &origin) {
                        (None, _) => true,
                        (Some(_), None) => false,
                        (Some(bound), Some(_)) => pieces.iter().all(|piece| disorder(&piece.times) <= bound),
                    };
                    let place = sequence(number, made);
                    made += 1;
                    if cut == Cut::Whole && place <= before.1 {
                        return Ok(());
                    }
                    blocks.push(if cut == Cut::Whole && on_time {
                        let mapped = mapper.map(pieces, Marks::new())?;
                        let mut mapped = write(spill, mapper.plan(), mapped, place)?;
                        if let Some(spill) = spill
                            && lease.resize(bytes + mapped.bytes()).is_err()
                        {
                            // Blocks that wait for their turn are what there is no memory for.
                            spill.evict_all()?;
                            mapped = write(Some(spill), mapper.plan(), mapped, place)?;
                        }
                        bytes += mapped.bytes();
                        Slot::Mapped(Box::new(mapped), origin)
                    } else {
                        bytes += pieces.iter().map(Piece::bytes).sum::<usize>();
                        Slot::Part(cut, pieces, place)
                    });
                    // What is left over of parts of blocks is little.
                    lease.resize(bytes).or_else(|refused| if spill.is_some() { Ok(()) } else { Err(refused) })
                })?;
                Ok(Unit { task: number, blocks, report, lease })
            },
            |units: Vec<Unit<K>>| {
                let mut blocks: Vec<Turn<K>> = Vec::new();
                let mut leases = Vec::new();
                let mut ended = Vec::new();
                let (mut moved, mut logged) = (Vec::new(), None);
                let told = units.last().map_or(0, |unit| unit.task + 1).max(before.0);
                for unit in units {
                    let input = unit.report.input;
                    ended.extend(unit.report.ended.then_some(input));
                    if let Some(arrival) = &unit.report.arrival {
                        moved.extend(arrival.position.clone().map(|position| (input, position)));
                        logged = logged.max(arrival.logged);
                        blocks.push(Turn::Arrival(input, arrival.clone()));
                    }
                    if unit.task >= before.0 {
                        reducer.tally.report(unit.report, context)?;
                    }
                    leases.push(unit.lease);
                    while joints.len() <= input {
                        joints.push(Joint::default());
                    }
                    for slot in unit.blocks {
                        joints[input].push(slot, |slot| {
                            if slot.place() > before.1 {
                                *done = slot.place().max(*done);
                                blocks.push(Turn::Block(input, slot));
                            }
                        });
                    }
                }
                reducer.reduce(blocks, &mut context.late_sink)?;
                moved.into_iter().for_each(|(input, position)| flow.read(input, position));
                flow.logged = logged.unwrap_or(flow.logged);
                if let Some(judge) = &mut *reducer.judge {
                    ended.into_iter().for_each(|input| judge.end(input));
                }
                if let Some(saver) = saver {
                    let (limit, done) = (budget.limit(), *done);
                    let of = (mapper.partitioning.known(), &*seen);
                    let body =
                        || Saved::of(of, reducer.tally, reducer.judge, joints, emitter.as_ref(), flow, (told, done));
                    let (partitions, held, of_one_moment) =
                        (&mut *reducer.partitions, &*reducer.held, reducer.judge.is_some());
                    let at_once = held.is_full();
                    saver.step(Now { plan, partitions, held, spill, limit, done, of_one_moment, at_once }, body)?;
                    reducer.go_on(saver.reached(), &mut context.late_sink)?;
                }
                // What is being saved must not close.
                let closes =
                    reducer.upto == usize::MAX && (reducer.is_step() || live && flow.is_due() && reducer.has_closed());
                Ok(if streams && closes { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            },
        )?;
        let is_over = ended && flow.over && context.live.as_ref().is_some_and(Live::is_stopped);
        self.is_over = is_over;
        let stopped = ended && *stopped;
        let dry = ended && live && !flow.over;
        if let Some(saver) = saver.as_mut().filter(|_| ended && (stopped || !dry)) {
            saver.join(spill)?;
            reducer.catch_up(&mut context.late_sink)?;
        }
        if let Some(saver) = saver.as_mut().filter(|_| stopped || is_over || dry) {
            let (limit, done, told) = (budget.limit(), *done, (*tasks).max(before.0));
            let of = (mapper.partitioning.known(), &*seen);
            let body = || Saved::of(of, reducer.tally, reducer.judge, joints, emitter.as_ref(), flow, (told, done));
            let (partitions, held, of_one_moment) = (&mut *reducer.partitions, &*reducer.held, reducer.judge.is_some());
            let at_once = stopped || !dry || held.is_full();
            let now = Now { plan, partitions, held, spill, limit, done, of_one_moment, at_once };
            if dry && !stopped {
                saver.rest(now, body)?;
                reducer.go_on(saver.reached(), &mut context.late_sink)?;
            } else {
                saver.stop(now, body())?;
                (self.saved, self.finished) = (true, true);
                return if stopped { Err(saver.stopped()) } else { Ok(()) };
            }
        }
        if dry {
            flow.dry = true;
            flow.has_closed = reducer.has_closed();
        } else if ended {
            let mut rest = Vec::new();
            for (input, joint) in joints.iter_mut().enumerate() {
                joint.flush(|slot| rest.push(Turn::Block(input, slot)));
            }
            reducer.reduce(rest, &mut context.late_sink)?;
            self.finish()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.partitions.is_empty() && self.spill.as_ref().is_none_or(|spill| !spill.is_used()) {
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
        // As it was when the end was reached: a stop that comes now is too late to leave anything open.
        let stopped = self.finished && self.is_over;
        if stopped && self.context.live.as_ref().is_some_and(|live| live.keep_open) {
            return Ok(());
        }
        let is_early = self.flow.dry && !(self.flow.has_closed && self.flow.is_due());
        if !self.finished && (is_early || self.is_halfway()) {
            return Ok(());
        }
        if self.streams() {
            let begun = Instant::now();
            let watermark = self.judge.as_ref().map_or(i64::MIN, Judge::watermark);
            let watermark = (!self.finished).then_some(watermark);
            let emitter = self.emitter.get_or_insert_with(|| Emission::streaming(self.plan.clone()));
            if self.saver.is_some() {
                self.partitions.iter_mut().for_each(Partition::remember);
            }
            if stopped {
                self.flow.closed = Some(emitter.windows().1);
            }
            emitter.close(watermark, &mut self.partitions)?;
            self.flow.looked(begun);
            return Ok(());
        }
        if self.finished {
            let partitions = std::mem::take(&mut self.partitions);
            let mut partitions = partitions;
            if let Some(spill) = &self.spill {
                spill.relieve(&self.plan, &mut partitions, self.tally.statistics.ledger.used)?;
            }
            if let Some(spill) = self.spill.take_if(|spill| spill.is_used()) {
                self.waves = Some(Waves::new(self.plan.clone(), self.context.engine, spill, partitions)?);
                return Ok(());
            }
            self.emitter = Some(Emission::new(self.plan.clone(), self.context.engine, partitions)?);
        }
        Ok(())
    }
}

impl<K: KeyRows> Run for Fold<K> {
    fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        if self.saver.is_none() || self.finished {
            self.context.progress.go_on()?;
        }
        loop {
            if let Some(waves) = &mut self.waves {
                return waves.next_block();
            }
            if let Some(emitter) = &mut self.emitter {
                if let Some(batches) = emitter.next_block()? {
                    return Ok(Some(batches));
                }
                if std::mem::take(&mut self.flow.handed_out) {
                    emitter.release(&mut self.partitions)?;
                }
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
        if let Some(spill) = &self.spill {
            statistics.spilled_bytes = spill.spilled_bytes();
        }
        if let Some(waves) = &self.waves {
            statistics.keys = waves.live_keys();
            statistics.windows = waves.windows().0;
            statistics.spilled_bytes = waves.spilled_bytes();
        }
        statistics
    }

    fn bad(&self) -> &[BadPlace] {
        &self.tally.bad
    }

    fn partial(&self) -> u64 {
        self.flow.closed.map_or(0, |closed| self.windows().1 - closed)
    }

    fn positions(&self) -> Vec<Position> {
        self.flow.positions.values().cloned().collect()
    }

    fn is_saved(&self) -> bool {
        self.saved
    }

    fn seal(&mut self) -> Result<()> {
        self.tally.statistics = self.statistics();
        let (counted, emitted) = (Counted::of(&self.tally), self.emitter.as_ref().map(Emission::emitted));
        let judge = self.judge.clone();
        let logged = self.flow.logged;
        let sealed = Saved { sealed: true, counted, emitted, judge, logged, ..Saved::default() };
        self.saver.as_mut().map_or(Ok(()), |saver| saver.end(sealed))
    }

    fn complete(&mut self) -> Result<()> {
        self.saver.as_mut().map_or(Ok(()), |saver| saver.end(Saved { finished: true, ..Saved::default() }))
    }

    fn windows(&self) -> (u64, u64) {
        match &self.waves {
            Some(waves) => waves.windows(),
            None => self.emitter.as_ref().map_or((0, 0), Emission::windows),
        }
    }
}
