//! Arrow IPC, the file format: blocks of [`BLOCK_ROWS`] rows, not compressed, text keys as plain text.
//!
//! Invariant: the file is a function of the rows, however they were cut into batches.

use super::blocks::Blocks;
use super::writer::{Buffered, Writer};
use super::{Sink, SinkSummary};
use crate::{Error, Result};
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_cast::cast;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, SchemaRef};
use std::path::Path;

/// Rows of a record batch in the file.
const BLOCK_ROWS: usize = if cfg!(test) { 1 << 10 } else { 64 << 10 };

/// Writes Arrow IPC to a file, a device or standard output.
pub(super) struct ArrowSink {
    file: FileWriter<Buffered>,
    schema: SchemaRef,
    left: Blocks,
    rows: u64,
}

/// The rows in the types of `schema`: dictionaries differ from block to block, and which entries they hold depends on the
/// batches.
pub(super) fn plain(block: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = block.columns().iter().zip(schema.fields());
    let columns: Vec<ArrayRef> =
        columns
            .map(|(column, field)| {
                if column.data_type() == field.data_type() {
                    Ok(column.clone())
                } else {
                    cast(column, field.data_type())
                }
            })
            .collect::<Result<_, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(block.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

impl ArrowSink {
    pub(super) fn open(path: Option<&Path>, schema: &SchemaRef) -> Result<Self> {
        Self::to(Writer::open(path)?, schema)
    }

    /// Into what is open already.
    pub(super) fn to(writer: Writer, schema: &SchemaRef) -> Result<Self> {
        let out = Buffered::new(writer);
        let file = FileWriter::try_new(out, schema)
            .map_err(|e| Error::usage(format!("these columns cannot be written as Arrow: {e}")))?;
        Ok(ArrowSink { file, schema: schema.clone(), left: Blocks::default(), rows: 0 })
    }

    fn block(&mut self, block: &RecordBatch) -> Result<()> {
        let block = plain(block, &self.schema)?;
        let written = self.file.write(&block);
        written.map_err(|e| self.failed(&e))
    }

    /// The writer's own error if there is one, else the encoder's.
    fn failed(&self, error: &ArrowError) -> Error {
        let writer = self.file.get_ref().writer();
        writer.check().err().unwrap_or_else(|| {
            let name = writer.name().display();
            Error::output(format!("cannot write the output {name} as Arrow: {error}"))
        })
    }
}

impl Sink for ArrowSink {
    fn write(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        self.file.get_ref().writer().check()?;
        if self.closed() {
            return Ok(());
        }
        for batch in batches {
            self.rows += batch.num_rows() as u64;
            self.left.push(batch);
        }
        while let Some(block) = self.left.next(BLOCK_ROWS)? {
            self.block(&block)?;
        }
        self.file.get_ref().writer().check()
    }

    fn bytes(&self) -> u64 {
        self.file.get_ref().writer().bytes()
    }

    fn closed(&self) -> bool {
        self.file.get_ref().writer().closed()
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary> {
        self.file.get_ref().writer().check()?;
        if let Some(block) = self.left.next(self.left.rows)? {
            self.block(&block)?;
        }
        let ended = self.file.finish();
        ended.map_err(|e| self.failed(&e))?;
        let written = self.file.get_mut().finish()?;
        Ok(SinkSummary { rows: self.rows, bytes: written.bytes, checksum: None, closed_pipe: written.closed_pipe })
    }
}
