//! The reduce side: one partition takes its part of every block, in the order of the input.

use super::aggregates::Columns;
use super::keys::KeyRows;
use super::map::Mapped;
use super::plan::Plan;
use super::spill::cells::{Pieces, save_runs};
use crate::Result;
use crate::core::groups::Groups;
use crate::core::panes::PaneStore;
use crate::core::session::{Closed, Sessions};
use crate::core::window::{PaneIndex, WindowIndex, WindowSpec};
use crate::core::{PaneKey, Run, SealedPanes};
use crate::memory::{Budget, Lease};
use crate::time::Timestamp;

/// The keys and open panes of one partition.
pub(crate) struct Partition<K: KeyRows> {
    pub(crate) groups: Groups<K::Store>,
    pub(crate) panes: PaneStore<Columns>,
    /// In place of the panes.
    pub(crate) sessions: Option<Sessions<Columns>>,
    /// Blocks up to this number were taken by a run before this one.
    pub(crate) taken: u64,
    /// Cells of panes that have closed and are in windows to come, as pieces, each with the last window that needs it; if they
    /// are wanted.
    closed: Option<Vec<(WindowIndex, Pieces)>>,
    /// Records for which no session was open any more, not yet counted.
    late: Vec<(usize, usize)>,
    /// What it takes was saved from it.
    pub(in crate::query) restores: bool,
    /// Sessions that stayed open when others were last closed.
    kept: usize,
    lease: Lease,
    ids: Vec<u32>,
    of_cells: Vec<u32>,
}

impl<K: KeyRows> Partition<K> {
    pub(crate) fn new(plan: &Plan, lease: Lease) -> Self {
        Partition {
            groups: Groups::new(K::Store::default()),
            panes: PaneStore::new(plan.columns()),
            sessions: plan.session.map(|spec| spec.open(plan.columns())),
            taken: 0,
            closed: None,
            late: Vec::new(),
            restores: false,
            kept: 0,
            lease,
            ids: Vec::new(),
            of_cells: Vec::new(),
        }
    }

    /// Takes partition `p` of a block, which is the `number`th of its round. Blocks must come in the order of the input. What is
    /// held then is to be [leased](Self::lease).
    ///
    /// # Errors
    /// If the budget refuses the memory that records of very many windows take ([`Plan::naive`]).
    pub(crate) fn take(&mut self, plan: &Plan, p: usize, number: usize, block: &Mapped<K>) -> Result<()> {
        if block.partitions() == 0 {
            return Ok(());
        }
        let keys = block.key_offsets[p] as usize..block.key_offsets[p + 1] as usize;
        let segments = &block.segments[block.segment_offsets[p] as usize..block.segment_offsets[p + 1] as usize];
        if segments.is_empty() {
            return Ok(());
        }
        self.ids.clear();
        self.groups.intern(&block.keys, &block.hashes, keys.clone(), &mut self.ids);
        match &mut self.sessions {
            Some(sessions) => sessions.admit(&block.rows, &block.states),
            None => self.panes.admit(&block.rows, &block.states),
        }
        for segment in segments {
            let cells = segment.cells.clone();
            let ids = match &block.cell_keys {
                None => &self.ids[cells.start - keys.start..cells.end - keys.start],
                Some(cell_keys) => {
                    self.of_cells.clear();
                    self.of_cells
                        .extend(cell_keys[cells.clone()].iter().map(|key| self.ids[*key as usize - keys.start]));
                    &self.of_cells
                }
            };
            if let Some(sessions) = &mut self.sessions {
                let spans = &block.spans[cells.clone()];
                if self.restores {
                    sessions.add_saved(ids, spans, &block.rows, &block.states, cells);
                } else if block.marks.is_empty() {
                    sessions.add(ids, spans, &block.rows, &block.states, cells);
                } else {
                    let judged = (ids, &block.marks[cells.clone()]);
                    let mut late = Vec::new();
                    sessions.add_judged(judged, spans, &block.rows, &block.states, cells, &mut late);
                    self.late.extend(late.into_iter().map(|cell| (number, cell)));
                }
                sessions.tidy();
                continue;
            }
            if plan.naive {
                // The reference: every record goes into each of its windows, which stand where panes otherwise do.
                if let Some(spec) = plan.window {
                    let (first, last) = segment.pane.windows(spec);
                    for window in first..=last {
                        self.panes.admit(&block.rows, &block.states);
                        self.panes.add(window, ids, &block.rows, &block.states, cells.clone());
                        // A record may have billions of windows.
                        if window % 4096 == 0 {
                            self.lease.resize(self.groups.bytes() + self.panes.bytes())?;
                        }
                    }
                    continue;
                }
            }
            self.panes.add(segment.pane, ids, &block.rows, &block.states, cells);
        }
        self.panes.tidy();
        Ok(())
    }

