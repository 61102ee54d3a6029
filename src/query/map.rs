//! The map side: one block of records in, its cells out, grouped by partition and pane.
//!
//! A block is filtered, its times become panes and its keys hashes. If the block's own hashes say that keys repeat,
//! records are folded by (key, pane) here, where the block is in the cache, and only the cells travel; otherwise every
//! record is a cell of its own. Either way the values are written once, straight to their place behind a counting sort
//! by (partition, pane), so the reduce side reads each partition's part from one end to the other.
//!
//! The decision looks at nothing but the block, and blocks are cut alike however the work is scheduled: so are the
//! partial sums of floats, and the result is the same to the bit on any number of threads.

use super::aggregates::Columns;
use super::keys::{KeyBatch, KeyRows};
use super::marked::Marked;
use super::pane_column::PaneColumn;
use super::partitioning::Partitioning;
use super::plan::Plan;
use super::session::number_sessions;
use crate::core::PaneKey;
use crate::core::States;
use crate::core::counts::Counts;
use crate::core::dictionary::{Dictionary, estimate_keys};
use crate::core::partition::{counting_sort, partition_of};
use crate::core::session::Span;
use crate::core::watermark::AHEAD;
use crate::hash::hash_word;
use crate::metrics::Ledger;
use crate::{Error, Result};
use arrow_array::{Array, ArrayRef, BooleanArray};
use arrow_buffer::{Buffer, ScalarBuffer};
use arrow_select::filter::filter;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Some rows of a block: times (empty if the query uses none) and the plan's columns, all of length `rows`.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) rows: usize,
    pub(crate) times: ScalarBuffer<i64>,
    pub(crate) columns: Vec<ArrayRef>,
    /// The records as they stand in a text, if they may be asked for.
    pub(crate) text: Option<Arc<Text>>,
}

/// Where the records of a piece stand in the text that they come from.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) data: Buffer,
    /// The first byte of each record, and one past its last.
    pub(crate) places: Vec<(usize, usize)>,
}

/// A record of a block as it is written when it is left out: its number in the block, and its bytes.
pub(crate) type Record = (u64, Vec<u8>);

impl Text {
    /// Record number `row` of the piece.
    pub(super) fn record(&self, row: usize) -> &[u8] {
        let (start, end) = self.places[row];
        &self.data[start..end]
    }
}

impl Piece {
    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.times.len() * 8 + self.columns.iter().map(|c| c.get_array_memory_size()).sum::<usize>()
    }
}

/// The watermark before each row of each piece of a block ([`crate::core::watermark`]); none for pieces, and for blocks,
/// whose rows are all on time.
pub(crate) type Marks = Vec<Option<Vec<i64>>>;

/// The cells of one pane and partition: `cells` of [`Mapped::states`].
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) pane: PaneKey,
    pub(crate) cells: Range<usize>,
}

/// What a block came to.
pub(crate) struct Mapped<K> {
    /// Keys grouped by partition: those of partition p are `key_offsets[p]..key_offsets[p + 1]`.
    pub(crate) keys: K,
    pub(crate) hashes: Vec<u64>,
    pub(crate) key_offsets: Vec<u32>,
    /// The key of each cell; `None`: cell i has key i.
    pub(crate) cell_keys: Option<Vec<u32>>,
    /// Segments in the order of (partition, pane); those of partition p are `segment_offsets[p]..segment_offsets[p + 1]`.
    pub(crate) segments: Vec<Segment>,
    pub(crate) segment_offsets: Vec<u32>,
    /// Of a query with sessions: the times of each cell and, unless all of the block are on time, the watermark before it.
    pub(crate) spans: Vec<Span>,
    pub(crate) marks: Vec<i64>,
    /// Of a query with sessions, if late records are wanted: those that are late unless a session is open for them, by
    /// their cell.
    pub(crate) doubtful: HashMap<usize, Record>,
    pub(crate) rows: Counts,
    pub(crate) states: Columns,
    pub(crate) ledger: Ledger,
    /// The records that were late or ahead, if they are wanted, in the order of the input.
    pub(crate) set_aside: Vec<Record>,
    /// Least and greatest time, if any record had one, and the largest step back inside the block.
    pub(crate) times: Option<(i64, i64, u64)>,
    /// Its place among all blocks, if partitions may be written instead of folded, and the first that was.
    pub(crate) sequence: u64,
    pub(crate) resident: usize,
}

