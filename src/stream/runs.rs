//! Sorting and dealing out batches that do not fit the memory limit: runs on disk, merged by whoever reads them.
//!
//! A task takes records in until the lease of a quarter of the limit, which all tasks share, is refused. Then it puts its
//! records in order and appends them to its file as a run, in blocks. What stays in memory is the first key of each block and
//! how many records it has. As long as no task had to do that, nothing is written and the records come back as they are.
//!
//! An output partition is a range of ranks. The first keys bound the ranks of blocks, so that its reader begins close to
//! its first record, and opens a block when its first key is the next one: it holds one block of each run that overlaps.
//!
//! ```text
//! first keys    2   3     7   8       to read from rank 4: 7 has rank 4 at most, the next block's 8 rank 6, so the reader
//! run A        │2 5│     │7 9│        begins with 7. Of run B it has to open │3 8│: 3 comes before 7 and is dropped, 8 comes
//! run B            │3 8│     │8 9│    after it, so that 7 has rank 3. It is skipped, and the first 8 is the record of rank 4.
//! ```
//!
//! Invariants: equal keys keep the order of partitions and of the records in them (file, then place in it); records without
//! keys are all equal, so their order is that of the input, and their blocks are read one after the other.
//!
//! Cost: records are encoded once, and decoded once for each reading and for blocks that several partitions share.

use super::Data;
use super::batch::Batch;
use super::codec::Coder;
use super::exec::{Exec, Pace};
use super::part::{BoxPart, Dataset, Evaluated, Part, Sink, each, weight};
use crate::memory::{Budget, Lease};
use crate::store::block::{Content, Label};
use crate::store::column::{ColumnRef, Slice, Values};
use crate::store::segment::{Segment, SegmentWriter};
use crate::{Error, Result};
use std::cmp::Ordering;
use std::collections::binary_heap::{BinaryHeap, PeekMut};
use std::sync::{Arc, OnceLock};

/// Bytes of a block, before packing.
const BLOCK: usize = if cfg!(test) { 32 } else { 16 << 10 };

/// One in so many records tells how much they own beside themselves.
const SAMPLE: usize = 32;

/// A lease grows by this part of what a task may hold unasked.
const STEPS: usize = 8;

/// Which order records are brought into, and where it is cut.
pub(crate) struct Order<T, K> {
    /// What is compared; a key of no size leaves records where they are.
    pub(crate) key: fn(&T) -> &K,
    /// With how many records, into how many partitions, and which one: the rank of its first record.
    pub(crate) cut: fn(usize, usize, usize) -> usize,
}

impl<T, K> Clone for Order<T, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T, K> Copy for Order<T, K> {}

impl<T: Data, K: Data + Ord> Order<T, K> {
    /// The records of `batch` in this order, cut into `n` partitions.
    pub(crate) fn apply(self, batch: Batch<T>, n: usize) -> Result<Evaluated<T>> {
        let mut all = match (batch.coder.clone(), batch.exec.storage.limit()) {
            (Some(coder), Some(limit)) => match self.within(batch, n, coder, limit / 4)? {
                Ok(all) => all,
                Err(runs) => return Ok(Evaluated::Elsewhere(Arc::new(runs))),
            },
            _ => batch.collect()?,
        };
        self.sort(&mut all);
        let len = all.len();
        let mut all = all.into_iter();
        let part = |i| all.by_ref().take((self.cut)(len, n, i + 1) - (self.cut)(len, n, i)).collect();
        Ok(Evaluated::Here((0..n).map(part).collect()))
    }

    fn sort(self, records: &mut [T]) {
        if size_of::<K>() > 0 {
            records.sort_by(|a, b| (self.key)(a).cmp((self.key)(b)));
        }
    }

