//! Keyed operations on batches too large for the memory limit: records go through the shuffle, to disk where they must.
//!
//! Each task encodes its records into one buffer per sub-partition and hands them to its [`Writer`] in pieces, which keeps
//! them packed in memory up to its share of the limit and appends them to its file beyond it. Then each partition reads
//! its sub-partitions back, one after the other, and folds one at a time.
//!
//! Invariant: the same rows as without a limit; values are folded in the order of the partitions and of the records in
//! them (sequence numbers are the task's, then the piece's). Cost: records are encoded and decoded once.

use super::codec::Coder;
use super::exec::Exec;
use super::keyed::{Fold, Keyed, Table, hash_of, part_of};
use super::part::BoxPart;
use super::{Data, Key};
use crate::memory::Budget;
use crate::shuffle::{Options, Reader, Writer};
use crate::store::block::Content;
use crate::store::column::{Column, Slice, Values};
use crate::{Error, Result};

/// Partitions and sub-partitions together.
const FINE: usize = if cfg!(test) { 8 } else { 256 };

/// Bytes of a piece.
const PIECE: usize = if cfg!(test) { 128 } else { 1 << 20 };

/// Encoded records by sub-partition.
struct Piece {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    sequence: u64,
}

impl Piece {
    fn flush(&mut self, writer: &mut Writer) -> Result<()> {
        let (mut offsets, mut ends, mut data, mut rows) = (vec![0], vec![0], Vec::with_capacity(self.bytes), 0);
        for buffer in &mut self.buffers {
            if !buffer.is_empty() {
                data.append(buffer);
                ends.push(data.len() as u32);
                rows += 1;
            }
            offsets.push(rows);
        }
        self.bytes = 0;
        self.sequence += 1;
        let column = Column { values: Values::Bytes { offsets: ends, data }, validity: None };
        writer.push_grouped(Content::Rows, self.sequence, offsets, vec![column])
    }
}

impl<K: Key> Keyed<K> {
    /// Whether `records` pairs are too many to be brought together in memory.
    pub(super) fn must_spill<V>(&self, exec: &Exec, records: usize) -> bool {
        exec.storage.limit().is_some_and(|limit| records.saturating_mul(size_of::<(K, V)>()) > limit / 4)
    }

    /// As [`combine`](Self::combine), through the shuffle.
    pub(super) fn combine_spilling<V, C, A, B, M>(
        &self,
        exec: &Exec,
        parts: Vec<BoxPart<(K, V)>>,
        coder: &Coder<(K, V)>,
        how: &Fold<A, B, M>,
    ) -> Result<Vec<Vec<(K, C)>>>
    where
        V: Data,
        C: Send + 'static,
        A: Fn(V) -> C + Sync,
        B: Fn(&mut C, V) + Sync,
        M: Sync,
    {
        let n = self.by.partitions();
        let per = FINE.div_ceil(n);
        let share = exec.storage.limit().unwrap_or(usize::MAX) / 4;
        // What is kept gives way; there may be nothing to give, and a shuffle needs its buffers all the same.
        let _lease = exec.storage.lease(u64::MAX, share);
        let buffer = share / parts.len().max(1);
        let options = Options::new((n * per) as u32).spill(Budget::unlimited(), buffer, exec.storage.dir()?);
        let piece = PIECE.min(buffer.max(1));
        let written = exec.run(parts, false, |task, part| {
            let mut writer = Writer::new(&options);
            let mut out = Piece { buffers: vec![Vec::new(); n * per], bytes: 0, sequence: (task as u64) << 40 };
            let mut outcome = Ok(());
            part.run(&mut |row| {
                let hash = hash_of(&row.0);
                let buffer = &mut out.buffers[self.by.of(&row.0, hash) * per + part_of(hash.rotate_left(32), per)];
                let before = buffer.len();
                outcome = coder.encode(&row, buffer);
                out.bytes += buffer.len() - before;
                if outcome.is_ok() && out.bytes >= piece {
                    outcome = out.flush(&mut writer);
                }
                outcome.is_ok()
            })?;
            outcome?;
            out.flush(&mut writer)?;
            writer.finish()
        })?;
        let reader = Reader::new(written);
        exec.storage.note_spilled(reader.spilled_bytes());
        exec.run((0..n).collect(), false, |_, partition: usize| {
            let (mut table, mut rows) = (Table::with_capacity(0), Vec::new());
            for sub in partition * per..(partition + 1) * per {
                for chunk in reader.partition(sub as u32) {
                    let chunk = chunk?;
                    for column in chunk.columns() {
                        let Slice::Bytes { offsets, data } = column.values else {
                            return Err(Error::data("a spilled block holds no records"));
                        };
                        let (Some(from), Some(to)) = (offsets.first(), offsets.last()) else { continue };
                        let mut bytes = &data[*from as usize..*to as usize];
                        while !bytes.is_empty() {
                            let (key, value) = coder.decode(&mut bytes)?;
                            table.upsert(hash_of(&key), key, value, &how.create, &how.fold);
                        }
                    }
                }
                rows.extend(table.drain());
            }
            Ok(rows)
        })
    }
}
