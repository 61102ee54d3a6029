//! Text files and streams as tasks: blocks of lines, decoded by the format.

use super::cut::{Pool, StreamCutter, read_block};
use super::files::{InputFile, Magic};
use super::quoted::{Quoted, QuotedBlock, read_quoted};
use super::{BLOCK_BYTES, Cut, Progress, ReadOptions, Reader, Report, Seen, Task};
use crate::format::csv::Walker;
use crate::format::{Decoder, TextBlock};
use crate::query::map::{Piece, Text};
use crate::{Error, Result};
use arrow_array::Array;
use crossbeam_channel::{Receiver, bounded};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Blocks that a stream's reader may be ahead.
const AHEAD: usize = 4;

/// What is looked at to learn when a block begins, bytes.
pub(super) const LOOK: usize = 64 << 10;

/// Text inputs, one after the other.
pub(crate) struct TextReader {
    inputs: Vec<PathBuf>,
    /// The number of the first of them.
    first_input: usize,
    next_input: usize,
    decoder: Arc<dyn Decoder>,
    /// The decoder of the current input, which may have its fields in another order.
    own_decoder: Arc<dyn Decoder>,
    options: ReadOptions,
    pool: Arc<Pool>,
    current: Option<Current>,
    seen: Arc<Seen>,
    /// The first input, which was opened to look at it.
    opened: Option<TextInput>,
}

enum Current {
    File { file: Arc<InputFile>, len: u64, next: u64 },
    Quoted { file: Arc<InputFile>, len: u64, walk: Box<Quoted> },
    Stream(Receiver<Result<TextBlock>>),
}

impl TextReader {
    /// `inputs` decoded by `decoder`; `must` names, at their columns, the fields that must occur in some record.
    /// `opened` is the first input, if it is open already.
    pub(crate) fn new(
        inputs: Vec<PathBuf>,
        opened: Option<TextInput>,
        decoder: Arc<dyn Decoder>,
        must: Vec<Option<String>>,
        options: ReadOptions,
    ) -> Self {
        let seen = Arc::new(Seen::new(must));
        let own_decoder = decoder.clone();
        let (next_input, pool, current) = (0, Arc::default(), None);
        TextReader { inputs, first_input: 0, next_input, decoder, own_decoder, options, pool, current, seen, opened }
    }

    fn open_next(&mut self) -> Result<bool> {
        let Some(path) = self.inputs.get(self.next_input) else { return Ok(false) };
        let mut input = match self.opened.take() {
            Some(input) => input,
            None => TextInput::new(InputFile::open(path)?, &self.options)?,
        };
        self.own_decoder = self.decoder.clone();
        if self.first_input + self.next_input > 0
            && let Some(sample) = input.sample(&self.options)?
            && let Some(own) = self.decoder.for_input(&sample).map_err(|e| e.in_file(path))?
        {
            self.own_decoder = own;
        }
        self.next_input += 1;
        let max_record = self.options.max_record;
        let walker = self.decoder.quoting().and_then(|dialect| Walker::new(dialect, max_record));
        self.current = Some(match (input, walker) {
            (TextInput::File { file, len }, None) => Current::File { file, len, next: 0 },
            (TextInput::File { file, len }, Some(walker)) => {
                let pool = self.pool.clone();
                let walk = Box::new(Quoted::new(file.clone(), len, BLOCK_BYTES, walker, max_record, pool));
                Current::Quoted { file, len, walk }
            }
            (TextInput::Stream(mut stream), walker) => {
                stream.cutter.quoted(walker);
                Current::Stream(stream.start())
            }
        });
        Ok(true)
    }

    fn task(&self, work: Work) -> Box<dyn Task> {
        Box::new(TextTask {
            input: self.first_input + self.next_input - 1,
            work,
            decoder: self.own_decoder.clone(),
            options: self.options.clone(),
            pool: self.pool.clone(),
            seen: self.seen.clone(),
        })
    }
}

