//! Rows of several waves in the order of one: by window, and inside a window in the order of the waves.
//!
//! Each wave but the last has written its rows to files, one for each worker and shared by all waves, in blocks: the bounds of
//! each window and how many rows it has, then the columns of the rows. The last one hands them out as they are asked for. Whatever is next among all of them
//! is taken in whole stretches, so that windows of many rows are handed on as slices and copied nowhere.

use super::rows::{to_array, to_column, width};
use crate::query::emit::{batch, inner_schema};
use crate::query::plan::Plan;
use crate::query::session::Emission;
use crate::store::block::{Content, Label};
use crate::store::column::{ColumnRef, Slice};
use crate::store::segment::{Entry, Segment, SegmentWriter};
use crate::store::spill_dir::SpillDir;
use crate::{Error, ErrorKind, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, DictionaryArray, Int32Array, RecordBatch, TimestampMicrosecondArray};
use arrow_cast::cast;
use arrow_schema::{DataType, SchemaRef};
use arrow_select::concat::concat;
use arrow_select::interleave::interleave;
use rayon::prelude::*;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// Stretches of at least so many rows become batches without a copy.
const DIRECT_ROWS: usize = if cfg!(test) { 3 } else { 4 << 10 };
/// Shorter stretches than this on average are copied row by row.
const STRETCH: usize = if cfg!(test) { 2 } else { 16 };
/// Blocks have at least so many rows.
const LEAST_ROWS: usize = if cfg!(test) { 3 } else { 512 };

/// The columns of a row that are the bounds of its window.
const BOUNDS: usize = 2;

/// A window or session, and its rows that follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    start: i64,
    end: i64,
    rows: usize,
}

/// The stretches of a batch whose first columns are the bounds, in whose order its rows are.
fn stretches(batch: &RecordBatch) -> Vec<Stretch> {
    let [starts, ends] = [0, 1].map(|c| &batch.column(c).as_primitive::<TimestampMicrosecondType>().values()[..]);
    let mut found: Vec<Stretch> = Vec::new();
    collect(starts, ends, &mut found);
    found
}

/// Rows are in order: where the first is like the last, so are all between them.
fn collect(starts: &[i64], ends: &[i64], found: &mut Vec<Stretch>) {
    let rows = starts.len();
    if rows == 0 {
        return;
    }
    let (start, end) = (starts[0], ends[0]);
    if (start, end) != (starts[rows - 1], ends[rows - 1]) {
        let (left, right) = (starts.split_at(rows / 2), ends.split_at(rows / 2));
        collect(left.0, right.0, found);
        return collect(left.1, right.1, found);
    }
    match found.last_mut() {
        Some(last) if (last.start, last.end) == (start, end) => last.rows += rows,
        _ => found.push(Stretch { start, end, rows }),
    }
}

/// The rows of waves, on disk.
pub(super) struct RowFiles {
    schema: SchemaRef,
    /// One for each worker; which blocks are where is told by their waves and numbers.
    writers: Vec<Mutex<SegmentWriter>>,
    /// How many blocks each wave has.
    blocks: Vec<u64>,
}

impl RowFiles {
    /// Files for rows that can be cast to `schema`.
    pub(super) fn create(dir: &SpillDir, schema: SchemaRef) -> Result<RowFiles> {
        let writer = |_| Ok(Mutex::new(SegmentWriter::spill(dir)?));
        let writers = (0..rayon::current_num_threads()).map(writer).collect::<Result<_>>()?;
        Ok(RowFiles { schema, writers, blocks: Vec::new() })
    }

    /// What is written from now on is of another wave.
    pub(super) fn begin(&mut self) {
        self.blocks.push(0);
    }

    /// How many waves have begun.
    pub(super) fn waves(&self) -> usize {
        self.blocks.len()
    }

