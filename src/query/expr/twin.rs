//! The naive twin: the tree, walked row by row over plain values.
//!
//! It shares only the tree and the parser of times with the engine: no type is known before a value is met, numbers are
//! compared as mantissa and exponent, `like` recurses over characters.

use super::instant::parse_instant;
use super::tree::{Arith, Node, Op};
use std::cmp::Ordering;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Vec<u8>),
    /// Nanoseconds.
    Time(i128),
}

pub(super) use Value::{Bool, Float, Int, Null, Text, Time};

/// Integer arithmetic left 64 bits.
#[derive(Debug)]
pub(super) struct Left64Bits;

pub(super) struct Row<'a> {
    pub(super) values: &'a [Value],
    /// Whether each field is a float, null or not.
    pub(super) floats: &'a [bool],
}

impl Row<'_> {
    pub(super) fn value(&self, node: &Node) -> Result<Value, Left64Bits> {
        Ok(match node {
            Node::Null => Null,
            Node::Bool(b) => Bool(*b),
            Node::Int(i) => Int(*i),
            Node::Float(x) => Float(*x),
            Node::Text(t) => Text(t.clone().into_bytes()),
            Node::Field(i) => self.values[*i].clone(),
            Node::And(list) => {
                let values = list.iter().map(|n| self.value(n)).collect::<Result<Vec<_>, _>>()?;
                any(values.iter().map(negated)).map_or(Null, |b| Bool(!b))
            }
            Node::Or(list) => {
                let values = list.iter().map(|n| self.value(n)).collect::<Result<Vec<_>, _>>()?;
                any(values.into_iter()).map_or(Null, Bool)
            }
            Node::Not(a) => negated(&self.value(a)?),
            Node::IsNull(a) => Bool(self.value(a)? == Null),
            Node::Is(a, want) => Bool(self.value(a)? == Bool(*want)),
            Node::Compare(op, a, b) => self.compare(*op, a, b)?,
            Node::Between(a, low, high) => {
                let both = [self.compare(Op::Ge, a, low)?, self.compare(Op::Le, a, high)?];
                any(both.iter().map(negated)).map_or(Null, |b| Bool(!b))
            }
            Node::In(a, list) => {
                let found = list.iter().map(|n| self.compare(Op::Eq, a, n)).collect::<Result<Vec<_>, _>>()?;
                any(found.into_iter()).map_or(Null, Bool)
            }
            Node::Like(a, pattern) => match (self.value(a)?, self.value(pattern)?) {
                (Text(text), Text(pattern)) => Bool(like(&characters(&text), &characters(&pattern))),
                _ => Null,
            },
            Node::Regexp(a, pattern) => match (self.value(a)?, self.value(pattern)?) {
                (Text(text), Text(pattern)) => {
                    let pattern = std::str::from_utf8(&pattern).unwrap();
                    Bool(regex::bytes::Regex::new(pattern).unwrap().is_match(&text))
                }
                _ => Null,
            },
            Node::Arith(op, a, b) => {
                if always_null(a) || always_null(b) {
                    return Ok(Null);
                }
                let float = *op == Arith::Div || self.is_float(a) || self.is_float(b);
                let (a, b) = (self.value(a)?, self.value(b)?);
                if float { float_arith(*op, a, b) } else { int_arith(*op, a, b)? }
            }
            Node::Negate(a) => match self.value(a)? {
                Float(x) => Float(-x),
                Int(i) => {
                    i64::try_from(i).map_err(|_| Left64Bits)?;
                    Int(i64::try_from(-i).map_err(|_| Left64Bits)?.into())
                }
                _ => Null,
            },
        })
    }

    fn compare(&self, op: Op, a: &Node, b: &Node) -> Result<Value, Left64Bits> {
        if always_null(a) || always_null(b) {
            return Ok(Null);
        }
        let order = match (self.value(a)?, self.value(b)?) {
            (Null, _) | (_, Null) => return Ok(Null),
            (Bool(a), Bool(b)) => a.cmp(&b),
            (Text(a), Text(b)) => a.cmp(&b),
            (Time(a), Time(b)) => a.cmp(&b),
            (Time(a), Text(b)) => a.cmp(&instant(&b)),
            (Text(a), Time(b)) => instant(&a).cmp(&b),
            (Int(a), Int(b)) => a.cmp(&b),
            (Float(a), Float(b)) => a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan())),
            (Int(a), Float(b)) => exact(a, b),
            (Float(a), Int(b)) => exact(b, a).reverse(),
            (a, b) => panic!("{a:?} meets {b:?}"),
        };
        Ok(Bool(op.holds(order)))
    }

    fn is_float(&self, node: &Node) -> bool {
        match node {
            Node::Field(i) => self.floats[*i],
            Node::Float(_) => true,
            Node::Arith(op, a, b) => *op == Arith::Div || self.is_float(a) || self.is_float(b),
            Node::Negate(a) => self.is_float(a),
            _ => false,
        }
    }
}

