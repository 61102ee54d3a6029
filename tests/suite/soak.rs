//! What has to hold for as long as it runs: no record lost, memory flat.
//!
//! Each runs in a process of its own, because memory is measured: seconds by default, `WINDROW_SOAK_SECONDS` for longer.

use std::io::{BufWriter, Write};
use std::net::TcpListener;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use windrow::stream::{DStream, ManualClock, Pid, State, StateSpec, StreamingContext, Time};

fn seconds() -> u64 {
    std::env::var("WINDROW_SOAK_SECONDS").map_or(3, |text| text.parse().expect("WINDROW_SOAK_SECONDS is a number"))
}

/// Runs an ignored test of this module in a process of its own.
fn alone(test: &str) {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program).args(["--ignored", "--nocapture", "--exact", &format!("soak::{test}")]).output();
    let output = output.unwrap();
    let said = [String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)].concat();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    said.lines().filter(|line| line.contains("MiB")).for_each(|line| println!("{line}"));
}

/// MiB in use, where the system says so.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) / 256
}

/// Sends numbered lines as fast as they are taken until `enough` is set; says how many.
fn numbers(listener: TcpListener, enough: Arc<AtomicBool>) -> u64 {
    let mut out = BufWriter::with_capacity(1 << 16, listener.accept().unwrap().0);
    let mut sent = 0;
    while !enough.load(Ordering::Relaxed) {
        for _ in 0..1000 {
            writeln!(out, "{sent}").unwrap();
            sent += 1;
        }
    }
    out.flush().unwrap();
    // Until the other side has stopped: a lost connection would be made again.
    std::mem::forget(out);
    sent
}

/// Sends lines through `ctx` for as long as the soak lasts, `each` record costing the sink that much; gives the records
/// per second that came through.
fn soak(ctx: &StreamingContext, listener: TcpListener, each: Duration) -> f64 {
    let next = Arc::new(AtomicU64::new(0));
    let expected = next.clone();
    let lines: DStream<String> = ctx.socket_text_stream(listener.local_addr().unwrap().to_string()).unwrap();
    lines.for_each_batch(move |batch, _| {
        let lines = batch.collect()?;
        for line in &lines {
            assert_eq!(line.parse(), Ok(expected.fetch_add(1, Ordering::Relaxed)));
        }
        std::thread::sleep(each * lines.len() as u32);
        Ok(())
    });
    let enough = Arc::new(AtomicBool::new(false));
    let sender = std::thread::spawn({
        let enough = enough.clone();
        move || numbers(listener, enough)
    });
    ctx.start().unwrap();
    let (start, whole) = (Instant::now(), Duration::from_secs(seconds()));
    std::thread::sleep(whole / 3);
    let early = resident();
    let mut most = early;
    while start.elapsed() < whole {
        std::thread::sleep(whole / 100);
        most = most.max(resident());
        ctx.check().unwrap();
    }
    let rate = next.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64();
    enough.store(true, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    let patience = Instant::now();
    while next.load(Ordering::Relaxed) < sent {
        assert!(patience.elapsed() < Duration::from_secs(120), "{next:?} of {sent} lines came");
        std::thread::sleep(Duration::from_millis(10));
    }
    ctx.stop(true).unwrap();
    assert_eq!(next.load(Ordering::Relaxed), sent);
    println!("{sent} lines, {rate:.0}/s, {early} MiB early, {most} MiB at most");
    assert!(most <= early + 64, "memory grew from {early} to {most} MiB");
    rate
}

#[test]
fn a_socket_at_full_speed() {
    alone("full_speed");
}

#[test]
#[ignore = "run in a process of its own by a_socket_at_full_speed"]
fn full_speed() {
    let builder = StreamingContext::builder().batch_interval(Duration::from_millis(50)).receiver_buffer(100_000);
    let ctx = builder.queued_batches(2).build().unwrap();
    assert!(soak(&ctx, TcpListener::bind("127.0.0.1:0").unwrap(), Duration::ZERO) > 10_000.0);
}

#[test]
fn a_flood_ten_times_faster_than_the_sink() {
    alone("flood");
}

#[test]
#[ignore = "run in a process of its own by a_flood_ten_times_faster_than_the_sink"]
fn flood() {
    let builder = StreamingContext::builder().batch_interval(Duration::from_millis(100)).receiver_buffer(100_000);
    let ctx = builder.backpressure(Pid::new()).initial_rate(10_000).build().unwrap();
    let rate = soak(&ctx, TcpListener::bind("127.0.0.1:0").unwrap(), Duration::from_micros(50));
    let limit = ctx.statistics().rate_limit;
    // The sink does 20,000 a second at most.
    assert!(rate <= 20_500.0, "{rate}");
    assert!(limit.is_none_or(|limit| limit <= 21_000), "{limit:?}");
}

#[test]
fn a_million_empty_batches() {
    alone("empty_batches");
}

#[test]
#[ignore = "run in a process of its own by a_million_empty_batches"]
fn empty_batches() {
    const BATCHES: u64 = 1_000_000;
    let clock = ManualClock::new();
    let ctx =
        StreamingContext::builder().batch_interval(Duration::from_millis(1)).manual_clock(&clock).threads(1).build();
    let ctx = ctx.unwrap();
    let rows = ctx.queue_stream(vec![vec![("a", 1u64), ("b", 2)], vec![("a", 3)]]);
    let ms = Duration::from_millis;
    let sums = rows.reduce_by_key_and_window(|a, b| a + b, |a, b| a - b, ms(20), ms(10));
    let seen = Arc::new(AtomicU64::new(0));
    let into = seen.clone();
    sums.for_each_batch(move |batch, _| {
        into.fetch_add(batch.count()?, Ordering::Relaxed);
        Ok(())
    });
    let silent = |_, _: &&str, value: Option<u64>, state: &mut State<'_, u64>| -> Option<u64> {
        if let Some(value) = value {
            state.update(value);
        }
        None
    };
    rows.map_with_state(silent, StateSpec::new().timeout(ms(100))).for_each_batch(|batch, _| batch.count().map(drop));
    ctx.start().unwrap();
    ctx.run_until(Time::from_millis(BATCHES / 10)).unwrap();
    let early = resident();
    ctx.run_until(Time::from_millis(BATCHES)).unwrap();
    let late = resident();
    let statistics = ctx.statistics();
    assert_eq!((statistics.batches, statistics.failed, statistics.records), (BATCHES, 0, 3));
    // Both keys stay, at zero, in every window.
    assert_eq!(seen.load(Ordering::Relaxed), 2 * BATCHES / 10);
    println!("{early} MiB after {} batches, {late} MiB after {BATCHES}", BATCHES / 10);
    assert!(late <= early + 8, "memory grew from {early} to {late} MiB");
    ctx.stop(true).unwrap();
}
