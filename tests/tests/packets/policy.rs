//! Packets of services with a policy: who may send, how many flows may begin, which flags make sense. Whatever is
//! said here is true in the kernel and on the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::PacketBuilder;
use lbx_common::{
    api::{Config, Listen, Ports, Protocol, RateLimit, Service},
    reason::{DropReason, Verdict},
};
use lbx_tests::{
    config,
    family::Family,
    lab::{Action, Lab, On},
    topology::{CLIENT, EAST},
};

use crate::frames::{self, CLIENT_PORT, ethernet, frame, request, spoiled};

/// A configuration in both families whose service `name` was changed.
fn with(name: &str, change: impl FnOnce(&mut Service)) -> Config {
    let mut config = config::of_both_families();
    change(config.services.iter_mut().find(|service| service.name == name).unwrap());
    config
}

/// Why a frame of a client is dropped, if it is; kernel and host agree, and the kernel counts it as such.
fn refused(lab: &Lab, frame: &[u8]) -> Option<DropReason> {
    let count = |reason| lab.drops(None, reason).unwrap();
    let before = DropReason::ALL.iter().map(|&reason| count(reason)).sum::<u64>();
    let kernel = lab.run(On::Public, frame).unwrap();
    let host = lab.run_on_host(On::Public, frame);
    assert_eq!(kernel.action, host.outcome.action, "kernel and host, {:?}", host.verdict);
    let after = DropReason::ALL.iter().map(|&reason| count(reason)).sum::<u64>();
    match host.verdict {
        Verdict::Drop { vnet: 0, reason } => {
            assert_eq!(after, before + 1);
            assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
            Some(reason)
        }
        verdict => {
            assert_eq!((kernel.action, after), (Action::Send, before), "{verdict:?}");
            None
        }
    }
}

/// A TCP packet to port 80 of east's VIP.
fn tcp_from(source: IpAddr, port: u16, flags: &str) -> Vec<u8> {
    match source {
        IpAddr::V4(source) => frame(&frames::tcp((source, port), (EAST.vip, 80), flags, b"")),
        IpAddr::V6(source) => {
            let IpAddr::V6(vip) = EAST.vip_of(Family::V6) else { panic!("a VIP of IPv6") };
            let mut header = etherparse::TcpHeader::new(port, 80, 1000, 1024);
            (header.syn, header.ack) = (flags.contains('S'), flags.contains('.'));
            let builder = PacketBuilder::ipv6(source.octets(), vip.octets(), 64).tcp_header(header);
            let mut packet = Vec::new();
            builder.write(&mut packet, b"").unwrap();
            ethernet(0x86dd, &packet)
        }
    }
}

fn check_sources(config: &Config, sources: &[(&str, bool)]) {
    let lab = Lab::new(config).unwrap();
    for &(source, may_send) in sources {
        let expected = (!may_send).then_some(DropReason::Denied);
        for flags in ["S", "."] {
            let frame = tcp_from(source.parse().unwrap(), CLIENT_PORT, flags);
            assert_eq!(refused(&lab, &frame), expected, "{source}, {flags}");
        }
    }
}

fn set_prefixes(service: &mut Service, allow: &[&str], deny: &[&str]) {
    service.allow = allow.iter().map(|prefix| prefix.parse().unwrap()).collect();
    service.deny = deny.iter().map(|prefix| prefix.parse().unwrap()).collect();
}

#[test]
fn with_allow_only_those_may_send_and_deny_wins() {
    let allow = ["192.0.2.0/24", "198.18.0.0/15", "10.1.2.0/24"];
    let deny = ["192.0.2.7/32", "10.0.0.0/8"];
    check_sources(
        &with("east", |service| set_prefixes(service, &allow, &deny)),
        &[
            ("192.0.2.2", true),
            ("192.0.2.7", false),
            ("192.0.3.2", false),
            ("198.19.255.255", true),
            ("198.20.0.0", false),
            ("10.1.2.3", false),
        ],
    );
}

#[test]
fn with_deny_alone_all_others_may_send() {
    check_sources(
        &with("east", |service| set_prefixes(service, &[], &["192.0.2.128/25", "0.0.0.0/1"])),
        &[("192.0.2.2", true), ("192.0.2.128", false), ("192.0.2.255", false), ("9.9.9.9", false)],
    );
}

#[test]
fn prefixes_of_ipv6_count_every_bit() {
    let allow = ["2001:db8::/32", "2001:db9::8000/113"];
    let deny = ["2001:db8:2::7/128", "2001:db8:5::/48"];
    check_sources(
        &with("east6", |service| set_prefixes(service, &allow, &deny)),
        &[
            ("2001:db8:2::2", true),
            ("2001:db8:2::7", false),
            ("2001:db8:2::6", true),
            ("2001:db8:5:1::1", false),
            ("2001:db8:4:ffff::1", true),
            ("2001:db9::7fff", false),
            ("2001:db9::ffff", true),
            ("2001:dba::1", false),
        ],
    );
}

#[test]
fn a_policy_is_that_of_its_service_alone() {
    let lab = Lab::new(&with("east", |service| set_prefixes(service, &[], &["0.0.0.0/0"]))).unwrap();
    let client = IpAddr::from(CLIENT);
    assert_eq!(refused(&lab, &tcp_from(client, CLIENT_PORT, "S")), Some(DropReason::Denied));
    assert_eq!(refused(&lab, &frame(&frames::query(EAST))), None);
    assert_eq!(refused(&lab, &frame(&request(lbx_tests::topology::WEST, "S"))), None);
    assert_eq!(refused(&lab, &tcp_from(lbx_tests::lab::CLIENT_V6.into(), CLIENT_PORT, "S")), None);
}

