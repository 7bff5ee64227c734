//! Plans tunnels, the peers that may send through them, and the probe sources.

use std::net::IpAddr;

use lbx_common::{
    abi::{Host, PROBE_PLACES, PeerKey, PeerValue, TUNNEL_DOWN, TUNNEL_RESOLVED, TunnelEntry},
    api::{self, Family, HealthState},
    bytes::Be16,
    encap::{self, Encap, Ends, TunnelSpec, Way},
};

use super::{
    hosts::{Hosts, entry_address, known_host},
    ids::Ids,
    planner::{Environment, PlanError, known_inner_mtu, way},
};
use crate::{
    config::model::{Model, Tunnel, Vnet},
    dataplane::{Image, MapId},
};

/// What makes a tunnel the same one: everything in its headers but the next hop.
type TunnelIdentity = (u32, u8, [u64; 12]);

fn identity_of(entry: &TunnelEntry) -> TunnelIdentity {
    let mut head = entry.head;
    // The first twelve bytes are the MACs of the next hop.
    let [first, second, ..] = &mut head;
    *first = 0;
    let [_, _, _, _, a, b, c, d] = second.to_ne_bytes();
    *second = u64::from_ne_bytes([0, 0, 0, 0, a, b, c, d]);
    (entry.vnet, entry.encap, head)
}

/// Plans the tunnels of each network. Returns their ids in the order of the model; a disabled one has none.
pub fn plan_tunnels(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    vnets: &[u32],
    hosts: &mut Hosts,
    image: &mut Image,
) -> Result<Vec<Vec<Option<u32>>>, PlanError> {
    let capacity = environment.sizes.of(MapId::Tunnels).saturating_sub(1);
    let mut ids = Ids::new(observed.tunnels.iter().map(|(&id, entry)| (identity_of(entry), id)), capacity);
    let mut planned = Vec::new();
    for (vnet, &vnet_id) in model.vnets.iter().zip(vnets) {
        let mut of_vnet = Vec::new();
        for tunnel in &vnet.tunnels {
            if !tunnel.enabled {
                of_vnet.push(None);
                continue;
            }
            let remote = hosts.of(tunnel.remote, image)?;
            let Some(spec) = spec(model, tunnel, remote, vnet.vni, vnet_id) else {
                of_vnet.push(None);
                continue;
            };
            let id = ids
                .of(&identity_of(&encap::build(&spec)))
                .map_err(PlanError::no_room("tunnel", "tunnels"))?;
            let known = observed.tunnels.get(&id);
            let mut entry = entry(tunnel, &spec, environment, known);
            entry.flags &= !TUNNEL_DOWN;
            if is_down(vnet, tunnel, environment, known) {
                entry.flags |= TUNNEL_DOWN;
            }
            image.tunnels.insert(id, entry);
            plan_peer(&spec, id, image);
            of_vnet.push(Some(id));
        }
        plan_probe_sources(vnet, vnet_id, &of_vnet, hosts, image)?;
        planned.push(of_vnet);
    }
    Ok(planned)
}

/// `None` where there is no tunnel source of the family; the validator sees to it that there is.
fn spec(model: &Model, tunnel: &Tunnel, remote: Host, vni: u32, vnet: u32) -> Option<TunnelSpec> {
    let ends = match tunnel.remote {
        IpAddr::V4(remote) => {
            let local = IpAddr::V4(model.tunnel_source.ipv4?);
            Ends::V4(entry_address(local).v4(), entry_address(remote.into()).v4())
        }
        IpAddr::V6(remote) => {
            let local = IpAddr::V6(model.tunnel_source.ipv6?);
            Ends::V6(entry_address(local), entry_address(remote.into()))
        }
    };
    Some(TunnelSpec {
        encap: encap_of(tunnel),
        ends,
        remote,
        vni,
        port: Be16::new(tunnel.port),
        inner_mac: tunnel.inner_mac,
        vnet,
        inner_mtu: 0,
        way: None,
    })
}

const fn encap_of(tunnel: &Tunnel) -> Encap {
    match tunnel.encap {
        api::Encap::Gre => Encap::Gre,
        api::Encap::GreUdp => Encap::GreUdp,
        api::Encap::Vxlan => Encap::Vxlan,
        api::Encap::Geneve if tunnel.ethernet => Encap::GeneveEthernet,
        api::Encap::Geneve => Encap::Geneve,
    }
}

/// The entry of a tunnel in an image.
pub fn known_tunnel<'a>(vnet: &Vnet, tunnel: &Tunnel, image: &'a Image) -> Option<&'a TunnelEntry> {
    image.tunnels.get(&known_tunnel_id(vnet, tunnel, image)?)
}

