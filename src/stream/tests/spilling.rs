//! Batches that are sorted or dealt out beyond the memory limit, against the same without a limit.

use super::ms;
use crate::store::memory_disk::MemoryDisk;
use crate::stream::exec::Exec;
use crate::stream::storage::Storage;
use crate::stream::{Batch, ManualClock, StorageLevel, StreamingContext, Time};
use proptest::prelude::*;
use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;

type Row = (u8, String);

/// Spill files below a folder.
fn files(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| if path.is_dir() { files(&path) } else { path.extension().is_some_and(|e| e == "spill").into() })
        .sum()
}

/// Rows with few keys, each with its place among all.
fn rows(keys: &[u8]) -> Vec<Row> {
    keys.iter().enumerate().map(|(at, key)| (*key, format!("row {at}"))).collect()
}

/// The same rows, of which the batch does not know how many they are.
fn grown(batch: Batch<Row>) -> Batch<Row> {
    batch.flat_map(|(key, text)| (0..1 + key % 3).map(move |n| (key, format!("{text}.{n}")))).filter(|row| row.0 != 5)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn limits_do_not_show(
        keys in prop::collection::vec(0u8..12, 0..200), ordered in any::<bool>(), partitions in 1usize..7, n in 0usize..9,
        threads in prop::sample::select(vec![1usize, 4]), limit in prop::sample::select(vec![1usize, 200, 3_000]),
        taken in 0usize..200,
    ) {
        let mut keys = keys;
        if ordered {
            keys.sort();
        }
        let dir = tempfile::tempdir().unwrap();
        let free = StreamingContext::builder().threads(threads).partitions(partitions).build().unwrap();
        let tight = StreamingContext::builder().threads(threads).partitions(partitions);
        let tight = tight.memory_limit(limit).spill_dir(dir.path()).build().unwrap();
        let build: [&dyn Fn(Batch<Row>) -> Batch<Row>; 2] = [&|batch| batch.repartition(n), &|batch| batch.sort_by_key()];
        for build in build {
            let want = build(grown(free.batch_from(rows(&keys)))).collect_partitions().unwrap();
            let flat = want.concat();
            let before = tight.statistics().spilled_bytes;
            let got = build(grown(tight.batch_from(rows(&keys))).spillable());
            // Again and again, a part, and at last as the only owner.
            prop_assert_eq!(&got.clone().collect_partitions().unwrap(), &want);
            prop_assert_eq!(&got.clone().take(taken).unwrap()[..], &flat[..taken.min(flat.len())]);
            let spilled = tight.statistics().spilled_bytes > before;
            prop_assert_eq!(spilled, files(dir.path()) > 0);
            prop_assert!(spilled || flat.len() * size_of::<Row>() <= limit);
            prop_assert!(!spilled || flat.len() * 200 >= limit);
            prop_assert_eq!(&got.collect_partitions().unwrap(), &want);
            prop_assert_eq!(files(dir.path()), 0);
            let once = build(grown(tight.batch_from(rows(&keys))).spillable());
            prop_assert_eq!(once.map(|row| row).collect().unwrap(), flat);
            prop_assert_eq!(files(dir.path()), 0);
        }
        drop(tight);
        prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

/// What later batches do not need is gone from the disk, whoever put it there.
#[test]
fn files_of_a_stream_go_with_its_batches() {
    for threads in [1, 4] {
        let (clock, dir) = (ManualClock::new(), tempfile::tempdir().unwrap());
        let builder =
            StreamingContext::builder().batch_interval(ms(1)).threads(threads).partitions(3).memory_limit(300);
        let ctx = builder.spill_dir(dir.path()).manual_clock(&clock).build().unwrap();
        let batches: Vec<Vec<Row>> = (0..30).map(|k| rows(&[k, 7, k, 3].repeat(20))).collect();
        let input = ctx.queue_stream(batches.clone()).spillable();
        let dealt = super::collected(&input.repartition(5));
        let sorted = super::collected(&input.transform(|batch, _| batch.sort_by_key()));
        input.group_by_key().persist(StorageLevel::DiskOnly).for_each_batch(|batch, _| batch.count().map(|_| ()));
        ctx.start().unwrap();
        let mut most = 0;
        for k in 1..=30 {
            ctx.run_until(Time::from_millis(k)).unwrap();
            most = most.max(files(dir.path()));
        }
        assert!(ctx.statistics().spilled_bytes > 10_000);
        assert!(most <= 20, "{most} files");
        for (k, mut batch) in batches.into_iter().enumerate() {
            assert_eq!(dealt.lock().unwrap()[k].1, batch);
            batch.sort_by_key(|row| row.0);
            assert_eq!(sorted.lock().unwrap()[k].1, batch);
        }
        ctx.stop(false).unwrap();
        drop(ctx);
        assert_eq!(files(dir.path()), 0);
    }
}

/// Workers with 200 bytes, on a disk of their own.
fn workers(disk: &MemoryDisk, threads: usize) -> Arc<Exec> {
    Exec::new(threads, 3, Storage::new(Some(200), Some("/spill".into())).on(Arc::new(disk.clone()))).unwrap()
}

fn spills(disk: &MemoryDisk) -> usize {
    disk.files().iter().filter(|path| path.extension().is_some_and(|e| e == "spill")).count()
}

#[test]
fn disks_that_fail_are_errors() {
    let input = rows(&[3, 1, 4, 1, 5, 9, 2, 6].repeat(10));
    let mut want = input.clone();
    want.sort_by_key(|row| row.0);
    for threads in [1, 4] {
        let run = |prepare: &dyn Fn(&MemoryDisk)| {
            let disk = MemoryDisk::new("/spill");
            prepare(&disk);
            let exec = workers(&disk, threads);
            let batch = || Batch::of(&exec, input.clone(), 3).spillable();
            let outcome = (batch().sort_by_key().collect(), batch().repartition(2).collect());
            assert_eq!(spills(&disk), 0);
            assert_eq!(exec.storage.budget().lease("all").resize(200).map_err(|e| e.to_string()), Ok(()));
            drop(exec);
            assert!(disk.files().is_empty() && disk.dirs().len() == 1);
            (outcome, disk.operations())
        };
        let ((sorted, dealt), operations) = run(&|_| ());
        assert_eq!((sorted.unwrap(), dealt.unwrap()), (want.clone(), input.clone()));
        let ((sorted, dealt), _) = run(&|disk| disk.capacity(Some(500)));
        for error in [sorted.unwrap_err(), dealt.unwrap_err()] {
            assert!(error.to_string().contains("cannot be written"), "{error}");
        }
        run(&|disk| disk.short(true)).0.0.unwrap();
        assert!(operations > 20);
        for n in (0..operations).step_by(7) {
            let ((sorted, dealt), _) = run(&|disk| disk.die_at(n));
            assert!(dealt.is_err());
            if let Ok(sorted) = sorted {
                assert_eq!(sorted, want);
            }
        }
    }
}

#[test]
fn damage_is_an_error_and_not_another_answer() {
    let disk = MemoryDisk::new("/spill");
    let exec = workers(&disk, 4);
    let sorted = Batch::of(&exec, rows(&[2; 90]), 3).spillable().sort_by_key();
    assert_eq!(sorted.clone().collect().unwrap(), rows(&[2; 90]));
    let path = disk.files().into_iter().find(|path| path.extension().is_some_and(|e| e == "spill")).unwrap();
    disk.damage(&path, |bytes| bytes[100] ^= 1);
    assert!(sorted.clone().collect().unwrap_err().to_string().contains(".spill"));
    drop(sorted);
    assert_eq!(spills(&disk), 0);
}

/// A key that does not want to be compared with one of its kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, serde::Serialize, serde::Deserialize)]
struct Shy(u32);

#[expect(clippy::derive_ord_xor_partial_ord, reason = "only one of them panics")]
impl Ord for Shy {
    fn cmp(&self, other: &Self) -> Ordering {
        assert!(self.0 != 77 && other.0 != 77, "not me");
        self.0.cmp(&other.0)
    }
}

#[test]
fn panics_on_the_way_are_errors() {
    for threads in [1, 4] {
        let disk = MemoryDisk::new("/spill");
        let exec = workers(&disk, threads);
        // After others have been written.
        let bad = Batch::of(&exec, rows(&[8; 90]), 3).map(|row| if row.1 == "row 85" { panic!("late") } else { row });
        for result in [bad.clone().spillable().repartition(4).count(), bad.spillable().sort_by_key().count()] {
            assert_eq!(result.unwrap_err().to_string(), "map panicked: late");
        }
        let shy = Batch::of(&exec, (0..90).map(|n| (Shy(n), ())).collect(), 3).spillable().sort_by_key();
        for _ in 0..2 {
            assert!(shy.clone().count().unwrap_err().to_string().contains("not me"));
        }
        drop(shy);
        assert!(exec.storage.dir().is_ok());
        assert_eq!(spills(&disk), 0);
        assert!(disk.operations() > 0);
    }
}
