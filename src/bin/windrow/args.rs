//! The flags, as `CLI.md` promises them to scripts.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::time::Duration;
use windrow::format::FieldType;
use windrow::query::{Engine, Format, MaxBad};
use windrow::sink::Roll;
use windrow::time::{TimeFormat, Zone, parse_duration};
use windrow::{Error, Result};

/// Keyed sliding windows over logs and Parquet, on one machine.
#[derive(Debug, Parser)]
#[command(name = "windrow", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keyed windows over log files
    ///
    /// Example: windrow replay access.log --key path --window 5m --slide 30s --agg 'count, sum(bytes), count_if(status >= 500) as errors'
    Replay(Box<Replay>),

    /// Hash-partition records by key into N files
    ///
    /// Example: windrow shuffle access.log --key host --partitions 64 -o by_host
    Shuffle(Box<Shuffle>),

    /// The parsed fields of each record
    ///
    /// Example: windrow parse access.log --fields time,path,status --where 'status >= 500'
    Parse(Box<Parse>),

    /// Completions for a shell, on standard output
    ///
    /// Example: windrow completions bash > ~/.local/share/bash-completion/completions/windrow
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// The manual page, on standard output
    ///
    /// Example: windrow man > windrow.1
    Man,
}

/// What every command that reads records takes.
#[derive(Debug, Args)]
pub struct Common {
    /// Files, patterns, or `-` for standard input (the default); several are read as one stream
    #[arg(value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// Format of the input
    #[arg(long, value_enum, default_value = "auto", value_name = "F", help_heading = "Input")]
    pub format: FormatName,

    /// The field that holds the time [default: the format's own, else the first of ts, time, timestamp, @timestamp, eventTime, date]
    #[arg(long, value_name = "FIELD", help_heading = "Input")]
    pub time: Option<String>,

    /// How the time is written: auto, epoch_s, epoch_ms, epoch_us, epoch_ns, or a strftime pattern
    #[arg(long, value_name = "FMT", default_value = "auto", help_heading = "Input")]
    pub time_format: TimeFormat,

    /// Zone of times that carry none, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "TZ", allow_hyphen_values = true, help_heading = "Input")]
    pub timezone: Option<Zone>,

    /// Only records from this time on
    #[arg(long, value_name = "T", help_heading = "Input")]
    pub from: Option<String>,

    /// Only records before this time
    #[arg(long, value_name = "T", help_heading = "Input")]
    pub to: Option<String>,

    /// Type of a field of a text format: text, integer, float, boolean or timestamp [default: by the first records]
    #[arg(long = "type", value_name = "FIELD:TYPE", value_parser = field_type, help_heading = "Input")]
    pub types: Vec<(String, FieldType)>,

    /// What separates the fields of csv and tsv; \\t or tab is a tab [default: the format's own]
    #[arg(long, value_name = "C", value_parser = delimiter, help_heading = "Input")]
    pub delimiter: Option<u8>,

    /// What stands around quoted fields of csv and tsv, or none [default: \"]
    #[arg(long, value_name = "C", value_parser = quote, help_heading = "Input")]
    pub quote: Option<Quote>,

    /// The first record of csv and tsv is no header; fields are called c1, c2, ...
    #[arg(long, help_heading = "Input")]
    pub no_header: bool,

    /// Lines of --format regex: an expression whose named groups are the fields, '(?<ts>\\S+) (?<level>\\w+)'
    #[arg(long, value_name = "REGEX", help_heading = "Input")]
    pub pattern: Option<String>,

