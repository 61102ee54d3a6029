//! Hash-partitioning records: every record goes to the part of its key, whole and in the order of the input.
//!
//! The part of a key is `⌊hash × parts / 2⁶⁴⌋` with the published hash of [`crate::hash`]: for a power of two, its leading
//! bits. It depends on the key alone, not on the machine, the version, the format of the input or how many records there are.
//!
//! A block is decoded, its rows are grouped by part (stable) and handed on as slices. Two ways lead to the parts:
//! - *direct*, if all parts can be open at once within the memory limit: blocks are handed over in input order while the
//!   next ones are decoded; nothing is written twice.
//! - *through the shuffle*, if they cannot: workers spill ([`crate::shuffle`]), then parts are written one after the other,
//!   each from its blocks in sequence order.
//!
//! Invariant: both ways hand the same rows in the same order to each part, in calls that may be cut differently.

use super::exec::Context;
use super::keys::{ByteRows, KeyBatch, WordRows};
use super::map::{Piece, select};
use super::open::{Opened, open};
use super::plan::{Carry, Plan, Request};
use super::spill::rows::{to_batch, to_columns};
use super::tally::Tally;
use super::text::{TextColumn, is_text};
use super::{Engine, MaxBad, Query};
use crate::core::partition::counting_sort;
use crate::engine::{Pipeline, pool};
use crate::format::json::display_token;
use crate::memory::Budget;
use crate::metrics::{Ledger, Statistics};
use crate::shuffle::{Options as ShuffleOptions, Writers};
use crate::source::{BadPlace, Progress, Reader};
use crate::store::spill_dir::SpillDir;
use crate::{Error, Result};
use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_cast::cast;
use arrow_schema::{DataType, SchemaRef};
use arrow_select::take::take;
use rayon::prelude::*;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// More parts than this are refused.
pub(crate) const MOST_PARTS: u32 = 1 << 16;

/// Where the records of each part go.
pub trait Parts: Sync {
    /// Takes the next rows of a part, in the order of the input. Calls for different parts come at the same time.
    ///
    /// # Errors
    /// Whatever keeps the rows from being taken; it ends the run.
    fn write(&self, part: u32, rows: &RecordBatch) -> Result<()>;

    /// No more rows come for this part.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    fn end(&self, part: u32) -> Result<()>;

    /// About how many bytes of memory a part takes that has had rows and has not ended.
    fn open_bytes(&self) -> usize {
        0
    }
}

/// A bound repartitioning; see [`Query::repartition`].
///
/// ```
/// use arrow_array::RecordBatch;
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use windrow::query::{Carry, Parts, Query};
///
/// /// Counts; [`PartFiles`](windrow::sink::PartFiles) writes.
/// struct Counts([AtomicUsize; 2]);
/// impl Parts for Counts {
///     fn write(&self, part: u32, rows: &RecordBatch) -> windrow::Result<()> {
///         self.0[part as usize].fetch_add(rows.num_rows(), Ordering::Relaxed);
///         Ok(())
///     }
///     fn end(&self, _part: u32) -> windrow::Result<()> { Ok(()) }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let path = dir.path().join("events.ndjson");
/// std::fs::write(&path, "{\"user\":\"a\"}\n{\"user\":\"b\"}\n{\"user\":\"a\"}\n")?;
/// let counts = Counts(Default::default());
/// let mut records = Query::files([&path]).key("user").repartition(2, Carry::Typed)?;
/// records.run(&counts)?;
/// assert_eq!(counts.0.iter().map(|n| n.load(Ordering::Relaxed)).sum::<usize>(), 3);
/// # Ok(())
/// # }
/// ```
pub struct Repartition {
    plan: Plan,
    parts: u32,
    reader: Box<dyn Reader>,
    inputs: Vec<Option<PathBuf>>,
    pool: Arc<rayon::ThreadPool>,
    budget: Budget,
    spill_dir: Option<PathBuf>,
    max_bad: MaxBad,
    bad_sink: Option<super::exec::BadSink>,
    progress: Arc<Progress>,
    statistics: Statistics,
    bad: Vec<BadPlace>,
    notes: Vec<String>,
}

