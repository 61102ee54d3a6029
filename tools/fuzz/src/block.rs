//! Blocks of spill files: decode anything, and encode what was decoded.
//!
//! The first byte says whether the checksum is made to fit, so that what is behind it is reached.

#![no_main]

use libfuzzer_sys::fuzz_target;
use windrow::store::block::{Packer, decode};
use windrow::store::column::{Column, ColumnRef};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fuzz_target!(|data: &[u8]| {
    let Some((mend, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mend % 2 == 1 && bytes.len() >= 48 {
        let length = bytes.len() as u32;
        bytes[8..12].copy_from_slice(&length.to_le_bytes());
        let sum = xxh3_64_with_seed(&bytes[48..], xxh3_64(&bytes[..40]));
        bytes[40..48].copy_from_slice(&sum.to_le_bytes());
    }
    let Ok(block) = decode(&bytes) else { return };
    let held: usize = block.columns.iter().map(Column::capacity).sum();
    assert!(held <= 600 * bytes.len(), "{held} bytes of memory from {}", bytes.len());
    let views: Vec<ColumnRef> = block.columns.iter().map(Column::view).collect();
    let mut again = Vec::new();
    Packer::default().encode(&block.label, &views, &mut again).expect("what was decoded can be encoded");
    let second = decode(&again).expect("what was encoded can be decoded");
    assert_eq!(second.label, block.label);
    // Debug forms, since NaN is not equal to itself.
    assert_eq!(format!("{:?}", second.columns), format!("{:?}", block.columns));
});
