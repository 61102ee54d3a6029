//! Parquet files as tasks: row groups, or parts of them where memory is short, only the wanted columns decoded.
//!
//! A row group need not end where a block of 65,536 rows does. What it holds of a block that it shares is handed over
//! as a head or tail, and the driver puts the parts together; nothing is decoded twice.

use super::batches::{Columns, piece};
use super::cut::Pool;
use super::files::InputFile;
use super::{BLOCK_ROWS, Cut, ReadOptions, Reader, Report, Task};
use crate::query::map::Piece;
use crate::time::TimeFormat;
use crate::{Error, Result};
use ::parquet::arrow::ProjectionMask;
use ::parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use ::parquet::file::reader::{ChunkReader, Length};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_cast::cast;
use arrow_schema::{DataType, Fields, Schema, SchemaRef};
use bytes::Bytes;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A file for positional reads from any thread.
#[derive(Debug, Clone)]
pub(crate) struct Positions(Arc<InputFile>, u64, Arc<Pool>);

impl Positions {
    fn read(&self, start: u64, buffer: &mut [u8]) -> ::parquet::errors::Result<()> {
        let outside = start.checked_add(buffer.len() as u64).is_none_or(|end| end > self.1);
        if outside {
            return Err(::parquet::errors::ParquetError::EOF(format!("byte {start} lies beyond the file's end")));
        }
        self.0.read_exact_at(start, buffer).map_err(|e| ::parquet::errors::ParquetError::General(e.to_string()))
    }
}

impl Length for Positions {
    fn len(&self) -> u64 {
        self.1
    }
}

impl ChunkReader for Positions {
    type T = Cursor;

    fn get_read(&self, start: u64) -> ::parquet::errors::Result<Cursor> {
        Ok(Cursor { file: self.clone(), at: start, buffer: Vec::new(), used: 0 })
    }

    fn get_bytes(&self, start: u64, length: usize) -> ::parquet::errors::Result<Bytes> {
        if length as u64 > self.1 {
            return Err(::parquet::errors::ParquetError::EOF(format!(
                "{length} bytes from {start} lie beyond the file's end"
            )));
        }
        let mut buffer = self.2.take(length);
        self.read(start, &mut buffer[..length])?;
        Ok(self.2.bytes(buffer).slice(..length))
    }
}

/// Reads on from a position, a little at a time (page headers).
pub(crate) struct Cursor {
    file: Positions,
    at: u64,
    buffer: Vec<u8>,
    used: usize,
}

impl Read for Cursor {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.used == self.buffer.len() {
            let n = (self.file.1.saturating_sub(self.at) as usize).min(512.max(to.len()));
            self.buffer.resize(n, 0);
            self.used = 0;
            self.file.0.read_exact_at(self.at, &mut self.buffer).map_err(|e| std::io::Error::other(e.to_string()))?;
            self.at += n as u64;
        }
        let n = to.len().min(self.buffer.len() - self.used);
        to[..n].copy_from_slice(&self.buffer[self.used..self.used + n]);
        self.used += n;
        Ok(n)
    }
}

/// A file with its footer.
#[derive(Clone)]
pub(crate) struct ParquetFile {
    file: Positions,
    metadata: ArrowReaderMetadata,
}

impl ParquetFile {
    /// Reads the footer of `file`.
    pub(crate) fn open(file: InputFile) -> Result<ParquetFile> {
        let Some(len) = file.len else {
            return Err(file.error("is not a regular file; Parquet is read from its end and cannot come from a pipe"));
        };
        let file = Positions(Arc::new(file), len, Arc::default());
        let unreadable = |e| file.0.error(&format!("is not a readable Parquet file: {e}"));
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(unreadable)?;
        let options = ArrowReaderOptions::new().with_schema(in_place(&metadata));
        let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options).map_err(unreadable)?;
        Ok(ParquetFile { file, metadata })
    }

    /// The columns.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// The first value among the first rows of a column of integers; `None` for any other column.
    pub(crate) fn first_integer(&self, column: &str) -> Result<Option<i64>> {
        let Some((root, field)) = self.schema().column_with_name(column) else { return Ok(None) };
        if !field.data_type().is_integer() {
            return Ok(None);
        }
        let unreadable = |e: &dyn std::fmt::Display| self.file.0.error(&format!("cannot be read: {e}"));
        let parquet = self.metadata.metadata().file_metadata().schema_descr();
        let mut batches = ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.clone(), self.metadata.clone())
            .with_projection(ProjectionMask::roots(parquet, [root]))
            .with_batch_size(LOOK)
            .build()
            .map_err(|e| unreadable(&e))?;
        let Some(batch) = batches.next().transpose().map_err(|e| unreadable(&e))? else { return Ok(None) };
        let numbers = cast(batch.column(0), &DataType::Int64)?;
        Ok(numbers.as_primitive::<Int64Type>().iter().flatten().next())
    }

    /// How many rows of a group take about `bytes` once they are decoded.
    fn rows_within(&self, group: usize, bytes: usize) -> usize {
        let all = self.metadata.metadata().row_group(group).total_byte_size().max(1) as u128;
        usize::try_from(self.rows(group) as u128 * bytes as u128 / all).unwrap_or(usize::MAX)
    }

    fn rows(&self, group: usize) -> usize {
        self.metadata.metadata().row_group(group).num_rows().max(0) as usize
    }
}

