//! Partitioning: the counting sort, and the scatter of 16-byte rows that follows it, over data larger than the caches.

use crate::random::Random;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use windrow::core::partition::{counting_sort, partition_of};

/// Rows; at 16 bytes each they fill 128 MiB.
const ROWS: usize = 8 << 20;

/// A hash and what goes with it.
type Row = (u64, u64);

fn buckets(rows: &[Row], bits: u32, out: &mut Vec<u32>) {
    out.clear();
    out.extend(rows.iter().map(|row| partition_of(row.0, bits)));
}

fn scatter(rows: &[Row], destination: &[u32], out: &mut [Row]) {
    for (row, to) in rows.iter().zip(destination) {
        out[*to as usize] = *row;
    }
}

pub fn benches(c: &mut Criterion) {
    let mut random = Random::new(1, 1);
    let rows: Vec<Row> = (0..ROWS).map(|i| (random.bits(), i as u64)).collect();
    let mut out = vec![(0, 0); ROWS];
    let (mut bucket_of, mut offsets, mut destination) = (Vec::new(), Vec::new(), Vec::new());
    let mut group = c.benchmark_group("partition");
    group.throughput(Throughput::ElementsAndBytes { elements: ROWS as u64, bytes: (ROWS * size_of::<Row>()) as u64 });
    for bits in [6u32, 8] {
        let parts = 1usize << bits;
        buckets(&rows, bits, &mut bucket_of);
        counting_sort(&bucket_of, parts, &mut offsets, &mut destination);
        scatter(&rows, &destination, &mut out);
        let sorted = out.is_sorted_by_key(|row| (partition_of(row.0, bits), row.1));
        assert!(sorted && offsets[parts] as usize == ROWS, "rows stand by partition, in their old order");

        group.bench_function(BenchmarkId::new("counting sort", parts), |b| {
            b.iter(|| counting_sort(black_box(&bucket_of), parts, &mut offsets, &mut destination));
        });
        group.bench_function(BenchmarkId::new("scatter", parts), |b| {
            b.iter(|| scatter(black_box(&rows), &destination, &mut out));
        });
        group.bench_function(BenchmarkId::new("hash to rows in place", parts), |b| {
            b.iter(|| {
                buckets(black_box(&rows), bits, &mut bucket_of);
                counting_sort(&bucket_of, parts, &mut offsets, &mut destination);
                scatter(&rows, &destination, &mut out);
            });
        });
        // Fresh memory instead of reused buffers: what the page faults cost.
        group.bench_function(BenchmarkId::new("scatter to fresh memory", parts), |b| {
            b.iter_batched(
                || (),
                |()| {
                    let mut out = vec![(0, 0); ROWS];
                    scatter(black_box(&rows), &destination, &mut out);
                    out
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}
