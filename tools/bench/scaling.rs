//! How windrow's cost grows: with records, keys, slides per window, threads, and as its memory limit shrinks. Rows are
//! dropped; what they must be is known from the generator.

use crate::compare::Bench;
use crate::record::Row;
use crate::runners::{RUNNERS, Task};
use crate::workloads::{Data, WORKLOADS, Workload};
use crate::{Failure, Options, Outcome, Tools};
use serde_json::Value;
use std::path::PathBuf;

/// The series.
pub const SERIES: [&str; 5] = ["records", "keys", "ratio", "threads", "memory"];

/// Folds of records or cells that the engines which do not slide are let do: a minute or so.
const MOST_FOLDS: f64 = 3e9;

/// A point of a series.
struct Point {
    series: &'static str,
    x: String,
    workload: Workload,
    input: PathBuf,
    expected: Value,
    engine: &'static str,
    threads: usize,
    extra: Vec<String>,
}

fn workload(name: &str) -> Workload {
    WORKLOADS.into_iter().find(|w| w.name == name).unwrap_or(WORKLOADS[0])
}

/// All points of a series.
fn points(series: &'static str, data: &mut Data, options: &Options) -> Result<Vec<Point>, Failure> {
    let scaled = |rows: f64| ((rows * options.scale) as u64).max(1000).to_string();
    let (h1, h2) = (workload("H1"), workload("H2"));
    let mut points = Vec::new();
    let mut add = |x: String, workload: Workload, (input, expected), engine, threads, extra| {
        points.push(Point { series, x, workload, input, expected, engine, threads, extra });
    };
    let threads = options.threads;
    match series {
        "records" => {
            for times in [1, 4, 16] {
                let rows = scaled(1.25e6 * f64::from(times));
                let arguments = ["hop", "--variant", "h1"];
                let made = data.made(&format!("records-{times}.parquet"), &arguments, &["--rows", &rows], h1.window)?;
                add(rows, h1, made, "incremental", threads, Vec::new());
            }
        }
        "keys" => {
            for power in 2..=7 {
                let keys = 10u64.pow(power).to_string();
                let (rows, arguments) = (scaled(1e7), ["hop", "--variant", "h2"]);
                let options = ["--rows", &rows, "--keys", &keys];
                let made = data.made(&format!("keys-{power}.parquet"), &arguments, &options, h2.window)?;
                add(keys, h2, made, "incremental", threads, Vec::new());
            }
        }
        "ratio" => {
            let rows = scaled(4e6);
            let records: f64 = rows.parse()?;
            for ratio in [1, 10, 60, 600, 3600, 86_400] {
                let arguments = ["hop", "--variant", "h1"];
                let made = data.made("ratio.parquet", &arguments, &["--rows", &rows, "--keys", "100"], (ratio, 1))?;
                let at = h1.sliding(ratio, 1);
                // Records, or cells of panes of which there are 100 in each of 3,600 seconds.
                for (engine, each) in [("incremental", 0.0), ("remerge", 3.6e5), ("naive", records)] {
                    if each * ratio as f64 <= MOST_FOLDS {
                        add(ratio.to_string(), at, made.clone(), engine, threads, Vec::new());
                    }
                }
            }
        }
        "threads" => {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let counts = std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n <= cores);
            for threads in counts {
                for name in ["H1", "T1", "L1"] {
                    let workload = workload(name);
                    let made = data.of(&workload)?;
                    add(threads.to_string(), workload, made, "incremental", threads, Vec::new());
                }
            }
        }
        _ => {
            for limit in ["64MiB", "128MiB", "256MiB", "512MiB", "1GiB", "unlimited"] {
                let bytes = if limit == "unlimited" { "1TiB" } else { limit };
                let extra = vec!["--memory".into(), bytes.into()];
                let made = data.of(&h2)?;
                add(limit.into(), h2, made, "incremental", threads, extra);
            }
        }
    }
    Ok(points)
}

/// Measures the series.
pub fn run(tools: &Tools, options: &Options) -> Result<Outcome, Failure> {
    let mut data = options.data(tools)?;
    let mut bench = Bench::start(tools, options, &data)?;
    for series in SERIES.into_iter().filter(|series| Options::wants(&options.series, series)) {
        let points = points(series, &mut data, options)?;
        for rep in 0..options.reps {
            for point in &points {
                let (folder, spill) = bench.clean()?;
                let extra: Vec<&str> = point.extra.iter().map(String::as_str).collect();
                let task = Task {
                    workload: &point.workload,
                    variant: point.engine,
                    input: &point.input,
                    sink: "dropped",
                    output: &folder,
                    spill: &spill,
                    threads: point.threads,
                    scale: options.scale,
                    extra: &extra,
                };
                let row = Row {
                    section: point.series.into(),
                    x: point.x.clone(),
                    workload: point.workload.name.into(),
                    runner: "windrow".into(),
                    variant: point.engine.into(),
                    class: "windrow".into(),
                    sink: "dropped".into(),
                    rep,
                    ..Row::default()
                };
                bench.measure(&RUNNERS[0], &task, &point.expected, row)?;
            }
        }
    }
    Ok(std::mem::take(&mut bench.outcome))
}
