//! `windrow replay`: from flags to a query, from its rows to a sink.

use crate::args::Replay;
use crate::common::{Lines, Output, input, keys, report_bad};
use crate::progress::say;
use windrow::query::{Agg, Query, Rows, Session, Window};
use windrow::sink::OutputFormat;
use windrow::time::{format_duration, parse_duration};
use windrow::{Error, Result};

/// Runs the command.
pub fn run(args: Replay) -> Result<()> {
    let output = Output::new(&args.common, OutputFormat::Csv)?;
    if args.late.is_some() && args.lateness.is_none() {
        return Err(Error::usage("--late needs --lateness: without a bound no record is late"));
    }
    let bad_lines = args.common.bad_lines.as_deref().map(Lines::create).transpose()?;
    let late = args.late.as_deref().map(Lines::create).transpose()?;
    let mut rows = query(&args, bad_lines.as_ref(), late.as_ref())?.run()?;
    output.say(rows.notes());
    let (schema, progress) = (rows.schema(), rows.progress());
    let summary = output.write(&schema, progress, |take| rows.for_each_block(take))?;
    for lines in bad_lines.iter().chain(&late) {
        lines.finish()?;
    }
    report_bad(&args.common, &rows.statistics(), rows.bad_records());
    report_late(&args, &rows);
    output.statistics(&rows.statistics(), summary.checksum, rows.threads())
}

fn query(args: &Replay, bad_lines: Option<&Lines>, late: Option<&Lines>) -> Result<Query> {
    let mut query = input(&args.common, bad_lines)?.naive(args.naive).engine(args.engine.into());
    for key in keys(&args.key)? {
        query = query.key(key);
    }
    if let Some(window) = &args.window {
        query = query.window(Window::parse(window, args.slide.as_deref(), args.offset.as_deref())?);
    }
    if let Some(gap) = &args.session {
        query = query.session(Session::parse(gap)?);
    }
    if let Some(bound) = &args.lateness {
        query = query.lateness(distance("--lateness", bound)?);
    }
    if let Some(most) = &args.max_ahead {
        query = query.max_ahead(distance("--max-ahead", most)?);
    }
    for list in &args.agg {
        for aggregate in Agg::parse_list(list)? {
            query = query.aggregate(aggregate);
        }
    }
    if let Some(having) = &args.having {
        query = query.having(having);
    }
    if let (Some(n), Some(by)) = (args.top, &args.by) {
        query = query.top(n, by);
    }
    if args.sort.is_some() {
        query = query.sort_by_key();
    }
    if let Some(late) = late {
        query = query.on_late(late.writer());
    }
    Ok(query)
}

/// A duration of a flag, microseconds.
fn distance(flag: &str, text: &str) -> Result<i64> {
    parse_duration(text).map_err(|e| Error::usage(format!("{flag}: {e}")))
}

/// Says on standard error how many records came too late or were too far ahead, and what would have kept them.
fn report_late(args: &Replay, rows: &Rows) {
    let statistics = rows.statistics();
    let ledger = &statistics.ledger;
    if args.common.quiet || ledger.late + ledger.ahead == 0 {
        return;
    }
    if ledger.late > 0 {
        let disorder = format_duration(statistics.max_disorder_us as i64);
        say(format_args!(
            "windrow: {} of {} records came after all their windows had closed and were dropped; the largest disorder is \
             {disorder}: --lateness {disorder} would have kept them all\n",
            ledger.late, ledger.read
        ));
    }
    if ledger.ahead > 0 {
        say(format_args!("windrow: {} of {} records were too far ahead and set aside\n", ledger.ahead, ledger.read));
    }
}
