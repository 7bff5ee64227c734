//! Packets out of virtual networks: their headers and lengths, and where they go.

use std::net::{IpAddr, SocketAddr};

use lbx_common::reason::DropReason::{
    self, NoRoute, ReplyNoService, ReplySyn, TtlExceeded, TunnelMalformed, TunnelUnknownPeer,
};
use lbx_tests::{
    family::Family,
    lab::{On, UNRESOLVED_CLIENT, UNRESOLVED_CLIENT_V6},
    packets::{Packet, Transport, frame, length_of, padding, spoiled, with_extensions, with_options},
    world::{Mode, Network, client, endpoints, ports},
};

use crate::{
    check::{Becomes, Case, Reply},
    stock::of_gateway,
};

/// Whose replies.
#[derive(Clone, Copy)]
struct Of {
    network: Network,
    family: Family,
}

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for network in Network::all() {
        for family in Family::ALL {
            let of = Of { network, family };
            cases.extend([of.headers(), of.broken(), of.refused(), of.destinations()].into_iter().flatten());
        }
    }
    cases
}

/// Times to live that end here. What answers them is not looked at here.
pub fn expired() -> Vec<Case> {
    let mut cases = Vec::new();
    for network in Network::all() {
        for family in Family::ALL {
            let of = Of { network, family };
            for ttl in [0, 1] {
                let packet = Packet { ttl, ..of.answer() }.to_bytes();
                cases.push(of.dropped(&format!("time to live {ttl}"), &packet, TtlExceeded));
            }
        }
    }
    cases
}

impl Of {
    fn answer(self) -> Packet {
        let source = (endpoints(self.family, Mode::Nat)[0], ports(Mode::Nat, Transport::Tcp).1);
        Packet::new(Transport::Tcp, source, client(self.family))
    }

    fn vip(self) -> SocketAddr {
        (self.network.vip(self.family, Mode::Nat), ports(Mode::Nat, Transport::Tcp).0).into()
    }

    fn case(self, name: &str, packet: &[u8], becomes: Becomes) -> Case {
        let name = format!("{name}, {} through {}", self.family, self.network.name());
        let mut wrapped = of_gateway(self.network, &self.answer().to_bytes());
        wrapped.inner = packet.to_vec();
        Case::new(name, On::Underlay, frame(&wrapped.to_bytes().unwrap()), becomes)
    }

    fn delivered(self, name: &str, packet: &[u8]) -> Case {
        let reply = Reply { packet: packet.to_vec(), vip: self.vip(), tos: 0 };
        self.case(name, packet, Becomes::Delivered(reply))
    }

    fn dropped(self, name: &str, packet: &[u8], reason: DropReason) -> Case {
        self.case(name, packet, Becomes::Dropped(Some(self.network), reason))
    }

    fn headers(self) -> Vec<Case> {
        let plain = self.answer().to_bytes();
        let mut cases = Vec::new();
        match self.family {
            Family::V4 => {
                for words in [1, 10] {
                    let packet = with_options(&plain, words);
                    cases.push(self.delivered(&format!("{words} words of options"), &packet));
                }
            }
            Family::V6 => {
                for number in [1, 4] {
                    let packet = with_extensions(&plain, &vec![padding(60, 1); number]);
                    cases.push(self.delivered(&format!("{number} extension headers"), &packet));
                }
                let five = with_extensions(&plain, &vec![padding(60, 0); 5]);
                cases.push(self.dropped("five extension headers", &five, TunnelMalformed));
                let beyond = with_extensions(&plain, &[(60, vec![99, 1, 4, 0, 0, 0, 0])]);
                cases.push(self.dropped("options beyond the packet", &beyond, TunnelMalformed));
            }
        }
        cases
    }

    fn broken(self) -> Vec<Case> {
        let plain = self.answer().to_bytes();
        let (length_at, header) = if self.family == Family::V4 { (2, 0) } else { (4, 40) };
        let length = u16::try_from(length_of(&plain) - header).unwrap();
        let says = |length: u16| spoiled(&plain, length_at, &length.to_be_bytes());
        let mut cases = Vec::new();
        for (name, packet) in [
            ("a length beyond the packet", says(length + 1)),
            ("the greatest length", says(65_535)),
            ("length 0", says(0)),
            ("a length of half a TCP header", says(length - 9 - 10)),
            ("a version of neither", spoiled(&plain, 0, &[0x55])),
        ] {
            cases.push(self.dropped(name, &packet, TunnelMalformed));
        }
        // Padding behind the inner packet and within the outer one.
        cases.push(self.case(
            "padding inside",
            &[&plain[..], &[0xee; 9]].concat(),
            Becomes::Delivered(Reply { packet: plain, vip: self.vip(), tos: 0 }),
        ));
        cases
    }

