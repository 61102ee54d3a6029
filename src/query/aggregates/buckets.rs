//! The buckets of quantiles, and how many values of one group lie in each.
//!
//! A bucket holds the numbers of one sign that share their exponent and the first six bits behind it: 64 buckets for each
//! doubling, none of them ever merged with others, and no logarithm. The value that stands for a bucket is at most
//! 1/129 = 0.78 % away from any in it. Zero is a bucket of its own, so are both infinities and NaN, which is last.
//! Numbers below the smallest normal one are scaled up, so they are as exact as the others.
//!
//! A *word* is a bucket and a count in four bytes. A [`Histogram`] is a sorted list of words, or, of more than [`FEW`]
//! buckets, a sorted list of blocks of 32 buckets with their sums, so that an update costs a search among some ten
//! blocks, and a rank the walk over the sums from its nearer end and over one block. A million groups of a few dozen
//! values each take some 200 bytes each.

/// Bits of the mantissa that a bucket's number drops.
const DROPPED: u32 = 46;
/// Buckets of a doubling.
const PER_DOUBLING: u64 = 1 << (52 - DROPPED);
/// Below the smallest normal number there are 52 doublings more.
const BELOW: u64 = 52 * PER_DOUBLING;
const INFINITE: u32 = ((f64::INFINITY.to_bits() >> DROPPED) + BELOW + 1 - PER_DOUBLING) as u32;
/// The bucket of zero.
const ZERO: u32 = 1 << 18;
/// The bucket of NaN, the last.
const NAN: u32 = ZERO + INFINITE + 1;
/// Bits that hold any bucket.
const BUCKET_BITS: u32 = 19;
/// Bits of a word's count, less one; the bucket stands above them.
const COUNT_BITS: u32 = 32 - BUCKET_BITS;
/// The greatest count of a word.
const COUNTS: u32 = 1 << COUNT_BITS;

/// The word of one value.
#[inline]
pub(crate) fn word_of(value: f64) -> u32 {
    bucket_of(value) << COUNT_BITS
}

/// The bucket and count of a word.
#[inline]
fn parts(word: u32) -> (u32, u32) {
    (word >> COUNT_BITS, word % COUNTS + 1)
}

/// The word of two words' values, if they share their bucket and one word holds both.
#[inline]
pub(crate) fn join(a: u32, b: u32) -> Option<u32> {
    let ((bucket, n), (other, m)) = (parts(a), parts(b));
    (bucket == other && n + m <= COUNTS).then(|| a + m)
}

/// The bucket of a value; buckets ascend with their values.
#[inline]
fn bucket_of(value: f64) -> u32 {
    let magnitude = value.abs();
    let bits = magnitude.to_bits();
    let number = if bits >= f64::MIN_POSITIVE.to_bits() {
        (bits >> DROPPED) + BELOW + 1 - PER_DOUBLING
    } else if bits == 0 {
        0
    } else {
        let scaled = magnitude * f64::from(52).exp2();
        (scaled.to_bits() >> DROPPED) + 1 - PER_DOUBLING
    } as u32;
    if value.is_nan() {
        NAN
    } else if value.is_sign_negative() {
        ZERO - number
    } else {
        ZERO + number
    }
}

/// The value that stands for a bucket.
pub(crate) fn value_of(bucket: u32) -> f64 {
    let number = bucket.abs_diff(ZERO);
    let magnitude = match number {
        0 => 0.0,
        INFINITE => f64::INFINITY,
        _ if bucket >= NAN => return f64::NAN,
        _ => {
            let normal = u64::from(number - 1).checked_sub(BELOW);
            let number = normal.unwrap_or(u64::from(number - 1));
            let least = f64::from_bits((number + PER_DOUBLING) << DROPPED);
            // The harmonic mean of both ends is equally far from either, relatively.
            let step = (number % PER_DOUBLING + PER_DOUBLING) as f64;
            let middle = least * ((2.0 * step + 2.0) / (2.0 * step + 1.0));
            if normal.is_some() { middle } else { middle * f64::from(-52).exp2() }
        }
    };
    if bucket < ZERO { -magnitude } else { magnitude }
}

/// More buckets than this are kept as blocks. Tiny under test, so that tests have blocks.
const FEW: usize = if cfg!(test) { 3 } else { 128 };

/// Buckets of a block.
const BLOCK: u32 = 32;

/// How many values lie in each bucket.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Ascending words of different buckets; none if there are blocks.
    few: Vec<u32>,
    many: Option<Box<Blocks>>,
}

#[derive(Debug, Default)]
struct Blocks {
    total: u64,
    /// Blocks without a value.
    empty: usize,
    /// `bucket / BLOCK` of each block, ascending.
    numbers: Vec<u16>,
    sums: Vec<u64>,
    counts: Vec<[u64; BLOCK as usize]>,
}

