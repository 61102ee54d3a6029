//! Makes checkpoints while a run goes on, and reads the last one when it is taken up again.

use super::identity::{self, InputMark};
use super::received::Received;
use super::writing::{Message, Written, lock, write};
use super::{Checkpoint, Saved};
use crate::checkpoint::Directory;
use crate::memory::Lease;
use crate::query::Query;
use crate::query::held::Held;
use crate::query::judge::Judge;
use crate::query::keys::KeyRows;
use crate::query::plan::Plan;
use crate::query::reduce::Partition;
use crate::query::spill::Spill;
use crate::query::spill::cells::{Pieces, load, save_partition};
use crate::source::Position;
use crate::source::live::{Journal, Sample};
use crate::store::column::{Column, ColumnRef};
use crate::store::disk::Disk;
use crate::store::segment::{Entry, Segment};
use crate::{Error, ErrorKind, Result};
use crossbeam_channel::{Sender, unbounded};
use rayon::prelude::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a round may be held up.
const HOLD_UP: Duration = Duration::from_millis(40);
/// Checkpoints take at most one part in so many of the time.
const SHARE: u32 = 20;
/// Bytes that wait to be written, at most, and at most this part of the memory limit.
const WAITING: usize = 64 << 20;
const WAITING_SHARE: usize = 16;
/// The part of the limit that they may be where everything is saved at once.
const AT_ONCE_SHARE: usize = 8;

/// See the module.
pub(crate) struct Saver {
    directory: Arc<Mutex<Directory>>,
    /// The folder, and what it is on.
    dir: PathBuf,
    checkpoint: Checkpoint,
    facts: Vec<(String, String)>,
    inputs: Vec<InputMark>,
    /// What to go on from.
    last: Option<Saved>,
    warning: Option<String>,
    due: Instant,
    /// No checkpoint begins before this block, which some partition has taken already.
    caught_up: u64,
    running: Option<Running>,
    /// The last one was given up, because what it was to save was evicted meanwhile: the next one saves all at once.
    given_up: bool,
    /// Something was counted since the last checkpoint began.
    is_behind: bool,
    /// Rows that were handed out, and as of the last checkpoint.
    rows_out: Arc<AtomicU64>,
    rows_saved: u64,
    /// How the input is cut into tasks, which are counted: as it was when the run began.
    task_bytes: u64,
    sample: Option<Sample>,
    /// The log of what cannot be read again, if there is such input.
    received: Option<Arc<Received>>,
    /// The last checkpoint says that nothing is left but to give the output its name.
    sealed: bool,
    /// There is a log, and no checkpoint says yet whose it is.
    is_new: bool,
    /// Nothing has come, so that it is not even known what the fields are: there is nothing to save.
    is_void: bool,
}

/// A checkpoint that is being made.
struct Running {
    body: Option<Saved>,
    /// All is saved as it was when this was the last block that was taken; `None`: partitions are of different ages.
    moment: Option<u64>,
    /// How many partitions are to be saved, and which is next.
    partitions: usize,
    next: usize,
    sender: Option<Sender<Message>>,
    /// Bytes that wait to be written.
    waiting: Arc<AtomicUsize>,
    thread: JoinHandle<Result<Option<Written>>>,
    busy: Duration,
}

/// A run between two rounds.
pub(crate) struct Now<'a, K: KeyRows> {
    pub(crate) plan: &'a Plan,
    pub(crate) partitions: &'a mut Vec<Partition<K>>,
    /// What partitions take once they are saved.
    pub(crate) held: &'a Held<K>,
    pub(crate) spill: Option<&'a Spill>,
    pub(crate) limit: usize,
    /// The last block that was taken.
    pub(crate) done: u64,
    /// Whether all must be saved as it is when the checkpoint begins: what was judged, handed out and written goes with it.
    pub(crate) of_one_moment: bool,
    /// Whether all partitions must be saved before the run goes on.
    pub(crate) at_once: bool,
}

