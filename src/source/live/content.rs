//! One text that is being followed: the file that holds it, and how far it has been read.
//!
//! Invariant: what is handed out was in the file while its first bytes were those that we know: they are compared after
//! every read, before its bytes count. So a file that is cut back and written anew between two looks is noticed, and nothing of the
//! new text is taken for the old one's. A line counts once its newline has come.

use super::position::{Fingerprint, HEAD, Identity, Position};
use crate::Result;
use crate::format::csv::Walker;
use crate::format::{Decoder, TextBlock};
use crate::source::cut::{Pool, block};
use crate::source::files::{InputFile, Magic};
use crate::source::text::unpacked;
use crate::source::{BLOCK_BYTES, ReadOptions};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How old a change must be for its time to tell what a file is from what it becomes next: the clocks of file systems are
/// coarse, two seconds at worst, and those of a busy machine stand still for a while.
const COARSE: Duration = Duration::from_secs(2);

/// What a look at a text came to.
pub(super) enum Got {
    /// There is nothing new.
    Nothing,
    /// Whole lines.
    Block(TextBlock),
    /// Something that is no record; there may be more.
    Skipped,
    /// The file was cut back or written anew.
    Replaced,
}

/// How texts are read.
pub(super) struct Reading {
    pub(super) options: ReadOptions,
    pub(super) pool: Arc<Pool>,
    /// Finds the ends of records that may hold newlines.
    pub(super) walker: Option<Walker>,
}

/// See the module.
pub(super) struct Content {
    /// Its own number ([`Position::text`]).
    pub(super) text: u64,
    /// Number of the input that it belongs to.
    pub(super) input: usize,
    pub(super) path: Arc<Path>,
    /// The name it was first known by.
    pub(super) name: PathBuf,
    pub(super) id: Identity,
    file: InputFile,
    packed: Option<Packed>,
    pub(super) offset: u64,
    inside: bool,
    /// The first bytes, as far as they were read.
    pub(super) head: Vec<u8>,
    /// Size and time of change when it was last found that there is nothing new, if the same ones can only mean that again.
    seen: Option<(u64, Option<SystemTime>)>,
    /// When it last had something new, or was retired.
    pub(super) changed: Instant,
    /// Nobody is expected to write to it any more: it is left once it has been quiet.
    pub(super) retired: bool,
    /// It has been read to its end, a last line without a newline too.
    pub(super) ended: bool,
    /// Its own decoder, once its first lines are known.
    pub(super) decoder: Option<Arc<dyn Decoder>>,
}

/// A compressed file in work.
struct Packed {
    reader: Box<dyn Read + Send>,
    /// Bytes behind the last whole line.
    rest: Vec<u8>,
}

impl Content {
    /// The text in `file`, from a position on; `head` are its first bytes that are known, as many as lie before that.
    pub(super) fn new(input: usize, at: Position, file: InputFile, id: Identity, head: Vec<u8>) -> Self {
        let name = PathBuf::from(&at.path);
        let path = Arc::from(file.path.as_deref().unwrap_or(&name));
        Content {
            text: at.text,
            input,
            path,
            name,
            id,
            file,
            packed: None,
            offset: at.offset,
            inside: at.inside,
            head,
            seen: None,
            changed: Instant::now(),
            retired: false,
            ended: false,
            decoder: None,
        }
    }

    /// Starts again from the first byte, as a file that was cut back: another text.
    pub(super) fn restart(&mut self, text: u64) {
        self.text = text;
        (self.offset, self.inside, self.seen, self.decoder) = (0, false, None, None);
        self.head.clear();
        self.changed = Instant::now();
    }

    /// Nobody is expected to write to it from now on; who has it open may still do so for a while.
    pub(super) fn retire(&mut self) {
        if !std::mem::replace(&mut self.retired, true) {
            self.changed = Instant::now();
        }
    }

