//! Folding records into panes of one second: in order, and displaced by up to a minute.
//!
//! As the engine does it: each block is ordered by pane with a counting sort, then its stretches are added to a
//! [`PaneStore`], which is sealed at the end. Keys are interned beforehand.

use crate::data::{Events, START_MICROS};
use crate::typed::{BLOCK, Sum};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use std::hint::black_box;
use windrow::core::counts::Counts;
use windrow::core::partition::counting_sort;
use windrow::core::{PaneStore, SealedPanes};

const RECORDS: usize = 8_000_000;
const SECONDS: usize = 600;
const LATE: i64 = 60_000_000;

/// Folds records that carry 1 each.
fn fold(panes: &[u32], ids: &[u32], ones: &(Counts, Sum), groups: usize) -> SealedPanes<Sum> {
    let mut store = PaneStore::new(Sum(Vec::new()));
    let (mut relative, mut offsets, mut destination) = (Vec::new(), Vec::new(), Vec::new());
    let mut sorted = vec![0; BLOCK];
    for (panes, ids) in panes.chunks(BLOCK).zip(ids.chunks(BLOCK)) {
        let (mut least, mut greatest) = (u32::MAX, 0);
        for pane in panes {
            least = least.min(*pane);
            greatest = greatest.max(*pane);
        }
        relative.clear();
        relative.extend(panes.iter().map(|pane| pane - least));
        counting_sort(&relative, (greatest - least) as usize + 1, &mut offsets, &mut destination);
        for (id, to) in ids.iter().zip(&destination) {
            sorted[*to as usize] = *id;
        }
        store.admit(&ones.0, &ones.1);
        for (pane, ends) in (i64::from(least)..).zip(offsets.windows(2)) {
            let range = ends[0] as usize..ends[1] as usize;
            if !range.is_empty() {
                store.add(pane, &sorted[range.clone()], &ones.0, &ones.1, range);
            }
        }
        store.tidy();
    }
    store.seal(&(0..groups as u32).collect::<Vec<_>>())
}

pub fn benches(c: &mut Criterion) {
    let mut ones = Counts::default();
    ones.grow(BLOCK);
    ones.add_one_each();
    let ones = (ones, Sum(vec![1; BLOCK]));
    let mut group = c.benchmark_group("panes");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::ElementsAndBytes { elements: RECORDS as u64, bytes: 16 * RECORDS as u64 });
    for (keys, name) in [(1_000, "1k keys"), (100_000, "100k keys")] {
        let ordered = Events::new(RECORDS, SECONDS, keys);
        let displaced = ordered.displaced(LATE);
        let mut cells = None;
        for (how, events) in [("in order", &ordered), ("displaced by 60 s", &displaced)] {
            let panes: Vec<u32> = events.times.iter().map(|time| ((time - START_MICROS) / 1_000_000) as u32).collect();
            // Keys are a bijection of small numbers; any dense numbering does.
            let mut known = std::collections::HashMap::new();
            let ids: Vec<u32> = (events.keys.iter())
                .map(|key| {
                    let next = known.len() as u32;
                    *known.entry(*key).or_insert(next)
                })
                .collect();
            let sealed = fold(&panes, &ids, &ones, keys);
            let count: usize = sealed.logs.iter().map(|log| log.ids.len()).sum();
            let records: u64 = sealed.logs.iter().flat_map(|log| (0..log.ids.len()).map(|at| log.rows.get(at))).sum();
            let total: i64 = sealed.logs.iter().flat_map(|log| &log.states.0).sum();
            assert_eq!((records, total), (RECORDS as u64, RECORDS as i64), "every record is in one cell");
            assert!(sealed.panes.is_sorted_by_key(|pane| pane.0));
            assert_eq!(*cells.get_or_insert(count), count, "order decides nothing");
            group.bench_function(BenchmarkId::new(how, name), |b| {
                b.iter_with_large_drop(|| fold(black_box(&panes), &ids, &ones, keys));
            });
        }
    }
    group.finish();
}
