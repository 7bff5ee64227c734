//! Where pins are found and kept: each flow has two buckets, by its hash, and its pin stands in one of them.
//!
//! Kernel programs on all CPUs and the agent change pins without a lock, each by one store. Two CPUs that take the
//! same free place within the same few nanoseconds leave one pin, that of the later; the other flow is pinned by
//! its next reply, since what it is pinned from stays.

use crate::{
    abi::{ENDED_IDLE_NS, FlowKey, ListenerValue, PINS_PER_BUCKET, Pin, PinRecord},
    hash::{mix, scale},
    ip::UDP,
    tables::Tables,
    track::Event,
    transport::TcpFlags,
};

/// No place.
pub const NOWHERE: u32 = u32::MAX;

/// In a second.
pub const NANOSECONDS: u64 = 1_000_000_000;

/// A packet of a flow, as far as it says where the flow lives. In the kernel it is not on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Flow {
    /// What the flow is known by.
    pub key: FlowKey,
    /// Hash of that.
    pub hash: u64,
    /// The time.
    pub now_ns: u64,
    /// TCP sequence and acknowledgement number; 0 of UDP.
    pub numbers: [u32; 2],
    /// Of a client's packet: the listener.
    pub listener: ListenerValue,
    /// Of a client's packet: hash of the flow. Of a reply: vnet id.
    pub more: u32,
    /// TCP flags; 0 of UDP.
    pub flags: u32,
    /// Not 0 = it is a packet that an ICMP error is about.
    pub quoted: u32,
    /// Index in `TRACKING` of the listener, or of what it is to the client's region.
    pub tracking: u32,
    /// The same of the region that the client was in before; 0 = it is in the same.
    pub tracking_before: u32,
    /// Not 0 = the agent is told of the packet when it is sent.
    pub sampled: u32,
}

impl Flow {
    /// Whether it is one of UDP, else of TCP.
    #[inline(always)]
    pub const fn udp(&self) -> bool {
        self.key.protocol == UDP as u32
    }

    /// TCP flags.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "flags have eight bits")]
    pub const fn flags(&self) -> TcpFlags {
        TcpFlags(self.flags as u8)
    }
}

/// The bucket that a flow's pin is in; there are two, for `choice` 0 and 1.
#[inline(always)]
const fn bucket_of(hash: u64, choice: u32, buckets: u32) -> u32 {
    let hash = if choice == 0 { hash } else { mix(hash) };
    #[expect(clippy::cast_possible_truncation, reason = "bits that the tag has, too, are no less random")]
    scale(hash.rotate_left(21) as u32, buckets)
}

/// The buckets that a flow's pin may be in, of so many.
#[inline(always)]
const fn buckets_of(hash: u64, buckets: u32) -> [u32; 2] {
    [bucket_of(hash, 0, buckets), bucket_of(hash, 1, buckets)]
}

/// The places that a flow's pin may be in, in the order in which a free one is looked for.
pub fn places_of(hash: u64, buckets: u32) -> impl Iterator<Item = u32> {
    let [one, other] = buckets_of(hash, buckets);
    let rest = (0..PINS_PER_BUCKET).flat_map(move |place| {
        let second = [Some(place_in(other, place)), (place >= FIRST_PLACES).then(|| place_in(one, place))];
        second.into_iter().flatten()
    });
    (0..FIRST_PLACES).map(move |place| place_in(one, place)).chain(rest)
}

/// The first place of a flow whose pin is such a one, or [`NOWHERE`].
#[inline(always)]
fn first<T: Tables>(tables: &T, udp: bool, hash: u64, is_such: impl Fn(Pin) -> bool) -> u32 {
    let Some(node) = tables.node() else { return NOWHERE };
    let [one, other] = buckets_of(hash, node.pin_buckets);
    for index in [one, other] {
        let Some(bucket) = tables.pin_bucket(udp, index) else { return NOWHERE };
        for place in 0..PINS_PER_BUCKET {
            if is_such(bucket.get(place)) {
                return place_in(index, place);
            }
        }
    }
    NOWHERE
}

/// Place of a flow's pin, or [`NOWHERE`].
#[inline(never)]
pub fn find<T: Tables>(tables: &T, udp: bool, hash: u64) -> u32 {
    // Forgotten, so that the verifier goes on once and not once for each place.
    tables.forget(first(tables, udp, hash, |pin| pin.is_of(hash)))
}

