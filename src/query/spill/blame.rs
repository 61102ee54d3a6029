//! Which key it is whose state alone is more than the memory limit has room for.

use super::cells::{load, pick, save_partition};
use crate::core::States;
use crate::hash::NULL_HASH;
use crate::memory::Budget;
use crate::query::keys::KeyRows;
use crate::query::map::Mapped;
use crate::query::plan::Plan;
use crate::query::reduce::Partition;
use crate::store::column::Column;
use crate::{Error, ErrorKind, Result};
use arrow_cast::display::array_value_to_string;
use arrow_schema::DataType;
use std::collections::HashMap;

/// Characters of a key that an error shows.
const LONGEST: usize = 100;

/// Blocks of more keys than this are large because there are so many.
const MOST: usize = 256;

/// The keys of blocks that did not fit, with the bytes of their states and a block of each.
pub(super) struct Blame<'a, K> {
    plan: &'a Plan,
    keys: HashMap<u64, (usize, Mapped<K>)>,
    /// Bytes of the states of keys that are not told apart.
    others: usize,
}

impl<'a, K: KeyRows> Blame<'a, K> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        Blame { plan, keys: HashMap::new(), others: 0 }
    }

    /// Counts the keys of `block` whose hashes are `wanted`.
    pub(super) fn add(&mut self, block: &Mapped<K>, wanted: impl Fn(u64) -> bool) -> Result<()> {
        let hashes: Vec<u64> = block.hashes.iter().copied().filter(|hash| wanted(*hash)).collect();
        if hashes.len() > MOST {
            self.others += block.states.bytes();
            return Ok(());
        }
        for hash in hashes {
            let own = pick(self.plan, block, |other| other == hash)?;
            let bytes = own.states.bytes();
            self.keys.entry(hash).and_modify(|(all, _)| *all += bytes).or_insert((bytes, own));
        }
        Ok(())
    }

    /// `error` with the name of the key that has more than half of all; as it is if there is none.
    pub(super) fn on(self, error: Error) -> Error {
        let all = self.others + self.keys.values().map(|(bytes, _)| bytes).sum::<usize>();
        let largest = self.keys.into_iter().find(|(_, (bytes, _))| *bytes > all / 2);
        if self.plan.keys.is_empty() {
            return error;
        }
        let Some(Ok(name)) = largest.map(|(hash, (_, block))| name(self.plan, hash, &block)) else { return error };
        Error::new(ErrorKind::Memory, format!("the state of one key is too large, that of {name}: {error}"))
    }
}

/// The only key of `block` as text.
fn name<K: KeyRows>(plan: &Plan, hash: u64, block: &Mapped<K>) -> Result<String> {
    let mut partition = Partition::new(plan, Budget::unlimited().lease("a key"));
    partition.take(plan, 0, 0, block)?;
    let types: Vec<DataType> = plan.keys.iter().map(|key| key.data_type.clone()).collect();
    let arrays = K::arrays(partition.groups.keys(), &|_| hash == NULL_HASH, &[0], &types)?;
    let fields = &plan.schema.fields()[if plan.has_bounds() { 2 } else { 0 }..];
    let named = fields.iter().zip(&arrays).map(|(field, array)| {
        let mut text = array_value_to_string(array, 0)?;
        if let Some((end, _)) = text.char_indices().nth(LONGEST) {
            text.replace_range(end.., "...");
        }
        Ok(format!("{} {text:?}", field.name()))
    });
    Ok(named.collect::<Result<Vec<_>>>()?.join(", "))
}

/// `error` with the name of the key of `block` that is to blame for it.
pub(super) fn of_block<K: KeyRows>(plan: &Plan, block: &Mapped<K>, error: Error) -> Error {
    let mut blame = Blame::<K>::new(plan);
    if error.kind() == ErrorKind::Memory && blame.add(block, |_| true).is_ok() {
        return blame.on(error);
    }
    error
}

/// `error` with the name of the key of `partition` that is to blame for it.
pub(super) fn of_partition<K: KeyRows>(plan: &Plan, partition: &mut Partition<K>, error: Error) -> Error {
    if error.kind() != ErrorKind::Memory {
        return error;
    }
    let mut blame = Blame::<K>::new(plan);
    let counted = save_partition(partition, |pieces| {
        let columns = pieces.into_columns()?;
        let views: Vec<_> = columns.iter().map(Column::view).collect();
        load::<K>(plan, &views)?.try_for_each(|block| blame.add(&block?, |_| true))
    });
    if counted.is_ok() { blame.on(error) } else { error }
}