impl Saver {
    /// Opens the folder and compares the run that was there with this one.
    ///
    /// # Errors
    /// What differs; a folder that cannot be used; damage.
    pub(crate) fn open(checkpoint: Checkpoint, query: &Query) -> Result<Saver> {
        if query.options.naive {
            return Err(Error::usage("--checkpoint does not go with --naive, which is for reference only"));
        }
        let mut facts = identity::query(query);
        facts.extend(checkpoint.facts.iter().cloned());
        let (mut inputs, is_received) = match &query.options.live {
            Some(live) => (Vec::new(), identity::is_received(live, &query.input)?),
            None => (identity::inputs(&query.input)?, false),
        };
        let mut directory = Directory::open(checkpoint.disk.clone(), &checkpoint.dir)?;
        let mut last = newest(&mut directory)?;
        if let Some(last) = &last {
            identity::compare((&facts, &last.facts), (&inputs, &last.inputs))
                .map_err(|e| e.in_file(&checkpoint.dir))?;
            inputs.clone_from(&last.inputs);
        }
        if !last.as_ref().is_some_and(|last| last.finished) {
            for (number, side) in checkpoint.sides.iter().enumerate() {
                let position = last.as_ref().and_then(|last| last.sides.get(number));
                side.rewind(position.map(Vec::as_slice).filter(|position| !position.is_empty()))?;
            }
        }
        if let Some(last) = &mut last {
            last.inputs.clone_from(&inputs);
        }
        let task_bytes = last.as_ref().map_or(query.options.task_bytes() as u64, |last| last.task_bytes);
        let rows_out = Arc::new(AtomicU64::new(last.as_ref().map_or(0, |last| last.rows_out)));
        let warning = directory.warning().map(str::to_owned);
        let sample = last.as_ref().and_then(|last| last.sample.clone());
        let finished = last.as_ref().is_some_and(|last| last.finished);
        let received = (is_received && !finished).then(|| {
            let known = last.as_ref().and_then(|last| last.judge.as_ref()).map_or(0, Judge::inputs);
            let logged = last.as_ref().map_or(0, |last| last.logged);
            let disk = checkpoint.disk.clone();
            Received::open(disk, &checkpoint.dir, checkpoint.skip_damaged, logged, known).map(Arc::new)
        });
        let received = received.transpose()?;
        let sealed = last.as_ref().is_some_and(|last| last.sealed);
        let is_new = is_received && last.is_none();
        Ok(Saver {
            directory: Arc::new(Mutex::new(directory)),
            dir: checkpoint.dir.clone(),
            due: Instant::now() + checkpoint.every,
            checkpoint,
            facts,
            inputs,
            last,
            warning,
            caught_up: 0,
            running: None,
            given_up: false,
            is_behind: false,
            rows_saved: rows_out.load(Ordering::Relaxed),
            rows_out,
            task_bytes,
            sample,
            received,
            sealed,
            is_new,
            is_void: false,
        })
    }

