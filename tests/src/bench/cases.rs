//! What is measured: a packet, where it arrives, how packets differ, and what it should take.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use anyhow::{Context, Result, bail, ensure};
use etherparse::{PacketBuilder, TcpOptionElement};
use lbx_common::{
    abi::region_id,
    api::{ConnectionTracking, Forwarding, Prefix},
};

use super::services::{FIRST_VIP, services};
use crate::{
    family::Family,
    lab::{Lab, On},
    packets::{Packet, Transport, frame, tagged},
    topology::CLIENT,
    tunnel::{self, Encap},
    world::{self, Mode, Network, client, endpoints, lbx, ports},
};

/// XDP actions.
const PASS: u32 = 2;
const TX: u32 = 3;
const REDIRECT: u32 = 4;
/// A round robin over 1,048,576 flows.
const MANY: u32 = (1 << 20) - 1;
/// A program of the harness that calls the empty one.
const HOP: &str = "bench_hop";
/// The case that others are compared with.
pub const REFERENCE: &str = "nat, tcp, gre";

/// Where packets are counted on the path in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// As a client's, once by its listener.
    In,
    /// The same, looked up by what is remembered, and all by the endpoint that the flows are pinned to.
    Pinned,
    /// As an endpoint's, with so many questions to the FIB.
    Out(Asks),
    /// They are not lbx's.
    Nowhere,
}

/// How often packets ask the kernel's FIB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// The way is known.
    Seldom,
    /// The ways are too many to be known.
    Mostly,
    /// Some ways have one place.
    Any,
    /// No way is kept.
    Each,
}

/// Where a packet has the number of its flow.
#[derive(Debug, Clone, Copy)]
pub struct FlowAt {
    /// Offset of the lower half, and of the upper half.
    halves: [u16; 2],
    /// What is set beside the upper half.
    beside: u16,
}

impl FlowAt {
    /// Source address and port of IPv4.
    const SOURCE: Self = Self { halves: [28, 34], beside: 0x8000 };
    /// Destination of IPv4 in GRE over IPv4: [`MANY_CLIENTS`].
    const REPLY: Self = Self { halves: [60, 58], beside: 0xac10 };

    /// As the wrapper reads it.
    pub fn to_word(self) -> u64 {
        let [lower, upper] = self.halves;
        u64::from(lower) | u64::from(upper) << 16 | u64::from(self.beside) << 32
    }
}

/// The networks of clients beyond the client, which is their router.
const MANY_CLIENTS: &str = "172.16.0.0/12";

/// What a case should take over its floor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Nothing is promised.
    None,
    /// At most so many nanoseconds.
    Ns(f64),
    /// At most so many times what another case takes.
    Times(f64, &'static str),
}

/// A packet to measure with.
#[derive(Clone)]
pub struct Case<'a> {
    pub name: String,
    pub lab: &'a Lab,
    pub on: On,
    /// The program under test: that for `on`, under the name of the case, or one of the harness.
    pub target: String,
    pub frame: Vec<u8>,
    /// Mask over the number of a run, for the flow it is of; 0 = always the same.
    pub flows: u32,
    pub flow_at: FlowAt,
    /// The same mask for the service.
    pub vips: u32,
    pub floor: &'static str,
    pub returns: u32,
    pub counted: Counted,
    pub aim: Target,
}

/// What a program of the harness answers.
pub fn returns_of(program: &str) -> u32 {
    if [super::EMPTY, HOP].contains(&program) { PASS } else { TX }
}

/// The configurations that are measured.
pub struct Labs {
    world: Lab,
    some: Lab,
    many: Lab,
    tracked: Lab,
    regions: Lab,
    many_regions: Lab,
}

/// Services whose table is that of the client's region, by a list of a few prefixes and of so many more.
fn regions(more: u32) -> Result<Lab> {
    let mut config = world::config();
    world::tell_regions_apart(&mut config);
    let mut lab = Lab::new(&config).context("services by region")?;
    let near = region_id(b"near");
    // Where the clients of `bench_wrap` are, sixteen addresses each, and beyond.
    let [first, second, ..] = CLIENT.octets();
    let prefix = |number: u32| {
        let start = u32::from(Ipv4Addr::new(first, second, 0, 0)).wrapping_add(number << 4);
        (Prefix::around(Ipv4Addr::from(start).into(), 28), near)
    };
    lab.add_regions(&(0..more).map(prefix).collect::<Vec<_>>())?;
    Ok(lab)
}

/// The endpoint that has a pin of each of 1,048,576 flows, where tables would spread them over sixteen.
pub const PINNED: (&str, &str) = ("p0", "e3");

