//! Answers about counters and the agent itself; those about health and flows stand beside.

mod flows;
mod health;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use lbx_common::{
    abi::{
        ABI_VERSION, EndpointEntry, Host, MAX_REASONS, PINS_PER_BUCKET, PeerKey, TRACKING_CLOSING,
        TRACKING_OPEN, TUNNEL_RESOLVED, TrackingEntry, TunnelEntry, map_name,
    },
    api::{
        AttachMode, ChangeState, DropCount, EndpointStats, FlowCount, Interface, InterfaceStatus, LinkState,
        MapFill, NextHopStatus, Prefix, ServiceStats, StatsReport, StatusReport, TableChange, Traffic,
        TunnelStats, TunnelStatus,
    },
    reason::DropReason,
    track::Event,
};

use nix::net::if_::if_indextoname;

pub(super) use self::health::{address_of, secs_left, shown_address};
use super::{Reconciler, now_ns, sweep::Found};
use crate::{
    config::model::{Service, Tunnel, Vnet},
    dataplane::{Counters, CountersError, Image, MapId, Memory, Owner, Sizes, Waiting, lines_for},
    net::ethtool,
    plan::{
        ListenerIdentity, Reach, address_in, known_host, known_tunnel, known_tunnel_id, listener_identity,
        listener_ids,
    },
};

impl Reconciler {
    /// Names of the virtual networks by their id in the maps.
    pub(super) fn vnet_names(&self, image: &Image) -> BTreeMap<u32, &str> {
        let names: BTreeMap<u32, &str> =
            self.model.vnets.iter().map(|vnet| (vnet.vni, vnet.name.as_str())).collect();
        image.vnets.iter().filter_map(|(&id, entry)| Some((id, *names.get(&entry.vni)?))).collect()
    }

    pub(super) fn vnet_name(&self, index: usize) -> String {
        self.model.vnets.get(index).map(|vnet| vnet.name.clone()).unwrap_or_default()
    }

