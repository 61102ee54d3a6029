//! Lines by a pattern: a few expressions over any text, and any text as an expression.
//!
//! The first two bytes choose the expression, the format of the time and where the text is cut.

#![no_main]

mod blocks;

use libfuzzer_sys::fuzz_target;
use windrow::format::pattern::{Pattern, PatternDecoder};

const PATTERNS: [&str; 4] = [
    r"^\[(?<ts>[^\]]*)\] (?<a>\w+) (?<b>.*)$",
    r"(?<ts>\d+)(?<a>\d)(?<b>x)?",
    r"(?<a>.*) (?<ts>\S*)(?<b>)",
    r"(?<b>[^,]*),(?<a>[^,]*)(?:,(?<ts>[^,]*))?",
];

fn blank(line: &[u8]) -> bool {
    line.is_empty() || line == b"\r"
}

fuzz_target!(|data: &[u8]| {
    let [choice, cut, text @ ..] = data else { return };
    if let Ok(text) = std::str::from_utf8(text)
        && text.len() < 200
    {
        let _ = Pattern::parse(text);
    }
    let pattern = Pattern::parse(PATTERNS[usize::from(choice & 3)]).expect("a pattern");
    let format = blocks::FORMATS[usize::from(choice >> 2) % 5].clone();
    let check = |time, fields| {
        let wanted = blocks::wanted(time, fields);
        blocks::check(&PatternDecoder::new(&wanted, &pattern).expect("groups"), &wanted, text, blank, *cut)
    };
    let bare = check(None, Vec::new()).expect("nothing is never refused");
    let texts = check(None, blocks::fields(&["a", "b", "ts"], 0b00001)).expect("text is never refused");
    assert_eq!(texts.bad, bare.bad, "the wish decides what is good");
    let timed = check(Some(("ts", format.clone())), blocks::fields(&["a"], 0b00001)).expect("text is never refused");
    let every = check(Some(("ts", format.clone())), blocks::fields(&["a", "b", "ts"], 0b11111))
        .or_else(|| check(Some(("ts", format)), blocks::fields(&["a", "b", "ts"], 0b11101)));
    assert_eq!(every.expect("only integers are refused").times, timed.times);
});