    /// Whether the run was finished already.
    pub(crate) fn is_finished(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.finished)
    }

    /// Whether nothing was left but to give the output its name.
    pub(crate) fn is_sealed(&self) -> bool {
        self.last.as_ref().is_some_and(|last| last.sealed)
    }

    /// Counts the rows that are handed out.
    pub(crate) fn rows_out(&self) -> Arc<AtomicU64> {
        self.rows_out.clone()
    }

    /// What should be told to a person.
    pub(crate) fn notes(&self) -> Vec<String> {
        let on = self.last.as_ref().filter(|last| !last.finished).map(|last| {
            let read = last.counted.read();
            format!("going on from the checkpoint in {}, after {read} records", self.dir.display())
        });
        let lost = self.received.as_ref().map(|received| received.lost()).filter(|lost| *lost > 0);
        let lost =
            lost.map(|lost| format!("{lost} blocks of records were lost: the log of what was received is damaged"));
        self.warning.iter().cloned().chain(lost).chain(on).collect()
    }

    /// How far each input is read.
    pub(crate) fn lengths(&self) -> Vec<(PathBuf, u64)> {
        self.inputs.iter().map(|input| (input.path.clone(), input.len)).collect()
    }

    /// How far followed files were read.
    pub(crate) fn positions(&self) -> Vec<Position> {
        self.last.as_ref().map(|last| last.positions.clone()).unwrap_or_default()
    }

    /// The run reads: its log is of it and of no other from the first entry on.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn declare(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_new) {
            let (facts, sample, task_bytes) = (self.facts.clone(), self.sample.clone(), self.task_bytes);
            let first = Saved { facts, sample, task_bytes, ..Saved::default() };
            lock(&self.directory).commit(Vec::new(), first.encode()?)?;
        }
        Ok(())
    }

    /// Where what cannot be read again is written down.
    pub(crate) fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.received.clone().map(|received| received as Arc<dyn Journal>)
    }

    /// What the fields of followed files were found out from.
    pub(crate) fn sample(&mut self) -> &mut Option<Sample> {
        &mut self.sample
    }

    /// Says whether the run has ended before anything came: then nothing is saved, which is as good.
    pub(crate) fn void(&mut self, is_void: bool) {
        self.is_void = is_void;
        self.is_new &= !is_void;
    }

    /// Bytes that tasks take at most.
    pub(crate) fn task_bytes(&self) -> usize {
        usize::try_from(self.task_bytes).unwrap_or(usize::MAX)
    }

    /// The folder and the disk that it is on: pieces that are spilled must not leave it.
    pub(crate) fn place(&self) -> (PathBuf, Arc<dyn Disk>) {
        (self.dir.clone(), self.checkpoint.disk.clone())
    }

    /// What to go on from.
    pub(crate) fn take_last(&mut self) -> Option<Saved> {
        self.last.take()
    }

    /// The partitions that were in memory, as they were.
    ///
    /// # Errors
    /// Those of the disk; damage.
    pub(crate) fn partitions<K: KeyRows>(
        &mut self,
        plan: &Plan,
        saved: &Saved,
        lease: impl Fn() -> Lease + Sync,
    ) -> Result<Vec<Partition<K>>> {
        let all = saved.bits.map_or(0, |bits| 1usize << bits);
        let number = saved.resident.unwrap_or(usize::MAX).min(all);
        let segment = saved.state.as_ref().map(|name| self.segment(name)).transpose()?;
        let partitions: Vec<Partition<K>> = (0..number)
            .into_par_iter()
            .with_max_len(1)
            .map(|p| {
                let mut partition = Partition::new(plan, lease());
                partition.taken = saved.done;
                let Some(segment) = &segment else { return Ok(partition) };
                partition.restores = true;
                for entry in segment.entries().iter().filter(|entry| entry.label.partition as usize == p) {
                    partition.taken = entry.label.last;
                    add(plan, &mut partition, segment, entry)?;
                }
                partition.restores = false;
                Ok(partition)
            })
            .collect::<Result<_>>()?;
        self.caught_up = partitions.iter().map(|partition| partition.taken).max().unwrap_or(0);
        Ok(partitions)
    }

    /// The files of pieces of partitions that were spilled, and up to which number each counts.
    ///
    /// # Errors
    /// Those of the disk; damage.
    pub(crate) fn pieces(&self, saved: &Saved) -> Result<Vec<(Segment, u64)>> {
        saved.pieces.iter().map(|(name, upto)| Ok((self.segment(name)?, *upto))).collect()
    }

    fn segment(&self, name: &str) -> Result<Segment> {
        Segment::open(&*self.checkpoint.disk, self.dir.join(name))
    }

    /// After a round: makes a checkpoint if it is time, or goes on with it. `body` says what was counted.
    ///
    /// # Errors
    /// Those of the disk, also of what was written meanwhile.
    pub(crate) fn step<K: KeyRows>(&mut self, now: Now<'_, K>, body: impl FnOnce() -> Saved) -> Result<()> {
        self.is_behind = true;
        self.rest(now, body)
    }

    /// The same where nothing has come.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub(crate) fn rest<K: KeyRows>(&mut self, now: Now<'_, K>, body: impl FnOnce() -> Saved) -> Result<()> {
        self.is_behind |= self.rows_out.load(Ordering::Relaxed) != self.rows_saved;
        if self.running.as_ref().is_some_and(|running| running.thread.is_finished()) {
            self.join(now.spill)?;
        }
        // What was not saved yet was evicted meanwhile: its pieces are too young for this checkpoint.
        let gone = |running: &Running| running.next < running.partitions && now.partitions.len() < running.partitions;
        if self.running.as_ref().is_some_and(gone) {
            self.join(now.spill)?;
            self.given_up = true;
        }
        if self.running.is_none() {
            if self.is_void || !self.is_behind || Instant::now() < self.due || now.done < self.caught_up {
                return Ok(());
            }
            self.begin(&now, body())?;
        }
        self.save(now)
    }

    /// Makes a checkpoint of a run that is to end now, and waits for it.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn stop<K: KeyRows>(&mut self, now: Now<'_, K>, body: Saved) -> Result<()> {
        let spill = now.spill;
        self.join(spill)?;
        // Some partition is ahead of the others before that; then the last checkpoint is what there is.
        if now.done >= self.caught_up && !self.is_void {
            self.begin(&now, body)?;
            self.save(now)?;
        }
        self.join(spill)
    }

    /// The end of a run that was stopped.
    pub(crate) fn stopped(&self) -> Error {
        let what = "stopped before the end of the input; the state of the run is saved, and the same command goes on from there";
        Error::new(ErrorKind::Io, what).in_file(&self.dir)
    }

    fn begin<K: KeyRows>(&mut self, now: &Now<'_, K>, mut body: Saved) -> Result<()> {
        body.facts.clone_from(&self.facts);
        body.inputs.clone_from(&self.inputs);
        body.sides = self.ends()?;
        body.rows_out = self.rows_out.load(Ordering::Relaxed);
        self.rows_saved = body.rows_out;
        body.task_bytes = self.task_bytes;
        body.sample.clone_from(&self.sample);
        if let Some(spill) = now.spill.filter(|spill| spill.is_used()) {
            body.resident = Some(now.partitions.len());
            body.pieces = spill.kept(body.done);
        }
        let moment = now.of_one_moment.then_some(body.done);
        let (sender, receiver) = unbounded();
        let waiting = Arc::<AtomicUsize>::default();
        let (directory, left) = (self.directory.clone(), waiting.clone());
        let (sides, received) = (self.checkpoint.sides.clone(), self.received.clone());
        let thread = std::thread::Builder::new()
            .name("windrow-checkpoint".into())
            .spawn(move || write(&directory, &receiver, &left, &sides, received.as_deref()))
            .map_err(|e| {
                Error::new(ErrorKind::Io, "the thread that writes checkpoints cannot be started").because(e)
            })?;
        let partitions = now.partitions.len();
        let (sender, busy) = (Some(sender), Duration::ZERO);
        self.is_behind = false;
        self.running = Some(Running { body: Some(body), moment, partitions, next: 0, sender, waiting, thread, busy });
        Ok(())
    }

    /// The partitions below this one take what comes: what waits for a checkpoint of one moment to be saved does not.
    pub(crate) fn reached(&self) -> usize {
        let waits =
            self.running.as_ref().filter(|running| running.moment.is_some() && running.next < running.partitions);
        waits.map_or(usize::MAX, |running| running.next)
    }

    /// Saves as many partitions as there is time and room for.
    fn save<K: KeyRows>(&mut self, now: Now<'_, K>) -> Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        let Some(sender) = &running.sender else { return Ok(()) };
        let at_once = now.at_once || self.given_up;
        let start = Instant::now();
        let room = WAITING.min(now.limit / WAITING_SHARE);
        let room = if at_once { room.max(now.limit / AT_ONCE_SHARE) } else { room };
        let has_room = |running: &Running| running.waiting.load(Ordering::Relaxed) <= room;
        let first = running.next;
        #[cfg(test)]
        for (count, n) in self.checkpoint.waited.iter().zip([now.held.len(), usize::from(now.held.is_full())]) {
            count.fetch_add(n as u64, Ordering::Relaxed);
        }
        while running.next < running.partitions && (at_once || has_room(running)) {
            // One at a time under test, so that they are of different ages, or wait for one another.
            let width = if cfg!(test) && !at_once { 1 } else { rayon::current_num_threads() };
            let (from, to) = (running.next, running.partitions.min(running.next + width));
            let begun = Instant::now();
            let pieces: Vec<(u64, Vec<Pieces>)> = now.partitions[from..to]
                .par_iter_mut()
                .with_max_len(1)
                .map(|partition| {
                    let mut pieces = partition.closed();
                    save_partition(partition, |piece| {
                        pieces.push(piece);
                        Ok(())
                    })?;
                    Ok((running.moment.unwrap_or_else(|| partition.taken.max(now.done)), pieces))
                })
                .collect::<Result<_>>()?;
            for (p, (taken, pieces)) in (from..to).zip(pieces) {
                running.waiting.fetch_add(pieces.iter().map(Pieces::bytes).sum(), Ordering::Relaxed);
                // Nobody takes it only if the thread has failed, which is noticed with the next round.
                let _ = sender.send(Message::Pieces(p as u32, taken, pieces));
            }
            running.next = to;
            // The promise of memory counts more than that of time.
            while at_once && !has_room(running) && !running.thread.is_finished() {
                std::thread::sleep(Duration::from_millis(1));
            }
            // The next ones will take about as long as these.
            if !at_once && (cfg!(test) || start.elapsed() + begun.elapsed() > HOLD_UP) {
                break;
            }
        }
        if running.next == running.partitions
            && let Some(body) = running.body.take()
        {
            let writers = now.spill.map(Spill::roll).unwrap_or_default();
            let _ = sender.send(Message::End(writers, Box::new(body)));
            running.sender = None;
            self.given_up = false;
        }
        let took = start.elapsed();
        tracing::debug!(partitions = running.next - first, of = running.partitions, ?took, at_once, "saved state");
        running.busy += took;
        // That is no more than these records would have taken before, and is not counted.
        let saved = now.partitions.par_iter_mut().enumerate().take(running.next).skip(first);
        saved.try_for_each(|(p, partition)| now.held.take(now.plan, p, partition, 0))?;
        if cfg!(test) && running.sender.is_none() {
            self.join(now.spill)?;
        }
        Ok(())
    }

    /// Waits for the checkpoint that is being made: one of which not all was saved is given up.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn join(&mut self, spill: Option<&Spill>) -> Result<()> {
        let Some(Running { sender, thread, busy, .. }) = self.running.take() else { return Ok(()) };
        // Not all was saved: it is given up.
        self.is_behind |= sender.is_some();
        drop(sender);
        let written = thread.join();
        let written = written.map_err(|_| Error::new(ErrorKind::Io, "the thread that writes checkpoints panicked"))?;
        if let Some(Written { kept, busy: writing, at }) = written? {
            if let Some(spill) = spill {
                spill.keep(kept);
            }
            let busy = busy + writing / rayon::current_num_threads() as u32;
            let every = self.checkpoint.every;
            self.due = at + if every.is_zero() { every } else { every.max(busy * SHARE) };
        }
        Ok(())
    }

    /// Where the outputs end.
    fn ends(&self) -> Result<Vec<Vec<u8>>> {
        self.checkpoint.sides.iter().map(|side| side.position()).collect()
    }

    /// Nothing is left to do, as `body` says, and no state is needed any more.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn end(&mut self, mut body: Saved) -> Result<()> {
        body.facts.clone_from(&self.facts);
        body.inputs.clone_from(&self.inputs);
        body.sample.clone_from(&self.sample);
        if !body.finished {
            body.sides = self.ends()?;
            body.rows_out = self.rows_out.load(Ordering::Relaxed);
            self.checkpoint.sides.iter().try_for_each(|side| side.sync())?;
        }
        lock(&self.directory).commit(Vec::new(), body.encode()?)?;
        match &self.received {
            Some(received) if body.sealed => received.counted(body.logged),
            // No checkpoint is left that would need it.
            Some(received) if self.sealed => received.ended(),
            _ => {}
        }
        self.sealed |= body.sealed;
        Ok(())
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        // The folder is free again once its thread has gone.
        let _ = self.join(None);
    }
}

