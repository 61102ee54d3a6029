//! The records of an input as they were parsed: columns of fields, in the order of the input.
//!
//! The same readers and decoders as of a query, and nothing behind them: blocks are decoded in parallel and leave in
//! order, some at a time, so memory is bounded whatever the input. A time that is missing or does not parse is null here.

use super::exec::Context;
use super::map::Piece;
use super::open::{Opened, open};
use super::plan::{Carry, Plan, Request, timestamp_type};
use super::tally::Tally;
use super::text::TextColumn;
use super::{Engine, Query};
use crate::engine::{Pipeline, overlap, pool};
use crate::memory::{Budget, Lease};
use crate::metrics::{Ledger, Statistics};
use crate::source::times::times;
use crate::source::{BadPlace, Progress, Reader, Report, Task};
use crate::time::TimeFormat;
use crate::{Error, Result};
use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, SchemaRef};
use arrow_select::filter::filter_record_batch;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;

/// The records of an input, an iterator of record batches; see [`Query::records`].
pub struct Records {
    shape: Arc<Shape>,
    pool: Arc<rayon::ThreadPool>,
    reader: Box<dyn Reader>,
    pipeline: Pipeline<Box<dyn Task>, Unit>,
    context: Context,
    tally: Tally,
    progress: Arc<Progress>,
    notes: Vec<String>,
    ready: VecDeque<RecordBatch>,
    rows: u64,
    done: bool,
}

/// What a task came to.
struct Unit {
    batches: Vec<RecordBatch>,
    ledger: Ledger,
    report: Report,
    _lease: Lease,
}

/// How decoded columns become those that leave.
struct Shape {
    plan: Plan,
    /// The time among the columns of the plan, and how it is written where it is not a timestamp already.
    time: Option<(usize, TimeFormat)>,
}

impl Records {
    pub(super) fn open(query: Query, fields: &[String]) -> Result<Records> {
        let Query {
            input, keys, window, session, aggregates, filter, having, top, sort, mut options, bad_sink, ..
        } = query;
        let more = !keys.is_empty() || window.is_some() || session.is_some() || !aggregates.is_empty();
        if more || having.is_some() || top.is_some() || sort {
            return Err(Error::usage("records have no keys, windows or aggregates: ask for them, or for rows"));
        }
        // Records whose time is missing are filtered, not bad.
        let range = options.range.take();
        let request = Request {
            keys: &[],
            window: None,
            session: None,
            range,
            aggregates: &[],
            filter: filter.as_deref(),
            having: None,
            naive: false,
            fields: Some(fields),
            carry: Carry::Nothing,
        };
        let progress = options.progress();
        let Opened { plan, reader, inputs, notes, .. } =
            open(input, &request, &options, bad_sink.is_some(), &progress)?;
        let pool = pool(options.threads)?;
        let threads = pool.current_num_threads();
        let time = plan.scan_time.map(|column| (column, options.time_format()));
        let inputs_count = inputs.len();
        Ok(Records {
            shape: Arc::new(Shape { plan, time }),
            pool: Arc::new(pool),
            pipeline: Pipeline::new(reader.round(threads).min(2 * threads)),
            reader,
            context: Context {
                threads,
                engine: Engine::Incremental,
                budget: options.memory.map_or_else(Budget::unlimited, Budget::new),
                bits: None,
                lateness: None,
                max_bad: options.max_bad,
                bad_sink,
                late_sink: None,
                spill_dir: None,
                inputs,
                progress: progress.clone(),
                live: None,
            },
            tally: Tally::new(inputs_count),
            progress,
            notes,
            ready: VecDeque::new(),
            rows: 0,
            done: false,
        })
    }

    /// The fields and their types; text is `Utf8`, the time of text formats a timestamp in microseconds, UTC.
    pub fn schema(&self) -> SchemaRef {
        self.shape.plan.schema.clone()
    }

