//! Aggregates that a program brings along.

use super::{Column, Sliding, column_basics, same, same_mut};
use crate::Result;
use crate::core::words::{Bytes, put_one};
use arrow_array::ArrayRef;
use arrow_schema::DataType;
use std::ops::Range;
use std::sync::Arc;

/// One value of an output row.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// `Int64`.
    Int(i64),
    /// `Float64`.
    Float(f64),
    /// `Utf8`.
    Text(String),
    /// `Boolean`.
    Bool(bool),
}

/// An aggregate function over the records of one key in one window.
///
/// A state summarises some of a group's records; [`merge`](Self::merge) joins the states of two consecutive stretches
/// of records. It must be associative, with [`identity`](Self::identity) as its neutral element; it need not commute.
/// With an exact inverse ([`retract`](Self::retract), announced by [`invertible`](Self::invertible)) a window slides by
/// subtraction; without, by suffix folds, which cost about one merge more per state. With a lateness bound, what came after
/// a window of its pane had closed is merged behind everything else: there order cannot be told.
///
/// ```
/// use arrow_array::{Array, ArrayRef, cast::AsArray, types::Int64Type};
/// use arrow_schema::DataType;
/// use windrow::query::{Aggregate, Value};
///
/// /// The product of the values modulo a prime.
/// struct Product;
/// impl Aggregate for Product {
///     type State = u64;
///     fn output(&self) -> DataType { DataType::Int64 }
///     fn identity(&self) -> u64 { 1 }
///     fn update(&self, state: &mut u64, inputs: &[ArrayRef], row: usize) -> windrow::Result<()> {
///         let column = inputs[0].as_primitive::<Int64Type>();
///         if column.is_valid(row) {
///             *state = *state * (column.value(row) as u64 % 65_521) % 65_521;
///         }
///         Ok(())
///     }
///     fn merge(&self, state: &mut u64, later: &u64) { *state = *state * later % 65_521 }
///     fn finish(&self, state: &u64) -> Value { Value::Int(*state as i64) }
///     fn encode(&self, state: &u64, out: &mut Vec<u8>) { out.extend(state.to_le_bytes()) }
///     fn decode(&self, bytes: &[u8]) -> Option<u64> { Some(u64::from_le_bytes(bytes.try_into().ok()?)) }
/// }
/// let mut bytes = Vec::new();
/// Product.encode(&7, &mut bytes);
/// assert_eq!(Product.decode(&bytes), Some(7));
/// ```
pub trait Aggregate: Send + Sync + 'static {
    /// What is kept per (key, pane).
    type State: Clone + Send + Sync + 'static;

    /// The type of the output column: `Int64`, `Float64`, `Utf8` or `Boolean`.
    fn output(&self) -> DataType;

    /// The state of no records.
    fn identity(&self) -> Self::State;

    /// Folds one record in. `inputs` are the columns named when the aggregate was added, as the input has them
    /// (text of log formats as `BinaryView`).
    ///
    /// # Errors
    /// Any error stops the run.
    fn update(&self, state: &mut Self::State, inputs: &[ArrayRef], row: usize) -> Result<()>;

    /// Appends the records that `later` summarises.
    fn merge(&self, state: &mut Self::State, later: &Self::State);

    /// Whether [`retract`](Self::retract) is an exact inverse of [`merge`](Self::merge).
    fn invertible(&self) -> bool {
        false
    }

    /// Removes the records that `earlier` summarises, which were the first ones merged. Called only if
    /// [`invertible`](Self::invertible).
    fn retract(&self, _state: &mut Self::State, _earlier: &Self::State) {}

    /// The output value of a state.
    fn finish(&self, state: &Self::State) -> Value;

    /// Appends the state's bytes to `out`, for spills and checkpoints.
    fn encode(&self, state: &Self::State, out: &mut Vec<u8>);

    /// The state that [`encode`](Self::encode) wrote, or `None` if the bytes are not such a state.
    fn decode(&self, bytes: &[u8]) -> Option<Self::State>;

    /// Bytes the state holds on the heap, beyond `size_of::<State>()`.
    fn heap_size(&self, _state: &Self::State) -> usize {
        0
    }
}

/// A column of a program's own states.
pub(crate) struct CustomColumn<A: Aggregate> {
    aggregate: Arc<A>,
    states: Vec<A::State>,
    heap: usize,
}

impl<A: Aggregate> CustomColumn<A> {
    /// No states yet.
    pub(crate) fn new(aggregate: Arc<A>) -> Self {
        CustomColumn { aggregate, states: Vec::new(), heap: 0 }
    }

    fn change(&mut self, at: usize, change: impl FnOnce(&A, &mut A::State)) {
        let state = &mut self.states[at];
        self.heap -= self.aggregate.heap_size(state).min(self.heap);
        change(&self.aggregate, state);
        self.heap += self.aggregate.heap_size(state);
    }
}

