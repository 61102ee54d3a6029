//! The published hash of keys: rapidhash v3 with its default seed, over the key's canonical bytes.
//!
//! It orders the rows of a window and its leading bits are a key's partition, so it must never change: the output
//! order, the files of a shuffle and every checkpoint depend on it. Canonical bytes: an integer, boolean, timestamp or
//! float key is its 64-bit word in little-endian order (floats: the bits, with one NaN and no −0); text is its bytes;
//! several fields are the row encoding of `query::keys`. A null key of a single field has the constant [`NULL_HASH`].
//!
//! Cost: about 1 ns for a word, 25 GB/s for long text.

use rapidhash::v3::{DEFAULT_RAPID_SECRETS, rapidhash_v3_inline};

/// The hash of a single-field key that is null. No word and, in practice, no text has it.
pub const NULL_HASH: u64 = 0x6e75_6c6c_6b65_7901;

/// The published hash of a text (or row-encoded) key.
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    rapidhash_v3_inline::<true, false, false>(bytes, &DEFAULT_RAPID_SECRETS)
}

/// The published hash of a fixed-width key: that of its eight little-endian bytes.
#[inline]
pub fn hash_word(word: u64) -> u64 {
    rapidhash_v3_inline::<true, true, false>(&word.to_le_bytes(), &DEFAULT_RAPID_SECRETS)
}

/// Spreads a published hash anew for probing inside a partition, where its leading bits are all alike
/// (hashbrown tags with the leading 7 bits and places with the trailing ones).
#[inline]
pub fn probe(hash: u64) -> u64 {
    // The partition's bits end up where only tables of more than 2³⁰ places would look.
    hash.rotate_left(40)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys of one partition of 1,024 begin at different places of a large table.
    #[test]
    fn a_partition_fills_its_table() {
        let of_partition = (0..).map(hash_word).filter(|hash| hash >> 54 == 5).take(20_000);
        let mut places: Vec<u64> = of_partition.map(|hash| probe(hash) & ((1 << 26) - 1)).collect();
        places.sort_unstable();
        places.dedup();
        assert!(places.len() > 19_900, "{}", places.len());
    }

    /// These values are written down because files and output orders depend on them.
    #[test]
    fn the_hash_is_the_published_one() {
        for bytes in [&b""[..], b"a", b"/index.html", &[0xff; 200]] {
            assert_eq!(hash_bytes(bytes), rapidhash::v3::rapidhash_v3(bytes));
        }
        assert_eq!(hash_word(42), rapidhash::v3::rapidhash_v3(&42u64.to_le_bytes()));
        // Null is told from zero and from the empty text by either half of its hash alone.
        for other in [hash_word(0), hash_bytes(b"")] {
            assert_ne!(other as u32, NULL_HASH as u32);
            assert_ne!(other >> 32, NULL_HASH >> 32);
        }
    }
}
