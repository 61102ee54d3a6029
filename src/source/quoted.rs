//! Blocks of files whose records may hold newlines: the same blocks as in `cut`, each record whole.
//!
//! Which newline ends a record depends on every quote before it. So before a round of blocks is decoded, each block is
//! looked through, in parallel, for what it makes of both states, inside and outside quotes ([`Parity`]); put together in
//! order, that gives the state at each block's start. A block in which no record ends, or any block if the record limit is
//! shorter than two blocks, is walked through in order, since a record over the limit ends inside its quotes.
//!
//! Cost: a look at every byte, at the speed of `memchr` where there are few quotes. What was read for it is decoded.

use super::cut::{Pool, REACH, block};
use super::files::InputFile;
use crate::Result;
use crate::format::TextBlock;
use crate::format::csv::{Parity, Walker};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// Read at once when a block is only looked through: a piece stays in the cache.
const PIECE: usize = if cfg!(test) { 24 } else { 256 << 10 };

/// The walk over one file, block by block.
pub(crate) struct Quoted {
    file: Arc<InputFile>,
    len: u64,
    block_bytes: u64,
    max_record: usize,
    pool: Arc<Pool>,
    /// At the start of the next block. If it is not `exact`, its record may have begun later, but not so that it matters.
    next: Walker,
    exact: bool,
    /// At the start of the block before.
    before: Walker,
    block: u64,
}

/// A block of a file and where it lies among the quotes.
pub(crate) struct QuotedBlock {
    pub(crate) block: u64,
    from: Walker,
    to: Walker,
    /// Its bytes, until somebody takes them.
    bytes: Mutex<Option<Vec<u8>>>,
}

impl Quoted {
    /// At the start of `file`, whose records end as `walker` says.
    pub(crate) fn new(
        file: Arc<InputFile>,
        len: u64,
        block_bytes: u64,
        walker: Walker,
        max_record: usize,
        pool: Arc<Pool>,
    ) -> Quoted {
        Quoted { file, len, block_bytes, max_record, pool, next: walker.clone(), exact: true, before: walker, block: 0 }
    }

    /// The next blocks, at most `most`; none at the end of the file.
    pub(crate) fn blocks(&mut self, most: usize) -> Result<Vec<QuotedBlock>> {
        let last = (self.block + most as u64).min(self.len.div_ceil(self.block_bytes));
        let short = (self.max_record as u64) < 2 * self.block_bytes;
        let next: Vec<u64> = (self.block..last).collect();
        let parities: Vec<Option<(Parity, Vec<u8>)>> = next
            .into_par_iter()
            .with_max_len(1)
            .map(|k| if short { Ok(None) } else { self.parity(k).map(Some) })
            .collect::<Result<_>>()?;
        let mut blocks = Vec::with_capacity(parities.len());
        for parity in parities {
            let (parity, bytes) = parity.unzip();
            let from = self.next.clone();
            let start = self.block * self.block_bytes;
            match parity.and_then(|p| p.after(from.state)) {
                // A record ends in this block, so the one that goes on behind it begins in it.
                Some((state, before)) => {
                    self.next = from.inside(state, before, start);
                    self.exact = false;
                }
                None => {
                    let mut walker = from.clone();
                    if !self.exact {
                        walker = self.before.clone();
                        self.skip(&mut walker, self.block - 1)?;
                    }
                    self.skip(&mut walker, self.block)?;
                    self.next = walker;
                    self.exact = true;
                }
            }
            self.before = from.clone();
            blocks.push(QuotedBlock { block: self.block, from, to: self.next.clone(), bytes: Mutex::new(bytes) });
            self.block += 1;
        }
        Ok(blocks)
    }

    /// Reads block `k`, and a little beyond it, and looks it through.
    fn parity(&self, k: u64) -> Result<(Parity, Vec<u8>)> {
        let start = k * self.block_bytes;
        let mut before = [b'\n'];
        if k > 0 {
            self.file.read_exact_at(start - 1, &mut before)?;
        }
        let (size, filled) = extent(k, self.block_bytes, self.len);
        let mut buffer = self.pool.take(filled);
        self.file.read_exact_at(start, &mut buffer[..filled])?;
        let mut parity = Parity::new(&self.next, before[0]);
        parity.feed(&buffer[..size], k == 0 && buffer[..size].starts_with(b"\xef\xbb\xbf"));
        Ok((parity, buffer))
    }

