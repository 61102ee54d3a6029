//! The partitions' side: what all workers have for one partition, in sequence order.
//!
//! Blocks and batches are sources, each ascending in its sequence numbers. A source is opened when its first number is
//! the next one, so that no more blocks are in memory than overlap: one for each worker. Nothing is shared between
//! partitions but the files, so they are read in parallel.

use super::writer::{Batch, Written};
use crate::store::block::{Block, Content};
use crate::store::column::{Column, ColumnRef, Slice};
use crate::store::segment::{Entry, Segment};
use crate::{Error, ErrorKind, Result};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::sync::Arc;

/// All that a shuffle's workers have written.
#[derive(Debug)]
pub struct Reader {
    written: Vec<Written>,
    /// For each partition, the blocks in the order of the workers and of their files; those in memory in an order like it.
    blocks: Vec<Vec<(u32, u32)>>,
    gathered: Vec<Vec<(u32, u32)>>,
}

impl Reader {
    /// Reads what these workers have written; ties of sequence numbers go by this order.
    pub fn new(written: Vec<Written>) -> Reader {
        let partitions = written.iter().map(|w| w.partitions).max().unwrap_or(0);
        let mut blocks = vec![Vec::new(); partitions as usize];
        let mut gathered = vec![Vec::new(); partitions as usize];
        for (worker, written) in written.iter().enumerate() {
            for (i, block) in written.blocks.iter().enumerate() {
                gathered[block.label.partition as usize].push((worker as u32, i as u32));
            }
            for (i, entry) in written.segment.iter().flat_map(Segment::entries).enumerate() {
                blocks[entry.label.partition as usize].push((worker as u32, i as u32));
            }
        }
        Reader { written, blocks, gathered }
    }

    /// Partitions.
    pub fn partitions(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// Bytes in the files.
    pub fn spilled_bytes(&self) -> u64 {
        self.written.iter().map(|w| w.spilled).sum()
    }

    /// Files that are open.
    pub fn files(&self) -> usize {
        self.written.iter().filter(|w| w.segment.is_some()).count()
    }

    /// Rows of a partition.
    pub fn rows(&self, partition: u32) -> u64 {
        let held = self.written.iter().flat_map(|w| &w.held).map(|b| b.range(partition).len() as u64);
        let gathered = self.gathered[partition as usize].iter().map(|place| u64::from(self.block(*place).label.rows));
        let read = self.blocks[partition as usize].iter().filter_map(|(worker, i)| self.entry(*worker, *i));
        held.sum::<u64>() + gathered.sum::<u64>() + read.map(|(_, e)| u64::from(e.label.rows)).sum::<u64>()
    }

    /// The chunks of a partition, in sequence order.
    pub fn partition(&self, partition: u32) -> Partition<'_> {
        let mut sources = Vec::new();
        for (worker, written) in self.written.iter().enumerate() {
            let blocks = self.blocks[partition as usize].iter().filter(|(of, _)| *of == worker as u32);
            let entries = blocks.filter_map(|(worker, i)| self.entry(*worker, *i));
            for (segment, entry) in entries.filter(|(_, entry)| entry.label.first <= written.upto) {
                sources.push((entry.label.first, Source::Block(segment, *entry, written.upto)));
            }
            let of_worker = self.gathered[partition as usize].iter().filter(|(of, _)| *of == worker as u32);
            for block in of_worker.map(|place| self.block(*place)) {
                sources.push((block.label.first, Source::Open(Open::of(block.clone(), u64::MAX))));
            }
            for batch in written.held.iter().filter(|b| !b.range(partition).is_empty()) {
                sources.push((batch.sequence, Source::Held(batch)));
            }
        }
        let order: BinaryHeap<_> = sources.iter().enumerate().map(|(i, (first, _))| Reverse((*first, i))).collect();
        let sources = sources.into_iter().map(|(_, source)| source).collect();
        Partition { partition, sources, order }
    }

    fn block(&self, (worker, i): (u32, u32)) -> &Arc<Block> {
        &self.written[worker as usize].blocks[i as usize]
    }

    fn entry(&self, worker: u32, i: u32) -> Option<(&Segment, &Entry)> {
        let segment = self.written[worker as usize].segment.as_ref()?;
        Some((segment, &segment.entries()[i as usize]))
    }
}

