//! Into how many partitions keys are cut: by what the first block shows of them.

use std::sync::OnceLock;

/// Into how many partitions keys are cut. The number changes no answer, so whichever block comes first may decide it.
pub(crate) struct Partitioning {
    bits: OnceLock<u32>,
    threads: usize,
    /// The most that the first block asks for, as a logarithm.
    most: u32,
    /// What the first block asks for, as a logarithm, if keys hardly repeat in it and are then worked partition by partition.
    fine: Option<u32>,
}

/// Keys that a partition should have at most, so that its table fits the L2 cache.
const KEYS_PER_PARTITION: usize = 2048;
/// Keys that are so few that a partition for each worker is enough.
const FEW_KEYS: usize = 256;
/// Keys that are so few that one partition is enough, if each of them stands in the block so often: a short first block says
/// nothing of the keys to come.
const VERY_FEW_KEYS: usize = 8;
const REPEATED: usize = 1024;
/// The most partitions that the first block asks for, as a logarithm.
const MOST_BITS: u32 = 6;
/// Blocks of fewer rows do not ask for so many.
const FINE_FROM: usize = if cfg!(test) { 48 } else { 32 << 10 };
/// The most partitions of all, as a logarithm.
pub(crate) const MOST_PARTITION_BITS: u32 = 10;

impl Partitioning {
    /// 2 to the power of `bits` partitions, or as many as the first block suggests.
    /// More of them if memory is short: they are worked some at a time, and then each should fit the cache.
    /// 2 to the power of `fine` if keys hardly repeat.
    pub(crate) fn new(bits: Option<u32>, threads: usize, short: bool, fine: Option<u32>) -> Self {
        let most = if short { MOST_BITS + 1 } else { MOST_BITS };
        Partitioning { bits: bits.map_or_else(OnceLock::new, OnceLock::from), threads, most, fine }
    }

    /// The logarithm of the number of partitions, once a block has decided it.
    pub(crate) fn known(&self) -> Option<u32> {
        self.bits.get().copied()
    }

    /// The logarithm of the number of partitions, given the keys of a block.
    pub(super) fn bits(&self, rows: usize, keys: usize) -> u32 {
        *self.bits.get_or_init(|| {
            if let Some(fine) = self.fine
                && rows >= FINE_FROM
                && keys * 2 > rows
            {
                return fine;
            }
            // A block in which keys hardly repeat says only that there are many.
            let all = if keys * 8 > rows { usize::MAX / 2 } else { 4 * keys };
            // Very few keys, each again and again, are less work than to part every pane.
            if keys <= VERY_FEW_KEYS && keys * REPEATED <= rows {
                return 0;
            }
            // Each partition has its share of every pane: with few keys, more of them are more to do, not less each.
            let some = if keys <= FEW_KEYS { 1 } else { 4 };
            let least = (some * self.threads).next_power_of_two().ilog2();
            let wanted = (all / KEYS_PER_PARTITION).next_power_of_two().ilog2();
            wanted.clamp(least.min(self.most), self.most)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(rows: usize, keys: usize) -> u32 {
        Partitioning::new(None, 2, false, None).bits(rows, keys)
    }

    #[test]
    fn the_first_block_tells_how_many_partitions_there_are_unless_it_is_short() {
        assert_eq!((bits(65_536, 1), bits(65_536, 8), bits(65_536, 9)), (0, 0, 1));
        assert_eq!((bits(65_536, 300), bits(65_536, 60_000)), (3, MOST_BITS));
        // A few lines of different keys, as a live input begins: there may be any number of them.
        assert_eq!((bits(1, 1), bits(3, 3), bits(8, 8)), (MOST_BITS, MOST_BITS, MOST_BITS));
    }
}