fn instant(text: &[u8]) -> i128 {
    parse_instant(std::str::from_utf8(text).unwrap()).unwrap().div_euclid(1000) * 1000
}

/// True if one is, else null if one is, else false.
fn any(values: impl Iterator<Item = Value>) -> Option<bool> {
    let values: Vec<Value> = values.collect();
    if values.contains(&Bool(true)) { Some(true) } else { (!values.contains(&Null)).then_some(false) }
}

fn negated(value: &Value) -> Value {
    if let Bool(b) = value { Bool(!b) } else { Null }
}

/// A constant that is null: it makes null of what it meets, which is then not computed.
fn always_null(node: &Node) -> bool {
    let null = |n: &Node| Row { values: &[], floats: &[] }.value(n).is_ok_and(|v| v == Null);
    match node {
        Node::Arith(_, a, b) if always_null(a) || always_null(b) => true,
        Node::Negate(a) if always_null(a) => true,
        _ => constant(node) && null(node),
    }
}

fn constant(node: &Node) -> bool {
    match node {
        Node::Null | Node::Int(_) | Node::Float(_) | Node::Text(_) => true,
        Node::Arith(_, a, b) => constant(a) && constant(b),
        Node::Negate(a) => constant(a),
        _ => false,
    }
}

/// Whether a constant part leaves 64 bits, wherever it stands.
pub(super) fn constant_overflows(node: &Node) -> bool {
    if constant(node) && (Row { values: &[], floats: &[] }).value(node).is_err() {
        return true;
    }
    node.parts().into_iter().any(constant_overflows)
}

fn float_arith(op: Arith, a: Value, b: Value) -> Value {
    let float = |v| match v {
        Int(i) => Some(i as f64),
        Float(x) => Some(x),
        _ => None,
    };
    let (Some(a), Some(b)) = (float(a), float(b)) else {
        return Null;
    };
    match op {
        Arith::Div | Arith::Rem if b == 0.0 => Null,
        Arith::Add => Float(a + b),
        Arith::Sub => Float(a - b),
        Arith::Mul => Float(a * b),
        Arith::Div => Float(a / b),
        Arith::Rem => Float(a % b),
    }
}

fn int_arith(op: Arith, a: Value, b: Value) -> Result<Value, Left64Bits> {
    for v in [&a, &b] {
        if let Int(i) = v {
            i64::try_from(*i).map_err(|_| Left64Bits)?;
        }
    }
    let (Int(a), Int(b)) = (a, b) else {
        return Ok(Null);
    };
    let result = match op {
        Arith::Div | Arith::Rem if b == 0 => return Ok(Null),
        Arith::Add => a + b,
        Arith::Sub => a - b,
        Arith::Mul => a * b,
        Arith::Div => a / b,
        Arith::Rem => a % b,
    };
    Ok(Int(i64::try_from(result).map_err(|_| Left64Bits)?.into()))
}

/// `i` (of at most 65 bits) against `x`, as mantissa × 2^exponent.
fn exact(i: i128, x: f64) -> Ordering {
    if x.is_nan() || x == f64::INFINITY {
        return Ordering::Less;
    }
    let bits = x.to_bits();
    let sign = if x.is_sign_negative() { -1 } else { 1 };
    let fraction = i128::from(bits & ((1 << 52) - 1));
    let (mantissa, exponent) = match (bits >> 52) & 0x7ff {
        0 => (fraction, -1074),
        e => (fraction | 1 << 52, e as i64 - 1075),
    };
    let mantissa = sign * mantissa;
    match exponent {
        0..=60 => i.cmp(&(mantissa << exponent)),
        61.. => 0.cmp(&mantissa),
        -60..0 => (i << -exponent).cmp(&mantissa),
        _ if i == 0 => 0.cmp(&mantissa),
        _ => i.cmp(&0),
    }
}

/// Characters, and single bytes where they are not UTF-8.
fn characters(text: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for chunk in text.utf8_chunks() {
        all.extend(chunk.valid().chars().map(|c| c.to_string().into_bytes()));
        all.extend(chunk.invalid().iter().map(|b| vec![*b]));
    }
    all
}

fn like(text: &[Vec<u8>], pattern: &[Vec<u8>]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((p, rest)) if p == b"%" => (0..=text.len()).any(|n| like(&text[n..], rest)),
        Some((p, rest)) => text.split_first().is_some_and(|(t, tail)| (p == b"_" || p == t) && like(tail, rest)),
    }
}
