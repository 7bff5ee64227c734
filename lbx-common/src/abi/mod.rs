//! Layout of the kernel's maps: keys, values, names, capacities, version.

/// Numbers of slots that a lookup table may have: primes, so that every step visits every slot.
pub const TABLE_SIZES: [u32; 7] = [1021, 2039, 4093, 8191, 16_381, 32_749, 65_537];
