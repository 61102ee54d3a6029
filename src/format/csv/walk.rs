//! Where records end when quoted fields may hold newlines, from any byte of an input on.
//!
//! A quote opens a quoted field at the start of a field and nowhere else; inside, two quotes are one, and a single one
//! ends the quoting. So three states say all that the bytes before a place mean for those behind it: outside quotes,
//! inside, or right behind a quote that the next byte explains. [`Walker`] goes through a text from one known state. Where
//! the state is not known yet, [`Parity`] goes through a block from both at once, so that blocks can be looked at in
//! parallel and put together in order.
//!
//! A record over the limit ends at the first newline from the limit on, quoted or not: a field whose quote is never closed
//! costs the records of one limit's length, not the rest of the input.
//!
//! Cost: one search for quotes, 64 bytes at a time; a text without any is passed at the speed of memory.

use super::{Dialect, specials};
use memchr::{memchr, memchr2, memrchr};

/// What the bytes before a place mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Not in a quoted field.
    Outside,
    /// In one.
    Inside,
    /// Behind a quote inside one: another quote makes it a part of the text, anything else the end.
    Behind,
}

/// A place in an input between two bytes, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walker {
    delimiter: u8,
    quote: u8,
    max_record: u64,
    pub(crate) state: State,
    /// The byte before this place.
    before: u8,
    /// Where the record began that this place is in, as an offset in the input.
    pub(crate) record: u64,
}

impl Walker {
    /// At the start of an input. `None` if there are no quotes: then every newline ends a record.
    pub(crate) fn new(dialect: Dialect, max_record: usize) -> Option<Walker> {
        let quote = dialect.quote?;
        let max_record = max_record as u64;
        Some(Walker {
            delimiter: dialect.delimiter,
            quote,
            max_record,
            state: State::Outside,
            before: b'\n',
            record: 0,
        })
    }

    /// At the start of the record at `offset`.
    pub(crate) fn at(&self, offset: u64) -> Walker {
        Walker { state: State::Outside, before: b'\n', record: offset, ..self.clone() }
    }

    /// At the start of a block at `offset`, in `state` and behind the byte `before`; the record began at `record`.
    pub(crate) fn inside(&self, state: State, before: u8, record: u64) -> Walker {
        Walker { state, before, record, ..self.clone() }
    }

    /// Whether a record begins at this place.
    pub(crate) fn at_start(&self) -> bool {
        self.state == State::Outside && self.before == b'\n'
    }

    #[cfg(test)]
    pub(super) fn inside_quotes(&self) -> bool {
        self.state == State::Inside
    }

    /// Goes on to the end of the record: the place behind its newline, counted in `text`, which begins at this place, at
    /// `base` of the input. `None`: the text ends first, and this is its end now.
    pub(crate) fn next_end(&mut self, text: &[u8], base: u64) -> Option<usize> {
        let mut at = 0;
        loop {
            let rest = text.get(at..).unwrap_or_default();
            match self.state {
                State::Outside => match memchr2(self.quote, b'\n', rest) {
                    Some(n) if rest[n] == b'\n' => {
                        *self = self.at(base + (at + n) as u64 + 1);
                        return Some(at + n + 1);
                    }
                    Some(n) => {
                        if self.opens(text, at + n, base) {
                            self.state = State::Inside;
                        }
                        at += n + 1;
                    }
                    None => break,
                },
                State::Inside => {
                    let quote = memchr(self.quote, rest).map(|n| at + n);
                    if let Some(end) = self.over(text, at, quote.unwrap_or(text.len()), base) {
                        *self = self.at(base + end as u64);
                        return Some(end);
                    }
                    let Some(quote) = quote else { break };
                    self.state = State::Behind;
                    at = quote + 1;
                }
                State::Behind => at += self.behind(rest),
            }
            if at == text.len() {
                break;
            }
        }
        self.before = text.last().copied().unwrap_or(self.before);
        None
    }

