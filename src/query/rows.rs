//! The rows of a query: an iterator of record batches that does the work as it is asked.

use super::Query;
use super::checkpoint::Saver;
use super::exec::{Context, Run, begin};
use super::open::{Opened, open};
use super::order::Order;
use super::plan::{Plan, Request};
use super::session::SessionSpec;
use super::sorted::Sorted;
use crate::engine::{overlap, pool};
use crate::memory::Budget;
use crate::metrics::Statistics;
#[cfg(doc)]
use crate::source::Live;
use crate::source::{BadPlace, Position, Progress};
use crate::{Error, Result};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::SchemaRef;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The result of a query, in the order of windows and, inside a window, of the keys' hashes.
pub struct Rows {
    plan: Arc<Plan>,
    order: Option<Ordered>,
    /// Rows handed out.
    rows_out: Arc<AtomicU64>,
    /// Blocks are taken one after the other: where the output stands is part of the state.
    in_turn: bool,
    sealed: bool,
    pool: Arc<rayon::ThreadPool>,
    live: bool,
    run: Box<dyn Run>,
    /// Nothing more will come.
    done: bool,
    /// Nothing was left to do.
    finished: bool,
    budget: Budget,
    progress: Arc<Progress>,
    notes: Vec<String>,
    ready: VecDeque<RecordBatch>,
}

/// How the rows of a window are put in order.
enum Ordered {
    /// As they close on the way.
    AtOnce(Order),
    /// When all of a window have come.
    Complete(Box<Sorted>),
}

impl Rows {
    pub(crate) fn open(mut query: Query) -> Result<Rows> {
        if query.aggregates.is_empty() {
            query.aggregates.push(super::count());
        }
        let mut saver = query.checkpoint.take().map(|checkpoint| Saver::open(checkpoint, &query)).transpose()?;
        let Query {
            input,
            keys,
            window,
            session,
            aggregates,
            filter,
            having,
            top,
            sort,
            mut options,
            bad_sink,
            late_sink,
            checkpoint: _,
        } = query;
        if let Some(saver) = &mut saver {
            options.lengths = Arc::new(saver.lengths());
            options.task_bytes = Some(saver.task_bytes());
            if let Some(live) = &mut options.live {
                (live.positions, live.keep_open) = (saver.positions(), true);
                live.sample.clone_from(saver.sample());
                live.journal = saver.journal();
            }
        }
        if window.is_some() && session.is_some() {
            return Err(Error::usage("a query has windows or sessions; leave one of them out"));
        }
        let lateness = options.lateness(window.is_some() || session.is_some())?;
        let progress = options.progress();
        let request = Request {
            keys: &keys,
            window: window.map(|w| w.0),
            session: session.map(|s| SessionSpec::new(s, &options)),
            range: options.range,
            aggregates: &aggregates,
            filter: filter.as_deref(),
            having: having.as_deref(),
            naive: options.naive,
            fields: None,
            carry: super::Carry::Nothing,
        };
        let Opened { mut plan, reader, inputs, sample, is_void, mut notes } =
            open(input, &request, &options, bad_sink.is_some(), &progress)?;
        if let Some(saver) = &mut saver {
            saver.sample().clone_from(&sample);
            saver.void(is_void);
        }
        notes.extend(saver.iter().flat_map(Saver::notes));
        let sealed = saver.as_ref().is_some_and(Saver::is_sealed);
        let in_turn = saver.is_some() && lateness.is_some();
        let rows_out = saver.as_ref().map(Saver::rows_out).unwrap_or_default();
        let finished = saver.as_ref().is_some_and(Saver::is_finished);
        let pool = pool(options.threads)?;
        let budget = options.memory.map_or_else(Budget::unlimited, Budget::new);
        let context = Context {
            threads: pool.current_num_threads(),
            engine: options.engine,
            budget: budget.clone(),
            bits: options.partition_bits,
            lateness,
            max_bad: options.max_bad,
            bad_sink,
            late_sink,
            spill_dir: options.spill_dir.clone(),
            inputs,
            progress: progress.clone(),
            live: options.live.clone(),
        };
        let sort_dir = options.spill_dir;
        if let Some(limit) = options.memory {
            plan.fit(limit);
        }
        let plan = Arc::new(plan);
        let first = plan.schema.fields().len() - plan.outputs.len() - plan.keys.len();
        let order = Order::new(&plan.schema, first..first + plan.keys.len(), top.as_ref(), sort)?;
        let order = order.map(|order| match lateness {
            Some(_) => Ordered::AtOnce(order),
            None => Ordered::Complete(Box::new(Sorted::new(order, &plan, budget.limit(), sort_dir))),
        });
        Ok(Rows {
            run: pool.install(|| begin(plan.clone(), reader, context, saver))?,
            plan,
            order,
            rows_out,
            in_turn,
            sealed,
            pool: Arc::new(pool),
            done: finished || sealed,
            finished,
            live: options.live.is_some(),
            budget,
            progress,
            notes,
            ready: VecDeque::new(),
        })
    }

    /// The columns: window bounds, keys, aggregates.
    pub fn schema(&self) -> SchemaRef {
        self.plan.schema.clone()
    }

