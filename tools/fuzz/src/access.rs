//! Common and combined access logs: every field, every type.
//!
//! The first two bytes choose the format, the types, the format of the time and where the text is cut.

#![no_main]

mod blocks;

use libfuzzer_sys::fuzz_target;
use windrow::format::Wanted;
use windrow::format::access::AccessDecoder;

const NAMES: [&str; 12] = [
    "host",
    "identity",
    "user",
    "time",
    "request",
    "method",
    "path",
    "protocol",
    "status",
    "bytes",
    "referer",
    "user_agent",
];

/// Nothing but white space. A line that is too long is bad even then.
fn blank(line: &[u8]) -> bool {
    line.len() <= blocks::MAX_RECORD && line.iter().all(u8::is_ascii_whitespace)
}

fuzz_target!(|data: &[u8]| {
    let [choice, cut, text @ ..] = data else { return };
    let combined = choice & 1 == 0;
    let names = if combined { &NAMES[..] } else { &NAMES[..10] };
    let format = || blocks::FORMATS[usize::from(choice >> 1 & 7) % 5].clone();
    let decoder = |wanted: &Wanted| AccessDecoder::new(wanted, combined).expect("fields that there are");

    // Everything as text: never an error. Then a few columns only, with and without the time.
    let all = blocks::wanted(None, blocks::fields(names, 0b00001));
    let texts = blocks::check(&decoder(&all), &all, text, blank, *cut).expect("text is never refused");
    let none = blocks::wanted(None, Vec::new());
    let bare = blocks::check(&decoder(&none), &none, text, blank, *cut).expect("nothing is never refused");
    assert_eq!(texts.rows, bare.rows, "the wish decides what is good");
    assert_eq!(texts.bad, bare.bad);

    let timed = blocks::wanted(Some(("time", format())), blocks::fields(&["path", "status", "bytes"], 0b00001));
    let timed = blocks::check(&decoder(&timed), &timed, text, blank, *cut).expect("text is never refused");
    assert!(timed.rows <= texts.rows);

    // Every field as every type; as every type but integer, if that meets a fraction.
    let every = blocks::wanted(Some(("time", format())), blocks::fields(names, 0b11111));
    let every = blocks::check(&decoder(&every), &every, text, blank, *cut).or_else(|| {
        let wanted = blocks::wanted(Some(("time", format())), blocks::fields(names, 0b11101));
        blocks::check(&decoder(&wanted), &wanted, text, blank, *cut)
    });
    assert_eq!(every.expect("only integers are refused").times, timed.times);
});
