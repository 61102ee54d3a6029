//! Plain numbers as bytes and back: how states travel to disk.
//!
//! Little-endian, without padding, lengths known to the reader. What is read back may be anything: every function says so
//! by `None` instead of panicking, and takes no more memory than there are bytes, or eight times that if they are packed.
//!
//! *Packed* words travel by those of their bytes only in which they differ: numbers of things are mostly small, or near
//! each other, and what does not repeat no compression finds.
//!
//! ```text
//! packed: where the bytes begin that differ (upper half of a u8), how many they are, 1 to 8 (lower half);
//!         all others (u64), unless all differ; those of each word
//! ```
//!
//! Cost: that of a copy; packed about 1 ns a word.

/// A number of fixed width, which travels as it lies in memory.
pub trait Word: bytemuck::Pod {}
impl Word for u8 {}
impl Word for u32 {}
impl Word for u64 {}
impl Word for i64 {}
impl Word for i128 {}
impl Word for f64 {}

#[cfg(target_endian = "big")]
compile_error!("words are written as they lie in memory, and files are little-endian");

/// Appends `words`.
#[inline]
pub fn put<T: Word>(words: &[T], out: &mut Vec<u8>) {
    out.extend_from_slice(bytemuck::cast_slice(words));
}

/// Appends words that come one by one.
#[inline]
pub fn put_each<T: Word>(words: impl Iterator<Item = T>, out: &mut Vec<u8>) {
    words.for_each(|word| put(&[word], out));
}

/// Appends one word.
#[inline]
pub fn put_one<T: Word>(word: T, out: &mut Vec<u8>) {
    put(&[word], out);
}

/// A word that can travel packed.
pub trait Packed: Word {
    /// As the lower bits of 64.
    fn bits(self) -> u64;
    /// The word of the lower bits.
    fn of(bits: u64) -> Self;
}

impl Packed for u32 {
    fn bits(self) -> u64 {
        u64::from(self)
    }
    fn of(bits: u64) -> u32 {
        bits as u32
    }
}

impl Packed for u64 {
    fn bits(self) -> u64 {
        self
    }
    fn of(bits: u64) -> u64 {
        bits
    }
}

impl Packed for i64 {
    fn bits(self) -> u64 {
        self as u64
    }
    fn of(bits: u64) -> i64 {
        bits as i64
    }
}

/// Words that are looked at before it is asked whether they differ in all bytes.
const LOOK: usize = if cfg!(test) { 2 } else { 8 };

/// Appends the words of all `parts`, packed.
pub fn put_packed<T: Packed>(parts: &[&[T]], out: &mut Vec<u8>) {
    let first = parts.iter().find_map(|part| part.first()).map_or(0, |first| first.bits());
    let mut differ = 0;
    for some in parts.iter().flat_map(|part| part.chunks(LOOK)) {
        differ = some.iter().fold(differ, |differ, word| differ | (word.bits() ^ first));
        if bytes_of(differ) == (0, size_of::<T>()) {
            break;
        }
    }
    let (from, width) = bytes_of(differ);
    let mask = u64::MAX >> (64 - 8 * width) << (8 * from);
    put_one((from << 4 | width) as u8, out);
    if width == size_of::<T>() {
        return parts.iter().for_each(|part| put(part, out));
    }
    put_one(first & !mask, out);
    let mut at = out.len();
    let words: usize = parts.iter().map(|part| part.len()).sum();
    // Each word is written whole, and all of it but its own bytes is written over by those that follow.
    out.resize(at + words * width + 8, 0);
    for word in parts.iter().copied().flatten() {
        out[at..at + 8].copy_from_slice(&(word.bits() >> (8 * from)).to_le_bytes());
        at += width;
    }
    out.truncate(at);
}

/// Where the bytes begin that are not zero, and how many they are, at least one.
fn bytes_of(bits: u64) -> (usize, usize) {
    let from = (bits.trailing_zeros() as usize / 8).min(7);
    (from, (8 - bits.leading_zeros() as usize / 8).saturating_sub(from).max(1))
}

