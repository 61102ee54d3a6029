//! A live output in files that are complete: Parquet and Arrow cannot be read before their footers, so an output without
//! an end is a row of files, each begun when the one before has reached its size, its age or its number of rows.
//!
//! Invariant: a file holds whole windows, as many calls of [`Sink::write`] as it takes, and appears under its name when it is
//! complete. Files that are there are never written over: numbers go on behind theirs.

use super::{Sink, SinkSummary, Target, open};
use crate::{Error, Result};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::path::{Path, PathBuf};
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
    path: PathBuf,
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
        let Some(path) = target.path.clone() else {
            return Err(Error::usage(format!(
                "a live output as {} is rolled over files: name one with -o",
                target.format
            )));
        };
        let mut sink = RolledSink {
            target: target.clone(),
            path,
            schema: schema.clone(),
            roll,
            next: 1,
            current: None,
            total: SinkSummary::default(),
        };
        sink.next = sink.last_number()? + 1;
        // What cannot be written is to fail now, not when the first window closes.
        drop(sink.begin()?);
        Ok(sink)
    }

    /// The name's parts before and behind the number.
    fn parts(&self) -> (String, String) {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let ending = part(self.path.extension());
        let ending = if ending.is_empty() { ending } else { format!(".{ending}") };
        (format!("{}-", part(self.path.file_stem())), ending)
    }

    /// The greatest number that a file has already.
    fn last_number(&self) -> Result<u64> {
        let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entries = std::fs::read_dir(folder)
            .map_err(|e| Error::output(format!("cannot create the output {}", self.path.display())).because(e))?;
        let (before, behind) = self.parts();
        let number = |name: String| name.strip_prefix(&before)?.strip_suffix(&behind)?.parse::<u64>().ok();
        Ok(entries.flatten().filter_map(|e| number(e.file_name().to_string_lossy().into_owned())).max().unwrap_or(0))
    }

    fn begin(&self) -> Result<Current> {
        let (before, behind) = self.parts();
        let path = self.path.with_file_name(format!("{before}{:06}{behind}", self.next));
        let sink = open(&Target { path: Some(path), format: self.target.format }, &self.schema)?;
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
