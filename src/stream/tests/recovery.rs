//! Contexts that die at every write and every sync of a run, and go on: what comes out is what an undisturbed run gives.
//!
//! A [`World`] outlives the program: it feeds an input with the records of each batch once, whatever becomes of those who
//! read it. Every batch may come out more than once, and has to be the same each time.

use super::ms;
use crate::Result;
use crate::store::memory_disk::MemoryDisk;
use crate::stream::{Chunk, DStream, Data, ManualClock, Offset, Receiver, ReceiverOptions, Source, SourceOptions};
use crate::stream::{State, StateSpec, Store, StreamingContext, Time};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) type Row = (u8, i64);

/// What came out: under the output's name and the batch, the rows in order.
#[derive(Clone, Default)]
pub(super) struct Out(Arc<Mutex<Rows>>);

type Rows = BTreeMap<(&'static str, u64), Vec<String>>;

impl Out {
    pub(super) fn of<T: Data + Debug>(&self, name: &'static str, stream: &DStream<T>) {
        let out = self.clone();
        stream.for_each_batch(move |batch, time| {
            let mut rows: Vec<_> = batch.collect()?.iter().map(|row| format!("{row:?}")).collect();
            rows.sort();
            let before = out.0.lock().unwrap().insert((name, time.millis()), rows.clone());
            assert!(
                before.as_ref().is_none_or(|before| *before == rows),
                "{name} at {time}: {before:?}, then {rows:?}"
            );
            Ok(())
        });
    }

    pub(super) fn all(&self) -> Rows {
        self.0.lock().unwrap().clone()
    }
}

/// Where records come from, for all lives of a program.
pub(super) trait World {
    /// In another world nothing has been fed.
    fn new() -> Self;
    fn input(&self, ctx: &StreamingContext) -> DStream<Row>;
    /// The records of batch `k` arrive.
    fn feed(&self, k: u64) -> Result<()>;
}

/// The records of batch `k`.
pub(super) fn records(k: u64) -> Vec<Row> {
    (0..(k * 7 + 1) % 4).map(|i| (((k * 5 + i * 3) % 5) as u8, (k * 3 + i) as i64)).collect()
}

/// Records that can be made again.
pub(super) struct Computed;

impl World for Computed {
    fn new() -> Self {
        Computed
    }

    fn input(&self, ctx: &StreamingContext) -> DStream<Row> {
        ctx.computed_stream(|time| Some(records(time.millis())))
    }

    fn feed(&self, _: u64) -> Result<()> {
        Ok(())
    }
}

/// An iterator that begins anew in each life, two records a batch.
struct Iterator;

impl World for Iterator {
    fn new() -> Self {
        Iterator
    }

    fn input(&self, ctx: &StreamingContext) -> DStream<Row> {
        ctx.iterator_stream((0..13).map(|i| (i as u8 % 3, i)), 2)
    }

    fn feed(&self, _: u64) -> Result<()> {
        Ok(())
    }
}

/// A log of two partitions, of which each batch finds what has come since.
#[derive(Clone)]
pub(super) struct Partitions(Arc<Mutex<Logged>>);

#[derive(Default)]
struct Logged {
    partitions: [Vec<Row>; 2],
    committed: BTreeMap<u32, Offset>,
}

impl Partitions {
    /// Records that were committed.
    pub(super) fn committed(&self) -> usize {
        self.0.lock().unwrap().committed.values().map(|offset| usize::from(offset.0[0])).sum()
    }
}

impl World for Partitions {
    fn new() -> Self {
        Partitions(Arc::default())
    }

    fn input(&self, ctx: &StreamingContext) -> DStream<Row> {
        ctx.source_stream(self.clone(), SourceOptions::default())
    }

    fn feed(&self, k: u64) -> Result<()> {
        let mut state = self.0.lock().unwrap();
        records(k).into_iter().for_each(|row| state.partitions[row.0 as usize % 2].push(row));
        Ok(())
    }
}

impl Source for Partitions {
    type Record = Row;

    fn partitions(&mut self) -> Result<Vec<(u32, Offset)>> {
        Ok((0..2).map(|i| (i, Offset(vec![0]))).collect())
    }

    fn read(&mut self, partition: u32, from: &Offset, limit: usize) -> Result<Chunk<Row>> {
        let (state, at) = (self.0.lock().unwrap(), from.0[0] as usize);
        // In pieces, so that what was one read may take several again.
        let all = &state.partitions[partition as usize];
        let records = all[at..].iter().take(limit).copied().collect::<Vec<_>>();
        let next = Offset(vec![(at + records.len()) as u8]);
        Ok(Chunk { records, next })
    }

    fn commit(&mut self, offsets: &BTreeMap<u32, Offset>) -> Result<()> {
        self.0.lock().unwrap().committed.clone_from(offsets);
        Ok(())
    }
}

/// Files, one for each batch that has records.
struct Files(tempfile::TempDir);

impl World for Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("old"), "9 9\n").unwrap();
        Files(dir)
    }

    fn input(&self, ctx: &StreamingContext) -> DStream<Row> {
        ctx.text_directory_stream(self.0.path()).map(|line| {
            let (key, value) = line.split_once(' ').unwrap();
            (key.parse().unwrap(), value.parse().unwrap())
        })
    }

    fn feed(&self, k: u64) -> Result<()> {
        let text: String = records(k).iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        if !text.is_empty() {
            let hidden = self.0.path().join(".new");
            std::fs::write(&hidden, text).unwrap();
            std::fs::rename(hidden, self.0.path().join(k.to_string())).unwrap();
        }
        Ok(())
    }
}

