//! Checksums at the ends of their range: what is computed incrementally must be what a sum over the whole packet
//! gives, also where that is 0x0000 or 0xffff (RFC 1624 §3; RFC 768 for UDP).

use etherparse::IpSlice;
use lbx_tests::{
    family::Family,
    lab::{Lab, On},
    packets::{End, Packet, Transport, checksum_at, checksum_of, frame, rewritten, spoiled},
    tunnel,
    world::{self, Mode, Network, client, endpoints, ports},
};

use crate::{
    check::{Becomes, Case, Reply, Request, Runner},
    stock::of_gateway,
};

/// Checksums that a packet shall have: the ends of the range, and their neighbours.
const WANTED: [u16; 6] = [0x0000, 0x0001, 0x7fff, 0x8000, 0xfffe, 0xffff];

/// The first two bytes of data that take a packet from checksum `has` with two zero bytes there to `wants`:
/// in ones' complement, the sum grows by the data, and the checksum is what is missing from 0xffff.
fn data_for(has: u16, wants: u16) -> [u8; 2] {
    let sum = u32::from(!wants) + u32::from(has);
    let folded = (sum & 0xffff) + (sum >> 16);
    u16::try_from(folded).unwrap().to_be_bytes()
}

/// What the field holds for a checksum that was computed: of TCP, 0xffff is never computed over a packet that has
/// a bit set anywhere, and of UDP, 0x0000 is sent as 0xffff.
fn in_field(transport: Transport, computed: u16) -> u16 {
    match (transport, computed) {
        (Transport::Tcp, 0xffff) => 0x0000,
        (Transport::Udp, 0x0000) => 0xffff,
        (_, other) => other,
    }
}

#[test]
fn checksums_at_the_ends_of_their_range() {
    let lab = Lab::new(&world::config()).unwrap();
    let mut runner = Runner::new(&lab).unwrap();
    let mut cases = 0;
    for network in Network::all() {
        for family in Family::ALL {
            for transport in Transport::ALL {
                for wanted in WANTED {
                    for after in [true, false] {
                        let name = format!("{network:?} {family} {transport:?} {wanted:#06x} after: {after}");
                        let of = Of { network, family, transport };
                        for case in [of.request(&lab, &name, wanted, after), of.reply(&name, wanted, after)] {
                            runner.run(&case).unwrap_or_else(|error| panic!("{name}: {error:#}"));
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 10 * 2 * 2 * 6 * 2 * 2);
}

/// A flow.
#[derive(Clone, Copy)]
struct Of {
    network: Network,
    family: Family,
    transport: Transport,
}

impl Of {
    /// A request whose checksum is `wanted` as the endpoint gets it, or as the client sends it.
    fn request(self, lab: &Lab, name: &str, wanted: u16, after: bool) -> Case {
        let Self { network, family, transport } = self;
        let (port, at_endpoint) = ports(Mode::Nat, transport);
        let vip = (network.vip(family, Mode::Nat), port);
        let blank = Packet { data: vec![0; 2], ..Packet::new(transport, client(family), vip) };
        // Which endpoint the flow has depends on addresses and ports alone.
        let sent = lab.run_on_host(On::Public, &blank.to_frame()).outcome.frame;
        let inner = tunnel::unwrap(&sent).unwrap().unwrap().inner;
        let endpoint = IpSlice::from_slice(&inner).unwrap().destination_addr();
        let change =
            |packet: &[u8]| rewritten(packet, End::Destination, (endpoint, at_endpoint).into(), 1, 0);
        let packet = self.reaching(&blank, wanted, after, &change);
        let request =
            Request { network, mode: Mode::Nat, packet: packet.clone(), port: at_endpoint, lies: Vec::new() };
        Case::new(name, On::Public, frame(&packet), Becomes::Tunnelled(request))
    }

    /// The same for a reply.
    fn reply(self, name: &str, wanted: u16, after: bool) -> Case {
        let Self { network, family, transport } = self;
        let (port, at_endpoint) = ports(Mode::Nat, transport);
        let source = (endpoints(family, Mode::Nat)[0], at_endpoint);
        let vip = (network.vip(family, Mode::Nat), port).into();
        let blank = Packet { data: vec![0; 2], ..Packet::new(transport, source, client(family)) };
        let change = |packet: &[u8]| rewritten(packet, End::Source, vip, 1, 0);
        let packet = self.reaching(&blank, wanted, after, &change);
        let framed = frame(&of_gateway(network, &packet).to_bytes().unwrap());
        Case::new(name, On::Underlay, framed, Becomes::Delivered(Reply { packet, vip, tos: 0 }))
    }

    fn reaching(
        self,
        blank: &Packet,
        wanted: u16,
        after: bool,
        change: &dyn Fn(&[u8]) -> Vec<u8>,
    ) -> Vec<u8> {
        let seen = |packet: &[u8]| {
            let packet = if after { change(packet) } else { packet.to_vec() };
            checksum_of(&packet)
        };
        let data = data_for(seen(&blank.to_bytes()), wanted).to_vec();
        let packet = Packet { data, ..blank.clone() }.to_bytes();
        let reached = seen(&packet);
        assert_eq!(reached, in_field(self.transport, wanted), "the test's own sum");
        if !after && self.transport == Transport::Tcp && wanted == 0xffff {
            // The other zero of ones' complement, which verifies as well.
            return spoiled(&packet, checksum_at(&packet), &[0xff, 0xff]);
        }
        packet
    }
}
