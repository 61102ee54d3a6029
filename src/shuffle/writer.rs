//! One worker's side: batches in memory, and a file that they are appended to when memory is short.
//!
//! A block begins with two columns of its own: the sequence numbers of the batches it is made of (u64), and how many
//! rows each has in it (u32). Then come the columns that were pushed. Blocks are what is spilled, and what batches that stay
//! in memory are gathered to while they are in the cache: what a batch has for one of very many partitions is a few lines
//! of it, which later would be fetched one by one.

use crate::core::partition::counting_sort;
use crate::memory::{Budget, Lease};
use crate::store::block::{Block, Content, Label};
use crate::store::column::{Column, ColumnRef, ColumnType, Slice};
use crate::store::segment::{Segment, SegmentWriter};
use crate::store::spill_dir::SpillDir;
use crate::{Error, ErrorKind, Result};
use std::ops::Range;
use std::sync::Arc;

/// How a shuffle is laid out; the same for all its workers.
#[derive(Debug, Clone)]
pub struct Options {
    /// Partitions; their numbers lie below.
    pub partitions: u32,
    /// Bytes that one writer holds at most before it spills, if the budget lets it.
    pub buffer: usize,
    /// Bytes of batches from which on they are gathered by partition in memory.
    pub loose: usize,
    /// Where memory is leased.
    pub budget: Budget,
    /// Where to spill; `None`: a refused lease is an error.
    pub dir: Option<SpillDir>,
}

impl Options {
    /// `partitions` in memory without a limit.
    pub fn new(partitions: u32) -> Options {
        Options { partitions, buffer: usize::MAX, loose: usize::MAX, budget: Budget::unlimited(), dir: None }
    }

    /// With leases from `budget`, spilling into `dir` beyond it, or beyond `buffer` bytes for one writer.
    #[must_use]
    pub fn spill(mut self, budget: Budget, buffer: usize, dir: SpillDir) -> Options {
        (self.budget, self.buffer, self.dir) = (budget, buffer, Some(dir));
        self
    }

    /// With batches gathered by partition in memory whenever those of one writer come to `loose` bytes.
    #[must_use]
    pub fn gather(self, loose: usize) -> Options {
        Options { loose, ..self }
    }
}

/// Rows in memory, grouped by partition.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) content: Content,
    pub(super) sequence: u64,
    /// Rows of partition p are `offsets[p]..offsets[p + 1]`.
    pub(super) offsets: Vec<u32>,
    pub(super) columns: Vec<Column>,
}

impl Batch {
    pub(super) fn range(&self, partition: u32) -> Range<usize> {
        self.offsets[partition as usize] as usize..self.offsets[partition as usize + 1] as usize
    }

    fn bytes(&self) -> usize {
        self.offsets.capacity() * 4 + self.columns.iter().map(Column::capacity).sum::<usize>() + size_of::<Batch>()
    }

    /// Whether blocks can hold rows of both.
    fn is_like(&self, other: &Batch) -> bool {
        let types = |batch: &Batch| batch.columns.iter().map(Column::column_type).collect::<Vec<ColumnType>>();
        self.content == other.content && types(self) == types(other)
    }
}

/// See the module.
#[derive(Debug)]
pub struct Writer {
    options: Options,
    held: Vec<Batch>,
    /// What was gathered.
    blocks: Vec<Block>,
    /// Bytes held, and those of them that were not gathered.
    bytes: usize,
    loose: usize,
    lease: Lease,
    segment: Option<SegmentWriter>,
    offsets: Vec<u32>,
    destination: Vec<u32>,
}

impl Writer {
    /// The writer of one worker.
    pub fn new(options: &Options) -> Writer {
        let lease = options.budget.lease("the rows of a shuffle");
        let (offsets, destination) = (Vec::new(), Vec::new());
        Writer {
            options: options.clone(),
            held: Vec::new(),
            blocks: Vec::new(),
            bytes: 0,
            loose: 0,
            lease,
            segment: None,
            offsets,
            destination,
        }
    }

