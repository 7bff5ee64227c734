//! A gateway whose next hop is lbx's own address inside: it asks for the MAC, and lbx answers.

use lbx_tests::{
    agent::start_healthy_in,
    config,
    family::Family,
    topology::{EAST, LBX_INNER_MAC, TUNNEL_DEVICE, Topology, WEST},
    tunnel::Encap,
};

#[test]
fn a_gateway_finds_lbx_by_asking() {
    let (over_ipv4, over_ipv6) =
        (EAST.through(Encap::Vxlan, Family::V4), WEST.through(Encap::Vxlan, Family::V6));
    let topology = Topology::with(over_ipv4, over_ipv6).unwrap();
    let agent = start_healthy_in(&topology, &config::for_topology(&topology)).unwrap();
    for vnet in topology.vnets() {
        let gateway = &vnet.gateway;
        // From where it asks in IPv6.
        gateway.ip(&format!("addr add fe80::7/64 dev {TUNNEL_DEVICE} nodad")).unwrap();
        for (flag, family) in [("-4", Family::V4), ("-6", Family::V6)] {
            let lbx = vnet.plan.probe_source_of(family);
            let known = || gateway.ip(&format!("{flag} neigh show {lbx} dev {TUNNEL_DEVICE}")).unwrap();
            assert_eq!(known(), "", "nobody has asked yet");
            gateway
                .ip(&format!("{flag} route replace default via {lbx} dev {TUNNEL_DEVICE} onlink"))
                .unwrap();
            let vip = vnet.plan.vip_of(family);
            assert_eq!(topology.client().http_get(vip, 0).unwrap().vnet, vnet.plan.name);
            assert!(known().contains(LBX_INNER_MAC), "{}", known());
        }
    }
    drop(agent);
}
