//! Rules for virtual networks and their tunnels.

use lbx_common::api::Config;
use serde_json::json;

use super::{accepts, accepts_each, refuses, validate};

#[test]
fn tunnels_start_somewhere() {
    refuses(
        &[("/node/tunnel_source", json!({}))],
        "node.tunnel_source.ipv4: missing: tunnel `e` leads to 198.51.100.7, so give the IPv4 address of this machine",
    );
    refuses(
        &[("/node/tunnel_source/ipv4", json!("127.0.0.1"))],
        "node.tunnel_source.ipv4: 127.0.0.1 is a loopback address: write the address of one host",
    );
    validate(Config::default()).unwrap();
}

#[test]
fn vnis_are_unique_and_fit_their_encapsulation() {
    accepts(&[("/virtual_networks/0/vni", json!(u32::MAX))]);
    accepts(&[("/virtual_networks/1/vni", json!(16_777_215))]);
    refuses(
        &[("/virtual_networks/0/vni", json!(0))],
        "virtual_networks[0].vni: 0 is not a key: write 1 or more",
    );
    refuses(
        &[("/virtual_networks/1/vni", json!(42))],
        "virtual_networks[1].vni: 42 is taken by virtual_networks[0] (`east`)",
    );
    refuses(
        &[("/virtual_networks/1/vni", json!(16_777_216))],
        "virtual_networks[1].vni: 16777216 does not fit tunnel `w`: a vxlan key has 24 bits, 16777215 at most",
    );
}

#[test]
fn probes_have_a_source_of_their_own() {
    let without = ("/virtual_networks/0/probe_source", json!({}));
    refuses(
        std::slice::from_ref(&without),
        "virtual_networks[0].probe_source.ipv4: missing: monitor `m` checks endpoint `a` of pool `db` here, so give",
    );
    accepts(&[without.clone(), ("/pools/0/endpoints/0/enabled", json!(false))]);
    accepts(&[without, ("/pools/0/monitor", json!(null))]);
    refuses(
        &[("/virtual_networks/1/probe_source/ipv4", json!("10.255.42.1"))],
        "virtual_networks[1].probe_source.ipv4: 10.255.42.1 is taken by virtual_networks[0] (`east`)",
    );
    refuses(
        &[("/virtual_networks/0/probe_source/ipv4", json!("10.0.0.1"))],
        "pools[0].endpoints[0].address: 10.0.0.1 is the probe_source of `east`: they must differ",
    );
}

#[test]
fn tunnels_lead_to_another_machine() {
    refuses(
        &[("/virtual_networks/0/tunnels/0/remote", json!("192.0.2.10"))],
        "virtual_networks[0].tunnels[0].remote: 192.0.2.10 is node.tunnel_source, this machine",
    );
    refuses(
        &[("/virtual_networks/0/tunnels/0/name", json!("É"))],
        "virtual_networks[0].tunnels[0].name: `É` is not",
    );
    // Several networks behind one gateway.
    accepts(&[("/virtual_networks/1/tunnels/0/remote", json!("198.51.100.7"))]);
}

#[test]
fn a_tunnel_has_what_its_encapsulation_has() {
    let (gre, vxlan) = ("/virtual_networks/0/tunnels/0", "/virtual_networks/1/tunnels/0");
    accepts(&[(&format!("{vxlan}/port"), json!(8472))]);
    refuses(
        &[(&format!("{vxlan}/port"), json!(0))],
        "virtual_networks[1].tunnels[0].port: 0 is not a port: write 1 to 65535",
    );
    refuses(
        &[(&format!("{gre}/port"), json!(4789))],
        "virtual_networks[0].tunnels[0].port: a gre tunnel has no port: leave it out",
    );
    refuses(
        &[(&format!("{gre}/inner_mac"), json!("02:00:00:00:00:01"))],
        "virtual_networks[0].tunnels[0].inner_mac: a gre tunnel with IP inside has no inner_mac",
    );
    for (tunnel, path, least) in [(gre, "virtual_networks[0]", 604), (vxlan, "virtual_networks[1]", 626)] {
        let mtu = format!("{tunnel}/mtu");
        accepts_each(&mtu, [json!(least), json!(65_535)]);
        refuses(
            &[(&mtu, json!(least - 1))],
            &format!("{path}.tunnels[0].mtu: {} is too small: a ", least - 1),
        );
    }
    let mac = format!("{vxlan}/inner_mac");
    accepts_each(&mac, [json!("02:00:00:00:00:01"), json!("AA:bb:CC:dd:EE:ff")]);
    let wrong = [
        "",
        "02:00:00:00:00",
        "02:00:00:00:00:01:02",
        "2:0:0:0:0:1",
        "02-00-00-00-00-01",
        "+2:00:00:00:00:01",
    ];
    for text in wrong {
        let expected =
            format!("virtual_networks[1].tunnels[0].inner_mac: `{text}` is not a MAC address: write it as");
        refuses(&[(&mac, json!(text))], &expected);
    }
    for text in ["01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00"] {
        let expected =
            format!("virtual_networks[1].tunnels[0].inner_mac: {text} is not the address of one interface");
        refuses(&[(&mac, json!(text))], &expected);
    }
}
