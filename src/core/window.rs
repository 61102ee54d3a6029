//! Time cut into panes, and which panes make up which window.
//!
//! Windows start at `offset + n × slide` and are half-open. Some window starts or ends only at residues `0` and
//! `window mod slide`, so a slide is one pane when that remainder is zero and two panes otherwise; window `n` is then
//! the run of `panes_per_window` panes that begins with pane `n × panes_per_slide`. All arithmetic floors and
//! saturates, so instants before the epoch and at the ends of time need no case of their own.
//!
//! Source: Li et al., "No pane, no gain" (SIGMOD Record 2005); Carbone et al., "Cutty" (CIKM 2016).

use std::ops::Range;

/// A pane's number: panes are counted from the offset, negative ones before it.
pub type PaneIndex = i64;
/// A window's number `n`: its start is `offset + n × slide`.
pub type WindowIndex = i64;

/// The shape of the windows of a query. Lengths in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowSpec {
    length: i64,
    slide: i64,
    offset: i64,
    /// `length mod slide`: where inside a slide windows end.
    remainder: i64,
    panes_per_slide: i64,
    panes_per_window: i64,
}

impl WindowSpec {
    /// Windows of `length` that start every `slide` from `offset` (any sign; reduced modulo the slide).
    ///
    /// Returns `None` unless `length` and `slide` are positive.
    pub fn new(length: i64, slide: i64, offset: i64) -> Option<Self> {
        if length <= 0 || slide <= 0 {
            return None;
        }
        let remainder = length % slide;
        let whole = length / slide;
        let (panes_per_slide, panes_per_window) = if remainder == 0 { (1, whole) } else { (2, 2 * whole + 1) };
        Some(WindowSpec {
            length,
            slide,
            offset: offset.rem_euclid(slide),
            remainder,
            panes_per_slide,
            panes_per_window,
        })
    }

    /// One window that holds all of time: the global group-by, a single pane.
    pub fn global() -> Self {
        WindowSpec { length: 1, slide: 1, offset: 0, remainder: 0, panes_per_slide: 1, panes_per_window: 1 }
    }

    /// Microseconds from a window's start to its end.
    pub fn length(&self) -> i64 {
        self.length
    }

    /// Microseconds between two starts.
    pub fn slide(&self) -> i64 {
        self.slide
    }

    /// How many panes make a window.
    pub fn panes_per_window(&self) -> i64 {
        self.panes_per_window
    }

    /// How many panes make a slide: one or two.
    pub fn panes_per_slide(&self) -> i64 {
        self.panes_per_slide
    }

    /// Whether a window is one pane, so that nothing slides.
    pub fn is_tumbling(&self) -> bool {
        self.panes_per_window == 1
    }

    /// Whether some instants lie in no window (`slide > length`).
    pub fn has_gaps(&self) -> bool {
        self.slide > self.length
    }

    /// The pane of instant `ts`, and the instants `[from, to)` that share it.
    #[inline]
    pub fn pane_of(&self, ts: i64) -> (PaneIndex, i64, i64) {
        // At the ends of time `ts - offset` saturates; valid times are far from there.
        let t = ts.saturating_sub(self.offset);
        let n = t.div_euclid(self.slide);
        let start = ts - t.rem_euclid(self.slide);
        if self.panes_per_slide == 1 {
            (n, start, start.saturating_add(self.slide))
        } else if ts - start < self.remainder {
            (2 * n, start, start.saturating_add(self.remainder))
        } else {
            (2 * n + 1, start.saturating_add(self.remainder), start.saturating_add(self.slide))
        }
    }

    /// Whether records of `pane` lie in some window; false only between sampling windows.
    #[inline]
    pub fn is_inside(&self, pane: PaneIndex) -> bool {
        !self.has_gaps() || pane.rem_euclid(2) == 0
    }

    /// The first and last window that contain `pane` (empty, i.e. `first > last`, between sampling windows).
    #[inline]
    pub fn windows_of(&self, pane: PaneIndex) -> (WindowIndex, WindowIndex) {
        let first = (pane - self.panes_per_window).div_euclid(self.panes_per_slide) + 1;
        (first, pane.div_euclid(self.panes_per_slide))
    }