impl Histogram {
    /// Adds the values of ascending words.
    #[inline]
    pub(crate) fn add(&mut self, words: &[u32]) {
        // Full words may share their bucket.
        if self.few.is_empty()
            && self.many.is_none()
            && words.len() <= FEW
            && words.iter().all(|word| parts(*word).1 < COUNTS)
        {
            self.few.extend_from_slice(words);
        } else {
            words.iter().for_each(|word| self.add_word(*word));
        }
    }

    fn add_word(&mut self, word: u32) {
        let (bucket, count) = parts(word);
        if let Some(blocks) = &mut self.many {
            return blocks.add(bucket, count.into());
        }
        let at = self.find(bucket);
        let known = self.few.get(at).copied().filter(|known| known >> COUNT_BITS == bucket);
        match known.map(|known| join(known, word)) {
            Some(Some(both)) => {
                self.few[at] = both;
                return;
            }
            None if self.few.len() < FEW => return self.few.insert(at, word),
            _ => {}
        }
        let mut blocks = Box::<Blocks>::default();
        for (bucket, count) in std::mem::take(&mut self.few).into_iter().chain([word]).map(parts) {
            blocks.add(bucket, count.into());
        }
        self.many = Some(blocks);
    }

    #[inline]
    fn find(&self, bucket: u32) -> usize {
        self.few.partition_point(|word| word >> COUNT_BITS < bucket)
    }

    /// Takes away the values of words, which were added before.
    #[inline]
    pub(crate) fn remove(&mut self, words: &[u32]) {
        for (bucket, count) in words.iter().map(|word| parts(*word)) {
            if let Some(blocks) = &mut self.many {
                blocks.remove(bucket, count.into());
                if blocks.total <= FEW as u64 / 3 {
                    self.few = blocks.list();
                    self.many = None;
                }
                continue;
            }
            let at = self.find(bucket);
            if let Some(word) = self.few.get_mut(at) {
                if parts(*word).1 == count {
                    self.few.remove(at);
                } else {
                    *word -= count;
                }
            }
        }
    }

    /// Forgets all values.
    pub(crate) fn clear(&mut self) {
        self.few.clear();
        self.many = None;
    }

    /// The bucket of the value of rank `rank` from 0 among all `total` values; the last one's for a greater rank.
    pub(crate) fn bucket_at(&self, rank: u64, total: u64) -> u32 {
        if let Some(blocks) = &self.many {
            return blocks.bucket_at(rank);
        }
        let few = self.few.iter().map(|word| parts(*word)).map(|(bucket, count)| (bucket, u64::from(count)));
        walk(few, rank, total)
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        let blocks = self.many.as_ref().map_or(0, |b| size_of::<Blocks>() + b.numbers.capacity() * (2 + 8 + 8 * 32));
        self.few.capacity() * 4 + blocks
    }
}

/// The first of `parts` with which their counts exceed `rank`, from whichever end of the `total` is nearer.
#[inline]
fn walk(mut parts: impl DoubleEndedIterator<Item = (u32, u64)>, rank: u64, total: u64) -> u32 {
    let mut last = ZERO;
    if rank < total / 2 {
        let mut below = rank;
        for (part, count) in parts {
            last = part;
            if below < count {
                break;
            }
            below -= count;
        }
    } else {
        let mut above = total.saturating_sub(rank + 1);
        while let Some((part, count)) = parts.next_back() {
            last = part;
            if above < count {
                break;
            }
            above -= count;
        }
    }
    last
}

impl Blocks {
    #[inline]
    fn find(&self, number: u16) -> usize {
        self.numbers.partition_point(|n| *n < number)
    }

    fn add(&mut self, bucket: u32, count: u64) {
        let number = (bucket / BLOCK) as u16;
        let at = self.find(number);
        if self.numbers.get(at) != Some(&number) {
            self.numbers.insert(at, number);
            self.sums.insert(at, 0);
            self.empty += 1;
            self.counts.insert(at, [0; BLOCK as usize]);
        }
        self.total += count;
        self.empty -= usize::from(self.sums[at] == 0);
        self.sums[at] += count;
        self.counts[at][(bucket % BLOCK) as usize] += count;
    }

    fn remove(&mut self, bucket: u32, count: u64) {
        let at = self.find((bucket / BLOCK) as u16);
        self.total -= count;
        self.sums[at] -= count;
        self.counts[at][(bucket % BLOCK) as usize] -= count;
        self.empty += usize::from(self.sums[at] == 0);
        // Some that are empty now and then may stay; values that wander off leave more.
        if self.empty > FEW / 3 && 2 * self.empty > self.sums.len() {
            let mut sums = self.sums.iter();
            self.numbers.retain(|_| sums.next() != Some(&0));
            let mut sums = self.sums.iter();
            self.counts.retain(|_| sums.next() != Some(&0));
            self.sums.retain(|sum| *sum != 0);
            self.empty = 0;
        }
    }

