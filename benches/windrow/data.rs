//! What the generator's modules expect of the program they are part of, and keys and times for the benches of the core.

use crate::random::Random;

/// 2024-01-01T00:00:00Z, microseconds since the epoch.
pub const START_MICROS: i64 = 1_704_067_200_000_000;

/// What stops the generator.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The generator's options, for a data set of `rows` records at `output`.
pub struct Options {
    pub output: String,
    pub rows: usize,
    pub seed: u64,
    pub expect: Option<(i64, i64)>,
}

impl Options {
    pub fn rows(&self, _: usize) -> usize {
        self.rows
    }

    pub fn failed(&self, error: &std::io::Error) -> Failure {
        format!("cannot write {}: {error}", self.output).into()
    }
}

/// Records in order: evenly spaced instants from [`START_MICROS`] over `seconds`, uniform keys below `keys`, spread over
/// all 64-bit integers.
pub struct Events {
    pub times: Vec<i64>,
    pub keys: Vec<u64>,
}

impl Events {
    pub fn new(records: usize, seconds: usize, keys: usize) -> Events {
        let mut random = Random::new(20_240_101, 1);
        let length = seconds as f64 * 1e6;
        let time = |i: usize| START_MICROS + (i as f64 / records as f64 * length) as i64;
        Events {
            times: (0..records).map(time).collect(),
            keys: (0..records).map(|_| crate::random::mix(random.below(keys) as u64)).collect(),
        }
    }

    /// The same records, each arriving up to `late` microseconds too late.
    pub fn displaced(&self, late: i64) -> Events {
        let mut random = Random::new(20_240_101, 2);
        let arrival = |(i, time): (usize, &i64)| (time + random.below(late as usize) as i64, i);
        let mut order: Vec<(i64, usize)> = self.times.iter().enumerate().map(arrival).collect();
        order.sort_unstable();
        Events {
            times: order.iter().map(|(_, i)| self.times[*i]).collect(),
            keys: order.iter().map(|(_, i)| self.keys[*i]).collect(),
        }
    }
}