    /// The first window that ends after instant `ts`.
    #[inline]
    pub fn first_open(&self, ts: i64) -> WindowIndex {
        ts.saturating_sub(self.offset).saturating_sub(self.length).div_euclid(self.slide) + 1
    }

    /// The panes `[first, end)` of window `n`.
    #[inline]
    pub fn panes_of(&self, n: WindowIndex) -> (PaneIndex, PaneIndex) {
        let first = n * self.panes_per_slide;
        (first, first + self.panes_per_window)
    }

    /// Start and end of window `n`, microseconds since the epoch, saturating.
    pub fn bounds(&self, n: WindowIndex) -> (i64, i64) {
        let start = n.saturating_mul(self.slide).saturating_add(self.offset);
        (start, start.saturating_add(self.length))
    }
}

/// The windows of `ranges` (first and last, empty where `first > last`), each once, as ascending runs of neighbours:
/// at most one run for each range, however many windows there are.
pub fn union(ranges: impl IntoIterator<Item = (WindowIndex, WindowIndex)>) -> Vec<Range<WindowIndex>> {
    let mut ranges: Vec<_> = ranges.into_iter().collect();
    ranges.sort_unstable();
    let mut runs: Vec<Range<WindowIndex>> = Vec::new();
    for (first, last) in ranges {
        match runs.last_mut() {
            Some(run) if first <= run.end => run.end = run.end.max(last + 1),
            _ if first <= last => runs.push(first..last + 1),
            // Between sampling windows.
            _ => {}
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, word for word: every n whose window holds the instant, by search.
    fn windows_naive(length: i64, slide: i64, offset: i64, ts: i64) -> Vec<(i64, i64)> {
        let around = (ts - offset) / slide;
        let reach = length / slide + 3;
        (around - reach..=around + reach)
            .map(|n| (offset + n * slide, offset + n * slide + length))
            .filter(|(start, end)| *start <= ts && ts < *end)
            .collect()
    }

    proptest! {
        #[test]
        fn a_record_lies_in_the_windows_of_the_definition(
            length in 1i64..50, slide in 1i64..20, offset in -30i64..30, ts in -200i64..200,
        ) {
            let spec = WindowSpec::new(length, slide, offset).unwrap();
            let (pane, from, to) = spec.pane_of(ts);
            prop_assert!(from <= ts && ts < to);
            prop_assert_eq!(spec.pane_of(from).0, pane);
            prop_assert_eq!(spec.pane_of(to - 1).0, pane);
            let (first, last) = spec.windows_of(pane);
            let ours: Vec<_> = (first..=last).map(|n| spec.bounds(n)).collect();
            let mut want = windows_naive(length, slide, offset, ts);
            want.sort_unstable();
            prop_assert_eq!(&ours, &want);
            prop_assert_eq!(spec.is_inside(pane), !want.is_empty());
            for n in first..=last {
                let (a, b) = spec.panes_of(n);
                prop_assert!(a <= pane && pane < b);
            }
            let open = spec.first_open(ts);
            prop_assert!(spec.bounds(open).1 > ts && spec.bounds(open - 1).1 <= ts);
        }

        #[test]
        fn union_lists_each_window_once(
            length in 1i64..50, slide in 1i64..20, times in prop::collection::vec(-500i64..500, 0..20),
        ) {
            let spec = WindowSpec::new(length, slide, 0).unwrap();
            let ranges = times.iter().map(|t| spec.windows_of(spec.pane_of(*t).0));
            let ours: Vec<_> = union(ranges).into_iter().flatten().map(|n| spec.bounds(n)).collect();
            let mut want: Vec<_> = times.iter().flat_map(|t| windows_naive(length, slide, 0, *t)).collect();
            want.sort_unstable();
            want.dedup();
            prop_assert_eq!(ours, want);
        }
    }

    #[test]
    fn the_example_of_the_semantics() {
        let spec = WindowSpec::new(7, 7, 3).unwrap();
        let (pane, ..) = spec.pane_of(1);
        assert_eq!(spec.bounds(spec.windows_of(pane).0), (-4, 3));
        assert!(WindowSpec::new(0, 1, 0).is_none());
        assert!(WindowSpec::new(1, 0, 0).is_none());
    }
}