/// How many of `count` packets are let through. All are run within a fraction of the time in which one flow more
/// may begin.
fn let_through(lab: &Lab, frames: impl IntoIterator<Item = Vec<u8>>) -> Vec<bool> {
    let fate = |frame: Vec<u8>| match refused(lab, &frame) {
        None => true,
        Some(DropReason::RateLimited) => false,
        Some(other) => panic!("dropped as {}", other.as_str()),
    };
    frames.into_iter().map(fate).collect()
}

#[test]
fn each_source_has_a_rate_of_its_own_and_only_what_begins_counts() {
    for (service, sources) in
        [("east", ["192.0.2.2", "192.0.2.3"]), ("east6", ["2001:db8:2::2", "2001:db8:3::2"])]
    {
        let limit = RateLimit { new_flows_per_second: 0, per_source: 2 };
        let lab = Lab::new(&with(service, |service| service.rate_limit = limit)).unwrap();
        let [one, other] = sources.map(|source| source.parse::<IpAddr>().unwrap());
        let syns = |source| (1000..1004).map(move |port| tcp_from(source, port, "S"));
        assert_eq!(let_through(&lab, syns(one)), [true, true, false, false]);
        let established = (1000..1010).map(|port| tcp_from(one, port, "."));
        assert!(let_through(&lab, established).iter().all(|&through| through));
        let answers = (1000..1010).map(|port| tcp_from(one, port, "S."));
        assert!(let_through(&lab, answers).iter().all(|&through| through));
        assert_eq!(let_through(&lab, syns(other)), [true, true, false, false]);
    }
}

#[test]
fn hosts_of_one_ipv6_subnet_are_one_source() {
    let limit = RateLimit { new_flows_per_second: 0, per_source: 2 };
    let lab = Lab::new(&with("east6", |service| service.rate_limit = limit)).unwrap();
    let host = |number| IpAddr::from(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, number, 0, 0, number));
    let syns = (1..5).map(|number| tcp_from(host(number), CLIENT_PORT, "S"));
    assert_eq!(let_through(&lab, syns), [true, true, false, false]);
}

#[test]
fn the_rate_of_a_service_is_that_of_all_sources_and_listeners_together() {
    let config = with("east", |service| {
        service.rate_limit = RateLimit { new_flows_per_second: 3, per_source: 2 };
        service.listen.push(Listen { protocol: Protocol::Udp, ports: Ports::One(81) });
    });
    let lab = Lab::new(&config).unwrap();
    let source = |last: u8| (Ipv4Addr::new(192, 0, 2, last), CLIENT_PORT);
    let syn = |last| frame(&frames::tcp(source(last), (EAST.vip, 80), "S", b""));
    let datagram = |last| frame(&frames::udp(source(last), (EAST.vip, 81), b"x"));
    let flows = [syn(10), datagram(11), syn(12), datagram(13), syn(14)];
    assert_eq!(let_through(&lab, flows), [true, true, true, false, false]);
}

#[test]
fn every_datagram_counts() {
    let limit = RateLimit { new_flows_per_second: 2, per_source: 0 };
    let lab = Lab::new(&with("east-dns", |service| service.rate_limit = limit)).unwrap();
    let datagrams = (0..4).map(|_| frame(&frames::query(EAST)));
    assert_eq!(let_through(&lab, datagrams), [true, true, false, false]);
}

#[test]
fn a_source_that_floods_leaves_the_rate_of_the_service_to_others() {
    let limit = RateLimit { new_flows_per_second: 2, per_source: 1 };
    let lab = Lab::new(&with("east", |service| service.rate_limit = limit)).unwrap();
    let flood = (1000..1100).map(|port| tcp_from(CLIENT.into(), port, "S"));
    // A hundred of them take longer than the others have to wait for.
    assert!(let_through(&lab, flood).iter().filter(|&&through| through).count() <= 2);
    let other = tcp_from(IpAddr::from([192, 0, 2, 3]), CLIENT_PORT, "S");
    assert_eq!(let_through(&lab, [other]), [true]);
}

#[test]
fn flags_that_no_connection_has_are_dropped_at_every_service() {
    let lab = Lab::new(&config::of_both_families()).unwrap();
    let packet = request(EAST, "S");
    for flags in 0..=0xff_u8 {
        let [fin, syn, rst, ack] = [0x01, 0x02, 0x04, 0x10].map(|bit| flags & bit != 0);
        let absurd = !(fin || syn || rst || ack) || syn && (fin || rst) || fin && !ack;
        let expected = absurd.then_some(DropReason::TcpFlags);
        // Its checksum is wrong now, which is for the origin to see.
        let frame = frame(&spoiled(&packet, 20 + 13, &[flags]));
        assert_eq!(refused(&lab, &frame), expected, "flags {flags:#04x}");
    }
    let null = spoiled(&tcp_from(lbx_tests::lab::CLIENT_V6.into(), CLIENT_PORT, "S"), 14 + 40 + 13, &[0]);
    assert_eq!(refused(&lab, &null), Some(DropReason::TcpFlags));
}
