//! What a run must have in common with the one that left a checkpoint, and the sentence that says what differs.
//!
//! The query is a list of names and texts, compared one by one. What changes no byte of the output (threads, memory, where to
//! spill) is not in it. Inputs are named by path; each must still begin with the bytes that were there and be no shorter.
//! One that has grown is read as far as it went when the run began, so that the output is that of a run that was never
//! interrupted.

use crate::query::agg::{Agg, AggKind};
use crate::query::{Input, Query};
use crate::source::{Live, Magic, expand};
use crate::time::format_duration;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;
use xxhash_rust::xxh3::xxh3_64;

/// Names, and what stands behind them.
type Facts<'a> = &'a [(String, String)];

/// First bytes of an input that are remembered, as a checksum.
const HEAD: u64 = 64 << 10;

/// An input as it was when the run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::query) struct InputMark {
    pub(super) path: PathBuf,
    pub(super) len: u64,
    /// Nanoseconds since 1970.
    changed: Option<u64>,
    /// The checksum of its first bytes, and how many those are.
    head: (u64, u64),
}

/// The checksum of the first `len` bytes at most.
fn head(path: &Path, len: u64) -> Result<(u64, u64)> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).and_then(|file| file.take(HEAD.min(len)).read_to_end(&mut bytes));
    file.map_err(|e| Error::input("cannot be read").in_file(path).because(e))?;
    Ok((xxh3_64(&bytes), bytes.len() as u64))
}

/// The inputs as they are now; none for record batches from memory.
///
/// # Errors
/// Inputs that cannot be read again.
pub(super) fn inputs(input: &Input) -> Result<Vec<InputMark>> {
    let Input::Files(patterns) = input else { return Ok(Vec::new()) };
    let mark = |path: PathBuf| {
        let metadata = path.metadata().ok().filter(|m| path != Path::new("-") && m.is_file());
        let Some(metadata) = metadata else {
            let what = "an input of a run with --checkpoint must be a file, which can be read again, and this is none; --follow \
                        takes standard input as it comes and keeps a log of it";
            return Err(Error::usage(what).in_file(path));
        };
        let changed = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let changed = changed.map(|since| since.as_nanos() as u64);
        Ok(InputMark { len: metadata.len(), changed, head: head(&path, metadata.len())?, path })
    };
    expand(patterns)?.into_iter().map(mark).collect()
}

/// Whether live input comes by standard input or connections, which cannot be read again: a log of it is kept. Files that
/// are followed are read behind their positions.
///
/// # Errors
/// Both in one run, whose order could not be had again; a pace.
pub(super) fn is_received(live: &Live, input: &Input) -> Result<bool> {
    if live.speed.is_some() {
        return Err(Error::usage("a replay at a pace is not saved: leave out --speed or --checkpoint"));
    }
    let Input::Files(patterns) = input else {
        return Err(Error::usage(
            "live input is saved with a checkpoint if it is files, standard input or connections",
        ));
    };
    let stdin = patterns.iter().filter(|path| *path == Path::new("-")).count();
    let received = live.listen.is_some() || stdin > 0;
    #[cfg(test)]
    let received = received || live.script.connects();
    if received && stdin < patterns.len() {
        let what = "with --checkpoint a run follows files, or it takes standard input and connections: not both; leave one of \
                    them to another run";
        return Err(Error::usage(what));
    }
    Ok(received)
}

impl InputMark {
    /// Whether this input, as it is now, goes on as `before` was.
    fn follows(&self, before: &InputMark) -> Result<()> {
        let differs = |what: String| Err(refusal(&format!("{}: {what}", self.path.display())));
        if self.len < before.len {
            return differs(format!("it had {} bytes and has {}", before.len, self.len));
        }
        if head(&self.path, before.head.1)? != before.head {
            return differs("it begins with other bytes than it did".into());
        }
        let mut first = Vec::new();
        let _ = std::fs::File::open(&self.path).and_then(|file| file.take(4).read_to_end(&mut first));
        if self.len > before.len && Magic::of(&first) != Magic::Plain {
            return differs(format!("it had {} bytes and has {}, and only plain text may grow", before.len, self.len));
        }
        if self.len == before.len && self.changed != before.changed {
            return differs("it was written to, and is as long as it was".into());
        }
        Ok(())
    }
}

fn refusal(what: &str) -> Error {
    Error::usage(format!(
        "the checkpoint is of another run: {what}; give the same command, or another folder to --checkpoint"
    ))
}

