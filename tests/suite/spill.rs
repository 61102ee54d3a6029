//! `--memory`: the same bytes whatever the limit, which holds, and nothing left on disk.

use crate::run::{file, windrow};
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// NDJSON of many keys over an hour, a little out of order.
fn events(rows: u64, keys: u64) -> String {
    let mut text = String::new();
    let mut state = 1u64;
    for i in 0..rows {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = state >> 20;
        let second = i * 3600 / rows + random % 7;
        let (key, value) = (random % keys, (random >> 8) % 10_000);
        let time = 1_700_000_000 + second;
        let _ =
            writeln!(text, "{{\"ts\":{time},\"user\":\"user-{key}\",\"ms\":{value}.25,\"path\":\"/p{}\"}}", value % 50);
    }
    text
}

const AGGREGATES: &str = "count, sum(ms), min(ms), p90(ms), distinct(path), first(path), max(path)";

/// Runs with a limit and without; returns the bytes spilled.
fn same(input: &str, dir: &Path, memory: &str, more: &[&str]) -> u64 {
    let spills = dir.join("spills");
    std::fs::create_dir_all(&spills).unwrap();
    let outputs = ["whole.csv", "limited.csv"].map(|name| dir.join(name).to_str().unwrap().to_owned());
    let common = ["replay", input, "--key", "user", "--agg", AGGREGATES, "--stats"];
    let whole = windrow(&[&common[..], more, &["-o", &outputs[0]]].concat()).good();
    let limits = ["-o", &outputs[1], "--memory", memory, "--spill-dir", spills.to_str().unwrap()];
    let limited = windrow(&[&common[..], more, &limits].concat()).good();
    assert!(std::fs::read(&outputs[0]).unwrap() == std::fs::read(&outputs[1]).unwrap(), "{memory} {more:?}");
    for name in ["read", "used", "rows_out", "keys", "windows"] {
        assert_eq!(whole.stat(name), limited.stat(name), "{name}");
    }
    assert_eq!(whole.stat("spilled_bytes"), 0);
    assert_eq!(std::fs::read_dir(&spills).unwrap().count(), 0);
    limited.stat("spilled_bytes")
}

#[test]
fn the_limit_does_not_show_in_the_output() {
    let (dir, input) = file("in.ndjson", events(120_000, 20_000).as_bytes());
    for windows in [&["--window", "10m", "--slide", "1m"][..], &["--session", "5m"], &[], &["--window", "7m"]] {
        let spilled = same(&input, dir.path(), "32MiB", windows);
        assert!(spilled > 1 << 20, "{windows:?}: {spilled}");
    }
    for more in [
        &["--window", "20m", "--top", "3", "--by", "count"][..],
        &["--top", "5", "--by", "sum_ms"],
        &["--sort", "key"],
        &["--window", "30m", "--slide", "10m", "--sort", "key"],
    ] {
        assert!(same(&input, dir.path(), "32MiB", more) > 0);
    }
    assert!(same(&input, dir.path(), "32MiB", &["--window", "10m", "--slide", "2m", "--having", "count > 2"]) > 0);
    assert!(same(&input, dir.path(), "32MiB", &["--window", "10m", "--slide", "1m", "--engine", "remerge"]) > 0);
    assert_eq!(same(&input, dir.path(), "4GiB", &["--window", "10m", "--slide", "1m"]), 0);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let (dir, input) = file("in.ndjson", events(20_000, 5_000).as_bytes());
    let out = dir.path().join("out.csv");
    let missing = dir.path().join("missing");
    let args = ["replay", &input, "--key", "user", "--window", "10m", "-o", out.to_str().unwrap(), "--memory", "32MiB"];
    let error = windrow(&[&args[..], &["--spill-dir", missing.to_str().unwrap()]].concat()).fails(1);
    assert!(error.contains("missing") && error.contains("--spill-dir"), "{error}");
    assert!(!out.exists());
}

/// The most anonymous memory that a run with these arguments has, by the system's count, sampled; KiB.
#[cfg(target_os = "linux")]
fn peak_anonymous(args: &[&str]) -> u64 {
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_windrow")).args(args).arg("-q").stdout(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or(0));
        std::thread::sleep(std::time::Duration::from_millis(3));
    }
    assert!(child.wait().unwrap().success(), "{args:?}");
    peak
}

