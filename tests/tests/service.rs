//! The agent as a service of systemd: what it tells the service manager, and what its unit leaves it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::fs::MetadataExt,
    process::Command,
    time::{Duration, Instant},
};

use lbx_tests::{
    agent::{Agent, Source, binary},
    config,
    family::Family,
    notify::ServiceManager,
    process::finish,
    strace,
    topology::{EAST, PUBLIC_DEVICE, Topology},
    traffic::Round,
    unit::Unit,
    wait,
};
use nix::{sys::stat::Mode, unistd::mkfifo};

const PATIENCE: Duration = Duration::from_secs(10);
/// After so long without a sign of life the service manager takes the agent for hung.
const LIMIT: Duration = Duration::from_millis(900);
/// Those four, as bits (include/uapi/linux/capability.h): `NET_ADMIN`, `NET_RAW`, `PERFMON`, `BPF`.
const CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;

/// An agent that is told to be a service, not started yet.
fn service(topology: &Topology) -> (Agent, ServiceManager) {
    let agent = Agent::new(topology, Source::File).unwrap();
    agent.write_config(&config::for_topology(topology)).unwrap();
    let manager = ServiceManager::listen(&agent.directory().join("notify.sock")).unwrap();
    (agent, manager)
}

fn start(agent: &Agent, manager: &ServiceManager, limit: Option<Duration>) {
    let mut command = agent.run_command().unwrap();
    manager.watch(&mut command, limit);
    agent.start_as(command).unwrap();
}

#[test]
fn the_service_manager_hears_of_start_reload_signs_of_life_and_stop() {
    let topology = Topology::new().unwrap();
    let (agent, manager) = service(&topology);
    start(&agent, &manager, Some(LIMIT));
    let ready = manager.wait_for("READY=1", PATIENCE).unwrap();
    assert_eq!(ready.value("STATUS"), Some("revision 1 in force"));
    let mut last = Instant::now();
    for _ in 0..10 {
        manager.wait_for("WATCHDOG=1", LIMIT).unwrap();
        assert!(last.elapsed() < LIMIT);
        last = Instant::now();
    }

    agent.hang_up().unwrap();
    let reloading = manager.wait_for("RELOADING=1", PATIENCE).unwrap();
    assert!(reloading.value("MONOTONIC_USEC").unwrap().parse::<u64>().unwrap() > 0, "{reloading:?}");
    let again = manager.wait_for("READY=1", PATIENCE).unwrap();
    assert_eq!(again.value("STATUS"), Some("revision 1 in force"));
    agent.write_config_text("version: 7").unwrap();
    manager.wait_for("RELOADING=1", PATIENCE).unwrap();
    let kept = manager.wait_for("READY=1", PATIENCE).unwrap();
    assert!(kept.value("STATUS").unwrap().contains("has mistakes"), "{kept:?}");

    assert!(agent.terminate().unwrap().success());
    let told = manager.drain().unwrap();
    assert!(told.iter().any(|message| message.has("STOPPING=1")), "{told:?}");

    // A file with mistakes is no service that is ready.
    let mut command = agent.run_command().unwrap();
    manager.watch(&mut command, Some(LIMIT));
    assert_eq!(finish(&mut command, PATIENCE).unwrap().code, Some(1));
    assert_eq!(manager.drain().unwrap(), []);
}

#[test]
fn without_a_watchdog_there_are_no_signs_of_life() {
    let topology = Topology::new().unwrap();
    let (agent, manager) = service(&topology);
    start(&agent, &manager, None);
    manager.wait_for("READY=1", PATIENCE).unwrap();
    assert_eq!(manager.next(2 * LIMIT).unwrap(), None);
}

/// A socket of datagrams takes but a few that nobody reads.
#[test]
fn a_service_manager_that_hears_nothing_holds_nothing_up() {
    let topology = Topology::new().unwrap();
    let (agent, manager) = service(&topology);
    start(&agent, &manager, Some(Duration::from_millis(3)));
    agent.wait_until_healthy(PATIENCE).unwrap();
    for revision in 2..30 {
        agent.write_config_text(&format!("{}\n# {revision}", config_text(&topology))).unwrap();
        wait::until("the change is in force", PATIENCE, || {
            Ok((agent.status()?.revision == revision).then_some(()))
        })
        .unwrap();
    }
    assert!(agent.terminate().unwrap().success());
    assert!(!manager.drain().unwrap().is_empty());
}

fn config_text(topology: &Topology) -> String {
    config::to_yaml(&config::for_topology(topology)).unwrap()
}

