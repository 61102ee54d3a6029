//! Moving a window over sealed panes: absorb what enters, expel what leaves, know who is live.
//!
//! The slider owns the schedule, the record counts and the set of live groups, which both faces share; the face's
//! [`WindowTable`] holds the aggregates and decides how each of them slides. Windows are visited in ascending order and
//! every pane is absorbed once and expelled once, so a slide costs its own cells, not those of the window.

use super::counts::Counts;
use super::live::LiveSet;
use super::panes::{Log, PaneKey, Run, States};
use super::sealed::SealedPanes;
use super::window::{WindowIndex, WindowSpec};
use std::ops::Range;

/// The aggregates of one window, indexed by group.
pub trait WindowTable<S> {
    /// Prepares for groups below `groups` and for cells of `logs`.
    fn prepare(&mut self, groups: usize, logs: &[Log<S>]);

    /// Folds `cells[range]` in, the cell `range.start + i` belonging to group `ids[i]`.
    fn absorb(&mut self, ids: &[u32], cells: &S, range: Range<usize>);

    /// Takes out cells that were absorbed. `turned` says whether [`turn`](Self::turn) has passed over them; if not,
    /// another turn follows before the table is read.
    fn expel(&mut self, ids: &[u32], cells: &S, range: Range<usize>, turned: bool);

    /// Whether a group outlives its last record, so that what leaves must be expelled and not merely forgotten.
    fn keeps_groups(&self) -> bool {
        false
    }

    /// Forgets everything about the groups `ids`.
    fn reset(&mut self, ids: &[u32]);

    /// Puts cells in the place of what was known of their groups, no two of which are the same.
    fn store(&mut self, ids: &[u32], cells: &S, range: Range<usize>) {
        self.reset(ids);
        self.absorb(ids, cells, range);
    }

    /// `late` are all cells in the window that count from a later window on than the rest of their pane; `came` and `left`
    /// are those among them that are new, and those that are no longer in it. Called whenever any of the three is not empty,
    /// after everything else of the window has been absorbed and expelled.
    fn late(&mut self, logs: &[Log<S>], came: &[Run], left: &[Run], late: &[Run]);

    /// A new stretch begins (see [`super::suffix`]): `entered` are the runs absorbed since the last turn, those of them
    /// from index `stay` on are still in the window.
    fn turn(&mut self, logs: &mut [Log<S>], entered: &[Run], stay: usize);
}

/// How a window follows its predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Engine {
    /// Absorb what enters, expel what leaves.
    #[default]
    Incremental,
    /// Fold all panes of every window anew: what an engine without inverse does, and a twin for tests.
    Remerge,
}

/// The position of a window over the sealed panes of one partition.
#[derive(Debug)]
pub struct Slider<T> {
    spec: WindowSpec,
    engine: Engine,
    table: T,
    rows: Vec<u64>,
    live: LiveSet,
    /// Runs `left..entered` are in the window; those below `turned` have been turned.
    entered: usize,
    left: usize,
    turned: usize,
    stretch: Option<i64>,
    scratch: Vec<Run>,
    late: Late,
}

/// The late cells of a window.
#[derive(Debug, Default)]
struct Late {
    /// How many of [`SealedPanes::late`] have come.
    came: usize,
    /// Those of them that are in the window.
    inside: Vec<(PaneKey, Run)>,
}

impl<T> Slider<T> {
    /// A window before the first pane, over groups below `groups`.
    pub fn new<S>(spec: WindowSpec, engine: Engine, mut table: T, groups: usize, panes: &SealedPanes<S>) -> Self
    where
        T: WindowTable<S>,
    {
        table.prepare(groups, &panes.logs);
        Slider {
            spec,
            engine,
            table,
            rows: vec![0; groups],
            live: LiveSet::with_capacity(groups),
            entered: 0,
            left: 0,
            turned: 0,
            stretch: None,
            scratch: Vec::new(),
            late: Late::default(),
        }
    }

