//! Rows of 100 bytes as Parquet, for shuffling: `key` int64 in 5 M, `value` float64 log-normal(3, 1), `payload` a text of 84
//! bytes: 32 random hexadecimal digits and three words of a vocabulary of 32, filled up to 16 bytes. The shape of the
//! peers' workload S2.

use crate::random::Random;
use crate::rows_hash::rows_hash;
use crate::{Failure, Options};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::sync::Arc;

/// Rows of the full data set.
const ROWS: usize = 30_000_000;

/// Rows made at once, and of a row group.
const CHUNK: usize = 1_000_000;

const NOUNS: [&str; 8] = ["order", "cart", "user", "view", "click", "login", "pay", "ship"];
const VERBS: [&str; 4] = ["-created", "-updated", "-removed", "-queued!"];

/// Writes the file and returns what to expect of it.
pub fn run(options: &Options) -> Result<Option<String>, Failure> {
    let rows = options.rows(ROWS);
    let words: Vec<String> = NOUNS.iter().flat_map(|n| VERBS.map(|v| format!("{:16} ", format!("{n}{v}")))).collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(CHUNK))
        .build();
    let file = File::create(&options.output).map_err(|e| options.failed(&e))?;
    let mut writer = ArrowWriter::try_new(file, chunk(&words, 0, 0, 0)?.schema(), Some(properties))?;
    let mut hash = 0u64;
    for from in (0..rows).step_by(CHUNK) {
        let batch = chunk(&words, options.seed, from, CHUNK.min(rows - from))?;
        hash = hash.wrapping_add(rows_hash(&batch).ok_or("rows of another shape")?);
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(Some(format!("{{\"rows\":{rows},\"hash\":\"{hash:016x}\"}}")))
}

fn chunk(words: &[String], seed: u64, from: usize, rows: usize) -> Result<RecordBatch, Failure> {
    let mut random = Random::new(seed, from as u64);
    let keys: Vec<i64> = (0..rows).map(|_| random.below(5_000_000) as i64).collect();
    let values: Vec<f64> = (0..rows).map(|_| random.log_normal(3.0, 1.0)).collect();
    let mut text = String::new();
    let payloads = (0..rows).map(|_| {
        text.clear();
        text.push_str(&format!("{:016x}{:016x} ", random.bits(), random.bits()));
        (0..3).for_each(|_| text.push_str(&words[random.below(words.len())]));
        text.clone()
    });
    let payloads: ArrayRef = Arc::new(StringArray::from_iter_values(payloads));
    let columns: [(&str, ArrayRef); 3] = [
        ("key", Arc::new(Int64Array::from(keys))),
        ("value", Arc::new(Float64Array::from(values))),
        ("payload", payloads),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}
