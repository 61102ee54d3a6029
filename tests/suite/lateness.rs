//! Lateness bounds from outside: records are judged one by one in the order of the input, whatever the format, the row
//! groups and the threads are; what was dropped is told; memory holds what is open.

use crate::run::{file, rows, windrow, windrow_with};
use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::file::properties::WriterProperties;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

const ROWS: i64 = 150_000;

/// Count and sum by (end, key).
type Windows = BTreeMap<(i64, i64), (i64, i64)>;

/// Milliseconds of row `i`: a tenth of a second a row, now and then up to `disorder` tenths back, and in the middle one
/// that is a day ahead.
fn millis(i: i64, disorder: i64) -> i64 {
    if i == ROWS / 2 + 17 {
        return 86_400_000;
    }
    100 * (i - if i % 97 < 3 { i * 31 % (disorder + 1) } else { 0 })
}

/// Windows of 60 s every 20 s by key, with the bound in milliseconds, judged one by one: rows of (end, key, count, sum),
/// and how many were late and ahead.
fn judged(disorder: i64, bound: i64) -> (Windows, u64, u64) {
    let (mut all, mut late, mut ahead) = (BTreeMap::new(), 0, 0);
    let mut greatest = i64::MIN;
    for i in 0..ROWS {
        let ts = millis(i, disorder);
        if greatest > i64::MIN && ts - greatest > 3_600_000 {
            ahead += 1;
            continue;
        }
        let watermark = if greatest == i64::MIN { i64::MIN } else { greatest - bound };
        greatest = greatest.max(ts);
        let mut open = 0;
        for n in ts.div_euclid(20_000) - 2..=ts.div_euclid(20_000) {
            let end = n * 20_000 + 60_000;
            if end > watermark {
                open += 1;
                let row: &mut (i64, i64) = all.entry((end, i % 7)).or_default();
                *row = (row.0 + 1, row.1 + i);
            }
        }
        late += u64::from(open == 0);
    }
    (all, late, ahead)
}

fn parquet(path: &Path, disorder: i64, group: usize) {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new((0..ROWS).map(|i| Some(1000 * millis(i, disorder))).collect::<TimestampMicrosecondArray>())),
        ("key", Arc::new((0..ROWS).map(|i| Some(i % 7)).collect::<Int64Array>())),
        ("value", Arc::new((0..ROWS).map(Some).collect::<Int64Array>())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn the_cut_of_the_input_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ndjson = dir.path().join("events.ndjson");
    let input = dir.path().join("events.parquet");
    for (disorder, bound) in [(0, 0), (5, 0), (900, 0), (900, 30_000), (3000, 10_000)] {
        let (want, late, ahead) = judged(disorder, bound);
        assert!(disorder < 3000 || late > 0, "some records are late for all of their windows");
        assert_eq!(ahead, 1);
        let lines: String = (0..ROWS)
            .map(|i| format!("{{\"ts\":{},\"key\":{},\"value\":{i}}}\n", millis(i, disorder), i % 7))
            .collect();
        std::fs::write(&ndjson, lines).unwrap();
        let mut first: Option<String> = None;
        // Row groups of which some, none and all blocks are whole.
        for (group, threads) in [(0, "3"), (20_000, "2"), (131_072, "2"), (1_000_000, "1")] {
            let path = if group == 0 { &ndjson } else { &input };
            if group > 0 {
                parquet(path, disorder, group);
            }
            let bound = format!("{bound}ms");
            let mut args = vec!["replay", path.to_str().unwrap(), "--key", "key", "--window", "60s", "--slide", "20s"];
            args.extend(["--agg", "count,sum(value)", "--lateness", &bound, "--max-ahead", "1h", "--threads", threads]);
            args.extend(["--time-format", if group == 0 { "epoch_ms" } else { "auto" }, "--stats", "-q"]);
            let ran = windrow(&args).good();
            assert_eq!((ran.stat("late"), ran.stat("ahead"), ran.stat("read")), (late, ahead, ROWS as u64));
            let got: Windows = rows(&ran.out)
                .iter()
                .map(|cells| {
                    let end = windrow::time::TimeFormat::Auto.parse_bytes(cells[1].as_bytes()).unwrap() / 1000;
                    let int = |c: usize| cells[c].parse::<i64>().unwrap();
                    ((end, int(2)), (int(3), int(4)))
                })
                .collect();
            assert_eq!(got.len(), want.len(), "disorder {disorder}, bound {bound}, row groups of {group}");
            assert!(got == want, "disorder {disorder}, bound {bound}, row groups of {group}");
            // Keys of JSON hash as text, so their order is another one.
            if group > 0 {
                assert!(first.get_or_insert_with(|| ran.out.clone()) == &ran.out, "the same bytes");
            }
            args.push("--naive");
            assert!(windrow(&args).good().out == ran.out);
        }
    }
}