    /// All records as they came if they have room in `share` bytes, and runs if they do not.
    fn within(
        self,
        batch: Batch<T>,
        n: usize,
        coder: Coder<T>,
        share: usize,
    ) -> Result<std::result::Result<Vec<T>, Runs<T, K>>> {
        let (exec, parts) = batch.stage()?;
        let (records, pace) = (weight(&parts), Pace::default());
        let tasks: Vec<Vec<_>> = match exec.is_alone(&pace, records) {
            true => vec![parts],
            false => parts.into_iter().map(|part| vec![part]).collect(),
        };
        let least = share / (4 * exec.threads());
        let room = Room { budget: Budget::new(share), least, share, exec: &exec, whole: OnceLock::new() };
        let taken = exec.paced(tasks, records, &pace, |_, parts| {
            let mut task = Task::new(self, &coder, &room);
            for part in parts {
                let mut outcome = Ok(());
                each(part, |record| {
                    outcome = task.push(record);
                    outcome.is_ok()
                })?;
                outcome?;
            }
            // Memory is for those who did not have to write.
            Ok(if task.file.is_some() { Taken::Written(task.finish()?) } else { Taken::Held(Box::new(task)) })
        })?;
        if !taken.iter().any(|taken| matches!(taken, Taken::Written(_))) {
            let held = |taken| if let Taken::Held(task) = taken { Some(task.records) } else { None };
            let mut tasks = taken.into_iter().filter_map(held);
            let mut all = tasks.next().unwrap_or_default();
            tasks.for_each(|records| all.extend(records));
            return Ok(Ok(all));
        }
        let finish = |_, taken| match taken {
            Taken::Held(task) if task.records.is_empty() => Ok(None),
            Taken::Held(task) => task.finish().map(Some),
            Taken::Written(file) => Ok(Some(file)),
        };
        let written = exec.run(taken, false, finish)?;
        let mut runs =
            Runs { order: self, partitions: n, coder, files: Vec::new(), blocks: Vec::new(), runs: 0, len: 0 };
        for (segment, mut blocks) in written.into_iter().flatten() {
            blocks.iter_mut().for_each(|block| {
                block.place.0 = runs.files.len();
                block.run += runs.runs;
            });
            runs.runs = blocks.last().map_or(runs.runs, |last| last.run + 1);
            exec.storage.note_spilled(segment.bytes());
            runs.files.push(segment);
            runs.blocks.append(&mut blocks);
        }
        runs.blocks.sort_by(|a, b| a.begin().cmp(&b.begin()));
        for block in &mut runs.blocks {
            block.before = runs.len;
            runs.len += block.records;
        }
        Ok(Err(runs))
    }
}

/// The memory that all tasks share.
struct Room<'a> {
    budget: Budget,
    /// What each task may hold, whatever the others do.
    least: usize,
    share: usize,
    exec: &'a Exec,
    /// All of it, leased from the context when the first task needs more than a little. What is kept gives way; there
    /// may be nothing to give, and sorting needs its memory all the same.
    whole: OnceLock<Option<Lease>>,
}

/// What one task holds, and has written.
struct Task<'a, T, K> {
    order: Order<T, K>,
    coder: &'a Coder<T>,
    room: &'a Room<'a>,
    lease: Lease,
    records: Vec<T>,
    /// About the bytes of `records`, how many there may be before more are asked for, and what the last sample owned.
    held: usize,
    granted: usize,
    owned: usize,
    file: Option<SegmentWriter>,
    blocks: Vec<Block<K>>,
    /// The greatest key on disk.
    last: Option<K>,
    bytes: Vec<u8>,
}

/// A task that has taken all of its records in.
enum Taken<'a, T, K> {
    Held(Box<Task<'a, T, K>>),
    Written(Written<K>),
}

/// A task's file, and what is in it.
type Written<K> = (Segment, Vec<Block<K>>);

/// A block on disk.
struct Block<K> {
    first: K,
    records: usize,
    /// Which file, and which of its blocks.
    place: (usize, usize),
    run: usize,
    /// How many records blocks have that begin before this one: its first record has this rank at most.
    before: usize,
}

impl<K> Block<K> {
    fn begin(&self) -> (&K, (usize, usize)) {
        (&self.first, self.place)
    }
}

