//! The README's tables, from the rows of a record. They stand between two marks, the first of which names the record, so a
//! test can make them again and compare.

#[path = "../plot/grouped.rs"]
mod grouped;

use crate::record::{Row, Runs};
pub use grouped::grouped;
use serde_json::Value;
use std::fmt::Write;

/// What stands before the name of the record, and what ends the tables.
pub const BEGIN: &str = "<!-- results of ";
pub const END: &str = "<!-- end of results -->";

/// What each workload is.
const ABOUT: [(&str, &str); 13] = [
    ("H1", "20 M events, 1 k keys, 60 s / 1 s, 3.66 M rows"),
    ("H1d", "H1 displaced by up to 60 s"),
    ("H1s", "H1 with text keys"),
    ("H1x", "H1 with keys over all of i64"),
    ("H1z", "H1 over 1 M keys, zipf 1.5"),
    ("H2", "20 M events, 1 M keys, 10 min / 1 min, 62.4 M rows"),
    ("H3", "H1 with min and max"),
    ("T1", "50 M events, 1 M zipf keys, tumbling 1 min, 7.2 M rows"),
    ("L1", "5 M lines of access log, 1.2 GB, 5 min / 30 s, 4.8 M rows"),
    ("L2", "the same as NDJSON, 1.3 GB, and avg(latency)"),
    ("L3", "the same as CSV, 0.9 GB, and avg(latency)"),
    ("S1", "100 M rows, 50 M keys, one group-by, limit 512 MiB"),
    ("S2", "30 M rows of 100 bytes into 64 partitions, read back"),
];

/// What a workload is, in words.
pub fn about(workload: &str) -> &str {
    ABOUT.iter().find(|(name, _)| *name == workload).map_or("", |(_, about)| about)
}

/// The names of runners, as people write them.
pub fn title(runner: &str) -> &str {
    match runner {
        "windrow-typed" => "windrow, typed",
        "duckdb" => "DuckDB",
        "polars" => "Polars",
        "chdb" => "chDB",
        "datafusion" => "DataFusion",
        "spark" => "Spark",
        "dstream" => "Spark DStream",
        "flink" => "Flink SQL",
        other => other,
    }
}

/// The tables in `readme`: what names their record, and they themselves.
pub fn find(readme: &str) -> Option<(&str, &str)> {
    let (_, rest) = readme.split_once(BEGIN)?;
    let (record, rest) = rest.split_once(" -->\n")?;
    Some((record, rest.split_once(END)?.0))
}

/// `readme` with these tables instead of its own.
pub fn replace(readme: &str, record: &str, tables: &str) -> Option<String> {
    find(readme)?;
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{record} -->\n{tables}{END}{after}"))
}

fn seconds(s: f64) -> String {
    if s < 9.995 { format!("{s:.2}") } else { format!("{s:.1}") }
}

fn memory(mb: f64) -> String {
    if mb < 999.5 { format!("{mb:.0} MB") } else { format!("{:.1} GB", mb / 1000.0) }
}

/// `0.51 s (0.50-0.53)`.
fn time(runs: &Runs<'_>) -> String {
    let [low, median, high] = runs.spread(|row| row.wall_s);
    match runs.rows.len() {
        1 => format!("{} s", seconds(median)),
        _ => format!("{} s ({}-{})", seconds(median), seconds(low), seconds(high)),
    }
}

/// The fastest of some queries whose answers are right.
fn best<'a, 'b>(all: &'b [Runs<'a>], choose: impl Fn(&Row) -> bool) -> Option<&'b Runs<'a>> {
    let right = all.iter().filter(|runs| runs.right() && choose(runs.first()));
    right.min_by(|a, b| a.wall().total_cmp(&b.wall()))
}

fn named(runs: Option<&Runs<'_>>) -> String {
    runs.map_or_else(|| "-".into(), |runs| format!("{} {} s", title(&runs.first().runner), seconds(runs.wall())))
}

/// Where and with what a record was made.
fn circumstances(note: &Value) -> String {
    let text = |field: &str| note[field].as_str().unwrap_or("?").to_owned();
    let versions: Vec<String> = note["versions"].as_object().map_or_else(Vec::new, |versions| {
        let peers = versions.iter().filter(|(name, _)| !name.starts_with("windrow") && *name != "dstream");
        peers.map(|(name, version)| format!("{} {}", title(name), version.as_str().unwrap_or("?"))).collect()
    });
    let peers = if versions.is_empty() { String::new() } else { format!(" Peers: {}.", versions.join(", ")) };
    format!(
        "{}, {} threads on {} cores, {} GB, Linux {}, at commit {}.{peers}",
        text("date"),
        note["threads"],
        note["cores"],
        note["memory_gb"],
        text("kernel"),
        text("commit"),
    )
}