impl<K: KeyBatch> Mapped<K> {
    /// How many partitions the block was cut into; none if nothing of it was kept.
    pub(crate) fn partitions(&self) -> usize {
        self.key_offsets.len().saturating_sub(1)
    }

    /// Lets go of everything that partitions take: all of them have been written.
    pub(crate) fn strip(&mut self)
    where
        K: Default,
    {
        let none = vec![0; self.key_offsets.len()];
        (self.key_offsets, self.segment_offsets) = (none.clone(), none);
        (self.keys, self.hashes, self.cell_keys) = (K::default(), Vec::new(), None);
        (self.segments, self.spans, self.marks) = (Vec::new(), Vec::new(), Vec::new());
        (self.rows, self.states) = (Counts::default(), self.states.empty());
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.bytes()
            + self.hashes.capacity() * 8
            + self.cell_keys.as_ref().map_or(0, |k| k.capacity() * 4)
            + self.segments.capacity() * size_of::<Segment>()
            + self.spans.capacity() * size_of::<Span>()
            + self.marks.capacity() * 8
            + self.rows.bytes()
            + self.states.bytes()
    }
}

/// Buffers that a worker uses again for every block.
#[derive(Default)]
pub(crate) struct Scratch<K> {
    keys: K,
    hashes: Vec<u64>,
    panes: PaneColumn,
    /// For sessions: the time of each row, and the watermark before it if any row may be late.
    times: Vec<i64>,
    marks: Vec<i64>,
    /// Rows: the local key of each, then its cell.
    local: Vec<u32>,
    dictionary: Dictionary,
    firsts: Vec<u32>,
    pairs: HashTable<u32>,
    grid: Vec<u32>,
    seen: Vec<u64>,
    buckets: Vec<u32>,
    offsets: Vec<u32>,
    destination: Vec<u32>,
}

/// Blocks of fewer rows are always folded: there is nothing to decide.
const DECIDE_FROM: usize = if cfg!(test) { 4 } else { 256 };

/// Cells are numbered in a table of all keys and panes while it has at most so many places for each row: it is cleared
/// for every block, and filled from one end to the other where times come in order.
const GRID: usize = if cfg!(test) { 4 } else { 16 };

