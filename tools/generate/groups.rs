//! More keys than fit in memory, as Parquet: `key` int64 spread over all 64-bit integers, `value` float64 in cents. Of
//! 100 M rows half bring a key for the first time, in no order; the others repeat a random one: exactly 50 M keys. The shape of the
//! peers' workload S1.

use crate::expect::Checksum;
use crate::random::{Random, mix};
use crate::{Failure, Options};
use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::sync::Arc;

/// Rows of the full data set; half as many keys.
const ROWS: usize = 100_000_000;

/// Rows of a row group.
const CHUNK: usize = 1_000_000;

/// A permutation of `0..n`: four rounds of Feistel over the next power of four, walked until inside.
struct Shuffle {
    n: u64,
    half: u32,
    seed: u64,
}

impl Shuffle {
    fn new(n: usize, seed: u64) -> Shuffle {
        let bits = u64::BITS - (n as u64).leading_zeros();
        Shuffle { n: n as u64, half: bits.div_ceil(2).max(1), seed }
    }

    fn at(&self, mut i: u64) -> u64 {
        let mask = (1u64 << self.half) - 1;
        loop {
            let (mut left, mut right) = (i >> self.half, i & mask);
            for round in 0..4 {
                (left, right) = (right, left ^ (mix(right ^ self.seed ^ round << 40) & mask));
            }
            i = left << self.half | right;
            if i < self.n {
                return i;
            }
        }
    }
}

/// Writes the file and returns the result of count and sum by key.
pub fn run(options: &Options) -> Result<Option<String>, Failure> {
    let rows = options.rows(ROWS);
    let keys = rows.div_ceil(2);
    let shuffle = Shuffle::new(rows, options.seed);
    let key = |id: u64| id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let (mut counts, mut cents) = (vec![0u16; keys], vec![0u32; keys]);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(CHUNK))
        .set_column_dictionary_enabled("key".into(), false)
        .build();
    let file = File::create(&options.output).map_err(|e| options.failed(&e))?;
    let mut writer = None;
    for from in (0..rows).step_by(CHUNK) {
        let mut random = Random::new(options.seed, from as u64 ^ 1 << 50);
        let (mut ids, mut values) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
        for i in from..rows.min(from + CHUNK) {
            let at = shuffle.at(i as u64);
            let id = if at < keys as u64 { at } else { random.below(keys) as u64 };
            let cent = random.below(10_000) as u32;
            counts[id as usize] += 1;
            cents[id as usize] += cent;
            ids.push(key(id) as i64);
            values.push(f64::from(cent) / 100.0);
        }
        let columns: [(&str, ArrayRef); 2] =
            [("key", Arc::new(Int64Array::from(ids))), ("value", Arc::new(Float64Array::from(values)))];
        let batch = RecordBatch::try_from_iter(columns)?;
        if writer.is_none() {
            writer = Some(ArrowWriter::try_new(file.try_clone()?, batch.schema(), Some(properties.clone()))?);
        }
        if let Some(writer) = &mut writer {
            writer.write(&batch)?;
        }
    }
    if let Some(writer) = writer {
        writer.close()?;
    }
    let (mut result, mut count_sums, mut value_sums) = (Checksum::default(), [0.0; 2], [0.0; 2]);
    for (id, (count, cents)) in counts.iter().zip(&cents).enumerate() {
        let name = Checksum::name(0, key(id as u64));
        result.row(name, u64::from(*count));
        Checksum::column(&mut count_sums, name, f64::from(*count));
        Checksum::column(&mut value_sums, name, f64::from(*cents) / 100.0);
    }
    result.columns.extend([("cnt", count_sums), ("sm", value_sums)]);
    Ok(Some(result.json()))
}
