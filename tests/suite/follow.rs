//! Live input through the command line: files that grow and are rotated, standard input, sockets, signals, a pace, outputs
//! that are read while they grow. Nothing here waits for a time to pass: every step waits for what it has caused.
#![cfg(unix)]

use crate::run::{Ran, file, rows, start, windrow};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(120);

/// A run that goes on, and what it has written so far.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
}

fn collect(mut from: impl Read + Send + 'static) -> (Arc<Mutex<Vec<u8>>>, JoinHandle<()>) {
    let all = Arc::new(Mutex::new(Vec::new()));
    let shared = all.clone();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 {
                return;
            }
            shared.lock().unwrap().extend_from_slice(&buffer[..n]);
        }
    });
    (all, reader)
}

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

impl Running {
    pub fn new(args: &[&str]) -> Running {
        let mut running = Running::unread(args);
        let (out, reader) = collect(running.child.stdout.take().unwrap());
        running.out = out;
        running.readers.push(reader);
        running
    }

    /// Nobody reads its standard output yet.
    fn unread(args: &[&str]) -> Running {
        let mut child = start(&[&["replay"], args].concat());
        let stdin = child.stdin.take();
        let (err, reader) = collect(child.stderr.take().unwrap());
        Running { child, stdin, out: Arc::default(), err, readers: vec![reader] }
    }

    fn out(&self) -> String {
        String::from_utf8(self.out.lock().unwrap().clone()).unwrap()
    }

    fn err(&self) -> String {
        String::from_utf8(self.err.lock().unwrap().clone()).unwrap()
    }

    /// Waits until the output holds `text`.
    fn shows(&self, text: &str) {
        wait_for(&format!("{text:?}; standard error: {}", self.err()), || self.out().contains(text).then_some(()));
    }

    /// The address that it says it listens at.
    pub fn address(&self) -> String {
        wait_for("the address", || {
            let err = self.err();
            let (_, behind) = err.split_once("listening on ")?;
            behind.split_once('\n').map(|(address, _)| address.to_owned())
        })
    }

    pub fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    pub fn end(mut self) -> Ran {
        self.stdin = None;
        self.ended()
    }

    /// Tells it to end. Its standard input stays open meanwhile: a program that sees both may take the end of that for its own.
    pub fn stop(self) -> Ran {
        self.signal("-TERM");
        self.ended()
    }