/// Maps one block.
pub(crate) fn map_block<K: KeyRows>(
    plan: &Plan,
    partitioning: &Partitioning,
    pieces: Vec<Piece>,
    marks: Marks,
    scratch: &mut Scratch<K>,
) -> Result<Mapped<K>> {
    let mut ledger = Ledger::default();
    let (mut set_aside, mut doubtful) = (Vec::new(), Vec::new());
    scratch.keys.clear();
    scratch.hashes.clear();
    scratch.panes.clear();
    scratch.times.clear();
    scratch.marks.clear();
    let mut kept: Vec<Piece> = Vec::with_capacity(pieces.len());
    let judged = marks.iter().any(Option::is_some);
    let (mut marks, mut rows) = (marks.into_iter(), 0);
    for piece in pieces {
        let first = ledger.read;
        ledger.read += piece.rows as u64;
        let marks = marks.next().flatten();
        if !piece.times.is_empty() {
            scratch.panes.observe(&piece.times);
        }
        let piece = match marks {
            None => keep(plan, piece, None, scratch, &mut ledger)?,
            Some(marks) => {
                let mut marked = Marked::new(marks);
                let text = piece.text.clone();
                let piece = keep(plan, piece, Some(&mut marked), scratch, &mut ledger)?;
                let found = marked.doubtful(plan, &piece)?.into_iter();
                doubtful.extend(found.map(|(row, (number, record))| (rows + row, (first + number, record))));
                set_aside.extend(marked.records(text.as_deref()).map(|(number, record)| (first + number, record)));
                piece
            }
        };
        if piece.rows > 0 {
            let keys: Vec<ArrayRef> = plan.key_columns.iter().map(|c| piece.columns[*c].clone()).collect();
            scratch.keys.append(&keys, piece.rows, &mut scratch.hashes)?;
            rows += piece.rows;
            kept.push(piece);
        }
    }
    ledger.used = rows as u64;
    if judged && plan.session.is_some() {
        // Also if those that were judged are gone: how a block is folded does not depend on how it was cut.
        scratch.marks.resize(rows, i64::MIN);
    }
    let cells = Cells::of(plan, partitioning, scratch, rows);
    let (mut spans, mut marks) = (Vec::new(), Vec::new());
    if plan.session.is_some() {
        marks.resize(scratch.marks.len(), 0);
        for (at, mark) in scratch.destination.iter().zip(&scratch.marks) {
            marks[*at as usize] = *mark;
        }
        spans.resize(cells.count, Span::NONE);
        for (at, ts) in scratch.destination.iter().zip(&scratch.times) {
            spans[*at as usize].extend(Span::at(*ts));
        }
    }
    let mut counts = Counts::default();
    counts.grow(cells.count);
    counts.add(&scratch.destination, 1, |_| 1);
    let mut states = plan.columns();
    states.grow(cells.count);
    let mut from = 0;
    for piece in &kept {
        let at = &scratch.destination[from..from + piece.rows];
        let inputs = plan.inputs(piece)?;
        for (column, inputs) in states.iter_mut().zip(&inputs) {
            column.update(at, inputs)?;
        }
        from += piece.rows;
    }
    states.iter_mut().for_each(|column| column.seal());
    Ok(Mapped {
        keys: scratch.keys.pick(&cells.key_rows),
        hashes: cells.hashes,
        key_offsets: cells.key_offsets,
        cell_keys: cells.cell_keys,
        segments: cells.segments,
        segment_offsets: cells.segment_offsets,
        spans,
        marks,
        doubtful: doubtful.into_iter().map(|(row, record)| (scratch.destination[row] as usize, record)).collect(),
        rows: counts,
        states,
        ledger,
        set_aside,
        times: scratch.panes.times(),
        sequence: 0,
        resident: usize::MAX,
    })
}

/// Drops the rows that do not count, each for the first reason that applies; appends the panes of the others.
fn keep<K>(
    plan: &Plan,
    mut piece: Piece,
    mut marked: Option<&mut Marked>,
    scratch: &mut Scratch<K>,
    ledger: &mut Ledger,
) -> Result<Piece> {
    let select = |piece: &mut Piece, marked: &mut Option<&mut Marked>, mask: BooleanArray, count: &mut u64| {
        let before = piece.rows;
        *piece = select(piece, &mask)?;
        if piece.rows < before
            && let Some(marked) = marked
        {
            marked.retain(&mask);
        }
        *count += (before - piece.rows) as u64;
        Ok::<_, Error>(())
    };
    if let Some(set) = &mut marked
        && set.marks.contains(&AHEAD)
    {
        let mask: BooleanArray = set.marks.iter().map(|mark| Some(*mark != AHEAD)).collect();
        set.set_aside(plan, &piece, &mask)?;
        select(&mut piece, &mut marked, mask, &mut ledger.ahead)?;
    }
    if let Some((from, to)) = plan.range {
        let mask = piece.times.iter().map(|ts| Some((from..to).contains(ts))).collect();
        select(&mut piece, &mut marked, mask, &mut ledger.filtered)?;
    }
    if let Some(predicate) = &plan.filter {
        let mask = predicate.mask(&piece)?;
        select(&mut piece, &mut marked, mask, &mut ledger.filtered)?;
    }
    if plan.has_bounds() && piece.times.len() != piece.rows {
        return Err(Error::input("records without times reached a query that needs them"));
    }
    let Some(spec) = plan.pane_spec() else {
        if plan.session.is_some() {
            if let Some(marked) = &marked {
                scratch.marks.resize(scratch.times.len(), i64::MIN);
                scratch.marks.extend_from_slice(&marked.marks);
            }
            scratch.times.extend_from_slice(&piece.times);
        }
        scratch.panes.extend_global(piece.rows);
        return Ok(piece);
    };
    if spec.has_gaps() {
        let mask = piece.times.iter().map(|ts| Some(spec.is_inside(spec.pane_of(*ts).0))).collect();
        select(&mut piece, &mut marked, mask, &mut ledger.outside)?;
    }
    if let Some(set) = &mut marked {
        let on_time =
            |(ts, mark): (&i64, &i64)| ts >= mark || spec.first_open(*mark) <= spec.windows_of(spec.pane_of(*ts).0).1;
        let mask: BooleanArray = piece.times.iter().zip(&set.marks).map(|row| Some(on_time(row))).collect();
        set.set_aside(plan, &piece, &mask)?;
        select(&mut piece, &mut marked, mask, &mut ledger.late)?;
    }
    scratch.panes.extend(&piece.times, marked.map(|marked| &marked.marks[..]), spec);
    Ok(piece)
}

