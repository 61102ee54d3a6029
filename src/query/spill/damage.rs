//! Pieces that are not what was written: each is refused or is some block, and a partition takes that block, whatever is in it.
//!
//! Checksums stand before all of this on disk. Here they are left out, so that the decoders are on their own.

use super::cells::{Pieces, append, empty, save_block, save_partition};
use crate::Result;
use crate::core::window::WindowSpec;
use crate::core::words::Bytes;
use crate::memory::Budget;
use crate::query::agg::Agg;
use crate::query::keys::{ByteRows, KeyRows, WordRows};
use crate::query::map::{Marks, Piece, Scratch, map_block};
use crate::query::partitioning::Partitioning;
use crate::query::plan::{Carried, Carry, Fields, Plan, Request};
use crate::query::reduce::Partition;
use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow_schema::DataType;
use proptest::prelude::*;
use std::sync::Arc;

/// Every kind of state that there is.
const AGGREGATES: &str = "count, count(x), count_if(x > 0), sum(i), sum(x), avg(x), min(i), max(x), min(s), distinct(s), distinct(i), \
     approx_distinct(i), p50(x), quantile(i, 0.9), var(x), stddev(i), first(s), last(x), first(b)";

/// Columns of one type each.
struct Columns;

impl Fields for Columns {
    fn key(&self, field: &str) -> Option<DataType> {
        self.value(field)
    }
    fn value(&self, field: &str) -> Option<DataType> {
        match field {
            "i" => Some(DataType::Int64),
            "x" => Some(DataType::Float64),
            "s" => Some(DataType::Utf8),
            "b" => Some(DataType::Boolean),
            _ => None,
        }
    }
    fn names(&self) -> Vec<String> {
        ["i", "x", "s", "b"].map(str::to_owned).to_vec()
    }
    fn carried(&self, _: Carry) -> Vec<Carried> {
        Vec::new()
    }
}

/// A record: its time, and what its values come from.
type Record = (i64, Option<i64>, Option<i64>);

fn plan(key: &str) -> Plan {
    let (keys, aggregates) = ([key.to_owned()], Agg::parse_list(AGGREGATES).unwrap());
    let request = Request {
        keys: &keys,
        window: WindowSpec::new(20, 10, 0),
        session: None,
        range: None,
        aggregates: &aggregates,
        filter: None,
        having: None,
        naive: false,
        fields: None,
        carry: Carry::Nothing,
    };
    Plan::new(&request, &Columns).unwrap()
}

fn column(name: &str, records: &[Record]) -> ArrayRef {
    let values = records.iter().map(|record| record.2);
    match name {
        "i" => Arc::new(records.iter().map(|record| record.1).collect::<Int64Array>()),
        "x" => Arc::new(values.map(|value| value.map(|value| value as f64 / 3.0)).collect::<Float64Array>()),
        "s" => Arc::new(values.map(|value| value.map(|value| "x".repeat(value as usize % 5))).collect::<StringArray>()),
        _ => Arc::new(values.map(|value| value.map(|value| value % 2 == 0)).collect::<BooleanArray>()),
    }
}

/// The one piece of a block of these records.
fn piece<K: KeyRows>(plan: &Plan, records: &[Record]) -> (Vec<u8>, Vec<u8>) {
    let columns = plan.columns.iter().map(|wanted| column(&wanted.name, records)).collect();
    let times: Vec<i64> = records.iter().map(|record| record.0).collect();
    let rows = vec![Piece { rows: records.len(), times: times.into(), columns, text: None }];
    let partitioning = Partitioning::new(Some(0), 1, false, None);
    let block = map_block::<K>(plan, &partitioning, rows, Marks::default(), &mut Scratch::default()).unwrap();
    let mut pieces = Pieces::default();
    save_block(plan, &block, 0, &mut pieces);
    pieces.into_bytes()
}

/// Puts pieces together, has that taken twice, and saves what it came to: gives the pieces that these are, or none if it is
/// refused.
fn taken<K: KeyRows>(plan: &Plan, pieces: &[(&[u8], &[u8])]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut block = empty::<K>(plan);
    pieces.iter().try_for_each(|(keys, cells)| append(plan, &mut block, Bytes(keys), Bytes(cells)))?;
    let mut partition = Partition::<K>::new(plan, Budget::unlimited().lease("a test"));
    let mut saved = Vec::new();
    let mut save = || -> Result<()> {
        partition.take(plan, 0, 0, &block)?;
        partition.take(plan, 0, 1, &block)?;
        save_partition(&mut partition, |piece| {
            saved.push(piece.into_bytes());
            Ok(())
        })
    };
    save().unwrap();
    Some(saved)
}

/// Damages a piece of these records: some bytes are others, and one of its columns ends early.
fn damaged<K: KeyRows>(key: &str, records: &[Record], damage: &[(bool, usize, u8)], end: Option<(bool, usize)>) {
    let plan = plan(key);
    let (mut keys, mut cells) = piece::<K>(&plan, records);
    let (good_keys, good_cells) = (keys.clone(), cells.clone());
    let good = (&good_keys[..], &good_cells[..]);
    for (keys, cells) in taken::<K>(&plan, &[good]).expect("a piece of a block as it was written") {
        let again = taken::<K>(&plan, &[(&keys, &cells), good, (&keys, &cells)]);
        assert!(again.is_some(), "pieces of a partition and of a block as they were written");
    }
    for (of_keys, at, byte) in damage {
        let bytes = if *of_keys { &mut keys } else { &mut cells };
        let at = at % bytes.len();
        bytes[at] = *byte;
    }
    if let Some((of_keys, end)) = end {
        let bytes = if of_keys { &mut keys } else { &mut cells };
        bytes.truncate(end % bytes.len());
    }
    taken::<K>(&plan, &[(&keys, &cells)]);
    taken::<K>(&plan, &[good, (&keys, &cells), good]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_piece_is_refused_or_is_some_block(
        records in prop::collection::vec((0i64..50, prop::option::of(-3i64..4), prop::option::of(0i64..400)), 1..30),
        damage in prop::collection::vec((any::<bool>(), any::<usize>(), any::<u8>()), 0..4),
        end in prop::option::weighted(0.2, (any::<bool>(), any::<usize>())),
    ) {
        damaged::<WordRows>("i", &records, &damage, end);
        damaged::<ByteRows>("s", &records, &damage, end);
    }

    /// Bytes of any origin, behind a head that lets the decoder begin.
    #[test]
    fn any_bytes_are_refused_or_some_block(
        keys in prop::collection::vec(any::<u8>(), 0..40),
        cells in prop::collection::vec(any::<u8>(), 0..400),
        count in 0u32..4,
    ) {
        let head = |bytes: &[u8]| [&count.to_le_bytes()[..], bytes].concat();
        taken::<WordRows>(&plan("i"), &[(&head(&keys), &head(&cells))]);
        taken::<ByteRows>(&plan("s"), &[(&head(&keys), &head(&cells))]);
    }
}
