//! Many files at once: one for each part of a repartitioning, in a folder that appears when it is complete.
//!
//! ```text
//! out/manifest.json        the hash, the number of parts, rows and bytes of each file
//! out/part-00000.parquet   records of the keys of part 0, in the order of the input
//! out/part-00001.parquet   ...
//! ```
//!
//! Invariants: everything is written below `.OUT.windrow-PID.tmp` beside the target, which [`PartFiles::finish`] renames;
//! dropped before, it takes its folder with it. No file is held open: what a part has buffered is appended by opening its file
//! for that moment, so the number of open files is that of threads, whatever the number of parts. A part's file depends
//! on its rows and on the memory that a part may take, not on how they were cut into calls.
//!
//! Parquet: row groups end when the rows since the last one take a part's share of memory encoded; dictionaries and
//! pages are kept to a fraction of it, since every part has one of each for every column. Columns whose values hardly repeat
//! in the first block of a part have no dictionaries there: each row group would begin one only to give it up.

use super::blocks::Blocks;
use super::cells::{Cells, Row, supported};
use super::csv::Csv;
use super::lines::Lines;
use super::ndjson::{Ndjson, quoted};
use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_ord::partition::partition;
use arrow_ord::sort::sort;
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Rows that are encoded at once.
const BLOCK_ROWS: usize = if cfg!(test) { 100 } else { 4 << 10 };

/// Bytes that are appended to a file at once, if a part's share of memory holds so many.
const APPEND: usize = 1 << 20;

/// How the files of parts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartFormat {
    /// Parquet, snappy.
    Parquet,
    /// CSV with a header in each file.
    Csv,
    /// One JSON object per line.
    Ndjson,
}

impl PartFormat {
    /// The ending of its files, and its name.
    pub fn name(self) -> &'static str {
        match self {
            PartFormat::Parquet => "parquet",
            PartFormat::Csv => "csv",
            PartFormat::Ndjson => "ndjson",
        }
    }
}

impl std::str::FromStr for PartFormat {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let all = [PartFormat::Parquet, PartFormat::Csv, PartFormat::Ndjson];
        let found = all.into_iter().find(|f| f.name() == name.to_ascii_lowercase());
        found.ok_or_else(|| Error::usage(format!("unknown format {name:?}; known are parquet, csv and ndjson")))
    }
}

/// What is said of the files beside what they say themselves.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// The fields whose values decide where a record goes.
    pub key: Vec<String>,
}

/// What a folder of parts came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartSummary {
    /// Rows of all files.
    pub rows: u64,
    /// Bytes of all files, the manifest aside.
    pub bytes: u64,
}

/// See the module.
pub struct PartFiles {
    folder: Folder,
    format: PartFormat,
    schema: SchemaRef,
    text: Text,
    share: usize,
    parts: Vec<Mutex<Part>>,
}

/// How rows become lines.
enum Text {
    Csv,
    Ndjson(Ndjson),
    /// The only column is a record as it stands in NDJSON.
    Whole,
}

/// The folder under its temporary name.
struct Folder {
    from: PathBuf,
    to: PathBuf,
    done: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_dir_all(&self.from);
        }
    }
}

#[derive(Default)]
struct Part {
    state: State,
    rows: u64,
    bytes: u64,
}

#[derive(Default)]
enum State {
    #[default]
    New,
    Text(Row),
    Parquet(Box<Encoder>),
    Ended,
}

impl PartFiles {
    /// Files for `parts` parts below `path`, which must not exist or be an empty folder. A part that was begun and not ended
    /// takes about `share` bytes of memory.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Output`] if something is there already or nothing can be created there.
    pub fn create(
        path: impl AsRef<Path>,
        format: PartFormat,
        schema: &SchemaRef,
        whole: bool,
        parts: u32,
        share: usize,
    ) -> Result<PartFiles> {
        let path = path.as_ref();
        let folder = Folder::create(path)?;
        let text = match format {
            PartFormat::Ndjson if whole => Text::Whole,
            PartFormat::Ndjson => Text::Ndjson(Ndjson::new(schema, &mut Row::default())),
            PartFormat::Csv | PartFormat::Parquet => Text::Csv,
        };
        let mut files = PartFiles {
            folder,
            format,
            schema: schema.clone(),
            text,
            share: share.clamp(if cfg!(test) { 1 << 10 } else { 64 << 10 }, 8 << 20),
            parts: Vec::new(),
        };
        files.parts.resize_with(parts as usize, Mutex::default);
        Ok(files)
    }

