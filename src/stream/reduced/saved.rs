//! A window as it goes into a checkpoint: its table, and its panes with what has become of them.
//!
//! Turned panes hold folds of later cells and not what came in, so they are saved as they are, with the table that they
//! belong to: what comes out after a restart is what would have come, bit for bit, also of sums of floats. Cells that a
//! filter has taken out of the total are left out.

use super::Shard;
use crate::Result;
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
pub(super) fn sections<K: Key, V: Data>(shards: &[Shard<K, V>]) -> Option<Vec<Section<(K, V)>>> {
    let mut sections = Vec::new();
    let mut stages = BTreeSet::new();
    let stretch = shards.first().and_then(|shard| shard.stretch);
    for shard in shards {
        if shard.damaged || shard.stretch != stretch {
            return None;
        }
        let key = |id: usize| shard.groups.keys().get(id as u32).clone();
        let rows = |table: &[Option<V>]| -> Vec<(K, V)> {
            table.iter().enumerate().filter_map(|(id, value)| value.clone().map(|value| (key(id), value))).collect()
        };
        sections.push(Section::new(FRONT, 0, rows(&shard.front)));
        if let Some(stretch) = stretch {
            sections.push(Section::new(SUFFIX, stretch as u64, rows(&shard.suffix)));
        }
        for (at, pane) in shard.panes.iter().enumerate() {
            let kind = match at {
                _ if at < shard.turned => TURNED,
                _ if at < shard.absorbed => ABSORBED,
                _ => PENDING,
            };
            let (mut cells, mut last) = (Vec::with_capacity(pane.ids.len()), Vec::new());
            for (id, value) in pane.ids.iter().zip(&pane.values) {
                let id = *id as usize;
                match value {
                    Some(value) if shard.since[id] <= pane.k => cells.push((key(id), value.clone())),
                    Some(_) => {}
                    // While a turned pane stands, the suffixes of its keys do.
                    None => last.extend(shard.suffix[id].clone().map(|value| (key(id), value))),
                }
            }
            stages.insert((pane.k, kind));
            sections.push(Section::new(kind, pane.k as u64, cells));
            if !last.is_empty() {
                sections.push(Section::new(LAST, pane.k as u64, last));
            }
        }
    }
    let stages: Vec<_> = stages.into_iter().collect();
    let agree = stages.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
    agree.then_some(sections)
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
    for Section { kind, tag, rows } in sections {
        let rows = Arc::unwrap_or_clone(rows);
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
                pane.values[valued..].fill(None);
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
