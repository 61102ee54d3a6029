//! Record batches from memory, re-cut into blocks of 65,536 rows counted from the first.

use super::times::times;
use super::{BLOCK_ROWS, Cut, ReadOptions, Reader, Report, Task};
use crate::format::BadRecord;
use crate::query::map::Piece;
use crate::time::TimeFormat;
use crate::{Error, Result};
use arrow_array::{ArrayRef, BooleanArray, Int64Array, RecordBatch};
use arrow_select::filter::filter;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Which columns of a batch are wanted, and how the time is written.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    /// The time column and its format.
    pub(crate) time: Option<(usize, TimeFormat)>,
    /// The wanted columns, in the order of the plan.
    pub(crate) wanted: Vec<usize>,
}

/// One piece from rows of a batch, and the rows whose time is not valid, which it leaves out. `first_row` is the
/// number of the batch's first row in its input.
pub(crate) fn piece(batch: &RecordBatch, columns: &Columns, first_row: u64) -> Result<(Piece, Vec<BadRecord>)> {
    let wanted: Vec<ArrayRef> = columns.wanted.iter().map(|c| batch.column(*c).clone()).collect();
    let Some((time, format)) = &columns.time else {
        return Ok((
            Piece { rows: batch.num_rows(), times: Vec::new().into(), columns: wanted, text: None },
            Vec::new(),
        ));
    };
    let (values, valid) = times(batch.column(*time), format)?;
    let Some(valid) = valid else {
        return Ok((Piece { rows: batch.num_rows(), times: values, columns: wanted, text: None }, Vec::new()));
    };
    let bad = bad_rows(&valid, first_row);
    let times: ArrayRef = Arc::new(Int64Array::new(values, None));
    let times = filter(&times, &valid)?;
    let times = arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(&times).values().clone();
    let wanted = wanted.iter().map(|c| filter(c, &valid)).collect::<Result<_, _>>()?;
    Ok((Piece { rows: times.len(), times, columns: wanted, text: None }, bad))
}

fn bad_rows(valid: &BooleanArray, first_row: u64) -> Vec<BadRecord> {
    let invalid = (0..valid.len()).filter(|row| !valid.value(*row));
    invalid.map(|row| BadRecord { line: first_row + row as u64, start: 0, len: 0, reason: "no valid time" }).collect()
}

/// An iterator of batches as a source.
pub(crate) struct BatchReader<I> {
    batches: I,
    columns: Columns,
    options: ReadOptions,
    /// Batches read whose rows have not been handed out.
    pending: Vec<RecordBatch>,
    rows: usize,
    done: u64,
    ended: bool,
}

impl<I: Iterator<Item = Result<RecordBatch>> + Send> BatchReader<I> {
    pub(crate) fn new(batches: I, columns: Columns, options: ReadOptions) -> Self {
        BatchReader { batches, columns, options, pending: Vec::new(), rows: 0, done: 0, ended: false }
    }

    /// The rows of the next block, as slices.
    fn block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        while self.rows < BLOCK_ROWS && !self.ended {
            match self.batches.next() {
                None => self.ended = true,
                Some(batch) => {
                    let batch = batch?;
                    self.rows += batch.num_rows();
                    self.pending.push(batch);
                }
            }
        }
        if self.rows == 0 {
            return Ok(None);
        }
        let mut wanted = BLOCK_ROWS.min(self.rows);
        self.rows -= wanted;
        let mut block = Vec::new();
        while wanted > 0 {
            let batch = self.pending.remove(0);
            if batch.num_rows() > wanted {
                block.push(batch.slice(0, wanted));
                self.pending.insert(0, batch.slice(wanted, batch.num_rows() - wanted));
                wanted = 0;
            } else {
                wanted -= batch.num_rows();
                block.push(batch);
            }
        }
        Ok(Some(block))
    }
}

impl<I: Iterator<Item = Result<RecordBatch>> + Send> Reader for BatchReader<I> {
    fn tasks(&mut self, most: usize) -> Result<Vec<Box<dyn Task>>> {
        let mut tasks: Vec<Box<dyn Task>> = Vec::new();
        while tasks.len() < most
            && let Some(batches) = self.block()?
        {
            let first_row = self.done;
            self.done += batches.iter().map(|b| b.num_rows() as u64).sum::<u64>();
            tasks.push(Box::new(BatchTask {
                batches,
                first_row,
                columns: self.columns.clone(),
                options: self.options.clone(),
            }));
        }
        Ok(tasks)
    }
}

#[derive(Clone)]
struct BatchTask {
    batches: Vec<RecordBatch>,
    first_row: u64,
    columns: Columns,
    options: ReadOptions,
}

impl Task for BatchTask {
    fn run(&self, each: &mut dyn FnMut(Cut, Vec<Piece>) -> Result<()>) -> Result<Report> {
        let mut report = Report::default();
        let mut pieces = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            let (piece, bad) = piece(batch, &self.columns, self.first_row + report.lines)?;
            let from = report.bad.len();
            report.bad.extend(bad);
            // Numbers of this block, as the driver expects them.
            report.bad[from..].iter_mut().for_each(|b| b.line -= self.first_row);
            report.lines += batch.num_rows() as u64;
            report.bytes += batch.get_array_memory_size() as u64;
            pieces.push(piece);
        }
        self.options.progress.records.fetch_add(report.lines, Ordering::Relaxed);
        each(Cut::Whole, pieces)?;
        Ok(report)
    }

    fn again(&self) -> Option<Arc<dyn Task>> {
        let options = ReadOptions { progress: Arc::default(), ..self.options.clone() };
        Some(Arc::new(BatchTask { options, ..self.clone() }))
    }
}

/// The position of column `name`.
pub(crate) fn position(schema: &arrow_schema::Schema, name: &str) -> Result<usize> {
    schema.index_of(name).map_err(|_| Error::usage(format!("there is no column {name:?}")))
}