impl Reader for TextReader {
    fn tasks(&mut self, most: usize) -> Result<Vec<Box<dyn Task>>> {
        let mut tasks = Vec::new();
        while tasks.len() < most {
            match &mut self.current {
                None => {
                    if !self.open_next()? {
                        break;
                    }
                }
                Some(Current::File { file, len, next }) => {
                    if *next * BLOCK_BYTES >= *len {
                        self.current = None;
                        continue;
                    }
                    let work = Work::Range { file: file.clone(), len: *len, block: *next };
                    *next += 1;
                    let task = self.task(work);
                    tasks.push(task);
                }
                Some(Current::Quoted { file, len, walk }) => {
                    let (file, len) = (file.clone(), *len);
                    let blocks = walk.blocks(most - tasks.len())?;
                    if blocks.is_empty() {
                        self.current = None;
                    }
                    let work = |place| Work::Quoted { file: file.clone(), len, place };
                    tasks.extend(blocks.into_iter().map(|place| self.task(work(place))));
                }
                Some(Current::Stream(blocks)) => match blocks.recv() {
                    Ok(block) => {
                        let task = self.task(Work::Block(block?));
                        tasks.push(task);
                    }
                    Err(_) => self.current = None,
                },
            }
        }
        Ok(tasks)
    }

    fn skip(&mut self, mut tasks: u64) -> Result<()> {
        while tasks > 0 {
            if self.current.is_none() && !self.open_next()? {
                return Err(Error::input("the input has fewer records than when the checkpoint was made"));
            }
            let skipped = match &mut self.current {
                // Its blocks are where they are.
                Some(Current::File { len, next, .. }) if *next * BLOCK_BYTES < *len => {
                    let skipped = tasks.min(len.div_ceil(BLOCK_BYTES) - *next);
                    *next += skipped;
                    let bytes = (*next * BLOCK_BYTES).min(*len) - (*next - skipped) * BLOCK_BYTES;
                    self.options.progress.bytes_done.fetch_add(bytes, Ordering::Relaxed);
                    skipped
                }
                Some(Current::File { .. }) => {
                    self.current = None;
                    0
                }
                _ => {
                    let skipped = self.tasks(1)?.len() as u64;
                    if skipped == 0 {
                        return Err(Error::input("the input has fewer records than when the checkpoint was made"));
                    }
                    skipped
                }
            };
            tasks -= skipped;
        }
        Ok(())
    }

    fn seen(&self) -> Arc<Seen> {
        self.seen.clone()
    }

    fn split(&mut self) -> Vec<Box<dyn Reader>> {
        if self.inputs.len() < 2 {
            return Vec::new();
        }
        let one = |(number, path): (usize, PathBuf)| -> Box<dyn Reader> {
            Box::new(TextReader {
                inputs: vec![path],
                first_input: number,
                next_input: 0,
                decoder: self.decoder.clone(),
                own_decoder: self.decoder.clone(),
                options: self.options.clone(),
                pool: self.pool.clone(),
                current: None,
                seen: self.seen.clone(),
                opened: self.opened.take(),
            })
        };
        std::mem::take(&mut self.inputs).into_iter().enumerate().map(one).collect()
    }

    fn first_time(&mut self) -> Result<Option<i64>> {
        let Some(path) = self.inputs.first() else { return Ok(None) };
        let mut input = match self.opened.take() {
            Some(input) => input,
            None => TextInput::new(InputFile::open(path)?, &self.options)?,
        };
        let sample = input.sample(&self.options)?;
        // Files are opened again when their turn comes; what has come through a pipe would be lost.
        if matches!(&input, TextInput::Stream(stream) if !stream.regular) {
            self.opened = Some(input);
        }
        let Some(sample) = sample else { return Ok(None) };
        let own = self.decoder.for_input(&sample).map_err(|e| e.in_file(path))?;
        look(&**own.as_ref().unwrap_or(&self.decoder), &sample)
    }

    fn finish(&mut self) -> Result<()> {
        self.seen.check()
    }
}

/// An opened text input, at its beginning.
pub(crate) enum TextInput {
    /// A regular file, whose blocks can be read in any order.
    File { file: Arc<InputFile>, len: u64 },
    /// A pipe or a compressed file.
    Stream(Box<Stream>),
}

