//! Orders, their payments and the customers: `cargo run --example orders`.
//!
//! Shows: the join of two streams over a window, with static data that is read once, and what found no partner.

use std::time::Duration;
use windrow::stream::{ManualClock, StreamingContext, Time};

/// Prints what was ordered and paid within the last three seconds, and by whom.
pub fn run(print: impl Fn(String) + Send + Sync + 'static) -> windrow::Result<()> {
    let clock = ManualClock::new();
    let ctx = StreamingContext::builder().manual_clock(&clock).build()?;
    // Order, customer; order, cents.
    let orders = ctx.queue_stream(vec![vec![(1, "c1"), (2, "c2")], vec![(3, "c9")], vec![]]);
    let payments = ctx.queue_stream(vec![vec![(1, 500)], vec![(2, 120)], vec![(3, 70)]]);
    let customers = ctx.batch_from([("c1", "Ann"), ("c2", "Bob")]).cache();

    let recent = orders.window(Duration::from_secs(3), Duration::from_secs(1));
    let paid = recent.join(&payments).map(|(order, (customer, cents))| (customer, (order, cents)));
    let named = paid.transform(move |batch, _| batch.left_outer_join(customers.clone()));
    named.for_each_batch(move |batch, time| {
        let mut rows = batch.collect()?;
        rows.sort();
        for (customer, ((order, cents), name)) in rows {
            print(format!("{time}: order {order}, {cents} cents, {}", name.unwrap_or(customer)));
        }
        Ok(())
    });
    ctx.start()?;
    ctx.run_until(Time::from_millis(3000))
}

#[allow(dead_code)]
fn main() -> windrow::Result<()> {
    run(|line| println!("{line}"))
}
