//! Columns as the store knows them: fixed-width words, or bytes with offsets, each with or without a validity bitmap.
//!
//! What the words mean (a key, a count, a sum of 128 bits, a pane's index) is the caller's business. Bitmaps are as in
//! Arrow: bit `i % 8` of byte `i / 8` is set if value `i` is one. Columns of one block need not be of one length: a run
//! of panes has keys, cells and pane ends.
//!
//! Cost: [`ColumnRef::scatter`] writes every value once, straight to its place; the loop over single values that tests hold against it is `twin`.

use std::ops::Range;

#[cfg(target_endian = "big")]
compile_error!("columns are written as they lie in memory, and files are little-endian");

/// The type of a column's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ColumnType {
    /// `u8`
    U8 = 0,
    /// `u32`
    U32 = 1,
    /// `u64`
    U64 = 2,
    /// `i64`
    I64 = 3,
    /// `f64`, any bits
    F64 = 4,
    /// `i128`
    I128 = 5,
    /// Bytes of any length.
    Bytes = 6,
}

/// All types, by their numbers on disk.
pub(super) const TYPES: [ColumnType; 7] = [
    ColumnType::U8,
    ColumnType::U32,
    ColumnType::U64,
    ColumnType::I64,
    ColumnType::F64,
    ColumnType::I128,
    ColumnType::Bytes,
];

/// Values that live elsewhere.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "named as the types")]
pub enum Slice<'a> {
    U8(&'a [u8]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    I64(&'a [i64]),
    F64(&'a [f64]),
    I128(&'a [i128]),
    /// Value `i` is `data[offsets[i]..offsets[i + 1]]`: one offset more than values, ascending, from anywhere.
    Bytes {
        offsets: &'a [u32],
        data: &'a [u8],
    },
}

/// A column that lives elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct ColumnRef<'a> {
    /// The values; those that are not valid may be anything.
    pub values: Slice<'a>,
    /// Which values are valid; `None`: all.
    pub validity: Option<Bits<'a>>,
}

/// Some bits of a bitmap.
#[derive(Debug, Clone, Copy)]
pub struct Bits<'a> {
    /// The bitmap.
    pub bytes: &'a [u8],
    /// Its first bit that counts.
    pub offset: usize,
}

impl Bits<'_> {
    /// Bit `i`.
    #[inline]
    pub fn get(&self, i: usize) -> bool {
        let at = self.offset + i;
        self.bytes[at / 8] >> (at % 8) & 1 == 1
    }

    /// Appends the first `len` bits to a bitmap of `from` bits.
    pub(super) fn append_to(&self, bitmap: &mut Vec<u8>, from: usize, len: usize) {
        if from.is_multiple_of(8) && self.offset.is_multiple_of(8) {
            bitmap.truncate(from / 8);
            let first = self.offset / 8;
            bitmap.extend_from_slice(&self.bytes[first..first + len.div_ceil(8)]);
            return;
        }
        bitmap.resize((from + len).div_ceil(8), 0);
        for i in 0..len {
            set(bitmap, from + i, self.get(i));
        }
    }
}

#[inline]
fn set(bitmap: &mut [u8], at: usize, bit: bool) {
    let mask = 1 << (at % 8);
    if bit {
        bitmap[at / 8] |= mask;
    } else {
        bitmap[at / 8] &= !mask;
    }
}

/// A column's own values.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "named as the types")]
pub enum Values {
    U8(Vec<u8>),
    U32(Vec<u32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
    I128(Vec<i128>),
    /// As [`Slice::Bytes`]; the first offset is 0.
    Bytes {
        offsets: Vec<u32>,
        data: Vec<u8>,
    },
}

/// A column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The values; those that are not valid may be anything.
    pub values: Values,
    /// Which values are valid; `None`: all.
    pub validity: Option<Vec<u8>>,
}

/// The same expression over the words of any fixed-width type, or another one over bytes.
macro_rules! each {
    ($of:ident, $on:expr, $v:ident => $fixed:expr, ($offsets:ident, $data:ident) => $bytes:expr) => {
        match $on {
            $of::U8($v) => $fixed,
            $of::U32($v) => $fixed,
            $of::U64($v) => $fixed,
            $of::I64($v) => $fixed,
            $of::F64($v) => $fixed,
            $of::I128($v) => $fixed,
            $of::Bytes { offsets: $offsets, data: $data } => $bytes,
        }
    };
}
pub(super) use each;

