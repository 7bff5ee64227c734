//! Random frames, most of them nearly right: requests, replies in tunnels, health checks and strangers' packets of
//! both families, with options, extension headers and VLAN tags; and damage to them.

use std::net::{IpAddr, SocketAddr};

use lbx_tests::{
    family::Family,
    lab::On,
    packets::{Packet, Transport, fragment, frame, padding, tagged, with_extensions, with_options},
    topology::client_address,
    tunnel::TunnelPacket,
    world::{Mode, Network, client, endpoints, lbx, ports},
};
use proptest::{
    prelude::{Rng as _, RngExt as _},
    test_runner::{RngAlgorithm, TestRng},
};

/// Makes frames.
pub struct Generator {
    random: TestRng,
    networks: Vec<Network>,
}

impl Generator {
    /// One that makes the same frames for the same seed.
    pub fn new(seed: u64) -> Self {
        let seed = [seed.to_le_bytes(), (!seed).to_le_bytes()].concat();
        Self { random: TestRng::from_seed(RngAlgorithm::XorShift, &seed), networks: Network::all() }
    }

    /// A frame, mostly of the kind that arrives there.
    pub fn frame(&mut self, on: On) -> Vec<u8> {
        let usual = !self.one_in(6);
        let mut frame = match on {
            On::Public if usual => self.bare(),
            On::Underlay if usual => self.tunnelled(),
            On::Probe if usual => self.probe(false),
            On::Arrival if usual => self.probe(true),
            On::Public | On::Underlay | On::Both | On::Probe | On::Arrival if self.one_in(2) => self.bare(),
            On::Public | On::Underlay | On::Both | On::Probe | On::Arrival => self.tunnelled(),
        };
        if self.one_in(4) {
            frame = self.with_tags(&frame);
        }
        // Half of them stay whole.
        for _ in 0..[0, 0, 0, 1, 1, 2, 3][self.below(7)] {
            self.damage(&mut frame);
        }
        frame
    }

    /// Whether something happens that happens one time in `many`.
    fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn byte(&mut self) -> u8 {
        self.random.next_u32().to_le_bytes()[0]
    }

