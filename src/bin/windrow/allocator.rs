//! The allocator and what it does with pages that are free.
//!
//! A limit is one on what the process holds, so free pages must go back to the system in time. No earlier: most are used
//! again within milliseconds, and to be without a page and get another takes longer than to fill it. Where the system says
//! how much the process holds it is asked every few milliseconds, and pages go back when little is left to the limit;
//! elsewhere they go back a tenth of a second after they are free. Limits under [`LEAST`] leave no room for that: pages go
//! back at once.

#![allow(unsafe_code, reason = "the allocator reads its options from a symbol, and takes others by name")]

use jemalloc_sys::mallctl;
use std::ptr::null_mut;
use std::time::Duration;

/// Reuses and returns pages better than the system's allocator.
#[global_allocator]
static ALLOCATOR: jemallocator::Jemalloc = jemallocator::Jemalloc;

/// Pages stay with the process: its buffers are used again round after round. No huge pages: a machine that has to
/// find memory first hands them out at a fifth of the speed of small ones. Long buffers are nothing special: otherwise
/// jemalloc gives each back as soon as it is free. Pages that go back do so at once, and count for the system as gone.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_OPTIONS: Option<&'static std::ffi::c_char> = {
    // SAFETY: the symbol is a pointer to a NUL-terminated string that lives as long as the program; jemalloc only reads it.
    Some(unsafe { &*c"dirty_decay_ms:30000,muzzy_decay_ms:0,oversize_threshold:0".as_ptr() })
};

/// Limits below this leave no room for free pages.
const LEAST: usize = 64 << 20;

/// Limits below this are used up within a few milliseconds.
const SMALL: usize = 256 << 20;

/// Pauses are at most so many times as long where nothing changes.
const MOST_QUIET: u32 = 8;

/// From now on pages go back to the system in time for the process to hold no more than `limit` bytes.
pub fn give_back(limit: usize) {
    let watched = match limit {
        ..LEAST => false,
        LEAST..SMALL => watch(limit / 2, Duration::from_millis(1), 1),
        SMALL.. => watch(limit / 8 * 7, Duration::from_millis(5), 4),
    };
    if !watched {
        decay(if limit < SMALL { 0 } else { 100 });
    }
}

/// Has free pages go back after so many milliseconds, in the arena of this thread and those of threads to come.
fn decay(milliseconds: isize) {
    for option in [c"arenas.dirty_decay_ms", c"arena.0.dirty_decay_ms"] {
        let mut value = milliseconds;
        // SAFETY: the names are documented to take a `ssize_t`, which is copied. Nothing is read back.
        unsafe { mallctl(option.as_ptr(), null_mut(), null_mut(), (&raw mut value).cast(), size_of::<isize>()) };
    }
}

/// Gives free pages back whenever the process holds more than `most` bytes, and looks every `pause`, `idle` times as long
/// where little can be had. `false` where the system does not say.
fn watch(most: usize, pause: Duration, idle: u32) -> bool {
    if held().is_none() {
        return false;
    }
    let watching = std::thread::Builder::new().name("windrow-pages".into()).spawn(move || {
        let (mut before, mut quiet) = (0, 1);
        while let Some(now) = held() {
            // A process that waits for its input is not looked at all the time.
            quiet = if now == before { MOST_QUIET.min(2 * quiet) } else { 1 };
            before = now;
            let mut pause = pause * quiet;
            if now > most {
                purge();
                if held().is_some_and(|still| still > most) {
                    pause *= idle;
                }
            }
            std::thread::sleep(pause);
        }
    });
    watching.is_ok()
}

/// Gives back the free pages of all arenas.
fn purge() {
    // SAFETY: the option is documented to take and return nothing, and 4096 to stand for all arenas.
    unsafe { mallctl(c"arena.4096.purge".as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
}

/// Bytes of anonymous memory that the process holds.
fn held() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<usize>().ok()? << 10)
}
