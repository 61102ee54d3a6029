//! A bound expression: every type known, every literal in its column's own terms.
//!
//! Invariant: a plan answers for columns of the types it was bound with, and each part of it is evaluated once for a
//! batch. Plans are immutable and shared between threads.

use super::number::{Base, Const, NumberTest};
use super::text::TextTest;
use super::tree::{Arith, Op};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Something true, false or null for each row.
#[derive(Debug, Clone)]
pub(super) enum Cond {
    Constant(Option<bool>),
    /// A boolean column.
    Column(usize),
    And(Vec<Cond>),
    Or(Vec<Cond>),
    Not(Box<Cond>),
    ColumnIsNull(usize),
    NumberIsNull(Box<Number>),
    IsNull(Box<Cond>),
    /// Never null.
    Is(Box<Cond>, bool),
    /// A number, or a column of times, against literals.
    Number(Box<Number>, NumberTest),
    Numbers(Base, Box<Number>, Box<Number>),
    /// Two columns of times, each with the nanoseconds of its unit.
    Times(Base, (usize, i128), (usize, i128)),
    Text(usize, TextTest),
    Texts(Op, usize, usize),
    Booleans(Op, Box<Cond>, Box<Cond>),
}

impl Cond {
    pub(super) fn negate(self) -> Cond {
        match self {
            Cond::Constant(value) => Cond::Constant(value.map(|b| !b)),
            cond => Cond::Not(Box::new(cond)),
        }
    }

    /// The disjunction of `list`. Equalities of one column with literals become one search, however many they are.
    pub(super) fn any(list: Vec<Cond>) -> Cond {
        let mut terms = Vec::new();
        let mut texts: BTreeMap<usize, Vec<Box<[u8]>>> = BTreeMap::new();
        let mut ints: BTreeMap<usize, Vec<i128>> = BTreeMap::new();
        for cond in list {
            match cond {
                Cond::Text(i, TextTest::Compare(Op::Eq, text)) => texts.entry(i).or_default().push(text),
                Cond::Number(value, NumberTest::IntEq(int)) if matches!(*value, Number::Column(_)) => {
                    if let Number::Column(i) = *value {
                        ints.entry(i).or_default().push(int);
                    }
                }
                other => terms.push(other),
            }
        }
        terms.extend(texts.into_iter().map(|(i, texts)| Cond::Text(i, TextTest::within(texts))));
        terms.extend(
            ints.into_iter().map(|(i, ints)| Cond::Number(Box::new(Number::Column(i)), NumberTest::within(ints))),
        );
        match terms.len() {
            1 => terms.remove(0),
            _ => Cond::Or(terms),
        }
    }

    pub(super) fn negate_if(self, negated: bool) -> Cond {
        if negated { self.negate() } else { self }
    }
}

/// A number, or null, for each row.
#[derive(Debug, Clone)]
pub(super) enum Number {
    Column(usize),
    Const(Const),
    /// The operands, what it computes in, and how it was written.
    Arith(Arith, Box<Number>, Box<Number>, Domain, Arc<str>),
    Negate(Box<Number>, Domain, Arc<str>),
}

/// What arithmetic computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Domain {
    /// `i64`; what leaves it is an error.
    Int,
    /// `f64`.
    Float,
}
