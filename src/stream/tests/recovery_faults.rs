//! What happens to a context that is saved on bad days: a full disk, damaged files, batches that fail, several at once.

use super::ms;
use super::recovery::{Computed, DIR, Out, Partitions, World, keyed, records, simple, windows};
use crate::store::memory_disk::MemoryDisk;
use crate::stream::{Builder, DStream, ManualClock, OnFailure, StreamingContext, Time};
use crate::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn context(
    disk: &MemoryDisk,
    build: impl FnOnce(Builder) -> Builder,
    graph: impl FnOnce(&StreamingContext),
) -> Result<StreamingContext> {
    let clock = ManualClock::new();
    StreamingContext::get_or_create_on(Arc::new(disk.clone()), PathBuf::from(DIR), || {
        let builder = StreamingContext::builder().batch_interval(ms(1)).threads(1).manual_clock(&clock);
        let ctx = build(builder).build()?;
        graph(&ctx);
        Ok(ctx)
    })
}

fn everything(rows: &DStream<(u8, i64)>, out: &Out) {
    keyed(rows, out);
    windows(rows, out);
}

/// What an undisturbed run puts out up to batch `last`.
fn undisturbed(last: u64, graph: impl Fn(&DStream<(u8, i64)>, &Out)) -> Out {
    let out = Out::default();
    let disk = MemoryDisk::new("/d");
    let ctx = context(&disk, |b| b, |ctx| graph(&Computed::new().input(ctx), &out)).unwrap();
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(last)).unwrap();
    ctx.stop(false).unwrap();
    out
}

/// A disk that is full ends the context with one sentence; with room again it goes on from the last checkpoint.
#[test]
fn a_full_disk_ends_the_context_and_leaves_the_last_checkpoint() {
    let whole = undisturbed(12, everything).all();
    let mut ended = 0;
    for capacity in (400..6_000).step_by(333) {
        let (disk, out) = (MemoryDisk::new("/d"), Out::default());
        disk.capacity(Some(capacity));
        let life = || {
            let ctx = context(&disk, |b| b, |ctx| everything(&Computed::new().input(ctx), &out))?;
            ctx.start()?;
            (1..=12).try_for_each(|k| ctx.run_until(Time::from_millis(k)))?;
            ctx.stop(false)
        };
        if let Err(error) = life() {
            ended += 1;
            let error = error.to_string();
            assert!(error.starts_with("the checkpoint after batch ") || error.starts_with("/d/c"), "{error}");
            assert!(error.ends_with("no storage space"), "{error}");
        }
        disk.capacity(None);
        life().unwrap();
        assert_eq!(out.all(), whole);
    }
    assert!(ended > 5, "{ended}");
}

/// Several batches at once, on several threads and with next to no memory, many of them late, ended in the middle.
#[test]
fn batches_that_run_at_once_are_saved_as_they_were() {
    let last = 60;
    let whole = undisturbed(last, everything).all();
    for jobs in [1, 3] {
        let (disk, out, at) = (MemoryDisk::new("/d"), Out::default(), AtomicU64::new(0));
        let mut lives = 0;
        while at.load(Ordering::Relaxed) < last {
            let build = |b: Builder| b.concurrent_jobs(jobs).threads(2).memory_limit(200);
            let ctx = context(&disk, build, |ctx| {
                let rows = ctx.computed_stream(|time| {
                    std::thread::sleep(Duration::from_micros(time.micros() / 7 % 300));
                    Some(records(time.millis()))
                });
                everything(&rows, &out);
            })
            .unwrap();
            ctx.start().unwrap();
            // The clock runs ahead, and batches queue.
            let target = (at.load(Ordering::Relaxed) + 17).min(last);
            let wait = if target == last { target } else { target - 9 };
            let super::super::Clock::Manual(clock) = &ctx.core.settings.clock else { unreachable!() };
            clock.set(Time::from_millis(target));
            ctx.await_batch(Time::from_millis(wait)).unwrap();
            ctx.stop(false).unwrap();
            at.store(wait, Ordering::Relaxed);
            lives += 1;
        }
        assert!(lives > 5);
        assert_eq!(out.all(), whole, "{jobs} at once");
    }
}

