//! The comparison: every workload by every runner in turns, each run a process of its own, its answer checked.

use crate::measure::{self, Cost};
use crate::record::{COLUMNS, Row};
use crate::runners::{RUNNERS, Runner, Task, said};
use crate::workloads::{Data, Kind, WORKLOADS, Workload};
use crate::{Failure, Options, Outcome, Tools, check, machine};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What took longer than this many seconds is not repeated.
const SLOW: f64 = 60.0;

/// Where raw rows go, and a folder for outputs and spills.
pub struct Bench<'a> {
    pub tools: &'a Tools,
    pub options: &'a Options,
    folder: PathBuf,
    pub outcome: Outcome,
}

impl<'a> Bench<'a> {
    /// Starts the record, if it is new, and says beside it on what machine and with what versions it is made.
    pub fn start(tools: &'a Tools, options: &'a Options, data: &Data) -> Result<Bench<'a>, Failure> {
        let record = &options.record;
        if let Some(folder) = record.parent() {
            fs::create_dir_all(folder)?;
        }
        let text = fs::read_to_string(record).unwrap_or_default();
        match text.lines().next() {
            None => fs::write(record, format!("{COLUMNS}\n"))?,
            Some(COLUMNS) => {}
            Some(_) => return Err(format!("{} is no record", record.display()).into()),
        }
        machine::note(tools, options, &record.with_extension("json"))?;
        let folder = data.path(&format!("run-{}", std::process::id()));
        Ok(Bench { tools, options, folder, outcome: Outcome::default() })
    }

    /// Runs one process and adds its row; returns what it cost.
    pub fn measure(
        &mut self,
        runner: &Runner,
        task: &Task<'_>,
        expected: &Value,
        mut row: Row,
    ) -> Result<f64, Failure> {
        measure::warm(task.input);
        let mut command = runner.command(self.tools, task);
        let cost = measure::run(&mut command, self.options.timeout, task.spill);
        let said = said(&cost.stdout, &cost.stderr);
        row.verdict = match &cost.failed {
            Some(failed) => format!("failed: {failed}"),
            None => verdict(task, expected, &said).unwrap_or_else(|failure| failure.to_string()),
        };
        row.rows = said["rows_out"].as_u64().or(said["rows"].as_u64()).unwrap_or(0);
        row.scale = task.scale.to_string();
        self.add(row, &cost, &said)?;
        Ok(cost.wall_s)
    }

    /// Fills in what a process cost and keeps the row.
    pub fn add(&mut self, mut row: Row, cost: &Cost, said: &Value) -> Result<(), Failure> {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        (row.wall_s, row.cpu_s, row.other_cpu_s) = (cost.wall_s, cost.cpu_s, cost.other_cpu_s);
        row.query_s = said["query_s"].as_f64().or(said["elapsed_s"].as_f64()).unwrap_or(0.0);
        (row.resident_mb, row.anonymous_mb) = (mega(cost.resident), mega(cost.anonymous));
        row.spilled_mb = mega(said["spilled_bytes"].as_u64().unwrap_or(cost.spilled));
        let ok = row.verdict == "ok";
        (self.outcome.right, self.outcome.wrong) =
            (self.outcome.right + usize::from(ok), self.outcome.wrong + usize::from(!ok));
        let Row { section, x, workload, runner, variant, sink, .. } = &row;
        let name = [section, x, workload, runner, variant, sink].map(String::as_str).join(" ");
        println!("{name}: {:.3} s, {:.0} MB, {}", row.wall_s, row.resident_mb, row.verdict);
        let mut file = fs::OpenOptions::new().append(true).open(&self.options.record)?;
        writeln!(file, "{}", row.line())?;
        Ok(())
    }

    /// An empty folder for an output and one for spills; what was there is removed.
    pub fn clean(&self) -> Result<(PathBuf, PathBuf), Failure> {
        let (output, spill) = (self.folder.join("out"), self.folder.join("spill"));
        let _ = fs::remove_dir_all(&self.folder);
        fs::create_dir_all(&output)?;
        fs::create_dir_all(&spill)?;
        Ok((output, spill))
    }
}

