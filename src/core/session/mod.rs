//! Session windows of one partition: records of a key no further from the next than the gap, and their fold.
//!
//! What arrives are the sessions of a block, each a span of time with a state: no record of one is within the gap of a
//! record of the next. Spans of one key are kept apart by more than the gap: a span that touches one session extends
//! it, one that touches several bridges them, the earliest taking the others in before the span is folded behind them. So
//! the states of a session depend on the spans of its own key in the order of their arrival and on nothing else: neither
//! on partitions nor on when states were moved.
//!
//! Sessions stand in parallel vectors, 24 bytes and the states; those of a key are a chain from the latest back, of which
//! the key holds the head in 4 bytes. Records that are about in order touch the head or begin a new one. A key whose
//! records step back over many sessions has its chain replaced by entries of a search tree, so that any disorder costs
//! O(log n) a span. Slots of sessions that were merged or [closed](Sessions::close) are left behind, and given back when
//! they are half of all.
//!
//! The twin is [`Sessions::swept`]: it keeps every span as it came and finds the sessions at the end, by sorting.

mod close;
#[cfg(test)]
mod tests;

pub use close::Closed;

use super::counts::Counts;
use super::groups::GroupId;
use super::panes::States;
use std::collections::BTreeMap;
use std::ops::Range;

/// The first and the last time of some records, microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The least time.
    pub first: i64,
    /// The greatest.
    pub last: i64,
}

impl Span {
    /// Of no records: whatever it is extended by takes its place.
    pub const NONE: Span = Span { first: i64::MAX, last: i64::MIN };

    /// Of one record.
    #[inline]
    pub fn at(time: i64) -> Span {
        Span { first: time, last: time }
    }

    /// Takes in what lies between both, too.
    #[inline]
    pub fn extend(&mut self, other: Span) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
    }

    /// Whether every record of the span lies after `other`, by more than `gap`.
    #[inline]
    pub fn is_after(self, other: Span, gap: i64) -> bool {
        self.first > other.last.saturating_add(gap)
    }

    /// Whether the watermark has passed the session's end.
    #[inline]
    pub fn is_closed(self, watermark: i64, gap: i64) -> bool {
        watermark > self.last.saturating_add(gap)
    }
}

/// States of which one can be folded into another of the same column.
pub trait Joined: States {
    /// Grows to `len` states; new ones are identities.
    fn grow(&mut self, len: usize);

    /// Folds the state at `from` into the one at `at`, as the right operand. The one at `from` is not used any more.
    fn join(&mut self, at: u32, from: u32);
}

/// Fewer sessions than this are not compacted. Tiny under test, so that tests go through compaction.
const COMPACT_FROM: usize = if cfg!(test) { 6 } else { 4096 };

/// Longer vectors grow by a quarter instead of twofold: most of the memory of many short sessions is here.
const SPARE_FROM: usize = if cfg!(test) { 4 } else { 4096 };

/// Sessions that a span may step back over along the chain. Tiny under test, so that tests have trees.
const WALK: usize = if cfg!(test) { 2 } else { 16 };

/// No session.
const NONE: u32 = u32::MAX;
/// The head of a group whose sessions are in the tree.
const SCATTERED: u32 = u32::MAX - 1;
/// The predecessor of a session that the watermark has closed: it is in no chain.
const CLOSED: u32 = u32::MAX - 2;
/// The predecessor of what is no session any more.
const DEAD: u32 = u32::MAX - 3;

/// A session and where it stands in the chain of its group.
#[derive(Debug, Clone, Copy)]
struct Link {
    span: Span,
    id: GroupId,
    /// The session of the same group before this one.
    before: u32,
}

/// The open sessions of one partition.
#[derive(Debug)]
pub struct Sessions<S> {
    gap: i64,
    sweeps: bool,
    /// A slot for each session, in parallel with `rows` and `states`.
    links: Vec<Link>,
    rows: Counts,
    states: S,
    /// The latest session of each group.
    heads: Vec<u32>,
    /// The sessions of scattered groups by their first time.
    tree: BTreeMap<(GroupId, i64), u32>,
    /// Slots of sessions that are closed and not handed out yet.
    closed: Vec<u32>,
    dead: usize,
    positions: Vec<u32>,
    touched: Vec<u32>,
}