/// Of two checkpoints the newest is damaged, its manifest or its states: the one before is taken, and what came since is in
/// the log. If both are, that is an error.
#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let newest = |disk: &MemoryDisk, ending: &str| {
        let mut files: Vec<PathBuf> = disk.files();
        files.retain(|file| file.extension().is_some_and(|e| e == ending));
        files.sort_by_key(|file| file.file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap());
        files.pop().unwrap()
    };
    // Checkpoints after batches 0, 3, 6: slots 0, 1, 0.
    for (states, both) in [(false, false), (true, false), (false, true), (true, true)] {
        let (world, out, disk) = (Partitions::new(), Out::default(), MemoryDisk::new("/d"));
        let open = || context(&disk, |b| b, |ctx| simple(&world.input(ctx), &out));
        let run = |ctx: &StreamingContext, from: u64, last: u64| {
            ctx.start().unwrap();
            for k in 1..=last {
                if k >= from {
                    world.feed(k).unwrap();
                }
                ctx.run_until(Time::from_millis(k)).unwrap();
            }
            ctx.stop(false).unwrap();
        };
        run(&open().unwrap(), 1, 8);
        let damage = |path: &Path| assert!(disk.damage(path, |bytes| *bytes.last_mut().unwrap() ^= 1));
        let state = newest(&disk, "state");
        damage(&if states { state.clone() } else { PathBuf::from("/d/c/manifest-0") });
        if both {
            damage(Path::new("/d/c/manifest-1"));
            let error = open().unwrap_err();
            assert!(error.kind() == ErrorKind::Io && error.to_string().starts_with("/d/c/"), "{error}");
            continue;
        }
        let ctx = open().unwrap();
        assert_eq!(ctx.recovers_from(), Some(Time::from_millis(3)));
        let warning = ctx.recovery_warning().unwrap();
        assert!(warning.ends_with("; going on from the checkpoint before"), "{warning}");
        run(&ctx, 9, 10);
        let sums = out.all().into_iter().filter(|(at, _)| at.0 == "rows").flat_map(|all| all.1).count();
        assert_eq!(sums, (1..=10).flat_map(records).count());
        let ctx = open().unwrap();
        assert_eq!((ctx.recovers_from(), ctx.recovery_warning()), (Some(Time::from_millis(9)), None));
    }
}

/// Whoever goes on after a batch that failed saves a state without it; whoever stops saves nothing from then on.
#[test]
fn a_batch_that_fails_is_not_saved_as_done() {
    for on_failure in [OnFailure::Stop, OnFailure::Continue] {
        let (disk, out) = (MemoryDisk::new("/d"), Out::default());
        let bad = Arc::new(AtomicU64::new(4));
        let open = || {
            let bad = bad.clone();
            context(
                &disk,
                |b| b.on_failure(on_failure),
                |ctx| {
                    let rows = ctx.computed_stream(|time| Some(vec![(time.millis(), ())]));
                    let rows = rows.map(move |(n, ())| {
                        assert_ne!(n, bad.load(Ordering::Relaxed), "bad luck");
                        ((), n)
                    });
                    let sums = rows.update_state_by_key(|n: Vec<u64>, sum: Option<u64>| {
                        Some(sum.unwrap_or(0) + n.iter().sum::<u64>())
                    });
                    sums.checkpoint(ms(2));
                    out.of("sums", &sums);
                },
            )
            .unwrap()
        };
        let ctx = open();
        ctx.start().unwrap();
        let outcome = (1..=7).try_for_each(|k| ctx.run_until(Time::from_millis(k)));
        assert_eq!(outcome.is_err(), on_failure == OnFailure::Stop, "{outcome:?}");
        drop(ctx);
        // The reason is gone.
        bad.store(0, Ordering::Relaxed);
        let ctx = open();
        assert_eq!(ctx.recovers_from().unwrap().millis(), if on_failure == OnFailure::Stop { 2 } else { 6 });
        ctx.start().unwrap();
        ctx.run_until(Time::from_millis(8)).unwrap();
        let sum = out.all()[&("sums", 8)].concat();
        let left_out = if on_failure == OnFailure::Stop { 0 } else { 4 };
        assert_eq!(sum, format!("((), {})", (1..=8).sum::<u64>() - left_out));
    }
}

