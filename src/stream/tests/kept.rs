//! What is kept: levels, the memory limit, who gives way, files of objects and of columns.

use super::context;
use crate::stream::{StorageLevel, StreamingContext, Time};
use arrow_array::{RecordBatch, UInt64Array};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const LEVELS: [StorageLevel; 5] = [
    StorageLevel::MemoryOnly,
    StorageLevel::MemoryOnlySer,
    StorageLevel::MemoryAndDisk,
    StorageLevel::MemoryAndDiskSer,
    StorageLevel::DiskOnly,
];

fn text(n: usize) -> Vec<String> {
    (0..n).map(|i| format!("record {i}")).collect()
}

/// How often records are evaluated when two batches of `each` records are read in turn.
fn evaluations(level: StorageLevel, limit: usize, each: usize) -> (usize, u64) {
    let ctx = StreamingContext::builder().memory_limit(limit).partitions(1).build().unwrap();
    let evaluated = Arc::new(AtomicUsize::new(0));
    let batch = || {
        let evaluated = evaluated.clone();
        let count = move |record| {
            evaluated.fetch_add(1, Ordering::Relaxed);
            record
        };
        ctx.batch_from(text(each)).map(count).persist(level)
    };
    let (a, b) = (batch(), batch());
    for _ in 0..3 {
        assert_eq!(a.clone().collect().unwrap(), text(each));
        assert_eq!(b.clone().collect().unwrap(), text(each));
    }
    (evaluated.load(Ordering::Relaxed), ctx.statistics().spilled_bytes)
}

#[test]
fn levels_say_what_happens_beyond_the_limit() {
    for level in LEVELS {
        let (evaluated, spilled) = evaluations(level, 1 << 20, 100);
        assert_eq!((evaluated, spilled > 0), (200, level == StorageLevel::DiskOnly), "{level:?} with room for both");
        let disk =
            matches!(level, StorageLevel::MemoryAndDisk | StorageLevel::MemoryAndDiskSer | StorageLevel::DiskOnly);
        let (evaluated, spilled) = evaluations(level, 5_000, 100);
        match level {
            // Packed records of both have room.
            StorageLevel::MemoryOnlySer | StorageLevel::MemoryAndDiskSer => assert_eq!((evaluated, spilled), (200, 0)),
            _ => assert_eq!((evaluated == 200, spilled > 0), (disk, disk), "{level:?} with room for one"),
        }
        let (evaluated, spilled) = evaluations(level, 10, 100);
        assert_eq!((evaluated == 200, spilled > 0), (disk, disk), "{level:?} with room for none");
    }
}

#[test]
fn unpersisted_batches_are_evaluated_again() {
    let ctx = context(1);
    let evaluated = Arc::new(AtomicUsize::new(0));
    let inside = evaluated.clone();
    let batch = ctx.batch_from(0..10).map(move |_| inside.fetch_add(1, Ordering::Relaxed)).cache();
    assert_eq!(batch.clone().count().unwrap() + batch.clone().count().unwrap(), 20);
    assert_eq!(evaluated.load(Ordering::Relaxed), 10);
    batch.unpersist();
    batch.clone().count().unwrap();
    assert_eq!(evaluated.load(Ordering::Relaxed), 20);
    // What a shuffle made stays.
    let sums = ctx.batch_from((0..10).map(|n| (n % 3, n))).reduce_by_key(|a, b| a + b).cache();
    assert_eq!(sums.clone().count().unwrap(), 3);
    sums.unpersist();
    assert_eq!(sums.count().unwrap(), 3);
}

