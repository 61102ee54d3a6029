//! Where the rows of closed windows go: CSV, NDJSON, Parquet, Arrow, a table for people, or a checksum.
//!
//! The engine hands over record batches in their final order; [`open`] gives the [`Sink`] that writes them.
//!
//! What every sink keeps:
//! - *Order.* Bytes leave in the order of the rows, whatever the number of threads that format them.
//! - *Cut.* The output is a function of the rows alone: the same bytes (and checksum) however the rows were cut
//!   into batches and calls.
//! - *All or nothing.* A file is written under a temporary name beside its target and renamed by
//!   [`Sink::finish`]; a sink that is dropped before leaves nothing behind and an older file untouched. Outputs without an
//!   end ([`open_live`]) grow under their final name, or are rolled over several files; those of runs that are saved
//!   ([`open_at`]) stay as they are for the process that goes on with them.
//! - *A closed pipe is no error.* `windrow ... | head` ends quietly: [`Sink::closed`] says that nobody reads.
//!
//! Cost: formatting runs on the caller's rayon pool, writing on one thread of its own behind a bounded queue, so
//! that the two overlap; what is in flight is bounded (see each sink).
//!
//! # Known limitation
//! `finish` does not wait for the disk, which would cost as much again as a large output: after a power cut the renamed
//! file may be short. Arrow and Parquet cannot be read before they are complete.

mod arrow;
mod blocks;
mod cells;
mod csv;
mod destination;
mod lines;
mod ndjson;
mod null;
mod numbered;
mod parquet;
mod parts;
mod rolled;
mod spooled;
mod table;
#[cfg(test)]
mod tests;
mod writer;

pub use parts::{Manifest, PartFiles, PartFormat, PartSummary};
pub use rolled::Roll;

use crate::{Error, Result};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use lines::LineSink;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use writer::Writer;

/// Takes the rows of closed windows, in order, and writes them somewhere.
pub trait Sink: Send {
    /// Takes the next rows, in order; all batches have the schema given to [`open`].
    ///
    /// Works in parallel on rayon's current pool where it pays, and returns when the rows are formatted, not when
    /// they are on disk. Once the reader of a pipe has gone it does nothing and returns `Ok`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Output`] if an earlier or this write failed (disk full, file system gone).
    fn write(&mut self, batches: Vec<RecordBatch>) -> Result<()>;

    /// Hands everything taken so far to the operating system, so that a reader of a live output sees it.
    ///
    /// Parquet cannot be read before its footer is written: there it does nothing.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// About how many bytes the output has so far; 0 where nobody asks.
    fn bytes(&self) -> u64 {
        0
    }

    /// Hands everything taken so far to the system and says where the output stands, for [`open_at`]; `None` if this output
    /// cannot be gone on with.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn position(&mut self) -> Result<Option<Position>> {
        Ok(None)
    }

    /// A checkpoint that holds this [position](Self::position) is complete: what lies before it is not written again.
    ///
    /// # Errors
    /// As [`Sink::write`].
    fn committed(&mut self, position: &[u8]) -> Result<()> {
        let _ = position;
        Ok(())
    }

    /// Whether nobody reads the output any more (a closed pipe): the caller may stop early.
    fn closed(&self) -> bool {
        false
    }

    /// Completes the output, renames it into place and says what was written.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Output`]; the target then is as it was before.
    fn finish(self: Box<Self>) -> Result<SinkSummary>;
}

/// Where an output stands.
#[derive(Debug)]
pub struct Position {
    /// For [`open_at`].
    pub bytes: Vec<u8>,
    /// The file, to wait until what it holds outlives a crash.
    pub file: Option<File>,
}

/// What a finished sink wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SinkSummary {
    /// Rows taken. After a closed pipe: those taken before it was noticed.
    pub rows: u64,
    /// Bytes written to the output; for the null sink, bytes of the buffers read.
    pub bytes: u64,
    /// The null sink's checksum of all rows (its definition is in the source of the null sink); others have none.
    pub checksum: Option<u64>,
    /// The reader of a pipe went away before the end.
    pub closed_pipe: bool,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputFormat {
    /// RFC 4180 with a header; null is an empty cell, the empty string `""`.
    Csv,
    /// One JSON object a line; NaN and infinities are null.
    Ndjson,
    /// Arrow IPC, the file format.
    Arrow,
    /// Parquet, snappy, row groups of 1 Mi rows.
    Parquet,
    /// Aligned columns for a terminal.
    Table,
    /// Rows are read and summed up, nothing is written.
    Null,
}