    /// Appends rows of the wave that was begun last, in blocks of about `block` bytes.
    pub(super) fn write(&mut self, batches: &[RecordBatch], block: usize) -> Result<()> {
        let wave = self.blocks.len().saturating_sub(1) as u32;
        let Some(blocks) = self.blocks.last_mut() else {
            return Err(Error::new(ErrorKind::Io, "rows of no wave cannot be spilled"));
        };
        let mut slices = Vec::new();
        for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
            let width = batch.columns()[BOUNDS..].iter().map(width).sum::<usize>().max(1);
            let step = (block / width).max(LEAST_ROWS);
            for start in (0..batch.num_rows()).step_by(step) {
                slices.push((*blocks, batch.slice(start, step.min(batch.num_rows() - start))));
                *blocks += 1;
            }
        }
        let (schema, writers) = (&self.schema, &self.writers);
        slices.into_par_iter().with_max_len(1).try_for_each(|(number, rows)| {
            let of = stretches(&rows);
            let starts: Vec<i64> = of.iter().map(|s| s.start).collect();
            let ends: Vec<i64> = of.iter().map(|s| s.end).collect();
            let counts: Vec<u32> = of.iter().map(|s| s.rows as u32).collect();
            let fields = &schema.fields()[BOUNDS..];
            let columns = rows.columns()[BOUNDS..].iter().zip(fields).map(|(column, field)| {
                let plain = if column.data_type() == field.data_type() {
                    column.clone()
                } else {
                    cast(column, field.data_type())?
                };
                to_column(&plain)
            });
            let columns = columns.collect::<Result<Vec<_>>>()?;
            let slices = [Slice::I64(&starts), Slice::I64(&ends), Slice::U32(&counts)];
            let mut all: Vec<ColumnRef<'_>> = slices.into_iter().map(ColumnRef::new).collect();
            all.extend(columns.iter().map(|c| c.view()));
            let label = Label {
                content: Content::Rows,
                partition: wave,
                first: number,
                last: number,
                rows: rows.num_rows() as u32,
            };
            let worker = rayon::current_thread_index().unwrap_or(0) % writers.len();
            writers[worker].lock().unwrap_or_else(PoisonError::into_inner).append(label, &all)
        })
    }

    /// Ends the writing: the rows of each wave.
    pub(super) fn seal(self) -> Result<Vec<Sealed>> {
        let own = self.writers.into_iter().map(|writer| writer.into_inner().unwrap_or_else(PoisonError::into_inner));
        let segments: Arc<[Segment]> = own.map(SegmentWriter::seal).collect::<Result<_>>()?;
        let mut waves: Vec<Vec<(usize, Entry)>> = vec![Vec::new(); self.blocks.len()];
        for (number, segment) in segments.iter().enumerate() {
            for entry in segment.entries() {
                waves[entry.label.partition as usize].push((number, *entry));
            }
        }
        let sealed = |mut entries: Vec<(usize, Entry)>| {
            entries.sort_unstable_by_key(|(_, entry)| entry.label.first);
            Sealed { schema: self.schema.clone(), segments: segments.clone(), entries: entries.into() }
        };
        Ok(waves.into_iter().map(sealed).collect())
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.writers.iter().map(|writer| writer.lock().unwrap_or_else(PoisonError::into_inner).bytes()).sum()
    }
}

/// The rows of a wave, complete.
pub(super) struct Sealed {
    schema: SchemaRef,
    segments: Arc<[Segment]>,
    /// The blocks that were not read yet.
    entries: VecDeque<(usize, Entry)>,
}

