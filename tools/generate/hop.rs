//! Events of an hour as Parquet: `ts` timestamp[us], `key`, `value` float64 log-normal(3, 1), evenly spaced with a
//! jitter inside the slot.
//!
//! A chunk of [`CHUNK`] rows is one row group and one random stream, so chunks are made in parallel.

use crate::expect::{Expect, Extra, text_key};
use crate::random::{Random, Weighted, mix};
use crate::{Failure, Options, START_MICROS};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use rayon::prelude::*;
use std::fs::File;
use std::io::BufWriter;
use std::sync::Arc;

/// Rows of a row group.
const CHUNK: usize = 1_000_000;

/// What the hour lasts, microseconds.
const DURATION: f64 = 3600e6;

/// The largest displacement of `h1d`, microseconds.
const DISPLACEMENT: f64 = 60e6;

/// One of the data sets.
#[derive(Clone, Copy)]
pub struct Variant {
    pub name: &'static str,
    pub rows: usize,
    pub keys: usize,
    /// Zipf's exponent, or `None` for uniform keys.
    zipf: Option<f64>,
    shape: Shape,
    pub about: &'static str,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Plain,
    Displaced,
    Text,
    Spread,
}

const MILLION: usize = 1_000_000;

/// All of them.
pub const VARIANTS: [Variant; 7] = [
    Variant {
        name: "h1",
        rows: 20 * MILLION,
        keys: 1000,
        zipf: Some(1.1),
        shape: Shape::Plain,
        about: "1,000 keys, zipf(1.1), in order",
    },
    Variant {
        name: "h1d",
        rows: 20 * MILLION,
        keys: 1000,
        zipf: Some(1.1),
        shape: Shape::Displaced,
        about: "the records of h1, each up to 60 s too late",
    },
    Variant {
        name: "h1s",
        rows: 20 * MILLION,
        keys: 1000,
        zipf: Some(1.1),
        shape: Shape::Text,
        about: "h1 with keys that are texts of 8 to 40 bytes",
    },
    Variant {
        name: "h1x",
        rows: 20 * MILLION,
        keys: 1000,
        zipf: Some(1.1),
        shape: Shape::Spread,
        about: "h1 with keys spread over all 64-bit integers",
    },
    Variant {
        name: "h1z",
        rows: 20 * MILLION,
        keys: MILLION,
        zipf: Some(1.5),
        shape: Shape::Plain,
        about: "1,000,000 keys, zipf(1.5)",
    },
    Variant {
        name: "h2",
        rows: 20 * MILLION,
        keys: MILLION,
        zipf: None,
        shape: Shape::Plain,
        about: "1,000,000 keys, uniform",
    },
    Variant {
        name: "t1",
        rows: 50 * MILLION,
        keys: MILLION,
        zipf: Some(1.1),
        shape: Shape::Plain,
        about: "1,000,000 keys, zipf(1.1)",
    },
];

/// Some records, column by column; keys as numbers from 0.
#[derive(Default)]
struct Records {
    times: Vec<i64>,
    keys: Vec<u32>,
    values: Vec<f64>,
}

