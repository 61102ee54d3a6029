//! Replays an application's rows through a query: replay `r` is the same rows, `r` steps later, a step being one second more
//! than the last of them. Batches of 65,536 rows; only the times (and LRB1's segments, which the query is to compute)
//! are made anew for each batch. Windows close as time passes, rows are handed over in blocks and counted.

use crate::Failure;
use crate::lightsaber::{APPLICATIONS, Application, Table};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow_select::concat::concat;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use windrow::query::{Query, Window};

/// Rows of a batch.
const BATCH: usize = 65_536;

const MICROS: i64 = 1_000_000;

/// What an answer adds up to.
#[derive(Debug, Default, Clone, Copy)]
struct Totals {
    rows: u64,
    counts: i64,
    /// Of all columns of values, an average times the count of its row.
    sums: f64,
}

/// The answer by brute force, over so many replays.
fn brute(application: &Application, table: &Table, step: i64, replays: i64) -> Totals {
    let float = |name: &str| -> Vec<f64> {
        let column = &table.columns.iter().find(|(n, _)| *n == name).expect("a column of the query").1;
        match column.as_primitive_opt::<Float32Type>() {
            Some(floats) => floats.values().iter().map(|v| f64::from(*v)).collect(),
            None => column.as_primitive::<Int32Type>().values().iter().map(|v| f64::from(*v)).collect(),
        }
    };
    let key_columns: Vec<Vec<i64>> = application.keys.iter().map(|name| key(table, name)).collect();
    let values: Vec<Vec<f64>> = application.values.iter().map(|name| float(name)).collect();
    let kept: Vec<bool> = match application.filter {
        Some(_) => float("event_type").iter().map(|event| *event == 3.0).collect(),
        None => vec![true; table.times.len()],
    };
    // Cells of a replay: by second and key, the count and the sums.
    let mut ids: HashMap<Vec<i64>, usize> = HashMap::new();
    let mut cells: HashMap<(i64, usize), (i64, f64)> = HashMap::new();
    for row in (0..table.times.len()).filter(|row| kept[*row]) {
        let key: Vec<i64> = key_columns.iter().map(|column| column[row]).collect();
        let next = ids.len();
        let id = *ids.entry(key).or_insert(next);
        let cell = cells.entry((table.times[row], id)).or_default();
        *cell = (cell.0 + 1, cell.1 + values.iter().map(|column| column[row]).sum::<f64>());
    }
    let mut by_second: Vec<Vec<(usize, i64, f64)>> = vec![Vec::new(); step as usize];
    for ((second, id), (count, sum)) in cells {
        by_second[second as usize].push((id, count, sum));
    }
    let last = replays * step;
    let mut live = vec![(0i64, 0f64); ids.len()];
    let mut totals = Totals::default();
    let shift = |live: &mut Vec<(i64, f64)>, second: i64, sign: i64| {
        if (0..last).contains(&second) {
            for (id, count, sum) in &by_second[(second % step) as usize] {
                live[*id].0 += sign * count;
                live[*id].1 += sign as f64 * sum;
            }
        }
    };
    for end in 1..last + application.window {
        shift(&mut live, end - 1, 1);
        shift(&mut live, end - 1 - application.window, -1);
        for (count, sum) in live.iter().filter(|(count, _)| *count > 0) {
            if application.having.is_none() || sum / (*count as f64) < 40.0 {
                totals.rows += 1;
                totals.counts += count;
                totals.sums += sum;
            }
        }
    }
    totals
}

/// A column of keys; `segment` is the mile that a position lies in.
fn key(table: &Table, name: &str) -> Vec<i64> {
    let column = |name: &str| &table.columns.iter().find(|(n, _)| *n == name).expect("a column of the query").1;
    if name == "segment" {
        return column("position").as_primitive::<Int32Type>().values().iter().map(|p| i64::from(*p / 5280)).collect();
    }
    match column(name).as_primitive_opt::<Int64Type>() {
        Some(longs) => longs.values().to_vec(),
        None => column(name).as_primitive::<Int32Type>().values().iter().map(|v| i64::from(*v)).collect(),
    }
}

