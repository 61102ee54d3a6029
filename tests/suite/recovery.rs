//! Streams that go on in another life of the program: the rows of `cases/recovery.md` about streams, by their numbers.
//!
//! | rows | what | here |
//! |---|---|---|
//! | A, B | the log | `src/checkpoint/log_tests.rs` |
//! | C1 | without a folder there is no log | `c1_without_a_folder_nothing_is_written` |
//! | C2-C7, C9-C12 | which records belong to which batch: an entry in the log for each batch; there are no blocks | `stream::tests::recovery::receivers_go_on_*` |
//! | C8 | starting anew on an old log: refused | `recovery_refused::c8_a_folder_with_a_checkpoint_is_not_begun_anew` |
//! | D1-D5 | operators and outputs | `d1_*` to `d5_*`, and at every write `stream::tests::recovery` |
//! | D6-D8 | files of checkpoints | `d6_d7_d8_*` |
//! | D9 | a long pause | `d9_missed_batches_are_caught_up` |
//! | D10 | settings: the program builds its context each time and sets them; what has to be the same is checked | `d10_*`, `recovery_refused` |
//! | D11 | several outputs of one stream | `d11_outputs_share_what_was_restored` |
//! | D12 | the rate | `d12_the_rate_limit_is_in_force_again` |
//! | D13 | class loaders: there are none | - |
//! | D14 | how many files: one state for each checkpoint, two are kept | `d6_d7_d8_*` |
//! | E | files | `e_files_are_taken_once_across_a_restart` |
//! | F1, F2 | random kills | `recovery_killed`; at every write and every sync in turn `stream::tests::recovery` |
//! | F3 | create or recover: closures cannot be saved, so the set-up runs each time | `f3_*` |
//! | G1-G3 | the shape of another engine's map | - |
//! | G4, G5 | empty states; no growth | `g4_g5_states_do_not_grow_with_batches` |
//! | H | event time is the declared face's | - |
//!
//! After a restart not one batch but all since the last checkpoint run again, and after a graceful stop none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use windrow::Result;
use windrow::stream::{
    Builder, DStream, ManualClock, Pid, Receiver, ReceiverOptions, State, StateSpec, Store, StreamingContext, Time,
};

pub const HALF: Duration = Duration::from_millis(500);

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What came out, by batch; what comes out again has to be the same.
#[derive(Clone, Default)]
pub struct Out(Arc<Mutex<BTreeMap<u64, Vec<String>>>>, Arc<AtomicU64>);

impl Out {
    pub fn of<T: Clone + Send + Sync + std::fmt::Debug + 'static>(&self, stream: &DStream<T>) {
        let out = self.clone();
        stream.for_each_batch(move |batch, time| {
            let mut rows: Vec<_> = batch.collect()?.iter().map(|row| format!("{row:?}")).collect();
            rows.sort();
            out.1.fetch_add(1, Ordering::Relaxed);
            let before = out.0.lock().unwrap().insert(time.millis(), rows.clone());
            assert!(before.is_none_or(|before| before == rows));
            Ok(())
        });
    }

    pub fn rows(&self) -> Vec<Vec<String>> {
        self.0.lock().unwrap().values().cloned().collect()
    }

    /// Batches that came, each time counted.
    fn came(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }
}

fn builder(clock: &ManualClock) -> Builder {
    StreamingContext::builder().batch_interval(HALF).threads(1).manual_clock(clock)
}

/// A context in `dir` with what `graph` adds; not started.
pub fn context(
    dir: &Path,
    build: impl FnOnce(Builder) -> Builder,
    graph: impl FnOnce(&StreamingContext),
) -> Result<(StreamingContext, ManualClock)> {
    let clock = ManualClock::new();
    let ctx = StreamingContext::get_or_create(dir.join("saved"), || {
        let ctx = build(builder(&clock)).build()?;
        graph(&ctx);
        Ok(ctx)
    })?;
    Ok((ctx, clock))
}

/// A life that ends suddenly after batch `last`.
pub fn live(dir: &Path, last: u64, graph: impl FnOnce(&StreamingContext)) {
    let (ctx, _) = context(dir, |b| b, graph).unwrap();
    ctx.start().unwrap();
    run(&ctx, last);
    ctx.stop(false).unwrap();
}

/// One batch after the other, up to `last`.
pub fn run(ctx: &StreamingContext, last: u64) {
    (1..=last).for_each(|k| ctx.run_until(Time::from_millis(500 * k)).unwrap());
}

