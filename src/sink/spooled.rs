//! A Parquet or Arrow output that can be gone on with: such a file cannot be read before its footer, nor cut back, so the
//! output is a row of files of a fixed number of rows. A file gets its name when a checkpoint that counts all of its rows is
//! complete: nobody sees rows that a run which is taken up again would write anew. Until then its rows are kept beside it too.
//!
//! ```text
//! rows-000001.parquet                           synced, named, never changed again
//! .rows-000002.parquet.windrow-checkpoint.tmp   synced; waits for a checkpoint
//! .rows-000003.parquet.windrow-checkpoint.tmp   in work
//! .rows-000003.parquet.windrow-checkpoint.rows  its rows: of each call a length (u32) and a stream of Arrow IPC
//! .rows.parquet.windrow-checkpoint.tmp          empty: the output is not finished
//! ```
//!
//! A position is the number of the file in work and how many rows it has. A run that goes on from there reads them back. The
//! files are a function of the rows, whatever happened meanwhile.
//!
//! Invariant: what a position counts on is synced before it is handed out, but for the rows of the file in work, which
//! [`Sink::position`] hands out with it. Rows of a file that a position counts in part are kept until two checkpoints behind it
//! are complete, because a damaged one falls back to the one before.
//!
//! Cost: every row is written twice, once unpacked.

use super::arrow::plain;
use super::destination::unfinished;
use super::numbered::Numbered;
use super::writer::Writer;
use super::{OutputFormat, Position, Sink, SinkSummary, Target, arrow, parquet};
use crate::{Error, Result};
use arrow_array::RecordBatch;
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use arrow_schema::SchemaRef;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Rows of a file if nothing is said.
pub(super) const FILE_ROWS: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };

/// See the module.
pub(super) struct SpooledSink {
    format: OutputFormat,
    schema: SchemaRef,
    /// Rows of a file.
    most: u64,
    files: Numbered,
    waiting: Numbered,
    kept: Numbered,
    /// Stands as long as the output is not finished.
    marker: PathBuf,
    at: At,
    current: Option<Current>,
    /// Files below this number have their names.
    named: u64,
    /// The file that the last position counts in part.
    counted: Option<u64>,
}

/// The file in work.
struct Current {
    file: Box<dyn Sink>,
    rows: File,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At {
    /// The number of the file in work, from 1, and its rows so far.
    number: u64,
    rows: u64,
    /// What the files before it hold.
    total_rows: u64,
    total_bytes: u64,
}

impl At {
    const START: At = At { number: 1, rows: 0, total_rows: 0, total_bytes: 0 };

    fn encode(self) -> Vec<u8> {
        [self.number, self.rows, self.total_rows, self.total_bytes].map(u64::to_le_bytes).concat()
    }

    fn decode(bytes: &[u8]) -> Option<At> {
        let words: Vec<u64> = bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let [number, rows, total_rows, total_bytes] = words[..] else { return None };
        Some(At { number, rows, total_rows, total_bytes })
    }
}

impl SpooledSink {
    /// Files of `most` rows beside `target`, beginning with the first one or `at` a position.
    pub(super) fn open(target: &Target, schema: &SchemaRef, most: u64, at: Option<&[u8]>) -> Result<SpooledSink> {
        let named = target.path.as_ref().and_then(|path| Some((path, unfinished(path)?.0)));
        let Some((path, marker)) = named else {
            return Err(Error::usage(format!(
                "with --checkpoint an output as {} is a row of files: name one with -o",
                target.format
            )));
        };
        let files = Numbered::beside(path);
        let mut sink = SpooledSink {
            format: target.format,
            schema: schema.clone(),
            most: most.max(1),
            waiting: files.hidden(".windrow-checkpoint.tmp"),
            kept: files.hidden(".windrow-checkpoint.rows"),
            files,
            marker,
            at: At::START,
            current: None,
            named: 1,
            counted: None,
        };
        match at {
            Some(at) => sink.go_on(at)?,
            None => sink.begin()?,
        }
        Ok(sink)
    }

    /// Nothing was saved: what a run before this one has left unnamed is of no use, and files that are there are not ours.
    fn begin(&mut self) -> Result<()> {
        if let Some(number) = self.numbers(&self.files)?.first() {
            let what = "is there already and would be part of this output; remove it, or give the output another name";
            return Err(Error::output(what).in_file(self.files.name(*number)));
        }
        File::create(&self.marker).map_err(|e| cannot(&self.marker, e))?;
        for left in [&self.waiting, &self.kept] {
            self.numbers(left)?.into_iter().try_for_each(|number| remove(&left.name(number)))?;
        }
        Ok(())
    }

