//! Instants and durations: `i64` microseconds since the Unix epoch, UTC, and the ways logs write them.

/// How a time field is written (`--time-format`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum TimeFormat {
    /// RFC 3339 / ISO 8601 with or without zone and `T`, access-log time, or an epoch number whose unit follows from its magnitude.
    #[default]
    Auto,
    /// Seconds since the epoch, with or without a fraction.
    EpochSeconds,
    /// Milliseconds since the epoch.
    EpochMillis,
    /// Microseconds since the epoch.
    EpochMicros,
    /// Nanoseconds since the epoch; finer digits are cut, never rounded.
    EpochNanos,
}
