//! Partitioned logs: numbered partitions, each read from an offset that its source alone understands.
//!
//! The stream keeps the offset of every partition it has met, reads from there when a batch is due, and hands back the
//! offsets of a batch once that batch is done, or where the context is saved once a checkpoint holds it. A partition that
//! goes away (to another reader) and comes back is read on from where this stream was, so that each record is in exactly
//! one batch, within one life of the context or, with checkpoints, in all of them.

use super::resume::{Resume, Takes, from_bytes, to_bytes};
use super::throttle::Throttle;
use crate::stream::context::Switch;
use crate::stream::journal::Journal;
use crate::stream::listener::BatchInfo;
use crate::stream::scheduler::{Input, lock};
use crate::stream::{Batch, DStream, Data, StreamingContext};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A place in a partition. Only the source that gave it knows what it means.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Offset(pub Vec<u8>);

/// Records of a partition, and the offset after the last of them.
#[derive(Debug, Clone)]
pub struct Chunk<T> {
    /// The records, in order.
    pub records: Vec<T>,
    /// From where to read on.
    pub next: Offset,
}

/// A log of numbered partitions that can be read from any offset it has given.
pub trait Source: Send + 'static {
    /// What it holds.
    type Record: Data;

    /// The partitions that are to be read now, each with the offset from which to read if the stream has none of its
    /// own: where the last commit was, or the beginning.
    ///
    /// # Errors
    /// Makes the batch fail.
    fn partitions(&mut self) -> Result<Vec<(u32, Offset)>>;

    /// At most `limit` records of `partition` from `from` on; fewer, or none, if there are no more yet. After a restart
    /// `from` may be any offset since the last commit, also of a partition that has not been listed.
    ///
    /// # Errors
    /// Makes the batch fail; what was read for it is read again.
    fn read(&mut self, partition: u32, from: &Offset, limit: usize) -> Result<Chunk<Self::Record>>;

    /// Everything before these offsets has been dealt with; where the context is saved, a checkpoint says so.
    ///
    /// # Errors
    /// Makes the batch fail, which by then is done, or ends a context that is saved.
    fn commit(&mut self, offsets: &BTreeMap<u32, Offset>) -> Result<()>;
}

/// How a source is read.
#[derive(Debug, Clone, Copy)]
pub struct SourceOptions {
    limit: usize,
}

impl Default for SourceOptions {
    /// At most 1,000,000 records of each partition in a batch.
    fn default() -> Self {
        SourceOptions { limit: 1_000_000 }
    }
}

impl SourceOptions {
    /// The most records of each partition in a batch, at least one.
    #[must_use]
    pub fn records_per_batch(mut self, records: usize) -> Self {
        self.limit = records.max(1);
        self
    }
}

struct State<S> {
    source: S,
    offsets: BTreeMap<u32, Offset>,
    /// Offsets after each batch that is not done.
    open: VecDeque<(u64, BTreeMap<u32, Offset>)>,
    takes: Takes,
}

/// What a batch took of a partition.
#[derive(Serialize, Deserialize)]
struct Stretch {
    partition: u32,
    from: Offset,
    next: Offset,
    records: u64,
}

struct Reader<S> {
    state: Mutex<State<S>>,
    limit: usize,
    throttle: Arc<Throttle>,
    /// Whether the last batch was full somewhere.
    full: AtomicBool,
    switch: Switch,
    /// Whether offsets are committed when a checkpoint holds them.
    saved: AtomicBool,
}

impl<S: Source> Reader<S> {
    /// One vector per partition.
    fn read(&self, k: u64) -> Result<Vec<Vec<S::Record>>> {
        let mut state = lock(&self.state);
        let State { source, offsets, open, takes } = &mut *state;
        let mut after = offsets.clone();
        let (mut all, mut full, mut stretches) = (Vec::new(), false, Vec::new());
        if let Some(taken) = takes.again() {
            let taken = taken.as_deref().map(from_bytes::<Vec<Stretch>>).transpose()?.unwrap_or_default();
            for stretch in taken {
                all.push(reread(source, &stretch)?);
                after.insert(stretch.partition, stretch.next);
            }
            *offsets = after.clone();
            open.push_back((k, after));
            return Ok(all);
        }
        let partitions = source.partitions()?;
        // What one partition leaves of the limit is for the others.
        let (mut allowed, mut others) = (self.throttle.per_batch(), partitions.len());
        for (partition, from) in partitions {
            let from = after.entry(partition).or_insert(from);
            let share = allowed.map_or(usize::MAX, |allowed| allowed.div_ceil(others.max(1)));
            let limit = self.limit.min(share);
            if limit == 0 {
                full = true;
                continue;
            }
            let chunk = source.read(partition, from, limit)?;
            full |= chunk.records.len() >= limit;
            others -= 1;
            allowed = allowed.map(|allowed| allowed.saturating_sub(chunk.records.len()));
            let (records, next) = (chunk.records.len() as u64, chunk.next.clone());
            stretches.push(Stretch { partition, from: std::mem::replace(from, chunk.next), next, records });
            all.push(chunk.records);
        }
        takes.note(&stretches)?;
        // Only now: had a partition failed, all would be read again.
        *offsets = after.clone();
        open.push_back((k, after));
        self.full.store(full, Ordering::Relaxed);
        self.throttle.note(k, all.iter().map(|part| part.len() as u64).sum());
        Ok(all)
    }
}

