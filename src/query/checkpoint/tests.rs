//! Runs that are killed and taken up again: after every write and sync of the folder's disk, in turn.
//!
//! Unit tests, because only here blocks, pieces and writes are tiny, a checkpoint is made after every round, one partition of it
//! with each, and the disk is one in memory.

use super::{Checkpoint, Side};
use crate::Result;
use crate::metrics::Statistics;
use crate::query::twin::{batch, record, same_cells, schema};
use crate::query::{Agg, Aggregate, Query, Session, Value, Window, custom};
use crate::store::memory_disk::MemoryDisk;
use crate::time::TimeFormat;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_cast::display::array_value_to_string;
use arrow_schema::DataType;
use flate2::Compression;
use flate2::write::GzEncoder;
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a run is over.
#[derive(Debug, Clone)]
enum From {
    Batches(RecordBatch),
    /// Parquet files, whose row groups end inside of blocks.
    Files(Vec<PathBuf>),
    /// NDJSON, packed or not.
    Text(Vec<PathBuf>),
}

/// A kind of query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) window: Option<(i64, i64)>,
    pub(super) session: bool,
    pub(super) memory: Option<usize>,
    pub(super) lateness: Option<(i64, i64)>,
    pub(super) threads: usize,
    /// The logarithm of the number of partitions.
    pub(super) bits: u32,
}

/// An output that outlives runs: as many batches of it as a checkpoint says.
#[derive(Debug, Clone, Default)]
pub(super) struct Tape(Arc<Mutex<Vec<RecordBatch>>>);

impl Tape {
    pub(super) fn of(batches: Vec<RecordBatch>) -> Tape {
        Tape(Arc::new(Mutex::new(batches)))
    }

    pub(super) fn push(&self, batch: RecordBatch) {
        self.0.lock().unwrap().push(batch);
    }

