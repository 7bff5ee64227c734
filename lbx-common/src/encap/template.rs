//! Builds the entry of a tunnel: the outer headers with everything that does not depend on the packet.
//! Runs in user space only.

use super::{Encap, gre, vxlan};
use crate::{
    abi::{INNER_SOURCE_MAC, TUNNEL_HEAD_WORDS, TUNNEL_RESOLVED, TUNNEL_SET, TunnelEntry},
    bytes::{Be16, Be32},
    checksum::sum_bytes,
    parse::{ETHER_IPV4, ETHERNET_LEN, GRE, IPV4_LEN, UDP},
};

/// What a tunnel looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelSpec {
    /// How packets are wrapped.
    pub encap: Encap,
    /// Outer source address.
    pub local: Be32,
    /// Outer destination address.
    pub remote: Be32,
    /// Key on the wire.
    pub vni: u32,
    /// UDP destination port; unused by GRE.
    pub port: Be16,
    /// Inner destination MAC of VXLAN.
    pub inner_mac: [u8; 6],
    /// Vnet id.
    pub vnet: u32,
    /// Largest inner IP packet in bytes.
    pub inner_mtu: u16,
    /// Egress interface, own MAC and next hop's MAC, where known.
    pub next_hop: Option<(u32, [u8; 6], [u8; 6])>,
}

/// Outer time to live.
const TTL: u8 = 64;

/// The entry of a tunnel.
pub fn build(spec: &TunnelSpec) -> TunnelEntry {
    let mut head = Head::default();
    let (ifindex, source, destination) = spec.next_hop.unwrap_or_default();
    head.put(&destination);
    head.put(&source);
    head.put(&ETHER_IPV4.0.to_ne_bytes());
    let protocol = match spec.encap {
        Encap::Gre => GRE,
        Encap::Vxlan => UDP,
    };
    // Total length, identification, fragment bits and checksum stay 0: they depend on the packet.
    head.put(&[0x45, 0, 0, 0, 0, 0, 0, 0, TTL, protocol, 0, 0]);
    head.put(&spec.local.octets());
    head.put(&spec.remote.octets());
    let partial_sum = sum_bytes(head.range(ETHERNET_LEN, IPV4_LEN)).raw();
    match spec.encap {
        Encap::Gre => {
            head.put(&gre::KEY_PRESENT.to_be_bytes());
            head.put(&ETHER_IPV4.0.to_ne_bytes());
            head.put(&spec.vni.to_be_bytes());
        }
        Encap::Vxlan => {
            let [port_high, port_low] = spec.port.0.to_ne_bytes();
            head.put(&[0, 0, port_high, port_low, 0, 0, 0, 0]);
            head.put(&[vxlan::VNI_VALID, 0, 0, 0]);
            head.put(&spec.vni.wrapping_shl(8).to_be_bytes());
            head.put(&spec.inner_mac);
            head.put(&INNER_SOURCE_MAC);
            head.put(&ETHER_IPV4.0.to_ne_bytes());
        }
    }
    TunnelEntry {
        flags: if spec.next_hop.is_some() { TUNNEL_SET | TUNNEL_RESOLVED } else { TUNNEL_SET },
        encap: spec.encap.number(),
        inner_mtu: spec.inner_mtu,
        ifindex,
        vnet: spec.vnet,
        partial_sum,
        spare: [0; 2],
        head: head.words(),
    }
}

/// Header bytes under construction.
#[derive(Default)]
struct Head {
    words: [[u8; 8]; TUNNEL_HEAD_WORDS],
    length: usize,
}

impl Head {
    fn put(&mut self, bytes: &[u8]) {
        let free = self.words.as_flattened_mut().iter_mut().skip(self.length);
        for (to, from) in free.zip(bytes) {
            *to = *from;
        }
        self.length = self.length.saturating_add(bytes.len());
    }

    fn range(&self, from: usize, length: usize) -> &[u8] {
        self.words.as_flattened().get(from..from.saturating_add(length)).unwrap_or_default()
    }

    fn words(&self) -> [u64; TUNNEL_HEAD_WORDS] {
        self.words.map(u64::from_ne_bytes)
    }
}