impl Repartition {
    pub(crate) fn open(query: Query, parts: u32, carry: Carry) -> Result<Repartition> {
        let Query { input, keys, window, session, aggregates, filter, having, top, sort, options, bad_sink, .. } =
            query;
        if !(1..=MOST_PARTS).contains(&parts) {
            return Err(Error::usage(format!("{parts} partitions: there can be 1 to {MOST_PARTS}")));
        }
        if keys.is_empty() {
            return Err(Error::usage("name the field to partition by with --key"));
        }
        let more = window.is_some() || session.is_some() || !aggregates.is_empty() || having.is_some();
        if more || top.is_some() || sort || carry == Carry::Nothing {
            return Err(Error::usage(
                "records are partitioned as they are: windows, aggregates and having do not apply",
            ));
        }
        let progress = options.progress();
        let request = Request {
            keys: &keys,
            window: None,
            session: None,
            range: options.range,
            aggregates: &[],
            filter: filter.as_deref(),
            having: None,
            naive: false,
            fields: None,
            carry,
        };
        let Opened { plan, reader, inputs, notes, .. } =
            open(input, &request, &options, bad_sink.is_some(), &progress)?;
        Ok(Repartition {
            plan,
            parts,
            reader,
            inputs,
            pool: Arc::new(pool(options.threads)?),
            budget: options.memory.map_or_else(Budget::unlimited, Budget::new),
            spill_dir: options.spill_dir,
            max_bad: options.max_bad,
            bad_sink,
            progress,
            statistics: Statistics::default(),
            bad: Vec::new(),
            notes,
        })
    }