/// The endings that [`OutputFormat::from_path`] knows.
const ENDINGS: [(&str, OutputFormat); 5] = [
    ("csv", OutputFormat::Csv),
    ("ndjson", OutputFormat::Ndjson),
    ("jsonl", OutputFormat::Ndjson),
    ("parquet", OutputFormat::Parquet),
    ("arrow", OutputFormat::Arrow),
];

/// The names that `--output-format` knows.
const NAMES: [(&str, OutputFormat); 6] = [
    ("csv", OutputFormat::Csv),
    ("ndjson", OutputFormat::Ndjson),
    ("arrow", OutputFormat::Arrow),
    ("parquet", OutputFormat::Parquet),
    ("table", OutputFormat::Table),
    ("null", OutputFormat::Null),
];

impl OutputFormat {
    /// The format that a file's ending stands for.
    ///
    /// ```
    /// use windrow::sink::OutputFormat;
    /// assert_eq!(OutputFormat::from_path("out/rows.CSV")?, OutputFormat::Csv);
    /// assert!(OutputFormat::from_path("rows.txt").is_err());
    /// # Ok::<(), windrow::Error>(())
    /// ```
    ///
    /// # Errors
    /// A usage error that lists the known endings.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let ending = path.extension().unwrap_or_default().to_string_lossy();
        let known = ENDINGS.iter().find(|(e, _)| ending.eq_ignore_ascii_case(e));
        known.map(|(_, format)| *format).ok_or_else(|| {
            let endings: Vec<String> = ENDINGS.iter().map(|(e, _)| format!(".{e}")).collect();
            Error::usage(format!(
                "the output {} has no ending that names a format; known are {}, or say it with --output-format",
                path.display(),
                endings.join(", "),
            ))
        })
    }
}

impl FromStr for OutputFormat {
    type Err = Error;

    /// The format of a name as `--output-format` takes it.
    fn from_str(name: &str) -> Result<Self> {
        let known = NAMES.iter().find(|(n, _)| name.eq_ignore_ascii_case(n));
        known.map(|(_, format)| *format).ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(n, _)| *n).collect();
            Error::usage(format!("unknown output format {name:?}; known are {}", names.join(", ")))
        })
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, format)| format == self).map_or("?", |(name, _)| name);
        f.write_str(name)
    }
}

/// Where the output goes and how it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The file, or `None` for standard output. A path that exists and is no regular file (`/dev/null`, a fifo) is
    /// written to directly.
    pub path: Option<PathBuf>,
    /// How.
    pub format: OutputFormat,
}

impl Target {
    /// Standard output, in `format`.
    pub fn stdout(format: OutputFormat) -> Self {
        Target { path: None, format }
    }

    /// A file, in the format of its ending.
    ///
    /// # Errors
    /// As [`OutputFormat::from_path`].
    pub fn file(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let format = OutputFormat::from_path(&path)?;
        Ok(Target { path: Some(path), format })
    }
}

/// Opens `target` as [`open`] does, so that it can be gone on with if this process dies, `at` a [position](Sink::position). A
/// CSV or NDJSON file is written under the name `.NAME.windrow-checkpoint.tmp`, which stays until [`Sink::finish`], and is cut
/// back. Parquet and Arrow are a row of numbered files beside it, of as many rows each as `roll` says (1 Mi if it does not),
/// whatever its size and age; a file appears when a position behind it was [committed](Sink::committed). Other outputs begin
/// anew.
///
/// # Errors
/// As [`open`], and if the file is shorter than that; if numbered files are there already where the output is to begin.
pub fn open_at(target: &Target, schema: &SchemaRef, roll: Roll, at: Option<&[u8]>) -> Result<Box<dyn Sink>> {
    let open_at = |len| target.path.as_deref().map_or_else(|| Writer::open(None), |path| Writer::open_at(path, len));
    resumed(target, open_at, schema, roll, at)?.map_or_else(|| open(target, schema), Ok)
}

/// The same for an output that is read while it grows: a CSV or NDJSON file is written under its own name.
///
/// # Errors
/// As [`open_at`].
pub fn open_live_at(target: &Target, schema: &SchemaRef, roll: Roll, at: Option<&[u8]>) -> Result<Box<dyn Sink>> {
    let path = target.path.as_deref();
    let open_at = |len| path.map_or_else(|| Writer::open_live(None), |path| Writer::open_live_at(path, len));
    resumed(target, open_at, schema, roll, at)?.map_or_else(|| open_live(target, schema, roll), Ok)
}

