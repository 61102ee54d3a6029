//! From the states of a window to values: one output column per aggregate.

use super::aggregates::{Column, same};
use super::aggregates::{
    ColumnTables, CountIf, Edge, EdgeText, EdgeValue, Extreme, FloatSum, IntSum, Moments, Nulls, QuantileTable,
    SetTable, Table, TextExtreme, Value, estimate, from_ordered_float, value_of,
};
use super::plan::Output;
use crate::core::slide::Slider;
use crate::{Error, Result};
use arrow_array::builder::{BooleanBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array};
use arrow_buffer::{NullBuffer, ScalarBuffer};
use arrow_cast::cast;
use arrow_schema::DataType;
use std::sync::Arc;

/// Values of one output column, in the making.
pub(crate) struct OutputColumn {
    values: Values,
    /// Validity of each value, once one is null.
    valid: Vec<bool>,
}

enum Values {
    Int(Vec<i64>),
    Float(Vec<f64>),
    Bool(Vec<bool>),
    Text(Vec<Option<Arc<str>>>),
}

impl OutputColumn {
    pub(super) fn new(output: &Output) -> Self {
        let values = match output {
            Output::Records | Output::Values { .. } | Output::CountIf { .. } | Output::IntSum { .. } => {
                Values::Int(Vec::new())
            }
            Output::Extreme { float: false, .. } | Output::Edge { float: false, .. } => Values::Int(Vec::new()),
            Output::Distinct { .. } => Values::Int(Vec::new()),
            Output::Quantile { .. } | Output::Moment { .. } => Values::Float(Vec::new()),
            Output::FloatSum { .. } | Output::IntAvg { .. } | Output::FloatAvg { .. } => Values::Float(Vec::new()),
            Output::Extreme { float: true, .. } | Output::Edge { float: true, .. } => Values::Float(Vec::new()),
            Output::TextExtreme { .. } | Output::TextEdge { .. } => Values::Text(Vec::new()),
            Output::Custom { data_type, .. } => match data_type {
                DataType::Float64 => Values::Float(Vec::new()),
                DataType::Utf8 => Values::Text(Vec::new()),
                DataType::Boolean => Values::Bool(Vec::new()),
                _ => Values::Int(Vec::new()),
            },
        };
        OutputColumn { values, valid: Vec::new() }
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::Int(v) => v.len(),
            Values::Float(v) => v.len(),
            Values::Bool(v) => v.len(),
            Values::Text(v) => v.len(),
        }
    }

    pub(super) fn clear(&mut self) {
        self.valid.clear();
        match &mut self.values {
            Values::Int(v) => v.clear(),
            Values::Float(v) => v.clear(),
            Values::Bool(v) => v.clear(),
            Values::Text(v) => v.clear(),
        }
    }

    /// The column, leaving an empty one of its kind.
    pub(super) fn take(&mut self) -> OutputColumn {
        let empty = match &self.values {
            Values::Int(_) => Values::Int(Vec::new()),
            Values::Float(_) => Values::Float(Vec::new()),
            Values::Bool(_) => Values::Bool(Vec::new()),
            Values::Text(_) => Values::Text(Vec::new()),
        };
        std::mem::replace(self, OutputColumn { values: empty, valid: Vec::new() })
    }

    fn ints(&mut self, values: impl Iterator<Item = i64>) {
        if let Values::Int(v) = &mut self.values {
            v.extend(values);
        }
    }

    fn floats(&mut self, values: impl Iterator<Item = f64>) {
        if let Values::Float(v) = &mut self.values {
            v.extend(values);
        }
    }

    /// Marks the values of `rows` (indexes from `from`) as null.
    fn nulls(&mut self, from: usize, rows: impl Iterator<Item = usize>) {
        for row in rows {
            if self.valid.len() < self.len() {
                self.valid.resize(self.len(), true);
            }
            self.valid[from + row] = false;
        }
    }

    fn push(&mut self, value: Value) -> Result<()> {
        let null = matches!(value, Value::Null);
        match (&mut self.values, value) {
            (Values::Int(v), Value::Int(x)) => v.push(x),
            (Values::Int(v), Value::Null) => v.push(0),
            (Values::Float(v), Value::Float(x)) => v.push(x),
            (Values::Float(v), Value::Null) => v.push(0.0),
            (Values::Bool(v), Value::Bool(x)) => v.push(x),
            (Values::Bool(v), Value::Null) => v.push(false),
            (Values::Text(v), Value::Text(x)) => v.push(Some(x.into())),
            (Values::Text(v), Value::Null) => v.push(None),
            (_, other) => {
                return Err(Error::data(format!("an aggregate gave {other:?}, which is not of the type it announced")));
            }
        }
        if null || !self.valid.is_empty() {
            let len = self.len();
            self.valid.resize(len - 1, true);
            self.valid.push(!null);
        }
        Ok(())
    }

    /// Concatenates `n` values from `start` of each source; `rows` in all.
    pub(super) fn gather<'a>(
        sources: impl Iterator<Item = (&'a OutputColumn, usize, usize)> + Clone,
        rows: usize,
    ) -> OutputColumn {
        macro_rules! concat {
            ($kind:ident) => {{
                let mut all = Vec::with_capacity(rows);
                for (column, start, n) in sources.clone() {
                    if let Values::$kind(v) = &column.values {
                        all.extend_from_slice(&v[start..start + n]);
                    }
                }
                Values::$kind(all)
            }};
        }
        let values = match sources.clone().next().map(|s| &s.0.values) {
            Some(Values::Float(_)) => concat!(Float),
            Some(Values::Bool(_)) => concat!(Bool),
            Some(Values::Text(_)) => concat!(Text),
            _ => concat!(Int),
        };
        let mut valid = Vec::new();
        if sources.clone().any(|(column, ..)| !column.valid.is_empty()) {
            for (column, start, n) in sources {
                let known = column.valid.get(start..).unwrap_or(&[]);
                let known = &known[..n.min(known.len())];
                valid.extend_from_slice(known);
                valid.resize(valid.len() + n - known.len(), true);
            }
        }
        OutputColumn { values, valid }
    }

    pub(super) fn into_array(mut self, data_type: &DataType) -> Result<ArrayRef> {
        let len = self.len();
        let nulls = (!self.valid.is_empty()).then(|| {
            self.valid.resize(len, true);
            NullBuffer::from(self.valid)
        });
        let array: ArrayRef = match self.values {
            Values::Int(v) => Arc::new(Int64Array::new(ScalarBuffer::from(v), nulls)),
            Values::Float(v) => Arc::new(Float64Array::new(ScalarBuffer::from(v), nulls)),
            Values::Bool(v) => Arc::new(BooleanArray::new(v.into(), nulls)),
            Values::Text(v) => {
                let mut builder = StringBuilder::new();
                v.iter().for_each(|t| builder.append_option(t.as_deref()));
                Arc::new(builder.finish())
            }
        };
        Ok(match data_type {
            t if t == array.data_type() => array,
            DataType::Date32 | DataType::Time32(_) => cast(&cast(&array, &DataType::Int32)?, data_type)?,
            DataType::Boolean => {
                let mut builder = BooleanBuilder::new();
                array
                    .as_primitive::<arrow_array::types::Int64Type>()
                    .iter()
                    .for_each(|v| builder.append_option(v.map(|v| v != 0)));
                Arc::new(builder.finish())
            }
            _ => cast(&array, data_type)?,
        })
    }
}

