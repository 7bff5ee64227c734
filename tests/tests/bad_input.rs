//! What is wrong is named with its place and its remedy, has its exit code, and changes nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::{fs, time::Duration};

use lbx_tests::{
    agent::{Agent, Source, binary, start_healthy},
    config,
    process::{Finished, finish},
    topology::{EAST, PUBLIC_DEVICE, Topology},
    wait,
    xdp::{FixedVerdict, Verdict},
};

const PATIENCE: Duration = Duration::from_secs(10);

/// The right configuration with `from` replaced by `to` where it stands first.
fn spoiled(from: &str, to: &str) -> String {
    let right = config::to_yaml(&config::whole()).unwrap();
    assert!(right.contains(from), "`{from}` is not in\n{right}");
    right.replacen(from, to, 1)
}

/// Wrong configurations: what is wrong, the text, and what the message must say: the place and the remedy.
fn wrong_configurations() -> Vec<(&'static str, String, Vec<&'static str>)> {
    vec![
        ("no YAML", spoiled("virtual_networks:", "virtual_networks: ["), vec!["config.yaml:"]),
        (
            "an unknown field",
            spoiled("tunnel_source:", "tunnel_sorce:"),
            vec!["config.yaml:", "tunnel_sorce", "tunnel_source"],
        ),
        (
            "a wrong type",
            spoiled("vni: 42", "vni: many"),
            vec!["config.yaml:", "virtual_networks[0].vni", "number"],
        ),
        (
            "a dangling reference",
            spoiled("monitor: tcp", "monitor: tpc"),
            vec!["config.yaml:", "pools[0].monitor", "`tpc`", "tcp"],
        ),
        (
            "a duplicate",
            spoiled("name: west-dns", "name: west-web"),
            vec!["config.yaml:", "pools[3].name", "pools[2]"],
        ),
        (
            "a VNI too large for its encapsulation",
            spoiled("vni: 43", "vni: 16777216"),
            vec!["config.yaml:", "virtual_networks[1]", "16777215", "vxlan"],
        ),
    ]
}

/// Where an agent that runs stands: revision, configuration, number of writes to maps.
fn standing(agent: &Agent) -> (u64, String, u64) {
    let status = agent.status().unwrap();
    let export = agent.ctl(&["export"]).unwrap();
    assert_eq!(export.code, Some(0), "{}", export.stderr);
    (status.revision, export.stdout, status.map_writes)
}

fn assert_says(said: &Finished, code: i32, words: &[&str]) {
    assert_eq!(said.code, Some(code), "{}{}", said.stdout, said.stderr);
    for word in words {
        assert!(said.stderr.contains(word), "`{word}` is not in:\n{}", said.stderr);
    }
}

#[test]
fn a_wrong_configuration_is_refused_with_place_and_remedy_and_changes_nothing() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::Store).unwrap();
    agent.start().unwrap();
    agent.write_config(&config::whole()).unwrap();
    let file = agent.config_file();
    let file = file.to_str().unwrap();
    assert_eq!(agent.ctl(&["apply", "-f", file]).unwrap().code, Some(0));
    agent.wait_until_healthy(PATIENCE).unwrap();
    let before = standing(&agent);

    for (what, text, words) in wrong_configurations() {
        agent.write_config_text(&text).unwrap();
        let applied = agent.ctl(&["apply", "-f", file]).unwrap();
        // `apply` names the place as FILE:LINE:COLUMN, which editors open.
        let words: Vec<&str> =
            words.into_iter().map(|word| if word == "line " { file } else { word }).collect();
        assert_says(&applied, 1, &words);
        assert_eq!(standing(&agent), before, "after {what}");
    }
    // Two mistakes are reported as two.
    let text = spoiled("vni: 42", "vni: 0").replacen("monitor: tcp", "monitor: tpc", 1);
    agent.write_config_text(&text).unwrap();
    assert_says(&agent.ctl(&["apply", "-f", file]).unwrap(), 1, &["2 mistakes", "vni", "`tpc`"]);
    assert_says(&agent.ctl(&["apply", "-f", "/nonexistent.yaml"]).unwrap(), 2, &["/nonexistent.yaml"]);
    assert_eq!(standing(&agent), before);
}

#[test]
fn an_agent_does_not_start_with_a_wrong_file_and_check_says_the_same() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::File).unwrap();
    for (what, text, words) in wrong_configurations() {
        agent.write_config_text(&text).unwrap();
        assert_says(&agent.run_to_end().unwrap(), 1, &words);
        assert_untouched(&topology, &agent, what);
        let mut check = topology.lbx.command(binary("lbx-agent").unwrap());
        check.arg("check").arg(agent.config_file());
        assert_says(&finish(&mut check, PATIENCE).unwrap(), 1, &words);
    }
    fs::remove_file(agent.config_file()).unwrap();
    assert_says(&agent.run_to_end().unwrap(), 1, &["config.yaml", "No such file"]);
}

