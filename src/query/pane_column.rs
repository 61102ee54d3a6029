//! The panes of a block's rows, and their numbers.
//!
//! Neighbours mostly share a pane, often all rows of a block do: then nothing is written down for each row. Where times are
//! in order, what is written down is where each pane ends.

use crate::core::PaneKey;
use crate::core::window::{PaneIndex, WindowIndex, WindowSpec};

/// The pane of each row.
#[derive(Default)]
pub(super) struct PaneColumn {
    rows: usize,
    /// Panes and the rows where they end, as long as all times are in order.
    runs: Vec<(PaneIndex, usize)>,
    /// The pane of each row, once they are not; of none, as long as all rows are in the pane `least`, which is the usual case
    /// of long panes.
    panes: Vec<PaneIndex>,
    /// The first window that each row counts in, from the first row on of which some windows had closed.
    firsts: Vec<WindowIndex>,
    least: PaneIndex,
    greatest: PaneIndex,
    min_time: i64,
    max_time: i64,
    disorder: u64,
    any_time: bool,
}

impl PaneColumn {
    /// Forgets all rows, keeps the memory.
    pub(super) fn clear(&mut self) {
        let (runs, panes) = (std::mem::take(&mut self.runs), std::mem::take(&mut self.panes));
        let firsts = std::mem::take(&mut self.firsts);
        let (least, greatest) = (PaneIndex::MAX, PaneIndex::MIN);
        *self = PaneColumn { runs, panes, firsts, least, greatest, ..PaneColumn::default() };
        self.runs.clear();
        self.panes.clear();
        self.firsts.clear();
    }

    /// Least and greatest time, if any record had one, and the largest step back.
    pub(super) fn times(&self) -> Option<(i64, i64, u64)> {
        self.any_time.then_some((self.min_time, self.max_time, self.disorder))
    }

    /// Takes note of how far the times step back; filtered rows count too.
    pub(super) fn observe(&mut self, times: &[i64]) {
        if !self.any_time {
            (self.min_time, self.max_time, self.any_time) = (times[0], times[0], true);
        }
        if let ([first, .., last], true) = (times, times.is_sorted()) {
            self.min_time = self.min_time.min(*first);
            self.disorder = self.disorder.max((self.max_time - first).max(0) as u64);
            self.max_time = self.max_time.max(*last);
            return;
        }
        let (mut min, mut max, mut back) = (self.min_time, self.max_time, 0);
        for ts in times {
            min = min.min(*ts);
            max = max.max(*ts);
            back = back.max(max - ts);
        }
        (self.min_time, self.max_time) = (min, max);
        self.disorder = self.disorder.max(back as u64);
    }

    /// Appends rows that are all in the one pane of a query without windows.
    pub(super) fn extend_global(&mut self, rows: usize) {
        (self.least, self.greatest) = (0, 0);
        self.rows += rows;
    }

    /// Appends rows whose times were [observed](Self::observe).
    pub(super) fn extend(&mut self, times: &[i64], marks: Option<&[i64]>, spec: WindowSpec) {
        if let Some(marks) = marks {
            self.firsts.resize(self.rows, WindowIndex::MIN);
            self.firsts.extend(times.iter().zip(marks).map(|(ts, mark)| {
                let open = spec.first_open(*mark);
                if ts < mark && open > spec.windows_of(spec.pane_of(*ts).0).0 { open } else { WindowIndex::MIN }
            }));
        } else if !self.firsts.is_empty() {
            self.firsts.resize(self.rows + times.len(), WindowIndex::MIN);
        }
        let (first, last) = (spec.pane_of(self.min_time).0, spec.pane_of(self.max_time).0);
        if first == last {
            (self.least, self.greatest) = (first, first);
            self.rows += times.len();
            return;
        }
        if self.panes.is_empty() && self.firsts.is_empty() && self.disorder == 0 {
            return self.extend_in_order(times, spec);
        }
        self.panes.reserve(self.rows + times.len());
        for (pane, end) in self.runs.drain(..) {
            self.panes.resize(end, pane);
        }
        // Rows so far, if none of them is listed, are all in one pane.
        self.panes.resize(self.rows, self.least);
        // Neighbours mostly share a pane: then no division is needed.
        let (mut pane, mut from, mut to) = (0, i64::MAX, i64::MIN);
        let (mut least, mut greatest) = (self.least, self.greatest);
        for ts in times {
            if !(from <= *ts && *ts < to) {
                (pane, from, to) = spec.pane_of(*ts);
                least = least.min(pane);
                greatest = greatest.max(pane);
            }
            self.panes.push(pane);
        }
        (self.least, self.greatest) = (least, greatest);
        self.rows = self.panes.len();
    }

    /// The same where no time of the block steps back.
    fn extend_in_order(&mut self, times: &[i64], spec: WindowSpec) {
        if self.runs.is_empty() && self.rows > 0 {
            // Rows so far, if none of them is listed, are all in one pane.
            self.runs.push((self.least, self.rows));
        }
        let mut from = 0;
        while from < times.len() {
            let (pane, _, end) = spec.pane_of(times[from]);
            // Look twice as far each time, then between: a look at a few rows of each pane.
            let (mut known, mut step) = (from, 1);
            while known + step < times.len() && times[known + step] < end {
                known += step;
                step *= 2;
            }
            let unknown = &times[known + 1..times.len().min(known + step)];
            let to = known + 1 + unknown.partition_point(|ts| *ts < end);
            (self.least, self.greatest) = (self.least.min(pane), self.greatest.max(pane));
            self.rows += to - from;
            match self.runs.last_mut() {
                Some((last, until)) if *last == pane => *until = self.rows,
                _ => self.runs.push((pane, self.rows)),
            }
            from = to;
        }
    }

    /// Panes as numbers from 0 in ascending order, appended to `slots`; returns the pane of each number.
    pub(super) fn number(&self, slots: &mut Vec<u32>) -> Vec<PaneKey> {
        if !self.firsts.is_empty() {
            return self.number_late(slots);
        }
        if !self.runs.is_empty() {
            for (number, (_, end)) in self.runs.iter().enumerate() {
                slots.resize(*end, number as u32);
            }
            return self.runs.iter().map(|(pane, _)| PaneKey::from(*pane)).collect();
        }
        if self.panes.is_empty() {
            slots.resize(self.rows, 0);
            return vec![self.least.into()];
        }
        let span = self.greatest.saturating_sub(self.least);
        if span < 4 * self.panes.len() as i64 + 64 {
            slots.extend(self.panes.iter().map(|p| (p - self.least) as u32));
            return (self.least..=self.greatest).map(PaneKey::from).collect();
        }
        let mut distinct = self.panes.clone();
        distinct.sort_unstable();
        distinct.dedup();
        slots.extend(self.panes.iter().map(|p| distinct.partition_point(|d| d < p) as u32));
        distinct.into_iter().map(PaneKey::from).collect()
    }

    /// The same where panes are parted by the first window that is open.
    fn number_late(&self, slots: &mut Vec<u32>) -> Vec<PaneKey> {
        let pane = |row: usize| self.panes.get(row).copied().unwrap_or(self.least);
        let keys: Vec<PaneKey> =
            self.firsts.iter().enumerate().map(|(row, from)| PaneKey { pane: pane(row), from: *from }).collect();
        let mut distinct = keys.clone();
        distinct.sort_unstable();
        distinct.dedup();
        // Neighbours mostly belong together.
        let mut last = 0;
        slots.extend(keys.iter().map(|key| {
            if distinct[last] != *key {
                last = distinct.partition_point(|d| d < key);
            }
            last as u32
        }));
        distinct
    }
}