    /// Appends rows to a part. Parts may be written from several threads at once.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Output`] with the file; [`crate::ErrorKind::Usage`] for a type that the format cannot hold.
    pub fn write(&self, part: u32, rows: &RecordBatch) -> Result<()> {
        let mut of = self.parts[part as usize].lock().unwrap_or_else(PoisonError::into_inner);
        if let State::New = of.state {
            of.state = self.begin()?;
        }
        of.rows += rows.num_rows() as u64;
        let Part { state, bytes, .. } = &mut *of;
        match state {
            State::Text(row) => {
                self.print(rows, row)?;
                if row.as_bytes().len() >= self.share.min(APPEND) {
                    *bytes += self.append(part, row.as_bytes())?;
                    row.clear();
                }
            }
            State::Parquet(encoder) => {
                encoder.left.push(rows.clone());
                while let Some(block) = encoder.left.next(BLOCK_ROWS)? {
                    if let Some(ready) = encoder.write(&block, &self.schema, self.share)? {
                        *bytes += self.append(part, &ready)?;
                    }
                }
            }
            State::New | State::Ended => return Err(Error::output("rows came for a part that had ended")),
        }
        Ok(())
    }

    /// Completes the file of a part and gives its memory back.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn end(&self, part: u32) -> Result<()> {
        let mut of = self.parts[part as usize].lock().unwrap_or_else(PoisonError::into_inner);
        let state = match std::mem::replace(&mut of.state, State::Ended) {
            State::New => self.begin()?,
            begun => begun,
        };
        let rest = match state {
            State::Text(row) => row.into_bytes(),
            State::Parquet(encoder) => encoder.finish(&self.schema, self.share)?,
            State::New | State::Ended => return Ok(()),
        };
        of.bytes += self.append(part, &rest)?;
        Ok(())
    }

    /// About how many bytes of memory a part takes that was begun and not ended.
    pub fn open_bytes(&self) -> usize {
        // Encoded rows, the pages and dictionaries in work, and rows that do not make a block yet.
        2 * self.share
    }

    /// Completes all files and the manifest, and gives the folder its name.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Output`]; nothing is then left.
    pub fn finish(mut self, manifest: &Manifest) -> Result<PartSummary> {
        for part in 0..self.parts.len() as u32 {
            self.end(part)?;
        }
        let (text, summary) = self.manifest(manifest);
        let path = self.folder.from.join("manifest.json");
        fs::write(&path, text).map_err(|e| cannot_write(&path, e))?;
        self.folder.commit()?;
        Ok(summary)
    }

    fn begin(&self) -> Result<State> {
        Ok(match self.format {
            PartFormat::Csv => {
                let mut row = Row::default();
                Csv::new(&self.schema, &mut row);
                State::Text(row)
            }
            PartFormat::Ndjson => State::Text(Row::default()),
            PartFormat::Parquet => State::Parquet(Box::default()),
        })
    }

    fn print(&self, rows: &RecordBatch, row: &mut Row) -> Result<()> {
        if let Text::Whole = self.text {
            let records = rows.column(0).as_string::<i32>();
            for record in records.iter().flatten() {
                row.room(record.len() + 1);
                row.bytes(record.as_bytes());
                row.byte(b'\n');
            }
            return Ok(());
        }
        let columns: Vec<ArrayRef> = rows.columns().iter().map(supported).collect::<Result<_>>()?;
        let cells: Vec<Cells> = columns.iter().map(Cells::of).collect::<Result<_>>()?;
        match &self.text {
            Text::Ndjson(lines) => lines.print(&cells, 0..rows.num_rows(), row),
            Text::Csv | Text::Whole => Csv.print(&cells, 0..rows.num_rows(), row),
        }
        Ok(())
    }

    /// Appends to the file of a part; returns the number of bytes.
    fn append(&self, part: u32, bytes: &[u8]) -> Result<u64> {
        let path = self.folder.from.join(self.name(part));
        let file: io::Result<File> = OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| file.write_all(bytes)).map_err(|e| cannot_write(&path, e))?;
        Ok(bytes.len() as u64)
    }

    fn name(&self, part: u32) -> String {
        format!("part-{part:05}.{}", self.format.name())
    }

    fn manifest(&self, manifest: &Manifest) -> (String, PartSummary) {
        let mut summary = PartSummary::default();
        let mut files = String::new();
        for (number, part) in self.parts.iter().enumerate() {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            summary.rows += part.rows;
            summary.bytes += part.bytes;
            let comma = if number > 0 { "," } else { "" };
            let (name, rows, bytes) = (self.name(number as u32), part.rows, part.bytes);
            files += &format!("{comma}\n    {{\"file\": \"{name}\", \"rows\": {rows}, \"bytes\": {bytes}}}");
        }
        let key: Vec<String> = manifest.key.iter().map(|k| quoted(k)).collect();
        let text = format!(
            "{{\n  \"version\": 1,\n  \"hash\": \"rapidhash v3\",\n  \"partition\": \"floor(hash * partitions / 2^64)\",\n  \
             \"key\": [{}],\n  \"partitions\": {},\n  \"format\": \"{}\",\n  \"rows\": {},\n  \"bytes\": {},\n  \
             \"files\": [{files}\n  ]\n}}\n",
            key.join(", "),
            self.parts.len(),
            self.format.name(),
            summary.rows,
            summary.bytes,
        );
        (text, summary)
    }
}

