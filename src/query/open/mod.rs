//! Opening an input: which format it is, which fields it has, and the reader that yields the plan's columns.

mod detect;
mod fields;
mod text;
mod unit;

use super::plan::{Fields, Plan, Request, unknown};
use super::text::is_text;
use super::{Input, Options};
use crate::format::csv::Dialect;
use crate::format::{FieldType, TextBlock};
use crate::source::batches::{BatchReader, Columns, position};
use crate::source::live::{Live, LiveReader, Sample};
use crate::source::parquet::{ParquetFile, ParquetReader, not_parquet};
use crate::source::text::{TextInput, TextReader};
use crate::source::{InputFile, Magic, Progress, ReadOptions, Reader, expand};
use crate::{Error, Result};
use arrow_schema::{DataType, SchemaRef};
use detect::detect;
use fields::ArrowFields;
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
    /// Comma-separated values with a header.
    Csv,
    /// The same, separated by tabs; also the logs that Zeek writes.
    Tsv,
    /// Lines by a regular expression: [`Query::pattern`](super::Query::pattern).
    Regex,
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
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Regex => "regex",
            Format::Parquet => "parquet",
        }
    }
}

/// Fields that are taken for the event time if none is named, in this order.
const TIME_FIELDS: [&str; 6] = ["ts", "time", "timestamp", "@timestamp", "eventTime", "date"];

/// How text is laid out, as far as options say so.
#[derive(Debug, Clone)]
pub(crate) struct Layouts {
    pub(crate) delimiter: Option<u8>,
    /// `Some(None)`: quotes mean nothing.
    pub(crate) quote: Option<Option<u8>>,
    pub(crate) header: bool,
    pub(crate) types: Vec<(String, FieldType)>,
    pub(crate) pattern: Option<String>,
}

impl Default for Layouts {
    fn default() -> Layouts {
        Layouts { delimiter: None, quote: None, header: true, types: Vec::new(), pattern: None }
    }
}

impl Layouts {
    /// The dialect of CSV or TSV.
    fn dialect(&self, format: Format) -> Dialect {
        let usual = if format == Format::Tsv { Dialect::TSV } else { Dialect::CSV };
        Dialect { delimiter: self.delimiter.unwrap_or(usual.delimiter), quote: self.quote.unwrap_or(usual.quote) }
    }
}

/// A bound plan and the reader of its columns.
pub(crate) struct Opened {
    pub(crate) plan: Plan,
    pub(crate) reader: Box<dyn Reader>,
    pub(crate) inputs: Vec<Option<PathBuf>>,
    /// What the fields of live input were found out from.
    pub(crate) sample: Option<Sample>,
    /// The run was stopped before there was anything that they can be found out from.
    pub(crate) is_void: bool,
    pub(crate) notes: Vec<String>,
}

pub(crate) fn open(
    input: Input,
    request: &Request<'_>,
    options: &Options,
    keep_bad: bool,
    progress: &Arc<Progress>,
) -> Result<Opened> {
    let (max_record, keep_late) = (options.max_record, options.keep_late);
    let (task_bytes, lengths) = (options.task_bytes(), options.lengths.clone());
    let read = ReadOptions { max_record, keep_bad, keep_late, task_bytes, progress: progress.clone(), lengths };
    match input {
        Input::Batches(schema, batches) => {
            let time = if request.fields.is_some() { scan_time(&schema, options)? } else { None };
            let mut plan = Plan::new(request, &ArrowFields { schema: &schema, time })?;
            let time = time_column(&plan, options, &schema)?;
            plan.late_time = time.clone().filter(|_| keep_late);
            let columns = Columns {
                time: time
                    .map(|name| Ok::<_, Error>((position(&schema, &name)?, options.time_format())))
                    .transpose()?,
                wanted: plan.columns.iter().map(|c| position(&schema, &c.name)).collect::<Result<_>>()?,
            };
            let reader = Box::new(BatchReader::new(batches, columns, read));
            Ok(Opened { plan, reader, inputs: vec![None], sample: None, is_void: false, notes: Vec::new() })
        }
        Input::Files(patterns) if options.live.as_ref().is_some_and(Live::is_endless) => {
            open_live(patterns, request, options, read)
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
                let time = if request.fields.is_some() { scan_time(&schema, options)? } else { None };
                let mut plan = Plan::new(request, &ArrowFields { schema: &schema, time })?;
                let time = time_column(&plan, options, &schema)?;
                plan.late_time = time.clone().filter(|_| keep_late);
                let time = time.map(|name| (name, options.time_format()));
                if let Some((name, format)) = &time
                    && format.is_auto()
                    && let Some(number) = file.first_integer(name)?
                {
                    notes.extend(unit::note(name, itoa::Buffer::new().format(number).as_bytes()));
                }
                let wanted = plan.columns.iter().map(|c| c.name.clone()).collect();
                let reader = Box::new(ParquetReader::new(paths, file, time, wanted, read));
                return Ok(Opened { plan, reader, inputs, sample: None, is_void: false, notes });
            }
            let mut file = TextInput::new(file, &read)?;
            let sample = file.sample(&read)?;
            if sample.is_none() && options.format != Format::Regex && paths.len() > 1 {
                // An input without records says nothing of the format and adds nothing to the answer.
                return open(Input::Files(paths[1..].to_vec()), request, options, keep_bad, progress);
            }
            let layouts = &options.layouts;
            let (format, dialect) = match options.format {
                Format::Auto => detect(file.path(), sample.as_ref(), layouts, &mut notes)?,
                format => (format, layouts.dialect(format)),
            };
            let text = text::Opened::new(format, dialect, sample.as_ref(), request, options, &mut notes)?;
            let reader = Box::new(TextReader::new(paths, Some(file), text.decoder, text.must, read));
            let mut plan = text.plan;
            // A text's records are written as they stand.
            plan.late_time = keep_late.then(String::new);
            Ok(Opened { plan, reader, inputs, sample: None, is_void: false, notes })
        }
    }
}

