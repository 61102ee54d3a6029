//! Batches that are kept: in memory, packed, on disk, as their [`StorageLevel`] says.
//!
//! A partition is evaluated once and then kept, if its level and the memory limit allow. What gave way to others comes
//! back from disk, or is evaluated again where it can be, as is what the disk has lost; what a shuffle or a state made cannot, and without a level that
//! uses the disk it stays in memory, limit or not. Whoever reads a kept partition shares it; it goes with the last handle.
//!
//! Cost: one pass over the records to keep them; packed ones are decoded whenever they are read.

use super::Data;
use super::batch::{Batch, collect_part};
use super::codec::{Codec, Coder, Postcard};
use super::exec::{Exec, Pace};
use super::part::{BoxPart, Dataset, Part, Sink, shared};
use super::scheduler::lock;
use super::storage::Keeper;
use crate::memory::Lease;
use crate::store::block::{Content, Label};
use crate::store::column::{ColumnRef, Slice};
use crate::store::segment::{Segment, SegmentWriter};
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex};

/// Where batches are kept. Those in memory give way, least recently used first, when the memory limit is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StorageLevel {
    /// As records; what does not fit is evaluated again.
    #[default]
    MemoryOnly,
    /// As bytes; what does not fit is evaluated again.
    MemoryOnlySer,
    /// As records; what does not fit goes to disk.
    MemoryAndDisk,
    /// As bytes; what does not fit goes to disk.
    MemoryAndDiskSer,
    /// On disk.
    DiskOnly,
}

impl StorageLevel {
    fn is_packed(self) -> bool {
        matches!(self, Self::MemoryOnlySer | Self::MemoryAndDiskSer)
    }

    fn uses_disk(self) -> bool {
        matches!(self, Self::MemoryAndDisk | Self::MemoryAndDiskSer | Self::DiskOnly)
    }
}

/// Bytes of a block on disk, before packing.
const BLOCK: usize = if cfg!(test) { 64 } else { 1 << 20 };

/// How a partition is kept, and the lease of its bytes, which are given back when the slot changes.
#[allow(dead_code)]
enum Slot<T> {
    Absent,
    Records(Arc<Vec<T>>, Option<Lease>),
    Packed(Arc<Vec<u8>>, Option<Lease>),
    Disk(Arc<Segment>),
}

impl<T> Slot<T> {
    fn copy(&self) -> Slot<T> {
        match self {
            Slot::Absent => Slot::Absent,
            Slot::Records(records, _) => Slot::Records(records.clone(), None),
            Slot::Packed(bytes, _) => Slot::Packed(bytes.clone(), None),
            Slot::Disk(disk) => Slot::Disk(disk.clone()),
        }
    }
}

pub(crate) struct Persisted<T> {
    id: u64,
    partitions: usize,
    level: StorageLevel,
    codec: Option<Coder<T>>,
    exec: Arc<Exec>,
    /// What the records come from; gone after the first evaluation if there can be no other.
    parent: Mutex<Option<Arc<dyn Dataset<T>>>>,
    slots: Mutex<Vec<Slot<T>>>,
    /// Held while partitions are evaluated.
    evaluating: Mutex<()>,
}

impl<T: Data> Persisted<T> {
    pub(crate) fn dataset(
        exec: &Arc<Exec>,
        parent: Arc<dyn Dataset<T>>,
        level: StorageLevel,
        codec: Option<Coder<T>>,
    ) -> Arc<dyn Dataset<T>> {
        let partitions = parent.partitions();
        Arc::new(Persisted {
            id: exec.storage.tick(),
            partitions,
            level,
            codec,
            exec: exec.clone(),
            parent: Mutex::new(Some(parent)),
            slots: Mutex::new((0..partitions).map(|_| Slot::Absent).collect()),
            evaluating: Mutex::new(()),
        })
    }

    fn has_parent(&self) -> bool {
        lock(&self.parent).is_some()
    }

