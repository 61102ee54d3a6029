//! How a context saves itself, and goes on in another life of the program.
//!
//! A checkpoint is the state of every operator and the position of every input after one batch. It is captured when that
//! batch is made, and written, by a thread of its own, when all batches up to it are done; if the one before is still being
//! written, it waits, and gives way to the next. What each batch takes from its inputs is logged before the batch runs, so
//! that the batches after a checkpoint can be run again as they were: states are exactly-once, outputs at-least-once, each
//! time with the same records under the same time.
//!
//! ```text
//! DIR/lock, DIR/manifest-0, DIR/manifest-1, DIR/N.state     see `crate::checkpoint::directory`
//! DIR/log/log-START-END                                     see `journal`
//! ```
//!
//! A state is a segment: blocks with the operator's number as their partition, the tag of a section as `first` and `last`,
//! and its kind as `rows`. The manifest's body is a [`Head`].

use super::clock::Clock;
use super::exec::guarded;
use super::graph::Graph;
use super::input::KnownInput;
use super::journal::{Entry, Journal, Taken};
use super::saved::{Captured, Saved, Stored};
use super::scheduler::lock;
use crate::checkpoint::{Directory, LogOptions};
use crate::store::block::{Content, Label};
use crate::store::column::{ColumnRef, Slice};
use crate::store::disk::Disk;
use crate::store::segment::{Segment, SegmentWriter};
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// Of the manifest's body.
const VERSION: u32 = 1;

/// Where a context is to save itself.
pub(crate) struct Request {
    pub(crate) path: PathBuf,
    directory: Directory,
    /// What it goes on from, and the states of the operators.
    head: Option<Head>,
    stored: Vec<Vec<Stored>>,
}

/// What a checkpoint says of itself.
#[derive(Serialize, Deserialize)]
pub(crate) struct Head {
    version: u32,
    /// Microseconds between two batches.
    interval: u64,
    /// The first batch was the one after.
    zero: u64,
    /// The batch after which it was taken.
    pub(crate) batch: u64,
    /// The first entry of the log that it does not hold.
    log: u64,
    operators: Vec<Part>,
    inputs: Vec<(Part, Vec<u8>, Option<u64>)>,
    /// Batches, failed batches, records.
    pub(crate) counts: [u64; 3],
}

/// An operator or an input.
#[derive(Serialize, Deserialize, PartialEq)]
struct Part {
    id: String,
    shape: String,
}

/// Everything after a batch, to be written when it is done.
struct Snapshot {
    k: u64,
    states: Vec<Captured>,
    positions: Vec<(Vec<u8>, Option<u64>)>,
    log: u64,
    counts: [u64; 3],
}

/// What is to be written.
#[derive(Default)]
struct Desk {
    /// Of batches that are not done.
    captured: BTreeMap<u64, Snapshot>,
    next: Option<Snapshot>,
    busy: bool,
    closed: bool,
    /// The last batch whose snapshot was taken, whatever became of it.
    last: u64,
}

/// Batches that are made again.
struct Again {
    /// What they took, and the numbers of their entries in the log.
    batches: BTreeMap<u64, (u64, Taken)>,
    /// The entry of the batch before the next one: what later batches took stands behind it.
    before: u64,
}

/// A batch that is being made.
pub(crate) struct Making {
    /// What later batches take stands in the log from here on.
    log: u64,
    /// Whether it takes what there is, and that has to be logged.
    live: bool,
}

/// See the module.
pub(crate) struct Saving {
    path: PathBuf,
    pub(crate) journal: Arc<Journal>,
    /// Intervals between two checkpoints.
    every: u64,
    interval: u64,
    zero: u64,
    operators: Vec<Arc<dyn Saved>>,
    inputs: Vec<KnownInput>,
    again: Mutex<Again>,
    desk: Mutex<Desk>,
    changed: Condvar,
    directory: Mutex<Option<Directory>>,
}

impl Request {
    /// Opens the folder; `recover`: to go on from what is there.
    pub(crate) fn open(disk: Arc<dyn Disk>, path: PathBuf, recover: bool) -> Result<Request> {
        let mut directory = Directory::open(disk, &path)?;
        while let Some(last) = directory.last() {
            if !recover {
                let what = "this folder holds the checkpoint of another run: go on from it with get_or_create, or name another";
                return Err(Error::output(what).in_file(path));
            }
            let head: Option<Head> =
                postcard::from_bytes(&last.body).ok().filter(|head: &Head| head.version == VERSION);
            let Some(head) = head else {
                let what = "the checkpoint is not that of a streaming context of this version";
                return Err(Error::input(what).in_file(&path));
            };
            match read(&directory, &last.files, head.operators.len()) {
                Ok(stored) => return Ok(Request { path, directory, head: Some(head), stored }),
                Err(why) => directory.fall_back(why)?,
            }
        }
        Ok(Request { path, directory, head: None, stored: Vec::new() })
    }

