//! Forwarding does not depend on the agent: it is killed, stopped and started again under traffic.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{fs, path::Path, time::Duration};

use lbx_common::api::{Config, StatusReport};
use lbx_tests::{
    agent::{Agent, Source, start_healthy},
    config, strace,
    topology::{EAST, PUBLIC_DEVICE, Topology, UNDERLAY_DEVICE},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);
const MEGABYTE: u64 = 1_000_000;

/// Every endpoint has been probed by the agent that runs now, which also knows the way to every gateway.
fn wait_until_probed(agent: &Agent) {
    wait::until("every endpoint is probed and every gateway resolved", PATIENCE, || {
        let health = agent.health()?;
        let mut probed =
            health.pools.iter().filter(|pool| pool.monitor.is_some()).flat_map(|pool| &pool.endpoints);
        let resolved = agent.status()?.tunnels.iter().all(|tunnel| tunnel.next_hop.is_some());
        Ok((resolved && probed.all(|endpoint| endpoint.round_trip_us.is_some())).then_some(()))
    })
    .unwrap();
}

/// The lines of a trace of bpf(2) and mmap(2) that change a map: updates and deletions, and mappings of maps
/// for writing.
fn writes_in(trace: &str) -> Vec<&str> {
    let changes = ["BPF_MAP_UPDATE", "BPF_MAP_DELETE", "BPF_MAP_LOOKUP_AND_DELETE"];
    // The table of program stages is made and filled with the programs, before anything uses it; and each load of them
    // has words of its own that say which ways to clients count and what is sampled, and a ring buffer for samples.
    let own = |name: &str| {
        let made = trace.lines().find(|line| line.contains("BPF_MAP_CREATE") && line.contains(name))?;
        Some(made.rsplit_once("= ")?.1.split_once('<')?.0.to_owned())
    };
    let of_own = own("\"STAGES\"").map(|number| format!("map_fd={number}<"));
    let mapped: Vec<String> =
        ["\"ROUTE_TERM\"", "\"SAMPLING\"", "\"SAMPLES\""].into_iter().filter_map(own).collect();
    let is_own = |line: &str| mapped.iter().any(|number| line.contains(&format!(" {number}<")));
    let is_write = |line: &&str| {
        let is_change = changes.iter().any(|change| line.contains(change));
        is_change && !of_own.as_ref().is_some_and(|own| line.contains(own))
            || line.contains("bpf-map")
                && line.contains("mmap")
                && line.contains("PROT_WRITE")
                && !is_own(line)
    };
    trace.lines().filter(is_write).collect()
}

fn read(trace: &Path) -> String {
    fs::read_to_string(trace).unwrap_or_default()
}

/// The whole configuration, and prefixes in the maps, which are not read as others are.
fn with_policy() -> Config {
    let mut config = config::whole();
    let service = config.services.first_mut().unwrap();
    service.deny = vec!["198.18.0.0/15".parse().unwrap()];
    service.rate_limit.per_source = 1000;
    config
}

#[test]
fn a_transfer_survives_kill_9_and_the_next_agent_adopts_without_a_write() {
    let (topology, agent) = start_healthy(&with_policy()).unwrap();
    wait_until_probed(&agent);
    let client = topology.client();
    let mut downloads: Vec<_> =
        topology.vnets().map(|vnet| client.download(vnet.plan.vip, 0, 10 * MEGABYTE).unwrap()).into();
    let mut open = client.connect(EAST.vip, 80, 0).unwrap();
    open.get().unwrap();
    for download in &mut downloads {
        download.read_to(2 * MEGABYTE).unwrap();
    }

    agent.kill().unwrap();
    // Nobody is there now: old connections go on, and new ones are opened.
    for download in &mut downloads {
        download.read_to(5 * MEGABYTE).unwrap();
    }
    open.get().unwrap();
    for port in 24_000..24_050 {
        client.http_get(EAST.vip, port).unwrap();
    }

    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    agent.start_as(strace::traced(&agent, &topology.lbx, &trace, "bpf,mmap").unwrap()).unwrap();
    wait_until_probed(&agent);
    let StatusReport { adopted, map_writes, .. } = agent.status().unwrap();
    assert!(adopted, "the maps are taken over");
    assert_eq!(map_writes, 0);
    let seen = read(&trace);
    // The trace sees what it has to: programs loaded, maps mapped.
    assert!(seen.contains("BPF_PROG_LOAD") && seen.contains("bpf-map"), "{seen}");
    assert_eq!(writes_in(&seen), Vec::<&str>::new());

    for download in downloads {
        download.finish().unwrap();
    }
    open.get().unwrap();

    // And a change is written, so the count above could have been another one.
    let mut changed = with_policy();
    config::set_weights(&mut changed, "east", [1.0, 0.5]);
    agent.write_config(&changed).unwrap();
    wait::until("the change is written", PATIENCE, || {
        let written = agent.status()?.map_writes > 0;
        Ok((written && !writes_in(&read(&trace)).is_empty()).then_some(()))
    })
    .unwrap();
}

#[test]
fn sigterm_leaves_forwarding_on_and_detach_leaves_nothing() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let client = topology.client();
    assert!(agent.terminate().unwrap().success());
    client.http_get(EAST.vip, 0).unwrap();

    let detached = agent.detach().unwrap();
    assert_eq!(detached.code, Some(0), "{}", detached.stderr);
    assert!(detached.stdout.contains("nothing of lbx is left"), "{}", detached.stdout);
    assert_nothing_left(&topology, &agent);
    let impatient = topology.client().with_timeout(Duration::from_millis(300));
    impatient.http_get(EAST.vip, 0).unwrap_err();
    let again = agent.detach().unwrap();
    assert_eq!((again.code, again.stdout.trim()), (Some(0), "nothing was attached"));
}

#[test]
fn detach_is_refused_while_the_agent_runs() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let refused = agent.detach().unwrap();
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("stop it first"), "{}", refused.stderr);
    topology.client().http_get(EAST.vip, 0).unwrap();
}

#[test]
fn detach_on_exit_leaves_nothing() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::File).unwrap();
    agent.write_config(&config::whole()).unwrap();
    agent.start_with_arguments(&["--detach-on-exit"]).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    topology.client().http_get(EAST.vip, 0).unwrap();
    assert!(agent.terminate().unwrap().success());
    assert_nothing_left(&topology, &agent);
}

/// No program, device, address, route, rule or pin of lbx.
fn assert_nothing_left(topology: &Topology, agent: &Agent) {
    assert!(!agent.bpffs().exists(), "{} is still there", agent.bpffs().display());
    let links = topology.lbx.ip("-d link show").unwrap();
    assert!(!links.contains("lbx0") && !links.contains("xdp"), "{links}");
    for device in [PUBLIC_DEVICE, UNDERLAY_DEVICE] {
        assert!(links.contains(device), "{links}");
    }
    let rules = topology.lbx.ip("rule").unwrap();
    assert!(!rules.contains("20218") && !rules.contains("20219"), "{rules}");
    let routes = topology.lbx.ip("route show table all").unwrap();
    assert!(!routes.contains("proto 218"), "{routes}");
    let neighbours = topology.lbx.ip("neigh show").unwrap();
    assert!(!neighbours.contains("extern_") && !neighbours.contains("managed"), "{neighbours}");
}