    fn ended(mut self) -> Ran {
        let status = wait_for("the end", || self.child.try_wait().unwrap());
        for reader in std::mem::take(&mut self.readers) {
            reader.join().unwrap();
        }
        Ran { code: status.code().unwrap_or(-1), out: self.out(), err: self.err() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until the file `path` holds `text`.
pub fn wait_for_text(path: &str, text: &str) {
    wait_for(text, || fs::read_to_string(path).ok().filter(|found| found.contains(text)).map(drop));
}

/// `n` records of a key in minute `minute` of an hour of which it is long past.
pub fn minute(minute: u32, key: &str, n: u32) -> String {
    (0..n).map(|i| format!("{{\"ts\":\"2024-05-17T10:{minute:02}:{:02}Z\",\"k\":\"{key}\"}}\n", i % 60)).collect()
}

/// The row of `n` records of a key in minute `minute`.
pub fn row(minute: u32, key: &str, n: u32) -> String {
    format!("2024-05-17T10:{minute:02}:00Z,2024-05-17T10:{:02}:00Z,{key},{n}\n", minute + 1)
}

fn append(path: impl AsRef<Path>, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

pub const BY_KEY: [&str; 6] = ["--key", "k", "--window", "1m", "--sort", "key"];

#[test]
fn standard_input_that_ends_at_once_is_an_end() {
    for format in ["auto", "combined"] {
        let mut run = Running::new(&["--follow", "-", "--format", format, "--window", "1m"]);
        drop(run.stdin.take());
        assert_eq!(run.end().good().out.lines().count(), 1, "{format}");
    }
}

#[test]
fn history_and_then_what_is_appended_through_rotation() {
    let (dir, log) = file("a.log", minute(0, "a", 3).as_bytes());
    let beside = |name: &str| dir.path().join(name);
    let run = Running::new(&[&["--follow", &log, "--stats"], &BY_KEY[..]].concat());
    append(&log, &minute(1, "a", 2));
    append(&log, &minute(2, "b", 1));
    run.shows(&row(0, "a", 3));
    // Renamed, and written to by who has it open.
    let mut held = fs::OpenOptions::new().append(true).open(&log).unwrap();
    fs::rename(&log, beside("a.log.1")).unwrap();
    held.write_all(minute(2, "b", 4).as_bytes()).unwrap();
    append(&log, &minute(3, "b", 1));
    append(&log, &minute(4, "b", 2));
    run.shows(&row(2, "b", 5));
    // Copied and cut back.
    append(&log, &minute(4, "b", 3));
    fs::copy(&log, beside("a.log.0")).unwrap();
    fs::File::create(&log).unwrap();
    append(&log, &minute(6, "b", 1));
    run.shows(&row(4, "b", 5));
    let ran = run.stop().good();
    assert_eq!(ran.stat("used"), 3 + 2 + 1 + 4 + 1 + 2 + 3 + 1);
    assert_eq!(rows(&ran.out).len(), 6);
    assert!(ran.err.contains("stopped: the last 1 window was still open and may be partial"), "{}", ran.err);
}

#[test]
fn a_window_appears_before_standard_input_ends() {
    let mut run = Running::new(&[&["--follow", "-"], &BY_KEY[..]].concat());
    run.write(&minute(0, "a", 2));
    run.write(&minute(1, "a", 15));
    run.shows(&row(0, "a", 2));
    run.write(&minute(2, "a", 1)[..10]);
    run.write(&minute(2, "a", 1)[10..]);
    run.write(minute(3, "a", 15).trim_end());
    run.shows(&row(1, "a", 15));
    let ran = run.end().good();
    assert!(ran.out.ends_with(&(row(2, "a", 1) + &row(3, "a", 15))), "{}", ran.out);
    assert!(!ran.err.contains("partial"), "{}", ran.err);
}

/// Ends a connection, and waits until everything sent was taken: then the other side closes it too.
fn taken(mut connection: TcpStream) {
    connection.shutdown(Shutdown::Write).unwrap();
    connection.set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(connection.read(&mut [0]).unwrap(), 0);
}

#[test]
fn several_connections_and_a_line_that_is_cut_at_the_end_of_one() {
    let run = Running::new(&[&["--listen", "127.0.0.1:0", "--idle", "300ms", "--stats"], &BY_KEY[..]].concat());
    let address = run.address();
    let mut first = TcpStream::connect(&address).unwrap();
    let mut second = TcpStream::connect(&address).unwrap();
    first.write_all(minute(0, "a", 3).as_bytes()).unwrap();
    second.write_all(minute(0, "b", 5).as_bytes()).unwrap();
    // A record without a newline is one when its connection has ended, half a record is bad.
    let cut = minute(1, "b", 1);
    second.write_all(cut.trim_end().as_bytes()).unwrap();
    taken(second);
    let mut third = TcpStream::connect(&address).unwrap();
    third.write_all(format!("{}{}", minute(1, "c", 2), &cut[..cut.len() / 2]).as_bytes()).unwrap();
    taken(third);
    // The others have ended, so it alone says what has closed.
    first.write_all(minute(2, "a", 1).as_bytes()).unwrap();
    first.write_all(minute(3, "a", 12).as_bytes()).unwrap();
    run.shows(&(row(1, "b", 1) + &row(1, "c", 2)));
    run.signal("-INT");
    let ran = run.end().good();
    assert!(ran.out.contains(&(row(0, "a", 3) + &row(0, "b", 5))), "{}", ran.out);
    assert_eq!((ran.stat("used"), ran.stat("bad"), ran.stat("late")), (3 + 5 + 1 + 2 + 1 + 12, 1, 0));
}

/// Nobody reads the output, so nothing can be worked off: a sender must find its connection full before long.
#[test]
fn a_flood_fills_bounded_buffers_and_nothing_is_lost() {
    let args =
        ["--listen", "127.0.0.1:0", "--format", "json", "--key", "k", "--window", "1s", "--threads", "1", "--stats"];
    let mut run = Running::unread(&args);
    let mut sender = TcpStream::connect(run.address()).unwrap();
    sender.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
    let (mut sent, mut records, most) = (0, 0u64, 400 << 20);
    let blocked = 'flood: loop {
        let ts = 1_700_000_000 + records / 200;
        let text: String =
            (0..200).map(|i| format!("{{\"ts\":{ts},\"k\":\"key number {i} of two hundred\"}}\n")).collect();
        let mut left = text.as_bytes();
        while !left.is_empty() {
            match sender.write(left) {
                Ok(n) => left = &left[n..],
                // What is left of these records is sent once there is room.
                Err(_) => break 'flood left.to_vec(),
            }
        }
        sent += text.len();
        records += 200;
        assert!(sent < most, "{} MiB were taken without an end", sent >> 20);
    };
    let (out, reader) = collect(run.child.stdout.take().unwrap());
    run.out = out;
    run.readers.push(reader);
    sender.set_write_timeout(Some(DEADLINE)).unwrap();
    sender.write_all(&blocked).unwrap();
    records += 200;
    // This closes all windows before it.
    let last = 1_700_000_000 + records / 200 + 60;
    sender.write_all(format!("{{\"ts\":{last},\"k\":\"last\"}}\n").as_bytes()).unwrap();
    wait_for("all windows", || {
        (run.out.lock().unwrap().iter().filter(|b| **b == b'\n').count() as u64 > records).then_some(())
    });
    let ran = run.stop().good();
    assert_eq!(ran.stat("used"), records + 1);
}

#[test]
fn a_quiet_file_holds_windows_open_until_it_is_idle_and_counts_again() {
    let (dir, quiet) = file("quiet.log", minute(0, "q", 1).as_bytes());
    let busy = dir.path().join("busy.log");
    append(&busy, &minute(0, "b", 1));
    let inputs = ["--follow", &quiet, busy.to_str().unwrap(), "--stats"];
    let run = Running::new(&[&inputs[..], &["--idle", "700ms"], &BY_KEY[..]].concat());
    append(&busy, &minute(1, "b", 1));
    append(&busy, &minute(5, "b", 20));
    run.shows(&(row(0, "b", 1) + &row(0, "q", 1)));
    run.shows(&row(1, "b", 1));
    // What closed meanwhile stays closed.
    append(&quiet, &minute(1, "q", 1));
    append(&quiet, &minute(5, "q", 1));
    append(&quiet, &minute(7, "q", 20));
    run.shows(&(row(5, "b", 20) + &row(5, "q", 1)));
    let ran = run.stop().good();
    assert_eq!((ran.stat("late"), ran.stat("used")), (1, 1 + 1 + 1 + 20 + 1 + 20));
}

#[test]
fn a_time_far_ahead_of_the_wall_clock_is_set_aside() {
    let mut run = Running::new(&[&["--follow", "-", "--max-ahead", "1h", "--stats"], &BY_KEY[..]].concat());
    run.write(&minute(0, "a", 2));
    run.write("{\"ts\":\"2999-01-01T00:00:00Z\",\"k\":\"a\"}\n");
    // Hours after the record before it, and long past all the same.
    run.write("{\"ts\":\"2024-05-17T15:00:00Z\",\"k\":\"a\"}\n");
    run.shows(&row(0, "a", 2));
    let ran = run.end().good();
    assert_eq!((ran.stat("ahead"), ran.stat("used")), (1, 3));
}

/// An end as any other, of no records: there is nothing to write but the names of the columns, and nothing to save.
#[test]
fn a_stop_before_the_first_record_is_an_end() {
    let header = "window_start,window_end,k,count\n";
    for (format, signal) in [("auto", "-INT"), ("csv", "-TERM"), ("json", "-TERM")] {
        let (dir, _) = file("other", b"");
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (missing, out, saved) = (path("none.log"), path("out.csv"), path("saved"));
        let stopped = |args: &[&str]| {
            let run = Running::new(&[args, &["--listen", "127.0.0.1:0", "--format", format], &BY_KEY[..]].concat());
            run.address();
            run.signal(signal);
            run.end().good()
        };
        for input in [&missing, "-"] {
            let ran = stopped(&["--follow", input]);
            assert!(ran.err.contains("stopped before the first record came") && ran.out == header, "{ran:?}");
        }
        let saves = ["-o", &out, "--checkpoint", &saved];
        let ran = stopped(&[&["--follow", "-"], &saves[..]].concat());
        assert!(ran.err.contains(&format!("stopped: the state is saved in {saved}")), "{}", ran.err);
        // The same command begins as if nothing had been.
        let run = Running::new(
            &[&["--follow", "-", "--listen", "127.0.0.1:0", "--format", format], &saves[..], &BY_KEY[..]].concat(),
        );
        let mut sender = TcpStream::connect(run.address()).unwrap();
        let (first, rest) = if format == "json" {
            (minute(0, "a", 20), minute(2, "a", 1))
        } else {
            ("ts,k\n".to_owned() + &"2024-05-17T10:00:00Z,a\n".repeat(20), "2024-05-17T10:02:00Z,a\n".to_owned())
        };
        sender.write_all((first + &rest).as_bytes()).unwrap();
        wait_for_text(&out, &row(0, "a", 20));
        run.signal(signal);
        assert!(run.end().good().err.contains("the state is saved in "));
    }
}

#[test]
fn a_replay_keeps_the_pace_of_its_records() {
    // Eleven seconds of records, 20 times as fast.
    let text: String =
        (0..=110).map(|i| format!("{{\"ts\":{},\"k\":\"a\"}}\n", 1_715_940_000_000u64 + i * 100)).collect();
    let (_dir, log) = file("a.ndjson", text.as_bytes());
    let args = ["replay", &log, "--key", "k", "--window", "2s", "--slide", "1s", "--lateness", "500ms"];
    let plain = windrow(&args).good();
    let begun = Instant::now();
    let paced = windrow(&[&args[..], &["--speed", "20x"]].concat()).good();
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
    assert_eq!(paced.out, plain.out);
    // What comes an hour later is not waited for.
    append(&log, "{\"ts\":1715943600000,\"k\":\"a\"}\n");
    let run = Running::new(&[&args[1..], &["--speed", "20x"]].concat());
    run.shows("\n2024-05-17T10:00:08Z");
    assert!(run.stop().good().err.contains("may be partial"));
    let error = windrow(&["replay", &log, "--window", "1s", "--speed", "0x"]).fails(2);
    assert!(error.contains("1x or 60x"), "{error}");
}

#[test]
fn outputs_can_be_read_while_they_grow() {
    for ending in ["csv", "ndjson"] {
        let (dir, log) = file("a.log", minute(0, "a", 3).as_bytes());
        let output = dir.path().join(format!("out.{ending}"));
        fs::write(&output, "what was there before").unwrap();
        let run = Running::new(&[&["--follow", &log, "-o", output.to_str().unwrap()], &BY_KEY[..]].concat());
        append(&log, &minute(1, "a", 20));
        let shown = wait_for("a window", || {
            let text = fs::read_to_string(&output).unwrap();
            text.contains("2024-05-17T10:00:00Z").then_some(text)
        });
        assert!(shown.ends_with('\n') && !shown.contains("before"), "{shown}");
        run.stop().good();
        assert!(fs::read_to_string(&output).unwrap().contains("2024-05-17T10:01:00Z"));
    }
}

#[test]
fn parquet_is_rolled_into_files_that_are_complete() {
    let (dir, log) = file("a.log", minute(0, "a", 3).as_bytes());
    let numbered = |n: u32| dir.path().join(format!("out-{n:06}.parquet"));
    fs::write(numbered(1), "of an earlier run").unwrap();
    let output = dir.path().join("out.parquet");
    let args = ["--follow", &log, "-o", output.to_str().unwrap(), "--roll", "1B,1h"];
    let run = Running::new(&[&args[..], &BY_KEY[..]].concat());
    let count = |path: PathBuf| rows(&windrow(&["parse", path.to_str().unwrap(), "--output-format", "csv"]).good().out);
    for n in 2..4 {
        append(&log, &minute(n - 1, "a", 20));
        wait_for("a file", || numbered(n).exists().then_some(()));
        assert_eq!(count(numbered(n)).len(), 1);
    }
    run.stop().good();
    assert_eq!(count(numbered(4))[0][3], "20");
    assert_eq!(fs::read(numbered(1)).unwrap(), b"of an earlier run");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1 + 4, "nothing else is left");
}

#[test]
fn what_cannot_be_live_is_refused_in_words() {
    let (dir, log) = file("a.log", minute(0, "a", 3).as_bytes());
    let folder = dir.path().to_str().unwrap();
    let [logs, bad] = ["*.log", "bad.log"].map(|name| format!("{folder}/{name}"));
    for (args, code, says) in [
        (vec!["--follow", &log], 2, "--window or --session"),
        (vec!["--follow", &log, "--window", "1m", "--naive"], 2, "reference"),
        (vec!["--follow", &log, "--window", "1m", "--format", "parquet"], 2, "Parquet cannot be followed"),
        (vec!["--follow", folder, "--window", "1m"], 1, "is a directory"),
        (vec!["--listen", "nowhere", "--window", "1m"], 2, "HOST:PORT"),
        (vec![&log, "--window", "1m", "--idle", "1s"], 2, "--follow or --listen"),
        (vec!["--follow", &log, "--window", "1m", "--output-format", "parquet"], 2, "-o"),
        (vec!["--follow", &log, "--window", "1m", "-o", &log, "--output-format", "csv"], 2, "also an input"),
        (vec!["--follow", &logs, "--window", "1m", "--bad-lines", &bad], 2, "also an input"),
        (vec!["--follow", &logs, "--window", "1m", "--late", &bad], 2, "also an input"),
    ] {
        let error = windrow(&[&["replay"], &args[..]].concat()).fails(code);
        assert!(error.contains(says), "{args:?}: {error}");
        assert_eq!(fs::read_dir(folder).unwrap().count(), 1, "{args:?} leaves nothing");
    }
}

/// Stopped and killed again and again, with the log rotated meanwhile: every record is counted once, every row written once.
#[test]
fn a_followed_log_goes_on_behind_what_was_saved() {
    let (dir, log) = file("a.log", minute(0, "a", 30).as_bytes());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (logs, out, saved) = (path("a.log*"), path("out.csv"), path("saved"));
    let args =
        [&["--follow", &logs, "-o", &out, "--checkpoint", &saved, "--checkpoint-every", "0s", "--stats"], &BY_KEY[..]]
            .concat();
    let written = |text: &str| wait_for_text(&out, text);
    let mut want = "window_start,window_end,k,count\n".to_owned() + &row(0, "a", 30);
    let (mut run, mut stopped) = (Running::new(&args), 0);
    for at in 1..14 {
        let n = 20 + at;
        append(&log, &minute(at, "a", n));
        // It closes the one before.
        written(&row(at - 1, "a", if at == 1 { 30 } else { n - 1 }));
        want += &row(at, "a", n);
        match at % 3 {
            0 => {
                let ran = run.stop().good();
                let says = |text: &str| ran.err.contains(text);
                // The first one that was killed may not have come to a checkpoint.
                assert!(says("going on from the checkpoint in ") || stopped == 0, "{}", ran.err);
                assert!(says("stopped: the state is saved in ") && !says("partial"), "{}", ran.err);
                stopped += 1;
            }
            1 => drop(run),
            _ => continue,
        }
        if at % 4 == 0 {
            fs::rename(&log, path(&format!("a.log.{at}"))).unwrap();
        }
        run = Running::new(&args);
    }
    append(&log, &minute(20, "b", 30));
    written(&row(13, "a", 33));
    let ran = run.stop().good();
    assert_eq!(fs::read_to_string(&out).unwrap(), want);
    assert_eq!((ran.stat("used"), ran.stat("late")), (30 + (21..34).sum::<u64>() + 30, 0));
    assert_eq!(stopped, 4);
    let other = windrow(&[&["replay"], &args[..], &["--where", "k = 'a'"]].concat()).fails(2);
    assert!(other.contains("--where was not given and is k = 'a'"), "{other}");
}

/// What a log that had fallen silent got while nobody read is waited for when the run goes on, however far the others are.
#[test]
fn a_silent_log_is_waited_for_again_when_a_run_goes_on() {
    let (dir, busy) = file("a.log", minute(0, "a", 30).as_bytes());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (quiet, out, saved) = (path("b.log"), path("out.csv"), path("saved"));
    append(&quiet, &minute(0, "b", 30));
    let args = [
        &[
            "--follow",
            &busy,
            &quiet,
            "-o",
            &out,
            "--checkpoint",
            &saved,
            "--checkpoint-every",
            "0s",
            "--stats",
            "--idle",
            "200ms",
        ],
        &BY_KEY[..],
    ]
    .concat();
    let written = |text: &str| wait_for_text(&out, text);
    let run = Running::new(&args);
    append(&busy, &(1..4).map(|at| minute(at, "a", 30)).collect::<String>());
    written(&row(2, "a", 30));
    run.stop().good();
    for (log, key) in [(&busy, "a"), (&quiet, "b")] {
        append(log, &(4..30).map(|at| minute(at, key, 30)).collect::<String>());
    }
    let run = Running::new(&args);
    written(&row(28, "b", 30));
    let ran = run.stop().good();
    assert_eq!((ran.stat("used"), ran.stat("late")), (60 + 3 * 30 + 2 * 26 * 30, 0));
}

/// Fields keep the types that they had when the run began, whatever the first lines say when it goes on.
#[test]
fn fields_keep_their_types_when_a_run_goes_on() {
    let record = |second: u32, ms: &str| format!("{{\"ts\":\"2026-01-01T00:00:{second:02}Z\",\"ms\":{ms}}}\n");
    let (dir, log) = file("a.log", record(0, "3").as_bytes());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (out, saved) = (path("out.csv"), path("saved"));
    let args = [
        "--follow",
        &log,
        "-o",
        &out,
        "--checkpoint",
        &saved,
        "--checkpoint-every",
        "0s",
        "--window",
        "10s",
        "--agg",
        "max(ms)",
    ];
    let run = Running::new(&args);
    wait_for("a checkpoint", || std::path::Path::new(&saved).join("manifest-0").exists().then_some(()));
    run.stop().good();
    // Read for the first time, it would be a number with a fraction, and the state that of another type.
    append(&log, &[record(1, "2.5"), record(30, "1")].concat());
    let error = Running::new(&args).end().fails(1);
    assert!(error.contains("--type ms:float"), "{error}");
}