impl Folder {
    fn create(path: &Path) -> Result<Folder> {
        let to = path.to_path_buf();
        let exists = |what: &str| Err(Error::output(format!("the output {} {what}", path.display())));
        match fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return exists("is a folder with something in it; name another"),
            Err(_) if path.exists() => return exists("exists and is no folder; name another"),
            Ok(false) | Err(_) => {}
        }
        let Some(name) = path.file_name() else { return exists("names no folder; name one that can be created") };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut temporary = std::ffi::OsString::from(".");
        temporary.push(name);
        temporary.push(format!(".windrow-{}.tmp", std::process::id()));
        let from = parent.join(temporary);
        fs::create_dir(&from)
            .map_err(|e| Error::output(format!("cannot create the output {}", path.display())).because(e))?;
        Ok(Folder { from, to, done: false })
    }

    fn commit(&mut self) -> Result<()> {
        // An empty folder gives way; where it does not by itself, it is removed.
        let _ = fs::remove_dir(&self.to);
        fs::rename(&self.from, &self.to).map_err(|e| {
            Error::output(format!("cannot give its final name to the output {}", self.to.display())).because(e)
        })?;
        self.done = true;
        Ok(())
    }
}

/// What the Parquet encoder writes into: appended to the file now and then.
struct Ready(Vec<u8>);

impl Write for Ready {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The rows of one part on their way to Parquet.
#[derive(Default)]
struct Encoder {
    left: Blocks,
    /// There is one once there is a block: its values say which columns are worth a dictionary.
    writer: Option<ArrowWriter<Ready>>,
}

impl Encoder {
    fn begin(schema: &SchemaRef, share: usize, first: &RecordBatch) -> Result<ArrowWriter<Ready>> {
        let piece = (share / 4 / schema.fields().len().max(1)).clamp(4 << 10, 1 << 20);
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_dictionary_page_size_limit(piece)
            .set_data_page_size_limit(piece);
        for (field, values) in schema.fields().iter().zip(first.columns()) {
            let column = ColumnPath::new(vec![field.name().clone()]);
            properties = properties.set_column_dictionary_enabled(column, repeats(values));
        }
        ArrowWriter::try_new(Ready(Vec::new()), schema.clone(), Some(properties.build()))
            .map_err(|e| Error::usage(format!("these columns cannot be written as Parquet: {e}")))
    }

    /// Encodes a block; returns what is to be appended to the file.
    fn write(&mut self, block: &RecordBatch, schema: &SchemaRef, share: usize) -> Result<Option<Vec<u8>>> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(Encoder::begin(schema, share, block)?),
        };
        writer.write(block).map_err(failed)?;
        if writer.in_progress_size() < share {
            return Ok(None);
        }
        writer.inner_mut().0.reserve(share + share / 8);
        writer.flush().map_err(failed)?;
        Ok(Some(std::mem::take(&mut writer.inner_mut().0)))
    }

    /// The end of the file.
    fn finish(mut self: Box<Self>, schema: &SchemaRef, share: usize) -> Result<Vec<u8>> {
        let rest = self.left.next(self.left.rows)?.unwrap_or_else(|| RecordBatch::new_empty(schema.clone()));
        let mut ready = self.write(&rest, schema, share)?.unwrap_or_default();
        if let Some(writer) = self.writer {
            ready.extend(writer.into_inner().map_err(failed)?.0);
        }
        Ok(ready)
    }
}