/// The rows of `piece` for which `mask` is true.
pub(super) fn select(piece: &Piece, mask: &BooleanArray) -> Result<Piece> {
    let rows = mask.true_count();
    if rows == piece.rows {
        return Ok(piece.clone());
    }
    let times = if piece.times.is_empty() {
        piece.times.clone()
    } else {
        let times: ArrayRef = std::sync::Arc::new(arrow_array::Int64Array::new(piece.times.clone(), None));
        let kept = filter(&times, mask)?;
        arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(&kept).values().clone()
    };
    let columns = piece.columns.iter().map(|c| filter(c, mask)).collect::<Result<_, _>>()?;
    Ok(Piece { rows, times, columns, text: piece.text.clone() })
}

/// Which cell each row of the block belongs to, in [`Scratch::destination`], and what the cells are.
#[derive(Default)]
struct Cells {
    count: usize,
    /// A row that has the key, for each key, keys grouped by partition.
    key_rows: Vec<u32>,
    /// Its hash.
    hashes: Vec<u64>,
    key_offsets: Vec<u32>,
    cell_keys: Option<Vec<u32>>,
    segments: Vec<Segment>,
    segment_offsets: Vec<u32>,
}

impl Cells {
    fn of<K: KeyRows>(plan: &Plan, partitioning: &Partitioning, scratch: &mut Scratch<K>, rows: usize) -> Cells {
        if rows == 0 {
            scratch.destination.clear();
            return Cells::default();
        }
        let Scratch { keys, hashes, seen, dictionary, local, firsts, .. } = &mut *scratch;
        let words = keys.words().filter(|_| hashes.is_empty());
        // Words that lie close together are numbered without their hashes.
        let near = words.is_some_and(|words| dictionary.number_near(words, local, firsts));
        let distinct = if near {
            firsts.len()
        } else if plan.key_columns.is_empty() {
            1
        } else {
            keys.complete(hashes);
            estimate_keys(hashes, seen)
        };
        let bits = partitioning.bits(rows, distinct);
        let mut slots = std::mem::take(&mut scratch.buckets);
        slots.clear();
        let panes = scratch.panes.number(&mut slots);
        // Folding pays when keys repeat: then at most half of the rows travel.
        let cells = if plan.folds_early && scratch.marks.is_empty() && (rows < DECIDE_FROM || distinct * 2 <= rows) {
            if plan.key_columns.is_empty() && plan.session.is_none() {
                Self::of_panes(scratch, &slots, &panes, bits)
            } else {
                if !near {
                    let Scratch { keys, hashes, dictionary, local, firsts, .. } = &mut *scratch;
                    dictionary.number(hashes, distinct, |a, b| keys.same(a, b), local, firsts);
                }
                Self::folded(plan, scratch, &mut slots, &panes, bits)
            }
        } else {
            scratch.keys.complete(&mut scratch.hashes);
            Self::raw(scratch, &mut slots, &panes, bits)
        };
        scratch.buckets = slots;
        cells
    }

    /// Every row is a cell and brings its own key.
    fn raw<K: KeyRows>(scratch: &mut Scratch<K>, slots: &mut [u32], panes: &[PaneKey], bits: u32) -> Cells {
        for (slot, hash) in slots.iter_mut().zip(&scratch.hashes) {
            *slot += partition_of(*hash, bits) * panes.len() as u32;
        }
        let (segments, segment_offsets, key_offsets) = sort_cells(scratch, slots, panes, bits);
        let mut key_rows = vec![0; slots.len()];
        for (row, at) in scratch.destination.iter().enumerate() {
            key_rows[*at as usize] = row as u32;
        }
        let hashes = key_rows.iter().map(|row| scratch.hashes[*row as usize]).collect();
        Cells { count: slots.len(), key_rows, hashes, key_offsets, cell_keys: None, segments, segment_offsets }
    }