    /// Goes on `at` a position.
    fn go_on(&mut self, at: &[u8]) -> Result<()> {
        self.at =
            At::decode(at).filter(|at| at.number > 0 && at.rows < self.most).ok_or_else(|| damaged(&self.marker))?;
        self.name_before(self.at.number)?;
        for left in [&self.waiting, &self.kept] {
            let later = self.numbers(left)?.into_iter().filter(|number| *number > self.at.number);
            later.map(|number| left.name(number)).try_for_each(|path| remove(&path))?;
        }
        if self.at.rows > 0 {
            self.read_back()?;
            self.counted = Some(self.at.number);
        }
        Ok(())
    }

    fn numbers(&self, names: &Numbered) -> Result<Vec<u64>> {
        names.numbers().map_err(|e| cannot(names.folder(), e))
    }

    /// Writes the rows of the file in work once more.
    fn read_back(&mut self) -> Result<()> {
        let path = self.kept.name(self.at.number);
        let damaged = || damaged(&path);
        let rows = File::options().read(true).write(true).open(&path).map_err(|e| damaged().because(e))?;
        let mut file = self.file()?;
        let (mut found, mut end) = (0, 0);
        let mut from = BufReader::new(&rows);
        while found < self.at.rows {
            let mut size = [0; 4];
            from.read_exact(&mut size).map_err(|_| damaged())?;
            let size = u64::from(u32::from_le_bytes(size));
            let mut bytes = Vec::new();
            from.by_ref().take(size).read_to_end(&mut bytes).map_err(|e| damaged().because(e))?;
            let batches = StreamReader::try_new(&bytes[..], None).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let batches: Vec<RecordBatch> = batches.map_err(|e| damaged().because(io::Error::other(e)))?;
            if batches.iter().any(|batch| batch.schema() != self.schema) {
                return Err(damaged());
            }
            end += 4 + size;
            found += batches.iter().map(|batch| batch.num_rows() as u64).sum::<u64>();
            file.write(batches)?;
        }
        if found != self.at.rows {
            return Err(damaged());
        }
        rows.set_len(end).and_then(|()| (&rows).seek(SeekFrom::Start(end))).map_err(|e| cannot(&path, e))?;
        self.current = Some(Current { file, rows });
        Ok(())
    }

    /// The file in work, empty, under the name that it has while it waits.
    fn file(&self) -> Result<Box<dyn Sink>> {
        let writer = Writer::open_live(Some(&self.waiting.name(self.at.number)))?;
        Ok(match self.format {
            OutputFormat::Arrow => Box::new(arrow::ArrowSink::to(writer, &self.schema)?),
            _ => Box::new(parquet::ParquetSink::to(writer, &self.schema)?),
        })
    }

    /// Takes rows of one file.
    fn take(&mut self, batch: &RecordBatch) -> Result<()> {
        let path = self.kept.name(self.at.number);
        let failed = |e| cannot(&path, e);
        let mut current = match self.current.take() {
            Some(current) => current,
            None => {
                let rows = File::create(&path).map_err(failed)?;
                sync_folder(self.kept.folder()).map_err(failed)?;
                Current { file: self.file()?, rows }
            }
        };
        // A dictionary would be written with all of its entries, whichever of them these rows have.
        let batch = plain(batch, &self.schema)?;
        let mut stream = vec![0; 4];
        let written = StreamWriter::try_new(&mut stream, &self.schema).and_then(|mut to| {
            to.write(&batch)?;
            to.finish()
        });
        written.map_err(|e| Error::output(format!("these rows cannot be kept: {e}")).in_file(&path))?;
        let size = u32::try_from(stream.len() - 4);
        let size = size.map_err(|_| Error::output("rows longer than 4 GiB cannot be kept").in_file(&path))?;
        stream[..4].copy_from_slice(&size.to_le_bytes());
        current.rows.write_all(&stream).map_err(failed)?;
        self.at.rows += batch.num_rows() as u64;
        current.file.write(vec![batch])?;
        self.current = Some(current);
        Ok(())
    }

    /// Completes the file in work.
    fn end(&mut self) -> Result<()> {
        let Some(current) = self.current.take() else { return Ok(()) };
        let bytes = current.file.finish()?.bytes;
        let path = self.waiting.name(self.at.number);
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.and_then(|()| sync_folder(self.waiting.folder())).map_err(|e| cannot(&path, e))?;
        let At { number, rows, total_rows, total_bytes } = self.at;
        if self.counted != Some(number) {
            // Whoever goes on either has all of this file or none of it.
            remove(&self.kept.name(number))?;
        }
        self.at = At { number: number + 1, rows: 0, total_rows: total_rows + rows, total_bytes: total_bytes + bytes };
        Ok(())
    }