/// A partition that the disk has lost is made again from where it came, in the middle of reading it; one that cannot be
/// made again is an error.
#[test]
fn lost_partitions_are_evaluated_again() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = StreamingContext::builder().spill_dir(dir.path()).threads(2).partitions(3).build().unwrap();
    let evaluated = Arc::new(AtomicUsize::new(0));
    let inside = evaluated.clone();
    let kept = ctx.batch_from(text(300)).map(move |record| {
        inside.fetch_add(1, Ordering::Relaxed);
        record
    });
    let kept = kept.persist(StorageLevel::DiskOnly);
    let sums = ctx.batch_from((0..300u32).map(|n| (n, n))).reduce_by_key(|a, b| a + b).persist(StorageLevel::DiskOnly);
    assert_eq!((kept.clone().count().unwrap(), sums.clone().count().unwrap()), (300, 300));
    let mut dirs = vec![dir.path().to_path_buf()];
    let mut damaged = 0;
    while let Some(dir) = dirs.pop() {
        for path in std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                dirs.push(path);
            } else if let Some(at) = std::fs::read(&path).unwrap().len().checked_sub(100) {
                // In place: the file is open.
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[at] ^= 1;
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
    }
    assert_eq!(damaged, 6);
    assert_eq!(kept.clone().collect().unwrap(), text(300));
    assert_eq!(evaluated.load(Ordering::Relaxed), 600);
    assert_eq!(kept.clone().collect().unwrap(), text(300));
    assert_eq!(kept.count().unwrap(), 300);
    assert!(evaluated.load(Ordering::Relaxed) > 600);
    assert!(sums.collect().unwrap_err().to_string().contains("checksum"));
}

#[test]
fn keyed_operations_spill_and_say_the_same() {
    let rows = || (0..1000u64).map(|n| (n % 77, n));
    let (free, tight) = (context(1), StreamingContext::builder().memory_limit(1000).threads(3).build().unwrap());
    let groups = |ctx: &StreamingContext| {
        let left = ctx.batch_from(rows()).spillable();
        let right = ctx.batch_from(rows().take(50)).map_values(|n| n.to_string()).spillable();
        let mut groups = left.clone().group_by_key().collect().unwrap();
        let mut joined = left.left_outer_join(right).collect().unwrap();
        groups.sort();
        joined.sort();
        (groups, joined)
    };
    assert_eq!(groups(&free), groups(&tight));
    assert_eq!(free.statistics().spilled_bytes, 0);
    assert!(tight.statistics().spilled_bytes > 0);
}

#[test]
fn objects_and_columns_are_saved_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let ctx = context(3);
    let (objects, columns) = (dir.path().join("objects"), dir.path().join("columns"));
    let rows = ctx.queue_stream(vec![(0..100u64).map(|n| (n, format!("number {n}"))).collect::<Vec<_>>()]);
    rows.save_as_object_files(&objects, "obj");
    rows.save_as_parquet_files(&columns, "", |rows| {
        let numbers = UInt64Array::from_iter_values(rows.iter().map(|row| row.0));
        Ok(RecordBatch::try_from_iter([("n", Arc::new(numbers) as _)])?)
    });
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(1)).unwrap();
    let path = dir.path().join("objects-1.obj");
    let read = ctx.object_file::<(u64, String)>(&path).unwrap();
    assert_eq!(read.clone().partitions(), 3);
    assert_eq!(read.clone().map(|row| row.0).collect().unwrap(), (0..100).collect::<Vec<_>>());
    let file = std::fs::File::open(dir.path().join("columns-1/part-00001.parquet")).unwrap();
    let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    assert_eq!(reader.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 33);
    // A byte that has changed, a file that ends early, another type.
    let part = path.join("part-00002");
    let bytes = std::fs::read(&part).unwrap();
    std::fs::write(&part, &bytes[..bytes.len() - 1]).unwrap();
    assert!(read.clone().collect().unwrap_err().to_string().contains("part-00002"));
    let mut other = bytes.clone();
    other[40] ^= 1;
    std::fs::write(&part, &other).unwrap();
    assert!(read.collect().is_err());
    std::fs::write(&part, bytes).unwrap();
    assert!(ctx.object_file::<Vec<String>>(&path).unwrap().collect().is_err());
}

#[test]
fn records_without_contents_are_counted() {
    let ctx = context(1);
    for level in LEVELS {
        let kept = ctx.batch_from(vec![(); 1000]).persist(level);
        assert_eq!((kept.clone().count().unwrap(), kept.count().unwrap()), (1000, 1000), "{level:?}");
    }
}
