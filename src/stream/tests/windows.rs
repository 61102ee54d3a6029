//! Windows against their definition.

use super::{ms, run, sorted};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Batches = Vec<Vec<(u8, i64)>>;

fn batches() -> impl Strategy<Value = Batches> {
    prop::collection::vec(prop::collection::vec((0u8..6, 0i64..100), 0..9), 1..25)
}

/// The batches of each window, by its time.
fn windows<T>(batches: &[T], window: u64, slide: u64) -> Vec<(u64, &[T])> {
    let times = (1..=batches.len() as u64).filter(|t| t % slide == 0);
    times.map(|t| (t, &batches[t.saturating_sub(window) as usize..t as usize])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn reductions_say_what_recomputation_says(
        batches in batches(), window in 1u64..9, slide in 1u64..5, threads in prop::sample::select(vec![1usize, 3]),
    ) {
        let texts: Vec<Vec<(u8, String)>> =
            batches.iter().map(|b| b.iter().map(|(k, v)| (*k, format!("{v},"))).collect()).collect();
        // Strings show the order of reductions.
        let without = sorted(run(threads, &texts, |s| {
            s.reduce_by_key_and_window_without_inverse(|a, b| format!("{a}{b}"), ms(window), ms(slide))
        }));
        let groups = sorted(run(threads, &batches, |s| s.group_by_key_and_window(ms(window), ms(slide))));
        let with = sorted(run(threads, &batches, |s| {
            s.reduce_by_key_and_window(|a, b| a + b, |a, b| a - b, ms(window), ms(slide))
        }));
        let ones: Vec<Vec<(u8, u64)>> = batches.iter().map(|b| b.iter().map(|r| (r.0, 1)).collect()).collect();
        let filtered = sorted(run(threads, &ones, |s| {
            s.reduce_by_key_and_window_filtered(|a, b| a + b, |a, b| a - b, ms(window), ms(slide), |r| r.1 > 0)
        }));
        let counts = sorted(run(threads, &batches, |s| {
            s.map(|r| r.0).count_by_value_and_window(ms(window), ms(slide))
        }));
        let all = sorted(run(threads, &batches, |s| s.window(ms(window), ms(slide))));
        let count = run(threads, &batches, |s| s.count_by_window(ms(window), ms(slide)));
        let windows = windows(&batches, window, slide);
        prop_assert_eq!(with.len(), windows.len());
        for (i, (time, inside)) in windows.into_iter().enumerate() {
            let mut by_key: BTreeMap<u8, Vec<i64>> = BTreeMap::new();
            inside.iter().flatten().for_each(|(k, v)| by_key.entry(*k).or_default().push(*v));
            let text = |all: &Vec<i64>| all.iter().map(|v| format!("{v},")).collect::<String>();
            let want: Vec<_> = by_key.iter().map(|(k, all)| (*k, text(all))).collect();
            prop_assert_eq!(&without[i], &(time, want));
            let want: Vec<_> = by_key.iter().map(|(k, all)| (*k, all.clone())).collect();
            prop_assert_eq!(&groups[i], &(time, want));
            // With an inverse a key that left may still be there, with nothing.
            let sums: BTreeMap<u8, i64> = with[i].1.iter().copied().collect();
            prop_assert_eq!(sums.len(), with[i].1.len());
            for (key, sum) in &sums {
                prop_assert_eq!(*sum, by_key.get(key).map_or(0, |all| all.iter().sum()));
            }
            prop_assert!(by_key.keys().all(|key| sums.contains_key(key)));
            let want: Vec<_> = by_key.iter().map(|(k, all)| (*k, all.len() as u64)).collect();
            prop_assert_eq!(&filtered[i], &(time, want.clone()));
            prop_assert_eq!(&counts[i], &(time, want));
            let mut want: Vec<_> = inside.iter().flatten().copied().collect();
            prop_assert_eq!(&count[i], &(time, vec![want.len() as u64]));
            want.sort_unstable();
            prop_assert_eq!(&all[i], &(time, want));
        }
    }

    /// A filter may drop keys that still have records in the window: they begin anew.
    #[test]
    fn a_dropped_key_begins_anew(
        batches in prop::collection::vec(prop::collection::vec((0u8..3, 1i64..4), 0..4), 1..30),
        window in 1u64..6, slide in 1u64..3, most in 3i64..9,
    ) {
        let got = sorted(run(1, &batches, |s| {
            s.reduce_by_key_and_window_filtered(|a, b| a + b, |a, b| a - b, ms(window), ms(slide), move |r| r.1 < most)
        }));
        let mut dropped: BTreeMap<u8, usize> = BTreeMap::new();
        let mut known: BTreeMap<u8, bool> = BTreeMap::new();
        let mut want = Vec::new();
        for (time, inside) in windows(&batches, window, slide) {
            let first = time as usize - inside.len();
            let mut sums: BTreeMap<u8, i64> = known.iter().filter(|k| *k.1).map(|(k, _)| (*k, 0)).collect();
            for (at, batch) in inside.iter().enumerate() {
                for (key, value) in batch {
                    if dropped.get(key).is_none_or(|since| first + at >= *since) {
                        *sums.entry(*key).or_default() += value;
                    }
                }
            }
            let mut rows = Vec::new();
            for (key, sum) in sums {
                known.insert(key, sum < most);
                if sum < most {
                    rows.push((key, sum));
                } else {
                    dropped.insert(key, time as usize);
                }
            }
            want.push((time, rows));
        }
        prop_assert_eq!(got, want);
    }
}

#[test]
fn windows_over_windows() {
    let batches: Vec<Vec<u64>> = (1..=12).map(|n| vec![n]).collect();
    let got = run(1, &batches, |s| s.window(ms(2), ms(2)).window(ms(4), ms(4)).reduce(|a, b| a + b));
    assert_eq!(got, [(4, vec![10]), (8, vec![26]), (12, vec![42])]);
    let sums = run(1, &batches, |s| s.reduce_by_window(|a, b| a + b, |a, b| a - b, ms(4), ms(2)));
    assert_eq!(sums.iter().map(|w| w.1[0]).collect::<Vec<_>>(), [3, 10, 18, 26, 34, 42]);
    let most = run(1, &batches, |s| s.reduce_by_window_without_inverse(|a, b| *a.max(b), ms(3), ms(1)));
    assert_eq!(most.iter().map(|w| w.1[0]).collect::<Vec<_>>(), (1..=12).collect::<Vec<_>>());
    // Over a state whose batches nobody reads at once.
    let total = |values: Vec<u64>, sum: Option<u64>| Some(sum.unwrap_or(0) + values.iter().sum::<u64>());
    let twos = |s: &crate::stream::DStream<u64>| s.map(|n| ((), n)).update_state_by_key(total).map(|row| row.1);
    let rare = run(1, &batches[..4], |s| twos(s).window(ms(2), ms(2)).reduce(|a, b| a + b));
    assert_eq!(rare, [(2, vec![1 + 3]), (4, vec![6 + 10])]);
    let last = run(1, &batches[..4], |s| twos(s).reduce_by_window_without_inverse(|_, b| *b, ms(2), ms(2)));
    assert_eq!(last, [(2, vec![3]), (4, vec![10])]);
    let none: Vec<Vec<u64>> = vec![vec![]; 3];
    assert!(run(1, &none, |s| s.reduce(|a, b| a + b)).iter().all(|batch| batch.1.is_empty()));
    assert_eq!(run(1, &none, |s| s.count()), [(1, vec![0]), (2, vec![0]), (3, vec![0])]);
}
