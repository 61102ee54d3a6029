//! Cases of other projects' test suites and real logs with known answers, where `WINDROW_SHARED` names the folder that
//! holds them. Without it these tests say that they were skipped; the project's own checks always set it.

use crate::run::windrow;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{
    ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use windrow::query::{Query, Session, Window, avg, count, sum};
use windrow::time::TimeFormat;

/// Where the shared cases and logs are, if they are.
pub fn shared() -> Option<PathBuf> {
    let dir = std::env::var_os("WINDROW_SHARED").map(PathBuf::from);
    if dir.is_none() {
        println!("skipped: WINDROW_SHARED is not set");
    }
    dir
}

/// The windows or sessions of a case, which are in milliseconds.
fn windowed(case: &Value) -> impl Fn(Query) -> Query {
    let gap = case["window"]["gap"].as_i64().map(|gap| Session::gap(gap * 1000).unwrap());
    let window = gap.is_none().then(|| window(&case["window"]));
    move |query| match (gap, window) {
        (Some(gap), _) => query.session(gap),
        (None, Some(window)) => query.window(window),
        (None, None) => query,
    }
}

/// Length, slide, offset.
fn window(window: &Value) -> Window {
    let get = |names: [&str; 2]| names.iter().find_map(|n| window[n].as_i64());
    let length = get(["size", "size_ms"]).unwrap();
    let slide = get(["slide", "slide_ms"]).unwrap_or(length);
    let offset = get(["offset", "offset_ms"]).unwrap_or(0);
    Window::sliding(length * 1000, slide * 1000, offset * 1000).unwrap()
}

/// Count, sum and mean of the values of each window, bounds in milliseconds.
fn grouped(records: &[(i64, i64)], windowed: impl Fn(Query) -> Query) -> BTreeMap<(i64, i64), (i64, i64, f64)> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
        Field::new("value", DataType::Int64, false),
    ]));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(records.iter().map(|r| Some(r.0 * 1000)).collect::<TimestampMicrosecondArray>()),
        Arc::new(records.iter().map(|r| Some(r.1)).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let rows = windowed(Query::batches(schema, vec![Ok(batch)]))
        .aggregate(count())
        .aggregate(sum("value"))
        .aggregate(avg("value"))
        .run()
        .unwrap();
    let mut all = BTreeMap::new();
    for batch in rows {
        let batch = batch.unwrap();
        let time = |c: usize, row: usize| batch.column(c).as_primitive::<TimestampMicrosecondType>().value(row) / 1000;
        let int = |c: usize, row: usize| batch.column(c).as_primitive::<Int64Type>().value(row);
        for row in 0..batch.num_rows() {
            let mean = batch.column(4).as_primitive::<arrow_array::types::Float64Type>().value(row);
            let old = all.insert((time(0, row), time(1, row)), (int(2, row), int(3, row), mean));
            assert_eq!(old, None, "a window is emitted once");
        }
    }
    all
}

fn pair(value: &Value) -> (i64, i64) {
    (value[0].as_i64().unwrap(), value[1].as_i64().unwrap())
}

fn millis(text: &Value) -> i64 {
    TimeFormat::Auto.parse_bytes(text.as_str().unwrap().as_bytes()).unwrap() / 1000
}