/// Bytes that are read from the front.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    /// The next `len` bytes.
    #[inline]
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    /// The next `count` words.
    #[inline]
    pub fn words<T: Word>(&mut self, count: usize) -> Option<Vec<T>> {
        Some(bytemuck::allocation::pod_collect_to_vec(self.take(count.checked_mul(size_of::<T>())?)?))
    }

    /// Appends the next `count` words, which were [packed](put_packed), to `out`.
    pub fn packed<T: Packed>(&mut self, count: usize, out: &mut Vec<T>) -> Option<()> {
        self.packed_as(count, out, |word| word)
    }

    /// Appends what `each` makes of the next `count` words, which were [packed](put_packed), to `out`.
    pub fn packed_as<T: Packed, U>(&mut self, count: usize, out: &mut Vec<U>, each: impl Fn(T) -> U) -> Option<()> {
        let head = self.word::<u8>()?;
        let (from, width) = (usize::from(head >> 4), usize::from(head & 15));
        if width == size_of::<T>() {
            let words = self.take(count.checked_mul(width)?)?.chunks_exact(width);
            out.extend(words.map(|word| each(bytemuck::pod_read_unaligned(word))));
            return Some(());
        }
        if width == 0 || from + width > 8 {
            return None;
        }
        let others: u64 = self.word()?;
        let bytes = self.take(count.checked_mul(width)?)?;
        let mask = u64::MAX >> (64 - 8 * width);
        let word = |word: u64| each(T::of(others | (word & mask) << (8 * from)));
        // Those that can be read as eight bytes, of which theirs are the first.
        let whole = bytes.len().checked_sub(8).map_or(0, |last| last / width + 1);
        out.extend((0..whole).map(|i| word(bytemuck::pod_read_unaligned(&bytes[i * width..i * width + 8]))));
        out.extend(bytes[whole * width..].chunks_exact(width).map(|rest| {
            let mut eight = [0; 8];
            eight[..width].copy_from_slice(rest);
            word(u64::from_le_bytes(eight))
        }));
        Some(())
    }

    /// The next word.
    #[inline]
    pub fn word<T: Word>(&mut self) -> Option<T> {
        self.take(size_of::<T>()).map(bytemuck::pod_read_unaligned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn travel<T: Packed + PartialEq + std::fmt::Debug>(words: &[T], cut: usize, behind: u8) {
        let mut out = Vec::new();
        put_packed(&[&words[..cut], &[], &words[cut..]], &mut out);
        assert!(out.len() <= 9 + size_of_val(words));
        out.push(behind);
        let (mut bytes, mut found) = (Bytes(&out), words.to_vec());
        bytes.packed(words.len(), &mut found).unwrap();
        assert_eq!(found, [words, words].concat());
        assert_eq!(bytes.0, [behind]);
        let cut = Bytes(&out[..out.len() - 2]).packed::<T>(words.len(), &mut Vec::new());
        assert!(cut.is_none_or(|()| words.is_empty()));
    }

    proptest! {
        #[test]
        fn what_is_packed_is_the_same_again(
            (base, mask) in (any::<u64>(), prop_oneof![Just(0), Just(0xff), Just(0xff00), Just(u64::MAX), any::<u64>()]),
            words in prop::collection::vec(any::<u64>(), 0..40),
            (cut, behind) in (0usize..40, any::<u8>()),
        ) {
            let words: Vec<u64> = words.into_iter().map(|word| base ^ (word & mask)).collect();
            travel(&words, cut.min(words.len()), behind);
            travel(&words.iter().map(|word| *word as i64).collect::<Vec<_>>(), 0, behind);
            travel(&words.iter().map(|word| *word as u32).collect::<Vec<_>>(), 0, behind);
        }

        #[test]
        fn any_bytes_are_words_or_none(bytes in prop::collection::vec(any::<u8>(), 0..40), count in 0usize..20) {
            for words in [count, usize::MAX] {
                let (mut long, mut short) = (Vec::<u64>::new(), Vec::<u32>::new());
                assert!(Bytes(&bytes).packed(words, &mut long).is_none_or(|()| long.len() == words));
                assert!(Bytes(&bytes).packed(words, &mut short).is_none_or(|()| short.len() == words));
            }
        }
    }

    #[test]
    fn words_that_are_near_take_few_bytes() {
        let mut out = Vec::new();
        put_packed(&[&[1_000_000_000u64, 1_000_000_001, 999_999_900][..]], &mut out);
        assert_eq!(out.len(), 9 + 3 * 2);
    }

    #[test]
    fn what_is_put_is_taken() {
        let mut out = Vec::new();
        put(&[1u32, u32::MAX], &mut out);
        put_each([7u8].into_iter(), &mut out);
        put_one(-5i128, &mut out);
        put_one(f64::NAN, &mut out);
        let mut bytes = Bytes(&out);
        assert_eq!(bytes.words::<u32>(2).unwrap(), [1, u32::MAX]);
        assert_eq!(bytes.word::<u8>(), Some(7));
        assert_eq!(bytes.word::<i128>(), Some(-5));
        assert!(bytes.word::<f64>().unwrap().is_nan());
        assert!(bytes.word::<u8>().is_none() && bytes.words::<u64>(usize::MAX).is_none());
        assert_eq!(bytes.take(0), Some(&[][..]));
    }
}
