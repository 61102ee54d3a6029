//! What runs a workload: windrow's command line and its other engines, the typed library, and the peers' scripts in
//! `peers/`, with the query variants of each. A peer that is not installed is left out, and that is said.

use crate::workloads::{Kind, Workload};
use crate::{Failure, Tools};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A query of a runner: its name, and what kind of query it is (see `Row::class`).
pub type Variant = (&'static str, &'static str);

/// A program to measure.
pub struct Runner {
    pub name: &'static str,
    /// Python packages that it needs, the first of which gives its version.
    packages: &'static [&'static str],
    /// Whether it needs `java`.
    java: bool,
    variants: fn(&Workload) -> Vec<Variant>,
}

/// All of them.
pub const RUNNERS: [Runner; 9] = [
    Runner { name: "windrow", packages: &[], java: false, variants: windrow },
    Runner { name: "windrow-typed", packages: &[], java: false, variants: typed },
    Runner { name: "duckdb", packages: &["duckdb", "pyarrow"], java: false, variants: duckdb },
    Runner { name: "polars", packages: &["polars"], java: false, variants: polars },
    Runner { name: "chdb", packages: &["chdb", "pyarrow"], java: false, variants: chdb },
    Runner { name: "datafusion", packages: &["datafusion", "pyarrow"], java: false, variants: datafusion },
    Runner { name: "spark", packages: &["pyspark"], java: true, variants: spark },
    Runner { name: "dstream", packages: &["pyspark"], java: true, variants: dstream },
    Runner { name: "flink", packages: &["apache-flink"], java: true, variants: flink },
];

fn windrow(workload: &Workload) -> Vec<Variant> {
    let mut variants = vec![("incremental", "windrow")];
    if workload.name == "H1" {
        variants.extend([("remerge", "engine"), ("naive", "engine")]);
    }
    variants
}

fn typed(workload: &Workload) -> Vec<Variant> {
    if workload.name == "H1" { vec![("dstream", "windrow")] } else { Vec::new() }
}

fn duckdb(workload: &Workload) -> Vec<Variant> {
    match (workload.kind, workload.name) {
        (_, "T1") => vec![("idiomatic", "tuned"), ("tuned_onekey", "range")],
        (Kind::Hop, "H2" | "H1z") => vec![("tuned_panes", "tuned"), ("idiomatic_unnest", "idiomatic")],
        (Kind::Hop, _) => vec![("tuned_frame", "tuned"), ("idiomatic_unnest", "idiomatic")],
        (Kind::Log, _) => vec![("tuned", "tuned"), ("idiomatic", "idiomatic")],
        _ => vec![("idiomatic", "tuned")],
    }
}

fn polars(workload: &Workload) -> Vec<Variant> {
    match (workload.kind, workload.name) {
        (_, "H1") => {
            vec![("tuned_cumsum", "tuned"), ("tuned_onekey", "range"), ("idiomatic_streaming", "idiomatic")]
        }
        (_, "H2") => vec![("tuned_cumsum", "tuned"), ("tuned_onekey", "range")],
        (_, "H3") => vec![("tuned_rolling", "tuned"), ("idiomatic_streaming", "idiomatic")],
        (_, "H1d") => vec![("tuned_cumsum", "tuned"), ("tuned_onekey", "range")],
        (_, "H1z") => vec![("tuned_panes", "tuned")],
        (_, "T1") => vec![("tuned", "tuned"), ("tuned_onekey", "range"), ("idiomatic", "idiomatic")],
        (Kind::Hop, _) => vec![("tuned_cumsum", "tuned"), ("idiomatic_streaming", "idiomatic")],
        (Kind::Log, _) => vec![("tuned_dense", "tuned"), ("idiomatic", "idiomatic")],
        _ => vec![("idiomatic", "tuned")],
    }
}

fn chdb(workload: &Workload) -> Vec<Variant> {
    match (workload.kind, workload.name) {
        (Kind::Hop, "H3" | "H1z") => vec![("tuned_panes", "tuned"), ("idiomatic", "idiomatic")],
        (Kind::Hop, "T1") => vec![("idiomatic", "tuned")],
        (Kind::Hop, _) => vec![("tuned_cumsum", "tuned"), ("idiomatic", "idiomatic")],
        (Kind::Log, _) => vec![("tuned", "tuned"), ("idiomatic", "idiomatic")],
        _ => vec![("idiomatic", "tuned")],
    }
}

fn datafusion(workload: &Workload) -> Vec<Variant> {
    match (workload.kind, workload.name) {
        (Kind::Hop, "H2" | "H1z") => vec![("tuned_panes", "tuned"), ("idiomatic", "idiomatic")],
        (Kind::Hop, "T1") => vec![("idiomatic", "tuned")],
        (Kind::Hop, _) => vec![("tuned_frame", "tuned"), ("idiomatic", "idiomatic")],
        (Kind::Log, _) => vec![("tuned", "tuned"), ("idiomatic", "idiomatic")],
        // What its documentation suggests does not reach the writer as partitions.
        (Kind::Shuffle, _) => vec![("partitioned_by", "tuned")],
        _ => vec![("idiomatic", "tuned")],
    }
}

fn spark(workload: &Workload) -> Vec<Variant> {
    match (workload.kind, workload.name) {
        (Kind::Hop, "T1") => vec![("idiomatic", "tuned")],
        (Kind::Hop, _) => vec![("tuned_panes", "tuned"), ("idiomatic", "idiomatic")],
        (Kind::Log, _) => vec![("tuned", "tuned"), ("idiomatic", "idiomatic")],
        _ => vec![("idiomatic", "tuned")],
    }
}