    fn codec(&self) -> Result<&Coder<T>> {
        self.codec.as_ref().ok_or_else(|| Error::usage("this level needs a codec: use persist_with"))
    }

    /// About the bytes of these records: those in the vector, and what a few of them own.
    fn bytes(&self, records: &[T]) -> usize {
        let (shallow, mut deep) = (size_of_val(records), 0);
        if let (true, Some(codec)) = (std::mem::needs_drop::<T>(), &self.codec) {
            let step = records.len().div_ceil(32).max(1);
            let mut some = Vec::new();
            for record in records.iter().step_by(step) {
                // One that cannot be written says so when it has to be.
                let _ = codec.encode(record, &mut some);
            }
            deep = some.len() * step;
        }
        shallow + deep
    }

    fn pack(&self, records: &[T]) -> Result<Vec<u8>> {
        let (codec, mut out) = (self.codec()?, Vec::new());
        records.iter().try_for_each(|record| codec.encode(record, &mut out))?;
        Ok(out)
    }

    /// Writes records to a file of their own.
    fn write(&self, partition: usize, mut next: impl FnMut(&mut Vec<u8>) -> Result<bool>) -> Result<Arc<Segment>> {
        let mut segment = SegmentWriter::spill(&self.exec.storage.dir()?)?;
        let (mut block, mut number, mut more) = (Vec::new(), 0, true);
        while more {
            block.clear();
            while more && block.len() < BLOCK {
                more = next(&mut block)?;
            }
            let offsets = [0, block.len() as u32];
            let column = ColumnRef::new(Slice::Bytes { offsets: &offsets, data: &block });
            let label =
                Label { content: Content::Rows, partition: partition as u32, first: number, last: number, rows: 1 };
            segment.append(label, &[column])?;
            number += 1;
        }
        self.exec.storage.note_spilled(segment.bytes());
        Ok(Arc::new(segment.seal()?))
    }

    fn write_records(&self, partition: usize, records: &[T]) -> Result<Arc<Segment>> {
        let (codec, mut records) = (self.codec()?, records.iter());
        self.write(partition, |out| match records.next() {
            Some(record) => codec.encode(record, out).map(|()| true),
            None => Ok(false),
        })
    }

    fn write_packed(&self, partition: usize, bytes: &[u8]) -> Result<Arc<Segment>> {
        // Blocks end where records end: decoding finds those places.
        let (codec, mut rest) = (self.codec()?, bytes);
        self.write(partition, |out| {
            if rest.is_empty() {
                return Ok(false);
            }
            let before = rest;
            codec.decode(&mut rest)?;
            out.extend_from_slice(&before[..before.len() - rest.len()]);
            Ok(true)
        })
    }

    /// How these records are kept; [`Slot::Absent`] if they are not.
    fn keep(&self, partition: usize, records: &Arc<Vec<T>>) -> Result<Slot<T>> {
        if self.level == StorageLevel::DiskOnly {
            return self.write_records(partition, records).map(Slot::Disk);
        }
        let packed = if self.level.is_packed() { Some(self.pack(records)?) } else { None };
        let bytes = packed.as_ref().map_or_else(|| self.bytes(records), Vec::len);
        let lease = self.exec.storage.lease(self.id, bytes);
        if lease.is_none() {
            if self.level.uses_disk() {
                return match &packed {
                    Some(bytes) => self.write_packed(partition, bytes).map(Slot::Disk),
                    None => self.write_records(partition, records).map(Slot::Disk),
                };
            }
            if self.has_parent() {
                return Ok(Slot::Absent);
            }
        }
        Ok(match packed {
            Some(bytes) => Slot::Packed(Arc::new(bytes), lease),
            None => Slot::Records(records.clone(), lease),
        })
    }

