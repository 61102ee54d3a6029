//! `distinct(x)`, exact, and the table by which sets of words slide.
//!
//! A block numbers its values; a partition interns them once for all of its panes, text by its bytes, so that a value is
//! a small number and a cell the set of its numbers. The window holds, for each group and value, how many of its panes
//! have it: what enters adds one, what leaves takes one away, and a group's answer is the number of its entries. That is
//! O(1) for each value of a pane, whatever the window's length.

use super::bags::{Bags, Set};
use super::coupons::Coupons;
use super::{Column, Sliding, column_basics, same};
use crate::Result;
use crate::core::dictionary::Dictionary;
use crate::core::groups::Groups;
use crate::core::words::{Bytes, put_one};
use crate::hash::{NULL_HASH, hash_word};
use crate::query::keys::{ByteRows, KeyRows, WordRows};
use arrow_array::ArrayRef;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The sets of values of cells.
pub(crate) struct Distinct<K: KeyRows> {
    sets: Bags<Set>,
    /// Of a block: its records' values until it is sealed, then its distinct ones. The words of `sets` are their numbers.
    keys: K,
    hashes: Vec<u64>,
    cells: Vec<u32>,
    /// Of a partition, shared by its logs: the words of `sets` are the numbers given here.
    values: Arc<Mutex<Groups<K::Store>>>,
}

impl<K: KeyRows + 'static> Distinct<K> {
    /// No cells; values of a block or partition of its own.
    pub(crate) fn new() -> Self {
        let values = Arc::new(Mutex::new(Groups::new(K::Store::default())));
        Distinct { sets: Bags::default(), keys: K::default(), hashes: Vec::new(), cells: Vec::new(), values }
    }

    /// Another log of the same partition.
    fn sibling(&self) -> Self {
        Distinct { values: self.values.clone(), ..Distinct::new() }
    }

    fn values(&self) -> MutexGuard<'_, Groups<K::Store>> {
        self.values.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: KeyRows + 'static> Column for Distinct<K> {
    column_basics!(|c: &Distinct<K>| c.sibling());

    fn table(&self) -> Box<dyn Column> {
        Box::<SetTable>::default()
    }

    fn sliding(&self) -> Sliding {
        Sliding::Inverse
    }

    fn grow(&mut self, len: usize) {
        self.sets.grow(len);
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        self.cells.extend_from_slice(at);
        self.keys.extend(&inputs[..1], at.len(), &mut self.hashes)
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let other = same::<Self>(other);
        if Arc::ptr_eq(&self.values, &other.values) {
            self.sets.fold(at, &other.sets, range);
            return;
        }
        let mut numbers = Vec::new();
        let rows = other.sets.words_of(range.clone()).iter().map(|word| *word as usize);
        self.values().intern(&other.keys, &other.hashes, rows, &mut numbers);
        self.sets.open();
        let mut numbers = &numbers[..];
        for (at, cell) in at.iter().zip(range) {
            let (own, rest) = numbers.split_at(other.sets.get(cell).len());
            own.iter().for_each(|number| self.sets.push(*at, *number));
            numbers = rest;
        }
        self.sets.tidy();
    }

    fn join_unread(&mut self, at: u32, from: u32) -> bool {
        self.sets.join(at, from);
        true
    }

    fn reset(&mut self, _at: &[u32]) {
        unreachable!("cells are not reset")
    }

    fn seal(&mut self) {
        if !self.cells.is_empty() {
            let (mut numbers, mut firsts) = (Vec::new(), Vec::new());
            let same = |a, b| self.keys.same(a, b);
            Dictionary::default().number(&self.hashes, self.hashes.len() / 4, same, &mut numbers, &mut firsts);
            for ((cell, number), hash) in self.cells.iter().zip(&numbers).zip(&self.hashes) {
                if *hash != NULL_HASH {
                    self.sets.push(*cell, *number);
                }
            }
            self.keys = self.keys.pick(&firsts);
            self.hashes = firsts.iter().map(|row| self.hashes[*row as usize]).collect();
            self.cells = Vec::new();
        }
        self.sets.seal();
    }

    fn settle(&mut self) {
        self.seal();
    }

    fn bytes(&self) -> usize {
        let own = self.sets.bytes() + self.keys.bytes() + self.hashes.capacity() * 8 + self.cells.capacity() * 4;
        // Each log answers for its share.
        own + self.values().bytes() / Arc::strong_count(&self.values)
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        // Only the values of these cells, numbered anew.
        let mut used: Vec<u32> = cells.iter().flat_map(|range| self.sets.words_of(range.clone())).copied().collect();
        used.sort_unstable();
        used.dedup();
        let (keys, hashes): (K, Vec<u64>) = if self.hashes.is_empty() {
            let values = self.values();
            (K::rows_of(values.keys(), &used), used.iter().map(|n| values.hashes()[*n as usize]).collect())
        } else {
            (self.keys.pick(&used), used.iter().map(|n| self.hashes[*n as usize]).collect())
        };
        put_one(used.len() as u32, out);
        keys.save(0..used.len(), &hashes, out);
        self.sets.save(cells, out, |word| used.partition_point(|known| *known < word) as u32);
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        let (values, before) = (from.word::<u32>()?, u32::try_from(self.hashes.len()).ok()?);
        self.keys.load(values as usize, from, &mut self.hashes)?;
        self.sets.load(cells, from, |word| (word < values).then(|| before.checked_add(word)).flatten())
    }
}

