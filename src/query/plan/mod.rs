//! A query bound to the fields of its input: which columns to decode, which primitives to keep, which rows to hand out.
//!
//! Everything that can be wrong with a query is found here, before the first record is read.

mod outputs;
mod primitives;
mod types;

use super::agg::Agg;
use super::aggregates::Erased;
use super::emit::inner_schema;
use super::expr::{Expr, Predicate};
use super::having::Having;
use super::map::Piece;
pub(crate) use super::names::similar;
use super::session::SessionSpec;
use super::text::is_text;
use crate::core::window::WindowSpec;
use crate::format::json::WHOLE_RECORD;
use crate::{Error, Result};
use arrow_array::{ArrayRef, BooleanArray};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
pub(crate) use outputs::Output;
use primitives::{Primitive, Source};
use std::sync::Arc;
pub(crate) use types::is_word_like;

/// Rows that a block on its way out aims at, if memory is plenty.
const BLOCK_ROWS: usize = if cfg!(test) { 16 } else { 128 << 10 };
/// Fewer are not worth the work of a block.
const LEAST_BLOCK_ROWS: usize = if cfg!(test) { 8 } else { 8 << 10 };

/// A field that is handed over as it is.
pub(crate) struct Carried {
    pub(crate) name: String,
    /// Its type in the output; text of text formats is `Utf8` there.
    pub(crate) data_type: DataType,
    /// Whether it is decoded as it stands in a text.
    pub(crate) as_key: bool,
}

/// How an input types its fields. The same field may be wanted as a key (as it stands in a text) and as a value.
pub(crate) trait Fields {
    /// The type of `field` as a key, if there is such a field.
    fn key(&self, field: &str) -> Option<DataType>;
    /// The type of `field` as a value.
    fn value(&self, field: &str) -> Option<DataType>;
    /// All fields, for error messages.
    fn names(&self) -> Vec<String>;
    /// The fields that are written when all are, in their order.
    fn all(&self) -> Vec<String> {
        self.names()
    }
    /// The field that holds the time of records, if that is known.
    fn time(&self) -> Option<String> {
        None
    }
    /// The fields that make up a record, in the order of the input.
    fn carried(&self, carry: Carry) -> Vec<Carried>;
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
    /// Instead of windows.
    pub(crate) session: Option<SessionSpec>,
    /// Only records from the first time on and before the second.
    pub(crate) range: Option<(i64, i64)>,
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
    /// Of records as they are: the columns that leave, and the one that is the time.
    pub(crate) scanned: Vec<usize>,
    pub(crate) scan_time: Option<usize>,
    /// The name of the time, if records that are late or ahead are wanted.
    pub(crate) late_time: Option<String>,
    /// Rows that blocks on their way out aim at.
    pub(crate) block_rows: usize,
    /// Whether blocks may be folded before they are partitioned.
    pub(crate) folds_early: bool,
    pub(crate) naive: bool,
    /// What of each record is handed over beside, or instead of, aggregates.
    pub(crate) carry: Carry,
}

/// What a plan is made from.
pub(crate) struct Request<'a> {
    pub(crate) keys: &'a [String],
    pub(crate) window: Option<WindowSpec>,
    pub(crate) session: Option<SessionSpec>,
    /// Only records from the first time on and before the second.
    pub(crate) range: Option<(i64, i64)>,
    pub(crate) aggregates: &'a [Agg],
    pub(crate) filter: Option<&'a str>,
    pub(crate) having: Option<&'a str>,
    pub(crate) naive: bool,
    /// Of records as they are: their fields, or none for all.
    pub(crate) fields: Option<&'a [String]>,
    pub(crate) carry: Carry,
}

/// What of each record is handed over as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carry {
    /// Nothing: records are aggregated.
    #[default]
    Nothing,
    /// Every field, in its type.
    Typed,
    /// Every field; those of text formats as text, as they stand in the input.
    Verbatim,
    /// NDJSON: the record itself, as it stands, in one column. Other formats: as [`Typed`](Carry::Typed).
    Records,
}

/// `Timestamp(µs, UTC)`, the type of the window columns.
pub(crate) fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

impl Plan {
    /// Makes blocks on their way out small against a limit on memory: several of them are held at a time.
    pub(crate) fn fit(&mut self, limit: usize) {
        let row = 8 * (self.schema.fields().len() + 1);
        self.block_rows = (limit / 64 / row).clamp(LEAST_BLOCK_ROWS, BLOCK_ROWS);
    }

    /// Binds `request` to `fields`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`]: unknown fields, types that do not fit, two outputs of one name.
    pub(crate) fn new(request: &Request<'_>, fields: &dyn Fields) -> Result<Plan> {
        let mut plan = Plan {
            window: request.window,
            session: request.session,
            range: request.range,
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
            scanned: Vec::new(),
            scan_time: None,
            late_time: None,
            block_rows: BLOCK_ROWS,
            folds_early: !request.naive,
            naive: request.naive,
            carry: request.carry,
        };
        let mut output = Vec::new();
        if plan.has_bounds() {
            output.push(Field::new("window_start", timestamp_type(), false));
            output.push(Field::new("window_end", timestamp_type(), false));
        }
        for name in request.keys {
            let data_type = fields.key(name).ok_or_else(|| unknown(name, fields))?;
            plan.word_key = request.keys.len() == 1 && !is_text(&data_type);
            let data_type = if is_text(&data_type) { DataType::Utf8 } else { data_type };
            let column = plan.want(name, true);
            plan.key_columns.push(column);
            if request.carry == Carry::Nothing {
                output.push(Field::new(name, data_type.clone(), true));
            }
            plan.keys.push(KeyField { data_type });
        }
        if let Some(wanted) = request.fields {
            let names = if wanted.is_empty() { fields.all() } else { wanted.to_vec() };
            for name in names {
                let (column, data_type) = plan.value(&name, fields)?;
                let is_time = request.fields.is_some() && fields.time().is_some_and(|time| time == name);
                let data_type = match data_type {
                    _ if is_time => timestamp_type(),
                    t if is_text(&t) => DataType::Utf8,
                    other => other,
                };
                plan.scanned.push(column);
                output.push(Field::new(name, data_type, true));
            }
            plan.scan_time = fields.time().map(|name| plan.want(&name, false));
        }
        if let Some(text) = request.filter {
            plan.filter = Some(plan.condition(text, fields)?);
        }
        if request.carry != Carry::Nothing {
            for carried in fields.carried(request.carry) {
                let column = plan.want(&carried.name, carried.as_key);
                plan.scanned.push(column);
                let name = if carried.name == WHOLE_RECORD { "record" } else { &carried.name };
                output.push(Field::new(name, carried.data_type, true));
            }
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
        self.has_bounds()
            || self.range.is_some() && self.scanned.is_empty()
            || self.primitives.iter().any(|(_, sources)| sources.contains(&Source::Time))
    }

    /// Whether rows begin with the bounds of a window or session.
    pub(crate) fn has_bounds(&self) -> bool {
        self.window.is_some() || self.session.is_some()
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