/// The newest checkpoint whose files are whole.
///
/// # Errors
/// If it is of something else, or if all are damaged.
fn newest(directory: &mut Directory) -> Result<Option<Saved>> {
    while let Some(last) = directory.last() {
        let saved = Saved::decode(&last.body).map_err(|e| e.in_file(directory.path()))?;
        let names = saved.state.iter().chain(saved.pieces.iter().map(|(name, _)| name));
        let whole = names.map(|name| directory.path().join(name)).try_for_each(|path| {
            let segment = Segment::open(&**directory.disk(), path)?;
            segment.entries().par_iter().try_for_each(|entry| segment.read(entry).map(drop))
        });
        match whole {
            Ok(()) => return Ok(Some(saved)),
            Err(why) => directory.fall_back(why)?,
        }
    }
    Ok(None)
}

/// Adds the pieces of a block to the partition that they were saved from.
fn add<K: KeyRows>(plan: &Plan, partition: &mut Partition<K>, segment: &Segment, entry: &Entry) -> Result<()> {
    let block = segment.read(entry)?;
    let columns: Vec<ColumnRef<'_>> = block.columns.iter().map(Column::view).collect();
    let placed = |e: Error| e.in_file(segment.path()).at_offset(entry.offset);
    for block in load::<K>(plan, &columns).map_err(placed)? {
        partition.take(plan, 0, 0, &block.map_err(placed)?)?;
    }
    Ok(())
}
