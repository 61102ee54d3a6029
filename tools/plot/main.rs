//! `plot`: the picture of the sliding bench, from what criterion left in `target/criterion`.
//!
//! `cargo bench -- sliding && cargo run --release --example plot` writes `tools/plot/sliding.svg` and, beside it, the same
//! numbers as `sliding.csv`. One panel for each number of keys; both axes are logarithmic; what is drawn is criterion's
//! median time divided by the elements of the bench (records in and rows out).

mod grouped;
mod svg;

use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One bench: an engine at a point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// `naive`, `remerge` or `incremental`.
    pub engine: String,
    /// Different keys in the stream.
    pub keys: u64,
    /// Slides per window.
    pub ratio: u64,
    /// Records in and rows out of one iteration.
    pub elements: u64,
    /// Nanoseconds of one iteration: median, and the bounds of its confidence interval.
    pub nanos: [f64; 3],
}

impl Point {
    /// Nanoseconds per record and row.
    pub fn per_element(&self) -> f64 {
        self.nanos[0] / self.elements as f64
    }
}

const USAGE: &str = "usage: plot [SVG [CRITERION]]
  SVG        where the picture goes, a .csv of the same numbers beside it (default tools/plot/sliding.svg)
  CRITERION  criterion's folder (default target/criterion)";

/// Every bench of the group `sliding` below `folder`.
fn points(folder: &Path) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for folder in folders(folder)? {
        let (bench, estimates) = (folder.join("new/benchmark.json"), folder.join("new/estimates.json"));
        if !bench.is_file() || !estimates.is_file() {
            for inner in folders(&folder)? {
                let (bench, estimates) = (inner.join("new/benchmark.json"), inner.join("new/estimates.json"));
                if bench.is_file() && estimates.is_file() {
                    points.extend(point(&read(&bench)?, &read(&estimates)?));
                }
            }
        } else {
            points.extend(point(&read(&bench)?, &read(&estimates)?));
        }
    }
    points.sort_by(|a, b| (a.keys, &a.engine, a.ratio).cmp(&(b.keys, &b.engine, b.ratio)));
    if points.is_empty() {
        return Err(format!("no results of the sliding bench in {}; run `cargo bench -- sliding`", folder.display()));
    }
    Ok(points)
}

fn folders(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(folder).map_err(|error| format!("cannot read {}: {error}", folder.display()))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect())
}

fn read(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is not criterion's: {error}", path.display()))
}

/// A point from criterion's two files; `None` if they belong to another group of benches.
fn point(bench: &Value, estimates: &Value) -> Option<Point> {
    if bench["group_id"] != "sliding" {
        return None;
    }
    let (engine, keys) = bench["function_id"].as_str()?.strip_suffix(" keys")?.split_once(", ")?;
    let throughput = &bench["throughput"];
    let both = &throughput["ElementsAndBytes"]["elements"];
    let elements = both.as_u64().or_else(|| throughput["Elements"].as_u64())?;
    let median = &estimates["median"];
    let interval = &median["confidence_interval"];
    Some(Point {
        engine: engine.to_owned(),
        keys: keys.parse().ok()?,
        ratio: bench["value_str"].as_str()?.parse().ok()?,
        elements,
        nanos: [&median["point_estimate"], &interval["lower_bound"], &interval["upper_bound"]]
            .map(|value| value.as_f64().unwrap_or(f64::NAN)),
    })
    .filter(|point| point.elements > 0 && point.nanos[0] > 0.0)
}

fn csv(points: &[Point]) -> String {
    let mut text = "keys,engine,window_over_slide,records_and_rows,ns_per_record_or_row,ns_low,ns_high\n".to_owned();
    for point in points {
        let [median, low, high] = point.nanos.map(|nanos| nanos / point.elements as f64);
        let Point { engine, keys, ratio, elements, .. } = point;
        let _ = writeln!(text, "{keys},{engine},{ratio},{elements},{median:.2},{low:.2},{high:.2}");
    }
    text
}

fn run(arguments: &[String]) -> Result<(), String> {
    let path = PathBuf::from(arguments.first().map_or("tools/plot/sliding.svg", String::as_str));
    let criterion = PathBuf::from(arguments.get(1).map_or("target/criterion", String::as_str));
    let points = points(&criterion.join("sliding"))?;
    for (path, text) in [(path.clone(), svg::draw(&points)), (path.with_extension("csv"), csv(&points))] {
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.len() > 2 || arguments.iter().any(|a| a.starts_with('-')) {
        println!("{USAGE}");
        return ExitCode::from(2);
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plot: {error}");
            ExitCode::FAILURE
        }
    }
}
