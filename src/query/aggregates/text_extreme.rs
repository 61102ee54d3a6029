//! `min` and `max` of text, bytewise. Values are shared, so a state that travels does not copy its bytes.

use super::{Column, Sliding, column_basics, same, same_mut};
use crate::Result;
use crate::core::suffix;
use crate::core::words::{Bytes, put_one};
use crate::query::text::TextColumn;
use arrow_array::ArrayRef;
use std::ops::Range;
use std::sync::Arc;

/// Appends texts that may be missing.
pub(super) fn save_texts<'a>(texts: impl Iterator<Item = &'a Option<Arc<[u8]>>>, out: &mut Vec<u8>) {
    for text in texts {
        // The length and one more, so that 0 is none.
        put_one(text.as_ref().map_or(0, |text| text.len() as u64 + 1), out);
        out.extend_from_slice(text.as_deref().unwrap_or_default());
    }
}

/// The `count` texts that [`save_texts`] wrote.
pub(super) fn load_texts(count: usize, from: &mut Bytes<'_>) -> Option<Vec<Option<Arc<[u8]>>>> {
    let text = |_| match from.word::<u64>()?.checked_sub(1) {
        None => Some(None),
        Some(len) => Some(Some(from.take(usize::try_from(len).ok()?)?.into())),
    };
    (0..count).map(text).collect()
}

/// The least (`min`) or greatest text per state; `None` where there is none.
pub(crate) struct TextExtreme {
    min: bool,
    states: Vec<Option<Arc<[u8]>>>,
    /// Bytes of text held. A table has none of its own: it shares those of its cells.
    heap: usize,
    table: bool,
}

impl TextExtreme {
    pub(crate) fn new(min: bool) -> Self {
        TextExtreme { min, states: Vec::new(), heap: 0, table: false }
    }

    fn better(min: bool, new: &[u8], old: &[u8]) -> bool {
        if min { new < old } else { new > old }
    }

    /// The extreme of two states.
    pub(crate) fn of<'a>(a: &'a Self, b: Option<&'a Self>, at: usize) -> Option<&'a [u8]> {
        match (a.states[at].as_deref(), b.and_then(|b| b.states[at].as_deref())) {
            (Some(x), Some(y)) => Some(if Self::better(a.min, y, x) { y } else { x }),
            (x, y) => x.or(y),
        }
    }
}

impl Column for TextExtreme {
    column_basics!(|c: &TextExtreme| TextExtreme::new(c.min));

    fn table(&self) -> Box<dyn Column> {
        Box::new(TextExtreme { table: true, ..TextExtreme::new(self.min) })
    }

    fn sliding(&self) -> Sliding {
        Sliding::Suffix
    }

    fn grow(&mut self, len: usize) {
        if len > self.states.len() {
            self.states.resize(len, None);
        }
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        let column = TextColumn::new(&inputs[0])?;
        for (i, at) in at.iter().enumerate() {
            let state = &mut self.states[*at as usize];
            if let Some(text) = column.get(i)
                && state.as_ref().is_none_or(|old| Self::better(self.min, text, old))
            {
                self.heap += text.len() + 16;
                *state = Some(text.into());
            }
        }
        Ok(())
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let other = same::<Self>(other);
        if !self.table {
            self.heap += other.heap * range.len() / other.states.len().max(1);
        }
        for (at, new) in at.iter().zip(&other.states[range]) {
            let state = &mut self.states[*at as usize];
            if let Some(new) = new
                && state.as_ref().is_none_or(|old| Self::better(self.min, new, old))
            {
                *state = Some(new.clone());
            }
        }
    }

    fn reset(&mut self, at: &[u32]) {
        at.iter().for_each(|at| self.states[*at as usize] = None);
    }

    fn turn(&mut self, ids: &[u32], range: Range<usize>, suffix: &mut dyn Column) {
        let min = self.min;
        suffix::turn_typed(ids, &mut self.states[range], &mut same_mut::<Self>(suffix).states, |a, b| {
            if Self::better(min, &b, &a) { b } else { a }
        });
    }

    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        for (at, state) in at.iter().zip(&same::<Self>(other).states[range]) {
            self.states[*at as usize] = state.clone();
        }
    }

    fn settle(&mut self) {
        self.states.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.states.capacity() * 16 + self.heap
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        save_texts(cells.iter().flat_map(|range| &self.states[range.clone()]), out);
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        let texts = load_texts(cells, from)?;
        self.heap += texts.iter().flatten().map(|text| text.len() + 16).sum::<usize>();
        self.states.extend(texts);
        Some(())
    }
}