    pub(super) fn is_packed(&self) -> bool {
        self.file.magic != Magic::Plain
    }

    pub(super) fn position(&self) -> Position {
        Position {
            text: self.text,
            path: self.name.to_string_lossy().into_owned(),
            device: self.id.device,
            inode: self.id.inode,
            head: Fingerprint::of(&self.head),
            offset: self.offset,
            inside: self.inside,
            done: self.ended,
        }
    }

    /// The first bytes that the file has now, at most `most`.
    pub(super) fn first(&self, most: usize) -> Result<Vec<u8>> {
        if self.is_packed() {
            return head_of(&self.file, most).map(Option::unwrap_or_default);
        }
        let mut bytes = vec![0; most];
        let n = self.file.read_at(0, &mut bytes)?;
        bytes.truncate(n);
        Ok(bytes)
    }

    /// Reads on; `last`: what has no newline is a line too.
    pub(super) fn read(&mut self, reading: &Reading, last: bool) -> Result<Got> {
        if self.is_packed() { self.read_packed(reading) } else { self.read_plain(reading, last) }
    }

    fn read_plain(&mut self, reading: &Reading, last: bool) -> Result<Got> {
        let before = SystemTime::now();
        let metadata = self.file.file.metadata().map_err(|e| self.file.error("cannot be read").because(e))?;
        let now = (metadata.len(), metadata.modified().ok());
        if self.seen == Some(now) && !last {
            return Ok(Got::Nothing);
        }
        // What was changed just now may be cut back and written anew with the same size at the same time.
        let age = now.1.and_then(|modified| before.duration_since(modified).ok());
        let settled = age.is_some_and(|age| age >= COARSE);
        let mut wanted = BLOCK_BYTES as usize;
        loop {
            let available = usize::try_from(now.0.saturating_sub(self.offset)).unwrap_or(usize::MAX);
            let mut buffer = reading.pool.take(wanted.min(available).next_multiple_of(64 << 10));
            let n = self.file.read_at(self.offset, &mut buffer[..wanted.min(available)])?;
            if !self.is_same(n)? {
                reading.pool.give(buffer);
                return Ok(Got::Replaced);
            }
            let whole = self.lines(&buffer[..n], reading);
            let over = n > reading.options.max_record + 2;
            let closing = last && n == available;
            let end = if whole == 0 && (self.inside || over || closing) { n } else { whole };
            if end == 0 && n == wanted && n < available {
                // A line that is longer than that: look further, up to the limit of records.
                reading.pool.give(buffer);
                wanted = wanted.saturating_mul(2);
                continue;
            }
            if end == 0 {
                self.seen = settled.then_some(now);
                reading.pool.give(buffer);
                return Ok(Got::Nothing);
            }
            self.changed = Instant::now();
            return Ok(self.take(buffer, end, whole == 0 && !closing, reading));
        }
    }

    /// Hands out `buffer[..end]`, which may be a part of a record that is too long.
    fn take(&mut self, buffer: Vec<u8>, end: usize, part: bool, reading: &Reading) -> Got {
        if self.head.len() < HEAD && self.offset == self.head.len() as u64 {
            let missing = end.min(HEAD - self.head.len());
            self.head.extend_from_slice(&buffer[..missing]);
        }
        let offset = self.offset;
        self.offset += end as u64;
        if std::mem::replace(&mut self.inside, part) {
            reading.pool.give(buffer);
            return Got::Skipped;
        }
        Got::Block(block(buffer, &reading.pool, (0, end), offset, reading.options.max_record))
    }

    /// How many of `bytes`, from `offset` on, are whole records; inside one that is too long, what is left of it.
    fn lines(&self, bytes: &[u8], reading: &Reading) -> usize {
        if self.inside {
            return memchr::memchr(b'\n', bytes).map_or(0, |at| at + 1);
        }
        match &reading.walker {
            Some(walker) => {
                let mut walker = walker.at(self.offset);
                walker.skip(bytes, self.offset);
                (walker.record - self.offset) as usize
            }
            None => memchr::memrchr(b'\n', bytes).map_or(0, |at| at + 1),
        }
    }

