//! `count_if(EXPR)`: records for which a condition is true (false and null do not count).

use super::{Column, Sliding, column_basics, same};
use crate::Result;
use crate::core::counts::Counts;
use crate::core::words::Bytes;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use std::ops::Range;

/// True values of a boolean column per state.
#[derive(Debug, Default)]
pub(crate) struct CountIf(Counts);

impl CountIf {
    /// True values in state `at`.
    #[inline]
    pub(crate) fn get(&self, at: usize) -> u64 {
        self.0.get(at)
    }
}

impl Column for CountIf {
    column_basics!(|_: &CountIf| CountIf::default());

    fn sliding(&self) -> Sliding {
        Sliding::Inverse
    }

    fn grow(&mut self, len: usize) {
        self.0.grow(len);
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        let column = inputs[0].as_boolean();
        let holds = match column.nulls() {
            None => column.values().clone(),
            Some(nulls) => column.values() & nulls.inner(),
        };
        // Few records satisfy the usual condition (errors), so only those are visited.
        let hits: Vec<u32> = holds.set_indices().map(|i| at[i]).collect();
        self.0.add(&hits, 1, |_| 1);
        Ok(())
    }

    fn admit(&mut self, other: &dyn Column) {
        self.0.admit(&same::<Self>(other).0);
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        self.0.fold(at, &same::<Self>(other).0, range);
    }

    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        self.0.store(at, &same::<Self>(other).0, range);
    }

    fn retract(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        self.0.retract(at, &same::<Self>(other).0, range);
    }

    fn reset(&mut self, at: &[u32]) {
        self.0.reset(at);
    }

    fn settle(&mut self) {
        self.0.settle();
    }

    fn bytes(&self) -> usize {
        self.0.bytes()
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        self.0.save(cells, out);
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        self.0.load(cells, from)
    }
}