/// Two lives with a sudden end between them, after batch `first` and batch `last`.
fn twice(first: u64, last: u64, graph: impl Fn(&StreamingContext, &Out)) -> Vec<Vec<String>> {
    let (dir, out) = (tempfile::tempdir().unwrap(), Out::default());
    live(dir.path(), first, |ctx| graph(ctx, &out));
    let before = out.came();
    live(dir.path(), last, |ctx| graph(ctx, &out));
    assert!(out.came() - before < last, "it began anew");
    out.rows()
}

pub fn texts(batches: &'static [&'static [&'static str]], ctx: &StreamingContext) -> DStream<String> {
    let at = |time: Time| batches.get(time.millis() as usize / 500 - 1).copied().unwrap_or_default();
    ctx.computed_stream(move |time| Some(at(time).iter().map(|text| (*text).to_owned()).collect()))
}

pub const WORDS: &[&[&str]] = &[&["a", "a", "b"], &["", ""], &[], &["a", "a", "b"], &["", ""], &[]];

#[test]
fn d1_words_are_counted_across_a_restart() {
    let rows = twice(3, 6, |ctx, out| {
        let counts = texts(WORDS, ctx).map(|word| (word, 1)).reduce_by_key(|a, b| a + b);
        counts.checkpoint(ms(1000));
        out.of(&counts);
    });
    let counts = |rows: &[Vec<String>]| rows.iter().map(|rows| rows.join(" ")).collect::<Vec<_>>();
    let three = [r#"("a", 2) ("b", 1)"#, r#"("", 2)"#, ""];
    assert_eq!(counts(&rows[..3]), three);
    assert_eq!(counts(&rows[3..]), three);
}

pub fn a(ctx: &StreamingContext) -> DStream<(String, u64)> {
    ctx.computed_stream(|_| Some(vec![("a".to_owned(), 1)]))
}

pub fn counts(numbers: impl IntoIterator<Item = u64>) -> Vec<Vec<String>> {
    numbers.into_iter().map(|n| vec![format!("(\"a\", {n})")]).collect()
}

#[test]
fn d2_a_window_with_an_inverse_goes_on() {
    let rows = twice(7, 10, |ctx, out| {
        let sums = a(ctx).reduce_by_key_and_window(|a, b| a + b, |a, b| a - b, ms(2000), HALF);
        sums.checkpoint(ms(1000));
        out.of(&sums);
    });
    assert_eq!(rows, counts([1, 2, 3, 4, 4, 4, 4, 4, 4, 4]));
}

pub fn running(ctx: &StreamingContext) -> DStream<(String, u64)> {
    let states = a(ctx).update_state_by_key(|ones, n: Option<u64>| Some(ones.iter().sum::<u64>() + n.unwrap_or(0)));
    states.checkpoint(ms(1000));
    states
}

#[test]
fn d3_a_running_count_goes_on() {
    assert_eq!(twice(7, 10, |ctx, out| out.of(&running(ctx))), counts(1..=10));
}

#[test]
fn d4_mapped_states_go_on_with_their_snapshots() {
    const INPUT: &[&[&str]] = &[&[], &["a"], &["a", "b"], &["a", "b", "c"], &["a", "b"], &["a"], &[]];
    let rows = twice(3, 7, |ctx, out| {
        let count = |_, _: &String, one: Option<u64>, state: &mut State<'_, u64>| {
            state.update(state.get().unwrap_or(&0) + one.unwrap_or(0));
            None::<()>
        };
        let states = texts(INPUT, ctx).map(|word| (word, 1)).map_with_state(count, StateSpec::new());
        states.checkpoint(ms(1500));
        out.of(&states.state_snapshots());
    });
    let last = [r#"("a", 5)"#, r#"("b", 3)"#, r#"("c", 1)"#];
    let wanted: [&[&str]; 4] =
        [&[], &[r#"("a", 1)"#], &[r#"("a", 2)"#, r#"("b", 1)"#], &[r#"("a", 3)"#, r#"("b", 2)"#, r#"("c", 1)"#]];
    assert_eq!(&rows[..4], wanted);
    assert_eq!(rows[4..], [[r#"("a", 4)"#, last[1], last[2]], last, last]);
}

/// Inside a transform and outside: a batch that is run again leaves one complete copy.
#[test]
fn d5_files_of_a_batch_that_runs_again_are_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, inside) = (dir.path().join("plain"), dir.path().join("inside"));
    for last in [3, 6] {
        live(dir.path(), last, |ctx| {
            let counts = texts(WORDS, ctx).map(|word| (word, 1)).reduce_by_key(|a, b| a + b);
            counts.map(|(word, n)| format!("{word}:{n}")).save_as_text_files(&plain, "txt");
            let inside = inside.clone();
            let saved = counts.transform(move |batch, time| {
                let path = format!("{}-{}", inside.display(), time.millis());
                batch.clone().map(|(word, n)| format!("{word}:{n}")).save_as_text_file(path).unwrap();
                batch
            });
            saved.for_each_batch(|batch, _| batch.count().map(drop));
        });
    }
    for k in 1..=6u64 {
        for path in [format!("{}-{}.txt", plain.display(), k * 500), format!("{}-{}", inside.display(), k * 500)] {
            let mut lines: Vec<String> = std::fs::read_dir(path)
                .unwrap()
                .flat_map(|file| {
                    std::fs::read_to_string(file.unwrap().path())
                        .unwrap()
                        .lines()
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                })
                .collect();
            lines.sort();
            let wanted: [&[&str]; 3] = [&["a:2", "b:1"], &[":2"], &[]];
            assert_eq!(lines, wanted[(k as usize - 1) % 3]);
        }
    }
    let partial = std::fs::read_dir(dir.path())
        .unwrap()
        .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "partial"));
    assert_eq!(partial.count(), 0);
}

fn states(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir.join("saved")).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "state"));
    files.sort();
    files
}