    /// Gives the files below `number` their names.
    fn name_before(&mut self, number: u64) -> Result<()> {
        let waiting = self.numbers(&self.waiting)?.into_iter().filter(|waiting| *waiting < number);
        for waiting in waiting {
            let name = self.files.name(waiting);
            fs::rename(self.waiting.name(waiting), &name).map_err(|e| cannot(&name, e))?;
        }
        self.named = number;
        sync_folder(self.files.folder()).map_err(|e| cannot(self.files.folder(), e))
    }
}

fn damaged(path: &Path) -> Error {
    let what = "does not hold the rows that the checkpoint counts; remove the checkpoint to begin anew";
    Error::output(what).in_file(path)
}

fn cannot(path: &Path, e: io::Error) -> Error {
    Error::output("cannot be written").in_file(path).because(e)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(cannot(path, e)),
        _ => Ok(()),
    }
}

/// Makes names outlive a crash, where folders can be synced.
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
                self.take(&batch.slice(from, rows))?;
                from += rows;
                if self.at.rows == self.most {
                    self.end()?;
                }
            }
        }
        Ok(())
    }

    fn position(&mut self) -> Result<Option<Position>> {
        let file = self.current.as_ref().map(|current| current.rows.try_clone()).transpose();
        let file = file.map_err(|e| cannot(&self.kept.name(self.at.number), e))?;
        self.counted = self.current.as_ref().map(|_| self.at.number);
        Ok(Some(Position { bytes: self.at.encode(), file }))
    }

    fn committed(&mut self, position: &[u8]) -> Result<()> {
        let Some(at) = At::decode(position) else { return Ok(()) };
        let before = self.named;
        if at.number > before {
            self.name_before(at.number)?;
        }
        let old = self.numbers(&self.kept)?.into_iter().filter(|number| *number < before);
        old.map(|number| self.kept.name(number)).try_for_each(|path| remove(&path))
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary> {
        // Without any row there is a file that says so.
        if self.at == At::START {
            let rows = File::create(self.kept.name(1)).map_err(|e| cannot(&self.kept.name(1), e))?;
            self.current = Some(Current { file: self.file()?, rows });
        }
        self.end()?;
        self.name_before(self.at.number)?;
        let kept = self.numbers(&self.kept)?.into_iter();
        kept.filter(|number| self.counted != Some(*number)).try_for_each(|number| remove(&self.kept.name(number)))?;
        // Whoever finds no such file knows that nothing is left to do, so the rows that a position counts stay until it has gone.
        remove(&self.marker)?;
        self.counted.map_or(Ok(()), |number| remove(&self.kept.name(number)))?;
        Ok(SinkSummary { rows: self.at.total_rows, bytes: self.at.total_bytes, ..SinkSummary::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, DictionaryArray, Int64Array, types::Int32Type};
    use arrow_schema::{DataType, Field, Schema};
    use std::collections::BTreeMap;
    use std::ops::Range;
    use std::sync::Arc;

    const ROWS: u64 = 600;
    const MOST: u64 = 50;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, true)]))
    }

    /// Text as the engine hands it out: in dictionaries of more than these rows have.
    fn rows(range: Range<u64>) -> RecordBatch {
        let text: DictionaryArray<Int32Type> = range
            .clone()
            .map(|n| (n % 7 > 0).then(|| format!("text {}", n % 40)))
            .collect::<Vec<_>>()
            .iter()
            .map(|t| t.as_deref())
            .collect();
        let columns: Vec<(&str, ArrayRef)> =
            vec![("n", Arc::new(range.map(|n| n as i64).collect::<Int64Array>())), ("text", Arc::new(text))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    fn files(folder: &Path, ending: &str) -> BTreeMap<String, Vec<u8>> {
        let files = fs::read_dir(folder).unwrap().flatten();
        let named = files.map(|f| (f.file_name().into_string().unwrap(), f.path()));
        named.filter(|(name, _)| name.ends_with(ending)).map(|(name, path)| (name, fs::read(path).unwrap())).collect()
    }

    /// Writes all rows, dying at random moments and falling back to the checkpoint before now and then.
    fn run(folder: &Path, ending: &str, mut dies: impl FnMut(u64) -> bool, mut size: impl FnMut() -> u64) -> u32 {
        let target = Target::file(folder.join(format!("rows.{ending}"))).unwrap();
        let count = |at: &[u8]| At::decode(at).map(|at| at.total_rows + at.rows).unwrap();
        // The last checkpoint, and the one before.
        let mut saved: [Option<Vec<u8>>; 2] = [None, None];
        let (mut deaths, mut committed) = (0, 0);
        loop {
            if saved[0].is_some() && dies(5) {
                saved[1] = saved[0].take();
            }
            let mut sink = Box::new(SpooledSink::open(&target, &schema(), MOST, saved[1].as_deref()).unwrap());
            let mut written = saved[1].as_deref().map_or(0, count);
            let dead = loop {
                let to = ROWS.min(written + size());
                sink.write(vec![rows(written..to)]).unwrap();
                written = to;
                if dies(9) {
                    break true;
                }
                if dies(2) {
                    let at = sink.position().unwrap().unwrap().bytes;
                    if dies(12) {
                        break true;
                    }
                    committed = committed.max(count(&at));
                    saved = [saved[1].take(), Some(at)];
                    if dies(12) {
                        break true;
                    }
                    sink.committed(saved[1].as_deref().unwrap()).unwrap();
                }
                // What has its name is never written anew.
                let named = files(folder, ending).keys().filter(|name| name.starts_with("rows-")).count() as u64;
                assert!(named * MOST <= committed);
                if written == ROWS {
                    break false;
                }
            };
            if !dead {
                assert_eq!(sink.finish().unwrap().rows, ROWS);
                return deaths;
            }
            deaths += 1;
        }
    }

    #[test]
    fn the_files_are_the_same_however_often_a_run_dies() {
        for ending in ["parquet", "arrow"] {
            let dir = tempfile::tempdir().unwrap();
            run(dir.path(), ending, |_| false, || ROWS);
            let want = files(dir.path(), ending);
            assert_eq!((want.len() as u64, fs::read_dir(dir.path()).unwrap().count()), (ROWS / MOST, want.len()));
            let (mut random, mut deaths) = (7u64, 0);
            for _ in 0..30 {
                let dir = tempfile::tempdir().unwrap();
                let cell = std::cell::Cell::new(random);
                let next = |most: u64| {
                    cell.set(
                        cell.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407),
                    );
                    (cell.get() >> 33) % most
                };
                deaths += run(dir.path(), ending, |one_in| next(one_in) == 0, || 1 + next(70));
                random = cell.get();
                assert!(files(dir.path(), ending) == want, "{ending}");
                assert_eq!(fs::read_dir(dir.path()).unwrap().count(), want.len());
            }
            assert!(deaths > 50, "{deaths}");
        }
    }

    #[test]
    fn rows_that_no_position_counts_are_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::file(dir.path().join("rows.parquet")).unwrap();
        let mut sink = SpooledSink::open(&target, &schema(), MOST, None).unwrap();
        sink.write(vec![rows(0..MOST * 4 + 3)]).unwrap();
        assert_eq!(files(dir.path(), ".rows").len(), 1);
        let at = sink.position().unwrap().unwrap().bytes;
        sink.write(vec![rows(MOST * 4 + 3..MOST * 6)]).unwrap();
        sink.committed(&at).unwrap();
        assert_eq!(
            files(dir.path(), ".rows").into_keys().collect::<Vec<_>>(),
            [".rows-000005.parquet.windrow-checkpoint.rows"]
        );
        assert_eq!(files(dir.path(), ".parquet").len(), 4);
    }

    #[test]
    fn files_that_are_there_and_rows_that_are_gone_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::file(dir.path().join("rows.parquet")).unwrap();
        fs::write(dir.path().join("rows-2024.parquet"), "no number of ours").unwrap();
        drop(SpooledSink::open(&target, &schema(), MOST, None).unwrap());
        fs::remove_file(dir.path().join("rows-2024.parquet")).unwrap();
        fs::remove_file(dir.path().join(".rows.parquet.windrow-checkpoint.tmp")).unwrap();
        fs::write(dir.path().join("rows-000003.parquet"), "somebody's").unwrap();
        let error = SpooledSink::open(&target, &schema(), MOST, None).err().unwrap().to_string();
        assert!(error.contains("rows-000003.parquet: is there already"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        fs::remove_file(dir.path().join("rows-000003.parquet")).unwrap();
        let mut sink = SpooledSink::open(&target, &schema(), MOST, None).unwrap();
        sink.write(vec![rows(0..70)]).unwrap();
        let at = sink.position().unwrap().unwrap().bytes;
        drop(sink);
        let kept = dir.path().join(".rows-000002.parquet.windrow-checkpoint.rows");
        let bytes = fs::read(&kept).unwrap();
        fs::write(&kept, &bytes[..bytes.len() - 9]).unwrap();
        let error = SpooledSink::open(&target, &schema(), MOST, Some(&at)).err().unwrap().to_string();
        assert!(error.contains("does not hold the rows that the checkpoint counts"), "{error}");
        let error = SpooledSink::open(&target, &schema(), MOST, Some(b"x")).err().unwrap().to_string();
        assert!(error.contains("does not hold the rows"), "{error}");
    }
}
