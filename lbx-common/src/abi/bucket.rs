//! Exact-match tables in array maps: cuckoo hashing with two buckets of two entries a key.
//!
//! The lookup of an ARRAY map is inlined by the kernel where that of a HASH map is a call, and a bucket is
//! one cache line. The agent inserts (and moves entries about); the kernel only looks up.

use super::KeyWords;
use crate::hash::mix;

/// Entries in a bucket.
pub const ENTRIES_PER_BUCKET: usize = 2;

/// Key and value; an all-zero key is no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Entry {
    /// The key.
    pub key: KeyWords,
    /// The value.
    pub value: [u64; 2],
}

/// One cache line of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Bucket {
    /// The entries, in no order.
    pub entries: [Entry; ENTRIES_PER_BUCKET],
}

// SAFETY: repr(C), eight u64, no padding, every bit pattern is a value.
unsafe impl super::Words<8> for Bucket {}

/// The two buckets that may hold `key`, in a table of `mask + 1` buckets (a power of two).
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "two halves of the hash, cut to the table's size")]
pub const fn bucket_pair(key: KeyWords, mask: u32) -> (u32, u32) {
    let hash = mix(key[0] ^ mix(key[1] ^ 0x9e37_79b9_7f4a_7c15));
    let (first, second) = (hash as u32 & mask, (hash >> 32) as u32 & mask);
    // Two equal buckets would halve the room for a key.
    (first, if first == second { second ^ (mask & 1) } else { second })
}

/// The value of `key` in a bucket.
#[inline(always)]
pub fn find(bucket: &Bucket, key: KeyWords) -> Option<&[u64; 2]> {
    let [first, second] = &bucket.entries;
    if first.key[0] == key[0] && first.key[1] == key[1] {
        return Some(&first.value);
    }
    if second.key[0] == key[0] && second.key[1] == key[1] {
        return Some(&second.value);
    }
    None
}
