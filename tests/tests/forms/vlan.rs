//! Replies by a VLAN device, which XDP cannot send by: they leave by its parent, with its tag. Requests behind tags
//! are among `packets` and `answers`.

use lbx_tests::{
    family::Family,
    lab::{Lab, On, PEER_MAC},
    packets::{End, Packet, Transport, frame, rewritten},
    world::{self, Mode, Network, client, endpoints, ports},
};

use crate::stock::of_gateway;

const VLAN: u16 = 101;
const PUBLIC_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];

#[test]
fn a_reply_by_a_vlan_device_is_tagged() {
    let lab = Lab::with_tagged_public(&world::config(), VLAN).unwrap();
    for network in Network::all() {
        for family in Family::ALL {
            let (port, inner_port) = ports(Mode::Nat, Transport::Tcp);
            let endpoint = (endpoints(family, Mode::Nat)[1], inner_port);
            let reply = Packet::new(Transport::Tcp, endpoint, client(family)).to_bytes();
            let tunnelled = frame(&of_gateway(network, &reply).to_bytes().unwrap());
            let outcome = lab.run(On::Underlay, &tunnelled).unwrap();
            assert_eq!(outcome, lab.run_on_host(On::Underlay, &tunnelled).outcome);
            let vip = (network.vip(family, Mode::Nat), port).into();
            let packet = rewritten(&reply, End::Source, vip, 1, 0);
            let tag = [0x8100_u16.to_be_bytes(), VLAN.to_be_bytes()].concat();
            let kind = family.ethertype().to_be_bytes();
            let expected = [&PEER_MAC[..], &PUBLIC_MAC, &tag, &kind, &packet].concat();
            assert_eq!(outcome.frame, expected, "{} of {family}", network.name());
        }
    }
}
