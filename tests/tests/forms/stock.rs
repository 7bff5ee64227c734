//! Replies in the forms that stock devices give them, and in those that the RFCs allow beyond; and what is broken
//! about a tunnel packet.

use std::net::SocketAddr;

use lbx_common::reason::DropReason::{ReplyNoService, TunnelMalformed, TunnelUnknownKey, TunnelUnknownPeer};
use lbx_tests::{
    family::Family,
    lab::On,
    packets::{
        Packet, Transport, ethernet, frame, padding, spoiled, with_extensions, with_ipv4, with_options,
    },
    tunnel::{Encap, TunnelPacket},
    world::{Mode, Network, client, endpoints, lbx, ports},
};

use crate::check::{Becomes, Case, Reply};

/// Offset of the outer IP header in a frame.
const IP_AT: usize = 14;

/// The answer of an endpoint, of the family that the outer packet is not: the harder half.
fn answer(network: Network) -> (Vec<u8>, SocketAddr) {
    let inner = if network.outer == Family::V4 { Family::V6 } else { Family::V4 };
    let (port, at_endpoint) = ports(Mode::Nat, Transport::Udp);
    let source = (endpoints(inner, Mode::Nat)[0], at_endpoint);
    let packet = Packet::new(Transport::Udp, source, client(inner)).to_bytes();
    (packet, (network.vip(inner, Mode::Nat), port).into())
}

/// A packet of the gateway.
pub fn of_gateway(network: Network, inner: &[u8]) -> TunnelPacket {
    let (from, to) = (network.remote(), lbx(network.outer));
    TunnelPacket::stock(network.encap, from, to, network.vni(), inner).unwrap()
}

/// Offset of the header of the encapsulation in a plain frame of the gateway.
fn shim_at(network: Network, packet: &TunnelPacket) -> usize {
    let limit = if packet.extras.encapsulation_limit.is_some() { 8 } else { 0 };
    let udp = if network.encap.udp_port().is_some() { 8 } else { 0 };
    IP_AT + network.outer.header_bytes() + limit + udp
}

/// A frame with bytes put in, and the lengths in front of them made right.
fn grown(network: Network, frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let more = |frame: &mut Vec<u8>, at: usize| {
        let length = u16::from_be_bytes([frame[at], frame[at + 1]]) + u16::try_from(bytes.len()).unwrap();
        frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
    };
    let mut grown = frame.to_vec();
    let udp_at = IP_AT + network.outer.header_bytes();
    match network.outer {
        Family::V4 => more(&mut grown, IP_AT + 2),
        Family::V6 => more(&mut grown, IP_AT + 4),
    }
    if network.encap.udp_port().is_some() {
        more(&mut grown, udp_at + 4);
        // Without a checksum: it would not be looked at, but it must not be wrong either.
        grown[udp_at + 6..udp_at + 8].copy_from_slice(&[0, 0]);
    }
    grown.splice(at..at, bytes.iter().copied());
    if network.outer == Family::V4 {
        let packet = with_ipv4(&grown[IP_AT..], |_| {});
        grown.splice(IP_AT.., packet);
    }
    grown
}

/// Cases of one network.
struct Forms {
    network: Network,
    inner: Vec<u8>,
    vip: SocketAddr,
    cases: Vec<Case>,
}

impl Forms {
    fn add(&mut self, name: &str, frame: Vec<u8>, becomes: Becomes) {
        let name = format!("{}: {name}", self.network.name());
        self.cases.push(Case::new(name, On::Underlay, frame, becomes));
    }

    fn delivered(&mut self, name: &str, frame: Vec<u8>) {
        let becomes = Becomes::Delivered(Reply { packet: self.inner.clone(), vip: self.vip, tos: 0 });
        self.add(name, frame, becomes);
    }

    /// Dropped before it is known which network it belongs to.
    fn malformed(&mut self, name: &str, frame: Vec<u8>) {
        self.add(name, frame, Becomes::Dropped(None, TunnelMalformed));
    }

    /// The same with its network known.
    fn malformed_inside(&mut self, name: &str, frame: Vec<u8>) {
        self.add(name, frame, Becomes::Dropped(Some(self.network), TunnelMalformed));
    }

    fn stock(&self) -> TunnelPacket {
        of_gateway(self.network, &self.inner)
    }

    /// The frame without anything beyond the plain form, its shim at the returned offset.
    fn plain(&self) -> (Vec<u8>, usize) {
        let mut packet = self.stock().with_udp_checksum(false);
        packet.extras.encapsulation_limit = None;
        (frame(&packet.to_bytes().unwrap()), shim_at(self.network, &packet))
    }
}

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    Network::all().into_iter().flat_map(of_network).collect()
}