    fn skip(&self, walker: &mut Walker, k: u64) -> Result<()> {
        self.pieces(k, |piece, base| walker.skip(piece, base))
    }

    fn pieces(&self, k: u64, mut each: impl FnMut(&[u8], u64)) -> Result<()> {
        let (mut at, end) = (k * self.block_bytes, ((k + 1) * self.block_bytes).min(self.len));
        let mut buffer = vec![0; PIECE.min((end - at) as usize)];
        while at < end {
            let piece = (end - at).min(PIECE as u64) as usize;
            self.file.read_exact_at(at, &mut buffer[..piece])?;
            each(&buffer[..piece], at);
            at += piece as u64;
        }
        Ok(())
    }
}

/// How many bytes block `k` has, and how many are read at once.
fn extent(k: u64, block_bytes: u64, len: u64) -> (usize, usize) {
    let low = k * block_bytes;
    let size = ((low + block_bytes).min(len) - low) as usize;
    (size, (size + REACH).min((len - low) as usize))
}

/// Reads a block of a regular file of `len` bytes. `None` if no record begins in it.
pub(crate) fn read_quoted(
    file: &InputFile,
    len: u64,
    block_bytes: u64,
    place: &QuotedBlock,
    max_record: usize,
    pool: &Arc<Pool>,
) -> Result<Option<TextBlock>> {
    let low = place.block * block_bytes;
    let (size, mut filled) = extent(place.block, block_bytes, len);
    let mut buffer = match place.bytes.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(buffer) => buffer,
        None => {
            let mut buffer = pool.take(filled);
            file.read_exact_at(low, &mut buffer[..filled])?;
            buffer
        }
    };
    let mut from = place.from.clone();
    let start = if from.at_start() { Some(0) } else { from.next_end(&buffer[..size], low).filter(|end| *end < size) };
    let Some(start) = start else {
        pool.give(buffer);
        return Ok(None);
    };
    // The last record begins before the block's end and goes on to its own.
    let mut to = place.to.clone();
    let mut exact = false;
    let mut at = size;
    let end = loop {
        if to.at_start() {
            break size;
        }
        let end = to.next_end(&buffer[at..filled], low + at as u64).map(|n| at + n);
        let over = end.unwrap_or(filled) - start > max_record;
        if over && !exact {
            // It may be over the limit: then it matters where it began.
            to = place.from.at(low + start as u64);
            to.skip(&buffer[start..size], low + start as u64);
            (exact, at) = (true, size);
            continue;
        }
        if let Some(end) = end {
            break end;
        }
        let known = low + filled as u64;
        if known == len || exact && known - to.record > max_record as u64 + 2 {
            break filled;
        }
        at = filled;
        let more = filled.min(16 << 20).min((len - low) as usize - filled);
        if buffer.len() < filled + more {
            buffer.resize(filled + more, 0);
        }
        file.read_exact_at(known, &mut buffer[filled..filled + more])?;
        filled += more;
    };
    Ok(Some(block(buffer, pool, (start, end), low, max_record)))
}

#[cfg(test)]
mod tests {
    use super::super::cut::StreamCutter;
    use super::*;
    use crate::format::csv::Dialect;
    use proptest::prelude::*;
    use std::io::Write;

    const BLOCK: u64 = 64;

    /// The definition, a byte at a time: where records begin, and where the last one ends.
    fn naive(text: &[u8], max_record: usize) -> Vec<usize> {
        let (mut starts, mut state, mut before, mut start) = (vec![0], 0, b'\n', 0);
        for (i, byte) in text.iter().enumerate() {
            let mark = i == 3 && text.starts_with(b"\xef\xbb\xbf");
            let opens = mark || before == b',' || before == b'\n';
            let mut ends = false;
            state = match (state, *byte) {
                (0, b'"') if opens => 1,
                (1, b'"') => 2,
                (2, b'"') => 1,
                (1, b'\n') if i - start >= max_record => {
                    ends = true;
                    0
                }
                (1, _) => 1,
                (_, b'\n') => {
                    ends = true;
                    0
                }
                _ => 0,
            };
            before = *byte;
            if ends {
                start = i + 1;
                starts.push(start);
            }
        }
        starts.retain(|s| *s < text.len());
        starts
    }

    /// Records as blocks hold them: block number, offset and, unless it is over the limit, text.
    type Records = Vec<(u64, u64, Option<Vec<u8>>)>;