/// Workloads against peers.
fn compared(rows: &[Row], out: &mut String) {
    let rows: Vec<&Row> = rows.iter().filter(|row| row.section == "peers").collect();
    if rows.is_empty() {
        return;
    }
    out.push_str(
        "| workload | windrow | memory | best tuned peer | memory | × | knows the key range | as first written \
         | rows dropped: windrow | peer |\n|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (workload, about) in ABOUT {
        let all = Runs::of(rows.iter().copied().filter(|row| row.workload == workload));
        let file = |row: &Row| row.sink != "dropped";
        let Some(ours) = best(&all, |row| row.runner == "windrow" && row.class == "windrow" && file(row)) else {
            continue;
        };
        let peer = |class: &str, dropped: bool| {
            best(&all, |row| row.class == class && row.runner != "windrow" && file(row) != dropped)
        };
        let tuned = peer("tuned", false);
        let ratio = tuned.map_or(0.0, |tuned| tuned.wall() / ours.wall());
        let ratio = match tuned {
            None => "-".into(),
            Some(_) if ratio < 1.0 => format!("**{ratio:.2}, lost**"),
            Some(_) => format!("{ratio:.1}"),
        };
        let dropped = best(&all, |row| row.runner == "windrow" && row.class == "windrow" && !file(row));
        let _ = writeln!(
            out,
            "| {workload}: {about} | {} | {} | {} | {} | {ratio} | {} | {} | {} | {} |",
            time(ours),
            memory(ours.resident()),
            tuned.map_or_else(|| "-".into(), |runs| format!("{} {}", title(&runs.first().runner), time(runs))),
            tuned.map_or_else(|| "-".into(), |runs| memory(runs.resident())),
            named(peer("range", false)),
            named(peer("idiomatic", false)),
            dropped.map_or_else(|| "-".into(), time),
            named(peer("tuned", true)),
        );
    }
    let wrong = rows.iter().filter(|row| row.verdict != "ok");
    let mut wrong: Vec<String> = wrong.map(|r| format!("{} {}: {}", r.workload, title(&r.runner), r.verdict)).collect();
    wrong.dedup();
    if !wrong.is_empty() {
        let _ = write!(out, "\nNot counted, because there was no right answer: {}.\n", wrong.join("; "));
    }
}

/// LightSaber's figures on a machine of this class, millions of tuples a second.
const LIGHTSABER: [(&str, &str); 6] =
    [("CM1", "147-210"), ("CM2", "-"), ("SG1", "188-208"), ("SG2", "22-28"), ("LRB1", "8-9"), ("ME1", "202-250")];

/// LightSaber's queries.
fn library(rows: &[Row], out: &mut String) {
    let all = Runs::of(rows.iter().filter(|row| row.section == "library"));
    if all.is_empty() {
        return;
    }
    out.push_str(
        "\n| LightSaber's query, through the library | windrow, M tuples/s | LightSaber (float32, in order only, no spill) \
         |\n|---|---|---|\n",
    );
    for (query, theirs) in LIGHTSABER {
        if let Some(runs) = all.iter().find(|runs| runs.first().workload == query && runs.right()) {
            let rate = |row: &Row| row.x.parse::<f64>().unwrap_or(0.0) / row.query_s.max(1e-9) / 1e6;
            let [low, median, high] = runs.spread(rate);
            let _ = writeln!(out, "| {query} | {median:.0} ({low:.0}-{high:.0}) | {theirs} |");
        }
    }
}

/// What growing costs.
fn scaling(rows: &[Row], out: &mut String) {
    let series = |name: &str| Runs::of(rows.iter().filter(|row| row.section == name && row.verdict == "ok"));
    let lines: [(&str, &str, &str); 5] = [
        ("records", "incremental", "records of H1"),
        ("keys", "incremental", "keys of H2, 10 M records"),
        ("ratio", "incremental", "slides per window, 4 M records, 100 keys"),
        ("threads", "incremental", "threads"),
        ("memory", "incremental", "memory limit of H2"),
    ];
    let mut head = "\n| as this grows | seconds, peak memory (rows dropped) |\n|---|---|\n".to_owned();
    for (name, engine, about) in lines {
        let all = series(name);
        let mut workloads: Vec<&str> = all.iter().map(|runs| runs.first().workload.as_str()).collect();
        workloads.dedup();
        let mut seen: Vec<&str> = Vec::new();
        for workload in workloads {
            if seen.contains(&workload) {
                continue;
            }
            seen.push(workload);
            let points = all.iter().filter(|runs| runs.first().workload == workload && runs.first().variant == engine);
            let point = |runs: &Runs<'_>| {
                let (x, time, memory) = (&runs.first().x, seconds(runs.wall()), memory(runs.resident()));
                format!("{}: {time} s, {memory}", x.parse().map_or_else(|_| x.clone(), grouped))
            };
            let points: Vec<String> = points.map(point).collect();
            let of = if name == "threads" { format!("{about}, {workload}") } else { about.to_owned() };
            let _ = writeln!(head, "| {of} | {} |", points.join("; "));
        }
    }
    if head.lines().count() > 3 {
        out.push_str(&head);
    }
}

/// All tables of a record, and the sentence on how it was made.
pub fn tables(rows: &[Row], note: &Value) -> String {
    let mut out = circumstances(note) + "\n\n";
    compared(rows, &mut out);
    library(rows, &mut out);
    scaling(rows, &mut out);
    out
}