    /// What should be told to a person.
    pub(crate) fn warning(&self) -> Option<&str> {
        self.directory.warning()
    }

    pub(crate) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The batch before the first one of the context's life, and the one before the next, if it is `now` at `interval`.
    pub(crate) fn begins(&self, now: u64, interval: u64) -> Result<(u64, u64)> {
        let Some(head) = &self.head else { return Ok((now, now)) };
        if head.interval != interval {
            let ms = |micros: u64| micros as f64 / 1000.0;
            let what = format!(
                "the checkpoint is of batches of {} ms, the context has batches of {} ms: build it with that interval",
                ms(head.interval),
                ms(interval)
            );
            return Err(Error::usage(what).in_file(&self.path));
        }
        Ok((head.zero, head.batch))
    }

    /// Restores states and inputs of `graph`, which has begun and does not run, and makes the first checkpoint if there is
    /// none.
    pub(crate) fn restore(
        self,
        graph: &Graph,
        inputs: Vec<KnownInput>,
        clock: &Clock,
        (zero, every, interval): (u64, u64, u64),
        options: LogOptions,
    ) -> Result<Saving> {
        let Request { path, directory, head, stored } = self;
        let operators = graph.saved();
        if let Some(state) = operators.iter().find(|state| !state.is_coded()) {
            return Err(Error::usage(format!(
                "{} keeps a state that nobody said how to save: call checkpoint(interval) on the stream that it returned",
                state.identity().label
            )));
        }
        for input in &inputs {
            if let Err(why) = input.resume() {
                return Err(Error::usage(format!("{} cannot be part of a checkpoint: {why}", input.identity.label)));
            }
        }
        let shapes: Vec<_> = operators.iter().map(|state| part(&state.identity().id(), &state.shape())).collect();
        let sources: Vec<_> = inputs.iter().map(|input| part(&input.identity.id(), "")).collect();
        unique(shapes.iter().chain(&sources))?;
        let from = head.as_ref().map_or(0, |head| head.log);
        if let Some(head) = &head {
            fits(&head.operators.iter().collect::<Vec<_>>(), &shapes.iter().collect::<Vec<_>>(), "a state")
                .and_then(|()| {
                    let of: Vec<_> = head.inputs.iter().map(|(part, ..)| part).collect();
                    fits(&of, &sources.iter().collect::<Vec<_>>(), "a position")
                })
                .map_err(|e| e.in_file(&path))?;
            for (part, position, limit) in &head.inputs {
                let input = inputs.iter().find(|input| input.identity.id() == part.id);
                if let Some(Ok(resume)) = input.map(|input| input.resume()) {
                    resume.restore(position, *limit).map_err(|e| naming(&part.id, &e))?;
                }
            }
            for (part, stored) in head.operators.iter().zip(stored) {
                if let Some(state) = operators.iter().find(|state| state.identity().id() == part.id) {
                    guarded(|| state.restore(head.batch, stored)).map_err(|e| naming(&part.id, &e))?;
                }
            }
        }
        // The log knows inputs by their numbers in the checkpoint.
        let order = |i: usize| match &head {
            Some(head) => {
                inputs.iter().position(|input| head.inputs.get(i).is_some_and(|(p, ..)| p.id == input.identity.id()))
            }
            None => Some(i),
        };
        let ordered: Vec<_> = (0..inputs.len()).filter_map(order).map(|i| inputs[i].clone()).collect();
        let mut again = BTreeMap::new();
        let mut next = head.as_ref().map_or(0, |head| head.batch);
        let disk = directory.disk().clone();
        let journal = Journal::open(disk, path.join("log"), options, clock.clone(), from, |number, entry| {
            match entry {
                // After a gap that damage has left, batches are made anew.
                Entry::Batch(k, taken) if k == next + 1 && taken.len() == ordered.len() => {
                    again.insert(k, (number, taken));
                    next = k;
                }
                Entry::Batch(..) => {}
                Entry::Records(input, bytes) => {
                    if let Some(Ok(resume)) = ordered.get(input as usize).map(|input| input.resume()) {
                        resume.receive(number, bytes)?;
                    }
                }
            }
            Ok(())
        })?;
        let journal = Arc::new(journal);
        for (i, input) in ordered.iter().enumerate() {
            if let Ok(resume) = input.resume() {
                resume.log_to(&journal, i as u32);
            }
        }
        let saving = Saving {
            path,
            journal,
            every,
            interval,
            zero,
            operators,
            inputs: ordered,
            again: Mutex::new(Again { batches: again, before: from }),
            desk: Mutex::new(Desk { last: head.as_ref().map_or(zero, |head| head.batch), ..Desk::default() }),
            changed: Condvar::new(),
            directory: Mutex::new(Some(directory)),
        };
        if head.is_none() {
            let first = saving.snapshot(zero, 0)?;
            let mut directory = lock(&saving.directory);
            if let Some(directory) = &mut *directory {
                saving.write(directory, first)?;
            }
        }
        Ok(saving)
    }
}

