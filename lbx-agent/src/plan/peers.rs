//! Plans tunnels, the peers that may send through them, and the probe sources.

use std::collections::BTreeMap;

use lbx_common::{
    abi::{PeerKey, PeerValue, TUNNEL_RESOLVED, TunnelEntry},
    api,
    bytes::{Be16, Be32},
    encap::{self, Encap, TunnelSpec},
};

use super::{
    ids::Ids,
    planner::{Environment, PlanError, be32, known_inner_mtu, way},
};
use crate::{
    config::model::{Model, Tunnel},
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

/// Plans the tunnel of each network. Returns the ids in the order of the model's networks.
pub fn plan_tunnels(
    model: &Model,
    environment: &Environment<'_>,
    observed: &Image,
    vnets: &[u32],
    image: &mut Image,
) -> Result<Vec<Option<u32>>, PlanError> {
    let capacity = environment.sizes.of(MapId::Tunnels).saturating_sub(1);
    let mut ids = Ids::new(observed.tunnels.iter().map(|(&id, entry)| (identity_of(entry), id)), capacity);
    let mut planned = Vec::new();
    for (vnet, &vnet_id) in model.vnets.iter().zip(vnets) {
        let (Some(tunnel), Some(source)) = (&vnet.tunnel, model.tunnel_source) else {
            planned.push(None);
            continue;
        };
        let spec = spec(tunnel, be32(source), vnet.vni, vnet_id);
        let bare = encap::build(&spec);
        let id = ids.of(&identity_of(&bare)).map_err(PlanError::no_room("tunnel", "tunnels"))?;
        image.tunnels.insert(id, entry(tunnel, &spec, environment, observed.tunnels.get(&id)));
        plan_peer(&spec, id, image);
        if let Some(source) = vnet.probe_source {
            let value = PeerValue { vnet: vnet_id, tunnel: id, flags: 0 };
            image.peers.insert(PeerKey::ProbeSource(be32(source)), value);
        }
        planned.push(Some(id));
    }
    Ok(planned)
}

fn spec(tunnel: &Tunnel, local: Be32, vni: u32, vnet: u32) -> TunnelSpec {
    TunnelSpec {
        encap: match tunnel.encap {
            api::Encap::Gre => Encap::Gre,
            api::Encap::Vxlan => Encap::Vxlan,
        },
        local,
        remote: be32(tunnel.remote),
        vni,
        port: Be16::new(tunnel.port),
        inner_mac: tunnel.inner_mac,
        vnet,
        inner_mtu: 0,
        next_hop: None,
    }
}

/// The entry with next hop and MTU: of the route where it is known, else as they stand in the map.
fn entry(
    tunnel: &Tunnel,
    spec: &TunnelSpec,
    environment: &Environment<'_>,
    known: Option<&TunnelEntry>,
) -> TunnelEntry {
    let overhead = spec.encap.overhead();
    let configured = tunnel.mtu.map(|mtu| mtu.saturating_sub(overhead));
    let Some((next_hop, mtu)) = way(environment, tunnel.remote) else {
        let inner_mtu = configured.unwrap_or_else(|| known_inner_mtu(known, overhead));
        return match known {
            Some(known) if known.flags & TUNNEL_RESOLVED != 0 => TunnelEntry { inner_mtu, ..*known },
            _ => encap::build(&TunnelSpec { inner_mtu, ..*spec }),
        };
    };
    // A larger packet than the device takes would be lost without a word.
    let largest = mtu.saturating_sub(overhead);
    let inner_mtu = configured.map_or(largest, |configured| configured.min(largest));
    let next_hop = next_hop.map(|hop| (hop.ifindex, hop.source_mac, hop.destination_mac));
    encap::build(&TunnelSpec { inner_mtu, next_hop, ..*spec })
}

/// Who may send through the tunnel, and by what its packets are known as ours.
fn plan_peer(spec: &TunnelSpec, tunnel: u32, image: &mut Image) {
    let (remote, encap, vni) = (spec.remote, spec.encap.number(), spec.vni);
    let port = match spec.encap {
        Encap::Gre => Be16(0),
        Encap::Vxlan => spec.port,
    };
    let value = PeerValue { vnet: spec.vnet, tunnel, flags: 0 };
    let peers: &mut BTreeMap<PeerKey, PeerValue> = &mut image.peers;
    peers.insert(PeerKey::Peer { remote, encap, port, vni }, value);
    peers.insert(PeerKey::KnownVni { encap, port, vni }, PeerValue { tunnel: 0, ..value });
    peers.insert(PeerKey::KnownRemote { remote, encap, port }, PeerValue::default());
}
