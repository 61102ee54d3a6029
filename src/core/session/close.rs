//! Sessions on their way out: those that the watermark has closed, slots given back, and the twin that sweeps.

use super::{CLOSED, COMPACT_FROM, DEAD, Joined, Link, NONE, SCATTERED, Sessions, Span};
use crate::core::counts::Counts;
use crate::core::groups::GroupId;
use std::cmp::Ordering;

/// Sessions that no record can join any more.
#[derive(Debug)]
pub struct Closed<S> {
    /// The span and group of each, in the order asked for.
    pub sessions: Vec<(Span, GroupId)>,
    /// The records of each.
    pub rows: Counts,
    /// The state of each.
    pub states: S,
    /// Groups that have no session left, ascending.
    pub gone: Vec<GroupId>,
}

impl<S: Joined> Sessions<S> {
    /// Everything as it stands: records and states by slot, and the slot, span and group of each session, one that has closed
    /// before those that touch it. [Added](Self::add_saved) again they are the same sessions.
    pub fn view(&mut self) -> (&Counts, &S, Vec<(usize, Span, GroupId)>) {
        // What is read is settled.
        self.rows.settle();
        self.states.settle();
        let live = self.links.iter().enumerate().filter(|(_, link)| link.before != DEAD);
        let mut sessions: Vec<_> = live.map(|(slot, link)| (slot, link.span, link.id)).collect();
        if !self.closed.is_empty() {
            // One that begins after another has closed ends after it.
            sessions.sort_by_key(|(_, span, _)| span.last);
        }
        (&self.rows, &self.states, sessions)
    }

    /// Takes the sessions of `id` that `watermark` has closed out of their chain.
    pub(super) fn expire(&mut self, id: GroupId, watermark: i64) {
        let gap = self.gap;
        if self.heads[id as usize] == SCATTERED {
            let mut sessions = self.tree.range((id, i64::MIN)..=(id, i64::MAX));
            let mut open = false;
            let from = self.closed.len();
            for (_, slot) in sessions.by_ref() {
                open = !self.links[*slot as usize].span.is_closed(watermark, gap);
                if open {
                    break;
                }
                self.closed.push(*slot);
            }
            for slot in &self.closed[from..] {
                let link = &mut self.links[*slot as usize];
                self.tree.remove(&(id, link.span.first));
                link.before = CLOSED;
            }
            if !open {
                self.heads[id as usize] = NONE;
            }
            return;
        }
        let (mut after, mut at) = (NONE, self.heads[id as usize]);
        while let Some(link) = self.links.get(at as usize)
            && !link.span.is_closed(watermark, gap)
        {
            (after, at) = (at, link.before);
        }
        match self.links.get_mut(after as usize) {
            Some(link) => link.before = NONE,
            None => self.heads[id as usize] = NONE,
        }
        while let Some(link) = self.links.get_mut(at as usize) {
            self.closed.push(at);
            at = std::mem::replace(&mut link.before, CLOSED);
        }
    }

