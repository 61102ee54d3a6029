//! windrow: keyed sliding windows over logs and Parquet, on one machine, within a memory limit.

pub mod error;
pub mod format;
pub mod time;

pub use error::{Error, ErrorKind, Place, Result};
