//! Random records, windows and aggregates: the engines agree with a recomputation that knows nothing of panes.
//!
//! A unit test, because only here blocks, logs and batches are tiny, so that a few records go through many of them.

use super::aggregates::coupons::{coupon, estimate};
use super::{Agg, Engine, Query, Window};
use crate::hash::{hash_bytes, hash_word};
use crate::metrics::Ledger;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A record: time, a number key, a text key, an integer, a float.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) ts: i64,
    pub(super) key: Option<i64>,
    pub(super) name: Option<String>,
    pub(super) int: Option<i64>,
    pub(super) float: Option<f64>,
}

pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("key", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("int", DataType::Int64, true),
        Field::new("float", DataType::Float64, true),
    ]))
}

pub(super) fn batch(records: &[Record]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(records.iter().map(|r| Some(r.ts)).collect::<TimestampMicrosecondArray>()),
        Arc::new(records.iter().map(|r| r.key).collect::<Int64Array>()),
        Arc::new(records.iter().map(|r| r.name.clone()).collect::<StringArray>()),
        Arc::new(records.iter().map(|r| r.int).collect::<Int64Array>()),
        Arc::new(records.iter().map(|r| r.float).collect::<Float64Array>()),
    ];
    RecordBatch::try_new(schema(), columns).unwrap()
}

pub(super) fn record() -> impl Strategy<Value = Record> {
    let float = prop_oneof![
        6 => (-1000i32..1000).prop_map(|v| f64::from(v) / 8.0),
        1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, -0.0, 0.0]),
    ];
    (
        -300i64..300,
        prop::option::weighted(0.9, 0i64..6),
        prop::option::weighted(0.9, prop::sample::select(vec!["", "a", "b", "ccccccccccccccccccccccccccc", "ä"])),
        prop::option::weighted(0.8, prop_oneof![8 => -100i64..100, 1 => Just(i64::MAX / 3)]),
        prop::option::weighted(0.8, float),
    )
        .prop_map(|(ts, key, name, int, float)| Record { ts, key, name: name.map(str::to_owned), int, float })
}

/// What a window holds of one key, recomputed from its records.
#[derive(Debug, Default, Clone)]
pub(super) struct Want {
    rows: i64,
    ints: Vec<i64>,
    floats: Vec<f64>,
    names: Vec<String>,
    positive: i64,
    /// In the order of the input.
    records: Vec<Record>,
}

impl Want {
    fn add(&mut self, r: &Record) {
        self.rows += 1;
        self.ints.extend(r.int);
        self.floats.extend(r.float);
        self.names.extend(r.name.clone());
        self.records.push(r.clone());
        self.positive += i64::from(r.int.is_some_and(|v| v > 0));
    }

    /// Whether the sum of its integers is an error.
    pub(super) fn overflows(&self) -> bool {
        i64::try_from(self.ints.iter().map(|v| i128::from(*v)).sum::<i128>()).is_err()
    }

    /// Of some records, in the order of the input.
    pub(super) fn of<'a>(records: impl IntoIterator<Item = &'a Record>) -> Want {
        let mut want = Want::default();
        records.into_iter().for_each(|r| want.add(r));
        want
    }
}

pub(super) type Key = (Option<i64>, Option<String>);
/// By end and start.
pub(super) type Windows = BTreeMap<(i64, i64), BTreeMap<Key, Want>>;

/// The key of a record, if its number and text are asked for.
pub(super) fn key_of(r: &Record, keys: (bool, bool)) -> Key {
    (r.key.filter(|_| keys.0), r.name.clone().filter(|_| keys.1))
}

fn recompute(records: &[Record], length: i64, slide: i64, offset: i64, keys: (bool, bool)) -> Windows {
    recompute_late(records, (length, slide, offset), keys, None).0
}

