//! Random graphs of operators, and keyed operators, against vectors.

use super::{ms, run, sorted};
use crate::stream::{DStream, Either, Partitioner, StorageLevel};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Row = (u8, u64);

/// An operator that turns rows into rows.
#[derive(Debug, Clone)]
enum Op {
    Add(u64),
    Twice,
    Even,
    Merge,
    Again,
    Itself,
    Join,
    Window(u64),
    Partitions(usize),
    Distinct,
    Persist(StorageLevel),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0u64..5).prop_map(Op::Add),
        Just(Op::Twice),
        Just(Op::Even),
        Just(Op::Merge),
        Just(Op::Again),
        Just(Op::Itself),
        Just(Op::Join),
        (1u64..4).prop_map(Op::Window),
        (1usize..5).prop_map(Op::Partitions),
        Just(Op::Distinct),
        prop_oneof![
            Just(StorageLevel::MemoryOnly),
            Just(StorageLevel::MemoryOnlySer),
            Just(StorageLevel::MemoryAndDisk),
            Just(StorageLevel::MemoryAndDiskSer),
            Just(StorageLevel::DiskOnly),
        ]
        .prop_map(Op::Persist),
    ]
}

fn stream(s: &DStream<Row>, op: &Op) -> DStream<Row> {
    match op.clone() {
        Op::Add(n) => s.map(move |(k, v)| (k, v + n)),
        Op::Twice => s.flat_map(|(k, v)| [(k, v), (k / 2, v)]),
        Op::Even => s.filter(|r| r.1 % 2 == 0),
        Op::Merge => s.spillable().reduce_by_key(|a, b| a ^ b),
        Op::Again => s.union(&s.filter(|r| r.0 > 2)),
        Op::Itself => s.union(s),
        Op::Join => s
            .reduce_by_key(|a, b| *a.max(b))
            .spillable()
            .join(&s.reduce_by_key(|a, b| a + b).spillable())
            .map_values(|(v, w)| v ^ w),
        Op::Window(n) => s.window(ms(n), ms(1)),
        Op::Partitions(n) => s.repartition(n),
        Op::Distinct => s.transform(|batch, _| batch.distinct()),
        Op::Persist(level) => s.persist(level),
    }
}

fn merged(rows: &[Row], f: impl Fn(u64, u64) -> u64) -> BTreeMap<u8, u64> {
    let mut all = BTreeMap::new();
    for (k, v) in rows {
        all.entry(*k).and_modify(|old| *old = f(*old, *v)).or_insert(*v);
    }
    all
}

