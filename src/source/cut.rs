//! Text cut into blocks of whole lines, the same ones for a file, a pipe and a `.gz`.
//!
//! Block `k` holds the lines that *begin* in bytes `[k × 4 MiB, (k + 1) × 4 MiB)` of the decompressed input. A regular
//! file's blocks are read independently, each with a look at the byte before it and on to the end of its last line;
//! a stream is cut as it comes. Of a line longer than the record limit only as much is kept as shows that it is.

use super::BLOCK_BYTES;
use super::files::InputFile;
use crate::Result;
use crate::format::TextBlock;
use crate::format::csv::Walker;
use arrow_buffer::Buffer;
use std::io::Read;
use std::sync::{Arc, Mutex};

/// What is read beyond a block's end at once while its last line goes on.
pub(crate) const REACH: usize = 16 << 10;

/// Buffers used again, so that blocks do not cost page faults.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// A buffer with any contents and at least `len` bytes of length.
    pub(crate) fn take(&self, len: usize) -> Vec<u8> {
        let mut buffer = self.0.lock().map(|mut p| p.pop()).ok().flatten().unwrap_or_default();
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        buffer
    }

    /// Takes back a buffer that was not needed.
    pub(crate) fn give(self: &Arc<Self>, buffer: Vec<u8>) {
        drop(Pooled { buffer, pool: self.clone() });
    }

    /// The buffer as shared bytes that bring it back here when the last of them is gone.
    pub(crate) fn bytes(self: &Arc<Self>, buffer: Vec<u8>) -> bytes::Bytes {
        bytes::Bytes::from_owner(Pooled { buffer, pool: self.clone() })
    }
}

/// A buffer that goes back to its pool.
struct Pooled {
    buffer: Vec<u8>,
    pool: Arc<Pool>,
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        // A buffer that grew for one monstrous line is not kept.
        if buffer.len() <= 2 * BLOCK_BYTES as usize
            && let Ok(mut pool) = self.pool.0.lock()
        {
            pool.push(buffer);
        }
    }
}

pub(crate) fn block(
    buffer: Vec<u8>,
    pool: &Arc<Pool>,
    range: (usize, usize),
    offset: u64,
    max_record: usize,
) -> TextBlock {
    TextBlock { data: Buffer::from(pool.bytes(buffer)), start: range.0, end: range.1, offset, max_record }
}

/// Reads block `k` of a regular file of `len` bytes. `None` if no line begins in it.
pub(crate) fn read_block(
    file: &InputFile,
    len: u64,
    k: u64,
    max_record: usize,
    pool: &Arc<Pool>,
) -> Result<Option<TextBlock>> {
    let low = k * BLOCK_BYTES;
    let high = (low + BLOCK_BYTES).min(len);
    // The byte before the block tells whether a line begins with it.
    let base = low.saturating_sub(1);
    let mut filled = ((high - base) as usize + REACH).min((len - base) as usize);
    let mut buffer = pool.take(filled);
    file.read_exact_at(base, &mut buffer[..filled])?;
    let start = if k == 0 {
        0
    } else {
        match memchr::memchr(b'\n', &buffer[..(high - base) as usize]) {
            Some(at) if at + 1 < (high - base) as usize => at + 1,
            _ => {
                pool.give(buffer);
                return Ok(None);
            }
        }
    };
    // The last line begins before `high` and ends at the first newline from there on, or with the file.
    let last = (high - base) as usize - 1;
    let mut from = last;
    let line_start = memchr::memrchr(b'\n', &buffer[start..last]).map_or(start, |at| start + at + 1);
    let end = loop {
        if let Some(at) = memchr::memchr(b'\n', &buffer[from..filled]) {
            break from + at + 1;
        }
        if base + filled as u64 == len || filled - line_start > max_record + 2 {
            break filled;
        }
        from = filled;
        let more = filled.min(16 << 20).min((len - base) as usize - filled);
        if buffer.len() < filled + more {
            buffer.resize(filled + more, 0);
        }
        file.read_exact_at(base + filled as u64, &mut buffer[filled..filled + more])?;
        filled += more;
    };
    Ok(Some(block(buffer, pool, (start, end), base, max_record)))
}

