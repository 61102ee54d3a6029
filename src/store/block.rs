//! A block: some columns, packed one by one, with a checksum over all of it.
//!
//! ```text
//! header, 48 bytes
//!   0 ┌────────────────────┐
//!     │ magic "WBLK"       │
//!   4 ├─────────┬────┬─────┤
//!     │ version │kind│  0  │  u16 = 1, u8 (0 rows, 1 partials, 2 runs), u8
//!   8 ├─────────┴────┴─────┤
//!     │ length             │  u32: bytes of the whole block, header included
//!  12 ├────────────────────┤
//!     │ partition          │  u32
//!  16 ├────────────────────┤
//!     │ first              │  u64: least sequence number of what it holds
//!  24 ├────────────────────┤
//!     │ last               │  u64: greatest
//!  32 ├────────────────────┤
//!     │ rows               │  u32: for whoever wrote it
//!  36 ├────────────────────┤
//!     │ columns            │  u32
//!  40 ├────────────────────┤
//!     │ checksum           │  u64: XXH3 of bytes 48.. with the XXH3 of bytes 0..40 as its seed
//!  48 └────────────────────┘
//! one entry for each column
//!   0 ┌────┬────┬─────────┐
//!     │type│ v  │    0    │  u8 (0 u8, 1 u32, 2 u64, 3 i64, 4 f64, 5 i128, 6 bytes), u8 = 1 if there is a bitmap, u16
//!   4 ├────┴────┴─────────┤
//!     │ values            │  u32
//!   8 ├───────────────────┤
//!     │ plain, packed     │  2 × u32 for each buffer of the column, in the order: bitmap, values | lengths, bytes;
//!     └───────────────────┘  equal: the buffer is not packed, otherwise it is one LZ4 block
//! the buffers, in the order of the entries
//! ```
//!
//! Values are little-endian words; texts are their lengths (u32), then their bytes one behind the other.
//!
//! Invariant: [`decode`] allocates nothing before the checksum fits, and then no more than 255 times the bytes it was
//! given (what LZ4 can make of them at most) and never more than [`MOST_PLAIN`]; it ends in [`Malformed`] whatever it is given.
//!
//! What comes to more than five eighths is left as it is: unpacking it, and trying, would take longer than the bytes.
//!
//! Cost: LZ4 packs about 1 GB/s and unpacks 4.5 GB/s a core; the checksum runs at 20 GB/s.

use super::column::{Column, ColumnRef, ColumnType, Slice, TYPES, Values, each};
use bytemuck::{Pod, Zeroable, cast_slice, cast_slice_mut};
use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use std::fmt;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

const MAGIC: [u8; 4] = *b"WBLK";
const VERSION: u16 = 1;
/// Bytes of a block's header.
pub const HEADER: usize = 48;
const ENTRY: usize = 8;

/// Most bytes that the values of one block may take unpacked.
pub const MOST_PLAIN: usize = 2 << 30;

/// The most that LZ4 makes of a byte.
const MOST_RATIO: usize = 255;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Content {
    /// Records as they are.
    Rows = 0,
    /// Values folded by key before they travelled.
    Partials = 1,
    /// Sealed runs of panes.
    Runs = 2,
}

/// What a block says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// What it holds.
    pub content: Content,
    /// The partition that it belongs to.
    pub partition: u32,
    /// The least sequence number of what it holds.
    pub first: u64,
    /// The greatest.
    pub last: u64,
    /// Rows, as its writer counts them.
    pub rows: u32,
}

/// A block in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// What it says of itself.
    pub label: Label,
    /// Its columns, named by their positions.
    pub columns: Vec<Column>,
}

/// Why bytes are no block (or no segment).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Where in the bytes.
    pub at: usize,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
}

impl std::error::Error for Malformed {}

pub(super) fn malformed<T>(at: usize, what: &'static str) -> Result<T, Malformed> {
    Err(Malformed { at, what })
}

/// Packs blocks of one kind, with memory that is used again.
pub struct Packer {
    passes: Vec<Passes>,
    table: CompressTable,
    packed: Vec<u8>,
    lengths: Vec<u32>,
    bitmap: Vec<u8>,
}

/// How many more buffers of a column are not tried, because the last one that was did not pack.
#[derive(Debug, Default, Clone, Copy)]
struct Passes {
    left: u32,
    next: u32,
}

/// Shorter buffers say nothing of others.
const TRIED_FROM: usize = 1 << 10;
/// At most so many buffers are passed by.
const MOST_PASSES: u32 = 63;

