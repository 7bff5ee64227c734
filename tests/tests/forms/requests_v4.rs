//! IPv4 packets of clients: options, lengths that are wrong, and frames that are hardly packets.

use lbx_common::reason::DropReason::{self, Malformed, VipNoService};
use lbx_tests::{
    family::Family,
    lab::On,
    packets::{
        Packet, Transport, ethernet, frame, length_of, spoiled, tagged, transport_at, with_ipv4, with_options,
    },
    tunnel::Encap,
    world::Network,
};

use crate::check::{self, Becomes, Case};

/// Through whose tunnel the packets go.
const NETWORK: Network = Network { encap: Encap::GreUdp, outer: Family::V4 };

fn request(transport: Transport) -> Packet {
    check::request(NETWORK, Family::V4, transport)
}

fn served(transport: Transport, packet: Vec<u8>, lies: Vec<(usize, Vec<u8>)>) -> Becomes {
    check::served(NETWORK, transport, packet, lies)
}

fn dropped(reason: DropReason) -> Becomes {
    Becomes::Dropped(None, reason)
}

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [options(), lengths(), headers(), constant_frames()].into_iter().flatten().collect()
}

fn options() -> Vec<Case> {
    let mut cases = Vec::new();
    for transport in Transport::ALL {
        for words in 1..=10 {
            let packet = with_options(&request(transport).to_bytes(), words);
            let name = format!("{}: {words} words of options", transport.as_str());
            cases.push(Case::new(name, On::Public, frame(&packet), served(transport, packet, Vec::new())));
        }
        let packet = with_options(&request(transport).to_bytes(), 10);
        let name = format!("{}: options behind VLAN tags", transport.as_str());
        let framed = tagged(&frame(&packet), &[(0x88a8, 1), (0x8100, 2)]);
        cases.push(Case::new(name, On::Both, framed, served(transport, packet, Vec::new())));
    }
    cases
}

fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for transport in Transport::ALL {
        let plain = request(transport).to_bytes();
        let length = u16::try_from(length_of(&plain)).unwrap();
        let needed: u16 = if transport == Transport::Tcp { 40 } else { 28 };
        let named = |name: &str| format!("{}: {name}", transport.as_str());
        let says = |length: u16| frame(&with_ipv4(&plain, |ip| ip.total_len = length));
        for (name, length) in [
            ("a length beyond the frame", length + 1),
            ("the greatest length", 65_535),
            ("length 0", 0),
            ("a length below the header's", 19),
            ("a length of the header alone", 20),
            ("a length of all but a byte of the headers", needed - 1),
        ] {
            cases.push(Case::new(named(name), On::Public, says(length), dropped(Malformed)));
        }
        for words in 0..5 {
            let header = frame(&spoiled(&plain, 0, &[0x40 | words]));
            let name = format!("a header of {words} words");
            cases.push(Case::new(named(&name), On::Public, header, dropped(Malformed)));
        }
        // As long as the packet is, or longer: nothing is left for ports.
        let header = frame(&with_ipv4(&spoiled(&plain[..28], 0, &[0x45]), |ip| ip.total_len = 28));
        let header = spoiled(&header, 14, &[0x4f]);
        cases.push(Case::new(named("a header beyond the packet"), On::Public, header, dropped(Malformed)));
        let short = Packet { data: Vec::new(), ..request(transport) }.to_bytes();
        for more in [1, 18, 500] {
            let padded = [frame(&short), vec![0xee; more]].concat();
            let becomes = served(transport, short.clone(), Vec::new());
            cases.push(Case::new(named(&format!("{more} bytes of padding")), On::Public, padded, becomes));
        }
    }
    let packet = request(Transport::Udp).to_bytes();
    let place = transport_at(&packet) + 4;
    for lie in [0_u16, 7, 8, 9, 1000, 65_535] {
        let lying = frame(&spoiled(&packet, place, &lie.to_be_bytes()));
        let becomes = served(Transport::Udp, packet.clone(), vec![(place, lie.to_be_bytes().to_vec())]);
        cases.push(Case::new(format!("a UDP length of {lie}"), On::Public, lying, becomes));
    }
    cases
}

fn headers() -> Vec<Case> {
    let plain = request(Transport::Tcp).to_bytes();
    let protocol = |number: u8| frame(&with_ipv4(&plain, |ip| ip.protocol = etherparse::IpNumber(number)));
    let mut cases = Vec::new();
    for number in [0, 2, 4, 33, 41, 47, 50, 51, 58, 132, 136, 255] {
        let name = format!("protocol {number} to a VIP");
        cases.push(Case::new(name, On::Public, protocol(number), dropped(VipNoService)));
    }
    cases
}

/// Frames all of one byte, of all lengths: nothing of them is ours.
fn constant_frames() -> Vec<Case> {
    let mut cases = Vec::new();
    for (byte, of) in [(0_u8, "zeros"), (0xff, "ones")] {
        for length in [14, 15, 33, 34, 54, 60, 74, 128, 1500] {
            for on in [On::Public, On::Underlay, On::Both] {
                let name = format!("{length} bytes of {of} on {on:?}");
                cases.push(Case::new(name, on, vec![byte; length], Becomes::Passed));
            }
        }
        for (kind, family) in [(0x0800, "IPv4"), (0x86dd, "IPv6")] {
            let name = format!("{of} in {family}");
            cases.push(Case::new(name, On::Both, ethernet(kind, &[byte; 100]), Becomes::Passed));
        }
    }
    cases
}
