//! Every inner family over every outer one, in every encapsulation, by address translation and without, in both
//! directions, of TCP and UDP. Each cell is a handful of packets; the table shows all cells.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context, Result};
use lbx_common::reason::DropReason;
use lbx_tests::{
    family::Family,
    lab::{Lab, On},
    packets::{Packet, Transport, checksum_at, frame, spoiled, tagged},
    topology::{PUBLIC_MTU, UNDERLAY_MTU},
    tunnel::{Encap, TunnelPacket},
    world::{Mode, Network, client, endpoints, lbx, ports},
};

use crate::check::{Becomes, Case, Reply, Request, Runner};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the client.
    ToEndpoint,
    /// From the endpoint.
    ToClient,
}

/// A cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    network: Network,
    inner: Family,
    mode: Mode,
    way: Way,
    transport: Transport,
}

const MODES: [Mode; 2] = [Mode::Nat, Mode::Dsr];
const WAYS: [Way; 2] = [Way::ToEndpoint, Way::ToClient];

/// All cells.
pub fn cells() -> Vec<Cell> {
    let mut cells = Vec::new();
    for network in Network::all() {
        for inner in Family::ALL {
            for mode in MODES {
                for way in WAYS {
                    cells.extend(Transport::ALL.map(|transport| Cell {
                        network,
                        inner,
                        mode,
                        way,
                        transport,
                    }));
                }
            }
        }
    }
    cells
}

/// Runs all cells; a cell that fails says why.
pub fn run_all(lab: &Lab) -> BTreeMap<Cell, Result<usize>> {
    let mut runner = Runner::new(lab).unwrap();
    cells().into_iter().map(|cell| (cell, cell.run(&mut runner))).collect()
}

/// The table of all cells.
pub fn table(outcomes: &BTreeMap<Cell, Result<usize>>) -> String {
    let row = |words: [&str; 8]| {
        let [encap, outer, inner, mode, a, b, c, d] = words;
        format!("{encap:16} {outer:6} {inner:6} {mode:5} {a:13} {b:13} {c:11} {d}\n")
    };
    let mut table =
        row(["encap", "outer", "inner", "mode", "to end., tcp", "to end., udp", "back, tcp", "back, udp"]);
    for encap in Encap::ALL {
        for outer in Family::ALL {
            for inner in Family::ALL {
                for mode in MODES {
                    let said = |way, transport| {
                        let network = Network { encap, outer };
                        match outcomes.get(&Cell { network, inner, mode, way, transport }) {
                            Some(Ok(_)) if mode == Mode::Dsr && way == Way::ToClient => "refused",
                            Some(Ok(_)) => "ok",
                            Some(Err(_)) => "WRONG",
                            None => "MISSING",
                        }
                    };
                    let [to, back] = WAYS.map(|way| Transport::ALL.map(|transport| said(way, transport)));
                    let (encap, outer, inner) = (encap.as_str(), outer.as_str(), inner.as_str());
                    table += &row([encap, outer, inner, mode.as_str(), to[0], to[1], back[0], back[1]]);
                }
            }
        }
    }
    table
}

impl Cell {
    /// Runs its packets; the number of them.
    fn run(self, runner: &mut Runner<'_>) -> Result<usize> {
        let cases = match self.way {
            Way::ToEndpoint => self.requests(),
            Way::ToClient => self.replies(),
        };
        for case in &cases {
            runner.run(case).with_context(|| case.name.clone())?;
        }
        Ok(cases.len())
    }

    fn vip(self) -> SocketAddr {
        (self.network.vip(self.inner, self.mode), ports(self.mode, self.transport).0).into()
    }

    fn packet(self) -> Packet {
        Packet::new(self.transport, client(self.inner), self.vip())
    }

    /// The largest packet that fits into the tunnel.
    fn largest(self) -> usize {
        usize::from(UNDERLAY_MTU) - self.network.encap.overhead_bytes(self.network.outer)
    }

