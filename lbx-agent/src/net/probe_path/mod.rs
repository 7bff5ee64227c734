//! The veth pair `lbx0`/`lbx1` with its addresses, routes and rules: the way of health checks into virtual
//! networks, and of packets that the kernel must finish (the slow path).
//!
//! `ensure` observes what is there and changes only what differs, so what an agent before this one left is
//! adopted and a second call writes nothing. What belongs to lbx is known by the device names, the table
//! numbers and the rule priorities below; nothing else is changed.

mod device;
mod policy;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rtnetlink::{
    Handle,
    packet_route::{
        route::RouteProtocol,
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

pub(in crate::net) use self::device::{mac, mtu};
use super::{NetError, sysctl};

/// The end that the kernel sees: probes leave by it, slow-path packets and replies arrive on it.
pub const LBX0: &str = "lbx0";
/// The end that carries the lbx XDP program and takes redirects.
pub const LBX1: &str = "lbx1";
/// MAC of [`LBX0`]; frames redirected to [`LBX1`] must carry it as destination.
pub const LBX0_MAC: [u8; 6] = [0x02, 0x6c, 0x62, 0x78, 0x10, 0x00];
/// MAC of [`LBX1`].
pub const LBX1_MAC: [u8; 6] = [0x02, 0x6c, 0x62, 0x78, 0x10, 0x01];
/// MTU of both ends, in bytes: a jumbo frame of 9000 and the largest encapsulation fit. Native XDP on a veth
/// takes at most 3506 from a program without `xdp.frags` (`veth_xdp_set` in `drivers/net/veth.c`), so
/// programs for these devices must have it.
pub const MTU: u32 = 9216;
/// Routing table of probes: everything goes into [`LBX0`].
pub const PROBE_TABLE: u32 = 20218;
/// Priority of the rules `from PROBE_SOURCE lookup PROBE_TABLE`.
pub const PROBE_RULE_PRIORITY: u32 = 20218;
/// Routing table that holds the VIPs, for reverse-path checks only.
pub const VIP_TABLE: u32 = 20219;
/// Priority of the rule that looks into [`VIP_TABLE`]: behind `main` (32766) and `default` (32767), so that
/// it only matters where the host has no route to a VIP at all. Without it the loose reverse-path check
/// drops slow-path packets, whose source is a VIP. For IPv6 that check is a rule of the firewall, if any
/// (`fib saddr oif missing drop`).
pub const VIP_RULE_PRIORITY: u32 = 40218;
/// Mark of what lbx added to tables it shares with others ("proto 218" in `ip` output).
pub const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(218);

/// What the probe path has to carry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProbePathWanted {
    /// Inner source addresses of health checks.
    pub probe_sources: Vec<IpAddr>,
    /// Addresses of services.
    pub vips: Vec<IpAddr>,
}

/// The probe path as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbePath {
    /// The kernel's end.
    pub lbx0: Link,
    /// The end with the XDP program.
    pub lbx1: Link,
    /// Whether the kernel forwards IPv6 packets that arrive on [`LBX0`]. Where it does not, those that need
    /// the slow path are lost.
    pub forwards_ipv6: bool,
}

/// One end of the pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub ifindex: u32,
    /// MAC address.
    pub mac: [u8; 6],
}

/// Makes the probe path as wanted.
pub async fn ensure(handle: &Handle, wanted: &ProbePathWanted) -> Result<ProbePath, NetError> {
    let wanted_ipv6 = wanted.probe_sources.iter().chain(&wanted.vips).find(|address| address.is_ipv6());
    if let Some(address) = wanted_ipv6
        && !sysctl::has_ipv6()
    {
        return Err(NetError::NoIpv6 { address: *address });
    }
    let path = device::ensure(handle).await?;
    policy::ensure_addresses(handle, path.lbx0.ifindex, &wanted.probe_sources).await?;
    for family in families() {
        policy::ensure_routes(handle, *family, path.lbx0.ifindex, wanted).await?;
        policy::ensure_rules(handle, *family, &wanted_rules(*family, wanted)).await?;
    }
    if wanted_ipv6.is_some() && !path.forwards_ipv6 {
        tracing::warn!(
            "this kernel forwards IPv6 only where net.ipv6.conf.all.forwarding is 1 (a switch for lbx0 alone \
             came with Linux 6.17): until it is set, IPv6 packets whose next hop has to be resolved first are \
             lost. With it, IPv6 is forwarded between all devices unless a firewall says otherwise, and router \
             advertisements count only on devices with accept_ra 2"
        );
    }
    Ok(path)
}

/// Takes everything away: rules, devices, and with these their addresses and routes. It is no error when
/// nothing is there; a device of that name that is not ours stays.
pub async fn remove(handle: &Handle) -> Result<(), NetError> {
    for family in families() {
        policy::ensure_rules(handle, *family, &[]).await?;
    }
    device::remove(handle).await
}

/// The families that this kernel has.
fn families() -> &'static [Family] {
    if sysctl::has_ipv6() { &[Family::V4, Family::V6] } else { &[Family::V4] }
}

/// An address family: each has tables and rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Family {
    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }
}

/// Length of the prefix that is one address.
const fn host_bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// A rule, as far as it says which one it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    source: Option<IpAddr>,
    priority: u32,
    table: u32,
}

fn wanted_rules(family: Family, wanted: &ProbePathWanted) -> Vec<Rule> {
    let of_family = |address: &&IpAddr| Family::of(**address) == family;
    let probes = wanted.probe_sources.iter().filter(of_family).map(|source| Rule {
        source: Some(*source),
        priority: PROBE_RULE_PRIORITY,
        table: PROBE_TABLE,
    });
    let vips = wanted.vips.iter().find(of_family).map(|_| Rule {
        source: None,
        priority: VIP_RULE_PRIORITY,
        table: VIP_TABLE,
    });
    let mut rules: Vec<Rule> = Vec::new();
    for rule in probes.chain(vips) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

impl Rule {
    /// Reads one of our rules; `None` for anybody else's.
    fn of(message: &RuleMessage) -> Option<Self> {
        let (mut priority, mut table, mut source) = (0, u32::from(message.header.table), None);
        for attribute in &message.attributes {
            if let RuleAttribute::Priority(value) = attribute {
                priority = *value;
            } else if let RuleAttribute::Table(value) = attribute {
                table = *value;
            } else if let RuleAttribute::Source(value) = attribute {
                source = Some(*value);
            }
        }
        let ours = [(PROBE_RULE_PRIORITY, PROBE_TABLE), (VIP_RULE_PRIORITY, VIP_TABLE)];
        (message.header.action == RuleAction::ToTable && ours.contains(&(priority, table))).then_some(Self {
            source,
            priority,
            table,
        })
    }
}
