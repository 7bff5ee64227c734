//! The way to a client changes while it is busy: programs know ways for a second at most, and with an agent there not
//! even for that.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::time::Duration;

use lbx_tests::{
    agent::{Agent, start_healthy_in},
    busy::Busy,
    config,
    family::Family,
    topology::{PUBLIC_DEVICE, Topology},
};

/// Requests on each connection before and after something happens: a second or more.
const REQUESTS: usize = 6;

fn start() -> (Topology, Agent) {
    let topology = Topology::new().unwrap();
    let agent = start_healthy_in(&topology, &config::for_topology(&topology)).unwrap();
    (topology, agent)
}

/// Gives the client, which says so, one MAC address after the other under busy connections of both families. None may
/// stand still for longer than `stall`.
fn move_client(topology: &Topology, agent: &Agent, stall: Duration) {
    for announce in ["ipv4/conf/public0/arp_notify", "ipv6/conf/public0/ndisc_notify"] {
        let announce = announce.replace("public0", PUBLIC_DEVICE);
        topology.client_netns.sysctl(&format!("net/{announce}"), "1").unwrap();
    }
    let open = |family| Busy::start(&topology.client(), topology.east.plan.vip_of(family)).unwrap();
    let connections = Family::ALL.map(open);
    let go_on = || {
        let wanted = connections.each_ref().map(|busy| busy.answered() + REQUESTS);
        connections.iter().zip(wanted).for_each(|(busy, wanted)| busy.wait_until(wanted).unwrap());
    };
    go_on();
    for last in 1..=3 {
        let mac = format!("02:00:00:00:cc:{last:02x}");
        topology.client_netns.ip(&format!("link set {PUBLIC_DEVICE} address {mac}")).unwrap();
        go_on();
    }
    for busy in connections {
        let longest = busy.stop().unwrap_or_else(|error| panic!("{error:#}\n{}", agent.log()));
        println!("the longest request took {longest:?}");
        assert!(longest < stall, "a request took {longest:?}\n{}", agent.log());
    }
}

#[test]
fn a_client_that_announces_its_new_mac_is_followed_at_once() {
    let (topology, agent) = start();
    // One repetition by TCP, after 200 ms, and some for a busy machine.
    move_client(&topology, &agent, Duration::from_millis(600));
}

#[test]
fn without_an_agent_it_is_followed_after_a_second() {
    let (topology, agent) = start();
    agent.kill().unwrap();
    // Repetitions by TCP come after 0.2, 0.6, 1.4 and 3 seconds.
    move_client(&topology, &agent, Duration::from_millis(2500));
}
