//! Builds the entry of a tunnel: the outer headers with everything that does not depend on the packet.
//! Runs in user space only.

use super::{Encap, geneve, gre, vxlan};
use crate::{
    abi::{Host, INNER_SOURCE_MAC, TUNNEL_HEAD_WORDS, TUNNEL_RESOLVED, TUNNEL_SET, TUNNEL_V6, TunnelEntry},
    bytes::{Address, Be16, Be32},
    checksum::sum_bytes,
    ip::{ETHER_IPV4, ETHER_IPV6, GRE, UDP, v4},
    link::ETHERNET_LEN,
};

/// Outer addresses: source, then destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Over IPv4.
    V4(Be32, Be32),
    /// Over IPv6.
    V6(Address, Address),
}

/// The way to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Egress interface.
    pub ifindex: u32,
    /// VLAN id there; 0 = untagged.
    pub vlan: u16,
    /// Own MAC.
    pub source_mac: [u8; 6],
    /// MAC of the next hop.
    pub destination_mac: [u8; 6],
}

/// What a tunnel looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelSpec {
    /// How packets are wrapped.
    pub encap: Encap,
    /// Outer addresses.
    pub ends: Ends,
    /// The outer destination as keys hold it.
    pub remote: Host,
    /// Key on the wire.
    pub vni: u32,
    /// UDP destination port; unused by GRE.
    pub port: Be16,
    /// Inner destination MAC, where there is an Ethernet frame inside.
    pub inner_mac: [u8; 6],
    /// Vnet id.
    pub vnet: u32,
    /// Largest inner IP packet in bytes.
    pub inner_mtu: u16,
    /// The way to the gateway, where known.
    pub way: Option<Way>,
}

/// Outer time to live.
const TTL: u8 = 64;

/// The entry of a tunnel.
pub fn build(spec: &TunnelSpec) -> TunnelEntry {
    let mut head = Head::default();
    let way = spec.way.unwrap_or(Way { ifindex: 0, vlan: 0, source_mac: [0; 6], destination_mac: [0; 6] });
    head.put(&way.destination_mac);
    head.put(&way.source_mac);
    let protocol = if spec.encap.is_udp() { UDP } else { GRE };
    let mut partial_sum = 0;
    match spec.ends {
        Ends::V4(local, remote) => {
            head.put(&ETHER_IPV4.0.to_ne_bytes());
            // Total length, identification, fragment bits and checksum stay 0: they depend on the packet.
            head.put(&[0x45, 0, 0, 0, 0, 0, 0, 0, TTL, protocol, 0, 0]);
            head.put(&local.octets());
            head.put(&remote.octets());
            partial_sum = sum_bytes(head.range(ETHERNET_LEN, v4::LEN)).raw();
        }
        Ends::V6(local, remote) => {
            head.put(&ETHER_IPV6.0.to_ne_bytes());
            // Traffic class, flow label and payload length depend on the packet.
            head.put(&[0x60, 0, 0, 0, 0, 0, protocol, TTL]);
            head.put(&local.0);
            head.put(&remote.0);
        }
    }
    if spec.encap.is_udp() {
        let [port_high, port_low] = spec.port.0.to_ne_bytes();
        head.put(&[0, 0, port_high, port_low, 0, 0, 0, 0]);
    }
    // The type of the IP packet inside stays 0 as well.
    match spec.encap {
        Encap::Gre | Encap::GreUdp => {
            head.put(&gre::KEY_PRESENT.to_be_bytes());
            head.put(&[0, 0]);
            head.put(&spec.vni.to_be_bytes());
        }
        Encap::Vxlan => {
            head.put(&[vxlan::VNI_VALID, 0, 0, 0]);
            head.put(&spec.vni.wrapping_shl(8).to_be_bytes());
        }
        Encap::Geneve | Encap::GeneveEthernet => {
            let kind = if spec.encap.has_ethernet() { geneve::ETHERNET_INSIDE } else { Be16(0) };
            head.put(&[0, 0]);
            head.put(&kind.0.to_ne_bytes());
            head.put(&spec.vni.wrapping_shl(8).to_be_bytes());
        }
    }
    if spec.encap.has_ethernet() {
        head.put(&spec.inner_mac);
        head.put(&INNER_SOURCE_MAC);
        head.put(&[0, 0]);
    }
    let resolved = if spec.way.is_some() { TUNNEL_RESOLVED } else { 0 };
    let family = if matches!(spec.ends, Ends::V6(..)) { TUNNEL_V6 } else { 0 };
    TunnelEntry {
        flags: TUNNEL_SET | resolved | family,
        encap: spec.encap.number(),
        inner_mtu: spec.inner_mtu,
        ifindex: way.ifindex,
        vnet: spec.vnet,
        partial_sum,
        vlan: way.vlan,
        head_length: u16::try_from(head.length).unwrap_or(0),
        remote: spec.remote.raw,
        spare: 0,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_of_every_encapsulation_is_as_long_as_it_says() {
        let address = Address([0x20; 16]);
        for encap in Encap::ALL {
            for ends in [Ends::V4(Be32(1), Be32(2)), Ends::V6(address, address)] {
                let v6 = matches!(ends, Ends::V6(..));
                let spec = TunnelSpec {
                    encap,
                    ends,
                    remote: Host { v6, raw: 7 },
                    vni: 42,
                    port: Be16::new(4789),
                    inner_mac: [2; 6],
                    vnet: 1,
                    inner_mtu: 1400,
                    way: None,
                };
                let entry = build(&spec);
                assert_eq!(usize::from(entry.head_length), encap.head_length(v6), "{encap:?}");
                assert_eq!(entry.flags & TUNNEL_V6 != 0, v6);
            }
        }
        // Page 2.5 of the design.
        let overheads = Encap::ALL.map(|encap| (encap.overhead(false), encap.overhead(true)));
        assert_eq!(overheads, [(28, 48), (50, 70), (36, 56), (36, 56), (50, 70)]);
    }
}
