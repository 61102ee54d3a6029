//! The output columns of a plan: what each aggregate needs of its input, and how it follows from the primitives.

use super::primitives::{Primitive, Source};
use super::types::{describe, is_countable, is_integer, is_word_like};
use super::{Fields, Plan, unknown};
use crate::query::agg::{Agg, AggKind};
use crate::query::aggregates::CustomOutput;
use crate::query::text::is_text;
use crate::{Error, Result};
use arrow_schema::DataType;

/// One output column: how it follows from the primitives.
pub(crate) enum Output {
    Records,
    Values {
        nulls: usize,
    },
    CountIf {
        count: usize,
    },
    IntSum {
        sum: usize,
        nulls: usize,
        name: String,
    },
    FloatSum {
        sum: usize,
        nulls: usize,
    },
    IntAvg {
        sum: usize,
        nulls: usize,
    },
    FloatAvg {
        sum: usize,
        nulls: usize,
    },
    Extreme {
        state: usize,
        nulls: usize,
        min: bool,
        float: bool,
    },
    TextExtreme {
        state: usize,
        marked: bool,
    },
    Distinct {
        state: usize,
        approximate: bool,
    },
    /// `whole`: of integers, so that what stands for a bucket is one.
    Quantile {
        state: usize,
        nulls: usize,
        q: f64,
        whole: bool,
    },
    Moment {
        state: usize,
        root: bool,
    },
    Edge {
        state: usize,
        first: bool,
        float: bool,
    },
    TextEdge {
        state: usize,
        first: bool,
        marked: bool,
    },
    Custom {
        state: usize,
        output: Box<dyn CustomOutput>,
        data_type: DataType,
    },
}

impl Plan {
    /// The column and type of `name`, a value.
    pub(super) fn value(&mut self, name: &str, fields: &dyn Fields) -> Result<(usize, DataType)> {
        let data_type = fields.value(name).ok_or_else(|| unknown(name, fields))?;
        Ok((self.want(name, false), data_type))
    }

    /// The column `name`, which `agg` needs to be a number, and whether it is an integer.
    fn number_value(&mut self, agg: &Agg, name: &str, fields: &dyn Fields) -> Result<(usize, bool)> {
        let (column, data_type) = self.value(name, fields)?;
        if !is_integer(&data_type) && !data_type.is_floating() {
            let function = Agg { alias: None, ..agg.clone() }.name();
            return Err(Error::usage(format!(
                "{function}: {name} is {}, and this needs a number",
                describe(&data_type)
            )));
        }
        Ok((column, is_integer(&data_type)))
    }

