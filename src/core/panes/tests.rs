//! The panes against a twin that folds each cell by itself, whatever is hot, compacted, settled or taken out meanwhile.

use super::*;
use proptest::prelude::*;

/// States that tell in which order they were folded, and how: the fold of `a` and `b` is `(ab)`.
#[derive(Debug, Default)]
struct Texts(Vec<String>);

fn join(state: &mut String, text: &str) {
    *state = if state.is_empty() { text.to_owned() } else { format!("({state}{text})") };
}

impl States for Texts {
    fn empty(&self) -> Self {
        Texts::default()
    }
    fn admit(&mut self, _: &Self) {}
    fn fold(&mut self, at: &[u32], source: &Self, range: Range<usize>) {
        for (at, text) in at.iter().zip(&source.0[range]) {
            match self.0.get_mut(*at as usize) {
                Some(state) => join(state, text),
                None => self.0.push(text.clone()),
            }
        }
    }
    fn settle(&mut self) {}
    fn bytes(&self) -> usize {
        0
    }
}

/// Cells as the twin has them, each with what makes it one: its key and group.
fn cells_of(sealed: &SealedPanes<Texts>, id: impl Fn(GroupId) -> GroupId) -> Vec<((PaneKey, GroupId), (u64, String))> {
    let panes = sealed.panes.iter().map(|(pane, run)| (PaneKey::from(*pane), *run));
    let mut cells = Vec::new();
    for (key, run) in panes.chain(sealed.late.iter().copied()) {
        let log = &sealed.logs[run.log as usize];
        for (at, group) in run.range().zip(sealed.ids(run)) {
            cells.push(((key, id(*group)), (log.rows.get(at), log.states.0[at].clone())));
        }
    }
    cells.sort();
    cells
}

