//! SQL expressions over columns: `--where`, `--having`, `count_if`.
//!
//! An [`Expr`] is parsed once and knows its fields; bound to their types it is a [`Predicate`], which answers true,
//! false or null for each row of a batch. Invariants: comparison is exact (SEMANTICS §3: integers and floats as real
//! numbers, −0 = 0, NaN greater than every number and equal to itself, text bytewise); logic is SQL's, of three values;
//! nothing is decided per row that can be decided per expression; no text, however long or deep, overflows the stack.
//! Cost: a comparison is one pass over the column's values, 0.1 to 0.5 ns per row for numbers against a literal, 0.5 to 1
//! for text that is equal or not, 3 to 20 for `like`; nothing is allocated per row.
//!
//! # The language
//! - comparisons `= == <> != < <= > >=` of fields and literals, either way round, and of fields with each other;
//! - `and`, `or`, `not`, parentheses; `is [not] null`, `is [not] true`, `is [not] false`; a boolean field alone;
//! - `[not] in (...)`, `[not] between a and b`, `[not] like 'a%'` (`%` any text, `_` one character, no escape);
//! - `regexp_like(x, 'pattern')`: whether a regular expression (of the `regex` crate) matches somewhere in a text;
//! - `+ - * / %` of numbers. Integers stay integers, and leaving 64 bits is an error; `/` always gives a float; what is
//!   divided by zero is null; a float with a point or an exponent is a 64-bit one;
//! - literals `12`, `-1.5`, `2e9`, `'text'` (`''` is a quote), `true`, `false`, `null`. A comparison with `null` is null;
//! - a time field meets a time in text: `time >= '2024-01-31T12:00:00Z'`; without a zone it is UTC;
//! - fields by name, as they are written: `status`, `a.b` (the field of that name), `"@timestamp"`, `"in"`. Only `and or
//!   not is null true false in between like` are reserved.
//!
//! # Known limitation
//! Other functions, `case` and casts are not there. Decimals and nested columns are refused.

mod bind;
mod eval;
mod hints;
mod instant;
mod like;
mod names;
mod number;
mod parse;
mod plan;
mod text;
mod tree;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;

use crate::{Error, Result};
use arrow_array::{ArrayRef, BooleanArray};
use arrow_schema::DataType;
use std::fmt;

/// An expression as it was written, its types not yet known.
///
/// ```
/// use arrow_array::{ArrayRef, Int64Array};
/// use arrow_schema::DataType;
/// use std::sync::Arc;
/// use windrow::query::expr::Expr;
///
/// let expr = Expr::parse("status >= 500 or status = 404")?;
/// assert_eq!(expr.fields(), ["status"]);
///
/// let predicate = expr.bind(&|name| (name == "status").then_some(DataType::Int64), &[])?;
/// let status: ArrayRef = Arc::new(Int64Array::from(vec![Some(200), Some(404), None, Some(503)]));
/// let kept = predicate.evaluate(&[status], 4)?;
/// assert_eq!(kept.iter().collect::<Vec<_>>(), [Some(false), Some(true), None, Some(true)]);
/// # Ok::<(), windrow::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Expr {
    text: String,
    parsed: parse::Parsed,
}

/// What a field must be for an expression to make sense, as far as the expression alone says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hint {
    /// It is compared with numbers or computed with.
    Number,
    /// It is compared with text, or with a time written as text.
    Text,
    /// It is used as a condition or compared with one.
    Boolean,
    /// It is only asked whether it is null, or compared with things of different sorts.
    Unknown,
}

impl Expr {
    /// Parses `text`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`], with line and column, for what is not in the language (see the [module](self)), and
    /// for more than 128 parentheses or operators inside each other.
    ///
    /// ```
    /// # use windrow::query::expr::Expr;
    /// let error = Expr::parse("status >= ").unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "in the expression \"status >= \", line 1, column 11: \
    ///      the expression ends where a field or a value should stand"
    /// );
    /// ```
    pub fn parse(text: &str) -> Result<Expr> {
        Ok(Expr { text: text.to_owned(), parsed: parse::parse(text)? })
    }

    /// The fields it names, each once, in the order of their first mention.
    ///
    /// ```
    /// # use windrow::query::expr::Expr;
    /// let expr = Expr::parse(r#""@timestamp" > '2024' and http.status = 500 and bytes > http.status"#)?;
    /// assert_eq!(expr.fields(), ["@timestamp", "http.status", "bytes"]);
    /// # Ok::<(), windrow::Error>(())
    /// ```
    pub fn fields(&self) -> Vec<String> {
        self.parsed.names.iter().map(|n| n.name.clone()).collect()
    }