/// An output that can be gone on with, in what `open` opens behind so many bytes; `None` if there is no such one.
fn resumed(
    target: &Target,
    open: impl FnOnce(u64) -> Result<Writer>,
    schema: &SchemaRef,
    roll: Roll,
    at: Option<&[u8]>,
) -> Result<Option<Box<dyn Sink>>> {
    let rows = if roll.rows == u64::MAX { spooled::FILE_ROWS } else { roll.rows };
    Ok(match target.format {
        OutputFormat::Csv => Some(Box::new(LineSink::<csv::Csv>::open_at(open, schema, at)?)),
        OutputFormat::Ndjson => Some(Box::new(LineSink::<ndjson::Ndjson>::open_at(open, schema, at)?)),
        OutputFormat::Null => Some(Box::new(null::NullSink::at(schema, at))),
        OutputFormat::Arrow | OutputFormat::Parquet => {
            Some(Box::new(spooled::SpooledSink::open(target, schema, rows, at)?))
        }
        OutputFormat::Table => None,
    })
}

/// The name that a file is written under by [`open_at`] until it is finished.
pub fn unfinished(path: impl AsRef<Path>) -> Option<PathBuf> {
    destination::unfinished(path.as_ref()).map(|(from, _)| from)
}

/// Opens `target` for rows of `schema`; fails now, not after the first window, if it cannot be written.
///
/// # Errors
/// [`crate::ErrorKind::Output`] with the path: no such directory, no permission, the target is a directory.
/// [`crate::ErrorKind::Usage`] for a column whose type the format cannot hold.
///
/// ```
/// use arrow_array::{Int64Array, RecordBatch};
/// use arrow_schema::{DataType, Field, Schema};
/// use std::sync::Arc;
/// use windrow::sink::{self, OutputFormat, Target};
///
/// let schema = Arc::new(Schema::new(vec![Field::new("count", DataType::Int64, false)]));
/// let rows = RecordBatch::try_new(schema.clone(), vec![Arc::new(Int64Array::from(vec![1, 2]))])?;
/// let mut sink = sink::open(&Target::stdout(OutputFormat::Null), &schema)?;
/// sink.write(vec![rows])?;
/// assert_eq!(sink.finish()?.rows, 2);
/// # Ok::<(), windrow::Error>(())
/// ```
pub fn open(target: &Target, schema: &SchemaRef) -> Result<Box<dyn Sink>> {
    let path = target.path.as_deref();
    Ok(match target.format {
        OutputFormat::Arrow => Box::new(arrow::ArrowSink::open(path, schema)?),
        OutputFormat::Parquet => Box::new(parquet::ParquetSink::open(path, schema)?),
        OutputFormat::Null => Box::new(null::NullSink::new(schema)),
        format => lines(format, Writer::open(path)?, schema)?,
    })
}

/// Opens `target` for rows that come as long as the run lives. CSV, NDJSON and tables are written under the final name from the
/// beginning, over an older file: after [`Sink::flush`] all rows taken can be read there. Parquet and Arrow are rolled over
/// numbered files beside it, as `roll` says, each complete when it appears.
///
/// # Errors
/// As [`open`]; [`crate::ErrorKind::Usage`] for Parquet and Arrow to standard output.
pub fn open_live(target: &Target, schema: &SchemaRef, roll: Roll) -> Result<Box<dyn Sink>> {
    Ok(match target.format {
        OutputFormat::Arrow | OutputFormat::Parquet => Box::new(rolled::RolledSink::open(target, schema, roll)?),
        OutputFormat::Null => Box::new(null::NullSink::new(schema)),
        format => lines(format, Writer::open_live(target.path.as_deref())?, schema)?,
    })
}

/// An output of one line a row.
fn lines(format: OutputFormat, writer: Writer, schema: &SchemaRef) -> Result<Box<dyn Sink>> {
    Ok(match format {
        OutputFormat::Ndjson => Box::new(LineSink::<ndjson::Ndjson>::new(writer, schema)),
        OutputFormat::Table => Box::new(table::TableSink::new(writer, schema)),
        _ => Box::new(LineSink::<csv::Csv>::new(writer, schema)),
    })
}
