//! The planner: model × facts × what is observed → what the maps should hold.

use std::{collections::BTreeMap, net::IpAddr};

use lbx_common::{
    abi::{ABI_VERSION, NODE_HAS_VLANS, NODE_TRACKS, NodeEntry, PeerKey, PeerValue, TunnelEntry, VnetEntry},
    api::HealthState,
    bytes::Be32,
    hash::mix,
};

use super::{
    changes::FlowFacts,
    endpoints,
    hosts::Hosts,
    ids::{Exhausted, Ids},
    nanoseconds, peers, regions, services, steering,
    tables::Built,
    uses::Uses,
};
use crate::{
    config::model::{Model, TunnelPath},
    dataplane::{Image, MapId, Sizes},
    net::next_hop::NextHop,
    steer::Steered,
};

/// What the planner is told of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeFacts {
    /// Interface index and MAC of `lbx0`.
    pub lbx0: (u32, [u8; 6]),
    /// Interface index and MAC of `lbx1`.
    pub lbx1: (u32, [u8; 6]),
    /// Seed of the flow hash.
    pub seed: [u64; 2],
    /// Nanoseconds between two packets of lbx's own on a CPU; 0 = no limit.
    pub answer_interval: u32,
}

/// What the planner is told beside the model.
pub struct Environment<'a> {
    /// The machine.
    pub node: NodeFacts,
    /// VLAN devices of the host: parent and tag by interface index.
    pub vlans: &'a BTreeMap<u32, (u32, u16)>,
    /// Sizes of the maps.
    pub sizes: &'a Sizes,
    /// What is known of the way to each gateway: next hop and MTU of the route. A gateway that is not
    /// listed keeps what the kernel's maps say.
    pub next_hops: &'a BTreeMap<IpAddr, (Option<NextHop>, Option<u16>)>,
    /// What routers said of the path of a tunnel: largest outer IP packet in bytes.
    pub path_mtus: &'a BTreeMap<TunnelPath, u16>,
    /// Verdicts by (pool, endpoint). An endpoint without one keeps what the kernel's maps say.
    pub verdicts: &'a BTreeMap<(String, String), HealthState>,
    /// The same by (virtual network, tunnel); where the maps know nothing either, a tunnel counts as healthy.
    pub tunnel_verdicts: &'a BTreeMap<(String, String), HealthState>,
    /// Id of the list of regions, which is complete in the kernel; 0 = there is none.
    pub regions: u32,
    /// The monotonic clock, in nanoseconds.
    pub now_ns: u64,
    /// What pins tell.
    pub flows: &'a FlowFacts,
    /// What was decided by measuring.
    pub steered: &'a Steered,
    /// Tables of earlier passes.
    pub built: &'a Built,
}

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// More objects than the maps have room for, those that are just going away included.
    #[error(
        "no room for another {0}: raise `limits.{1}`, or remove some first and apply the rest afterwards"
    )]
    NoRoom(&'static str, &'static str),
}

impl PlanError {
    pub(super) fn no_room(what: &'static str, limit: &'static str) -> impl Fn(Exhausted) -> Self {
        move |Exhausted| Self::NoRoom(what, limit)
    }
}

/// MTU of a route that nothing is known of yet.
const DEFAULT_MTU: u16 = 1500;

/// Plans what the maps should hold.
pub fn plan(model: &Model, environment: &Environment<'_>, observed: &Image) -> Result<Image, PlanError> {
    let mut image = Image::default();
    let mut hosts = Hosts::new(observed, environment.sizes);
    image.node = node(model, environment, observed, &mut hosts, &mut image)?;
    for (&device, &(parent, vlan)) in environment.vlans {
        let value = PeerValue { vnet: parent, tunnel: vlan.into(), flags: 0 };
        image.peers.insert(PeerKey::VlanDevice(device), value);
    }
    let vnets = plan_vnets(model, environment, observed, &mut hosts, &mut image)?;
    let tunnels = peers::plan_tunnels(model, environment, observed, &vnets, &mut hosts, &mut image)?;
    let uses = Uses::new(model, observed);
    let places =
        endpoints::plan_endpoints(model, environment, observed, (&vnets, &tunnels), &uses, &mut image)?;
    let transition_ns = nanoseconds(model.timers.transition);
    let change = regions::plan(environment, observed, transition_ns, &mut image.node);
    steering::force(model, &places, environment.now_ns, &mut image);
    services::plan_services(model, environment, observed, (&vnets, &places, change), &mut hosts, &mut image)?;
    endpoints::plan_removed(model, environment, observed, &vnets, &uses, &mut image);
    endpoints::keep_replies(environment, observed, &mut image);
    regions::finish(&mut image);
    if !image.tracking.is_empty() {
        image.node.flags |= NODE_TRACKS;
    }
    Ok(image)
}