/// One service whose flows are all pinned, and their pins.
fn tracked() -> Result<Lab> {
    let mut config = services(1, 1, 16, Forwarding::Nat);
    // At the limit itself, some find both of their buckets full.
    config.limits.pins = MANY + MANY / 2;
    for service in &mut config.services {
        service.connection_tracking = ConnectionTracking::Always;
    }
    let mut lab = Lab::new(&config).context("a service whose flows are pinned")?;
    // As `bench_wrap` makes them.
    let flows = (0..=MANY).map(|flow| {
        let [first, second, ..] = CLIENT.octets();
        let [_, port, third, fourth] = flow.to_be_bytes();
        let client = SocketAddrV4::new([first, second, third, fourth].into(), 0x8000 | u16::from(port));
        (client, SocketAddrV4::new(FIRST_VIP, 80))
    });
    let pinned = lab.pin(flows, PINNED)?;
    ensure!(pinned == MANY as usize + 1, "only {pinned} of {MANY} flows found a place for a pin");
    Ok(lab)
}

impl Labs {
    pub fn new() -> Result<Self> {
        let world = Lab::new(&world::config())?;
        world.netns().ip(&format!("route add {MANY_CLIENTS} via {CLIENT}"))?;
        Ok(Self {
            world,
            some: Lab::new(&services(64, 64, 16, Forwarding::Nat)).context("64 services")?,
            many: Lab::new(&services(4096, 256, 64, Forwarding::Dsr)).context("4096 services")?,
            tracked: tracked()?,
            regions: regions(0)?,
            many_regions: regions(1 << 20)?,
        })
    }
}

const fn reference() -> Network {
    Network { encap: Encap::Gre, outer: Family::V4 }
}

/// A client's packet: long enough that the wrapper can make its head anew.
fn request(network: Network, family: Family, mode: Mode, transport: Transport) -> Packet {
    let vip = (network.vip(family, mode), ports(mode, transport).0);
    Packet { flags: ".", data: vec![0x5a; 64], ..Packet::new(transport, client(family), vip) }
}

/// The first packet of a connection, with the options that Linux sends.
fn syn(vip: Ipv4Addr) -> Result<Vec<u8>> {
    let options = [
        TcpOptionElement::MaximumSegmentSize(1460),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(1, 0),
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(7),
    ];
    let mut packet = Vec::new();
    PacketBuilder::ipv4(CLIENT.octets(), vip.octets(), 64)
        .tcp(40_000, 80, 1, 64_240)
        .syn()
        .options(&options)?
        .write(&mut packet, &[0x5a; 64])?;
    Ok(frame(&packet))
}

/// All cases.
pub fn all(labs: &Labs) -> Result<Vec<Case<'_>>> {
    let cases = [one_flow(labs), many_flows(labs)?, encapsulations(labs), replies(labs)?, others(labs)];
    Ok(cases.into_iter().flatten().collect())
}

/// A client's packet, always the same.
fn case<'a>(name: &str, lab: &'a Lab, frame: Vec<u8>, floor: &'static str, aim: Target) -> Case<'a> {
    Case {
        name: name.to_owned(),
        lab,
        on: On::Public,
        target: name.to_owned(),
        frame,
        flows: 0,
        flow_at: FlowAt::SOURCE,
        vips: 0,
        floor,
        returns: REDIRECT,
        counted: Counted::In,
        aim,
    }
}

fn times(factor: f64) -> Target {
    Target::Times(factor, REFERENCE)
}

fn nat(network: Network, family: Family, transport: Transport) -> Vec<u8> {
    request(network, family, Mode::Nat, transport).to_frame()
}

fn tcp(network: Network) -> Vec<u8> {
    nat(network, Family::V4, Transport::Tcp)
}

fn one_flow(labs: &Labs) -> Vec<Case<'_>> {
    let (lab, gre) = (&labs.world, reference());
    let dsr = request(gre, Family::V4, Mode::Dsr, Transport::Tcp).to_frame();
    let udp = nat(gre, Family::V4, Transport::Udp);
    vec![
        case(REFERENCE, lab, tcp(gre), "bench_floor_28", Target::Ns(60.0)),
        case("nat, udp, gre", lab, udp, "bench_floor_28", times(1.0)),
        case("dsr, tcp, gre", lab, dsr, "bench_floor_28", times(1.0)),
    ]
}

