//! The scenarios of write-ahead logs that public engines test (named after their rows), crashes, and failing disks.

use super::log::decode;
use super::{Handle, Log, LogOptions};
use crate::store::disk::{Disk, write_all_at};
use crate::store::memory_disk::MemoryDisk;
use crate::{Error, Result};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const OPTIONS: fn() -> LogOptions = || LogOptions::default().roll(1000);

fn open_from(disk: &MemoryDisk, options: LogOptions, from: u64) -> Result<(Log, Vec<String>)> {
    let mut texts = Vec::new();
    let log = Log::open(Arc::new(disk.clone()), "/d/log", options, from, |handle, text| {
        assert_eq!(handle.number, from + texts.len() as u64);
        texts.push(String::from_utf8_lossy(text).into_owned());
        Ok(())
    })?;
    Ok((log, texts))
}

fn open(disk: &MemoryDisk) -> Result<(Log, Vec<String>)> {
    open_from(disk, OPTIONS(), 0)
}

fn texts(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Appends `texts` and commits, one every `step` milliseconds from `start` on.
fn write(log: &mut Log, texts: &[String], start: u64, step: u64) -> Vec<Handle> {
    let at = (start..).step_by(step as usize);
    let handles = texts.iter().zip(at).map(|(text, now)| log.append(now, text.as_bytes()).unwrap()).collect();
    log.commit().unwrap();
    handles
}

fn segments(disk: &MemoryDisk) -> Vec<PathBuf> {
    disk.files().into_iter().filter(|f| f.starts_with("/d/log")).collect()
}

#[test]
fn a1_a6_records_are_read_by_their_handles_in_any_order() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open(&disk).unwrap();
    let want = texts(1..=100);
    let handles = write(&mut log, &want, 0, 1);
    for stride in [1, 3, 7, 9, 11, 13, 17, 19, 21, 23] {
        for i in (0..100).map(|i| i * stride % 100) {
            assert_eq!(log.read(&handles[i]).unwrap(), want[i].as_bytes());
        }
    }
}

#[test]
fn a2_a_record_is_read_at_once() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open(&disk).unwrap();
    for text in texts(1..=100) {
        let handle = log.append(0, text.as_bytes()).unwrap();
        assert_eq!(log.read(&handle).unwrap(), text.as_bytes());
    }
}

#[test]
fn a3_a_segment_is_read_from_start_to_end() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &texts(1..=100), 0, 1);
    assert_eq!(open(&disk).unwrap().1, texts(1..=100));
    assert_eq!(segments(&disk), [Path::new("/d/log/log-0-1000")]);
}

#[test]
fn a4_a5_garbage_and_a_cut_at_the_end_cost_no_other_record() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &texts(1..=100), 0, 1);
    let path = &segments(&disk)[0];
    disk.damage(path, |bytes| bytes.extend_from_slice(b"this is garbage, no record."));
    assert_eq!(open(&disk).unwrap().1, texts(1..=100));
    disk.damage(path, |bytes| bytes.truncate(bytes.len() - 28));
    let (mut log, read) = open(&disk).unwrap();
    assert_eq!(read, texts(1..=99));
    // Who goes on then loses nothing either, and the tail stays what it was.
    write(&mut log, &texts(200..=210), 50, 1);
    assert_eq!(open(&disk).unwrap().1, [texts(1..=99), texts(200..=210)].concat());
}

#[test]
fn a8_nothing_is_created_before_a_record_is_appended() {
    let disk = MemoryDisk::new("/d");
    let (mut log, read) = open(&disk).unwrap();
    assert_eq!((read.len(), log.segments()), (0, 0));
    log.commit().unwrap();
    log.clean(9999, 9999);
    assert_eq!(disk.dirs(), [Path::new("/d")]);
    let other = MemoryDisk::new("/d");
    let handle = open(&other).unwrap().0.append(0, b"x").unwrap();
    assert!(log.read(&handle).is_err());
    assert_eq!(disk.dirs(), [Path::new("/d")]);
}

