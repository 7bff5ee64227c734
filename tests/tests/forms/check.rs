//! A case, and whether what the programs made of its packet is right: action, bytes, verdict, counters.

use std::{
    collections::BTreeMap,
    mem,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, Result, ensure};
use lbx_common::{
    api::Traffic,
    reason::{DropReason, Verdict},
};
use lbx_tests::{
    family::Family,
    lab::{Action, Lab, On, Outcome, PEER_MAC},
    packets::{End, Packet, Transport, length_of, rewritten, transport_at},
    tunnel::{self, Extras, GATEWAY_INNER_MAC, LBX_INNER_MAC},
    world::{Mode, Network, client, endpoints, lbx, ports},
};

const PUBLIC_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
const UNDERLAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x02];
const LBX0_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x03];
const LBX1_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x04];
/// RFC 6335 §6: dynamic ports.
const FIRST_SOURCE_PORT: u16 = 49_152;

/// What becomes of a packet.
#[derive(Debug, Clone)]
pub enum Becomes {
    /// It passes, byte for byte.
    Passed,
    /// It is dropped and counted, in a virtual network or in none.
    Dropped(Option<Network>, DropReason),
    /// It is dropped and counted, and this packet goes back to its sender.
    Refused(Option<Network>, DropReason, Vec<u8>),
    /// This packet goes back to its sender.
    Answered(Vec<u8>),
    /// One of these packets goes into a network's tunnel; so many bytes are counted.
    Relayed(Network, Vec<Vec<u8>>, usize),
    /// This packet goes to the client; so many bytes are counted.
    RelayedToClient(Vec<u8>, usize),
    /// It goes to an endpoint.
    Tunnelled(Request),
    /// It goes to the client.
    Delivered(Reply),
    /// The same by way of the host, which finds the client's MAC.
    DeliveredByHost(Reply),
    /// What is inside goes to the health checker, unchanged.
    ToHealthChecker(Vec<u8>),
    /// It goes into this network's tunnel, unchanged.
    Probed(Network, Vec<u8>),
}

/// A client's packet on its way.
#[derive(Debug, Clone)]
pub struct Request {
    /// Whose endpoints it goes to.
    pub network: Network,
    /// By which service.
    pub mode: Mode,
    /// The IP packet as the client sent it, and may lie in it.
    pub packet: Vec<u8>,
    /// The port at the endpoint.
    pub port: u16,
    /// Bytes that are wrong in the packet and stay as they are: offset in the packet, value.
    pub lies: Vec<(usize, Vec<u8>)>,
}

/// A packet of the client to the service of a network and family, with address translation.
pub fn request(network: Network, family: Family, transport: Transport) -> Packet {
    let vip = (network.vip(family, Mode::Nat), ports(Mode::Nat, transport).0);
    Packet::new(transport, client(family), vip)
}

/// What becomes of such a packet, with `lies` in it that stay.
pub fn served(
    network: Network,
    transport: Transport,
    packet: Vec<u8>,
    lies: Vec<(usize, Vec<u8>)>,
) -> Becomes {
    let port = ports(Mode::Nat, transport).1;
    Becomes::Tunnelled(Request { network, mode: Mode::Nat, packet, port, lies })
}

/// An endpoint's packet on its way.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The IP packet as the endpoint sent it.
    pub packet: Vec<u8>,
    /// Where the client sees it come from.
    pub vip: SocketAddr,
    /// DSCP and ECN that the client sees.
    pub tos: u8,
}

/// A packet, where it arrives, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is special about it.
    pub name: String,
    /// Where it arrives.
    pub on: On,
    /// The frame.
    pub frame: Vec<u8>,
    /// What must become of it.
    pub becomes: Becomes,
}

impl Case {
    /// A case.
    pub fn new(name: impl Into<String>, on: On, frame: Vec<u8>, becomes: Becomes) -> Self {
        Self { name: name.into(), on, frame, becomes }
    }
}

