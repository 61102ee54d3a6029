//! All integration tests, as one binary: it links once.
//!
//! `semantics` runs the command line against SEMANTICS §5 and the contract of flags, `command` every flag with what it
//! prints, `sessions` that of `--session`, `follow` live input, `received` what of it cannot be read again, `formats` the reading of CSV, TSV, patterns, zones and compressed input,
//! `parse` the parsed records, `resume` replays that are killed, `survive` what must not bring a run down, `columnar` Parquet and record batches, `library`
//! the public API, `lateness` bounds, `aggregates` what the property of the engines leaves out, `faces` both faces on
//! the same records, `rates` how fast inputs may come, `shuffle` the partitioning of files, `spill` memory
//! limits, `record` the README's tables, `soak` what has to hold for long; `dstream`, `shared` and `lines` run cases and
//! real logs where `WINDROW_SHARED` names them;
//! `layering` holds the house in order.

mod aggregates;
mod columnar;
mod command;
mod dstream;
mod dstream_special;
mod examples;
mod faces;
mod follow;
mod formats;
mod lambda;
mod lateness;
mod layering;
mod library;
mod lines;
mod parse;
mod rates;
mod received;
mod record;
mod recovery;
mod recovery_killed;
mod recovery_refused;
mod resume;
mod run;
mod semantics;
mod sessions;
mod shared;
mod shuffle;
mod soak;
mod spans;
mod spill;
mod survive;
