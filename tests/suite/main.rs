//! All integration tests, as one binary: it links once.
//!
//! `semantics` runs the command line against SEMANTICS §5 and the
//! contract of flags; `shared` runs cases and real logs where `WINDROW_SHARED` names them; `layering` holds the house
//! in order.

mod layering;
mod run;
mod semantics;
mod shared;
