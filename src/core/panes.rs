//! Cells `(pane, group)` of one partition: folded while they arrive, sealed for sliding.
//!
//! Cells stand in *logs* of parallel vectors (ids, record counts, states); a pane is a list of *runs*, ranges of those
//! logs. Many panes are open at once, because real logs are out of order. Records of the *hot* pane fold straight into
//! its cells through a slot map; records of other panes are appended as further cells and folded later, when the logs
//! are compacted into pane order. A pane whose arriving part is large against what it already has becomes hot; one that is
//! alone has each group's cell where its id says, and no slot map. When a
//! new pane opens and the last log is long, that log is settled: it takes no further cell and gives back what it
//! reserved for growth, and panes that have cells in it are only appended to. Whatever the choice, a cell is the left
//! fold of its parts in order of arrival, so the bits of the result do not depend on when logs were compacted or settled.
//!
//! Cost: a record is touched once on arrival and, amortised, at most twice by compactions, which copy the logs only
//! when half of them is cells to be folded. No allocation per pane beyond its list of runs. Memory is 8 bytes a cell and
//! the states; the last log alone, about an eighth of all cells, has room to spare.

use super::counts::Counts;
use super::groups::GroupId;
use super::sealed::SealedPanes;
use super::window::{PaneIndex, WindowIndex, WindowSpec};
use std::collections::BTreeMap;
use std::ops::Range;

/// A column (or several) of aggregate states, addressed by position.
pub trait States: Sized {
    /// No states, of the same kind as `self`.
    fn empty(&self) -> Self;

    /// Announces that each state of `source` will be folded or appended here at most once.
    fn admit(&mut self, source: &Self);

    /// Folds `source[range]` into the states at `at`, in order, each as the right operand. Positions at or past the
    /// end are new: they ascend by one as they first occur, and the first state folded there moves in.
    fn fold(&mut self, at: &[u32], source: &Self, range: Range<usize>);

    /// Nothing more will be folded in: gives back unused memory and takes exact bounds in place of cautious ones.
    fn settle(&mut self);

    /// Bytes of memory held.
    fn bytes(&self) -> usize;
}

/// Fewer cells than this are not compacted. Tiny under test, so that tests go through compaction.
const COMPACT_FROM: usize = if cfg!(test) { 8 } else { 4096 };

/// A log shorter than this is not settled. Tiny under test, so that tests have many logs.
const SETTLE_FROM: usize = if cfg!(test) { 5 } else { 4096 };

/// Cells in parallel vectors.
#[derive(Debug)]
pub struct Log<S> {
    /// The group of each cell.
    pub ids: Vec<GroupId>,
    /// The records of each cell.
    pub rows: Counts,
    /// The states of each cell.
    pub states: S,
}

impl<S: States> Log<S> {
    pub(super) fn new(states: S) -> Self {
        Log { ids: Vec::new(), rows: Counts::default(), states }
    }

    fn admit(&mut self, rows: &Counts, states: &S) {
        self.rows.admit(rows);
        self.states.admit(states);
    }

    fn settle(&mut self) {
        self.ids.shrink_to_fit();
        self.rows.settle();
        self.states.settle();
    }

    pub(super) fn bytes(&self) -> usize {
        self.ids.capacity() * 4 + self.rows.bytes() + self.states.bytes()
    }
}

/// Where records belong: their pane, and the first window that they count in.
///
/// Records that came when some windows of their pane had closed have cells of their own, which those windows never see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PaneKey {
    /// The pane.
    pub pane: PaneIndex,
    /// The first window, or the least integer: all windows of the pane.
    pub from: WindowIndex,
}

impl PaneKey {
    /// The first and the last window that see the records (none if `first > last`).
    pub fn windows(self, spec: WindowSpec) -> (WindowIndex, WindowIndex) {
        let (first, last) = spec.windows_of(self.pane);
        (first.max(self.from), last)
    }
}

impl From<PaneIndex> for PaneKey {
    fn from(pane: PaneIndex) -> PaneKey {
        PaneKey { pane, from: WindowIndex::MIN }
    }
}

/// Neighbouring cells of one log.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Which log.
    pub log: u32,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Run {
    /// Where the cells stand in their log.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    fn is_empty(self) -> bool {
        self.start == self.end
    }
}

