//! What `tracing` is told of batches.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use windrow::stream::{ManualClock, OnFailure, StreamingContext, Time};

/// Writes down spans and events as they come.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if !["took", "waited"].contains(&field.name()) {
            self.0 += &format!(" {}={value:?}", field.name());
        }
    }
}

impl Subscriber for Written {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("windrow::stream")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut line = Line(span.metadata().name().to_owned());
        span.record(&mut line);
        let mut lines = self.0.lock().unwrap();
        lines.push(line.0);
        Id::from_u64(lines.len() as u64)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn a_batch_is_a_span_with_its_jobs_and_its_end() {
    let written = Written::default();
    // Jobs run on threads of the context. Times of day keep the batches of other tests apart.
    tracing::subscriber::set_global_default(written.clone()).unwrap();
    let (clock, interval) = (ManualClock::new(), std::time::Duration::from_micros(1_234_567));
    let builder = StreamingContext::builder().batch_interval(interval).manual_clock(&clock);
    let ctx = builder.on_failure(OnFailure::Continue).build().unwrap();
    let records = ctx.queue_stream(vec![vec![7, 8, 9], vec![13]]);
    records.for_each_batch(|batch, _| batch.for_each(|n| assert_ne!(n, 13, "bad luck")));
    ctx.start().unwrap();
    ctx.run_until(Time::from_micros(2 * 1_234_567)).unwrap();
    ctx.stop(true).unwrap();
    let lines = written.0.lock().unwrap();
    let from = |what: &str| lines.iter().filter(|line| line.starts_with(what)).cloned().collect::<Vec<_>>();
    let batches = from("batch time=");
    assert!(batches.contains(&"batch time=1234.567 ms records=3".to_owned()), "{batches:?}");
    assert!(batches.contains(&"batch time=2469.134 ms records=1".to_owned()), "{batches:?}");
    let errors = from("ERROR");
    let ours: Vec<_> = errors.iter().filter(|line| line.contains("2469.134 ms")).collect();
    assert!(matches!(ours[..], [error] if error.contains("failed") && error.contains("bad luck")), "{errors:?}");
    assert!(lines.iter().any(|line| line == "job number=0"), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("DEBUG") && line.contains("done")), "{lines:?}");
}
