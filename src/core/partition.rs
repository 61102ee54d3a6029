//! Stable counting sort: where each row goes when rows are grouped by a small bucket number.
//!
//! Partitioning by key hash, and ordering the cells of a block by (partition, pane), are both this. The sort gives
//! destinations, not a permuted copy: whoever holds a column scatters it once, straight to its place.
//!
//! Cost: two passes over the bucket numbers, about 1 ns a row while the counters fit the L1 cache.

/// Computes `destination[i]` for every row so that rows of bucket `b` occupy `offsets[b]..offsets[b + 1]`, in their
/// original order. Every bucket must be below `buckets`. Both outputs are overwritten.
pub fn counting_sort(bucket_of: &[u32], buckets: usize, offsets: &mut Vec<u32>, destination: &mut Vec<u32>) {
    debug_assert!(bucket_of.len() < u32::MAX as usize);
    offsets.clear();
    offsets.resize(buckets + 1, 0);
    for b in bucket_of {
        offsets[*b as usize + 1] += 1;
    }
    for b in 0..buckets {
        offsets[b + 1] += offsets[b];
    }
    // `offsets[b]` serves as the cursor of bucket b; afterwards it holds the start of b + 1 and is shifted back.
    destination.clear();
    destination.extend(bucket_of.iter().map(|b| {
        let cursor = &mut offsets[*b as usize];
        let at = *cursor;
        *cursor += 1;
        at
    }));
    offsets.copy_within(0..buckets, 1);
    offsets[0] = 0;
}

/// The partition of a hash: its leading `bits`.
#[inline]
pub fn partition_of(hash: u64, bits: u32) -> u32 {
    // A shift by 64 is not defined, and zero bits mean one partition.
    ((hash >> 1) >> (63 - bits)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_a_stable_sort(rows in prop::collection::vec(0u32..7, 0..300)) {
            let (mut offsets, mut destination) = (Vec::new(), Vec::new());
            counting_sort(&rows, 7, &mut offsets, &mut destination);
            let mut got = vec![usize::MAX; rows.len()];
            for (i, d) in destination.iter().enumerate() {
                got[*d as usize] = i;
            }
            let mut want: Vec<usize> = (0..rows.len()).collect();
            want.sort_by_key(|i| rows[*i]);
            prop_assert_eq!(&got, &want);
            for b in 0..7 {
                for at in offsets[b]..offsets[b + 1] {
                    prop_assert_eq!(rows[got[at as usize]] as usize, b);
                }
            }
        }
    }

    #[test]
    fn partitions_are_leading_bits() {
        assert_eq!(partition_of(u64::MAX, 0), 0);
        assert_eq!(partition_of(u64::MAX, 6), 63);
        assert_eq!(partition_of(1 << 63, 1), 1);
        assert_eq!(partition_of(1 << 62, 1), 0);
    }
}