fn of_network(network: Network) -> Vec<Case> {
    let (inner, vip) = answer(network);
    let mut forms = Forms { network, inner, vip, cases: Vec::new() };
    outer_ip(&mut forms);
    if network.encap.udp_port().is_some() {
        outer_udp(&mut forms);
    }
    match network.encap {
        Encap::Gre | Encap::GreUdp => gre(&mut forms),
        Encap::Vxlan => vxlan(&mut forms),
        Encap::GeneveIp | Encap::GeneveEthernet => geneve(&mut forms),
    }
    strangers(&mut forms);
    forms.cases
}

fn outer_ip(forms: &mut Forms) {
    let (plain, _) = forms.plain();
    let packet = &plain[IP_AT..];
    match forms.network.outer {
        Family::V4 => {
            for words in [1, 10] {
                let options = frame(&with_options(packet, words));
                forms.delivered(&format!("{words} words of outer options"), options);
            }
        }
        Family::V6 => {
            let stock = forms.stock();
            for limit in [0, 4, 255] {
                let limited = stock.clone().with_encapsulation_limit(limit).to_bytes().unwrap();
                forms.delivered(&format!("tunnel encapsulation limit {limit}"), frame(&limited));
            }
            let routing = (43, vec![0, 4, 0, 0, 0, 0, 0]);
            let atomic = (44, vec![0, 0, 0, 0, 0, 0, 7]);
            let chains = [
                ("a hop-by-hop header outside", vec![padding(0, 0)]),
                ("a routing header outside", vec![routing.clone()]),
                ("an atomic fragment outside", vec![atomic.clone()]),
                ("a long options header outside", vec![padding(60, 40)]),
                ("four extension headers outside", vec![padding(0, 1), routing, atomic, padding(60, 0)]),
            ];
            for (name, chain) in chains {
                forms.delivered(name, frame(&with_extensions(packet, &chain)));
            }
            // Nobody can tell any more whether it is a tunnel packet at all.
            let five = frame(&with_extensions(packet, &vec![padding(60, 0); 5]));
            forms.add("five extension headers outside", five, Becomes::Passed);
        }
    }
    forms.delivered("padding behind the packet", [&plain[..], &[0xee; 30]].concat());
    forms.delivered("the plain form", plain);
}

fn outer_udp(forms: &mut Forms) {
    let stock = forms.stock();
    for checksummed in [false, true] {
        let packet = stock.clone().with_udp_checksum(checksummed).to_bytes().unwrap();
        let name = if checksummed { "an outer UDP checksum" } else { "no outer UDP checksum" };
        forms.delivered(name, frame(&packet));
    }
    for source in [0, 1, 65_535] {
        let mut packet = stock.clone();
        packet.udp.as_mut().unwrap().source = source;
        forms.delivered(&format!("outer source port {source}"), frame(&packet.to_bytes().unwrap()));
    }
}

fn gre(forms: &mut Forms) {
    let stock = forms.stock();
    let sequence = stock.clone().with_gre_sequence(u32::MAX);
    forms.delivered("a sequence number", frame(&sequence.to_bytes().unwrap()));
    let checksum = stock.clone().with_gre_checksum();
    forms.delivered("a checksum", frame(&checksum.to_bytes().unwrap()));
    let both = checksum.with_gre_sequence(0);
    forms.delivered("a checksum and a sequence number", frame(&both.to_bytes().unwrap()));

    let (plain, at) = forms.plain();
    let header = |flags: [u8; 2]| spoiled(&plain, at, &flags);
    // Keys are how networks are told apart: a tunnel without one is not offered.
    forms.malformed("no key", header([0x00, 0]));
    forms.malformed("a sequence number and no key", header([0x10, 0]));
    forms.malformed("version 1 (PPTP)", header([0x20, 1]));
    forms.malformed("routing (RFC 1701)", header([0x60, 0]));
    forms.malformed("recursion control (RFC 1701)", header([0x21, 0]));
    forms.malformed("a reserved flag", header([0x20, 0x08]));
    forms.malformed_inside("Ethernet inside", spoiled(&plain, at + 2, &[0x65, 0x58]));
    forms.malformed_inside("MPLS inside", spoiled(&plain, at + 2, &[0x88, 0x47]));
}

