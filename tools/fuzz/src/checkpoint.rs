//! Checkpoints of a query: a run dies, its folder is damaged, and it is taken up again.
//!
//! The first byte says with which write or sync the run dies; then come damages of four bytes each: the file, the place in
//! it (two bytes), and what is changed there. It must end in a sentence, or in the rows of a run that was left alone.

#![no_main]

use arrow_array::{Int64Array, RecordBatch};
use arrow_schema::{DataType, Field, Schema};
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use windrow::query::{Checkpoint, Query, Window};
use windrow::store::memory_disk::MemoryDisk;

/// Enough for checkpoints on the way, which are made between some blocks of 64 Ki rows.
const ROWS: i64 = 14 << 16;

static INPUT: LazyLock<RecordBatch> = LazyLock::new(|| {
    let schema = Schema::new(vec![Field::new("ts", DataType::Int64, false), Field::new("key", DataType::Int64, false)]);
    let column = |of: fn(i64) -> i64| Arc::new((0..ROWS).map(of).collect::<Int64Array>());
    RecordBatch::try_new(Arc::new(schema), vec![column(|i| 1_700_000_000 + i / 4096), column(|i| i % 7)]).expect("columns")
});
static WANT: LazyLock<Vec<RecordBatch>> = LazyLock::new(|| rows(query()).expect("rows"));

fn query() -> Query {
    let window = Window::parse("20s", Some("10s"), None).expect("a window");
    Query::batches(INPUT.schema(), vec![Ok(INPUT.clone())]).key("key").window(window).threads(1)
}

fn rows(query: Query) -> windrow::Result<Vec<RecordBatch>> {
    query.run()?.collect()
}

fn saved(disk: &MemoryDisk) -> windrow::Result<Vec<RecordBatch>> {
    rows(query().checkpoint(Checkpoint::new("/d/c").on(Arc::new(disk.clone())).every(Duration::ZERO)))
}

fuzz_target!(|data: &[u8]| {
    let Some((at, damages)) = data.split_first() else { return };
    let disk = MemoryDisk::new("/d");
    disk.fail_at(Some(u64::from(*at)));
    let _ = saved(&disk);
    disk.fail_at(None);
    let files = disk.files();
    for [file, high, low, change] in damages.as_chunks::<4>().0 {
        let Some(file) = files.get(usize::from(*file) % files.len().max(1)) else { continue };
        let place = usize::from(u16::from_be_bytes([*high, *low]));
        disk.damage(file, |bytes| bytes.get_mut(place).into_iter().for_each(|byte| *byte ^= change));
    }
    match saved(&disk) {
        Ok(rows) => assert!(rows == *WANT, "other rows"),
        Err(error) => assert!(error.to_string().contains("/d/c"), "{error}"),
    }
});