/// Nothing of lbx is in the kernel.
fn assert_untouched(topology: &Topology, agent: &Agent, what: &str) {
    let links = topology.lbx.ip("link show").unwrap();
    assert!(!links.contains("lbx0") && !links.contains("xdp"), "{what}: {links}");
    assert!(!topology.lbx.ip("rule").unwrap().contains("20218"), "{what}");
    assert!(!agent.bpffs().exists(), "{what}: pins are left");
}

#[test]
fn a_file_that_becomes_wrong_leaves_what_was_in_force() {
    let (topology, agent) = start_healthy(&config::whole()).unwrap();
    let before = standing(&agent);
    for (what, text, _) in wrong_configurations() {
        let told = agent.log().matches("stays in force").count();
        agent.write_config_text(&text).unwrap();
        wait::until("the agent says so", PATIENCE, || {
            Ok((agent.log().matches("stays in force").count() > told).then_some(()))
        })
        .unwrap();
        assert_eq!(standing(&agent), before, "after {what}");
    }
    topology.client().http_get(EAST.vip, 0).unwrap();
    let refused = agent.ctl(&["delete", "service", "east"]).unwrap();
    assert_says(&refused, 1, &["config.yaml", "change that file"]);
}

#[test]
fn a_busy_interface_is_named_and_left_to_its_program() {
    let topology = Topology::new().unwrap();
    let _other = topology.lbx.run(|| FixedVerdict::attach(PUBLIC_DEVICE, Verdict::Pass)).unwrap();
    let agent = Agent::new(&topology, Source::File).unwrap();
    agent.write_config(&config::whole()).unwrap();
    let before = topology.lbx.ip("-d link show").unwrap();
    assert_says(&agent.run_to_end().unwrap(), 1, &[PUBLIC_DEVICE, "busy", "ip link set"]);
    assert_eq!(topology.lbx.ip("-d link show").unwrap(), before);
    assert!(!agent.bpffs().exists(), "pins are left");
}

#[test]
fn an_interface_that_does_not_exist_or_is_busy_is_refused_by_a_running_agent() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::Store).unwrap();
    agent.start().unwrap();
    agent.write_config(&config::whole()).unwrap();
    let file = agent.config_file();
    assert_eq!(agent.ctl(&["apply", "-f", file.to_str().unwrap()]).unwrap().code, Some(0));
    agent.wait_until_healthy(PATIENCE).unwrap();
    topology.lbx.ip("link add spare0 type veth peer name spare1").unwrap();
    let _other = topology.lbx.run(|| FixedVerdict::attach("spare0", Verdict::Pass)).unwrap();
    let before = standing(&agent);
    for (name, words) in [("spare0", ["spare0", "busy"]), ("nosuch0", ["nosuch0", "does not exist"])] {
        let mut more = config::whole();
        let mut interface = more.node.interfaces[0].clone();
        interface.name = name.to_owned();
        more.node.interfaces.push(interface);
        agent.write_config(&more).unwrap();
        assert_says(&agent.ctl(&["apply", "-f", file.to_str().unwrap()]).unwrap(), 1, &words);
        assert_eq!(standing(&agent), before);
    }
    topology.client().http_get(EAST.vip, 0).unwrap();
}

#[test]
fn a_missing_privilege_is_named() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::File).unwrap();
    agent.write_config(&config::whole()).unwrap();
    let run = agent.run_command().unwrap();
    let mut command = topology.lbx.command("setpriv");
    command
        .args(["--bounding-set=-all", "--inh-caps=-all", "--"])
        .arg(run.get_program())
        .args(run.get_args());
    assert_says(&finish(&mut command, PATIENCE).unwrap(), 1, &["root", "CAP_NET_ADMIN"]);
    assert_untouched(&topology, &agent, "without privilege");
}

#[test]
fn an_agent_that_is_not_running_is_named_with_the_remedy() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::Store).unwrap();
    for command in [&["status"][..], &["get", "pools"], &["delete", "pool", "x"], &["health"]] {
        assert_says(&agent.ctl(command).unwrap(), 3, &["agent.sock", "lbx-agent run"]);
    }
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    let topology = Topology::new().unwrap();
    let agent = Agent::new(&topology, Source::Store).unwrap();
    assert_says(&agent.ctl(&["get", "pols"]).unwrap(), 2, &["pols", "pool"]);
    let mut wrong = topology.lbx.command(binary("lbx-agent").unwrap());
    assert_says(&finish(wrong.arg("run").arg("--confg"), PATIENCE).unwrap(), 2, &["--confg", "--config"]);
}
