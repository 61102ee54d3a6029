//! The command line against SEMANTICS and CLI: bad input, wrong usage, odd windows, the same bytes every way.

use crate::run::{file, line, rows, windrow, windrow_with};
use std::io::Write;

/// Seconds of 17 May 2015 as an access log writes them.
fn at(second: u32) -> String {
    format!("17/May/2015:10:{:02}:{:02} +0000", second / 60, second % 60)
}

/// A log of `n` lines over ten minutes, out of order, with missing bytes and several statuses.
fn log(n: u32) -> String {
    (0..n)
        .map(|i| {
            let second = (i * 600 / n + i * 7919 % 45) % 600;
            let bytes = if i % 9 == 0 { "-".into() } else { (i * 31 % 5000).to_string() };
            line(
                &format!("10.0.0.{}", i % 13),
                &at(second),
                &format!("/p{}", i % 17),
                [200, 404, 500][i as usize % 3],
                &bytes,
            )
        })
        .collect()
}

const QUERY: [&str; 9] = [
    "--key",
    "path",
    "--window",
    "1m",
    "--slide",
    "20s",
    "--agg",
    "count, sum(bytes), avg(bytes), min(bytes), max(host), count_if(status >= 500) as errors",
    "--stats",
];

fn replay(extra: &[&str]) -> Vec<String> {
    ["replay"].iter().chain(extra).chain(&QUERY).map(|s| (*s).to_owned()).collect()
}

fn run_query(extra: &[&str], input: &[u8]) -> crate::run::Ran {
    let args = replay(extra);
    windrow_with(&args.iter().map(String::as_str).collect::<Vec<_>>(), input).good()
}

#[test]
fn the_same_bytes_from_a_file_a_pipe_a_gz_and_any_number_of_threads() {
    let text = log(60_000);
    assert!(text.len() > 4 << 20, "more than one block");
    let (_dir, path) = file("access.log", text.as_bytes());
    let want = run_query(&[&path], b"");
    assert_eq!(want.stat("read"), 60_000);
    assert!(want.out.lines().count() > 300);
    assert_eq!(
        want.out.lines().next(),
        Some("window_start,window_end,path,count,sum_bytes,avg_bytes,min_bytes,max_host,errors")
    );
    for threads in ["1", "2", "3", "8"] {
        assert!(run_query(&[&path, "--threads", threads], b"").out == want.out, "{threads} threads");
    }
    assert!(run_query(&["-"], text.as_bytes()).out == want.out, "a pipe");
    assert!(run_query(&[], text.as_bytes()).out == want.out, "standard input by default");
    // Several members, cut anywhere.
    let mut gz = Vec::new();
    for part in [&text[..1_000_001], &text[1_000_001..1_000_002], &text[1_000_002..]] {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part.as_bytes()).unwrap();
        gz.extend(encoder.finish().unwrap());
    }
    let (_dir, zipped) = file("access.log.gz", &gz);
    assert!(run_query(&[&zipped], b"").out == want.out, "a .gz of several members");
    assert!(run_query(&["-"], &gz).out == want.out, "a .gz from a pipe");
    let naive = run_query(&[&path, "--naive"], b"");
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&naive.out), sorted(&want.out), "--naive, all sums being of integers");
    assert_eq!(sorted(&run_query(&[&path, "--engine", "remerge"], b"").out), sorted(&want.out));
}

#[test]
fn the_order_of_lines_does_not_matter() {
    let text = log(3000);
    let mut lines: Vec<&str> = text.lines().collect();
    let want = run_query(&["-"], text.as_bytes()).out;
    lines.reverse();
    assert_eq!(run_query(&["-"], lines.join("\n").as_bytes()).out, want);
}

#[test]
fn several_files_and_patterns_are_one_stream() {
    let text = log(4000);
    let half = text[..text.len() / 2].rfind('\n').unwrap() + 1;
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("b.log"), &text[..half]).unwrap();
    std::fs::write(dir.path().join("c.log"), &text[half..]).unwrap();
    let pattern = dir.path().join("*.log");
    let want = run_query(&["-"], text.as_bytes()).out;
    assert_eq!(run_query(&[pattern.to_str().unwrap()], b"").out, want);
    let (b, c) = (dir.path().join("b.log"), dir.path().join("c.log"));
    assert_eq!(run_query(&[c.to_str().unwrap(), b.to_str().unwrap()], b"").out, want, "their times overlap");
    let none = dir.path().join("*.txt");
    let error = windrow(&["replay", none.to_str().unwrap()]).fails(1);
    assert!(error.contains("no file matches the pattern"), "{error}");
}

