//! The wanted columns of one block, filled a row at a time from the tokens of a record that has been scanned whole.
//!
//! A row enters only when its record is known to be good, so that all columns always have the same length and
//! nothing is ever taken back. Text columns are views into the block; what cannot be a view, because its escapes
//! are decoded or it carries a mark, is copied to a second buffer of the same array.

use super::number::{self, Whole};
use super::scan::{Kind, Token, unescape};
use crate::format::FieldType;
use crate::time::TimeFormat;
use crate::{Error, Result};
use arrow_array::builder::BinaryViewBuilder;
use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, TimestampMicrosecondArray};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBufferBuilder};
use std::sync::Arc;

/// The byte before every text value that is not a JSON string.
const MARK: u8 = 0x00;
/// The byte between a mark and a JSON string that begins with [`MARK`] itself.
const STRING_MARK: u8 = 0x01;

/// What is printed for a text value of [`super::JsonDecoder`]: the value without its mark.
///
/// ```
/// use windrow::format::json::display_token;
///
/// assert_eq!(display_token(b"200"), b"200"); // the JSON string "200"
/// assert_eq!(display_token(b"\x00200"), b"200"); // the JSON number 200
/// ```
pub fn display_token(value: &[u8]) -> &[u8] {
    match value {
        [MARK, STRING_MARK, string @ ..] => string,
        [MARK, token @ ..] => token,
        string => string,
    }
}

/// Reads times written in one format, and remembers the last one: the records of a log repeat theirs.
#[derive(Debug)]
pub(super) struct Clock<'a> {
    format: &'a TimeFormat,
    last: Token,
    time: Option<i64>,
}

impl<'a> Clock<'a> {
    pub(super) fn new(format: &'a TimeFormat) -> Clock<'a> {
        Clock { format, last: Token::ABSENT, time: None }
    }

    /// The time, in microseconds, that `token` of `data` says.
    #[inline(always)]
    pub(super) fn read(&mut self, token: Token, data: &[u8], scratch: &mut Vec<u8>) -> Option<i64> {
        match token.kind {
            Kind::Plain | Kind::Integer | Kind::Float => {
                let text = token.of(data);
                if text != self.last.of(data) || self.last.kind == Kind::Absent {
                    self.last = token;
                    self.time = self.format.parse_bytes(text);
                }
                self.time
            }
            Kind::Escaped => {
                scratch.clear();
                unescape(token.of(data), scratch);
                self.format.parse_bytes(scratch)
            }
            _ => None,
        }
    }
}

/// Values of a fixed width and which of them are null.
#[derive(Debug)]
struct Fixed<T> {
    values: Vec<T>,
    nulls: NullBufferBuilder,
}

impl<T: Copy + Default> Fixed<T> {
    fn new(rows: usize) -> Self {
        Fixed { values: Vec::with_capacity(rows), nulls: NullBufferBuilder::new(rows) }
    }

    #[inline(always)]
    fn push(&mut self, value: Option<T>) {
        self.values.push(value.unwrap_or_default());
        self.nulls.append(value.is_some());
    }
}

/// The values of one column.
#[derive(Debug)]
enum Values<'a> {
    Text(BinaryViewBuilder),
    Int64(Fixed<i64>),
    Float64(Fixed<f64>),
    Boolean(BooleanBufferBuilder, NullBufferBuilder),
    Timestamp(Fixed<i64>, Clock<'a>),
}

/// A column that is being filled.
#[derive(Debug)]
pub(super) struct Column<'a> {
    name: &'a str,
    values: Values<'a>,
}

