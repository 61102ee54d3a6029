//! `--top` and `--sort key` within a memory limit: a window's rows are brought into order when all of them have come, and
//! what is more than their share of memory leaves as runs on disk that are in order already.
//!
//! Rows come by windows. All windows of a block but the last are complete, and are put in order at once ([`Order`]). The
//! last may go on, for as long as there is input where there are no windows at all. Its rows wait. Of rows of which the top
//! ones stay, these are taken out whenever their share is full; others are sorted and written as a *run*, and at the end of
//! the window its runs are merged: from each, the rows up to the least key with which what is in memory of a run ends, are
//! put in order together.
//!
//! Invariant: the rows that leave are the same, in the same order, as those of a window that was sorted in memory.
//!
//! In memory: a sixteenth of the limit waits, twice that is taken while it is sorted; [`FAN`] runs are merged at a time.

use super::emit::{batch, inner_schema};
use super::exec::Run;
use super::order::Order;
use super::plan::Plan;
use super::spill::rows::{to_batch, to_columns};
use crate::store::block::{Content, Label};
use crate::store::column::{Column, ColumnRef};
use crate::store::disk::OsDisk;
use crate::store::segment::{Segment, SegmentWriter};
use crate::store::spill_dir::SpillDir;
use crate::{Error, ErrorKind, Result};
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{DataType, SchemaRef};
use std::path::PathBuf;
use std::sync::Arc;

/// Runs that are merged at a time.
const FAN: usize = if cfg!(test) { 3 } else { 32 };

/// Rows of a block of a run at least.
const LEAST_ROWS: usize = if cfg!(test) { 2 } else { 256 };

/// The part of the limit that rows may take while they wait.
const SHARE: usize = if cfg!(test) { 1 << 12 } else { 16 };

/// See the module.
pub(crate) struct Sorted {
    order: Order,
    schema: SchemaRef,
    inner: SchemaRef,
    /// Bytes of rows that may wait, and where others go.
    share: usize,
    base: Option<PathBuf>,
    dir: Option<SpillDir>,
    /// Rows of the window that may go on, those of them on disk, and the last one.
    waiting: Vec<RecordBatch>,
    runs: Vec<Segment>,
    last: Option<RecordBatch>,
    /// The window that is handed out, and complete ones that come behind it.
    merging: Option<Merging>,
    behind: Vec<RecordBatch>,
    ended: bool,
    spilled: u64,
}

impl Sorted {
    /// The rows of `plan` in this order. What does not fit a memory limit goes below `base`, if there is one.
    pub(crate) fn new(order: Order, plan: &Plan, limit: usize, base: Option<PathBuf>) -> Sorted {
        Sorted {
            order,
            schema: plan.schema.clone(),
            inner: inner_schema(plan),
            share: if limit == usize::MAX { limit } else { limit / SHARE },
            base,
            dir: None,
            waiting: Vec::new(),
            runs: Vec::new(),
            last: None,
            merging: None,
            behind: Vec::new(),
            ended: false,
            spilled: 0,
        }
    }

    /// Bytes in files so far.
    pub(crate) fn spilled_bytes(&self) -> u64 {
        self.spilled
    }

    /// The next rows of `run`, those that stay, in order; `None` after the last. Runs on the current rayon pool.
    ///
    /// # Errors
    /// Those of the run and of the disk; [`ErrorKind::Memory`] if the rows of which the top ones are taken do not fit.
    pub(crate) fn next_block(&mut self, run: &mut dyn Run) -> Result<Option<Vec<RecordBatch>>> {
        loop {
            if let Some(merging) = &mut self.merging {
                if let Some(rows) = merging.next(&self.order)? {
                    return Ok(Some(vec![self.inner(rows)?]));
                }
                self.merging = None;
            }
            if !self.behind.is_empty() {
                return self.order.apply(std::mem::take(&mut self.behind)).map(Some);
            }
            if self.ended {
                return Ok(None);
            }
            let Some(block) = run.next_block()? else {
                self.ended = true;
                self.complete(Vec::new())?;
                continue;
            };
            let mut complete: Vec<RecordBatch> = block.into_iter().filter(|batch| batch.num_rows() > 0).collect();
            let rest = self.order.split_last(&mut complete);
            let Some(first) = complete.first().or(rest.first()) else { continue };
            let goes_on = self.last.as_ref().is_some_and(|last| self.order.goes_on(last, first));
            if !(complete.is_empty() && goes_on) {
                self.complete(complete)?;
            }
            if let Some(batch) = rest.last() {
                let row = batch.slice(batch.num_rows() - 1, 1);
                self.last = Some(arrow_select::concat::concat_batches(&batch.schema(), [&row])?);
            }
            self.waiting.extend(rest);
            self.relieve()?;
        }
    }

