//! What the programs of `tools/examples` print.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use windrow::stream::{Clock, ManualClock, Time};

#[path = "../../tools/examples/both_faces.rs"]
mod both_faces;
#[path = "../../tools/examples/orders.rs"]
mod orders;
#[path = "../../tools/examples/sqlite_windows.rs"]
mod sqlite_windows;
#[path = "../../tools/examples/top_paths.rs"]
mod top_paths;
#[path = "../../tools/examples/visits.rs"]
mod visits;
#[path = "../../tools/examples/word_count.rs"]
mod word_count;

type Lines = Arc<Mutex<Vec<String>>>;

fn printer() -> (Lines, impl Fn(String) + Send + Sync + 'static) {
    let lines = Lines::default();
    let into = lines.clone();
    (lines, move |line| into.lock().unwrap().push(line))
}

#[test]
fn words_are_counted() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"to be or not to be\nthat is the question\nto to to\n").unwrap();
    let (lines, print) = printer();
    word_count::run(file.path().to_str().unwrap(), 2, print).unwrap();
    assert_eq!(*lines.lock().unwrap(), ["1000 ms: be 2, to 2, is 1", "2000 ms: to 3"]);
}

#[test]
fn the_busiest_paths_of_a_log_that_grows() {
    let mut log = tempfile::NamedTempFile::new().unwrap();
    let clock = ManualClock::new();
    let (lines, print) = printer();
    let second = Duration::from_secs(1);
    let ctx = top_paths::top(log.path().to_str().unwrap(), 2, second, Clock::Manual(clock), print).unwrap();
    ctx.start().unwrap();
    let mut write = |paths: &[&str]| {
        for path in paths {
            writeln!(log, "10.0.0.1 - - [01/Jan/2024:00:00:00 +0000] \"GET {path} HTTP/1.1\" 200 5").unwrap();
        }
    };
    for batch in 1..=12 {
        match batch {
            1 => write(&["/a", "/a", "/b"]),
            3 => write(&["/b", "/b", "/c"]),
            _ => {}
        }
        ctx.run_until(Time::from_millis(batch * 1000)).unwrap();
    }
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 12);
    assert_eq!(lines[0], "1000 ms: 2 /a, 1 /b");
    assert_eq!(lines[2], "3000 ms: 3 /b, 2 /a");
    assert_eq!(lines[11], "12000 ms: 2 /b, 1 /c");
}

#[test]
fn visits_end_with_silence() {
    let (lines, print) = printer();
    visits::run(print).unwrap();
    let want = [
        "4000 ms: bob saw 1 pages",
        "6000 ms: cid saw 1 pages",
        "7000 ms: ann saw 4 pages",
        "9000 ms: bob saw 3 pages",
    ];
    assert_eq!(*lines.lock().unwrap(), want);
}

#[test]
fn orders_meet_payments_and_customers() {
    let (lines, print) = printer();
    orders::run(print).unwrap();
    let want =
        ["1000 ms: order 1, 500 cents, Ann", "2000 ms: order 2, 120 cents, Bob", "3000 ms: order 3, 70 cents, c9"];
    assert_eq!(*lines.lock().unwrap(), want);
}

#[test]
fn a_query_runs_inside_a_stream() {
    let (lines, print) = printer();
    both_faces::run(print).unwrap();
    assert_eq!(*lines.lock().unwrap(), ["1000 ms: /a 2 1200", "2000 ms: /b 1 70", "2000 ms: /c 1 800"]);
}

#[test]
fn windows_are_in_the_database_once_however_often_they_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("windows.sqlite");
    let path = path.to_str().unwrap();
    let counts = [2, 2, 1, 2, 2];
    let rows = || {
        let db = sqlite_windows::open(path).unwrap();
        let mut select = db.prepare("SELECT time, path, hits FROM windows ORDER BY time, path").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.map(Result::unwrap).collect::<Vec<(i64, String, i64)>>()
    };
    let want = [
        (1000, "/a", 2),
        (1000, "/b", 1),
        (2000, "/a", 3),
        (2000, "/b", 1),
        (3000, "/a", 1),
        (4000, "/b", 1),
        (4000, "/c", 1),
        (5000, "/b", 1),
        (5000, "/c", 1),
    ]
    .map(|(time, path, hits)| (time, path.to_owned(), hits));
    for round in 0..2 {
        let (lines, print) = printer();
        sqlite_windows::run(path, print).unwrap();
        let said = |(i, n)| match round {
            0 => format!("{} ms: {n} rows", (i + 1) * 1000),
            _ => format!("{} ms: there already", (i + 1) * 1000),
        };
        assert_eq!(*lines.lock().unwrap(), counts.iter().enumerate().map(said).collect::<Vec<_>>());
        assert_eq!(rows(), want);
    }
    // A batch that fails half way leaves nothing, not even its time, and can be written again.
    let mut db = sqlite_windows::open(path).unwrap();
    let time = Time::from_millis(6000);
    assert!(sqlite_windows::save(&mut db, time, &[("/a", 1), ("/b", -1)]).is_err());
    assert_eq!(rows(), want);
    assert!(sqlite_windows::save(&mut db, time, &[("/a", 1), ("/b", 2)]).unwrap());
    assert_eq!(rows().len(), want.len() + 2);
}