    pub(super) fn take(&self) -> Vec<RecordBatch> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Side for Tape {
    fn position(&self) -> Result<Vec<u8>> {
        Ok(self.0.lock().unwrap().len().to_le_bytes().to_vec())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn rewind(&self, position: Option<&[u8]>) -> Result<()> {
        let mut batches = self.0.lock().unwrap();
        let position = position.map_or(0, |position| usize::from_le_bytes(position.try_into().unwrap()));
        assert!(position <= batches.len(), "rows that a checkpoint counts are gone");
        batches.truncate(position);
        Ok(())
    }
}

/// Some of each way to fold; no sums of integers, which random ones overflow.
pub(super) const AGGREGATES: &str = "count, count(int), sum(float), avg(float), min(int), max(float), max(name), distinct(name), \
     approx_distinct(float), p50(float), var(float), first(name), last(float)";

/// A number that tells in which order values came.
struct Trail;

impl Aggregate for Trail {
    /// The number, and what the numbers of records before these are to be multiplied by.
    type State = (u64, u64);

    fn output(&self) -> DataType {
        DataType::Int64
    }

    fn identity(&self) -> (u64, u64) {
        (0, 1)
    }

    fn update(&self, state: &mut (u64, u64), inputs: &[ArrayRef], row: usize) -> Result<()> {
        for byte in array_value_to_string(&inputs[0], row)?.bytes() {
            *state = (state.0.wrapping_mul(31).wrapping_add(u64::from(byte)), state.1.wrapping_mul(31));
        }
        Ok(())
    }

    fn merge(&self, state: &mut (u64, u64), later: &(u64, u64)) {
        *state = (state.0.wrapping_mul(later.1).wrapping_add(later.0), state.1.wrapping_mul(later.1));
    }

    fn finish(&self, state: &(u64, u64)) -> Value {
        Value::Int(state.0 as i64)
    }

    fn encode(&self, state: &(u64, u64), out: &mut Vec<u8>) {
        out.extend([state.0, state.1].iter().flat_map(|word| word.to_le_bytes()));
    }

    fn decode(&self, bytes: &[u8]) -> Option<(u64, u64)> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some((word(0)?, word(8)?))
    }
}

pub(super) const WINDOWS: Kind =
    Kind { window: Some((70, 30)), session: false, memory: None, lateness: None, threads: 1, bits: 1 };

fn query(from: &From, kind: Kind) -> Query {
    let query = match from {
        From::Batches(batch) => Query::batches(batch.schema(), vec![Ok(batch.clone())]),
        From::Files(paths) => Query::files(paths),
        From::Text(paths) => Query::files(paths).time(Some("ts".into()), TimeFormat::EpochMicros),
    };
    asked(query, kind, AGGREGATES)
}

/// What is asked of the records of `query`.
pub(super) fn asked(query: Query, kind: Kind, aggregates: &str) -> Query {
    let mut query = query.key("name").threads(kind.threads).partition_bits(kind.bits);
    for aggregate in Agg::parse_list(aggregates).unwrap() {
        query = query.aggregate(aggregate);
    }
    query = query.aggregate(custom("trail", &["int"], Trail));
    if let Some((length, slide)) = kind.window {
        query = query.window(Window::sliding(length, slide, 0).unwrap());
    }
    if kind.session {
        query = query.session(Session::parse("20us").unwrap());
    }
    if let Some((bound, ahead)) = kind.lateness {
        query = query.lateness(bound).max_ahead(ahead);
    }
    if let Some(memory) = kind.memory {
        query = query.memory(memory).spill_dir(std::env::temp_dir());
    }
    query
}

/// Runs to the end on `disk`; `None` if the run was finished before.
fn run(disk: &MemoryDisk, query: Query, tape: &Tape) -> Result<Option<Statistics>> {
    run_with(Checkpoint::new("/d/c").on(Arc::new(disk.clone())).every(Duration::ZERO), query, tape)
}

fn run_with(checkpoint: Checkpoint, query: Query, tape: &Tape) -> Result<Option<Statistics>> {
    let mut rows = query.checkpoint(checkpoint.side(Arc::new(tape.clone()))).run()?;
    if rows.is_finished() {
        return Ok(None);
    }
    for batch in rows.by_ref() {
        tape.0.lock().unwrap().push(batch?);
    }
    rows.seal()?;
    let statistics = rows.statistics();
    assert!(statistics.ledger.balances());
    rows.complete()?;
    Ok(Some(statistics))
}

/// So many records, the same ones every time.
fn records(count: usize) -> RecordBatch {
    let mut runner = TestRunner::deterministic();
    let records = prop::collection::vec(record(), count).new_tree(&mut runner).unwrap().current();
    batch(&records)
}

fn parquet(dir: &Path, records: &RecordBatch, group: usize) -> From {
    let path = dir.join("in.parquet");
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), schema(), Some(properties)).unwrap();
    writer.write(records).unwrap();
    writer.close().unwrap();
    From::Files(vec![path])
}

/// Stops a run after every write and sync in turn; what the process or the machine leaves then is taken up again.
fn whatever_fails_the_rows_are_the_same(from: &From, kind: Kind) {
    let mut plain = query(from, Kind { threads: 2, ..kind }).run().unwrap();
    let want = plain.by_ref().collect::<Result<Vec<_>>>().unwrap();
    let counted = plain.statistics();
    let same = |tape: &Tape, found: Option<Statistics>| {
        same_cells(&tape.0.lock().unwrap(), &want);
        if let Some(found) = found {
            assert_eq!(
                (found.ledger, found.windows, found.rows_out),
                (counted.ledger, counted.windows, counted.rows_out)
            );
            assert_eq!(found.max_disorder_us, counted.max_disorder_us);
        }
    };
    let (good, tape) = (MemoryDisk::new("/d"), Tape::default());
    same(&tape, run(&good, query(from, kind), &tape).unwrap());
    assert!(run(&good, query(from, kind), &tape).unwrap().is_none(), "it is finished");
    let operations = good.operations();
    let mut went_on = 0;
    for n in 0..operations {
        let (disk, tape) = (MemoryDisk::new("/d"), Tape::default());
        disk.fail_at(Some(n));
        let error = run(&disk, query(from, kind), &tape).err().unwrap().to_string();
        assert!(error.ends_with("the disk failed, as it was told to"), "{error}");
        // The disk itself comes last: it is another one afterwards.
        for torn in [Some(0.0), Some(0.6), Some(1.0), None] {
            let after = torn.map_or_else(|| disk.clone(), |torn| disk.crash(torn));
            let tape = Tape(Arc::new(Mutex::new(tape.0.lock().unwrap().clone())));
            went_on += u32::from(after.files().iter().any(|f| f.ends_with("manifest-0")));
            // With another number of threads than before.
            same(&tape, run(&after, query(from, Kind { threads: 2, ..kind }), &tape).unwrap());
        }
    }
    assert!(operations > 20 && u64::from(went_on) > operations, "{operations} operations, {went_on} times gone on");
}