/// The system's count of anonymous memory stays under the limit.
#[test]
#[cfg(target_os = "linux")]
fn the_limit_holds() {
    let (rows, limits) =
        if cfg!(debug_assertions) { (500_000, &[64u64][..]) } else { (3_000_000, &[512, 256, 64][..]) };
    let (dir, input) = file("in.ndjson", events(rows, rows / 2).as_bytes());
    let columns = dir.path().join("in.parquet");
    windrow(&["parse", &input, "-o", columns.to_str().unwrap()]).good();
    let (columns, out) = (columns.to_str().unwrap(), dir.path().join("out.parquet"));
    for limit in limits {
        let memory = format!("{limit}MiB");
        let windows = ["replay", &input, "--key", "user", "--window", "10m", "--slide", "1m", "-o", "null"];
        let whole = ["replay", columns, "--key", "user", "--agg", "count, sum(ms)", "-o", out.to_str().unwrap()];
        let sorted = ["replay", columns, "--key", "user", "--agg", "count", "--sort", "key", "-o", "null"];
        for args in [windows.to_vec(), whole.to_vec(), sorted.to_vec()] {
            let peak = peak_anonymous(&[&args[..], &["--memory", &memory]].concat());
            assert!(peak > 10 << 10 && peak < limit << 10, "{peak} KiB of {memory}: {args:?}");
        }
    }
}

/// Rows of 100 bytes on their way through the shuffle, which are copied several times.
#[test]
#[cfg(target_os = "linux")]
fn the_limit_holds_for_wide_rows() {
    let mut text = String::from("key,payload\n");
    for i in 0..400_000u64 {
        let hash = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let _ = writeln!(text, "{},{hash:016x}{:016x} ordered shipped and billed then sent back", hash >> 40, !hash);
    }
    let (dir, input) = file("in.csv", text.as_bytes());
    let columns = dir.path().join("in.parquet");
    windrow(&["parse", &input, "-o", columns.to_str().unwrap()]).good();
    let out = dir.path().join("out");
    let flags = ["--key", "key", "--partitions", "64", "--memory", "64MiB", "--threads", "2"];
    let args = [&["shuffle", columns.to_str().unwrap(), "-o", out.to_str().unwrap()], &flags[..]].concat();
    let peak = peak_anonymous(&args);
    assert!(peak > 10 << 10 && peak < 64 << 10, "{peak} KiB");
}

/// What the system takes no more bytes of, as a full disk does, is named, and nothing is left behind.
#[test]
#[cfg(unix)]
fn a_disk_that_fills_up_is_named_and_nothing_is_left() {
    let (dir, input) = file("in.ndjson", events(120_000, 60_000).as_bytes());
    let spills = dir.path().join("spills");
    std::fs::create_dir(&spills).unwrap();
    let out = dir.path().join("out.csv");
    // No file may be longer than 512 KiB, in the blocks of 512 bytes that the shell counts; the signal is not wanted.
    let ran = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_windrow")])
        .args(["replay", &input, "-q", "--key", "user", "--window", "10m", "--slide", "1m", "--memory", "32MiB"])
        .args(["-o", out.to_str().unwrap(), "--spill-dir", spills.to_str().unwrap()])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1), "{error}");
    let place = format!("{}/windrow-spill-", spills.display());
    assert!(error.contains(&place) && error.contains("byte ") && error.contains("File too large"), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(std::fs::read_dir(&spills).unwrap().count(), 0);
    assert!(!out.exists());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// A signal while spill files are there leaves nothing, and no output.
#[test]
#[cfg(unix)]
fn a_signal_leaves_nothing() {
    let (dir, input) = file("in.ndjson", events(600_000, 300_000).as_bytes());
    let spills = dir.path().join("spills");
    std::fs::create_dir(&spills).unwrap();
    let out = dir.path().join("out.csv");
    let mut child = Command::new(env!("CARGO_BIN_EXE_windrow"))
        .args(["replay", &input, "--key", "user", "--window", "10m", "--slide", "10s", "--memory", "32MiB"])
        .args(["-o", out.to_str().unwrap(), "--spill-dir", spills.to_str().unwrap()])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while std::fs::read_dir(&spills).unwrap().count() == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it should still run");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(std::fs::read_dir(&spills).unwrap().count(), 0);
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

/// A signal ends what waits for its first records.
#[test]
#[cfg(unix)]
fn a_signal_ends_the_wait_for_standard_input() {
    for args in [&["parse"][..], &["replay", "--window", "1m"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windrow"));
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(300));
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        // Its standard input stays open.
        let ended = (0..6000).find_map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            child.try_wait().unwrap()
        });
        child.kill().unwrap();
        assert!(ended.is_some(), "{args:?}");
    }
}
