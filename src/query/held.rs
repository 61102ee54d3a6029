//! Blocks that not all partitions have taken: while a checkpoint of one moment is made, partitions that are not saved yet take
//! nothing that came after it.
//!
//! Blocks are numbered from the first one that is held. They go when all partitions have taken them, and only then is it
//! known which of their records were late; so those stay in the order of the input whatever was saved when.
//!
//! Invariant: what is held is leased and at most a small part of the memory limit, or it [is full](Held::is_full), and what is
//! left is to be saved at once. Without a checkpoint of one moment a round's blocks go with the round, and nothing is leased.

use super::keys::KeyRows;
use super::map::Mapped;
use super::plan::Plan;
use super::reduce::Partition;
use crate::Result;
use crate::memory::{Budget, Lease};

/// Bytes that may wait, and the part of the memory limit that they may be. Few under test, so that it is full at times.
const ROOM: usize = if cfg!(test) { 8 << 10 } else { 512 << 20 };
const SHARE: usize = 8;

/// See the module.
pub(crate) struct Held<K> {
    blocks: Vec<Box<Mapped<K>>>,
    lease: Lease,
    room: usize,
    is_full: bool,
}

impl<K: KeyRows> Held<K> {
    pub(super) fn new(budget: &Budget) -> Self {
        let lease = budget.lease("the records that wait for a checkpoint");
        Held { blocks: Vec::new(), lease, room: ROOM.min(budget.limit() / SHARE), is_full: false }
    }

    /// The blocks of a round come behind those that wait. Returns the number of the first of them.
    pub(super) fn push(&mut self, blocks: Vec<Box<Mapped<K>>>) -> usize {
        let first = self.blocks.len();
        self.blocks.extend(blocks);
        first
    }

    /// The blocks from number `first` on.
    pub(super) fn since(&self, first: usize) -> &[Box<Mapped<K>>] {
        &self.blocks[first..]
    }

    /// Partition `p` takes its part of the blocks from number `first` on.
    ///
    /// # Errors
    /// Those of [`Partition::take`].
    pub(crate) fn take(&self, plan: &Plan, p: usize, partition: &mut Partition<K>, first: usize) -> Result<()> {
        let taken = partition.taken;
        let new = self.blocks.iter().enumerate().skip(first).filter(|(_, block)| block.sequence > taken);
        new.into_iter().try_for_each(|(number, block)| partition.take(plan, p, number, block))
    }

    /// What is held stays, because some partitions wait.
    pub(super) fn keep(&mut self) {
        let bytes = self.blocks.iter().map(|block| block.bytes()).sum();
        self.is_full = bytes > self.room || self.lease.resize(bytes).is_err();
    }

    /// Whether there is no room for more.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// How many blocks wait.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// All partitions have taken all of it.
    pub(super) fn clear(&mut self) -> Vec<Box<Mapped<K>>> {
        self.is_full = false;
        // To give back is never refused.
        let _ = self.lease.resize(0);
        std::mem::take(&mut self.blocks)
    }
}
