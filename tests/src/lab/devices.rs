//! Devices of a lab, real ones in its namespace or none, and what the planner makes of a configuration there.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use lbx_agent::{
    config::model::Model,
    dataplane::{Image, Sizes},
    net::next_hop::NextHop,
    plan::{Built, Environment, FlowFacts, NodeFacts, plan},
    steer::Steered,
};
use lbx_common::api::HealthState;

use super::{CLIENT_V6, LBX_PUBLIC_V6, PEER_MAC, model::Routes};
use crate::{
    netns::Netns,
    topology::{CLIENT, LBX_PUBLIC, PUBLIC_DEVICE, UNDERLAY_DEVICE},
    world,
};

/// Interface indexes of a lab's devices.
pub struct Devices {
    /// Towards the client.
    pub public: u32,
    /// Towards the gateways.
    pub underlay: u32,
    lbx0: u32,
    lbx1: u32,
}

const PUBLIC_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 1];
const UNDERLAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 2];
const LBX0_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 3];
const LBX1_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 4];

impl Devices {
    /// None that there are.
    pub const fn imagined() -> Self {
        Self { public: 2, underlay: 3, lbx0: 4, lbx1: 5 }
    }

    /// Makes them, with the addresses and neighbours of the client's network.
    pub fn make(netns: &Netns) -> Result<Self> {
        let colons = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        for (device, mac, other) in [
            (PUBLIC_DEVICE, PUBLIC_MAC, "public1"),
            (UNDERLAY_DEVICE, UNDERLAY_MAC, "underlay1"),
            ("lbx0", LBX0_MAC, "lbx1"),
        ] {
            netns.ip(&format!("link add {device} address {} type veth peer name {other}", colons(mac)))?;
            netns.ip(&format!("link set {other} up"))?;
            netns.ip(&format!("link set {device} up"))?;
        }
        netns.ip(&format!("addr add {LBX_PUBLIC}/24 dev {PUBLIC_DEVICE}"))?;
        let client_mac = colons(PEER_MAC);
        netns.ip(&format!("neigh add {CLIENT} lladdr {client_mac} dev {PUBLIC_DEVICE} nud permanent"))?;
        netns.ip(&format!("addr add {LBX_PUBLIC_V6}/64 dev {PUBLIC_DEVICE} nodad"))?;
        netns.ip(&format!("neigh add {CLIENT_V6} lladdr {client_mac} dev {PUBLIC_DEVICE} nud permanent"))?;
        for family in ["ipv4", "ipv6"] {
            netns.sysctl(&format!("net/{family}/conf/lbx0/forwarding"), "1")?;
        }
        let index = |name: &str| -> Result<u32> {
            netns.run(|| Ok(nix::net::if_::if_nametoindex(name)?)).with_context(|| name.to_owned())
        };
        Ok(Self {
            public: index(PUBLIC_DEVICE)?,
            underlay: index(UNDERLAY_DEVICE)?,
            lbx0: index("lbx0")?,
            lbx1: index("lbx1")?,
        })
    }

    /// The way to the client.
    pub const fn routes(&self) -> Routes {
        Routes { ifindex: self.public, source: PUBLIC_MAC, destination: PEER_MAC }
    }
}

/// What the planner makes of the model on maps that hold what was observed.
pub fn planned(
    model: &Model,
    devices: &Devices,
    down: &[(&str, &str)],
    vlans: &BTreeMap<u32, (u32, u16)>,
    observed: &Image,
) -> Result<Image> {
    let hop = NextHop {
        ifindex: devices.underlay,
        vlan: None,
        source_mac: UNDERLAY_MAC,
        destination_mac: PEER_MAC,
        mtu: 1600,
    };
    let remotes = model.vnets.iter().flat_map(|vnet| &vnet.tunnels).map(|tunnel| tunnel.remote);
    let next_hops = remotes.map(|remote| (remote, (Some(hop), Some(hop.mtu)))).collect();
    let mut verdicts = BTreeMap::new();
    for pool in &model.pools {
        for endpoint in &pool.endpoints {
            let is_down = down.contains(&(pool.name.as_str(), endpoint.name.as_str()));
            let state = if is_down { HealthState::Unhealthy } else { HealthState::Healthy };
            verdicts.insert((pool.name.clone(), endpoint.name.clone()), state);
        }
    }
    let environment = Environment {
        vlans,
        node: NodeFacts {
            lbx0: (devices.lbx0, LBX0_MAC),
            lbx1: (devices.lbx1, LBX1_MAC),
            answer_interval: 0,
            seed: [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210],
        },
        sizes: &Sizes::new(&model.limits),
        next_hops: &next_hops,
        path_mtus: &BTreeMap::new(),
        verdicts: &verdicts,
        tunnel_verdicts: &BTreeMap::new(),
        regions: model.config.node.regions_file.as_ref().map_or(0, |_| world::regions().id()),
        now_ns: 0,
        flows: &FlowFacts::default(),
        steered: &Steered::default(),
        built: &Built::default(),
    };
    Ok(plan(model, &environment, observed)?)
}
