//! The aggregates from outside: names, nulls, types and times, what they refuse, and how many keys they bear. That they
//! agree with a recomputation is the property of `query::twin`.

use crate::run::{rows, windrow_with};
use arrow_array::cast::AsArray;
use arrow_array::types::Float64Type;
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use std::sync::Arc;
use windrow::query::{Query, Window, approx_distinct, distinct, first, last, quantile, stddev, var};
use windrow::time::TimeFormat;

const RECORDS: &str = r#"{"ts":3,"k":"a","x":2.5,"n":7,"s":"late","b":true}
{"ts":1,"k":"a","x":null,"n":64,"s":"é","b":false}
{"ts":1,"k":"a","x":-4.0,"n":7,"s":"early","b":true}
{"ts":2,"k":"b","x":0.0,"s":"","n":null}
{"ts":3,"k":"a","x":2.5,"n":100000,"s":"latest"}
"#;

fn json(args: &[&str]) -> String {
    windrow_with(&[&["replay", "-", "--time-format", "epoch_s", "-q"], args].concat(), RECORDS.as_bytes()).good().out
}

#[test]
fn values_names_and_nulls() {
    let list = "distinct(x),distinct(s),distinct(b),approx_distinct(n),p50(n),quantile(n, 1.0) as most,p99(x),var(x),\
                stddev(n),first(s),last(s),first(x),last(b)";
    let names = "k,distinct_x,distinct_s,distinct_b,approx_distinct_n,p50_n,most,p99_x,var_x,stddev_n,first_s,last_s,\
                 first_x,last_b\n";
    assert_eq!(json(&["--key", "k", "--agg", list]), names.to_owned() + &rows_of_both());
}

/// Of keys `a` and `b`, in the order of their hashes.
fn rows_of_both() -> String {
    let n = [7.0, 64.0, 7.0, 100_000.0];
    let mean = n.iter().sum::<f64>() / 4.0;
    let stddev = (n.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / 3.0).sqrt();
    let out = json(&["--key", "k", "--agg", "stddev(n) as d,quantile(n, 1) as most,var(x) as v"]);
    let a: Vec<String> = rows(&out).into_iter().find(|r| r[0] == "a").unwrap();
    assert!((a[1].parse::<f64>().unwrap() - stddev).abs() < 1e-6 * stddev, "{a:?}");
    assert!((a[2].parse::<f64>().unwrap() - 100_000.0).abs() <= 1000.0, "{a:?}");
    assert!((a[3].parse::<f64>().unwrap() - 169.0 / 12.0).abs() < 1e-9, "{a:?}");
    let x = json(&["--key", "k", "--agg", "p99(x)", "--where", "k = 'a'"]);
    let x = rows(&x)[0][1].clone();
    assert!((x.parse::<f64>().unwrap() - 2.5).abs() <= 0.025, "{x}");
    let a = format!("a,2,4,2,3,7.0,{},{x},{},{},é,latest,-4.0,true\n", a[2], a[3], a[1]);
    let b = "b,1,1,0,0,,,0.0,,,\"\",\"\",0.0,\n".to_owned();
    if out.lines().nth(1).unwrap().starts_with('a') { a + &b } else { b + &a }
}

#[test]
fn first_and_last_need_times_even_without_windows() {
    // Records without a time are bad only where someone asks for times.
    let text = "{\"ts\":1,\"x\":5}\n{\"x\":6}\n{\"ts\":1,\"x\":7}\n";
    let run =
        |agg: &str| windrow_with(&["replay", "-", "--format", "json", "--agg", agg, "--stats"], text.as_bytes()).good();
    let with = run("first(x),last(x)");
    assert_eq!((with.out.as_str(), with.stat("bad")), ("first_x,last_x\n5,7\n", 1));
    assert_eq!(run("max(x)").stat("bad"), 0);
}

#[test]
fn having_looks_at_the_output_and_changes_no_count() {
    let run = |more: &[&str]| {
        let args = ["replay", "-", "--time-format", "epoch_s", "--key", "k", "--window", "1s", "--stats"];
        windrow_with(&[&args[..], &["--agg", "count,sum(n),p50(x)"], more].concat(), RECORDS.as_bytes()).good()
    };
    let all = run(&[]);
    assert_eq!((all.stat("rows_out"), all.stat("windows")), (3, 3));
    for (having, wanted) in [
        ("count > 1", 2),
        ("k = 'b' or sum_n is null", 1),
        ("window_start >= '1970-01-01T00:00:02Z'", 2),
        ("window_end <= '1970-01-01T00:00:02Z' and k like 'a%'", 1),
        ("p50_x < 0 or regexp_like(k, '^b$')", 2),
        ("count > 100", 0),
    ] {
        let ran = run(&["--having", having]);
        assert_eq!(ran.stat("rows_out"), wanted, "{having}: {}", ran.out);
        assert_eq!((ran.stat("used"), ran.stat("filtered"), ran.stat("windows")), (5, 0, 3), "{having}");
        let kept: Vec<&str> = all.out.lines().filter(|l| ran.out.contains(l)).collect();
        assert_eq!(kept, ran.out.lines().collect::<Vec<_>>(), "{having}");
    }
    let no = |having: &str| windrow_with(&["replay", "-", "--having", having], RECORDS.as_bytes()).fails(2);
    let error = no("counts > 1");
    assert!(
        error.contains("--having, over the columns of the output: ") && error.contains("near it are count"),
        "{error}"
    );
    assert!(no("count >").contains("line 1, column 8"), "a place is named");
    assert!(no("window_end > '2024-01-01'").contains("there is no field window_end"), "without windows there is none");
}

