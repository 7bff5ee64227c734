//! Values as arrays of 64-bit words, the unit in which the agent writes to mapped maps.

/// A map value that is `N` 64-bit words without padding.
///
/// # Safety
/// The type must be `repr(C)`, `8 * N` bytes long, aligned to 8 and without padding, and valid for every
/// bit pattern.
pub unsafe trait Words<const N: usize>: Copy {
    /// The value as words, in memory order.
    fn to_words(self) -> [u64; N] {
        const { assert!(size_of::<Self>() == 8 * N && align_of::<Self>() <= 8) };
        // SAFETY: both are plain data of the same size without padding, by the contract of the trait.
        unsafe { core::mem::transmute_copy(&self) }
    }

    /// The value from words.
    fn from_words(words: [u64; N]) -> Self {
        const { assert!(size_of::<Self>() == 8 * N && align_of::<Self>() <= 8) };
        // SAFETY: both are plain data of the same size, and every bit pattern is a value.
        unsafe { core::mem::transmute_copy(&words) }
    }
}
