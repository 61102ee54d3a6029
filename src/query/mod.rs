//! The declared face: a query over fields known at run time, Arrow record batches in and out.
//!
//! ```no_run
//! use windrow::query::{Query, Window, count, count_if, sum};
//! # fn main() -> windrow::Result<()> {
//! let rows = Query::files(["access.log"])
//!     .key("path")
//!     .window(Window::parse("5m", Some("30s"), None)?)
//!     .aggregate(count())
//!     .aggregate(sum("bytes"))
//!     .aggregate(count_if("status >= 500").alias("errors"))
//!     .run()?;
//! println!("{:?}", rows.schema());
//! for batch in rows {
//!     println!("{} rows", batch?.num_rows());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The path of a record: [`crate::source`] cuts the input into blocks and decodes the wanted columns; `map` folds or
//! partitions a block; `reduce` gathers each partition's cells; `emit` slides the windows and hands out rows.
//!
#![doc = include_str!("guide.md")]

mod agg;
mod aggregates;
mod checkpoint;
mod emit;
mod exec;
pub mod expr;
mod finish;
mod flow;
mod having;
mod held;
mod judge;
mod key_words;
mod keys;
pub(crate) mod map;
mod marked;
mod names;
mod open;
mod order;
mod pane_column;
mod partitioning;
mod plan;
mod records;
mod reduce;
mod repartition;
mod rounds;
mod rows;
mod session;
mod sorted;
mod spill;
mod tally;
pub(crate) mod text;
#[cfg(test)]
mod twin;

pub use agg::{
    Agg, approx_distinct, avg, count, count_if, count_of, custom, distinct, first, last, max, min, quantile, stddev,
    sum, var,
};
pub use aggregates::{Aggregate, Value};
pub use checkpoint::{Checkpoint, Side};
pub use exec::MaxBad;
pub use open::Format;
use open::Layouts;
pub use plan::Carry;
pub use records::Records;
pub use repartition::{Parts, Repartition};
pub use rows::Rows;
pub use session::Session;

pub use crate::core::slide::Engine;
use crate::core::window::WindowSpec;
use crate::format::FieldType;
use crate::memory::threads_within;
use crate::source::{BadPlace, Live, Progress};
use crate::time::{TimeFormat, Timestamp, Zone, parse_duration, parse_signed_duration};
use crate::{Error, Result};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::available_parallelism;

/// No window or slide is longer, so that no arithmetic on windows leaves 64 bits. The years 1 to 9999 are shorter.
const LONGEST: i64 = 4_000_000 * 86_400_000_000;

/// The windows of a query: half-open, starting at `offset + n × slide`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(pub(crate) WindowSpec);

impl Window {
    /// Windows of `length` every `slide` from `offset`, all in microseconds.
    ///
    /// # Errors
    /// If `length` or `slide` is not positive, or longer than the twelve thousand years that hold all of time.
    pub fn sliding(length: i64, slide: i64, offset: i64) -> Result<Window> {
        for (which, micros) in [("window", length), ("slide", slide)] {
            if micros > LONGEST {
                return Err(Error::usage(format!("the {which} is too long: 4000000d hold all of time")));
            }
        }
        WindowSpec::new(length, slide, offset).map(Window).ok_or_else(|| {
            let which = if length <= 0 { "window" } else { "slide" };
            Error::usage(format!("the {which} must be longer than zero"))
        })
    }

    /// Windows of `length` microseconds, one behind the other.
    ///
    /// # Errors
    /// If `length` is not positive.
    pub fn tumbling(length: i64) -> Result<Window> {
        Self::sliding(length, length, 0)
    }

    /// Windows from durations such as `5m`, `1h30m`, `-5s` (offset only); no slide: tumbling.
    ///
    /// # Errors
    /// If a duration does not parse, or as [`sliding`](Self::sliding).
    pub fn parse(length: &str, slide: Option<&str>, offset: Option<&str>) -> Result<Window> {
        let length = parse_duration(length)?;
        let slide = slide.map_or(Ok(length), parse_duration)?;
        let offset = offset.map_or(Ok(0), parse_signed_duration)?;
        Self::sliding(length, slide, offset)
    }
}

pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