    /// Rows of one pane share a cell: there is only one key.
    fn of_panes<K: KeyRows>(scratch: &mut Scratch<K>, slots: &[u32], panes: &[PaneKey], bits: u32) -> Cells {
        let hash = scratch.hashes[0];
        // The place of each pane among those that occur.
        let mut place = vec![0; panes.len()];
        slots.iter().for_each(|slot| place[*slot as usize] = 1);
        let mut segments = Vec::new();
        for (place, pane) in place.iter_mut().zip(panes) {
            let at = segments.len();
            if std::mem::replace(place, at as u32) == 1 {
                segments.push(Segment { pane: *pane, cells: at..at + 1 });
            }
        }
        scratch.destination.clear();
        scratch.destination.extend(slots.iter().map(|slot| place[*slot as usize]));
        let partition = partition_of(hash, bits);
        let offsets = |to| (0..=1 << bits).map(|p| if p > partition { to } else { 0 }).collect();
        Cells {
            count: segments.len(),
            key_rows: vec![0],
            hashes: vec![hash],
            key_offsets: offsets(1),
            cell_keys: Some(vec![0; segments.len()]),
            segment_offsets: offsets(segments.len() as u32),
            segments,
        }
    }

    /// Rows of one key and pane share a cell. The keys have been numbered, in the order in which they first occur.
    fn folded<K: KeyRows>(
        plan: &Plan,
        scratch: &mut Scratch<K>,
        slots: &mut Vec<u32>,
        panes: &[PaneKey],
        bits: u32,
    ) -> Cells {
        let key_rows = std::mem::take(&mut scratch.firsts);
        let hashes: Vec<u64> = match scratch.keys.words().filter(|_| scratch.hashes.is_empty()) {
            Some(words) => key_rows.iter().map(|row| hash_word(words[*row as usize])).collect(),
            None => key_rows.iter().map(|row| scratch.hashes[*row as usize]).collect(),
        };
        // 1. Group the keys by partition.
        let partitions: Vec<u32> = hashes.iter().map(|hash| partition_of(*hash, bits)).collect();
        let mut key_offsets = Vec::new();
        counting_sort(&partitions, 1 << bits, &mut key_offsets, &mut scratch.destination);
        let (mut grouped, mut grouped_hashes) = (vec![0; key_rows.len()], vec![0; key_rows.len()]);
        for (key, at) in scratch.destination.iter().enumerate() {
            (grouped[*at as usize], grouped_hashes[*at as usize]) = (key_rows[key], hashes[key]);
        }
        let hashes = grouped_hashes;
        let key_at = std::mem::take(&mut scratch.destination);
        if let [pane] = panes
            && plan.session.is_none()
        {
            // The usual case of long panes: a key is a cell.
            let mut segments = Vec::new();
            let mut segment_offsets = vec![0];
            for ends in key_offsets.windows(2) {
                if ends[0] < ends[1] {
                    segments.push(Segment { pane: *pane, cells: ends[0] as usize..ends[1] as usize });
                }
                segment_offsets.push(segments.len() as u32);
            }
            scratch.destination.clear();
            scratch.destination.extend(scratch.local.iter().map(|key| key_at[*key as usize]));
            let count = key_rows.len();
            scratch.firsts = key_rows;
            return Cells { count, key_rows: grouped, hashes, key_offsets, cell_keys: None, segments, segment_offsets };
        }
        // 2. Number the cells, in the order in which they first occur; `local` becomes the cell of each row.
        let mut cells: Vec<(u32, u32)> = Vec::new();
        let keys = key_rows.len();
        if let Some(session) = plan.session {
            let found = number_sessions(session.gap, &scratch.times, keys, &mut scratch.local);
            cells.extend(found.into_iter().map(|key| (key, 0)));
        } else if panes.len() * keys <= GRID * slots.len() + 4096 {
            scratch.grid.clear();
            scratch.grid.resize(panes.len() * keys, u32::MAX);
            for (key, slot) in scratch.local.iter_mut().zip(slots.iter()) {
                let cell = &mut scratch.grid[*slot as usize * keys + *key as usize];
                if *cell == u32::MAX {
                    *cell = cells.len() as u32;
                    cells.push((*key, *slot));
                }
                *key = *cell;
            }
        } else {
            let hash = |key: u32, slot: u32| hash_word(u64::from(key) << 32 | u64::from(slot));
            scratch.pairs.clear();
            for (key, slot) in scratch.local.iter_mut().zip(slots.iter()) {
                let found = scratch.pairs.entry(
                    hash(*key, *slot),
                    |cell| cells[*cell as usize] == (*key, *slot),
                    |cell| hash(cells[*cell as usize].0, cells[*cell as usize].1),
                );
                *key = match found {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(vacant) => {
                        let cell = cells.len() as u32;
                        vacant.insert(cell);
                        cells.push((*key, *slot));
                        cell
                    }
                };
            }
        }
        // 3. Order the cells by (partition, pane) and send each row to its cell's place.
        slots.clear();
        slots.extend(cells.iter().map(|(key, slot)| partitions[*key as usize] * panes.len() as u32 + slot));
        let (segments, segment_offsets, _) = sort_cells(scratch, slots, panes, bits);
        let mut cell_keys = vec![0; cells.len()];
        for ((key, _), at) in cells.iter().zip(&scratch.destination) {
            cell_keys[*at as usize] = key_at[*key as usize];
        }
        for cell in &mut scratch.local {
            *cell = scratch.destination[*cell as usize];
        }
        std::mem::swap(&mut scratch.local, &mut scratch.destination);
        scratch.firsts = key_rows;
        Cells {
            count: cells.len(),
            key_rows: grouped,
            hashes,
            key_offsets,
            cell_keys: Some(cell_keys),
            segments,
            segment_offsets,
        }
    }
}