/// A receiver that stores what it is handed, two pieces a batch.
#[derive(Clone)]
struct Hand(Arc<Mutex<Option<Store<Row>>>>);

impl Receiver<Row> for Hand {
    fn run(&self, store: &Store<Row>) -> Result<()> {
        *self.0.lock().unwrap() = Some(store.clone());
        while !store.is_stopped() {
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
}

impl World for Hand {
    fn new() -> Self {
        Hand(Arc::default())
    }

    fn input(&self, ctx: &StreamingContext) -> DStream<Row> {
        *self.0.lock().unwrap() = None;
        ctx.receiver_stream_logged(self.clone(), ReceiverOptions::default())
    }

    fn feed(&self, k: u64) -> Result<()> {
        let store = loop {
            if let Some(store) = self.0.lock().unwrap().clone() {
                break store;
            }
            std::thread::yield_now();
        };
        store.store_many(records(k))
    }
}

pub(super) fn builder(clock: &ManualClock, threads: usize) -> StreamingContext {
    let builder = StreamingContext::builder().batch_interval(ms(1)).threads(threads).manual_clock(clock);
    builder.build().unwrap()
}

pub(super) const DIR: &str = "/d/c";

/// One life of a program, up to batch `last`; batches that have been fed are not fed again.
fn live(
    world: &impl World,
    (fed, last): (&mut u64, u64),
    disk: &MemoryDisk,
    graph: impl Fn(&StreamingContext, &DStream<Row>),
) -> Result<()> {
    let clock = ManualClock::new();
    let ctx = StreamingContext::get_or_create_on(Arc::new(disk.clone()), PathBuf::from(DIR), || {
        let ctx = builder(&clock, 1);
        graph(&ctx, &world.input(&ctx));
        Ok(ctx)
    })?;
    ctx.start()?;
    for k in 1..=last {
        if k > *fed {
            world.feed(k)?;
            *fed = k;
        }
        ctx.run_until(Time::from_millis(k))?;
    }
    ctx.stop(false)
}

/// Lets a run die at every write and sync in turn, each in three ways, and go on.
fn dies_everywhere<W: World>(last: u64, graph: impl Fn(&StreamingContext, &DStream<Row>, &Out)) {
    let (whole, disk) = (Out::default(), MemoryDisk::new("/d"));
    live(&W::new(), (&mut 0, last), &disk, |ctx, rows| graph(ctx, rows, &whole)).unwrap();
    let (operations, whole) = (disk.operations(), whole.all());
    assert!(operations > 20 && !whole.is_empty());
    let (mut deaths, mut recoveries) = (0, 0);
    for n in 0..operations {
        // The machine stops and keeps what was synced; it keeps what was written, too; the disk fails once.
        for way in 0..3 {
            let (world, out, disk, mut fed) = (W::new(), Out::default(), MemoryDisk::new("/d"), 0);
            if way < 2 {
                disk.die_at(n)
            } else {
                disk.fail_at(Some(n))
            }
            let died = live(&world, (&mut fed, last), &disk, |ctx, rows| graph(ctx, rows, &out));
            deaths += u64::from(died.is_err());
            let disk = match way {
                0 => disk.crash(0.0),
                1 => disk.crash(1.0),
                _ => disk,
            };
            disk.fail_at(None);
            recoveries += u64::from(disk.files().iter().any(|file| file.ends_with("manifest-0")));
            let context = || format!("died at operation {n} in way {way}: {died:?}");
            live(&world, (&mut fed, last), &disk, |ctx, rows| graph(ctx, rows, &out))
                .unwrap_or_else(|e| panic!("{}, and then: {e}", context()));
            let got = out.all();
            for (at, rows) in &whole {
                assert_eq!(got.get(at), Some(rows), "{at:?}, {}", context());
            }
            assert_eq!(got.len(), whole.len());
        }
    }
    assert!(deaths > operations && recoveries > operations, "{deaths} deaths, {recoveries} recoveries of {operations}");
}

/// Every operator that keeps something.
pub(super) fn keyed(rows: &DStream<Row>, out: &Out) {
    let counts = rows.update_state_by_key(|values: Vec<i64>, state: Option<(i64, u8)>| {
        let (sum, idle) = state.unwrap_or_default();
        let idle = if values.is_empty() { idle + 1 } else { 0 };
        (idle < 3).then(|| (sum + values.iter().sum::<i64>(), idle))
    });
    counts.checkpoint(ms(2));
    out.of("update_state_by_key", &counts);
    let visits = rows.map_with_state(
        |_, key, value, state: &mut State<'_, i64>| {
            let sum = state.get().unwrap_or(&0) + value.unwrap_or(0);
            if value.is_some() {
                state.update(sum);
            }
            Some((*key, sum, value.is_none()))
        },
        StateSpec::new().timeout(ms(2)).initial_state([(0, 100), (77, 7)]),
    );
    visits.checkpoint(ms(2));
    out.of("map_with_state", &visits);
    out.of("state_snapshots", &visits.state_snapshots_with_time());
}

pub(super) fn windows(rows: &DStream<Row>, out: &Out) {
    let add = |a: &i64, b: &i64| a + b;
    let less = |a: &i64, b: &i64| a - b;
    let sums = rows.reduce_by_key_and_window(add, less, ms(3), ms(1));
    sums.checkpoint(ms(2));
    out.of("reduce_by_key_and_window", &sums);
    let kept = rows.reduce_by_key_and_window_filtered(add, less, ms(4), ms(3), |row| row.1 % 3 != 0);
    kept.checkpoint(ms(3));
    out.of("reduce_by_key_and_window_filtered", &kept);
    // Bit for bit.
    let floats = rows.map(|(key, n)| (key, 0.1 + n as f64 / 7.0));
    let floats = floats.reduce_by_key_and_window_without_inverse(|a, b| a * 0.9 + b, ms(5), ms(1));
    floats.checkpoint(ms(2));
    out.of("reduce_by_key_and_window_without_inverse", &floats);
    let all = rows.map(|row| row.1).reduce_by_window(|a, b| a + b, |a, b| a - b, ms(3), ms(1));
    all.checkpoint(ms(2));
    out.of("reduce_by_window", &all);
    let count = rows.count_by_window(ms(2), ms(1));
    count.checkpoint(ms(2));
    out.of("count_by_window", &count);
}

fn remembered(rows: &DStream<Row>, out: &Out) {
    let window = rows.window(ms(3), ms(1));
    window.checkpoint(ms(2));
    out.of("window", &window);
    let rare = rows.map(|row| row.1).window(ms(2), ms(2));
    rare.checkpoint(ms(2));
    out.of("rare window", &rare);
    let groups = rows.group_by_key_and_window(ms(4), ms(1));
    groups.checkpoint(ms(2));
    out.of("group_by_key_and_window", &groups);
    let values = rows.count_by_value_and_window(ms(3), ms(1));
    values.checkpoint(ms(2));
    out.of("count_by_value_and_window", &values);
}

#[test]
fn states_survive_a_death_at_every_operation() {
    dies_everywhere::<Computed>(9, |_, rows, out| keyed(rows, out));
}

#[test]
fn windows_survive_a_death_at_every_operation() {
    dies_everywhere::<Computed>(9, |_, rows, out| windows(rows, out));
}

#[test]
fn remembered_batches_survive_a_death_at_every_operation() {
    dies_everywhere::<Computed>(7, |_, rows, out| remembered(rows, out));
}

/// A sum of everything, and each batch as it came.
pub(super) fn simple(rows: &DStream<Row>, out: &Out) {
    out.of("rows", rows);
    let sums = rows
        .update_state_by_key(|values: Vec<i64>, sum: Option<i64>| Some(sum.unwrap_or(0) + values.iter().sum::<i64>()));
    sums.checkpoint(ms(3));
    out.of("sums", &sums);
}

#[test]
fn iterators_go_on_after_a_death_at_every_operation() {
    dies_everywhere::<Iterator>(9, |_, rows, out| simple(rows, out));
}

#[test]
fn sources_go_on_after_a_death_at_every_operation() {
    dies_everywhere::<Partitions>(9, |_, rows, out| simple(rows, out));
}

#[test]
fn directories_go_on_after_a_death_at_every_operation() {
    dies_everywhere::<Files>(9, |_, rows, out| simple(rows, out));
}

/// What was acknowledged is there once; of what was not, the sender does not know.
#[test]
fn receivers_go_on_after_a_death_at_every_operation() {
    let last = 8;
    let mut n = 0;
    loop {
        for torn in [0.0, 1.0] {
            let (world, out, disk, mut fed) = (Hand::new(), Out::default(), MemoryDisk::new("/d"), 0);
            disk.die_at(n);
            let died = live(&world, (&mut fed, last), &disk, |_, rows| simple(rows, &out));
            if died.is_ok() {
                assert!(n > 40, "{n}");
                return;
            }
            let disk = disk.crash(torn);
            let acknowledged = fed;
            // One piece may be in the log though nobody was told.
            fed += 1;
            live(&world, (&mut fed, last), &disk, |_, rows| simple(rows, &out)).unwrap();
            let got: Vec<String> =
                out.all().into_iter().filter(|(at, _)| at.0 == "rows").flat_map(|all| all.1).collect();
            let mut got: Vec<_> = got.iter().map(String::as_str).collect();
            got.sort_unstable();
            let expected = |skipped: Option<u64>| {
                let fed = (1..=last).filter(|k| Some(*k) != skipped).flat_map(records);
                let mut rows: Vec<_> = fed.map(|row| format!("{row:?}")).collect();
                rows.sort();
                rows
            };
            let (with, without) = (expected(None), expected(Some(acknowledged + 1)));
            assert!(got == with || got == without, "died at {n} with {died:?}: {got:?}, not {with:?} or {without:?}");
        }
        n += 1;
    }
}
