//! A segment: one file of blocks, appended to and never rewritten, and the index of what stands where.
//!
//! ```text
//!   0 ┌─────────────────────┐
//!     │ magic "WINDROWS"    │
//!   8 ├──────────┬──────────┤
//!     │ version  │    0     │  u16 = 1, 6 bytes
//!  16 ├──────────┴──────────┤
//!     │ blocks              │  see `block`, one behind the other
//!     ├─────────────────────┤  the footer: only in a file that outlives its run
//!     │ entries             │  48 bytes each, below
//!     ├─────────────────────┤
//!     │ tail, 32 bytes      │
//!     └─────────────────────┘
//!
//! entry                                       tail
//!   0 ┌────────────────────┐                    0 ┌────────────────────┐
//!     │ offset             │  u64                 │ entries            │  u64: where they begin
//!   8 ├────────────────────┤                    8 ├────────────────────┤
//!     │ length, partition  │  2 × u32             │ count              │  u64
//!  16 ├────────────────────┤                   16 ├────────────────────┤
//!     │ first, last        │  2 × u64             │ checksum           │  u64: XXH3 of entries, begin and count
//!  32 ├────────────────────┤                   24 ├────────────────────┤
//!     │ rows, kind         │  2 × u32             │ magic "WINDROWF"   │
//!  40 ├────────────────────┤                   32 └────────────────────┘
//!     │ 0                  │  u64
//!  48 └────────────────────┘
//! ```
//!
//! While a run lasts, the index is in memory and there is no footer ([`SegmentWriter::seal`]); [`SegmentWriter::keep`] writes one
//! and syncs it, and [`Segment::open`] reads it in another run.
//!
//! Invariants: blocks are written in the order in which they are appended; an entry's bytes lie between the header and
//! the entries, and entries do not overlap. After a failed write the writer refuses to go on. Blocks are written when
//! [`WRITE`] bytes of them are ready, so the number of writes depends on the bytes and not on the number of blocks.

use super::block::{Block, Label, Malformed, Packer, content, decode, get, get_u32, get_u64, malformed};
use super::column::ColumnRef;
use super::disk::{Disk, DiskFile, read_exact_at, write_all_at};
use super::spill_dir::{SpillDir, SpillFile};
use crate::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: [u8; 8] = *b"WINDROWS";
const FOOTER_MAGIC: [u8; 8] = *b"WINDROWF";
const VERSION: u16 = 1;
const HEADER: usize = 16;
const ENTRY: usize = 48;
const TAIL: usize = 32;

/// Bytes that are written at once.
pub const WRITE: usize = if cfg!(test) { 64 } else { 1 << 20 };

/// Where a block stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its first byte in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u32,
    /// What it says of itself.
    pub label: Label,
}

/// The footer's entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footer {
    /// In the order of the file.
    pub entries: Vec<Entry>,
}

impl Footer {
    /// The footer of a file whose blocks end at `end`.
    pub fn encode(&self, end: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.entries.len() * ENTRY + TAIL);
        for Entry { offset, length, label } in &self.entries {
            out.extend_from_slice(&offset.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&label.partition.to_le_bytes());
            out.extend_from_slice(&label.first.to_le_bytes());
            out.extend_from_slice(&label.last.to_le_bytes());
            out.extend_from_slice(&label.rows.to_le_bytes());
            out.extend_from_slice(&u32::from(label.content as u8).to_le_bytes());
            out.extend_from_slice(&0u64.to_le_bytes());
        }
        out.extend_from_slice(&end.to_le_bytes());
        out.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
        out.extend_from_slice(&FOOTER_MAGIC);
        out
    }

    /// Where the footer of a file of `len` bytes begins, by its `tail` (the last 32 bytes).
    ///
    /// # Errors
    /// If there is no footer, or it says that it is not where it is.
    pub fn begin(tail: &[u8], len: u64) -> Result<u64, Malformed> {
        if get::<8>(tail, 24)? != FOOTER_MAGIC {
            return malformed(24, "it does not end as a segment does: it was not completed, or is another file");
        }
        let (begin, count) = (get_u64(tail, 0)?, get_u64(tail, 8)?);
        let end =
            count.checked_mul(ENTRY as u64).and_then(|n| n.checked_add(TAIL as u64)).and_then(|n| n.checked_add(begin));
        if begin < HEADER as u64 || end != Some(len) {
            return malformed(0, "its index does not lie where it should");
        }
        Ok(begin)
    }

    /// The footer that `bytes` are, from [`begin`](Self::begin) to the end of the file.
    ///
    /// # Errors
    /// Where they stop being one, and why.
    pub fn decode(bytes: &[u8]) -> Result<Footer, Malformed> {
        let Some(tail) = bytes.len().checked_sub(TAIL) else { return malformed(0, "its index is cut short") };
        let begin = get_u64(bytes, tail)?;
        Footer::begin(&bytes[tail..], begin.saturating_add(bytes.len() as u64))?;
        if get_u64(bytes, tail + 16)? != xxh3_64(&bytes[..tail + 16]) {
            return malformed(tail + 16, "its index is damaged: the checksum does not fit");
        }
        let mut entries = Vec::with_capacity(tail / ENTRY);
        let mut free = HEADER as u64;
        for at in (0..tail).step_by(ENTRY) {
            let (offset, length) = (get_u64(bytes, at)?, get_u32(bytes, at + 8)?);
            let end = offset.checked_add(u64::from(length));
            if offset < free || end.is_none_or(|end| end > begin) {
                return malformed(at, "its index names a block that is not inside the file");
            }
            free = offset + u64::from(length);
            let kind = u8::try_from(get_u32(bytes, at + 36)?).ok().and_then(content);
            let Some(content) = kind else { return malformed(at + 36, "its index names a content of no known kind") };
            let label = Label {
                content,
                partition: get_u32(bytes, at + 12)?,
                first: get_u64(bytes, at + 16)?,
                last: get_u64(bytes, at + 24)?,
                rows: get_u32(bytes, at + 32)?,
            };
            entries.push(Entry { offset, length, label });
        }
        Ok(Footer { entries })
    }
}

