//! What a router says of a packet: whatever it is, it is about no tunnel or about one whose packet it quotes.

use std::net::IpAddr;

use lbx_agent::{config::model::TunnelPath, net::path_mtu::TooBig};
use lbx_common::api::Encap;

pub fn check(input: &[u8]) {
    for message in [TooBig::read_v4(input), TooBig::read_v6(input)].into_iter().flatten() {
        assert!(message.mtu > 0, "{message:?}");
        assert_eq!(message.source.is_ipv4(), message.destination.is_ipv4(), "{message:?}");
        for encap in [Encap::Gre, Encap::GreUdp, Encap::Vxlan, Encap::Geneve] {
            let path = |remote| TunnelPath { vni: 42, encap, remote, port: 4789 };
            assert!(!message.is_about(message.source, &path(other_than(message.destination))), "{message:?}");
            // Right or wrong, but without harm.
            message.is_about(message.source, &path(message.destination));
        }
    }
}

fn other_than(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => (!address).into(),
        IpAddr::V6(address) => (!address).into(),
    }
}
