//! Plan and columns to an answer for each row.
//!
//! Three-valued: a comparison is null where an operand is; `and`, `or` and `not` are Kleene's. Every part of a plan is
//! evaluated over the whole batch, so that whether integer arithmetic leaves 64 bits does not depend on how the input
//! is cut. Cost: one pass per comparison, one over the bit maps (1/64 of it) per `and`, `or`, `not`.

use super::number::{self, Base, Const, Numbers};
use super::plan::{Cond, Domain, Number};
use super::text::{self, Texts};
use super::tree::{Arith, Op};
use crate::{Error, Result};
use arrow_arith::boolean::{and_kleene, is_null, not, or_kleene};
use arrow_arith::numeric;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, BooleanArray, Datum, Float64Array, Int64Array, Scalar, new_null_array};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_schema::{ArrowError, DataType};
use arrow_select::nullif::nullif;
use std::sync::Arc;

/// The columns of one batch, in the order of the expression's fields.
pub(super) struct Batch<'a> {
    pub(super) columns: &'a [ArrayRef],
    pub(super) rows: usize,
}

impl Batch<'_> {
    pub(super) fn condition(&self, cond: &Cond) -> Result<BooleanArray> {
        Ok(match cond {
            Cond::Constant(None) => BooleanArray::new_null(self.rows),
            Cond::Constant(Some(true)) => BooleanArray::new(BooleanBuffer::new_set(self.rows), None),
            Cond::Constant(Some(false)) => BooleanArray::new(BooleanBuffer::new_unset(self.rows), None),
            Cond::Column(i) => self.columns[*i].as_boolean().clone(),
            Cond::And(list) => self.fold(list, true, and_kleene)?,
            Cond::Or(list) => self.fold(list, false, or_kleene)?,
            Cond::Not(inner) => not(&self.condition(inner)?)?,
            Cond::ColumnIsNull(i) => match self.columns[*i].logical_nulls() {
                Some(nulls) => BooleanArray::new(!nulls.inner(), None),
                None => BooleanArray::new(BooleanBuffer::new_unset(self.rows), None),
            },
            Cond::IsNull(inner) => is_null(&self.condition(inner)?)?,
            Cond::NumberIsNull(number) => is_null(&self.number(number)?)?,
            Cond::Is(inner, want) => {
                let (values, nulls) = self.condition(inner)?.into_parts();
                let values = if *want { values } else { !&values };
                BooleanArray::new(nulls.map_or_else(|| values.clone(), |n| &values & n.inner()), None)
            }
            Cond::Number(value, test) => {
                let value = self.number(value)?;
                BooleanArray::new(number::test_column(&value, test)?, value.nulls().cloned())
            }
            Cond::Numbers(base, left, right) => {
                let (left, right) = (self.numbers(left)?, self.numbers(right)?);
                let nulls = NullBuffer::union(left.array().nulls(), right.array().nulls());
                BooleanArray::new(number::compare_columns(*base, &left, &right), nulls)
            }
            Cond::Times(base, left, right) => self.times(*base, *left, *right)?,
            Cond::Text(i, test) => {
                let (values, nulls) = text::test_column(self.columns[*i].as_ref(), test)?;
                BooleanArray::new(values, nulls)
            }
            Cond::Texts(op, i, j) => {
                let (left, right) = (unpacked(&self.columns[*i])?, unpacked(&self.columns[*j])?);
                let nulls = NullBuffer::union(left.nulls(), right.nulls());
                let (left, right) = (Texts::new(left.as_ref())?, Texts::new(right.as_ref())?);
                BooleanArray::new(text::compare_columns(*op, &left, &right, self.rows), nulls)
            }
            Cond::Booleans(op, left, right) => {
                let (left, left_nulls) = self.condition(left)?.into_parts();
                let (right, right_nulls) = self.condition(right)?.into_parts();
                let nulls = NullBuffer::union(left_nulls.as_ref(), right_nulls.as_ref());
                BooleanArray::new(compare_bits(*op, &left, &right), nulls)
            }
        })
    }

    fn fold(
        &self,
        list: &[Cond],
        neutral: bool,
        join: fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, ArrowError>,
    ) -> Result<BooleanArray> {
        let mut list = list.iter();
        let Some(first) = list.next() else {
            return self.condition(&Cond::Constant(Some(neutral)));
        };
        let mut joined = self.condition(first)?;
        for cond in list {
            joined = join(&joined, &self.condition(cond)?)?;
        }
        Ok(joined)
    }

    /// A number of each row, in the type it comes in.
    fn number(&self, number: &Number) -> Result<ArrayRef> {
        match number {
            Number::Column(i) => Ok(Arc::clone(&self.columns[*i])),
            Number::Const(Const::Int(i)) if i64::try_from(*i).is_ok() => {
                Ok(Arc::new(Int64Array::from_value(*i as i64, self.rows)))
            }
            Number::Const(c) => Ok(Arc::new(Float64Array::from_value(c.as_f64(), self.rows))),
            Number::Arith(op, a, b, domain, shown) => self.arith(*op, a, b, *domain, shown),
            Number::Negate(a, domain, shown) => {
                numeric::neg(&self.number_in(a, *domain, shown)?).map_err(|_| overflow(shown))
            }
        }
    }

    /// A number of each row, in `domain`, as an operand of what is written as `shown`.
    fn number_in(&self, number: &Number, domain: Domain, shown: &str) -> Result<ArrayRef> {
        let array = self.number(number)?;
        let ty = match domain {
            Domain::Int => DataType::Int64,
            Domain::Float => DataType::Float64,
        };
        if *array.data_type() == ty {
            return Ok(array);
        }
        // Only large unsigned integers can fail.
        let checked = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&array, &ty, &checked).map_err(|_| overflow(shown))
    }

    /// Integers wider than the column are never needed: 64 bits, with or without sign, hold every column.
    fn numbers(&self, number: &Number) -> Result<Numbers> {
        let array = self.number(number)?;
        Ok(match array.data_type() {
            DataType::UInt64 => Numbers::Uint(array.as_primitive().clone()),
            ty if ty.is_integer() => Numbers::Int(cast(&array, &DataType::Int64)?.as_primitive().clone()),
            _ => Numbers::Float(cast(&array, &DataType::Float64)?.as_primitive().clone()),
        })
    }

    fn times(&self, base: Base, left: (usize, i128), right: (usize, i128)) -> Result<BooleanArray> {
        let ticks = |i: usize| -> Result<Int64Array> {
            let column = &self.columns[i];
            let narrow = *column.data_type() == DataType::Date32;
            let column = if narrow { cast(column, &DataType::Int32)? } else { Arc::clone(column) };
            Ok(cast(&column, &DataType::Int64)?.as_primitive().clone())
        };
        let (a, b) = (ticks(left.0)?, ticks(right.0)?);
        let nulls = NullBuffer::union(a.nulls(), b.nulls());
        Ok(BooleanArray::new(number::compare_scaled(base, (&a, left.1), (&b, right.1)), nulls))
    }

    fn arith(&self, op: Arith, a: &Number, b: &Number, domain: Domain, shown: &str) -> Result<ArrayRef> {
        let (a, b) = (self.operand(a, domain, shown)?, self.operand(b, domain, shown)?);
        let result = match op {
            Arith::Add => numeric::add(a.as_ref(), b.as_ref()),
            Arith::Sub => numeric::sub(a.as_ref(), b.as_ref()),
            Arith::Mul => numeric::mul(a.as_ref(), b.as_ref()),
            Arith::Div | Arith::Rem => {
                let (divisor, scalar) = b.get();
                let divisor = without_zeros(divisor)?;
                let divide = if op == Arith::Div { numeric::div } else { numeric::rem };
                if scalar && divisor.is_null(0) {
                    return Ok(new_null_array(divisor.data_type(), self.rows));
                }
                if scalar { divide(a.as_ref(), &Scalar::new(divisor)) } else { divide(a.as_ref(), &divisor) }
            }
        };
        result.map_err(|_| overflow(shown))
    }

    /// An operand of arithmetic: a literal stays one value.
    fn operand(&self, number: &Number, domain: Domain, shown: &str) -> Result<Box<dyn Datum>> {
        Ok(match (number, domain) {
            (Number::Const(Const::Int(i)), Domain::Int) => Box::new(Int64Array::new_scalar(*i as i64)),
            (Number::Const(c), _) => Box::new(Float64Array::new_scalar(c.as_f64())),
            _ => Box::new(self.number_in(number, domain, shown)?),
        })
    }
}

/// Zeros are null: what they divide is null.
fn without_zeros(divisor: &dyn Array) -> Result<ArrayRef> {
    let zeros = match divisor.data_type() {
        DataType::Int64 => number::pack(divisor.as_primitive::<Int64Type>().values(), |v| v == 0),
        _ => number::pack(divisor.as_primitive::<Float64Type>().values(), |v| v == 0.0),
    };
    Ok(nullif(divisor, &BooleanArray::new(zeros, None))?)
}

/// A column without its dictionary.
pub(super) fn unpacked(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Dictionary(_, values) => cast(column, values)?,
        _ => Arc::clone(column),
    })
}

/// False before true.
fn compare_bits(op: Op, a: &BooleanBuffer, b: &BooleanBuffer) -> BooleanBuffer {
    match op {
        Op::Eq => !&(a ^ b),
        Op::Ne => a ^ b,
        Op::Lt => &!a & b,
        Op::Ge => !&(&!a & b),
        Op::Gt => a & &!b,
        Op::Le => !&(a & &!b),
    }
}

fn overflow(shown: &str) -> Error {
    Error::data(format!("{shown} leaves the range of 64-bit integers; make one of its numbers a float, such as 1.0"))
}
