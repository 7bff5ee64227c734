//! What is remembered of flows: exceptions to what hash and table say, and where tables are being changed.

use core::cell::Cell;

use super::{Target, Words};
use crate::hash::mix;

/// Flag: unpinned flows go by the table before; the change is open.
pub const TRACKING_OPEN: u32 = 1;
/// Flag: unpinned flows go by the current table, pinned ones may be elsewhere; the change is closing.
pub const TRACKING_CLOSING: u32 = 2;
/// Flag: any packet may be an exception, whatever the two tables say of its slot.
pub const TRACKING_EVERY: u32 = 4;
/// Flag: the table before was looked up by another hash.
pub const TRACKING_REHASHED: u32 = 8;
/// Flag: every flow is pinned, also where hash and table would do.
pub const TRACKING_ALWAYS: u32 = 16;
/// Flag: replies may prove flows to be exceptions. Always set with any other.
pub const TRACKING_ON: u32 = 32;
/// Flag: the service has its share of the pins; no more are made.
pub const TRACKING_FULL: u32 = 64;

/// Flag: flows of a source go where its last ones went, for a time.
pub const TRACKING_AFFINITY: u32 = 128;

/// What is under way at a listener; all-zero = nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct TrackingEntry {
    /// The table before the change.
    pub previous: Target,
    /// The seed of its hash.
    pub previous_seed: [u64; 2],
    /// When the last change came, in nanoseconds of the monotonic clock.
    pub opened_ns: u64,
    /// When an open change starts to close.
    pub deadline_ns: u64,
    /// The table after the change, as the listener has it.
    pub current: Target,
    /// Since when every flow has been pinned, in seconds of the monotonic clock, 1 = from the first one on; 0 = they are
    /// not.
    pub always_secs: u32,
    /// With `TRACKING_AFFINITY`: for how many seconds a source without a new flow is remembered.
    pub affinity_secs: u32,
    /// `TRACKING_…`. In the last word, which is written first.
    pub flags: u32,
    /// The same for all listeners of a service: [`AffinityKey::service`].
    pub affinity_service: u32,
}

/// A flow as both directions see it: that of the client's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct FlowKey {
    /// Client, as [`crate::ip::IpAddress::words`] has it.
    pub client: [u64; 2],
    /// VIP, as [`super::Host::raw`].
    pub vip: u32,
    /// Port of the client and of the VIP, as on the wire.
    pub ports: [u16; 2],
    /// Protocol number.
    pub protocol: u32,
    /// 1 for IPv6.
    pub v6: u32,
}

impl FlowKey {
    /// Hash that pins are found by.
    #[inline(always)]
    pub const fn hash(&self, seed: &[u64; 2]) -> u64 {
        let [client_port, vip_port] = self.ports;
        let ports = (client_port as u64) << 48 | (vip_port as u64) << 32 | self.vip as u64;
        let client = mix(mix(self.client[0] ^ seed[0]) ^ self.client[1]);
        let vip = mix(ports ^ seed[1]);
        mix(client.rotate_left(32).wrapping_add(vip) ^ self.protocol as u64)
    }
}

/// A source of flows, or all of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(C)]
pub struct AffinityKey {
    /// [`crate::hash::source_prefix`]
    pub prefix: [u64; 2],
    /// Id of a listener that is the service's.
    pub service: u32,
    /// 1 for IPv6.
    pub v6: u32,
}

/// Where the last flow of a source began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Affinity {
    /// When: nanoseconds of the monotonic clock.
    pub time: u64,
    /// Endpoint id.
    pub endpoint: u32,
    /// 0.
    pub spare: u32,
}

/// The endpoint answered the SYN, and `endpoint_next` is known.
pub const HALF_OPEN_ANSWERED: u16 = 1;

/// A flow that began on an endpoint which hash and table would not name, and that has not proved real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct HalfOpen {
    /// When it was last seen: nanoseconds of the monotonic clock.
    pub time: u64,
    /// Sequence number after the client's SYN.
    pub client_next: u32,
    /// Sequence number after the endpoint's SYN.
    pub endpoint_next: u32,
    /// Listener id.
    pub listener: u32,
    /// Endpoint id.
    pub endpoint: u16,
    /// `HALF_OPEN_…`
    pub flags: u16,
}

/// Pins in one bucket: a cache line.
pub const PINS_PER_BUCKET: u32 = 8;