    /// A longer record is bad
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = size, help_heading = "Input")]
    pub max_record: usize,

    /// Write records that do not parse to this file
    #[arg(long, value_name = "FILE", help_heading = "Input")]
    pub bad_lines: Option<PathBuf>,

    /// Fail if more than N records, or P% of them, do not parse
    #[arg(long, value_name = "N|P%", value_parser = max_bad, help_heading = "Input")]
    pub max_bad: Option<MaxBad>,

    /// Only records for which this SQL condition is true
    #[arg(long = "where", value_name = "EXPR", help_heading = "Query")]
    pub filter: Option<String>,

    /// Where the rows go, by ending .csv, .ndjson, .jsonl, .parquet or .arrow [default: a table on a terminal, else a pipe's format]
    #[arg(short, long, value_name = "PATH", help_heading = "Output")]
    pub output: Option<PathBuf>,

    /// csv, ndjson, parquet, arrow, table or null, whatever the output's name
    #[arg(long, value_name = "F", help_heading = "Output")]
    pub output_format: Option<String>,

    /// Write the run's statistics as JSON to FILE, or to standard error
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", require_equals = false, help_heading = "Output")]
    pub stats: Option<PathBuf>,

    /// Show progress on standard error
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN", help_heading = "Output")]
    pub progress: When,

    /// Say nothing but errors
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// Say more
    #[arg(short, long, action = clap::ArgAction::Count, help_heading = "Output")]
    pub verbose: u8,

    /// Limit on memory, such as 512MiB: what does not fit is spilled [default: 60 % of what is free]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Execution")]
    pub memory: Option<usize>,

    /// Where to spill what does not fit in memory [default: the folder for temporary files]
    #[arg(long, value_name = "DIR", help_heading = "Execution")]
    pub spill_dir: Option<PathBuf>,

    /// Worker threads [default: all cores]
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, help_heading = "Execution")]
    pub threads: usize,
}

/// `windrow replay`.
#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    pub common: Common,

    /// Fields to group by, comma-separated [default: one group]
    #[arg(long, value_name = "F[,F...]", help_heading = "Query")]
    pub key: Vec<String>,

    /// Length of the windows, such as 5m or 1h30m [default: the whole input is one group-by]
    #[arg(long, value_name = "D", help_heading = "Query")]
    pub window: Option<String>,

    /// Distance between the starts of windows [default: the length, i.e. tumbling]
    #[arg(long, value_name = "D", requires = "window", help_heading = "Query")]
    pub slide: Option<String>,

    /// Where windows start: at offset + n × slide
    #[arg(long, value_name = "D", requires = "window", allow_hyphen_values = true, help_heading = "Query")]
    pub offset: Option<String>,

    /// Sessions instead of windows: records of one key that are at most this far apart, such as 30m
    #[arg(long, value_name = "D", conflicts_with_all = ["window", "slide", "offset"], help_heading = "Query")]
    pub session: Option<String>,

    /// Hand windows out as the input goes on: a window closes once a time that much after its end was seen, and records
    /// that come later are late for it [default: read everything first, nothing is late; 10s for live input]
    #[arg(long, value_name = "D", help_heading = "Query")]
    pub lateness: Option<String>,

    /// Set aside records whose time is further ahead of the greatest one before them, of live input ahead of the clock
    #[arg(long, value_name = "D", help_heading = "Query")]
    pub max_ahead: Option<String>,

    /// Read on where the input ends: files that grow and are rotated, new ones that match a pattern, standard input as it comes.
    /// Windows are written as they close, until SIGINT or SIGTERM; -o is written under its own name, Parquet in several files
    #[arg(long, help_heading = "Live input")]
    pub follow: bool,

    /// Take connections at this address, such as 127.0.0.1:5140, and read lines from them as live input
    #[arg(long, value_name = "ADDR", help_heading = "Live input")]
    pub listen: Option<String>,

    /// An input that has had nothing new for so long holds no window open [default: 10s]
    #[arg(long, value_name = "D", help_heading = "Live input")]
    pub idle: Option<String>,

    /// Replay at this multiple of the pace of the records' own times, such as 1x or 60x; windows are written as they close
    #[arg(long, value_name = "N", default_value = "max", value_parser = speed, help_heading = "Live input")]
    pub speed: Speed,

    /// Begin another file of a live Parquet or Arrow output at this size, or age [default: 128MiB,5m]; with --checkpoint at
    /// so many rows, always the same ones [default: 1048576rows]
    #[arg(long, value_name = "SIZE[,D]", value_parser = roll, help_heading = "Live input")]
    pub roll: Option<Roll>,

    /// Keep of each window only the N rows with the largest value in the column of --by
    #[arg(long, value_name = "N", requires = "by", help_heading = "Query")]
    pub top: Option<usize>,

    /// The output column that --top goes by
    #[arg(long, value_name = "COLUMN", requires = "top", help_heading = "Query")]
    pub by: Option<String>,

    /// Order of the rows of a window: `key`, ascending [default: by a published hash of the key]
    #[arg(long, value_name = "key", value_parser = ["key"], help_heading = "Query")]
    pub sort: Option<String>,

    /// Write records that are late or ahead here: lines of text as they stand, of Parquet a JSON object
    #[arg(long, value_name = "FILE", help_heading = "Query")]
    pub late: Option<PathBuf>,

    /// Aggregates: count, count(x), count_if(EXPR), sum(x), avg(x), min(x), max(x), stddev(x), var(x), first(x), last(x),
    /// distinct(x), approx_distinct(x), p50(x), p90(x), p99(x), quantile(x, 0.75), each with `as NAME` [default: count]
    #[arg(long, value_name = "LIST", help_heading = "Query")]
    pub agg: Vec<String>,

    /// Only rows for which this SQL condition over the output's columns is true
    #[arg(long, value_name = "EXPR", help_heading = "Query")]
    pub having: Option<String>,

    /// Save the state of the run in this folder as it goes on: the same command, given again after the run has died, goes on
    /// from there and gives the same output
    #[arg(long, value_name = "DIR", help_heading = "Execution")]
    pub checkpoint: Option<PathBuf>,

    /// Time from one checkpoint to the next, at least [default: 10s]
    #[arg(long, value_name = "D", requires = "checkpoint", help_heading = "Execution")]
    pub checkpoint_every: Option<String>,

    /// Go on where the log of what came by standard input or connections is damaged, and say how much is lost
    #[arg(long, requires = "checkpoint", help_heading = "Execution")]
    pub skip_damaged: bool,

    /// Start the run again from its last checkpoint if it fails or is killed, at most N times, a little later each time; not
    /// if it would fail again: wrong usage, records that the query cannot answer for
    #[arg(long, value_name = "N", requires = "checkpoint", help_heading = "Execution")]
    pub supervise: Option<u32>,

    /// Somebody decides by the exit status whether to start the run again.
    #[arg(long, hide = true)]
    pub supervised: bool,

    /// Fold every record into each of its windows: slow, the reference
    #[arg(long, help_heading = "Execution")]
    pub naive: bool,

    /// How windows follow each other; remerge folds all panes of every window anew
    #[arg(long, value_enum, default_value = "incremental", value_name = "E", help_heading = "Execution")]
    pub engine: EngineName,
}