impl<'a, T: Data, K: Data + Ord> Task<'a, T, K> {
    fn new(order: Order<T, K>, coder: &'a Coder<T>, room: &'a Room<'a>) -> Self {
        let (lease, records, bytes) = (room.budget.lease("records to be sorted"), Vec::new(), Vec::new());
        let (held, granted, owned) = (0, room.least / STEPS, 0);
        let (file, blocks, last) = (None, Vec::new(), None);
        Task { order, coder, room, lease, records, held, granted, owned, file, blocks, last, bytes }
    }

    #[inline]
    fn push(&mut self, record: T) -> Result<()> {
        if std::mem::needs_drop::<T>() && self.records.len().is_multiple_of(SAMPLE) {
            self.bytes.clear();
            // One that cannot be written says so when it has to be.
            let _ = self.coder.encode(&record, &mut self.bytes);
            self.owned = self.bytes.len();
        }
        self.held += size_of::<T>() + self.owned;
        if self.held > self.granted {
            self.grow()?;
        }
        self.records.push(record);
        Ok(())
    }

    /// Leases more, or makes room if it is refused.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> Result<()> {
        let room = self.room;
        room.whole.get_or_init(|| room.exec.storage.lease(u64::MAX, room.share));
        let wanted = self.held + room.least / STEPS;
        if self.lease.resize(wanted).is_err() && self.held > room.least && !self.records.is_empty() {
            let last = size_of::<T>() + self.owned;
            self.put_out()?;
            self.held = last;
        }
        self.granted = self.held + room.least / STEPS;
        Ok(())
    }

    /// Appends the records to the file, in order.
    fn put_out(&mut self) -> Result<()> {
        self.order.sort(&mut self.records);
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(SegmentWriter::spill(&self.room.exec.storage.dir()?)?),
        };
        let (key, first) = (self.order.key, self.records.first());
        // What goes on where the run before has ended is no run of its own.
        let goes_on = self.last.as_ref().zip(first).is_none_or(|(last, first)| last <= key(first));
        let run = self.blocks.last().map_or(0, |block| block.run + usize::from(!goes_on));
        self.last = self.records.last().map(|last| key(last).clone()).or(self.last.take());
        let mut records = self.records.drain(..).peekable();
        while let Some(first) = records.peek().map(|record| key(record).clone()) {
            self.bytes.clear();
            let mut count = 0;
            while self.bytes.len() < BLOCK
                && let Some(record) = records.next()
            {
                self.coder.encode(&record, &mut self.bytes)?;
                count += 1;
            }
            let place = (0, self.blocks.len());
            self.blocks.push(Block { first, records: count, place, run, before: 0 });
            let (number, ends) = (place.1 as u64, [0, self.bytes.len() as u32]);
            let label = Label { content: Content::Runs, partition: 0, first: number, last: number, rows: 1 };
            file.append(label, &[ColumnRef::new(Slice::Bytes { offsets: &ends, data: &self.bytes })])?;
        }
        drop(records);
        self.held = 0;
        self.lease.resize(0)
    }

    fn finish(mut self) -> Result<Written<K>> {
        self.put_out()?;
        let file = self.file.ok_or_else(|| Error::data("a run was not written"))?;
        Ok((file.seal()?, self.blocks))
    }
}

/// See the module.
struct Runs<T, K> {
    order: Order<T, K>,
    partitions: usize,
    coder: Coder<T>,
    /// One for each task.
    files: Vec<Segment>,
    /// In the order in which they begin.
    blocks: Vec<Block<K>>,
    runs: usize,
    len: usize,
}