#[test]
fn bad_records_are_counted_placed_and_written() {
    let mut text = line("a", &at(0), "/", 200, "1").into_bytes();
    text.extend_from_slice(b"no access log\n\n");
    text.extend_from_slice(b"a - - [99/May/2015:10:00:00 +0000] \"GET / HTTP/1.1\" 200 5\n");
    text.extend_from_slice(b"\xff\xfe\x00 binary \x00\n");
    text.extend_from_slice(line("b", &at(1), "/\u{0}nul", 200, "2").trim_end().as_bytes());
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(line("c", &at(2), "/last", 200, "3").trim_end().as_bytes());
    let (dir, path) = file("bad.log", &text);
    let kept = dir.path().join("kept.txt");
    let ran = windrow(&[
        "replay",
        &path,
        "--window",
        "1m",
        "--bad-lines",
        kept.to_str().unwrap(),
        "--stats",
        "--agg",
        "count,sum(bytes)",
    ])
    .good();
    assert_eq!((ran.stat("read"), ran.stat("used"), ran.stat("bad")), (6, 3, 3));
    assert_eq!(rows(&ran.out), [["2015-05-17T10:00:00Z", "2015-05-17T10:01:00Z", "3", "6"]]);
    assert!(ran.err.contains("bad.log, line 2 (byte "), "{}", ran.err);
    assert!(ran.err.contains("line 4 (byte ") && ran.err.contains("line 5 (byte "), "{}", ran.err);
    let kept = std::fs::read(kept).unwrap();
    assert!(kept.starts_with(b"no access log\na - - [99/May"), "{kept:?}");
    assert_eq!(kept.iter().filter(|b| **b == b'\n').count(), 3);
    let most = |most: &str| windrow(&["replay", &path, "--window", "1m", "--max-bad", most]);
    let error = most("2").fails(1);
    assert!(error.contains("more than the 2 that --max-bad allows") && error.contains("line 2"), "{error}");
    let error = most("49%").fails(1);
    assert!(error.contains("more than the 49% of 6"), "{error}");
    for enough in ["3", "50%"] {
        assert_eq!(most(enough).good().out, ran.out.replace(",sum_bytes", "").replace(",3,6", ",3"), "{enough}");
    }
    // Without windows no time is needed: only what does not parse is bad.
    assert_eq!(windrow(&["replay", &path, "--max-bad", "2"]).good().out, "count\n4\n");
}

#[test]
fn odd_files_do_not_lose_their_neighbours() {
    // Empty, one line without newline, only newlines, a byte-order mark.
    let query = ["replay", "-", "--window", "1m", "--format", "combined", "--stats"];
    let ran = windrow_with(&query, b"").good();
    assert_eq!((ran.stat("read"), ran.out.as_str()), (0, "window_start,window_end,count\n"));
    assert_eq!(windrow_with(&["replay", "-"], b"").good().out, "count\n");
    assert_eq!(windrow_with(&query, b"\n\r\n\n").good().stat("read"), 0);
    let one = line("a", &at(0), "/", 200, "1");
    assert_eq!(windrow_with(&query, one.trim_end().as_bytes()).good().stat("used"), 1);
    assert_eq!(windrow_with(&query, format!("\u{feff}{one}").as_bytes()).good().stat("used"), 1);
    // A line of 100 MB between two good ones.
    let mut long = one.clone().into_bytes();
    long.resize(long.len() + 100_000_000, b'x');
    long.extend_from_slice(b"\n");
    long.extend_from_slice(one.as_bytes());
    let (_dir, path) = file("long.log", &long);
    for input in [&path[..], "-"] {
        let ran = windrow_with(&["replay", input, "--window", "1m", "--format", "combined", "--stats"], &long).good();
        assert_eq!((ran.stat("used"), ran.stat("bad")), (2, 1), "{input}");
    }
    // A damaged and a truncated .gz are errors that name the file.
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(log(2000).as_bytes()).unwrap();
    let gz = encoder.finish().unwrap();
    let (_dir, path) = file("cut.log.gz", &gz[..gz.len() / 2]);
    let error = windrow(&["replay", &path, "--format", "combined"]).fails(1);
    assert!(error.contains("cut.log.gz: cannot be decompressed"), "{error}");
}

#[test]
fn a_key_may_be_a_megabyte() {
    let path = format!("/{}", "k".repeat(1 << 20));
    let text = line("a", &at(0), &path, 200, "1") + &line("b", &at(1), &path, 200, "2");
    let ran = windrow_with(&["replay", "-", "--key", "path", "--window", "1m", "--agg", "sum(bytes)"], text.as_bytes())
        .good();
    assert_eq!(rows(&ran.out)[0][2..], [path, "3".into()]);
}

