//! The command line: flags and messages over the library's public API; no engine logic.
//!
//! Exit status: 0 done, 1 the run failed, 2 wrong usage.

mod args;
mod progress;
mod replay;
mod shuffle;
mod stats;

use clap::Parser;
use std::process::ExitCode;
use windrow::ErrorKind;

/// Reuses and returns pages better than the system's allocator.
#[global_allocator]
static ALLOCATOR: jemallocator::Jemalloc = jemallocator::Jemalloc;

/// Pages stay with the process: its buffers are used again round after round. No huge pages: a machine that has to
/// find memory first hands them out at a fifth of the speed of small ones.
#[allow(unsafe_code, reason = "the allocator reads its options from a symbol of this name")]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static ALLOCATOR_OPTIONS: Option<&'static std::ffi::c_char> = {
    // SAFETY: the symbol is a pointer to a NUL-terminated string that lives as long as the program; jemalloc only reads it.
    Some(unsafe { &*c"dirty_decay_ms:30000".as_ptr() })
};

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    let outcome = match arguments.command {
        args::Command::Replay(replay) => replay::run(*replay),
        args::Command::Shuffle(shuffle) => shuffle::run(*shuffle),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            progress::say(format_args!("windrow: {error}\n"));
            ExitCode::from(if error.kind() == ErrorKind::Usage { 2 } else { 1 })
        }
    }
}