impl Default for Packer {
    fn default() -> Packer {
        Packer {
            passes: Vec::new(),
            table: CompressTable::large(),
            packed: Vec::new(),
            lengths: Vec::new(),
            bitmap: Vec::new(),
        }
    }
}

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// Appends a block to `out` and returns its length in bytes.
    ///
    /// # Errors
    /// If the values take more than [`MOST_PLAIN`] bytes; `out` is then as it was.
    pub fn encode(&mut self, label: &Label, columns: &[ColumnRef<'_>], out: &mut Vec<u8>) -> Result<u32, Malformed> {
        let plain: usize = columns.iter().map(ColumnRef::bytes).sum();
        if plain > MOST_PLAIN {
            return malformed(0, "the values of one block take more than 2 GiB");
        }
        let start = out.len();
        out.resize(start + HEADER, 0);
        let mut entries = out.len();
        let mut number = 0;
        let mut next = || {
            number += 1;
            number - 1
        };
        let buffers: usize = columns.iter().map(|c| buffers(c.column_type(), c.validity.is_some())).sum();
        out.resize(entries + columns.len() * ENTRY + buffers * 8, 0);
        for column in columns {
            out[entries] = column.column_type() as u8;
            out[entries + 1] = u8::from(column.validity.is_some());
            put(out, entries + 4, &(column.len() as u32).to_le_bytes());
            entries += ENTRY;
            if let Some(bits) = column.validity {
                let mut bitmap = std::mem::take(&mut self.bitmap);
                bitmap.clear();
                bits.append_to(&mut bitmap, 0, column.len());
                self.buffer(next(), &bitmap, &mut entries, out);
                self.bitmap = bitmap;
            }
            each!(Slice, column.values, v => self.buffer(next(), cast_slice(v), &mut entries, out), (offsets, data) => {
                let mut lengths = std::mem::take(&mut self.lengths);
                lengths.clear();
                lengths.extend(offsets.windows(2).map(|ends| ends[1] - ends[0]));
                self.buffer(next(), cast_slice(&lengths), &mut entries, out);
                self.lengths = lengths;
                let (from, to) = (offsets.first().unwrap_or(&0), offsets.last().unwrap_or(&0));
                self.buffer(next(), &data[*from as usize..*to as usize], &mut entries, out);
            });
        }
        let length = (out.len() - start) as u32;
        let block = &mut out[start..];
        put(block, 0, &MAGIC);
        put(block, 4, &VERSION.to_le_bytes());
        block[6] = label.content as u8;
        put(block, 8, &length.to_le_bytes());
        put(block, 12, &label.partition.to_le_bytes());
        put(block, 16, &label.first.to_le_bytes());
        put(block, 24, &label.last.to_le_bytes());
        put(block, 32, &label.rows.to_le_bytes());
        put(block, 36, &(columns.len() as u32).to_le_bytes());
        let sum = checksum(block);
        put(block, 40, &sum.to_le_bytes());
        Ok(length)
    }

    /// Appends one buffer, packed if that is worth it, and its entry. The last buffers of that number say whether to try.
    fn buffer(&mut self, number: usize, plain: &[u8], entry: &mut usize, out: &mut Vec<u8>) {
        if self.passes.len() <= number {
            self.passes.resize(number + 1, Passes::default());
        }
        let passes = &mut self.passes[number];
        let packed = if passes.left > 0 {
            passes.left -= 1;
            plain
        } else {
            let most = get_maximum_output_size(plain.len());
            if self.packed.len() < most {
                self.packed.resize(most, 0);
            }
            match compress_into_with_table(plain, &mut self.packed, &mut self.table) {
                Ok(n) if n <= plain.len() / 8 * 5 => {
                    *passes = Passes::default();
                    &self.packed[..n]
                }
                _ if plain.len() < TRIED_FROM => plain,
                _ => {
                    passes.next = (2 * passes.next + 1).min(MOST_PASSES);
                    passes.left = passes.next;
                    plain
                }
            }
        };
        put(out, *entry, &(plain.len() as u32).to_le_bytes());
        put(out, *entry + 4, &(packed.len() as u32).to_le_bytes());
        *entry += 8;
        out.extend_from_slice(packed);
    }
}

fn buffers(ty: ColumnType, validity: bool) -> usize {
    1 + usize::from(validity) + usize::from(ty == ColumnType::Bytes)
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    out[at..at + bytes.len()].copy_from_slice(bytes);
}

fn checksum(block: &[u8]) -> u64 {
    xxh3_64_with_seed(&block[HEADER..], xxh3_64(&block[..40]))
}

/// `N` bytes at `at`, if there are so many.
pub(super) fn get<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
    let found = at.checked_add(N).and_then(|end| bytes.get(at..end)).and_then(|b| b.try_into().ok());
    found.map_or_else(|| malformed(at, "it is cut short"), Ok)
}