/// The open panes of one partition.
#[derive(Debug)]
pub struct PaneStore<S> {
    /// The last one grows, the others are settled. Never empty.
    logs: Vec<Log<S>>,
    /// Cells of the settled logs.
    settled: usize,
    panes: BTreeMap<PaneKey, Pane>,
    /// For each id, where its cell of the hot pane stands in the last log; valid while the epoch matches.
    slots: Vec<Slot>,
    epoch: u32,
    hot: Option<PaneKey>,
    /// The hot pane is the only one, and each id is where its cell stands: there are no slots.
    dense: bool,
    /// Cells appended since the last compaction that may repeat others.
    cold: usize,
    positions: Vec<u32>,
}

#[derive(Debug, Default, Clone)]
struct Pane {
    /// The first run lives here: most panes have one only.
    first: Run,
    more: Vec<Run>,
    cells: usize,
    /// A group may have several cells, to be folded from the left before any other part is.
    repeats: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    epoch: u32,
    at: u32,
}

impl Pane {
    fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        std::iter::once(&self.first).chain(&self.more).copied().filter(|run| !run.is_empty())
    }

    fn push(&mut self, run: Run) {
        self.cells += run.range().len();
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        if last.is_empty() {
            *last = run;
        } else if last.log == run.log && last.end == run.start {
            last.end = run.end;
        } else {
            self.more.push(run);
        }
    }

    /// Whether no cell stands in a log before `log`.
    fn is_within(&self, log: usize) -> bool {
        self.cells == 0 || self.first.log as usize == log
    }
}

impl<S: States> PaneStore<S> {
    /// No panes; `states` must be empty.
    pub fn new(states: S) -> Self {
        PaneStore {
            logs: vec![Log::new(states)],
            settled: 0,
            panes: BTreeMap::new(),
            slots: Vec::new(),
            epoch: 0,
            hot: None,
            dense: false,
            cold: 0,
            positions: Vec::new(),
        }
    }

    /// Cells held, those to be folded together counted each.
    pub fn cells(&self) -> usize {
        self.settled + self.last().ids.len()
    }

