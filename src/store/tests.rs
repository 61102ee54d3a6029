//! Blocks, segments and spill folders against vectors in memory, on disks that fail.

use super::block::{Block, Content, HEADER, Label, Packer, decode};
use super::column::{Bits, Column, ColumnRef, Slice, twin};
use super::disk::{Disk, OsDisk, read_exact_at, write_all_at};
use super::memory_disk::MemoryDisk;
use super::segment::{Footer, Segment, SegmentWriter};
use super::spill_dir::SpillDir;
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

/// A column of some type from numbers; a multiple of three is null if nulls are asked for.
pub(crate) fn column(ty: u8, numbers: &[u64], nulls: bool) -> Column {
    let texts: Vec<u8> = numbers.iter().flat_map(|n| vec![*n as u8; (*n % 5) as usize]).collect();
    let mut offsets = vec![0];
    offsets.extend(numbers.iter().scan(0, |end, n| {
        *end += (n % 5) as u32;
        Some(*end)
    }));
    let bytes: Vec<u8> = numbers.iter().map(|n| *n as u8).collect();
    let words: Vec<u32> = numbers.iter().map(|n| *n as u32).collect();
    let integers: Vec<i64> = numbers.iter().map(|n| *n as i64).collect();
    let floats: Vec<f64> = numbers.iter().map(|n| f64::from_bits(*n)).collect();
    let wide: Vec<i128> = numbers.iter().map(|n| i128::from(*n) << 60).collect();
    let values = match ty % 7 {
        0 => Slice::U8(&bytes),
        1 => Slice::U32(&words),
        2 => Slice::U64(numbers),
        3 => Slice::I64(&integers),
        4 => Slice::F64(&floats),
        5 => Slice::I128(&wide),
        _ => Slice::Bytes { offsets: &offsets, data: &texts },
    };
    let mut bitmap = vec![0u8; numbers.len().div_ceil(8)];
    for (i, n) in numbers.iter().enumerate().filter(|(_, n)| !n.is_multiple_of(3)) {
        bitmap[i / 8] |= u8::from(*n > 0) << (i % 8);
    }
    let validity = nulls.then_some(Bits { bytes: &bitmap, offset: 0 });
    ColumnRef { values, validity }.to_column()
}

fn numbers() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![0u64..20, any::<u64>()], 0..60)
}

fn columns() -> impl Strategy<Value = Vec<Column>> {
    let one = (0u8..7, numbers(), any::<bool>()).prop_map(|(ty, numbers, nulls)| column(ty, &numbers, nulls));
    prop::collection::vec(one, 0..5)
}

fn label(partition: u32) -> Label {
    Label { content: Content::Runs, partition, first: 3, last: u64::MAX, rows: 17 }
}

fn encode(columns: &[Column], partition: u32) -> Vec<u8> {
    let views: Vec<ColumnRef> = columns.iter().map(Column::view).collect();
    let mut out = b"before".to_vec();
    let length = Packer::default().encode(&label(partition), &views, &mut out).unwrap();
    assert_eq!(out.len() - 6, length as usize);
    out.split_off(6)
}

fn values(columns: &[Column]) -> Vec<Vec<Option<Vec<u8>>>> {
    columns.iter().map(|c| twin::values(&c.view())).collect()
}

