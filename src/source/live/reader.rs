//! Live inputs as a reader: what has come, input by input, in the order of their times as far as that is known.
//!
//! While there is a backlog, as at the beginning, the input that is least far goes on, as with inputs that have an end. What
//! comes later is taken as it comes.

use super::content::{Got, Reading};
use super::files::Files;
use super::hint::Hint;
use super::pipes::{CONNECTIONS, Pipe, accept};
use super::received::{self, Entry};
use super::{Arrival, Event, Live, Sample};
use crate::format::csv::Walker;
use crate::format::{Decoder, TextBlock};
use crate::query::map::Piece;
use crate::source::Seen;
use crate::source::text::{LOOK, TextTask, Work, look};
use crate::source::{BLOCK_BYTES, Cut, ReadOptions, Reader, Report, Task};
use crate::time::Timestamp;
use crate::{Error, Result};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often live inputs are looked at. Tests do not wait for long.
const TICK: Duration = Duration::from_millis(if cfg!(test) { 2 } else { 100 });
/// The same, while much comes.
const SHORT_TICK: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 5 });
/// So much at once is much, bytes.
const MUCH: u64 = 256 << 10;
/// Lines that the fields and their types are decided from, and how long they are waited for once there is one.
const SAMPLE_LINES: usize = 1000;
const SAMPLE_WAIT: Duration = Duration::from_millis(if cfg!(test) { 0 } else { 500 });

/// See the module.
pub(crate) struct LiveReader {
    live: Live,
    pub(super) files: Files,
    pub(super) pipes: Vec<Pipe>,
    sharers: Arc<AtomicUsize>,
    pub(super) inputs: Vec<Input>,
    reading: Reading,
    /// Known once the format is.
    decoder: Option<Arc<dyn Decoder>>,
    seen: Arc<Seen>,
    /// What is to be said before the next block.
    events: VecDeque<(usize, Arrival)>,
    /// Bytes handed out since it last had nothing.
    burst: u64,
    pub(super) next_look: Instant,
    /// How often is looked, and what may say that it is worth while to look earlier.
    pub(super) tick: Duration,
    pub(super) hint: Hint,
    /// The run is stopped: nothing more is received, and nothing that was is left.
    closed: bool,
    drained: bool,
    /// What was written down in a run before this one has been had again, but for what is `held`.
    caught_up: bool,
    held: VecDeque<(u64, Entry)>,
}

/// One input.
pub(super) struct Input {
    /// Where it stands among the others, by its own times; one that is not known goes first.
    place: Option<i64>,
    /// It may have something new.
    fresh: bool,
    last: Instant,
    /// When it was last found to have nothing.
    tried: Instant,
    silent: bool,
    /// Its number can be given again.
    free: bool,
    /// It was a connection of a run before this one.
    gone: bool,
}

impl LiveReader {
    /// Follows `patterns`, of which `-` is standard input, and listens, as `live` says.
    pub(crate) fn new(patterns: Vec<PathBuf>, live: Live, options: ReadOptions) -> Result<LiveReader> {
        let (stdin, patterns): (Vec<_>, Vec<_>) = patterns.into_iter().partition(|p| p == Path::new("-"));
        let files = Files::new(patterns, live.positions.clone())?;
        let journal = live.journal.clone();
        let mut reader = LiveReader {
            live,
            files,
            pipes: Vec::new(),
            sharers: Arc::default(),
            inputs: Vec::new(),
            reading: Reading { options, pool: Arc::default(), walker: None },
            decoder: None,
            seen: Arc::new(Seen::new(Vec::new())),
            events: VecDeque::new(),
            burst: 0,
            next_look: Instant::now(),
            tick: TICK,
            hint: Hint::default(),
            closed: false,
            drained: false,
            caught_up: journal.is_none(),
            held: VecDeque::new(),
        };
        if !stdin.is_empty() {
            let input = Input::add(&mut reader.inputs);
            #[cfg(test)]
            reader.pipes.extend(reader.live.script.stdin(input).transpose()?);
            if reader.pipes.is_empty() {
                reader.pipes.push(Pipe::stdin(input)?);
            }
        }
        reader.make_room(journal.map_or(0, |journal| journal.inputs()));
        reader.look()?;
        Ok(reader)
    }

    /// One more input, which `from` gives, as if by standard input.
    #[cfg(test)]
    pub(super) fn pipe(&mut self, from: impl std::io::Read + Send + 'static) -> Result<()> {
        let input = Input::add(&mut self.inputs);
        self.pipes.push(Pipe::start(input, from, None, Arc::new(AtomicUsize::new(1)))?);
        Ok(())
    }

