//! The host that balances, as a router with a tunnel device. lbx needs neither, and is not disturbed by them: it has
//! taken its packets before they are routed.

use std::{fs, net::SocketAddr};

use anyhow::{Context, Result};

use super::Way;
use crate::{
    family::Family,
    netns::Netns,
    offload,
    topology::{
        GATEWAY_INNER_MAC, LBX_INNER_MAC, LBX_PUBLIC, LBX_UNDERLAY, ORIGINS, PUBLIC_MTU, Topology, Vnet,
    },
};

/// The tunnel's device, and what it has at its other end.
const DEVICE: &str = "tunnel0";
const NEXT_HOP: &str = "169.254.1.2";
/// What HAProxy's connections come from.
const OWN: &str = "10.255.0.1";
/// Networks of the origins and of the client.
const PRIVATE: &str = "10.0.0.0/24";
const PUBLIC: &str = "192.0.2.0/24";

/// The host, prepared.
pub struct Host<'a> {
    pub topology: &'a Topology,
}

impl<'a> Host<'a> {
    /// Makes it a router with one end of the tunnel of west, and tells the client where the origins are.
    pub fn prepare(topology: &'a Topology) -> Result<Self> {
        let plan = topology.west.plan;
        let (host, remote, port) = (&topology.lbx, plan.remote(), plan.encap.udp_port().unwrap_or_default());
        host.sysctl("net/ipv4/ip_forward", "1")?;
        host.ip(&format!(
            "link add {DEVICE} mtu {PUBLIC_MTU} address {LBX_INNER_MAC} type vxlan id {} local {LBX_UNDERLAY} \
             remote {remote} dstport {port} nolearning",
            plan.vni
        ))
        .context("the kernel needs vxlan devices (CONFIG_VXLAN)")?;
        host.run(|| offload::disable(DEVICE))?;
        host.ip(&format!("link set dev {DEVICE} up"))?;
        host.ip(&format!("addr add {OWN}/32 dev {DEVICE}"))?;
        host.ip(&format!("neigh add {NEXT_HOP} lladdr {GATEWAY_INNER_MAC} dev {DEVICE} nud permanent"))?;
        topology.client_netns.ip(&format!("route add {PRIVATE} via {LBX_PUBLIC}"))?;
        Ok(Self { topology })
    }

    /// The network that is measured.
    pub fn vnet(&self) -> &Vnet {
        &self.topology.west
    }

    /// The client's namespace.
    pub fn client(&self) -> &Netns {
        &self.topology.client_netns
    }

    /// The host's namespace.
    pub fn netns(&self) -> &Netns {
        &self.topology.lbx
    }

    /// Where the client finds the origins.
    pub fn targets(&self, way: Way) -> [SocketAddr; 2] {
        let vip = self.vnet().plan.vip_of(Family::V4);
        ORIGINS
            .map(|(_, origin)| SocketAddr::new(if way.balances() { vip } else { origin.into() }, way.port()))
    }

    /// Packets go through the tunnel, both ways.
    pub fn route_into_tunnel(&self) -> Result<()> {
        self.netns().ip(&format!("route replace {PRIVATE} via {NEXT_HOP} dev {DEVICE} onlink src {OWN}"))?;
        // All that is not private has its way into the tunnel there.
        self.vnet().gateway.ip(&format!("route flush {PUBLIC}")).map(drop)
    }

    /// Packets go as they are, both ways.
    pub fn route_plainly(&self) -> Result<()> {
        self.netns().ip(&format!("route replace {PRIVATE} via {}", self.vnet().plan.gateway_address))?;
        self.vnet().gateway.ip(&format!("route replace {PUBLIC} via {LBX_UNDERLAY}")).map(drop)
    }

    /// IPv4 packets that the kernel has forwarded (RFC 4293, `ipForwDatagrams`).
    pub fn forwarded(&self) -> Result<u64> {
        let text = self.netns().run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let mut fields = names.split(' ').zip(values.split(' '));
        let (_, value) =
            fields.find(|(name, _)| *name == "ForwDatagrams").context("ForwDatagrams in snmp")?;
        Ok(value.parse()?)
    }
}