    /// Goes on with `panes` to which some were appended, in logs from number `from` on, and with groups below `groups`.
    pub fn extend<S>(&mut self, groups: usize, panes: &SealedPanes<S>, from: usize)
    where
        T: WindowTable<S>,
    {
        self.table.prepare(groups, &panes.logs[from..]);
        if groups > self.rows.len() {
            self.rows.resize(groups, 0);
            self.live.grow(groups);
        }
    }

    /// Whether a window shares panes with the next.
    pub fn slides(&self) -> bool {
        !self.spec.is_tumbling()
    }

    /// Lets go of the panes that have left.
    pub fn release<S: States>(&mut self, panes: &mut SealedPanes<S>) {
        if self.engine == Engine::Incremental && self.spec.is_tumbling() {
            self.left = self.entered;
        }
        let inside = self.late.inside.iter().map(|(_, run)| *run);
        let gone = panes.forget(self.left, self.late.came, inside);
        self.late.inside.iter_mut().for_each(|(_, run)| run.log -= gone);
        self.late.came = 0;
        self.entered -= self.left;
        self.turned = self.turned.saturating_sub(self.left);
        self.left = 0;
    }

    /// Forgets groups that are not in the window, whose ids will stand for other keys.
    pub fn reset<S>(&mut self, ids: &[u32])
    where
        T: WindowTable<S>,
    {
        self.table.reset(ids);
        for id in ids {
            self.rows[*id as usize] = 0;
        }
    }

    /// The window that ends at instant `end`, if windows end there.
    pub fn window_ending_at(&self, end: i64) -> WindowIndex {
        (end - self.spec.length() - self.spec.bounds(0).0).div_euclid(self.spec.slide())
    }

    /// The aggregates of the current window.
    pub fn table(&self) -> &T {
        &self.table
    }

    /// Records of each group in the current window.
    pub fn rows(&self) -> &[u64] {
        &self.rows
    }

    /// The groups with a record in the current window.
    pub fn live(&self) -> &LiveSet {
        &self.live
    }

    /// Bytes of memory held beside the table.
    pub fn bytes(&self) -> usize {
        self.rows.capacity() * 8 + self.rows.capacity() / 8
    }

    /// Moves to window `n`, which is later than the current one. Between the two there must be no window with records.
    pub fn advance<S: States>(&mut self, n: WindowIndex, panes: &mut SealedPanes<S>)
    where
        T: WindowTable<S>,
    {
        self.move_to(n, panes);
        if !panes.late.is_empty() || !self.late.inside.is_empty() {
            self.take_late(n, panes);
        }
    }

    fn move_to<S: States>(&mut self, n: WindowIndex, panes: &mut SealedPanes<S>)
    where
        T: WindowTable<S>,
    {
        let (first, end) = self.spec.panes_of(n);
        if self.engine == Engine::Incremental && self.spec.is_tumbling() && !self.table.keeps_groups() {
            // A pane is a window: its cells are the answer, and nobody reads what is left of other groups.
            self.live.clear();
            while let Some((pane, run)) = panes.panes.get(self.entered)
                && *pane < end
            {
                if *pane >= first {
                    let (log, ids) = (&panes.logs[run.log as usize], panes.ids(*run));
                    log.rows.for_each(run.range(), |i, n| {
                        self.rows[ids[i] as usize] = n;
                        self.live.insert(ids[i]);
                    });
                    self.table.store(ids, &log.states, run.range());
                }
                self.entered += 1;
            }
            return;
        }
        if self.engine == Engine::Remerge {
            // Forget the previous window's groups, then fold every pane of this one.
            let late = self.late.inside.drain(..).map(|(_, run)| run);
            self.late.came = 0;
            for run in panes.panes[self.left..self.entered].iter().map(|(_, run)| *run).chain(late) {
                let ids = panes.ids(run);
                self.table.reset(ids);
                for id in ids {
                    if self.rows[*id as usize] != 0 {
                        self.rows[*id as usize] = 0;
                        self.live.remove(*id);
                    }
                }
            }
            while panes.panes.get(self.left).is_some_and(|(p, _)| *p < first) {
                self.left += 1;
            }
            self.entered = self.left;
            self.absorb_until(end, panes);
            return;
        }
        let length = self.spec.panes_per_window();
        let stretch = first.div_euclid(length);
        if self.stretch != Some(stretch) {
            self.absorb_until((stretch + 1) * length, panes);
            self.expel_until(first, panes);
            self.scratch.clear();
            self.scratch.extend(panes.panes[self.turned..self.entered].iter().map(|(_, run)| *run));
            self.table.turn(&mut panes.logs, &self.scratch, self.left - self.turned);
            self.turned = self.entered;
            self.stretch = Some(stretch);
        }
        self.absorb_until(end, panes);
        self.expel_until(first, panes);
    }

