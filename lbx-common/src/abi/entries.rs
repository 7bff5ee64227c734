//! Values of the maps.

use super::Words;
use crate::bytes::{Address, Be16, Be32};

/// Slots in one element of the `SLOTS` map: one cache line.
pub const SLOTS_PER_LINE: u32 = 32;

/// One cache line of lookup-table slots; each names an endpoint id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct SlotLine(pub [u16; SLOTS_PER_LINE as usize]);

/// Where a lookup table stands, how long it is and what it is looked up by, in one word: a service changes its table
/// by one aligned 64-bit store, so a packet sees the old table or the new one, never a mixture.
///
/// From the lowest bit: slots 20, bits of the source 8, spare 3, tracked 1, first line 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Target(pub u64);

impl Target {
    /// A table of `slots` slots that begins at element `line` of the `SLOTS` map.
    pub const fn new(line: u32, slots: u32) -> Self {
        Self(((line as u64) << 32) | slots as u64)
    }

    /// First element of the table.
    #[inline(always)]
    pub const fn line(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Slots of the table; 0 = there is none.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low bits of the word")]
    pub const fn slots(self) -> u32 {
        self.0 as u32 & 0xf_ffff
    }

    /// How many leading bits of the source are hashed; 0 = the hash is that of addresses, ports and protocol.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "one byte of the word")]
    pub const fn source_bits(self) -> u8 {
        (self.0 >> 20) as u8
    }

    /// The same table, looked up by that many leading bits of the source.
    #[must_use]
    pub const fn by_source(self, bits: u8) -> Self {
        Self(self.0 & !(0xff << 20) | (bits as u64) << 20)
    }

    /// Whether packets may be exceptions: the listener's element of `TRACKING` says which.
    #[inline(always)]
    pub const fn is_tracked(self) -> bool {
        self.0 & TARGET_TRACKED != 0
    }

    /// The same table, tracked or not.
    #[must_use]
    pub const fn tracked(self, tracked: bool) -> Self {
        Self(if tracked { self.0 | TARGET_TRACKED } else { self.0 & !TARGET_TRACKED })
    }
}

const TARGET_TRACKED: u64 = 1 << 31;

/// Listener flag: the endpoint gets the packet with the VIP as its destination and answers the client itself.
pub const LISTENER_DSR: u16 = 1;
/// Listener flag: a flow that no endpoint takes is refused instead of dropped.
pub const LISTENER_REJECTS: u16 = 2;
/// Listener flag: its element of `POLICIES` says what is asked of packets.
pub const LISTENER_HAS_POLICY: u16 = 4;
/// Listener flag: established TCP stays on an endpoint that is down.
pub const LISTENER_KEEPS: u16 = 8;
/// Listener flag: nothing is remembered of flows.
pub const LISTENER_UNTRACKED: u16 = 16;
/// Listener flag: clients of some regions have another table; see [`super::ListenerKey::Region`].
pub const LISTENER_BY_REGION: u16 = 32;
/// Listener flag: some of the packets that begin a flow are told of.
pub const LISTENER_SAMPLED: u16 = 64;
/// Listener flag: it has a range of ports. This and the next say nothing to the pipeline; they tell listeners apart
/// that begin at the same port.
pub const LISTENER_HAS_RANGE: u16 = 0x4000;
/// Listener flag: it has all ports.
pub const LISTENER_HAS_ALL: u16 = 0x8000;

/// Value of a listener. That of [`super::ListenerKey::Region`] has an id of its own, which is an index of `TRACKING`
/// alone: all else is known by the id of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct ListenerValue {
    /// The lookup table.
    pub target: Target,
    /// Listener id: index of its counters.
    pub id: u32,
    /// `LISTENER_…`
    pub flags: u16,
    /// First port of the listener, host order.
    pub first_port: u16,
}

/// VIP flag: echo requests are answered.
pub const VIP_ECHO: u32 = 1;
/// VIP flag: the sender of what no listener takes is told.
pub const VIP_REJECTS: u32 = 2;

/// Value of a VIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct VipValue {
    /// Bit `n`: there are listeners on TCP port blocks of `n` bits.
    pub tcp_lengths: u16,
    /// The same for UDP.
    pub udp_lengths: u16,
    /// `VIP_…`
    pub flags: u32,
    /// 0.
    pub spare: u64,
}

impl VipValue {
    /// The lengths of port blocks below 16 that a protocol has, as bits.
    #[inline(always)]
    pub const fn lengths(&self, protocol: u8) -> u16 {
        if protocol == crate::ip::TCP { self.tcp_lengths } else { self.udp_lengths }
    }
}

/// Value of a reply match: what a packet from an endpoint becomes. That of [`super::ReplyKey::Origin`] is a
/// [`VipValue`] without flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct ReplyValue {
    /// The VIP, as [`super::Host::raw`]; its family is the endpoint's.
    pub vip: u32,
    /// First port that clients know, host order.
    pub first_port: u16,
    /// First port that the endpoint has for it, host order.
    pub endpoint_port: u16,
    /// Listener id.
    pub listener: u32,
    /// Endpoint id.
    pub endpoint: u16,
    /// `REPLY_…`
    pub flags: u16,
}

