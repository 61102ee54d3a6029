//! Decoding each format, one thread, in bytes of the input per second, over what `tools/generate` makes.
//!
//! Text formats are decoded from blocks in memory, without reading; Parquet through a query over the file, from the
//! page cache, since its decoder is not a part of its own.

use crate::data::Options;
use crate::{hop, log};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_buffer::Buffer;
use criterion::{Criterion, Throughput};
use std::hint::black_box;
use windrow::format::access::AccessDecoder;
use windrow::format::json::JsonDecoder;
use windrow::format::{Decoder, Field, FieldType, TextBlock, TimeField, Wanted};
use windrow::query::{Query, Window, count, sum};
use windrow::time::TimeFormat;

const LINES: usize = 300_000;
const PARQUET_ROWS: usize = 4_000_000;
/// Bytes of a block.
const BLOCK: usize = 4 << 20;

fn options(output: &std::path::Path, rows: usize) -> Options {
    Options { output: output.to_string_lossy().into_owned(), rows, seed: 20_240_101, expect: None }
}

/// The generated log in blocks of whole lines.
fn blocks(text: &[u8]) -> Vec<TextBlock> {
    let (mut blocks, mut start) = (Vec::new(), 0);
    while start < text.len() {
        let most = (start + BLOCK).min(text.len());
        let end = memchr::memrchr(b'\n', &text[start..most]).map_or(most, |at| start + at + 1);
        let data = Buffer::from(text[start..end].to_vec());
        blocks.push(TextBlock { end: data.len(), data, start: 0, offset: start as u64, max_record: 1 << 24 });
        start = end;
    }
    blocks
}

fn wanted(time: &str, fields: &[(&str, FieldType)]) -> Wanted {
    let fields = fields.iter().map(|(name, ty)| Field { name: (*name).to_owned(), ty: *ty }).collect();
    Wanted { time: Some(TimeField { name: time.to_owned(), format: TimeFormat::Auto }), fields, ..Wanted::default() }
}

/// Rows, and the sum of column `bytes`.
fn decode(decoder: &dyn Decoder, blocks: &[TextBlock], bytes: Option<usize>) -> (usize, i64) {
    let mut totals = (0, 0);
    for block in blocks {
        let decoded = black_box(decoder.decode(block).expect("a log that decodes"));
        assert!(decoded.bad.is_empty(), "a log without bad lines");
        totals.0 += decoded.rows;
        if let Some(column) = bytes {
            totals.1 += decoded.columns[column].as_primitive::<Int64Type>().iter().flatten().sum::<i64>();
        }
    }
    totals
}

pub fn benches(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let make = |style, name: &str| {
        let path = folder.path().join(name);
        log::run(style, &options(&path, LINES)).expect("a log");
        std::fs::read(path).expect("the log")
    };
    let access = make(log::Style::Combined, "access.log");
    let json = make(log::Style::Ndjson, "access.ndjson");

    // What the answers must be, read in another way.
    let lines =
        |text: &[u8]| text.split(|b| *b == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let access_bytes: i64 = (lines(&access).iter())
        .map(|line| {
            let text = String::from_utf8_lossy(line);
            let behind = text.split('"').nth(2).and_then(|part| part.split_whitespace().nth(1).map(str::to_owned));
            behind.and_then(|bytes| bytes.parse::<i64>().ok()).unwrap_or(0)
        })
        .sum();
    let json_bytes: i64 = (lines(&json).iter())
        .map(|line| serde_json::from_slice::<serde_json::Value>(line).expect("a line of JSON")["bytes"].as_i64())
        .map(|bytes| bytes.unwrap_or(0))
        .sum();
    assert_eq!(access_bytes, json_bytes, "both logs hold the same records");

    let four = [("path", FieldType::Text), ("status", FieldType::Int64), ("bytes", FieldType::Int64)];
    let all = ["host", "identity", "user", "request", "method", "path", "protocol", "status", "referer", "user_agent"];
    let mut every: Vec<(&str, FieldType)> = all.iter().map(|name| (*name, FieldType::Text)).collect();
    every.push(("bytes", FieldType::Int64));
    let five = [four[0], four[1], four[2], ("latency_ms", FieldType::Float64)];

    let mut group = c.benchmark_group("decode");
    let mut text = |name: &str, decoder: &dyn Decoder, text: &[u8], bytes: Option<usize>| {
        let blocks = blocks(text);
        let expected = (LINES, if bytes.is_some() { access_bytes } else { 0 });
        assert_eq!(decode(decoder, &blocks, bytes), expected, "{name}");
        group.throughput(Throughput::ElementsAndBytes { elements: LINES as u64, bytes: text.len() as u64 });
        group.bench_function(name, |b| b.iter(|| decode(decoder, black_box(&blocks), None)));
    };
    let access_decoder = |wanted| AccessDecoder::new(&wanted, true).expect("fields of the format");
    text("combined, time and three fields", &access_decoder(wanted("time", &four)), &access, Some(2));
    text("combined, time and all fields", &access_decoder(wanted("time", &every)), &access, Some(every.len() - 1));
    text("combined, time alone", &access_decoder(wanted("time", &[])), &access, None);
    let json_decoder = |wanted| JsonDecoder::new(&wanted).expect("plain names");
    text("json, time and three fields", &json_decoder(wanted("ts", &four)), &json, Some(2));
    text("json, time and four fields", &json_decoder(wanted("ts", &five)), &json, Some(2));
    text("json, time alone", &json_decoder(wanted("ts", &[])), &json, None);

    let path = folder.path().join("hop.parquet");
    let variant = hop::VARIANTS[0];
    hop::run(variant, &options(&path, PARQUET_ROWS)).expect("a Parquet file");
    let size = std::fs::metadata(&path).expect("the file").len();
    group.throughput(Throughput::ElementsAndBytes { elements: PARQUET_ROWS as u64, bytes: size });
    let hour = Window::tumbling(3_600_000_000).expect("a window");
    let query = || Query::files([&path]).window(hour).threads(1);
    let counted = |query: Query| -> i64 {
        let rows = query.run().expect("a query").map(|rows| rows.expect("rows"));
        rows.map(|rows| rows.column_by_name("count").map_or(0, |c| c.as_primitive::<Int64Type>().value(0))).sum()
    };
    assert_eq!(counted(query().aggregate(count())), PARQUET_ROWS as i64);
    group.bench_function("parquet, count by time", |b| b.iter(|| counted(query().aggregate(count()))));
    group.bench_function("parquet, count and sum by time", |b| {
        b.iter(|| counted(query().aggregate(count()).aggregate(sum("value"))));
    });
    group.finish();
}
