//! Parquet: snappy, row groups of 1 Mi rows, the columns of a row group encoded in parallel.
//!
//! Invariant: the file is a function of the rows. The encoder decides about pages and dictionaries at the end of
//! each call, so it is called with blocks of exactly [`BLOCK_ROWS`] rows counted from the start of the output,
//! however the rows were cut into batches: a block inside one batch is a slice, one across batches is copied.
//!
//! Encodings: instants and integers go through a dictionary (windows repeat their bounds, keys repeat, counts are
//! small; the encoder gives up by itself where they do not), text too; floats are plain: sums hardly repeat, and
//! hashing each of them for a dictionary that is thrown away costs more than all the rest. Each row group shows what
//! dictionary and compression were good for in columns of eight bytes; the next are written without what was of no use
//! (keys that occur once are random bytes), and every [`AGAIN`]th tries everything once more.
//!
//! Cost: rows of two instants, two integers and two floats take about 50 ns of one Zen 4 core, the kernel's copy
//! included.
//!
//! In memory: up to [`BLOCK_ROWS`] rows not yet encoded and one encoded row group (about 20 bytes a row for the
//! usual columns), which ends early at [`GROUP_BYTES`].

use super::blocks::Blocks;
use super::writer::{Buffered, Writer};
use super::{Sink, SinkSummary};
use crate::{Error, Result};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, FieldRef, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// Rows of one call of an encoder, and of a page.
const BLOCK_ROWS: usize = if cfg!(test) { 1 << 10 } else { 16 << 10 };

/// Rows of a row group.
const GROUP_ROWS: usize = if cfg!(test) { 40 << 10 } else { 1 << 20 };

/// Encoded bytes after which a row group ends early (long texts).
const GROUP_BYTES: usize = if cfg!(test) { 500 << 10 } else { 128 << 20 };

/// Rows of a row group after which its bytes are looked at.
const LOOK_ROWS: usize = 8 * BLOCK_ROWS;

/// So many row groups after it was found out, it is found out again what columns are worth.
const AGAIN: usize = if cfg!(test) { 3 } else { 64 };

/// Writes Parquet to a file, a device or standard output.
pub(super) struct ParquetSink {
    file: SerializedFileWriter<Buffered>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// What each column is worth, as row groups have shown.
    worth: Vec<Worth>,
    /// Rows that do not make a block yet.
    left: Blocks,
    /// The row group in work; `None` between two.
    group: Option<Group>,
    rows: u64,
}

/// What a column is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Worth {
    dictionary: bool,
    compression: bool,
}

impl Worth {
    /// Nothing is known of the column.
    fn unknown(data_type: &DataType) -> Worth {
        let float = matches!(data_type, DataType::Float64 | DataType::Float32);
        Worth { dictionary: !float, compression: true }
    }

    /// What a row group has shown of a column of words that are `width` bytes wide.
    fn shown(self, chunk: &ColumnChunkMetaData, width: usize) -> Worth {
        let nulls = chunk.statistics().and_then(|of| of.null_count_opt()).unwrap_or(0) as i64;
        let plain = (chunk.num_values() - nulls) * width as i64;
        let (before, after) = (chunk.uncompressed_size(), chunk.compressed_size());
        Worth {
            // A dictionary that was given up has cost its own bytes.
            dictionary: self.dictionary && before < plain,
            compression: self.compression && (before < plain || after < before / 16 * 15),
        }
    }
}

/// How row groups are written.
fn properties(schema: &SchemaRef, worth: &[Worth]) -> WriterProperties {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_data_page_row_count_limit(BLOCK_ROWS);
    for (field, worth) in schema.fields().iter().zip(worth) {
        let column = ColumnPath::new(vec![field.name().clone()]);
        properties = properties.set_column_dictionary_enabled(column.clone(), worth.dictionary);
        if !worth.compression {
            properties = properties.set_column_compression(column, Compression::UNCOMPRESSED);
        }
    }
    properties.build()
}