proptest! {
    #[test]
    fn a_block_holds_what_was_put_into_it(columns in columns()) {
        let block = decode(&encode(&columns, 5)).unwrap();
        prop_assert_eq!(block.label, label(5));
        prop_assert_eq!(values(&block.columns), values(&columns));
    }

    /// Appending, cutting and scattering against the values one by one.
    #[test]
    fn columns_are_what_their_values_are(
        ty in 0u8..7, a in numbers(), b in numbers(), nulls in any::<(bool, bool)>(), cut in any::<[prop::sample::Index; 2]>(),
    ) {
        let mut all = column(ty, &a, nulls.0);
        all.append(&column(ty, &b, nulls.1).view());
        let mut want = twin::values(&column(ty, &a, nulls.0).view());
        want.extend(twin::values(&column(ty, &b, nulls.1).view()));
        prop_assert_eq!(twin::values(&all.view()), want.clone());

        let (x, y) = (cut[0].index(want.len() + 1), cut[1].index(want.len() + 1));
        let range = x.min(y)..x.max(y);
        let part = all.view().slice(range.clone());
        prop_assert_eq!(twin::values(&part), want[range.clone()].to_vec());
        prop_assert_eq!(twin::values(&part.to_column().view()), want[range.clone()].to_vec());
        let mut bytes = Vec::new();
        Packer::default().encode(&label(0), &[part], &mut bytes).unwrap();
        prop_assert_eq!(twin::values(&decode(&bytes).unwrap().columns[0].view()), want[range].to_vec());

        let backwards: Vec<u32> = (0..want.len() as u32).rev().collect();
        want.reverse();
        prop_assert_eq!(twin::values(&all.view().scatter(&backwards).view()), want);
    }

    /// A flipped bit is noticed wherever it is; other bytes are refused too.
    #[test]
    fn damage_is_an_error(columns in columns(), at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let mut bytes = encode(&columns, 5);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << bit;
        }
        prop_assert!(decode(&bytes).is_err());
    }

    /// Bytes that pass every checksum and say anything: no panic, and no allocation beyond what they can hold.
    #[test]
    fn lies_are_an_error_too(columns in columns(), lies in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9)) {
        let mut bytes = encode(&columns, 5);
        for (at, byte) in lies {
            let at = at.index(bytes.len());
            if !(8..12).contains(&at) {
                bytes[at] = byte;
            }
        }
        let seed = xxhash_rust::xxh3::xxh3_64(&bytes[..40]);
        let sum = xxhash_rust::xxh3::xxh3_64_with_seed(&bytes[HEADER..], seed);
        bytes[40..48].copy_from_slice(&sum.to_le_bytes());
        if let Ok(block) = decode(&bytes) {
            values(&block.columns);
        }
    }

    #[test]
    fn a_segment_holds_its_blocks(blocks in prop::collection::vec(columns(), 0..9), short in any::<bool>()) {
        let disk = MemoryDisk::new("/d");
        disk.short(short);
        let mut writer = SegmentWriter::create(&disk, "/d/s").unwrap();
        for (i, columns) in blocks.iter().enumerate() {
            let views: Vec<ColumnRef> = columns.iter().map(Column::view).collect();
            writer.append(label(i as u32), &views).unwrap();
        }
        let written = writer.keep().unwrap();
        let segment = Segment::open(&disk, "/d/s").unwrap();
        prop_assert_eq!(segment.entries(), written.entries());
        prop_assert_eq!(segment.entries().len(), blocks.len());
        for (i, (entry, columns)) in segment.entries().iter().zip(&blocks).enumerate() {
            let block = segment.read(entry).unwrap();
            prop_assert_eq!(block.label.partition, i as u32);
            prop_assert_eq!(values(&block.columns), values(columns));
        }
    }
}

/// The same blocks through the mapping and through plain reads, in a folder that is private.
#[test]
fn the_operating_system_gives_what_memory_gives() {
    let base = tempfile::tempdir().unwrap();
    let dir = SpillDir::create(base.path()).unwrap();
    let memory = MemoryDisk::new(dir.path());
    let name = dir.name();
    let rows = column(2, &(0..10_000).collect::<Vec<u64>>(), true);
    let disks: [&dyn Disk; 2] = [&OsDisk, &memory];
    let [mapped, read]: [Vec<Block>; 2] = disks.map(|disk| {
        let mut writer = SegmentWriter::create(disk, &name).unwrap();
        for part in 0..10 {
            writer.append(label(part), &[rows.view().slice(part as usize * 1000..10_000)]).unwrap();
        }
        let segment = writer.seal().unwrap();
        segment.entries().iter().map(|e| segment.read(e).unwrap()).collect()
    });
    assert_eq!(mapped, read);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(dir.path()), mode(&name), mode(&dir.path().join("lock"))), (0o700, 0o600, 0o600));
    }
    // A mapping beyond the end is refused, not a signal.
    let file = OsDisk.open(&name).unwrap();
    assert!(file.map(file.len().unwrap() - 10, 11).is_err());
    assert!(file.map(u64::MAX, 2).is_err());
    let second = dir.clone();
    drop(dir);
    assert!(second.path().exists());
    drop(second);
    assert_eq!(base.path().read_dir().unwrap().count(), 0);
}