/// Batches of replays, the first `replays` of them.
fn batches(table: &Table, step: i64, replays: usize) -> Result<impl Iterator<Item = RecordBatch> + use<>, Failure> {
    let rows = table.times.len();
    let per_batch = BATCH / rows;
    let repeat = |column: &ArrayRef| concat(&vec![column.as_ref(); per_batch]);
    let columns: Vec<(&'static str, ArrayRef)> =
        table.columns.iter().map(|(name, column)| Ok((*name, repeat(column)?))).collect::<Result<_, Failure>>()?;
    let offsets =
        (0..per_batch as i64).flat_map(|replay| table.times.iter().map(move |time| (time + replay * step) * MICROS));
    let times: Vec<i64> = offsets.collect();
    Ok((0..replays.div_ceil(per_batch)).map(move |number| {
        let shift = (number * per_batch) as i64 * step * MICROS;
        let shifted: Vec<i64> = times.iter().map(|time| time + shift).collect();
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(shifted));
        let column = |(name, column): &(&'static str, ArrayRef)| match *name {
            "position" => {
                let positions = column.as_primitive::<Int32Type>().values();
                let segments = Int32Array::from_iter_values(positions.iter().map(|position| position / 5280));
                ("segment", Arc::new(segments) as ArrayRef)
            }
            name => (name, column.clone()),
        };
        let batch = RecordBatch::try_from_iter([("ts", times)].into_iter().chain(columns.iter().map(column)));
        let batch = batch.expect("columns of equal length");
        let left = (replays - number * per_batch) * rows;
        if left < batch.num_rows() { batch.slice(0, left) } else { batch }
    }))
}

/// The query, timed; what its rows add up to.
fn query(
    application: &Application,
    batches: impl Iterator<Item = RecordBatch> + Send + 'static,
    threads: usize,
) -> Result<(Totals, f64), Failure> {
    let mut batches = batches.peekable();
    let schema = batches.peek().ok_or("nothing to replay")?.schema();
    let started = Instant::now();
    let mut query = Query::batches(schema, batches.map(Ok))
        .window(Window::sliding(application.window * MICROS, MICROS, 0)?)
        .lateness(0)
        .threads(threads);
    query = application.keys.iter().fold(query, |query, name| query.key(*name));
    query = application.aggregates().into_iter().fold(query, Query::aggregate);
    if let Some(condition) = application.filter {
        query = query.filter(condition);
    }
    if let Some(condition) = application.having {
        query = query.having(condition);
    }
    let mut rows = query.run()?;
    let mut totals = Totals::default();
    rows.for_each_block(|blocks| {
        for rows in blocks {
            let counts = rows.column_by_name("count").and_then(|c| c.as_any().downcast_ref::<Int64Array>());
            let Some(counts) = counts else { return Ok(false) };
            totals.rows += rows.num_rows() as u64;
            totals.counts += counts.values().iter().sum::<i64>();
            let columns = rows.num_columns();
            for column in &rows.columns()[columns - 1 - application.values.len()..columns - 1] {
                let values = column.as_primitive::<Float64Type>().values();
                totals.sums += if application.sums {
                    values.iter().sum::<f64>()
                } else {
                    values.iter().zip(counts.values()).map(|(value, count)| value * *count as f64).sum()
                };
            }
        }
        Ok(true)
    })?;
    Ok((totals, started.elapsed().as_secs_f64()))
}

/// Runs one of the queries and says how fast it was and whether its rows are right.
pub fn run(name: &str, folder: &Path, threads: usize, scale: f64) -> Result<String, Failure> {
    let known = APPLICATIONS.map(|application| application.name).join(", ");
    let application = APPLICATIONS.into_iter().find(|application| application.name == name);
    let application = application.ok_or_else(|| format!("unknown query {name:?}; known are {known}"))?;
    let table = application.load(folder)?;
    let step = table.times.last().ok_or("an empty file")? + 1;
    // Once every window is full, a replay more adds the same again.
    let full = application.window / step + 2;
    let (few, more) = (brute(&application, &table, step, full), brute(&application, &table, step, full + 1));
    let wanted = (application.millions * 1e6 * scale) as usize / table.times.len();
    let replays = wanted.max(full as usize + 1);
    let times = (replays as i64 - full) as f64;
    let expected = Totals {
        rows: few.rows + (more.rows - few.rows) * (replays as u64 - full as u64),
        counts: few.counts + (more.counts - few.counts) * (replays as i64 - full),
        sums: few.sums + (more.sums - few.sums) * times,
    };
    let (got, seconds) = query(&application, batches(&table, step, replays)?, threads)?;
    let tuples = replays * table.times.len();
    let verdict = if more.rows - few.rows != application.rows_per_replay {
        format!("brute force gives {} rows per replay instead of {}", more.rows - few.rows, application.rows_per_replay)
    } else if (got.rows, got.counts) != (expected.rows, expected.counts)
        || (got.sums - expected.sums).abs() > 1e-6 * expected.sums.abs()
    {
        format!("{got:?} instead of {expected:?}")
    } else {
        "ok".into()
    };
    let (millions, rows_out) = (tuples as f64 / seconds / 1e6, got.rows as f64 / seconds / 1e6);
    let gigabytes = (tuples * application.tuple) as f64 / seconds / 1e9;
    eprintln!("{name}: {millions:.1} M tuples/s ({gigabytes:.1} GB/s), {rows_out:.2} M rows/s out, {verdict}");
    Ok(format!("{{\"query_s\":{seconds:.4},\"tuples\":{tuples},\"rows\":{},\"verdict\":{verdict:?}}}", got.rows))
}
