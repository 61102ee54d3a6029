//! Cells as bags of 32-bit words in one arena: the states of `distinct`, `approx_distinct` and the quantiles.
//!
//! Words arrive in any order of cells and are only written down, 8 bytes each; sealing brings them into the order of the
//! cells and, inside a cell, of the words, joins those that are alike and keeps 4 bytes a word and 4 a cell. A bag is
//! what it is whatever the order of arrival, so results depend on neither blocks nor threads.
//!
//! Cost: two passes over the words and a sort of each cell's few. Words to come are joined whenever they have doubled,
//! so a cell of many records and few words stays small.

use crate::core::partition::counting_sort;
use crate::core::words::{Bytes, put_each};
use std::marker::PhantomData;
use std::ops::Range;

/// When two neighbours among a cell's sorted words are one.
pub(crate) trait Join: Send + Sync + 'static {
    /// The word for both, or `None` if both stay.
    fn join(a: u32, b: u32) -> Option<u32>;
}

/// A set: equal words are one.
pub(crate) struct Set;

impl Join for Set {
    #[inline]
    fn join(a: u32, b: u32) -> Option<u32> {
        (a == b).then_some(a)
    }
}

/// Fewer words than this are not joined before they are sealed. Tiny under test, so that tests go through it.
const JOIN_FROM: usize = if cfg!(test) { 6 } else { 1 << 16 };

/// See the module. Read only what is sealed.
pub(crate) struct Bags<J> {
    cells: usize,
    /// Words that came since: the cell in the upper half, the word in the lower.
    journal: Vec<u64>,
    /// How long the journal may get before alike words in it are joined.
    limit: usize,
    /// Sealed: the words of cell `i` are `words[offsets[i]..offsets[i + 1]]`, ascending.
    offsets: Vec<u32>,
    words: Vec<u32>,
    /// Cells whose words, those in the journal, are to be those of another cell: (from, to), in this order.
    moves: Vec<(u32, u32)>,
    kind: PhantomData<J>,
}

impl<J> Default for Bags<J> {
    fn default() -> Self {
        let (journal, offsets, words, moves) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Bags { cells: 0, journal, limit: JOIN_FROM, offsets, words, moves, kind: PhantomData }
    }
}

impl<J: Join> Bags<J> {
    /// Grows to `cells` cells.
    pub(crate) fn grow(&mut self, cells: usize) {
        self.cells = self.cells.max(cells);
    }

    /// Makes sure that words can be [put in](Self::push): what was sealed is written down anew.
    #[inline]
    pub(crate) fn open(&mut self) {
        if !self.offsets.is_empty() {
            for (cell, bounds) in self.offsets.windows(2).enumerate() {
                let words = self.words[bounds[0] as usize..bounds[1] as usize].iter();
                self.journal.extend(words.map(|word| (cell as u64) << 32 | u64::from(*word)));
            }
            (self.offsets, self.words) = (Vec::new(), Vec::new());
        }
    }

    /// Puts `word` into `cell` of open bags.
    #[inline]
    pub(crate) fn push(&mut self, cell: u32, word: u32) {
        self.journal.push(u64::from(cell) << 32 | u64::from(word));
    }

    /// Puts the words of the sealed cells `range` of `other` into the cells `at`.
    pub(crate) fn fold(&mut self, at: &[u32], other: &Self, range: Range<usize>) {
        self.open();
        self.journal.reserve(other.words_of(range.clone()).len());
        for (at, cell) in at.iter().zip(range) {
            self.journal.extend(other.get(cell).iter().map(|word| u64::from(*at) << 32 | u64::from(*word)));
        }
        self.tidy();
    }

    /// Puts the words of cell `from`, to which no more are added, into cell `to`.
    pub(crate) fn join(&mut self, to: u32, from: u32) {
        self.open();
        self.moves.push((from, to));
    }

    /// Joins what has come, if it is much. Call it now and then while words are pushed.
    pub(crate) fn tidy(&mut self) {
        if self.journal.len() >= self.limit {
            self.order();
            self.open();
            self.limit = (2 * self.journal.len()).max(JOIN_FROM);
        }
    }

    /// Brings the words into order: from now on they can be read.
    pub(crate) fn seal(&mut self) {
        match self.offsets.last() {
            Some(end) => self.offsets.resize(self.cells + 1, *end),
            None => {
                self.order();
                self.journal = Vec::new();
                self.words.shrink_to_fit();
            }
        }
    }