fn twin(batches: &[Vec<Row>], op: &Op) -> Vec<Vec<Row>> {
    let each = |f: &dyn Fn(&Vec<Row>) -> Vec<Row>| batches.iter().map(f).collect();
    match op {
        Op::Add(n) => each(&|b| b.iter().map(|(k, v)| (*k, v + n)).collect()),
        Op::Twice => each(&|b| b.iter().flat_map(|(k, v)| [(*k, *v), (k / 2, *v)]).collect()),
        Op::Even => each(&|b| b.iter().filter(|r| r.1 % 2 == 0).copied().collect()),
        Op::Merge => each(&|b| merged(b, |a, b| a ^ b).into_iter().collect()),
        Op::Again => each(&|b| b.iter().chain(b.iter().filter(|r| r.0 > 2)).copied().collect()),
        Op::Itself => each(&|b| b.iter().chain(b).copied().collect()),
        Op::Join => each(&|b| {
            let sums = merged(b, |a, b| a + b);
            merged(b, u64::max).into_iter().map(|(k, v)| (k, v ^ sums[&k])).collect()
        }),
        Op::Window(n) => (1..=batches.len()).map(|t| batches[t.saturating_sub(*n as usize)..t].concat()).collect(),
        Op::Partitions(_) | Op::Persist(_) => batches.to_vec(),
        Op::Distinct => each(&|b| b.iter().copied().collect::<std::collections::BTreeSet<_>>().into_iter().collect()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_graph_says_what_vectors_say(
        batches in prop::collection::vec(prop::collection::vec((0u8..6, 0u64..50), 0..40), 1..6),
        ops in prop::collection::vec(op(), 0..5), threads in prop::sample::select(vec![1usize, 3]),
    ) {
        let got = sorted(run(threads, &batches, |s| ops.iter().fold(s.clone(), |s, op| stream(&s, op))));
        let want = ops.iter().fold(batches.clone(), |batches, op| twin(&batches, op));
        let want = sorted((1..).zip(want).collect());
        prop_assert_eq!(got, want);
    }

    /// Many keys and few, in tables and in sub-partitions: values of a key come in order, each key once.
    #[test]
    fn groups_keep_the_order_of_values(
        keys in prop::collection::vec(0u32..60, 0..400), repeat in 1usize..4,
        threads in prop::sample::select(vec![1usize, 3]),
    ) {
        let rows: Vec<(String, usize)> =
            (0..repeat).flat_map(|_| &keys).enumerate().map(|(at, key)| (format!("k{key}"), at)).collect();
        let got = run(threads, std::slice::from_ref(&rows), |s| s.group_by_key()).remove(0).1;
        let mut want: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        rows.iter().for_each(|(key, at)| want.entry(key.clone()).or_default().push(*at));
        prop_assert_eq!(got.len(), want.len());
        prop_assert_eq!(got.into_iter().collect::<BTreeMap<_, _>>(), want.clone());
        // One partition per first letter's last digit.
        let digit = |key: &String| usize::from(*key.as_bytes().last().unwrap() - b'0');
        let parts = run(threads, &[rows], move |s| {
            let (push, append) = (|all: &mut Vec<_>, at| all.push(at), |all: &mut Vec<_>, more| all.extend(more));
            s.combine_by_key(|at| vec![at], push, append, Partitioner::new(10, digit)).glom()
        });
        for (part, rows) in parts[0].1.iter().enumerate() {
            for (key, all) in rows {
                prop_assert_eq!(digit(key), part);
                prop_assert_eq!(&want[key], all);
            }
        }
    }

    #[test]
    fn joins_are_all_pairs(
        left in prop::collection::vec((0u8..5, 0u32..9), 0..12),
        right in prop::collection::vec((0u8..5, 0u32..9), 0..12),
    ) {
        let ctx = super::context(2);
        let batch = |rows: &Vec<(u8, u32)>| ctx.batch_from(rows.clone());
        let sorted = |rows: crate::Result<Vec<(u8, Either<u32, u32>)>>| {
            let mut rows = rows.unwrap();
            rows.sort();
            rows
        };
        let mut want = Vec::new();
        for key in 0..5 {
            let side = |rows: &[(u8, u32)]| -> Vec<Option<u32>> {
                rows.iter().filter(|r| r.0 == key).map(|r| Some(r.1)).collect()
            };
            let (mut l, mut r) = (side(&left), side(&right));
            if l.is_empty() && r.is_empty() {
                continue;
            }
            // The side that has none has nothing once.
            [&mut l, &mut r].into_iter().filter(|side| side.is_empty()).for_each(|side| side.push(None));
            want.extend(l.iter().flat_map(|l| r.iter().map(move |r| (key, (*l, *r)))));
        }
        want.sort();
        let full = sorted(batch(&left).full_outer_join(batch(&right)).collect());
        prop_assert_eq!(&full, &want);
        // The rows that have a left side, or a right one, where that is asked for.
        let some = |l: bool, r: bool| -> Vec<_> {
            let keep = |row: &&(u8, Either<u32, u32>)| (row.1.0.is_some() || !l) && (row.1.1.is_some() || !r);
            want.iter().filter(keep).copied().collect()
        };
        let inner = batch(&left).join(batch(&right)).map_values(|(v, w)| (Some(v), Some(w)));
        prop_assert_eq!(sorted(inner.collect()), some(true, true));
        let l = batch(&left).left_outer_join(batch(&right)).map_values(|(v, w)| (Some(v), w));
        prop_assert_eq!(sorted(l.collect()), some(true, false));
        let r = batch(&left).right_outer_join(batch(&right)).map_values(|(v, w)| (v, Some(w)));
        prop_assert_eq!(sorted(r.collect()), some(false, true));
    }
}

#[test]
fn actions_of_batches() {
    for threads in [1, 3] {
        let ctx = super::context(threads);
        let numbers = ctx.batch_from((0..1000u64).map(|n| n * 7 % 1000));
        assert_eq!(numbers.clone().count().unwrap(), 1000);
        assert_eq!(numbers.clone().reduce(|a, b| a + b).unwrap(), Some(499_500));
        assert_eq!(numbers.clone().take(3).unwrap(), [0, 7, 14]);
        assert_eq!(numbers.clone().first().unwrap(), Some(0));
        assert_eq!(numbers.clone().map(|n| (n, ())).sort_by_key().collect().unwrap()[..2], [(0, ()), (1, ())]);
        assert_eq!(numbers.clone().aggregate(0, |all, n| *all += n, |all, more| *all += more).unwrap(), 499_500);
        assert_eq!(numbers.clone().distinct().count().unwrap(), 1000);
        let parity = numbers.clone().map(|n| n % 2).count_by_value().sort_by_key().collect().unwrap();
        assert_eq!(parity, [(0, 500), (1, 500)]);
        assert!(numbers.clone().filter(|n| *n > 1000).is_empty().unwrap());
        let cached = numbers.map(|n| n + 1).cache();
        assert_eq!(cached.clone().count().unwrap() + cached.clone().repartition(7).count().unwrap(), 2000);
        assert_eq!(cached.clone().repartition(7).glom().collect().unwrap().len(), 7);
        // A panic in a cached batch is the same error for all that ask.
        let bad = cached.map(|n| if n == 500 { panic!("five hundred") } else { n }).cache();
        for _ in 0..2 {
            assert_eq!(bad.clone().count().unwrap_err().to_string(), "map panicked: five hundred");
        }
    }
}
