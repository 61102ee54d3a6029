//! What the commands share: the input by its flags, the output, and what is said at the end.

use crate::args::{Common, When};
use crate::lines::Lines;
use crate::progress::{Meter, printable, say};
use crate::stats;
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use windrow::memory::{default_limit, least_limit};
use windrow::metrics::Statistics;
use windrow::query::Query;
use windrow::sink::{OutputFormat, Roll, Sink, SinkSummary, Target};
use windrow::source::{BadPlace, Progress, expand};
use windrow::time::{TimeFormat, Timestamp};
use windrow::{Error, Result, sink};

/// Where the rows go, and what is said meanwhile.
pub struct Output<'a> {
    args: &'a Common,
    /// `None`: a folder, which is not written through [`Output::write`].
    target: Option<Target>,
    start: Instant,
    /// Rows come as long as the run lives; when to begin another file.
    live: Option<Roll>,
}

/// A receiver of batches that says whether it wants more.
pub type Take<'a> = &'a mut (dyn FnMut(Vec<RecordBatch>) -> Result<bool> + Send);

impl Output<'_> {
    /// By the flags; `piped` is the format of what goes into a pipe.
    pub fn new(args: &Common, piped: OutputFormat) -> Result<Output<'_>> {
        let target = target(args, piped)?;
        if let Some(path) = &target.path {
            refuse_input(args, path)?;
        }
        Ok(Output { args, target: Some(target), start: Instant::now(), live: None })
    }

    /// A folder.
    pub fn folder(args: &Common) -> Output<'_> {
        Output { args, target: None, start: Instant::now(), live: None }
    }

    /// Of a run that is ended by `stop`: a signal sets it, the second one ends the run at once.
    pub fn live(self, stop: &Arc<AtomicBool>, roll: Roll) -> Self {
        at_signals(stop);
        Output { live: Some(roll), ..self }
    }

    /// Shows how far the run is, if that is wanted, until it is dropped.
    pub fn meter(&self, progress: Arc<Progress>) -> Option<Meter> {
        if self.live.is_none() && waits(self.args) {
            at_signals(&progress.stop);
        }
        let show = match self.args.progress {
            When::Always => true,
            When::Never => false,
            When::Auto => !self.args.quiet && std::io::stderr().is_terminal(),
        };
        show.then(|| Meter::start(progress))
    }

    /// Says what was found out about the input.
    pub fn say(&self, notes: &[String]) {
        if !self.args.quiet {
            notes.iter().for_each(|note| say(format_args!("windrow: {}\n", printable(note))));
        }
    }

    /// Where the rows go.
    pub fn target(&self) -> Result<&Target> {
        self.target.as_ref().ok_or_else(|| Error::output("a folder takes no rows"))
    }

    /// Whether rows come as long as the run lives.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// The output of a run that is saved, beginning anew or where it stood `at` a checkpoint.
    pub fn open_at(&self, schema: &SchemaRef, roll: Option<Roll>, at: Option<&[u8]>) -> Result<Box<dyn Sink>> {
        let roll = roll.unwrap_or_default();
        let opened = match self.live {
            Some(_) => sink::open_live_at(self.target()?, schema, roll, at)?,
            None => sink::open_at(self.target()?, schema, roll, at)?,
        };
        self.refuse_live_input()?;
        Ok(opened)
    }

    /// A pattern may match the output now that it is there.
    fn refuse_live_input(&self) -> Result<()> {
        let path = self.target.as_ref().filter(|_| self.live.is_some()).and_then(|target| target.path.as_ref());
        path.map_or(Ok(()), |path| refuse_input(self.args, path))
    }

    /// Writes what `run` hands to its argument.
    pub fn write(
        &self,
        schema: &SchemaRef,
        progress: Arc<Progress>,
        run: impl FnOnce(Take<'_>) -> Result<()>,
    ) -> Result<SinkSummary> {
        let target = self.target()?;
        let mut sink = match self.live {
            Some(roll) => sink::open_live(target, schema, roll)?,
            None => sink::open(target, schema)?,
        };
        self.refuse_live_input()?;
        let meter = self.meter(progress);
        run(&mut |batches| {
            sink.write(batches)?;
            if self.live.is_some() {
                sink.flush()?;
            }
            Ok(!sink.closed())
        })?;
        let summary = sink.finish()?;
        drop(meter);
        Ok(summary)
    }

    /// Writes the statistics where `--stats` says.
    pub fn statistics(&self, statistics: &Statistics, checksum: Option<u64>, threads: usize) -> Result<()> {
        let Some(path) = &self.args.stats else { return Ok(()) };
        let json = stats::json(statistics, checksum, self.start.elapsed().as_secs_f64(), threads);
        if path == Path::new("-") {
            say(format_args!("{json}\n"));
            return Ok(());
        }
        std::fs::write(path, json + "\n").map_err(|e| Error::output("cannot be written").in_file(path).because(e))
    }
}

