//! Samples of flows, as who follows the events hears them: with what really became of the flow, and none unaccounted for.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use lbx_common::api::{Config, FlowSample, Happening, Protocol};
use lbx_tests::{
    agent::{Agent, start_healthy},
    client::Answer,
    config,
    family::Family,
    follower::{Follower, events},
    topology::{EAST, VnetPlan, WEST},
    wait,
};

const PATIENCE: Duration = Duration::from_secs(10);

fn sampling(mut config: Config, one_in: u32) -> Config {
    config.node.flow_samples.one_in = one_in;
    config
}

fn hear(follower: &mut Follower, client: SocketAddr) -> FlowSample {
    let is_it = |what: &Happening| matches!(what, Happening::FlowSample(sample) if sample.client == client);
    let heard = follower.wait_for(&format!("a sample of {client}"), PATIENCE, is_it).unwrap();
    let Happening::FlowSample(sample) = heard.what else { panic!("{heard:?}") };
    sample
}

/// Whether a sample says what became of a flow, by the account of the origin that answered.
fn check(sample: &FlowSample, plan: VnetPlan, answer: &Answer, protocol: Protocol, port: u16) {
    let vip = match answer.own_address.ip() {
        IpAddr::V4(_) => plan.vip_of(Family::V4),
        IpAddr::V6(_) => plan.vip_of(Family::V6),
    };
    assert_eq!(sample.client, answer.own_address);
    assert_eq!(sample.vip, SocketAddr::new(vip, port));
    assert_eq!(
        (sample.protocol, sample.listener.clone()),
        (protocol, format!("{}/{port}", protocol.as_str()))
    );
    assert_eq!((&sample.virtual_network, &sample.endpoint), (&answer.vnet, &answer.origin), "{sample:?}");
    assert_eq!(sample.one_in, 1);
}

#[test]
fn each_flow_is_told_with_where_it_went_in_both_families_and_networks() {
    let (topology, agent) = start_healthy(&sampling(config::of_both_families(), 1)).unwrap();
    let mut follower = Follower::start(&agent).unwrap();
    let client = topology.client();
    for (plan, family) in [(EAST, Family::V4), (WEST, Family::V4), (EAST, Family::V6), (WEST, Family::V6)] {
        for _ in 0..4 {
            let answer = client.http_get(plan.vip_of(family), 0).unwrap();
            let sample = hear(&mut follower, answer.own_address);
            check(&sample, plan, &answer, Protocol::Tcp, 80);
            // A SYN of Linux, with its options.
            assert_eq!(sample.bytes, if family == Family::V4 { 60 } else { 80 }, "{sample:?}");
            let answer = client.udp_exchange(plan.vip_of(family), 0, b"a datagram").unwrap();
            check(&hear(&mut follower, answer.own_address), plan, &answer, Protocol::Udp, 53);
        }
    }
    // They are not kept, and the log says nothing of them.
    assert_eq!(events(&agent, &["--type", "flow_sample"]).unwrap(), []);
    assert!(!agent.log().contains("flow_sample"), "{}", agent.log());
}

/// `lbx_events_total{type="flow_sample"}`, and `lbx_flow_samples_lost_total`.
fn counts(agent: &Agent) -> [u64; 2] {
    let page = String::from_utf8(agent.request("GET", "/metrics", &[]).unwrap().body).unwrap();
    [r#"lbx_events_total{type="flow_sample"} "#, "lbx_flow_samples_lost_total "].map(|name| {
        let value = page.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
    })
}

#[test]
fn of_a_flood_a_thousand_a_second_are_told_and_the_others_counted() {
    const DATAGRAMS: u64 = 20_000;
    let (topology, agent) = start_healthy(&sampling(config::whole(), 1)).unwrap();
    let socket = topology.client().udp_socket((EAST.vip, 53).into(), 0).unwrap();
    let began = Instant::now();
    for number in 0..DATAGRAMS {
        socket.send(&number.to_be_bytes()).unwrap();
    }
    // What the device lost before lbx saw it is not lbx's.
    let arrived = || {
        let stats = agent.stats().unwrap();
        stats.services.iter().find(|one| one.service == "east-dns").unwrap().traffic.in_packets
    };
    let [told, lost] = wait::until("every packet is told of or counted", PATIENCE, || {
        let (before, counts, after) = (arrived(), counts(&agent), arrived());
        Ok((before == after && counts[0] + counts[1] == after).then_some(counts))
    })
    .unwrap();
    assert!(told + lost > DATAGRAMS / 2, "{told} told, {lost} lost");
    let most = 1000 * (began.elapsed().as_secs() + 2);
    assert!(told > 0 && told <= most && lost > 0, "{told} told, of {most} at most; {lost} lost");
}

#[test]
fn one_in_so_many_is_about_that_and_none_is_none() {
    const FLOWS: u16 = 4_000;
    let config = config::whole();
    let (topology, agent) = start_healthy(&sampling(config.clone(), 20)).unwrap();
    let mut follower = Follower::start(&agent).unwrap();
    let socket = topology.client().udp_socket((WEST.vip, 53).into(), 0).unwrap();
    let send = |count: u16| {
        let mut buffer = [0; 2048];
        for number in 0..count {
            socket.send(&number.to_be_bytes()).unwrap();
            socket.recv(&mut buffer).unwrap();
        }
    };
    send(FLOWS);
    // What programs told before they are told to stop counts.
    agent.change(&config, PATIENCE).unwrap();
    let before = counts(&agent);
    let [told, lost] = before;
    // Binomial: 200 expected, with a standard deviation below 14. Seven of them fail once in 10¹¹.
    assert!((102..298).contains(&(told + lost)), "{told} told, {lost} lost of {FLOWS}");

    send(FLOWS / 10);
    assert_eq!(counts(&agent), before);
    // And on again: what was told before is not told again.
    agent.change(&sampling(config, 1), PATIENCE).unwrap();
    let own = socket.local_addr().unwrap();
    send(1);
    assert_eq!(hear(&mut follower, own).one_in, 20, "the first that was told");
    while hear(&mut follower, own).one_in != 1 {}
    assert_eq!(counts(&agent), [before[0] + 1, before[1]]);
}
