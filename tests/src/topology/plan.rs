//! Addresses and names of the test network, and what its virtual networks can be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{family::Family, gateway::Replies, tunnel::Encap};

/// The client.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The client in IPv6.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 2);
/// lbx on the client's network.
pub const LBX_PUBLIC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// lbx on the client's network in IPv6.
pub const LBX_PUBLIC_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
/// lbx on the gateways' network: the outer source of tunnel packets.
pub const LBX_UNDERLAY: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The outer source of tunnel packets over IPv6.
pub const LBX_UNDERLAY_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 1);
/// Device of lbx, and of the client, on the client's network.
pub const PUBLIC_DEVICE: &str = "public0";
/// Device of lbx, and of each gateway, on the gateways' network.
pub const UNDERLAY_DEVICE: &str = "underlay0";
/// MTU of the client's network and of the private ones.
pub const PUBLIC_MTU: u16 = 1500;
/// MTU of the gateways' network, unless the test chooses: 1500 bytes and the tunnel headers.
pub const UNDERLAY_MTU: u16 = 1600;

/// Names and addresses of the origins of each virtual network.
pub const ORIGINS: [(&str, Ipv4Addr); 2] =
    [("a", Ipv4Addr::new(10, 0, 0, 10)), ("b", Ipv4Addr::new(10, 0, 0, 11))];
/// The same in IPv6.
pub const ORIGINS_V6: [(&str, Ipv6Addr); 2] = [
    ("a", Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x10)),
    ("b", Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x11)),
];

/// The client in a family.
pub const fn client_address(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(CLIENT),
        Family::V6 => IpAddr::V6(CLIENT_V6),
    }
}

/// The outer source of tunnel packets over a family.
pub const fn lbx_underlay(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(LBX_UNDERLAY),
        Family::V6 => IpAddr::V6(LBX_UNDERLAY_V6),
    }
}

/// Names and addresses of the origins in a family.
pub fn origins(family: Family) -> [(&'static str, IpAddr); 2] {
    match family {
        Family::V4 => ORIGINS.map(|(name, address)| (name, address.into())),
        Family::V6 => ORIGINS_V6.map(|(name, address)| (name, address.into())),
    }
}

/// What distinguishes one virtual network from the other, and its tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VnetPlan {
    /// Name in configuration and answers.
    pub name: &'static str,
    /// Key on the wire.
    pub vni: u32,
    /// Kind of tunnel.
    pub encap: Encap,
    /// Family of the outer packets.
    pub outer: Family,
    /// What its gateway's packets have beyond the defaults of a stock device.
    pub replies: Replies,
    /// VIP of its services.
    pub vip: Ipv4Addr,
    /// IPv6 VIP of its services.
    pub vip_v6: Ipv6Addr,
    /// Outer address of its gateway over IPv4.
    pub gateway_address: Ipv4Addr,
    /// Outer address of its gateway over IPv6.
    pub gateway_address_v6: Ipv6Addr,
    /// Inner source address of lbx's health checks.
    pub probe_source: Ipv4Addr,
    /// The same in IPv6.
    pub probe_source_v6: Ipv6Addr,
}

/// The first virtual network; behind GRE over IPv4 unless the test chooses.
pub const EAST: VnetPlan = VnetPlan {
    name: "east",
    vni: 42,
    encap: Encap::Gre,
    outer: Family::V4,
    replies: Replies::STOCK,
    vip: Ipv4Addr::new(203, 0, 113, 80),
    vip_v6: Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 0x80),
    gateway_address: Ipv4Addr::new(198, 51, 100, 7),
    gateway_address_v6: Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 7),
    probe_source: Ipv4Addr::new(10, 255, 42, 1),
    probe_source_v6: Ipv6Addr::new(0xfd00, 0x255, 0x42, 0, 0, 0, 0, 1),
};

/// The second virtual network; behind VXLAN over IPv4 unless the test chooses.
pub const WEST: VnetPlan = VnetPlan {
    name: "west",
    vni: 43,
    encap: Encap::Vxlan,
    outer: Family::V4,
    replies: Replies::STOCK,
    vip: Ipv4Addr::new(203, 0, 113, 81),
    vip_v6: Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, 0x81),
    gateway_address: Ipv4Addr::new(198, 51, 100, 8),
    gateway_address_v6: Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 8),
    probe_source: Ipv4Addr::new(10, 255, 43, 1),
    probe_source_v6: Ipv6Addr::new(0xfd00, 0x255, 0x43, 0, 0, 0, 0, 1),
};

impl VnetPlan {
    /// The same network behind another kind of tunnel.
    #[must_use]
    pub const fn through(self, encap: Encap, outer: Family) -> Self {
        Self { encap, outer, ..self }
    }

    /// The VIP of a family.
    pub const fn vip_of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.vip),
            Family::V6 => IpAddr::V6(self.vip_v6),
        }
    }

    /// The inner source address of health checks in a family.
    pub const fn probe_source_of(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.probe_source),
            Family::V6 => IpAddr::V6(self.probe_source_v6),
        }
    }

    /// Outer address of the gateway in the family of its tunnel.
    pub const fn remote(&self) -> IpAddr {
        match self.outer {
            Family::V4 => IpAddr::V4(self.gateway_address),
            Family::V6 => IpAddr::V6(self.gateway_address_v6),
        }
    }
}
