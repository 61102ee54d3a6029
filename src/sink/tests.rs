//! The sinks against naive twins: the bytes that a few obvious lines would have written, the rows that went in.

use super::*;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, PrimitiveArray, StringArray, StringViewArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use proptest::prelude::*;
use std::fs;
use std::sync::Arc;

type Instants = PrimitiveArray<TimestampMicrosecondType>;

/// One row of the engine: window start, text key, number key, integer, float, flag.
type Record = (i64, Option<String>, i64, Option<i64>, Option<f64>, Option<bool>);

fn schema() -> SchemaRef {
    let utc = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("window_start", utc.clone(), false),
        Field::new("path, quoted", DataType::Utf8, true),
        Field::new("key", DataType::Int64, false),
        Field::new("count", DataType::Int64, true),
        Field::new("sum_x", DataType::Float64, true),
        Field::new("flag", DataType::Boolean, true),
    ]))
}

fn batch(rows: &[Record]) -> RecordBatch {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(rows.iter().map(|r| Some(r.0)).collect::<Instants>().with_timezone("UTC")),
        Arc::new(rows.iter().map(|r| r.1.clone()).collect::<StringArray>()),
        Arc::new(rows.iter().map(|r| r.2).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.3).collect::<Int64Array>()),
        Arc::new(rows.iter().map(|r| r.4).collect::<Float64Array>()),
        Arc::new(rows.iter().map(|r| r.5).collect::<BooleanArray>()),
    ];
    // `collect` makes a nullable array without a bitmap where there is no null.
    RecordBatch::try_new(schema(), columns).expect("columns of the schema")
}

/// Instants whose text is easily said: whole seconds of one day.
fn records(most: usize) -> impl Strategy<Value = Vec<Record>> {
    let text = prop_oneof![
        "[ -~]{0,12}",
        "[a,\"\r\n]{0,6}",
        "[a-z/,\"\u{e9}]{7,70}",
        Just("/products/river-stone-17.html".to_string()),
    ];
    let float = prop_oneof![any::<f64>(), (-1e6..1e6).prop_map(|x: f64| x.round() / 8.0), Just(-0.0), Just(f64::NAN),];
    let int = prop_oneof![any::<i64>(), -10i64..20_000];
    let record = (
        (0..3i64).prop_map(|s| s * 1_000_000),
        prop::option::of(text),
        any::<i64>(),
        prop::option::of(int),
        prop::option::of(float),
        prop::option::of(any::<bool>()),
    );
    prop::collection::vec(record, 0..most)
}

/// The CSV of some rows, as plainly as it can be said.
fn naive_csv(rows: &[Record]) -> String {
    let quoted = |text: &str| {
        if text.is_empty() || text.contains([',', '"', '\r', '\n']) {
            format!("\"{}\"", text.replace('"', "\"\""))
        } else {
            text.to_string()
        }
    };
    let float = |x: f64| match x {
        x if x.is_nan() => "NaN".to_string(),
        x if x.is_infinite() => x.to_string(),
        x => format!("{x:?}"),
    };
    let mut out = "window_start,\"path, quoted\",key,count,sum_x,flag\n".to_string();
    for (start, text, key, count, sum, flag) in rows {
        let cells = [
            format!("1970-01-01T00:00:{:02}Z", start / 1_000_000),
            text.as_deref().map(quoted).unwrap_or_default(),
            key.to_string(),
            count.map(|v| v.to_string()).unwrap_or_default(),
            sum.map(float).unwrap_or_default(),
            flag.map(|v| v.to_string()).unwrap_or_default(),
        ];
        out += &cells.join(",");
        out.push('\n');
    }
    out
}

/// The rows cut at `cuts`, handed over `per_call` batches at a time.
fn write_cut(target: &Target, whole: &RecordBatch, cuts: &[usize], per_call: usize) -> SinkSummary {
    let rows = whole.num_rows();
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (rows + 1)).chain([0, rows]).collect();
    at.sort_unstable();
    let batches: Vec<RecordBatch> = at.windows(2).map(|w| whole.slice(w[0], w[1] - w[0])).collect();
    let mut sink = open(target, &whole.schema()).expect("an output");
    for call in batches.chunks(per_call) {
        sink.write(call.to_vec()).expect("written");
    }
    sink.finish().expect("finished")
}

fn target(directory: &tempfile::TempDir, name: &str) -> Target {
    Target::file(directory.path().join(name)).expect("a known ending")
}

fn names(directory: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).expect("a directory");
    entries.map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

