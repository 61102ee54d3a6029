//! Live runs that are killed and taken up again, after every write and sync of the folder's disk in turn: over a file that grows
//! while it is followed, and over standard input and connections, which are logged.
//!
//! What a sender has had acknowledged is what is in the log; it sends the rest again.

use super::Checkpoint;
use super::tests::{AGGREGATES, Kind, Tape, WINDOWS, asked};
use crate::Result;
use crate::checkpoint::{Log, LogOptions};
use crate::metrics::Statistics;
use crate::query::twin::same_cells;
use crate::query::{Format, Query};
use crate::source::Live;
use crate::source::live::{Script, text_bytes};
use crate::store::memory_disk::MemoryDisk;
use crate::time::TimeFormat;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a live run is over.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Of {
    Followed,
    Stdin,
    Connections,
}

/// Lines that come together.
const PORTION: usize = 6;

/// So many records as text, the same ones every time: times go on, with some disorder.
fn text(count: i64) -> String {
    let mut text = String::new();
    for i in 0..count {
        let name = ["a", "b", "ccccccccccccccccccccc", ""][(i * 7 % 11 % 4) as usize];
        let (ts, float) = (1000 + 5 * i - i * 31 % 60, (i * 37 % 101) as f64 / 4.0 + 0.125);
        let _ = writeln!(text, "{{\"ts\":{ts},\"name\":\"{name}\",\"int\":{},\"float\":{float}}}", i * 13 % 40);
    }
    text
}

/// Gives what it holds in portions.
struct Sender(VecDeque<Vec<u8>>);

impl Sender {
    fn of(text: &str) -> Sender {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        Sender(lines.chunks(PORTION).map(|lines| lines.concat().into_bytes()).collect())
    }
}

impl Read for Sender {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let Some(portion) = self.0.pop_front() else { return Ok(0) };
        buffer[..portion.len()].copy_from_slice(&portion);
        Ok(portion.len())
    }
}

/// A run over live input: what comes of it in all, how much of that there is, and the file that grows.
struct Scene {
    of: Of,
    kind: Kind,
    text: String,
    log: PathBuf,
    /// It is stopped as soon as its input has ended.
    stopped_late: bool,
}

impl Scene {
    /// The query, to which `rest` comes. A followed file is as it was left, and grows to all of the text.
    fn query(&self, rest: &str) -> Query {
        let boxed = |text: &str| Box::new(Sender::of(text)) as Box<dyn Read + Send>;
        let mut script = Script::default();
        let mut inputs = Vec::new();
        match self.of {
            Of::Stdin => {
                script.stdin = Arc::new(Mutex::new([boxed(rest)].into()));
                inputs.push(PathBuf::from("-"));
            }
            Of::Connections => {
                // One after the other, which keeps the order of the records.
                script.connections = Arc::new(Mutex::new([boxed(rest)].into()));
            }
            Of::Followed => {
                let left = Mutex::new(Sender::of(&self.text[self.log.metadata().map_or(0, |m| m.len() as usize)..]));
                let log = self.log.clone();
                script.dry = Some(Arc::new(move || {
                    let Some(portion) = left.lock().unwrap().0.pop_front() else { return false };
                    OpenOptions::new().append(true).open(&log).unwrap().write_all(&portion).unwrap();
                    true
                }));
                inputs.push(self.log.clone());
            }
        }
        let mut live = Live::new().follow(true).idle(Duration::ZERO);
        if self.stopped_late {
            let stop = live.stop_flag();
            script.ended = Some(Arc::new(move || stop.store(true, Ordering::Relaxed)));
        }
        live.script = script;
        let query = Query::files(inputs).format(Format::Json).time(Some("ts".into()), TimeFormat::EpochMicros);
        // Which records come together is decided by the clock, and rounding by which are folded together.
        let aggregates = AGGREGATES.replace("var(float), ", "");
        asked(query, self.kind, if self.of == Of::Followed { AGGREGATES } else { &aggregates }).live(live)
    }

    /// The file that is followed is as it is at the beginning.
    fn begin(&self) {
        let first: String = self.text.split_inclusive('\n').take(PORTION).collect();
        File::create(&self.log).unwrap().write_all(first.as_bytes()).unwrap();
    }

    /// Runs on `disk` to the end of what comes, `None` if it had come there before.
    fn run(&self, disk: &MemoryDisk, tape: &Tape) -> Result<Option<Statistics>> {
        let rest = if self.of == Of::Followed { "" } else { &self.text[logged(disk).min(self.text.len())..] };
        let checkpoint = Checkpoint::new("/d/c").on(Arc::new(disk.clone())).every(Duration::ZERO);
        let mut rows = self.query(rest).checkpoint(checkpoint.side(Arc::new(tape.clone()))).run()?;
        if rows.is_finished() {
            return Ok(None);
        }
        for batch in rows.by_ref() {
            tape.push(batch?);
        }
        rows.seal()?;
        let statistics = rows.statistics();
        // Files that are followed have no end.
        assert_eq!(rows.is_saved(), self.of == Of::Followed);
        rows.complete()?;
        Ok(Some(statistics))
    }
}

