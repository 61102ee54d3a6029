//! CSV, TSV, patterns, zones, ranges of time and compressed input, as the command line reads them.

use crate::run::{Ran, file, rows, windrow, windrow_with};
use std::io::Write;

/// Runs `replay` over `input` on standard input.
fn piped(args: &[&str], input: &str) -> Ran {
    windrow_with(&[&["replay", "-", "--stats"], args].concat(), input.as_bytes())
}

/// The cells of each row, sorted.
fn sorted(ran: &Ran) -> Vec<String> {
    let mut lines: Vec<String> = rows(&ran.out).into_iter().map(|r| r.join("|")).collect();
    lines.sort();
    lines
}

#[test]
fn the_header_names_the_fields() {
    let csv = "\u{feff}ts,\"the path\",bytes,x,x\r\n2024-01-01T00:00:00Z,/a,1,,5\r\n2024-01-01T00:00:30Z,\"/b,c\",2,,\r\n\r\n2024-01-01T00:01:00Z,,4,,7";
    let ran = piped(&["--format", "csv", "--key", "the path", "--agg", "count, sum(bytes), sum(x_1)"], csv).good();
    assert_eq!(sorted(&ran), ["\"/b|c\"|1|2|", "/a|1|1|5", "|1|4|7"]);
    let ran = piped(&["--format", "csv", "--window", "1m"], csv).good();
    assert_eq!(
        sorted(&ran),
        ["2024-01-01T00:00:00Z|2024-01-01T00:01:00Z|2", "2024-01-01T00:01:00Z|2024-01-01T00:02:00Z|1"]
    );
    let error = piped(&["--format", "csv", "--key", "byte"], csv).fails(2);
    assert_eq!(error, "windrow: there is no field \"byte\" in the input; did you mean bytes?\n");
    let ran = piped(&["--format", "csv", "--no-header", "--key", "c1", "--agg", "sum(c2)"], "a,1\nb,2\na,3\n").good();
    assert_eq!(sorted(&ran), ["a|4", "b|2"]);
    // An empty quoted cell is a text, an empty one null.
    let ran = piped(&["--format", "csv", "--key", "k"], "k,v\n\"\",1\n,1\n").good();
    assert_eq!(sorted(&ran), ["\"\"|1", "|1"]);
}

#[test]
fn dialects() {
    let args = ["--key", "k", "--agg", "sum(v)", "--delimiter", ";", "--quote", "'", "--format", "csv"];
    assert_eq!(sorted(&piped(&args, "k;v\n'a;b';1\n\"c;2\n").good()), ["\"\"\"c\"|2", "a;b|1"]);
    let args = ["--key", "k", "--agg", "sum(v)", "--format", "tsv"];
    assert_eq!(sorted(&piped(&args, "k\tv\n\"a\tb\"\t1\nc\t2\n").good()), ["a\tb|1", "c|2"]);
    let args = [&args[..], &["--quote", "none"]].concat();
    assert_eq!(sorted(&piped(&args, "k\tv\n\"a\t1\nc\t2\n").good()), ["\"\"\"a\"|1", "c|2"]);
    let args = ["--key", "k", "--agg", "sum(v)", "--format", "csv", "--delimiter", "\\t"];
    assert_eq!(sorted(&piped(&args, "k\tv\na\t1\n").good()), ["a|1"]);
    assert!(piped(&["--delimiter", "ab"], "").fails(2).contains("one ASCII character"));
}