    /// The first lines of the first input that has any; they are waited for. `None` if the run is stopped first, or if there
    /// will be none.
    pub(crate) fn sample(&mut self) -> Result<Option<Sample>> {
        if let Some(sample) = &self.live.sample {
            return Ok(Some(sample.clone()));
        }
        let mut held = VecDeque::new();
        while let Some((logged, entry)) = self.entry()? {
            let sample = match &entry {
                Entry::Sample(sample) => Some(sample.clone()),
                // The first entries were damaged, and skipped.
                Entry::Block { text, .. } => Some(Sample { lines: text.clone(), path: None }),
                Entry::Said { .. } => None,
            };
            held.push_back((logged, entry));
            if sample.is_some() {
                self.held = held;
                return Ok(sample);
            }
        }
        self.held = held;
        self.catch_up();
        let sample = self.first_sample()?;
        if let (Some(journal), Some(sample)) = (&self.live.journal, &sample) {
            journal.append(&received::sample(sample)?)?;
        }
        Ok(sample)
    }

    fn first_sample(&mut self) -> Result<Option<Sample>> {
        let mut since = None;
        loop {
            let stopped = self.live.is_stopped();
            self.look()?;
            let (mut lines, path, all) = self.first_lines()?;
            if lines.is_empty() {
                if stopped || all && !self.waits() {
                    return Ok(None);
                }
            } else {
                let begun = *since.get_or_insert_with(Instant::now);
                let last = memchr::memchr_iter(b'\n', &lines).nth(SAMPLE_LINES - 1);
                if all || stopped || last.is_some() || begun.elapsed() >= SAMPLE_WAIT {
                    lines.truncate(last.map_or(lines.len(), |last| last + 1));
                    let path = path.map(|path| path.to_string_lossy().into_owned());
                    return Ok(Some(Sample { lines, path }));
                }
            }
            std::thread::sleep(SHORT_TICK);
        }
    }

    /// Whole lines at the beginning of an input, and whether there will be no others there.
    fn first_lines(&mut self) -> Result<(Vec<u8>, Option<PathBuf>, bool)> {
        for content in &self.files.contents {
            let mut first = content.first(BLOCK_BYTES as usize)?;
            let end = match memchr::memrchr(b'\n', &first) {
                Some(at) => at + 1,
                // A line that is longer than all that is looked at.
                None if first.len() as u64 == BLOCK_BYTES => first.len(),
                None => 0,
            };
            first.truncate(end);
            if !first.is_empty() {
                return Ok((first, Some(content.path.to_path_buf()), false));
            }
        }
        let mut all = true;
        for pipe in &mut self.pipes {
            let (first, ended) = pipe.sample(&self.reading)?;
            if !first.is_empty() {
                return Ok((first.to_vec(), None, ended));
            }
            all &= ended;
        }
        Ok((Vec::new(), None, all))
    }

    /// Lets records be decoded by `decoder`; `must` names, at their columns, the fields that must occur in some record.
    pub(crate) fn decode(&mut self, decoder: Arc<dyn Decoder>, must: Vec<Option<String>>) {
        self.seen = Arc::new(Seen::new(must));
        self.reading.walker =
            decoder.quoting().and_then(|dialect| Walker::new(dialect, self.reading.options.max_record));
        self.decoder = Some(decoder);
    }

    /// The names of the inputs that there are.
    pub(crate) fn names(&self) -> Vec<Option<PathBuf>> {
        let mut names = vec![None; self.inputs.len()];
        for content in &self.files.contents {
            names[content.input] = Some(content.name.clone());
        }
        names
    }

    /// Whether something may come that is not there.
    fn waits(&self) -> bool {
        #[cfg(test)]
        if self.live.script.connects() {
            return true;
        }
        self.live.listen.is_some() || self.files.are_followed() || self.pipes.iter().any(|pipe| !pipe.ended)
    }