/// Cuts a stream into the same blocks.
pub(crate) struct StreamCutter<R> {
    reader: R,
    pool: Arc<Pool>,
    max_record: usize,
    /// Bytes read but not yet handed out; `offset` is where they stand in the stream.
    carry: Vec<u8>,
    offset: u64,
    ended: bool,
    /// Finds the ends of records that may hold newlines.
    walker: Option<Walker>,
    /// [`BLOCK_BYTES`], less in tests.
    pub(super) block_bytes: u64,
}

impl<R: Read> StreamCutter<R> {
    pub(crate) fn new(reader: R, max_record: usize, pool: Arc<Pool>) -> Self {
        let (carry, block_bytes) = (Vec::new(), BLOCK_BYTES);
        StreamCutter { reader, pool, max_record, carry, offset: 0, ended: false, walker: None, block_bytes }
    }

    /// Lets records end as `walker` says, before the first block is taken.
    pub(crate) fn quoted(&mut self, walker: Option<Walker>) {
        self.walker = walker;
    }

    /// The first bytes, at most a block of them, which stay where they are.
    pub(crate) fn peek(&mut self) -> std::io::Result<&[u8]> {
        let mut carry = std::mem::take(&mut self.carry);
        let (have, want) = (carry.len(), self.block_bytes as usize);
        if have < want {
            carry.resize(want, 0);
            let filled = self.fill(&mut carry, have, want)?;
            carry.truncate(filled);
        }
        self.carry = carry;
        Ok(&self.carry)
    }

    /// The next block in which a line begins; `None` at the end.
    pub(crate) fn next(&mut self) -> std::io::Result<Option<TextBlock>> {
        if self.ended && self.carry.is_empty() {
            return Ok(None);
        }
        let offset = self.offset;
        let high = ((offset / self.block_bytes + 1) * self.block_bytes - offset) as usize;
        let carried = std::mem::take(&mut self.carry);
        let mut buffer = self.pool.take(carried.len().max(high + REACH));
        buffer[..carried.len()].copy_from_slice(&carried);
        let mut filled = self.fill(&mut buffer, carried.len(), high + REACH)?;
        if filled == 0 {
            return Ok(None);
        }
        if self.ended && filled <= high {
            return Ok(Some(self.done(buffer, filled, filled)));
        }
        let mut walker = self.walker.as_ref().map(|w| w.at(offset));
        let (mut from, mut line_start) = (high - 1, 0);
        if let Some(walker) = &mut walker {
            walker.skip(&buffer[..high], offset);
            if walker.at_start() {
                return Ok(Some(self.done(buffer, high, filled)));
            }
            (from, line_start) = (high, (walker.record - offset) as usize);
        } else if let Some(newline) = memchr::memrchr(b'\n', &buffer[..from]) {
            line_start = newline + 1;
        }
        loop {
            let rest = &buffer[from..filled];
            let end = match &mut walker {
                Some(walker) => walker.next_end(rest, offset + from as u64),
                None => memchr::memchr(b'\n', rest).map(|at| at + 1),
            };
            if let Some(end) = end {
                return Ok(Some(self.done(buffer, from + end, filled)));
            }
            if self.ended {
                return Ok(Some(self.done(buffer, filled, filled)));
            }
            if filled - line_start > self.max_record + 2 {
                // Too long to be a record: keep what shows it, skip to its end.
                let block = self.done(buffer, filled, filled);
                self.skip_line()?;
                return Ok(Some(block));
            }
            from = filled;
            let target = filled + filled.min(16 << 20);
            if buffer.len() < target {
                buffer.resize(target, 0);
            }
            filled = self.fill(&mut buffer, filled, target)?;
        }
    }

    /// Makes a block of the first `end` bytes and carries over those up to `filled`.
    fn done(&mut self, buffer: Vec<u8>, end: usize, filled: usize) -> TextBlock {
        self.carry.extend_from_slice(&buffer[end..filled]);
        let offset = self.offset;
        self.offset += end as u64;
        block(buffer, &self.pool, (0, end), offset, self.max_record)
    }