#[test]
fn what_does_not_fit_is_one_sentence() {
    let no = |agg: &str| windrow_with(&["replay", "-", "--agg", agg, "-q"], RECORDS.as_bytes()).fails(2);
    for (agg, what) in [
        ("p99(s)", "p99_s: s is text, and this needs a number"),
        ("stddev(b) as d", "stddev_b: b is a boolean, and this needs a number"),
        ("quantile(n, 1.5)", "quantile needs a field and a number from 0 to 1"),
        ("quantile(n)", "quantile needs a field and a number from 0 to 1"),
        ("p200(n)", "there is no aggregate \"p200\""),
        ("p99(n), p99(n)", "two output columns are called \"p99_n\""),
        ("distinct(n), count as distinct_n", "two output columns are called \"distinct_n\""),
        ("count_if(s + 1 > 2)", "line 1, column 1: s is text; arithmetic is for numbers"),
        ("count_if(n = 1 and (b + 1 > 2))", "line 1, column 12: b is a boolean; arithmetic is for numbers"),
        ("count_if(regexp_like(s, '('))", "\"(\" is no regular expression: unclosed group"),
        ("count_if(regexp_like(n, 'a'))", "n is an integer; regexp_like is for text"),
    ] {
        let error = no(agg);
        assert!(error.contains(what), "{agg}: {error}");
        assert_eq!(error.lines().count(), 1, "{agg}: {error}");
    }
    // Far deeper than any stack; on the command line a single argument is at most 128 KiB.
    let deep = format!("{}n{} > 1", "(".repeat(20_000), ")".repeat(20_000));
    for flag in ["--where", "--having"] {
        let error = windrow_with(&["replay", "-", flag, &deep, "-q"], RECORDS.as_bytes()).fails(2);
        assert!(error.contains("nested more than 128 deep"), "{error}");
    }
    assert!(no(&format!("count_if({deep})")).contains("nested more than 128 deep"));
}

/// A million keys, each with quantiles and sets that slide.
#[test]
fn a_million_keys_with_sketches() {
    const KEYS: i64 = 1_000_000;
    let part = |from: i64| -> windrow::Result<RecordBatch> {
        let range = || from..from + 100_000;
        let columns: [(&str, ArrayRef); 3] = [
            ("ts", Arc::new(range().map(|i| i / KEYS * 10).collect::<Int64Array>())),
            ("k", Arc::new(range().map(|i| i % KEYS).collect::<Int64Array>())),
            ("x", Arc::new(range().map(|i| (i % KEYS + i / KEYS) as f64).collect::<Float64Array>())),
        ];
        Ok(RecordBatch::try_from_iter(columns)?)
    };
    let schema = part(0).unwrap().schema();
    let mut rows = Query::batches(schema, (0..3 * KEYS / 100_000).map(move |i| part(i * 100_000)))
        .time(Some("ts".into()), TimeFormat::EpochSeconds)
        .key("k")
        .window(Window::parse("20s", Some("10s"), None).unwrap())
        .memory(2 << 30)
        .aggregate(quantile("x", 0.99))
        .aggregate(distinct("x"))
        .aggregate(approx_distinct("x"))
        .aggregate(var("x"))
        .aggregate(stddev("x"))
        .aggregate(first("x"))
        .aggregate(last("x"))
        .run()
        .unwrap();
    let (mut count, mut wrong) = (0, 0);
    rows.for_each_block(|batches| {
        for batch in batches {
            let float = |i: usize| batch.column(i).as_primitive::<Float64Type>();
            count += batch.num_rows();
            for row in 0..batch.num_rows() {
                let (p99, first, last) = (float(3).value(row), float(8).value(row), float(9).value(row));
                wrong += usize::from((p99 - first).abs() > 0.01 * first || last - first > 1.0);
            }
        }
        Ok(true)
    })
    .unwrap();
    assert_eq!((count, wrong), (4 * KEYS as usize, 0));
    assert!(rows.statistics().peak_memory_bytes < 1 << 30, "{}", rows.statistics().peak_memory_bytes);
}
