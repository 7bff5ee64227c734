//! The flow hash: keyed, lane by lane, made of what BPF has (64-bit multiply, xor, shift).
//!
//! BPF has no 64 × 64 → 128 multiply, so the mixer is the finaliser of `MurmurHash3` (Appleby, 2011): every
//! input bit flips every output bit with a probability near one half. The secret seed keeps an outsider
//! from choosing flows that all land on one endpoint.

use crate::{ip::IpAddress, transport::Ports};

/// Spreads every bit of `x` over the whole word.
#[inline(always)]
pub const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// Hash of the 5-tuple.
#[inline(always)]
pub fn flow_hash<A: IpAddress>(
    source: A,
    destination: A,
    ports: Ports,
    protocol: u8,
    seed: &[u64; 2],
) -> u32 {
    let ports =
        (u64::from(ports.source.0) << 32) | (u64::from(ports.destination.0) << 16) | u64::from(protocol);
    let (source, destination) = (source.words(), destination.words());
    let addresses = if A::V6 {
        // Side by side, because a CPU does both at a time.
        let source = mix(mix(source[0] ^ seed[0]) ^ source[1]);
        let destination = mix(mix(destination[0] ^ seed[1]) ^ destination[1]);
        source.rotate_left(32).wrapping_add(destination)
    } else {
        mix((source[0] << 32 | destination[0]) ^ seed[0])
    };
    let hash = mix(addresses ^ ports ^ seed[1]);
    (hash >> 32) as u32
}

/// Hash of the first `bits` bits of an address alone.
#[inline(never)]
pub fn source_hash<A: IpAddress>(source: A, bits: u8, seed: &[u64; 2]) -> u32 {
    let [first, second] = source_prefix(source, bits);
    (mix(mix(first ^ seed[0]) ^ second ^ seed[1]) >> 32) as u32
}

/// The first `bits` bits of an address, as numbers; the rest is 0.
#[inline(always)]
pub fn source_prefix<A: IpAddress>(source: A, bits: u8) -> [u64; 2] {
    // The first bits on the wire are the highest ones.
    let [first, second] = source.words().map(u64::from_be);
    let bits = u32::from(bits);
    [leading(first, bits), leading(second, bits.saturating_sub(64))]
}

/// The first `bits` bits of a word; of more than it has, all.
#[inline(always)]
const fn leading(word: u64, bits: u32) -> u64 {
    match bits {
        0 => 0,
        1..64 => word & u64::MAX << 64_u32.wrapping_sub(bits),
        _ => word,
    }
}

/// Scales a hash to a number below `range` without a division.
#[inline(always)]
pub const fn scale(hash: u32, range: u32) -> u32 {
    ((hash as u64).wrapping_mul(range as u64) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::bytes::{Address, Be16, Be32};

    const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
    const ROUNDS: u32 = 2000;

    /// Fails where a flip of one of `bits` input bits does not flip each output bit in about half of the cases.
    /// `hash` gets the round's lanes of 32 bits.
    fn check_avalanche(bits: usize, hash: impl Fn(&[u32]) -> u32) {
        for bit in 0..bits {
            let mut flips = [0_u32; 32];
            for round in 0..ROUNDS {
                let mut state = u64::from(round) + 1;
                let mut lanes: Vec<u32> = (0..bits.div_ceil(32))
                    .map(|_| {
                        state = mix(state);
                        (state >> 32) as u32
                    })
                    .collect();
                let before = hash(&lanes);
                lanes[bit / 32] ^= 1 << (bit % 32);
                let after = hash(&lanes);
                for (i, count) in flips.iter_mut().enumerate() {
                    *count += ((before ^ after) >> i) & 1;
                }
            }
            for count in flips {
                let skew = (f64::from(count) / f64::from(ROUNDS) - 0.5).abs();
                assert!(skew < 0.06, "input bit {bit}: skew {skew}");
            }
        }
    }

    fn hash<A: IpAddress>(source: A, destination: A, ports: u32) -> u32 {
        let ports = Ports { source: Be16((ports & 0xffff) as u16), destination: Be16((ports >> 16) as u16) };
        flow_hash(source, destination, ports, 6, &SEED)
    }

    #[test]
    fn every_input_bit_flips_each_output_bit_in_about_half_of_the_cases() {
        // All bits of addresses and ports; the protocol takes two values only.
        check_avalanche(96, |lanes| hash(Be32(lanes[0]), Be32(lanes[1]), lanes[2]));
        check_avalanche(288, |lanes| {
            let word = |i: usize| u64::from(lanes[i]) << 32 | u64::from(lanes[i + 1]);
            let (source, destination) =
                (Address::from_words([word(0), word(2)]), Address::from_words([word(4), word(6)]));
            hash(source, destination, lanes[8])
        });
    }

    #[test]
    fn sources_that_agree_in_the_bits_that_count_have_one_hash() {
        let v4 = |host: u8| Be32::from_octets([192, 0, 2, host]);
        let v6 = |octet: usize| {
            let mut address = [0x20; 16];
            address[octet] ^= 1;
            Address(address)
        };
        for (bits, same) in [(24, true), (31, true), (32, false)] {
            let alike = source_hash(v4(2), bits, &SEED) == source_hash(v4(3), bits, &SEED);
            assert_eq!(alike, same, "{bits} bits of IPv4");
        }
        // The octet that differs in its last bit, and how many bits count.
        for (octet, bits, same) in
            [(7, 63, true), (7, 64, false), (15, 64, true), (15, 127, true), (15, 128, false)]
        {
            let alike = source_hash(v6(octet), bits, &SEED) == source_hash(Address([0x20; 16]), bits, &SEED);
            assert_eq!(alike, same, "{bits} bits of IPv6, which differ in octet {octet}");
        }
    }

    proptest! {
        #[test]
        fn a_scaled_hash_is_below_its_range(hash: u32, range in 1_u32..) {
            prop_assert!(scale(hash, range) < range);
        }
    }
}
