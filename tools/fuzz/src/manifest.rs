//! Manifests of checkpoints: decode anything, and open a folder whose slots hold it.
//!
//! The first byte says whether the checksum is made to fit, and where the second slot begins.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::Arc;
use windrow::checkpoint::{Directory, Manifest};
use windrow::store::disk::{Disk, write_all_at};
use windrow::store::memory_disk::MemoryDisk;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fn mended(bytes: &[u8], mend: bool) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if mend && bytes.len() >= 40 {
        bytes[..16].copy_from_slice(b"WINDROWC\x01\0\0\0\0\0\0\0");
        let sum = xxh3_64_with_seed(&bytes[40..], xxh3_64(&bytes[..32]));
        bytes[32..40].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

fuzz_target!(|data: &[u8]| {
    let Some((how, bytes)) = data.split_first() else { return };
    let (first, second) = bytes.split_at(bytes.len() * usize::from(how / 2) / 128);
    let slots = [mended(first, how % 2 == 1), mended(second, how % 2 == 1)];
    let disk = MemoryDisk::new("/d");
    let mut good = 0;
    for (n, bytes) in slots.iter().enumerate() {
        if let Ok(manifest) = Manifest::decode(bytes) {
            assert_eq!(Manifest::decode(&manifest.encode()).as_ref(), Ok(&manifest));
            good += 1;
        }
        let path = format!("/d/manifest-{n}");
        write_all_at(&*disk.create(Path::new(&path)).expect("created"), 0, bytes).expect("written");
    }
    match Directory::open(Arc::new(disk), "/d") {
        Err(error) => assert!(good == 0 && error.to_string().starts_with("/d/manifest-"), "{error}"),
        Ok(directory) => assert!(good > 0 && directory.last().is_some() && directory.warning().is_some() == (good == 1)),
    }
});
