//! `--top N --by COLUMN` and `--sort key`: which rows of a window stay, and in which order.
//!
//! It works on finished rows, on batches that hold all rows of a window ([`Sorted`](super::sorted::Sorted) waits for them).
//! Top rows are found by selection, so a window of n rows costs O(n + N log N).
//!
//! Keys ascend with nulls before everything, as in Spark and Flink; text goes by its bytes, NaN after every number.

use super::names::similar;
use crate::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, DictionaryArray, Float64Array, RecordBatch, UInt32Array};
use arrow_cast::cast;
use arrow_ord::ord::{DynComparator, make_comparator};
use arrow_schema::{DataType, Schema, SortOptions};
use arrow_select::concat::concat;
use arrow_select::take::take_record_batch;
use rayon::prelude::*;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// How many rows stay, and the column by which they are the greatest.
    top: Option<(usize, usize)>,
    sort: bool,
    windowed: bool,
    /// The columns of the key.
    keys: Range<usize>,
}

impl Order {
    /// Over rows of `schema`, of which `keys` are the key and, if there are windows, the first two their bounds. `None` if
    /// nothing is asked for.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Usage`]: no such column.
    pub(crate) fn new(
        schema: &Schema,
        keys: Range<usize>,
        top: Option<&(usize, String)>,
        sort: bool,
    ) -> Result<Option<Order>> {
        let column = |(n, by): &(usize, String)| match schema.index_of(by) {
            Ok(column) => Ok((*n, column)),
            Err(_) => {
                let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).collect();
                let close = similar(by, &names);
                let hint = if close.is_empty() { &names } else { &close };
                Err(Error::usage(format!("--by: there is no output column {by:?}; there is {}", hint.join(", "))))
            }
        };
        let top = top.map(column).transpose()?;
        let windowed = keys.start > 0;
        Ok((top.is_some() || sort).then_some(Order { top, sort, windowed, keys }))
    }

    /// The rows of a block that stay, in their order. Runs on the current rayon pool.
    pub(crate) fn apply(&self, batches: Vec<RecordBatch>) -> Result<Vec<RecordBatch>> {
        let mut groups: Vec<Vec<RecordBatch>> = Vec::new();
        for batch in batches.into_iter().filter(|batch| batch.num_rows() > 0) {
            match groups.last_mut() {
                Some(group) if self.goes_on(&group[group.len() - 1], &batch) => group.push(batch),
                _ => groups.push(vec![batch]),
            }
        }
        groups
            .into_par_iter()
            .map(|mut group| {
                if group.len() > 1 && self.top.is_some() {
                    // Few rows of each part can be among the top of all.
                    group = group.par_iter().map(|part| self.order(part)).collect::<Result<_>>()?;
                }
                self.order(&join(group)?)
            })
            .collect()
    }

    /// Whether only the top rows of a window stay.
    pub(crate) fn takes_top(&self) -> bool {
        self.top.is_some()
    }

    /// Takes the rows of the last window from the end of `batches`, none of which is empty.
    pub(crate) fn split_last(&self, batches: &mut Vec<RecordBatch>) -> Vec<RecordBatch> {
        let mut last: Vec<RecordBatch> = Vec::new();
        while let Some(batch) = batches.pop_if(|batch| last.last().is_none_or(|next| self.goes_on(batch, next))) {
            let start = self.windows(&batch).last().map_or(0, |window| window.start);
            last.push(batch.slice(start, batch.num_rows() - start));
            if start > 0 {
                batches.push(batch.slice(0, start));
                break;
            }
        }
        last.reverse();
        last
    }

    /// Takes the rows of the window that ends with `before`, if it goes on, from the beginning of `batches`, none of which is
    /// empty.
    pub(crate) fn split_first(&self, before: &RecordBatch, batches: &mut Vec<RecordBatch>) -> Vec<RecordBatch> {
        let mut first: Vec<RecordBatch> = Vec::new();
        while let Some(batch) = batches.first()
            && self.goes_on(first.last().unwrap_or(before), batch)
        {
            let batch = batches.remove(0);
            let end = self.windows(&batch).first().map_or(0, |window| window.end);
            first.push(batch.slice(0, end));
            if end < batch.num_rows() {
                batches.insert(0, batch.slice(end, batch.num_rows() - end));
                break;
            }
        }
        first
    }

    /// What [`goes_on`](Self::goes_on) looks at of the last row of `batch`, in memory of its own.
    pub(crate) fn end(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let bounds: &[usize] = if self.windowed { &[0, 1] } else { &[] };
        Ok(take_record_batch(&batch.project(bounds)?, &UInt32Array::from(vec![batch.num_rows() as u32 - 1]))?)
    }

    /// How many of `rows`, which are of one window and sorted by key, come before the only row of `bound`; with its `equals`
    /// or without.
    ///
    /// # Errors
    /// Keys without an order.
    pub(crate) fn count_before(&self, rows: &RecordBatch, bound: &RecordBatch, equals: bool) -> Result<usize> {
        let keys = self.comparators(rows, bound)?;
        let upto = |row: usize| {
            let order = keys.iter().map(|compare| compare(row, 0)).find(|order| order.is_ne());
            order.map_or(equals, Ordering::is_lt)
        };
        let (mut from, mut to) = (0, rows.num_rows());
        while from < to {
            let middle = from.midpoint(to);
            if upto(middle) { from = middle + 1 } else { to = middle }
        }
        Ok(from)
    }

    /// How keys of two batches compare, field by field.
    fn comparators(&self, left: &RecordBatch, right: &RecordBatch) -> Result<Vec<DynComparator>> {
        let options = SortOptions { descending: false, nulls_first: true };
        let keys = self.keys.clone();
        keys.map(|column| Ok(make_comparator(left.column(column), right.column(column), options)?)).collect()
    }

    /// Whether `next` begins with the window that `batch` ends with.
    pub(crate) fn goes_on(&self, batch: &RecordBatch, next: &RecordBatch) -> bool {
        let at = |batch: &RecordBatch, column: usize, row: usize| {
            batch.column(column).as_primitive::<TimestampMicrosecondType>().value(row)
        };
        !self.windowed || (0..2).all(|column| at(batch, column, batch.num_rows() - 1) == at(next, column, 0))
    }

    /// The rows of a batch of whole windows, or of one part of a window.
    fn order(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let by = self.top.map(|(n, column)| Ok::<_, Error>((n, greatest_first(batch.column(column))?))).transpose()?;
        let keys = self.comparators(batch, batch)?;
        let by_key = |a: u32, b: u32| {
            let order = keys.iter().map(|compare| compare(a as usize, b as usize)).find(|order| order.is_ne());
            order.unwrap_or(Ordering::Equal).then(a.cmp(&b))
        };
        let mut rows: Vec<u32> = Vec::with_capacity(batch.num_rows());
        for window in self.windows(batch) {
            let mut window: Vec<u32> = (window.start as u32..window.end as u32).collect();
            if let Some((n, by)) = &by {
                let by = |a: &u32, b: &u32| by(*a as usize, *b as usize).then_with(|| by_key(*a, *b));
                if *n < window.len() {
                    if *n > 0 {
                        window.select_nth_unstable_by(n - 1, by);
                    }
                    window.truncate(*n);
                }
                window.sort_unstable_by(by);
            }
            if self.sort {
                window.par_sort_unstable_by(|a, b| by_key(*a, *b));
            }
            rows.extend(window);
        }
        Ok(take_record_batch(batch, &UInt32Array::from(rows))?)
    }

    /// The rows of each window.
    fn windows(&self, batch: &RecordBatch) -> Vec<Range<usize>> {
        if !self.windowed {
            return std::iter::once(0..batch.num_rows()).collect();
        }
        let bounds = |column: usize| batch.column(column).as_primitive::<TimestampMicrosecondType>().values();
        let (starts, ends) = (bounds(0), bounds(1));
        let mut windows: Vec<Range<usize>> = Vec::new();
        for row in 0..batch.num_rows() {
            match windows.last_mut() {
                Some(window) if (starts[row], ends[row]) == (starts[window.start], ends[window.start]) => {
                    window.end = row + 1;
                }
                _ => windows.push(row..row + 1),
            }
        }
        windows
    }
}