/// Reply flag: clients of some regions have another table.
pub const REPLY_BY_REGION: u16 = 1;

impl ReplyValue {
    /// The port that clients know for a port of the endpoint: as far from the listener's first one.
    #[inline(always)]
    pub const fn client_port(&self, port: Be16) -> Be16 {
        let offset = port.to_host().wrapping_sub(self.endpoint_port);
        Be16::new(self.first_port.wrapping_add(offset))
    }
}

/// Value of a tunnel peer or a probe source; of a VLAN device, where `vnet` is the device below it and `tunnel`
/// the VLAN id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct PeerValue {
    /// Vnet id.
    pub vnet: u32,
    /// Tunnel id.
    pub tunnel: u32,
    /// 0.
    pub flags: u64,
}

/// State bit: new flows may go to the endpoint.
pub const ENDPOINT_TAKES_NEW: u32 = 1;
/// State bit: established flows may stay on the endpoint.
pub const ENDPOINT_USABLE: u32 = 2;
/// State bit: it takes no new flows, or flows in its slots may live elsewhere since it took none.
pub const ENDPOINT_TRACKED: u32 = 4;
/// State bit: it is unhealthy; established TCP may stay, where the service says so.
pub const ENDPOINT_DOWN: u32 = 8;
/// State bit: it is not configured any more. Only the agent reads this one and those that follow.
pub const ENDPOINT_REMOVED: u32 = 16;
/// State bit: it is configured to take no new flows: drained, or without weight.
pub const ENDPOINT_CLOSED: u32 = 32;
/// State bit: the last verdict was that it is healthy.
pub const ENDPOINT_HEALTHY: u32 = 64;
/// State bit: the last verdict was that it is not. Without either bit there was none yet.
pub const ENDPOINT_UNHEALTHY: u32 = 128;
/// State bit: it takes flows whatever the verdict, as one of the last resort.
pub const ENDPOINT_FORCED: u32 = 256;
/// Lowest of eight state bits: the share that the endpoint of a pool with `least_connections` has of what its weight
/// says, in 255ths; 0 = all of it.
pub const ENDPOINT_SHARE_SHIFT: u32 = 16;
/// These bits.
pub const ENDPOINT_SHARE: u32 = 0xff << ENDPOINT_SHARE_SHIFT;

/// Tunnels that flows to one endpoint may be spread over.
pub const ENDPOINT_TUNNELS: usize = 8;

/// One endpoint: a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct EndpointEntry {
    /// Private address.
    pub address: Address,
    /// Port; 0 keeps the client's destination port.
    pub port: Be16,
    /// How many of `tunnels` count.
    pub tunnel_count: u16,
    /// State bits. Health changes write only the word that holds them.
    pub state: u32,
    /// Vnet id; 0 = the entry is unset.
    pub vnet: u32,
    /// Hash of pool and endpoint name: tells apart endpoints of two pools with the same address.
    pub tag: u32,
    /// Tunnel ids, of tunnels that are up. Those beyond `tunnel_count` repeat the first ones: a packet that reads
    /// the entry while it is written finds a tunnel in any place.
    pub tunnels: [u16; ENDPOINT_TUNNELS],
    /// When it last began or ended to take new flows, in nanoseconds of the monotonic clock; 0 = at the start.
    pub since_ns: u64,
    /// When it is no longer usable, where it is drained or removed; else 0.
    pub until_ns: u64,
}

/// Flag: the entry is in use.
pub const TUNNEL_SET: u8 = 1;
/// Flag: interface and MACs are known; without it packets go by the slow path.
pub const TUNNEL_RESOLVED: u8 = 2;
/// Flag: the outer packet is IPv6.
pub const TUNNEL_V6: u8 = 4;
/// Flag: a monitor found the tunnel unhealthy, so no endpoint names it. Only the agent reads it, to know that after
/// a restart.
pub const TUNNEL_DOWN: u8 = 8;

/// Words of prebuilt headers in a tunnel entry: 84 bytes is the longest (IPv6, UDP, VXLAN, Ethernet).
pub const TUNNEL_HEAD_WORDS: usize = 12;

/// One tunnel, with every outer byte that does not depend on the packet already built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct TunnelEntry {
    /// `TUNNEL_…`
    pub flags: u8,
    /// Encapsulation, a number of [`crate::encap::Encap`].
    pub encap: u8,
    /// Largest inner IP packet in bytes, host order.
    pub inner_mtu: u16,
    /// Egress interface.
    pub ifindex: u32,
    /// Vnet id.
    pub vnet: u32,
    /// Folded sum over the prebuilt outer IPv4 header, host-memory order, as [`crate::checksum`] adds it.
    pub partial_sum: u32,
    /// VLAN id on the egress interface; 0 = untagged.
    pub vlan: u16,
    /// Bytes of `head` that are in use.
    pub head_length: u16,
    /// Outer destination, as [`super::Host::raw`]; its family is that of the outer packet.
    pub remote: u32,
    /// 0.
    pub spare: u64,
    /// Outer headers from Ethernet on, in wire order.
    pub head: [u64; TUNNEL_HEAD_WORDS],
}

