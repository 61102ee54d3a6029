//! The shuffle against vectors in memory, for any split among workers, any memory and any failing write.

use super::{Options, Reader, Writer};
use crate::Result;
use crate::memory::Budget;
use crate::store::block::Content;
use crate::store::column::{Column, ColumnRef, twin};
use crate::store::memory_disk::MemoryDisk;
use crate::store::spill_dir::SpillDir;
use crate::store::tests::column;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const TYPES: [u8; 3] = [2, 6, 5];

/// Who maps a batch, what it is, and the partition and value of each row.
#[derive(Debug, Clone)]
struct Task {
    worker: usize,
    content: Content,
    rows: Vec<(u32, u64)>,
    spill: bool,
}

fn task(workers: usize, partitions: u32) -> impl Strategy<Value = Task> {
    let content = prop_oneof![Just(Content::Rows), Just(Content::Partials), Just(Content::Runs)];
    let rows = prop::collection::vec((0..partitions, 0u64..50), 0..40);
    (0..workers, content, rows, prop::bool::weighted(0.1)).prop_map(|(worker, content, rows, spill)| Task {
        worker,
        content,
        rows,
        spill,
    })
}

type Value = Option<Vec<u8>>;
type Row = (u64, Content, Vec<Value>);

fn columns(values: &[u64]) -> Vec<Column> {
    TYPES.iter().map(|ty| column(*ty, values, *ty != 2)).collect()
}

