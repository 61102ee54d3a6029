//! The report of a record: one HTML page that holds its pictures and every median, the pictures as files beside it, and the
//! tables of the README.

use crate::charts::{Line, dots, lines};
use crate::record::{self, Row, Runs};
use crate::table::{self, about, title};
use crate::{Failure, Options};
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// A picture: the end of its file's name, and itself.
type Picture = (&'static str, String);

/// The fastest right query of each runner.
fn time_per_peer(rows: &[Row]) -> Option<Picture> {
    let all = Runs::of(rows.iter().filter(|row| row.section == "peers" && row.sink != "dropped"));
    let mut runners: Vec<String> = Vec::new();
    let mut workloads: Vec<String> = Vec::new();
    for runs in &all {
        let Row { runner, workload, .. } = runs.first();
        for (name, names) in [(runner, &mut runners), (workload, &mut workloads)] {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    let fastest = |workload: &str, runner: &str| {
        let of = all.iter().filter(|runs| {
            let first = runs.first();
            first.workload == workload && first.runner == runner && first.class != "engine" && runs.right()
        });
        of.map(Runs::wall).min_by(f64::total_cmp)
    };
    let row = |workload: &String| {
        let dots = runners.iter().enumerate().filter_map(|(i, runner)| Some((i, fastest(workload, runner)?)));
        (workload.clone(), dots.collect())
    };
    let rows: Vec<(String, Vec<(usize, f64)>)> = workloads.iter().map(row).collect();
    let names: Vec<String> = runners.iter().map(|runner| title(runner).to_owned()).collect();
    let heading = "Whole process, the fastest right query of each, answers written to files";
    (!rows.is_empty()).then(|| ("time", dots(heading, "seconds", &names, &rows)))
}

/// Lines of a series, one for each of `name`, over a figure.
fn series(rows: &[Row], section: &str, name: fn(&Row) -> &str, figure: fn(&Runs<'_>) -> f64) -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for runs in Runs::of(rows.iter().filter(|row| row.section == section && row.verdict == "ok")) {
        let first = runs.first();
        let x = first.x.strip_suffix("MiB").unwrap_or(&first.x);
        let Ok(x) = x.parse::<f64>() else { continue };
        let point = (x, figure(&runs));
        match all.iter_mut().find(|line| line.name == name(first)) {
            Some(line) => line.points.push(point),
            None => all.push(Line { name: name(first).to_owned(), points: vec![point] }),
        }
    }
    all
}

/// All pictures that the rows allow.
fn pictures(rows: &[Row]) -> Vec<Picture> {
    let engine: fn(&Row) -> &str = |row| &row.variant;
    let workload: fn(&Row) -> &str = |row| &row.workload;
    let wall: fn(&Runs<'_>) -> f64 = |runs| runs.wall();
    let resident: fn(&Runs<'_>) -> f64 = |runs| runs.resident();
    // A name, a series, a title, the names of the axes, what names a line, the figure.
    type Wanted = (&'static str, &'static str, &'static str, [&'static str; 2], fn(&Row) -> &str, fn(&Runs<'_>) -> f64);
    let wanted: [Wanted; 6] = [
        (
            "engines",
            "ratio",
            "Three engines over window/slide, slide 1 s, 100 keys",
            ["slides per window", "seconds"],
            engine,
            wall,
        ),
        ("keys-memory", "keys", "Peak resident memory over keys (H2's shape)", ["keys", "MB"], engine, resident),
        ("keys-time", "keys", "Time over keys (H2's shape)", ["keys", "seconds"], engine, wall),
        ("records", "records", "Time over records (H1's shape)", ["records", "seconds"], engine, wall),
        ("threads", "threads", "Time over threads", ["threads", "seconds"], workload, wall),
        ("limit", "memory", "H2 within a memory limit", ["MiB", "seconds"], engine, wall),
    ];
    let mut all: Vec<Picture> = time_per_peer(rows).into_iter().collect();
    for (name, section, title, [x, y], line, figure) in wanted {
        let drawn = series(rows, section, line, figure);
        if drawn.iter().any(|line| line.points.len() > 1) {
            all.push((name, lines(title, x, y, &drawn)));
        }
    }
    all
}

const CSS: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#24292f;\
background:#fff}table{border-collapse:collapse;font-size:13px}td,th{padding:.2rem .6rem;border-bottom:1px solid #d0d7de;\
text-align:right}td:nth-child(-n+4),th:nth-child(-n+4){text-align:left}.bad{color:#b3431f}\
@media (prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}td,th{border-color:#30363d}}";

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn page(rows: &[Row], note: &Value, pictures: &[Picture]) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>windrow: measurements</title>\n\
         <style>{CSS}</style>\n<h1>windrow: measurements</h1>\n<pre>{}</pre>\n",
        escape(&serde_json::to_string_pretty(note).unwrap_or_default())
    );
    for (_, picture) in pictures {
        out.push_str(picture);
    }
    out.push_str(
        "<h2>Every query</h2>\n<table><tr><th>section<th>workload<th>runner<th>query<th>sink<th>n<th>wall s<th>least<th>\
         greatest<th>CPU s<th>in the process s<th>resident MB<th>anonymous MB<th>spilled MB<th>rows<th>answer</tr>\n",
    );
    for runs in Runs::of(rows) {
        let first = runs.first();
        let [low, wall, high] = runs.spread(|row| row.wall_s);
        let median = |figure: fn(&Row) -> f64| runs.spread(figure)[1];
        let wrong = runs.rows.iter().find(|row| row.verdict != "ok");
        let verdict = wrong.map_or("right".into(), |row| format!("<span class=bad>{}</span>", escape(&row.verdict)));
        let _ = writeln!(
            out,
            "<tr><td>{} {}<td title=\"{}\">{}<td>{}<td>{}<td>{}<td>{}<td>{wall:.3}<td>{low:.3}<td>{high:.3}<td>{:.2}<td>{:.3}\
             <td>{:.0}<td>{:.0}<td>{:.0}<td>{}<td>{verdict}</tr>",
            first.section,
            first.x,
            about(&first.workload),
            first.workload,
            title(&first.runner),
            first.variant,
            first.sink,
            runs.rows.len(),
            median(|row| row.cpu_s),
            median(|row| row.query_s),
            median(|row| row.resident_mb),
            median(|row| row.anonymous_mb),
            median(|row| row.spilled_mb),
            first.rows,
        );
    }
    out + "</table>\n</html>\n"
}

/// Writes the report of the record, and the README's tables.
pub fn run(options: &Options) -> Result<(), Failure> {
    let path = &options.record;
    let text = fs::read_to_string(path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
    let rows = record::parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let note = fs::read_to_string(path.with_extension("json")).unwrap_or_else(|_| "null".into());
    let note: Value = serde_json::from_str(&note)?;
    let pictures = pictures(&rows);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let beside = |name: &str| path.with_file_name(name);
    for (name, picture) in &pictures {
        fs::write(beside(&format!("{stem}-{name}.svg")), picture)?;
    }
    let html = beside(&format!("{stem}.html"));
    fs::write(&html, page(&rows, &note, &pictures))?;
    println!("{} and {} pictures", html.display(), pictures.len());
    readme(&options.readme, path, &table::tables(&rows, &note))
}

fn readme(readme: &Path, record: &Path, tables: &str) -> Result<(), Failure> {
    let text = fs::read_to_string(readme).map_err(|e| format!("cannot read {}: {e}", readme.display()))?;
    match table::replace(&text, &record.to_string_lossy(), tables) {
        Some(new) => fs::write(readme, new)?,
        None => return Err(format!("{} has no place for tables: {}... -->", readme.display(), table::BEGIN).into()),
    }
    println!("tables of {}", readme.display());
    Ok(())
}
