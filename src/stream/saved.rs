//! What operators keep from batch to batch: how it gets into a checkpoint, and out of it.
//!
//! A state is *captured* when the batch it belongs to is made, which costs a mark; it is copied (or shared) when that batch
//! has been applied, and turned into bytes by the thread that writes checkpoints. It comes as [`Section`]s, lists of rows
//! under two numbers that only the state understands. Rows need a codec, and so the first that asks for serde's traits is
//! [`checkpoint`](super::DStream::checkpoint).

use super::Data;
use super::batch::Batch;
use super::codec::{Codec, Coder};
use super::exec::{Exec, Label};
use super::graph::Node;
use super::ordered::{Apply, Ordered};
use crate::{Error, Result};
use std::sync::{Arc, OnceLock};

/// Who an operator is in a checkpoint: its name, if it was given one, or what it is and its place in the graph.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) label: Label,
    name: OnceLock<String>,
}

impl Identity {
    pub(crate) fn new(label: Label) -> Arc<Identity> {
        Arc::new(Identity { label, name: OnceLock::new() })
    }

    /// Names it; the first name counts.
    pub(crate) fn name(&self, name: String) {
        let _ = self.name.set(name);
    }

    pub(crate) fn id(&self) -> String {
        self.name.get().map_or_else(|| self.label.to_string(), |name| format!("{name:?}"))
    }
}

/// Rows of a state that belong together.
pub(crate) struct Section<R> {
    pub(crate) kind: u32,
    pub(crate) tag: u64,
    rows: Rows<R>,
}

enum Rows<R> {
    Shared(Arc<Vec<R>>),
    /// Made where they are written, from what the state shares or has copied.
    Later(Box<dyn FnOnce() -> Vec<R> + Send>),
}

impl<R: Clone> Section<R> {
    pub(crate) fn new(kind: u32, tag: u64, rows: Vec<R>) -> Self {
        Self::shared(kind, tag, Arc::new(rows))
    }

    pub(crate) fn shared(kind: u32, tag: u64, rows: Arc<Vec<R>>) -> Self {
        Section { kind, tag, rows: Rows::Shared(rows) }
    }

    pub(crate) fn later(kind: u32, tag: u64, rows: impl FnOnce() -> Vec<R> + Send + 'static) -> Self {
        Section { kind, tag, rows: Rows::Later(Box::new(rows)) }
    }

    pub(crate) fn rows(self) -> Vec<R> {
        match self.rows {
            Rows::Shared(rows) => Arc::unwrap_or_clone(rows),
            Rows::Later(make) => make(),
        }
    }

    fn encode(self, codec: &dyn Codec<R>, out: Sections<'_>) -> Result<()>
    where
        R: 'static,
    {
        let (kind, tag) = (self.kind, self.tag);
        let rows = match self.rows {
            Rows::Shared(rows) => rows,
            Rows::Later(make) => Arc::new(make()),
        };
        let mut bytes = Vec::new();
        for row in rows.iter() {
            codec.encode(row, &mut bytes)?;
            if bytes.len() >= BLOCK {
                out(kind, tag, &bytes)?;
                bytes.clear();
            }
        }
        // A section without rows says something, too.
        if bytes.is_empty() && !rows.is_empty() { Ok(()) } else { out(kind, tag, &bytes) }
    }
}

/// A section, or a part of one, as bytes.
pub(crate) struct Stored {
    pub(crate) kind: u32,
    pub(crate) tag: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Takes sections as bytes: kind, tag, rows one behind the other.
pub(crate) type Sections<'a> = &'a mut dyn FnMut(u32, u64, &[u8]) -> Result<()>;

/// Writes a state that was captured; false if there is none to write, because a batch that failed has damaged it.
pub(crate) type Captured = Box<dyn FnOnce(Sections<'_>) -> Result<bool> + Send>;

/// An operator with a state, whatever its rows.
pub(crate) trait Saved: Send + Sync {
    fn identity(&self) -> &Arc<Identity>;

    /// What of it has to be the same for the state to fit.
    fn shape(&self) -> String;

    /// Whether it is known how its rows are written.
    fn is_coded(&self) -> bool;

    /// The state after batch `k`, which is being made; to be written when that batch is done.
    fn capture(&self, k: u64) -> Result<Captured>;

    /// The state after batch `k`, before any batch runs.
    fn restore(&self, k: u64, stored: Vec<Stored>) -> Result<()>;
}

/// As [`Saved`], with rows that are written as those of a stream of `T`.
pub(crate) trait Coded<T>: Saved {
    fn code(&self, codec: Coder<T>);
}

/// Bytes of a block of a section.
const BLOCK: usize = if cfg!(test) { 64 } else { 1 << 20 };

fn decode<R: Clone + 'static>(codec: &dyn Codec<R>, stored: Stored) -> Result<Section<R>> {
    let (mut bytes, mut rows) = (&stored.bytes[..], Vec::new());
    while !bytes.is_empty() {
        rows.push(codec.decode(&mut bytes)?);
    }
    Ok(Section::new(stored.kind, stored.tag, rows))
}

fn uncoded(identity: &Identity) -> Error {
    Error::usage(format!("{} keeps a state and does not say how it is written", identity.label))
}

/// The state behind a keyed operator.
pub(crate) struct KeptState<I, S: Apply<I>> {
    pub(crate) identity: Arc<Identity>,
    pub(crate) shape: String,
    pub(crate) state: Arc<Ordered<I, S>>,
    pub(crate) codec: OnceLock<Coder<S::Kept>>,
}

impl<I: Data, S: Apply<I> + 'static> Saved for KeptState<I, S> {
    fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    fn shape(&self) -> String {
        self.shape.clone()
    }

