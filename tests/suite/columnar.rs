//! Parquet and record batches: the same rows from a file, from memory and from NDJSON, whatever the types, the nulls,
//! the row groups and the batches are.

use crate::run::{file, rows, windrow};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, DictionaryArray, Float32Array, Float64Array, Int32Array, Int64Array,
    RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use windrow::query::{Agg, Query, Window};
use windrow::sink::{self, OutputFormat, Target};

/// More than two blocks of 65,536 rows.
const ROWS: i64 = 150_000;
/// 2024-02-28T23:50:00Z, in microseconds: a leap day follows.
const BASE: i64 = 1_709_164_200_000_000;

/// The fields whose keys are compared.
const KEYS: [&str; 8] = ["int", "single", "day", "millis", "nanos", "name", "word", "flag"];

/// `None` for one row in `every`.
fn some<T>(i: i64, every: i64, value: T) -> Option<T> {
    (i % every != 3).then_some(value)
}

/// Row numbers that jump back and forth by up to 100 rows.
fn micros(i: i64) -> i64 {
    BASE + (i + i * 7919 % 100) * 9_100
}

fn text(i: i64) -> String {
    ["", "a", "a,b", "say \"so\"", "ä", "a path that is longer than twelve bytes"][(i * 31 % 6) as usize].into()
}

/// Rows `range` of the data of these tests: every type that may be a key, with nulls, and two columns of values.
fn batch(range: std::ops::Range<i64>) -> RecordBatch {
    let all = || range.clone();
    let words: DictionaryArray<Int32Type> =
        all().map(|i| some(i, 11, text(i))).collect::<Vec<_>>().iter().map(|t| t.as_deref()).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(all().map(|i| Some(micros(i))).collect::<TimestampMicrosecondArray>().with_timezone("UTC"))),
        ("int", Arc::new(all().map(|i| some(i, 13, (i * 17 % 9 - 4) as i32)).collect::<Int32Array>())),
        ("single", Arc::new(all().map(|i| some(i, 17, (i % 5) as f32 / 10.0)).collect::<Float32Array>())),
        ("day", Arc::new(all().map(|i| some(i, 19, (i % 4 - 2) as i32)).collect::<Date32Array>())),
        ("millis", Arc::new(all().map(|i| some(i, 23, i % 3 * 1500 - 1)).collect::<TimestampMillisecondArray>())),
        (
            "nanos",
            Arc::new(all().map(|i| some(i, 29, i % 3 * 1_500_000_001 - 1)).collect::<TimestampNanosecondArray>()),
        ),
        ("name", Arc::new(all().map(|i| some(i, 7, text(i))).collect::<StringArray>())),
        ("word", Arc::new(words)),
        ("flag", Arc::new(all().map(|i| some(i, 5, i % 3 == 0)).collect::<BooleanArray>())),
        ("v", Arc::new(all().map(|i| some(i, 10, i * 101 % 1009 - 500)).collect::<Int64Array>())),
        // Eighths: their sums are exact in any order.
        ("x", Arc::new(all().map(|i| some(i, 12, (i * 211 % 2003) as f64 / 8.0)).collect::<Float64Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn schema() -> SchemaRef {
    batch(0..0).schema()
}

/// Writes rows `range` with `group` rows in each row group.
fn write(path: &Path, range: std::ops::Range<i64>, group: usize) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema(), Some(properties)).unwrap();
    writer.write(&batch(range)).unwrap();
    writer.close().unwrap();
}

const AGGREGATES: &str = "count, count(v), sum(v), avg(v), min(v), max(v), sum(x), avg(x), min(x), max(x), max(name)";

/// The answer as CSV over batches of `cut` rows, through the library.
fn over_batches(key: &str, cut: i64, threads: usize) -> String {
    let batches: Vec<_> = (0..ROWS).step_by(cut as usize).map(|from| Ok(batch(from..(from + cut).min(ROWS)))).collect();
    let mut query = Query::batches(schema(), batches)
        .key(key)
        .window(Window::parse("5m", Some("2m"), None).unwrap())
        .threads(threads);
    for aggregate in Agg::parse_list(AGGREGATES).unwrap() {
        query = query.aggregate(aggregate);
    }
    csv(query)
}

