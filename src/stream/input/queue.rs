//! Batches that a program pushes, and records of an iterator so many per batch.

use super::resume::{Resume, Takes, from_bytes, to_bytes};
use crate::stream::context::Switch;
use crate::stream::scheduler::{Input, lock};
use crate::stream::{Batch, DStream, Data, StreamingContext};
use crate::{Error, Result};
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// Datasets that wait to become batches of a [queue stream](StreamingContext::queue_stream). Clones are the same queue.
///
/// It grows as the program pushes; nothing else does.
pub struct BatchQueue<T>(Arc<Mutex<VecDeque<Entry<T>>>>);

enum Entry<T> {
    Records(Vec<T>),
    Batch(Batch<T>),
}

impl<T> Clone for BatchQueue<T> {
    fn clone(&self) -> Self {
        BatchQueue(self.0.clone())
    }
}

impl<T> Default for BatchQueue<T> {
    fn default() -> Self {
        BatchQueue(Arc::default())
    }
}

impl<T> std::fmt::Debug for BatchQueue<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BatchQueue").field("waiting", &lock(&self.0).len()).finish()
    }
}

impl<T: Data> BatchQueue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the records of one dataset.
    pub fn push(&self, records: Vec<T>) {
        lock(&self.0).push_back(Entry::Records(records));
    }

    /// Adds a dataset.
    pub fn push_batch(&self, batch: Batch<T>) {
        lock(&self.0).push_back(Entry::Batch(batch));
    }

    /// Datasets that wait.
    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }

    /// Whether no dataset waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Data> From<Vec<Vec<T>>> for BatchQueue<T> {
    fn from(batches: Vec<Vec<T>>) -> Self {
        BatchQueue(Arc::new(Mutex::new(batches.into_iter().map(Entry::Records).collect())))
    }
}

impl<T: Data> Input for BatchQueue<T> {
    fn start(&self) -> Result<()> {
        Ok(())
    }

    fn stop(&self) {}

    fn has_more(&self) -> bool {
        !self.is_empty()
    }

    fn resume(&self) -> std::result::Result<&dyn Resume, &'static str> {
        Err(
            "its datasets are in the memory of the program that pushes them, and gone with it; implement Source, or use \
             receiver_stream_logged, which logs what it is given",
        )
    }
}

impl StreamingContext {
    /// The datasets of a queue, one per batch; batches without records while the queue is empty.
    pub fn queue_stream<T: Data>(&self, queue: impl Into<BatchQueue<T>>) -> DStream<T> {
        self.queue_of(queue.into(), true)
    }

    /// The datasets of a queue, in each batch all that wait.
    pub fn queue_stream_all<T: Data>(&self, queue: impl Into<BatchQueue<T>>) -> DStream<T> {
        self.queue_of(queue.into(), false)
    }

    fn queue_of<T: Data>(&self, queue: BatchQueue<T>, one_at_a_time: bool) -> DStream<T> {
        let (exec, received) = (self.core.exec.clone(), self.core.received.clone());
        let control: Arc<dyn Input> = Arc::new(queue.clone());
        self.input("queue_stream", Some(control), move |_| {
            let some: Vec<_> = {
                let mut queue = lock(&queue.0);
                let n = if one_at_a_time { queue.len().min(1) } else { queue.len() };
                queue.drain(..n).collect()
            };
            let mut batches: Vec<_> = some
                .into_iter()
                .map(|entry| match entry {
                    Entry::Records(records) => {
                        received.fetch_add(records.len() as u64, Ordering::Relaxed);
                        Batch::of(&exec, records, exec.partitions)
                    }
                    Entry::Batch(batch) => batch,
                })
                .collect();
            Ok(Some(match batches.len() {
                0 => Batch::empty(&exec),
                1 => batches.swap_remove(0),
                _ => Batch::union_all(&exec, batches),
            }))
        })
    }

    /// The records of an iterator, `per_batch` in each batch until it ends.
    ///
    /// It runs when a batch is due, and ends early when the context stops. A context that goes on from a checkpoint skips
    /// the records that were taken before: the iterator has to begin as it did, and give the same records.
    pub fn iterator_stream<T: Data, I>(&self, records: I, per_batch: usize) -> DStream<T>
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        let state = Arc::new(Iterated {
            rest: Mutex::new(Rest { records: Some(records.into_iter()), taken: 0, takes: Takes::default() }),
            per_batch: per_batch as u64,
            switch: Switch::default(),
        });
        let (exec, received) = (self.core.exec.clone(), self.core.received.clone());
        self.input("iterator_stream", Some(state.clone()), move |_| {
            let some: Vec<T> = state.next()?;
            received.fetch_add(some.len() as u64, Ordering::Relaxed);
            Ok(Some(Batch::of(&exec, some, exec.partitions)))
        })
    }
}

struct Iterated<I> {
    rest: Mutex<Rest<I>>,
    per_batch: u64,
    switch: Switch,
}

struct Rest<I> {
    /// None when it has ended.
    records: Option<I>,
    taken: u64,
    takes: Takes,
}

impl<I: Iterator> Iterated<I> {
    fn next(&self) -> Result<Vec<I::Item>> {
        let mut rest = lock(&self.rest);
        let wanted = match rest.takes.again() {
            None => self.per_batch,
            Some(None) => return Ok(Vec::new()),
            Some(Some(taken)) => from_bytes(&taken)?,
        };
        let some: Vec<_> = rest.records.iter_mut().flat_map(|all| all.by_ref().take(wanted as usize)).collect();
        let count = some.len() as u64;
        if count < wanted {
            rest.records = None;
        }
        rest.taken += count;
        rest.takes.note(&count)?;
        Ok(some)
    }
}

impl<I: Iterator + Send> Input for Iterated<I> {
    fn start(&self) -> Result<()> {
        Ok(())
    }

    fn stop(&self) {
        self.switch.set();
    }

    fn has_more(&self) -> bool {
        // An endless iterator would keep a graceful stop from ending.
        !self.switch.is_set() && lock(&self.rest).records.is_some()
    }

    fn resume(&self) -> std::result::Result<&dyn Resume, &'static str> {
        Ok(self)
    }
}

impl<I: Iterator + Send> Resume for Iterated<I> {
    fn taken(&self) -> Option<Vec<u8>> {
        lock(&self.rest).takes.taken()
    }

    fn retake(&self, taken: Option<Vec<u8>>) {
        lock(&self.rest).takes.retake(taken);
    }

    fn position(&self) -> Result<Vec<u8>> {
        to_bytes(&lock(&self.rest).taken)
    }

    fn restore(&self, position: &[u8], _: Option<u64>) -> Result<()> {
        let mut rest = lock(&self.rest);
        rest.taken = from_bytes(position)?;
        if let Some(last) = rest.taken.checked_sub(1)
            && rest.records.as_mut().and_then(|records| records.nth(last as usize)).is_none()
        {
            return Err(Error::input("the iterator ends before the records that were taken from it"));
        }
        Ok(())
    }
}

impl<T: Data> From<&BatchQueue<T>> for BatchQueue<T> {
    fn from(queue: &BatchQueue<T>) -> Self {
        queue.clone()
    }
}