/// Sets `stop` at the first signal that asks for an end; the second one ends the process.
pub fn at_signals(stop: &Arc<AtomicBool>) {
    at_first_of(&[signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM], stop, || {});
}

/// The same for `signals`; `between` is done before each is taken care of in full.
fn at_first_of(signals: &[i32], stop: &Arc<AtomicBool>, between: impl Fn()) {
    let early = Arc::new(AtomicBool::new(false));
    for &signal in signals {
        // One that comes between the other two would be caught by the first, and not be told by the second.
        let _ = signal_hook::flag::register(signal, early.clone());
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone());
        between();
        let _ = signal_hook::flag::register(signal, stop.clone());
    }
    if early.load(Ordering::Relaxed) {
        stop.store(true, Ordering::Relaxed);
    }
}

/// An output that is one of the inputs would be read while it is written, and lost.
fn refuse_input(args: &Common, output: &Path) -> Result<()> {
    // Pipes are not looked at: that would open them.
    let is_file = |path: &Path| path.metadata().is_ok_and(|metadata| metadata.is_file());
    if !is_file(output) {
        return Ok(());
    }
    let Ok(output_file) = same_file::Handle::from_path(output) else { return Ok(()) };
    for input in expand(&args.inputs).unwrap_or_default().into_iter().filter(|input| is_file(input)) {
        if same_file::Handle::from_path(&input).is_ok_and(|input| input == output_file) {
            return Err(Error::usage(format!(
                "the output {} is also an input ({}); give it another name",
                output.display(),
                input.display()
            )));
        }
    }
    Ok(())
}

/// A file of records that are left out, opened by `open`: not one of the inputs, which it would be fed back into.
pub fn side(args: &Common, path: &Path, open: impl Fn(&Path) -> Result<Lines>) -> Result<Lines> {
    refuse_input(args, path)?;
    let lines = open(path)?;
    // A pattern may match it now that it is there.
    refuse_input(args, path).inspect_err(|_| drop(std::fs::remove_file(path)))?;
    Ok(lines)
}

/// The memory limit; one that nobody asked for is no reason to refuse anything.
pub fn memory(args: &Common) -> Option<usize> {
    args.memory.or_else(|| default_limit().map(|limit| limit.max(least_limit(args.threads))))
}

/// The input, as far as all commands read it.
pub fn input(args: &Common, bad_lines: Option<&Lines>) -> Result<Query> {
    let inputs = if args.inputs.is_empty() { vec![PathBuf::from("-")] } else { args.inputs.clone() };
    query(args, inputs, bad_lines)
}

/// Ends `query` at a signal, as an error does, so that nothing is left behind. An input that has to be waited for would not
/// notice while it is opened, when there is nothing yet that could be left: then signals are taken care of [later](Output::meter).
pub fn until_signal(args: &Common, query: Query) -> Query {
    if waits(args) {
        return query;
    }
    let stop = Arc::default();
    at_signals(&stop);
    query.stop_flag(stop)
}

/// Whether some input is no file, so that its first bytes have to be waited for.
fn waits(args: &Common) -> bool {
    let waits = |path: &PathBuf| path == Path::new("-") || path.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir());
    args.inputs.is_empty() || args.inputs.iter().any(waits)
}