    /// The columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema.clone()
    }

    /// Whether the only column holds NDJSON records as they stand in the input.
    pub fn whole_records(&self) -> bool {
        self.plan.carry == Carry::Records && self.plan.marked_keys
    }

    /// What was found out about the input and should be told to a person.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How far the run is, to be read from another thread.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Worker threads of the run.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Statistics; complete after [`run`](Self::run).
    pub fn statistics(&self) -> Statistics {
        Statistics { peak_memory_bytes: self.budget.peak() as u64, ..self.statistics.clone() }
    }

    /// The first few bad records.
    pub fn bad_records(&self) -> &[BadPlace] {
        &self.bad
    }

    /// Reads the input and hands every record to `sink`, each part in the order of the input and ended once.
    ///
    /// # Errors
    /// Those of the input and of `sink`; [`crate::ErrorKind::Memory`] if the limit is too small; the disk's, with the spill file
    /// and the offset in it.
    pub fn run(&mut self, sink: &dyn Parts) -> Result<()> {
        // Two rounds of tasks are in memory at most, and those that are being decoded.
        let in_flight = self.reader.task_bytes().saturating_mul(2 * self.round() + self.threads());
        let open = sink.open_bytes().saturating_mul(self.parts as usize);
        let fits = in_flight.saturating_add(open) <= self.budget.limit();
        let pool = self.pool.clone();
        if fits || self.spill_dir.is_none() {
            pool.install(|| self.direct(sink))
        } else {
            pool.install(|| self.shuffled(sink))
        }
    }

    /// Tasks of a round: as many as a quarter of the memory holds twice.
    fn round(&self) -> usize {
        let most = self.reader.round(self.threads());
        match self.budget.limit() {
            usize::MAX => most,
            limit => (limit / 8 / self.reader.task_bytes().max(1)).clamp(1, most),
        }
    }

    fn direct(&mut self, sink: &dyn Parts) -> Result<()> {
        let (plan, parts, budget) = (&self.plan, self.parts, &self.budget);
        let mut open = budget.lease("the files of all partitions");
        if budget.limit() < usize::MAX {
            open.resize(sink.open_bytes().saturating_mul(parts as usize))?;
        }
        let round = self.round();
        let mut run = Run::new(&self.inputs, self.max_bad, self.bad_sink.take(), &self.pool, budget);
        let (reader, progress) = (&mut self.reader, &self.progress);
        let outcome = Pipeline::new(round).run(
            |most| progress.go_on().and_then(|()| reader.tasks(most)),
            |task| {
                let (mut blocks, mut bytes, mut ledger) = (Vec::new(), 0, Ledger::default());
                let mut lease = budget.lease("the blocks of a round");
                let report = task.run(&mut |_, pieces| {
                    for piece in pieces {
                        let block = Block::of(plan, piece, parts, &mut ledger)?;
                        bytes += block.rows.get_array_memory_size();
                        lease.resize(bytes)?;
                        blocks.push(block);
                    }
                    Ok(())
                })?;
                Ok((blocks, report, ledger, lease))
            },
            |tasks| {
                let mut blocks = Vec::new();
                let mut leases = Vec::new();
                for (of, report, ledger, lease) in tasks {
                    run.tally.statistics.ledger.add(&ledger);
                    run.tally.report(report, &mut run.context)?;
                    blocks.extend(of);
                    leases.push(lease);
                }
                (0..parts).into_par_iter().try_for_each(|part| {
                    blocks
                        .iter()
                        .map(|block| block.part(part))
                        .filter(|rows| rows.num_rows() > 0)
                        .try_for_each(|rows| sink.write(part, &rows))
                })?;
                Ok(ControlFlow::Continue(()))
            },
        );
        (self.statistics, self.bad) = run.finish(outcome)?;
        self.reader.finish()?;
        (0..parts).into_par_iter().try_for_each(|part| sink.end(part))
    }

    fn shuffled(&mut self, sink: &dyn Parts) -> Result<()> {
        let (plan, parts, budget) = (&self.plan, self.parts, &self.budget);
        let Some(base) = &self.spill_dir else { return Err(Error::usage("there is no directory to spill into")) };
        let dir = SpillDir::create(base)?;
        let threads = self.pool.current_num_threads();
        // Rows that wait have half of the memory, or what is left by those that are decoded.
        let (limit, decoding) = (budget.limit(), self.reader.task_bytes().saturating_mul(2 * threads));
        let waiting = (limit / 8 * 7).saturating_sub(decoding).clamp(limit / 8, limit / 2);
        let options = ShuffleOptions::new(parts).spill(budget.clone(), waiting / threads, dir);
        let writers = Writers::new(&options, threads);
        let mut run = Run::new(&self.inputs, self.max_bad, self.bad_sink.take(), &self.pool, budget);
        let (reader, progress, tasks) = (&mut self.reader, &self.progress, AtomicU64::new(0));
        let outcome = Pipeline::new(threads).run(
            |most| {
                progress.go_on()?;
                let number = |task| (tasks.fetch_add(1, Ordering::Relaxed), task);
                Ok(reader.tasks(most)?.into_iter().map(number).collect())
            },
            |(number, task)| {
                let mut ledger = Ledger::default();
                let mut block_number = 0u64;
                let report = task.run(&mut |_, pieces| {
                    for piece in pieces.iter().flat_map(cut) {
                        let block = Block::of(plan, piece, parts, &mut ledger)?;
                        // Blocks of a task follow each other: a task has fewer than 2^24 of them.
                        let sequence = number << 24 | block_number;
                        block_number += 1;
                        let columns = to_columns(&block.rows)?;
                        writers.own().push_grouped(
                            crate::store::block::Content::Rows,
                            sequence,
                            block.offsets,
                            columns,
                        )?;
                    }
                    Ok(())
                })?;
                Ok((report, ledger))
            },
            |tasks| {
                for (report, ledger) in tasks {
                    run.tally.statistics.ledger.add(&ledger);
                    run.tally.report(report, &mut run.context)?;
                }
                Ok(ControlFlow::Continue(()))
            },
        );
        (self.statistics, self.bad) = run.finish(outcome)?;
        self.reader.finish()?;
        drop(options);
        let shuffled = writers.finish(false, Vec::new())?;
        self.statistics.spilled_bytes = shuffled.spilled_bytes();
        let schema = &self.plan.schema;
        (0..parts).into_par_iter().with_max_len(1).try_for_each(|part| {
            for chunk in shuffled.partition(part) {
                progress.go_on()?;
                let chunk = chunk?;
                sink.write(part, &to_batch(&chunk.columns(), chunk.rows, schema)?)?;
            }
            sink.end(part)
        })
    }
}