    /// A partition that reads what a slot holds.
    fn part(self: &Arc<Self>, i: usize, slot: Slot<T>) -> Option<BoxPart<T>> {
        Some(match slot {
            Slot::Absent => return None,
            Slot::Records(records, _) => shared(records),
            Slot::Packed(bytes, _) => Box::new(Unpacked { bytes, codec: self.codec.clone()? }),
            Slot::Disk(disk) => Box::new(FromDisk { disk, codec: self.codec.clone()?, of: self.clone(), i }),
        })
    }
}

impl<T: Data> Keeper for Persisted<T> {
    fn give_way(&self, partition: usize) -> bool {
        let slot = lock(&self.slots)[partition].copy();
        let after = match slot {
            Slot::Records(records, _) if self.level.uses_disk() => {
                self.write_records(partition, &records).map(Slot::Disk).ok()
            }
            Slot::Packed(bytes, _) if self.level.uses_disk() => {
                self.write_packed(partition, &bytes).map(Slot::Disk).ok()
            }
            Slot::Records(..) | Slot::Packed(..) if self.has_parent() => Some(Slot::Absent),
            _ => None,
        };
        // What cannot go stays; the lease it has is refused to the other.
        after.map(|after| lock(&self.slots)[partition] = after).is_some()
    }
}

impl<T: Data> Dataset<T> for Persisted<T> {
    fn partitions(&self) -> usize {
        self.partitions
    }

