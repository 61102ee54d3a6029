//! Cells with their keys as bytes: what a partition cannot keep in memory, in pieces that can be folded in again.
//!
//! A piece is a block's part for one partition ([`save_block`]) or some of the cells that a partition had folded
//! ([`save_partition`]). Read back ([`load`]) either is a block of one partition again, and [`Partition::take`] folds it as
//! it folds any block. Cells of one key and pane are folded in the order of the pieces, which is that of the input, so that
//! the result does not depend on what was spilled when, to the bit.
//!
//! ```text
//! piece: keys (u32), the keys
//!        segments (u32), each pane, first window (2 × i64), cells (u32); 1 if cells name their keys (u8), the key of
//!        each (u32, packed); spans of sessions (2 × i64 each); record counts; the states of each column
//! ```
//!
//! Its two lines travel as two columns: keys hardly pack, and trying is what packing costs.

use crate::core::counts::Counts;
use crate::core::groups::Groups;
use crate::core::session::Span;
use crate::core::words::{Bytes, put, put_one, put_packed};
use crate::core::{GroupId, Log, Run};
use crate::core::{PaneKey, States};
use crate::metrics::Ledger;
use crate::query::aggregates::Columns;
use crate::query::keys::KeyRows;
use crate::query::map::{Mapped, Segment};
use crate::query::plan::Plan;
use crate::query::reduce::Partition;
use crate::store::column::{Column, ColumnRef, Slice, Values};
use crate::{Error, ErrorKind, Result};
use std::ops::Range;

/// Cells of a piece at most, and about as many bytes of keys as it has at most. Tiny under test.
const PIECE_CELLS: usize = if cfg!(test) { 7 } else { 32 << 10 };
const PIECE_KEY_BYTES: usize = 4 << 20;

/// Bytes of pieces that are put together at most. Tiny under test.
const JOINED_BYTES: usize = if cfg!(test) { 200 } else { 64 << 10 };

/// Everything of a piece but its cells.
struct Head<'a, K> {
    keys: &'a K,
    of: Range<usize>,
    hashes: &'a [u64],
    segments: Vec<(PaneKey, usize)>,
    cell_keys: Option<Vec<u32>>,
    spans: &'a [Span],
}

/// Pieces one behind the other.
#[derive(Clone, Default)]
pub(in crate::query) struct Pieces {
    keys: Vec<u8>,
    cells: Vec<u8>,
    /// Where each piece ends in both.
    ends: Vec<(usize, usize)>,
}

impl Pieces {
    /// With room for all of `block`.
    pub(super) fn of<K: KeyRows>(block: &Mapped<K>) -> Pieces {
        let heads = 64 * block.partitions() + 24 * block.segments.len();
        let cells = block.rows.bytes() + block.states.bytes() + block.cell_keys.as_ref().map_or(0, |of| 4 * of.len());
        Pieces {
            keys: Vec::with_capacity(block.keys.bytes() + heads),
            cells: Vec::with_capacity(cells + heads),
            ends: Vec::new(),
        }
    }

    /// Bytes of memory held.
    pub(in crate::query) fn bytes(&self) -> usize {
        self.keys.capacity() + self.cells.capacity()
    }