/// The file's schema, its text read in place: columns that are small dictionaries as such (their entries are then hashed
/// once), others as views of the pages, which are not copied.
fn in_place(metadata: &ArrowReaderMetadata) -> SchemaRef {
    let parquet = metadata.metadata();
    let is_small = |root: usize| {
        let leaf = (0..parquet.file_metadata().schema_descr().num_columns())
            .find(|leaf| parquet.file_metadata().schema_descr().get_column_root_idx(*leaf) == root);
        // A value then takes a few bits, not its bytes.
        leaf.is_some_and(|leaf| {
            parquet.row_groups().iter().all(|group| {
                let chunk = group.column(leaf);
                chunk.dictionary_page_offset().is_some() && chunk.uncompressed_size() < 3 * chunk.num_values() + 4096
            })
        })
    };
    let fields = metadata.schema().fields().iter().enumerate().map(|(root, field)| {
        if field.data_type() != &DataType::Utf8 {
            return field.clone();
        }
        let read_as = if parquet.num_row_groups() > 0 && is_small(root) {
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
        } else {
            DataType::Utf8View
        };
        Arc::new(field.as_ref().clone().with_data_type(read_as))
    });
    Arc::new(Schema::new_with_metadata(fields.collect::<Fields>(), metadata.schema().metadata().clone()))
}

/// Whether two columns hold the same kind of values, however text is laid out.
fn alike(a: &DataType, b: &DataType) -> bool {
    a == b || crate::query::text::is_text(a) && crate::query::text::is_text(b)
}

/// Parquet inputs, one after the other.
pub(crate) struct ParquetReader {
    inputs: Vec<PathBuf>,
    /// The number of the first of them.
    first_input: usize,
    next_input: usize,
    opened: Option<ParquetFile>,
    /// Names of the columns, so that each file is asked for its own positions.
    time: Option<(String, TimeFormat)>,
    wanted: Vec<String>,
    options: ReadOptions,
    current: Option<Current>,
    schema: SchemaRef,
    /// Bytes of the largest row group, and of a block of one: no task is smaller.
    largest: usize,
    least: usize,
}

/// The file that is being read.
struct Current {
    file: ParquetFile,
    projection: Arc<Projection>,
    group: usize,
    /// Rows of the group that tasks were made of.
    taken: usize,
    /// Rows of the file that tasks were made of.
    row: usize,
}

/// The wanted columns of one file.
struct Projection {
    mask: ProjectionMask,
    columns: Columns,
}

impl ParquetReader {
    /// `first` is the first of `inputs`, opened.
    pub(crate) fn new(
        inputs: Vec<PathBuf>,
        first: ParquetFile,
        time: Option<(String, TimeFormat)>,
        wanted: Vec<String>,
        options: ReadOptions,
    ) -> Self {
        let schema = first.schema().clone();
        let groups = first.metadata.metadata().row_groups().iter();
        let bytes = |bytes: i64| bytes.max(0) as usize;
        let sizes = groups.map(|g| (bytes(g.total_byte_size()) + bytes(g.compressed_size()), bytes(g.num_rows())));
        let largest = sizes.clone().map(|(bytes, _)| bytes).max().unwrap_or(0);
        let least = sizes.map(|(bytes, rows)| bytes / (rows / BLOCK_ROWS).max(1)).max().unwrap_or(0);
        ParquetReader {
            largest,
            least,
            inputs,
            first_input: 0,
            next_input: 0,
            opened: Some(first),
            time,
            wanted,
            options,
            current: None,
            schema,
        }
    }

