//! Values of the maps.

use super::Words;
use crate::bytes::{Address, Be16, Be32};

/// Slots in one element of the `SLOTS` map: one cache line.
pub const SLOTS_PER_LINE: u32 = 32;

/// One cache line of lookup-table slots; each names an endpoint id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct SlotLine(pub [u16; SLOTS_PER_LINE as usize]);

/// Where a lookup table stands and how long it is, in one word: a service changes its table by one
/// aligned 64-bit store, so a packet sees the old table or the new one, never a mixture.
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
    #[expect(clippy::cast_possible_truncation, reason = "the low half of the word")]
    pub const fn slots(self) -> u32 {
        self.0 as u32
    }
}

/// Value of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct ListenerValue {
    /// The lookup table.
    pub target: Target,
    /// Listener id: index of its counters.
    pub id: u32,
    /// 0; room for what later features ask of a packet.
    pub flags: u32,
}

/// Value of a reply match: what a packet from an endpoint becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct ReplyValue {
    /// The VIP.
    pub vip: Be32,
    /// The port clients know.
    pub port: Be16,
    /// Endpoint id.
    pub endpoint: u16,
    /// Listener id.
    pub listener: u32,
    /// 0.
    pub flags: u32,
}

/// Value of a tunnel peer or a probe source.
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
/// State bit: flows in this endpoint's slots may live elsewhere; reserved for the tracked path.
pub const ENDPOINT_TRACKED: u32 = 4;

/// One endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct EndpointEntry {
    /// Private address.
    pub address: Address,
    /// Port; 0 keeps the client's destination port.
    pub port: Be16,
    /// Tunnel id.
    pub tunnel: u16,
    /// State bits. Health changes write only the word that holds them.
    pub state: u32,
    /// Vnet id; 0 = the entry is unset.
    pub vnet: u32,
    /// Hash of pool and endpoint name: tells apart endpoints of two pools with the same address.
    pub tag: u32,
}

/// Flag: the entry is in use.
pub const TUNNEL_SET: u8 = 1;
/// Flag: interface and MACs are known; without it packets go by the slow path.
pub const TUNNEL_RESOLVED: u8 = 2;

/// Words of prebuilt headers in a tunnel entry: 84 bytes is the longest (IPv6, UDP, VXLAN, Ethernet).
pub const TUNNEL_HEAD_WORDS: usize = 12;

/// One tunnel, with every outer byte that does not depend on the packet already built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct TunnelEntry {
    /// `TUNNEL_SET | TUNNEL_RESOLVED`
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
    /// 0.
    pub spare: [u64; 2],
    /// Outer headers from Ethernet on, in wire order.
    pub head: [u64; TUNNEL_HEAD_WORDS],
}

/// One virtual network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct VnetEntry {
    /// Key on the wire, host order; 0 = the entry is unset.
    pub vni: u32,
    /// 0.
    pub flags: u32,
    /// Inner address of the health checker; all-zero = none.
    pub probe_source: Address,
}

/// What every packet may need to know about the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(C)]
pub struct NodeEntry {
    /// [`super::ABI_VERSION`].
    pub abi: u32,
    /// Odd while the agent moves entries between buckets: a lookup that found nothing looks again.
    pub moves: u32,
    /// Buckets of `LISTENERS_V4`, less one.
    pub listener_mask: u32,
    /// Buckets of `REPLIES_V4`, less one.
    pub reply_mask: u32,
    /// Buckets of `PEERS_V4`, less one.
    pub peer_mask: u32,
    /// Interface index of `lbx0`.
    pub lbx0: u32,
    /// Interface index of `lbx1`.
    pub lbx1: u32,
    /// MAC of `lbx0`, then two zero bytes, then that of `lbx1`, then two zero bytes.
    pub lbx_macs: [[u8; 8]; 2],
    /// 0.
    pub spare: u32,
    /// Outer source address of tunnels over IPv4.
    pub tunnel_source: Address,
    /// Secret of the flow hash.
    pub seed: [u64; 2],
}

// SAFETY: repr(C), 32 u16 aligned to 8, no padding, every bit pattern is a value.
unsafe impl Words<8> for SlotLine {}
// SAFETY: repr(C), 8 + 4 + 4 bytes, no padding, every bit pattern is a value.
unsafe impl Words<2> for ListenerValue {}
// SAFETY: repr(C), 4 + 2 + 2 + 4 + 4 bytes, no padding, every bit pattern is a value.
unsafe impl Words<2> for ReplyValue {}
// SAFETY: repr(C), 4 + 4 + 8 bytes, no padding, every bit pattern is a value.
unsafe impl Words<2> for PeerValue {}
// SAFETY: repr(C), 16 + 2 + 2 + 4 + 4 + 4 bytes, no padding, every bit pattern is a value.
unsafe impl Words<4> for EndpointEntry {}
// SAFETY: repr(C), 1 + 1 + 2 + 4 + 4 + 4 + 16 + 96 bytes, no padding, every bit pattern is a value.
unsafe impl Words<16> for TunnelEntry {}
// SAFETY: repr(C), 4 + 4 + 16 bytes, no padding, every bit pattern is a value.
unsafe impl Words<3> for VnetEntry {}
// SAFETY: repr(C), 7 × 4 + 16 + 4 + 16 + 16 bytes, no padding, every bit pattern is a value.
unsafe impl Words<10> for NodeEntry {}
