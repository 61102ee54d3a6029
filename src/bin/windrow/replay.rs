//! `windrow replay`: from flags to a query, from its rows to a sink.

use crate::args::Replay;
use crate::common::{self, Output, input, keys, report_bad, until_signal};
use crate::lines::Lines;
use crate::progress::say;
use crate::survive::{RowsOut, checkpoint, stop_with_supervisor, supervise};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use windrow::query::{Agg, Query, Rows, Session, Window};
use windrow::sink::{OutputFormat, Roll};
use windrow::source::Live;
use windrow::time::{format_duration, parse_duration};
use windrow::{Error, Result};

/// Runs the command.
pub fn run(args: Replay) -> Result<()> {
    if let Some(restarts) = args.supervise {
        let inputs = &args.common.inputs;
        if inputs.iter().any(|path| path == Path::new("-")) || inputs.is_empty() && args.listen.is_none() {
            return Err(Error::usage(
                "--supervise runs the command in another process, which has no standard input of its own: name \
                                     files, or take connections with --listen",
            ));
        }
        return supervise(restarts);
    }
    let mut output = Output::new(&args.common, OutputFormat::Csv)?;
    let live = live(&args)?;
    if let Some(live) = &live {
        output = output.live(&live.stop_flag(), args.roll.unwrap_or_default());
        if let Some(address) = live.address() {
            output.say(&[format!("listening on {address}")]);
        }
    } else if args.roll.is_some() && args.checkpoint.is_none() || args.idle.is_some() {
        return Err(Error::usage("--roll and --idle are for live input: add --follow or --listen"));
    }
    if let (Some(roll), Some(_)) = (args.roll, &args.checkpoint)
        && (roll.bytes, roll.age) != (Roll::default().bytes, Roll::default().age)
    {
        return Err(Error::usage("with --checkpoint files are rolled by their rows alone: --roll 1000000rows"));
    }
    if args.late.is_some() && args.lateness.is_none() && live.is_none() {
        return Err(Error::usage("--late needs --lateness: without a bound no record is late"));
    }
    let open = if args.checkpoint.is_some() { Lines::open } else { Lines::create };
    let lines = |path: &Path| common::side(&args.common, path, open);
    let bad_lines = args.common.bad_lines.as_deref().map(lines).transpose()?;
    let late = args.late.as_deref().map(lines).transpose()?;
    let mut query = query(&args, bad_lines.as_ref(), late.as_ref())?;
    if let Some(live) = live {
        if args.supervised {
            // The first records are waited for.
            stop_with_supervisor(live.stop_flag());
        }
        query = query.live(live);
    } else {
        query = until_signal(&args.common, query);
    }
    let out = RowsOut::default();
    if let Some(dir) = &args.checkpoint {
        let sides = bad_lines.iter().chain(&late);
        query = query.checkpoint(checkpoint(&args, dir, sides)?.side(Arc::new(out.clone())));
    }
    let mut rows = query.run()?;
    output.say(rows.notes());
    if let (true, Some(dir)) = (rows.is_finished(), &args.checkpoint) {
        output.say(&[format!("the run was finished before; to run it again, remove {}", dir.display())]);
        return Ok(());
    }
    let (schema, progress) = (rows.schema(), rows.progress());
    if args.supervised && !output.is_live() {
        stop_with_supervisor(progress.stop.clone());
    }
    let summary = if args.checkpoint.is_some() {
        let _meter = output.meter(progress);
        out.write(&output, &args, &mut rows)?
    } else {
        output.write(&schema, progress, |take| rows.for_each_block(take))?
    };
    for lines in bad_lines.iter().chain(&late) {
        lines.finish()?;
    }
    if let (true, Some(dir)) = (rows.is_saved(), &args.checkpoint) {
        let dir = dir.display();
        output.say(&[format!("stopped: the state is saved in {dir}, and the same command goes on from there")]);
    } else if !summary.closed_pipe {
        rows.complete()?;
    }
    report_bad(&args.common, &rows.statistics(), rows.bad_records());
    report_late(&args, &rows);
    report_partial(&args, &rows);
    output.statistics(&rows.statistics(), summary.checksum, rows.threads())
}

/// How input is read that has no end, or is replayed at a pace; `None`: as fast as possible to its end.
fn live(args: &Replay) -> Result<Option<Live>> {
    if !args.follow && args.listen.is_none() && args.speed.0.is_none() {
        return Ok(None);
    }
    let mut live = Live::new().follow(args.follow);
    if let Some(address) = &args.listen {
        live = live.listen(address)?;
    }
    if let Some(speed) = args.speed.0 {
        live = live.speed(speed)?;
    }
    if let Some(idle) = &args.idle {
        live = live.idle(Duration::from_micros(distance("--idle", idle)?.unsigned_abs()));
    }
    Ok(Some(live))
}

fn query(args: &Replay, bad_lines: Option<&Lines>, late: Option<&Lines>) -> Result<Query> {
    let query = match args.listen {
        // Standard input is read beside a socket only if it is named.
        Some(_) => common::query(&args.common, args.common.inputs.clone(), bad_lines)?,
        None => input(&args.common, bad_lines)?,
    };
    let mut query = query.naive(args.naive).engine(args.engine.into());
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

/// Says on standard error how many windows were written before they had closed.
fn report_partial(args: &Replay, rows: &Rows) {
    let partial = rows.partial();
    if partial > 0 && !args.common.quiet {
        let (what, are) = match (&args.session, partial) {
            (None, 1) => ("window", "was"),
            (None, _) => ("windows", "were"),
            (Some(_), 1) => ("session", "was"),
            (Some(_), _) => ("sessions", "were"),
        };
        say(format_args!("windrow: stopped: the last {partial} {what} {are} still open and may be partial\n"));
    }
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
