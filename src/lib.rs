//! windrow: keyed sliding windows over logs and Parquet, on one machine, within a memory limit.

pub mod core;
mod engine;
pub mod error;
pub mod format;
pub mod hash;
pub mod memory;
pub mod metrics;
pub mod query;
pub mod sink;
pub mod source;
pub mod stream;
pub mod time;

pub use error::{Error, ErrorKind, Place, Result};
