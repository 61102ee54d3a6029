//! All integration tests, as one binary: it links once.
//!
//! `semantics` runs the command line against SEMANTICS §5 and the contract of flags, `command` every flag with what it
//! prints, `formats` the reading of CSV, TSV, patterns, zones and compressed input, `survive` what must not bring a run
//! down, `columnar` Parquet and record batches, `library` the public API, `aggregates` what the property of the engines
//! leaves out, `shuffle` the partitioning of files, `faces` both faces on the same records; `shared` and `lines` run cases and real logs where
//! `WINDROW_SHARED` names them; `layering` holds the house in order.

mod aggregates;
mod columnar;
mod command;
mod faces;
mod formats;
mod layering;
mod library;
mod lines;
mod run;
mod semantics;
mod shared;
mod shuffle;
mod survive;
