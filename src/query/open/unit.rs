//! Times that are numbers: their unit is a guess by their size, which is said.

use crate::time::TimeFormat;

/// What to say of `value` in the time field `field`; nothing if it is not a number.
pub(super) fn note(field: &str, value: &[u8]) -> Option<String> {
    let (unit, name) = match TimeFormat::of_number(value)? {
        TimeFormat::EpochSeconds => ("seconds", "epoch_s"),
        TimeFormat::EpochMillis => ("milliseconds", "epoch_ms"),
        TimeFormat::EpochMicros => ("microseconds", "epoch_us"),
        TimeFormat::EpochNanos => ("nanoseconds", "epoch_ns"),
        _ => return None,
    };
    let value = String::from_utf8_lossy(value);
    Some(format!(
        "time: numbers such as {value} in {field:?} are taken for {unit} since 1970, by their size (--time-format {name})"
    ))
}