pub(super) fn get_u32(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
    get(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn get_u64(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
    get(bytes, at).map(u64::from_le_bytes)
}

pub(super) fn content(byte: u8) -> Option<Content> {
    [Content::Rows, Content::Partials, Content::Runs].into_iter().find(|c| *c as u8 == byte)
}

/// The block that `bytes` are, all of them.
///
/// # Errors
/// Where they stop being one, and why.
pub fn decode(bytes: &[u8]) -> Result<Block, Malformed> {
    if get::<4>(bytes, 0)? != MAGIC {
        return malformed(0, "there is no block here");
    }
    if u16::from_le_bytes(get(bytes, 4)?) != VERSION {
        return malformed(4, "the block is of another version of the format");
    }
    if get_u32(bytes, 8)? as usize != bytes.len() {
        return malformed(8, "the block is not as long as it should be");
    }
    if get_u64(bytes, 40)? != checksum(bytes) {
        return malformed(40, "the block is damaged: its checksum does not fit");
    }
    let Some(content) = content(bytes[6]) else { return malformed(6, "the block's content is of no known kind") };
    let label = Label {
        content,
        partition: get_u32(bytes, 12)?,
        first: get_u64(bytes, 16)?,
        last: get_u64(bytes, 24)?,
        rows: get_u32(bytes, 32)?,
    };
    let count = get_u32(bytes, 36)? as usize;
    if count > (bytes.len() - HEADER) / (ENTRY + 8) {
        return malformed(36, "the block has more columns than bytes");
    }
    let mut heads = Vec::with_capacity(count);
    let (mut at, mut all_plain) = (HEADER, 0usize);
    for _ in 0..count {
        let [ty, validity, 0, 0] = get(bytes, at)? else { return malformed(at, "a column's entry is malformed") };
        let Some(ty) = TYPES.get(ty as usize) else { return malformed(at, "a column is of no known type") };
        if validity > 1 {
            return malformed(at + 1, "a column's entry is malformed");
        }
        let len = get_u32(bytes, at + 4)? as usize;
        heads.push((*ty, validity == 1, len, at + ENTRY));
        at += ENTRY;
        for _ in 0..buffers(*ty, validity == 1) {
            all_plain = all_plain.saturating_add(get_u32(bytes, at)? as usize);
            at += 8;
        }
    }
    if all_plain > MOST_PLAIN {
        return malformed(HEADER, "the block says that it holds more than 2 GiB");
    }
    let mut buffers = Buffers { bytes, entry: 0, at };
    let mut columns = Vec::with_capacity(count);
    for (ty, validity, len, entry) in heads {
        buffers.entry = entry;
        let validity = if validity { Some(buffers.next(len.div_ceil(8))?) } else { None };
        let values = match ty {
            ColumnType::U8 => Values::U8(buffers.next(len)?),
            ColumnType::U32 => Values::U32(buffers.next(len)?),
            ColumnType::U64 => Values::U64(buffers.next(len)?),
            ColumnType::I64 => Values::I64(buffers.next(len)?),
            ColumnType::F64 => Values::F64(buffers.next(len)?),
            ColumnType::I128 => Values::I128(buffers.next(len)?),
            ColumnType::Bytes => {
                let mut lengths: Vec<u32> = buffers.next(len)?;
                let mut end = 0u32;
                for length in &mut lengths {
                    let Some(sum) = end.checked_add(*length) else {
                        return malformed(entry, "a column's texts are longer than their bytes");
                    };
                    (*length, end) = (end, sum);
                }
                lengths.push(end);
                Values::Bytes { offsets: lengths, data: buffers.next(end as usize)? }
            }
        };
        columns.push(Column { values, validity });
    }
    if buffers.at != bytes.len() {
        return malformed(buffers.at, "the block goes on after its last column");
    }
    Ok(Block { label, columns })
}

/// Reads the buffers of a block, one after the other.
struct Buffers<'a> {
    bytes: &'a [u8],
    /// Where the next buffer's entry stands.
    entry: usize,
    at: usize,
}

impl Buffers<'_> {
    /// The next buffer, which must hold `len` values.
    fn next<T: Pod + Zeroable>(&mut self, len: usize) -> Result<Vec<T>, Malformed> {
        let (plain, packed) =
            (get_u32(self.bytes, self.entry)? as usize, get_u32(self.bytes, self.entry + 4)? as usize);
        if len.checked_mul(size_of::<T>()) != Some(plain) {
            return malformed(self.entry, "a column's bytes are not what its values take");
        }
        self.entry += 8;
        let from = self.at;
        let Some(source) = self.at.checked_add(packed).and_then(|end| self.bytes.get(from..end)) else {
            return malformed(from, "a column is cut short");
        };
        self.at += packed;
        if plain != packed && plain / MOST_RATIO > packed {
            return malformed(self.entry - 8, "a column says that it unpacks to more than it can");
        }
        let mut values: Vec<T> = vec![T::zeroed(); len];
        let to: &mut [u8] = cast_slice_mut(&mut values);
        if plain == packed {
            to.copy_from_slice(source);
        } else if decompress_into(source, to).ok() != Some(plain) {
            return malformed(from, "a column does not unpack");
        }
        Ok(values)
    }
}