    /// A packet with so much data that it is `bytes` long.
    fn filled(packet: &Packet, bytes: usize) -> Packet {
        let headers = Packet { data: Vec::new(), ..packet.clone() }.to_bytes().len();
        Packet { data: vec![0xa5; bytes - headers], ..packet.clone() }
    }

    fn requests(self) -> Vec<Case> {
        let mut packets = vec![("data", self.packet())];
        packets.push(("no data", Packet { data: Vec::new(), ..self.packet() }));
        packets.push(("a thousand bytes", Packet { data: vec![0xa5; 1000], ..self.packet() }));
        packets.push(("the largest packet", Self::filled(&self.packet(), self.largest())));
        packets.push(("time to live 2", Packet { ttl: 2, ..self.packet() }));
        packets.push(("time to live 255", Packet { ttl: 255, ..self.packet() }));
        // DSCP EF and AF11 with each value of ECN (RFC 6040 §4.1).
        for tos in [0xb8, 0xb9, 0x2a, 0x2b, 0xff] {
            packets.push(("DSCP and ECN", Packet { tos, ..self.packet() }));
        }
        if self.inner == Family::V4 {
            packets.push(("may be fragmented", Packet { dont_fragment: false, ..self.packet() }));
        }
        if self.transport == Transport::Tcp {
            for flags in ["S", "S.", "F.", "R", "."] {
                packets.push((flags, Packet { flags, data: Vec::new(), ..self.packet() }));
            }
        }
        let mut cases = Vec::new();
        for (name, packet) in packets {
            cases.push(self.request(name, On::Public, packet.to_frame(), packet.to_bytes()));
        }
        let (bytes, plain) = (self.packet().to_bytes(), self.packet().to_frame());
        cases.push(self.request("an interface for both", On::Both, plain.clone(), bytes.clone()));
        for tags in [&[(0x8100, 5)][..], &[(0x8100, 0x6005)], &[(0x88a8, 7), (0x8100, 5)]] {
            cases.push(self.request("VLAN tags", On::Public, tagged(&plain, tags), bytes.clone()));
        }
        cases.push(self.request("padding", On::Public, [&plain[..], &[0xee; 11]].concat(), bytes.clone()));
        if self.transport == Transport::Udp {
            // RFC 768: none; in IPv6 nobody should send that, but it is not lbx's to judge.
            let none = spoiled(&bytes, checksum_at(&bytes), &[0, 0]);
            cases.push(self.request("no checksum", On::Public, frame(&none), none));
        }
        cases
    }

    fn request(self, name: &str, on: On, frame: Vec<u8>, packet: Vec<u8>) -> Case {
        let Self { network, mode, .. } = self;
        let port = ports(mode, self.transport).1;
        Case::new(
            name,
            on,
            frame,
            Becomes::Tunnelled(Request { network, mode, packet, port, lies: Vec::new() }),
        )
    }

    /// What an endpoint answers: by DSR it has the VIP itself.
    fn answer(self) -> Packet {
        let source = if self.mode == Mode::Dsr {
            self.vip()
        } else {
            (endpoints(self.inner, self.mode)[1], ports(self.mode, self.transport).1).into()
        };
        Packet::new(self.transport, source, client(self.inner))
    }