    fn word(&mut self) -> u16 {
        let [low, high, ..] = self.random.next_u32().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn network(&mut self) -> Network {
        let place = self.below(self.networks.len());
        self.networks[place]
    }

    fn bare(&mut self) -> Vec<u8> {
        let network = self.network();
        frame(&self.packet(network))
    }

    /// A health check, or the answer to one.
    fn probe(&mut self, answered: bool) -> Vec<u8> {
        let (network, family) = (self.network(), self.pick(&Family::ALL));
        let mut source = (network.probe_source(family), self.word());
        let mut destination = (self.address(network, family), self.word());
        if answered {
            std::mem::swap(&mut source, &mut destination);
        }
        let transport = self.pick(&Transport::ALL);
        let data = vec![self.byte(); self.below(40)];
        let tos = self.byte();
        frame(&Packet { data, tos, ..Packet::new(transport, source, destination) }.to_bytes())
    }

    /// An address that means something, or nothing.
    fn address(&mut self, network: Network, family: Family) -> IpAddr {
        let mode = self.pick(&Mode::ALL);
        match self.below(9) {
            0 | 1 => client_address(family),
            2 => network.vip(family, mode),
            3 => self.pick(&endpoints(family, mode)),
            4 => network.probe_source(family),
            5 => lbx(family),
            6 => Network { outer: family, ..network }.remote(),
            7 => self.neighbour(family),
            _ => self.anybody(family),
        }
    }

    /// Someone on the client's network, who may be lbx itself.
    fn neighbour(&mut self, family: Family) -> IpAddr {
        let last = self.byte();
        match client_address(family) {
            IpAddr::V4(client) => {
                let [a, b, c, _] = client.octets();
                [a, b, c, last].into()
            }
            IpAddr::V6(client) => {
                let mut octets = client.octets();
                octets[15] = last;
                octets.into()
            }
        }
    }

    /// Anybody whom no route leads to.
    fn anybody(&mut self, family: Family) -> IpAddr {
        let random = self.random.next_u64().to_le_bytes();
        match family {
            Family::V4 => [100, 64, random[0], random[1]].into(),
            Family::V6 => {
                let mut octets = [0; 16];
                octets[8..].copy_from_slice(&random);
                octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb9]);
                octets.into()
            }
        }
    }

    fn port(&mut self, mode: Mode, transport: Transport, at_endpoint: bool) -> u16 {
        let (port, endpoint_port) = ports(mode, transport);
        match self.below(8) {
            0 => self.word(),
            1 => self.pick(&[0, 1, 80, 7001, 7098, 7099, 17_003, 65_535]),
            _ if at_endpoint => endpoint_port,
            _ => port,
        }
    }

    /// A packet of TCP or UDP.
    fn packet(&mut self, network: Network) -> Vec<u8> {
        let (family, mode) = (self.pick(&Family::ALL), self.pick(&Mode::ALL));
        let transport = self.pick(&Transport::ALL);
        let client_port = self.word();
        let (source, destination): (SocketAddr, SocketAddr) = match self.below(5) {
            0 | 1 => {
                let port = self.port(mode, transport, false);
                ((client(family).ip(), client_port).into(), (network.vip(family, mode), port).into())
            }
            2 | 3 => {
                let endpoint = (self.pick(&endpoints(family, mode)), self.port(mode, transport, true));
                let to = match self.below(5) {
                    0 => self.neighbour(family),
                    1 => network.probe_source(family),
                    _ => client_address(family),
                };
                (endpoint.into(), (to, client_port).into())
            }
            _ => {
                let (from, to) = (self.address(network, family), self.address(network, family));
                let ports = (self.port(mode, transport, true), self.port(mode, transport, false));
                ((from, ports.0).into(), (to, ports.1).into())
            }
        };
        let length = if self.one_in(20) { 1400 + self.below(200) } else { self.below(40) };
        let packet = Packet {
            transport,
            source,
            destination,
            flags: self.pick(&["S", "S.", ".", "P.", "F.", "R", "", "SFPR."]),
            data: vec![self.byte(); length],
            ttl: if self.one_in(2) { 64 } else { self.pick(&[0, 1, 2, 255]) },
            tos: if self.one_in(2) { 0 } else { self.byte() },
            dont_fragment: !self.one_in(4),
        };
        let packet = packet.to_bytes();
        if self.one_in(4) { self.extended(&packet, family) } else { packet }
    }

    /// A packet with options, extension headers, or as a fragment.
    fn extended(&mut self, packet: &[u8], family: Family) -> Vec<u8> {
        if self.one_in(6) {
            let first = self.one_in(2);
            return fragment(packet, first);
        }
        match family {
            Family::V4 => with_options(packet, self.pick(&[1, 2, 5, 10])),
            Family::V6 => {
                let number = self.below(6);
                let headers: Vec<_> = (0..number).map(|_| self.extension()).collect();
                with_extensions(packet, &headers)
            }
        }
    }

    fn extension(&mut self) -> (u8, Vec<u8>) {
        match self.below(5) {
            0 => padding(0, self.pick(&[0, 1, 7])),
            1 => padding(60, self.pick(&[0, 2, 20])),
            2 => (43, vec![0, 4, 0, 0, 0, 0, 0]),
            3 => (44, vec![0, 0, 0, self.byte(), 0, 0, 1]),
            _ => padding(self.pick(&[43, 51, 135]), 1),
        }
    }

    /// A packet in a tunnel, of a gateway or of a stranger, in one of the forms that there are.
    fn tunnelled(&mut self) -> Vec<u8> {
        let network = self.network();
        let inner = self.packet(network);
        let (from, to) = (network.remote(), lbx(network.outer));
        let mut packet = TunnelPacket::stock(network.encap, from, to, network.vni(), &inner).unwrap();
        if self.one_in(10) {
            let other = self.network();
            packet.outer.source = Network { outer: network.outer, ..other }.remote();
        }
        if self.one_in(10) {
            let other = self.network();
            packet.key = self.pick(&[other.vni(), 0, 1, 0x00ff_ffff]);
        }
        if self.one_in(20) {
            packet.outer.destination = self.address(network, network.outer);
        }
        if self.one_in(3) {
            packet.outer.tos = self.byte();
        }
        packet.extras.gre_checksum = self.one_in(6);
        packet.extras.gre_sequence = self.one_in(6).then_some(7);
        if network.outer == Family::V6 && self.one_in(4) {
            packet.extras.encapsulation_limit = Some(self.byte());
        }
        let checksummed = self.one_in(2);
        let bytes = packet.with_udp_checksum(checksummed).to_bytes().unwrap();
        frame(&if self.one_in(10) { self.extended(&bytes, network.outer) } else { bytes })
    }

    fn with_tags(&mut self, frame: &[u8]) -> Vec<u8> {
        let number = self.below(4);
        let tags: Vec<_> = (0..number).map(|_| (self.pick(&[0x8100, 0x88a8]), self.word())).collect();
        tagged(frame, &tags)
    }

    /// Damages a frame behind its MACs, mostly in its headers.
    fn damage(&mut self, frame: &mut Vec<u8>) {
        // Shorter than an Ethernet header is no frame that a NIC would hand on.
        if frame.len() <= 15 {
            return;
        }
        let reach = if self.one_in(4) { frame.len() } else { frame.len().min(110) };
        let at = self.random.random_range(12..reach);
        match self.below(12) {
            0..5 => frame[at] = self.byte(),
            5 | 6 => frame[at] ^= 1 << self.below(8),
            7 => frame[at] = self.pick(&[0, 1, 6, 17, 43, 44, 47, 58, 60, 0x7f, 0x80, 0xff]),
            8 => frame.truncate(at.max(14)),
            9 => frame.extend(vec![0xee; at.min(60)]),
            10 => drop(frame.drain(at.max(14)..(at.max(14) + 4).min(frame.len()))),
            _ => {
                let bytes = self.random.next_u64().to_le_bytes();
                frame.splice(at..at, bytes);
            }
        }
    }
}