    /// Goes on to the end of `text`, past any number of records.
    pub(crate) fn skip(&mut self, text: &[u8], base: u64) {
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            match self.state {
                State::Outside => {
                    let quote = memchr(self.quote, rest).unwrap_or(rest.len());
                    if let Some(newline) = memrchr(b'\n', &rest[..quote]) {
                        self.record = base + (at + newline) as u64 + 1;
                    }
                    at += quote + 1;
                    if quote < rest.len() && self.opens(text, at - 1, base) {
                        self.state = State::Inside;
                    }
                }
                State::Inside => {
                    let quote = memchr(self.quote, rest).map(|n| at + n);
                    if let Some(end) = self.over(text, at, quote.unwrap_or(text.len()), base) {
                        *self = self.at(base + end as u64);
                        at = end;
                    } else if let Some(quote) = quote {
                        self.state = State::Behind;
                        at = quote + 1;
                    } else {
                        break;
                    }
                }
                State::Behind => at += self.behind(rest),
            }
        }
        self.before = text.last().copied().unwrap_or(self.before);
    }

    /// Whether the quote at `at` stands at the start of a field.
    #[inline]
    fn opens(&self, text: &[u8], at: usize, base: u64) -> bool {
        let before = if at > 0 { text[at - 1] } else { self.before };
        before == self.delimiter || before == b'\n' || (base == 0 && at == 3 && text.starts_with(b"\xef\xbb\xbf"))
    }

    /// The place behind the newline in `text[from..to]`, all of it inside quotes, that ends a record over the limit.
    fn over(&self, text: &[u8], from: usize, to: usize, base: u64) -> Option<usize> {
        let limit = (self.record.saturating_add(self.max_record)).saturating_sub(base);
        let from = from.max(usize::try_from(limit).unwrap_or(usize::MAX));
        memchr(b'\n', text.get(from..to)?).map(|n| from + n + 1)
    }

    /// Explains the quote before `rest`; gives what of `rest` that took.
    fn behind(&mut self, rest: &[u8]) -> usize {
        let doubled = rest.first() == Some(&self.quote);
        if !rest.is_empty() {
            self.state = if doubled { State::Inside } else { State::Outside };
        }
        usize::from(doubled)
    }
}

/// What a block makes of the states before it, taken from outside and from inside quotes at once.
#[derive(Debug)]
pub(crate) struct Parity {
    delimiter: u8,
    quote: u8,
    /// The byte before what comes next.
    before: u8,
    /// Bytes seen.
    seen: u64,
    first: Option<u8>,
    outside: Run,
    inside: Run,
    /// Whether both are the same from here on.
    joined: bool,
}

/// One way through a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    state: State,
    /// Where the stretch outside quotes began, in the piece at hand.
    from: usize,
    /// Whether a record ends in the block.
    ends: bool,
}

impl Run {
    #[inline]
    fn quote(&mut self, at: usize, opens: bool, text: &[u8]) {
        match self.state {
            State::Inside => {
                self.state = State::Behind;
                self.from = at + 1;
            }
            State::Behind if self.from == at => self.state = State::Inside,
            State::Behind | State::Outside => {
                self.state = if opens { State::Inside } else { State::Outside };
                if opens && !self.ends {
                    self.ends = memchr(b'\n', &text[self.from..at]).is_some();
                }
            }
        }
    }

    fn finish(&mut self, text: &[u8]) {
        if self.state == State::Behind && self.from < text.len() {
            self.state = State::Outside;
        }
        if self.state == State::Outside && !self.ends {
            self.ends = memchr(b'\n', &text[self.from..]).is_some();
        }
        self.from = 0;
    }
}

impl Parity {
    /// Before a block whose records are as `walker` says; `before` is the byte before it.
    pub(crate) fn new(walker: &Walker, before: u8) -> Parity {
        let run = |state| Run { state, from: 0, ends: false };
        let (outside, inside) = (run(State::Outside), run(State::Inside));
        Parity {
            delimiter: walker.delimiter,
            quote: walker.quote,
            before,
            seen: 0,
            first: None,
            outside,
            inside,
            joined: false,
        }
    }

    /// Goes on over `text`.
    pub(crate) fn feed(&mut self, text: &[u8], mark: bool) {
        let Some(last) = text.last() else { return };
        let Parity { delimiter, before, seen, .. } = *self;
        let (mut outside, mut inside, mut joined) = (self.outside, self.inside, self.joined);
        specials::each(text, self.quote, |at| {
            let before = if at > 0 { text[at - 1] } else { before };
            let opens = before == delimiter || before == b'\n' || (mark && seen + at as u64 == 3);
            outside.quote(at, opens, text);
            // Mostly one record is enough to make both ways the same.
            if !joined {
                inside.quote(at, opens, text);
                joined = outside == inside;
            }
        });
        outside.finish(text);
        if joined {
            inside = outside;
        } else {
            inside.finish(text);
        }
        (self.outside, self.inside, self.joined) = (outside, inside, joined);
        self.first = self.first.or(text.first().copied());
        self.seen += text.len() as u64;
        self.before = *last;
    }

    /// The state behind the block, given that before it, and the block's last byte; `None` if no record ends in the
    /// block or its first byte would have to be looked at again: then a [`Walker`] has to go through it.
    pub(crate) fn after(&self, state: State) -> Option<(State, u8)> {
        let run = match state {
            State::Outside => self.outside,
            State::Inside => self.inside,
            State::Behind if self.first != Some(self.quote) => self.outside,
            State::Behind => return None,
        };
        run.ends.then_some((run.state, self.before))
    }
}