    fn stage(self: Arc<Self>) -> Result<Vec<BoxPart<T>>> {
        let storage = &self.exec.storage;
        let _evaluating = lock(&self.evaluating);
        storage.touch(self.id);
        let mut found: Vec<Option<BoxPart<T>>> =
            lock(&self.slots).iter().map(Slot::copy).enumerate().map(|(i, slot)| self.part(i, slot)).collect();
        if found.iter().any(Option::is_none) {
            let parent = {
                let mut parent = lock(&self.parent);
                if parent.as_ref().is_some_and(|parent| parent.repeats()) { parent.clone() } else { parent.take() }
            };
            let gone = || Error::data("what a persisted batch is made from has failed before");
            let parts: Vec<_> = parent.ok_or_else(gone)?.stage()?.into_iter().enumerate().collect();
            let missing: Vec<_> = parts.into_iter().filter(|(i, _)| found[*i].is_none()).collect();
            let records = missing.iter().map(|(_, part)| part.weight()).sum();
            let made = self
                .exec
                .paced(missing, records, &Pace::default(), |_, (i, part)| Ok((i, Arc::new(collect_part(part)?))))?;
            for (i, records) in made {
                let slot = self.keep(i, &records)?;
                if matches!(slot, Slot::Records(..) | Slot::Packed(..)) && storage.limit().is_some() {
                    let keeper: Arc<dyn Keeper> = self.clone();
                    storage.keep(self.id, i, Arc::downgrade(&keeper));
                }
                lock(&self.slots)[i] = slot;
                found[i] = Some(shared(records));
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn unpersist(&self) {
        if self.has_parent() {
            lock(&self.slots).iter_mut().for_each(|slot| *slot = Slot::Absent);
        }
    }
}

fn decode_all<T: 'static>(codec: &dyn Codec<T>, mut bytes: &[u8], sink: Sink<'_, T>) -> Result<bool> {
    while !bytes.is_empty() {
        if !sink(codec.decode(&mut bytes)?) {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Unpacked<T: 'static> {
    bytes: Arc<Vec<u8>>,
    codec: Coder<T>,
}

impl<T: 'static> Part<T> for Unpacked<T> {
    fn weight(&self) -> usize {
        self.bytes.len() / size_of::<T>().max(8)
    }

    fn run(self: Box<Self>, sink: Sink<'_, T>) -> Result<bool> {
        decode_all(&*self.codec, &self.bytes, sink)
    }
}

struct FromDisk<T> {
    disk: Arc<Segment>,
    codec: Coder<T>,
    of: Arc<Persisted<T>>,
    i: usize,
}

impl<T: Data> FromDisk<T> {
    fn read(&self, sink: Sink<'_, T>) -> Result<bool> {
        for entry in self.disk.entries() {
            let block = self.disk.read(entry)?;
            if let Some(Slice::Bytes { data, .. }) = block.columns.first().map(|column| column.view().values)
                && !decode_all(&*self.codec, data, &mut *sink)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl<T: Data> Part<T> for FromDisk<T> {
    fn weight(&self) -> usize {
        self.disk.entries().len() * (1 << 14)
    }

    fn run(self: Box<Self>, sink: Sink<'_, T>) -> Result<bool> {
        let mut pushed = 0;
        let read = self.read(&mut |record| {
            pushed += 1;
            sink(record)
        });
        let Err(lost) = read else { return read };
        // What the disk has lost is evaluated again, here and for whoever comes next, if that can be.
        let parent = lock(&self.of.parent).clone().filter(|parent| parent.repeats() && parent.is_plain());
        let Some(parent) = parent else { return Err(lost) };
        lock(&self.of.slots)[self.i] = Slot::Absent;
        let part = parent.stage()?.into_iter().nth(self.i);
        part.map_or(Err(lost), |part| {
            part.run(&mut |record| {
                let known = pushed > 0;
                pushed -= usize::from(known);
                known || sink(record)
            })
        })
    }
}

impl<T: Data> Batch<T> {
    /// The same records, kept from their first evaluation on as `level` says, until the last handle is dropped.
    ///
    /// ```
    /// use windrow::stream::{StorageLevel, StreamingContext};
    /// let ctx = StreamingContext::builder().memory_limit(1 << 20).build()?;
    /// let words = ctx.batch_from(["to", "be"].map(String::from)).persist(StorageLevel::MemoryAndDisk);
    /// assert_eq!(words.clone().count()?, 2);
    /// assert_eq!(words.take(1)?, ["to"]); // not evaluated again
    /// # Ok::<(), windrow::Error>(())
    /// ```
    pub fn persist(self, level: StorageLevel) -> Batch<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.persist_with(level, Postcard)
    }

    /// As [`persist`](Self::persist), for records with a codec of their own.
    pub fn persist_with(self, level: StorageLevel, codec: impl Codec<T>) -> Batch<T> {
        self.persisted(level, Some(Arc::new(codec)))
    }

    pub(crate) fn persisted(self, level: StorageLevel, codec: Option<Coder<T>>) -> Batch<T> {
        let set = Persisted::dataset(&self.exec, self.set, level, codec);
        Batch { set, exec: self.exec, coder: self.coder }
    }

    /// The same records, kept in memory from their first evaluation until the last handle is dropped.
    pub fn cache(self) -> Batch<T> {
        let coder = self.coder.clone();
        self.persisted(StorageLevel::MemoryOnly, coder)
    }

    /// Lets go of what is kept, for all handles: whoever reads the batch again evaluates it again. What a shuffle or a
    /// state made cannot be made again and stays as long as somebody holds it.
    pub fn unpersist(&self) {
        self.set.unpersist();
    }

    /// Records that keyed operations, [`sort_by_key`](Self::sort_by_key) and [`repartition`](Self::repartition) directly on
    /// this batch bring together may go to disk when the [memory limit](super::Builder::memory_limit) is reached.
    pub fn spillable(self) -> Batch<T>
    where
        T: Serialize + DeserializeOwned,
    {
        self.spillable_with(Arc::new(Postcard))
    }

    /// As [`spillable`](Self::spillable), for records with a codec of their own.
    pub fn spillable_with(mut self, codec: Arc<dyn Codec<T>>) -> Batch<T> {
        self.coder = Some(codec);
        self
    }

    pub(crate) fn coded(mut self, codec: Option<Coder<T>>) -> Batch<T> {
        self.coder = codec;
        self
    }
}