pub(crate) enum Input {
    Files(Vec<PathBuf>),
    Batches(SchemaRef, Batches),
}

/// Options of a run; each has a default and is checked by [`Query::run`].
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) format: Format,
    pub(crate) time: Option<String>,
    pub(crate) time_format: TimeFormat,
    pub(crate) zone: Option<Zone>,
    pub(crate) range: Option<(i64, i64)>,
    pub(crate) layouts: Layouts,
    pub(crate) threads: usize,
    pub(crate) memory: Option<usize>,
    pub(crate) naive: bool,
    pub(crate) engine: Engine,
    pub(crate) lateness: Option<i64>,
    pub(crate) max_ahead: Option<i64>,
    pub(crate) keep_late: bool,
    pub(crate) max_record: usize,
    pub(crate) max_bad: MaxBad,
    pub(crate) partition_bits: Option<u32>,
    pub(crate) spill_dir: Option<PathBuf>,
    pub(crate) live: Option<Live>,
    /// How far files are read that may have grown since the run began.
    pub(crate) lengths: Arc<Vec<(PathBuf, u64)>>,
    pub(crate) task_bytes: Option<usize>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Options {
    /// How far a run is that has not begun.
    fn progress(&self) -> Arc<Progress> {
        Arc::new(Progress { stop: self.stop.clone(), ..Progress::default() })
    }

    /// Bytes that a task should take at most: several of each thread are in memory at a time. A run that is taken up again
    /// has the tasks that it had.
    fn task_bytes(&self) -> usize {
        let threads = if self.threads == 0 { available_parallelism().map_or(1, usize::from) } else { self.threads };
        let all = self.memory.map_or(usize::MAX, |limit| limit / 16 / threads);
        self.task_bytes.unwrap_or(all)
    }

    /// The lateness bound, checked.
    fn lateness(&self, windowed: bool) -> Result<Option<exec::Lateness>> {
        let wrong = |what: &str| Err(Error::usage(what.to_owned()));
        let paced = self.live.as_ref().filter(|live| live.is_endless() || live.speed.is_some());
        if paced.is_some() && (self.naive || self.engine != Engine::Incremental) {
            return wrong("the reference engines read everything first: they take no live input and no --speed");
        }
        if paced.is_some() && !windowed {
            return wrong("live input and --speed need --window or --session: without them nothing closes");
        }
        match (self.lateness.or(paced.map(|_| Live::LATENESS)), self.max_ahead) {
            (None, None) => Ok(None),
            (None, Some(_)) => {
                wrong("--max-ahead needs --lateness: without a bound nothing depends on the stream's clock")
            }
            (Some(_), _) if !windowed => wrong("--lateness needs --window or --session: only windows close"),
            (Some(bound), max_ahead) if bound < 0 || max_ahead.is_some_and(|most| most < 0) => {
                wrong("--lateness and --max-ahead cannot be negative")
            }
            (Some(bound), max_ahead) => Ok(Some(exec::Lateness { bound, max_ahead })),
        }
    }

    /// How the event time is written, in its zone.
    fn time_format(&self) -> TimeFormat {
        match &self.zone {
            Some(zone) => self.time_format.clone().in_zone(zone.clone()),
            None => self.time_format.clone(),
        }
    }
}

/// A keyed, windowed aggregation over one input.
pub struct Query {
    pub(crate) input: Input,
    pub(crate) keys: Vec<String>,
    pub(crate) window: Option<Window>,
    pub(crate) session: Option<Session>,
    pub(crate) aggregates: Vec<Agg>,
    pub(crate) filter: Option<String>,
    pub(crate) having: Option<String>,
    pub(crate) top: Option<(usize, String)>,
    pub(crate) sort: bool,
    pub(crate) options: Options,
    pub(crate) bad_sink: Option<exec::BadSink>,
    pub(crate) late_sink: Option<exec::LateSink>,
    pub(crate) checkpoint: Option<Checkpoint>,
}

impl Query {
    /// With so many threads as the memory limit has room for.
    fn fitted(mut self) -> Result<Query> {
        if let Some(limit) = self.options.memory {
            self.options.threads = threads_within(limit, self.options.threads)?;
        }
        Ok(self)
    }

