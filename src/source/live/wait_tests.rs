//! How a run waits for what is to come: hints that end a wait, and what is left when a stop does.

use super::hint::Hint;
use super::tests::{DEADLINE, Follower, append, folder, lines};
use super::*;
use crate::source::Reader;
use std::io::Write;
use std::time::Instant;

/// A hint ends the wait for the next look; without one nothing is different but the wait.
#[test]
fn a_change_is_noticed_before_the_next_look_and_without_a_hint_by_it() {
    let (_dir, path) = folder();
    append(&path("a.log"), &lines(0..1));
    let mut follower = Follower::new(&[path("a.log*")]);
    follower.have(1);
    if cfg!(feature = "cli") {
        follower.reader.tick = 2 * DEADLINE;
        for n in 1..4 {
            // What reads do themselves is no change, and what has happened before is not waited for again.
            let name = if n == 2 { "a.log.new" } else { "a.log" };
            let (log, begun) = (path(name), Instant::now());
            let writer = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(50));
                append(&log, &lines(n..n + 1));
            });
            while follower.numbers.len() as i64 <= n {
                assert!(follower.reader.wait().unwrap());
                assert!(begun.elapsed() < DEADLINE, "nothing has told of number {n}");
                follower.take();
            }
            writer.join().unwrap();
        }
        follower.have(4);
        follower.reader.hint = Hint::impossible();
    } else {
        append(&path("a.log"), &lines(1..4));
        follower.have(4);
    }
    follower.reader.tick = Duration::from_millis(20);
    append(&path("a.log"), &lines(4..5));
    assert!(follower.reader.wait().unwrap());
    follower.have(5);
}

/// A sender does not stop when the run does: what it had sent by then is counted, but for the line that it was at.
#[test]
fn what_was_received_before_a_stop_is_read() {
    let live = Live::new().follow(true);
    let stop = live.stop_flag();
    let mut follower = Follower::of(&[], live, Duration::ZERO, 1 << 20);
    let (from, mut to) = std::io::pipe().unwrap();
    follower.reader.pipe(from).unwrap();
    to.write_all(lines(0..1000).as_bytes()).unwrap();
    to.write_all(b"{\"n\":1000").unwrap();
    follower.have(1000);
    to.write_all(b"}\n{\"n\":1001}\n{\"n\":10").unwrap();
    let begun = Instant::now();
    while follower.reader.pipes[0].waiting() == 0 {
        assert!(begun.elapsed() < DEADLINE);
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    follower.take();
    assert!(!follower.reader.wait().unwrap());
    // Nobody waits for this one.
    let _ = to.write_all(b"02}\n");
    follower.have(1002);
}