/// The sets of words of a window's groups: for each of a group's words, how many cells in the window have it.
#[derive(Default)]
pub(crate) struct SetTable {
    words: HashTable<Held>,
    distinct: Vec<u32>,
    /// Groups with a word.
    live: usize,
}

struct Held {
    group: u32,
    word: u32,
    cells: u32,
}

impl Held {
    #[inline]
    fn hash(group: u32, word: u32) -> u64 {
        hash_word(u64::from(group) << 32 | u64::from(word))
    }
}

impl SetTable {
    /// Distinct words of group `at`.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> u32 {
        self.distinct[at]
    }

    fn set(&mut self, group: u32, distinct: u32) {
        let old = std::mem::replace(&mut self.distinct[group as usize], distinct);
        self.live += usize::from(distinct > 0);
        self.live -= usize::from(old > 0);
    }

    /// The sets of cells, whichever column they are.
    fn sets(cells: &dyn Column) -> &Bags<Set> {
        let any = cells.as_any();
        if let Some(words) = any.downcast_ref::<Distinct<WordRows>>() {
            &words.sets
        } else if let Some(coupons) = any.downcast_ref::<Coupons>() {
            coupons.sets()
        } else {
            &same::<Distinct<ByteRows>>(cells).sets
        }
    }
}

impl Column for SetTable {
    column_basics!(|_: &SetTable| SetTable::default());

    fn sliding(&self) -> Sliding {
        Sliding::Inverse
    }

    fn grow(&mut self, len: usize) {
        self.distinct.resize(len.max(self.distinct.len()), 0);
    }

    fn update(&mut self, _at: &[u32], _inputs: &[ArrayRef]) -> Result<()> {
        unreachable!("records are folded into cells")
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let sets = Self::sets(other);
        for (group, cell) in at.iter().zip(range) {
            let mut distinct = self.distinct[*group as usize];
            for word in sets.get(cell) {
                let found = self.words.entry(
                    Held::hash(*group, *word),
                    |held| (held.group, held.word) == (*group, *word),
                    |held| Held::hash(held.group, held.word),
                );
                match found {
                    Entry::Occupied(mut held) => held.get_mut().cells += 1,
                    Entry::Vacant(vacant) => {
                        vacant.insert(Held { group: *group, word: *word, cells: 1 });
                        distinct += 1;
                    }
                }
            }
            self.set(*group, distinct);
        }
    }

    fn retract(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let sets = Self::sets(other);
        for (group, cell) in at.iter().zip(range) {
            let mut distinct = self.distinct[*group as usize];
            for word in sets.get(cell) {
                let same = |held: &Held| (held.group, held.word) == (*group, *word);
                if let Ok(mut held) = self.words.find_entry(Held::hash(*group, *word), same) {
                    held.get_mut().cells -= 1;
                    if held.get().cells == 0 {
                        held.remove();
                        distinct -= 1;
                    }
                }
            }
            self.set(*group, distinct);
        }
    }

    /// The whole answer is in the cell.
    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let sets = Self::sets(other);
        for (group, cell) in at.iter().zip(range) {
            self.set(*group, sets.get(cell).len() as u32);
        }
    }

    /// A window that is folded anew resets all of its groups before it takes the first cell: the last of them clears.
    fn reset(&mut self, at: &[u32]) {
        at.iter().for_each(|group| self.set(*group, 0));
        if self.live == 0 {
            self.words.clear();
        }
    }

    fn settle(&mut self) {}

    fn bytes(&self) -> usize {
        self.words.allocation_size() + self.distinct.capacity() * 4
    }
}
