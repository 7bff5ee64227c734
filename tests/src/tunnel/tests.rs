//! Bytes written out by hand against builder and parser; then both against each other.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;

use super::*;

const FROM: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));
const TO: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
const FROM_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 7));
const TO_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x64, 0, 0, 0, 0, 1));
const KEY: u32 = 0x2a_2b2c;

fn inner(family: Family) -> Vec<u8> {
    let mut packet = Vec::new();
    match family {
        Family::V4 => {
            PacketBuilder::ipv4([10, 0, 0, 10], [192, 0, 2, 2], 64).udp(53, 40_000).write(&mut packet, b"odd")
        }
        Family::V6 => {
            PacketBuilder::ipv6([0xfd; 16], [0x20; 16], 64).udp(53, 40_000).write(&mut packet, b"odd")
        }
    }
    .unwrap();
    packet
}

fn all_forms() -> Vec<TunnelPacket> {
    let mut forms = Vec::new();
    for encap in Encap::ALL {
        for (from, to) in [(FROM, TO), (FROM_V6, TO_V6)] {
            for family in Family::ALL {
                let plain = TunnelPacket::plain(encap, from, to, KEY, &inner(family)).unwrap();
                let stock = TunnelPacket::stock(encap, from, to, KEY, &inner(family)).unwrap();
                if encap.has_gre() {
                    forms.push(stock.clone().with_gre_sequence(7));
                    forms.push(stock.clone().with_gre_checksum());
                    forms.push(plain.clone().with_gre_checksum().with_gre_sequence(u32::MAX));
                }
                forms.push(plain.clone().with_udp_checksum(true));
                forms.push(stock.clone().with_udp_checksum(false));
                forms.extend([plain, stock]);
            }
        }
    }
    forms
}

#[test]
fn what_is_built_is_read_back_as_it_was_and_has_the_documented_length() {
    for form in all_forms() {
        let bytes = form.to_bytes().unwrap();
        assert_eq!(bytes.len(), form.outer.packet_bytes, "{form:?}");
        assert_eq!(unwrap_ip(&bytes).unwrap().as_ref(), Some(&form));
        // In a frame, with padding behind it.
        let ethertype = Family::of(form.outer.source).ethertype().to_be_bytes();
        let frame = [&[2; 12][..], &ethertype, &bytes, &[0xee; 9]].concat();
        assert_eq!(unwrap(&frame).unwrap(), Some(form));
    }
}

#[test]
fn no_truncation_is_taken_for_a_packet() {
    for form in all_forms() {
        let bytes = form.to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(!matches!(unwrap_ip(&bytes[..length]), Ok(Some(_))), "{length} bytes of {form:?}");
        }
    }
}

/// What stands behind outer IP and UDP, up to the inner packet.
fn between(packet: &TunnelPacket, outer_bytes: usize) -> Vec<u8> {
    let bytes = packet.to_bytes().unwrap();
    bytes[outer_bytes..bytes.len() - packet.inner.len()].to_vec()
}

#[test]
fn headers_are_as_the_documents_draw_them() {
    let plain = |encap, family| TunnelPacket::plain(encap, FROM, TO, KEY, &inner(family)).unwrap();
    let gre = [0x20, 0x00, 0x08, 0x00, 0x00, 0x2a, 0x2b, 0x2c];
    assert_eq!(between(&plain(Encap::Gre, Family::V4), 20), gre);
    assert_eq!(between(&plain(Encap::GreUdp, Family::V4), 28), gre);
    let gre = [0x20, 0x00, 0x86, 0xdd, 0x00, 0x2a, 0x2b, 0x2c];
    assert_eq!(between(&plain(Encap::Gre, Family::V6), 20), gre);
    let sequence = plain(Encap::Gre, Family::V4).with_gre_sequence(5);
    assert_eq!(between(&sequence, 20), [0x30, 0, 8, 0, 0, 0x2a, 0x2b, 0x2c, 0, 0, 0, 5]);

    let macs = [2, 0x6c, 0x62, 0x78, 0, 2, 2, 0x6c, 0x62, 0x78, 0, 1];
    let vxlan = [&[0x08, 0, 0, 0, 0x2a, 0x2b, 0x2c, 0][..], &macs, &[0x08, 0x00]].concat();
    assert_eq!(between(&plain(Encap::Vxlan, Family::V4), 28), vxlan);
    let geneve = [0, 0, 0x86, 0xdd, 0x2a, 0x2b, 0x2c, 0];
    assert_eq!(between(&plain(Encap::GeneveIp, Family::V6), 28), geneve);
    let geneve = [&[0, 0, 0x65, 0x58, 0x2a, 0x2b, 0x2c, 0][..], &macs, &[0x86, 0xdd]].concat();
    assert_eq!(between(&plain(Encap::GeneveEthernet, Family::V6), 28), geneve);

    let ports: Vec<_> =
        Encap::ALL.iter().map(|encap| plain(*encap, Family::V4).to_bytes().unwrap()).collect();
    let port_of = |at: usize| u16::from_be_bytes([ports[at][22], ports[at][23]]);
    assert_eq!([port_of(1), port_of(2), port_of(3), port_of(4)], [4754, 4789, 6081, 6081]);
    let protocols: Vec<u8> = ports.iter().map(|packet| packet[9]).collect();
    assert_eq!(protocols, [47, 17, 17, 17, 17]);
}

