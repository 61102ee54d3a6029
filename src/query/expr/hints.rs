//! What the fields of an expression must be for it to make sense, before their types are known.
//!
//! A field is what it is compared with; fields compared with each other are one. Cost: linear in the tree, nearly.

use super::Hint;
use super::tree::Node;

/// The hint of each of `fields` fields.
pub(super) fn hints(root: &Node, fields: usize) -> Vec<Hint> {
    let mut known = Known { found: vec![None; fields], same: (0..fields).collect() };
    known.condition(root);
    (0..fields)
        .map(|field| {
            let first = known.first_of(field);
            known.found[first].unwrap_or(Hint::Unknown)
        })
        .collect()
}

struct Known {
    /// Of the first of a set of fields that are compared with each other; contradictions are `Unknown`.
    found: Vec<Option<Hint>>,
    /// A field of the same set, itself for the first of a set.
    same: Vec<usize>,
}

impl Known {
    fn first_of(&mut self, mut field: usize) -> usize {
        while self.same[field] != field {
            self.same[field] = self.same[self.same[field]];
            field = self.same[field];
        }
        field
    }

    fn learn(&mut self, field: usize, hint: Option<Hint>) {
        let first = self.first_of(field);
        self.found[first] = match (self.found[first], hint) {
            (None, hint) | (hint, None) => hint,
            (Some(a), Some(b)) if a == b => Some(a),
            _ => Some(Hint::Unknown),
        };
    }

    /// A part that stands where true or false should.
    fn condition(&mut self, node: &Node) {
        match node {
            Node::Field(i) => self.learn(*i, Some(Hint::Boolean)),
            node => {
                self.value(node);
            }
        }
    }

    fn number(&mut self, node: &Node) {
        match node {
            Node::Field(i) => self.learn(*i, Some(Hint::Number)),
            node => {
                self.value(node);
            }
        }
    }

    /// Walks `node` and says what it is.
    fn value(&mut self, node: &Node) -> Option<Hint> {
        match node {
            Node::Null => None,
            Node::Field(i) => {
                let first = self.first_of(*i);
                self.found[first]
            }
            Node::Int(_) | Node::Float(_) => Some(Hint::Number),
            Node::Text(_) => Some(Hint::Text),
            Node::Arith(_, a, b) => {
                self.number(a);
                self.number(b);
                Some(Hint::Number)
            }
            Node::Negate(a) => {
                self.number(a);
                Some(Hint::Number)
            }
            _ => {
                self.parts(node);
                Some(Hint::Boolean)
            }
        }
    }

    fn parts(&mut self, node: &Node) {
        match node {
            Node::And(list) | Node::Or(list) => list.iter().for_each(|n| self.condition(n)),
            Node::Not(a) | Node::Is(a, _) => self.condition(a),
            Node::IsNull(a) => {
                self.value(a);
            }
            Node::Compare(_, a, b) => self.alike(a, b),
            Node::Between(a, low, high) => {
                self.alike(a, low);
                self.alike(a, high);
            }
            Node::In(a, list) => list.iter().for_each(|n| self.alike(a, n)),
            Node::Like(a, pattern) | Node::Regexp(a, pattern) => self.alike(a, pattern),
            _ => {}
        }
    }

    /// Two parts that are compared with each other.
    fn alike(&mut self, a: &Node, b: &Node) {
        match (a, b) {
            (Node::Field(i), Node::Field(j)) => {
                let (i, j) = (self.first_of(*i), self.first_of(*j));
                if i != j {
                    let hint = self.found[j];
                    self.same[j] = i;
                    self.learn(i, hint);
                }
            }
            (Node::Field(i), other) | (other, Node::Field(i)) => {
                let hint = self.value(other);
                self.learn(*i, hint);
            }
            (a, b) => {
                self.value(a);
                self.value(b);
            }
        }
    }
}
