//! A query bound to the fields of its input: which columns to decode, which primitives to keep, which rows to hand out.
//!
//! Everything that can be wrong with a query is found here, before the first record is read.

use super::agg::{Agg, AggKind};
use super::aggregates::{
    Column, Columns, CountIf, Coupons, CustomOutput, Distinct, Edge, EdgeText, Erased, Extreme, FloatSum, IntSum,
    Moments, Nulls, Quantiles, TextExtreme, ordered_floats,
};
use super::emit::inner_schema;
use super::expr::{Expr, Predicate};
use super::having::Having;
use super::keys::{ByteRows, WordRows};
use super::map::Piece;
pub(crate) use super::names::similar;
use super::text::is_text;
use crate::core::window::WindowSpec;
use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{ArrayRef, BooleanArray, Int64Array};
use arrow_cast::cast;
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use std::sync::Arc;

/// How an input types its fields. The same field may be wanted as a key (as it stands in a text) and as a value.
pub(crate) trait Fields {
    /// The type of `field` as a key, if there is such a field.
    fn key(&self, field: &str) -> Option<DataType>;
    /// The type of `field` as a value.
    fn value(&self, field: &str) -> Option<DataType>;
    /// All fields, for error messages.
    fn names(&self) -> Vec<String>;
    /// Whether text of this input carries the marks of [`crate::format::json::display_token`].
    fn marked(&self) -> bool {
        false
    }
}

/// A column that the input is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WantedColumn {
    pub(crate) name: String,
    pub(crate) as_key: bool,
}

/// A key field of the output.
#[derive(Debug, Clone)]
pub(crate) struct KeyField {
    /// The type in the output: text is `Utf8`.
    pub(crate) data_type: DataType,
}

/// What a primitive column reads.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
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
enum Primitive {
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

/// A condition with the columns it reads.
pub(crate) struct Condition {
    predicate: Predicate,
    columns: Vec<usize>,
}

impl Condition {
    /// The condition over the rows of `piece`.
    pub(crate) fn mask(&self, piece: &Piece) -> Result<BooleanArray> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| piece.columns[*c].clone()).collect();
        self.predicate.evaluate(&columns, piece.rows)
    }
}

/// See the module.
pub(crate) struct Plan {
    pub(crate) window: Option<WindowSpec>,
    pub(crate) columns: Vec<WantedColumn>,
    pub(crate) keys: Vec<KeyField>,
    /// The columns that are the keys.
    pub(crate) key_columns: Vec<usize>,
    /// Whether the key is one fixed-width word.
    pub(crate) word_key: bool,
    /// Whether key text carries the marks of JSON.
    pub(crate) marked_keys: bool,
    pub(crate) filter: Option<Condition>,
    pub(crate) having: Option<Having>,
    conditions: Vec<Condition>,
    primitives: Vec<(Primitive, Vec<Source>)>,
    custom: Vec<Arc<dyn Erased>>,
    pub(crate) outputs: Vec<Output>,
    pub(crate) schema: SchemaRef,
    /// Whether blocks may be folded before they are partitioned.
    pub(crate) folds_early: bool,
    pub(crate) naive: bool,
}

/// What a plan is made from.
pub(crate) struct Request<'a> {
    pub(crate) keys: &'a [String],
    pub(crate) window: Option<WindowSpec>,
    pub(crate) aggregates: &'a [Agg],
    pub(crate) filter: Option<&'a str>,
    pub(crate) having: Option<&'a str>,
    pub(crate) naive: bool,
}

/// `Timestamp(µs, UTC)`, the type of the window columns.
pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

impl Plan {
    /// Binds `request` to `fields`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`]: unknown fields, types that do not fit, two outputs of one name.
    pub(crate) fn new(request: &Request<'_>, fields: &dyn Fields) -> Result<Plan> {
        let mut plan = Plan {
            window: request.window,
            columns: Vec::new(),
            keys: Vec::new(),
            key_columns: Vec::new(),
            word_key: false,
            marked_keys: fields.marked(),
            filter: None,
            having: None,
            conditions: Vec::new(),
            primitives: Vec::new(),
            custom: Vec::new(),
            outputs: Vec::new(),
            schema: Arc::new(Schema::empty()),
            folds_early: !request.naive,
            naive: request.naive,
        };
        let mut output = Vec::new();
        if plan.window.is_some() {
            output.push(Field::new("window_start", timestamp_type(), false));
            output.push(Field::new("window_end", timestamp_type(), false));
        }
        for name in request.keys {
            let data_type = fields.key(name).ok_or_else(|| unknown(name, fields))?;
            plan.word_key = request.keys.len() == 1 && !is_text(&data_type);
            let data_type = if is_text(&data_type) { DataType::Utf8 } else { data_type };
            let column = plan.want(name, true);
            plan.key_columns.push(column);
            output.push(Field::new(name, data_type.clone(), true));
            plan.keys.push(KeyField { data_type });
        }
        if let Some(text) = request.filter {
            plan.filter = Some(plan.condition(text, fields)?);
        }
        for agg in request.aggregates {
            let (field_output, data_type) = plan.output(agg, fields)?;
            let nullable = !matches!(
                field_output,
                Output::Records | Output::Values { .. } | Output::CountIf { .. } | Output::Distinct { .. }
            );
            plan.outputs.push(field_output);
            output.push(Field::new(agg.name(), data_type, nullable));
        }
        for (i, field) in output.iter().enumerate() {
            if output[..i].iter().any(|other| other.name() == field.name()) {
                return Err(Error::usage(format!(
                    "two output columns are called {:?}; give one another name with \"as NAME\"",
                    field.name()
                )));
            }
        }
        plan.schema = Arc::new(Schema::new(output));
        plan.having = request.having.map(|text| Having::new(text, &inner_schema(&plan))).transpose()?;
        Ok(plan)
    }

