//! The command line: flags and messages over the library's public API; no engine logic.
//!
//! Exit status: 0 done, 1 the run failed, 2 wrong usage.

mod args;
mod progress;
mod replay;
mod stats;

use clap::Parser;
use std::process::ExitCode;
use windrow::ErrorKind;

/// Reuses and returns pages better than the system's allocator.
#[global_allocator]
static ALLOCATOR: jemallocator::Jemalloc = jemallocator::Jemalloc;

fn main() -> ExitCode {
    let arguments = args::Arguments::parse();
    let outcome = match arguments.command {
        args::Command::Replay(replay) => replay::run(*replay),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("windrow: {error}");
            ExitCode::from(if error.kind() == ErrorKind::Usage { 2 } else { 1 })
        }
    }
}
