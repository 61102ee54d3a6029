//! The write-ahead log against a bare loop of what it cannot do without: a checksum of each record, a buffer that is written
//! when it is full, and a sync every ten milliseconds. Records of 256 bytes, on the disk that holds the target folder.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use windrow::checkpoint::{Log, LogOptions};
use windrow::store::disk::OsDisk;
use xxhash_rust::xxh3::xxh3_64;

const RECORDS: usize = 1 << 18;
const RECORD: usize = 256;
const COMMIT: Duration = Duration::from_millis(10);
const WRITE: usize = 1 << 20;

/// Writes records to a folder and says how many.
type Way = fn(&Path, &[[u8; RECORD]]) -> u64;

/// Tells every so many records whether it is time to sync: the clock is not asked each time.
struct Pace(Instant);

impl Pace {
    fn is_due(&mut self, record: usize) -> bool {
        let due = record.is_multiple_of(64) && self.0.elapsed() >= COMMIT;
        if due {
            self.0 = Instant::now();
        }
        due
    }
}

fn log(dir: &Path, records: &[[u8; RECORD]]) -> u64 {
    let mut log = Log::open(Arc::new(OsDisk), dir, LogOptions::default(), 0, |_, _| Ok(())).expect("a log");
    let mut pace = Pace(Instant::now());
    for (number, record) in records.iter().enumerate() {
        log.append(0, record).expect("a place for the record");
        if pace.is_due(number) {
            log.commit().expect("a sync");
        }
    }
    log.commit().expect("a sync");
    log.next()
}

fn bare(dir: &Path, records: &[[u8; RECORD]]) -> u64 {
    let mut file = File::create(dir.join("bare")).expect("a file");
    let mut buffer = Vec::with_capacity(WRITE + 2 * RECORD);
    let mut pace = Pace(Instant::now());
    for (number, record) in records.iter().enumerate() {
        buffer.extend_from_slice(&xxh3_64(record).to_le_bytes());
        buffer.extend_from_slice(record);
        let due = pace.is_due(number);
        if due || buffer.len() >= WRITE {
            file.write_all(&buffer).expect("a place for the records");
            buffer.clear();
        }
        if due {
            file.sync_data().expect("a sync");
        }
    }
    file.write_all(&buffer).and_then(|()| file.sync_data()).expect("a sync");
    records.len() as u64
}

pub fn benches(c: &mut Criterion) {
    let records: Vec<[u8; RECORD]> = (0..RECORDS).map(|i| [i as u8; RECORD]).collect();
    // Not in memory, as temporary folders often are.
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("write-ahead");
    let mut group = c.benchmark_group("write-ahead log");
    group.throughput(Throughput::ElementsAndBytes { elements: RECORDS as u64, bytes: (RECORDS * RECORD) as u64 });
    let ways: [(&str, Way); 2] = [("bare loop", bare), ("log", log)];
    for (name, way) in ways {
        group.bench_function(BenchmarkId::new(name, RECORD), |b| {
            b.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let _ = std::fs::remove_dir_all(&dir);
                    std::fs::create_dir_all(&dir).expect("a folder");
                    let begun = Instant::now();
                    assert_eq!(way(&dir, &records), RECORDS as u64);
                    took += begun.elapsed();
                }
                took
            });
        });
    }
    group.finish();
    let _ = std::fs::remove_dir_all(&dir);
}