    /// Takes rows with the partition of each; every column has one value for each of them. Spills if it must.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`] if there is nowhere to spill or the batch alone is too large; the disk's, with file and offset.
    pub fn push(&mut self, sequence: u64, partition_of: &[u32], columns: &[ColumnRef<'_>]) -> Result<()> {
        let (mut offsets, mut destination) = (std::mem::take(&mut self.offsets), std::mem::take(&mut self.destination));
        counting_sort(partition_of, self.options.partitions as usize, &mut offsets, &mut destination);
        let scattered = columns.iter().map(|c| c.scatter(&destination)).collect();
        let pushed = self.push_grouped(Content::Rows, sequence, offsets.clone(), scattered);
        (self.offsets, self.destination) = (offsets, destination);
        pushed
    }

    /// Takes rows or partials that are grouped by partition already: those of partition p are `offsets[p]..offsets[p + 1]` of
    /// every column. Spills if it must.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn push_grouped(
        &mut self,
        content: Content,
        sequence: u64,
        offsets: Vec<u32>,
        columns: Vec<Column>,
    ) -> Result<()> {
        debug_assert_eq!(offsets.len(), self.options.partitions as usize + 1);
        debug_assert!(columns.iter().all(|c| offsets.last() == Some(&(c.len() as u32))));
        let batch = Batch { content, sequence, offsets, columns };
        let bytes = batch.bytes();
        let spills = self.options.dir.is_some() && self.bytes > 0;
        if spills && (self.bytes + bytes > self.options.buffer || self.resize(self.bytes + bytes).is_err()) {
            self.spill()?;
        }
        self.resize(self.bytes + bytes)?;
        self.bytes += bytes;
        self.loose += bytes;
        self.held.push(batch);
        if self.loose > self.options.loose {
            // For a moment there are both.
            if self.resize(self.bytes + self.loose).is_err() {
                self.spill()?;
            } else {
                self.gather()?;
            }
        }
        Ok(())
    }

    /// Makes blocks of the batches, which stay in memory.
    fn gather(&mut self) -> Result<()> {
        let mut gathered = 0;
        gather(std::mem::take(&mut self.held), self.options.partitions, |label, columns| {
            let block = Block { label, columns: columns.to_vec() };
            let own = size_of::<Block>() + block.columns.len() * size_of::<Column>();
            gathered += own + block.columns.iter().map(Column::capacity).sum::<usize>();
            self.blocks.push(block);
            Ok(())
        })?;
        self.bytes = self.bytes - self.loose + gathered;
        self.loose = 0;
        self.resize(self.bytes)
    }

