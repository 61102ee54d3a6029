//! The rows of a query: an iterator of record batches that does the work as it is asked.

use super::emit::Emitter;
use super::exec::{BadSink, Context, fold};
use super::open::{Opened, open};
use super::plan::{Plan, Request};
use super::{Engine, MaxBad, Query};
use crate::engine::pool;
use crate::memory::Budget;
use crate::metrics::Statistics;
use crate::source::{BadPlace, Progress, Reader};
use crate::{Error, Result};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::SchemaRef;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The result of a query, in the order of windows and, inside a window, of the keys' hashes.
pub struct Rows {
    plan: Arc<Plan>,
    pool: Arc<rayon::ThreadPool>,
    state: State,
    budget: Budget,
    progress: Arc<Progress>,
    statistics: Statistics,
    bad: Vec<BadPlace>,
    notes: Vec<String>,
    ready: VecDeque<RecordBatch>,
}

enum State {
    Reading(Box<Reading>),
    Emitting(Box<Emitter>),
    Done,
}

struct Reading {
    reader: Box<dyn Reader>,
    inputs: Vec<Option<PathBuf>>,
    threads: usize,
    bits: Option<u32>,
    engine: Engine,
    max_bad: MaxBad,
    bad_sink: Option<BadSink>,
}

impl Rows {
    pub(crate) fn open(query: Query) -> Result<Rows> {
        let Query { input, keys, window, mut aggregates, filter, having, options, bad_sink } = query;
        if aggregates.is_empty() {
            aggregates.push(super::count());
        }
        let progress = Arc::new(Progress::default());
        let request = Request {
            keys: &keys,
            window: window.map(|w| w.0),
            range: options.range,
            aggregates: &aggregates,
            filter: filter.as_deref(),
            having: having.as_deref(),
            naive: options.naive,
            carry: super::Carry::Nothing,
        };
        let Opened { plan, reader, inputs, notes } = open(input, &request, &options, bad_sink.is_some(), &progress)?;
        let pool = pool(options.threads)?;
        let reading = Reading {
            reader,
            inputs,
            threads: pool.current_num_threads(),
            bits: options.partition_bits,
            engine: options.engine,
            max_bad: options.max_bad,
            bad_sink,
        };
        Ok(Rows {
            plan: Arc::new(plan),
            pool: Arc::new(pool),
            state: State::Reading(Box::new(reading)),
            budget: options.memory.map_or_else(Budget::unlimited, Budget::new),
            progress,
            statistics: Statistics::default(),
            bad: Vec::new(),
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
        let mut statistics = self.statistics.clone();
        statistics.peak_memory_bytes = self.budget.peak() as u64;
        statistics
    }

    /// The first few bad records; complete once rows come.
    pub fn bad_records(&self) -> &[BadPlace] {
        &self.bad
    }

    /// What was found out about the input and should be told to a person: the format chosen, fields that may be missing.
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

    /// Hands all rows to `take`, some windows at a time, in order, on the run's own pool of workers. This is the fastest
    /// way out: text keys come as `Dictionary(Int32, Utf8)`, otherwise the columns are those of [`schema`](Self::schema).
    /// `take` returns whether it wants more.
    ///
    /// # Errors
    /// Those of the run, and those of `take`.
    pub fn for_each_block(&mut self, mut take: impl FnMut(Vec<RecordBatch>) -> Result<bool> + Send) -> Result<()> {
        let pool = self.pool.clone();
        let mut ready = self.next_block()?;
        while let Some(batches) = ready {
            // The next block is made while this one is taken, so that workers who are done with one help with the other.
            let (taken, next) = pool.install(|| rayon::join(|| take(batches), || self.next_block()));
            if !taken? {
                self.state = State::Done;
                return Ok(());
            }
            ready = next?;
        }
        Ok(())
    }

    fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        if let State::Reading(_) = self.state {
            let State::Reading(reading) = std::mem::replace(&mut self.state, State::Done) else { return Ok(None) };
            let Reading { mut reader, inputs, threads, bits, engine, max_bad, bad_sink } = *reading;
            let mut context = Context { threads, engine, budget: self.budget.clone(), bits, max_bad, bad_sink, inputs };
            let plan = &self.plan;
            let folded = self.pool.install(|| fold(plan, &mut *reader, &mut context))?;
            self.statistics = folded.statistics;
            self.bad = folded.bad;
            self.progress.windows_total.store(folded.emitter.windows().0, Ordering::Relaxed);
            self.state = State::Emitting(Box::new(folded.emitter));
        }
        let State::Emitting(emitter) = &mut self.state else { return Ok(None) };
        let block = self.pool.install(|| emitter.next_block())?;
        self.progress.windows_done.store(emitter.windows().1, Ordering::Relaxed);
        match &block {
            Some(batches) => self.statistics.rows_out += batches.iter().map(|b| b.num_rows() as u64).sum::<u64>(),
            None => self.state = State::Done,
        }
        Ok(block)
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
                Err(error) => {
                    self.state = State::Done;
                    return Some(Err::<RecordBatch, Error>(error));
                }
            }
        }
    }
}