fn rows(sequence: u64, content: Content, columns: &[ColumnRef<'_>]) -> Vec<Row> {
    let columns: Vec<Vec<Value>> = columns.iter().map(twin::values).collect();
    (0..columns[0].len()).map(|i| (sequence, content, columns.iter().map(|c| c[i].clone()).collect())).collect()
}

/// The naive shuffle: a vector for each partition.
fn naive(tasks: &[Task], partitions: u32) -> Vec<Vec<Row>> {
    let mut all = vec![Vec::new(); partitions as usize];
    for (sequence, task) in tasks.iter().enumerate() {
        for p in 0..partitions {
            let of: Vec<u64> = task.rows.iter().filter(|(q, _)| *q == p).map(|(_, value)| *value).collect();
            let columns = columns(&of);
            let views: Vec<ColumnRef> = columns.iter().map(Column::view).collect();
            all[p as usize].extend(rows(sequence as u64, task.content, &views));
        }
    }
    all
}

fn shuffle(tasks: &[Task], workers: usize, options: &Options) -> Result<(Vec<Vec<Row>>, u64, usize)> {
    let mut writers: Vec<Writer> = (0..workers).map(|_| Writer::new(options)).collect();
    for (sequence, task) in tasks.iter().enumerate() {
        let (writer, sequence) = (&mut writers[task.worker], sequence as u64);
        let part = |p: u32| task.rows.iter().filter(|(q, _)| *q == p).map(|(_, v)| *v).collect::<Vec<u64>>();
        match task.content {
            Content::Rows => {
                let columns = columns(&task.rows.iter().map(|(_, value)| *value).collect::<Vec<u64>>());
                let views: Vec<ColumnRef> = columns.iter().map(Column::view).collect();
                let partitions: Vec<u32> = task.rows.iter().map(|(p, _)| *p).collect();
                writer.push(sequence, &partitions, &views)?;
            }
            Content::Partials => {
                let parts: Vec<Vec<u64>> = (0..options.partitions).map(part).collect();
                let mut offsets = vec![0];
                parts.iter().for_each(|p| offsets.push(offsets[offsets.len() - 1] + p.len() as u32));
                writer.push_grouped(Content::Partials, sequence, offsets, columns(&parts.concat()))?;
            }
            Content::Runs if options.dir.is_some() => {
                for p in 0..options.partitions {
                    let columns = columns(&part(p));
                    let views: Vec<ColumnRef> = columns.iter().map(Column::view).collect();
                    writer.write(Content::Runs, p, sequence, views[0].len() as u32, &views)?;
                }
            }
            Content::Runs => return Ok((naive(tasks, options.partitions), 0, 0)),
        }
        if task.spill && options.dir.is_some() {
            writer.spill()?;
            assert_eq!(writer.held(), 0);
        }
    }
    let reader = Reader::new(writers.into_iter().map(Writer::finish).collect::<Result<_>>()?);
    let mut all = Vec::new();
    for p in 0..options.partitions {
        let mut of = Vec::new();
        for chunk in reader.partition(p) {
            let chunk = chunk?;
            assert_eq!(chunk.rows, chunk.columns()[0].len());
            of.extend(rows(chunk.sequence, chunk.content, &chunk.columns()));
        }
        assert_eq!(reader.rows(p), of.len() as u64);
        all.push(of);
    }
    Ok((all, reader.spilled_bytes(), reader.files()))
}

proptest! {
    #[test]
    fn every_partition_gets_its_rows_in_order(
        tasks in prop::collection::vec(task(3, 5), 0..20), limit in prop_oneof![Just(None), (4_000usize..40_000).prop_map(Some)],
        short in any::<bool>(), loose in prop_oneof![Just(usize::MAX), 0usize..20_000],
    ) {
        let disk = MemoryDisk::new("/spill");
        disk.short(short);
        let options = match limit {
            None => Options::new(5),
            Some(limit) => {
                let dir = SpillDir::create_on(Arc::new(disk.clone()), "/spill").unwrap();
                Options::new(5).spill(Budget::new(10 << 20), limit, dir)
            }
        };
        let options = options.gather(loose);
        let (got, spilled, files) = shuffle(&tasks, 3, &options).unwrap();
        prop_assert_eq!(got, naive(&tasks, 5));
        prop_assert!(files <= 3 && (spilled > 0) == (files > 0));
        let budget = options.budget.clone();
        drop(options);
        prop_assert!(disk.files().is_empty() && disk.dirs() == [Path::new("/spill")], "{:?}", disk.files());
        let mut all = budget.lease("all");
        prop_assert!(budget.limit() == usize::MAX || all.resize(budget.limit()).is_ok(), "leases were kept");
    }
}

fn some_tasks() -> Vec<Task> {
    let row = |i: u64, n: u64| ((i * 7 + n) as u32 % 5, i * 31 + n);
    let content = |i| [Content::Rows, Content::Partials, Content::Runs][i as usize % 3];
    let task = |i| Task {
        worker: i as usize % 2,
        content: content(i / 2),
        rows: (0..30).map(|n| row(i, n)).collect(),
        spill: i % 7 == 6,
    };
    (0..24).map(task).collect()
}

/// A fault at every write and sync in turn, and a disk that is full at any point: a sentence, and nothing is left.
#[test]
fn every_fault_ends_in_a_sentence_and_leaves_nothing() {
    let tasks = some_tasks();
    let run = |prepare: &dyn Fn(&MemoryDisk)| {
        let disk = MemoryDisk::new("/spill");
        let dir = SpillDir::create_on(Arc::new(disk.clone()), "/spill").unwrap();
        let options = Options::new(5).spill(Budget::new(1 << 20), 8_000, dir);
        prepare(&disk);
        let result = shuffle(&tasks, 2, &options);
        let size = disk.operations();
        drop(options);
        assert!(disk.files().is_empty() && disk.dirs() == [Path::new("/spill")], "{:?}", disk.files());
        (result, size)
    };
    let (good, operations) = run(&|_| {});
    let (good, spilled, files) = good.unwrap();
    assert_eq!(good, naive(&tasks, 5));
    assert!(spilled > 0 && files == 2 && operations > 10, "{operations}");
    for n in 0..operations {
        let error = run(&|disk| disk.fail_at(Some(n))).0.unwrap_err().to_string();
        let place = error.starts_with("/spill/windrow-spill-") && error.contains(".spill: byte ");
        assert!(place && error.ends_with("the disk failed, as it was told to"), "{error}");
    }
    for capacity in (0..spilled).step_by(500) {
        let error = run(&|disk| disk.capacity(Some(capacity))).0.unwrap_err();
        assert_eq!(error.io().map(std::io::Error::kind), Some(std::io::ErrorKind::StorageFull), "{error}");
    }
}

#[test]
fn damage_between_writing_and_reading_is_a_sentence() {
    let disk = MemoryDisk::new("/spill");
    let dir = SpillDir::create_on(Arc::new(disk.clone()), "/spill").unwrap();
    let options = Options::new(5).spill(Budget::new(1 << 20), 8_000, dir);
    let mut writer = Writer::new(&options);
    let values: Vec<u64> = (0..100).collect();
    let partitions: Vec<u32> = values.iter().map(|v| *v as u32 % 5).collect();
    for sequence in 0..3 {
        let columns = columns(&values);
        let views: Vec<ColumnRef> = columns.iter().map(Column::view).collect();
        writer.push(sequence, &partitions, &views).unwrap();
    }
    assert!(writer.spill().unwrap() > 0);
    let reader = Reader::new(vec![writer.finish().unwrap()]);
    let file = disk.files().into_iter().find(|f| f.extension().is_some()).unwrap();
    type Change = fn(&mut Vec<u8>);
    let changes: [Change; 3] = [|b| b[300] ^= 4, |b| b.truncate(200), |b| b.fill(b'x')];
    let mut whole = Vec::new();
    disk.damage(&file, |b| whole.clone_from(b));
    for change in changes {
        disk.damage(&file, change);
        let errors: Vec<String> =
            (0..5).flat_map(|p| reader.partition(p)).filter_map(|c| c.err().map(|e| e.to_string())).collect();
        let prefix = format!("{}: byte ", file.display());
        assert!(!errors.is_empty() && errors.iter().all(|e| e.starts_with(&prefix)), "{errors:?}");
        disk.damage(&file, |b| b.clone_from(&whole));
    }
    assert!((0..5).flat_map(|p| reader.partition(p)).all(|c| c.is_ok()));
}

#[test]
fn a_limit_without_a_folder_is_refused() {
    let options = Options { budget: Budget::new(100), ..Options::new(5) };
    let columns = columns(&(0..100).collect::<Vec<u64>>());
    let views: Vec<ColumnRef> = columns.iter().map(Column::view).collect();
    let error = Writer::new(&options).push(0, &[0; 100], &views).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Memory);
}
