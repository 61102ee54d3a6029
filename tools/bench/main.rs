//! `bench`: windrow and its peers on the same workloads, every answer checked, raw rows kept.
//!
//! `sh tools/bench/run` builds what it needs and starts this; without arguments it measures all workloads with
//! every peer that is installed. `sh tools/bench/run help` shows the commands. How it measures is said in [`measure`] and
//! in `README.md` beside this file.

mod baseline;
mod charts;
mod check;
mod compare;
#[allow(dead_code)]
#[path = "../generate/expect.rs"]
mod expect;
mod lightsaber;
mod machine;
mod measure;
#[allow(dead_code)]
#[path = "../generate/random.rs"]
mod random;
mod record;
mod report;
#[path = "../generate/rows_hash.rs"]
mod rows_hash;
mod runners;
mod scaling;
mod table;
mod workloads;

use std::path::{Path, PathBuf};
use std::time::Duration;

/// What stops the tool: a sentence.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
bench: windrow and its peers, measured and checked

usage: sh tools/bench/run [COMMAND] [OPTIONS]
  compare             workloads against the peers that are installed (the default)
  scaling             cost over records, keys, window/slide, threads and memory limit
  library             LightSaber's queries through the library; --lightsaber DIR holds their data files
  report              RECORD.html and pictures beside it, and the tables in README.md
  baseline save FILE     keep what `cargo bench` measured last
  baseline diff FILE     compare what it measured last with what was kept; exit status 1 if something got slower

options:
  --scale X           size of the data, 1 is full (default 1)
  --workloads A,B     some of H1 H1d H1s H1x H1z H2 H3 T1 L1 L2 L3 S1 S2 (default all)
  --runners A,B       some of windrow windrow-typed duckdb polars chdb datafusion spark dstream flink (default all)
  --series A,B        some of records keys ratio threads memory (default all)
  --reps N            processes of each, in turns (default 3)
  --threads N         threads of each (default: all cores)
  --sinks A,B         files, dropped (default both)
  --idiomatic         also the queries that users write first
  --timeout S         stop a process after S seconds (default 300); what took 60 s is not repeated
  --record FILE       where raw rows are added (default target/bench/record.csv)
  --data DIR          where data is made (default target/bench/data-SCALE)
  --lightsaber DIR    the data files of LightSaber's applications
  --readme FILE       whose tables `report` writes (default README.md)

environment: BENCH_PYTHON and BENCH_PYTHON_FLINK, interpreters that have the peers (default python3)
";

/// The programs.
pub struct Tools {
    windrow: PathBuf,
    typed: PathBuf,
    generator: PathBuf,
    peers: PathBuf,
    python: PathBuf,
    python_flink: PathBuf,
}

impl Tools {
    /// Those that were built with this one.
    fn find() -> Result<Tools, Failure> {
        let me = std::env::current_exe()?;
        let examples = me.parent().ok_or("this program is in no folder")?;
        let beside = |name: &str| examples.join(name);
        let windrow = examples.parent().map(|folder| folder.join("windrow")).unwrap_or_default();
        let windrow = std::env::var_os("BENCH_WINDROW").map_or(windrow, PathBuf::from);
        if !windrow.is_file() {
            return Err(format!("{} is not built; start with sh tools/bench/run", windrow.display()).into());
        }
        let python = |name: &str| std::env::var_os(name).map_or_else(|| "python3".into(), PathBuf::from);
        Ok(Tools {
            windrow,
            typed: beside("bench_library"),
            generator: beside("generate"),
            peers: Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/bench/peers"),
            python: python("BENCH_PYTHON"),
            python_flink: python("BENCH_PYTHON_FLINK"),
        })
    }
}