/// Bytes of records in the log on `disk`, which is left as it is.
fn logged(disk: &MemoryDisk) -> usize {
    let (mut bytes, copy) = (0, disk.crash(1.0));
    let log = Log::open(Arc::new(copy), "/d/c/received", LogOptions::default(), 0, |_, entry| {
        bytes += text_bytes(entry)?;
        Ok(())
    });
    drop(log.unwrap());
    bytes
}

/// Stops a run after every write and sync in turn; what the machine leaves then is taken up again.
fn whatever_fails_the_rows_are_the_same(of: Of, kind: Kind) {
    let dir = tempfile::tempdir().unwrap();
    let text = text(if of == Of::Followed { 36 } else { 90 });
    let scene = Scene { of, kind, text, log: dir.path().join("a.log"), stopped_late: false };
    scene.begin();
    let (good, want) = (MemoryDisk::new("/d"), Tape::default());
    let counted = scene.run(&good, &want).unwrap().unwrap();
    assert!(counted.ledger.balances() && counted.ledger.used > 30, "{counted:?}");
    let want = want.take();
    assert!(want.iter().map(|batch| batch.num_rows()).sum::<usize>() > 10);
    let (mut n, mut went_on) = (0, 0);
    loop {
        scene.begin();
        let (disk, tape) = (MemoryDisk::new("/d"), Tape::default());
        disk.fail_at(Some(n));
        n += 1;
        match scene.run(&disk, &tape) {
            Ok(_) if disk.operations() < n => break,
            // A write to the log is tried again.
            Ok(_) => {
                same_cells(&tape.take(), &want);
                continue;
            }
            Err(error) => assert!(error.to_string().ends_with("the disk failed, as it was told to"), "{error}"),
        }
        let grown = std::fs::read(&scene.log).unwrap();
        let before = tape.take();
        for torn in [0.0, 0.6] {
            std::fs::write(&scene.log, &grown).unwrap();
            let after = disk.crash(torn);
            let tape = Tape::of(before.clone());
            went_on += u64::from(after.files().iter().any(|f| f.ends_with("manifest-0")));
            let found = scene.run(&after, &tape).unwrap();
            same_cells(&tape.take(), &want);
            if let Some(found) = found {
                assert_eq!(
                    (found.ledger, found.windows),
                    (counted.ledger, counted.windows),
                    "{of:?} {kind:?} {n} {torn}"
                );
            }
        }
    }
    assert!(n > 30 && went_on > n, "{n} operations, {went_on} times gone on");
}

const LIVE: Kind = Kind { lateness: Some((40, 100_000_000_000_000_000)), bits: 2, ..WINDOWS };

#[test]
fn followed_files_go_on() {
    whatever_fails_the_rows_are_the_same(Of::Followed, LIVE);
    whatever_fails_the_rows_are_the_same(Of::Followed, Kind { window: None, session: true, ..LIVE });
}

#[test]
fn standard_input_goes_on() {
    whatever_fails_the_rows_are_the_same(Of::Stdin, LIVE);
    whatever_fails_the_rows_are_the_same(Of::Stdin, Kind { window: None, session: true, ..LIVE });
}

#[test]
fn connections_go_on() {
    whatever_fails_the_rows_are_the_same(Of::Connections, LIVE);
    whatever_fails_the_rows_are_the_same(Of::Connections, Kind { window: Some((50, 50)), ..LIVE });
}

/// A stop that comes behind the end of the input leaves nothing open: the run is complete, and nobody goes on with it.
#[test]
fn a_stop_that_comes_behind_the_end_changes_nothing() {
    let mut scene =
        Scene { of: Of::Stdin, kind: LIVE, text: text(90), log: PathBuf::from("/none"), stopped_late: false };
    let mut found = Vec::new();
    for stopped_late in [false, true] {
        scene.stopped_late = stopped_late;
        let (disk, tape) = (MemoryDisk::new("/d"), Tape::default());
        let counted = scene.run(&disk, &tape).unwrap().unwrap();
        assert!(scene.run(&disk, &tape).unwrap().is_none(), "it is finished");
        found.push((tape.take(), counted.ledger, counted.windows));
    }
    same_cells(&found[1].0, &found[0].0);
    assert_eq!((found[1].1, found[1].2), (found[0].1, found[0].2));
}