    /// Whether any part of the query looks at event times.
    pub(crate) fn uses_time(&self) -> bool {
        self.window.is_some() || self.primitives.iter().any(|(_, sources)| sources.contains(&Source::Time))
    }

    /// How time is cut, or `None` for one global pane.
    pub(crate) fn pane_spec(&self) -> Option<WindowSpec> {
        self.window
    }

    /// How a window moves over what the reduce side stores.
    pub(crate) fn slide_spec(&self) -> WindowSpec {
        match self.window {
            Some(spec) if !self.naive => spec,
            // A global group-by, or windows that were filled one by one: nothing slides.
            _ => WindowSpec::global(),
        }
    }

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

    fn want(&mut self, name: &str, as_key: bool) -> usize {
        let wanted = WantedColumn { name: name.to_owned(), as_key };
        match self.columns.iter().position(|c| *c == wanted) {
            Some(at) => at,
            None => {
                self.columns.push(wanted);
                self.columns.len() - 1
            }
        }
    }

    fn condition(&mut self, text: &str, fields: &dyn Fields) -> Result<Condition> {
        let expr = Expr::parse(text)?;
        let columns = expr.fields();
        let predicate = expr.bind(&|name| fields.value(name), &fields.names())?;
        Ok(Condition { predicate, columns: columns.iter().map(|name| self.want(name, false)).collect() })
    }

    fn primitive(&mut self, primitive: Primitive, sources: Vec<Source>) -> usize {
        let wanted = (primitive, sources);
        match self.primitives.iter().position(|p| *p == wanted) {
            Some(at) => at,
            None => {
                self.primitives.push(wanted);
                self.primitives.len() - 1
            }
        }
    }

    /// The column and type of `name`, a value.
    fn value(&mut self, name: &str, fields: &dyn Fields) -> Result<(usize, DataType)> {
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

    fn output(&mut self, agg: &Agg, fields: &dyn Fields) -> Result<(Output, DataType)> {
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

/// `array` as `Int64` or `Float64`.
fn number(array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    let narrow = match array.data_type() {
        DataType::Date32 | DataType::Time32(_) => cast(array, &DataType::Int32)?,
        _ => array.clone(),
    };
    let options = arrow_cast::CastOptions { safe: false, ..Default::default() };
    arrow_cast::cast_with_options(&narrow, to, &options)
        .map_err(|e| Error::data(format!("a value does not fit 64 bits, which is what windrow computes with: {e}")))
}

/// Floats as their bits.
fn bits(column: &ArrayRef) -> ArrayRef {
    let words: Int64Array = column.as_primitive::<Float64Type>().unary(|v| v.to_bits() as i64);
    Arc::new(words)
}

/// Whether values of this type can be told apart as keys are.
fn is_countable(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => is_countable(values),
        other => is_text(other) || other.is_floating() || is_word_like(other),
    }
}

fn is_integer(data_type: &DataType) -> bool {
    data_type.is_integer()
}

/// Whether values of this type are at most 64 bits that order as integers do.
pub(crate) fn is_word_like(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Boolean
                | DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(..)
                | DataType::Duration(_)
        )
}

/// A type in words.
fn describe(data_type: &DataType) -> String {
    match data_type {
        t if is_text(t) => "text".into(),
        DataType::Boolean => "a boolean".into(),
        DataType::Timestamp(..) => "a timestamp".into(),
        DataType::Date32 | DataType::Date64 => "a date".into(),
        other => format!("of type {other}"),
    }
}

/// The error for a field that the input does not have, with the names that are close.
pub(crate) fn unknown(name: &str, fields: &dyn Fields) -> Error {
    let names = fields.names();
    let mut message = format!("there is no field {name:?} in the input");
    let close = similar(name, &names);
    if !close.is_empty() {
        message += &format!("; did you mean {}?", close.join(" or "));
    } else if !names.is_empty() {
        let more = if names.len() > 20 { ", ..." } else { "" };
        message += &format!("; it has {}{more}", names.iter().take(20).cloned().collect::<Vec<_>>().join(", "));
    }
    Error::usage(message)
}
