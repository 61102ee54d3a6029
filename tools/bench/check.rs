//! Whether an output holds the right rows: reads what a runner wrote, CSV or Parquet, one file or a folder of them, and
//! adds up the checksum of `tools/generate/expect.rs`, which the generator computed from the records.

use crate::Failure;
use crate::expect::{Checksum, text_key};
use crate::rows_hash::rows_hash;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_cast::cast;
use arrow_schema::{DataType, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rayon::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// The columns of values that an answer may have.
const VALUES: [&str; 7] = ["cnt", "sm", "av", "mn", "mx", "err", "lat"];

/// Two sums agree to this, relative to the greater.
const TOLERANCE: f64 = 1e-9;

/// The files of an output: data of peers that write folders lie under names without `_` or `.` in front.
fn files(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_dir() {
        let mut inside: Vec<PathBuf> = fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()).collect();
        inside.sort();
        for path in inside {
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            if !name.starts_with(['_', '.']) && name != "manifest.json" {
                files(&path, into);
            }
        }
    } else if fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        into.push(path.to_owned());
    }
}

/// The name of a column in the checks: windrow has its own for the end of the window and the fields of logs.
fn known(name: &str) -> &str {
    match name {
        "window_end" => "wend",
        "path" => "key",
        other => other,
    }
}

/// Adds up an output of the columns `names`, which are those of CSV files without a header; `integers` are keys.
pub fn read(path: &Path, sink: &str, names: &[&str], integers: bool) -> Result<Checksum, Failure> {
    let mut all = Vec::new();
    files(path, &mut all);
    if all.is_empty() {
        return Err("there is no output".into());
    }
    let sums = all.par_iter().map(|path| if sink == "csv" { csv(path, names, integers) } else { parquet(path) });
    let sums: Vec<Checksum> = sums.collect::<Result<_, _>>()?;
    Ok(sums.into_iter().reduce(plus).unwrap_or_default())
}

fn plus(mut a: Checksum, b: Checksum) -> Checksum {
    a.rows += b.rows;
    a.names = a.names.wrapping_add(b.names);
    a.hash = a.hash.wrapping_add(b.hash);
    for (name, [plain, weighted]) in b.columns {
        let sums = a.columns.entry(name).or_default();
        (sums[0], sums[1]) = (sums[0] + plain, sums[1] + weighted);
    }
    a
}

