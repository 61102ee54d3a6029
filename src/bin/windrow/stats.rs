//! `--stats`: the run's statistics as one JSON object.

use std::fmt::Write;
use windrow::metrics::Statistics;

/// The statistics of a run that took `elapsed_s` seconds on `threads` workers.
pub fn json(statistics: &Statistics, checksum: Option<u64>, elapsed_s: f64, threads: usize) -> String {
    let ledger = &statistics.ledger;
    let mut json = String::from("{");
    let numbers = [
        ("read", ledger.read),
        ("used", ledger.used),
        ("bad", ledger.bad),
        ("filtered", ledger.filtered),
        ("outside", ledger.outside),
        ("late", ledger.late),
        ("ahead", ledger.ahead),
        ("bytes_in", statistics.bytes_in),
        ("rows_out", statistics.rows_out),
        ("windows", statistics.windows),
        ("keys", statistics.keys),
        ("cast_failed", statistics.cast_failed),
        ("max_disorder_us", statistics.max_disorder_us),
        ("spilled_bytes", statistics.spilled_bytes),
        ("peak_memory_bytes", statistics.peak_memory_bytes),
        ("threads", threads as u64),
    ];
    for (name, number) in numbers {
        let _ = write!(json, "\"{name}\":{number},");
    }
    if let Some(checksum) = checksum {
        // As text: 64 bits do not survive readers that take every number for a float.
        let _ = write!(json, "\"rows_checksum\":\"{checksum:016x}\",");
    }
    let _ = write!(json, "\"elapsed_s\":{elapsed_s:.6}}}");
    json
}