/// A configuration file that does not end makes the task wait that owns the data plane: a pipe with a writer.
#[test]
fn a_task_that_hangs_gives_no_sign_while_packets_are_forwarded() {
    let topology = Topology::new().unwrap();
    let (agent, manager) = service(&topology);
    start(&agent, &manager, Some(LIMIT));
    agent.wait_until_healthy(PATIENCE).unwrap();

    let pipe = agent.directory().join("pipe");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let writer = File::options().read(true).write(true).open(&pipe).unwrap();
    fs::rename(&pipe, agent.config_file()).unwrap();
    wait::until("no sign comes within the limit", PATIENCE, || {
        Ok(manager.next(LIMIT)?.is_none().then_some(()))
    })
    .unwrap();
    topology.client().http_get(EAST.vip, 0).unwrap();
    assert_eq!(manager.drain().unwrap(), []);

    agent.write_config(&config::for_topology(&topology)).unwrap();
    drop(writer);
    manager.wait_for("WATCHDOG=1", PATIENCE).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
}

/// A line of a process's state in /proc.
fn state(agent: &Agent, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().to_owned()
}

fn assert_serves(topology: &Topology, agent: &Agent) {
    for family in Family::ALL {
        let client = topology.client();
        let mut mistakes = Round::http_in(family, &client, EAST, 22_000..22_020).mistakes();
        mistakes.extend(Round::udp_in(family, &client, EAST, 22_000..22_020).mistakes());
        assert_eq!(mistakes, Vec::<String>::new(), "{}", agent.log());
    }
}

#[test]
fn with_what_the_unit_leaves_it_the_agent_does_all_that_it_has_to() {
    let topology = Topology::new().unwrap();
    let (agent, manager) = service(&topology);
    let unit = Unit::read().unwrap();
    let confined = || {
        let mut command = unit.confined(&agent, &topology.lbx, None).unwrap();
        manager.watch(&mut command, Some(LIMIT));
        command
    };
    agent.start_as(confined()).unwrap();
    manager.wait_for("READY=1", PATIENCE).unwrap();
    for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        assert_eq!(u64::from_str_radix(&state(&agent, set), 16).unwrap(), CAPABILITIES, "{set}");
    }
    assert_eq!(state(&agent, "NoNewPrivs"), "1");
    let mounts = fs::read_to_string(format!("/proc/{}/mounts", agent.pid().unwrap())).unwrap();
    // Of several mounts at one place, the last one counts.
    let mut last = BTreeMap::new();
    for line in mounts.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, target, _, options, ..] = words.as_slice() else { continue };
        last.insert((*target).to_owned(), options.split(',').any(|option| option == "rw"));
    }
    let writable: BTreeSet<_> =
        last.iter().filter(|(_, writable)| **writable).map(|(target, _)| target.as_str()).collect();
    let mut expected: BTreeSet<_> =
        unit.words("ReadWritePaths").into_iter().map(|path| path.trim_start_matches('-')).collect();
    expected.insert(agent.directory().to_str().unwrap());
    assert_eq!(writable, expected);

    agent.wait_until_healthy(PATIENCE).unwrap();
    assert_serves(&topology, &agent);
    manager.wait_for("WATCHDOG=1", LIMIT).unwrap();
    // A change, a device that is made anew, an end and a start.
    let mut changed = config::for_topology(&topology);
    config::set_weights(&mut changed, "east", [1.0, 0.5]);
    agent.write_config(&changed).unwrap();
    wait::until("the change is in force", PATIENCE, || Ok((agent.status()?.revision == 2).then_some(())))
        .unwrap();
    topology.unplug(PUBLIC_DEVICE).unwrap();
    topology.plug(PUBLIC_DEVICE).unwrap();
    wait::until("the device is attached", PATIENCE, || {
        Ok(agent.status()?.interfaces.iter().all(|interface| interface.mode.is_some()).then_some(()))
    })
    .unwrap();
    assert_serves(&topology, &agent);
    assert!(agent.terminate().unwrap().success());
    agent.start_as(confined()).unwrap();
    assert!(agent.status().unwrap().adopted);
    assert_serves(&topology, &agent);
    for word in ["ERROR", "denied", "not permitted"] {
        assert!(!agent.log().contains(word), "{}", agent.log());
    }
    assert!(agent.terminate().unwrap().success());
    let mut last = confined();
    last.arg("--detach-on-exit");
    agent.start_as(last).unwrap();
    assert!(agent.terminate().unwrap().success());
    assert!(!agent.bpffs().exists(), "{}", agent.log());
}

#[test]
fn each_capability_of_the_unit_is_needed_and_named_where_it_is_missing() {
    let topology = Topology::new().unwrap();
    let (agent, manager) = service(&topology);
    let unit = Unit::read().unwrap();
    let capabilities = unit.words("CapabilityBoundingSet");
    assert_eq!(capabilities, unit.words("AmbientCapabilities"));
    assert_eq!(capabilities.len(), 4);
    for capability in capabilities {
        let mut command = unit.confined(&agent, &topology.lbx, Some(capability)).unwrap();
        manager.watch(&mut command, None);
        let refused = finish(&mut command, PATIENCE).unwrap();
        assert_eq!(refused.code, Some(1), "{}", refused.stderr);
        assert!(refused.stderr.contains(&format!("this process lacks {capability}: ")), "{}", refused.stderr);
        assert!(!agent.bpffs().exists());
    }
    assert_eq!(manager.drain().unwrap(), []);
}

