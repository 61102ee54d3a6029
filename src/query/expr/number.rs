//! Numbers: exact comparison across integers and floats, against a literal or between columns.
//!
//! Invariant: a comparison answers as if both sides were real numbers, with −0 = 0 and NaN equal to itself and greater
//! than all else. A literal is therefore turned, once, into a bound of the column's own type (`x < 1.5` over integers is
//! `x <= 1`), and the loop over rows compares native values. Only `=`, `<` and `<=` have loops: the order is total, so
//! the others are negations. Times are integers in their column's unit.
//!
//! Cost: one pass over the values at the speed of memory, 64 rows to a word.

use super::tree::Op;
use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, Float64Array, Int64Array, UInt64Array};
use arrow_buffer::{BooleanBuffer, Buffer};
use arrow_schema::{DataType, TimeUnit};
use std::cmp::Ordering;

/// Up to here a list is one pass for each of its numbers, above a search by halving for each row.
const SHORT_LIST: usize = 8;

/// A number that does not depend on the row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Const {
    Int(i128),
    Float(f64),
}

impl Const {
    pub(super) fn as_f64(self) -> f64 {
        match self {
            Const::Int(i) => i as f64,
            Const::Float(x) => x,
        }
    }

    pub(super) fn compare(self, other: Const) -> Ordering {
        match (self, other) {
            (Const::Int(a), Const::Int(b)) => a.cmp(&b),
            (Const::Float(a), Const::Float(b)) => compare_floats(a, b),
            (Const::Int(a), Const::Float(b)) => compare_int_float(a, b),
            (Const::Float(a), Const::Int(b)) => compare_int_float(b, a).reverse(),
        }
    }
}

/// NaN last and equal to itself, −0 = 0.
fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// An integer against a float, no bit lost.
#[inline]
fn compare_int_float(i: i128, x: f64) -> Ordering {
    if x.is_nan() {
        return Ordering::Less;
    }
    // `as` saturates: beyond 128 bits every integer lies on the near side of x, except that i128::MIN is a float.
    let whole = x.trunc();
    i.cmp(&(whole as i128)).then_with(|| whole.partial_cmp(&x).unwrap_or(Ordering::Equal)).then_with(|| {
        if x >= 2f64.powi(127) {
            Ordering::Less
        } else if x < -(2f64.powi(127)) {
            Ordering::Greater
        } else {
            Ordering::Equal
        }
    })
}

/// What is asked of each value of a column. Integer bounds lie within the column's type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum NumberTest {
    /// This, of every value.
    Always(bool),
    IntLe(i128),
    IntEq(i128),
    /// Ascending and distinct.
    IntIn(Vec<i128>),
    FloatLe(f64),
    FloatLt(f64),
    FloatEq(f64),
    /// Ascending and distinct.
    FloatIn(Vec<f64>),
}

impl NumberTest {
    /// Membership in `list`, of integers that the column's type holds.
    pub(super) fn within(mut list: Vec<i128>) -> NumberTest {
        list.sort_unstable();
        list.dedup();
        match list.as_slice() {
            [] => NumberTest::Always(false),
            [one] => NumberTest::IntEq(*one),
            _ => NumberTest::IntIn(list),
        }
    }
}

/// The comparisons that have loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    Eq,
    Lt,
    Le,
}

impl Base {
    /// `op` is this comparison, or (`true`) its negation.
    pub(super) fn of(op: Op) -> (Base, bool) {
        match op {
            Op::Eq => (Base::Eq, false),
            Op::Ne => (Base::Eq, true),
            Op::Lt => (Base::Lt, false),
            Op::Ge => (Base::Lt, true),
            Op::Le => (Base::Le, false),
            Op::Gt => (Base::Le, true),
        }
    }
}

/// The values a column of numbers can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    Int(i128, i128),
    Float,
}

impl Range {
    pub(super) const INT64: Range = Range::Int(i64::MIN as i128, i64::MAX as i128);

