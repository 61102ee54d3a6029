//! From sealed panes to rows: windows in order, the rows of a window in the order of the keys' hashes.
//!
//! Rows leave in blocks of windows. Each partition moves its own window over the block and appends its rows to columns
//! of its own, in parallel; then the block is stitched together window by window. A window that is large by itself is
//! handed out partition by partition instead, without a copy: partitions in order *are* the order of the hashes.

use super::aggregates::{ColumnTables, Columns};
use super::finish::{OutputColumn, finish};
use super::keys::KeyRows;
use super::plan::Plan;
use super::reduce::Partition;
use crate::core::groups::Groups;
use crate::core::panes::SealedPanes;
use crate::core::slide::{Engine, Slider};
use crate::core::window::{WindowIndex, windows_over};
use crate::memory::Lease;
use crate::{Error, Result};
use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use rayon::prelude::*;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Rows that a block of windows aims at.
pub(super) const BLOCK_ROWS: usize = if cfg!(test) { 16 } else { 128 << 10 };
/// Rows per partition from which a window is handed out without stitching.
const DIRECT_ROWS: usize = if cfg!(test) { 4 } else { 4 << 10 };

/// One partition, sealed.
struct Sealed {
    panes: SealedPanes<Columns>,
    slider: Slider<ColumnTables>,
    /// The number of its first key among the keys of all partitions.
    base: u32,
    lease: Lease,
    rows: Rows,
}

/// The rows of one partition for a block of windows.
#[derive(Default)]
struct Rows {
    /// Rows of each window of the block.
    per_window: Vec<usize>,
    ids: Vec<u32>,
    columns: Vec<OutputColumn>,
}

/// Everything that is left to do after the last record.
pub(crate) struct Emitter {
    plan: Arc<Plan>,
    parts: Vec<Sealed>,
    /// The windows that are left, as runs of neighbours: there may be billions.
    left: VecDeque<Range<WindowIndex>>,
    /// How many windows there are, and how many have been handed out.
    windows: u64,
    done: u64,
    /// How many windows the next block takes.
    block: usize,
    /// Each key field over the keys of all partitions, in the order of the output.
    keys: Vec<ArrayRef>,
    schema: SchemaRef,
    pub(crate) live_keys: u64,
}

impl Emitter {
    /// Seals the partitions, whose order is that of their hashes. Runs on the current rayon pool.
    pub(crate) fn new<K: KeyRows>(plan: Arc<Plan>, engine: Engine, partitions: Vec<Partition<K>>) -> Result<Self> {
        let mut panes = BTreeSet::new();
        for partition in &partitions {
            panes.extend(partition.panes.panes());
        }
        let spec = plan.slide_spec();
        let left: VecDeque<_> = windows_over(spec, panes).into();
        let windows = left.iter().map(|run| (run.end - run.start) as u64).sum();
        let types: Vec<DataType> = plan.keys.iter().map(|k| k.data_type.clone()).collect();
        let sealed: Vec<(Sealed, Vec<ArrayRef>)> = partitions
            .into_par_iter()
            .map(|partition| {
                let (groups, store, mut lease) = partition.into_parts();
                let (keys, rank) = ranked::<K>(&groups, &types)?;
                let live = groups.len();
                drop(groups);
                let panes = store.seal(&rank);
                let slides = engine == Engine::Incremental && !spec.is_tumbling();
                let table = ColumnTables::new(&panes.logs[0].states, slides);
                let slider = Slider::new(spec, engine, table, live, &panes);
                lease.resize(panes.bytes() + slider.bytes() + slider.table().bytes())?;
                let columns = plan.outputs.iter().map(OutputColumn::new).collect();
                Ok((Sealed { panes, slider, base: 0, lease, rows: Rows { columns, ..Rows::default() } }, keys))
            })
            .collect::<Result<_>>()?;
        let (mut parts, mut keys) = (Vec::with_capacity(sealed.len()), vec![Vec::new(); plan.keys.len()]);
        let mut live_keys = 0;
        for (mut part, arrays) in sealed {
            part.base = live_keys as u32;
            live_keys += part.slider.rows().len() as u64;
            // One without records would cost every window a look.
            if !part.panes.panes.is_empty() {
                parts.push(part);
            }
            for (all, array) in keys.iter_mut().zip(arrays) {
                all.push(array);
            }
        }
        let keys = joined(&plan, &keys)?;
        let schema = inner_schema(&plan);
        Ok(Emitter { plan, parts, left, windows, done: 0, block: 1, keys, schema, live_keys })
    }

    /// Windows in all, and how many have been handed out.
    pub(crate) fn windows(&self) -> (u64, u64) {
        (self.windows, self.done)
    }