impl<S: Joined> Sessions<S> {
    /// No sessions of records up to `gap` microseconds apart; `states` must be empty.
    pub fn new(gap: i64, states: S) -> Self {
        Sessions {
            gap,
            sweeps: false,
            links: Vec::new(),
            rows: Counts::default(),
            states,
            heads: Vec::new(),
            tree: BTreeMap::new(),
            closed: Vec::new(),
            dead: 0,
            positions: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// The reference: spans are kept as they come, and sorted and swept together when all are closed. There is no
    /// watermark before that.
    pub fn swept(gap: i64, states: S) -> Self {
        Sessions { sweeps: true, ..Sessions::new(gap, states) }
    }

    /// Sessions, those that are closed and not handed out among them.
    pub fn len(&self) -> usize {
        self.links.len() - self.dead
    }

    /// Whether there is no session.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let index = self.heads.capacity() * 4 + self.tree.len() * 32 + self.closed.capacity() * 4;
        self.links.capacity() * size_of::<Link>() + index + self.rows.bytes() + self.states.bytes()
    }

    /// Announces a block, parts of which will be [added](Self::add), none twice.
    pub fn admit(&mut self, rows: &Counts, states: &S) {
        self.rows.admit(rows);
        self.states.admit(states);
    }

    /// Adds the spans `range` of an admitted block, all of which lie ahead of the watermark: `ids[i]` and `spans[i]` are
    /// the group and the span of state `range.start + i`. Spans of one group in one block are further apart than the gap.
    pub fn add(&mut self, ids: &[GroupId], spans: &[Span], rows: &Counts, states: &S, range: Range<usize>) {
        let mut from = range.start;
        self.positions.clear();
        for (i, (id, span)) in ids.iter().zip(spans).enumerate() {
            let slot = if self.sweeps {
                self.push(*id, *span, NONE)
            } else {
                if *id as usize >= self.heads.len() {
                    grow_by_quarter(&mut self.heads, *id as usize + 1);
                    self.heads.resize(*id as usize + 1, NONE);
                }
                let head = self.heads[*id as usize];
                match self.links.get_mut(head as usize) {
                    // In order, or nearly: nothing before the head can be touched.
                    Some(link) if span.first >= link.span.first => {
                        if span.is_after(link.span, self.gap) {
                            self.heads[*id as usize] = self.links.len() as u32;
                            self.push(*id, *span, head)
                        } else {
                            link.span.last = link.span.last.max(span.last);
                            head
                        }
                    }
                    None if head == NONE => {
                        self.heads[*id as usize] = self.links.len() as u32;
                        self.push(*id, *span, NONE)
                    }
                    _ => {
                        self.touch(*id, *span);
                        if self.touched.len() > 1 {
                            // What is bridged is folded before what bridges it.
                            let at = range.start + i;
                            self.fold(rows, states, from..at);
                            from = at;
                            self.bridge(*id);
                        }
                        self.take(*id, *span)
                    }
                }
            };
            self.positions.push(slot);
        }
        self.fold(rows, states, from..range.end);
    }

    /// [Adds](Self::add) spans of one record each, `watermarks[i]` being the watermark when that of `ids[i]` came. Sessions
    /// that were closed by then are not touched. Returns how many records were dropped as late, because there was no open
    /// session for them and one of their own would have been closed.
    pub fn add_judged(
        &mut self,
        (ids, watermarks): (&[GroupId], &[i64]),
        spans: &[Span],
        rows: &Counts,
        states: &S,
        range: Range<usize>,
        late: &mut Vec<usize>,
    ) {
        for (i, at) in range.enumerate() {
            if (ids[i] as usize) < self.heads.len() {
                self.expire(ids[i], watermarks[i]);
            }
            if spans[i].is_closed(watermarks[i], self.gap) {
                let known = self.heads.get(ids[i] as usize).is_some_and(|head| *head != NONE);
                if known {
                    self.touch(ids[i], spans[i]);
                }
                if !known || self.touched.is_empty() {
                    late.push(at);
                    continue;
                }
            }
            self.add(&ids[i..=i], &spans[i..=i], rows, states, at..at + 1);
        }
    }

    /// [Adds](Self::add) sessions as [`view`](Self::view) gave them: those that one touches had closed before it.
    pub fn add_saved(&mut self, ids: &[GroupId], spans: &[Span], rows: &Counts, states: &S, range: Range<usize>) {
        for (i, at) in range.enumerate() {
            if self.heads.get(ids[i] as usize).is_some_and(|head| *head != NONE) {
                self.touch(ids[i], spans[i]);
                let last = self.touched.iter().map(|slot| self.links[*slot as usize].span.last).max();
                if let Some(last) = last {
                    self.expire(ids[i], last.saturating_add(self.gap).saturating_add(1));
                }
            }
            self.add(&ids[i..=i], &spans[i..=i], rows, states, at..at + 1);
        }
    }

    /// A new session.
    fn push(&mut self, id: GroupId, span: Span, before: u32) -> u32 {
        let slot = self.links.len();
        grow_by_quarter(&mut self.links, slot + 1);
        self.links.push(Link { span, id, before });
        slot as u32
    }

    /// Folds the block's states `range` into the slots `positions`, which are used up.
    fn fold(&mut self, rows: &Counts, states: &S, range: Range<usize>) {
        self.rows.grow(self.links.len());
        self.states.grow(self.links.len());
        self.rows.fold(&self.positions, rows, range.clone());
        self.states.fold(&self.positions, states, range);
        self.positions.clear();
    }

    /// Sets `touched` to the sessions of `id` that touch `span`, from the latest back. If there are more than a few later
    /// ones, the group becomes scattered.
    fn touch(&mut self, id: GroupId, span: Span) {
        let gap = self.gap;
        self.touched.clear();
        if self.heads[id as usize] != SCATTERED {
            let mut at = self.heads[id as usize];
            for _ in 0..WALK {
                match self.links.get(at as usize) {
                    Some(later) if later.span.is_after(span, gap) => at = later.before,
                    _ => break,
                }
            }
            match self.links.get(at as usize) {
                Some(later) if later.span.is_after(span, gap) => self.scatter(id),
                _ => {
                    while let Some(link) = self.links.get(at as usize)
                        && !span.is_after(link.span, gap)
                    {
                        self.touched.push(at);
                        at = link.before;
                    }
                    return;
                }
            }
        }
        let until = span.last.saturating_add(gap);
        let (links, sessions) = (&self.links, self.tree.range((id, i64::MIN)..=(id, until)));
        let touches = |slot: &u32| !span.is_after(links[*slot as usize].span, gap);
        self.touched.extend(sessions.rev().map(|(_, slot)| *slot).take_while(touches));
    }

    /// Moves the sessions of `id` from their chain to the tree.
    fn scatter(&mut self, id: GroupId) {
        let mut at = std::mem::replace(&mut self.heads[id as usize], SCATTERED);
        while let Some(link) = self.links.get_mut(at as usize) {
            self.tree.insert((id, link.span.first), at);
            at = std::mem::replace(&mut link.before, NONE);
        }
    }

    /// Merges the touched sessions of `id` into the earliest of them, which remains the only one.
    fn bridge(&mut self, id: GroupId) {
        let (Some(latest), Some(earliest)) = (self.touched.first().copied(), self.touched.pop()) else { return };
        let scattered = self.heads[id as usize] == SCATTERED;
        if !scattered {
            self.relink(id, latest, earliest);
        }
        // Ascending in time, all of them later than the earliest.
        while let Some(slot) = self.touched.pop() {
            let link = &mut self.links[slot as usize];
            let span = link.span;
            link.before = DEAD;
            self.dead += 1;
            if scattered {
                self.tree.remove(&(id, span.first));
            }
            self.links[earliest as usize].span.extend(span);
            let mut one = Counts::default();
            one.grow(1);
            one.admit(&self.rows);
            one.fold(&[0], &self.rows, slot as usize..slot as usize + 1);
            one.settle();
            self.rows.admit(&one);
            self.rows.fold(&[earliest], &one, 0..1);
            self.states.join(earliest, slot);
        }
        self.touched.push(earliest);
    }

    /// Makes the chain of `id` go on with `to` where it goes on with `from`.
    fn relink(&mut self, id: GroupId, from: u32, to: u32) {
        let mut at = self.heads[id as usize];
        if at == from {
            self.heads[id as usize] = to;
            return;
        }
        while let Some(link) = self.links.get_mut(at as usize) {
            if link.before == from {
                link.before = to;
                return;
            }
            at = link.before;
        }
    }

    /// The session that takes `span`: the one touched, if there is one, or else a new one in its place.
    fn take(&mut self, id: GroupId, span: Span) -> u32 {
        let scattered = self.heads[id as usize] == SCATTERED;
        if let Some(slot) = self.touched.first().copied() {
            let link = &mut self.links[slot as usize];
            if scattered && span.first < link.span.first {
                self.tree.remove(&(id, link.span.first));
                self.tree.insert((id, span.first), slot);
            }
            link.span.extend(span);
            return slot;
        }
        if scattered {
            self.tree.insert((id, span.first), self.links.len() as u32);
            return self.push(id, span, NONE);
        }
        // Behind the sessions that are later, before the others.
        let (mut after, mut at) = (NONE, self.heads[id as usize]);
        while let Some(link) = self.links.get(at as usize)
            && link.span.first > span.last
        {
            (after, at) = (at, link.before);
        }
        let slot = self.push(id, span, at);
        match self.links.get_mut(after as usize) {
            Some(link) => link.before = slot,
            None => self.heads[id as usize] = slot,
        }
        slot
    }
}

/// Makes room for `len` elements, by doubling while they are few.
fn grow_by_quarter<T>(vec: &mut Vec<T>, len: usize) {
    if len > vec.capacity() && len >= SPARE_FROM {
        vec.reserve_exact(len - vec.len() + len / 4);
    }
}
