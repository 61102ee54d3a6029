//! A text input bound to a plan: its fields and their types from the first records, its time, its decoder.

use super::fields::TextFields;
use super::unit;
use super::{Format, TIME_FIELDS, no_time};
use crate::format::access::AccessDecoder;
use crate::format::csv::{CsvDecoder, Dialect, Layout};
use crate::format::infer::SAMPLE_RECORDS;
use crate::format::json::{self, InferredField, JsonDecoder};
use crate::format::pattern::{Pattern, PatternDecoder};
use crate::format::{Decoder, Field, FieldType, TextBlock, TimeField, Wanted};
use crate::query::Options;
use crate::query::plan::{Fields, Plan, Request, similar, unknown};
use crate::{Error, Result};
use arrow_array::cast::AsArray;
use std::collections::HashSet;
use std::sync::Arc;

/// What a text input came to.
pub(super) struct Opened {
    pub(super) plan: Plan,
    pub(super) decoder: Arc<dyn Decoder>,
    /// Columns that must have a value in some record, by their names.
    pub(super) must: Vec<Option<String>>,
}

/// What is known of a format's records before the query is.
enum Known {
    Access { combined: bool },
    Json,
    Csv(Layout),
    Regex(Pattern),
}

impl Known {
    fn decoder(&self, wanted: &Wanted) -> Result<Arc<dyn Decoder>> {
        Ok(match self {
            Known::Access { combined } => Arc::new(AccessDecoder::new(wanted, *combined)?),
            Known::Json => Arc::new(JsonDecoder::new(wanted)?),
            Known::Csv(layout) => Arc::new(CsvDecoder::new(wanted, layout)?),
            Known::Regex(pattern) => Arc::new(PatternDecoder::new(wanted, pattern)?),
        })
    }
}

impl Opened {
    /// An input of this format that begins with `sample`.
    pub(super) fn new(
        format: Format,
        dialect: Dialect,
        sample: Option<&TextBlock>,
        request: &Request<'_>,
        options: &Options,
        notes: &mut Vec<String>,
    ) -> Result<Opened> {
        let layouts = &options.layouts;
        let mut fields = TextFields::default();
        let known = match format {
            Format::Json => {
                let inferred = sample.map(|b| json::infer(b, SAMPLE_RECORDS)).unwrap_or_default();
                let parts = members(&inferred.fields);
                let named = inferred.fields.into_iter().map(|f| (f.name, f.ty)).collect();
                fields = TextFields { fields: named, open: true, marked: true, parts, ..TextFields::default() };
                Known::Json
            }
            Format::Csv | Format::Tsv => {
                let empty = TextBlock { data: Vec::<u8>::new().into(), start: 0, end: 0, offset: 0, max_record: 0 };
                let sample = sample.unwrap_or(&empty);
                let layout = Layout::read(dialect, layouts.header, sample);
                fields.fields = layout.names.iter().cloned().zip(layout.infer(sample)?).collect();
                // An input without a header has no records either: any field will do.
                fields.open = layout.names.is_empty();
                Known::Csv(layout)
            }
            Format::Regex => {
                let text = layouts.pattern.as_deref().ok_or_else(|| {
                    Error::usage("--format regex needs --pattern, an expression with named groups such as (?<ts>\\S+)")
                })?;
                let pattern = Pattern::parse(text)?;
                let types = sample.map_or(Ok(Vec::new()), |s| pattern.infer(s))?;
                let types = types.into_iter().chain(std::iter::repeat(FieldType::Text));
                fields.fields = pattern.names().iter().cloned().zip(types).collect();
                Known::Regex(pattern)
            }
            Format::Common | Format::Combined | Format::Auto | Format::Parquet => {
                fields = TextFields::access();
                Known::Access { combined: format != Format::Common }
            }
        };
        if format != Format::Regex && layouts.pattern.is_some() {
            return Err(Error::usage(format!("--pattern is for --format regex, and the format is {}", format.name())));
        }
        if request.fields.is_some() {
            fields.time = scan_time(&fields, options)?;
            if let Some(time) = fields.time.clone() {
                fields.set(&time, FieldType::Timestamp);
            }
            if matches!(known, Known::Access { .. }) {
                fields.derived =
                    if format == Format::Common { &["request", "referer", "user_agent"] } else { &["request"] };
            }
        }
        fields.override_types(&layouts.types)?;
        let plan = Plan::new(request, &fields)?;
        let time = time_field(&plan, &fields, options)?;
        if let (Some(time), Some(sample)) = (&time, sample)
            && time.format.is_auto()
        {
            notes.extend(unit_note(&known, time, sample)?);
        }
        let mut must = Vec::new();
        for column in &plan.columns {
            let listed = fields.has(&column.name) || column.name == json::WHOLE_RECORD;
            if !listed && !fields.fields.is_empty() {
                let close = similar(&column.name, &fields.names());
                let hint = if close.is_empty() { String::new() } else { format!("; similar: {}", close.join(", ")) };
                notes.push(format!("none of the first records has a field {:?}{hint}", column.name));
            }
            must.push((format == Format::Json && !listed).then(|| column.name.clone()));
        }
        let written = fields.time.clone().map(|name| TimeField { name, format: options.time_format() });
        let ty = |name: &str, key| if key { FieldType::Text } else { fields.field_type(name) };
        let wanted = plan.columns.iter().map(|c| Field { name: c.name.clone(), ty: ty(&c.name, c.as_key) }).collect();
        let decoder = known.decoder(&Wanted {
            time,
            fields: wanted,
            zone: options.zone.clone(),
            written,
            places: options.keep_late,
        })?;
        Ok(Opened { plan, decoder, must })
    }
}