/// With a bound and a greatest distance ahead, records are judged one by one; what became of them is counted.
fn recompute_late(
    records: &[Record],
    (length, slide, offset): (i64, i64, i64),
    keys: (bool, bool),
    lateness: Option<(i64, Option<i64>)>,
) -> (Windows, Ledger) {
    let mut windows = Windows::new();
    let mut ledger = Ledger { read: records.len() as u64, ..Ledger::default() };
    let mut greatest: Option<i64> = None;
    for r in records {
        let watermark = match (lateness, greatest) {
            (Some((bound, most)), Some(greatest)) => {
                if most.is_some_and(|most| r.ts - greatest > most) {
                    ledger.ahead += 1;
                    continue;
                }
                greatest - bound
            }
            _ => i64::MIN,
        };
        greatest = greatest.max(Some(r.ts));
        let (mut all, mut open) = (0, 0);
        let nearest = (r.ts - offset).div_euclid(slide);
        for n in nearest - length / slide - 2..=nearest + 2 {
            let (start, end) = (offset + n * slide, offset + n * slide + length);
            if !(start <= r.ts && r.ts < end) {
                continue;
            }
            all += 1;
            if end <= watermark {
                continue;
            }
            open += 1;
            windows.entry((end, start)).or_default().entry(key_of(r, keys)).or_default().add(r);
        }
        *match (all, open) {
            (0, _) => &mut ledger.outside,
            (_, 0) => &mut ledger.late,
            _ => &mut ledger.used,
        } += 1;
    }
    (windows, ledger)
}

const AGGREGATES: &str = "count, count(int), sum(int), avg(int), min(int), max(int), count(float), sum(float), avg(float), \
     min(float), max(float), min(name), max(name), count_if(int > 0) as positive, \
     distinct(int), distinct(float), distinct(name), approx_distinct(float), approx_distinct(name), \
     p50(int), quantile(float, 0.25), p99(float), var(float), stddev(int), \
     first(int), last(int), first(float), last(float), first(name), last(name)";

#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) engine: Engine,
    pub(super) naive: bool,
    pub(super) threads: usize,
    pub(super) bits: u32,
    pub(super) cut: usize,
    pub(super) lateness: Option<(i64, Option<i64>)>,
    /// The memory limit, for runs that spill.
    pub(super) memory: Option<usize>,
}

fn run(
    records: &[Record],
    window: Option<(i64, i64, i64)>,
    keys: (bool, bool),
    setup: Setup,
) -> Result<Vec<RecordBatch>, crate::Error> {
    Ok(run_counted(records, window, keys, setup)?.0)
}

fn run_counted(
    records: &[Record],
    window: Option<(i64, i64, i64)>,
    keys: (bool, bool),
    setup: Setup,
) -> Result<(Vec<RecordBatch>, Ledger), crate::Error> {
    run_with(records, keys, setup, |query| match window {
        Some((length, slide, offset)) => query.window(Window::sliding(length, slide, offset).unwrap()),
        None => query,
    })
}

/// All aggregates over `records`, by the windows that `windows` adds.
pub(super) fn run_with(
    records: &[Record],
    keys: (bool, bool),
    setup: Setup,
    windows: impl FnOnce(Query) -> Query,
) -> Result<(Vec<RecordBatch>, Ledger), crate::Error> {
    let batches: Vec<_> = records.chunks(setup.cut).map(|c| Ok(batch(c))).collect();
    let mut query = Query::batches(schema(), batches)
        .engine(setup.engine)
        .naive(setup.naive)
        .threads(setup.threads)
        .partition_bits(setup.bits);
    if keys.0 {
        query = query.key("key");
    }
    if keys.1 {
        query = query.key("name");
    }
    query = windows(query);
    for aggregate in Agg::parse_list(AGGREGATES).unwrap() {
        query = query.aggregate(aggregate);
    }
    if let Some((bound, most)) = setup.lateness {
        query = query.lateness(bound);
        if let Some(most) = most {
            query = query.max_ahead(most);
        }
    }
    let spills = tempfile::tempdir().unwrap();
    if let Some(memory) = setup.memory {
        query = query.memory(memory).spill_dir(spills.path());
    }
    let mut rows = query.run()?;
    let planned = rows.schema();
    let batches = rows.by_ref().collect::<Result<Vec<_>, _>>()?;
    assert!(batches.iter().all(|b| b.schema() == planned));
    let statistics = rows.statistics();
    if setup.memory.is_some_and(|memory| memory < 1 << 17) && !setup.naive && statistics.ledger.used > 0 {
        assert!(statistics.spilled_bytes > 0);
    }
    drop(rows);
    assert_eq!(std::fs::read_dir(spills.path()).unwrap().count(), 0);
    Ok((batches, statistics.ledger))
}