/// The rule word for word: of the inputs that have not ended the one with the smallest greatest time so far goes on (its
/// first record's before it has begun, ties by the order given), and the watermark is the least of those times less the bound.
fn merged(inputs: &[Vec<i64>], bound: i64) -> (BTreeMap<(i64, i64), i64>, u64) {
    let mut next = vec![0; inputs.len()];
    let mut greatest: Vec<i64> = inputs.iter().map(|times| times[0]).collect();
    let (mut all, mut late) = (BTreeMap::new(), 0);
    while let Some(i) = (0..inputs.len()).filter(|i| next[*i] < inputs[*i].len()).min_by_key(|i| greatest[*i]) {
        let ts = inputs[i][next[i]];
        // Before the very first record of an input there is nothing that it could be late for.
        let watermark = greatest[i] - bound;
        let mut open = 0;
        for n in ts.div_euclid(20_000) - 2..=ts.div_euclid(20_000) {
            if n * 20_000 + 60_000 > watermark {
                open += 1;
                *all.entry((n * 20_000 + 60_000, i as i64)).or_default() += 1;
            }
        }
        late += u64::from(open == 0);
        greatest[i] = greatest[i].max(ts);
        next[i] += 1;
    }
    (all, late)
}

#[test]
fn several_disordered_inputs_are_one_stream() {
    const LINES: i64 = 120_000;
    let dir = tempfile::tempdir().unwrap();
    // Starts in milliseconds: two that overlap, one that follows, one before all of them.
    let starts = [0, 3_000_000, 14_000_000, -9_000_000];
    let inputs: Vec<Vec<i64>> = starts
        .iter()
        .map(|start| (0..LINES).map(|i| start + 100 * (i - if i % 89 < 5 { i * 37 % 1500 } else { 0 })).collect())
        .collect();
    let mut paths = Vec::new();
    for (i, times) in inputs.iter().enumerate() {
        let line = |ts: &i64| format!("{{\"ts\":{ts},\"who\":{i},\"text\":\"some more text to make blocks of\"}}\n");
        let text: String = times.iter().map(line).collect();
        let path = dir.path().join(format!("{i}.ndjson{}", if i == 1 { ".gz" } else { "" }));
        if i == 1 {
            let mut writer = flate2::write::GzEncoder::new(File::create(&path).unwrap(), flate2::Compression::fast());
            writer.write_all(text.as_bytes()).unwrap();
            writer.finish().unwrap();
        } else {
            std::fs::write(&path, text).unwrap();
        }
        paths.push(path.to_str().unwrap().to_owned());
    }
    for bound in [0, 20_000, 90_000, 200_000] {
        let (want, late) = merged(&inputs, bound);
        assert_eq!(late > 0, bound < 150_000, "{late} late records");
        let mut first: Option<String> = None;
        for flags in [&["--threads", "1"][..], &["--threads", "4"], &["--naive"]] {
            let bound = format!("{bound}ms");
            let mut args = vec!["replay", "--key", "who", "--window", "60s", "--slide", "20s", "--lateness", &bound];
            args.extend(["--time-format", "epoch_ms", "--stats", "-q"].iter().chain(flags));
            args.extend(paths.iter().map(String::as_str));
            let ran = windrow(&args).good();
            assert_eq!(ran.stat("late"), late, "bound {bound}");
            let got: BTreeMap<(i64, i64), i64> = rows(&ran.out)
                .iter()
                .map(|cells| {
                    let end = windrow::time::TimeFormat::Auto.parse_bytes(cells[1].as_bytes()).unwrap() / 1000;
                    ((end, cells[2].parse().unwrap()), cells[3].parse().unwrap())
                })
                .collect();
            assert_eq!(got.len(), want.len());
            assert!(got == want, "bound {bound}");
            assert!(first.get_or_insert_with(|| ran.out.clone()) == &ran.out, "the same bytes");
        }
    }
}

