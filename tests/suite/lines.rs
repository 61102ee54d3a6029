//! `cases/log_lines.json`: lines of other projects' tests, each with the fields it must give or as one that must be bad.
//!
//! Formats of windrow's own are read by their decoders; line formats that it has no name for are read by a pattern, as a
//! user would. What no pattern can say (keys in any order, escapes, years that are not in the line) is left out, with the
//! reason, and the numbers of both are asserted.

use arrow_array::Array;
use arrow_array::cast::AsArray;
use serde_json::Value;
use std::collections::BTreeMap;
use windrow::format::access::AccessDecoder;
use windrow::format::csv::{CsvDecoder, Dialect, Layout};
use windrow::format::json::{JsonDecoder, display_token, infer};
use windrow::format::pattern::{Pattern, PatternDecoder};
use windrow::format::{Decoded, Decoder, Field, FieldType, TextBlock, TimeField, Wanted};
use windrow::time::{TimeFormat, parse_duration};

/// A row's fields by name; `None` is null.
type Row = BTreeMap<String, Option<String>>;

const APACHE_ERROR: &str = r"^\[(?<timestamp>[^\]]+)\] \[(?<module>\w+):(?<severity>\w+)\] \[pid (?<pid>\d+)(?::tid (?<thread>\d+))?\](?: \[client (?<client>[^\]]+):(?<port>\d+)\])? (?:(?<error_code>AH\d+): )?(?<message>.*)$";
const NGINX_ERROR: &str = r#"^(?<timestamp>\S+ \S+) \[(?<severity>\w+)\] (?<pid>\d+)#(?<tid>\d+):(?: \*(?<cid>\d+))? (?<message>.*?)(?:, client: (?<client>[^,]*), server: (?<server>[^,]*), request: "(?<request>[^"]*)", upstream: "(?<upstream>[^"]*)", host: "(?<host>[^"]*)", referrer: "(?<referer>[^"]*)")?$"#;
const NGINX_MAIN: &str = r#"^(?<remote_addr>\S+) - (?<remote_user>\S+) \[(?<timestamp>[^\]]+)\] "(?<request>[^"]*)" (?<status>\d+) (?<body_bytes_size>\d+) "(?<http_referer>[^"]*)" "(?<http_user_agent>[^"]*)" "(?<http_x_forwarded_for>[^"]*)"$"#;
const NGINX_INGRESS: &str = r#"^(?<remote_addr>\S+) - \S+ \[(?<timestamp>[^\]]+)\] "(?<request>[^"]*)" (?<status>\d+) (?<body_bytes_size>\d+) "(?<http_referer>[^"]*)" "(?<http_user_agent>[^"]*)" (?<request_length>\d+) (?<request_time>\S+) \[(?<proxy_upstream_name>[^\]]*)\] \[[^\]]*\] (?<upstream_addr>\S+) (?<upstream_response_length>\S+) (?<upstream_response_time>\S+) (?<upstream_status>\S+) (?<req_id>\S+)$"#;
const AWS_ALB: &str = r#"^(?<type>\S+) (?<timestamp>\S+) (?<elb>\S+) (?<client_host>\S+) (?<target_host>\S+) (?<request_processing_time>\S+) (?<target_processing_time>\S+) (?<response_processing_time>\S+) (?<elb_status_code>\S+) (?<target_status_code>\S+) (?<received_bytes>\d+) (?<sent_bytes>\d+) "(?<request_method>\S+) (?<request_url>\S+) (?<request_protocol>[^"]*)" "(?<user_agent>[^"]*)" (?<ssl_cipher>\S+) (?<ssl_protocol>\S+) (?<target_group_arn>\S+) "(?<trace_id>[^"]*)" "(?<domain_name>[^"]*)" "(?<chosen_cert_arn>[^"]*)" (?<matched_rule_priority>\S+) (?<request_creation_time>\S+) "(?<actions_executed>[^"]*)" "(?<redirect_url>[^"]*)" "(?<error_reason>[^"]*)" "?(?<target_port_list>[^" ]*)"? "?(?<target_status_code_list>[^" ]*)"? "(?<classification>[^"]*)" "(?<classification_reason>[^"]*)" (?<traceability_id>\S+)$"#;
const SYSLOG_5424: &str = r#"^<(?<priority>\d+)>(?<version>\d+) (?<timestamp>\S+) (?<hostname>\S+) (?<appname>\S+) (?<procid>\S+) (?<msgid>\S+) (?:-|(?<structured_data>(?:\[(?:[^\]"\\]|"(?:[^"\\]|\\.)*")*\])+)) *(?<message>.*)$"#;
const GLOG: &str =
    r"^(?<level>[IWEF])(?<timestamp>\d{8} [\d:.]+) +(?<id>\d+) (?<file>[^:]+):(?<line>\d+)\] (?<message>.*)$";
