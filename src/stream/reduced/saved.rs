//! A window as it goes into a checkpoint: its table, and its panes with what has become of them.
//!
//! Turned panes hold folds of later cells and not what came in, so they are saved as they are, with the table that they
//! belong to: what comes out after a restart is what would have come, bit for bit, also of sums of floats. Cells that a
//! filter has taken out of the total are left out.

use super::Shard;
use crate::Result;
use crate::stream::exec::Exec;
use crate::stream::keyed::{Partitioner, hash_of};
use crate::stream::saved::Section;
use crate::stream::{Data, Key};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The kinds of sections. Of panes the tag is the batch; greater kinds of them follow smaller ones.
const FRONT: u32 = 0;
/// The tag is the stretch.
const SUFFIX: u32 = 1;
const TURNED: u32 = 2;
/// Turned cells with nothing later; the value is any.
const LAST: u32 = 3;
const ABSORBED: u32 = 4;
const PENDING: u32 = 5;

/// All of `shards`; none if they do not agree on what has become of the panes, as after a batch that failed.
///
/// Tables and keys are copied here, cells where they are written.
pub(super) fn sections<K: Key, V: Data>(exec: &Exec, shards: &[Shard<K, V>]) -> Option<Vec<Section<(K, V)>>> {
    let stretch = shards.first().and_then(|shard| shard.stretch);
    if shards.iter().any(|shard| shard.damaged || shard.stretch != stretch) {
        return None;
    }
    let stage = |shard: &Shard<K, V>, at: usize| match at {
        _ if at < shard.turned => TURNED,
        _ if at < shard.absorbed => ABSORBED,
        _ => PENDING,
    };
    let stages = |shard: &Shard<K, V>| -> Vec<_> {
        shard.panes.iter().enumerate().map(|(at, pane)| (pane.k, stage(shard, at))).collect()
    };
    let stages: Vec<(i64, u32)> = shards.iter().flat_map(stages).collect::<BTreeSet<_>>().into_iter().collect();
    if !stages.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1) {
        return None;
    }
    let copied = exec.run(shards.iter().collect(), false, |_, shard: &Shard<K, V>| {
        let mut sections = Vec::with_capacity(shard.panes.len() + 2);
        let table = Arc::new(Table {
            keys: (0..shard.groups.capacity()).map(|id| shard.groups.keys().get(id as u32).clone()).collect(),
            front: shard.front.clone(),
            suffix: shard.suffix.clone(),
            since: shard.since.clone(),
        });
        let of = table.clone();
        sections.push(Section::later(FRONT, 0, move || of.rows(&of.front)));
        if let Some(stretch) = stretch {
            let of = table.clone();
            sections.push(Section::later(SUFFIX, stretch as u64, move || of.rows(&of.suffix)));
        }
        for (at, pane) in shard.panes.iter().enumerate() {
            let (k, kind) = (pane.k, stage(shard, at));
            let (of, ids, values) = (table.clone(), pane.ids.clone(), pane.values.clone());
            sections.push(Section::later(kind, k as u64, move || {
                let cells = ids.iter().zip(&*values).filter(|(id, _)| of.since[**id as usize] <= k);
                cells.filter_map(|(id, value)| Some((of.key(*id), value.clone()?))).collect()
            }));
            if kind == TURNED {
                let (of, ids, values) = (table.clone(), pane.ids.clone(), pane.values.clone());
                // While a turned pane stands, the suffixes of its keys do.
                sections.push(Section::later(LAST, k as u64, move || {
                    let cells = ids.iter().zip(&*values).filter(|(_, value)| value.is_none());
                    cells.filter_map(|(id, _)| Some((of.key(*id), of.suffix[*id as usize].clone()?))).collect()
                }));
            }
        }
        Ok(sections)
    });
    Some(copied.ok()?.into_iter().flatten().collect())
}

/// A copy of what changes in place.
struct Table<K, V> {
    keys: Vec<K>,
    front: Vec<Option<V>>,
    suffix: Vec<Option<V>>,
    since: Vec<i64>,
}

impl<K: Key, V: Data> Table<K, V> {
    fn key(&self, id: u32) -> K {
        self.keys[id as usize].clone()
    }

    fn rows(&self, column: &[Option<V>]) -> Vec<(K, V)> {
        let values = self.keys.iter().zip(column);
        values.filter_map(|(key, value)| Some((key.clone(), value.clone()?))).collect()
    }
}

/// The cells of a pane: those with a value, those without.
type Cells<K, V> = (Vec<(K, V)>, Vec<(K, V)>);

/// Fills `shards`, which are new.
pub(super) fn restore<K: Key, V: Data>(
    shards: &mut [Shard<K, V>],
    by: &Partitioner<K>,
    sections: Vec<Section<(K, V)>>,
) -> Result<()> {
    let of = |key: &K| by.of(key, hash_of(key));
    let mut panes: BTreeMap<i64, (u32, Vec<Cells<K, V>>)> = BTreeMap::new();
    let mut tables = Vec::new();
    for section in sections {
        let (kind, tag, rows) = (section.kind, section.tag, section.rows());
        if kind == FRONT || kind == SUFFIX {
            tables.push((kind, tag, rows));
            continue;
        }
        let stage = if kind == LAST { TURNED } else { kind };
        let pane = panes.entry(tag as i64).or_insert_with(|| (stage, Vec::new()));
        pane.1.resize_with(shards.len(), Default::default);
        for row in rows {
            let cells = &mut pane.1[of(&row.0)];
            if kind == LAST { cells.1.push(row) } else { cells.0.push(row) }
        }
    }
    for (k, (kind, cells)) in panes {
        for (shard, (mut cells, last)) in shards.iter_mut().zip(cells) {
            let valued = cells.len();
            cells.extend(last);
            if cells.is_empty() {
                continue;
            }
            shard.push(k, cells);
            if let Some(pane) = shard.panes.back_mut() {
                Arc::make_mut(&mut pane.values)[valued..].fill(None);
            }
            shard.turned += usize::from(kind == TURNED);
            shard.absorbed += usize::from(kind != PENDING);
        }
    }
    for (kind, tag, rows) in tables {
        if kind == SUFFIX {
            shards.iter_mut().for_each(|shard| shard.stretch = Some(tag as i64));
        }
        for (key, value) in rows {
            let shard = &mut shards[of(&key)];
            let id = shard.id_of(key);
            let table = if kind == SUFFIX { &mut shard.suffix } else { &mut shard.front };
            table[id] = Some(value);
        }
    }
    Ok(())
}
