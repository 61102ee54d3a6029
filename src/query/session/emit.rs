//! From the sessions of all partitions to rows: by end, then start, then the hash of the key.
//!
//! Every partition takes out and sorts its own sessions, those that the watermark has closed or, at the end, all. A block of rows is cut at places in the order of all of them, such
//! that no partition has more than its share between two; partitions finish their part of the block, which stands to them
//! as one tumbling window whose groups are the sessions; then the parts of each cut, sorted runs, are merged and their
//! columns interleaved.

use super::Emitted;
use crate::core::groups::{GroupId, Groups};
use crate::core::panes::Log;
use crate::core::sealed::SealedPanes;
use crate::core::session::Span;
use crate::core::slide::{Engine, Slider};
use crate::core::window::{WindowIndex, WindowSpec};
use crate::hash::NULL_HASH;
use crate::memory::Lease;
use crate::query::aggregates::{ColumnTables, Columns};
use crate::query::emit::{batch, inner_schema, pick_keys, together};
use crate::query::finish::{OutputColumn, finish};
use crate::query::keys::KeyRows;
use crate::query::plan::Plan;
use crate::query::reduce::Partition;
use crate::time::Timestamp;
use crate::{Error, Result};
use arrow_array::{Array, ArrayRef, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, SchemaRef};
use arrow_select::interleave::interleave;
use rayon::prelude::*;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// Into how many batches a block is cut: small enough that sorting one stays in the cache.
const BATCHES: usize = 8;

/// Sessions of one partition that are closed.
struct Part {
    /// Span and number of the key, in the order of the output.
    sessions: Vec<(Span, u32)>,
    panes: SealedPanes<Columns>,
    slider: Slider<ColumnTables>,
    /// The number of its first key among the keys of all partitions.
    base: u32,
    /// The sessions of the block that is being made.
    block: Range<usize>,
    columns: Vec<OutputColumn>,
    /// Gives the memory of all this back.
    _lease: Lease,
}

/// Sessions on their way out.
pub(crate) struct SessionEmitter {
    plan: Arc<Plan>,
    gap: i64,
    parts: Vec<Part>,
    /// Sessions that a partition has in a block at most.
    share: usize,
    /// How many sessions were closed, and how many have been handed out.
    total: u64,
    done: u64,
    /// Blocks since sessions were last closed.
    blocks: i64,
    /// Each key field over the keys of all partitions, in the order of the output.
    keys: Vec<ArrayRef>,
    schema: SchemaRef,
    pub(super) live_keys: u64,
}

impl SessionEmitter {
    /// Without any session yet.
    pub(super) fn new(plan: Arc<Plan>, gap: i64) -> Self {
        let schema = inner_schema(&plan);
        SessionEmitter {
            plan,
            gap,
            parts: Vec::new(),
            share: 0,
            total: 0,
            done: 0,
            blocks: 0,
            keys: Vec::new(),
            schema,
            live_keys: 0,
        }
    }

    /// Of a run that has handed out what `emitted` says.
    pub(super) fn resumed(plan: Arc<Plan>, gap: i64, emitted: Emitted) -> Self {
        let Emitted { done, live_keys, .. } = emitted;
        SessionEmitter { total: done, done, live_keys, ..Self::new(plan, gap) }
    }

    /// What was handed out.
    pub(super) fn emitted(&self) -> Emitted {
        Emitted { upto: WindowIndex::MIN, done: self.done, live_keys: self.live_keys }
    }

    /// Takes over the sessions that `watermark` has closed, or all at the end of the input, from partitions whose order is
    /// that of their hashes. Those closed before must have been handed out. Runs on the current rayon pool.
    pub(super) fn close<K: KeyRows>(&mut self, watermark: Option<i64>, partitions: &mut [Partition<K>]) -> Result<()> {
        let live: u64 = partitions.iter().map(|partition| partition.groups.len() as u64).sum();
        self.live_keys = self.live_keys.max(live);
        self.share = (self.plan.block_rows / partitions.len().max(1)).next_multiple_of(BATCHES).max(BATCHES);
        self.blocks = 0;
        self.parts.clear();
        let (plan, share) = (&*self.plan, self.share);
        let closed: Vec<(Vec<ArrayRef>, Part)> = partitions
            .par_iter_mut()
            .map(|partition| Part::take(plan, share, watermark, partition))
            .collect::<Result<_>>()?;
        let mut keys = vec![Vec::new(); plan.keys.len()];
        let mut base = 0;
        for (arrays, mut part) in closed {
            part.base = base;
            self.total += part.sessions.len() as u64;
            self.parts.push(part);
            base += arrays.first().map_or(0, |keys| keys.len() as u32);
            for (all, array) in keys.iter_mut().zip(arrays) {
                all.push(array);
            }
        }
        self.keys = together(plan, &keys)?;
        Ok(())
    }