/// What emission asks of a column whose type it does not know.
pub(crate) trait CustomOutput: Send + Sync {
    /// The output of `column`'s state `at`, followed by that of `front` where the column slides by suffix.
    fn finish(&self, column: &dyn Column, front: Option<&dyn Column>, at: usize) -> Value;
}

/// [`CustomOutput`] of one aggregate.
pub(crate) struct Finisher<A>(pub(crate) Arc<A>);

impl<A: Aggregate> CustomOutput for Finisher<A> {
    fn finish(&self, column: &dyn Column, front: Option<&dyn Column>, at: usize) -> Value {
        let state = &same::<CustomColumn<A>>(column).states[at];
        match front {
            None => self.0.finish(state),
            Some(front) => {
                let mut whole = state.clone();
                self.0.merge(&mut whole, &same::<CustomColumn<A>>(front).states[at]);
                self.0.finish(&whole)
            }
        }
    }
}

impl<A: Aggregate> Column for CustomColumn<A> {
    column_basics!(|c: &CustomColumn<A>| CustomColumn::new(c.aggregate.clone()));

    fn sliding(&self) -> Sliding {
        if self.aggregate.invertible() { Sliding::Inverse } else { Sliding::Suffix }
    }

    fn grow(&mut self, len: usize) {
        while self.states.len() < len {
            let state = self.aggregate.identity();
            self.heap += self.aggregate.heap_size(&state);
            self.states.push(state);
        }
    }

    fn update(&mut self, at: &[u32], inputs: &[ArrayRef]) -> Result<()> {
        for (row, at) in at.iter().enumerate() {
            let state = &mut self.states[*at as usize];
            self.heap -= self.aggregate.heap_size(state).min(self.heap);
            self.aggregate.update(state, inputs, row)?;
            self.heap += self.aggregate.heap_size(state);
        }
        Ok(())
    }

    fn fold(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        for (at, later) in at.iter().zip(&same::<Self>(other).states[range]) {
            self.change(*at as usize, |aggregate, state| aggregate.merge(state, later));
        }
    }

    fn retract(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        for (at, earlier) in at.iter().zip(&same::<Self>(other).states[range]) {
            self.change(*at as usize, |aggregate, state| aggregate.retract(state, earlier));
        }
    }

    fn reset(&mut self, at: &[u32]) {
        for at in at {
            self.change(*at as usize, |aggregate, state| *state = aggregate.identity());
        }
    }

    fn turn(&mut self, ids: &[u32], range: Range<usize>, suffix: &mut dyn Column) {
        for (id, at) in ids.iter().zip(range).rev() {
            let later = &mut same_mut::<Self>(suffix).states[*id as usize];
            let cell = &mut self.states[at];
            self.aggregate.merge(cell, later);
            std::mem::swap(cell, later);
        }
    }

    fn store(&mut self, at: &[u32], other: &dyn Column, range: Range<usize>) {
        for (at, state) in at.iter().zip(&same::<Self>(other).states[range]) {
            self.change(*at as usize, |_, old| *old = state.clone());
        }
    }

    fn settle(&mut self) {
        self.states.shrink_to_fit();
    }

    fn bytes(&self) -> usize {
        self.states.capacity() * size_of::<A::State>() + self.heap
    }

    fn save(&self, cells: &[Range<usize>], out: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        for state in cells.iter().flat_map(|range| &self.states[range.clone()]) {
            bytes.clear();
            self.aggregate.encode(state, &mut bytes);
            put_one(bytes.len() as u64, out);
            out.extend_from_slice(&bytes);
        }
    }

    fn load(&mut self, cells: usize, from: &mut Bytes<'_>) -> Option<()> {
        for _ in 0..cells {
            let len = from.word::<u64>()?;
            let state = self.aggregate.decode(from.take(usize::try_from(len).ok()?)?)?;
            self.heap += self.aggregate.heap_size(&state);
            self.states.push(state);
        }
        Some(())
    }
}

/// An aggregate without its type.
pub(crate) trait Erased: Send + Sync {
    /// An empty column of its states.
    fn column(&self) -> Box<dyn Column>;
    /// What reads that column.
    fn finisher(&self) -> Box<dyn CustomOutput>;
    /// The type of the output column.
    fn output(&self) -> DataType;
}

/// [`Erased`] of one aggregate.
pub(crate) struct Custom<A>(pub(crate) Arc<A>);

impl<A: Aggregate> Erased for Custom<A> {
    fn column(&self) -> Box<dyn Column> {
        Box::new(CustomColumn::new(self.0.clone()))
    }
    fn finisher(&self) -> Box<dyn CustomOutput> {
        Box::new(Finisher(self.0.clone()))
    }
    fn output(&self) -> DataType {
        self.0.output()
    }
}
