//! The flags of `windrow replay` and what they print: formats found out, conditions, keys, fields that are not there,
//! statistics, progress.

use crate::run::{file, line, rows, windrow, windrow_with};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

const TIME: &str = "17/May/2015:10:00:00 +0000";

#[test]
fn formats_are_found_out_from_files_and_from_standard_input() {
    let combined = line("a", TIME, "/", 200, "1").repeat(3);
    let common = combined.replace(" \"-\" \"test\"", "");
    let json = "{\"ts\":\"2015-05-17T10:00:00Z\"}\n".repeat(3);
    let dir = tempfile::tempdir().unwrap();
    let gz = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let want = "window_start,window_end,count\n2015-05-17T10:00:00Z,2015-05-17T10:01:00Z,3\n";
    let mut checked = 0;
    for (text, name) in [(&combined, "combined"), (&common, "common"), (&json, "json")] {
        for (bytes, ending) in [(text.clone().into_bytes(), ""), (gz(text), ".gz")] {
            let path = dir.path().join(format!("log{ending}"));
            std::fs::write(&path, &bytes).unwrap();
            for (input, fed) in [(path.to_str().unwrap(), &b""[..]), ("-", &bytes[..])] {
                let ran = windrow_with(&["replay", input, "--window", "1m"], fed).good();
                assert_eq!(ran.out, want, "{name}{ending} from {input}");
                assert!(ran.err.contains(&format!("format: {name}\n")), "{name}{ending} from {input}: {}", ran.err);
                checked += 1;
            }
        }
    }
    assert_eq!(checked, 12);
    // A name decides where the content does not: one bad line first.
    let path = dir.path().join("x.ndjson");
    std::fs::write(&path, format!("oops\n{json}")).unwrap();
    assert_eq!(windrow(&["replay", path.to_str().unwrap(), "--window", "1m"]).good().out, want);
    // And one that nobody knows is an error with the names of those that are known.
    let unknown = dir.path().join("notes.txt");
    std::fs::write(&unknown, "Dear diary,\ntoday nothing was logged.\n").unwrap();
    let error = windrow(&["replay", unknown.to_str().unwrap()]).fails(1);
    assert!(error.contains("notes.txt: is of no format that is recognised") && error.contains("--format"), "{error}");
    let error = windrow_with(&["replay"], b"\x00\x01\x02\xff\n\xfe\n").fails(1);
    assert!(error.contains("standard input is of no format"), "{error}");
    // The time is the first known field that is there, or the one that is named.
    let times = "{\"date\":\"2015-05-17T10:00:00Z\",\"when\":{\"exactly\":7},\"timestamp\":60}\n";
    let start = |flags: &[&str]| {
        rows(&windrow_with(&[&["replay", "-", "--window", "1m"], flags].concat(), times.as_bytes()).good().out)[0][0]
            .clone()
    };
    assert_eq!(start(&[]), "1970-01-01T00:01:00Z");
    assert_eq!(start(&["--time", "date"]), "2015-05-17T10:00:00Z");
    assert_eq!(start(&["--time", "when.exactly", "--time-format", "epoch_s"]), "1970-01-01T00:00:00Z");
    let error = windrow_with(&["replay", "-", "--window", "1m"], b"{\"at\":1}\n").fails(2);
    assert!(error.contains("--time") && error.contains("at"), "{error}");
}

