//! Where records come from: queues, iterators, directories, sockets, receivers, partitioned logs.
//!
//! An input takes what has arrived when its batch is due; what arrives later belongs to the next batch. Whatever holds
//! records between two batches is bounded, and a producer that finds it full waits.

mod directory;
mod queue;
mod receiver;
mod resume;
mod socket;
mod source;
mod throttle;

pub use queue::BatchQueue;
pub use receiver::{Receiver, ReceiverOptions, Store};
pub use source::{Chunk, Offset, Source, SourceOptions, TailSource};

pub(crate) use directory::lines_of;
pub(crate) use resume::{Resume, to_bytes};
pub(crate) use throttle::{Rates, Throttle};

use super::saved::Identity;
use super::scheduler::Input;
use std::ops::Deref;
use std::sync::Arc;

/// An input of a context.
#[derive(Clone)]
pub(crate) struct KnownInput {
    pub(crate) identity: Arc<Identity>,
    input: Arc<dyn Input>,
}

impl KnownInput {
    pub(crate) fn new(identity: Arc<Identity>, input: Arc<dyn Input>) -> Self {
        KnownInput { identity, input }
    }
}

impl Deref for KnownInput {
    type Target = dyn Input;

    fn deref(&self) -> &Self::Target {
        &*self.input
    }
}