#[test]
fn a_stock_gre_device_over_ipv6_puts_the_encapsulation_limit_in_front() {
    for (encap, next) in [(Encap::Gre, 47), (Encap::GreUdp, 17)] {
        let bytes = wrap(encap, FROM_V6, TO_V6, KEY, &inner(Family::V4)).unwrap();
        assert_eq!(bytes[6], 60);
        assert_eq!(bytes[40..48], [next, 0, 4, 1, 4, 1, 1, 0]);
    }
}

#[test]
fn stock_devices_send_udp_checksums_as_documented() {
    let checksummed = |encap, from, to| {
        TunnelPacket::stock(encap, from, to, KEY, &inner(Family::V4)).unwrap().udp.map(|udp| udp.checksummed)
    };
    let over = |from, to| Encap::ALL.map(|encap| checksummed(encap, from, to));
    assert_eq!(over(FROM, TO), [None, Some(false), Some(true), Some(false), Some(false)]);
    assert_eq!(over(FROM_V6, TO_V6), [None, Some(true), Some(true), Some(true), Some(true)]);
}

fn spoiled(packet: &TunnelPacket, at: usize, byte: u8) -> String {
    let mut bytes = packet.to_bytes().unwrap();
    bytes[at] = byte;
    unwrap_ip(&bytes).unwrap_err().to_string()
}

#[test]
fn what_is_not_as_documented_is_named() {
    let stock = |encap| TunnelPacket::stock(encap, FROM, TO, KEY, &inner(Family::V4)).unwrap();
    let over_ipv6 = |encap| TunnelPacket::stock(encap, FROM_V6, TO_V6, KEY, &inner(Family::V4)).unwrap();
    for (error, expected) in [
        (spoiled(&stock(Encap::Gre), 8, 63), "header checksum"),
        (spoiled(&stock(Encap::Gre), 20, 0x60), "flags"),
        (spoiled(&stock(Encap::Gre), 21, 0x01), "flags"),
        (spoiled(&stock(Encap::Gre), 22, 0x86), "not of the type"),
        (spoiled(&stock(Encap::Gre).with_gre_checksum(), 24, 0x99), "GRE checksum"),
        (spoiled(&stock(Encap::Vxlan), 26, 0x12), "UDP checksum"),
        (spoiled(&stock(Encap::Vxlan).with_udp_checksum(false), 28, 0x88), "flags"),
        (spoiled(&stock(Encap::Vxlan).with_udp_checksum(false), 30, 1), "reserved"),
        (spoiled(&stock(Encap::GeneveIp), 28, 1), "flags"),
        (spoiled(&stock(Encap::GeneveIp), 29, 0x40), "flags"),
        (spoiled(&stock(Encap::GeneveIp), 35, 1), "reserved"),
        (spoiled(&stock(Encap::GeneveEthernet), 25, 30), "UDP length"),
        (spoiled(&over_ipv6(Encap::Gre), 42, 5), "destination option"),
    ] {
        assert!(error.contains(expected), "`{error}` does not say `{expected}`");
    }
}

#[test]
fn gre_without_a_key_is_refused() {
    let with = TunnelPacket::plain(Encap::GreUdp, FROM, TO, KEY, &inner(Family::V4)).unwrap();
    let header = [&[0x00, 0x00, 0x08, 0x00][..], &with.inner].concat();
    let bytes = outer::write(&with.outer, None, with.udp, &header).unwrap();
    assert!(unwrap_ip(&bytes).unwrap_err().to_string().contains("without a key"));
}

#[test]
fn other_packets_and_fragments_are_no_tunnel_packets() {
    assert_eq!(unwrap_ip(&inner(Family::V4)).unwrap(), None);
    assert_eq!(unwrap_ip(&inner(Family::V6)).unwrap(), None);
    let mut fragment = wrap(Encap::Gre, FROM, TO, KEY, &inner(Family::V4)).unwrap();
    fragment[6] = 0x20;
    assert_eq!(unwrap_ip(&fragment).unwrap(), None);
    let frame = [&[2; 12][..], &[0x08, 0x00], &fragment].concat();
    assert!(is_fragment(&frame));
    fragment[6] = 0x40;
    let frame = [&[2; 12][..], &[0x08, 0x00], &fragment].concat();
    assert!(!is_fragment(&frame));
}

#[test]
fn addresses_of_two_families_are_refused() {
    assert!(wrap(Encap::Gre, FROM, TO_V6, KEY, &inner(Family::V4)).is_err());
}
