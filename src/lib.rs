//! windrow: exact keyed sliding windows over logs and Parquet, on one machine, as fast as its memory.
//!
//! - [`query`] is the declared face: fields known at run time, declared aggregates, Arrow record batches in and out. The
//!   command line is a thin shell over it.
//! - [`stream`] is the typed face: closures over records of any type.
//!
//! Both stand on [`core`], which knows neither Arrow nor closures.
//!
//! # Architecture
//!
//! ```text
//!  input splits        map (one task per split)                     reduce (one task per partition)
//!  ┌────────┐  decode only the   ┌──────────────┐  partition by    ┌────────────┐ intern → GroupId
//!  │ 4 MiB  │→ needed columns →  │ pre-fold by  │→ hash bits,    → │ R in-memory│ fold into open panes
//!  │ of log │  filter            │ (key, pane)  │  counting sort   │ segments   │ seal, absorb, expel
//!  └────────┘                    └──────────────┘                  │            │ emit rows per window → sink
//!                                                                  └────────────┘
//! ```
//!
//! Time is cut into panes where some window starts or ends ([`core::window`]); each record is folded once, into the
//! pane it falls in ([`core::panes`]); a window moves by absorbing the pane that enters and expelling the one that leaves
//! ([`core::slide`]), by subtraction where that is exact and by suffix folds where it is not ([`core::suffix`]).
//!
//! Sessions have no panes: a block's records are folded by (key, session in the block), and partitions extend, bridge and
//! close the sessions of each key ([`core::session`]).
//!
//! What does not fit in memory goes through the [`shuffle`]: one consolidated file per worker in the [`store`], read back by
//! partition in the order of the input. [`query::Repartition`] is built on it: whole records by the hash of their key.
//!
//! Where this departs from the plan it was built on, and why:
//! - *Panes are runs of one log per partition*, not vectors of their own with a slot map each. Disordered input appends
//!   cells that are folded later, in the order of arrival; one reused slot map serves the pane that is hot. Thousands of
//!   open panes then cost nothing but their cells, and the bits of a float sum do not depend on when a log was compacted.
//! - *The number of partitions follows the first block* (1 to 64 on two cores) instead of being 64 always: with 1,000
//!   keys, 64 partitions cost a fifth of the processor time of H1 in segments of a dozen cells.
//! - *A block that folds early numbers its keys first* and only then its cells, so that a text key is hashed, compared and
//!   sent on once per block and key instead of once per cell. Numbers that lie close together are numbered without a hash.
//! - *A batch is scattered when it is pushed*, not when it is spilled: in the cache instead of over all that a worker
//!   holds, and a spill then copies runs of whole partitions and needs one block of extra memory instead of twice the rows.
//! - *Blocks are mapped one by one*, not whole files: pages of a mapped spill file count as memory of the process. Short ones
//!   are copied: taking a mapping away interrupts every thread.
//! - *Repartitioning spills only if it must*: while all parts can be open at once within the limit, rows go straight to their
//!   files, which saves packing and unpacking each of them.
//! - *Keys that hardly repeat are sorted out by partition before they are looked up*, also where memory is plenty: a lookup that
//!   misses the cache takes longer than to bring the records of one partition together first.
//! - *States travel as pieces*, one value of two columns of bytes for each block and partition, whose inside only the aggregates
//!   know: an aggregate needs no more than to save and load its states, and cells of any kinds share one block format.
//! - *The partitions that stayed in memory and the last ones read back hand out their rows while those between come from
//!   disk*: rows are wider than the cells that they come from, so every row that is not spilled counts.
//! - *A block that does not fold sends states too*, one record each, not raw values: reduce then knows one operation.
//! - *A checkpoint saves the state whole*, partition by partition between the rounds of the input, and not what has changed
//!   since the last one: a cell is the left fold of its blocks' parts, and to fold what came between two checkpoints first
//!   would give float sums other bits than an undisturbed run has. What was spilled is written once.
//! - *The core misses its gate on tumbling counts*: with spread keys and one thread it takes 1.6 times as long as a loop over one
//!   `hashbrown` map, not 1.3 (`cargo bench -- tumbling`): it writes cells, not only a table, so that a pane can leave again. What
//!   slides is ahead of any loop from eight slides per window on, and the declared query folds before it gets there.
//!
//! Input without an end ([`source::Live`]) is one more reader: it never waits for more itself, but says that there is nothing
//! now; then the run reduces what it has, hands out what has closed, and waits. So no window that has closed is held
//! back by a read, and a run that has enough to read works as over files.
//!
//! # Known limitation
//! The memory limit bounds keys, cells, blocks that wait and spill buffers, not what decoders and outputs hold, some tens of
//! MiB. With a lateness bound nothing is spilled, a refused lease of the budget is an error, and several inputs take turns
//! by block, not by record: each is judged by its own clock, which gives the same answer, and only ties between inputs
//! (which of two records of one instant is the first) follow the blocks.

pub mod checkpoint;
pub mod core;
mod engine;
pub mod error;
pub mod format;
pub mod hash;
pub mod memory;
pub mod metrics;
pub mod query;
pub mod shuffle;
pub mod sink;
pub mod source;
pub mod store;
pub mod stream;
pub mod time;

pub use error::{Error, ErrorKind, Place, Result};

/// The examples of the README are compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