/// One virtual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct VnetEntry {
    /// Key on the wire, host order; 0 = the entry is unset.
    pub vni: u32,
    /// Inner IPv4 address of the health checker; 0 = none.
    pub probe_source_v4: Be32,
    /// Id of its inner IPv6 address; 0 = none.
    pub probe_source_v6: u32,
    /// 0.
    pub flags: u32,
}

/// Flag of the node: some configured egress may be a VLAN device.
pub const NODE_HAS_VLANS: u32 = 1;
/// Flag of the node: some listener has an entry in `TRACKING`.
pub const NODE_TRACKS: u32 = 2;
/// Flag of the node: unpinned flows of clients that are in another region now go where those of their new region go.
pub const NODE_REGIONS_CLOSING: u32 = 4;

/// What every packet may need to know about the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct NodeEntry {
    /// [`super::ABI_VERSION`].
    pub abi: u32,
    /// Odd while the agent moves entries between buckets: a lookup that found nothing looks again.
    pub moves: u32,
    /// Buckets of `LISTENERS`, less one.
    pub listener_mask: u32,
    /// Buckets of `REPLIES`, less one.
    pub reply_mask: u32,
    /// Buckets of `PEERS`, less one.
    pub peer_mask: u32,
    /// Buckets of `ADDRESS_IDS`, less one.
    pub address_mask: u32,
    /// Interface index of `lbx0`.
    pub lbx0: u32,
    /// Interface index of `lbx1`.
    pub lbx1: u32,
    /// MAC of `lbx0`, then two zero bytes, then that of `lbx1`, then two zero bytes.
    pub lbx_macs: [[u8; 8]; 2],
    /// Outer source address of tunnels over IPv4; 0 = none.
    pub tunnel_source_v4: Be32,
    /// Id of the outer source address of tunnels over IPv6; 0 = none.
    pub tunnel_source_v6: u32,
    /// `NODE_…`
    pub flags: u32,
    /// Nanoseconds between two packets of lbx's own on a CPU; 0 = as many as are asked for.
    pub answer_interval: u32,
    /// Secret of the flow hash.
    pub seed: [u64; 2],
    /// Secret of the hash that pins are found by; never changes while there are pins.
    pub pin_seed: [u64; 2],
    /// For how long a flow of UDP may be silent, in nanoseconds.
    pub udp_idle_ns: u64,
    /// Buckets of pins of TCP, and as many of UDP.
    pub pin_buckets: u32,
    /// For how long a flow of TCP may be silent, in seconds.
    pub tcp_idle_secs: u32,
    /// The list of regions: its id in `REGIONS_V4` and `REGIONS_V6`; 0 = there is none. In one word with the next.
    pub regions: u32,
    /// The list before, while flows may live where that says; 0 = none do.
    pub regions_before: u32,
    /// When the list last became another one, in nanoseconds of the monotonic clock.
    pub regions_opened_ns: u64,
    /// When flows of clients in another region than before begin to go by the new one.
    pub regions_deadline_ns: u64,
}

// SAFETY: repr(C), 32 u16 aligned to 8, no padding, every bit pattern is a value.
unsafe impl Words<8> for SlotLine {}
// SAFETY: repr(C), 8 + 4 + 2 + 2 bytes, no padding, every bit pattern is a value.
unsafe impl Words<2> for ListenerValue {}
// SAFETY: repr(C), 2 + 2 + 4 + 8 bytes, no padding, every bit pattern is a value.
unsafe impl Words<2> for VipValue {}
// SAFETY: repr(C), 4 + 2 + 2 + 4 + 2 + 2 bytes, no padding, every bit pattern is a value.
unsafe impl Words<2> for ReplyValue {}
// SAFETY: repr(C), 4 + 4 + 8 bytes, no padding, every bit pattern is a value.
unsafe impl Words<2> for PeerValue {}
// SAFETY: repr(C), 16 + 2 + 2 + 4 + 4 + 4 + 16 + 16 bytes, no padding, every bit pattern is a value.
unsafe impl Words<8> for EndpointEntry {}
// SAFETY: repr(C), 1 + 1 + 2 + 4 + 4 + 4 + 2 + 2 + 4 + 8 + 96 bytes, no padding, every bit pattern is a value.
unsafe impl Words<16> for TunnelEntry {}
// SAFETY: repr(C), 4 × 4 bytes, no padding, every bit pattern is a value.
unsafe impl Words<2> for VnetEntry {}
// SAFETY: repr(C), 8 × 4 + 16 + 4 × 4 + 2 × 16 + 8 + 4 × 4 + 2 × 8 bytes, no padding, every bit pattern is a value.
unsafe impl Words<17> for NodeEntry {}
// SAFETY: sixteen bytes aligned to 8, every bit pattern is a value.
unsafe impl Words<2> for Address {}