    /// What they are written down as.
    #[cfg(test)]
    pub(super) fn into_bytes(self) -> (Vec<u8>, Vec<u8>) {
        (self.keys, self.cells)
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The columns in which they travel.
    ///
    /// # Errors
    /// If they are longer than 4 GiB.
    pub(in crate::query) fn into_columns(self) -> Result<Vec<Column>> {
        let column = |data: Vec<u8>, end: fn(&(usize, usize)) -> usize| {
            let all = std::iter::once(Ok(0)).chain(self.ends.iter().map(|ends| u32::try_from(end(ends))));
            let offsets = all.collect::<Result<_, _>>().map_err(|_| {
                Error::new(ErrorKind::Memory, "the state of one block is longer than 4 GiB; raise --memory")
            })?;
            Ok::<_, Error>(Column { values: Values::Bytes { offsets, data }, validity: None })
        };
        Ok(vec![column(self.keys, |ends| ends.0)?, column(self.cells, |ends| ends.1)?])
    }
}

fn save<K: KeyRows>(head: &Head<'_, K>, rows: &Counts, states: &Columns, cells: &[Range<usize>], to: &mut Pieces) {
    put_one(head.of.len() as u32, &mut to.keys);
    head.keys.save(head.of.clone(), head.hashes, &mut to.keys);
    let out = &mut to.cells;
    put_one(head.segments.len() as u32, out);
    for (pane, cells) in &head.segments {
        put(&[pane.pane, pane.from], out);
        put_one(*cells as u32, out);
    }
    put_one(head.cell_keys.is_some() as u8, out);
    if let Some(cell_keys) = &head.cell_keys {
        put_packed(&[cell_keys], out);
    }
    for span in head.spans {
        put(&[span.first, span.last], out);
    }
    rows.save(cells, out);
    states.save(cells, out);
    to.ends.push((to.keys.len(), to.cells.len()));
}

/// Appends partition `p` of `block` to `out`; nothing if it has no part of it.
pub(super) fn save_block<K: KeyRows>(plan: &Plan, block: &Mapped<K>, p: usize, out: &mut Pieces) {
    let keys = block.key_offsets[p] as usize..block.key_offsets[p + 1] as usize;
    let segments = &block.segments[block.segment_offsets[p] as usize..block.segment_offsets[p + 1] as usize];
    let (Some(first), Some(last)) = (segments.first(), segments.last()) else { return };
    let cells = first.cells.start..last.cells.end;
    let relative = |of: &Vec<u32>| of[cells.clone()].iter().map(|key| key - keys.start as u32).collect();
    let head = Head {
        keys: &block.keys,
        hashes: &block.hashes[keys.clone()],
        of: keys.clone(),
        segments: segments.iter().map(|s| (s.pane, s.cells.len())).collect(),
        cell_keys: block.cell_keys.as_ref().map(relative),
        spans: if plan.session.is_some() { &block.spans[cells.clone()] } else { &[] },
    };
    save(&head, &block.rows, &block.states, &[cells], out);
}

/// Makes pieces of cells of one partition.
struct Cutter<'a, K: KeyRows, F> {
    groups: &'a Groups<K::Store>,
    /// Cells of a piece at most.
    most: usize,
    /// The number of each group in the piece.
    local: Vec<u32>,
    each: F,
}

impl<'a, K: KeyRows, F: FnMut(Pieces) -> Result<()>> Cutter<'a, K, F> {
    fn new(groups: &'a Groups<K::Store>, each: F) -> Self {
        let key_bytes = groups.bytes() / groups.len().max(1);
        let most = (PIECE_KEY_BYTES / key_bytes.max(1)).clamp(1, PIECE_CELLS);
        Cutter { groups, most, local: vec![u32::MAX; groups.capacity()], each }
    }

    /// Of the groups `of`, whose cells in `rows` and `states` are `cells`.
    fn piece(
        &mut self,
        of: &[GroupId],
        segments: Vec<(PaneKey, usize)>,
        spans: &[Span],
        (rows, states): (&Counts, &Columns),
        cells: &[Range<usize>],
    ) -> Result<()> {
        let groups = self.groups;
        let mut ids: Vec<GroupId> = Vec::new();
        let mut cell_keys = Vec::new();
        for id in of {
            let number = &mut self.local[*id as usize];
            if *number == u32::MAX {
                *number = ids.len() as u32;
                ids.push(*id);
            }
            cell_keys.push(*number);
        }
        ids.iter().for_each(|id| self.local[*id as usize] = u32::MAX);
        let hashes: Vec<u64> = ids.iter().map(|id| groups.hashes()[*id as usize]).collect();
        let keys = &K::rows_of(groups.keys(), &ids);
        let head = Head { keys, of: 0..ids.len(), hashes: &hashes, segments, cell_keys: Some(cell_keys), spans };
        let mut out = Pieces::default();
        save(&head, rows, states, cells, &mut out);
        (self.each)(out)
    }

    /// Of neighbouring runs of one log.
    fn runs(&mut self, log: &Log<Columns>, runs: &[(PaneKey, Range<usize>)]) -> Result<()> {
        let cells: Vec<Range<usize>> = runs.iter().map(|run| run.1.clone()).collect();
        let ids: Vec<GroupId> = cells.iter().flat_map(|range| &log.ids[range.clone()]).copied().collect();
        let segments = runs.iter().map(|run| (run.0, run.1.len())).collect();
        self.piece(&ids, segments, &[], (&log.rows, &log.states), &cells)
    }
}

/// Writes all of `partition` into pieces.
pub(in crate::query) fn save_partition<K: KeyRows>(
    partition: &mut Partition<K>,
    each: impl FnMut(Pieces) -> Result<()>,
) -> Result<()> {
    let Partition { groups, panes, sessions, .. } = partition;
    let Some(sessions) = sessions else {
        let (logs, runs) = panes.view();
        return save_runs::<K>(groups, logs, runs, each);
    };
    let mut pieces = Cutter::<K, _>::new(groups, each);
    let (rows, states, all) = sessions.view();
    all.chunks(pieces.most).try_for_each(|part| {
        let ids: Vec<GroupId> = part.iter().map(|session| session.2).collect();
        let spans: Vec<Span> = part.iter().map(|session| session.1).collect();
        let mut cells: Vec<Range<usize>> = Vec::new();
        for (slot, ..) in part {
            match cells.last_mut() {
                Some(Range { end, .. }) if end == slot => *end += 1,
                _ => cells.push(*slot..*slot + 1),
            }
        }
        pieces.piece(&ids, vec![(PaneKey::from(0), ids.len())], &spans, (rows, states), &cells)
    })
}

