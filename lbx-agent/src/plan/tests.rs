//! Plan → diff → apply over maps in plain memory: one pass converges, a second finds nothing, and at every
//! step between what is pointed at is there.

mod steering;
mod tunnels;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use lbx_common::{
    abi::{
        ENDPOINT_REMOVED, ENDPOINT_TAKES_NEW, Host, ListenerKey, ListenerValue, PeerKey, ReplyKey,
        ReplyValue, TUNNEL_SET, Words,
    },
    api::{
        AttachMode, Config, Encap, Endpoint, HealthState, Interface, Limits, Listen, Monitor, Node, Pool,
        Ports, ProbeSource, Protocol, Role, Service, Tunnel, TunnelSource, VirtualNetwork,
    },
    select::sequence,
};
use proptest::prelude::*;

use super::*;
use crate::{
    config::{
        self,
        model::{Model, TunnelPath},
    },
    dataplane::{FakeMemory, Image, Memory, NoCounters, Sizes, Step, apply, diff},
    net::next_hop::NextHop,
    steer::Steered,
};

mod changes;
mod drains;
mod failures;
mod order;
mod policies;
mod regions;
mod verdicts;
mod vips;

/// The time of every pass.
const NOW_NS: u64 = 1_000_000_000_000;

type NextHops = BTreeMap<IpAddr, (Option<NextHop>, Option<u16>)>;
type Verdicts = BTreeMap<(String, String), HealthState>;

/// An endpoint as drawn: its number in the pool, which network, weight, whether it is enabled and up.
type Drawn = (u8, u8, u8, bool, bool);

/// How packets are wrapped, and whether over IPv6.
type Outside = (Encap, bool);

/// What one pass is told.
#[derive(Debug, Clone)]
struct World {
    /// For each network: whether it is there, its encapsulation and family outside, and whether its gateway is
    /// resolved.
    vnets: Vec<(bool, Outside, bool)>,
    /// For each pool: its endpoints, whether it is monitored, whether a service uses it, and over IPv6.
    pools: Vec<(Vec<Drawn>, bool, bool, bool)>,
}

fn world() -> impl Strategy<Value = World> {
    let endpoint = (0_u8..8, 0_u8..3, 0_u8..=100, prop::bool::weighted(0.8), prop::bool::weighted(0.7));
    let pool =
        (prop::collection::vec(endpoint, 0..6), any::<bool>(), prop::bool::weighted(0.8), any::<bool>());
    let encaps = vec![Encap::Gre, Encap::GreUdp, Encap::Vxlan, Encap::Geneve];
    let outside = (prop::sample::select(encaps), any::<bool>());
    let vnets = prop::collection::vec((prop::bool::weighted(0.8), outside, any::<bool>()), 3);
    (vnets, prop::collection::vec(pool, 0..4)).prop_map(|(vnets, pools)| World { vnets, pools })
}

fn limits() -> Limits {
    Limits {
        listeners: 16,
        endpoints: 128,
        tunnels: 8,
        virtual_networks: 8,
        table_slots: 65_536,
        ..Limits::default()
    }
}

/// An address that ends with `last` in one of two networks.
fn address(v6: bool, [a, b, c]: [u8; 3], last: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, a.into(), b.into(), c.into(), 0, 0, last.into()).into()
    } else {
        Ipv4Addr::new(a, b, c, last).into()
    }
}

fn remote(vnet: u8, v6: bool) -> IpAddr {
    address(v6, [198, 51, 100], vnet + 1)
}

impl World {
    fn there(&self, vnet: u8) -> bool {
        self.vnets.get(usize::from(vnet)).is_some_and(|&(there, ..)| there)
    }

    fn model(&self) -> Model {
        config::validate(self.config()).unwrap()
    }

    fn config(&self) -> Config {
        let vnets = (0_u8..).zip(&self.vnets).filter(|(_, (there, ..))| *there);
        Config {
            node: Node {
                interfaces: vec![Interface {
                    name: "eth0".to_owned(),
                    role: Role::Both,
                    mode: AttachMode::Auto,
                }],
                tunnel_source: TunnelSource {
                    ipv4: Some(Ipv4Addr::new(192, 0, 2, 1)),
                    ipv6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
                },
                ..Node::default()
            },
            limits: limits(),
            virtual_networks: vnets.map(|(i, &(_, outside, _))| virtual_network(i, outside)).collect(),
            monitors: vec![Monitor::new("m".to_owned())],
            pools: (0_u8..).zip(&self.pools).map(|(i, pool)| self.pool(i, pool)).collect(),
            services: (0_u8..)
                .zip(&self.pools)
                .filter(|(_, (_, _, used, _))| *used)
                .map(|(i, &(_, _, _, v6))| service(i, v6))
                .collect(),
            ..Config::default()
        }
    }