fn dstream(workload: &Workload) -> Vec<Variant> {
    if workload.name == "H1" { vec![("b500000", "tuned")] } else { Vec::new() }
}

fn flink(workload: &Workload) -> Vec<Variant> {
    if matches!(workload.name, "H1" | "H3" | "L2") { vec![("idiomatic", "idiomatic")] } else { Vec::new() }
}

/// How a runner is to be started once.
pub struct Task<'a> {
    pub workload: &'a Workload,
    pub variant: &'a str,
    pub input: &'a Path,
    /// `parquet`, `csv` or `dropped`.
    pub sink: &'a str,
    pub output: &'a Path,
    pub spill: &'a Path,
    pub threads: usize,
    pub scale: f64,
    /// More options of windrow.
    pub extra: &'a [&'a str],
}

impl Runner {
    /// Its queries of a workload: all, or those that are well tuned.
    pub fn queries(&self, workload: &Workload, idiomatic: bool) -> Vec<Variant> {
        let all = (self.variants)(workload);
        all.into_iter().filter(|(_, class)| idiomatic || *class != "idiomatic").collect()
    }

    fn python(&self, tools: &Tools) -> PathBuf {
        if self.name == "flink" { tools.python_flink.clone() } else { tools.python.clone() }
    }

    /// Its version; or a sentence that says what is missing.
    pub fn version(&self, tools: &Tools) -> Result<String, String> {
        let run = |program: &Path, arguments: &[&str]| -> Result<String, String> {
            let output = Command::new(program).args(arguments).output();
            let output = output.map_err(|e| format!("cannot start {}: {e}", program.display()))?;
            let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
            let said = String::from_utf8_lossy(&said).trim().lines().last().unwrap_or_default().to_owned();
            if output.status.success() { Ok(said) } else { Err(said) }
        };
        let Some(first) = self.packages.first() else {
            return run(&tools.windrow, &["--version"]);
        };
        if self.java {
            run(Path::new("java"), &["-version"]).map_err(|_| format!("{} needs java", self.name))?;
        }
        let python = self.python(tools);
        let names = self.packages.iter().map(|name| format!("m.version('{name}')")).collect::<Vec<_>>().join(", ");
        run(&python, &["-c", &format!("import importlib.metadata as m; print([{names}][0])")]).map_err(|_| {
            format!(
                "{} is not installed for {} (pip install {first}, versions in tools/bench/requirements.txt)",
                self.name,
                python.display()
            )
        })
    }

    /// Has what it needs beside the data made: other formats, compiled classes.
    pub fn prepare(&self, tools: &Tools, task: &Task<'_>) -> Result<(), Failure> {
        if !matches!(self.name, "flink" | "dstream") {
            return Ok(());
        }
        let output = self.peer(tools, task, true).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() { Ok(()) } else { Err(format!("{}: {}", self.name, said.trim()).into()) }
    }

    /// The command that runs a task.
    pub fn command(&self, tools: &Tools, task: &Task<'_>) -> Command {
        let threads = task.threads.to_string();
        let mut command = match self.name {
            "windrow" => {
                let mut extra = vec!["--threads", &threads];
                match task.variant {
                    "naive" => extra.push("--naive"),
                    "remerge" => extra.extend(["--engine", "remerge"]),
                    _ => {}
                }
                extra.extend(task.extra);
                let spill = task.spill.to_string_lossy();
                extra.extend(["--spill-dir", &spill]);
                let output = if task.sink == "dropped" { "null".into() } else { task.output.to_string_lossy() };
                let arguments = task.workload.arguments(task.input, &output, &extra);
                if task.workload.kind == Kind::Shuffle {
                    // Written, then read back once.
                    let mut command = Command::new("sh");
                    let back = "\"$0\" \"$@\" && exec \"$0\" replay \"$BACK\" -q --stats -o null \
                                --agg 'count, sum(key), sum(value), max(payload)'";
                    command.args(["-c", back]).arg(&tools.windrow).args(arguments);
                    command.env("BACK", format!("{output}/*.parquet"));
                    command
                } else {
                    let mut command = Command::new(&tools.windrow);
                    command.args(arguments);
                    command
                }
            }
            "windrow-typed" => {
                let mut command = Command::new(&tools.typed);
                command.args(["typed", "--threads", &threads]).arg(task.input);
                command
            }
            _ => self.peer(tools, task, false),
        };
        command.env("TMPDIR", task.spill);
        command
    }

    fn peer(&self, tools: &Tools, task: &Task<'_>, prepare: bool) -> Command {
        let mut spec: Value = task.workload.spec(task.scale);
        let set = json!({
            "variant": task.variant, "path": task.input, "sink": task.sink, "out": task.output, "spill": task.spill,
            "threads": task.threads, "prepare": prepare,
        });
        if let (Value::Object(spec), Value::Object(set)) = (&mut spec, set) {
            spec.extend(set);
        }
        let mut command = Command::new(self.python(tools));
        command.arg(tools.peers.join(format!("peer_{}.py", self.name))).arg(spec.to_string());
        command
    }
}

/// What a process said of itself: windrow's statistics, or the line `RESULT` of a script.
pub fn said(stdout: &str, stderr: &str) -> Value {
    let object = |line: &str| serde_json::from_str(line).ok();
    let result = stdout.lines().find_map(|line| object(line.strip_prefix("RESULT ")?));
    let statistics = || stderr.lines().rev().find_map(|line| object(line.strip_prefix('{').map(|_| line)?));
    result.or_else(statistics).unwrap_or(Value::Null)
}
