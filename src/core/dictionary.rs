//! Numbering the distinct keys of one block, in the order in which they first occur.
//!
//! A block's dictionary lives for 65,536 rows, so it is a bare array of slots that is cleared and used again: open
//! addressing, linear probing, a slot holding 32 bits of the hash and the row where its key first stands. The key of a
//! row is compared with the key of that row, so the dictionary needs no copy of any key.
//!
//! Cost: about 2 ns a row while slots and hashes fit the L2 cache.

/// See the module.
#[derive(Debug, Default)]
pub struct Dictionary {
    slots: Vec<u64>,
}

/// Least number of slots. Tiny under test, so that tests go through growth.
const LEAST_SLOTS: usize = if cfg!(test) { 4 } else { 1024 };

impl Dictionary {
    /// Overwrites `numbers` with the number of each row's key, and `firsts` with the row where each key first stands.
    ///
    /// `hashes[i]` is the hash of row `i`; `same(a, b)` says whether rows `a` and `b`, of almost surely equal hashes,
    /// have the same key. `expected` is a guess of the number of keys.
    pub fn number(
        &mut self,
        hashes: &[u64],
        expected: usize,
        same: impl Fn(usize, usize) -> bool,
        numbers: &mut Vec<u32>,
        firsts: &mut Vec<u32>,
    ) {
        // Every number is written below.
        numbers.resize(hashes.len(), 0);
        firsts.clear();
        self.reset((expected + expected / 2).next_power_of_two());
        let mut most = self.slots.len() / 4 * 3;
        for (row, hash) in hashes.iter().enumerate() {
            let mask = self.slots.len() - 1;
            let tag = hash >> 32 << 32;
            let mut at = *hash as usize & mask;
            loop {
                let slot = self.slots[at];
                if slot == 0 {
                    self.slots[at] = tag | (row as u64 + 1);
                    numbers[row] = firsts.len() as u32;
                    firsts.push(row as u32);
                    if firsts.len() > most {
                        self.grow(hashes, firsts);
                        most = self.slots.len() / 4 * 3;
                    }
                    break;
                }
                let first = (slot as u32 - 1) as usize;
                if slot >> 32 << 32 == tag && same(first, row) {
                    numbers[row] = numbers[first];
                    break;
                }
                at = (at + 1) & mask;
            }
        }
    }

    fn reset(&mut self, slots: usize) {
        self.slots.clear();
        self.slots.resize(slots.max(LEAST_SLOTS), 0);
    }

    fn grow(&mut self, hashes: &[u64], firsts: &[u32]) {
        self.reset(self.slots.len() * 2);
        let mask = self.slots.len() - 1;
        for first in firsts {
            let hash = hashes[*first as usize];
            let mut at = hash as usize & mask;
            while self.slots[at] != 0 {
                at = (at + 1) & mask;
            }
            self.slots[at] = hash >> 32 << 32 | (u64::from(*first) + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The twin searches all rows before; some keys share a hash, some only its upper or lower half.
        #[test]
        fn numbers_keys_as_they_first_occur(keys in prop::collection::vec(0u64..40, 0..200), expected in 0usize..50) {
            let hashes: Vec<u64> = keys.iter().map(|k| (k / 3 % 5) << 32 | (k / 2 % 7)).collect();
            let (mut numbers, mut firsts) = (Vec::new(), Vec::new());
            let mut dictionary = Dictionary::default();
            for _ in 0..2 {
                dictionary.number(&hashes, expected, |a, b| keys[a] == keys[b], &mut numbers, &mut firsts);
                let mut distinct: Vec<u64> = Vec::new();
                for (row, key) in keys.iter().enumerate() {
                    let known = distinct.iter().position(|d| d == key).unwrap_or_else(|| {
                        distinct.push(*key);
                        distinct.len() - 1
                    });
                    prop_assert_eq!(numbers[row] as usize, known);
                    prop_assert_eq!(keys[firsts[known] as usize], *key);
                }
                prop_assert_eq!(firsts.len(), distinct.len());
            }
        }
    }
}
