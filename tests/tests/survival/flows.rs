//! Flows: what they send, and where their packets must go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use lbx_common::reason::Verdict;
use lbx_tests::{
    packets::{Packet, Transport, frame, spoiled, transport_at},
    topology::LBX_UNDERLAY,
    tunnel,
    world::RANGE,
};

use crate::{
    node::Node,
    wanted::{NETWORK, Name, PLACES, VIPS, Wanted, address},
};

/// What has been sent of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The client's SYN.
    Begun,
    /// The endpoint's SYN-ACK.
    Answered,
    /// The client's ACK; of UDP, its first datagram.
    Established,
    /// While its endpoint was not usable, a packet went to another one, and that resets it.
    Reset,
}

/// A flow, and the endpoint that it is on.
#[derive(Debug, Clone)]
pub struct Flow {
    pub service: usize,
    pub udp: bool,
    client: SocketAddr,
    endpoint: Name,
    stage: Stage,
    /// Next sequence numbers of client and endpoint.
    next: [u32; 2],
    /// When it was last used.
    last_ns: u64,
}

/// A client's number stands for its address and port.
fn client(service: usize, number: u16) -> SocketAddr {
    let last = 2 + number % 5;
    let address = match VIPS[service] {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::new(192, 0, 2, u8::try_from(last).unwrap())),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, last)),
    };
    (address, RANGE.0 + 10_000 + number).into()
}

fn segment(
    transport: Transport,
    [from, to]: [SocketAddr; 2],
    flags: &'static str,
    numbers: [u32; 2],
) -> Vec<u8> {
    let data = if flags == "P." { b"data".to_vec() } else { Vec::new() };
    let packet = Packet { flags, data, ..Packet::new(transport, from, to) }.to_bytes();
    if transport == Transport::Udp {
        return packet;
    }
    let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    let at = transport_at(&packet) + 4;
    spoiled(&packet, at, &numbers)
}

impl Flow {
    /// Sends the first packet of a new flow. In the middle of a change there are two configurations, and it may go where
    /// either says, or nowhere; else it must find an endpoint where there is one. `count` tells flows of a client apart.
    pub fn begin(
        node: &mut Node,
        wanted: &[&Wanted],
        (service, udp, number): (usize, bool, u16),
        count: u32,
    ) -> Option<Self> {
        // No two connections have sequence numbers that are near to each other.
        let first = count << 17;
        let client = client(service, number);
        let mut flow = Self {
            service,
            udp,
            client,
            endpoint: (0, 0),
            stage: if udp { Stage::Established } else { Stage::Begun },
            next: [first.wrapping_add(1), first.wrapping_mul(3)],
            last_ns: node.now_ns,
        };
        let now_ns = node.now_ns;
        let may = |wanted: &&Wanted, endpoint| {
            wanted.takes_new(endpoint) || udp && wanted.is_usable(endpoint, service, udp, now_ns)
        };
        if let Some(endpoint) = flow.send(node, "S", [first, 0]) {
            let may = wanted.iter().any(|wanted| may(wanted, endpoint));
            assert!(may, "{flow:?} begins on {endpoint:?}, which takes no new flows");
            flow.endpoint = endpoint;
            return Some(flow);
        }
        if let [wanted] = wanted {
            let pools = wanted.pools_of(service);
            let mut all = pools.into_iter().flat_map(|pool| (0..PLACES).map(move |place| (pool, place)));
            let free = all.find(|&name| wanted.takes_new(name));
            assert!(free.is_none(), "{flow:?} finds no endpoint, and there is {free:?}");
        }
        None
    }

    fn ports(&self) -> (Transport, u16) {
        if self.udp { (Transport::Udp, 53) } else { (Transport::Tcp, 80) }
    }

    /// Sends a packet of the client; where it went.
    fn send(&self, node: &mut Node, flags: &'static str, numbers: [u32; 2]) -> Option<Name> {
        let (transport, port) = self.ports();
        let vip = SocketAddr::new(VIPS[self.service], port);
        node.take_from_client(&frame(&segment(transport, [self.client, vip], flags, numbers)))
    }