/// Every cell as text, so that runs can be compared to the bit.
fn cells(batches: &[RecordBatch]) -> Vec<String> {
    let mut rows = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let cell = |c: &ArrayRef| {
                if c.is_null(row) {
                    "null".into()
                } else if let Some(f) = c.as_primitive_opt::<Float64Type>() {
                    let v = f.value(row);
                    if v.is_nan() { "NaN".into() } else { format!("{:016x}", v.to_bits()) }
                } else if let Some(t) = c.as_primitive_opt::<TimestampMicrosecondType>() {
                    t.value(row).to_string()
                } else {
                    arrow_cast::display::array_value_to_string(c, row).unwrap()
                }
            };
            rows.push(batch.columns().iter().map(cell).collect::<Vec<_>>().join("|"));
        }
    }
    rows
}

/// Panics at the first row that differs.
pub(super) fn same_cells(a: &[RecordBatch], b: &[RecordBatch]) {
    let (a, b) = (cells(a), cells(b));
    for (row, (a, b)) in a.iter().zip(&b).enumerate() {
        assert_eq!(a, b, "row {row}");
    }
    assert_eq!(a.len(), b.len());
}

fn close(got: Option<f64>, want: Option<f64>, scale: f64, what: &str) {
    match (got, want) {
        (None, None) => {}
        (Some(g), Some(w)) if g.is_nan() && w.is_nan() || g == w => {}
        (Some(g), Some(w)) if (g - w).abs() <= 1e-9 * scale => {}
        other => panic!("{what}: {other:?} with magnitudes {scale}"),
    }
}

pub(super) fn check(batches: &[RecordBatch], windows: &Windows, windowed: bool, keys: (bool, bool)) {
    let mut rows = 0;
    for batch in batches {
        let mut columns = batch.columns().iter();
        let mut next = || columns.next().unwrap();
        let bounds = windowed.then(|| (next().clone(), next().clone()));
        let key = keys.0.then(|| next().clone());
        let name = keys.1.then(|| next().clone());
        let rest: Vec<ArrayRef> = columns.cloned().collect();
        let int = |c: usize, row: usize| {
            let a = rest[c].as_primitive::<Int64Type>();
            a.is_valid(row).then(|| a.value(row))
        };
        let float = |c: usize, row: usize| {
            let a = rest[c].as_primitive::<Float64Type>();
            a.is_valid(row).then(|| a.value(row))
        };
        let text = |a: &ArrayRef, row: usize| a.is_valid(row).then(|| a.as_string::<i32>().value(row).to_owned());
        for row in 0..batch.num_rows() {
            let at = |a: &ArrayRef| a.as_primitive::<TimestampMicrosecondType>().value(row);
            let window = bounds.as_ref().map_or((i64::MAX, i64::MIN), |(s, e)| (at(e), at(s)));
            let k = key.as_ref().and_then(|a| a.is_valid(row).then(|| a.as_primitive::<Int64Type>().value(row)));
            let id = (k, name.as_ref().and_then(|a| text(a, row)));
            let want = windows
                .get(&window)
                .and_then(|w| w.get(&id))
                .unwrap_or_else(|| panic!("no such row: {window:?} {id:?}"));
            assert_eq!(int(0, row), Some(want.rows));
            assert_eq!(int(1, row), Some(want.ints.len() as i64));
            let some = |v: i64| (!want.ints.is_empty()).then_some(v);
            assert_eq!(int(2, row), some(want.ints.iter().map(|v| i128::from(*v)).sum::<i128>() as i64));
            close(
                float(3, row),
                some(0).map(|_| want.ints.iter().map(|v| i128::from(*v)).sum::<i128>() as f64 / want.ints.len() as f64),
                1e18,
                "avg(int)",
            );
            assert_eq!(int(4, row), want.ints.iter().min().copied());
            assert_eq!(int(5, row), want.ints.iter().max().copied());
            assert_eq!(int(6, row), Some(want.floats.len() as i64));
            let scale: f64 = want.floats.iter().map(|v| v.abs()).sum();
            let sum = (!want.floats.is_empty()).then(|| want.floats.iter().sum::<f64>());
            close(float(7, row), sum, scale, "sum(float)");
            close(float(8, row), sum.map(|s| s / want.floats.len() as f64), scale, "avg(float)");
            // NaN after every number, −0 before 0.
            let order = |a: &&f64, b: &&f64| a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b));
            let bits = |v: Option<f64>| v.map(|v| if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() });
            assert_eq!(bits(float(9, row)), bits(want.floats.iter().min_by(order).copied()));
            assert_eq!(bits(float(10, row)), bits(want.floats.iter().max_by(order).copied()));
            assert_eq!(text(&rest[11], row), want.names.iter().min().cloned());
            assert_eq!(text(&rest[12], row), want.names.iter().max().cloned());
            assert_eq!(int(13, row), Some(want.positive));
            more(&rest[14..], row, want);
            rows += 1;
        }
    }
    assert_eq!(rows, windows.values().map(BTreeMap::len).sum::<usize>());
}