    /// The output column of `agg` and its type.
    pub(super) fn output(&mut self, agg: &Agg, fields: &dyn Fields) -> Result<(Output, DataType)> {
        Ok(match &agg.kind {
            AggKind::Count => (Output::Records, DataType::Int64),
            AggKind::CountColumn(name) => {
                let (column, _) = self.value(name, fields)?;
                let nulls = self.primitive(Primitive::Nulls, vec![Source::Plain(column)]);
                (Output::Values { nulls }, DataType::Int64)
            }
            AggKind::CountIf(text) => {
                let condition = self.condition(text, fields)?;
                self.conditions.push(condition);
                let count = self.primitive(Primitive::CountIf, vec![Source::Condition(self.conditions.len() - 1)]);
                (Output::CountIf { count }, DataType::Int64)
            }
            AggKind::Sum(name) | AggKind::Avg(name) => {
                let (column, data_type) = self.value(name, fields)?;
                let average = matches!(agg.kind, AggKind::Avg(_));
                let nulls = self.primitive(Primitive::Nulls, vec![Source::Plain(column)]);
                if is_integer(&data_type) {
                    let sum = self.primitive(Primitive::IntSum, vec![Source::Number(column, DataType::Int64)]);
                    if average {
                        (Output::IntAvg { sum, nulls }, DataType::Float64)
                    } else {
                        (Output::IntSum { sum, nulls, name: agg.name() }, DataType::Int64)
                    }
                } else if data_type.is_floating() {
                    let sum = self.primitive(Primitive::FloatSum, vec![Source::Number(column, DataType::Float64)]);
                    let output =
                        if average { Output::FloatAvg { sum, nulls } } else { Output::FloatSum { sum, nulls } };
                    (output, DataType::Float64)
                } else {
                    let function = if average { "avg" } else { "sum" };
                    return Err(Error::usage(format!(
                        "{function}({name}): {name} is {}, and {function} needs a number",
                        describe(&data_type)
                    )));
                }
            }
            AggKind::Min(name) | AggKind::Max(name) => {
                let (column, data_type) = self.value(name, fields)?;
                let min = matches!(agg.kind, AggKind::Min(_));
                if is_text(&data_type) {
                    let primitive = if min { Primitive::TextMin } else { Primitive::TextMax };
                    let state = self.primitive(primitive, vec![Source::Plain(column)]);
                    return Ok((Output::TextExtreme { state, marked: fields.marked() }, DataType::Utf8));
                }
                let nulls = self.primitive(Primitive::Nulls, vec![Source::Plain(column)]);
                let float = data_type.is_floating();
                if !float && !is_word_like(&data_type) {
                    return Err(Error::usage(format!(
                        "{}({name}): {name} is {}",
                        if min { "min" } else { "max" },
                        describe(&data_type)
                    )));
                }
                let primitive = if min { Primitive::Min } else { Primitive::Max };
                let state = self.primitive(
                    primitive,
                    vec![if float { Source::Ordered(column) } else { Source::Number(column, DataType::Int64) }],
                );
                (Output::Extreme { state, nulls, min, float }, data_type)
            }
            AggKind::Distinct(name) | AggKind::ApproxDistinct(name) => {
                let approximate = matches!(agg.kind, AggKind::ApproxDistinct(_));
                let (column, data_type) = self.value(name, fields)?;
                if !is_countable(&data_type) {
                    let function = if approximate { "approx_distinct" } else { "distinct" };
                    return Err(Error::usage(format!("{function}({name}): {name} is {}", describe(&data_type))));
                }
                let primitive = match (approximate, is_text(&data_type)) {
                    (true, _) => Primitive::Coupons,
                    (false, true) => Primitive::TextDistinct,
                    (false, false) => Primitive::Distinct,
                };
                let state = self.primitive(primitive, vec![Source::Plain(column)]);
                (Output::Distinct { state, approximate }, DataType::Int64)
            }
            AggKind::Quantile(name, q, _) => {
                if !(0.0..=1.0).contains(q) {
                    return Err(Error::usage(format!("quantile({name}, {q}): {q} is not a number from 0 to 1")));
                }
                let (column, whole) = self.number_value(agg, name, fields)?;
                let nulls = self.primitive(Primitive::Nulls, vec![Source::Plain(column)]);
                let state = self.primitive(Primitive::Quantiles, vec![Source::Number(column, DataType::Float64)]);
                (Output::Quantile { state, nulls, q: *q, whole }, DataType::Float64)
            }
            AggKind::Var(name) | AggKind::Stddev(name) => {
                let (column, _) = self.number_value(agg, name, fields)?;
                let state = self.primitive(Primitive::Moments, vec![Source::Number(column, DataType::Float64)]);
                (Output::Moment { state, root: matches!(agg.kind, AggKind::Stddev(_)) }, DataType::Float64)
            }
            AggKind::First(name) | AggKind::Last(name) => {
                let (column, data_type) = self.value(name, fields)?;
                let first = matches!(agg.kind, AggKind::First(_));
                if is_text(&data_type) {
                    let primitive = if first { Primitive::TextFirst } else { Primitive::TextLast };
                    let state = self.primitive(primitive, vec![Source::Plain(column), Source::Time]);
                    return Ok((Output::TextEdge { state, first, marked: fields.marked() }, DataType::Utf8));
                }
                let float = data_type.is_floating();
                if !float && !is_word_like(&data_type) {
                    let function = if first { "first" } else { "last" };
                    return Err(Error::usage(format!("{function}({name}): {name} is {}", describe(&data_type))));
                }
                let primitive = if first { Primitive::First } else { Primitive::Last };
                let state = self.primitive(primitive, vec![Source::Word(column), Source::Time]);
                (Output::Edge { state, first, float }, data_type)
            }
            AggKind::Custom { inputs, aggregate, .. } => {
                let columns =
                    inputs.iter().map(|name| Ok(Source::Plain(self.value(name, fields)?.0))).collect::<Result<_>>()?;
                self.custom.push(aggregate.clone());
                let state = self.primitive(Primitive::Custom(self.custom.len() - 1), columns);
                let data_type = aggregate.output();
                let output = Output::Custom { state, output: aggregate.finisher(), data_type: data_type.clone() };
                (output, data_type)
            }
        })
    }
}