/// The options of all commands.
pub struct Options {
    scale: f64,
    workloads: Vec<String>,
    runners: Vec<String>,
    series: Vec<String>,
    reps: u32,
    threads: usize,
    sinks: Vec<String>,
    idiomatic: bool,
    timeout: Duration,
    record: PathBuf,
    data: Option<PathBuf>,
    lightsaber: Option<PathBuf>,
    readme: PathBuf,
    /// What is not an option.
    words: Vec<String>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Options, Failure> {
        let mut options = Options {
            scale: 1.0,
            workloads: Vec::new(),
            runners: Vec::new(),
            series: Vec::new(),
            reps: 3,
            threads: std::thread::available_parallelism().map_or(2, usize::from),
            sinks: Vec::new(),
            idiomatic: false,
            timeout: Duration::from_secs(300),
            record: "target/bench/record.csv".into(),
            data: None,
            lightsaber: None,
            readme: "README.md".into(),
            words: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            if !name.starts_with("--") {
                options.words.push(name.clone());
                continue;
            }
            if name == "--idiomatic" {
                options.idiomatic = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number = || value.parse::<f64>().ok().filter(|n| *n > 0.0 && *n < 1e6);
            let number = || number().ok_or_else(|| format!("{name} takes a number above 0, not {value:?}"));
            let list = || value.split(',').map(str::to_owned).collect();
            match name.as_str() {
                "--scale" => options.scale = number()?,
                "--workloads" => options.workloads = list(),
                "--runners" => options.runners = list(),
                "--series" => options.series = list(),
                "--reps" => options.reps = number()?.max(1.0) as u32,
                "--threads" => options.threads = number()?.max(1.0) as usize,
                "--sinks" => options.sinks = list(),
                "--timeout" => options.timeout = Duration::from_secs_f64(number()?),
                "--record" => options.record = value.into(),
                "--data" => options.data = Some(value.into()),
                "--lightsaber" => options.lightsaber = Some(value.into()),
                "--readme" => options.readme = value.into(),
                _ => return Err(format!("unknown option {name}; `sh tools/bench/run help` lists them").into()),
            }
        }
        options.known("--workloads", &options.workloads, &workloads::WORKLOADS.map(|w| w.name))?;
        options.known("--runners", &options.runners, &runners::RUNNERS.map(|r| r.name))?;
        options.known("--series", &options.series, &scaling::SERIES)?;
        options.known("--sinks", &options.sinks, &["files", "dropped"])?;
        Ok(options)
    }

    fn known(&self, option: &str, given: &[String], all: &[&str]) -> Result<(), Failure> {
        match given.iter().find(|name| !all.contains(&name.as_str())) {
            Some(name) => Err(format!("{option}: unknown {name:?}; known are {}", all.join(", ")).into()),
            None => Ok(()),
        }
    }

    /// Whether a list of names holds this one, or none at all.
    fn wants(list: &[String], name: &str) -> bool {
        list.is_empty() || list.iter().any(|wanted| wanted == name)
    }

    fn data(&self, tools: &Tools) -> Result<workloads::Data, Failure> {
        let folder = self.data.clone().unwrap_or_else(|| format!("target/bench/data-{}", self.scale).into());
        let folder = std::path::absolute(folder)?;
        workloads::Data::open(folder, tools.generator.clone(), self.scale)
    }
}

/// What is left of a run: how many answers were right, and how many not.
#[derive(Default)]
pub struct Outcome {
    right: usize,
    wrong: usize,
}

fn run(arguments: &[String]) -> Result<bool, Failure> {
    let (command, rest) = match arguments.split_first() {
        Some((first, rest)) if !first.starts_with("--") => (first.as_str(), rest),
        _ => ("compare", arguments),
    };
    if matches!(command, "help" | "-h") || arguments.iter().any(|a| a == "--help") {
        print!("{USAGE}");
        return Ok(true);
    }
    let options = Options::parse(rest)?;
    let outcome = match command {
        "compare" => compare::run(&Tools::find()?, &options)?,
        "scaling" => scaling::run(&Tools::find()?, &options)?,
        "library" => lightsaber::run(&Tools::find()?, &options)?,
        "report" => return report::run(&options).map(|()| true),
        "baseline" => return baseline::run(&options.words),
        other => return Err(format!("unknown command {other:?}; `sh tools/bench/run help` lists them").into()),
    };
    println!(
        "{} answers right, {} wrong or missing; raw rows in {}",
        outcome.right,
        outcome.wrong,
        options.record.display()
    );
    Ok(outcome.wrong == 0)
}

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => 0.into(),
        Ok(false) => 1.into(),
        Err(failure) => {
            eprintln!("bench: {failure}");
            2.into()
        }
    }
}