    pub(super) fn stats_report(&self) -> StatsReport {
        self.read_counters().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot read the counters");
            StatsReport::default()
        })
    }

    fn read_counters(&self) -> Result<StatsReport, CountersError> {
        let image = &self.image;
        let listeners = listener_ids(image);
        let mut report = StatsReport::default();
        for service in &self.model.services {
            let traffic = self.service_traffic(service, known_host(service.address, image), &listeners)?;
            report.services.push(ServiceStats { service: service.name.clone(), traffic });
        }
        for pool in &self.model.pools {
            for endpoint in &pool.endpoints {
                let id = self.ids.get(&(pool.name.clone(), endpoint.name.clone()));
                let traffic = id.map(|&id| self.kernel.counters.traffic(Owner::Endpoint(id))).transpose()?;
                report.endpoints.push(EndpointStats {
                    pool: pool.name.clone(),
                    endpoint: endpoint.name.clone(),
                    virtual_network: self.vnet_name(endpoint.vnet),
                    traffic: traffic.unwrap_or_default(),
                });
            }
        }
        for (vnet, tunnel) in self.configured_tunnels() {
            let id = known_tunnel_id(vnet, tunnel, image);
            let traffic = id.map(|id| self.kernel.counters.traffic(Owner::Tunnel(id))).transpose()?;
            report.tunnels.push(TunnelStats {
                virtual_network: vnet.name.clone(),
                tunnel: tunnel.name.clone(),
                traffic: traffic.unwrap_or_default(),
            });
        }
        let names = self.vnet_names(image);
        for id in [0].into_iter().chain(image.vnets.keys().copied()) {
            let name = names.get(&id).copied();
            for number in 0..MAX_REASONS {
                let packets = self.kernel.counters.drops(id, number)?;
                if packets > 0 {
                    let virtual_network = name.map(str::to_owned);
                    report.drops.push(DropCount { virtual_network, reason: reason_name(number), packets });
                }
            }
        }
        for event in Event::ALL {
            let count = self.kernel.counters.flows(event)?;
            report.flows.push(FlowCount { event: event.as_str().to_owned(), count });
        }
        Ok(report)
    }

    fn service_traffic(
        &self,
        service: &Service,
        vip: Option<Host>,
        listeners: &BTreeMap<ListenerIdentity, u32>,
    ) -> Result<Traffic, CountersError> {
        let mut sum = Traffic::default();
        let Some(vip) = vip else { return Ok(sum) };
        for listen in &service.listen {
            let Some(&id) = listeners.get(&listener_identity(vip, *listen)) else {
                continue;
            };
            sum += self.kernel.counters.traffic(Owner::Listener(id))?;
        }
        Ok(sum)
    }

    pub(super) async fn status_report(&self) -> StatusReport {
        let mut interfaces = Vec::new();
        for interface in &self.model.interfaces {
            let (link, mode) = self.kernel.link(&interface.name).await;
            let waiting = self.kernel.attachments.waiting(&interface.name);
            interfaces.push(InterfaceStatus {
                name: interface.name.clone(),
                role: interface.role,
                link,
                mode,
                warnings: warnings(interface, link, mode, waiting),
            });
        }
        StatusReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi_version: ABI_VERSION,
            pid: std::process::id(),
            uptime_secs: self.started.elapsed().as_secs(),
            store: self.store.describe(),
            revision: self.revision,
            adopted: self.kernel.adopted,
            map_writes: self.kernel.memory.writes(),
            interfaces,
            tunnels: self.tunnels(&self.image),
            maps: fill(&self.image, &self.sweeper.found, &Sizes::new(&self.model.limits)),
            changes: self.changes(&self.image),
            regions: self.regions_status(),
        }
    }

    /// Services whose lookup table is being changed, as the API has them.
    fn changes(&self, image: &Image) -> Vec<TableChange> {
        let now_ns = now_ns();
        let secs = |nanoseconds: u64| Duration::from_nanos(nanoseconds).as_secs();
        let change = |(service, state, entry): (&Service, ChangeState, TrackingEntry)| TableChange {
            service: service.name.clone(),
            state,
            since_secs: secs(now_ns.saturating_sub(entry.opened_ns)),
            closes_in_secs: (state == ChangeState::Open)
                .then(|| secs(entry.deadline_ns.saturating_sub(now_ns))),
        };
        self.table_changes(image).into_iter().map(change).collect()
    }

    /// Services whose lookup table is being changed.
    pub(super) fn table_changes(&self, image: &Image) -> Vec<(&Service, ChangeState, TrackingEntry)> {
        let state = |entry: &TrackingEntry| {
            if entry.flags & TRACKING_OPEN != 0 {
                Some(ChangeState::Open)
            } else {
                (entry.flags & TRACKING_CLOSING != 0).then_some(ChangeState::Closing)
            }
        };
        if image.tracking.values().all(|entry| state(entry).is_none()) {
            return Vec::new();
        }
        let reach = Reach::new(&self.model, image);
        let change = |(service, listeners): (_, &[u32])| {
            let entries = reach.tracked(listeners).filter_map(|id| image.tracking.get(&id));
            let under_way = entries.filter_map(|entry| Some((state(entry)?, *entry)));
            // All listeners of a service change at once; one that came later has nothing under way.
            let (state, entry) = under_way.min_by_key(|&(state, _)| state)?;
            Some((service, state, entry))
        };
        reach.of_services(&self.model).filter_map(change).collect()
    }

    /// All tunnels, each with its network.
    pub(super) fn configured_tunnels(&self) -> impl Iterator<Item = (&Vnet, &Tunnel)> {
        self.model.vnets.iter().flat_map(|vnet| vnet.tunnels.iter().map(move |one| (vnet, one)))
    }

    fn tunnels(&self, image: &Image) -> Vec<TunnelStatus> {
        self.configured_tunnels()
            .map(|(vnet, tunnel)| {
                let entry = known_tunnel(vnet, tunnel, image);
                TunnelStatus {
                    virtual_network: vnet.name.clone(),
                    tunnel: tunnel.name.clone(),
                    encap: tunnel.encap,
                    remote: tunnel.remote.to_string(),
                    inner_mtu: entry.map(|entry| entry.inner_mtu).unwrap_or_default(),
                    path_mtu: self.path_mtus.status(tunnel.path(vnet.vni), Instant::now()),
                    next_hop: entry.and_then(next_hop),
                }
            })
            .collect()
    }
}