    /// Sessions in all, and how many have been handed out.
    pub(super) fn windows(&self) -> (u64, u64) {
        (self.total, self.done)
    }

    /// The next sessions, in order; `None` after the last. Runs on the current rayon pool.
    pub(super) fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        if self.done == self.total {
            return Ok(None);
        }
        let cuts = self.cut();
        let (plan, block) = (&*self.plan, self.blocks);
        let first = plan.schema.fields().len() - plan.outputs.len();
        let columns: Vec<Vec<ArrayRef>> = self
            .parts
            .par_iter_mut()
            .map(|part| {
                part.fill(plan, block)?;
                let fields = plan.schema.fields()[first..].iter();
                part.columns.iter_mut().zip(fields).map(|(c, f)| c.take().into_array(f.data_type())).collect()
            })
            .collect::<Result<_>>()?;
        self.done += self.parts.iter().map(|part| part.block.len() as u64).sum::<u64>();
        self.blocks += 1;
        let batches = cuts.par_iter().map(|cut| self.batch(cut, &columns)).collect::<Result<_>>()?;
        match &self.plan.having {
            Some(having) => having.keep(batches).map(Some),
            None => Ok(Some(batches)),
        }
    }

    /// Chooses the sessions of the next block and cuts them into batches: of each the sessions of every partition.
    fn cut(&mut self) -> Vec<Vec<Range<usize>>> {
        let (gap, share) = (self.gap, self.share.div_ceil(BATCHES));
        let key = |part: &Part, at: usize| (end(part.sessions[at].0, gap), part.sessions[at].0.first);
        let mut next: Vec<usize> = self.parts.iter().map(|part| part.block.end).collect();
        let mut cuts = Vec::with_capacity(BATCHES);
        for _ in 0..BATCHES {
            // The least of the places where some partition has used up its share.
            let last = next.iter().zip(&self.parts).enumerate().filter_map(|(p, (from, part))| {
                let to = from + share;
                (to < part.sessions.len()).then(|| (key(part, to - 1), p))
            });
            let last = last.min();
            let ranges = next.iter_mut().zip(&self.parts).enumerate().map(|(p, (next, part))| {
                let from = *next;
                let to = part.sessions.len().min(from + share);
                *next += part.sessions[from..to].partition_point(|(span, _)| match &last {
                    None => true,
                    Some((last, of)) => match (end(*span, gap), span.first).cmp(last) {
                        Ordering::Less => true,
                        Ordering::Equal => p <= *of,
                        Ordering::Greater => false,
                    },
                });
                from..*next
            });
            cuts.push(ranges.collect());
            if last.is_none() {
                break;
            }
        }
        for (part, next) in self.parts.iter_mut().zip(next) {
            part.block = part.block.end..next;
        }
        cuts
    }

    /// The sessions `cut` of every partition, given the output columns of its block.
    fn batch(&self, cut: &[Range<usize>], columns: &[Vec<ArrayRef>]) -> Result<RecordBatch> {
        // By end, partition and number of the session; the sort is stable and knows sorted runs.
        let mut places: Vec<(i64, u32, u32)> = Vec::with_capacity(cut.iter().map(Range::len).sum());
        for (p, range) in cut.iter().enumerate() {
            let sessions = &self.parts[p].sessions[range.clone()];
            let numbers = range.start as u32..;
            places.extend(sessions.iter().zip(numbers).map(|((span, _), at)| (end(*span, self.gap), p as u32, at)));
        }
        let session = |place: &(i64, u32, u32)| self.parts[place.1 as usize].sessions[place.2 as usize];
        places.sort_by_key(|place| place.0);
        for same in places.chunk_by_mut(|a, b| a.0 == b.0).filter(|same| same.len() > 1) {
            same.sort_by_key(|place| session(place).0.first);
        }
        let array = |times: Vec<i64>| Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")) as ArrayRef;
        let starts = places.iter().map(|place| session(place).0.first).collect();
        let ends = places.iter().map(|place| place.0).collect();
        let keys = places.iter().map(|place| (self.parts[place.1 as usize].base + session(place).1) as i32).collect();
        let mut all = vec![array(starts), array(ends)];
        all.extend(pick_keys(&self.keys, keys)?);
        let row = |place: &(i64, u32, u32)| place.2 as usize - self.parts[place.1 as usize].block.start;
        let rows: Vec<(usize, usize)> = places.iter().map(|place| (place.1 as usize, row(place))).collect();
        for output in 0..self.plan.outputs.len() {
            let parts: Vec<&dyn Array> = columns.iter().map(|part| &*part[output]).collect();
            all.push(interleave(&parts, &rows)?);
        }
        batch(&self.schema, all, rows.len())
    }
}

