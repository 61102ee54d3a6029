//! Cells `(pane, group)` of one partition: folded while they arrive, sealed for sliding.
//!
//! All cells of a partition stand in one log of parallel vectors (ids, record counts, states); a pane is a list of
//! *runs*, ranges of that log. Many panes are open at once, because real logs are out of order. Records of the *hot*
//! pane fold straight into its cells through a slot map; records of other panes are appended as further cells and
//! folded later, when the log is compacted into pane order. A pane whose arriving part is large against what it
//! already has becomes hot. Whatever the choice, a cell is the left fold of its parts in order of arrival, so the
//! bits of the result do not depend on when the log was compacted.
//!
//! Cost: a record is touched once on arrival and, amortised, at most twice by compactions, which copy a log only
//! when half of it is cells to be folded. No allocation per pane beyond its list of runs; memory is 8 bytes a cell and the states.

use super::counts::Counts;
use super::groups::GroupId;
use super::window::PaneIndex;
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

    /// Bytes of memory held.
    fn bytes(&self) -> usize;
}

/// A log shorter than this is not compacted. Tiny under test, so that tests go through compaction.
const COMPACT_FROM: usize = if cfg!(test) { 8 } else { 4096 };

/// The open panes of one partition.
#[derive(Debug)]
pub struct PaneStore<S> {
    ids: Vec<GroupId>,
    rows: Counts,
    states: S,
    panes: BTreeMap<PaneIndex, Pane>,
    /// For each id, where its cell of the hot pane stands; valid while the epoch matches.
    slots: Vec<Slot>,
    epoch: u32,
    hot: Option<PaneIndex>,
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
}

#[derive(Debug, Default, Clone, Copy)]
struct Run {
    start: u32,
    end: u32,
}

#[derive(Debug, Default, Clone, Copy)]
struct Slot {
    epoch: u32,
    at: u32,
}

impl Pane {
    fn runs(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        std::iter::once(&self.first)
            .chain(&self.more)
            .map(|r| r.start as usize..r.end as usize)
            .filter(|r| !r.is_empty())
    }

    fn push(&mut self, start: usize, end: usize) {
        let run = Run { start: start as u32, end: end as u32 };
        self.cells += end - start;
        let last = self.more.last_mut().unwrap_or(&mut self.first);
        if last.start == last.end {
            *last = run;
        } else if last.end == run.start {
            last.end = run.end;
        } else {
            self.more.push(run);
        }
    }
}

impl<S: States> PaneStore<S> {
    /// No panes; `states` must be empty.
    pub fn new(states: S) -> Self {
        PaneStore {
            ids: Vec::new(),
            rows: Counts::default(),
            states,
            panes: BTreeMap::new(),
            slots: Vec::new(),
            epoch: 0,
            hot: None,
            cold: 0,
            positions: Vec::new(),
        }
    }

    /// Cells held, those to be folded together counted each.
    pub fn cells(&self) -> usize {
        self.ids.len()
    }

