//! `generate`: the data of benchmarks and of the peer workloads' shapes, the same bytes every time.
//!
//! `cargo run --release --example generate` shows its usage; `tools/bench` calls it. A record
//! depends on its number and the seed only, never on the number of threads. (Log-normal values go through the C
//! library's `ln`, `exp` and `sin`: another library may give another last bit.)

mod expect;
mod groups;
mod hop;
mod log;
mod random;
mod rows;
mod rows_hash;

use std::error::Error;
use std::time::Instant;

/// 2024-01-01T00:00:00Z, microseconds since the epoch.
const START_MICROS: i64 = 1_704_067_200_000_000;

/// What stops the tool: a sentence.
type Failure = Box<dyn Error + Send + Sync>;

const USAGE: &str = "\
generate: deterministic data for windrow's benchmarks

usage:
  generate log    [OPTIONS] -o FILE     combined access log of one day; 5,000,000 lines
  generate ndjson [OPTIONS] -o FILE     the same records as NDJSON
  generate csv    [OPTIONS] -o FILE     the same records as CSV
  generate hop --variant V [OPTIONS] -o FILE.parquet
                                        columns ts, key, value of one hour
  generate rows   [OPTIONS] -o FILE.parquet
                                        columns key, value, payload: 30,000,000 rows of 100 bytes
  generate groups [OPTIONS] -o FILE.parquet
                                        columns key, value: 100,000,000 rows of 50,000,000 keys

options:
  -o, --output FILE       where to; `-` is standard output (log, ndjson and csv)
  --lines N, --rows N     how many records; default: the full size
  --scale X               the full size times X
  --seed N                another data set of the same shape (default 20240101)
  --keys N                another number of keys (hop)
  --expect WINDOW SLIDE   seconds, one a multiple of the other; print the exact size and
                          checksum of the sliding result by key (logs: by path, sums of
                          bytes) to standard output; rows and groups always print theirs

variants of hop:
";

/// The options of all commands.
pub struct Options {
    output: String,
    rows: Option<usize>,
    scale: f64,
    seed: u64,
    keys: Option<usize>,
    /// Length and slide, microseconds.
    expect: Option<(i64, i64)>,
    variant: Option<String>,
}

impl Options {
    fn parse(args: &[String]) -> Result<Self, Failure> {
        let mut options = Options {
            output: String::new(),
            rows: None,
            scale: 1.0,
            seed: 20_240_101,
            keys: None,
            expect: None,
            variant: None,
        };
        let mut args = args.iter();
        while let Some(name) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{name} needs a value"));
            match name.as_str() {
                "-o" | "--output" => options.output = value()?.clone(),
                "--lines" | "--rows" => options.rows = Some(number(name, &value()?.replace('_', ""))?),
                "--scale" => options.scale = number(name, value()?)?,
                "--keys" => options.keys = Some(number::<usize>(name, &value()?.replace('_', ""))?.clamp(1, 1 << 31)),
                "--seed" => options.seed = number(name, value()?)?,
                "--variant" => options.variant = Some(value()?.clone()),
                "--expect" => {
                    let (length, slide): (f64, f64) = (number(name, value()?)?, number(name, value()?)?);
                    let (length, slide) = ((length * 1e6) as i64, (slide * 1e6) as i64);
                    if length < 1 || slide < 1 || length % slide != 0 {
                        return Err(
                            "--expect takes a window and a slide in seconds, the first a multiple of the second".into(),
                        );
                    }
                    options.expect = Some((length, slide));
                }
                _ => return Err(format!("unknown option {name}").into()),
            }
        }
        if options.output.is_empty() {
            return Err("say where to write with -o FILE".into());
        }
        if !(options.scale > 0.0 && options.scale < 1e6) {
            return Err("--scale takes a number above 0".into());
        }
        Ok(options)
    }

    /// How many records to make of a data set that has `full`.
    fn rows(&self, full: usize) -> usize {
        self.rows.unwrap_or(((full as f64 * self.scale) as usize).max(1))
    }

    fn failed(&self, error: &std::io::Error) -> Failure {
        format!("cannot write {}: {error}", self.output).into()
    }
}

fn number<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|_| format!("{name} takes a number, not {text:?}").into())
}

fn usage() -> String {
    let mut usage = USAGE.to_string();
    for variant in hop::VARIANTS {
        let rows = variant.rows / 1_000_000;
        usage += &format!("  {:4} {}; {rows},000,000 rows\n", variant.name, variant.about);
    }
    usage
}

fn run(command: &str, args: &[String]) -> Result<(), Failure> {
    let options = Options::parse(args)?;
    let started = Instant::now();
    let expected = match command {
        "log" => log::run(log::Style::Combined, &options)?,
        "ndjson" => log::run(log::Style::Ndjson, &options)?,
        "csv" => log::run(log::Style::Csv, &options)?,
        "hop" => {
            let names = || hop::VARIANTS.map(|variant| variant.name).join(", ");
            let name = options.variant.as_deref().unwrap_or_default();
            let known = hop::VARIANTS.into_iter().find(|variant| variant.name == name);
            let mut variant = known.ok_or_else(|| format!("--variant takes one of {}", names()))?;
            variant.keys = options.keys.unwrap_or(variant.keys);
            if options.output == "-" {
                return Err("Parquet needs a file: -o FILE.parquet".into());
            }
            hop::run(variant, &options)?
        }
        "rows" => rows::run(&options)?,
        "groups" => groups::run(&options)?,
        other => {
            return Err(format!("unknown command {other:?}; known are log, ndjson, csv, hop, rows, groups").into());
        }
    };
    if let Some(expected) = expected {
        println!("{expected}");
    }
    let seconds = started.elapsed().as_secs_f64();
    if let Ok(file) = std::fs::metadata(&options.output) {
        let mb = file.len() as f64 / 1e6;
        eprintln!("{}: {mb:.0} MB in {seconds:.1} s, {:.0} MB/s", options.output, mb / seconds);
    }
    Ok(())
}

fn main() -> std::process::ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.split_first() {
        None => print!("{}", usage()),
        Some((help, _)) if matches!(help.as_str(), "-h" | "--help" | "help") => {
            print!("{}", usage())
        }
        Some((command, rest)) => {
            if let Err(failure) = run(command, rest) {
                eprintln!("generate: {failure}");
                return 2.into();
            }
        }
    }
    0.into()
}
