//! Several tunnels for one endpoint: flows are spread over all of them, and a flow stays on one. What spreads flows
//! on the way to a gateway: source ports, and the flow label where the outer packet is IPv6.

use std::collections::{BTreeMap, BTreeSet};

use lbx_tests::{
    family::Family,
    lab::{Action, Lab, On},
    packets::{Packet, Transport, frame},
    tunnel::{self, Encap, TunnelPacket},
    world::{self, Mode, Network, client, endpoints, lbx, ports, tunnel as tunnel_of},
};

use crate::check::{Becomes, Case, Reply, Runner};

/// Flows that are tried.
const FLOWS: u16 = 600;
/// Packets that each of them has, where who gets which share is looked at.
const PACKETS_OF_A_FLOW: u64 = 3;

/// The network whose tunnels these are; the first is its own.
const NETWORK: Network = Network { encap: Encap::Gre, outer: Family::V4 };
/// One of each kind, over both families. To the gateways of other networks, with the key of this one.
const TUNNELS: [Network; 4] = [
    NETWORK,
    Network { encap: Encap::Vxlan, outer: Family::V6 },
    Network { encap: Encap::GeneveIp, outer: Family::V4 },
    Network { encap: Encap::GreUdp, outer: Family::V6 },
];

/// A lab whose network has all of [`TUNNELS`]; endpoints that name tunnels keep what they name.
fn lab() -> Lab {
    let mut config = world::config();
    for network in &mut config.virtual_networks {
        if network.name == NETWORK.name() {
            let more = TUNNELS[1..].iter().map(|other| tunnel_of(*other, &other.name()));
            network.tunnels.extend(more);
        }
    }
    // One endpoint that may use two of the four.
    for pool in &mut config.pools {
        if pool.name == format!("{}-ipv4-range-tcp", NETWORK.name()) {
            for endpoint in &mut pool.endpoints {
                endpoint.tunnels = vec!["only".to_owned(), TUNNELS[3].name()];
            }
        }
    }
    Lab::new(&config).unwrap()
}

/// The tunnel packet that a flow's packet becomes.
fn sent(lab: &Lab, packet: &Packet) -> TunnelPacket {
    let outcome = lab.run(On::Public, &packet.to_frame()).unwrap();
    assert_eq!(outcome.action, Action::Send, "{packet:?}");
    assert_eq!(outcome, lab.run_on_host(On::Public, &packet.to_frame()).outcome);
    tunnel::unwrap(&outcome.frame).unwrap().unwrap()
}

/// Flows from many ports to a service of the network.
fn flows(family: Family, mode: Mode, transport: Transport) -> impl Iterator<Item = Packet> {
    let vip = (NETWORK.vip(family, mode), ports(mode, transport).0);
    (0..FLOWS).map(move |flow| Packet::new(transport, (client(family).ip(), 20_000 + flow * 7), vip))
}

/// How many flows each tunnel has.
fn shares(lab: &Lab, family: Family, mode: Mode, transport: Transport) -> BTreeMap<Network, usize> {
    let mut shares = BTreeMap::new();
    for packet in flows(family, mode, transport) {
        let first = sent(lab, &packet);
        assert_eq!(first.key, NETWORK.vni());
        let way = |packet: &TunnelPacket| {
            (packet.encap, packet.outer.destination, packet.udp.map(|udp| udp.source))
        };
        // Whatever else differs between the packets of a flow.
        for (data, ttl, tos) in [(0, 64, 0), (900, 9, 0xb8)] {
            let later = sent(lab, &Packet { data: vec![1; data], ttl, tos, ..packet.clone() });
            assert_eq!(way(&later), way(&first), "{packet:?}");
        }
        let network = Network { encap: first.encap, outer: Family::of(first.outer.source) };
        assert_eq!(first.outer.destination, network.remote());
        *shares.entry(network).or_default() += 1;
    }
    shares
}

