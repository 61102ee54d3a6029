//! Tree to plan: types are checked and literals turned into the terms of what they meet, once.
//!
//! Invariant: a plan that binds can fail on data only by integer arithmetic that leaves 64 bits. Comparing with the
//! literal `null` is null, whatever the other side is. Cost: linear in the tree.

use super::instant::parse_instant;
use super::like::Like;
use super::number::{Base, Const, NumberTest, Range};
use super::parse::{Parsed, fail, regexp};
use super::plan::{Cond, Domain, Number};
use super::text::TextTest;
use super::tree::{Arith, Node, Op, Shown};
use crate::{Error, Result};
use arrow_schema::{DataType, TimeUnit};
use sqlparser::tokenizer::Location;
use std::sync::Arc;

/// What a field of type `ty` is to an expression, `None` when it cannot stand in one.
pub(super) fn sort_of(ty: &DataType) -> Option<Sort> {
    Some(match ty {
        DataType::Null => Sort::Null,
        DataType::Boolean => Sort::Boolean,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Sort::Text,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Sort::Text,
        DataType::Dictionary(_, values) => match sort_of(values)? {
            // A dictionary is unpacked before use, text excepted; dictionaries of dictionaries are not met.
            _ if matches!(**values, DataType::Dictionary(..)) => return None,
            sort => sort,
        },
        DataType::Timestamp(TimeUnit::Second, _) => Sort::Time(1_000_000_000),
        DataType::Timestamp(TimeUnit::Millisecond, _) | DataType::Date64 => Sort::Time(1_000_000),
        DataType::Timestamp(TimeUnit::Microsecond, _) => Sort::Time(1_000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => Sort::Time(1),
        DataType::Date32 => Sort::Time(86_400_000_000_000),
        number => match Range::of(number)? {
            range @ Range::Int(..) => Sort::Int(range),
            Range::Float => Sort::Float,
        },
    })
}

/// The sorts of values that fields have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Null,
    Boolean,
    Int(Range),
    Float,
    Text,
    /// Nanoseconds of its unit.
    Time(i128),
}

/// A value with its sort.
enum Typed {
    Null,
    Bool(Cond),
    Num(Number, Range),
    Text(usize),
    TextConst(String),
    Time(usize, i128),
}

impl Typed {
    /// What it is, for a sentence.
    fn described(&self) -> &'static str {
        match self {
            Typed::Null => "null",
            Typed::Bool(_) => "a boolean",
            Typed::Num(_, Range::Int(..)) => "an integer",
            Typed::Num(_, Range::Float) => "a number",
            Typed::Text(_) | Typed::TextConst(_) => "text",
            Typed::Time(..) => "a time",
        }
    }
}

/// Everything binding looks at.
pub(super) struct Binder<'a> {
    pub(super) text: &'a str,
    pub(super) parsed: &'a Parsed,
    /// What its names are to an expression.
    pub(super) sorts: &'a [Sort],
}