/// The rows of `query` as CSV.
fn csv(query: Query) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.csv");
    let mut rows = query.run().unwrap();
    let target = Target { path: Some(path.clone()), format: OutputFormat::Csv };
    let mut sink = sink::open(&target, &rows.schema()).unwrap();
    rows.for_each_block(|batches| {
        sink.write(batches)?;
        Ok(true)
    })
    .unwrap();
    sink.finish().unwrap();
    assert!(rows.statistics().ledger.balances());
    std::fs::read_to_string(path).unwrap()
}

fn replay(inputs: &[&Path], key: &str, more: &[&str]) -> crate::run::Ran {
    let mut args = vec!["replay"];
    args.extend(inputs.iter().map(|p| p.to_str().unwrap()));
    args.extend(["--key", key, "--window", "5m", "--slide", "2m", "--agg", AGGREGATES, "--stats"]);
    args.extend(more);
    windrow(&args).good()
}

#[test]
fn parquet_batches_and_ndjson_give_the_same_rows_for_keys_of_every_type() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.parquet");
    write(&path, 0..ROWS, 40_000);
    // The same values as JSON writes them: what is no number or boolean there is the text that CSV prints.
    let batch = batch(0..ROWS);
    let options = FormatOptions::default().with_null("null").with_timestamp_format(Some("%Y-%m-%dT%H:%M:%S%.f"));
    let fields: Vec<(&str, ArrayFormatter)> = KEYS
        .iter()
        .chain(&["v", "x"])
        .map(|name| (*name, ArrayFormatter::try_new(batch.column_by_name(name).unwrap(), &options).unwrap()))
        .collect();
    let mut json = String::new();
    for i in 0..ROWS as usize {
        json += &format!("{{\"ts\":{}", micros(i as i64));
        for (name, values) in &fields {
            let text = values.value(i).to_string();
            json += &match *name {
                _ if text == "null" => format!(",\"{name}\":null"),
                "int" | "single" | "flag" | "v" | "x" => format!(",\"{name}\":{text}"),
                "millis" | "nanos" => format!(",\"{name}\":\"{text}Z\""),
                _ => format!(",\"{name}\":{}", serde_json::to_string(&text).unwrap()),
            };
        }
        json += "}\n";
    }
    let (_json_dir, json_path) = file("data.ndjson", json.as_bytes());
    let mut compared = 0;
    for key in KEYS {
        let want = replay(&[&path], key, &[]);
        assert_eq!(want.stat("read"), ROWS as u64);
        assert!(want.out.lines().count() > 20, "{key}");
        assert!(over_batches(key, 40_000, 2) == want.out, "{key}: record batches");
        assert!(over_batches(key, 977, 1) == want.out, "{key}: record batches of an odd size");
        let from_json = replay(&[Path::new(&json_path)], key, &["--time-format", "epoch_us"]);
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let different =
            sorted(&want.out).into_iter().zip(sorted(&from_json.out)).find(|(parquet, json)| parquet != json);
        assert_eq!(different, None, "{key}: NDJSON");
        assert_eq!(want.out.lines().count(), from_json.out.lines().count(), "{key}");
        compared += want.out.lines().count();
    }
    assert!(compared > 500, "{compared}");
}

