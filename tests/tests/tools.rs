//! What people try first: `ping`, `traceroute` and `tracepath` to a VIP, as they come with Debian.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::net::IpAddr;

use lbx_common::api::{Config, NoEndpoint};
use lbx_tests::{
    agent::start_healthy_in,
    config,
    family::Family,
    netns::Netns,
    topology::{EAST, PUBLIC_MTU, Topology, WEST},
    tunnel::Encap,
};

/// What a tool prints; it must succeed.
fn output(netns: &Netns, program: &str, arguments: &str, vip: IpAddr) -> String {
    let output = netns.command(program).args(arguments.split(' ')).arg(vip.to_string()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments} {vip}: {text}{output:?}");
    text
}

/// The address in each line that begins with the number of a hop; `None` where nobody answered.
fn hops(text: &str) -> Vec<Option<IpAddr>> {
    let of_line = |line: &str| {
        let (number, rest) = line.trim_start().split_once(|c: char| !c.is_ascii_digit())?;
        let _: u8 = number.parse().ok()?;
        Some(rest.split_whitespace().find_map(|word| word.parse().ok()))
    };
    text.lines().filter_map(of_line).collect()
}

/// Runs `test` for both families with lbx up, behind a narrow tunnel.
fn for_each_family(change: impl Fn(&mut Config), test: impl Fn(&Netns, Family, IpAddr)) {
    let narrow = EAST.through(Encap::GeneveEthernet, Family::V6);
    let topology = Topology::with_underlay_mtu(narrow, WEST, PUBLIC_MTU).unwrap();
    let mut config = config::for_topology(&topology);
    change(&mut config);
    let _agent = start_healthy_in(&topology, &config).unwrap();
    for family in Family::ALL {
        test(&topology.client_netns, family, topology.east.plan.vip_of(family));
    }
}

fn reject(config: &mut Config) {
    for service in &mut config.services {
        service.no_endpoint = NoEndpoint::Reject;
    }
}

#[test]
fn ping_is_answered() {
    for_each_family(
        |_| {},
        |client, _, vip| {
            for size in [0, 56, 1400] {
                let text = output(client, "ping", &format!("-n -c 3 -i 0.01 -W 5 -s {size}"), vip);
                assert!(text.contains("3 received"), "{text}");
                assert_eq!(text.matches(&format!("from {vip}")).count(), 3, "{text}");
            }
        },
    );
}

#[test]
fn traceroute_shows_the_vip_and_nothing_behind_it() {
    for_each_family(
        |_| {},
        |client, _, vip| {
            // Of TCP to the service: lbx, the gateway and the origin, all under the name of the VIP.
            let tcp = output(client, "traceroute", "-n -q 1 -w 5 -m 8 -T -p 80", vip);
            assert_eq!(hops(&tcp), [Some(vip); 3], "{tcp}");
            let icmp = output(client, "traceroute", "-n -q 1 -w 5 -m 8 -I", vip);
            assert_eq!(hops(&icmp), [Some(vip)], "{icmp}");
            // Of UDP to ports that nobody has, which this VIP keeps quiet about.
            let udp = output(client, "traceroute", "-n -q 1 -w 0.2 -m 3", vip);
            assert_eq!(hops(&udp), [Some(vip), None, None], "{udp}");
        },
    );
}

#[test]
fn traceroute_and_tracepath_end_at_a_vip_that_rejects() {
    for_each_family(reject, |client, _, vip| {
        let udp = output(client, "traceroute", "-n -q 1 -w 5 -m 8", vip);
        assert_eq!(hops(&udp), [Some(vip)], "{udp}");
        let path = output(client, "tracepath", "-n", vip);
        assert!(path.contains("reached"), "{path}");
        assert!(path.contains(&format!("pmtu {PUBLIC_MTU}")), "{path}");
    });
}
