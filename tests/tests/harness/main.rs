//! The harness by itself, without lbx: what the end-to-end tests take for granted. Needs root.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod gateways;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    panic::{self, AssertUnwindSafe},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use lbx_tests::{
    capture::Capture,
    client::Client,
    family::Family,
    netns::{self, Netns},
    offload,
    path_mtu::{self, Discovery},
    topology::{
        CLIENT, EAST, LBX_PUBLIC, LBX_UNDERLAY, ORIGINS, PUBLIC_DEVICE, Topology, UNDERLAY_DEVICE, WEST,
        origins,
    },
    tunnel, wait,
    xdp::{FixedVerdict, Verdict},
};

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn each_origin_answers_on_its_own_lan_and_says_who_it_is() {
    let topology = Topology::new().unwrap();
    for vnet in topology.vnets() {
        let client = Client::new(&vnet.gateway);
        for (name, address) in Family::ALL.into_iter().flat_map(origins) {
            let answer = client.http_get(address, 0).unwrap();
            assert_eq!((answer.vnet.as_str(), answer.origin.as_str()), (vnet.plan.name, name));
            assert_eq!((answer.seen_client, answer.address), (answer.own_address, address));
            let answer = client.udp_exchange(address, 40_001, b"some text").unwrap();
            assert_eq!((answer.vnet.as_str(), answer.origin.as_str()), (vnet.plan.name, name));
            assert_eq!((answer.seen_client.port(), answer.payload.as_slice()), (40_001, &b"some text"[..]));
        }
    }
}

#[test]
fn a_download_is_checked_to_its_last_byte() {
    let topology = Topology::new().unwrap();
    let client = Client::new(&topology.east.gateway);
    let mut download = client.download(ORIGINS[0].1, 0, 10_000_001).unwrap();
    download.read_to(5_000_000).unwrap();
    assert!((5_000_000..10_000_001).contains(&download.position()));
    download.finish().unwrap();
}

#[test]
fn what_is_uploaded_arrives_to_the_last_byte() {
    let topology = Topology::new().unwrap();
    for family in Family::ALL {
        let client = Client::new(&topology.west.gateway);
        client.upload(origins(family)[1].1, 0, 1_000_001).unwrap();
    }
}

#[test]
fn a_client_that_never_fragments_learns_the_mtu_and_the_others_get_through() {
    let topology = Topology::new().unwrap();
    topology.east.gateway.ip("link set dev lan0 mtu 1400").unwrap();
    let gateway = &topology.east.gateway;
    for (family, largest) in [(Family::V4, 1372), (Family::V6, 1352)] {
        let origin = origins(family)[0].1;
        let strict = Client::new(gateway).with_discovery(Discovery::Strict);
        strict.udp_exchange(origin, 0, &vec![7; largest + 1]).unwrap_err();
        let socket = strict.udp_socket(SocketAddr::new(origin, 53), 0).unwrap();
        assert_eq!(path_mtu::known(&socket, family).unwrap(), 1400);
        for discovery in [Discovery::Off, Discovery::On] {
            let client = Client::new(gateway).with_discovery(discovery);
            assert_eq!(client.udp_exchange(origin, 0, &[7; 9000]).unwrap().payload, [7; 9000]);
        }
    }
}

#[test]
fn a_stopped_server_refuses_and_ends_its_connections_while_its_twin_goes_on() {
    let topology = Topology::new().unwrap();
    let address = ORIGINS[0].1;
    let mut connection = Client::new(&topology.east.gateway).connect(address, 80, 0).unwrap();
    connection.get().unwrap();
    topology.east.origin("a").unwrap().stop_servers();
    connection.get().unwrap_err();
    let refused = format!("{:#}", Client::new(&topology.east.gateway).http_get(address, 0).unwrap_err());
    assert!(refused.contains("refused"), "{refused}");
    Client::new(&topology.east.gateway).http_get(ORIGINS[1].1, 0).unwrap();
    Client::new(&topology.west.gateway).http_get(address, 0).unwrap();
    topology.east.origin("a").unwrap().start_servers().unwrap();
    Client::new(&topology.east.gateway).http_get(address, 0).unwrap();
}

