//! Following as the source sees it: what is done to files while they are read, and which records come of it.

use super::files::Files;
use super::*;
use crate::format::json::JsonDecoder;
use crate::format::{Field, FieldType, Wanted};
use crate::source::{ReadOptions, Reader};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::AtomicI64;
use std::time::Instant;

pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// A reader of numbers, and what it has read.
pub(super) struct Follower {
    pub(super) reader: LiveReader,
    pub(super) numbers: Vec<i64>,
    positions: BTreeMap<u64, Position>,
    events: Vec<(usize, Event)>,
}

impl Follower {
    pub(super) fn of(patterns: &[PathBuf], live: Live, grace: Duration, max_record: usize) -> Follower {
        let options = ReadOptions {
            lengths: Arc::default(),
            max_record,
            keep_bad: false,
            keep_late: false,
            task_bytes: usize::MAX,
            progress: Arc::default(),
        };
        let positions = live.positions.iter().map(|p| (p.text, p.clone())).collect();
        let bare = Live { positions: Vec::new(), ..live.clone() };
        let mut reader = LiveReader::new(Vec::new(), bare, options).unwrap();
        // As it is outside of tests: every look is one that the test makes.
        reader.tick = Duration::from_millis(100);
        reader.files = Files::new(patterns.to_vec(), live.positions).unwrap().grace(grace);
        let fields = vec![Field { name: "n".into(), ty: FieldType::Int64 }];
        let decoder = JsonDecoder::new(&Wanted { fields, ..Wanted::default() }).unwrap();
        reader.decode(Arc::new(decoder), vec![None]);
        Follower { reader, numbers: Vec::new(), positions, events: Vec::new() }
    }

    pub(super) fn new(patterns: &[PathBuf]) -> Follower {
        Follower::of(patterns, Live::new().follow(true), Duration::from_millis(300), 1 << 20)
    }

    /// Goes on behind where `before` is.
    fn after(patterns: &[PathBuf], before: &Follower) -> Follower {
        // As a checkpoint stores them.
        let stored = postcard::to_allocvec(&before.positions.values().cloned().collect::<Vec<_>>()).unwrap();
        let positions = postcard::from_bytes(&stored).unwrap();
        let live = Live::new().follow(true).from_positions(positions);
        Follower::of(patterns, live, Duration::from_millis(300), 1 << 20)
    }

    /// Takes what there is.
    pub(super) fn take(&mut self) {
        self.reader.next_look = Instant::now();
        loop {
            let tasks = self.reader.tasks(3).unwrap();
            if tasks.is_empty() {
                return;
            }
            for task in tasks {
                let report = task
                    .run(&mut |_, pieces| {
                        for piece in pieces {
                            self.numbers.extend(piece.columns[0].as_primitive::<Int64Type>().values());
                        }
                        Ok(())
                    })
                    .unwrap();
                let arrival = report.arrival.unwrap();
                self.positions.extend(arrival.position.map(|p| (p.text, p)));
                if arrival.event != Event::None {
                    self.events.push((report.input, arrival.event));
                }
            }
        }
    }

    /// Takes until `done`.
    pub(super) fn until(&mut self, what: &str, done: impl Fn(&Follower) -> bool) {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < DEADLINE, "{what} did not come; there are {} numbers", self.numbers.len());
            self.take();
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Takes until there are the numbers `0..n`, each once, in any order.
    pub(super) fn have(&mut self, n: i64) {
        self.until(&format!("number {n}"), |f| f.numbers.len() as i64 >= n);
        // What is read twice would come now.
        for _ in 0..3 {
            self.take();
        }
        let mut sorted = self.numbers.clone();
        sorted.sort();
        assert!(sorted.iter().copied().eq(0..n), "{sorted:?}");
    }
}

pub(super) fn lines(range: std::ops::Range<i64>) -> String {
    range.map(|n| format!("{{\"n\":{n}}}\n")).collect()
}

pub(super) fn append(path: &PathBuf, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

pub(super) fn gzip(path: &PathBuf) {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&fs::read(path).unwrap()).unwrap();
    fs::write(format!("{}.gz", path.display()), packed.finish().unwrap()).unwrap();
    fs::remove_file(path).unwrap();
}

pub(super) fn folder() -> (tempfile::TempDir, impl Fn(&str) -> PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    (dir, move |name: &str| path.join(name))
}