/// Sorts cells whose bucket is `partition × panes + pane`, lists the non-empty buckets, and where each partition's
/// segments and cells begin.
fn sort_cells<K>(
    scratch: &mut Scratch<K>,
    buckets: &[u32],
    panes: &[PaneKey],
    bits: u32,
) -> (Vec<Segment>, Vec<u32>, Vec<u32>) {
    let all = panes.len() << bits;
    let mut segments: Vec<Segment> = Vec::new();
    let (mut segment_offsets, mut cell_offsets) = (vec![0], vec![0]);
    let mut push = |bucket: usize, cells: Range<usize>| {
        while segment_offsets.len() <= bucket / panes.len() {
            segment_offsets.push(segments.len() as u32);
            cell_offsets.push(cells.start as u32);
        }
        segments.push(Segment { pane: panes[bucket % panes.len()], cells });
    };
    if all <= 4 * buckets.len() + 4096 {
        counting_sort(buckets, all, &mut scratch.offsets, &mut scratch.destination);
        for bucket in 0..all {
            let cells = scratch.offsets[bucket] as usize..scratch.offsets[bucket + 1] as usize;
            if !cells.is_empty() {
                push(bucket, cells);
            }
        }
    } else {
        // More buckets than cells (times all over the place): sort the cells instead of counting the buckets.
        let mut order: Vec<u64> = buckets.iter().enumerate().map(|(i, b)| u64::from(*b) << 32 | i as u64).collect();
        order.sort_unstable();
        scratch.destination.clear();
        scratch.destination.resize(buckets.len(), 0);
        for (at, cell) in order.iter().enumerate() {
            scratch.destination[*cell as u32 as usize] = at as u32;
        }
        let mut from = 0;
        for run in order.chunk_by(|a, b| a >> 32 == b >> 32) {
            push((run[0] >> 32) as usize, from..from + run.len());
            from += run.len();
        }
    }
    segment_offsets.resize((1 << bits) + 1, segments.len() as u32);
    cell_offsets.resize((1 << bits) + 1, buckets.len() as u32);
    (segments, segment_offsets, cell_offsets)
}