fn same_float_text(ours: &str, naive: &str) -> bool {
    let (ours, naive): (Vec<&str>, Vec<&str>) = (ours.split(',').collect(), naive.split(',').collect());
    ours.len() == naive.len()
        && ours.iter().zip(&naive).all(|(a, b)| {
            let equal = |a: &str, b: &str| match (a.parse::<f64>(), b.parse::<f64>()) {
                (Ok(x), Ok(y)) => a.len() <= b.len() + 2 && (x == y || (x.is_nan() && y.is_nan())),
                _ => false,
            };
            a == b || equal(a, b)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn csv_is_what_the_naive_twin_writes(
        rows in records(200), cuts in prop::collection::vec(any::<usize>(), 0..5), per_call in 1usize..4,
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let target = target(&directory, "rows.csv");
        let summary = write_cut(&target, &batch(&rows), &cuts, per_call);
        let written = fs::read_to_string(directory.path().join("rows.csv")).expect("text");
        let naive = naive_csv(&rows);
        prop_assert!(written == naive || same_float_text(&written, &naive), "{written}\n---\n{naive}");
        prop_assert_eq!(summary.rows, rows.len() as u64);
        prop_assert_eq!(summary.bytes, written.len() as u64);
    }

    /// The twin is a JSON parser: values read back, and to the byte the same however the rows are cut.
    #[test]
    fn ndjson_reads_back(
        rows in records(200), cuts in prop::collection::vec(any::<usize>(), 0..5), per_call in 1usize..4,
    ) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("rows.ndjson");
        let target = target(&directory, "rows.ndjson");
        write_cut(&target, &batch(&rows), &cuts, per_call);
        let written = fs::read_to_string(&path).expect("text");
        prop_assert_eq!(written.lines().count(), rows.len());
        for (line, (start, text, key, count, sum, flag)) in written.lines().zip(&rows) {
            let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let sum = sum.filter(|v| v.is_finite());
            let want = serde_json::json!({
                "window_start": format!("1970-01-01T00:00:{:02}Z", start / 1_000_000), "path, quoted": text, "key": key,
                "count": count, "flag": flag,
            });
            for (name, want) in want.as_object().expect("an object") {
                prop_assert_eq!(&value[name], want, "{}", line);
            }
            // The parser rounds the last digit now and then.
            let text = line.split("\"sum_x\":").last().and_then(|rest| rest.split(',').next());
            prop_assert_eq!(text.and_then(|text| text.parse().ok()), sum, "{}", line);
            prop_assert_eq!(value["sum_x"].is_null(), sum.is_none());
            prop_assert_eq!(value.as_object().expect("an object").len(), 6);
        }
        write_cut(&target, &batch(&rows), &[], 1);
        prop_assert_eq!(fs::read_to_string(&path).expect("text"), written);
    }

    #[test]
    fn checksum_does_not_depend_on_the_cut(
        rows in records(300), cuts in prop::collection::vec(any::<usize>(), 0..9), per_call in 1usize..4,
    ) {
        let null = Target { path: None, format: OutputFormat::Null };
        let whole = batch(&rows);
        let one = write_cut(&null, &whole, &[], 1);
        prop_assert_eq!(one, write_cut(&null, &whole, &cuts, per_call));
        // Another value, or two rows that change places, change it.
        if let Some(first) = rows.first() {
            let mut other = rows.clone();
            other[0].2 = other[0].2.wrapping_add(1);
            prop_assert_ne!(one.checksum, write_cut(&null, &batch(&other), &[], 1).checksum);
            let mut other = rows.clone();
            other.swap(0, rows.len() - 1);
            if other[0].2 != first.2 {
                prop_assert_ne!(one.checksum, write_cut(&null, &batch(&other), &[], 1).checksum);
            }
        }
    }
}

#[test]
fn checksum_is_the_same_for_any_number_of_threads_and_long_columns() {
    let rows: Vec<Record> = (0..200_001i64)
        .map(|i| {
            let text = (i % 7 != 0).then(|| format!("/{}", i % 1000));
            (i / 100, text, i, (i % 3 != 0).then_some(i), Some(i as f64 / 3.0), None)
        })
        .collect();
    let whole = batch(&rows);
    let null = Target { path: None, format: OutputFormat::Null };
    let expected = write_cut(&null, &whole, &[], 1);
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            assert_eq!(write_cut(&null, &whole, &[], 1), expected);
            assert_eq!(write_cut(&null, &whole, &[65_536, 70_001, 131_072, 13], 2), expected);
        });
    }
}

