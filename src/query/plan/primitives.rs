//! The states that the aggregates of a plan share: each kind over each source is kept once, whoever asked for it.

use super::Plan;
use super::types::{bits, number};
use crate::query::aggregates::{
    Column, Columns, CountIf, Coupons, Distinct, Edge, EdgeText, Extreme, FloatSum, IntSum, Moments, Nulls, Quantiles,
    TextExtreme, ordered_floats,
};
use crate::query::keys::{ByteRows, WordRows};
use crate::query::map::Piece;
use crate::{Error, Result};
use arrow_array::{ArrayRef, Int64Array};
use arrow_schema::DataType;
use std::sync::Arc;

/// What a primitive column reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// Column of the input as it is.
    Plain(usize),
    /// Column of the input, cast to `Int64` or `Float64`.
    Number(usize, DataType),
    /// Column of the input, floats as words that order.
    Ordered(usize),
    /// Column of the input, floats as their bits, everything else as `Int64`.
    Word(usize),
    /// The event time.
    Time,
    /// Condition of the plan.
    Condition(usize),
}

/// What kind of primitive it is; equal ones over equal sources are kept once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Primitive {
    Nulls,
    IntSum,
    FloatSum,
    CountIf,
    Min,
    Max,
    TextMin,
    TextMax,
    Distinct,
    TextDistinct,
    Coupons,
    Quantiles,
    Moments,
    First,
    Last,
    TextFirst,
    TextLast,
    Custom(usize),
}

impl Plan {
    /// Empty primitive columns.
    pub(crate) fn columns(&self) -> Columns {
        let column = |(primitive, _): &(Primitive, Vec<Source>)| -> Box<dyn Column> {
            match primitive {
                Primitive::Nulls => Box::<Nulls>::default(),
                Primitive::IntSum => Box::<IntSum>::default(),
                Primitive::FloatSum => Box::<FloatSum>::default(),
                Primitive::CountIf => Box::<CountIf>::default(),
                Primitive::Min => Box::<Extreme<true>>::default(),
                Primitive::Max => Box::<Extreme<false>>::default(),
                Primitive::TextMin => Box::new(TextExtreme::new(true)),
                Primitive::TextMax => Box::new(TextExtreme::new(false)),
                Primitive::Distinct => Box::new(Distinct::<WordRows>::new()),
                Primitive::TextDistinct => Box::new(Distinct::<ByteRows>::new()),
                Primitive::Coupons => Box::<Coupons>::default(),
                Primitive::Quantiles => Box::<Quantiles>::default(),
                Primitive::Moments => Box::<Moments>::default(),
                Primitive::First => Box::<Edge<true, i64>>::default(),
                Primitive::Last => Box::<Edge<false, i64>>::default(),
                Primitive::TextFirst => Box::<Edge<true, EdgeText>>::default(),
                Primitive::TextLast => Box::<Edge<false, EdgeText>>::default(),
                Primitive::Custom(i) => self.custom[*i].column(),
            }
        };
        Columns::new(self.primitives.iter().map(column).collect())
    }

    /// The input columns of each primitive over the rows of `piece`.
    pub(crate) fn inputs(&self, piece: &Piece) -> Result<Vec<Vec<ArrayRef>>> {
        let mut made: Vec<(&Source, ArrayRef)> = Vec::new();
        let mut all = Vec::with_capacity(self.primitives.len());
        for (_, sources) in &self.primitives {
            let mut inputs = Vec::with_capacity(sources.len());
            for source in sources {
                if let Some((_, array)) = made.iter().find(|(s, _)| *s == source) {
                    inputs.push(array.clone());
                    continue;
                }
                let array: ArrayRef = match source {
                    Source::Plain(column) => piece.columns[*column].clone(),
                    Source::Number(column, to) => {
                        let array = &piece.columns[*column];
                        number(array, to).map_err(|e| Error::data(format!("{}: {e}", self.columns[*column].name)))?
                    }
                    Source::Ordered(column) => ordered_floats(&number(&piece.columns[*column], &DataType::Float64)?),
                    Source::Word(column) if piece.columns[*column].data_type().is_floating() => {
                        bits(&number(&piece.columns[*column], &DataType::Float64)?)
                    }
                    Source::Word(column) => number(&piece.columns[*column], &DataType::Int64)
                        .map_err(|e| Error::data(format!("{}: {e}", self.columns[*column].name)))?,
                    Source::Time => Arc::new(Int64Array::new(piece.times.clone(), None)),
                    Source::Condition(i) => Arc::new(self.conditions[*i].mask(piece)?),
                };
                made.push((source, array.clone()));
                inputs.push(array);
            }
            all.push(inputs);
        }
        Ok(all)
    }
}
