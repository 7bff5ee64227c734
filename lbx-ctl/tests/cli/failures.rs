//! Each way to fail has one clear message and its documented exit code.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener, process::CommandExt},
    path::Path,
};

use crate::common::{FakeAgent, Outcome, command, problem, run};
use serde_json::json;

fn refusing(_: &str) -> (u16, String) {
    let users = json!([
        {"path": "services[0].pools[0]", "message": "service `web` uses it"},
        {"path": "services[3].pools[0]", "message": "service `db` uses it"},
    ]);
    problem("referenced", 409, "pool `web` is still in use: change or delete what uses it first", &users)
}

fn invalid(_: &str) -> (u16, String) {
    let mistakes = json!([
        {"path": "virtual_networks[0].vni", "line": 3, "column": 10, "message": "must not be 0"},
        {"path": "pools[0].monitor", "line": 9, "column": 14, "message": "there is no monitor `x`"},
    ]);
    problem("invalid", 422, "the new configuration has 2 mistakes; nothing was changed", &mistakes)
}

fn nonsense(_: &str) -> (u16, String) {
    (502, "<html>Bad Gateway</html>".to_owned())
}

fn another_version(_: &str) -> (u16, String) {
    (200, "{\"hello\": 1}".to_owned())
}

fn no_pools(_: &str) -> (u16, String) {
    (200, json!({"pools": []}).to_string())
}

#[test]
fn a_refusal_exits_1_and_lists_every_reason() {
    let agent = FakeAgent::start(refusing);
    agent.run(&["delete", "pool", "web"]).failed(
        1,
        &[
            "error: pool `web` is still in use",
            "services[0].pools[0]: service `web` uses it",
            "services[3].pools[0]: service `db` uses it",
        ],
    );
}

#[test]
fn mistakes_of_a_file_come_with_its_name_line_and_column() {
    let agent = FakeAgent::start(invalid);
    let file = agent.dir().join("lbx.yaml");
    fs::write(&file, "version: 1\n").unwrap();
    let file = file.to_str().unwrap();
    agent.run(&["apply", "-f", file]).failed(
        1,
        &[
            "has 2 mistakes; nothing was changed",
            &format!("{file}:3:10: virtual_networks[0].vni: must not be 0"),
            &format!("{file}:9:14: pools[0].monitor: there is no monitor `x`"),
        ],
    );
    agent.run_with_input(&["apply", "-f", "-"], "version: 1\n").failed(1, &["<stdin>:3:10: "]);
}

#[test]
fn health_of_a_pool_that_is_not_there_exits_1() {
    let agent = FakeAgent::start(no_pools);
    agent.run(&["health", "web"]).failed(1, &["there is no pool `web`", "none is configured"]);
}

#[test]
fn wrong_usage_exits_2_without_asking_the_agent() {
    let agent = FakeAgent::start(refusing);
    for (args, words) in [
        (&["get", "flows"][..], &["flows", "endpoint"][..]),
        (&["get", "tunnel", "a/b/c"], &["`a/b/c` names no tunnel", "VNET/NAME"]),
        (&["describe", "endpoint", "a"], &["`a` names no endpoint", "POOL/NAME, as web/a"]),
        (&["create", "endpoint", "a", "--vnet", "e", "--address", "10.0.0.1"], &["POOL/NAME"]),
        (&["create", "vnet", "east"], &["--vni"]),
        (&["set", "pool", "web"], &["nothing to set"]),
        (&["apply", "-f", "/nonexistent/lbx.yaml"], &["cannot read /nonexistent/lbx.yaml", "No such file"]),
        (&["health", "-o", "xml"], &["xml", "table, json, yaml"]),
    ] {
        agent.run(args).failed(2, words);
    }
    assert_eq!(agent.requests(), []);
}

#[test]
fn an_agent_that_is_not_running_exits_3_and_says_how_to_start_it() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let path = socket.to_str().unwrap();
    let words = ["no lbx agent is listening on", path, "lbx-agent run", "--socket"];
    run(&socket, &["status"]).failed(3, &words);
    // The file that a killed agent leaves behind.
    drop(UnixListener::bind(&socket).unwrap());
    run(&socket, &["delete", "pool", "web"]).failed(3, &words);
    // The flag wins over the environment.
    run(Path::new("/nonexistent"), &["status", "--socket", path]).failed(3, &words);
}

#[test]
fn a_socket_that_is_closed_to_the_user_exits_3_and_names_the_group() {
    let agent = FakeAgent::start(no_pools);
    fs::set_permissions(&agent.socket, fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(agent.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = agent.dir().join("lbx-ctl");
    // Copied, because another user may have no way into the build directory.
    fs::copy(env!("CARGO_BIN_EXE_lbx-ctl"), &program).unwrap();
    let mut command = command(&program, &agent.socket, &["health"]);
    if nix::unistd::geteuid().is_root() {
        // nobody: root itself is never refused.
        command.uid(65_534).gid(65_534);
    } else {
        fs::set_permissions(&agent.socket, fs::Permissions::from_mode(0o000)).unwrap();
    }
    Outcome::of(command.output().unwrap())
        .failed(3, &["no permission to use", agent.socket.to_str().unwrap(), "group `lbx`"]);
}

#[test]
fn what_is_no_agent_or_another_version_exits_3() {
    let strange = FakeAgent::start(nonsense);
    strange
        .run(&["status"])
        .failed(3, &["502", "is something else there?", strange.socket.to_str().unwrap()]);
    let newer = FakeAgent::start(another_version);
    newer.run(&["status"]).failed(3, &["missing field `version`", "must be of the same version"]);
}

#[test]
fn exit_codes_are_documented_in_the_help() {
    let outcome = run(Path::new("/nonexistent"), &["--help"]);
    let text = outcome.printed();
    for line in ["0  done", "1  refused by the agent", "2  wrong usage", "3  the agent cannot be reached"] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn every_command_has_an_example_in_its_help() {
    for command in [
        &["get"][..],
        &["describe"],
        &["delete"],
        &["apply"],
        &["export"],
        &["health"],
        &["stats"],
        &["status"],
        &["completion"],
        &["create"],
        &["create", "vnet"],
        &["create", "tunnel"],
        &["create", "monitor"],
        &["create", "pool"],
        &["create", "endpoint"],
        &["create", "service"],
        &["set"],
        &["set", "vnet"],
        &["set", "tunnel"],
        &["set", "monitor"],
        &["set", "pool"],
        &["set", "endpoint"],
        &["set", "service"],
    ] {
        let mut args = command.to_vec();
        args.push("--help");
        let outcome = run(Path::new("/nonexistent"), &args);
        let text = outcome.printed();
        assert!(text.contains("Example") && text.contains("  lbx-ctl "), "{command:?}:\n{text}");
    }
}
