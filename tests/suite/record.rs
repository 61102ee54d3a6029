//! The README's tables are those of the record that they name.

use serde_json::Value;
use std::fs;
use std::path::Path;

#[allow(dead_code)]
#[path = "../../tools/bench/record.rs"]
mod rows;
#[allow(dead_code)]
#[path = "../../tools/bench/table.rs"]
mod table;
pub use rows::{Row, Runs};

/// What the README shows, and the record behind it.
fn published() -> (String, String, Vec<Row>, Value) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (record, tables) = table::find(&readme).expect("the README has tables");
    let read = |path: &Path| fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let rows = rows::parse(&read(Path::new(record))).unwrap();
    let note = serde_json::from_str(&read(&Path::new(record).with_extension("json"))).unwrap();
    (record.to_owned(), tables.to_owned(), rows, note)
}

#[test]
fn the_readme_shows_what_its_record_says() {
    let (record, tables, rows, note) = published();
    assert!(rows.iter().any(|row| row.section == "peers" && row.runner != "windrow"), "{record} knows no peer");
    let again = table::tables(&rows, &note);
    assert!(
        tables == again,
        "README.md differs from {record}; run `sh tools/bench/run report --record {record}`. It should be:\n{again}"
    );
}

#[test]
fn another_figure_gives_another_table() {
    let (_, tables, mut rows, note) = published();
    rows.iter_mut().filter(|row| row.runner == "windrow").for_each(|row| row.wall_s *= 2.0);
    assert_ne!(tables, table::tables(&rows, &note));
}

#[test]
fn rows_are_read_as_they_are_written() {
    let row = Row { x: "64MiB".into(), wall_s: 1.25, rows: 7, verdict: "2 rows, not 3".into(), ..Row::default() };
    let text = format!("{}\n{}\n", rows::COLUMNS, row.line());
    let read = rows::parse(&text).unwrap();
    // Commas would be ends of fields.
    assert_eq!(read, [Row { verdict: "2 rows; not 3".into(), ..row }]);
    assert!(rows::parse("something,else\n").is_err());
    assert!(rows::parse(&format!("{text}a,b\n")).unwrap_err().contains("line 3"));
}

#[test]
fn wrong_answers_are_in_no_table_and_are_told() {
    let row = |runner: &str, wall_s: f64, verdict: &str| Row {
        section: "peers".into(),
        workload: "H1".into(),
        runner: runner.into(),
        class: if runner == "windrow" { "windrow" } else { "tuned" }.into(),
        sink: "parquet".into(),
        verdict: verdict.into(),
        wall_s,
        ..Row::default()
    };
    let rows = [row("windrow", 1.0, "ok"), row("duckdb", 0.1, "3 rows instead of 4"), row("polars", 0.8, "ok")];
    let text = table::tables(&rows, &Value::Null);
    assert!(text.contains("| Polars 0.80 s | 0 MB | **0.80, lost** |"), "{text}");
    assert!(text.contains("Not counted, because there was no right answer: H1 DuckDB: 3 rows instead of 4."), "{text}");
}
