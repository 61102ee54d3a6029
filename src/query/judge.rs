//! The judgement of records under a lateness bound, from one input or several.
//!
//! Several inputs are one stream in which the unfinished input with the smallest greatest time so far goes on, and the
//! watermark is the smallest of those times less the bound. So whenever a record is judged, the watermark is that of its
//! own input: each has a [`Clock`], and the order in which blocks of different inputs come decides nothing. What has
//! closed for all of them is what has closed for the least of those that are unfinished; one that was not begun stands
//! where its first record does.

use super::exec::Lateness;
use super::map::{Marks, Piece};
use crate::core::watermark::Clock;
use serde::{Deserialize, Serialize};

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Judge {
    lateness: Lateness,
    inputs: Vec<Input>,
    /// The greatest time over all inputs.
    greatest: Option<i64>,
    disorder: i64,
    /// How far the watermark of live inputs has come; `None`: inputs have an end.
    reached: Option<i64>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Input {
    /// Not begun; its first record's time, as far as that is known.
    Waiting(Option<i64>),
    Running(Clock),
    /// Live, and silent.
    Silent(Clock),
    Ended,
}

impl Judge {
    /// Of inputs whose first records have these times, as far as they are known.
    pub(super) fn new(lateness: Lateness, firsts: Vec<Option<i64>>) -> Judge {
        let inputs = firsts.into_iter().map(Input::Waiting).collect();
        Judge { lateness, inputs, greatest: None, disorder: 0, reached: None }
    }

    /// Of live inputs, of which there may be more.
    pub(super) fn live(self) -> Judge {
        Judge { reached: Some(i64::MIN), ..self }
    }

    /// Goes on where `before` stood, of whose inputs some are among these: their numbers there, and here. Those that had
    /// fallen silent are waited for again: what they have got meanwhile has not been read.
    pub(super) fn after(mut self, before: &Judge, same: &[(usize, usize)]) -> Judge {
        for (there, here) in same {
            if let Some(Input::Running(clock) | Input::Silent(clock)) = before.inputs.get(*there) {
                let mut clock = clock.clone();
                // What has closed stays closed.
                before.reached.into_iter().for_each(|reached| clock.raise(reached));
                self.make_room(*here);
                self.inputs[*here] = Input::Running(clock);
            }
        }
        Judge { greatest: before.greatest, disorder: before.disorder, reached: before.reached, ..self }
    }

    /// The watermark of the whole stream: nothing that comes counts in a window that has closed by it. The least integer
    /// if that is unknown, the greatest if all inputs have ended.
    pub(super) fn watermark(&self) -> i64 {
        if let Some(reached) = self.reached {
            return reached.max(self.live_watermark());
        }
        let of_input = |input: &Input| match input {
            Input::Ended => i64::MAX,
            Input::Running(clock) | Input::Silent(clock) => clock.watermark(),
            Input::Waiting(first) => self.floor(*first),
        };
        self.inputs.iter().map(of_input).min().unwrap_or(i64::MAX)
    }

    fn live_watermark(&self) -> i64 {
        let going = self.inputs.iter().filter_map(|input| match input {
            Input::Running(clock) => Some(clock.watermark()),
            Input::Waiting(first) => first.map(|first| self.floor(Some(first))),
            Input::Silent(_) | Input::Ended => None,
        });
        let silent = self.inputs.iter().filter_map(|input| match input {
            Input::Silent(clock) => Some(clock.watermark()),
            _ => None,
        });
        going.min().or(silent.max()).unwrap_or(i64::MIN)
    }

    /// Remembers how far live inputs have come.
    fn advance(&mut self) {
        if self.reached.is_some() {
            self.reached = Some(self.watermark());
        }
    }

    /// The next block of live input number `input` came when the clock on the wall stood at `now`.
    pub(super) fn arrived(&mut self, input: usize, now: i64) {
        self.make_room(input);
        self.clock(input).at(now);
    }

    /// A new live input begins as number `input`.
    pub(super) fn begin(&mut self, input: usize) {
        self.make_room(input);
        self.inputs[input] = Input::Waiting(None);
    }

    /// Live input number `input` has fallen silent, or ended.
    pub(super) fn silence(&mut self, input: usize) {
        self.make_room(input);
        if let Input::Running(clock) = &self.inputs[input] {
            self.inputs[input] = Input::Silent(clock.clone());
        } else if let Input::Waiting(_) = self.inputs[input] {
            self.inputs[input] = Input::Waiting(None);
        }
        self.advance();
    }

    /// How many inputs are known.
    pub(super) fn inputs(&self) -> usize {
        self.inputs.len()
    }

    fn make_room(&mut self, input: usize) {
        while self.inputs.len() <= input {
            self.inputs.push(Input::Waiting(None));
        }
    }

    /// Where the watermark of an input begins whose first time is `first`. That time may be far ahead of everything, set
    /// aside, and followed by others: then the input goes on where the stream is.
    fn floor(&self, first: Option<i64>) -> i64 {
        let first = first.map(|first| self.greatest.map_or(first, |greatest| first.min(greatest)));
        first.map_or(i64::MIN, |first| Clock::before(first, self.lateness.bound))
    }

    /// The greatest distance of a record below the greatest time before it in its input, microseconds.
    pub(super) fn disorder(&self) -> i64 {
        self.disorder
    }

    /// Nothing more comes of input number `input`.
    pub(super) fn end(&mut self, input: usize) {
        self.inputs[input] = Input::Ended;
    }

    fn clock(&mut self, input: usize) -> &mut Clock {
        let Lateness { bound, max_ahead } = self.lateness;
        match &self.inputs[input] {
            Input::Waiting(first) => {
                let mut clock = Clock::new(bound, max_ahead).after(self.greatest, self.floor(*first));
                self.reached.into_iter().for_each(|reached| clock.raise(reached));
                self.inputs[input] = Input::Running(clock);
            }
            Input::Silent(clock) => {
                let mut clock = clock.clone();
                clock.raise(self.watermark());
                self.inputs[input] = Input::Running(clock);
            }
            Input::Running(_) | Input::Ended => {}
        }
        match &mut self.inputs[input] {
            Input::Running(clock) => clock,
            _ => unreachable!("an input that ended has no further block"),
        }
    }

    /// Takes a block of `input` of which only (least, greatest, disorder) of the times are known, if that is enough.
    pub(super) fn pass(&mut self, input: usize, times: Option<(i64, i64, u64)>) -> bool {
        let Some((least, greatest, disorder)) = times else { return true };
        let passed = self.clock(input).pass(least, greatest, disorder as i64);
        self.note(input);
        passed
    }

    /// Takes a block of `input`.
    pub(super) fn judge(&mut self, input: usize, pieces: &[Piece]) -> Marks {
        let clock = self.clock(input);
        let marks = pieces.iter().map(|piece| clock.judge(&piece.times)).collect();
        self.note(input);
        marks
    }

    fn note(&mut self, input: usize) {
        let clock = self.clock(input);
        let (greatest, disorder) = (clock.greatest(), clock.disorder());
        self.greatest = self.greatest.max(greatest);
        self.disorder = self.disorder.max(disorder);
        self.advance();
    }
}