    /// Looks for new files and connections; everything may have something new.
    fn look(&mut self) -> Result<()> {
        let (inputs, events) = (&mut self.inputs, &mut self.events);
        self.files.look(|_| Input::add(inputs))?;
        self.hint.watch(self.files.folders());
        let takes = self.caught_up && !self.live.is_stopped();
        if let Some(listener) = self.live.listen.as_ref().filter(|_| takes) {
            while self.pipes.iter().filter(|pipe| pipe.is_socket()).count() < CONNECTIONS
                && let Some(socket) = accept(listener)?
            {
                let input = Input::add(inputs);
                events.push_back((input, Arrival { event: Event::Begins, ..now() }));
                self.pipes.push(Pipe::socket(input, socket, self.sharers.clone())?);
            }
        }
        #[cfg(test)]
        if takes && let Some(pipe) = self.live.script.connect(|| Input::add(inputs)).transpose()? {
            events.push_back((pipe.input, Arrival { event: Event::Begins, ..now() }));
            self.pipes.push(pipe);
        }
        self.inputs.iter_mut().filter(|input| !input.free).for_each(|input| input.fresh = true);
        self.next_look = Instant::now() + self.tick;
        Ok(())
    }

    /// The next block.
    fn next(&mut self) -> Result<Option<Box<dyn Task>>> {
        if (!self.caught_up || !self.held.is_empty())
            && let Some(task) = self.again()?
        {
            return Ok(Some(task));
        }
        loop {
            if let Some((input, mut arrival)) = self.events.pop_front() {
                if let Some(journal) = &self.live.journal {
                    arrival.logged = Some(journal.append(&received::said(input, &arrival)?)?);
                }
                return Ok(Some(Box::new(Said { input, arrival })));
            }
            let fresh = self.inputs.iter().enumerate().filter(|(_, input)| input.fresh);
            let Some((number, _)) = fresh.min_by_key(|(_, input)| input.place) else { return Ok(None) };
            match self.next_of(number)? {
                Some(task) => {
                    let input = &mut self.inputs[number];
                    (input.last, input.silent) = (Instant::now(), false);
                    return Ok(Some(task));
                }
                None => {
                    let input = &mut self.inputs[number];
                    (input.fresh, input.tried) = (false, Instant::now());
                }
            }
        }
    }

    fn make_room(&mut self, inputs: usize) {
        while self.inputs.len() < inputs {
            Input::add(&mut self.inputs);
        }
    }

    /// Nothing that was written down in a run before this one is left to be had: its connections are gone.
    /// Whoever sent through them may come back: they hold windows open until they are idle.
    fn catch_up(&mut self) {
        if !std::mem::replace(&mut self.caught_up, true) {
            for (number, input) in self.inputs.iter_mut().enumerate() {
                (input.last, input.gone) = (Instant::now(), self.pipes.iter().all(|pipe| pipe.input != number));
            }
        }
    }

    /// The next entry of the journal that is to be had again, and the number of the one after it.
    fn entry(&mut self) -> Result<Option<(u64, Entry)>> {
        if let Some(held) = self.held.pop_front() {
            return Ok(Some(held));
        }
        let Some(journal) = self.live.journal.as_ref().filter(|_| !self.caught_up) else { return Ok(None) };
        let Some((logged, entry)) = journal.again()? else { return Ok(None) };
        Ok(Some((logged, received::decode(&entry)?)))
    }

    /// The next that was written down in a run before this one.
    fn again(&mut self) -> Result<Option<Box<dyn Task>>> {
        let (logged, entry) = loop {
            match self.entry()? {
                // It is known.
                Some((_, Entry::Sample(_))) => {}
                Some((logged, entry)) => break (Some(logged), entry),
                None => {
                    self.catch_up();
                    return Ok(None);
                }
            }
        };
        Ok(Some(match entry {
            Entry::Sample(_) => return Ok(None),
            Entry::Said { input, at, event } => {
                self.make_room(input + 1);
                Box::new(Said { input, arrival: Arrival { logged, event, ..Arrival::at(at) } })
            }
            Entry::Block { input, at, offset, header, text } => {
                self.make_room(input + 1);
                let max_record = self.reading.options.max_record;
                let of = |text: Vec<u8>, offset| {
                    let (start, end) = (0, text.len());
                    TextBlock { data: text.into(), start, end, offset, max_record }
                };
                let block = of(text, offset);
                let decoder = match &self.decoder {
                    _ if !header.is_empty() => self.own_decoder(None, None, &of(header, 0))?,
                    Some(decoder) if offset > 0 => decoder.clone(),
                    _ => self.own_decoder(None, None, &block)?,
                };
                self.task(input, block, decoder, Arrival { logged, ..Arrival::at(at) })?
            }
        }))
    }