impl<'a> ColumnRef<'a> {
    /// A column of valid values.
    pub fn new(values: Slice<'a>) -> ColumnRef<'a> {
        ColumnRef { values, validity: None }
    }

    /// The type.
    pub fn column_type(&self) -> ColumnType {
        match self.values {
            Slice::U8(_) => ColumnType::U8,
            Slice::U32(_) => ColumnType::U32,
            Slice::U64(_) => ColumnType::U64,
            Slice::I64(_) => ColumnType::I64,
            Slice::F64(_) => ColumnType::F64,
            Slice::I128(_) => ColumnType::I128,
            Slice::Bytes { .. } => ColumnType::Bytes,
        }
    }

    /// Values.
    pub fn len(&self) -> usize {
        each!(Slice, self.values, v => v.len(), (offsets, _data) => offsets.len().saturating_sub(1))
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the values take.
    pub fn bytes(&self) -> usize {
        let values = each!(Slice, self.values, v => size_of_val(v), (offsets, _data) => {
            size_of_val(offsets) + (offsets.last().unwrap_or(&0) - offsets.first().unwrap_or(&0)) as usize
        });
        values + self.validity.map_or(0, |_| self.len().div_ceil(8))
    }

    /// The values of `range`.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> ColumnRef<'a> {
        let values = match self.values {
            Slice::U8(v) => Slice::U8(&v[range.clone()]),
            Slice::U32(v) => Slice::U32(&v[range.clone()]),
            Slice::U64(v) => Slice::U64(&v[range.clone()]),
            Slice::I64(v) => Slice::I64(&v[range.clone()]),
            Slice::F64(v) => Slice::F64(&v[range.clone()]),
            Slice::I128(v) => Slice::I128(&v[range.clone()]),
            Slice::Bytes { offsets, data } => Slice::Bytes { offsets: &offsets[range.start..=range.end], data },
        };
        let validity = self.validity.map(|bits| Bits { offset: bits.offset + range.start, ..bits });
        ColumnRef { values, validity }
    }

    /// The same values, value `i` at `destination[i]`; `destination` is a permutation.
    #[must_use]
    pub fn scatter(&self, destination: &[u32]) -> Column {
        fn words<T: Copy + Default>(from: &[T], destination: &[u32]) -> Vec<T> {
            let mut to = vec![T::default(); from.len()];
            for (value, at) in from.iter().zip(destination) {
                to[*at as usize] = *value;
            }
            to
        }
        let values = match self.values {
            Slice::U8(v) => Values::U8(words(v, destination)),
            Slice::U32(v) => Values::U32(words(v, destination)),
            Slice::U64(v) => Values::U64(words(v, destination)),
            Slice::I64(v) => Values::I64(words(v, destination)),
            Slice::F64(v) => Values::F64(words(v, destination)),
            Slice::I128(v) => Values::I128(words(v, destination)),
            Slice::Bytes { offsets, data } => {
                let mut to = vec![0u32; offsets.len()];
                for (ends, at) in offsets.windows(2).zip(destination) {
                    to[*at as usize + 1] = ends[1] - ends[0];
                }
                for i in 1..to.len() {
                    to[i] += to[i - 1];
                }
                let mut bytes = vec![0; to.last().map_or(0, |end| *end as usize)];
                for (ends, at) in offsets.windows(2).zip(destination) {
                    let (from, len) = (ends[0] as usize, (ends[1] - ends[0]) as usize);
                    let start = to[*at as usize] as usize;
                    bytes[start..start + len].copy_from_slice(&data[from..from + len]);
                }
                Values::Bytes { offsets: to, data: bytes }
            }
        };
        let validity = self.validity.map(|bits| {
            let mut bitmap = vec![0; destination.len().div_ceil(8)];
            for (i, at) in destination.iter().enumerate() {
                if bits.get(i) {
                    bitmap[*at as usize / 8] |= 1 << (at % 8);
                }
            }
            bitmap
        });
        Column { values, validity }
    }

    /// A copy.
    pub fn to_column(&self) -> Column {
        let mut column = Column::new(self.column_type());
        column.append(self);
        column
    }
}

impl Column {
    /// An empty column.
    pub fn new(ty: ColumnType) -> Column {
        let values = match ty {
            ColumnType::U8 => Values::U8(Vec::new()),
            ColumnType::U32 => Values::U32(Vec::new()),
            ColumnType::U64 => Values::U64(Vec::new()),
            ColumnType::I64 => Values::I64(Vec::new()),
            ColumnType::F64 => Values::F64(Vec::new()),
            ColumnType::I128 => Values::I128(Vec::new()),
            ColumnType::Bytes => Values::Bytes { offsets: vec![0], data: Vec::new() },
        };
        Column { values, validity: None }
    }

