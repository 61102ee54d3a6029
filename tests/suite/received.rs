//! Runs over standard input and connections that are saved: what came is counted once, however often the run dies.
#![cfg(unix)]

use crate::follow::{BY_KEY, Running, minute, row, wait_for, wait_for_text};
use crate::run::{file, windrow};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

const HEADER: &str = "window_start,window_end,k,count\n";

/// A place for an output and for what is saved, and the command that uses them.
struct Place {
    dir: tempfile::TempDir,
    every: &'static str,
}

impl Place {
    fn new(every: &'static str) -> Place {
        Place { dir: tempfile::tempdir().unwrap(), every }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn args<'a>(&self, input: &[&'a str], paths: &'a [String; 2]) -> Vec<&'a str> {
        let saved = ["-o", &paths[0], "--checkpoint", &paths[1], "--checkpoint-every", self.every, "--stats"];
        [input, &saved, &BY_KEY].concat()
    }

    fn paths(&self) -> [String; 2] {
        [self.path("out.csv"), self.path("saved")]
    }

    fn wait_until_logged(&self, text: &str) {
        let holds = |path: PathBuf| memchr::memmem::find(&fs::read(path).ok()?, text.as_bytes());
        wait_for(text, || self.segments().into_iter().find_map(holds));
    }

    /// The segments of the log, the oldest first.
    fn segments(&self) -> Vec<PathBuf> {
        let listed = fs::read_dir(Path::new(&self.path("saved")).join("received"));
        let mut paths: Vec<PathBuf> = listed.into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths
    }
}

/// Killed, stopped and killed again: saved all the time, or never but at a stop, so that all is had from the log.
#[test]
fn standard_input_is_counted_once_however_often_a_run_dies() {
    for every in ["0s", "1h"] {
        let place = Place::new(every);
        let paths = place.paths();
        let args = place.args(&["--follow", "-", "--format", "json"], &paths);
        let (mut run, mut want) = (Running::new(&args), HEADER.to_owned());
        for at in 0..12 {
            run.write(&minute(at, "a", 20 + at));
            if at > 0 {
                want += &row(at - 1, "a", 19 + at);
                // What closes it has been logged.
                wait_for_text(&paths[0], &row(at - 1, "a", 19 + at));
            }
            match at % 4 {
                1 => drop(run),
                3 => {
                    let ran = run.stop().good();
                    assert!(ran.err.contains("the state is saved in "), "{}", ran.err);
                }
                _ => continue,
            }
            // One that is stopped while it starts changes nothing.
            let early = Running::new(&args);
            std::thread::sleep(std::time::Duration::from_millis(u64::from(at) * 7));
            early.stop();
            run = Running::new(&args);
        }
        // Its end closes what is open, and the run.
        let ran = run.end().good();
        want += &row(11, "a", 31);
        assert_eq!(fs::read_to_string(&paths[0]).unwrap(), want, "{every}");
        assert_eq!((ran.stat("used"), ran.stat("late")), ((20..32).sum::<u64>(), 0));
        assert_eq!(place.segments(), Vec::<PathBuf>::new());
        let again = Running::new(&args).end().good();
        assert!(again.err.contains("the run was finished before"), "{}", again.err);
    }
}

/// Also before the first checkpoint.
#[test]
fn a_log_is_of_one_query() {
    let place = Place::new("1h");
    let paths = place.paths();
    let args = place.args(&["--follow", "-", "--format", "json"], &paths);
    let mut run = Running::new(&args);
    run.write(&minute(0, "a", 20));
    place.wait_until_logged(&minute(0, "a", 20));
    drop(run);
    let other = windrow(&[&["replay"], &args[..], &["--where", "k = 'a'"]].concat()).fails(2);
    assert!(other.contains("--where was not given and is k = 'a'"), "{other}");
    assert_eq!(Running::new(&args).end().good().stat("used"), 20);
}

/// Connection by connection: one that was behind the others when the run died is waited for until it is idle.
#[test]
fn a_slow_sender_that_comes_back_loses_nothing() {
    let place = Place::new("0s");
    let paths = place.paths();
    let args = place.args(&["--listen", "127.0.0.1:0", "--format", "json", "--idle", "2m"], &paths);
    let send = |run: &Running, texts: [String; 2]| {
        texts.map(|text| {
            let mut connection = TcpStream::connect(run.address()).unwrap();
            connection.write_all(text.as_bytes()).unwrap();
            place.wait_until_logged(&text);
            connection
        })
    };
    let run = Running::new(&args);
    let _held = send(&run, [minute(1, "slow", 20), minute(5, "fast", 20)]);
    drop(run);
    let run = Running::new(&args);
    let _again = send(&run, [minute(2, "slow", 20), minute(6, "fast", 20)]);
    let ran = run.stop().good();
    assert_eq!((ran.stat("used"), ran.stat("late")), (80, 0));
}

