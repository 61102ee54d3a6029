//! The workloads: data, query, and how windrow's command line is told of them. Windows end on multiples of the slide; one
//! row for each window and key with a record in it.

use crate::Failure;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What kind of query a workload is; the peers' queries go by this.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Kind {
    /// Sliding or tumbling windows over Parquet.
    Hop,
    /// The same over logs.
    Log,
    /// One group-by.
    Group,
    /// Rows to partitions.
    Shuffle,
}

/// One of them.
#[derive(Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub kind: Kind,
    /// The file of its data, and what makes it: arguments of `generate` before the options.
    pub file: &'static str,
    make: &'static [&'static str],
    /// Records at full scale.
    pub rows: u64,
    /// Different keys, or 0 if they are texts.
    pub keys: u64,
    /// Window and slide, seconds.
    pub window: (u64, u64),
    /// Columns of the answer and windrow's aggregates.
    aggregates: &'static [(&'static str, &'static str)],
    /// The memory limit of windrow and of peers that have one.
    memory: Option<&'static str>,
}

const SUMS: &[(&str, &str)] = &[("cnt", "count"), ("sm", "sum(value)"), ("av", "avg(value)")];
const LOGS: &[(&str, &str)] = &[("cnt", "count"), ("sm", "sum(bytes)"), ("err", "count_if(status >= 500)")];
const LATENCIES: &[(&str, &str)] =
    &[("cnt", "count"), ("sm", "sum(bytes)"), ("err", "count_if(status >= 500)"), ("lat", "avg(latency_ms)")];
const MILLION: u64 = 1_000_000;

const H1: Workload = Workload {
    name: "H1",
    kind: Kind::Hop,
    file: "h1.parquet",
    make: &["hop", "--variant", "h1"],
    rows: 20 * MILLION,
    keys: 1000,
    window: (60, 1),
    aggregates: SUMS,
    memory: None,
};

const L1: Workload = Workload {
    name: "L1",
    kind: Kind::Log,
    file: "l1.log",
    make: &["log"],
    rows: 5 * MILLION,
    keys: 0,
    window: (300, 30),
    aggregates: LOGS,
    memory: None,
};

/// All workloads, in the order of the tables.
pub const WORKLOADS: [Workload; 13] = [
    H1,
    Workload { name: "H1d", file: "h1d.parquet", make: &["hop", "--variant", "h1d"], ..H1 },
    Workload { name: "H1s", file: "h1s.parquet", make: &["hop", "--variant", "h1s"], keys: 0, ..H1 },
    Workload { name: "H1x", file: "h1x.parquet", make: &["hop", "--variant", "h1x"], keys: 0, ..H1 },
    Workload { name: "H1z", file: "h1z.parquet", make: &["hop", "--variant", "h1z"], keys: MILLION, ..H1 },
    Workload {
        name: "H2",
        file: "h2.parquet",
        make: &["hop", "--variant", "h2"],
        keys: MILLION,
        window: (600, 60),
        ..H1
    },
    Workload { name: "H3", aggregates: &[("mn", "min(value)"), ("mx", "max(value)")], ..H1 },
    Workload {
        name: "T1",
        file: "t1.parquet",
        make: &["hop", "--variant", "t1"],
        rows: 50 * MILLION,
        keys: MILLION,
        window: (60, 60),
        aggregates: &[("cnt", "count"), ("sm", "sum(value)")],
        ..H1
    },
    L1,
    Workload { name: "L2", file: "l2.ndjson", make: &["ndjson"], aggregates: LATENCIES, ..L1 },
    Workload { name: "L3", file: "l3.csv", make: &["csv"], aggregates: LATENCIES, ..L1 },
    Workload {
        name: "S1",
        kind: Kind::Group,
        file: "s1.parquet",
        make: &["groups"],
        rows: 100 * MILLION,
        keys: 50 * MILLION,
        window: (0, 0),
        aggregates: &[("cnt", "count"), ("sm", "sum(value)")],
        memory: Some("512MiB"),
    },
    Workload {
        name: "S2",
        kind: Kind::Shuffle,
        file: "s2.parquet",
        make: &["rows"],
        rows: 30 * MILLION,
        keys: 5 * MILLION,
        window: (0, 0),
        aggregates: &[],
        memory: Some("512MiB"),
    },
];

/// Partitions of a shuffle.
pub const PARTITIONS: u32 = 64;