proptest! {
    /// Panes are taken out between blocks, now and then; nothing of a closed pane comes later.
    #[test]
    fn panes_are_taken_out_while_others_grow(
        steps in prop::collection::vec(
            (prop::collection::vec((0i64..6, 0i64..4, prop::collection::vec(0u32..6, 0..7)), 0..6), 0i64..5), 0..15),
    ) {
        let mut store = PaneStore::new(Texts::default());
        let mut all: Option<SealedPanes<Texts>> = None;
        let mut twin: BTreeMap<(PaneKey, GroupId), (u64, String)> = BTreeMap::new();
        let (mut frontier, mut next) = (0, 0);
        for (block, ahead) in &steps {
            for (pane, from, ids) in block {
                // Window n is pane n and the one before; `frontier` is also the first window that is open.
                let pane = frontier - 1 + pane;
                let from = if pane < frontier { frontier.max(pane) + from % 2 } else { WindowIndex::MIN };
                let key = PaneKey { pane, from };
                let (mut rows, mut texts) = (Counts::default(), Texts::default());
                rows.grow(ids.len());
                rows.add_one_each();
                texts.0.extend((next..next + ids.len()).map(|n| format!("{n},")));
                next += ids.len();
                store.admit(&rows, &texts);
                store.add(key, ids, &rows, &texts, 0..ids.len());
                for (id, text) in ids.iter().zip(&texts.0) {
                    let cell = twin.entry((key, *id)).or_default();
                    cell.0 += 1;
                    join(&mut cell.1, text);
                }
                store.tidy();
            }
            frontier += ahead;
            let (_, closed) = store.closed(frontier, frontier - 1);
            prop_assert_eq!(store.has_closed(frontier, frontier - 1), closed > 0);
            let taken = store.take_closed(frontier, frontier - 1);
            prop_assert!(taken.panes.iter().all(|(pane, _)| *pane < frontier));
            prop_assert!(taken.late.iter().all(|(key, _)| key.from < frontier));
            prop_assert!(cells_of(&taken, |id| id).len() <= closed);
            prop_assert_eq!(store.closed(frontier, frontier - 1), (0, 0));
            match &mut all {
                None => all = Some(taken),
                Some(all) => all.append(taken),
            }
        }
        let rest = store.take_closed(PaneIndex::MAX, WindowIndex::MAX);
        let mut all = match all {
            None => rest,
            Some(mut all) => {
                all.append(rest);
                all
            }
        };
        prop_assert!(all.panes.is_sorted_by_key(|pane| pane.0));
        prop_assert!(all.late.is_sorted_by_key(|(key, _)| key.from));
        let mut want: Vec<_> = twin.into_iter().collect();
        prop_assert_eq!(cells_of(&all, |id| id), want.clone());
        // Dropping the front of both lists leaves the rest as it was.
        let (panes, late) = (all.panes.len() / 2, all.late.len() / 2);
        let dropped: Vec<PaneKey> = all.panes[..panes].iter().map(|(pane, _)| PaneKey::from(*pane))
            .chain(all.late[..late].iter().map(|(key, _)| *key)).collect();
        let split = all.panes.get(panes).map(|p| p.0);
        prop_assume!(!dropped.iter().any(|key| key.from == WindowIndex::MIN && Some(key.pane) == split));
        prop_assume!(late == 0 || all.late.get(late).is_none_or(|(key, _)| *key != all.late[late - 1].0));
        all.forget(panes, late, std::iter::empty());
        want.retain(|((key, _), _)| !dropped.contains(key));
        prop_assert_eq!(cells_of(&all, |id| id), want);
    }

    /// The twin is a map from (pane, group) to what arrived, in order. Panes come in any order, as blocks of parts. Where there
    /// are few, groups are numbered as they come, up to a group that never does: then a pane that is alone has no slots.
    #[test]
    fn a_cell_is_the_left_fold_of_its_parts(
        (panes, alone, missing) in (1i64..12, 0usize..20, 0u32..7),
        blocks in prop::collection::vec(
            prop::collection::vec((0i64..12, prop::collection::vec(0u32..6, 0..7)), 0..6), 0..25),
    ) {
        let mut blocks = blocks;
        let mut numbers: Vec<u32> = Vec::new();
        let parts = blocks.iter_mut().enumerate().flat_map(|(n, block)| block.iter_mut().map(move |part| (n, part)));
        for (n, (pane, ids)) in parts {
            *pane = if n < alone { 0 } else { *pane % panes };
            for id in ids.iter_mut().filter(|_| panes < 3) {
                let number = numbers.iter().position(|known| known == id).unwrap_or_else(|| {
                    numbers.push(*id);
                    numbers.len() - 1
                }) as u32;
                *id = (number + u32::from(number >= missing)).min(6);
            }
        }
        let mut store = PaneStore::new(Texts::default());
        let mut twin: BTreeMap<(PaneIndex, GroupId), (u64, String)> = BTreeMap::new();
        let mut next = 0;
        for block in &blocks {
            let count: usize = block.iter().map(|part| part.1.len()).sum();
            let (mut rows, mut texts) = (Counts::default(), Texts::default());
            rows.grow(count);
            rows.add_one_each();
            texts.0.extend((next..next + count).map(|n| format!("{n},")));
            store.admit(&rows, &texts);
            let mut from = 0;
            for (pane, ids) in block {
                store.add(*pane, ids, &rows, &texts, from..from + ids.len());
                for (id, text) in ids.iter().zip(&texts.0[from..]) {
                    let cell = twin.entry((*pane, *id)).or_default();
                    cell.0 += 1;
                    join(&mut cell.1, text);
                }
                from += ids.len();
            }
            store.tidy();
            next += count;
        }
        let rank: Vec<u32> = (0..7).map(|id| 6 - id).collect();
        let sealed = store.seal(&rank);
        prop_assert!(sealed.panes.is_sorted_by_key(|pane| pane.0));
        let cells = cells_of(&sealed, |id| 6 - id);
        prop_assert!(cells.is_sorted_by(|a, b| a.0 < b.0), "a group has one cell in a pane");
        let twin: Vec<_> = twin.into_iter().map(|((pane, id), cell)| ((PaneKey::from(pane), id), cell)).collect();
        prop_assert_eq!(cells, twin);
    }
}