#[test]
fn windows_go_on() {
    whatever_fails_the_rows_are_the_same(&From::Batches(records(120)), WINDOWS);
}

#[test]
fn one_group_by_goes_on() {
    whatever_fails_the_rows_are_the_same(&From::Batches(records(120)), Kind { window: None, ..WINDOWS });
}

#[test]
fn sessions_go_on() {
    let kind = Kind { window: None, session: true, ..WINDOWS };
    whatever_fails_the_rows_are_the_same(&From::Batches(records(120)), kind);
}

/// Blocks that are made of parts of row groups, some of which were taken and some not.
#[test]
fn parts_of_blocks_go_on() {
    let dir = tempfile::tempdir().unwrap();
    whatever_fails_the_rows_are_the_same(&parquet(dir.path(), &records(120), 11), WINDOWS);
}

/// Text, packed or not, file by file.
#[test]
fn text_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let line = |n: usize| {
        let (ts, name) = (n * 17 % 300, ["a", "b", "ä"][n % 3]);
        format!("{{\"ts\":{ts},\"name\":\"{name}\",\"int\":{},\"float\":{}.5}}\n", n % 13, n % 7)
    };
    let files = (0..3usize).map(|file| {
        let text: String = (12 * file..12 * file + 12).map(line).collect();
        let packed = file % 2 == 1;
        let path = dir.path().join(format!("{file}.ndjson{}", if packed { ".gz" } else { "" }));
        if packed {
            let mut out = GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::fast());
            out.write_all(text.as_bytes()).unwrap();
            out.finish().unwrap();
        } else {
            std::fs::write(&path, text).unwrap();
        }
        path
    });
    let from = From::Text(files.collect());
    for lateness in [None, Some((150, 400))] {
        whatever_fails_the_rows_are_the_same(&from, Kind { lateness, ..WINDOWS });
    }
}

/// Windows leave as the watermark passes: what was handed out is not handed out again, and sliding goes on to the bit.
#[test]
fn windows_that_close_on_the_way_go_on() {
    let kind = Kind { lateness: Some((150, 400)), ..WINDOWS };
    whatever_fails_the_rows_are_the_same(&From::Batches(records(120)), kind);
    let kind = Kind { window: Some((50, 50)), ..kind };
    whatever_fails_the_rows_are_the_same(&From::Batches(records(100)), kind);
}

#[test]
fn sessions_that_close_on_the_way_go_on() {
    let kind = Kind { window: None, session: true, lateness: Some((100, 500)), ..WINDOWS };
    whatever_fails_the_rows_are_the_same(&From::Batches(records(120)), kind);
    // So little lateness that sessions begin beside others that have closed and are not handed out yet.
    whatever_fails_the_rows_are_the_same(&From::Batches(records(200)), Kind { lateness: Some((15, 444)), ..kind });
}