#[test]
fn d6_d7_d8_checkpoints_come_and_go() {
    let (dir, out) = (tempfile::tempdir().unwrap(), Out::default());
    let mut seen = Vec::new();
    for last in [4, 8, 9, 10] {
        let (ctx, _) = context(dir.path(), |b| b, |ctx| out.of(&running(ctx))).unwrap();
        assert_eq!(ctx.recovers_from().map(Time::millis), [None, Some(2000), Some(4000), Some(4000)][seen.len()]);
        ctx.start().unwrap();
        run(&ctx, last);
        ctx.stop(false).unwrap();
        seen.push(states(dir.path()));
    }
    assert!(seen.iter().all(|files| files.len() == 2), "the last good ones are kept: {seen:?}");
    assert!(seen[1].iter().all(|file| !seen[0].contains(file)), "superseded ones are removed: {seen:?}");
    assert_eq!(seen[2], seen[1], "batch 9 is none with a checkpoint");
    assert_ne!(seen[3], seen[1]);
    assert_eq!(out.rows(), counts(1..=10));
}

#[test]
fn d9_missed_batches_are_caught_up() {
    let (dir, out) = (tempfile::tempdir().unwrap(), Out::default());
    live(dir.path(), 4, |ctx| out.of(&running(ctx)));
    let (ctx, clock) = context(dir.path(), |b| b, |ctx| out.of(&running(ctx))).unwrap();
    clock.set(Time::from_millis(500 * 11));
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(500 * 15)).unwrap();
    ctx.stop(false).unwrap();
    assert_eq!(out.rows(), counts(1..=15));
}

/// Threads and partitions are those of the new life; rows go where they belong.
#[test]
fn d10_settings_are_given_anew() {
    let (dir, out) = (tempfile::tempdir().unwrap(), Out::default());
    for (threads, last) in [(1, 5), (3, 10), (2, 15)] {
        let graph = |ctx: &StreamingContext| {
            let rows =
                ctx.computed_stream(|time| Some((0..40u64).map(|i| (i % 13, time.millis() / 500 + i)).collect()));
            let sums = rows.reduce_by_key_and_window(|a, b| a + b, |a, b| a - b, ms(2000), ms(1000));
            let most = rows.reduce_by_key_and_window_without_inverse(|a, b| *a.max(b), ms(2000), ms(1000));
            let all = rows
                .update_state_by_key(|values, sum: Option<u64>| Some(sum.unwrap_or(0) + values.iter().sum::<u64>()));
            [&sums, &most, &all].iter().for_each(|stream| stream.checkpoint(ms(1000)));
            let all = all.reduce_by_key_and_window_without_inverse(|_, b| *b, ms(1000), ms(1000));
            all.checkpoint(ms(1000));
            out.of(&sums.union(&most).union(&all));
        };
        let (ctx, _) = context(dir.path(), |b| b.threads(threads).partitions(threads * 2), graph).unwrap();
        ctx.start().unwrap();
        ctx.run_until(Time::from_millis(500 * last)).unwrap();
        ctx.stop(false).unwrap();
    }
    let mut wanted = Vec::new();
    for k in (2..=15u64).step_by(2) {
        let mut rows = Vec::new();
        for key in 0..13 {
            let value = |k: u64| (0..40).filter(move |i| i % 13 == key).map(move |i| k + i);
            let window = |k: u64| (k.saturating_sub(3).max(1)..=k).flat_map(value);
            rows.push(format!("({key}, {})", window(k).sum::<u64>()));
            rows.push(format!("({key}, {})", window(k).max().unwrap()));
            rows.push(format!("({key}, {})", (1..=k).flat_map(value).sum::<u64>()));
        }
        rows.sort();
        wanted.push(rows);
    }
    assert_eq!(out.rows(), wanted);
}

