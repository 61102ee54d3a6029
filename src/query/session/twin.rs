//! Random records, gaps and aggregates: sessions agree with a recomputation that sorts the records of each key.

use super::Session;
use crate::core::session::Span;
use crate::metrics::Ledger;
use crate::query::twin::{Key, Record, Setup, Want, Windows, check, key_of, record, run_with, same_cells};
use crate::query::{Engine, Query};
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

/// The same with a bound and a greatest distance ahead, records being judged one by one.
fn recompute_late(
    records: &[Record],
    gap: i64,
    keys: (bool, bool),
    (bound, most): (i64, Option<i64>),
) -> (Windows, Ledger) {
    let mut ledger = Ledger { read: records.len() as u64, ..Ledger::default() };
    let mut greatest: Option<i64> = None;
    let mut open: Vec<(Key, Span, Vec<usize>)> = Vec::new();
    let mut closed = Vec::new();
    for (number, r) in records.iter().enumerate() {
        if most.zip(greatest).is_some_and(|(most, greatest)| r.ts - greatest > most) {
            ledger.ahead += 1;
            continue;
        }
        let watermark = greatest.map_or(i64::MIN, |greatest| greatest - bound);
        greatest = greatest.max(Some(r.ts));
        closed.extend(open.extract_if(.., |session| watermark > session.1.last + gap));
        let touches = |s: &(Key, Span, Vec<usize>)| r.ts >= s.1.first - gap && r.ts <= s.1.last + gap;
        let key = key_of(r, keys);
        let touched: Vec<_> = open.extract_if(.., |session| session.0 == key && touches(session)).collect();
        if touched.is_empty() && watermark > r.ts + gap {
            ledger.late += 1;
            continue;
        }
        ledger.used += 1;
        let mut session = (key, Span::at(r.ts), vec![number]);
        for (_, span, numbers) in touched {
            session.1.extend(span);
            session.2.extend(numbers);
        }
        open.push(session);
    }
    closed.extend(open);
    let mut windows = Windows::new();
    for (key, span, mut numbers) in closed {
        numbers.sort_unstable();
        let want = Want::of(numbers.iter().map(|n| &records[*n]));
        assert!(windows.entry((span.last + gap, span.first)).or_default().insert(key, want).is_none());
    }
    (windows, ledger)
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
        memory in 100_000usize..4_000_000,
        // How far records are out of order.
        displaced in prop::sample::select(vec![0i64, 20, 200, 10_000]), shift in 0i64..10,
    ) {
        let place = |r: &Record| r.ts + (r.ts * 7919 + shift).rem_euclid(displaced + 1);
        records.sort_by_key(place);
        let want = recompute(&records, gap, keys);
        let sessions = |query: Query| query.session(Session::gap(gap).unwrap());
        let setup = Setup { engine: Engine::Incremental, naive: false, threads: 1, bits, cut, lateness: None, memory: None };
        let first = run_with(&records, keys, setup, sessions);
        if want.values().flat_map(|w| w.values()).any(Want::overflows) {
            let error = first.unwrap_err().to_string();
            prop_assert!(error.contains("sum_int") && error.contains("session that starts at"), "{}", error);
            return Ok(());
        }
        let first = first.unwrap().0;
        check(&first, &want, true, keys);
        prop_assert!(in_order(&first));
        // To the byte the same on other threads and partitions.
        for (threads, bits, cut) in [(3, bits, cut), (2, 6, 1), (8, 0, 1000)] {
            let (again, _) = run_with(&records, keys, Setup { threads, bits, cut, ..setup }, sessions).unwrap();
            same_cells(&first, &again);
        }
        // And with hardly any memory.
        for (threads, memory) in [(1, memory), (3, 1 << 16)] {
            let (spilled, _) =
                run_with(&records, keys, Setup { threads, memory: Some(memory), ..setup }, sessions).unwrap();
            same_cells(&first, &spilled);
        }
        // The same rows by sorting the cells, and the records.
        for (engine, naive) in [(Engine::Remerge, false), (Engine::Incremental, true)] {
            let (swept, _) = run_with(&records, keys, Setup { engine, naive, ..setup }, sessions).unwrap();
            check(&swept, &want, true, keys);
            prop_assert!(in_order(&swept));
        }
    }
    #[test]
    fn late_records_join_open_sessions_only(
        records in prop::collection::vec(record(), 0..160), drift in 0i64..20,
        gap in prop_oneof![1i64..10, 1i64..80],
        bound in prop_oneof![Just(0), 0i64..100, 0i64..600], most in prop::option::weighted(0.3, 50i64..400),
        keys in any::<(bool, bool)>(), cut in 1usize..40, bits in 0u32..4,
    ) {
        // Time goes on, so that sessions close along the way.
        let mut records = records;
        records.iter_mut().zip(0..).for_each(|(record, i)| record.ts = record.ts / 4 + drift * i);
        let lateness = (bound, most);
        let (want, ledger) = recompute_late(&records, gap, keys, lateness);
        prop_assume!(!want.values().flat_map(|w| w.values()).any(Want::overflows));
        let sessions = |query: Query| query.session(Session::gap(gap).unwrap());
        let lateness = Some(lateness);
        let setup = Setup { engine: Engine::Incremental, naive: false, threads: 1, bits, cut, lateness, memory: None };
        let (first, counted) = run_with(&records, keys, setup, sessions).unwrap();
        prop_assert_eq!(counted, ledger);
        check(&first, &want, true, keys);
        prop_assert!(in_order(&first));
        for (threads, bits, cut) in [(3, bits, cut), (2, 6, 1), (8, 0, 1000)] {
            let (again, counted) =
                run_with(&records, keys, Setup { threads, bits, cut, ..setup }, sessions).unwrap();
            prop_assert_eq!(counted, ledger);
            same_cells(&first, &again);
        }
        for other in [Setup { engine: Engine::Remerge, ..setup }, Setup { naive: true, ..setup }] {
            let (rows, counted) = run_with(&records, keys, other, sessions).unwrap();
            check(&rows, &want, true, keys);
            prop_assert!(in_order(&rows));
            prop_assert_eq!(counted, ledger);
        }
    }
}

/// A record that is too far ahead brings its whole block to be judged record by record, also if it is the first and alone in
/// its piece: else the bits of a variance would depend on how batches are cut.
#[test]
fn a_block_is_judged_whole_however_it_is_cut() {
    let of = |ts, float| Record { ts, key: Some(1), name: None, int: None, float: Some(float) };
    // Blocks of 16 rows, of which the second folds several records into a session that is there.
    let mut records: Vec<Record> = (0..32).map(|i| of(i * 3 % 11, (i * 7919 % 1009) as f64 / 7.0)).collect();
    records[16] = of(1_000_000, 0.0);
    let lateness = Some((1000, Some(500)));
    let setup =
        Setup { engine: Engine::Incremental, naive: false, threads: 1, bits: 0, cut: 16, lateness, memory: None };
    let sessions = |query: Query| query.session(Session::gap(50).unwrap());
    let (whole, ledger) = run_with(&records, (true, false), setup, sessions).unwrap();
    let (cut, again) = run_with(&records, (true, false), Setup { cut: 1, ..setup }, sessions).unwrap();
    assert_eq!((ledger.ahead, again.ahead), (1, 1));
    same_cells(&whole, &cut);
}