    fn project(&self, file: &ParquetFile) -> Result<Projection> {
        let schema = file.schema();
        let name_of = |name: &String| {
            let at = schema.index_of(name).map_err(|_| file.file.0.error(&format!("has no column {name:?}")))?;
            let first = self.schema.field_with_name(name)?.data_type();
            if !alike(schema.field(at).data_type(), first) {
                return Err(file.file.0.error(&format!(
                    "column {name:?} is of type {} here, but {first} in the first file",
                    schema.field(at).data_type()
                )));
            }
            Ok(at)
        };
        let wanted: Vec<usize> = self.wanted.iter().map(name_of).collect::<Result<_>>()?;
        let time = self.time.as_ref().map(|(name, _)| name_of(name)).transpose()?;
        let mut roots: Vec<usize> = wanted.iter().copied().chain(time).collect();
        roots.sort_unstable();
        roots.dedup();
        let place = |root: usize| roots.binary_search(&root).unwrap_or(0);
        let columns = Columns {
            time: time.zip(self.time.as_ref()).map(|(root, (_, format))| (place(root), format.clone())),
            wanted: wanted.iter().map(|root| place(*root)).collect(),
        };
        let parquet_schema = file.metadata.metadata().file_metadata().schema_descr();
        Ok(Projection { mask: ProjectionMask::roots(parquet_schema, roots), columns })
    }
}

impl Reader for ParquetReader {
    /// A row group is many blocks, and a partition that takes its part of many at once finds its table in the cache.
    fn round(&self, threads: usize) -> usize {
        4 * threads
    }

    /// What the largest row group of the first file takes, and what is read of it at once.
    fn task_bytes(&self) -> usize {
        self.largest.min(self.options.task_bytes).max(self.least)
    }

    fn tasks(&mut self, most: usize) -> Result<Vec<Box<dyn Task>>> {
        let mut tasks: Vec<Box<dyn Task>> = Vec::new();
        while tasks.len() < most {
            let Some(Current { file, projection, group, taken, row }) = &mut self.current else {
                let Some(path) = self.inputs.get(self.next_input) else { break };
                let file = match self.opened.take() {
                    Some(file) => file,
                    None => ParquetFile::open(InputFile::open(path)?)?,
                };
                self.next_input += 1;
                let projection = Arc::new(self.project(&file)?);
                self.current = Some(Current { file, projection, group: 0, taken: 0, row: 0 });
                continue;
            };
            if *group == file.metadata.metadata().num_row_groups() {
                self.current = None;
                continue;
            }
            let left = file.rows(*group) - *taken;
            // Whole blocks, but at the end of the group.
            let fit = file.rows_within(*group, self.options.task_bytes) / BLOCK_ROWS;
            let cut = (*row / BLOCK_ROWS).saturating_add(fit.max(1)).saturating_mul(BLOCK_ROWS);
            let rows = left.min(cut - *row);
            tasks.push(Box::new(RowGroup {
                input: self.first_input + self.next_input - 1,
                file: file.clone(),
                projection: projection.clone(),
                group: *group,
                from: *taken,
                rows,
                first_row: *row,
                last: rows == left && *group + 1 == file.metadata.metadata().num_row_groups(),
                options: self.options.clone(),
            }));
            *row += rows;
            *taken += rows;
            if rows == left {
                (*group, *taken) = (*group + 1, 0);
            }
        }
        Ok(tasks)
    }

    fn split(&mut self) -> Vec<Box<dyn Reader>> {
        if self.inputs.len() < 2 {
            return Vec::new();
        }
        let one = |(number, path): (usize, PathBuf)| -> Box<dyn Reader> {
            Box::new(ParquetReader {
                inputs: vec![path],
                first_input: number,
                next_input: 0,
                opened: self.opened.take(),
                time: self.time.clone(),
                wanted: self.wanted.clone(),
                options: self.options.clone(),
                current: None,
                schema: self.schema.clone(),
                largest: self.largest,
                least: self.least,
            })
        };
        std::mem::take(&mut self.inputs).into_iter().enumerate().map(one).collect()
    }

