//! NDJSON: wanted members as every type, inference, and `serde_json`'s opinion on each line.
//!
//! The first two bytes choose the types, the format of the time and where the text is cut.

#![no_main]

mod blocks;

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::from_slice;
use windrow::format::json::{JsonDecoder, infer};
use windrow::format::{Field, Wanted};

const NAMES: [&str; 6] = ["a", "b", "a.b", "a.b.c", "", "ts"];

/// White space as JSON knows it.
fn blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

/// Whether a line is an object, in the opinion of `serde_json`; `None` if it nests deeper than windrow follows.
fn is_object(line: &[u8]) -> Option<bool> {
    let opening = line.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    let first = line.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r'));
    (opening < 1000).then(|| first == Some(&b'{') && from_slice::<IgnoredAny>(line).is_ok())
}

fuzz_target!(|data: &[u8]| {
    let [choice, cut, text @ ..] = data else { return };
    let format = || blocks::FORMATS[usize::from(choice & 7) % 5].clone();
    let decoder = |wanted: &Wanted| JsonDecoder::new(wanted).expect("names with few dots");

    // Nothing wanted: what is good is what is JSON.
    let none = blocks::wanted(None, Vec::new());
    let bare = blocks::check(&decoder(&none), &none, text, blank, *cut).expect("nothing is never refused");
    let rest = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let lines: Vec<&[u8]> = rest.split(|byte| *byte == b'\n').filter(|line| !blank(line)).collect();
    if lines.iter().all(|line| line.len() < blocks::MAX_RECORD - 10) {
        let opinions: Option<Vec<bool>> = lines.iter().map(|line| is_object(line)).collect();
        if let Some(opinions) = opinions {
            assert_eq!(bare.rows, opinions.iter().filter(|good| **good).count(), "serde_json disagrees");
        }
    }

    // Some members as text, as every type, and with a time.
    let all = blocks::wanted(None, blocks::fields(&NAMES, 0b00001));
    let texts = blocks::check(&decoder(&all), &all, text, blank, *cut).expect("text is never refused");
    assert_eq!(texts.bad, bare.bad, "the wish decides what is good");
    let timed = blocks::wanted(Some(("ts", format())), blocks::fields(&["a", "ts"], 0b00001));
    let timed = blocks::check(&decoder(&timed), &timed, text, blank, *cut).expect("text is never refused");
    let every = blocks::wanted(Some(("ts", format())), blocks::fields(&NAMES, 0b11111));
    let every = blocks::check(&decoder(&every), &every, text, blank, *cut).or_else(|| {
        let wanted = blocks::wanted(Some(("ts", format())), blocks::fields(&NAMES, 0b11101));
        blocks::check(&decoder(&wanted), &wanted, text, blank, *cut)
    });
    assert_eq!(every.expect("only integers are refused").times, timed.times);

    // What is inferred from all records holds for all records.
    let inferred = infer(&blocks::block(text, 0, 0), usize::MAX);
    assert_eq!(inferred.records, bare.rows, "inference counts good records");
    let fields: Vec<Field> = (inferred.fields.iter())
        .filter(|f| f.name.matches('.').count() <= 10)
        .map(|f| Field { name: f.name.clone(), ty: f.ty })
        .collect();
    if fields.len() <= 64 {
        let wanted = blocks::wanted(None, fields);
        let decoded = blocks::check(&decoder(&wanted), &wanted, text, blank, *cut).expect("inferred types fit");
        assert_eq!(decoded.cast_failed, 0, "inferred types fit: {:?}", wanted.fields);
    }
});