/// Writes cells of `logs`, which belong to `groups`, into pieces.
pub(in crate::query) fn save_runs<K: KeyRows>(
    groups: &Groups<K::Store>,
    logs: &[Log<Columns>],
    mut runs: impl Iterator<Item = (PaneKey, Run)>,
    each: impl FnMut(Pieces) -> Result<()>,
) -> Result<()> {
    let mut pieces = Cutter::<K, _>::new(groups, each);
    let mut pending: Vec<(PaneKey, Range<usize>)> = Vec::new();
    let (mut log, mut count) = (0, 0);
    runs.try_for_each(|(key, run)| {
        let range = run.range();
        for start in range.clone().step_by(pieces.most) {
            let part = start..range.end.min(start + pieces.most);
            if !pending.is_empty() && (run.log as usize != log || count + part.len() > pieces.most) {
                pieces.runs(&logs[log], &pending)?;
                pending.clear();
                count = 0;
            }
            log = run.log as usize;
            count += part.len();
            pending.push((key, part));
        }
        Ok::<(), Error>(())
    })?;
    if pending.is_empty() { Ok(()) } else { pieces.runs(&logs[log], &pending) }
}

/// The blocks of one partition that the pieces in `columns` were saved from.
///
/// # Errors
/// If they are not pieces.
pub(in crate::query) fn load<'a, K: KeyRows>(
    plan: &'a Plan,
    columns: &[ColumnRef<'a>],
) -> Result<impl Iterator<Item = Result<Mapped<K>>> + use<'a, K>> {
    let pieces = pieces(columns)?;
    Ok(pieces.map(|piece| piece.and_then(|(keys, cells)| loaded(plan, keys, cells).ok_or_else(foreign))))
}

/// The two lines of each of the pieces in `columns`.
fn pieces<'a>(columns: &[ColumnRef<'a>]) -> Result<impl Iterator<Item = Result<(Bytes<'a>, Bytes<'a>)>> + use<'a>> {
    let [keys, cells] = columns else { return Err(foreign()) };
    let (Slice::Bytes { offsets: keys, data: of_keys }, Slice::Bytes { offsets: cells, data: of_cells }) =
        (keys.values, cells.values)
    else {
        return Err(foreign());
    };
    let part = |ends: &[u32], data: &'a [u8]| data.get(ends[0] as usize..ends[1] as usize).map(Bytes);
    Ok(keys
        .windows(2)
        .zip(cells.windows(2))
        .map(move |(keys, cells)| part(keys, of_keys).zip(part(cells, of_cells)).ok_or_else(foreign)))
}

fn foreign() -> Error {
    Error::new(ErrorKind::Io, "a piece of state is not what was written")
}

/// The block that one piece was saved from; `None` if the bytes are no piece.
fn loaded<K: KeyRows>(plan: &Plan, keys: Bytes<'_>, cells: Bytes<'_>) -> Option<Mapped<K>> {
    let mut block = empty(plan);
    append(plan, &mut block, keys, cells)?;
    Some(block)
}

/// A block of one partition without cells.
pub(super) fn empty<K: KeyRows>(plan: &Plan) -> Mapped<K> {
    Mapped {
        keys: K::default(),
        hashes: Vec::new(),
        key_offsets: vec![0, 0],
        cell_keys: None,
        segments: Vec::new(),
        segment_offsets: vec![0, 0],
        spans: Vec::new(),
        marks: Vec::new(),
        doubtful: Default::default(),
        rows: Counts::default(),
        states: plan.columns(),
        ledger: Ledger::default(),
        set_aside: Vec::new(),
        times: None,
        sequence: 0,
        resident: usize::MAX,
    }
}