/// `windrow parse`.
#[derive(Debug, Args)]
pub struct Parse {
    #[command(flatten)]
    pub common: Common,

    /// Fields to write, comma-separated [default: all, in the order of the input]
    #[arg(long, value_name = "F[,F...]", help_heading = "Query")]
    pub fields: Vec<String>,
}

/// `windrow shuffle`. The output is a folder that the files and manifest.json appear in.
#[derive(Debug, Args)]
pub struct Shuffle {
    #[command(flatten)]
    pub common: Common,

    /// Fields to partition by, comma-separated: records that agree in all of them go into one file
    #[arg(long, value_name = "F[,F...]", required = true, help_heading = "Query")]
    pub key: Vec<String>,

    /// Number of files
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = "Query")]
    pub partitions: u32,
}

/// `--format`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum FormatName {
    /// By the first records and the file name
    Auto,
    /// NCSA combined access log
    Combined,
    /// NCSA common access log
    Common,
    /// One JSON object per line
    Json,
    /// Comma-separated values with a header
    Csv,
    /// Tab-separated values with a header, and Zeek logs
    Tsv,
    /// Lines by the regular expression of --pattern
    Regex,
    /// Apache Parquet
    Parquet,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Format {
        match name {
            FormatName::Auto => Format::Auto,
            FormatName::Combined => Format::Combined,
            FormatName::Common => Format::Common,
            FormatName::Json => Format::Json,
            FormatName::Csv => Format::Csv,
            FormatName::Tsv => Format::Tsv,
            FormatName::Regex => Format::Regex,
            FormatName::Parquet => Format::Parquet,
        }
    }
}

