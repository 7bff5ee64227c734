//! What lbx says itself, and errors that it sends on: to clients nothing but VIPs, to endpoints nothing but their
//! own addresses.

use std::net::{IpAddr, SocketAddr};

use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder, icmpv4, icmpv6};
use lbx_common::reason::DropReason::{self, IcmpUnrelated, TooBig, TtlExceeded, VipNoService};
use lbx_tests::{
    family::Family,
    lab::{On, UNRESOLVED_CLIENT, UNRESOLVED_CLIENT_V6},
    packets::{Packet, Transport, frame, length_of, tagged, with_ipv4},
    world::{Mode, Network, client, endpoints, ports},
};

use crate::{
    check::{Becomes, Case},
    stock::of_gateway,
};

/// MTU of the lab's underlay.
const UNDERLAY_MTU: usize = 1600;
/// Time to live of what lbx says itself.
const TTL: u8 = 64;

/// What an error says.
#[derive(Clone, Copy)]
enum Error {
    Expired,
    TooBig(u16),
    Port,
}

/// An error about a packet, of which it quotes the header and eight bytes.
fn error(from: IpAddr, to: IpAddr, ttl: u8, what: Error, about: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            use icmpv4::DestUnreachableHeader::{FragmentationNeeded, Port};
            let kind = match what {
                Error::Expired => Icmpv4Type::TimeExceeded(icmpv4::TimeExceededCode::TtlExceededInTransit),
                Error::TooBig(mtu) => {
                    Icmpv4Type::DestinationUnreachable(FragmentationNeeded { next_hop_mtu: mtu })
                }
                Error::Port => Icmpv4Type::DestinationUnreachable(Port),
            };
            let builder = PacketBuilder::ipv4(from.octets(), to.octets(), ttl).icmpv4(kind);
            builder.write(&mut packet, &about[..28]).unwrap();
            with_ipv4(&packet, |header| header.dont_fragment = false)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let kind = match what {
                Error::Expired => Icmpv6Type::TimeExceeded(icmpv6::TimeExceededCode::HopLimitExceeded),
                Error::TooBig(mtu) => Icmpv6Type::PacketTooBig { mtu: mtu.into() },
                Error::Port => Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port),
            };
            let builder = PacketBuilder::ipv6(from.octets(), to.octets(), ttl).icmpv6(kind);
            builder.write(&mut packet, &about[..48]).unwrap();
            packet
        }
        _ => panic!("an error from {from} to {to}"),
    }
}

/// An echo request, or the reply to it.
fn echo(from: IpAddr, to: IpAddr, reply: bool) -> Vec<u8> {
    let mut packet = Vec::new();
    let data = [0x5a; 57];
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let builder = PacketBuilder::ipv4(from.octets(), to.octets(), TTL);
            if reply {
                builder.icmpv4_echo_reply(7, 9).write(&mut packet, &data)
            } else {
                builder.icmpv4_echo_request(7, 9).write(&mut packet, &data)
            }
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let builder = PacketBuilder::ipv6(from.octets(), to.octets(), TTL);
            if reply {
                builder.icmpv6_echo_reply(7, 9).write(&mut packet, &data)
            } else {
                builder.icmpv6_echo_request(7, 9).write(&mut packet, &data)
            }
        }
        _ => panic!("an echo from {from} to {to}"),
    }
    .unwrap();
    packet
}

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for network in Network::all() {
        for family in Family::ALL {
            let of = Of { network, family };
            cases.extend(of.refused());
            cases.extend(of.sent_on());
            cases.extend(of.unrelated());
        }
    }
    cases
}

/// Of which service.
#[derive(Clone, Copy)]
struct Of {
    network: Network,
    family: Family,
}

impl Of {
    fn name(self, what: &str) -> String {
        format!("{what}: {} of {}", self.network.name(), self.family)
    }

    fn vip(self, mode: Mode, transport: Transport) -> SocketAddr {
        (self.network.vip(self.family, mode), ports(mode, transport).0).into()
    }

    fn endpoint(self, place: usize, mode: Mode, transport: Transport) -> SocketAddr {
        (endpoints(self.family, mode)[place], ports(mode, transport).1).into()
    }

    /// A router on the way to the client.
    fn router(self) -> IpAddr {
        match self.family {
            Family::V4 => UNRESOLVED_CLIENT.into(),
            Family::V6 => UNRESOLVED_CLIENT_V6.into(),
        }
    }

    fn out_of_vnet(self, what: &str, inner: Vec<u8>, becomes: Becomes) -> Case {
        let answer =
            Packet::new(Transport::Udp, self.endpoint(0, Mode::Nat, Transport::Udp), client(self.family));
        let mut wrapped = of_gateway(self.network, &answer.to_bytes());
        wrapped.inner = inner;
        Case::new(self.name(what), On::Underlay, frame(&wrapped.to_bytes().unwrap()), becomes)
    }

