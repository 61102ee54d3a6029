//! The log of records that cannot be had again: what was received is written down before anybody counts it.
//!
//! ```text
//! DIR/log-START-END       a segment; milliseconds of the clock that its writer was given, END = START + the roll interval
//!
//! segment                                     record
//!   0 ┌────────────────────┐                    0 ┌────────────────────┐
//!     │ magic "WINDROWL"   │                      │ length             │  u32: bytes of the record
//!   8 ├─────────┬──────────┤                    4 ├────────────────────┤
//!     │ version │    0     │  u16 = 1, 6 bytes    │ checksum           │  u64: XXH3 of the record with `first` xor the
//!  16 ├─────────┴──────────┤                   12 ├────────────────────┤       record's place in the file as its seed
//!     │ first              │  u64: the number     │ the record         │
//!  24 ├────────────────────┤  of its first record └────────────────────┘
//!     │ checksum           │  u64: XXH3 of bytes 0..24
//!  32 ├────────────────────┤
//!     │ records            │
//!     └────────────────────┘
//! ```
//!
//! Records are numbered from 0, through all segments. Whoever has made a checkpoint remembers the number of the next record, so
//! that segments that could not be removed, or come back, change nothing.
//!
//! - *Acknowledged when logged.* [`append`](Log::append) takes a record, [`commit`](Log::commit) makes all that were taken outlive a
//!   crash with one write and one sync. A failed sync is final: what the system kept after it is not known.
//! - *The tail.* A crash leaves bytes behind the last whole record of the segment that was written: they are no record and no
//!   error. Whoever goes on then begins a new segment with the number after the last whole record.
//! - *Damage* anywhere else shows in numbers that are missing. It is an error, or, if [that is asked
//!   for](LogOptions::skip_damaged), they are counted as [lost](Log::lost) and the next segment goes on.
//!
//! Cost: a checksum at 20 GB/s and a copy into a buffer that is written when it is long or committed.

use crate::store::disk::{Disk, DiskFile, read_exact_at, write_all_at};
use crate::{Error, ErrorKind, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: [u8; 8] = *b"WINDROWL";
const VERSION: u16 = 1;
const HEADER: usize = 32;
/// No segment begins with a greater number: those after it would begin anew at zero.
const MOST: u64 = u64::MAX / 2;
const FRAME: usize = 12;

/// Bytes that are written at once. Tiny under test.
const WRITE: usize = if cfg!(test) { 64 } else { 1 << 20 };

/// How a log is written and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogOptions {
    roll: u64,
    bytes: u64,
    close_each: bool,
    failures: u32,
    skip_damaged: bool,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { roll: 60_000, bytes: u64::MAX, close_each: false, failures: 3, skip_damaged: false }
    }
}

impl LogOptions {
    /// Milliseconds after which a segment is followed by another (default one minute).
    #[must_use]
    pub fn roll(self, milliseconds: u64) -> LogOptions {
        LogOptions { roll: milliseconds, ..self }
    }

    /// Bytes after which a segment is followed by another (default: any number).
    #[must_use]
    pub fn bytes(self, bytes: u64) -> LogOptions {
        LogOptions { bytes, ..self }
    }

    /// Whether every record has a segment of its own.
    #[must_use]
    pub fn close_each(self, close_each: bool) -> LogOptions {
        LogOptions { close_each, ..self }
    }

    /// How often a write that fails is tried before that is an error (default 3). A sync is never tried again.
    #[must_use]
    pub fn failures(self, failures: u32) -> LogOptions {
        LogOptions { failures, ..self }
    }

    /// Whether damage that is not that of a crash loses records instead of being an error.
    #[must_use]
    pub fn skip_damaged(self, skip: bool) -> LogOptions {
        LogOptions { skip_damaged: skip, ..self }
    }
}

/// Where a record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// Its number.
    pub number: u64,
    segment: PathBuf,
    first: u64,
    offset: u64,
    length: u32,
}

