//! The set of groups that are in the window, as a two-level bitmap.
//!
//! Iterating gives ascending ids, which is the order of the output when ids are ranked by hash. A word of the upper
//! level covers 4,096 ids, so a window with few live keys among millions is walked in the time of the few.

/// A set of small integers; insert and remove are O(1), iteration O(members + capacity / 4096).
#[derive(Debug, Default, Clone)]
pub struct LiveSet {
    bits: Vec<u64>,
    /// Bit `i` of the summary is set when `bits[i] != 0`.
    summary: Vec<u64>,
    len: usize,
}

impl LiveSet {
    /// An empty set that can hold ids below `capacity`.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut set = LiveSet::default();
        set.grow(capacity);
        set
    }

    /// Makes room for ids below `capacity`.
    pub fn grow(&mut self, capacity: usize) {
        let words = capacity.div_ceil(64);
        if words > self.bits.len() {
            self.bits.resize(words, 0);
            self.summary.resize(words.div_ceil(64), 0);
        }
    }

    /// How many ids are in the set.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `id`, which must be below the capacity, is in the set.
    #[inline]
    pub fn contains(&self, id: u32) -> bool {
        self.bits[id as usize / 64] >> (id % 64) & 1 == 1
    }

    /// Adds `id`, which must not be in the set.
    #[inline]
    pub fn insert(&mut self, id: u32) {
        let word = id as usize / 64;
        self.bits[word] |= 1 << (id % 64);
        self.summary[word / 64] |= 1 << (word % 64);
        self.len += 1;
    }

    /// Removes `id`, which must be in the set.
    #[inline]
    pub fn remove(&mut self, id: u32) {
        let word = id as usize / 64;
        self.bits[word] &= !(1 << (id % 64));
        if self.bits[word] == 0 {
            self.summary[word / 64] &= !(1 << (word % 64));
        }
        self.len -= 1;
    }

    /// Removes every id.
    pub fn clear(&mut self) {
        self.bits.fill(0);
        self.summary.fill(0);
        self.len = 0;
    }

    /// Appends every id of the set to `out`, ascending.
    pub fn collect_into(&self, out: &mut Vec<u32>) {
        out.reserve(self.len);
        for (s, summary) in self.summary.iter().enumerate() {
            let mut words = *summary;
            while words != 0 {
                let w = s * 64 + words.trailing_zeros() as usize;
                words &= words - 1;
                let base = (w * 64) as u32;
                let mut bits = self.bits[w];
                if bits == u64::MAX {
                    out.extend(base..base + 64);
                    continue;
                }
                while bits != 0 {
                    out.push(base + bits.trailing_zeros());
                    bits &= bits - 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_sorted_set(ops in prop::collection::vec((any::<bool>(), 0u32..10_000), 0..400)) {
            let mut set = LiveSet::with_capacity(10_000);
            let mut twin = std::collections::BTreeSet::new();
            for (add, id) in ops {
                if add && twin.insert(id) {
                    set.insert(id);
                } else if !add && twin.remove(&id) {
                    set.remove(id);
                }
            }
            let mut got = Vec::new();
            set.collect_into(&mut got);
            prop_assert_eq!(set.len(), twin.len());
            prop_assert!((0..10_000).all(|id| set.contains(id) == twin.contains(&id)));
            prop_assert_eq!(got, twin.into_iter().collect::<Vec<_>>());
        }
    }
}