    fn replies(self) -> Vec<Case> {
        if self.mode == Mode::Dsr {
            return self.refused();
        }
        let mut packets = vec![("data", self.answer())];
        packets.push(("no data", Packet { data: Vec::new(), ..self.answer() }));
        packets.push(("a thousand bytes", Packet { data: vec![0xa5; 1000], ..self.answer() }));
        packets.push(("the largest packet", Self::filled(&self.answer(), usize::from(PUBLIC_MTU))));
        packets.push(("time to live 2", Packet { ttl: 2, ..self.answer() }));
        packets.push(("time to live 255", Packet { ttl: 255, ..self.answer() }));
        packets.push(("may be fragmented", Packet { dont_fragment: false, ..self.answer() }));
        if self.transport == Transport::Tcp {
            for flags in ["S.", "F.", "R", "."] {
                packets.push((flags, Packet { flags, data: Vec::new(), ..self.answer() }));
            }
        }
        let mut cases = Vec::new();
        for (name, packet) in packets {
            cases.push(self.reply(name, &packet.to_bytes(), 0, packet.tos));
        }
        if self.transport == Transport::Udp {
            let bytes = self.answer().to_bytes();
            cases.push(self.reply("no checksum", &spoiled(&bytes, checksum_at(&bytes), &[0, 0]), 0, 0));
        }
        cases.extend(self.congestion());
        let answer = self.answer().to_bytes();
        let plain = self.in_tunnel(&answer, 0);
        let becomes = || Becomes::Delivered(Reply { packet: answer.clone(), vip: self.vip(), tos: 0 });
        cases.push(Case::new("an interface for both", On::Both, plain.clone(), becomes()));
        for tags in [&[(0x8100, 5)][..], &[(0x88a8, 7), (0x8100, 5)]] {
            cases.push(Case::new("VLAN tags", On::Underlay, tagged(&plain, tags), becomes()));
        }
        cases
    }

    /// RFC 6040 §4.2, figure 4, all of it; DSCP outside is nobody's business.
    fn congestion(self) -> Vec<Case> {
        const NOT_ECT: u8 = 0;
        const ECT_1: u8 = 1;
        const ECT_0: u8 = 2;
        const CE: u8 = 3;
        let mut cases = Vec::new();
        for inner in [NOT_ECT, ECT_1, ECT_0, CE] {
            for outer in [NOT_ECT, ECT_1, ECT_0, CE] {
                let name = format!("ECN {outer} outside, {inner} inside");
                let after = match (inner, outer) {
                    (NOT_ECT, CE) => None,
                    (NOT_ECT, _) => Some(NOT_ECT),
                    (_, CE) | (CE, _) => Some(CE),
                    (ECT_0, ECT_1) => Some(ECT_1),
                    (same, _) => Some(same),
                };
                let packet = Packet { tos: 0xb8 | inner, ..self.answer() }.to_bytes();
                cases.push(match after {
                    Some(after) => self.reply(&name, &packet, 0x28 | outer, 0xb8 | after),
                    None => Case::new(
                        name,
                        On::Underlay,
                        self.in_tunnel(&packet, 0x28 | outer),
                        Becomes::Dropped(Some(self.network), DropReason::Congested),
                    ),
                });
            }
        }
        cases
    }

    fn reply(self, name: &str, packet: &[u8], outer_tos: u8, tos: u8) -> Case {
        let becomes = Becomes::Delivered(Reply { packet: packet.to_vec(), vip: self.vip(), tos });
        Case::new(name, On::Underlay, self.in_tunnel(packet, outer_tos), becomes)
    }

    /// A frame of the gateway, in the form of a stock device.
    fn in_tunnel(self, inner: &[u8], outer_tos: u8) -> Vec<u8> {
        let Network { encap, outer } = self.network;
        let (from, to) = (self.network.remote(), lbx(outer));
        let mut packet = TunnelPacket::stock(encap, from, to, self.network.vni(), inner).unwrap();
        packet.outer.tos = outer_tos;
        frame(&packet.to_bytes().unwrap())
    }

    /// There is no way back through lbx for DSR.
    fn refused(self) -> Vec<Case> {
        let port = ports(self.mode, self.transport).1;
        let refused = |name, source: SocketAddr| {
            let packet = Packet::new(self.transport, source, client(self.inner)).to_bytes();
            let becomes = Becomes::Dropped(Some(self.network), DropReason::ReplyNoService);
            Case::new(name, On::Underlay, self.in_tunnel(&packet, 0), becomes)
        };
        let [a, b] = endpoints(self.inner, self.mode);
        vec![
            refused("from the VIP", self.vip()),
            refused("from an endpoint", (a, port).into()),
            refused("from the other endpoint", (b, port).into()),
        ]
    }
}