#[test]
fn neither_row_groups_nor_threads_nor_files_change_a_byte() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write(&path("one.parquet"), 0..ROWS, 1_000_000);
    let want = replay(&[&path("one.parquet")], "name,int", &[]).out;
    for group in [1_000, 65_536, 65_537, 100_001] {
        let name = format!("{group}.parquet");
        write(&path(&name), 0..ROWS, group);
        for threads in ["1", "2", "5", "8"] {
            let again = replay(&[&path(&name)], "name,int", &["--threads", threads]).out;
            assert!(again == want, "row groups of {group}, {threads} threads");
        }
        // Little memory: row groups are read in parts.
        let parts = replay(&[&path(&name)], "name,int", &["--threads", "4", "--memory", "80MiB"]);
        assert!(parts.out == want, "row groups of {group} in parts");
        assert_eq!(parts.stat("read"), ROWS as u64);
    }
    let batches: Vec<_> = (0..ROWS).step_by(33_333).map(|from| Ok(batch(from..(from + 33_333).min(ROWS)))).collect();
    let mut query = Query::batches(schema(), batches).key("name").key("int");
    query = query.window(Window::parse("5m", Some("2m"), None).unwrap());
    for aggregate in Agg::parse_list(AGGREGATES).unwrap() {
        query = query.aggregate(aggregate);
    }
    assert!(csv(query) == want, "record batches");
    // Two files are one stream. (Sums of eighths do not depend on where the blocks of the second one begin.)
    write(&path("a.parquet"), 0..70_001, 30_000);
    write(&path("b.parquet"), 70_001..ROWS, 30_000);
    let both = replay(&[&path("a.parquet"), &path("b.parquet")], "name,int", &[]);
    assert!(both.out == want, "two files");
    assert_eq!((both.stat("read"), both.stat("used")), (ROWS as u64, ROWS as u64));
}