/// Eight partitions, of which each round saves one: blocks wait over several rounds, windows and sessions that close
/// meanwhile are put off, since the next checkpoint begins when the one before it is complete, and now and then so much waits
/// that the rest is saved at once.
#[test]
fn what_comes_while_a_state_is_saved_waits() {
    let windows = Kind { lateness: Some((150, 400)), bits: 3, ..WINDOWS };
    let sessions = Kind { window: None, session: true, lateness: Some((15, 444)), ..windows };
    let tumbling = Kind { window: Some((50, 50)), ..windows };
    let (few, many) = (From::Batches(records(150)), From::Batches(records(600)));
    for kind in [windows, sessions, tumbling] {
        let tape = Tape::default();
        let checkpoint = Checkpoint::new("/d/c").on(Arc::new(MemoryDisk::new("/d"))).every(Duration::ZERO);
        let waited = checkpoint.waited.clone();
        let found = run_with(checkpoint, query(&many, kind), &tape).unwrap().unwrap();
        let mut plain = query(&many, kind).run().unwrap();
        same_cells(&tape.take(), &plain.by_ref().collect::<Result<Vec<_>>>().unwrap());
        assert_eq!((found.ledger, found.windows), (plain.statistics().ledger, plain.statistics().windows));
        let [blocks, full] = [&waited[0], &waited[1]].map(|n| n.load(Ordering::Relaxed));
        assert!(full > 0 && blocks > 30, "{kind:?}: {blocks} blocks have waited, {full} times there was no room");
        whatever_fails_the_rows_are_the_same(&few, kind);
    }
}

/// Inputs that take turns, with parts of blocks of each waiting for more.
#[test]
fn several_inputs_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let all = records(120);
    let folders = ["a", "b"].map(|name| dir.path().join(name));
    let files = folders.iter().zip([(0, 60), (60, 60)]).flat_map(|(folder, (from, count))| {
        std::fs::create_dir(folder).unwrap();
        match parquet(folder, &all.slice(from, count), 11) {
            From::Files(paths) => paths,
            From::Batches(_) | From::Text(_) => Vec::new(),
        }
    });
    let from = From::Files(files.collect());
    whatever_fails_the_rows_are_the_same(&from, WINDOWS);
    whatever_fails_the_rows_are_the_same(&from, Kind { lateness: Some((150, 400)), ..WINDOWS });
}

/// Partitions leave memory while the input is read; their pieces are in files that move into the checkpoint.
#[test]
fn spilled_state_goes_on() {
    let kind = Kind { memory: Some(1 << 20), ..WINDOWS };
    let from = From::Batches(records(120));
    let disk = MemoryDisk::new("/d");
    let statistics = run(&disk, query(&from, kind), &Tape::default()).unwrap().unwrap();
    assert!(statistics.spilled_bytes > 0);
    whatever_fails_the_rows_are_the_same(&from, kind);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A run dies again and again, at any operation, with any memory, and is taken up with another number of threads.
    #[test]
    fn a_run_that_dies_often_ends_all_the_same(
        records in prop::collection::vec(record(), 1..300), deaths in prop::collection::vec((0u64..150, 0.0f64..1.0), 0..6),
        late in prop::option::of((0i64..300, 100i64..600)), memory in prop::option::of(prop::sample::select(vec![1usize << 17, 1 << 20, 1 << 23])),
        window in prop::option::of((20i64..100, 10i64..40)), session in any::<bool>(), group in prop::option::of(5usize..40),
        bits in 0u32..4,
    ) {
        let window = window.filter(|_| !session);
        let lateness = late.filter(|_| session || window.is_some());
        // With a bound nothing is spilled.
        let kind = Kind { window, session, memory: memory.filter(|_| lateness.is_none()), lateness, threads: 1, bits };
        let dir = tempfile::tempdir().unwrap();
        let from = match group {
            None => From::Batches(batch(&records)),
            Some(group) => parquet(dir.path(), &batch(&records), group),
        };
        let want = query(&from, Kind { memory: None, ..kind }).run().unwrap().collect::<Result<Vec<_>>>().unwrap();
        let (mut disk, tape) = (MemoryDisk::new("/d"), Tape::default());
        for (threads, (at, torn)) in (1..).zip(deaths) {
            disk.fail_at(Some(at));
            let _ = run(&disk, query(&from, Kind { threads: 1 + threads % 3, ..kind }), &tape);
            disk.fail_at(None);
            if torn > 0.3 {
                disk = disk.crash(torn);
            }
        }
        run(&disk, query(&from, kind), &tape).unwrap();
        same_cells(&tape.0.lock().unwrap(), &want);
    }
}

