//! Where a followed file is: which file it is, whatever its name, and how far it has been read.
//!
//! A name says little of a file that is rotated, and a number of an inode is given again as soon as it is free. So a file is
//! the one we knew if its device and inode are, *and* its first bytes; and what has our first bytes under another inode is a
//! copy of it (copied and cut back, or packed), whose rest continues what we have read.

use serde::{Deserialize, Serialize};
use std::fs::Metadata;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes at the start of a file that tell it from others: enough to go beyond the header of wide CSV.
pub(super) const HEAD: usize = 16 << 10;

/// The first bytes of a file, so far as they have been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// How many bytes: as many as have been read, at most 16 KiB.
    pub len: u32,
    /// Their XXH3, 64 bits.
    pub hash: u64,
}

impl Fingerprint {
    /// Of the first bytes of a file, all that count.
    pub(super) fn of(head: &[u8]) -> Fingerprint {
        Fingerprint { len: head.len() as u32, hash: xxh3_64(head) }
    }

    /// Whether a file that begins with `head` begins with these bytes too.
    pub(super) fn begins(&self, head: &[u8]) -> bool {
        head.get(..self.len as usize).is_some_and(|head| xxh3_64(head) == self.hash)
    }

    /// Whether so many bytes tell a file from every other one; fewer may be a header that many have.
    pub(super) fn is_whole(&self) -> bool {
        self.len as usize == HEAD
    }
}

/// How far a followed file has been read: what a run that goes on later has to know of it.
///
/// A file is found again by [`device`](Self::device), [`inode`](Self::inode) and [`head`](Self::head) together, else by its
/// first bytes alone among the files that match the patterns and those beside it, packed or not. What was read to its end
/// stays among the positions, so that its packed copy is not read once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The number of the text in this run and those that go on after it: a later position replaces those with its number.
    pub text: u64,
    /// The name under which it was followed, for messages and to tell which input it belongs to.
    pub path: String,
    /// The device it lies on.
    pub device: u64,
    /// Its number there.
    pub inode: u64,
    /// Its first bytes.
    pub head: Fingerprint,
    /// Everything before this byte of its text (unpacked) has been read: whole lines.
    pub offset: u64,
    /// `offset` lies in a record over the size limit, whose rest is to be skipped.
    pub inside: bool,
    /// It was read to its end, and nobody writes to it.
    pub done: bool,
}

/// What the file system knows a file by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl Identity {
    #[cfg(unix)]
    pub(super) fn of(metadata: &Metadata) -> Identity {
        use std::os::unix::fs::MetadataExt;
        Identity { device: metadata.dev(), inode: metadata.ino() }
    }

    /// The moment of creation is the best that there is.
    #[cfg(not(unix))]
    pub(super) fn of(metadata: &Metadata) -> Identity {
        let created = metadata.created().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        Identity { device: 0, inode: created.map_or(0, |t| t.as_nanos() as u64) }
    }
}

impl Position {
    pub(super) fn identity(&self) -> Identity {
        Identity { device: self.device, inode: self.inode }
    }
}