/// Makes the data set and says what the query's result must be, if asked.
pub fn run(variant: Variant, options: &Options) -> Result<Option<String>, Failure> {
    let rows = options.rows(variant.rows);
    let seed = options.seed;
    let zipf = variant.zipf.map(|exponent| Weighted::zipf(variant.keys, exponent, seed ^ 7));
    let spacing = DURATION / rows as f64;
    let chunk = |number: usize| {
        let mut random = Random::new(seed, number as u64 + 1);
        let mut records = Records::default();
        for i in number * CHUNK..rows.min((number + 1) * CHUNK) {
            let slot = i as f64 + random.unit();
            records.times.push(START_MICROS + (slot * spacing) as i64);
            records.keys.push(match &zipf {
                Some(zipf) => zipf.draw(&mut random),
                None => random.below(variant.keys),
            } as u32);
            records.values.push(random.log_normal(3.0, 1.0));
        }
        records
    };
    let names = Names::new(variant);
    let mut expect = options.expect.map(|(length, slide)| {
        let numbers = (0..variant.keys as u64).map(|key| names.number(key, variant.shape));
        Expect::new(length, slide, numbers.collect(), false)
    });
    let mut note = |records: &Records| {
        if let Some(expect) = &mut expect {
            for ((time, key), value) in records.times.iter().zip(&records.keys).zip(&records.values) {
                expect.add(*time, *key as usize, *value, Extra::default());
            }
        }
    };
    let file = File::create(&options.output).map_err(|e| options.failed(&e))?;
    let file = BufWriter::with_capacity(1 << 20, file);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(CHUNK))
        .set_column_dictionary_enabled("ts".into(), false)
        .set_column_dictionary_enabled("value".into(), false)
        .build();
    let empty = names.batch(&Records::default(), variant.shape)?;
    let mut writer = ArrowWriter::try_new(file, empty.schema(), Some(properties))?;
    let numbers: Vec<usize> = (0..rows.div_ceil(CHUNK)).collect();
    let mut all = Records::default();
    for some in numbers.chunks(rayon::current_num_threads()) {
        let made: Vec<Records> = some.par_iter().map(|number| chunk(*number)).collect();
        for records in made {
            note(&records);
            if variant.shape == Shape::Displaced {
                all.times.extend(records.times);
                all.keys.extend(records.keys);
                all.values.extend(records.values);
            } else {
                writer.write(&names.batch(&records, variant.shape)?)?;
            }
        }
    }
    if variant.shape == Shape::Displaced {
        let order = displaced(&all.times, seed);
        for chunk in order.chunks(CHUNK) {
            let at = || chunk.iter().map(|(_, i)| *i as usize);
            let records = Records {
                times: at().map(|i| all.times[i]).collect(),
                keys: at().map(|i| all.keys[i]).collect(),
                values: at().map(|i| all.values[i]).collect(),
            };
            writer.write(&names.batch(&records, variant.shape)?)?;
        }
    }
    writer.close()?;
    Ok(expect.map(|expect| expect.finish().json()))
}

/// The order in which records arrive that are each up to [`DISPLACEMENT`] late.
fn displaced(times: &[i64], seed: u64) -> Vec<(i64, u32)> {
    let mut order: Vec<(i64, u32)> = Vec::with_capacity(times.len());
    let mut random = Random::new(seed, u64::MAX);
    for (i, time) in times.iter().enumerate() {
        order.push((time + (random.unit() * DISPLACEMENT) as i64, i as u32));
    }
    order.par_sort_unstable();
    order
}

/// How keys are written.
struct Names {
    texts: Vec<String>,
}

impl Names {
    fn new(variant: Variant) -> Self {
        let texts = match variant.shape {
            Shape::Text => (0..variant.keys as u64).map(text_of).collect(),
            _ => Vec::new(),
        };
        Names { texts }
    }

    /// The number of a key in checksums.
    fn number(&self, key: u64, shape: Shape) -> u64 {
        match shape {
            Shape::Text => text_key(self.texts[key as usize].as_bytes()),
            Shape::Spread => mix(key),
            _ => key,
        }
    }

    fn batch(&self, records: &Records, shape: Shape) -> Result<RecordBatch, Failure> {
        let keys = &records.keys;
        let keys: ArrayRef = match shape {
            Shape::Text => {
                let texts = keys.iter().map(|key| self.texts[*key as usize].as_str());
                Arc::new(StringArray::from_iter_values(texts))
            }
            Shape::Spread => Arc::new(Int64Array::from_iter_values(keys.iter().map(|k| mix(u64::from(*k)) as i64))),
            _ => Arc::new(Int64Array::from_iter_values(keys.iter().map(|key| i64::from(*key)))),
        };
        let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(records.times.clone()));
        let values: ArrayRef = Arc::new(Float64Array::from(records.values.clone()));
        let columns = [("ts", times), ("key", keys), ("value", values)];
        Ok(RecordBatch::try_from_iter(columns)?)
    }
}

/// A text of 8 to 40 bytes, another one for each key: 8 hexadecimal digits of a bijection, then letters.
fn text_of(key: u64) -> String {
    let unique = (key as u32).wrapping_mul(0x9E37_79B1);
    let mut text = format!("{unique:08x}");
    let mut random = Random::new(key, 8);
    for _ in 0..random.below(33) {
        text.push((b'a' + random.below(26) as u8) as char);
    }
    text
}