#[test]
fn floats_are_the_same_to_the_bit_from_any_cut() {
    // Tenths: their sums depend on the order of additions.
    let tenths = |range: std::ops::Range<i64>| {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("ts", Arc::new(range.clone().map(|i| Some(micros(i))).collect::<TimestampMicrosecondArray>())),
            ("k", Arc::new(range.clone().map(|i| Some(i % 7)).collect::<Int64Array>())),
            ("x", Arc::new(range.map(|i| Some((i * 211 % 2003) as f64 / 10.0)).collect::<Float64Array>())),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let answer = |cut: i64, threads: usize, bits: u32| {
        let batches: Vec<_> = (0..ROWS).step_by(cut as usize).map(|a| Ok(tenths(a..(a + cut).min(ROWS)))).collect();
        let query = Query::batches(tenths(0..0).schema(), batches).key("k").threads(threads).partition_bits(bits);
        csv(query.window(Window::parse("3m", Some("10s"), None).unwrap()).aggregate(windrow::query::sum("x")))
    };
    let want = answer(ROWS, 1, 6);
    assert!(want.lines().count() > 500);
    for (cut, threads, bits) in [(1, 2, 6), (999, 3, 0), (65_536, 4, 1), (65_537, 5, 3), (100_000, 8, 10)] {
        assert!(answer(cut, threads, bits) == want, "batches of {cut}, {threads} threads, {bits} bits");
    }
}

#[test]
fn files_without_rows_and_files_that_are_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    write(&path("none.parquet"), 0..0, 1000);
    let none = replay(&[&path("none.parquet")], "name", &[]);
    assert_eq!((none.stat("read"), none.out.lines().count()), (0, 1));
    assert!(none.out.starts_with("window_start,window_end,name,count,"));
    // One without rows among others.
    write(&path("few.parquet"), 0..500, 1000);
    let few = replay(&[&path("few.parquet")], "name", &[]).out;
    let (none_path, few_path) = (path("none.parquet"), path("few.parquet"));
    assert_eq!(replay(&[&none_path, &few_path, &none_path], "name", &[]).out, few);
    // What is no Parquet, or no longer.
    std::fs::write(path("text.parquet"), "no parquet\n").unwrap();
    let text = path("text.parquet");
    let error = windrow(&["replay", text.to_str().unwrap(), "--format", "parquet"]).fails(1);
    assert!(error.contains("text.parquet: is not a Parquet file"), "{error}");
    let few_bytes = std::fs::read(path("few.parquet")).unwrap();
    let cut = path("cut.parquet");
    for keep in [4, 100, few_bytes.len() - 1] {
        std::fs::write(&cut, &few_bytes[..keep]).unwrap();
        let error = windrow(&["replay", cut.to_str().unwrap()]).fails(1);
        assert!(error.contains("cut.parquet: is not a readable Parquet file"), "{error}");
    }
    // Bytes in the middle that are not what they were.
    let mut damaged = few_bytes.clone();
    damaged[4..2000].fill(0x5a);
    std::fs::write(&cut, &damaged).unwrap();
    let error = windrow(&["replay", cut.to_str().unwrap(), "--key", "name", "--agg", "sum(v),max(ts)"]).fails(1);
    assert!(error.contains("cut.parquet: row group 0 cannot be read"), "{error}");
    // A second file with other columns, and Parquet behind text.
    let other = RecordBatch::try_from_iter([("ts", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
    let mut writer = ArrowWriter::try_new(File::create(path("other.parquet")).unwrap(), other.schema(), None).unwrap();
    writer.write(&other).unwrap();
    writer.close().unwrap();
    let (few, other) = (path("few.parquet"), path("other.parquet"));
    let two = [few.to_str().unwrap(), other.to_str().unwrap()];
    let error = windrow(&["replay", two[0], two[1], "--key", "name"]).fails(1);
    assert!(error.contains("other.parquet: has no column \"name\""), "{error}");
    let error = windrow(&["replay", two[0], two[1], "--window", "1m"]).fails(1);
    assert!(error.contains("other.parquet: column \"ts\" is of type"), "{error}");
    let (_dir, log) = file("a.log", crate::run::line("h", "17/May/2015:10:00:00 +0000", "/", 200, "1").as_bytes());
    assert!(windrow(&["replay", &log, two[0]]).fails(1).contains("is a Parquet file"));
    assert!(windrow(&["replay", two[0], &log]).fails(1).contains("a.log: "));
    // Integer times without a valid one are bad records.
    let ran = windrow(&["replay", two[1], "--window", "1m", "--time-format", "epoch_ns", "--stats"]).good();
    assert_eq!((ran.stat("read"), ran.stat("used")), (1, 1));
}

#[test]
fn parquet_out_reads_back_as_csv_out() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.parquet"), dir.path().join("out.parquet"));
    write(&input, 0..30_000, 10_000);
    let out = output.to_str().unwrap();
    let ran = replay(&[&input], "word,flag", &["-o", out]);
    assert_eq!(ran.out, "");
    let want = rows(&replay(&[&input], "word,flag", &[]).out.replace("\"a,b\"", "ab"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&output).unwrap()).unwrap();
    let types: Vec<String> =
        reader.schema().fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    assert_eq!(types[0], "window_start Timestamp(µs, \"UTC\")");
    assert_eq!(types[1], "window_end Timestamp(µs, \"UTC\")");
    assert_eq!(types[2..5], ["word Utf8", "flag Boolean", "count Int64"]);
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(|b| b.unwrap()).collect();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), want.len());
    let mut at = 0;
    for batch in &batches {
        for row in 0..batch.num_rows() {
            let count = arrow_cast::display::array_value_to_string(batch.column(4), row).unwrap();
            let sum = arrow_cast::display::array_value_to_string(batch.column(6), row).unwrap();
            assert_eq!((&count, &sum), (&want[at][4], &want[at][6]), "row {at}");
            at += 1;
        }
    }
    // What windrow wrote, windrow reads.
    let total: i64 = want.iter().map(|row| row[4].parse::<i64>().unwrap()).sum();
    assert_eq!(windrow(&["replay", out, "--agg", "sum(count) as n"]).good().out, format!("n\n{total}\n"));
}