fn many_flows(labs: &Labs) -> Result<Vec<Case<'_>>> {
    let gre = reference();
    let IpAddr::V4(vip) = gre.vip(Family::V4, Mode::Nat) else { bail!("{gre:?} has no VIP of IPv4") };
    let one_service = |name, frame| Case {
        flows: MANY,
        ..case(name, &labs.world, frame, "bench_floor_28", Target::Ns(65.0))
    };
    let first = Packet {
        flags: ".",
        data: vec![0x5a; 64],
        ..Packet::new(Transport::Tcp, (CLIENT, 40_000), (FIRST_VIP, 80))
    };
    let services = |name, lab, vips, ns| Case {
        flows: MANY,
        vips,
        ..case(name, lab, first.to_frame(), "bench_floor_28", Target::Ns(ns))
    };
    let by_region =
        |name, lab, flows| Case { flows, ..case(name, lab, tcp(gre), "bench_floor_28", Target::None) };
    Ok(vec![
        one_service("nat, tcp, gre, 1 M flows", tcp(gre)),
        by_region("nat, tcp, gre, by region", &labs.regions, 0),
        by_region("nat, tcp, gre, by region, 1 M flows", &labs.regions, MANY),
        by_region("nat, tcp, gre, by region of 1 M prefixes, 1 M flows", &labs.many_regions, MANY),
        one_service("nat, tcp, gre, SYN of 1 M flows", syn(vip)?),
        services("nat, tcp, gre, 64 services, 1 M flows", &labs.some, 63, 90.0),
        services("dsr, tcp, gre, 4096 services, 1 M flows", &labs.many, 4095, 300.0),
        Case {
            counted: Counted::Pinned,
            ..services("nat, tcp, gre, tracked, 1 M pins", &labs.tracked, 0, 300.0)
        },
        // How much of that is due to memory.
        Case {
            counted: Counted::Pinned,
            flows: 1,
            ..services("nat, tcp, gre, tracked, one pin", &labs.tracked, 0, 300.0)
        },
        // Each is remembered as half-open.
        Case {
            frame: syn(FIRST_VIP)?,
            aim: Target::None,
            ..services("nat, tcp, gre, tracked, SYN of 1 M flows", &labs.tracked, 0, 0.0)
        },
    ])
}

fn encapsulations(labs: &Labs) -> Vec<Case<'_>> {
    let (lab, gre) = (&labs.world, reference());
    let over = |encap| Network { encap, outer: Family::V4 };
    let over_v6 = Network { outer: Family::V6, ..gre };
    let v6 = |network| nat(network, Family::V6, Transport::Tcp);
    let tag = tagged(&tcp(gre), &[(0x8100, 5)]);
    vec![
        case("nat, tcp, gre-udp", lab, tcp(over(Encap::GreUdp)), "bench_floor_36", times(1.2)),
        case("nat, tcp, vxlan", lab, tcp(over(Encap::Vxlan)), "bench_floor_50", times(1.2)),
        case("nat, tcp, geneve", lab, tcp(over(Encap::GeneveIp)), "bench_floor_36", times(1.2)),
        case("nat, tcp, ipv6 in gre over ipv6", lab, v6(over_v6), "bench_floor_48", times(1.3)),
        // What of that is due to the inner and to the outer family, and to a stage of its own.
        case("nat, tcp, ipv6 in gre", lab, v6(gre), "bench_floor_28", Target::None),
        case("nat, tcp, gre over ipv6", lab, tcp(over_v6), "bench_floor_48", Target::None),
        case("nat, tcp, gre, VLAN tag", lab, tag, "bench_floor_28", Target::None),
    ]
}

fn replies(labs: &Labs) -> Result<Vec<Case<'_>>> {
    let (lab, gre) = (&labs.world, reference());
    let [endpoint, _] = endpoints(Family::V4, Mode::Nat);
    let reply = Packet {
        flags: ".",
        data: vec![0x5a; 64],
        ..Packet::new(Transport::Tcp, (endpoint, ports(Mode::Nat, Transport::Tcp).1), client(Family::V4))
    };
    let reply = tunnel::wrap(gre.encap, gre.remote(), lbx(gre.outer), gre.vni(), &reply.to_bytes())?;
    let reply = |name, asks, aim| Case {
        on: On::Underlay,
        counted: Counted::Out(asks),
        ..case(name, lab, frame(&reply), "bench_floor_back", aim)
    };
    Ok(vec![
        reply("reply, tcp, gre, cached next hop", Asks::Seldom, Target::Ns(80.0)),
        reply("reply, tcp, gre, route by the FIB", Asks::Each, Target::Ns(230.0)),
        Case {
            flows: MANY,
            flow_at: FlowAt::REPLY,
            ..reply("reply, tcp, gre, to 1 M clients", Asks::Mostly, Target::None)
        },
        // As many as all have room at once.
        Case {
            flows: 2047,
            flow_at: FlowAt::REPLY,
            ..reply("reply, tcp, gre, to 2048 clients", Asks::Any, Target::None)
        },
    ])
}

fn others(labs: &Labs) -> Vec<Case<'_>> {
    let lab = &labs.world;
    let stranger = Packet {
        data: vec![0x5a; 64],
        ..Packet::new(Transport::Tcp, (CLIENT, 40_000), (Ipv4Addr::new(100, 64, 0, 1), 80))
    };
    let passed = Case {
        returns: PASS,
        counted: Counted::Nowhere,
        ..case("no service: passed on", lab, stranger.to_frame(), super::EMPTY, Target::Ns(30.0))
    };
    vec![
        // Beside it stands what a stage of its own costs at least.
        Case {
            name: "a tail call".to_owned(),
            target: HOP.to_owned(),
            floor: super::EMPTY,
            aim: Target::None,
            ..passed.clone()
        },
        passed,
    ]
}
