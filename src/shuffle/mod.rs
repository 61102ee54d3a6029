//! The shuffle: C workers write, R partitions read, through one consolidated file per worker.
//!
//! A worker hands its [`Writer`] batches of rows (or of pre-folded partials) that it has grouped by partition, or lets the
//! writer group them, and sealed runs that belong to one partition. They stay in memory until the writer's lease is
//! refused; then everything held is appended to the worker's file, one block for each partition, and the memory is
//! given back. Where memory is plenty they can be [gathered](Options::gather) to such blocks and stay. A [`Reader`] hands
//! each partition what all workers have for it, from memory and from their files, in the order of the sequence numbers:
//! the order of the input, whoever mapped which part of it.
//!
//! ```text
//!           batch 0   batch 3   batch 5            partition p reads 0 1 2 3 4 5
//! worker A ┌─0─1─2─┐ ┌─0─1─2─┐ ┌─0─1─2─┐ ─spill→  file A │0:0 3 5│1:0 3 5│2:0 3 5│
//! worker B ┌─0─1─2─┐ ┌─0─1─2─┐ ┌─0─1─2─┐ ─spill→  file B │0:1 2 4│1:1 2 4│2:1 2 4│
//!           batch 1   batch 2   batch 4                   one block for each partition and spill
//! ```
//!
//! Invariants: a block is written once; a file is only appended to. The number of open files is that of workers that
//! have spilled, whatever the number of batches and partitions. A partition's rows come in sequence order, and inside
//! a sequence number in the order in which they were pushed; what was pushed twice under one number by the same
//! worker comes in the order of the pushes.
//!
//! Cost: a batch is scattered once, while it is in the cache; a spill copies it once more, in runs of whole partitions, and packs
//! it. Blocks hold what the memory of one worker holds of one partition: the more memory, the larger the reads.
//! Compared with one file for each map task and partition (Spark's first shuffle) see `benches/windrow/shuffle.rs`.

mod reader;
#[cfg(test)]
mod tests;
mod workers;
mod writer;

pub use reader::{Chunk, Partition, Reader};
pub use workers::Writers;
pub use writer::{Options, Writer, Written};
