//! Three engines over the same windows: naive (each record into each of its windows), remerge (each window from its
//! panes) and incremental (absorb and expel), for window/slide from 1 to 3600 and 100 to 1 M keys.
//!
//! The query is count and sum over record batches, one thread. What is reported is time per *element*, a record in or a
//! row out: the least that any engine must touch. Records are a second apart in time from the first to the last slide,
//! `rate` of them in each, with uniform keys. The stream lasts a window at least, so windows fill.
//!
//! An iteration must stay near a second, so the rate depends on the point and, where folding takes too long, on the
//! engine: the naive and remerge engines get a thinner stream. That flatters them, since a thin stream has more rows per
//! record. Where windows and keys are many, rows out outnumber everything, and all engines come to cost the same.

use crate::data::START_MICROS;
use crate::random::Random;
use arrow_array::{ArrayRef, Int64Array, RecordBatch, TimestampMicrosecondArray};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use std::sync::Arc;
use windrow::Result;
use windrow::query::{Engine, Query, Window, count, sum};

const SECOND: i64 = 1_000_000;
/// A stream of fewer slides than this starts and ends too soon.
const SLIDES: f64 = 240.0;
/// What an iteration may come to.
const RECORDS: f64 = 4e6;
const ROWS: f64 = 80e6;
/// The stream is not thinned below this.
const LEAST_RECORDS: f64 = 2000.0;

/// One of the three lines of the picture.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Naive,
    Remerge,
    Incremental,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Naive => "naive",
            Way::Remerge => "remerge",
            Way::Incremental => "incremental",
        }
    }

    /// Folds beside one per record: of records into windows or of cells into windows.
    fn folds(self, shape: &Shape, rate: f64) -> f64 {
        match self {
            Way::Naive => shape.slides * rate * shape.ratio,
            Way::Remerge => shape.slides * shape.ratio * distinct(shape.keys, rate),
            Way::Incremental => 0.0,
        }
    }

    /// Folds that take a second or a few: the more windows are open, the more each one costs.
    fn most_folds(self, shape: &Shape) -> f64 {
        match (self, shape.ratio as u32) {
            (_, ..=60) => 100e6,
            (Way::Naive, ..=600) => 20e6,
            // Where there are few rows, a thin stream would hide what folding costs.
            (Way::Naive, _) if shape.keys <= 100.0 => 40e6,
            (Way::Naive, _) => 12e6,
            _ => 50e6,
        }
    }
}

/// A point of the picture.
struct Shape {
    ratio: f64,
    keys: f64,
    slides: f64,
}

/// Different keys among `draws` uniform ones of `keys`.
fn distinct(keys: f64, draws: f64) -> f64 {
    keys * -(-draws / keys).exp_m1()
}

impl Shape {
    fn new(ratio: usize, keys: usize) -> Shape {
        let ratio = ratio as f64;
        Shape { ratio, keys: keys as f64, slides: SLIDES.max(ratio) }
    }

    /// The greatest number of records per slide that `way` can take.
    fn rate(&self, way: Way) -> f64 {
        let mut rate = RECORDS / self.slides;
        let fits = |rate: f64| {
            let rows = (self.slides + self.ratio) * distinct(self.keys, rate * self.ratio);
            rows <= ROWS && way.folds(self, rate) <= way.most_folds(self)
        };
        while !fits(rate) && rate * self.slides > LEAST_RECORDS {
            rate *= 0.9;
        }
        rate
    }
}

/// The stream of a point, in batches.
fn stream(shape: &Shape, rate: f64) -> Vec<RecordBatch> {
    let records = (shape.slides * rate) as usize;
    let mut random = Random::new(20_240_101, 3);
    let time = |i: usize| START_MICROS + (i as f64 / records as f64 * shape.slides * SECOND as f64) as i64;
    let numbers: Vec<usize> = (0..records).collect();
    let batch = |some: &[usize]| {
        let times = TimestampMicrosecondArray::from_iter_values(some.iter().map(|i| time(*i)));
        let keys = Int64Array::from_iter_values(some.iter().map(|_| random.below(shape.keys as usize) as i64));
        let values = Int64Array::from_iter_values(some.iter().map(|i| *i as i64 % 1000));
        let columns: [(&str, ArrayRef); 3] =
            [("ts", Arc::new(times)), ("key", Arc::new(keys)), ("value", Arc::new(values))];
        RecordBatch::try_from_iter(columns).expect("columns of equal length")
    };
    numbers.chunks(64 << 10).map(batch).collect()
}

/// Runs the query and hands every batch of rows to `take`.
fn run(batches: &[RecordBatch], ratio: usize, way: Way, mut take: impl FnMut(&RecordBatch) + Send) -> Result<()> {
    let owned = batches.to_vec();
    let query = Query::batches(batches[0].schema(), owned.into_iter().map(Ok))
        .key("key")
        .window(Window::sliding(ratio as i64 * SECOND, SECOND, 0)?)
        .aggregate(count())
        .aggregate(sum("value"))
        .threads(1)
        .naive(way == Way::Naive)
        .engine(if way == Way::Remerge { Engine::Remerge } else { Engine::Incremental });
    query.run()?.for_each_block(|batches| {
        batches.iter().for_each(&mut take);
        Ok(true)
    })
}

/// Rows, and the sums of the counts and of the sums in them.
fn totals(batches: &[RecordBatch], ratio: usize, way: Way) -> (u64, i64, i64) {
    let mut totals = (0, 0, 0);
    run(batches, ratio, way, |rows| {
        let column = |name: &str| {
            let column = rows.column_by_name(name).expect("a column of the query");
            let integers = column.as_any().downcast_ref::<Int64Array>().expect("integers");
            integers.values().iter().sum::<i64>()
        };
        totals.0 += rows.num_rows() as u64;
        totals.1 += column("count");
        totals.2 += column("sum_value");
    })
    .expect("a query that runs");
    totals
}

pub fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("sliding");
    group.sampling_mode(SamplingMode::Flat);
    group.measurement_time(std::time::Duration::from_secs(1));
    for keys in [100, 10_000, 1_000_000] {
        for ratio in [1, 8, 60, 600, 3600] {
            for way in [Way::Incremental, Way::Remerge, Way::Naive] {
                let shape = Shape::new(ratio, keys);
                let batches = stream(&shape, shape.rate(way));
                let id = BenchmarkId::new(format!("{}, {keys} keys", way.name()), ratio);
                let records: usize = batches.iter().map(RecordBatch::num_rows).sum();
                let (rows, counts, sums) = totals(&batches, ratio, way);
                // Every record is in as many windows as there are slides in one.
                let values: i64 = (0..records as i64).map(|i| i % 1000).sum();
                assert_eq!((counts, sums), ((records * ratio) as i64, values * ratio as i64), "{}", way.name());
                let elements = records as u64 + rows;
                group.throughput(Throughput::ElementsAndBytes { elements, bytes: 24 * records as u64 + 40 * rows });
                group.bench_function(id, |b| {
                    b.iter(|| {
                        run(&batches, ratio, way, |rows| {
                            std::hint::black_box(rows);
                        })
                    });
                });
            }
        }
    }
    group.finish();
}
