//! One budget for a run, and leases for whoever grows.
//!
//! Whatever holds records, keys or states leases the bytes it holds before or as soon as it holds them; a refused
//! lease is an error that says how much was wanted and what to do. Dropping a lease gives its bytes back.

use crate::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a run takes however few records it holds: itself, and what each of its threads has in work. Measured: anonymous
/// memory of 20 to 27 MiB with one thread, 32 to 36 with two, 49 to 64 with four, 152 to 165 with sixteen.
const LEAST: usize = 16 << 20;
const LEAST_OF_THREAD: usize = 16 << 20;

/// The least limit in which so many threads (0: one) can run, bytes.
pub fn least_limit(threads: usize) -> usize {
    LEAST.saturating_add(threads.max(1).saturating_mul(LEAST_OF_THREAD))
}

/// How many threads a limit of `limit` bytes has room for: `threads`, or if that is 0 as many as there are cores or fewer.
///
/// # Errors
/// [`ErrorKind::Memory`], with the least limit that would do, if there is no room for so many.
pub(crate) fn threads_within(limit: usize, threads: usize) -> Result<usize> {
    if cfg!(test) {
        // Tests spill a handful of records.
        return Ok(threads);
    }
    let room = limit.saturating_sub(LEAST) / LEAST_OF_THREAD;
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = if threads == 0 { cores().min(room).max(1) } else { threads };
    if wanted <= room {
        return Ok(wanted);
    }
    let (of, or) = match wanted {
        1 => (String::new(), ""),
        more => (format!(" for {more} threads"), ", or lower --threads"),
    };
    let least = mebibytes(least_limit(wanted));
    let what = format!(
        "the memory limit of {} is too small{of}: {least} is the least that will do; raise --memory{or}",
        mebibytes(limit)
    );
    Err(Error::new(ErrorKind::Memory, what))
}

/// The memory that a run may use, shared by all that lease from it.
#[derive(Debug, Clone)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    /// What this is a share of.
    whole: Option<Budget>,
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self::part(limit, None)
    }

    fn part(limit: usize, whole: Option<Budget>) -> Self {
        let (used, peak) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Budget { inner: Arc::new(Inner { limit, used, peak, whole }) }
    }

    /// At most `limit` bytes of this budget, for some of those who lease from it.
    pub fn share(&self, limit: usize) -> Self {
        Self::part(limit, Some(self.clone()))
    }

    /// Takes `more` bytes, or says how many are in use of which limit.
    fn take(&self, more: usize) -> std::result::Result<(), (usize, usize)> {
        let inner = &self.inner;
        let used = inner.used.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        let whole = inner.whole.as_ref().map_or(Ok(()), |whole| whole.take(more));
        let refused = if used > inner.limit { Some((used - more, inner.limit)) } else { whole.err() };
        if let Some(refused) = refused {
            inner.used.fetch_sub(more, Ordering::Relaxed);
            if whole.is_ok() {
                inner.whole.iter().for_each(|whole| whole.give_back(more));
            }
            return Err(refused);
        }
        inner.peak.fetch_max(used, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.inner.used.fetch_sub(bytes, Ordering::Relaxed);
        self.inner.whole.iter().for_each(|whole| whole.give_back(bytes));
    }

    /// A budget that refuses nothing.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// The limit in bytes.
    pub fn limit(&self) -> usize {
        self.inner.limit
    }

    /// The most bytes that were leased at once.
    pub fn peak(&self) -> usize {
        self.inner.peak.load(Ordering::Relaxed)
    }

    /// A lease of no bytes yet, for `what` (named in errors).
    pub fn lease(&self, what: &'static str) -> Lease {
        Lease { budget: self.clone(), what, bytes: 0 }
    }
}

/// The limit of a run that was given none: 60 % of the memory that the system, or the control group of this process, has
/// free. `None` where nothing is known of it.
pub fn default_limit() -> Option<usize> {
    let number = |path: &str| -> Option<u64> { std::fs::read_to_string(path).ok()?.trim().parse().ok() };
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let mut free = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10;
    let groups = [
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ];
    for (limit, used) in groups {
        if let (Some(limit), Some(used)) = (number(limit), number(used)) {
            free = free.min(limit.saturating_sub(used));
        }
    }
    usize::try_from(free / 5 * 3).ok()
}

/// Bytes set aside for one structure.
#[derive(Debug)]
pub struct Lease {
    budget: Budget,
    what: &'static str,
    bytes: usize,
}

impl Lease {
    /// The budget it is part of.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes leased.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the lease `bytes` long.
    ///
    /// # Errors
    /// [`ErrorKind::Memory`] if the budget has not that much left; the lease is then what it was.
    pub fn resize(&mut self, bytes: usize) -> Result<()> {
        if bytes <= self.bytes {
            self.budget.give_back(self.bytes - bytes);
            self.bytes = bytes;
            return Ok(());
        }
        self.budget.take(bytes - self.bytes).map_err(|(used, limit)| {
            Error::new(
                ErrorKind::Memory,
                format!(
                    "the memory limit of {} is too small: {} need {} and {} are in use; raise --memory, \
                     or ask for fewer keys, aggregates or windows at once",
                    mebibytes(limit),
                    self.what,
                    mebibytes(bytes),
                    mebibytes(used),
                ),
            )
        })?;
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

fn mebibytes(bytes: usize) -> String {
    if bytes < 10 << 20 {
        format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
    } else {
        format!("{} MiB", bytes >> 20)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_part_of_the_whole() {
        let budget = Budget::new(100);
        let share = budget.share(60);
        let (mut own, mut other) = (share.lease("a share"), budget.lease("the rest"));
        assert!(own.resize(61).is_err());
        own.resize(50).unwrap();
        assert!(other.resize(51).is_err());
        other.resize(45).unwrap();
        assert!(own.resize(56).is_err());
        own.resize(55).unwrap();
        drop(own);
        other.resize(100).unwrap();
        assert_eq!(budget.peak(), 100);
    }

    #[test]
    fn leases_come_out_of_one_budget_and_go_back() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.lease("panes"), budget.lease("keys"));
        a.resize(60).unwrap();
        assert_eq!(b.resize(50).unwrap_err().kind(), ErrorKind::Memory);
        assert_eq!(b.bytes(), 0);
        b.resize(40).unwrap();
        a.resize(10).unwrap();
        b.resize(90).unwrap();
        drop(b);
        a.resize(100).unwrap();
        assert_eq!(budget.peak(), 100);
    }
}
