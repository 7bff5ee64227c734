//! Buckets of flows. What a packet meets on its way is shown by the packet tests, beside the kernel.

use proptest::prelude::*;

use super::*;
use crate::bytes::{Address, Be32};

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
/// A clock that is somewhere.
const NOW: u64 = 1 << 50;

/// How many flows a bucket gives at `now`, and the bucket afterwards.
fn drain(mut bucket: u64, now: u64, interval: u32) -> (u32, u64) {
    let mut count = 0;
    while let Some(after) = taken(bucket, now, interval) {
        bucket = after;
        count += 1;
    }
    (count, bucket)
}

#[test]
fn a_full_bucket_holds_the_flows_of_one_second_and_fills_at_the_rate() {
    for rate in [1, 2, 3, 7, 10, 999, 1000] {
        let interval = interval_ns(rate);
        let (count, bucket) = drain(0, NOW, interval);
        assert_eq!(count, rate, "at once");
        // An interval is rounded down by less than a nanosecond.
        let early = NOW + u64::from(interval - rate);
        assert_eq!(drain(bucket, early, interval).0, 0, "too early, at {rate}");
        assert_eq!(drain(bucket, NOW + u64::from(interval), interval).0, 1, "one more, at {rate}");
        assert_eq!(drain(bucket, NOW + BURST_NS, interval).0, rate, "after a second");
        assert_eq!(drain(bucket, NOW + 100 * BURST_NS, interval).0, rate, "and no more after a long time");
    }
}

#[test]
fn no_rate_is_no_limit_and_every_rate_has_an_interval() {
    assert_eq!(interval_ns(0), 0);
    assert_eq!(interval_ns(1), 1_000_000_000);
    assert_eq!(interval_ns(1_000_000_000), 1);
    assert_eq!(interval_ns(u32::MAX), 1);
}

#[test]
fn a_lower_rate_finds_no_debt_and_a_higher_one_no_gift() {
    let (_, empty) = drain(0, NOW, interval_ns(1000));
    assert_eq!(drain(empty, NOW, interval_ns(1)).0, 0);
    assert_eq!(drain(empty, NOW + BURST_NS, interval_ns(1)).0, 1);
    assert_eq!(drain(empty, NOW + BURST_NS / 2, interval_ns(10)).0, 5);
}

#[test]
fn a_source_is_an_ipv4_address_or_64_bits_of_an_ipv6_address() {
    let v4 = |last: u8| Be32::from_octets([192, 0, 2, last]);
    let v6 =
        |seventh: u8, last: u8| Address([0x20, 1, 0xd, 0xb8, 0, 0, 0, seventh, 0, 0, 0, 0, 0, 0, 0, last]);
    let of_v4 = |service, last| source_bucket(service, v4(last).words()[0], &SEED);
    let of_v6 = |service, seventh, last| source_bucket(service, v6(seventh, last).words()[0], &SEED);
    assert_ne!(of_v4(1, 7), of_v4(1, 8));
    assert_ne!(of_v4(1, 7), of_v4(2, 7), "each service counts for itself");
    assert_eq!(of_v6(1, 0, 7), of_v6(1, 0, 8));
    assert_ne!(of_v6(1, 0, 7), of_v6(1, 1, 7));
    assert_ne!(of_v6(1, 0, 7), of_v6(2, 0, 7));
    assert!((0..=255).all(|last| of_v4(1, last) < SOURCE_BUCKETS));
}

proptest! {
    /// Counted as whoever asks for a rate would: in no stretch of time begin more than its flows and one bucket.
    #[test]
    fn in_any_time_at_most_its_flows_and_one_bucket_begin(
        rate in 1_u32..5000,
        gaps in prop::collection::vec(0_u64..20_000_000, 1..400),
        from in 0_usize..400,
    ) {
        let (mut bucket, mut now) = (0, NOW);
        let mut begun = Vec::new();
        for gap in gaps {
            now += gap;
            if let Some(after) = taken(bucket, now, interval_ns(rate)) {
                bucket = after;
                begun.push(now);
            }
        }
        if let Some(window) = begun.get(from..).filter(|window| !window.is_empty()) {
            let time = u128::from(window[window.len() - 1] - window[0]);
            let interval = u128::from(interval_ns(rate));
            let most = time / interval + u128::from(BURST_NS) / interval + 1;
            prop_assert!(window.len() as u128 <= most, "{} flows in {time} ns at {rate} a second", window.len());
        }
    }

    /// And one that comes no faster than the rate is never refused.
    #[test]
    fn who_keeps_to_the_rate_is_never_refused(rate in 1_u32.., gaps in prop::collection::vec(0_u64..1_000_000, 1..100)) {
        let (mut bucket, mut now) = (0, NOW);
        for gap in gaps {
            let after = taken(bucket, now, interval_ns(rate));
            prop_assert!(after.is_some());
            bucket = after.unwrap_or_default();
            now += u64::from(interval_ns(rate)) + gap;
        }
    }
}
