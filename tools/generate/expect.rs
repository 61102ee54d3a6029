//! The exact size and sums of the sliding result, computed from the records and by no engine.
//!
//! Window ends are the multiples of the slide; a record at `t` is in the windows whose end `e` satisfies
//! `t < e <= t + length`. Records come in the order of time, so a key's next record opens the windows after the
//! last one it already has: one number per key.

/// Accumulates what the result of a query must be.
pub struct Expect {
    length: i64,
    slide: i64,
    /// For each key, the number of the last window that it has a row in.
    last: Vec<i64>,
    rows: u64,
    count: u64,
    sum: f64,
    label: u64,
    /// First and last window of the current pane and their label hash.
    pane: (i64, i64, u64),
}

/// A prime, so that a window labelled by its start or shifted gives another hash.
const LABELS: i64 = 1009;

impl Expect {
    /// For windows of `length` every `slide` (microseconds) and keys `0..keys`.
    pub fn new(length: i64, slide: i64, keys: usize) -> Self {
        let (last, pane) = (vec![i64::MIN; keys], (0, -1, 0));
        Expect { length, slide, last, rows: 0, count: 0, sum: 0.0, label: 0, pane }
    }

    /// The next record.
    pub fn add(&mut self, time: i64, key: usize, value: f64) {
        let first = time.div_euclid(self.slide) + 1;
        let last = (time + self.length).div_euclid(self.slide);
        if (first, last) != (self.pane.0, self.pane.1) {
            let label = (first..=last).map(|window| window.rem_euclid(LABELS) as u64).sum();
            self.pane = (first, last, label);
        }
        let windows = (last - first + 1).max(0);
        self.rows += (last - self.last[key].max(first - 1)).max(0) as u64;
        self.last[key] = self.last[key].max(last);
        self.count += windows as u64;
        self.sum += value * windows as f64;
        self.label += self.pane.2;
    }

    /// One line for scripts: as in `expect.json` of the peer workloads.
    pub fn line(&self) -> String {
        format!("rows={} sum_count={} sum_sum={} label_hash={}", self.rows, self.count, self.sum, self.label)
    }
}
