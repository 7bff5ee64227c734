//! Random packets: the loaded programs and the host's run of the same pipeline agree on action, every byte and
//! every counted drop.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use lbx_tests::{
    config,
    lab::{Action, Lab, On},
    topology::{CLIENT, EAST, LBX_UNDERLAY, ORIGINS, VnetPlan, WEST},
    tunnel,
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config as RunnerConfig, TestRunner},
};

/// Packets in each run; ten times as many with `LBX_LONG`.
const PACKETS: usize = 100_000;
/// Run by the kernel one after the other.
const BATCH: usize = 5_000;

fn address() -> impl Strategy<Value = Ipv4Addr> {
    prop_oneof![
        8 => prop::sample::select(vec![CLIENT, EAST.vip, WEST.vip, ORIGINS[0].1, ORIGINS[1].1]),
        2 => prop::sample::select(vec![EAST.probe_source, WEST.probe_source, LBX_UNDERLAY]),
        1 => any::<[u8; 4]>().prop_map(Ipv4Addr::from),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(80), 4 => Just(53), 1 => any::<u16>()]
}

/// Addresses and ports: of a request, of a reply, or any.
fn ends() -> impl Strategy<Value = (Ipv4Addr, Ipv4Addr, u16, u16)> {
    let vip = prop::sample::select(vec![EAST.vip, WEST.vip]);
    let origin = prop::sample::select(vec![ORIGINS[0].1, ORIGINS[1].1]);
    prop_oneof![
        (Just(CLIENT), vip, any::<u16>(), port()),
        (origin, Just(CLIENT), port(), any::<u16>()),
        (address(), address(), port(), port()),
    ]
}

/// An IPv4 packet of TCP or UDP.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    (ends(), any::<bool>(), 0_u8..=255, any::<u8>(), prop::collection::vec(any::<u8>(), 0..64)).prop_map(
        |((source, destination, from, to), tcp, flags, ttl, data)| {
            let builder = PacketBuilder::ipv4(source.octets(), destination.octets(), ttl);
            let mut packet = Vec::new();
            if tcp {
                let mut header = etherparse::TcpHeader::new(from, to, 1, 1024);
                (header.syn, header.ack) = (flags & 1 != 0, flags & 6 != 0);
                builder.tcp_header(header).write(&mut packet, &data).unwrap();
            } else {
                builder.udp(from, to).write(&mut packet, &data).unwrap();
            }
            packet
        },
    )
}

/// The same in a tunnel, of a gateway or of a stranger, with a key that may be right.
fn tunnelled() -> impl Strategy<Value = Vec<u8>> {
    let gateways = vec![EAST.gateway_address, WEST.gateway_address, Ipv4Addr::new(198, 51, 100, 66)];
    let key = prop_oneof![6 => Just(None), 1 => (0_u32..1 << 24).prop_map(Some)];
    let plan = prop::sample::select(vec![EAST, WEST]);
    (plan, prop::sample::select(gateways), any::<bool>(), key, packet()).prop_map(
        |(plan, from, own, key, inner): (VnetPlan, _, _, Option<u32>, _)| {
            let from = if own { plan.gateway_address } else { from };
            tunnel::wrap(plan.encap, from, LBX_UNDERLAY, key.unwrap_or(plan.vni), &inner).unwrap()
        },
    )
}

/// What damages a frame.
#[derive(Debug, Clone)]
enum Damage {
    Overwrite(usize, u8),
    Cut(usize),
    Pad(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        6 => (12_usize..90, any::<u8>()).prop_map(|(at, byte)| Damage::Overwrite(at, byte)),
        1 => (14_usize..120).prop_map(Damage::Cut),
        1 => (1_usize..40).prop_map(Damage::Pad),
    ]
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    (prop_oneof![packet(), tunnelled()], prop::collection::vec(damage(), 0..3)).prop_map(
        |(packet, damages)| {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x77, 0x08, 0x00];
            frame.extend(packet);
            for damage in damages {
                match damage {
                    Damage::Overwrite(at, byte) => {
                        if let Some(place) = frame.get_mut(at) {
                            *place = byte;
                        }
                    }
                    // Shorter than an Ethernet header is no frame that a NIC would hand on.
                    Damage::Cut(length) => frame.truncate(length),
                    Damage::Pad(length) => frame.extend(vec![0xee; length]),
                }
            }
            frame
        },
    )
}

fn compare(lab: &Lab, on: On, frames: &[Vec<u8>], actions: &mut [usize; 3]) {
    for (frame, kernel) in frames.iter().zip(lab.run_all(on, frames).unwrap()) {
        let host = lab.run_on_host(on, frame);
        actions[match kernel.action {
            Action::Drop => 0,
            Action::Pass => 1,
            Action::Send => 2,
        }] += 1;
        // What a dropped frame looks like is nobody's business.
        let same = kernel.action == host.outcome.action
            && (kernel.action == Action::Drop || kernel.frame == host.outcome.frame);
        assert!(same, "on {on:?}\n{frame:02x?}\nkernel {kernel:?}\nhost {host:?}");
        assert!(kernel.action != Action::Pass || kernel.frame == *frame, "passed and changed: {frame:02x?}");
    }
}

#[test]
fn kernel_and_host_agree_on_random_packets() {
    let lab = Lab::new(&config::whole()).unwrap();
    let rounds = if std::env::var_os("LBX_LONG").is_some() { 10 * PACKETS } else { PACKETS } / BATCH;
    // Seeded anew in each run; a failure prints the packet.
    let mut runner = TestRunner::new(RunnerConfig::default());
    let strategy = prop::collection::vec(frame(), BATCH);
    let mut actions = [0; 3];
    for round in 0..rounds {
        let on = [On::Both, On::Public, On::Underlay, On::Both, On::Probe][round % 5];
        let frames = strategy.new_tree(&mut runner).unwrap().current();
        compare(&lab, on, &frames, &mut actions);
    }
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
    println!("dropped, passed, sent: {actions:?}");
    // The packets are worth something: a fair part takes each way.
    assert!(actions.iter().all(|&count| count > rounds * BATCH / 20), "{actions:?}");
}

#[test]
fn kernel_and_host_agree_on_every_truncation() {
    let lab = Lab::new(&config::whole()).unwrap();
    let inner = |source: Ipv4Addr, destination: Ipv4Addr| {
        let mut packet = Vec::new();
        let builder = PacketBuilder::ipv4(source.octets(), destination.octets(), 64);
        builder.tcp(80, 80, 1, 1024).ack(1).write(&mut packet, b"data").unwrap();
        packet
    };
    let reply = inner(ORIGINS[0].1, CLIENT);
    let wrap = |plan: VnetPlan| {
        tunnel::wrap(plan.encap, plan.gateway_address, LBX_UNDERLAY, plan.vni, &reply).unwrap()
    };
    let whole = [inner(CLIENT, EAST.vip), wrap(EAST), wrap(WEST), inner(EAST.probe_source, ORIGINS[0].1)];
    let mut actions = [0; 3];
    for packet in whole {
        let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x77, 0x08, 0x00][..], &packet].concat();
        let cut: Vec<_> = (14..=frame.len()).map(|length| frame[..length].to_vec()).collect();
        for on in [On::Public, On::Underlay, On::Both, On::Probe] {
            compare(&lab, on, &cut, &mut actions);
        }
    }
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
}