/// Compares rows of `column`: the greatest is the least, nulls and NaN come last.
fn greatest_first(column: &ArrayRef) -> Result<DynComparator> {
    let column: ArrayRef = if column.data_type().is_floating() {
        let floats = cast(column, &DataType::Float64)?;
        let numbers = floats.as_primitive::<Float64Type>().iter().map(|v| v.filter(|v| !v.is_nan()));
        Arc::new(numbers.collect::<Float64Array>())
    } else {
        column.clone()
    };
    Ok(make_comparator(&column, &column, SortOptions { descending: true, nulls_first: false })?)
}

/// The parts of one window as one batch. Dictionaries of one block share their values.
fn join(mut parts: Vec<RecordBatch>) -> Result<RecordBatch> {
    if parts.len() == 1 {
        return Ok(parts.swap_remove(0));
    }
    let schema = parts[0].schema();
    let join = |column: usize| -> Result<ArrayRef> {
        let arrays: Vec<&ArrayRef> = parts.iter().map(|part| part.column(column)).collect();
        let dictionary = |array: &ArrayRef| array.as_dictionary_opt::<Int32Type>().cloned();
        if let Some(all) = arrays.iter().map(|array| dictionary(array)).collect::<Option<Vec<_>>>()
            && all.iter().all(|one| Arc::ptr_eq(one.values(), all[0].values()))
        {
            let keys: Vec<&dyn Array> = all.iter().map(|one| one.keys() as &dyn Array).collect();
            let keys = concat(&keys)?.as_primitive::<Int32Type>().clone();
            return Ok(Arc::new(DictionaryArray::try_new(keys, all[0].values().clone())?));
        }
        Ok(concat(&arrays.iter().map(|array| &***array).collect::<Vec<&dyn Array>>())?)
    };
    let columns = (0..schema.fields().len()).map(join).collect::<Result<_>>()?;
    let rows = parts.iter().map(RecordBatch::num_rows).sum();
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

#[cfg(test)]
mod tests {
    use super::super::{Agg, Query, Window};
    use super::*;
    use arrow_array::types::Int64Type;
    use arrow_array::{Int64Array, StringArray, TimestampMicrosecondArray};
    use arrow_schema::{Field, TimeUnit};
    use proptest::prelude::*;

    /// A row: window end, text key, number key, count, mean.
    type Row = (i64, Option<String>, Option<i64>, i64, Option<f64>);

    /// A record: time, text key, number key, value.
    type Record = (i64, Option<&'static str>, Option<i64>, Option<f64>);

    fn query(records: &[Record], windowed: bool) -> Query {
        let schema = Arc::new(Schema::new(vec![
            Field::new("ts", DataType::Timestamp(TimeUnit::Microsecond, None), false),
            Field::new("name", DataType::Utf8, true),
            Field::new("key", DataType::Int64, true),
            Field::new("value", DataType::Float64, true),
        ]));
        let columns: Vec<ArrayRef> = vec![
            Arc::new(records.iter().map(|r| Some(r.0)).collect::<TimestampMicrosecondArray>()),
            Arc::new(records.iter().map(|r| r.1).collect::<StringArray>()),
            Arc::new(records.iter().map(|r| r.2).collect::<Int64Array>()),
            Arc::new(records.iter().map(|r| r.3).collect::<Float64Array>()),
        ];
        let batch = RecordBatch::try_new(schema.clone(), columns).unwrap();
        let mut query = Query::batches(schema, vec![Ok(batch)]).key("name").key("key").partition_bits(2).threads(2);
        for aggregate in Agg::parse_list("count, avg(value) as mean").unwrap() {
            query = query.aggregate(aggregate);
        }
        if windowed { query.window(Window::sliding(40, 15, 0).unwrap()) } else { query }
    }

    fn rows(query: Query, windowed: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        for batch in query.run().unwrap() {
            let batch = batch.unwrap();
            let at = |column: usize| batch.column(column + if windowed { 2 } else { 0 });
            for row in 0..batch.num_rows() {
                let end = batch.column(1).as_primitive_opt::<TimestampMicrosecondType>().map_or(0, |c| c.value(row));
                let name = at(0).is_valid(row).then(|| at(0).as_string::<i32>().value(row).to_owned());
                let key = at(1).is_valid(row).then(|| at(1).as_primitive::<Int64Type>().value(row));
                let mean = at(3).is_valid(row).then(|| at(3).as_primitive::<Float64Type>().value(row));
                rows.push((end, name, key, at(2).as_primitive::<Int64Type>().value(row), mean));
            }
        }
        rows
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

        /// The twin sorts each window's rows by the definition.
        #[test]
        fn rows_stay_and_stand_as_defined(
            records in prop::collection::vec(
                (0i64..200, prop::option::weighted(0.9, prop::sample::select(vec!["", "a", "ab", "b", "ä"])),
                 prop::option::weighted(0.9, -3i64..4),
                 prop::option::weighted(0.7, prop::sample::select(vec![1.0, -2.5, f64::NAN, f64::INFINITY, 0.0]))), 0..150),
            top in prop::option::of((0usize..9, any::<bool>())), sort in any::<bool>(), windowed in any::<bool>(),
            short in any::<bool>(),
        ) {
            let spills = tempfile::tempdir().unwrap();
            let mut query_ordered = query(&records, windowed);
            if short {
                // Some rows may wait: those of the top, else a few.
                query_ordered = query_ordered.memory(if top.is_some() { 16 } else { 1 } << 20).spill_dir(spills.path());
            }
            if sort {
                query_ordered = query_ordered.sort_by_key();
            }
            if let Some((n, by_mean)) = top {
                query_ordered = query_ordered.top(n, if by_mean { "mean" } else { "count" });
            }
            let got = rows(query_ordered, windowed);
            let mut want: Vec<Row> = Vec::new();
            for window in rows(query(&records, windowed), windowed).chunk_by(|a, b| a.0 == b.0) {
                let mut window = window.to_vec();
                if let Some((n, by_mean)) = top {
                    window.sort_by(|a, b| {
                        let number = |row: &Row| match by_mean {
                            true => row.4.filter(|v| !v.is_nan()),
                            false => Some(row.3 as f64),
                        };
                        let order = match (number(a), number(b)) {
                            (Some(a), Some(b)) => b.partial_cmp(&a).unwrap(),
                            (a, b) => b.is_some().cmp(&a.is_some()),
                        };
                        order.then_with(|| (&a.1, a.2).cmp(&(&b.1, b.2)))
                    });
                    window.truncate(n);
                }
                if sort {
                    window.sort_by(|a, b| (&a.1, a.2).cmp(&(&b.1, b.2)));
                }
                want.extend(window);
            }
            prop_assert_eq!(format!("{got:?}"), format!("{want:?}"));
            prop_assert_eq!(std::fs::read_dir(spills.path()).unwrap().count(), 0);
        }
    }

    /// Many rows of one window and of several, in so little memory that runs are merged to runs.
    #[test]
    fn rows_beyond_memory_are_sorted_all_the_same() {
        let names = ["", "a", "ab", "b"];
        let records: Vec<Record> = (0..4000i64)
            .map(|i| (i % 100, Some(names[i as usize % 4]), Some(i * 7919 % 1009 - 500), Some(1.0)))
            .collect();
        for windowed in [false, true] {
            let spills = tempfile::tempdir().unwrap();
            let want = rows(query(&records, windowed).sort_by_key(), windowed);
            let short = query(&records, windowed).sort_by_key().memory(1 << 20).spill_dir(spills.path());
            let mut short_rows = short.run().unwrap();
            let spilled: usize = short_rows.by_ref().map(|batch| batch.unwrap().num_rows()).sum();
            assert_eq!(spilled, want.len());
            assert!(short_rows.statistics().spilled_bytes > 0);
            let short = query(&records, windowed).sort_by_key().memory(1 << 20).spill_dir(spills.path());
            assert_eq!(format!("{:?}", rows(short, windowed)), format!("{want:?}"));
            let error =
                query(&records, windowed).top(3000, "count").memory(1 << 20).spill_dir(spills.path()).run().unwrap();
            let error = error.filter_map(Result::err).next().unwrap();
            assert!(error.kind() == crate::ErrorKind::Memory && error.to_string().contains("--top"), "{error}");
        }
    }
}
