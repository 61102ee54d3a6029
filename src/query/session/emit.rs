//! From the sessions of all partitions to rows: by end, then start, then the hash of the key.
//!
//! Every partition closes and sorts its own sessions. A block of rows is cut at places in the order of all of them, such
//! that no partition has more than its share between two; partitions finish their part of the block, which stands to them
//! as one tumbling window whose groups are the sessions; then the parts of each cut, sorted runs, are merged and their
//! columns interleaved.

use crate::core::panes::{Log, SealedPanes};
use crate::core::session::Span;
use crate::core::slide::{Engine, Slider};
use crate::core::window::WindowSpec;
use crate::memory::Lease;
use crate::query::aggregates::{ColumnTables, Columns};
use crate::query::emit::{BLOCK_ROWS, batch, inner_schema, joined, pick_keys, ranked};
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

/// One partition, closed.
struct Part {
    /// Span and rank of the key, in the order of the output.
    sessions: Vec<(Span, u32)>,
    panes: SealedPanes<Columns>,
    slider: Slider<ColumnTables>,
    /// The number of its first key among the keys of all partitions.
    base: u32,
    /// The sessions of the block that is being made.
    block: Range<usize>,
    columns: Vec<OutputColumn>,
    _lease: Lease,
}

/// Everything that is left to do after the last record.
pub(crate) struct SessionEmitter {
    plan: Arc<Plan>,
    gap: i64,
    parts: Vec<Part>,
    /// Sessions that a partition has in a block at most.
    share: usize,
    /// How many sessions there are, and how many have been handed out.
    total: u64,
    done: u64,
    blocks: i64,
    /// Each key field over the keys of all partitions, in the order of the output.
    keys: Vec<ArrayRef>,
    schema: SchemaRef,
    pub(crate) live_keys: u64,
}

impl SessionEmitter {
    /// Closes the sessions of partitions, whose order is that of their hashes. Runs on the current rayon pool.
    pub(super) fn new<K: KeyRows>(plan: Arc<Plan>, gap: i64, partitions: Vec<Partition<K>>) -> Result<Self> {
        let types: Vec<DataType> = plan.keys.iter().map(|k| k.data_type.clone()).collect();
        let share = (BLOCK_ROWS / partitions.len().max(1)).next_multiple_of(BATCHES).max(BATCHES);
        let closed: Vec<(usize, Vec<ArrayRef>, Part)> = partitions
            .into_par_iter()
            .map(|partition| {
                let (groups, sessions, mut lease) = partition.into_sessions();
                let (keys, rank) = ranked::<K>(&groups, &types)?;
                let live = groups.len();
                drop(groups);
                let rank = |id: u32| rank[id as usize];
                let Some(mut sessions) = sessions else {
                    return Err(Error::input("a partition of sessions has none"));
                };
                let closed = sessions.close(i64::MAX, Timestamp::MAX.micros(), |a, b| rank(a).cmp(&rank(b)));
                drop(sessions);
                let sessions: Vec<(Span, u32)> =
                    closed.sessions.into_iter().map(|(span, id)| (span, rank(id))).collect();
                let table = ColumnTables::new(&closed.states, false);
                let log = Log { ids: vec![0; sessions.len()], rows: closed.rows, states: closed.states };
                let panes = SealedPanes::new(log);
                let groups = share.min(sessions.len());
                let slider = Slider::new(WindowSpec::global(), Engine::Incremental, table, groups, &panes);
                let own = sessions.capacity() * size_of::<(Span, u32)>();
                lease.resize(own + panes.bytes() + slider.bytes() + slider.table().bytes())?;
                let columns = plan.outputs.iter().map(OutputColumn::new).collect();
                Ok((live, keys, Part { sessions, panes, slider, base: 0, block: 0..0, columns, _lease: lease }))
            })
            .collect::<Result<_>>()?;
        let (mut parts, mut keys) = (Vec::with_capacity(closed.len()), vec![Vec::new(); plan.keys.len()]);
        let (mut live_keys, mut total) = (0, 0);
        for (live, arrays, mut part) in closed {
            part.base = live_keys as u32;
            live_keys += live as u64;
            total += part.sessions.len() as u64;
            parts.push(part);
            for (all, array) in keys.iter_mut().zip(arrays) {
                all.push(array);
            }
        }
        let keys = joined(&plan, &keys)?;
        let schema = inner_schema(&plan);
        Ok(SessionEmitter { plan, gap, parts, share, total, done: 0, blocks: 0, keys, schema, live_keys })
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