    /// The panes that hold a record, ascending.
    pub fn panes(&self) -> impl Iterator<Item = PaneIndex> + '_ {
        self.panes.keys().copied()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let runs: usize = self.panes.len() * 96;
        self.ids.capacity() * 4 + self.rows.bytes() + self.states.bytes() + runs + self.slots.capacity() * 8
    }

    /// Announces a block of cells, parts of which will be [added](Self::add), none twice.
    pub fn admit(&mut self, rows: &Counts, states: &S) {
        self.rows.admit(rows);
        self.states.admit(states);
    }

    /// Adds the cells `range` of an admitted block to `pane`: `ids[i]` is the group of cell `range.start + i`.
    /// The log holds at most 2³² cells (callers split partitions long before).
    pub fn add(&mut self, pane: PaneIndex, ids: &[GroupId], rows: &Counts, states: &S, range: Range<usize>) {
        let entry = self.panes.entry(pane).or_default();
        let start = self.ids.len();
        // Loading the slot map costs a look at each cell of the pane: worth it for a part that is not small against it.
        if self.hot != Some(pane) && ids.len() * 4 >= entry.cells {
            self.hot = Some(pane);
            self.epoch += 1;
            for run in entry.runs() {
                for (i, id) in self.ids[run.clone()].iter().enumerate() {
                    set_slot(&mut self.slots, *id, self.epoch, run.start + i);
                }
            }
        }
        self.positions.clear();
        if self.hot == Some(pane) {
            for id in ids {
                match self.slots.get(*id as usize) {
                    Some(slot) if slot.epoch == self.epoch => self.positions.push(slot.at),
                    _ => {
                        let at = self.ids.len();
                        set_slot(&mut self.slots, *id, self.epoch, at);
                        self.ids.push(*id);
                        self.positions.push(at as u32);
                    }
                }
            }
        } else {
            self.cold += ids.len();
            self.ids.extend_from_slice(ids);
            self.positions.extend(start as u32..self.ids.len() as u32);
        }
        if self.ids.len() > start {
            entry.push(start, self.ids.len());
        }
        self.rows.grow(self.ids.len());
        self.rows.fold(&self.positions, rows, range.clone());
        self.states.fold(&self.positions, states, range);
    }

    /// Folds what was appended for later, once that is half of the log. Call it between blocks.
    pub fn tidy(&mut self) {
        if self.ids.len() >= COMPACT_FROM && 2 * self.cold >= self.ids.len() {
            self.compact(None);
        }
    }

    /// Rewrites the log in pane order, one cell per (pane, group), ids replaced by `rank[id]` if given.
    fn compact(&mut self, rank: Option<&[GroupId]>) {
        let mut ids = Vec::with_capacity(self.ids.len() / 2);
        let mut rows = Counts::default();
        let mut states = self.states.empty();
        rows.admit(&self.rows);
        states.admit(&self.states);
        for pane in self.panes.values_mut() {
            self.epoch += 1;
            let start = ids.len();
            for run in pane.runs() {
                self.positions.clear();
                for id in &self.ids[run.clone()] {
                    match self.slots.get(*id as usize) {
                        Some(slot) if slot.epoch == self.epoch => self.positions.push(slot.at),
                        _ => {
                            set_slot(&mut self.slots, *id, self.epoch, ids.len());
                            self.positions.push(ids.len() as u32);
                            ids.push(rank.map_or(*id, |rank| rank[*id as usize]));
                        }
                    }
                }
                rows.grow(ids.len());
                rows.fold(&self.positions, &self.rows, run.clone());
                states.fold(&self.positions, &self.states, run);
            }
            *pane = Pane::default();
            pane.push(start, ids.len());
        }
        self.hot = None;
        self.cold = 0;
        self.ids = ids;
        self.rows = rows;
        self.states = states;
    }

    /// Closes every pane. `rank[id]` replaces each id (for emission in the order of the ranks).
    pub fn seal(mut self, rank: &[GroupId]) -> SealedPanes<S> {
        if self.cold > 0 {
            self.compact(Some(rank));
        } else {
            for id in &mut self.ids {
                *id = rank[*id as usize];
            }
        }
        let panes = self.panes.iter().flat_map(|(index, pane)| pane.runs().map(|run| (*index, run))).collect();
        SealedPanes { ids: self.ids, rows: self.rows, states: self.states, panes }
    }
}

fn set_slot(slots: &mut Vec<Slot>, id: GroupId, epoch: u32, at: usize) {
    if id as usize >= slots.len() {
        slots.resize((id as usize + 1).next_power_of_two(), Slot::default());
    }
    slots[id as usize] = Slot { epoch, at: at as u32 };
}

/// Panes that no record can join any more.
#[derive(Debug)]
pub struct SealedPanes<S> {
    /// The group of each cell.
    pub ids: Vec<GroupId>,
    /// The records of each cell.
    pub rows: Counts,
    /// The states of each cell.
    pub states: S,
    /// The cells of each pane, by ascending pane.
    pub panes: Vec<(PaneIndex, Range<usize>)>,
}

impl<S: States> SealedPanes<S> {
    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.ids.capacity() * 4 + self.rows.bytes() + self.states.bytes() + self.panes.capacity() * 24
    }
}