/// A row group in work.
struct Group {
    /// For each column of the schema, the encoders of its leaves: one, as rows are flat, unless a key is nested.
    columns: Vec<Vec<ArrowColumnWriter>>,
    rows: usize,
}

impl ParquetSink {
    pub(super) fn open(path: Option<&Path>, schema: &SchemaRef) -> Result<Self> {
        Self::to(Writer::open(path)?, schema)
    }

    /// Into what is open already.
    pub(super) fn to(writer: Writer, schema: &SchemaRef) -> Result<Self> {
        let worth: Vec<Worth> = schema.fields().iter().map(|field| Worth::unknown(field.data_type())).collect();
        let out = Buffered::new(writer);
        let (file, factory) = ArrowWriter::try_new(out, schema.clone(), Some(properties(schema, &worth)))
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(|e| Error::usage(format!("these columns cannot be written as Parquet: {e}")))?;
        let left = Blocks::default();
        Ok(ParquetSink { file, factory, schema: schema.clone(), worth, left, group: None, rows: 0 })
    }

    /// What columns are worth in the next row groups, after this one.
    fn learn(&mut self, shown: &RowGroupMetaData) -> ParquetResult<()> {
        let fields = self.schema.fields();
        let number = self.file.flushed_row_groups().len();
        let worth: Vec<Worth> = if number.is_multiple_of(AGAIN) {
            fields.iter().map(|field| Worth::unknown(field.data_type())).collect()
        } else if fields.len() == shown.num_columns() {
            let columns = fields.iter().zip(shown.columns()).zip(&self.worth);
            let learnt = |((field, chunk), worth): ((&FieldRef, _), &Worth)| match field.data_type().primitive_width() {
                Some(width @ 8) => worth.shown(chunk, width),
                _ => *worth,
            };
            columns.map(learnt).collect()
        } else {
            return Ok(());
        };
        if worth != self.worth {
            // Only a writer makes what writes row groups.
            let properties = properties(&self.schema, &worth);
            let writer = ArrowWriter::try_new(std::io::sink(), self.schema.clone(), Some(properties))?;
            (self.factory, self.worth) = (writer.into_serialized_writer()?.1, worth);
        }
        Ok(())
    }

    /// Encodes blocks of [`BLOCK_ROWS`] rows; only the last of the output may be shorter.
    fn encode(&mut self, blocks: &[RecordBatch]) -> Result<()> {
        let mut blocks = blocks;
        while !blocks.is_empty() {
            let group = match &mut self.group {
                Some(group) => group,
                none => {
                    let number = self.file.flushed_row_groups().len();
                    let group = Group::new(&self.factory, &self.schema, number);
                    none.insert(group.map_err(|e| failed(&self.file, e))?)
                }
            };
            let until_look = (LOOK_ROWS - group.rows % LOOK_ROWS) / BLOCK_ROWS;
            let (now, later) = blocks.split_at(until_look.min(blocks.len()));
            let full = group.write(&self.schema, now).map_err(|e| failed(&self.file, e))?;
            if full {
                self.end_group()?;
            }
            blocks = later;
        }
        Ok(())
    }

    fn end_group(&mut self) -> Result<()> {
        let Some(group) = self.group.take() else { return Ok(()) };
        let ended = group.end(&mut self.file).and_then(|shown| self.learn(&shown));
        ended.map_err(|e| failed(&self.file, e))
    }
}

impl Group {
    fn new(factory: &ArrowRowGroupWriterFactory, schema: &SchemaRef, number: usize) -> ParquetResult<Self> {
        let mut writers = factory.create_column_writers(number)?.into_iter();
        let columns =
            schema.fields().iter().map(|field| writers.by_ref().take(leaves(field.data_type())).collect()).collect();
        Ok(Group { columns, rows: 0 })
    }