#[test]
fn a_line_counts_once_its_end_has_come() {
    let (_dir, path) = folder();
    let log = path("a.log");
    append(&log, &lines(0..2));
    append(&log, "{\"n\"");
    let mut follower = Follower::new(std::slice::from_ref(&log));
    follower.have(2);
    append(&log, ":2");
    follower.have(2);
    append(&log, "}\n{\"n\":3}\n");
    follower.have(4);
}

#[test]
fn a_file_that_is_not_there_yet_and_new_files_of_a_pattern() {
    let (_dir, path) = folder();
    let mut follower = Follower::new(&[path("later.log"), path("x*.log")]);
    follower.have(0);
    append(&path("x1.log"), &lines(0..3));
    follower.have(3);
    append(&path("later.log"), &lines(3..5));
    append(&path("x2.log"), &lines(5..7));
    append(&path("y.log"), &lines(100..101));
    follower.have(7);
    append(&path("x1.log"), &lines(7..9));
    follower.have(9);
}

#[test]
fn a_file_rotated_by_renaming_is_read_to_its_end() {
    let (_dir, path) = folder();
    for pattern in ["a.log", "a.log*"] {
        for old in ["a.log", "a.log.1", "a.log.1.gz"] {
            let _ = fs::remove_file(path(old));
        }
        append(&path("a.log"), &lines(0..3));
        let mut follower = Follower::new(&[path(pattern)]);
        follower.have(3);
        let mut held = OpenOptions::new().append(true).open(path("a.log")).unwrap();
        held.write_all(lines(3..5).as_bytes()).unwrap();
        fs::rename(path("a.log"), path("a.log.1")).unwrap();
        append(&path("a.log"), &lines(5..7));
        follower.have(7);
        // Who has the old file open still writes to it.
        held.write_all(lines(7..8).as_bytes()).unwrap();
        held.write_all(b"{\"n\":8}").unwrap();
        // The last line of a file that nobody writes to any more has no end.
        follower.have(9);
        gzip(&path("a.log.1"));
        append(&path("a.log"), &lines(9..10));
        follower.have(10);
        std::thread::sleep(2 * Duration::from_millis(300));
        follower.have(10);
        assert_eq!(follower.reader.inputs.len(), 1, "{pattern}: one input");
    }
}

#[test]
fn a_file_rotated_after_a_silence_is_read_to_its_end() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..5));
    let mut follower = Follower::of(&[path("a.log")], Live::new().follow(true), Duration::from_millis(500), 1000);
    follower.have(5);
    std::thread::sleep(Duration::from_millis(550));
    fs::rename(path("a.log"), path("a.log.1")).unwrap();
    append(&path("a.log"), &lines(5..6));
    // The rotation has been noticed; the writer has not yet opened the new file.
    follower.have(6);
    append(&path("a.log.1"), &lines(6..8));
    follower.have(8);
}

#[test]
fn a_file_that_cannot_be_read_at_first_is_tried_again() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..2));
    let mut follower = Follower::new(&[path("*.log")]);
    follower.have(2);
    // A kind of file that cannot be followed.
    fs::write(path("b.log"), "PAR1").unwrap();
    follower.have(2);
    fs::write(path("b.log"), lines(2..4)).unwrap();
    follower.have(4);
    fs::write(path("c.log"), "PAR1").unwrap();
    let begun = Instant::now();
    let error = loop {
        follower.reader.next_look = Instant::now();
        match follower.reader.tasks(1) {
            Ok(_) => assert!(begun.elapsed() < DEADLINE),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("c.log"), "{error}");
}

#[test]
fn what_waits_while_the_run_is_held_up_is_no_silence() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..1));
    append(&path("b.log"), &lines(1..2));
    let idle = Duration::from_secs(2);
    let mut follower = Follower::of(&[path("*.log")], Live::new().follow(true).idle(idle), DEADLINE, 1000);
    follower.until("the first lines", |f| f.numbers.len() == 2);
    append(&path("a.log"), &lines(2..3));
    append(&path("b.log"), &lines(3..4));
    std::thread::sleep(idle + Duration::from_millis(100));
    follower.until("the other lines", |f| f.numbers.len() == 4);
    assert_eq!(follower.events, []);
}