/// Runs cases in a lab, and knows its counters from one to the next: reading them is what takes time.
pub struct Runner<'a> {
    /// Where they run.
    pub lab: &'a Lab,
    drops: BTreeMap<(u32, DropReason), u64>,
    traffic: Traffic,
}

impl<'a> Runner<'a> {
    /// One that counts from here on.
    pub fn new(lab: &'a Lab) -> Result<Self> {
        Ok(Self { lab, drops: lab.all_drops()?, traffic: lab.traffic()? })
    }

    /// Runs a case in the kernel and on the host. An error says what is wrong.
    pub fn run(&mut self, case: &Case) -> Result<()> {
        let outcome = self.lab.run(case.on, &case.frame)?;
        let host = self.lab.run_on_host(case.on, &case.frame);
        let drops = mem::replace(&mut self.drops, self.lab.all_drops()?);
        let traffic = mem::replace(&mut self.traffic, self.lab.traffic()?);
        // What a dropped frame looks like is nobody's business.
        let same = outcome.action == host.outcome.action
            && (outcome.action == Action::Drop || outcome.frame == host.outcome.frame);
        ensure!(same, "the host's pipeline says {host:02x?}, the kernel's {outcome:02x?}");
        bytes(&case.frame, &case.becomes, &outcome, host.verdict, self.lab.public)?;
        self.counted_drops(&case.becomes, drops)?;
        self.counted_traffic(&case.becomes, traffic)
    }

    /// One drop for the right reason in the right network, or none.
    fn counted_drops(&self, becomes: &Becomes, mut before: BTreeMap<(u32, DropReason), u64>) -> Result<()> {
        if let Becomes::Dropped(network, reason) | Becomes::Refused(network, reason, _) = becomes {
            let id = match network {
                None => 0,
                Some(network) => self.lab.vnet_id(&network.name())?,
            };
            *before.entry((id, *reason)).or_default() += 1;
        }
        ensure!(self.drops == before, "counted are {:?}, right is {before:?}", self.drops);
        Ok(())
    }

    fn counted_traffic(&self, becomes: &Becomes, before: Traffic) -> Result<()> {
        let mut right = before;
        match becomes {
            Becomes::Tunnelled(request) => {
                right.in_packets += 1;
                right.in_bytes += length_of(&request.packet) as u64;
                right.tcp_syns += u64::from(is_syn(&request.packet));
            }
            Becomes::Delivered(reply) | Becomes::DeliveredByHost(reply) => {
                right.out_packets += 1;
                right.out_bytes += length_of(&reply.packet) as u64;
            }
            Becomes::Relayed(_, _, length) => {
                right.in_packets += 1;
                right.in_bytes += *length as u64;
            }
            Becomes::RelayedToClient(_, length) => {
                right.out_packets += 1;
                right.out_bytes += *length as u64;
            }
            Becomes::Passed
            | Becomes::Dropped(..)
            | Becomes::Refused(..)
            | Becomes::Answered(_)
            | Becomes::ToHealthChecker(_)
            | Becomes::Probed(..) => {}
        }
        ensure!(self.traffic == right, "listeners count {:?}, right is {right:?}", self.traffic);
        Ok(())
    }
}

fn is_syn(packet: &[u8]) -> bool {
    let protocol = etherparse::IpSlice::from_slice(packet).unwrap().payload_ip_number();
    protocol == etherparse::IpNumber::TCP && packet[transport_at(packet) + 13] & 0x12 == 0x02
}

