//! Aggregates as a caller writes them: constructors, their default names, and the syntax of `--agg`.

use super::aggregates::{Aggregate, Custom, Erased};
use crate::{Error, Result};
use std::sync::Arc;

/// One output column of a query.
#[derive(Clone)]
pub struct Agg {
    pub(crate) kind: AggKind,
    pub(crate) alias: Option<String>,
}

#[derive(Clone)]
pub(crate) enum AggKind {
    Count,
    CountColumn(String),
    CountIf(String),
    Sum(String),
    Avg(String),
    Min(String),
    Max(String),
    Custom { name: String, inputs: Vec<String>, aggregate: Arc<dyn Erased> },
}

impl From<AggKind> for Agg {
    fn from(kind: AggKind) -> Self {
        Agg { kind, alias: None }
    }
}

/// `count`: records.
pub fn count() -> Agg {
    AggKind::Count.into()
}

/// `count(field)`: records in which `field` is not null.
pub fn count_of(field: impl Into<String>) -> Agg {
    AggKind::CountColumn(field.into()).into()
}

/// `count_if(condition)`: records for which the SQL condition is true.
pub fn count_if(condition: impl Into<String>) -> Agg {
    AggKind::CountIf(condition.into()).into()
}

/// `sum(field)`: null without a value; exact for integers.
pub fn sum(field: impl Into<String>) -> Agg {
    AggKind::Sum(field.into()).into()
}

/// `avg(field)`: the mean of the values, null without one.
pub fn avg(field: impl Into<String>) -> Agg {
    AggKind::Avg(field.into()).into()
}

/// `min(field)`: the least value, null without one.
pub fn min(field: impl Into<String>) -> Agg {
    AggKind::Min(field.into()).into()
}

/// `max(field)`: the greatest value, null without one.
pub fn max(field: impl Into<String>) -> Agg {
    AggKind::Max(field.into()).into()
}

/// An aggregate of the program's own over `inputs`, under `name`.
pub fn custom<A: Aggregate>(name: impl Into<String>, inputs: &[&str], aggregate: A) -> Agg {
    let inputs = inputs.iter().map(|i| (*i).to_owned()).collect();
    AggKind::Custom { name: name.into(), inputs, aggregate: Arc::new(Custom(Arc::new(aggregate))) }.into()
}

impl Agg {
    /// The same aggregate under another name.
    #[must_use]
    pub fn alias(mut self, name: impl Into<String>) -> Self {
        self.alias = Some(name.into());
        self
    }

    /// The name of the output column.
    pub fn name(&self) -> String {
        if let Some(alias) = &self.alias {
            return alias.clone();
        }
        match &self.kind {
            AggKind::Count => "count".into(),
            AggKind::CountIf(_) => "count_if".into(),
            AggKind::CountColumn(field) => format!("count_{field}"),
            AggKind::Sum(field) => format!("sum_{field}"),
            AggKind::Avg(field) => format!("avg_{field}"),
            AggKind::Min(field) => format!("min_{field}"),
            AggKind::Max(field) => format!("max_{field}"),
            AggKind::Custom { name, .. } => name.clone(),
        }
    }

