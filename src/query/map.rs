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
use super::plan::Plan;
use crate::core::States;
use crate::core::counts::Counts;
use crate::core::dictionary::Dictionary;
use crate::core::partition::{counting_sort, partition_of};
use crate::core::window::{PaneIndex, WindowSpec};
use crate::metrics::Ledger;
use crate::{Error, Result};
use arrow_array::{ArrayRef, BooleanArray};
use arrow_buffer::ScalarBuffer;
use arrow_select::filter::filter;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::ops::Range;
use std::sync::OnceLock;

/// Some rows of a block: times (empty if the query uses none) and the plan's columns, all of length `rows`.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(crate) rows: usize,
    pub(crate) times: ScalarBuffer<i64>,
    pub(crate) columns: Vec<ArrayRef>,
}

/// The cells of one pane and partition: `cells` of [`Mapped::states`].
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) pane: PaneIndex,
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
    pub(crate) rows: Counts,
    pub(crate) states: Columns,
    pub(crate) ledger: Ledger,
    /// Least and greatest time, if any record had one, and the largest step back inside the block.
    pub(crate) times: Option<(i64, i64, u64)>,
}

impl<K: KeyBatch> Mapped<K> {
    /// How many partitions the block was cut into; none if nothing of it was kept.
    pub(crate) fn partitions(&self) -> usize {
        self.key_offsets.len().saturating_sub(1)
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.keys.bytes()
            + self.hashes.capacity() * 8
            + self.cell_keys.as_ref().map_or(0, |k| k.capacity() * 4)
            + self.segments.capacity() * size_of::<Segment>()
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

/// Into how many partitions keys are cut. The number changes no answer, so whichever block comes first may decide it.
pub(crate) struct Partitioning {
    bits: OnceLock<u32>,
    threads: usize,
}

/// Keys that a partition should have at most, so that its table fits the L2 cache.
const KEYS_PER_PARTITION: usize = 2048;
/// The most partitions that the first block asks for, as a logarithm.
const MOST_BITS: u32 = 6;

impl Partitioning {
    /// 2 to the power of `bits` partitions, or as many as the first block suggests.
    pub(crate) fn new(bits: Option<u32>, threads: usize) -> Self {
        Partitioning { bits: bits.map_or_else(OnceLock::new, OnceLock::from), threads }
    }

    /// The logarithm of the number of partitions, given the keys of a block.
    fn bits(&self, rows: usize, keys: usize) -> u32 {
        *self.bits.get_or_init(|| {
            // A block in which keys hardly repeat says only that there are many.
            let all = if keys * 8 > rows { usize::MAX / 2 } else { 4 * keys };
            let least = (4 * self.threads).next_power_of_two().ilog2();
            let wanted = (all / KEYS_PER_PARTITION).next_power_of_two().ilog2();
            wanted.clamp(least.min(MOST_BITS), MOST_BITS)
        })
    }
}

/// Maps one block.
pub(crate) fn map_block<K: KeyRows>(
    plan: &Plan,
    partitioning: &Partitioning,
    pieces: Vec<Piece>,
    scratch: &mut Scratch<K>,
) -> Result<Mapped<K>> {
    let mut ledger = Ledger::default();
    scratch.keys.clear();
    scratch.hashes.clear();
    scratch.panes.clear();
    let mut kept = Vec::with_capacity(pieces.len());
    for piece in pieces {
        ledger.read += piece.rows as u64;
        if !piece.times.is_empty() {
            scratch.panes.observe(&piece.times);
        }
        let piece = keep(plan, piece, scratch, &mut ledger)?;
        if piece.rows > 0 {
            let keys: Vec<ArrayRef> = plan.key_columns.iter().map(|c| piece.columns[*c].clone()).collect();
            scratch.keys.extend(&keys, piece.rows, &mut scratch.hashes)?;
            kept.push(piece);
        }
    }
    ledger.used = scratch.hashes.len() as u64;
    let cells = Cells::of(plan, partitioning, scratch);
    let mut rows = Counts::default();
    rows.grow(cells.count);
    rows.add(&scratch.destination, 1, |_| 1);
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
        hashes: cells.key_rows.iter().map(|row| scratch.hashes[*row as usize]).collect(),
        key_offsets: cells.key_offsets,
        cell_keys: cells.cell_keys,
        segments: cells.segments,
        segment_offsets: cells.segment_offsets,
        rows,
        states,
        ledger,
        times: scratch.panes.times(),
    })
}

