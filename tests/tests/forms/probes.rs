//! Health checks on their way, and their answers, through every network in both families.

use lbx_common::reason::DropReason::ProbeSourceUnknown;
use lbx_tests::{
    family::Family,
    lab::On,
    packets::{Packet, Transport, ethernet, frame},
    world::{Mode, Network, client, endpoints, ports},
};

use crate::{
    check::{Becomes, Case},
    stock::of_gateway,
};

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for network in Network::all() {
        for family in Family::ALL {
            let prober = (network.probe_source(family), 50_000);
            let endpoint = (endpoints(family, Mode::Nat)[0], ports(Mode::Nat, Transport::Tcp).1);
            let name = |what: &str| format!("{what} of {family} through {}", network.name());
            let probe = Packet::new(Transport::Tcp, prober, endpoint);
            let (framed, bytes) = (probe.to_frame(), probe.to_bytes());
            cases.push(Case::new(name("a probe"), On::Probe, framed, Becomes::Probed(network, bytes)));
            let answer = Packet { flags: "S.", ..Packet::new(Transport::Tcp, endpoint, prober) }.to_bytes();
            let framed = frame(&of_gateway(network, &answer).to_bytes().unwrap());
            let becomes = Becomes::ToHealthChecker(answer);
            cases.push(Case::new(name("an answer"), On::Underlay, framed, becomes));
        }
    }
    let unknown = || Becomes::Dropped(None, ProbeSourceUnknown);
    for family in Family::ALL {
        let packet = Packet::new(Transport::Tcp, client(family), (endpoints(family, Mode::Nat)[0], 80));
        let name = format!("{family} of nobody out of lbx0");
        cases.push(Case::new(name, On::Probe, packet.to_frame(), unknown()));
    }
    cases.push(Case::new("ARP out of lbx0", On::Probe, ethernet(0x0806, &[0; 28]), unknown()));
    cases
}