    /// The panes that hold a record, ascending.
    pub fn panes(&self) -> impl Iterator<Item = PaneKey> + '_ {
        self.panes.keys().copied()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let logs: usize = self.logs.iter().map(Log::bytes).sum();
        logs + self.panes.len() * 96 + self.slots.capacity() * 8
    }

    fn last(&self) -> &Log<S> {
        &self.logs[self.logs.len() - 1]
    }

    fn last_mut(&mut self) -> &mut Log<S> {
        let last = self.logs.len() - 1;
        &mut self.logs[last]
    }

    /// Announces a block of cells, parts of which will be [added](Self::add), none twice.
    pub fn admit(&mut self, rows: &Counts, states: &S) {
        self.last_mut().admit(rows, states);
    }

    /// Adds the cells `range` of an admitted block to `pane`: `ids[i]` is the group of cell `range.start + i`.
    /// One log holds at most 2³² cells (callers split partitions long before).
    pub fn add(&mut self, pane: impl Into<PaneKey>, ids: &[GroupId], rows: &Counts, states: &S, range: Range<usize>) {
        let pane = pane.into();
        if self.hot != Some(pane) && self.is_long() && !self.panes.contains_key(&pane) {
            self.settle();
            self.admit(rows, states);
        }
        if self.dense && self.hot != Some(pane) {
            self.cool();
        }
        let last = self.logs.len() - 1;
        let log = &mut self.logs[last];
        let is_first = self.panes.is_empty() && log.ids.is_empty();
        let entry = self.panes.entry(pane).or_default();
        let start = log.ids.len();
        // One pane alone needs no slots as long as its groups come in the order of their ids.
        let dense_end = if self.dense || is_first { dense_end(ids, start) } else { None };
        if self.dense && dense_end.is_none() {
            (self.hot, self.dense) = (None, false);
        }
        // Loading the slot map costs a look at each cell of the pane: worth it for a part that is not small against it.
        if self.hot != Some(pane) && entry.is_within(last) && !entry.repeats && ids.len() * 4 >= entry.cells {
            self.hot = Some(pane);
            self.dense = dense_end.is_some();
            self.epoch += 1;
            for run in entry.runs() {
                for (at, id) in run.range().zip(&log.ids[run.range()]) {
                    set_slot(&mut self.slots, *id, self.epoch, at);
                }
            }
        }
        self.positions.clear();
        if let Some(end) = dense_end.filter(|_| self.dense) {
            self.positions.extend_from_slice(ids);
            log.ids.extend(start as GroupId..end);
        } else if self.hot == Some(pane) {
            for id in ids {
                match self.slots.get(*id as usize) {
                    Some(slot) if slot.epoch == self.epoch => self.positions.push(slot.at),
                    _ => {
                        let at = log.ids.len();
                        set_slot(&mut self.slots, *id, self.epoch, at);
                        log.ids.push(*id);
                        self.positions.push(at as u32);
                    }
                }
            }
        } else {
            self.cold += ids.len();
            entry.repeats = true;
            log.ids.extend_from_slice(ids);
            self.positions.extend(start as u32..log.ids.len() as u32);
        }
        if log.ids.len() > start {
            entry.push(Run { log: last as u32, start: start as u32, end: log.ids.len() as u32 });
        }
        log.rows.grow(log.ids.len());
        log.rows.fold(&self.positions, rows, range.clone());
        log.states.fold(&self.positions, states, range);
    }

    /// Whether the last log is long enough to be settled: then logs are few, and little is reserved for growth.
    fn is_long(&self) -> bool {
        self.last().ids.len() >= SETTLE_FROM.max(self.settled / 8)
    }

    /// Closes the last log and begins another.
    fn settle(&mut self) {
        let log = self.last_mut();
        log.settle();
        let empty = log.states.empty();
        self.settled += log.ids.len();
        self.logs.push(Log::new(empty));
        self.cool();
    }

    /// From now on no pane is hot.
    fn cool(&mut self) {
        (self.hot, self.dense) = (None, false);
    }

    /// Folds what was appended for later, once that is half of the cells. Call it between blocks.
    pub fn tidy(&mut self) {
        let cells = self.cells();
        if cells >= COMPACT_FROM && 2 * self.cold >= cells {
            self.compact(None);
        }
    }

    /// Rewrites the logs in pane order, one cell per (pane, group), ids replaced by `rank[id]` if given.
    fn compact(&mut self, rank: Option<&[GroupId]>) {
        let before = self.take_logs();
        let mut panes = std::mem::take(&mut self.panes);
        self.rewrite(&before, &mut panes, rank);
        self.panes = panes;
    }

    /// The logs, settled. An empty one takes their place, and no pane is hot.
    fn take_logs(&mut self) -> Vec<Log<S>> {
        // What is read is settled.
        self.last_mut().settle();
        let empty = self.last().states.empty();
        self.settled = 0;
        self.cold = 0;
        self.cool();
        std::mem::replace(&mut self.logs, vec![Log::new(empty)])
    }

    /// Writes the cells of `panes`, which stand in `before`, to the own logs, which must be empty.
    fn rewrite(&mut self, before: &[Log<S>], panes: &mut BTreeMap<PaneKey, Pane>, rank: Option<&[GroupId]>) {
        before.iter().for_each(|log| self.admit(&log.rows, &log.states));
        for pane in panes.values_mut() {
            if self.is_long() {
                self.settle();
                before.iter().for_each(|log| self.admit(&log.rows, &log.states));
            }
            self.epoch += 1;
            let last = self.logs.len() - 1;
            let log = &mut self.logs[last];
            let start = log.ids.len();
            for run in pane.runs() {
                let from = &before[run.log as usize];
                self.positions.clear();
                for id in &from.ids[run.range()] {
                    match self.slots.get(*id as usize) {
                        Some(slot) if slot.epoch == self.epoch => self.positions.push(slot.at),
                        _ => {
                            set_slot(&mut self.slots, *id, self.epoch, log.ids.len());
                            self.positions.push(log.ids.len() as u32);
                            log.ids.push(rank.map_or(*id, |rank| rank[*id as usize]));
                        }
                    }
                }
                log.rows.grow(log.ids.len());
                log.rows.fold(&self.positions, &from.rows, run.range());
                log.states.fold(&self.positions, &from.states, run.range());
            }
            let run = Run { log: last as u32, start: start as u32, end: log.ids.len() as u32 };
            *pane = Pane::default();
            pane.push(run);
        }
        // Else the bounds of what is folded again and again would add up.
        self.last_mut().settle();
    }

    /// Closes every pane. `rank[id]` replaces each id (for emission in the order of the ranks).
    pub fn seal(mut self, rank: &[GroupId]) -> SealedPanes<S> {
        if self.cold > 0 {
            self.compact(Some(rank));
        } else {
            self.last_mut().settle();
            for id in self.logs.iter_mut().flat_map(|log| &mut log.ids) {
                *id = rank[*id as usize];
            }
        }
        SealedPanes::new(self.logs, runs_of(&self.panes))
    }

    /// The panes that [`take_closed`](Self::take_closed) would take, and their cells, those to be folded together counted each.
    pub fn closed(&self, frontier: PaneIndex, upto: WindowIndex) -> (usize, usize) {
        let panes = self.panes.range(..PaneKey::from(frontier)).filter(|(key, _)| key.from <= upto);
        panes.fold((0, 0), |(panes, cells), (_, pane)| (panes + 1, cells + pane.cells))
    }

    /// Whether there are any.
    pub fn has_closed(&self, frontier: PaneIndex, upto: WindowIndex) -> bool {
        self.panes.range(..PaneKey::from(frontier)).any(|(key, pane)| key.from <= upto && pane.cells > 0)
    }

    /// Closes the panes before `frontier` whose records count from a window up to `upto` on, and takes them out. The
    /// cells of the others are copied.
    pub fn take_closed(&mut self, frontier: PaneIndex, upto: WindowIndex) -> SealedPanes<S> {
        let mut open = self.panes.split_off(&frontier.into());
        let mut closed = std::mem::take(&mut self.panes);
        closed.retain(|key, pane| {
            let stays = key.from > upto;
            if stays {
                open.insert(*key, std::mem::take(pane));
            }
            !stays
        });
        let folded = self.cold == 0;
        let mut logs = self.take_logs();
        if !folded {
            self.rewrite(&logs, &mut closed, None);
            let before = std::mem::replace(&mut logs, self.take_logs());
            self.rewrite(&before, &mut open, None);
        } else if !open.is_empty() {
            self.rewrite(&logs, &mut open, None);
        }
        self.panes = open;
        SealedPanes::new(logs, runs_of(&closed))
    }

    /// Everything as it stands: the logs, settled, and the runs of each pane in the order of arrival. A group may have
    /// several cells in a pane, to be folded in that order.
    pub fn view(&mut self) -> (&[Log<S>], impl Iterator<Item = (PaneKey, Run)> + '_) {
        // What is read is settled.
        self.last_mut().settle();
        (&self.logs, runs_of(&self.panes))
    }

    /// Marks the groups that have a cell.
    pub fn mark_groups(&self, marked: &mut [bool]) {
        for id in self.logs.iter().flat_map(|log| &log.ids) {
            marked[*id as usize] = true;
        }
    }
}

/// Every run of `panes`, with its pane.
fn runs_of(panes: &BTreeMap<PaneKey, Pane>) -> impl Iterator<Item = (PaneKey, Run)> + '_ {
    panes.iter().flat_map(|(key, pane)| pane.runs().map(|run| (*key, run)))
}

/// The ids of a log of which the first `start` ids stand for themselves, once these have come, if all of it does then.
fn dense_end(ids: &[GroupId], start: usize) -> Option<GroupId> {
    ids.iter().try_fold(start as GroupId, |end, id| (*id <= end).then_some(end + GroupId::from(*id == end)))
}

fn set_slot(slots: &mut Vec<Slot>, id: GroupId, epoch: u32, at: usize) {
    if id as usize >= slots.len() {
        slots.resize((id as usize + 1).next_power_of_two(), Slot::default());
    }
    slots[id as usize] = Slot { epoch, at: at as u32 };
}

#[cfg(test)]
mod tests;
