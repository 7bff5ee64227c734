//! The kinds of tunnels: names, ports, lengths, by the table of page 2.5 of the design.

use crate::family::Family;

/// RFC 2473 §4.1.1: a destination-options header with the limit and padding.
pub const ENCAPSULATION_LIMIT_BYTES: usize = 8;

/// How packets are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encap {
    /// GRE with a key (RFC 2890).
    Gre,
    /// The same in UDP (RFC 8086).
    GreUdp,
    /// VXLAN (RFC 7348): Ethernet inside.
    Vxlan,
    /// Geneve (RFC 8926) with IP inside.
    GeneveIp,
    /// Geneve with Ethernet inside.
    GeneveEthernet,
}

impl Encap {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Gre, Self::GreUdp, Self::Vxlan, Self::GeneveIp, Self::GeneveEthernet];

    /// Name in tables and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gre => "gre",
            Self::GreUdp => "gre-udp",
            Self::Vxlan => "vxlan",
            Self::GeneveIp => "geneve-ip",
            Self::GeneveEthernet => "geneve-ethernet",
        }
    }

    /// UDP destination port; `None` where it is a protocol of IP itself.
    pub const fn udp_port(self) -> Option<u16> {
        match self {
            Self::Gre => None,
            Self::GreUdp => Some(4754),
            Self::Vxlan => Some(4789),
            Self::GeneveIp | Self::GeneveEthernet => Some(6081),
        }
    }

    /// Whether there is an Ethernet header in front of the inner packet.
    pub const fn has_ethernet(self) -> bool {
        match self {
            Self::Gre | Self::GreUdp | Self::GeneveIp => false,
            Self::Vxlan | Self::GeneveEthernet => true,
        }
    }

    /// Whether there is a GRE header.
    pub const fn has_gre(self) -> bool {
        match self {
            Self::Gre | Self::GreUdp => true,
            Self::Vxlan | Self::GeneveIp | Self::GeneveEthernet => false,
        }
    }

    /// Bytes in front of the inner packet in the plain form, the outer IP header included.
    pub const fn overhead_bytes(self, outer: Family) -> usize {
        match (self, outer) {
            (Self::Gre, Family::V4) => 28,
            (Self::Gre, Family::V6) => 48,
            (Self::GreUdp | Self::GeneveIp, Family::V4) => 36,
            (Self::GreUdp | Self::GeneveIp, Family::V6) => 56,
            (Self::Vxlan | Self::GeneveEthernet, Family::V4) => 50,
            (Self::Vxlan | Self::GeneveEthernet, Family::V6) => 70,
        }
    }
}
