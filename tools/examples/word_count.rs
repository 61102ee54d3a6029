//! Counts the words of a text, so many lines at a time: `cargo run --example word_count -- FILE [LINES]`.
//!
//! Shows: a stream of an iterator, keys that are borrowed from records, rows in order.

use std::io::BufRead;
use windrow::stream::{ManualClock, StreamingContext, Time};

/// Prints the three most frequent words of every `lines` lines of the file.
pub fn run(path: &str, lines: usize, print: impl Fn(String) + Send + Sync + 'static) -> windrow::Result<()> {
    let clock = ManualClock::new();
    let ctx = StreamingContext::builder().manual_clock(&clock).build()?;
    let all: Vec<String> = std::io::BufReader::new(std::fs::File::open(path)?).lines().collect::<Result<_, _>>()?;
    let batches = all.len().div_ceil(lines);
    let text = ctx.iterator_stream(all, lines);
    let words = text.reduce_by_borrowed_key(
        |line: &String, emit| line.split_whitespace().for_each(|word| emit(word, 1u64)),
        |a, b| a + b,
    );
    words.for_each_batch(move |batch, time| {
        let mut rows = batch.collect()?;
        rows.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        let first: Vec<_> = rows.iter().take(3).map(|(word, n): &(String, u64)| format!("{word} {n}")).collect();
        print(format!("{time}: {}", first.join(", ")));
        Ok(())
    });
    ctx.start()?;
    ctx.run_until(Time::from_millis(1000 * batches as u64))
}

#[allow(dead_code)]
fn main() -> windrow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(path) = arguments.first() else {
        return Err(windrow::Error::usage("give the file to read"));
    };
    let lines = arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(1000);
    run(path, lines, |line| println!("{line}"))
}