    /// Statistics so far; complete after the last record.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.tally.statistics.clone();
        statistics.rows_out = self.rows;
        statistics.peak_memory_bytes = self.context.budget.peak() as u64;
        statistics
    }

    /// The first few bad records so far.
    pub fn bad_records(&self) -> &[BadPlace] {
        &self.tally.bad
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

    /// Hands all records to `take`, some batches at a time, in order, on the run's own pool of workers. `take` returns
    /// whether it wants more.
    ///
    /// # Errors
    /// Those of the run, and those of `take`.
    pub fn for_each_block(&mut self, take: impl FnMut(Vec<RecordBatch>) -> Result<bool> + Send) -> Result<()> {
        let pool = self.pool.clone();
        if !pool.install(|| overlap(|| self.next_block(), take))? {
            self.done = true;
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        if self.done {
            return Ok(None);
        }
        let block = self.read();
        self.done |= block.is_err();
        block
    }

    fn read(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let Records { shape, pool, reader, pipeline, context, tally, .. } = self;
        let (budget, progress) = (context.budget.clone(), context.progress.clone());
        let mut batches: Vec<RecordBatch> = Vec::new();
        let ended = pool.install(|| {
            pipeline.run(
                |most| progress.go_on().and_then(|()| reader.tasks(most)),
                |task| {
                    let mut lease = budget.lease("the records of a round");
                    let (mut batches, mut ledger, mut bytes) = (Vec::new(), Ledger::default(), 0);
                    let report = task.run(&mut |_, pieces| {
                        for piece in pieces {
                            let batch = shape.batch(&piece, &mut ledger)?;
                            bytes += batch.get_array_memory_size();
                            batches.push(batch);
                        }
                        lease.resize(bytes)
                    })?;
                    Ok(Unit { batches, ledger, report, _lease: lease })
                },
                |units: Vec<Unit>| {
                    for unit in units {
                        tally.report(unit.report, context)?;
                        tally.statistics.ledger.add(&unit.ledger);
                        batches.extend(unit.batches.into_iter().filter(|batch| batch.num_rows() > 0));
                    }
                    Ok(if batches.is_empty() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
                },
            )
        })?;
        if ended {
            self.done = true;
            self.reader.finish()?;
            self.tally.check_share(&self.context)?;
        }
        self.rows += batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
        Ok((!batches.is_empty()).then_some(batches))
    }
}

impl Iterator for Records {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(Ok(batch));
            }
            match self.next_block() {
                Ok(Some(batches)) => self.ready.extend(batches),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Shape {
    /// The records of `piece` that pass, as they leave.
    fn batch(&self, piece: &Piece, ledger: &mut Ledger) -> Result<RecordBatch> {
        let plan = &self.plan;
        let time = self.time.as_ref().map(|(column, format)| instants(&piece.columns[*column], format)).transpose()?;
        let schema = plan.schema.fields();
        let columns: Vec<ArrayRef> = (plan.scanned.iter().zip(schema))
            .map(|(column, field)| match (&self.time, &time) {
                (Some((at, _)), Some(time)) if at == column && field.data_type() == &timestamp_type() => {
                    Ok(time.clone())
                }
                _ => plain(&piece.columns[*column], field.data_type(), plan.marked_keys),
            })
            .collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(piece.rows));
        let mut batch = RecordBatch::try_new_with_options(plan.schema.clone(), columns, &options)?;
        let mut mask: Option<BooleanArray> = plan.filter.as_ref().map(|filter| filter.mask(piece)).transpose()?;
        if let (Some((from, to)), Some(time)) = (plan.range, &time) {
            let times = time.as_primitive::<TimestampMicrosecondType>();
            let inside = |row: usize| times.is_valid(row) && (from..to).contains(&times.value(row));
            let filtered = |row: usize| mask.as_ref().is_none_or(|mask| mask.is_valid(row) && mask.value(row));
            mask = Some((0..piece.rows).map(|row| Some(inside(row) && filtered(row))).collect());
        }
        if let Some(mask) = &mask {
            batch = filter_record_batch(&batch, mask)?;
        }
        let kept = batch.num_rows() as u64;
        ledger.add(&Ledger {
            read: piece.rows as u64,
            used: kept,
            filtered: piece.rows as u64 - kept,
            ..Ledger::default()
        });
        Ok(batch)
    }
}

/// The time as a timestamp in microseconds, UTC; null where it does not parse.
fn instants(column: &ArrayRef, format: &TimeFormat) -> Result<ArrayRef> {
    if column.data_type() == &timestamp_type() {
        return Ok(column.clone());
    }
    let (values, valid) = times(column, format)?;
    let nulls = valid.map(|valid| NullBuffer::new(valid.values().clone()));
    Ok(Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC")))
}

/// The column in the type in which it leaves.
fn plain(column: &ArrayRef, to: &DataType, marked: bool) -> Result<ArrayRef> {
    if column.data_type() == to && !(marked && to == &DataType::Utf8) {
        return Ok(column.clone());
    }
    let text = TextColumn::new(column)?;
    let mut builder = StringBuilder::with_capacity(column.len(), 0);
    for row in 0..column.len() {
        let bytes = text.get(row).map(|bytes| if marked { crate::format::json::display_token(bytes) } else { bytes });
        builder.append_option(bytes.map(String::from_utf8_lossy));
    }
    Ok(Arc::new(builder.finish()))
}
