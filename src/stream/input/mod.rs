//! Where records come from: queues, iterators, directories, sockets, receivers, partitioned logs.
//!
//! An input takes what has arrived when its batch is due; what arrives later belongs to the next batch. Whatever holds
//! records between two batches is bounded, and a producer that finds it full waits.

mod directory;
mod queue;
mod receiver;
mod socket;
mod source;
mod throttle;

pub use queue::BatchQueue;
pub use receiver::{Receiver, ReceiverOptions, Store};
pub use source::{Chunk, Offset, Source, SourceOptions, TailSource};

pub(crate) use directory::lines_of;
pub(crate) use throttle::{Rates, Throttle};