#[test]
fn a_first_line_of_any_length_is_a_sample() {
    let (_dir, path) = folder();
    append(&path("a.log"), &format!("{{\"n\":{}1}}", " ".repeat(5 << 20)));
    let mut follower = Follower::new(&[path("a.log")]);
    let sample = follower.reader.sample().unwrap().unwrap();
    assert_eq!((sample.lines.len(), sample.path), (4 << 20, path("a.log").to_str().map(str::to_owned)));
}

#[test]
fn what_takes_over_a_name_is_new_however_alike_it_is() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..1));
    let mut follower = Follower::new(&[path("a.log*")]);
    follower.have(1);
    fs::rename(path("a.log"), path("a.log.1")).unwrap();
    append(&path("a.log"), &lines(0..1));
    follower.until("the same line", |f| f.numbers == [0, 0]);
    follower.until("the end of the first", |f| f.positions.values().any(|p| p.done));
    fs::rename(path("a.log"), path("a.log.2")).unwrap();
    append(&path("a.log"), &lines(0..1));
    follower.until("the same line", |f| f.numbers == [0, 0, 0]);
}

#[test]
fn a_file_that_is_seen_empty_and_rotated_away_full_is_read() {
    let (_dir, path) = folder();
    let log = path("a.log");
    append(&log, &lines(0..5));
    let mut follower = Follower::new(std::slice::from_ref(&log));
    follower.have(5);
    fs::rename(&log, path("a.log.1")).unwrap();
    append(&log, "");
    follower.until("the empty file", |f| f.reader.files.contents.len() == 2);
    append(&log, &lines(5..10));
    fs::rename(path("a.log.1"), path("a.log.2")).unwrap();
    fs::rename(&log, path("a.log.1")).unwrap();
    append(&log, &lines(10..15));
    follower.have(15);
}

#[test]
fn a_file_that_is_copied_and_cut_back_is_read_from_its_copy() {
    let (_dir, path) = folder();
    for (pattern, pack) in [("a.log", false), ("a.log", true), ("a.log*", false), ("a.log*", true)] {
        for old in ["a.log", "a.log.1", "a.log.1.gz"] {
            let _ = fs::remove_file(path(old));
        }
        append(&path("a.log"), &lines(0..3));
        let mut follower = Follower::new(&[path(pattern)]);
        follower.have(3);
        // Nobody has read these yet.
        append(&path("a.log"), &lines(3..6));
        fs::copy(path("a.log"), path("a.log.1")).unwrap();
        File::create(path("a.log")).unwrap();
        append(&path("a.log"), &lines(6..30));
        if pack {
            gzip(&path("a.log.1"));
        }
        follower.have(30);
        append(&path("a.log"), &lines(30..31));
        follower.have(31);
        std::thread::sleep(2 * Duration::from_millis(300));
        follower.have(31);
    }
}

#[test]
fn a_copy_that_is_being_made_is_not_read() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..5000));
    let mut follower = Follower::new(&[path("a.log*")]);
    follower.have(5000);
    let all = fs::read_to_string(path("a.log")).unwrap();
    for part in 1..=10 {
        fs::write(path("a.log.1"), &all[..all.len() * part / 10]).unwrap();
        follower.have(5000);
    }
    File::create(path("a.log")).unwrap();
    follower.have(5000);
    append(&path("a.log"), &lines(5000..5001));
    follower.have(5001);
}

#[test]
fn an_inode_that_is_used_again_is_another_file() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..4));
    let mut follower = Follower::new(&[path("a.log")]);
    follower.have(4);
    // The same inode and more bytes, of which nothing was read.
    let file = File::create(path("a.log")).unwrap();
    (&file).write_all(lines(4..20).as_bytes()).unwrap();
    follower.have(20);
    let before = follower.positions.clone();
    let mut text = fs::read_to_string(path("a.log")).unwrap();
    text.replace_range(..lines(4..5).len(), &lines(7..8));
    drop(follower);
    // A run that goes on finds the first bytes of another file.
    fs::write(path("a.log"), &text).unwrap();
    let mut again = Follower::new(&[path("a.log")]);
    again.positions = before;
    let mut follower = Follower::after(&[path("a.log")], &again);
    follower.until("all lines", |f| f.numbers.len() == 16);
}

