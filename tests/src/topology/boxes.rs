//! Parts of a box: its switches in /proc, cables between boxes, addresses.

use std::net::IpAddr;

use anyhow::{Context, Result};

use crate::{
    family::Family,
    netns::Netns,
    offload,
    xdp::{FixedVerdict, Verdict},
};

/// Written before any device exists, so that every device takes the defaults.
pub fn ip_sysctls(netns: &Netns, forwarding: u8, rp_filter: u8) -> Result<()> {
    netns.sysctl("net/ipv4/ip_forward", &forwarding.to_string())?;
    netns.sysctl("net/ipv6/conf/all/forwarding", &forwarding.to_string())?;
    // That alone decides on forwarding (`ip6_forward` in net/ipv6/ip6_output.c). A device's own value makes it a
    // member of the group of routers, which it would report, also into its tunnel.
    netns.sysctl("net/ipv6/conf/default/forwarding", "0")?;
    for scope in ["all", "default"] {
        netns.sysctl(&format!("net/ipv4/conf/{scope}/rp_filter"), &rp_filter.to_string())?;
    }
    Ok(())
}

/// A veth pair with its ends in two boxes, both up, all offloads off.
pub fn cable(one: (&Netns, &str), other: (&Netns, &str), mtu: u16) -> Result<()> {
    let (netns, device) = one;
    let (peer_netns, peer) = other;
    let peer_name = peer_netns.name();
    netns
        .ip(&format!("link add {device} mtu {mtu} type veth peer name {peer} mtu {mtu} netns {peer_name}"))
        .context("the kernel needs veth pairs (CONFIG_VETH)")?;
    for (netns, device) in [one, other] {
        netns.run(|| offload::disable(device))?;
        netns.ip(&format!("link set dev {device} up"))?;
    }
    Ok(())
}

/// Gives `device` an address, with the network around it: 24 bits of IPv4, 64 of IPv6.
pub fn address(netns: &Netns, device: &str, address: impl Into<IpAddr>) -> Result<()> {
    let address = address.into();
    let length = match Family::of(address) {
        Family::V4 => "24",
        // Usable at once: nobody else can have it.
        Family::V6 => "64 nodad",
    };
    netns.ip(&format!("addr add {address}/{length} dev {device}")).map(drop)
}

/// Gives `device` the link-local address `fe80::HOST`, without which a box cannot ask for the neighbours of
/// packets that it forwards (`ndisc_send_ns` in net/ipv6/ndisc.c); namespaces here make none by themselves.
pub fn link_local(netns: &Netns, device: &str, host: u16) -> Result<()> {
    address(netns, device, std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, host))
}

/// Makes a bridge, up, that sends multicast packets everywhere without keeping books about who listens.
pub fn bridge(netns: &Netns, name: &str) -> Result<()> {
    netns
        .ip(&format!("link add {name} type bridge mcast_snooping 0"))
        .context("the kernel needs bridges (CONFIG_BRIDGE)")?;
    netns.ip(&format!("link set dev {name} up")).map(drop)
}

/// Makes `device` receive what native XDP sends from its peer.
pub fn native(netns: &Netns, device: &str) -> Result<FixedVerdict> {
    netns.run(|| {
        let program = FixedVerdict::attach(device, Verdict::Pass)?;
        // veth switches GRO on for a device with XDP (drivers/net/veth.c, `veth_xdp_set`).
        offload::disable(device)?;
        Ok(program)
    })
}