    /// From now on keeps the cells of panes that close, as long as windows to come need them.
    pub(crate) fn remember(&mut self) {
        self.closed.get_or_insert_default();
    }

    /// What was [remembered](Self::remember).
    pub(in crate::query) fn closed(&self) -> Vec<Pieces> {
        self.closed.iter().flatten().map(|(_, piece)| piece.clone()).collect()
    }

    /// Takes out what no record joins any more and windows up to `upto` need.
    ///
    /// # Errors
    /// None that is known of.
    pub(crate) fn take_closed(
        &mut self,
        spec: WindowSpec,
        frontier: PaneIndex,
        upto: WindowIndex,
    ) -> Result<SealedPanes<Columns>> {
        let sealed = self.panes.take_closed(frontier, upto);
        let Some(closed) = &mut self.closed else { return Ok(sealed) };
        closed.retain(|(last, _)| *last > upto);
        let panes = sealed.panes.iter().map(|(pane, run)| (PaneKey::from(*pane), *run));
        let needed = panes.chain(sealed.late.iter().copied()).filter(|(key, _)| key.windows(spec).1 > upto);
        let needed: Vec<(PaneKey, Run)> = needed.collect();
        let last = needed.iter().map(|(key, _)| key.windows(spec).1).max().unwrap_or(upto);
        save_runs::<K>(&self.groups, &sealed.logs, needed.into_iter(), |piece| {
            closed.push((last, piece));
            Ok(())
        })?;
        Ok(sealed)
    }

    /// Leases what is held.
    pub(crate) fn lease(&mut self) -> Result<()> {
        self.lease.resize(self.bytes())
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        let closed: usize = self.closed.iter().flatten().map(|(_, piece)| piece.bytes()).sum();
        closed + self.groups.bytes() + self.panes.bytes() + self.sessions.as_ref().map_or(0, Sessions::bytes)
    }

    /// The records for which no session was open any more that came since the last call: the number of their block and
    /// their cell in it, which is theirs alone.
    pub(crate) fn take_late(&mut self) -> Vec<(usize, usize)> {
        std::mem::take(&mut self.late)
    }

    /// How many more sessions there are than twice those that stayed open when others were last closed: so many that looking
    /// at all of them again is paid for.
    pub(crate) fn new_sessions(&self) -> usize {
        self.sessions.as_ref().map_or(0, Sessions::len).saturating_sub(2 * self.kept)
    }

    /// Takes out the sessions that `watermark` has closed, or all, in the order of the output.
    pub(crate) fn close_sessions(&mut self, watermark: Option<i64>) -> Option<Closed<Columns>> {
        let sessions = self.sessions.as_mut()?;
        let (keys, hashes) = (self.groups.keys(), self.groups.hashes());
        let hash = |id: u32| hashes[id as usize];
        let compare = |a, b| hash(a).cmp(&hash(b)).then_with(|| K::compare(keys, a, b));
        let closed = sessions.close(watermark.unwrap_or(i64::MAX), Timestamp::MAX.micros(), compare);
        sessions.tidy();
        self.kept = sessions.len();
        Some(closed)
    }

    /// The budget it leases from.
    pub(crate) fn budget(&self) -> &Budget {
        self.lease.budget()
    }

    /// The lease, to go on with under another owner.
    pub(crate) fn into_parts(self) -> (Groups<K::Store>, PaneStore<Columns>, Lease) {
        (self.groups, self.panes, self.lease)
    }
}