impl Binder<'_> {
    /// The whole expression, which must be a condition.
    pub(super) fn condition(&self, node: &Node) -> Result<Cond> {
        match self.value(node)? {
            Typed::Null => Ok(Cond::Constant(None)),
            Typed::Bool(cond) => Ok(cond),
            other => Err(self.fail(
                node,
                format!("{} is {}, not a condition; compare it with something", self.shown(node), other.described()),
            )),
        }
    }

    fn shown(&self, node: &Node) -> String {
        const LONGEST: usize = 60;
        let shown = Shown { node, names: &self.parsed.names }.to_string();
        match shown.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{}...", &shown[..end]),
            None => shown,
        }
    }

    /// The error that `what` is wrong with `node`, a part of the expression.
    fn fail(&self, node: &Node, what: String) -> Error {
        let leaf = self.parsed.root.leaves_before(node).unwrap_or(0);
        fail(self.text, self.parsed.places.get(leaf).copied().unwrap_or(Location::new(1, 1)), &what)
    }

    fn value(&self, node: &Node) -> Result<Typed> {
        let cond = match node {
            Node::Null => return Ok(Typed::Null),
            Node::Bool(b) => Cond::Constant(Some(*b)),
            Node::Int(i) => return Ok(constant(Const::Int(*i))),
            Node::Float(x) => return Ok(constant(Const::Float(*x))),
            Node::Text(text) => return Ok(Typed::TextConst(text.clone())),
            Node::Field(i) => return Ok(self.field(*i)),
            Node::And(list) => Cond::And(list.iter().map(|n| self.condition(n)).collect::<Result<_>>()?),
            Node::Or(list) => Cond::any(list.iter().map(|n| self.condition(n)).collect::<Result<_>>()?),
            Node::Not(a) => self.condition(a)?.negate(),
            Node::Is(a, want) => Cond::Is(Box::new(self.condition(a)?), *want),
            Node::IsNull(a) => match self.value(a)? {
                Typed::Null => Cond::Constant(Some(true)),
                Typed::Bool(Cond::Column(i)) | Typed::Num(Number::Column(i), _) => Cond::ColumnIsNull(i),
                Typed::Text(i) | Typed::Time(i, _) => Cond::ColumnIsNull(i),
                Typed::Bool(cond) => Cond::IsNull(Box::new(cond)),
                Typed::TextConst(_) | Typed::Num(Number::Const(_), _) => Cond::Constant(Some(false)),
                Typed::Num(number, _) => Cond::NumberIsNull(Box::new(number)),
            },
            Node::Compare(op, a, b) => self.compare(*op, a, b)?,
            Node::Between(a, low, high) => {
                // A boolean is refused here and below: a chain of them would double at every link.
                self.refuse_boolean(a, "between")?;
                Cond::And(vec![self.compare(Op::Ge, a, low)?, self.compare(Op::Le, a, high)?])
            }
            Node::In(a, list) => self.within(a, list)?,
            Node::Like(a, pattern) => self.like(a, pattern)?,
            Node::Regexp(a, pattern) => self.regexp_like(a, pattern)?,
            Node::Arith(op, a, b) => return self.arith(*op, a, b, node),
            Node::Negate(a) => return self.negation(a, node),
        };
        Ok(Typed::Bool(cond))
    }

    fn field(&self, index: usize) -> Typed {
        match self.sorts[index] {
            Sort::Null => Typed::Null,
            Sort::Boolean => Typed::Bool(Cond::Column(index)),
            Sort::Int(range) => Typed::Num(Number::Column(index), range),
            Sort::Float => Typed::Num(Number::Column(index), Range::Float),
            Sort::Text => Typed::Text(index),
            Sort::Time(unit) => Typed::Time(index, unit),
        }
    }

    fn refuse_boolean(&self, node: &Node, what: &str) -> Result<()> {
        let boolean = match node {
            Node::Field(i) => self.sorts[*i] == Sort::Boolean,
            Node::Null | Node::Int(_) | Node::Float(_) | Node::Text(_) | Node::Arith(..) | Node::Negate(_) => false,
            _ => true,
        };
        if boolean {
            return Err(
                self.fail(node, format!("{} is a boolean, which {what} does not take; use =", self.shown(node)))
            );
        }
        Ok(())
    }

    fn compare(&self, op: Op, a: &Node, b: &Node) -> Result<Cond> {
        Ok(match (self.value(a)?, self.value(b)?) {
            (Typed::Null, _) | (_, Typed::Null) => Cond::Constant(None),
            (Typed::Num(Number::Const(x), _), Typed::Num(Number::Const(y), _)) => {
                Cond::Constant(Some(op.holds(x.compare(y))))
            }
            (Typed::Num(x, range), Typed::Num(Number::Const(y), _)) => number_test(op, x, range, y),
            (Typed::Num(Number::Const(x), _), Typed::Num(y, range)) => number_test(op.swapped(), y, range, x),
            (Typed::Num(x, _), Typed::Num(y, _)) => {
                let (base, negated) = Base::of(op);
                Cond::Numbers(base, Box::new(x), Box::new(y)).negate_if(negated)
            }
            (Typed::TextConst(x), Typed::TextConst(y)) => Cond::Constant(Some(op.holds(x.cmp(&y)))),
            (Typed::Text(i), Typed::TextConst(y)) => text_test(op, i, y),
            (Typed::TextConst(x), Typed::Text(i)) => text_test(op.swapped(), i, x),
            (Typed::Text(i), Typed::Text(j)) => Cond::Texts(op, i, j),
            (Typed::Bool(x), Typed::Bool(y)) => Cond::Booleans(op, Box::new(x), Box::new(y)),
            (Typed::Time(i, unit), Typed::Time(j, other)) => {
                let (base, negated) = Base::of(op);
                Cond::Times(base, (i, unit), (j, other)).negate_if(negated)
            }
            (Typed::Time(i, unit), Typed::TextConst(y)) => time_test(op, i, unit, self.instant(a, unit, &y)?),
            (Typed::TextConst(x), Typed::Time(i, unit)) => time_test(op.swapped(), i, unit, self.instant(b, unit, &x)?),
            (x, y) => return Err(self.mismatch(a, &x, b, &y)),
        })
    }

    /// The text `literal`, which meets a time in units of `unit` nanoseconds, as nanoseconds.
    fn instant(&self, field: &Node, unit: i128, literal: &str) -> Result<i128> {
        let nanos = parse_instant(literal).ok_or_else(|| {
            self.fail(field, format!(
                "{} is a time; '{literal}' is none: write 2024-01-31, 2024-01-31T12:00:00 or 2024-01-31T12:00:00.5+01:00",
                self.shown(field)
            ))
        })?;
        // Instants are microseconds, finer digits cut, unless the column itself holds finer ones.
        let finest = unit.min(1_000);
        Ok(nanos.div_euclid(finest) * finest)
    }

    fn mismatch(&self, a: &Node, x: &Typed, b: &Node, y: &Typed) -> Error {
        let advice = match (x, y) {
            (Typed::TextConst(text), Typed::Num(..)) | (Typed::Num(..), Typed::TextConst(text))
                if text.trim().parse::<f64>().is_ok() =>
            {
                format!(": write {} without quotes", text.trim())
            }
            (Typed::Text(_), Typed::Num(Number::Const(_), _)) => {
                format!(": write it in quotes, '{}'", self.shown(b))
            }
            (Typed::Num(Number::Const(_), _), Typed::Text(_)) => {
                format!(": write it in quotes, '{}'", self.shown(a))
            }
            (Typed::Time(..), Typed::Num(..)) | (Typed::Num(..), Typed::Time(..)) => {
                ": write the time as text, such as '2024-01-31T12:00:00Z'".to_owned()
            }
            _ => String::new(),
        };
        // The field first, whatever stood first: it is what the reader knows.
        let literal = |n: &Node| !matches!(n, Node::Field(_));
        let (a, x, b, y) = if literal(a) && !literal(b) { (b, y, a, x) } else { (a, x, b, y) };
        let (x, y) = (x.described(), y.described());
        self.fail(a, format!("{} is {x}; {} is {y}{advice}", self.shown(a), self.shown(b)))
    }

    fn within(&self, a: &Node, list: &[Node]) -> Result<Cond> {
        self.refuse_boolean(a, "in")?;
        let literal = |n: &Node| matches!(n, Node::Int(_) | Node::Float(_) | Node::Text(_) | Node::Null);
        let (literals, others): (Vec<&Node>, Vec<&Node>) = list.iter().partition(|n| literal(n));
        let mut terms = Vec::new();
        let (mut numbers, mut texts, mut instants) = (Vec::new(), Vec::new(), Vec::new());
        let value = self.value(a)?;
        for node in literals {
            match (&value, self.value(node)?) {
                (Typed::Null, _) | (_, Typed::Null) => terms.push(Cond::Constant(None)),
                (Typed::Num(..), Typed::Num(Number::Const(c), _)) => numbers.push(c),
                (Typed::Text(_), Typed::TextConst(text)) => texts.push(text.into_bytes().into()),
                (Typed::Time(_, unit), Typed::TextConst(text)) => instants.push(self.instant(a, *unit, &text)?),
                (Typed::TextConst(_), Typed::TextConst(_)) => terms.push(self.compare(Op::Eq, a, node)?),
                (x, y) => return Err(self.mismatch(a, x, node, &y)),
            }
        }
        match value {
            Typed::Num(number, range) if !numbers.is_empty() => match number {
                Number::Const(c) => {
                    terms.push(Cond::Constant(Some(numbers.iter().any(|n| c.compare(*n).is_eq()))));
                }
                number => terms.push(Cond::Number(Box::new(number), range.within(&numbers))),
            },
            Typed::Text(i) if !texts.is_empty() => terms.push(Cond::Text(i, TextTest::within(texts))),
            Typed::Time(i, unit) if !instants.is_empty() => {
                let ticks: Vec<Const> =
                    instants.iter().filter(|t| *t % unit == 0).map(|t| Const::Int(t / unit)).collect();
                terms.push(Cond::Number(Box::new(Number::Column(i)), Range::INT64.within(&ticks)));
            }
            _ => {}
        }
        for node in others {
            terms.push(self.compare(Op::Eq, a, node)?);
        }
        Ok(Cond::any(terms))
    }

    fn like(&self, a: &Node, pattern: &Node) -> Result<Cond> {
        let pattern = match pattern {
            Node::Text(text) => Like::new(text),
            Node::Null => return Ok(Cond::Constant(None)),
            other => {
                let what = format!("like takes a pattern in quotes; {} is none", self.shown(other));
                return Err(self.fail(other, what));
            }
        };
        match self.value(a)? {
            Typed::Null => Ok(Cond::Constant(None)),
            Typed::Text(i) => Ok(Cond::Text(i, TextTest::Like(pattern))),
            Typed::TextConst(text) => Ok(Cond::Constant(Some(pattern.matches(text.as_bytes())))),
            other => Err(self.fail(
                a,
                format!(
                    "{} is {}; like is for text: compare with = < <= > >= or between",
                    self.shown(a),
                    other.described()
                ),
            )),
        }
    }

    fn regexp_like(&self, a: &Node, pattern: &Node) -> Result<Cond> {
        let Node::Text(text) = pattern else {
            return Err(self.fail(pattern, "regexp_like takes a pattern in quotes".to_owned()));
        };
        let regexp = regexp(text).map_err(|what| self.fail(pattern, what))?;
        match self.value(a)? {
            Typed::Null => Ok(Cond::Constant(None)),
            Typed::Text(i) => Ok(Cond::Text(i, TextTest::Regexp(regexp))),
            Typed::TextConst(text) => Ok(Cond::Constant(Some(regexp.is_match(text.as_bytes())))),
            other => Err(self.fail(a, format!("{} is {}; regexp_like is for text", self.shown(a), other.described()))),
        }
    }

    /// An operand of arithmetic: a number, or `None` for null.
    fn operand(&self, node: &Node) -> Result<Option<(Number, Range)>> {
        match self.value(node)? {
            Typed::Null => Ok(None),
            Typed::Num(number, range) => Ok(Some((number, range))),
            other => {
                Err(self
                    .fail(node, format!("{} is {}; arithmetic is for numbers", self.shown(node), other.described())))
            }
        }
    }

    fn arith(&self, op: Arith, a: &Node, b: &Node, whole: &Node) -> Result<Typed> {
        let (left, right) = (self.operand(a)?, self.operand(b)?);
        let (Some((left, of_left)), Some((right, of_right))) = (left, right) else {
            return Ok(Typed::Null);
        };
        let float = op == Arith::Div || of_left == Range::Float || of_right == Range::Float;
        let domain = if float { Domain::Float } else { Domain::Int };
        if let (Number::Const(x), Number::Const(y)) = (&left, &right) {
            return self.fold(op, *x, *y, domain, whole);
        }
        self.fits(&left, domain, a)?;
        self.fits(&right, domain, b)?;
        let number = Number::Arith(op, Box::new(left), Box::new(right), domain, Arc::from(self.shown(whole)));
        Ok(Typed::Num(number, range_of(domain)))
    }

    /// A literal that integer arithmetic meets must be one of its integers.
    fn fits(&self, number: &Number, domain: Domain, node: &Node) -> Result<()> {
        match number {
            Number::Const(Const::Int(i)) if domain == Domain::Int && i64::try_from(*i).is_err() => {
                Err(self
                    .fail(node, format!("{i} leaves the range of 64-bit integers; write {i}.0 to compute in floats")))
            }
            _ => Ok(()),
        }
    }

    fn fold(&self, op: Arith, x: Const, y: Const, domain: Domain, whole: &Node) -> Result<Typed> {
        let (Const::Int(a), Const::Int(b), Domain::Int) = (x, y, domain) else {
            let (a, b) = (x.as_f64(), y.as_f64());
            return Ok(match op {
                Arith::Div | Arith::Rem if b == 0.0 => Typed::Null,
                Arith::Add => constant(Const::Float(a + b)),
                Arith::Sub => constant(Const::Float(a - b)),
                Arith::Mul => constant(Const::Float(a * b)),
                Arith::Div => constant(Const::Float(a / b)),
                Arith::Rem => constant(Const::Float(a % b)),
            });
        };
        for i in [a, b] {
            self.fits(&Number::Const(Const::Int(i)), domain, whole)?;
        }
        // Both fit 64 bits, so no result leaves 128.
        let result = match op {
            Arith::Div | Arith::Rem if b == 0 => return Ok(Typed::Null),
            Arith::Add => a + b,
            Arith::Sub => a - b,
            Arith::Mul => a * b,
            Arith::Div => a / b,
            Arith::Rem => a % b,
        };
        if i64::try_from(result).is_err() {
            return Err(self.fail(whole, format!("{} leaves the range of 64-bit integers", self.shown(whole))));
        }
        Ok(constant(Const::Int(result)))
    }

    fn negation(&self, a: &Node, whole: &Node) -> Result<Typed> {
        let Some((number, range)) = self.operand(a)? else {
            return Ok(Typed::Null);
        };
        let domain = if range == Range::Float { Domain::Float } else { Domain::Int };
        Ok(match number {
            Number::Const(Const::Int(i)) => {
                let negated = Const::Int(i.saturating_neg());
                self.fits(&Number::Const(negated), domain, whole)?;
                constant(negated)
            }
            Number::Const(Const::Float(x)) => constant(Const::Float(-x)),
            number => {
                let shown = Arc::from(self.shown(whole));
                Typed::Num(Number::Negate(Box::new(number), domain, shown), range_of(domain))
            }
        })
    }
}