    /// The next block of one input.
    fn next_of(&mut self, input: usize) -> Result<Option<Box<dyn Task>>> {
        let mut at = 0;
        while at < self.files.contents.len() {
            if self.files.contents[at].input != input {
                at += 1;
                continue;
            }
            match self.files.contents[at].read(&self.reading, false)? {
                Got::Block(block) => return self.of_file(at, block).map(Some),
                Got::Skipped => {}
                Got::Replaced => {
                    self.files.replaced(at)?;
                }
                Got::Nothing if self.files.is_over(at) => {
                    let last = self.files.contents[at].read(&self.reading, true)?;
                    if let Got::Block(block) = last {
                        return self.of_file(at, block).map(Some);
                    }
                    if let Got::Nothing = last {
                        let position = Some(self.files.close(at));
                        self.events.push_back((input, Arrival { position, ..now() }));
                    }
                }
                Got::Nothing => at += 1,
            }
        }
        while let Some(at) = self.pipes.iter().position(|pipe| pipe.input == input) {
            if let Some(block) = self.pipes[at].read(&self.reading)? {
                let decoder = self.own_decoder(self.pipes[at].decoder.clone(), None, &block)?;
                let mut arrival = now();
                if let Some(journal) = &self.live.journal {
                    let (text, pipe) = (&block.data[block.start..block.end], &mut self.pipes[at]);
                    arrival.logged =
                        Some(journal.append(&received::block(input, arrival.at, block.offset, &pipe.header, text)?)?);
                    if pipe.decoder.is_none() && self.decoder.as_ref().is_some_and(|of| !Arc::ptr_eq(of, &decoder)) {
                        pipe.header = received::header(text, decoder.quoting()).to_vec();
                    }
                }
                self.pipes[at].decoder = Some(decoder.clone());
                return self.task(input, block, decoder, arrival).map(Some);
            }
            if !self.pipes[at].ended {
                break;
            }
            let pipe = self.pipes.remove(at);
            self.events.push_back((input, Arrival { event: Event::Silent, ..now() }));
            self.inputs[input].free = pipe.is_socket();
        }
        Ok(None)
    }

    fn of_file(&mut self, at: usize, block: TextBlock) -> Result<Box<dyn Task>> {
        let content = &self.files.contents[at];
        let decoder = match &content.decoder {
            Some(decoder) => decoder.clone(),
            None if block.offset == 0 => self.own_decoder(None, Some(&content.path), &block)?,
            None => {
                // It goes on in the middle: its header, if it has one, stands at its beginning.
                let first = content.first(LOOK)?;
                let (end, max_record) = (first.len(), self.reading.options.max_record);
                let first = TextBlock { data: first.into(), start: 0, end, offset: 0, max_record };
                self.own_decoder(None, Some(&content.path), &first)?
            }
        };
        let content = &mut self.files.contents[at];
        content.decoder = Some(decoder.clone());
        let arrival = Arrival { path: Some(content.path.clone()), position: Some(content.position()), ..now() };
        let input = content.input;
        self.task(input, block, decoder, arrival)
    }

    /// The decoder of an input whose text begins with `first`.
    fn own_decoder(
        &self,
        own: Option<Arc<dyn Decoder>>,
        path: Option<&Path>,
        first: &TextBlock,
    ) -> Result<Arc<dyn Decoder>> {
        if let Some(own) = own {
            return Ok(own);
        }
        let Some(decoder) = &self.decoder else { return Err(Error::input("the format is not known yet")) };
        let own = decoder.for_input(first).map_err(|e| match path {
            Some(path) => e.in_file(path),
            None => e,
        })?;
        Ok(own.unwrap_or_else(|| decoder.clone()))
    }

    fn task(
        &mut self,
        input: usize,
        block: TextBlock,
        decoder: Arc<dyn Decoder>,
        arrival: Arrival,
    ) -> Result<Box<dyn Task>> {
        self.burst += (block.end - block.start) as u64;
        if self.inputs.len() > 1 {
            let place = look(&*decoder, &block)?;
            self.inputs[input].place = self.inputs[input].place.max(place);
        }
        let (options, pool, seen) = (self.reading.options.clone(), self.reading.pool.clone(), self.seen.clone());
        Ok(Box::new(Came { text: TextTask { input, work: Work::Block(block), decoder, options, pool, seen }, arrival }))
    }

    /// The run is to end. What files hold can be read another time; what was received cannot, and is handed out.
    fn close(&mut self) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        self.pipes.iter().for_each(Pipe::close);
        for (number, input) in self.inputs.iter_mut().enumerate() {
            input.fresh = self.pipes.iter().any(|pipe| pipe.input == number);
        }
        // It would come behind what is in the journal and was not had again: that is left to another run.
        self.drained = !self.caught_up || !self.held.is_empty();
    }

    /// Says which inputs have fallen silent: those that had nothing at the last look, and for long before it. How long ago that
    /// look was says nothing: the run may have been held up.
    fn fall_silent(&mut self) {
        for (number, input) in self.inputs.iter_mut().enumerate() {
            let silence = input.tried.saturating_duration_since(input.last);
            if !input.fresh && !input.silent && silence >= self.live.idle {
                input.silent = true;
                input.free |= input.gone;
                self.events.push_back((number, Arrival { event: Event::Silent, ..now() }));
            }
        }
    }
}