impl Sealed {
    fn next(&mut self) -> Result<Option<Stretches>> {
        let Some((segment, entry)) = self.entries.pop_front() else { return Ok(None) };
        let segment = &self.segments[segment];
        let block = segment.read(&entry)?;
        let foreign =
            || Error::new(ErrorKind::Io, "the block holds no rows").in_file(segment.path()).at_offset(entry.offset);
        let views: Vec<ColumnRef<'_>> = block.columns.iter().map(|c| c.view()).collect();
        let [starts, ends, counts, columns @ ..] = &views[..] else { return Err(foreign()) };
        let (Slice::I64(starts), Slice::I64(ends), Slice::U32(counts)) = (starts.values, ends.values, counts.values)
        else {
            return Err(foreign());
        };
        let of = starts.iter().zip(ends).zip(counts);
        let of: VecDeque<Stretch> =
            of.map(|((start, end), rows)| Stretch { start: *start, end: *end, rows: *rows as usize }).collect();
        let fields = self.schema.fields()[BOUNDS..].iter();
        let arrays = columns.iter().zip(fields).map(|(c, f)| to_array(c, f.data_type())).collect::<Result<Vec<_>>>()?;
        let rows: usize = of.iter().map(|s| s.rows).sum();
        if starts.len() != counts.len() || arrays.iter().any(|a| a.len() != rows) {
            return Err(foreign());
        }
        Ok(Some(Stretches { of, columns: arrays, at: 0 }))
    }
}

/// Rows of one wave that are next.
struct Stretches {
    of: VecDeque<Stretch>,
    /// Without the bounds.
    columns: Vec<ArrayRef>,
    at: usize,
}

enum Source {
    File(Sealed),
    Live(Box<Emission>, VecDeque<RecordBatch>),
}

impl Source {
    fn next(&mut self, schema: &SchemaRef) -> Result<Option<Stretches>> {
        match self {
            Source::File(file) => file.next(),
            Source::Live(emission, ready) => loop {
                match ready.pop_front() {
                    Some(rows) if rows.num_rows() == 0 => {}
                    Some(rows) => {
                        let columns = rows.columns()[BOUNDS..].iter().zip(&schema.fields()[BOUNDS..]);
                        let plain = columns.map(|(column, field)| {
                            if column.data_type() == field.data_type() {
                                Ok(column.clone())
                            } else {
                                Ok(cast(column, field.data_type())?)
                            }
                        });
                        let columns = plain.collect::<Result<_>>()?;
                        return Ok(Some(Stretches { of: stretches(&rows).into(), columns, at: 0 }));
                    }
                    None => match emission.next_block()? {
                        Some(batches) => ready.extend(batches),
                        None => return Ok(None),
                    },
                }
            },
        }
    }
}

/// A wave and what is next of it.
struct Cursor {
    source: Source,
    head: Option<Stretches>,
    begun: bool,
}

impl Cursor {
    /// The next window, if there is one.
    fn peek(&mut self, schema: &SchemaRef) -> Result<Option<Stretch>> {
        if !self.begun || self.head.as_ref().is_some_and(|head| head.of.is_empty()) {
            self.begun = true;
            self.head = self.source.next(schema)?;
        }
        Ok(self.head.as_ref().and_then(|head| head.of.front().copied()))
    }
}

/// Rows that were taken from one batch.
struct Taken {
    columns: Vec<ArrayRef>,
    stretch: Stretch,
}

/// See the module.
pub(super) struct Merge {
    schema: SchemaRef,
    inner: SchemaRef,
    /// Rows go by the end first, and each row is one window.
    sessions: bool,
    cursors: Vec<Cursor>,
    windows: u64,
    /// The window that rows were last taken of.
    begun: Option<(i64, i64)>,
    /// Rows that a block aims at.
    block_rows: usize,
}

impl Merge {
    /// Of waves in the order of their hashes: some on disk, and one before and one behind them.
    pub(super) fn new(plan: &Plan, first: Option<Emission>, files: Vec<Sealed>, last: Option<Emission>) -> Merge {
        let live = |emission| Source::Live(Box::new(emission), VecDeque::new());
        let sources = first.map(live).into_iter().chain(files.into_iter().map(Source::File)).chain(last.map(live));
        Merge {
            schema: plan.schema.clone(),
            inner: inner_schema(plan),
            sessions: plan.session.is_some(),
            cursors: sources.map(|source| Cursor { source, head: None, begun: false }).collect(),
            windows: 0,
            begun: None,
            block_rows: plan.block_rows,
        }
    }

