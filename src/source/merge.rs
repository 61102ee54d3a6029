//! Several inputs as one stream in time: the input whose next block begins earliest goes on.
//!
//! What comes next depends on the records alone, never on how far the work is, so blocks come in the same order on any
//! number of threads. Times inside an input may step back: an input's place is the greatest beginning of a block so far.
//! Inputs are looked at before they are begun, and only those that have begun are held open.
//!
//! Cost: a look at the first records of each block, at most 64 KiB of its 4 MiB.

use super::{Cut, Reader, Report, Seen, Task};
use crate::Result;
use crate::query::map::Piece;
use std::sync::Arc;

/// See the module.
pub(crate) struct Merged {
    inputs: Vec<One>,
    round: usize,
}

struct One {
    reader: Box<dyn Reader>,
    state: State,
    /// Where it stands among the others; an input of which that is unknown goes first.
    place: Option<i64>,
}

enum State {
    /// Nothing was asked for.
    Waiting,
    /// The next task.
    Next(Box<dyn Task>),
    /// There is none, which was not said yet.
    Over,
    Ended,
}

impl Merged {
    /// Over `inputs`, in the order given.
    ///
    /// # Errors
    /// Inputs that cannot be read.
    pub(crate) fn new(inputs: Vec<Box<dyn Reader>>, round: usize) -> Result<Merged> {
        let one = |mut reader: Box<dyn Reader>| {
            let place = reader.first_time()?;
            Ok(One { reader, state: State::Waiting, place })
        };
        Ok(Merged { inputs: inputs.into_iter().map(one).collect::<Result<_>>()?, round })
    }

    /// The first time of each input, as far as it is known.
    pub(crate) fn first_times(&self) -> Vec<Option<i64>> {
        self.inputs.iter().map(|one| one.place).collect()
    }
}

impl One {
    /// Looks at what comes next.
    fn look(&mut self) -> Result<()> {
        let Some(task) = self.reader.tasks(1)?.pop() else {
            self.state = State::Over;
            return Ok(());
        };
        self.place = self.place.max(task.first_time()?);
        self.state = State::Next(task);
        Ok(())
    }
}

impl Reader for Merged {
    fn tasks(&mut self, most: usize) -> Result<Vec<Box<dyn Task>>> {
        let mut tasks: Vec<Box<dyn Task>> = Vec::new();
        while tasks.len() < most {
            let open = self.inputs.iter_mut().enumerate().filter(|(_, one)| !matches!(one.state, State::Ended));
            // The end of an input comes right behind its last task, also where a round ends between the two.
            let next = open.min_by_key(|(_, one)| (!matches!(one.state, State::Over), one.place));
            let Some((number, one)) = next else { break };
            if matches!(one.state, State::Waiting) {
                one.look()?;
            }
            match std::mem::replace(&mut one.state, State::Ended) {
                State::Next(task) => {
                    tasks.push(task);
                    one.look()?;
                }
                _ => tasks.push(Box::new(End(number))),
            }
        }
        Ok(tasks)
    }

    fn round(&self, _threads: usize) -> usize {
        self.round
    }

    fn seen(&self) -> Arc<Seen> {
        // All of them share one.
        self.inputs.first().map(|one| one.reader.seen()).unwrap_or_default()
    }

    fn finish(&mut self) -> Result<()> {
        self.inputs.iter_mut().try_for_each(|one| one.reader.finish())
    }
}

/// Says that an input has ended.
struct End(usize);

impl Task for End {
    fn run(&self, _each: &mut dyn FnMut(Cut, Vec<Piece>) -> Result<()>) -> Result<Report> {
        Ok(Report { input: self.0, ended: true, ..Report::default() })
    }
}