fn bytes(frame: &[u8], becomes: &Becomes, outcome: &Outcome, verdict: Verdict, public: u32) -> Result<()> {
    let action = match becomes {
        Becomes::Passed => Action::Pass,
        Becomes::Dropped(..) => Action::Drop,
        Becomes::Refused(..)
        | Becomes::Answered(_)
        | Becomes::Relayed(..)
        | Becomes::RelayedToClient(..)
        | Becomes::Tunnelled(_)
        | Becomes::Delivered(_)
        | Becomes::DeliveredByHost(_)
        | Becomes::ToHealthChecker(_)
        | Becomes::Probed(..) => Action::Send,
    };
    ensure!(outcome.action == action, "{verdict:?}, {:02x?}", outcome.frame);
    match becomes {
        Becomes::Passed => ensure!(outcome.frame == frame, "it was changed"),
        Becomes::Dropped(_, reason) => {
            ensure!(matches!(verdict, Verdict::Drop { reason: said, .. } if said == *reason), "{verdict:?}");
        }
        Becomes::Tunnelled(request) => {
            ensure!(matches!(verdict, Verdict::Transmit { .. }), "{verdict:?}");
            let packet = opened(outcome, request.network)?;
            let expected = request.expected(&packet)?;
            same("inside", &packet.inner, &expected)?;
        }
        Becomes::Refused(_, _, answer) | Becomes::Answered(answer) => {
            ensure!(verdict == Verdict::Back, "{verdict:?}");
            // With the tags that the packet came with.
            let link = frame.len() - payload_of(frame).len();
            let expected = [&frame[6..12], &frame[..6], &frame[12..link], answer].concat();
            same("back", outcome.frame.get(..expected.len()).context("the frame is short")?, &expected)?;
        }
        Becomes::Relayed(network, packets, _) => {
            ensure!(matches!(verdict, Verdict::Transmit { .. }), "{verdict:?}");
            let inner = opened(outcome, *network)?.inner;
            ensure!(packets.contains(&inner), "inside\n{inner:02x?}\ninstead of one of\n{packets:02x?}");
        }
        Becomes::RelayedToClient(packet, _) => {
            ensure!(verdict == Verdict::Transmit { ifindex: public }, "{verdict:?}");
            sent(outcome, PEER_MAC, PUBLIC_MAC, packet)?;
        }
        Becomes::Probed(network, packet) => {
            ensure!(matches!(verdict, Verdict::Transmit { .. }), "{verdict:?}");
            same("inside", &opened(outcome, *network)?.inner, packet)?;
        }
        Becomes::Delivered(reply) => {
            ensure!(verdict == Verdict::Transmit { ifindex: public }, "{verdict:?}");
            let packet = rewritten(&reply.packet, End::Source, reply.vip, 1, reply.tos);
            sent(outcome, PEER_MAC, PUBLIC_MAC, &packet)?;
        }
        Becomes::DeliveredByHost(reply) => {
            ensure!(verdict == Verdict::ToHost, "{verdict:?}");
            // The kernel takes its hop off when it forwards.
            let packet = rewritten(&reply.packet, End::Source, reply.vip, 0, reply.tos);
            sent(outcome, LBX0_MAC, LBX1_MAC, &packet)?;
        }
        Becomes::ToHealthChecker(packet) => {
            ensure!(verdict == Verdict::ToHost, "{verdict:?}");
            sent(outcome, LBX0_MAC, LBX1_MAC, packet)?;
        }
    }
    Ok(())
}

/// What follows the Ethernet header and its tags.
fn payload_of(frame: &[u8]) -> &[u8] {
    let is_tag = |tag: &&[u8]| matches!(tag[..2], [0x81, 0x00] | [0x88, 0xa8]);
    let tags = frame[12..].chunks(4).take_while(is_tag).count();
    &frame[14 + 4 * tags..]
}

fn same(place: &str, found: &[u8], expected: &[u8]) -> Result<()> {
    ensure!(found == expected, "{place}\n{found:02x?}\ninstead of\n{expected:02x?}");
    Ok(())
}

/// A frame without a tunnel; padding may follow the packet.
fn sent(outcome: &Outcome, destination: [u8; 6], source: [u8; 6], packet: &[u8]) -> Result<()> {
    let kind = Family::of_packet(packet).context("a packet")?.ethertype();
    let expected = [&destination[..], &source, &kind.to_be_bytes(), packet].concat();
    let found = outcome.frame.get(..expected.len()).context("the frame is short")?;
    same("sent", found, &expected)
}

