//! Packets that end too early: at every length of every header, as the frame has it or as the packet says it.
//! Nothing of that may confuse anybody; what it comes to depends only on how far the destination can be read.

use lbx_common::reason::DropReason::Malformed;
use lbx_tests::{
    family::Family,
    lab::{Action, Lab, On},
    packets::{
        Packet, Transport, frame, padding, spoiled, tagged, transport_at, with_extensions, with_ipv4,
        with_options,
    },
    tunnel::Encap,
    world::{self, Mode, Network, client, endpoints, ports},
};

use crate::stock::of_gateway;

/// Requests of both families, plain and with all headers there can be: name, frame, offset of the IP header.
fn requests(address: impl Fn(Family) -> std::net::IpAddr) -> Vec<(String, Vec<u8>, usize)> {
    let mut requests = Vec::new();
    for family in Family::ALL {
        for transport in Transport::ALL {
            let destination = (address(family), ports(Mode::Nat, transport).0);
            let plain = Packet::new(transport, client(family), destination).to_bytes();
            let extended = match family {
                Family::V4 => with_options(&plain, 10),
                Family::V6 => with_extensions(
                    &plain,
                    &[
                        padding(0, 0),
                        padding(60, 1),
                        (43, vec![0, 4, 0, 0, 0, 0, 0]),
                        (44, vec![0, 0, 0, 1, 2, 3, 4]),
                    ],
                ),
            };
            for (form, packet) in [("plain", &plain), ("extended", &extended)] {
                let name = format!("{} {family} {form}", transport.as_str());
                let framed = frame(packet);
                requests.push((format!("{name} tagged"), tagged(&framed, &[(0x88a8, 1), (0x8100, 2)]), 22));
                requests.push((name, framed, 14));
            }
        }
    }
    requests
}

/// Bytes of the IP header up to the end of the destination: before that, nobody can say whose packet it is.
const fn readable(frame: &[u8], ip_at: usize) -> usize {
    if frame[ip_at] >> 4 == 4 { ip_at + 20 } else { ip_at + 40 }
}

#[test]
fn a_frame_that_ends_early() {
    let lab = Lab::new(&world::config()).unwrap();
    let network = Network { encap: Encap::Vxlan, outer: Family::V4 };
    let mut dropped = 0;
    for (name, frame, ip_at) in requests(|family| network.vip(family, Mode::Nat)) {
        for length in 14..frame.len() {
            let ours = length >= readable(&frame, ip_at);
            let action = agreed(&lab, On::Public, &frame[..length]);
            let expected = if ours { Action::Drop } else { Action::Pass };
            assert_eq!(action, expected, "{name}: frame of {length}");
            dropped += u64::from(ours);
        }
    }
    // All for the one reason, in no network.
    assert_eq!(lab.drops(None, Malformed).unwrap(), dropped);
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
    assert_eq!(lab.all_drops().unwrap().len(), 1);
    let others = |family| match family {
        Family::V4 => "203.0.113.222".parse().unwrap(),
        Family::V6 => "2001:db8:203::bad".parse().unwrap(),
    };
    for (name, frame, _) in requests(others) {
        for length in 14..=frame.len() {
            for on in [On::Public, On::Underlay, On::Both] {
                let action = agreed(&lab, on, &frame[..length]);
                assert_eq!(action, Action::Pass, "{name} of others: frame of {length} on {on:?}");
            }
        }
    }
    assert_eq!(lab.drops(None, Malformed).unwrap(), dropped);
    assert_eq!(lab.all_drops().unwrap().len(), 1);
}

#[test]
fn a_packet_that_says_it_ends_early() {
    let lab = Lab::new(&world::config()).unwrap();
    let network = Network { encap: Encap::Gre, outer: Family::V6 };
    let mut dropped = 0;
    for (name, framed, ip_at) in requests(|family| network.vip(family, Mode::Nat)) {
        let packet = &framed[ip_at..];
        let is_v4 = packet[0] >> 4 == 4;
        let needed = transport_at(packet) + if name.starts_with("tcp") { 20 } else { 8 };
        for length in if is_v4 { 0 } else { 40 }..needed {
            let says = u16::try_from(length).unwrap();
            let packet = if is_v4 {
                with_ipv4(packet, |ip| ip.total_len = says)
            } else {
                spoiled(packet, 4, &(says - 40).to_be_bytes())
            };
            let action = agreed(&lab, On::Public, &[&framed[..ip_at], &packet].concat());
            assert_eq!(action, Action::Drop, "{name}: says {length}");
            dropped += 1;
        }
    }
    assert_eq!(lab.drops(None, Malformed).unwrap(), dropped);
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
    assert_eq!(lab.all_drops().unwrap().len(), 1);
}

/// Of tunnel packets, cut anywhere: never delivered, and kernel and host agree.
#[test]
fn a_tunnel_packet_that_ends_early() {
    let lab = Lab::new(&world::config()).unwrap();
    for network in Network::all() {
        for family in Family::ALL {
            let port = ports(Mode::Nat, Transport::Tcp).1;
            let source = (endpoints(family, Mode::Nat)[0], port);
            let inner = Packet::new(Transport::Tcp, source, client(family)).to_bytes();
            let packet = of_gateway(network, &inner).to_bytes().unwrap();
            let whole = frame(&packet);
            assert_eq!(lab.run(On::Underlay, &whole).unwrap().action, Action::Send);
            for length in 14..whole.len() {
                let cut = agreed(&lab, On::Underlay, &whole[..length]);
                assert_eq!(cut, Action::Pass, "{network:?} {family}: frame of {length}");
            }
            // The outer lengths are right, but what is inside is cut.
            for kept in 0..inner.len() {
                let cut = of_gateway_cut(network, &inner, kept);
                let action = agreed(&lab, On::Underlay, &cut);
                assert_eq!(action, Action::Drop, "{network:?} {family}: {kept} bytes inside");
            }
        }
    }
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
}

fn of_gateway_cut(network: Network, inner: &[u8], kept: usize) -> Vec<u8> {
    let mut packet = of_gateway(network, inner);
    packet.inner.truncate(kept);
    frame(&packet.to_bytes().unwrap())
}

/// What kernel and host both do with a frame; what passes is unchanged.
fn agreed(lab: &Lab, on: On, frame: &[u8]) -> Action {
    let kernel = lab.run(on, frame).unwrap();
    let host = lab.run_on_host(on, frame).outcome;
    assert_eq!(kernel.action, host.action, "{frame:02x?}");
    if kernel.action != Action::Drop {
        assert_eq!(kernel.frame, host.frame, "{frame:02x?}");
    }
    if kernel.action == Action::Pass {
        assert_eq!(kernel.frame, frame);
    }
    kernel.action
}