    fn refused(self) -> Vec<Case> {
        let [first, second] = endpoints(self.family, Mode::Nat);
        let from = |source: (IpAddr, u16)| Packet { source: source.into(), ..self.answer() }.to_bytes();
        let protocol_at = if self.family == Family::V4 { 9 } else { 6 };
        let mut cases = vec![
            self.dropped("a SYN", &Packet { flags: "S", ..self.answer() }.to_bytes(), ReplySyn),
            self.dropped("another port", &from((first, 8081)), ReplyNoService),
            self.dropped("the port of the VIP", &from((second, 80)), ReplyNoService),
            self.dropped("the VIP itself", &from((self.vip().ip(), 80)), ReplyNoService),
            self.dropped("the client itself", &from((client(self.family).ip(), 8080)), ReplyNoService),
        ];
        let udp = Packet { transport: Transport::Udp, ..self.answer() }.to_bytes();
        cases.push(self.dropped("UDP from a port of TCP", &udp, ReplyNoService));
        for protocol in [4, 41, 47, 50, 132, 255] {
            let packet = spoiled(&self.answer().to_bytes(), protocol_at, &[protocol]);
            cases.push(self.dropped(&format!("protocol {protocol}"), &packet, ReplyNoService));
        }
        // The same packet with the key of each other network that has this encapsulation's form.
        for other in Network::all() {
            if other.encap == self.network.encap && other != self.network {
                let mut wrapped = of_gateway(self.network, &self.answer().to_bytes());
                wrapped.key = other.vni();
                let name = format!(
                    "{} with the key of {} through {}",
                    self.family,
                    other.name(),
                    self.network.name()
                );
                let becomes = Becomes::Dropped(Some(other), TunnelUnknownPeer);
                cases.push(Case::new(name, On::Underlay, frame(&wrapped.to_bytes().unwrap()), becomes));
            }
        }
        cases
    }

    /// Where no packet out of a virtual network may go.
    fn destinations(self) -> Vec<Case> {
        let to =
            |address: IpAddr| Packet { destination: (address, 40_000).into(), ..self.answer() }.to_bytes();
        let nowhere: &[(&str, &str)] = match self.family {
            Family::V4 => &[
                ("where no route leads", "100.64.0.1"),
                ("lbx itself", "192.0.2.1"),
                ("the broadcast address of a network", "192.0.2.255"),
                ("broadcast", "255.255.255.255"),
                ("multicast", "224.0.0.5"),
                ("the unspecified address", "0.0.0.0"),
                ("loopback", "127.0.0.1"),
            ],
            Family::V6 => &[
                ("where no route leads", "2001:db9::1"),
                ("lbx itself", "2001:db8:2::1"),
                ("multicast", "ff02::5"),
                ("multicast of a wider scope", "ff0e::1"),
                ("the unspecified address", "::"),
                ("loopback", "::1"),
            ],
        };
        let mut cases = Vec::new();
        for (name, address) in nowhere {
            let packet = to(address.parse().unwrap());
            cases.push(self.dropped(&format!("to {name}"), &packet, NoRoute));
        }
        // Health checks are each network's own.
        let probe_source = self.network.probe_source(self.family);
        let udp = Packet {
            transport: Transport::Udp,
            source: (endpoints(self.family, Mode::Nat)[0], ports(Mode::Nat, Transport::Udp).1).into(),
            destination: (probe_source, 40_000).into(),
            ..self.answer()
        };
        let becomes = Becomes::ToHealthChecker(udp.to_bytes());
        cases.push(self.case("UDP to the health checker", &udp.to_bytes(), becomes));
        let other = Network::all().into_iter().find(|other| *other != self.network).unwrap();
        let packet = to(other.probe_source(self.family));
        cases.push(self.dropped("to the health checker of another network", &packet, NoRoute));
        // One whose MAC nobody knows yet: the host finds it, and takes its hop off the time to live.
        let unresolved = match self.family {
            Family::V4 => UNRESOLVED_CLIENT.into(),
            Family::V6 => UNRESOLVED_CLIENT_V6.into(),
        };
        let packet = to(unresolved);
        let becomes = Becomes::DeliveredByHost(Reply { packet: packet.clone(), vip: self.vip(), tos: 0 });
        cases.push(self.case("to a client that must be resolved", &packet, becomes));
        cases
    }
}
