//! The body of a query's checkpoint.

use super::identity::InputMark;
use crate::metrics::Statistics;
use crate::query::flow::Flow;
use crate::query::judge::Judge;
use crate::query::rounds::Joint;
use crate::query::session::{Emission, Emitted};
use crate::query::tally::Tally;
use crate::source::live::Sample;
use crate::source::{BadPlace, Position, Seen};
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the bytes below mean.
const VERSION: u8 = 5;

/// Everything but the states of partitions, as of the beginning of the checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Saved {
    /// Nothing is left to do.
    pub(crate) finished: bool,
    /// Nothing is left but to give the output its name.
    pub(crate) sealed: bool,
    pub(in crate::query) facts: Vec<(String, String)>,
    pub(in crate::query) inputs: Vec<InputMark>,
    /// Bytes that tasks take at most.
    pub(in crate::query) task_bytes: u64,
    /// The input goes on with this task.
    pub(crate) tasks: u64,
    /// Tasks before this one have been counted.
    pub(crate) told: u64,
    /// Blocks up to this number have been taken.
    pub(crate) done: u64,
    /// The logarithm of the number of partitions, once it is known.
    pub(crate) bits: Option<u32>,
    /// If anything was spilled: partitions from this one on are in pieces.
    pub(crate) resident: Option<usize>,
    /// The file of the other partitions.
    pub(crate) state: Option<String>,
    /// The files of pieces, and up to which number theirs count.
    pub(crate) pieces: Vec<(String, u64)>,
    pub(crate) counted: Counted,
    /// How far the clocks of the inputs were.
    pub(in crate::query) judge: Option<Judge>,
    /// How far followed files were read, and their names by the numbers of their inputs.
    pub(crate) positions: Vec<Position>,
    pub(crate) names: Vec<(u64, String)>,
    /// Entries of the log of what cannot be read again that were counted.
    pub(in crate::query) logged: u64,
    /// What was handed out.
    pub(in crate::query) emitted: Option<Emitted>,
    pub(in crate::query) rows_out: u64,
    /// What the records have had so far.
    pub(crate) seen: Vec<bool>,
    /// What the fields of followed files were found out from.
    pub(in crate::query) sample: Option<Sample>,
    /// How long the outputs beside the rows are.
    pub(in crate::query) sides: Vec<Vec<u8>>,
}

/// What was counted.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Counted {
    statistics: Statistics,
    bad: Vec<(Option<PathBuf>, u64, u64, String)>,
    next_line: Vec<u64>,
    greatest: Option<i64>,
}

impl Counted {
    /// Records read.
    pub(super) fn read(&self) -> u64 {
        self.statistics.ledger.read
    }

    pub(crate) fn of(tally: &Tally) -> Counted {
        let place = |bad: &BadPlace| (bad.file.clone(), bad.line, bad.offset, bad.reason.to_owned());
        Counted {
            statistics: tally.statistics.clone(),
            bad: tally.bad.iter().map(place).collect(),
            next_line: tally.next_line.clone(),
            greatest: tally.greatest,
        }
    }

    /// Records that count in some window.
    pub(crate) fn used(&self) -> u64 {
        self.statistics.ledger.used
    }

    /// The tally of a run over so many inputs, as it was.
    pub(crate) fn tally(&self, inputs: usize) -> Tally {
        // Some ten short sentences at most live as long as the process.
        let place = |(file, line, offset, reason): &(Option<PathBuf>, u64, u64, String)| BadPlace {
            file: file.clone(),
            line: *line,
            offset: *offset,
            reason: Box::leak(reason.clone().into_boxed_str()),
        };
        let mut next_line = self.next_line.clone();
        next_line.resize(inputs.max(next_line.len()).max(1), 0);
        Tally {
            statistics: self.statistics.clone(),
            bad: self.bad.iter().map(place).collect(),
            next_line,
            greatest: self.greatest,
        }
    }
}

impl Saved {
    /// What a checkpoint says of this moment, in which tasks below `told` have been counted and blocks up to `done` taken.
    pub(in crate::query) fn of(
        (bits, seen): (Option<u32>, &Seen),
        tally: &Tally,
        judge: &Option<Judge>,
        joints: &[Joint],
        emitter: Option<&Emission>,
        flow: &Flow,
        (told, done): (u64, u64),
    ) -> Saved {
        Saved {
            tasks: joints.iter().filter_map(Joint::pending).min().unwrap_or(told),
            told,
            done,
            bits,
            seen: seen.save(),
            counted: Counted::of(tally),
            judge: judge.clone(),
            emitted: emitter.map(Emission::emitted),
            positions: flow.positions.values().cloned().collect(),
            names: flow.names.clone().into_iter().collect(),
            logged: flow.logged,
            ..Saved::default()
        }
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        postcard::to_extend(self, vec![VERSION])
            .map_err(|e| Error::new(ErrorKind::Io, format!("a checkpoint cannot be written down: {e}")))
    }

    /// What [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// If the bytes are of anything else.
    pub(super) fn decode(bytes: &[u8]) -> Result<Saved> {
        let what = "the checkpoint is not one of a query, or of another version of windrow";
        let body = bytes.strip_prefix(&[VERSION]);
        let saved = body.and_then(|body| postcard::take_from_bytes::<Saved>(body).ok());
        // Nothing may be left.
        let saved = saved.and_then(|(saved, rest)| rest.is_empty().then_some(saved));
        let saved = saved.filter(|saved| saved.bits.is_none_or(|bits| bits < u32::BITS - 1));
        saved.ok_or_else(|| Error::new(ErrorKind::Io, what))
    }
}