#[test]
fn conditions_follow_three_valued_logic() {
    let text = "{\"n\":1,\"s\":\"abc\",\"b\":true}\n{\"n\":null,\"s\":\"b\",\"b\":false}\n{\"n\":3,\"s\":null}\n{\"n\":4,\"s\":\"\"}\n{\"s\":\"it's\",\"n\":-5}\n";
    let kept = |condition: &str| {
        let args = ["replay", "-", "--where", condition, "--agg", "count", "--stats"];
        let ran = windrow_with(&args, text.as_bytes()).good();
        let filtered = ran.stat("filtered");
        assert_eq!(filtered + ran.stat("used"), 5);
        // The same as an aggregate.
        let inside =
            windrow_with(&["replay", "-", "--agg", &format!("count_if({condition}) as n")], text.as_bytes()).good();
        assert_eq!(inside.out, format!("n\n{}\n", 5 - filtered), "{condition}");
        5 - filtered
    };
    for (condition, want) in [
        ("n >= 3", 2),
        ("not n >= 3", 2),
        ("n >= 3 or n < 3", 4),
        ("n is null", 1),
        ("n is not null", 4),
        ("n > 0 and s is null", 1),
        ("n is null or s = ''", 2),
        ("not (n is null and s = 'b')", 4),
        // Null and false is false, null and true is null: the one is kept when negated, the other is not.
        ("not (n > 100 and s = 'nowhere')", 5),
        ("not (n > 0 and s = 'b')", 3),
        ("s = 'b' or n > 3", 2),
        ("s = 'it''s'", 1),
        ("s >= 'b'", 2),
        ("s <> 'b'", 3),
        ("n = 1.0", 1),
        ("n > -5.5 and n < 0", 1),
        ("b", 1),
        ("not b", 1),
        ("b is null", 3),
        ("null", 0),
    ] {
        assert_eq!(kept(condition), want, "{condition}");
    }
    for (condition, says) in [("n = 'x'", "n"), ("s > 5", "s"), ("n +", "n +"), ("nosuch is null and", "nosuch")] {
        let error = windrow_with(&["replay", "-", "--where", condition], text.as_bytes()).fails(2);
        assert!(error.contains(says), "{condition}: {error}");
    }
}

#[test]
fn keys_of_several_fields() {
    let text: String = (0..60)
        .map(|i| line(&format!("h{}", i % 2), TIME, ["/a,b", "/\"q\"", "/plain"][i % 3], 200 + (i % 2) as u32, "1"))
        .collect();
    let run = |flags: &[&str]| {
        windrow_with(&[&["replay", "-"], flags].concat(), text.replace("\"q\"", "\\\"q\\\"").as_bytes()).good().out
    };
    let listed = run(&["--key", "path,status", "--agg", "count,sum(bytes)"]);
    assert_eq!(run(&["--key", "path", "--key", "status", "--agg", "count", "--agg", "sum(bytes)"]), listed);
    assert_eq!(listed.lines().next(), Some("path,status,count,sum_bytes"));
    let mut lines: Vec<&str> = listed.lines().skip(1).collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 6);
    // Logs escape a quote with a backslash, which stays; CSV doubles it.
    assert_eq!(lines[0], "\"/\\\"\"q\\\"\"\",200,10,10");
    assert_eq!(lines[2], "\"/a,b\",200,10,10");
    assert_eq!(lines[5], "/plain,201,10,10");
    // A key that is aggregated as well, and one field twice.
    let mut both: Vec<String> =
        run(&["--key", "status", "--agg", "avg(status),max(status)"]).lines().map(str::to_owned).collect();
    both.sort();
    assert_eq!(both, ["200,200.0,200", "201,201.0,201", "status,avg_status,max_status"]);
    let error = windrow_with(&["replay", "-", "--key", "path,path"], text.as_bytes()).fails(2);
    assert!(error.contains("two output columns are called \"path\""), "{error}");
    let error = windrow_with(&["replay", "-", "--key", "status", "--agg", "count as status"], text.as_bytes()).fails(2);
    assert!(error.contains("two output columns are called \"status\""), "{error}");
}

