//! The folder of checkpoints under damage, crashes and failing disks.

use super::{Directory, Manifest};
use crate::store::disk::write_all_at;
use crate::store::memory_disk::MemoryDisk;
use crate::{ErrorKind, Result};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

fn open(disk: &MemoryDisk) -> Result<Directory> {
    Directory::open(Arc::new(disk.clone()), "/d/c")
}

/// A checkpoint of one file that holds `text`.
fn commit(directory: &mut Directory, text: &str) -> Result<()> {
    let name = directory.name("state");
    let failed = |e| crate::Error::from(e);
    let file = directory.disk().create(&directory.path().join(&name)).map_err(failed)?;
    write_all_at(&*file, 0, text.as_bytes()).and_then(|()| file.sync()).map_err(failed)?;
    directory.commit(vec![name], text.as_bytes().to_vec())
}

/// What the newest checkpoint says, if its file says the same.
fn last(directory: &Directory) -> Option<String> {
    let last = directory.last()?;
    let file = directory.disk().open(&directory.path().join(&last.files[0])).expect("the file is there");
    let mut text = vec![0; last.body.len()];
    crate::store::disk::read_exact_at(&*file, 0, &mut text).expect("all of it");
    assert_eq!(text, last.body);
    Some(String::from_utf8(text).expect("text"))
}

proptest! {
    #[test]
    fn a_slot_holds_what_was_put_into_it(
        number in any::<u64>(), files in prop::collection::vec(".{0,9}", 0..5), body in prop::collection::vec(any::<u8>(), 0..60),
        at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let manifest = Manifest { number, files, body };
        let mut bytes = manifest.encode();
        prop_assert_eq!(&Manifest::decode(&bytes).unwrap(), &manifest);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Manifest::decode(&bytes).is_err(), "byte {} may be anything", at);
        prop_assert!(Manifest::decode(&bytes[..at]).is_err());
    }
}

/// The newest whole one wins; a damaged one falls back with a warning; two are an error; old files go, needed ones stay.
#[test]
fn two_slots_flip() {
    let disk = MemoryDisk::new("/d");
    let mut directory = open(&disk).unwrap();
    assert_eq!((last(&directory), directory.warning()), (None, None));
    for text in ["one", "two", "three", "four"] {
        commit(&mut directory, text).unwrap();
        assert_eq!(last(&directory).as_deref(), Some(text));
    }
    let states = |disk: &MemoryDisk| disk.files().iter().filter(|f| f.extension().is_some()).count();
    assert_eq!(states(&disk), 2, "those of the newest and of the one before");
    let error = open(&disk).unwrap_err();
    assert_eq!(error.to_string(), "/d/c: another run writes its checkpoints here; wait for it, or name another folder");
    drop(directory);

    let newest = (0..2).map(|n| Path::new("/d/c").join(format!("manifest-{n}")));
    let newest: Vec<_> = newest.collect();
    // The fourth is in the second slot.
    disk.damage(&newest[1], |bytes| bytes[41] ^= 1);
    let directory = open(&disk).unwrap();
    assert_eq!(last(&directory).as_deref(), Some("three"));
    assert_eq!(
        directory.warning(),
        Some("/d/c/manifest-1: byte 32: it is damaged: its checksum does not fit; going on from the checkpoint before")
    );
    drop(directory);
    disk.damage(&newest[0], |bytes| bytes.truncate(20));
    let error = open(&disk).unwrap_err();
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::Io, "/d/c/manifest-0: byte 32: it is cut short".into()));
}

/// A damaged slot is the one that is written next.
#[test]
fn the_damaged_slot_is_replaced() {
    let disk = MemoryDisk::new("/d");
    let mut directory = open(&disk).unwrap();
    ["one", "two"].iter().for_each(|text| commit(&mut directory, text).unwrap());
    drop(directory);
    disk.damage(Path::new("/d/c/manifest-1"), |bytes| bytes.clear());
    let mut directory = open(&disk).unwrap();
    commit(&mut directory, "three").unwrap();
    drop(directory);
    let directory = open(&disk).unwrap();
    assert_eq!((last(&directory).as_deref(), directory.warning()), (Some("three"), None));
}

/// Every write and sync fails in turn, and the machine goes down there, with all, some or none of what was not synced.
#[test]
fn whatever_fails_the_newest_complete_one_is_found() {
    let texts = ["one", "two", "three"];
    let run = |disk: &MemoryDisk| {
        let mut done = 0;
        let outcome = open(disk).and_then(|mut directory| {
            texts.iter().try_for_each(|text| {
                commit(&mut directory, text)?;
                done += 1;
                Ok(())
            })
        });
        (done, outcome)
    };
    let good = MemoryDisk::new("/d");
    assert_eq!(run(&good).0, 3);
    for n in 0..good.operations() {
        let disk = MemoryDisk::new("/d");
        disk.fail_at(Some(n));
        let (done, outcome) = run(&disk);
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains("the disk failed, as it was told to"), "{error}");
        for after in [disk.clone(), disk.crash(0.0), disk.crash(0.5), disk.crash(1.0)] {
            let directory = open(&after).unwrap();
            let found = last(&directory).map_or(0, |text| texts.iter().position(|t| **t == text).unwrap() + 1);
            assert!(found == done || found == done + 1, "operation {n}: {done} were complete, {found} is found");
            assert_eq!(directory.warning(), None);
        }
    }
}

#[test]
fn places_that_cannot_be_used_are_named() {
    let error = Directory::open(Arc::new(MemoryDisk::new("/d")), "/d/x/y").unwrap_err().to_string();
    assert_eq!(error, "/d/x/y: there is no such folder for checkpoints, and none to create it in");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "text").unwrap();
    let error = Directory::open(Arc::new(crate::store::disk::OsDisk), &file).unwrap_err();
    assert!(error.to_string().contains("the folder for checkpoints cannot be used"), "{error}");
}
