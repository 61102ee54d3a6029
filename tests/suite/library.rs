//! The library as a program embeds it: batches of any size, an aggregate of its own, an answer it does not read to the
//! end.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, SchemaRef};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use windrow::ErrorKind;
use windrow::query::{Aggregate, Engine, Query, Rows, Session, Value, Window, avg, count, custom, max, sum};

/// A record of these tests: seconds, key, value.
type Record = (i64, &'static str, Option<i64>);

fn records(n: i64) -> Vec<Record> {
    let record = |i: i64| {
        (i * 37 % 500 - 100, ["a", "b", "c"][(i * i % 3) as usize], (i % 11 != 5).then_some(i * 13 % 101 - 50))
    };
    (0..n).map(record).collect()
}

fn batch(records: &[Record]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 3] = [
        ("time", Arc::new(records.iter().map(|r| Some(r.0 * 1_000_000)).collect::<TimestampMicrosecondArray>())),
        ("key", Arc::new(records.iter().map(|r| Some(r.1)).collect::<StringArray>())),
        ("value", Arc::new(records.iter().map(|r| r.2).collect::<Int64Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

fn schema() -> SchemaRef {
    batch(&[]).schema()
}

fn query(records: &[Record], cut: usize) -> Query {
    let batches: Vec<_> = records.chunks(cut).map(|c| Ok(batch(c))).collect();
    Query::batches(schema(), batches)
}

/// The last column, per window start in seconds and key.
fn answers<T>(rows: Rows, value: impl Fn(&ArrayRef, usize) -> T) -> BTreeMap<(i64, String), T> {
    let mut all = BTreeMap::new();
    for batch in rows {
        let batch = batch.unwrap();
        for row in 0..batch.num_rows() {
            let start = batch.column(0).as_primitive::<TimestampMicrosecondType>().value(row) / 1_000_000;
            let key = batch.column(2).as_string::<i32>().value(row).to_owned();
            let old = all.insert((start, key), value(batch.columns().last().unwrap(), row));
            assert!(old.is_none(), "a row comes once");
        }
    }
    all
}

/// Which values are in each window, in the order of the records.
fn naive(records: &[Record], length: i64, slide: i64) -> BTreeMap<(i64, String), Vec<Option<i64>>> {
    let mut all = BTreeMap::new();
    for (time, key, value) in records {
        let mut start = time.div_euclid(slide) * slide;
        while start + length > *time {
            all.entry((start, (*key).to_owned())).or_insert_with(Vec::new).push(*value);
            start -= slide;
        }
    }
    all
}

/// The values modulo a prime, multiplied: has an inverse, and one that fails loudly if used out of turn.
struct Product;

const PRIME: u64 = 65_521;

fn power(base: u64, exponent: u64) -> u64 {
    (0..exponent).fold(1, |product, _| product * base % PRIME)
}

fn factor(value: i64) -> u64 {
    // Never zero, which has no inverse.
    value.unsigned_abs() % (PRIME - 1) + 1
}

impl Aggregate for Product {
    type State = u64;
    fn output(&self) -> DataType {
        DataType::Int64
    }
    fn identity(&self) -> u64 {
        1
    }
    fn update(&self, state: &mut u64, inputs: &[ArrayRef], row: usize) -> windrow::Result<()> {
        let column = inputs[0].as_primitive::<Int64Type>();
        if column.is_valid(row) {
            *state = *state * factor(column.value(row)) % PRIME;
        }
        Ok(())
    }
    fn merge(&self, state: &mut u64, later: &u64) {
        *state = *state * later % PRIME;
    }
    fn invertible(&self) -> bool {
        true
    }
    fn retract(&self, state: &mut u64, earlier: &u64) {
        *state = *state * power(*earlier, PRIME - 2) % PRIME;
    }
    fn finish(&self, state: &u64) -> Value {
        Value::Int(*state as i64)
    }
    fn encode(&self, state: &u64, out: &mut Vec<u8>) {
        out.extend(state.to_le_bytes());
    }
    fn decode(&self, bytes: &[u8]) -> Option<u64> {
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }
}

/// The sorted values as text: no inverse, states on the heap, null where there is no value.
struct Sorted;

impl Aggregate for Sorted {
    type State = Vec<i64>;
    fn output(&self) -> DataType {
        DataType::Utf8
    }
    fn identity(&self) -> Vec<i64> {
        Vec::new()
    }
    fn update(&self, state: &mut Vec<i64>, inputs: &[ArrayRef], row: usize) -> windrow::Result<()> {
        let column = inputs[0].as_primitive::<Int64Type>();
        if column.is_valid(row) {
            self.merge(state, &vec![column.value(row)]);
        }
        Ok(())
    }
    fn merge(&self, state: &mut Vec<i64>, later: &Vec<i64>) {
        state.extend(later);
        state.sort_unstable();
    }
    fn finish(&self, state: &Vec<i64>) -> Value {
        if state.is_empty() { Value::Null } else { Value::Text(format!("{state:?}")) }
    }
    fn encode(&self, state: &Vec<i64>, out: &mut Vec<u8>) {
        state.iter().for_each(|v| out.extend(v.to_le_bytes()));
    }
    fn decode(&self, bytes: &[u8]) -> Option<Vec<i64>> {
        bytes.chunks(8).map(|b| Some(i64::from_le_bytes(b.try_into().ok()?))).collect()
    }
    fn heap_size(&self, state: &Vec<i64>) -> usize {
        state.capacity() * 8
    }
}

#[test]
fn an_aggregate_of_ones_own_slides_with_and_without_inverse() {
    let records = records(3000);
    for (length, slide) in [(60, 60), (60, 10), (100, 7), (300, 1), (7, 20)] {
        let window = Window::sliding(length * 1_000_000, slide * 1_000_000, 0).unwrap();
        let twin = naive(&records, length, slide);
        let products: BTreeMap<_, i64> = twin
            .iter()
            .map(|(k, v)| (k.clone(), v.iter().flatten().fold(1, |p, v| p * factor(*v) % PRIME) as i64))
            .collect();
        let sorted: BTreeMap<_, Option<String>> = twin
            .iter()
            .map(|(k, v)| {
                let mut values: Vec<i64> = v.iter().flatten().copied().collect();
                values.sort_unstable();
                (k.clone(), (!values.is_empty()).then(|| format!("{values:?}")))
            })
            .collect();
        for (engine, threads) in [(Engine::Incremental, 1), (Engine::Incremental, 3), (Engine::Remerge, 2)] {
            let with = |aggregate| {
                query(&records, 700)
                    .key("key")
                    .window(window)
                    .engine(engine)
                    .threads(threads)
                    .aggregate(aggregate)
                    .run()
                    .unwrap()
            };
            let got = answers(with(custom("product", &["value"], Product)), |c, row| {
                c.as_primitive::<Int64Type>().value(row)
            });
            assert_eq!(got, products, "{length}/{slide}, {engine:?}");
            let got = answers(with(custom("sorted", &["value"], Sorted)), |c, row| {
                c.is_valid(row).then(|| c.as_string::<i32>().value(row).to_owned())
            });
            assert_eq!(got, sorted, "{length}/{slide}, {engine:?}");
        }
        let plain =
            query(&records, 999).key("key").window(window).naive(true).aggregate(custom("p", &["value"], Product));
        assert_eq!(answers(plain.run().unwrap(), |c, row| c.as_primitive::<Int64Type>().value(row)), products, "naive");
    }
}

#[test]
fn an_aggregate_of_ones_own_counts_sessions() {
    let records = records(150);
    let gap = 2;
    let mut twin: BTreeMap<(i64, String), Vec<i64>> = BTreeMap::new();
    for key in ["a", "b", "c"] {
        let mut of_key: Vec<_> = records.iter().filter(|r| r.1 == key).collect();
        of_key.sort_by_key(|r| r.0);
        for session in of_key.chunk_by(|a, b| b.0 - a.0 <= gap) {
            twin.insert((session[0].0, key.to_owned()), session.iter().filter_map(|r| r.2).collect());
        }
    }
    assert!(twin.len() > 3 && twin.values().any(|v| v.len() > 3), "several sessions, some of several records");
    for (threads, lateness) in [(1, None), (3, None), (2, Some(1_000_000_000))] {
        let with = |aggregate| {
            let session = Session::gap(gap * 1_000_000).unwrap();
            let query = query(&records, 700).key("key").session(session).threads(threads).aggregate(aggregate);
            let query = match lateness {
                Some(lateness) => query.lateness(lateness),
                None => query,
            };
            query.run().unwrap()
        };
        let got =
            answers(with(custom("product", &["value"], Product)), |c, row| c.as_primitive::<Int64Type>().value(row));
        let want = twin.iter().map(|(k, v)| (k.clone(), v.iter().fold(1, |p, v| p * factor(*v) % PRIME) as i64));
        assert_eq!(got, want.collect());
        let got = answers(with(custom("sorted", &["value"], Sorted)), |c, row| {
            c.is_valid(row).then(|| c.as_string::<i32>().value(row).to_owned())
        });
        let want = twin.iter().map(|(k, v)| {
            let mut sorted = v.clone();
            sorted.sort_unstable();
            (k.clone(), (!v.is_empty()).then(|| format!("{sorted:?}")))
        });
        assert_eq!(got, want.collect());
    }
}

#[test]
fn the_size_of_batches_changes_nothing() {
    let records = records(140_000);
    let run = |cut: usize| {
        let query = query(&records, cut).key("key").window(Window::parse("2m", Some("30s"), Some("-7s")).unwrap());
        let rows = query.aggregate(count()).aggregate(sum("value")).aggregate(max("key")).run().unwrap();
        let batches: Vec<RecordBatch> = rows.map(|b| b.unwrap()).collect();
        arrow_select::concat::concat_batches(&batches[0].schema(), &batches).unwrap()
    };
    let want = run(140_000);
    assert!(want.num_rows() > 35);
    for cut in [1, 3, 1000, 65_535, 65_536, 65_537, 131_073] {
        assert_eq!(run(cut), want, "batches of {cut}");
    }
    // Batches without rows among the others.
    let mut batches = vec![Ok(batch(&[]))];
    batches.extend(records.chunks(50_000).flat_map(|c| [Ok(batch(c)), Ok(batch(&[]))]));
    let query = Query::batches(schema(), batches).aggregate(count()).run().unwrap();
    let counts: Vec<i64> = query.map(|b| b.unwrap().column(0).as_primitive::<Int64Type>().value(0)).collect();
    assert_eq!(counts, [140_000]);
}

#[test]
fn nothing_is_read_before_the_first_row_and_the_rest_may_be_left() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counter = taken.clone();
    let batches = (0..10).map(move |_| {
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(batch(&records(10_000)))
    });
    let window = Window::sliding(60_000_000, 1_000, 0).unwrap();
    let mut rows = Query::batches(schema(), batches).key("key").window(window).run().unwrap();
    assert_eq!(taken.load(Ordering::Relaxed), 0);
    assert_eq!(rows.schema().fields().len(), 4);
    assert!(rows.next().unwrap().unwrap().num_rows() > 0);
    assert_eq!(taken.load(Ordering::Relaxed), 10);
    let statistics = rows.statistics();
    assert!(statistics.ledger.balances() && statistics.ledger.used == 100_000);
    assert_eq!(statistics.windows, 559_000);
    assert!(statistics.rows_out < 559_000, "{}", statistics.rows_out);
    drop(rows);
    // By blocks: whoever has enough says so.
    let mut rows = query(&records(5000), 100).key("key").window(window).run().unwrap();
    let mut blocks = 0;
    rows.for_each_block(|_| {
        blocks += 1;
        Ok(blocks < 2)
    })
    .unwrap();
    assert_eq!(blocks, 2);
    assert!(rows.next().is_none(), "it has been ended");
}

#[test]
fn errors_come_where_they_arise() {
    let kind = |query: Query| query.run().map(|_| ()).unwrap_err().kind();
    let some = || query(&records(10), 5);
    assert_eq!(kind(some().key("kye")), ErrorKind::Usage);
    assert_eq!(kind(some().aggregate(avg("key"))), ErrorKind::Usage);
    assert_eq!(kind(some().filter("value >")), ErrorKind::Usage);
    assert_eq!(kind(some().filter("value = 'x'")), ErrorKind::Usage);
    assert_eq!(
        kind(some().time(Some("when".into()), windrow::time::TimeFormat::Auto).window(Window::tumbling(1).unwrap())),
        ErrorKind::Usage
    );
    assert_eq!(kind(Query::files(["/no/such/file"])), ErrorKind::Input);
    // An error of the input, and of an aggregate, ends the iteration.
    let batches = vec![Ok(batch(&records(10))), Err(windrow::Error::input("the source broke"))];
    let mut rows = Query::batches(schema(), batches).run().unwrap();
    assert!(rows.next().unwrap().unwrap_err().to_string().contains("the source broke"));
    assert!(rows.next().is_none());
    let windows = Window::parse("1h", Some("1us"), None).unwrap();
    let mut refused = query(&records(100), 100).window(windows).naive(true).memory(32 << 20).threads(1).run().unwrap();
    assert_eq!(refused.next().unwrap().unwrap_err().kind(), ErrorKind::Memory);
    // A limit in which nothing can run is told before anything is read.
    let error = query(&records(1), 1000).memory(33 << 20).threads(2).run().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Memory);
    let says = "the memory limit of 33 MiB is too small for 2 threads: 48 MiB is the least that will do";
    assert!(error.to_string().contains(says), "{error}");
    assert!(query(&records(1), 1000).memory(33 << 20).run().is_ok());
}