    /// Reads one aggregate: `count`, `sum(bytes)`, `count_if(status >= 500) as errors`.
    ///
    /// # Errors
    /// A sentence that quotes the text and says which functions there are.
    pub fn parse(text: &str) -> Result<Agg> {
        let text = text.trim();
        let (call, alias) = split_alias(text)?;
        let (function, argument) = match call.find('(') {
            None => (call, None),
            Some(open) => {
                let inner = call[open + 1..].trim_end().strip_suffix(')');
                let inner =
                    inner.ok_or_else(|| Error::usage(format!("--agg {text:?}: the closing parenthesis is missing")))?;
                (call[..open].trim_end(), Some(inner.trim()))
            }
        };
        let field = || -> Result<String> {
            match argument.map(unquote) {
                Some(name) if !name.is_empty() => Ok(name),
                _ => Err(Error::usage(format!("--agg {text:?}: {function} needs a field, as in {function}(bytes)"))),
            }
        };
        let kind = match function.to_ascii_lowercase().as_str() {
            "count" if argument.is_none_or(|a| a.is_empty() || a == "*") => AggKind::Count,
            "count" => AggKind::CountColumn(field()?),
            "count_if" => match argument {
                Some(condition) if !condition.is_empty() => AggKind::CountIf(condition.to_owned()),
                _ => {
                    return Err(Error::usage(format!(
                        "--agg {text:?}: count_if needs a condition, as in count_if(status >= 500)"
                    )));
                }
            },
            "sum" => AggKind::Sum(field()?),
            "avg" => AggKind::Avg(field()?),
            "min" => AggKind::Min(field()?),
            "max" => AggKind::Max(field()?),
            _ => {
                return Err(Error::usage(format!(
                    "--agg {text:?}: there is no aggregate {function:?}; known are count, count(x), count_if(condition), \
                     sum(x), avg(x), min(x) and max(x)"
                )));
            }
        };
        Ok(Agg { kind, alias })
    }

    /// Reads a comma-separated list; commas inside parentheses and quotes do not separate.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_list(text: &str) -> Result<Vec<Agg>> {
        let (mut depth, mut quote, mut from, mut parts) = (0i32, None, 0, Vec::new());
        for (i, c) in text.char_indices() {
            match (quote, c) {
                (Some(q), c) if c == q => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '(') => depth += 1,
                (None, ')') => depth -= 1,
                (None, ',') if depth == 0 => {
                    parts.push(&text[from..i]);
                    from = i + 1;
                }
                _ => {}
            }
        }
        parts.push(&text[from..]);
        if parts.iter().any(|p| p.trim().is_empty()) {
            return Err(Error::usage(format!("--agg {text:?}: an aggregate is missing between the commas")));
        }
        parts.into_iter().map(Agg::parse).collect()
    }
}

/// Splits `CALL as NAME`; the ` as ` of an alias stands outside parentheses, behind the call.
fn split_alias(text: &str) -> Result<(&str, Option<String>)> {
    let after_call = text.rfind(')').map_or(0, |i| i + 1);
    let tail = &text[after_call..];
    let lower = tail.to_ascii_lowercase();
    let Some(at) = lower.rfind(" as ") else {
        if after_call > 0 && !tail.trim().is_empty() {
            return Err(Error::usage(format!("--agg {text:?}: {:?} after the call is not \"as NAME\"", tail.trim())));
        }
        return Ok((text, None));
    };
    let name = unquote(tail[at + 4..].trim());
    if name.is_empty() || !tail[..at].trim().is_empty() && after_call > 0 {
        return Err(Error::usage(format!("--agg {text:?}: write an alias as in sum(bytes) as total")));
    }
    Ok((text[..after_call + at].trim_end(), Some(name)))
}

/// A name without the double quotes it may stand in.
fn unquote(name: &str) -> String {
    match name.strip_prefix('"').and_then(|n| n.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\""),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str) -> Vec<String> {
        Agg::parse_list(list).unwrap().iter().map(Agg::name).collect()
    }

    #[test]
    fn names_follow_from_the_call_or_the_alias() {
        assert_eq!(
            names("count, sum(bytes), count(x),count(*), avg(a.b) as mean, count_if(a = 'x, (y' and b >= 5) as errors"),
            ["count", "sum_bytes", "count_x", "count", "mean", "errors"]
        );
        assert_eq!(names("max(\"id.resp_p\"), MIN( x )"), ["max_id.resp_p", "min_x"]);
    }

    #[test]
    fn what_does_not_parse_is_a_sentence() {
        for bad in
            ["", "count,", "sum", "sum()", "median(x)", "sum(x", "sum(x) total", "sum(x) as ", "count_if()", "as x"]
        {
            let error = Agg::parse_list(bad).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage, "{bad:?}");
            assert!(error.to_string().starts_with("--agg "), "{error}");
        }
    }
}
