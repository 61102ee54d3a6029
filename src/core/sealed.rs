//! Panes that no record can join any more: a queue that closed panes are appended to and that forgets those which left.
//!
//! Late cells stand apart from the others of their pane, in the order of the windows from which on they count. A log is
//! dropped when nothing in the queue refers to it or to one before it.

use super::groups::GroupId;
use super::panes::{Log, PaneKey, Run, States};
use super::window::{PaneIndex, WindowIndex};
use std::ops::Range;

/// Panes that no record can join any more.
#[derive(Debug)]
pub struct SealedPanes<S> {
    /// The cells.
    pub logs: Vec<Log<S>>,
    /// The cells of each pane, by ascending pane. A pane has one run or several; together they hold a group once.
    pub panes: Vec<(PaneIndex, Run)>,
    /// The cells that count from a later window on, by that window.
    pub late: Vec<(PaneKey, Run)>,
}

impl<S: States> SealedPanes<S> {
    /// No panes; `states` must be empty.
    pub fn empty(states: S) -> Self {
        SealedPanes { logs: vec![Log::new(states)], panes: Vec::new(), late: Vec::new() }
    }

    /// The panes `all`, by ascending key, whose cells stand in `logs`.
    pub(super) fn new(logs: Vec<Log<S>>, all: impl Iterator<Item = (PaneKey, Run)>) -> Self {
        let (mut panes, mut late) = (Vec::new(), Vec::new());
        for (key, run) in all {
            if key.from == WindowIndex::MIN {
                panes.push((key.pane, run));
            } else {
                late.push((key, run));
            }
        }
        late.sort_by_key(|(key, _)| (key.from, key.pane));
        SealedPanes { logs, panes, late }
    }

    /// Cells that are to be given panes, by [`push`](Self::push).
    pub fn of(log: Log<S>) -> Self {
        SealedPanes { logs: vec![log], panes: Vec::new(), late: Vec::new() }
    }

    /// Makes cells of the one log pane `pane`, which is later than the others; their groups are from now on `ids`.
    pub fn push(&mut self, pane: PaneIndex, cells: Range<usize>, ids: &[GroupId]) {
        self.logs[0].ids[cells.clone()].copy_from_slice(ids);
        self.panes.push((pane, Run { log: 0, start: cells.start as u32, end: cells.end as u32 }));
    }

    /// Appends panes that were closed later.
    pub fn append(&mut self, later: SealedPanes<S>) {
        let base = self.logs.len() as u32;
        let moved = |run: Run| Run { log: run.log + base, ..run };
        self.logs.extend(later.logs);
        self.panes.extend(later.panes.into_iter().map(|(pane, run)| (pane, moved(run))));
        self.late.extend(later.late.into_iter().map(|(key, run)| (key, moved(run))));
    }

    /// Drops the first `panes` runs and the first `late` of the late ones, and the logs before the first that is still
    /// used, by `inside` too; returns how many logs are gone.
    pub(super) fn forget(&mut self, panes: usize, late: usize, inside: impl Iterator<Item = Run>) -> u32 {
        self.panes.drain(..panes);
        self.late.drain(..late);
        let used = self.panes.iter().map(|p| p.1.log).chain(self.late.iter().map(|l| l.1.log));
        let gone = used.chain(inside.map(|run| run.log)).min().unwrap_or(self.logs.len() as u32);
        // One stays, to tell of what kind the states are.
        let gone = gone.min(self.logs.len() as u32 - 1);
        self.logs.drain(..gone as usize);
        self.panes
            .iter_mut()
            .map(|p| &mut p.1)
            .chain(self.late.iter_mut().map(|l| &mut l.1))
            .for_each(|r| r.log -= gone);
        gone
    }

    /// Whether no cell is held.
    pub fn is_empty(&self) -> bool {
        self.panes.is_empty() && self.late.is_empty()
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.logs.iter().map(Log::bytes).sum::<usize>()
            + (self.panes.capacity() + self.late.capacity()) * size_of::<(PaneKey, Run)>()
    }

    /// The groups of the cells `run`.
    pub fn ids(&self, run: Run) -> &[GroupId] {
        &self.logs[run.log as usize].ids[run.range()]
    }
}
