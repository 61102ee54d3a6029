//! Plain numbers as bytes and back: how states travel to disk.
//!
//! Little-endian, without padding, lengths known to the reader. What is read back may be anything: every function says so
//! by `None` instead of panicking, and takes no more memory than there are bytes.
//!
//! Cost: that of a copy.

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

    /// The next word.
    #[inline]
    pub fn word<T: Word>(&mut self) -> Option<T> {
        self.take(size_of::<T>()).map(bytemuck::pod_read_unaligned)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