/// `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// When standard error is a terminal
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// `--engine`.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum EngineName {
    /// Absorb what enters, expel what leaves
    Incremental,
    /// Fold all panes of every window
    Remerge,
}

impl From<EngineName> for Engine {
    fn from(name: EngineName) -> Engine {
        match name {
            EngineName::Incremental => Engine::Incremental,
            EngineName::Remerge => Engine::Remerge,
        }
    }
}

/// `--quote`: `None` if quotes mean nothing.
#[derive(Debug, Clone, Copy)]
pub struct Quote(pub Option<u8>);

fn quote(text: &str) -> Result<Quote> {
    match text {
        "" | "none" => Ok(Quote(None)),
        _ => byte(text).map(|b| Quote(Some(b))),
    }
}

fn delimiter(text: &str) -> Result<u8> {
    match text {
        "\\t" | "tab" => Ok(b'\t'),
        _ => byte(text),
    }
}

fn byte(text: &str) -> Result<u8> {
    match text.as_bytes() {
        [byte] if !matches!(byte, b'\n' | b'\r') => Ok(*byte),
        _ => Err(Error::usage("it must be one ASCII character other than a newline")),
    }
}

/// `--speed`: `None` if as fast as possible.
#[derive(Debug, Clone, Copy)]
pub struct Speed(pub Option<f64>);

fn speed(text: &str) -> Result<Speed> {
    if text == "max" {
        return Ok(Speed(None));
    }
    let speed = text.strip_suffix('x').and_then(|n| n.parse().ok()).filter(|n: &f64| n.is_finite() && *n > 0.0);
    speed.map(|n| Speed(Some(n))).ok_or_else(|| Error::usage("give a multiple such as 1x or 60x, or max"))
}

fn roll(text: &str) -> Result<Roll> {
    let mut roll = Roll::default();
    for part in text.split(',') {
        if let Some(rows) = part.strip_suffix("rows").and_then(|n| n.parse().ok()).filter(|n| *n > 0) {
            roll.rows = rows;
            continue;
        }
        match (size(part), parse_duration(part)) {
            (Ok(bytes), _) => roll.bytes = bytes as u64,
            (_, Ok(age)) if age > 0 => roll.age = Duration::from_micros(age as u64),
            _ => {
                return Err(Error::usage(
                    "give a size such as 64MiB, an age such as 1m, a number such as 1000000rows, or several with commas between",
                ));
            }
        }
    }
    Ok(roll)
}

fn field_type(text: &str) -> Result<(String, FieldType)> {
    let (field, ty) = text.rsplit_once(':').ok_or_else(|| Error::usage("write FIELD:TYPE, such as bytes:float"))?;
    Ok((field.to_owned(), ty.parse()?))
}

/// Bytes from `512MiB`, `1G`, `64k`, `1000`. Units without `i` are binary too, as memory is.
fn size(text: &str) -> Result<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(Error::usage("a size is a number with a unit, such as 512MiB or 2GiB")),
    };
    let number: f64 =
        text[..digits].parse().map_err(|_| Error::usage("a size is a number with a unit, such as 512MiB or 2GiB"))?;
    let bytes = number * f64::from(shift).exp2();
    if !(1.0..1e18).contains(&bytes) {
        return Err(Error::usage("a size is at least one byte and less than an exbibyte"));
    }
    Ok(bytes as usize)
}

fn max_bad(text: &str) -> Result<MaxBad> {
    let wrong = || Error::usage("give a number of records such as 100, or a share such as 1%");
    match text.strip_suffix('%') {
        None => text.parse().map(MaxBad::Records).map_err(|_| wrong()),
        Some(share) => {
            let share: f64 = share.trim().parse().map_err(|_| wrong())?;
            if (0.0..=100.0).contains(&share) { Ok(MaxBad::Share(share / 100.0)) } else { Err(wrong()) }
        }
    }
}
