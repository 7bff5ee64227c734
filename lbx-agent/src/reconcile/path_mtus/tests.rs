//! What is believed of what routers say, and for how long.

use super::*;
use crate::config::load_model;

const CONFIG: &str = "
version: 1
node:
  interfaces: [{name: eth0, role: both}]
  tunnel_source: {ipv4: 198.51.100.1, ipv6: 2001:db8::1}
virtual_networks:
  - name: east
    vni: 42
    tunnels:
      - {name: a, encap: gre, remote: 198.51.100.7}
      - {name: b, encap: gre, remote: 198.51.100.8}
      - {name: c, encap: gre, remote: 2001:db8::7}
  - name: west
    vni: 43
    tunnels: [{name: a, encap: gre, remote: 198.51.100.7}]
";

fn model() -> Model {
    load_model(CONFIG).unwrap()
}

/// The path of a tunnel, by places.
fn path(model: &Model, vnet: usize, tunnel: usize) -> TunnelPath {
    model.vnets[vnet].paths().nth(tunnel).unwrap().1
}

/// What a router says of the first tunnel of `east`, or of that over IPv6.
fn message(mtu: u16, v6: bool) -> TooBig {
    let mut packet = Vec::new();
    // The checksum over IPv4 is right for any MTU when the message is made by a library.
    let gre = [[0x20, 0, 8, 0, 0, 0, 0, 42].as_slice(), &[0; 1472]].concat();
    if v6 {
        let [lbx, gateway] = [1, 7].map(|last| {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
            octets[15] = last;
            octets
        });
        etherparse::PacketBuilder::ipv6(lbx, gateway, 64)
            .write(&mut packet, etherparse::IpNumber::GRE, &gre)
            .unwrap();
        let mut icmp = vec![2, 0, 0, 0, 0, 0];
        icmp.extend(mtu.to_be_bytes());
        icmp.extend(packet);
        TooBig::read_v6(&icmp).unwrap()
    } else {
        etherparse::PacketBuilder::ipv4([198, 51, 100, 1], [198, 51, 100, 7], 64)
            .write(&mut packet, etherparse::IpNumber::GRE, &gre)
            .unwrap();
        let kind = etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu },
        );
        let mut icmp = Vec::new();
        let builder = etherparse::PacketBuilder::ipv4([198, 51, 100, 254], [198, 51, 100, 1], 64);
        builder.icmpv4(kind).write(&mut icmp, &packet[..28]).unwrap();
        TooBig::read_v4(&icmp).unwrap()
    }
}

#[test]
fn a_message_concerns_one_tunnel() {
    let (model, now) = (model(), Instant::now());
    let mut learned = PathMtus::default();
    assert!(learned.learn(&message(1400, false), &model, now));
    assert_eq!(learned.mtus, [(path(&model, 0, 0), 1400)].into());
    assert!(learned.learn(&message(1300, true), &model, now));
    assert_eq!(learned.mtus, [(path(&model, 0, 0), 1400), (path(&model, 0, 2), 1300)].into());
}

#[test]
fn no_router_makes_a_tunnel_narrower_than_every_link_must_be() {
    let (model, now) = (model(), Instant::now());
    let mut learned = PathMtus::default();
    learned.learn(&message(68, false), &model, now);
    learned.learn(&message(68, true), &model, now);
    assert_eq!(learned.mtus[&path(&model, 0, 0)], FLOOR_V4);
    assert_eq!(learned.mtus[&path(&model, 0, 2)], FLOOR_V6);
}

#[test]
fn a_path_gets_narrower_at_once_and_wider_only_in_time() {
    let (model, start) = (model(), Instant::now());
    let path = path(&model, 0, 0);
    let mut learned = PathMtus::default();
    assert!(learned.learn(&message(1400, false), &model, start));
    assert!(!learned.learn(&message(1450, false), &model, start), "a late message");
    assert!(learned.learn(&message(1300, false), &model, start));
    let later = start + Duration::from_secs(500);
    assert!(!learned.learn(&message(1300, false), &model, later), "nothing new");
    assert_eq!(learned.next_expiry(), Some(later + LIFETIME));
    assert!(!learned.expire(start + LIFETIME), "it was said again since");
    assert_eq!(learned.status(path, later), Some(PathMtuStatus { mtu: 1300, expires_secs: 600 }));
    assert!(learned.expire(later + LIFETIME));
    assert_eq!((learned.mtus.len(), learned.next_expiry(), learned.status(path, later)), (0, None, None));
    assert!(learned.learn(&message(1450, false), &model, later + LIFETIME));
}

#[test]
fn what_was_said_of_a_tunnel_goes_with_it() {
    let (mut model, now) = (model(), Instant::now());
    let mut learned = PathMtus::default();
    learned.learn(&message(1400, false), &model, now);
    learned.keep_of(&model);
    assert_eq!(learned.mtus.len(), 1);
    model.vnets[0].tunnels[0].remote = [198, 51, 100, 9].into();
    learned.keep_of(&model);
    assert_eq!((learned.mtus.len(), learned.next_expiry()), (0, None));
}