/// Drops the rows that the filter or the gaps between windows drop; appends the panes of the others.
fn keep<K>(plan: &Plan, piece: Piece, scratch: &mut Scratch<K>, ledger: &mut Ledger) -> Result<Piece> {
    let mut piece = piece;
    if let Some((from, to)) = plan.range {
        let inside: BooleanArray = piece.times.iter().map(|ts| Some((from..to).contains(ts))).collect();
        let before = piece.rows;
        piece = select(piece, &inside)?;
        ledger.filtered += (before - piece.rows) as u64;
    }
    if let Some(predicate) = &plan.filter {
        let mask = predicate.mask(&piece)?;
        let before = piece.rows;
        piece = select(piece, &mask)?;
        ledger.filtered += (before - piece.rows) as u64;
    }
    let Some(spec) = plan.pane_spec() else {
        scratch.panes.extend_global(piece.rows);
        return Ok(piece);
    };
    if piece.times.len() != piece.rows {
        return Err(Error::input("records without times reached a query that needs them"));
    }
    if spec.has_gaps() {
        let inside: BooleanArray = piece.times.iter().map(|ts| Some(spec.is_inside(spec.pane_of(*ts).0))).collect();
        let before = piece.rows;
        piece = select(piece, &inside)?;
        ledger.outside += (before - piece.rows) as u64;
    }
    scratch.panes.extend(&piece.times, spec);
    Ok(piece)
}

/// The rows of `piece` for which `mask` is true.
pub(super) fn select(piece: Piece, mask: &BooleanArray) -> Result<Piece> {
    let rows = mask.true_count();
    if rows == piece.rows {
        return Ok(piece);
    }
    let times = if piece.times.is_empty() {
        piece.times
    } else {
        let times: ArrayRef = std::sync::Arc::new(arrow_array::Int64Array::new(piece.times, None));
        let kept = filter(&times, mask)?;
        arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Int64Type>(&kept).values().clone()
    };
    let columns = piece.columns.iter().map(|c| filter(c, mask)).collect::<Result<_, _>>()?;
    Ok(Piece { rows, times, columns })
}

/// The pane of each row.
#[derive(Default)]
struct PaneColumn {
    rows: usize,
    /// The pane of each row; of none, as long as all rows are in the pane `least`, which is the usual case of long panes.
    panes: Vec<PaneIndex>,
    least: PaneIndex,
    greatest: PaneIndex,
    min_time: i64,
    max_time: i64,
    disorder: u64,
    any_time: bool,
}

impl PaneColumn {
    fn clear(&mut self) {
        let panes = std::mem::take(&mut self.panes);
        *self = PaneColumn { panes, least: PaneIndex::MAX, greatest: PaneIndex::MIN, ..PaneColumn::default() };
        self.panes.clear();
    }

    fn times(&self) -> Option<(i64, i64, u64)> {
        self.any_time.then_some((self.min_time, self.max_time, self.disorder))
    }

    /// Takes note of how far the times step back; filtered rows count too.
    fn observe(&mut self, times: &[i64]) {
        if !self.any_time {
            (self.min_time, self.max_time, self.any_time) = (times[0], times[0], true);
        }
        let (mut min, mut max, mut back) = (self.min_time, self.max_time, 0);
        for ts in times {
            min = min.min(*ts);
            max = max.max(*ts);
            back = back.max(max - ts);
        }
        (self.min_time, self.max_time) = (min, max);
        self.disorder = self.disorder.max(back as u64);
    }

    fn extend_global(&mut self, rows: usize) {
        (self.least, self.greatest) = (0, 0);
        self.rows += rows;
    }

    /// Appends rows whose times were [observed](Self::observe).
    fn extend(&mut self, times: &[i64], spec: WindowSpec) {
        let (first, last) = (spec.pane_of(self.min_time).0, spec.pane_of(self.max_time).0);
        if first == last {
            (self.least, self.greatest) = (first, first);
            self.rows += times.len();
            return;
        }
        self.panes.reserve(self.rows + times.len());
        // Rows so far, if none of them is listed, are all in one pane.
        self.panes.resize(self.rows, self.least);
        // Neighbours mostly share a pane: then no division is needed.
        let (mut pane, mut from, mut to) = (0, i64::MAX, i64::MIN);
        let (mut least, mut greatest) = (self.least, self.greatest);
        for ts in times {
            if !(from <= *ts && *ts < to) {
                (pane, from, to) = spec.pane_of(*ts);
                least = least.min(pane);
                greatest = greatest.max(pane);
            }
            self.panes.push(pane);
        }
        (self.least, self.greatest) = (least, greatest);
        self.rows = self.panes.len();
    }

    /// Panes as numbers from 0 in ascending order, appended to `slots`; returns the pane of each number.
    fn number(&self, slots: &mut Vec<u32>) -> Vec<PaneIndex> {
        if self.panes.is_empty() {
            slots.resize(self.rows, 0);
            return vec![self.least];
        }
        let span = self.greatest.saturating_sub(self.least);
        if span < 4 * self.panes.len() as i64 + 64 {
            slots.extend(self.panes.iter().map(|p| (p - self.least) as u32));
            return (self.least..=self.greatest).collect();
        }
        let mut distinct = self.panes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        slots.extend(self.panes.iter().map(|p| distinct.partition_point(|d| d < p) as u32));
        distinct
    }
}