/// What both ways keep of a run.
struct Run {
    tally: Tally,
    context: Context,
}

impl Run {
    fn new(
        inputs: &[Option<PathBuf>],
        max_bad: MaxBad,
        bad_sink: Option<super::exec::BadSink>,
        pool: &rayon::ThreadPool,
        budget: &Budget,
    ) -> Run {
        let tally = Tally::new(inputs.len());
        let context = Context {
            threads: pool.current_num_threads(),
            engine: Engine::Incremental,
            budget: budget.clone(),
            bits: None,
            lateness: None,
            late_sink: None,
            spill_dir: None,
            max_bad,
            bad_sink,
            inputs: inputs.to_vec(),
            progress: Arc::default(),
            live: None,
        };
        Run { tally, context }
    }

    fn finish(self, outcome: Result<bool>) -> Result<(Statistics, Vec<BadPlace>)> {
        outcome?;
        self.tally.check_share(&self.context)?;
        let mut statistics = self.tally.statistics;
        statistics.rows_out = statistics.ledger.used;
        Ok((statistics, self.tally.bad))
    }
}

/// Rows that are grouped at once on their way through the shuffle, where memory is short: they are copied twice.
const CUT_ROWS: usize = if cfg!(test) { 7 } else { 8 << 10 };

/// The rows of a piece, some at a time.
fn cut(piece: &Piece) -> impl Iterator<Item = Piece> {
    (0..piece.rows).step_by(CUT_ROWS).map(move |from| {
        let rows = CUT_ROWS.min(piece.rows - from);
        let times = if piece.times.is_empty() { piece.times.clone() } else { piece.times.slice(from, rows) };
        let columns = piece.columns.iter().map(|column| column.slice(from, rows)).collect();
        Piece { rows, times, columns, text: None }
    })
}

/// Rows of one block, grouped by part.
struct Block {
    rows: RecordBatch,
    /// Rows of part p are `offsets[p]..offsets[p + 1]`.
    offsets: Vec<u32>,
}

impl Block {
    fn of(plan: &Plan, piece: Piece, parts: u32, ledger: &mut Ledger) -> Result<Block> {
        ledger.read += piece.rows as u64;
        let mut piece = piece;
        let before = piece.rows;
        if let Some((from, to)) = plan.range {
            let inside: BooleanArray = piece.times.iter().map(|ts| Some((from..to).contains(ts))).collect();
            piece = select(&piece, &inside)?;
        }
        if let Some(predicate) = &plan.filter {
            let mask = predicate.mask(&piece)?;
            piece = select(&piece, &mask)?;
        }
        ledger.filtered += (before - piece.rows) as u64;
        ledger.used += piece.rows as u64;
        let part_of = parts_of(plan, &piece, parts)?;
        let (mut offsets, mut destination) = (Vec::new(), Vec::new());
        counting_sort(&part_of, parts as usize, &mut offsets, &mut destination);
        let mut order = vec![0u32; piece.rows];
        for (row, at) in destination.iter().enumerate() {
            order[*at as usize] = row as u32;
        }
        let order = UInt32Array::from(order);
        let columns = plan
            .scanned
            .iter()
            .zip(plan.schema.fields())
            .map(|(column, field)| ordered(&piece.columns[*column], &order, field.data_type(), plan.marked_keys));
        let options = RecordBatchOptions::new().with_row_count(Some(piece.rows));
        let columns = columns.collect::<Result<Vec<_>>>()?;
        let rows = RecordBatch::try_new_with_options(plan.schema.clone(), columns, &options)?;
        Ok(Block { rows, offsets })
    }