/// Pins that share a bucket. Kernel and agent change them at any time, each by one store.
#[derive(Debug)]
#[repr(C, align(8))]
pub struct PinBucket([Cell<u64>; PINS_PER_BUCKET as usize]);

impl PinBucket {
    /// Of these words.
    pub const fn new(words: [u64; PINS_PER_BUCKET as usize]) -> Self {
        // SAFETY: a cell has the layout of what is in it.
        Self(unsafe {
            core::mem::transmute::<[u64; PINS_PER_BUCKET as usize], [Cell<u64>; PINS_PER_BUCKET as usize]>(
                words,
            )
        })
    }

    /// The pin in a place, which is taken modulo the bucket's size.
    #[inline(always)]
    pub fn get(&self, place: u32) -> Pin {
        let [first, ..] = &self.0;
        // SAFETY: the place is below the size; volatile because others change it meanwhile.
        Pin(unsafe { core::ptr::read_volatile(first.as_ptr().add((place % PINS_PER_BUCKET) as usize)) })
    }

    /// Sets the pin in a place.
    #[inline(always)]
    pub fn set(&self, place: u32, pin: Pin) {
        let [first, ..] = &self.0;
        // SAFETY: as above.
        unsafe {
            core::ptr::write_volatile(first.as_ptr().add((place % PINS_PER_BUCKET) as usize), pin.0);
        }
    }
}

/// A pin: a flow, known by 37 bits of its hash, and its endpoint. 0 = none.
///
/// From the lowest bit: endpoint id 16, age 8, client ended 1, endpoint ended 1, contested 1, tag 37.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Pin(pub u64);

impl Pin {
    /// The client sent FIN or RST. Anybody can: it counts only together with the next.
    pub const CLIENT_ENDED: u64 = 1 << 24;
    /// The endpoint sent FIN or RST.
    pub const ENDPOINT_ENDED: u64 = 1 << 25;
    /// A client's SYN with the same addresses and ports went to another endpoint.
    pub const CONTESTED: u64 = 1 << 26;
    /// Both sides are done.
    pub const ENDED: u64 = Self::CLIENT_ENDED | Self::ENDPOINT_ENDED;
    const TAG: u64 = !((1 << 27) - 1);
    const AGE: u64 = 0xff << 16;
    /// Units of age as powers of two of a nanosecond: 69 s of TCP, 2.1 s of UDP, 4.3 s of what has ended.
    const TCP: u32 = 36;
    const UDP: u32 = 31;
    const OVER: u32 = 32;

    /// A flow's pin.
    #[inline(always)]
    pub const fn new(hash: u64, endpoint: u16, udp: bool, now_ns: u64) -> Self {
        Self((hash & Self::TAG) | endpoint as u64).touched(udp, now_ns)
    }

    /// Whether the place is free.
    #[inline(always)]
    pub const fn is_free(self) -> bool {
        self.0 == 0
    }

    /// Whether it may be that of a flow.
    #[inline(always)]
    pub const fn is_of(self, hash: u64) -> bool {
        self.0 & Self::TAG == hash & Self::TAG && self.0 != 0
    }

    /// Endpoint id.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest bits")]
    pub const fn endpoint(self) -> u16 {
        self.0 as u16
    }

    /// What stays the same as long as the flow lives where it does.
    #[inline(always)]
    #[must_use]
    pub const fn flow(self) -> Self {
        Self(self.0 & (Self::TAG | u16::MAX as u64))
    }

    /// Whether all of these bits are set.
    #[inline(always)]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// With these bits set.
    #[inline(always)]
    #[must_use]
    pub const fn with(self, bits: u64) -> Self {
        Self(self.0 | bits)
    }

    /// As a packet leaves it that passes now.
    #[inline(always)]
    #[must_use]
    pub const fn touched(self, udp: bool, now_ns: u64) -> Self {
        let unit = self.unit(udp);
        Self((self.0 & !Self::AGE) | ((now_ns >> unit) & 0xff) << 16)
    }

    /// Time since the last packet in nanoseconds, to a unit; correct up to 254 units.
    ///
    /// Another CPU may have touched it when the next unit had begun there already: that is no age of 255 units.
    #[inline(always)]
    pub const fn idle_ns(self, udp: bool, now_ns: u64) -> u64 {
        let unit = self.unit(udp);
        let age = (now_ns >> unit).wrapping_sub(self.0 >> 16) & 0xff;
        if age == 0xff { 0 } else { age << unit }
    }