fn state<C: Column>(slider: &Slider<ColumnTables>, i: usize) -> (&C, Option<&C>) {
    let (column, front) = Table::parts(slider.table().get(i));
    (same(column), front.map(same))
}

/// Appends the extremes of the groups `ids`.
fn extremes<const MIN: bool>(
    (a, b): (&Extreme<MIN>, Option<&Extreme<MIN>>),
    ids: &[u32],
    float: bool,
    to: &mut OutputColumn,
) {
    let words = ids.iter().map(|id| Extreme::of(a, b, *id as usize));
    if float {
        to.floats(words.map(from_ordered_float));
    } else {
        to.ints(words);
    }
}

/// The value of group `id`, first or last.
fn edge<V: EdgeValue>(slider: &Slider<ColumnTables>, i: usize, first: bool, id: u32) -> Option<&V> {
    if first {
        let (a, b) = state::<Edge<true, V>>(slider, i);
        Edge::of(a, b, id as usize)
    } else {
        let (a, b) = state::<Edge<false, V>>(slider, i);
        Edge::of(a, b, id as usize)
    }
}

/// Text as a value, without the marks of JSON.
fn text(bytes: Option<&[u8]>, marked: bool) -> Value {
    let bytes = bytes.map(|t| if marked { crate::format::json::display_token(t) } else { t });
    bytes.map_or(Value::Null, |t| Value::Text(String::from_utf8_lossy(t).into_owned()))
}

/// ⌊q(n − 1)⌋ as the digits of `q` mean it: 0.29 × 100 is 29, though a little less in binary.
fn rank(q: f64, values: u64) -> u64 {
    let rank = q * values.saturating_sub(1) as f64;
    let near = rank.round();
    if (rank - near).abs() <= near * 4.0 * f64::EPSILON { near as u64 } else { rank as u64 }
}