/// The id of a tunnel in an image.
pub fn known_tunnel_id(vnet: &Vnet, tunnel: &Tunnel, image: &Image) -> Option<u32> {
    let encap = encap_of(tunnel);
    let remote = known_host(tunnel.remote, image)?;
    let port = Be16::new(if encap.is_udp() { tunnel.port } else { 0 });
    let key = PeerKey::Peer { remote, encap: encap.number(), port, vni: vnet.vni };
    Some(image.peers.get(&key)?.tunnel)
}

/// The entry with next hop and MTU: of the route where it is known, else as they stand in the map.
fn entry(
    tunnel: &Tunnel,
    spec: &TunnelSpec,
    environment: &Environment<'_>,
    known: Option<&TunnelEntry>,
) -> TunnelEntry {
    let overhead = spec.encap.overhead(tunnel.remote.is_ipv6());
    let configured = tunnel.mtu.map(|mtu| mtu.saturating_sub(overhead));
    let Some((next_hop, mtu)) = way(environment, tunnel.remote) else {
        let inner_mtu = configured.unwrap_or_else(|| known_inner_mtu(known, overhead));
        return match known {
            Some(known) if known.flags & TUNNEL_RESOLVED != 0 => TunnelEntry { inner_mtu, ..*known },
            _ => encap::build(&TunnelSpec { inner_mtu, ..*spec }),
        };
    };
    // A larger packet than the device takes would be lost without a word, and one that the path does not take comes
    // back as a complaint.
    let path = environment.path_mtus.get(&tunnel.path(spec.vni)).copied();
    let largest = path.map_or(mtu, |path| path.min(mtu)).saturating_sub(overhead);
    let inner_mtu = configured.map_or(largest, |configured| configured.min(largest));
    let way = next_hop.map(|hop| Way {
        ifindex: hop.ifindex,
        vlan: hop.vlan.unwrap_or(0),
        source_mac: hop.source_mac,
        destination_mac: hop.destination_mac,
    });
    encap::build(&TunnelSpec { inner_mtu, way, ..*spec })
}

/// The verdict where there is one, else what the kernel knows; a new tunnel is used until a probe speaks against
/// it.
fn is_down(vnet: &Vnet, tunnel: &Tunnel, environment: &Environment<'_>, known: Option<&TunnelEntry>) -> bool {
    if tunnel.probe.is_none() {
        return false;
    }
    match environment.tunnel_verdicts.get(&(vnet.name.clone(), tunnel.name.clone())) {
        Some(HealthState::Unhealthy) => true,
        Some(HealthState::Healthy) => false,
        Some(HealthState::Unknown | HealthState::Disabled) | None => {
            known.is_some_and(|entry| entry.flags & TUNNEL_DOWN != 0)
        }
    }
}

/// Who may send through the tunnel, and by what its packets are known as ours.
fn plan_peer(spec: &TunnelSpec, tunnel: u32, image: &mut Image) {
    let (remote, encap, vni) = (spec.remote, spec.encap.number(), spec.vni);
    let port = if spec.encap.is_udp() { spec.port } else { Be16(0) };
    let value = PeerValue { vnet: spec.vnet, tunnel, flags: 0 };
    image.peers.insert(PeerKey::Peer { remote, encap, port, vni }, value);
    image.peers.insert(PeerKey::KnownVni { encap, port, vni }, PeerValue { tunnel: 0, ..value });
    image.peers.insert(PeerKey::KnownRemote { remote, encap, port }, PeerValue::default());
    if spec.encap.is_udp() {
        // Both forms of Geneve come to the same port; the packet says which it is.
        let carried = if spec.encap == Encap::GeneveEthernet { Encap::Geneve } else { spec.encap };
        let value = PeerValue { vnet: u32::from(carried.number()), ..PeerValue::default() };
        image.peers.insert(PeerKey::UdpPort(port), value);
    }
}

/// Health checks leave by the tunnel that they name, by its place in the network. What names none that is on goes
/// by the first one.
fn plan_probe_sources(
    vnet: &Vnet,
    vnet_id: u32,
    tunnels: &[Option<u32>],
    hosts: &mut Hosts,
    image: &mut Image,
) -> Result<(), PlanError> {
    let Some(first) = tunnels.iter().flatten().next().copied() else { return Ok(()) };
    for source in Family::ALL.into_iter().filter_map(|family| vnet.probe_source.of(family)) {
        let source = hosts.of(source, image)?;
        for (place, tunnel) in (0..PROBE_PLACES).zip(tunnels) {
            let tunnel = if place == 0 { tunnel.or(Some(first)) } else { *tunnel };
            let Some(tunnel) = tunnel else { continue };
            let value = PeerValue { vnet: vnet_id, tunnel, flags: 0 };
            image.peers.insert(PeerKey::ProbeSource { source, place }, value);
        }
    }
    Ok(())
}