/// A segment that is complete, as far as it is good.
#[derive(Debug, Clone)]
struct Known {
    path: PathBuf,
    start: u64,
    end: u64,
    /// The number of its first record, and of the one after its last.
    first: u64,
    next: u64,
}

/// The segment that is written.
#[derive(Debug)]
struct Current {
    file: Arc<dyn DiskFile>,
    of: Known,
    /// What is not written yet; it will stand at `written`.
    pending: Vec<u8>,
    written: u64,
    named: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: LogOptions,
    /// By their starts.
    before: Vec<Known>,
    current: Option<Current>,
    next: u64,
    lost: u64,
    failed: bool,
}

/// The times in the name of a segment.
fn times(path: &Path) -> Option<(u64, u64)> {
    let (start, end) = path.file_name()?.to_str()?.strip_prefix("log-")?.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

fn failed(path: &Path, what: &'static str) -> Error {
    Error::new(ErrorKind::Io, what).in_file(path)
}

fn header(first: u64) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.resize(16, 0);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
    out
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// Hands the records of a segment to `each`, with their numbers; returns the number of the first and how many bytes are good.
/// `None` if not even the header is. It allocates nothing and ends, whatever the bytes are.
pub fn decode(bytes: &[u8], mut each: impl FnMut(u64, &[u8])) -> Option<(u64, usize)> {
    let number = |at| word(bytes, at).map(u64::from_le_bytes);
    let good = word::<8>(bytes, 0)? == MAGIC
        && u16::from_le_bytes(word(bytes, 8)?) == VERSION
        && number(24)? == xxh3_64(&bytes[..24])
        && number(16)? <= MOST;
    if !good {
        return None;
    }
    let (first, mut at) = (number(16)?, HEADER);
    let mut next = first;
    while let Some(record) = record(bytes, first, at) {
        each(next, record);
        next = next.wrapping_add(1);
        at += FRAME + record.len();
    }
    Some((first, at))
}

/// The record at `at`, if there is a whole one.
fn record(bytes: &[u8], first: u64, at: usize) -> Option<&[u8]> {
    let length = u32::from_le_bytes(word(bytes, at)?) as usize;
    let sum = u64::from_le_bytes(word(bytes, at + 4)?);
    let record = bytes.get(at + FRAME..)?.get(..length)?;
    (xxh3_64_with_seed(record, first ^ at as u64) == sum).then_some(record)
}

impl Log {
    /// Opens the log in `dir` and hands every record from number `from` on to `each`, with its place, in order. Nothing is created before a
    /// record is appended.
    ///
    /// # Errors
    /// Those of the disk and of `each`; damage that is not that of a crash.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: impl Into<PathBuf>,
        options: LogOptions,
        from: u64,
        mut each: impl FnMut(&Handle, &[u8]) -> Result<()>,
    ) -> Result<Log> {
        let dir = dir.into();
        let listed = match disk.list(&dir) {
            Ok(listed) => listed,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => return Err(failed(&dir, "the folder of the log cannot be read").because(e)),
        };
        let mut paths: Vec<((u64, u64), PathBuf)> =
            listed.into_iter().filter_map(|listed| Some((times(&listed.path)?, listed.path))).collect();
        paths.sort();
        let mut log = Log { disk, dir, options, before: Vec::new(), current: None, next: from, lost: 0, failed: false };
        // Where the last records that were read end.
        let mut end_of = (log.dir.clone(), 0);
        for ((start, end), path) in paths {
            let unreadable = |e| failed(&path, "the log cannot be read").because(e);
            let file = log.disk.open(&path).map_err(unreadable)?;
            let mut bytes = vec![0; usize::try_from(file.len().map_err(unreadable)?).unwrap_or(usize::MAX)];
            read_exact_at(&*file, 0, &mut bytes).map_err(unreadable)?;
            // A crash may leave a segment without its header: then it has no record.
            let expected = log.before.last().map_or(from, |before| before.next.max(from));
            let Some((first, _)) = decode(&bytes, |_, _| ()) else {
                end_of = (path.clone(), 0);
                log.before.push(Known { path, start, end, first: expected, next: expected });
                continue;
            };
            if first > expected && !options.skip_damaged {
                let what = "the log is damaged here, or was cut; --skip-damaged goes on with what can be read, and counts what is \
                            lost";
                return Err(failed(&end_of.0, what).at_offset(end_of.1));
            }
            log.lost += first.saturating_sub(expected);
            let (mut outcome, mut next) = (Ok(()), first);
            let mut handle = Handle { number: first, segment: path.clone(), first, offset: HEADER as u64, length: 0 };
            let good = decode(&bytes, |number, record| {
                next = number.wrapping_add(1);
                (handle.number, handle.length) = (number, record.len() as u32);
                if number >= expected && outcome.is_ok() {
                    outcome = each(&handle, record);
                }
                handle.offset += (FRAME + record.len()) as u64;
            });
            outcome?;
            end_of = (path.clone(), good.map_or(0, |(_, good)| good as u64));
            log.next = log.next.max(next);
            let next = log.before.last().map_or(next, |before| before.next.max(next));
            log.before.push(Known { path, start, end, first, next });
        }
        Ok(log)
    }

    /// Records that damage has taken.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The number that the next record will have.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.before.len() + usize::from(self.current.is_some())
    }

    /// Takes a record at `now`, milliseconds of a clock that does not go back. It can be [read](Self::read) at once; it outlives
    /// a crash when it is [committed](Self::commit).
    ///
    /// # Errors
    /// Those of the disk; nothing is taken after.
    pub fn append(&mut self, now: u64, record: &[u8]) -> Result<Handle> {
        if self.failed {
            return Err(failed(&self.dir, "an earlier write to the log failed"));
        }
        let taken = self.take(now, record);
        self.failed = taken.is_err();
        taken
    }

    fn take(&mut self, now: u64, record: &[u8]) -> Result<Handle> {
        let length = u32::try_from(record.len()).map_err(|_| failed(&self.dir, "a record of the log is too long"))?;
        let options = self.options;
        let is_full = |current: &Current| {
            let bytes = current.written + current.pending.len() as u64;
            now > current.of.end || bytes >= options.bytes || options.close_each
        };
        if self.current.as_ref().is_some_and(is_full) {
            self.close()?;
        }
        if self.current.is_none() {
            self.begin(now)?;
        }
        let Some(current) = &mut self.current else { return Err(failed(&self.dir, "the log has no segment")) };
        let offset = current.written + current.pending.len() as u64;
        current.pending.extend_from_slice(&length.to_le_bytes());
        let sum = xxh3_64_with_seed(record, current.of.first ^ offset);
        current.pending.extend_from_slice(&sum.to_le_bytes());
        current.pending.extend_from_slice(record);
        let number = self.next;
        self.next += 1;
        current.of.next = self.next;
        let handle = Handle { number, segment: current.of.path.clone(), first: current.of.first, offset, length };
        if current.pending.len() >= WRITE {
            current.flush(self.options.failures)?;
        }
        Ok(handle)
    }

    /// Makes every record that was taken outlive a crash.
    ///
    /// # Errors
    /// Those of the disk; nothing is taken after.
    pub fn commit(&mut self) -> Result<()> {
        if self.failed {
            return Err(failed(&self.dir, "an earlier write to the log failed"));
        }
        let (options, disk, dir) = (self.options, &self.disk, &self.dir);
        let Some(current) = &mut self.current else { return Ok(()) };
        let committed = current.commit(&**disk, dir, options);
        self.failed = committed.is_err();
        committed
    }

    fn close(&mut self) -> Result<()> {
        if let Some(mut current) = self.current.take() {
            current.commit(&*self.disk, &self.dir, self.options)?;
            self.before.push(current.of);
        }
        Ok(())
    }

    fn begin(&mut self, now: u64) -> Result<()> {
        match self.disk.create_dir(&self.dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(&self.dir, "the folder of the log cannot be created").because(e));
            }
            _ => {}
        }
        // Segments are told apart, and ordered, by their starts.
        let last = self.before.last();
        let mut start = last.map_or(now, |last| now.max(last.start + 1));
        let (file, path, end) = loop {
            let end = start.saturating_add(self.options.roll);
            let path = self.dir.join(format!("log-{start}-{end}"));
            match self.disk.create(&path) {
                Ok(file) => break (file, path, end),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => start += 1,
                Err(e) => return Err(failed(&path, "the log cannot be created").because(e)),
            }
        };
        let pending = header(self.next);
        let of = Known { path, start, end, first: self.next, next: self.next };
        self.current = Some(Current { file, of, pending, written: 0, named: false });
        Ok(())
    }

    /// Reads a record back.
    ///
    /// # Errors
    /// If it is no longer there, or damaged.
    pub fn read(&self, handle: &Handle) -> Result<Vec<u8>> {
        let gone = |e| failed(&handle.segment, "the record cannot be read").at_offset(handle.offset).because(e);
        let mut bytes = vec![0; FRAME + handle.length as usize];
        match self
            .current
            .as_ref()
            .filter(|current| current.of.path == handle.segment && handle.offset >= current.written)
        {
            Some(current) => {
                let at = (handle.offset - current.written) as usize;
                let held = current.pending.get(at..at + bytes.len());
                bytes.copy_from_slice(held.ok_or_else(|| gone(io::ErrorKind::UnexpectedEof.into()))?);
            }
            None => {
                let file = self.disk.open(&handle.segment).map_err(gone)?;
                read_exact_at(&*file, handle.offset, &mut bytes).map_err(gone)?;
            }
        }
        let sum = xxh3_64_with_seed(&bytes[FRAME..], handle.first ^ handle.offset);
        if bytes[..4] != handle.length.to_le_bytes() || bytes[4..FRAME] != sum.to_le_bytes() {
            return Err(failed(&handle.segment, "the record is damaged").at_offset(handle.offset));
        }
        Ok(bytes.split_off(FRAME))
    }

    /// Removes the segments that ended before `threshold`, milliseconds, if all of their records have numbers below `needed`:
    /// never the one that is written. What cannot be removed is harmless.
    pub fn clean(&mut self, threshold: u64, needed: u64) {
        let disk = &self.disk;
        self.before.retain(|known| known.end >= threshold || known.next > needed || disk.remove(&known.path).is_err());
    }

    /// Removes every segment: no record is needed any more. The numbers go on.
    pub fn clear(&mut self) {
        self.before.extend(self.current.take().map(|current| current.of));
        self.clean(u64::MAX, u64::MAX);
    }
}

impl Current {
    fn flush(&mut self, failures: u32) -> Result<()> {
        let mut tried = 0;
        // Written again, a record stands where it stood.
        while let Err(e) = write_all_at(&*self.file, self.written, &self.pending) {
            tried += 1;
            if tried > failures {
                return Err(failed(&self.of.path, "the log cannot be written").at_offset(self.written).because(e));
            }
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn commit(&mut self, disk: &dyn Disk, dir: &Path, options: LogOptions) -> Result<()> {
        self.flush(options.failures)?;
        let failed =
            |e| failed(&self.of.path, "the log cannot be synced to disk; what was not synced is not known").because(e);
        self.file.sync().map_err(failed)?;
        if !self.named {
            disk.sync_dir(dir).map_err(failed)?;
            if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                disk.sync_dir(parent).map_err(failed)?;
            }
            self.named = true;
        }
        Ok(())
    }
}