/// Whether the values of a block repeat so much that a dictionary pays: floats hardly do, of others at least one in sixteen.
fn repeats(values: &ArrayRef) -> bool {
    if matches!(values.data_type(), DataType::Float64 | DataType::Float32) {
        return false;
    }
    match sort(values, None).and_then(|sorted| Ok(partition(&[sorted])?.len())) {
        Ok(distinct) => distinct <= values.len() / 16 * 15,
        // Values without an order: the encoder finds out.
        Err(_) => true,
    }
}

fn failed(e: parquet::errors::ParquetError) -> Error {
    Error::output(format!("a part cannot be written as Parquet: {e}"))
}

fn cannot_write(path: &Path, e: io::Error) -> Error {
    Error::output("the output cannot be written").in_file(path).because(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn rows() -> RecordBatch {
        let columns: [(&str, ArrayRef); 4] = [
            ("n", Arc::new(Int64Array::from(vec![Some(-1), None]))),
            ("x\"", Arc::new(Float64Array::from(vec![f64::NAN, 0.5]))),
            ("at", Arc::new(TimestampMicrosecondArray::from(vec![0, 1_500_000]))),
            ("text", Arc::new(StringArray::from(vec!["a\"\\\n\u{1}\u{fc}", ""]))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[test]
    fn json_says_what_the_rows_say() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let rows = rows();
        let files = PartFiles::create(&out, PartFormat::Ndjson, &rows.schema(), false, 2, 0).unwrap();
        files.write(1, &rows).unwrap();
        assert!(!out.exists());
        let summary = files.finish(&Manifest { key: vec!["n".into()] }).unwrap();
        let text = fs::read_to_string(out.join("part-00001.ndjson")).unwrap();
        let want = "{\"n\":-1,\"x\\\"\":null,\"at\":\"1970-01-01T00:00:00Z\",\"text\":\"a\\\"\\\\\\n\\u0001\u{fc}\"}\n\
                    {\"n\":null,\"x\\\"\":0.5,\"at\":\"1970-01-01T00:00:01.500Z\",\"text\":\"\"}\n";
        assert_eq!(text, want);
        assert_eq!(summary, PartSummary { rows: 2, bytes: text.len() as u64 });
        assert_eq!(fs::read_to_string(out.join("part-00000.ndjson")).unwrap(), "");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    /// The file of a part does not depend on how its rows were cut into calls.
    #[test]
    fn the_cut_does_not_show() {
        let dir = tempfile::tempdir().unwrap();
        let all = arrow_select::concat::concat_batches(&rows().schema(), &vec![rows(); 700]).unwrap();
        for format in [PartFormat::Parquet, PartFormat::Csv, PartFormat::Ndjson] {
            let written = [1400usize, 1, 37, 400].map(|step| {
                let out = dir.path().join(format!("{}-{step}", format.name()));
                let files = PartFiles::create(&out, format, &all.schema(), false, 1, 2000).unwrap();
                for from in (0..1400).step_by(step) {
                    files.write(0, &all.slice(from, step.min(1400 - from))).unwrap();
                }
                files.finish(&Manifest::default()).unwrap();
                fs::read(out.join(format!("part-00000.{}", format.name()))).unwrap()
            });
            assert!(written.iter().all(|w| *w == written[0]), "{}", format.name());
        }
    }

    #[test]
    fn a_dropped_folder_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = PartFiles::create(dir.path().join("out"), PartFormat::Csv, &rows().schema(), false, 3, 0).unwrap();
        (0..2000).for_each(|_| files.write(2, &rows()).unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        drop(files);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(dir.path().join("file"), "x").unwrap();
        for path in [dir.path(), &dir.path().join("file"), &dir.path().join("no/out")] {
            assert!(PartFiles::create(path, PartFormat::Csv, &rows().schema(), false, 3, 0).is_err());
        }
    }
}