    /// Takes out the sessions that `watermark` has closed (`i64::MAX`: all of them), in the order of their ends, then
    /// starts, then groups by `compare`. No end is later than `latest`.
    ///
    /// Costs a look at every session and the states of those that are closed; call it when some are.
    pub fn close(&mut self, watermark: i64, latest: i64, compare: impl Fn(GroupId, GroupId) -> Ordering) -> Closed<S> {
        if self.sweeps && watermark == i64::MAX {
            self.sweep();
        }
        for slot in 0..if self.sweeps { 0 } else { self.links.len() } {
            let link = self.links[slot];
            if link.before != DEAD && link.before != CLOSED && link.span.is_closed(watermark, self.gap) {
                self.expire(link.id, watermark);
            }
        }
        let closed = std::mem::take(&mut self.closed);
        let mut gone: Vec<GroupId> = closed.iter().map(|slot| self.links[*slot as usize].id).collect();
        gone.sort_unstable();
        gone.dedup();
        gone.retain(|id| self.heads.get(*id as usize).is_none_or(|head| *head == NONE));
        let mut order: Vec<(i64, i64, GroupId, u32)> = closed
            .into_iter()
            .map(|slot| {
                let Link { span, id, .. } = self.links[slot as usize];
                (span.last.saturating_add(self.gap).min(latest), span.first, id, slot)
            })
            .collect();
        order.sort_unstable_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| compare(a.2, b.2)));
        let mut target = vec![NONE; self.links.len()];
        for (at, session) in order.iter().enumerate() {
            target[session.3 as usize] = at as u32;
        }
        let (rows, states) = self.gather(&target, order.len());
        let sessions = order.iter().map(|(.., slot)| {
            let link = &mut self.links[*slot as usize];
            link.before = DEAD;
            (link.span, link.id)
        });
        let sessions = sessions.collect();
        self.dead += order.len();
        if self.dead == self.links.len() {
            self.links = Vec::new();
            self.rows = Counts::default();
            self.states = self.states.empty();
            self.dead = 0;
        }
        Closed { sessions, rows, states, gone }
    }

    /// Rows and states of each slot folded at `target[slot]`, of those that have one, in the order of the slots.
    fn gather(&mut self, target: &[u32], len: usize) -> (Counts, S) {
        self.rows.settle();
        self.states.settle();
        let (mut rows, mut states) = (Counts::default(), self.states.empty());
        rows.grow(len);
        states.grow(len);
        rows.admit(&self.rows);
        states.admit(&self.states);
        let mut from = 0;
        for run in target.chunk_by(|a, b| (*a == NONE) == (*b == NONE)) {
            if run[0] != NONE {
                rows.fold(run, &self.rows, from..from + run.len());
                states.fold(run, &self.states, from..from + run.len());
            }
            from += run.len();
        }
        rows.settle();
        states.settle();
        (rows, states)
    }

    /// Gives back the slots of sessions that are no more, once they are half of all. Call it between blocks.
    pub fn tidy(&mut self) {
        if self.links.len() < COMPACT_FROM || 2 * self.dead < self.links.len() {
            return;
        }
        let mut target = vec![NONE; self.links.len()];
        let mut links = Vec::with_capacity(self.len() + self.len() / 4);
        for (slot, link) in self.links.iter().enumerate().filter(|(_, link)| link.before != DEAD) {
            target[slot] = links.len() as u32;
            links.push(*link);
        }
        let moved = |slot: &mut u32| {
            if let Some(to) = target.get(*slot as usize) {
                *slot = *to;
            }
        };
        links.iter_mut().for_each(|link| moved(&mut link.before));
        self.heads.iter_mut().for_each(moved);
        self.tree.values_mut().for_each(moved);
        self.closed.iter_mut().for_each(moved);
        (self.rows, self.states) = self.gather(&target, links.len());
        self.links = links;
        self.dead = 0;
    }

    /// Finds the sessions of all spans, and closes them.
    fn sweep(&mut self) {
        let mut order: Vec<u32> = (0..self.links.len() as u32).collect();
        order.sort_by_key(|slot| (self.links[*slot as usize].id, self.links[*slot as usize].span.first));
        let mut target = vec![NONE; self.links.len()];
        let mut sessions: Vec<Link> = Vec::new();
        for slot in order {
            let link = self.links[slot as usize];
            match sessions.last_mut() {
                Some(last) if last.id == link.id && !link.span.is_after(last.span, self.gap) => {
                    last.span.extend(link.span);
                }
                _ => sessions.push(Link { before: CLOSED, ..link }),
            }
            target[slot as usize] = sessions.len() as u32 - 1;
        }
        (self.rows, self.states) = self.gather(&target, sessions.len());
        self.closed = (0..sessions.len() as u32).collect();
        self.links = sessions;
    }
}
