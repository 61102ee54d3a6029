//! Opening an input: which format it is, which fields it has, and the reader that yields the plan's columns.

use super::plan::{Fields, Plan, Request, similar, unknown};
use super::{Input, Options};
use crate::format::access::AccessDecoder;
use crate::format::json::{self, JsonDecoder};
use crate::format::{Decoder, Field, FieldType, TextBlock, TimeField, Wanted};
use crate::source::batches::{BatchReader, Columns, position};
use crate::source::parquet::{ParquetFile, ParquetReader, not_parquet};
use crate::source::text::{TextInput, TextReader};
use crate::source::{InputFile, Magic, Progress, ReadOptions, Reader, expand};
use crate::{Error, Result};
use arrow_array::Array;
use arrow_schema::{DataType, Schema, SchemaRef};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The format of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Found out from the file name and the first records.
    #[default]
    Auto,
    /// NCSA combined access logs, as Apache and nginx write them.
    Combined,
    /// NCSA common access logs.
    Common,
    /// One JSON object per line.
    Json,
    /// Apache Parquet.
    Parquet,
}

impl Format {
    /// The name as `--format` takes it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Auto => "auto",
            Format::Combined => "combined",
            Format::Common => "common",
            Format::Json => "json",
            Format::Parquet => "parquet",
        }
    }
}

/// Fields that are taken for the event time if none is named, in this order.
const TIME_FIELDS: [&str; 6] = ["ts", "time", "timestamp", "@timestamp", "eventTime", "date"];

/// Records from which the types of a text format's fields are decided.
const SAMPLE_RECORDS: usize = 1000;

/// A bound plan and the reader of its columns.
pub(crate) struct Opened {
    pub(crate) plan: Plan,
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) inputs: Vec<Option<PathBuf>>,
    pub(crate) notes: Vec<String>,
}

pub(crate) fn open(
    input: Input,
    request: &Request<'_>,
    options: &Options,
    keep_bad: bool,
    progress: &Arc<Progress>,
) -> Result<Opened> {
    let read = ReadOptions { max_record: options.max_record, keep_bad, progress: progress.clone() };
    match input {
        Input::Batches(schema, batches) => {
            let plan = Plan::new(request, &ArrowFields(&schema))?;
            let time = time_column(&plan, options, &schema)?;
            let columns = Columns {
                time: time
                    .map(|name| Ok::<_, Error>((position(&schema, &name)?, options.time_format.clone())))
                    .transpose()?,
                wanted: plan.columns.iter().map(|c| position(&schema, &c.name)).collect::<Result<_>>()?,
            };
            let reader = Box::new(BatchReader::new(batches, columns, read));
            Ok(Opened { plan, reader, inputs: vec![None], notes: Vec::new() })
        }
        Input::Files(patterns) => {
            let paths = expand(&patterns)?;
            let Some(first) = paths.first() else {
                return Err(Error::usage("no input is named"));
            };
            let total: u64 =
                paths.iter().filter_map(|p| p.metadata().ok()).filter(|m| m.is_file()).map(|m| m.len()).sum();
            progress.bytes_total.store(total, Ordering::Relaxed);
            let inputs = paths.iter().map(|p| (p != Path::new("-")).then(|| p.clone())).collect();
            let file = InputFile::open(first)?;
            let mut notes = Vec::new();
            let parquet =
                options.format == Format::Parquet || options.format == Format::Auto && file.magic == Magic::Parquet;
            if parquet {
                if file.magic != Magic::Parquet {
                    return Err(not_parquet(&file));
                }
                let file = ParquetFile::open(file)?;
                let schema = file.schema().clone();
                let plan = Plan::new(request, &ArrowFields(&schema))?;
                let time = time_column(&plan, options, &schema)?.map(|name| (name, options.time_format.clone()));
                let wanted = plan.columns.iter().map(|c| c.name.clone()).collect();
                let reader = Box::new(ParquetReader::new(paths, file, time, wanted, read));
                return Ok(Opened { plan, reader, inputs, notes });
            }
            let mut file = TextInput::new(file, &read)?;
            let block = file.sample(&read)?;
            if block.is_none() && options.format == Format::Auto && paths.len() > 1 {
                // An input without records says nothing of the format and adds nothing to the answer.
                return open(Input::Files(paths[1..].to_vec()), request, options, keep_bad, progress);
            }
            match detect(options.format, &file, block.as_ref(), &mut notes)? {
                Format::Json => {
                    let inferred = block.map(|b| json::infer(&b, SAMPLE_RECORDS)).unwrap_or_default();
                    let fields = JsonFields { fields: inferred.fields.into_iter().map(|f| (f.name, f.ty)).collect() };
                    let plan = Plan::new(request, &fields)?;
                    let time = match &options.time {
                        Some(name) => Some(name.clone()),
                        None => fields.default_time(),
                    };
                    let time = wanted_time(&plan, time, options, &fields)?;
                    let mut must = Vec::new();
                    for column in &plan.columns {
                        let sampled = fields.has(&column.name);
                        if !sampled && !fields.fields.is_empty() {
                            let close = similar(&column.name, &fields.names());
                            let hint = if close.is_empty() {
                                String::new()
                            } else {
                                format!("; similar: {}", close.join(", "))
                            };
                            notes.push(format!("none of the first records has a field {:?}{hint}", column.name));
                        }
                        must.push((!sampled).then(|| column.name.clone()));
                    }
                    let wanted =
                        wanted(&plan, time, &|name, key| if key { FieldType::Text } else { fields.field_type(name) });
                    let decoder: Arc<dyn Decoder> = Arc::new(JsonDecoder::new(&wanted)?);
                    let reader = Box::new(TextReader::new(paths, Some(file), decoder, must, read));
                    Ok(Opened { plan, reader, inputs, notes })
                }
                format => {
                    let plan = Plan::new(request, &AccessFields)?;
                    let time = wanted_time(
                        &plan,
                        Some(options.time.clone().unwrap_or_else(|| "time".into())),
                        options,
                        &AccessFields,
                    )?;
                    let wanted =
                        wanted(&plan, time, &|name, key| if key { FieldType::Text } else { access_type(name) });
                    let decoder: Arc<dyn Decoder> = Arc::new(AccessDecoder::new(&wanted, format == Format::Combined)?);
                    let reader = Box::new(TextReader::new(paths, Some(file), decoder, Vec::new(), read));
                    Ok(Opened { plan, reader, inputs, notes })
                }
            }
        }
    }
}