/// Takes a tunnel frame of lbx apart; an error says what is not as documented.
fn opened(outcome: &Outcome, network: Network) -> Result<tunnel::TunnelPacket> {
    let macs = [PEER_MAC, UNDERLAY_MAC].concat();
    ensure!(outcome.frame.starts_with(&macs), "{:02x?}", &outcome.frame[..14]);
    let packet = tunnel::unwrap(&outcome.frame)?.context("no tunnel packet")?;
    let outer = &packet.outer;
    let Network { encap, outer: family } = network;
    ensure!((packet.encap, packet.key) == (encap, network.vni()), "{packet:?}");
    ensure!((outer.source, outer.destination) == (lbx(family), network.remote()), "{packet:?}");
    ensure!(outer.ttl == 64 && packet.extras == Extras::default(), "{packet:?}");
    let port = packet.udp.map(|udp| udp.destination);
    ensure!(port == encap.udp_port(), "{packet:?}");
    if let Some(udp) = packet.udp {
        ensure!(udp.source >= FIRST_SOURCE_PORT && !udp.checksummed, "{udp:?}");
    }
    let macs = (tunnel::mac(GATEWAY_INNER_MAC)?, tunnel::mac(LBX_INNER_MAC)?);
    ensure!(packet.inner_macs == encap.has_ethernet().then_some(macs), "{packet:?}");

    let inner = etherparse::IpSlice::from_slice(&packet.inner).context("the inner packet")?;
    let (kind, tos, dont_fragment) = match &inner {
        etherparse::IpSlice::Ipv4(ip) => {
            let header = ip.header();
            let tos = header.dcp().value() << 2 | header.ecn().value();
            (Family::V4, tos, header.dont_fragment())
        }
        etherparse::IpSlice::Ipv6(ip) => (Family::V6, ip.header().to_header().traffic_class, true),
    };
    ensure!(packet.protocol == kind.ethertype(), "{packet:?}");
    // RFC 6040 §4.1, normal mode: ECN is copied, as DSCP is.
    ensure!(outer.tos == tos, "outer DSCP and ECN {:#04x}, inner {tos:#04x}", outer.tos);
    let outer_may = if family == Family::V4 { Some(dont_fragment) } else { None };
    ensure!(outer.dont_fragment == outer_may, "outer DF {:?}", outer.dont_fragment);
    let length = packet.inner.len() + encap.overhead_bytes(family);
    ensure!(outer.packet_bytes == length, "{} bytes outside, not {length}", outer.packet_bytes);
    Ok(packet)
}

impl Request {
    /// The inner packet for the endpoint that was chosen.
    fn expected(&self, packet: &tunnel::TunnelPacket) -> Result<Vec<u8>> {
        let destination = etherparse::IpSlice::from_slice(&packet.inner)?.destination_addr();
        let tos = packet.outer.tos;
        let mut expected = if self.mode == Mode::Dsr {
            let at = transport_at(&self.packet);
            let vip = (self.vip(), u16::from_be_bytes([self.packet[at + 2], self.packet[at + 3]]));
            rewritten(&self.packet, End::Destination, vip.into(), 1, tos)
        } else {
            let possible = endpoints(Family::of(destination), self.mode);
            ensure!(possible.contains(&destination), "to {destination}, who is no endpoint");
            rewritten(&self.packet, End::Destination, (destination, self.port).into(), 1, tos)
        };
        for (at, lie) in &self.lies {
            expected[*at..at + lie.len()].copy_from_slice(lie);
        }
        Ok(expected)
    }

    fn vip(&self) -> IpAddr {
        etherparse::IpSlice::from_slice(&self.packet).unwrap().destination_addr()
    }
}