/// The aggregates behind the first fourteen.
fn more(columns: &[ArrayRef], row: usize, want: &Want) {
    let int = |c: usize| {
        let a = columns[c].as_primitive::<Int64Type>();
        a.is_valid(row).then(|| a.value(row))
    };
    let float = |c: usize| {
        let a = columns[c].as_primitive::<Float64Type>();
        a.is_valid(row).then(|| a.value(row))
    };
    let text = |c: usize| {
        let a = columns[c].as_string::<i32>();
        a.is_valid(row).then(|| a.value(row).to_owned())
    };
    let bits = |v: f64| if v.is_nan() { f64::NAN.to_bits() } else { (v + 0.0).to_bits() };
    let ints: BTreeSet<i64> = want.ints.iter().copied().collect();
    let floats: BTreeSet<u64> = want.floats.iter().map(|v| bits(*v)).collect();
    let names: BTreeSet<&String> = want.names.iter().collect();
    let distinct = |n: usize| Some(n as i64);
    assert_eq!((int(0), int(1), int(2)), (distinct(ints.len()), distinct(floats.len()), distinct(names.len())));
    // Of equal coupons one is counted, so the estimate is that of the set of them: to the last digit.
    let drawn = |hashes: &mut dyn Iterator<Item = u64>| hashes.map(coupon).collect::<BTreeSet<_>>().len() as u32;
    let float_coupons = drawn(&mut floats.iter().map(|v| hash_word(*v)));
    let name_coupons = drawn(&mut names.iter().map(|v| hash_bytes(v.as_bytes())));
    assert_eq!((int(3), int(4)), (Some(estimate(float_coupons)), Some(estimate(name_coupons))));
    let mut sorted = want.floats.clone();
    sorted.sort_by(|a, b| a.is_nan().cmp(&b.is_nan()).then(a.total_cmp(b)));
    let mut sorted_ints: Vec<f64> = want.ints.iter().map(|v| *v as f64).collect();
    sorted_ints.sort_by(f64::total_cmp);
    for (c, sorted, q) in [(5, &sorted_ints, 50), (6, &sorted, 25), (7, &sorted, 99)] {
        let exact = sorted.len().checked_sub(1).map(|last| sorted[last * q / 100]);
        match (float(c), exact) {
            (None, None) => {}
            (Some(got), Some(want)) if got == want || got.is_nan() && want.is_nan() => {}
            (Some(got), Some(want)) if (got - want).abs() <= 0.01 * want.abs() && want.is_finite() => {}
            other => panic!("quantile {q}: {other:?} of {sorted:?}"),
        }
    }
    for (c, values, root) in [(8, &want.floats, false), (9, &sorted_ints, true)] {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
        let exact = (values.len() >= 2).then_some(if root { variance.sqrt() } else { variance });
        match (float(c), exact) {
            (None, None) => {}
            // Squares of huge values leave the range, in one order of operations earlier than in another.
            (Some(got), Some(want)) if !got.is_finite() && !want.is_finite() => {}
            (Some(got), Some(want)) if (got - want).abs() <= 1e-6 * want.abs() + 1e-9 => {}
            other => panic!("variance: {other:?} of {values:?}"),
        }
    }
    // `max_by_key` gives the last of several, `min_by_key` the first.
    fn first<T>(records: &[Record], value: impl Fn(&Record) -> Option<T>) -> Option<T> {
        records.iter().filter(|r| value(r).is_some()).min_by_key(|r| r.ts).and_then(value)
    }
    fn last<T>(records: &[Record], value: impl Fn(&Record) -> Option<T>) -> Option<T> {
        records.iter().filter(|r| value(r).is_some()).max_by_key(|r| r.ts).and_then(value)
    }
    let records = &want.records[..];
    assert_eq!((int(10), int(11)), (first(records, |r| r.int), last(records, |r| r.int)));
    let same = |v: Option<f64>| v.map(f64::to_bits);
    let edges = (first(records, |r| r.float), last(records, |r| r.float));
    assert_eq!((same(float(12)), same(float(13))), (same(edges.0), same(edges.1)));
    let edges = (first(records, |r| r.name.clone()), last(records, |r| r.name.clone()));
    assert_eq!((text(14), text(15)), edges);
}

