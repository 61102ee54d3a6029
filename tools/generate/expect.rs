//! What the result of a query must be, computed from the records while they are made, by no engine.
//!
//! Window ends are the multiples of the slide; a record at `t` is in the windows whose end `e` satisfies
//! `t < e <= t + length`. Records come in the order of time. Sums slide in fixed point (2^-40), so nothing drifts.
//!
//! # The checksum of a table
//!
//! It does not depend on the order of the rows. A row has a name, `name = mix(e ^ mix(k))`, where `e` is the window's end in
//! seconds (0 without windows) and `k` the key: an integer as it is, a text by FNV-1a. Then
//!
//! - `names`: the wrapping sum of `mix(name)`; `hash`: that of `mix(name ^ count)`; both exact;
//! - for each column the sum of its values, and their sum times the ten leading bits of the row's name, which sees values
//!   that changed rows; the harness compares both to 1e-9.

use crate::random::mix;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

/// The number of a key that is a text.
pub fn text_key(text: &[u8]) -> u64 {
    text.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01B3))
}

/// Rows added up, in any order.
#[derive(Default, Debug, Clone, PartialEq)]
pub struct Checksum {
    pub rows: u64,
    pub names: u64,
    pub hash: u64,
    /// For each column its sum, and its sum weighted by the names of the rows.
    pub columns: BTreeMap<&'static str, [f64; 2]>,
}

impl Checksum {
    /// The name of a row.
    pub fn name(end_seconds: i64, key: u64) -> u64 {
        mix(end_seconds as u64 ^ mix(key))
    }

    /// Adds a row of some count; its columns follow with [`column`](Self::column).
    pub fn row(&mut self, name: u64, count: u64) {
        self.rows += 1;
        self.names = self.names.wrapping_add(mix(name));
        self.hash = self.hash.wrapping_add(mix(name ^ count));
    }

    /// Adds a value of the row called `name`.
    pub fn column(sums: &mut [f64; 2], name: u64, value: f64) {
        sums[0] += value;
        sums[1] += value * (name >> 54) as f64;
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        let Checksum { rows, names, hash, .. } = self;
        let mut text = format!("{{\"rows\":{rows},\"names\":\"{names:016x}\",\"hash\":\"{hash:016x}\"");
        for (name, [plain, weighted]) in &self.columns {
            let _ = write!(text, ",\"{name}\":[{plain:?},{weighted:?}]");
        }
        text + "}"
    }
}

/// What records say beside their time, key and value.
#[derive(Clone, Copy, Default)]
pub struct Extra {
    /// Whether the status is 500 or more.
    pub error: bool,
    /// Milliseconds.
    pub latency: f64,
}

/// 2^40 parts of one.
const ONE: f64 = (1u64 << 40) as f64;

/// Most keys for which least and greatest values are followed.
const FEW: usize = 10_000;

/// What one key has in a pane, or in a window.
#[derive(Clone, Copy, Default)]
struct Cell {
    count: i64,
    sum: i128,
    errors: i64,
    latency: i128,
}

impl Cell {
    fn add(&mut self, other: &Cell, sign: i64) {
        self.count += sign * other.count;
        self.sum += i128::from(sign) * other.sum;
        self.errors += sign * other.errors;
        self.latency += i128::from(sign) * other.latency;
    }
}

/// Values that are least (or greatest) from their pane on.
type Wedge = VecDeque<(i64, f64)>;

/// Accumulates the result of a query whose window is a multiple of its slide.
pub struct Expect {
    slide: i64,
    /// Panes per window.
    ratio: i64,
    /// The number of each key, as [`Checksum::name`] takes it.
    keys: Vec<u64>,
    totals: Vec<Cell>,
    /// Least and greatest values by key; empty where there are too many keys.
    wedges: Vec<[Wedge; 2]>,
    /// Keys with a record in the window, and the place of each key among them.
    live: Vec<u32>,
    place: Vec<u32>,
    panes: VecDeque<(i64, Vec<(u32, Cell)>)>,
    /// The pane that is filled, its cells by key, and the keys that have one.
    now: Option<i64>,
    cells: Vec<Cell>,
    touched: Vec<u32>,
    logs: bool,
    sums: [[f64; 2]; 7],
    result: Checksum,
}

/// Columns of the results, in the order of `sums`.
const NAMES: [&str; 7] = ["cnt", "sm", "av", "mn", "mx", "err", "lat"];

