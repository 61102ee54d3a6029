//! How records leave memory, and come back: what spilling, the levels of persistence and object files write.
//!
//! Nothing needs a codec as long as it stays in memory. Where records may leave it, [`Postcard`] stands in for any type
//! with serde's traits; a type that has none, or none that works without its own description, brings a [`Codec`].

use super::Data;
use super::join::Side;
use crate::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Turns records into bytes and back.
pub trait Codec<T>: Send + Sync + 'static {
    /// Appends the bytes of `record` to `out`, at least one.
    ///
    /// # Errors
    /// The record cannot be written.
    fn encode(&self, record: &T, out: &mut Vec<u8>) -> Result<()>;

    /// Takes one record off the front of `bytes`, which begin where one was written.
    ///
    /// # Errors
    /// The bytes are not those of a record.
    fn decode(&self, bytes: &mut &[u8]) -> Result<T>;
}

/// The codec of every type that serde can write and read in a binary format.
#[derive(Debug, Clone, Copy, Default)]
pub struct Postcard;

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    fn encode(&self, record: &T, out: &mut Vec<u8>) -> Result<()> {
        let before = out.len();
        postcard::to_io(record, &mut *out)
            .map_err(|e| Error::data(format!("a record cannot be written in binary form: {e}")))?;
        if out.len() == before {
            // A type of one value: its records are counted all the same.
            out.push(0);
        }
        Ok(())
    }

    fn decode(&self, bytes: &mut &[u8]) -> Result<T> {
        let (record, rest) = postcard::take_from_bytes(bytes)
            .map_err(|e| Error::data(format!("a record cannot be read back from its binary form: {e}")))?;
        *bytes = if rest.len() == bytes.len() { rest.get(1..).unwrap_or_default() } else { rest };
        Ok(record)
    }
}

/// The codec of a batch, if it has one.
pub(crate) type Coder<T> = Arc<dyn Codec<T>>;

/// Pairs with a value of either side, by the codecs of both.
pub(crate) struct Sided<K, V, W>(pub(crate) Coder<(K, V)>, pub(crate) Coder<(K, W)>);

impl<K: Data, V: Data, W: Data> Codec<(K, Side<V, W>)> for Sided<K, V, W> {
    fn encode(&self, record: &(K, Side<V, W>), out: &mut Vec<u8>) -> Result<()> {
        match &record.1 {
            Side::Left(value) => {
                out.push(0);
                self.0.encode(&(record.0.clone(), value.clone()), out)
            }
            Side::Right(value) => {
                out.push(1);
                self.1.encode(&(record.0.clone(), value.clone()), out)
            }
        }
    }

    fn decode(&self, bytes: &mut &[u8]) -> Result<(K, Side<V, W>)> {
        let Some((side, rest)) = bytes.split_first() else {
            return Err(Error::data("a pair that was spilled ends early"));
        };
        *bytes = rest;
        if *side == 0 {
            self.0.decode(bytes).map(|(key, value)| (key, Side::Left(value)))
        } else {
            self.1.decode(bytes).map(|(key, value)| (key, Side::Right(value)))
        }
    }
}