fn node(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    hosts: &mut Hosts,
    image: &mut Image,
) -> Result<NodeEntry, PlanError> {
    let mask = |map| environment.sizes.of(map).saturating_sub(1);
    let mac = |[a, b, c, d, e, f]: [u8; 6]| [a, b, c, d, e, f, 0, 0];
    let NodeFacts { lbx0, lbx1, seed, .. } = environment.node;
    Ok(NodeEntry {
        abi: ABI_VERSION,
        moves: 0,
        listener_mask: mask(MapId::Listeners),
        reply_mask: mask(MapId::Replies),
        peer_mask: mask(MapId::Peers),
        address_mask: mask(MapId::AddressIds),
        lbx0: lbx0.0,
        lbx1: lbx1.0,
        lbx_macs: [mac(lbx0.1), mac(lbx1.1)],
        tunnel_source_v4: Be32(raw(model.tunnel_source.ipv4.map(IpAddr::V4), hosts, image)?),
        tunnel_source_v6: raw(model.tunnel_source.ipv6.map(IpAddr::V6), hosts, image)?,
        flags: if environment.vlans.is_empty() { 0 } else { NODE_HAS_VLANS },
        answer_interval: environment.node.answer_interval,
        seed,
        // As secret as the seed of the flow hash, and of no other use; where that changes, pins are found as before.
        pin_seed: if observed.node.abi == 0 { seed.map(|half| mix(!half)) } else { observed.node.pin_seed },
        udp_idle_ns: nanoseconds(model.timers.udp_idle),
        pin_buckets: environment.sizes.of(MapId::PinsTcp),
        tcp_idle_secs: u32::try_from(model.timers.tcp_idle.as_secs()).unwrap_or(u32::MAX),
        ..NodeEntry::default()
    })
}

/// An address as an entry of one family holds it; 0 where there is none.
fn raw(address: Option<IpAddr>, hosts: &mut Hosts, image: &mut Image) -> Result<u32, PlanError> {
    address.map_or(Ok(0), |address| Ok(hosts.of(address, image)?.raw))
}

/// Networks keep their id by VNI. Returns the ids in the order of the model.
fn plan_vnets(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    hosts: &mut Hosts,
    image: &mut Image,
) -> Result<Vec<u32>, PlanError> {
    let capacity = environment.sizes.of(MapId::Vnets).saturating_sub(1);
    let mut ids = Ids::new(observed.vnets.iter().map(|(&id, entry)| (entry.vni, id)), capacity);
    let mut planned = Vec::new();
    for vnet in &model.vnets {
        let id = ids.of(&vnet.vni).map_err(PlanError::no_room("virtual network", "virtual_networks"))?;
        let entry = VnetEntry {
            vni: vnet.vni,
            probe_source_v4: Be32(raw(vnet.probe_source.ipv4.map(IpAddr::V4), hosts, image)?),
            probe_source_v6: raw(vnet.probe_source.ipv6.map(IpAddr::V6), hosts, image)?,
            flags: 0,
        };
        image.vnets.insert(id, entry);
        planned.push(id);
    }
    Ok(planned)
}

/// MTU of the underlay for a tunnel, and its next hop, as far as they are known; `None` = not heard of yet.
pub(super) fn way(environment: &Environment<'_>, remote: IpAddr) -> Option<(Option<NextHop>, u16)> {
    let (next_hop, route_mtu) = environment.next_hops.get(&remote)?;
    let mtu = next_hop.as_ref().map(|hop| hop.mtu).or(*route_mtu).unwrap_or(DEFAULT_MTU);
    Some((*next_hop, mtu))
}

/// MTU for a tunnel whose way is not known yet: what the maps say, else the usual one.
pub(super) fn known_inner_mtu(known: Option<&TunnelEntry>, overhead: u16) -> u16 {
    known.map_or(DEFAULT_MTU - overhead, |entry| entry.inner_mtu)
}