    /// The words of small counts.
    fn list(&self) -> Vec<u32> {
        let blocks = self.numbers.iter().zip(&self.counts);
        let buckets = blocks.flat_map(|(number, counts)| (u32::from(*number) * BLOCK..).zip(counts));
        buckets
            .filter(|(_, count)| **count > 0)
            .map(|(bucket, count)| bucket << COUNT_BITS | (*count as u32 - 1))
            .collect()
    }

    fn bucket_at(&self, rank: u64) -> u32 {
        let rank = rank.min(self.total.saturating_sub(1));
        // What lies in the blocks below the one of the rank.
        let (mut at, mut below) = (0, 0);
        if rank < self.total / 2 {
            while below + self.sums[at] <= rank {
                below += self.sums[at];
                at += 1;
            }
        } else {
            (at, below) = (self.sums.len() - 1, self.total - self.sums[self.sums.len() - 1]);
            while below > rank {
                at -= 1;
                below -= self.sums[at];
            }
        }
        let counts = (0..BLOCK).map(|bucket| (bucket, self.counts[at][bucket as usize]));
        u32::from(self.numbers[at]) * BLOCK + walk(counts, rank - below, self.sums[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SPECIAL: [f64; 12] =
        [0.0, 5e-324, 1e-310, f64::MIN_POSITIVE, 1e-300, 0.1, 1.0, 63.99, 64.0, 1e300, f64::MAX, f64::INFINITY];

    fn value() -> impl Strategy<Value = f64> {
        let magnitude = prop_oneof![
            4 => (0u32..4000).prop_map(|v| f64::from(v) / 16.0),
            1 => prop::sample::select(SPECIAL.to_vec()),
            2 => any::<f64>().prop_map(f64::abs),
        ];
        (magnitude, any::<bool>()).prop_map(|(v, negative)| if negative { -v } else { v })
    }

    proptest! {
        #[test]
        fn buckets_ascend_and_stand_for_their_values(a in value(), b in value()) {
            let order = |v: f64| (v.is_nan(), v);
            let (low, high) = if order(a) <= order(b) { (a, b) } else { (b, a) };
            prop_assert!(bucket_of(low) <= bucket_of(high) || low.is_nan() != high.is_nan());
            prop_assert!(bucket_of(a) < 1 << BUCKET_BITS);
            let stands = value_of(bucket_of(a));
            if a.is_nan() || a.is_infinite() || a == 0.0 {
                prop_assert!(stands.to_bits() == a.to_bits() || a.is_nan() && stands.is_nan() || a == 0.0 && stands == 0.0);
            } else {
                prop_assert!((stands - a).abs() <= a.abs() * 0.0078 + 5e-324, "{} stands for {}", stands, a);
                prop_assert_eq!(stands < 0.0, a < 0.0);
            }
        }

        /// The twin is a sorted vector.
        #[test]
        fn ranks_are_those_of_the_sorted_values(
            ops in prop::collection::vec((any::<bool>(), 0usize..60, prop_oneof![9 => 1u32..5, 1 => 5000u32..=COUNTS]), 0..60), wide in any::<bool>(),
        ) {
            let (mut histogram, mut twin) = (Histogram::default(), Vec::new());
            for (add, place, count) in ops {
                let bucket = ZERO + if wide { place * place * 30 } else { place } as u32;
                if add {
                    histogram.add(&[bucket << COUNT_BITS | (count - 1)]);
                    twin.extend(vec![bucket; count as usize]);
                } else if !twin.is_empty() {
                    let bucket = twin[place % twin.len()];
                    let all = twin.iter().filter(|b| **b == bucket).count();
                    let count = all.min(count as usize);
                    histogram.remove(&[bucket << COUNT_BITS | (count as u32 - 1)]);
                    let at = twin.partition_point(|b| *b < bucket);
                    twin.drain(at..at + count);
                }
                twin.sort_unstable();
                for (rank, bucket) in twin.iter().enumerate().step_by(twin.len() / 50 + 1) {
                    prop_assert_eq!(histogram.bucket_at(rank as u64, twin.len() as u64), *bucket);
                }
            }
        }
    }

    #[test]
    fn nan_is_greater_than_every_number() {
        assert!(bucket_of(f64::NAN) > bucket_of(f64::INFINITY) && bucket_of(f64::INFINITY) > bucket_of(f64::MAX));
        assert_eq!(bucket_of(-f64::NAN), bucket_of(f64::NAN));
        assert!(bucket_of(f64::NEG_INFINITY) < bucket_of(f64::MIN) && bucket_of(-5e-324) < bucket_of(0.0));
        assert_eq!(bucket_of(-0.0), bucket_of(0.0));
        assert!(bucket_of(f64::NAN) < 1 << BUCKET_BITS);
    }
}
