//! A Parquet or Arrow output that can be gone on with: such a file cannot be read before its footer, nor cut back, so the
//! output is a row of files of a fixed number of rows, and the rows of the file in work are kept beside it as well.
//!
//! ```text
//! rows-000001.parquet                        complete, synced, never touched again
//! rows-000002.parquet
//! .rows.parquet.windrow-checkpoint.tmp       the rows of the third: of each call a length (u32) and a stream of Arrow IPC
//! ```
//!
//! A position is the number of the file in work, how many rows it has and how long the rows beside it are. A run that goes
//! on from there reads them back; if that file was completed after the position was taken, it has the very rows that come
//! now, which are counted and let go. So the files are a function of the rows, whatever happened meanwhile.
//!
//! Invariant: a file is complete and synced before the rows beside it are cut to nothing.
//!
//! Cost: every row is written twice, once unpacked.

use super::destination::unfinished;
use super::writer::Writer;
use super::{OutputFormat, Position, Sink, SinkSummary, Target, arrow, parquet};
use crate::{Error, Result};
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Rows of a file if nothing is said.
pub(super) const FILE_ROWS: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// See the module.
pub(super) struct SpooledSink {
    target: Target,
    path: PathBuf,
    schema: SchemaRef,
    /// Rows of a file.
    most: u64,
    spool: File,
    spool_path: PathBuf,
    spooled: u64,
    at: At,
    current: Option<Box<dyn Sink>>,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct At {
    /// The number of the file in work, from 1, and its rows so far.
    number: u64,
    rows: u64,
    /// What the files before it hold.
    total_rows: u64,
    total_bytes: u64,
}

impl SpooledSink {
    /// Files of `most` rows beside `target`, beginning with the first one or `at` a position.
    pub(super) fn open(target: &Target, schema: &SchemaRef, most: u64, at: Option<&[u8]>) -> Result<SpooledSink> {
        let named = target.path.as_ref().and_then(|path| Some((path.clone(), unfinished(path)?.0)));
        let Some((path, spool_path)) = named else {
            return Err(Error::usage(format!(
                "with --checkpoint an output as {} is a row of files: name one with -o",
                target.format
            )));
        };
        let was_begun = spool_path.exists();
        let failed = |e| cannot(&spool_path, e);
        let spool = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&spool_path);
        let mut sink = SpooledSink {
            target: target.clone(),
            path,
            schema: schema.clone(),
            most: most.max(1),
            spool: spool.map_err(failed)?,
            spool_path: spool_path.clone(),
            spooled: 0,
            at: At { number: 1, ..At::default() },
            current: None,
        };
        if let Some(at) = at {
            let words: Vec<u64> = at.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
            let [number, rows, total_rows, total_bytes, spooled] = words[..] else { return Err(damaged(&spool_path)) };
            if rows >= sink.most {
                return Err(damaged(&spool_path));
            }
            sink.at = At { number, rows, total_rows, total_bytes };
            let is_complete = sink.name(number).exists();
            if is_complete || rows == 0 {
                sink.cut(0)?;
            } else {
                sink.read_back(spooled)?;
            }
            return Ok(sink);
        }
        sink.begin_anew(was_begun)?;
        Ok(sink)
    }

    /// The name of a file.
    fn name(&self, number: u64) -> PathBuf {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let ending = part(self.path.extension());
        let ending = if ending.is_empty() { ending } else { format!(".{ending}") };
        self.path.with_file_name(format!("{}-{number:06}{ending}", part(self.path.file_stem())))
    }

    /// Nothing was saved: files that a run before this one has completed are written again, others are not ours.
    fn begin_anew(&mut self, was_begun: bool) -> Result<()> {
        for number in 1.. {
            let name = self.name(number);
            if !name.exists() {
                break;
            }
            if !was_begun {
                let _ = fs::remove_file(&self.spool_path);
                let what =
                    "is there already and would be part of this output; remove it, or give the output another name";
                return Err(Error::output(what).in_file(name));
            }
            fs::remove_file(&name).map_err(|e| cannot(&name, e))?;
        }
        self.cut(0)
    }

    /// Cuts the rows beside the file in work to so many bytes.
    fn cut(&mut self, len: u64) -> Result<()> {
        let cut = self.spool.set_len(len).and_then(|()| self.spool.seek(SeekFrom::Start(len)));
        self.spooled = len;
        cut.map(drop).map_err(|e| cannot(&self.spool_path, e))
    }