#[test]
fn the_client_reaches_nothing_private_and_the_vips_reach_nobody_without_lbx() {
    let topology = Topology::new().unwrap();
    let client = topology.client().with_timeout(Duration::from_millis(300));
    client.http_get(ORIGINS[0].1, 0).unwrap_err();
    client.http_get(EAST.vip, 0).unwrap_err();
    client.udp_exchange(WEST.vip, 0, b"").unwrap_err();
}

#[test]
fn devices_of_cables_have_no_offloads_and_the_ends_facing_lbx_native_xdp() {
    let topology = Topology::new().unwrap();
    let mut boxes: Vec<(&Netns, &str)> =
        vec![(&topology.client_netns, PUBLIC_DEVICE), (&topology.lbx, PUBLIC_DEVICE)];
    boxes.push((&topology.lbx, UNDERLAY_DEVICE));
    for vnet in topology.vnets() {
        boxes.extend([
            (&vnet.gateway, UNDERLAY_DEVICE),
            (&vnet.gateway, "origin-a"),
            (&vnet.gateway, "origin-b"),
        ]);
        boxes.extend(vnet.origins.iter().map(|origin| (&origin.netns, "lan0")));
    }
    for (netns, device) in boxes {
        let on = netns.run(|| offload::enabled(device)).unwrap();
        assert!(on.is_empty(), "{device} in {}: {on:?}", netns.name());
    }
    for (netns, device) in [
        (&topology.client_netns, PUBLIC_DEVICE),
        (&topology.east.gateway, UNDERLAY_DEVICE),
        (&topology.west.gateway, UNDERLAY_DEVICE),
    ] {
        let shown = netns.ip(&format!("link show dev {device}")).unwrap();
        assert!(shown.contains("xdp ") && !shown.contains("xdpgeneric"), "{shown}");
    }
}

#[test]
fn two_networks_side_by_side_do_not_disturb_each_other() {
    let one = Topology::new().unwrap();
    let other = Topology::new().unwrap();
    assert_ne!(one.run_name(), other.run_name());
    one.east.origin("a").unwrap().stop_servers();
    Client::new(&other.east.gateway).http_get(ORIGINS[0].1, 0).unwrap();
    drop(one);
    for vnet in other.vnets() {
        Client::new(&vnet.gateway).http_get(ORIGINS[0].1, 0).unwrap();
    }
}

#[test]
fn nothing_is_left_after_a_panic() {
    let mut run = String::new();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        let topology = Topology::new().unwrap();
        run = topology.run_name().to_owned();
        assert_eq!(namespaces(&run).len(), 9, "client, lbx, switch, 2 gateways, 4 origins");
        panic!("as a failing test does");
    }));
    outcome.unwrap_err();
    assert!(!run.is_empty(), "the network must have come up");
    assert_eq!(namespaces(&run), Vec::<String>::new());
}