    /// What ages are told in, in nanoseconds.
    #[inline(always)]
    pub const fn unit_ns(self, udp: bool) -> u64 {
        1 << self.unit(udp)
    }

    #[inline(always)]
    const fn unit(self, udp: bool) -> u32 {
        if self.has(Self::ENDED) {
            Self::OVER
        } else if udp {
            Self::UDP
        } else {
            Self::TCP
        }
    }
}

/// Longest idle times in seconds that an age can tell, with a unit to spare.
pub const MAX_TCP_IDLE_SECS: u64 = 17_000;
/// The same for UDP.
pub const MAX_UDP_IDLE_SECS: u64 = 500;
/// How long a pin stays after both sides are done.
pub const ENDED_IDLE_NS: u64 = 3 << Pin::OVER;

/// Whose pin it is, for those who look at all of them: the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct PinRecord {
    /// Client, as [`crate::ip::IpAddress::words`] has it.
    pub client: [u64; 2],
    /// Hash of the flow; where its tag is not that of the pin, the two are of different flows.
    pub hash: u64,
    /// Listener id.
    pub listener: u32,
    /// Port of the client and of the VIP, as on the wire.
    pub ports: [u16; 2],
}

// SAFETY: repr(C), eight words, no padding, every bit pattern is a value.
unsafe impl Words<8> for TrackingEntry {}
// SAFETY: repr(C), 16 + 8 + 4 + 2 × 2 bytes, no padding, every bit pattern is a value.
unsafe impl Words<4> for PinRecord {}

// SAFETY: repr(C), 16 + 4 + 4 + 4 + 4 bytes, no padding, every bit pattern is a value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for FlowKey {}
// SAFETY: repr(C), 8 + 3 × 4 + 2 × 2 bytes, no padding, every bit pattern is a value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for HalfOpen {}
// SAFETY: repr(C), 16 + 4 + 4 bytes, no padding, every bit pattern is a value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for AffinityKey {}
// SAFETY: repr(C), 8 + 4 + 4 bytes, no padding, every bit pattern is a value.
#[cfg(feature = "aya")]
unsafe impl aya::Pod for Affinity {}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_pin_is_of_its_flow_and_no_free_place_is_of_any() {
        let pin = Pin::new(0xdead_beef_1234_5678, 77, false, 5 * SECOND);
        assert!(pin.is_of(0xdead_beef_1234_5678) && !pin.is_of(0xdead_beee_1234_5678) && !pin.is_free());
        assert_eq!(pin.endpoint(), 77);
        assert!(!Pin::default().is_of(0) && Pin::default().is_free());
        assert!(pin.with(Pin::CLIENT_ENDED).is_of(0xdead_beef_1234_5678));
    }

    #[test]
    fn a_pin_that_was_touched_by_a_clock_that_is_ahead_is_fresh() {
        for (udp, unit) in [(false, 1_u64 << 36), (true, 1 << 31)] {
            let pin = Pin::new(u64::MAX, 1, udp, 300 * unit);
            assert_eq!(pin.idle_ns(udp, 300 * unit - 1), 0);
            assert_eq!(pin.idle_ns(udp, 301 * unit), unit);
        }
    }

    #[test]
    fn ages_are_told_to_a_unit_also_where_the_counter_comes_around() {
        for start in [0, 3 * SECOND, 254 * (1 << 36), 255 * (1 << 36) + 9] {
            for (udp, longest) in [(false, MAX_TCP_IDLE_SECS), (true, MAX_UDP_IDLE_SECS)] {
                let pin = Pin::new(u64::MAX, 1, udp, start);
                let unit = if udp { 1 << 31 } else { 1 << 36 };
                for idle in [0, 1, unit, longest * SECOND] {
                    let told = pin.idle_ns(udp, start + idle);
                    assert!(told <= idle + unit && told + unit >= idle, "{told} of {idle}");
                }
            }
        }
        let over = Pin::new(1 << 40, 1, false, SECOND).with(Pin::ENDED).touched(false, SECOND);
        assert!(over.idle_ns(false, SECOND + ENDED_IDLE_NS + (1 << 32)) >= ENDED_IDLE_NS);
    }
}