    /// Encodes blocks, each column on its own; says whether the row group is full.
    fn write(&mut self, schema: &SchemaRef, blocks: &[RecordBatch]) -> ParquetResult<bool> {
        let column = |number: usize, writers: &mut Vec<ArrowColumnWriter>| -> ParquetResult<()> {
            let field = schema.field(number);
            for block in blocks {
                let leaves = compute_leaves(field, &plain(block.column(number)))?;
                for (leaf, writer) in leaves.iter().zip(&mut *writers) {
                    writer.write(leaf)?;
                }
            }
            Ok(())
        };
        self.columns
            .par_iter_mut()
            .enumerate()
            .with_max_len(1)
            .try_for_each(|(number, writers)| column(number, writers))?;
        self.rows += blocks.iter().map(RecordBatch::num_rows).sum::<usize>();
        let writers = self.columns.iter().flatten();
        let bytes: usize = writers.map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        let looked = self.rows.is_multiple_of(LOOK_ROWS);
        Ok(self.rows >= GROUP_ROWS || (looked && bytes >= GROUP_BYTES))
    }

    /// Completes the columns, in parallel (their last pages are compressed now), and writes them out.
    fn end(self, file: &mut SerializedFileWriter<Buffered>) -> ParquetResult<Arc<RowGroupMetaData>> {
        let writers: Vec<ArrowColumnWriter> = self.columns.into_iter().flatten().collect();
        let chunks = writers.into_par_iter().map(ArrowColumnWriter::close);
        let chunks = chunks.collect::<ParquetResult<Vec<_>>>()?;
        let mut group = file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()
    }
}

/// How many Parquet columns a column becomes.
fn leaves(data_type: &DataType) -> usize {
    match data_type {
        DataType::Struct(fields) => fields.iter().map(|f| leaves(f.data_type())).sum(),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => leaves(field.data_type()),
        _ => 1,
    }
}

/// The column without a bitmap that marks no null: the encoder would cut its pages differently for it.
fn plain(column: &ArrayRef) -> ArrayRef {
    match column.nulls() {
        Some(nulls) if nulls.null_count() == 0 => match column.to_data().into_builder().nulls(None).build() {
            Ok(data) => arrow_array::make_array(data),
            Err(_) => column.clone(),
        },
        _ => column.clone(),
    }
}

impl Sink for ParquetSink {
    fn write(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        self.file.inner().writer().check()?;
        if self.closed() {
            return Ok(());
        }
        for batch in batches {
            self.rows += batch.num_rows() as u64;
            self.left.push(batch);
        }
        let mut blocks = Vec::new();
        while let Some(block) = self.left.next(BLOCK_ROWS)? {
            blocks.push(block);
        }
        self.encode(&blocks)?;
        self.file.inner().writer().check()
    }

    fn bytes(&self) -> u64 {
        let open = self.group.iter().flat_map(|group| group.columns.iter().flatten());
        let open: usize = open.map(ArrowColumnWriter::get_estimated_total_bytes).sum();
        self.file.bytes_written() as u64 + open as u64
    }

    fn closed(&self) -> bool {
        self.file.inner().writer().closed()
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary> {
        self.file.inner().writer().check()?;
        if let Some(block) = self.left.next(self.left.rows)? {
            self.encode(&[block])?;
        }
        self.end_group()?;
        let ended = self.file.finish();
        ended.map_err(|e| failed(&self.file, e))?;
        let written = self.file.inner_mut().finish()?;
        Ok(SinkSummary { rows: self.rows, bytes: written.bytes, checksum: None, closed_pipe: written.closed_pipe })
    }
}

/// The writer's own error if there is one, else the encoder's.
fn failed(file: &SerializedFileWriter<Buffered>, error: ParquetError) -> Error {
    let writer = file.inner().writer();
    writer.check().err().unwrap_or_else(|| {
        let name = writer.name().display();
        Error::output(format!("cannot write the output {name} as Parquet: {error}"))
    })
}