#[test]
fn members_of_objects_are_fields() {
    let text = "{\"ts\":1,\"http\":{\"path\":\"/a\",\"size\":{\"out\":5}},\"a.b\":\"literal\",\"a\":{\"b\":\"member\"}}\n\
                {\"ts\":2,\"http\":{\"path\":\"/a\",\"size\":{\"out\":6}},\"a\":{\"b\":\"member\"}}\n\
                {\"ts\":3,\"http\":null}\n{\"ts\":4,\"http\":{\"path\":[1,2]}}\n";
    let run = |flags: &[&str]| {
        let out = windrow_with(&[&["replay", "-"], flags].concat(), text.as_bytes()).good().out;
        let mut lines: Vec<String> = out.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(
        run(&["--key", "http.path", "--agg", "count,sum(\"http.size.out\")"]),
        ["\"[1,2]\",1,", ",1,", "/a,2,11", "http.path,count,sum_http.size.out"]
    );
    assert_eq!(run(&["--key", "a.b"]), [",2", "a.b,count", "literal,1", "member,1"]);
    assert_eq!(run(&["--where", "\"http.size.out\" > 5"]), ["1", "count"]);
}

#[test]
fn a_field_that_no_record_has() {
    let mut text: String = (0..2000).map(|i| format!("{{\"ts\":{i},\"path\":\"/{i}\"}}\n")).collect();
    for query in [&["--key", "paht"][..], &["--agg", "sum(paht)"], &["--where", "paht is null"]] {
        let error = windrow_with(&[&["replay", "-"], query].concat(), text.as_bytes());
        let said = error.err.clone();
        let error = error.fails(2);
        assert!(said.contains("none of the first records has a field \"paht\"; similar: path"), "{said}");
        assert!(error.contains("no record of the input has a field \"paht\""), "{error}");
    }
    // One that comes later is only warned of.
    text += "{\"ts\":3000,\"late\":7}\n";
    let ran = windrow_with(&["replay", "-", "--agg", "sum(late),count(late)"], text.as_bytes()).good();
    assert_eq!(ran.out, "sum_late,count_late\n7.0,1\n");
    assert!(ran.err.contains("has a field \"late\""), "{}", ran.err);
    // Null is a value that is there; and an input without records has no fields to miss.
    let ran = windrow_with(&["replay", "-", "--agg", "count(x)"], b"{\"ts\":1,\"x\":null}\n").good();
    assert_eq!(ran.out, "count_x\n0\n");
    // Without a good record it is the bad ones that must be told of.
    let ran = windrow_with(&["replay", "-", "--format", "json", "--agg", "sum(x)", "--stats"], b"bad\n").good();
    assert_eq!((ran.out.as_str(), ran.stat("bad")), ("sum_x\n", 1));
    assert_eq!(windrow_with(&["replay", "-", "--format", "json", "--agg", "sum(x)"], b"").good().out, "sum_x\n");
}

#[test]
fn statistics_progress_and_silence() {
    let (dir, path) = file("a.log", (line("a", TIME, "/", 200, "1") + "bad\n").as_bytes());
    let stats = dir.path().join("stats.json");
    let ran = windrow(&["replay", &path, "--window", "1m", "--stats", stats.to_str().unwrap()]).good();
    assert!(!ran.err.contains('{'), "{}", ran.err);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&stats).unwrap()).unwrap();
    for (name, want) in
        [("read", 2), ("used", 1), ("bad", 1), ("rows_out", 1), ("windows", 1), ("keys", 1), ("filtered", 0)]
    {
        assert_eq!(json[name], want, "{name}");
    }
    assert_eq!(json["bytes_in"], std::fs::metadata(&path).unwrap().len());
    for name in
        ["outside", "late", "ahead", "cast_failed", "max_disorder_us", "spilled_bytes", "peak_memory_bytes", "threads"]
    {
        assert!(json[name].is_u64(), "{name}");
    }
    assert!(json["elapsed_s"].as_f64().unwrap() > 0.0);
    // The null sink has a checksum, which depends on the rows and on nothing else.
    let sum = |flags: &[&str]| {
        let ran = windrow(&[&["replay", &path, "-o", "null", "--stats"], flags].concat()).good();
        assert_eq!(ran.out, "");
        ran.stats()["rows_checksum"].as_str().unwrap().to_owned()
    };
    assert_eq!(sum(&["--threads", "1"]), sum(&["--threads", "4"]));
    assert_ne!(sum(&[]), sum(&["--agg", "sum(bytes)", "--key", "host"]));
    // Quiet: not even the bad records; not on a terminal: no progress.
    assert_eq!(windrow(&["replay", &path, "-q"]).good().err, "");
    assert!(windrow(&["replay", &path]).good().err.contains("1 of 2 records are bad"));
}

#[test]
fn progress_goes_to_standard_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_windrow"))
        .args(["replay", "-", "--progress", "always", "--format", "combined"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        // The first block, 4 MiB, is what the format would be found out from: only then the run begins.
        stdin.write_all(line("a", TIME, "/", 200, "1").repeat(100_000).as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(1500));
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "count\n100000\n");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("M records read"), "{err:?}");
}