/// The newest checkpoint is damaged: the one before serves, with a warning. Both are: an error. A file of state is: an error.
#[test]
fn damage_is_told() {
    let from = From::Batches(records(120));
    let want = query(&from, WINDOWS).run().unwrap().collect::<Result<Vec<_>>>().unwrap();
    let disk = MemoryDisk::new("/d");
    let good = MemoryDisk::new("/d");
    run(&good, query(&from, WINDOWS), &Tape::default()).unwrap();
    // Sealing and completing the run take four writes and syncs each.
    disk.fail_at(Some(good.operations() - 8));
    assert!(run(&disk, query(&from, WINDOWS), &Tape::default()).is_err());
    disk.fail_at(None);
    let slots = [0, 1].map(|n| PathBuf::from(format!("/d/c/manifest-{n}")));
    let number = |path: &PathBuf| {
        let mut number = 0;
        disk.damage(path, |bytes| number = bytes[16]);
        number
    };
    let newest = usize::from(number(&slots[1]) > number(&slots[0]));
    let state = disk.crash(1.0);
    let number = |path: &PathBuf| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u64>().ok());
    let files = state.files();
    let last =
        files.iter().filter(|path| path.extension().is_some_and(|end| end == "state")).max_by_key(|path| number(path));
    state.damage(last.unwrap(), |bytes| bytes[70] ^= 1);
    disk.damage(&slots[newest], |bytes| bytes[50] ^= 1);
    let one = disk.crash(1.0);
    // Of the newest one the manifest is damaged, or the state.
    for disk in [&one, &state] {
        let tape = Tape::default();
        let checkpoint = Checkpoint::new("/d/c").on(Arc::new(disk.crash(1.0))).side(Arc::new(tape));
        let rows = query(&from, WINDOWS).checkpoint(checkpoint).run().unwrap();
        assert!(rows.notes()[0].contains("going on from the checkpoint before"), "{:?}", rows.notes());
    }
    let tape = Tape::default();
    run(&state, query(&from, WINDOWS), &tape).unwrap();
    same_cells(&tape.0.lock().unwrap(), &want);
    let tape = Tape::default();
    run(&one, query(&from, WINDOWS), &tape).unwrap();
    same_cells(&tape.0.lock().unwrap(), &want);

    let states = disk.crash(1.0);
    for file in states.files().iter().filter(|file| file.extension().is_some_and(|e| e == "state")) {
        states.damage(file, |bytes| bytes[70] ^= 1);
    }
    let error = run(&states, query(&from, WINDOWS), &Tape::default()).err().unwrap().to_string();
    assert!(error.contains(".state: byte ") && error.contains("its checksum does not fit"), "{error}");
    disk.damage(&slots[1 - newest], |bytes| bytes.truncate(30));
    let error = run(&disk, query(&from, WINDOWS), &Tape::default()).err().unwrap().to_string();
    assert!(error.starts_with("/d/c/manifest-"), "{error}");
}

/// What is asked for must be what was asked for, and the disk must not be full.
#[test]
fn another_query_and_a_full_disk_are_refused() {
    let from = From::Batches(records(120));
    let disk = MemoryDisk::new("/d");
    disk.capacity(Some(3000));
    let error = run(&disk, query(&from, WINDOWS), &Tape::default()).err().unwrap();
    assert_eq!(error.io().map(std::io::Error::kind), Some(std::io::ErrorKind::StorageFull), "{error}");
    disk.capacity(None);
    assert!(run(&disk, query(&from, WINDOWS), &Tape::default()).unwrap().is_some());
    let error = run(&disk, query(&from, Kind { window: Some((80, 30)), ..WINDOWS }), &Tape::default())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("--window was 70us and is 80us"), "{error}");
    let error = run(&disk, query(&from, WINDOWS).sort_by_key(), &Tape::default()).err().unwrap().to_string();
    assert_eq!(
        error,
        "/d/c: the checkpoint is of another run: --sort was not given and is key; give the same command, or another folder \
         to --checkpoint"
    );
    let error = run(&disk, query(&from, WINDOWS).naive(true), &Tape::default()).err().unwrap().to_string();
    assert!(error.contains("--naive"), "{error}");
}