/// Appends the cells of a piece to a block of one partition; `None` if the bytes are no piece: then the block is of no more
/// use.
pub(super) fn append<K: KeyRows>(
    plan: &Plan,
    to: &mut Mapped<K>,
    mut of_keys: Bytes<'_>,
    mut from: Bytes<'_>,
) -> Option<()> {
    let (first_key, first_cell) = (to.hashes.len(), to.rows.len());
    let keys = of_keys.word::<u32>()? as usize;
    to.keys.load(keys, &mut of_keys, &mut to.hashes)?;
    let mut end = first_cell;
    for _ in 0..from.word::<u32>()? {
        let pane = PaneKey { pane: from.word()?, from: from.word()? };
        let start = end;
        end = end.checked_add(from.word::<u32>()? as usize)?;
        match to.segments.last_mut() {
            Some(last) if last.pane == pane => last.cells.end = end,
            _ => to.segments.push(Segment { pane, cells: start..end }),
        }
    }
    let cells = end - first_cell;
    let all_keys = u32::try_from(first_key + keys).ok()?;
    let own_keys = first_key as u32..all_keys;
    match (from.word::<u8>()?, &mut to.cell_keys) {
        (0, of) if cells == keys => of.iter_mut().for_each(|of| of.extend(own_keys.clone())),
        (1, of) => {
            let of = of.get_or_insert_with(|| (0..first_key as u32).collect());
            from.packed_as(cells, of, |key: u32| key.saturating_add(own_keys.start))?;
            if of[first_cell..].iter().any(|key| *key >= own_keys.end) {
                return None;
            }
        }
        _ => return None,
    }
    if plan.session.is_some() {
        let times: Vec<i64> = from.words(cells.checked_mul(2)?)?;
        to.spans.extend(times.chunks_exact(2).map(|t| Span { first: t[0], last: t[1] }));
    }
    to.rows.load(cells, &mut from)?;
    to.states.load(cells, &mut from)?;
    to.key_offsets[1] = all_keys;
    to.segment_offsets[1] = to.segments.len() as u32;
    (of_keys.0.is_empty() && from.0.is_empty()).then_some(())
}

/// Puts the pieces of one partition together to blocks that are worth a look at every column.
///
/// Where partitions are many, a piece is a few dozen cells, and to take them one by one is mostly to begin and to end.
pub(super) struct Joined<'a, K> {
    plan: &'a Plan,
    block: Option<Mapped<K>>,
    /// Bytes of the pieces of the block.
    bytes: usize,
}

impl<'a, K: KeyRows> Joined<'a, K> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Joined { plan, block: None, bytes: 0 }
    }

    /// Adds the pieces in `columns`, and hands out the blocks that are long enough.
    ///
    /// # Errors
    /// If they are not pieces; those of `each`.
    pub(super) fn add(
        &mut self,
        columns: &[ColumnRef<'_>],
        mut each: impl FnMut(Mapped<K>) -> Result<()>,
    ) -> Result<()> {
        pieces(columns)?.try_for_each(|piece| {
            let (keys, cells) = piece?;
            let bytes = keys.0.len() + cells.0.len();
            if self.bytes + bytes > JOINED_BYTES {
                self.rest().map_or(Ok(()), &mut each)?;
            }
            let block = self.block.get_or_insert_with(|| empty(self.plan));
            append(self.plan, block, keys, cells).ok_or_else(foreign)?;
            self.bytes += bytes;
            Ok(())
        })
    }

    /// What has not been handed out.
    pub(super) fn rest(&mut self) -> Option<Mapped<K>> {
        self.bytes = 0;
        self.block.take()
    }
}

/// The cells of a block of one partition whose keys' hashes are to be kept.
///
/// # Errors
/// None that is known of.
pub(super) fn pick<K: KeyRows>(plan: &Plan, block: &Mapped<K>, keep: impl Fn(u64) -> bool) -> Result<Mapped<K>> {
    let mut number = vec![u32::MAX; block.hashes.len()];
    let mut order = Vec::new();
    for (key, _) in block.hashes.iter().enumerate().filter(|(_, hash)| keep(**hash)) {
        number[key] = order.len() as u32;
        order.push(key as u32);
    }
    let (mut cells, mut cell_keys, mut spans, mut segments) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for segment in &block.segments {
        let before = cell_keys.len();
        for cell in segment.cells.clone() {
            let key = number[block.cell_keys.as_ref().map_or(cell, |of| of[cell] as usize)];
            if key == u32::MAX {
                continue;
            }
            cell_keys.push(key);
            spans.extend(block.spans.get(cell));
            match cells.last_mut() {
                Some(Range { end, .. }) if *end == cell => *end += 1,
                _ => cells.push(cell..cell + 1),
            }
        }
        if cell_keys.len() > before {
            segments.push((segment.pane, cell_keys.len() - before));
        }
    }
    let hashes: Vec<u64> = order.iter().map(|key| block.hashes[*key as usize]).collect();
    let head = Head {
        keys: &block.keys.pick(&order),
        of: 0..order.len(),
        hashes: &hashes,
        segments,
        cell_keys: Some(cell_keys),
        spans: &spans,
    };
    let mut piece = Pieces::default();
    save(&head, &block.rows, &block.states, &cells, &mut piece);
    loaded(plan, Bytes(&piece.keys), Bytes(&piece.cells))
        .ok_or_else(|| Error::new(ErrorKind::Memory, "a part of a block is not what was picked"))
}