impl<T: Data, K: Data + Ord> Runs<T, K> {
    /// A reader that begins at a rank.
    fn read_from(&self, rank: usize) -> Result<Reader<'_, T, K>> {
        let next = self.blocks.partition_point(|block| block.before <= rank).saturating_sub(1);
        let mut reader = Reader { runs: self, next, open: BinaryHeap::new() };
        let Some(begin) = self.blocks.get(next) else { return Ok(reader) };
        // Of the runs that have begun before it, some records come after it: in their last blocks.
        let (mut at, mut seen) = (begin.before, vec![false; self.runs]);
        seen[begin.run] = true;
        for block in self.blocks[..next].iter().rev() {
            if std::mem::replace(&mut seen[block.run], true) {
                continue;
            }
            let mut open = Some(self.open(block)?);
            while let Some(some) = &mut open
                && some.begin() < begin.begin()
            {
                if some.advance(&self.coder)?.is_none() {
                    open = None;
                }
            }
            at -= open.as_ref().map_or(0, |open| open.left + 1);
            reader.open.extend(open);
        }
        for _ in at..rank {
            reader.next()?;
        }
        Ok(reader)
    }

    fn open(&self, block: &Block<K>) -> Result<Open<T, K>> {
        let file = &self.files[block.place.0];
        let read = file.read(&file.entries()[block.place.1])?;
        let Some(Values::Bytes { data, .. }) = read.columns.into_iter().next().map(|column| column.values) else {
            return Err(Error::data("a spilled block holds no records"));
        };
        let mut rest = &data[..];
        let head = self.coder.decode(&mut rest)?;
        let at = data.len() - rest.len();
        Ok(Open { head, key: self.order.key, place: block.place, data, at, left: block.records - 1 })
    }
}

/// A block that is being read.
struct Open<T, K> {
    head: T,
    key: fn(&T) -> &K,
    place: (usize, usize),
    data: Vec<u8>,
    at: usize,
    /// Records after the head.
    left: usize,
}

impl<T: 'static, K> Open<T, K> {
    fn begin(&self) -> (&K, (usize, usize)) {
        ((self.key)(&self.head), self.place)
    }

    /// Takes the head off, if there is another.
    fn advance(&mut self, coder: &Coder<T>) -> Result<Option<T>> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut rest = &self.data[self.at..];
        let head = coder.decode(&mut rest)?;
        self.at = self.data.len() - rest.len();
        self.left -= 1;
        Ok(Some(std::mem::replace(&mut self.head, head)))
    }
}

/// The greatest is the one that is read next.
impl<T: 'static, K: Ord> Ord for Open<T, K> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.begin().cmp(&self.begin())
    }
}

impl<T: 'static, K: Ord> PartialOrd for Open<T, K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: 'static, K: Ord> PartialEq for Open<T, K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: 'static, K: Ord> Eq for Open<T, K> {}

/// All records from some rank on.
struct Reader<'a, T, K> {
    runs: &'a Runs<T, K>,
    /// The first block that was not opened.
    next: usize,
    open: BinaryHeap<Open<T, K>>,
}

impl<T: Data, K: Data + Ord> Reader<'_, T, K> {
    fn next(&mut self) -> Result<Option<T>> {
        while let Some(block) = self.runs.blocks.get(self.next)
            && self.open.peek().is_none_or(|first| block.begin() < first.begin())
        {
            self.open.push(self.runs.open(block)?);
            self.next += 1;
        }
        let Some(mut first) = self.open.peek_mut() else { return Ok(None) };
        match first.advance(&self.runs.coder)? {
            None => Ok(Some(PeekMut::pop(first).head)),
            record => Ok(record),
        }
    }
}

impl<T: Data, K: Data + Ord> Dataset<T> for Runs<T, K> {
    fn partitions(&self) -> usize {
        self.partitions
    }

    fn stage(self: Arc<Self>) -> Result<Vec<BoxPart<T>>> {
        let cut = |i| (self.order.cut)(self.len, self.partitions, i);
        let part = |i| Box::new(Ranks { runs: self.clone(), from: cut(i), to: cut(i + 1) }) as BoxPart<T>;
        Ok((0..self.partitions).map(part).collect())
    }
}

/// An output partition.
struct Ranks<T, K> {
    runs: Arc<Runs<T, K>>,
    from: usize,
    to: usize,
}

impl<T: Data, K: Data + Ord> Part<T> for Ranks<T, K> {
    fn weight(&self) -> usize {
        self.to - self.from
    }

    fn run(self: Box<Self>, sink: Sink<'_, T>) -> Result<bool> {
        if self.from == self.to {
            return Ok(true);
        }
        let mut reader = self.runs.read_from(self.from)?;
        for _ in self.from..self.to {
            let record = reader.next()?.ok_or_else(|| Error::data("a spilled run ends early"))?;
            if !sink(record) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
