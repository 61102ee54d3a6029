//! How live input comes and goes while a run reads it: whether there is more, what has closed meanwhile, and how far files
//! have been read.

use crate::source::live::Position;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How live input comes and goes.
#[derive(Default)]
pub(super) struct Flow {
    /// There was nothing more to read.
    pub(super) dry: bool,
    /// Windows have closed that were not handed out, as far as is known.
    pub(super) has_closed: bool,
    /// There are windows that were closed and not let go of.
    pub(super) handed_out: bool,
    /// Nothing more will come; what has closed is handed out for the last time.
    pub(super) over: bool,
    /// When windows that have closed are next worth a look.
    next_close: Option<Instant>,
    /// Windows that were handed out when the run was stopped.
    pub(super) closed: Option<u64>,
    pub(super) positions: BTreeMap<u64, Position>,
    /// The names of followed files by the numbers of their inputs.
    pub(super) names: BTreeMap<u64, String>,
    /// Entries of the log of what cannot be read again that were counted.
    pub(super) logged: u64,
}

/// How long windows that have closed may wait while input goes on, and how much longer than looking at them takes.
const CLOSE_EVERY: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 100 });
const CLOSE_SHARE: u32 = if cfg!(test) { 0 } else { 4 };
/// Texts that were read to their end whose positions are kept.
const POSITIONS: usize = 4096;

impl Flow {
    /// Of a run whose inputs have these names, and of which this much was read before.
    pub(super) fn new(inputs: &[Option<PathBuf>], positions: &[Position]) -> Flow {
        let name =
            |(number, path): (u64, &Option<PathBuf>)| Some((number, path.as_ref()?.to_string_lossy().into_owned()));
        let names = (0..).zip(inputs).filter_map(name).collect();
        let mut flow = Flow { names, ..Flow::default() };
        positions.iter().for_each(|position| flow.moved(position.clone()));
        flow
    }

    /// Which of the inputs with `names` are which of these: the number there, and here.
    pub(super) fn same(&self, names: &[(u64, String)]) -> Vec<(usize, usize)> {
        let here = |name: &str| self.names.iter().find(|(_, own)| *own == name).map(|(number, _)| *number as usize);
        names.iter().filter_map(|(number, name)| Some((*number as usize, here(name)?))).collect()
    }

    /// Text of input number `input` was read up to `position`.
    pub(super) fn read(&mut self, input: usize, position: Position) {
        if self.names.get(&(input as u64)) != Some(&position.path) {
            self.names.insert(input as u64, position.path.clone());
        }
        self.moved(position);
    }

    /// Windows that had closed since `begun` were looked at.
    pub(super) fn looked(&mut self, begun: Instant) {
        (self.has_closed, self.handed_out) = (false, true);
        self.next_close = Some(Instant::now() + CLOSE_EVERY.max(CLOSE_SHARE * begun.elapsed()));
    }

    /// Whether windows that have closed are worth a look.
    pub(super) fn is_due(&self) -> bool {
        self.over || self.next_close.is_none_or(|next| Instant::now() >= next)
    }

    fn moved(&mut self, position: Position) {
        self.positions.insert(position.text, position);
        if self.positions.len() > POSITIONS {
            let done = self.positions.iter().find(|(_, p)| p.done).map(|(text, _)| *text);
            done.into_iter().for_each(|text| drop(self.positions.remove(&text)));
        }
    }
}