    fn over(input: Input) -> Query {
        Query {
            input,
            keys: Vec::new(),
            window: None,
            session: None,
            aggregates: Vec::new(),
            filter: None,
            having: None,
            top: None,
            sort: false,
            options: Options {
                format: Format::Auto,
                time: None,
                time_format: TimeFormat::Auto,
                zone: None,
                range: None,
                layouts: Layouts::default(),
                threads: 0,
                memory: None,
                naive: false,
                engine: Engine::Incremental,
                lateness: None,
                max_ahead: None,
                keep_late: false,
                max_record: 16 << 20,
                max_bad: MaxBad::Unlimited,
                partition_bits: None,
                spill_dir: None,
                live: None,
                lengths: Arc::default(),
                task_bytes: None,
                stop: Arc::default(),
            },
            bad_sink: None,
            late_sink: None,
            checkpoint: None,
        }
    }

    /// Over log files or Parquet: paths and patterns, read as one input in this order; `-` is standard input.
    pub fn files(paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Query {
        Query::over(Input::Files(paths.into_iter().map(Into::into).collect()))
    }

    /// Over record batches of `schema`, in the order in which they come.
    pub fn batches<I>(schema: SchemaRef, batches: I) -> Query
    where
        I: IntoIterator<Item = Result<RecordBatch>>,
        I::IntoIter: Send + 'static,
    {
        Query::over(Input::Batches(schema, Box::new(batches.into_iter())))
    }

    /// Adds a field to the key; without any there is one group.
    #[must_use]
    pub fn key(mut self, field: impl Into<String>) -> Query {
        self.keys.push(field.into());
        self
    }

    /// Windows; without them the whole input is one group-by.
    #[must_use]
    pub fn window(mut self, window: Window) -> Query {
        self.window = Some(window);
        self
    }

    /// Sessions instead of windows: records of one key no further than the gap from the next.
    #[must_use]
    pub fn session(mut self, session: Session) -> Query {
        self.session = Some(session);
        self
    }

    /// Adds an output column; without any it is `count`.
    #[must_use]
    pub fn aggregate(mut self, aggregate: Agg) -> Query {
        self.aggregates.push(aggregate);
        self
    }

    /// Only the records for which the SQL condition is true.
    #[must_use]
    pub fn filter(mut self, condition: impl Into<String>) -> Query {
        self.filter = Some(condition.into());
        self
    }

    /// Only the rows of the output for which the SQL condition over its columns is true.
    #[must_use]
    pub fn having(mut self, condition: impl Into<String>) -> Query {
        self.having = Some(condition.into());
        self
    }

    /// Keeps of each window only the `n` rows with the largest value in the output column `by`, largest first; nulls and
    /// NaN come last, ties go by key. [`having`](Self::having) looks at rows before.
    #[must_use]
    pub fn top(mut self, n: usize, by: impl Into<String>) -> Query {
        self.top = Some((n, by.into()));
        self
    }

    /// Hands the rows of a window out by ascending key: numbers by value, text by its bytes, nulls first. Default: by a
    /// hash of the key, which is as stable and costs nothing.
    #[must_use]
    pub fn sort_by_key(mut self) -> Query {
        self.sort = true;
        self
    }

    /// The format of files (default: found out).
    #[must_use]
    pub fn format(mut self, format: Format) -> Query {
        self.options.format = format;
        self
    }

    /// The field that holds the event time, and how it is written (default: the format's own field, or the first of
    /// `ts`, `time`, `timestamp`, `@timestamp`, `eventTime`, `date` that there is; [`TimeFormat::Auto`]).
    #[must_use]
    pub fn time(mut self, field: Option<String>, format: TimeFormat) -> Query {
        self.options.time = field;
        self.options.time_format = format;
        self
    }

    /// The zone of times that carry none (default UTC).
    #[must_use]
    pub fn timezone(mut self, zone: Zone) -> Query {
        self.options.zone = Some(zone);
        self
    }

    /// Only records with a time in `[from, to)`; `None` is the end of all time. The others are counted as filtered.
    #[must_use]
    pub fn between(mut self, from: Option<Timestamp>, to: Option<Timestamp>) -> Query {
        let all = (i64::MIN, i64::MAX);
        let range = (from.map_or(all.0, Timestamp::micros), to.map_or(all.1, Timestamp::micros));
        self.options.range = (range != all).then_some(range);
        self
    }

    /// What stands between the fields of CSV and TSV, a byte (default: the format's own, or what is found out).
    #[must_use]
    pub fn delimiter(mut self, delimiter: u8) -> Query {
        self.options.layouts.delimiter = Some(delimiter);
        self
    }

    /// What stands around fields of CSV and TSV that hold a delimiter, a newline or a quote (default `"`); `None` if
    /// quotes mean nothing.
    #[must_use]
    pub fn quote(mut self, quote: Option<u8>) -> Query {
        self.options.layouts.quote = Some(quote);
        self
    }

    /// Whether the first record of CSV and TSV names the fields (default true); otherwise they are `c1`, `c2`, ...
    #[must_use]
    pub fn header(mut self, header: bool) -> Query {
        self.options.layouts.header = header;
        self
    }

    /// The type of a field of a text format (default: the narrowest that holds the values of the first 1,000 records).
    #[must_use]
    pub fn field_type(mut self, field: impl Into<String>, ty: FieldType) -> Query {
        self.options.layouts.types.push((field.into(), ty));
        self
    }

    /// The regular expression whose named groups are the fields of [`Format::Regex`].
    #[must_use]
    pub fn pattern(mut self, pattern: impl Into<String>) -> Query {
        self.options.layouts.pattern = Some(pattern.into());
        self
    }

    /// Worker threads (default 0: one per core, or as many as the memory limit has room for). The result is the same for any
    /// number.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Query {
        self.options.threads = threads;
        self
    }