#[test]
fn b1_b2_segments_roll_and_are_ordered_by_number() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &texts(1..=100), 500, 500);
    assert!(segments(&disk).len() > 30);
    // Rotation is strict: 500, 1000 and 1500 are in the first.
    assert!(
        segments(&disk).contains(&"/d/log/log-500-1500".into())
            && segments(&disk).contains(&"/d/log/log-2000-3000".into())
    );
    for foreign in ["log-x-y", "log-5", "other", "log-1-2-3"] {
        disk.create(&Path::new("/d/log").join(foreign)).unwrap();
    }
    assert_eq!(open(&disk).unwrap().1, texts(1..=100));
}

#[test]
fn b3_every_record_may_have_a_segment_of_its_own() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open_from(&disk, OPTIONS().close_each(true), 0).unwrap();
    write(&mut log, &texts(1..=3), 0, 100);
    assert_eq!((segments(&disk).len(), open(&disk).unwrap().1), (3, texts(1..=3)));
}

#[test]
fn b4_b5_b7_a_new_log_goes_on_behind_the_old_segments() {
    let disk = MemoryDisk::new("/d");
    for set in 0..3 {
        let (mut log, read) = open(&disk).unwrap();
        assert_eq!((read, log.next()), (texts(1..=1000 * set), u64::from(1000 * set)));
        write(&mut log, &texts(1000 * set + 1..=1000 * set + 1000), 100_000 * u64::from(set), 10);
    }
    assert_eq!(segments(&disk).len(), 30);
    assert_eq!(open(&disk).unwrap().1, texts(1..=3000));
    assert_eq!(open_from(&disk, OPTIONS(), 2990).unwrap().1, texts(2991..=3000));
}

#[test]
fn b6_segments_that_ended_are_cleaned_never_the_current_one() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &texts(1..=100), 0, 100);
    let before = log.segments();
    // Nothing that is still needed goes.
    log.clean(u64::MAX, 0);
    assert_eq!(log.segments(), before);
    log.clean(5000, 100);
    let after = segments(&disk);
    assert!(after.len() < before && after.len() == log.segments());
    log.clean(u64::MAX, 100);
    assert_eq!(log.segments(), 1);
    assert!(log.append(9_950, b"x").is_ok());
}

#[test]
fn b8_unreadable_segments_do_not_stop_later_ones_if_that_is_asked_for() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &texts(1..=100), 0, 100);
    let first = segments(&disk);
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &texts(101..=200), 100_000, 100);
    for path in &first {
        disk.damage(path, |bytes| bytes.truncate(1));
    }
    let error = open(&disk).unwrap_err().to_string();
    assert!(error.starts_with("/d/log/log-") && error.contains("--skip-damaged"), "{error}");
    let mut read = Vec::new();
    let log = Log::open(Arc::new(disk.clone()), "/d/log", OPTIONS().skip_damaged(true), 0, |handle, text| {
        read.push((handle.number, String::from_utf8_lossy(text).into_owned()));
        Ok(())
    });
    assert_eq!(log.unwrap().lost(), 100);
    assert_eq!(read.into_iter().map(|r| r.1).collect::<Vec<_>>(), texts(101..=200));
    // Whoever needs none of them does not notice.
    assert_eq!(open_from(&disk, OPTIONS(), 100).unwrap().1, texts(101..=200));
}

#[test]
fn b9_segments_that_come_back_change_nothing() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open(&disk).unwrap();
    write(&mut log, &texts(1..=100), 0, 100);
    let old: Vec<(PathBuf, Vec<u8>)> = segments(&disk)
        .into_iter()
        .map(|path| {
            let mut copy = Vec::new();
            disk.damage(&path, |bytes| copy.clone_from(bytes));
            (path, copy)
        })
        .collect();
    log.clean(8000, 70);
    let left = open_from(&disk, OPTIONS(), 70).unwrap().1;
    for (path, bytes) in old {
        if let Ok(file) = disk.create(&path) {
            write_all_at(&*file, 0, &bytes).unwrap();
        }
        assert_eq!(open_from(&disk, OPTIONS(), 70).unwrap().1, left);
    }
    assert_eq!(left, texts(71..=100));
}