    /// Clients' packets that end here, and pings.
    fn refused(self) -> Vec<Case> {
        let vip = self.vip(Mode::Nat, Transport::Udp);
        let client = client(self.family);
        let request = Packet::new(Transport::Udp, client, vip);
        let told = |reason: DropReason, what: Error, packet: &[u8]| {
            Becomes::Refused(Some(self.network), reason, error(vip.ip(), client.ip(), TTL, what, packet))
        };
        let mut cases = Vec::new();
        for ttl in [0, 1] {
            let packet = Packet { ttl, ..request.clone() }.to_bytes();
            let becomes = told(TtlExceeded, Error::Expired, &packet);
            let name = self.name(&format!("time to live {ttl}"));
            cases.push(Case::new(name, On::Public, frame(&packet), becomes.clone()));
            for tags in [&[(0x8100, 5)][..], &[(0x88a8, 6), (0x8100, 5)]] {
                let name = self.name(&format!("time to live {ttl} behind {} tags", tags.len()));
                cases.push(Case::new(name, On::Both, tagged(&frame(&packet), tags), becomes.clone()));
            }
        }
        let mtu = UNDERLAY_MTU - self.network.encap.overhead_bytes(self.network.outer);
        let data = vec![7; mtu + 1 - self.family.header_bytes() - 8];
        let packet = Packet { data, ..request }.to_bytes();
        let becomes = told(TooBig, Error::TooBig(u16::try_from(mtu).unwrap()), &packet);
        cases.push(Case::new(self.name("one byte too many"), On::Public, frame(&packet), becomes));

        // To ports that nobody has, as traceroute's are: those of a VIP that is silent, and of one that is not.
        for (mode, hops, becomes) in [
            (Mode::Nat, 1, Some((TtlExceeded, Error::Expired))),
            (Mode::Nat, 2, None),
            (Mode::Dsr, 1, Some((VipNoService, Error::Port))),
            (Mode::Dsr, 64, Some((VipNoService, Error::Port))),
        ] {
            let vip = SocketAddr::new(self.network.vip(self.family, mode), 33_434);
            let packet = Packet { ttl: hops, ..Packet::new(Transport::Udp, client, vip) }.to_bytes();
            let becomes = match becomes {
                Some((reason, what)) => {
                    let answer = error(vip.ip(), client.ip(), TTL, what, &packet);
                    Becomes::Refused(None, reason, answer)
                }
                None => Becomes::Dropped(None, VipNoService),
            };
            let name = self.name(&format!("port of nobody, {}, time to live {hops}", mode.as_str()));
            cases.push(Case::new(name, On::Public, frame(&packet), becomes));
        }

        let ping = echo(client.ip(), vip.ip(), false);
        let reply = echo(vip.ip(), client.ip(), true);
        cases.push(Case::new(self.name("a ping"), On::Public, frame(&ping), Becomes::Answered(reply)));
        cases
    }

    /// Errors about packets of a service.
    fn sent_on(self) -> Vec<Case> {
        let client = client(self.family);
        let mut cases = Vec::new();
        for (transport, what) in [
            (Transport::Udp, Error::Port),
            (Transport::Tcp, Error::TooBig(1280)),
            (Transport::Udp, Error::TooBig(1400)),
            (Transport::Tcp, Error::Expired),
        ] {
            let kind = match what {
                Error::Port => "port unreachable",
                Error::TooBig(_) => "too big",
                Error::Expired => "time exceeded",
            };
            for mode in [Mode::Nat, Mode::Dsr] {
                let vip = self.vip(mode, transport);
                // About what the client has got from the VIP; the endpoint has sent it.
                let about = Packet::new(transport, vip, client).to_bytes();
                let packet = error(self.router(), vip.ip(), 60, what, &about);
                let possible = (0..2).map(|place| {
                    let source = if mode == Mode::Dsr { vip } else { self.endpoint(place, mode, transport) };
                    let about = Packet::new(transport, source, client).to_bytes();
                    error(client.ip(), source.ip(), 59, what, &about)
                });
                let becomes = Becomes::Relayed(self.network, possible.collect(), length_of(&packet));
                let name = self.name(&format!("{kind} about {transport:?} of {}", mode.as_str()));
                cases.push(Case::new(name, On::Public, frame(&packet), becomes));
            }
            // About what an endpoint has got; the client has sent it to the VIP.
            let (vip, endpoint) = (self.vip(Mode::Nat, transport), self.endpoint(1, Mode::Nat, transport));
            let about = Packet::new(transport, client, endpoint).to_bytes();
            let packet = error(endpoint.ip(), client.ip(), 60, what, &about);
            let about = Packet::new(transport, client, vip).to_bytes();
            let expected = error(vip.ip(), client.ip(), 59, what, &about);
            let becomes = Becomes::RelayedToClient(expected, length_of(&packet));
            cases.push(self.out_of_vnet(&format!("{kind} about {transport:?} of a client"), packet, becomes));
        }
        cases
    }

    /// ICMP that is about no flow of a service.
    fn unrelated(self) -> Vec<Case> {
        let client = client(self.family);
        let vip = self.vip(Mode::Nat, Transport::Udp);
        let endpoint = self.endpoint(0, Mode::Nat, Transport::Udp);
        let of_nobody = Packet::new(Transport::Udp, (vip.ip(), 9), client).to_bytes();
        let to_nobody = Packet::new(Transport::Udp, client, (endpoint.ip(), 9)).to_bytes();
        let of_another = Packet::new(Transport::Udp, endpoint, client).to_bytes();
        let refused = Becomes::Dropped(Some(self.network), IcmpUnrelated);
        let at_vip = |what: &str, about: &[u8]| {
            let packet = error(self.router(), vip.ip(), 60, Error::Port, about);
            let becomes = Becomes::Dropped(None, IcmpUnrelated);
            Case::new(self.name(what), On::Public, frame(&packet), becomes)
        };
        vec![
            at_vip("an error about a port without a service", &of_nobody),
            at_vip("an error about a packet of somebody else", &of_another),
            self.out_of_vnet(
                "an endpoint's error about another port",
                error(endpoint.ip(), client.ip(), 60, Error::Port, &to_nobody),
                refused.clone(),
            ),
            self.out_of_vnet(
                "a ping of a client by an endpoint",
                echo(endpoint.ip(), client.ip(), false),
                refused,
            ),
        ]
    }
}