/// Every connection has a header of its own, also where its lines are had from the log.
#[test]
fn connections_are_counted_once_however_often_a_run_dies() {
    for every in ["0s", "1h"] {
        let place = Place::new(every);
        let paths = place.paths();
        // Connections that are gone hold windows open until they are idle.
        let args = place.args(&["--listen", "127.0.0.1:0", "--format", "csv", "--idle", "200ms"], &paths);
        let line = |minute: u32, i: u32| format!("2024-05-17T10:{minute:02}:{:02}Z", i % 60);
        let connect = |run: &Running| {
            let address = run.address();
            ["ts,k\n", "k,ts\n"].map(|header| {
                let mut connection = TcpStream::connect(&address).unwrap();
                connection.write_all(header.as_bytes()).unwrap();
                connection
            })
        };
        let mut run = Running::new(&args);
        let mut connections = connect(&run);
        let mut want = HEADER.to_owned();
        for at in 0..9 {
            let n = 20 + at;
            let a: String = (0..n).map(|i| format!("{},a\n", line(at, i))).collect();
            let b: String = (0..n).map(|i| format!("b,{}\n", line(at, i))).collect();
            // An input that has not begun holds nothing up.
            for (connection, text) in connections.iter_mut().rev().zip([b, a]) {
                connection.write_all(text.as_bytes()).unwrap();
                place.wait_until_logged(&text);
            }
            if at > 0 {
                want += &(row(at - 1, "a", n - 1) + &row(at - 1, "b", n - 1));
                wait_for_text(&paths[0], &row(at - 1, "b", n - 1));
            }
            match at % 4 {
                1 => drop(run),
                3 => {
                    run.stop().good();
                }
                _ => continue,
            }
            run = Running::new(&args);
            connections = connect(&run);
        }
        let ran = run.stop().good();
        assert_eq!(fs::read_to_string(&paths[0]).unwrap(), want, "{every}");
        assert_eq!((ran.stat("used"), ran.stat("late"), ran.stat("bad")), (2 * (20..29).sum::<u64>(), 0, 0));
        let other = windrow(&[&["replay", "--follow", "-"], &args[2..]].concat()).fails(2);
        assert!(other.contains("--listen was given and is not given"), "{other}");
    }
}

/// A segment that is damaged before others says so, or is left out and told.
#[test]
fn a_damaged_log_is_told_or_skipped() {
    let place = Place::new("1h");
    let paths = place.paths();
    let args = place.args(&["--follow", "-", "--format", "json"], &paths);
    for at in 0..3 {
        let mut run = Running::new(&args);
        run.write(&minute(2 * at, "a", 30));
        run.write(&minute(2 * at + 1, "a", 30));
        wait_for_text(&paths[0], &row(2 * at, "a", 30));
    }
    let segments = place.segments();
    assert_eq!(segments.len(), 3, "{segments:?}");
    let mut bytes = fs::read(&segments[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segments[1], bytes).unwrap();
    let error = Running::new(&args).end().fails(1);
    assert!(
        error.contains("/log-") && error.contains("the log is damaged") && error.contains("--skip-damaged"),
        "{error}"
    );
    let ran = Running::new(&[&args[..], &["--skip-damaged"]].concat()).end().good();
    assert!(ran.err.contains("blocks of records were lost"), "{}", ran.err);
    let rows = fs::read_to_string(&paths[0]).unwrap();
    assert!(
        rows.contains(&row(0, "a", 30)) && rows.contains(&row(4, "a", 30)) && rows.contains(&row(5, "a", 30)),
        "{rows}"
    );
    assert!(ran.stat("used") < 180 && ran.stat("used") >= 120, "{}", ran.err);
}

#[test]
fn what_cannot_be_saved_is_refused_in_words() {
    let (_dir, log) = file("a.log", minute(0, "a", 3).as_bytes());
    let place = Place::new("0s");
    let saved = place.path("saved");
    let refused = |args: &[&str], what: &str| {
        let error = windrow(&[&["replay", "--checkpoint", &saved], args, &BY_KEY[..]].concat()).fails(2);
        assert!(error.contains(what), "{error}");
    };
    refused(&["--follow", "-", &log], "not both");
    refused(&["--listen", "127.0.0.1:0", "--follow", &log], "not both");
    refused(&["-"], "--follow takes standard input as it comes");
    refused(&[&log, "--speed", "60x"], "leave out --speed or --checkpoint");
    refused(&[&log, "--follow"], "an output that can be gone on with");
    refused(&["--follow", "-", "--supervise", "1"], "no standard input of its own");
    // A command that was refused leaves nothing that stands in the way of a better one.
    let mut run = Running::new(&[&["--follow", "-", "--checkpoint", &saved], &BY_KEY[..]].concat());
    run.write(&minute(0, "a", 20));
    assert!(run.end().fails(2).contains("an output that can be gone on with"));
    let out = place.path("out.csv");
    let mut run = Running::new(&[&["--follow", "-", "--checkpoint", &saved, "-o", &out], &BY_KEY[..]].concat());
    run.write(&minute(0, "a", 20));
    assert_eq!(run.end().good().code, 0);
    assert_eq!(fs::read_to_string(out).unwrap(), HEADER.to_owned() + &row(0, "a", 20));
}