/// Inputs without an end: the first lines are waited for, and the fields are those that they show.
fn open_live(patterns: Vec<PathBuf>, request: &Request<'_>, options: &Options, read: ReadOptions) -> Result<Opened> {
    let Some(live) = options.live.clone() else { return Err(Error::usage("the input is not live")) };
    if request.window.is_none() && request.session.is_none() {
        return Err(Error::usage("only queries with windows or sessions take live input"));
    }
    if options.format == Format::Parquet {
        return Err(Error::usage("Parquet cannot be followed: a file is complete when its footer is"));
    }
    let mut reader = LiveReader::new(patterns, live.clone(), read)?;
    let known = matches!(options.format, Format::Common | Format::Combined);
    let sample = if known { None } else { reader.sample()? };
    let mut notes = Vec::new();
    let is_void = !known && sample.is_none() && live.is_stopped();
    if is_void {
        notes.push("stopped before the first record came".to_owned());
    }
    let (layouts, path) = (&options.layouts, sample.as_ref().and_then(|sample| sample.path.as_deref()).map(Path::new));
    let block = sample.as_ref().map(|sample| {
        let data = sample.lines.clone();
        TextBlock { start: 0, end: data.len(), data: data.into(), offset: 0, max_record: options.max_record }
    });
    let block = block.as_ref();
    let (format, dialect) = match options.format {
        // Without a header any field will do for what has no record.
        _ if is_void && layouts.pattern.is_none() => (Format::Csv, layouts.dialect(Format::Csv)),
        Format::Auto => detect(path, block, layouts, &mut notes)?,
        format => (format, layouts.dialect(format)),
    };
    let text = text::Opened::new(format, dialect, block, request, options, &mut notes)?;
    reader.decode(text.decoder, text.must);
    let mut plan = text.plan;
    plan.late_time = options.keep_late.then(String::new);
    let inputs = reader.names();
    Ok(Opened { plan, reader: Box::new(reader), inputs, sample, is_void, notes })
}

fn no_time(names: &[String]) -> Error {
    let mut message = "none of the fields is known to hold the time; name the one that does with --time".to_owned();
    if !names.is_empty() {
        message += &format!(" (the input has {})", names.iter().take(20).cloned().collect::<Vec<_>>().join(", "));
    }
    Error::usage(message)
}

/// The time column of records that need not have one: the one that is named, or a known one that can be a time.
fn scan_time(schema: &SchemaRef, options: &Options) -> Result<Option<String>> {
    if let Some(name) = &options.time {
        let known = schema.index_of(name).is_ok();
        return if known { Ok(Some(name.clone())) } else { Err(unknown(name, &ArrowFields::of(schema))) };
    }
    let can_be = |ty: &DataType| is_text(ty) || matches!(ty, DataType::Timestamp(..) | DataType::Int64);
    let known = TIME_FIELDS.iter().find(|name| schema.field_with_name(name).is_ok_and(|f| can_be(f.data_type())));
    match known {
        None if options.range.is_some() => Err(no_time(&ArrowFields::of(schema).names())),
        name => Ok(name.map(|name| (*name).to_owned())),
    }
}

/// The time column of columnar input, if the plan needs one.
fn time_column(plan: &Plan, options: &Options, schema: &SchemaRef) -> Result<Option<String>> {
    if !plan.uses_time() {
        return Ok(None);
    }
    let names = ArrowFields::of(schema).names();
    match &options.time {
        Some(name) if names.contains(name) => Ok(Some(name.clone())),
        Some(name) => Err(unknown(name, &ArrowFields::of(schema))),
        None => {
            let known = TIME_FIELDS.iter().find(|f| names.iter().any(|n| n == *f));
            known.map(|f| Some((*f).to_owned())).ok_or_else(|| no_time(&names))
        }
    }
}
