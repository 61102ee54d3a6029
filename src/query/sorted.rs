//! `--top` and `--sort key` within a memory limit: a window's rows are brought into order when all of them have come, and
//! what is more than their share of memory leaves as runs on disk that are in order already.
//!
//! Rows come by windows. All windows of a block but the last are complete, and are put in order at once ([`Order`]). The
//! last may go on, for as long as there is input where there are no windows at all. Its rows wait. Of rows of which the top
//! ones stay, these are taken out whenever their share is full; others are sorted and written as a *run*, and at the end of
//! the window its runs are merged: from each, the rows up to the least key with which what is in memory of a run ends, are
//! put in order together.
//!
//! Invariant: the rows that leave are the same, in the same order, as those of a window that was sorted in memory. Runs are
//! kept in the order in which their rows came, so that this is so of keys that compare as equals, too.
//!
//! In memory: a sixteenth of the limit waits, about three times that is taken while it is sorted. At most [`FAN`] runs are
//! merged at a time, first to longer ones, so that each row is written as often as there are lengths.

use super::emit::{batch, inner_schema};
use super::exec;
use super::order::Order;
use super::plan::Plan;
use super::spill::rows::{to_batch, to_columns, width};
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

/// A run on disk, and of how many merges it is the outcome.
type Stored = (u32, Segment);

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
    runs: Vec<Stored>,
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
        let base = base.filter(|_| limit < usize::MAX);
        Sorted::of(order, (plan.schema.clone(), inner_schema(plan)), limit / SHARE, base)
    }

    fn of(order: Order, (schema, inner): (SchemaRef, SchemaRef), share: usize, base: Option<PathBuf>) -> Sorted {
        Sorted {
            order,
            schema,
            inner,
            share,
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
    pub(crate) fn next_block(&mut self, run: &mut dyn exec::Run) -> Result<Option<Vec<RecordBatch>>> {
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
            self.last = rest.last().map(|batch| self.order.end(batch)).transpose()?;
            rest.iter().try_for_each(|batch| self.wait(batch))?;
        }
    }

    /// Has rows wait for those of their window to come, in memory of their own where memory is limited.
    fn wait(&mut self, rows: &RecordBatch) -> Result<()> {
        if self.base.is_none() {
            self.waiting.push(rows.clone());
            return Ok(());
        }
        let step = (self.share / 2 / row_bytes(rows).max(1)).max(LEAST_ROWS);
        for start in (0..rows.num_rows()).step_by(step) {
            // A dictionary may hold the keys of many rows that are not among these.
            self.waiting.push(self.plain(&rows.slice(start, step.min(rows.num_rows() - start)))?);
            self.relieve()?;
        }
        Ok(())
    }

    /// No more rows come for the window that waits but those with which `batches` begin; then come complete windows.
    fn complete(&mut self, mut batches: Vec<RecordBatch>) -> Result<()> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let last = self.last.take();
        if self.runs.is_empty() {
            self.behind = waiting.drain(..).map(|rows| self.inner(rows)).collect::<Result<_>>()?;
            self.behind.append(&mut batches);
            return Ok(());
        }
        self.waiting = waiting;
        if let Some(last) = last {
            self.order.split_first(&last, &mut batches).iter().try_for_each(|rows| self.wait(rows))?;
        }
        if !self.waiting.is_empty() {
            self.spill()?;
        }
        while self.runs.len() > FAN {
            self.merge()?;
        }
        self.merging = Some(Merging::new(self.runs.drain(..), self.schema.clone()));
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
        self.waiting.retain(|rows| rows.num_rows() > 0);
        if bytes(&self.waiting) <= self.share {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Memory, "the rows that --top keeps do not fit; ask for fewer, or raise --memory"))
    }

    /// Writes what waits as a run.
    fn spill(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        for rows in self.order.apply(waiting)? {
            let mut writer = self.writer()?;
            self.write(&mut writer, &rows)?;
            self.end(writer, 0)?;
        }
        while self.runs.len() >= FAN && {
            let mut lengths = self.runs[self.runs.len() - FAN..].iter().map(|run| run.0);
            let first = lengths.next();
            lengths.all(|length| Some(length) == first)
        } {
            self.merge()?;
        }
        Ok(())
    }

    /// Makes one run of the last [`FAN`] of them.
    fn merge(&mut self) -> Result<()> {
        let last = self.runs.split_off(self.runs.len().saturating_sub(FAN));
        let merges = last.iter().map(|run| run.0 + 1).max().unwrap_or(0);
        let mut merging = Merging::new(last, self.schema.clone());
        let mut writer = self.writer()?;
        while let Some(rows) = merging.next(&self.order)? {
            self.write(&mut writer, &rows)?;
        }
        self.end(writer, merges)
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
        let step = (self.share / FAN / row_bytes(rows).max(1)).max(LEAST_ROWS);
        for start in (0..rows.num_rows()).step_by(step) {
            let rows = rows.slice(start, step.min(rows.num_rows() - start));
            let columns = to_columns(&rows)?;
            let views: Vec<ColumnRef<'_>> = columns.iter().map(Column::view).collect();
            let label = Label { content: Content::Rows, partition: 0, first: 0, last: 0, rows: rows.num_rows() as u32 };
            writer.append(label, &views)?;
        }
        Ok(())
    }

    fn end(&mut self, writer: SegmentWriter, merges: u32) -> Result<()> {
        self.spilled += writer.bytes();
        self.runs.push((merges, writer.seal()?));
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

/// Bytes of rows, about.
fn bytes(batches: &[RecordBatch]) -> usize {
    batches.iter().map(|batch| row_bytes(batch) * batch.num_rows()).sum()
}

/// Bytes of a row, about.
fn row_bytes(rows: &RecordBatch) -> usize {
    rows.columns().iter().map(width).sum()
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
    fn new(runs: impl IntoIterator<Item = Stored>, schema: SchemaRef) -> Merging {
        let none = RecordBatch::new_empty(schema.clone());
        let runs = runs.into_iter().map(|(_, run)| Sequence { run, next: 0, rows: none.clone() }).collect();
        Merging { schema, runs }
    }

    /// The next rows; `None` after the last.
    fn next(&mut self, order: &Order) -> Result<Option<RecordBatch>> {
        for run in &mut self.runs {
            run.fill(&self.schema)?;
        }
        self.runs.retain(|run| run.rows.num_rows() > 0);
        // Nothing is known of what comes behind the last rows of a run that goes on.
        let mut bound: Option<(usize, RecordBatch)> = None;
        for (number, run) in self.runs.iter().enumerate().filter(|(_, run)| !run.is_read()) {
            let last = run.rows.slice(run.rows.num_rows() - 1, 1);
            let is_less = |(_, bound): &(usize, RecordBatch)| Ok(order.count_before(&last, bound, false)? == 1);
            if bound.as_ref().map_or(Ok::<_, Error>(true), is_less)? {
                bound = Some((number, last));
            }
        }
        let mut taken = Vec::with_capacity(self.runs.len());
        for (number, run) in self.runs.iter_mut().enumerate() {
            let all = run.rows.num_rows();
            let count = match &bound {
                // More rows of its key may come from the run of the bound, before those of later runs.
                Some((of, bound)) => order.count_before(&run.rows, bound, number <= *of)?,
                None => all,
            };
            taken.push(run.rows.slice(0, count));
            run.rows = run.rows.slice(count, all - count);
        }
        let mut rows = order.apply(taken)?;
        Ok(rows.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Statistics;
    use crate::source::{BadPlace, Position};
    use arrow_array::Int64Array;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_schema::{Field, Schema};
    use proptest::prelude::*;
    use std::collections::VecDeque;

    /// Blocks that are there already.
    struct Blocks(VecDeque<Vec<RecordBatch>>);

    impl exec::Run for Blocks {
        fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
            Ok(self.0.pop_front())
        }
        fn statistics(&self) -> Statistics {
            Statistics::default()
        }
        fn bad(&self) -> &[BadPlace] {
            &[]
        }
        fn windows(&self) -> (u64, u64) {
            (0, 0)
        }
        fn partial(&self) -> u64 {
            0
        }
        fn positions(&self) -> Vec<Position> {
            Vec::new()
        }
        fn is_saved(&self) -> bool {
            false
        }
        fn seal(&mut self) -> Result<()> {
            Ok(())
        }
        fn complete(&mut self) -> Result<()> {
            Ok(())
        }
    }

    proptest! {
        /// The twin is a stable sort: keys that are equals stay in the order in which they came.
        #[test]
        fn equals_stay_in_order(
            blocks in prop::collection::vec(prop::collection::vec(prop::option::of(0i64..5), 0..60), 0..12), share in 50usize..2000,
        ) {
            let spills = tempfile::tempdir().unwrap();
            let fields = ["key", "place"].map(|name| Field::new(name, DataType::Int64, true));
            let schema = Arc::new(Schema::new(fields.to_vec()));
            let mut want: Vec<(Option<i64>, i64)> = Vec::new();
            let blocks = blocks.into_iter().map(|keys| {
                let first = want.len() as i64;
                want.extend(keys.iter().copied().zip(first..));
                let places: Int64Array = (first..want.len() as i64).collect();
                let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(keys)), Arc::new(places)];
                vec![RecordBatch::try_new(schema.clone(), columns).unwrap()]
            });
            let mut blocks = Blocks(blocks.collect());
            want.sort_by_key(|row| row.0);
            let order = Order::new(&schema, 0..1, None, true).unwrap().unwrap();
            let mut sorted = Sorted::of(order, (schema.clone(), schema), share, Some(spills.path().to_owned()));
            let mut got = Vec::new();
            while let Some(batches) = sorted.next_block(&mut blocks).unwrap() {
                for batch in batches {
                    let [keys, places] = [0, 1].map(|column| batch.column(column).as_primitive::<Int64Type>().clone());
                    got.extend(keys.iter().zip(places.values().iter().copied()));
                }
            }
            prop_assert!(sorted.spilled_bytes() > 0 || 20 * want.len() <= share + 200);
            drop(sorted);
            prop_assert_eq!(got, want);
            prop_assert_eq!(std::fs::read_dir(spills.path()).unwrap().count(), 0);
        }
    }
}
