//! `virtual_networks` and their `tunnels`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// An address space of its own, reached through a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VirtualNetwork {
    /// Name, unique among virtual networks.
    pub name: String,
    /// Key on the wire: 1 … 2^32-1 (gre) or 2^24-1 (vxlan); unique.
    pub vni: u32,
    /// Inner source address of health checks; the far end must route it back into the tunnel.
    #[serde(default)]
    pub probe_source: ProbeSource,
    /// Paths to the network.
    #[serde(default)]
    pub tunnels: Vec<Tunnel>,
}

/// Inner source addresses of health checks, one a family.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSource {
    /// For IPv4 endpoints; unique among virtual networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
}

/// One outer path to a virtual network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// Name, unique among the tunnels of the network.
    pub name: String,
    /// How packets are wrapped.
    pub encap: Encap,
    /// Outer address of the gateway.
    pub remote: Ipv4Addr,
    /// UDP destination port of `vxlan`; default 4789.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Largest outer IP packet in bytes; default: that of the route to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Inner destination MAC of `vxlan`, the gateway's; default `02:6c:62:78:00:02`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner_mac: Option<String>,
}

/// How packets are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encap {
    /// GRE with a 32-bit key (RFC 2890).
    Gre,
    /// VXLAN (RFC 7348).
    Vxlan,
}

impl Encap {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gre => "gre",
            Self::Vxlan => "vxlan",
        }
    }
}