    /// Statistics so far; complete after the last row.
    pub fn statistics(&self) -> Statistics {
        let mut statistics = self.run.statistics();
        statistics.rows_out = self.rows_out.load(Ordering::Relaxed);
        statistics.peak_memory_bytes = self.budget.peak() as u64;
        if let Some(Ordered::Complete(sorted)) = &self.order {
            statistics.spilled_bytes += sorted.spilled_bytes();
        }
        statistics
    }

    /// The first few bad records; complete once rows come.
    pub fn bad_records(&self) -> &[BadPlace] {
        self.run.bad()
    }

    /// Whether the [checkpoint](Query::checkpoint) says that the run was complete before: then no rows come.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the [checkpoint](Query::checkpoint) says that the run was [sealed](Self::seal): no rows come, and the output is
    /// complete but for its name.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Whether the run was stopped and its state is saved in the [checkpoint](Query::checkpoint): the rows of the windows that
    /// are open come when the same query goes on. Only live input ends so; other runs end in an error that says it.
    pub fn is_saved(&self) -> bool {
        self.run.is_saved()
    }

    /// Takes note in the [checkpoint](Query::checkpoint), if there is one, that all rows were written, before an output that
    /// is a [side](super::Checkpoint::side) of it gets its final name.
    ///
    /// # Errors
    /// Those of the disk; rows that were not asked for.
    pub fn seal(&mut self) -> Result<()> {
        if !self.done {
            return Err(Error::usage("a run is sealed when all of its rows have been taken"));
        }
        if self.sealed || self.finished || self.is_saved() { Ok(()) } else { self.run.seal() }
    }

    /// Takes note in the [checkpoint](Query::checkpoint), if there is one, that all rows are where they should be. Its state
    /// is removed, and the same query finds that it [is finished](Self::is_finished). Nothing is done if it
    /// [is saved](Self::is_saved), and is to go on.
    ///
    /// # Errors
    /// Those of the disk; rows that were not asked for.
    pub fn complete(&mut self) -> Result<()> {
        if !self.done {
            return Err(Error::usage("a run is complete when all of its rows have been taken"));
        }
        if self.finished || self.is_saved() { Ok(()) } else { self.run.complete() }
    }

    /// What was found out about the input and should be told to a person: the format chosen, fields that may be missing.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// How far the run is, to be read from another thread.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// How many windows were handed out before they had closed, because the run was stopped ([`Live::stop_flag`]).
    pub fn partial(&self) -> u64 {
        self.run.partial()
    }

    /// How far followed files have been read: everything before these positions counts in the windows that were handed
    /// out or are open, nothing behind them does. Between two blocks of rows, and after the last one.
    ///
    /// [`Live::from_positions`] goes on behind them.
    pub fn positions(&self) -> Vec<Position> {
        self.run.positions()
    }

    /// Worker threads of the run.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Hands all rows to `take`, some windows at a time, in order, on the run's own pool of workers. This is the fastest
    /// way out: text keys come as `Dictionary(Int32, Utf8)`, otherwise the columns are those of [`schema`](Self::schema).
    /// `take` returns whether it wants more.
    ///
    /// # Errors
    /// Those of the run, and those of `take`.
    pub fn for_each_block(&mut self, mut take: impl FnMut(Vec<RecordBatch>) -> Result<bool> + Send) -> Result<()> {
        let pool = self.pool.clone();
        if self.live || self.in_turn {
            // What has closed must be taken before anything is waited for, so the two do not overlap.
            return pool.install(|| {
                while let Some(block) = self.next_block()? {
                    if !take(block)? {
                        self.done = true;
                        break;
                    }
                }
                Ok(())
            });
        }
        if !pool.install(|| overlap(|| self.next_block(), take))? {
            self.done = true;
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        if self.done {
            return Ok(None);
        }
        let (run, order) = (&mut self.run, &mut self.order);
        let block = self.pool.install(|| match order {
            Some(Ordered::AtOnce(order)) => run.next_block()?.map(|block| order.apply(block)).transpose(),
            Some(Ordered::Complete(sorted)) => sorted.next_block(run.as_mut()),
            None => run.next_block(),
        });
        if let Ok(Some(batches)) = &block {
            let rows = batches.iter().map(|b| b.num_rows() as u64).sum();
            self.rows_out.fetch_add(rows, Ordering::Relaxed);
        }
        let (windows, handed_out) = self.run.windows();
        self.progress.windows_total.store(windows, Ordering::Relaxed);
        self.progress.windows_done.store(handed_out, Ordering::Relaxed);
        self.done = !matches!(block, Ok(Some(_)));
        block
    }

    /// A batch with the plan's own types.
    fn plain(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let columns = batch.columns().iter().zip(self.plan.schema.fields());
        let columns: Vec<ArrayRef> = columns
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    Ok(column.clone())
                } else {
                    Ok(cast(column, field.data_type())?)
                }
            })
            .collect::<Result<_>>()?;
        let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.plan.schema.clone(), columns, &options)?)
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Some(self.plain(&batch));
            }
            match self.next_block() {
                Ok(Some(batches)) => self.ready.extend(batches),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
