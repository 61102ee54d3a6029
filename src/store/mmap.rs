//! A part of a sealed, private file as memory. The only unsafe code of the store.
//!
//! The mapping covers one block and is gone with it: what is mapped counts as memory of the process, so a run that maps
//! whole spill files would break the promise that its limit makes. Mapping and unmapping cost a few microseconds and
//! interrupt every thread of the process, against the hundreds that unpacking a long block takes.
//!
//! The safe twin is [`super::disk::read_exact_at`] into a buffer, which the in-memory disk uses and tests compare with.

#![allow(unsafe_code, reason = "memory maps are unsafe because a file can change under them")]

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Deref;

/// Bytes of a file, read as they are touched.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Mapped {
    /// Maps `len` bytes from `offset`, which must lie inside the file: a page beyond its end kills the process.
    pub(super) fn new(file: &File, offset: u64, len: usize) -> io::Result<Mapped> {
        let end = offset.checked_add(len as u64).ok_or(ErrorKind::InvalidInput)?;
        if file.metadata()?.len() < end {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        // SAFETY: the file is private to this user (0600 in a folder of 0700) and this process appends to it only, so
        // the mapped bytes do not change; its length was checked above and it is never cut short.
        unsafe { memmap2::MmapOptions::new().offset(offset).len(len).map(file) }.map(Mapped)
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}