    /// For each of [`Expr::fields`], what it must be: for formats that decode a field to the type that is asked for.
    ///
    /// ```
    /// # use windrow::query::expr::{Expr, Hint};
    /// let expr = Expr::parse("status >= 500 and path like '/api/%' and user is null")?;
    /// let hints: Vec<Hint> = expr.type_hints().into_iter().map(|(_, hint)| hint).collect();
    /// assert_eq!(hints, [Hint::Number, Hint::Text, Hint::Unknown]);
    /// # Ok::<(), windrow::Error>(())
    /// ```
    pub fn type_hints(&self) -> Vec<(String, Hint)> {
        self.fields().into_iter().zip(hints::hints(&self.parsed.root, self.parsed.names.len())).collect()
    }

    /// The predicate for fields of the types that `lookup` gives. `known` are names to suggest for one that `lookup` does
    /// not know; it may be empty.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`] for an unknown field, a field of a type that expressions do not take, a comparison of
    /// things of different sorts, arithmetic on anything but numbers, and an expression that is no condition.
    ///
    /// ```
    /// # use arrow_schema::DataType;
    /// # use windrow::query::expr::Expr;
    /// let types = |name: &str| (name == "status").then_some(DataType::Int64);
    /// let error = Expr::parse("status >= 'x'")?.bind(&types, &[]).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "in the expression \"status >= 'x'\", line 1, column 1: status is an integer; 'x' is text"
    /// );
    ///
    /// let error = Expr::parse("Status >= 500")?.bind(&types, &["status".to_owned()]).unwrap_err();
    /// assert_eq!(
    ///     error.to_string(),
    ///     "in the expression \"Status >= 500\", line 1, column 1: \
    ///      there is no field Status; names are case-sensitive, there is status"
    /// );
    /// # Ok::<(), windrow::Error>(())
    /// ```
    pub fn bind(&self, lookup: &dyn Fn(&str) -> Option<DataType>, known: &[String]) -> Result<Predicate> {
        let (mut types, mut sorts) = (Vec::new(), Vec::new());
        for name in &self.parsed.names {
            let fail = |what: String| parse::fail(&self.text, name.at, &what);
            let ty = lookup(&name.name).ok_or_else(|| fail(names::unknown(name, known)))?;
            let sort = bind::sort_of(&ty).ok_or_else(|| {
                fail(format!(
                    "{} has the type {ty}, which expressions do not take; \
                     they take integers, floats, booleans, text and times",
                    name.name
                ))
            })?;
            types.push(ty);
            sorts.push(sort);
        }
        let binder = bind::Binder { text: &self.text, parsed: &self.parsed, sorts: &sorts };
        let cond = binder.condition(&self.parsed.root)?;
        // Dictionaries of text are tested entry by entry; others are unpacked.
        let unpack = |(ty, sort): (&DataType, &bind::Sort)| {
            matches!(ty, DataType::Dictionary(..)) && !matches!(sort, bind::Sort::Text | bind::Sort::Null)
        };
        let unpacks = types.iter().zip(&sorts).map(unpack).collect();
        Ok(Predicate { fields: self.fields(), types, unpacks, cond })
    }
}

impl fmt::Display for Expr {
    /// The text it was parsed from.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An expression bound to types: true, false or null for each row. Made by [`Expr::bind`], shared between threads.
#[derive(Debug, Clone)]
pub struct Predicate {
    fields: Vec<String>,
    types: Vec<DataType>,
    /// Whether a column is a dictionary to unpack first.
    unpacks: Vec<bool>,
    cond: plan::Cond,
}

impl Predicate {
    /// Whether it holds for each of `rows` rows of `columns`, which are in the order of [`Expr::fields`] and of the types
    /// it was bound with. Where SQL says *unknown* the answer is null.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Data`]: integer arithmetic leaves 64 bits in a row, or the columns are not those it was bound
    /// for.
    pub fn evaluate(&self, columns: &[ArrayRef], rows: usize) -> Result<BooleanArray> {
        if columns.len() != self.fields.len() {
            return Err(Error::data(format!(
                "an expression over {} fields was given {} columns",
                self.fields.len(),
                columns.len()
            )));
        }
        for ((column, name), ty) in columns.iter().zip(&self.fields).zip(&self.types) {
            if column.data_type() != ty {
                return Err(Error::data(format!(
                    "{name} was {ty} when the expression was bound and is {} now",
                    column.data_type()
                )));
            }
            if column.len() != rows {
                return Err(Error::data(format!("{name} has {} values for {rows} rows", column.len())));
            }
        }
        if !self.unpacks.contains(&true) {
            return eval::Batch { columns, rows }.condition(&self.cond);
        }
        let columns = columns.iter().zip(&self.unpacks);
        let columns: Vec<ArrayRef> = columns
            .map(|(c, unpack)| if *unpack { eval::unpacked(c) } else { Ok(c.clone()) })
            .collect::<Result<_>>()?;
        eval::Batch { columns: &columns, rows }.condition(&self.cond)
    }
}
