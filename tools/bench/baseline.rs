//! Criterion's results, kept as a small CSV that can be committed, and compared with what `cargo bench` measured last.
//!
//! `cargo bench -- partition && sh tools/bench/run baseline save benches/record/criterion.csv` keeps them;
//! after a change, `cargo bench -- partition && sh tools/bench/run baseline diff benches/record/criterion.csv` compares. A bench
//! is called slower (or faster) if the intervals of its medians, 95 % each, lie apart and the medians by more than 5 %.

use crate::Failure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::Path;

const COLUMNS: &str = "bench,elements,bytes,median_ns,low_ns,high_ns";

/// Medians closer than this are called the same.
const NOISE: f64 = 0.05;

/// What one bench took.
#[derive(Clone, Copy)]
struct Bench {
    elements: u64,
    bytes: u64,
    /// Nanoseconds of an iteration: median and the bounds of its interval.
    nanos: [f64; 3],
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// Every result below a folder of criterion's.
fn measured(folder: &Path, into: &mut BTreeMap<String, Bench>) {
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|p| p.is_dir()) {
        let (bench, times) = (json(&path.join("new/benchmark.json")), json(&path.join("new/estimates.json")));
        if let (Some(bench), Some(times)) = (bench, times) {
            let median = &times["median"];
            let interval = &median["confidence_interval"];
            let nanos = [&median["point_estimate"], &interval["lower_bound"], &interval["upper_bound"]];
            let both = &bench["throughput"]["ElementsAndBytes"];
            let of =
                |name: &str| bench["throughput"][name].as_u64().or(both[name.to_lowercase()].as_u64()).unwrap_or(0);
            let found = Bench {
                elements: of("Elements"),
                bytes: of("Bytes"),
                nanos: nanos.map(|nanos| nanos.as_f64().unwrap_or(f64::NAN)),
            };
            if let Some(name) = bench["full_id"].as_str() {
                into.insert(name.replace(',', ";"), found);
            }
        } else {
            measured(&path, into);
        }
    }
}

fn read(path: &Path) -> Result<BTreeMap<String, Bench>, Failure> {
    let text = fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let mut lines = text.lines();
    if lines.next() != Some(COLUMNS) {
        return Err(format!("{} is no baseline: its first line is not {COLUMNS}", path.display()).into());
    }
    let parse = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let [name, elements, bytes, median, low, high] = fields[..] else { return None };
        let nanos = [median.parse().ok()?, low.parse().ok()?, high.parse().ok()?];
        Some((name.to_owned(), Bench { elements: elements.parse().ok()?, bytes: bytes.parse().ok()?, nanos }))
    };
    let wrong = |line: &str| Failure::from(format!("{}: no bench: {line}", path.display()));
    lines.map(|line| parse(line).ok_or_else(|| wrong(line))).collect()
}

/// Saves or compares; false if something got slower.
pub fn run(words: &[String]) -> Result<bool, Failure> {
    let [what, file] = words else { return Err("say baseline save FILE, or baseline diff FILE".into()) };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), std::path::PathBuf::from);
    let (folder, file) = (target.join("criterion"), Path::new(file));
    let mut now = BTreeMap::new();
    measured(&folder, &mut now);
    if now.is_empty() {
        return Err(format!("there are no results in {}; run `cargo bench`", folder.display()).into());
    }
    if what == "save" {
        // What was not measured again stays.
        let mut all = if file.exists() { read(file)? } else { BTreeMap::new() };
        all.extend(now);
        let mut text = format!("{COLUMNS}\n");
        for (name, Bench { elements, bytes, nanos: [median, low, high] }) in all {
            let _ = writeln!(text, "{name},{elements},{bytes},{median:.0},{low:.0},{high:.0}");
        }
        fs::write(file, text)?;
        return Ok(true);
    }
    if what != "diff" {
        return Err(format!("unknown {what:?}; say baseline save FILE, or baseline diff FILE").into());
    }
    let before = read(file)?;
    let mut slower = 0;
    for (name, now) in &now {
        let Some(before) = before.get(name) else {
            println!("{name}: new");
            continue;
        };
        if (before.elements, before.bytes) != (now.elements, now.bytes) {
            println!("{name}: other data than in the baseline");
            continue;
        }
        let ratio = now.nanos[0] / before.nanos[0];
        let apart = now.nanos[1] > before.nanos[2] || now.nanos[2] < before.nanos[1];
        let word = match ratio {
            _ if !apart || (ratio - 1.0).abs() <= NOISE => "same",
            1.0.. => "SLOWER",
            _ => "faster",
        };
        slower += usize::from(word == "SLOWER");
        println!("{name}: {:.3} ms, was {:.3} ms, x {ratio:.2} {word}", now.nanos[0] / 1e6, before.nanos[0] / 1e6);
    }
    println!("{} benches compared, {slower} slower", now.len());
    Ok(slower == 0)
}