/// A batch that could not be made is made in the next life, of the records that it should have had.
#[test]
fn a_batch_that_cannot_be_made_is_made_in_the_next_life() {
    let (dir, disk, out) = (tempfile::tempdir().unwrap(), MemoryDisk::new("/d"), Out::default());
    let files = dir.path().join("files");
    std::fs::create_dir(&files).unwrap();
    let open = || context(&disk, |b| b, |ctx| out.of("lines", &ctx.text_directory_stream(&files))).unwrap();
    let ctx = open();
    ctx.start().unwrap();
    std::fs::write(files.join("one"), "one\n").unwrap();
    ctx.run_until(Time::from_millis(1)).unwrap();
    std::fs::rename(&files, dir.path().join("away")).unwrap();
    assert!(ctx.run_until(Time::from_millis(2)).unwrap_err().to_string().starts_with("batch 2 ms: "));
    drop(ctx);
    std::fs::rename(dir.path().join("away"), &files).unwrap();
    std::fs::write(files.join("two"), "two\n").unwrap();
    let ctx = open();
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(3)).unwrap();
    let lines: Vec<_> = out.all().into_values().collect();
    assert_eq!(lines, [vec!["\"one\""], vec!["\"two\""], vec![]]);
}

/// What is taken again is as much as was taken; that this is less than a batch takes now is no end.
#[test]
fn an_iterator_goes_on_in_larger_batches() {
    let (disk, out) = (MemoryDisk::new("/d"), Out::default());
    for (each, last) in [(2, 5), (6, 8)] {
        let graph = |ctx: &StreamingContext| {
            let numbers = ctx.iterator_stream(0..25, each);
            numbers.checkpoint(ms(3));
            out.of("numbers", &numbers);
        };
        let ctx = context(&disk, |b| b, graph).unwrap();
        ctx.start().unwrap();
        ctx.run_until(Time::from_millis(last)).unwrap();
        ctx.stop(false).unwrap();
    }
    let all: Vec<String> = out.all().into_values().flatten().collect();
    assert_eq!(all, (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// While a window holds it nothing is saved, and then everything is.
#[test]
fn a_batch_that_fails_inside_a_window_ends_nothing() {
    let (disk, out) = (MemoryDisk::new("/d"), Out::default());
    let open = || {
        let graph = |ctx: &StreamingContext| {
            let rows = ctx.computed_stream(|time| Some(vec![time.millis()]));
            let good = rows.map(|n| {
                assert_ne!(n, 4, "bad luck");
                n
            });
            let recent = good.window(ms(3), ms(1));
            recent.checkpoint(ms(1));
            out.of("recent", &recent);
        };
        context(&disk, |b| b.on_failure(OnFailure::Continue), graph).unwrap()
    };
    let ctx = open();
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(5)).unwrap();
    drop(ctx);
    let ctx = open();
    assert!(ctx.recovers_from().unwrap().millis() <= 3);
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(8)).unwrap();
    drop(ctx);
    assert!(open().recovers_from().unwrap().millis() >= 7);
    assert_eq!(out.all()[&("recent", 8)].concat(), "678");
}

/// What is being written waits for nobody and gives way to what is newer; a source commits what a checkpoint holds.
#[test]
fn sources_commit_when_a_checkpoint_holds_their_records() {
    let (world, out, disk) = (Partitions::new(), Out::default(), MemoryDisk::new("/d"));
    let ctx = context(&disk, |b| b, |ctx| simple(&world.input(ctx), &out)).unwrap();
    ctx.start().unwrap();
    let mut committed = Vec::new();
    for k in 1..=7 {
        world.feed(k).unwrap();
        ctx.run_until(Time::from_millis(k)).unwrap();
        committed.push(world.committed());
    }
    ctx.stop(false).unwrap();
    let read = |k: u64| (1..=k).map(|k| records(k).len()).sum::<usize>();
    assert_eq!(committed, [0, 0, read(3), read(3), read(3), read(6), read(6)]);
}