#[test]
fn d11_outputs_share_what_was_restored() {
    let dir = tempfile::tempdir().unwrap();
    let outs = [Out::default(), Out::default(), Out::default()];
    let begun = Arc::new(AtomicU64::new(0));
    for last in [3, 5] {
        live(dir.path(), last, |ctx| {
            let begun = begun.clone();
            let ones = std::iter::repeat_with(|| 1).inspect(move |_| {
                begun.fetch_add(1, Ordering::Relaxed);
            });
            let mapped = ctx.iterator_stream(ones, 1).map(|n| n + 100);
            mapped.checkpoint(HALF);
            outs.iter().for_each(|out| out.of(&mapped));
        });
    }
    for out in &outs {
        assert_eq!(out.rows(), vec![vec!["101".to_owned()]; 5]);
    }
    // Three in the first life, those and two in the second: it was moved to its position once.
    assert_eq!(begun.load(Ordering::Relaxed), 3 + 3 + 2);
}

#[test]
fn d12_the_rate_limit_is_in_force_again() {
    let dir = tempfile::tempdir().unwrap();
    let start = || {
        let limited = |b: Builder| b.backpressure(Pid::new().min_rate(1.0)).initial_rate(100);
        let (ctx, _) = context(dir.path(), limited, |ctx| {
            let records = (0..5_000).map(|n| format!("{n}\n")).collect::<String>();
            std::fs::write(dir.path().join("records"), records).unwrap();
            let source = windrow::stream::TailSource::new([dir.path().join("records")]);
            let slow = ctx.source_stream(source, Default::default()).map(|line| {
                std::thread::sleep(Duration::from_millis(1));
                line
            });
            slow.checkpoint(HALF);
            slow.for_each_batch(|batch, _| batch.count().map(drop));
        })
        .unwrap();
        ctx.start().unwrap();
        ctx
    };
    let limit = |ctx: &StreamingContext| ctx.statistics().rate_limit.unwrap();
    let ctx = start();
    run(&ctx, 3);
    let before = limit(&ctx);
    run(&ctx, 4);
    ctx.stop(false).unwrap();
    // That of when the last batch was made.
    assert_eq!((before != 100, limit(&start())), (true, before));
}

/// Scenario E: files appear while nobody looks, none is lost or taken twice, and the window remembers those of before.
#[test]
fn e_files_are_taken_once_across_a_restart() {
    let (dir, out) = (tempfile::tempdir().unwrap(), Out::default());
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let graph = |ctx: &StreamingContext| {
        let numbers = ctx.text_directory_stream(&files).map(|line| line.parse::<u64>().unwrap());
        let sums = numbers.reduce_by_window_without_inverse(|a, b| a + b, ms(500 * 30), HALF);
        sums.checkpoint(HALF);
        out.of(&sums);
    };
    let write = |n: u64| {
        std::fs::write(files.join(".new"), format!("{n}\n")).unwrap();
        std::fs::rename(files.join(".new"), files.join(n.to_string())).unwrap();
    };
    let (ctx, _) = context(dir.path(), |b| b, graph).unwrap();
    ctx.start().unwrap();
    for n in 1..=3 {
        write(n);
        ctx.run_until(Time::from_millis(500 * n)).unwrap();
    }
    ctx.stop(false).unwrap();
    (4..=6).for_each(write);
    let (ctx, _) = context(dir.path(), |b| b, graph).unwrap();
    ctx.start().unwrap();
    // Those that appeared meanwhile are in the first batch that looks.
    ctx.run_until(Time::from_millis(500 * 6)).unwrap();
    for n in 7..=9 {
        write(n);
        ctx.run_until(Time::from_millis(500 * n)).unwrap();
    }
    ctx.stop(false).unwrap();
    let rows: Vec<_> = out.rows().concat();
    assert_eq!(rows, ["1", "3", "6", "21", "21", "21", "28", "36", "45"]);
}

