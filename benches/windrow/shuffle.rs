//! The shuffle against one file for each map task and partition, and spilling against a bare loop of packing and writing.
//!
//! - `shuffle`: 200 map tasks into 256 partitions, written and read back; consolidated files against 51,200 small ones
//!   (Spark's first shuffle). Both pack the same columns alike.
//! - `spill`: what a spill costs beside a loop that packs 1 MiB buffers of the same columns with lz4_flex and writes them, and
//!   reading back likewise. It should keep 0.7 of the loop's speed.
//!
//! Files lie in the system's temporary folder; nothing waits for the disk.

use crate::random::Random;
use criterion::{BatchSize, Criterion, Throughput};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use windrow::core::partition::counting_sort;
use windrow::memory::Budget;
use windrow::shuffle::{Options, Reader, Writer};
use windrow::store::block::{Content, Label, Packer, decode};
use windrow::store::column::{Column, ColumnRef, Slice, Values};
use windrow::store::spill_dir::SpillDir;

/// Map tasks, and partitions.
const TASKS: u64 = 200;
const PARTITIONS: u32 = 256;

/// Rows of a task.
const ROWS: usize = 32 << 10;

/// Bytes a writer holds.
const BUFFER: usize = 64 << 20;

/// Rows of one task: keys, amounts in cents, and words.
struct Rows {
    partition_of: Vec<u32>,
    columns: Vec<Column>,
}

impl Rows {
    fn new(random: &mut Random) -> Rows {
        let keys: Vec<u64> = (0..ROWS).map(|_| random.bits() % 5_000_000).collect();
        let partition_of = keys.iter().map(|k| (windrow::hash::hash_word(*k) >> 56) as u32).collect();
        let amounts = (0..ROWS).map(|_| (random.bits() % 10_000) as f64 / 100.0).collect();
        let (mut offsets, mut data) = (vec![0], Vec::new());
        for _ in 0..ROWS {
            for _ in 0..3 {
                let word = ["alpha ", "bravo ", "charlie ", "delta "][random.bits() as usize % 4];
                data.extend_from_slice(word.as_bytes());
            }
            offsets.push(data.len() as u32);
        }
        let values = [Values::U64(keys), Values::F64(amounts), Values::Bytes { offsets, data }];
        Rows { partition_of, columns: values.map(|values| Column { values, validity: None }).to_vec() }
    }

    fn views(&self) -> Vec<ColumnRef<'_>> {
        self.columns.iter().map(Column::view).collect()
    }

    fn grouped(&self) -> (Vec<u32>, Vec<Column>) {
        let (mut offsets, mut destination) = (Vec::new(), Vec::new());
        counting_sort(&self.partition_of, PARTITIONS as usize, &mut offsets, &mut destination);
        (offsets, self.views().iter().map(|c| c.scatter(&destination)).collect())
    }
}

