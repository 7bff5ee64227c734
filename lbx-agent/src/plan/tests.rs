//! Plan → diff → apply over maps in plain memory: one pass converges, a second finds nothing, and at every
//! step between what is pointed at is there.

use std::{collections::BTreeMap, net::Ipv4Addr};

use lbx_common::{
    abi::{ENDPOINT_TAKES_NEW, TUNNEL_SET},
    api::{
        AttachMode, Config, Encap, Endpoint, Forwarding, HealthState, Interface, Limits, Listen, Monitor,
        MonitorKind, Node, Pool, ProbeSource, Protocol, Role, Service, Traffic, Tunnel, TunnelSource,
        VirtualNetwork,
    },
    select::sequence,
};
use proptest::prelude::*;

use super::*;
use crate::{
    config::{self, model::Model},
    dataplane::{Counters, CountersError, FakeMemory, Image, Memory, Sizes, Step, apply, diff},
    net::next_hop::NextHop,
};

type NextHops = BTreeMap<Ipv4Addr, (Option<NextHop>, Option<u16>)>;
type Verdicts = BTreeMap<(String, String), HealthState>;

/// Counters that nobody reads.
struct NoCounters;

impl Counters for NoCounters {
    fn listener(&self, _: u32) -> Result<Traffic, CountersError> {
        Ok(Traffic::default())
    }
    fn endpoint(&self, _: u32) -> Result<Traffic, CountersError> {
        Ok(Traffic::default())
    }
    fn drops(&self, _: u32, _: u8) -> Result<u64, CountersError> {
        Ok(0)
    }
    fn clear_listener(&mut self, _: u32) -> Result<(), CountersError> {
        Ok(())
    }
    fn clear_endpoint(&mut self, _: u32) -> Result<(), CountersError> {
        Ok(())
    }
    fn clear_drops(&mut self, _: u32) -> Result<(), CountersError> {
        Ok(())
    }
}

/// An endpoint as drawn: its number in the pool, which network, weight, whether it is enabled and up.
type Drawn = (u8, u8, u8, bool, bool);

/// What one pass is told.
#[derive(Debug, Clone)]
struct World {
    /// For each network: whether it is there, its encapsulation, and whether its gateway is resolved.
    vnets: Vec<(bool, bool, bool)>,
    /// For each pool: its endpoints, whether it is monitored, and whether a service uses it.
    pools: Vec<(Vec<Drawn>, bool, bool)>,
}

fn world() -> impl Strategy<Value = World> {
    let endpoint = (0_u8..8, 0_u8..3, 0_u8..=100, prop::bool::weighted(0.8), prop::bool::weighted(0.7));
    let pool = (prop::collection::vec(endpoint, 0..6), any::<bool>(), prop::bool::weighted(0.8));
    let vnets = prop::collection::vec((prop::bool::weighted(0.8), any::<bool>(), any::<bool>()), 3);
    (vnets, prop::collection::vec(pool, 0..4)).prop_map(|(vnets, pools)| World { vnets, pools })
}

fn limits() -> Limits {
    Limits { listeners: 16, endpoints: 64, tunnels: 8, virtual_networks: 8, table_slots: 65_536 }
}

fn remote(vnet: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, vnet + 1)
}

impl World {
    fn there(&self, vnet: u8) -> bool {
        self.vnets.get(usize::from(vnet)).is_some_and(|&(there, ..)| there)
    }

    fn model(&self) -> Model {
        let vnets = (0_u8..).zip(&self.vnets).filter(|(_, (there, ..))| *there);
        let config = Config {
            node: Node {
                interfaces: vec![Interface {
                    name: "eth0".to_owned(),
                    role: Role::Both,
                    mode: AttachMode::Auto,
                }],
                tunnel_source: TunnelSource { ipv4: Some(Ipv4Addr::new(192, 0, 2, 1)) },
                hash_seed: None,
            },
            limits: limits(),
            virtual_networks: vnets.map(|(i, &(_, vxlan, _))| virtual_network(i, vxlan)).collect(),
            monitors: vec![monitor()],
            pools: (0_u8..).zip(&self.pools).map(|(i, pool)| self.pool(i, pool)).collect(),
            services: (0_u8..)
                .zip(&self.pools)
                .filter(|(_, (_, _, used))| *used)
                .map(|(i, _)| service(i))
                .collect(),
            ..Config::default()
        };
        config::validate(config).unwrap()
    }

    fn pool(&self, index: u8, (drawn, monitored, _): &(Vec<Drawn>, bool, bool)) -> Pool {
        let mut endpoints: Vec<Endpoint> = Vec::new();
        for &(number, vnet, weight, enabled, _) in drawn {
            let name = format!("e{number}");
            if self.there(vnet) && !endpoints.iter().any(|endpoint| endpoint.name == name) {
                endpoints.push(Endpoint {
                    name,
                    virtual_network: format!("v{vnet}"),
                    // The same addresses in every network.
                    address: Ipv4Addr::new(10, 0, index, number + 1),
                    port: Some(80),
                    weight: f64::from(weight) / 100.0,
                    enabled,
                });
            }
        }
        let monitor = monitored.then(|| "m".to_owned());
        Pool { name: format!("p{index}"), monitor, table_size: None, endpoints }
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
            source_mac: [2, 0, 0, 0, 0, 1],
            destination_mac: [2, 0, 0, 0, 1, vnet],
            mtu: 1500,
        };
        (0_u8..)
            .zip(&self.vnets)
            .map(|(i, &(_, _, resolved))| (remote(i), (resolved.then(|| hop(i)), Some(1500))))
            .collect()
    }
}

