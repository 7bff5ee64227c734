//! Packets through the loaded programs: a table of cases, each with its action, every byte that matters, and
//! its counter. The host's run of the same pipeline must agree on all of it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at some outcomes out of many")]

mod cases;
mod frames;
mod policy;
mod probe_cases;
mod probes;

use std::{collections::BTreeSet, net::Ipv4Addr};

use anyhow::{Context, ensure};

use lbx_common::reason::{DropReason, Verdict};
use lbx_tests::{
    config,
    lab::{Action, Lab, On, Outcome, PEER_MAC},
    topology::{EAST, GATEWAY_INNER_MAC, LBX_INNER_MAC, LBX_UNDERLAY, ORIGINS, VnetPlan},
    tunnel,
};

use self::{
    cases::{Becomes, Case},
    frames::{End, rewritten},
};

const UNDERLAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const PUBLIC_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const LBX0_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x03];
const LBX1_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x04];

#[test]
fn every_case_comes_out_as_it_must() {
    let lab = Lab::new(&config::whole()).unwrap();
    let mut wrong = Vec::new();
    let cases = cases::all();
    for case in &cases {
        let before = lab.all_drops().unwrap();
        let outcome = lab.run(case.on, &case.frame).unwrap();
        let host = lab.run_on_host(case.on, &case.frame);
        if host.outcome != outcome {
            wrong.push(format!("{}: the host's pipeline says {host:?}, the kernel's {outcome:?}", case.name));
        }
        if let Err(error) = check(case, &outcome, host.verdict) {
            wrong.push(format!("{} (on {:?}): {error:#}", case.name, case.on));
        }
        if let Becomes::Dropped(vnet, reason) = case.becomes {
            let before: u64 = before.values().sum();
            let after: u64 = lab.all_drops().unwrap().values().sum();
            if after != before + 1 {
                wrong.push(format!("{}: {} drops were counted", case.name, after - before));
            }
            if lab.drops(vnet, reason).unwrap() == 0 {
                wrong.push(format!("{}: nothing counted as {} in {vnet:?}", case.name, reason.as_str()));
            }
        } else if lab.all_drops().unwrap() != before {
            wrong.push(format!("{}: a drop was counted", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
}

/// Reasons that no packet can provoke here, with the cause.
const UNPROVOKED: [(DropReason, &str); 10] = [
    (DropReason::TooBig, "has cases among the forms: its sender is told"),
    (DropReason::EchoLimited, "shown end to end: here, answers are not limited"),
    (DropReason::NoTunnel, "has a test of its own: it needs a tunnel that is off"),
    (DropReason::NoEndpoint, "has a test of its own: it needs endpoints that are down"),
    (DropReason::Denied, "has tests of its own: it needs a service with a policy"),
    (DropReason::RateLimited, "likewise"),
    (DropReason::TcpFlags, "has a test of its own, over all flags"),
    (DropReason::ProbeUnmarked, "has a test of its own: it is the guard's"),
    (DropReason::NoHeadroom, "XDP gives every frame 256 bytes of room"),
    (DropReason::Inconsistent, "the planner writes no maps that contradict each other"),
];

#[test]
fn every_drop_reason_has_a_case() {
    let provoked: BTreeSet<DropReason> = cases::all()
        .iter()
        .filter_map(|case| match case.becomes {
            Becomes::Dropped(_, reason) => Some(reason),
            _ => None,
        })
        .chain(UNPROVOKED.map(|(reason, _)| reason))
        .collect();
    assert_eq!(provoked, DropReason::ALL.iter().copied().collect());
}

#[test]
fn without_a_usable_endpoint_a_flow_is_dropped() {
    let down = [("east-web", "a"), ("east-web", "b")];
    let lab = Lab::with_down(&config::whole(), &down).unwrap();
    let frame = frames::frame(&frames::request(EAST, "S"));
    assert_eq!(lab.run(On::Public, &frame).unwrap().action, Action::Drop);
    assert_eq!(lab.drops(None, DropReason::NoEndpoint).unwrap(), 1);
}

#[test]
fn without_a_tunnel_that_is_on_a_flow_is_dropped() {
    let mut config = config::whole();
    config.virtual_networks[0].tunnels[0].enabled = false;
    let lab = Lab::new(&config).unwrap();
    let frame = frames::frame(&frames::request(EAST, "S"));
    assert_eq!(lab.run(On::Public, &frame).unwrap().action, Action::Drop);
    assert_eq!(lab.drops(Some("east"), DropReason::NoTunnel).unwrap(), 1);
}

#[test]
fn the_guard_drops_what_the_agent_did_not_mark() {
    let lab = Lab::new(&config::whole()).unwrap();
    let frame = frames::frame(&frames::request(EAST, "S"));
    assert!(!lab.guard_passes(&frame).unwrap());
    assert_eq!(lab.drops(None, DropReason::ProbeUnmarked).unwrap(), 1);
}

#[test]
fn packets_are_counted_by_their_inner_length_in_both_directions() {
    let lab = Lab::new(&config::whole()).unwrap();
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for case in cases::all() {
        match case.becomes {
            Becomes::Tunnelled(_) | Becomes::TunnelledByHost(_) => requests.push(case),
            Becomes::Delivered(..) | Becomes::DeliveredByHost(..) => replies.push(case),
            _ => {}
        }
    }
    for case in requests.iter().chain(&replies) {
        lab.run(case.on, &case.frame).unwrap();
    }
    let traffic = lab.traffic().unwrap();
    assert_eq!(traffic.in_packets, requests.len() as u64);
    assert_eq!(traffic.out_packets, replies.len() as u64);
    let length = |packet: &[u8]| u64::from(u16::from_be_bytes([packet[2], packet[3]]));
    let bytes: u64 = requests.iter().map(|case| length(payload(&case.frame))).sum();
    assert_eq!(traffic.in_bytes, bytes);
    let is_syn = |case: &&Case| {
        let packet = payload(&case.frame);
        packet[9] == 6 && packet[usize::from(packet[0] & 0xf) * 4 + 13] == 2
    };
    let syns = requests.iter().filter(is_syn);
    assert_eq!(traffic.tcp_syns, syns.count() as u64);
}

fn check(case: &Case, outcome: &Outcome, verdict: Verdict) -> anyhow::Result<()> {
    let ethernet =
        |destination: [u8; 6], source: [u8; 6]| [&destination[..], &source, &[0x08, 0x00]].concat();
    let sent = |ethernet: Vec<u8>, packet: Vec<u8>| -> anyhow::Result<()> {
        ensure!(outcome.action == Action::Send, "{:?}", outcome.action);
        let expected = [ethernet, packet].concat();
        ensure!(outcome.frame == expected, "sent\n{:02x?}\ninstead of\n{expected:02x?}", outcome.frame);
        Ok(())
    };
    let original = payload(&case.frame);
    match &case.becomes {
        Becomes::Passed => {
            ensure!(outcome.action == Action::Pass, "{:?}", outcome.action);
            ensure!(outcome.frame == case.frame, "it was changed");
            Ok(())
        }
        Becomes::Dropped(_, reason) => {
            ensure!(outcome.action == Action::Drop, "{:?}", outcome.action);
            ensure!(matches!(verdict, Verdict::Drop { reason: said, .. } if said == *reason), "{verdict:?}");
            Ok(())
        }
        Becomes::Tunnelled(plan) => {
            ensure!(matches!(verdict, Verdict::Transmit { .. }), "{verdict:?}");
            let macs = ethernet(PEER_MAC, UNDERLAY_MAC);
            tunnelled(outcome, *plan, &macs, |origin, port| {
                rewritten(original, End::Destination, (origin, port), 1)
            })
        }
        Becomes::TunnelledByHost(plan) => {
            ensure!(verdict == Verdict::ToHost, "{verdict:?}");
            let macs = ethernet(LBX0_MAC, LBX1_MAC);
            tunnelled(outcome, *plan, &macs, |origin, port| {
                rewritten(original, End::Destination, (origin, port), 1)
            })
        }
        Becomes::Probed(plan) => {
            ensure!(matches!(verdict, Verdict::Transmit { .. }), "{verdict:?}");
            tunnelled(outcome, *plan, &ethernet(PEER_MAC, UNDERLAY_MAC), |_, _| original.to_vec())
        }
        Becomes::Delivered(vip, port) => {
            ensure!(matches!(verdict, Verdict::Transmit { .. }), "{verdict:?}");
            let packet = rewritten(&inner(&case.frame), End::Source, (*vip, *port), 1);
            sent(ethernet(PEER_MAC, PUBLIC_MAC), packet)
        }
        Becomes::DeliveredByHost(vip, port) => {
            ensure!(verdict == Verdict::ToHost, "{verdict:?}");
            // The kernel takes its hop off when it forwards.
            let packet = rewritten(&inner(&case.frame), End::Source, (*vip, *port), 0);
            sent(ethernet(LBX0_MAC, LBX1_MAC), packet)
        }
        Becomes::ToHealthChecker => {
            ensure!(verdict == Verdict::ToHost, "{verdict:?}");
            sent(ethernet(LBX0_MAC, LBX1_MAC), inner(&case.frame))
        }
    }
}

/// What follows the Ethernet header and its tags.
fn payload(frame: &[u8]) -> &[u8] {
    let tags =
        frame[12..].chunks(4).take_while(|tag| matches!(tag[..2], [0x81, 0x00] | [0x88, 0xa8])).count();
    frame.get(14 + 4 * tags..).unwrap_or_default()
}

/// The inner packet of a tunnel frame, whatever flags its GRE header has.
fn inner(frame: &[u8]) -> Vec<u8> {
    let vxlan = frame[23] == 17;
    let length = match (vxlan, frame[34]) {
        (true, _) => 8 + 8 + 14,
        (false, flags) => 8 + if flags & 0x80 == 0 { 0 } else { 4 } + if flags & 0x10 == 0 { 0 } else { 4 },
    };
    frame[34 + length..].to_vec()
}

/// Checks a tunnel frame byte by byte; `expected` gives the inner packet for the origin that was chosen.
fn tunnelled(
    outcome: &Outcome,
    plan: VnetPlan,
    ethernet: &[u8],
    expected: impl Fn(Ipv4Addr, u16) -> Vec<u8>,
) -> anyhow::Result<()> {
    ensure!(outcome.action == Action::Send, "{:?}", outcome.action);
    ensure!(outcome.frame.starts_with(ethernet), "{:02x?}", &outcome.frame[..14]);
    let packet = tunnel::unwrap(&outcome.frame)?.context("no tunnel packet")?;
    ensure!((packet.encap, packet.key) == (plan.encap, plan.vni), "{packet:?}");
    let outer = &packet.outer;
    ensure!(outer.source == LBX_UNDERLAY && outer.destination == plan.gateway_address);
    ensure!(outer.ttl == 64 && packet.extras == tunnel::Extras::default(), "{packet:?}");
    if let Some(udp) = packet.udp {
        ensure!(udp.source >= 49_152 && !udp.checksummed, "{udp:?}");
        let macs = (tunnel::mac(GATEWAY_INNER_MAC)?, tunnel::mac(LBX_INNER_MAC)?);
        ensure!(packet.inner_macs == Some(macs), "{:?}", packet.inner_macs);
    }
    let octets: [u8; 4] = packet.inner.get(16..20).context("an inner header")?.try_into()?;
    let origin = Ipv4Addr::from(octets);
    ensure!(ORIGINS.iter().any(|(_, address)| *address == origin), "to {origin}");
    let header_length = usize::from(packet.inner[0] & 0xf) * 4;
    let port = u16::from_be_bytes([packet.inner[header_length + 2], packet.inner[header_length + 3]]);
    ensure!(port == 80 || port == 53, "to port {port}");
    let expected = expected(origin, port);
    // Padding may follow the packet in its frame.
    let inside = packet.inner.get(..expected.len()).context("the inner packet is short")?;
    ensure!(inside == expected, "inside\n{inside:02x?}\ninstead of\n{expected:02x?}");
    ensure!(outer.dont_fragment == Some(expected[6] & 0x40 != 0), "outer DF is inner DF");
    let length = usize::from(u16::from_be_bytes([expected[2], expected[3]]));
    ensure!(outer.packet_bytes == length + if packet.udp.is_some() { 50 } else { 28 });
    Ok(())
}
