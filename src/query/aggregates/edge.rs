//! `first` and `last`: the value of the record with the least or greatest event time.
//!
//! Of records with the same time the first or last in the order of the input counts; states are folded in that order.
//! Nulls are passed over. Values of fixed width are 64-bit words; texts are shared, so a state that travels does not
//! copy its bytes, and a block makes one text for each of its cells, not for each record.

use super::text_extreme::{load_texts, save_texts};
use super::{Column, Sliding, column_basics, same, same_mut};
use crate::Result;
use crate::core::words::{Bytes, put};
use crate::query::text::TextColumn;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef};
use std::ops::Range;
use std::sync::Arc;

/// What is kept of a value.
pub(crate) trait EdgeValue: Clone + Default + Send + Sync + 'static {
    /// Whether each row of `column` has a value.
    fn valid(column: &ArrayRef) -> Option<arrow_buffer::NullBuffer> {
        column.logical_nulls().filter(|n| n.null_count() > 0)
    }
    /// The values of the rows that `wanted` lists, each behind its state.
    fn take(column: &ArrayRef, wanted: &[(u32, u32)], put: impl FnMut(u32, Self)) -> Result<()>;
    /// Bytes on the heap.
    fn heap(&self) -> usize;
    /// Appends `values` to `out`.
    fn save(values: &[Self], out: &mut Vec<u8>);
    /// The values that [`save`](Self::save) wrote.
    fn load(count: usize, from: &mut Bytes<'_>) -> Option<Vec<Self>>;
}

impl EdgeValue for i64 {
    fn take(column: &ArrayRef, wanted: &[(u32, u32)], mut put: impl FnMut(u32, i64)) -> Result<()> {
        let values = column.as_primitive::<Int64Type>().values();
        wanted.iter().for_each(|(state, row)| put(*state, values[*row as usize]));
        Ok(())
    }
    fn heap(&self) -> usize {
        0
    }
    fn save(values: &[i64], out: &mut Vec<u8>) {
        put(values, out);
    }
    fn load(count: usize, from: &mut Bytes<'_>) -> Option<Vec<i64>> {
        from.words(count)
    }
}

/// A text, if there is one.
pub(crate) type EdgeText = Option<Arc<[u8]>>;

impl EdgeValue for EdgeText {
    fn take(column: &ArrayRef, wanted: &[(u32, u32)], mut put: impl FnMut(u32, Self)) -> Result<()> {
        let text = TextColumn::new(column)?;
        wanted.iter().for_each(|(state, row)| put(*state, text.get(*row as usize).map(Into::into)));
        Ok(())
    }
    fn heap(&self) -> usize {
        self.as_ref().map_or(0, |text| text.len() + 16)
    }
    fn save(values: &[Self], out: &mut Vec<u8>) {
        save_texts(values.iter(), out);
    }
    fn load(count: usize, from: &mut Bytes<'_>) -> Option<Vec<Self>> {
        load_texts(count, from)
    }
}

/// The first (`FIRST`) or last value per state. Inputs are the values, words as `Int64`, and the times.
pub(crate) struct Edge<const FIRST: bool, V> {
    /// The time of the value; [`Self::NONE`] where there is none.
    times: Vec<i64>,
    values: Vec<V>,
    /// Bytes of values on the heap. A table has none of its own: it shares those of its cells.
    heap: usize,
    table: bool,
}

impl<const FIRST: bool, V> Default for Edge<FIRST, V> {
    fn default() -> Self {
        Edge { times: Vec::new(), values: Vec::new(), heap: 0, table: false }
    }
}

impl<const FIRST: bool, V: EdgeValue> Edge<FIRST, V> {
    /// No valid time is as late or early.
    const NONE: i64 = if FIRST { i64::MAX } else { i64::MIN };

    /// Whether a value at `later`, behind another at `time` in the order of the input, takes its place.
    #[inline]
    fn replaces(later: i64, time: i64) -> bool {
        if FIRST { later < time } else { later >= time && later != Self::NONE }
    }

