//! `windrow shuffle`: every record in the file of its key, in input order, whole, whatever the memory.

use crate::run::{file, windrow, windrow_with};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

fn manifest(dir: &Path) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join("manifest.json")).unwrap()).unwrap()
}

/// The parts as texts, checked against the manifest.
fn parts(dir: &Path, partitions: usize, ending: &str) -> Vec<String> {
    let manifest = manifest(dir);
    assert_eq!(manifest["partitions"], partitions);
    assert_eq!(manifest["hash"], "rapidhash v3");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), partitions + 1);
    let texts = (0..partitions).map(|p| {
        let said = &manifest["files"][p];
        assert_eq!(said["file"], format!("part-{p:05}.{ending}"));
        let text = std::fs::read_to_string(dir.join(said["file"].as_str().unwrap())).unwrap();
        assert_eq!(said["bytes"], text.len());
        let header = usize::from(ending == "csv");
        assert_eq!(said["rows"], text.lines().count() - header);
        text
    });
    texts.collect()
}

/// Which part a text key belongs to, by the published hash.
fn part_of(key: &[u8], partitions: u32) -> usize {
    let hash = rapidhash::v3::rapidhash_v3(key);
    ((u128::from(hash) * u128::from(partitions)) >> 64) as usize
}

#[test]
fn ndjson_records_arrive_as_they_stand() {
    let record = |i: u32| {
        format!("{{\"user\": \"u{}\",\"n\":{i}, \"deep\":{{\"a\":[1,{i}]}},\"text\":\"\\u00e9\\n{i}\"}}", i % 17)
    };
    let lines: Vec<String> = (0..3000).map(record).collect();
    let text = format!("\u{feff}  {} \r\nnot json\n{}\n", lines[0], lines[1..].join("\n"));
    let (dir, input) = file("in.ndjson", text.as_bytes());
    let out = dir.path().join("out");
    let args = ["shuffle", &input, "--key", "user", "--partitions", "5", "-o", out.to_str().unwrap(), "--stats"];
    let ran = windrow(&[&args[..], &["--output-format", "ndjson"]].concat()).good();
    assert_eq!((ran.stat("read"), ran.stat("used"), ran.stat("bad")), (3001, 3000, 1));
    let mut want = vec![String::new(); 5];
    for (i, line) in lines.iter().enumerate() {
        want[part_of(format!("u{}", i % 17).as_bytes(), 5)] += &format!("{line}\n");
    }
    assert_eq!(parts(&out, 5, "ndjson"), want);
    assert_eq!(manifest(&out)["key"], serde_json::json!(["user"]));
    // There already.
    let error = windrow(&args).fails(1);
    assert!(error.contains("is a folder with something in it"), "{error}");
}

#[test]
fn csv_fields_stay_as_they_are() {
    let mut text = "id,name,amount\n".to_owned();
    (0..2000).for_each(|i| text += &format!("{:04},\"a, \"\"{}\"\"\",1.{}0\n", i % 300, i, i % 10));
    let (dir, input) = file("in.csv", text.as_bytes());
    let out = dir.path().join("out");
    let args = ["shuffle", &input, "--key", "id,amount", "--partitions", "7", "-o", out.to_str().unwrap()];
    windrow(&[&args[..], &["--output-format", "csv"]].concat()).good();
    let parts = parts(&out, 7, "csv");
    let mut place = HashMap::new();
    let mut all = Vec::new();
    for (number, part) in parts.iter().enumerate() {
        let mut lines = part.lines();
        assert_eq!(lines.next(), Some("id,name,amount"));
        let mut last = None;
        for line in lines {
            let (id, amount) = (&line[..4], line.rsplit(',').next().unwrap());
            assert_eq!(*place.entry((id.to_owned(), amount.to_owned())).or_insert(number), number);
            let n: usize = line.split("\"\"").nth(1).unwrap().parse().unwrap();
            assert!(last < Some(n), "in the order of the input");
            last = Some(n);
            all.push(line);
        }
    }
    let mut lines: Vec<&str> = text.lines().skip(1).collect();
    lines.sort_unstable();
    all.sort_unstable();
    assert_eq!(all, lines);
}

/// A Parquet file of many types, nulls among them.
fn columns(rows: i64) -> RecordBatch {
    let some = |i: i64| i % 7 != 3;
    let texts: StringArray =
        (0..rows).map(|i| some(i).then(|| format!("text {} {}", i % 100, "x".repeat(i as usize % 90)))).collect();
    let columns: [(&str, ArrayRef); 6] = [
        ("key", Arc::new((0..rows).map(|i| some(i).then_some(i % 1000)).collect::<Int64Array>())),
        ("row", Arc::new(Int64Array::from_iter_values(0..rows))),
        ("value", Arc::new((0..rows).map(|i| Some(i as f64 / 3.0)).collect::<Float64Array>())),
        ("flag", Arc::new((0..rows).map(|i| some(i / 2).then_some(i % 3 == 0)).collect::<BooleanArray>())),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(0..rows))),
        ("text", Arc::new(texts)),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn read(path: &Path) -> Vec<RecordBatch> {
    ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap())
        .unwrap()
        .build()
        .unwrap()
        .map(|b| b.unwrap())
        .collect()
}

