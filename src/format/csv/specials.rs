//! Where the next delimiter or newline is: 64 bytes compared at a time, their answers kept as the bits of a word.
//!
//! Short fields are what this is for: several end in one word of 64 bytes, and each costs one trailing-zero count instead
//! of a search of its own. Quotes are not looked for: they mean something at the start of a field only.

use wide::u8x16;

/// Walks over the delimiters and newlines of a text.
#[derive(Debug)]
pub(super) struct Specials<'a> {
    text: &'a [u8],
    delimiter: u8,
    /// The bytes that `mask` speaks of begin here.
    base: usize,
    mask: u64,
}

impl<'a> Specials<'a> {
    pub(super) fn new(text: &'a [u8], delimiter: u8, from: usize) -> Specials<'a> {
        let mut specials = Specials { text, delimiter, base: from, mask: 0 };
        specials.load();
        specials
    }

    /// Looks from `at` on, which must not lie before what was looked at.
    #[inline]
    pub(super) fn seek(&mut self, at: usize) {
        if at - self.base < 64 {
            self.mask &= u64::MAX << (at - self.base);
        } else {
            self.base = at;
            self.load();
        }
    }

    /// The next delimiter or newline, or the end of the text.
    #[inline]
    pub(super) fn next(&mut self) -> usize {
        while self.mask == 0 {
            self.base += 64;
            if self.base >= self.text.len() {
                self.base = self.text.len();
                return self.base;
            }
            self.load();
        }
        let at = self.base + self.mask.trailing_zeros() as usize;
        self.mask &= self.mask - 1;
        at
    }

    #[inline]
    fn load(&mut self) {
        let rest = self.text.get(self.base..).unwrap_or_default();
        self.mask = match rest.first_chunk::<64>() {
            Some(chunk) => mask(chunk, self.delimiter),
            None => tail(rest, self.delimiter),
        };
    }
}

#[cold]
fn tail(rest: &[u8], delimiter: u8) -> u64 {
    rest.iter().enumerate().fold(0, |mask, (i, b)| mask | u64::from(*b == delimiter || *b == b'\n') << i)
}

/// Calls `found` with the place of every `byte` in `text`: for bytes too frequent to search for one by one.
#[inline]
pub(super) fn each(text: &[u8], byte: u8, mut found: impl FnMut(usize)) {
    let (chunks, rest) = text.as_chunks::<64>();
    for (i, chunk) in chunks.iter().enumerate() {
        let mut mask = matches(chunk, |bytes| bytes.cmp_eq(u8x16::splat(byte)));
        while mask != 0 {
            found(64 * i + mask.trailing_zeros() as usize);
            mask &= mask - 1;
        }
    }
    let base = text.len() - rest.len();
    rest.iter().enumerate().filter(|(_, b)| **b == byte).for_each(|(i, _)| found(base + i));
}

#[inline(always)]
fn mask(chunk: &[u8; 64], delimiter: u8) -> u64 {
    let (delimiter, newline) = (u8x16::splat(delimiter), u8x16::splat(b'\n'));
    matches(chunk, |bytes| bytes.cmp_eq(delimiter) | bytes.cmp_eq(newline))
}

/// A bit for each byte that `test` has marked with all its bits.
#[inline(always)]
fn matches(chunk: &[u8; 64], test: impl Fn(u8x16) -> u8x16) -> u64 {
    let mut mask = 0;
    for (i, part) in chunk.as_chunks::<16>().0.iter().enumerate() {
        mask |= u64::from(test(u8x16::new(*part)).move_mask() as u16) << (16 * i);
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn masks_agree_with_bytes(bytes in prop::collection::vec(prop_oneof![Just(b','), Just(b'\n'), any::<u8>(), 0x2a..0x2fu8], 64)) {
            let chunk: [u8; 64] = bytes.clone().try_into().unwrap();
            let plain = tail(&bytes, b',');
            prop_assert_eq!(mask(&chunk, b','), plain);
        }

        #[test]
        fn each_byte_is_found(text in prop::collection::vec(prop_oneof![Just(b'"'), any::<u8>()], 0..300)) {
            let mut found = Vec::new();
            each(&text, b'"', |at| found.push(at));
            prop_assert_eq!(found, memchr::memchr_iter(b'"', &text).collect::<Vec<_>>());
        }

        #[test]
        fn every_special_is_met_in_order(text in prop::collection::vec(prop_oneof![1 => Just(b','), 1 => Just(b'\n'), 9 => Just(b'x')], 0..400), from in 0usize..50, jumps in prop::collection::vec(0usize..150, 0..20)) {
            let from = from.min(text.len());
            let next = |at: usize| (at..text.len()).find(|i| matches!(text[*i], b',' | b'\n')).unwrap_or(text.len());
            let mut specials = Specials::new(&text, b',', from);
            let mut at = from;
            for jump in jumps {
                let found = specials.next();
                prop_assert_eq!(found, next(at));
                at = (found + 1 + jump / 20 * 20).min(text.len());
                specials.seek(at);
            }
        }
    }
}
