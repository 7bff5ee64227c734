//! Network devices that go down, vanish, come back or come late: the agent notices by itself, and traffic goes on.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use lbx_common::api::{AttachMode, Config, InterfaceStatus, LinkState, StatusReport};
use lbx_tests::{
    agent::{Agent, start_healthy},
    busy::Busy,
    config,
    topology::{EAST, PUBLIC_DEVICE, Topology, UNDERLAY_DEVICE, WEST},
    traffic::Round,
    wait,
    xdp::{FixedVerdict, Verdict},
};

const PATIENCE: Duration = Duration::from_secs(10);
/// From a device that is back to the first request that is answered: ARP, a probe of the endpoints, and no more.
const SOON: Duration = Duration::from_secs(5);

/// The whole configuration, where endpoints stay healthy over some seconds without an answer: those that are taken out
/// lose their connections.
fn patient() -> Config {
    let mut config = config::whole();
    config.monitors.iter_mut().for_each(|monitor| monitor.consecutive_down = 20);
    config
}

fn interface(agent: &Agent, name: &str) -> InterfaceStatus {
    let StatusReport { interfaces, .. } = agent.status().unwrap();
    interfaces.into_iter().find(|interface| interface.name == name).unwrap()
}

fn wait_for(agent: &Agent, name: &str, link: LinkState, mode: Option<AttachMode>) -> InterfaceStatus {
    wait::until(&format!("{name} is {} with {mode:?}", link.as_str()), PATIENCE, || {
        let found = interface(agent, name);
        Ok((found.link == link && found.mode == mode).then_some(found))
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{:?}\n{}", interface(agent, name), agent.log()))
}

/// Both virtual networks answer, TCP and UDP.
fn assert_serves(topology: &Topology, agent: &Agent) {
    let client = topology.client().with_timeout(Duration::from_millis(500));
    wait::until("requests are answered", SOON, || Ok(client.http_get(EAST.vip, 0).ok()))
        .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
    agent.wait_until_healthy(PATIENCE).unwrap();
    for plan in [EAST, WEST] {
        let mistakes = Round::http(&topology.client(), plan, 21_000..21_020).mistakes();
        assert_eq!(mistakes, Vec::<String>::new(), "{}", agent.log());
        let mistakes = Round::udp(&topology.client(), plan, 21_000..21_020).mistakes();
        assert_eq!(mistakes, Vec::<String>::new(), "{}", agent.log());
    }
}

#[test]
fn an_interface_that_goes_down_and_up_is_served_as_before() {
    let (topology, agent) = start_healthy(&patient()).unwrap();
    for device in [PUBLIC_DEVICE, UNDERLAY_DEVICE] {
        let busy = Busy::start(&topology.client(), EAST.vip).unwrap();
        topology.lbx.ip(&format!("link set {device} down")).unwrap();
        let down = wait_for(&agent, device, LinkState::Down, Some(AttachMode::Native));
        assert!(down.warnings.iter().any(|text| text.contains("ip link set")), "{down:?}");
        let shown = agent.ctl(&["status"]).unwrap().stdout;
        let line = shown.lines().find(|line| line.starts_with(device)).unwrap();
        assert!(line.contains("down") && line.contains("native"), "{shown}");
        topology.lbx.ip(&format!("link set {device} up")).unwrap();
        wait_for(&agent, device, LinkState::Up, Some(AttachMode::Native));
        assert_serves(&topology, &agent);
        // What was open goes on.
        busy.wait_until(busy.answered() + 5).unwrap();
        busy.stop().unwrap();
    }
}

#[test]
fn an_interface_that_is_made_anew_is_attached_and_resolved_again() {
    let (topology, agent) = start_healthy(&patient()).unwrap();
    let pid = agent.status().unwrap().pid;
    for device in [PUBLIC_DEVICE, UNDERLAY_DEVICE] {
        let busy = Busy::start(&topology.client(), EAST.vip).unwrap();
        topology.unplug(device).unwrap();
        let missing = wait_for(&agent, device, LinkState::Missing, None);
        assert!(missing.warnings.iter().any(|text| text.contains("when it appears")), "{missing:?}");
        if device == UNDERLAY_DEVICE {
            wait::until("no gateway is resolved", PATIENCE, || {
                let tunnels = agent.status()?.tunnels;
                Ok(tunnels.iter().all(|tunnel| tunnel.next_hop.is_none()).then_some(()))
            })
            .unwrap();
        }
        // A change of something else is not in the way.
        let mut changed = patient();
        config::set_weights(&mut changed, "west", [1.0, if device == PUBLIC_DEVICE { 0.5 } else { 0.75 }]);
        let revision = agent.status().unwrap().revision;
        agent.write_config(&changed).unwrap();
        wait::until("it is in force", PATIENCE, || Ok((agent.status()?.revision > revision).then_some(())))
            .unwrap();

        topology.plug(device).unwrap();
        wait_for(&agent, device, LinkState::Up, Some(AttachMode::Native));
        assert_serves(&topology, &agent);
        busy.wait_until(busy.answered() + 5).unwrap();
        busy.stop().unwrap();
        let tunnels = agent.status().unwrap().tunnels;
        assert!(
            tunnels.iter().flat_map(|tunnel| &tunnel.next_hop).all(|hop| hop.interface == UNDERLAY_DEVICE),
            "{tunnels:?}"
        );
    }
    assert_eq!(agent.status().unwrap().pid, pid);
}

#[test]
fn interfaces_that_appear_after_the_start_are_attached_then() {
    let topology = Topology::new().unwrap();
    topology.unplug(PUBLIC_DEVICE).unwrap();
    topology.unplug(UNDERLAY_DEVICE).unwrap();
    let agent = Agent::start_with(&topology, &config::whole()).unwrap();
    for device in [PUBLIC_DEVICE, UNDERLAY_DEVICE] {
        wait_for(&agent, device, LinkState::Missing, None);
        let told =
            format!("the interface does not exist: it is attached when it appears interface=\"{device}\"");
        assert_eq!(agent.log().matches(&told).count(), 1, "{}", agent.log());
    }
    topology.plug(UNDERLAY_DEVICE).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    topology.plug(PUBLIC_DEVICE).unwrap();
    assert_serves(&topology, &agent);
}

/// The name is what counts, also for an agent that finds the link of one that knew the device by it.
#[test]
fn an_interface_that_gets_another_name_is_another_interface() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    topology.lbx.ip("link add spare0 type veth peer name spare1").unwrap();
    let rename = |from: &str, to: &str| topology.lbx.ip(&format!("link set {from} name {to}")).unwrap();
    let has_program = |device: &str| topology.lbx.ip(&format!("link show {device}")).unwrap().contains("xdp");
    rename(PUBLIC_DEVICE, "old0");
    wait_for(&agent, PUBLIC_DEVICE, LinkState::Missing, None);
    wait::until("it is let go of", PATIENCE, || Ok((!has_program("old0")).then_some(()))).unwrap();
    rename("spare0", PUBLIC_DEVICE);
    wait_for(&agent, PUBLIC_DEVICE, LinkState::Down, Some(AttachMode::Native));

    agent.kill().unwrap();
    rename(PUBLIC_DEVICE, "spare0");
    rename("old0", PUBLIC_DEVICE);
    assert!(has_program("spare0") && !has_program(PUBLIC_DEVICE));
    agent.start().unwrap();
    assert!(!has_program("spare0") && has_program(PUBLIC_DEVICE));
    assert_serves(&topology, &agent);
}

#[test]
fn a_device_that_another_program_took_is_named_and_taken_back_when_it_is_free() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    topology.unplug(PUBLIC_DEVICE).unwrap();
    wait_for(&agent, PUBLIC_DEVICE, LinkState::Missing, None);
    topology.lbx.ip("link add spare0 type veth peer name spare1").unwrap();
    let other = topology.lbx.run(|| FixedVerdict::attach("spare0", Verdict::Pass)).unwrap();
    topology.lbx.ip(&format!("link set spare0 name {PUBLIC_DEVICE}")).unwrap();
    let named = wait::until("it is named", PATIENCE, || {
        let found = interface(&agent, PUBLIC_DEVICE);
        Ok(found.warnings.iter().any(|text| text.contains("busy")).then_some(found))
    });
    assert_eq!(named.unwrap().link, LinkState::Down);
    drop(other);
    let free = wait_for(&agent, PUBLIC_DEVICE, LinkState::Down, Some(AttachMode::Native));
    assert!(!free.warnings.iter().any(|text| text.contains("busy")), "{free:?}");
    assert_eq!(agent.log().matches("is busy").count(), 1, "{}", agent.log());
    topology.lbx.ip(&format!("link delete {PUBLIC_DEVICE}")).unwrap();
    topology.plug(PUBLIC_DEVICE).unwrap();
    assert_serves(&topology, &agent);
}

#[test]
fn the_pair_of_the_probe_path_is_made_again_when_somebody_deletes_it() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    topology.lbx.ip("link delete lbx0").unwrap();
    wait::until("the pair is back", PATIENCE, || {
        let links = topology.lbx.ip("link show")?;
        Ok((links.contains("lbx0") && links.contains("lbx1")).then_some(()))
    })
    .unwrap();
    // Probes go by it, and they are answered.
    let origin = topology.east.origin("a").unwrap();
    for (running, state) in [(false, "unhealthy"), (true, "healthy")] {
        if running {
            origin.start_servers().unwrap();
        } else {
            origin.stop_servers();
        }
        wait::until(&format!("east-web/a is {state}"), PATIENCE, || {
            Ok((agent.health_of("east-web", "a")?.as_str() == state).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
    }
    assert_serves(&topology, &agent);
    // And nobody else gets in.
    let guarded =
        topology.lbx.command("ping").args(["-c1", "-W1", "-I", "lbx0", "10.0.0.10"]).status().unwrap();
    assert!(!guarded.success());
}