#[test]
fn f3_the_set_up_runs_each_time_and_what_it_builds_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (out, built) = (Out::default(), AtomicU64::new(0));
    for last in [2, 4, 6] {
        live(dir.path(), last, |ctx| {
            built.fetch_add(1, Ordering::Relaxed);
            out.of(&running(ctx));
        });
    }
    assert_eq!((built.into_inner(), out.rows(), out.came()), (3, counts(1..=6), 6));
}

/// After a graceful stop nothing runs again, also in the middle of an interval of checkpoints.
#[test]
fn a_graceful_stop_saves_what_there_is() {
    let (dir, out) = (tempfile::tempdir().unwrap(), Out::default());
    for last in [3, 3, 5] {
        let (ctx, _) = context(dir.path(), |b| b, |ctx| out.of(&running(ctx))).unwrap();
        ctx.start().unwrap();
        ctx.run_until(Time::from_millis(500 * last)).unwrap();
        let done = ctx.statistics().batches;
        assert_eq!(done, last);
        ctx.stop(true).unwrap();
    }
    assert_eq!((out.came(), out.rows()), (5, counts(1..=5)));
}

#[test]
fn g4_g5_states_do_not_grow_with_batches() {
    let (dir, out) = (tempfile::tempdir().unwrap(), Out::default());
    let sizes = [2, 20, 60].map(|last| {
        live(dir.path(), last, |ctx| {
            let nothing = ctx.computed_stream(|_| Some(Vec::<(u8, u64)>::new()));
            let none = nothing.update_state_by_key(|_, _: Option<u8>| None::<u8>);
            none.checkpoint(HALF);
            out.of(&none);
            let counts = a(ctx).reduce_by_key_and_window(|a, b| a + b, |a, b| a - b, HALF, HALF);
            counts.checkpoint(HALF);
            counts.for_each_batch(|batch, _| batch.count().map(drop));
        });
        states(dir.path()).iter().map(|file| std::fs::metadata(file).unwrap().len()).max()
    });
    assert_eq!(sizes[1], sizes[2]);
    assert!(out.rows().iter().all(Vec::is_empty));
}

/// Segments of the log are of a minute; those that no checkpoint needs are removed.
#[test]
fn the_log_is_rotated_and_cleaned() {
    let dir = tempfile::tempdir().unwrap();
    let minutes = |b: Builder| b.batch_interval(Duration::from_secs(20));
    let (ctx, _) = context(dir.path(), minutes, |ctx| {
        let numbers = ctx.iterator_stream(0.., 3);
        numbers.checkpoint(Duration::from_secs(40));
        numbers.for_each_batch(|batch, _| batch.count().map(drop));
    })
    .unwrap();
    ctx.start().unwrap();
    let mut most = 0;
    for k in 1..=40 {
        ctx.run_until(Time::from_millis(20_000 * k)).unwrap();
        most = most.max(std::fs::read_dir(dir.path().join("saved/log")).unwrap().count());
    }
    ctx.stop(false).unwrap();
    assert!((2..=4).contains(&most), "{most} segments of 14");
}

pub struct Numbers;

impl Receiver<u64> for Numbers {
    fn run(&self, store: &Store<u64>) -> Result<()> {
        store.store_many((0..100).collect())
    }
}

#[test]
fn c1_without_a_folder_nothing_is_written() {
    let clock = ManualClock::new();
    let ctx = builder(&clock).build().unwrap();
    let out = Out::default();
    out.of(&ctx.receiver_stream_logged(Numbers, ReceiverOptions::default()).count());
    ctx.start().unwrap();
    assert_eq!(ctx.recovers_from(), None);
    let total = || out.rows().concat().iter().map(|n| n.parse::<u64>().unwrap()).sum::<u64>();
    (1..10_000).take_while(|_| total() < 100).for_each(|k| ctx.run_until(Time::from_millis(500 * k)).unwrap());
    ctx.stop(true).unwrap();
    assert_eq!(total(), 100);
}
