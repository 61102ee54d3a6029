//! Which members are wanted, as a tree of objects: `a.b` is the literal member `a.b`, or member `b` of object `a`.
//!
//! Every way to cut a name at its dots is one leaf of the tree, with a slot of its own for the value found there.
//! After a record the name's value is that of its first slot that is filled, in the order in which literal names
//! win: at each object the longest literal first. Slots keep all candidates apart, so that a duplicate member can
//! empty what an earlier one of the same name had filled. A name with `d` dots has `2^d` leaves.

use super::scan::{Kind, Token};
use crate::{Error, Result};
use std::ops::Range;

/// Dots that a wanted name may have.
const MAX_DOTS: usize = 10;

/// The slot that collects what nobody wants.
pub(super) const TRASH: u32 = 0;

/// What to do with a member's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    /// Where its token goes; [`TRASH`] if it is not wanted itself.
    pub(super) slot: u32,
    /// The node of its own wanted members, if it is an object; 0 (the root, nobody's child) for none.
    pub(super) child: u32,
}

impl Target {
    /// A member that nobody wants.
    pub(super) const IGNORED: Target = Target { slot: TRASH, child: 0 };
}

/// One object of the tree.
#[derive(Debug, Default)]
struct Node {
    /// Its wanted members.
    members: Vec<(Box<[u8]>, Target)>,
    /// The slots at and below its members.
    slots: Range<u32>,
}

/// A wanted name.
#[derive(Debug)]
struct Name {
    name: String,
    /// Its leaves, the one that wins first.
    slots: Vec<u32>,
}

/// The tree of wanted members.
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
    names: Vec<Name>,
    slots: usize,
}

impl Paths {
    /// No wanted members yet.
    pub(super) fn new() -> Paths {
        Paths { nodes: vec![Node::default()], names: Vec::new(), slots: 1 }
    }

    /// Adds a wanted name and returns its index; the same name has the same index.
    pub(super) fn add(&mut self, name: &str) -> Result<usize> {
        if let Some(known) = self.names.iter().position(|n| n.name == name) {
            return Ok(known);
        }
        if name.bytes().filter(|&b| b == b'.').count() > MAX_DOTS {
            return Err(Error::usage(format!("the field name `{name}` has more than {MAX_DOTS} dots")));
        }
        let mut slots = Vec::new();
        self.insert(0, name.as_bytes(), &mut slots);
        self.names.push(Name { name: name.to_owned(), slots });
        Ok(self.names.len() - 1)
    }

    /// Adds every reading of `name` below `node`, the longest literal first.
    fn insert(&mut self, node: usize, name: &[u8], leaves: &mut Vec<u32>) {
        let slot = self.slots as u32;
        self.slots += 1;
        self.member(node, name).slot = slot;
        leaves.push(slot);
        for dot in (0..name.len()).rev().filter(|&i| name[i] == b'.') {
            let mut child = self.member(node, &name[..dot]).child;
            if child == 0 {
                child = self.nodes.len() as u32;
                self.nodes.push(Node::default());
                self.member(node, &name[..dot]).child = child;
            }
            self.insert(child as usize, &name[dot + 1..], leaves);
        }
    }

    /// The target of member `key` of `node`, made if it is new.
    fn member(&mut self, node: usize, key: &[u8]) -> &mut Target {
        let members = &mut self.nodes[node].members;
        let at = members.iter().position(|(k, _)| **k == *key).unwrap_or_else(|| {
            members.push((key.into(), Target::IGNORED));
            members.len() - 1
        });
        &mut members[at].1
    }

    /// Numbers the slots so that those below one node are neighbours. To be called once, after the last name.
    pub(super) fn finish(&mut self) {
        let mut renumbered = vec![TRASH; self.slots];
        let mut next = 1;
        self.number(0, &mut next, &mut renumbered);
        for slot in self.names.iter_mut().flat_map(|n| n.slots.iter_mut()) {
            *slot = renumbered[*slot as usize];
        }
    }

    fn number(&mut self, node: usize, next: &mut u32, renumbered: &mut [u32]) {
        let start = *next;
        for at in 0..self.nodes[node].members.len() {
            let target = &mut self.nodes[node].members[at].1;
            if target.slot != TRASH {
                renumbered[target.slot as usize] = *next;
                target.slot = *next;
                *next += 1;
            }
            let child = target.child;
            if child != 0 {
                self.number(child as usize, next, renumbered);
            }
        }
        self.nodes[node].slots = start..*next;
    }

    /// How many objects the tree has.
    pub(super) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// How many slots it has, [`TRASH`] included.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// The target of member `key` of `node`.
    #[inline]
    pub(super) fn find(&self, node: u32, key: &[u8]) -> Target {
        let members = &self.nodes[node as usize].members;
        members.iter().find(|(k, _)| **k == *key).map_or(Target::IGNORED, |&(_, target)| target)
    }

    /// The slots at and below the members of `node`.
    pub(super) fn below(&self, node: u32) -> Range<usize> {
        let slots = &self.nodes[node as usize].slots;
        slots.start as usize..slots.end as usize
    }

    /// The value of the name with index `name`, from one record's slots.
    #[inline(always)]
    pub(super) fn resolve(&self, name: usize, tokens: &[Token]) -> Token {
        let mut found = Token::ABSENT;
        for &slot in &self.names[name].slots {
            found = tokens[slot as usize];
            if found.kind != Kind::Absent {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reading_of_a_name_is_a_leaf() {
        let mut paths = Paths::new();
        assert_eq!(paths.add("a.b.c").unwrap(), 0);
        assert_eq!(paths.add("a").unwrap(), 1);
        assert_eq!(paths.add("a.b.c").unwrap(), 0);
        paths.finish();
        assert_eq!(paths.slots(), 1 + 4 + 1);
        assert_eq!(paths.below(0), 1..6);
        let a = paths.find(0, b"a");
        assert!(a.slot != TRASH && a.child != 0);
        let whole = paths.find(0, b"a.b.c");
        assert_eq!(paths.names[0].slots[0], whole.slot);
        let last = paths.find(paths.find(a.child, b"b").child, b"c");
        assert_eq!(paths.names[0].slots.last(), Some(&last.slot));
        assert_eq!(paths.find(0, b"b"), Target::IGNORED);
        assert!(paths.add(&"x.".repeat(11)).is_err());
    }
}
