//! Parquet: snappy, row groups of 1 Mi rows, the columns of a row group encoded in parallel.
//!
//! Invariant: the file is a function of the rows. The encoder decides about pages and dictionaries at the end of
//! each call, so it is called with blocks of exactly [`BLOCK_ROWS`] rows counted from the start of the output,
//! however the rows were cut into batches: a block inside one batch is a slice, one across batches is copied.
//!
//! Encodings: instants and integers go through a dictionary (windows repeat their bounds, keys repeat, counts are
//! small; the encoder gives up by itself where they do not), text too; floats are plain: sums hardly repeat, and
//! hashing each of them for a dictionary that is thrown away costs more than all the rest.
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
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::Compression;
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use rayon::prelude::*;
use std::path::Path;

/// Rows of one call of an encoder, and of a page.
const BLOCK_ROWS: usize = if cfg!(test) { 1 << 10 } else { 16 << 10 };

/// Rows of a row group.
const GROUP_ROWS: usize = if cfg!(test) { 40 << 10 } else { 1 << 20 };

/// Encoded bytes after which a row group ends early (long texts).
const GROUP_BYTES: usize = if cfg!(test) { 500 << 10 } else { 128 << 20 };

/// Rows of a row group after which its bytes are looked at.
const LOOK_ROWS: usize = 8 * BLOCK_ROWS;

/// Writes Parquet to a file, a device or standard output.
pub(super) struct ParquetSink {
    file: SerializedFileWriter<Buffered>,
    factory: ArrowRowGroupWriterFactory,
    schema: SchemaRef,
    /// Rows that do not make a block yet.
    left: Blocks,
    /// The row group in work; `None` between two.
    group: Option<Group>,
    rows: u64,
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
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .set_data_page_row_count_limit(BLOCK_ROWS);
        for field in schema.fields() {
            if matches!(field.data_type(), DataType::Float64 | DataType::Float32) {
                let column = ColumnPath::new(vec![field.name().clone()]);
                properties = properties.set_column_dictionary_enabled(column, false);
            }
        }
        let out = Buffered::new(writer);
        let (file, factory) = ArrowWriter::try_new(out, schema.clone(), Some(properties.build()))
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(|e| Error::usage(format!("these columns cannot be written as Parquet: {e}")))?;
        let left = Blocks::default();
        Ok(ParquetSink { file, factory, schema: schema.clone(), left, group: None, rows: 0 })
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
        let ended = group.end(&mut self.file);
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
    fn end(self, file: &mut SerializedFileWriter<Buffered>) -> ParquetResult<()> {
        let writers: Vec<ArrowColumnWriter> = self.columns.into_iter().flatten().collect();
        let chunks = writers.into_par_iter().map(ArrowColumnWriter::close);
        let chunks = chunks.collect::<ParquetResult<Vec<_>>>()?;
        let mut group = file.next_row_group()?;
        for chunk in chunks {
            chunk.append_to_row_group(&mut group)?;
        }
        group.close()?;
        Ok(())
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
