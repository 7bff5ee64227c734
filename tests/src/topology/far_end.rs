//! The far end of a tunnel: the kernel's own device where the kernel has it, else a gateway in userspace.

use std::{cmp::min, fmt};

use anyhow::{Context, Result};

use super::plan::{PUBLIC_MTU, VnetPlan, lbx_underlay};
use crate::{
    family::Family,
    gateway::{Ends, Gateway},
    netns::Netns,
    offload,
    tunnel::{ENCAPSULATION_LIMIT_BYTES, Encap, GATEWAY_INNER_MAC, LBX_INNER_MAC},
};

/// The tunnel's device in the gateway.
pub const DEVICE: &str = "tunnel0";
/// Number of the table that is asked without a rule of the test's own.
pub const MAIN_TABLE: u32 = 254;
/// Next hops behind a device with Ethernet inside: lbx, by its inner MAC.
const NEXT_HOPS: [(Family, &str); 2] = [(Family::V4, "169.254.1.1"), (Family::V6, "fe80::6c62:7801")];

/// What terminates a tunnel.
pub enum FarEnd {
    /// The kernel's own device.
    Kernel,
    /// A process of ours.
    Userspace(Gateway),
}

impl FarEnd {
    /// The gateway in userspace.
    pub fn userspace(&self) -> Option<&Gateway> {
        match self {
            Self::Kernel => None,
            Self::Userspace(gateway) => Some(gateway),
        }
    }
}

impl fmt::Display for FarEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel device",
            Self::Userspace(_) => "in userspace",
        })
    }
}

/// Makes the far end. Everything that is not local goes back into it: clients, probe sources.
pub fn make(gateway: &Netns, plan: &VnetPlan, underlay_mtu: u16) -> Result<FarEnd> {
    make_as(DEVICE, MAIN_TABLE, gateway, plan, underlay_mtu)
}

/// The same with a device and a routing table of its own.
pub fn make_as(
    device: &str,
    table: u32,
    gateway: &Netns,
    plan: &VnetPlan,
    underlay_mtu: u16,
) -> Result<FarEnd> {
    let ends =
        Ends { encap: plan.encap, local: plan.remote(), remote: lbx_underlay(plan.outer), key: plan.vni };
    let kernel = kernel_device(device, gateway, plan, ends)?;
    let far_end = if kernel {
        gateway.run(|| offload::disable(device))?;
        FarEnd::Kernel
    } else {
        FarEnd::Userspace(Gateway::start(gateway, device, ends, plan.replies)?)
    };
    gateway.ip(&format!("link set dev {device} mtu {} up", inner_mtu(plan, underlay_mtu)?))?;
    for (family, next_hop) in NEXT_HOPS {
        let flag = if family == Family::V4 { "-4" } else { "-6" };
        if kernel && plan.encap.has_ethernet() {
            // Always resolved, so that nothing depends on ARP inside the tunnel.
            gateway.ip(&format!("neigh add {next_hop} lladdr {LBX_INNER_MAC} dev {device} nud permanent"))?;
            gateway
                .ip(&format!("{flag} route add default via {next_hop} dev {device} onlink table {table}"))?;
        } else {
            gateway.ip(&format!("{flag} route add default dev {device} table {table}"))?;
        }
    }
    Ok(far_end)
}

/// Largest inner packet: what the underlay carries, and no more than the networks on both sides have.
fn inner_mtu(plan: &VnetPlan, underlay_mtu: u16) -> Result<u16> {
    let mut overhead = plan.encap.overhead_bytes(plan.outer);
    if plan.encap.has_gre() && plan.outer == Family::V6 {
        overhead += ENCAPSULATION_LIMIT_BYTES;
    }
    if plan.replies.gre_sequence {
        overhead += 4;
    }
    if plan.replies.gre_checksum {
        overhead += 4;
    }
    let rest = underlay_mtu.checked_sub(overhead.try_into()?).context("an underlay smaller than headers")?;
    Ok(min(PUBLIC_MTU, rest))
}

/// Makes the kernel's own device; false where the kernel has none of its kind.
fn kernel_device(device: &str, gateway: &Netns, plan: &VnetPlan, ends: Ends) -> Result<bool> {
    let Ends { encap, local, remote, key } = ends;
    let over_ipv6 = plan.outer == Family::V6;
    let port = encap.udp_port().unwrap_or_default();
    let ethernet = if encap.has_ethernet() { format!("address {GATEWAY_INNER_MAC}") } else { String::new() };
    // lbx sends no UDP checksum over IPv6 either (RFC 6935 §5).
    let checksums = match (over_ipv6, plan.replies.udp6_zero_checksum) {
        (false, _) => "",
        (true, false) => "udp6zerocsumrx",
        (true, true) => "udp6zerocsumrx udp6zerocsumtx",
    };
    let kind = match encap {
        Encap::Gre | Encap::GreUdp => {
            let (kind, hops) = if over_ipv6 { ("ip6gre", "hoplimit 64") } else { ("gre", "ttl 64") };
            let sequence = if plan.replies.gre_sequence { "oseq" } else { "" };
            let checksum = if plan.replies.gre_checksum { "ocsum" } else { "" };
            let udp = match (encap == Encap::GreUdp, over_ipv6 && !plan.replies.udp6_zero_checksum) {
                (false, _) => String::new(),
                (true, false) => format!("encap fou encap-sport auto encap-dport {port}"),
                (true, true) => format!("encap fou encap-sport auto encap-dport {port} encap-csum6"),
            };
            format!("{kind} local {local} remote {remote} key {key} {hops} {sequence} {checksum} {udp}")
        }
        Encap::Vxlan => {
            format!("vxlan id {key} local {local} remote {remote} dstport {port} nolearning {checksums}")
        }
        Encap::GeneveIp | Encap::GeneveEthernet => {
            let inherit = if encap == Encap::GeneveIp { "innerprotoinherit" } else { "" };
            format!("geneve id {key} remote {remote} dstport {port} ttl 64 {checksums} {inherit}")
        }
    };
    if encap == Encap::GreUdp {
        let flag = if over_ipv6 { "-6" } else { "-4" };
        if !has(gateway.ip(&format!("{flag} fou add port {port} ipproto 47")))? {
            return Ok(false);
        }
    }
    has(gateway.ip(&format!("link add {device} {ethernet} type {kind}")))
}

/// Whether the kernel has what it was asked for; an error where it failed for another reason.
fn has(outcome: Result<String>) -> Result<bool> {
    let Err(error) = outcome else { return Ok(true) };
    let message = error.to_string();
    // The last is what `ip fou` says where the netlink family is missing.
    let missing = ["Unknown device type", "not supported", "Error talking to the kernel"];
    if missing.iter().any(|text| message.contains(text)) { Ok(false) } else { Err(error) }
}
