//! What came by standard input and connections as entries of a log: such records cannot be read again, so they are written
//! down before anybody counts them, and had from the log when a run goes on.
//!
//! ```text
//! entry     postcard of what it is (`Head`), then its text
//!           Sample    lines that the fields were found out from
//!           Block     the header of its input, if that is its own, and whole lines
//!           Said      nothing: an input began, or fell silent
//! ```
//!
//! The clock on the wall and the order in which inputs came are in the entries, so that a run that goes on decides as the one
//! before it did.

use super::{Arrival, Event, Sample};
use crate::format::csv::Dialect;
use crate::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// A log, beside the run that counts what is in it.
pub(crate) trait Journal: Debug + Send + Sync {
    /// The next entry of a run before this one that its last checkpoint does not count, and the number of the one after it.
    ///
    /// # Errors
    /// Those of the disk; damage.
    fn again(&self) -> Result<Option<(u64, Vec<u8>)>>;

    /// How many inputs were known at that checkpoint.
    fn inputs(&self) -> usize;

    /// Takes an entry and gives the number of the one after it.
    ///
    /// # Errors
    /// Those of the disk.
    fn append(&self, entry: &[u8]) -> Result<u64>;

    /// Makes what was taken outlive a crash.
    ///
    /// # Errors
    /// Those of the disk.
    fn commit(&self) -> Result<()>;
}

#[derive(Serialize, Deserialize)]
enum Head {
    Sample { path: Option<String> },
    Block { input: u64, at: i64, offset: u64, header: u64 },
    Said { input: u64, at: i64, event: Event },
}

/// An entry, read.
#[derive(Debug, PartialEq)]
pub(super) enum Entry {
    Sample(Sample),
    Block { input: usize, at: i64, offset: u64, header: Vec<u8>, text: Vec<u8> },
    Said { input: usize, at: i64, event: Event },
}

fn encode(head: &Head, texts: [&[u8]; 2]) -> Result<Vec<u8>> {
    let bytes = Vec::with_capacity(texts.iter().map(|text| text.len()).sum::<usize>() + 32);
    let written = postcard::to_extend(head, bytes);
    let mut bytes =
        written.map_err(|e| Error::new(ErrorKind::Io, format!("an entry of the log cannot be written down: {e}")))?;
    texts.into_iter().for_each(|text| bytes.extend_from_slice(text));
    Ok(bytes)
}

pub(super) fn sample(sample: &Sample) -> Result<Vec<u8>> {
    encode(&Head::Sample { path: sample.path.clone() }, [&sample.lines, &[]])
}

/// Lines of input number `input` from `offset` on, behind its own header.
pub(super) fn block(input: usize, at: i64, offset: u64, header: &[u8], text: &[u8]) -> Result<Vec<u8>> {
    encode(&Head::Block { input: input as u64, at, offset, header: header.len() as u64 }, [header, text])
}

pub(super) fn said(input: usize, arrival: &Arrival) -> Result<Vec<u8>> {
    encode(&Head::Said { input: input as u64, at: arrival.at, event: arrival.event }, [&[], &[]])
}

/// # Errors
/// If it is none of these.
pub(super) fn decode(entry: &[u8]) -> Result<Entry> {
    let unknown = || Error::new(ErrorKind::Io, "the log of received records holds what this version does not know");
    let (head, text) = postcard::take_from_bytes::<Head>(entry).map_err(|_| unknown())?;
    let number = |n: u64| u32::try_from(n).map(|n| n as usize).map_err(|_| unknown());
    Ok(match head {
        Head::Sample { path } => Entry::Sample(Sample { lines: text.to_vec(), path }),
        Head::Block { input, at, offset, header } => {
            let (header, text) = text.split_at_checked(number(header)?).ok_or_else(unknown)?;
            Entry::Block { input: number(input)?, at, offset, header: header.to_vec(), text: text.to_vec() }
        }
        Head::Said { input, at, event } => Entry::Said { input: number(input)?, at, event },
    })
}