#[test]
fn ragged_records_are_bad_and_lose_no_neighbour() {
    let csv = "k,v\na,1\na\na,1,2\na,1,,\n\"two\nlines\",3\nb,\"open\n";
    let (_dir, bad) = file("bad", b"");
    let ran = piped(&["--format", "csv", "--key", "k", "--agg", "sum(v)", "--bad-lines", &bad], csv).good();
    assert_eq!(ran.out, "k,sum_v\n\"two\nlines\",3\na,2\n", "{}", ran.err);
    assert_eq!((ran.stat("used"), ran.stat("bad")), (3, 3));
    for said in [
        "line 3 (byte 8): fewer fields than the header",
        "line 4 (byte 10): more fields than the header",
        "line 8 (byte 36): a quoted field does not end",
    ] {
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    assert_eq!(std::fs::read_to_string(&bad).unwrap(), "a\na,1,2\nb,\"open\n\n");
}

/// Many records, some with newlines, quotes and delimiters in quotes, so that 4 MiB cuts fall anywhere.
fn large() -> String {
    let mut text = String::from("ts,path,note,n\n");
    for i in 0u32..150_000 {
        let note = match i.wrapping_mul(2_654_435_761) >> 28 {
            0 => "\"several\nlines,\n\"\" quoted \"\"\n\"".to_owned(),
            1 => "\"\"".to_owned(),
            2 => "6\" wide".to_owned(),
            n => "x".repeat(n as usize * 8),
        };
        text += &format!("{},/p{},{note},{}.25\n", 1_700_000_000 + i / 10, i % 97, i % 1000);
    }
    text
}

#[test]
fn the_cut_changes_nothing() {
    let text = large();
    assert!(text.len() > 9 << 20);
    let args = ["--key", "path", "--window", "1h", "--agg", "count, sum(n), max(note), count_if(note like '%quoted%')"];
    let (dir, path) = file("large.csv", text.as_bytes());
    let one = windrow(&[&["replay", &path, "--stats"], &args[..]].concat()).good();
    assert_eq!((one.stat("used"), one.stat("bad")), (150_000, 0));
    let quoted = text.matches("several").count().to_string();
    let sum: u64 = rows(&one.out).iter().map(|r| r[r.len() - 1].parse::<u64>().unwrap()).sum();
    assert_eq!(sum.to_string(), quoted);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let gz_path = dir.path().join("large.csv.gz");
    std::fs::write(&gz_path, gz.finish().unwrap()).unwrap();
    // Two frames, with one to be skipped between them.
    let (a, b) = text.as_bytes().split_at(5_000_001);
    let frame = |part| zstd::bulk::compress(part, 1).unwrap();
    let zst = [&frame(a)[..], &[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], &frame(b)].concat();
    let zst_path = dir.path().join("large.csv.zst");
    std::fs::write(&zst_path, zst).unwrap();
    for args in [
        [&["replay", &path, "--threads", "1"], &args[..]].concat(),
        [&["replay", gz_path.to_str().unwrap()], &args[..]].concat(),
        [&["replay", zst_path.to_str().unwrap(), "--threads", "3"], &args[..]].concat(),
        [&["replay", &path, "--max-record", "200000"], &args[..]].concat(),
    ] {
        assert!(windrow(&args).good().out == one.out, "{args:?}");
    }
    let args = [&["replay", "-", "--format", "csv"], &args[..]].concat();
    assert!(windrow_with(&args, text.as_bytes()).good().out == one.out, "a pipe");
}

#[test]
fn a_quote_that_never_closes_costs_no_more_than_the_record_limit() {
    let mut text = String::from("k,v\na,\"open\n");
    (0..3_000_000).for_each(|_| text += "b,1\n");
    let (_dir, path) = file("open.csv", text.as_bytes());
    let args =
        ["replay", &path, "--key", "k", "--stats", "--max-record", "1MiB", "--type", "v:integer", "--agg", "sum(v)"];
    let ran = windrow(&args).good();
    // The record ends at the first newline from 1 MiB on.
    let lost = (1 << 20) / 4 - 1;
    assert_eq!((ran.stat("bad"), ran.stat("used")), (1, 3_000_000 - lost), "{}", ran.err);
    let piped = windrow_with(
        &[
            "replay",
            "-",
            "--format",
            "csv",
            "--key",
            "k",
            "--max-record",
            "1MiB",
            "--type",
            "v:integer",
            "--agg",
            "sum(v)",
        ],
        text.as_bytes(),
    );
    assert_eq!(piped.good().out, ran.out);
}

#[test]
fn truncated_zst_is_an_error() {
    let data = zstd::bulk::compress(large().as_bytes(), 1).unwrap();
    let (_dir, path) = file("cut.csv.zst", &data[..data.len() / 2]);
    assert!(windrow(&["replay", &path]).fails(1).contains("cannot be decompressed (damaged or cut short)"));
}

#[test]
fn files_of_one_input_have_each_their_header() {
    let (dir, one) = file("1.csv", b"ts,path,n\n1700000000,/a,1\n");
    let two = dir.path().join("2.csv");
    std::fs::write(&two, "n,extra,path,ts\n2,x,/a,1700000001\n").unwrap();
    std::fs::write(dir.path().join("3.csv"), "").unwrap();
    let all = dir.path().join("*.csv");
    let args = ["replay", all.to_str().unwrap(), "--key", "path", "--window", "1m", "--agg", "sum(n)"];
    assert_eq!(rows(&windrow(&args).good().out)[0][2..], ["/a", "3"]);
    std::fs::write(&two, "n,ts\n2,1700000001\n").unwrap();
    let error = windrow(&args).fails(1);
    assert!(error.contains("2.csv: the header has no column \"path\""), "{error}");
    let empty = windrow(&["replay", dir.path().join("3.csv").to_str().unwrap(), "--key", "path", "--window", "1m"]);
    assert_eq!(empty.good().out, "window_start,window_end,path,count\n");
    assert!(!one.is_empty());
}

#[test]
fn types_are_inferred_or_said() {
    let mut csv = String::from("k,v\n");
    (0..1000).for_each(|_| csv += "a,1\n");
    let late = csv.clone() + "a,many\na,\n";
    let ran = piped(&["--format", "csv", "--key", "k", "--agg", "sum(v), count(v)"], &late).good();
    assert_eq!((sorted(&ran), ran.stat("cast_failed")), (vec!["a|1000|1000".into()], 1));
    let fraction = csv.clone() + "a,1.5\n";
    let error = piped(&["--format", "csv", "--key", "k", "--agg", "sum(v)"], &fraction).fails(1);
    assert!(error.contains("say --type v:float"), "{error}");
    let ran = piped(&["--format", "csv", "--key", "k", "--agg", "sum(v)", "--type", "v:float"], &fraction).good();
    assert_eq!(sorted(&ran), ["a|1001.5"]);
    let error = piped(&["--format", "csv", "--agg", "sum(k)"], &csv).fails(2);
    assert!(error.contains("sum needs a number"), "{error}");
    let error = piped(&["--format", "csv", "--type", "w:float"], &csv).fails(2);
    assert!(error.contains("--type w: there is no field \"w\""), "{error}");
    assert!(piped(&["--type", "v:number"], &csv).fails(2).contains("the types are text, integer, float"));
    let ran =
        piped(&["--format", "json", "--agg", "max(n)", "--type", "n:text"], "{\"n\":\"9\"}\n{\"n\":\"10\"}\n").good();
    assert_eq!(sorted(&ran), ["9"]);
    // Keys stand as they do in the input.
    let ran = piped(&["--format", "csv", "--key", "k"], "k,v\n007,1\n7,1\n7.0,1\n").good();
    assert_eq!(sorted(&ran), ["007|1", "7.0|1", "7|1"]);
}

#[test]
fn auto_says_what_it_chose() {
    let csv = "when;what;n\n2024-01-01;a;1\n2024-01-02;b;2\n";
    let ran = piped(&["--key", "what", "--agg", "sum(n)"], csv).good();
    assert!(ran.err.contains("format: csv, fields separated by ';'"), "{}", ran.err);
    assert_eq!(sorted(&ran), ["a|1", "b|2"]);
    let tsv = csv.replace(';', "\t");
    assert!(piped(&["--key", "what"], &tsv).good().err.contains("format: tsv"));
    // Without a header it is not clear enough, unless that is said.
    let bare = "1,a\n2,b\n";
    assert!(piped(&[], bare).fails(1).contains("is of no format that is recognised"));
    assert!(piped(&["--no-header"], bare).good().err.contains("format: csv"));
    let (_dir, path) = file("x.csv", bare.as_bytes());
    assert!(windrow(&["replay", &path, "--key", "1"]).good().err.contains("format: csv"));
    assert!(piped(&[], "some text\nand more, of it\n").fails(1).contains("is of no format that is recognised"));
    let pattern = piped(&["--pattern", r"(?<w>\w+)", "--key", "w"], "a b\n").good();
    assert!(pattern.err.contains("format: regex"));
}

#[test]
fn epoch_units_are_said() {
    for (value, unit, flag) in [
        ("1700000000", "seconds", "epoch_s"),
        ("1700000000123", "milliseconds", "epoch_ms"),
        ("1700000000123456", "microseconds", "epoch_us"),
        ("1700000000123456789", "nanoseconds", "epoch_ns"),
    ] {
        for (format, input) in [("csv", format!("ts,n\n{value},1\n")), ("json", format!("{{\"ts\":{value}}}\n"))] {
            let ran = piped(&["--format", format, "--window", "1m"], &input).good();
            let note = format!(
                "numbers such as {value} in \"ts\" are taken for {unit} since 1970, by their size (--time-format {flag})"
            );
            assert!(ran.err.contains(&note), "{}", ran.err);
            assert!(ran.out.contains("2023-11-14T22:13:00Z"));
            let told = piped(&["--format", format, "--window", "1m", "--time-format", flag], &input).good();
            assert!(!told.err.contains("taken for") && told.out == ran.out);
        }
    }
}

#[test]
fn zones_and_their_changes() {
    // The clock goes from 2:00 back to 1:00 on 2024-11-03, and from 2:00 on to 3:00 on 2024-03-10.
    let csv = "ts,k\n2024-11-03 00:30:00,a\n2024-11-03 01:30:00,b\n2024-11-03 02:30:00,c\n2024-03-10 02:30:00,d\n2024-03-10T02:30:00Z,e\n";
    let args = ["--format", "csv", "--key", "k", "--window", "1h", "--timezone", "America/New_York"];
    let ran = piped(&args, csv).good();
    let starts: Vec<String> = rows(&ran.out).iter().map(|r| format!("{} {}", r[2], r[0])).collect();
    assert_eq!(
        starts,
        [
            "e 2024-03-10T02:00:00Z",
            "d 2024-03-10T07:00:00Z",
            "a 2024-11-03T04:00:00Z",
            "b 2024-11-03T05:00:00Z",
            "c 2024-11-03T07:00:00Z"
        ]
    );
    assert!(piped(&["--timezone", "Mars/Base"], csv).fails(2).contains("there is no time zone \"Mars/Base\""));
    let args =
        ["--format", "csv", "--key", "k", "--window", "1d", "--time-format", "%d.%m.%Y %H:%M", "--timezone", "+01:00"];
    let ran = piped(&args, "ts,k\n02.01.2024 00:30,a\n2024-01-01,b\n").good();
    assert_eq!((rows(&ran.out)[0][0].as_str(), ran.stat("bad")), ("2024-01-01T00:00:00Z", 1));
    assert!(piped(&["--time-format", "%d.%m. %H:%M"], csv).fails(2).contains("does not say enough"));
}

#[test]
fn records_outside_the_range_are_filtered() {
    let csv = "ts,k\n2024-01-01T00:00:00Z,a\n2024-01-01T01:00:00Z,b\n2024-01-01T02:00:00Z,c\nnever,d\n";
    let args = ["--format", "csv", "--key", "k", "--from", "2024-01-01T01:00:00Z", "--to", "2024-01-01 02:00"];
    let ran = piped(&args, csv).good();
    assert_eq!((sorted(&ran), ran.stat("filtered"), ran.stat("bad")), (vec!["b|1".into()], 2, 1));
    let args = [
        "--format",
        "csv",
        "--key",
        "k",
        "--from",
        "2024-01-01 02:30",
        "--timezone",
        "Europe/Berlin",
        "--where",
        "k <> 'c'",
    ];
    let ran = piped(&args, csv).good();
    assert_eq!((sorted(&ran), ran.stat("filtered")), (Vec::new(), 3));
    assert!(piped(&["--from", "soon"], csv).fails(2).contains("--from: \"soon\" is not a time"));
}

#[test]
fn patterns_name_the_fields() {
    let log = "[2024-01-01 00:00:00] WARN disk 12.5\nnothing\n[2024-01-01 00:00:05] INFO net 1\r\n";
    let pattern = r"^\[(?<ts>[^\]]+)\] (?<level>\w+) (?<what>\w+) (?<ms>[\d.]+)$";
    let args = ["--format", "regex", "--pattern", pattern, "--key", "level", "--window", "1m", "--agg", "sum(ms)"];
    let ran = piped(&args, log).good();
    assert_eq!((rows(&ran.out).len(), ran.stat("bad")), (2, 1));
    assert!(ran.out.contains("WARN,12.5") && ran.out.contains("INFO,1"), "{}", ran.out);
    assert!(ran.err.contains("line 2 (byte 37): the pattern does not match"));
    assert!(piped(&["--format", "regex"], log).fails(2).contains("needs --pattern"));
    assert!(piped(&["--format", "regex", "--pattern", "(?<a"], log).fails(2).contains("is malformed"));
    assert!(piped(&["--format", "csv", "--pattern", "(?<a>b)"], "a\n").fails(2).contains("--pattern is for"));
    assert!(
        piped(&["--format", "regex", "--pattern", "(?<a>b)", "--key", "c"], log).fails(2).contains("no field \"c\"")
    );
}

/// Real files of the formats, as their description says: lines, bad ones, first and last time.
#[test]
fn real_delimited_files() {
    let Some(shared) = std::env::var_os("WINDROW_SHARED") else {
        println!("skipped: WINDROW_SHARED is not set");
        return;
    };
    type Described = (&'static str, &'static [&'static str], u64, u64, &'static str, &'static str);
    let csv: [Described; 5] = [
        ("nasa_19950701.tsv", &[], 9_999, 0, "1995-07-01T04:00:01Z", "1995-07-01T07:39:44Z"),
        ("azure_llm_code.csv", &["--time", "TIMESTAMP"], 8_819, 0, "2023-11-16T18:17:03Z", "2023-11-16T19:14:19Z"),
        (
            "netflow_ctu.binetflow.csv",
            &["--time", "StartTime"],
            6_751,
            0,
            "2019-04-04T16:23:00Z",
            "2019-04-05T16:18:32Z",
        ),
        ("zeek_weird.log.gz", &["--format", "tsv"], 24_202, 0, "2018-03-24T17:15:20Z", "2018-03-24T17:36:21Z"),
        (
            "debs2012_manufacturing.tsv.gz",
            &["--no-header", "--time", "c1"],
            17_000,
            0,
            "2012-02-22T16:46:28Z",
            "2012-02-22T16:49:19Z",
        ),
    ];
    for (name, more, read, bad, first, last) in csv {
        let path = std::path::Path::new(&shared).join("data").join(name);
        let ran = windrow(&[&["replay", path.to_str().unwrap(), "--window", "1s", "--stats"], more].concat()).good();
        assert_eq!((ran.stat("read"), ran.stat("bad")), (read, bad), "{name}: {}", ran.err);
        let rows = rows(&ran.out);
        assert_eq!((rows[0][0].as_str(), rows[rows.len() - 1][0].as_str()), (first, last), "{name}");
    }
    println!("delimited files: {} ran", csv.len());
}

/// A file may name its fields as it likes, but it does not write to the terminal.
#[test]
fn names_of_fields_are_shown_without_their_control_characters() {
    let (_dir, path) = file("x.csv", b"a\x1b[2J\x07,b\r\x00\n1,2\n");
    let error = windrow(&["replay", &path, "--key", "zzz", "--window", "1m"]).fails(2);
    assert!(error.contains("there is no field \"zzz\"") && error.contains("a\\u{1b}[2J\\u{7}"), "{error}");
    assert!(!error.trim_end().contains(|c: char| c.is_control() && c != '\n'), "{error:?}");
}