    fn part(&self, part: u32) -> RecordBatch {
        let Range { start, end } = self.offsets[part as usize] as usize..self.offsets[part as usize + 1] as usize;
        self.rows.slice(start, end - start)
    }
}

/// The part of each row.
fn parts_of(plan: &Plan, piece: &Piece, parts: u32) -> Result<Vec<u32>> {
    let columns: Vec<ArrayRef> = plan.key_columns.iter().map(|c| piece.columns[*c].clone()).collect();
    let mut hashes = Vec::with_capacity(piece.rows);
    if plan.word_key {
        WordRows::default().extend(&columns, piece.rows, &mut hashes)?;
    } else {
        ByteRows::default().extend(&columns, piece.rows, &mut hashes)?;
    }
    Ok(hashes.into_iter().map(|hash| part_of(hash, parts)).collect())
}

/// The part of a hash: ⌊hash × parts / 2⁶⁴⌋.
#[inline]
pub(crate) fn part_of(hash: u64, parts: u32) -> u32 {
    ((u128::from(hash) * u128::from(parts)) >> 64) as u32
}

/// The column in another order and in its type of the output.
fn ordered(column: &ArrayRef, order: &UInt32Array, to: &DataType, marked: bool) -> Result<ArrayRef> {
    if column.data_type() == to {
        return Ok(take(column, order, None)?);
    }
    if to != &DataType::Utf8 || !is_text(column.data_type()) {
        return Ok(take(&cast(column, to)?, order, None)?);
    }
    if matches!(column.data_type(), DataType::Dictionary(..) | DataType::LargeUtf8) {
        return Ok(cast(&take(column, order, None)?, to)?);
    }
    if let Some(text) = column.as_string_view_opt() {
        let bytes = order.values().iter().map(|row| text.views()[*row as usize] as u32 as usize).sum();
        let mut builder = StringBuilder::with_capacity(order.len(), bytes);
        order.values().iter().for_each(|row| {
            let row = *row as usize;
            builder.append_option(text.is_valid(row).then(|| text.value(row)));
        });
        return Ok(Arc::new(builder.finish()));
    }
    let text = TextColumn::new(column)?;
    let shown = |row: u32| text.get(row as usize).map(|t| if marked { display_token(t) } else { t });
    let bytes = order.values().iter().filter_map(|row| shown(*row)).map(<[u8]>::len).sum();
    let mut builder = StringBuilder::with_capacity(order.values().len(), bytes);
    for row in order.values() {
        match shown(*row) {
            None => builder.append_null(),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => builder.append_value(text),
                Err(_) => builder.append_value(String::from_utf8_lossy(bytes)),
            },
        }
    }
    Ok(Arc::new(builder.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written down because files depend on it.
    #[test]
    fn a_part_is_the_leading_bits() {
        for hash in [0, 1, u64::MAX, 0x8000_0000_0000_0000, 0x1234_5678_9abc_def0] {
            assert_eq!(part_of(hash, 1), 0);
            for bits in 1..16 {
                assert_eq!(part_of(hash, 1 << bits), crate::core::partition::partition_of(hash, bits));
            }
            assert!(part_of(hash, 1000) < 1000);
        }
        assert_eq!(part_of(crate::hash::hash_bytes(b"alpha"), 1000), part_of(crate::hash::hash_bytes(b"alpha"), 1000));
    }
}