impl Expect {
    /// For windows of `length` every `slide` (microseconds, one a multiple of the other) over the keys with these numbers;
    /// `logs` if there are errors and latencies.
    pub fn new(length: i64, slide: i64, keys: Vec<u64>, logs: bool) -> Self {
        let n = keys.len();
        Expect {
            slide,
            ratio: length / slide,
            totals: vec![Cell::default(); n],
            wedges: if n <= FEW && !logs { vec![Default::default(); n] } else { Vec::new() },
            live: Vec::new(),
            place: vec![0; n],
            panes: VecDeque::new(),
            now: None,
            cells: vec![Cell::default(); n],
            touched: Vec::new(),
            keys,
            logs,
            sums: [[0.0; 2]; 7],
            result: Checksum::default(),
        }
    }

    /// The next record, in the order of time.
    pub fn add(&mut self, time: i64, key: usize, value: f64, extra: Extra) {
        let pane = time.div_euclid(self.slide);
        if self.now != Some(pane) {
            self.advance(pane);
            self.now = Some(pane);
        }
        let cell = &mut self.cells[key];
        if cell.count == 0 {
            self.touched.push(key as u32);
        }
        cell.count += 1;
        cell.sum += (value * ONE) as i128;
        cell.errors += i64::from(extra.error);
        cell.latency += (extra.latency * ONE) as i128;
        if let Some([least, greatest]) = self.wedges.get_mut(key) {
            while least.back().is_some_and(|(_, v)| *v >= value) {
                least.pop_back();
            }
            least.push_back((pane, value));
            while greatest.back().is_some_and(|(_, v)| *v <= value) {
                greatest.pop_back();
            }
            greatest.push_back((pane, value));
        }
    }

    /// Hands out the windows that end before the pane `to` ends.
    fn advance(&mut self, to: i64) {
        let Some(now) = self.now else { return };
        let mut cells = Vec::with_capacity(self.touched.len());
        for key in self.touched.drain(..) {
            let cell = std::mem::take(&mut self.cells[key as usize]);
            let total = &mut self.totals[key as usize];
            if total.count == 0 {
                self.place[key as usize] = self.live.len() as u32;
                self.live.push(key);
            }
            total.add(&cell, 1);
            cells.push((key, cell));
        }
        self.panes.push_back((now, cells));
        for end in now + 1..=to {
            while self.panes.front().is_some_and(|(pane, _)| *pane < end - self.ratio) {
                let (_, cells) = self.panes.pop_front().unwrap_or_default();
                for (key, cell) in cells {
                    let total = &mut self.totals[key as usize];
                    total.add(&cell, -1);
                    if total.count == 0 {
                        let at = self.place[key as usize];
                        self.live.swap_remove(at as usize);
                        if let Some(moved) = self.live.get(at as usize) {
                            self.place[*moved as usize] = at;
                        }
                    }
                }
            }
            if self.live.is_empty() {
                break;
            }
            self.emit(end);
        }
    }

    /// The rows of the window that ends with the pane before `end`.
    fn emit(&mut self, end: i64) {
        let first = end - self.ratio;
        for key in &self.live {
            let key = *key as usize;
            let total = &self.totals[key];
            let name = Checksum::name(end * self.slide / 1_000_000, self.keys[key]);
            self.result.row(name, total.count as u64);
            let (count, sum) = (total.count as f64, total.sum as f64 / ONE);
            let mut put = |column: usize, value: f64| Checksum::column(&mut self.sums[column], name, value);
            put(0, count);
            put(1, sum);
            put(2, sum / count);
            if let Some(wedges) = self.wedges.get_mut(key) {
                for (column, wedge) in (3..).zip(wedges) {
                    while wedge.front().is_some_and(|(pane, _)| *pane < first) {
                        wedge.pop_front();
                    }
                    put(column, wedge.front().map_or(0.0, |(_, value)| *value));
                }
            }
            if self.logs {
                put(5, total.errors as f64);
                put(6, total.latency as f64 / ONE / count);
            }
        }
    }

    /// The result, after the last record.
    pub fn finish(mut self) -> Checksum {
        if let Some(now) = self.now {
            self.advance(now + self.ratio);
        }
        for (i, name) in NAMES.iter().enumerate() {
            let present = match i {
                3 | 4 => !self.wedges.is_empty(),
                5 | 6 => self.logs,
                _ => true,
            };
            if present {
                self.result.columns.insert(name, self.sums[i]);
            }
        }
        self.result
    }
}
