//! The flow hash: keyed, lane by lane, made of what BPF has (64-bit multiply, xor, shift).
//!
//! BPF has no 64 × 64 → 128 multiply, so the mixer is the finaliser of `MurmurHash3` (Appleby, 2011): every
//! input bit flips every output bit with a probability near one half. The secret seed keeps an outsider
//! from choosing flows that all land on one endpoint.

use crate::flow::FlowV4;

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
pub fn flow_hash_v4(flow: &FlowV4, seed: &[u64; 2]) -> u32 {
    let addresses = (u64::from(flow.source.0) << 32) | u64::from(flow.destination.0);
    let ports = (u64::from(flow.source_port.0) << 32)
        | (u64::from(flow.destination_port.0) << 16)
        | u64::from(flow.protocol);
    let hash = mix(mix(addresses ^ seed[0]) ^ ports ^ seed[1]);
    (hash >> 32) as u32
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
    use crate::bytes::{Be16, Be32};

    #[test]
    fn every_input_bit_flips_each_output_bit_in_about_half_of_the_cases() {
        let seed = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
        // 96 bits of addresses and ports; the protocol takes two values only.
        for bit in 0..96_u32 {
            let mut flips = [0_u32; 32];
            let rounds = 2000_u32;
            for round in 0..rounds {
                let base = mix(u64::from(round) + 1);
                let (a, b, c) = ((base >> 32) as u32, (mix(base) >> 32) as u32, (mix(!base) >> 32) as u32);
                let flow = |a: u32, b: u32, c: u32| FlowV4 {
                    source: Be32(a),
                    destination: Be32(b),
                    source_port: Be16((c & 0xffff) as u16),
                    destination_port: Be16((c >> 16) as u16),
                    protocol: 6,
                };
                let flip = |lane: u32| if bit / 32 == lane { 1 << (bit % 32) } else { 0 };
                let before = flow_hash_v4(&flow(a, b, c), &seed);
                let after = flow_hash_v4(&flow(a ^ flip(0), b ^ flip(1), c ^ flip(2)), &seed);
                for (i, count) in flips.iter_mut().enumerate() {
                    *count += ((before ^ after) >> i) & 1;
                }
            }
            for count in flips {
                let bias = (f64::from(count) / f64::from(rounds) - 0.5).abs();
                assert!(bias < 0.06, "input bit {bit}: bias {bias}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_scaled_hash_is_below_its_range(hash: u32, range in 1_u32..) {
            prop_assert!(scale(hash, range) < range);
        }
    }
}