    /// The value of state `at` of `a`, followed by that of `b`.
    #[inline]
    pub(crate) fn of<'a>(a: &'a Self, b: Option<&'a Self>, at: usize) -> Option<&'a V> {
        let from = b.filter(|b| Self::replaces(b.times[at], a.times[at])).unwrap_or(a);
        (from.times[at] != Self::NONE).then(|| &from.values[at])
    }

    fn join(a: (i64, V), b: (i64, V)) -> (i64, V) {
        if Self::replaces(b.0, a.0) { b } else { a }
    }
}

impl<const FIRST: bool, V: EdgeValue> Column for Edge<FIRST, V> {
    column_basics!(|_: &Self| Self::default());

    fn table(&self) -> Box<dyn Column> {
        Box::new(Edge::<FIRST, V> { table: true, ..Self::default() })
    }

    fn sliding(&self) -> Sliding {
        Sliding::Suffix
    }

    fn grow(&mut self, len: usize) {
        if len > self.times.len() {
            self.times.resize(len, Self::NONE);
            self.values.resize(len, V::default());
        }
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        let nulls = V::valid(&inputs[0]);
        // The row, from 1, whose value a state takes; only those are looked at in the end.
        let mut rows = vec![0u32; self.times.len()];
        for (i, (at, time)) in at.iter().zip(inputs[1].as_primitive::<Int64Type>().values()).enumerate() {
            let known = &mut self.times[*at as usize];
            if Self::replaces(*time, *known) && nulls.as_ref().is_none_or(|n| n.is_valid(i)) {
                *known = *time;
                rows[*at as usize] = i as u32 + 1;
            }
        }
        let wanted: Vec<(u32, u32)> =
            rows.iter().zip(0..).filter(|(row, _)| **row > 0).map(|(row, state)| (state, row - 1)).collect();
        V::take(&inputs[0], &wanted, |state, value| {
            self.heap += value.heap();
            self.values[state as usize] = value;
        })
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let other = same::<Self>(other);
        if !self.table {
            self.heap += other.heap * range.len() / other.times.len().max(1);
        }
        for (at, from) in at.iter().zip(range) {
            let known = &mut self.times[*at as usize];
            if Self::replaces(other.times[from], *known) {
                *known = other.times[from];
                self.values[*at as usize] = other.values[from].clone();
            }
        }
    }

    fn reset(&mut self, at: &[u32]) {
        for at in at {
            self.times[*at as usize] = Self::NONE;
            self.values[*at as usize] = V::default();
        }
    }

    fn turn(&mut self, ids: &[u32], range: Range<usize>, suffix: &mut dyn Column) {
        let suffix = same_mut::<Self>(suffix);
        for (id, at) in ids.iter().zip(range).rev() {
            let id = *id as usize;
            let later = (suffix.times[id], std::mem::take(&mut suffix.values[id]));
            let cell = (self.times[at], std::mem::take(&mut self.values[at]));
            (self.times[at], self.values[at]) = later.clone();
            (suffix.times[id], suffix.values[id]) = Self::join(cell, later);
        }
    }

    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        let other = same::<Self>(other);
        for (at, from) in at.iter().zip(range) {
            self.times[*at as usize] = other.times[from];
            self.values[*at as usize] = other.values[from].clone();
        }
    }

    fn settle(&mut self) {
        self.times.shrink_to_fit();
        self.values.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.times.capacity() * 8 + self.values.capacity() * size_of::<V>() + self.heap
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        cells.iter().for_each(|range| put(&self.times[range.clone()], out));
        cells.iter().for_each(|range| V::save(&self.values[range.clone()], out));
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        self.times.extend(from.words::<i64>(cells)?);
        let values = V::load(cells, from)?;
        self.heap += values.iter().map(V::heap).sum::<usize>();
        self.values.extend(values);
        Some(())
    }
}