    /// The rows of the next windows, in order; `None` after the last. Runs on the current rayon pool.
    pub(crate) fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let windows = &self.take_windows()[..];
        if windows.is_empty() {
            return Ok(None);
        }
        let plan = &*self.plan;
        self.parts.par_iter_mut().try_for_each(|part| part.fill(plan, windows))?;
        let total: usize = self.parts.iter().map(|p| p.rows.ids.len()).sum();
        let batches = if windows.len() == 1 && total >= DIRECT_ROWS * self.parts.len() {
            self.direct(windows[0], total)?
        } else {
            self.stitch(windows)?
        };
        let rows_per_window = (total / windows.len()).max(1);
        self.block = (BLOCK_ROWS / rows_per_window).clamp(1, 4 * self.block.max(256));
        self.done += windows.len() as u64;
        match &self.plan.having {
            Some(having) => having.keep(batches).map(Some),
            None => Ok(Some(batches)),
        }
    }

    /// The windows of the next block.
    fn take_windows(&mut self) -> Vec<WindowIndex> {
        let mut windows = Vec::new();
        while windows.len() < self.block
            && let Some(run) = self.left.front_mut()
        {
            windows.extend(run.by_ref().take(self.block - windows.len()));
            if run.is_empty() {
                self.left.pop_front();
            }
        }
        windows
    }

    /// One large window: a batch for each partition, its columns moved out.
    fn direct(&mut self, window: WindowIndex, total: usize) -> Result<Vec<RecordBatch>> {
        let longest = self.parts.iter().map(|p| p.rows.ids.len()).max().unwrap_or(0);
        let bounds = self.bounds(&[(window, longest)]);
        let (plan, keys, schema) = (&self.plan, &self.keys, &self.schema);
        debug_assert!(total > 0);
        self.parts
            .par_iter_mut()
            .filter(|part| !part.rows.ids.is_empty())
            .map(|part| {
                let rows = part.rows.ids.len();
                let mut columns: Vec<ArrayRef> = bounds.iter().map(|b| b.slice(0, rows)).collect();
                let at: Vec<i32> = part.rows.ids.iter().map(|id| (id + part.base) as i32).collect();
                columns.extend(pick_keys(keys, at)?);
                for (column, field) in part.rows.columns.iter_mut().zip(&schema.fields()[columns.len()..]) {
                    columns.push(column.take().into_array(field.data_type())?);
                }
                batch(schema, columns, rows)
            })
            .collect::<Result<_>>()
            .inspect(|_| debug_assert!(plan.outputs.len() <= schema.fields().len()))
    }

    /// A block of windows: batches of whole windows, each gathered from all partitions.
    fn stitch(&self, windows: &[WindowIndex]) -> Result<Vec<RecordBatch>> {
        // Where each window's rows start within each partition.
        let parts: Vec<&Sealed> = self.parts.iter().filter(|p| !p.rows.ids.is_empty()).collect();
        let starts: Vec<Vec<usize>> = parts
            .iter()
            .map(|part| {
                let mut at = 0;
                part.rows
                    .per_window
                    .iter()
                    .map(|n| {
                        at += n;
                        at - n
                    })
                    .collect()
            })
            .collect();
        // Cut into as many batches as there are workers, at windows.
        let share = windows.len().div_ceil(rayon::current_num_threads());
        let ranges: Vec<(usize, usize)> =
            (0..windows.len()).step_by(share.max(1)).map(|a| (a, (a + share).min(windows.len()))).collect();
        let batches: Vec<Option<RecordBatch>> = ranges
            .into_par_iter()
            .map(|(from, to)| {
                let mut runs: Vec<(usize, usize, usize)> = Vec::new();
                let mut counts = Vec::with_capacity(to - from);
                for w in from..to {
                    let mut rows = 0;
                    for (p, part) in parts.iter().enumerate() {
                        let n = part.rows.per_window[w];
                        if n > 0 {
                            runs.push((p, starts[p][w], n));
                            rows += n;
                        }
                    }
                    counts.push((windows[w], rows));
                }
                let rows: usize = counts.iter().map(|c| c.1).sum();
                if rows == 0 {
                    return Ok(None);
                }
                let mut columns = self.bounds(&counts);
                let mut at = Vec::with_capacity(rows);
                for (p, start, n) in &runs {
                    at.extend(parts[*p].rows.ids[*start..start + n].iter().map(|id| (id + parts[*p].base) as i32));
                }
                columns.extend(pick_keys(&self.keys, at)?);
                let first = columns.len();
                for (i, field) in self.schema.fields()[first..].iter().enumerate() {
                    let sources = runs.iter().map(|(p, start, n)| (&parts[*p].rows.columns[i], *start, *n));
                    columns.push(OutputColumn::gather(sources, rows).into_array(field.data_type())?);
                }
                batch(&self.schema, columns, rows).map(Some)
            })
            .collect::<Result<_>>()?;
        Ok(batches.into_iter().flatten().collect())
    }

    /// The columns `window_start` and `window_end`, each window's repeated for its rows.
    fn bounds(&self, counts: &[(WindowIndex, usize)]) -> Vec<ArrayRef> {
        let Some(spec) = self.plan.window else { return Vec::new() };
        let rows = counts.iter().map(|c| c.1).sum();
        let (mut starts, mut ends) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
        for (window, n) in counts {
            let (start, end) = spec.bounds(*window);
            starts.resize(starts.len() + n, start.max(crate::time::Timestamp::MIN.micros()));
            ends.resize(ends.len() + n, end.min(crate::time::Timestamp::MAX.micros()));
        }
        let array = |times: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef;
        vec![array(starts), array(ends)]
    }
}