/// Appends `output` for the groups `ids` of the current window.
pub(super) fn finish(output: &Output, slider: &Slider<ColumnTables>, ids: &[u32], to: &mut OutputColumn) -> Result<()> {
    let rows = slider.rows();
    let from = to.len();
    let values_of = |nulls: usize| {
        let (nulls, _) = state::<Nulls>(slider, nulls);
        move |id: u32| rows[id as usize] - nulls.get(id as usize)
    };
    // Marks the groups without any value.
    let without_value = |nulls: usize, to: &mut OutputColumn| {
        if !state::<Nulls>(slider, nulls).0.none() {
            let values = values_of(nulls);
            to.nulls(from, ids.iter().enumerate().filter(|(_, id)| values(**id) == 0).map(|(i, _)| i));
        }
    };
    match output {
        Output::Records => to.ints(ids.iter().map(|id| rows[*id as usize] as i64)),
        Output::Values { nulls } => {
            let values = values_of(*nulls);
            to.ints(ids.iter().map(|id| values(*id) as i64));
        }
        Output::CountIf { count } => {
            let (count, _) = state::<CountIf>(slider, *count);
            to.ints(ids.iter().map(|id| count.get(*id as usize) as i64));
        }
        Output::IntSum { sum, nulls, name } => {
            let (sum, _) = state::<IntSum>(slider, *sum);
            let mut overflow = false;
            to.ints(ids.iter().map(|id| {
                i64::try_from(sum.get(*id as usize)).unwrap_or_else(|_| {
                    overflow = true;
                    0
                })
            }));
            if overflow {
                return Err(Error::data(format!(
                    "{name}: a sum lies outside the range of 64-bit integers; use avg, or sum a float column"
                )));
            }
            without_value(*nulls, to);
        }
        Output::FloatSum { sum, nulls } => {
            let (sum, front) = state::<FloatSum>(slider, *sum);
            match front {
                None => to.floats(ids.iter().map(|id| sum.get(*id as usize))),
                Some(front) => to.floats(ids.iter().map(|id| sum.get(*id as usize) + front.get(*id as usize))),
            }
            without_value(*nulls, to);
        }
        Output::IntAvg { sum, nulls } => {
            let (sum, _) = state::<IntSum>(slider, *sum);
            let values = values_of(*nulls);
            to.floats(ids.iter().map(|id| sum.get(*id as usize) as f64 / values(*id) as f64));
            without_value(*nulls, to);
        }
        Output::FloatAvg { sum, nulls } => {
            let (sum, front) = state::<FloatSum>(slider, *sum);
            let values = values_of(*nulls);
            let total = |id: usize| front.map_or(sum.get(id), |front| sum.get(id) + front.get(id));
            to.floats(ids.iter().map(|id| total(*id as usize) / values(*id) as f64));
            without_value(*nulls, to);
        }
        Output::Extreme { state: i, nulls, min, float } => {
            if *min {
                extremes(state::<Extreme<true>>(slider, *i), ids, *float, to);
            } else {
                extremes(state::<Extreme<false>>(slider, *i), ids, *float, to);
            }
            without_value(*nulls, to);
        }
        Output::TextExtreme { state: i, marked } => {
            let (a, b) = state::<TextExtreme>(slider, *i);
            ids.iter().try_for_each(|id| to.push(text(TextExtreme::of(a, b, *id as usize), *marked)))?;
        }
        Output::Distinct { state: i, approximate } => {
            let (sets, _) = state::<SetTable>(slider, *i);
            let counts = ids.iter().map(|id| sets.get(*id as usize));
            if *approximate { to.ints(counts.map(estimate)) } else { to.ints(counts.map(i64::from)) }
        }
        Output::Quantile { state: i, nulls, q, whole } => {
            let (histograms, _) = state::<QuantileTable>(slider, *i);
            let values = values_of(*nulls);
            to.floats(ids.iter().map(|id| {
                let values = values(*id);
                let value = value_of(histograms.get(*id as usize).bucket_at(rank(*q, values), values));
                if *whole { value.round() } else { value }
            }));
            without_value(*nulls, to);
        }
        Output::Moment { state: i, root } => {
            let (a, b) = state::<Moments>(slider, *i);
            for id in ids {
                let variance = Moments::of(a, b, *id as usize).variance();
                to.push(variance.map_or(Value::Null, |v| Value::Float(if *root { v.sqrt() } else { v })))?;
            }
        }
        Output::Edge { state: i, first, float } => {
            let value = |word: Option<&i64>| match word {
                None => Value::Null,
                Some(word) if *float => Value::Float(f64::from_bits(*word as u64)),
                Some(word) => Value::Int(*word),
            };
            ids.iter().try_for_each(|id| to.push(value(edge(slider, *i, *first, *id))))?;
        }
        Output::TextEdge { state: i, first, marked } => {
            ids.iter().try_for_each(|id| {
                to.push(text(edge::<EdgeText>(slider, *i, *first, *id).and_then(|t| t.as_deref()), *marked))
            })?;
        }
        Output::Custom { state: i, output, .. } => {
            let (column, front) = slider.table().get(*i).parts();
            for id in ids {
                to.push(output.finish(column, front, *id as usize))?;
            }
        }
    }
    Ok(())
}
