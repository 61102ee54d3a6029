//! Random records, gaps and aggregates: sessions agree with a recomputation that sorts the records of each key.

use super::Session;
use crate::query::Engine;
use crate::query::twin::{Key, Record, Setup, Want, Windows, cells, check, key_of, record, run_with};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// The sessions of the definition.
fn recompute(records: &[Record], gap: i64, keys: (bool, bool)) -> Windows {
    let mut of_keys: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (number, r) in records.iter().enumerate() {
        of_keys.entry(key_of(r, keys)).or_default().push(number);
    }
    let mut windows = Windows::new();
    for (key, mut numbers) in of_keys {
        numbers.sort_by_key(|n| records[*n].ts);
        for session in numbers.chunk_by(|a, b| records[*b].ts - records[*a].ts <= gap) {
            let (first, last) = (records[session[0]].ts, records[session[session.len() - 1]].ts);
            let mut session = session.to_vec();
            session.sort_unstable();
            let want = Want::of(session.iter().map(|n| &records[*n]));
            assert!(windows.entry((last + gap, first)).or_default().insert(key.clone(), want).is_none());
        }
    }
    windows
}

/// Sessions in the order of their ends, then starts.
fn in_order(batches: &[RecordBatch]) -> bool {
    let times = |column: usize| -> Vec<i64> {
        batches
            .iter()
            .flat_map(|b| b.column(column).as_primitive::<TimestampMicrosecondType>().values())
            .copied()
            .collect()
    };
    times(1).into_iter().zip(times(0)).is_sorted()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn sessions_equal_recomputation(
        mut records in prop::collection::vec(record(), 0..120),
        gap in prop_oneof![1i64..10, 1i64..80], keys in any::<(bool, bool)>(), cut in 1usize..40, bits in 0u32..4,
        // How far records are out of order.
        displaced in prop::sample::select(vec![0i64, 20, 200, 10_000]), shift in 0i64..10,
    ) {
        let place = |r: &Record| r.ts + (r.ts * 7919 + shift).rem_euclid(displaced + 1);
        records.sort_by_key(place);
        let want = recompute(&records, gap, keys);
        let sessions = |query: crate::query::Query| query.session(Session::gap(gap).unwrap());
        let setup = Setup { engine: Engine::Incremental, naive: false, threads: 1, bits, cut };
        let first = run_with(&records, keys, setup, sessions);
        if want.values().flat_map(|w| w.values()).any(Want::overflows) {
            let error = first.unwrap_err().to_string();
            prop_assert!(error.contains("sum_int") && error.contains("session that starts at"), "{}", error);
            return Ok(());
        }
        let first = first.unwrap();
        check(&first, &want, true, keys);
        prop_assert!(in_order(&first));
        // To the byte the same on other threads and partitions.
        for (threads, bits, cut) in [(3, bits, cut), (2, 6, 1), (8, 0, 1000)] {
            let again = run_with(&records, keys, Setup { threads, bits, cut, ..setup }, sessions).unwrap();
            prop_assert_eq!(cells(&first), cells(&again));
        }
        // The same rows by sorting the cells, and the records.
        for (engine, naive) in [(Engine::Remerge, false), (Engine::Incremental, true)] {
            let swept = run_with(&records, keys, Setup { engine, naive, ..setup }, sessions).unwrap();
            check(&swept, &want, true, keys);
            prop_assert!(in_order(&swept));
        }
    }
}