/// The end of a session, as it is printed.
fn end(span: Span, gap: i64) -> i64 {
    span.last.saturating_add(gap).min(Timestamp::MAX.micros())
}

impl Part {
    /// Takes the sessions that are closed from `partition`; returns the fields of their keys, too.
    fn take<K: KeyRows>(
        plan: &Plan,
        share: usize,
        watermark: Option<i64>,
        partition: &mut Partition<K>,
    ) -> Result<(Vec<ArrayRef>, Part)> {
        let mut lease = partition.budget().lease("the sessions that have closed");
        let Some(closed) = partition.close_sessions(watermark) else {
            return Err(Error::input("a query over sessions has none"));
        };
        // The keys in the order of their hashes, and the number of each.
        let groups = &partition.groups;
        let mut numbers = vec![u32::MAX; groups.capacity()];
        let (store, hashes) = (groups.keys(), groups.hashes());
        let hash = |id: GroupId| hashes[id as usize];
        let ids = closed.sessions.iter().map(|session| session.1);
        let new = ids.filter(|id| std::mem::replace(&mut numbers[*id as usize], 0) != 0);
        let mut order: Vec<(u64, GroupId)> = new.map(|id| (hash(id), id)).collect();
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| K::compare(store, a.1, b.1)));
        let ids: Vec<GroupId> = order.into_iter().map(|(_, id)| id).collect();
        ids.iter().zip(0..).for_each(|(id, number)| numbers[*id as usize] = number);
        let types: Vec<DataType> = plan.keys.iter().map(|k| k.data_type.clone()).collect();
        let keys = K::arrays(store, &|id| hash(id) == NULL_HASH, &ids, &types)?;
        match watermark {
            Some(_) => closed.gone.iter().for_each(|id| partition.groups.free(*id)),
            None => partition.groups = Groups::new(K::Store::default()),
        }
        let number = |(span, id): (Span, GroupId)| (span, numbers[id as usize]);
        let sessions: Vec<(Span, u32)> = closed.sessions.into_iter().map(number).collect();
        let table = ColumnTables::new(&closed.states, false);
        let log = Log { ids: vec![0; sessions.len()], rows: closed.rows, states: closed.states };
        let panes = SealedPanes::of(log);
        let most = share.min(sessions.len());
        let slider = Slider::new(WindowSpec::global(), Engine::Incremental, table, most, &panes);
        partition.lease()?;
        let own = sessions.capacity() * size_of::<(Span, u32)>();
        lease.resize(own + panes.bytes() + slider.bytes() + slider.table().bytes())?;
        let columns = plan.outputs.iter().map(OutputColumn::new).collect();
        Ok((keys, Part { sessions, panes, slider, base: 0, block: 0..0, columns, _lease: lease }))
    }

    /// Fills the columns with the sessions of `block`, which becomes that window.
    fn fill(&mut self, plan: &Plan, number: i64) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let ids: Vec<u32> = (0..self.block.len() as u32).collect();
        self.panes.push(number, self.block.clone(), &ids);
        self.slider.advance(number, &mut self.panes);
        for (output, column) in plan.outputs.iter().zip(&mut self.columns) {
            finish(output, &self.slider, &ids, column).map_err(|error| {
                // Which one it was.
                let fails = |id: &u32| finish(output, &self.slider, &[*id], &mut OutputColumn::new(output)).is_err();
                let at = ids.iter().position(fails).unwrap_or(0);
                let mut start = Vec::new();
                crate::time::write_rfc3339(self.sessions[self.block.start + at].0.first, &mut start);
                Error::data(format!("{error}, in the session that starts at {}", String::from_utf8_lossy(&start)))
            })?;
        }
        Ok(())
    }
}
