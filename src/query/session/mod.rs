//! Session windows on the columnar side: `--session`.
//!
//! The map side finds the sessions of a block and folds each into a cell ([`number_sessions`]); a partition merges them
//! ([`crate::core::session`]); [`SessionEmitter`] brings the sessions of all partitions into the order of the output.

mod cells;
mod emit;
#[cfg(test)]
mod twin;

use super::aggregates::Columns;
use super::emit::Emitter;
use super::keys::KeyRows;
use super::plan::Plan;
use super::reduce::Partition;
use super::{Engine, LONGEST, Options};
use crate::core::session::Sessions;
use crate::core::window::WindowIndex;
use crate::time::parse_duration;
use crate::{Error, Result};
use arrow_array::RecordBatch;
pub(crate) use cells::number_sessions;
pub(crate) use emit::SessionEmitter;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The sessions of a query: records of one key belong together whose distance is at most the gap. A session is
/// `[first, last + gap)`.
///
/// ```
/// use windrow::query::Session;
/// assert_eq!(Session::parse("30m")?, Session::gap(30 * 60 * 1_000_000)?);
/// # Ok::<(), windrow::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session(i64);

impl Session {
    /// Sessions of records that are at most `micros` microseconds apart.
    ///
    /// # Errors
    /// If the gap is not positive, or longer than all of time.
    pub fn gap(micros: i64) -> Result<Session> {
        match micros {
            ..=0 => Err(Error::usage("the gap of sessions must be longer than zero")),
            1..=LONGEST => Ok(Session(micros)),
            _ => Err(Error::usage("the gap of sessions is too long: 4000000d hold all of time")),
        }
    }

    /// Sessions by a gap such as `30m` or `1h30m`.
    ///
    /// # Errors
    /// If it does not parse, or as [`gap`](Self::gap).
    pub fn parse(gap: &str) -> Result<Session> {
        Session::gap(parse_duration(gap)?)
    }
}

/// The sessions of a plan.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionSpec {
    /// Microseconds.
    pub(crate) gap: i64,
    /// Whether cells are kept as they come and swept at the end: the reference.
    swept: bool,
}

impl SessionSpec {
    pub(crate) fn new(session: Session, options: &Options) -> SessionSpec {
        // Only what reads everything first can sweep at the end.
        let reference = options.naive || options.engine == Engine::Remerge;
        SessionSpec { gap: session.0, swept: reference && options.lateness.is_none() }
    }

    /// The sessions of one partition, none yet.
    pub(crate) fn open(self, columns: Columns) -> Sessions<Columns> {
        if self.swept { Sessions::swept(self.gap, columns) } else { Sessions::new(self.gap, columns) }
    }
}

/// What a run with a lateness bound has handed out.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Emitted {
    /// The last window that has closed.
    pub(crate) upto: WindowIndex,
    /// Windows, or sessions.
    pub(crate) done: u64,
    pub(crate) live_keys: u64,
}

/// The rows of a run on their way out.
pub(crate) enum Emission {
    Windows(Emitter),
    Sessions(SessionEmitter),
}

impl Emission {
    /// Of partitions whose order is that of their hashes. Runs on the current rayon pool.
    pub(crate) fn new<K: KeyRows>(plan: Arc<Plan>, engine: Engine, partitions: Vec<Partition<K>>) -> Result<Self> {
        match plan.session {
            Some(_) => {
                let mut partitions = partitions;
                let mut emission = Emission::streaming(plan);
                emission.close(None, &mut partitions)?;
                Ok(emission)
            }
            None => Emitter::new(plan, engine, partitions).map(Emission::Windows),
        }
    }

    /// Without any window or session yet: those that have closed come by [`close`](Self::close).
    pub(crate) fn streaming(plan: Arc<Plan>) -> Self {
        match plan.session {
            Some(spec) => Emission::Sessions(SessionEmitter::new(plan, spec.gap)),
            None => Emission::Windows(Emitter::streaming(plan)),
        }
    }

    /// Of a run that has handed out what `emitted` says.
    pub(crate) fn resumed(plan: Arc<Plan>, emitted: Emitted) -> Self {
        match plan.session {
            Some(spec) => Emission::Sessions(SessionEmitter::resumed(plan, spec.gap, emitted)),
            None => Emission::Windows(Emitter::resumed(plan, emitted)),
        }
    }

    /// What was handed out, between two steps.
    pub(crate) fn emitted(&self) -> Emitted {
        match self {
            Emission::Windows(emitter) => emitter.emitted(),
            Emission::Sessions(emitter) => emitter.emitted(),
        }
    }

    /// Takes over what has closed by `watermark`, or everything at the end of the input. What was closed before must have
    /// been handed out and [released](Self::release).
    pub(crate) fn close<K: KeyRows>(&mut self, watermark: Option<i64>, partitions: &mut [Partition<K>]) -> Result<()> {
        match self {
            Emission::Windows(emitter) => emitter.close(watermark, partitions),
            Emission::Sessions(emitter) => emitter.close(watermark, partitions),
        }
    }

    /// Lets go of what only windows needed that have been handed out.
    pub(crate) fn release<K: KeyRows>(&mut self, partitions: &mut [Partition<K>]) -> Result<()> {
        match self {
            Emission::Windows(emitter) => emitter.release(partitions),
            Emission::Sessions(_) => Ok(()),
        }
    }

    /// Keys with a record.
    pub(crate) fn live_keys(&self) -> u64 {
        match self {
            Emission::Windows(emitter) => emitter.live_keys,
            Emission::Sessions(emitter) => emitter.live_keys,
        }
    }

    /// Windows in all, and how many have been handed out. Each session of a key is one.
    pub(crate) fn windows(&self) -> (u64, u64) {
        match self {
            Emission::Windows(emitter) => emitter.windows(),
            Emission::Sessions(emitter) => emitter.windows(),
        }
    }

    /// The next rows, in order; `None` after the last. Runs on the current rayon pool.
    pub(crate) fn next_block(&mut self) -> Result<Option<Vec<RecordBatch>>> {
        match self {
            Emission::Windows(emitter) => emitter.next_block(),
            Emission::Sessions(emitter) => emitter.next_block(),
        }
    }
}
