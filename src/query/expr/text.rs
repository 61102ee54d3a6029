//! Text: bytes of any text column, compared with a literal or with another column.
//!
//! Everything is bytewise, so `Utf8` and `BinaryView` that need not be UTF-8 agree. Cost: one pass over the offsets or
//! views; lengths (and for views the first four bytes) settle most rows before any text is touched. A dictionary is
//! tested once per entry, not per row. Nothing is allocated per row.

use super::like::{Like, matches_symbols};
use super::tree::Op;
use crate::{Error, Result};
use ahash::RandomState;
use arrow_array::cast::AsArray;
use arrow_array::types::ByteArrayType;
use arrow_array::{Array, BinaryArray, BinaryViewArray, GenericByteArray, LargeBinaryArray};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_cast::cast;
use arrow_schema::DataType;
use regex::bytes::Regex;
use std::collections::HashSet;

/// Up to here a list is searched one by one (of views, a pass for each).
const SHORT_LIST: usize = 4;

/// What is asked of each text of a column.
#[derive(Debug, Clone)]
pub(super) enum TextTest {
    Compare(Op, Box<[u8]>),
    /// Distinct texts; more than [`SHORT_LIST`] of them have a set as well.
    In(Vec<Box<[u8]>>, Option<HashSet<Box<[u8]>, RandomState>>),
    Like(Like),
    Regexp(Regex),
}

impl TextTest {
    /// Membership in `list`.
    pub(super) fn within(list: Vec<Box<[u8]>>) -> TextTest {
        // Fixed seeds: no answer depends on them.
        let mut set = HashSet::with_hasher(RandomState::with_seeds(1, 2, 3, 4));
        set.extend(list);
        if set.len() > SHORT_LIST {
            return TextTest::In(Vec::new(), Some(set));
        }
        let mut list: Vec<Box<[u8]>> = set.into_iter().collect();
        match list.len() {
            1 => TextTest::Compare(Op::Eq, list.remove(0)),
            _ => TextTest::In(list, None),
        }
    }
}

/// A column of text without its dictionary, of one of the three layouts.
pub(super) enum Texts {
    Small(BinaryArray),
    Large(LargeBinaryArray),
    View(BinaryViewArray),
}

impl Texts {
    /// `array` as bytes, without a copy.
    pub(super) fn new(array: &dyn Array) -> Result<Texts> {
        Ok(match array.data_type() {
            DataType::Utf8 => Texts::Small(array.as_string::<i32>().clone().into()),
            DataType::LargeUtf8 => Texts::Large(array.as_string::<i64>().clone().into()),
            DataType::Utf8View => Texts::View(array.as_string_view().clone().to_binary_view()),
            DataType::Binary => Texts::Small(array.as_binary::<i32>().clone()),
            DataType::LargeBinary => Texts::Large(array.as_binary::<i64>().clone()),
            DataType::BinaryView => Texts::View(array.as_binary_view().clone()),
            other => {
                return Err(Error::data(format!("a column of {other} was bound as text")));
            }
        })
    }

    fn get(&self, row: usize) -> &[u8] {
        match self {
            Texts::Small(a) => a.value(row),
            Texts::Large(a) => a.value(row),
            Texts::View(a) => a.value(row),
        }
    }
}

/// `op` of two columns of one length, row by row; rows where either is null hold anything.
pub(super) fn compare_columns(op: Op, left: &Texts, right: &Texts, rows: usize) -> BooleanBuffer {
    match op {
        Op::Eq => BooleanBuffer::collect_bool(rows, |i| left.get(i) == right.get(i)),
        Op::Ne => BooleanBuffer::collect_bool(rows, |i| left.get(i) != right.get(i)),
        _ => BooleanBuffer::collect_bool(rows, |i| op.holds(left.get(i).cmp(right.get(i)))),
    }
}

/// `test` of every row of `array`, and its nulls.
pub(super) fn test_column(array: &dyn Array, test: &TextTest) -> Result<(BooleanBuffer, Option<NullBuffer>)> {
    let Some(dictionary) = array.as_any_dictionary_opt() else {
        return Ok((test_texts(&Texts::new(array)?, test), array.nulls().cloned()));
    };
    let (values, nulls) = (dictionary.values(), array.logical_nulls());
    if values.is_empty() {
        return Ok((BooleanBuffer::new_unset(array.len()), nulls));
    }
    if values.len() > array.len() {
        // A short batch of a long dictionary: the rows are fewer.
        let texts = Texts::new(&cast(array, values.data_type())?)?;
        return Ok((test_texts(&texts, test), nulls));
    }
    let entries = test_texts(&Texts::new(values.as_ref())?, test);
    let keys = dictionary.normalized_keys();
    Ok((BooleanBuffer::collect_bool(keys.len(), |i| entries.value(keys[i])), nulls))
}