    /// The range of a numeric type.
    pub(super) fn of(ty: &DataType) -> Option<Range> {
        Some(match ty {
            DataType::Int8 => Range::Int(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => Range::Int(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => Range::Int(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => Range::INT64,
            DataType::UInt8 => Range::Int(0, u8::MAX.into()),
            DataType::UInt16 => Range::Int(0, u16::MAX.into()),
            DataType::UInt32 => Range::Int(0, u32::MAX.into()),
            DataType::UInt64 => Range::Int(0, u64::MAX.into()),
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Range::Float,
            _ => return None,
        })
    }

    /// The test that holds for the values `v` of this range with `v base bound`.
    pub(super) fn test(self, base: Base, bound: Const) -> NumberTest {
        match self {
            Range::Int(low, high) => int_test(low, high, base, bound),
            Range::Float => float_test(base, bound),
        }
    }

    /// The test that holds for the values of this range that are in `list`.
    pub(super) fn within(self, list: &[Const]) -> NumberTest {
        let equal = list.iter().map(|c| self.test(Base::Eq, *c));
        match self {
            Range::Int(..) => NumberTest::within(
                equal.filter_map(|t| if let NumberTest::IntEq(i) = t { Some(i) } else { None }).collect(),
            ),
            Range::Float => {
                let mut floats: Vec<f64> =
                    equal.filter_map(|t| if let NumberTest::FloatEq(x) = t { Some(x) } else { None }).collect();
                floats.sort_unstable_by(|a, b| compare_floats(*a, *b));
                floats.dedup();
                NumberTest::FloatIn(floats)
            }
        }
    }
}

fn int_test(low: i128, high: i128, base: Base, bound: Const) -> NumberTest {
    let bound = match (base, bound) {
        (_, Const::Float(x)) if x.is_nan() => return NumberTest::Always(base != Base::Eq),
        (Base::Eq, Const::Float(x)) if x.trunc() != x => return NumberTest::Always(false),
        (Base::Lt, Const::Float(x)) => (x.ceil() as i128).saturating_sub(1),
        (_, Const::Float(x)) => x.floor() as i128,
        (Base::Lt, Const::Int(i)) => i.saturating_sub(1),
        (_, Const::Int(i)) => i,
    };
    match base {
        Base::Eq if bound < low || bound > high => NumberTest::Always(false),
        Base::Eq => NumberTest::IntEq(bound),
        _ if bound < low => NumberTest::Always(false),
        _ if bound >= high => NumberTest::Always(true),
        _ => NumberTest::IntLe(bound),
    }
}

fn float_test(base: Base, bound: Const) -> NumberTest {
    let (x, order) = match bound {
        // The nearest float of an integer: no other float lies between the two.
        Const::Int(i) => (i as f64, compare_int_float(i, i as f64)),
        Const::Float(x) => (x, Ordering::Equal),
    };
    match (base, order) {
        (Base::Eq, Ordering::Equal) => NumberTest::FloatEq(x),
        (Base::Eq, _) => NumberTest::Always(false),
        (Base::Lt, Ordering::Less | Ordering::Equal) | (Base::Le, Ordering::Less) => NumberTest::FloatLt(x),
        (Base::Le, _) | (Base::Lt, Ordering::Greater) => NumberTest::FloatLe(x),
    }
}

/// `test` of each of `values`, 64 to a word.
///
/// First a byte for each, a loop that vector instructions take; then eight bytes to eight bits by one multiplication,
/// which moves bit 0 of byte `i` to bit `56 + i`. Against setting bit by bit, ns per row on Zen 4 with SSE2 only: 0.13
/// for 0.58 of one byte, 0.19 for 0.34 of four, 0.42 either way of eight (19 GB/s).
#[inline]
pub(super) fn pack<T: Copy>(values: &[T], test: impl Fn(T) -> bool) -> BooleanBuffer {
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut bits = Vec::with_capacity(values.len().div_ceil(64) * 8);
    let mut flags = [0u8; 64];
    for chunk in values.chunks(64) {
        for (flag, value) in flags.iter_mut().zip(chunk) {
            *flag = u8::from(test(*value));
        }
        flags[chunk.len()..].fill(0);
        for eight in flags.as_chunks::<8>().0 {
            bits.push((u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56) as u8);
        }
    }
    BooleanBuffer::new(Buffer::from_vec(bits), 0, values.len())
}

/// `test` of every row of `array`; rows that are null hold anything.
pub(super) fn test_column(array: &dyn Array, test: &NumberTest) -> Result<BooleanBuffer> {
    macro_rules! ints {
        ($ty:ty) => {
            test_ints(array.as_primitive::<$ty>().values(), test)
        };
    }
    Ok(match array.data_type() {
        DataType::Int8 => ints!(Int8Type),
        DataType::Int16 => ints!(Int16Type),
        DataType::Int32 => ints!(Int32Type),
        DataType::Int64 => ints!(Int64Type),
        DataType::UInt8 => ints!(UInt8Type),
        DataType::UInt16 => ints!(UInt16Type),
        DataType::UInt32 => ints!(UInt32Type),
        DataType::UInt64 => ints!(UInt64Type),
        DataType::Timestamp(TimeUnit::Second, _) => ints!(TimestampSecondType),
        DataType::Timestamp(TimeUnit::Millisecond, _) => ints!(TimestampMillisecondType),
        DataType::Timestamp(TimeUnit::Microsecond, _) => ints!(TimestampMicrosecondType),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => ints!(TimestampNanosecondType),
        DataType::Date32 => ints!(Date32Type),
        DataType::Date64 => ints!(Date64Type),
        DataType::Float16 => test_floats(array.as_primitive::<Float16Type>().values(), |v| v.to_f64(), test),
        DataType::Float32 => test_floats(array.as_primitive::<Float32Type>().values(), f64::from, test),
        DataType::Float64 => test_floats(array.as_primitive::<Float64Type>().values(), |v| v, test),
        other => {
            return Err(Error::data(format!("a column of {other} was bound as a number")));
        }
    })
}

fn test_ints<T: Copy + Ord + TryFrom<i128>>(values: &[T], test: &NumberTest) -> BooleanBuffer {
    let native = |bound: &i128| T::try_from(*bound).ok();
    match test {
        NumberTest::IntLe(bound) => match native(bound) {
            Some(bound) => pack(values, |v| v <= bound),
            None => BooleanBuffer::new_unset(values.len()),
        },
        NumberTest::IntEq(bound) => match native(bound) {
            Some(bound) => pack(values, |v| v == bound),
            None => BooleanBuffer::new_unset(values.len()),
        },
        NumberTest::IntIn(list) => {
            let list: Vec<T> = list.iter().filter_map(native).collect();
            if list.len() <= SHORT_LIST {
                either(values.len(), &list, |x| pack(values, |v| v == *x))
            } else {
                pack(values, |v| list.binary_search(&v).is_ok())
            }
        }
        NumberTest::Always(true) => BooleanBuffer::new_set(values.len()),
        _ => BooleanBuffer::new_unset(values.len()),
    }
}

/// The rows that pass for one of `list`.
fn either<T>(rows: usize, list: &[T], pass: impl Fn(&T) -> BooleanBuffer) -> BooleanBuffer {
    list.iter().map(pass).reduce(|a, b| &a | &b).unwrap_or_else(|| BooleanBuffer::new_unset(rows))
}

fn test_floats<T: Copy>(values: &[T], wide: impl Fn(T) -> f64, test: &NumberTest) -> BooleanBuffer {
    match test {
        // A NaN bound comes from arithmetic of literals only.
        NumberTest::FloatLe(bound) if bound.is_nan() => BooleanBuffer::new_set(values.len()),
        NumberTest::FloatLt(bound) if bound.is_nan() => pack(values, |v| !wide(v).is_nan()),
        NumberTest::FloatEq(bound) if bound.is_nan() => pack(values, |v| wide(v).is_nan()),
        NumberTest::FloatLe(bound) => pack(values, |v| wide(v) <= *bound),
        NumberTest::FloatLt(bound) => pack(values, |v| wide(v) < *bound),
        NumberTest::FloatEq(bound) => pack(values, |v| wide(v) == *bound),
        NumberTest::FloatIn(list) if list.len() <= SHORT_LIST => {
            either(values.len(), list, |x| pack(values, |v| compare_floats(wide(v), *x).is_eq()))
        }
        NumberTest::FloatIn(list) => pack(values, |v| list.binary_search_by(|x| compare_floats(*x, wide(v))).is_ok()),
        NumberTest::Always(true) => BooleanBuffer::new_set(values.len()),
        _ => BooleanBuffer::new_unset(values.len()),
    }
}

/// Numbers of rows, in the widest type of their sort.
pub(super) enum Numbers {
    Int(Int64Array),
    Uint(UInt64Array),
    Float(Float64Array),
}

impl Numbers {
    pub(super) fn array(&self) -> &dyn Array {
        match self {
            Numbers::Int(a) => a,
            Numbers::Uint(a) => a,
            Numbers::Float(a) => a,
        }
    }
}

/// `base` of two columns of one length, row by row; rows where either is null hold anything.
pub(super) fn compare_columns(base: Base, left: &Numbers, right: &Numbers) -> BooleanBuffer {
    use Numbers::{Float, Int, Uint};
    let ints = |i: i64, u: u64| {
        if i < 0 { Ordering::Less } else { (i as u64).cmp(&u) }
    };
    let signed = |i: i64, x: f64| {
        if x >= -(2f64.powi(63)) && x < 2f64.powi(63) {
            let whole = x as i64;
            i.cmp(&whole).then_with(|| compare_floats(whole as f64, x))
        } else {
            compare_int_float(i.into(), x)
        }
    };
    let unsigned = |u: u64, x: f64| compare_int_float(u.into(), x);
    match (left, right) {
        (Int(a), Int(b)) => zip(base, a.values(), b.values(), |a, b| a.cmp(&b)),
        (Uint(a), Uint(b)) => zip(base, a.values(), b.values(), |a, b| a.cmp(&b)),
        (Float(a), Float(b)) => zip(base, a.values(), b.values(), compare_floats),
        (Int(a), Uint(b)) => zip(base, a.values(), b.values(), ints),
        (Uint(a), Int(b)) => zip(base, a.values(), b.values(), |u, i| ints(i, u).reverse()),
        (Int(a), Float(b)) => zip(base, a.values(), b.values(), signed),
        (Float(a), Int(b)) => zip(base, a.values(), b.values(), |x, i| signed(i, x).reverse()),
        (Uint(a), Float(b)) => zip(base, a.values(), b.values(), unsigned),
        (Float(a), Uint(b)) => zip(base, a.values(), b.values(), |x, u| unsigned(u, x).reverse()),
    }
}

/// `base` of the values of two columns of one length in units of different size.
pub(super) fn compare_scaled(base: Base, left: (&Int64Array, i128), right: (&Int64Array, i128)) -> BooleanBuffer {
    let scaled = |v: i64, unit: i128| i128::from(v) * unit;
    zip(base, left.0.values(), right.0.values(), |a, b| scaled(a, left.1).cmp(&scaled(b, right.1)))
}

#[inline]
fn zip<A: Copy, B: Copy>(base: Base, a: &[A], b: &[B], compare: impl Fn(A, B) -> Ordering) -> BooleanBuffer {
    let rows = a.len().min(b.len());
    let (a, b) = (&a[..rows], &b[..rows]);
    match base {
        Base::Eq => BooleanBuffer::collect_bool(rows, |i| compare(a[i], b[i]).is_eq()),
        Base::Lt => BooleanBuffer::collect_bool(rows, |i| compare(a[i], b[i]).is_lt()),
        Base::Le => BooleanBuffer::collect_bool(rows, |i| compare(a[i], b[i]).is_le()),
    }
}