const KLOG: &str =
    r"^(?<level>[IWEF])(?<timestamp>\d{4} [\d:.]+) +(?<id>\d{1,19}) (?<file>[^:]+):(?<line>\d+)\] (?<message>.*)$";
const HDFS: &str = r"^(?<timestamp>\d{6} \d{6}) (?<pid>\d+) (?<level>\w+) (?<component>[^:]+): (?<message>.*)$";

fn block(line: &[u8]) -> TextBlock {
    TextBlock { data: line.to_vec().into(), start: 0, end: line.len(), offset: 0, max_record: 1 << 20 }
}

fn texts(names: &[String], time: Option<(&str, &str)>) -> Wanted {
    let time = time.map(|(name, format)| TimeField { name: name.into(), format: format.parse().unwrap() });
    let fields = names.iter().map(|n| Field { name: n.clone(), ty: FieldType::Text }).collect();
    Wanted { time, fields, ..Wanted::default() }
}

/// The rows of `decoded`, with the event time as `(time)`.
fn rows(decoded: &Decoded, names: &[String]) -> Vec<Row> {
    let cell = |c: usize, row: usize| {
        let column = decoded.columns[c].as_binary_view();
        let value = (!column.is_null(row)).then(|| display_token(column.value(row)));
        value.map(|v| String::from_utf8_lossy(v).into_owned())
    };
    (0..decoded.rows)
        .map(|row| {
            let mut fields: Row = names.iter().enumerate().map(|(c, n)| (n.clone(), cell(c, row))).collect();
            if let Some(time) = decoded.times.get(row) {
                fields.insert("(time)".into(), Some(time.to_string()));
            }
            fields
        })
        .collect()
}

fn by_pattern(pattern: &str, time: Option<(&str, &str)>, line: &[u8]) -> Vec<Row> {
    let pattern = Pattern::parse(pattern).unwrap();
    let decoder = PatternDecoder::new(&texts(pattern.names(), time), &pattern).unwrap();
    rows(&decoder.decode(&block(line)).unwrap(), pattern.names())
}

fn by_access(combined: bool, time: bool, line: &[u8]) -> Vec<Row> {
    let mut names: Vec<String> =
        ["host", "identity", "user", "request", "method", "path", "protocol", "status", "bytes"]
            .map(String::from)
            .into();
    if combined {
        names.extend(["referer", "user_agent"].map(String::from));
    }
    let decoder = AccessDecoder::new(&texts(&names, time.then_some(("time", "auto"))), combined).unwrap();
    rows(&decoder.decode(&block(line)).unwrap(), &names)
}

fn by_json(time: Option<&str>, line: &[u8]) -> Vec<Row> {
    let names: Vec<String> = infer(&block(line), 10).fields.into_iter().map(|f| f.name).collect();
    let decoder = JsonDecoder::new(&texts(&names, time.map(|t| (t, "auto")))).unwrap();
    rows(&decoder.decode(&block(line)).unwrap(), &names)
}

/// Every record's fields, the first one included, and the lines of bad ones.
fn by_csv(text: &[u8]) -> (Vec<Vec<String>>, Vec<u64>) {
    let layout = Layout::read(Dialect::CSV, false, &block(text));
    let decoded = CsvDecoder::new(&texts(&layout.names, None), &layout).unwrap().decode(&block(text)).unwrap();
    let all = rows(&decoded, &layout.names);
    let fields = |row: &Row| layout.names.iter().map(|n| row[n].clone().unwrap_or_default()).collect();
    (all.iter().map(fields).collect(), decoded.bad.iter().map(|b| b.line + 1).collect())
}