/// What a process that was killed has left is swept; what a living run has is not.
#[test]
fn only_the_dead_are_swept() {
    let base = tempfile::tempdir().unwrap();
    let living = SpillDir::create(base.path()).unwrap();
    let name = living.name();
    OsDisk.create(&name).unwrap();
    let dead = base.path().join("windrow-spill-1-0");
    OsDisk.create_dir(&dead).unwrap();
    for file in ["lock", "0.spill"] {
        OsDisk.create(&dead.join(file)).unwrap();
    }
    // Dead before it had a lock; and what is not windrow's.
    OsDisk.create_dir(&base.path().join("windrow-spill-2-0")).unwrap();
    let foreign = base.path().join("windrow-spill-of-somebody");
    OsDisk.create_dir(&foreign).unwrap();
    OsDisk.create(&foreign.join("letter.txt")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(&foreign, base.path().join("windrow-spill-link")).unwrap();

    let next = SpillDir::create(base.path()).unwrap();
    assert!(!dead.exists() && !base.path().join("windrow-spill-2-0").exists());
    assert!(name.exists() && foreign.join("letter.txt").exists());
    drop(living);
    assert!(!name.exists());
    drop(next);
    let missing = SpillDir::create(base.path().join("nowhere")).unwrap_err().to_string();
    assert!(
        missing.ends_with("the spill directory does not exist; create it, or name another with --spill-dir"),
        "{missing}"
    );
}

/// A crash leaves whole segments or ones that are refused, never wrong values.
#[test]
fn a_crash_leaves_what_was_synced() {
    let disk = MemoryDisk::new("/d");
    let rows = column(6, &(0..500).collect::<Vec<u64>>(), true);
    let write = |name: &str| {
        let mut writer = SegmentWriter::create(&disk, name).unwrap();
        (0..5).for_each(|part| writer.append(label(part), &[rows.view()]).unwrap());
        writer
    };
    write("/d/kept").keep().unwrap();
    disk.sync_dir(Path::new("/d")).unwrap();
    write("/d/unnamed").keep().unwrap();
    let torn = write("/d/torn");
    disk.sync_dir(Path::new("/d")).unwrap();
    disk.remove(Path::new("/d/unnamed")).unwrap();
    drop(torn.seal());
    for (tenth, share) in (0..=10).map(|i| (i, f64::from(i) / 10.0)) {
        let after = disk.crash(share);
        // The removal of a name was not synced either.
        assert_eq!(after.files(), ["/d/kept", "/d/torn", "/d/unnamed"].map(Path::new));
        let kept = Segment::open(&after, "/d/kept").unwrap();
        assert!(kept.entries().iter().all(|e| kept.read(e).unwrap().columns[0] == rows));
        let error = Segment::open(&after, "/d/torn").unwrap_err().to_string();
        assert!(error.starts_with("/d/torn: byte "), "{tenth}: {error}");
    }
    let _ = SpillDir::create_on(Arc::new(disk), "/d").unwrap();
}

#[test]
fn a_full_disk_and_every_failing_write_end_in_a_sentence() {
    let rows = column(3, &(0..100).map(|i| 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(i)).collect::<Vec<u64>>(), false);
    let run = |disk: &MemoryDisk| {
        let mut writer = SegmentWriter::create(disk, "/d/s")?;
        for part in 0..5 {
            writer.append(label(part), &[rows.view()])?;
        }
        writer.keep()
    };
    let good = MemoryDisk::new("/d");
    run(&good).unwrap();
    assert!(good.operations() > 5);
    for n in 0..good.operations() {
        let disk = MemoryDisk::new("/d");
        disk.fail_at(Some(n));
        let error = run(&disk).unwrap_err().to_string();
        assert!(error.starts_with("/d/s: ") && error.ends_with("the disk failed, as it was told to"), "{error}");
    }
    let disk = MemoryDisk::new("/d");
    disk.capacity(Some(1000));
    let error = run(&disk).unwrap_err();
    assert_eq!(error.io().map(std::io::Error::kind), Some(std::io::ErrorKind::StorageFull));
    assert!(error.to_string().starts_with("/d/s: byte "), "{error}");
}

#[test]
fn foreign_files_and_damaged_footers_are_refused() {
    let disk = MemoryDisk::new("/d");
    let mut writer = SegmentWriter::create(&disk, "/d/s").unwrap();
    (0..3).for_each(|part| writer.append(label(part), &[column(1, &[1, 2, 3], true).view()]).unwrap());
    let len = { writer.keep().unwrap().entries().len() * 48 + 32 };
    let mut whole = Vec::new();
    disk.damage(Path::new("/d/s"), |bytes| whole.clone_from(bytes));
    for at in whole.len() - len..whole.len() {
        disk.damage(Path::new("/d/s"), |bytes| bytes[at] ^= 0x10);
        assert!(Segment::open(&disk, "/d/s").is_err(), "byte {at}");
        disk.damage(Path::new("/d/s"), |bytes| bytes[at] ^= 0x10);
    }
    for at in 0..whole.len() {
        disk.damage(Path::new("/d/s"), |bytes| bytes.truncate(at));
        assert!(Segment::open(&disk, "/d/s").is_err(), "{at} bytes");
        disk.damage(Path::new("/d/s"), |bytes| bytes.clone_from(&whole));
    }
    let footer = &whole[whole.len() - len..];
    assert_eq!(Footer::decode(footer).unwrap().entries.len(), 3);
    let segment = Segment::open(&disk, "/d/s").unwrap();
    disk.damage(Path::new("/d/s"), |bytes| bytes[100] ^= 1);
    let error = segment.read(&segment.entries()[0]).unwrap_err().to_string();
    assert_eq!(error, "/d/s: byte 56: the block is damaged: its checksum does not fit");
}

#[test]
fn positions_hold_on_the_disk_in_memory() {
    let disk = MemoryDisk::new("/d");
    disk.short(true);
    let file = disk.create(Path::new("/d/f")).unwrap();
    write_all_at(&*file, 3, b"0123456789abcdefghij").unwrap();
    let mut back = [0; 20];
    read_exact_at(&*file, 3, &mut back).unwrap();
    assert_eq!((&back, file.len().unwrap()), (b"0123456789abcdefghij", 23));
    assert!(read_exact_at(&*file, 4, &mut back).is_err());
    assert!(disk.remove_dir(Path::new("/d")).is_err() && disk.create_dir(Path::new("/x/y")).is_err());
}

/// The seeds of the fuzz targets `block` and `footer` are of the format of today. `WINDROW_WRITE_SEEDS=1` writes them anew.
#[test]
fn seeds_of_the_fuzz_targets_are_of_this_format() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/fuzz/seeds");
    let numbers: Vec<u64> = (0..40).map(|i| i * i).collect();
    for (target, columns) in [("block", 0..8u8), ("footer", 0..4)] {
        for n in columns {
            let columns: Vec<Column> = (0..n).map(|ty| column(ty, &numbers, ty % 2 == n % 2)).collect();
            let bytes = if target == "block" {
                encode(&columns, 1)
            } else {
                let disk = MemoryDisk::new("/d");
                let mut writer = SegmentWriter::create(&disk, "/d/s").unwrap();
                let views: Vec<ColumnRef> = columns.iter().map(Column::view).collect();
                (0..u32::from(n)).for_each(|part| writer.append(label(part), &views).unwrap());
                drop(writer.keep());
                let mut whole = Vec::new();
                disk.damage(Path::new("/d/s"), |b| whole.clone_from(b));
                whole
            };
            let (path, seed) = (seeds.join(target).join(format!("{n:02}")), [&[n % 2][..], &bytes].concat());
            if std::env::var_os("WINDROW_WRITE_SEEDS").is_some() {
                std::fs::write(&path, &seed).unwrap();
            }
            assert!(std::fs::read(&path).unwrap() == seed, "{} is of another format", path.display());
        }
    }
}
