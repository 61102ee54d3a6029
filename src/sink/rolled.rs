//! A live output in files that are complete: Parquet and Arrow cannot be read before their footers, so an output without
//! an end is a row of files, each begun when the one before has reached its size, its age or its number of rows.
//!
//! Invariant: a file holds whole windows, as many calls of [`Sink::write`] as it takes, and appears under its name when it is
//! complete. Files that are there are never written over: numbers go on behind theirs.

use super::numbered::Numbered;
use super::{Sink, SinkSummary, Target, open};
use crate::{Error, Result};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::time::{Duration, Instant};

/// When the next file of a live output begins: whatever comes first. Looked at when rows come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roll {
    /// Bytes of a file, about (default 128 MiB).
    pub bytes: u64,
    /// Its age (default 5 min).
    pub age: Duration,
    /// Its rows (default: any number).
    pub rows: u64,
}

impl Default for Roll {
    fn default() -> Roll {
        Roll { bytes: 128 << 20, age: Duration::from_secs(300), rows: u64::MAX }
    }
}

/// See the module.
pub(super) struct RolledSink {
    target: Target,
    names: Numbered,
    schema: SchemaRef,
    roll: Roll,
    /// The number of the next file.
    next: u64,
    current: Option<Current>,
    total: SinkSummary,
}

struct Current {
    sink: Box<dyn Sink>,
    begun: Instant,
    rows: u64,
}

impl RolledSink {
    /// Files beside `target`, whose name they have with a number: `rows.parquet` becomes `rows-000001.parquet`.
    pub(super) fn open(target: &Target, schema: &SchemaRef, roll: Roll) -> Result<RolledSink> {
        let Some(path) = &target.path else {
            return Err(Error::usage(format!(
                "a live output as {} is rolled over files: name one with -o",
                target.format
            )));
        };
        let names = Numbered::beside(path);
        let cannot = |e| Error::output(format!("cannot create the output {}", path.display())).because(e);
        let sink = RolledSink {
            target: target.clone(),
            schema: schema.clone(),
            roll,
            next: names.numbers().map_err(cannot)?.last().map_or(1, |last| last + 1),
            names,
            current: None,
            total: SinkSummary::default(),
        };
        // What cannot be written is to fail now, not when the first window closes.
        drop(sink.begin()?);
        Ok(sink)
    }

    fn begin(&self) -> Result<Current> {
        let path = Some(self.names.name(self.next));
        let sink = open(&Target { path, format: self.target.format }, &self.schema)?;
        Ok(Current { sink, begun: Instant::now(), rows: 0 })
    }

    /// Completes the file in work.
    fn end(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let summary = current.sink.finish()?;
        self.next += 1;
        self.total.rows += summary.rows;
        self.total.bytes += summary.bytes;
        Ok(())
    }
}

impl Sink for RolledSink {
    fn write(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        let rows: u64 = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        if rows == 0 {
            return Ok(());
        }
        let mut current = match self.current.take() {
            Some(current) => current,
            None => self.begin()?,
        };
        current.sink.write(batches)?;
        current.rows += rows;
        let Roll { bytes, age, rows } = self.roll;
        let full = current.rows >= rows || current.sink.bytes() >= bytes || current.begun.elapsed() >= age;
        self.current = Some(current);
        if full { self.end() } else { Ok(()) }
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary> {
        self.end()?;
        Ok(self.total)
    }
}
