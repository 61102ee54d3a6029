//! Keys of the declared face: one fixed-width field as a word, everything else as bytes.
//!
//! A single integer, boolean, date, time or float key is its 64-bit word (one NaN, no −0); a single text key is its
//! bytes; no key at all is the empty text. Several fields are encoded one behind the other, each as a tag (0 null,
//! 1 value), then eight bytes, or a `u32` length and the text. A single null key is told from `0` and `""` by its
//! hash, [`NULL_HASH`].

use super::key_words::{word_array, words};
use super::text::{TextColumn, is_text};
use crate::core::groups::{GroupId, KeyStore};
use crate::core::words::{Bytes, put, put_one, put_packed};
use crate::hash::{NULL_HASH, hash_bytes, hash_word};
use crate::{Error, Result};
use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use std::ops::Range;
use std::sync::Arc;

/// The keys of some rows, with the published hash of each.
pub(crate) trait KeyRows: KeyBatch + Default + Send + Sync {
    /// Where keys of this shape live once interned.
    type Store: KeyStore<Rows = Self> + Default + Send + Sync;
    /// The array of each key field over the keys `ids` of `store`, `fields` being the fields' types.
    fn arrays(
        store: &Self::Store,
        null: &dyn Fn(GroupId) -> bool,
        ids: &[GroupId],
        fields: &[DataType],
    ) -> Result<Vec<ArrayRef>>;
    /// The keys `ids` of `store` as a batch.
    fn rows_of(store: &Self::Store, ids: &[GroupId]) -> Self;
    /// How two keys of one store compare, for ties of the hash.
    fn compare(store: &Self::Store, a: GroupId, b: GroupId) -> std::cmp::Ordering;
}