enum Source<'a> {
    Block(&'a Segment, Entry, u64),
    Open(Open),
    Held(&'a Batch),
    Done,
}

/// A block that is being consumed.
struct Open {
    block: Arc<Block>,
    /// The next of its runs, and the row that it begins with.
    next: usize,
    row: usize,
    /// Runs of greater numbers are left out.
    upto: u64,
}

impl Open {
    fn new(segment: &Segment, entry: &Entry, upto: u64) -> Result<Open> {
        let block = segment.read(entry)?;
        let foreign = |what| Error::new(ErrorKind::Io, what).in_file(segment.path()).at_offset(entry.offset);
        let [first, second, rest @ ..] = &block.columns[..] else {
            return Err(foreign("the block is none of a shuffle"));
        };
        let (Slice::U64(sequences), Slice::U32(counts)) = (first.view().values, second.view().values) else {
            return Err(foreign("the block is none of a shuffle"));
        };
        let rows: u64 = counts.iter().map(|n| u64::from(*n)).sum();
        let several = sequences.len() > 1 && rest.iter().any(|c| c.len() as u64 != rows);
        if sequences.is_empty() || sequences.len() != counts.len() || several || !sequences.is_sorted() {
            return Err(foreign("the block's rows are not those of its batches"));
        }
        Ok(Open::of(Arc::new(block), upto))
    }

    /// Of a block of a shuffle.
    fn of(block: Arc<Block>, upto: u64) -> Open {
        Open { block, next: 0, row: 0, upto }
    }

    fn runs(&self) -> (&[u64], &[u32]) {
        match (self.block.columns[0].view().values, self.block.columns[1].view().values) {
            (Slice::U64(sequences), Slice::U32(counts)) => (sequences, counts),
            _ => (&[], &[]),
        }
    }

    /// The next run, and the sequence number of the one after it.
    fn take(&mut self) -> (Chunk<'static>, Option<u64>) {
        let (sequences, counts) = self.runs();
        let (sequence, count, single) = (sequences[self.next], counts[self.next] as usize, sequences.len() == 1);
        let after = sequences.get(self.next + 1).copied().filter(|after| *after <= self.upto);
        let rows = (!single).then(|| self.row..self.row + count);
        self.next += 1;
        self.row += count;
        let content = self.block.label.content;
        (Chunk { sequence, content, rows: count, data: Data::Block(self.block.clone(), rows) }, after)
    }
}

/// What a partition is made of, in order.
pub struct Partition<'a> {
    partition: u32,
    sources: Vec<Source<'a>>,
    /// The next sequence number of each source.
    order: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'a> Partition<'a> {
    fn take(&mut self, at: usize) -> Result<Chunk<'a>> {
        if let Source::Block(segment, entry, upto) = &self.sources[at] {
            self.sources[at] = Source::Open(Open::new(segment, entry, *upto)?);
        }
        match std::mem::replace(&mut self.sources[at], Source::Done) {
            Source::Open(mut open) => {
                let (chunk, after) = open.take();
                if let Some(after) = after {
                    self.order.push(Reverse((after, at)));
                    self.sources[at] = Source::Open(open);
                }
                Ok(chunk)
            }
            Source::Held(batch) => {
                let range = batch.range(self.partition);
                let (content, sequence, rows) = (batch.content, batch.sequence, range.len());
                Ok(Chunk { sequence, content, rows, data: Data::Held(&batch.columns, range) })
            }
            Source::Block(..) | Source::Done => Err(Error::new(ErrorKind::Io, "a block was read twice")),
        }
    }
}

impl<'a> Iterator for Partition<'a> {
    type Item = Result<Chunk<'a>>;

    fn next(&mut self) -> Option<Result<Chunk<'a>>> {
        let Reverse((_, at)) = self.order.pop()?;
        let chunk = self.take(at);
        if chunk.is_err() {
            self.order.clear();
        }
        Some(chunk)
    }
}

/// Some rows of one partition that were pushed together.
#[derive(Debug)]
pub struct Chunk<'a> {
    /// The number that they were pushed under.
    pub sequence: u64,
    /// What they are.
    pub content: Content,
    /// How many, as their writer counts them.
    pub rows: usize,
    data: Data<'a>,
}

#[derive(Debug)]
enum Data<'a> {
    Held(&'a [Column], Range<usize>),
    /// `None`: the columns as they are.
    Block(Arc<Block>, Option<Range<usize>>),
}

impl Chunk<'_> {
    /// The columns that were pushed.
    pub fn columns(&self) -> Vec<ColumnRef<'_>> {
        match &self.data {
            Data::Held(columns, range) => columns.iter().map(|c| c.view().slice(range.clone())).collect(),
            Data::Block(block, None) => block.columns[2..].iter().map(Column::view).collect(),
            Data::Block(block, Some(range)) => {
                block.columns[2..].iter().map(|c| c.view().slice(range.clone())).collect()
            }
        }
    }
}
