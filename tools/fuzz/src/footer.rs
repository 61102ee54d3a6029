//! Segments with footers: open anything as a file, and read every block that its index names.
//!
//! The first byte says whether the footer's checksum is made to fit.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use windrow::store::disk::{Disk, write_all_at};
use windrow::store::memory_disk::MemoryDisk;
use windrow::store::segment::{Footer, Segment};
use xxhash_rust::xxh3::xxh3_64;

fuzz_target!(|data: &[u8]| {
    let Some((mend, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mend % 2 == 1 && bytes.len() >= 48 {
        bytes[..16].copy_from_slice(b"WINDROWS\x01\0\0\0\0\0\0\0");
        let end = bytes.len();
        bytes[end - 8..].copy_from_slice(b"WINDROWF");
        let count = u64::from_le_bytes(bytes[end - 24..end - 16].try_into().expect("eight bytes"));
        let entries = count.saturating_mul(48).saturating_add(32);
        if let Some(begin) = (end as u64).checked_sub(entries) {
            bytes[end - 32..end - 24].copy_from_slice(&begin.to_le_bytes());
            let sum = xxh3_64(&bytes[begin as usize..end - 16]);
            bytes[end - 16..end - 8].copy_from_slice(&sum.to_le_bytes());
        }
    }
    if let Ok(footer) = Footer::decode(&bytes) {
        assert!(footer.entries.len() * 48 + 32 == bytes.len());
    }
    let disk = MemoryDisk::new("/d");
    let path = Path::new("/d/s");
    write_all_at(&*disk.create(path).expect("created"), 0, &bytes).expect("written");
    match Segment::open(&disk, path) {
        Err(error) => assert!(error.to_string().starts_with("/d/s: byte "), "{error}"),
        Ok(segment) => {
            for entry in segment.entries() {
                if let Err(error) = segment.read(entry) {
                    assert!(error.to_string().starts_with("/d/s: byte "), "{error}");
                }
            }
        }
    }
});