#[test]
fn flows_use_all_tunnels_of_their_network_and_stay_on_one() {
    let lab = lab();
    let mut counted = BTreeMap::new();
    for family in Family::ALL {
        for transport in Transport::ALL {
            let shares = shares(&lab, family, Mode::Nat, transport);
            let used: BTreeSet<_> = shares.keys().copied().collect();
            assert_eq!(used, BTreeSet::from(TUNNELS), "{family} {transport:?}");
            // A quarter each; binomial, a standard deviation is 11.
            assert!(shares.values().all(|share| (90..=210).contains(share)), "{family} {shares:?}");
            for (network, share) in shares {
                let tunnel = if network == NETWORK { "only".to_owned() } else { network.name() };
                *counted.entry(tunnel).or_default() += PACKETS_OF_A_FLOW * share as u64;
            }
        }
    }
    assert_eq!(lab.packets_by_tunnel(&NETWORK.name()).unwrap(), counted);
}

#[test]
fn an_endpoint_that_names_tunnels_has_no_others() {
    let lab = lab();
    let shares = shares(&lab, Family::V4, Mode::Range, Transport::Tcp);
    assert_eq!(shares.keys().copied().collect::<BTreeSet<_>>(), BTreeSet::from([TUNNELS[0], TUNNELS[3]]));
    assert!(shares.values().all(|share| (220..=380).contains(share)), "{shares:?}");
    // By DSR an endpoint has one.
    let shares = self::shares(&lab, Family::V6, Mode::Dsr, Transport::Udp);
    assert_eq!(shares, BTreeMap::from([(NETWORK, usize::from(FLOWS))]));
}

#[test]
fn replies_come_through_any_tunnel_of_their_network() {
    let lab = lab();
    let mut runner = Runner::new(&lab).unwrap();
    for through in TUNNELS {
        for family in Family::ALL {
            let (port, at_endpoint) = ports(Mode::Nat, Transport::Tcp);
            let source = (endpoints(family, Mode::Nat)[0], at_endpoint);
            let packet = Packet::new(Transport::Tcp, source, client(family)).to_bytes();
            let (from, to) = (through.remote(), lbx(through.outer));
            let wrapped = TunnelPacket::stock(through.encap, from, to, NETWORK.vni(), &packet).unwrap();
            let vip = (NETWORK.vip(family, Mode::Nat), port).into();
            let becomes = Becomes::Delivered(Reply { packet, vip, tos: 0 });
            let framed = frame(&wrapped.to_bytes().unwrap());
            let case = Case::new(format!("{family} through {through:?}"), On::Underlay, framed, becomes);
            runner.run(&case).unwrap_or_else(|error| panic!("{}: {error:#}", case.name));
        }
    }
}

#[test]
fn what_spreads_flows_on_the_way_differs_between_flows() {
    let lab = Lab::new(&world::config()).unwrap();
    for network in Network::all() {
        for family in Family::ALL {
            let vip = (network.vip(family, Mode::Nat), ports(Mode::Nat, Transport::Udp).0);
            let (mut source_ports, mut labels) = (BTreeSet::new(), BTreeSet::new());
            let flow = |flow| Packet::new(Transport::Udp, (client(family).ip(), 20_000 + flow), vip);
            let frames: Vec<_> = (0..FLOWS).map(|number| flow(number).to_frame()).collect();
            for outcome in lab.run_all(On::Public, &frames).unwrap() {
                let frame = outcome.frame;
                let packet = tunnel::unwrap(&frame).unwrap().unwrap();
                source_ports.extend(packet.udp.map(|udp| udp.source));
                labels.insert([frame[15] & 0x0f, frame[16], frame[17]]);
            }
            // 600 of 16,384 ports: 11 meet another one's on average. RFC 7348 §5, RFC 8086 §3.2.1.
            if network.encap.udp_port().is_some() {
                assert!(source_ports.len() > 560, "{network:?} {family}: {} ports", source_ports.len());
                assert!(source_ports.iter().all(|port| *port >= 49_152));
            }
            // Over GRE there is nothing else to spread by (RFC 6438 §3).
            if network.outer == Family::V6 {
                assert!(labels.len() > 590, "{network:?} {family}: {} flow labels", labels.len());
            }
        }
    }
}