    fn is_coded(&self) -> bool {
        self.codec.get().is_some()
    }

    fn capture(&self, k: u64) -> Result<Captured> {
        let codec = self.codec.get().ok_or_else(|| uncoded(&self.identity))?.clone();
        let (state, slot) = (self.state.clone(), self.state.save(k));
        Ok(Box::new(move |out| {
            let Some(sections) = state.saved(k, &slot) else { return Ok(false) };
            sections.into_iter().try_for_each(|section| section.encode(&*codec, &mut *out))?;
            Ok(true)
        }))
    }

    fn restore(&self, _: u64, stored: Vec<Stored>) -> Result<()> {
        let codec = self.codec.get().ok_or_else(|| uncoded(&self.identity))?;
        let sections: Result<Vec<_>> = stored.into_iter().map(|stored| decode(&**codec, stored)).collect();
        self.state.restore(sections?)
    }
}

impl<I: Data, S: Apply<I> + 'static> Coded<S::Kept> for KeptState<I, S> {
    fn code(&self, codec: Coder<S::Kept>) {
        let _ = self.codec.set(codec);
    }
}

/// The batches that a window still needs.
pub(crate) struct KeptBatches<T> {
    pub(crate) identity: Arc<Identity>,
    pub(crate) shape: String,
    pub(crate) parent: Arc<Node<T>>,
    /// In intervals.
    pub(crate) window: u64,
    pub(crate) exec: Arc<Exec>,
    pub(crate) codec: OnceLock<Coder<T>>,
}

impl<T: Data> Saved for KeptBatches<T> {
    fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    fn shape(&self) -> String {
        self.shape.clone()
    }

    fn is_coded(&self) -> bool {
        self.codec.get().is_some()
    }

    fn capture(&self, k: u64) -> Result<Captured> {
        let codec = self.codec.get().ok_or_else(|| uncoded(&self.identity))?.clone();
        let window = (k + 1).saturating_sub(self.window)..=k;
        let batches: Result<Vec<_>> = window.map(|j| Ok(self.parent.get(j)?.map(|batch| (j, batch)))).collect();
        Ok(Box::new(move |out| {
            // One that failed has been told of, and leaves the window after a while.
            let Ok(batches) = batches else { return Ok(false) };
            for (j, batch) in batches.into_iter().flatten() {
                // Kept, and so evaluated once whoever asks.
                let Ok(records) = batch.collect() else { return Ok(false) };
                Section::new(0, j, records).encode(&*codec, &mut *out)?;
            }
            Ok(true)
        }))
    }

    fn restore(&self, _: u64, stored: Vec<Stored>) -> Result<()> {
        let codec = self.codec.get().ok_or_else(|| uncoded(&self.identity))?;
        let mut batches: std::collections::BTreeMap<u64, Vec<T>> = std::collections::BTreeMap::new();
        for stored in stored {
            let section = decode(&**codec, stored)?;
            batches.entry(section.tag).or_default().extend(section.rows());
        }
        for (j, records) in batches {
            self.parent.put(j, Batch::of(&self.exec, records, self.exec.partitions));
        }
        Ok(())
    }
}

impl<T: Data> Coded<T> for KeptBatches<T> {
    fn code(&self, codec: Coder<T>) {
        // Whoever writes a batch and whoever reads it in a window get the same evaluation.
        self.parent.persist();
        let _ = self.codec.set(codec);
    }
}

/// A state whose rows are values under no key.
pub(crate) struct Unkeyed<T>(pub(crate) Arc<dyn Coded<((), T)>>);

/// The codec of a value, for the value under no key.
struct NoKey<T>(Coder<T>);

impl<T: Data> Codec<((), T)> for NoKey<T> {
    fn encode(&self, record: &((), T), out: &mut Vec<u8>) -> Result<()> {
        self.0.encode(&record.1, out)
    }

    fn decode(&self, bytes: &mut &[u8]) -> Result<((), T)> {
        self.0.decode(bytes).map(|value| ((), value))
    }
}

impl<T: Data> Saved for Unkeyed<T> {
    fn identity(&self) -> &Arc<Identity> {
        self.0.identity()
    }

    fn shape(&self) -> String {
        self.0.shape()
    }

    fn is_coded(&self) -> bool {
        self.0.is_coded()
    }

    fn capture(&self, k: u64) -> Result<Captured> {
        self.0.capture(k)
    }

    fn restore(&self, k: u64, stored: Vec<Stored>) -> Result<()> {
        self.0.restore(k, stored)
    }
}

impl<T: Data> Coded<T> for Unkeyed<T> {
    fn code(&self, codec: Coder<T>) {
        self.0.code(Arc::new(NoKey(codec)));
    }
}