impl Workload {
    /// What the answer is written as.
    pub fn sink(&self) -> &'static str {
        if self.kind == Kind::Log { "csv" } else { "parquet" }
    }

    /// The same over other windows, in seconds.
    pub fn sliding(self, window: u64, slide: u64) -> Workload {
        Workload { window: (window, slide), ..self }
    }

    /// Whether its rows can be dropped instead: a shuffle without files is none.
    pub fn can_drop(&self) -> bool {
        self.kind != Kind::Shuffle
    }

    /// The columns that an answer must have, in the order of CSV files without a header.
    pub fn columns(&self) -> Vec<&'static str> {
        if self.aggregates.is_empty() {
            return Vec::new();
        }
        ["wend", "key"].into_iter().chain(self.aggregates.iter().map(|(name, _)| *name)).collect()
    }

    /// The field that rows are grouped by.
    fn key(&self) -> &'static str {
        if self.kind == Kind::Log { "path" } else { "key" }
    }

    /// What the peers' scripts are told.
    pub fn spec(&self, scale: f64) -> Value {
        json!({
            "workload": self.name, "kind": format!("{:?}", self.kind).to_lowercase(), "keys": self.keys,
            "rows": (self.rows as f64 * scale) as u64, "length": self.window.0, "slide": self.window.1,
            "dur": if self.kind == Kind::Log { 86_400 } else { 3600 },
            "aggs": self.aggregates.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        })
    }

    /// Arguments of `windrow replay` (or `shuffle`) over `input`.
    pub fn arguments(&self, input: &Path, output: &str, extra: &[&str]) -> Vec<String> {
        let mut arguments = vec![input.to_string_lossy().into_owned(), "--key".into(), self.key().into(), "-q".into()];
        let mut add = |more: &[&str]| arguments.extend(more.iter().map(|a| (*a).to_owned()));
        if self.kind == Kind::Shuffle {
            add(&["--partitions", &PARTITIONS.to_string()]);
        } else {
            let list: Vec<String> = self.aggregates.iter().map(|(name, agg)| format!("{agg} as {name}")).collect();
            add(&["--agg", &list.join(","), "--stats"]);
        }
        if self.window.0 > 0 {
            add(&["--window", &format!("{}s", self.window.0), "--slide", &format!("{}s", self.window.1)]);
        }
        if let Some(memory) = self.memory.filter(|_| !extra.contains(&"--memory")) {
            add(&["--memory", memory]);
        }
        add(extra);
        add(&["-o", output]);
        if self.kind == Kind::Shuffle {
            arguments.insert(0, "shuffle".into())
        } else {
            arguments.insert(0, "replay".into())
        }
        arguments
    }
}

/// A folder of generated data at one scale, with what the generator expects of each answer in `expect.json`.
pub struct Data {
    folder: PathBuf,
    generator: PathBuf,
    pub scale: f64,
    expected: Map<String, Value>,
}

impl Data {
    /// Opens or makes the folder.
    pub fn open(folder: PathBuf, generator: PathBuf, scale: f64) -> Result<Data, Failure> {
        fs::create_dir_all(&folder).map_err(|e| format!("cannot make {}: {e}", folder.display()))?;
        let text = fs::read_to_string(folder.join("expect.json")).unwrap_or_else(|_| "{}".into());
        let expected = serde_json::from_str(&text).map_err(|e| format!("{}/expect.json: {e}", folder.display()))?;
        Ok(Data { folder, generator, scale, expected })
    }

    /// A file in the folder.
    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// The data of a workload and what its answer must be; made if they are not there yet.
    pub fn of(&mut self, workload: &Workload) -> Result<(PathBuf, Value), Failure> {
        let scale = self.scale.to_string();
        let window = workload.window;
        self.made(workload.file, workload.make, &["--scale", &scale], window)
    }

    /// A file that `generate` makes with these arguments.
    pub fn made(
        &mut self,
        file: &str,
        make: &[&str],
        options: &[&str],
        (window, slide): (u64, u64),
    ) -> Result<(PathBuf, Value), Failure> {
        let path = self.path(file);
        // Answers of one file under several windows.
        let name = format!("{file} {window} {slide} {}", options.join(" "));
        if let (true, Some(expected)) = (path.is_file(), self.expected.get(&name)) {
            return Ok((path, expected.clone()));
        }
        eprintln!("making {}", path.display());
        let mut command = Command::new(&self.generator);
        command.args(make).args(options).arg("-o").arg(&path);
        if window > 0 {
            command.args(["--expect", &window.to_string(), &slide.to_string()]);
        }
        let output = command.output().map_err(|e| format!("cannot start {}: {e}", self.generator.display()))?;
        if !output.status.success() {
            return Err(format!("{file}: {}", String::from_utf8_lossy(&output.stderr).trim()).into());
        }
        let expected: Value = serde_json::from_slice(&output.stdout).map_err(|e| format!("{file}: {e}"))?;
        self.expected.insert(name, expected.clone());
        fs::write(self.folder.join("expect.json"), serde_json::to_string_pretty(&self.expected)?)?;
        Ok((path, expected))
    }
}
