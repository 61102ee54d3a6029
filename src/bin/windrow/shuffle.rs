//! `windrow shuffle`: from flags to a repartitioning, from its records to a folder of files.

use crate::args::{FormatName, Quote, When, delimiter, field_type, max_bad, quote, size};
use crate::progress::{Meter, say};
use crate::stats;
use arrow_array::RecordBatch;
use clap::Args;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;
use windrow::format::FieldType;
use windrow::memory::default_limit;
use windrow::query::{Carry, MaxBad, Parts, Query};
use windrow::sink::{Manifest, PartFiles, PartFormat};
use windrow::time::{TimeFormat, Zone};
use windrow::{Error, Result};

/// The memory limit where nothing is known of the system's memory.
const MEMORY: usize = 2 << 30;

/// `windrow shuffle`.
#[derive(Debug, Args)]
pub struct Shuffle {
    /// Files, patterns, or `-` for standard input; several are read as one stream
    #[arg(value_name = "INPUT", required = true)]
    pub inputs: Vec<PathBuf>,

    /// Fields to partition by, comma-separated: records that agree in all of them go into one file
    #[arg(long, value_name = "F[,F...]", required = true, help_heading = "Partitions")]
    pub key: Vec<String>,

    /// Number of files
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536), help_heading = "Partitions")]
    pub partitions: u32,

    /// The folder that the files and manifest.json appear in
    #[arg(short, long, value_name = "DIR", help_heading = "Partitions")]
    pub output: PathBuf,

    /// parquet, csv or ndjson
    #[arg(long, value_name = "F", default_value = "parquet", help_heading = "Partitions")]
    pub output_format: PartFormat,

    /// Only records for which this SQL condition is true
    #[arg(long = "where", value_name = "EXPR", help_heading = "Partitions")]
    pub filter: Option<String>,

    /// Format of the input
    #[arg(long, value_enum, default_value = "auto", value_name = "F", help_heading = "Input")]
    pub format: FormatName,

    /// Zone of times that carry none, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "TZ", allow_hyphen_values = true, help_heading = "Input")]
    pub timezone: Option<Zone>,

    /// The field that holds the time, for its format
    #[arg(long, value_name = "FIELD", help_heading = "Input")]
    pub time: Option<String>,

    /// How the time is written: auto, epoch_s, epoch_ms, epoch_us, epoch_ns, or a strftime pattern
    #[arg(long, value_name = "FMT", default_value = "auto", help_heading = "Input")]
    pub time_format: TimeFormat,

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

    /// Fail if more than N records, or P% of them, do not parse
    #[arg(long, value_name = "N|P%", value_parser = max_bad, help_heading = "Input")]
    pub max_bad: Option<MaxBad>,

    /// Write the run's statistics as JSON to FILE, or to standard error
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "-", help_heading = "Output")]
    pub stats: Option<PathBuf>,

    /// Show progress on standard error
    #[arg(long, value_enum, default_value = "auto", value_name = "WHEN", help_heading = "Output")]
    pub progress: When,

    /// Say nothing but errors
    #[arg(short, long, help_heading = "Output")]
    pub quiet: bool,

    /// Limit on memory, such as 512MiB [default: 60 % of what is free]
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Execution")]
    pub memory: Option<usize>,

    /// Where to spill what does not fit in memory [default: the folder for temporary files]
    #[arg(long, value_name = "DIR", help_heading = "Execution")]
    pub spill_dir: Option<PathBuf>,

    /// Worker threads [default: all cores]
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, help_heading = "Execution")]
    pub threads: usize,
}

/// The files as the engine sees them.
struct Files(PartFiles);

impl Parts for Files {
    fn write(&self, part: u32, rows: &RecordBatch) -> Result<()> {
        self.0.write(part, rows)
    }

    fn end(&self, part: u32) -> Result<()> {
        self.0.end(part)
    }

    fn open_bytes(&self) -> usize {
        self.0.open_bytes()
    }
}

/// Runs the command.
pub fn run(args: Shuffle) -> Result<()> {
    let start = Instant::now();
    let keys = keys(&args)?;
    let carry = match args.output_format {
        PartFormat::Csv => Carry::Verbatim,
        PartFormat::Ndjson => Carry::Records,
        _ => Carry::Typed,
    };
    let memory = args.memory.or_else(default_limit).unwrap_or(MEMORY);
    let mut records = query(&args, &keys).memory(memory).repartition(args.partitions, carry)?;
    if !args.quiet {
        records.notes().iter().for_each(|note| say(format_args!("windrow: {note}\n")));
    }
    // A quarter of the memory is for the files; what is not enough for all at once is shared by a few.
    let share = (memory / 8 / args.partitions as usize).max((memory / 64).min(1 << 20));
    let whole = records.whole_records();
    let files = PartFiles::create(&args.output, args.output_format, &records.schema(), whole, args.partitions, share)?;
    let show = match args.progress {
        When::Always => true,
        When::Never => false,
        When::Auto => !args.quiet && std::io::stderr().is_terminal(),
    };
    // A signal lets the run end as an error does, so that nothing is left behind; the second one ends it at once.
    let progress = records.progress();
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, progress.stop.clone());
        let _ = signal_hook::flag::register(signal, progress.stop.clone());
    }
    let meter = show.then(|| Meter::start(records.progress()));
    let files = Files(files);
    records.run(&files)?;
    let summary = files.0.finish(&Manifest { key: keys })?;
    drop(meter);
    let statistics = records.statistics();
    if statistics.ledger.bad > 0 && !args.quiet {
        say(format_args!(
            "windrow: {} of {} records are bad and were left out\n",
            statistics.ledger.bad, statistics.ledger.read
        ));
        for place in records.bad_records().iter().take(3) {
            let file = place.file.as_ref().map_or("standard input".into(), |f| f.display().to_string());
            say(format_args!("  {file}, line {} (byte {}): {}\n", place.line, place.offset, place.reason));
        }
    }
    debug_assert_eq!(summary.rows, statistics.rows_out);
    if let Some(path) = &args.stats {
        let json = stats::json(&statistics, None, start.elapsed().as_secs_f64(), records.threads());
        if path == Path::new("-") {
            say(format_args!("{json}\n"));
        } else {
            std::fs::write(path, json + "\n")
                .map_err(|e| Error::output("cannot be written").in_file(path).because(e))?;
        }
    }
    Ok(())
}

fn keys(args: &Shuffle) -> Result<Vec<String>> {
    let keys: Vec<String> = args.key.iter().flat_map(|list| list.split(',')).map(|k| k.trim().to_owned()).collect();
    if keys.iter().any(String::is_empty) {
        return Err(Error::usage("--key: a field name is missing between the commas"));
    }
    Ok(keys)
}

fn query(args: &Shuffle, keys: &[String]) -> Query {
    let mut query = Query::files(args.inputs.clone())
        .format(args.format.into())
        .time(args.time.clone(), args.time_format.clone())
        .max_record(args.max_record)
        .threads(args.threads)
        .spill_dir(args.spill_dir.clone().unwrap_or_else(std::env::temp_dir))
        .header(!args.no_header);
    query = keys.iter().fold(query, |query, key| query.key(key));
    query = args.types.iter().fold(query, |query, (field, ty)| query.field_type(field, *ty));
    if let Some(zone) = &args.timezone {
        query = query.timezone(zone.clone());
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
    match args.max_bad {
        Some(most) => query.max_bad(most),
        None => query,
    }
}
