//! A replay at the pace of its records: blocks are cut where their times have gone on by a step, and handed out when that
//! time has come on the clock.
//!
//! The pace follows the greatest time so far: records that are out of order come with those before them in the input. A
//! stretch of time without records is waited for. Blocks are decoded one by one, on one thread, which is fast enough for any pace.

use super::{Arrival, Event, Live};
use crate::Result;
use crate::query::map::{Piece, Text};
use crate::source::{Cut, Reader, Report, Task};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The longest time that records of one block are apart on the clock.
const STEP: Duration = Duration::from_millis(50);
/// How long is slept at once: a stop is noticed then.
const NAP: Duration = Duration::from_millis(100);

/// See the module.
pub(crate) struct Paced {
    reader: Box<dyn Reader>,
    live: Live,
    speed: f64,
    /// The first time, and when it came.
    start: Option<(i64, Instant)>,
    greatest: i64,
    /// What waits for its time.
    ready: VecDeque<(i64, Slice)>,
}

impl Paced {
    /// The blocks of `reader` at `speed` times their own pace, until `live` is stopped.
    pub(crate) fn new(reader: Box<dyn Reader>, live: Live, speed: f64) -> Paced {
        Paced { reader, live, speed, start: None, greatest: i64::MIN, ready: VecDeque::new() }
    }

    /// How long it is until the records of `time` are due, seconds; negative: they are.
    fn left(&self, time: i64) -> f64 {
        let Some((first, start)) = self.start else { return 0.0 };
        time.saturating_sub(first) as f64 / 1e6 / self.speed - start.elapsed().as_secs_f64()
    }

    /// Decodes a block and cuts it.
    fn cut(&mut self, task: &dyn Task) -> Result<()> {
        let mut pieces = Vec::new();
        let mut report = task.run(&mut |_, more| {
            pieces.extend(more);
            Ok(())
        })?;
        let input = report.input;
        let arrival = report.arrival.clone();
        let step = (STEP.as_secs_f64() * 1e6 * self.speed) as i64;
        let mut put = |due: i64, piece: Option<Piece>, ready: &mut VecDeque<(i64, Slice)>| {
            let rest =
                arrival.clone().map(|arrival| Box::new(Arrival { position: None, event: Event::None, ..*arrival }));
            let mut said = std::mem::replace(&mut report, Report { input, arrival: rest, ..Report::default() });
            if let Some(arrival) = &mut said.arrival {
                arrival.position = None;
            }
            ready.push_back((due, Slice { piece, report: said }));
        };
        let before = self.ready.len();
        for piece in pieces {
            let mut from = 0;
            let mut begun = self.greatest;
            for row in 0..piece.rows {
                let Some(time) = piece.times.get(row) else { break };
                if *time > self.greatest {
                    if time.saturating_sub(begun) >= step {
                        if row > from {
                            put(self.greatest, Some(slice(&piece, from, row)), &mut self.ready);
                        }
                        (from, begun) = (row, *time);
                    }
                    self.greatest = *time;
                }
            }
            if piece.rows > from {
                put(self.greatest, Some(slice(&piece, from, piece.rows)), &mut self.ready);
            }
        }
        if self.ready.len() == before {
            put(self.greatest, None, &mut self.ready);
        }
        // The position holds once all of the block has come.
        if let (Some((_, last)), Some(arrival)) = (self.ready.back_mut(), arrival)
            && let Some(of_last) = &mut last.report.arrival
        {
            of_last.position = arrival.position;
        }
        if self.start.is_none() && self.greatest > i64::MIN {
            let first = self.ready.front().map_or(self.greatest, |(due, _)| *due);
            self.start = Some((first, Instant::now()));
        }
        Ok(())
    }

    fn is_due(&self) -> bool {
        self.ready.front().is_some_and(|(time, _)| self.left(*time) <= 0.0)
    }
}

impl Reader for Paced {
    fn tasks(&mut self, most: usize) -> Result<Vec<Box<dyn Task>>> {
        let mut tasks: Vec<Box<dyn Task>> = Vec::new();
        while !self.live.is_stopped() && tasks.len() < most {
            if self.ready.is_empty() {
                let Some(task) = self.reader.tasks(1)?.pop() else { break };
                self.cut(&*task)?;
            }
            if !self.is_due() {
                break;
            }
            if let Some((_, slice)) = self.ready.pop_front() {
                tasks.push(Box::new(Once(Mutex::new(Some(slice)))));
            }
        }
        Ok(tasks)
    }

    fn wait(&mut self) -> Result<bool> {
        if self.live.is_stopped() {
            return Ok(false);
        }
        let Some((time, _)) = self.ready.front() else { return self.reader.wait() };
        std::thread::sleep(Duration::from_secs_f64(self.left(*time).clamp(0.0, NAP.as_secs_f64())));
        Ok(!self.live.is_stopped())
    }

    fn round(&self, threads: usize) -> usize {
        self.reader.round(threads)
    }

    fn task_bytes(&self) -> usize {
        self.reader.task_bytes()
    }

    fn finish(&mut self) -> Result<()> {
        self.reader.finish()
    }
}

/// Rows `from..to`.
fn slice(piece: &Piece, from: usize, to: usize) -> Piece {
    let rows = to - from;
    let text = piece
        .text
        .as_ref()
        .map(|text| Arc::new(Text { data: text.data.clone(), places: text.places[from..to].to_vec() }));
    Piece {
        rows,
        times: piece.times.slice(from, rows),
        columns: piece.columns.iter().map(|column| column.slice(from, rows)).collect(),
        text,
    }
}

/// Records that come at one time, and what their block has to say.
struct Slice {
    piece: Option<Piece>,
    report: Report,
}

/// A slice that is handed over once.
struct Once(Mutex<Option<Slice>>);

impl Task for Once {
    fn run(&self, each: &mut dyn FnMut(Cut, Vec<Piece>) -> Result<()>) -> Result<Report> {
        let taken = self.0.lock().ok().and_then(|mut slice| slice.take());
        let Some(Slice { piece, report }) = taken else { return Ok(Report::default()) };
        if let Some(piece) = piece {
            each(Cut::Whole, vec![piece])?;
        }
        Ok(report)
    }
}