/// Records and watermarks in turn. A watermark W there, which says that nothing at or before W is to come, is W + 1 here. It
/// is set by a record that the filter drops, as far ahead of it as the bound is long: so far that no other moves it.
fn check_script(case: &Value) -> Result<(), &'static str> {
    const BOUND: i64 = 1_000_000_000;
    let name = case["name"].as_str().unwrap();
    let kind = &case["window"];
    if kind["allowed_lateness"].as_i64().unwrap_or(0) != 0 {
        return Err("windows that were emitted are revised, which windrow never does");
    }
    let schema = Arc::new(Schema::new(vec![
        Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), false),
        Field::new("key", DataType::Utf8, true),
        Field::new("value", DataType::Int64, true),
    ]));
    let steps: Vec<(i64, Option<&str>, Option<i64>)> = case["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| match step["watermark"].as_i64() {
            Some(watermark) => (watermark + 1 + BOUND, None, None),
            None => {
                let record = &step["record"];
                (record["ts"].as_i64().unwrap(), record["key"].as_str(), record["value"].as_i64())
            }
        })
        .collect();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(steps.iter().map(|s| Some(s.0)).collect::<TimestampMillisecondArray>()),
        Arc::new(steps.iter().map(|s| s.1).collect::<StringArray>()),
        Arc::new(steps.iter().map(|s| s.2).collect::<Int64Array>()),
    ];
    let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
    let mut rows = windowed(case)(Query::batches(schema, vec![Ok(batch)]))
        .key("key")
        .aggregate(sum("value"))
        .filter("value is not null")
        .lateness(BOUND * 1000)
        .run()
        .unwrap();
    let mut got = Vec::new();
    for batch in rows.by_ref() {
        let batch = batch.unwrap();
        let time = |c: usize, row: usize| batch.column(c).as_primitive::<TimestampMicrosecondType>().value(row) / 1000;
        for row in 0..batch.num_rows() {
            let key = batch.column(2).as_string::<i32>().value(row).to_owned();
            got.push((time(1, row) - 1, key, batch.column(3).as_primitive::<Int64Type>().value(row)));
        }
    }
    let mut want: Vec<(i64, String, i64)> = case["expected_outputs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| {
            (e["window_max_ts"].as_i64().unwrap(), e["key"].as_str().unwrap().to_owned(), e["value"].as_i64().unwrap())
        })
        .collect();
    assert!(got.is_sorted_by_key(|row| row.0), "{name}: windows come in the order of their ends");
    // Windows that the last watermark leaves open are handed out at the end of the input.
    let last = case["steps"].as_array().unwrap().iter().filter_map(|step| step["watermark"].as_i64()).max();
    got.retain(|row| Some(row.0) <= last);
    got.sort();
    want.sort();
    assert_eq!(got, want, "{name}");
    assert_eq!(rows.statistics().ledger.late as usize, case["dropped_late"].as_array().unwrap().len(), "{name}");
    Ok(())
}

/// Which window of a case exists with how many records.
fn check_case(case: &Value) -> Result<(), &'static str> {
    let name = case["name"].as_str().unwrap();
    match case["kind"].as_str().unwrap() {
        "assignment" => {
            let expected = case["expected_windows_per_timestamp"].as_array().unwrap();
            for (ts, expected) in case["timestamps"].as_array().unwrap().iter().zip(expected) {
                let got: Vec<_> = grouped(&[(ts.as_i64().unwrap(), 1)], windowed(case)).into_keys().collect();
                let mut want: Vec<_> = expected.as_array().unwrap().iter().map(pair).collect();
                want.sort_unstable();
                assert_eq!(got, want, "{name}, timestamp {ts}");
            }
        }
        "grouping" | "session" => {
            let records: Vec<_> = case["timestamps"]
                .as_array()
                .unwrap()
                .iter()
                .map(|t| (t.as_i64().unwrap(), t.as_i64().unwrap()))
                .collect();
            let got = grouped(&records, windowed(case));
            let want: BTreeMap<_, i64> = case["expected"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| (pair(&e["window"]), e["members"].as_array().unwrap().len() as i64))
                .collect();
            assert_eq!(got.iter().map(|(w, v)| (*w, v.0)).collect::<BTreeMap<_, _>>(), want, "{name}");
            for aggregate in case["aggregates"].as_array().into_iter().flatten() {
                let (_, sum, mean) = got[&pair(&aggregate["window"])];
                assert_eq!(Some(sum), aggregate["sum"].as_i64(), "{name}");
                assert_eq!(Some(mean), aggregate["mean"].as_f64(), "{name}");
            }
        }
        "grouping, ISO times" => {
            let time = |r: &Value| (millis(if r.is_array() { &r[0] } else { r }), 1);
            let records: Vec<_> = case["records"].as_array().unwrap().iter().map(time).collect();
            let length = grouped(&records, windowed(case));
            let got: BTreeMap<_, _> = length.iter().map(|(w, v)| (w.0, v.0)).collect();
            let want: BTreeMap<_, _> = case["expected"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| (millis(&e["start"]), e["count"].as_i64().unwrap()))
                .collect();
            assert_eq!(got, want, "{name}");
        }
        "operator script" => return check_script(case),
        _ => return Err("a kind this runner does not know"),
    }
    Ok(())
}