    /// No more rows come for the window that waits but those with which `batches` begin; then come complete windows.
    fn complete(&mut self, mut batches: Vec<RecordBatch>) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let last = self.last.take();
        if self.runs.is_empty() {
            waiting.append(&mut batches);
            self.behind = waiting;
            return Ok(());
        }
        if let Some(last) = last {
            waiting.extend(self.order.split_first(&last, &mut batches));
        }
        self.waiting = waiting;
        if !self.waiting.is_empty() {
            self.spill()?;
        }
        self.merging = Some(Merging::new(std::mem::take(&mut self.runs), self.schema.clone()));
        self.behind = batches;
        Ok(())
    }

    /// Makes room if what waits is more than its share.
    fn relieve(&mut self) -> Result<()> {
        if bytes(&self.waiting) <= self.share || self.base.is_none() {
            return Ok(());
        }
        if !self.order.takes_top() {
            return self.spill();
        }
        self.waiting = self.order.apply(std::mem::take(&mut self.waiting))?;
        if bytes(&self.waiting) <= self.share {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Memory, "the rows that --top keeps do not fit; ask for fewer, or raise --memory"))
    }

    /// Writes what waits as a run.
    fn spill(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        for batch in self.order.apply(waiting)? {
            let mut writer = self.writer()?;
            self.write(&mut writer, &self.plain(&batch)?)?;
            self.end(writer)?;
        }
        if self.runs.len() >= FAN {
            let mut merging = Merging::new(std::mem::take(&mut self.runs), self.schema.clone());
            let mut writer = self.writer()?;
            while let Some(rows) = merging.next(&self.order)? {
                self.write(&mut writer, &rows)?;
            }
            self.end(writer)?;
        }
        Ok(())
    }

    fn writer(&mut self) -> Result<SegmentWriter> {
        let dir = match (&mut self.dir, &self.base) {
            (Some(dir), _) => dir,
            (none, Some(base)) => none.insert(SpillDir::create_on(Arc::new(OsDisk), base)?),
            (None, None) => return Err(Error::new(ErrorKind::Memory, "there is nowhere to sort rows that do not fit")),
        };
        SegmentWriter::spill(dir)
    }

    /// Appends sorted rows to a run.
    fn write(&self, writer: &mut SegmentWriter, rows: &RecordBatch) -> Result<()> {
        let width = (width(rows)).max(1);
        let step = (self.share / FAN / width).max(LEAST_ROWS);
        for start in (0..rows.num_rows()).step_by(step) {
            let rows = rows.slice(start, step.min(rows.num_rows() - start));
            let columns = to_columns(&rows)?;
            let views: Vec<ColumnRef<'_>> = columns.iter().map(Column::view).collect();
            let label = Label { content: Content::Rows, partition: 0, first: 0, last: 0, rows: rows.num_rows() as u32 };
            writer.append(label, &views)?;
        }
        Ok(())
    }

    fn end(&mut self, writer: SegmentWriter) -> Result<()> {
        self.spilled += writer.bytes();
        self.runs.push(writer.seal()?);
        Ok(())
    }

    /// Rows with the types of the output.
    fn plain(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let columns = rows.columns().iter().zip(self.schema.fields()).map(|(column, field)| {
            if column.data_type() == field.data_type() {
                Ok(column.clone())
            } else {
                Ok(cast(column, field.data_type())?)
            }
        });
        batch(&self.schema, columns.collect::<Result<_>>()?, rows.num_rows())
    }

    /// Rows with the types with which they come from runs that are not sorted.
    fn inner(&self, rows: RecordBatch) -> Result<RecordBatch> {
        let columns = rows.columns().iter().zip(self.inner.fields()).map(|(column, field)| {
            if matches!(field.data_type(), DataType::Dictionary(..)) && column.data_type() != field.data_type() {
                let entries = Int32Array::from_iter_values(0..rows.num_rows() as i32);
                return Ok(Arc::new(DictionaryArray::try_new(entries, column.clone())?) as ArrayRef);
            }
            Ok(column.clone())
        });
        batch(&self.inner, columns.collect::<Result<_>>()?, rows.num_rows())
    }
}