    /// Windows that were handed out.
    pub(super) fn windows(&self) -> u64 {
        self.windows
    }

    /// The rows of the next windows; `None` after the last. Runs on the current rayon pool.
    pub(super) fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        let sessions = self.sessions;
        let place = |s: &Stretch| if sessions { (s.end, s.start) } else { (s.start, s.end) };
        let mut taken: Vec<Taken> = Vec::new();
        let (mut rows, mut windows) = (0, 0);
        while rows < self.block_rows {
            let mut heads = Vec::with_capacity(self.cursors.len());
            for cursor in &mut self.cursors {
                heads.push(cursor.peek(&self.schema)?);
            }
            let Some(next) = heads.iter().flatten().map(place).min() else { break };
            // A window may be far larger than a block: it goes on in the next one, at the same cursor.
            for cursor in &mut self.cursors {
                while rows < self.block_rows
                    && let Some(stretch) = cursor.peek(&self.schema)?.filter(|s| place(s) == next)
                {
                    let Some(head) = &mut cursor.head else { break };
                    head.of.pop_front();
                    let columns = head.columns.iter().map(|c| c.slice(head.at, stretch.rows)).collect();
                    head.at += stretch.rows;
                    rows += stretch.rows;
                    taken.push(Taken { columns, stretch });
                    windows += if sessions { stretch.rows as u64 } else { 0 };
                }
            }
            if !sessions && self.begun.replace(next) != Some(next) {
                windows += 1;
            }
        }
        self.windows += windows;
        if taken.is_empty() {
            return Ok(None);
        }
        let mut batches: Vec<Vec<Taken>> = Vec::new();
        let mut open = 0;
        for of in taken {
            let n = of.stretch.rows;
            if open > 0 && n < DIRECT_ROWS && open + n <= 4 * DIRECT_ROWS {
                open += n;
                if let Some(batch) = batches.last_mut() {
                    batch.push(of);
                }
                continue;
            }
            open = if n < DIRECT_ROWS { n } else { 0 };
            batches.push(vec![of]);
        }
        batches.into_par_iter().map(|taken| self.together(&taken)).collect::<Result<_>>().map(Some)
    }

    /// One batch of what was taken.
    fn together(&self, taken: &[Taken]) -> Result<RecordBatch> {
        let rows: usize = taken.iter().map(|t| t.stretch.rows).sum();
        let bound = |of: fn(&Stretch) -> i64| -> ArrayRef {
            let mut times = Vec::with_capacity(rows);
            taken.iter().for_each(|t| times.resize(times.len() + t.stretch.rows, of(&t.stretch)));
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC"))
        };
        let mut columns = vec![bound(|s| s.start), bound(|s| s.end)];
        for number in 0..self.schema.fields().len() - BOUNDS {
            let parts: Vec<&dyn Array> = taken.iter().map(|t| &*t.columns[number]).collect();
            columns.push(match &parts[..] {
                [_] => taken[0].columns[number].clone(),
                several if rows >= STRETCH * several.len() => concat(several)?,
                several => {
                    let rows = taken.iter().enumerate().flat_map(|(n, t)| (0..t.stretch.rows).map(move |row| (n, row)));
                    interleave(several, &rows.collect::<Vec<_>>())?
                }
            });
        }
        for (column, field) in columns.iter_mut().zip(self.inner.fields()) {
            if matches!(field.data_type(), DataType::Dictionary(..)) && column.data_type() != field.data_type() {
                let entries = Int32Array::from_iter_values(0..rows as i32);
                *column = Arc::new(DictionaryArray::try_new(entries, column.clone())?);
            }
        }
        batch(&self.inner, columns, rows)
    }
}