/// The fields that are members of an object that is a field too.
fn members(fields: &[InferredField]) -> Vec<String> {
    let objects: HashSet<&str> = fields.iter().filter(|f| f.objects > 0).map(|f| f.name.as_str()).collect();
    let is_member = |name: &str| name.match_indices('.').any(|(dot, _)| objects.contains(&name[..dot]));
    fields.iter().filter(|f| is_member(&f.name)).map(|f| f.name.clone()).collect()
}

/// The time field, if the query needs one.
fn time_field(plan: &Plan, fields: &TextFields, options: &Options) -> Result<Option<TimeField>> {
    if !plan.uses_time() {
        return Ok(None);
    }
    let known = || TIME_FIELDS.iter().find(|f| fields.has(f)).map(|f| (*f).to_owned());
    let name = match &options.time {
        Some(name) if fields.open || fields.has(name) => name.clone(),
        Some(name) => return Err(unknown(name, fields)),
        None => match known() {
            Some(name) => name,
            // Nothing is known of an empty input, and nothing comes of it.
            None if fields.open && fields.fields.is_empty() && !fields.marked => "time".to_owned(),
            None => return Err(no_time(&fields.names())),
        },
    };
    Ok(Some(TimeField { name, format: options.time_format() }))
}

/// The field that holds the time of records, which need not have one.
fn scan_time(fields: &TextFields, options: &Options) -> Result<Option<String>> {
    match &options.time {
        Some(name) if fields.open || fields.has(name) => Ok(Some(name.clone())),
        Some(name) => Err(unknown(name, fields)),
        None => match TIME_FIELDS.iter().find(|f| fields.has(f)) {
            Some(name) => Ok(Some((*name).to_owned())),
            None if options.range.is_some() => Err(no_time(&fields.names())),
            None => Ok(None),
        },
    }
}

/// What to say of a time that is a number: the unit is a guess.
fn unit_note(known: &Known, time: &TimeField, sample: &TextBlock) -> Result<Option<String>> {
    let mut head = sample.clone();
    let lines = memchr::memchr_iter(b'\n', sample.bytes()).nth(SAMPLE_RECORDS);
    head.end = lines.map_or(sample.end, |n| sample.start + n + 1);
    let fields = vec![Field { name: time.name.clone(), ty: FieldType::Text }];
    let decoded = known.decoder(&Wanted { fields, ..Wanted::default() })?.decode(&head)?;
    let column = decoded.columns[0].as_binary_view();
    let mut values = column.iter().flatten().map(|v| json::display_token(v).trim_ascii());
    Ok(values.find_map(|v| unit::note(&time.name, v)))
}