    fn pool(&self, index: u8, (drawn, monitored, _, v6): &(Vec<Drawn>, bool, bool, bool)) -> Pool {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for &(number, vnet, weight, enabled, _) in drawn {
            let name = format!("e{number}");
            if self.there(vnet) && !endpoints.iter().any(|endpoint| endpoint.name == name) {
                // The same addresses in every network.
                let address = address(*v6, [10, 0, index], number + 1);
                endpoints.push(Endpoint {
                    port: Some(80),
                    weight: f64::from(weight) / 100.0,
                    enabled,
                    ..Endpoint::new(name, format!("v{vnet}"), address)
                });
            }
        }
        let monitor = monitored.then(|| "m".to_owned());
        Pool { monitor, endpoints, ..Pool::new(format!("p{index}")) }
    }

    fn verdicts(&self) -> Verdicts {
        let mut verdicts = Verdicts::new();
        for (i, (drawn, ..)) in self.pools.iter().enumerate() {
            for (number, _, _, _, up) in drawn {
                let state = if *up { HealthState::Healthy } else { HealthState::Unhealthy };
                verdicts.insert((format!("p{i}"), format!("e{number}")), state);
            }
        }
        verdicts
    }

    fn next_hops(&self) -> NextHops {
        let hop = |vnet: u8| NextHop {
            ifindex: 7,
            vlan: None,
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 1, vnet],
            mtu: 1500,
        };
        (0_u8..)
            .zip(&self.vnets)
            .map(|(i, &(_, (_, v6), resolved))| (remote(i, v6), (resolved.then(|| hop(i)), Some(1500))))
            .collect()
    }
}

fn virtual_network(i: u8, (encap, v6): Outside) -> VirtualNetwork {
    VirtualNetwork {
        name: format!("v{i}"),
        vni: 42 + u32::from(i),
        probe_source: ProbeSource {
            ipv4: Some(Ipv4Addr::new(10, 255, 0, i + 1)),
            ipv6: Some(Ipv6Addr::new(0xfd00, 0x255, 0, 0, 0, 0, 0, u16::from(i) + 1)),
        },
        tunnels: vec![Tunnel {
            name: "t".to_owned(),
            encap,
            inner: None,
            remote: remote(i, v6),
            port: None,
            mtu: None,
            inner_mac: None,
            enabled: true,
            monitor: None,
            probe_address: None,
            probe_port: None,
        }],
    }
}

fn service(i: u8, v6: bool) -> Service {
    let listen = vec![Listen { protocol: Protocol::Tcp, ports: Ports::One(80) }];
    Service::new(format!("s{i}"), address(v6, [203, 0, 113], i + 1), listen, vec![format!("p{i}")])
}

/// What a pass is told beside the model; by default, nothing but the time.
struct Facts<'a> {
    now_ns: u64,
    seed: [u64; 2],
    flows: FlowFacts,
    regions: u32,
    next_hops: NextHops,
    path_mtus: BTreeMap<TunnelPath, u16>,
    verdicts: Verdicts,
    tunnel_verdicts: Verdicts,
    steered: Steered,
    built: Built,
    observed: &'a Image,
}

impl<'a> Facts<'a> {
    fn over(observed: &'a Image) -> Self {
        Self {
            now_ns: NOW_NS,
            seed: [1, 2],
            flows: FlowFacts::default(),
            steered: Steered::default(),
            regions: 0,
            built: Built::default(),
            next_hops: NextHops::new(),
            path_mtus: BTreeMap::new(),
            verdicts: Verdicts::new(),
            tunnel_verdicts: Verdicts::new(),
            observed,
        }
    }

    /// With what a world says of endpoints and gateways.
    fn of(world: &World, observed: &'a Image) -> Self {
        Self { next_hops: world.next_hops(), verdicts: world.verdicts(), ..Self::over(observed) }
    }