/// Windows in the order of their ends.
fn in_order(batches: &[RecordBatch]) -> bool {
    let ends: Vec<i64> =
        batches.iter().flat_map(|b| b.column(1).as_primitive::<TimestampMicrosecondType>().values().to_vec()).collect();
    ends.is_sorted()
}

fn overflow_is_told(ran: Result<Vec<RecordBatch>, crate::Error>) -> Result<(), TestCaseError> {
    let error = ran.unwrap_err();
    prop_assert!(error.to_string().contains("sum_int"), "{}", error);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn every_engine_equals_recomputation(
        records in prop::collection::vec(record(), 0..120),
        length in 1i64..120, slide in 1i64..60, offset in -70i64..70,
        keys in any::<(bool, bool)>(),
        cut in 1usize..40, bits in 0u32..4, memory in 100_000usize..4_000_000,
    ) {
        let want = recompute(&records, length, slide, offset, keys);
        let window = Some((length, slide, offset));
        let overflows = want.values().flat_map(|w| w.values()).any(Want::overflows);
        let setup = Setup { engine: Engine::Incremental, naive: false, threads: 1, bits, cut, lateness: None, memory: None };
        let first = run(&records, window, keys, setup);
        if overflows {
            return overflow_is_told(first);
        }
        let first = first.unwrap();
        check(&first, &want, true, keys);
        prop_assert!(in_order(&first));
        // To the byte the same on other threads, partitions and batches.
        for (threads, bits, cut) in [(3, bits, cut), (2, 6, 1), (8, 0, 1000)] {
            let again = run(&records, window, keys, Setup { threads, bits, cut, ..setup }).unwrap();
            same_cells(&first, &again);
        }
        // And with hardly any memory.
        for (threads, memory) in [(1, memory), (3, 1 << 16)] {
            let spilled = run(&records, window, keys, Setup { threads, memory: Some(memory), ..setup }).unwrap();
            same_cells(&first, &spilled);
        }
        // The same rows by other ways.
        let remerged = run(&records, window, keys, Setup { engine: Engine::Remerge, ..setup }).unwrap();
        check(&remerged, &want, true, keys);
        let naive = run(&records, window, keys, Setup { naive: true, ..setup }).unwrap();
        check(&naive, &want, true, keys);
    }

    #[test]
    fn late_records_count_in_the_windows_that_are_open(
        records in prop::collection::vec(record(), 0..160), drift in 0i64..20,
        length in 1i64..120, slide in 1i64..60, offset in -70i64..70,
        bound in prop_oneof![Just(0), 0i64..100, 0i64..600], most in prop::option::weighted(0.3, 50i64..400),
        keys in any::<(bool, bool)>(),
        cut in 1usize..40, bits in 0u32..4,
    ) {
        // Time goes on, so that windows close along the way.
        let ahead = |(i, record): (usize, Record)| Record { ts: record.ts / 4 + drift * i as i64, ..record };
        let records: Vec<Record> = records.into_iter().enumerate().map(ahead).collect();
        let lateness = Some((bound, most));
        let (want, ledger) = recompute_late(&records, (length, slide, offset), keys, lateness);
        let overflows = want.values().flat_map(|w| w.values()).any(Want::overflows);
        prop_assume!(!overflows);
        let window = Some((length, slide, offset));
        let setup = Setup { engine: Engine::Incremental, naive: false, threads: 1, bits, cut, lateness, memory: None };
        let (first, counted) = run_counted(&records, window, keys, setup).unwrap();
        prop_assert_eq!(counted, ledger);
        check(&first, &want, true, keys);
        prop_assert!(in_order(&first));
        for (threads, bits, cut) in [(3, bits, cut), (2, 6, 1), (8, 0, 1000)] {
            let (again, counted) = run_counted(&records, window, keys, Setup { threads, bits, cut, ..setup }).unwrap();
            prop_assert_eq!(counted, ledger);
            check(&again, &want, true, keys);
            same_cells(&first, &again);
        }
        for other in [Setup { engine: Engine::Remerge, ..setup }, Setup { naive: true, ..setup }] {
            let (rows, counted) = run_counted(&records, window, keys, other).unwrap();
            check(&rows, &want, true, keys);
            prop_assert_eq!(counted, ledger);
        }
    }

    #[test]
    fn a_group_by_without_windows_equals_recomputation(
        records in prop::collection::vec(record(), 0..120), keys in any::<(bool, bool)>(), cut in 1usize..40,
    ) {
        let mut want = Windows::new();
        for (_, groups) in recompute(&records, 2000, 2000, -1000, keys) {
            want.insert((i64::MAX, i64::MIN), groups);
        }
        let overflows = want.values().flat_map(|w| w.values()).any(Want::overflows);
        let setup = Setup { engine: Engine::Incremental, naive: false, threads: 2, bits: 2, cut, lateness: None, memory: None };
        let first = run(&records, None, keys, setup);
        if overflows {
            return overflow_is_told(first);
        }
        let first = first.unwrap();
        check(&first, &want, false, keys);
        same_cells(&first, &run(&records, None, keys, Setup { memory: Some(1 << 16), ..setup }).unwrap());
        check(&run(&records, None, keys, Setup { naive: true, ..setup }).unwrap(), &want, false, keys);
    }
}