impl<'a> Column<'a> {
    /// An empty column for about `rows` values of `data`. `format` is how its times are written.
    pub(super) fn new(name: &'a str, ty: FieldType, format: &'a TimeFormat, data: &Buffer, rows: usize) -> Column<'a> {
        let values = match ty {
            FieldType::Text => {
                let mut views = BinaryViewBuilder::with_capacity(rows);
                views.append_block(data.clone());
                Values::Text(views)
            }
            FieldType::Int64 => Values::Int64(Fixed::new(rows)),
            FieldType::Float64 => Values::Float64(Fixed::new(rows)),
            FieldType::Boolean => Values::Boolean(BooleanBufferBuilder::new(rows), NullBufferBuilder::new(rows)),
            FieldType::Timestamp => Values::Timestamp(Fixed::new(rows), Clock::new(format)),
        };
        Column { name, values }
    }

    /// Appends the value that `token` of `data` is; returns whether it fitted the column's type.
    #[inline(always)]
    pub(super) fn push(&mut self, token: Token, data: &[u8], scratch: &mut Vec<u8>) -> Result<bool> {
        let (start, end) = (token.start as usize, token.end as usize);
        let given = !matches!(token.kind, Kind::Absent | Kind::Null);
        let fits = match &mut self.values {
            Values::Text(views) => {
                match token.kind {
                    Kind::Plain => views.try_append_view(0, token.start, token.end - token.start)?,
                    _ => push_copy(views, token, data, scratch)?,
                }
                return Ok(true);
            }
            Values::Int64(column) => {
                let value = match token.kind {
                    Kind::Integer => number::integer(data, start, end),
                    Kind::Float => match number::whole(token.of(data)) {
                        Whole::Fits(value) => Some(value),
                        Whole::TooLarge => None,
                        Whole::Fraction => return Err(fraction(self.name, token.of(data))),
                    },
                    _ => None,
                };
                column.push(value);
                value.is_some()
            }
            Values::Float64(column) => {
                let value = match token.kind {
                    Kind::Integer | Kind::Float => number::float(data, start, end),
                    _ => None,
                };
                column.push(value);
                value.is_some()
            }
            Values::Boolean(values, nulls) => {
                let fits = matches!(token.kind, Kind::True | Kind::False);
                values.append(token.kind == Kind::True);
                nulls.append(fits);
                fits
            }
            Values::Timestamp(column, clock) => {
                let value = clock.read(token, data, scratch);
                column.push(value);
                value.is_some()
            }
        };
        Ok(fits || !given)
    }

    /// The finished column.
    pub(super) fn finish(self) -> Result<ArrayRef> {
        Ok(match self.values {
            Values::Text(mut views) => Arc::new(views.finish()),
            Values::Int64(mut c) => Arc::new(Int64Array::try_new(c.values.into(), c.nulls.finish())?),
            Values::Float64(mut c) => Arc::new(Float64Array::try_new(c.values.into(), c.nulls.finish())?),
            Values::Boolean(mut values, mut nulls) => Arc::new(BooleanArray::new(values.finish(), nulls.finish())),
            Values::Timestamp(mut c, _) => {
                let times = TimestampMicrosecondArray::try_new(c.values.into(), c.nulls.finish())?;
                Arc::new(times.with_timezone("UTC"))
            }
        })
    }
}

/// Appends a text value that is not a stretch of the block as it stands.
fn push_copy(views: &mut BinaryViewBuilder, token: Token, data: &[u8], scratch: &mut Vec<u8>) -> Result<()> {
    scratch.clear();
    match token.kind {
        Kind::Absent | Kind::Null => {
            views.append_null();
            return Ok(());
        }
        Kind::Escaped => {
            unescape(token.of(data), scratch);
            if scratch.first() == Some(&MARK) {
                scratch.splice(0..0, [MARK, STRING_MARK]);
            }
        }
        _ => {
            scratch.push(MARK);
            scratch.extend_from_slice(token.of(data));
        }
    }
    Ok(views.try_append_value(&**scratch)?)
}

/// An integer field that meets a fraction.
#[cold]
fn fraction(name: &str, value: &[u8]) -> Error {
    let value = String::from_utf8_lossy(&value[..value.len().min(64)]);
    Error::data(format!("field `{name}` is read as an integer, but a record has {value}: say --type {name}:float"))
}