/// Bytes of rows, about; those that slices share are counted once each.
fn bytes(batches: &[RecordBatch]) -> usize {
    batches.iter().map(|batch| width(batch) * batch.num_rows()).sum()
}

/// Bytes of a row, about.
fn width(rows: &RecordBatch) -> usize {
    let of = |column: &ArrayRef| match column.data_type() {
        DataType::Dictionary(..) => 16,
        _ => column.to_data().get_slice_memory_size().unwrap_or(0) / column.len().max(1) + 1,
    };
    rows.columns().iter().map(of).sum()
}

/// Runs of one window on their way to be one.
struct Merging {
    schema: SchemaRef,
    runs: Vec<Sequence>,
}

/// What is left of a run.
struct Sequence {
    run: Segment,
    /// The next of its blocks.
    next: usize,
    /// Rows that were read; none once there are no more.
    rows: RecordBatch,
}

impl Sequence {
    fn is_read(&self) -> bool {
        self.next == self.run.entries().len()
    }

    /// Reads the next block if there are no rows.
    fn fill(&mut self, schema: &SchemaRef) -> Result<()> {
        while self.rows.num_rows() == 0
            && let Some(entry) = self.run.entries().get(self.next)
        {
            self.next += 1;
            let block = self.run.read(entry)?;
            let views: Vec<ColumnRef<'_>> = block.columns.iter().map(Column::view).collect();
            let rows = entry.label.rows as usize;
            if views.len() != schema.fields().len() || views.iter().any(|column| column.len() != rows) {
                let foreign = Error::new(ErrorKind::Io, "the block holds no rows of this window");
                return Err(foreign.in_file(self.run.path()).at_offset(entry.offset));
            }
            self.rows = to_batch(&views, rows, schema)?;
        }
        Ok(())
    }
}

impl Merging {
    fn new(runs: Vec<Segment>, schema: SchemaRef) -> Merging {
        let none = RecordBatch::new_empty(schema.clone());
        let runs = runs.into_iter().map(|run| Sequence { run, next: 0, rows: none.clone() }).collect();
        Merging { schema, runs }
    }

    /// The next rows; `None` after the last.
    fn next(&mut self, order: &Order) -> Result<Option<RecordBatch>> {
        for run in &mut self.runs {
            run.fill(&self.schema)?;
        }
        self.runs.retain(|run| run.rows.num_rows() > 0);
        // Nothing is known of what comes behind the last rows of a run that goes on.
        let mut bound: Option<RecordBatch> = None;
        for run in self.runs.iter().filter(|run| !run.is_read()) {
            let last = run.rows.slice(run.rows.num_rows() - 1, 1);
            if bound.as_ref().map_or(Ok(true), |bound| order.count_upto(bound, &last).map(|count| count == 0))? {
                bound = Some(last);
            }
        }
        let mut taken = Vec::with_capacity(self.runs.len());
        for run in &mut self.runs {
            let all = run.rows.num_rows();
            let count = bound.as_ref().map_or(Ok(all), |bound| order.count_upto(&run.rows, bound))?;
            taken.push(run.rows.slice(0, count));
            run.rows = run.rows.slice(count, all - count);
        }
        let mut rows = order.apply(taken)?;
        Ok(rows.pop())
    }
}