/// Without `CAP_CHOWN` the socket can be given to a group of which the agent is a member, and to no other.
#[test]
fn the_socket_is_the_groups_where_the_unit_makes_the_agent_a_member() {
    const GROUP: u32 = 4242;
    let topology = Topology::new().unwrap();
    let (agent, _manager) = service(&topology);
    let groups = agent.directory().join("group");
    fs::write(&groups, format!("root:x:0:\nlbx:x:{GROUP}:\n")).unwrap();
    let run = agent.run_command().unwrap();
    for (groups_of_agent, owner, mode) in [("0", 0, 0o600), ("4242", GROUP, 0o660)] {
        let mut command = topology.lbx.command("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
        command.args([r#"mount --bind "$1" /etc/group; shift; exec "$@""#, "sh"]).arg(&groups);
        command.args(["setpriv", "--bounding-set=-chown", "--inh-caps=-chown", "--groups", groups_of_agent]);
        command.arg("--").arg(run.get_program()).args(run.get_args());
        agent.start_as(command).unwrap();
        let socket = fs::metadata(agent.socket()).unwrap();
        assert_eq!((socket.gid(), socket.mode() & 0o777), (owner, mode), "{}", agent.log());
        assert!(agent.terminate().unwrap().success());
    }
    assert_eq!(agent.log().matches("SupplementaryGroups=lbx").count(), 1, "{}", agent.log());
}

#[test]
fn systemd_understands_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let unit = Unit::read().unwrap();
    let program = "/usr/local/bin/lbx-agent";
    assert!(unit.words("ExecStart").starts_with(&[program, "run"]));
    let verify = |text: &str| {
        let copy = folder.path().join("lbx-agent.service");
        fs::write(&copy, text).unwrap();
        finish(Command::new("systemd-analyze").arg("verify").arg(&copy), PATIENCE).unwrap()
    };
    let built = unit.text().replace(program, binary("lbx-agent").unwrap().to_str().unwrap());
    let good = verify(&built);
    assert_eq!((good.code, good.stdout.as_str(), good.stderr.as_str()), (Some(0), "", ""));
    let bad = verify(&built.replace("ReadWritePaths=", "ReadWritePath="));
    assert!(bad.stderr.contains("ReadWritePath"), "{}", bad.stderr);
    // The arguments are those that the program has.
    let arguments: Vec<&str> = unit.words("ExecStart").into_iter().skip(1).collect();
    let mut help = Command::new(binary("lbx-agent").unwrap());
    assert_eq!(finish(help.args(arguments).arg("--help"), PATIENCE).unwrap().code, Some(0));
}

#[test]
fn the_agent_makes_no_system_call_that_the_unit_forbids() {
    let topology = Topology::new().unwrap();
    let (agent, _manager) = service(&topology);
    let unit = Unit::read().unwrap();
    let mut allowed = BTreeSet::new();
    let mut sets = unit.words("SystemCallFilter").into_iter().map(str::to_owned).collect::<Vec<_>>();
    while let Some(name) = sets.pop() {
        if !name.starts_with('@') {
            allowed.insert(name);
            continue;
        }
        let listed =
            finish(Command::new("systemd-analyze").args(["syscall-filter", &name]), PATIENCE).unwrap();
        assert_eq!(listed.code, Some(0), "{}", listed.stderr);
        let members = listed.stdout.lines().skip(1).map(str::trim);
        sets.extend(members.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned));
    }

    let trace = agent.directory().join("trace");
    agent.start_as(strace::traced(&agent, &topology.lbx, &trace, "all").unwrap()).unwrap();
    agent.wait_until_healthy(PATIENCE).unwrap();
    agent.hang_up().unwrap();
    topology.unplug(PUBLIC_DEVICE).unwrap();
    topology.plug(PUBLIC_DEVICE).unwrap();
    agent.write_config(&config::whole()).unwrap();
    wait::until("the change is in force", PATIENCE, || Ok((agent.status()?.revision == 2).then_some(())))
        .unwrap();
    assert!(agent.terminate().unwrap().success());
    let made = strace::names(&fs::read_to_string(&trace).unwrap());
    assert!(["bpf", "membarrier", "recvfrom"].iter().all(|name| made.contains(*name)), "{made:?}");
    let forbidden: Vec<_> = made.difference(&allowed).collect();
    assert_eq!(forbidden, Vec::<&String>::new());
}