#[test]
fn csv_bytes_are_the_same_for_any_number_of_threads() {
    let rows: Vec<Record> = (0..50_000i64)
        .map(|i| (i / 5000 * 1_000_000, Some(format!("/p/{}", i % 999)), i, Some(i), Some(0.5), None))
        .collect();
    let whole = batch(&rows);
    let directory = tempfile::tempdir().expect("a directory");
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| write_cut(&target(&directory, "rows.csv"), &whole, &[17, 40_000], 2));
        let written = fs::read_to_string(directory.path().join("rows.csv")).expect("text");
        assert!(written == naive_csv(&rows), "{threads} threads");
    }
}

fn read_parquet(path: &Path) -> RecordBatch {
    let file = fs::File::open(path).expect("a file");
    let reader = ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)
        .expect("Parquet")
        .build()
        .expect("a reader");
    let schema = arrow_array::RecordBatchReader::schema(&reader);
    let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("a batch")).collect();
    arrow_select::concat::concat_batches(&schema, &batches).expect("one schema")
}

fn row_groups(path: &Path) -> usize {
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    let file = fs::File::open(path).expect("a file");
    SerializedFileReader::new(file).expect("Parquet").metadata().num_row_groups()
}

#[test]
fn parquet_reads_back_and_its_bytes_do_not_depend_on_the_cut() {
    // Long enough for several blocks; nulls only in some of them.
    let rows: Vec<Record> = (0..100_000i64)
        .map(|i| {
            let text = (i % 50_000 > 9).then(|| format!("/{}", i % 5000));
            (i / 100, text, i * 7919 % 1000, Some(i % 800), (i > 70_000).then_some(i as f64), None)
        })
        .collect();
    let whole = batch(&rows);
    let directory = tempfile::tempdir().expect("a directory");
    let target = target(&directory, "rows.parquet");
    let path = directory.path().join("rows.parquet");
    let mut first: Option<Vec<u8>> = None;
    for (threads, cuts) in [(1, vec![]), (2, vec![1, 16_384, 16_385, 50_000, 99_999]), (3, vec![70_001])] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let summary = pool.install(|| write_cut(&target, &whole, &cuts, 2));
        assert_eq!(summary.rows, 100_000);
        let bytes = fs::read(&path).expect("a file");
        assert_eq!(summary.bytes, bytes.len() as u64);
        assert_eq!(read_parquet(&path).columns(), whole.columns());
        assert!(row_groups(&path) > 2);
        assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "cut {cuts:?}");
    }
}

/// Words that neither repeat nor compress are written as they are once a row group has shown it, and now and then it is
/// found out again.
#[test]
fn parquet_learns_what_columns_are_worth() {
    use ::parquet::basic::{Compression, Encoding};
    use ::parquet::file::reader::{FileReader, SerializedFileReader};
    let rows: Vec<Record> = (0..250_000i64)
        .map(|i| (i / 100, None, crate::hash::hash_word(i as u64) as i64, Some(i % 800), None, None))
        .collect();
    let whole = batch(&rows);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rows.parquet");
    write_cut(&target(&directory, "rows.parquet"), &whole, &[70_001], 2);
    assert_eq!(read_parquet(&path).columns(), whole.columns());
    let file = SerializedFileReader::new(fs::File::open(&path).expect("a file")).expect("Parquet");
    let groups = file.metadata().row_groups();
    let of = |group: usize, column: usize| {
        let chunk = groups[group].column(column);
        (chunk.compression() == Compression::SNAPPY, chunk.encodings().any(|e| e == Encoding::RLE_DICTIONARY))
    };
    let words = schema().index_of("key").expect("a column");
    assert_eq!(
        [0, 1, 2, 3, 4].map(|group| of(group, words)),
        [(true, true), (false, false), (false, false), (true, true), (false, false)]
    );
    assert!((0..groups.len()).all(|group| of(group, 0) == (true, true)), "times repeat");
}

#[test]
fn arrow_reads_back_and_its_bytes_do_not_depend_on_the_cut() {
    let row = |i: i64| {
        (i / 100, (i % 50 > 9).then(|| format!("/{}", i % 5000)), i, Some(i % 800), None, (i > 2500).then_some(true))
    };
    let rows: Vec<Record> = (0..5000i64).map(row).collect();
    let whole = batch(&rows);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rows.arrow");
    let mut first: Option<Vec<u8>> = None;
    for cuts in [vec![], vec![1, 1024, 1025, 3000], vec![2500, 4999]] {
        let summary = write_cut(&target(&directory, "rows.arrow"), &whole, &cuts, 2);
        let bytes = fs::read(&path).expect("a file");
        assert_eq!((summary.rows, summary.bytes), (5000, bytes.len() as u64));
        let reader =
            arrow_ipc::reader::FileReader::try_new(fs::File::open(&path).expect("a file"), None).expect("Arrow");
        assert_eq!(reader.schema(), schema());
        let batches: Vec<RecordBatch> = reader.map(|batch| batch.expect("a batch")).collect();
        assert!(batches.len() > 3);
        assert_eq!(
            arrow_select::concat::concat_batches(&schema(), &batches).expect("one schema").columns(),
            whole.columns()
        );
        assert!(*first.get_or_insert_with(|| bytes.clone()) == bytes, "cut {cuts:?}");
    }
    let empty = write_cut(&target(&directory, "rows.arrow"), &batch(&[]), &[], 1);
    assert_eq!(empty.rows, 0);
}