    /// The type.
    pub fn column_type(&self) -> ColumnType {
        self.view().column_type()
    }

    /// Values.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held.
    pub fn capacity(&self) -> usize {
        fn held<T>(values: &Vec<T>) -> usize {
            values.capacity() * size_of::<T>()
        }
        let values = each!(Values, &self.values, v => held(v), (offsets, data) => held(offsets) + data.capacity());
        values + self.validity.as_ref().map_or(0, Vec::capacity)
    }

    /// The column as one that lives elsewhere.
    pub fn view(&self) -> ColumnRef<'_> {
        let values = match &self.values {
            Values::U8(v) => Slice::U8(v),
            Values::U32(v) => Slice::U32(v),
            Values::U64(v) => Slice::U64(v),
            Values::I64(v) => Slice::I64(v),
            Values::F64(v) => Slice::F64(v),
            Values::I128(v) => Slice::I128(v),
            Values::Bytes { offsets, data } => Slice::Bytes { offsets, data },
        };
        ColumnRef { values, validity: self.validity.as_ref().map(|bytes| Bits { bytes, offset: 0 }) }
    }

    /// Forgets the values and keeps the memory.
    pub fn clear(&mut self) {
        each!(Values, &mut self.values, v => v.clear(), (offsets, data) => {
            offsets.truncate(1);
            data.clear();
        });
        self.validity = None;
    }

    /// Appends another column's values, which must be of this column's type (otherwise nothing is appended).
    pub fn append(&mut self, other: &ColumnRef<'_>) {
        let (before, more) = (self.len(), other.len());
        match (&mut self.values, other.values) {
            (Values::U8(to), Slice::U8(from)) => to.extend_from_slice(from),
            (Values::U32(to), Slice::U32(from)) => to.extend_from_slice(from),
            (Values::U64(to), Slice::U64(from)) => to.extend_from_slice(from),
            (Values::I64(to), Slice::I64(from)) => to.extend_from_slice(from),
            (Values::F64(to), Slice::F64(from)) => to.extend_from_slice(from),
            (Values::I128(to), Slice::I128(from)) => to.extend_from_slice(from),
            (Values::Bytes { offsets: to, data: bytes }, Slice::Bytes { offsets, data }) => {
                if let [first, rest @ ..] = offsets {
                    let base = bytes.len() as u32;
                    bytes.extend_from_slice(&data[*first as usize..offsets[offsets.len() - 1] as usize]);
                    to.extend(rest.iter().map(|end| end - first + base));
                }
            }
            _ => debug_assert!(false, "columns of two types"),
        }
        match (&mut self.validity, other.validity) {
            (None, None) => {}
            (Some(bitmap), Some(bits)) => bits.append_to(bitmap, before, more),
            (Some(bitmap), None) => {
                bitmap.resize((before + more).div_ceil(8), 0);
                (before..before + more).for_each(|at| set(bitmap, at, true));
            }
            (none, Some(bits)) => {
                let mut bitmap = vec![0xff; before.div_ceil(8)];
                bits.append_to(&mut bitmap, before, more);
                *none = Some(bitmap);
            }
        }
    }
}

/// What columns are, one value after the other: `None` is null, words are their little-endian bytes.
#[cfg(test)]
pub(crate) mod twin {
    use super::{ColumnRef, Slice};

    /// The values of a column.
    pub(crate) fn values(column: &ColumnRef<'_>) -> Vec<Option<Vec<u8>>> {
        let value = |i: usize| match column.values {
            Slice::U8(v) => vec![v[i]],
            Slice::U32(v) => v[i].to_le_bytes().to_vec(),
            Slice::U64(v) => v[i].to_le_bytes().to_vec(),
            Slice::I64(v) => v[i].to_le_bytes().to_vec(),
            Slice::F64(v) => v[i].to_le_bytes().to_vec(),
            Slice::I128(v) => v[i].to_le_bytes().to_vec(),
            Slice::Bytes { offsets, data } => data[offsets[i] as usize..offsets[i + 1] as usize].to_vec(),
        };
        (0..column.len()).map(|i| column.validity.is_none_or(|bits| bits.get(i)).then(|| value(i))).collect()
    }
}
