//! Streams that do not go on: what cannot be saved, what does not fit, what is damaged; one sentence each.

use crate::recovery::{HALF, Numbers, Out, WORDS, a, context, counts, live, ms, run, running, texts};
use std::path::Path;
use windrow::stream::{BatchQueue, Builder, StreamingContext, Time};
use windrow::{Error, Result};

/// What `graph` is told when it is to go on from a run of [`running`].
fn refused(graph: impl FnOnce(&StreamingContext), build: impl FnOnce(Builder) -> Builder) -> String {
    let dir = tempfile::tempdir().unwrap();
    live(dir.path(), 2, |ctx| running(ctx).print(0));
    let started = context(dir.path(), build, graph).and_then(|(ctx, _)| ctx.start());
    said(dir.path(), started)
}

fn said(dir: &Path, outcome: Result<()>) -> String {
    outcome.unwrap_err().to_string().replace(&*dir.join("saved").to_string_lossy(), "DIR")
}

#[test]
fn c8_a_folder_with_a_checkpoint_is_not_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    live(dir.path(), 2, |ctx| running(ctx).print(0));
    let ctx = StreamingContext::builder().build().unwrap();
    assert_eq!(
        said(dir.path(), ctx.checkpoint(dir.path().join("saved"))),
        "DIR: this folder holds the checkpoint of another run: go on from it with get_or_create, or name another"
    );
}

#[test]
fn refusals() {
    let advice =
        "run the program that made it, name operators that have moved with named(), or begin in another folder";
    // Another operator before it: its place is another.
    let moved = |ctx: &StreamingContext| {
        drop(texts(WORDS, ctx));
        running(ctx).print(0);
    };
    assert_eq!(
        refused(moved, |b| b),
        format!(
            "DIR: the checkpoint holds a state of update_state_by_key (operator 2), which this program does not have: {advice}"
        )
    );
    let more = |ctx: &StreamingContext| {
        running(ctx).print(0);
        let window = a(ctx).window(ms(1000), HALF);
        window.checkpoint(HALF);
        window.print(0);
    };
    assert_eq!(
        refused(more, |b| b),
        format!("DIR: the checkpoint holds a state of each operator but window (operator 5): {advice}")
    );
    let slower = refused(|ctx| running(ctx).print(0), |b| b.batch_interval(ms(1000)));
    assert_eq!(
        slower,
        "DIR: the checkpoint is of batches of 500 ms, the context has batches of 1000 ms: build it with that interval"
    );
}

#[test]
fn a_window_of_another_length_is_refused_and_a_named_one_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let out = Out::default();
    let graph = |ctx: &StreamingContext, length: u64, before: usize| {
        (0..before).for_each(|_| drop(texts(WORDS, ctx)));
        let sums = a(ctx).reduce_by_key_and_window(|a, b| a + b, |a, b| a - b, ms(length), HALF).named("sums");
        sums.checkpoint(HALF);
        out.of(&sums);
    };
    live(dir.path(), 3, |ctx| graph(ctx, 2000, 0));
    let (ctx, _) = context(dir.path(), |b| b, |ctx| graph(ctx, 1500, 0)).unwrap();
    let error = said(dir.path(), ctx.start());
    assert!(
        error.starts_with(
            "DIR: \"sums\" has windows of 3 batches every 1, and in the checkpoint windows of 4 batches every 1: "
        ),
        "{error}"
    );
    drop(ctx);
    live(dir.path(), 6, |ctx| graph(ctx, 2000, 3));
    assert_eq!(out.rows(), counts([1, 2, 3, 4, 4, 4]));
    let (ctx, _) = context(dir.path(), |b| b, |ctx| (0..2).for_each(|_| graph(ctx, 2000, 0))).unwrap();
    let error = said(dir.path(), ctx.start());
    assert_eq!(error, "two operators are named \"sums\": give them different names");
}