/// The same rows in the same order in memory, and through spill files of a limit that is far too small for them.
#[test]
fn parquet_comes_out_the_same_with_and_without_spilling() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.parquet");
    let batch = columns(120_000);
    let properties =
        parquet::file::properties::WriterProperties::builder().set_max_row_group_row_count(Some(50_000)).build();
    let mut writer = ArrowWriter::try_new(File::create(&input).unwrap(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let spill = dir.path().join("spill");
    std::fs::create_dir(&spill).unwrap();
    let mut outputs: Vec<Vec<RecordBatch>> = Vec::new();
    for (name, flags) in [("free", &[][..]), ("tight", &["--memory", "48MiB", "--threads", "2"][..])] {
        let out = dir.path().join(name);
        let args = ["shuffle", input.to_str().unwrap(), "--key", "key", "--partitions", "300", "--stats", "-o"];
        let spilling = ["--spill-dir", spill.to_str().unwrap()];
        let ran = windrow(&[&args[..], &[out.to_str().unwrap()], &spilling, flags].concat()).good();
        assert_eq!(ran.stat("spilled_bytes") > 0, name == "tight", "{}", ran.err);
        assert_eq!(std::fs::read_dir(&spill).unwrap().count(), 0);
        let mut all = Vec::new();
        let (mut rows, mut next_free) = (0, 0);
        for part in 0..300 {
            let batches = read(&out.join(format!("part-{part:05}.parquet")));
            let said = manifest(&out)["files"][part]["rows"].as_u64().unwrap();
            assert_eq!(batches.iter().map(|b| b.num_rows() as u64).sum::<u64>(), said);
            rows += said;
            next_free += usize::from(batches.is_empty());
            for batch in &batches {
                assert!(batch.column(1).as_primitive::<Int64Type>().values().is_sorted());
                for (key, row) in batch
                    .column(0)
                    .as_primitive::<Int64Type>()
                    .iter()
                    .zip(batch.column(1).as_primitive::<Int64Type>().values())
                {
                    assert_eq!(key, (row % 7 != 3).then_some(row % 1000));
                }
            }
            all.push(arrow_select::concat::concat_batches(&batch.schema(), &batches).unwrap());
        }
        assert_eq!(rows, 120_000);
        assert!(next_free < 300);
        outputs.push(all);
    }
    assert_eq!(outputs[0], outputs[1]);
    // Not a value is lost: row by row what went in.
    let all = arrow_select::concat::concat_batches(&batch.schema(), &outputs[0]).unwrap();
    let mut order: Vec<u32> = (0..120_000).collect();
    order.sort_unstable_by_key(|i| all.column(1).as_primitive::<Int64Type>().value(*i as usize));
    let order = arrow_array::UInt32Array::from(order);
    for (back, column) in all.columns().iter().zip(batch.columns()) {
        assert_eq!(&arrow_select::take::take(back, &order, None).unwrap(), column);
    }
}

/// Which part a key belongs to is written in files: these numbers never change.
#[test]
fn the_partition_of_a_key_is_the_same_for_ever() {
    let keys = ["", "alpha", "/index.html", "10.0.0.1", "\u{fc}ber"];
    let lines: Vec<String> = keys.iter().map(|k| format!("{{\"k\":\"{k}\"}}")).collect();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let args =
        ["shuffle", "-", "--key", "k", "--partitions", "1000", "--output-format", "csv", "-o", out.to_str().unwrap()];
    windrow_with(&args, lines.join("\n").as_bytes()).good();
    let files = manifest(&out);
    let place = |key: &str| {
        let found = (0..1000).find(|p| {
            let text = std::fs::read_to_string(out.join(files["files"][*p]["file"].as_str().unwrap())).unwrap();
            text.lines().skip(1).any(|l| l == key || key.is_empty() && l == "\"\"")
        });
        found.unwrap()
    };
    assert_eq!(keys.map(place), keys.map(|k| part_of(k.as_bytes(), 1000)));
    assert_eq!(keys.map(place), EXPECTED);
}

const EXPECTED: [usize; 5] = [12, 331, 601, 356, 556];

#[test]
fn nothing_is_left_of_a_run_that_fails() {
    let (dir, input) = file("in.csv", b"a,b\n1,2\n3,4\n");
    let out = dir.path().join("out");
    let run = |flags: &[&str], code| {
        let error = windrow(&[&["shuffle", &input, "-o", out.to_str().unwrap()], flags].concat()).fails(code);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{error}");
        error
    };
    assert!(run(&["--partitions", "3", "--key", "c"], 2).contains("\"c\""));
    assert!(run(&["--partitions", "3", "--key", "a,"], 2).contains("between the commas"));
    run(&["--partitions", "3", "--key", "a", "--max-bad", "0", "--format", "json"], 1);
    let nowhere = dir.path().join("nowhere").join("out");
    let error =
        windrow(&["shuffle", &input, "--key", "a", "--partitions", "3", "-o", nowhere.to_str().unwrap()]).fails(1);
    assert!(error.contains("cannot create the output"), "{error}");
    // A folder to spill into that is not there is told before anything is read.
    let spill = dir.path().join("no-spill");
    let flags = ["--partitions", "3000", "--key", "a", "--memory", "64MiB", "--spill-dir", spill.to_str().unwrap()];
    assert!(run(&flags, 1).contains("the spill directory does not exist"));
}

/// A signal ends the run as an error does.
#[cfg(unix)]
#[test]
fn a_signal_leaves_nothing() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let dir = tempfile::tempdir().unwrap();
    for signal in ["INT", "TERM"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_windrow"))
            .args([
                "shuffle",
                "-",
                "--key",
                "a",
                "--partitions",
                "3",
                "--format",
                "json",
                "--output-format",
                "ndjson",
                "-o",
            ])
            .arg(dir.path().join("out"))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(&b"{\"a\":1}\n".repeat(1 << 20)).unwrap();
        // The input is being read: the folder is there.
        while std::fs::read_dir(dir.path()).unwrap().count() == 0 {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(100));
        let _ = stdin.write_all(b"{\"a\":1}\n");
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("stopped before the end of the input"), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