    /// The memory limit in bytes (default: none). What does not fit is spilled if there is a [place](Self::spill_dir) for it,
    /// else refused with an error. A limit below 16 MiB and 16 MiB for each thread is refused at once.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> Query {
        self.options.memory = Some(bytes);
        self
    }

    /// Fold every record into each of its windows, instead of sliding: slow, the reference.
    #[must_use]
    pub fn naive(mut self, naive: bool) -> Query {
        self.options.naive = naive;
        self
    }

    /// How windows follow each other (default [`Engine::Incremental`]).
    #[must_use]
    pub fn engine(mut self, engine: Engine) -> Query {
        self.options.engine = engine;
        self
    }

    /// Lets windows close, and be handed out, while the input goes on: as soon as a record comes whose time is `bound`
    /// microseconds or more after their end. A record counts in those of its windows that have not closed before it came;
    /// one without any is dropped as late ([`Ledger::late`](crate::metrics::Ledger::late)). Memory then holds what is open.
    /// Default: no bound; the whole input is read first and nothing is late.
    #[must_use]
    pub fn lateness(mut self, bound: i64) -> Query {
        self.options.lateness = Some(bound);
        self
    }

    /// Reads input as it comes, without an end or at a pace, and hands windows out as they close. [`lateness`](Self::lateness)
    /// is 10 s then if it is not given, and [`max_ahead`](Self::max_ahead) is measured from the clock on the wall.
    #[must_use]
    pub fn live(mut self, live: Live) -> Query {
        self.options.live = Some(live);
        self
    }

    /// Sets records aside whose time is more than `distance` microseconds after the greatest one before them: they move no
    /// watermark and count as [`Ledger::ahead`](crate::metrics::Ledger::ahead). Needs [`lateness`](Self::lateness).
    #[must_use]
    pub fn max_ahead(mut self, distance: i64) -> Query {
        self.options.max_ahead = Some(distance);
        self
    }

    /// A longer text record, in bytes, is bad (default 16 MiB).
    #[must_use]
    pub fn max_record(mut self, bytes: usize) -> Query {
        self.options.max_record = bytes;
        self
    }

    /// How many bad records fail the run (default: any number is tolerated).
    #[must_use]
    pub fn max_bad(mut self, most: MaxBad) -> Query {
        self.options.max_bad = most;
        self
    }

    /// Hands every bad record with its place to `sink`, in the order of the input.
    #[must_use]
    pub fn on_bad(mut self, sink: impl FnMut(&BadPlace, &[u8]) -> Result<()> + Send + 'static) -> Query {
        self.bad_sink = Some(Box::new(sink));
        self
    }

    /// Hands every record that is dropped as late or set aside as ahead to `sink`, in the order in which blocks are judged:
    /// a line of text as it stands in the input; of columnar input, a JSON object of the fields that the query reads.
    #[must_use]
    pub fn on_late(mut self, sink: impl FnMut(&[u8]) -> Result<()> + Send + 'static) -> Query {
        self.late_sink = Some(Box::new(sink));
        self.options.keep_late = true;
        self
    }

    /// Into how many partitions keys are cut: 2 to the power of `bits`, at most 10 (default: by the number of keys in the
    /// first block). Changes no answer.
    #[must_use]
    pub fn partition_bits(mut self, bits: u32) -> Query {
        self.options.partition_bits = Some(bits.min(10));
        self
    }

    /// The records themselves, as they were parsed: `fields` of them, or all in the order of the input if none are named.
    /// The filter and the range of times apply; a missing time is null. Without keys, windows and aggregates only.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let path = dir.path().join("events.ndjson");
    /// std::fs::write(&path, "{\"ts\":\"2024-05-17T10:00:00Z\",\"user\":\"a\",\"ms\":12}\n{\"user\":\"b\",\"ms\":7}\n")?;
    /// let records = windrow::query::Query::files([&path]).filter("ms > 5").records(["user", "ts"])?;
    /// assert_eq!(records.schema().field(0).name(), "user");
    /// assert_eq!(records.map(|batch| batch.map(|b| b.num_rows())).sum::<windrow::Result<usize>>()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn records(self, fields: impl IntoIterator<Item = impl Into<String>>) -> Result<Records> {
        let fields: Vec<String> = fields.into_iter().map(Into::into).collect();
        Records::open(self.fitted()?, &fields)
    }

    /// Where to spill what does not fit in the memory limit (default: nowhere, more memory is refused).
    #[must_use]
    pub fn spill_dir(mut self, dir: impl Into<PathBuf>) -> Query {
        self.options.spill_dir = Some(dir.into());
        self
    }

    /// Ends the run with an error of kind [`Io`](crate::ErrorKind::Io) once `stop` is set, for example at a signal: nothing of it
    /// is left but what a [checkpoint](Self::checkpoint) holds. An input that blocks while it is opened does not notice. Input
    /// without an end has a [flag of its own](Live::stop_flag).
    #[must_use]
    pub fn stop_flag(mut self, stop: Arc<AtomicBool>) -> Query {
        self.options.stop = stop;
        self
    }

    /// Saves the state of the run in a folder as it goes on, so that the same query over the same inputs, given again after
    /// the run has died, goes on from there and gives the same rows. Inputs are files, or record batches that are the same
    /// again; what comes live by standard input or connections is kept in a log. Tell the run that it is [complete](Rows::complete) when its rows are safe.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("events.ndjson");
    /// # std::fs::write(&path, "{\"ts\":\"2024-05-17T10:00:00Z\",\"user\":\"a\"}\n")?;
    /// use windrow::query::{Checkpoint, Query};
    /// let query = || Query::files([&path]).key("user").checkpoint(Checkpoint::new(dir.path().join("saved")));
    /// let mut rows = query().run()?;
    /// let batches: Vec<_> = rows.by_ref().collect::<windrow::Result<_>>()?;
    /// // ... once they are where they should be:
    /// rows.complete()?;
    /// # assert_eq!(batches.len(), 1);
    /// # drop(rows);
    /// assert!(query().run()?.is_finished());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn checkpoint(mut self, checkpoint: Checkpoint) -> Query {
        self.checkpoint = Some(checkpoint);
        self
    }

    /// Opens the input to hash-partition its records by the key into `parts` parts, instead of aggregating them.
    ///
    /// # Errors
    /// Unreadable input, unknown fields, no key, windows or aggregates, which do not go with this.
    pub fn repartition(self, parts: u32, carry: Carry) -> Result<Repartition> {
        Repartition::open(self.fitted()?, parts, carry)
    }

    /// Opens the input and binds the query to its fields. Records are read when the first row is asked for.
    ///
    /// # Errors
    /// Unreadable input, unknown fields, types that do not fit, expressions that do not parse.
    pub fn run(self) -> Result<Rows> {
        Rows::open(self.fitted()?)
    }
}
