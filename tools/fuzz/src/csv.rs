//! CSV and TSV: every column as every type, and `csv-core`'s opinion on where records end.
//!
//! The first byte chooses the dialect, the types and the format of the time; the second where the text is cut.

#![no_main]

#[allow(dead_code, reason = "records may be several lines, so CSV is checked in its own way")]
mod blocks;

use libfuzzer_sys::fuzz_target;
use windrow::format::csv::{CsvDecoder, Dialect, Header, Layout};
use windrow::format::{Decoder, Field, TextBlock};

const NAMES: [&str; 3] = ["ts", "a", "b"];

/// How many records `csv-core` sees; `None` if the last one does not end.
fn records(text: &[u8], dialect: Dialect) -> Option<usize> {
    let mut builder = csv_core::ReaderBuilder::new();
    builder.terminator(csv_core::Terminator::Any(b'\n')).delimiter(dialect.delimiter);
    let mut reader = builder.build();
    let (mut out, mut ends) = (vec![0; text.len() + 10], vec![0; text.len() + 10]);
    let (mut rest, mut count) = (text, 0);
    while !rest.is_empty() {
        let (result, taken, _, fields) = reader.read_record(rest, &mut out, &mut ends);
        match result {
            csv_core::ReadRecordResult::Record => {
                let line = rest[..taken].iter().filter(|b| **b != b'\n');
                // A lone carriage return is a field there and a blank line here.
                count += usize::from(fields > 1 || !line.eq([&b'\r']));
            }
            _ => return rest.iter().all(|b| *b == b'\n').then_some(count),
        }
        rest = &rest[taken..];
    }
    Some(count)
}

fuzz_target!(|data: &[u8]| {
    let [choice, cut, text @ ..] = data else { return };
    // These blocks are not the first ones of their input: there is no byte order mark, though csv-core takes it for one.
    if text.starts_with(b"\xef\xbb\xbf") {
        return;
    }
    let dialect = if choice & 1 == 0 { Dialect::CSV } else { Dialect::TSV };
    let format = blocks::FORMATS[usize::from(choice >> 1 & 7) % 5].clone();
    let names: Vec<String> = NAMES.map(String::from).into();
    let layout = Layout { dialect, names, header: Header::None };
    let block = |text: &[u8]| TextBlock { max_record: usize::MAX, ..blocks::block(text, 1, 0) };

    // Nothing wanted, everything as text, and with a time: the wish does not decide what is good.
    let decode = |fields: Vec<Field>, time, layout: &Layout, text: &[u8]| {
        CsvDecoder::new(&blocks::wanted(time, fields), layout).expect("columns that there are").decode(&block(text))
    };
    let bare = decode(Vec::new(), None, &layout, text).expect("nothing is never refused");
    let texts = decode(blocks::fields(&NAMES, 0b00001), None, &layout, text).expect("text is never refused");
    assert_eq!((texts.rows, &texts.bad), (bare.rows, &bare.bad), "the wish decides what is good");
    if let Some(count) = records(text, dialect) {
        assert_eq!(bare.rows + bare.bad.len(), count, "csv-core sees other records");
    }
    let timed = decode(blocks::fields(&["a"], 0b00001), Some(("ts", format.clone())), &layout, text);
    let timed = timed.expect("text is never refused");
    assert_eq!(timed.times.len(), timed.rows);
    let every = decode(blocks::fields(&NAMES, 0b11111), Some(("ts", format.clone())), &layout, text)
        .or_else(|_| decode(blocks::fields(&NAMES, 0b11101), Some(("ts", format)), &layout, text));
    assert_eq!(every.expect("only integers are refused").times, timed.times);

    // Cut behind a record that is whole: both halves give the rows of the whole.
    let newlines: Vec<usize> = text.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(i, _)| i + 1).collect();
    if let Some(at) = newlines.get(usize::from(*cut) % newlines.len().max(1))
        && records(&text[..*at], dialect).is_some()
    {
        let halves = [&text[..*at], &text[*at..]].map(|half| decode(Vec::new(), None, &layout, half).expect("nothing"));
        assert_eq!(bare.rows, halves[0].rows + halves[1].rows, "the cut decides");
        assert_eq!(bare.lines, halves[0].lines + halves[1].lines);
    }

    // A header of its own, and types that hold for all that was looked at.
    let whole = blocks::block(text, 0, 0);
    let layout = Layout::read(dialect, choice & 128 == 0, &whole);
    let types = layout.infer(&whole).expect("text is never refused");
    assert_eq!(types.len(), layout.names.len());
});