/// A stream that is cut as it comes.
pub(crate) struct Stream {
    path: Option<PathBuf>,
    compressed: bool,
    /// It can be opened again.
    regular: bool,
    cutter: StreamCutter<Box<dyn Read + Send>>,
}

impl TextInput {
    /// The input in `file`.
    pub(crate) fn new(mut file: InputFile, options: &ReadOptions) -> Result<TextInput> {
        if file.magic == Magic::Parquet {
            return Err(
                file.error("is a Parquet file; use --format parquet, and give Parquet and text each their own run")
            );
        }
        if let (Some(len), Magic::Plain) = (file.len, file.magic) {
            let upto = options.lengths.iter().find(|(path, _)| Some(path) == file.path.as_ref());
            let len = upto.map_or(len, |(_, upto)| len.min(*upto));
            return Ok(TextInput::File { file: Arc::new(file), len });
        }
        let magic = file.magic;
        let peeked = std::io::Cursor::new(std::mem::take(&mut file.peeked));
        let progress = file.len.map(|_| options.progress.clone());
        let reader = unpacked(magic, Counted { reader: peeked.chain(file.file), progress })?;
        let cutter = StreamCutter::new(reader, options.max_record, Arc::default());
        let (compressed, regular) = (magic != Magic::Plain, file.len.is_some());
        Ok(TextInput::Stream(Box::new(Stream { path: file.path, compressed, regular, cutter })))
    }

    /// The first lines, to look at: at most a block of them, and no half line unless it is all there is. Nothing is lost
    /// of a stream. `None` if the input is empty.
    pub(crate) fn sample(&mut self, options: &ReadOptions) -> Result<Option<TextBlock>> {
        let (bytes, whole) = match self {
            TextInput::File { file, len } => {
                let mut bytes = vec![0; BLOCK_BYTES.min(*len) as usize];
                file.read_exact_at(0, &mut bytes)?;
                (bytes, *len <= BLOCK_BYTES)
            }
            TextInput::Stream(stream) => {
                let bytes = stream.cutter.peek().map(<[u8]>::to_vec);
                let bytes = bytes.map_err(|e| stream.failed(e))?;
                let whole = (bytes.len() as u64) < BLOCK_BYTES;
                (bytes, whole)
            }
        };
        let last = if whole { None } else { memchr::memrchr(b'\n', &bytes) };
        let end = last.map_or(bytes.len(), |n| n + 1);
        let max_record = options.max_record;
        Ok((end > 0).then(|| TextBlock { data: bytes.into(), start: 0, end, offset: 0, max_record }))
    }

    /// The name of a file.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            TextInput::File { file, .. } => file.path.as_deref(),
            TextInput::Stream(stream) => stream.path.as_deref(),
        }
    }
}

/// The text behind `raw`, by its first bytes.
pub(super) fn unpacked(magic: Magic, raw: impl Read + Send + 'static) -> Result<Box<dyn Read + Send>> {
    let raw = std::io::BufReader::with_capacity(256 << 10, raw);
    Ok(match magic {
        Magic::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
        Magic::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(raw)?),
        Magic::Plain | Magic::Parquet => Box::new(raw),
    })
}

impl Stream {
    fn next(&mut self) -> Result<Option<TextBlock>> {
        self.cutter.next().map_err(|e| self.failed(e))
    }

    fn failed(&self, e: std::io::Error) -> Error {
        let what = if self.compressed { "cannot be decompressed (damaged or cut short)" } else { "cannot be read" };
        match &self.path {
            Some(path) => Error::input(what).in_file(path).because(e),
            None => Error::input(format!("standard input {what}")).because(e),
        }
    }

    /// Reads on, on a thread of its own, a few blocks ahead. The thread ends with the stream or with its receiver.
    fn start(mut self) -> Receiver<Result<TextBlock>> {
        let (sender, receiver) = bounded(AHEAD);
        std::thread::spawn(move || {
            while let Some(block) = self.next().transpose() {
                let failed = block.is_err();
                if sender.send(block).is_err() || failed {
                    return;
                }
            }
        });
        receiver
    }
}