    /// From the journal to offsets and words.
    fn order(&mut self) {
        if !self.moves.is_empty() {
            let mut to: Vec<u32> = (0..self.cells as u32).collect();
            for (from, at) in self.moves.drain(..).rev() {
                to[from as usize] = to[at as usize];
            }
            for entry in &mut self.journal {
                *entry = u64::from(to[(*entry >> 32) as usize]) << 32 | u64::from(*entry as u32);
            }
        }
        let cells: Vec<u32> = self.journal.iter().map(|entry| (entry >> 32) as u32).collect();
        let mut destination = Vec::new();
        counting_sort(&cells, self.cells, &mut self.offsets, &mut destination);
        self.words = vec![0; self.journal.len()];
        for (entry, at) in self.journal.iter().zip(&destination) {
            self.words[*at as usize] = *entry as u32;
        }
        self.journal.clear();
        let mut to = 0usize;
        for cell in 0..self.cells {
            let range = self.offsets[cell] as usize..self.offsets[cell + 1] as usize;
            self.words[range.clone()].sort_unstable();
            let start = to;
            self.offsets[cell] = to as u32;
            for from in range {
                let word = self.words[from];
                let joined = if to > start { J::join(self.words[to - 1], word) } else { None };
                match joined {
                    Some(both) => self.words[to - 1] = both,
                    None => {
                        self.words[to] = word;
                        to += 1;
                    }
                }
            }
        }
        if let Some(end) = self.offsets.last_mut() {
            *end = to as u32;
        }
        self.words.truncate(to);
    }

    /// The words of sealed cell `cell`, ascending.
    #[inline]
    pub(crate) fn get(&self, cell: usize) -> &[u32] {
        &self.words[self.offsets[cell] as usize..self.offsets[cell + 1] as usize]
    }

    /// The words of sealed cells, one cell behind the other.
    pub(crate) fn words_of(&self, cells: Range<usize>) -> &[u32] {
        &self.words[self.offsets[cells.start] as usize..self.offsets[cells.end] as usize]
    }

    /// Appends the sealed cells `cells` to `out`, each word as `number` has it.
    pub(crate) fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>, number: impl Fn(u32) -> u32) {
        let of = |range: &Range<usize>| self.offsets[range.start..=range.end].windows(2).map(|ends| ends[1] - ends[0]);
        cells.iter().for_each(|range| put_each(of(range), out));
        cells.iter().for_each(|range| put_each(self.words_of(range.clone()).iter().map(|word| number(*word)), out));
    }

    /// Appends `cells` cells that [`save`](Self::save) wrote to sealed bags, or empty ones, sealed, each word as `number` has
    /// it.
    pub(crate) fn load(
        &mut self,
        cells: usize,
        from: &mut Bytes<'_>,
        number: impl Fn(u32) -> Option<u32>,
    ) -> Option<()> {
        let before = self.words.len();
        let mut end = u32::try_from(before).ok()?;
        self.offsets.resize(self.cells + 1, end);
        for words in from.words::<u32>(cells)? {
            end = end.checked_add(words)?;
            self.offsets.push(end);
        }
        for word in from.words(end as usize - before)? {
            self.words.push(number(word)?);
        }
        self.cells += cells;
        Some(())
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        (self.journal.capacity() + self.moves.capacity()) * 8 + self.offsets.capacity() * 4 + self.words.capacity() * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    proptest! {
        /// The twin is a map of sets; words come one by one and as the cells of other bags.
        #[test]
        fn cells_hold_what_was_put_into_them(
            blocks in prop::collection::vec(prop::collection::vec((0u32..7, 0u32..9), 0..30), 0..8),
            joins in prop::collection::vec((0u32..7, 0u32..7), 0..5),
        ) {
            let mut gone = BTreeSet::new();
            let mut all = Bags::<Set>::default();
            all.grow(7);
            let mut twin: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
            for block in &blocks {
                let mut bags = Bags::<Set>::default();
                bags.grow(7);
                for (cell, word) in block {
                    bags.push(*cell, *word);
                    twin.entry(*cell).or_default().insert(*word);
                }
                bags.seal();
                all.fold(&[0, 1, 2, 3], &bags, 0..4);
                all.fold(&[4, 5, 6], &bags, 4..7);
                if block.len() % 3 == 0 {
                    all.seal();
                }
            }
            for (to, from) in joins {
                // Cells that are gone take nothing and are not joined again.
                let alive = |cell: u32| cell < 7 && !gone.contains(&cell);
                if to != from && alive(to) && alive(from) {
                    all.join(to, from);
                    let words = twin.remove(&from).unwrap_or_default();
                    twin.entry(to).or_default().extend(words);
                    gone.insert(from);
                }
            }
            all.seal();
            for cell in 0..7 {
                let want: Vec<u32> = twin.get(&cell).into_iter().flatten().copied().collect();
                prop_assert_eq!(all.get(cell as usize), &want[..]);
            }
        }
    }
}