#[test]
fn a_file_that_vanishes_is_read_to_its_end() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..4));
    let mut follower = Follower::new(&[path("*.log")]);
    follower.have(4);
    append(&path("a.log"), &lines(4..6));
    fs::remove_file(path("a.log")).unwrap();
    follower.have(6);
    follower.until("the end", |f| f.positions.values().all(|p| p.done));
    append(&path("a.log"), &lines(6..8));
    follower.have(8);
}

#[test]
fn records_over_the_limit_are_bad_and_passed_whole() {
    let (_dir, path) = folder();
    let log = path("a.log");
    append(&log, &lines(0..1));
    let mut follower = Follower::of(std::slice::from_ref(&log), Live::new().follow(true), DEADLINE, 1000);
    follower.have(1);
    for _ in 0..40 {
        append(&log, &"x".repeat(200));
        follower.have(1);
    }
    append(&log, &format!("{{\"n\":7}}\n{}", lines(1..3)));
    follower.have(3);
}

#[test]
fn a_run_goes_on_behind_its_positions_whatever_became_of_the_files() {
    let (_dir, path) = folder();
    for pack in [false, true] {
        for pattern in ["a.log", "a.log*"] {
            for old in ["a.log", "a.log.1", "a.log.2", "a.log.2.gz"] {
                let _ = fs::remove_file(path(old));
            }
            append(&path("a.log"), &lines(0..3));
            let mut follower = Follower::new(&[path(pattern)]);
            follower.have(3);
            append(&path("a.log"), &lines(3..5));
            fs::rename(path("a.log"), path("a.log.2")).unwrap();
            if pack {
                gzip(&path("a.log.2"));
            }
            append(&path("a.log"), &lines(5..9));
            let mut again = Follower::after(&[path(pattern)], &follower);
            again.numbers = follower.numbers;
            again.have(9);
            append(&path("a.log"), &lines(9..10));
            again.have(10);
        }
    }
}

#[test]
fn the_rest_of_what_was_rotated_comes_before_what_has_its_name_now() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..10));
    let mut follower = Follower::new(&[path("a.log*")]);
    follower.have(10);
    append(&path("a.log"), &lines(10..15));
    fs::rename(path("a.log"), path("a.log.1")).unwrap();
    append(&path("a.log"), &lines(15..20));
    let mut again = Follower::after(&[path("a.log*")], &follower);
    again.until("the last number", |f| f.numbers.len() == 10);
    assert_eq!(again.numbers, (10..20).collect::<Vec<_>>());
}

#[test]
fn what_was_read_to_its_end_is_not_taken_for_rotated() {
    // Also by a name without a folder.
    let file = tempfile::Builder::new().prefix("followed").suffix(".log").tempfile_in(".").unwrap();
    let bare = PathBuf::from(file.path().file_name().unwrap());
    let (_dir, path) = folder();
    for log in [path("a.log"), bare] {
        append(&log, &lines(0..10));
        let mut follower = Follower::new(std::slice::from_ref(&log));
        follower.have(10);
        let mut again = Follower::after(std::slice::from_ref(&log), &follower);
        again.take();
        // Half a line that lies longer than a rotated file is waited for.
        append(&log, "{\"n\":1");
        let begun = Instant::now();
        again.until("the time", |_| begun.elapsed() > Duration::from_millis(900));
        append(&log, "0}\n");
        again.numbers = follower.numbers;
        again.have(11);
    }
}

#[test]
fn packed_history_is_read_once() {
    let (_dir, path) = folder();
    append(&path("a.log.2"), &lines(0..3000));
    gzip(&path("a.log.2"));
    append(&path("a.log.1"), &lines(3000..6000));
    append(&path("a.log"), &lines(6000..6001));
    let mut follower = Follower::new(&[path("a.log*")]);
    follower.have(6001);
    gzip(&path("a.log.1"));
    follower.have(6001);
    std::thread::sleep(2 * Duration::from_millis(300));
    follower.have(6001);
}