/// A decimal is no integer: as a key it would lose its fraction, and different keys would be one.
#[test]
fn columns_that_cannot_be_keys_or_sums_are_named() {
    let decimals = arrow_array::Decimal128Array::from(vec![150, 175]).with_precision_and_scale(5, 2).unwrap();
    let halves = Float64Array::from(vec![0.5, 0.25]);
    let halves = DictionaryArray::<Int32Type>::try_new(Int32Array::from(vec![0, 1]), Arc::new(halves)).unwrap();
    let columns: [(&str, ArrayRef); 4] = [
        ("price", Arc::new(decimals)),
        ("nothing", Arc::new(arrow_array::NullArray::new(2))),
        ("half", Arc::new(halves)),
        ("huge", Arc::new(arrow_array::UInt64Array::from(vec![u64::MAX, 1]))),
    ];
    let batch = RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap();
    let query = || Query::batches(batch.schema(), vec![Ok(batch.clone())]);
    for (key, says) in [("price", "type Decimal128(5, 2) cannot be a key"), ("nothing", "type Null cannot be a key")] {
        let error = query().key(key).run().unwrap().next().unwrap().unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    assert_eq!(rows(&csv(query().key("huge"))).len(), 2);
    let mut halves = rows(&csv(query().key("half")));
    halves.sort();
    assert_eq!(halves, [["0.25", "1"], ["0.5", "1"]]);
    let error = query().aggregate(windrow::query::sum("huge")).run().unwrap().next().unwrap().unwrap_err();
    assert!(error.to_string().starts_with("huge: a value does not fit 64 bits"), "{error}");
}

/// One row: the time `ts`, in a file of its own.
fn one(ts: ArrayRef) -> (tempfile::TempDir, String) {
    let batch = RecordBatch::try_from_iter([("ts", ts)]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.parquet");
    let mut writer = ArrowWriter::try_new(File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    (dir, path.to_str().unwrap().to_owned())
}

#[test]
fn the_unit_of_times_that_are_integers_is_said() {
    for (value, unit, flag) in [
        (1_700_000_000, "seconds", "epoch_s"),
        (1_700_000_000_123, "milliseconds", "epoch_ms"),
        (1_700_000_000_123_456, "microseconds", "epoch_us"),
        (1_700_000_000_123_456_789, "nanoseconds", "epoch_ns"),
    ] {
        let (_dir, path) = one(Arc::new(Int64Array::from(vec![None, Some(value)])));
        let ran = windrow(&["replay", &path, "--window", "1m"]).good();
        let note = format!(
            "numbers such as {value} in \"ts\" are taken for {unit} since 1970, by their size (--time-format {flag})"
        );
        assert!(ran.err.contains(&note), "{}", ran.err);
        assert!(ran.out.contains("2023-11-14T22:13:00Z"));
        let told = windrow(&["replay", &path, "--window", "1m", "--time-format", flag]).good();
        assert!(!told.err.contains("taken for") && told.out == ran.out);
    }
    let (_dir, path) = one(Arc::new(TimestampMillisecondArray::from(vec![1_700_000_000_123])));
    assert!(!windrow(&["replay", &path, "--window", "1m"]).good().err.contains("taken for"));
}

#[test]
fn local_times_are_of_the_zone_and_instants_are_not() {
    // 2024-07-01 and 2024-01-01, noon: summer and winter in New York.
    let noons = [1_719_835_200_000_000, 1_704_110_400_000_000];
    let local = TimestampMicrosecondArray::from(noons.to_vec());
    let starts = |array: TimestampMicrosecondArray, more: &[&str]| {
        let (_dir, path) = one(Arc::new(array));
        let args = [&["replay", &path, "--window", "1h"], more].concat();
        rows(&windrow(&args).good().out).iter().map(|row| row[0].clone()).collect::<Vec<_>>()
    };
    let zone = ["--timezone", "America/New_York"];
    assert_eq!(starts(local.clone(), &[]), ["2024-01-01T12:00:00Z", "2024-07-01T12:00:00Z"]);
    assert_eq!(starts(local.clone(), &zone), ["2024-01-01T17:00:00Z", "2024-07-01T16:00:00Z"]);
    let instants = local.with_timezone("America/New_York");
    assert_eq!(starts(instants.clone(), &[]), ["2024-01-01T12:00:00Z", "2024-07-01T12:00:00Z"]);
    assert_eq!(starts(instants, &zone), ["2024-01-01T12:00:00Z", "2024-07-01T12:00:00Z"]);
}