fn test_texts(texts: &Texts, test: &TextTest) -> BooleanBuffer {
    match texts {
        Texts::Small(a) => test_offsets(a, test),
        Texts::Large(a) => test_offsets(a, test),
        Texts::View(a) => test_views(a, test),
    }
}

fn test_offsets<T: ByteArrayType<Native = [u8]>>(array: &GenericByteArray<T>, test: &TextTest) -> BooleanBuffer {
    test_rows(array.len(), |i| array.value(i), test)
}

fn test_views(array: &BinaryViewArray, test: &TextTest) -> BooleanBuffer {
    let views = array.views();
    match test {
        TextTest::Compare(Op::Eq, literal) | TextTest::Like(Like::Equal(literal)) if literal.len() <= 12 => {
            // A text this short is its view, whole: length, bytes, zeros.
            let wanted = view_start(literal);
            super::number::pack(views, |view| view == wanted)
        }
        TextTest::Compare(Op::Eq, literal) | TextTest::Like(Like::Equal(literal)) => {
            // The length and the first four bytes.
            let wanted = view_start(literal) as u64;
            BooleanBuffer::collect_bool(views.len(), |i| views[i] as u64 == wanted && array.value(i) == &**literal)
        }
        TextTest::Compare(op, literal) => {
            let wanted = prefix(view_start(literal));
            BooleanBuffer::collect_bool(views.len(), |i| {
                let order = prefix(views[i]).cmp(&wanted);
                op.holds(order.then_with(|| array.value(i).cmp(literal)))
            })
        }
        TextTest::In(list, None) => {
            let passes = list.iter().map(|text| test_views(array, &TextTest::Compare(Op::Eq, text.clone())));
            passes.reduce(|a, b| &a | &b).unwrap_or_else(|| BooleanBuffer::new_unset(array.len()))
        }
        _ => test_rows(array.len(), |i| array.value(i), test),
    }
}

/// The view of a text of at most 12 bytes; of a longer one its length and first four bytes.
fn view_start(text: &[u8]) -> u128 {
    let mut view = [0; 16];
    view[..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
    let held = if text.len() <= 12 { text.len() } else { 4 };
    view[4..4 + held].copy_from_slice(&text[..held]);
    u128::from_le_bytes(view)
}

/// The first four bytes of a text, padded with zeros, as a number that orders like them.
fn prefix(view: u128) -> u32 {
    ((view >> 32) as u32).swap_bytes()
}

fn test_rows<'a>(rows: usize, get: impl Fn(usize) -> &'a [u8], test: &TextTest) -> BooleanBuffer {
    match test {
        TextTest::Compare(Op::Eq, literal) | TextTest::Like(Like::Equal(literal)) => {
            BooleanBuffer::collect_bool(rows, |i| get(i) == &**literal)
        }
        TextTest::Compare(op, literal) => BooleanBuffer::collect_bool(rows, |i| op.holds(get(i).cmp(literal))),
        TextTest::In(list, None) => BooleanBuffer::collect_bool(rows, |i| list.iter().any(|text| get(i) == &**text)),
        TextTest::In(_, Some(set)) => BooleanBuffer::collect_bool(rows, |i| set.contains(get(i))),
        TextTest::Like(Like::Anything) => BooleanBuffer::new_set(rows),
        TextTest::Like(Like::Prefix(literal)) => BooleanBuffer::collect_bool(rows, |i| get(i).starts_with(literal)),
        TextTest::Like(Like::Suffix(literal)) => BooleanBuffer::collect_bool(rows, |i| get(i).ends_with(literal)),
        TextTest::Like(Like::Contains(finder)) => BooleanBuffer::collect_bool(rows, |i| finder.find(get(i)).is_some()),
        TextTest::Like(Like::General(symbols)) => {
            BooleanBuffer::collect_bool(rows, |i| matches_symbols(symbols, get(i)))
        }
        TextTest::Regexp(regexp) => BooleanBuffer::collect_bool(rows, |i| regexp.is_match(get(i))),
    }
}
