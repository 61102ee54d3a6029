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
use super::session::Emitted;
use crate::core::groups::GroupId;
use crate::core::slide::{Engine, Slider};
use crate::core::window::{PaneIndex, WindowIndex, WindowSpec, union};
use crate::core::{PaneKey, SealedPanes};
use crate::memory::{Budget, Lease};
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

/// Rows per partition from which a window is handed out without stitching.
const DIRECT_ROWS: usize = if cfg!(test) { 4 } else { 4 << 10 };

/// One partition, sealed.
struct Sealed {
    panes: SealedPanes<Columns>,
    slider: Slider<ColumnTables>,
    /// The groups in the order of their hashes, unless that is the order of their ids.
    order: Option<Vec<GroupId>>,
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
    /// The key of each row, as a place in the order of the partition's keys.
    ids: Vec<u32>,
    columns: Vec<OutputColumn>,
}

/// Everything that is left to do after the last record.
pub(crate) struct Emitter {
    plan: Arc<Plan>,
    parts: Vec<Sealed>,
    /// The windows that are left, as runs of neighbours: there may be billions.
    left: VecDeque<Range<WindowIndex>>,
    /// Windows after this one may still change.
    upto: WindowIndex,
    /// Windows before this one were handed out by a run before this one.
    floor: WindowIndex,
    /// How many windows have been handed out.
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
        let left: VecDeque<_> = union(panes.into_iter().map(|key| key.windows(spec))).into();
        let types: Vec<DataType> = plan.keys.iter().map(|k| k.data_type.clone()).collect();
        let sealed: Vec<(Sealed, Vec<ArrayRef>)> = partitions
            .into_par_iter()
            .map(|partition| {
                let (groups, store, mut lease) = partition.into_parts();
                let order = groups.by_hash(|keys, a, b| K::compare(keys, a, b));
                let hashes = groups.hashes();
                let null = |id: u32| hashes[id as usize] == crate::hash::NULL_HASH;
                let keys = K::arrays(groups.keys(), &null, &order, &types)?;
                let mut rank = vec![0; groups.capacity()];
                for (at, id) in order.iter().enumerate() {
                    rank[*id as usize] = at as u32;
                }
                drop(groups);
                let panes = store.seal(&rank);
                let slides = engine == Engine::Incremental && !spec.is_tumbling();
                let table = ColumnTables::new(&panes.logs[0].states, slides);
                let slider = Slider::new(spec, engine, table, order.len(), &panes);
                lease.resize(panes.bytes() + slider.bytes() + slider.table().bytes())?;
                let columns = plan.outputs.iter().map(OutputColumn::new).collect();
                let rows = Rows { columns, ..Rows::default() };
                Ok((Sealed { panes, slider, order: None, base: 0, lease, rows }, keys))
            })
            .collect::<Result<_>>()?;
        let (mut parts, mut keys) = (Vec::with_capacity(sealed.len()), vec![Vec::new(); plan.keys.len()]);
        let mut live_keys = 0;
        for (mut part, arrays) in sealed {
            part.base = live_keys as u32;
            live_keys += part.slider.rows().len() as u64;
            // One without records would cost every window a look.
            if !part.panes.is_empty() {
                parts.push(part);
            }
            for (all, array) in keys.iter_mut().zip(arrays) {
                all.push(array);
            }
        }
        let keys = together(&plan, &keys)?;
        let schema = inner_schema(&plan);
        Ok(Emitter {
            plan,
            parts,
            left,
            upto: WindowIndex::MAX,
            floor: WindowIndex::MIN,
            done: 0,
            block: 1,
            keys,
            schema,
            live_keys,
        })
    }

    /// Without any window yet: those that have closed come by [`close`](Self::close).
    pub(crate) fn streaming(plan: Arc<Plan>) -> Self {
        let schema = inner_schema(&plan);
        Emitter {
            plan,
            parts: Vec::new(),
            left: VecDeque::new(),
            upto: WindowIndex::MIN,
            floor: WindowIndex::MIN,
            done: 0,
            block: 1,
            keys: Vec::new(),
            schema,
            live_keys: 0,
        }
    }

    /// Of a run that has handed out what `emitted` says.
    pub(super) fn resumed(plan: Arc<Plan>, emitted: Emitted) -> Self {
        let floor = emitted.upto.saturating_add(1);
        Emitter { floor, done: emitted.done, live_keys: emitted.live_keys, upto: emitted.upto, ..Self::streaming(plan) }
    }

    /// What was handed out.
    pub(super) fn emitted(&self) -> Emitted {
        Emitted { upto: self.upto, done: self.done, live_keys: self.live_keys }
    }

    /// Takes over what belongs to windows that have closed by `watermark`, or to all windows at the end of the input.
    /// The windows closed before must have been handed out and [released](Self::release).
    pub(crate) fn close<K: KeyRows>(&mut self, watermark: Option<i64>, partitions: &mut [Partition<K>]) -> Result<()> {
        let plan = &*self.plan;
        let spec = plan.slide_spec();
        let (upto, frontier) = match watermark {
            Some(watermark) => {
                let upto = spec.first_open(watermark) - 1;
                (upto, spec.panes_of(upto).1)
            }
            None => (WindowIndex::MAX, PaneIndex::MAX),
        };
        self.upto = upto;
        while self.parts.len() < partitions.len() {
            self.parts.push(Sealed::open(plan, spec, partitions[self.parts.len()].budget()));
        }
        let types: Vec<DataType> = plan.keys.iter().map(|k| k.data_type.clone()).collect();
        let steps: Vec<(Vec<ArrayRef>, Vec<Range<WindowIndex>>)> = self
            .parts
            .par_iter_mut()
            .zip(partitions)
            .map(|(part, partition)| part.take(partition, spec, frontier, upto, &types))
            .collect::<Result<_>>()?;
        let mut keys = vec![Vec::new(); types.len()];
        let mut ranges: Vec<_> = self.left.drain(..).collect();
        let mut live_keys = 0;
        for (part, (arrays, windows)) in self.parts.iter_mut().zip(steps) {
            part.base = live_keys as u32;
            live_keys += part.order.as_ref().map_or(0, Vec::len) as u64;
            for (all, array) in keys.iter_mut().zip(arrays) {
                all.push(array);
            }
            ranges.extend(windows);
        }
        self.live_keys = self.live_keys.max(live_keys);
        let ranges = ranges.into_iter().filter(|run| run.end > self.floor);
        self.left = union(ranges.map(|run| (run.start.max(self.floor), run.end - 1))).into();
        self.keys = together(plan, &keys)?;
        Ok(())
    }

    /// Lets go of what only windows needed that have been handed out.
    pub(crate) fn release<K: KeyRows>(&mut self, partitions: &mut [Partition<K>]) -> Result<()> {
        self.parts.par_iter_mut().zip(partitions).try_for_each(|(part, partition)| part.release(partition))
    }

    /// Windows that are known to hold a record, and how many of them have been handed out.
    pub(crate) fn windows(&self) -> (u64, u64) {
        let left: u64 = self.left.iter().map(|run| (run.end - run.start) as u64).sum();
        (self.done + left, self.done)
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
        self.block = (self.plan.block_rows / rows_per_window).clamp(1, 4 * self.block.max(256));
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
            && run.start <= self.upto
        {
            let most = self.block - windows.len();
            let upto = self.upto;
            windows.extend((run.start..run.end).take(most).take_while(|n| *n <= upto));
            run.start = windows.last().map_or(run.start, |n| n + 1);
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
    /// Nothing yet, of windows that close one after the other.
    fn open(plan: &Plan, spec: WindowSpec, budget: &Budget) -> Sealed {
        let panes = SealedPanes::empty(plan.columns());
        let table = ColumnTables::new(&plan.columns(), !spec.is_tumbling());
        Sealed {
            slider: Slider::new(spec, Engine::Incremental, table, 0, &panes),
            panes,
            order: Some(Vec::new()),
            base: 0,
            lease: budget.lease("the keys and panes of windows that have closed"),
            rows: Rows { columns: plan.outputs.iter().map(OutputColumn::new).collect(), ..Rows::default() },
        }
    }

    /// Takes what is closed from `partition`; returns its keys and the windows that hold what was taken.
    fn take<K: KeyRows>(
        &mut self,
        partition: &mut Partition<K>,
        spec: WindowSpec,
        frontier: PaneIndex,
        upto: WindowIndex,
        types: &[DataType],
    ) -> Result<(Vec<ArrayRef>, Vec<Range<WindowIndex>>)> {
        let closed = partition.take_closed(spec, frontier, upto)?;
        let keys = closed.panes.iter().map(|(pane, _)| PaneKey::from(*pane)).chain(closed.late.iter().map(|l| l.0));
        let windows = union(keys.map(|key| key.windows(spec)));
        let groups = &partition.groups;
        let logs = self.panes.logs.len();
        self.panes.append(closed);
        self.slider.extend(groups.capacity(), &self.panes, logs);
        let order = groups.by_hash(|keys, a, b| K::compare(keys, a, b));
        let hashes = groups.hashes();
        let null = |id: u32| hashes[id as usize] == crate::hash::NULL_HASH;
        let arrays = K::arrays(groups.keys(), &null, &order, types)?;
        self.order = Some(order);
        partition.lease()?;
        self.lease.resize(self.bytes())?;
        Ok((arrays, windows))
    }

    /// Drops panes that have left and frees the keys of which nothing is known any more.
    fn release<K: KeyRows>(&mut self, partition: &mut Partition<K>) -> Result<()> {
        let Some(order) = &mut self.order else { return Ok(()) };
        self.slider.release(&mut self.panes);
        let mut known = vec![false; partition.groups.capacity()];
        partition.panes.mark_groups(&mut known);
        if self.slider.slides() {
            order.iter().filter(|id| self.slider.live().contains(**id)).for_each(|id| known[*id as usize] = true);
        }
        let gone: Vec<GroupId> = order.extract_if(.., |id| !known[*id as usize]).collect();
        gone.iter().for_each(|id| partition.groups.free(*id));
        self.slider.reset(&gone);
        partition.lease()?;
        self.lease.resize(self.bytes())
    }

    fn bytes(&self) -> usize {
        let order = self.order.as_ref().map_or(0, |order| order.capacity() * 4);
        self.panes.bytes() + self.slider.bytes() + self.slider.table().bytes() + order
    }

    /// Moves over `windows` and fills `rows`.
    fn fill(&mut self, plan: &Plan, windows: &[WindowIndex]) -> Result<()> {
        let Rows { per_window, ids, columns } = &mut self.rows;
        let mut ordered = Vec::new();
        per_window.clear();
        ids.clear();
        columns.iter_mut().for_each(OutputColumn::clear);
        for window in windows {
            self.slider.advance(*window, &mut self.panes);
            let from = ids.len();
            let live = match &self.order {
                None => {
                    self.slider.live().collect_into(ids);
                    &ids[from..]
                }
                Some(order) => {
                    ordered.clear();
                    for (at, id) in order.iter().enumerate() {
                        if self.slider.live().contains(*id) {
                            ids.push(at as u32);
                            ordered.push(*id);
                        }
                    }
                    &ordered[..]
                }
            };
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
        self.lease.resize(self.lease.bytes().max(self.bytes()))
    }
}

pub(super) fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    Ok(RecordBatch::try_new_with_options(
        schema.clone(),
        columns,
        &RecordBatchOptions::new().with_row_count(Some(rows)),
    )?)
}

/// Each key field over all partitions, in the form in which it is printed.
pub(super) fn together(plan: &Plan, keys: &[Vec<ArrayRef>]) -> Result<Vec<ArrayRef>> {
    keys.iter()
        .map(|arrays| {
            let refs: Vec<&dyn Array> = arrays.iter().map(|a| &**a).collect();
            if plan.marked_keys && arrays[0].data_type() == &DataType::Utf8 {
                return Ok(unmark(&arrow_select::concat::concat(&refs)?));
            }
            Ok(arrow_select::concat::concat(&refs)?)
        })
        .collect()
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
