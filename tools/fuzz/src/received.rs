//! Entries of the log of what came by standard input and connections: decode anything, and write it down again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use windrow::source::rewritten;

fuzz_target!(|data: &[u8]| {
    if let Ok(again) = rewritten(data) {
        assert!(again.len() <= data.len(), "more was read than there is");
        assert_eq!(rewritten(&again).expect("an entry"), again);
    }
});
