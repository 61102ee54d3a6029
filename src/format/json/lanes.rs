//! Bytes by the word: the three questions that the scanner asks of a stretch of text, eight bytes at a time.
//!
//! Everything here is plain 64-bit arithmetic (SWAR), since the crate has no `unsafe` and vector intrinsics need it.
//! A lane is one byte of a little-endian word; its answer is the lane's top bit, so that the number of trailing
//! zeros over eight is the index of the first lane that says yes. A borrow can make a lane *above* a true one lie;
//! the first is always right, and only the first is ever used. About 10 operations for 8 bytes.

/// One in every lane.
const ONES: u64 = 0x0101_0101_0101_0101;
/// The top bit of every lane.
const TOP: u64 = 0x8080_8080_8080_8080;

/// `byte` in every lane.
const fn splat(byte: u8) -> u64 {
    ONES * byte as u64
}

/// The lanes that end a plain run inside a JSON string: a quote, a backslash, or a control character.
#[inline(always)]
fn specials(word: u64) -> u64 {
    let quote = (word ^ splat(b'"')).wrapping_sub(ONES);
    let slash = (word ^ splat(b'\\')).wrapping_sub(ONES);
    let control = word.wrapping_sub(splat(0x20));
    // The constants have no top bit, so one mask serves all three.
    (quote | slash | control) & !word & TOP
}

/// The lanes that are not decimal digits; exact in every lane.
#[inline(always)]
fn non_digits(word: u64) -> u64 {
    let digit = word ^ splat(b'0');
    (((digit & !TOP) + splat(0x76)) | digit) & TOP
}

/// The index of the first lane that says yes; 8 if none does.
#[inline(always)]
fn first(lanes: u64) -> usize {
    (lanes.trailing_zeros() / 8) as usize
}

/// Whether `byte` ends a plain run inside a JSON string.
fn is_special(byte: u8) -> bool {
    byte == b'"' || byte == b'\\' || byte < 0x20
}

/// The index of the first quote, backslash or control character at or after `at`; the length of `data` if none.
#[inline(always)]
pub(super) fn plain_end(data: &[u8], mut at: usize) -> usize {
    let mut rest = data.get(at..).unwrap_or_default();
    while let Some((chunk, tail)) = rest.split_first_chunk::<16>() {
        let wide = u128::from_le_bytes(*chunk);
        let (low, high) = (specials(wide as u64), specials((wide >> 64) as u64));
        if low | high != 0 {
            let (lanes, base) = if low != 0 { (low, 0) } else { (high, 8) };
            return at + base + first(lanes);
        }
        at += 16;
        rest = tail;
    }
    at + rest.iter().position(|&b| is_special(b)).unwrap_or(rest.len())
}

/// How many decimal digits stand at `at`.
#[inline(always)]
pub(super) fn digits(data: &[u8], at: usize) -> usize {
    let mut rest = data.get(at..).unwrap_or_default();
    let mut count = 0;
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let n = first(non_digits(u64::from_le_bytes(*chunk)));
        count += n;
        if n < 8 {
            return count;
        }
        rest = tail;
    }
    count + rest.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// The value of the `n` (1 to 8) digits with which `chunk` begins; what follows them does not matter.
#[inline(always)]
pub(super) fn digits_value(chunk: [u8; 8], n: usize) -> u64 {
    // The digits move to the top lanes; zeros come in below them, as leading zeros.
    let word = (u64::from_le_bytes(chunk) & splat(0x0f)) << (64 - 8 * n);
    let pairs = (word.wrapping_mul(10).wrapping_add(word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_ffff_0000_ffff;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn words_agree_with_bytes(data in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), b'0'..=b'9', b'a'..=b'z'], 0..80), at in 0usize..90) {
            let tail = data.get(at..).unwrap_or_default();
            let plain = tail.iter().position(|&b| is_special(b)).unwrap_or(tail.len());
            prop_assert_eq!(plain_end(&data, at), at + plain);
            prop_assert_eq!(digits(&data, at), tail.iter().take_while(|b| b.is_ascii_digit()).count());
        }

        #[test]
        fn eight_digits(value in 0u64..100_000_000, n in 1usize..=8, follow: [u8; 8]) {
            let value = value % 10u64.pow(n as u32);
            let mut chunk = follow;
            chunk[..n].copy_from_slice(format!("{value:0n$}").as_bytes());
            prop_assert_eq!(digits_value(chunk, n), value);
        }
    }
}
