//! What a run must survive, or fail over in one sentence: files that shrink, outputs that cannot be written, sums that
//! overflow, values that drown others, very many keys and windows.

use crate::run::{Ran, file, line, rows, windrow, windrow_with};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use std::io::Read;
use std::sync::Arc;
use windrow::query::{Query, Window, count, sum};

/// A file that loses its end after the run has begun: the run is held up by a pipe for its bad lines.
#[cfg(unix)]
#[test]
fn a_file_cut_short_while_it_is_read_is_an_error() {
    let mut text = line("a", "17/May/2015:10:00:00 +0000", "/", 200, "1");
    text += &"not a log line\n".repeat(20_000);
    let (dir, path) = file("long.log", text.as_bytes());
    // A hole costs no disk; the run reads 16 blocks of 4 MiB a round and one round ahead.
    let log = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    log.set_len(400 << 20).unwrap();
    let pipe = dir.path().join("bad.pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let run = {
        let (path, pipe) = (path.clone(), pipe.clone());
        std::thread::spawn(move || {
            let flags = ["--window", "1m", "--threads", "1", "--format", "combined", "--bad-lines"];
            windrow(&[&["replay", &path], &flags[..], &[pipe.to_str().unwrap()]].concat())
        })
    };
    let mut bad = std::fs::File::open(&pipe).unwrap();
    // The first bad line comes once the first round is done; the rest of them do not fit the pipe.
    bad.read_exact(&mut [0; 10]).unwrap();
    log.set_len(1 << 20).unwrap();
    let mut rest = Vec::new();
    bad.read_to_end(&mut rest).unwrap();
    let error = run.join().unwrap().fails(1);
    assert!(error.contains("long.log: byte ") && error.contains("was cut short while it was read"), "{error}");
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_that_names_it() {
    let (dir, path) = file("a.log", line("a", "17/May/2015:10:00:00 +0000", "/", 200, "1").as_bytes());
    let folder = dir.path().to_str().unwrap();
    let missing = format!("{folder}/none/x");
    for flags in [
        vec!["-o".into(), format!("{missing}.csv")],
        vec!["-o".into(), format!("{missing}.parquet")],
        vec!["--bad-lines".into(), missing.clone()],
        vec!["--stats".into(), missing.clone()],
        vec!["-o".into(), folder.to_owned(), "--output-format".into(), "csv".into()],
    ] {
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let error = windrow(&[&["replay", &path], &flags[..]].concat()).fails(1);
        assert!(error.contains(folder), "{flags:?}: {error}");
        assert_eq!(error.lines().filter(|l| !l.contains("format: ")).count(), 1, "{flags:?}: {error}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
}

/// `/dev/full` takes no byte: a disk that is full.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error() {
    let text: String = (0..50_000).map(|i| format!("{{\"ts\":{i},\"k\":{i}}}\n")).collect();
    for format in ["csv", "parquet", "table"] {
        let flags = ["replay", "-", "--key", "k", "--window", "1h", "-o", "/dev/full", "--output-format", format];
        let error = windrow_with(&flags, text.as_bytes()).fails(1);
        assert!(error.contains("cannot write the output /dev/full"), "{format}: {error}");
    }
    let args = ["replay", "-", "--window", "1h", "--bad-lines", "/dev/full"];
    let error = windrow_with(&args, b"{\"ts\":1}\nbad\n").fails(1);
    assert!(error.contains("/dev/full: cannot be written"), "{error}");
}

#[test]
fn sums_of_integers_are_exact_or_an_error_that_names_the_column() {
    let max = i64::MAX;
    let run = |values: &[i64], flags: &[&str]| -> Ran {
        let text: String = values.iter().enumerate().map(|(i, v)| format!("{{\"ts\":{i},\"bytes\":{v}}}\n")).collect();
        windrow_with(&[&["replay", "-", "--time-format", "epoch_s"], flags].concat(), text.as_bytes())
    };
    let all = ["--agg", "sum(bytes),avg(bytes)"];
    // Intermediate sums lie far outside, the result inside.
    assert_eq!(
        run(&[max, max, max, -max, -max], &all).good().out,
        format!("sum_bytes,avg_bytes\n{max},{:?}\n", max as f64 / 5.0)
    );
    assert_eq!(run(&[i64::MIN, -1, 1], &["--agg", "sum(bytes)"]).good().out, format!("sum_bytes\n{}\n", i64::MIN));
    // One too many.
    let error = run(&[max, 1], &["--agg", "sum(bytes)"]).fails(1);
    assert!(error.contains("sum_bytes: a sum lies outside the range of 64-bit integers"), "{error}");
    let error = run(&[i64::MIN, -1], &["--agg", "sum(bytes) as total", "--naive"]).fails(1);
    assert!(error.contains("total: a sum lies outside"), "{error}");
    // The mean needs no sum that fits.
    assert_eq!(run(&[max, max], &["--agg", "avg(bytes)"]).good().out, "avg_bytes\n9.223372036854776e18\n");
    // Sliding: each window fits though what enters and leaves does not.
    let values = [max, -max, max, -max, max, -7];
    let ran = run(&values, &["--window", "2s", "--slide", "1s", "--agg", "sum(bytes)"]).good();
    let sums: Vec<String> = rows(&ran.out).into_iter().map(|r| r[2].clone()).collect();
    assert_eq!(sums, [max, 0, 0, 0, 0, max - 7, -7].map(|v| v.to_string()));
}

/// After 1e300 has left the window nothing of it remains, though its key stays live; `--naive` agrees.
#[test]
fn what_drowned_other_values_leaves_no_trace() {
    let (window, keys) = (60, 3);
    let value = |i: i64| if i % 97 == 50 { 1e300 } else { i as f64 * 0.1 };
    let text: String =
        (0..900).map(|i| format!("{{\"ts\":{i},\"k\":\"k{}\",\"x\":{:e}}}\n", i % keys, value(i))).collect();
    let run = |more: &[&str]| {
        let flags = ["replay", "-", "--time-format", "epoch_s", "--key", "k", "--window", "60s", "--slide", "1s"];
        let aggregates = ["--agg", "sum(x),avg(x),min(x),max(x)"];
        let out = windrow_with(&[&flags[..], &aggregates, more].concat(), text.as_bytes()).good().out;
        let mut rows = rows(&out);
        rows.sort();
        rows
    };
    let (got, naive, remerged) = (run(&[]), run(&["--naive"]), run(&["--engine", "remerge"]));
    assert_eq!(got.len(), ((900 + window - 1) * keys - 2 * (1 + 2)) as usize);
    let mut small = 0;
    for ((a, b), c) in got.iter().zip(&naive).zip(&remerged) {
        assert_eq!(a[..3], b[..3]);
        assert_eq!((&a[5..], &a[..3]), (&b[5..], &c[..3]), "min and max");
        let float = |row: &[String], i: usize| row[i].parse::<f64>().unwrap();
        let largest = float(a, 6);
        small += usize::from(largest < 1e6);
        for i in [3, 4] {
            // All values are positive: their sum is the sum of their magnitudes.
            let bound = 1e-9 * float(b, i).abs();
            for other in [b, c] {
                assert!((float(a, i) - float(other, i)).abs() <= bound, "{a:?} {other:?}");
            }
        }
    }
    assert!(small > 100 && small < got.len(), "{small} rows do not hold 1e300");
    // Against the definition, for the first key.
    for row in got.iter().filter(|r| r[2] == "k0") {
        let start = row[0][11..13].parse::<i64>().unwrap() * 3600
            + row[0][14..16].parse::<i64>().unwrap() * 60
            + row[0][17..19].parse::<i64>().unwrap()
            - if row[0].starts_with("1969") { 86_400 } else { 0 };
        let want: f64 = (start.max(0)..(start + window).min(900)).filter(|i| i % keys == 0).map(value).sum();
        let got = row[3].parse::<f64>().unwrap();
        assert!((got - want).abs() <= 1e-9 * want, "{row:?}: {want}");
    }
}

#[test]
fn two_million_keys() {
    const KEYS: i64 = 2_000_000;
    let part = |from: i64| -> windrow::Result<RecordBatch> {
        let range = || from..from + 100_000;
        let columns: [(&str, ArrayRef); 2] = [
            ("ts", Arc::new(range().map(|i| i % KEYS % 1000 * 1000).collect::<Int64Array>())),
            ("k", Arc::new(range().map(|i| i % KEYS * 1_000_000_007).collect::<Int64Array>())),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    };
    let schema = part(0).unwrap().schema();
    // Every key twice, in different blocks.
    let batches = (0..2 * KEYS / 100_000).map(move |i| part(i * 100_000));
    let time = windrow::time::TimeFormat::EpochMillis;
    let mut rows = Query::batches(schema, batches)
        .time(Some("ts".into()), time)
        .key("k")
        .window(Window::parse("1000s", None, None).unwrap())
        .aggregate(count())
        .aggregate(sum("k"))
        .run()
        .unwrap();
    let (mut keys, mut wrong) = (0, 0);
    rows.for_each_block(|batches| {
        for batch in batches {
            let column = |i: usize| batch.column(i).as_primitive::<Int64Type>().values();
            keys += batch.num_rows();
            let rows = column(2).iter().zip(column(3)).zip(column(4));
            wrong += rows.filter(|((k, n), s)| **n != 2 || **s != 2 * **k).count();
        }
        Ok(true)
    })
    .unwrap();
    assert_eq!((keys, wrong), (KEYS as usize, 0));
    assert_eq!((rows.statistics().keys, rows.statistics().windows), (KEYS as u64, 1));
}

/// Windows are counted and come one after the other; a list of all would take 28 GB.
#[test]
fn billions_of_windows_stream() {
    let text = "{\"ts\":1}\n{\"ts\":2}\n{\"ts\":3}\n";
    let command = format!(
        "ulimit -v 4000000; printf '%s' '{text}' | {} replay - --time-format epoch_s --window 1h --slide 1us --threads 2 | head -3",
        env!("CARGO_BIN_EXE_windrow")
    );
    let output = std::process::Command::new("bash").arg("-c").arg(command).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            "window_start,window_end,count",
            "1969-12-31T23:00:01.000001Z,1970-01-01T00:00:01.000001Z,1",
            "1969-12-31T23:00:01.000002Z,1970-01-01T00:00:01.000002Z,1",
        ],
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The reference keeps every window of every record: it stops at the limit, not at the machine's end.
#[test]
fn the_reference_keeps_to_the_memory_limit() {
    let args = ["replay", "-", "--time-format", "epoch_s", "--window", "1h", "--slide", "1us", "--naive"];
    let error = windrow_with(&[&args[..], &["--memory", "40MiB"]].concat(), b"{\"ts\":1}\n").fails(1);
    assert!(error.contains("the memory limit of 40 MiB is too small"), "{error}");
}

/// The ends of time, windows longer than it, offsets beyond it.
#[test]
fn the_ends_of_time() {
    let text = "{\"ts\":\"0001-01-01T00:00:00Z\"}\n{\"ts\":\"9999-12-31T23:59:59.999999Z\"}\n{\"ts\":\"1970-01-01T00:00:00Z\"}\n{\"ts\":\"10000-01-01T00:00:00Z\"}\n{\"ts\":\"0000-12-31T23:59:59Z\"}\n";
    let run = |flags: &[&str]| {
        let ran = windrow_with(&[&["replay", "-", "--stats"], flags].concat(), text.as_bytes()).good();
        assert_eq!((ran.stat("used"), ran.stat("bad")), (3, 2));
        rows(&ran.out)
    };
    let days = run(&["--window", "1d"]);
    assert_eq!(days[0], ["0001-01-01T00:00:00Z", "0001-01-02T00:00:00Z", "1"]);
    // The window's end saturates at the last instant.
    assert_eq!(days[2], ["9999-12-31T00:00:00Z", "9999-12-31T23:59:59.999999Z", "1"]);
    let counts = |flags: &[&str]| run(flags).into_iter().map(|r| r[2].clone()).collect::<Vec<_>>();
    assert_eq!(counts(&["--window", "300000d", "--offset", "9999d"]).len(), 3);
    assert_eq!(counts(&["--window", "7d", "--slide", "1d"]).len(), 21);
    assert_eq!(counts(&["--window", "4000000d"]).iter().map(|n| n.parse::<u32>().unwrap()).sum::<u32>(), 3);
    assert_eq!(counts(&["--window", "1d", "--offset", "-106751991d"]).len(), 3);
    // Lengths that no calendar holds are refused, in words.
    for flags in [["--window", "106751991d"], ["--window", "99999999999d"]] {
        let error = windrow_with(&[&["replay", "-"], &flags[..]].concat(), text.as_bytes()).fails(2);
        assert!(error.contains("long"), "{error}");
    }
}
