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
    Distinct(String),
    ApproxDistinct(String),
    /// Of 0 to 1, and what it is called where that is not `quantile`.
    Quantile(String, f64, Option<String>),
    Var(String),
    Stddev(String),
    First(String),
    Last(String),
    Custom {
        name: String,
        inputs: Vec<String>,
        aggregate: Arc<dyn Erased>,
    },
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

/// `distinct(field)`: how many different values there are, exactly.
pub fn distinct(field: impl Into<String>) -> Agg {
    AggKind::Distinct(field.into()).into()
}

/// `approx_distinct(field)`: how many different values there are, with a standard error of 1.5 %.
pub fn approx_distinct(field: impl Into<String>) -> Agg {
    AggKind::ApproxDistinct(field.into()).into()
}

/// `quantile(field, q)`: of `n` values in ascending order the one of rank ⌊q(n − 1)⌋ from 0, at most 1 % off; null without
/// a value. `q` is 0 to 1; 0.5 is the median.
pub fn quantile(field: impl Into<String>, q: f64) -> Agg {
    AggKind::Quantile(field.into(), q, None).into()
}

/// `var(field)`: the variance of the sample (n − 1), null of fewer than two values.
pub fn var(field: impl Into<String>) -> Agg {
    AggKind::Var(field.into()).into()
}

/// `stddev(field)`: the standard deviation of the sample (n − 1), null of fewer than two values.
pub fn stddev(field: impl Into<String>) -> Agg {
    AggKind::Stddev(field.into()).into()
}

/// `first(field)`: the value with the least event time, of several the first in the order of the input.
pub fn first(field: impl Into<String>) -> Agg {
    AggKind::First(field.into()).into()
}

/// `last(field)`: the value with the greatest event time, of several the last in the order of the input.
pub fn last(field: impl Into<String>) -> Agg {
    AggKind::Last(field.into()).into()
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
            AggKind::Distinct(field) => format!("distinct_{field}"),
            AggKind::ApproxDistinct(field) => format!("approx_distinct_{field}"),
            AggKind::Quantile(field, _, Some(name)) => format!("{name}_{field}"),
            AggKind::Quantile(field, q, None) => format!("quantile_{field}_{q}"),
            AggKind::Var(field) => format!("var_{field}"),
            AggKind::Stddev(field) => format!("stddev_{field}"),
            AggKind::First(field) => format!("first_{field}"),
            AggKind::Last(field) => format!("last_{field}"),
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
            "distinct" => AggKind::Distinct(field()?),
            "approx_distinct" => AggKind::ApproxDistinct(field()?),
            "var" => AggKind::Var(field()?),
            "stddev" => AggKind::Stddev(field()?),
            "first" => AggKind::First(field()?),
            "last" => AggKind::Last(field()?),
            "quantile" => {
                let wrong = || {
                    let advice = "quantile needs a field and a number from 0 to 1, as in quantile(bytes, 0.75)";
                    Error::usage(format!("--agg {text:?}: {advice}"))
                };
                let (name, q) = argument.and_then(|a| a.rsplit_once(',')).ok_or_else(wrong)?;
                let (name, q) = (unquote(name.trim()), q.trim().parse().map_err(|_| wrong())?);
                if name.is_empty() || !(0.0..=1.0).contains(&q) {
                    return Err(wrong());
                }
                AggKind::Quantile(name, q, None)
            }
            name => match percentile(name) {
                Some(q) => AggKind::Quantile(field()?, q, Some(name.to_owned())),
                None => {
                    return Err(Error::usage(format!(
                        "--agg {text:?}: there is no aggregate {function:?}; known are count, count(x), \
                         count_if(condition), sum(x), avg(x), min(x), max(x), stddev(x), var(x), first(x), last(x), \
                         distinct(x), approx_distinct(x), p50(x), p90(x), p99(x) and quantile(x, 0.75)"
                    )));
                }
            },
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

/// The quantile that `p50`, `p99`, `p999` name.
fn percentile(name: &str) -> Option<f64> {
    let digits = name.strip_prefix('p').filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    match digits.len() {
        1 | 2 => digits.parse::<f64>().ok().map(|p| p / 100.0),
        // As is said of tails: p999 is 99.9 %.
        3..=6 if digits.starts_with("99") => format!("0.{digits}").parse().ok(),
        _ => None,
    }
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
        assert_eq!(
            names("p99(latency_ms), p5(x), p999(x), quantile(x, 0.75), quantile(\"a,b\", 1) as most, distinct(host)"),
            ["p99_latency_ms", "p5_x", "p999_x", "quantile_x_0.75", "most", "distinct_host"]
        );
        assert_eq!(percentile("p999"), Some(0.999));
    }

    #[test]
    fn what_does_not_parse_is_a_sentence() {
        for bad in [
            "",
            "count,",
            "sum",
            "sum()",
            "median(x)",
            "sum(x",
            "sum(x) total",
            "sum(x) as ",
            "count_if()",
            "as x",
            "quantile(x)",
            "quantile(x, 2)",
            "quantile(x, NaN)",
            "quantile(, 0.5)",
            "p(x)",
            "p100(x)",
            "p99",
            "px(x)",
        ] {
            let error = Agg::parse_list(bad).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Usage, "{bad:?}");
            assert!(error.to_string().starts_with("--agg "), "{error}");
        }
    }
}