/// Decodes an entry and writes down again what it says: what tests hand any bytes.
///
/// # Errors
/// If it is no entry.
#[doc(hidden)]
pub fn rewritten(entry: &[u8]) -> Result<Vec<u8>> {
    match decode(entry)? {
        Entry::Sample(of) => sample(&of),
        Entry::Block { input, at, offset, header, text } => block(input, at, offset, &header, &text),
        Entry::Said { input, at, event } => said(input, &Arrival { event, ..Arrival::at(at) }),
    }
}

/// Bytes of records in an entry.
#[cfg(test)]
pub(crate) fn text_bytes(entry: &[u8]) -> Result<usize> {
    Ok(match decode(entry)? {
        Entry::Block { text, .. } => text.len(),
        Entry::Sample(_) | Entry::Said { .. } => 0,
    })
}

/// The lines at the beginning of a text that say what its fields are: those that begin with `#` or are blank, and one record
/// more. Quotes keep newlines inside it.
pub(super) fn header(text: &[u8], dialect: Option<Dialect>) -> &[u8] {
    let opens = |before: u8, quote| matches!(before, b'\n' | b'\r') || before == quote;
    let (mut line, mut inside, mut before) = (0, false, b'\n');
    for (at, byte) in text.iter().enumerate() {
        if let Some(Dialect { delimiter, quote: Some(quote) }) = dialect
            && *byte == quote
        {
            inside = !inside && (opens(before, quote) || before == delimiter);
        }
        if *byte == b'\n' && !inside {
            if text[line] != b'#' && !text[line..at].trim_ascii().is_empty() {
                return &text[..=at];
            }
            line = at + 1;
        }
        before = *byte;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_header_is_what_names_the_fields() {
        let of = |text: &'static str| str::from_utf8(header(text.as_bytes(), Some(Dialect::CSV))).unwrap();
        assert_eq!(of("a,b\n1,2\n"), "a,b\n");
        assert_eq!(of("a,\"b\nc\"\n1,2\n"), "a,\"b\nc\"\n");
        assert_eq!(of("#fields\ta\n#types\tstring\nx\ny\n"), "#fields\ta\n#types\tstring\nx\n");
        assert_eq!(of("a,b"), "a,b");
        assert_eq!(of("\r\n\na,5\" x,\"it \"\"is\"\n1,2\n"), "\r\n\na,5\" x,\"it \"\"is\"\n");
        assert_eq!(header(b"a\"\nb\n", None), b"a\"\n");
    }

    proptest! {
        #[test]
        fn what_is_written_down_is_read(
            input in 0usize..300, at in any::<i64>(), offset in any::<u64>(), path in prop::option::of(".{0,9}"),
            header in prop::collection::vec(any::<u8>(), 0..20), text in prop::collection::vec(any::<u8>(), 0..200),
            event in prop::sample::select(vec![Event::None, Event::Begins, Event::Silent]),
        ) {
            let first = Sample { lines: text.clone(), path };
            prop_assert_eq!(decode(&sample(&first).unwrap()).unwrap(), Entry::Sample(first));
            let bytes = block(input, at, offset, &header, &text).unwrap();
            prop_assert_eq!(decode(&bytes).unwrap(), Entry::Block { input, at, offset, header, text });
            let arrival = Arrival { event, ..Arrival::at(at) };
            prop_assert_eq!(decode(&said(input, &arrival).unwrap()).unwrap(), Entry::Said { input, at, event });
        }

        /// The fuzz target `received` does the same.
        #[test]
        fn whatever_the_bytes_are_they_say_the_same_when_written_again(
            kind in 0u8..4, mut bytes in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            bytes.insert(0, kind);
            if let Ok(again) = rewritten(&bytes) {
                prop_assert!(again.len() <= bytes.len());
                prop_assert_eq!(decode(&again).unwrap(), decode(&bytes).unwrap());
                prop_assert_eq!(&rewritten(&again).unwrap(), &again);
            }
        }
    }
}
