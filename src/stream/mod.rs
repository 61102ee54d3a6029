//! The typed face: records of any type, closures instead of declared aggregates, micro-batches instead of event time.
//!
#![doc = include_str!("guide.md")]

mod batch;
mod borrowed;
mod bridge;
mod clock;
mod codec;
mod context;
mod dstream;
mod exec;
mod graph;
mod input;
mod join;
mod journal;
mod keyed;
mod listener;
mod mapped;
mod ordered;
mod output;
mod pairs;
mod part;
mod persist;
mod recovery;
mod reduced;
mod runs;
mod saved;
mod scheduler;
mod spilled;
mod storage;
#[cfg(test)]
mod tests;
mod update;
mod window;
mod windowed;

pub use batch::Batch;
pub use borrowed::Emit;
pub use clock::{Clock, ManualClock, Time};
pub use codec::{Codec, Postcard};
pub use context::{Builder, StreamingContext};
pub use dstream::DStream;
pub use input::{BatchQueue, Chunk, Offset, Receiver, ReceiverOptions, Source, SourceOptions, Store, TailSource};
pub use join::{Either, Sides};
pub use keyed::Partitioner;
pub use listener::{BatchInfo, Listener, Statistics};
pub use mapped::{MapWithState, State, StateSpec};
pub use persist::StorageLevel;
pub use scheduler::{ContextState, OnFailure};
pub use windowed::{NoInverse, WindowedBatches, reduce_by_key_and_window, reduce_by_key_and_window_inverse};

pub use crate::engine::rate::{Pid, RateEstimator};

use std::hash::Hash;

/// What records may be: anything that can be cloned and sent to another thread.
pub trait Data: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Data for T {}

/// What keys may be: [`Data`] with equality and a hash.
pub trait Key: Data + Eq + Hash {}

impl<T: Data + Eq + Hash> Key for T {}
