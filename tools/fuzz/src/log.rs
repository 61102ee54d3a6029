//! Segments of the log: decode anything, and open a folder with two of them.
//!
//! The first byte says whether the header's checksum is made to fit, and where the second segment begins.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;
use windrow::checkpoint::{Log, LogOptions, log};
use windrow::store::disk::{Disk, write_all_at};
use windrow::store::memory_disk::MemoryDisk;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Makes the checksums of the header and of the first record fit.
fn mended(bytes: &[u8], mend: bool) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if mend && bytes.len() >= 32 {
        bytes[..16].copy_from_slice(b"WINDROWL\x01\0\0\0\0\0\0\0");
        let sum = xxh3_64(&bytes[..24]);
        bytes[24..32].copy_from_slice(&sum.to_le_bytes());
        let first = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
        if let Some(length) = bytes.get(32..36).map(|b| u32::from_le_bytes(b.try_into().expect("four bytes")))
            && let Some(record) = bytes.get(44..).and_then(|rest| rest.get(..length as usize))
        {
            let sum = xxh3_64_with_seed(record, first ^ 32);
            bytes[36..44].copy_from_slice(&sum.to_le_bytes());
        }
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let (first, second) = bytes.split_at(bytes.len() * usize::from(how / 2) / 128);
    let disk = MemoryDisk::new("/d");
    for (name, bytes) in [("log-5-9", first), ("log-10-19", second)] {
        let bytes = mended(bytes, how % 2 == 1);
        let mut length = 32;
        if let Some((_, good)) = log::decode(&bytes, |_, record| length += 12 + record.len()) {
            assert!(good == length && good <= bytes.len());
        }
        write_all_at(&*disk.create(&Path::new("/d").join(name)).expect("created"), 0, &bytes).expect("written");
    }
    for skip in [false, true] {
        let open = || {
            let mut records = Vec::new();
            let options = LogOptions::default().skip_damaged(skip);
            let log = Log::open(Arc::new(disk.clone()), "/d", options, 0, |handle, record| {
                records.push((handle.number, record.to_vec()));
                Ok(())
            });
            log.map(|log| (records, log.lost(), log.next()))
        };
        match (open(), open()) {
            (Ok(once), Ok(twice)) => assert!(once == twice && once.0.is_sorted_by_key(|record| record.0)),
            (Err(error), Err(_)) => assert!(!skip && error.to_string().contains("the log is damaged here"), "{error}"),
            _ => panic!("opened once, and not twice"),
        }
    }
});
