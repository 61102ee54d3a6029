//! One slot of the manifest: a checkpoint's number, the files that it is made of, and a body for whoever wrote it.
//!
//! ```text
//!   0 ┌────────────────────┐
//!     │ magic "WINDROWC"   │
//!   8 ├─────────┬──────────┤
//!     │ version │    0     │  u16 = 1, 6 bytes
//!  16 ├─────────┴──────────┤
//!     │ number             │  u64: ascends by one with every checkpoint
//!  24 ├────────────────────┤
//!     │ files, body        │  2 × u32: how many files, bytes of the body
//!  32 ├────────────────────┤
//!     │ checksum           │  u64: XXH3 of bytes 40.. with the XXH3 of bytes 0..32 as its seed
//!  40 ├────────────────────┤
//!     │ names              │  of each file a length (u32) and so many bytes of UTF-8
//!     ├────────────────────┤
//!     │ body               │
//!     └────────────────────┘
//! ```
//!
//! Invariant: [`Manifest::decode`] takes no more memory than there are bytes, and ends in [`Malformed`] whatever they are.

use crate::store::block::Malformed;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: [u8; 8] = *b"WINDROWC";
const VERSION: u16 = 1;
const HEADER: usize = 40;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Ascends by one with every checkpoint.
    pub number: u64,
    /// Names of the files in the folder that the checkpoint is made of.
    pub files: Vec<String>,
    /// What the writer wants to know again.
    pub body: Vec<u8>,
}

fn malformed<T>(at: usize, what: &'static str) -> Result<T, Malformed> {
    Err(Malformed { at, what })
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    found.copied().map_or_else(|| malformed(at, "it is cut short"), Ok)
}

fn checksum(slot: &[u8]) -> u64 {
    xxh3_64_with_seed(&slot[HEADER..], xxh3_64(&slot[..32]))
}

impl Manifest {
    /// The slot as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + self.body.len() + self.files.len() * 24);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.resize(16, 0);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
        out.resize(HEADER, 0);
        for name in &self.files {
            out.extend_from_slice(&(name.len() as u32).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(&self.body);
        let sum = checksum(&out);
        out[32..HEADER].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// The slot that `bytes` are, all of them.
    ///
    /// # Errors
    /// Where they stop being one, and why.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, Malformed> {
        if number::<8>(bytes, 0)? != MAGIC {
            return malformed(0, "it is no manifest of checkpoints");
        }
        if u16::from_le_bytes(number(bytes, 8)?) != VERSION {
            return malformed(
                8,
                "it is of another version of the format; finish the run with the windrow that began it",
            );
        }
        let stored = u64::from_le_bytes(number(bytes, 32)?);
        if stored != checksum(bytes) {
            return malformed(32, "it is damaged: its checksum does not fit");
        }
        let files = u32::from_le_bytes(number(bytes, 24)?) as usize;
        let body = u32::from_le_bytes(number(bytes, 28)?) as usize;
        let mut at = HEADER;
        if files > (bytes.len() - HEADER) / 4 {
            return malformed(24, "it has more files than bytes");
        }
        let mut names = Vec::with_capacity(files);
        for _ in 0..files {
            let len = u32::from_le_bytes(number(bytes, at)?) as usize;
            let name = bytes.get(at + 4..).and_then(|rest| rest.get(..len)).and_then(|b| std::str::from_utf8(b).ok());
            let Some(name) = name else { return malformed(at, "the name of a file is cut short or no text") };
            names.push(name.to_owned());
            at += 4 + len;
        }
        if bytes.len() - at != body {
            return malformed(28, "its body is not as long as it should be");
        }
        Ok(Manifest { number: u64::from_le_bytes(number(bytes, 16)?), files: names, body: bytes[at..].to_vec() })
    }
}
