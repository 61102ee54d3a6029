//! What a run did, in numbers that have to add up.

use serde::{Deserialize, Serialize};

/// Where every record went; the parts add up to `read` in every run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Records read.
    pub read: u64,
    /// Records that count in some window.
    pub used: u64,
    /// Records that do not parse or have no valid time.
    pub bad: u64,
    /// Records that the filter dropped.
    pub filtered: u64,
    /// Records between the windows of a query whose slide is longer than its window.
    pub outside: u64,
    /// Records dropped because all their windows had closed.
    pub late: u64,
    /// Records set aside because their time is too far ahead.
    pub ahead: u64,
}

impl Ledger {
    /// Adds another ledger.
    pub fn add(&mut self, other: &Ledger) {
        self.read += other.read;
        self.used += other.used;
        self.bad += other.bad;
        self.filtered += other.filtered;
        self.outside += other.outside;
        self.late += other.late;
        self.ahead += other.ahead;
    }

    /// Whether the parts add up.
    pub fn balances(&self) -> bool {
        self.read == self.used + self.bad + self.filtered + self.outside + self.late + self.ahead
    }
}

/// The statistics of a run, so far or at its end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Where every record went.
    pub ledger: Ledger,
    /// Bytes of input taken, decompressed.
    pub bytes_in: u64,
    /// Rows handed out.
    pub rows_out: u64,
    /// Windows with at least one record.
    pub windows: u64,
    /// Most keys live at once.
    pub keys: u64,
    /// Values that did not fit their field's type and became null.
    pub cast_failed: u64,
    /// The largest distance of a record below the greatest time before it, microseconds.
    pub max_disorder_us: u64,
    /// Bytes written to spill files.
    pub spilled_bytes: u64,
    /// Most bytes leased at once.
    pub peak_memory_bytes: u64,
}