    fn expected(text: &[u8], max_record: usize) -> Records {
        let starts = naive(text, max_record);
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        let record = |(start, end): (&usize, usize)| {
            let length = end - start - usize::from(text[end - 1] == b'\n');
            let kept = (length <= max_record).then(|| text[*start..end].to_vec());
            (*start as u64 / BLOCK, *start as u64, kept)
        };
        starts.iter().zip(ends).map(record).collect()
    }

    /// The records in a block, found from its text alone, as a decoder does.
    fn records(block: &TextBlock, out: &mut Records) {
        let text = block.bytes();
        let starts = naive(text, block.max_record);
        // A mark stands at the start of the input only.
        let base = block.offset + block.start as u64;
        let ends = starts.iter().skip(1).copied().chain([text.len()]);
        for (start, end) in starts.iter().zip(ends) {
            let length = end - start - usize::from(text[end - 1] == b'\n');
            let kept = (length <= block.max_record).then(|| text[*start..end].to_vec());
            out.push((base / BLOCK, base + *start as u64, kept));
        }
    }

    fn from_file(text: &[u8], max_record: usize, round: usize) -> Records {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        let input = Arc::new(InputFile::open(file.path()).unwrap());
        let (len, pool) = (text.len() as u64, Arc::new(Pool::default()));
        let walker = Walker::new(Dialect::CSV, max_record).unwrap();
        let mut quoted = Quoted::new(input.clone(), len, BLOCK, walker, max_record, pool.clone());
        let mut out = Vec::new();
        loop {
            let blocks = quoted.blocks(round).unwrap();
            if blocks.is_empty() {
                return out;
            }
            for place in blocks {
                let again = place.block % 3 == 0 && {
                    read_quoted(&input, len, BLOCK, &place, max_record, &pool).unwrap();
                    true
                };
                assert!(!again || place.bytes.lock().unwrap().is_none());
                if let Some(block) = read_quoted(&input, len, BLOCK, &place, max_record, &pool).unwrap() {
                    assert!(block.bytes().len() < BLOCK as usize + 3 * max_record + 2 * REACH + 2);
                    records(&block, &mut out);
                }
            }
        }
    }

    fn from_stream(text: &[u8], max_record: usize) -> Records {
        let walker = Walker::new(Dialect::CSV, max_record);
        let mut cutter = StreamCutter::new(text, max_record, Arc::default());
        cutter.block_bytes = BLOCK;
        cutter.quoted(walker);
        let mut out = Vec::new();
        while let Some(block) = cutter.next().unwrap() {
            records(&block, &mut out);
        }
        out
    }

    fn check(text: &[u8], max_record: usize) {
        // A byte-order mark inside a block would be taken for one: blocks are told apart by their offset elsewhere.
        let want = expected(text, max_record);
        for round in [1, 3, 100] {
            assert_eq!(from_file(text, max_record, round), want, "file, {}", text.escape_ascii());
        }
        assert_eq!(from_stream(text, max_record), want, "stream, {}", text.escape_ascii());
    }

    #[test]
    fn quoted_newlines_at_every_place_of_the_cut() {
        for before in 40..90 {
            let mut text = vec![b'x'; before];
            text.extend_from_slice(
                b"\n1,\"two\nlines, and \"\" a quote\",\"\"\n2,a \"literal\" quote\n\"a\"b\"\nlast,\"\n\"",
            );
            check(&text, 1 << 20);
        }
        check(b"\xef\xbb\xbf\"a\nb\",c\n1,2\n", 1 << 20);
        check(b"\"", 1 << 20);
        check(b"", 1 << 20);
    }

    #[test]
    fn a_quote_that_is_never_closed_costs_one_record() {
        let mut text = b"a,b\n1,\"open\n".to_vec();
        (0..60).for_each(|i| text.extend_from_slice(format!("{i},plain\n").as_bytes()));
        for max_record in [20, 100, 130, 200, 400] {
            check(&text, max_record);
        }
        let records = expected(&text, 130);
        assert!(records.len() > 30 && records[1].2.is_none(), "{records:?}");
    }

    proptest! {
        #[test]
        fn files_and_streams_agree_with_the_definition(
            text in prop::collection::vec(prop_oneof![3 => Just(b'"'), 3 => Just(b','), 2 => Just(b'\n'), 12 => Just(b'x')], 0..900),
            max_record in prop_oneof![1usize..40, 100usize..300, Just(1 << 20)],
        ) {
            check(&text, max_record);
        }
    }
}