fn batches(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch, arrow_schema::ArrowError>>, Failure> {
    let file = fs::File::open(path)?;
    Ok(ParquetRecordBatchReaderBuilder::try_new(file)?.with_batch_size(1 << 16).build()?)
}

fn parquet(path: &Path) -> Result<Checksum, Failure> {
    let mut all = Checksum::default();
    for batch in batches(path)? {
        let batch = batch?;
        let schema = batch.schema();
        let names = schema.fields().iter().map(|field| known(field.name()).to_owned());
        let batch = RecordBatch::try_from_iter(names.zip(batch.columns().iter().cloned()))?;
        let column = |name: &str, to: DataType| -> Result<Option<ArrayRef>, Failure> {
            Ok(batch.column_by_name(name).map(|column| cast(column, &to)).transpose()?)
        };
        let ends = match batch.column_by_name("wend") {
            Some(ends) if matches!(ends.data_type(), DataType::Timestamp(..) | DataType::Date64) => {
                Some(cast(&cast(ends, &DataType::Timestamp(TimeUnit::Second, None))?, &DataType::Int64)?)
            }
            Some(ends) => Some(cast(ends, &DataType::Int64)?),
            None => None,
        };
        let key = batch.column_by_name("key").ok_or("the output has no column key")?;
        let keys: Vec<u64> = if key.data_type().is_integer() {
            cast(key, &DataType::Int64)?.as_primitive::<Int64Type>().values().iter().map(|k| *k as u64).collect()
        } else {
            let texts = cast(key, &DataType::Utf8)?;
            texts.as_string::<i32>().iter().map(|key| text_key(key.unwrap_or_default().as_bytes())).collect()
        };
        let counts = column("cnt", DataType::Int64)?;
        let counts = counts.as_ref().map(|counts| counts.as_primitive::<Int64Type>());
        let ends = ends.as_ref().map(|ends| ends.as_primitive::<Int64Type>());
        let name_of = |i: usize| Checksum::name(ends.map_or(0, |ends| ends.value(i)), keys[i]);
        let row_names: Vec<u64> = (0..batch.num_rows()).map(name_of).collect();
        for (i, name) in row_names.iter().enumerate() {
            all.row(*name, counts.map_or(0, |counts| counts.value(i) as u64));
        }
        for value in VALUES {
            let Some(values) = column(value, DataType::Float64)? else { continue };
            let values = values.as_primitive::<Float64Type>();
            let sums = all.columns.entry(value).or_default();
            for (i, name) in row_names.iter().enumerate() {
                if !values.is_null(i) {
                    Checksum::column(sums, *name, values.value(i));
                }
            }
        }
    }
    Ok(all)
}

/// `2024-01-01T00:00:30Z` and its cousins, in seconds since the epoch.
fn seconds(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    // Days from civil (Hinnant): years start in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + part(11, 13)? * 3600 + part(14, 16)? * 60 + part(17, 19)?)
}

/// Texts of these outputs hold no comma, quote or newline.
fn csv(path: &Path, names: &[&str], integers: bool) -> Result<Checksum, Failure> {
    let text = fs::read_to_string(path)?;
    let header = text.lines().next().unwrap_or_default();
    let (names, rows): (Vec<&str>, &str) = if header.contains("wend") || header.contains("window_end") {
        let names = header.split(',').map(|name| known(name.trim_matches('"'))).collect();
        (names, text.split_once('\n').map_or("", |(_, rows)| rows))
    } else {
        (names.to_vec(), &text)
    };
    let place = |name: &str| names.iter().position(|n| *n == name).ok_or_else(|| format!("the output has no {name}"));
    let (end, key, count) = (place("wend")?, place("key")?, place("cnt").ok());
    let values: Vec<(&'static str, usize)> =
        VALUES.into_iter().filter_map(|value| Some((value, place(value).ok()?))).collect();
    let (mut all, mut sums) = (Checksum::default(), vec![[0.0; 2]; values.len()]);
    // Rows of one window stand together.
    let mut last = (String::new(), 0);
    let mut fields: Vec<&str> = Vec::new();
    for (number, line) in rows.lines().enumerate() {
        fields.clear();
        fields.extend(line.split(',').map(|field| field.trim_matches('"')));
        let wrong = || format!("{}: row {} is not one: {line}", path.display(), number + 1);
        if fields.len() != names.len() {
            return Err(wrong().into());
        }
        if last.0 != fields[end] {
            last = (fields[end].to_owned(), seconds(fields[end]).ok_or_else(wrong)?);
        }
        let key = if integers {
            fields[key].parse::<i64>().map_err(|_| wrong())? as u64
        } else {
            text_key(fields[key].as_bytes())
        };
        let name = Checksum::name(last.1, key);
        all.row(name, count.map_or(Ok(0), |count| fields[count].parse()).map_err(|_| wrong())?);
        for ((_, place), sums) in values.iter().zip(&mut sums) {
            // Nothing is no value: it adds nothing.
            if !fields[*place].is_empty() {
                Checksum::column(sums, name, fields[*place].parse().map_err(|_| wrong())?);
            }
        }
    }
    all.columns = values.into_iter().map(|(name, _)| name).zip(sums).collect();
    Ok(all)
}

/// Rows of a shuffle: every row once, and the rows of a key in one file.
pub fn shuffled(path: &Path) -> Result<Checksum, Failure> {
    let mut all = Vec::new();
    files(path, &mut all);
    let mut owner: Vec<u32> = Vec::new();
    let mut sum = Checksum::default();
    // A folder is a partition where there are folders.
    let mut parts: Vec<PathBuf> = Vec::new();
    for file in &all {
        let part = file.parent().filter(|parent| *parent != path).unwrap_or(file).to_owned();
        let part = parts.iter().position(|p| *p == part).unwrap_or_else(|| {
            parts.push(part);
            parts.len() - 1
        });
        for batch in batches(file)? {
            let batch = batch?;
            let plain = |name: &str, to: &DataType| -> Result<(String, ArrayRef), Failure> {
                let column = batch.column_by_name(name).ok_or_else(|| format!("the output has no column {name}"))?;
                Ok((name.to_owned(), cast(column, to)?))
            };
            let columns = [
                plain("key", &DataType::Int64)?,
                plain("value", &DataType::Float64)?,
                plain("payload", &DataType::Utf8)?,
            ];
            let rows = RecordBatch::try_from_iter(columns)?;
            sum.rows += rows.num_rows() as u64;
            sum.hash = sum.hash.wrapping_add(rows_hash(&rows).ok_or("rows of another shape")?);
            for key in rows.column(0).as_primitive::<Int64Type>().values() {
                let key = *key as usize;
                if key >= owner.len() {
                    owner.resize(key + 1, u32::MAX);
                }
                if owner[key] == u32::MAX {
                    owner[key] = part as u32;
                } else if owner[key] != part as u32 {
                    return Err(format!("key {key} is in two partitions").into());
                }
            }
        }
    }
    Ok(sum)
}

/// `ok`, or how an output differs from what the generator said; `columns` are those that it must have.
pub fn verdict(expected: &Value, got: &Checksum, columns: &[&str]) -> String {
    if expected["rows"].as_u64() != Some(got.rows) {
        return format!("{} rows instead of {}", got.rows, expected["rows"]);
    }
    for name in columns.iter().filter(|name| VALUES.contains(name)) {
        let Some(sums) = got.columns.get(name) else { return format!("no column {name}") };
        for (i, which) in ["sum", "weighted sum"].iter().enumerate() {
            let Some(want) = expected[*name][i].as_f64() else { return format!("no expected {name}") };
            let sum = sums[i];
            if (sum - want).abs() > TOLERANCE * want.abs().max(1.0) || sum.is_nan() {
                return format!("{which} of {name} {sum} instead of {want}");
            }
        }
    }
    // Without counts the names of the rows are what is exact; a shuffle has no names.
    let exact = |field: &str, got: u64| match expected[field].as_str() {
        Some(want) if want != format!("{got:016x}") => {
            Some(format!("{field} of the rows {got:016x} instead of {want}"))
        }
        _ => None,
    };
    let counted = columns.is_empty() || columns.contains(&"cnt");
    let hash = || if counted { exact("hash", got.hash) } else { None };
    exact("names", got.names).or_else(hash).unwrap_or_else(|| "ok".into())
}