impl Input {
    /// A new input's number.
    fn add(inputs: &mut Vec<Input>) -> usize {
        let now = Instant::now();
        let input = Input { place: None, fresh: true, last: now, tried: now, silent: false, free: false, gone: false };
        match inputs.iter().position(|input| input.free) {
            Some(free) => {
                inputs[free] = input;
                free
            }
            None => {
                inputs.push(input);
                inputs.len() - 1
            }
        }
    }
}

impl Reader for LiveReader {
    fn tasks(&mut self, most: usize) -> Result<Vec<Box<dyn Task>>> {
        let mut tasks = Vec::new();
        if self.live.is_stopped() {
            self.close();
        } else if Instant::now() >= self.next_look {
            self.fall_silent();
            self.look()?;
        }
        if self.drained {
            return Ok(tasks);
        }
        while tasks.len() < most
            && let Some(task) = self.next()?
        {
            tasks.push(task);
        }
        self.drained = self.closed && tasks.is_empty();
        self.live.journal.as_ref().map_or(Ok(()), |journal| journal.commit())?;
        Ok(tasks)
    }

    fn wait(&mut self) -> Result<bool> {
        if self.live.is_stopped() {
            return Ok(!self.drained);
        }
        if !self.waits() {
            return Ok(false);
        }
        #[cfg(test)]
        if self.live.script.dry.as_ref().is_some_and(|dry| !dry()) {
            self.live.stop.store(true, std::sync::atomic::Ordering::Relaxed);
            return Ok(true);
        }
        let tick = if std::mem::take(&mut self.burst) >= MUCH { SHORT_TICK } else { self.tick };
        let tick = self.files.put_off().map_or(tick, |left| tick.min(left));
        // Changes that follow each other closely are looked at together.
        std::thread::sleep(tick.min(SHORT_TICK));
        self.hint.wait(tick.saturating_sub(SHORT_TICK));
        self.next_look = Instant::now();
        Ok(true)
    }

    /// Looks at the first lines of what is there, so that what is not begun holds windows open that it will count in.
    fn first_times(&mut self) -> Result<Vec<Option<i64>>> {
        let mut times = vec![None; self.inputs.len()];
        if times.len() < 2 {
            return Ok(times);
        }
        for content in &self.files.contents {
            let first = content.first(LOOK)?;
            let end = memchr::memrchr(b'\n', &first).map_or(0, |at| at + 1);
            let max_record = self.reading.options.max_record;
            let first = TextBlock { data: first.into(), start: 0, end, offset: 0, max_record };
            let unread = content.offset < end as u64 || content.is_packed();
            if end > 0 && unread && times[content.input].is_none() {
                let decoder = self.own_decoder(None, Some(&content.path), &first)?;
                times[content.input] = look(&*decoder, &first)?;
            }
        }
        self.inputs.iter_mut().zip(&times).for_each(|(input, time)| input.place = *time);
        Ok(times)
    }

    fn finish(&mut self) -> Result<()> {
        #[cfg(test)]
        self.live.script.ended.iter().for_each(|ended| ended());
        self.seen.check()
    }
}

/// A block that came.
struct Came {
    text: TextTask,
    arrival: Arrival,
}

impl Task for Came {
    fn run(&self, each: &mut dyn FnMut(Cut, Vec<Piece>) -> Result<()>) -> Result<Report> {
        let report = self.text.run(each)?;
        let arrival = Arrival { records: true, ..self.arrival.clone() };
        Ok(Report { arrival: Some(Box::new(arrival)), ..report })
    }
}

/// Something that is said of an input between its blocks.
struct Said {
    input: usize,
    arrival: Arrival,
}

impl Task for Said {
    fn run(&self, _each: &mut dyn FnMut(Cut, Vec<Piece>) -> Result<()>) -> Result<Report> {
        Ok(Report { input: self.input, arrival: Some(Box::new(self.arrival.clone())), ..Report::default() })
    }
}

/// Nothing but that it came now.
fn now() -> Arrival {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
    let at = i64::try_from(since).unwrap_or(i64::MAX).min(Timestamp::MAX.micros());
    Arrival::at(at)
}