#[test]
fn an_empty_parquet_file_has_its_schema() {
    let directory = tempfile::tempdir().expect("a directory");
    let summary = write_cut(&target(&directory, "rows.parquet"), &batch(&[]), &[], 1);
    assert_eq!(summary.rows, 0);
    let read = read_parquet(&directory.path().join("rows.parquet"));
    assert_eq!((read.num_rows(), read.schema().fields().len()), (0, 6));
}

#[test]
fn an_older_file_stays_until_finish_and_nothing_is_left_of_a_dropped_sink() {
    for name in ["rows.csv", "rows.parquet"] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(name);
        fs::write(&path, "old").expect("written");
        let rows = batch(&[(0, None, 1, None, None, None)]);

        let mut sink = open(&target(&directory, name), &schema()).expect("an output");
        sink.write(vec![rows.clone()]).expect("written");
        sink.flush().expect("flushed");
        assert_eq!(names(&directory).len(), 2, "a temporary file beside the old one");
        drop(sink);
        assert_eq!(names(&directory), [name]);
        assert_eq!(fs::read_to_string(&path).expect("text"), "old");

        let mut sink = open(&target(&directory, name), &schema()).expect("an output");
        sink.write(vec![rows]).expect("written");
        assert_eq!(fs::read_to_string(&path).expect("text"), "old");
        sink.finish().expect("finished");
        assert_eq!(names(&directory), [name]);
        assert_ne!(fs::read(&path).expect("bytes"), b"old");
    }
}

#[cfg(unix)]
#[test]
fn a_link_keeps_pointing_and_permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let (real, link) = (directory.path().join("real.csv"), directory.path().join("link.csv"));
    fs::write(&real, "old").expect("written");
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).expect("permissions");
    std::os::unix::fs::symlink(&real, &link).expect("a link");
    write_cut(&target(&directory, "link.csv"), &batch(&[]), &[], 1);
    assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
    assert_ne!(fs::read_to_string(&real).expect("text"), "old");
    assert_eq!(fs::metadata(&real).expect("a file").permissions().mode() & 0o777, 0o640);
}

#[test]
fn errors_are_sentences_with_the_path() {
    let directory = tempfile::tempdir().expect("a directory");
    let open_at = |path: PathBuf| {
        let target = Target { path: Some(path), format: OutputFormat::Csv };
        open(&target, &schema()).map(|_| ()).expect_err("an error")
    };
    let error = open_at(directory.path().to_path_buf());
    assert_eq!(error.kind(), crate::ErrorKind::Output);
    assert!(error.to_string().contains("is a directory"), "{error}");
    let error = open_at(directory.path().join("nowhere/rows.csv")).to_string();
    assert!(error.contains("nowhere/rows.csv: there is no directory"), "{error}");
    let error = OutputFormat::from_path("rows.txt").expect_err("unknown");
    assert_eq!(error.kind(), crate::ErrorKind::Usage);
    assert!(error.to_string().contains(".csv, .ndjson, .jsonl, .parquet, .arrow"), "{error}");
    assert!("xml".parse::<OutputFormat>().is_err());
    assert_eq!("Table".parse::<OutputFormat>().expect("known").to_string(), "table");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_does_not_hang() {
    let rows: Vec<Record> = (0..60_000).map(|i| (0, Some("x".repeat(90)), i, None, None, None)).collect();
    for format in
        [OutputFormat::Csv, OutputFormat::Table, OutputFormat::Parquet, OutputFormat::Ndjson, OutputFormat::Arrow]
    {
        let target = Target { path: Some("/dev/full".into()), format };
        let mut sink = open(&target, &schema()).expect("an output");
        let mut failed = None;
        for _ in 0..3 {
            failed = failed.or(sink.write(vec![batch(&rows)]).err());
        }
        let failed = failed.or(sink.finish().err()).expect("no space");
        assert_eq!(failed.kind(), crate::ErrorKind::Output);
        let text = failed.to_string();
        assert!(text.contains("/dev/full") && text.contains("No space"), "{text}");
    }
}

#[cfg(unix)]
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    if !made.is_ok_and(|status| status.success()) {
        return;
    }
    let rows: Vec<Record> = (0..60_000).map(|i| (0, None, i, None, None, None)).collect();
    for format in [OutputFormat::Csv, OutputFormat::Parquet, OutputFormat::Ndjson, OutputFormat::Arrow] {
        let reader = std::thread::spawn({
            let fifo = fifo.clone();
            move || {
                use std::io::Read;
                let mut some = [0; 4];
                fs::File::open(fifo).and_then(|mut file| file.read_exact(&mut some)).map(|()| some)
            }
        });
        let target = Target { path: Some(fifo.clone()), format };
        let mut sink = open(&target, &schema()).expect("an output");
        let mut calls = 0;
        while !sink.closed() && calls < 2000 {
            sink.write(vec![batch(&rows)]).expect("no error");
            calls += 1;
        }
        assert!(sink.closed());
        sink.write(vec![batch(&rows)]).expect("no error");
        assert!(sink.finish().expect("no error").closed_pipe);
        assert!(reader.join().expect("joined").is_ok());
    }
    assert_eq!(names(&directory), ["fifo"]);
}