#[test]
fn what_was_dropped_is_told_with_the_bound_that_would_have_kept_it() {
    let lines = "{\"ts\":100}\n{\"ts\":200}\n{\"ts\":99}\n{\"ts\":190}\n{\"ts\":9999}\n";
    let (_dir, path) = file("events.ndjson", lines.as_bytes());
    let args =
        ["replay", &path, "--window", "10s", "--lateness", "5s", "--max-ahead", "1h", "--time-format", "epoch_s"];
    let ran = windrow(&[&args[..], &["--stats"]].concat()).good();
    assert_eq!((ran.stat("late"), ran.stat("ahead"), ran.stat("max_disorder_us")), (1, 1, 101_000_000));
    assert_eq!(rows(&ran.out).len(), 3, "{}", ran.out);
    assert!(ran.err.contains("1 of 5 records came after all their windows had closed"), "{}", ran.err);
    assert!(ran.err.contains("--lateness 1m41s would have kept them all"), "{}", ran.err);
    assert!(ran.err.contains("1 of 5 records were too far ahead"), "{}", ran.err);
    let mut kept = args;
    kept[5] = "1m41s";
    let ran = windrow(&[&kept[..], &["--stats"]].concat()).good();
    assert_eq!((ran.stat("late"), ran.stat("used")), (0, 4));
}

#[test]
fn wrong_bounds_are_one_sentence() {
    let wrong = [
        (&["--lateness", "1s"][..], "--window"),
        (&["--window", "1s", "--max-ahead", "1s"][..], "--lateness"),
        (&["--window", "1s", "--lateness", "soon"][..], "--lateness"),
        (&["--window", "1s", "--lateness=-1s"][..], "negative"),
        (&["--window", "1s", "--lateness", "1s", "--max-ahead", "x"][..], "--max-ahead"),
    ];
    for (flags, part) in wrong {
        let error = windrow_with(&[&["replay", "--format", "json"], flags].concat(), b"{\"ts\":1}\n").fails(2);
        assert!(error.contains(part) && error.lines().count() <= 2, "{error}");
    }
}

/// Two million keys, none of which lives longer than a minute: what has left must not be kept.
#[test]
fn memory_holds_what_is_open() {
    let lines: String = (0..2_000_000u64)
        .map(|i| format!("{{\"ts\":{},\"key\":\"a key that is thirty bytes {i:07}\"}}\n", 1_600_000_000_000 + i * 6))
        .collect();
    let (_dir, path) = file("events.ndjson", lines.as_bytes());
    let args =
        ["replay", &path, "--key", "key", "--window", "60s", "--slide", "30s", "--agg", "count, max(ts)", "-o", "null"];
    let all = windrow(&[&args[..], &["--stats", "-q"]].concat()).good();
    let open = windrow(&[&args[..], &["--stats", "-q", "--lateness", "5s"]].concat()).good();
    assert_eq!(open.stats()["rows_checksum"], all.stats()["rows_checksum"]);
    assert_eq!(all.stat("keys"), 2_000_000);
    assert!(open.stat("keys") < 700_000, "{} keys were held", open.stat("keys"));
    assert!(open.stat("peak_memory_bytes") * 3 / 2 < all.stat("peak_memory_bytes"));
}