fn part(id: &str, shape: &str) -> Part {
    Part { id: id.to_owned(), shape: shape.to_owned() }
}

fn naming(id: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("{id} cannot be restored: {error}"))
}

fn unique<'a>(parts: impl Iterator<Item = &'a Part>) -> Result<()> {
    let mut ids: Vec<_> = parts.map(|part| &part.id).collect();
    ids.sort();
    match ids.windows(2).find(|two| two[0] == two[1]) {
        Some(two) => Err(Error::usage(format!("two operators are named {}: give them different names", two[0]))),
        None => Ok(()),
    }
}

/// Whether what was saved is what there is.
fn fits(saved: &[&Part], there: &[&Part], what: &str) -> Result<()> {
    let advice =
        "run the program that made it, name operators that have moved with named(), or begin in another folder";
    for part in saved {
        let found = there.iter().find(|other| other.id == part.id);
        match found {
            None => {
                return Err(Error::usage(format!(
                    "the checkpoint holds {what} of {}, which this program does not have: {advice}",
                    part.id
                )));
            }
            Some(other) if other.shape != part.shape => {
                return Err(Error::usage(format!(
                    "{} has {}, and in the checkpoint {}: {advice}",
                    part.id, other.shape, part.shape
                )));
            }
            Some(_) => {}
        }
    }
    match there.iter().find(|part| !saved.iter().any(|other| other.id == part.id)) {
        Some(part) => {
            Err(Error::usage(format!("the checkpoint holds {what} of each operator but {}: {advice}", part.id)))
        }
        None => Ok(()),
    }
}

/// Reads the states of so many operators.
fn read(directory: &Directory, files: &[String], operators: usize) -> Result<Vec<Vec<Stored>>> {
    let mut stored: Vec<Vec<Stored>> = (0..operators).map(|_| Vec::new()).collect();
    for file in files {
        let segment = Segment::open(&**directory.disk(), directory.path().join(file))?;
        for entry in segment.entries() {
            let block = segment.read(entry)?;
            let label = block.label;
            let bytes = match block.columns.first().map(|column| column.view().values) {
                Some(Slice::Bytes { data, .. }) => data.to_vec(),
                _ => Vec::new(),
            };
            if let Some(of) = stored.get_mut(label.partition as usize) {
                of.push(Stored { kind: label.rows, tag: label.first, bytes });
            }
        }
    }
    Ok(stored)
}

impl Saving {
    /// Batch `k` is about to be made.
    pub(crate) fn before(&self, k: u64) -> Making {
        let mut again = lock(&self.again);
        let Some((entry, taken)) = again.batches.remove(&k) else {
            return Making { log: self.journal.next(), live: true };
        };
        for (input, taken) in self.inputs.iter().zip(taken) {
            if let Ok(resume) = input.resume() {
                resume.retake(taken);
            }
        }
        Making { log: std::mem::replace(&mut again.before, entry), live: false }
    }

    /// Batch `k` has been made. Gives the number of the entry that has to be safe before the batch may run.
    pub(crate) fn after(&self, k: u64, making: Making) -> Result<Option<u64>> {
        let taken: Taken = self.inputs.iter().map(|input| input.resume().ok().and_then(|r| r.taken())).collect();
        let entry = if making.live && !taken.is_empty() { Some(self.journal.batch(k, &taken)?) } else { None };
        if (k - self.zero).is_multiple_of(self.every) {
            let snapshot = self.snapshot(k, making.log)?;
            lock(&self.desk).captured.insert(k, snapshot);
        }
        Ok(entry)
    }

    fn snapshot(&self, k: u64, log: u64) -> Result<Snapshot> {
        let states = self.operators.iter().map(|state| state.capture(k)).collect::<Result<_>>()?;
        let position = |input: &KnownInput| match input.resume() {
            Ok(resume) => Ok((resume.position()?, input.limit())),
            Err(why) => Err(Error::usage(why)),
        };
        let positions = self.inputs.iter().map(position).collect::<Result<_>>()?;
        Ok(Snapshot { k, states, positions, log, counts: [0; 3] })
    }

