//! Ranges of ports, services on any port, and virtual networks with the same addresses.

use lbx_common::reason::DropReason::{ReplyNoService, VipNoService};
use lbx_tests::{
    family::Family,
    lab::On,
    packets::{Packet, Transport, frame},
    tunnel::Encap,
    world::{Mode, Network, RANGE, RANGE_AT_ENDPOINTS, client, endpoints},
};

use crate::{
    check::{Becomes, Case, Reply, Request},
    stock::of_gateway,
};

/// Of each family outside.
const NETWORKS: [Network; 2] =
    [Network { encap: Encap::Gre, outer: Family::V6 }, Network { encap: Encap::GeneveIp, outer: Family::V4 }];

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for network in NETWORKS {
        for family in Family::ALL {
            for transport in Transport::ALL {
                let of = Of { network, family, transport };
                cases.extend(of.ranges());
                cases.extend(of.any());
            }
        }
    }
    cases.extend(overlapping());
    cases
}

/// Whose ports.
#[derive(Clone, Copy)]
struct Of {
    network: Network,
    family: Family,
    transport: Transport,
}

impl Of {
    fn name(self, what: &str) -> String {
        format!("{} {} in {}: {what}", self.transport.as_str(), self.family, self.network.name())
    }

    fn request(self, mode: Mode, port: u16, at_endpoint: Option<u16>) -> Case {
        let vip = (self.network.vip(self.family, mode), port);
        let packet = Packet::new(self.transport, client(self.family), vip).to_bytes();
        let becomes = match at_endpoint {
            None => Becomes::Dropped(None, VipNoService),
            Some(at_endpoint) => Becomes::Tunnelled(Request {
                network: self.network,
                mode,
                packet: packet.clone(),
                port: at_endpoint,
                lies: Vec::new(),
            }),
        };
        let name = self.name(&format!("to port {port} of {}", mode.as_str()));
        Case::new(name, On::Public, frame(&packet), becomes)
    }

    fn reply(self, mode: Mode, port: u16, at_vip: Option<u16>) -> Case {
        let source = (endpoints(self.family, mode)[1], port);
        let packet = Packet::new(self.transport, source, client(self.family)).to_bytes();
        let becomes = match at_vip {
            None => Becomes::Dropped(Some(self.network), ReplyNoService),
            Some(at_vip) => Becomes::Delivered(Reply {
                packet: packet.clone(),
                vip: (self.network.vip(self.family, mode), at_vip).into(),
                tos: 0,
            }),
        };
        let name = self.name(&format!("from port {port} of {}", mode.as_str()));
        let frame = frame(&of_gateway(self.network, &packet).to_bytes().unwrap());
        Case::new(name, On::Underlay, frame, becomes)
    }

    /// The ends of the range, those of the blocks that it is made of, and their neighbours outside.
    fn ranges(self) -> Vec<Case> {
        let (first, last) = RANGE;
        let mut cases = Vec::new();
        for port in [first, first + 1, 7007, 7008, 7039, 7040, 7071, 7072, 7087, 7088, last - 1, last] {
            let at_endpoint = RANGE_AT_ENDPOINTS + (port - first);
            cases.push(self.request(Mode::Range, port, Some(at_endpoint)));
            cases.push(self.reply(Mode::Range, at_endpoint, Some(port)));
        }
        let last_at_endpoint = RANGE_AT_ENDPOINTS + (last - first);
        for port in [0, 80, first - 1, last + 1, RANGE_AT_ENDPOINTS, 65_535] {
            cases.push(self.request(Mode::Range, port, None));
        }
        for port in [0, first, RANGE_AT_ENDPOINTS - 1, last_at_endpoint + 1, 65_535] {
            cases.push(self.reply(Mode::Range, port, None));
        }
        cases
    }

    fn any(self) -> Vec<Case> {
        let mut cases = Vec::new();
        for port in [1, 2, 80, 1023, 7050, 32_767, 32_768, 65_534, 65_535] {
            cases.push(self.request(Mode::Any, port, Some(port)));
            cases.push(self.reply(Mode::Any, port, Some(port)));
        }
        cases
    }
}

/// One answer out of each network: the same bytes, and each time another VIP.
fn overlapping() -> Vec<Case> {
    let mut cases = Vec::new();
    for network in Network::all() {
        for family in Family::ALL {
            let source = (endpoints(family, Mode::Any)[0], 4242);
            let packet = Packet::new(Transport::Tcp, source, client(family)).to_bytes();
            let frame = frame(&of_gateway(network, &packet).to_bytes().unwrap());
            let vip = (network.vip(family, Mode::Any), 4242).into();
            let becomes = Becomes::Delivered(Reply { packet, vip, tos: 0 });
            let name = format!("{family}: the same address in {}", network.name());
            cases.push(Case::new(name, On::Underlay, frame, becomes));
        }
    }
    cases
}