    fn plan(&self, model: &Model) -> Image {
        let environment = Environment {
            now_ns: self.now_ns,
            regions: self.regions,
            flows: &self.flows,
            vlans: &BTreeMap::new(),
            node: NodeFacts { lbx0: (3, [2; 6]), lbx1: (4, [4; 6]), seed: self.seed, answer_interval: 1 },
            sizes: &Sizes::new(&model.limits),
            next_hops: &self.next_hops,
            path_mtus: &self.path_mtus,
            verdicts: &self.verdicts,
            tunnel_verdicts: &self.tunnel_verdicts,
            steered: &self.steered,
            built: &self.built,
        };
        plan(model, &environment, self.observed).unwrap()
    }
}

/// What a world makes of the maps as `observed`.
fn planned(world: &World, observed: &Image) -> Image {
    Facts::of(world, observed).plan(&world.model())
}

/// Fails where something is pointed at that is not there.
fn check_references(image: &Image) {
    let known = |host: Host| !host.v6 || image.addresses.values().any(|&id| id == host.raw);
    for (key, words) in &image.listeners {
        if let ListenerKey::Ports { vip, .. } | ListenerKey::Vip(vip) = *key {
            assert!(known(vip), "{key:?} names an address");
        }
        if matches!(key, ListenerKey::Vip(_)) {
            continue;
        }
        let target = ListenerValue::from_words(*words).target;
        let Some(table) = image.tables.get(&target.line()) else {
            assert_eq!(target.slots(), 0, "{key:?} points at a table");
            continue;
        };
        for id in table.iter() {
            let endpoint = image.endpoints.get(id);
            let endpoint = endpoint.unwrap_or_else(|| panic!("{key:?}: a slot names endpoint {id}"));
            for &tunnel in endpoint.tunnels.iter().take(usize::from(endpoint.tunnel_count)) {
                let entry = image.tunnels.get(&u32::from(tunnel));
                let entry = entry.unwrap_or_else(|| panic!("endpoint {id} names tunnel {tunnel}"));
                assert!(entry.flags & TUNNEL_SET != 0 && entry.vnet == endpoint.vnet);
            }
            let removed = endpoint.state & ENDPOINT_REMOVED != 0 && endpoint.tunnel_count == 0;
            assert!(removed || image.vnets.contains_key(&endpoint.vnet));
        }
    }
    for (key, words) in &image.replies {
        let (ReplyKey::Ports { address, .. } | ReplyKey::Origin { address, .. }) = *key;
        assert!(known(address), "{key:?} names an address");
        if let ReplyKey::Ports { .. } = key {
            let reply = ReplyValue::from_words(*words);
            assert!(image.endpoints.contains_key(&reply.endpoint), "{reply:?}");
            assert!(known(Host { v6: address.v6, raw: reply.vip }), "{reply:?} names a VIP");
        }
    }
    for key in image.peers.keys() {
        if let PeerKey::Peer { remote, .. } | PeerKey::ProbeSource { source: remote, .. } = *key {
            assert!(known(remote), "{key:?} names an address");
        }
    }
}

fn memory() -> FakeMemory {
    let sizes = Sizes::new(&limits());
    FakeMemory::new(|map| sizes.of(map))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn one_pass_converges_a_second_finds_nothing_and_nothing_dangles_between(
        worlds in prop::collection::vec(world(), 1..4),
    ) {
        let mut memory = memory();
        for world in worlds {
            let observed = Image::observe(&memory);
            let wanted = planned(&world, &observed);
            for step in diff(&observed, &wanted) {
                apply(&mut memory, &mut NoCounters, std::slice::from_ref(&step)).unwrap();
                check_references(&Image::observe(&memory));
            }
            let after = Image::observe(&memory);
            prop_assert_eq!(&after, &wanted);
            prop_assert_eq!(diff(&after, &planned(&world, &after)), Vec::<Step>::new());
        }
    }
}

/// The table that the only listener has now.
fn current_table(image: &Image) -> &[u16] {
    let mut ports = image.listeners.iter().filter(|(key, _)| matches!(key, ListenerKey::Ports { .. }));
    let target = ListenerValue::from_words(*ports.next().unwrap().1).target;
    &image.tables[&target.line()]
}

/// One pool with `count` endpoints in network 0, of which those in `down` are down.
fn pool_of(count: u8, down: &[u8]) -> World {
    let drawn = (0..count).map(|i| (i, 0, 100, true, !down.contains(&i))).collect();
    World { vnets: vec![(true, (Encap::Gre, false), true)], pools: vec![(drawn, true, true, false)] }
}
