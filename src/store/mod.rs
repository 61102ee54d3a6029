//! Bytes on disk: spill files and whatever must outlive a run. No keys, no Arrow, no threads.
//!
//! - [`disk`] is all that is asked of an operating system, so that [`memory_disk`] can stand in for it in tests: a
//!   disk that fails at any write, fills up, is interrupted, or loses what was not synced.
//! - [`block`] is the unit of writing: some columns of fixed-width words or texts, packed and checksummed.
//! - [`segment`] is a file of blocks, appended to and never rewritten.
//! - [`mmap`] reads sealed segments without copying them, and is the only file here with unsafe code.
//! - [`spill_dir`] is the private folder of one run, which no crash leaves behind for longer than until the next run.
//!
//! Formats are little-endian, fixed in width and versioned. Decoders check lengths before they allocate and
//! checksums before they decode, and end in an error that names the file and the byte, whatever the bytes are.

pub mod block;
pub mod column;
pub mod disk;
pub mod memory_disk;
pub mod mmap;
pub mod segment;
pub mod spill_dir;
#[cfg(test)]
pub(crate) mod tests;