/// A free place for a flow's pin, or [`NOWHERE`].
#[inline(never)]
fn find_free<T: Tables>(tables: &T, udp: bool, hash: u64) -> u32 {
    tables.forget(first_free(tables, udp, hash))
}

/// Places of a flow's first bucket that are used before those of the second: more is less cache lines for each packet,
/// and fewer leave more places in use before both buckets of some flow are full. With five, of pins at the limit six in
/// ten thousand find none, and with half as many hardly any is in its second bucket.
const FIRST_PLACES: u32 = 5;

#[inline(always)]
fn first_free<T: Tables>(tables: &T, udp: bool, hash: u64) -> u32 {
    let Some(node) = tables.node() else { return NOWHERE };
    let [one, other] = buckets_of(hash, node.pin_buckets);
    let (Some(first), Some(second)) = (tables.pin_bucket(udp, one), tables.pin_bucket(udp, other)) else {
        return NOWHERE;
    };
    for place in 0..FIRST_PLACES {
        if first.get(place).is_free() {
            return place_in(one, place);
        }
    }
    for place in 0..PINS_PER_BUCKET {
        if second.get(place).is_free() {
            return place_in(other, place);
        }
        if place >= FIRST_PLACES && first.get(place).is_free() {
            return place_in(one, place);
        }
    }
    NOWHERE
}

#[inline(always)]
const fn place_in(bucket: u32, place: u32) -> u32 {
    bucket.wrapping_mul(PINS_PER_BUCKET).wrapping_add(place)
}

/// Place of a pin whose time is over, or [`NOWHERE`].
#[inline(never)]
fn find_over<T: Tables>(tables: &T, udp: bool, hash: u64, now_ns: u64) -> u32 {
    let Some(node) = tables.node() else { return NOWHERE };
    let idle_ns =
        if udp { node.udp_idle_ns } else { u64::from(node.tcp_idle_secs).wrapping_mul(NANOSECONDS) };
    tables.forget(first(tables, udp, hash, |pin| pin.idle_ns(udp, now_ns) > lifetime(pin, udp, idle_ns)))
}

/// The pin in a place; none in [`NOWHERE`].
#[inline(always)]
pub fn at<T: Tables>(tables: &T, udp: bool, place: u32) -> Pin {
    if place == NOWHERE {
        return Pin::default();
    }
    let bucket = tables.pin_bucket(udp, place / PINS_PER_BUCKET);
    bucket.map_or(Pin::default(), |bucket| bucket.get(place))
}

/// Sets the pin in a place, where that is another one.
#[inline(always)]
pub fn put<T: Tables>(tables: &T, udp: bool, place: u32, pin: Pin) {
    if let Some(bucket) = tables.pin_bucket(udp, place / PINS_PER_BUCKET)
        && bucket.get(place) != pin
    {
        bucket.set(place, pin);
    }
}

/// How old a pin may look, where one whose sides are not done may be idle for `idle_ns`. It may look older than it is by
/// nearly a unit, just when the next one begins, and no flow may lose its pin for that.
#[inline(always)]
pub const fn lifetime(pin: Pin, udp: bool, idle_ns: u64) -> u64 {
    if pin.has(Pin::ENDED) { ENDED_IDLE_NS } else { idle_ns.wrapping_add(pin.unit_ns(udp)) }
}

/// Pins a flow to an endpoint.
#[inline(never)]
pub fn pin<T: Tables>(tables: &T, flow: &Flow, endpoint: u32) {
    let Ok(endpoint) = u16::try_from(endpoint) else { return };
    let udp = flow.udp();
    let mut place = find(tables, udp, flow.hash);
    if place == NOWHERE {
        place = find_free(tables, udp, flow.hash);
    }
    if place == NOWHERE {
        place = find_over(tables, udp, flow.hash, flow.now_ns);
    }
    if place == NOWHERE {
        tables.count_flow(Event::NoRoom);
        return;
    }
    let (hash, now_ns) = (flow.hash, flow.now_ns);
    let record =
        PinRecord { client: flow.key.client, hash, listener: flow.listener.id, ports: flow.key.ports };
    tables.set_pin_record(udp, place, record);
    put(tables, udp, place, Pin::new(hash, endpoint, udp, now_ns));
    tables.count_flow(Event::Pinned);
}