    fn first_time(&mut self) -> Result<Option<i64>> {
        let Some(path) = self.inputs.first() else { return Ok(None) };
        let file = match self.opened.take() {
            Some(file) => file,
            None => ParquetFile::open(InputFile::open(path)?)?,
        };
        let projection = Arc::new(self.project(&file)?);
        if file.metadata.metadata().num_row_groups() == 0 {
            return Ok(None);
        }
        let options = self.options.clone();
        let rows = file.rows(0);
        RowGroup { input: 0, file, projection, group: 0, from: 0, rows, first_row: 0, last: false, options }
            .first_time()
    }
}

#[derive(Clone)]
struct RowGroup {
    input: usize,
    file: ParquetFile,
    projection: Arc<Projection>,
    group: usize,
    /// Rows of the group that are left out before those of the task.
    from: usize,
    rows: usize,
    /// Rows of the file before those of the task.
    first_row: usize,
    last: bool,
    options: ReadOptions,
}

/// Rows that are looked at at once to learn when a row group begins, or what its times look like.
const LOOK: usize = 64;

impl RowGroup {
    /// Its rows as batches of `rows`.
    fn reader(&self, rows: usize) -> Result<ParquetRecordBatchReader> {
        ParquetRecordBatchReaderBuilder::new_with_metadata(self.file.file.clone(), self.file.metadata.clone())
            .with_projection(self.projection.mask.clone())
            .with_row_groups(vec![self.group])
            .with_offset(self.from)
            .with_limit(self.rows)
            .with_batch_size(rows)
            .build()
            .map_err(|e| self.unreadable(&e.to_string()))
    }

    fn unreadable(&self, why: &str) -> Error {
        self.file.file.0.error(&format!("row group {} cannot be read: {why}", self.group))
    }
}

impl Task for RowGroup {
    fn run(&self, each: &mut dyn FnMut(Cut, Vec<Piece>) -> Result<()>) -> Result<Report> {
        let metadata = self.file.metadata.metadata().row_group(self.group);
        let rows = self.file.rows(self.group).max(1) as u64;
        let share = |bytes: i64| bytes.max(0) as u64 * self.rows as u64 / rows;
        let mut report = Report { input: self.input, bytes: share(metadata.total_byte_size()), ..Report::default() };
        let reader = self.reader(BLOCK_ROWS)?;
        let end = self.first_row + self.rows;
        let (mut at, mut pieces) = (self.first_row, Vec::new());
        let mut block_start = self.first_row;
        for batch in reader {
            let batch = batch.map_err(|e| self.unreadable(&e.to_string()))?;
            let mut from = 0;
            while from < batch.num_rows() {
                let boundary = (at / BLOCK_ROWS + 1) * BLOCK_ROWS;
                let n = (batch.num_rows() - from).min(boundary - at);
                let (piece, bad) =
                    piece(&batch.slice(from, n), &self.projection.columns, (at - self.first_row) as u64)?;
                report.bad.extend(bad);
                pieces.push(piece);
                at += n;
                from += n;
                if at == boundary || at == end {
                    let whole_start = block_start.is_multiple_of(BLOCK_ROWS);
                    let whole_end = at == boundary || self.last;
                    let cut = match (whole_start, whole_end) {
                        (true, true) => Cut::Whole,
                        (false, true) => Cut::Head,
                        (true, false) => Cut::Tail,
                        (false, false) => Cut::Middle,
                    };
                    each(cut, std::mem::take(&mut pieces))?;
                    block_start = at;
                }
            }
        }
        if at != end {
            return Err(self.unreadable("it ends before its last row"));
        }
        report.lines = (end - self.first_row) as u64;
        self.options.progress.records.fetch_add(report.lines, Ordering::Relaxed);
        self.options.progress.bytes_done.fetch_add(share(metadata.compressed_size()), Ordering::Relaxed);
        Ok(report)
    }

    fn first_time(&self) -> Result<Option<i64>> {
        for batch in self.reader(LOOK)?.by_ref() {
            let batch = batch.map_err(|e| self.unreadable(&e.to_string()))?;
            if let Some(ts) = piece(&batch, &self.projection.columns, 0)?.0.times.first() {
                return Ok(Some(*ts));
            }
        }
        Ok(None)
    }

    fn again(&self) -> Option<Arc<dyn Task>> {
        let options = ReadOptions { progress: Arc::default(), ..self.options.clone() };
        Some(Arc::new(RowGroup { options, ..self.clone() }))
    }
}

/// The error for a file that is no Parquet.
pub(crate) fn not_parquet(file: &InputFile) -> Error {
    file.error("is not a Parquet file (it does not begin with PAR1)")
}
