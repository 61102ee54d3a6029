//! `--having`: which rows of the output leave, by a condition over its columns.
//!
//! It looks at finished rows, window bounds and keys included, and changes neither states nor the ledger.

use super::expr::{Expr, Predicate};
use crate::{Error, Result};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::Schema;
use arrow_select::filter::filter_record_batch;
use rayon::prelude::*;

/// A condition over the columns of a schema.
pub(crate) struct Having {
    predicate: Predicate,
    columns: Vec<usize>,
}

impl Having {
    /// Binds `text` to the columns of `schema`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`]: it does not parse, or does not fit the columns.
    pub(crate) fn new(text: &str, schema: &Schema) -> Result<Having> {
        let known: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
        let bind = || {
            let expr = Expr::parse(text)?;
            let of = |name: &str| known.iter().position(|k| k == name);
            let predicate = expr.bind(&|name| of(name).map(|i| schema.field(i).data_type().clone()), &known)?;
            Ok(Having { predicate, columns: expr.fields().iter().filter_map(|name| of(name)).collect() })
        };
        bind().map_err(|e: Error| Error::usage(format!("--having, over the columns of the output: {e}")))
    }

    /// The rows for which it is true. Runs on the current rayon pool.
    ///
    /// # Errors
    /// Integer arithmetic that leaves 64 bits.
    pub(crate) fn keep(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let kept: Vec<RecordBatch> = batches
            .into_par_iter()
            .map(|batch| {
                let columns: Vec<ArrayRef> = self.columns.iter().map(|i| batch.column(*i).clone()).collect();
                let mask = self.predicate.evaluate(&columns, batch.num_rows())?;
                Ok(filter_record_batch(&batch, &mask)?)
            })
            .collect::<Result<_>>()?;
        Ok(kept.into_iter().filter(|batch| batch.num_rows() > 0).collect())
    }
}