#[test]
fn b10_writes_are_tried_again_syncs_are_not() {
    let disk = MemoryDisk::new("/d");
    let (mut log, _) = open(&disk).unwrap();
    log.append(0, b"one").unwrap();
    disk.fail_at(Some(0));
    log.commit().unwrap();
    assert_eq!(open(&disk).unwrap().1, ["one"]);
    log.append(0, b"two").unwrap();
    disk.fail_at(Some(1));
    let error = log.commit().unwrap_err().to_string();
    assert!(error.contains("cannot be synced"), "{error}");
    assert!(log.commit().is_err() && log.append(0, b"three").is_err(), "nothing goes on as if nothing had happened");
    let (mut log, _) = open_from(&disk, OPTIONS().failures(0), 0).unwrap();
    log.append(0, b"four").unwrap();
    disk.fail_at(Some(0));
    assert!(log.commit().unwrap_err().to_string().contains("the log cannot be written"));
}

/// Every write and sync fails in turn: what was committed is there, what was not is there from the front or not at all.
#[test]
fn what_was_committed_survives_everything() {
    let run = |disk: &MemoryDisk| {
        let (mut taken, mut committed) = (0, 0);
        let mut step = || {
            let (mut log, read) = open_from(disk, OPTIONS().failures(0), 0)?;
            taken = read.len();
            let first = taken;
            for n in first..first + 12 {
                log.append(n as u64 * 300, format!("record {n}").as_bytes())?;
                taken = n + 1;
                if n % 3 == 0 {
                    log.commit()?;
                    committed = taken;
                }
            }
            log.commit()?;
            committed = taken;
            Ok::<_, Error>(())
        };
        let outcome = step();
        (taken, committed, outcome)
    };
    let good = MemoryDisk::new("/d");
    run(&good).2.unwrap();
    for n in 0..good.operations() {
        let disk = MemoryDisk::new("/d");
        disk.fail_at(Some(n));
        let (taken, committed, outcome) = run(&disk);
        assert!(outcome.is_err());
        for torn in [Some(0.0), Some(0.4), Some(0.9), Some(1.0), None] {
            let after = torn.map_or_else(|| disk.clone(), |torn| disk.crash(torn));
            let (_, read) = open(&after).unwrap();
            assert!((committed..=taken).contains(&read.len()), "operation {n}: {committed} {} {taken}", read.len());
            assert!(read.iter().enumerate().all(|(i, text)| *text == format!("record {i}")));
            // And it goes on.
            run(&after).2.unwrap();
            assert_eq!(open(&after).unwrap().1.len(), read.len() + 12);
        }
    }
}

proptest! {
    /// A7: bytes that say anything: no panic, no allocation, and no record that was not written.
    #[test]
    fn a7_lies_are_no_records(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
        lies in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5), cut in any::<prop::sample::Index>(),
    ) {
        let disk = MemoryDisk::new("/d");
        let (mut log, _) = open(&disk).unwrap();
        log.append(0, b"first").unwrap();
        records.iter().for_each(|record| drop(log.append(0, record).unwrap()));
        log.commit().unwrap();
        let mut bytes = Vec::new();
        disk.damage(&segments(&disk)[0], |b| bytes.clone_from(b));
        for (at, byte) in lies {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        let mut found = Vec::new();
        decode(&bytes, |_, record| found.push(record.to_vec()));
        let mut all = vec![b"first".to_vec()];
        all.extend(records);
        prop_assert!(all.starts_with(&found));
    }
}

/// Found by fuzzing: a header may say that its first record is the last number that there is.
#[test]
fn numbers_do_not_begin_anew() {
    let segment = |first: u64| {
        let disk = MemoryDisk::new("/d");
        let (mut log, _) = open_from(&disk, OPTIONS(), first).unwrap();
        write(&mut log, &texts(1..=1), 0, 1);
        let mut bytes = Vec::new();
        disk.damage(&segments(&disk)[0], |of| bytes.clone_from(of));
        bytes
    };
    assert!(decode(&segment(7), |number, _| assert_eq!(number, 7)).is_some());
    assert!(decode(&segment(u64::MAX / 2), |_, _| ()).is_some());
    assert!(decode(&segment(u64::MAX - 1), |_, _| ()).is_none());
}