/// Asserts that `row` has every expected field, under its own name or one of `names`.
fn assert_fields(id: &str, row: &Row, expected: &Value, names: &[(&str, &str)]) {
    for (field, want) in expected.as_object().into_iter().flatten() {
        // What needs arithmetic on the priority, or is a list or an object, is not a field of a pattern.
        if ["facility", "severity"].contains(&field.as_str()) && row.contains_key("priority")
            || want.is_array()
            || want.is_object()
        {
            continue;
        }
        let name = names.iter().find(|(theirs, _)| theirs == field).map_or(field.as_str(), |(_, ours)| ours);
        let got = row.get(name).unwrap_or_else(|| panic!("{id}: no field {name} in {row:?}"));
        let got = got.as_deref().filter(|text| *text != "-");
        match want {
            Value::Null => assert_eq!(got, None, "{id}: {field}"),
            Value::String(text) if text == "-" => assert_eq!(got, None, "{id}: {field}"),
            Value::String(text) if field.starts_with("timestamp") => {
                let want = TimeFormat::Auto.parse_bytes(text.as_bytes()).unwrap().to_string();
                assert_eq!(row["(time)"].as_deref(), Some(&*want), "{id}: {field}");
            }
            Value::String(text) => assert_eq!(got, Some(&**text), "{id}: {field}"),
            Value::Number(number) => {
                // Which reads numbers here may be off by the last bit.
                let (value, want): (f64, f64) = (got.unwrap().parse().unwrap(), number.as_f64().unwrap());
                assert!((value - want).abs() <= 1e-15 * want.abs(), "{id}: {field}: {value} for {want}");
            }
            other => panic!("{id}: {field} is {other}"),
        }
    }
}