/// The same of `inputs`.
pub fn query(args: &Common, inputs: Vec<PathBuf>, bad_lines: Option<&Lines>) -> Result<Query> {
    let mut query = Query::files(inputs)
        .format(args.format.into())
        .time(args.time.clone(), args.time_format.clone())
        .max_record(args.max_record)
        .threads(args.threads)
        .spill_dir(args.spill_dir.clone().unwrap_or_else(std::env::temp_dir))
        .header(!args.no_header);
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
    if let Some(limit) = args.memory {
        crate::allocator::give_back(limit);
    }
    if let Some(memory) = memory(args) {
        query = query.memory(memory);
    }
    if let Some(most) = args.max_bad {
        query = query.max_bad(most);
    }
    if let Some(bad_lines) = bad_lines {
        let write = bad_lines.writer();
        query = query.on_bad(move |_, bytes| write(bytes));
    }
    Ok(query)
}

/// A time of day on the clock of `--timezone`, or an instant.
fn instant(args: &Common, flag: &str, text: &Option<String>) -> Result<Option<Timestamp>> {
    let Some(text) = text else { return Ok(None) };
    let format = args.timezone.iter().fold(TimeFormat::Auto, |format, zone| format.in_zone(zone.clone()));
    match format.parse_bytes(text.as_bytes()).and_then(Timestamp::from_micros) {
        Some(time) => Ok(Some(time)),
        None => Err(Error::usage(format!(
            "{flag}: {text:?} is not a time; write it like 2024-01-31T12:00:00Z or as seconds since 1970"
        ))),
    }
}

fn target(args: &Common, piped: OutputFormat) -> Result<Target> {
    // `-o null` names a sink, not a file.
    let named = args.output.as_deref().filter(|p| *p != Path::new("null"));
    let format = match (&args.output_format, &args.output) {
        (Some(name), _) => name.parse()?,
        (None, Some(_)) if named.is_none() => OutputFormat::Null,
        (None, Some(path)) => OutputFormat::from_path(path)?,
        (None, None) if std::io::stdout().is_terminal() => OutputFormat::Table,
        (None, None) => piped,
    };
    Ok(Target { path: named.filter(|p| *p != Path::new("-")).map(Path::to_path_buf), format })
}

/// Says on standard error how many records were bad, and where the first ones stand.
pub fn report_bad(args: &Common, statistics: &Statistics, places: &[BadPlace]) {
    let bad = statistics.ledger.bad;
    if bad == 0 || args.quiet {
        return;
    }
    let read = statistics.ledger.read;
    say(format_args!("windrow: {bad} of {read} records are bad and were left out; the first:\n"));
    let shown = if args.verbose > 0 { usize::MAX } else { 3 };
    for place in places.iter().take(shown) {
        let file = place.file.as_ref().map_or("standard input".into(), |f| f.display().to_string());
        say(format_args!("  {file}, line {} (byte {}): {}\n", place.line, place.offset, place.reason));
    }
}

/// The fields of `--key`.
pub fn keys(lists: &[String]) -> Result<Vec<String>> {
    let keys: Vec<String> = lists.iter().flat_map(|list| list.split(',')).map(|k| k.trim().to_owned()).collect();
    if keys.iter().any(String::is_empty) {
        return Err(Error::usage("--key: a field name is missing between the commas"));
    }
    Ok(keys)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use signal_hook::consts::{SIGUSR1, SIGUSR2};
    use signal_hook::low_level::raise;

    /// Whether it comes while the handlers are being installed, or later.
    #[test]
    fn no_signal_is_lost() {
        let (early, late) = (Arc::default(), Arc::default());
        at_first_of(&[SIGUSR1], &early, || raise(SIGUSR1).unwrap());
        assert!(early.load(Ordering::Relaxed));
        at_first_of(&[SIGUSR2], &late, || {});
        assert!(!late.load(Ordering::Relaxed));
        raise(SIGUSR2).unwrap();
        assert!(late.load(Ordering::Relaxed));
    }
}