fn virtual_network(i: u8, vxlan: bool) -> VirtualNetwork {
    VirtualNetwork {
        name: format!("v{i}"),
        vni: 42 + u32::from(i),
        probe_source: ProbeSource { ipv4: Some(Ipv4Addr::new(10, 255, 0, i + 1)) },
        tunnels: vec![Tunnel {
            name: "t".to_owned(),
            encap: if vxlan { Encap::Vxlan } else { Encap::Gre },
            remote: remote(i),
            port: None,
            mtu: None,
            inner_mac: None,
        }],
    }
}

fn monitor() -> Monitor {
    Monitor {
        name: "m".to_owned(),
        kind: MonitorKind::Tcp,
        interval: std::time::Duration::from_secs(1),
        timeout: std::time::Duration::from_millis(500),
        retries: 0,
        consecutive_up: 1,
        consecutive_down: 1,
    }
}

fn service(i: u8) -> Service {
    Service {
        name: format!("s{i}"),
        address: Ipv4Addr::new(203, 0, 113, i + 1),
        listen: vec![Listen { protocol: Protocol::Tcp, port: 80 }],
        forwarding: Forwarding::Nat,
        pools: vec![format!("p{i}")],
    }
}

/// What a world makes of the maps as `observed`.
fn planned(world: &World, observed: &Image) -> Image {
    let (model, next_hops, verdicts) = (world.model(), world.next_hops(), world.verdicts());
    let environment = Environment {
        node: NodeFacts { lbx0: (3, [2; 6]), lbx1: (4, [4; 6]), seed: [1, 2] },
        sizes: &Sizes::new(&limits()),
        next_hops: &next_hops,
        verdicts: &verdicts,
    };
    plan(&model, &environment, observed).unwrap()
}

/// Fails where something is pointed at that is not there.
fn check_references(image: &Image) {
    for (key, listener) in &image.listeners {
        let Some(table) = image.tables.get(&listener.target.line()) else {
            assert_eq!(listener.target.slots(), 0, "{key:?} points at a table");
            continue;
        };
        for id in table.iter() {
            let endpoint = image.endpoints.get(id);
            let endpoint = endpoint.unwrap_or_else(|| panic!("{key:?}: a slot names endpoint {id}"));
            let tunnel = image.tunnels.get(&u32::from(endpoint.tunnel));
            let tunnel = tunnel.unwrap_or_else(|| panic!("endpoint {id} names tunnel {}", endpoint.tunnel));
            assert!(tunnel.flags & TUNNEL_SET != 0 && tunnel.vnet == endpoint.vnet);
            assert!(image.vnets.contains_key(&endpoint.vnet));
        }
    }
    for reply in image.replies.values() {
        assert!(image.endpoints.contains_key(&reply.endpoint), "{reply:?}");
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

/// One pool with `count` endpoints in network 0, of which those in `down` are down.
fn pool_of(count: u8, down: &[u8]) -> World {
    let drawn = (0..count).map(|i| (i, 0, 100, true, !down.contains(&i))).collect();
    World { vnets: vec![(true, false, true)], pools: vec![(drawn, true, true)] }
}

#[test]
fn a_failure_writes_bits_and_no_table() {
    let mut memory = memory();
    for (count, down) in [(2, 1), (4, 3), (8, 0)] {
        let observed = Image::observe(&memory);
        let up = planned(&pool_of(count, &[]), &observed);
        apply(&mut memory, &mut NoCounters, &diff(&observed, &up)).unwrap();
        let before = memory.writes();
        let steps = diff(&up, &planned(&pool_of(count, &[down]), &up));
        assert!(matches!(steps.as_slice(), [Step::Endpoint(..)]), "{count} endpoints: {steps:?}");
        apply(&mut memory, &mut NoCounters, &steps).unwrap();
        assert_eq!(memory.writes() - before, 1, "one word");
    }
}

#[test]
fn with_more_than_half_down_every_slot_belongs_to_the_rest() {
    let observed = planned(&pool_of(5, &[]), &Image::default());
    let wanted = planned(&pool_of(5, &[0, 1, 2, 3]), &observed);
    let table = wanted.tables.values().next().unwrap();
    let owners: std::collections::BTreeSet<u16> = table.iter().copied().collect();
    let up: std::collections::BTreeSet<u16> = (wanted.endpoints.iter())
        .filter(|(_, entry)| entry.state & ENDPOINT_TAKES_NEW != 0)
        .map(|(&id, _)| id)
        .collect();
    assert_eq!((owners.len(), owners), (1, up));
    // All down: the table stays, so that recovery restores what was there.
    let all_down = planned(&pool_of(5, &[0, 1, 2, 3, 4]), &observed);
    assert_eq!(all_down.tables, observed.tables);
}

#[test]
fn no_slot_is_left_without_an_owner_at_exactly_half() {
    let all_up = planned(&pool_of(12, &[]), &Image::default());
    let mut built_anew = 0;
    for pattern in (0_u16..1 << 12).filter(|pattern| pattern.count_ones() == 6) {
        let down: Vec<u8> = (0..12).filter(|i| pattern & (1 << i) != 0).collect();
        let wanted = planned(&pool_of(12, &down), &all_up);
        let takes_new = |id: &u16| wanted.endpoints[id].state & ENDPOINT_TAKES_NEW != 0;
        let table = wanted.tables.values().next().unwrap();
        let slots = u32::try_from(table.len()).unwrap();
        for slot in 0..slots {
            let mut owners = sequence(slot, slots).map(|at| table[at as usize]);
            assert!(owners.any(|id| takes_new(&id)), "slot {slot} with {down:?} down");
        }
        built_anew += usize::from(wanted.tables != all_up.tables);
    }
    // In 924 ways to lose half, a slot's 17 candidates are all down about 14 times: 924 × 2039 × 2^-17.
    assert!((1..=40).contains(&built_anew), "{built_anew} tables were built anew");
}