    /// Brings late cells in, and out again with their panes.
    fn take_late<S: States>(&mut self, n: WindowIndex, panes: &SealedPanes<S>)
    where
        T: WindowTable<S>,
    {
        let (first, _) = self.spec.panes_of(n);
        let (mut came, mut left) = (Vec::new(), Vec::new());
        self.late.inside.retain(|(key, run)| {
            let stays = key.pane >= first;
            if !stays {
                left.push(*run);
            }
            stays
        });
        while let Some((key, run)) = panes.late.get(self.late.came)
            && key.from <= n
        {
            // Windows between this one and the one before hold no records: whatever came and left in them was never inside.
            if key.pane >= first {
                self.late.inside.push((*key, *run));
                came.push(*run);
            }
            self.late.came += 1;
        }
        for run in &left {
            let (log, ids) = (&panes.logs[run.log as usize], panes.ids(*run));
            take_rows(ids, &log.rows, run.range(), &mut self.rows, &mut self.live);
        }
        for run in &came {
            let (log, ids) = (&panes.logs[run.log as usize], panes.ids(*run));
            add_rows(ids, &log.rows, run.range(), &mut self.rows, &mut self.live);
        }
        if !came.is_empty() || !left.is_empty() || !self.late.inside.is_empty() {
            self.scratch.clear();
            self.scratch.extend(self.late.inside.iter().map(|(_, run)| *run));
            self.table.late(&panes.logs, &came, &left, &self.scratch);
        }
    }

    fn absorb_until<S: States>(&mut self, end: i64, panes: &SealedPanes<S>)
    where
        T: WindowTable<S>,
    {
        while let Some((pane, run)) = panes.panes.get(self.entered)
            && *pane < end
        {
            let (log, ids) = (&panes.logs[run.log as usize], panes.ids(*run));
            add_rows(ids, &log.rows, run.range(), &mut self.rows, &mut self.live);
            self.table.absorb(ids, &log.states, run.range());
            self.entered += 1;
        }
    }

    fn expel_until<S: States>(&mut self, first: i64, panes: &SealedPanes<S>)
    where
        T: WindowTable<S>,
    {
        while let Some((pane, run)) = panes.panes.get(self.left)
            && *pane < first
            && self.left < self.entered
        {
            let (log, ids) = (&panes.logs[run.log as usize], panes.ids(*run));
            take_rows(ids, &log.rows, run.range(), &mut self.rows, &mut self.live);
            self.table.expel(ids, &log.states, run.range(), self.left < self.turned);
            self.left += 1;
        }
    }
}

#[inline]
fn add_rows(ids: &[u32], counts: &Counts, run: Range<usize>, rows: &mut [u64], live: &mut LiveSet) {
    counts.for_each(run, |i, n| {
        let rows = &mut rows[ids[i] as usize];
        if *rows == 0 {
            live.insert(ids[i]);
        }
        *rows += n;
    });
}

#[inline]
fn take_rows(ids: &[u32], counts: &Counts, run: Range<usize>, rows: &mut [u64], live: &mut LiveSet) {
    counts.for_each(run, |i, n| {
        let rows = &mut rows[ids[i] as usize];
        *rows -= n;
        if *rows == 0 {
            live.remove(ids[i]);
        }
    });
}