#[test]
fn odd_inputs() {
    // Nothing at all, compressed; a device; the same file twice; very many threads.
    let empty = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish().unwrap();
    let (_dir, zipped) = file("empty.log.gz", &empty);
    assert_eq!(windrow(&["replay", &zipped, "--window", "1m"]).good().out, "window_start,window_end,count\n");
    assert_eq!(windrow(&["replay", "/dev/null", "--window", "1m"]).good().out, "window_start,window_end,count\n");
    let (_dir, path) = file("a.log", line("a", TIME, "/", 200, "1").as_bytes());
    assert_eq!(windrow(&["replay", &path, &path, "--threads", "100"]).good().out, "count\n2\n");
    // An input without records says nothing of the format of those behind it.
    let (_dir, json) = file("j.log", b"{\"ts\":1}\n");
    let inputs = ["replay", "-", "/dev/null", &zipped, &json, "--window", "1m"];
    assert_eq!(windrow(&inputs).good().out.lines().last(), Some("1970-01-01T00:00:00Z,1970-01-01T00:01:00Z,1"));
    // A file whose name is a pattern is that file.
    let (_dir, odd) = file("a[1]*?.log", line("a", TIME, "/", 200, "1").as_bytes());
    assert_eq!(windrow(&["replay", &odd]).good().out, "count\n1\n");
    let error = windrow(&["replay", &path, "--threads", "100000"]).fails(2);
    assert!(error.contains("threads"), "{error}");
}

/// Messages are no reason to fail: whoever reads them may have gone.
#[cfg(unix)]
#[test]
fn a_closed_standard_error_is_no_failure() {
    let (_dir, path) = file("a.log", (line("a", TIME, "/", 200, "1") + "bad\n").as_bytes());
    let command = format!(
        "set -o pipefail; {{ {} replay {path} --stats -o null; echo status $? >&3; }} 2>&1 | sleep 0",
        env!("CARGO_BIN_EXE_windrow")
    );
    let command = format!(
        "exec 3>&1; sleep 0.2 | {{ {command}; }}; {} replay {path} 2>&-; echo status $?",
        env!("CARGO_BIN_EXE_windrow")
    );
    let output = Command::new("bash").arg("-c").arg(command).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "status 0\ncount\n1\nstatus 0\n");
}

#[test]
fn the_top_rows_of_windows_in_the_order_asked_for() {
    let lines: String = ["b", "a", "b", "c", "c", "b", "d"]
        .iter()
        .enumerate()
        .map(|(i, key)| format!("{{\"ts\":{},\"key\":\"{key}\",\"v\":{i}}}\n", 1_600_000_000 + i))
        .collect();
    let keys = |flags: &[&str]| -> Vec<String> {
        let args = ["replay", "--format", "json", "--key", "key", "--window", "1m", "--agg", "count,max(v)"];
        let ran = windrow_with(&[&args[..], flags].concat(), lines.as_bytes()).good();
        rows(&ran.out).iter().map(|cells| cells[2].clone()).collect()
    };
    assert_eq!(keys(&["--sort", "key"]), ["a", "b", "c", "d"]);
    assert_eq!(keys(&["--top", "2", "--by", "count"]), ["b", "c"]);
    assert_eq!(keys(&["--top", "3", "--by", "max_v"]), ["d", "b", "c"]);
    assert_eq!(keys(&["--top", "3", "--by", "max_v", "--sort", "key"]), ["b", "c", "d"]);
    assert_eq!(keys(&["--top", "3", "--by", "count", "--having", "count < 3"]), ["c", "a", "d"]);
    assert!(keys(&["--top", "0", "--by", "count"]).is_empty());
    for (flags, part) in [
        (&["--top", "2"][..], "--by"),
        (&["--by", "count"][..], "--top"),
        (&["--top", "2", "--by", "cuont"][..], "count"),
        (&["--top", "2.5", "--by", "count"][..], "--top"),
        (&["--sort", "value"][..], "--sort"),
    ] {
        let args = ["replay", "--format", "json", "--key", "key", "--agg", "count"];
        let error = windrow_with(&[&args[..], flags].concat(), lines.as_bytes()).fails(2);
        assert!(error.contains(part), "{error}");
    }
}
