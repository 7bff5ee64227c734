//! Internet checksums (RFC 1071), whole and incremental (RFC 1624).
//!
//! Endianness: sums are taken over 16-bit words as they lie in memory, on any machine. The one's complement
//! sum is the same up to byte order (RFC 1071 §2 (B)), so nothing is ever swapped.

/// A one's complement sum under way; 32 bits hold the carries of 65,535 words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use]
pub struct Sum(u32);

impl Sum {
    /// Goes on from a sum that was stored.
    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The sum as a number to store.
    #[inline(always)]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Adds one word as it lies in memory.
    #[inline(always)]
    pub const fn add16(self, word: u16) -> Self {
        Self(self.0.wrapping_add(word as u32))
    }

    /// Adds two words.
    #[inline(always)]
    pub const fn add32(self, words: u32) -> Self {
        Self(self.0.wrapping_add(words >> 16).wrapping_add(words & 0xffff))
    }

    /// Takes out one word that was in the sum: adds its complement (RFC 1624 §3 eqn. 3).
    #[inline(always)]
    pub const fn remove16(self, word: u16) -> Self {
        self.add16(!word)
    }

    /// Takes out two words.
    #[inline(always)]
    pub const fn remove32(self, words: u32) -> Self {
        self.add32(!words)
    }

    /// The sum folded to 16 bits.
    #[inline(always)]
    pub const fn fold(self) -> u16 {
        let once = (self.0 & 0xffff).wrapping_add(self.0 >> 16);
        let twice = (once & 0xffff).wrapping_add(once >> 16);
        twice as u16
    }

    /// The checksum field: the complement of the folded sum.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }
}

/// A sum that stands for the data under the checksum field `field`, ready for `remove` and `add`
/// (RFC 1624 §3 eqn. 3: `HC' = ~(~HC + ~m + m')`).
#[inline(always)]
pub const fn reopen(field: u16) -> Sum {
    Sum(!field as u32 & 0xffff)
}

/// Sum over bytes, for where there is no incremental way. An odd last byte is padded with zero.
pub fn sum_bytes(bytes: &[u8]) -> Sum {
    let mut sum = Sum::default();
    for pair in bytes.chunks(2) {
        let word = match *pair {
            [a, b] => [a, b],
            [a] => [a, 0],
            _ => [0, 0],
        };
        sum = Sum(u32::from(sum.add16(u16::from_ne_bytes(word)).fold()));
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1624_section_4() {
        // HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000, not 0xFFFF as by eqn. 2.
        let sum = reopen(0xdd2f).remove16(0x5555).add16(0x3285);
        assert_eq!(sum.checksum(), 0x0000);
    }

    proptest! {
        #[test]
        fn incremental_equals_full(
            mut bytes in prop::collection::vec(any::<u8>(), 40),
            at in 0_usize..18,
            new: u32,
        ) {
            let at = at * 2;
            // A field of its own, so that the data is not all zero.
            bytes[0] |= 1;
            let before = sum_bytes(&bytes).checksum();
            let old = u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
            bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            let incremental = reopen(before).remove32(old).add32(new).checksum();
            // 0x0000 and 0xFFFF are the same number in one's complement arithmetic.
            prop_assert_eq!(incremental % 0xffff, sum_bytes(&bytes).checksum() % 0xffff);
        }
    }
}
