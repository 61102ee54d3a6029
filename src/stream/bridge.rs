//! Between the faces: record batches of declared queries as streams, streams as the input of declared queries.
//!
//! This is the one file that knows both. A stream of [`RecordBatch`]es is like any other; a [`Query`] over it sees the
//! record batches of one micro-batch, whose schema has to be known when the graph is built.

use super::batch::collect_part;
use super::exec::blame;
use super::part::{BoxPart, Sink};
use super::{Batch, DStream, Data, StreamingContext};
use crate::Result;
use crate::query::{Query, Rows};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::sync::Arc;

impl StreamingContext {
    /// The rows of a declared query, `per_batch` of its record batches in each batch until it ends.
    ///
    /// ```
    /// use windrow::query::{Query, count};
    /// use windrow::stream::{ManualClock, StreamingContext, Time};
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("hits.csv");
    /// std::fs::write(&path, "path,ms\n/a,3\n/b,4\n/a,5\n").unwrap();
    /// let clock = ManualClock::new();
    /// let ctx = StreamingContext::builder().manual_clock(&clock).build()?;
    /// let rows = Query::files([&path]).key("path").aggregate(count()).run()?;
    /// ctx.query_stream(rows, 1).map(|batch| batch.num_rows()).print(10); // 2
    /// ctx.start()?;
    /// ctx.run_until(Time::from_millis(1000))?;
    /// # Ok::<(), windrow::Error>(())
    /// ```
    pub fn query_stream(&self, rows: Rows, per_batch: usize) -> DStream<RecordBatch> {
        let batches = self.iterator_stream(Shared(rows), per_batch);
        batches.each("query_stream", |_, exec| {
            let exec = exec.clone();
            Box::new(move |batch: Batch<Arc<Result<RecordBatch>>>| {
                let n = batch.partitions();
                let again = |result: &Result<RecordBatch>| match result {
                    Ok(batch) => Ok(batch.clone()),
                    Err(e) => Err(crate::Error::new(e.kind(), e.to_string())),
                };
                Batch::staged(&exec, n, move || {
                    let parts = batch.collect_partitions()?.into_iter();
                    parts.map(|part| part.iter().map(|result| again(result)).collect()).collect::<Result<Vec<_>>>()
                })
            })
        })
    }

    /// The rows of a declared query as a batch outside of any stream; the query runs here.
    ///
    /// # Errors
    /// What the query meets.
    pub fn batch_from_query(&self, rows: Rows) -> Result<Batch<RecordBatch>> {
        Ok(self.batch_from(rows.collect::<Result<Vec<_>>>()?))
    }
}

/// Results that can be cloned.
struct Shared(Rows);

impl Iterator for Shared {
    type Item = Arc<Result<RecordBatch>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Arc::new)
    }
}

impl<T: Data> DStream<T> {
    /// One record batch per partition, which `columns` makes of the partition's records: what
    /// [`query`](DStream::query) reads.
    pub fn to_record_batches(
        &self,
        columns: impl Fn(Vec<T>) -> Result<RecordBatch> + Send + Sync + 'static,
    ) -> DStream<RecordBatch> {
        self.pipe("to_record_batches", |label| {
            Arc::new(move |_: usize, part: BoxPart<T>, sink: Sink<'_, RecordBatch>| {
                let records = collect_part(part)?;
                Ok(sink(blame(&label, || columns(records))?))
            })
        })
    }
}

impl DStream<RecordBatch> {
    /// What a declared query says of the record batches of each batch, all of which have `schema`.
    ///
    /// `declare` is given the query over them and adds keys, windows and aggregates. What is wrong with it, every batch
    /// says anew.
    pub fn query(
        &self,
        schema: SchemaRef,
        declare: impl Fn(Query) -> Query + Send + Sync + 'static,
    ) -> DStream<RecordBatch> {
        let declare = Arc::new(declare);
        self.each("query", |label, exec| {
            let (exec, label) = (exec.clone(), label.clone());
            Box::new(move |batch: Batch<RecordBatch>| {
                let (schema, declare, label) = (schema.clone(), declare.clone(), label.clone());
                Batch::staged(&exec, 1, move || {
                    let batches = batch.collect()?;
                    let query = Query::batches(schema, batches.into_iter().map(Ok));
                    let rows = blame(&label, || declare(query)).run()?;
                    Ok(vec![rows.collect::<Result<Vec<_>>>()?])
                })
            })
        })
    }
}
