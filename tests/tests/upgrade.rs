//! An agent whose maps have another layout or size than those in use: it makes its own beside them, and no connection
//! notices.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use aya::maps::MapData;
use lbx_agent::dataplane::{MapId, Region};
use lbx_common::{
    abi::{ABI_VERSION, NodeEntry, Words, map_name},
    api::{ChangeState, Config, ConnectionTracking},
};
use lbx_tests::{
    agent::{Agent, start_healthy},
    client::Client,
    config,
    crowd::Crowd,
    topology::{EAST, Topology, WEST},
};
use nix::sys::mman::ProtFlags;

const PATIENCE: Duration = Duration::from_secs(20);
const STALL: Duration = Duration::from_secs(1);
const CONNECTIONS: usize = 30;

/// West's flows all have pins.
fn config() -> Config {
    let mut config = config::whole();
    let west = config.services.iter_mut().find(|service| service.name == WEST.name).unwrap();
    west.connection_tracking = ConnectionTracking::Always;
    config
}

/// Connections to both networks, some of which have pins: east's table is being changed.
fn crowds(client: &Client, agent: &Agent, config: &mut Config) -> [Crowd; 2] {
    let mut crowds = [EAST, WEST].map(|plan| Crowd::gather(client, plan, CONNECTIONS).unwrap());
    config::set_weights(config, EAST.name, [1.0, 0.2]);
    agent.change(config, PATIENCE).unwrap();
    crowds[0].open_idle(client, EAST, CONNECTIONS).unwrap();
    crowds
}

fn pins(agent: &Agent) -> BTreeSet<(SocketAddr, SocketAddr)> {
    let report = agent.flows("limit=10000").unwrap();
    report.flows.into_iter().map(|flow| (flow.client, flow.address)).collect()
}

/// What an upgrade must leave alone.
struct Seen {
    pins: BTreeSet<(SocketAddr, SocketAddr)>,
    in_packets: u64,
    pinned: u64,
    closes_in_secs: u64,
}

impl Seen {
    fn of(agent: &Agent) -> Self {
        let stats = agent.stats().unwrap();
        let changes = agent.status().unwrap().changes;
        let change = changes.iter().find(|change| change.service == EAST.name).unwrap();
        assert_eq!(change.state, ChangeState::Open);
        Self {
            pins: pins(agent),
            in_packets: stats.services.iter().map(|service| service.traffic.in_packets).sum(),
            pinned: stats.flows.iter().find(|flow| flow.event == "pinned").unwrap().count,
            closes_in_secs: change.closes_in_secs.unwrap(),
        }
    }
}

fn check(topology: &Topology, agent: &Agent, mut config: Config, replace: impl FnOnce(&Agent, &mut Config)) {
    let client = topology.client();
    let mut crowds = crowds(&client, agent, &mut config);
    let before = Seen::of(agent);
    assert!(before.pins.len() > 2 * CONNECTIONS, "{} pins", before.pins.len());
    let began = Instant::now();
    replace(agent, &mut config);
    for crowd in &mut crowds {
        crowd.go_on().unwrap();
        crowd.wake("the maps were made anew").unwrap();
    }
    agent.wait_until_healthy(PATIENCE).unwrap();
    let after = Seen::of(agent);
    assert!(agent.log().contains("flows carried over"), "{}", agent.log());
    assert!(agent.status().unwrap().adopted);
    assert!(after.pins.is_superset(&before.pins), "{:?}, then {:?}", before.pins, after.pins);
    assert!(after.in_packets > before.in_packets && after.pinned >= before.pinned);
    let passed = began.elapsed().as_secs() + 1;
    let left = before.closes_in_secs - passed..=before.closes_in_secs;
    assert!(left.contains(&after.closes_in_secs), "the change began anew");
    // What begins now survives the next change, and another agent finds nothing to make anew.
    crowds[0].open_idle(&client, EAST, CONNECTIONS).unwrap();
    config::set_weights(&mut config, EAST.name, [0.2, 1.0]);
    agent.change(&config, PATIENCE).unwrap();
    agent.kill().unwrap();
    agent.start().unwrap();
    assert_eq!(agent.log().matches("flows carried over").count(), 1);
    for mut crowd in crowds {
        crowd.go_on().unwrap();
        crowd.wake("another start").unwrap();
        let longest = crowd.disperse().unwrap();
        assert!(longest < STALL, "a request took {longest:?}");
    }
    let folders: BTreeSet<String> = fs::read_dir(agent.bpffs())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(folders, BTreeSet::from(["links".to_owned(), "maps".to_owned()]));
}

