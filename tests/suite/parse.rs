//! `windrow parse` from outside: every field of every record, in the order of the input, whatever the format.

use crate::run::{file, line, windrow, windrow_with};
use serde_json::Value;
use std::io::Write;

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn access_logs_become_objects() {
    let log = line("10.0.0.1", "17/May/2015:10:05:03 +0200", "/a?b=\"c\"", 200, "12")
        + "not a line\n"
        + &line("10.0.0.2", "17/May/2015:10:05:04 +0000", "/é", 404, "-");
    let ran = windrow_with(&["parse", "--format", "combined", "--stats"], log.as_bytes()).good();
    assert_eq!((ran.stat("read"), ran.stat("bad"), ran.stat("used")), (3, 1, 2));
    let records = objects(&ran.out);
    assert_eq!(records[0]["time"], "2015-05-17T08:05:03Z");
    assert_eq!((&records[0]["status"], &records[0]["bytes"]), (&Value::from(200), &Value::from(12)));
    assert_eq!((&records[1]["path"], &records[1]["bytes"]), (&Value::from("/é"), &Value::Null));
    let names: Vec<&String> = records[0].as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 11, "{names:?}");
    let ran = windrow_with(
        &["parse", "--format", "combined", "--fields", "status, host", "--where", "status >= 400"],
        log.as_bytes(),
    );
    assert_eq!(ran.good().out, "{\"status\":404,\"host\":\"10.0.0.2\"}\n");
}

#[test]
fn a_missing_time_is_null_and_no_bad_record() {
    let lines = "{\"ts\":1600000000,\"a\":1}\n{\"a\":2.5}\n{\"ts\":\"soon\",\"a\":null,\"b\":{\"c\":[1,\"x\"]}}\n";
    let ran = windrow_with(&["parse", "--format", "json", "--stats"], lines.as_bytes()).good();
    assert_eq!((ran.stat("bad"), ran.stat("used")), (0, 3));
    let records = objects(&ran.out);
    assert_eq!(records[0]["ts"], "2020-09-13T12:26:40Z");
    assert_eq!((&records[1]["ts"], &records[2]["ts"]), (&Value::Null, &Value::Null));
    assert_eq!(records[1]["a"], 2.5);
    // Records without a time are in no range of times.
    let ran = windrow_with(&["parse", "--format", "json", "--from", "2020-01-01", "--stats"], lines.as_bytes()).good();
    assert_eq!((ran.stat("filtered"), ran.stat("used"), ran.stat("bad")), (2, 1, 0));
    let ran = windrow_with(&["parse", "--format", "json", "--to", "2020-01-01", "--stats"], lines.as_bytes()).good();
    assert_eq!((ran.stat("filtered"), ran.stat("used")), (3, 0));
}

#[test]
fn formats_in_and_out_agree() {
    let csv: String = "date,name,n,x\n".to_owned()
        + &(0..50_000)
            .map(|i| format!("2024-01-01T00:00:{:02}Z,\"a,{}\",{i},{}.5\n", i % 60, i % 7, i % 9))
            .collect::<String>();
    let (dir, path) = file("events.csv", csv.as_bytes());
    let first = windrow(&["parse", &path, "--threads", "1"]).good().out;
    assert_eq!(first.lines().count(), 50_000);
    assert_eq!(first.lines().next(), Some("{\"date\":\"2024-01-01T00:00:00Z\",\"name\":\"a,0\",\"n\":0,\"x\":0.5}"));
    assert!(windrow(&["parse", &path, "--threads", "4"]).good().out == first, "any number of threads");
    assert!(windrow_with(&["parse", "--format", "csv"], csv.as_bytes()).good().out == first, "from a pipe");
    let gz = dir.path().join("events.csv.gz");
    let mut writer = flate2::write::GzEncoder::new(std::fs::File::create(&gz).unwrap(), flate2::Compression::fast());
    writer.write_all(csv.as_bytes()).unwrap();
    writer.finish().unwrap();
    assert!(windrow(&["parse", gz.to_str().unwrap(), "-q"]).good().out == first, "compressed");
    // By way of Parquet, Arrow's sibling on disk, and of NDJSON.
    for name in ["out.parquet", "out.ndjson", "out.csv"] {
        let out = dir.path().join(name);
        windrow(&["parse", &path, "-o", out.to_str().unwrap()]).good();
        assert!(windrow(&["parse", out.to_str().unwrap(), "-q"]).good().out == first, "{name}");
    }
    let arrow = dir.path().join("out.arrow");
    windrow(&["parse", &path, "-o", arrow.to_str().unwrap()]).good();
    let reader = arrow_ipc::reader::FileReader::try_new(std::fs::File::open(&arrow).unwrap(), None).unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 50_000);
}

#[test]
fn wrong_usage_and_outputs_that_are_inputs() {
    let (dir, path) = file("events.ndjson", b"{\"ts\":1600000000,\"a\":1}\n");
    assert!(windrow(&["parse", &path, "--fields", "ts,bb"]).fails(2).contains("bb"), "no record had it");
    let (_csv_dir, csv) = file("events.csv", b"ts,a\n1600000000,1\n");
    assert!(windrow(&["parse", &csv, "--fields", "ts,bb"]).fails(2).contains("bb"));
    assert!(windrow(&["parse", &csv, "--fields", "ts,,a"]).fails(2).contains("--fields"));
    assert!(windrow(&["parse", &csv, "--time", "when"]).fails(2).contains("when"));
    let link = dir.path().join("link.ndjson");
    std::fs::hard_link(&path, &link).unwrap();
    for output in [&path, link.to_str().unwrap()] {
        assert!(windrow(&["parse", &path, "-o", output]).fails(2).contains("also an input"));
        assert!(windrow(&["replay", &path, "-o", output]).fails(2).contains("also an input"));
        assert!(windrow(&["replay", &path, "--bad-lines", output]).fails(2).contains("also an input"));
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"{\"ts\":1600000000,\"a\":1}\n");
}

#[test]
fn completions_and_the_manual() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(windrow(&["completions", shell]).good().out.contains("lateness"), "{shell}");
    }
    let manual = windrow(&["man"]).good().out;
    assert!(manual.contains(".TH windrow") && manual.contains("lateness") && manual.contains("fields"), "{manual}");
    windrow(&["completions", "cmd"]).fails(2);
}