/// Reads what a batch took before.
fn reread<S: Source>(source: &mut S, stretch: &Stretch) -> Result<Vec<S::Record>> {
    let (mut records, mut from) = (Vec::new(), stretch.from.clone());
    while (records.len() as u64) < stretch.records {
        let chunk = source.read(stretch.partition, &from, stretch.records as usize - records.len())?;
        if chunk.records.is_empty() {
            return Err(Error::input(format!(
                "partition {} no longer has the records that the batch held before the restart",
                stretch.partition
            )));
        }
        records.extend(chunk.records);
        from = chunk.next;
    }
    Ok(records)
}

impl<S: Source> Reader<S> {
    /// Everything up to batch `k` has been dealt with.
    fn commit(&self, k: u64) -> Result<()> {
        let mut state = lock(&self.state);
        let mut done = None;
        while state.open.front().is_some_and(|(number, _)| *number <= k) {
            done = state.open.pop_front();
        }
        done.map_or(Ok(()), |(_, offsets)| state.source.commit(&offsets))
    }
}

impl<S: Source> Input for Reader<S> {
    fn start(&self) -> Result<()> {
        Ok(())
    }

    fn stop(&self) {
        self.switch.set();
    }

    fn has_more(&self) -> bool {
        // What the log holds will be there after a restart.
        !self.switch.is_set() && self.full.load(Ordering::Relaxed)
    }

    fn observe(&self, k: u64, batch: &BatchInfo, end: Duration) {
        self.throttle.learn(k, batch, end);
    }

    fn limit(&self) -> Option<u64> {
        self.throttle.limit()
    }

    fn completed(&self, k: u64) -> Result<()> {
        if self.saved.load(Ordering::Relaxed) { Ok(()) } else { self.commit(k) }
    }

    fn resume(&self) -> std::result::Result<&dyn Resume, &'static str> {
        Ok(self)
    }
}

impl<S: Source> Resume for Reader<S> {
    fn taken(&self) -> Option<Vec<u8>> {
        lock(&self.state).takes.taken()
    }

    fn retake(&self, taken: Option<Vec<u8>>) {
        lock(&self.state).takes.retake(taken);
    }

    fn position(&self) -> Result<Vec<u8>> {
        to_bytes(&lock(&self.state).offsets)
    }

    fn restore(&self, position: &[u8], limit: Option<u64>) -> Result<()> {
        lock(&self.state).offsets = from_bytes(position)?;
        self.throttle.restore(limit);
        Ok(())
    }

    fn saved(&self, k: u64) -> Result<()> {
        self.commit(k)
    }

    fn log_to(&self, _: &Arc<Journal>, _: u32) {
        self.saved.store(true, Ordering::Relaxed);
    }
}

impl StreamingContext {
    /// The records of a partitioned log, in as many partitions as it has.
    pub fn source_stream<S: Source>(&self, source: S, options: SourceOptions) -> DStream<S::Record> {
        let reader = Arc::new(Reader {
            state: Mutex::new(State {
                source,
                offsets: BTreeMap::new(),
                open: VecDeque::new(),
                takes: Takes::default(),
            }),
            limit: options.limit,
            throttle: self.throttle(),
            full: AtomicBool::new(false),
            switch: Switch::default(),
            saved: AtomicBool::new(false),
        });
        let (exec, received) = (self.core.exec.clone(), self.core.received.clone());
        self.input("source_stream", Some(reader.clone()), move |k| {
            let parts = reader.read(k)?;
            received.fetch_add(parts.iter().map(|part| part.len() as u64).sum(), Ordering::Relaxed);
            let parts = parts.into_iter().map(|part| Batch::of(&exec, part, 1));
            Ok(Some(Batch::union_all(&exec, parts)))
        })
    }
}

/// The lines of text files that others append to: partition `i` is file `i`, an offset is a byte position.
///
/// A line is a record once its newline is there. A file that is not there yet is empty; one that became shorter is read
/// from its beginning.
#[derive(Debug, Clone)]
pub struct TailSource {
    files: Vec<PathBuf>,
}

impl TailSource {
    /// The lines of `files`, from their beginnings.
    pub fn new(files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        TailSource { files: files.into_iter().map(Into::into).collect() }
    }
}

impl Source for TailSource {
    type Record = String;

    fn partitions(&mut self) -> Result<Vec<(u32, Offset)>> {
        Ok((0..self.files.len() as u32).map(|i| (i, Offset(0u64.to_le_bytes().to_vec()))).collect())
    }

    fn read(&mut self, partition: u32, from: &Offset, limit: usize) -> Result<Chunk<String>> {
        let path = &self.files[partition as usize];
        let failed = |e| Error::input("the file cannot be read").in_file(path).because(e);
        let bytes = from.0.as_slice().try_into().map_err(|_| Error::input("the offset is not one of this source"))?;
        let mut at = u64::from_le_bytes(bytes);
        let mut records = Vec::new();
        match File::open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
            Ok(mut file) => {
                if file.metadata().map_err(failed)?.len() < at {
                    at = 0;
                }
                file.seek(SeekFrom::Start(at)).map_err(failed)?;
                let mut file = BufReader::with_capacity(1 << 18, file);
                let mut line = Vec::new();
                while records.len() < limit {
                    line.clear();
                    let read = file.read_until(b'\n', &mut line).map_err(failed)?;
                    if line.last() != Some(&b'\n') {
                        break;
                    }
                    at += read as u64;
                    records.push(super::directory::text_of(&line));
                }
            }
        }
        Ok(Chunk { records, next: Offset(at.to_le_bytes().to_vec()) })
    }

    fn commit(&mut self, _: &BTreeMap<u32, Offset>) -> Result<()> {
        Ok(())
    }
}
