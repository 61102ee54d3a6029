//! Outputs of one line a row, printed in parallel and written in order.
//!
//! A call's rows are cut into pieces of about [`BUFFER`] bytes; the threads of the current rayon pool take the
//! pieces in order, print each into a reused buffer and pass it to the writer's thread as soon as all before it
//! were passed. In flight: one buffer per thread and the writer's queue, some MiB, whatever the size of a call.

use super::cells::{Cells, Row, Values, supported};
use super::writer::{BUFFER, InOrder, Writer};
use super::{Position, Sink, SinkSummary};
use crate::Result;
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How a row becomes a line.
pub(super) trait Lines: Send + Sync + Sized {
    /// For rows of `schema`; prints what stands before the first row.
    fn new(schema: &SchemaRef, head: &mut Row) -> Self;

    /// Prints the rows of `range`, each with its newline.
    fn print(&self, columns: &[Cells], range: Range<usize>, row: &mut Row);

    /// Bytes of a row beside its values.
    fn overhead(&self, columns: usize) -> usize;
}

/// Rows of a piece at most: short rows are printed in about the time that a task costs to start.
const PIECE_ROWS: usize = if cfg!(test) { 16 } else { 16 << 10 };

/// Writes lines to a file, a device or standard output.
pub(super) struct LineSink<L> {
    lines: L,
    writer: Writer,
    rows: u64,
}

impl<L: Lines> LineSink<L> {
    /// Writes what stands before the first row.
    pub(super) fn new(writer: Writer, schema: &SchemaRef) -> Self {
        let mut head = Row::default();
        let lines = L::new(schema, &mut head);
        writer.send(head.into_bytes());
        LineSink { lines, writer, rows: 0 }
    }
}

impl<L: Lines> LineSink<L> {
    /// Goes on `at` a position, or begins so that it can be gone on with, in what `open` opens behind so many bytes.
    pub(super) fn open_at(
        open: impl FnOnce(u64) -> Result<Writer>,
        schema: &SchemaRef,
        at: Option<&[u8]>,
    ) -> Result<Self> {
        let number =
            |bytes: &[u8], n: usize| bytes.get(n..).and_then(|b| b.first_chunk()).copied().map(u64::from_le_bytes);
        let found = at.and_then(|at| Some((number(at, 0)?, number(at, 8)?)));
        let writer = open(found.map_or(0, |(_, bytes)| bytes))?;
        let mut head = Row::default();
        let lines = L::new(schema, &mut head);
        if found.is_none() {
            writer.send(head.into_bytes());
        }
        Ok(LineSink { lines, writer, rows: found.map_or(0, |(rows, _)| rows) })
    }
}

impl<L: Lines> Sink for LineSink<L> {
    fn position(&mut self) -> Result<Option<Position>> {
        self.writer.flush()?;
        let Some(file) = self.writer.file()? else { return Ok(None) };
        let bytes = [self.rows, self.writer.bytes()].map(u64::to_le_bytes).concat();
        Ok(Some(Position { bytes, file: Some(file) }))
    }

    fn write(&mut self, batches: Vec<RecordBatch>) -> Result<()> {
        self.writer.check()?;
        if self.writer.closed() {
            return Ok(());
        }
        let columns: Vec<Vec<ArrayRef>> =
            batches.iter().map(|batch| batch.columns().iter().map(supported).collect()).collect::<Result<_>>()?;
        let cells: Vec<Vec<Cells>> =
            columns.iter().map(|columns| columns.iter().map(Cells::of).collect()).collect::<Result<_>>()?;
        let mut pieces: Vec<(&[Cells], Range<usize>)> = Vec::new();
        for (batch, cells) in batches.iter().zip(&cells) {
            let rows = batch.num_rows();
            let step = piece_rows(cells, rows, self.lines.overhead(cells.len()));
            pieces.extend((0..rows).step_by(step).map(|at| {
                let end = rows.min(at + step);
                (cells.as_slice(), at..end)
            }));
            self.rows += rows as u64;
        }
        let next = AtomicUsize::new(0);
        let in_order = InOrder::new(&self.writer);
        let work = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((cells, range)) = pieces.get(number) else { break };
                let mut row = Row::over(self.writer.buffer());
                self.lines.print(cells, range.clone(), &mut row);
                in_order.send(number, row.into_bytes());
            }
        };
        let threads = rayon::current_num_threads().min(pieces.len());
        if threads <= 1 {
            work();
        } else {
            rayon::scope(|scope| (0..threads).for_each(|_| scope.spawn(|_| work())));
        }
        self.writer.check()
    }

    fn flush(&mut self) -> Result<()> {
        self.writer.flush()
    }

    fn closed(&self) -> bool {
        self.writer.closed()
    }

    fn finish(mut self: Box<Self>) -> Result<SinkSummary> {
        let written = self.writer.finish()?;
        Ok(SinkSummary { rows: self.rows, bytes: written.bytes, checksum: None, closed_pipe: written.closed_pipe })
    }
}

/// How many rows of these columns make about one buffer.
fn piece_rows(cells: &[Cells], rows: usize, overhead: usize) -> usize {
    let bytes: usize = cells
        .iter()
        .map(|cells| match cells.values {
            Values::Time(_) => rows * 20,
            _ => cells.text_bytes().unwrap_or(rows * 10),
        })
        .sum();
    let bytes = bytes + rows * overhead;
    (BUFFER * rows / bytes.max(1)).clamp(1, PIECE_ROWS)
}