    fn fill(&mut self, buffer: &mut [u8], mut filled: usize, target: usize) -> std::io::Result<usize> {
        while filled < target && !self.ended {
            match self.reader.read(&mut buffer[filled..target]) {
                Ok(0) => self.ended = true,
                Ok(n) => filled += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(filled)
    }

    fn skip_line(&mut self) -> std::io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while !self.ended {
            let n = self.fill_some(&mut buffer)?;
            if let Some(at) = memchr::memchr(b'\n', &buffer[..n]) {
                self.offset += at as u64 + 1;
                self.carry.extend_from_slice(&buffer[at + 1..n]);
                return Ok(());
            }
            self.offset += n as u64;
        }
        Ok(())
    }

    fn fill_some(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.reader.read(buffer) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(0);
                }
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A reader that delivers a few bytes at a time.
    struct Trickle<'a>(&'a [u8], usize);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let n = self.1.min(to.len()).min(self.0.len());
            to[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    fn lines_of(block: &TextBlock) -> (u64, Vec<u8>) {
        (block.offset + block.start as u64, block.bytes().to_vec())
    }

    /// The definition: each line goes to the block in which it begins.
    fn naive(text: &[u8], max_record: usize) -> Vec<(u64, Vec<u8>)> {
        let (mut blocks, mut block, mut at): (Vec<(u64, Vec<u8>)>, u64, usize) = (Vec::new(), u64::MAX, 0);
        for line in text.split_inclusive(|b| *b == b'\n') {
            let k = at as u64 / BLOCK_BYTES;
            if k != block {
                blocks.push((at as u64, Vec::new()));
                block = k;
            }
            if let Some(last) = blocks.last_mut() {
                last.1.extend(line.iter().take(max_record + 1));
                if line.len() <= max_record + 1 {
                    // Short enough to stand whole.
                } else {
                    last.1.push(b'!');
                }
            }
            at += line.len();
        }
        blocks
    }

    #[test]
    fn files_and_streams_are_cut_alike() {
        let b = BLOCK_BYTES as usize;
        let mut texts: Vec<Vec<u8>> = vec![Vec::new(), b"one line".to_vec(), b"\n\n\n".to_vec()];
        for edge in [b - 2, b - 1, b, b + 1] {
            let mut text = vec![b'x'; edge];
            text.push(b'\n');
            text.extend_from_slice(b"second\nthird without newline");
            texts.push(text);
        }
        let mut many = Vec::new();
        for i in 0..400_000 {
            writeln!(many, "line {i} {}", "y".repeat(i % 37)).unwrap();
        }
        texts.push(many);
        let mut long = b"before\n".to_vec();
        long.extend(std::iter::repeat_n(b'z', 3 * b));
        long.extend_from_slice(b"\nafter\n");
        texts.push(long);
        let pool = Arc::new(Pool::default());
        let max_record = 5 * b;
        for text in &texts {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(text).unwrap();
            let input = InputFile::open(file.path()).unwrap();
            let len = text.len() as u64;
            let from_file: Vec<_> = (0..len.div_ceil(BLOCK_BYTES))
                .filter_map(|k| read_block(&input, len, k, max_record, &pool).unwrap())
                .map(|block| lines_of(&block))
                .collect();
            assert!(from_file == naive(text, max_record), "file of {} bytes", text.len());
            for step in [7_001, 1 << 20] {
                let mut cutter = StreamCutter::new(Trickle(text, step), max_record, pool.clone());
                let mut from_stream = Vec::new();
                while let Some(block) = cutter.next().unwrap() {
                    from_stream.push(lines_of(&block));
                }
                assert!(from_stream == from_file, "stream of {} bytes in steps of {step}", text.len());
            }
        }
    }

    #[test]
    fn of_a_line_that_is_too_long_only_a_part_is_kept_and_reading_goes_on_behind_it() {
        let mut text = b"first\n".to_vec();
        text.extend(std::iter::repeat_n(b'z', 9 << 20));
        text.extend_from_slice(b"\nlast\n");
        let pool = Arc::new(Pool::default());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&text).unwrap();
        let input = InputFile::open(file.path()).unwrap();
        let blocks: Vec<TextBlock> =
            (0..3).filter_map(|k| read_block(&input, text.len() as u64, k, 1000, &pool).unwrap()).collect();
        let mut cutter = StreamCutter::new(&text[..], 1000, pool.clone());
        let mut streamed = Vec::new();
        while let Some(block) = cutter.next().unwrap() {
            streamed.push(block);
        }
        for blocks in [blocks, streamed] {
            assert_eq!(blocks.len(), 2);
            assert!(blocks[0].bytes().starts_with(b"first\nzzz") && blocks[0].bytes().len() > 1006);
            assert!(blocks[0].bytes().len() < 5 << 20);
            assert_eq!(blocks[1].bytes(), b"last\n");
            assert_eq!(blocks[1].offset + blocks[1].start as u64, text.len() as u64 - 5);
        }
    }
}
