//! What a gateway can do beyond one tunnel: end a second one, be probed itself, answer clients by its own way.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use lbx_common::api::Endpoint;

use super::{
    LAN_GATEWAY, LAN_GATEWAY_V6, TUNNEL_DEVICE, Vnet,
    boxes::cable,
    far_end::{self, FarEnd, MAIN_TABLE},
    plan::{CLIENT, PUBLIC_MTU, UNDERLAY_MTU, VnetPlan, lbx_underlay},
};
use crate::{
    family::Family,
    netns::Netns,
    servers::{HTTP_PORT, Identity, OriginServers},
    tunnel::Encap,
};

/// Device of a further tunnel in a gateway.
const DEVICE: &str = "tunnel1";
/// Routing table of what came through it.
const TABLE: u32 = 101;

/// A further tunnel, with its end in a gateway. To be dropped before the topology.
pub struct ExtraTunnel {
    /// Its network as if it had this tunnel alone.
    pub plan: VnetPlan,
    /// What terminates it.
    pub far_end: FarEnd,
}

impl Vnet {
    /// A second tunnel of this network to the same gateway. Each connection is answered through the tunnel that its
    /// last packet came by.
    pub fn second_tunnel(&self, encap: Encap, outer: Family) -> Result<ExtraTunnel> {
        let plan = self.plan.through(encap, outer);
        let far_end = far_end::make_as(DEVICE, TABLE, &self.gateway, &plan, UNDERLAY_MTU)?;
        for (flag, family) in [("-4", Family::V4), ("-6", Family::V6)] {
            // VXLAN looks for the outer route with the mark of the inner packet (`vxlan_get_route`).
            let outer = lbx_underlay(family);
            self.gateway.ip(&format!("{flag} rule add to {outer} lookup {MAIN_TABLE} priority 100"))?;
            self.gateway.ip(&format!("{flag} rule add fwmark 2 lookup {TABLE} priority 101"))?;
        }
        self.gateway.firewall(&format!(
            "table inet way_back {{
                chain in {{
                    type filter hook prerouting priority mangle;
                    iifname {TUNNEL_DEVICE} ct mark set 1
                    iifname {DEVICE} ct mark set 2
                    iifname lan0 meta mark set ct mark
                }}
                chain out {{
                    type route hook output priority mangle;
                    meta mark set ct mark
                }}
            }}"
        ))?;
        Ok(ExtraTunnel { plan, far_end })
    }

    /// The end of a tunnel of another network at this gateway, which answers that network's probes.
    pub fn end_of(&self, plan: VnetPlan) -> Result<ExtraTunnel> {
        let plan = VnetPlan {
            gateway_address: self.plan.gateway_address,
            gateway_address_v6: self.plan.gateway_address_v6,
            ..plan
        };
        let far_end = far_end::make_as(DEVICE, TABLE, &self.gateway, &plan, UNDERLAY_MTU)?;
        self.gateway.ip(&format!("route add {}/32 dev {DEVICE} table {MAIN_TABLE}", plan.probe_source))?;
        Ok(ExtraTunnel { plan, far_end })
    }

    /// Further origins beside the first one, in its namespace, each with what a pool must have of it.
    pub fn more_origins(&self, count: u8) -> Result<Vec<(Endpoint, OriginServers)>> {
        let host = &self.origins.first().context("a network has origins")?.netns;
        let more = (20..20 + count).map(|last| {
            let ipv4 = Ipv4Addr::new(10, 0, 0, last);
            let ipv6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, u16::from(last));
            host.ip(&format!("address add {ipv4}/24 dev lan0"))?;
            host.ip(&format!("address add {ipv6}/64 dev lan0 nodad"))?;
            let (vnet, name) = (self.plan.name.to_owned(), format!("more-{last}"));
            let identity = Identity { vnet: vnet.clone(), origin: name.clone(), ipv4, ipv6 };
            let endpoint = Endpoint { port: Some(HTTP_PORT), ..Endpoint::new(name, vnet, ipv4.into()) };
            Ok((endpoint, OriginServers::start(host, identity)?))
        });
        more.collect()
    }

    /// Servers on the gateway itself at its private address.
    pub fn serve_on_gateway(&self) -> Result<OriginServers> {
        self.serve_at(LAN_GATEWAY)
    }

    /// Makes the gateway an endpoint with direct server return: it has `vip`, serves it, and reaches the client by
    /// a cable of its own. The servers stop when they are dropped.
    pub fn serve_directly(&self, vip: Ipv4Addr, client: &Netns) -> Result<OriginServers> {
        let port = format!("direct-{}", self.plan.name);
        cable((&self.gateway, "direct0"), (client, &port), PUBLIC_MTU)?;
        self.gateway.ip(&format!("addr add {vip}/32 dev lo"))?;
        self.gateway.ip(&format!("route add {CLIENT}/32 dev direct0 src {vip}"))?;
        self.serve_at(vip)
    }

    /// Servers on the gateway at one of its addresses.
    pub fn serve_at(&self, ipv4: Ipv4Addr) -> Result<OriginServers> {
        let identity = Identity {
            vnet: self.plan.name.to_owned(),
            origin: "gateway".to_owned(),
            ipv4,
            ipv6: LAN_GATEWAY_V6,
        };
        OriginServers::start(&self.gateway, identity)
    }
}
