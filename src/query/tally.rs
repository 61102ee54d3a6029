//! What a run counts while it reads: the ledger, bad records and where they are, how far the input is out of order.

use super::exec::{Context, MaxBad};
use super::map::Mapped;
use crate::Result;
use crate::metrics::{Ledger, Statistics};
use crate::source::{BadPlace, Report};
use std::path::Path;

/// Bad records whose places are remembered.
const BAD_PLACES: usize = 10;

/// Sums over the run, kept in the order of the input.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) statistics: Statistics,
    pub(super) bad: Vec<BadPlace>,
    /// Lines of each input so far.
    pub(super) next_line: Vec<u64>,
    pub(super) greatest: Option<i64>,
}

impl Tally {
    /// Of a run over so many inputs.
    pub(super) fn new(inputs: usize) -> Tally {
        Tally { next_line: vec![0; inputs.max(1)], ..Tally::default() }
    }

    /// Inputs have other numbers than they had: those there, and here.
    pub(super) fn renumber(&mut self, same: &[(usize, usize)]) {
        let before = std::mem::take(&mut self.next_line);
        self.next_line.resize(same.iter().map(|(_, here)| here + 1).max().unwrap_or(1), 0);
        for (there, here) in same {
            self.next_line[*here] = before.get(*there).copied().unwrap_or(0);
        }
    }

    /// Takes note of what a task said.
    ///
    /// # Errors
    /// Too many bad records; those of the sink of bad records.
    pub(super) fn report(&mut self, report: Report, context: &mut Context) -> Result<()> {
        let bad = report.bad.len() as u64;
        let ledger = &mut self.statistics.ledger;
        ledger.add(&Ledger { read: bad, bad, ..Ledger::default() });
        self.statistics.bytes_in += report.bytes;
        self.statistics.cast_failed += report.cast_failed;
        if self.next_line.len() <= report.input {
            self.next_line.resize(report.input + 1, 0);
        }
        let line = &mut self.next_line[report.input];
        let path = report.arrival.as_ref().and_then(|arrival| arrival.path.as_deref());
        let file = path.map(Path::to_path_buf).or_else(|| context.inputs.get(report.input).cloned().flatten());
        for (i, bad) in report.bad.iter().enumerate() {
            if self.bad.len() >= BAD_PLACES && context.bad_sink.is_none() {
                break;
            }
            let place = BadPlace {
                file: file.clone(),
                line: *line + bad.line + 1,
                offset: bad.start as u64,
                reason: bad.reason,
            };
            if let Some(sink) = &mut context.bad_sink {
                sink(&place, report.bad_bytes.get(i).map_or(&[], Vec::as_slice))?;
            }
            if self.bad.len() < BAD_PLACES {
                self.bad.push(place);
            }
        }
        *line += report.lines;
        match context.max_bad {
            MaxBad::Records(most) if self.statistics.ledger.bad > most => Err(self.too_many(&format!("{most}"))),
            _ => Ok(()),
        }
    }

    /// Judges the share of bad records, at the end.
    pub(super) fn check_share(&self, context: &Context) -> Result<()> {
        let ledger = &self.statistics.ledger;
        match context.max_bad {
            MaxBad::Share(share) if ledger.bad as f64 > share * ledger.read as f64 => {
                Err(self.too_many(&format!("{}% of {}", share * 100.0, ledger.read)))
            }
            _ => Ok(()),
        }
    }

    fn too_many(&self, most: &str) -> crate::Error {
        let mut message =
            format!("{} bad records, more than the {most} that --max-bad allows", self.statistics.ledger.bad);
        if let Some(first) = self.bad.first() {
            let file = first.file.as_ref().map_or("line".into(), |f| format!("{}, line", f.display()));
            message += &format!("; the first is {file} {} (byte {}): {}", first.line, first.offset, first.reason);
        }
        crate::Error::data(message)
    }

    /// Takes note of records of blocks that turned out to have come too late.
    pub(super) fn late(&mut self, records: u64) {
        let ledger = &mut self.statistics.ledger;
        (ledger.used, ledger.late) = (ledger.used - records, ledger.late + records);
    }

    /// Takes note of a block.
    pub(super) fn block<K>(&mut self, block: &Mapped<K>) {
        self.statistics.ledger.add(&block.ledger);
        if let Some((least, greatest, disorder)) = block.times {
            let before = self.greatest.map_or(0, |g| g.saturating_sub(least).max(0) as u64);
            self.statistics.max_disorder_us = self.statistics.max_disorder_us.max(disorder).max(before);
            self.greatest = Some(self.greatest.map_or(greatest, |g| g.max(greatest)));
        }
    }
}