#[test]
fn nothing_is_left_after_ctrl_c_or_sigterm() {
    for signal in ["-INT", "-TERM"] {
        let mut playground = Command::new(env!("CARGO_BIN_EXE_lbx-playground"))
            .arg("--network-only")
            // A pipe that stays open: the end of the input is not what ends it.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(playground.stdout.take().unwrap()).lines().map(Result::unwrap);
        let names = lines.find_map(|line| line.strip_prefix("Namespaces: ").map(str::to_owned)).unwrap();
        assert!(names.split(' ').all(|name| Path::new("/run/netns").join(name).exists()), "{names}");
        let sent = Command::new("kill").args([signal, &playground.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let ended = wait::until("the playground ends", PATIENCE, || Ok(playground.try_wait()?)).unwrap();
        // 130 where the signal came before the playground waited for it.
        assert!(matches!(ended.code(), Some(0 | 130)), "{ended}");
        assert!(!names.split(' ').any(|name| Path::new("/run/netns").join(name).exists()), "{names}");
    }
}

#[test]
fn what_a_killed_run_left_is_removed_by_the_next_one_and_nothing_else() {
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let stale = format!("lbx-{:x}-0-client", gone.id());
    let own = format!("lbx-{:x}-ffff-client", std::process::id());
    let foreign = format!("lbx-foreign-{:x}", gone.id());
    for name in [&stale, &own, &foreign] {
        assert!(Command::new("ip").args(["netns", "add", name]).status().unwrap().success());
    }
    netns::remove_stale();
    let left: Vec<bool> =
        [&stale, &own, &foreign].map(|name| Path::new("/run/netns").join(name).exists()).to_vec();
    for name in [&own, &foreign] {
        assert!(Command::new("ip").args(["netns", "del", name]).status().unwrap().success());
    }
    assert_eq!(left, [false, true, true]);
}

/// The trickiest property of the network: without a native program at the other end, veth drops silently
/// what an XDP program sends.
#[test]
fn frames_that_native_xdp_sends_from_lbx_arrive() {
    let topology = Topology::new().unwrap();
    for (device, sender, to) in [
        (PUBLIC_DEVICE, &topology.client_netns, LBX_PUBLIC),
        (UNDERLAY_DEVICE, &topology.east.gateway, LBX_UNDERLAY),
        (UNDERLAY_DEVICE, &topology.west.gateway, LBX_UNDERLAY),
    ] {
        let _mirror = topology.lbx.run(|| FixedVerdict::attach(device, Verdict::Return)).unwrap();
        let capture = Capture::start(sender, device).unwrap();
        // The sender asks for lbx's MAC by broadcast; the mirror sends the question back.
        sender.ip(&format!("neigh flush dev {device}")).unwrap();
        Client::new(sender).with_timeout(Duration::from_millis(1)).udp_exchange(to, 0, b"").unwrap_err();
        let what = format!("the mirrored ARP request on {device} of {}", sender.name());
        capture
            .wait_for(&what, PATIENCE, |frame| {
                let is_arp = frame.bytes.get(12..14) == Some(&[0x08, 0x06]);
                (is_arp && !frame.outgoing).then_some(())
            })
            .unwrap();
    }
}

#[test]
fn a_process_inside_sees_the_devices_and_the_pins_of_the_host() {
    let topology = Topology::new().unwrap();
    let output = topology.lbx.command("ip").args(["-o", "link"]).stdin(Stdio::null()).output().unwrap();
    let devices = String::from_utf8(output.stdout).unwrap();
    assert!(devices.contains("public0") && devices.contains("underlay0"), "{devices}");
    // The same mounts: `ip netns exec` would put a fresh /sys over the one with the pins.
    for (kind, same) in [("mnt", true), ("net", false)] {
        let path = format!("/proc/self/ns/{kind}");
        let inside = topology.lbx.command("readlink").arg(&path).output().unwrap();
        let inside = String::from_utf8(inside.stdout).unwrap();
        let outside = std::fs::read_link(&path).unwrap();
        assert_eq!(Path::new(inside.trim()) == outside, same, "{kind}");
    }
}

fn namespaces(run: &str) -> Vec<String> {
    let prefix = format!("lbx-{run}-");
    let entries = std::fs::read_dir(Path::new("/run/netns")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(&prefix)).collect()
}

/// A packet that lbx must never send.
#[test]
fn a_private_address_at_the_client_fails_whatever_test_it_is_seen_in() {
    let topology = Topology::new().unwrap();
    let mut packet = Vec::new();
    let builder = etherparse::PacketBuilder::ipv4(ORIGINS[0].1.octets(), CLIENT.octets(), 64);
    builder.udp(1, 2).write(&mut packet, b"who am I").unwrap();
    let public = Capture::start(&topology.client_netns, PUBLIC_DEVICE).unwrap();
    tunnel::send(&topology.lbx, &packet).unwrap();
    public
        .wait_for("the packet", Duration::from_secs(5), |frame| frame.bytes.ends_with(b"I").then_some(()))
        .unwrap();
    let ended = panic::catch_unwind(AssertUnwindSafe(|| drop(topology))).unwrap_err();
    let message = ended.downcast_ref::<String>().unwrap();
    assert!(message.contains("10.0.0.10"), "{message}");
}