    /// All batches up to `k` are done; these are the counts so far.
    pub(crate) fn done(&self, k: u64, counts: [u64; 3]) {
        let mut desk = lock(&self.desk);
        let later = desk.captured.split_off(&(k + 1));
        if let Some((_, snapshot)) = std::mem::replace(&mut desk.captured, later).pop_last() {
            desk.last = snapshot.k;
            desk.next = Some(Snapshot { counts, ..snapshot });
            self.changed.notify_all();
        }
    }

    /// The context has come to its end, after batch `k`, and nothing runs: what is not saved will be written.
    pub(crate) fn finish(&self, k: u64, counts: [u64; 3]) -> Result<()> {
        if k > lock(&self.desk).last && lock(&self.again).batches.is_empty() {
            let snapshot = self.snapshot(k, self.journal.next())?;
            let mut desk = lock(&self.desk);
            desk.last = k;
            desk.next = Some(Snapshot { counts, ..snapshot });
            self.changed.notify_all();
        }
        Ok(())
    }

    /// Waits until there is nothing to write.
    pub(crate) fn wait(&self) {
        let mut desk = lock(&self.desk);
        while (desk.next.is_some() || desk.busy) && !desk.closed {
            desk = self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more will be written.
    pub(crate) fn close(&self) {
        let mut desk = lock(&self.desk);
        desk.closed = true;
        desk.next = None;
        desk.captured.clear();
        self.changed.notify_all();
    }

    /// Writes what comes until it is closed. Gives the folder up at its end.
    pub(crate) fn run(&self) -> Result<()> {
        let Some(mut directory) = lock(&self.directory).take() else { return Ok(()) };
        loop {
            let next = {
                let mut desk = lock(&self.desk);
                while desk.next.is_none() && !desk.closed {
                    desk = self.changed.wait(desk).unwrap_or_else(PoisonError::into_inner);
                }
                let Some(next) = desk.next.take() else { return Ok(()) };
                desk.busy = true;
                next
            };
            // Should that fail, those who wait do so until the context has been told.
            self.write(&mut directory, next)?;
            lock(&self.desk).busy = false;
            self.changed.notify_all();
        }
    }

    fn write(&self, directory: &mut Directory, snapshot: Snapshot) -> Result<()> {
        let (k, time) = (snapshot.k, super::Time::from_micros(snapshot.k * self.interval));
        let said = |e: Error| {
            let what = format!("the checkpoint after batch {time} cannot be written, the one before is whole: {e}");
            Error::new(e.kind(), what)
        };
        // The log goes back to the checkpoint before: should the new one be damaged, that one is taken.
        let before =
            directory.last().and_then(|last| postcard::from_bytes::<Head>(&last.body).ok()).map(|head| head.log);
        if self.write_files(directory, snapshot).map_err(said)? {
            for input in &self.inputs {
                if let Ok(resume) = input.resume() {
                    resume.saved(k)?;
                }
            }
            self.journal.clean(before.unwrap_or(0));
        }
        Ok(())
    }

    /// False if a state is damaged, so that there is nothing to write.
    fn write_files(&self, directory: &mut Directory, snapshot: Snapshot) -> Result<bool> {
        let Snapshot { k, states, positions, log, counts } = snapshot;
        let name = directory.name("state");
        let mut segment = SegmentWriter::create(&**directory.disk(), directory.path().join(&name))?;
        for (i, state) in states.into_iter().enumerate() {
            let mut block = |kind: u32, tag: u64, bytes: &[u8]| {
                let offsets = [0, u32::try_from(bytes.len()).map_err(|_| Error::data("a row of a state is too long"))?];
                let column = ColumnRef::new(Slice::Bytes { offsets: &offsets, data: bytes });
                let label = Label { content: Content::Rows, partition: i as u32, first: tag, last: tag, rows: kind };
                segment.append(label, &[column])
            };
            if !guarded(|| state(&mut block))? {
                return Ok(false);
            }
        }
        segment.keep()?;
        let operators = self.operators.iter().map(|state| part(&state.identity().id(), &state.shape())).collect();
        let inputs = self.inputs.iter().zip(positions);
        let inputs = inputs.map(|(input, (at, limit))| (part(&input.identity.id(), ""), at, limit)).collect();
        let (version, batch, interval, zero) = (VERSION, k, self.interval, self.zero);
        let head = Head { version, interval, zero, batch, log, operators, inputs, counts };
        let body = postcard::to_stdvec(&head)
            .map_err(|e| Error::new(ErrorKind::Io, format!("its manifest cannot be made: {e}")).in_file(&self.path))?;
        directory.commit(vec![name], body)?;
        Ok(true)
    }
}