/// Runs one case; `Err` says why it is left out.
fn check(case: &Value) -> Result<(), &'static str> {
    let id = case["id"].as_str().unwrap();
    let line = match case["line"].as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => base64(case["line_base64"].as_str().unwrap()),
    };
    let expected = &case["expected"];
    let access = [
        ("client", "host"),
        ("message", "request"),
        ("size", "bytes"),
        ("agent", "user_agent"),
        ("timestamp", "(time)"),
    ];
    let pattern = |pattern: &str, format: &str| by_pattern(pattern, Some(("timestamp", format)), &line);
    let times = [("timestamp", "(time)"), ("timestamp_local", "(time)")];
    let (rows, names): (Vec<Row>, &[(&str, &str)]) = match case["format"].as_str().unwrap() {
        "apache_common" => (by_access(false, expected["timestamp"].is_string(), &line), &access),
        "apache_combined" | "nginx_combined" => (by_access(true, true, &line), &access),
        "nginx_main" => (pattern(NGINX_MAIN, "auto"), &times),
        "nginx_ingress" => (pattern(NGINX_INGRESS, "auto"), &times),
        "nginx_error" => (pattern(NGINX_ERROR, "auto"), &times),
        "apache_error" => {
            let format = if line.starts_with(b"[Thu ") || line.starts_with(b"[Mon ") {
                "%a %b %d %H:%M:%S%.f %Y"
            } else {
                "auto"
            };
            (pattern(APACHE_ERROR, format), &times)
        }
        "aws_alb" => (pattern(AWS_ALB, "auto"), &times),
        "syslog_5424" => (pattern(SYSLOG_5424, "auto"), &times),
        "glog" => {
            let mut rows = pattern(GLOG, "%Y%m%d %H:%M:%S%.f");
            rows.iter_mut()
                .for_each(|row| assert_eq!(row.insert("level".into(), Some("info".into())).unwrap().unwrap(), "I"));
            (rows, &times)
        }
        "klog" if case["valid"] == true => return Err("the year is not in the line"),
        "klog" => (
            by_pattern(KLOG, None, &line)
                .into_iter()
                .filter(|r| r["timestamp"].as_ref().is_some_and(|t| !t.starts_with("0000")))
                .collect(),
            &[],
        ),
        "syslog_3164" => return Err("the year is not in the line"),
        "hdfs" => (pattern(HDFS, "%y%m%d %H%M%S"), &times),
        "pattern" => (by_pattern(r"name=(?<name>\w+) says=(?<says>\w+)", None, &line), &[]),
        "plain_with_binary" => {
            let rows = by_pattern(r"k=(?<k>\w+)", None, &line);
            let found: Vec<_> = rows.iter().map(|r| r["k"].clone().unwrap()).collect();
            assert_eq!(Value::from(found), expected["matches_of_k=*"], "{id}");
            return Ok(());
        }
        "text_prefix_then_json" => {
            assert!(by_json(None, &line).is_empty(), "{id}");
            let own = r#"^(?<prefix>\w+) \{"level": "(?<level>\w+)", "message": "(?<message>[^"]*)", "num_things": (?<num_things>\d+)\}$"#;
            (by_pattern(own, None, &line), &[])
        }
        "json_lines" => {
            let time = line.starts_with(b"{\"ts\"").then_some("ts");
            (by_json(time, &line), &[("event_time", "ts")])
        }
        "csv" if case["options"]["escape"].is_string() => {
            return Err("an escape character other than the doubled quote");
        }
        "csv" => {
            let (rows, bad) = by_csv(&line);
            let (want, want_bad) = match (expected, id) {
                // The second record has more fields than the first: it is bad.
                (_, "csv/006") => (serde_json::json!([["first", "line"]]), vec![2]),
                (Value::Object(both), _) => (
                    both["good"].clone(),
                    both["bad_lines"].as_array().unwrap().iter().filter_map(Value::as_u64).collect(),
                ),
                _ => (expected.clone(), Vec::new()),
            };
            assert_eq!((serde_json::to_value(rows).unwrap(), bad), (want, want_bad), "{id}");
            return Ok(());
        }
        "duration_text" => {
            let text = case["line"].as_str().unwrap();
            if text.ends_with('w') {
                return Err("durations have no weeks");
            }
            let micros = parse_duration(text).ok();
            assert_eq!(micros.is_some(), case["valid"] == true, "{id}");
            if let Some(micros) = micros {
                let unit = parse_duration(&format!("1{}", expected["unit"].as_str().unwrap())).unwrap();
                assert_eq!(Some(micros as f64 / unit as f64), expected["value"].as_f64(), "{id}");
            }
            return Ok(());
        }
        "cef" => return Err("keys in any order are no pattern (CEF)"),
        "key_value" | "logfmt" => return Err("keys in any order are no pattern (logfmt)"),
        other => panic!("{id}: a format {other} that this runner does not know"),
    };
    if case["valid"] == true {
        assert_eq!(rows.len(), 1, "{id} is a record");
        // The peer passes a field on that the combined format does not have.
        let mut expected = expected.clone();
        if let Some(fields) = expected.as_object_mut() {
            fields.remove("compression");
        }
        assert_fields(id, &rows[0], &expected, names);
    } else {
        assert!(rows.is_empty(), "{id} is bad: {rows:?}");
    }
    Ok(())
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut have) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter_map(|b| DIGITS.iter().position(|d| *d == b)) {
        bits = bits << 6 | digit as u32;
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    out
}

#[test]
fn log_lines() {
    let Some(shared) = std::env::var_os("WINDROW_SHARED") else {
        println!("skipped: WINDROW_SHARED is not set");
        return;
    };
    let path = std::path::Path::new(&shared).join("cases/log_lines.json");
    let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (mut ran, mut left) = (0, BTreeMap::<&str, Vec<&str>>::new());
    for case in cases["lines"].as_array().unwrap() {
        match check(case) {
            Ok(()) => ran += 1,
            Err(why) => left.entry(why).or_default().push(case["id"].as_str().unwrap()),
        }
    }
    println!("log_lines.json: {ran} lines ran; left out:");
    left.iter().for_each(|(why, ids)| println!("  {why}: {}", ids.join(", ")));
    let counts: Vec<(&str, usize)> = left.iter().map(|(why, ids)| (*why, ids.len())).collect();
    let want = [
        ("an escape character other than the doubled quote", 2),
        ("durations have no weeks", 1),
        ("keys in any order are no pattern (CEF)", 2),
        ("keys in any order are no pattern (logfmt)", 13),
        ("the year is not in the line", 8),
    ];
    assert_eq!((ran, counts), (61, want.to_vec()));
}
