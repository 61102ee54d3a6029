//! Plain numbers as bytes and back: how states travel to disk.
//!
//! Little-endian, without padding, lengths known to the reader. What is read back may be anything: every function says so
//! by `None` instead of panicking, and takes no more memory than there are bytes.
//!
//! Cost: that of a copy.

/// A number of fixed width.
pub trait Word: Copy + 'static {
    /// Bytes of one.
    const BYTES: usize;
    /// Writes it over `to`, which is [`BYTES`](Self::BYTES) long.
    fn write(self, to: &mut [u8]);
    /// Reads it from `from`, which is [`BYTES`](Self::BYTES) long.
    fn read(from: &[u8]) -> Self;
}

macro_rules! words {
    ($($word:ty),*) => {$(
        impl Word for $word {
            const BYTES: usize = size_of::<$word>();
            #[inline]
            fn write(self, to: &mut [u8]) {
                to.copy_from_slice(&self.to_le_bytes());
            }
            #[inline]
            fn read(from: &[u8]) -> Self {
                let mut bytes = [0; size_of::<$word>()];
                bytes.copy_from_slice(from);
                <$word>::from_le_bytes(bytes)
            }
        }
    )*};
}
words!(u8, u32, u64, i64, i128, f64);

/// Appends `words`.
#[inline]
pub fn put<T: Word>(words: impl ExactSizeIterator<Item = T>, out: &mut Vec<u8>) {
    let at = out.len();
    out.resize(at + words.len() * T::BYTES, 0);
    for (to, word) in out[at..].chunks_exact_mut(T::BYTES).zip(words) {
        word.write(to);
    }
}

/// Appends one word.
#[inline]
pub fn put_one<T: Word>(word: T, out: &mut Vec<u8>) {
    put(std::iter::once(word), out);
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
    pub fn words<T: Word>(&mut self, count: usize) -> Option<impl ExactSizeIterator<Item = T> + use<'a, T>> {
        Some(self.take(count.checked_mul(T::BYTES)?)?.chunks_exact(T::BYTES).map(T::read))
    }

    /// The next word.
    #[inline]
    pub fn word<T: Word>(&mut self) -> Option<T> {
        self.take(T::BYTES).map(T::read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken() {
        let mut out = Vec::new();
        put([1u32, u32::MAX].into_iter(), &mut out);
        put_one(-5i128, &mut out);
        put_one(f64::NAN, &mut out);
        let mut bytes = Bytes(&out);
        assert_eq!(bytes.words::<u32>(2).unwrap().collect::<Vec<_>>(), [1, u32::MAX]);
        assert_eq!(bytes.word::<i128>(), Some(-5));
        assert!(bytes.word::<f64>().unwrap().is_nan());
        assert!(bytes.word::<u8>().is_none() && bytes.words::<u64>(usize::MAX).is_none());
        assert_eq!(bytes.take(0), Some(&[][..]));
    }
}