    /// Sends a packet of the endpoint, where lbx sees those; whether it was sent on.
    fn answer(&self, node: &mut Node, flags: &'static str, numbers: [u32; 2]) -> bool {
        if self.service == 1 {
            return true;
        }
        let source = SocketAddr::new(address(self.endpoint), 8080);
        let inner = segment(self.ports().0, [source, self.client], flags, numbers);
        let outer =
            tunnel::wrap(NETWORK.encap, NETWORK.remote(), LBX_UNDERLAY, NETWORK.vni(), &inner).unwrap();
        let verdict = node.take_from_gateway(&frame(&outer)).verdict;
        matches!(verdict, Verdict::Transmit { .. } | Verdict::ToHost)
    }

    pub fn is_usable(&self, wanted: &Wanted, now_ns: u64) -> bool {
        wanted.is_usable(self.endpoint, self.service, self.udp, now_ns)
    }

    /// Whether anything is promised to it still.
    pub fn is_promised(&self, wanted: &Wanted, now_ns: u64) -> bool {
        let times = &wanted.times;
        let idle = if self.udp { times.udp_idle } else { times.tcp_idle.min(times.transition) };
        let idle_ns = u64::try_from(idle.as_nanos()).unwrap();
        let alive = now_ns - self.last_ns < idle_ns && !wanted.is_over(self.endpoint, now_ns);
        // A client that got no answer tries again; that is another connection.
        match self.stage {
            Stage::Begun | Stage::Answered => alive && self.is_usable(wanted, now_ns),
            Stage::Established => alive,
            Stage::Reset => false,
        }
    }

    /// The next packet of either side, or of each. `usable`: whether it must go where the flow is.
    pub fn go_on(&mut self, node: &mut Node, wanted: &Wanted, usable: bool) {
        let [client_next, endpoint_next] = self.next;
        match self.stage {
            Stage::Begun => {
                let numbers = [endpoint_next.wrapping_sub(1), client_next];
                let arrived = self.answer(node, "S.", numbers);
                assert!(arrived || !usable, "{self:?}: the SYN-ACK is dropped");
                self.stage = Stage::Answered;
            }
            Stage::Answered => {
                self.stage = Stage::Established;
                self.deliver(node, wanted, "", usable);
            }
            Stage::Established => self.deliver(node, wanted, "P.", usable),
            Stage::Reset => {}
        }
    }

    /// A packet of the client, and the answer.
    fn deliver(&mut self, node: &mut Node, wanted: &Wanted, flags: &'static str, usable: bool) {
        let [client_next, endpoint_next] = self.next;
        let flags = if flags.is_empty() { "." } else { flags };
        let at = self.send(node, flags, self.next);
        // Where lbx sees replies, the packet that says that a flow is in use is one of its endpoint after the SYN-ACK.
        if flags != "." || self.service == 1 {
            self.last_ns = node.now_ns;
        }
        if at != Some(self.endpoint) {
            let now_ns = node.now_ns;
            assert!(!usable, "{self:?}: a packet went to {at:?} at {now_ns}\n{wanted:#?}");
            match at {
                Some(at) if self.udp => self.endpoint = at,
                Some(_) => self.stage = Stage::Reset,
                None => {}
            }
            return;
        }
        if flags == "." {
            return;
        }
        self.next[0] = client_next.wrapping_add(4);
        let arrived = self.answer(node, flags, [endpoint_next, self.next[0]]);
        assert!(arrived || !usable, "{self:?}: the answer is dropped");
        self.next[1] = endpoint_next.wrapping_add(4);
    }

    /// Somebody else sends a SYN with its addresses, when it is established: before, that can take its place.
    pub fn forge(&self, node: &mut Node) {
        if !self.udp && self.stage == Stage::Established {
            self.send(node, "S", [self.next[0].wrapping_add(1 << 30), 0]);
        }
    }

    /// Both sides say that they are done; where that cannot be, its client gives up. Returns the number of the client, for
    /// another one.
    pub fn end(self, node: &mut Node, usable: bool) -> u16 {
        if usable && !self.udp && self.stage == Stage::Established {
            self.send(node, "F.", self.next);
            self.answer(node, "F.", self.next);
            self.send(node, ".", self.next.map(|next| next.wrapping_add(1)));
        }
        self.client.port() - RANGE.0 - 10_000
    }
}