/// What the decoder of a text format is asked for.
fn wanted(plan: &Plan, time: Option<TimeField>, type_of: &dyn Fn(&str, bool) -> FieldType) -> Wanted {
    let fields = plan.columns.iter().map(|c| Field { name: c.name.clone(), ty: type_of(&c.name, c.as_key) }).collect();
    Wanted { time, fields }
}

/// The time field of a text format, if the plan needs one.
fn wanted_time(plan: &Plan, name: Option<String>, options: &Options, fields: &dyn Fields) -> Result<Option<TimeField>> {
    if !plan.uses_time() {
        return Ok(None);
    }
    let Some(name) = name else { return Err(no_time(&fields.names())) };
    Ok(Some(TimeField { name, format: options.time_format.clone() }))
}

fn no_time(names: &[String]) -> Error {
    let mut message = "none of the fields is known to hold the time; name the one that does with --time".to_owned();
    if !names.is_empty() {
        message += &format!(" (the input has {})", names.iter().take(20).cloned().collect::<Vec<_>>().join(", "));
    }
    Error::usage(message)
}

/// The time column of columnar input, if the plan needs one.
fn time_column(plan: &Plan, options: &Options, schema: &SchemaRef) -> Result<Option<String>> {
    if !plan.uses_time() {
        return Ok(None);
    }
    let names = ArrowFields(schema).names();
    match &options.time {
        Some(name) if names.contains(name) => Ok(Some(name.clone())),
        Some(name) => Err(unknown(name, &ArrowFields(schema))),
        None => {
            let known = TIME_FIELDS.iter().find(|f| names.iter().any(|n| n == *f));
            known.map(|f| Some((*f).to_owned())).ok_or_else(|| no_time(&names))
        }
    }
}

