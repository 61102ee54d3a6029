//! A small engine on the shared core, as a face would build it: one thread, `u64` keys, typed states.
//!
//! Records come in blocks. A block is hashed, cut into partitions (or not, with zero bits), and each partition interns
//! its keys and folds its cells pane by pane; at the end the panes are sealed and every window is visited.

use std::ops::Range;
use windrow::core::counts::Counts;
use windrow::core::groups::{Groups, TypedKeys};
use windrow::core::partition::{counting_sort, partition_of};
use windrow::core::slide::Engine;
use windrow::core::window::union;
use windrow::core::{Log, PaneStore, Run, Slider, States, WindowSpec, WindowTable};
use windrow::hash::hash_word;

/// Records of a block.
pub const BLOCK: usize = 64 << 10;

/// No values: the core counts records by itself.
pub struct Nothing;

impl States for Nothing {
    fn empty(&self) -> Self {
        Nothing
    }
    fn admit(&mut self, _: &Self) {}
    fn fold(&mut self, _: &[u32], _: &Self, _: Range<usize>) {}
    fn settle(&mut self) {}
    fn bytes(&self) -> usize {
        0
    }
}

impl WindowTable<Nothing> for Nothing {
    fn prepare(&mut self, _: usize, _: &[Log<Nothing>]) {}
    fn absorb(&mut self, _: &[u32], _: &Nothing, _: Range<usize>) {}
    fn expel(&mut self, _: &[u32], _: &Nothing, _: Range<usize>, _: bool) {}
    fn reset(&mut self, _: &[u32]) {}
    fn late(&mut self, _: &[Log<Nothing>], _: &[Run], _: &[Run], _: &[Run]) {}
    fn turn(&mut self, _: &mut [Log<Nothing>], _: &[Run], _: usize) {}
}

/// Sums of one integer.
#[derive(Clone)]
pub struct Sum(pub Vec<i64>);

impl States for Sum {
    fn empty(&self) -> Self {
        Sum(Vec::new())
    }
    fn admit(&mut self, _: &Self) {}
    fn fold(&mut self, at: &[u32], source: &Self, range: Range<usize>) {
        for (at, value) in at.iter().zip(&source.0[range]) {
            match self.0.get_mut(*at as usize) {
                Some(sum) => *sum += value,
                None => self.0.push(*value),
            }
        }
    }
    fn settle(&mut self) {
        self.0.shrink_to_fit();
    }
    fn bytes(&self) -> usize {
        self.0.capacity() * 8
    }
}

/// What a query came to: rows out, and a sum over `hash of (key, count)` that tells answers apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer {
    pub rows: u64,
    pub sum: u64,
}

impl Answer {
    /// Takes a row of a window.
    #[inline]
    pub fn row(&mut self, key: u64, count: u64) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(key.wrapping_mul(count | 1 << 32));
    }
}

struct Partition {
    groups: Groups<TypedKeys<u64>>,
    panes: PaneStore<Nothing>,
}

/// Counts records by key over the windows of `spec`, in 2 to the power of `bits` partitions.
pub fn count(times: &[i64], keys: &[u64], spec: WindowSpec, bits: u32) -> Answer {
    let new = || Partition { groups: Groups::new(TypedKeys::default()), panes: PaneStore::new(Nothing) };
    let mut partitions: Vec<Partition> = (0..1 << bits).map(|_| new()).collect();
    let (mut hashes, mut bucket_of, mut offsets, mut destination, mut ids) = (vec![], vec![], vec![], vec![], vec![]);
    let (mut sorted_keys, mut sorted_hashes) = (vec![0; BLOCK], vec![0; BLOCK]);
    let mut ones = Counts::default();
    ones.grow(BLOCK);
    ones.add_one_each();
    for (times, keys) in times.chunks(BLOCK).zip(keys.chunks(BLOCK)) {
        let mut from = 0;
        while from < keys.len() {
            // Records come in order, so a pane is a stretch of the block.
            let (pane, _, end) = spec.pane_of(times[from]);
            let to = from + times[from..].partition_point(|time| *time < end);
            let keys = &keys[from..to];
            hashes.clear();
            hashes.extend(keys.iter().map(|key| hash_word(*key)));
            let mut add = |partition: &mut Partition, keys: &[u64], hashes: &[u64], range: Range<usize>| {
                ids.clear();
                partition.groups.intern(keys, hashes, range.clone(), &mut ids);
                partition.panes.admit(&ones, &Nothing);
                partition.panes.add(pane, &ids, &ones, &Nothing, range);
                partition.panes.tidy();
            };
            if bits == 0 {
                add(&mut partitions[0], keys, &hashes, 0..keys.len());
            } else {
                bucket_of.clear();
                bucket_of.extend(hashes.iter().map(|hash| partition_of(*hash, bits)));
                counting_sort(&bucket_of, 1 << bits, &mut offsets, &mut destination);
                for ((key, hash), to) in keys.iter().zip(&hashes).zip(&destination) {
                    sorted_keys[*to as usize] = *key;
                    sorted_hashes[*to as usize] = *hash;
                }
                for (partition, ends) in partitions.iter_mut().zip(offsets.windows(2)) {
                    if ends[0] < ends[1] {
                        add(partition, &sorted_keys, &sorted_hashes, ends[0] as usize..ends[1] as usize);
                    }
                }
            }
            from = to;
        }
    }
    let mut answer = Answer::default();
    let mut live = Vec::new();
    for Partition { groups, panes } in partitions {
        let rank: Vec<u32> = (0..groups.capacity() as u32).collect();
        let mut panes = panes.seal(&rank);
        let mut slider = Slider::new(spec, Engine::Incremental, Nothing, groups.capacity(), &panes);
        let ranges: Vec<(i64, i64)> = panes.panes.iter().map(|pane| spec.windows_of(pane.0)).collect();
        for window in union(ranges).into_iter().flatten() {
            slider.advance(window, &mut panes);
            live.clear();
            slider.live().collect_into(&mut live);
            for id in &live {
                answer.row(*groups.keys().get(*id), slider.rows()[*id as usize]);
            }
        }
    }
    answer
}
