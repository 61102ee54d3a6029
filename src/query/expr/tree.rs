//! The tree of an expression: what was written, before any type is known.
//!
//! Invariant: no path through a tree is longer than [`super::parse::MAX_DEPTH`], whatever was written, so that binding,
//! printing and dropping it may recurse. Chains of `and` and of `or` are flat lists, of any length.

use sqlparser::tokenizer::Location;
use std::fmt;

/// A comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Op {
    /// The comparison that holds for `(b, a)` where this one holds for `(a, b)`.
    pub(super) fn swapped(self) -> Op {
        match self {
            Op::Eq | Op::Ne => self,
            Op::Lt => Op::Gt,
            Op::Le => Op::Ge,
            Op::Gt => Op::Lt,
            Op::Ge => Op::Le,
        }
    }

    /// Whether values in this order satisfy it.
    pub(super) fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Op::Eq => order.is_eq(),
            Op::Ne => order.is_ne(),
            Op::Lt => order.is_lt(),
            Op::Le => order.is_le(),
            Op::Gt => order.is_gt(),
            Op::Ge => order.is_ge(),
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Op::Eq => "=",
            Op::Ne => "<>",
            Op::Lt => "<",
            Op::Le => "<=",
            Op::Gt => ">",
            Op::Ge => ">=",
        }
    }
}

/// An operation of arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arith {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

impl Arith {
    fn sign(self) -> &'static str {
        match self {
            Arith::Add => "+",
            Arith::Sub => "-",
            Arith::Mul => "*",
            Arith::Div => "/",
            Arith::Rem => "%",
        }
    }
}

/// A part of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    /// Index into the names of the expression.
    Field(usize),
    Compare(Op, Box<Node>, Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Not(Box<Node>),
    IsNull(Box<Node>),
    /// `is true`, `is false`: never null.
    Is(Box<Node>, bool),
    In(Box<Node>, Vec<Node>),
    Between(Box<Node>, Box<Node>, Box<Node>),
    Like(Box<Node>, Box<Node>),
    /// The pattern was tried when it was parsed.
    Regexp(Box<Node>, Box<Node>),
    Arith(Arith, Box<Node>, Box<Node>),
    Negate(Box<Node>),
}

/// A field's name as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: String,
    /// In double quotes: someone may have meant text.
    pub(super) quoted: bool,
    /// Where it first stands.
    pub(super) at: Location,
}

impl Node {
    /// The parts of which it is made, in the order in which they are written.
    pub(super) fn parts(&self) -> Vec<&Node> {
        match self {
            Node::Null | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Text(_) | Node::Field(_) => Vec::new(),
            Node::Not(a) | Node::IsNull(a) | Node::Is(a, _) | Node::Negate(a) => vec![a],
            Node::Compare(_, a, b) | Node::Like(a, b) | Node::Regexp(a, b) | Node::Arith(_, a, b) => vec![a, b],
            Node::Between(a, b, c) => vec![a, b, c],
            Node::And(list) | Node::Or(list) => list.iter().collect(),
            Node::In(a, list) => std::iter::once(&**a).chain(list).collect(),
        }
    }

    /// How many leaves are written before `node`, which is a part of this one.
    pub(super) fn leaves_before(&self, node: &Node) -> Option<usize> {
        fn walk(at: &Node, node: &Node, leaves: &mut usize) -> bool {
            if std::ptr::eq(at, node) {
                return true;
            }
            let parts = at.parts();
            *leaves += usize::from(parts.is_empty());
            parts.into_iter().any(|part| walk(part, node, leaves))
        }
        let mut leaves = 0;
        walk(self, node, &mut leaves).then_some(leaves)
    }
}

/// A node written as SQL, for messages.
pub(super) struct Shown<'a> {
    pub(super) node: &'a Node,
    pub(super) names: &'a [Name],
}

impl Shown<'_> {
    /// An operand: in parentheses when it has operands of its own.
    fn inner(&self, node: &Node, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = Shown { node, names: self.names };
        match node {
            Node::Null | Node::Bool(_) | Node::Int(_) | Node::Float(_) | Node::Text(_) | Node::Field(_) => {
                write!(f, "{shown}")
            }
            _ => write!(f, "({shown})"),
        }
    }

    fn list(&self, nodes: &[Node], between: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, node) in nodes.iter().enumerate() {
            if i > 0 {
                f.write_str(between)?;
            }
            self.inner(node, f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.node {
            Node::Null => f.write_str("null"),
            Node::Bool(b) => write!(f, "{b}"),
            Node::Int(i) => write!(f, "{i}"),
            Node::Float(x) => write!(f, "{x:?}"),
            Node::Text(t) => write!(f, "'{}'", t.replace('\'', "''")),
            Node::Field(i) => {
                let name = self.names.get(*i).map_or("", |n| n.name.as_str());
                if is_plain(name) { f.write_str(name) } else { write!(f, "\"{}\"", name.replace('"', "\"\"")) }
            }
            Node::Compare(op, a, b) => {
                self.inner(a, f)?;
                write!(f, " {} ", op.sign())?;
                self.inner(b, f)
            }
            Node::And(list) => self.list(list, " and ", f),
            Node::Or(list) => self.list(list, " or ", f),
            Node::Not(a) => {
                f.write_str("not ")?;
                self.inner(a, f)
            }
            Node::IsNull(a) => {
                self.inner(a, f)?;
                f.write_str(" is null")
            }
            Node::Is(a, want) => {
                self.inner(a, f)?;
                write!(f, " is {want}")
            }
            Node::In(a, list) => {
                self.inner(a, f)?;
                f.write_str(" in (")?;
                self.list(list, ", ", f)?;
                f.write_str(")")
            }
            Node::Between(a, low, high) => {
                self.inner(a, f)?;
                f.write_str(" between ")?;
                self.inner(low, f)?;
                f.write_str(" and ")?;
                self.inner(high, f)
            }
            Node::Like(a, pattern) => {
                self.inner(a, f)?;
                f.write_str(" like ")?;
                self.inner(pattern, f)
            }
            Node::Regexp(a, pattern) => {
                f.write_str("regexp_like(")?;
                self.list(&[(**a).clone(), (**pattern).clone()], ", ", f)?;
                f.write_str(")")
            }
            Node::Arith(op, a, b) => {
                self.inner(a, f)?;
                write!(f, " {} ", op.sign())?;
                self.inner(b, f)
            }
            Node::Negate(a) => {
                f.write_str("-")?;
                self.inner(a, f)
            }
        }
    }
}

/// Whether `name` can be written without double quotes.
fn is_plain(name: &str) -> bool {
    let mut parts = name.split('.');
    parts.all(|part| {
        let mut chars = part.chars();
        chars.next().is_some_and(|c| c.is_alphabetic() || c == '_' || c == '@')
            && chars.all(|c| c.is_alphabetic() || c.is_ascii_digit() || c == '_')
            && !super::parse::is_reserved(part)
    })
}