fn vxlan(forms: &mut Forms) {
    let (plain, at) = forms.plain();
    // RFC 7348 §5: "ignored on receipt".
    forms.delivered("reserved flags", spoiled(&plain, at, &[0xff]));
    forms.delivered("reserved bytes", spoiled(&plain, at + 1, &[0xff, 0xff, 0xff]));
    forms.delivered("the last reserved byte", spoiled(&plain, at + 7, &[0xff]));
    forms.malformed("no valid VNI", spoiled(&plain, at, &[0xf7]));
    inner_ethernet(forms, &plain, at + 8);
}

fn geneve(forms: &mut Forms) {
    let (plain, at) = forms.plain();
    for words in [1_u8, 16, 63] {
        // Options of a class of nobody, not critical (RFC 8926 §3.5); at most 31 words of data in each.
        let mut options = Vec::new();
        let mut left = words;
        while left > 0 {
            let data = (left - 1).min(31);
            options.extend([0xff, 0xff, 1, data]);
            options.extend(vec![0x5a; usize::from(data) * 4]);
            left -= data + 1;
        }
        let grown = spoiled(&grown(forms.network, &plain, at + 8, &options), at, &[words]);
        forms.delivered(&format!("{words} words of options"), grown.clone());
        // RFC 8926 §3.4: an endpoint that does not know a critical option drops the packet.
        forms.malformed(&format!("{words} words of critical options"), spoiled(&grown, at + 1, &[0x40]));
    }
    forms.delivered("reserved bits", spoiled(&plain, at + 1, &[0x3f]));
    forms.delivered("the last reserved byte", spoiled(&plain, at + 7, &[0xff]));
    // RFC 8926 §3.4: what it carries is for the endpoint itself and must not be forwarded.
    forms.malformed("a control packet", spoiled(&plain, at + 1, &[0x80]));
    forms.malformed("version 1", spoiled(&plain, at, &[0x40]));
    // Longer than the frame: nothing to tell a network by, or an inner packet that is not there.
    let beyond = spoiled(&plain, at, &[0x3f]);
    if forms.network.encap.has_ethernet() {
        forms.malformed("options beyond the frame", beyond);
        inner_ethernet(forms, &plain, at + 8);
    } else {
        forms.malformed_inside("options beyond the frame", beyond);
        forms.malformed_inside("MPLS inside", spoiled(&plain, at + 2, &[0x88, 0x47]));
    }
}

/// `at` is where the inner frame begins.
fn inner_ethernet(forms: &mut Forms, plain: &[u8], at: usize) {
    // A minimal Ethernet frame has 60 bytes; a bridge pads what is shorter.
    let end = plain.len();
    forms.delivered("padding in the inner frame", grown(forms.network, plain, end, &[0; 18]));
    forms.delivered("other inner MACs", spoiled(plain, at, &[0xff; 12]));
    for (name, kind) in [("an inner VLAN tag", [0x81, 0x00]), ("LLDP inside", [0x88, 0xcc])] {
        forms.malformed_inside(name, spoiled(plain, at + 12, &kind));
    }
}

/// Keys and gateways that do not belong together.
fn strangers(forms: &mut Forms) {
    let network = forms.network;
    let made = |change: &dyn Fn(&mut TunnelPacket)| {
        let mut packet = of_gateway(network, &answer(network).0);
        change(&mut packet);
        frame(&packet.to_bytes().unwrap())
    };
    let other = Network::all().into_iter().find(|other| other.outer == network.outer && *other != network);
    let neighbour = other.unwrap().remote();
    let stranger = match network.outer {
        Family::V4 => "198.51.100.222".parse().unwrap(),
        Family::V6 => "2001:db8:64::dead".parse().unwrap(),
    };
    for (name, source) in [("our key of a stranger", stranger), ("our key of another gateway", neighbour)] {
        let frame = made(&|packet| packet.outer.source = source);
        forms.add(name, frame, Becomes::Dropped(Some(network), TunnelUnknownPeer));
    }
    let frame = made(&|packet| packet.key = 7);
    forms.add("a key of nobody", frame, Becomes::Dropped(None, TunnelUnknownKey));
    let frame = made(&|packet| (packet.key, packet.outer.source) = (7, stranger));
    forms.add("a key of nobody of a stranger", frame, Becomes::Passed);

    // What a gateway sends from addresses of nobody.
    let (mut inner, _) = answer(network);
    let address_at = if inner[0] >> 4 == 4 { 15 } else { 23 };
    inner[address_at] = 99;
    let frame = made(&|packet| packet.inner.clone_from(&inner));
    forms.add("an address of nobody inside", frame, Becomes::Dropped(Some(network), ReplyNoService));
    let ethernet_only = ethernet(network.outer.ethertype(), &made(&|_| {})[IP_AT..IP_AT + 19]);
    forms.add("cut off in the outer header", ethernet_only, Becomes::Passed);
}
