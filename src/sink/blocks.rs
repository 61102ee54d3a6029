//! Rows cut anew: outputs that decide something per call are called with the same blocks however the rows arrived.

use crate::Result;
use arrow_array::{Array, RecordBatch, RecordBatchOptions};

/// Rows that arrived in batches of any size and leave in blocks of one.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    batches: std::collections::VecDeque<RecordBatch>,
    /// Rows that are held.
    pub(super) rows: usize,
}

impl Blocks {
    /// Takes the rows of `batch`.
    pub(super) fn push(&mut self, batch: RecordBatch) {
        if batch.num_rows() > 0 {
            self.rows += batch.num_rows();
            self.batches.push_back(batch);
        }
    }

    /// The next `rows` rows, if there are so many (and any).
    pub(super) fn next(&mut self, rows: usize) -> Result<Option<RecordBatch>> {
        if rows == 0 || self.rows < rows {
            return Ok(None);
        }
        let mut parts = Vec::new();
        let mut missing = rows;
        while missing > 0
            && let Some(batch) = self.batches.pop_front()
        {
            let take = missing.min(batch.num_rows());
            if take < batch.num_rows() {
                self.batches.push_front(batch.slice(take, batch.num_rows() - take));
            }
            parts.push(batch.slice(0, take));
            missing -= take;
        }
        self.rows -= rows;
        if parts.len() == 1 && rows.is_multiple_of(8) {
            return Ok(parts.pop());
        }
        // The bits behind the last row of a slice are those of the rows that follow it; a copy has none.
        let Some(first) = parts.first().cloned() else { return Ok(None) };
        parts.push(first.slice(0, 0));
        let columns = (0..first.num_columns()).map(|number| {
            let columns: Vec<&dyn Array> = parts.iter().map(|p| p.column(number).as_ref()).collect();
            arrow_select::concat::concat(&columns)
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(Some(RecordBatch::try_new_with_options(first.schema(), columns, &options)?))
    }
}
