//! The fields of an input as a plan is bound to them.

use crate::format::FieldType;
use crate::format::json::WHOLE_RECORD;
use crate::query::plan::{Carried, Carry, Fields, timestamp_type};
use crate::{Error, Result};
use arrow_schema::{DataType, Field, Schema};
use std::sync::Arc;

/// Columns of Parquet and record batches.
pub(super) struct ArrowFields<'a> {
    pub(super) schema: &'a Schema,
    /// The time of records that may lack it, if they are wanted as they are.
    pub(super) time: Option<String>,
}

impl<'a> ArrowFields<'a> {
    pub(super) fn of(schema: &'a Schema) -> Self {
        ArrowFields { schema, time: None }
    }
}

impl Fields for ArrowFields<'_> {
    fn time(&self) -> Option<String> {
        self.time.clone()
    }
    fn key(&self, field: &str) -> Option<DataType> {
        self.value(field)
    }
    fn value(&self, field: &str) -> Option<DataType> {
        self.schema.field_with_name(field).ok().map(|f| f.data_type().clone())
    }
    fn carried(&self, _carry: Carry) -> Vec<Carried> {
        let plain = |data_type: &DataType| match data_type {
            DataType::Dictionary(_, values) => values.as_ref().clone(),
            // How it is read, not what it is.
            DataType::Utf8View => DataType::Utf8,
            other => other.clone(),
        };
        let carried =
            |f: &Arc<Field>| Carried { name: f.name().clone(), data_type: plain(f.data_type()), as_key: false };
        self.schema.fields().iter().map(carried).collect()
    }
    fn names(&self) -> Vec<String> {
        self.schema.fields().iter().map(|f| f.name().clone()).collect()
    }
}

/// Fields of a text format.
#[derive(Debug, Default)]
pub(super) struct TextFields {
    pub(super) fields: Vec<(String, FieldType)>,
    /// Whether a field that is not listed may still come: then it is a float, the type that serves every aggregate.
    pub(super) open: bool,
    /// Whether text carries the marks of JSON.
    pub(super) marked: bool,
    /// The time of records that may lack it, if they are wanted as they are.
    pub(super) time: Option<String>,
    /// Fields that are parts of others, or that the format does not have: they are not among all.
    pub(super) derived: &'static [&'static str],
    /// Fields that are parts of others, and whose values are in those.
    pub(super) parts: Vec<String>,
}

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

impl TextFields {
    /// Those of access logs.
    pub(super) fn access() -> TextFields {
        let ty = |field: &str| match field {
            "status" | "bytes" => FieldType::Int64,
            "time" => FieldType::Timestamp,
            _ => FieldType::Text,
        };
        let fields = ACCESS_FIELDS.iter().map(|f| ((*f).to_owned(), ty(f))).collect();
        TextFields { fields, ..TextFields::default() }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(n, _)| n == name)
    }

    /// Takes `name` to be of this type.
    pub(super) fn set(&mut self, name: &str, ty: FieldType) {
        match self.fields.iter_mut().find(|(n, _)| n == name) {
            Some(field) => field.1 = ty,
            None => self.fields.push((name.to_owned(), ty)),
        }
    }

    pub(super) fn field_type(&self, name: &str) -> FieldType {
        self.fields.iter().find(|(n, _)| n == name).map_or(FieldType::Float64, |(_, t)| *t)
    }

    /// Types that were said, which win over those found out.
    ///
    /// # Errors
    /// A field that there is not.
    pub(super) fn override_types(&mut self, types: &[(String, FieldType)]) -> Result<()> {
        for (name, ty) in types {
            match self.fields.iter_mut().find(|(n, _)| n == name) {
                Some(field) => field.1 = *ty,
                None if self.open => self.fields.push((name.clone(), *ty)),
                None => {
                    let error = crate::query::plan::unknown(name, self);
                    return Err(Error::usage(format!("--type {name}: {error}")));
                }
            }
        }
        Ok(())
    }
}

fn arrow_type(ty: FieldType) -> DataType {
    match ty {
        FieldType::Text => DataType::BinaryView,
        FieldType::Int64 => DataType::Int64,
        FieldType::Float64 => DataType::Float64,
        FieldType::Boolean => DataType::Boolean,
        FieldType::Timestamp => timestamp_type(),
    }
}

impl Fields for TextFields {
    fn key(&self, field: &str) -> Option<DataType> {
        self.value(field).map(|_| DataType::BinaryView)
    }
    fn value(&self, field: &str) -> Option<DataType> {
        (self.open || self.has(field)).then(|| arrow_type(self.field_type(field)))
    }
    fn names(&self) -> Vec<String> {
        self.fields.iter().map(|(n, _)| n.clone()).collect()
    }
    fn all(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for (name, _) in &self.fields {
            // A header may name a field twice: the first is meant.
            if !all.contains(name) && !self.derived.contains(&name.as_str()) {
                all.push(name.clone());
            }
        }
        all
    }
    fn time(&self) -> Option<String> {
        self.time.clone()
    }
    fn carried(&self, carry: Carry) -> Vec<Carried> {
        let text = |name: &str| Carried { name: name.to_owned(), data_type: DataType::Utf8, as_key: true };
        if self.marked && carry == Carry::Records {
            return vec![text(WHOLE_RECORD)];
        }
        let whole = self.all().into_iter().filter(|name| !self.parts.contains(name));
        whole
            .map(|name| match self.field_type(&name) {
                FieldType::Text => text(&name),
                _ if carry == Carry::Verbatim => text(&name),
                ty => Carried { data_type: arrow_type(ty), as_key: false, name },
            })
            .collect()
    }
    fn marked(&self) -> bool {
        self.marked
    }
}