#[test]
fn larger_limits_are_taken_on_by_a_start() {
    let (topology, agent) = start_healthy(&config()).unwrap();
    check(&topology, &agent, config(), |agent, config| {
        agent.terminate().unwrap();
        config.limits.pins *= 2;
        config.limits.listeners *= 2;
        config.limits.endpoints += 1;
        config.limits.tunnels += 7;
        agent.write_config(config).unwrap();
        agent.start().unwrap();
    });
}

/// From an older layout, which lacks some maps.
fn from_layout(abi: u32, lacks: &[&str]) {
    let (topology, agent) = start_healthy(&config()).unwrap();
    check(&topology, &agent, config(), |agent, _| {
        agent.kill().unwrap();
        set_abi(agent, abi);
        for map in lacks {
            fs::remove_file(agent.bpffs().join("maps").join(map)).unwrap();
        }
        agent.start().unwrap();
    });
}

#[test]
fn maps_of_the_layout_before_are_carried_over() {
    from_layout(ABI_VERSION - 1, &[map_name::TUNNEL_TRAFFIC]);
}

#[test]
fn maps_of_older_layouts_are_carried_over() {
    from_layout(4, &[map_name::TUNNEL_TRAFFIC, map_name::REGIONS_V4, map_name::REGIONS_V6]);
}

#[test]
fn a_layout_that_nobody_knows_and_smaller_limits_are_refused_and_nothing_stops() {
    let (topology, agent) = start_healthy(&config()).unwrap();
    agent.kill().unwrap();
    set_abi(&agent, ABI_VERSION + 1);
    let refused = agent.run_to_end().unwrap();
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("lbx-agent detach"), "{}", refused.stderr);
    topology.client().http_get(EAST.vip, 0).unwrap();
    set_abi(&agent, ABI_VERSION);
    let mut smaller = config();
    smaller.limits.endpoints -= 1;
    agent.write_config(&smaller).unwrap();
    let refused = agent.run_to_end().unwrap();
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("only larger limits can be taken on"), "{}", refused.stderr);
    topology.client().http_get(EAST.vip, 0).unwrap();
    agent.write_config(&config()).unwrap();
    agent.start().unwrap();
    assert!(!agent.log().contains("flows carried over"));
    topology.client().http_get(EAST.vip, 0).unwrap();
}

#[test]
fn a_start_that_was_cut_off_is_made_good_by_the_next() {
    let (topology, agent) = start_healthy(&config()).unwrap();
    agent.kill().unwrap();
    // Before its first pass, and before all of its maps had a pin.
    set_abi(&agent, 0);
    for map in [MapId::RecordsUdp, MapId::Tracking] {
        fs::remove_file(agent.bpffs().join("maps").join(map.name())).unwrap();
    }
    let mut larger = config();
    larger.limits.endpoints += 1;
    agent.write_config(&larger).unwrap();
    agent.start().unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    topology.client().http_get(EAST.vip, 0).unwrap();
    // While its maps took the place of others: both folders had names that were not theirs.
    agent.kill().unwrap();
    let folder = |name: &str| agent.bpffs().join(name);
    fs::rename(folder("maps"), folder("maps-beside")).unwrap();
    fs::create_dir(folder("maps-before")).unwrap();
    agent.start().unwrap();
    assert!(agent.status().unwrap().adopted && !folder("maps-before").exists());
    topology.client().http_get(EAST.vip, 0).unwrap();
}

/// Says that the maps have another layout.
fn set_abi(agent: &Agent, abi: u32) {
    let data = MapData::from_pin(agent.bpffs().join("maps").join(MapId::Node.name())).unwrap();
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let region = Region::map(&data, MapId::Node.words(), protection).unwrap();
    let words: Vec<u64> = region.words().iter().map(|word| word.load(Ordering::Relaxed)).collect();
    let node = NodeEntry { abi, ..NodeEntry::from_words(words.try_into().unwrap()) };
    for (place, word) in region.words().iter().zip(node.to_words()) {
        place.store(word, Ordering::Relaxed);
    }
}