#[test]
fn wrong_usage_is_one_sentence_and_status_two() {
    let (_dir, path) = file("a.log", log(10).as_bytes());
    let cases: [(&[&str], &str); 13] = [
        (&["--key", "paht"], "did you mean path"),
        (&["--key", "a,,b"], "--key"),
        (&["--agg", "median(bytes)"], "there is no aggregate \"median\""),
        (&["--agg", "sum(host)"], "host is text"),
        (&["--agg", "count,count"], "two output columns are called \"count\""),
        (&["--where", "status >="], "status >="),
        (&["--where", "nosuch = 1"], "nosuch"),
        (&["--window", "0s"], "window"),
        (&["--window", "5"], "5"),
        (&["--window", "1m", "--slide", "0s"], "slide"),
        (&["--slide", "1m"], "--window"),
        (&["--output", "x.doc"], "x.doc"),
        (&["--memory", "lots"], "lots"),
    ];
    for (flags, says) in cases {
        let mut args = vec!["replay", &path];
        args.extend(flags);
        let error = windrow(&args).fails(2);
        assert!(error.contains(says), "{flags:?}: {error}");
    }
    let error = windrow(&["replay", "/no/such/file"]).fails(1);
    assert!(error.contains("/no/such/file") && error.contains("cannot be opened"), "{error}");
    let error = windrow(&["replay", &path, "-o", "/no/such/folder/x.csv"]).fails(1);
    assert!(error.contains("/no/such/folder"), "{error}");
    let error = windrow(&["replay", "/"]).fails(1);
    assert!(error.contains("directory"), "{error}");
}

