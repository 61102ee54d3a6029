//! Batches that a program pushes, and records of an iterator so many per batch.

use crate::stream::context::Switch;
use crate::stream::scheduler::{Input, lock};
use crate::stream::{Batch, DStream, Data, StreamingContext};
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
    fn start(&self) -> crate::Result<()> {
        Ok(())
    }

    fn stop(&self) {}

    fn has_more(&self) -> bool {
        !self.is_empty()
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
    /// It runs when a batch is due, and ends early when the context stops.
    pub fn iterator_stream<T: Data, I>(&self, records: I, per_batch: usize) -> DStream<T>
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
    {
        let state = Arc::new(Iterated { rest: Mutex::new(Some(records.into_iter())), switch: Switch::default() });
        let (exec, received) = (self.core.exec.clone(), self.core.received.clone());
        self.input("iterator_stream", Some(state.clone()), move |_| {
            let mut rest = lock(&state.rest);
            let some: Vec<T> = rest.iter_mut().flat_map(|rest| rest.by_ref().take(per_batch)).collect();
            if some.len() < per_batch {
                *rest = None;
            }
            received.fetch_add(some.len() as u64, Ordering::Relaxed);
            Ok(Some(Batch::of(&exec, some, exec.partitions)))
        })
    }
}

struct Iterated<I> {
    rest: Mutex<Option<I>>,
    switch: Switch,
}

impl<I: Send> Input for Iterated<I> {
    fn start(&self) -> crate::Result<()> {
        Ok(())
    }

    fn stop(&self) {
        self.switch.set();
    }

    fn has_more(&self) -> bool {
        // An endless iterator would keep a graceful stop from ending.
        !self.switch.is_set() && lock(&self.rest).is_some()
    }
}

impl<T: Data> From<&BatchQueue<T>> for BatchQueue<T> {
    fn from(queue: &BatchQueue<T>) -> Self {
        queue.clone()
    }
}
