//! Visits of a site, ended by silence: `cargo run --example visits`.
//!
//! Shows: state for each key with a timeout, which a key leaves with a last word.

use std::time::Duration;
use windrow::stream::{ManualClock, State, StateSpec, StreamingContext, Time};

/// Who saw how many pages, second by second.
fn clicks() -> Vec<Vec<(&'static str, u64)>> {
    vec![
        vec![("ann", 1), ("bob", 1)],
        vec![("ann", 2)],
        vec![("cid", 1)],
        vec![("ann", 1)],
        vec![],
        vec![("bob", 3)],
        vec![],
        vec![],
        vec![],
    ]
}

/// Prints each visit once nothing was heard of the visitor for two seconds.
pub fn run(print: impl Fn(String) + Send + Sync + 'static) -> windrow::Result<()> {
    let clock = ManualClock::new();
    let ctx = StreamingContext::builder().manual_clock(&clock).build()?;
    let visits = ctx.queue_stream(clicks()).map_with_state(
        |_, who, pages: Option<u64>, visit: &mut State<'_, u64>| {
            let seen = visit.get().copied().unwrap_or(0);
            match pages {
                Some(more) => {
                    visit.update(seen + more);
                    None
                }
                None => Some((*who, seen)),
            }
        },
        StateSpec::new().timeout(Duration::from_secs(2)),
    );
    visits.for_each_batch(move |batch, time| {
        let mut rows = batch.collect()?;
        rows.sort();
        rows.into_iter().for_each(|(who, pages)| print(format!("{time}: {who} saw {pages} pages")));
        Ok(())
    });
    ctx.start()?;
    ctx.run_until(Time::from_millis(9000))
}

#[allow(dead_code)]
fn main() -> windrow::Result<()> {
    run(|line| println!("{line}"))
}