impl Drop for Bench<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether the answer is right.
fn verdict(task: &Task<'_>, expected: &Value, said: &Value) -> Result<String, Failure> {
    let columns = task.workload.columns();
    if let Some(verdict) = said["verdict"].as_str() {
        // Data of its own, checked by itself.
        return Ok(verdict.to_owned());
    }
    if !said["check"].is_null() {
        let same = ["rows", "names", "hash"].iter().all(|field| said["check"][field] == expected[field]);
        return Ok(if same { "ok".into() } else { format!("{} instead of {expected}", said["check"]) });
    }
    if task.sink == "dropped" {
        let rows = said["rows_out"].as_u64().or(said["rows"].as_u64());
        return Ok(if rows == expected["rows"].as_u64() {
            "ok".into()
        } else {
            format!("{rows:?} rows instead of {}", expected["rows"])
        });
    }
    let got = match task.workload.kind {
        Kind::Shuffle => check::shuffled(task.output)?,
        kind => check::read(task.output, task.sink, &columns, kind != Kind::Log)?,
    };
    Ok(check::verdict(expected, &got, &columns))
}

/// The runners that are wanted and installed; of the others it is said why not.
fn installed(tools: &Tools, options: &Options) -> Vec<&'static Runner> {
    let wanted = RUNNERS.iter().filter(|runner| Options::wants(&options.runners, runner.name));
    let here = wanted.filter(|runner| match runner.version(tools) {
        Ok(_) => true,
        Err(missing) => {
            println!("skipped: {missing}");
            false
        }
    });
    here.collect()
}

/// The file that a runner is told to write: Spark and Flink make folders of it.
fn output(folder: &Path, workload: &Workload) -> PathBuf {
    match workload.kind {
        Kind::Shuffle => folder.join("parts"),
        _ => folder.join(format!("rows.{}", workload.sink())),
    }
}

/// The whole comparison.
pub fn run(tools: &Tools, options: &Options) -> Result<Outcome, Failure> {
    let mut data = options.data(tools)?;
    let runners = installed(tools, options);
    let mut bench = Bench::start(tools, options, &data)?;
    for workload in WORKLOADS.iter().filter(|w| Options::wants(&options.workloads, w.name)) {
        let (input, expected) = data.of(workload)?;
        let mut queries = Vec::new();
        for runner in &runners {
            for (variant, class) in runner.queries(workload, options.idiomatic) {
                // Flink's wheel writes no Parquet, and does not say how many rows it drops.
                let flink = runner.name == "flink";
                for sink in [if flink { "csv" } else { workload.sink() }, "dropped"] {
                    let dropped = sink == "dropped";
                    let wanted = Options::wants(&options.sinks, if dropped { "dropped" } else { "files" });
                    // The typed library and Spark's old streams hand rows to a closure; others do that only where they can.
                    let closure = matches!(runner.name, "windrow-typed" | "dstream");
                    let can = if dropped { workload.can_drop() && !flink } else { !closure };
                    if wanted && can {
                        queries.push((*runner, variant, class, sink, false));
                    }
                }
            }
        }
        for rep in 0..options.reps {
            for (runner, variant, class, sink, done) in &mut queries {
                if *done {
                    continue;
                }
                let (folder, spill) = bench.clean()?;
                let task = Task {
                    workload,
                    variant,
                    input: &input,
                    sink,
                    output: &output(&folder, workload),
                    spill: &spill,
                    threads: options.threads,
                    scale: options.scale,
                    extra: &[],
                };
                let row = Row {
                    section: "peers".into(),
                    workload: workload.name.into(),
                    runner: runner.name.into(),
                    variant: (*variant).into(),
                    class: (*class).into(),
                    sink: (*sink).into(),
                    rep,
                    ..Row::default()
                };
                if rep == 0 {
                    runner.prepare(tools, &task)?;
                }
                let wrong = bench.outcome.wrong;
                let wall = bench.measure(runner, &task, &expected, row)?;
                *done = wall > SLOW || bench.outcome.wrong > wrong;
            }
        }
    }
    Ok(std::mem::take(&mut bench.outcome))
}