    /// Whether the file still begins with the bytes that we know, and has all those up to `n` behind the offset.
    fn is_same(&self, n: usize) -> Result<bool> {
        let len = self.file.file.metadata().map_err(|e| self.file.error("cannot be read").because(e))?.len();
        Ok(len >= self.offset + n as u64 && self.first(self.head.len())? == self.head)
    }

    fn read_packed(&mut self, reading: &Reading) -> Result<Got> {
        if self.ended {
            return Ok(Got::Nothing);
        }
        let metadata = self.file.file.metadata().map_err(|e| self.file.error("cannot be read").because(e))?;
        let now = (metadata.len(), metadata.modified().ok());
        if self.seen == Some(now) {
            return Ok(Got::Nothing);
        }
        let mut packed = match self.packed.take() {
            Some(packed) => packed,
            None => match Packed::open(&self.file, self.offset)? {
                Some(packed) => packed,
                None => {
                    self.seen = Some(now);
                    return Ok(Got::Nothing);
                }
            },
        };
        let mut wanted = BLOCK_BYTES as usize;
        loop {
            let mut buffer = reading.pool.take(wanted.max(packed.rest.len()));
            let mut filled = packed.rest.len();
            buffer[..filled].copy_from_slice(&packed.rest);
            let mut ended = false;
            while filled < wanted && !ended {
                match packed.reader.read(&mut buffer[filled..wanted]) {
                    Ok(0) => ended = true,
                    Ok(n) => filled += n,
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                        // It is still being written: it is opened again once there is more of it.
                        self.seen = Some(now);
                        return Ok(Got::Nothing);
                    }
                    Err(e) => return Err(self.file.error("cannot be decompressed").because(e)),
                }
            }
            let whole = self.lines(&buffer[..filled], reading);
            let over = filled > reading.options.max_record + 2;
            let end = if ended || (whole == 0 && (self.inside || over)) { filled } else { whole };
            if end == 0 && !ended {
                packed.rest.clear();
                packed.rest.extend_from_slice(&buffer[..filled]);
                wanted *= 2;
                continue;
            }
            packed.rest.clear();
            packed.rest.extend_from_slice(&buffer[end..filled]);
            self.packed = Some(packed);
            self.ended = ended && self.packed.as_ref().is_some_and(|packed| packed.rest.is_empty());
            self.changed = Instant::now();
            if end == 0 {
                reading.pool.give(buffer);
                return Ok(Got::Nothing);
            }
            return Ok(self.take(buffer, end, whole == 0 && !ended, reading));
        }
    }
}

impl Packed {
    /// The text in `file` behind its first `offset` bytes; `None` if it does not go so far yet.
    fn open(file: &InputFile, offset: u64) -> Result<Option<Packed>> {
        let failed = |e| file.error("cannot be decompressed").because(e);
        let mut reader = unpacked(file.magic, file.reread().map_err(failed)?)?;
        match std::io::copy(&mut (&mut reader).take(offset), &mut std::io::sink()) {
            Ok(_) => Ok(Some(Packed { reader, rest: Vec::new() })),
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(e) => Err(failed(e)),
        }
    }
}

/// The first bytes of the text in `file`, unpacked, at most `most`; `None` if it is packed and not whole enough to tell.
pub(super) fn head_of(file: &InputFile, most: usize) -> Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    let failed = |e| file.error("cannot be read").because(e);
    let reader = unpacked(file.magic, file.reread().map_err(failed)?)?;
    match reader.take(most as u64).read_to_end(&mut head) {
        Ok(_) => Ok(Some(head)),
        Err(_) if file.magic != Magic::Plain => Ok(None),
        Err(e) => Err(failed(e)),
    }
}