/// A segment that is being written.
#[derive(Debug)]
pub struct SegmentWriter {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    packer: Packer,
    /// What is not written yet.
    pending: Vec<u8>,
    /// Where `pending` will stand.
    written: u64,
    index: Footer,
    failed: bool,
    /// After the file, which has to be closed where open ones cannot be removed.
    own: Option<SpillFile>,
}

impl SegmentWriter {
    /// A new file.
    ///
    /// # Errors
    /// The disk's, with the file's name.
    pub fn create(disk: &dyn Disk, path: impl Into<PathBuf>) -> Result<SegmentWriter> {
        let path = path.into();
        let file = disk.create(&path).map_err(|e| failed(&path, "the spill file cannot be created").because(e))?;
        let mut pending = Vec::with_capacity(2 * WRITE);
        pending.extend_from_slice(&MAGIC);
        pending.extend_from_slice(&VERSION.to_le_bytes());
        pending.resize(HEADER, 0);
        let (packer, index) = (Packer::default(), Footer::default());
        Ok(SegmentWriter { file, path, packer, pending, written: 0, index, failed: false, own: None })
    }

    /// A new file in `dir`, removed with this writer or the last clone of what it is [sealed](Self::seal) to.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn spill(dir: &SpillDir) -> Result<SegmentWriter> {
        let path = dir.name();
        let mut writer = SegmentWriter::create(&**dir.disk(), &path)?;
        writer.own = Some(SpillFile::new(dir, path));
        Ok(writer)
    }

    /// Appends a block.
    ///
    /// # Errors
    /// The disk's, with file and offset. Nothing can be appended after.
    pub fn append(&mut self, label: Label, columns: &[ColumnRef<'_>]) -> Result<()> {
        let offset = self.written + self.pending.len() as u64;
        let length = self
            .packer
            .encode(&label, columns, &mut self.pending)
            .map_err(|e| failed(&self.path, e.what).at_offset(offset))?;
        self.index.entries.push(Entry { offset, length, label });
        if self.pending.len() >= WRITE { self.flush() } else { Ok(()) }
    }

    /// Writes what is ready.
    fn flush(&mut self) -> Result<()> {
        if self.failed {
            return Err(failed(&self.path, "an earlier write to the spill file failed").at_offset(self.written));
        }
        if let Err(e) = write_all_at(&*self.file, self.written, &self.pending) {
            self.failed = true;
            return Err(failed(&self.path, "the spill file cannot be written").at_offset(self.written).because(e));
        }
        self.written += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    /// Bytes appended so far.
    pub fn bytes(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Bytes of memory held, the index included.
    pub fn memory(&self) -> usize {
        self.pending.capacity() + self.index.entries.capacity() * size_of::<Entry>()
    }

    /// Ends the writing; the segment is read in this run only.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn seal(mut self) -> Result<Segment> {
        self.flush()?;
        self.index.entries.shrink_to_fit();
        Ok(Segment { file: self.file, path: self.path, index: self.index, _own: self.own.map(Arc::new) })
    }

    /// Ends the writing with a footer and waits until all of it outlives a crash; the file's name does once the folder is
    /// [synced](Disk::sync_dir).
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn keep(mut self) -> Result<Segment> {
        self.flush()?;
        self.pending = self.index.encode(self.written);
        self.flush()?;
        self.file.sync().map_err(|e| failed(&self.path, "the file cannot be synced to disk").because(e))?;
        self.own.take().into_iter().for_each(SpillFile::keep);
        Ok(Segment { file: self.file, path: self.path, index: self.index, _own: None })
    }
}

/// Shorter blocks are copied: to take a mapping away interrupts all threads.
const MAP_FROM: u32 = if cfg!(test) { 256 } else { 256 << 10 };

/// A segment to read.
#[derive(Debug, Clone)]
pub struct Segment {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    index: Footer,
    _own: Option<Arc<SpillFile>>,
}

impl Segment {
    /// Opens a segment that was [kept](SegmentWriter::keep).
    ///
    /// # Errors
    /// The disk's, and whatever is wrong with the file, with its name and the offset.
    pub fn open(disk: &dyn Disk, path: impl Into<PathBuf>) -> Result<Segment> {
        let path = path.into();
        let unreadable = |at: u64, e| failed(&path, "the file cannot be read").at_offset(at).because(e);
        let file = disk.open(&path).map_err(|e| failed(&path, "the file cannot be opened").because(e))?;
        let len = file.len().map_err(|e| unreadable(0, e))?;
        let mut head = [0; HEADER];
        if len < (HEADER + TAIL) as u64 {
            return Err(failed(&path, "it is too short for a segment").at_offset(len));
        }
        read_exact_at(&*file, 0, &mut head).map_err(|e| unreadable(0, e))?;
        if head[..8] != MAGIC || head[8..10] != VERSION.to_le_bytes() {
            return Err(failed(&path, "it is no segment of this version").at_offset(0));
        }
        let mut tail = [0; TAIL];
        let tail_at = len - TAIL as u64;
        read_exact_at(&*file, tail_at, &mut tail).map_err(|e| unreadable(tail_at, e))?;
        let begin = Footer::begin(&tail, len).map_err(|e| failed(&path, e.what).at_offset(tail_at + e.at as u64))?;
        // Its length is that of bytes that are there.
        let mut footer = vec![0; usize::try_from(len - begin).unwrap_or(usize::MAX)];
        read_exact_at(&*file, begin, &mut footer).map_err(|e| unreadable(begin, e))?;
        let index = Footer::decode(&footer).map_err(|e| failed(&path, e.what).at_offset(begin + e.at as u64))?;
        Ok(Segment { file, path, index, _own: None })
    }

    /// What stands where, in the order of the file.
    pub fn entries(&self) -> &[Entry] {
        &self.index.entries
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of its blocks.
    pub fn bytes(&self) -> u64 {
        self.index.entries.last().map_or(0, |last| last.offset + u64::from(last.length))
    }

    /// Gives the file another name on the disk that it is on.
    ///
    /// # Errors
    /// The disk's, with the file's name.
    pub fn rename(&mut self, disk: &dyn Disk, to: impl Into<PathBuf>) -> Result<()> {
        let to = to.into();
        disk.rename(&self.path, &to).map_err(|e| failed(&self.path, "the file cannot be moved").because(e))?;
        self.path = to;
        Ok(())
    }

    /// Reads a block of [`entries`](Self::entries): its bytes are mapped where the disk can do that and that is
    /// worth while, checked, and unpacked.
    ///
    /// # Errors
    /// The disk's, and whatever is wrong with the block, with file and offset.
    pub fn read(&self, entry: &Entry) -> Result<Block> {
        let unreadable = |e| failed(&self.path, "the spill file cannot be read").at_offset(entry.offset).because(e);
        let long = entry.length >= MAP_FROM;
        let mapped = if long { self.file.map(entry.offset, entry.length as usize) } else { Ok(None) };
        let block = match mapped.map_err(unreadable)? {
            Some(mapped) => decode(&mapped),
            None => {
                let mut bytes = vec![0; entry.length as usize];
                read_exact_at(&*self.file, entry.offset, &mut bytes).map_err(unreadable)?;
                decode(&bytes)
            }
        };
        let at = |e: Malformed| failed(&self.path, e.what).at_offset(entry.offset + e.at as u64);
        let block = block.map_err(at)?;
        if block.label != entry.label {
            return Err(failed(&self.path, "the block is not the one that the index names").at_offset(entry.offset));
        }
        Ok(block)
    }
}

fn failed(path: &Path, what: &'static str) -> Error {
    Error::new(ErrorKind::Io, what).in_file(path)
}
