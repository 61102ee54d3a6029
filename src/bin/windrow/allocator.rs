//! The allocator and what it does with pages that are free.

#![allow(unsafe_code, reason = "the allocator reads its options from a symbol, and takes others by name")]

/// Reuses and returns pages better than the system's allocator.
#[global_allocator]
static ALLOCATOR: jemallocator::Jemalloc = jemallocator::Jemalloc;

/// Pages stay with the process: its buffers are used again round after round. No huge pages: a machine that has to
/// find memory first hands them out at a fifth of the speed of small ones. Long buffers are nothing special: otherwise
/// jemalloc gives each back as soon as it is free.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_OPTIONS: Option<&'static std::ffi::c_char> = {
    // SAFETY: the symbol is a pointer to a NUL-terminated string that lives as long as the program; jemalloc only reads it.
    Some(unsafe { &*c"dirty_decay_ms:30000,oversize_threshold:0".as_ptr() })
};

/// From now on pages go back to the system soon after they are free: a limit of `limit` bytes is one on what the process
/// holds. Not at once unless it is so small that it would not hold otherwise: most are used again within milliseconds,
/// and it takes twice the time.
pub fn give_back(limit: usize) {
    let milliseconds: isize = if limit < 256 << 20 { 0 } else { 100 };
    for option in
        [c"arenas.dirty_decay_ms", c"arenas.muzzy_decay_ms", c"arena.4096.dirty_decay_ms", c"arena.4096.muzzy_decay_ms"]
    {
        // SAFETY: the names are documented to take a `ssize_t`; 4096 stands for all arenas. Nothing is read back.
        let _ = unsafe { jemalloc_ctl::raw::write(option.to_bytes_with_nul(), milliseconds) };
    }
}
