//! Random packets: the loaded programs and the host's run of the same pipeline agree on action, every byte and
//! every counted drop.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail by panicking")]

mod generate;

use std::{
    io::{self, Write as _},
    time::{SystemTime, UNIX_EPOCH},
};

use lbx_common::api::Monitor;
use lbx_tests::{
    fuzz::Target,
    lab::{Action, Lab, On},
    world::{self, Network},
};

use self::generate::Generator;

/// Packets in each run; ten times as many with `LBX_LONG`.
const PACKETS: usize = 100_000;
/// Run by the kernel one after the other.
const BATCH: usize = 2_000;

/// A lab where some endpoints are down, and one service has none left; with services that are the same to all clients,
/// or not, and then each flow is sampled.
fn lab(by_region: bool) -> Lab {
    let mut config = world::config();
    config.monitors.push(Monitor::new("tcp".to_owned()));
    let mut down = Vec::new();
    for pool in config.pools.iter_mut().filter(|pool| pool.name.ends_with("-nat-tcp")) {
        pool.monitor = Some("tcp".to_owned());
        down.push((pool.name.clone(), "a"));
    }
    down.push((format!("{}-ipv6-nat-tcp", Network::all()[0].name()), "b"));
    if by_region {
        world::tell_regions_apart(&mut config);
        config.node.flow_samples.one_in = 1;
    }
    let down: Vec<_> = down.iter().map(|(pool, endpoint)| (pool.as_str(), *endpoint)).collect();
    Lab::with_down(&config, &down).unwrap()
}

/// Seeded anew in each run, or as `LBX_SEED` says.
fn seed() -> u64 {
    match std::env::var("LBX_SEED") {
        Ok(seed) => seed.parse().expect("LBX_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs(),
    }
}

fn compare(lab: &mut Lab, on: On, frames: &[Vec<u8>], actions: &mut [usize; 3]) -> usize {
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
        assert!(same, "on {on:?}\n{frame:02x?}\nkernel {kernel:02x?}\nhost {host:02x?}");
        assert!(kernel.action != Action::Pass || kernel.frame == *frame, "passed and changed: {frame:02x?}");
    }
    let samples = lab.samples();
    assert_eq!(samples, lab.samples_on_host());
    samples.len()
}

#[test]
fn kernel_and_host_agree_on_random_packets() {
    assert_eq!(agree_on_random_packets(&mut lab(false)), 0);
}

#[test]
fn kernel_and_host_agree_on_random_packets_of_clients_in_regions() {
    let sampled = agree_on_random_packets(&mut lab(true));
    assert!(sampled > PACKETS / 100, "{sampled}");
}

/// Returns how many packets were told of.
fn agree_on_random_packets(lab: &mut Lab) -> usize {
    let rounds = if lbx_tests::takes_long() { 10 * PACKETS } else { PACKETS } / BATCH;
    let seed = seed();
    // Shown where the test fails.
    println!("LBX_SEED={seed}");
    let mut generator = Generator::new(seed);
    let (mut actions, mut sampled) = ([0; 3], 0);
    for round in 0..rounds {
        let on = [On::Both, On::Public, On::Underlay, On::Both, On::Probe, On::Arrival][round % 6];
        let frames: Vec<_> = (0..BATCH).map(|_| generator.frame(on)).collect();
        sampled += compare(lab, on, &frames, &mut actions);
    }
    let drops = lab.all_drops().unwrap();
    assert_eq!(drops, lab.all_drops_on_host());
    let traffic = lab.traffic().unwrap();
    assert!(traffic.in_packets > 0 && traffic.out_packets > 0, "{traffic:?}");
    let mut reasons = std::collections::BTreeMap::new();
    for ((_, reason), count) in drops {
        *reasons.entry(reason.as_str()).or_insert(0) += count;
    }
    let [dropped, passed, sent] = actions;
    let counts = format!("\n{dropped} dropped, {passed} passed, {sent} sent; {reasons:?}\n");
    // Past the test harness, which keeps what a successful test prints to itself.
    io::stdout().write_all(counts.as_bytes()).unwrap();
    // The packets are worth something: a fair part takes each way, and they are dropped for many reasons.
    assert!(actions.iter().all(|&count| count > rounds * BATCH / 10), "{actions:?}");
    assert!(reasons.len() >= 12, "{reasons:?}");
    sampled
}

#[test]
fn kernel_and_host_agree_on_every_saved_input() {
    let mut lab = lab(true);
    let mut actions = [0; 3];
    for target in Target::ALL {
        for input in target.corpus().unwrap() {
            for (on, frame) in target.frames(&input) {
                compare(&mut lab, on, &[frame.to_vec()], &mut actions);
            }
        }
    }
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
    assert!(actions.iter().all(|&count| count > 0), "{actions:?}");
}

#[test]
fn kernel_and_host_agree_on_every_truncation() {
    let mut lab = lab(true);
    let mut generator = Generator::new(seed());
    let mut actions = [0; 3];
    for round in 0..120 {
        let on = [On::Both, On::Public, On::Underlay, On::Probe, On::Arrival][round % 5];
        let frame = generator.frame(on);
        let cut: Vec<_> = (14..=frame.len().min(260)).map(|length| frame[..length].to_vec()).collect();
        compare(&mut lab, on, &cut, &mut actions);
    }
    assert_eq!(lab.all_drops().unwrap(), lab.all_drops_on_host());
}