    /// Writes the rows of the file in work once more.
    fn read_back(&mut self, len: u64) -> Result<()> {
        let path = self.spool_path.clone();
        let failed = |e| cannot(&path, e);
        let damaged = || damaged(&path);
        if self.spool.metadata().map_err(failed)?.len() < len {
            return Err(damaged());
        }
        self.spool.seek(SeekFrom::Start(0)).map_err(failed)?;
        let mut from = BufReader::new(self.spool.try_clone().map_err(failed)?).take(len);
        let mut rows = 0;
        let mut current = self.file()?;
        while from.limit() > 0 {
            let mut size = [0; 4];
            from.read_exact(&mut size).map_err(|_| damaged())?;
            let size = u64::from(u32::from_le_bytes(size));
            if size > from.limit() {
                return Err(damaged());
            }
            let mut bytes = vec![0; size as usize];
            from.read_exact(&mut bytes).map_err(|_| damaged())?;
            let batches = StreamReader::try_new(&bytes[..], None).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let batches: Vec<RecordBatch> = batches.map_err(|_| damaged())?;
            rows += batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
            current.write(batches)?;
        }
        if rows != self.at.rows {
            return Err(damaged());
        }
        self.current = Some(current);
        self.cut(len)
    }

    /// The file in work, empty.
    fn file(&self) -> Result<Box<dyn Sink>> {
        let writer = Writer::open_at(&self.name(self.at.number), 0)?;
        Ok(match self.target.format {
            OutputFormat::Arrow => Box::new(arrow::ArrowSink::to(writer, &self.schema)?),
            _ => Box::new(parquet::ParquetSink::to(writer, &self.schema)?),
        })
    }

    /// Takes rows of one file.
    fn take(&mut self, batch: RecordBatch) -> Result<()> {
        let rows = batch.num_rows() as u64;
        if self.current.is_none() && (self.at.rows > 0 || self.name(self.at.number).exists()) {
            // A run before this one has completed this file, with these rows.
            self.at.rows += rows;
            return Ok(());
        }
        let mut stream = vec![0; 4];
        let written = StreamWriter::try_new(&mut stream, &batch.schema()).and_then(|mut to| {
            to.write(&batch)?;
            to.finish()
        });
        written.map_err(|e| Error::output(format!("cannot keep rows beside {}: {e}", self.path.display())))?;
        let size = u32::try_from(stream.len() - 4)
            .map_err(|_| Error::output(format!("rows for {} are longer than 4 GiB", self.path.display())))?;
        stream[..4].copy_from_slice(&size.to_le_bytes());
        self.spool.write_all(&stream).map_err(|e| cannot(&self.spool_path, e))?;
        self.spooled += stream.len() as u64;
        let mut current = self.current.take().map_or_else(|| self.file(), Ok)?;
        current.write(vec![batch])?;
        self.current = Some(current);
        self.at.rows += rows;
        Ok(())
    }

    /// Completes the file in work.
    fn end(&mut self) -> Result<()> {
        let name = self.name(self.at.number);
        let bytes = match self.current.take() {
            Some(current) => {
                let bytes = current.finish()?.bytes;
                let folder = name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                sync_folder(folder).map_err(|e| cannot(&name, e))?;
                bytes
            }
            None => fs::metadata(&name).map_err(|e| cannot(&name, e))?.len(),
        };
        let At { number, rows, total_rows, total_bytes } = self.at;
        self.at = At { number: number + 1, rows: 0, total_rows: total_rows + rows, total_bytes: total_bytes + bytes };
        self.cut(0)
    }
}

fn damaged(path: &Path) -> Error {
    let what = "does not hold the rows that the checkpoint counts; remove the checkpoint to begin anew";
    Error::output(what).in_file(path)
}

fn cannot(path: &Path, e: io::Error) -> Error {
    Error::output("cannot be written").in_file(path).because(e)
}

/// Makes a new name outlive a crash, where folders can be synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

impl Sink for SpooledSink {
    fn write(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        for batch in batches {
            let mut from = 0;
            while from < batch.num_rows() {
                let left = usize::try_from(self.most - self.at.rows).unwrap_or(usize::MAX);
                let rows = left.min(batch.num_rows() - from);
                self.take(batch.slice(from, rows))?;
                from += rows;
                if self.at.rows == self.most {
                    self.end()?;
                }
            }
        }
        Ok(())
    }

    fn position(&mut self) -> Result<Option<Position>> {
        let At { number, rows, total_rows, total_bytes } = self.at;
        let words = [number, rows, total_rows, total_bytes, self.spooled];
        let file = self.spool.try_clone().map_err(|e| cannot(&self.spool_path, e))?;
        Ok(Some(Position { bytes: words.map(u64::to_le_bytes).concat(), file: Some(file) }))
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary> {
        // Without any row there is a file that says so.
        if self.at.rows > 0 || self.at.number == 1 {
            if self.at.rows == 0 && !self.name(1).exists() {
                self.current = Some(self.file()?);
            }
            self.end()?;
        }
        fs::remove_file(&self.spool_path).map_err(|e| cannot(&self.spool_path, e))?;
        Ok(SinkSummary { rows: self.at.total_rows, bytes: self.at.total_bytes, ..SinkSummary::default() })
    }
}
