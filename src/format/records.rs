//! Records of named columns on their way to typed ones: what CSV and patterns share once the fields of a record are found.
//!
//! A column that is wanted more than once, as a key, as a number and as the time, has one *slot*: its place is found once.
//! The places of up to [`BATCH`] records wait in one vector, slot by slot, before each typed column takes its own.

use super::columns::{Clock, Column, Place};
use super::{Decoded, Field, TextBlock, Wanted};
use crate::time::TimeFormat;
use crate::{Error, Result};

/// Records cut before the columns are filled: their places fit the L1 cache.
const BATCH: usize = 128;

/// Which columns are wanted, and where their places go.
#[derive(Debug, Clone)]
pub(super) struct Slots {
    pub(super) wanted: Wanted,
    /// The slot of each column up to the last wanted one, from 1; 0: it is not wanted.
    pub(super) of_column: Vec<u32>,
    /// How many slots there are.
    pub(super) width: usize,
    /// The event time's slot.
    time: Option<usize>,
    /// The slot of each wanted field, and how its times are written.
    fields: Vec<(usize, TimeFormat)>,
}

impl Slots {
    /// The slots for what is wanted of columns with these names.
    ///
    /// # Errors
    /// What `missing` says of a field that is no column.
    pub(super) fn new(wanted: &Wanted, names: &[String], missing: impl Fn(&str) -> Error) -> Result<Slots> {
        let (mut of_column, mut width): (Vec<u32>, usize) = (Vec::new(), 0);
        let mut slot = |name: &str| -> Result<usize> {
            let column = names.iter().position(|n| n == name).ok_or_else(|| missing(name))?;
            if of_column.len() <= column {
                of_column.resize(column + 1, 0);
            }
            if of_column[column] == 0 {
                width += 1;
                of_column[column] = width as u32;
            }
            Ok(of_column[column] as usize - 1)
        };
        let time = wanted.time.as_ref().map(|t| slot(&t.name)).transpose()?;
        let fields = wanted.fields.iter().map(|f| Ok((slot(&f.name)?, wanted.format_of(&f.name))));
        let fields = fields.collect::<Result<_>>()?;
        Ok(Slots { wanted: wanted.clone(), of_column, width, time, fields })
    }
}

/// The records of one block.
pub(super) struct Records<'a> {
    slots: &'a Slots,
    block: &'a TextBlock,
    text: &'a [u8],
    quote: u8,
    clock: Option<(usize, Clock)>,
    /// The places of the records of a batch, one record behind the other. Who cuts a record appends its own.
    pub(super) places: Vec<Place>,
    batch: usize,
    /// Opened with the first batch, whose records tell how many there will be.
    columns: Vec<Column>,
    pub(super) done: Decoded,
}

impl<'a> Records<'a> {
    pub(super) fn new(slots: &'a Slots, block: &'a TextBlock, quote: Option<u8>) -> Result<Records<'a>> {
        if block.data.len() > i32::MAX as usize {
            return Err(Error::input("a block of text of 2 GiB or more: choose a smaller --max-record"));
        }
        let format = slots.wanted.time.as_ref().map(|t| t.format.clone()).unwrap_or_default();
        Ok(Records {
            slots,
            block,
            text: &block.data[..block.end],
            quote: quote.unwrap_or(0),
            clock: slots.time.map(|slot| (slot, Clock::new(format))),
            places: Vec::with_capacity(BATCH * slots.width),
            batch: 0,
            columns: Vec::new(),
            done: Decoded::default(),
        })
    }

    /// Takes the record whose places were appended, unless its time is wanted and not valid. The text is cut up to `seen`.
    #[inline]
    pub(super) fn take(&mut self, seen: usize) -> Result<bool> {
        if let Some((slot, clock)) = &mut self.clock {
            let first = self.places.len() - self.slots.width;
            match clock.read(self.text, self.places[first + *slot]) {
                Some(time) => self.done.times.push(time),
                None => return Ok(false),
            }
        }
        self.done.rows += 1;
        self.batch += 1;
        if self.batch == BATCH {
            self.fill(seen)?;
        }
        Ok(true)
    }

    /// Moves the batch into the columns.
    fn fill(&mut self, seen: usize) -> Result<()> {
        let slots = self.slots;
        let wanted = slots.wanted.fields.iter().zip(&slots.fields);
        if self.columns.is_empty() {
            // The records so far are an estimate of those to come.
            let (all, seen) = (self.block.end - self.block.start, seen - self.block.start);
            let rows = self.batch * (all / seen.max(1) + 1);
            if self.clock.is_some() {
                self.done.times.reserve(rows);
            }
            let (quote, data) = (self.quote, &self.block.data);
            let column =
                |(f, (_, format)): (&Field, &(usize, TimeFormat))| Column::new(f.ty, format.clone(), quote, data, rows);
            self.columns.extend(wanted.clone().map(column));
        }
        for (column, (field, (slot, _))) in self.columns.iter_mut().zip(wanted) {
            let places = self.places.get(*slot..).unwrap_or_default().iter().step_by(slots.width.max(1)).copied();
            column.extend(self.text, places).map_err(|fraction| {
                let value = fraction.text(self.text).unwrap_or_default();
                let value = String::from_utf8_lossy(&value[..value.len().min(64)]);
                let name = &field.name;
                Error::data(format!(
                    "field `{name}` is read as an integer, but a record has {value}: say --type {name}:float"
                ))
                .at_offset(self.block.offset + fraction.start() as u64)
            })?;
        }
        self.places.clear();
        self.batch = 0;
        Ok(())
    }

    /// What the block came to.
    pub(super) fn finish(mut self) -> Result<Decoded> {
        self.fill(self.block.end)?;
        let mut done = self.done;
        for column in self.columns {
            done.cast_failed += column.cast_failed();
            done.columns.push(column.finish()?);
        }
        Ok(done)
    }
}