/// What a user should know about how an interface is attached.
fn warnings(
    interface: &Interface,
    link: LinkState,
    mode: Option<AttachMode>,
    waiting: Option<&Waiting>,
) -> Vec<String> {
    let name = &interface.name;
    let mut warnings = Vec::new();
    if let Some(Waiting::Refused(reason)) = waiting {
        warnings.push(reason.clone());
    }
    if link == LinkState::Missing {
        warnings.push("there is no interface of that name: it is attached when it appears".to_owned());
        return warnings;
    }
    match (mode, interface.mode) {
        (None, _) => warnings.push("no XDP program is attached".to_owned()),
        (Some(AttachMode::Generic), wanted) => {
            warnings.push(match wanted {
                AttachMode::Native => {
                    "attached in generic mode by an earlier agent: `lbx-agent detach` and a \
                                       start attach in native mode"
                        .to_owned()
                }
                AttachMode::Auto | AttachMode::Generic => "generic mode is slow".to_owned(),
            });
            if ethtool::is_on(name, &ethtool::GRO) {
                warnings.push(format!(
                    "GRO merges segments beyond the MTU before lbx sees them, which it then drops: `ethtool -K \
                     {name} gro off`"
                ));
            }
        }
        (Some(AttachMode::Native | AttachMode::Auto), _) => {}
    }
    if link == LinkState::Down {
        warnings.push(format!("it is down: `ip link set {name} up`"));
    }
    if ethtool::has_lro(name) {
        warnings.push(format!("LRO merges packets before lbx sees them: `ethtool -K {name} lro off`"));
    }
    warnings
}

fn next_hop(entry: &TunnelEntry) -> Option<NextHopStatus> {
    let [first, ..] = entry.head;
    let [mac @ .., _, _] = first.to_ne_bytes();
    (entry.flags & TUNNEL_RESOLVED != 0).then(|| NextHopStatus {
        interface: if_indextoname(entry.ifindex)
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_else(|| entry.ifindex.to_string()),
        mac: mac.map(|byte| format!("{byte:02x}")).join(":"),
    })
}

/// Address and port of an endpoint's entry; port 0 where the client's is kept.
fn endpoint_address(entry: &EndpointEntry) -> SocketAddr {
    SocketAddr::new(address_in(&entry.address), entry.port.to_host())
}

fn reason_name(number: u8) -> String {
    let known = DropReason::ALL.iter().find(|reason| **reason as u8 == number);
    known.map_or_else(|| number.to_string(), |reason| reason.as_str().to_owned())
}

fn fill(image: &Image, pins: &Found, sizes: &Sizes) -> Vec<MapFill> {
    let named = |name: &str, used: usize, capacity: u32| MapFill {
        map: name.to_lowercase(),
        used: used as u64,
        capacity: u64::from(capacity),
    };
    // Bucket maps hold two entries a bucket; by plan half of them stay free.
    let entry = |map: MapId, used, capacity| named(map.name(), used, capacity);
    let prefixes = image.prefixes.values().flat_map(|list| list.keys());
    let (v4, v6): (Vec<&Prefix>, Vec<_>) = prefixes.partition(|prefix| prefix.address().is_ipv4());
    let lists = |name, used| named(name, used, sizes.of_name(name));
    let lines: u32 =
        image.tables.values().map(|slots| lines_for(u32::try_from(slots.len()).unwrap_or(0))).sum();
    let tunnels = image.peers.keys().filter(|key| matches!(key, PeerKey::Peer { .. })).count();
    vec![
        entry(MapId::Listeners, image.listeners.len(), sizes.of(MapId::Listeners)),
        entry(MapId::Replies, image.replies.len(), sizes.of(MapId::Replies)),
        entry(MapId::Peers, image.peers.len(), sizes.of(MapId::Peers)),
        entry(MapId::Slots, lines as usize, sizes.of(MapId::Slots)),
        entry(MapId::Addresses, image.addresses.len(), sizes.of(MapId::Addresses).saturating_sub(1)),
        entry(MapId::Endpoints, image.endpoints.len(), sizes.of(MapId::Endpoints).saturating_sub(1)),
        entry(MapId::Tunnels, tunnels, sizes.of(MapId::Tunnels).saturating_sub(1)),
        entry(MapId::Vnets, image.vnets.len(), sizes.of(MapId::Vnets).saturating_sub(1)),
        lists(map_name::PREFIXES_V4, v4.len()),
        lists(map_name::PREFIXES_V6, v6.len()),
        entry(MapId::PinsTcp, pins.tcp, sizes.of(MapId::PinsTcp).saturating_mul(PINS_PER_BUCKET)),
        entry(MapId::PinsUdp, pins.udp, sizes.of(MapId::PinsUdp).saturating_mul(PINS_PER_BUCKET)),
    ]
}