/// The format of a text input whose first block is `block`.
fn detect(format: Format, input: &TextInput, block: Option<&TextBlock>, notes: &mut Vec<String>) -> Result<Format> {
    if format != Format::Auto {
        return Ok(format);
    }
    let name = input.path().map_or(String::new(), |p| p.to_string_lossy().to_ascii_lowercase());
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let first = block.and_then(|b| b.bytes().iter().find(|b| !b.is_ascii_whitespace()));
    let chosen = if [".json", ".ndjson", ".jsonl"].iter().any(|e| name.ends_with(e)) || first == Some(&b'{') {
        Format::Json
    } else if let Some(block) = block {
        let wanted = Wanted { time: None, fields: vec![Field { name: "user_agent".into(), ty: FieldType::Text }] };
        let decoded = AccessDecoder::new(&wanted, true)?.decode(block)?;
        if decoded.rows == 0 && !decoded.bad.is_empty() {
            let message = "is of no format that is recognised; name it with --format (combined, common, json, parquet)";
            return Err(match input.path() {
                Some(path) => Error::input(message).in_file(path),
                None => Error::input(format!("standard input {message}")),
            });
        }
        let without_agent = decoded.columns.first().map_or(0, |c| c.null_count());
        if without_agent == decoded.rows && decoded.rows > 0 { Format::Common } else { Format::Combined }
    } else {
        // An empty input has no records in any format.
        Format::Combined
    };
    notes.push(format!("format: {}", chosen.name()));
    Ok(chosen)
}

/// Columns of Parquet and record batches.
struct ArrowFields<'a>(&'a Schema);

impl Fields for ArrowFields<'_> {
    fn key(&self, field: &str) -> Option<DataType> {
        self.value(field)
    }
    fn value(&self, field: &str) -> Option<DataType> {
        self.0.field_with_name(field).ok().map(|f| f.data_type().clone())
    }
    fn names(&self) -> Vec<String> {
        self.0.fields().iter().map(|f| f.name().clone()).collect()
    }
}

/// Fields of access logs.
struct AccessFields;

const ACCESS_FIELDS: [&str; 12] = [
    "host",
    "identity",
    "user",
    "time",
    "request",
    "method",
    "path",
    "protocol",
    "status",
    "bytes",
    "referer",
    "user_agent",
];

fn access_type(field: &str) -> FieldType {
    match field {
        "status" | "bytes" => FieldType::Int64,
        "time" => FieldType::Timestamp,
        _ => FieldType::Text,
    }
}

fn arrow_type(ty: FieldType) -> DataType {
    match ty {
        FieldType::Text => DataType::BinaryView,
        FieldType::Int64 => DataType::Int64,
        FieldType::Float64 => DataType::Float64,
        FieldType::Boolean => DataType::Boolean,
        FieldType::Timestamp => super::plan::timestamp_type(),
    }
}

impl Fields for AccessFields {
    fn key(&self, field: &str) -> Option<DataType> {
        self.value(field).map(|_| DataType::BinaryView)
    }
    fn value(&self, field: &str) -> Option<DataType> {
        ACCESS_FIELDS.contains(&field).then(|| arrow_type(access_type(field)))
    }
    fn names(&self) -> Vec<String> {
        ACCESS_FIELDS.iter().map(|f| (*f).to_owned()).collect()
    }
}

/// Fields of NDJSON as the first records show them. A field that none of them has may still come: it is a float, the
/// type that serves every aggregate.
struct JsonFields {
    fields: Vec<(String, FieldType)>,
}

impl JsonFields {
    fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, _)| n == name)
    }

    fn field_type(&self, name: &str) -> FieldType {
        self.fields.iter().find(|(n, _)| n == name).map_or(FieldType::Float64, |(_, t)| *t)
    }

    fn default_time(&self) -> Option<String> {
        TIME_FIELDS.iter().find(|f| self.has(f)).map(|f| (*f).to_owned())
    }
}

impl Fields for JsonFields {
    fn key(&self, _: &str) -> Option<DataType> {
        Some(DataType::BinaryView)
    }
    fn value(&self, field: &str) -> Option<DataType> {
        Some(arrow_type(self.field_type(field)))
    }
    fn names(&self) -> Vec<String> {
        self.fields.iter().map(|(n, _)| n.clone()).collect()
    }
    fn marked(&self) -> bool {
        true
    }
}
