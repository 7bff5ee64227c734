//! `virtual_networks` and their `tunnels`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Family,
    family::pick,
    schema::{Address, Mac, Name},
};

/// An address space of its own, reached through a tunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VirtualNetwork {
    /// Name, unique among virtual networks.
    #[schemars(with = "Name")]
    pub name: String,
    /// Key on the wire: 1 … 2^32-1 (gre, gre-udp) or 2^24-1 (vxlan, geneve); unique.
    #[schemars(range(min = 1))]
    pub vni: u32,
    /// Inner source addresses of health checks; the far end must route them back into the tunnel.
    #[serde(default)]
    pub probe_source: ProbeSource,
    /// Paths to the network; flows are spread over them.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub tunnels: Vec<Tunnel>,
}

/// Inner source addresses of health checks, one a family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeSource {
    /// For IPv4 endpoints; unique among virtual networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// For IPv6 endpoints; unique among virtual networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
}

impl ProbeSource {
    /// The address for endpoints of `family`.
    pub fn of(self, family: Family) -> Option<IpAddr> {
        pick(family, self.ipv4, self.ipv6)
    }

    /// Whether `address` is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        self.of(Family::of(address)) == Some(address)
    }
}

/// One outer path to a virtual network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tunnel {
    /// Name, unique among the tunnels of the network.
    #[schemars(with = "Name")]
    pub name: String,
    /// How packets are wrapped.
    pub encap: Encap,
    /// What it carries; `geneve` only, default `ip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = "ip"))]
    pub inner: Option<Inner>,
    /// Outer address of the gateway, IPv4 or IPv6.
    #[schemars(with = "Address")]
    pub remote: IpAddr,
    /// UDP destination port; default 4754 (`gre-udp`), 4789 (`vxlan`) or 6081 (`geneve`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Largest outer IP packet in bytes; default: that of the route to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Inner destination MAC where it carries Ethernet, the gateway's; default `02:6c:62:78:00:02`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Mac>", extend("default" = "02:6c:62:78:00:02"))]
    pub inner_mac: Option<String>,
    /// false = no flows and no probes.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Name of the monitor that checks the tunnel; without one it counts as healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Name>")]
    pub monitor: Option<String>,
    /// What the monitor checks: the gateway's address inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Address>")]
    pub probe_address: Option<IpAddr>,
    /// Port there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub probe_port: Option<u16>,
}

impl Tunnel {
    /// What it carries: with `geneve` as configured, else what the encapsulation carries.
    pub fn inner(&self) -> Inner {
        match self.encap {
            Encap::Gre | Encap::GreUdp => Inner::Ip,
            Encap::Vxlan => Inner::Ethernet,
            Encap::Geneve => self.inner.unwrap_or_default(),
        }
    }
}

/// How packets are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Encap {
    /// GRE with a 32-bit key (RFC 2890).
    Gre,
    /// The same in UDP (RFC 8086).
    GreUdp,
    /// VXLAN (RFC 7348).
    Vxlan,
    /// Geneve (RFC 8926).
    Geneve,
}

impl Encap {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gre => "gre",
            Self::GreUdp => "gre-udp",
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
        }
    }

    /// UDP destination port unless configured, as IANA assigned it; `None` = not over UDP.
    pub const fn default_port(self) -> Option<u16> {
        match self {
            Self::Gre => None,
            Self::GreUdp => Some(4754),
            Self::Vxlan => Some(4789),
            Self::Geneve => Some(6081),
        }
    }
}

/// What a tunnel carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Inner {
    /// IP packets.
    #[default]
    Ip,
    /// Ethernet frames.
    Ethernet,
}

impl Inner {
    /// Name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ethernet => "ethernet",
        }
    }
}

const fn yes() -> bool {
    true
}
