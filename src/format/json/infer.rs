//! What the first records of an NDJSON input look like: its fields, their types, its time.
//!
//! Every member that a dotted name can reach is listed, in the order in which the records bring them up, with the
//! narrowest type that holds all its values. Only good records count. Reading a thousand records takes about a
//! millisecond; paths and nesting are limited, so that maps with data for names cost no more.

use super::scan::{Fault, Kind, Scan, Token, unescape};
use super::{BYTE_ORDER_MARK, number};
use crate::format::{FieldType, TextBlock};
use crate::time::TimeFormat;
use std::collections::HashMap;

/// The time field when none is named: the first of these that is present.
const TIME_FIELDS: [&str; 6] = ["ts", "time", "timestamp", "@timestamp", "eventTime", "date"];
/// Fields that are told apart; further ones are not listed.
const MAX_FIELDS: usize = 10_000;
/// Levels of objects whose members are listed.
const MAX_LEVELS: usize = 10;

/// What the sampled records look like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inferred {
    /// Every field, in first-seen order.
    pub fields: Vec<InferredField>,
    /// Good records that were looked at.
    pub records: usize,
    /// The time field when the query names none: the first of `ts`, `time`, `timestamp`, `@timestamp`,
    /// `eventTime` and `date` that a record has.
    pub time: Option<&'static str>,
}

impl Inferred {
    /// The field called `name`, if a sampled record has it.
    pub fn field(&self, name: &str) -> Option<&InferredField> {
        self.fields.iter().find(|f| f.name == name)
    }
}

/// One field of the sampled records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InferredField {
    /// Its name; members of objects are dotted.
    pub name: String,
    /// The narrowest type that holds every value. Arrays, objects and fields that are always null are text.
    pub ty: FieldType,
    /// How many values were not null.
    pub values: usize,
    /// How many of them were objects, whose members are fields of their own. If all are, the field is seldom what
    /// a reader wants to see.
    pub objects: usize,
}

/// Looks at the first `limit` good records of `block`.
pub fn infer(block: &TextBlock, limit: usize) -> Inferred {
    let mut sample = Sample { out: Inferred::default(), index: HashMap::new(), path: String::new() };
    let mut pos = block.start;
    if block.offset + pos as u64 == 0 && block.bytes().starts_with(BYTE_ORDER_MARK) {
        pos += BYTE_ORDER_MARK.len();
    }
    while pos < block.end && sample.out.records < limit {
        let end = memchr::memchr(b'\n', &block.data[pos..block.end]).map_or(block.end, |n| pos + n);
        let line = &block.data[pos..end];
        let mut scan = Scan { data: line, pos: 0 };
        // A bad record must leave no trace: it is scanned as a whole first.
        if line.len() <= block.max_record.min(i32::MAX as usize) && scan.space() == b'{' {
            let start = scan.pos;
            if scan.value().and_then(|_| scan.line_end()).is_ok() {
                scan.pos = start;
                sample.out.records += usize::from(sample.object(&mut scan, 1).is_ok());
            }
        }
        pos = end + 1;
    }
    sample.out.time = TIME_FIELDS.into_iter().find(|name| sample.out.field(name).is_some());
    sample.out
}

/// The fields seen so far.
struct Sample {
    out: Inferred,
    index: HashMap<String, usize>,
    /// The dotted name of the object that is being read.
    path: String,
}

impl Sample {
    fn object(&mut self, scan: &mut Scan, level: usize) -> Result<(), Fault> {
        let prefix = self.path.len();
        let mut first = true;
        while let Some(name) = scan.member(first)? {
            first = false;
            if prefix > 0 {
                self.path.push('.');
            }
            let mut bytes = Vec::new();
            unescape(name.of(scan.data), &mut bytes);
            self.path.push_str(&String::from_utf8_lossy(&bytes));
            let start = scan.pos;
            let token = scan.value()?;
            self.note(token, scan.data);
            if token.kind == Kind::Object && level < MAX_LEVELS {
                let after = scan.pos;
                scan.pos = start;
                self.object(scan, level + 1)?;
                scan.pos = after;
            }
            self.path.truncate(prefix);
        }
        Ok(())
    }

    /// Widens the type of the field at `path` so that it holds `token`.
    fn note(&mut self, token: Token, data: &[u8]) {
        let at = match self.index.get(&self.path) {
            Some(&at) => at,
            None if self.out.fields.len() == MAX_FIELDS => return,
            None => {
                let at = self.out.fields.len();
                self.index.insert(self.path.clone(), at);
                let name = self.path.clone();
                self.out.fields.push(InferredField { name, ty: FieldType::Text, values: 0, objects: 0 });
                at
            }
        };
        let field = &mut self.out.fields[at];
        let Some(ty) = narrowest(token, data) else { return };
        field.ty = match (field.values, field.ty, ty) {
            (0, _, ty) => ty,
            (_, FieldType::Int64, FieldType::Float64) | (_, FieldType::Float64, FieldType::Int64) => FieldType::Float64,
            (_, old, new) if old == new => old,
            _ => FieldType::Text,
        };
        field.values += 1;
        field.objects += usize::from(token.kind == Kind::Object);
    }
}

/// The narrowest type of one value; `None` for null.
fn narrowest(token: Token, data: &[u8]) -> Option<FieldType> {
    let (start, end) = (token.start as usize, token.end as usize);
    Some(match token.kind {
        Kind::Absent | Kind::Null => return None,
        Kind::True | Kind::False => FieldType::Boolean,
        Kind::Integer if number::integer(data, start, end).is_some() => FieldType::Int64,
        Kind::Integer | Kind::Float if number::float(data, start, end).is_some() => FieldType::Float64,
        Kind::Plain if is_time(token.of(data)) => FieldType::Timestamp,
        _ => FieldType::Text,
    })
}

/// Whether `text` is a time as RFC 3339 writes it: `TimeFormat::Auto` alone would also take numbers for times.
fn is_time(text: &[u8]) -> bool {
    let shape = b"0000-00-00T00:00";
    let fits = |(&b, &s): (&u8, &u8)| match s {
        b'0' => b.is_ascii_digit(),
        b'T' => matches!(b, b'T' | b't' | b' '),
        s => b == s,
    };
    text.len() > shape.len() && text.iter().zip(shape).all(fits) && TimeFormat::Auto.parse_bytes(text).is_some()
}