/// What comes back has to add up to this.
fn keys(columns: &[ColumnRef<'_>]) -> u64 {
    match columns[0].values {
        Slice::U64(keys) => keys.iter().fold(0, |sum, key| sum.wrapping_add(*key)),
        _ => 0,
    }
}

fn options(dir: &Path) -> Options {
    let dir = SpillDir::create(dir).expect("a folder to spill into");
    Options::new(PARTITIONS).spill(Budget::new(1 << 30), BUFFER, dir)
}

fn read_back(reader: &Reader) -> u64 {
    let chunks = (0..PARTITIONS).flat_map(|p| reader.partition(p));
    chunks.fold(0, |sum, chunk| sum.wrapping_add(keys(&chunk.expect("a chunk").columns())))
}

fn consolidated(dir: &Path, tasks: &[Rows]) -> u64 {
    let mut writer = Writer::new(&options(dir));
    for (sequence, task) in tasks.iter().enumerate() {
        writer.push(sequence as u64, &task.partition_of, &task.views()).expect("pushed");
    }
    writer.spill().expect("spilled");
    read_back(&Reader::new(vec![writer.finish().expect("finished")]))
}

fn file_for_each(dir: &Path, tasks: &[Rows]) -> u64 {
    let dir = tempfile::tempdir_in(dir).expect("a folder");
    let name = |task: usize, partition: u32| dir.path().join(format!("{task}-{partition}"));
    let (mut packer, mut out) = (Packer::default(), Vec::new());
    for (number, task) in tasks.iter().enumerate() {
        let (offsets, columns) = task.grouped();
        for partition in 0..PARTITIONS {
            let range = offsets[partition as usize] as usize..offsets[partition as usize + 1] as usize;
            let label = Label { content: Content::Rows, partition, first: 0, last: 0, rows: range.len() as u32 };
            let views: Vec<ColumnRef> = columns.iter().map(|c| c.view().slice(range.clone())).collect();
            out.clear();
            packer.encode(&label, &views, &mut out).expect("packed");
            std::fs::write(name(number, partition), &out).expect("written");
        }
    }
    let mut sum = 0u64;
    for partition in 0..PARTITIONS {
        for number in 0..tasks.len() {
            let block = decode(&std::fs::read(name(number, partition)).expect("read")).expect("a block");
            sum = sum.wrapping_add(keys(&[block.columns[0].view()]));
        }
    }
    sum
}

/// The columns as bytes.
fn plain(columns: &[Column]) -> Vec<&[u8]> {
    fn words<T: bytemuck::NoUninit>(v: &[T]) -> &[u8] {
        bytemuck::cast_slice(v)
    }
    let bytes = columns.iter().flat_map(|c| match &c.values {
        Values::U64(v) => vec![words(v)],
        Values::F64(v) => vec![words(v)],
        Values::Bytes { offsets, data } => vec![words(offsets), &data[..]],
        _ => Vec::new(),
    });
    bytes.collect()
}

/// Packs 1 MiB at a time and writes it behind its two lengths.
fn bare_write(path: &Path, batches: &[(Vec<u32>, Vec<Column>)]) {
    let mut file = File::create(path).expect("created");
    let columns = plain(&batches[0].1).len();
    let mut packed = vec![0; lz4_flex::block::get_maximum_output_size(2 << 20)];
    for column in 0..columns {
        let mut buffer: Vec<u8> = Vec::with_capacity(2 << 20);
        let mut write = |buffer: &mut Vec<u8>| {
            let n = lz4_flex::block::compress_into(buffer, &mut packed).expect("packed");
            file.write_all(&(buffer.len() as u32).to_le_bytes()).expect("written");
            file.write_all(&(n as u32).to_le_bytes()).expect("written");
            file.write_all(&packed[..n]).expect("written");
            buffer.clear();
        };
        for (_, columns) in batches {
            for part in plain(columns)[column].chunks(1 << 20) {
                buffer.extend_from_slice(part);
                if buffer.len() >= 1 << 20 {
                    write(&mut buffer);
                }
            }
        }
        write(&mut buffer);
    }
}

fn bare_read(path: &Path) -> usize {
    let mut file = File::open(path).expect("opened");
    let (mut head, mut packed, mut out, mut all) = ([0; 8], Vec::new(), vec![0; 2 << 20], 0);
    while file.read_exact(&mut head).is_ok() {
        let [a, b, c, d, e, f, g, h] = head;
        let (plain, n) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
        packed.resize(n, 0);
        file.read_exact(&mut packed).expect("read");
        all += lz4_flex::block::decompress_into(&packed, &mut out[..plain]).expect("unpacked");
    }
    all
}

pub fn benches(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut random = Random::new(5, 7);
    let tasks: Vec<Rows> = (0..TASKS).map(|_| Rows::new(&mut random)).collect();
    let want = tasks.iter().fold(0u64, |sum, task| sum.wrapping_add(keys(&task.views())));
    let bytes: usize = tasks.iter().flat_map(|t| t.views().into_iter().map(|c| c.bytes()).collect::<Vec<_>>()).sum();
    let throughput = Throughput::ElementsAndBytes { elements: TASKS * ROWS as u64, bytes: bytes as u64 };

    let mut group = c.benchmark_group("shuffle");
    group.throughput(throughput.clone());
    assert_eq!(consolidated(dir.path(), &tasks), want);
    group.bench_function("one file for each worker", |b| b.iter(|| consolidated(dir.path(), &tasks)));
    assert_eq!(file_for_each(dir.path(), &tasks), want);
    group.bench_function("one file for each task and partition", |b| b.iter(|| file_for_each(dir.path(), &tasks)));
    group.finish();

    let batches: Vec<(Vec<u32>, Vec<Column>)> = tasks.iter().map(Rows::grouped).collect();
    let bare = dir.path().join("bare");
    let mut group = c.benchmark_group("spill");
    group.throughput(throughput);
    let write = |batches: Vec<(Vec<u32>, Vec<Column>)>| {
        let mut writer = Writer::new(&options(dir.path()));
        for (sequence, (offsets, columns)) in batches.into_iter().enumerate() {
            writer.push_grouped(Content::Rows, sequence as u64, offsets, columns).expect("pushed");
        }
        writer.spill().expect("spilled");
        Reader::new(vec![writer.finish().expect("finished")])
    };
    group.bench_function("write", |b| b.iter_batched(|| batches.clone(), write, BatchSize::PerIteration));
    group.bench_function("write, the bare loop", |b| {
        b.iter_batched(|| batches.clone(), |batches| bare_write(&bare, &batches), BatchSize::PerIteration);
    });
    let reader = write(batches);
    assert_eq!(read_back(&reader), want);
    group.bench_function("read", |b| b.iter(|| read_back(&reader)));
    assert!(bare_read(&bare) >= bytes);
    group.bench_function("read, the bare loop", |b| b.iter(|| bare_read(&bare)));
    group.finish();
}
