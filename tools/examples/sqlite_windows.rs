//! Windows in a database, one transaction for each batch: `cargo run --example sqlite_windows FILE`.
//!
//! Shows: an output that may run again. The rows of a batch go in together with its time, and a batch whose time is there
//! already changes nothing: what comes at least once is there exactly once.

use rusqlite::{Connection, params};
use std::sync::Mutex;
use std::time::Duration;
use windrow::Error;
use windrow::stream::{ManualClock, StreamingContext, Time};

/// Who asked for what, second by second.
fn hits() -> Vec<Vec<(&'static str, i64)>> {
    vec![vec![("/a", 1), ("/b", 1), ("/a", 1)], vec![("/a", 1)], vec![], vec![("/c", 1), ("/b", 1)], vec![]]
}

/// The database, with its tables.
pub fn open(path: &str) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS batches (time INTEGER PRIMARY KEY);
         CREATE TABLE IF NOT EXISTS windows (
             time INTEGER NOT NULL REFERENCES batches, path TEXT NOT NULL, hits INTEGER NOT NULL CHECK (hits > 0),
             PRIMARY KEY (time, path)
         )",
    )?;
    Ok(db)
}

/// Writes the rows of a batch, all or none; says whether they were new.
pub fn save(db: &mut Connection, time: Time, rows: &[(&str, i64)]) -> rusqlite::Result<bool> {
    let (transaction, time) = (db.transaction()?, time.millis() as i64);
    let new = transaction.execute("INSERT OR IGNORE INTO batches VALUES (?1)", [time])? == 1;
    if new {
        let mut insert = transaction.prepare_cached("INSERT INTO windows VALUES (?1, ?2, ?3)")?;
        for (path, hits) in rows {
            insert.execute(params![time, path, hits])?;
        }
    }
    transaction.commit()?;
    Ok(new)
}

/// Writes the hits of each path over two seconds, every second, to the database `path`.
pub fn run(path: &str, print: impl Fn(String) + Send + Sync + 'static) -> windrow::Result<()> {
    let failed = |e: rusqlite::Error| Error::output(format!("the database cannot be written: {e}"));
    let db = Mutex::new(open(path).map_err(failed)?);
    let clock = ManualClock::new();
    let ctx = StreamingContext::builder().manual_clock(&clock).build()?;
    let (window, slide) = (Duration::from_secs(2), Duration::from_secs(1));
    let windows = ctx.queue_stream(hits()).reduce_by_key_and_window_filtered(
        |a, b| a + b,
        |a, b| a - b,
        window,
        slide,
        |(_, hits)| *hits > 0,
    );
    windows.for_each_batch(move |batch, time| {
        let rows = batch.collect()?;
        let mut db = db.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let new = save(&mut db, time, &rows).map_err(failed)?;
        print(format!("{time}: {}", if new { format!("{} rows", rows.len()) } else { "there already".to_owned() }));
        Ok(())
    });
    ctx.start()?;
    ctx.run_until(Time::from_millis(5000))
}

#[allow(dead_code)]
fn main() -> windrow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "windows.sqlite".to_owned());
    run(&path, |line| println!("{line}"))
}
