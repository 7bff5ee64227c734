//! Rules that differ or meet where there are two families of addresses.

use serde_json::{Value, json};

use super::{accepts, check, refuses};

/// The base with an IPv6 service, whose network is reached over IPv6, and then `changes`.
fn with_ipv6(changes: &[(&'static str, Value)]) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("/node/tunnel_source/ipv6", json!("2001:db8::10")),
        (
            "/virtual_networks/-",
            json!({"name": "six", "vni": 44, "probe_source": {"ipv6": "fd00:255::1"},
                   "tunnels": [{"name": "s", "encap": "geneve", "remote": "2001:db8::7"}]}),
        ),
        (
            "/pools/-",
            json!({"name": "six", "monitor": "m", "endpoints": [
                {"name": "a", "virtual_network": "six", "address": "fd00::1", "port": 80}]}),
        ),
        (
            "/services/-",
            json!({"name": "six", "address": "2001:db8:80::1", "listen": ["tcp/80"], "pools": ["six"]}),
        ),
    ];
    all.extend_from_slice(changes);
    all
}

#[test]
fn both_families_stand_side_by_side() {
    let model = accepts(&with_ipv6(&[]));
    assert_eq!(model.tunnel_source.ipv4.unwrap().to_string(), "192.0.2.10");
    assert_eq!(model.tunnel_source.ipv6.unwrap().to_string(), "2001:db8::10");
    let six = &model.vnets[2];
    assert_eq!(six.probe_source.ipv6.unwrap().to_string(), "fd00:255::1");
    assert_eq!(six.tunnels[0].remote.to_string(), "2001:db8::7");
    assert_eq!(model.pools[2].endpoints[0].address.to_string(), "fd00::1");
    assert_eq!(model.services[2].address.to_string(), "2001:db8:80::1");
    // Any inner family over any outer one.
    accepts(&with_ipv6(&[("/virtual_networks/2/tunnels/0/remote", json!("198.51.100.9"))]));
    accepts(&with_ipv6(&[("/virtual_networks/0/tunnels/0/remote", json!("2001:db8::9"))]));
}

#[test]
fn every_ipv6_address_is_that_of_one_host() {
    for (pointer, path) in [
        ("/node/tunnel_source/ipv6", "node.tunnel_source.ipv6"),
        ("/virtual_networks/2/probe_source/ipv6", "virtual_networks[2].probe_source.ipv6"),
        ("/virtual_networks/2/tunnels/0/remote", "virtual_networks[2].tunnels[0].remote"),
        ("/pools/2/endpoints/0/address", "pools[2].endpoints[0].address"),
        ("/services/2/address", "services[2].address"),
    ] {
        for (address, what) in [
            ("::", "the unspecified address: write the address of one host"),
            ("::1", "a loopback address: write the address of one host"),
            ("ff02::1", "a multicast address: write the address of one host"),
            ("fe80::1", "a link-local address, which is another host on each link: write the address of one"),
            ("::ffff:192.0.2.1", "an IPv4-mapped address: write 192.0.2.1 where an IPv4 address may stand"),
        ] {
            refuses(&with_ipv6(&[(pointer, json!(address))]), &format!("{path}: {address} is {what}"));
        }
        accepts(&with_ipv6(&[(pointer, json!("fd12::1234"))]));
    }
}

#[test]
fn tunnels_need_a_source_of_their_family() {
    refuses(
        &with_ipv6(&[("/node/tunnel_source", json!({"ipv4": "192.0.2.10"}))]),
        "node.tunnel_source.ipv6: missing: tunnel `s` leads to 2001:db8::7, so give the IPv6 address of this machine",
    );
    refuses(
        &with_ipv6(&[("/node/tunnel_source", json!({"ipv6": "2001:db8::10"}))]),
        "node.tunnel_source.ipv4: missing: tunnel `e` leads to 198.51.100.7, so give the IPv4 address of this machine",
    );
    refuses(
        &with_ipv6(&[("/virtual_networks/2/tunnels/0/remote", json!("2001:db8::10"))]),
        "virtual_networks[2].tunnels[0].remote: 2001:db8::10 is node.tunnel_source, this machine",
    );
    refuses(
        &with_ipv6(&[("/services/2/address", json!("2001:db8::10"))]),
        "services[2].address: 2001:db8::10 is node.tunnel_source: clients need an address of their own",
    );
}

#[test]
fn probes_need_a_source_of_their_family() {
    refuses(
        &with_ipv6(&[("/virtual_networks/2/probe_source", json!({"ipv4": "10.255.44.1"}))]),
        "virtual_networks[2].probe_source.ipv6: missing: monitor `m` checks endpoint `a` of pool `six` here, so give \
         an IPv6 address that the far end routes back into the tunnel",
    );
    let both = json!({"ipv4": "10.255.44.1", "ipv6": "fd00:255::1"});
    accepts(&with_ipv6(&[("/virtual_networks/2/probe_source", both)]));
    for (address, owner) in [
        ("2001:db8::10", "node.tunnel_source"),
        ("2001:db8:80::1", "the address of service `six`"),
        ("2001:db8::7", "the gateway of tunnel `s`"),
    ] {
        refuses(
            &with_ipv6(&[("/virtual_networks/2/probe_source/ipv6", json!(address))]),
            &format!(
                "virtual_networks[2].probe_source.ipv6: {address} is {owner}: packets from a probe source"
            ),
        );
    }
    refuses(
        &with_ipv6(&[("/virtual_networks/0/probe_source/ipv6", json!("fd00:255::1"))]),
        "virtual_networks[2].probe_source.ipv6: fd00:255::1 is taken by virtual_networks[0] (`east`)",
    );
    refuses(
        &with_ipv6(&[("/virtual_networks/2/probe_source/ipv6", json!("fd00::1"))]),
        "pools[2].endpoints[0].address: fd00::1 is the probe_source of `six`: they must differ",
    );
}

#[test]
fn a_service_and_its_endpoints_are_of_one_family() {
    refuses(
        &with_ipv6(&[("/services/2/address", json!("203.0.113.6"))]),
        "services[2].pools[0]: 203.0.113.6, the address of service `six`, is IPv4, but endpoint `a` of pool `six` has \
         IPv6, fd00::1: name a pool with IPv4 endpoints only",
    );
    refuses(
        &with_ipv6(&[("/services/1/address", json!("2001:db8:80::2"))]),
        "services[1].pools[0]: 2001:db8:80::2, the address of service `web`, is IPv6, but endpoint `a` of pool `web` \
         has IPv4, 10.0.0.2: name a pool with IPv6 endpoints only",
    );
    let mixed = json!({"name": "b", "virtual_network": "east", "address": "10.0.0.9", "port": 80});
    refuses(
        &with_ipv6(&[("/pools/2/endpoints/-", mixed)]),
        "services[2].pools[0]: 2001:db8:80::1, the address",
    );
}

#[test]
fn listeners_and_replies_overlap_in_their_family_only() {
    let again = |address: &str, listen: &str, pool: &str| json!({"name": "again", "address": address, "listen": [listen], "pools": [pool]});
    refuses(
        &with_ipv6(&[("/services/-", again("2001:db8:80::1", "tcp/80", "six"))]),
        "services[3].listen[0]: service `again` and service `six` (services[2].listen[0]) both listen on \
         2001:db8:80::1 tcp/80",
    );
    refuses(
        &with_ipv6(&[("/services/-", again("2001:db8:80::2", "tcp/80", "six"))]),
        "services[3].listen[0]: tcp/80 of service `again` and tcp/80 of service `six` both send to fd00::1 port 80 in \
         virtual network `six`",
    );
    // An IPv6 address of the same network, which could be the same server, is another reply.
    let twin = json!({"name": "twin", "endpoints": [
        {"name": "a", "virtual_network": "six", "address": "10.0.0.1", "port": 80}]});
    accepts(&with_ipv6(&[("/pools/-", twin), ("/services/-", again("203.0.113.7", "tcp/80", "twin"))]));
}

#[test]
fn every_encapsulation_leaves_room_for_what_each_family_must_carry() {
    // Encapsulation, what it carries, overhead over IPv4 and over IPv6.
    for (encap, inner, overheads) in [
        ("gre", None, [28, 48]),
        ("gre-udp", None, [36, 56]),
        ("vxlan", None, [50, 70]),
        ("geneve", None, [36, 56]),
        ("geneve", Some("ip"), [36, 56]),
        ("geneve", Some("ethernet"), [50, 70]),
    ] {
        for (remote, family, overhead) in
            [("198.51.100.9", "IPv4", overheads[0]), ("2001:db8::9", "IPv6", overheads[1])]
        {
            let tunnel = |mtu: u16| {
                let mut tunnel = json!({"name": "t", "encap": encap, "remote": remote, "mtu": mtu});
                if let Some(inner) = inner {
                    tunnel["inner"] = json!(inner);
                }
                tunnel
            };
            for (network, pointer, least, why) in [
                (0, "/virtual_networks/0/tunnels/0", 576, ""),
                (2, "/virtual_networks/2/tunnels/0", 1280, ", as it leads to IPv6 endpoints"),
            ] {
                accepts(&with_ipv6(&[(pointer, tunnel(least + overhead))]));
                let (mtu, right) = (least + overhead - 1, least + overhead);
                let expected = format!(
                    "virtual_networks[{network}].tunnels[0].mtu: {mtu} is too small: a {encap} tunnel over {family} \
                     takes {overhead} bytes itself and must leave {least} for the inner packet{why}, so write {right} \
                     to 65535"
                );
                refuses(&with_ipv6(&[(pointer, tunnel(mtu))]), &expected);
            }
        }
    }
}

#[test]
fn ports_and_macs_have_defaults_where_there_are_any() {
    for (tunnel, port, ethernet) in [
        (json!({"encap": "gre"}), 0, false),
        (json!({"encap": "gre-udp"}), 4754, false),
        (json!({"encap": "gre-udp", "port": 7}), 7, false),
        (json!({"encap": "vxlan"}), 4789, true),
        (json!({"encap": "geneve"}), 6081, false),
        (json!({"encap": "geneve", "inner": "ip"}), 6081, false),
        (json!({"encap": "geneve", "inner": "ethernet", "inner_mac": "02:00:00:00:00:07"}), 6081, true),
    ] {
        let mut whole = tunnel.clone();
        whole["name"] = json!("t");
        whole["remote"] = json!("198.51.100.7");
        let model = accepts(&[("/virtual_networks/0/tunnels/0", whole)]);
        let resolved = model.vnets[0].tunnels[0].clone();
        assert_eq!((resolved.port, resolved.ethernet), (port, ethernet), "{tunnel}");
        let mac =
            if tunnel.get("inner_mac").is_some() { [2, 0, 0, 0, 0, 7] } else { [2, 0x6c, 0x62, 0x78, 0, 2] };
        assert_eq!(resolved.inner_mac, mac, "{tunnel}");
    }
}

#[test]
fn a_tunnel_has_no_field_of_another_encapsulation() {
    let wrong = |fields: Value, expected: &str| {
        let mut tunnel = json!({"name": "t", "remote": "198.51.100.7"});
        tunnel.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        refuses(
            &[("/virtual_networks/0/tunnels/0", tunnel)],
            &format!("virtual_networks[0].tunnels[0].{expected}"),
        );
    };
    for (encap, carried) in [("gre", "ip"), ("gre-udp", "ip"), ("vxlan", "ethernet")] {
        wrong(
            json!({"encap": encap, "inner": "ip"}),
            &format!("inner: a {encap} tunnel carries `{carried}` and nothing else: leave it out"),
        );
    }
    let mac = "02:00:00:00:00:01";
    for encap in ["gre", "gre-udp"] {
        wrong(
            json!({"encap": encap, "inner_mac": mac}),
            &format!("inner_mac: a {encap} tunnel with IP inside has no inner_mac: leave it out"),
        );
    }
    wrong(
        json!({"encap": "geneve", "inner_mac": mac}),
        "inner_mac: a geneve tunnel with IP inside has no inner_mac: leave it out, or write `inner: ethernet`",
    );
    for (encap, port) in [("gre-udp", 4754), ("vxlan", 4789), ("geneve", 6081)] {
        wrong(
            json!({"encap": encap, "port": 0}),
            &format!("port: 0 is not a port: write 1 to 65535, or leave it out for {port}"),
        );
    }
}

#[test]
fn a_udp_port_has_one_encapsulation() {
    let tunnel =
        |encap: &str, port: u16| json!({"name": "e", "encap": encap, "remote": "198.51.100.7", "port": port});
    accepts(&[("/virtual_networks/0/tunnels/0", tunnel("vxlan", 4789))]);
    accepts(&[("/virtual_networks/0/tunnels/0", tunnel("geneve", 4790))]);
    refuses(
        &[("/virtual_networks/0/tunnels/0", tunnel("geneve", 4789))],
        "virtual_networks[1].tunnels[0].port: UDP port 4789 carries geneve in tunnel `e`, so it cannot carry vxlan: \
         write another, the usual one is 4789",
    );
}

#[test]
fn keys_of_24_and_of_32_bits() {
    for (encap, fits) in [("gre", true), ("gre-udp", true), ("vxlan", false), ("geneve", false)] {
        let changes = |vni: u32| {
            [("/virtual_networks/0/vni", json!(vni)), ("/virtual_networks/0/tunnels/0/encap", json!(encap))]
        };
        accepts(&changes(16_777_215));
        if fits {
            accepts(&changes(u32::MAX));
        } else {
            let expected = format!(
                "virtual_networks[0].vni: 16777216 does not fit tunnel `e`: a {encap} key has 24 bits, 16777215 at \
                 most (gre and gre-udp take 32)"
            );
            refuses(&changes(16_777_216), &expected);
            assert!(check(&changes(u32::MAX)).is_err());
        }
    }
}