#[test]
fn what_cannot_be_saved_is_refused() {
    let refused = |graph: &dyn Fn(&StreamingContext)| {
        let dir = tempfile::tempdir().unwrap();
        let (ctx, _) = context(dir.path(), |b| b, graph).unwrap();
        said(dir.path(), ctx.start())
    };
    assert_eq!(
        refused(&|ctx| a(ctx).update_state_by_key(|_, _: Option<u8>| Some(1)).print(0)),
        "update_state_by_key (operator 2) keeps a state that nobody said how to save: call checkpoint(interval) on the stream \
         that it returned"
    );
    assert_eq!(
        refused(&|ctx| ctx.receiver_stream(Numbers).print(0)),
        "receiver_stream (operator 1) cannot be part of a checkpoint: what it receives cannot be received again; make it with \
         receiver_stream_logged, which logs the records"
    );
    let queue = refused(&|ctx| ctx.queue_stream(BatchQueue::<u8>::new()).print(0));
    assert!(
        queue.starts_with("queue_stream (operator 1) cannot be part of a checkpoint: its datasets are in the memory")
    );
}

#[test]
fn a_folder_belongs_to_one_context_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (ctx, _) = context(dir.path(), |b| b, |ctx| running(ctx).print(0)).unwrap();
    ctx.start().unwrap();
    let second = context(dir.path(), |b| b, |ctx| running(ctx).print(0)).map(drop);
    assert!(said(dir.path(), second).starts_with("DIR: another run writes its checkpoints here"));
    ctx.stop(false).unwrap();
    context(dir.path(), |b| b, |ctx| running(ctx).print(0)).unwrap();
}

/// A folder that goes away ends the context with a sentence.
#[test]
fn a_removed_folder_ends_the_context() {
    let dir = tempfile::tempdir().unwrap();
    let (ctx, _) = context(dir.path(), |b| b, |ctx| running(ctx).print(0)).unwrap();
    ctx.start().unwrap();
    run(&ctx, 2);
    std::fs::remove_dir_all(dir.path().join("saved")).unwrap();
    let error = said(dir.path(), ctx.run_until(Time::from_millis(2000)));
    assert!(
        error.starts_with("the checkpoint after batch 2000 ms cannot be written, the one before is whole: DIR/"),
        "{error}"
    );
    assert_eq!(said(dir.path(), ctx.await_termination()), error);
}

/// A log whose middle is damaged is an error, or goes on and says what is lost.
#[test]
fn damage_in_the_log_is_an_error_unless_it_is_to_be_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let graph = |ctx: &StreamingContext| {
        let sums = ctx.iterator_stream((1..).map(|n| ((), n)), 1);
        let sums =
            sums.update_state_by_key(|n: Vec<u64>, sum: Option<u64>| Some(sum.unwrap_or(0) + n.iter().sum::<u64>()));
        sums.checkpoint(ms(50_000));
        sums.for_each_batch(|batch, _| batch.count().map(drop));
    };
    for last in [3, 6] {
        live(dir.path(), last, graph);
    }
    let first = dir.path().join("saved/log/log-500-60500");
    let mut bytes = std::fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&first, bytes).unwrap();
    let (ctx, _) = context(dir.path(), |b| b, graph).unwrap();
    let error = said(dir.path(), ctx.start());
    assert!(error.contains("the log is damaged here"), "{error}");
    drop(ctx);
    let (ctx, _) = context(dir.path(), |b| b.skip_damaged(true), graph).unwrap();
    ctx.start().unwrap();
    assert!(ctx.statistics().lost > 0);
    ctx.run_until(Time::from_millis(500 * 7)).unwrap();
    ctx.stop(false).unwrap();
}

#[test]
fn what_the_set_up_returns_is_returned() {
    let dir = tempfile::tempdir().unwrap();
    let failed = StreamingContext::get_or_create(dir.path().join("saved"), || Err(Error::usage("no")));
    assert_eq!(failed.unwrap_err().to_string(), "no");
    assert!(!dir.path().join("saved").exists());
}