/// Compares what is with what was, and returns how far each input is read.
///
/// # Errors
/// What differs.
pub(super) fn compare((now, before): (Facts<'_>, Facts<'_>), inputs: (&[InputMark], &[InputMark])) -> Result<()> {
    let value = |of: Facts<'_>, name: &str| of.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let names = now.iter().chain(before).map(|(name, _)| name);
    for name in names {
        let (is, was) = (value(now, name), value(before, name));
        if is != was {
            let text = |v: Option<String>| v.filter(|v| !v.is_empty()).unwrap_or_else(|| "not given".into());
            return Err(refusal(&format!("{name} was {} and is {}", text(was), text(is))));
        }
    }
    let paths = |of: &[InputMark]| of.iter().map(|mark| mark.path.display().to_string()).collect::<Vec<_>>().join(", ");
    if paths(inputs.0) != paths(inputs.1) {
        return Err(refusal(&format!("its inputs were {} and are {}", paths(inputs.1), paths(inputs.0))));
    }
    inputs.0.iter().zip(inputs.1).try_for_each(|(now, before)| now.follows(before))
}

fn aggregate(agg: &Agg) -> String {
    let call = |name: &str, of: &str| format!("{name}({of})");
    let text = match &agg.kind {
        AggKind::Count => "count".into(),
        AggKind::CountColumn(x) => call("count", x),
        AggKind::CountIf(x) => call("count_if", x),
        AggKind::Sum(x) => call("sum", x),
        AggKind::Avg(x) => call("avg", x),
        AggKind::Min(x) => call("min", x),
        AggKind::Max(x) => call("max", x),
        AggKind::Distinct(x) => call("distinct", x),
        AggKind::ApproxDistinct(x) => call("approx_distinct", x),
        AggKind::Quantile(x, q, name) => format!("{}({x}, {q})", name.as_deref().unwrap_or("quantile")),
        AggKind::Var(x) => call("var", x),
        AggKind::Stddev(x) => call("stddev", x),
        AggKind::First(x) => call("first", x),
        AggKind::Last(x) => call("last", x),
        AggKind::Custom { name, inputs, .. } => call(name, &inputs.join(", ")),
    };
    agg.alias.iter().fold(text, |text, alias| format!("{text} as {alias}"))
}

/// The query in names and texts.
pub(super) fn query(query: &Query) -> Vec<(String, String)> {
    let options = &query.options;
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let micros = |n: Option<i64>| n.map(format_duration).unwrap_or_default();
    let spec = query.window.map(|window| window.0);
    let live = options.live.is_some();
    let listens = options.live.as_ref().is_some_and(|live| live.listen.is_some());
    let input = match &query.input {
        // Which files there are changes while they are followed.
        Input::Files(patterns) if live => {
            patterns.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
        }
        Input::Files(_) => String::new(),
        Input::Batches(schema, _) => {
            schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect::<Vec<_>>().join(", ")
        }
    };
    let layouts = &options.layouts;
    let pairs = [
        ("--follow", if live { "given".into() } else { String::new() }),
        ("--listen", if listens { "given".into() } else { String::new() }),
        (if live { "the input" } else { "the schema" }, input),
        ("--key", query.keys.join(", ")),
        ("--window", micros(spec.map(|spec| spec.length()))),
        ("--slide", micros(spec.map(|spec| spec.slide()))),
        ("--offset", spec.map(|spec| spec.bounds(0).0.to_string()).unwrap_or_default()),
        ("--session", query.session.map(|session| format!("{session:?}")).unwrap_or_default()),
        ("--agg", query.aggregates.iter().map(aggregate).collect::<Vec<_>>().join(", ")),
        ("--where", optional(&query.filter)),
        ("--having", optional(&query.having)),
        ("--top", query.top.as_ref().map(|(n, by)| format!("{n} by {by}")).unwrap_or_default()),
        ("--sort", if query.sort { "key".into() } else { String::new() }),
        ("--format", options.format.name().to_owned()),
        ("--time", optional(&options.time)),
        ("--time-format", format!("{:?}", options.time_format)),
        ("--timezone", options.zone.as_ref().map(|zone| format!("{zone:?}")).unwrap_or_default()),
        ("--from and --to", options.range.map(|range| format!("{range:?}")).unwrap_or_default()),
        ("--type", layouts.types.iter().map(|(field, ty)| format!("{field}:{ty:?}")).collect::<Vec<_>>().join(", ")),
        ("--delimiter", layouts.delimiter.map(|b| (b as char).to_string()).unwrap_or_default()),
        ("--quote", layouts.quote.map(|quote| format!("{quote:?}")).unwrap_or_default()),
        ("--no-header", (!layouts.header).to_string()),
        ("--pattern", optional(&layouts.pattern)),
        ("--max-record", options.max_record.to_string()),
        ("--engine", format!("{:?}", options.engine).to_lowercase()),
        ("--lateness", micros(options.lateness)),
        ("--max-ahead", micros(options.max_ahead)),
    ];
    pairs.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}