/// Counts the bytes of a file whose length is known, for progress.
struct Counted<R> {
    reader: R,
    progress: Option<Arc<Progress>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buffer)?;
        if let Some(progress) = &self.progress {
            progress.bytes_done.fetch_add(n as u64, Ordering::Relaxed);
        }
        Ok(n)
    }
}

pub(super) enum Work {
    Range { file: Arc<InputFile>, len: u64, block: u64 },
    Quoted { file: Arc<InputFile>, len: u64, place: QuotedBlock },
    Block(TextBlock),
}

pub(super) struct TextTask {
    pub(super) input: usize,
    pub(super) work: Work,
    pub(super) decoder: Arc<dyn Decoder>,
    pub(super) options: ReadOptions,
    pub(super) pool: Arc<Pool>,
    pub(super) seen: Arc<Seen>,
}

impl TextTask {
    /// Counts the bytes of a file's block.
    fn progress(&self, len: u64, block: u64) {
        let bytes = BLOCK_BYTES.min(len - block * BLOCK_BYTES);
        self.options.progress.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl TextTask {
    fn block(&self) -> Result<Option<TextBlock>> {
        match &self.work {
            Work::Block(block) => Ok(Some(block.clone())),
            Work::Range { file, len, block } => read_block(file, *len, *block, self.options.max_record, &self.pool),
            Work::Quoted { file, len, place } => {
                read_quoted(file, *len, BLOCK_BYTES, place, self.options.max_record, &self.pool)
            }
        }
    }
}

impl Task for TextTask {
    fn first_time(&self) -> Result<Option<i64>> {
        match self.block()? {
            Some(block) => look(&*self.decoder, &block),
            None => Ok(None),
        }
    }

    fn run(&self, each: &mut dyn FnMut(Cut, Vec<Piece>) -> Result<()>) -> Result<Report> {
        let mut report = Report { input: self.input, ..Report::default() };
        match &self.work {
            Work::Block(_) => {}
            Work::Range { len, block, .. } => self.progress(*len, *block),
            Work::Quoted { len, place, .. } => self.progress(*len, place.block),
        }
        let block = self.block()?;
        let Some(block) = block else { return Ok(report) };
        let decoded = self.decoder.decode(&block)?;
        report.lines = decoded.lines;
        report.bytes = (block.end - block.start) as u64;
        report.cast_failed = decoded.cast_failed;
        if self.options.keep_bad {
            report.bad_bytes = decoded.bad.iter().map(|b| block.data[b.start..b.start + b.len].to_vec()).collect();
        }
        report.bad = decoded.bad;
        for bad in &mut report.bad {
            bad.start += block.offset as usize;
        }
        count(&self.options.progress.records, decoded.rows + report.bad.len());
        if decoded.rows > 0 && !self.seen.any.load(Ordering::Relaxed) {
            self.seen.any.store(true, Ordering::Relaxed);
        }
        for (seen, column) in self.seen.columns.iter().zip(&decoded.columns) {
            if !seen.load(Ordering::Relaxed) && column.null_count() < column.len() {
                seen.store(true, Ordering::Relaxed);
            }
        }
        let text = self.options.keep_late.then(|| Arc::new(Text { data: block.data.clone(), places: decoded.places }));
        let piece = Piece { rows: decoded.rows, times: decoded.times.into(), columns: decoded.columns, text };
        each(Cut::Whole, vec![piece])?;
        Ok(report)
    }
}

/// The time of the first good record among the first lines of `block`.
pub(super) fn look(decoder: &dyn Decoder, block: &TextBlock) -> Result<Option<i64>> {
    let mut end = block.end.min(block.start + LOOK);
    if end < block.end {
        // A longer line shows nothing.
        match memchr::memrchr(b'\n', &block.data[block.start..end]) {
            Some(at) => end = block.start + at + 1,
            None => return Ok(None),
        }
    }
    let first = TextBlock { data: block.data.clone(), end, ..*block };
    Ok(decoder.decode(&first)?.times.first().copied())
}

fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
