//! Aggregates as columns of states: one virtual call per aggregate and batch of rows, never per row.
//!
//! A query's outputs are written on a few *primitive* columns, shared where they can be: `avg(x)` is the sum of `x`
//! and the records less the nulls of `x`, and a query that also asks for `sum(x)` keeps that sum once. A [`Column`]
//! plays three parts with the same code: the cells of a block, the cells of panes, and the table of a window. How it
//! slides is its own choice ([`Sliding`]). Programs add aggregates of their own through [`Aggregate`].
//!
//! One file per primitive. Every column has a naive twin in `tests/suite/twin.rs`, which recomputes whole windows.

mod bags;
mod buckets;
mod count_if;
pub(super) mod coupons;
mod custom;
mod distinct;
mod edge;
mod extreme;
mod moments;
mod nulls;
mod quantile;
mod sum;
mod tables;
mod text_extreme;

pub(crate) use buckets::value_of;
pub(crate) use count_if::CountIf;
pub(crate) use coupons::{Coupons, estimate};
pub use custom::{Aggregate, Value};
pub(crate) use custom::{Custom, CustomOutput, Erased};
pub(crate) use distinct::{Distinct, SetTable};
pub(crate) use edge::{Edge, EdgeText, EdgeValue};
pub(crate) use extreme::{Extreme, from_ordered_float, ordered_floats};
pub(crate) use moments::Moments;
pub(crate) use nulls::Nulls;
pub(crate) use quantile::{QuantileTable, Quantiles};
pub(crate) use sum::{FloatSum, IntSum};
pub(crate) use tables::{ColumnTables, Columns, Table};
pub(crate) use text_extreme::TextExtreme;

use crate::Result;
use crate::core::words::Bytes;
use arrow_array::ArrayRef;
use std::any::Any;
use std::ops::Range;

/// How a column moves with its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sliding {
    /// What leaves is subtracted, exactly.
    Inverse,
    /// There is no exact inverse: suffix folds (see [`crate::core::suffix`]).
    Suffix,
}

/// States of one primitive aggregate, addressed by position (a cell of a block or pane, or a group of a window).
///
/// `other` arguments are always of the same concrete type as `self`, or cells where `self` is a [table](Column::table); positions are below `len` unless said otherwise.
pub(crate) trait Column: Any + Send + Sync {
    /// An empty column of the same kind.
    fn empty(&self) -> Box<dyn Column>;
    /// An empty column for the table of a window, if that is of another kind: it folds states of cells, never records.
    fn table(&self) -> Box<dyn Column> {
        self.empty()
    }
    /// As `Any`, for the downcast of `other`.
    fn as_any(&self) -> &dyn Any;
    /// As `Any`, mutable.
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// How it slides.
    fn sliding(&self) -> Sliding;
    /// Grows to `len` states; new ones are identities.
    fn grow(&mut self, len: usize);
    /// Folds raw values in: row `i` of `inputs` into state `at[i]`.
    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()>;
    /// Announces that each state of `other` will be folded here at most once.
    fn admit(&mut self, _other: &dyn Column) {}
    /// Folds states of `other`, later ones, into those `at`.
    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>);
    /// Folds the state `from`, which is not used any more, into the one `at`, if that is possible before states can be
    /// read; returns whether it was.
    fn join_unread(&mut self, _at: u32, _from: u32) -> bool {
        false
    }
    /// Takes states of `other` out of those `at` (only [`Sliding::Inverse`]).
    fn retract(&mut self, _at: &[u32], _other: &dyn Column, _range: Range<usize>) {
        unreachable!("only columns with an inverse are asked to retract")
    }
    /// The states at `at` become identities.
    fn reset(&mut self, at: &[u32]);
    /// The backward walk of [`crate::core::suffix::turn`] over own cells `range` (only [`Sliding::Suffix`]).
    fn turn(&mut self, _ids: &[u32], _range: Range<usize>, _suffix: &mut dyn Column) {
        unreachable!("only columns without an inverse turn")
    }
    /// Copies states of `other` over those `at`.
    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        self.reset(at);
        self.fold(at, other, range);
    }
    /// The last record of a block is in: from now on its states are read.
    fn seal(&mut self) {}
    /// Nothing more will be folded in: gives back unused memory and takes exact bounds in place of cautious ones.
    fn settle(&mut self);
    /// Bytes of memory held.
    fn bytes(&self) -> usize;
    /// Appends the states of `cells` to `out`. Tables are not saved.
    fn save(&self, _cells: &[Range<usize>], _out: &mut Vec<u8>) {
        unreachable!("tables are made anew from cells")
    }
    /// Appends `cells` states that [`save`](Self::save) wrote to those that were loaded before; `None` if the bytes are not
    /// such states: then the column is of no more use.
    fn load(&mut self, _cells: usize, _from: &mut Bytes<'_>) -> Option<()> {
        unreachable!("tables are made anew from cells")
    }
}

/// `other` as the concrete type of the column that was handed it.
pub(crate) fn same<C: 'static>(other: &dyn Column) -> &C {
    other.as_any().downcast_ref().expect("columns are only ever folded with their own kind")
}

/// Mutable [`same`].
pub(crate) fn same_mut<C: 'static>(other: &mut dyn Column) -> &mut C {
    other.as_any_mut().downcast_mut().expect("columns are only ever folded with their own kind")
}

/// The boilerplate of `Any` and `empty`.
macro_rules! column_basics {
    ($empty:expr) => {
        fn empty(&self) -> Box<dyn Column> {
            #[allow(clippy::redundant_closure_call)]
            Box::new($empty(self))
        }
        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
        fn as_any_mut(&mut self) -> &mut dyn std::any::Any {
            self
        }
    };
}
pub(crate) use column_basics;