    /// Appends one block to the file at once: what belongs to one partition and was sealed, with columns of any lengths.
    ///
    /// # Errors
    /// The disk's, with file and offset; [`ErrorKind::Memory`] if there is nowhere to spill.
    pub fn write(
        &mut self,
        content: Content,
        partition: u32,
        sequence: u64,
        rows: u32,
        columns: &[ColumnRef<'_>],
    ) -> Result<()> {
        let (sequences, counts) = ([sequence], [rows]);
        let mut all = vec![ColumnRef::new(Slice::U64(&sequences)), ColumnRef::new(Slice::U32(&counts))];
        all.extend_from_slice(columns);
        let label = Label { content, partition, first: sequence, last: sequence, rows };
        self.segment()?.append(label, &all)?;
        self.resize(self.bytes)
    }

    /// Appends everything held to the file, and gives the memory back. Returns how many bytes were appended.
    ///
    /// # Errors
    /// The disk's, with file and offset; [`ErrorKind::Memory`] if there is nowhere to spill.
    pub fn spill(&mut self) -> Result<u64> {
        let (blocks, held) = (std::mem::take(&mut self.blocks), std::mem::take(&mut self.held));
        let partitions = self.options.partitions;
        let segment = self.segment()?;
        let before = segment.bytes();
        let mut append = |label, columns: &[Column]| {
            let columns: Vec<ColumnRef<'_>> = columns.iter().map(Column::view).collect();
            segment.append(label, &columns)
        };
        blocks.into_iter().try_for_each(|block| append(block.label, &block.columns))?;
        gather(held, partitions, append)?;
        let appended = segment.bytes() - before;
        (self.bytes, self.loose) = (0, 0);
        self.resize(0)?;
        Ok(appended)
    }

    pub(super) fn widen(&mut self, buffer: usize) {
        self.options.buffer = self.options.buffer.max(buffer);
    }

    /// The writer with all that was pushed, if anything was; an empty one goes on in its place.
    pub(super) fn roll(&mut self) -> Option<Writer> {
        if self.bytes == 0 && self.segment.is_none() {
            return None;
        }
        let next = Writer::new(&self.options);
        Some(std::mem::replace(self, next))
    }

    /// Ends the writing with a file that outlives the run, into which everything held goes, too; its name does once the
    /// folder that it is moved to is synced.
    ///
    /// # Errors
    /// The disk's, with file and offset; [`ErrorKind::Memory`] if there is nowhere to spill.
    pub fn keep(mut self) -> Result<Option<Segment>> {
        if self.bytes > 0 {
            self.spill()?;
        }
        self.segment.take().map(SegmentWriter::keep).transpose()
    }

    /// Bytes held in memory, which [`spill`](Self::spill) would give back.
    pub fn held(&self) -> usize {
        self.bytes
    }

    /// Bytes in the file.
    pub fn spilled(&self) -> u64 {
        self.segment.as_ref().map_or(0, SegmentWriter::bytes)
    }

    /// Ends the writing. What is in memory stays there.
    ///
    /// # Errors
    /// The disk's, with file and offset.
    pub fn finish(self) -> Result<Written> {
        let spilled = self.spilled();
        let segment = self.segment.map(SegmentWriter::seal).transpose()?;
        let partitions = self.options.partitions;
        let blocks = self.blocks.into_iter().map(Arc::new).collect();
        let (held, _lease) = (self.held, Some(self.lease));
        Ok(Written { partitions, held, blocks, segment, spilled, upto: u64::MAX, _lease })
    }

    /// Leases `bytes` for rows, and what the file's buffers and index take.
    fn resize(&mut self, bytes: usize) -> Result<()> {
        self.lease.resize(bytes + self.segment.as_ref().map_or(0, SegmentWriter::memory))
    }

    fn segment(&mut self) -> Result<&mut SegmentWriter> {
        match &mut self.segment {
            Some(segment) => Ok(segment),
            none => {
                let Some(dir) = &self.options.dir else {
                    return Err(Error::new(
                        ErrorKind::Memory,
                        "the memory limit is reached and there is nowhere to spill",
                    ));
                };
                Ok(none.insert(SegmentWriter::spill(dir)?))
            }
        }
    }
}

/// Hands out a block for each partition of `held`, in the order of the sequence numbers; several where not all are alike.
fn gather(mut held: Vec<Batch>, partitions: u32, mut each: impl FnMut(Label, &[Column]) -> Result<()>) -> Result<()> {
    // Nearly always in order; not where a worker took over a part of another's batch.
    held.sort_by_key(|batch| batch.sequence);
    while let Some(first) = held.first() {
        // All of one kind, in order; others in a round of their own.
        let content = first.content;
        let own = [ColumnType::U64, ColumnType::U32].into_iter();
        let mut columns: Vec<Column> =
            own.chain(first.columns.iter().map(Column::column_type)).map(Column::new).collect();
        let (alike, rest) = {
            let kinds: Vec<bool> = held.iter().map(|batch| batch.is_like(first)).collect();
            let mut kinds = kinds.into_iter();
            held.into_iter().partition::<Vec<Batch>, _>(|_| kinds.next().unwrap_or_default())
        };
        for partition in 0..partitions {
            columns.iter_mut().for_each(Column::clear);
            let (mut first, mut last, mut rows) = (None, 0, 0);
            for batch in &alike {
                let range = batch.range(partition);
                if range.is_empty() {
                    continue;
                }
                first.get_or_insert(batch.sequence);
                last = batch.sequence;
                let count = range.len() as u32;
                rows += count;
                let [sequences, counts, columns @ ..] = &mut columns[..] else { continue };
                sequences.append(&ColumnRef::new(Slice::U64(&[last])));
                counts.append(&ColumnRef::new(Slice::U32(&[count])));
                for (to, from) in columns.iter_mut().zip(&batch.columns) {
                    to.append(&from.view().slice(range.clone()));
                }
            }
            let Some(first) = first else { continue };
            each(Label { content, partition, first, last, rows }, &columns)?;
        }
        held = rest;
    }
    Ok(())
}

/// What one worker has written: a part in memory, a part in its file.
#[derive(Debug)]
pub struct Written {
    pub(super) partitions: u32,
    pub(super) held: Vec<Batch>,
    pub(super) blocks: Vec<Arc<Block>>,
    pub(super) segment: Option<Segment>,
    pub(super) spilled: u64,
    /// What has a greater sequence number is not read.
    pub(super) upto: u64,
    _lease: Option<Lease>,
}

impl Written {
    /// A file that was [kept](Writer::keep), of which what was pushed under numbers up to `upto` is read.
    pub fn kept(segment: Segment, partitions: u32, upto: u64) -> Written {
        let spilled = segment.bytes();
        let (held, blocks) = (Vec::new(), Vec::new());
        Written { partitions, held, blocks, segment: Some(segment), spilled, upto, _lease: None }
    }
}