#[test]
fn outputs_appear_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("in.ndjson");
    // The sum overflows in the second window, after rows of the first have been written.
    std::fs::write(&input, "{\"ts\":0,\"x\":1}\n{\"ts\":60,\"x\":9223372036854775807}\n{\"ts\":61,\"x\":1}\n").unwrap();
    let output = dir.path().join("out.csv");
    let args = ["replay", input.to_str().unwrap(), "--window", "1m", "--agg", "sum(x)", "-o", output.to_str().unwrap()];
    let error = windrow(&args).fails(1);
    assert!(error.contains("sum_x") && error.contains("1970-01-01T00:01:00Z"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no partial output is left");
    std::fs::write(&input, "{\"ts\":0,\"x\":1}\n{\"ts\":60,\"x\":-5}\n").unwrap();
    windrow(&args).good();
    assert_eq!(
        std::fs::read_to_string(&output).unwrap(),
        "window_start,window_end,sum_x\n1970-01-01T00:00:00Z,1970-01-01T00:01:00Z,1\n1970-01-01T00:01:00Z,1970-01-01T00:02:00Z,-5\n"
    );
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let (_dir, path) = file("a.log", log(20_000).as_bytes());
    let command = format!(
        "set -o pipefail; {} replay {path} --key host,path --window 1m --slide 1s | head -1; echo status $?",
        env!("CARGO_BIN_EXE_windrow")
    );
    let output = std::process::Command::new("bash").arg("-c").arg(command).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.lines().collect::<Vec<_>>(), ["window_start,window_end,host,path,count", "status 0"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
}

#[test]
fn windows_of_every_shape() {
    // Records at -1 s, 0 s, 9.5 s, as JSON epoch milliseconds.
    let text = "{\"ts\":-1000,\"v\":1}\n{\"ts\":0,\"v\":2}\n{\"ts\":9500,\"v\":4}\n";
    let run = |flags: &[&str]| {
        let mut args = vec!["replay", "-", "--time-format", "epoch_ms", "--agg", "sum(v)", "--stats"];
        args.extend(flags);
        windrow_with(&args, text.as_bytes()).good()
    };
    let sums = |flags: &[&str]| {
        rows(&run(flags).out).into_iter().map(|r| format!("{} {}", &r[0][11..], r[2])).collect::<Vec<_>>()
    };
    assert_eq!(sums(&["--window", "10s"]), ["23:59:50Z 1", "00:00:00Z 6"]);
    assert_eq!(sums(&["--window", "10s", "--offset", "-1s"]), ["23:59:59Z 3", "00:00:09Z 4"]);
    assert_eq!(
        sums(&["--window", "10s", "--slide", "5s"]),
        ["23:59:50Z 1", "23:59:55Z 3", "00:00:00Z 6", "00:00:05Z 4"]
    );
    let sampled = run(&["--window", "1s", "--slide", "5s"]);
    assert_eq!(rows(&sampled.out).len(), 1);
    assert_eq!((sampled.stat("used"), sampled.stat("outside")), (1, 2));
    assert_eq!(rows(&run(&["--window", "10s", "--slide", "3.333s"]).out).len(), 6);
    assert_eq!(rows(&run(&["--window", "1.000003s", "--slide", "1s"]).out)[0][1], "1969-12-31T23:59:59.000003Z");
    // 86,400 windows hold each record.
    let many = windrow_with(&["replay", "-", "--window", "1d", "--slide", "1s", "--stats"], b"{\"ts\":0}\n").good();
    assert_eq!(many.stat("windows"), 86_400);
    // Without a window or key there is one row.
    assert_eq!(run(&[]).out, "sum_v\n7\n");
}

#[test]
fn a_gap_of_fifty_days_costs_nothing() {
    let mut text = String::from("{\"ts\":\"2024-04-01T00:00:00Z\"}\n");
    for second in 0..50 {
        text += &format!("{{\"ts\":\"2024-02-10T00:00:{second:02}Z\"}}\n");
    }
    let ran = windrow_with(
        &["replay", "-", "--window", "10s", "--slide", "1s", "--memory", "64MiB", "--stats"],
        text.as_bytes(),
    )
    .good();
    assert_eq!(ran.stat("windows"), 59 + 10);
    assert!(ran.stat("peak_memory_bytes") < 32 << 20, "{}", ran.err);
    assert_eq!(ran.stat("max_disorder_us"), 51 * 86_400_000_000);
}

#[test]
fn a_limit_that_is_too_small_is_a_clear_error() {
    let text: String = (0..2).map(|i| format!("{{\"ts\":{i},\"k\":{i}}}\n")).collect();
    let args = ["replay", "-", "--key", "k", "--window", "1h", "--memory", "4MiB"];
    let error = windrow_with(&args, text.as_bytes()).fails(1);
    let says = "windrow: the memory limit of 4.0 MiB is too small: 32 MiB is the least that will do; raise --memory";
    assert_eq!(error.trim(), says);
}

#[test]
fn filters_and_nulls() {
    let text = "{\"ts\":1,\"k\":\"a\",\"v\":1}\n{\"ts\":2,\"k\":null,\"v\":2}\n{\"ts\":3,\"v\":null}\n{\"ts\":4,\"k\":\"\",\"v\":8}\n{\"ts\":5,\"k\":1,\"v\":16}\n{\"ts\":6,\"k\":\"1\",\"v\":32}\n";
    let ran = windrow_with(
        &["replay", "-", "--key", "k", "--agg", "count,count(v),sum(v),max(v)", "--stats"],
        text.as_bytes(),
    )
    .good();
    let mut lines: Vec<&str> = ran.out.lines().skip(1).collect();
    lines.sort_unstable();
    // The number 1 and the text "1" are different keys; a null key is a group of its own; null is empty, "" is quoted.
    assert_eq!(lines, ["\"\",1,1,8,8", ",2,1,2,2", "1,1,1,16,16", "1,1,1,32,32", "a,1,1,1,1"]);
    let ran = windrow_with(
        &["replay", "-", "--agg", "count,sum(v)", "--where", "v >= 2 and k is not null", "--stats"],
        text.as_bytes(),
    )
    .good();
    assert_eq!((ran.stat("used"), ran.stat("filtered")), (3, 3));
    assert_eq!(ran.out, "count,sum_v\n3,56\n");
    let none =
        windrow_with(&["replay", "-", "--agg", "sum(v),min(v),avg(v),count", "--where", "v is null"], text.as_bytes())
            .good();
    assert_eq!(none.out, "sum_v,min_v,avg_v,count\n,,,1\n");
}

#[test]
fn twenty_aggregates_at_once() {
    let list: Vec<String> = (0..20)
        .map(|i| {
            let function = ["sum", "avg", "min", "max"][i % 4];
            format!("{function}(v{}) as a{i}", i / 4)
        })
        .collect();
    let text: String = (0..100)
        .map(|i| format!("{{\"ts\":{i},\"v0\":{i},\"v1\":{},\"v2\":{},\"v3\":1.5,\"v4\":-{i}}}\n", i * 2, i % 7))
        .collect();
    let ran = windrow_with(&["replay", "-", "--agg", &list.join(","), "--window", "100s"], text.as_bytes()).good();
    let row = &rows(&ran.out)[0];
    assert_eq!(row.len(), 22);
    assert_eq!(row[2..6], ["4950", "49.5", "0", "99"]);
    assert_eq!(row[14..18], ["150.0", "1.5", "1.5", "1.5"]);
}
