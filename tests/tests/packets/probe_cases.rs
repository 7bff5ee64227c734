//! Cases: health checks on their way out, and what comes back for them.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use lbx_common::reason::DropReason::*;
use lbx_tests::{
    lab::On,
    topology::{CLIENT, EAST, ORIGINS, VnetPlan, WEST},
};

use crate::{
    cases::{Becomes, Case, case},
    frames::*,
};

pub fn cases() -> Vec<Case> {
    use Becomes::{Dropped, Passed, Probed, ToHealthChecker};
    let probe = |plan: VnetPlan| tcp((plan.probe_source, 50_000), (ORIGINS[0].1, 80), "S", b"");
    let back = |plan: VnetPlan| tcp((ORIGINS[0].1, 80), (plan.probe_source, 50_000), "S.", b"");
    let unknown = || Dropped(None, ProbeSourceUnknown);
    let udp_back = udp((ORIGINS[0].1, 53), (EAST.probe_source, 50_000), b"x");
    let cut = with_ip(&udp_back, |ip| ip.total_len = 27);
    let echo = |to: Ipv4Addr| {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(ORIGINS[0].1.octets(), to.octets(), 64).icmpv4_echo_reply(1, 1);
        builder.write(&mut packet, b"x").unwrap();
        packet
    };
    vec![
        case("a probe of east", On::Probe, frame(&probe(EAST)), Probed(EAST)),
        case("a probe of west", On::Probe, frame(&probe(WEST)), Probed(WEST)),
        case("an answer of east", On::Underlay, from_gateway(EAST, &back(EAST)), ToHealthChecker),
        case("an answer of west", On::Underlay, from_gateway(WEST, &back(WEST)), ToHealthChecker),
        case(
            "an answer of east to west's probe",
            On::Underlay,
            from_gateway(EAST, &back(WEST)),
            Dropped(Some("east"), NoRoute),
        ),
        case("a datagram to a probe source", On::Underlay, from_gateway(EAST, &udp_back), ToHealthChecker),
        case("one that nobody waits for", On::Arrival, frame(&udp_back), Dropped(Some("east"), ProbeUnasked)),
        case("one that is cut off", On::Arrival, frame(&cut), Dropped(Some("east"), ProbeUnasked)),
        case("an answer of TCP arrives", On::Arrival, frame(&back(EAST)), Passed),
        case("a datagram to a client arrives", On::Arrival, frame(&query(EAST)), Passed),
        case("what is not IP arrives", On::Arrival, ethernet(0x0806, &[0; 28]), Passed),
        case(
            "a datagram of west to east's probe source",
            On::Underlay,
            from_gateway(WEST, &udp_back),
            Dropped(Some("west"), NoRoute),
        ),
        case(
            "an answer to a ping",
            On::Underlay,
            from_gateway(EAST, &echo(EAST.probe_source)),
            ToHealthChecker,
        ),
        case(
            "an answer to a ping of nobody",
            On::Underlay,
            from_gateway(EAST, &echo(CLIENT)),
            Dropped(Some("east"), IcmpUnrelated),
        ),
        case("another source", On::Probe, frame(&request(EAST, "S")), unknown()),
        case("what is not IPv4", On::Probe, ethernet(0x0806, &[0; 28]), unknown()),
    ]
}