impl Sealed {
    /// Moves over `windows` and fills `rows`.
    fn fill(&mut self, plan: &Plan, windows: &[WindowIndex]) -> Result<()> {
        let Rows { per_window, ids, columns } = &mut self.rows;
        per_window.clear();
        ids.clear();
        columns.iter_mut().for_each(OutputColumn::clear);
        for window in windows {
            self.slider.advance(*window, &mut self.panes);
            let from = ids.len();
            self.slider.live().collect_into(ids);
            let live = &ids[from..];
            per_window.push(live.len());
            if live.is_empty() {
                continue;
            }
            for (output, column) in plan.outputs.iter().zip(columns.iter_mut()) {
                finish(output, &self.slider, live, column).map_err(|e| match plan.window {
                    Some(spec) => {
                        let mut start = Vec::new();
                        crate::time::write_rfc3339(spec.bounds(*window).0, &mut start);
                        Error::data(format!("{e}, in the window that starts at {}", String::from_utf8_lossy(&start)))
                    }
                    None => e,
                })?;
            }
        }
        self.lease
            .resize(self.lease.bytes().max(self.panes.bytes() + self.slider.bytes() + self.slider.table().bytes()))
    }
}

/// The key fields of a partition in the order of the output, and the place of each id in it.
pub(super) fn ranked<K: KeyRows>(groups: &Groups<K::Store>, types: &[DataType]) -> Result<(Vec<ArrayRef>, Vec<u32>)> {
    let order = groups.by_hash(|keys, a, b| K::compare(keys, a, b));
    let hashes = groups.hashes();
    let null = |id: u32| hashes[id as usize] == crate::hash::NULL_HASH;
    let keys = K::arrays(groups.keys(), &null, &order, types)?;
    let mut rank = vec![0; groups.capacity()];
    for (at, id) in order.iter().enumerate() {
        rank[*id as usize] = at as u32;
    }
    Ok((keys, rank))
}

/// Each key field over the keys of all partitions.
pub(super) fn joined(plan: &Plan, keys: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>> {
    keys.iter()
        .map(|arrays| {
            let refs: Vec<&dyn Array> = arrays.iter().map(|a| &**a).collect();
            let all = arrow_select::concat::concat(&refs)?;
            let marked = plan.marked_keys && all.data_type() == &DataType::Utf8;
            Ok(if marked { unmark(&all) } else { all })
        })
        .collect()
}

pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new_with_options(
        schema.clone(),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(rows)),
    )?)
}

/// The plan's schema with text keys as dictionaries, so that a row's key is four bytes.
pub(super) fn inner_schema(plan: &Plan) -> SchemaRef {
    let bounds = if plan.has_bounds() { 2 } else { 0 };
    let fields: Vec<Arc<Field>> = plan
        .schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, field)| {
            let is_key = i >= bounds && i < bounds + plan.keys.len();
            if is_key && field.data_type() == &DataType::Utf8 {
                let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
                Arc::new(Field::new(field.name(), dictionary, true))
            } else {
                field.clone()
            }
        })
        .collect();
    Arc::new(Schema::new(fields))
}

/// Key text without the marks of JSON.
fn unmark(array: &ArrayRef) -> ArrayRef {
    let mut builder = StringBuilder::new();
    for text in array.as_string::<i32>() {
        builder.append_option(text.map(|t| String::from_utf8_lossy(crate::format::json::display_token(t.as_bytes()))));
    }
    Arc::new(builder.finish())
}

/// The key columns of the rows whose keys are number `at`.
pub(super) fn pick_keys(keys: &[ArrayRef], at: Vec<i32>) -> Result<Vec<ArrayRef>> {
    let at = Int32Array::from(at);
    keys.iter()
        .map(|values| match values.data_type() {
            DataType::Utf8 => {
                let at = match values.nulls() {
                    None => at.clone(),
                    Some(nulls) => {
                        let valid: NullBuffer =
                            at.values().iter().map(|i| nulls.is_valid(*i as usize)).collect::<Vec<_>>().into();
                        Int32Array::new(at.values().clone(), Some(valid))
                    }
                };
                Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(at, values.clone())?) as ArrayRef)
            }
            _ => Ok(arrow_select::take::take(values, &at, None)?),
        })
        .collect()
}