/// Which cell each row of the block belongs to, in [`Scratch::destination`], and what the cells are.
#[derive(Default)]
struct Cells {
    count: usize,
    /// A row that has the key, for each key, keys grouped by partition.
    key_rows: Vec<u32>,
    key_offsets: Vec<u32>,
    cell_keys: Option<Vec<u32>>,
    segments: Vec<Segment>,
    segment_offsets: Vec<u32>,
}

impl Cells {
    fn of<K: KeyRows>(plan: &Plan, partitioning: &Partitioning, scratch: &mut Scratch<K>) -> Cells {
        let rows = scratch.hashes.len();
        if rows == 0 {
            scratch.destination.clear();
            return Cells::default();
        }
        let keys = estimate_keys(&scratch.hashes, &mut scratch.seen);
        let bits = partitioning.bits(rows, keys);
        let mut slots = std::mem::take(&mut scratch.buckets);
        slots.clear();
        let panes = scratch.panes.number(&mut slots);
        // Folding pays when keys repeat: then at most half of the rows travel.
        let cells = if plan.folds_early && (rows < DECIDE_FROM || keys * 2 <= rows) {
            Self::folded(scratch, &mut slots, &panes, bits, keys)
        } else {
            Self::raw(scratch, &mut slots, &panes, bits)
        };
        scratch.buckets = slots;
        cells
    }

    /// Every row is a cell and brings its own key.
    fn raw<K: KeyRows>(scratch: &mut Scratch<K>, slots: &mut [u32], panes: &[PaneIndex], bits: u32) -> Cells {
        for (slot, hash) in slots.iter_mut().zip(&scratch.hashes) {
            *slot += partition_of(*hash, bits) * panes.len() as u32;
        }
        let (segments, segment_offsets, key_offsets) = sort_cells(scratch, slots, panes, bits);
        let mut key_rows = vec![0; slots.len()];
        for (row, at) in scratch.destination.iter().enumerate() {
            key_rows[*at as usize] = row as u32;
        }
        Cells { count: slots.len(), key_rows, key_offsets, cell_keys: None, segments, segment_offsets }
    }

    /// Rows of one key and pane share a cell.
    fn folded<K: KeyRows>(
        scratch: &mut Scratch<K>,
        slots: &mut Vec<u32>,
        panes: &[PaneIndex],
        bits: u32,
        expected: usize,
    ) -> Cells {
        // 1. Number the keys, in the order in which they first occur.
        let Scratch { keys, hashes, dictionary, local, firsts, .. } = scratch;
        dictionary.number(hashes, expected, |a, b| keys.same(a, b), local, firsts);
        let key_rows = std::mem::take(&mut scratch.firsts);
        let hashes = &scratch.hashes;
        // 2. Group the keys by partition.
        let partitions: Vec<u32> = key_rows.iter().map(|row| partition_of(hashes[*row as usize], bits)).collect();
        let mut key_offsets = Vec::new();
        counting_sort(&partitions, 1 << bits, &mut key_offsets, &mut scratch.destination);
        let mut grouped = vec![0; key_rows.len()];
        for (key, at) in scratch.destination.iter().enumerate() {
            grouped[*at as usize] = key_rows[key];
        }
        let key_at = std::mem::take(&mut scratch.destination);
        if let [pane] = panes {
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
            return Cells { count, key_rows: grouped, key_offsets, cell_keys: None, segments, segment_offsets };
        }
        // 3. Number the cells, in the order in which they first occur; `local` becomes the cell of each row.
        let mut cells: Vec<(u32, u32)> = Vec::new();
        let keys = key_rows.len();
        if panes.len() * keys <= 4 * slots.len() + 4096 {
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
            let hash = |key: u32, slot: u32| crate::hash::hash_word(u64::from(key) << 32 | u64::from(slot));
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
        // 4. Order the cells by (partition, pane) and send each row to its cell's place.
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
    panes: &[PaneIndex],
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

/// How many distinct keys a block has, by linear counting over all of its hashes (error about 1 %).
fn estimate_keys(hashes: &[u64], seen: &mut Vec<u64>) -> usize {
    let bits = (hashes.len().next_power_of_two() * 2).max(64);
    seen.clear();
    seen.resize(bits / 64, 0);
    for hash in hashes {
        let bit = *hash as usize & (bits - 1);
        seen[bit / 64] |= 1 << (bit % 64);
    }
    let empty = bits as f64 - f64::from(seen.iter().map(|w| w.count_ones()).sum::<u32>());
    (-(bits as f64) * (empty.max(1.0) / bits as f64).ln()) as usize
}