#[test]
fn silence_is_said_once_and_only_of_what_is_silent() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..1));
    append(&path("b.log"), &lines(1..2));
    let live = Live::new().follow(true).idle(Duration::from_millis(400));
    let mut follower = Follower::of(&[path("*.log")], live, DEADLINE, 1000);
    follower.have(2);
    let mut n = 2;
    let begun = Instant::now();
    while follower.events.is_empty() && begun.elapsed() < DEADLINE {
        append(&path("a.log"), &lines(n..n + 1));
        n += 1;
        follower.take();
        std::thread::sleep(Duration::from_millis(5));
    }
    // On a machine that stood still for so long both may have been silent.
    assert!(follower.events.contains(&(1, Event::Silent)), "{:?}", follower.events);
    follower.have(n);
    follower.until("silence", |f| f.events.contains(&(0, Event::Silent)));
    let said = follower.events.len();
    follower.take();
    follower.take();
    assert_eq!(follower.events.len(), said);
}

/// A writer that rotates, cuts back and packs as it likes. Longer by `WINDROW_FOLLOW_SECONDS`.
#[test]
fn every_record_is_counted_once_whatever_the_writer_does() {
    let seconds = std::env::var("WINDROW_FOLLOW_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    for (seed, pattern) in [(1u64, "a.log*"), (2, "a.log"), (3, "a.log*")] {
        let (dir, path) = folder();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        // Who follows one name sees what is under it from time to time, and nobody sees what was removed before.
        let read = Arc::new(AtomicI64::new(0));
        let so_far = read.clone();
        let writer = std::thread::spawn(move || {
            let mut random = seed;
            let mut next = move |below: u64| {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (random >> 33) % below
            };
            let (mut n, mut rotated) = (0, 0);
            let mut counts = [0; 4];
            let caught_up = |n: i64| {
                while so_far.load(Ordering::Relaxed) < n {
                    if stopped.load(Ordering::Relaxed) {
                        return false;
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                true
            };
            while !stopped.load(Ordering::Relaxed) {
                let many = 1 + next(50) as i64;
                let text = lines(n..n + many);
                n += many;
                let cut = next(text.len() as u64) as usize;
                append(&path("a.log"), &text[..cut]);
                append(&path("a.log"), &text[cut..]);
                std::thread::sleep(Duration::from_micros(next(4000)));
                match next(60) {
                    0 | 1 => {
                        rotated += 1;
                        let old = path(&format!("a.log.{rotated}"));
                        if next(2) == 0 {
                            counts[0] += 1;
                            fs::rename(path("a.log"), &old).unwrap();
                            append(&path("a.log"), "");
                        } else {
                            counts[1] += 1;
                            fs::copy(path("a.log"), &old).unwrap();
                            OpenOptions::new().write(true).open(path("a.log")).unwrap().set_len(0).unwrap();
                        }
                        std::thread::sleep(Duration::from_millis(next(20)));
                        if next(2) == 0 {
                            counts[2] += 1;
                            gzip(&old);
                        }
                        if pattern == "a.log" {
                            // What comes and goes under the name between two looks is not seen.
                            append(&path("a.log"), &lines(n..n + 1));
                            n += 1;
                            caught_up(n);
                        }
                    }
                    2 => std::thread::sleep(Duration::from_millis(next(120))),
                    3 if rotated > 3 && caught_up(n) => {
                        let old = rotated - 3;
                        let gone = [format!("a.log.{old}"), format!("a.log.{old}.gz")];
                        counts[3] += gone.iter().filter(|name| fs::remove_file(path(name)).is_ok()).count();
                    }
                    _ => {}
                }
            }
            (n, counts)
        });
        let mut follower = Follower::new(&[dir.path().join(pattern)]);
        let begun = Instant::now();
        let mut restarts = 0;
        while begun.elapsed() < Duration::from_secs(seconds) {
            follower.take();
            read.store(follower.numbers.len() as i64, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(3));
            if seed == 3 && begun.elapsed().as_millis() / 700 > restarts {
                // Killed, and started again from what was stored.
                restarts += 1;
                let numbers = std::mem::take(&mut follower.numbers);
                follower = Follower::after(&[dir.path().join(pattern)], &follower);
                follower.numbers = numbers;
            }
        }
        stop.store(true, Ordering::Relaxed);
        let (n, counts) = writer.join().unwrap();
        println!(
            "seed {seed}: {n} records, renamed {}, copied {}, packed {}, removed {}",
            counts[0], counts[1], counts[2], counts[3]
        );
        follower.until("all records", |f| f.numbers.len() as i64 >= n);
        follower.have(n);
    }
}
