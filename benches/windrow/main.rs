//! The benches: `cargo bench`, one module per question, `cargo bench -- NAME` for one of them, `-- --quick` for all in a
//! few minutes.
//!
//! Each bench checks its answer before it is measured, and reports records and bytes per second. Everything but the typed
//! face ([`stream`]: two threads) runs on one thread: the figures say what a core does, not how many there are. The data comes from `tools/generate`, the same in
//! every run. `cargo run --release --example plot` draws the picture of the module [`sliding`].

#![allow(missing_docs)]

mod data;
mod decode;
#[allow(dead_code)]
#[path = "../../tools/generate/expect.rs"]
mod expect;
mod groups;
#[allow(dead_code)]
#[path = "../../tools/generate/hop.rs"]
mod hop;
#[allow(dead_code)]
#[path = "../../tools/generate/log.rs"]
mod log;
mod panes;
mod partition;
#[allow(dead_code)]
#[path = "../../tools/generate/random.rs"]
mod random;
mod shuffle;
mod sliding;
mod stream;
mod typed;
mod wal;

// What the modules of the generator expect of their crate.
use data::{Failure, Options, START_MICROS};

use criterion::{Criterion, criterion_group, criterion_main};
use std::time::Duration;

/// The allocator of the binary.
#[cfg(feature = "cli")]
#[global_allocator]
static ALLOCATOR: jemallocator::Jemalloc = jemallocator::Jemalloc;

/// One iteration is long and steady, so few samples are enough.
fn config() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
}

/// The words that choose a module, and its benches.
type Module = (&'static [&'static str], fn(&mut Criterion));

/// The modules, by the words that a filter on the command line may hold.
const MODULES: [Module; 8] = [
    (&["partition"], partition::benches),
    (&["groups", "interning", "tumbling count", "sliding count"], groups::benches),
    (&["panes"], panes::benches),
    (&["decode"], decode::benches),
    (&["sliding"], sliding::benches),
    (&["shuffle", "spill"], shuffle::benches),
    (&["dstream"], stream::benches),
    (&["write-ahead"], wal::benches),
];

/// Runs the modules that the command line names, or all: checks and data of the others would take minutes.
fn chosen(c: &mut Criterion) {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = |words: &[&str]| words.iter().any(|word| arguments.iter().any(|argument| argument.contains(word)));
    let any = MODULES.iter().any(|(words, _)| named(words));
    for (words, benches) in MODULES {
        if !any || named(words) {
            benches(c);
        }
    }
}

criterion_group! { name = benches; config = config(); targets = chosen }
criterion_main!(benches);