/// What left a window leaves no trace, for keys that stay live all the time.
#[test]
fn no_trace_of_what_has_left() {
    let mut records = Vec::new();
    for ts in 0..200 {
        let float = match ts {
            20 => 1e300,
            60 => f64::NAN,
            100 => f64::INFINITY,
            140 => f64::NEG_INFINITY,
            _ => 0.1 * ts as f64,
        };
        records.push(Record { ts, key: Some(1), name: None, int: Some(1), float: Some(float) });
    }
    let want = recompute(&records, 10, 1, 0, (true, false));
    let setup =
        Setup { engine: Engine::Incremental, naive: false, threads: 2, bits: 1, cut: 7, lateness: None, memory: None };
    let batches = run(&records, Some((10, 1, 0)), (true, false), setup).unwrap();
    // `check` compares with the magnitudes inside the window only.
    check(&batches, &want, true, (true, false));
}

#[test]
fn a_state_that_is_too_large_names_its_key() {
    let record = |i: i64| Record {
        ts: i / 100,
        key: Some(if i % 10 == 0 { 4 } else { 3 }),
        name: None,
        int: Some(i),
        float: None,
    };
    let records: Vec<Record> = (0..300_000).map(record).collect();
    let dir = tempfile::tempdir().unwrap();
    for name in [true, false] {
        let batches: Vec<_> = records.chunks(1000).map(|c| Ok(batch(c))).collect();
        let mut query = Query::batches(schema(), batches).threads(2).memory(1 << 20).spill_dir(dir.path()).key("key");
        if name {
            query = query.key("name");
        }
        for aggregate in Agg::parse_list("distinct(int)").unwrap() {
            query = query.aggregate(aggregate);
        }
        let error = query.run().unwrap().collect::<Result<Vec<_>, _>>().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Memory);
        let says = if name { "that of key \"3\", name \"\": " } else { "that of key \"3\": " };
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

/// Where memory is plenty they wait in it, and a place to spill that is missing is not missed.
#[test]
fn keys_that_hardly_repeat_are_sorted_out_first() {
    let record = |i: i64| {
        let (key, int) = (Some(i * 37 % 1500), Some(i));
        Record { ts: i, key, name: None, int, float: Some(i as f64 / 7.0) }
    };
    let records: Vec<Record> = (0..2000).map(record).collect();
    let dir = tempfile::tempdir().unwrap();
    let rows = |spill: Option<&std::path::Path>| {
        let batches: Vec<_> = records.chunks(100).map(|c| Ok(batch(c))).collect();
        let mut query = Query::batches(schema(), batches).key("key").threads(2);
        for aggregate in Agg::parse_list("count, sum(int), sum(float), last(int)").unwrap() {
            query = query.aggregate(aggregate);
        }
        if let Some(spill) = spill {
            query = query.memory(4 << 30).spill_dir(spill);
        }
        query.run().unwrap()
    };
    let all = |rows: crate::query::Rows| rows.collect::<Result<Vec<_>, _>>().unwrap();
    let want = all(rows(None));
    assert_eq!(want.iter().map(RecordBatch::num_rows).sum::<usize>(), 1500);
    same_cells(&want, &all(rows(Some(&dir.path().join("missing").join("too")))));
    let mut sorted = rows(Some(dir.path()));
    let mut got = vec![sorted.next().unwrap().unwrap()];
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "they were evicted");
    got.extend(sorted.by_ref().map(Result::unwrap));
    assert_eq!((sorted.statistics().spilled_bytes, sorted.statistics().keys), (0, 1500));
    drop(sorted);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    same_cells(&want, &got);
}