fn range_of(domain: Domain) -> Range {
    match domain {
        Domain::Int => Range::INT64,
        Domain::Float => Range::Float,
    }
}

fn constant(value: Const) -> Typed {
    let range = match value {
        Const::Int(_) => Range::INT64,
        Const::Float(_) => Range::Float,
    };
    Typed::Num(Number::Const(value), range)
}

fn number_test(op: Op, number: Number, range: Range, bound: Const) -> Cond {
    let (base, negated) = Base::of(op);
    Cond::Number(Box::new(number), range.test(base, bound)).negate_if(negated)
}

fn text_test(op: Op, column: usize, literal: String) -> Cond {
    let (op, negated) = if op == Op::Ne { (Op::Eq, true) } else { (op, false) };
    Cond::Text(column, TextTest::Compare(op, literal.into_bytes().into())).negate_if(negated)
}

/// A column of times against an instant that may lie between two of its ticks.
fn time_test(op: Op, column: usize, unit: i128, nanos: i128) -> Cond {
    let (base, negated) = Base::of(op);
    let (floor, whole) = (nanos.div_euclid(unit), nanos.rem_euclid(unit) == 0);
    let test = match base {
        Base::Eq if !whole => NumberTest::Always(false),
        Base::Eq => Range::INT64.test(Base::Eq, Const::Int(floor)),
        // Before an instant between two ticks: at the lower tick or earlier.
        Base::Lt if whole => Range::INT64.test(Base::Lt, Const::Int(floor)),
        Base::Lt | Base::Le => Range::INT64.test(Base::Le, Const::Int(floor)),
    };
    Cond::Number(Box::new(Number::Column(column)), test).negate_if(negated)
}
