//! Progress on standard error: bytes read of the total, records per second and time left, then windows emitted.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use windrow::source::Progress;

/// Writes to standard error; that nobody reads it is no reason to fail, nor to panic as `eprintln!` does.
pub fn say(text: std::fmt::Arguments<'_>) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_fmt(text).and_then(|()| stderr.flush());
}

/// `text` as a terminal may have it: names of fields come from files, whatever bytes these have.
pub fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().collect() } else { String::from(c) };
    text.chars().map(shown).collect()
}

/// A line on standard error that is rewritten until this is dropped.
pub struct Meter {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Meter {
    /// Shows `progress` from now on.
    pub fn start(progress: Arc<Progress>) -> Meter {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let start = Instant::now();
            let mut shown = false;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(200));
                if start.elapsed() >= Duration::from_millis(400) && !stopped.load(Ordering::Relaxed) {
                    say(format_args!("\r\x1b[K{}", line(&progress, start.elapsed().as_secs_f64())));
                    shown = true;
                }
            }
            if shown {
                say(format_args!("\r\x1b[K"));
            }
        });
        Meter { stop, thread: Some(thread) }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn line(progress: &Progress, elapsed: f64) -> String {
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let (windows, emitted) = (get(&progress.windows_total), get(&progress.windows_done));
    if windows > 0 {
        return format!("{emitted} of {windows} windows emitted");
    }
    let (total, done, records) = (get(&progress.bytes_total), get(&progress.bytes_done), get(&progress.records));
    let rate = records as f64 / elapsed / 1e6;
    if total == 0 {
        return format!("{:.1} M records read, {rate:.2} M/s", records as f64 / 1e6);
    }
    let left = if done > 0 { elapsed * (total.saturating_sub(done)) as f64 / done as f64 } else { 0.0 };
    let mebi = |bytes: u64| bytes >> 20;
    let percent = 100.0 * done as f64 / total as f64;
    format!("{} of {} MiB read ({percent:.0} %), {rate:.2} M records/s, {left:.0} s left", mebi(done), mebi(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_is_known() {
        let progress = Progress::default();
        progress.records.store(3_000_000, Ordering::Relaxed);
        assert_eq!(line(&progress, 2.0), "3.0 M records read, 1.50 M/s");
        progress.bytes_total.store(100 << 20, Ordering::Relaxed);
        progress.bytes_done.store(25 << 20, Ordering::Relaxed);
        assert_eq!(line(&progress, 2.0), "25 of 100 MiB read (25 %), 1.50 M records/s, 6 s left");
        progress.windows_total.store(40, Ordering::Relaxed);
        assert_eq!(line(&progress, 2.0), "0 of 40 windows emitted");
    }
}