/// What the map side does with keys.
pub(crate) trait KeyBatch {
    /// Forgets all rows, keeps the memory.
    fn clear(&mut self);
    /// Appends the keys of the rows of `columns` (all of one length) and their hashes.
    fn extend(&mut self, columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<()> {
        self.append(columns, rows, hashes).inspect(|_| self.complete(hashes))
    }
    /// The same, but the hashes of words wait until they are [completed](Self::complete), unless a key is null.
    fn append(&mut self, columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<()>;
    /// The keys, if they are words.
    fn words(&self) -> Option<&[u64]> {
        None
    }
    /// Appends the hashes that [`append`](Self::append) has left out.
    fn complete(&self, hashes: &mut Vec<u64>) {
        let rest = self.words().and_then(|words| words.get(hashes.len()..)).unwrap_or_default();
        hashes.extend(rest.iter().map(|word| hash_word(*word)));
    }
    /// Whether rows `a` and `b`, of equal hashes, have the same key.
    fn same(&self, a: usize, b: usize) -> bool;
    /// Appends the keys of `rows`, whose hashes `hashes` are (from that of the first row on), to `out`.
    fn save(&self, rows: Range<usize>, hashes: &[u64], out: &mut Vec<u8>);
    /// Appends the `rows` keys that [`save`](Self::save) wrote, and to `hashes` their hashes; `None` if the bytes are none.
    fn load(&mut self, rows: usize, from: &mut Bytes<'_>, hashes: &mut Vec<u64>) -> Option<()>;
    /// The keys of `rows`, in that order.
    fn pick(&self, rows: &[u32]) -> Self;
    /// Bytes of memory held.
    fn bytes(&self) -> usize;
}

/// Whether a single key of this type is a word.
pub(crate) fn is_word(data_type: &DataType) -> bool {
    !is_text(data_type)
}

/// Keys of one fixed-width field.
#[derive(Debug, Default)]
pub(crate) struct WordRows(Vec<u64>);

/// Interned words.
#[derive(Debug, Default)]
pub(crate) struct WordStore(Vec<u64>);

impl KeyBatch for WordRows {
    fn clear(&mut self) {
        self.0.clear();
    }

    fn append(&mut self, columns: &[ArrayRef], _rows: usize, hashes: &mut Vec<u64>) -> Result<()> {
        if columns[0].data_type() == &DataType::Int64 && columns[0].null_count() == 0 {
            self.0.extend(columns[0].as_primitive::<Int64Type>().values().iter().map(|v| *v as u64));
            return Ok(());
        }
        let (words, nulls) = words(&columns[0])?;
        match nulls {
            None => self.0.extend_from_slice(&words),
            Some(nulls) => {
                self.complete(hashes);
                for (i, word) in words.into_iter().enumerate() {
                    let valid = nulls.is_valid(i);
                    self.0.push(if valid { word } else { 0 });
                    hashes.push(if valid { hash_word(word) } else { NULL_HASH });
                }
            }
        }
        Ok(())
    }

    fn words(&self) -> Option<&[u64]> {
        Some(&self.0)
    }

    #[inline]
    fn same(&self, a: usize, b: usize) -> bool {
        self.0[a] == self.0[b]
    }

    fn save(&self, rows: Range<usize>, hashes: &[u64], out: &mut Vec<u8>) {
        put_packed(&[&self.0[rows]], out);
        save_nulls(hashes, out);
    }

    fn load(&mut self, rows: usize, from: &mut Bytes<'_>, hashes: &mut Vec<u64>) -> Option<()> {
        let (before, first) = (self.0.len(), hashes.len());
        from.packed(rows, &mut self.0)?;
        hashes.extend(self.0[before..].iter().map(|word| hash_word(*word)));
        load_nulls(&mut hashes[first..], from)
    }

    fn pick(&self, rows: &[u32]) -> Self {
        WordRows(rows.iter().map(|row| self.0[*row as usize]).collect())
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * 8
    }
}

impl KeyStore for WordStore {
    type Rows = WordRows;

    #[inline]
    fn is(&self, id: GroupId, rows: &WordRows, row: usize) -> bool {
        self.0[id as usize] == rows.0[row]
    }

    #[inline]
    fn has_double(&self, rows: &WordRows, row: usize) -> bool {
        rows.0[row] == 0
    }

    fn put(&mut self, id: GroupId, rows: &WordRows, row: usize) {
        match self.0.get_mut(id as usize) {
            Some(old) => *old = rows.0[row],
            None => self.0.push(rows.0[row]),
        }
    }

    fn bytes(&self) -> usize {
        self.0.capacity() * 8
    }
}

impl KeyRows for WordRows {
    type Store = WordStore;

    fn arrays(
        store: &WordStore,
        null: &dyn Fn(GroupId) -> bool,
        ids: &[GroupId],
        fields: &[DataType],
    ) -> Result<Vec<ArrayRef>> {
        let values = ids.iter().map(|id| (!null(*id)).then(|| store.0[*id as usize]));
        Ok(vec![word_array(values, &fields[0])?])
    }

    fn rows_of(store: &WordStore, ids: &[GroupId]) -> Self {
        WordRows(ids.iter().map(|id| store.0[*id as usize]).collect())
    }

    fn compare(store: &WordStore, a: GroupId, b: GroupId) -> std::cmp::Ordering {
        (store.0[a as usize] as i64).cmp(&(store.0[b as usize] as i64))
    }
}

/// Appends which of the keys with these hashes are null: how many, then where.
fn save_nulls(hashes: &[u64], out: &mut Vec<u8>) {
    let nulls: Vec<u32> = hashes.iter().zip(0..).filter(|(hash, _)| **hash == NULL_HASH).map(|(_, row)| row).collect();
    put_one(nulls.len() as u32, out);
    put(&nulls, out);
}

/// Puts the hash of null where [`save_nulls`] says.
fn load_nulls(hashes: &mut [u64], from: &mut Bytes<'_>) -> Option<()> {
    let count = from.word::<u32>()? as usize;
    from.words::<u32>(count)?.into_iter().try_for_each(|row| {
        *hashes.get_mut(row as usize)? = NULL_HASH;
        Some(())
    })
}

/// Keys as bytes: one text field, several fields, or none.
#[derive(Debug, Default)]
pub(crate) struct ByteRows {
    /// Where each row's key stands in `data`; rows of a dictionary's entry share one place.
    places: Vec<(u32, u32)>,
    data: Vec<u8>,
}

impl ByteRows {
    #[inline]
    fn get(&self, row: usize) -> &[u8] {
        let (start, len) = self.places[row];
        &self.data[start as usize..(start + len) as usize]
    }

    /// Appends the key of one row, unless those of the block are more than 4 GiB then.
    #[inline]
    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let start = self.data.len();
        self.data.extend_from_slice(bytes);
        if self.data.len() > u32::MAX as usize {
            return Err(Error::data("the keys of one block of 65,536 records are longer than 4 GiB"));
        }
        self.places.push((start as u32, bytes.len() as u32));
        Ok(())
    }

    /// Appends a dictionary's rows: each entry is hashed and copied once.
    fn extend_dictionary(&mut self, column: &ArrayRef, rows: usize, hashes: &mut Vec<u64>) -> Result<()> {
        let dictionary = column.as_any_dictionary();
        let text = TextColumn::new(dictionary.values())?;
        let mut entries = Vec::with_capacity(dictionary.values().len());
        for entry in 0..dictionary.values().len() {
            let bytes = text.get(entry);
            self.push(bytes.unwrap_or_default())?;
            entries.push((self.places.pop().unwrap_or_default(), bytes.map_or(NULL_HASH, hash_bytes)));
        }
        let keys = dictionary.normalized_keys();
        let nulls = dictionary.nulls().filter(|n| n.null_count() > 0);
        for (row, key) in keys.iter().enumerate().take(rows) {
            let (place, hash) = match nulls {
                Some(nulls) if nulls.is_null(row) => ((0, 0), NULL_HASH),
                _ => entries[*key],
            };
            self.places.push(place);
            hashes.push(hash);
        }
        Ok(())
    }
}

/// Interned bytes. Those of keys that left stay until they are half of all.
#[derive(Debug, Default)]
pub(crate) struct ByteStore {
    ranges: Vec<(usize, u32)>,
    data: Vec<u8>,
    dead: usize,
}

/// Fewer bytes of keys that left are not worth a pass. Tiny under test, so that tests go through it.
const SWEEP_FROM: usize = if cfg!(test) { 16 } else { 64 << 10 };

impl ByteStore {
    fn get(&self, id: GroupId) -> &[u8] {
        let (start, len) = self.ranges[id as usize];
        &self.data[start..start + len as usize]
    }
}

impl KeyBatch for ByteRows {
    fn clear(&mut self) {
        self.places.clear();
        self.data.clear();
    }

    fn append(&mut self, columns: &[ArrayRef], rows: usize, hashes: &mut Vec<u64>) -> Result<()> {
        match columns {
            [] => {
                self.places.resize(self.places.len() + rows, (0, 0));
                hashes.resize(hashes.len() + rows, hash_bytes(b""));
            }
            [column] if matches!(column.data_type(), DataType::Dictionary(..)) => {
                self.extend_dictionary(column, rows, hashes)?;
            }
            [column] => {
                let text = TextColumn::new(column)?;
                for row in 0..rows {
                    match text.get(row) {
                        Some(bytes) => {
                            self.push(bytes)?;
                            hashes.push(hash_bytes(bytes));
                        }
                        None => {
                            self.places.push((0, 0));
                            hashes.push(NULL_HASH);
                        }
                    }
                }
            }
            several => {
                let fields: Vec<RowField> = several.iter().map(RowField::new).collect::<Result<_>>()?;
                let mut encoded = Vec::new();
                for row in 0..rows {
                    encoded.clear();
                    fields.iter().for_each(|f| f.encode(row, &mut encoded));
                    self.push(&encoded)?;
                    hashes.push(hash_bytes(&encoded));
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn same(&self, a: usize, b: usize) -> bool {
        self.places[a] == self.places[b] || self.get(a) == self.get(b)
    }

    fn save(&self, rows: Range<usize>, hashes: &[u64], out: &mut Vec<u8>) {
        let lengths: Vec<u32> = self.places[rows.clone()].iter().map(|place| place.1).collect();
        put_packed(&[&lengths], out);
        rows.for_each(|row| out.extend_from_slice(self.get(row)));
        save_nulls(hashes, out);
    }

    fn load(&mut self, rows: usize, from: &mut Bytes<'_>, hashes: &mut Vec<u64>) -> Option<()> {
        let (before, first) = (self.places.len(), hashes.len());
        let start = u32::try_from(self.data.len()).ok()?;
        let mut end = start;
        from.packed_as(rows, &mut self.places, |len: u32| (0, len))?;
        for (start, len) in &mut self.places[before..] {
            *start = end;
            end = end.checked_add(*len)?;
        }
        self.data.extend_from_slice(from.take((end - start) as usize)?);
        hashes.extend((before..self.places.len()).map(|row| hash_bytes(self.get(row))));
        load_nulls(&mut hashes[first..], from)
    }

    fn pick(&self, rows: &[u32]) -> Self {
        let mut out = ByteRows { places: Vec::with_capacity(rows.len()), data: Vec::new() };
        for row in rows {
            let bytes = self.get(*row as usize);
            out.places.push((out.data.len() as u32, bytes.len() as u32));
            out.data.extend_from_slice(bytes);
        }
        out
    }

    fn bytes(&self) -> usize {
        self.places.capacity() * 8 + self.data.capacity()
    }
}

impl KeyStore for ByteStore {
    type Rows = ByteRows;

    #[inline]
    fn is(&self, id: GroupId, rows: &ByteRows, row: usize) -> bool {
        self.get(id) == rows.get(row)
    }

    #[inline]
    fn has_double(&self, rows: &ByteRows, row: usize) -> bool {
        rows.places[row].1 == 0
    }

    fn put(&mut self, id: GroupId, rows: &ByteRows, row: usize) {
        let bytes = rows.get(row);
        let range = (self.data.len(), bytes.len() as u32);
        self.data.extend_from_slice(bytes);
        match self.ranges.get_mut(id as usize) {
            Some(old) => *old = range,
            None => self.ranges.push(range),
        }
    }

    fn free(&mut self, id: GroupId) {
        let (_, len) = std::mem::take(&mut self.ranges[id as usize]);
        self.dead += len as usize;
        if self.dead >= SWEEP_FROM && 2 * self.dead >= self.data.len() {
            let mut data = Vec::with_capacity(self.data.len() - self.dead);
            for (start, len) in &mut self.ranges {
                let from = std::mem::replace(start, data.len());
                data.extend_from_slice(&self.data[from..from + *len as usize]);
            }
            (self.data, self.dead) = (data, 0);
        }
    }

    fn bytes(&self) -> usize {
        self.ranges.capacity() * 16 + self.data.capacity()
    }
}

impl KeyRows for ByteRows {
    type Store = ByteStore;

    fn arrays(
        store: &ByteStore,
        null: &dyn Fn(GroupId) -> bool,
        ids: &[GroupId],
        fields: &[DataType],
    ) -> Result<Vec<ArrayRef>> {
        match fields {
            [] => Ok(Vec::new()),
            [_] => {
                let mut builder = StringBuilder::new();
                for id in ids {
                    if null(*id) {
                        builder.append_null();
                    } else {
                        builder.append_value(String::from_utf8_lossy(store.get(*id)));
                    }
                }
                Ok(vec![Arc::new(builder.finish())])
            }
            several => decode_rows(ids.iter().map(|id| store.get(*id)), several),
        }
    }

    fn rows_of(store: &ByteStore, ids: &[GroupId]) -> Self {
        let mut rows = ByteRows::default();
        for bytes in ids.iter().map(|id| store.get(*id)) {
            rows.places.push((rows.data.len() as u32, bytes.len() as u32));
            rows.data.extend_from_slice(bytes);
        }
        rows
    }

    fn compare(store: &ByteStore, a: GroupId, b: GroupId) -> std::cmp::Ordering {
        store.get(a).cmp(store.get(b))
    }
}

/// One field of a key of several fields.
enum RowField<'a> {
    Word(Vec<u64>, Option<arrow_buffer::NullBuffer>),
    Text(TextColumn<'a>),
}

impl<'a> RowField<'a> {
    fn new(column: &'a ArrayRef) -> Result<Self> {
        if is_word(column.data_type()) {
            let (words, nulls) = words(column)?;
            Ok(RowField::Word(words, nulls))
        } else {
            Ok(RowField::Text(TextColumn::new(column)?))
        }
    }

    fn encode(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            RowField::Word(_, Some(nulls)) if nulls.is_null(row) => out.push(0),
            RowField::Word(words, _) => {
                out.push(1);
                out.extend_from_slice(&words[row].to_le_bytes());
            }
            RowField::Text(text) => match text.get(row) {
                None => out.push(0),
                Some(bytes) => {
                    out.push(1);
                    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                    out.extend_from_slice(bytes);
                }
            },
        }
    }
}

/// Row encodings back as one array per field.
fn decode_rows<'a>(rows: impl Iterator<Item = &'a [u8]>, fields: &[DataType]) -> Result<Vec<ArrayRef>> {
    let mut texts: Vec<StringBuilder> = fields.iter().map(|_| StringBuilder::new()).collect();
    let mut words: Vec<Vec<Option<u64>>> = vec![Vec::new(); fields.len()];
    for mut row in rows {
        for (i, field) in fields.iter().enumerate() {
            let null = take(&mut row, 1)[0] == 0;
            match (is_word(field), null) {
                (true, true) => words[i].push(None),
                (true, false) => {
                    let mut word = [0; 8];
                    word.copy_from_slice(take(&mut row, 8));
                    words[i].push(Some(u64::from_le_bytes(word)));
                }
                (false, true) => texts[i].append_null(),
                (false, false) => {
                    let mut len = [0; 4];
                    len.copy_from_slice(take(&mut row, 4));
                    texts[i].append_value(String::from_utf8_lossy(take(&mut row, u32::from_le_bytes(len) as usize)));
                }
            }
        }
    }
    let arrays = fields.iter().zip(texts).zip(words);
    arrays
        .map(|((field, mut text), words)| {
            if is_word(field) { word_array(words.into_iter(), field) } else { Ok(Arc::new(text.finish()) as ArrayRef) }
        })
        .collect()
}

fn take<'a>(row: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (head, tail) = row.split_at(len);
    *row = tail;
    head
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Groups;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Keys come and go; what is known is found under its id, and the bytes of what left do not pile up.
        #[test]
        fn freed_bytes_are_used_again(steps in prop::collection::vec((0usize..9, any::<bool>()), 0..200)) {
            let names = ["", "a", "bb", "ccc", "dddddddd", "ä", "eeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "ff", "g"];
            let column: ArrayRef = Arc::new(arrow_array::StringArray::from(names.to_vec()));
            let (mut rows, mut hashes) = (ByteRows::default(), Vec::new());
            rows.extend(&[column], names.len(), &mut hashes).unwrap();
            let mut groups = Groups::new(ByteStore::default());
            let mut twin = BTreeMap::new();
            for (name, come) in steps {
                if come {
                    let mut ids = Vec::new();
                    groups.intern(&rows, &hashes, name..name + 1, &mut ids);
                    prop_assert!(twin.insert(name, ids[0]).is_none_or(|known| known == ids[0]));
                } else if let Some(id) = twin.remove(&name) {
                    groups.free(id);
                }
                for (name, id) in &twin {
                    prop_assert_eq!(groups.keys().get(*id), names[*name].as_bytes());
                }
                let live: usize = twin.keys().map(|name| names[*name].len()).sum();
                prop_assert!(groups.keys().data.len() <= 2 * live + 64);
            }
        }
    }
}