/// The lines of `--late`, for records of the format that `line` writes, of which the third and the fourth are left out.
fn left_out(name: &str, head: &str, line: impl Fn(i64, &str) -> String, flags: &[&str]) -> Vec<String> {
    let records = [(100, "a"), (200, "b"), (99, "c,\"d\""), (9999, "e"), (190, "f"), (201, "g")];
    let lines: String = records.iter().map(|(ts, text)| line(*ts, text) + "\n").collect();
    let (dir, path) = file(name, format!("{head}{lines}").as_bytes());
    let late = dir.path().join("late");
    let mut args = vec!["replay", &path, "--window", "10s", "--lateness", "5s", "--max-ahead", "1h", "--stats"];
    args.extend(["--late", late.to_str().unwrap()].iter().chain(flags));
    // The filter comes before lateness, but after what is ahead.
    let ran = windrow(&args).good();
    assert_eq!((ran.stat("late"), ran.stat("ahead")), (1, 1), "{}", ran.err);
    let got: Vec<String> = std::fs::read_to_string(&late).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(got, [line(99, "c,\"d\""), line(9999, "e")], "{name}");
    got
}

#[test]
fn what_was_left_out_is_written_as_it_stands() {
    let epoch = ["--time-format", "epoch_s"];
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let json = |ts: i64, text: &str| format!("{{\"ts\": {ts}, \"text\": {}}}", serde_json::Value::from(text));
    left_out("a.ndjson", "", json, &[&epoch[..], &["--where", "text <> 'b'"]].concat());
    left_out("a.csv", "ts,text\n", |ts, text| format!("{ts},{}", quoted(text)), &epoch);
    let pattern = ["--format", "regex", "--pattern", r"(?<ts>\d+) (?<text>.*)", "--time-format", "epoch_s"];
    left_out("a.log", "", |ts, text| format!("{ts} {text}"), &pattern);
    let access = |ts: i64, text: &str| {
        let at = format!("01/Jan/1970:{:02}:{:02}:{:02} +0000", ts / 3600, ts / 60 % 60, ts % 60);
        crate::run::line("10.0.0.1", &at, &format!("/{}", text.replace('"', "")), 200, "1").trim_end().to_owned()
    };
    left_out("access.log", "", access, &[]);
}

#[test]
fn late_rows_of_parquet_are_written_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let (input, late) = (dir.path().join("events.parquet"), dir.path().join("late.ndjson"));
    parquet(&input, 3000, 131_072);
    let mut args = vec!["replay", input.to_str().unwrap(), "--key", "key", "--window", "60s", "--agg", "sum(value)"];
    args.extend(["--lateness", "1s", "--max-ahead", "1h", "--late", late.to_str().unwrap(), "--stats", "-q"]);
    let ran = windrow(&args).good();
    let lines = std::fs::read_to_string(&late).unwrap();
    assert_eq!(lines.lines().count() as u64, ran.stat("late") + ran.stat("ahead"));
    assert!(ran.stat("late") > 100 && ran.stat("ahead") == 1);
    for line in lines.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let i = record["value"].as_i64().unwrap();
        assert_eq!(record["key"].as_i64(), Some(i % 7));
        let ts = windrow::time::TimeFormat::Auto.parse_bytes(record["ts"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(ts, 1000 * millis(i, 3000));
    }
    assert!(windrow(&["replay", input.to_str().unwrap(), "--late", "x"]).fails(2).contains("--lateness"));
}

#[test]
fn late_records_of_sessions_are_those_that_join_none() {
    // A session of `a` is open from 100 to 130 while 115 comes; 90 of `b` has none to join, and 250 is a day ahead.
    let lines = ["100,a", "130,a", "160,c", "115,a", "90,b", "86560,d", "161,c"];
    let (dir, path) = file("events.csv", ("ts,key\n".to_owned() + &lines.join("\n") + "\n").as_bytes());
    let late = dir.path().join("late");
    let args = ["replay", &path, "--key", "key", "--session", "20s", "--lateness", "12s", "--max-ahead", "1h"];
    let more = ["--time-format", "epoch_s", "--late", late.to_str().unwrap(), "--stats"];
    let ran = windrow(&[&args[..], &more].concat()).good();
    assert_eq!((ran.stat("late"), ran.stat("ahead"), ran.stat("used")), (1, 1, 5), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(&late).unwrap(), "90,b\n86560,d\n");
}