#[test]
fn event_time_cases() {
    let Some(shared) = shared() else { return };
    let text = std::fs::read_to_string(shared.join("cases/event_time.json")).unwrap();
    let cases: Value = serde_json::from_str(&text).unwrap();
    let (mut ran, mut left) = (0, Vec::new());
    for case in cases["cases"].as_array().unwrap() {
        match check_case(case) {
            Ok(()) => ran += 1,
            Err(why) => left.push((case["name"].as_str().unwrap(), why)),
        }
    }
    println!("event_time.json: {ran} cases ran, {} are left out:", left.len());
    left.iter().for_each(|(name, why)| println!("  {name}: {why}"));
    assert_eq!((ran, left.len()), (14, 1));
}

/// The answers of `data/oracle`.
#[test]
fn oracle_answers() {
    let Some(shared) = shared() else { return };
    let oracle = shared.join("data/oracle");
    let (mut ran, mut compared) = (0, 0);
    let mut queries: Vec<_> = std::fs::read_dir(&oracle)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.to_str().unwrap().ends_with(".query.json"))
        .collect();
    queries.sort();
    for path in queries {
        let query: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let name = query["name"].as_str().unwrap();
        let text = |field: &str| query[field].as_str().unwrap();
        let data = shared.join("data").join(text("data"));
        let format = if text("format").starts_with("ndjson") { "json" } else { "combined" };
        let (window, slide) = (format!("{}s", query["window"]), format!("{}s", query["slide"]));
        let all: Vec<&str> = query["aggregates"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        let list = all.join(",");
        let filter = format!("{} is not null", text("key"));
        let mut args = vec![
            "replay",
            data.to_str().unwrap(),
            "--format",
            format,
            "--key",
            text("key"),
            "--window",
            &window,
            "--slide",
            &slide,
            "--agg",
            &list,
            "--stats",
        ];
        if query["records_without_key"] != 0 {
            args.extend(["--where", &filter]);
        }
        let run = windrow(&args).good();
        assert_eq!(run.stat("used"), query["records_counted"].as_u64().unwrap(), "{name}");
        assert_eq!(run.stat("bad"), query["lines_bad"].as_u64().unwrap(), "{name}");
        assert_eq!(run.stat("windows"), query["windows"].as_u64().unwrap(), "{name}");
        let expected = std::fs::read_to_string(path.to_str().unwrap().replace(".query.json", ".csv")).unwrap();
        let mut want: Vec<&str> = expected.lines().skip(1).collect();
        let mut got: Vec<&str> = run.out.lines().skip(1).collect();
        want.sort_unstable();
        got.sort_unstable();
        assert_eq!(got.len() as u64, query["rows"].as_u64().unwrap(), "{name}");
        let different = got.iter().zip(&want).find(|(g, w)| g != w);
        assert_eq!(different, None, "{name}");
        // The same to the byte on one thread and by remerging panes.
        let mut alone = args.clone();
        alone.extend(["--threads", "1"]);
        assert!(windrow(&alone).good().out == run.out, "{name}: one thread");
        compared += got.len();
        ran += 1;
    }
    println!("oracle: {ran} answers, {compared} rows compared");
    assert_eq!((ran, compared), (4, 1746 + 150_655 + 12_177 + 383));
}

/// The real access logs: every line is accounted for as their description says.
#[test]
fn real_access_logs_are_read_as_described() {
    let Some(shared) = shared() else { return };
    let logs = [
        ("access_elastic_apache.log", 10_000, 0, 59_000_000),
        ("access_nasa_clf_4k.log", 4_000, 0, 0),
        ("access_srhegde_2005_2018.log.gz", 105_177, 0, 1_131_000_000),
        ("access_advertools_nginx_2021.log", 1_000, 0, 894_716_000_000),
        ("access_advertools_with_errors.log", 889, 4, 59_000_000),
    ];
    for (name, lines, bad, disorder) in logs {
        let path = shared.join("data").join(name);
        let run = windrow(&["replay", path.to_str().unwrap(), "--window", "1h", "--key", "status", "--stats"]).good();
        assert_eq!((run.stat("read"), run.stat("bad"), run.stat("max_disorder_us")), (lines, bad, disorder), "{name}");
    }
    println!("access logs: {} ran", logs.len());
}
