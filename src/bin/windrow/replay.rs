//! `windrow replay`: from flags to a query, from its rows to a sink.

use crate::args::{Replay, When};
use crate::progress::{Meter, say};
use crate::stats;
use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use windrow::query::{Agg, Query, Rows, Session, Window};
use windrow::sink::{OutputFormat, Target};
use windrow::time::{TimeFormat, Timestamp, format_duration, parse_duration};
use windrow::{Error, Result, sink};

/// Runs the command.
pub fn run(args: Replay) -> Result<()> {
    let start = Instant::now();
    let target = target(&args)?;
    if args.late.is_some() && args.lateness.is_none() {
        return Err(Error::usage("--late needs --lateness: without a bound no record is late"));
    }
    let bad_lines = args.bad_lines.as_deref().map(Lines::create).transpose()?;
    let late = args.late.as_deref().map(Lines::create).transpose()?;
    let mut rows = query(&args, bad_lines.as_ref(), late.as_ref())?.run()?;
    if !args.quiet {
        rows.notes().iter().for_each(|note| say(format_args!("windrow: {note}\n")));
    }
    let mut sink = sink::open(&target, &rows.schema())?;
    let show = match args.progress {
        When::Always => true,
        When::Never => false,
        When::Auto => !args.quiet && std::io::stderr().is_terminal(),
    };
    let meter = show.then(|| Meter::start(rows.progress()));
    rows.for_each_block(|batches| {
        sink.write(batches)?;
        Ok(!sink.closed())
    })?;
    let summary = sink.finish()?;
    drop(meter);
    for lines in bad_lines.iter().chain(&late) {
        lines.finish()?;
    }
    report_bad(&args, &rows);
    report_late(&args, &rows);
    if let Some(path) = &args.stats {
        let json = stats::json(&rows.statistics(), summary.checksum, start.elapsed().as_secs_f64(), rows.threads());
        if path == Path::new("-") {
            say(format_args!("{json}\n"));
        } else {
            std::fs::write(path, json + "\n")
                .map_err(|e| Error::output("cannot be written").in_file(path).because(e))?;
        }
    }
    Ok(())
}

fn query(args: &Replay, bad_lines: Option<&Lines>, late: Option<&Lines>) -> Result<Query> {
    let inputs = if args.inputs.is_empty() { vec![PathBuf::from("-")] } else { args.inputs.clone() };
    let mut query = Query::files(inputs)
        .format(args.format.into())
        .time(args.time.clone(), args.time_format.clone())
        .max_record(args.max_record)
        .threads(args.threads)
        .naive(args.naive)
        .header(!args.no_header)
        .engine(args.engine.into());
    for key in args.key.iter().flat_map(|list| list.split(',')) {
        let key = key.trim();
        if key.is_empty() {
            return Err(Error::usage("--key: a field name is missing between the commas"));
        }
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
    if let Some(zone) = &args.timezone {
        query = query.timezone(zone.clone());
    }
    query = query.between(instant(args, "--from", &args.from)?, instant(args, "--to", &args.to)?);
    for (field, ty) in &args.types {
        query = query.field_type(field, *ty);
    }
    if let Some(delimiter) = args.delimiter {
        query = query.delimiter(delimiter);
    }
    if let Some(quote) = args.quote {
        query = query.quote(quote.0);
    }
    if let Some(pattern) = &args.pattern {
        query = query.pattern(pattern);
    }
    if let Some(filter) = &args.filter {
        query = query.filter(filter);
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
    if let Some(memory) = args.memory {
        query = query.memory(memory);
    }
    if let Some(most) = args.max_bad {
        query = query.max_bad(most);
    }
    if let Some(bad_lines) = bad_lines {
        let write = bad_lines.writer();
        query = query.on_bad(move |_, bytes| write(bytes));
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

/// A time of day on the clock of `--timezone`, or an instant.
fn instant(args: &Replay, flag: &str, text: &Option<String>) -> Result<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let format = args.timezone.iter().fold(TimeFormat::Auto, |format, zone| format.in_zone(zone.clone()));
    match format.parse_bytes(text.as_bytes()).and_then(Timestamp::from_micros) {
        Some(time) => Ok(Some(time)),
        None => Err(Error::usage(format!(
            "{flag}: {text:?} is not a time; write it like 2024-01-31T12:00:00Z or as seconds since 1970"
        ))),
    }
}

fn target(args: &Replay) -> Result<Target> {
    // `-o null` names a sink, not a file.
    let named = args.output.as_deref().filter(|p| *p != Path::new("null"));
    let format = match (&args.output_format, &args.output) {
        (Some(name), _) => name.parse()?,
        (None, Some(_)) if named.is_none() => OutputFormat::Null,
        (None, Some(path)) => OutputFormat::from_path(path)?,
        (None, None) if std::io::stdout().is_terminal() => OutputFormat::Table,
        (None, None) => OutputFormat::Csv,
    };
    Ok(Target { path: named.filter(|p| *p != Path::new("-")).map(Path::to_path_buf), format })
}

/// A file of records that were left out.
struct Lines {
    path: PathBuf,
    writer: Arc<Mutex<BufWriter<File>>>,
}

impl Lines {
    fn create(path: &Path) -> Result<Lines> {
        let file = File::create(path).map_err(|e| Error::output("cannot be written").in_file(path).because(e))?;
        Ok(Lines { path: path.to_path_buf(), writer: Arc::new(Mutex::new(BufWriter::new(file))) })
    }

    /// Appends a line.
    fn writer(&self) -> impl Fn(&[u8]) -> Result<()> + Send + use<> {
        let (path, writer) = (self.path.clone(), self.writer.clone());
        move |bytes| {
            let mut writer = writer.lock().map_err(|_| Error::output("was abandoned").in_file(&path))?;
            let written = writer.write_all(bytes).and_then(|()| writer.write_all(b"\n"));
            written.map_err(|e| Error::output("cannot be written").in_file(&path).because(e))
        }
    }

    fn finish(&self) -> Result<()> {
        let mut writer = self.writer.lock().map_err(|_| Error::output("was abandoned").in_file(&self.path))?;
        writer.flush().map_err(|e| Error::output("cannot be written").in_file(&self.path).because(e))
    }
}

/// Says on standard error how many records came too late or were too far ahead, and what would have kept them.
fn report_late(args: &Replay, rows: &Rows) {
    let statistics = rows.statistics();
    let ledger = &statistics.ledger;
    if args.quiet || ledger.late + ledger.ahead == 0 {
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

/// Says on standard error how many records were bad, and where the first ones stand.
fn report_bad(args: &Replay, rows: &Rows) {
    let bad = rows.statistics().ledger.bad;
    if bad == 0 || args.quiet {
        return;
    }
    let read = rows.statistics().ledger.read;
    say(format_args!("windrow: {bad} of {read} records are bad and were left out; the first:\n"));
    let shown = if args.verbose > 0 { usize::MAX } else { 3 };
    for place in rows.bad_records().iter().take(shown) {
        let file = place.file.as_ref().map_or("standard input".into(), |f| f.display().to_string());
        say(format_args!("  {file}, line {} (byte {}): {}\n", place.line, place.offset, place.reason));
    }
}