#[test]
fn other_types_of_keys_are_written_too() {
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("view", Arc::new(StringViewArray::from(vec![Some("short"), Some("longer than twelve, bytes"), None]))),
        ("small", Arc::new(arrow_array::Int8Array::from(vec![-1, 2, 3]))),
        ("dictionary", Arc::new(vec!["a", "b", "a"].into_iter().collect::<DictionaryArray<Int32Type>>())),
        ("date", Arc::new(arrow_array::Date32Array::from(vec![0, 1, 19_723]))),
        ("single", Arc::new(arrow_array::Float32Array::from(vec![0.1, 2.0, 1e20]))),
        ("millis", Arc::new(arrow_array::TimestampMillisecondArray::from(vec![0, 1500, 2000]))),
        ("nanos", Arc::new(arrow_array::TimestampNanosecondArray::from(vec![1, 0, 0]))),
        ("bytes", Arc::new(arrow_array::BinaryArray::from_vec(vec![b"x", b"", b"y"]))),
    ];
    let rows = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .expect("columns");
    let directory = tempfile::tempdir().expect("a directory");
    write_cut(&target(&directory, "rows.csv"), &rows, &[], 1);
    assert_eq!(
        fs::read_to_string(directory.path().join("rows.csv")).expect("text"),
        "view,small,dictionary,date,single,millis,nanos,bytes\n\
         short,-1,a,1970-01-01,0.1,1970-01-01T00:00:00Z,1970-01-01T00:00:00.000000001Z,x\n\
         \"longer than twelve, bytes\",2,b,1970-01-02,2.0,1970-01-01T00:00:01.500Z,1970-01-01T00:00:00Z,\"\"\n\
         ,3,a,2024-01-01,1e20,1970-01-01T00:00:02Z,1970-01-01T00:00:00Z,y\n"
    );
    let null = Target { path: None, format: OutputFormat::Null };
    assert_eq!(write_cut(&null, &rows, &[], 1), write_cut(&null, &rows, &[1, 2], 1));
}

#[test]
fn a_table_is_aligned_and_later_rows_use_the_widths_of_the_first() {
    let rows: Vec<Record> = vec![
        (0, Some("/a".into()), 1, Some(10), Some(2.0), Some(true)),
        (0, Some("/long\u{1b}[31m".into()), 1000, None, None, None),
        (1_000_000, None, 2, Some(3), Some(0.25), Some(false)),
        (1_000_000, Some("/b".into()), 30, Some(4), Some(1e300), None),
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("rows.txt");
    let table = Target { path: Some(path.clone()), format: OutputFormat::Table };
    let summary = write_cut(&table, &batch(&rows), &[1], 1);
    let written = fs::read_to_string(path).expect("text");
    let expected = "\
window_start          path, quoted      key  count  sum_x  flag
1970-01-01T00:00:00Z  /a                  1     10    2.0  true
1970-01-01T00:00:00Z  /long\\u{1b}[31m  1000
1970-01-01T00:00:01Z                      2      3   0.25  false
1970-01-01T00:00:01Z  /b                 30      4  1e300
";
    assert_eq!(written, expected);
    assert_eq!((summary.rows, summary.bytes), (4, expected.len() as u64));
}
