//! Copies of logs that are cut back, found under whatever name they have and however they are packed meanwhile.

use super::copies::find_copy;
use super::tests::{Follower, append, folder, gzip, lines};
use super::*;
use std::fs::{self, File};
use std::io::Write;
use std::time::Instant;

/// The clock of a file system may stand still meanwhile.
#[test]
fn a_file_that_is_written_anew_with_the_same_size_and_time_is_noticed() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(10..11));
    let mut follower = Follower::new(&[path("a.log")]);
    follower.until("the first number", |f| f.numbers == [10]);
    follower.take();
    let modified = fs::metadata(path("a.log")).unwrap().modified().unwrap();
    append(&path("a.log"), &lines(11..13));
    fs::copy(path("a.log"), path("a.log.1")).unwrap();
    let file = File::create(path("a.log")).unwrap();
    (&file).write_all(lines(13..14).as_bytes()).unwrap();
    file.set_modified(modified).unwrap();
    follower.until("the last number", |f| f.numbers.len() == 4);
    assert_eq!(follower.numbers, [10, 11, 12, 13]);
}

/// Also if that happens between a listing of the folder and a look at what was listed.
#[test]
fn a_copy_that_is_packed_while_it_is_looked_for_is_found() {
    let (_dir, path) = folder();
    append(&path("a.log.1"), &lines(0..10));
    let read = lines(0..4);
    let packed = std::cell::Cell::new(false);
    let is_read = |_| {
        if !packed.replace(true) {
            gzip(&path("a.log.1"));
        }
        false
    };
    let head = Fingerprint::of(read.as_bytes());
    let copy = find_copy(&path("a.log"), &head, read.len() as u64, &is_read).expect("it is there all the time");
    assert_eq!((copy.file.path, copy.head), (Some(path("a.log.1.gz")), lines(0..10).into_bytes()));
    assert!(find_copy(&path("a.log"), &Fingerprint::of(b"other"), 5, &|_| false).is_none());
}

/// It is open, whatever becomes of its name.
#[test]
fn a_packed_copy_that_vanishes_is_read_to_its_end() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..3));
    let mut follower = Follower::new(&[path("a.log")]);
    follower.have(3);
    append(&path("a.log"), &lines(3..6));
    fs::copy(path("a.log"), path("a.log.1")).unwrap();
    gzip(&path("a.log.1"));
    File::create(path("a.log")).unwrap();
    follower.reader.next_look = Instant::now();
    assert_eq!(follower.reader.files.replaced(0).unwrap(), 1);
    fs::remove_file(path("a.log.1.gz")).unwrap();
    append(&path("a.log"), &lines(6..9));
    follower.have(9);
}
